//! Evaluation of many networks for paths, matrices and planes, each with BatchNorm statistics of its own.
//!
//! Networks are evaluated in rounds. In each round, the batches for the re-estimation are made once for all of its
//! networks, and so are those of the test and training images. The ranks divide the work by whole batches. The result
//! for a network does not depend on the other networks of its round.

use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};
use winsign_core::attempt::Progress;
use winsign_core::results::TrainScore;
use winsign_core::settings::Sets;
use winsign_core::tensors::TensorFile;
use winsign_data::Split;

use crate::comm::{Place, pulse};
use crate::data::Data;
use crate::data::batches::{Batch, plain_batches, plain_steps};
use crate::model::Network;
use crate::model::weights::{raw, tensor};
use crate::session::{Demand, Session};
use crate::train::evaluate::{Score, Sums, combine_statistics, mean_momentum, reestimation_batches, update_statistics};
use crate::{Error, Result};

/// The maximum number of networks of a round: a worker checks for a request to stop between two networks, and loses at
/// most one batch of a round.
const MAX_NETWORKS: usize = 256;
/// The maximum size in bytes of the statistics of a round on all ranks together, which a checkpoint holds.
const MAX_BYTES: usize = 256 << 20;
/// The minimum number of networks of a round, regardless of the size of their statistics.
const MIN_NETWORKS: usize = 8;

/// The rule by which networks are evaluated.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The number of images per batch for the re-estimation.
    pub batch: u32,
    /// The number of batches for the re-estimation; `None` for a pass over all training images.
    pub batches: Option<u32>,
    pub sets: Sets,
}

/// The scores of a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    pub test: Score,
    /// The score on training images without augmentation, if it was requested.
    pub train: Option<Score>,
}

impl Scores {
    /// Fails with [`Error::NotFinite`], which names the `place` of the network, if a loss is not finite.
    pub fn finite(self, place: impl FnOnce() -> String) -> Result<Scores> {
        match self.test.loss.is_finite() && self.train.is_none_or(|train| train.loss.is_finite()) {
            true => Ok(self),
            false => Err(Error::NotFinite { place: place() }),
        }
    }

    /// Returns the training score in the form of results.
    pub fn train(&self) -> Option<TrainScore> {
        self.train.map(|Score { error, loss }| TrainScore { train_error: error, train_loss: loss })
    }
}

/// Evaluates networks, and resumes from checkpoints of earlier attempts.
pub struct Evaluator<'a> {
    session: &'a Session,
    network: &'a Network,
    data: &'a Data,
    rule: Rule,
    /// The maximum total number of networks.
    expected: usize,
    /// A digest of the networks that each attempt computes anew and might compute differently; `None` if attempts only
    /// read networks.
    digest: Option<String>,
    /// The scores of all networks evaluated so far, in order, including those of earlier attempts.
    known: Vec<Scores>,
    /// The number of these scores that this attempt has returned.
    returned: usize,
    /// The unfinished round of an earlier attempt.
    unfinished: Option<Round>,
    /// The maximum number of networks of a round.
    max_networks: usize,
}

/// A stage of a round; the stages follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    Estimate,
    Test,
    Train,
}

/// Networks that are evaluated together, and their progress.
struct Round {
    stage: Stage,
    /// The next batch of the stage: all batches before it are done.
    step: u32,
    /// The statistics; shape (networks, statistics). During estimation they are the means over the batches of this rank
    /// so far.
    statistics: Tensor,
    /// The number of these batches.
    seen: u32,
    /// The sums over the batches of this rank in this stage.
    sums: Sums,
    /// The test scores, once they are known.
    test: Vec<Score>,
}

