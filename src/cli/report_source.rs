//! The source of a report: the runs of a sweep file or of stores, and their state.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use winsign_core::files::{create_directory, digest, read_if_exists, write_atomic};
use winsign_core::text::plural;
use winsign_core::{Diagnostic, RunDirectory, RunId, Store};
use winsign_report::evidence::{self, Evidence};
use winsign_report::pivot::pivot;
use winsign_report::statistics::Estimate;
use winsign_report::{Notice, Report, RunRecord, gather_with};
use winsign_sweep::plan::build::build;
use winsign_sweep::plan::found;
use winsign_sweep::plan::stores::{self, Found, StoreProblems};
use winsign_sweep::plan::survey::RunStatus;
use winsign_sweep::plan::{Plan, PlannedRun, RunState};
use winsign_sweep::{Layout, name_from};

use super::Common;

/// The runs of a report, and the stores that may hold them.
pub(crate) struct ReportSource {
    pub plan: Plan,
    pub stores: Vec<Store>,
    pub layout: Layout,
    /// The default directory of the report's files.
    pub directory: PathBuf,
    /// The sweep file, or the stores if there is none.
    origin: Vec<PathBuf>,
    /// Problems found when the stores were opened.
    problems: StoreProblems,
    /// Notices that do not depend on the state of the runs.
    notices: Vec<Notice>,
    /// The directories of the stores that existed when the source was opened.
    existing: Vec<PathBuf>,
}

impl ReportSource {
    /// Opens a sweep file with any number of stores, or stores alone.
    pub(crate) fn open(common: &Common, paths: &[PathBuf]) -> Result<ReportSource, Diagnostic> {
        let (folders, files): (Vec<&PathBuf>, Vec<&PathBuf>) = paths.iter().partition(|path| path.is_dir());
        let named = distinct_stores(&folders)?;
        match files[..] {
            [] => ReportSource::from_stores(named),
            [file] => {
                let sweep = winsign_sweep::read(file)?;
                let plan = build(&sweep);
                let own = Store::open(&common.store)?;
                let directory = own.root().join("reports").join(&plan.name);
                let mut stores = named;
                if !stores.iter().any(|store| identity(store.root()) == identity(own.root())) {
                    stores.push(own);
                }
                let existing = existing_directories(&stores);
                let (origin, layout) = (vec![file.clone()], sweep.layout);
                let (problems, notices) = (StoreProblems::default(), vec![]);
                Ok(ReportSource { plan, stores, layout, directory, origin, problems, notices, existing })
            }
            [one, other, ..] => {
                let absent = files.iter().find(|path| !path.exists());
                let message = match absent {
                    Some(absent) => format!("{} does not exist", absent.display()),
                    None => {
                        format!("cannot use both {} and {}: neither is a directory", one.display(), other.display())
                    }
                };
                Err(Diagnostic::new(message, "give one sweep file, and the directories of stores"))
            }
        }
    }

    fn from_stores(stores: Vec<Store>) -> Result<ReportSource, Diagnostic> {
        let name = name_from(&stores.iter().map(name_of_store).collect::<Vec<_>>().join("+"));
        let (plan, damaged) = found::plan(&name, &stores)?;
        let directory = stores[0].root().join("reports").join(&name);
        let problems = StoreProblems { damaged, ..StoreProblems::default() };
        let notices = notice_missing_inputs(&plan).into_iter().collect();
        let existing = existing_directories(&stores);
        let (origin, layout) = (stores.iter().map(|store| store.root().to_path_buf()).collect(), Layout::default());
        Ok(ReportSource { plan, stores, layout, directory, origin, problems, notices, existing })
    }

    /// Fails if no store exists, since a mistyped `--store` must not look like a study without results.
    pub(crate) fn check_stores(&self) -> Result<(), Diagnostic> {
        let help = "run the sweep first, or give its store with --store";
        if let Some(other) = self.stores.iter().find(|store| store.root().exists() && !store.root().is_dir()) {
            return Err(Diagnostic::new(
                format!("cannot use {} as a store: it is not a directory", other.root().display()),
                help,
            ));
        }
        if self.stores.iter().any(|store| store.root().exists()) {
            return Ok(());
        }
        Err(Diagnostic::new(format!("store {} does not exist", self.stores[0].root().display()), help))
    }

    /// Creates the default directory of the report, or fails if it has the report of another sweep file or other stores. The
    /// report of a sweep file that was edited or moved, but not both, is replaced.
    pub(crate) fn claim_directory(&self) -> Result<(), Diagnostic> {
        let path = self.directory.join(OWNER);
        let owner = Owner::new(self);
        // A file that cannot be read as an owner is replaced like one that does not exist.
        let known = read_if_exists(&path)?.and_then(|text| serde_json::from_slice::<Owner>(&text).ok());
        if let Some(known) = known.filter(|known| known.origin != owner.origin && known.plan != owner.plan) {
            let message = format!(
                "cannot replace {}: it is the report of {}",
                self.directory.display(),
                known.origin.join(" and ")
            );
            return Err(Diagnostic::new(message, "give another directory with --out, or set `name` in a sweep file"));
        }
        create_directory(&self.directory)?;
        Ok(write_atomic(&path, &serde_json::to_vec_pretty(&owner).expect("plain data"))?)
    }

