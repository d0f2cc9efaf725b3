//! The kinds of runs, and every setting that can change a result.
//!
//! The canonical JSON of these types is hashed into the identity of a run. So a setting belongs here exactly if it can
//! change the numbers; how and where a run is executed (threads, host, retries) does not.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use crate::architecture::Architecture;
pub use crate::dataset::Dataset;
pub use crate::inherit::Inherit;

/// The maximum number of runs that one machine executes at the same time.
pub const MAX_JOBS: u32 = 4_096;
/// The maximum number of threads of one run.
pub const MAX_THREADS: u32 = 1_024;
/// The maximum number of ranks of one run.
pub const MAX_RANKS: u32 = 4_096;
/// The maximum number of GPUs of one rank.
pub const MAX_GPUS: u32 = 1_024;

words! {
    /// The three kinds of runs.
    #[serde(rename_all = "kebab-case")]
    #[strum(serialize_all = "kebab-case")]
    pub enum Kind {
        Ticket,
        Transfer,
        Connect,
    }
}

/// The settings of one run.
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
    /// Returns the kind of the run.
    pub fn kind(&self) -> Kind {
        match self {
            Settings::Ticket(_) | Settings::Import(_) => Kind::Ticket,
            Settings::Transfer(_) => Kind::Transfer,
            Settings::Connect(_) | Settings::Matrix(_) | Settings::Plane(_) => Kind::Connect,
        }
    }

    /// Returns every setting by its name, including those that the canonical JSON leaves out because they have the
    /// value that was implied before the setting existed. For display only: identities are derived from the canonical
    /// JSON.
    pub fn in_full(&self) -> Value {
        let mut all = serde_json::to_value(self).expect("settings are plain data");
        let path_defaults = json!({ "masks": Masks::default(), "reestimation_batches": "all", "sets": Sets::default(),
                                    "precision": Precision::default() });
        match self {
            Settings::Import(_) => {}
            Settings::Ticket(_) | Settings::Transfer(_) => {
                let optimizer = Optimizer::default();
                let defaults = json!({ "optimizer": optimizer, "precision": Precision::default() });
                fill_in(&mut all["training"], defaults);
                if let Settings::Transfer(_) = self {
                    fill_in(&mut all, json!({ "flip": 0.0 }));
                }
            }
            Settings::Connect(_) | Settings::Matrix(_) => {
                fill_in(&mut all, path_defaults);
                fill_in(&mut all, json!({ "refine": 0, "align": Align::default() }));
            }
            Settings::Plane(_) => fill_in(&mut all, path_defaults),
        }
        all
    }

    /// Returns the floating-point precision of the run.
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

    /// Returns the data set, the architecture and the numerics of the run.
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

/// Adds the defaults whose names an object lacks.
fn fill_in(object: &mut Value, defaults: Value) {
    if let (Value::Object(found), Value::Object(defaults)) = (object, defaults) {
        for (name, value) in defaults {
            found.entry(name).or_insert(value);
        }
    }
}

/// One level of one chain. Level 0 is the dense network after warm-up. At level t the number of survivors is what t
/// prunings leave; the method decides which weights survive, and from which values they are trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ticket {
    #[serde(flatten)]
    pub problem: Problem,
    pub method: Method,
    pub level: u32,
    /// The fraction of surviving weights that is removed from one level to the next, in (0, 1); `None` at level 0.
    pub prune_ratio: Option<f64>,
    /// The epoch of level 0 to which weights are rewound after the pruning, 0 being the initialization. Only for IMP
    /// above level 0; left out of the canonical JSON elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewind_epoch: Option<u32>,
    pub training: Training,
    pub seeds: Seeds,
}

/// A ticket from another program: it is checked and evaluated, not trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Import {
    #[serde(flatten)]
    pub problem: Problem,
    /// The digest of the imported tensors.
    pub digest: Digest,
}

/// A digest of tensors: 32 hexadecimal digits. See [`super::tensors`].
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

