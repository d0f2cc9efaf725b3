//! Linear mode connectivity: errors along the straight path between two networks.

pub mod align;

use tch::{Device, Tensor};

use crate::trainer::comm::{Comm, Place, pulse};
use crate::trainer::data::Data;
use crate::trainer::data::batches::Batch;
use crate::trainer::model::weights::{raw, tensor};
use crate::trainer::model::{Network, Weights};
use crate::trainer::session::{Demand, Session};
use crate::trainer::train::evaluate::{Score, absorb, combine, evaluate_all, plain_mean, reestimation_batches};
use crate::trainer::{Error, Result};
use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};
use winsign::run::attempt::Progress;
use winsign::run::results::{ConnectOutcome, PathOutcome, PathPoint};
use winsign::run::settings::{Connect, Masks};
use winsign::run::tensors::TensorFile;

/// The path t·A + (1 − t)·B at evenly spaced t, ends included.
///
/// Every trained tensor is interpolated. BatchNorm statistics are re-estimated for each point with one pass over the
/// training batches; each batch is made once for all points, by one of the ranks. [`Error::DifferentMasks`] if the masks differ, unless the
/// union is asked for: then the weights of both are interpolated, and the remaining ratio is that of the union.
pub fn path(
    session: &mut Session,
    network: &Network,
    data: &Data,
    (a, b): (&Weights, &Weights),
    connect: &Connect,
) -> Result<ConnectOutcome> {
    let Connect { points, batch, masks, .. } = *connect;
    let device = data.device();
    let (a, b) = (&a.on(device), &b.on(device));
    if masks == Masks::Same && a.mask != b.mask {
        let differing = a.mask.ne_tensor(&b.mask).sum(tch::Kind::Int64).int64_value(&[]);
        return Err(Error::DifferentMasks { differing: differing as u64 });
    }
    let positions: Vec<f64> = (0..points).map(|point| f64::from(point) / f64::from(points - 1)).collect();
    // Made when needed: a sum of two flat tensors is cheap, and a copy for every point may not fit the memory.
    let network_at = |t: f64| interpolate(&a.parameters, &b.parameters, t);

    let batches = reestimation_batches(data, batch);
    // A network without BatchNorm has nothing to be estimated.
    let steps = if network.layout.statistics() > 0 { batches.steps() } else { 0 };
    let place = session.place();
    let fresh = || {
        let one = network.layout.fresh_statistics(a.parameters.kind()).to_device(device);
        one.repeat([i64::from(points), 1])
    };
    let mut progress = match session.load_checkpoint()? {
        Some(file) => Estimates::resume(&file, place, device, fresh).map_err(Error::Unfit)?,
        None => Estimates { statistics: fresh(), seen: 0, step: 0 },
    };
    if progress.step > 0 {
        tracing::info!("going on at batch {} of {}", progress.step + 1, batches.steps());
    }
    let report = |session: &Session, step: u32| {
        session.report(Progress { done: step, total: batches.steps(), test_error: None })
    };
    report(session, progress.step)?;
    let epoch = batches.epoch(0);
    let mut own = epoch.every(progress.step, place);
    // All ranks go round by round, so that they can save together; in the last round not every rank may have a batch.
    for step in (progress.step..steps).step_by(place.ranks) {
        let batch = own.next().map(|(_, batch)| batch).transpose();
        progress.step = step;
        let demand = session.demand(batch.is_ok());
        if demand > Demand::Nothing {
            let gathered = progress.gather(session.comm());
            session.save_checkpoint(|| gathered)?;
            report(session, step)?;
        }
        let batch = match demand {
            Demand::Nothing | Demand::Save => batch?,
            Demand::Stop => return Err(Error::Interrupted),
            Demand::Fail => return Err(batch.err().unwrap_or(Error::Elsewhere)),
        };
        let Some(Batch { images, .. }) = batch else { continue };
        for (point, &t) in positions.iter().enumerate() {
            let statistics = progress.statistics.get(point as i64);
            absorb(network, &network_at(t), &statistics, &images, plain_mean(progress.seen));
            pulse::moved();
        }
        progress.seen += 1;
    }
    let mut statistics = progress.statistics.copy();
    if steps > 0 {
        combine(session.comm(), &mut statistics, progress.seen, steps);
    }
    let point = |point: u32| (network_at(positions[point as usize]), statistics.get(point.into()));
    let scores = evaluate_all(session.crew(), network, points, point, data);
    if scores.is_err() {
        progress.step = steps;
        let gathered = progress.gather(session.comm());
        session.save_checkpoint(|| gathered)?;
    }
    let scores = scores?;
    let path: Vec<PathPoint> = (positions.iter().zip(scores))
        .map(|(&t, Score { error, loss })| PathPoint { t, test_error: error, test_loss: loss, train: None })
        .collect();
    if let Some(point) = path.iter().find(|point| !point.test_loss.is_finite()) {
        return Err(Error::NotFinite { t: point.t });
    }
    let union = a.mask.maximum(&b.mask).sum(tch::Kind::Double).double_value(&[]);
    let path = PathOutcome { barrier: barrier(&path), points: path, similarity: None };
    Ok(ConnectOutcome { remaining_ratio: union / a.mask.numel() as f64, path })
}

