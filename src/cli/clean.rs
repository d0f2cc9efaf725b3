//! `winsign clean`: what nobody needs any more, shown and deleted.

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
use winsign_core::{RunDirectory, RunId, Store, exit};
use winsign_exec::slurm::submission::Submission;
use winsign_report::terminal::STYLE;
use winsign_sweep::plan::build::build;
use winsign_sweep::plan::survey::survey;
use winsign_sweep::plan::{Plan, RunState};

use super::{Common, Failure, output};

pub(crate) const HELP: &str = "\
Examples:
  winsign clean sweeps/quickstart.yaml                what could be deleted, and how much that is
  winsign clean sweeps/quickstart.yaml --yes          delete it
  winsign clean sweeps/*.yaml --networks --yes        and networks that none of these sweeps needs
  winsign clean --all --yes                           of every run in the store

Nothing is deleted without --yes. Deleted are checkpoints that no run goes on from, networks of
attempts whose run another attempt has finished, what dead processes were writing, and damaged
files that were set aside. What belongs to an attempt that is alive is left alone, and so is the
checkpoint that a run would go on from.

--networks deletes the network of every ticket and transfer that is done, unless a run of the
sweeps is still to be computed from it. Results, metrics and logs stay, so that status and report
are as before; `winsign export` has nothing to export any more. A run added later that needs such
a network has it computed again. Only the sweeps that are named are looked at: name all that share
runs. While any of their runs is alive, this is refused.";

#[derive(Args)]
pub(crate) struct Arguments {
    /// The sweep files whose runs are looked at
    #[arg(required_unless_present = "all", value_name = "SWEEP")]
    sweeps: Vec<PathBuf>,
    /// Look at every run of the store
    #[arg(long, conflicts_with = "sweeps")]
    all: bool,
    /// Also delete networks that no run of these sweeps needs any more
    #[arg(long, conflicts_with = "all")]
    networks: bool,
    /// Only show what would be deleted: the default
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Delete it
    #[arg(long)]
    yes: bool,
}

pub(crate) fn command(common: &Common, arguments: &Arguments) -> std::result::Result<u8, Failure> {
    let plans = arguments.sweeps.iter().map(|path| Ok(build(&winsign_sweep::read(path)?)));
    let plans: Vec<Plan> = plans.collect::<std::result::Result<_, Failure>>()?;
    if !common.store.is_dir() {
        let message = format!("there is no store {}", common.store.display());
        return Err(Failure::Usage(message, "--store DIR names another one".to_string()));
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
    let spare = if arguments.networks { spare_networks(&plans, &store)? } else { vec![] };
    for (run, network) in &spare {
        found.extend(clean::network(run, network)?);
    }
    let freed = match arguments.yes {
        true => Some(delete(&runs, &waste)? + delete_networks(&plans, &store, &spare)?),
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
        None => text += "nothing was deleted: add --yes to delete them\n",
    }
    if arguments.networks && !spare.is_empty() {
        text += "networks: sweeps that were not named were not asked whether they need them\n";
    }
    output::text(&text)?;
    Ok(exit::SUCCESS)
}

/// Deletes what was shown, as far as it is still of no use: a run may have been started meanwhile.
fn delete(runs: &[RunDirectory], shown: &[Vec<Waste>]) -> Result<u64> {
    let useless: Vec<_> = runs.iter().zip(shown).filter(|(_, shown)| !shown.is_empty()).collect();
    let freed = parallel::map(&useless, |(run, shown)| {
        let mut freed = 0;
        for waste in clean::waste(run)?.iter().filter(|waste| shown.iter().any(|known| known.path == waste.path)) {
            freed += waste.delete()?.unwrap_or(0);
        }
        Ok(freed)
    });
    freed.into_iter().sum()
}

/// The networks of runs that are done which no run of these plans is still to be computed from.
fn spare_networks(plans: &[Plan], store: &Store) -> std::result::Result<Vec<(RunDirectory, AttachedFile)>, Failure> {
    let needs = Needs::of(plans, store)?;
    if needs.alive > 0 {
        let message = format!("networks are deleted only while no run of these sweeps is alive; {} are", needs.alive);
        let help = "`winsign status` says which; the rest can be deleted without --networks".to_string();
        return Err(Failure::Usage(message, help));
    }
    let spare = needs.networks.into_iter().filter(|(id, _)| !needs.needed.contains(id));
    Ok(spare.map(|(id, network)| (store.run(&id), network)).collect())
}

/// What some plans need of what they have.
struct Needs {
    alive: usize,
    /// The runs that one which is not done is computed from.
    needed: HashSet<RunId>,
    /// Of runs that are done in the eyes of every plan.
    networks: BTreeMap<RunId, AttachedFile>,
}

impl Needs {
    fn of(plans: &[Plan], store: &Store) -> Result<Needs> {
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
        // Sweeps that are not named have runs too, of which those show that are in the hands of Slurm.
        for submission in Submission::all(store.root())? {
            needs.needed.extend(submission.needed()?);
        }
        needs.networks.retain(|id, _| !unfinished.contains(id));
        Ok(needs)
    }
}

/// Takes the networks away, looks again who needs them, and deletes those that still nobody does.
fn delete_networks(plans: &[Plan], store: &Store, spare: &[(RunDirectory, AttachedFile)]) -> Result<u64> {
    let (mut retired, mut trouble) = (vec![], Ok(()));
    for ((run, _), outcome) in spare.iter().zip(parallel::map(spare, |(run, network)| clean::retire(run, network))) {
        match outcome {
            Ok(network) => retired.extend(network.map(|network| (&run.id, network))),
            Err(error) => trouble = Err(error),
        }
    }
    let again = trouble.and_then(|()| Needs::of(plans, store));
    let freed = parallel::map(&retired, |(id, network)| match &again {
        Ok(needs) if needs.alive == 0 && !needs.needed.contains(id) => network.delete().map(|()| network.bytes),
        // A run was started meanwhile, or the store cannot be written to.
        _ => network.restore().map(|()| 0),
    });
    if again?.alive > 0 {
        output::tell("a run of these sweeps was started meanwhile: the networks were left where they are");
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
    table.add_row(["in all".to_string(), found.len().to_string(), DecimalBytes(bytes).to_string()]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
