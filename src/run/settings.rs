//! The kinds of runs and every setting that can change a result.
//!
//! These types are the vocabulary of the field (ticket, level, signed mask, seed, ...). Their canonical JSON is hashed
//! into a run's identity, so a field belongs here exactly if it can change the numbers; how and where a run is
//! executed (threads, host, retries) does not.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray, VariantNames};

/// Runs side by side on one machine, at most.
pub const MAX_JOBS: u32 = 4_096;
/// Threads of one run, at most.
pub const MAX_THREADS: u32 = 1_024;

/// The three kinds of runs.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    VariantNames,
    VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Kind {
    Ticket,
    Transfer,
    Connect,
}

/// What one run computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Settings {
    Ticket(Ticket),
    Transfer(Transfer),
    Connect(Connect),
}

impl Settings {
    pub fn kind(&self) -> Kind {
        match self {
            Settings::Ticket(_) => Kind::Ticket,
            Settings::Transfer(_) => Kind::Transfer,
            Settings::Connect(_) => Kind::Connect,
        }
    }

    pub fn problem(&self) -> Problem {
        match self {
            Settings::Ticket(ticket) => ticket.problem,
            Settings::Transfer(transfer) => transfer.problem,
            Settings::Connect(connect) => connect.problem,
        }
    }
}

/// One level of one chain of iterative pruning. Level 0 is the dense network after warm-up; level t needs level t − 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ticket {
    #[serde(flatten)]
    pub problem: Problem,
    pub method: Method,
    pub level: u32,
    /// The fraction of surviving weights removed on entering this level, in (0, 1); none at level 0.
    pub prune_ratio: Option<f64>,
    pub training: Training,
    pub seeds: Seeds,
}

/// What a ticket carries over to a fresh initialization, and the training that follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    #[serde(flatten)]
    pub problem: Problem,
    pub inherit: Inherit,
    pub training: Training,
    pub seeds: Seeds,
}

/// The error along the straight path between two networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connect {
    #[serde(flatten)]
    pub problem: Problem,
    pub between: Between,
    /// Evenly spaced points on the path, both ends included; at least 2.
    pub points: u32,
    /// Images per batch while BatchNorm statistics are re-estimated.
    pub batch: u32,
}

/// What is learned by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Problem {
    pub dataset: Dataset,
    pub architecture: Architecture,
}

#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    VariantNames,
    VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Dataset {
    /// 1,797 handwritten digits of 8×8 pixels, built into the worker.
    Digits,
    Cifar10,
    Cifar100,
    /// Tiny-ImageNet-200.
    TinyImagenet,
    /// The classification task of ILSVRC 2012.
    Imagenet,
}

impl Dataset {
    /// Shape of one image as networks see it: (channels, height and width).
    pub fn image_shape(self) -> (i64, i64) {
        match self {
            Dataset::Digits => (1, 8),
            Dataset::Cifar10 | Dataset::Cifar100 => (3, 32),
            Dataset::TinyImagenet => (3, 64),
            Dataset::Imagenet => (3, 224),
        }
    }

    pub fn classes(self) -> i64 {
        match self {
            Dataset::Digits | Dataset::Cifar10 => 10,
            Dataset::Cifar100 => 100,
            Dataset::TinyImagenet => 200,
            Dataset::Imagenet => 1_000,
        }
    }
}

#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    VariantNames,
    VariantArray,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Architecture {
    /// Three stages of 8, 16 and 32 channels with one basic block each.
    ResNet8,
    /// The CIFAR ResNet of 16, 32 and 64 channels with three basic blocks a stage.
    ResNet20,
    /// torchvision's; on small images with a first convolution of 3×3, stride 1, and no pooling after it.
    ResNet50,
    /// torchvision's on ImageNet; on small images the CIFAR variant.
    MobileNetV2,
    /// EfficientNet-B0 for small images.
    EfficientNet,
    /// ShuffleNet v1 with 3 groups, for small images.
    ShuffleNet,
    /// MLP-Mixer with patches of 16, 512 channels and 12 layers, for ImageNet.
    MlpMixer,
}

impl Architecture {
    /// Whether the architecture is defined for the images of a data set.
    pub fn fits(self, dataset: Dataset) -> bool {
        match self {
            Architecture::ResNet50 | Architecture::MobileNetV2 => true,
            Architecture::MlpMixer => dataset == Dataset::Imagenet,
            Architecture::ResNet8 | Architecture::ResNet20 | Architecture::EfficientNet | Architecture::ShuffleNet => {
                dataset != Dataset::Imagenet
            }
        }
    }
}

/// How a ticket is found.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    VariantNames,
    VariantArray,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Method {
    /// Learning rate rewinding: prune, keep the weights, train on.
    Lrr,
    /// A winning sign: the same, with norm parameters interpolated toward their initialization in every batch.
    Aws,
}

/// What is transferred from a ticket to a fresh initialization.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    VariantNames,
    VariantArray,
)]
pub enum Inherit {
    /// The signed mask.
    #[serde(rename = "sign")]
    #[strum(serialize = "sign")]
    Sign,
    /// The mask alone.
    #[serde(rename = "mask")]
    #[strum(serialize = "mask")]
    Mask,
    /// The signed mask, and the norm parameters.
    #[serde(rename = "sign+norm")]
    #[strum(serialize = "sign+norm")]
    SignNorm,
    /// Everything: the ticket itself is trained on.
    #[serde(rename = "retrain")]
    #[strum(serialize = "retrain")]
    Retrain,
}

/// Which two networks a path joins.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    VariantNames,
    VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Between {
    /// Two transfers that differ in nothing but their seeds.
    Seeds,
    /// A ticket, and the same ticket with its norm parameters set to their initialization ψ₀.
    NormInit,
}

/// How weights are trained within one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Training {
    pub epochs: u32,
    /// Images per step over all ranks.
    pub batch: u32,
    /// Left out of the canonical JSON where it is SGD, the only one there was when identities began.
    #[serde(default, skip_serializing_if = "Optimizer::is_sgd")]
    pub optimizer: Optimizer,
    pub lr: f64,
    /// Momentum of SGD, β₁ of Adam.
    pub momentum: f64,
    pub weight_decay: f64,
    pub schedule: Schedule,
}

/// How gradients move weights; both as in PyTorch, with weight decay added to the gradient.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Default,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    VariantNames,
    VariantArray,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Optimizer {
    #[default]
    Sgd,
    /// With β₂ = 0.999 and ε = 1e-8.
    Adam,
}

impl Optimizer {
    fn is_sgd(&self) -> bool {
        *self == Optimizer::Sgd
    }
}

/// The learning rate over the epochs of a run; it changes between epochs only.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    VariantNames,
    VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Schedule {
    Constant,
    /// A tenth after half of the epochs, a hundredth after three quarters.
    MultiStep,
    /// Half a cosine from lr down to lr / 1000.
    Cosine,
}

/// Three independent sources of chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seeds {
    /// Of the initial weights.
    pub init: u64,
    /// Of the order of the training images and of their augmentation.
    pub order: u64,
    /// Of α, the norm interpolation of AWS.
    pub alpha: u64,
}

impl From<u64> for Seeds {
    fn from(seed: u64) -> Seeds {
        Seeds { init: seed, order: seed, alpha: seed }
    }
}
