//! Batches of augmented training images, and of images without augmentation.

use std::ops::Range;

use tch::Tensor;
use winsign_core::random::Source;
use winsign_data::Split;

use super::augment::Draws;
use super::resident::Resident;
use super::streamed::Pixels;
use super::{Data, Images};
use crate::Result;
use crate::comm::{Place, pulse};
use crate::device::upload;

/// The number of images per forward pass without training: their activations fit the caches of a CPU, and fill a GPU.
/// It determines the order in which floats are summed: another number changes the last digits of losses.
const PLAIN_BATCH: i64 = 128;

/// The training images in shuffled, augmented batches; the last batch of an epoch may be smaller.
pub struct Batches<'a> {
    data: &'a Data,
    batch: i64,
    seed: u64,
    purpose: String,
}

/// Images as network inputs, and their labels. With several ranks it is the share of one rank, which may be empty.
pub struct Batch {
    /// The images; shape (batch, channels, height, width).
    pub images: Tensor,
    /// The labels; shape (batch), 64-bit integers.
    pub labels: Tensor,
    /// The indices of the images in the set.
    pub indices: Vec<i64>,
    /// The number of images in the shares of all ranks.
    pub whole: i64,
}

/// The batches of one epoch.
pub struct Epoch<'a> {
    batches: &'a Batches<'a>,
    order: Vec<i64>,
    /// The source of the random numbers of the augmentation.
    source: Source,
}

impl<'a> Batches<'a> {
    /// Creates batches of `batch` images. `purpose` separates the orders of different trainings with the same seed.
    pub fn new(data: &'a Data, batch: u32, seed: u64, purpose: &str) -> Batches<'a> {
        Batches { data, batch: i64::from(batch), seed, purpose: purpose.to_string() }
    }

    /// Returns the number of batches of an epoch.
    pub fn steps(&self) -> u32 {
        u32::try_from((self.data.train_count() + self.batch - 1) / self.batch).expect("steps fit 32 bits")
    }

    /// Returns the batches of an epoch.
    pub fn epoch(&self, epoch: u32) -> Epoch<'_> {
        let source = |of: &str| Source::new(self.seed, &format!("{of} {}", self.purpose), u64::from(epoch));
        let order = source("order").permutation(self.data.train_count() as usize);
        Epoch { batches: self, order, source: source("shift") }
    }
}

