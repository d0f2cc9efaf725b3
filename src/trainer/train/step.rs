//! One training step: a forward and a backward pass.

use tch::{Reduction, Tensor};

use super::evaluate::cross_entropy;
use crate::trainer::data::batches::Batch;
use crate::trainer::model::{Network, Weights};
use crate::trainer::prune::interpolate_norms;
use winsign::random::Stream;

/// What a pass gives; all of it still on its device.
pub struct Pass {
    /// Shape (batch, classes).
    pub logits: Tensor,
    /// Mean cross-entropy in nats.
    pub loss: Tensor,
    /// Flat like the parameters; zero for masked weights, of which only the stored zero is left.
    pub gradient: Tensor,
}

/// Loss and gradient of a batch; BatchNorm statistics move toward those of the batch.
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
    let effective = match alpha {
        Some(alpha) => interpolate_norms(&network.layout, parameters, norm_init, alpha),
        None => parameters.shallow_clone(),
    };
    let logits = network.training_logits(&effective, statistics, &batch.images, dropout);
    let loss = cross_entropy(&logits, &batch.labels, Reduction::Mean);
    parameters.zero_grad();
    loss.backward();
    let gradient = parameters.grad();
    let _ = gradient.narrow(0, 0, network.layout.prunable()).g_mul_(mask);
    Pass { logits: logits.detach(), loss: loss.detach(), gradient }
}
