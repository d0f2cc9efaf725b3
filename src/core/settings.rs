//! The kinds of runs and every setting that can change a result.
//!
//! These types are the vocabulary of the field (ticket, level, signed mask, seed, ...). Their canonical JSON is hashed
//! into a run's identity, so a field belongs here exactly if it can change the numbers; how and where a run is
//! executed (threads, host, retries) does not.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use strum::{Display, EnumString, VariantArray, VariantNames};

pub use crate::architecture::Architecture;

/// Runs side by side on one machine, at most.
pub const MAX_JOBS: u32 = 4_096;
/// Threads of one run, at most.
pub const MAX_THREADS: u32 = 1_024;
/// Ranks of one run, at most.
pub const MAX_RANKS: u32 = 4_096;
/// GPUs of one rank, at most.
pub const MAX_GPUS: u32 = 1_024;

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
    Import(Import),
    Transfer(Transfer),
    Connect(Connect),
    Matrix(Matrix),
    Plane(Plane),
}

impl Settings {
    pub fn kind(&self) -> Kind {
        match self {
            Settings::Ticket(_) | Settings::Import(_) => Kind::Ticket,
            Settings::Transfer(_) => Kind::Transfer,
            Settings::Connect(_) | Settings::Matrix(_) | Settings::Plane(_) => Kind::Connect,
        }
    }

    /// Every setting by its name, those too that the canonical JSON leaves out where they are as they were for all when
    /// identities began. For people: identities are of the canonical JSON.
    pub fn in_full(&self) -> Value {
        let mut all = serde_json::to_value(self).expect("settings are plain data");
        let mut fill = |place: &str, defaults: Value| {
            let (Some(Value::Object(found)), Value::Object(defaults)) = (all.pointer_mut(place), defaults) else {
                return;
            };
            for (name, value) in defaults {
                found.entry(name).or_insert(value);
            }
        };
        let of_paths = json!({ "masks": Masks::default(), "reestimation_batches": "all", "sets": Sets::default(),
                               "precision": Precision::default() });
        match self {
            Settings::Import(_) => {}
            Settings::Ticket(_) | Settings::Transfer(_) => {
                let optimizer = Optimizer::default();
                fill("/training", json!({ "optimizer": optimizer, "precision": Precision::default() }));
                if let Settings::Transfer(_) = self {
                    fill("", json!({ "flip": 0.0 }));
                }
            }
            Settings::Connect(_) | Settings::Matrix(_) => {
                fill("", of_paths);
                fill("", json!({ "refine": 0, "align": Align::default() }));
            }
            Settings::Plane(_) => fill("", of_paths),
        }
        all
    }

    /// What the run computes in.
    pub fn precision(&self) -> Precision {
        match self {
            Settings::Ticket(ticket) => ticket.training.precision,
            Settings::Import(_) => Precision::Fp32,
            Settings::Transfer(transfer) => transfer.training.precision,
            Settings::Connect(connect) => connect.precision,
            Settings::Matrix(matrix) => matrix.path.precision,
            Settings::Plane(plane) => plane.precision,
        }
    }

    pub fn problem(&self) -> Problem {
        match self {
            Settings::Ticket(ticket) => ticket.problem,
            Settings::Import(import) => import.problem,
            Settings::Transfer(transfer) => transfer.problem,
            Settings::Connect(connect) => connect.problem,
            Settings::Matrix(matrix) => matrix.path.problem,
            Settings::Plane(plane) => plane.problem,
        }
    }
}

/// One level of one chain. Level 0 is the dense network after warm-up. At level t there are as many survivors as t
/// prunings leave; how they are chosen, and from where they are trained, is the method's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ticket {
    #[serde(flatten)]
    pub problem: Problem,
    pub method: Method,
    pub level: u32,
    /// The fraction of surviving weights removed from one level to the next, in (0, 1); none at level 0.
    pub prune_ratio: Option<f64>,
    /// The epoch of level 0 that weights are put back to after the pruning, 0 being the initialization; of IMP above
    /// level 0 alone. Left out of the canonical JSON elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewind_epoch: Option<u32>,
    pub training: Training,
    pub seeds: Seeds,
}

