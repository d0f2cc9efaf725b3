//! The geometry of crops: torchvision's RandomResizedCrop, and its Resize followed by CenterCrop.
//!
//! See [`super::image`] for pixels.

use winsign_core::random::Stream;

/// A rectangle of an image's pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

impl Region {
    /// Returns the region of a whole image.
    pub fn whole(width: usize, height: usize) -> Region {
        Region { left: 0, top: 0, width, height }
    }

    /// Returns the first column to the right of the region.
    pub fn right(&self) -> usize {
        self.left + self.width
    }

    /// Returns the first row below the region.
    pub fn bottom(&self) -> usize {
        self.top + self.height
    }
}

/// The range of aspect ratios of crops, width divided by height.
const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);
/// The number of random regions that are tried before the central one is used.
const ATTEMPTS: usize = 10;

/// Returns a random region with an area of `scale` (from, to) times that of the image and an aspect ratio between 3:4
/// and 4:3, as `RandomResizedCrop.get_params` of torchvision does, but with the random numbers of `draws`. If ten
/// attempts do not fit, the result is the largest central region with an allowed aspect ratio.
pub fn random_region(width: usize, height: usize, scale: (f64, f64), draws: &mut Stream) -> Region {
    let area = width as f64 * height as f64;
    for _ in 0..ATTEMPTS {
        let target = area * between(scale, draws);
        let ratio = between((RATIO.0.ln(), RATIO.1.ln()), draws).exp();
        let crop_width = (target * ratio).sqrt().round_ties_even() as usize;
        let crop_height = (target / ratio).sqrt().round_ties_even() as usize;
        if (1..=width).contains(&crop_width) && (1..=height).contains(&crop_height) {
            let top = draws.below((height - crop_height + 1) as u64) as usize;
            let left = draws.below((width - crop_width + 1) as u64) as usize;
            return Region { left, top, width: crop_width, height: crop_height };
        }
    }
    let shape = width as f64 / height as f64;
    let (crop_width, crop_height) = if shape < RATIO.0 {
        (width, (width as f64 / RATIO.0).round_ties_even() as usize)
    } else if shape > RATIO.1 {
        ((height as f64 * RATIO.1).round_ties_even() as usize, height)
    } else {
        (width, height)
    };
    let (left, top) = ((width - crop_width) / 2, (height - crop_height) / 2);
    Region { left, top, width: crop_width, height: crop_height }
}

fn between((from, to): (f64, f64), draws: &mut Stream) -> f64 {
    from + (to - from) * draws.uniform()
}

/// Returns width and height after `Resize(short)` of torchvision: the shorter side becomes `short`, and the longer one
/// is rounded down.
pub fn resized(width: usize, height: usize, short: usize) -> (usize, usize) {
    let longer = |long: usize, other: usize| (short as u128 * long as u128 / other as u128) as usize;
    if width <= height { (short, longer(height, width)) } else { (longer(width, height), short) }
}

/// Returns the region that `CenterCrop(side)` of torchvision takes of an image that is not smaller.
pub fn center(width: usize, height: usize, side: usize) -> Region {
    let margin = |length: usize| ((length - side) as f64 / 2.0).round_ties_even() as usize;
    Region { left: margin(width), top: margin(height), width: side, height: side }
}

#[cfg(test)]
mod tests {
    use super::*;
    use winsign_core::random::Source;

    fn regions(width: usize, height: usize, scale: (f64, f64)) -> Vec<Region> {
        let source = Source::new(1, "crop", 0);
        (0..4_000).map(|index| random_region(width, height, scale, &mut source.stream(index))).collect()
    }

    #[test]
    fn areas_and_shapes_cover_the_allowed_range() {
        let (width, height) = (500, 375);
        let regions = regions(width, height, (0.08, 1.0));
        assert!(regions.iter().all(|region| region.right() <= width && region.bottom() <= height));
        let shares: Vec<f64> =
            regions.iter().map(|region| (region.width * region.height) as f64 / (width * height) as f64).collect();
        let ratios: Vec<f64> = regions.iter().map(|region| region.width as f64 / region.height as f64).collect();
        // Sides are whole numbers, so that the least area and the extreme shapes are met to within a pixel.
        assert!(shares.iter().all(|share| (0.078..=1.0).contains(share)));
        assert!(ratios.iter().all(|ratio| (0.74..1.35).contains(ratio)));
        assert!(shares.iter().any(|share| *share < 0.1) && shares.iter().any(|share| *share > 0.95));
        // Shapes are uniform in their logarithm: as many portraits as landscapes among the small ones, which all fit.
        let small: Vec<f64> = ratios.iter().zip(&shares).filter(|(_, share)| **share < 0.5).map(|(r, _)| *r).collect();
        let portraits = small.iter().filter(|ratio| **ratio < 1.0).count();
        assert!(portraits.abs_diff(small.len() / 2) < 120, "{portraits} of {}", small.len());
        let left_half = regions.iter().filter(|region| region.left * 2 < width - region.width).count();
        assert!(left_half.abs_diff(2_000) < 200, "{left_half}");
    }

    #[test]
    fn region_that_never_fits_is_central() {
        // 10 × 1000: no shape up to 3:4 with 90 % of the area fits.
        let tall = Region { left: 0, top: 493, width: 10, height: 13 };
        assert!(regions(10, 1_000, (0.9, 1.0)).iter().all(|region| *region == tall));
        let wide = Region { left: 493, top: 0, width: 13, height: 10 };
        assert!(regions(1_000, 10, (0.9, 1.0)).iter().all(|region| *region == wide));
        assert!(regions(1, 1, (0.08, 1.0)).iter().all(|region| *region == Region::whole(1, 1)));
    }

    #[test]
    fn sizes_are_cut_and_margins_rounded_to_even_as_python_does() {
        assert_eq!(resized(500, 375, 256), (341, 256));
        assert_eq!(resized(375, 500, 256), (256, 341));
        assert_eq!(resized(256, 256, 256), (256, 256));
        assert_eq!(resized(3, 2, 256), (384, 256));
        assert_eq!(center(341, 256, 224), Region { left: 58, top: 16, width: 224, height: 224 });
        assert_eq!(center(227, 225, 224), Region { left: 2, top: 0, width: 224, height: 224 });
    }
}
