//! Augmentation of resident images, as tensor operations on whole batches.

use tch::{Kind, Tensor};
use winsign_core::dataset::Augmentation;
use winsign_core::random::{Source, Stream};
use winsign_data::crop::random_region;

use super::resident::Images;
use crate::device::upload;

/// The random numbers for the images of an epoch, in their order.
pub(super) struct Draws {
    /// The numbers that determine the augmentation of each image; shape (numbers per image, images). See [`Prepared`].
    numbers: Tensor,
}

/// The training images of a set, in a layout from which augmented batches are computed quickly.
pub(super) struct Prepared {
    pub augmentation: Augmentation,
    /// For shifts a view of the padded images of shape (images, shifts, shifts, channels, height, width): every shift
    /// of every image, without copies. For crops the images themselves.
    pixels: Tensor,
    side: i64,
}

impl Prepared {
    pub(super) fn new(images: &Images, augmentation: Augmentation) -> Prepared {
        let side = images.pixels.size()[2];
        let pixels = match augmentation {
            Augmentation::Shift { pixels, .. } => {
                let padded = images.pixels.constant_pad_nd([pixels; 4]);
                padded.unfold(2, side, 1).unfold(3, side, 1).permute([0, 2, 3, 1, 4, 5])
            }
            Augmentation::ResizedCrop { .. } => images.pixels.shallow_clone(),
        };
        Prepared { augmentation, pixels, side }
    }

    /// Draws the random numbers for the images `order`, each from its own stream.
    pub(super) fn draw(&self, source: &Source, order: &[i64]) -> Draws {
        let mut numbers: Vec<i64> = Vec::with_capacity(order.len() * self.numbers_per_image() as usize);
        for &index in order {
            self.draw_one(&mut source.stream(index as u64), &mut numbers);
        }
        let numbers = upload(&numbers, self.pixels.device()).view([order.len() as i64, self.numbers_per_image()]);
        Draws { numbers: numbers.transpose(0, 1).contiguous() }
    }

    fn numbers_per_image(&self) -> i64 {
        match self.augmentation {
            Augmentation::Shift { .. } => 3,
            Augmentation::ResizedCrop { .. } => 5,
        }
    }

    fn draw_one(&self, stream: &mut Stream, numbers: &mut Vec<i64>) {
        match self.augmentation {
            Augmentation::Shift { pixels, flips } => {
                let choices = 2 * pixels as u64 + 1;
                let (row, column) = (stream.below(choices) as i64, stream.below(choices) as i64);
                numbers.extend([row, column, if flips { stream.below(2) as i64 } else { 0 }]);
            }
            Augmentation::ResizedCrop { scale } => {
                let side = self.side as usize;
                let region = random_region(side, side, scale, stream);
                let [top, left, height, width] =
                    [region.top, region.left, region.height, region.width].map(|number| number as i64);
                numbers.extend([top, left, height, width, stream.below(2) as i64]);
            }
        }
    }

    /// Returns the augmented images `index`, with the random numbers from position `start` on; bytes or floats, shape
    /// (batch, channels, height, width).
    pub(super) fn batch(&self, index: &Tensor, draws: &Draws, start: i64) -> Tensor {
        let length = index.size()[0];
        let number = |which: i64| draws.numbers.get(which).narrow(0, start, length);
        match self.augmentation {
            Augmentation::Shift { flips, .. } => {
                let moved = self.pixels.index(&[Some(index), Some(&number(0)), Some(&number(1))]);
                if flips { flip(&moved, &number(2)) } else { moved }
            }
            Augmentation::ResizedCrop { .. } => {
                let images = self.pixels.index_select(0, index).to_kind(Kind::Float);
                let rows = resizing(&number(0), &number(2), self.side).unsqueeze(1);
                let columns = resizing(&number(1), &number(3), self.side).unsqueeze(1);
                // Columns are resized first, and rounded in between, as for images of bytes.
                let narrowed = images.matmul(&columns.transpose(2, 3)).round();
                flip(&rows.matmul(&narrowed).round(), &number(4))
            }
        }
    }
}

/// Returns the images, mirrored where `flipped` is 1.
fn flip(images: &Tensor, flipped: &Tensor) -> Tensor {
    images.flip([3]).where_self(&flipped.view([-1, 1, 1, 1]).gt(0), images)
}

