//! `winsign clean`: shows and deletes unneeded data.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use comfy_table::{CellAlignment, Table};
use indicatif::DecimalBytes;
use serde_json::json;
use winsign_core::clean::{self, Kind, Waste};
use winsign_core::error::Result;
use winsign_core::parallel;
use winsign_core::results::AttachedFile;
use winsign_core::{Diagnostic, RunDirectory, RunId, Store, exit};
use winsign_exec::batch::submission::{Found, Submission, Unreadable};
use winsign_report::terminal::STYLE;
use winsign_sweep::plan::build::build;
use winsign_sweep::plan::survey::survey;
use winsign_sweep::plan::{Plan, RunState};

use super::{Common, output};

pub(crate) const HELP: &str = "\
Examples:
  winsign clean sweeps/quickstart.yaml                show what can be deleted, and its size
  winsign clean sweeps/quickstart.yaml --yes          delete it
  winsign clean sweeps/*.yaml --networks --yes        and networks that these sweeps do not need
  winsign clean --all --yes                           in all runs of the store

Nothing is deleted without --yes. Unneeded data are checkpoints from which no run will resume,
networks of attempts whose run another attempt has finished, partial files of exited processes, and
damaged files that were set aside. Data of running attempts and the checkpoints from which runs
will resume are kept.

--networks also deletes the network of every finished ticket and transfer, unless an unfinished run
of the sweeps needs it. Results, metrics and logs are kept, so status and report do not change, but
`winsign export` cannot export these networks. If a run added later needs one, it is computed
again. Other sweeps are not checked: name all sweeps that share runs. --networks is refused while
runs of these sweeps are active.";

#[derive(Args)]
pub(crate) struct Arguments {
    /// The sweep files whose runs are checked
    #[arg(required_unless_present = "all", value_name = "SWEEP")]
    sweeps: Vec<PathBuf>,
    /// Check every run of the store
    #[arg(long, conflicts_with = "sweeps")]
    all: bool,
    /// Also delete networks that these sweeps do not need
    #[arg(long, conflicts_with = "all")]
    networks: bool,
    /// Only show what would be deleted (the default)
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Delete the data
    #[arg(long)]
    yes: bool,
}

pub(crate) fn command(common: &Common, arguments: &Arguments) -> std::result::Result<u8, Diagnostic> {
    let plans = arguments.sweeps.iter().map(|path| Ok(build(&winsign_sweep::read(path)?)));
    let plans: Vec<Plan> = plans.collect::<std::result::Result<_, Diagnostic>>()?;
    if !common.store.is_dir() {
        let message = format!("store {} does not exist", common.store.display());
        return Err(Diagnostic::new(message, "give another store with --store DIR"));
    }
    let store = Store::open(&common.store)?;
    let ids = match arguments.all {
        true => store.runs()?,
        false => {
            let planned = plans.iter().flat_map(|plan| &plan.runs).map(|planned| planned.run.id.clone());
            planned.collect::<BTreeSet<RunId>>().into_iter().collect()
        }
    };
    let runs: Vec<RunDirectory> = ids.iter().map(|id| store.run(id)).collect();
    let waste = parallel::map(&runs, clean::waste).into_iter().collect::<Result<Vec<_>>>()?;
    let mut found: Vec<Waste> = waste.iter().flatten().cloned().collect();
    let submissions = Submission::incomplete(store.root())?;
    found.extend(submissions.iter().cloned());
    let unneeded = if arguments.networks { unneeded_networks(&plans, &store)? } else { vec![] };
    for (run, network) in &unneeded {
        found.extend(clean::describe_network(run, network)?);
    }
    let freed = match arguments.yes {
        true => {
            let files = delete(&runs, &waste)? + delete_submissions(&store, &submissions)?;
            Some(files + delete_networks(&plans, &store, &unneeded)?)
        }
        false => None,
    };
    if common.json {
        return output::json(&json!({
            "store": common.store.to_string_lossy(),
            "deleted": freed.is_some(),
            "bytes": freed.unwrap_or_else(|| found.iter().map(|waste| waste.bytes).sum()),
            "files": found,
        }));
    }
    let mut text = match found.is_empty() {
        true => format!("nothing to delete in {}\n", common.store.display()),
        false => format!("{}\n", table(&found)),
    };
    match freed {
        _ if found.is_empty() => {}
        Some(bytes) => {
            let _ = writeln!(text, "deleted: {}", DecimalBytes(bytes));
        }
        None => text += "nothing was deleted; add --yes to delete these files\n",
    }
    if arguments.networks && !unneeded.is_empty() {
        text += "warning: sweeps that were not named may need these networks\n";
    }
    output::text(&text)?;
    Ok(exit::SUCCESS)
}

/// Deletes the files that were shown, if they are still unneeded; a run may have been started meanwhile.
fn delete(runs: &[RunDirectory], shown: &[Vec<Waste>]) -> Result<u64> {
    let wasteful: Vec<_> = runs.iter().zip(shown).filter(|(_, shown)| !shown.is_empty()).collect();
    let freed = parallel::map(&wasteful, |(run, shown)| {
        let mut freed = 0;
        for waste in clean::waste(run)?.iter().filter(|waste| shown.iter().any(|known| known.path == waste.path)) {
            freed += waste.delete()?.unwrap_or(0);
        }
        Ok(freed)
    });
    freed.into_iter().sum()
}

/// Deletes the submissions that were shown, if they are still incomplete.
fn delete_submissions(store: &Store, shown: &[Waste]) -> Result<u64> {
    if shown.is_empty() {
        return Ok(0);
    }
    let mut freed = 0;
    let found = Submission::incomplete(store.root())?;
    for waste in found.iter().filter(|waste| shown.iter().any(|known| known.path == waste.path)) {
        freed += waste.delete()?.unwrap_or(0);
    }
    Ok(freed)
}

/// Returns the networks of finished runs that no unfinished run of these plans needs.
fn unneeded_networks(
    plans: &[Plan],
    store: &Store,
) -> std::result::Result<Vec<(RunDirectory, AttachedFile)>, Diagnostic> {
    let needs = Needs::collect(plans, store)?;
    if needs.alive > 0 {
        let message = format!("cannot delete networks while runs of these sweeps are active: {} active", needs.alive);
        let help = "wait for the runs that `winsign status` lists, or omit --networks";
        return Err(Diagnostic::new(message, help));
    }
    let unneeded = needs.networks.into_iter().filter(|(id, _)| !needs.needed.contains(id));
    Ok(unneeded.map(|(id, network)| (store.run(&id), network)).collect())
}

/// The networks that finished runs of plans have, and the runs whose networks unfinished runs need.
struct Needs {
    /// The number of running runs.
    alive: usize,
    /// The inputs of unfinished runs.
    needed: HashSet<RunId>,
    /// The networks of runs that are done in every plan.
    networks: BTreeMap<RunId, AttachedFile>,
}

impl Needs {
    fn collect(plans: &[Plan], store: &Store) -> Result<Needs> {
        let mut needs = Needs { alive: 0, needed: HashSet::new(), networks: BTreeMap::new() };
        let mut unfinished = HashSet::new();
        for plan in plans {
            for (planned, status) in plan.runs.iter().zip(survey(plan, store)?) {
                let id = &planned.run.id;
                needs.alive += usize::from(status.state == RunState::Running);
                if status.state != RunState::Done {
                    needs.needed.extend(planned.run.inputs.iter().cloned());
                    unfinished.insert(id.clone());
                } else if let Some(network) = status.result.and_then(|result| result.network) {
                    needs.networks.insert(id.clone(), network);
                }
            }
        }
        // Submissions show the needs of some sweeps that are not named.
        let Found { submissions, unreadable } = Submission::all(store.root())?;
        if let Some(Unreadable { error, .. }) = unreadable.into_iter().next() {
            return Err(error);
        }
        for submission in submissions {
            needs.needed.extend(submission.needed()?);
        }
        needs.networks.retain(|id, _| !unfinished.contains(id));
        Ok(needs)
    }
}

/// Renames the networks, checks again which are needed, and deletes the others.
fn delete_networks(plans: &[Plan], store: &Store, unneeded: &[(RunDirectory, AttachedFile)]) -> Result<u64> {
    let (mut retired, mut failure) = (vec![], Ok(()));
    for ((run, _), outcome) in
        unneeded.iter().zip(parallel::map(unneeded, |(run, network)| clean::retire(run, network)))
    {
        match outcome {
            Ok(network) => retired.extend(network.map(|network| (&run.id, network))),
            Err(error) => failure = Err(error),
        }
    }
    let recheck = failure.and_then(|()| Needs::collect(plans, store));
    let freed = parallel::map(&retired, |(id, network)| match &recheck {
        Ok(needs) if needs.alive == 0 && !needs.needed.contains(id) => network.delete().map(|()| network.bytes),
        // A run was started meanwhile, or the store cannot be written to.
        _ => network.restore().map(|()| 0),
    });
    if recheck?.alive > 0 {
        output::message("a run of these sweeps was started meanwhile; the networks were kept");
    }
    freed.into_iter().sum()
}

fn table(found: &[Waste]) -> Table {
    let mut kinds: BTreeMap<Kind, (usize, u64)> = BTreeMap::new();
    for waste in found {
        let (files, bytes) = kinds.entry(waste.kind).or_default();
        *files += 1;
        *bytes += waste.bytes;
    }
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header(["what", "files", "size"]);
    for (kind, (files, bytes)) in &kinds {
        table.add_row([kind.to_string(), files.to_string(), DecimalBytes(*bytes).to_string()]);
    }
    let bytes = found.iter().map(|waste| waste.bytes).sum();
    table.add_row(["total".to_string(), found.len().to_string(), DecimalBytes(bytes).to_string()]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
