//! Linear mode connectivity: errors along the straight path between two networks.

use tch::Tensor;

use crate::trainer::data::Data;
use crate::trainer::model::weights::{raw, tensor};
use crate::trainer::model::{Network, Weights};
use crate::trainer::session::Session;
use crate::trainer::train::evaluate::{absorb, evaluate, plain_mean, reestimation_batches};
use crate::trainer::{Error, Result};
use safetensors::tensor::Dtype;
use winsign::run::attempt::Progress;
use winsign::run::results::{ConnectOutcome, PathPoint};
use winsign::run::settings::{Connect, Masks};
use winsign::run::tensors::TensorFile;

/// The path t·A + (1 − t)·B at evenly spaced t, ends included.
///
/// Every trained tensor is interpolated. BatchNorm statistics are re-estimated for each point with one pass over the
/// training batches; each batch is made once for all points. [`Error::DifferentMasks`] if the masks differ, unless the
/// union is asked for: then the weights of both are interpolated, and the remaining ratio is that of the union.
pub fn path(
    session: &mut Session,
    network: &Network,
    data: &Data,
    (a, b): (&Weights, &Weights),
    connect: &Connect,
) -> Result<ConnectOutcome> {
    let Connect { points, batch, masks, .. } = *connect;
    if masks == Masks::Same && a.mask != b.mask {
        let differing = a.mask.ne_tensor(&b.mask).sum(tch::Kind::Int64).int64_value(&[]);
        return Err(Error::DifferentMasks { differing: differing as u64 });
    }
    let positions: Vec<f64> = (0..points).map(|point| f64::from(point) / f64::from(points - 1)).collect();
    // Made when needed: a sum of two flat tensors is cheap, and a copy for every point may not fit the memory.
    let network_at = |t: f64| interpolate(&a.parameters, &b.parameters, t);

    let batches = reestimation_batches(data, batch);
    let (statistics, first_step) = match session.load_checkpoint()? {
        Some(file) => {
            let (statistics, step) = resume(&file).map_err(Error::Unfit)?;
            tracing::info!("going on at batch {} of {}", step + 1, batches.steps());
            (statistics, step)
        }
        None => (network.layout.fresh_statistics(a.parameters.kind()).repeat([i64::from(points), 1]), 0),
    };
    let epoch = batches.epoch(0);
    session.report(Progress { done: first_step, total: batches.steps(), test_error: None })?;
    // A network without BatchNorm has nothing to be estimated.
    let steps = if network.layout.statistics() > 0 { batches.steps() } else { 0 };
    for (step, batch) in (first_step..steps).zip(epoch.from(first_step)) {
        let stop = session.told_to_stop();
        if stop || session.checkpoint_is_due() {
            session.save_checkpoint(&checkpoint(&statistics, step))?;
            session.report(Progress { done: step, total: batches.steps(), test_error: None })?;
        }
        if stop {
            return Err(Error::Interrupted);
        }
        let images = batch?.images;
        for (point, &t) in positions.iter().enumerate() {
            absorb(network, &network_at(t), &statistics.get(point as i64), &images, plain_mean(step));
        }
    }
    let path: Vec<PathPoint> = (positions.iter().enumerate())
        .map(|(point, &t)| {
            let score = evaluate(network, &network_at(t), &statistics.get(point as i64), data)?;
            Ok(PathPoint { t, test_error: score.error, test_loss: score.loss })
        })
        .collect::<Result<_>>()?;
    if let Some(point) = path.iter().find(|point| !point.test_loss.is_finite()) {
        return Err(Error::NotFinite { t: point.t });
    }
    let union = a.mask.maximum(&b.mask).sum(tch::Kind::Double).double_value(&[]);
    Ok(ConnectOutcome { remaining_ratio: union / a.mask.numel() as f64, barrier: barrier(&path), path })
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

fn checkpoint(statistics: &Tensor, step: u32) -> TensorFile {
    let tensors = [("statistics".to_string(), raw(statistics, Dtype::F32, &statistics.size()))];
    TensorFile { tensors: tensors.into(), metadata: step.to_string() }
}

fn resume(file: &TensorFile) -> std::result::Result<(Tensor, u32), String> {
    let statistics = file.tensors.get("statistics").ok_or("it has no statistics")?;
    let step = file.metadata.parse().map_err(|_| "it does not say which step comes next")?;
    Ok((tensor(statistics), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(t: f64, test_error: f64) -> PathPoint {
        PathPoint { t, test_error, test_loss: 0.0 }
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
