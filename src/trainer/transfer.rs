//! Transfer runs: a ticket is applied to a new initialization, which is then trained.

use winsign_core::results::{Outcome, TransferOutcome};
use winsign_core::settings::{Inherit, Transfer};

use super::model::{Network, Weights};
use super::prune::{self, controls};
use super::session::Session;
use super::train::{TrainJob, train};
use super::{Finished, Result};

/// Executes a transfer.
pub(crate) fn execute(session: &mut Session, transfer: &Transfer) -> Result<Finished> {
    let network = Network::new(transfer.problem).with_precision(transfer.training.precision);
    let data = session.load_data(transfer.problem.dataset)?;

    let job = TrainJob {
        network: &network,
        data: &data,
        training: &transfer.training,
        order_seed: transfer.seeds.order,
        purpose: "transfer".to_string(),
        alpha_seed: None,
        // The learning rate has decayed, so the statistics of training fit the final weights.
        reestimate: false,
    };
    let trained = train(session, &job, |session| start(session, &network, transfer))?;

    let outcome = TransferOutcome {
        remaining_ratio: trained.weights.remaining_ratio(),
        test_error: trained.score.error,
        test_loss: trained.score.loss,
    };
    Ok(Finished { outcome: Outcome::Transfer(outcome), network: Some((network.layout, trained.weights)) })
}

/// Returns the network from which training starts.
fn start(session: &Session, network: &Network, transfer: &Transfer) -> Result<Weights> {
    let (layout, seed) = (&network.layout, transfer.seeds.init);
    let fresh = Weights::initialize(layout, seed);
    if !transfer.inherit.needs_ticket() {
        return Ok(fresh);
    }
    let mut ticket = session.input(0, layout)?;
    match transfer.inherit {
        Inherit::Sign | Inherit::SignNorm if transfer.flip > 0.0 => {
            controls::flip_signs(layout, &mut ticket, transfer.flip, seed);
        }
        Inherit::RandomSign => controls::shuffle_signs(layout, &mut ticket, seed),
        Inherit::RandomMask => controls::draw_mask(layout, &mut ticket, seed),
        Inherit::RandomMaskErk => controls::draw_mask_erk(layout, &mut ticket, seed),
        Inherit::Sign | Inherit::SignNorm | Inherit::Mask | Inherit::Retrain | Inherit::Dense => {}
    }
    Ok(prune::transfer(layout, transfer.inherit, &ticket, &fresh))
}