/// A ticket that was found elsewhere: nothing is trained, it is checked and evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Import {
    #[serde(flatten)]
    pub problem: Problem,
    pub digest: Digest,
}

/// A digest of tensors, see [`super::tensors`]: 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub u128);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::str::FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Digest, String> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| digits);
        number.map(Digest).ok_or_else(|| format!("'{text}' is not a digest (32 hexadecimal digits)"))
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Digest, String> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// What a ticket carries over to a fresh initialization, and the training that follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    #[serde(flatten)]
    pub problem: Problem,
    pub inherit: Inherit,
    /// The fraction of the signed mask's signs that are flipped in each layer, in [0, 1]; 0 unless [`Inherit::has_signs`].
    /// Left out of the canonical JSON where it is 0, as it was for all when identities began.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub flip: f64,
    pub training: Training,
    pub seeds: Seeds,
}

/// The error along the straight path between two networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connect {
    #[serde(flatten)]
    pub problem: Problem,
    pub between: Between,
    /// Left out of the canonical JSON where it is the same mask, the only choice there was when identities began.
    #[serde(default, skip_serializing_if = "Masks::is_same")]
    pub masks: Masks,
    /// Evenly spaced points on the path, both ends included; at least 2.
    pub points: u32,
    /// How often two more points are put beside the one with the largest test error, each halfway to its neighbour. Left
    /// out of the canonical JSON where it is 0, as it was for all when identities began.
    #[serde(default, skip_serializing_if = "is_none_of_it")]
    pub refine: u32,
    /// Images per batch while BatchNorm statistics are re-estimated.
    pub batch: u32,
    /// How many such batches; none for a full pass over the training images, the only choice there was when identities
    /// began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reestimation_batches: Option<u32>,
    /// What errors are measured on. Left out of the canonical JSON where it is test images alone, the only choice there was
    /// when identities began.
    #[serde(default, skip_serializing_if = "Sets::is_test")]
    pub sets: Sets,
    /// Left out of the canonical JSON where networks are joined as they are.
    #[serde(default, skip_serializing_if = "Align::is_none")]
    pub align: Align,
    /// Left out of the canonical JSON where it is fp32, the only one there was when identities began.
    #[serde(default, skip_serializing_if = "Precision::is_fp32")]
    pub precision: Precision,
}

/// The errors along the paths between many networks, each loaded once: a block of a barrier matrix. The inputs are `rows`
/// networks and then those of the columns; without columns, every pair of the rows is joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// What each path is.
    #[serde(flatten)]
    pub path: Connect,
    pub rows: u32,
}

impl Matrix {
    /// The places among so many inputs of the two ends of every path, row after row.
    pub fn ends(&self, inputs: u32) -> impl Iterator<Item = (u32, u32)> + use<> {
        let rows = self.rows;
        (0..rows).flat_map(move |row| {
            let columns = if rows < inputs { rows..inputs } else { row + 1..rows };
            columns.map(move |column| (row, column))
        })
    }

    /// How many paths these are.
    pub fn pairs(&self, inputs: u32) -> usize {
        self.ends(inputs).count()
    }
}

/// The errors on a grid of the plane through three networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plane {
    #[serde(flatten)]
    pub problem: Problem,
    #[serde(default, skip_serializing_if = "Masks::is_same")]
    pub masks: Masks,
    /// Evenly spaced points of each side of the grid; at least 2.
    pub points: u32,
    /// How far the grid goes beyond the networks on every side, as a part of their extent.
    pub margin: f64,
    /// Images per batch while BatchNorm statistics are re-estimated.
    pub batch: u32,
    /// As of [`Connect`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reestimation_batches: Option<u32>,
    #[serde(default, skip_serializing_if = "Sets::is_test")]
    pub sets: Sets,
    #[serde(default, skip_serializing_if = "Precision::is_fp32")]
    pub precision: Precision,
}

