//! Ticket runs: one level of a chain. For all methods, the ticket is the network after the training of the level, even if
//! its mask was found before any training.

use winsign_core::results::{Outcome, TicketOutcome};
use winsign_core::settings::{Method, Ticket};

use super::data::Data;
use super::model::{Layout, Network, Weights};
use super::prune::initial::{Sample, Sparsity, snip, synflow};
use super::prune::{prune, rewind};
use super::session::Session;
use super::train::{TrainJob, train};
use super::{Finished, Result};

/// Executes a level of a chain.
pub(crate) fn execute(session: &mut Session, ticket: &Ticket) -> Result<Finished> {
    let network = Network::new(ticket.problem).with_precision(ticket.training.precision);
    let data = session.load_data(ticket.problem.dataset)?;

    let job = TrainJob {
        network: &network,
        data: &data,
        training: &ticket.training,
        order_seed: ticket.seeds.order,
        purpose: format!("level {}", ticket.level),
        alpha_seed: match ticket.method {
            Method::Aws => Some(ticket.seeds.alpha),
            Method::Lrr | Method::Imp | Method::Snip | Method::SynFlow | Method::Imported => None,
        },
        // Statistics accumulated with random α do not fit α = 0, and those of other methods lag behind if the learning
        // rate is constant. Re-estimating all in the same way makes tickets of all methods comparable.
        reestimate: true,
    };
    let trained = train(session, &job, |session| start(session, &network, &data, ticket))?;

    let outcome = TicketOutcome {
        remaining_ratio: trained.weights.remaining_ratio(),
        survivors: trained.weights.survivors(),
        prunable: network.layout.prunable() as u64,
        test_error: trained.score.error,
        test_loss: trained.score.loss,
        layers: trained.weights.layers(&network.layout),
    };
    Ok(Finished { outcome: Outcome::Ticket(outcome), network: Some((network.layout, trained.weights)) })
}

/// Returns the network from which the training of the level starts.
fn start(session: &Session, network: &Network, data: &Data, ticket: &Ticket) -> Result<Weights> {
    let layout = &network.layout;
    let initial = || Weights::initialize(layout, ticket.seeds.init);
    let Some(ratio) = ticket.prune_ratio else { return Ok(initial()) };
    let sparsity = Sparsity { ratio, level: ticket.level };
    match ticket.method {
        Method::Lrr | Method::Aws => prune_input(session, layout, ratio),
        Method::Imp => {
            let origin = match ticket.rewind_epoch {
                None | Some(0) => initial(),
                Some(_) => session.input(1, layout)?,
            };
            Ok(rewind(layout, &prune_input(session, layout, ratio)?, origin))
        }
        Method::Snip => {
            let mut weights = initial().on(data.device());
            let images = 10 * ticket.problem.dataset.classes();
            let sample = Sample { images, batch: ticket.training.batch, order_seed: ticket.seeds.order };
            snip(session.workers(), network, data, &mut weights, &sample, sparsity)?;
            Ok(weights)
        }
        Method::SynFlow => {
            let mut weights = initial().on(data.device());
            synflow(session.workers(), network, ticket.problem.dataset.image_shape(), &mut weights, sparsity)?;
            Ok(weights)
        }
        Method::Imported => unreachable!("imports have no training settings"),
    }
}

