//! How good a network is on the test set, and the BatchNorm statistics to ask that with.

use tch::{Kind, Reduction, Tensor};

use crate::trainer::Result;
use crate::trainer::data::Data;
use crate::trainer::data::batches::{Batch, Batches, test_batches};
use crate::trainer::model::{Mode, Network};

/// Mean cross-entropy in nats, and errors in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    pub loss: f64,
    pub error: f64,
}

/// The test score of flat `parameters` with flat `statistics`.
pub fn evaluate(network: &Network, parameters: &Tensor, statistics: &Tensor, data: &Data) -> Result<Score> {
    let (mut loss, mut wrong) = (0.0, 0.0);
    for batch in test_batches(data) {
        let Batch { images, labels, .. } = batch?;
        tch::no_grad(|| {
            let logits = network.logits(parameters, statistics, Mode::Evaluate, &images);
            loss += cross_entropy(&logits, &labels, Reduction::Sum).double_value(&[]);
            wrong += wrong_count(&logits, &labels).double_value(&[]);
        });
    }
    let count = data.test_count() as f64;
    Ok(Score { loss: loss / count, error: 100.0 * wrong / count })
}

/// Fresh BatchNorm statistics for flat `parameters`: one pass over the training batches of an epoch of its own.
///
/// Statistics gathered in training belong to other parameters than those evaluated: to the random α of AWS, or to the
/// ends of a path rather than its inner points.
pub fn reestimate(network: &Network, parameters: &Tensor, data: &Data, batch: u32) -> Result<Tensor> {
    let statistics = network.layout.fresh_statistics(parameters.kind());
    let batches = reestimation_batches(data, batch);
    let epoch = batches.epoch(0);
    for (step, batch) in (0..).zip(epoch.from(0)) {
        absorb(network, parameters, &statistics, &batch?.images, plain_mean(step));
    }
    Ok(statistics)
}

/// The batches that statistics are re-estimated with: the same ones for every network of every run.
pub fn reestimation_batches(data: &Data, batch: u32) -> Batches<'_> {
    Batches::new(data, batch, 0, "re-estimation")
}

/// The momentum at a step, from 0, with which statistics become the plain mean over all batches of a pass. The constant
/// 0.1 of training would leave 0.9ⁿ of the fresh values after n batches: 9 % after the 23 of the digits, far too much
/// where activations are small.
pub fn plain_mean(step: u32) -> f64 {
    1.0 / f64::from(step + 1)
}

/// Moves `statistics` toward those of one batch. Nothing is dropped out: they are for evaluation.
pub fn absorb(network: &Network, parameters: &Tensor, statistics: &Tensor, images: &Tensor, momentum: f64) {
    let _ = tch::no_grad(|| network.logits(parameters, statistics, Mode::Train { momentum }, images));
}

pub fn cross_entropy(logits: &Tensor, labels: &Tensor, reduction: Reduction) -> Tensor {
    logits.cross_entropy_loss::<Tensor>(labels, None, reduction, -100, 0.0)
}

/// How many of a batch are classified wrongly, as a tensor that stays on its device.
pub fn wrong_count(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.argmax(1, false).ne_tensor(labels).sum(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::data;
    use crate::trainer::model::Weights;
    use winsign::run::settings::{Architecture, Dataset, Problem};

    /// The statistics of the first layer against means and variances computed from its outputs.
    #[test]
    fn reestimated_statistics_are_the_mean_over_all_batches() {
        let network = Network::new(Problem { dataset: Dataset::Digits, architecture: Architecture::ResNet8 });
        let data = data::load(Dataset::Digits, "".as_ref(), 1).unwrap();
        let parameters = Weights::initialize(&network.layout, 1).parameters;
        let found = reestimate(&network, &parameters, &data, 64).unwrap();

        let kernel = parameters.narrow(0, 0, 72).view([8, 1, 3, 3]);
        assert_eq!(network.layout.tensors[0].name, "conv1.weight");
        let batches = reestimation_batches(&data, 64);
        let epoch = batches.epoch(0);
        let outputs = epoch.from(0).map(|batch| {
            let images = batch.unwrap().images;
            images.conv2d(&kernel, None::<&Tensor>, [1, 1], [1, 1], [1, 1], 1).transpose(0, 1).flatten(1, -1)
        });
        let (means, variances): (Vec<Tensor>, Vec<Tensor>) =
            outputs.map(|output| (output.mean_dim(1, false, None), output.var_dim(1, true, false))).unzip();
        let mean_over_batches = |parts: &[Tensor]| Tensor::stack(parts, 0).mean_dim(0, false, None);
        let first_layer = |offset: i64| found.narrow(0, offset, 8);
        assert!(first_layer(0).allclose(&mean_over_batches(&means), 1e-4, 1e-5, false));
        assert!(first_layer(8).allclose(&mean_over_batches(&variances), 1e-4, 1e-5, false));
    }
}
