//! `winsign import`: adds a ticket found elsewhere to the store.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::json;
use winsign_core::error::Error;
use winsign_core::results::Outcome;
use winsign_core::settings::{Architecture, Dataset, Import, Method, Problem, Settings};
use winsign_core::tensors::TensorFile;
use winsign_core::{Diagnostic, Run, RunDirectory, Store, exit};
use winsign_exec::Options;
use winsign_exec::display::Display;
use winsign_exec::local::Local;
use winsign_exec::slots::Slots;
use winsign_sweep::Resources;
use winsign_sweep::plan::survey::survey;
use winsign_sweep::plan::{Label, Plan, PlannedRun, RunState};

use super::run::{execute, find_worker, probe_data};
use super::{Common, Execution, output};

pub(crate) const HELP: &str = "\
Example:
  winsign import found.safetensors --as ticket --dataset cifar100 --architecture resnet50

The file must be in the safetensors format, with the names of PyTorch. In Python:
  from safetensors.torch import save_file
  tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
  save_file(tensors, \"found.safetensors\")
A prefix that all names share, such as module. or _orig_mod., is removed. Masks are tensors
L.mask, or L.weight_mask with L.weight_orig as in torch.nn.utils.prune; without masks, weights equal
to zero are pruned. The network is checked, evaluated on the test set and stored; the command then
prints the setting that selects it in sweep files. A network that is rejected leaves nothing.";

#[derive(Args)]
pub(crate) struct Arguments {
    /// The file to read
    file: PathBuf,
    /// What to import the network as
    #[arg(long = "as", value_name = "KIND")]
    kind: Kind,
    /// The data set the network was trained on
    #[arg(long)]
    dataset: Dataset,
    /// The architecture of the network
    #[arg(long)]
    architecture: Architecture,
    #[command(flatten)]
    execution: Execution,
}

/// The kinds of runs that can be imported.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// A network to transfer from
    Ticket,
}

pub(crate) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let Kind::Ticket = arguments.kind;
    let problem = Problem::new(arguments.dataset, arguments.architecture);
    if !problem.architecture.fits(problem.dataset) {
        let message = format!(
            "cannot import {}: {} is not defined for {}",
            arguments.file.display(),
            problem.architecture,
            problem.dataset
        );
        return Err(Diagnostic::new(
            message,
            "see docs/reference/sweep-file.md for the architectures of each data set",
        ));
    }
    let file = &arguments.file;
    let network = TensorFile::read_foreign(file).map_err(|error| match error {
        Error::Damaged { path, reason } => {
            let message = format!("cannot read {} as a safetensors file: {reason}", path.display());
            Diagnostic::new(message, "write it as shown by `winsign import --help`")
        }
        other => other.into(),
    })?;
    let worker = find_worker(arguments.execution.worker.as_deref())?;
    probe_data(problem.dataset, &arguments.execution.data)?;
    let store = Store::create(&common.store)?;
    let digest = network.digest().parse().expect("a digest is 32 hexadecimal digits");

    let run = Run::new(Settings::Import(Import { problem, digest }), vec![]);
    let directory = store.run(&run.id);
    let label = imported_label(problem);
    let resources = Resources { retries: 0, ..Resources::default() };
    let plan = Plan { name: label.to_string(), runs: vec![PlannedRun { run, label }], resources };
    let PlannedRun { run, label } = &plan.runs[0];
    directory.prepare(run, &label.to_string())?;
    network.write(&directory.imported_path())?;

    let options = Options {
        launcher: Arc::new(Local),
        slots: Slots::local(1),
        ranks: 1,
        threads: arguments.execution.threads.unwrap_or(plan.resources.threads),
        data: arguments.execution.data.clone(),
        retries: 0,
        retry_out_of_memory: true,
        worker,
    };
    let statuses = survey(&plan, &store)?;
    let before = statuses[0].state;
    let executed = execute(&winsign_exec::entries(&plan), &store, &statuses, &options, &mut Display::silent());
    let summary = executed.inspect_err(|_| discard(&directory, &store, before))?;
    let Some(result) = directory.result()? else {
        let Some(failure) = summary.failed.first() else {
            return Ok(exit::INTERRUPTED);
        };
        discard(&directory, &store, before);
        let message = format!("cannot import {}: {}", file.display(), failure.message);
        return Err(Diagnostic::with_code(
            exit::FAILURE,
            message,
            Some("check the file against `winsign import --help`"),
        ));
    };
    for warning in directory.log_of(result.attempt, usize::MAX).iter().filter_map(|line| line.split_once(" WARN ")) {
        output::message(&format!("{}: {}", file.display(), warning.1));
    }
    if common.json {
        return output::json(&json!({ "run": run.id, "digest": digest, "result": result }));
    }
    let Outcome::Ticket(ticket) = result.outcome else { unreachable!("an import is a ticket") };
    output::text(&format!(
        "imported as ticket {}: {} of {} prunable weights survive ({:.2} %), test error {:.2} %\n\
         in a sweep file:\n\
         ticket:\n  imported: \"{digest}\"\n",
        run.id,
        ticket.survivors,
        ticket.prunable,
        100.0 * ticket.remaining_ratio,
        ticket.test_error
    ))
}

/// Removes the run of a network that was rejected, unless it was done or running in another process before. A failure to do so
/// must not hide the reason of the rejection.
fn discard(directory: &RunDirectory, store: &Store, before: RunState) {
    if matches!(before, RunState::Done | RunState::Running) {
        return;
    }
    if let Err(error) = directory.remove().and_then(|()| store.remove_if_empty()) {
        tracing::warn!("{error}");
    }
}

/// Returns the label of an imported ticket.
fn imported_label(problem: Problem) -> Label {
    Label {
        problem,
        method: Some(Method::Imported),
        level: 1,
        rewind_point: None,
        inherit: None,
        between: None,
        block: None,
        seeds: vec![],
        axes: vec![],
    }
}
