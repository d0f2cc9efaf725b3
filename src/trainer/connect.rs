//! Connection runs: errors along the straight path between two networks, along the paths of a block of a barrier
//! matrix, or in the plane through three networks.

use winsign_core::results::Outcome;
use winsign_core::settings::{Between, Connect, Matrix, Plane, Precision, Problem};

use super::data::Data;
use super::model::{Network, Weights};
use super::prune::reset_norms;
use super::session::Session;
use super::{Finished, Result, lmc};

/// Executes a connection between two networks.
pub(crate) fn execute(session: &mut Session, connect: &Connect) -> Result<Finished> {
    let (network, data) = prepare(session, connect.problem, connect.precision)?;
    let a = session.input(0, &network.layout)?;
    let b = match connect.between {
        Between::NormInit => reset_norms(&network.layout, &a),
        _ => session.input(1, &network.layout)?,
    };
    let outcome = lmc::path(session, &network, &data, (&a, &b), connect)?;
    Ok(Finished { outcome: Outcome::Connect(outcome), network: None })
}

/// Executes a block of a barrier matrix.
pub(crate) fn execute_matrix(session: &mut Session, matrix: &Matrix) -> Result<Finished> {
    let (network, data) = prepare(session, matrix.path.problem, matrix.path.precision)?;
    let networks =
        (0..session.inputs()).map(|index| load(session, index, &network, &data)).collect::<Result<Vec<Weights>>>()?;
    let outcome = lmc::matrix(session, &network, &data, &networks, matrix)?;
    Ok(Finished { outcome: Outcome::Matrix(outcome), network: None })
}

/// Executes a plane through three networks.
pub(crate) fn execute_plane(session: &mut Session, plane: &Plane) -> Result<Finished> {
    let (network, data) = prepare(session, plane.problem, plane.precision)?;
    let corner = |index| load(session, index, &network, &data);
    let corners = [corner(0)?, corner(1)?, corner(2)?];
    let outcome = lmc::plane(session, &network, &data, corners, plane)?;
    Ok(Finished { outcome: Outcome::Plane(outcome), network: None })
}

fn prepare(session: &mut Session, problem: Problem, precision: Precision) -> Result<(Network, Data)> {
    let network = Network::new(problem).with_precision(precision);
    Ok((network, session.load_data(problem.dataset)?))
}

/// Returns the network of an input, on the device of the data.
fn load(session: &Session, index: usize, network: &Network, data: &Data) -> Result<Weights> {
    Ok(session.input(index, &network.layout)?.on(data.device()))
}
