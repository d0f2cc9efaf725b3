//! The layers that architectures are built of.
//!
//! A layer declares its tensors when it is built, and finds their values in the [`Pass`]; it stores none itself.

use std::cell::RefCell;

use tch::{Kind, Tensor};
use winsign_core::random::Stream;

use super::{ConvInit, Declare, Init, Layout, Mode, Role, Units};
use crate::device::upload;

/// The ε of both normalizations: PyTorch's default.
const EPSILON: f64 = 1e-5;

/// One forward pass: views of the flat tensors, and the mode in which layers compute.
pub(super) struct Pass<'a> {
    /// The kind of numbers of weights and activations. Norm parameters and statistics keep their own.
    pub kind: Kind,
    parameters: Vec<Tensor>,
    statistics: Vec<Tensor>,
    mode: Mode,
    /// The streams from which dropout draws, one for each image; `None` to drop nothing.
    dropout: Option<&'a RefCell<Vec<Stream>>>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        layout: &Layout,
        kind: Kind,
        parameters: &Tensor,
        statistics: &Tensor,
        mode: Mode,
        dropout: Option<&'a RefCell<Vec<Stream>>>,
    ) -> Pass<'a> {
        let mut views: Vec<Option<Tensor>> = layout.tensors.iter().map(|_| None).collect();
        for (&index, part) in layout.flat_order.iter().zip(split(layout, kind, parameters)) {
            views[index] = Some(part.view(&layout.tensors[index].shape[..]));
        }
        let lengths: Vec<i64> = layout.statistics.iter().map(|statistic| statistic.length).collect();
        Pass {
            kind,
            parameters: views.into_iter().map(|view| view.expect("the flat order names every tensor")).collect(),
            statistics: statistics.split_with_sizes(&lengths[..], 0),
            mode,
            dropout,
        }
    }

    /// Sets each element to zero with probability `rate` and scales up the others, if the pass has dropout.
    pub(super) fn drop_elements(&self, x: Tensor, rate: f64) -> Tensor {
        let shape = x.size();
        self.drop(x, rate, &shape)
    }

    /// Sets all elements of an image to zero with probability `rate` and scales up the other images, if the pass has dropout.
    /// This is called drop connect, or stochastic depth.
    pub(super) fn drop_images(&self, x: Tensor, rate: f64) -> Tensor {
        let mut shape = vec![1; x.dim()];
        shape[0] = x.size()[0];
        self.drop(x, rate, &shape)
    }

    fn drop(&self, x: Tensor, rate: f64, shape: &[i64]) -> Tensor {
        let Some(streams) = self.dropout.filter(|_| rate > 0.0) else { return x };
        let mut streams = streams.borrow_mut();
        let each = shape[1..].iter().product::<i64>();
        let kept: Vec<f32> = (streams.iter_mut())
            .flat_map(|stream| (0..each).map(|_| f32::from(u8::from(stream.uniform() >= rate))).collect::<Vec<_>>())
            .collect();
        let kept = upload(&kept, x.device()).view(shape) / (1.0 - rate);
        &x * kept.to_kind(x.kind())
    }
}

/// Splits the flat parameters into tensors, in the flat order. If weights are computed in another kind of numbers than they
/// are stored in, one operation converts them all.
fn split(layout: &Layout, kind: Kind, parameters: &Tensor) -> Vec<Tensor> {
    if kind == parameters.kind() {
        return parameters.split_with_sizes(&layout.flat_lengths[..], 0);
    }
    let first_norm = layout.flat_order.partition_point(|&index| layout.tensors[index].role.region() < 2);
    let regions = parameters.split_with_sizes([layout.weights(), layout.parameters() - layout.weights()].as_slice(), 0);
    let weights = regions[0].to_kind(kind).split_with_sizes(&layout.flat_lengths[..first_norm], 0);
    weights.into_iter().chain(regions[1].split_with_sizes(&layout.flat_lengths[first_norm..], 0)).collect()
}

/// A convolution over height and width, padded so that stride 1 keeps the size.
pub(super) struct Conv {
    weight: usize,
    bias: Option<usize>,
    stride: i64,
    padding: i64,
    groups: i64,
    /// True if only every `stride`-th pixel is passed to oneDNN, see [`Conv::forward`].
    subsamples: bool,
}

/// The shape of a convolution.
#[derive(Clone, Copy)]
pub(super) struct ConvShape {
    pub inputs: Units,
    pub outputs: Units,
    /// The height and width of the kernel.
    pub kernel: i64,
    pub stride: i64,
    pub groups: i64,
    pub bias: bool,
}

impl Conv {
    /// Declares a convolution with one group and no bias.
    pub(super) fn new(
        declare: &mut Declare,
        name: &str,
        inputs: impl Into<Units>,
        outputs: impl Into<Units>,
        kernel: i64,
        stride: i64,
    ) -> Conv {
        let (inputs, outputs) = (inputs.into(), outputs.into());
        Conv::with_shape(declare, name, ConvShape { inputs, outputs, kernel, stride, groups: 1, bias: false })
    }

