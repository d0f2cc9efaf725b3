//! EfficientNet-B0 (Tan and Le, 2019), in the widely used variant for small images: the first convolution keeps their
//! size.

use tch::Tensor;
use winsign_core::settings::Dataset;

use super::layers::{BatchNorm, Classifier, Conv, ConvShape, Pass, global_mean};
use super::{Declare, Forward, Units};

/// The stages: expansion, number of channels, number of blocks, size of the kernel, and stride of the first block.
const STAGES: [(i64, i64, i64, i64, i64); 7] = [
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
];
/// The number of channels of the first convolution.
const STEM: i64 = 32;
/// The rate of dropout for the inputs of the classifier.
const DROPOUT: f64 = 0.2;
/// The limit of the rate at which whole blocks are dropped: the rate grows linearly with the depth of the block, from 0.
const DROP_CONNECT: f64 = 0.2;

pub(super) struct EfficientNet {
    conv1: Conv,
    bn1: BatchNorm,
    blocks: Vec<Block>,
    linear: Classifier,
}

impl EfficientNet {
    pub(super) fn new(declare: &mut Declare, dataset: Dataset) -> EfficientNet {
        let (channels, _) = dataset.image_shape();
        let conv1 = Conv::new(declare, "conv1", channels, STEM, 3, 1);
        let bn1 = BatchNorm::new(declare, "bn1", STEM);

        let count: i64 = STAGES.iter().map(|stage| stage.2).sum();
        let mut blocks = vec![];
        let mut inputs = STEM;
        for (expansion, outputs, repeats, kernel, stride) in STAGES {
            for repeat in 0..repeats {
                let index = blocks.len();
                let shape = Shape { inputs, outputs, expansion, kernel, stride: if repeat == 0 { stride } else { 1 } };
                let drop = DROP_CONNECT * index as f64 / count as f64;
                blocks.push(Block::new(declare, &format!("layers.{index}"), shape, drop));
                inputs = outputs;
            }
        }
        EfficientNet { conv1, bn1, blocks, linear: Classifier::new(declare, "linear", inputs, dataset.classes()) }
    }
}

impl Forward for EfficientNet {
    fn forward(&self, pass: &Pass, images: &Tensor) -> Tensor {
        let mut x = self.bn1.forward(pass, &self.conv1.forward(pass, images)).silu();
        for block in &self.blocks {
            x = block.forward(pass, &x);
        }
        self.linear.forward(pass, &pass.drop_elements(global_mean(&x), DROPOUT))
    }

    fn drops(&self) -> bool {
        true
    }
}

/// The shape of a block.
struct Shape {
    inputs: i64,
    outputs: i64,
    expansion: i64,
    kernel: i64,
    stride: i64,
}

/// An inverted residual with squeeze and excitation.
struct Block {
    /// The expansion; `None` if the factor is 1. The variant has these tensors nevertheless, and does not use them.
    expand: Option<(Conv, BatchNorm)>,
    conv2: Conv,
    bn2: BatchNorm,
    excitation: Excitation,
    conv3: Conv,
    bn3: BatchNorm,
    /// True if the inputs are added to the outputs.
    has_skip: bool,
    /// The rate at which the block is dropped.
    drop: f64,
}

impl Block {
    fn new(declare: &mut Declare, name: &str, shape: Shape, drop: f64) -> Block {
        let Shape { inputs, outputs, expansion, kernel, stride } = shape;
        let hidden = inputs * expansion;
        declare.idle = expansion == 1;
        let expand = (
            Conv::new(declare, &format!("{name}.conv1"), inputs, hidden, 1, 1),
            BatchNorm::new(declare, &format!("{name}.bn1"), hidden),
        );
        declare.idle = false;
        Block {
            expand: (expansion != 1).then_some(expand),
            conv2: Conv::depthwise(declare, &format!("{name}.conv2"), hidden, kernel, stride),
            bn2: BatchNorm::new(declare, &format!("{name}.bn2"), hidden),
            excitation: Excitation::new(declare, &format!("{name}.se"), hidden, inputs / 4),
            conv3: Conv::new(declare, &format!("{name}.conv3"), hidden, outputs, 1, 1),
            bn3: BatchNorm::new(declare, &format!("{name}.bn3"), outputs),
            has_skip: stride == 1 && inputs == outputs,
            drop,
        }
    }

    fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let inner = match &self.expand {
            Some((conv1, bn1)) => bn1.forward(pass, &conv1.forward(pass, x)).silu(),
            None => x.shallow_clone(),
        };
        let inner = self.bn2.forward(pass, &self.conv2.forward(pass, &inner)).silu();
        let inner = self.excitation.forward(pass, &inner);
        let inner = self.bn3.forward(pass, &self.conv3.forward(pass, &inner));
        if self.has_skip { pass.drop_images(inner, self.drop) + x } else { inner }
    }
}

/// Squeeze and excitation (Hu et al., 2018): scales the channels of an image by a function of their means.
struct Excitation {
    se1: Conv,
    se2: Conv,
}

impl Excitation {
    fn new(declare: &mut Declare, name: &str, channels: i64, squeezed: i64) -> Excitation {
        let mut layer = |layer: &str, inputs, outputs| {
            let (inputs, outputs) = (Units::from(inputs), Units::from(outputs));
            let shape = ConvShape { inputs, outputs, kernel: 1, stride: 1, groups: 1, bias: true };
            Conv::with_shape(declare, &format!("{name}.{layer}"), shape)
        };
        Excitation { se1: layer("se1", channels, squeezed), se2: layer("se2", squeezed, channels) }
    }

    fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let means = x.mean_dim([2i64, 3].as_slice(), true, None);
        let weights = self.se2.forward(pass, &self.se1.forward(pass, &means).silu()).sigmoid();
        x * weights
    }
}
