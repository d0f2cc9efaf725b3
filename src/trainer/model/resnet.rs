//! ResNets (He et al., 2016): the CIFAR family of section 4.2, with 1×1 convolutions in shortcuts that change the shape, and
//! the ImageNet family of table 1 as in torchvision, where the 3×3 convolution of a bottleneck has the stride.

use tch::Tensor;
use winsign_core::settings::Dataset;

use super::layers::{Classifier, ConvNorm, ConvShape, Pass, global_mean};
use super::{ConvInit, Declare, Forward, Units};

pub(super) struct ResNet {
    stem: ConvNorm,
    /// True if the first convolution is pooled. Images of 64 pixels or fewer are too small to be halved twice before the first
    /// block.
    has_pooling: bool,
    blocks: Vec<Block>,
    fc: Classifier,
}

/// A stage: the width inside its blocks, and the number of blocks. All stages but the first halve the image.
type Stage = (i64, usize);

impl ResNet {
    pub(super) fn resnet8(declare: &mut Declare, dataset: Dataset) -> ResNet {
        ResNet::new(declare, dataset, BlockKind::Basic, &[(8, 1), (16, 1), (32, 1)])
    }

    pub(super) fn resnet20(declare: &mut Declare, dataset: Dataset) -> ResNet {
        ResNet::new(declare, dataset, BlockKind::Basic, &[(16, 3), (32, 3), (64, 3)])
    }

    pub(super) fn resnet18(declare: &mut Declare, dataset: Dataset) -> ResNet {
        ResNet::new(declare, dataset, BlockKind::Basic, &[(64, 2), (128, 2), (256, 2), (512, 2)])
    }

    pub(super) fn resnet34(declare: &mut Declare, dataset: Dataset) -> ResNet {
        ResNet::new(declare, dataset, BlockKind::Basic, &[(64, 3), (128, 4), (256, 6), (512, 3)])
    }

    pub(super) fn resnet50(declare: &mut Declare, dataset: Dataset) -> ResNet {
        ResNet::new(declare, dataset, BlockKind::Bottleneck, &[(64, 3), (128, 4), (256, 6), (512, 3)])
    }

    fn new(declare: &mut Declare, dataset: Dataset, kind: BlockKind, stages: &[Stage]) -> ResNet {
        declare.convolutions = ConvInit::KaimingNormal;
        let large = dataset.has_large_images();
        let (kernel, stride) = if large { (7, 2) } else { (3, 1) };
        let (channels, _) = dataset.image_shape();
        let mut inputs = declare.units(stages[0].0);
        let stem = ConvShape { inputs: channels.into(), outputs: inputs, kernel, stride, groups: 1, bias: false };
        let stem = ConvNorm::new(declare, ["conv1", "bn1"], stem);

        let mut blocks = vec![];
        for (stage, &(width, count)) in (1..).zip(stages) {
            for block in 0..count {
                let stride = if stage > 1 && block == 0 { 2 } else { 1 };
                let output_width = width * kind.expansion();
                // Without a convolution in the shortcut, outputs are added to the inputs, so they are the same units.
                let same = stride == 1 && inputs.count == output_width;
                let outputs = if same { inputs } else { declare.units(output_width) };
                let name = format!("layer{stage}.{block}");
                blocks.push(Block::new(declare, &name, kind, [inputs, outputs], width, stride));
                inputs = outputs;
            }
        }
        ResNet { stem, has_pooling: large, blocks, fc: Classifier::new(declare, "fc", inputs, dataset.classes()) }
    }
}

impl Forward for ResNet {
    fn forward(&self, pass: &Pass, images: &Tensor) -> Tensor {
        let mut x = self.stem.forward(pass, images).relu_();
        if self.has_pooling {
            x = x.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false);
        }
        for block in &self.blocks {
            x = block.forward(pass, &x);
        }
        self.fc.forward(pass, &global_mean(&x))
    }
}

/// The kind of a block.
#[derive(Clone, Copy)]
enum BlockKind {
    /// Two convolutions of 3×3.
    Basic,
    /// Convolutions of 1×1, 3×3 and 1×1, the last to four times as many channels.
    Bottleneck,
}

impl BlockKind {
    /// Returns the width of a block's output, relative to the width inside it.
    fn expansion(self) -> i64 {
        match self {
            BlockKind::Basic => 1,
            BlockKind::Bottleneck => 4,
        }
    }
}

struct Block {
    layers: Vec<ConvNorm>,
    downsample: Option<ConvNorm>,
}

impl Block {
    fn new(
        declare: &mut Declare,
        name: &str,
        kind: BlockKind,
        [inputs, outputs]: [Units; 2],
        width: i64,
        stride: i64,
    ) -> Block {
        // The kernel, stride and outputs of each convolution.
        let convolutions = match kind {
            BlockKind::Basic => vec![(3, stride, declare.units(width)), (3, 1, outputs)],
            BlockKind::Bottleneck => {
                vec![(1, 1, declare.units(width)), (3, stride, declare.units(width)), (1, 1, outputs)]
            }
        };
        let mut layer = |conv: String, norm: String, inputs, (kernel, stride, outputs)| {
            let shape = ConvShape { inputs, outputs, kernel, stride, groups: 1, bias: false };
            ConvNorm::new(declare, [&format!("{name}.{conv}"), &format!("{name}.{norm}")], shape)
        };
        let mut layers = vec![];
        let mut layer_inputs = inputs;
        for (number, shape) in (1..).zip(convolutions) {
            layers.push(layer(format!("conv{number}"), format!("bn{number}"), layer_inputs, shape));
            layer_inputs = shape.2;
        }
        let downsample = (inputs != outputs)
            .then(|| layer("downsample.0".to_string(), "downsample.1".to_string(), inputs, (1, stride, outputs)));
        Block { layers, downsample }
    }

    fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let (last, others) = self.layers.split_last().expect("a block has layers");
        let mut inner = x.shallow_clone();
        for layer in others {
            inner = layer.forward(pass, &inner).relu_();
        }
        let inner = last.forward(pass, &inner);
        let shortcut = match &self.downsample {
            Some(downsample) => downsample.forward(pass, x),
            None => x.shallow_clone(),
        };
        (inner + shortcut).relu_()
    }
}
