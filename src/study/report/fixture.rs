//! Studies made up for tests, with numbers like those of a real trial on the digits.

use super::{Finding, Report, gather};
use crate::run::results::{
    ConnectOutcome, Outcome, PathOutcome, PathPoint, Processors, RunResult, TicketOutcome, TransferOutcome,
};
use crate::run::settings::*;
use crate::run::{Run, RunId};
use crate::study::plan::{Label, PlannedRun, RunState};
use crate::study::sweep::Axes;

/// A plan with what is known of each of its runs.
pub struct Study {
    pub runs: Vec<(PlannedRun, RunState, Option<RunResult>)>,
}

/// Method, what is transferred, error mean and sample deviation, mean barrier.
type Shape = (Method, Inherit, f64, f64, f64);

const DIGITS: [Shape; 8] = [
    (Method::Lrr, Inherit::Sign, 6.3, 1.3, 0.6),
    (Method::Lrr, Inherit::Mask, 11.7, 2.0, 61.0),
    (Method::Lrr, Inherit::SignNorm, 7.0, 0.8, 1.3),
    (Method::Lrr, Inherit::Retrain, 4.1, 0.3, 0.2),
    (Method::Aws, Inherit::Sign, 2.2, 0.8, 1.0),
    (Method::Aws, Inherit::Mask, 10.8, 3.5, 64.0),
    (Method::Aws, Inherit::SignNorm, 3.0, 0.7, 1.3),
    (Method::Aws, Inherit::Retrain, 1.6, 0.1, 0.4),
];

impl Study {
    /// 12 levels of LRR and AWS; four transfers of the last level to three seeds each; all paths. Every run is done.
    pub fn digits() -> Study {
        Study::new(&[12], &[2, 3, 4], &[Axes::new()])
    }

    /// Twelve levels a method and combination of axes, and everything done with each of `levels`.
    pub fn new(levels: &[u32], seeds: &[u64], combinations: &[Axes]) -> Study {
        let mut study = Study { runs: Vec::new() };
        for method in [Method::Lrr, Method::Aws] {
            for axes in combinations {
                let mut tickets: Vec<RunId> = Vec::new();
                for level in 0..=12 {
                    tickets.push(study.ticket(method, level, tickets.last(), axes));
                }
                for &level in levels {
                    let ticket = &tickets[level as usize];
                    for shape in DIGITS.iter().filter(|shape| shape.0 == method) {
                        study.transfers_and_paths(shape, level, ticket, seeds, axes);
                    }
                    study.norm_init(method, level, ticket, axes);
                }
            }
        }
        study
    }