    /// Removes the custom table of the sweep file.
    pub(crate) fn without_table(self) -> ReportSource {
        ReportSource { layout: Layout::default(), ..self }
    }

    /// Returns the directory in which a run was found.
    pub(crate) fn directory_of(&self, id: &RunId, found: &Found) -> RunDirectory {
        let store = self.stores.iter().find(|store| *store.root() == *found.store);
        store.expect("runs are found in the source's stores").run(id)
    }

    /// Returns true if the plan lacks runs because files in the stores are damaged.
    pub(crate) fn has_damaged_runs(&self) -> bool {
        !self.problems.damaged.is_empty()
    }

    /// Returns the current state of each run in the stores, with notices.
    pub(crate) fn survey(&self) -> (Vec<Found>, Vec<Notice>) {
        let (found, mut problems) = stores::look_up(&self.plan.runs, &self.stores);
        problems.damaged.extend(self.problems.damaged.iter().cloned());
        let mut notices = notices(&problems);
        notices.extend(self.notices.iter().cloned());
        // A live page must report stores that have disappeared.
        let missing = self.existing.iter().filter_map(|root| match Store::open(root) {
            Ok(_) if root.is_dir() => None,
            Ok(_) => Some(format!("store {} no longer exists", root.display())),
            Err(error) => Some(error.to_string()),
        });
        notices.extend(missing.map(|message| Notice { message, runs: vec![] }));
        (found, notices)
    }

    /// Makes the report; the given options take precedence over those of the sweep file.
    pub(crate) fn report(
        &self,
        records: &[RunRecord],
        notices: Vec<Notice>,
        layout: Layout,
    ) -> Result<Report, Diagnostic> {
        let layout = layout.or(&self.layout);
        let default = Estimate::default();
        let estimate = Estimate {
            method: layout.interval.unwrap_or(default.method),
            level: layout.confidence.unwrap_or(default.level),
        };
        let mut report = gather_with(&self.plan.name, records, estimate);
        report.notices.splice(..0, notices);
        if layout.has_table() {
            report.pivot = Some(pivot(&report, &layout, estimate)?);
        }
        Ok(report)
    }
}

/// The name of the file in the default directory of a report that names its [`Owner`].
const OWNER: &str = ".owner.json";

/// The sweep file or the stores that a report is written for.
#[derive(Serialize, Deserialize)]
struct Owner {
    /// Absolute paths.
    origin: Vec<String>,
    /// A digest of the identities of all planned runs.
    plan: String,
}

impl Owner {
    fn new(source: &ReportSource) -> Owner {
        let absolute = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
        let runs: Vec<&str> = source.plan.runs.iter().map(|planned| planned.run.id.as_str()).collect();
        Owner {
            origin: source.origin.iter().map(|path| absolute(path).display().to_string()).collect(),
            plan: digest(runs.concat().as_bytes()),
        }
    }
}

fn name_of_store(store: &Store) -> String {
    let path = std::path::absolute(store.root()).unwrap_or_else(|_| store.root().to_path_buf());
    path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned())
}

fn existing_directories(stores: &[Store]) -> Vec<PathBuf> {
    stores.iter().map(|store| store.root().to_path_buf()).filter(|root| root.is_dir()).collect()
}

/// Returns a notice about runs whose inputs are in none of the stores.
fn notice_missing_inputs(plan: &Plan) -> Option<Notice> {
    let known: HashSet<&RunId> = plan.runs.iter().map(|planned| &planned.run.id).collect();
    let lacks = |planned: &&PlannedRun| planned.run.inputs.iter().any(|input| !known.contains(input));
    let runs: Vec<RunId> = plan.runs.iter().filter(lacks).map(|planned| planned.run.id.clone()).collect();
    let message = match runs.len() {
        0 => return None,
        1 => "the input of 1 run is in none of these stores: the method and level of its ticket are unknown, and it counts as \
              level 0"
            .to_string(),
        several => format!(
            "the inputs of {several} runs are in none of these stores: the methods and levels of their tickets are unknown, and \
             they count as level 0"
        ),
    };
    Some(Notice { message, runs })
}

/// The state of a source's runs at one time, in the order of the plan, with the curves and logs for a report.
pub(crate) struct Snapshot {
    pub found: Vec<Found>,
    evidence: Vec<Evidence>,
}

impl Snapshot {
    /// Reads the curves and logs of the runs.
    pub(crate) fn read(source: &ReportSource, found: Vec<Found>) -> Snapshot {
        let planned = source.plan.runs.iter().zip(&found);
        let runs: Vec<(RunDirectory, &RunStatus)> =
            planned.map(|(planned, found)| (source.directory_of(&planned.run.id, found), &found.status)).collect();
        let evidence = evidence::collect(&runs);
        Snapshot { found, evidence }
    }

