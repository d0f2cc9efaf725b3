//! Tests of the evaluation with real networks: against a plain loop, and with interruptions.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tch::{Kind, Tensor};
use winsign_core::attempt::{Attempt, End};
use winsign_core::settings::{Architecture, Between, Connect, Dataset, Matrix, Plane, Problem, Sets, Settings};
use winsign_core::{Run, Store};
use winsign_data::Split;

use super::measure::{Evaluator, Rule, Scores};
use super::*;
use crate::comm::threads::{Threads, on_ranks};
use crate::comm::{Comm, Place, Ranks};
use crate::data::batches::plain_batches;
use crate::data::{self, Data};
use crate::model::{Mode, Network};
use crate::session::{ExecOptions, Session};
use crate::train::evaluate::{Score, mean_momentum, reestimation_batches, update_statistics};

const PROBLEM: Problem = Problem::new(Dataset::Digits, Architecture::ResNet8);
/// The size of a batch: large, so that a pass is short.
const BATCH: u32 = 480;

fn connect(points: u32, refine: u32) -> Connect {
    Connect {
        problem: PROBLEM,
        between: Between::Seeds,
        masks: Masks::Same,
        points,
        refine,
        batch: BATCH,
        reestimation_batches: None,
        sets: Sets::Both,
        align: Default::default(),
        precision: Default::default(),
    }
}

/// Begins the next attempt at a path, on one of several ranks.
fn session(folder: &Path, comm: Option<&Threads>, stop: &Arc<AtomicBool>) -> Session {
    let is_root = comm.is_none_or(|comm| comm.place().is_root());
    let attempt = is_root.then(|| {
        let run = Run::new(Settings::Connect(connect(3, 0)), vec![]);
        let directory = Store::create(folder).unwrap().run(&run.id);
        directory.prepare(&run, "a path").unwrap();
        Attempt::claim(&directory, 0).unwrap()
    });
    let ranks = match comm {
        Some(comm) => Ranks { comm: Box::new(comm.clone()), watch: None },
        None => Ranks::alone(),
    };
    let options = ExecOptions { checkpoint_every: Duration::MAX, stop: Arc::clone(stop), ..ExecOptions::default() };
    Session::new(ranks, attempt, vec![], options)
}

/// Ends the attempt, so that the next one can begin.
fn end(session: Session) {
    if let Some(attempt) = session.into_parts().1 {
        attempt.end(&End::Interrupted).unwrap();
    }
}

fn alone(folder: &tempfile::TempDir) -> Session {
    session(folder.path(), None, &Arc::default())
}

fn prepared() -> (Network, Data) {
    (Network::new(PROBLEM), data::load(PROBLEM.dataset, "".as_ref(), 1).unwrap())
}

fn networks(network: &Network, count: u64) -> Vec<Weights> {
    (1..=count).map(|seed| Weights::initialize(&network.layout, seed)).collect()
}

/// Evaluates a network in a plain loop over `batches` batches and all images.
fn evaluate_plainly(network: &Network, data: &Data, parameters: &Tensor, batches: usize, split: Split) -> Score {
    let statistics = network.layout.fresh_statistics(Kind::Float);
    let all = reestimation_batches(data, BATCH);
    let epoch = all.epoch(0);
    for (seen, batch) in (0..).zip(epoch.shares(0, Place::ALONE).take(batches)) {
        update_statistics(network, parameters, &statistics, &batch.unwrap().images, mean_momentum(seen));
    }
    let (mut loss, mut wrong, mut count) = (0.0, 0.0, 0.0);
    for (_, batch) in plain_batches(data, split, 0, Place::ALONE) {
        let batch = batch.unwrap();
        let logits = tch::no_grad(|| network.logits(parameters, &statistics, Mode::Evaluate, &batch.images));
        let logits = logits.to_kind(Kind::Double).log_softmax(1, None);
        let label_logits = logits.gather(1, &batch.labels.unsqueeze(1), false);
        loss -= label_logits.sum(Kind::Double).double_value(&[]);
        wrong += logits.argmax(1, false).ne_tensor(&batch.labels).sum(Kind::Double).double_value(&[]);
        count += batch.labels.size()[0] as f64;
    }
    Score { loss: loss / count, error: 100.0 * wrong / count }
}

