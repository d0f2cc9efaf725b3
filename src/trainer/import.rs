//! Import runs: a network from another program is checked and evaluated, and becomes a ticket.

use winsign_core::results::{Outcome, TicketOutcome};
use winsign_core::settings::{Import, Problem};

use super::model::exchange::convert;
use super::model::{Network, Weights};
use super::session::Session;
use super::train::evaluate::evaluate;
use super::{Error, Finished, Result};

/// Executes an import.
pub(crate) fn execute(session: &mut Session, import: &Import) -> Result<Finished> {
    let Problem { dataset, architecture, .. } = import.problem;
    let network = Network::new(import.problem);
    let file = session.imported(import.digest)?;
    let weights = convert(&network.layout, &file)
        .and_then(|file| Weights::from_file(&network.layout, &file))
        .map_err(|differences| Error::NetworkMismatch { architecture, dataset, differences })?;

    if weights.survivors() == 0 {
        return Err(Error::NoSurvivors);
    }
    let data = session.load_data(dataset)?;
    let weights = weights.on(data.device());
    let score = evaluate(session.workers(), &network, &weights.parameters, &weights.statistics, &data)?;
    if !score.loss.is_finite() {
        return Err(Error::ImportNotFinite);
    }
    let outcome = TicketOutcome {
        remaining_ratio: weights.remaining_ratio(),
        survivors: weights.survivors(),
        prunable: network.layout.prunable() as u64,
        test_error: score.error,
        test_loss: score.loss,
        layers: weights.layers(&network.layout),
    };
    Ok(Finished { outcome: Outcome::Ticket(outcome), network: Some((network.layout, weights)) })
}