/// The transfer of a ticket to a fresh initialization, and the training that follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    #[serde(flatten)]
    pub problem: Problem,
    pub inherit: Inherit,
    /// The fraction of the signs that are flipped in each layer, in [0, 1]; 0 unless [`Inherit::has_signs`]. Left out
    /// of the canonical JSON if it is 0, which was implied before this setting existed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub flip: f64,
    pub training: Training,
    pub seeds: Seeds,
}

/// A connection: the errors along the straight path between two networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connect {
    #[serde(flatten)]
    pub problem: Problem,
    pub between: Between,
    /// The masks of the two networks. Left out of the canonical JSON if they are the same, which was implied before
    /// this setting existed.
    #[serde(default, skip_serializing_if = "Masks::is_same")]
    pub masks: Masks,
    /// The number of evenly spaced points on the path, including both ends; at least 2.
    pub points: u32,
    /// The number of refinements. Each adds two points beside the one with the largest test error, halfway to its
    /// neighbours. Left out of the canonical JSON if it is 0, which was implied before this setting existed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refine: u32,
    /// The number of images per batch for the re-estimation of BatchNorm statistics.
    pub batch: u32,
    /// The number of batches for the re-estimation; `None` for a full pass over the training images, which was implied
    /// before this setting existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reestimation_batches: Option<u32>,
    /// The images on which errors are measured. Left out of the canonical JSON if they are the test images only, which
    /// was implied before this setting existed.
    #[serde(default, skip_serializing_if = "Sets::is_test")]
    pub sets: Sets,
    /// The alignment of the networks. Left out of the canonical JSON if they are not aligned.
    #[serde(default, skip_serializing_if = "Align::is_none")]
    pub align: Align,
    /// The floating-point precision. Left out of the canonical JSON if it is fp32, which was implied before this
    /// setting existed.
    #[serde(default, skip_serializing_if = "Precision::is_fp32")]
    pub precision: Precision,
}

/// A block of a barrier matrix: the errors along the paths between many networks, each of which is loaded once. The
/// inputs are the networks of the `rows` rows, followed by those of the columns. Without columns, every pair of rows is
/// joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// The settings of each path.
    #[serde(flatten)]
    pub path: Connect,
    /// The number of inputs that are rows.
    pub rows: u32,
}

impl Matrix {
    /// Returns the indices of the two ends of every path among `inputs` inputs, row by row.
    pub fn ends(&self, inputs: u32) -> impl Iterator<Item = (u32, u32)> + use<> {
        let rows = self.rows;
        (0..rows).flat_map(move |row| {
            let columns = if rows < inputs { rows..inputs } else { row + 1..rows };
            columns.map(move |column| (row, column))
        })
    }

    /// Returns the number of paths among `inputs` inputs.
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
    /// The number of evenly spaced points along each side of the grid; at least 2.
    pub points: u32,
    /// The margin of the grid around the networks on every side, as a fraction of their extent.
    pub margin: f64,
    /// The number of images per batch for the re-estimation of BatchNorm statistics.
    pub batch: u32,
    /// The number of batches for the re-estimation, as in [`Connect`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reestimation_batches: Option<u32>,
    #[serde(default, skip_serializing_if = "Sets::is_test")]
    pub sets: Sets,
    #[serde(default, skip_serializing_if = "Precision::is_fp32")]
    pub precision: Precision,
}

/// The data set, the architecture that learns it, and the arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Problem {
    pub dataset: Dataset,
    pub architecture: Architecture,
    /// The numerics. Left out of the canonical JSON if they are native, which was implied before this setting existed.
    #[serde(default, skip_serializing_if = "Numerics::is_native")]
    pub numerics: Numerics,
}

impl Problem {
    /// Creates a problem with native numerics.
    pub const fn new(dataset: Dataset, architecture: Architecture) -> Problem {
        Problem { dataset, architecture, numerics: Numerics::Native }
    }
}

