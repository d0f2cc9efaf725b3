//! Linear mode connectivity: errors along the straight paths between networks, and in the plane through three.
//!
//! [`measure`] evaluates networks; [`path`](mod@path) and [`plane`](mod@plane) determine which networks are evaluated.

pub mod align;
pub mod measure;
pub mod path;
pub mod plane;
#[cfg(test)]
mod tests;

use tch::{Kind, Tensor};
use winsign_core::results::Similarity;
use winsign_core::settings::Masks;

use crate::model::{Layout, Weights};
use crate::{Error, Result};

pub use path::{matrix, path};
pub use plane::plane;

/// Returns t·A + (1 − t)·B; exactly A at 1 and B at 0.
pub fn interpolate(a: &Tensor, b: &Tensor, t: f64) -> Tensor {
    a * t + b * (1.0 - t)
}

/// Fails with [`Error::DifferentMasks`] if two networks that are joined have different masks, unless the union is
/// requested.
fn check_masks(masks: Masks, a: &Weights, b: &Weights) -> Result<()> {
    if masks == Masks::Same && a.mask != b.mask {
        let differing = a.mask.ne_tensor(&b.mask).sum(Kind::Int64).int64_value(&[]);
        return Err(Error::DifferentMasks { differing: differing as u64 });
    }
    Ok(())
}

/// The union of masks: the weights that survive in any of the networks.
#[derive(Default)]
struct Union(Option<Tensor>);

impl Union {
    fn add(&mut self, network: &Weights) {
        let union = self.0.take();
        self.0 = Some(union.map_or(network.mask.shallow_clone(), |union| union.maximum(&network.mask)));
    }

    /// Returns the remaining ratio of the union; 0 without networks.
    fn ratio(&self) -> f64 {
        self.0.as_ref().map_or(0.0, |union| union.sum(Kind::Double).double_value(&[]) / union.numel() as f64)
    }
}

/// Compares the signed masks of two networks. If no weight survives in both, the sign agreement is 0.
fn similarity(layout: &Layout, a: &Weights, b: &Weights) -> Similarity {
    let signs = |weights: &Weights| weights.parameters.narrow(0, 0, layout.prunable()).sign();
    let count = |mask: &Tensor| mask.sum(Kind::Double).double_value(&[]);
    let both = &a.mask * &b.mask;
    let agreeing = count(&(signs(a).eq_tensor(&signs(b)).to_kind(Kind::Float) * &both));
    let (both, either) = (count(&both), count(&a.mask.maximum(&b.mask)));
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    Similarity { sign_agreement: share(agreeing, both), mask_overlap: share(both, either) }
}
