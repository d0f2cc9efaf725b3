//! What a transfer inherits from its ticket: the names, and what is known of each without its code.
//!
//! The list below is the only place that names them all, beside the registry of their code in the trainer. Sweep files,
//! error messages, the JSON Schema and the tests follow from it; `docs/guides/adding-a-transfer.md` says how to add one.

/// What is known of a transfer without its code.
struct Facts {
    /// Whether there is a ticket to inherit from.
    ticket: bool,
    /// Whether the signs of the ticket stay in their places, so that some of them can be flipped.
    signs: bool,
    /// Whether the mask is drawn anew, rather than that of the ticket.
    draws_mask: bool,
}

declared! {
    /// The part of a ticket that is transferred to a fresh initialization.
    pub enum Inherit: Facts {
        /// The signed mask.
        Sign "sign" { ticket: true, signs: true, draws_mask: false }
        /// The mask alone.
        Mask "mask" { ticket: true, signs: false, draws_mask: false }
        /// The mask and the magnitudes of weights, with the signs of the fresh initialization.
        Magnitude "magnitude" { ticket: true, signs: false, draws_mask: false }
        /// The signed mask, and the norm parameters.
        SignNorm "sign+norm" { ticket: true, signs: true, draws_mask: false }
        /// Everything: the ticket itself is trained further.
        Retrain "retrain" { ticket: true, signs: false, draws_mask: false }
        /// Nothing: the fresh initialization is trained as a dense network.
        Dense "dense" { ticket: false, signs: false, draws_mask: false }
        /// The number of surviving weights in each layer; which weights survive is random.
        RandomMask "random-mask" { ticket: true, signs: false, draws_mask: true }
        /// The total number of surviving weights; their number in each layer follows from its shape (ERK), and which weights
        /// survive is random.
        RandomMaskErk "random-mask-erk" { ticket: true, signs: false, draws_mask: true }
        /// The mask, and the number of signs of each kind in each layer; which weight has which sign is random.
        RandomSign "random-sign" { ticket: true, signs: false, draws_mask: false }
    }
}

impl Inherit {
    /// Returns true if there is a ticket to inherit from.
    pub fn needs_ticket(self) -> bool {
        self.facts().ticket
    }

    /// Returns true if the signs of the ticket are inherited, some of which may be flipped.
    pub fn has_signs(self) -> bool {
        self.facts().signs
    }

    /// Returns true if the mask is random, so that transfers with different initialization seeds have different masks.
    pub fn draws_mask(self) -> bool {
        self.facts().draws_mask
    }
}