#[test]
fn scores_equal_those_of_a_plain_evaluation() {
    let (network, data) = prepared();
    let parameters = networks(&network, 1).remove(0).parameters;
    let scores = |batches, sets| {
        let folder = tempfile::tempdir().unwrap();
        let mut session = alone(&folder);
        let rule = Rule { batch: BATCH, batches, sets };
        let mut evaluator = Evaluator::new(&mut session, &network, &data, rule, 1, None).unwrap();
        evaluator.measure(1, |_| parameters.shallow_clone()).unwrap().remove(0)
    };
    let all = reestimation_batches(&data, BATCH).steps();
    assert_eq!(all, 3);
    let full = scores(None, Sets::Both);
    for (found, batches) in [(full, 3), (scores(Some(2), Sets::Both), 2), (scores(Some(100), Sets::Both), 3)] {
        for (found, split) in [(found.test, Split::Test), (found.train.unwrap(), Split::Train)] {
            let expected = evaluate_plainly(&network, &data, &parameters, batches, split);
            assert_eq!(found.error, expected.error, "{split}, {batches} batches");
            assert!((found.loss - expected.loss).abs() < 1e-5, "{split}: {found:?} {expected:?}");
        }
    }
    assert_ne!(scores(Some(2), Sets::Both), full);
    assert_eq!(scores(None, Sets::Test), Scores { train: None, ..full });
}

#[test]
fn paths_of_a_matrix_equal_single_paths() {
    let (network, data) = prepared();
    let networks = networks(&network, 3);
    let settings = connect(4, 1);
    for rows in [3, 1] {
        let folder = tempfile::tempdir().unwrap();
        let matrix = Matrix { path: settings.clone(), rows };
        let found = super::matrix(&mut alone(&folder), &network, &data, &networks, &matrix).unwrap();
        let expected = if rows == 3 { vec![(0, 1), (0, 2), (1, 2)] } else { vec![(0, 1), (0, 2)] };
        assert_eq!(found.pairs.iter().map(|pair| pair.ends).collect::<Vec<_>>(), expected);
        for pair in &found.pairs {
            let (a, b) = (&networks[pair.ends.0 as usize], &networks[pair.ends.1 as usize]);
            let folder = tempfile::tempdir().unwrap();
            let single = super::path(&mut alone(&folder), &network, &data, (a, b), &settings).unwrap();
            assert_eq!(pair.path, single.path);
            assert!((5..=6).contains(&single.path.points.len()));
        }
    }
}

#[test]
fn ends_of_a_path_and_corners_of_a_plane_are_the_networks() {
    let (network, data) = prepared();
    let networks = networks(&network, 3);
    let score_of = |which: usize| evaluate_plainly(&network, &data, &networks[which].parameters, 3, Split::Train);
    let folder = tempfile::tempdir().unwrap();
    let ends = (&networks[0], &networks[1]);
    let path = super::path(&mut alone(&folder), &network, &data, ends, &connect(2, 0)).unwrap().path;
    assert_eq!(path.points.iter().map(|point| point.t).collect::<Vec<_>>(), [0.0, 1.0]);
    for (point, which) in path.points.iter().zip([1, 0]) {
        assert_eq!(point.train.unwrap().train_error, score_of(which).error);
    }

    let settings = Plane {
        problem: PROBLEM,
        masks: Masks::Same,
        points: 2,
        margin: 0.0,
        batch: BATCH,
        reestimation_batches: None,
        sets: Sets::Both,
        precision: Default::default(),
    };
    let folder = tempfile::tempdir().unwrap();
    let corners = [0, 1, 2].map(|which: usize| networks[which].copy());
    let plane = super::plane(&mut alone(&folder), &network, &data, corners, &settings).unwrap();
    assert_eq!((plane.x.len(), plane.y.len(), plane.points.len()), (2, 2, 4));
    // The lower corners of the grid are A and B; C is above, between them.
    let found: Vec<f64> = plane.points[..2].iter().map(|point| point.train.unwrap().train_error).collect();
    assert_eq!(found, [score_of(0).error, score_of(1).error]);
}