words! {
    /// The instructions that floating-point operations use, and so the order in which sums are accumulated.
    #[derive(Default)]
    #[serde(rename_all = "lowercase")]
    #[strum(serialize_all = "lowercase")]
    pub enum Numerics {
        /// The fastest instructions of the processor. Other kinds of processors give other last bits.
        #[default]
        Native,
        /// Only the instructions that every x86-64 processor with AVX2 and FMA has: the same bits on all of them.
        Portable,
    }
}

impl Numerics {
    fn is_native(&self) -> bool {
        *self == Numerics::Native
    }
}

words! {
    /// The method that finds a ticket.
    #[serde(rename_all = "lowercase")]
    #[strum(serialize_all = "lowercase")]
    pub enum Method {
        /// Learning rate rewinding: prune, keep the weights, continue training.
        Lrr,
        /// A winning sign: LRR with norm parameters interpolated toward their initialization in every batch.
        Aws,
        /// Iterative magnitude pruning with rewinding (Frankle and Carbin, 2019; Frankle et al., 2020): prune, rewind all
        /// parameters to the initialization or to an early epoch, train again.
        Imp,
        /// Finds a mask at initialization, by the effect of each weight on the loss (Lee et al., 2019), then trains. Every
        /// level is a network of its own.
        Snip,
        /// Finds a mask at initialization without data, by the flow through each weight (Tanaka et al., 2020), then trains.
        /// Every level is a network of its own.
        SynFlow,
        /// A ticket from another program. Its only level is 1, regardless of how often it was pruned.
        Imported,
    }
}

impl Method {
    /// Returns true if a level starts from the one before it, rather than from the initialization alone.
    pub fn is_iterative(self) -> bool {
        match self {
            Method::Lrr | Method::Aws | Method::Imp => true,
            Method::Snip | Method::SynFlow | Method::Imported => false,
        }
    }
}

words! {
    /// The networks that a connection joins.
    #[serde(rename_all = "kebab-case")]
    #[strum(serialize_all = "kebab-case")]
    pub enum Between {
        /// Two transfers that differ in nothing but their seeds.
        Seeds,
        /// A ticket and the same ticket with its norm parameters set to their initialization ψ₀.
        NormInit,
        /// A transfer and the same ticket trained further (`retrain`), with the same training and the same order of images.
        Retrain,
        /// A ticket and the one of the level before it.
        Levels,
        /// Tickets of one level that may differ in anything else: method, seeds, settings.
        Tickets,
        /// Three transfers that differ in nothing but their seeds: the plane through them.
        Plane,
    }
}

impl Between {
    /// Returns true if transfers are joined, rather than tickets.
    pub fn joins_transfers(self) -> bool {
        match self {
            Between::Seeds | Between::Retrain | Between::Plane => true,
            Between::NormInit | Between::Levels | Between::Tickets => false,
        }
    }
}

words! {
    /// The requirement on the masks of the networks that are joined.
    #[derive(Default)]
    #[serde(rename_all = "lowercase")]
    #[strum(serialize_all = "lowercase")]
    pub enum Masks {
        /// All networks must have the same mask.
        #[default]
        Same,
        /// The masks may differ: on the path, weights that survive in either network may differ from zero.
        Union,
    }
}

impl Masks {
    fn is_same(&self) -> bool {
        *self == Masks::Same
    }
}

words! {
    /// The images on which errors along a path are measured.
    #[derive(Default)]
    #[serde(rename_all = "lowercase")]
    #[strum(serialize_all = "lowercase")]
    pub enum Sets {
        /// Test images and training images, without augmentation.
        Both,
        /// Test images alone.
        #[default]
        Test,
    }
}

impl Sets {
    fn is_test(&self) -> bool {
        *self == Sets::Test
    }
}

words! {
    /// The alignment of the units of two networks before they are joined.
    #[derive(Default)]
    #[serde(rename_all = "lowercase")]
    #[strum(serialize_all = "lowercase")]
    pub enum Align {
        /// No alignment.
        #[default]
        None,
        /// Weights are matched layer by layer (Ainsworth et al., "Git Re-Basin", ICLR 2023).
        Weights,
    }
}

