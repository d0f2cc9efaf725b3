//! Training steps: a forward and a backward pass, the exchange between ranks, and the optimizer.

use tch::{Reduction, Tensor};
use winsign_core::random::Stream;
use winsign_core::settings::Training;

use super::evaluate::{cross_entropy, wrong_count};
use super::optimizer;
use crate::comm::Comm;
use crate::data::batches::Batch;
use crate::model::{Network, Weights};
use crate::prune::interpolate_norms;

/// The results of a pass, still on its device. With several ranks these are the contributions of this rank to sums over
/// all.
pub struct Pass {
    /// The logits of the images of this rank, shape (images, classes); used by the golden tests.
    #[allow(dead_code)]
    pub logits: Tensor,
    /// The mean cross-entropy of the batch in nats.
    pub loss: Tensor,
    /// The number of misclassified images.
    pub wrong: Tensor,
    /// The gradient, flat like the parameters; zero for masked weights.
    pub gradient: Tensor,
}

/// Computes loss and gradient of a batch, or of this rank's share of it, and moves BatchNorm statistics toward those of
/// the images.
///
/// `weights.parameters` must be a leaf that requires a gradient. With `alpha`, norm parameters are interpolated toward
/// `norm_init`, their initialization ([`interpolate_norms`]). `dropout` is as in [`Network::training_logits`].
pub fn forward_backward(
    network: &Network,
    weights: &mut Weights,
    batch: &Batch,
    alpha: Option<f64>,
    norm_init: &Tensor,
    dropout: Option<Vec<Stream>>,
) -> Pass {
    let Weights { parameters, statistics, mask } = weights;
    let images = batch.indices.len() as i64;
    if images == 0 {
        let zero = || Tensor::zeros([], (parameters.kind(), parameters.device()));
        return Pass { logits: zero(), loss: zero(), wrong: zero(), gradient: parameters.detach().zeros_like() };
    }
    let effective = match alpha {
        Some(alpha) => interpolate_norms(&network.layout, parameters, norm_init, alpha),
        None => parameters.shallow_clone(),
    };
    let logits = network.training_logits(&effective, statistics, &batch.images, dropout);
    let mut loss = cross_entropy(&logits, &batch.labels, Reduction::Mean);
    if images < batch.whole {
        loss *= share(batch);
    }
    parameters.zero_grad();
    loss.backward();
    let gradient = parameters.grad();
    let _ = gradient.narrow(0, 0, network.layout.prunable()).g_mul_(mask);
    let logits = logits.detach();
    Pass { wrong: wrong_count(&logits, &batch.labels), logits, loss: loss.detach(), gradient }
}

/// Returns the fraction of the whole batch that this rank has.
fn share(batch: &Batch) -> f64 {
    batch.indices.len() as f64 / batch.whole as f64
}

/// The exchange of a step: sums the contributions of all ranks.
///
/// All values are in one flat tensor, so there is one sum over all ranks per step. It also averages the BatchNorm
/// statistics of all ranks, weighted by their numbers of images: every rank normalizes by its own images, but all ranks
/// end the step with the same statistics.
pub struct Exchange<'a> {
    comm: &'a dyn Comm,
    /// The gradient, the statistics, the loss and the number of misclassified images; `None` if there is one rank.
    flat: Option<Tensor>,
}

impl Exchange<'_> {
    /// Creates an exchange for weights of this size.
    pub fn new<'a>(comm: &'a dyn Comm, weights: &Weights) -> Exchange<'a> {
        let Weights { parameters, statistics, .. } = weights;
        let length = parameters.size()[0] + statistics.size()[0] + 2;
        let flat = || Tensor::zeros([length], (parameters.kind(), parameters.device()));
        Exchange { comm, flat: (comm.place().ranks > 1).then(flat) }
    }

    /// Replaces `pass` and `weights.statistics` by those of all ranks.
    pub fn sum(&mut self, weights: &mut Weights, batch: &Batch, pass: &mut Pass) {
        let Some(flat) = &mut self.flat else { return };
        let Weights { parameters, statistics, .. } = weights;
        let [parameters, statistics_length] = [parameters.size()[0], statistics.size()[0]];
        tch::no_grad(|| {
            let parts = |flat: &Tensor| -> [Tensor; 4] {
                let parts = flat.split_with_sizes([parameters, statistics_length, 1, 1].as_slice(), 0);
                parts.try_into().expect("there is a part for each size")
            };
            let [gradient, averaged, loss, wrong] = &mut parts(flat);
            gradient.copy_(&pass.gradient);
            averaged.copy_(&(&*statistics * share(batch)));
            loss.copy_(&pass.loss);
            wrong.copy_(&pass.wrong);
            self.comm.sum(flat);
            statistics.copy_(averaged);
            (pass.loss, pass.wrong) = (loss.get(0), wrong.get(0));
            pass.gradient = gradient.shallow_clone();
        });
    }
}

/// The parts that all steps of a training share.
pub struct Stepper<'a> {
    network: &'a Network,
    training: &'a Training,
    norm_init: Tensor,
    exchange: Exchange<'a>,
}

