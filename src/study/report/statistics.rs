//! What is said of a handful of numbers.

/// None of no numbers.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The sample standard deviation (divided by n − 1): seeds are a sample of all seeds. None of fewer than two numbers.
pub fn sample_std(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// None of no numbers.
pub fn max(values: &[f64]) -> Option<f64> {
    values.iter().copied().reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_numbers_worked_out_by_hand() {
        // Mean 40/8 = 5; squared deviations 9 + 1 + 1 + 1 + 0 + 0 + 4 + 16 = 32; 32 / 7.
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        assert_eq!(mean(&values), Some(5.0));
        assert_eq!(sample_std(&values), Some((32.0_f64 / 7.0).sqrt()));
        assert_eq!(max(&values), Some(9.0));
        assert_eq!(sample_std(&[1.0, 2.0, 3.0]), Some(1.0));
    }

    #[test]
    fn of_too_few_numbers_is_nothing() {
        assert_eq!((mean(&[]), sample_std(&[]), max(&[])), (None, None, None));
        assert_eq!((mean(&[6.3]), sample_std(&[6.3]), max(&[6.3])), (Some(6.3), None, Some(6.3)));
    }
}
