//! Schedules of the learning rate.

use winsign_core::settings::{Schedule, Training};

/// Returns the learning rate of an epoch, which is counted from 1. The formulas are those of MultiStepLR and
/// CosineAnnealingLR in PyTorch.
pub(super) fn learning_rate(training: &Training, epoch: u32) -> f64 {
    let done = epoch - 1;
    match training.schedule {
        Schedule::Constant => training.lr,
        Schedule::MultiStep => {
            let milestones = Schedule::milestones(training.epochs);
            let passed = milestones.iter().filter(|&&milestone| done >= milestone).count();
            training.lr * 0.1f64.powi(passed as i32)
        }
        Schedule::Cosine => {
            let (highest, lowest) = (training.lr, training.lr * 0.001);
            let progress = f64::from(done) / f64::from(training.epochs);
            lowest + (highest - lowest) * (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(schedule: Schedule, epochs: u32) -> Vec<f64> {
        let training = Training {
            epochs,
            batch: 64,
            optimizer: Default::default(),
            lr: 0.1,
            momentum: 0.9,
            weight_decay: 0.0,
            schedule,
            precision: Default::default(),
        };
        (1..=epochs).map(|epoch| learning_rate(&training, epoch)).collect()
    }

    #[test]
    fn multi_step_falls_after_half_and_three_quarters() {
        let rates = rates(Schedule::MultiStep, 12);
        let close = |found: f64, expected: f64| (found - expected).abs() < 1e-12;
        assert!(rates[..6].iter().all(|&rate| close(rate, 0.1)), "{rates:?}");
        assert!(rates[6..9].iter().all(|&rate| close(rate, 0.01)), "{rates:?}");
        assert!(rates[9..].iter().all(|&rate| close(rate, 0.001)), "{rates:?}");
    }

    /// The expected values follow from the closed form of CosineAnnealingLR(T_max = 4, eta_min = 1e-4) in PyTorch, from
    /// 0.1.
    #[test]
    fn cosine_equals_that_of_pytorch() {
        let expected = [0.1, 0.08536998372, 0.05005, 0.01473001628];
        for (found, expected) in rates(Schedule::Cosine, 4).into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-10, "{found} {expected}");
        }
        assert_eq!(rates(Schedule::Constant, 3), [0.1; 3]);
    }
}
