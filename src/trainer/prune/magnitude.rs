//! Global magnitude pruning.

use crate::model::{Layout, Weights};
use crate::{Error, Result};

/// Removes the fraction `ratio` of the surviving weights, the smallest by magnitude over all prunable tensors.
///
/// The threshold is the k-th largest magnitude of the n survivors, with k = ⌊(1 − ratio)·n⌋; weights at the threshold
/// survive. Fails with [`Error::NothingLeft`] if k is 0.
pub fn prune(weights: &mut Weights, layout: &Layout, ratio: f64) -> Result<()> {
    let magnitudes = weights.parameters.narrow(0, 0, layout.prunable()).abs();
    let surviving = magnitudes.masked_select(&weights.mask.gt(0.0));
    let n = surviving.numel() as i64;
    let k = count_kept(ratio, n);
    if k == 0 {
        return Err(Error::NothingLeft { survivors: n as u64 });
    }
    let (threshold, _) = surviving.kthvalue(n - k + 1, 0, false);
    let _ = weights.mask.g_mul_(&magnitudes.ge_tensor(&threshold).to_kind(weights.mask.kind()));
    weights.apply_mask(layout);
    Ok(())
}

/// Returns the number of `prunable` weights that survive `times` prunings. Fails with [`Error::NothingLeft`] if none
/// do.
pub(super) fn survivors(ratio: f64, times: u32, prunable: i64) -> Result<i64> {
    (0..times).try_fold(prunable, |n, _| match count_kept(ratio, n) {
        0 => Err(Error::NothingLeft { survivors: n as u64 }),
        k => Ok(k),
    })
}

/// Returns ⌊(1 − ratio)·n⌋ as in decimal arithmetic: in binary, 1 − 0.9 is slightly less than 0.1, but a tenth of 1,000
/// is 100.
fn count_kept(ratio: f64, n: i64) -> i64 {
    ((1.0 - ratio) * n as f64 * (1.0 + 1e-12)).floor() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Network;
    use winsign_core::settings::{Architecture, Dataset, Problem};

    #[test]
    fn count_kept_follows_decimal_arithmetic() {
        let expected = [(0.2, 19_144, 15_315), (0.9, 1_000, 100), (0.8, 10, 2), (0.7, 10, 3), (0.5, 3, 1), (0.5, 1, 0)];
        for (ratio, n, k) in expected {
            assert_eq!(count_kept(ratio, n), k, "{ratio} of {n}");
        }
    }

    #[test]
    fn each_level_keeps_the_largest_four_fifths_over_all_layers() {
        let layout = Network::new(Problem::new(Dataset::Digits, Architecture::ResNet8)).layout;
        let mut weights = Weights::initialize(&layout, 1);
        let before = Vec::<f32>::try_from(weights.parameters.narrow(0, 0, layout.prunable())).unwrap();
        let mut magnitudes: Vec<f32> = before.iter().map(|weight| weight.abs()).collect();
        magnitudes.sort_by(|a, b| b.total_cmp(a));
        let mut survivors = layout.prunable() as usize;
        for _ in 0..12 {
            survivors = (0.8 * survivors as f64).floor() as usize;
            prune(&mut weights, &layout, 0.2).unwrap();
            assert_eq!(weights.survivors(), survivors as u64);
        }
        let after = Vec::<f32>::try_from(weights.parameters.narrow(0, 0, layout.prunable())).unwrap();
        let threshold = magnitudes[survivors - 1];
        for (before, after) in before.into_iter().zip(after) {
            assert_eq!(after, if before.abs() >= threshold { before } else { 0.0 });
        }
        assert!((weights.remaining_ratio() - 0.8f64.powi(12)).abs() < 1e-3);
    }
}
