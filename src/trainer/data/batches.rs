//! Batches of augmented training images, and of test images as they are.

use tch::Tensor;

use super::augment::Draws;
use super::resident::Resident;
use super::{Data, Images};
use crate::trainer::Result;
use winsign::random::Source;

/// Images per forward pass when nothing is trained: so many of ImageNet's fit the memory, and small ones want more. They
/// decide in which groups floats are added: another number changes the last digits of results.
const TEST_BATCH: i64 = 512;
const TEST_BATCH_STREAMED: i64 = 128;

/// The training images in shuffled, augmented batches; the last one of an epoch may be smaller.
pub struct Batches<'a> {
    data: &'a Data,
    batch: i64,
    seed: u64,
    purpose: String,
}

/// Images as network inputs, shape (batch, channels, height, width), and their labels.
pub struct Batch {
    pub images: Tensor,
    /// Shape (batch), 64-bit integers.
    pub labels: Tensor,
    /// Which images of the set these are.
    pub indices: Vec<i64>,
}

/// The batches of one epoch.
pub struct Epoch<'a> {
    batches: &'a Batches<'a>,
    order: Vec<i64>,
    /// Where each image's variation is drawn.
    source: Source,
}

impl<'a> Batches<'a> {
    /// `purpose` keeps the order of different trainings with one seed apart.
    pub fn new(data: &'a Data, batch: u32, seed: u64, purpose: &str) -> Batches<'a> {
        Batches { data, batch: i64::from(batch), seed, purpose: purpose.to_string() }
    }

    /// Batches of an epoch.
    pub fn steps(&self) -> u32 {
        u32::try_from((self.data.train_count() + self.batch - 1) / self.batch).expect("steps fit 32 bits")
    }

    pub fn epoch(&self, epoch: u32) -> Epoch<'_> {
        let source = |of: &str| Source::new(self.seed, &format!("{of} {}", self.purpose), u64::from(epoch));
        let order = source("order").permutation(self.data.train_count() as usize);
        Epoch { batches: self, order, source: source("shift") }
    }
}

impl<'a> Epoch<'a> {
    /// The batches from a step, from 0, to the end of the epoch.
    pub fn from(&'a self, step: u32) -> Box<dyn Iterator<Item = Result<Batch>> + 'a> {
        let Batches { data, batch, .. } = self.batches;
        match &data.images {
            Images::Resident(resident) => {
                let draws = resident.prepared.draw(&self.source, &self.order);
                let steps = step..self.batches.steps();
                Box::new(steps.map(move |step| Ok(self.resident_batch(resident, &draws, step))))
            }
            Images::Streamed(streamed) => {
                let batches = streamed.train(&self.order, self.source.clone(), *batch, step);
                Box::new((step..).zip(batches).map(|(step, batch)| {
                    let batch = batch?;
                    let indices = self.indices(step).to_vec();
                    Ok(Batch { images: data.normalization.apply(&batch.pixels), labels: batch.labels, indices })
                }))
            }
        }
    }

    fn resident_batch(&self, resident: &Resident, draws: &Draws, step: u32) -> Batch {
        let indices = self.indices(step).to_vec();
        let index = Tensor::from_slice(&indices);
        let pixels = resident.prepared.batch(&index, draws, i64::from(step) * self.batches.batch);
        Batch {
            images: self.batches.data.normalization.apply(&pixels),
            labels: resident.train.labels.index_select(0, &index),
            indices,
        }
    }

    /// Which images the batch of a step has.
    fn indices(&self, step: u32) -> &[i64] {
        let batch = self.batches.batch as usize;
        let start = step as usize * batch;
        &self.order[start..self.order.len().min(start + batch)]
    }
}

/// The test images in order.
pub fn test_batches(data: &Data) -> Box<dyn Iterator<Item = Result<Batch>> + '_> {
    let batch = |images: &Tensor, labels, start: i64| Batch {
        images: data.normalization.apply(images),
        labels,
        indices: (start..start + images.size()[0]).collect(),
    };
    match &data.images {
        Images::Resident(Resident { test, .. }) => {
            Box::new((0..test.count()).step_by(TEST_BATCH as usize).map(move |start| {
                let length = TEST_BATCH.min(test.count() - start);
                Ok(batch(&test.pixels.narrow(0, start, length), test.labels.narrow(0, start, length), start))
            }))
        }
        Images::Streamed(streamed) => {
            let starts = (0..).step_by(TEST_BATCH_STREAMED as usize);
            Box::new(starts.zip(streamed.test(TEST_BATCH_STREAMED)).map(move |(start, found)| {
                let found = found?;
                Ok(batch(&found.pixels, found.labels, start))
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::data::digits;
    use tch::Kind;

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::<f32>::try_from(tensor.contiguous().view([-1])).unwrap()
    }

    fn train(data: &Data) -> &crate::trainer::data::resident::Images {
        match &data.images {
            Images::Resident(resident) => &resident.train,
            Images::Streamed(_) => panic!("digits are in memory"),
        }
    }

    fn nth(epoch: &Epoch, step: u32) -> Batch {
        epoch.from(step).next().unwrap().unwrap()
    }

    #[test]
    fn an_epoch_holds_every_image_once_each_shifted_by_at_most_two_pixels() {
        let data = digits::load();
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
        let data = digits::load();
        let images =
            |seed, purpose, epoch| values(&nth(&Batches::new(&data, 64, seed, purpose).epoch(epoch), 4).images);
        let reference = images(1, "level 2", 3);
        assert_eq!(reference, images(1, "level 2", 3));
        for other in [images(2, "level 2", 3), images(1, "level 3", 3), images(1, "level 2", 4)] {
            assert_ne!(reference, other);
        }
    }

    /// Whatever the batch size, an image is augmented alike: augmentation belongs to (seed, epoch, index).
    #[test]
    fn the_batch_size_shares_out_the_same_sequence_of_images() {
        let data = digits::load();
        let (small, large) = (Batches::new(&data, 32, 1, "test"), Batches::new(&data, 64, 1, "test"));
        let (small, large) = (small.epoch(1), large.epoch(1));
        let joined = Tensor::cat(&[nth(&small, 2).images, nth(&small, 3).images], 0);
        assert_eq!(values(&joined), values(&nth(&large, 1).images));
    }
}
