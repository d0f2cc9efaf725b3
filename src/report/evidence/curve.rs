//! The training curve of a run, from its metrics.

use serde::Deserialize;
use winsign_core::RunDirectory;
use winsign_core::files::{digest, read_if_exists};
use winsign_core::results::AttachedFile;

use super::MetricsError;
use crate::Curve;

/// The part of a line of the metrics that reports show. Numbers that are not finite are null.
#[derive(Deserialize)]
struct Line {
    epoch: u32,
    train_loss: Option<f64>,
    train_error: Option<f64>,
    test_loss: Option<f64>,
    test_error: Option<f64>,
}

/// Returns the training curve; `None` without epochs. The file is verified as in [`RunDirectory::read_metrics`], but
/// only the lines that are shown are parsed.
pub(super) fn read(run: &RunDirectory, expected: &AttachedFile) -> Result<Option<Curve>, MetricsError> {
    let bytes = match read_if_exists(&run.path.join(&expected.path)) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err(MetricsError::Vanished),
        Err(_) => return Err(MetricsError::Damaged),
    };
    if digest(&bytes) != expected.digest {
        return Err(MetricsError::Damaged);
    }
    thinned(&bytes).map_err(|_| MetricsError::Damaged)
}

fn thinned(bytes: &[u8]) -> serde_json::Result<Option<Curve>> {
    let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
    let mut curve = Curve::default();
    for at in Curve::places(lines.len(), Curve::MOST) {
        let line: Line = serde_json::from_slice(lines[at])?;
        let number = |value: Option<f64>| value.unwrap_or(f64::NAN) as f32;
        curve.epoch.push(line.epoch);
        curve.train_loss.push(number(line.train_loss));
        curve.train_error.push(number(line.train_error));
        curve.test_loss.push(number(line.test_loss));
        curve.test_error.push(number(line.test_error));
    }
    Ok((!curve.epoch.is_empty()).then_some(curve))
}
