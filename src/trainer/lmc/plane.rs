//! The plane through three networks: errors on a grid.

use tch::{Kind, Tensor};
use winsign_core::results::{PlaneOutcome, PlanePoint};
use winsign_core::settings::Plane;

use super::measure::{Evaluator, Rule};
use super::{Union, check_masks};
use crate::data::Data;
use crate::model::{Layout, Network, Weights};
use crate::session::Session;
use crate::train::evaluate::Score;
use crate::{Error, Result};

/// The fraction of the base of a triangle below which its height is within the accuracy of 32-bit floats: the networks at
/// its corners count as being on one line.
const MIN_HEIGHT: f64 = 1e-4;

/// Measures the errors on the grid of a plane. As on a path, every trained tensor is combined linearly, statistics are
/// re-estimated, and masks are compared.
///
/// Fails with [`Error::OnOneLine`] if the networks do not span a plane.
pub fn plane(
    session: &mut Session,
    network: &Network,
    data: &Data,
    corners: [Weights; 3],
    settings: &Plane,
) -> Result<PlaneOutcome> {
    for other in &corners[1..] {
        check_masks(settings.masks, &corners[0], other)?;
    }
    let mut union = Union::default();
    corners.iter().for_each(|corner| union.add(corner));
    let frame = Frame::new(&network.layout, corners.map(|corner| corner.parameters))?;
    let [x, y] = [0, 1].map(|axis| frame.grid(axis, settings.points, settings.margin));
    let places: Vec<(f64, f64)> = y.iter().flat_map(|&y| x.iter().map(move |&x| (x, y))).collect();

    let rule = Rule { batch: settings.batch, batches: settings.reestimation_batches, sets: settings.sets };
    let mut evaluator = Evaluator::new(session, network, data, rule, places.len(), None)?;
    let scores = evaluator.measure(places.len(), |which| frame.network_at(places[which]))?;
    let points = (places.iter().zip(scores))
        .map(|(&(x, y), scores)| {
            let scores = scores.finite(|| format!("at x = {x}, y = {y} of the plane"))?;
            let Score { error, loss } = scores.test;
            Ok(PlanePoint { test_error: error, test_loss: loss, train: scores.train() })
        })
        .collect::<Result<_>>()?;
    Ok(PlaneOutcome { remaining_ratio: union.ratio(), networks: frame.places, x, y, points })
}

/// Three networks, and their coordinates in the plane, as in [`PlaneOutcome`].
struct Frame {
    parameters: [Tensor; 3],
    places: [(f64, f64); 3],
}

impl Frame {
    fn new(layout: &Layout, parameters: [Tensor; 3]) -> Result<Frame> {
        let [a, b, c] = parameters.each_ref().map(|flat| layout.trained(flat).to_kind(Kind::Double));
        let dot = |one: &Tensor, other: &Tensor| one.dot(other).double_value(&[]);
        let (to_b, to_c) = (b - &a, c - &a);
        let base = dot(&to_b, &to_b).sqrt();
        // Split C into its components along and perpendicular to the line to B. The latter is the norm of a difference
        // of vectors, since a difference of two squares would lose half of the digits.
        let along = dot(&to_c, &to_b) / base;
        let perpendicular = &to_c - &to_b * (along / base);
        let height = dot(&perpendicular, &perpendicular).sqrt();
        // This also catches distances that are zero or not finite.
        if !(base.is_finite() && height > MIN_HEIGHT * base.max(along.abs())) {
            return Err(Error::OnOneLine);
        }
        Ok(Frame { parameters, places: [(0.0, 0.0), (base, 0.0), (along, height)] })
    }

