//! One training step: a forward and a backward pass.

use tch::{Reduction, Tensor};

use super::evaluate::{cross_entropy, wrong_count};
use crate::trainer::comm::Comm;
use crate::trainer::data::batches::Batch;
use crate::trainer::model::{Network, Weights};
use crate::trainer::prune::interpolate_norms;
use winsign::random::Stream;

/// What a pass gives; all of it still on its device. With several ranks it is this rank's part of sums over all.
pub struct Pass {
    /// Shape (images, classes), of this rank's images; the golden test compares them.
    #[allow(dead_code)]
    pub logits: Tensor,
    /// Mean cross-entropy of the batch in nats.
    pub loss: Tensor,
    /// Wrongly classified images.
    pub wrong: Tensor,
    /// Flat like the parameters; zero for masked weights, of which only the stored zero is left.
    pub gradient: Tensor,
}

/// Loss and gradient of a batch, or of this rank's share of it; BatchNorm statistics move toward those of the images at
/// hand.
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
        loss = loss * share(batch);
    }
    parameters.zero_grad();
    loss.backward();
    let gradient = parameters.grad();
    let _ = gradient.narrow(0, 0, network.layout.prunable()).g_mul_(mask);
    let logits = logits.detach();
    Pass { wrong: wrong_count(&logits, &batch.labels), logits, loss: loss.detach(), gradient }
}

/// Which part of the whole batch this rank has.
fn share(batch: &Batch) -> f64 {
    batch.indices.len() as f64 / batch.whole as f64
}

/// The exchange of a step: adds up what all ranks computed.
///
/// Everything lies in one flat tensor, so there is one sum over all ranks a step. The BatchNorm statistics of all ranks are
/// averaged by it too, each counting as much as it has images: every rank normalizes by its own images, but all ranks
/// leave with the same statistics.
pub struct Exchange<'a> {
    comm: &'a dyn Comm,
    /// Gradient, statistics, loss, wrongly classified images. None if there is one rank.
    flat: Option<Tensor>,
}

impl Exchange<'_> {
    pub fn new<'a>(comm: &'a dyn Comm, weights: &Weights) -> Exchange<'a> {
        let Weights { parameters, statistics, .. } = weights;
        let length = parameters.size()[0] + statistics.size()[0] + 2;
        let flat = || Tensor::zeros([length], (parameters.kind(), parameters.device()));
        Exchange { comm, flat: (comm.place().ranks > 1).then(flat) }
    }

    /// After this `pass` and `weights.statistics` are those of all ranks.
    pub fn sum(&mut self, weights: &mut Weights, batch: &Batch, pass: &mut Pass) {
        let Some(flat) = &mut self.flat else { return };
        let Weights { parameters, statistics, .. } = weights;
        let [parameters, statistics_length] = [parameters.size()[0], statistics.size()[0]];
        tch::no_grad(|| {
            let parts = |flat: &Tensor| -> [Tensor; 4] {
                let parts = flat.split_with_sizes([parameters, statistics_length, 1, 1].as_slice(), 0);
                parts.try_into().expect("so many sizes, so many parts")
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
