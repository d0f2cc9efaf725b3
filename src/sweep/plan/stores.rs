//! The runs of several stores: a run that is done in one of them counts as done. Stores are only read, without waiting
//! for other processes.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use winsign_core::error::{Error, Result};
use winsign_core::files;
use winsign_core::merge::agree;
use winsign_core::owner::Clock;
use winsign_core::parallel;
use winsign_core::{RunDirectory, RunId, Store};

use super::survey::{self, RunStatus};
use super::{PlannedRun, RunState};

/// The status of a run over several stores.
#[derive(Debug, Clone)]
pub struct Found {
    pub status: RunStatus,
    /// The store with this status.
    pub store: Arc<Path>,
}

/// The problems met while stores were read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoreProblems {
    /// The runs with different results in two stores: the store that counts, and the other one.
    pub conflicts: Vec<(RunId, Arc<Path>, Arc<Path>)>,
    /// The runs with a file that is damaged or cannot be read, with the reason.
    pub damaged: Vec<(RunId, String)>,
    /// The runs whose directory was removed while it was read.
    pub vanished: Vec<RunId>,
}

/// Returns the status of each run over all stores, in the order of the plan. If several stores have a result, the first
/// one counts; if none has, a running attempt takes precedence over a failed one. A run that cannot be read is reported
/// and does not stop the survey.
pub fn look_up(runs: &[PlannedRun], stores: &[Store]) -> (Vec<Found>, StoreProblems) {
    let stores: Vec<(&Store, Arc<Path>, Clock)> =
        stores.iter().map(|store| (store, Arc::from(store.root()), Clock::new(store.root()))).collect();
    let looked = parallel::map(runs, |planned| {
        let mut problems = StoreProblems::default();
        let mut found: Vec<Found> = Vec::with_capacity(stores.len());
        for (store, root, clock) in &stores {
            let status = status(&store.run(&planned.run.id), clock, &mut problems);
            found.push(Found { status, store: root.clone() });
        }
        (choose(&planned.run.id, found, &mut problems), problems)
    });
    let mut all = StoreProblems::default();
    let mut found = Vec::with_capacity(runs.len());
    for (one, problems) in looked {
        found.push(one);
        all.conflicts.extend(problems.conflicts);
        all.damaged.extend(problems.damaged);
        all.vanished.extend(problems.vanished);
    }
    survey::block(runs.iter().map(|planned| &planned.run).zip(found.iter_mut().map(|found| &mut found.status)));
    (found, all)
}

/// Returns the status of a run in one store. A run whose directory is removed while it is read counts as missing.
fn status(run: &RunDirectory, clock: &Clock, problems: &mut StoreProblems) -> RunStatus {
    let gone = |error: &Error| match error {
        Error::Io { source, .. } => source.kind() == ErrorKind::NotFound,
        _ => false,
    };
    let mut found = survey::status(run, clock);
    // If its directory cannot be looked at, the other error is reported.
    let has_no_directory = || files::exists(&run.path).is_ok_and(|exists| !exists);
    let is_gone = |found: &Result<RunStatus>| match found {
        Ok(status) => status.damaged.is_some() && has_no_directory(),
        Err(error) => gone(error),
    };
    if is_gone(&found) {
        // If only a file was replaced, reading again succeeds.
        found = survey::status(run, clock);
        if is_gone(&found) || has_no_directory() {
            problems.vanished.push(run.id.clone());
            return RunStatus::pending();
        }
    }
    match found {
        Ok(found) => {
            if found.damaged.is_some() {
                problems.damaged.push((run.id.clone(), found.note.clone().unwrap_or_default()));
            }
            found
        }
        Err(error) => {
            problems.damaged.push((run.id.clone(), error.to_string()));
            RunStatus::pending()
        }
    }
}

