//! Pruning at initialization, before any training: SNIP and SynFlow.

use tch::{Kind, Reduction, Tensor};

use super::magnitude::survivors;
use crate::comm::Place;
use crate::data::Data;
use crate::data::batches::Batches;
use crate::model::{Mode, Network, Weights};
use crate::train::evaluate::{Workers, cross_entropy};
use crate::{Error, Result};

/// The number of rounds of SynFlow, as in the paper.
const ROUNDS: i32 = 100;

/// The number of survivors: as many as iterative pruning of the fraction `ratio` leaves at `level`.
#[derive(Debug, Clone, Copy)]
pub struct Sparsity {
    pub ratio: f64,
    pub level: u32,
}

/// The training images of SNIP: the first batches, in an order of their own, that hold at least `images` images.
pub struct Sample {
    pub images: i64,
    pub batch: u32,
    pub order_seed: u64,
}

/// Prunes by SNIP (Lee, Ajanthan and Torr, ICLR 2019): the prunable weights survive whose removal would
/// change the loss L most, measured by |∂L/∂w ⊙ w|. L is the cross-entropy of the sample, with BatchNorm in training mode.
///
/// Every rank computes the same, on the whole sample; the ranks of `workers` agree on each batch.
pub fn snip(
    workers: Workers,
    network: &Network,
    data: &Data,
    weights: &mut Weights,
    sample: &Sample,
    sparsity: Sparsity,
) -> Result<()> {
    let layout = &network.layout;
    let keep = survivors(sparsity.ratio, sparsity.level, layout.prunable())?;
    let batches = Batches::new(data, sample.batch, sample.order_seed, "snip");
    let wanted = (sample.images as u64).div_ceil(sample.batch.into());
    let epoch = batches.epoch(1);

    let parameters = weights.parameters.copy().set_requires_grad(true);
    for batch in epoch.shares(0, Place::ALONE).take(wanted as usize) {
        let batch = workers.agree(batch)?;
        let statistics = layout.fresh_statistics(parameters.kind()).to_device(parameters.device());
        let logits = network.logits(&parameters, &statistics, Mode::TRAIN, &batch.images);
        // Sums weight every image equally, regardless of its batch; the gradients of all batches add up.
        cross_entropy(&logits, &batch.labels, Reduction::Sum).backward();
    }
    let scores = effects(&parameters).narrow(0, 0, layout.prunable());
    weights.mask = mask_of_largest(&check_finite(scores)?, keep);
    weights.apply_mask(layout);
    Ok(())
}

/// Prunes by SynFlow (Tanaka, Kunin, Yamins and Ganguli, NeurIPS 2020): the prunable weights survive with the largest
/// flow if all weights are made positive and the input is all ones, measured by |∂R/∂w ⊙ w| with R the sum of the
/// logits. No images are needed: `image` is their shape, (channels, height and width). BatchNorm has no effect, since
/// it normalizes by initial statistics.
///
/// The flow is computed anew in each of 100 rounds, over which the remaining ratio falls exponentially. So no layer
/// loses all of its weights as long as there are enough weights for a path, and the operations between layers are
/// linear for positive numbers, as in ResNets; of two parallel paths, such as a shortcut, one may be lost if few
/// weights remain. The flow grows with every layer, so it is computed in 64 bits.
///
/// Every rank computes the same; the ranks of `workers` agree on each round.
pub fn synflow(
    workers: Workers,
    network: &Network,
    image: (i64, i64),
    weights: &mut Weights,
    sparsity: Sparsity,
) -> Result<()> {
    let layout = &network.layout;
    let prunable = layout.prunable();
    let keep = survivors(sparsity.ratio, sparsity.level, prunable)?;
    let statistics = layout.fresh_statistics(Kind::Double).to_device(weights.parameters.device());
    let (channels, side) = image;
    let ones = Tensor::ones([1, channels, side, side], (Kind::Double, weights.parameters.device()));

    for round in 1..=ROUNDS {
        workers.agree(Ok(()))?;
        let parameters = weights.parameters.abs().to_kind(Kind::Double).set_requires_grad(true);
        network.logits(&parameters, &statistics, Mode::Evaluate, &ones).sum(Kind::Double).backward();
        let scores = check_finite(effects(&parameters).narrow(0, 0, prunable))?;
        // Pruned weights stay pruned: their score is below that of survivors without flow.
        let scores = scores.masked_fill(&weights.mask.eq(0.0), -1.0);
        let left = match round {
            ROUNDS => keep,
            _ => {
                let ratio = (keep as f64 / prunable as f64).powf(f64::from(round) / f64::from(ROUNDS));
                ((prunable as f64 * ratio) as i64).max(keep)
            }
        };
        weights.mask = mask_of_largest(&scores, left);
        weights.apply_mask(layout);
    }
    Ok(())
}

/// Returns |∂/∂w ⊙ w| for every parameter, after the backward pass.
fn effects(parameters: &Tensor) -> Tensor {
    (parameters.grad() * parameters.detach()).abs()
}

