//! Statistics of a handful of numbers.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{Interval, IntervalMethod, Over, Summary};

/// The method and level of confidence intervals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub method: IntervalMethod,
    /// The confidence, in (0, 1).
    pub level: f64,
}

impl Default for Estimate {
    fn default() -> Estimate {
        Estimate { method: IntervalMethod::T, level: 0.95 }
    }
}

impl Summary {
    /// Summarizes numbers that are independent of each other and finite; returns none if there are none.
    pub fn from_values(values: &[f64], estimate: Estimate) -> Option<Summary> {
        let mean = mean(values)?;
        let std = sample_std(values);
        let ends = std.and_then(|std| match estimate.method {
            IntervalMethod::T => {
                let half = t_quantile(estimate.level, values.len() - 1) * std / (values.len() as f64).sqrt();
                Some((mean - half, mean + half))
            }
            IntervalMethod::Bootstrap if values.len() < FEWEST_OF_BOOTSTRAP => None,
            IntervalMethod::Bootstrap => Some(percentile_bootstrap(values, estimate.level)),
        });
        let Estimate { method, level } = estimate;
        let independent = values.len();
        let interval = ends.map(|(low, high)| Interval { low, high, level, method, over: Over::Numbers, independent });
        let sorted = sorted(values);
        Some(Summary {
            count: values.len(),
            mean,
            median: quantile(&sorted, 0.5),
            min: sorted[0],
            max: sorted[sorted.len() - 1],
            std,
            interval,
        })
    }
}

/// Returns the mean; none if there are no numbers.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Returns the sample standard deviation (divided by n − 1), since seeds are a sample of all seeds; `None` for fewer
/// than two numbers. It is exactly zero if the numbers differ by rounding alone, so that no conclusion is drawn from
/// rounding.
pub fn sample_std(values: &[f64]) -> Option<f64> {
    const ROUNDING: f64 = 1e-12;
    if values.len() < 2 {
        return None;
    }
    let (low, high) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)));
    // Differences of errors in percent are small, and have the rounding errors of the numbers that were subtracted.
    if high - low <= ROUNDING * high.abs().max(low.abs()).max(1.0) {
        return Some(0.0);
    }
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// Returns the largest number; none if there are none.
pub fn max(values: &[f64]) -> Option<f64> {
    values.iter().copied().reduce(f64::max)
}

/// Returns the bound within which a variable of Student's t distribution lies, up and down, with this probability.
pub fn t_quantile(level: f64, degrees: usize) -> f64 {
    t_quantile_of(level, degrees as f64)
}

/// Returns the same for degrees of freedom that are not a whole number.
pub fn t_quantile_of(level: f64, degrees: f64) -> f64 {
    students_t(degrees).inverse_cdf((1.0 + level) / 2.0)
}

/// Returns the two-sided p-value of Student's t.
pub fn p_of_t(t: f64, degrees: f64) -> f64 {
    2.0 * students_t(degrees).sf(t.abs())
}

fn students_t(degrees: f64) -> StudentsT {
    StudentsT::new(0.0, 1.0, degrees).expect("degrees of freedom are positive")
}

/// Returns a confidence in percent without rounding errors: 57, not 56.99999999999999.
pub fn percent(level: f64) -> f64 {
    (level * 1e6).round() / 1e4
}

/// The smallest number of values for a bootstrap interval; with fewer, it is no more than their range.
pub const FEWEST_OF_BOOTSTRAP: usize = 5;

/// The number of resamples of the bootstrap.
pub const RESAMPLES: usize = 10_000;

/// Returns the interval that contains this fraction of the means of samples drawn with replacement (Efron, 1979).
fn percentile_bootstrap(values: &[f64], level: f64) -> (f64, f64) {
    let mut random = Randomness::default();
    let count = values.len();
    let mean_of_one = |_| (0..count).map(|_| values[random.below(count)]).sum::<f64>() / count as f64;
    let means: Vec<f64> = (0..RESAMPLES).map(mean_of_one).collect();
    middle(&means, level)
}

/// Returns the interval that contains this fraction of the values, with as many of the others below as above.
pub fn middle(values: &[f64], level: f64) -> (f64, f64) {
    let sorted = sorted(values);
    (quantile(&sorted, (1.0 - level) / 2.0), quantile(&sorted, (1.0 + level) / 2.0))
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Returns the quantile of sorted values, interpolated linearly.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
}

/// A pseudorandom generator with a fixed seed: reports of the same results have the same intervals.
pub struct Randomness(blake3::OutputReader);

impl Default for Randomness {
    fn default() -> Randomness {
        Randomness(blake3::Hasher::new_derive_key("winsign: resampling of the bootstrap").finalize_xof())
    }
}

