//! ShuffleNet v1 with three groups (Zhang et al., 2018), for small images: the first convolution keeps their size, and no
//! pooling follows it. The convolutions have biases, although the BatchNorm after each removes them.

use tch::Tensor;
use winsign_core::settings::Dataset;

use super::layers::{Classifier, ConvNorm, ConvShape, Pass, global_mean};
use super::{Declare, Forward};

/// The number of groups of a pointwise convolution.
const GROUPS: i64 = 3;
/// The number of channels of the first convolution.
const STEM: i64 = 24;
/// The numbers of channels and of units of stages 2, 3 and 4.
const STAGES: [(i64, i64); 3] = [(240, 4), (480, 8), (960, 4)];

pub(super) struct ShuffleNet {
    conv1: ConvNorm,
    units: Vec<Unit>,
    fc: Classifier,
}

impl ShuffleNet {
    pub(super) fn new(declare: &mut Declare, dataset: Dataset) -> ShuffleNet {
        let (channels, _) = dataset.image_shape();
        let stem =
            ConvShape { inputs: channels.into(), outputs: STEM.into(), kernel: 3, stride: 1, groups: 1, bias: true };
        let conv1 = ConvNorm::new(declare, ["conv1.conv", "conv1.bn"], stem);
        let mut units = vec![];
        let mut inputs = STEM;
        for (stage, (outputs, count)) in (2..).zip(STAGES) {
            for unit in 0..count {
                units.push(Unit::new(declare, &format!("stage{stage}.{unit}"), inputs, outputs, unit == 0));
                inputs = outputs;
            }
        }
        ShuffleNet { conv1, units, fc: Classifier::new(declare, "fc", inputs, dataset.classes()) }
    }
}

impl Forward for ShuffleNet {
    fn forward(&self, pass: &Pass, images: &Tensor) -> Tensor {
        let mut x = self.conv1.forward(pass, images).relu_();
        for unit in &self.units {
            x = unit.forward(pass, &x);
        }
        self.fc.forward(pass, &global_mean(&x))
    }
}

/// A bottleneck of grouped convolutions, with channels shuffled between groups. A unit that halves the image appends its
/// pooled input as further channels.
struct Unit {
    reduce: ConvNorm,
    depthwise: ConvNorm,
    expand: ConvNorm,
    /// True if the unit halves the image.
    halves: bool,
}

impl Unit {
    fn new(declare: &mut Declare, name: &str, inputs: i64, outputs: i64, halves: bool) -> Unit {
        let mut layer = |layer: &str, shape| {
            let names = [format!("{name}.{layer}.0"), format!("{name}.{layer}.1")];
            ConvNorm::new(declare, [&names[0], &names[1]], shape)
        };
        let width = outputs / 4;
        let pointwise = |inputs: i64, outputs: i64| {
            let (inputs, outputs) = (inputs.into(), outputs.into());
            ConvShape { inputs, outputs, kernel: 1, stride: 1, groups: GROUPS, bias: true }
        };
        let stride = if halves { 2 } else { 1 };
        let depthwise =
            ConvShape { inputs: width.into(), outputs: width.into(), kernel: 3, stride, groups: width, bias: true };
        // The published names have this spelling.
        Unit {
            reduce: layer("bottlneck.0.pointwise", pointwise(inputs, width)),
            depthwise: layer("depthwise.depthwise", depthwise),
            expand: layer("expand.pointwise", pointwise(width, if halves { outputs - inputs } else { outputs })),
            halves,
        }
    }

    fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let inner = shuffle(&self.reduce.forward(pass, x).relu_());
        let inner = self.expand.forward(pass, &self.depthwise.forward(pass, &inner));
        if self.halves {
            let pooled = x.avg_pool2d([3, 3], [2, 2], [1, 1], false, true, None);
            Tensor::cat(&[pooled, inner], 1).relu_()
        } else {
            (inner + x).relu_()
        }
    }
}

/// Distributes the channels of each group over all groups. Channels that are adjacent in memory remain so.
fn shuffle(x: &Tensor) -> Tensor {
    let (batch, channels, height, width) = x.size4().expect("images have four dimensions");
    let groups = x.permute([0, 2, 3, 1]).reshape([batch, height, width, GROUPS, channels / GROUPS]);
    groups.transpose(3, 4).reshape([batch, height, width, channels]).permute([0, 3, 1, 2])
}