fn check_finite(scores: Tensor) -> Result<Tensor> {
    match scores.isfinite().all().int64_value(&[]) {
        0 => Err(Error::ScoresNotFinite),
        _ => Ok(scores),
    }
}

/// Returns the mask of the `keep` largest scores; of equal scores the first are kept.
fn mask_of_largest(scores: &Tensor, keep: i64) -> Tensor {
    let (threshold, _) = scores.kthvalue(scores.numel() as i64 - keep + 1, 0, false);
    let above = scores.gt_tensor(&threshold);
    let equal = scores.eq_tensor(&threshold);
    let missing = keep - above.sum(Kind::Int64).int64_value(&[]);
    let first = equal.cumsum(0, Kind::Int64).le(missing);
    above.logical_or(&equal.logical_and(&first)).to_kind(Kind::Float)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::comm::Single;
    use crate::data;
    use crate::model::{Layout, Parameter, Role};
    use winsign_core::settings::{Architecture, Dataset, Problem};

    const SPARSE: Sparsity = Sparsity { ratio: 0.2, level: 12 };
    const SAMPLE: Sample = Sample { images: 100, batch: 64, order_seed: 5 };

    /// Returns a single rank that is not asked to stop.
    fn alone() -> Workers<'static> {
        static STOP: AtomicBool = AtomicBool::new(false);
        Workers { comm: &Single, stop: &STOP }
    }

    fn network() -> Network {
        Network::new(Problem::new(Dataset::Digits, Architecture::ResNet8))
    }

    fn list(tensor: &Tensor) -> Vec<f64> {
        Vec::<f64>::try_from(tensor.to_kind(Kind::Double)).unwrap()
    }

    /// Returns the number of survivors of each layer, with its name.
    fn layers(network: &Network, weights: &Weights) -> Vec<(String, f64)> {
        let prunable = network.layout.tensors.iter().filter(|tensor| tensor.role == Role::Prunable);
        prunable
            .map(|tensor| {
                let mask = weights.mask.narrow(0, tensor.start, tensor.length());
                (tensor.name.clone(), mask.sum(Kind::Double).double_value(&[]))
            })
            .collect()
    }

    #[test]
    fn mask_of_largest_keeps_the_first_of_equal_scores() {
        let scores = Tensor::from_slice(&[1.0f32, 3.0, 0.0, 1.0, 2.0, 1.0, 1.0]);
        let kept = |keep| list(&mask_of_largest(&scores, keep));
        assert_eq!(kept(1), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(kept(4), [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
        assert_eq!(kept(7), [1.0; 7]);
    }

    /// Returns the loss over the two batches of SNIP, in 64 bits, after one weight is multiplied by a factor.
    fn loss_with_scaled_weight(network: &Network, data: &Data, weights: &Weights, at: i64, factor: f64) -> f64 {
        let parameters = weights.parameters.to_kind(Kind::Double);
        let _ = parameters.narrow(0, at, 1).g_mul_scalar_(factor);
        let statistics = network.layout.fresh_statistics(Kind::Double);
        let batches = Batches::new(data, 64, 5, "snip");
        let epoch = batches.epoch(1);
        let losses = epoch.shares(0, Place::ALONE).take(2).map(|batch| {
            let batch = batch.unwrap();
            let images = batch.images.to_kind(Kind::Double);
            let logits = tch::no_grad(|| network.logits(&parameters, &statistics, Mode::TRAIN, &images));
            cross_entropy(&logits, &batch.labels, Reduction::Sum).double_value(&[])
        });
        losses.sum()
    }

    /// Scores some weights w by finite differences of the loss c ↦ L(c·w) at c = 1 over the two batches, in 64 bits. The
    /// scores of survivors must be above, and those of pruned weights below, one threshold.
    #[test]
    fn snip_keeps_the_weights_that_the_loss_depends_on() {
        let (network, data) = (network(), data::load(Dataset::Digits, "".as_ref(), 1).unwrap());
        let dense = Weights::initialize(&network.layout, 1);
        let mut pruned = dense.copy();
        snip(alone(), &network, &data, &mut pruned, &SAMPLE, SPARSE).unwrap();
        assert_eq!(pruned.survivors(), 1_314, "the number after twelve prunings of 19,144");

        let score = |at: i64| {
            let loss = |factor: f64| loss_with_scaled_weight(&network, &data, &dense, at, factor);
            ((loss(1.0 + 1e-5) - loss(1.0 - 1e-5)) / 2e-5).abs()
        };
        let (mut kept, mut dropped) = (vec![], vec![]);
        let mask = list(&pruned.mask);
        // Every 96th weight, and enough survivors to determine the threshold.
        for at in (0..19_144i64).filter(|at| at % 96 == 0 || (at % 16 == 0 && mask[*at as usize] == 1.0)) {
            if mask[at as usize] == 1.0 { &mut kept } else { &mut dropped }.push(score(at));
        }
        let least = kept.iter().copied().fold(f64::INFINITY, f64::min);
        let most = dropped.iter().copied().fold(0.0, f64::max);
        assert!(kept.len() > 50 && dropped.len() > 150, "{} {}", kept.len(), dropped.len());
        assert!(least > 0.99 * most, "kept from {least}, dropped to {most}");
        // The survivors have their initial values.
        assert_eq!(pruned.parameters.narrow(0, 0, 19_144), dense.parameters.narrow(0, 0, 19_144) * &pruned.mask);
        assert_eq!(pruned.statistics, dense.statistics, "the search does not change the statistics");
    }

    #[test]
    fn synflow_keeps_the_stated_number_and_every_layer() {
        let network = network();
        let (mut previous, dense) = (19_144, Weights::initialize(&network.layout, 1));
        for level in [1, 6, 12, 15] {
            let mut pruned = dense.copy();
            synflow(alone(), &network, (1, 8), &mut pruned, Sparsity { ratio: 0.2, level }).unwrap();
            let expected = (0..level).fold(19_144u64, |left, _| left * 4 / 5);
            assert_eq!(pruned.survivors(), expected);
            assert!(pruned.survivors() < previous);
            previous = pruned.survivors();
            let lost: Vec<_> = layers(&network, &pruned).into_iter().filter(|(_, left)| *left == 0.0).collect();
            assert!(lost.is_empty(), "level {level}: {lost:?}");
        }
    }

    /// Returns the sum of the scores of the tensors with these names.
    fn total_score(layout: &Layout, scores: &Tensor, names: &[&str]) -> f64 {
        let tensors = layout.tensors.iter().filter(|tensor| names.contains(&tensor.name.as_str()));
        let score = |tensor: &Parameter| scores.narrow(0, tensor.start, tensor.length()).sum(Kind::Double);
        tensors.map(|tensor| score(tensor).double_value(&[])).sum()
    }

    /// One round of scores on a small network: the flow into a layer equals the flow out of it, so the scores of its
    /// incoming and outgoing weights have the same sum (the synaptic conservation law).
    #[test]
    fn synflow_conserves_flow_through_every_stage() {
        let network = network();
        let weights = Weights::initialize(&network.layout, 1);
        let parameters = weights.parameters.abs().to_kind(Kind::Double).set_requires_grad(true);
        let statistics = network.layout.fresh_statistics(Kind::Double);
        let ones = Tensor::ones([1, 1, 8, 8], (Kind::Double, tch::Device::Cpu));
        let flow = network.logits(&parameters, &statistics, Mode::Evaluate, &ones).sum(Kind::Double);
        flow.backward();
        let scores = effects(&parameters);
        let total = |names| total_score(&network.layout, &scores, names);
        // The bias of the classifier adds a little flow beside its weights; norm shifts are 0 at initialization.
        let flow = flow.double_value(&[]) - total(&["fc.bias"]);
        for stage in [
            &["conv1.weight"][..],
            &["layer2.0.conv1.weight", "layer2.0.downsample.0.weight"],
            &["layer3.0.conv2.weight", "layer3.0.downsample.0.weight"],
            &["fc.weight"],
        ] {
            assert!((total(stage) / flow - 1.0).abs() < 1e-9, "{stage:?}: {} of {flow}", total(stage));
        }
    }

    /// Only ratios of flows matter, even if the flows are tiny: the classifier, which is never pruned, scales every
    /// score.
    #[test]
    fn synflow_compares_the_smallest_flows() {
        let network = network();
        let classifier = network.layout.tensors.iter().find(|tensor| tensor.name == "fc.weight").unwrap();
        let bias = network.layout.tensors.iter().find(|tensor| tensor.name == "fc.bias").unwrap();
        let mask_of = |factor: f64| {
            let mut weights = Weights::initialize(&network.layout, 1);
            let _ = weights.parameters.narrow(0, classifier.start, classifier.length()).g_mul_scalar_(factor);
            let _ = weights.parameters.narrow(0, bias.start, bias.length()).fill_(0.0);
            synflow(alone(), &network, (1, 8), &mut weights, SPARSE).unwrap();
            weights.mask
        };
        // A power of two does not change the mantissas.
        assert_eq!(mask_of(2f64.powi(-100)), mask_of(1.0));
    }

    #[test]
    fn stopped_or_failed_search_returns_an_error() {
        let (network, data) = (network(), data::load(Dataset::Digits, "".as_ref(), 1).unwrap());
        let mut weights = Weights::initialize(&network.layout, 1);
        let stop = Workers { stop: &AtomicBool::new(true), ..alone() };
        let stopped = snip(stop, &network, &data, &mut weights, &SAMPLE, SPARSE);
        assert!(matches!(stopped, Err(Error::Interrupted)));
        let stopped = synflow(stop, &network, (1, 8), &mut weights, SPARSE);
        assert!(matches!(stopped, Err(Error::Interrupted)));
        let nothing = synflow(alone(), &network, (1, 8), &mut weights, Sparsity { ratio: 0.9, level: 5 });
        assert!(matches!(nothing, Err(Error::NothingLeft { survivors: 1 })), "{nothing:?}");
        let _ = weights.parameters.get(0).fill_(f64::NAN);
        let broken = synflow(alone(), &network, (1, 8), &mut weights, SPARSE);
        assert!(matches!(broken, Err(Error::ScoresNotFinite)), "{broken:?}");
    }
}
