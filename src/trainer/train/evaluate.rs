//! Evaluation on the test set, and the re-estimation of BatchNorm statistics for it.

use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Device, Kind, Reduction, Tensor};
use winsign_data::Split;

use crate::comm::{Comm, pulse};
use crate::data::Data;
use crate::data::batches::{Batch, Batches, plain_batches, plain_steps};
use crate::model::{Mode, Network};
use crate::{Error, Result};

/// The mean cross-entropy in nats, and the error in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    pub loss: f64,
    pub error: f64,
}

/// The ranks that evaluate together, round by round, until one of them is asked to stop.
#[derive(Clone, Copy)]
pub struct Workers<'a> {
    pub comm: &'a dyn Comm,
    /// True once this rank was asked to stop.
    pub stop: &'a AtomicBool,
}

impl Workers<'_> {
    /// Returns the result of this rank if every rank has one and none was asked to stop. All ranks must call it
    /// together.
    pub fn agree<T>(&self, found: Result<T>) -> Result<T> {
        // If the demands of ranks differ, the largest counts.
        const STOP: u64 = 1;
        const FAIL: u64 = 2;
        let own = match &found {
            Err(_) => FAIL,
            Ok(_) if self.stop.load(Ordering::Relaxed) => STOP,
            Ok(_) => 0,
        };
        match self.comm.largest(own) {
            0 => found,
            STOP => Err(Error::Interrupted),
            _ => found.and(Err(Error::OtherRankFailed)),
        }
    }
}

/// Returns the test score of flat `parameters` with flat `statistics`, equal to the last bit for any number of ranks.
/// Fails with [`Error::Interrupted`] if a rank is asked to stop.
pub fn evaluate(
    workers: Workers,
    network: &Network,
    parameters: &Tensor,
    statistics: &Tensor,
    data: &Data,
) -> Result<Score> {
    let steps = plain_steps(data, Split::Test);
    let mut sums = Sums::new(1, steps, data.device());
    let place = workers.comm.place();
    let mut own = plain_batches(data, Split::Test, 0, place);
    for _ in (0..steps).step_by(place.ranks) {
        // In the last round some ranks may have no batch.
        let (step, batch) = own.next().map_or((0, Ok(None)), |(step, batch)| (step, batch.map(Some)));
        let Some(batch) = workers.agree(batch)? else { continue };
        sums.add(0, step, network, (parameters, statistics), &batch);
        pulse::moved();
    }
    Ok(sums.scores(workers.comm, data.count(Split::Test))[0])
}

/// The loss and the number of misclassified images of networks on each batch of a part. Each batch is evaluated by one
/// rank, and the others add zero, so that sums do not depend on which rank it was. The numbers are read at the end, so
/// that no batch waits for another.
pub struct Sums {
    /// The numbers; shape (networks, 2, batches).
    pub tensor: Tensor,
}

impl Sums {
    /// Creates empty sums for `steps` batches.
    pub fn new(networks: usize, steps: u32, device: Device) -> Sums {
        Sums { tensor: Tensor::zeros([networks as i64, 2, i64::from(steps)], (Kind::Double, device)) }
    }

    /// Evaluates network number `which`, with these parameters and statistics, on a batch.
    pub fn add(
        &mut self,
        which: usize,
        step: u32,
        network: &Network,
        (parameters, statistics): (&Tensor, &Tensor),
        Batch { images, labels, .. }: &Batch,
    ) {
        tch::no_grad(|| {
            let logits = network.logits(parameters, statistics, Mode::Evaluate, images);
            let sum = |kind: i64| self.tensor.get(which as i64).get(kind).get(step.into());
            sum(0).copy_(&cross_entropy(&logits, labels, Reduction::Sum));
            sum(1).copy_(&wrong_count(&logits, labels));
        });
    }

    /// Returns the scores over `images` images, from the batches of all ranks.
    pub fn scores(mut self, comm: &dyn Comm, images: i64) -> Vec<Score> {
        comm.sum(&mut self.tensor);
        let steps = self.tensor.size()[2] as usize;
        let sums = Vec::<f64>::try_from(self.tensor.view([-1])).expect("sums are a vector of floats");
        let score = |sums: &[f64]| {
            let (losses, wrong) = sums.split_at(steps);
            let images = images as f64;
            Score { loss: losses.iter().sum::<f64>() / images, error: 100.0 * wrong.iter().sum::<f64>() / images }
        };
        sums.chunks(2 * steps).map(score).collect()
    }
}

