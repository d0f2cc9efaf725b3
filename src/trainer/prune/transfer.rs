//! Transfer of a ticket to a fresh initialization.

use tch::Tensor;
use winsign_core::settings::Inherit;

use crate::model::{Layout, Weights};

/// Returns the network from which training starts, given a ticket (φ_T, ψ_T, m_T) and a dense fresh initialization
/// (φ, ψ₀). BatchNorm statistics are fresh, except for `retrain`, which starts from the unchanged ticket.
///
/// | inherit     | prunable weights | biases and classifier | norm parameters |
/// |-------------|------------------|-----------------------|-----------------|
/// | `sign`      | \|φ\| ⊙ sign(φ_T ⊙ m_T) | \|φ\| ⊙ sign(φ_T) | ψ₀ |
/// | `mask`      | φ ⊙ m_T          | φ                     | ψ₀              |
/// | `sign+norm` | as `sign`        | as `sign`             | ψ_T             |
/// | `retrain`   | φ_T              | φ_T                   | ψ_T             |
/// | `dense`     | φ                | φ                     | ψ₀              |
///
/// The random baselines are transfers of tickets that [`super::controls`] has altered: `random-sign` is computed as
/// `sign`, and `random-mask` and `random-mask-erk` as `mask`.
pub fn transfer(layout: &Layout, inherit: Inherit, ticket: &Weights, fresh: &Weights) -> Weights {
    let (weights, norms) = (layout.weights(), layout.parameters() - layout.weights());
    let phi = |of: &Weights| of.parameters.narrow(0, 0, weights);
    let psi = |of: &Weights| of.parameters.narrow(0, weights, norms);
    // φ_T is zero where m_T is, so its sign is the signed mask on prunable weights.
    let signed = || phi(fresh).abs() * phi(ticket).sign();
    let parameters = match inherit {
        Inherit::Sign | Inherit::RandomSign => Tensor::cat(&[signed(), psi(fresh)], 0),
        Inherit::SignNorm => Tensor::cat(&[signed(), psi(ticket)], 0),
        Inherit::Mask | Inherit::RandomMask | Inherit::RandomMaskErk => fresh.parameters.copy(),
        Inherit::Dense => return fresh.copy(),
        Inherit::Retrain => return ticket.copy(),
    };
    let mut start = Weights { parameters, statistics: fresh.statistics.copy(), mask: ticket.mask.copy() };
    start.apply_mask(layout);
    start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Network, Role};
    use crate::prune::prune;
    use strum::VariantArray;
    use winsign_core::settings::{Architecture, Dataset, Problem};

    /// Compares every element of every kind of transfer with the table of the method.
    #[test]
    fn transfer_follows_the_table() {
        let layout = Network::new(Problem::new(Dataset::Digits, Architecture::ResNet8)).layout;
        let mut ticket = Weights::initialize(&layout, 1);
        let _ = ticket.parameters.narrow(0, layout.weights(), layout.parameters() - layout.weights()).fill_(0.7);
        prune(&mut ticket, &layout, 0.4).unwrap();
        let fresh = Weights::initialize(&layout, 2);
        let list = |tensor: &Tensor| Vec::<f32>::try_from(tensor).unwrap();
        let (old, new, mask) = (list(&ticket.parameters), list(&fresh.parameters), list(&ticket.mask));
        for &inherit in Inherit::VARIANTS {
            let start = transfer(&layout, inherit, &ticket, &fresh);
            assert_eq!(start.mask, if inherit == Inherit::Dense { &fresh } else { &ticket }.mask);
            let start = list(&start.parameters);
            for tensor in &layout.tensors {
                for at in tensor.start as usize..(tensor.start + tensor.length()) as usize {
                    let is_norm = matches!(tensor.role, Role::NormScale | Role::NormShift);
                    let kept = if tensor.role == Role::Prunable { mask[at] } else { 1.0 };
                    let expected = match inherit {
                        Inherit::Retrain => old[at],
                        Inherit::SignNorm if is_norm => old[at],
                        _ if is_norm => new[at],
                        Inherit::Dense => new[at],
                        Inherit::Mask | Inherit::RandomMask | Inherit::RandomMaskErk => new[at] * kept,
                        Inherit::Sign | Inherit::SignNorm | Inherit::RandomSign => {
                            new[at].abs() * old[at].signum() * kept
                        }
                    };
                    assert_eq!(start[at], expected, "{inherit}: {} at {at}", tensor.name);
                }
            }
        }
    }
}
