//! Interpolation of norm parameters toward their initialization ψ₀.

use tch::Tensor;

use crate::model::{Layout, Weights};

/// Returns the flat parameters of one AWS step: every norm parameter ψ becomes α·ψ₀ + (1 − α)·ψ, that is γ' = α + (1 −
/// α)·γ and β' = (1 − α)·β (Oh, Baik and Lee, ICLR 2025). All normalization layers share α; gradients are propagated to
/// ψ.
pub fn interpolate_norms(layout: &Layout, parameters: &Tensor, norm_init: &Tensor, alpha: f64) -> Tensor {
    let weights = parameters.narrow(0, 0, layout.weights());
    let norms = parameters.narrow(0, layout.weights(), layout.parameters() - layout.weights());
    Tensor::cat(&[weights, norms * (1.0 - alpha) + norm_init * alpha], 0)
}

/// Returns the network with ψ₀ in place of its norm parameters.
pub fn reset_norms(layout: &Layout, weights: &Weights) -> Weights {
    let norm_init = layout.norm_init(weights.parameters.kind()).to_device(weights.parameters.device());
    let parameters = interpolate_norms(layout, &weights.parameters, &norm_init, 1.0);
    Weights { parameters, ..weights.copy() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Network, Role};
    use winsign_core::settings::{Architecture, Dataset, Problem};

    #[test]
    fn interpolated_norms_move_toward_their_initialization_with_gradients() {
        let layout = Network::new(Problem::new(Dataset::Digits, Architecture::ResNet8)).layout;
        let parameters = Weights::initialize(&layout, 1).parameters * 0.0 + 3.0;
        let parameters = parameters.set_requires_grad(true);
        let moved = interpolate_norms(&layout, &parameters, &layout.norm_init(tch::Kind::Float), 0.25);
        moved.sum(tch::Kind::Float).backward();
        let gradient = parameters.grad();
        for tensor in &layout.tensors {
            let (value, slope) = match tensor.role {
                Role::NormScale => (0.25 + 0.75 * 3.0, 0.75),
                Role::NormShift => (0.75 * 3.0, 0.75),
                _ => (3.0, 1.0),
            };
            for at in [tensor.start, tensor.start + tensor.length() - 1] {
                assert_eq!(moved.double_value(&[at]), value, "{}", tensor.name);
                assert_eq!(gradient.double_value(&[at]), slope, "{}", tensor.name);
            }
        }
    }
}
