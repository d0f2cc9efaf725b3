//! Training: the order of data, optimizer, schedule, evaluation, checkpoints and resuming.

pub mod checkpoint;
pub mod evaluate;
pub mod optimizer;
mod schedule;
pub mod step;

use tch::{Kind, Tensor};
use winsign_core::attempt::Progress;
use winsign_core::random::Source;
use winsign_core::results::EpochMetrics;
use winsign_core::settings::Training;

use crate::data::Data;
use crate::data::batches::Batches;
use crate::model::{Network, Weights};
use crate::session::{Demand, Session};
use crate::{Error, Result};
use checkpoint::Checkpoint;
use evaluate::{Score, Workers, evaluate, reestimate};
use schedule::learning_rate;
use step::Stepper;

/// A training: the network, the data and the settings.
pub struct TrainJob<'a> {
    pub network: &'a Network,
    pub data: &'a Data,
    pub training: &'a Training,
    pub order_seed: u64,
    /// The purpose, which separates the randomness of trainings with equal seeds, such as those of different levels.
    pub purpose: String,
    /// The seed of α, if norm parameters are interpolated in every step (AWS).
    pub alpha_seed: Option<u64>,
    /// True if BatchNorm statistics are re-estimated before each evaluation.
    pub reestimate: bool,
}

/// A network after its training, with its score on the test set.
pub struct Trained {
    pub weights: Weights,
    pub score: Score,
}

/// Trains from the network that `start` returns, or resumes from the checkpoint of the run if there is one.
///
/// A checkpoint is saved after every epoch, within epochs at the interval of the session, and before the next step
/// after a request to stop, which ends the training with [`Error::Interrupted`]. A loss that is not finite is
/// [`Error::Diverged`].
///
/// Several ranks divide every batch among them. Their states are equal to the last bit at the end of an epoch and
/// whenever a checkpoint is saved, or else the training fails with [`Error::RanksDiffer`].
pub fn train(
    session: &mut Session,
    job: &TrainJob,
    start: impl FnOnce(&Session) -> Result<Weights>,
) -> Result<Trained> {
    let TrainJob { data, training, .. } = *job;
    let batches = Batches::new(data, training.batch, job.order_seed, &job.purpose);
    let mut state = match session.load_checkpoint()? {
        Some(file) => {
            let state = Checkpoint::from_file(&file).map_err(Error::CheckpointMismatch)?.on(data.device());
            tracing::info!("resuming at epoch {}, step {}", state.place.epoch, state.place.step + 1);
            state
        }
        None => {
            let mut weights = start(session)?.on(data.device());
            // Different processors may round the initial weights differently.
            session.synchronize(&mut weights);
            Checkpoint::new(weights, training.optimizer, batches.steps())
        }
    };
    state.weights.parameters = state.weights.parameters.set_requires_grad(true);
    let test_error = state.place.metrics.last().map(|last| last.test_error);
    session.report(Progress { done: state.place.epoch - 1, total: training.epochs, test_error })?;

    for epoch in state.place.epoch..=training.epochs {
        train_epoch(session, job, &batches, &mut state)?;
        // This must come first: later decisions agree only on ranks with equal states.
        check_equal(session, &state)?;
        check_finite(&state.losses, epoch)?;
        // Handle demands before the evaluation, which may take long.
        state.place.step = batches.steps();
        handle_demand(session, &state, session.demand(true))?;
        let score = score(session.workers(), job, &mut state.weights);
        if score.is_err() {
            save(session, &state)?;
        }
        let score = score?;
        if !score.loss.is_finite() {
            return Err(Error::DivergedTest { epoch, loss: score.loss });
        }
        state.place.metrics.push(EpochMetrics {
            epoch,
            lr: learning_rate(training, epoch),
            train_loss: state.losses.mean(Kind::Double).double_value(&[]),
            train_error: 100.0 * state.wrong.sum(Kind::Double).double_value(&[]) / data.train_count() as f64,
            test_loss: score.loss,
            test_error: score.error,
        });
        let progress = Progress { done: epoch, total: training.epochs, test_error: Some(score.error) };
        session.finish_epoch(&state.place.metrics, progress)?;
        if epoch == training.epochs {
            let weights = Weights { parameters: state.weights.parameters.detach(), ..state.weights };
            return Ok(Trained { weights, score });
        }
        (state.place.epoch, state.place.step) = (epoch + 1, 0);
        save(session, &state)?;
    }
    unreachable!("no checkpoint is saved after the last epoch")
}