impl<'a> Epoch<'a> {
    /// Returns the share of a rank of each batch, from `step`, which is counted from 0, to the end of the epoch. The
    /// shares of all ranks together are the batches of a single rank.
    pub fn shares(&'a self, step: u32, place: Place) -> impl Iterator<Item = Result<Batch>> + 'a {
        let Place { rank, ranks } = place;
        let share = move |batch: Range<usize>| {
            let at = |rank: usize| batch.start + batch.len() * rank / ranks;
            at(rank)..at(rank + 1)
        };
        self.parts((step..self.batches.steps()).map(move |step| (share(self.range(step)), self.range(step).len())))
    }

    /// Returns whole batches from `step` on: those of the steps `rank`, `rank` + `ranks` and so on. Meant for work that
    /// treats batches independently.
    pub fn every(&'a self, step: u32, place: Place) -> impl Iterator<Item = (u32, Result<Batch>)> + 'a {
        let steps = (step..self.batches.steps()).filter(move |step| *step as usize % place.ranks == place.rank);
        let parts = self.parts(steps.clone().map(|step| (self.range(step), self.range(step).len())));
        steps.zip(parts)
    }

    /// Returns the batches of these ranges of the order, with the number of images of the whole batch for each. All
    /// ranges but the last have the same length.
    fn parts(
        &'a self,
        parts: impl Iterator<Item = (Range<usize>, usize)> + 'a,
    ) -> Box<dyn Iterator<Item = Result<Batch>> + 'a> {
        let Batches { data, .. } = self.batches;
        let begun = |_: &_| pulse::moved();
        match &data.images {
            Images::Resident(resident) => {
                // Copy all random numbers of the epoch to the device at once.
                let draws = resident.prepared.draw(&self.source, &self.order);
                let order = upload(&self.order, data.device());
                Box::new(
                    parts
                        .map(move |(range, whole)| Ok(self.resident_batch(resident, (&order, &draws), range, whole)))
                        .inspect(begun),
                )
            }
            Images::Streamed(streamed) => {
                let parts: Vec<(Range<usize>, usize)> = parts.collect();
                let length = parts.first().map_or(1, |(range, _)| range.len());
                let order: Vec<i64> = parts.iter().flat_map(|(range, _)| &self.order[range.clone()]).copied().collect();
                let mut pixels = streamed.train(&order, self.source.clone(), length as i64);
                let batch = move |(range, whole): (Range<usize>, usize)| {
                    let found = match range.is_empty() {
                        true => streamed.no_pixels(),
                        // Reading files may take longer than on other ranks.
                        false => pulse::slowly(|| pixels.next()).expect("there is a batch for every range")?,
                    };
                    let images = data.normalization.apply(&found.pixels);
                    let indices = self.order[range].to_vec();
                    Ok(Batch { images, labels: found.labels, indices, whole: whole as i64 })
                };
                Box::new(parts.into_iter().map(batch).inspect(begun))
            }
        }
    }

    fn resident_batch(
        &self,
        resident: &Resident,
        (order, draws): (&Tensor, &Draws),
        range: Range<usize>,
        whole: usize,
    ) -> Batch {
        let indices = self.order[range.clone()].to_vec();
        let index = order.narrow(0, range.start as i64, range.len() as i64);
        let pixels = resident.prepared.batch(&index, draws, range.start as i64);
        Batch {
            images: self.batches.data.normalization.apply(&pixels),
            labels: resident.train.labels.index_select(0, &index),
            indices,
            whole: whole as i64,
        }
    }

    /// Returns the range of the batch of a step in the order.
    fn range(&self, step: u32) -> Range<usize> {
        let batch = self.batches.batch as usize;
        let start = step as usize * batch;
        start..self.order.len().min(start + batch)
    }
}

/// Returns the total number of batches of [`plain_batches`].
pub fn plain_steps(data: &Data, split: Split) -> u32 {
    let steps = (data.count(split) + PLAIN_BATCH - 1) / PLAIN_BATCH;
    u32::try_from(steps).expect("steps fit 32 bits")
}

/// Returns the images of a part in order, without augmentation: of the batches from `step` on those with the numbers
/// `rank`, `rank` + `ranks` and so on, each with its number.
pub fn plain_batches(
    data: &Data,
    split: Split,
    step: u32,
    place: Place,
) -> Box<dyn Iterator<Item = (u32, Result<Batch>)> + '_> {
    let steps = (step..plain_steps(data, split)).filter(move |step| *step as usize % place.ranks == place.rank);
    let range = move |step: u32| {
        let start = i64::from(step) * PLAIN_BATCH;
        start..data.count(split).min(start + PLAIN_BATCH)
    };
    let batch = move |images: &Tensor, labels, range: Range<i64>| Batch {
        images: data.normalization.apply(images),
        labels,
        whole: range.end - range.start,
        indices: range.collect(),
    };
    let begun = |_: &_| pulse::moved();
    match &data.images {
        Images::Resident(resident) => {
            let part = match split {
                Split::Train => &resident.train,
                Split::Test => &resident.test,
            };
            Box::new(
                steps
                    .map(move |step| {
                        let Range { start, end } = range(step);
                        let [pixels, labels] =
                            [&part.pixels, &part.labels].map(|all| all.narrow(0, start, end - start));
                        (step, Ok(batch(&pixels, labels, start..end)))
                    })
                    .inspect(begun),
            )
        }
        Images::Streamed(streamed) => {
            let mut pixels = streamed.plain(split, steps.clone().flat_map(range).collect(), PLAIN_BATCH);
            let found = move |step: u32| Some((step, pulse::slowly(|| pixels.next())?));
            let batch = move |(step, found): (u32, winsign_data::Result<Pixels>)| {
                (step, found.map(|found| batch(&found.pixels, found.labels, range(step))).map_err(Into::into))
            };
            Box::new(steps.map_while(found).map(batch).inspect(begun))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;
    use winsign_core::settings::Dataset;

    fn digits() -> Data {
        crate::data::load(Dataset::Digits, "".as_ref(), 1).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::<f32>::try_from(tensor.contiguous().view([-1])).unwrap()
    }

    fn train(data: &Data) -> &crate::data::resident::Images {
        match &data.images {
            Images::Resident(resident) => &resident.train,
            Images::Streamed(_) => panic!("digits are in memory"),
        }
    }

    fn nth(epoch: &Epoch, step: u32) -> Batch {
        epoch.shares(step, Place::ALONE).next().unwrap().unwrap()
    }

    #[test]
    fn an_epoch_holds_every_image_once_each_shifted_by_at_most_two_pixels() {
        let data = digits();
        let batches = Batches::new(&data, 64, 5, "test");
        assert_eq!(batches.steps(), 23);
        let epoch = batches.epoch(3);
        let mut seen = epoch.order.clone();
        let sizes: Vec<i64> = (0..23).map(|step| nth(&epoch, step).labels.size()[0]).collect();
        assert_eq!((sizes[0], sizes[22], sizes.iter().sum::<i64>()), (64, 29, 1_437));
        let mut moved = 0;
        let batch = nth(&epoch, 2);
        for row in 0..64 {
            let index = seen[128 + row as usize];
            let original = train(&data).pixels.get(index).to_kind(Kind::Float).get(0);
            let found = (batch.images.get(row) * &data.normalization.deviation + &data.normalization.mean).get(0);
            assert_eq!(batch.labels.int64_value(&[row]), train(&data).labels.int64_value(&[index]));
            let pixel = |image: &Tensor, y: i64, x: i64| match (y, x) {
                (0..8, 0..8) => image.double_value(&[y, x]),
                _ => 0.0,
            };
            let matches = |dy: i64, dx: i64| {
                (0..64)
                    .all(|at| (pixel(&found, at / 8, at % 8) - pixel(&original, at / 8 + dy, at % 8 + dx)).abs() < 1e-3)
            };
            let shifts: Vec<(i64, i64)> = (0..25).map(|at| (at / 5 - 2, at % 5 - 2)).collect();
            let shift = shifts.into_iter().find(|&(dy, dx)| matches(dy, dx));
            moved += i64::from(shift.expect("a shift of the original") != (0, 0));
        }
        assert!((54..64).contains(&moved), "24 of 25 images are moved: {moved} of 64");
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..1_437));
    }

