//! Networks: one file for each architecture or family, and the layers they share.
//!
//! All parameters of a network lie in one flat tensor, in three regions: prunable weights, then the other weights
//! (biases and the classifier), then norm parameters. So the mask applies to a prefix and norm interpolation to a
//! suffix, autograd returns one flat gradient, and the optimizer takes a few operations for any network.

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

/// The structure of a network: the names and places of its tensors, and its layers.
pub struct Network {
    pub layout: Layout,
    layers: Box<dyn Forward>,
    precision: Precision,
}

/// The layers of a network, once their tensors are declared.
trait Forward {
    /// Returns the logits, of shape (batch, classes), of images of shape (batch, channels, height, width).
    fn forward(&self, pass: &Pass, images: &Tensor) -> Tensor;

    /// Returns true if training uses dropout.
    fn drops(&self) -> bool {
        false
    }
}

/// Declares the tensors of an architecture for the images and classes of a data set, in PyTorch's order, and returns the
/// layers that use them.
type Build = fn(&mut Declare, Dataset) -> Box<dyn Forward>;

/// The functions that build the architectures: one line each, in the order of [`Architecture`].
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
        Network::build(build, dataset)
    }

    fn build(build: Build, dataset: Dataset) -> Network {
        let mut declare = Declare::default();
        let layers = build(&mut declare, dataset);
        Network { layout: Layout::new(declare), layers, precision: Precision::Fp32 }
    }

    /// Sets the precision of the computation. Parameters, statistics and logits have 32 bits in every precision. With
    /// parameters of 64 bits, the computation uses 64 bits.
    pub fn with_precision(self, precision: Precision) -> Network {
        Network { precision, ..self }
    }

    /// Returns true if training uses dropout.
    pub fn drops(&self) -> bool {
        self.layers.drops()
    }

    /// Returns the logits, of shape (batch, classes), of `images` of shape (batch, channels, height, width), for flat
    /// `parameters` of length [`Layout::parameters`] and flat `statistics` of length [`Layout::statistics`]. In training mode
    /// BatchNorm normalizes by the batch and updates `statistics` in place. Dropout is not applied.
    pub fn logits(&self, parameters: &Tensor, statistics: &Tensor, mode: Mode, images: &Tensor) -> Tensor {
        self.forward(
            &Pass::new(&self.layout, self.compute_kind(parameters), parameters, statistics, mode, None),
            images,
        )
    }

    /// Returns the logits in training mode, with the dropout of the architecture if it has any: `dropout` has one stream for
    /// each image, from which the layers draw in turn.
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

    /// Returns the kind of numbers of weights and activations.
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

/// Returns the images with the channels of a pixel adjacent in memory. Convolutions keep that order, and are a quarter faster
/// with it on CPUs, and more on GPUs.
fn channels_last(images: &Tensor) -> Tensor {
    images.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// The mode of BatchNorm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// BatchNorm normalizes by the batch, and moves its statistics toward those of the batch by the fraction `momentum`.
    Train { momentum: f64 },
    /// BatchNorm normalizes by its statistics.
    Evaluate,
}

impl Mode {
    /// The mode of training, with PyTorch's default momentum.
    pub const TRAIN: Mode = Mode::Train { momentum: 0.1 };
}

/// The role of a parameter in pruning and transfer. The order of the roles is that of the regions in the flat tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The weight of a convolution, or of a linear layer other than the classifier.
    Prunable,
    /// A bias, or the weight of the classifier.
    Other,
    /// The scale γ of a normalization layer.
    NormScale,
    /// The shift β of a normalization layer.
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

/// The distribution of the initial values of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// A constant, such as ψ₀ of a norm parameter.
    Constant(f64),
    /// The uniform distribution on ±bound. PyTorch's default for linear layers has the bound 1/√fan_in.
    Uniform { bound: f64 },
    /// The normal distribution with mean 0. That of Kaiming He et al. (2015) for ReLU networks has the deviation √(2/fan_out).
    Normal { deviation: f64 },
}

impl Init {
    /// Returns PyTorch's default for weights and biases of linear layers and convolutions.
    fn default_for(fan_in: i64) -> Init {
        Init::Uniform { bound: 1.0 / (fan_in as f64).sqrt() }
    }
}

/// The initialization of the convolutions of an architecture.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum ConvInit {
    /// PyTorch's default.
    #[default]
    Default,
    /// The normal distribution of Kaiming He et al., as in the models of torchvision.
    KaimingNormal,
}

/// One trained tensor.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// The name in PyTorch's `state_dict`.
    pub name: String,
    pub shape: Vec<i64>,
    /// The units along each axis.
    pub axes: Vec<Units>,
    pub role: Role,
    pub init: Init,
    /// True if no layer uses the tensor: it is pruned like the others, and never trained.
    pub idle: bool,
    /// The index of its first element in the flat tensor.
    pub start: i64,
}

/// One tensor of BatchNorm statistics.
#[derive(Debug, Clone)]
pub struct Statistic {
    pub name: String,
    pub length: i64,
    pub axis: Units,
    /// The initial value: 0 for means, 1 for variances.
    pub fresh: f64,
    pub start: i64,
}

impl Parameter {
    /// Returns the groups of units along the axes of the tensor.
    pub fn groups(&self) -> impl Iterator<Item = usize> {
        self.axes.iter().filter_map(|units| units.group)
    }