/// Prunes the ticket of the level before.
fn prune_input(session: &Session, layout: &Layout, ratio: f64) -> Result<Weights> {
    let mut weights = session.input(0, layout)?;
    prune(&mut weights, layout, ratio)?;
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::comm::Ranks;
    use crate::session::ExecOptions;
    use winsign_core::attempt::Attempt;
    use winsign_core::results::Processors;
    use winsign_core::settings::{Architecture, Dataset, Problem, Schedule, Seeds, Settings, Training};
    use winsign_core::{Run, RunId, Store};

    fn imp(level: u32, epochs: u32, rewind_epoch: Option<u32>) -> Ticket {
        Ticket {
            problem: Problem::new(Dataset::Digits, Architecture::ResNet8),
            method: Method::Imp,
            level,
            prune_ratio: (level > 0).then_some(0.2),
            rewind_epoch,
            training: Training {
                epochs,
                batch: 128,
                optimizer: Default::default(),
                lr: 0.1,
                momentum: 0.9,
                weight_decay: 5e-4,
                schedule: Schedule::Constant,
                precision: Default::default(),
            },
            seeds: Seeds::from(1),
        }
    }

    /// Begins an attempt at a run in a store of its own.
    fn begin(store: &Path, ticket: &Ticket, inputs: Vec<RunId>) -> Session {
        let run = Run::new(Settings::Ticket(ticket.clone()), inputs.clone());
        let directory = Store::create(store).unwrap().run(&run.id);
        directory.prepare(&run, "a ticket").unwrap();
        let attempt = Attempt::claim(&directory, ticket.training.epochs).unwrap();
        let options = ExecOptions { checkpoint_every: Duration::MAX, ..ExecOptions::default() };
        Session::new(Ranks::alone(), Some(attempt), inputs, options)
    }

    /// Executes a ticket without inputs, and commits it.
    fn execute_and_commit(store: &Path, ticket: &Ticket) -> (RunId, Weights) {
        let mut session = begin(store, ticket, vec![]);
        let Finished { outcome, network } = execute(&mut session, ticket).unwrap();
        let (layout, weights) = network.unwrap();
        let attempt = session.into_parts().1.unwrap();
        let processors = Processors { ranks: 1, threads: 1 };
        assert!(attempt.commit(outcome, Some(&weights.to_file(&layout)), processors, None).unwrap());
        (attempt.run.id.clone(), weights)
    }

    /// IMP rewinds to a separate run, which must equal level 0 at that epoch to the last bit.
    #[test]
    fn level_0_trained_for_k_epochs_equals_level_0_at_epoch_k() {
        let folder = tempfile::tempdir().unwrap();
        let longer = imp(0, 3, None);
        let mut session = begin(folder.path(), &longer, vec![]);
        let trained = execute(&mut session, &longer).unwrap().network.unwrap().1;
        // The latest checkpoint was saved at the end of epoch 2.
        let at_epoch_2 = session.load_checkpoint().unwrap().unwrap();

        let (_, weights) = execute_and_commit(folder.path(), &imp(0, 2, None));
        let assert_same = |name: &str, found: &tch::Tensor| {
            let expected = crate::model::weights::tensor(&at_epoch_2.tensors[name]);
            assert_eq!(&expected, found, "{name}");
        };
        assert_same("parameters", &weights.parameters);
        assert_same("statistics", &weights.statistics);
        assert_ne!(weights.parameters, trained.parameters);
    }

    #[test]
    fn imp_prunes_trained_weights_and_rewinds_to_early_ones() {
        let folder = tempfile::tempdir().unwrap();
        let (level_0, trained) = execute_and_commit(folder.path(), &imp(0, 2, None));
        let (rewind_point, early) = execute_and_commit(folder.path(), &imp(0, 1, None));
        let network = Network::new(imp(0, 1, None).problem);
        let data = crate::data::load(Dataset::Digits, "".as_ref(), 1).unwrap();
        let mut pruned = trained;
        prune(&mut pruned, &network.layout, 0.2).unwrap();

        let start_at = |rewind_epoch, inputs: Vec<RunId>| {
            let ticket = imp(1, 1, Some(rewind_epoch));
            start(&begin(folder.path(), &ticket, inputs), &network, &data, &ticket).unwrap()
        };
        let initial = Weights::initialize(&network.layout, 1);
        for (start, origin) in
            [(start_at(0, vec![level_0.clone()]), initial), (start_at(1, vec![level_0, rewind_point]), early)]
        {
            assert_eq!(start.mask, pruned.mask);
            let prunable = |weights: &Weights| weights.parameters.narrow(0, 0, network.layout.prunable());
            let others = |weights: &Weights| weights.parameters.slice(0, network.layout.prunable(), None, 1);
            assert_eq!(prunable(&start), prunable(&origin) * &pruned.mask);
            assert_eq!(others(&start), others(&origin));
            assert_eq!(start.statistics, origin.statistics);
        }
    }
}