impl Align {
    fn is_none(&self) -> bool {
        *self == Align::None
    }
}

/// The settings of the training within one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// The number of epochs.
    pub epochs: u32,
    /// The number of images per step, over all ranks.
    pub batch: u32,
    /// The optimizer. Left out of the canonical JSON if it is SGD, which was implied before this setting existed.
    #[serde(default, skip_serializing_if = "Optimizer::is_sgd")]
    pub optimizer: Optimizer,
    pub lr: f64,
    /// The momentum of SGD, or β₁ of Adam.
    pub momentum: f64,
    pub weight_decay: f64,
    pub schedule: Schedule,
    /// The floating-point precision. Left out of the canonical JSON if it is fp32, which was implied before this
    /// setting existed.
    #[serde(default, skip_serializing_if = "Precision::is_fp32")]
    pub precision: Precision,
}

words! {
    /// The floating-point precision of networks. Parameters, statistics, sums of the loss and the state of the optimizer
    /// are always in 32 bits.
    #[derive(Default)]
    #[serde(rename_all = "lowercase")]
    #[strum(serialize_all = "lowercase")]
    pub enum Precision {
        /// 32 bits.
        #[default]
        Fp32,
        /// 32 bits, of which products use 19; only on NVIDIA GPUs.
        Tf32,
        /// Weights and activations in bfloat16: 16 bits, with the range of 32-bit numbers.
        Bf16,
    }
}

impl Precision {
    fn is_fp32(&self) -> bool {
        *self == Precision::Fp32
    }
}

words! {
    /// The optimizer. Both optimizers work as in PyTorch, with weight decay added to the gradient.
    #[derive(Default)]
    #[serde(rename_all = "lowercase")]
    #[strum(serialize_all = "lowercase")]
    pub enum Optimizer {
        #[default]
        Sgd,
        /// Adam with β₂ = 0.999 and ε = 1e-8.
        Adam,
    }
}

impl Optimizer {
    fn is_sgd(&self) -> bool {
        *self == Optimizer::Sgd
    }
}

words! {
    /// The schedule of the learning rate, which changes between epochs only.
    #[serde(rename_all = "kebab-case")]
    #[strum(serialize_all = "kebab-case")]
    pub enum Schedule {
        Constant,
        /// The learning rate is divided by 10 after half of the epochs, and by 100 after three quarters.
        MultiStep,
        /// The learning rate follows half a cosine, from lr down to lr / 1000.
        Cosine,
    }
}

impl Schedule {
    /// Returns the numbers of epochs, of this many, after which [`Schedule::MultiStep`] divides the learning rate.
    pub fn milestones(epochs: u32) -> [u32; 2] {
        [epochs / 2, epochs * 3 / 4]
    }

    /// Returns the number of epochs, of this many, before the learning rate changes for the first time.
    pub fn epochs_at_first_rate(self, epochs: u32) -> u32 {
        match self {
            Schedule::Constant => epochs,
            Schedule::MultiStep => Schedule::milestones(epochs)[0],
            Schedule::Cosine => 1,
        }
    }
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

/// The seeds of three independent sources of randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seeds {
    /// The seed of the initial weights.
    pub init: u64,
    /// The seed of the order of the training images, and of their augmentation.
    pub order: u64,
    /// The seed of α, the factor of the norm interpolation of AWS.
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

    #[test]
    fn settings_in_full_include_those_that_the_canonical_json_omits() {
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
        let shown = in_full(&plain);
        assert_eq!(
            (&shown["sets"], &shown["align"], &shown["masks"]),
            (&json!("test"), &json!("none"), &json!("same"))
        );
        assert_eq!((&shown["refine"], &shown["reestimation_batches"]), (&json!(0), &json!("all")));
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
        let shown = Settings::Transfer(transfer).in_full();
        assert_eq!((&shown["flip"], &shown["training"]["optimizer"]), (&json!(0.0), &json!("sgd")));
        assert_eq!(shown["training"]["precision"], "fp32");
    }
}
