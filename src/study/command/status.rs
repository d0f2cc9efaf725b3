//! `winsign status`: how far a sweep is, what runs now, what failed.

use std::fmt::Write;
use std::path::Path;

use serde_json::json;

use super::show::log_of_last_attempt;
use super::stages::{stages, table, totals};
use super::{Common, Failure, open, output};
use crate::study::plan::RunState;
use crate::study::plan::survey::survey;

pub const HELP: &str = "\
Examples:
  winsign status sweeps/quickstart.yaml
  watch -n 5 winsign status sweeps/quickstart.yaml
  winsign status sweeps/quickstart.yaml --json | jq .runs.done";

/// Failures that are shown in full.
const SHOWN_FAILURES: usize = 5;
/// Lines of a failed run's log.
const LOG_LINES: usize = 5;

pub fn command(common: &Common, sweep_path: &Path) -> Result<u8, Failure> {
    let (plan, store) = open(common, sweep_path)?;
    let standings = survey(&plan, &store)?;
    let of = |state: RunState| plan.runs.iter().zip(&standings).filter(move |(_, standing)| standing.state == state);
    if common.json {
        let row = |state| {
            of(state)
                .map(|(planned, standing)| {
                    json!({
                        "id": planned.run.id,
                        "label": planned.label.to_string(),
                        "note": standing.note,
                        "progress": standing.progress,
                    })
                })
                .collect::<Vec<_>>()
        };
        let count = |state| of(state).count();
        return output::json(&json!({
            "name": plan.name,
            "runs": {
                "total": plan.runs.len(),
                "done": count(RunState::Done),
                "running": count(RunState::Running),
                "queued": count(RunState::Queued),
                "failed": count(RunState::Failed),
                "blocked": count(RunState::Blocked),
                "pending": count(RunState::Pending),
            },
            "running": row(RunState::Running),
            "failed": row(RunState::Failed),
        }));
    }
    let mut text = format!("{} in {}: {}\n", plan.name, common.store.display(), totals(&plan, &standings));
    text += &table(&stages(&plan, &standings));
    for (planned, standing) in of(RunState::Running) {
        let _ = write!(text, "running: {} ({})", planned.label, standing.note.as_deref().unwrap_or("somewhere"));
        if let Some(progress) = &standing.progress {
            let _ = write!(text, ", {} of {} done", progress.done, progress.total);
            if let Some(error) = progress.test_error {
                let _ = write!(text, ", test error {error:.1} %");
            }
        }
        text += "\n";
    }
    for (planned, standing) in of(RunState::Failed).take(SHOWN_FAILURES) {
        let note = standing.note.as_deref().unwrap_or_default();
        let _ = writeln!(text, "failed: {} ({}): {note}", planned.label, planned.run.id);
        for line in log_of_last_attempt(&store.run(&planned.run.id), LOG_LINES)? {
            let _ = writeln!(text, "    {line}");
        }
    }
    let failures = of(RunState::Failed).count();
    if failures > SHOWN_FAILURES {
        let _ = writeln!(text, "and {} more failed runs: winsign plan --all lists them", failures - SHOWN_FAILURES);
    }
    output::text(&text)
}
