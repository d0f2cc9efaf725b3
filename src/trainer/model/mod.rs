//! Networks: one file an architecture, and the layers they share.
//!
//! All parameters of a network lie in one flat tensor, in three regions: prunable weights, then the other weights
//! (biases and the classifier), then norm parameters. So the mask is a prefix, norm interpolation touches a suffix,
//! autograd returns one flat gradient, and the optimizer is a few operations whatever the network.

mod efficientnet;
#[cfg(test)]
mod example;
pub mod exchange;
mod layers;
mod mlpmixer;
mod mobilenetv2;
mod resnet;
mod shufflenet;
pub mod units;
pub mod weights;

use std::cell::RefCell;
use std::collections::HashSet;

use tch::{Device, Kind, Tensor};
use winsign_core::random::Stream;
use winsign_core::settings::{Architecture, Dataset, Precision, Problem};

use layers::Pass;
use units::Units;

pub use weights::Weights;

/// A network's structure: what its tensors are called, where they lie, and how they act on images.
pub struct Network {
    pub layout: Layout,
    layers: Box<dyn Forward>,
    precision: Precision,
}

/// The layers of a network, once their tensors are declared.
trait Forward {
    /// Logits, shape (batch, classes), of images, shape (batch, channels, height, width).
    fn forward(&self, pass: &Pass, images: &Tensor) -> Tensor;

    /// Whether training drops anything out.
    fn drops(&self) -> bool {
        false
    }
}

/// Declares the tensors of an architecture for the images and classes of a data set, in PyTorch's order, and returns the
/// layers that use them.
type Build = fn(&mut Declare, Dataset) -> Box<dyn Forward>;

/// The code of every architecture: one line each, in the order of [`Architecture`].
const REGISTRY: &[(Architecture, Build)] = &[
    (Architecture::ResNet8, |declare, dataset| Box::new(resnet::ResNet::resnet8(declare, dataset))),
    (Architecture::ResNet20, |declare, dataset| Box::new(resnet::ResNet::resnet20(declare, dataset))),
    (Architecture::ResNet18, |declare, dataset| Box::new(resnet::ResNet::resnet18(declare, dataset))),
    (Architecture::ResNet34, |declare, dataset| Box::new(resnet::ResNet::resnet34(declare, dataset))),
    (Architecture::ResNet50, |declare, dataset| Box::new(resnet::ResNet::resnet50(declare, dataset))),
    (Architecture::MobileNetV2, |declare, dataset| Box::new(mobilenetv2::MobileNetV2::new(declare, dataset))),
    (Architecture::EfficientNet, |declare, dataset| Box::new(efficientnet::EfficientNet::new(declare, dataset))),
    (Architecture::ShuffleNet, |declare, dataset| Box::new(shufflenet::ShuffleNet::new(declare, dataset))),
    (Architecture::MlpMixer, |declare, dataset| Box::new(mlpmixer::MlpMixer::new(declare, dataset))),
];

winsign_core::assert_complete!(REGISTRY, Architecture);

impl Network {
    pub fn new(Problem { dataset, architecture, .. }: Problem) -> Network {
        let (_, build) = REGISTRY[architecture as usize];
        Network::built_by(build, dataset)
    }

    fn built_by(build: Build, dataset: Dataset) -> Network {
        let mut declare = Declare::default();
        let layers = build(&mut declare, dataset);
        Network { layout: Layout::new(declare), layers, precision: Precision::Fp32 }
    }

    /// The same network, computing in another precision. Whatever that is, parameters, statistics and logits are what they
    /// are in 32 bits, and who calls with 64 bits computes in those.
    pub fn computing_in(self, precision: Precision) -> Network {
        Network { precision, ..self }
    }

    /// Whether training draws what to drop out.
    pub fn drops(&self) -> bool {
        self.layers.drops()
    }

