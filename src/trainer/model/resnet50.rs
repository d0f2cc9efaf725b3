//! ResNet-50 (He et al., 2016) as in torchvision: bottleneck blocks with the stride in their 3×3 convolution.

use tch::Tensor;
use winsign_core::settings::Dataset;

use super::layers::{Classifier, ConvNorm, ConvShape, Pass, global_mean};
use super::{ConvInit, Declare, Forward, Units};

/// Of each stage: the width inside its blocks, how many blocks, and the stride of the first.
const STAGES: [(i64, i64, i64); 4] = [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)];
/// A block's output is so many times as wide as its inside.
const EXPANSION: i64 = 4;

pub(super) struct ResNet50 {
    stem: ConvNorm,
    /// Images of 32 and 64 pixels are too small to be halved twice before the first block.
    pooled: bool,
    blocks: Vec<Bottleneck>,
    fc: Classifier,
}

impl ResNet50 {
    pub(super) fn new(declare: &mut Declare, dataset: Dataset) -> ResNet50 {
        declare.convolutions = ConvInit::KaimingNormal;
        let large = dataset == Dataset::Imagenet;
        let (kernel, stride) = if large { (7, 2) } else { (3, 1) };
        let (channels, _) = dataset.image_shape();
        let mut inputs = declare.units(64);
        let stem = ConvShape { inputs: channels.into(), outputs: inputs, kernel, stride, groups: 1, bias: false };
        let stem = ConvNorm::new(declare, ["conv1", "bn1"], stem);

        let mut blocks = vec![];
        for (stage, (width, count, stride)) in (1..).zip(STAGES) {
            for block in 0..count {
                let stride = if block == 0 { stride } else { 1 };
                // Outputs are added to the inputs, channel by channel, unless a shortcut makes others of these.
                let same = stride == 1 && inputs.count == width * EXPANSION;
                let outputs = if same { inputs } else { declare.units(width * EXPANSION) };
                let inner = [declare.units(width), declare.units(width)];
                let name = format!("layer{stage}.{block}");
                blocks.push(Bottleneck::new(declare, &name, inputs, inner, outputs, stride));
                inputs = outputs;
            }
        }
        ResNet50 { stem, pooled: large, blocks, fc: Classifier::new(declare, "fc", inputs, dataset.classes()) }
    }
}

impl Forward for ResNet50 {
    fn forward(&self, pass: &Pass, images: &Tensor) -> Tensor {
        let mut x = self.stem.forward(pass, images).relu_();
        if self.pooled {
            x = x.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false);
        }
        for block in &self.blocks {
            x = block.forward(pass, &x);
        }
        self.fc.forward(pass, &global_mean(&x))
    }
}

struct Bottleneck {
    reduce: ConvNorm,
    spatial: ConvNorm,
    expand: ConvNorm,
    downsample: Option<ConvNorm>,
}

impl Bottleneck {
    fn new(
        declare: &mut Declare,
        name: &str,
        inputs: Units,
        [reduced, spatial]: [Units; 2],
        outputs: Units,
        stride: i64,
    ) -> Bottleneck {
        let mut layer = |[conv, norm]: [&str; 2], inputs, outputs, kernel, stride| {
            let names = [format!("{name}.{conv}"), format!("{name}.{norm}")];
            let shape = ConvShape { inputs, outputs, kernel, stride, groups: 1, bias: false };
            ConvNorm::new(declare, [&names[0], &names[1]], shape)
        };
        Bottleneck {
            reduce: layer(["conv1", "bn1"], inputs, reduced, 1, 1),
            spatial: layer(["conv2", "bn2"], reduced, spatial, 3, stride),
            expand: layer(["conv3", "bn3"], spatial, outputs, 1, 1),
            downsample: (inputs != outputs)
                .then(|| layer(["downsample.0", "downsample.1"], inputs, outputs, 1, stride)),
        }
    }

    fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let inner = self.reduce.forward(pass, x).relu_();
        let inner = self.spatial.forward(pass, &inner).relu_();
        let inner = self.expand.forward(pass, &inner);
        let shortcut = match &self.downsample {
            Some(downsample) => downsample.forward(pass, x),
            None => x.shallow_clone(),
        };
        (inner + shortcut).relu_()
    }
}
