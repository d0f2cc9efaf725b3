//! Made-up studies with numbers like those of a real study on the digits.

use winsign_core::grouping::{distinct, grouped};
use winsign_core::results::{
    ConnectOutcome, LayerSurvivors, MatrixOutcome, Outcome, PairOutcome, PathOutcome, PathPoint, PlaneOutcome,
    PlanePoint, Processors, RunResult, Similarity, TicketOutcome, TrainScore, TransferOutcome,
};
use winsign_core::settings::*;
use winsign_core::{Run, RunId};
use winsign_sweep::Axes;
use winsign_sweep::plan::{Label, PlannedRun, RunState};

/// The runs of a plan, with their states and results.
pub struct Study {
    pub runs: Vec<(PlannedRun, RunState, Option<RunResult>)>,
}

/// The numbers of a transfer: method, inheritance, mean and standard deviation of the error, and mean barrier.
type Numbers = (Method, Inherit, f64, f64, f64);

const DIGITS: [Numbers; 8] = [
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
    /// Returns 12 levels of LRR and AWS, with four kinds of transfers of the last level to three seeds each, and all paths. Every
    /// run is done.
    pub fn digits() -> Study {
        Study::new(&[12], &[2, 3, 4], &[Axes::new()])
    }

    /// Returns 12 levels of each method and combination of axes, with transfers of each of `levels` and all paths. Every run is
    /// done.
    pub fn new(levels: &[u32], seeds: &[u64], combinations: &[Axes]) -> Study {
        let mut study = Study { runs: Vec::new() };
        for method in [Method::Lrr, Method::Aws] {
            for axes in combinations {
                let mut tickets: Vec<RunId> = Vec::new();
                for level in 0..=12 {
                    tickets.push(study.add_ticket(method, level, tickets.last(), axes));
                }
                for &level in levels {
                    let ticket = &tickets[level as usize];
                    for numbers in DIGITS.iter().filter(|numbers| numbers.0 == method) {
                        study.add_transfers(numbers, level, ticket, seeds, axes);
                    }
                    study.add_norm_init(method, level, ticket, axes);
                }
            }
        }
        study
    }

    /// Returns transfers of the last level of tickets with these seeds.
    pub fn with_tickets(tickets: &[u64], seeds: &[u64]) -> Study {
        let axes = |seed: &u64| vec![(TICKET_SEED.to_string(), seed.to_string())];
        Study::new(&[12], seeds, &tickets.iter().map(axes).collect::<Vec<_>>())
    }

    /// Sets the test errors of transfers, as a function of their labels.
    pub fn with_errors(mut self, error: impl Fn(&Label) -> f64) -> Study {
        for (planned, _, result) in &mut self.runs {
            if let Some(Outcome::Transfer(transfer)) = result.as_mut().map(|result| &mut result.outcome) {
                transfer.test_error = error(&planned.label);
            }
        }
        self
    }

    /// Sets the barriers of paths, as a function of their labels.
    pub fn with_barriers(mut self, barrier: impl Fn(&Label) -> f64) -> Study {
        for (planned, _, result) in &mut self.runs {
            if let Some(Outcome::Connect(connect)) = result.as_mut().map(|result| &mut result.outcome) {
                connect.path.barrier = barrier(&planned.label);
            }
        }
        self
    }

    /// Adds dense networks with these seeds, with errors of 2.0 and up. Every run is done.
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

    /// Replaces the paths between seeds by blocks of matrices with the same numbers: one for the first `rows` seeds, one for the
    /// others, and one for the pairs between them.
    pub fn in_blocks(mut self, rows: usize) -> Study {
        let between_seeds = |planned: &PlannedRun| planned.label.between == Some(Between::Seeds);
        let (paths, others): (Vec<_>, Vec<_>) = self.runs.drain(..).partition(|(planned, ..)| between_seeds(planned));
        self.runs = others;
        let groups = grouped(paths, |(planned, ..)| {
            let label = &planned.label;
            (label.method, label.level, label.inherit, label.axes.clone())
        });
        for paths in groups {
            self.add_blocks(&paths, rows);
        }
        self
    }

    fn add_blocks(&mut self, paths: &[(PlannedRun, RunState, Option<RunResult>)], rows: usize) {
        let ends = distinct(paths.iter().flat_map(|(planned, ..)| planned.run.inputs.clone()));
        let (first, others) = ends.split_at(rows.min(ends.len()));
        let mut blocks = vec![(first, &[][..]), (others, &[][..])];
        blocks.retain(|(rows, _)| rows.len() > 1);
        if !others.is_empty() {
            blocks.push((first, others));
        }
        for (index, (rows, columns)) in blocks.iter().enumerate() {
            let inputs: Vec<RunId> = rows.iter().chain(*columns).cloned().collect();
            let Settings::Connect(path) = connect(Between::Seeds) else { unreachable!("a path") };
            let matrix = Matrix { path, rows: rows.len() as u32 };
            let path = |(a, b): (u32, u32)| find_path(paths, [&inputs[a as usize], &inputs[b as usize]]);
            let ends = matrix.ends(inputs.len() as u32);
            let pairs = ends.map(|ends| PairOutcome { ends, path: path(ends).clone() }).collect();
            let label = Label {
                block: Some((index as u32 + 1, blocks.len() as u32)),
                seeds: vec![],
                ..paths[0].0.label.clone()
            };
            let outcome = MatrixOutcome { remaining_ratio: remaining(label.level), pairs };
            self.push(Settings::Matrix(matrix), inputs, label, Outcome::Matrix(outcome));
        }
    }

    /// Adds the plane through the first three transfers of every row with at least three transfers.
    pub fn add_planes(&mut self) {
        let transfers: Vec<(Run, Label)> = (self.runs.iter())
            .filter(|(planned, ..)| planned.run.kind() == Kind::Transfer)
            .map(|(planned, ..)| (planned.run.clone(), planned.label.clone()))
            .collect();
        let rows = grouped(transfers, |(_, label)| (label.method, label.level, label.inherit, label.axes.clone()));
        for row in rows.iter().filter(|row| row.len() >= 3) {
            let inputs = row[..3].iter().map(|(run, _)| run.id.clone()).collect();
            let label = Label {
                between: Some(Between::Plane),
                seeds: row[..3].iter().map(|(_, label)| label.seeds[0]).collect(),
                ..row[0].1.clone()
            };
            let settings = Settings::Plane(Plane {
                problem: PROBLEM,
                masks: Masks::Same,
                points: 9,
                margin: 0.25,
                batch: 64,
                reestimation_batches: None,
                sets: Default::default(),
                precision: Default::default(),
            });
            let outcome = plane(label.level);
            self.push(settings, inputs, label, Outcome::Plane(outcome));
        }
    }

    /// Adds paths between all tickets of a level, with barriers of 1 within a method and of 5 across two.
    pub fn join_tickets(&mut self, level: u32) {
        let is_ticket = |planned: &PlannedRun| planned.run.kind() == Kind::Ticket && planned.label.level == level;
        let tickets = self.runs.iter().filter(|(planned, ..)| is_ticket(planned));
        let tickets: Vec<(Option<Method>, RunId)> =
            tickets.map(|(planned, ..)| (planned.label.method, planned.run.id.clone())).collect();
        for (b, (method_b, run_b)) in tickets.iter().enumerate() {
            for (method_a, run_a) in &tickets[..b] {
                let one_method = label(Method::Lrr, level, None, Some(Between::Tickets), Vec::new(), &Vec::new());
                let outcome = path(5.0, 5.0, if method_a == method_b { 1.0 } else { 5.0 }, level);
                let ends = vec![run_a.clone(), run_b.clone()];
                let label = Label { method: None, ..one_method };
                self.push(connect(Between::Tickets), ends, label, Outcome::Connect(outcome));
            }
        }
    }

    /// Removes the results of some runs, and sets their state.
    pub fn unfinish(&mut self, new_state: RunState, which: impl Fn(&PlannedRun) -> bool) {
        for (planned, state, result) in &mut self.runs {
            if which(planned) {
                *state = new_state;
                *result = None;
            }
        }
    }

    fn add_ticket(&mut self, method: Method, level: u32, input: Option<&RunId>, axes: &Axes) -> RunId {
        let settings = Settings::Ticket(Ticket {
            problem: PROBLEM,
            method,
            level,
            prune_ratio: (level > 0).then_some(0.2),
            rewind_epoch: None,
            training: training(axes),
            seeds: Seeds::from(ticket_seed(axes)),
        });
        let outcome = Outcome::Ticket(TicketOutcome {
            remaining_ratio: remaining(level),
            survivors: (19_144.0 * remaining(level)) as u64,
            prunable: 19_144,
            test_error: 3.0 + f64::from(level) / 8.0,
            test_loss: 0.1,
            layers: layers(level),
        });
        let seeds = vec![Seeds::from(ticket_seed(axes))];
        self.push(
            settings,
            input.cloned().into_iter().collect(),
            label(method, level, None, None, seeds, axes),
            outcome,
        )
    }

    /// Adds transfers and the paths between them. Errors are evenly spaced around the mean, one standard deviation apart, so
    /// that three of them have exactly that standard deviation.
    fn add_transfers(&mut self, numbers: &Numbers, level: u32, ticket: &RunId, seeds: &[u64], axes: &Axes) {
        let &(method, inherit, mean, std, barrier) = numbers;
        // Errors grow in proportion to the level.
        let severity = f64::from(level) / 12.0;
        let centre = (seeds.len() - 1) as f64 / 2.0;
        let spread = |index: usize| (index as f64 - centre) / centre.max(1.0);
        // The means of tickets with successive seeds are one standard deviation apart.
        let mean = mean + std * (ticket_seed(axes) as f64 - 1.0);
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

    fn add_norm_init(&mut self, method: Method, level: u32, ticket: &RunId, axes: &Axes) {
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

const TICKET_SEED: &str = "ticket.seed";

fn ticket_seed(axes: &Axes) -> u64 {
    axes.iter().find(|(name, _)| name == TICKET_SEED).map_or(1, |(_, seed)| seed.parse().expect("a seed"))
}

/// Returns the seed of the ticket of a run.
pub fn ticket_of(label: &Label) -> u64 {
    ticket_seed(&label.axes)
}

const PROBLEM: Problem = Problem::new(Dataset::Digits, Architecture::ResNet8);

/// Returns the remaining ratio of a level.
pub fn remaining(level: u32) -> f64 {
    // The product is computed step by step, since the compiler may evaluate `powi` of a constant with another last bit.
    (0..level).fold(1.0, |ratio, _| 0.8 * ratio)
}

/// Returns settings that differ between combinations of axes, as in a sweep, so that their runs are different.
fn training(axes: &Axes) -> Training {
    let settings = axes.iter().find(|(name, _)| name != TICKET_SEED);
    let lr = settings.and_then(|(_, value)| value.parse().ok()).unwrap_or(0.1);
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

/// Returns the measured path between two runs.
fn find_path<'p>(paths: &'p [(PlannedRun, RunState, Option<RunResult>)], ends: [&RunId; 2]) -> &'p PathOutcome {
    let connects = |planned: &PlannedRun| ends.iter().all(|end| planned.run.inputs.contains(end));
    let (.., result) = paths.iter().find(|(planned, ..)| connects(planned)).expect("every pair has a path");
    match result.as_ref().map(|result| &result.outcome) {
        Some(Outcome::Connect(connect)) => &connect.path,
        _ => unreachable!("paths are measured"),
    }
}

/// Returns a path whose errors form an arch over the straight line between the two end errors.
fn path(error_a: f64, error_b: f64, height: f64, level: u32) -> ConnectOutcome {
    let points = (0..=10).map(|index| {
        let t = f64::from(index) / 10.0;
        let arch = 1.0 - (2.0 * t - 1.0).powi(4);
        let test_error = t * error_a + (1.0 - t) * error_b + height * arch;
        PathPoint { t, test_error, test_loss: 0.1 + test_error / 100.0, train: Some(train(test_error)) }
    });
    let similarity = Some(Similarity { sign_agreement: 1.0 / (1.0 + height / 10.0), mask_overlap: 0.75 });
    let path = PathOutcome { points: points.collect(), barrier: height, similarity };
    ConnectOutcome { remaining_ratio: remaining(level), path }
}

/// Returns the score on training images: half of the test error.
fn train(test_error: f64) -> TrainScore {
    TrainScore { train_error: test_error / 2.0, train_loss: test_error / 200.0 }
}

/// Returns three tensors; larger tensors lose a larger fraction of their weights.
fn layers(level: u32) -> Vec<LayerSurvivors> {
    let sizes = [("conv1.weight", 72, 0.2), ("layer1.0.conv1.weight", 576, 0.5), ("layer2.0.conv1.weight", 4_608, 1.0)];
    let layer = |(name, prunable, part): (&str, u64, f64)| LayerSurvivors {
        name: name.to_string(),
        survivors: (prunable as f64 * (1.0 - part * (1.0 - remaining(level)))) as u64,
        prunable,
    };
    sizes.into_iter().map(layer).collect()
}

/// Returns a plane whose errors form a bowl around the middle of the three networks.
fn plane(level: u32) -> PlaneOutcome {
    let networks = [(0.0, 0.0), (4.0, 0.0), (2.0, 3.0)];
    let at = |low: f64, high: f64| (0..9).map(move |index| low + (high - low) * f64::from(index) / 8.0);
    let (x, y): (Vec<f64>, Vec<f64>) = (at(-1.0, 5.0).collect(), at(-0.75, 3.75).collect());
    let point = |x: f64, y: f64| {
        let test_error = 2.0 + 4.0 * ((x - 2.0).powi(2) + (y - 1.0).powi(2));
        PlanePoint { test_error, test_loss: test_error / 50.0, train: Some(train(test_error)) }
    };
    let points = y.iter().flat_map(|&y| x.iter().map(move |&x| point(x, y))).collect();
    PlaneOutcome { remaining_ratio: remaining(level), networks, x, y, points }
}
