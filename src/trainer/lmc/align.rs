//! Alignment: reorders the units of one network to match those of another.
//!
//! This is weight matching by Ainsworth, Hayase and Srinivasa ("Git Re-Basin: Merging Models modulo Permutation
//! Symmetries", ICLR 2023, section 3.2): it searches for the order of the units of B that maximizes the inner product
//! of the parameters of A and B. Finding the best order is hard; but if all groups of units except one are fixed, the
//! best order of that group is the solution of a linear assignment problem. So groups are improved in turn until no
//! group can be improved.

use tch::{Device, Kind, Tensor};
use winsign_core::random::Source;

use crate::comm::pulse;
use crate::model::{Layout, Parameter, Weights};

/// The seed of the order in which groups are improved.
const SEED: u64 = 0;
/// The smallest accepted gain of an order, as a fraction of the largest possible sum: more than rounding errors.
const MIN_GAIN: f64 = 1e-12;

/// Returns B with its units in an order that matches A, in parameters, statistics and mask. The result computes the same
/// function as B, and the inner product of its parameters with those of A is at least as large. It is on the device of
/// B, and computed on the CPU in 64 bits.
///
/// The paper starts with B unchanged. This function starts with B matched once from the inputs on, if that is better: in
/// deep networks in which all groups are out of order, improving groups in turn has no effect, and not even a reordered
/// copy is recognized.
///
/// An architecture without groups, or a network with weights that are not finite, is returned unchanged. Processors
/// that round differently may find another order, so ranks must share the result of one of them.
pub fn align(layout: &Layout, a: &Weights, b: &Weights) -> Weights {
    let _no_grad = tch::no_grad_guard();
    let device = b.parameters.device();
    let [a, b] = [a, b].map(|weights| weights.on(Device::Cpu));
    let matched = match_from_inputs(layout, &a, b.copy());
    let is_better = inner_product(&a, &matched) > inner_product(&a, &b);
    improve(layout, &a, if is_better { matched } else { b.copy() }).on(device)
}

/// Returns the inner product of the parameters.
fn inner_product(a: &Weights, b: &Weights) -> f64 {
    let [a, b] = [a, b].map(|weights| weights.parameters.to_kind(Kind::Double));
    a.dot(&b).double_value(&[])
}

/// Matches every group once, in the order of their declaration, by the tensors whose other units are already matched.
fn match_from_inputs(layout: &Layout, a: &Weights, mut b: Weights) -> Weights {
    for group in 0..layout.groups.len() {
        let is_matched = |tensor: &Parameter| tensor.groups().all(|other| other <= group);
        if let Some(order) = better_order(&products(layout, a, &b, group, is_matched)) {
            b.reorder(layout, group, &order);
        }
    }
    b
}

/// Improves groups in turn, in random order, until each is optimal given the others.
fn improve(layout: &Layout, a: &Weights, mut b: Weights) -> Weights {
    // A group is settled while it is known to be optimal given the others.
    let mut settled = vec![false; layout.groups.len()];
    let mut round = 0;
    while settled.contains(&false) {
        for group in Source::new(SEED, "alignment", round).permutation(settled.len()) {
            let group = group as usize;
            if std::mem::replace(&mut settled[group], true) {
                continue;
            }
            let Some(order) = better_order(&products(layout, a, &b, group, |_| true)) else { continue };
            b.reorder(layout, group, &order);
            for tensor in layout.tensors.iter().filter(|tensor| tensor.axis_of(group).is_some()) {
                tensor.groups().filter(|&other| other != group).for_each(|other| settled[other] = false);
            }
        }
        round += 1;
    }
    b
}

/// Returns the contribution of each unit of B to the inner product in each position: entry (i, j) is the inner product
/// of all parameters of unit i of A and unit j of B, in the tensors for which `counts` is true. The shape is (units,
/// units).
fn products(layout: &Layout, a: &Weights, b: &Weights, group: usize, counts: impl Fn(&Parameter) -> bool) -> Tensor {
    let units = layout.groups[group];
    let mut products = Tensor::zeros([units, units], (Kind::Double, Device::Cpu));
    for tensor in layout.tensors.iter().filter(|tensor| counts(tensor)) {
        let Some(axis) = tensor.axis_of(group) else { continue };
        let rows = |weights: &Weights| {
            let values = weights.parameters.narrow(0, tensor.start, tensor.length()).view(&tensor.shape[..]);
            values.transpose(0, axis).reshape([units, -1]).to_kind(Kind::Double)
        };
        products += rows(a).matmul(&rows(b).tr());
        pulse::moved();
    }
    products
}

