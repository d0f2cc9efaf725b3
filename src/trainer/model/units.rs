//! Units along the axes of tensors. Some can be reordered without changing the function of the network: the channels
//! between two layers, if both layers and everything that is added to the channels are reordered in the same way.

use tch::Tensor;

use super::{Layout, Weights};

/// Units along an axis of a tensor.
///
/// An architecture declares the input and output units of every layer. The units of a group are the same wherever the group
/// occurs, so they can only be reordered together: a residual stream is one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units {
    pub count: i64,
    /// The index in [`Layout::groups`]; `None` if the order is fixed (colors, pixels, classes), or not known to be free.
    pub group: Option<usize>,
}

/// Units in a fixed order.
impl From<i64> for Units {
    fn from(count: i64) -> Units {
        Units { count, group: None }
    }
}

impl Weights {
    /// Reorders the units of one group in parameters, statistics and mask: the new unit i is the old unit `order[i]`. The
    /// function of the network does not change.
    pub fn reorder(&mut self, layout: &Layout, group: usize, order: &[i64]) {
        let _no_grad = tch::no_grad_guard();
        let order = Tensor::from_slice(order).to_device(self.parameters.device());
        for tensor in &layout.tensors {
            let Some(axis) = tensor.axis_of(group) else { continue };
            let place = [tensor.start, tensor.length()];
            reorder(&self.parameters, place, &tensor.shape, axis, &order);
            if tensor.start < layout.prunable() {
                reorder(&self.mask, place, &tensor.shape, axis, &order);
            }
        }
        for statistic in layout.statistics.iter().filter(|statistic| statistic.axis.group == Some(group)) {
            reorder(&self.statistics, [statistic.start, statistic.length], &[statistic.length], 0, &order);
        }
    }
}

/// Reorders a part of a flat tensor, viewed in this shape, along an axis.
fn reorder(flat: &Tensor, [start, length]: [i64; 2], shape: &[i64], axis: i64, order: &Tensor) {
    let mut values = flat.narrow(0, start, length).view(shape);
    let reordered = values.index_select(axis, order);
    values.copy_(&reordered);
}

#[cfg(test)]
pub mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::model::{Mode, Network};
    use strum::VariantArray;
    use tch::{Device, Kind};
    use winsign_core::random::Source;
    use winsign_core::settings::{Architecture, Dataset, Problem};

    /// Returns every architecture with the smallest and the largest images for which it is defined.
    fn problems() -> Vec<Problem> {
        let datasets = [Dataset::Digits, Dataset::Imagenet];
        let problems = Architecture::VARIANTS.iter().flat_map(|&architecture| {
            let fitting = datasets.into_iter().filter(move |&dataset| architecture.fits(dataset));
            fitting.map(move |dataset| Problem::new(dataset, architecture))
        });
        problems.collect()
    }

    /// Returns a network whose units all differ, in every tensor.
    pub fn random(layout: &Layout, seed: u64) -> Weights {
        let mut weights = Weights::initialize(layout, seed);
        let noise = |length: i64, purpose: &str| {
            let mut stream = Source::new(seed, purpose, 0).stream(0);
            let values: Vec<f32> = (0..length).map(|_| stream.uniform() as f32).collect();
            Tensor::from_slice(&values)
        };
        let norms = layout.parameters() - layout.weights();
        let _ = weights.parameters.narrow(0, layout.weights(), norms).g_add_(&(noise(norms, "norms") - 0.5));
        let _ = weights.statistics.g_add_(&(noise(layout.statistics(), "statistics") * 0.5));
        weights.mask = noise(layout.prunable(), "mask").ge(0.3).to_kind(Kind::Float);
        weights.apply_mask(layout);
        weights
    }

    /// Returns the network with all groups of units in random order.
    pub fn shuffled(layout: &Layout, weights: &Weights, seed: u64) -> Weights {
        let mut shuffled = weights.copy();
        for (group, &units) in layout.groups.iter().enumerate() {
            let order = Source::new(seed, "order", group as u64).permutation(units as usize);
            shuffled.reorder(layout, group, &order);
        }
        shuffled
    }

    #[test]
    fn reordered_network_computes_the_same() {
        for problem in problems().into_iter().filter(|problem| problem.architecture.can_align()) {
            let network = Network::new(problem);
            let layout = &network.layout;
            let weights = random(layout, 1);
            let shuffled = shuffled(layout, &weights, 2);
            let (channels, side) = problem.dataset.image_shape();
            // An architecture for small images accepts any size.
            let side = if problem.architecture.fits(Dataset::Digits) { side.min(64) } else { side };
            let images = Tensor::rand([2, channels, side, side], (Kind::Double, Device::Cpu));
            let logits = |weights: &Weights| {
                let [parameters, statistics] =
                    [&weights.parameters, &weights.statistics].map(|flat| flat.to_kind(Kind::Double));
                network.logits(&parameters, &statistics, Mode::Evaluate, &images)
            };
            let (expected, found) = (logits(&weights), logits(&shuffled));
            assert!(expected.std(true).double_value(&[]) > 1e-6, "{problem:?} has the same logits for all images");
            assert!(found.allclose(&expected, 1e-8, 1e-10, false), "{problem:?}: {found} {expected}");
            assert_eq!(shuffled.survivors(), weights.survivors());
            let prunable = |weights: &Weights| weights.parameters.narrow(0, 0, layout.prunable());
            assert_ne!(prunable(&shuffled), prunable(&weights));
            assert_eq!(prunable(&shuffled) * &shuffled.mask, prunable(&shuffled), "the mask follows the weights");
        }
    }

    /// A test of equal functions cannot find units that are missing from the groups.
    #[test]
    fn all_units_between_layers_are_in_groups() {
        for problem in problems() {
            let layout = Network::new(problem).layout;
            if layout.groups.is_empty() {
                continue;
            }
            let mut used = HashSet::new();
            for (index, tensor) in layout.tensors.iter().enumerate() {
                let groups: Vec<usize> = tensor.groups().collect();
                used.extend(groups.iter().copied());
                let classifier = index + 2 >= layout.tensors.len();
                // The outputs of layers that mix patches are patches.
                let patches = tensor.name.ends_with(".0.fn.3.bias");
                let expected = match (classifier, &tensor.shape[..]) {
                    (true, [_, _]) => 1,
                    (true, _) => 0,
                    // The inputs of the first layer are images.
                    _ if index == 0 => 1,
                    (_, [_]) => usize::from(!patches),
                    // One axis of a depthwise convolution has units; one axis of a layer that mixes patches has patches.
                    (_, [_, 1, ..] | [_, _, 1]) => 1,
                    _ => 2,
                };
                assert_eq!(groups.len(), expected, "{problem:?}: {} {groups:?}", tensor.name);
            }
            assert_eq!(used.len(), layout.groups.len(), "{problem:?} has groups without tensors");
            let free = layout.statistics.iter().all(|statistic| statistic.axis.group.is_some());
            assert!(free, "{problem:?}");
        }
    }
}
