//! MLP-Mixer (Tolstikhin et al., 2021) with patches of 16 pixels, 512 channels and 12 layers. Tensors are named by the
//! numbers that PyTorch gives to the parts of a sequence: 0 divides an image into patches, 1 embeds them, and 2 to 13 are
//! the layers.

use tch::Tensor;
use winsign_core::settings::Dataset;

use super::layers::{Classifier, LayerNorm, Linear, Pass, Pointwise};
use super::{Declare, Forward, Units};

/// The side of a patch in pixels.
const PATCH: i64 = 16;
/// The number of channels.
const WIDTH: i64 = 512;
/// The number of layers.
const DEPTH: i64 = 12;

pub(super) struct MlpMixer {
    embed: Linear,
    layers: Vec<Layer>,
    norm: LayerNorm,
    classifier: Classifier,
}

impl MlpMixer {
    pub(super) fn new(declare: &mut Declare, dataset: Dataset) -> MlpMixer {
        let (channels, side) = dataset.image_shape();
        let patches = (side / PATCH) * (side / PATCH);
        // Every layer adds to the same channels.
        let width = declare.units(WIDTH);
        MlpMixer {
            embed: Linear::new(declare, "1", (PATCH * PATCH * channels).into(), width),
            layers: (2..DEPTH + 2).map(|index| Layer::new(declare, &index.to_string(), patches, width)).collect(),
            norm: LayerNorm::new(declare, &(DEPTH + 2).to_string(), width),
            classifier: Classifier::new(declare, &(DEPTH + 4).to_string(), width, dataset.classes()),
        }
    }
}

impl Forward for MlpMixer {
    fn forward(&self, pass: &Pass, images: &Tensor) -> Tensor {
        let mut x = self.embed.forward(pass, &cut_patches(images));
        for layer in &self.layers {
            x = layer.forward(pass, &x);
        }
        let x = self.norm.forward(pass, &x).mean_dim(1, false, None);
        self.classifier.forward(pass, &x)
    }
}

/// Divides images into patches: converts shape (batch, channels, height, width) to (batch, patches, pixels and channels of a
/// patch).
fn cut_patches(images: &Tensor) -> Tensor {
    let (batch, channels, height, width) = images.size4().expect("images have four dimensions");
    let (rows, columns) = (height / PATCH, width / PATCH);
    images.view([batch, channels, rows, PATCH, columns, PATCH]).permute([0, 2, 4, 3, 5, 1]).reshape([
        batch,
        rows * columns,
        PATCH * PATCH * channels,
    ])
}

/// A layer that mixes patches, then channels. Each step normalizes its inputs, and adds the result to them.
struct Layer {
    patches: (Pointwise, Pointwise),
    patch_norm: LayerNorm,
    channels: (Linear, Linear),
    channel_norm: LayerNorm,
}

impl Layer {
    fn new(declare: &mut Declare, name: &str, patches: i64, width: Units) -> Layer {
        // There are four times as many hidden patches, and half as many hidden channels.
        let (hidden_patches, hidden_channels) = (declare.units(patches * 4), declare.units(WIDTH / 2));
        let patches = Units::from(patches);
        Layer {
            patches: (
                Pointwise::new(declare, &format!("{name}.0.fn.0"), patches, hidden_patches),
                Pointwise::new(declare, &format!("{name}.0.fn.3"), hidden_patches, patches),
            ),
            patch_norm: LayerNorm::new(declare, &format!("{name}.0.norm"), width),
            channels: (
                Linear::new(declare, &format!("{name}.1.fn.0"), width, hidden_channels),
                Linear::new(declare, &format!("{name}.1.fn.3"), hidden_channels, width),
            ),
            channel_norm: LayerNorm::new(declare, &format!("{name}.1.norm"), width),
        }
    }

    fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let (widen, narrow) = &self.patches;
        let inner = widen.forward(pass, &self.patch_norm.forward(pass, x)).gelu("none");
        let x = narrow.forward(pass, &inner) + x;
        let (squeeze, restore) = &self.channels;
        let inner = squeeze.forward(pass, &self.channel_norm.forward(pass, &x)).gelu("none");
        restore.forward(pass, &inner) + x
    }
}