    pub fn findings(&self) -> Vec<Finding<'_>> {
        self.runs
            .iter()
            .map(|(planned, state, result)| Finding {
                planned,
                state: *state,
                result: result.clone(),
                note: (*state == RunState::Failed).then(|| "the loss became NaN".to_string()),
                curve: None,
                log_end: None,
                store: None,
            })
            .collect()
    }

    pub fn report(&self) -> Report {
        gather("digits", &self.findings())
    }

    /// Adds dense networks of these seeds, with errors of 2.0 and up; every run is done.
    pub fn add_dense(&mut self, seeds: &[u64]) {
        for (index, &seed) in seeds.iter().enumerate() {
            let settings = Settings::Transfer(Transfer {
                problem: PROBLEM,
                inherit: Inherit::Dense,
                flip: 0.0,
                training: training(&Axes::new()),
                seeds: Seeds::from(seed),
            });
            let label = label(Method::Lrr, 0, Some(Inherit::Dense), None, vec![Seeds::from(seed)], &Axes::new());
            let test_error = 2.0 + index as f64;
            let outcome = TransferOutcome { remaining_ratio: 1.0, test_error, test_loss: 0.1 };
            self.push(settings, vec![], Label { method: None, ..label }, Outcome::Transfer(outcome));
        }
    }

    /// Takes the results of some runs away.
    pub fn unfinish(&mut self, now: RunState, which: impl Fn(&PlannedRun) -> bool) {
        for (planned, state, result) in &mut self.runs {
            if which(planned) {
                *state = now;
                *result = None;
            }
        }
    }

    fn ticket(&mut self, method: Method, level: u32, input: Option<&RunId>, axes: &Axes) -> RunId {
        let settings = Settings::Ticket(Ticket {
            problem: PROBLEM,
            method,
            level,
            prune_ratio: (level > 0).then_some(0.2),
            rewind_epoch: None,
            training: training(axes),
            seeds: Seeds::from(1),
        });
        let outcome = Outcome::Ticket(TicketOutcome {
            remaining_ratio: remaining(level),
            survivors: (19_144.0 * remaining(level)) as u64,
            prunable: 19_144,
            test_error: 3.0 + f64::from(level) / 8.0,
            test_loss: 0.1,
            layers: vec![],
        });
        let seeds = vec![Seeds::from(1)];
        self.push(
            settings,
            input.cloned().into_iter().collect(),
            label(method, level, None, None, seeds, axes),
            outcome,
        )
    }

    /// Errors lie evenly around the shape's mean, a deviation apart: three of them have exactly that deviation.
    fn transfers_and_paths(&mut self, shape: &Shape, level: u32, ticket: &RunId, seeds: &[u64], axes: &Axes) {
        let &(method, inherit, mean, std, barrier) = shape;
        // The fewer weights, the more of the error of the last level.
        let severity = f64::from(level) / 12.0;
        let centre = (seeds.len() - 1) as f64 / 2.0;
        let spread = |index: usize| (index as f64 - centre) / centre.max(1.0);
        let mut ends = Vec::new();
        for (index, &seed) in seeds.iter().enumerate() {
            let error = (mean * severity + std * spread(index)).max(0.0);
            let settings = Settings::Transfer(Transfer {
                problem: PROBLEM,
                inherit,
                flip: 0.0,
                training: training(axes),
                seeds: Seeds::from(seed),
            });
            let label = label(method, level, Some(inherit), None, vec![Seeds::from(seed)], axes);
            let outcome = TransferOutcome { remaining_ratio: remaining(level), test_error: error, test_loss: 0.1 };
            ends.push((seed, error, self.push(settings, vec![ticket.clone()], label, Outcome::Transfer(outcome))));
        }
        let pairs: Vec<(usize, usize)> = (0..ends.len()).flat_map(|b| (0..b).map(move |a| (a, b))).collect();
        for (index, &(a, b)) in pairs.iter().enumerate() {
            let (seed_a, error_a, id_a) = ends[a].clone();
            let (seed_b, error_b, id_b) = ends[b].clone();
            let height = barrier * severity * (2.0 + 2.0 * index as f64 / (pairs.len() - 1).max(1) as f64) / 3.0;
            let label = label(
                method,
                level,
                Some(inherit),
                Some(Between::Seeds),
                vec![Seeds::from(seed_a), Seeds::from(seed_b)],
                axes,
            );
            let outcome = path(error_a, error_b, height, level);
            self.push(connect(Between::Seeds), vec![id_a, id_b], label, Outcome::Connect(outcome));
        }
    }

    fn norm_init(&mut self, method: Method, level: u32, ticket: &RunId, axes: &Axes) {
        let height = if method == Method::Lrr { 3.3 } else { 0.0 };
        let label = label(method, level, None, Some(Between::NormInit), Vec::new(), axes);
        let outcome = path(4.4, 6.8, height, level);
        self.push(connect(Between::NormInit), vec![ticket.clone()], label, Outcome::Connect(outcome));
    }

    fn push(&mut self, settings: Settings, inputs: Vec<RunId>, label: Label, outcome: Outcome) -> RunId {
        let run = Run::new(settings, inputs);
        let id = run.id.clone();
        let result = RunResult {
            format: 1,
            id: id.clone(),
            attempt: 1,
            outcome,
            network: None,
            metrics: None,
            data: None,
            seconds: 4.0,
            host: "localhost".to_string(),
            processors: Processors { ranks: 1, threads: 1 },
            usage: None,
            finished: jiff::Timestamp::UNIX_EPOCH,
        };
        self.runs.push((PlannedRun { run, label }, RunState::Done, Some(result)));
        id
    }
}

const PROBLEM: Problem = Problem { dataset: Dataset::Digits, architecture: Architecture::ResNet8 };

pub fn remaining(level: u32) -> f64 {
    // Multiplied step by step: `powi` of a constant may be folded to another last bit than at run time.
    (0..level).fold(1.0, |ratio, _| 0.8 * ratio)
}

/// Combinations of axes must differ in a setting, as they do in a sweep, to be different runs.
fn training(axes: &Axes) -> Training {
    let lr = axes.first().and_then(|(_, value)| value.parse().ok()).unwrap_or(0.1);
    Training {
        epochs: 4,
        batch: 64,
        optimizer: Default::default(),
        lr,
        momentum: 0.9,
        weight_decay: 5e-4,
        schedule: Schedule::Constant,
        precision: Default::default(),
    }
}

fn connect(between: Between) -> Settings {
    Settings::Connect(Connect {
        problem: PROBLEM,
        between,
        masks: Masks::Same,
        points: 11,
        refine: 0,
        batch: 64,
        reestimation_batches: None,
        sets: Default::default(),
        align: Default::default(),
        precision: Default::default(),
    })
}

fn label(
    method: Method,
    level: u32,
    inherit: Option<Inherit>,
    between: Option<Between>,
    seeds: Vec<Seeds>,
    axes: &Axes,
) -> Label {
    Label {
        problem: PROBLEM,
        method: Some(method),
        level,
        rewind_point: None,
        inherit,
        between,
        block: None,
        seeds,
        axes: axes.clone(),
    }
}

/// An arch over the straight line between two errors.
fn path(error_a: f64, error_b: f64, height: f64, level: u32) -> ConnectOutcome {
    let point = |index: u32| {
        let t = f64::from(index) / 10.0;
        let arch = 1.0 - (2.0 * t - 1.0).powi(4);
        PathPoint { t, test_error: t * error_a + (1.0 - t) * error_b + height * arch, test_loss: 0.1, train: None }
    };
    let path = PathOutcome { points: (0..=10).map(point).collect(), barrier: height, similarity: None };
    ConnectOutcome { remaining_ratio: remaining(level), path }
}