    #[test]
    fn batches_depend_on_seed_purpose_and_epoch_alone() {
        let data = digits();
        let images =
            |seed, purpose, epoch| values(&nth(&Batches::new(&data, 64, seed, purpose).epoch(epoch), 4).images);
        let reference = images(1, "level 2", 3);
        assert_eq!(reference, images(1, "level 2", 3));
        for other in [images(2, "level 2", 3), images(1, "level 3", 3), images(1, "level 2", 4)] {
            assert_ne!(reference, other);
        }
    }

    /// Two and three ranks together see the same images as one rank, in the same order; also at the end of an epoch,
    /// whose last batch of 29 images leaves some of 64 ranks without a share.
    #[test]
    fn ranks_share_out_the_batches_of_one() {
        let data = digits();
        let batches = Batches::new(&data, 64, 5, "test");
        let epoch = batches.epoch(2);
        let alone: Vec<Batch> = epoch.shares(20, Place::ALONE).map(Result::unwrap).collect();
        assert_eq!(alone.len(), 3);
        for ranks in [2, 3, 64] {
            let of_rank = |rank| epoch.shares(20, Place { rank, ranks }).map(Result::unwrap).collect::<Vec<Batch>>();
            let shares: Vec<Vec<Batch>> = (0..ranks).map(of_rank).collect();
            for (step, whole) in alone.iter().enumerate() {
                let parts: Vec<&Batch> = shares.iter().map(|batches| &batches[step]).collect();
                let indices: Vec<i64> = parts.iter().flat_map(|part| part.indices.clone()).collect();
                assert_eq!(indices, whole.indices);
                assert_eq!(Tensor::cat(&parts.iter().map(|part| &part.images).collect::<Vec<_>>(), 0), whole.images);
                assert_eq!(Tensor::cat(&parts.iter().map(|part| &part.labels).collect::<Vec<_>>(), 0), whole.labels);
                let sizes: Vec<usize> = parts.iter().map(|part| part.indices.len()).collect();
                assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
                assert!(parts.iter().all(|part| part.whole == whole.indices.len() as i64));
            }
        }
    }

    #[test]
    fn whole_batches_are_assigned_round_robin() {
        let data = digits();
        let batches = Batches::new(&data, 64, 5, "test");
        let epoch = batches.epoch(2);
        let of_rank = |rank| epoch.every(4, Place { rank, ranks: 3 });
        let mut all: Vec<(u32, Vec<i64>)> =
            (0..3).flat_map(of_rank).map(|(step, batch)| (step, batch.unwrap().indices)).collect();
        all.sort();
        let alone: Vec<(u32, Vec<i64>)> =
            epoch.every(4, Place::ALONE).map(|(step, batch)| (step, batch.unwrap().indices)).collect();
        assert_eq!(all, alone);
        assert_eq!(of_rank(1).map(|(step, _)| step).collect::<Vec<_>>(), [4, 7, 10, 13, 16, 19, 22]);
        let tests = |step, rank, ranks| {
            let batches = plain_batches(&data, Split::Test, step, Place { rank, ranks });
            batches.map(|(step, _)| step).collect::<Vec<_>>()
        };
        assert_eq!((tests(0, 0, 2), tests(0, 1, 2), tests(1, 0, 2)), (vec![0, 2], vec![1], vec![2]));
        assert_eq!((plain_steps(&data, Split::Test), plain_steps(&data, Split::Train)), (3, 12));
    }

    #[test]
    fn plain_batches_cover_the_training_images() {
        let data = digits();
        let batches: Vec<Batch> =
            plain_batches(&data, Split::Train, 0, Place::ALONE).map(|(_, batch)| batch.unwrap()).collect();
        let images = Tensor::cat(&batches.iter().map(|batch| &batch.images).collect::<Vec<_>>(), 0);
        let labels = Tensor::cat(&batches.iter().map(|batch| &batch.labels).collect::<Vec<_>>(), 0);
        assert_eq!(images, data.normalization.apply(&train(&data).pixels));
        assert_eq!(labels, train(&data).labels);
    }

    /// An image is augmented in the same way for any batch size: augmentation is a function of (seed, epoch, index).
    #[test]
    fn augmentation_does_not_depend_on_the_batch_size() {
        let data = digits();
        let (small, large) = (Batches::new(&data, 32, 1, "test"), Batches::new(&data, 64, 1, "test"));
        let (small, large) = (small.epoch(1), large.epoch(1));
        let joined = Tensor::cat(&[nth(&small, 2).images, nth(&small, 3).images], 0);
        assert_eq!(values(&joined), values(&nth(&large, 1).images));
    }
}
