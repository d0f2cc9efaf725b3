//! The layers that architectures are built of.

use tch::Tensor;

use super::{Declare, Init, Layout, Mode, Role};

/// PyTorch's default.
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
    /// Weight `name.weight` of shape (outputs, inputs, kernel, kernel), drawn as torchvision draws those of ResNets;
    /// padded so that stride 1 keeps the size.
    pub fn new(declare: &mut Declare, name: &str, inputs: i64, outputs: i64, kernel: i64, stride: i64) -> Conv {
        let shape = [outputs, inputs, kernel, kernel];
        let fan_out = (outputs * kernel * kernel) as f64;
        let init = Init::Normal { deviation: (2.0 / fan_out).sqrt() };
        let weight = declare.parameter(format!("{name}.weight"), &shape, Role::Prunable, init);
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
            scale: declare.parameter(format!("{name}.weight"), &[channels], Role::NormScale, Init::Constant(1.0)),
            shift: declare.parameter(format!("{name}.bias"), &[channels], Role::NormShift, Init::Constant(0.0)),
            mean: declare.statistic(format!("{name}.running_mean"), channels, 0.0),
            variance: declare.statistic(format!("{name}.running_var"), channels, 1.0),
        }
    }

    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let (training, momentum) = match pass.mode {
            Mode::Train { momentum } => (true, momentum),
            Mode::Evaluate => (false, 0.0),
        };
        x.batch_norm(
            Some(&pass.parameters[self.scale]),
            Some(&pass.parameters[self.shift]),
            Some(&pass.statistics[self.mean]),
            Some(&pass.statistics[self.variance]),
            training,
            momentum,
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
        let init = Init::Uniform { bound: 1.0 / (inputs as f64).sqrt() };
        Classifier {
            weight: declare.parameter(format!("{name}.weight"), &[classes, inputs], Role::Other, init),
            bias: declare.parameter(format!("{name}.bias"), &[classes], Role::Other, init),
        }
    }

    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        x.linear(&pass.parameters[self.weight], Some(&pass.parameters[self.bias]))
    }
}