impl Randomness {
    /// Returns a whole number from 0 to below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        // The upper half of the product; with 64 bits no number is favoured by more than bound / 2^64.
        ((u128::from(u64::from_le_bytes(bytes)) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_near(actual: f64, expected: f64, tolerance: f64) {
        assert!((actual - expected).abs() <= tolerance, "{actual} is not {expected}");
    }

    fn bootstrap(level: f64) -> Estimate {
        Estimate { method: IntervalMethod::Bootstrap, level }
    }

    #[test]
    fn statistics_match_values_worked_out_by_hand() {
        // Mean 40/8 = 5; squared deviations 9 + 1 + 1 + 1 + 0 + 0 + 4 + 16 = 32; 32 / 7.
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        assert_eq!(mean(&values), Some(5.0));
        assert_eq!(sample_std(&values), Some((32.0_f64 / 7.0).sqrt()));
        assert_eq!(max(&values), Some(9.0));
        assert_eq!(sample_std(&[1.0, 2.0, 3.0]), Some(1.0));
        let summary = Summary::from_values(&[9.0, 4.0, 2.0, 4.0, 7.0, 4.0, 5.0, 5.0], Estimate::default()).unwrap();
        assert_eq!((summary.count, summary.mean, summary.median), (8, 5.0, 4.5));
        assert_eq!((summary.min, summary.max), (2.0, 9.0));
    }

    #[test]
    fn confidence_in_percent_has_no_rounding_errors() {
        assert_eq!([0.95, 0.57, 0.999, 0.999_999].map(percent), [95.0, 57.0, 99.9, 99.9999]);
    }

    #[test]
    fn rounding_errors_have_zero_deviation() {
        // These are differences of three images in 360, at three errors.
        let differences: Vec<f64> =
            [14.0, 17.0, 19.0].map(|wrong: f64| 100.0 * (wrong + 3.0) / 360.0 - 100.0 * wrong / 360.0).to_vec();
        assert!(differences.windows(2).any(|pair| pair[0] != pair[1]));
        assert_eq!(sample_std(&differences), Some(0.0));
        assert!(sample_std(&[1e-6, 2e-6]).unwrap() > 0.0);
    }

    #[test]
    fn statistics_of_too_few_numbers_are_none() {
        assert_eq!((mean(&[]), sample_std(&[]), max(&[])), (None, None, None));
        assert_eq!((mean(&[6.3]), sample_std(&[6.3]), max(&[6.3])), (Some(6.3), None, Some(6.3)));
        assert_eq!(Summary::from_values(&[], Estimate::default()), None);
        let one = Summary::from_values(&[6.3], bootstrap(0.95)).unwrap();
        assert_eq!((one.count, one.median, one.std, one.interval), (1, 6.3, None, None));
    }

    /// `scipy.stats.t.interval(level, n - 1, mean, sem)` and `scipy.stats.t.ppf`, of SciPy 1.17.
    #[test]
    fn students_t_intervals_match_scipy() {
        let values = [5.0, 6.3, 7.6];
        let interval =
            |level| Summary::from_values(&values, Estimate { level, ..Estimate::default() }).unwrap().interval.unwrap();
        let wide = interval(0.95);
        assert_eq!((wide.level, wide.method), (0.95, IntervalMethod::T));
        assert_near(wide.low, 3.070_620_974_724_571, 1e-9);
        assert_near(wide.high, 9.529_379_025_275_428, 1e-9);
        assert_near(interval(0.8).low, 4.884_739_259_725_275, 1e-9);
        assert_near(t_quantile(0.95, 1), 12.706_204_736_174_694, 1e-7);
        assert_near(t_quantile(0.99, 19), 2.860_934_606_464_979_4, 1e-9);
        assert_near(p_of_t(2.5, 4.0), 0.066_766_544_811_988_14, 1e-10);
        assert_near(p_of_t(-2.5, 4.0), 0.066_766_544_811_988_14, 1e-10);
        assert_near(p_of_t(12.0, 30.0) / 5.580_185_415_199_261e-13, 1.0, 1e-8);
    }

    /// `scipy.stats.bootstrap(method="percentile", n_resamples=1_000_000)` draws other samples, so the ends agree only
    /// to the accuracy of 10,000 samples.
    #[test]
    fn bootstrap_intervals_match_scipy() {
        let values = [4.4, 8.8, 6.8, 5.1, 9.7, 3.2, 7.7, 6.1, 5.9, 4.8];
        let interval = Summary::from_values(&values, bootstrap(0.95)).unwrap().interval.unwrap();
        assert_eq!(interval.method, IntervalMethod::Bootstrap);
        assert_near(interval.low, 5.09, 0.05);
        assert_near(interval.high, 7.47, 0.05);
        let narrow = Summary::from_values(&values, bootstrap(0.5)).unwrap().interval.unwrap();
        assert_near(narrow.low, 5.83, 0.03);
        assert_eq!(
            Summary::from_values(&values, bootstrap(0.95)).unwrap().interval,
            Some(interval),
            "the same every time"
        );
    }

    #[test]
    fn random_numbers_are_uniform() {
        let mut random = Randomness::default();
        let mut counts = [0; 5];
        (0..50_000).for_each(|_| counts[random.below(5)] += 1);
        // Five standard deviations of a count of mean 10,000.
        assert!(counts.iter().all(|count| (9_550..10_450).contains(count)), "{counts:?}");
    }
}
