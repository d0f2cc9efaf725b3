//! Stochastic gradient descent on flat tensors.

use tch::Tensor;

use winsign::run::settings::Training;

/// One step of SGD with momentum and weight decay as in PyTorch: v ← μ·v + g + λ·w, then w ← w − lr·v, in place.
///
/// The gradient of masked weights must be zero; they and their velocity are zero themselves, and stay so.
pub fn step(training: &Training, lr: f64, weights: &mut Tensor, velocity: &mut Tensor, gradient: &Tensor) {
    tch::no_grad(|| {
        let decayed = weights.detach() * training.weight_decay + gradient;
        let _ = velocity.g_mul_scalar_(training.momentum);
        let _ = velocity.g_add_(&decayed);
        let _ = weights.g_sub_(&(&*velocity * lr));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use winsign::run::settings::Schedule;

    /// Three steps on f(w) = w², by hand.
    #[test]
    fn steps_equal_the_formula() {
        let training = Training {
            epochs: 1,
            batch: 1,
            optimizer: Default::default(),
            lr: 0.1,
            momentum: 0.9,
            weight_decay: 0.5,
            schedule: Schedule::Constant,
        };
        let mut w = Tensor::from_slice(&[1.0f64, -2.0, 0.0]).set_requires_grad(true);
        let mut v = w.detach().zeros_like();
        let (mut expected, mut velocity) = ([1.0f64, -2.0, 0.0], [0.0f64; 3]);
        for _ in 0..3 {
            w.zero_grad();
            (&w * &w).sum(tch::Kind::Double).backward();
            let gradient = w.grad();
            step(&training, 0.1, &mut w, &mut v, &gradient);
            for at in 0..3 {
                velocity[at] = 0.9 * velocity[at] + 2.0 * expected[at] + 0.5 * expected[at];
                expected[at] -= 0.1 * velocity[at];
                assert!((w.double_value(&[at as i64]) - expected[at]).abs() < 1e-12);
            }
        }
        assert_eq!(w.double_value(&[2]), 0.0);
    }
}