    /// Declares a convolution of each channel by itself, without bias.
    pub(super) fn depthwise(declare: &mut Declare, name: &str, channels: i64, kernel: i64, stride: i64) -> Conv {
        let (inputs, outputs) = (channels.into(), channels.into());
        let shape = ConvShape { inputs, outputs, kernel, stride, groups: channels, bias: false };
        Conv::with_shape(declare, name, shape)
    }

    /// Declares a convolution of this shape: the weight `name.weight` of shape (outputs, inputs / groups, kernel, kernel), and
    /// the bias `name.bias` of shape (outputs).
    pub(super) fn with_shape(declare: &mut Declare, name: &str, shape: ConvShape) -> Conv {
        let ConvShape { inputs, outputs, kernel, stride, groups, bias } = shape;
        // The inputs of one output. Channels in groups of several cannot be reordered; with groups of one channel, each output
        // has one input.
        let own_inputs = if groups == 1 { inputs } else { Units::from(inputs.count / groups) };
        let reorders = groups > 1 && (inputs.group.is_some() || outputs.group.is_some());
        assert!(!reorders || inputs == outputs && own_inputs.count == 1, "the groups of {name} must not be reordered");
        let fan_in = own_inputs.count * kernel * kernel;
        let init = match declare.convolutions {
            ConvInit::KaimingNormal => {
                Init::Normal { deviation: (2.0 / (outputs.count * kernel * kernel) as f64).sqrt() }
            }
            ConvInit::Default => Init::default_for(fan_in),
        };
        let weight = [outputs, own_inputs, kernel.into(), kernel.into()];
        Conv {
            weight: declare.parameter(format!("{name}.weight"), &weight, Role::Prunable, init),
            bias: bias
                .then(|| declare.parameter(format!("{name}.bias"), &[outputs], Role::Other, Init::default_for(fan_in))),
            stride,
            padding: kernel / 2,
            groups,
            subsamples: kernel == 1 && stride > 1 && inputs.count < 16,
        }
    }

    /// Convolves `x` of shape (batch, inputs, height, width) to shape (batch, outputs, height / stride, width / stride).
    ///
    /// A 1×1 kernel with a stride reads only every `stride`-th pixel. oneDNN collects these in a buffer. With channels last
    /// and fewer channels than a vector register holds, its gradient of the weight writes past the end of the buffer, which
    /// crashes or gives wrong numbers (oneDNN issue 6035). So narrow convolutions get the pixels already collected.
    pub(super) fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let (weight, bias) = (&pass.parameters[self.weight], self.bias.map(|bias| &pass.parameters[bias]));
        if self.subsamples {
            let every = |x: &Tensor, dimension| x.slice(dimension, None, None, self.stride);
            return every(&every(x, 2), 3).conv2d(weight, bias, [1; 2], [0; 2], [1; 2], self.groups);
        }
        x.conv2d(weight, bias, [self.stride; 2], [self.padding; 2], [1; 2], self.groups)
    }
}

/// Batch normalization over batch, height and width.
pub(super) struct BatchNorm {
    scale: usize,
    shift: usize,
    mean: usize,
    variance: usize,
}

impl BatchNorm {
    pub(super) fn new(declare: &mut Declare, name: &str, channels: impl Into<Units>) -> BatchNorm {
        let channels = channels.into();
        BatchNorm {
            scale: declare.parameter(format!("{name}.weight"), &[channels], Role::NormScale, Init::Constant(1.0)),
            shift: declare.parameter(format!("{name}.bias"), &[channels], Role::NormShift, Init::Constant(0.0)),
            mean: declare.statistic(format!("{name}.running_mean"), channels, 0.0),
            variance: declare.statistic(format!("{name}.running_var"), channels, 1.0),
        }
    }

    pub(super) fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
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
            EPSILON,
            true,
        )
    }
}

/// A convolution, and the BatchNorm that follows it.
pub(super) struct ConvNorm {
    conv: Conv,
    norm: BatchNorm,
}

impl ConvNorm {
    /// Declares both layers; they have separate names, because code bases number layers differently.
    pub(super) fn new(declare: &mut Declare, [conv, norm]: [&str; 2], shape: ConvShape) -> ConvNorm {
        let outputs = shape.outputs;
        ConvNorm { conv: Conv::with_shape(declare, conv, shape), norm: BatchNorm::new(declare, norm, outputs) }
    }

    pub(super) fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        self.norm.forward(pass, &self.conv.forward(pass, x))
    }
}

/// Normalization over the last dimension.
pub(super) struct LayerNorm {
    scale: usize,
    shift: usize,
    width: i64,
}

impl LayerNorm {
    pub(super) fn new(declare: &mut Declare, name: &str, width: impl Into<Units>) -> LayerNorm {
        let width = width.into();
        LayerNorm {
            scale: declare.parameter(format!("{name}.weight"), &[width], Role::NormScale, Init::Constant(1.0)),
            shift: declare.parameter(format!("{name}.bias"), &[width], Role::NormShift, Init::Constant(0.0)),
            width: width.count,
        }
    }