/// Returns the matrices that resize the ranges `start..start + length` of `side` pixels to `side` pixels: shape (batch,
/// side, side). The filter is bilinear with the conventions of PIL: pixel coordinates refer to the middle of pixels,
/// and only pixels of the range contribute. Ranges are not longer than the result, so no averaging is needed.
fn resizing(start: &Tensor, length: &Tensor, side: i64) -> Tensor {
    let column = |values: &Tensor| values.to_kind(Kind::Float).view([-1, 1, 1]);
    let (start, length) = (column(start), column(length));
    let places = Tensor::arange(side, (Kind::Float, start.device()));
    let centers = (places.view([1, -1, 1]) + 0.5) * (&length / side as f64) + &start;
    let sources = places.view([1, 1, -1]);
    let distances = (&sources + 0.5 - centers).abs();
    let weights = (distances * -1.0 + 1.0).clamp_min(0.0);
    let inside = sources.ge_tensor(&start).logical_and(&sources.lt_tensor(&(&start + &length)));
    let weights = weights * inside.to_kind(Kind::Float);
    &weights / weights.sum_dim_intlist([2i64].as_slice(), true, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;
    use winsign_data::image::{Decoder, Rgb, decode, encode_jpeg};

    /// Compares a resized row with the rule of PIL, computed pixel by pixel.
    #[test]
    fn resized_row_equals_the_rule_of_pil() {
        let (start, length, side) = (5i64, 9i64, 16i64);
        let row: Vec<f32> = (0..side).map(|x| ((x * x * 7 + 3 * x) % 251) as f32).collect();
        let matrix = resizing(&Tensor::from_slice(&[start]), &Tensor::from_slice(&[length]), side).squeeze_dim(0);
        let found = Vec::<f32>::try_from(matrix.mv(&Tensor::from_slice(&row))).unwrap();
        for (x, found) in found.iter().enumerate() {
            let center = (x as f64 + 0.5) * length as f64 / side as f64 - 0.5;
            let (below, share) = (center.floor(), center - center.floor());
            let pixel = |at: f64| f64::from(row[(start + (at as i64).clamp(0, length - 1)) as usize]);
            let expected = pixel(below) * (1.0 - share) + pixel(below + 1.0) * share;
            assert!((f64::from(*found) - expected).abs() < 1e-3, "{x}: {found} {expected}");
        }
    }

    /// Compares crops with those of the decoder of ImageNet, whose tests compare it with Pillow.
    #[test]
    fn crops_equal_those_of_the_decoder() {
        let side = 64usize;
        let mut stream = Source::new(3, "pixels", 0).stream(0);
        let smooth = |x: usize, y: usize, channel: usize| (x * (channel + 1) + 2 * y) as u64;
        let noisy: Vec<u8> = (0..side * side * 3)
            .map(|at| (smooth(at / 3 % side, at / 3 / side, at % 3) + stream.below(60)).min(255) as u8)
            .collect();
        let jpeg = encode_jpeg(&Rgb { width: side, height: side, pixels: noisy }, 95).unwrap();
        let pixels = decode(&jpeg).unwrap().pixels;
        let image = Tensor::from_data_size(&pixels, &[64, 64, 3], Kind::Uint8).permute([2, 0, 1]).unsqueeze(0);
        let images = Images { pixels: image.contiguous(), labels: Tensor::from_slice(&[0i64]) };
        let prepared = Prepared::new(&images, Augmentation::ResizedCrop { scale: (0.5, 1.0) });

        let order = [0i64; 1];
        let mut decoder = Decoder::new();
        let mut largest = 0.0f64;
        for epoch in 0..200 {
            let source = Source::new(epoch, "shift test", 1);
            let found = prepared.batch(&Tensor::from_slice(&order), &prepared.draw(&source, &order), 0);
            let mut stream = source.stream(0);
            let region = random_region(side, side, (0.5, 1.0), &mut stream);
            let flipped = stream.below(2) == 1;
            let mut expected = vec![0u8; side * side * 3];
            decoder.decode_region(&jpeg, |_, _| region, side, flipped, &mut expected).unwrap();
            let expected = Tensor::from_data_size(&expected, &[64, 64, 3], Kind::Uint8).permute([2, 0, 1]);
            let distance = (found.get(0) - expected.to_kind(Kind::Float)).abs().max().double_value(&[]);
            largest = largest.max(distance);
        }
        assert!(largest <= 1.0, "{largest}");
    }

    #[test]
    fn full_crop_is_the_image_and_flip_mirrors_it() {
        let pixels = Tensor::randint(256, [2, 3, 8, 8], (Kind::Uint8, Device::Cpu));
        let images = Images { pixels: pixels.shallow_clone(), labels: Tensor::from_slice(&[0i64, 1]) };
        let prepared = Prepared::new(&images, Augmentation::ResizedCrop { scale: (0.5, 1.0) });
        let numbers = Tensor::from_slice2(&[[0i64, 0], [0, 0], [8, 8], [8, 8], [0, 1]]);
        let found = prepared.batch(&Tensor::from_slice(&[1i64, 0]), &Draws { numbers }, 0);
        assert_eq!(found.get(0), pixels.get(1).to_kind(Kind::Float));
        assert_eq!(found.get(1), pixels.get(0).to_kind(Kind::Float).flip([2]));
    }
}
