//! Random controls: tickets that are altered at random before they are transferred, to show which part of a ticket
//! matters.
//!
//! Each choice is a function of the seed, of the kind of the control, and of the name of a layer.

use tch::{Kind, Tensor};
use winsign_core::random::Source;

use crate::model::{Layout, Parameter, Role, Weights};

/// Permutes the survivors of each layer at random: the mask and the numbers of signs do not change.
pub fn shuffle_signs(layout: &Layout, ticket: &mut Weights, seed: u64) {
    for layer in layers(layout) {
        let places = survivors(ticket, layer);
        let order = Source::new(seed, &format!("random-sign {}", layer.name), 0).permutation(places.numel());
        let from = places.index_select(0, &Tensor::from_slice(&order).to_device(places.device()));
        let moved = ticket.parameters.index_select(0, &from);
        let _ = ticket.parameters.index_copy_(0, &places, &moved);
    }
}

/// Flips the signs of a `fraction` of the survivors of each layer: of ⌊fraction·n + ½⌋ of n. A larger fraction also
/// flips all signs that a smaller one flips.
pub fn flip_signs(layout: &Layout, ticket: &mut Weights, fraction: f64, seed: u64) {
    for layer in layers(layout) {
        let places = survivors(ticket, layer);
        let order = Source::new(seed, &format!("flip {}", layer.name), 0).permutation(places.numel());
        let chosen = &order[..flipped(fraction, order.len())];
        let chosen = places.index_select(0, &Tensor::from_slice(chosen).to_device(places.device()));
        let negative = -ticket.parameters.index_select(0, &chosen);
        let _ = ticket.parameters.index_copy_(0, &chosen, &negative);
    }
}

/// Draws a random mask with the same number of survivors in each layer.
pub fn draw_mask(layout: &Layout, ticket: &mut Weights, seed: u64) {
    let counts: Vec<usize> = layers(layout).map(|layer| survivors(ticket, layer).numel()).collect();
    draw(layout, ticket, &counts, seed, "random-mask");
}

/// Draws a random mask with the same total number of survivors, divided among the layers by ERK; see [`erk`].
pub fn draw_mask_erk(layout: &Layout, ticket: &mut Weights, seed: u64) {
    let shapes: Vec<&[i64]> = layers(layout).map(|layer| &layer.shape[..]).collect();
    let counts = erk(&shapes, ticket.survivors() as usize);
    draw(layout, ticket, &counts, seed, "random-mask-erk");
}

/// Returns the number of survivors of each layer, `total` in all, by the Erdős–Rényi–Kernel rule of Evci et al. (ICML
/// 2020): the density of a layer is proportional to the sum of the dimensions of its weight divided by their product.
/// Layers whose density would exceed 1 are dense, one after the other, and the others share the rest. Counts are
/// rounded down, and the remainder goes to the largest fractions.
fn erk(shapes: &[&[i64]], total: usize) -> Vec<usize> {
    let sizes: Vec<f64> = shapes.iter().map(|shape| shape.iter().product::<i64>() as f64).collect();
    let sides: Vec<f64> = shapes.iter().map(|shape| shape.iter().sum::<i64>() as f64).collect();
    let mut full = vec![false; shapes.len()];
    let shares: Vec<f64> = loop {
        let sum =
            |of: &[f64], which: bool| (0..full.len()).filter(|&at| full[at] == which).map(|at| of[at]).sum::<f64>();
        let scale = (total as f64 - sum(&sizes, true)) / sum(&sides, false);
        let share = |at: usize| if full[at] { sizes[at] } else { scale * sides[at] };
        // Find the densest layer that is not full, if its density exceeds 1.
        let densest = (0..full.len()).filter(|&at| !full[at]).max_by(|&a, &b| {
            let density = |at: usize| sides[at] / sizes[at];
            density(a).total_cmp(&density(b))
        });
        match densest.filter(|&at| share(at) > sizes[at]) {
            Some(at) => full[at] = true,
            None => break (0..full.len()).map(share).collect(),
        }
    };
    let mut counts: Vec<usize> = shares.iter().map(|share| *share as usize).collect();
    let mut by_fraction: Vec<usize> = (0..counts.len()).filter(|&at| !full[at]).collect();
    by_fraction.sort_by(|&a, &b| shares[b].fract().total_cmp(&shares[a].fract()));
    let left = total - counts.iter().sum::<usize>();
    for at in by_fraction.into_iter().take(left) {
        counts[at] += 1;
    }
    counts
}