/// Trains the remaining steps of the current epoch.
fn train_epoch(session: &mut Session, job: &TrainJob, batches: &Batches, state: &mut Checkpoint) -> Result<()> {
    let TrainJob { network, training, .. } = *job;
    let epoch = state.place.epoch;
    let lr = learning_rate(training, epoch);
    let order = batches.epoch(epoch);
    let alphas = job.alpha_seed.map(|seed| Source::new(seed, &format!("alpha {}", job.purpose), epoch.into()));
    let dropout = network.drops().then(|| {
        let purpose = format!("dropout {}", job.purpose);
        Source::new(job.order_seed, &purpose, epoch.into())
    });

    let mut stepper = Stepper::new(session.comm(), network, training, &state.weights);
    let first = state.place.step;
    for (step, batch) in (first..).zip(order.shares(first, session.place())) {
        state.place.step = step;
        // If an image cannot be read, the steps so far are saved.
        let batch = match (handle_demand(session, state, session.demand(batch.is_ok())), batch) {
            (Ok(()), Ok(batch)) => batch,
            (_, Err(error)) | (Err(error), Ok(_)) => return Err(error),
        };
        let alpha = alphas.as_ref().map(|alphas| alphas.stream(step.into()).uniform());
        let dropout =
            dropout.as_ref().map(|source| batch.indices.iter().map(|&index| source.stream(index as u64)).collect());
        let number = u64::from(epoch - 1) * u64::from(batches.steps()) + u64::from(step) + 1;
        let Checkpoint { weights, moments, .. } = state;
        let pass = stepper.step((weights, moments), &batch, (lr, number), alpha, dropout);
        // These are read at the end of the epoch, so that no step waits for its numbers.
        state.losses.get(step.into()).copy_(&pass.loss);
        state.wrong.get(step.into()).copy_(&pass.wrong);
    }
    Ok(())
}

/// Handles the demand of the ranks before the next step of `state`.
fn handle_demand(session: &Session, state: &Checkpoint, demand: Demand) -> Result<()> {
    if demand > Demand::Nothing {
        save(session, state)?;
    }
    match demand {
        Demand::Nothing | Demand::Save => Ok(()),
        Demand::Stop => Err(Error::Interrupted),
        Demand::Fail => Err(Error::OtherRankFailed),
    }
}

/// Returns the test score after an epoch, at α = 0. Re-estimated statistics replace those of the training.
fn score(workers: Workers, job: &TrainJob, weights: &mut Weights) -> Result<Score> {
    let TrainJob { network, data, training, .. } = *job;
    let parameters = weights.parameters.detach();
    if job.reestimate && network.layout.statistics() > 0 {
        weights.statistics = reestimate(workers, network, &parameters, data, training.batch)?;
    }
    evaluate(workers, network, &parameters, &weights.statistics, data)
}

/// Saves a checkpoint, unless the ranks differ: then the next attempt resumes from one at which they were equal.
fn save(session: &Session, state: &Checkpoint) -> Result<()> {
    check_equal(session, state)?;
    session.save_checkpoint(|| state.to_file())
}

/// Fails unless the states of all ranks are equal. Every rank did the same steps on the same sums, so a difference
/// means that a machine computes wrongly.
fn check_equal(session: &Session, state: &Checkpoint) -> Result<()> {
    if session.place().ranks == 1 {
        return Ok(());
    }
    let sums = session.comm().gather(&state.checksum());
    match sums.iter().position(|sum| *sum != sums[0]) {
        Some(rank) => Err(Error::RanksDiffer { rank, epoch: state.place.epoch }),
        None => Ok(()),
    }
}

