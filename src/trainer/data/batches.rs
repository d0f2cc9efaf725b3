//! Batches of augmented training images, and of test images as they are.

use tch::Tensor;

use super::augment::{Draws, Prepared};
use super::{Data, Images};
use crate::trainer::Result;
use winsign::random::Source;

/// The training images in shuffled, augmented batches; the last one of an epoch may be smaller.
pub struct Batches<'a> {
    data: &'a Data,
    prepared: Prepared,
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
    draws: Draws,
}

impl<'a> Batches<'a> {
    /// `purpose` keeps the order of different trainings with one seed apart.
    pub fn new(data: &'a Data, batch: u32, seed: u64, purpose: &str) -> Batches<'a> {
        let prepared = Prepared::new(&data.images.train, data.images.augmentation);
        Batches { data, prepared, batch: i64::from(batch), seed, purpose: purpose.to_string() }
    }

    /// Batches of an epoch.
    pub fn steps(&self) -> u32 {
        u32::try_from((self.data.train_count() + self.batch - 1) / self.batch).expect("steps fit 32 bits")
    }

    pub fn epoch(&self, epoch: u32) -> Epoch<'_> {
        let source = |of: &str| Source::new(self.seed, &format!("{of} {}", self.purpose), u64::from(epoch));
        let order = source("order").permutation(self.data.train_count() as usize);
        let draws = self.prepared.draw(&source("shift"), &order);
        Epoch { batches: self, order, draws }
    }
}

impl Epoch<'_> {
    /// The batches from a step, from 0, to the end of the epoch.
    pub fn from(&self, step: u32) -> impl Iterator<Item = Result<Batch>> {
        (step..self.batches.steps()).map(|step| Ok(self.batch(step)))
    }

    fn batch(&self, step: u32) -> Batch {
        let data = self.batches.data;
        let start = i64::from(step) * self.batches.batch;
        let length = self.batches.batch.min(data.train_count() - start);
        let indices = self.order[start as usize..][..length as usize].to_vec();
        let index = Tensor::from_slice(&indices);
        let pixels = self.batches.prepared.batch(&index, &self.draws, start);
        Batch {
            images: data.normalization.apply(&pixels),
            labels: data.images.train.labels.index_select(0, &index),
            indices,
        }
    }
}

/// The test images in batches of at most `batch`, in order.
pub fn test_batches(data: &Data, batch: i64) -> impl Iterator<Item = Result<Batch>> + '_ {
    let Images { pixels, labels } = &data.images.test;
    let count = data.test_count();
    (0..count).step_by(batch as usize).map(move |start| {
        let length = batch.min(count - start);
        Ok(Batch {
            images: data.normalization.apply(&pixels.narrow(0, start, length)),
            labels: labels.narrow(0, start, length),
            indices: (start..start + length).collect(),
        })
    })
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::data::digits;
    use tch::Kind;

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::<f32>::try_from(tensor.contiguous().view([-1])).unwrap()
    }

    #[test]
    fn an_epoch_holds_every_image_once_each_shifted_by_at_most_two_pixels() {
        let data = digits::load();
        let batches = Batches::new(&data, 64, 5, "test");
        assert_eq!(batches.steps(), 23);
        let epoch = batches.epoch(3);
        let mut seen = epoch.order.clone();
        let sizes: Vec<i64> = (0..23).map(|step| epoch.batch(step).labels.size()[0]).collect();
        assert_eq!((sizes[0], sizes[22], sizes.iter().sum::<i64>()), (64, 29, 1_437));
        let mut moved = 0;
        let batch = epoch.batch(2);
        for row in 0..64 {
            let index = seen[128 + row as usize];
            let original = data.images.train.pixels.get(index).to_kind(Kind::Float).get(0);
            let found = (batch.images.get(row) * &data.normalization.deviation + &data.normalization.mean).get(0);
            assert_eq!(batch.labels.int64_value(&[row]), data.images.train.labels.int64_value(&[index]));
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
            |seed, purpose, epoch| values(&Batches::new(&data, 64, seed, purpose).epoch(epoch).batch(4).images);
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
        let joined = Tensor::cat(&[small.batch(2).images, small.batch(3).images], 0);
        assert_eq!(values(&joined), values(&large.batch(1).images));
    }
}
