//! Studies with made-up results, which depend only on the settings of a run, so that reports are the same on every machine.
//! The trainer is not needed.

use std::collections::HashSet;
use std::path::Path;

use winsign_core::attempt::{Attempt, End};
use winsign_core::files;
use winsign_core::results::{
    ConnectOutcome, EpochMetrics, LayerSurvivors, MatrixOutcome, Outcome, PairOutcome, PathOutcome, PathPoint,
    PlaneOutcome, PlanePoint, Processors, RunResult, Similarity, TicketOutcome, TrainScore, TransferOutcome,
};
use winsign_core::settings::{Between, Inherit, Kind, Settings};
use winsign_core::{RunId, Store};
use winsign_sweep::plan::build::build;
use winsign_sweep::plan::{Label, PlannedRun};

/// The plan of a sweep file, and a store for made-up results.
pub struct MadeUp {
    pub runs: Vec<PlannedRun>,
    store: Store,
}

impl MadeUp {
    /// Plans a sweep file. No run is done.
    pub fn new(sweep_file: &Path, store: &Path) -> MadeUp {
        MadeUp { runs: build(&winsign_sweep::read(sweep_file).unwrap()).runs, store: Store::create(store).unwrap() }
    }

    /// Commits results of all runs except those that `fails` or `waits` selects, and those that need one of these. Runs that
    /// `fails` selects fail.
    pub fn finish(&self, fails: impl Fn(&PlannedRun) -> bool, waits: impl Fn(&PlannedRun) -> bool) {
        let mut missing: HashSet<RunId> = HashSet::new();
        for planned in &self.runs {
            let is_blocked = planned.run.inputs.iter().any(|input| missing.contains(input));
            if !is_blocked && !fails(planned) && !waits(planned) {
                if self.store.run(&planned.run.id).result().unwrap().is_none() {
                    self.commit(planned);
                }
                continue;
            }
            missing.insert(planned.run.id.clone());
            if !is_blocked && fails(planned) {
                let failed = End::Failed { message: "the loss became NaN in epoch 3".to_string() };
                self.claim(planned).end(&failed).unwrap();
            }
        }
    }

    fn claim(&self, planned: &PlannedRun) -> Attempt {
        let directory = self.store.run(&planned.run.id);
        directory.prepare(&planned.run, &planned.label.to_string()).unwrap();
        Attempt::claim(&directory, 4).unwrap()
    }

    /// Commits the result of a run with a made-up host and time.
    fn commit(&self, planned: &PlannedRun) {
        let attempt = self.claim(planned);
        if !matches!(planned.run.kind(), Kind::Connect) {
            attempt.write_metrics(&metrics(planned)).unwrap();
        }
        let processors = Processors { ranks: 1, threads: 2 };
        assert!(attempt.commit(outcome(planned), None, processors, None).unwrap());
        attempt.end(&End::Finished).unwrap();
        let directory = self.store.run(&planned.run.id);
        let result = RunResult {
            seconds: 60.0 + 10.0 * pseudorandom(planned),
            host: "node-1".to_string(),
            usage: None,
            finished: jiff::Timestamp::UNIX_EPOCH,
            ..directory.result().unwrap().unwrap()
        };
        files::write_atomic(&directory.result_path(), &files::seal(&result)).unwrap();
    }
}

/// Returns a number from 0 to 1 in steps of 1/16, which is pseudorandom because it follows from the identity of the run.
fn pseudorandom(planned: &PlannedRun) -> f64 {
    f64::from(u8::from_str_radix(&planned.run.id.as_str()[..1], 16).unwrap()) / 16.0
}

/// Returns an error in percent: about 4 for a dense network, rising with the level, and ten points more for a mask alone.
fn test_error(planned: &PlannedRun) -> f64 {
    let increase = match planned.label.inherit {
        Some(Inherit::Mask) => 10.0,
        Some(Inherit::Sign) => 1.5,
        _ => 0.0,
    };
    4.0 + 0.5 * f64::from(planned.label.level) + increase + pseudorandom(planned)
}