/// The metadata of a checkpoint.
#[derive(Serialize, Deserialize)]
struct Metadata {
    stage: Stage,
    step: u32,
    /// The number of batches that each rank has processed in the estimation.
    seen: Vec<u32>,
    /// The digest as in [`Evaluator`].
    #[serde(rename = "made", default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

impl<'a> Evaluator<'a> {
    /// Creates an evaluator. It resumes from the checkpoint of an earlier attempt, if that evaluated the same networks:
    /// `digest` is a digest of all networks that each attempt computes anew. At most `expected` networks can be
    /// evaluated.
    pub fn new(
        session: &'a mut Session,
        network: &'a Network,
        data: &'a Data,
        rule: Rule,
        expected: usize,
        digest: Option<String>,
    ) -> Result<Evaluator<'a>> {
        let file = session.load_checkpoint()?;
        let bytes = 4 * network.layout.statistics().max(1) as usize * session.place().ranks;
        let max_networks = (MAX_BYTES / bytes).clamp(MIN_NETWORKS, MAX_NETWORKS);
        let mut evaluator = Evaluator {
            session,
            network,
            data,
            rule,
            expected,
            digest,
            known: vec![],
            returned: 0,
            unfinished: None,
            max_networks,
        };
        if let Some(file) = file {
            let Ok(metadata) = serde_json::from_str::<Metadata>(&file.metadata) else {
                tracing::warn!("the checkpoint was saved by a version that measured differently; starting again");
                return Ok(evaluator);
            };
            if metadata.digest != evaluator.digest {
                tracing::warn!("the networks of the checkpoint were aligned differently; starting again");
                return Ok(evaluator);
            }
            let (known, round) = evaluator.restore(&file, metadata).map_err(Error::CheckpointMismatch)?;
            let batches = evaluator.steps(round.stage);
            tracing::info!(
                "resuming at batch {} of {batches} after {} of {expected} networks",
                round.step + 1,
                known.len()
            );
            evaluator.known = known;
            evaluator.unfinished = Some(round);
        }
        Ok(evaluator)
    }

    /// Limits the number of networks of a round, for tests.
    #[cfg(test)]
    pub fn limit_rounds(&mut self, max_networks: usize) {
        self.max_networks = max_networks;
    }

    /// Returns the scores of `networks` networks, with the flat parameters that `network_at` returns. A later attempt
    /// must request the same networks in the same order, to resume.
    pub fn measure(&mut self, networks: usize, network_at: impl Fn(usize) -> Tensor) -> Result<Vec<Scores>> {
        let (first, end) = (self.returned, self.returned + networks);
        while self.known.len() < end {
            let left = end - self.known.len();
            let round = match self.unfinished.take() {
                Some(round) if round.networks() <= left => round,
                Some(_) => return Err(Error::CheckpointMismatch("it has too many networks".to_string())),
                None => self.new_round(left.min(self.max_networks)),
            };
            let done = self.known.len() - first;
            tracing::info!(
                "networks {} to {} of {}",
                self.known.len() + 1,
                self.known.len() + round.networks(),
                self.expected
            );
            let scores = self.measure_round(round, &|which| network_at(done + which))?;
            self.known.extend(scores);
        }
        self.returned = end;
        Ok(self.known[first..end].to_vec())
    }

    fn measure_round(&self, mut round: Round, network_at: &dyn Fn(usize) -> Tensor) -> Result<Vec<Scores>> {
        let comm = self.session.comm();
        if round.stage == Stage::Estimate {
            let steps = self.steps(Stage::Estimate);
            let batches = reestimation_batches(self.data, self.rule.batch);
            let epoch = batches.epoch(0);
            let own = epoch.every(round.step, self.session.place()).take_while(|(step, _)| *step < steps);
            self.pass(&mut round, own, network_at)?;
            if steps > 0 {
                combine_statistics(comm, &mut round.statistics, round.seen, steps);
            }
            self.enter_stage(&mut round, Stage::Test);
        }
        for (stage, split) in [(Stage::Test, Split::Test), (Stage::Train, Split::Train)] {
            if round.stage == stage && self.steps(stage) > 0 {
                let own = plain_batches(self.data, split, round.step, self.session.place());
                self.pass(&mut round, own, network_at)?;
            }
            if round.stage == Stage::Test {
                let sums = std::mem::replace(&mut round.sums, Sums::new(0, 0, Device::Cpu));
                round.test = sums.scores(comm, self.data.count(Split::Test));
                self.enter_stage(&mut round, Stage::Train);
            }
        }
        if self.rule.sets == Sets::Test {
            return Ok(round.test.into_iter().map(|test| Scores { test, train: None }).collect());
        }
        let train = round.sums.scores(comm, self.data.count(Split::Train));
        Ok(round.test.into_iter().zip(train).map(|(test, train)| Scores { test, train: Some(train) }).collect())
    }