    /// Logits, shape (batch, classes), of `images`, shape (batch, channels, height, width), under flat `parameters`
    /// (length [`Layout::parameters`]) and flat `statistics` (length [`Layout::statistics`]). In training mode BatchNorm
    /// normalizes by the batch and moves `statistics` in place. Nothing is dropped out.
    pub fn logits(&self, parameters: &Tensor, statistics: &Tensor, mode: Mode, images: &Tensor) -> Tensor {
        self.forward(
            &Pass::new(&self.layout, self.compute_kind(parameters), parameters, statistics, mode, None),
            images,
        )
    }

    /// The same in training mode, with the dropout of the architecture if it has any: `dropout` has one stream for each
    /// image, from which the layers draw in turn.
    pub fn training_logits(
        &self,
        parameters: &Tensor,
        statistics: &Tensor,
        images: &Tensor,
        dropout: Option<Vec<Stream>>,
    ) -> Tensor {
        let dropout = dropout.map(RefCell::new);
        let kind = self.compute_kind(parameters);
        self.forward(&Pass::new(&self.layout, kind, parameters, statistics, Mode::TRAIN, dropout.as_ref()), images)
    }

    /// The kind of numbers that weights and activations have.
    fn compute_kind(&self, parameters: &Tensor) -> Kind {
        match (self.precision, parameters.kind()) {
            (Precision::Bf16, Kind::Float) => Kind::BFloat16,
            (_, kind) => kind,
        }
    }

    fn forward(&self, pass: &Pass, images: &Tensor) -> Tensor {
        let logits = self.layers.forward(pass, &channels_last(&images.to_kind(pass.kind)));
        if pass.kind == Kind::BFloat16 { logits.to_kind(Kind::Float) } else { logits }
    }
}

/// The same images with the channels of a pixel side by side in memory. Convolutions keep that order, and are a quarter
/// faster in it on CPUs, more on GPUs.
fn channels_last(images: &Tensor) -> Tensor {
    images.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// BatchNorm normalizes by the batch, and moves its statistics toward the batch's by the fraction `momentum`.
    Train { momentum: f64 },
    /// BatchNorm normalizes by its statistics.
    Evaluate,
}

impl Mode {
    /// As PyTorch trains by default.
    pub const TRAIN: Mode = Mode::Train { momentum: 0.1 };
}

/// What a parameter is to pruning and transfer; also the order of the regions in the flat tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Weight of a convolution, or of a linear layer other than the classifier.
    Prunable,
    /// Bias, or weight of the classifier.
    Other,
    /// γ of a normalization layer.
    NormScale,
    /// β of a normalization layer.
    NormShift,
}

impl Role {
    fn region(self) -> usize {
        match self {
            Role::Prunable => 0,
            Role::Other => 1,
            Role::NormScale | Role::NormShift => 2,
        }
    }
}

/// How the values of a fresh tensor are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// ψ₀ of a norm parameter.
    Constant(f64),
    /// In ±bound; PyTorch's default for linear layers has the bound 1/√fan_in.
    Uniform { bound: f64 },
    /// With mean 0; Kaiming's (He et al., 2015) for ReLU networks has the deviation √(2/fan_out).
    Normal { deviation: f64 },
}

impl Init {
    /// PyTorch's default for linear layers and convolutions, for weights and biases alike.
    fn of_linear(fan_in: i64) -> Init {
        Init::Uniform { bound: 1.0 / (fan_in as f64).sqrt() }
    }
}

/// How an architecture's convolutions are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum ConvInit {
    /// As PyTorch does where nothing is said.
    #[default]
    Default,
    /// As torchvision's models do.
    KaimingNormal,
}

/// One trained tensor.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// As in PyTorch's `state_dict`.
    pub name: String,
    pub shape: Vec<i64>,
    /// What lies along each axis.
    pub axes: Vec<Units>,
    pub role: Role,
    pub init: Init,
    /// Declared, but no layer uses it: it is pruned like the others, and never trained.
    pub idle: bool,
    /// First element in the flat tensor.
    pub start: i64,
}