/// t·A + (1 − t)·B; exactly A at 1 and B at 0.
pub fn interpolate(a: &Tensor, b: &Tensor, t: f64) -> Tensor {
    a * t + b * (1.0 - t)
}

/// The largest error on the path minus the mean of the two end errors, in percentage points.
fn barrier(path: &[PathPoint]) -> f64 {
    let ends = (path[0].test_error + path[path.len() - 1].test_error) / 2.0;
    let largest = path.iter().map(|point| point.test_error).fold(f64::NEG_INFINITY, f64::max);
    largest - ends
}

/// How far the estimation of statistics along a path is.
struct Estimates {
    /// Means over the batches of this rank so far, shape (points, statistics).
    statistics: Tensor,
    /// How many those were.
    seen: u32,
    /// The batch to go on from: all before it were seen by some rank.
    step: u32,
}

/// What a checkpoint holds beside statistics of shape (ranks, points, statistics).
#[derive(Serialize, Deserialize)]
struct Gathered {
    step: u32,
    /// Batches that each rank has seen.
    seen: Vec<u32>,
}

impl Estimates {
    /// The checkpoint, on every rank.
    fn gather(&self, comm: &dyn Comm) -> TensorFile {
        let Place { rank, ranks } = comm.place();
        let seen = comm.gather(&self.seen.to_le_bytes());
        let number = |bytes: Vec<u8>| u32::from_le_bytes(bytes.try_into().expect("four bytes were sent"));
        let gathered = Gathered { step: self.step, seen: seen.into_iter().map(number).collect() };
        // Every rank fills its own part; the others add zeros.
        let mut all = self.statistics.zeros_like().unsqueeze(0).repeat([ranks as i64, 1, 1]);
        all.get(rank as i64).copy_(&self.statistics);
        comm.sum(&mut all);
        let tensors = [("statistics".to_string(), raw(&all, Dtype::F32, &all.size()))];
        TensorFile { tensors: tensors.into(), metadata: serde_json::to_string(&gathered).expect("plain data") }
    }

    /// This rank's part of a checkpoint. If there were another number of ranks then, rank 0 goes on with the mean of all.
    fn resume(
        file: &TensorFile,
        Place { rank, ranks }: Place,
        device: Device,
        fresh: impl FnOnce() -> Tensor,
    ) -> std::result::Result<Estimates, String> {
        let all = tensor(file.tensors.get("statistics").ok_or("it has no statistics")?).to_device(device);
        let Gathered { step, seen } = serde_json::from_str(&file.metadata).map_err(|error| error.to_string())?;
        if all.size().first() != Some(&(seen.len() as i64)) {
            return Err("its statistics are not of the ranks it names".to_string());
        }
        if seen.len() == ranks {
            return Ok(Estimates { statistics: all.get(rank as i64), seen: seen[rank], step });
        }
        if rank > 0 {
            return Ok(Estimates { statistics: fresh(), seen: 0, step });
        }
        let total: u32 = seen.iter().sum();
        let shares: Vec<f32> = seen.iter().map(|&seen| seen as f32 / total.max(1) as f32).collect();
        let shares = Tensor::from_slice(&shares).view([-1, 1, 1]).to_device(all.device());
        Ok(Estimates { statistics: (all * shares).sum_dim_intlist([0i64].as_slice(), false, None), seen: total, step })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(t: f64, test_error: f64) -> PathPoint {
        PathPoint { t, test_error, test_loss: 0.0, train: None }
    }

    #[test]
    fn the_barrier_is_the_rise_above_the_mean_of_the_ends() {
        assert_eq!(barrier(&[point(0.0, 2.0), point(0.5, 60.0), point(1.0, 4.0)]), 57.0);
        assert_eq!(barrier(&[point(0.0, 2.0), point(0.5, 2.0), point(1.0, 4.0)]), 1.0, "an end may be the maximum");
    }

    #[test]
    fn the_ends_of_a_path_are_the_networks_themselves() {
        let (a, b) = (Tensor::from_slice(&[0.1f32, -3.0]), Tensor::from_slice(&[0.7f32, 5.0]));
        assert_eq!(interpolate(&a, &b, 1.0), a);
        assert_eq!(interpolate(&a, &b, 0.0), b);
        let quarter = interpolate(&a, &b, 0.25);
        assert!(quarter.allclose(&Tensor::from_slice(&[0.55f32, 3.0]), 1e-6, 0.0, false), "{quarter:?}");
    }
}
