//! MobileNetV2 (Sandler et al., 2018): torchvision's network for ImageNet, and the widely used variant for small images,
//! which halves its input less often and has convolutions in shortcuts that change the number of channels.

use tch::Tensor;
use winsign_core::settings::Dataset;

use super::layers::{Classifier, ConvNorm, ConvShape, Pass, global_mean};
use super::{ConvInit, Declare, Forward, Init, Units};

/// The groups of blocks: expansion, number of channels, number of blocks, and the strides of the first block for ImageNet and
/// for small images.
const GROUPS: [(i64, i64, i64, [i64; 2]); 7] = [
    (1, 16, 1, [1, 1]),
    (6, 24, 2, [2, 1]),
    (6, 32, 3, [2, 2]),
    (6, 64, 4, [2, 2]),
    (6, 96, 3, [1, 1]),
    (6, 160, 3, [2, 2]),
    (6, 320, 1, [1, 1]),
];
/// The number of channels before the first block.
const STEM: i64 = 32;
/// The number of channels before the classifier.
const LAST: i64 = 1280;

pub(super) struct MobileNetV2 {
    stem: ConvNorm,
    blocks: Vec<InvertedResidual>,
    last: ConvNorm,
    classifier: Classifier,
    /// True if activations are clipped at 6, as in torchvision.
    clipped: bool,
}

impl MobileNetV2 {
    pub(super) fn new(declare: &mut Declare, dataset: Dataset) -> MobileNetV2 {
        if dataset.has_large_images() {
            MobileNetV2::large(declare, dataset)
        } else {
            MobileNetV2::small(declare, dataset)
        }
    }

    /// Builds torchvision's network.
    fn large(declare: &mut Declare, dataset: Dataset) -> MobileNetV2 {
        declare.convolutions = ConvInit::KaimingNormal;
        let (channels, _) = dataset.image_shape();
        let mut inputs = declare.units(STEM);
        let stem = ConvNorm::new(declare, ["features.0.0", "features.0.1"], spatial(channels.into(), inputs, 2, 1));
        let mut blocks = vec![];
        for (index, BlockShape { expansion, channels, stride }) in (1..).zip(block_shapes(0)) {
            let block = format!("features.{index}.conv");
            let hidden = if expansion == 1 { inputs } else { declare.units(inputs.count * expansion) };
            // With a shortcut the outputs are added to the inputs, so they are the same units.
            let same = stride == 1 && inputs.count == channels;
            let outputs = if same { inputs } else { declare.units(channels) };
            // Without an expansion the first layer is missing, and the numbers of the others are lower by one.
            let first = if expansion == 1 { 0 } else { 1 };
            let expand = (expansion != 1).then(|| {
                let names = [format!("{block}.0.0"), format!("{block}.0.1")];
                ConvNorm::new(declare, [&names[0], &names[1]], pointwise(inputs, hidden))
            });
            let names = [format!("{block}.{first}.0"), format!("{block}.{first}.1")];
            let depthwise =
                ConvNorm::new(declare, [&names[0], &names[1]], spatial(hidden, hidden, stride, hidden.count));
            let names = [format!("{block}.{}", first + 1), format!("{block}.{}", first + 2)];
            let project = ConvNorm::new(declare, [&names[0], &names[1]], pointwise(hidden, outputs));
            let shortcut = if same { Shortcut::Identity } else { Shortcut::None };
            blocks.push(InvertedResidual { expand, depthwise, project, shortcut });
            inputs = outputs;
        }
        let outputs = declare.units(LAST);
        let last = ConvNorm::new(declare, ["features.18.0", "features.18.1"], pointwise(inputs, outputs));
        let init = [Init::Normal { deviation: 0.01 }, Init::Constant(0.0)];
        let classifier = Classifier::with_init(declare, "classifier.1", [outputs, dataset.classes().into()], init);
        MobileNetV2 { stem, blocks, last, classifier, clipped: true }
    }

