//! The layers that architectures are built of.

use tch::Tensor;

use super::{Declare, Layout, Mode, Role};

/// PyTorch's defaults.
const BATCH_NORM_MOMENTUM: f64 = 0.1;
const BATCH_NORM_EPSILON: f64 = 1e-5;

/// The tensors of one forward pass: views into the flat ones.
pub struct Pass {
    parameters: Vec<Tensor>,
    statistics: Vec<Tensor>,
    mode: Mode,
}

impl Pass {
    pub fn new(layout: &Layout, parameters: &Tensor, statistics: &Tensor, mode: Mode) -> Pass {
        let mut views: Vec<Option<Tensor>> = layout.tensors.iter().map(|_| None).collect();
        let flat = parameters.split_with_sizes(&layout.flat_lengths[..], 0);
        for (&index, part) in layout.flat_order.iter().zip(flat) {
            views[index] = Some(part.view(&layout.tensors[index].shape[..]));
        }
        let lengths: Vec<i64> = layout.statistics.iter().map(|statistic| statistic.length).collect();
        Pass {
            parameters: views.into_iter().map(|view| view.expect("the flat order names every tensor")).collect(),
            statistics: statistics.split_with_sizes(&lengths[..], 0),
            mode,
        }
    }
}

/// A convolution without bias and with square kernels.
pub struct Conv {
    weight: usize,
    stride: i64,
    padding: i64,
}

impl Conv {
    /// Weight `name.weight` of shape (outputs, inputs, kernel, kernel); padded so that stride 1 keeps the size.
    pub fn new(declare: &mut Declare, name: &str, inputs: i64, outputs: i64, kernel: i64, stride: i64) -> Conv {
        let bound = 1.0 / ((inputs * kernel * kernel) as f64).sqrt();
        let shape = [outputs, inputs, kernel, kernel];
        let weight = declare.parameter(format!("{name}.weight"), &shape, Role::Prunable, bound);
        Conv { weight, stride, padding: kernel / 2 }
    }

    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let weight = &pass.parameters[self.weight];
        x.conv2d(weight, None::<&Tensor>, [self.stride; 2], [self.padding; 2], [1; 2], 1)
    }
}

/// Batch normalization over (batch, height, width).
pub struct BatchNorm {
    scale: usize,
    shift: usize,
    mean: usize,
    variance: usize,
}

impl BatchNorm {
    pub fn new(declare: &mut Declare, name: &str, channels: i64) -> BatchNorm {
        BatchNorm {
            scale: declare.parameter(format!("{name}.weight"), &[channels], Role::NormScale, 0.0),
            shift: declare.parameter(format!("{name}.bias"), &[channels], Role::NormShift, 0.0),
            mean: declare.statistic(format!("{name}.running_mean"), channels, 0.0),
            variance: declare.statistic(format!("{name}.running_var"), channels, 1.0),
        }
    }

    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        x.batch_norm(
            Some(&pass.parameters[self.scale]),
            Some(&pass.parameters[self.shift]),
            Some(&pass.statistics[self.mean]),
            Some(&pass.statistics[self.variance]),
            pass.mode == Mode::Train,
            BATCH_NORM_MOMENTUM,
            BATCH_NORM_EPSILON,
            true,
        )
    }
}

/// The last linear layer, which is never pruned.
pub struct Classifier {
    weight: usize,
    bias: usize,
}

impl Classifier {
    pub fn new(declare: &mut Declare, name: &str, inputs: i64, classes: i64) -> Classifier {
        let bound = 1.0 / (inputs as f64).sqrt();
        Classifier {
            weight: declare.parameter(format!("{name}.weight"), &[classes, inputs], Role::Other, bound),
            bias: declare.parameter(format!("{name}.bias"), &[classes], Role::Other, bound),
        }
    }

    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        x.linear(&pass.parameters[self.weight], Some(&pass.parameters[self.bias]))
    }
}
