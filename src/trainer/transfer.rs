//! A transfer run: a ticket handed to a new initialization, which is then trained.

use super::model::{Network, Weights};
use super::prune;
use super::session::Session;
use super::train::{Course, train};
use super::{Finished, Result};
use winsign::run::results::{Outcome, TransferOutcome};
use winsign::run::settings::Transfer;

pub fn execute(session: &mut Session, transfer: &Transfer) -> Result<Finished> {
    let network = Network::new(transfer.problem);
    let data = session.load_data(transfer.problem.dataset)?;

    let ticket = session.input(0, &network.layout)?;
    let fresh = Weights::initialize(&network.layout, transfer.seeds.init);
    let start = prune::transfer(&network.layout, transfer.inherit, &ticket, &fresh);
    let course = Course {
        network: &network,
        data: &data,
        training: &transfer.training,
        order_seed: transfer.seeds.order,
        purpose: "transfer".to_string(),
        alpha_seed: None,
        // The learning rate has come down: the statistics of training fit.
        reestimate: false,
    };
    let trained = train(session, &course, start)?;

    let outcome = TransferOutcome {
        remaining_ratio: trained.weights.remaining_ratio(),
        test_error: trained.score.error,
        test_loss: trained.score.loss,
    };
    Ok(Finished { outcome: Outcome::Transfer(outcome), network: Some((network.layout, trained.weights)) })
}