/// One tensor of BatchNorm statistics.
#[derive(Debug, Clone)]
pub struct Statistic {
    pub name: String,
    pub length: i64,
    pub axis: Units,
    /// 0 for means, 1 for variances.
    pub fresh: f64,
    pub start: i64,
}

impl Parameter {
    /// The groups of units that lie along its axes.
    pub fn groups(&self) -> impl Iterator<Item = usize> {
        self.axes.iter().filter_map(|units| units.group)
    }

    /// The axis that the units of a group lie along, if any.
    pub fn axis_of(&self, group: usize) -> Option<i64> {
        self.axes.iter().position(|units| units.group == Some(group)).map(|axis| axis as i64)
    }

    pub fn length(&self) -> i64 {
        self.shape.iter().product()
    }
}

/// Where every tensor of a network lies.
pub struct Layout {
    /// The names of all tensors, statistics too, in the order of PyTorch's `state_dict`; the golden test compares them.
    #[allow(dead_code)]
    pub names: Vec<String>,
    /// In the order the architecture declares them, which is PyTorch's.
    pub tensors: Vec<Parameter>,
    pub statistics: Vec<Statistic>,
    /// The groups of units that can be reordered, see [`Units`]: how many each has.
    pub groups: Vec<i64>,
    /// Elements of the three regions of the flat tensor.
    regions: [i64; 3],
    /// Elements of idle tensors at its two ends.
    idle: [i64; 2],
    /// Indices into `tensors` in the order of the flat tensor, with the lengths of those: what splits it.
    flat_order: Vec<usize>,
    flat_lengths: Vec<i64>,
}

impl Layout {
    fn new(declared: Declare) -> Layout {
        let Declare { names, mut tensors, statistics, groups, .. } = declared;
        let mut flat_order: Vec<usize> = (0..tensors.len()).collect();
        // Idle tensors lie at the two ends, so that what is trained is one range.
        flat_order.sort_by_key(|&index| {
            let Parameter { role, idle, .. } = tensors[index];
            (role.region(), if role == Role::Prunable { !idle } else { idle })
        });
        let idle_length = |prunable: bool| {
            let idle = tensors.iter().filter(|tensor| tensor.idle && (tensor.role == Role::Prunable) == prunable);
            idle.map(Parameter::length).sum::<i64>()
        };
        let idle = [idle_length(true), idle_length(false)];
        let mut regions = [0; 3];
        let mut start = 0;
        for &index in &flat_order {
            let length = tensors[index].length();
            tensors[index].start = start;
            regions[tensors[index].role.region()] += length;
            start += length;
        }
        let flat_lengths = flat_order.iter().map(|&index| tensors[index].length()).collect();
        Layout { names, tensors, statistics, groups, regions, idle, flat_order, flat_lengths }
    }

    /// Elements of the flat parameter tensor.
    pub fn parameters(&self) -> i64 {
        self.regions.iter().sum()
    }

    /// Prunable elements: the first so many of the flat tensor.
    pub fn prunable(&self) -> i64 {
        self.regions[0]
    }

    /// Elements of φ, all weights outside normalization layers: the first so many of the flat tensor.
    pub fn weights(&self) -> i64 {
        self.regions[0] + self.regions[1]
    }

    /// The part of a flat tensor that training moves: all but what is idle.
    pub fn trained(&self, flat: &Tensor) -> Tensor {
        flat.narrow(0, self.idle[0], self.parameters() - self.idle[0] - self.idle[1])
    }

    /// Elements of the flat statistics tensor.
    pub fn statistics(&self) -> i64 {
        self.statistics.iter().map(|statistic| statistic.length).sum()
    }

    /// ψ₀, flat: γ = 1 and β = 0; of the length of the last region, on the CPU.
    pub fn norm_init(&self, kind: Kind) -> Tensor {
        let norms =
            self.flat_order.iter().map(|&index| &self.tensors[index]).filter(|tensor| tensor.role.region() == 2);
        let parts: Vec<Tensor> = norms
            .map(|tensor| match tensor.init {
                Init::Constant(value) => Tensor::full([tensor.length()], value, (kind, Device::Cpu)),
                drawn => unreachable!("norm parameter {} is drawn: {drawn:?}", tensor.name),
            })
            .collect();
        Tensor::cat(&parts, 0)
    }

