//! Networks: one file an architecture, and the layers they share.
//!
//! All parameters of a network lie in one flat tensor, in three regions: prunable weights, then the other weights
//! (biases and the classifier), then norm parameters. So the mask is a prefix, norm interpolation touches a suffix,
//! autograd returns one flat gradient, and the optimizer is a few operations whatever the network.

mod layers;
mod resnet;
pub mod weights;

use tch::{Kind, Tensor};

use winsign::run::settings::{Architecture, Problem};

use layers::Pass;
use resnet::ResNet;
pub use weights::Weights;

/// A network's structure: what its tensors are called, where they lie, and how they act on images.
pub struct Network {
    pub layout: Layout,
    layers: ResNet,
}

impl Network {
    pub fn new(problem: Problem) -> Network {
        let (channels, _) = problem.dataset.image_shape();
        let classes = problem.dataset.classes();
        let mut declare = Declare::default();
        let layers = match problem.architecture {
            Architecture::ResNet8 => ResNet::resnet8(&mut declare, channels, classes),
            Architecture::ResNet20 => ResNet::resnet20(&mut declare, channels, classes),
            other => todo!("{other}"),
        };
        Network { layout: Layout::new(declare), layers }
    }

    /// Logits, shape (batch, classes), of `images`, shape (batch, channels, height, width), under flat `parameters` (length [`Layout::parameters`]) and flat `statistics` (length
    /// [`Layout::statistics`]). In training mode BatchNorm normalizes by the batch and moves `statistics` in place.
    pub fn logits(&self, parameters: &Tensor, statistics: &Tensor, mode: Mode, images: &Tensor) -> Tensor {
        let pass = Pass::new(&self.layout, parameters, statistics, mode);
        self.layers.forward(&pass, images)
    }
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

/// One trained tensor.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// As in PyTorch's `state_dict`.
    pub name: String,
    pub shape: Vec<i64>,
    pub role: Role,
    pub init: Init,
    /// First element in the flat tensor.
    pub start: i64,
}

/// One tensor of BatchNorm statistics.
#[derive(Debug, Clone)]
pub struct Statistic {
    pub name: String,
    pub length: i64,
    /// 0 for means, 1 for variances.
    pub fresh: f64,
    pub start: i64,
}

impl Parameter {
    pub fn length(&self) -> i64 {
        self.shape.iter().product()
    }
}

/// Where every tensor of a network lies.
pub struct Layout {
    /// In the order the architecture declares them, which is PyTorch's.
    pub tensors: Vec<Parameter>,
    pub statistics: Vec<Statistic>,
    /// Elements of the three regions of the flat tensor.
    regions: [i64; 3],
    /// Indices into `tensors` in the order of the flat tensor, with the lengths of those: what splits it.
    flat_order: Vec<usize>,
    flat_lengths: Vec<i64>,
}

impl Layout {
    fn new(declared: Declare) -> Layout {
        let Declare { mut tensors, statistics } = declared;
        let mut flat_order: Vec<usize> = (0..tensors.len()).collect();
        flat_order.sort_by_key(|&index| tensors[index].role.region());
        let mut regions = [0; 3];
        let mut start = 0;
        for &index in &flat_order {
            let length = tensors[index].length();
            tensors[index].start = start;
            regions[tensors[index].role.region()] += length;
            start += length;
        }
        let flat_lengths = flat_order.iter().map(|&index| tensors[index].length()).collect();
        Layout { tensors, statistics, regions, flat_order, flat_lengths }
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

    /// Elements of the flat statistics tensor.
    pub fn statistics(&self) -> i64 {
        self.statistics.iter().map(|statistic| statistic.length).sum()
    }

    /// ψ₀, flat: γ = 1 and β = 0; of the length of the last region.
    pub fn norm_init(&self) -> Tensor {
        let norms =
            self.flat_order.iter().map(|&index| &self.tensors[index]).filter(|tensor| tensor.role.region() == 2);
        let parts: Vec<Tensor> = norms
            .map(|tensor| match tensor.init {
                Init::Constant(value) => Tensor::full([tensor.length()], value, (Kind::Float, tch::Device::Cpu)),
                drawn => unreachable!("norm parameter {} is drawn: {drawn:?}", tensor.name),
            })
            .collect();
        Tensor::cat(&parts, 0)
    }

    /// Statistics before any batch: mean 0, variance 1.
    pub fn fresh_statistics(&self) -> Tensor {
        let parts: Vec<Tensor> = (self.statistics.iter())
            .map(|statistic| Tensor::full([statistic.length], statistic.fresh, (Kind::Float, tch::Device::Cpu)))
            .collect();
        Tensor::cat(&parts, 0)
    }
}

/// Collects an architecture's tensors in PyTorch's order while its layers are built.
#[derive(Default)]
pub struct Declare {
    tensors: Vec<Parameter>,
    statistics: Vec<Statistic>,
}

impl Declare {
    fn parameter(&mut self, name: String, shape: &[i64], role: Role, init: Init) -> usize {
        self.tensors.push(Parameter { name, shape: shape.to_vec(), role, init, start: 0 });
        self.tensors.len() - 1
    }

    fn statistic(&mut self, name: String, length: i64, fresh: f64) -> usize {
        let start = self.statistics.last().map_or(0, |last| last.start + last.length);
        self.statistics.push(Statistic { name, length, fresh, start });
        self.statistics.len() - 1
    }
}