    /// Returns the axis of the units of a group, if there is one.
    pub fn axis_of(&self, group: usize) -> Option<i64> {
        self.axes.iter().position(|units| units.group == Some(group)).map(|axis| axis as i64)
    }

    /// Returns the number of elements.
    pub fn length(&self) -> i64 {
        self.shape.iter().product()
    }
}

/// The places of all tensors of a network.
pub struct Layout {
    /// The names of all tensors, including statistics, in the order of PyTorch's `state_dict`. The golden test compares them.
    #[allow(dead_code)]
    pub names: Vec<String>,
    /// The trained tensors, in the order in which the architecture declares them, which is that of PyTorch.
    pub tensors: Vec<Parameter>,
    pub statistics: Vec<Statistic>,
    /// The number of units in each group that can be reordered, see [`Units`].
    pub groups: Vec<i64>,
    /// The lengths of the three regions of the flat tensor.
    regions: [i64; 3],
    /// The lengths of the idle tensors at its two ends.
    idle: [i64; 2],
    /// The indices into `tensors` in the order of the flat tensor, and the lengths of these tensors.
    flat_order: Vec<usize>,
    flat_lengths: Vec<i64>,
}

impl Layout {
    fn new(declared: Declare) -> Layout {
        let Declare { names, mut tensors, statistics, groups, .. } = declared;
        let mut flat_order: Vec<usize> = (0..tensors.len()).collect();
        // Idle tensors are at the two ends, so that the trained ones form one range.
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

    /// Returns the length of the flat tensor of parameters.
    pub fn parameters(&self) -> i64 {
        self.regions.iter().sum()
    }

    /// Returns the number of prunable elements, which come first in the flat tensor.
    pub fn prunable(&self) -> i64 {
        self.regions[0]
    }

    /// Returns the number of elements of φ, all weights outside of normalization layers, which come first in the flat tensor.
    pub fn weights(&self) -> i64 {
        self.regions[0] + self.regions[1]
    }

    /// Returns the part of a flat tensor that is trained: all but the idle tensors.
    pub fn trained(&self, flat: &Tensor) -> Tensor {
        flat.narrow(0, self.idle[0], self.parameters() - self.idle[0] - self.idle[1])
    }

    /// Returns the length of the flat tensor of statistics.
    pub fn statistics(&self) -> i64 {
        self.statistics.iter().map(|statistic| statistic.length).sum()
    }

    /// Returns ψ₀ as a flat tensor on the CPU, with the length of the last region: γ = 1 and β = 0. It is empty for a network
    /// without norm layers.
    pub fn norm_init(&self, kind: Kind) -> Tensor {
        let norms =
            self.flat_order.iter().map(|&index| &self.tensors[index]).filter(|tensor| tensor.role.region() == 2);
        let parts: Vec<Tensor> = norms
            .map(|tensor| match tensor.init {
                Init::Constant(value) => Tensor::full([tensor.length()], value, (kind, Device::Cpu)),
                drawn => unreachable!("norm parameter {} is drawn: {drawn:?}", tensor.name),
            })
            .collect();
        if parts.is_empty() { Tensor::zeros([0], (kind, Device::Cpu)) } else { Tensor::cat(&parts, 0) }
    }

    /// Returns the statistics before the first batch, with means 0 and variances 1, on the CPU.
    pub fn fresh_statistics(&self, kind: Kind) -> Tensor {
        let parts: Vec<Tensor> = (self.statistics.iter())
            .map(|statistic| Tensor::full([statistic.length], statistic.fresh, (kind, Device::Cpu)))
            .collect();
        // A network without BatchNorm has none.
        if parts.is_empty() { Tensor::zeros([0], (kind, Device::Cpu)) } else { Tensor::cat(&parts, 0) }
    }
}

/// Collects the tensors of an architecture, in the order of PyTorch, while its layers are built.
#[derive(Default)]
struct Declare {
    convolutions: ConvInit,
    /// True while tensors are declared that no layer uses.
    idle: bool,
    names: Vec<String>,
    tensors: Vec<Parameter>,
    statistics: Vec<Statistic>,
    groups: Vec<i64>,
}

impl Declare {
    /// Declares a new group of units that can be reordered.
    fn units(&mut self, count: i64) -> Units {
        self.groups.push(count);
        Units { count, group: Some(self.groups.len() - 1) }
    }

    fn parameter(&mut self, name: String, axes: &[Units], role: Role, init: Init) -> usize {
        assert!(!self.idle || role != Role::Other, "idle tensors must be at an end of the flat tensor: {name}");
        self.names.push(name.clone());
        let (shape, axes) = (axes.iter().map(|units| units.count).collect(), axes.to_vec());
        let parameter = Parameter { name, shape, axes, role, init, idle: self.idle, start: 0 };
        let groups: HashSet<usize> = parameter.groups().collect();
        assert!(
            groups.len() == parameter.groups().count(),
            "two axes of {} have the same group of units",
            parameter.name
        );
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

    const PAGE: &str = include_str!("../../../docs/guides/adding-an-architecture.md");

    #[test]
    fn properties_of_architectures_agree_with_their_networks() {
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
        assert!(
            PAGE.contains(include_str!("example.rs")),
            "docs/guides/adding-an-architecture.md differs from example.rs"
        );
        let network =
            Network::build(|declare, dataset| Box::new(example::Conv4::new(declare, dataset)), Dataset::Cifar100);
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