/// Returns the remaining ratio. The product is computed step by step, since the last bit of `powi` depends on the machine.
fn remaining_ratio(label: &Label) -> f64 {
    (0..label.level).fold(1.0, |ratio, _| 0.5 * ratio)
}

pub(crate) fn metrics(planned: &PlannedRun) -> Vec<EpochMetrics> {
    let epoch = |epoch: u32| EpochMetrics {
        epoch,
        lr: 0.1,
        train_loss: 2.0 / f64::from(epoch),
        train_error: 40.0 / f64::from(epoch),
        test_loss: 2.5 / f64::from(epoch),
        test_error: test_error(planned) + 4.0 - f64::from(epoch),
    };
    (1..=4).map(epoch).collect()
}

pub(crate) fn outcome(planned: &PlannedRun) -> Outcome {
    let (remaining_ratio, test_error, test_loss) = (remaining_ratio(&planned.label), test_error(planned), 0.25);
    match &planned.run.settings {
        Settings::Ticket(_) | Settings::Import(_) => {
            let layer = |(name, share): (&str, f64)| LayerSurvivors {
                name: name.to_string(),
                survivors: (1024.0 * remaining_ratio * share) as u64,
                prunable: 1024,
            };
            let layers = [("conv1.weight", 1.0), ("fc.weight", 0.5)].map(layer).to_vec();
            let survivors = layers.iter().map(|layer| layer.survivors).sum();
            let ticket = TicketOutcome { remaining_ratio, survivors, prunable: 2048, test_error, test_loss, layers };
            Outcome::Ticket(ticket)
        }
        Settings::Transfer(_) => Outcome::Transfer(TransferOutcome { remaining_ratio, test_error, test_loss }),
        Settings::Connect(_) => Outcome::Connect(ConnectOutcome { remaining_ratio, path: path(planned) }),
        Settings::Matrix(matrix) => {
            let pair = |ends| PairOutcome { ends, path: path(planned) };
            let pairs = matrix.ends(planned.run.inputs.len() as u32).map(pair).collect();
            Outcome::Matrix(MatrixOutcome { remaining_ratio, pairs })
        }
        Settings::Plane(_) => Outcome::Plane(plane(planned)),
    }
}

/// Returns a path with a high barrier between transfers of a mask alone; alignment halves barriers.
fn path(planned: &PlannedRun) -> PathOutcome {
    let height = match (planned.label.between, planned.label.inherit) {
        (Some(Between::NormInit), _) => 3.0,
        (_, Some(Inherit::Mask)) => 60.0,
        _ => 1.0,
    };
    let aligned = planned.label.axes.iter().any(|(axis, value)| axis.ends_with("align") && value == "weights");
    let barrier = if aligned { height / 2.0 } else { height } + pseudorandom(planned);
    let point = |(t, part): (f64, f64)| PathPoint {
        t,
        test_error: 5.0 + part * barrier,
        test_loss: 0.25 + part * barrier / 100.0,
        train: Some(TrainScore { train_error: 1.0 + part * barrier, train_loss: 0.125 }),
    };
    let points = [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.75, 0.75), (1.0, 0.0)].map(point).to_vec();
    PathOutcome { points, barrier, similarity: Some(Similarity { sign_agreement: 0.75, mask_overlap: 0.5 }) }
}

fn plane(planned: &PlannedRun) -> PlaneOutcome {
    let ticks: Vec<f64> = (0..5).map(|at| f64::from(at) * 0.5 - 0.5).collect();
    let point = |at: u32| PlanePoint {
        test_error: test_error(planned) + 8.0 * f64::from(at % 5),
        test_loss: 0.25 + f64::from(at / 5),
        train: None,
    };
    let networks = [(0.0, 0.0), (1.0, 0.0), (0.5, 1.0)];
    let points = (0..25).map(point).collect();
    PlaneOutcome { remaining_ratio: remaining_ratio(&planned.label), networks, x: ticks.clone(), y: ticks, points }
}