    /// Statistics before any batch: mean 0, variance 1. On the CPU.
    pub fn fresh_statistics(&self, kind: Kind) -> Tensor {
        let parts: Vec<Tensor> = (self.statistics.iter())
            .map(|statistic| Tensor::full([statistic.length], statistic.fresh, (kind, Device::Cpu)))
            .collect();
        // A network without BatchNorm has none.
        if parts.is_empty() { Tensor::zeros([0], (kind, Device::Cpu)) } else { Tensor::cat(&parts, 0) }
    }
}

/// Collects an architecture's tensors in PyTorch's order while its layers are built.
#[derive(Default)]
struct Declare {
    convolutions: ConvInit,
    /// Whether what is declared now is of no use to the network.
    idle: bool,
    names: Vec<String>,
    tensors: Vec<Parameter>,
    statistics: Vec<Statistic>,
    groups: Vec<i64>,
}

impl Declare {
    /// Units of a group of their own.
    fn units(&mut self, count: i64) -> Units {
        self.groups.push(count);
        Units { count, group: Some(self.groups.len() - 1) }
    }

    fn parameter(&mut self, name: String, axes: &[Units], role: Role, init: Init) -> usize {
        assert!(!self.idle || role != Role::Other, "what is idle lies at an end of the flat tensor: {name}");
        self.names.push(name.clone());
        let (shape, axes) = (axes.iter().map(|units| units.count).collect(), axes.to_vec());
        let parameter = Parameter { name, shape, axes, role, init, idle: self.idle, start: 0 };
        let groups: HashSet<usize> = parameter.groups().collect();
        assert!(groups.len() == parameter.groups().count(), "a group lies along two axes of {}", parameter.name);
        self.tensors.push(parameter);
        self.tensors.len() - 1
    }

    fn statistic(&mut self, name: String, axis: Units, fresh: f64) -> usize {
        self.names.push(name.clone());
        let start = self.statistics.last().map_or(0, |last| last.start + last.length);
        self.statistics.push(Statistic { name, length: axis.count, axis, fresh, start });
        self.statistics.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    const PAGE: &str = include_str!("../../../docs/adding-an-architecture.md");

    #[test]
    fn facts_of_architectures_agree_with_their_networks() {
        for &(architecture, _) in REGISTRY {
            for &dataset in Dataset::VARIANTS.iter().filter(|&&dataset| architecture.fits(dataset)) {
                let layout = Network::new(Problem::new(dataset, architecture)).layout;
                assert_eq!(!layout.groups.is_empty(), architecture.can_align(), "{architecture} on {dataset}");
                assert_eq!(!layout.statistics.is_empty(), architecture.has_batch_norm(), "{architecture} on {dataset}");
            }
        }
    }

    #[test]
    fn documented_architecture_computes_logits_in_any_order_of_units() {
        assert!(PAGE.contains(include_str!("example.rs")), "docs/adding-an-architecture.md differs from example.rs");
        let network =
            Network::built_by(|declare, dataset| Box::new(example::Conv4::new(declare, dataset)), Dataset::Cifar100);
        let weights = units::tests::random(&network.layout, 1);
        let shuffled = units::tests::shuffled(&network.layout, &weights, 2);
        let images = Tensor::rand([2, 3, 32, 32], (Kind::Double, Device::Cpu));
        let [logits, reordered] = [&weights, &shuffled].map(|weights| {
            let [parameters, statistics] =
                [&weights.parameters, &weights.statistics].map(|flat| flat.to_kind(Kind::Double));
            network.logits(&parameters, &statistics, Mode::Evaluate, &images)
        });
        assert_eq!(logits.size(), [2, 100]);
        assert!(logits.allclose(&reordered, 1e-8, 1e-10, false));
    }
}
