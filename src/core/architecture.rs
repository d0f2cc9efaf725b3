//! The architectures: their names, and the properties that are known without building a network.
//!
//! The list below is the only place outside the trainer that names them all. Sweep files, error messages, the JSON Schema
//! and the tests follow from it; `docs/guides/adding-an-architecture.md` says how to add one.

use crate::settings::Dataset;

/// The properties of an architecture that are known without building a network.
struct Facts {
    images: Images,
    /// True if the units along the axes of the tensors are known, so that two networks can be aligned.
    align: bool,
    /// True if the network has BatchNorm statistics.
    batch_norm: bool,
}

/// The images that an architecture is defined for.
enum Images {
    /// The images of every data set.
    All,
    /// Images of at most 64×64 pixels.
    Small,
    /// Larger images, such as those of ImageNet.
    Large,
}

declared! {
    /// The architecture of a network. Sweep files and the canonical JSON have its name in lower case.
    pub enum Architecture: Facts {
        /// A ResNet with three stages of 8, 16 and 32 channels and one basic block a stage.
        ResNet8 "resnet8" { images: Images::Small, align: true, batch_norm: true }
        /// The CIFAR ResNet with three stages of 16, 32 and 64 channels and three basic blocks a stage.
        ResNet20 "resnet20" { images: Images::Small, align: true, batch_norm: true }
        /// torchvision's ResNet-18; on small images with a first convolution of 3×3, stride 1, and no pooling after it.
        ResNet18 "resnet18" { images: Images::All, align: true, batch_norm: true }
        /// torchvision's ResNet-34, with the same change on small images.
        ResNet34 "resnet34" { images: Images::All, align: true, batch_norm: true }
        /// torchvision's ResNet-50, with the same change on small images.
        ResNet50 "resnet50" { images: Images::All, align: true, batch_norm: true }
        /// torchvision's MobileNetV2; on small images the CIFAR variant.
        MobileNetV2 "mobilenetv2" { images: Images::All, align: true, batch_norm: true }
        /// EfficientNet-B0 for small images.
        EfficientNet "efficientnet" { images: Images::Small, align: false, batch_norm: true }
        /// ShuffleNet v1 with 3 groups, for small images.
        ShuffleNet "shufflenet" { images: Images::Small, align: false, batch_norm: true }
        /// MLP-Mixer with patches of 16 pixels, 512 channels and 12 layers.
        MlpMixer "mlpmixer" { images: Images::Large, align: true, batch_norm: false }
    }
}

impl Architecture {
    /// Returns true if the architecture is defined for the images of a data set.
    pub fn fits(self, dataset: Dataset) -> bool {
        match self.facts().images {
            Images::All => true,
            Images::Small => !dataset.has_large_images(),
            Images::Large => dataset.has_large_images(),
        }
    }

    /// Returns true if the units of two networks can be matched, see [`Align::Weights`](crate::settings::Align::Weights).
    pub fn can_align(self) -> bool {
        self.facts().align
    }

    /// Returns true if the network has BatchNorm statistics, which must be re-estimated for networks on a path.
    pub fn has_batch_norm(self) -> bool {
        self.facts().batch_norm
    }
}