fn check_finite(losses: &Tensor, epoch: u32) -> Result<()> {
    let losses = Vec::<f32>::try_from(losses).expect("losses are a vector of floats");
    match losses.iter().position(|loss| !loss.is_finite()) {
        Some(step) => Err(Error::Diverged { epoch, step: step as u32 + 1, loss: losses[step] }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;
    use crate::comm::threads::{Threads, on_ranks};
    use crate::comm::{Comm, Place, Ranks};
    use crate::data;
    use crate::session::ExecOptions;
    use winsign_core::attempt::Attempt;
    use winsign_core::settings::{
        Architecture, Dataset, Method, Precision, Problem, Schedule, Seeds, Settings, Ticket,
    };
    use winsign_core::{Run, RunDirectory, Store};

    /// A communicator in which one rank computes a wrong sum, once.
    struct Faulty {
        comm: Threads,
        sums: Cell<u32>,
        wrong: u32,
    }

    impl Comm for Faulty {
        fn place(&self) -> Place {
            self.comm.place()
        }

        fn sum(&self, tensor: &mut Tensor) {
            self.comm.sum(tensor);
            self.sums.set(self.sums.get() + 1);
            if self.place().rank == 1 && self.sums.get() == self.wrong {
                let _ = tensor.get(0).fill_(0.1);
            }
        }

        fn broadcast(&self, bytes: Vec<u8>) -> Vec<u8> {
            self.comm.broadcast(bytes)
        }

        fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
            self.comm.gather(bytes)
        }

        fn largest(&self, number: u64) -> u64 {
            self.comm.largest(number)
        }
    }

    fn ticket() -> Ticket {
        Ticket {
            problem: Problem::new(Dataset::Digits, Architecture::ResNet8),
            method: Method::Lrr,
            level: 0,
            prune_ratio: None,
            rewind_epoch: None,
            training: Training {
                epochs: 1,
                batch: 128,
                optimizer: Default::default(),
                lr: 0.1,
                momentum: 0.9,
                weight_decay: 5e-4,
                schedule: Schedule::Constant,
                precision: Precision::Fp32,
            },
            seeds: Seeds::from(1),
        }
    }

    /// Trains on ranks of which one computes sum number `wrong` wrongly; returns the result and the last checkpoint.
    fn train_with_fault(comm: &Threads, run: &RunDirectory, wrong: u32) -> (Result<Trained>, Checkpoint) {
        let ticket = ticket();
        let network = Network::new(ticket.problem);
        let data = data::load(Dataset::Digits, "".as_ref(), 1).unwrap();
        let attempt = comm.place().is_root().then(|| Attempt::claim(run, 1).unwrap());
        let ranks = Ranks { comm: Box::new(Faulty { comm: comm.clone(), sums: Cell::new(0), wrong }), watch: None };
        // This saves a checkpoint before every step.
        let options = ExecOptions { checkpoint_every: Duration::ZERO, ..ExecOptions::default() };
        let mut session = Session::new(ranks, attempt, vec![], options);
        let job = TrainJob {
            network: &network,
            data: &data,
            training: &ticket.training,
            order_seed: 1,
            purpose: "test".to_string(),
            alpha_seed: None,
            reestimate: false,
        };
        let result = train(&mut session, &job, |_| Ok(Weights::initialize(&network.layout, 1)));
        let left = session.load_checkpoint().unwrap().expect("a checkpoint");
        (result, Checkpoint::from_file(&left).unwrap())
    }

    /// The next attempt must not resume from the numbers of a faulty machine, even if that is rank 0.
    #[test]
    fn ranks_that_differ_stop_without_saving() {
        // Three sums synchronize the ranks; then there is one sum per step.
        for good_steps in [4, 11] {
            let folder = tempfile::tempdir().unwrap();
            let run = Run::new(Settings::Ticket(ticket()), vec![]);
            let directory = Store::create(folder.path()).unwrap().run(&run.id);
            directory.prepare(&run, "a ticket").unwrap();
            for (result, left) in on_ranks(2, |comm| train_with_fault(comm, &directory, 3 + good_steps + 1)) {
                assert!(matches!(result, Err(Error::RanksDiffer { rank: 1, epoch: 1 })), "{:?}", result.err());
                assert_eq!(left.place.step, good_steps, "the checkpoint is the one before the wrong step");
            }
        }
    }
}