fn draw(layout: &Layout, ticket: &mut Weights, counts: &[usize], seed: u64, purpose: &str) {
    let mask = ticket.mask.zeros_like();
    for (layer, &count) in layers(layout).zip(counts) {
        let order = Source::new(seed, &format!("{purpose} {}", layer.name), 0).permutation(layer.length() as usize);
        let chosen = Tensor::from_slice(&order[..count]).to_device(mask.device());
        let _ = mask.narrow(0, layer.start, layer.length()).index_fill_(0, &chosen, 1.0);
    }
    ticket.mask = mask;
    ticket.apply_mask(layout);
}

/// Returns ⌊fraction·n + ½⌋ as in decimal arithmetic: in binary, 0.29 of 50 is slightly less than 14.5.
fn flipped(fraction: f64, n: usize) -> usize {
    (fraction * n as f64 * (1.0 + 1e-12) + 0.5).floor() as usize
}

fn layers(layout: &Layout) -> impl Iterator<Item = &Parameter> {
    layout.tensors.iter().filter(|tensor| tensor.role == Role::Prunable)
}

/// Returns the positions of the survivors of a layer in the flat tensor; 64-bit integers.
fn survivors(weights: &Weights, layer: &Parameter) -> Tensor {
    let places = weights.mask.narrow(0, layer.start, layer.length()).nonzero().view([-1]);
    debug_assert_eq!(places.kind(), Kind::Int64);
    places + layer.start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Network;
    use crate::prune::prune;
    use winsign_core::settings::{Architecture, Dataset, Problem};

    fn layout() -> Layout {
        Network::new(Problem::new(Dataset::Digits, Architecture::ResNet8)).layout
    }

    fn ticket(layout: &Layout) -> Weights {
        let mut ticket = Weights::initialize(layout, 1);
        prune(&mut ticket, layout, 0.7).unwrap();
        ticket
    }

    fn list(tensor: &Tensor) -> Vec<f32> {
        Vec::<f32>::try_from(tensor.contiguous().view([-1])).unwrap()
    }

    /// Returns the values of each prunable layer, and whether they survive.
    fn by_layer(layout: &Layout, weights: &Weights) -> Vec<(Vec<f32>, Vec<bool>)> {
        layers(layout)
            .map(|layer| {
                let of = |flat: &Tensor| list(&flat.narrow(0, layer.start, layer.length()));
                (of(&weights.parameters), of(&weights.mask).into_iter().map(|kept| kept == 1.0).collect())
            })
            .collect()
    }

    fn others(layout: &Layout, weights: &Weights) -> Vec<f32> {
        list(&weights.parameters.narrow(0, layout.prunable(), layout.parameters() - layout.prunable()))
    }

    #[test]
    fn shuffled_signs_keep_their_counts_and_places() {
        let layout = layout();
        let (before, mut after) = (ticket(&layout), ticket(&layout));
        shuffle_signs(&layout, &mut after, 3);
        assert_eq!(after.mask, before.mask);
        assert_eq!(others(&layout, &after), others(&layout, &before));
        let mut moved = 0;
        let mut survivors = 0;
        for ((before, mask), (after, _)) in by_layer(&layout, &before).into_iter().zip(by_layer(&layout, &after)) {
            let count = |values: &[f32], sign: f32| values.iter().filter(|value| **value * sign > 0.0).count();
            assert_eq!((count(&before, 1.0), count(&before, -1.0)), (count(&after, 1.0), count(&after, -1.0)));
            assert!(mask.iter().zip(&after).all(|(kept, value)| *kept == (*value != 0.0)));
            moved += before.iter().zip(&after).filter(|(before, after)| **before * **after < 0.0).count();
            survivors += mask.iter().filter(|kept| **kept).count();
        }
        // About half of the signs change: 5 standard deviations of the binomial are 190 of 5,743.
        assert!(moved.abs_diff(survivors / 2) < 190, "{moved} of {survivors}");
        let mut other = ticket(&layout);
        shuffle_signs(&layout, &mut other, 4);
        assert_ne!(other.parameters, after.parameters, "another seed, another order");
    }

    #[test]
    fn the_stated_number_of_signs_is_flipped_in_each_layer() {
        let layout = layout();
        let before = ticket(&layout);
        let flips = |fraction: f64| -> Vec<Vec<usize>> {
            let mut after = ticket(&layout);
            flip_signs(&layout, &mut after, fraction, 3);
            assert_eq!(after.mask, before.mask);
            assert_eq!(after.parameters.abs(), before.parameters.abs());
            assert_eq!(others(&layout, &after), others(&layout, &before));
            let pairs = by_layer(&layout, &before).into_iter().zip(by_layer(&layout, &after));
            pairs.map(|((b, _), (a, _))| (0..b.len()).filter(|&at| b[at] * a[at] < 0.0).collect()).collect()
        };
        let counts: Vec<usize> =
            by_layer(&layout, &before).iter().map(|(_, mask)| mask.iter().filter(|kept| **kept).count()).collect();
        for (fraction, percent) in [(0.0, 0), (0.1, 10), (0.25, 25), (0.5, 50), (1.0, 100)] {
            let found: Vec<usize> = flips(fraction).iter().map(Vec::len).collect();
            // Rounded half up, in whole numbers.
            let expected: Vec<usize> = counts.iter().map(|n| (percent * n + 50) / 100).collect();
            assert_eq!(found, expected, "{fraction}");
        }
        let (few, many) = (flips(0.1), flips(0.25));
        assert!(few.iter().zip(&many).all(|(few, many)| few.iter().all(|at| many.contains(at))));
        assert_eq!((flipped(0.29, 50), flipped(0.5, 1), flipped(0.49, 1)), (15, 1, 0));
    }

    #[test]
    fn random_masks_keep_the_survivors_of_each_layer() {
        let layout = layout();
        let before = ticket(&layout);
        let drawn = |seed| {
            let mut after = ticket(&layout);
            draw_mask(&layout, &mut after, seed);
            after
        };
        let after = drawn(3);
        let counts = |weights: &Weights| -> Vec<usize> {
            by_layer(&layout, weights).iter().map(|(_, mask)| mask.iter().filter(|kept| **kept).count()).collect()
        };
        assert_eq!(counts(&after), counts(&before));
        assert_eq!(after.mask, drawn(3).mask);
        assert_ne!(after.mask, drawn(4).mask);
        // By chance 30 % of 5,743 survivors are in both masks; 5 standard deviations are 180.
        let common = (&after.mask * &before.mask).sum(Kind::Double).double_value(&[]);
        let expected: f64 = by_layer(&layout, &before)
            .iter()
            .map(|(_, mask)| mask.iter().filter(|kept| **kept).count().pow(2) as f64 / mask.len() as f64)
            .sum();
        assert!((common - expected).abs() < 180.0, "{common} {expected}");
    }

    /// Two layers, computed by hand. The sums of the dimensions are 6 and 30, and the sizes 9 and 200: of 30 weights
    /// the layers get 5 and 25; of 90 the first would get 15, so it is full with 9, and the second gets 81.
    #[test]
    fn erk_shares_out_by_the_sides_of_layers() {
        let shapes: [&[i64]; 2] = [&[3, 3], &[10, 20]];
        assert_eq!(erk(&shapes, 30), [5, 25]);
        assert_eq!(erk(&shapes, 90), [9, 81]);
        assert_eq!(erk(&shapes, 209), [9, 200]);
        // With thirds, 1.0, 2.33 and 6.67 are rounded so that the sum is right.
        assert_eq!(erk(&[&[2, 1], &[3, 4], &[10, 10]], 10), [1, 2, 7]);
    }

    #[test]
    fn erk_masks_have_the_tickets_survivors_in_all() {
        let layout = layout();
        let before = ticket(&layout);
        let mut after = ticket(&layout);
        draw_mask_erk(&layout, &mut after, 3);
        assert_eq!(after.survivors(), before.survivors());
        // The first convolution, 8 × 1 × 3 × 3, is far denser than the last, 32 × 32 × 3 × 3.
        let density = |name: &str| {
            let layer = layers(&layout).find(|layer| layer.name == name).unwrap();
            let mask = after.mask.narrow(0, layer.start, layer.length());
            mask.sum(Kind::Double).double_value(&[]) / layer.length() as f64
        };
        assert_eq!(density("conv1.weight"), 1.0);
        let (inner, last) = (density("layer2.0.conv2.weight"), density("layer3.0.conv2.weight"));
        // (16 + 16 + 3 + 3) / 2304 against (32 + 32 + 3 + 3) / 9216.
        assert!((inner / last - (38.0 / 2_304.0) / (70.0 / 9_216.0)).abs() < 0.01, "{inner} {last}");
    }
}
