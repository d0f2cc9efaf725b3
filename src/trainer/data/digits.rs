//! The built-in data set of handwritten digits, 8×8 pixels.
//!
//! "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998,
//! <https://doi.org/10.24432/C50P49>, licensed CC BY 4.0. These are the 1,797 images of its test part, in the published
//! order; `digits.bin.gz` holds their pixels (0 to 16, row by row, image after image) and then their labels, one byte
//! each. The first 1,437 are for training and the last 360, written by other people, for testing.

use std::io::Read;

use flate2::read::GzDecoder;
use tch::Tensor;

use super::augment::Augmentation;
use super::resident::{Images, Resident};
use super::{Data, Normalization};

const IMAGES: usize = 1_797;
const TRAIN: usize = 1_437;
const SIDE: usize = 8;
const PIXELS: usize = SIDE * SIDE;
/// The mean of the training pixels.
const MEAN: f32 = 4.886;
/// The standard deviation of the training pixels.
const DEVIATION: f32 = 6.008;

/// Returns the data set.
pub(super) fn load() -> Data {
    let mut bytes = Vec::with_capacity(IMAGES * (PIXELS + 1));
    let mut decoder = GzDecoder::new(&include_bytes!("digits.bin.gz")[..]);
    decoder.read_to_end(&mut bytes).expect("the built-in data set is whole");
    assert_eq!(bytes.len(), IMAGES * (PIXELS + 1), "the built-in data set is whole");
    let (pixels, labels) = bytes.split_at(IMAGES * PIXELS);
    let images = |range: std::ops::Range<usize>| {
        let shape = [range.len() as i64, 1, SIDE as i64, SIDE as i64];
        let labels: Vec<i64> = labels[range.clone()].iter().map(|&label| i64::from(label)).collect();
        Images {
            pixels: Tensor::from_slice(&pixels[range.start * PIXELS..range.end * PIXELS]).view(shape),
            labels: Tensor::from_slice(&labels),
        }
    };
    let augmentation = Augmentation::Shift { pixels: 2, flips: false };
    let resident = Resident::of(images(0..TRAIN), images(TRAIN..IMAGES), augmentation);
    Data {
        fingerprint: None,
        images: super::Images::Resident(resident),
        normalization: Normalization::new(&[MEAN], &[DEVIATION]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn digits_equal_the_published_set() {
        let super::super::Images::Resident(data) = load().images else { panic!("it is in memory") };
        assert_eq!((data.train.count(), data.test.count()), (1_437, 360));
        let counts = |images: &Images| Vec::<i64>::try_from(images.labels.bincount::<Tensor>(None, 10)).unwrap();
        assert_eq!(counts(&data.test), [35, 36, 35, 37, 37, 37, 37, 36, 33, 37]);
        let total: Vec<i64> = counts(&data.train).iter().zip(counts(&data.test)).map(|(a, b)| a + b).collect();
        assert_eq!(total, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180], "as published");
        // The first image, a zero.
        let first = Vec::<u8>::try_from(data.train.pixels.get(0).view([-1])).unwrap();
        assert_eq!(first[..16], [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0]);
        let pixels = data.train.pixels.to_kind(Kind::Double);
        assert!((pixels.mean(None).double_value(&[]) - f64::from(MEAN)).abs() < 1e-3);
        assert!((pixels.std(true).double_value(&[]) - f64::from(DEVIATION)).abs() < 1e-3);
    }
}