/// What is learned by what, and with which arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Problem {
    pub dataset: Dataset,
    pub architecture: Architecture,
    /// Left out of the canonical JSON where it is native, the only one there was when identities began.
    #[serde(default, skip_serializing_if = "Numerics::is_native")]
    pub numerics: Numerics,
}

impl Problem {
    /// A problem with native numerics.
    pub const fn new(dataset: Dataset, architecture: Architecture) -> Problem {
        Problem { dataset, architecture, numerics: Numerics::Native }
    }
}

/// Which instructions floating-point operations use, and so in which order sums are added up.
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
pub enum Numerics {
    /// The fastest instructions of the processor. Another kind of processor gives other last bits.
    #[default]
    Native,
    /// The instructions that every x86-64 processor with AVX2 and FMA has, and no others: the same bits on all of them.
    Portable,
}

impl Numerics {
    fn is_native(&self) -> bool {
        *self == Numerics::Native
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
    /// Iterative magnitude pruning with rewinding (Frankle and Carbin, 2019; Frankle et al., 2020): prune, put
    /// everything back to the initialization or to an early epoch, train again.
    Imp,
    /// A mask found at initialization, by the effect of each weight on the loss (Lee et al., 2019); then trained. Every
    /// level is a network of its own.
    Snip,
    /// A mask found at initialization without data, by the flow through each weight (Tanaka et al., 2020); then trained.
    /// Every level is a network of its own.
    SynFlow,
    /// Found elsewhere. Its only level is 1, however often it was pruned.
    Imported,
}

impl Method {
    /// Whether a level starts from the one before it, rather than from the initialization alone.
    pub fn is_iterative(self) -> bool {
        match self {
            Method::Lrr | Method::Aws | Method::Imp => true,
            Method::Snip | Method::SynFlow | Method::Imported => false,
        }
    }
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
    /// Nothing: the fresh initialization itself is trained, dense.
    #[serde(rename = "dense")]
    #[strum(serialize = "dense")]
    Dense,
    /// How many weights survive in each layer; which ones is drawn.
    #[serde(rename = "random-mask")]
    #[strum(serialize = "random-mask")]
    RandomMask,
    /// How many weights survive in all; how many in each layer follows from its shape (ERK), which ones is drawn.
    #[serde(rename = "random-mask-erk")]
    #[strum(serialize = "random-mask-erk")]
    RandomMaskErk,
    /// The mask, and how many signs of each kind there are in each layer; which weight has which is drawn.
    #[serde(rename = "random-sign")]
    #[strum(serialize = "random-sign")]
    RandomSign,
}

impl Inherit {
    /// Whether there is a ticket to inherit from.
    pub fn needs_ticket(self) -> bool {
        self != Inherit::Dense
    }

    /// Whether the ticket's signs are inherited, some of which may be flipped.
    pub fn has_signs(self) -> bool {
        matches!(self, Inherit::Sign | Inherit::SignNorm)
    }

    /// Whether the mask is drawn, so that transfers of different initialization seeds have different masks.
    pub fn draws_mask(self) -> bool {
        matches!(self, Inherit::RandomMask | Inherit::RandomMaskErk)
    }
}

/// Which networks are joined.
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
    /// A transfer, and the same ticket trained on (`retrain`), trained alike with the same order of images.
    Retrain,
    /// A ticket, and the one of the level before it.
    Levels,
    /// Tickets of one level that differ in anything: method, seeds, settings.
    Tickets,
    /// Three transfers that differ in nothing but their seeds: the plane through them.
    Plane,
}

impl Between {
    /// Whether transfers are joined, rather than tickets.
    pub fn joins_transfers(self) -> bool {
        match self {
            Between::Seeds | Between::Retrain | Between::Plane => true,
            Between::NormInit | Between::Levels | Between::Tickets => false,
        }
    }
}

