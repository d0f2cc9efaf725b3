//! Linear mode connectivity: errors along the straight paths between networks, and on the plane through three.
//!
//! [`measure`] is the engine; [`path`](mod@path) and [`plane`](mod@plane) say which networks it measures.

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

/// t·A + (1 − t)·B; exactly A at 1 and B at 0.
pub fn interpolate(a: &Tensor, b: &Tensor, t: f64) -> Tensor {
    a * t + b * (1.0 - t)
}

/// [`Error::DifferentMasks`] if two of the networks that are joined have different masks, unless the union is asked for.
fn check_masks(masks: Masks, a: &Weights, b: &Weights) -> Result<()> {
    if masks == Masks::Same && a.mask != b.mask {
        let differing = a.mask.ne_tensor(&b.mask).sum(Kind::Int64).int64_value(&[]);
        return Err(Error::DifferentMasks { differing: differing as u64 });
    }
    Ok(())
}

/// The weights that survive in any of some networks.
#[derive(Default)]
struct Union(Option<Tensor>);

impl Union {
    fn add(&mut self, network: &Weights) {
        let union = self.0.take();
        self.0 = Some(union.map_or(network.mask.shallow_clone(), |union| union.maximum(&network.mask)));
    }

    /// Over all prunable weights; 0 of no networks.
    fn ratio(&self) -> f64 {
        self.0.as_ref().map_or(0.0, |union| union.sum(Kind::Double).double_value(&[]) / union.numel() as f64)
    }
}

/// How alike the signed masks of two networks are. Where no weight survives in both, no sign agrees.
fn similarity(layout: &Layout, a: &Weights, b: &Weights) -> Similarity {
    let signs = |weights: &Weights| weights.parameters.narrow(0, 0, layout.prunable()).sign();
    let count = |of: &Tensor| of.sum(Kind::Double).double_value(&[]);
    let both = &a.mask * &b.mask;
    let agreeing = count(&(signs(a).eq_tensor(&signs(b)).to_kind(Kind::Float) * &both));
    let (both, either) = (count(&both), count(&a.mask.maximum(&b.mask)));
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    Similarity { sign_agreement: share(agreeing, both), mask_overlap: share(both, either) }
}