/// Returns the order with the largest sum of products, as the unit of B for each unit of A, if its gain over the
/// current order exceeds rounding errors.
fn better_order(products: &Tensor) -> Option<Vec<i64>> {
    let units = products.size()[0] as usize;
    let products = Vec::<f64>::try_from(products.view([-1])).expect("64-bit floats on the CPU");
    // The solver fails if a product is not finite.
    let (_, order) = pulse::slowly(|| lsap::solve(units, units, &products, true)).ok()?;
    let at = |i: usize, j: usize| products[i * units + j];
    let gain: f64 = order.iter().enumerate().map(|(i, &j)| at(i, j) - at(i, i)).sum();
    let largest = products.iter().fold(0.0f64, |largest, product| largest.max(product.abs()));
    (gain > MIN_GAIN * largest * units as f64).then(|| order.into_iter().map(|unit| unit as i64).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use strum::VariantArray;

    use super::*;
    use crate::comm::Ranks;
    use crate::model::Network;
    use crate::model::units::tests::{random, shuffled};
    use crate::session::{ExecOptions, Session};
    use crate::{lmc, prune::prune, ticket};
    use winsign_core::attempt::Attempt;
    use winsign_core::settings::{
        Align, Architecture, Between, Connect, Dataset, Masks, Method, Problem, Schedule, Seeds, Sets, Settings,
        Ticket, Training,
    };
    use winsign_core::{Run, Store};

    const RESNET8: Problem = Problem::new(Dataset::Digits, Architecture::ResNet8);

    /// Returns the networks for the smallest images that each architecture supports.
    fn networks(architectures: &[Architecture]) -> impl Iterator<Item = Network> {
        architectures.iter().map(|&architecture| {
            let mut datasets = [Dataset::Digits, Dataset::Imagenet].into_iter();
            let dataset = datasets.find(|&dataset| architecture.fits(dataset)).expect("one of them");
            Network::new(Problem::new(dataset, architecture))
        })
    }

    #[test]
    fn reordered_network_becomes_the_original() {
        // Large architectures take long, and consist of the same blocks as others.
        let large = [Architecture::ResNet34, Architecture::ResNet50];
        let tried = Architecture::VARIANTS.iter().copied();
        let tried: Vec<_> = tried.filter(|tried| tried.can_align() && !large.contains(tried)).collect();
        for network in networks(&tried) {
            let original = random(&network.layout, 1);
            let aligned = align(&network.layout, &original, &shuffled(&network.layout, &original, 2));
            assert_eq!(aligned.parameters, original.parameters);
            assert_eq!(aligned.statistics, original.statistics);
            assert_eq!(aligned.mask, original.mask);
        }
    }

    #[test]
    fn alignment_reorders_and_increases_the_inner_product() {
        for network in networks(&[Architecture::ResNet8, Architecture::ResNet20]) {
            let layout = &network.layout;
            let [a, b] = [1, 2].map(|seed| random(layout, seed));
            let aligned = align(layout, &a, &b);
            assert!(inner_product(&a, &aligned) > inner_product(&a, &b));
            for tensor in &layout.tensors {
                let sorted =
                    |weights: &Weights| weights.parameters.narrow(0, tensor.start, tensor.length()).sort(0, false).0;
                assert_eq!(sorted(&aligned), sorted(&b), "{}", tensor.name);
            }
            assert_ne!(aligned.mask, b.mask);
            let surviving = aligned.parameters.narrow(0, 0, layout.prunable()).ne(0.0);
            assert_eq!(surviving.to_kind(Kind::Float), aligned.mask, "the mask follows the weights");
            // No group can be improved further, so another alignment changes nothing.
            assert_eq!(align(layout, &a, &aligned).parameters, aligned.parameters);
        }
    }

    /// Matching from the inputs alone would change this network.
    #[test]
    fn matching_network_is_unchanged() {
        let layout = Network::new(RESNET8).layout;
        let a = random(&layout, 1);
        let b = a.copy();
        // Matching starts from the first layer, whose channels have another order.
        let mut first = b.parameters.narrow(0, layout.tensors[0].start, layout.tensors[0].length()).view([8, -1]);
        first.copy_(&first.flip([0]));
        assert_eq!(align(&layout, &a, &b).parameters, b.parameters);

        let _ = b.parameters.get(5).fill_(f64::NAN);
        assert!(align(&layout, &a, &b).parameters.allclose(&b.parameters, 0.0, 0.0, true), "NaN has no order");
    }

    /// Returns the order of three units with the largest sum of products, by trying all orders.
    fn best_order(products: &Tensor) -> Vec<i64> {
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let sum = |order: &[i64; 3]| -> f64 { (0..3).map(|i| products.double_value(&[i, order[i as usize]])).sum() };
        orders.into_iter().max_by(|a, b| sum(a).total_cmp(&sum(b))).unwrap().to_vec()
    }

    #[test]
    fn better_order_is_the_best_and_ignores_ties() {
        for seed in 0..50 {
            let mut stream = Source::new(seed, "products", 0).stream(0);
            let values: Vec<f64> = (0..9).map(|_| stream.normal() * 1e-20).collect();
            let products = Tensor::from_slice(&values).view([3, 3]);
            let found = better_order(&products).unwrap_or(vec![0, 1, 2]);
            assert_eq!(found, best_order(&products), "{values:?}");
        }
        for tie in [0.0, 0.1, -3e30] {
            assert_eq!(better_order(&Tensor::full([7, 7], tie, (Kind::Double, Device::Cpu))), None);
        }
    }

    /// Begins a session of a run in a store of its own.
    fn begin(store: &Path, settings: Settings) -> Session {
        let run = Run::new(settings, vec![]);
        let directory = Store::create(store).unwrap().run(&run.id);
        directory.prepare(&run, "a test").unwrap();
        let attempt = Attempt::claim(&directory, 0).unwrap();
        let options = ExecOptions { checkpoint_every: Duration::MAX, ..ExecOptions::default() };
        Session::new(Ranks::alone(), Some(attempt), vec![], options)
    }

    #[test]
    fn barrier_to_a_reordered_copy_is_0_after_alignment() {
        let folder = tempfile::tempdir().unwrap();
        let training = Training {
            epochs: 4,
            batch: 64,
            optimizer: Default::default(),
            lr: 0.1,
            momentum: 0.9,
            weight_decay: 5e-4,
            schedule: Schedule::Constant,
            precision: Default::default(),
        };
        let dense = Ticket {
            problem: RESNET8,
            method: Method::Lrr,
            level: 0,
            prune_ratio: None,
            rewind_epoch: None,
            training,
            seeds: Seeds::from(1),
        };
        let mut session = begin(&folder.path().join("ticket"), Settings::Ticket(dense.clone()));
        let (layout, mut original) = ticket::execute(&mut session, &dense).unwrap().network.unwrap();
        prune(&mut original, &layout, 0.1).unwrap();

        let connect = |align| Connect {
            problem: RESNET8,
            between: Between::Seeds,
            // The masks of a reordered copy differ.
            masks: Masks::Union,
            points: 5,
            refine: 0,
            reestimation_batches: None,
            sets: Sets::Test,
            align,
            batch: 64,
            precision: Default::default(),
        };
        let network = Network::new(RESNET8);
        let copy = shuffled(&layout, &original, 2);
        let barrier = |align: Align| {
            let connect = connect(align);
            let mut session = begin(&folder.path().join(align.to_string()), Settings::Connect(connect.clone()));
            let data = session.load_data(Dataset::Digits).unwrap();
            let found = lmc::path(&mut session, &network, &data, (&original, &copy), &connect).unwrap();
            (found.path.barrier, found.remaining_ratio)
        };
        let ((unaligned, ratio_of_both), (aligned, ratio_of_one)) = (barrier(Align::None), barrier(Align::Weights));
        assert!(unaligned > 30.0, "{unaligned}");
        assert_eq!(aligned, 0.0);
        assert_eq!(ratio_of_one, original.remaining_ratio());
        assert!(ratio_of_both > ratio_of_one, "the masks differ: {ratio_of_both}");
    }
}
