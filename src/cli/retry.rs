//! `winsign retry`: retries failed runs.

use std::collections::HashSet;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use winsign_core::text::plural;
use winsign_core::{Diagnostic, RunId, Store, exit};
use winsign_exec::batch::submission::Submission;
use winsign_exec::batch::submit::absolute;
use winsign_sweep::plan::survey::survey;
use winsign_sweep::plan::{Plan, RunState};

use super::run::find_worker;
use super::show::find;
use super::submit::{self, Submitter};
use super::{Common, open, output};

pub(crate) const HELP: &str = "\
Examples:
  winsign retry study.yaml --failed             all failed runs, and the runs they block
  winsign retry study.yaml 3f09 c2aa            only these runs
  winsign retry study.yaml --failed --dry-run   only list them

If the study was submitted, the runs are submitted again with the same settings and the
current programs. Otherwise they become pending, for `winsign run`. Logs of attempts are kept.";

#[derive(Args)]
pub(crate) struct Arguments {
    /// The sweep file
    sweep: PathBuf,
    /// The identities of the runs, or their first digits
    #[arg(required_unless_present = "failed", conflicts_with = "failed")]
    runs: Vec<String>,
    /// Retry all failed runs of the sweep
    #[arg(long)]
    failed: bool,
    /// Show the runs without retrying them
    #[arg(long)]
    dry_run: bool,
    /// The worker program [default: winsign-worker next to this program, or on the PATH]
    #[arg(long, value_name = "PATH", env = "WINSIGN_WORKER")]
    worker: Option<PathBuf>,
}

pub(crate) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let (plan, _) = open(common, &arguments.sweep)?;
    let store = Store::open(&absolute(&common.store)?)?;
    let statuses = survey(&plan, &store)?;
    let named: Vec<RunId> = arguments.runs.iter().map(|run| find(&store, run)).collect::<Result<_, _>>()?;
    let chosen = |id: &RunId| arguments.failed || named.contains(id);
    let failed: Vec<_> = (plan.runs.iter().zip(&statuses))
        .filter(|(planned, status)| status.state == RunState::Failed && chosen(&planned.run.id))
        .collect();
    if let Some(other) = named.iter().find(|id| !failed.iter().any(|(planned, _)| planned.run.id == **id)) {
        return Err(Diagnostic::new(
            format!("cannot retry run {other}: it has not failed, or it is not in this sweep"),
            "run `winsign status` to see the failed runs",
        ));
    }
    let ids: HashSet<RunId> = failed.iter().map(|(planned, _)| planned.run.id.clone()).collect();
    if !common.json {
        let mut text = format!("{}: {} failed", plan.name, plural(failed.len(), "run"));
        text += match (failed.is_empty(), arguments.dry_run) {
            (true, _) => ", nothing to do\n",
            (false, true) => ", would be retried\n",
            (false, false) => ", retrying\n",
        };
        for (planned, status) in &failed {
            text +=
                &format!("  {}  {}: {}\n", planned.run.id, planned.label, status.note.as_deref().unwrap_or_default());
        }
        output::text(&text)?;
    }
    let mut submission = serde_json::Value::Null;
    let next = common.arguments_for(&arguments.sweep);
    if !arguments.dry_run && !failed.is_empty() {
        match Submission::latest(store.root(), &ids) {
            Some(latest) => {
                let worker = find_worker(arguments.worker.as_deref())?;
                let only = add_dependents(&plan, &ids);
                let (profile, execution) = (&latest.file.profile, &latest.file.execution);
                let submitter = Submitter { plan: &plan, profile, execution, worker: &worker, only: Some(&only) };
                let submitted = submitter.submit(&store)?;
                submission = submit::json(&plan, &submitted);
                if !common.json {
                    output::text(&submit::text(&plan, &submitted, &next))?;
                }
            }
            None => {
                for (planned, _) in &failed {
                    store.run(&planned.run.id).forgive()?;
                }
                if !common.json {
                    output::text(&format!("next: winsign run {next}\n"))?;
                }
            }
        }
    }
    if common.json {
        let (name, dry_run) = (&plan.name, arguments.dry_run);
        output::json(&json!({ "name": name, "dry_run": dry_run, "retried": ids, "submission": submission }))?;
    }
    Ok(exit::SUCCESS)
}

/// Returns the failed runs and all runs that depend on them.
fn add_dependents(plan: &Plan, failed: &HashSet<RunId>) -> HashSet<RunId> {
    let mut all = failed.clone();
    // Runs come after their inputs.
    for planned in &plan.runs {
        if planned.run.inputs.iter().any(|input| all.contains(input)) {
            all.insert(planned.run.id.clone());
        }
    }
    all
}
