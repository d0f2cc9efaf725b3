//! Alignment: the units of one network in the order of another's.

use lsap::solve;
use tch::{Device, Kind, Tensor};

use crate::trainer::model::{Layout, Parameter, Weights};
use winsign::random::Source;

/// Of the order in which groups of units are visited.
const SEED: u64 = 0;

pub fn to(layout: &Layout, a: &Weights, b: &Weights) -> Weights {
    start(layout, a, b, true)
}

pub fn start(layout: &Layout, a: &Weights, b: &Weights, progressive: bool) -> Weights {
    let (a, mut b) = (a.on(Device::Cpu), b.on(Device::Cpu).copy());
    let groups = layout.groups.len();
    let mut placed = vec![!progressive; groups];
    if progressive {
        for group in 0..groups {
            let counted = |tensor: &Parameter| {
                tensor.axes.iter().filter_map(|units| units.group).all(|other| other == group || placed[other])
            };
            if let Some(order) = better_order(&products(layout, &a.parameters, &b.parameters, group, counted)) {
                b.reorder(layout, group, &order);
            }
            placed[group] = true;
        }
    }
    let mut settled = vec![false; groups];
    let mut visits = 0;
    for pass in 0.. {
        for group in Source::new(SEED, "alignment", pass).permutation(groups) {
            let group = group as usize;
            if std::mem::replace(&mut settled[group], true) {
                continue;
            }
            visits += 1;
            let Some(order) = better_order(&products(layout, &a.parameters, &b.parameters, group, |_| true)) else {
                continue;
            };
            b.reorder(layout, group, &order);
            for tensor in layout.tensors.iter().filter(|tensor| tensor.axis_of(group).is_some()) {
                for other in tensor.axes.iter().filter_map(|units| units.group).filter(|&other| other != group) {
                    settled[other] = false;
                }
            }
        }
        if settled.iter().all(|&settled| settled) {
            println!("{pass} passes, {visits} visits of {groups}");
            break;
        }
    }
    b
}

/// Entry (i, j) is the inner product of what A has at unit i of a group and what B has at unit j.
fn products(
    layout: &Layout,
    a: &Tensor,
    b: &Tensor,
    group: usize,
    counted: impl Fn(&Parameter) -> bool,
) -> Tensor {
    let count = layout.groups[group];
    let mut products = Tensor::zeros([count, count], (Kind::Double, Device::Cpu));
    for tensor in layout.tensors.iter().filter(|tensor| counted(tensor)) {
        let Some(axis) = tensor.axis_of(group) else { continue };
        let rows = |flat: &Tensor| {
            let values = flat.narrow(0, tensor.start, tensor.length()).view(&tensor.shape[..]);
            values.transpose(0, axis).reshape([count, -1]).to_kind(Kind::Double)
        };
        products += rows(a).matmul(&rows(b).tr());
    }
    products
}

fn better_order(products: &Tensor) -> Option<Vec<i64>> {
    let count = products.size()[0] as usize;
    let values: Vec<f64> = products.view([-1]).try_into().unwrap();
    let (_, columns) = solve(count, count, &values, true).ok()?;
    let now: f64 = (0..count).map(|i| values[i * count + i]).sum();
    let then: f64 = (0..count).map(|i| values[i * count + columns[i]]).sum();
    let scale: f64 = values.iter().map(|v| v.abs()).fold(0.0, f64::max);
    (then - now > 1e-12 * scale * count as f64).then(|| columns.into_iter().map(|column| column as i64).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::trainer::model::Network;
    use crate::trainer::model::units::tests::{problems, random};

    #[test]
    fn experiment_align() {
        for problem in problems().into_iter().filter(|problem| problem.architecture.can_align()) {
            let network = Network::new(problem);
            let layout = &network.layout;
            let dot = |a: &Weights, b: &Weights| a.parameters.to_kind(Kind::Double).dot(&b.parameters.to_kind(Kind::Double)).double_value(&[]);
            for fresh in [true, false] {
            for seed in 0..2 {
                let make = |seed| if fresh { Weights::initialize(layout, seed) } else { random(layout, seed) };
                let a = make(seed);
                let mut shuffled = a.copy();
                for (group, &count) in layout.groups.iter().enumerate() {
                    let order = Source::new(seed, "order", group as u64).permutation(count as usize);
                    shuffled.reorder(layout, group, &order);
                }
                let b = make(seed + 100);
                for progressive in [false, true] {
                    let time = Instant::now();
                    let back = start(layout, &a, &shuffled, progressive);
                    println!("{problem:?} fresh {fresh} seed {seed} {progressive} recovered {} {} of {} in {:?}", back.parameters == a.parameters, dot(&a, &back), dot(&a, &a), time.elapsed());
                    let time = Instant::now();
                    let other = start(layout, &a, &b, progressive);
                    println!("   independent {} from {} in {:?}", dot(&a, &other), dot(&a, &b), time.elapsed());
                }
            }
            }
        }
    }
}