    /// Builds the variant for small images.
    fn small(declare: &mut Declare, dataset: Dataset) -> MobileNetV2 {
        let (channels, _) = dataset.image_shape();
        let mut inputs = declare.units(STEM);
        let stem = ConvNorm::new(declare, ["conv1", "bn1"], spatial(channels.into(), inputs, 1, 1));
        let mut blocks = vec![];
        for (index, BlockShape { expansion, channels, stride }) in block_shapes(1).enumerate() {
            let hidden = declare.units(inputs.count * expansion);
            let same = stride == 1 && inputs.count == channels;
            let outputs = if same { inputs } else { declare.units(channels) };
            let mut layer = |[conv, norm]: [&str; 2], shape| {
                let names = [format!("layers.{index}.{conv}"), format!("layers.{index}.{norm}")];
                ConvNorm::new(declare, [&names[0], &names[1]], shape)
            };
            blocks.push(InvertedResidual {
                expand: Some(layer(["conv1", "bn1"], pointwise(inputs, hidden))),
                depthwise: layer(["conv2", "bn2"], spatial(hidden, hidden, stride, hidden.count)),
                project: layer(["conv3", "bn3"], pointwise(hidden, outputs)),
                shortcut: match stride {
                    1 if same => Shortcut::Identity,
                    1 => Shortcut::Conv(layer(["shortcut.0", "shortcut.1"], pointwise(inputs, outputs))),
                    _ => Shortcut::None,
                },
            });
            inputs = outputs;
        }
        let outputs = declare.units(LAST);
        let last = ConvNorm::new(declare, ["conv2", "bn2"], pointwise(inputs, outputs));
        let classifier = Classifier::new(declare, "linear", outputs, dataset.classes());
        MobileNetV2 { stem, blocks, last, classifier, clipped: false }
    }

    fn activate(&self, mut x: Tensor) -> Tensor {
        if self.clipped { x.relu6_() } else { x.relu_() }
    }
}

impl Forward for MobileNetV2 {
    fn forward(&self, pass: &Pass, images: &Tensor) -> Tensor {
        let mut x = self.activate(self.stem.forward(pass, images));
        for block in &self.blocks {
            x = block.forward(pass, &x, |x| self.activate(x));
        }
        let x = self.activate(self.last.forward(pass, &x));
        self.classifier.forward(pass, &global_mean(&x))
    }
}

/// The shape of one block.
struct BlockShape {
    expansion: i64,
    /// The number of output channels.
    channels: i64,
    stride: i64,
}

/// Returns the shapes of all blocks in order; `variant` is the index of their strides in [`GROUPS`].
fn block_shapes(variant: usize) -> impl Iterator<Item = BlockShape> {
    GROUPS.into_iter().flat_map(|group| (0..group.2).map(move |block| (group, block))).map(
        move |((expansion, channels, _, strides), block)| {
            let stride = if block == 0 { strides[variant] } else { 1 };
            BlockShape { expansion, channels, stride }
        },
    )
}

struct InvertedResidual {
    expand: Option<ConvNorm>,
    depthwise: ConvNorm,
    project: ConvNorm,
    shortcut: Shortcut,
}

enum Shortcut {
    None,
    Identity,
    Conv(ConvNorm),
}

impl InvertedResidual {
    fn forward(&self, pass: &Pass, x: &Tensor, activate: impl Fn(Tensor) -> Tensor) -> Tensor {
        let inner = match &self.expand {
            Some(expand) => activate(expand.forward(pass, x)),
            None => x.shallow_clone(),
        };
        let inner = activate(self.depthwise.forward(pass, &inner));
        let inner = self.project.forward(pass, &inner);
        match &self.shortcut {
            Shortcut::None => inner,
            Shortcut::Identity => inner + x,
            Shortcut::Conv(conv) => inner + conv.forward(pass, x),
        }
    }
}

fn pointwise(inputs: Units, outputs: Units) -> ConvShape {
    ConvShape { inputs, outputs, kernel: 1, stride: 1, groups: 1, bias: false }
}

fn spatial(inputs: Units, outputs: Units, stride: i64, groups: i64) -> ConvShape {
    ConvShape { inputs, outputs, kernel: 3, stride, groups, bias: false }
}
