//! The built-in data set of handwritten digits, 8×8 pixels.
//!
//! "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998,
//! <https://doi.org/10.24432/C50P49>, licensed CC BY 4.0. These are the 1,797 images of its test part, in the published
//! order; `digits.bin.gz` holds their pixels (0 to 16, row by row, image after image) and then their labels, one byte
//! each. The first 1,437 are for training and the last 360, written by other people, for testing.

use std::io::Read;
use std::ops::Range;

use flate2::read::GzDecoder;
use winsign_core::settings::Dataset;

use super::{Images, SmallSet};

const SIDE: usize = 8;
const PIXELS: usize = SIDE * SIDE;

/// Returns the data set.
pub(crate) fn load() -> SmallSet {
    let [train, test] = Dataset::Digits.facts().images;
    let mut bytes = vec![];
    let mut decoder = GzDecoder::new(&include_bytes!("digits.bin.gz")[..]);
    decoder.read_to_end(&mut bytes).expect("the built-in data set is whole");
    assert_eq!(bytes.len(), (train + test) * (PIXELS + 1), "the built-in data set is whole");
    let (pixels, labels) = bytes.split_at((train + test) * PIXELS);
    let images = |range: Range<usize>| Images {
        pixels: pixels[range.start * PIXELS..range.end * PIXELS].to_vec(),
        labels: labels[range].iter().map(|&label| label.into()).collect(),
        channels: 1,
        side: SIDE,
    };
    SmallSet { train: images(0..train), test: images(train..train + test) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_equal_the_published_set() {
        let SmallSet { train, test } = load();
        assert_eq!((train.len(), test.len()), (1_437, 360));
        let count = |images: &Images, class: u16| images.labels.iter().filter(|&&label| label == class).count();
        let counts: Vec<usize> = (0..10).map(|class| count(&test, class)).collect();
        assert_eq!(counts, [35, 36, 35, 37, 37, 37, 37, 36, 33, 37]);
        let total: Vec<usize> = (0..10).map(|class| count(&train, class) + count(&test, class)).collect();
        assert_eq!(total, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180], "as published");
        // The first image, a zero.
        assert_eq!(train.pixels_of(0)[..16], [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0]);
        let facts = Dataset::Digits.facts();
        let pixels: Vec<f64> = train.pixels.iter().map(|&pixel| f64::from(pixel) / f64::from(facts.white)).collect();
        let mean = pixels.iter().sum::<f64>() / pixels.len() as f64;
        let variance = pixels.iter().map(|pixel| (pixel - mean).powi(2)).sum::<f64>() / pixels.len() as f64;
        assert!((mean - f64::from(facts.mean[0])).abs() < 1e-4, "{mean}");
        assert!((variance.sqrt() - f64::from(facts.deviation[0])).abs() < 1e-4, "{variance}");
    }
}