fn choose(id: &RunId, found: Vec<Found>, problems: &mut StoreProblems) -> Found {
    let rank = |found: &Found| match found.status.state {
        RunState::Done => 0,
        RunState::Running => 1,
        RunState::Queued => 2,
        RunState::Failed => 3,
        RunState::Blocked => 4,
        RunState::Pending => 5,
    };
    let mut found = found.into_iter();
    let mut best = found.next().expect("at least one store");
    for other in found {
        if let (Some(one), Some(two)) = (&best.status.result, &other.status.result)
            && !agree(one, two)
        {
            problems.conflicts.push((id.clone(), best.store.clone(), other.store.clone()));
        }
        if rank(&other) < rank(&best) {
            best = other;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;
    use crate::plan::build::build;
    use winsign_core::attempt::{Attempt, End};
    use winsign_core::results::{Outcome, Processors, TicketOutcome};

    struct Stores {
        _scratch: tempfile::TempDir,
        stores: Vec<Store>,
        runs: Vec<PlannedRun>,
    }

    fn stores(count: usize) -> Stores {
        let scratch = tempfile::tempdir().unwrap();
        let stores = (0..count).map(|at| Store::create(&scratch.path().join(at.to_string())).unwrap()).collect();
        let text = "dataset: digits\narchitecture: resnet8\nticket: {method: lrr, levels: 2}";
        let runs = build(&parse("study.yaml", text).unwrap()).runs;
        Stores { _scratch: scratch, stores, runs }
    }

    impl Stores {
        fn begin(&self, store: usize, run: usize) -> Attempt {
            let directory = self.stores[store].run(&self.runs[run].run.id);
            directory.prepare(&self.runs[run].run, "").unwrap();
            Attempt::claim(&directory, 1).unwrap()
        }

        fn finish(&self, store: usize, run: usize, test_error: f64) {
            let attempt = self.begin(store, run);
            let outcome = Outcome::Ticket(TicketOutcome {
                remaining_ratio: 1.0,
                survivors: 1,
                prunable: 1,
                test_error,
                test_loss: 0.1,
                layers: vec![],
            });
            attempt.commit(outcome, None, Processors { ranks: 1, threads: 1 }, None).unwrap();
            attempt.end(&End::Finished).unwrap();
        }

        fn fail(&self, store: usize, run: usize) {
            self.begin(store, run).end(&End::Failed { message: "no".to_string() }).unwrap();
        }

        fn look_up(&self) -> (Vec<(RunState, usize)>, StoreProblems) {
            let (found, problems) = look_up(&self.runs, &self.stores);
            let place = |found: &Found| self.stores.iter().position(|store| store.root() == &*found.store).unwrap();
            (found.iter().map(|found| (found.status.state, place(found))).collect(), problems)
        }
    }

    #[test]
    fn run_done_in_one_store_counts_as_done() {
        let world = stores(3);
        world.fail(0, 0);
        world.finish(1, 0, 5.0);
        world.finish(2, 0, 5.0);
        world.fail(2, 1);
        let (found, problems) = world.look_up();
        assert_eq!(found, [(RunState::Done, 1), (RunState::Failed, 2), (RunState::Blocked, 0)]);
        assert_eq!(problems, StoreProblems::default());
    }

    #[test]
    fn different_results_are_reported_and_the_first_counts() {
        let world = stores(2);
        world.finish(0, 0, 5.0);
        world.finish(1, 0, 6.0);
        let (found, problems) = world.look_up();
        assert_eq!(found[0], (RunState::Done, 0));
        let roots: Vec<&Path> = world.stores.iter().map(Store::root).collect();
        assert_eq!(problems.conflicts.len(), 1);
        let (id, one, two) = &problems.conflicts[0];
        assert_eq!((id, &**one, &**two), (&world.runs[0].run.id, roots[0], roots[1]));
    }

    #[test]
    fn damaged_files_are_reported_and_other_stores_searched() {
        let world = stores(2);
        world.finish(0, 0, 5.0);
        world.finish(1, 0, 5.0);
        let path = world.stores[0].run(&world.runs[0].run.id).result_path();
        std::fs::write(&path, "{}").unwrap();
        let (found, problems) = world.look_up();
        assert_eq!(found[0], (RunState::Done, 1));
        assert_eq!(problems.damaged.len(), 1);
        assert!(problems.damaged[0].1.contains("is damaged"), "{}", problems.damaged[0].1);
    }

    /// Links to themselves stand for all files that cannot be read, such as those of other users or of a server that is
    /// down.
    #[test]
    fn unreadable_files_are_reported_and_do_not_stop_the_survey() {
        let world = stores(2);
        world.finish(0, 0, 5.0);
        world.finish(0, 1, 5.0);
        world.finish(1, 1, 5.0);
        let directory = |run: usize| world.stores[0].run(&world.runs[run].run.id);
        let (result, attempts) = (directory(1).result_path(), directory(2).path.join("attempts"));
        std::fs::remove_file(&result).unwrap();
        std::fs::create_dir_all(attempts.parent().unwrap()).unwrap();
        for path in [result, attempts] {
            std::os::unix::fs::symlink(&path, &path).unwrap();
        }
        let (found, problems) = world.look_up();
        assert_eq!(found, [(RunState::Done, 0), (RunState::Done, 1), (RunState::Pending, 0)]);
        let ids: Vec<&RunId> = problems.damaged.iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [&world.runs[1].run.id, &world.runs[2].run.id]);
        assert!(problems.damaged[0].1.contains("it is a link that leads to itself"), "{}", problems.damaged[0].1);
        assert!(problems.damaged[1].1.starts_with("cannot list "), "{}", problems.damaged[1].1);
        assert_eq!((problems.conflicts, problems.vanished), (vec![], vec![]));
    }

    /// Runs are created and deleted while a report reads them: it always completes, and states agree with results.
    #[test]
    fn directories_removed_while_reading_are_not_an_error() {
        let world = stores(1);
        let directory = world.stores[0].run(&world.runs[0].run.id);
        std::thread::scope(|scope| {
            let changes = scope.spawn(|| {
                for _ in 0..30 {
                    world.finish(0, 0, 5.0);
                    std::fs::remove_dir_all(&directory.path).unwrap();
                }
            });
            let mut surveys = 0;
            while !changes.is_finished() {
                let (found, _) = look_up(&world.runs, &world.stores);
                let status = &found[0].status;
                assert_eq!(status.result.is_some(), status.state == RunState::Done);
                surveys += 1;
            }
            changes.join().unwrap();
            assert!(surveys > 0);
        });
    }
}
