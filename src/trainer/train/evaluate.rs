//! How good a network is on the test set, and the BatchNorm statistics to ask that with.

use tch::{Kind, Reduction, Tensor};

use crate::trainer::data::Data;
use crate::trainer::data::batches::{Batch, Batches, test_batches};
use crate::trainer::model::{Mode, Network};

/// Images per forward pass when nothing is trained.
const TEST_BATCH: i64 = 512;

/// Mean cross-entropy in nats, and errors in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    pub loss: f64,
    pub error: f64,
}

/// The test score of flat `parameters` with flat `statistics`.
pub fn evaluate(network: &Network, parameters: &Tensor, statistics: &Tensor, data: &Data) -> Score {
    let (mut loss, mut wrong) = (0.0, 0.0);
    tch::no_grad(|| {
        for Batch { images, labels } in test_batches(data, TEST_BATCH) {
            let logits = network.logits(parameters, statistics, Mode::Evaluate, &images);
            loss += cross_entropy(&logits, &labels, Reduction::Sum).double_value(&[]);
            wrong += wrong_count(&logits, &labels).double_value(&[]);
        }
    });
    let count = data.test.count() as f64;
    Score { loss: loss / count, error: 100.0 * wrong / count }
}

/// Fresh BatchNorm statistics for flat `parameters`: one pass over the training batches of an epoch of its own.
///
/// Statistics gathered in training belong to other parameters than those evaluated: to the random α of AWS, or to the
/// ends of a path rather than its inner points.
pub fn reestimate(network: &Network, parameters: &Tensor, data: &Data, batch: u32) -> Tensor {
    let statistics = network.layout.fresh_statistics();
    let batches = reestimation_batches(data, batch);
    let epoch = batches.epoch(0);
    for step in 0..batches.steps() {
        absorb(network, parameters, &statistics, &epoch.batch(step));
    }
    statistics
}

/// The batches that statistics are re-estimated with: the same ones for every network of every run.
pub fn reestimation_batches(data: &Data, batch: u32) -> Batches<'_> {
    Batches::new(data, batch, 0, "re-estimation")
}

/// Moves `statistics` by one batch, as training would.
pub fn absorb(network: &Network, parameters: &Tensor, statistics: &Tensor, batch: &Batch) {
    let _ = tch::no_grad(|| network.logits(parameters, statistics, Mode::Train, &batch.images));
}

pub fn cross_entropy(logits: &Tensor, labels: &Tensor, reduction: Reduction) -> Tensor {
    logits.cross_entropy_loss::<Tensor>(labels, None, reduction, -100, 0.0)
}

/// How many of a batch are classified wrongly, as a tensor that stays on its device.
pub fn wrong_count(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.argmax(1, false).ne_tensor(labels).sum(Kind::Float)
}
