//! A connect run: the error along the straight path between two networks.

use super::model::Network;
use super::prune::with_norm_init;
use super::session::Session;
use super::{Finished, Result, lmc};
use winsign::run::results::Outcome;
use winsign::run::settings::{Between, Connect};

pub fn execute(session: &mut Session, connect: &Connect) -> Result<Finished> {
    let network = Network::new(connect.problem).computing_in(connect.precision);
    let data = session.load_data(connect.problem.dataset)?;

    let a = session.input(0, &network.layout)?;
    let b = match connect.between {
        Between::NormInit => with_norm_init(&network.layout, &a),
        _ => session.input(1, &network.layout)?,
    };
    let outcome = lmc::path(session, &network, &data, (&a, &b), connect)?;
    Ok(Finished { outcome: Outcome::Connect(outcome), network: None })
}
