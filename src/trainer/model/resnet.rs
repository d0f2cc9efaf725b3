//! The CIFAR family of ResNets (He et al., 2016, section 4.2), with 1×1 convolutions where a shortcut changes shape.

use tch::Tensor;
use winsign_core::settings::Dataset;

use super::layers::{BatchNorm, Classifier, Conv, Pass, global_mean};
use super::{ConvInit, Declare, Forward, Units};

pub(super) struct ResNet {
    conv1: Conv,
    bn1: BatchNorm,
    blocks: Vec<BasicBlock>,
    fc: Classifier,
}

impl ResNet {
    pub(super) fn resnet8(declare: &mut Declare, dataset: Dataset) -> ResNet {
        ResNet::new(declare, dataset, [8, 16, 32], 1)
    }

    pub(super) fn resnet20(declare: &mut Declare, dataset: Dataset) -> ResNet {
        ResNet::new(declare, dataset, [16, 32, 64], 3)
    }

    fn new(declare: &mut Declare, dataset: Dataset, widths: [i64; 3], blocks_per_stage: i64) -> ResNet {
        declare.convolutions = ConvInit::KaimingNormal;
        let (channels, _) = dataset.image_shape();
        let mut inputs = declare.units(widths[0]);
        let conv1 = Conv::new(declare, "conv1", channels, inputs, 3, 1);
        let bn1 = BatchNorm::new(declare, "bn1", inputs);
        let mut blocks = vec![];
        for (stage, width) in (1..).zip(widths) {
            for block in 0..blocks_per_stage {
                let stride = if stage > 1 && block == 0 { 2 } else { 1 };
                // Outputs are added to the inputs, channel by channel, unless a shortcut makes others of these.
                let same = stride == 1 && inputs.count == width;
                let outputs = if same { inputs } else { declare.units(width) };
                blocks.push(BasicBlock::new(declare, &format!("layer{stage}.{block}"), inputs, outputs, stride));
                inputs = outputs;
            }
        }
        ResNet { conv1, bn1, blocks, fc: Classifier::new(declare, "fc", inputs, dataset.classes()) }
    }
}

impl Forward for ResNet {
    fn forward(&self, pass: &Pass, images: &Tensor) -> Tensor {
        let mut x = self.bn1.forward(pass, &self.conv1.forward(pass, images)).relu_();
        for block in &self.blocks {
            x = block.forward(pass, &x);
        }
        self.fc.forward(pass, &global_mean(&x))
    }
}

struct BasicBlock {
    conv1: Conv,
    bn1: BatchNorm,
    conv2: Conv,
    bn2: BatchNorm,
    downsample: Option<(Conv, BatchNorm)>,
}

impl BasicBlock {
    fn new(declare: &mut Declare, name: &str, inputs: Units, outputs: Units, stride: i64) -> BasicBlock {
        let inner = declare.units(outputs.count);
        BasicBlock {
            conv1: Conv::new(declare, &format!("{name}.conv1"), inputs, inner, 3, stride),
            bn1: BatchNorm::new(declare, &format!("{name}.bn1"), inner),
            conv2: Conv::new(declare, &format!("{name}.conv2"), inner, outputs, 3, 1),
            bn2: BatchNorm::new(declare, &format!("{name}.bn2"), outputs),
            downsample: (inputs != outputs).then(|| {
                let conv = Conv::new(declare, &format!("{name}.downsample.0"), inputs, outputs, 1, stride);
                (conv, BatchNorm::new(declare, &format!("{name}.downsample.1"), outputs))
            }),
        }
    }

    fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let inner = self.bn1.forward(pass, &self.conv1.forward(pass, x)).relu_();
        let inner = self.bn2.forward(pass, &self.conv2.forward(pass, &inner));
        let shortcut = match &self.downsample {
            Some((conv, norm)) => norm.forward(pass, &conv.forward(pass, x)),
            None => x.shallow_clone(),
        };
        (inner + shortcut).relu_()
    }
}