    /// Normalizes in the kind of numbers of its parameters, and returns the kind of `x`: on GPUs libtorch does not accept a
    /// mixture.
    pub(super) fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let (scale, shift) = (&pass.parameters[self.scale], &pass.parameters[self.shift]);
        x.to_kind(scale.kind()).layer_norm([self.width], Some(scale), Some(shift), EPSILON, true).to_kind(x.kind())
    }
}

/// A linear layer inside a network: its weight is prunable.
pub(super) struct Linear {
    weight: usize,
    bias: usize,
}

impl Linear {
    pub(super) fn new(declare: &mut Declare, name: &str, inputs: Units, outputs: Units) -> Linear {
        let init = Init::default_for(inputs.count);
        Linear {
            weight: declare.parameter(format!("{name}.weight"), &[outputs, inputs], Role::Prunable, init),
            bias: declare.parameter(format!("{name}.bias"), &[outputs], Role::Other, init),
        }
    }

    /// Applies the layer along the last dimension.
    pub(super) fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        x.linear(&pass.parameters[self.weight], Some(&pass.parameters[self.bias]))
    }
}

/// A one-dimensional convolution with kernels of length 1: a linear layer along the middle dimension.
pub(super) struct Pointwise {
    weight: usize,
    bias: usize,
}

impl Pointwise {
    pub(super) fn new(declare: &mut Declare, name: &str, inputs: Units, outputs: Units) -> Pointwise {
        let init = Init::default_for(inputs.count);
        Pointwise {
            weight: declare.parameter(format!("{name}.weight"), &[outputs, inputs, 1.into()], Role::Prunable, init),
            bias: declare.parameter(format!("{name}.bias"), &[outputs], Role::Other, init),
        }
    }

    /// Converts shape (batch, inputs, length) to (batch, outputs, length).
    pub(super) fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        x.conv1d(&pass.parameters[self.weight], Some(&pass.parameters[self.bias]), 1, 0, 1, 1)
    }
}

/// The last linear layer, which is never pruned.
pub(super) struct Classifier {
    weight: usize,
    bias: usize,
}

impl Classifier {
    pub(super) fn new(declare: &mut Declare, name: &str, inputs: impl Into<Units>, classes: i64) -> Classifier {
        let inputs = inputs.into();
        let init = Init::default_for(inputs.count);
        Classifier::with_init(declare, name, [inputs, classes.into()], [init, init])
    }

    /// Declares a classifier with these distributions of weight and bias.
    pub(super) fn with_init(
        declare: &mut Declare,
        name: &str,
        [inputs, classes]: [Units; 2],
        [weight, bias]: [Init; 2],
    ) -> Classifier {
        Classifier {
            weight: declare.parameter(format!("{name}.weight"), &[classes, inputs], Role::Other, weight),
            bias: declare.parameter(format!("{name}.bias"), &[classes], Role::Other, bias),
        }
    }

    pub(super) fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        x.linear(&pass.parameters[self.weight], Some(&pass.parameters[self.bias]))
    }
}

/// Returns the mean over height and width: converts shape (batch, channels, height, width) to (batch, channels).
pub(super) fn global_mean(x: &Tensor) -> Tensor {
    x.mean_dim([2i64, 3].as_slice(), false, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// GPUs do not accept activations in bf16 with parameters in fp32, while CPUs do. But CPUs do not accept fp32 with float64,
    /// which this tests instead.
    #[test]
    fn layer_norm_does_not_mix_kinds() {
        let mut declare = Declare::default();
        let norm = LayerNorm::new(&mut declare, "norm", 4);
        let layout = Layout::new(declare);
        let pass = |kind: Kind| {
            let parameters = Tensor::from_slice(&[1.5, -2.0, 0.25, 3.0, 0.5, 0.0, -1.0, 2.0]).to_kind(kind);
            let statistics = Tensor::zeros([0], (kind, Device::Cpu));
            Pass::new(&layout, kind, &parameters, &statistics, Mode::Evaluate, None)
        };
        let x = Tensor::from_slice(&[0.5, 1.25, -3.0, 8.0, 1.0, 0.0, 0.0, 1.0]).view([2, 4]);
        let exact = norm.forward(&pass(Kind::Double), &x);
        let single = norm.forward(&pass(Kind::Double), &x.to_kind(Kind::Float));
        assert_eq!(single, exact.to_kind(Kind::Float), "normalized in the kind of the parameters");
        let half = norm.forward(&pass(Kind::Float), &x.to_kind(Kind::BFloat16));
        assert_eq!(half.kind(), Kind::BFloat16);
        assert!(half.to_kind(Kind::Double).allclose(&exact, 1.0 / 256.0, 0.0, false), "{half:?} {exact:?}");
    }
}