impl Stepper<'_> {
    /// Creates a stepper for weights of this size.
    pub fn new<'a>(comm: &'a dyn Comm, network: &'a Network, training: &'a Training, weights: &Weights) -> Stepper<'a> {
        let Weights { parameters, .. } = weights;
        let norm_init = network.layout.norm_init(parameters.kind()).to_device(parameters.device());
        Stepper { network, training, norm_init, exchange: Exchange::new(comm, weights) }
    }

    /// Does a step on all ranks, each on its share of the batch, after which they have the same weights and moments.
    /// `lr` is the learning rate, and `number` counts the steps of the training from 1; `alpha` and `dropout` are as in
    /// [`forward_backward`].
    pub fn step(
        &mut self,
        (weights, moments): (&mut Weights, &mut [Tensor]),
        batch: &Batch,
        (lr, number): (f64, u64),
        alpha: Option<f64>,
        dropout: Option<Vec<Stream>>,
    ) -> Pass {
        let Stepper { network, training, norm_init, exchange } = self;
        let mut pass = forward_backward(network, weights, batch, alpha, norm_init, dropout);
        exchange.sum(weights, batch, &mut pass);
        optimizer::step(training, &network.layout, (lr, number), &weights.parameters, moments, &pass.gradient);
        pass
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::comm::Place;
    use crate::comm::threads::on_ranks;
    use crate::data;
    use crate::data::batches::Batches;
    use crate::train::evaluate::{Score, Workers, evaluate, reestimate};
    use crate::train::optimizer::{fresh_moments, step};
    use tch::Kind;
    use winsign_core::settings::{Architecture, Dataset, Optimizer, Precision, Problem, Schedule};

    const BATCH: u32 = 50;

    fn network() -> Network {
        Network::new(Problem::new(Dataset::Digits, Architecture::ResNet8))
    }

    fn trainable(layout: &crate::model::Layout) -> Weights {
        let weights = Weights::initialize(layout, 1);
        Weights { parameters: weights.parameters.set_requires_grad(true), ..weights }
    }

    fn close(a: &Tensor, b: &Tensor) -> bool {
        a.allclose(b, 1e-5, 1e-6, false)
    }

    /// The definition of data-parallel training with BatchNorm: every rank normalizes by its own images, and the
    /// gradient is the mean over all images, here computed share by share in one process. The shares of 50 images are
    /// 16, 17 and 17; the last batch of the epoch has 37.
    #[test]
    fn step_of_three_ranks_equals_the_mean_over_their_images() {
        let training = Training {
            epochs: 1,
            batch: BATCH,
            optimizer: Optimizer::Sgd,
            lr: 0.1,
            momentum: 0.9,
            weight_decay: 5e-4,
            schedule: Schedule::Constant,
            precision: Default::default(),
        };
        let first = 26;
        let of_ranks = on_ranks(3, |comm| {
            let (network, data) = (network(), data::load(Dataset::Digits, "".as_ref(), 1).unwrap());
            let mut weights = trainable(&network.layout);
            let mut moments = fresh_moments(Optimizer::Sgd, &weights.parameters);
            let mut stepper = Stepper::new(comm, &network, &training, &weights);
            let batches = Batches::new(&data, BATCH, 1, "test");
            let mut numbers = vec![];
            for (number, batch) in (1..).zip(batches.epoch(1).shares(first, comm.place())) {
                let state = (&mut weights, &mut moments[..]);
                let pass = stepper.step(state, &batch.unwrap(), (0.1, number), Some(0.3), None);
                numbers.push((pass.loss.double_value(&[]), pass.wrong.double_value(&[])));
            }
            (weights.parameters.detach(), weights.statistics, numbers)
        });

        let (network, data) = (network(), data::load(Dataset::Digits, "".as_ref(), 1).unwrap());
        let mut weights = trainable(&network.layout);
        let mut moments = fresh_moments(Optimizer::Sgd, &weights.parameters);
        let batches = Batches::new(&data, BATCH, 1, "test");
        let norm_init = network.layout.norm_init(Kind::Float);
        let mut numbers = vec![];
        for (number, batch) in (1..).zip(batches.epoch(1).shares(first, Place::ALONE)) {
            let Batch { images, labels, .. } = batch.unwrap();
            let count = images.size()[0];
            let before = weights.statistics.copy();
            let (mut gradient, mut statistics) = (weights.parameters.detach().zeros_like(), before.zeros_like());
            let (mut loss, mut wrong) = (0.0, 0.0);
            for rank in 0..3 {
                let (start, end) = (count * rank / 3, count * (rank + 1) / 3);
                let [images, labels] = [&images, &labels].map(|all| all.slice(0, start, end, 1));
                weights.statistics = before.copy();
                let part = Batch { images, labels, indices: (start..end).collect(), whole: end - start };
                let pass = forward_backward(&network, &mut weights, &part, Some(0.3), &norm_init, None);
                let share = (end - start) as f64 / count as f64;
                gradient += pass.gradient * share;
                statistics += &weights.statistics * share;
                loss += pass.loss.double_value(&[]) * share;
                wrong += pass.wrong.double_value(&[]);
            }
            weights.statistics = statistics;
            step(&training, &network.layout, (0.1, number), &weights.parameters, &mut moments, &gradient);
            numbers.push((loss, wrong));
        }
        let parameters = weights.parameters.detach();
        for (rank_parameters, rank_statistics, rank_numbers) in &of_ranks {
            assert!(close(rank_parameters, &parameters) && close(rank_statistics, &weights.statistics));
            assert_eq!(rank_parameters, &of_ranks[0].0, "ranks are equal to the last bit");
            assert_eq!(rank_statistics, &of_ranks[0].1);
            for (found, expected) in rank_numbers.iter().zip(&numbers) {
                assert!((found.0 - expected.0).abs() < 1e-5 && found.1 == expected.1, "{found:?} {expected:?}");
            }
        }
        assert_eq!(numbers.len(), 3);
    }

    /// Computes the first pass of a training; also returns the weights after it.
    fn first_pass(precision: Precision) -> (Pass, Weights) {
        let data = data::load(Dataset::Digits, "".as_ref(), 1).unwrap();
        let batches = Batches::new(&data, 128, 1, "test");
        let network = network().with_precision(precision);
        let mut weights = trainable(&network.layout);
        let batch = batches.epoch(1).shares(0, Place::ALONE).next().unwrap().unwrap();
        let norm_init = network.layout.norm_init(Kind::Float);
        let pass = forward_backward(&network, &mut weights, &batch, Some(0.3), &norm_init, None);
        (pass, weights)
    }

    /// bf16 is close to fp32 on the same weights and images: its numbers have 8 significant bits, so each layer adds
    /// errors of some thousandths. Measured on this network: 0.8 % of the norm of the logits, 7 % of that of the
    /// gradient. (Gradients of fresh networks are small differences of large sums; on images of noise 29 % were
    /// measured.)
    #[test]
    fn bf16_is_close_to_fp32_and_keeps_parameters_in_fp32() {
        let (fp32, reference) = first_pass(Precision::Fp32);
        let (bf16, weights) = first_pass(Precision::Bf16);
        let distance = |a: &Tensor, b: &Tensor| ((a - b).norm() / b.norm()).double_value(&[]);
        let (logits, gradient) = (distance(&bf16.logits, &fp32.logits), distance(&bf16.gradient, &fp32.gradient));
        assert!((1e-4..0.02).contains(&logits), "{logits}");
        assert!((1e-3..0.2).contains(&gradient), "{gradient}");
        assert!((&bf16.loss - &fp32.loss).double_value(&[]).abs() < 0.02);
        assert!(distance(&weights.statistics, &reference.statistics) < 0.01);
        for kept in [&weights.parameters, &weights.statistics, &bf16.gradient, &bf16.logits, &bf16.loss] {
            assert_eq!(kept.kind(), Kind::Float);
        }
    }

    /// A batch of two images leaves none for the third rank, which adds zeros.
    #[test]
    fn rank_without_images_participates() {
        let sums = on_ranks(3, |comm| {
            let network = network();
            let mut weights = trainable(&network.layout);
            let norm_init = network.layout.norm_init(Kind::Float);
            let own = if comm.place().rank == 2 { 0 } else { 1 };
            let images = Tensor::ones([own, 1, 8, 8], (Kind::Float, tch::Device::Cpu));
            let labels = Tensor::zeros([own], (Kind::Int64, tch::Device::Cpu));
            let batch = Batch { images, labels, indices: vec![0; own as usize], whole: 2 };
            let mut pass = forward_backward(&network, &mut weights, &batch, None, &norm_init, None);
            Exchange::new(comm, &weights).sum(&mut weights, &batch, &mut pass);
            (pass.loss.double_value(&[]), pass.gradient.abs().sum(Kind::Double).double_value(&[]))
        });
        assert!(sums[0].0 > 0.0 && sums[0].1 > 0.0);
        assert_eq!(sums[2], sums[0]);
    }

    /// Re-estimates statistics and evaluates a network on this number of ranks; returns the results of each rank.
    fn evaluate_on(ranks: usize) -> Vec<(Tensor, Score)> {
        on_ranks(ranks, |comm| {
            let (network, data) = (network(), data::load(Dataset::Digits, "".as_ref(), 1).unwrap());
            let parameters = Weights::initialize(&network.layout, 1).parameters;
            let stop = AtomicBool::new(false);
            let workers = Workers { comm, stop: &stop };
            let statistics = reestimate(workers, &network, &parameters, &data, BATCH).unwrap();
            let fresh = network.layout.fresh_statistics(Kind::Float);
            (statistics, evaluate(workers, &network, &parameters, &fresh, &data).unwrap())
        })
    }

    /// Evaluation and re-estimation on several ranks equal those on one.
    #[test]
    fn evaluation_on_several_ranks_equals_one_rank() {
        let alone = evaluate_on(1).remove(0);
        for (statistics, score) in [2, 3].into_iter().flat_map(evaluate_on) {
            assert!(close(&statistics, &alone.0));
            assert_eq!(score, alone.1, "to the last bit");
        }
    }
}
