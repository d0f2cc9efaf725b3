//! Batches of augmented training images, and of test images as they are.

use tch::{Kind, Tensor};

use super::{Data, Images};
use winsign::random::Source;

/// The training images in shuffled, augmented batches; the last one of an epoch may be smaller.
pub struct Batches<'a> {
    data: &'a Data,
    /// A view of the padded images of shape (images, shifts, shifts, channels, height, width): every shift of every
    /// image, without copying one.
    shifted: Tensor,
    batch: i64,
    seed: u64,
    purpose: String,
}

/// Images as network inputs, shape (batch, channels, height, width), and their labels.
pub struct Batch {
    pub images: Tensor,
    pub labels: Tensor,
}

/// The batches of one epoch.
pub struct Epoch<'a> {
    batches: &'a Batches<'a>,
    order: Tensor,
    /// Of each image in `order`: how far down and how far to the right it is cropped, in 0..=2·shift.
    rows: Tensor,
    columns: Tensor,
}

impl<'a> Batches<'a> {
    /// `purpose` keeps the order of different trainings with one seed apart.
    pub fn new(data: &'a Data, batch: u32, seed: u64, purpose: &str) -> Batches<'a> {
        let size = data.train.pixels.size();
        let padded = data.train.pixels.constant_pad_nd([data.shift; 4]);
        let shifted = padded.unfold(2, size[2], 1).unfold(3, size[3], 1).permute([0, 2, 3, 1, 4, 5]);
        Batches { data, shifted, batch: i64::from(batch), seed, purpose: purpose.to_string() }
    }

    pub fn steps(&self) -> u32 {
        u32::try_from((self.data.train.count() + self.batch - 1) / self.batch).expect("steps fit 32 bits")
    }

    pub fn epoch(&self, epoch: u32) -> Epoch<'_> {
        let source = |of: &str| Source::new(self.seed, &format!("{of} {}", self.purpose), u64::from(epoch));
        let order = source("order").permutation(self.data.train.count() as usize);
        let shifts = source("shift");
        let choices = 2 * self.data.shift as u64 + 1;
        let draw = |index: &i64| {
            let mut stream = shifts.stream(*index as u64);
            (stream.below(choices) as i64, stream.below(choices) as i64)
        };
        let (rows, columns): (Vec<i64>, Vec<i64>) = order.iter().map(draw).unzip();
        Epoch {
            batches: self,
            order: Tensor::from_slice(&order),
            rows: Tensor::from_slice(&rows),
            columns: Tensor::from_slice(&columns),
        }
    }
}

impl Epoch<'_> {
    /// The batch of one step, from 0.
    pub fn batch(&self, step: u32) -> Batch {
        let start = i64::from(step) * self.batches.batch;
        let length = self.batches.batch.min(self.batches.data.train.count() - start);
        let of_step = |all: &Tensor| all.narrow(0, start, length);
        let index = of_step(&self.order);
        let pixels =
            self.batches.shifted.index(&[Some(&index), Some(&of_step(&self.rows)), Some(&of_step(&self.columns))]);
        Batch {
            images: normalize(self.batches.data, &pixels),
            labels: self.batches.data.train.labels.index_select(0, &index),
        }
    }
}

/// The test images in batches of at most `batch`, in order.
pub fn test_batches(data: &Data, batch: i64) -> impl Iterator<Item = Batch> + '_ {
    let Images { pixels, labels } = &data.test;
    let count = data.test.count();
    (0..count).step_by(batch as usize).map(move |start| {
        let length = batch.min(count - start);
        Batch { images: normalize(data, &pixels.narrow(0, start, length)), labels: labels.narrow(0, start, length) }
    })
}

fn normalize(data: &Data, pixels: &Tensor) -> Tensor {
    (pixels.to_kind(Kind::Float) - data.mean) / data.deviation
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::data;
    use winsign::run::settings::Dataset;

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::<f32>::try_from(tensor.contiguous().view([-1])).unwrap()
    }

    #[test]
    fn an_epoch_holds_every_image_once_each_shifted_by_at_most_two_pixels() {
        let data = data::load(Dataset::Digits);
        let batches = Batches::new(&data, 64, 5, "test");
        assert_eq!(batches.steps(), 23);
        let epoch = batches.epoch(3);
        let mut seen = Vec::<i64>::try_from(&epoch.order).unwrap();
        let sizes: Vec<i64> = (0..23).map(|step| epoch.batch(step).labels.size()[0]).collect();
        assert_eq!((sizes[0], sizes[22], sizes.iter().sum::<i64>()), (64, 29, 1_437));
        let mut moved = 0;
        let batch = epoch.batch(2);
        for row in 0..64 {
            let index = seen[128 + row as usize];
            let original = data.train.pixels.get(index).to_kind(Kind::Float).get(0);
            let found = batch.images.get(row).get(0) * data.deviation + data.mean;
            assert_eq!(batch.labels.int64_value(&[row]), data.train.labels.int64_value(&[index]));
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
        let data = data::load(Dataset::Digits);
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
        let data = data::load(Dataset::Digits);
        let (small, large) = (Batches::new(&data, 32, 1, "test"), Batches::new(&data, 64, 1, "test"));
        let (small, large) = (small.epoch(1), large.epoch(1));
        let joined = Tensor::cat(&[small.batch(2).images, small.batch(3).images], 0);
        assert_eq!(values(&joined), values(&large.batch(1).images));
    }
}
