//! Four convolutions of 3×3 with BatchNorm, for small images.

use tch::Tensor;
use winsign_core::settings::Dataset;

use super::layers::{Classifier, ConvNorm, ConvShape, Pass, global_mean};
use super::{Declare, Forward};

/// Width and stride of each convolution.
const LAYERS: [(i64, i64); 4] = [(16, 1), (32, 2), (32, 1), (64, 2)];

pub(super) struct Conv4 {
    layers: Vec<ConvNorm>,
    fc: Classifier,
}

impl Conv4 {
    pub(super) fn new(declare: &mut Declare, dataset: Dataset) -> Conv4 {
        let (channels, _) = dataset.image_shape();
        let mut inputs = channels.into();
        let mut layers = vec![];
        for (index, (width, stride)) in LAYERS.into_iter().enumerate() {
            let outputs = declare.units(width);
            let names = [format!("layers.{index}.conv"), format!("layers.{index}.norm")];
            let shape = ConvShape { inputs, outputs, kernel: 3, stride, groups: 1, bias: false };
            layers.push(ConvNorm::new(declare, [&names[0], &names[1]], shape));
            inputs = outputs;
        }
        Conv4 { layers, fc: Classifier::new(declare, "fc", inputs, dataset.classes()) }
    }
}

impl Forward for Conv4 {
    fn forward(&self, pass: &Pass, images: &Tensor) -> Tensor {
        let mut x = images.shallow_clone();
        for layer in &self.layers {
            x = layer.forward(pass, &x).relu_();
        }
        self.fc.forward(pass, &global_mean(&x))
    }
}
