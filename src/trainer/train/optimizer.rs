//! Optimizers on flat tensors, with the formulas of PyTorch.

use tch::Tensor;
use winsign_core::settings::{Optimizer, Training};

use crate::model::Layout;

/// β₂ of Adam.
const BETA2: f64 = 0.999;
/// ε of Adam.
const EPSILON: f64 = 1e-8;

/// Returns the state of an optimizer before the first step: flat tensors with the shape of the parameters. SGD has the
/// velocity, Adam the running means of the gradients and of their squares.
pub fn fresh_moments(optimizer: Optimizer, parameters: &Tensor) -> Vec<Tensor> {
    let count = match optimizer {
        Optimizer::Sgd => 1,
        Optimizer::Adam => 2,
    };
    (0..count).map(|_| parameters.detach().zeros_like()).collect()
}

/// Does one step of the optimizer of the training, in place. `number` counts the steps of a training from 1.
///
/// The gradient of masked weights must be zero; they and their moments are zero themselves, and remain so. Idle tensors
/// do not change, not even by weight decay, as PyTorch leaves parameters without a gradient unchanged.
pub fn step(
    training: &Training,
    layout: &Layout,
    (lr, number): (f64, u64),
    parameters: &Tensor,
    moments: &mut [Tensor],
    gradient: &Tensor,
) {
    tch::no_grad(|| {
        let trained = |flat: &Tensor| layout.trained(flat);
        let moments: Vec<Tensor> = moments.iter().map(trained).collect();
        update(training, (lr, number), &trained(&parameters.detach()), &moments, &trained(gradient));
    });
}

fn update(training: &Training, (lr, number): (f64, u64), weights: &Tensor, moments: &[Tensor], gradient: &Tensor) {
    let decayed = weights * training.weight_decay + gradient;
    let mut weights = weights.shallow_clone();
    match (training.optimizer, moments) {
        // v ← μ·v + g + λ·w, then w ← w − lr·v.
        (Optimizer::Sgd, [velocity]) => {
            let mut velocity = velocity.shallow_clone();
            let _ = velocity.g_mul_scalar_(training.momentum);
            let _ = velocity.g_add_(&decayed);
            let _ = weights.g_sub_(&(velocity * lr));
        }
        // Kingma and Ba, 2015, algorithm 1, with weight decay in the gradient.
        (Optimizer::Adam, [first, second]) => {
            let (mut first, mut second) = (first.shallow_clone(), second.shallow_clone());
            let beta1 = training.momentum;
            let _ = first.g_mul_scalar_(beta1);
            let _ = first.g_add_(&(&decayed * (1.0 - beta1)));
            let _ = second.g_mul_scalar_(BETA2);
            let _ = second.g_add_(&(&decayed * &decayed * (1.0 - BETA2)));
            // The means start at zero; these factors correct the bias.
            let number = i32::try_from(number).unwrap_or(i32::MAX);
            let (bias1, bias2) = (1.0 - beta1.powi(number), 1.0 - BETA2.powi(number));
            let scale = second.sqrt() / bias2.sqrt() + EPSILON;
            let _ = weights.g_sub_(&(first / scale * (lr / bias1)));
        }
        (optimizer, moments) => unreachable!("{optimizer} does not have {} moments", moments.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use winsign_core::settings::Schedule;

    fn training(optimizer: Optimizer) -> Training {
        Training {
            epochs: 1,
            batch: 1,
            optimizer,
            lr: 0.1,
            momentum: 0.9,
            weight_decay: 0.5,
            schedule: Schedule::Constant,
            precision: Default::default(),
        }
    }

    fn three_steps(optimizer: Optimizer) -> (Vec<f64>, Vec<Vec<f64>>) {
        let weights = Tensor::from_slice(&[1.0f64, -2.0, 0.0]);
        let moments = fresh_moments(optimizer, &weights);
        for number in 1..=3 {
            // The gradient of f(w) = w².
            let gradient = &weights * 2.0;
            update(&training(optimizer), (0.1, number), &weights, &moments, &gradient);
        }
        let list = |tensor: &Tensor| Vec::<f64>::try_from(tensor).unwrap();
        (list(&weights), moments.iter().map(list).collect())
    }

    #[test]
    fn sgd_follows_its_formula() {
        let (found, moments) = three_steps(Optimizer::Sgd);
        let mut expected = [1.0f64, -2.0, 0.0];
        let mut velocity = [0.0f64; 3];
        for _ in 0..3 {
            for (w, v) in expected.iter_mut().zip(&mut velocity) {
                *v = 0.9 * *v + 2.0 * *w + 0.5 * *w;
                *w -= 0.1 * *v;
            }
        }
        assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12), "{found:?}");
        assert_eq!((found[2], moments[0][2]), (0.0, 0.0), "zero weights stay zero");
    }

    #[test]
    fn adam_follows_its_formula() {
        let (found, moments) = three_steps(Optimizer::Adam);
        let mut expected = [1.0f64, -2.0, 0.0];
        let (mut first, mut second) = ([0.0f64; 3], [0.0f64; 3]);
        for number in 1..=3 {
            for at in 0..3 {
                let gradient = 2.5 * expected[at];
                first[at] = 0.9 * first[at] + 0.1 * gradient;
                second[at] = 0.999 * second[at] + 0.001 * gradient * gradient;
                let mean = first[at] / (1.0 - 0.9f64.powi(number));
                let square = second[at] / (1.0 - 0.999f64.powi(number));
                expected[at] -= 0.1 * mean / (square.sqrt() + 1e-8);
            }
        }
        assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12), "{found:?}");
        assert_eq!((found[2], moments[0][2], moments[1][2]), (0.0, 0.0, 0.0), "zero weights stay zero");
    }
}
