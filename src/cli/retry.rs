//! `winsign retry`: gives failed runs a new chance.

use std::collections::HashSet;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use winsign_core::text::plural;
use winsign_core::{RunId, Store, exit};
use winsign_exec::slurm::submission::Submission;
use winsign_exec::slurm::submit::absolute;
use winsign_sweep::plan::survey::survey;
use winsign_sweep::plan::{Plan, RunState};

use super::run::find_worker;
use super::show::find;
use super::submit::{self, Asked};
use super::{Common, Failure, open, output};

pub(crate) const HELP: &str = "\
Examples:
  winsign retry study.yaml --failed             all that failed, and what was blocked by it
  winsign retry study.yaml 3f09 c2aa            these runs
  winsign retry study.yaml --failed --dry-run   which ones these are

Where the study was submitted to Slurm they are submitted again in the same way, with the programs
of today. Else they are pending again, for `winsign run`. What an attempt had to say is kept.";

#[derive(Args)]
pub(crate) struct Arguments {
    /// The sweep file
    sweep: PathBuf,
    /// The runs, by the beginnings of their identities
    #[arg(required_unless_present = "failed", conflicts_with = "failed")]
    runs: Vec<String>,
    /// All failed runs of the sweep
    #[arg(long)]
    failed: bool,
    /// Show which runs these are, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// The program that executes a run [default: winsign-worker beside this program, else on the PATH]
    #[arg(long, value_name = "PATH", env = "WINSIGN_WORKER")]
    worker: Option<PathBuf>,
}

pub(crate) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    let (plan, _) = open(common, &arguments.sweep)?;
    let store = Store::open(&absolute(&common.store)?)?;
    let statuses = survey(&plan, &store)?;
    let named: Vec<RunId> = arguments.runs.iter().map(|run| find(&store, run)).collect::<Result<_, _>>()?;
    let chosen = |id: &RunId| arguments.failed || named.contains(id);
    let failed: Vec<_> = (plan.runs.iter().zip(&statuses))
        .filter(|(planned, status)| status.state == RunState::Failed && chosen(&planned.run.id))
        .collect();
    if let Some(other) = named.iter().find(|id| !failed.iter().any(|(planned, _)| planned.run.id == **id)) {
        return Err(Failure::Usage(
            format!("run {other} has not failed, or is not of this sweep"),
            "`winsign status` shows what has failed".to_string(),
        ));
    }
    let ids: HashSet<RunId> = failed.iter().map(|(planned, _)| planned.run.id.clone()).collect();
    if !common.json {
        let mut text = format!("{}: {} failed", plan.name, plural(failed.len(), "run"));
        text += match (failed.is_empty(), arguments.dry_run) {
            (true, _) => ", nothing to do\n",
            (false, true) => " and would get a new chance\n",
            (false, false) => " and get a new chance\n",
        };
        for (planned, status) in &failed {
            text +=
                &format!("  {}  {}: {}\n", planned.run.id, planned.label, status.note.as_deref().unwrap_or_default());
        }
        output::text(&text)?;
    }
    let mut submission = serde_json::Value::Null;
    let again = common.again(&arguments.sweep);
    if !arguments.dry_run && !failed.is_empty() {
        match Submission::latest(store.root(), &plan.name)? {
            Some(latest) => {
                let worker = find_worker(arguments.worker.as_deref())?;
                let only = with_dependents(&plan, &ids);
                let (profile, execution) = (&latest.file.profile, &latest.file.execution);
                let asked = Asked { plan: &plan, profile, execution, worker: &worker, only: Some(&only) };
                let submitted = asked.submit(&store)?;
                submission = submit::json(&plan, &submitted);
                if !common.json {
                    output::text(&submit::text(&plan, &submitted, &again))?;
                }
            }
            None => {
                for (planned, _) in &failed {
                    store.run(&planned.run.id).forgive()?;
                }
                if !common.json {
                    output::text(&format!("next: winsign run {again}\n"))?;
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

/// Failed runs, and all that was blocked by them.
fn with_dependents(plan: &Plan, failed: &HashSet<RunId>) -> HashSet<RunId> {
    let mut all = failed.clone();
    // Runs come after what they need.
    for planned in &plan.runs {
        if planned.run.inputs.iter().any(|input| all.contains(input)) {
            all.insert(planned.run.id.clone());
        }
    }
    all
}
