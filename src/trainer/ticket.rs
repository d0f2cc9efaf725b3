//! A ticket run: one level of iterative pruning.

use super::model::{Network, Weights};
use super::prune::prune;
use super::session::Session;
use super::train::{Course, train};
use super::{Finished, Result};
use winsign::run::results::{Outcome, TicketOutcome};
use winsign::run::settings::{Method, Ticket};

pub fn execute(session: &mut Session, ticket: &Ticket) -> Result<Finished> {
    let network = Network::new(ticket.problem);
    let data = session.load_data(ticket.problem.dataset)?;

    let start = match ticket.prune_ratio {
        None => Weights::initialize(&network.layout, ticket.seeds.init),
        Some(ratio) => {
            let mut weights = session.input(0, &network.layout)?;
            prune(&mut weights, &network.layout, ratio)?;
            weights
        }
    };
    let course = Course {
        network: &network,
        data: &data,
        training: &ticket.training,
        order_seed: ticket.seeds.order,
        purpose: format!("level {}", ticket.level),
        alpha_seed: match ticket.method {
            Method::Lrr => None,
            Method::Aws => Some(ticket.seeds.alpha),
        },
        // Statistics gathered under random α do not fit α = 0. Those of LRR lag behind a constant learning rate; with
        // both estimated alike, tickets of both methods can be compared.
        reestimate: true,
    };
    let trained = train(session, &course, start)?;

    let outcome = TicketOutcome {
        remaining_ratio: trained.weights.remaining_ratio(),
        survivors: trained.weights.survivors(),
        prunable: network.layout.prunable() as u64,
        test_error: trained.score.error,
        test_loss: trained.score.loss,
    };
    Ok(Finished { outcome: Outcome::Ticket(outcome), network: Some((network.layout, trained.weights)) })
}