    /// Evaluates all networks of a round on all batches of a stage. The ranks advance together batch by batch, so that
    /// they can save together; at the end some ranks may have no batch.
    fn pass(
        &self,
        round: &mut Round,
        mut own: impl Iterator<Item = (u32, Result<Batch>)>,
        network_at: &dyn Fn(usize) -> Tensor,
    ) -> Result<()> {
        let session = self.session;
        self.report(round)?;
        for step in (round.step..self.steps(round.stage)).step_by(session.place().ranks) {
            let (number, batch) = own.next().map_or((step, Ok(None)), |(number, batch)| (number, batch.map(Some)));
            round.step = step;
            let demand = session.demand(batch.is_ok());
            if demand > Demand::Nothing {
                self.save(round)?;
                self.report(round)?;
            }
            let batch = match demand {
                Demand::Nothing | Demand::Save => batch?,
                Demand::Stop => return Err(Error::Interrupted),
                Demand::Fail => return Err(batch.err().unwrap_or(Error::OtherRankFailed)),
            };
            // After a request to stop within a batch, the next attempt repeats that batch.
            let before = (round.stage == Stage::Estimate).then(|| round.statistics.copy());
            for which in 0..round.networks() {
                if let Err(stopped) = session.workers().agree(Ok(())) {
                    if let Some(before) = before {
                        round.statistics = before;
                    }
                    self.save(round)?;
                    self.report(round)?;
                    return Err(stopped);
                }
                let Some(batch) = &batch else { continue };
                let (parameters, statistics) = (network_at(which), round.statistics.get(which as i64));
                match round.stage {
                    Stage::Estimate => {
                        update_statistics(
                            self.network,
                            &parameters,
                            &statistics,
                            &batch.images,
                            mean_momentum(round.seen),
                        );
                    }
                    Stage::Test | Stage::Train => {
                        round.sums.add(which, number, self.network, (&parameters, &statistics), batch);
                    }
                }
                pulse::moved();
            }
            round.seen += u32::from(batch.is_some());
        }
        Ok(())
    }

    /// Returns the number of batches of a stage; 0 if it has nothing to do.
    fn steps(&self, stage: Stage) -> u32 {
        match stage {
            // A network without BatchNorm has no statistics.
            Stage::Estimate if self.network.layout.statistics() == 0 => 0,
            Stage::Estimate => {
                let all = reestimation_batches(self.data, self.rule.batch).steps();
                self.rule.batches.map_or(all, |batches| batches.min(all))
            }
            Stage::Test => plain_steps(self.data, Split::Test),
            Stage::Train if self.rule.sets == Sets::Test => 0,
            Stage::Train => plain_steps(self.data, Split::Train),
        }
    }

    fn enter_stage(&self, round: &mut Round, stage: Stage) {
        let sums = Sums::new(round.networks(), self.steps(stage), self.data.device());
        (round.stage, round.step, round.sums) = (stage, 0, sums);
    }

    fn new_round(&self, networks: usize) -> Round {
        Round {
            stage: Stage::Estimate,
            step: 0,
            statistics: self.fresh_statistics(networks),
            seen: 0,
            sums: Sums::new(0, 0, self.data.device()),
            test: vec![],
        }
    }

    fn fresh_statistics(&self, networks: usize) -> Tensor {
        let one = self.network.layout.fresh_statistics(Kind::Float).to_device(self.data.device());
        one.repeat([networks as i64, 1])
    }

    /// Reports the progress, in pairs of a batch and a network.
    fn report(&self, round: &Round) -> Result<()> {
        let stages = [Stage::Estimate, Stage::Test, Stage::Train];
        let steps = |stages: &[Stage]| stages.iter().map(|stage| u64::from(self.steps(*stage))).sum::<u64>();
        let before = stages.iter().position(|stage| *stage == round.stage).unwrap_or(0);
        let done_in_round = steps(&stages[..before]) + u64::from(round.step);
        let done = self.known.len() as u64 * steps(&stages) + round.networks() as u64 * done_in_round;
        let total = self.expected as u64 * steps(&stages);
        let clamp = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        self.session.report(Progress { done: clamp(done), total: clamp(total), test_error: None })
    }

    fn save(&self, round: &Round) -> Result<()> {
        let checkpoint = self.make_checkpoint(round);
        self.session.save_checkpoint(|| checkpoint)
    }

