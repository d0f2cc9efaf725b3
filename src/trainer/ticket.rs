//! A ticket run: one level of a chain. What it leaves behind, the ticket, is the network after the level's training, by
//! whatever method: also where the mask was found before any training.

use super::data::Data;
use super::model::{Network, Weights};
use super::prune::initial::{Sample, Sparsity, snip, synflow};
use super::prune::{prune, rewind};
use super::session::Session;
use super::train::{Course, train};
use super::{Error, Finished, Result};
use winsign::run::results::{Outcome, TicketOutcome};
use winsign::run::settings::{Method, Ticket};

pub fn execute(session: &mut Session, ticket: &Ticket) -> Result<Finished> {
    let network = Network::new(ticket.problem);
    let data = session.load_data(ticket.problem.dataset)?;

    let start = start(session, &network, &data, ticket)?;
    let course = Course {
        network: &network,
        data: &data,
        training: &ticket.training,
        order_seed: ticket.seeds.order,
        purpose: format!("level {}", ticket.level),
        alpha_seed: match ticket.method {
            Method::Aws => Some(ticket.seeds.alpha),
            Method::Lrr | Method::Imp | Method::Snip | Method::SynFlow | Method::Imported => None,
        },
        // Statistics gathered under random α do not fit α = 0. Those of other methods lag behind a constant learning
        // rate; with all estimated alike, tickets of all methods can be compared.
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

/// The network that the level's training starts from.
fn start(session: &mut Session, network: &Network, data: &Data, ticket: &Ticket) -> Result<Weights> {
    let layout = &network.layout;
    let initial = || Weights::initialize(layout, ticket.seeds.init);
    let Some(ratio) = ticket.prune_ratio else { return Ok(initial()) };
    let pruned = || -> Result<Weights> {
        let mut weights = session.input(0, layout)?;
        prune(&mut weights, layout, ratio)?;
        Ok(weights)
    };
    let sparsity = Sparsity { ratio, level: ticket.level };
    let proceed = || if session.told_to_stop() { Err(Error::Interrupted) } else { Ok(()) };
    match ticket.method {
        Method::Lrr | Method::Aws => pruned(),
        Method::Imp => {
            let origin = match ticket.rewind_epoch {
                None | Some(0) => initial(),
                Some(_) => session.input(1, layout)?,
            };
            Ok(rewind(layout, &pruned()?, origin))
        }
        Method::Snip => {
            let mut weights = initial();
            let images = 10 * ticket.problem.dataset.classes();
            let sample = Sample { images, batch: ticket.training.batch, order_seed: ticket.seeds.order };
            snip(network, data, &mut weights, &sample, sparsity, proceed)?;
            Ok(weights)
        }
        Method::SynFlow => {
            let mut weights = initial();
            synflow(network, ticket.problem.dataset.image_shape(), &mut weights, sparsity, proceed)?;
            Ok(weights)
        }
        Method::Imported => unreachable!("what is imported has no training settings"),
    }
}