    /// Returns evenly spaced coordinates on an axis, 0 or 1, with a margin of `margin` times the extent of the networks
    /// on both sides.
    fn grid(&self, axis: usize, points: u32, margin: f64) -> Vec<f64> {
        let coordinates = self.places.map(|(x, y)| [x, y][axis]);
        let low = coordinates.into_iter().fold(f64::INFINITY, f64::min);
        let high = coordinates.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let margin = margin * (high - low);
        let (first, last) = (low - margin, high + margin);
        (0..points).map(|point| first + (last - first) * f64::from(point) / f64::from(points - 1)).collect()
    }

    /// Returns the flat parameters at a place: a linear combination of the three networks with coefficients that sum to
    /// one. At the coordinates of a network the result is exactly that network.
    fn network_at(&self, (x, y): (f64, f64)) -> Tensor {
        let [_, (base, _), (along, height)] = self.places;
        let c = y / height;
        let b = (x - c * along) / base;
        let [at_a, at_b, at_c] = &self.parameters;
        at_a * (1.0 - b - c) + at_b * b + at_c * c
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use winsign_core::settings::{Architecture, Dataset, Problem};

    fn corners(seeds: [u64; 3]) -> (Layout, [Tensor; 3]) {
        let layout = Network::new(Problem::new(Dataset::Digits, Architecture::ResNet8)).layout;
        let parameters = seeds.map(|seed| Weights::initialize(&layout, seed).parameters);
        (layout, parameters)
    }

    fn distance(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).to_kind(Kind::Double).norm().double_value(&[])
    }

    #[test]
    fn networks_are_at_their_coordinates() {
        let (layout, networks) = corners([1, 2, 3]);
        let copies = networks.each_ref().map(Tensor::copy);
        let frame = Frame::new(&layout, networks).unwrap();
        for (place, network) in frame.places.into_iter().zip(&copies) {
            assert_eq!(&frame.network_at(place), network);
        }
        let [a, b, c] = frame.places;
        assert_eq!((a, b.1), ((0.0, 0.0), 0.0));
        assert!(b.0 > 0.0 && c.1 > 0.0, "the first axis leads to B, the second toward C");
    }

    /// The basis is orthonormal: points at distance 1 in the plane are at distance 1 in the weights, in any direction.
    #[test]
    fn distances_in_the_plane_equal_those_between_weights() {
        let (layout, networks) = corners([1, 2, 3]);
        let frame = Frame::new(&layout, networks).unwrap();
        let origin = frame.network_at((0.3, -0.7));
        for (dx, dy) in [(1.0, 0.0), (0.0, 1.0), (0.6, -0.8)] {
            let found = distance(&origin, &frame.network_at((0.3 + dx, -0.7 + dy)));
            assert!((found - 1.0).abs() < 1e-5, "({dx}, {dy}): {found}");
        }
        let [a, _, c] = frame.parameters.each_ref();
        let (x, y) = frame.places[2];
        assert!((distance(a, c) - x.hypot(y)).abs() < 1e-5);
    }

    #[test]
    fn grid_extends_beyond_the_networks_by_its_margin() {
        let (layout, networks) = corners([1, 2, 3]);
        let frame = Frame::new(&layout, networks).unwrap();
        let base = frame.places[1].0;
        let found = frame.grid(0, 5, 0.5);
        let expected = [-0.5, 0.0, 0.5, 1.0, 1.5].map(|part| part * base);
        assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-9), "{found:?}");
        assert_eq!(frame.grid(1, 2, 0.0), [0.0, frame.places[2].1]);
    }

    #[test]
    fn networks_on_a_line_are_refused() {
        let (layout, [a, b, _]) = corners([1, 2, 3]);
        for c in [&a * 0.3 + &b * 0.7, &a * 3.0 - &b * 2.0, a.copy(), b.copy(), a.copy() * f64::NAN] {
            let frame = Frame::new(&layout, [a.copy(), b.copy(), c]);
            assert!(matches!(frame, Err(Error::OnOneLine)));
        }
        let c = corners([1, 2, 4]).1[2].copy();
        assert!(matches!(Frame::new(&layout, [a.copy(), a.copy(), c]), Err(Error::OnOneLine)));
    }
}