    /// Returns the checkpoint, on every rank.
    fn make_checkpoint(&self, round: &Round) -> TensorFile {
        let comm = self.session.comm();
        let Place { rank, ranks } = comm.place();
        let seen = comm.gather(&round.seen.to_le_bytes());
        let number = |bytes: Vec<u8>| u32::from_le_bytes(bytes.try_into().expect("four bytes were sent"));
        let seen = seen.into_iter().map(number).collect();
        let statistics = match round.stage {
            Stage::Estimate => {
                // Every rank fills its own part, and adds zeros to the others.
                let mut all = round.statistics.zeros_like().unsqueeze(0).repeat([ranks as i64, 1, 1]);
                all.get(rank as i64).copy_(&round.statistics);
                comm.sum(&mut all);
                all
            }
            Stage::Test | Stage::Train => round.statistics.unsqueeze(0),
        };
        let mut sums = round.sums.tensor.copy();
        if round.stage != Stage::Estimate {
            comm.sum(&mut sums);
        }
        let named = |name: &str, tensor: &Tensor, dtype| (name.to_string(), raw(tensor, dtype, &tensor.size()));
        let tensors = [
            named("statistics", &statistics, Dtype::F32),
            named("sums", &sums, Dtype::F64),
            named("test", &table(round.test.iter().map(row)), Dtype::F64),
            named("known_test", &table(self.known.iter().map(|scores| row(&scores.test))), Dtype::F64),
            named("known_train", &table(self.known.iter().filter_map(|scores| Some(row(&scores.train?)))), Dtype::F64),
        ];
        let metadata = Metadata { stage: round.stage, step: round.step, seen, digest: self.digest.clone() };
        TensorFile { tensors: tensors.into(), metadata: serde_json::to_string(&metadata).expect("plain data") }
    }

    /// Returns the known scores, and the part of this rank in the unfinished round.
    fn restore(
        &self,
        file: &TensorFile,
        Metadata { stage, step, seen, digest: _ }: Metadata,
    ) -> std::result::Result<(Vec<Scores>, Round), String> {
        let found = |name: &str| file.tensors.get(name).map(tensor).ok_or(format!("it has no {name}"));
        let statistics = found("statistics")?.to_device(self.data.device());
        let sums = found("sums")?.to_device(self.data.device());
        let scores = |name: &str| Ok::<Vec<Score>, String>(rows(&found(name)?));
        let (test, known_test, known_train) = (scores("test")?, scores("known_test")?, scores("known_train")?);
        let known = (known_test.into_iter().enumerate())
            .map(|(index, test)| Scores { test, train: known_train.get(index).copied() })
            .collect();

        let Place { rank, ranks } = self.session.place();
        let shares = if stage == Stage::Estimate { seen.len() } else { 1 };
        let (networks, length) = match statistics.size()[..] {
            [found, networks, length] if found == shares as i64 => (networks, length),
            _ => return Err("its statistics do not match its number of ranks".to_string()),
        };
        if length != self.network.layout.statistics() {
            return Err(format!("it has {length} statistics per network"));
        }
        let mut round = Round { stage, step, sums: Sums { tensor: sums }, test, ..self.new_round(networks as usize) };
        match stage {
            Stage::Estimate if seen.len() == ranks => {
                (round.statistics, round.seen) = (statistics.get(rank as i64), seen[rank]);
            }
            // The number of ranks has changed: rank 0 resumes with the mean of all.
            Stage::Estimate if rank == 0 => {
                let total: u32 = seen.iter().sum();
                let shares: Vec<f32> = seen.iter().map(|&seen| seen as f32 / total.max(1) as f32).collect();
                let shares = Tensor::from_slice(&shares).view([-1, 1, 1]).to_device(statistics.device());
                round.statistics = (statistics * shares).sum_dim_intlist([0i64].as_slice(), false, None);
                round.seen = total;
            }
            Stage::Estimate => {}
            Stage::Test | Stage::Train => {
                if round.sums.tensor.size() != [networks, 2, self.steps(stage).into()] {
                    return Err("it has another number of batches".to_string());
                }
                round.statistics = statistics.get(0);
                // Rank 0 holds the sums of all ranks from now on; batches that are repeated must not count twice.
                let first = if rank == 0 { i64::from(step) } else { 0 };
                let _ = round.sums.tensor.slice(2, first, None, 1).zero_();
            }
        }
        Ok((known, round))
    }
}

impl Round {
    fn networks(&self) -> usize {
        self.statistics.size()[0] as usize
    }
}

fn row(score: &Score) -> [f64; 2] {
    [score.error, score.loss]
}

/// Converts rows to a tensor of shape (scores, 2).
fn table(rows: impl Iterator<Item = [f64; 2]>) -> Tensor {
    let numbers: Vec<f64> = rows.flatten().collect();
    Tensor::from_slice(&numbers).view([numbers.len() as i64 / 2, 2])
}

fn rows(table: &Tensor) -> Vec<Score> {
    let numbers = Vec::<f64>::try_from(table.contiguous().view([-1])).expect("a table of floats");
    numbers.chunks_exact(2).map(|pair| Score { error: pair[0], loss: pair[1] }).collect()
}
