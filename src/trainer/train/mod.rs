//! The step loop: data order, optimizer, schedule, evaluation, checkpoint and resume.

pub mod checkpoint;
pub mod evaluate;
pub mod optimizer;
mod schedule;
pub mod step;

use tch::{Kind, Tensor};

use crate::trainer::data::Data;
use crate::trainer::data::batches::Batches;
use crate::trainer::model::{Network, Weights};
use crate::trainer::session::{Demand, Session};
use crate::trainer::{Error, Result};
use checkpoint::Checkpoint;
use evaluate::{Crew, Score, evaluate, reestimate};
use schedule::learning_rate;
use step::{Exchange, forward_backward};
use winsign::random::Source;
use winsign::run::attempt::Progress;
use winsign::run::results::EpochMetrics;
use winsign::run::settings::Training;

/// A training to be done: of what, on what, how.
pub struct Course<'a> {
    pub network: &'a Network,
    pub data: &'a Data,
    pub training: &'a Training,
    pub order_seed: u64,
    /// Keeps the chance of trainings with equal seeds apart, such as that of different levels.
    pub purpose: String,
    /// The seed of α, if norm parameters are interpolated in every step (AWS).
    pub alpha_seed: Option<u64>,
    /// Whether BatchNorm statistics are re-estimated before each evaluation.
    pub reestimate: bool,
}

/// A network after its training, with its score on the test set.
pub struct Trained {
    pub weights: Weights,
    pub score: Score,
}

/// Trains from what `start` gives, or goes on from the run's checkpoint if there is one.
///
/// A checkpoint is saved after every epoch, within epochs as often as the session says, and before the next step once it
/// is told to stop; then [`Error::Interrupted`] is returned. A loss that is not finite is [`Error::Diverged`].
///
/// Several ranks share out every batch. They hold the same state, to the last bit: [`Error::Apart`] if not.
pub fn train(
    session: &mut Session,
    course: &Course,
    start: impl FnOnce(&Session) -> Result<Weights>,
) -> Result<Trained> {
    let Course { data, training, .. } = *course;
    let batches = Batches::new(data, training.batch, course.order_seed, &course.purpose);
    let mut state = match session.load_checkpoint()? {
        Some(file) => {
            let state = Checkpoint::from_file(&file).map_err(Error::Unfit)?.on(data.device());
            tracing::info!("going on at epoch {}, step {}", state.place.epoch, state.place.step + 1);
            state
        }
        None => {
            let mut weights = start(session)?.on(data.device());
            // Processors of different makes may round what begins a training differently.
            session.align(&mut weights);
            Checkpoint::beginning(weights, training.optimizer, batches.steps())
        }
    };
    state.weights.parameters = state.weights.parameters.set_requires_grad(true);
    let test_error = state.place.metrics.last().map(|last| last.test_error);
    session.report(Progress { done: state.place.epoch - 1, total: training.epochs, test_error })?;

    for epoch in state.place.epoch..=training.epochs {
        train_epoch(session, course, &batches, &mut state)?;
        check_finite(&state.losses, epoch)?;
        check_equal(session, &state, epoch)?;
        // The evaluation may take long.
        state.place.step = batches.steps();
        heed(session, &state, session.demand(true))?;
        let score = score(session.crew(), course, &mut state.weights);
        if score.is_err() {
            session.save_checkpoint(|| state.to_file())?;
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
        session.epoch_done(&state.place.metrics, progress)?;
        if epoch == training.epochs {
            let weights = Weights { parameters: state.weights.parameters.detach(), ..state.weights };
            return Ok(Trained { weights, score });
        }
        (state.place.epoch, state.place.step) = (epoch + 1, 0);
        session.save_checkpoint(|| state.to_file())?;
    }
    unreachable!("no checkpoint is saved after the last epoch")
}

/// Does the steps that are left of the epoch under way.
fn train_epoch(session: &mut Session, course: &Course, batches: &Batches, state: &mut Checkpoint) -> Result<()> {
    let Course { network, training, .. } = *course;
    let epoch = state.place.epoch;
    let lr = learning_rate(training, epoch);
    let order = batches.epoch(epoch);
    let norm_init = network.layout.norm_init(state.weights.parameters.kind()).to_device(course.data.device());
    let alphas = course.alpha_seed.map(|seed| Source::new(seed, &format!("alpha {}", course.purpose), epoch.into()));
    let dropout = network.drops().then(|| {
        let purpose = format!("dropout {}", course.purpose);
        Source::new(course.order_seed, &purpose, epoch.into())
    });

    let mut exchange = Exchange::new(session.comm(), &state.weights);
    let first = state.place.step;
    for (step, batch) in (first..).zip(order.shares(first, session.place())) {
        state.place.step = step;
        // The steps so far are not lost with an image that cannot be read.
        let batch = match (heed(session, state, session.demand(batch.is_ok())), batch) {
            (Ok(()), Ok(batch)) => batch,
            (_, Err(error)) | (Err(error), Ok(_)) => return Err(error),
        };
        let alpha = alphas.as_ref().map(|alphas| alphas.stream(step.into()).uniform());
        let dropout =
            dropout.as_ref().map(|source| batch.indices.iter().map(|&index| source.stream(index as u64)).collect());
        let mut pass = forward_backward(network, &mut state.weights, &batch, alpha, &norm_init, dropout);
        exchange.sum(&mut state.weights, &batch, &mut pass);
        let number = u64::from(epoch - 1) * u64::from(batches.steps()) + u64::from(step) + 1;
        let Checkpoint { weights, moments, .. } = state;
        optimizer::step(training, &network.layout, (lr, number), &weights.parameters, moments, &pass.gradient);
        // Read at the end of the epoch, so that no step waits for its numbers.
        state.losses.get(step.into()).copy_(&pass.loss);
        state.wrong.get(step.into()).copy_(&pass.wrong);
    }
    Ok(())
}

/// Does what a rank demanded before the next step of `state`.
fn heed(session: &Session, state: &Checkpoint, demand: Demand) -> Result<()> {
    if demand > Demand::Nothing {
        session.save_checkpoint(|| state.to_file())?;
    }
    match demand {
        Demand::Nothing | Demand::Save => Ok(()),
        Demand::Stop => Err(Error::Interrupted),
        Demand::Fail => Err(Error::Elsewhere),
    }
}

/// The test score after an epoch, at α = 0. Re-estimated statistics replace those gathered in training.
fn score(crew: Crew, course: &Course, weights: &mut Weights) -> Result<Score> {
    let Course { network, data, training, .. } = *course;
    let parameters = weights.parameters.detach();
    if course.reestimate && network.layout.statistics() > 0 {
        weights.statistics = reestimate(crew, network, &parameters, data, training.batch)?;
    }
    evaluate(crew, network, &parameters, &weights.statistics, data)
}

/// Every rank did the same steps on the same sums: if they differ now, a machine computes wrongly.
fn check_equal(session: &Session, state: &Checkpoint, epoch: u32) -> Result<()> {
    if session.place().ranks == 1 {
        return Ok(());
    }
    let sums = session.comm().gather(&state.checksum());
    match sums.iter().position(|sum| *sum != sums[0]) {
        Some(rank) => Err(Error::Apart { rank, epoch }),
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
