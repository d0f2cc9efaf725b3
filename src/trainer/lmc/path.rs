//! Paths: between two networks, and between all pairs in a block of a barrier matrix.

use safetensors::tensor::Dtype;
use tch::Tensor;
use winsign_core::results::{ConnectOutcome, MatrixOutcome, PairOutcome, PathOutcome, PathPoint, Similarity};
use winsign_core::settings::{Align, Connect, Matrix};

use super::measure::{Evaluator, Rule, Scores};
use super::{Union, align, check_masks, interpolate, similarity};
use crate::Result;
use crate::data::Data;
use crate::model::weights::raw;
use crate::model::{Network, Weights};
use crate::session::Session;
use crate::train::evaluate::Score;

/// Measures the path t·A + (1 − t)·B at evenly spaced t, including both ends, and at further t if refinement is
/// requested.
///
/// Every trained tensor is interpolated. BatchNorm statistics are re-estimated for each point with training batches.
/// Fails with [`DifferentMasks`](crate::Error::DifferentMasks) if the masks differ, unless the union is requested: then
/// the weights of both are interpolated, and the remaining ratio is that of the union.
pub fn path(
    session: &mut Session,
    network: &Network,
    data: &Data,
    (a, b): (&Weights, &Weights),
    connect: &Connect,
) -> Result<ConnectOutcome> {
    let ends = [a, b].map(|weights| weights.on(data.device()));
    let (remaining_ratio, mut paths) = paths(session, network, data, &ends, &[(0, 1)], connect)?;
    Ok(ConnectOutcome { remaining_ratio, path: paths.remove(0) })
}

/// Measures the paths of a block of a matrix between the networks of its inputs. Each network is measured once.
pub fn matrix(
    session: &mut Session,
    network: &Network,
    data: &Data,
    networks: &[Weights],
    matrix: &Matrix,
) -> Result<MatrixOutcome> {
    let ends: Vec<(u32, u32)> = matrix.ends(networks.len() as u32).collect();
    let pairs: Vec<(usize, usize)> = ends.iter().map(|&(a, b)| (a as usize, b as usize)).collect();
    let (remaining_ratio, paths) = paths(session, network, data, networks, &pairs, &matrix.path)?;
    let pairs = ends.into_iter().zip(paths).map(|(ends, path)| PairOutcome { ends, path }).collect();
    Ok(MatrixOutcome { remaining_ratio, pairs })
}

/// A pair of networks that are joined.
struct Pair {
    /// The indices of the two networks.
    ends: (usize, usize),
    /// The parameters of the second network with its units matched to those of the first, if they were aligned. Its
    /// mask and statistics are not kept, because there may be many pairs.
    aligned: Option<Tensor>,
    similarity: Similarity,
    /// The measured points, in ascending order of t.
    points: Vec<PathPoint>,
}

/// Measures the paths between pairs of `networks`, which are on the device of the data; returns the remaining ratio of
/// the union of all joined networks, and the paths.
fn paths(
    session: &mut Session,
    network: &Network,
    data: &Data,
    networks: &[Weights],
    pairs: &[(usize, usize)],
    connect: &Connect,
) -> Result<(f64, Vec<PathOutcome>)> {
    let Joined { mut pairs, remaining_ratio, digest } = match connect.align {
        Align::None => join_unaligned(network, networks, pairs, connect)?,
        Align::Weights => join_aligned(session, network, data, networks, pairs, connect)?,
    };
    let inner = connect.points as usize - 2 + 2 * connect.refine as usize;
    let rule = Rule { batch: connect.batch, batches: connect.reestimation_batches, sets: connect.sets };
    let mut evaluator = Evaluator::new(session, network, data, rule, networks.len() + pairs.len() * inner, digest)?;

    // A network that is an end of many paths is measured once: alignment does not change its function.
    let ends = evaluator.measure(networks.len(), |which| networks[which].parameters.shallow_clone())?;
    for pair in &mut pairs {
        for (t, end) in [(0.0, pair.ends.1), (1.0, pair.ends.0)] {
            pair.add(t, ends[end], networks.len())?;
        }
    }
    let last = f64::from(connect.points - 1);
    let even: Vec<f64> = (1..connect.points - 1).map(|point| f64::from(point) / last).collect();
    measure_at(&mut evaluator, networks, &mut pairs, |_| even.clone())?;
    for _ in 0..connect.refine {
        measure_at(&mut evaluator, networks, &mut pairs, |pair| refined_positions(&pair.points))?;
    }
    let outcome = |pair: Pair| PathOutcome {
        barrier: barrier(&pair.points),
        points: pair.points,
        similarity: Some(pair.similarity),
    };
    Ok((remaining_ratio, pairs.into_iter().map(outcome).collect()))
}

