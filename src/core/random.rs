//! Counter-based randomness: every draw is a function of (seed, purpose, epoch, index).
//!
//! So a run that is resumed at step k draws the same numbers as an uninterrupted one, and an image is cropped in the same
//! way on any rank.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// A source of random numbers, one per seed, purpose and epoch; each has 2⁶⁴ independent streams.
#[derive(Debug, Clone)]
pub struct Source {
    key: [u8; 32],
}

impl Source {
    /// Creates a source. `purpose` distinguishes sources with the same seed ("order", "shift", the name of a tensor,
    /// ...).
    pub fn new(seed: u64, purpose: &str, epoch: u64) -> Source {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(&epoch.to_le_bytes()).update(purpose.as_bytes());
        Source { key: *hasher.finalize().as_bytes() }
    }

    /// Returns the stream of one index, such as that of an image or a step.
    pub fn stream(&self, index: u64) -> Stream {
        let mut generator = ChaCha8Rng::from_seed(self.key);
        generator.set_stream(index);
        Stream { generator }
    }

    /// Returns the numbers 0..n in random order. They are sorted by independent draws, so that the position of each is
    /// a function of (seed, purpose, epoch, index) and `n` alone.
    pub fn permutation(&self, n: usize) -> Vec<i64> {
        let mut keyed: Vec<(u64, i64)> = (0..n as i64).map(|index| (self.stream(index as u64).bits(), index)).collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|(_, index)| index).collect()
    }
}

/// A sequence of independent draws.
pub struct Stream {
    generator: ChaCha8Rng,
}

impl Stream {
    /// Draws 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.generator.next_u64()
    }

    /// Draws a number from the uniform distribution on [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Draws a number from the standard normal distribution, by the method of Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Draws an integer uniformly from 0..n. The bias of at most n / 2⁶⁴ is negligible.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_depend_on_seed_purpose_epoch_and_index_alone() {
        let draw = |seed, purpose, epoch, index| Source::new(seed, purpose, epoch).stream(index).bits();
        let reference = draw(1, "order", 2, 3);
        assert_eq!(reference, draw(1, "order", 2, 3));
        for other in [draw(2, "order", 2, 3), draw(1, "shift", 2, 3), draw(1, "order", 3, 3), draw(1, "order", 2, 4)] {
            assert_ne!(reference, other);
        }
    }

    #[test]
    fn permutations_hold_every_index_once_and_are_unbiased() {
        let mut first = [0u32; 5];
        for epoch in 0..5_000 {
            let permutation = Source::new(7, "order", epoch).permutation(5);
            let mut sorted = permutation.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4]);
            first[permutation[0] as usize] += 1;
        }
        // 1,000 each are expected; 6 standard deviations of the binomial are 170.
        assert!(first.iter().all(|count| count.abs_diff(1_000) < 170), "{first:?}");
    }

    #[test]
    fn draws_follow_their_distributions() {
        let mut stream = Source::new(7, "test", 0).stream(0);
        let draws: Vec<f64> = (0..10_000).map(|_| stream.uniform()).collect();
        let mean = draws.iter().sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        let normal: Vec<f64> = (0..10_000).map(|_| stream.normal()).collect();
        let within = |deviations: f64| normal.iter().filter(|draw| draw.abs() < deviations).count();
        assert!(within(1.0).abs_diff(6_827) < 190 && within(2.0).abs_diff(9_545) < 85, "within 4 standard errors");
        assert!(normal.iter().filter(|draw| **draw > 0.0).count().abs_diff(5_000) < 200);
        let thirds = (0..9_000).map(|_| stream.below(3)).fold([0u32; 3], |mut counts, draw| {
            counts[draw as usize] += 1;
            counts
        });
        assert!(thirds.iter().all(|count| count.abs_diff(3_000) < 270), "{thirds:?}");
    }
}