/// Re-estimates BatchNorm statistics for flat `parameters`, in one pass over training batches of a separate order,
/// which the ranks divide by whole batches. Returns the flat statistics.
///
/// Statistics accumulated in training belong to other parameters than those evaluated: to the random α of AWS, or to
/// the ends of a path rather than its inner points.
pub fn reestimate(workers: Workers, network: &Network, parameters: &Tensor, data: &Data, batch: u32) -> Result<Tensor> {
    let mut statistics = network.layout.fresh_statistics(parameters.kind()).to_device(data.device());
    let batches = reestimation_batches(data, batch);
    let epoch = batches.epoch(0);
    let place = workers.comm.place();
    let mut own = epoch.every(0, place);
    let mut seen = 0;
    for _ in (0..batches.steps()).step_by(place.ranks) {
        let batch = own.next().map(|(_, batch)| batch).transpose();
        let Some(Batch { images, .. }) = workers.agree(batch)? else { continue };
        update_statistics(network, parameters, &statistics, &images, mean_momentum(seen));
        seen += 1;
    }
    combine_statistics(workers.comm, &mut statistics, seen, batches.steps());
    Ok(statistics)
}

/// Combines the means over the `seen` batches of each rank to the mean over all `steps` batches.
pub fn combine_statistics(comm: &dyn Comm, statistics: &mut Tensor, seen: u32, steps: u32) {
    if comm.place().ranks > 1 {
        let _ = statistics.g_mul_scalar_(f64::from(seen) / f64::from(steps));
        comm.sum(statistics);
    }
}

/// Returns the batches of re-estimation, which are the same for every network of every run.
pub fn reestimation_batches(data: &Data, batch: u32) -> Batches<'_> {
    Batches::new(data, batch, 0, "re-estimation")
}

/// Returns the momentum with which statistics after `seen` batches become the mean over all batches. The constant
/// 0.1 of training would leave 0.9ⁿ of the initial values after n batches: 9 % after the 23 of the digits, which is far
/// too much if activations are small.
pub fn mean_momentum(seen: u32) -> f64 {
    1.0 / f64::from(seen + 1)
}

/// Moves `statistics` toward those of one batch. Dropout is not applied, since the statistics are for evaluation.
pub fn update_statistics(network: &Network, parameters: &Tensor, statistics: &Tensor, images: &Tensor, momentum: f64) {
    let _ = tch::no_grad(|| network.logits(parameters, statistics, Mode::Train { momentum }, images));
}

/// Returns the cross-entropy of logits in nats.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor, reduction: Reduction) -> Tensor {
    logits.cross_entropy_loss::<Tensor>(labels, None, reduction, -100, 0.0)
}

/// Returns the number of misclassified images of a batch, as a tensor that stays on its device.
pub fn wrong_count(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.argmax(1, false).ne_tensor(labels).sum(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::threads::on_ranks;
    use crate::comm::{Place, Single};
    use crate::data;
    use crate::model::Weights;
    use winsign_core::settings::{Architecture, Dataset, Problem};

    /// Each of the two ranks has some of the batches.
    #[test]
    fn stop_request_to_one_rank_stops_all() {
        let stopped = on_ranks(2, |comm| {
            let network = Network::new(Problem::new(Dataset::Digits, Architecture::ResNet8));
            let data = data::load(Dataset::Digits, "".as_ref(), 1).unwrap();
            let parameters = Weights::initialize(&network.layout, 1).parameters;
            let stop = AtomicBool::new(comm.place().rank == 1);
            let workers = Workers { comm, stop: &stop };
            let fresh = network.layout.fresh_statistics(Kind::Float);
            let evaluated = evaluate(workers, &network, &parameters, &fresh, &data);
            (evaluated, reestimate(workers, &network, &parameters, &data, 64))
        });
        for (evaluated, reestimated) in stopped {
            assert!(matches!(evaluated, Err(Error::Interrupted)) && matches!(reestimated, Err(Error::Interrupted)));
        }
    }

    /// Compares the statistics of the first layer with means and variances of its outputs.
    #[test]
    fn reestimated_statistics_are_the_mean_over_all_batches() {
        let network = Network::new(Problem::new(Dataset::Digits, Architecture::ResNet8));
        let data = data::load(Dataset::Digits, "".as_ref(), 1).unwrap();
        let parameters = Weights::initialize(&network.layout, 1).parameters;
        let found =
            reestimate(Workers { comm: &Single, stop: &AtomicBool::new(false) }, &network, &parameters, &data, 64)
                .unwrap();

        let kernel = parameters.narrow(0, 0, 72).view([8, 1, 3, 3]);
        assert_eq!(network.layout.tensors[0].name, "conv1.weight");
        let batches = reestimation_batches(&data, 64);
        let epoch = batches.epoch(0);
        let outputs = epoch.shares(0, Place::ALONE).map(|batch| {
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
