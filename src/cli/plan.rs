//! `winsign plan`: shows the runs of a sweep, their states and their dependencies.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;
use winsign_core::settings::{Kind, Settings};
use winsign_core::{Diagnostic, RunId};
use winsign_sweep::plan::survey::RunStatus;
use winsign_sweep::plan::{Plan, RunState, graph};

use super::stages::{stages, table, totals};
use super::{Common, look, open, output};

pub(crate) const HELP: &str = "\
Examples:
  winsign plan sweeps/quickstart.yaml
  winsign plan sweeps/quickstart.yaml --all            list every run
  winsign plan sweeps/quickstart.yaml --json | jq '.runs[] | select(.state == \"failed\")'
  winsign plan sweeps/quickstart.yaml --graph dot | dot -Tsvg > plan.svg";

/// A run in `plan --json`.
#[derive(Serialize)]
struct RunRow<'a> {
    id: &'a RunId,
    kind: Kind,
    needs: &'a [RunId],
    state: RunState,
    label: String,
    note: Option<&'a str>,
    settings: &'a Settings,
}

pub(crate) fn command(
    common: &Common,
    sweep_path: &Path,
    all: bool,
    graph: Option<graph::Language>,
) -> Result<u8, Diagnostic> {
    let (plan, store) = open(common, sweep_path)?;
    let (statuses, _) = look(&plan, &store)?;
    match graph {
        Some(language) => output::text(&graph::render(&plan, &statuses, language)),
        None if common.json => print_json(&plan, &statuses),
        None => output::text(&describe(&plan, &statuses, sweep_path, common, all)),
    }
}

fn print_json(plan: &Plan, statuses: &[RunStatus]) -> Result<u8, Diagnostic> {
    let runs: Vec<RunRow> = (plan.runs.iter().zip(statuses))
        .map(|(planned, status)| RunRow {
            id: &planned.run.id,
            kind: planned.run.kind(),
            needs: &planned.run.inputs,
            state: status.state,
            label: planned.label.to_string(),
            note: status.note.as_deref(),
            settings: &planned.run.settings,
        })
        .collect();
    output::json(&serde_json::json!({ "name": plan.name, "runs": runs }))
}

fn describe(plan: &Plan, statuses: &[RunStatus], sweep_path: &Path, common: &Common, all: bool) -> String {
    let mut text = format!("{} in {}: {}\n", plan.name, common.store.display(), totals(plan, statuses));
    text += &table(&stages(plan, statuses));
    let in_the_way = statuses.iter().zip(&plan.runs).filter(|(status, _)| status.damaged.is_some());
    for (status, planned) in in_the_way {
        let _ =
            writeln!(text, "{} will be computed again: {}", planned.label, status.note.as_deref().unwrap_or_default());
    }
    if all {
        text += "\n";
        for (planned, status) in plan.runs.iter().zip(statuses) {
            let _ = write!(text, "{}  {:8} {:8} {}", planned.run.id, planned.run.kind(), status.state, planned.label);
            match &status.note {
                Some(note) => {
                    let _ = writeln!(text, " ({note})");
                }
                None => text += "\n",
            }
        }
    }
    let next = match statuses.iter().all(|status| status.state == RunState::Done) {
        true => "report",
        false => "run",
    };
    let _ = writeln!(text, "next: winsign {next} {}", common.arguments_for(sweep_path));
    text
}