/// Rounds are small, and a stop is requested after every few networks.
#[test]
fn interrupted_measurement_resumes_with_the_same_numbers() {
    let (network, data) = prepared();
    let networks = networks(&network, 5);
    let rule = Rule { batch: BATCH, batches: None, sets: Sets::Both };
    let measure = |session: &mut Session, on_network: &dyn Fn()| -> Result<Vec<Scores>> {
        let mut evaluator = Evaluator::new(session, &network, &data, rule, 5, None)?;
        evaluator.limit_rounds(2);
        let network_at = |which: usize| {
            on_network();
            networks[which].parameters.shallow_clone()
        };
        // There are two requests, as when the second depends on the first.
        let first = evaluator.measure(3, network_at)?;
        let rest = evaluator.measure(2, |which| network_at(3 + which))?;
        Ok([first, rest].concat())
    };
    let folder = tempfile::tempdir().unwrap();
    let evaluations = Cell::new(0);
    let uninterrupted = measure(&mut alone(&folder), &|| evaluations.set(evaluations.get() + 1)).unwrap();
    let all = evaluations.get();
    assert_eq!(all, 5 * (3 + 3 + 12), "batches to estimate, to test, and to test on training images");

    for limit in [1, 5, 13] {
        let folder = tempfile::tempdir().unwrap();
        let (mut attempts, mut total) = (0, 0);
        let found = loop {
            let stop = Arc::new(AtomicBool::new(false));
            let evaluations = Cell::new(0);
            let mut session = session(folder.path(), None, &stop);
            let found = measure(&mut session, &|| {
                evaluations.set(evaluations.get() + 1);
                // A round of two networks never finishes a batch after one evaluation, so allow at least two.
                stop.store(evaluations.get() >= limit.max(2), Ordering::Relaxed);
            });
            end(session);
            attempts += 1;
            total += evaluations.get();
            match found {
                Ok(found) => break found,
                Err(Error::Interrupted) => assert!(attempts < 100, "there is no progress"),
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(found, uninterrupted, "stopped after {limit}");
        assert!(attempts > 5 && total < 2 * all, "{attempts} attempts, {total} evaluations");
    }
}

/// Processors that round differently may align networks differently. Then an attempt cannot resume from the checkpoint of
/// another one.
#[test]
fn differently_aligned_networks_are_measured_again() {
    let (network, data) = prepared();
    let networks = networks(&network, 2);
    let rule = Rule { batch: BATCH, batches: None, sets: Sets::Test };
    let measure = |folder: &tempfile::TempDir, digest: &str, limit: usize| {
        let stop = Arc::new(AtomicBool::new(false));
        let evaluations = Cell::new(0);
        let mut session = session(folder.path(), None, &stop);
        let digest = Some(digest.to_string());
        let found = Evaluator::new(&mut session, &network, &data, rule, 2, digest).and_then(|mut evaluator| {
            evaluator.measure(2, |which| {
                evaluations.set(evaluations.get() + 1);
                stop.store(evaluations.get() >= limit, Ordering::Relaxed);
                networks[which].parameters.shallow_clone()
            })
        });
        end(session);
        (evaluations.get(), found.is_ok())
    };
    for (second, expected) in [("one", 12 - 4), ("another", 12)] {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(measure(&folder, "one", 5), (5, false));
        // Two batches were done for both networks, and the third for one of them.
        assert_eq!(measure(&folder, second, usize::MAX), (expected, true), "{second}");
    }
}

fn are_close(found: &[Scores], expected: &[Scores]) -> bool {
    let close = |one: Score, other: Score| {
        (one.loss - other.loss).abs() < 1e-4 * other.loss && (one.error - other.error).abs() < 0.5
    };
    found
        .iter()
        .zip(expected)
        .all(|(one, other)| close(one.test, other.test) && close(one.train.unwrap(), other.train.unwrap()))
}

/// Two ranks estimate statistics on half of the batches each, and combine them. The test also interrupts and resumes
/// them, with two ranks and with one.
#[test]
fn scores_of_several_ranks_equal_those_of_one() {
    let (network, _) = prepared();
    let networks: Vec<Weights> = networks(&network, 3);
    let parameters: Vec<Vec<f32>> =
        networks.iter().map(|weights| Vec::try_from(&weights.parameters).unwrap()).collect();
    let rule = Rule { batch: BATCH, batches: None, sets: Sets::Both };
    let measure = |folder: &Path, comm: Option<&Threads>, limit: usize| -> Result<Vec<Scores>> {
        let (network, data) = prepared();
        let stop = Arc::new(AtomicBool::new(false));
        let mut session = session(folder, comm, &stop);
        let evaluations = Cell::new(0);
        let found = Evaluator::new(&mut session, &network, &data, rule, 3, None).and_then(|mut evaluator| {
            evaluator.measure(3, |which| {
                evaluations.set(evaluations.get() + 1);
                let stops = evaluations.get() >= limit && comm.is_none_or(|comm| comm.place().rank == 1);
                stop.store(stops, Ordering::Relaxed);
                Tensor::from_slice(&parameters[which])
            })
        });
        end(session);
        found
    };
    let folder = || tempfile::tempdir().unwrap();
    let one = measure(folder().path(), None, usize::MAX).unwrap();
    let fresh = folder();
    let two = on_ranks(2, |comm| measure(fresh.path(), Some(comm), usize::MAX).unwrap());
    assert_eq!(two[0], two[1]);
    assert!(are_close(&two[0], &one), "{two:?} {one:?}");

    // Interrupt the estimation, the test images, and the training images.
    for limit in [3, 8, 15] {
        let stopped = folder();
        let results = on_ranks(2, |comm| measure(stopped.path(), Some(comm), limit).map(|_| ()));
        assert!(results.iter().all(|result| matches!(result, Err(Error::Interrupted))), "{limit}");
        let resumed = on_ranks(2, |comm| measure(stopped.path(), Some(comm), usize::MAX).unwrap());
        assert_eq!(resumed, two, "{limit}");

        let stopped = folder();
        on_ranks(2, |comm| measure(stopped.path(), Some(comm), limit).map(|_| ()));
        let alone = measure(stopped.path(), None, usize::MAX).unwrap();
        assert!(are_close(&alone, &one), "{limit}: {alone:?} {one:?}");
    }
}

#[test]
fn loss_that_is_not_finite_is_reported_with_its_place() {
    let (network, data) = prepared();
    let networks = networks(&network, 3);
    // One parameter is infinite, so that the loss is not finite.
    let _ = networks[2].parameters.narrow(0, 0, 1).fill_(f64::from(f32::INFINITY));
    let folder = tempfile::tempdir().unwrap();
    let matrix = Matrix { path: connect(3, 0), rows: 3 };
    let error = super::matrix(&mut alone(&folder), &network, &data, &networks, &matrix).unwrap_err();
    assert_eq!(error.to_string(), "the loss is not finite at t = 0 between the inputs 1 and 3");
    let folder = tempfile::tempdir().unwrap();
    let ends = (&networks[2], &networks[0]);
    let error = super::path(&mut alone(&folder), &network, &data, ends, &connect(3, 0)).unwrap_err();
    assert_eq!(error.to_string(), "the loss is not finite at t = 1");
}

#[test]
fn similarity_compares_signs_where_both_weights_survive() {
    let (network, data) = prepared();
    let [a, mut b] = [1, 2].map(|seed| Weights::initialize(&network.layout, seed));
    let prunable = network.layout.prunable();
    let agreement = |a: &Weights, b: &Weights, from: i64, to: i64| {
        let part = |weights: &Weights| weights.parameters.slice(0, from, to, 1).sign();
        part(a).eq_tensor(&part(b)).sum(Kind::Double).double_value(&[]) / (to - from) as f64
    };
    let dense = similarity(&network.layout, &a, &b);
    assert_eq!((dense.sign_agreement, dense.mask_overlap), (agreement(&a, &b, 0, prunable), 1.0));
    assert!((0.45..0.55).contains(&dense.sign_agreement));

    let mut a = a;
    let _ = a.mask.narrow(0, 0, 4_000).zero_();
    let _ = b.mask.narrow(0, 10_000, prunable - 10_000).zero_();
    a.apply_mask(&network.layout);
    b.apply_mask(&network.layout);
    let pruned = similarity(&network.layout, &a, &b);
    assert_eq!(pruned.mask_overlap, 6_000.0 / prunable as f64);
    assert!((pruned.sign_agreement - agreement(&a, &b, 4_000, 10_000)).abs() < 1e-12);
    assert_eq!(similarity(&network.layout, &a, &a).sign_agreement, 1.0);

    // Networks with different masks can be joined only if the union is requested.
    let folder = tempfile::tempdir().unwrap();
    let mut settings = connect(2, 0);
    let refused = super::path(&mut alone(&folder), &network, &data, (&a, &b), &settings);
    assert!(matches!(refused, Err(Error::DifferentMasks { differing: 13_144 })));
    settings.masks = Masks::Union;
    let folder = tempfile::tempdir().unwrap();
    let joined = super::path(&mut alone(&folder), &network, &data, (&a, &b), &settings).unwrap();
    assert_eq!((joined.remaining_ratio, joined.path.similarity), (1.0, Some(pruned)));
}

#[test]
fn ends_of_an_interpolation_equal_the_tensors() {
    let (a, b) = (Tensor::from_slice(&[0.1f32, -3.0]), Tensor::from_slice(&[0.7f32, 5.0]));
    assert_eq!(interpolate(&a, &b, 1.0), a);
    assert_eq!(interpolate(&a, &b, 0.0), b);
    let quarter = interpolate(&a, &b, 0.25);
    assert!(quarter.allclose(&Tensor::from_slice(&[0.55f32, 3.0]), 1e-6, 0.0, false), "{quarter:?}");
}