/// The pairs to be measured.
struct Joined {
    pairs: Vec<Pair>,
    /// The remaining ratio of the union of all joined networks.
    remaining_ratio: f64,
    /// A digest of the aligned networks; `None` without alignment.
    digest: Option<String>,
}

fn join_unaligned(
    network: &Network,
    networks: &[Weights],
    pairs: &[(usize, usize)],
    connect: &Connect,
) -> Result<Joined> {
    let mut union = Union::default();
    networks.iter().for_each(|network| union.add(network));
    let join = |&ends: &(usize, usize)| {
        let (a, b) = (&networks[ends.0], &networks[ends.1]);
        check_masks(connect.masks, a, b)?;
        Ok(Pair { ends, aligned: None, similarity: similarity(&network.layout, a, b), points: vec![] })
    };
    let pairs = pairs.iter().map(join).collect::<Result<_>>()?;
    Ok(Joined { pairs, remaining_ratio: union.ratio(), digest: None })
}

/// Aligns the second network of each pair with the first.
fn join_aligned(
    session: &Session,
    network: &Network,
    data: &Data,
    networks: &[Weights],
    pairs: &[(usize, usize)],
    connect: &Connect,
) -> Result<Joined> {
    let layout = &network.layout;
    let (mut union, mut hasher) = (Union::default(), blake3::Hasher::new());
    let mut joined = Vec::with_capacity(pairs.len());
    for &ends in pairs {
        let (a, b) = (&networks[ends.0], &networks[ends.1]);
        check_masks(connect.masks, a, b)?;
        // Matching takes long and is not saved, so check for a request to stop before each pair.
        session.workers().agree(Ok(()))?;
        let aligned = session.compute_at_root(layout, || align::align(layout, a, b))?;
        hasher.update(&raw(&aligned.parameters, Dtype::F32, &[]).bytes);
        let aligned = aligned.on(data.device());
        union.add(a);
        union.add(&aligned);
        let similarity = similarity(layout, a, b);
        joined.push(Pair { ends, aligned: Some(aligned.parameters), similarity, points: vec![] });
    }
    let digest = Some(hasher.finalize().to_hex()[..32].to_string());
    Ok(Joined { pairs: joined, remaining_ratio: union.ratio(), digest })
}

/// Measures every pair at the positions that `positions` returns for it.
fn measure_at(
    evaluator: &mut Evaluator,
    networks: &[Weights],
    pairs: &mut [Pair],
    positions: impl Fn(&Pair) -> Vec<f64>,
) -> Result<()> {
    let places =
        pairs.iter().enumerate().flat_map(|(index, pair)| positions(pair).into_iter().map(move |t| (index, t)));
    let places: Vec<(usize, f64)> = places.collect();
    // Networks are computed when needed: a sum of two flat tensors is cheap, and all of them may not fit in memory.
    let scores = evaluator.measure(places.len(), |which| {
        let (index, t) = places[which];
        pairs[index].interpolate(networks, t)
    })?;
    for ((index, t), scores) in places.into_iter().zip(scores) {
        pairs[index].add(t, scores, networks.len())?;
    }
    Ok(())
}

impl Pair {
    /// Returns the parameters at a position on the path.
    fn interpolate(&self, networks: &[Weights], t: f64) -> Tensor {
        let (a, b) = self.ends;
        let b = self.aligned.as_ref().unwrap_or(&networks[b].parameters);
        interpolate(&networks[a].parameters, b, t)
    }