/// What may be joined.
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
pub enum Masks {
    /// Networks of one mask.
    #[default]
    Same,
    /// Any two networks: on the path, weights that survive in either may differ from zero.
    Union,
}

impl Masks {
    fn is_same(&self) -> bool {
        *self == Masks::Same
    }
}

/// What errors along a path are measured on.
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
pub enum Sets {
    /// Test images, and training images as they are, without augmentation.
    Both,
    /// Test images alone.
    #[default]
    Test,
}

impl Sets {
    fn is_test(&self) -> bool {
        *self == Sets::Test
    }
}

/// How the units of two networks are brought into the same order before they are joined.
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
pub enum Align {
    /// Not at all.
    #[default]
    None,
    /// By matching weights, layer by layer (Ainsworth et al., "Git Re-Basin", ICLR 2023).
    Weights,
}

impl Align {
    fn is_none(&self) -> bool {
        *self == Align::None
    }
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
    /// Left out of the canonical JSON where it is fp32, the only one there was when identities began.
    #[serde(default, skip_serializing_if = "Precision::is_fp32")]
    pub precision: Precision,
}

/// In what numbers networks compute. Parameters, statistics, sums of the loss and what the optimizer remembers have 32
/// bits in any case.
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
pub enum Precision {
    /// 32 bits.
    #[default]
    Fp32,
    /// 32 bits, of which products take 19 into account; on GPUs of NVIDIA alone.
    Tf32,
    /// Weights and activations in bfloat16, 16 bits with the range of 32.
    Bf16,
}

impl Precision {
    fn is_fp32(&self) -> bool {
        *self == Precision::Fp32
    }
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

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

fn is_none_of_it(number: &u32) -> bool {
    *number == 0
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

#[cfg(test)]
mod tests {
    use super::*;

    const PROBLEM: Problem = Problem::new(Dataset::Digits, Architecture::ResNet8);

    fn names(value: &Value) -> Vec<String> {
        let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    }

    /// What is left out of the canonical JSON is there in full, whatever it is.
    #[test]
    fn settings_in_full_have_all_names() {
        let plain = Connect {
            problem: PROBLEM,
            between: Between::Seeds,
            masks: Masks::default(),
            points: 11,
            refine: 0,
            batch: 64,
            reestimation_batches: None,
            sets: Sets::default(),
            align: Align::default(),
            precision: Precision::default(),
        };
        let other = Connect {
            masks: Masks::Union,
            refine: 2,
            reestimation_batches: Some(3),
            sets: Sets::Both,
            align: Align::Weights,
            precision: Precision::Bf16,
            ..plain.clone()
        };
        let in_full = |path: &Connect| Settings::Connect(path.clone()).in_full();
        assert_eq!(names(&in_full(&plain)), names(&in_full(&other)));
        assert_eq!(in_full(&other), serde_json::to_value(Settings::Connect(other.clone())).unwrap());
        let said = in_full(&plain);
        assert_eq!((&said["sets"], &said["align"], &said["masks"]), (&json!("test"), &json!("none"), &json!("same")));
        assert_eq!((&said["refine"], &said["reestimation_batches"]), (&json!(0), &json!("all")));
        let matrix = Settings::Matrix(Matrix { path: plain, rows: 2 }).in_full();
        assert_eq!(matrix["align"], "none");

        let training = Training {
            epochs: 1,
            batch: 64,
            optimizer: Optimizer::Sgd,
            lr: 0.1,
            momentum: 0.9,
            weight_decay: 0.0,
            schedule: Schedule::Constant,
            precision: Precision::Fp32,
        };
        let seeds = Seeds::from(1);
        let transfer = Transfer { problem: PROBLEM, inherit: Inherit::Sign, flip: 0.0, training, seeds };
        let said = Settings::Transfer(transfer).in_full();
        assert_eq!((&said["flip"], &said["training"]["optimizer"]), (&json!(0.0), &json!("sgd")));
        assert_eq!(said["training"]["precision"], "fp32");
    }
}
