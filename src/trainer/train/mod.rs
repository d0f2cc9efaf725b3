//! The step loop: data order, optimizer, schedule, evaluation, checkpoint and resume.

pub mod checkpoint;
pub mod evaluate;
mod schedule;
mod sgd;

use tch::{Kind, Reduction, Tensor};

use crate::trainer::data::Data;
use crate::trainer::data::batches::Batches;
use crate::trainer::model::{Mode, Network, Weights};
use crate::trainer::prune::interpolate_norms;
use crate::trainer::session::Session;
use crate::trainer::{Error, Result};
use checkpoint::Checkpoint;
use evaluate::{Score, cross_entropy, evaluate, reestimate, wrong_count};
use schedule::learning_rate;
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

/// Trains from `start`, or goes on from the run's checkpoint if there is one.
///
/// A checkpoint is saved after every epoch, and before the next step once the session is told to stop; then
/// [`Error::Interrupted`] is returned. A loss that is not finite is [`Error::Diverged`].
pub fn train(session: &mut Session, course: &Course, start: Weights) -> Result<Trained> {
    let Course { data, training, .. } = *course;
    let batches = Batches::new(data, training.batch, course.order_seed, &course.purpose);
    let mut state = match session.load_checkpoint()? {
        Some(file) => {
            let state = Checkpoint::from_file(&file).map_err(Error::Unfit)?;
            tracing::info!("going on at epoch {}, step {}", state.place.epoch, state.place.step + 1);
            state
        }
        None => Checkpoint::beginning(start, batches.steps()),
    };
    state.weights.parameters = state.weights.parameters.set_requires_grad(true);
    let test_error = state.place.metrics.last().map(|last| last.test_error);
    session.report(Progress { done: state.place.epoch - 1, total: training.epochs, test_error })?;

    for epoch in state.place.epoch..=training.epochs {
        train_epoch(session, course, &batches, &mut state)?;
        check_finite(&state.losses, epoch)?;
        let score = score(course, &mut state.weights);
        if !score.loss.is_finite() {
            return Err(Error::DivergedTest { epoch, loss: score.loss });
        }
        state.place.metrics.push(EpochMetrics {
            epoch,
            lr: learning_rate(training, epoch),
            train_loss: state.losses.mean(Kind::Double).double_value(&[]),
            train_error: 100.0 * state.wrong.sum(Kind::Double).double_value(&[]) / data.train.count() as f64,
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
        session.save_checkpoint(&state.to_file())?;
    }
    unreachable!("no checkpoint is saved after the last epoch")
}

/// Does the steps that are left of the epoch under way.
fn train_epoch(session: &mut Session, course: &Course, batches: &Batches, state: &mut Checkpoint) -> Result<()> {
    let Course { network, training, .. } = *course;
    let layout = &network.layout;
    let epoch = state.place.epoch;
    let lr = learning_rate(training, epoch);
    let images = batches.epoch(epoch);
    let norm_init = layout.norm_init();
    let alphas = course.alpha_seed.map(|seed| Source::new(seed, &format!("alpha {}", course.purpose), epoch.into()));

    for step in state.place.step..batches.steps() {
        if session.told_to_stop() {
            state.place.step = step;
            session.save_checkpoint(&state.to_file())?;
            return Err(Error::Interrupted);
        }
        let batch = images.batch(step);
        let Weights { parameters, statistics, mask } = &mut state.weights;
        let effective = match &alphas {
            Some(alphas) => interpolate_norms(layout, parameters, &norm_init, alphas.stream(step.into()).uniform()),
            None => parameters.shallow_clone(),
        };
        let logits = network.logits(&effective, statistics, Mode::TRAIN, &batch.images);
        let loss = cross_entropy(&logits, &batch.labels, Reduction::Mean);
        parameters.zero_grad();
        loss.backward();
        let gradient = parameters.grad();
        let _ = gradient.narrow(0, 0, layout.prunable()).g_mul_(mask);
        sgd::step(training, lr, parameters, &mut state.velocity, &gradient);
        // Read at the end of the epoch, so that no step waits for its numbers.
        state.losses.get(step.into()).copy_(&loss.detach());
        state.wrong.get(step.into()).copy_(&wrong_count(&logits, &batch.labels));
    }
    Ok(())
}

/// The test score after an epoch, at α = 0. Re-estimated statistics replace those gathered in training.
fn score(course: &Course, weights: &mut Weights) -> Score {
    let Course { network, data, training, .. } = *course;
    let parameters = weights.parameters.detach();
    if course.reestimate {
        weights.statistics = reestimate(network, &parameters, data, training.batch);
    }
    evaluate(network, &parameters, &weights.statistics, data)
}

fn check_finite(losses: &Tensor, epoch: u32) -> Result<()> {
    let losses = Vec::<f32>::try_from(losses).expect("losses are a vector of floats");
    match losses.iter().position(|loss| !loss.is_finite()) {
        Some(step) => Err(Error::Diverged { epoch, step: step as u32 + 1, loss: losses[step] }),
        None => Ok(()),
    }
}