    /// Returns the state without curves and logs.
    pub(crate) fn without_evidence(found: Vec<Found>) -> Snapshot {
        Snapshot { evidence: vec![Evidence::default(); found.len()], found }
    }

    pub(crate) fn records<'a>(&self, plan: &'a Plan) -> Vec<RunRecord<'a>> {
        let known = self.found.iter().zip(&self.evidence);
        (plan.runs.iter().zip(known))
            .map(|(planned, (Found { status, store }, evidence))| RunRecord {
                planned,
                state: status.state,
                // A run whose network was deleted and is needed again still has a result.
                result: status.result.clone().filter(|_| status.state == RunState::Done),
                note: status.note.clone(),
                curve: evidence.curve.clone(),
                log_end: evidence.log_end.as_deref().map(str::to_string),
                // A run without attempts is in no store.
                store: (status.state != RunState::Pending || status.attempts > 0).then(|| store.clone()),
            })
            .collect()
    }

    /// Returns notices about curves and logs that could not be read.
    pub(crate) fn notices(&self, plan: &Plan) -> Vec<Notice> {
        evidence::notices(plan.runs.iter().map(|planned| &planned.run.id).zip(&self.evidence))
    }
}

/// Opens the stores to read from, each once.
fn distinct_stores(folders: &[&PathBuf]) -> Result<Vec<Store>, Diagnostic> {
    let mut stores: Vec<Store> = vec![];
    for path in folders {
        if !path.join("runs").is_dir() {
            let message = format!("{} is not a store: it has no directory `runs`", path.display());
            let help = "give a sweep file, or directories used as `winsign run --store`";
            return Err(Diagnostic::new(message, help));
        }
        if !stores.iter().any(|store| identity(store.root()) == identity(path)) {
            stores.push(Store::open(path)?);
        }
    }
    Ok(stores)
}

/// Returns the device and inode number of a directory, or the path itself if it does not exist.
fn identity(path: &Path) -> Result<(u64, u64), PathBuf> {
    path.metadata().map(|found| (found.dev(), found.ino())).map_err(|_| path.to_path_buf())
}

fn notices(problems: &StoreProblems) -> Vec<Notice> {
    let runs = |count: usize| plural(count, "run");
    let mut notices = Vec::new();
    if let Some((id, used, other)) = problems.conflicts.first() {
        let mut ids: Vec<RunId> = problems.conflicts.iter().map(|(id, ..)| id.clone()).collect();
        ids.dedup();
        let message = format!(
            "{} with different results in several stores: those of the store that is named first are used, without \
             averaging; for example {id} in {} (used) and {}",
            runs(ids.len()),
            used.display(),
            other.display()
        );
        notices.push(Notice { message, runs: ids });
    }
    if let Some((_, reason)) = problems.damaged.first() {
        let message = format!(
            "{} with damaged or unreadable files, excluded from all numbers: {reason}",
            runs(problems.damaged.len())
        );
        notices.push(Notice { message, runs: problems.damaged.iter().map(|(id, _)| id.clone()).collect() });
    }
    if !problems.vanished.is_empty() {
        let count = runs(problems.vanished.len());
        let message = format!("{count} removed while being read, and excluded; run the report again");
        notices.push(Notice { message, runs: problems.vanished.clone() });
    }
    notices
}

#[cfg(test)]
mod tests {
    use super::*;
    use winsign_sweep::{Resources, parse};
    use winsign_testkit::study::Study;

    /// An example is a run whose network was deleted by `winsign clean` and is needed again; its result still exists.
    #[test]
    fn unfinished_run_has_no_result() {
        let study = Study::digits();
        let states = [RunState::Done, RunState::Pending, RunState::Blocked];
        let done: Vec<_> = study.runs.iter().filter(|(.., result)| result.is_some()).take(states.len()).collect();
        let runs = done.iter().map(|(planned, ..)| planned.clone()).collect();
        let resources = Resources { retries: 0, ..Resources::default() };
        let plan = Plan { name: "study".to_string(), runs, resources };
        let found = done.iter().zip(states).map(|((.., result), state)| Found {
            status: RunStatus { state, result: result.clone(), ..RunStatus::pending() },
            store: Path::new("store").into(),
        });
        let records = Snapshot::without_evidence(found.collect()).records(&plan);
        assert_eq!(records.iter().map(|record| record.state).collect::<Vec<_>>(), states);
        assert!(records.iter().all(|record| record.result.is_some() == (record.state == RunState::Done)));
    }

    #[test]
    fn runs_without_their_inputs_give_a_notice() {
        let text = "dataset: digits\narchitecture: resnet8\nticket: {method: lrr, levels: 2}\ntransfer: {inherit: sign, seed: 2..3}";
        let mut plan = build(&parse("study.yaml", text).unwrap());
        assert_eq!(notice_missing_inputs(&plan), None);
        plan.runs.retain(|planned| planned.label.level != 2 || planned.label.inherit.is_some());
        let notice = notice_missing_inputs(&plan).unwrap();
        assert_eq!(notice.runs.len(), 2);
        assert!(notice.message.starts_with("the inputs of 2 runs"), "{}", notice.message);
    }
}
