//! Transfer of a ticket to a fresh initialization: one line for each value of `inherit`.

use tch::Tensor;
use winsign_core::settings::Inherit;

use super::controls;
use crate::model::{Layout, Weights};

/// The code of a transfer.
pub(crate) trait Transfer: Sync {
    /// Returns the network from which training starts, given a ticket (φ_T, ψ_T, m_T) and a dense fresh initialization
    /// (φ, ψ₀) with its seed, which determines random draws.
    fn start(&self, layout: &Layout, ticket: Weights, fresh: &Weights, seed: u64) -> Weights;
}

/// The code of every transfer, in the order of [`Inherit`].
const REGISTRY: &[(Inherit, &dyn Transfer)] = &[
    (Inherit::Sign, &SIGN),
    (Inherit::Mask, &MASK),
    (Inherit::Magnitude, &Composed { magnitude: Source::Ticket, ..MASK }),
    (Inherit::SignNorm, &Composed { norm: Source::Ticket, ..SIGN }),
    (
        Inherit::Retrain,
        &Composed { magnitude: Source::Ticket, norm: Source::Ticket, statistics: Source::Ticket, ..SIGN },
    ),
    // There is no ticket, see `start_of`.
    (Inherit::Dense, &MASK),
    (Inherit::RandomMask, &Altered { alter: controls::draw_mask, then: MASK }),
    (Inherit::RandomMaskErk, &Altered { alter: controls::draw_mask_erk, then: MASK }),
    (Inherit::RandomSign, &Altered { alter: controls::shuffle_signs, then: SIGN }),
];

winsign_core::assert_complete!(REGISTRY, Inherit);

/// Returns the network from which training starts. Without a ticket, the fresh initialization, whose mask is full, takes
/// its place.
pub fn start_of(inherit: Inherit, layout: &Layout, ticket: Option<Weights>, fresh: &Weights, seed: u64) -> Weights {
    let (_, transfer) = REGISTRY[inherit as usize];
    transfer.start(layout, ticket.unwrap_or_else(|| fresh.copy()), fresh, seed)
}

/// The network from which a part is taken.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    Ticket,
    Fresh,
}

/// A transfer that takes each part from the ticket or from the fresh initialization. Weights are magnitude ⊙ sign, and
/// prunable ones are masked by m_T.
struct Composed {
    sign: Source,
    magnitude: Source,
    norm: Source,
    statistics: Source,
}

const MASK: Composed =
    Composed { sign: Source::Fresh, magnitude: Source::Fresh, norm: Source::Fresh, statistics: Source::Fresh };
const SIGN: Composed = Composed { sign: Source::Ticket, ..MASK };

impl Transfer for Composed {
    fn start(&self, layout: &Layout, ticket: Weights, fresh: &Weights, _: u64) -> Weights {
        let network = |source| match source {
            Source::Ticket => &ticket,
            Source::Fresh => fresh,
        };
        let (weights, norms) = (layout.weights(), layout.parameters() - layout.weights());
        let phi = |source| network(source).parameters.narrow(0, 0, weights);
        let phi = match self.sign == self.magnitude {
            true => phi(self.sign),
            false => phi(self.magnitude).abs() * phi(self.sign).sign(),
        };
        let psi = network(self.norm).parameters.narrow(0, weights, norms);
        let statistics = network(self.statistics).statistics.copy();
        let mut start = Weights { parameters: Tensor::cat(&[phi, psi], 0), statistics, mask: ticket.mask.copy() };
        start.apply_mask(layout);
        start
    }
}

/// A random control: a transfer of a ticket that is altered at random before.
struct Altered {
    alter: fn(&Layout, &mut Weights, seed: u64),
    then: Composed,
}

impl Transfer for Altered {
    fn start(&self, layout: &Layout, mut ticket: Weights, fresh: &Weights, seed: u64) -> Weights {
        (self.alter)(layout, &mut ticket, seed);
        self.then.start(layout, ticket, fresh, seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Network, Role};
    use crate::prune::prune;
    use strum::VariantArray;
    use winsign_core::settings::{Architecture, Dataset, Problem};

    /// Compares every element of every kind of transfer with the table in docs/reference/sweep-file.md.
    #[test]
    fn transfer_follows_the_table() {
        let layout = Network::new(Problem::new(Dataset::Digits, Architecture::ResNet8)).layout;
        let mut ticket = Weights::initialize(&layout, 1);
        let _ = ticket.parameters.narrow(0, layout.weights(), layout.parameters() - layout.weights()).fill_(0.7);
        prune(&mut ticket, &layout, 0.4).unwrap();
        let fresh = Weights::initialize(&layout, 2);
        let list = |tensor: &Tensor| Vec::<f32>::try_from(tensor).unwrap();
        for &inherit in Inherit::VARIANTS {
            let given = inherit.needs_ticket().then(|| ticket.copy());
            let start = start_of(inherit, &layout, given, &fresh, 3);
            // The control is known by its name; what it draws is tested where it is written.
            let mut altered = ticket.copy();
            match inherit {
                Inherit::RandomMask => controls::draw_mask(&layout, &mut altered, 3),
                Inherit::RandomMaskErk => controls::draw_mask_erk(&layout, &mut altered, 3),
                Inherit::RandomSign => controls::shuffle_signs(&layout, &mut altered, 3),
                _ => {}
            }
            assert_eq!(start.mask, if inherit == Inherit::Dense { &fresh } else { &altered }.mask);
            assert_eq!(start.mask != ticket.mask, inherit.draws_mask() || inherit == Inherit::Dense, "{inherit}");
            let (old, new, mask) = (list(&altered.parameters), list(&fresh.parameters), list(&start.mask));
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
                        Inherit::Magnitude => old[at].abs() * new[at].signum() * kept,
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