    /// Inserts a measured point in order; `networks` is the number of networks of the run, for error messages.
    fn add(&mut self, t: f64, scores: Scores, networks: usize) -> Result<()> {
        let scores = scores.finite(|| match networks {
            2 => format!("at t = {t}"),
            _ => format!("at t = {t} between the inputs {} and {}", self.ends.0 + 1, self.ends.1 + 1),
        })?;
        let Score { error, loss } = scores.test;
        let place = self.points.partition_point(|point| point.t < t);
        self.points.insert(place, PathPoint { t, test_error: error, test_loss: loss, train: scores.train() });
        Ok(())
    }
}

/// Returns the positions halfway between the point with the largest test error and its neighbours. Among points with equal
/// errors, which are common with few images, the one with the largest loss counts.
fn refined_positions(points: &[PathPoint]) -> Vec<f64> {
    let worse = |one: &PathPoint, other: &PathPoint| {
        one.test_error.total_cmp(&other.test_error).then(one.test_loss.total_cmp(&other.test_loss))
    };
    let largest = (0..points.len()).max_by(|&one, &other| worse(&points[one], &points[other]));
    let Some(largest) = largest else { return vec![] };
    let around = &points[largest.saturating_sub(1)..points.len().min(largest + 2)];
    around.windows(2).map(|pair| (pair[0].t + pair[1].t) / 2.0).collect()
}

/// Returns the error barrier: the largest error on the path minus the mean of the two end errors, in percentage points.
fn barrier(path: &[PathPoint]) -> f64 {
    let ends = (path[0].test_error + path[path.len() - 1].test_error) / 2.0;
    let largest = path.iter().map(|point| point.test_error).fold(f64::NEG_INFINITY, f64::max);
    largest - ends
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(t: f64, test_error: f64) -> PathPoint {
        PathPoint { t, test_error, test_loss: test_error / 50.0, train: None }
    }

    #[test]
    fn barrier_is_the_maximum_minus_the_mean_of_the_ends() {
        assert_eq!(barrier(&[at(0.0, 2.0), at(0.5, 60.0), at(1.0, 4.0)]), 57.0);
        assert_eq!(barrier(&[at(0.0, 2.0), at(0.5, 2.0), at(1.0, 4.0)]), 1.0, "an end may be the maximum");
    }

    #[test]
    fn refinement_adds_points_beside_the_largest() {
        let path = |errors: [f64; 5]| -> Vec<PathPoint> {
            errors.iter().enumerate().map(|(index, &error)| at(index as f64 / 4.0, error)).collect()
        };
        assert_eq!(refined_positions(&path([1.0, 2.0, 9.0, 3.0, 1.0])), [0.375, 0.625]);
        assert_eq!(refined_positions(&path([9.0, 2.0, 1.0, 3.0, 1.0])), [0.125], "an end has one neighbour");
        assert_eq!(refined_positions(&path([1.0, 2.0, 1.0, 3.0, 4.0])), [0.875]);
        let mut tied = path([1.0, 9.0, 9.0, 9.0, 1.0]);
        tied[2].test_loss += 0.1;
        assert_eq!(refined_positions(&tied), [0.375, 0.625], "among equal errors the loss decides");
    }

    /// The curve has its maximum of 70 at t = 0.37; an even grid with the same spacing there would need 65 points.
    #[test]
    fn refinement_finds_the_maximum_in_fewer_evaluations() {
        let error = |t: f64| (70.0 - 1000.0 * (t - 0.37).powi(2)).max(0.0);
        let even = |count: u32| (0..count).map(move |point| f64::from(point) / f64::from(count - 1));
        let mut points: Vec<PathPoint> = even(5).map(|t| at(t, error(t))).collect();
        for _ in 0..4 {
            for t in refined_positions(&points) {
                let place = points.partition_point(|point| point.t < t);
                points.insert(place, at(t, error(t)));
            }
        }
        let largest = |errors: &mut dyn Iterator<Item = f64>| errors.fold(f64::NEG_INFINITY, f64::max);
        let refined = largest(&mut points.iter().map(|point| point.test_error));
        assert_eq!(points.len(), 13);
        assert!(points.windows(2).all(|pair| pair[0].t < pair[1].t), "the points are in order and distinct");
        assert_eq!(refined, largest(&mut even(65).map(error)));
        assert!(refined > 69.97 && largest(&mut even(13).map(error)) < 69.0, "{refined}");
    }
}
