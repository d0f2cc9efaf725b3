//! Transfer runs: a ticket is applied to a new initialization, which is then trained.

use winsign_core::results::{Outcome, TransferOutcome};
use winsign_core::settings::Transfer;

use super::model::{Network, Weights};
use super::prune::{controls, start_of};
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
    let mut ticket = transfer.inherit.needs_ticket().then(|| session.input(0, layout)).transpose()?;
    if let Some(ticket) = ticket.as_mut().filter(|_| transfer.flip > 0.0) {
        controls::flip_signs(layout, ticket, transfer.flip, seed);
    }
    Ok(start_of(transfer.inherit, layout, ticket, &Weights::initialize(layout, seed), seed))
}
