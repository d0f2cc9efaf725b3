//! Every key of a sweep file, in one table. Validation, suggestions, defaults and the JSON Schema follow from it.

use strum::VariantNames;
use winsign_core::settings::{
    Align, Architecture, Between, Dataset, Inherit, MAX_GPUS, MAX_JOBS, MAX_RANKS, MAX_THREADS, Masks, Method,
    Numerics, Optimizer, Precision, Schedule, Sets,
};

use super::layout::{IntervalMethod, Measure, Show};
use super::values::Value;
use crate::yaml::{grouped, listed, nearest, quoted};

/// A part of the file. Tickets, transfers and connects are also the scopes of the sweep: a chain of tickets is a
/// combination of top-level and ticket settings, and has transfers and connects of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Block {
    Top,
    Ticket,
    Transfer,
    Connect,
    Resources,
    Report,
}

/// A key of the file.
#[derive(Debug)]
pub struct Key {
    pub block: Block,
    pub name: &'static str,
    /// The key with its block, as in `ticket.lr`; top-level keys stand alone.
    pub path: &'static str,
    pub kind: Kind,
    pub default: Fallback,
    /// A value, for messages.
    pub example: &'static str,
    /// One line on what it means.
    pub doc: &'static str,
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.path == other.path
    }
}

/// What a key may hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Name,
    Word(&'static [&'static str]),
    Whole {
        min: u64,
        max: u64,
    },
    Real(Interval),
    /// What tells an imported ticket apart.
    Digest,
    /// A level, `last`, or `all`.
    Level,
    /// One block, or a list of blocks where there may be several.
    Block(Block),
    Zip,
    Exclude,
    /// One name, or a list of names, of what rows and columns of a table can be.
    Fields,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Interval {
    Positive,
    NotNegative,
    /// Between 0 and 1, neither included.
    Ratio,
    /// From 0, included, to 1, not included.
    BelowOne,
    /// From 0 to 1, both included.
    Fraction,
    /// From [`LEAST_CONFIDENCE`] to [`MOST_CONFIDENCE`], both included.
    Confidence,
    /// A part of one thing, or several whole ones.
    Share {
        max: u32,
    },
}

/// What a key holds where the file says nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fallback {
    Required,
    Values(&'static [Value]),
    /// What [`super::defaults`] knows about the data set and architecture.
    Recipe,
    /// The value of another key.
    Same(&'static str),
    /// Depends on what else is there; said in words.
    Depends(&'static str),
}

/// An interval of less confidence says nothing, and one of more has no ends.
pub const LEAST_CONFIDENCE: f64 = 0.000_001;
pub const MOST_CONFIDENCE: f64 = 0.999_999;

/// The highest level; at a prune ratio of 0.2 one weight in 10⁹⁷ would remain.
pub(crate) const MAX_LEVEL: u64 = 1_000;
/// The most networks on a side of a block of a barrier matrix.
const MAX_BLOCK: u64 = 1_000;
const LEVELS: Kind = Kind::Whole { min: 1, max: MAX_LEVEL };
const COUNT: Kind = Kind::Whole { min: 1, max: 1_000_000 };
const JOBS: Kind = Kind::Whole { min: 1, max: MAX_JOBS as u64 };
const THREADS: Kind = Kind::Whole { min: 1, max: MAX_THREADS as u64 };
const RANKS: Kind = Kind::Whole { min: 1, max: MAX_RANKS as u64 };
const GPUS: Kind = Kind::Real(Interval::Share { max: MAX_GPUS });
const SEED: Kind = Kind::Whole { min: 0, max: u64::MAX };
const POSITIVE: Kind = Kind::Real(Interval::Positive);
const METHODS: Fallback = Fallback::Values(&[Value::Word("lrr"), Value::Word("aws")]);

/// The methods that look for tickets: all but the last one, which says that they were found elsewhere.
const SEARCHES: &[&str] = match <Method as VariantNames>::VARIANTS {
    [searches @ .., _imported] => searches,
    [] => &[],
};
pub(crate) const IMPORTED: &str = "imported";

/// The settings that make a problem.
pub const PROBLEM: [&str; 3] = ["dataset", "architecture", "numerics"];

pub(crate) const LAST: &str = "last";
pub(crate) const ALL: &str = "all";

macro_rules! keys {
    ($($block:ident $path:literal $name:literal: $kind:expr, $default:expr, $example:literal, $doc:literal;)*) => {
        &[$(Key { block: Block::$block, name: $name, path: $path, kind: $kind, default: $default, example: $example, doc: $doc }),*]
    };
}

/// In the order of the documentation; a key follows those its default refers to.
#[rustfmt::skip]
pub(crate) static KEYS: &[Key] = keys! {
    Top "name" "name": Kind::Name, Fallback::Depends("the file's name"), "quickstart", "The name of the study in reports and file names.";
    Top "dataset" "dataset": Kind::Word(<Dataset as VariantNames>::VARIANTS), Fallback::Required, "digits", "The data set.";
    Top "architecture" "architecture": Kind::Word(<Architecture as VariantNames>::VARIANTS), Fallback::Required, "resnet8", "The architecture of the network.";
    Top "numerics" "numerics": Kind::Word(<Numerics as VariantNames>::VARIANTS), Fallback::Values(&[Value::Word("native")]), "portable", "`portable` gives bit-identical results on every x86-64 processor with AVX2; `native` uses the fastest instructions available.";
    Top "ticket" "ticket": Kind::Block(Block::Ticket), Fallback::Depends("one block of defaults"), "{levels: 12}", "Settings of tickets: how they are found and trained.";
    Top "transfer" "transfer": Kind::Block(Block::Transfer), Fallback::Depends("no transfers"), "{inherit: sign}", "Settings of transfers: what they inherit from tickets, and how they are trained.";
    Top "connect" "connect": Kind::Block(Block::Connect), Fallback::Depends("no connects"), "{between: seeds}", "Settings of connections: the networks between which errors are measured, on paths or in planes.";
    Top "resources" "resources": Kind::Block(Block::Resources), Fallback::Depends("one block of defaults"), "{jobs: 2}", "How runs are executed. These settings are not part of a run's identity; `threads` and `ranks` can change a result.";
    Top "report" "report": Kind::Block(Block::Report), Fallback::Depends("the tables of [docs/report.md](report.md)"), "{rows: inherit, columns: level}", "The custom table of `winsign report`. These settings are not part of a run's identity.";
    Top "zip" "zip": Kind::Zip, Fallback::Depends("all axes are combined"), "[[ticket.method, ticket.lr]]", "Axes that advance together instead of being combined.";
    Top "exclude" "exclude": Kind::Exclude, Fallback::Depends("nothing"), "[{method: lrr, inherit: mask}]", "Combinations to leave out.";

    Ticket "ticket.method" "method": Kind::Word(SEARCHES), METHODS, "aws", "The method that finds tickets.";
    Ticket "ticket.imported" "imported": Kind::Digest, Fallback::Depends("none"), "3f09c2aa41d07e553f09c2aa41d07e55", "The digest of an imported ticket, as printed by `winsign import`; the ticket takes the place of a chain.";
    Ticket "ticket.levels" "levels": LEVELS, Fallback::Recipe, "12", "The number of prunings of a chain; also its last level.";
    Ticket "ticket.prune_ratio" "prune_ratio": Kind::Real(Interval::Ratio), Fallback::Recipe, "0.2", "The fraction of surviving weights removed at each level.";
    Ticket "ticket.warmup_epochs" "warmup_epochs": COUNT, Fallback::Recipe, "10", "Training epochs of level 0, the dense network.";
    Ticket "ticket.epochs" "epochs": COUNT, Fallback::Recipe, "4", "Training epochs of every other level.";
    Ticket "ticket.rewind_epoch" "rewind_epoch": Kind::Whole { min: 0, max: 1_000_000 }, Fallback::Values(&[Value::Whole(0)]), "0", "The epoch of level 0 to which `imp` rewinds the weights; 0 is the initialization.";
    Ticket "ticket.batch" "batch": COUNT, Fallback::Recipe, "64", "Images per training step.";
    Ticket "ticket.optimizer" "optimizer": Kind::Word(<Optimizer as VariantNames>::VARIANTS), Fallback::Recipe, "sgd", "The optimizer.";
    Ticket "ticket.lr" "lr": POSITIVE, Fallback::Recipe, "0.1", "The learning rate, constant over a chain.";
    Ticket "ticket.momentum" "momentum": Kind::Real(Interval::BelowOne), Fallback::Recipe, "0.9", "Momentum of SGD; β₁ of Adam.";
    Ticket "ticket.weight_decay" "weight_decay": Kind::Real(Interval::NotNegative), Fallback::Recipe, "5e-4", "Weight decay.";
    Ticket "ticket.precision" "precision": Kind::Word(<Precision as VariantNames>::VARIANTS), Fallback::Values(&[Value::Word("fp32")]), "bf16", "Floating-point precision; `tf32` needs a GPU.";
    Ticket "ticket.seed" "seed": SEED, Fallback::Values(&[Value::Whole(1)]), "1", "Sets `seed_init`, `seed_order` and `seed_alpha`.";
    Ticket "ticket.seed_init" "seed_init": SEED, Fallback::Same("ticket.seed"), "1", "Seed of the initial weights.";
    Ticket "ticket.seed_order" "seed_order": SEED, Fallback::Same("ticket.seed"), "1", "Seed of the order of the images and of their augmentation.";
    Ticket "ticket.seed_alpha" "seed_alpha": SEED, Fallback::Same("ticket.seed"), "1", "Seed of α, the norm interpolation of AWS.";

    Transfer "transfer.level" "level": Kind::Level, Fallback::Recipe, "12", "The levels to transfer: numbers, ranges, `last`, or `all` (level 1 to the last).";
    Transfer "transfer.inherit" "inherit": Kind::Word(<Inherit as VariantNames>::VARIANTS), Fallback::Recipe, "sign", "What the transfer inherits from the ticket.";
    Transfer "transfer.flip" "flip": Kind::Real(Interval::Fraction), Fallback::Values(&[Value::real(0.0)]), "0.1", "The fraction of signs flipped in each layer; only with `sign` and `sign+norm`.";
    Transfer "transfer.epochs" "epochs": COUNT, Fallback::Recipe, "12", "Training epochs after the transfer.";
    Transfer "transfer.schedule" "schedule": Kind::Word(<Schedule as VariantNames>::VARIANTS), Fallback::Recipe, "multi-step", "The schedule of the learning rate.";
    Transfer "transfer.batch" "batch": COUNT, Fallback::Same("ticket.batch"), "64", "Images per training step.";
    Transfer "transfer.optimizer" "optimizer": Kind::Word(<Optimizer as VariantNames>::VARIANTS), Fallback::Same("ticket.optimizer"), "sgd", "The optimizer.";
    Transfer "transfer.lr" "lr": POSITIVE, Fallback::Same("ticket.lr"), "0.1", "The initial learning rate.";
    Transfer "transfer.momentum" "momentum": Kind::Real(Interval::BelowOne), Fallback::Same("ticket.momentum"), "0.9", "Momentum of SGD; β₁ of Adam.";
    Transfer "transfer.weight_decay" "weight_decay": Kind::Real(Interval::NotNegative), Fallback::Same("ticket.weight_decay"), "5e-4", "Weight decay.";
    Transfer "transfer.precision" "precision": Kind::Word(<Precision as VariantNames>::VARIANTS), Fallback::Same("ticket.precision"), "bf16", "Floating-point precision.";
    Transfer "transfer.seed" "seed": SEED, Fallback::Values(&[Value::Whole(2), Value::Whole(3)]), "2..4", "Sets `seed_init` and `seed_order`. The default is 2 alone if one of them is given.";
    Transfer "transfer.seed_init" "seed_init": SEED, Fallback::Same("transfer.seed"), "2", "Seed of the fresh initialization.";
    Transfer "transfer.seed_order" "seed_order": SEED, Fallback::Same("transfer.seed"), "2", "Seed of the order of the images and of their augmentation.";

    Connect "connect.between" "between": Kind::Word(<Between as VariantNames>::VARIANTS), Fallback::Required, "seeds", "The networks to connect: transfers that differ only in seeds (`seeds`), a ticket and the same ticket with ψ₀ (`norm-init`), a transfer and the `retrain` transfer of its ticket (`retrain`), neighboring levels (`levels`), tickets of one level (`tickets`), or the plane through three seeds (`plane`).";
    Connect "connect.level" "level": Kind::Level, Fallback::Depends("all transferred; `last` without transfers; all for `levels`"), "12", "The levels of the networks to connect.";
    Connect "connect.inherit" "inherit": Kind::Word(<Inherit as VariantNames>::VARIANTS), Fallback::Depends("all transferred"), "sign", "The transfers to connect, by what they inherit.";
    Connect "connect.block" "block": Kind::Whole { min: 1, max: MAX_BLOCK }, Fallback::Values(&[Value::Whole(1)]), "10", "The number of networks on each side of a block of the barrier matrix. Each block is one run; with 1, each pair is one run.";
    Connect "connect.masks" "masks": Kind::Word(<Masks as VariantNames>::VARIANTS), Fallback::Values(&[Value::Word("same")]), "union", "The pairs to connect: those with the same mask (`same`), or all pairs, over the union of both masks (`union`).";
    Connect "connect.align" "align": Kind::Word(<Align as VariantNames>::VARIANTS), Fallback::Values(&[Value::Word("none")]), "weights", "Whether the units of two networks are aligned, by their weights, before they are connected.";
    Connect "connect.points" "points": Kind::Whole { min: 2, max: 1_000_000 }, Fallback::Depends("11; 15 for `plane`"), "11", "The number of points on a path, including both ends; for a plane, on each side of its grid.";
    Connect "connect.refine" "refine": Kind::Whole { min: 0, max: 20 }, Fallback::Values(&[Value::Whole(0)]), "3", "How many times two points are added next to the point with the largest test error.";
    Connect "connect.margin" "margin": Kind::Real(Interval::NotNegative), Fallback::Values(&[Value::real(0.25)]), "0.25", "The margin of a plane's grid around its networks, as a fraction of their extent.";
    Connect "connect.sets" "sets": Kind::Word(<Sets as VariantNames>::VARIANTS), Fallback::Values(&[Value::Word("both")]), "test", "The images on which errors are measured: test and training images (`both`), or test images only (`test`).";
    Connect "connect.batch" "batch": COUNT, Fallback::Same("ticket.batch"), "64", "Images per batch when BatchNorm statistics are re-estimated.";
    Connect "connect.reestimation_batches" "reestimation_batches": COUNT, Fallback::Depends("a pass over all training images"), "8", "The number of batches from which BatchNorm statistics are re-estimated.";
    Connect "connect.precision" "precision": Kind::Word(<Precision as VariantNames>::VARIANTS), Fallback::Same("ticket.precision"), "bf16", "Floating-point precision.";

    Resources "resources.jobs" "jobs": JOBS, Fallback::Depends("one per core"), "2", "The number of runs executed at the same time.";
    Resources "resources.threads" "threads": THREADS, Fallback::Depends("1"), "1", "Threads per rank; a different number can change the last bits of a result.";
    Resources "resources.ranks" "ranks": RANKS, Fallback::Depends("1"), "8", "MPI processes per run. With BatchNorm, their number changes the result; otherwise only its last bits.";
    Resources "resources.gpus" "gpus": GPUS, Fallback::Depends("none requested"), "0.25", "GPUs per rank; with a fraction, ranks of several runs share a GPU.";
    Resources "resources.retries" "retries": Kind::Whole { min: 0, max: 1_000 }, Fallback::Values(&[Value::Whole(1)]), "1", "How many times a failed run is restarted. If its worker was killed, at least 5 restarts in a row without a finished epoch are allowed.";

    Report "report.rows" "rows": Kind::Fields, Fallback::Depends("`inherit`; `method` without transfers"), "inherit", "The fields that distinguish the rows of the table.";
    Report "report.columns" "columns": Kind::Fields, Fallback::Depends("`level`, unless rows have it"), "level", "The fields that distinguish the columns of the table.";
    Report "report.value" "value": Kind::Word(<Measure as VariantNames>::VARIANTS), Fallback::Values(&[Value::Word("error")]), "error", "The quantity shown in the cells.";
    Report "report.show" "show": Kind::Word(<Show as VariantNames>::VARIANTS), Fallback::Values(&[Value::Word("mean±std")]), "mean±ci", "The statistic shown in each cell.";
    Report "report.interval" "interval": Kind::Word(<IntervalMethod as VariantNames>::VARIANTS), Fallback::Values(&[Value::Word("t")]), "bootstrap", "The method for confidence intervals: Student's t, or the percentile bootstrap.";
    Report "report.confidence" "confidence": Kind::Real(Interval::Confidence), Fallback::Values(&[Value::real(0.95)]), "0.95", "The confidence level of the intervals.";
};

impl Block {
    pub fn keys(self) -> impl Iterator<Item = &'static Key> {
        KEYS.iter().filter(move |key| key.block == self)
    }

    pub fn key(self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }

    /// Where the block is in the file, as part of a sentence.
    fn place(self) -> String {
        if self == Block::Top { "at the top level".to_string() } else { format!("in `{self}`") }
    }

    /// Whether the file may hold several blocks of this kind.
    pub fn repeats(self) -> bool {
        matches!(self, Block::Ticket | Block::Transfer | Block::Connect)
    }
}

impl Key {
    /// Whether the key may hold several values, to be combined with those of other axes.
    pub fn is_axis(&self) -> bool {
        let holds_values =
            matches!(self.kind, Kind::Word(_) | Kind::Whole { .. } | Kind::Real(_) | Kind::Digest | Kind::Level);
        holds_values && !matches!(self.block, Block::Resources | Block::Report)
    }

    /// The one value that is the default of the key whatever else is in the file, if there is one.
    pub fn constant(&self) -> Option<Value> {
        match self.default {
            Fallback::Values([value]) => Some(*value),
            _ => None,
        }
    }

    /// Why a connect between these networks does not have the setting, in half a sentence; none if it does.
    pub fn lack(&self, between: Between) -> Option<&'static str> {
        use Between::*;
        match (self.path, between) {
            ("connect.inherit" | "connect.masks" | "connect.align", NormInit) => {
                Some("it connects a ticket with itself")
            }
            ("connect.inherit", Levels | Tickets) => Some("it connects tickets"),
            ("connect.masks", Levels | Tickets) => Some("tickets are always connected over both masks"),
            ("connect.refine" | "connect.align", Plane) => Some("a plane has a regular grid"),
            ("connect.block", NormInit | Retrain | Levels) => Some("it has no matrix to divide into blocks"),
            ("connect.block", Plane) => Some("a plane is one run"),
            ("connect.margin", NormInit | Seeds | Retrain | Levels | Tickets) => Some("only a plane has a margin"),
            _ => None,
        }
    }

    pub fn is_seed(&self) -> bool {
        self.name == "seed" || self.name.starts_with("seed_")
    }
}

impl Kind {
    /// What the key must hold, as part of a sentence.
    pub fn expects(self) -> String {
        match self {
            Kind::Name => "a text".to_string(),
            Kind::Word(words) if words.len() == 1 => listed(words.iter().copied()),
            Kind::Word(words) => format!("one of {}", listed(words.iter().copied())),
            Kind::Whole { min, max: u64::MAX } => format!("a whole number from {min} to 2^64 - 1"),
            Kind::Whole { min, max } => format!("a whole number from {min} to {}", grouped(max.into())),
            Kind::Real(Interval::Positive) => "a number above 0".to_string(),
            Kind::Real(Interval::NotNegative) => "a number, 0 or above".to_string(),
            Kind::Real(Interval::Ratio) => "a number above 0 and below 1".to_string(),
            Kind::Real(Interval::Confidence) => {
                format!("a number from {LEAST_CONFIDENCE} to {MOST_CONFIDENCE}")
            }
            Kind::Real(Interval::BelowOne) => "a number from 0 to below 1".to_string(),
            Kind::Real(Interval::Fraction) => "a number from 0 to 1".to_string(),
            Kind::Real(Interval::Share { max }) => {
                format!("a number above 0 and up to 1, or a whole number up to {}", grouped(max.into()))
            }
            Kind::Digest => "a digest of 32 hexadecimal digits".to_string(),
            Kind::Level => format!("a level from 1 to {}, `last` or `all`", grouped(MAX_LEVEL.into())),
            Kind::Block(_) => "a block of settings".to_string(),
            Kind::Zip => "a list of lists of settings".to_string(),
            Kind::Exclude => "a list of rules".to_string(),
            Kind::Fields => "one or several names".to_string(),
        }
    }

    /// Whether `a..b` may stand for several values.
    pub fn has_ranges(self) -> bool {
        matches!(self, Kind::Whole { .. } | Kind::Level)
    }
}

impl Interval {
    pub fn contains(self, number: f64) -> bool {
        number.is_finite()
            && match self {
                Interval::Positive => number > 0.0,
                Interval::NotNegative => number >= 0.0,
                Interval::Ratio => number > 0.0 && number < 1.0,
                Interval::Confidence => (LEAST_CONFIDENCE..=MOST_CONFIDENCE).contains(&number),
                Interval::BelowOne => (0.0..1.0).contains(&number),
                Interval::Fraction => (0.0..=1.0).contains(&number),
                Interval::Share { max } => {
                    number > 0.0 && (number <= 1.0 || number.fract() == 0.0) && number <= f64::from(max)
                }
            }
    }
}

/// Checks a number from a command line against the declaration of `resources.NAME`.
///
/// # Errors
///
/// Says what the setting must be.
pub fn check_resource(name: &str, number: f64) -> Result<(), String> {
    let key = KEYS.iter().find(|key| key.block == Block::Resources && key.name == name).expect("a declared resource");
    let holds = match key.kind {
        Kind::Whole { min, max } => number.fract() == 0.0 && (min as f64..=max as f64).contains(&number),
        Kind::Real(interval) => interval.contains(number),
        _ => false,
    };
    if holds { Ok(()) } else { Err(format!("must be {}", key.kind.expects())) }
}

/// The axis that `zip` or `exclude` mean by a name: qualified, or bare where one block alone has it. A bare `level` or
/// `inherit` is the transfer's, since connects follow from that.
pub(crate) fn axis(name: &str) -> Result<&'static Key, (String, String)> {
    let candidates: Vec<_> = KEYS.iter().filter(|key| key.name == name || key.path == name).collect();
    let key = match candidates.as_slice() {
        [] => return Err(unknown_axis(name)),
        [key] => key,
        several => match several.iter().find(|key| ["transfer.level", "transfer.inherit"].contains(&key.path)) {
            Some(key) => key,
            None => {
                let paths = listed(several.iter().map(|key| key.path));
                return Err((format!("{} exists in several blocks", quoted(name)), format!("use one of {paths}")));
            }
        },
    };
    if key.is_axis() {
        Ok(key)
    } else {
        Err((format!("{} is not a setting that can be an axis", quoted(name)), axes_to_name()))
    }
}

fn unknown_axis(name: &str) -> (String, String) {
    let bare = name.rsplit('.').next().unwrap_or(name);
    let elsewhere: Vec<_> = KEYS.iter().filter(|key| key.is_axis() && key.name == bare).collect();
    let help = match nearest(name, KEYS.iter().filter(|key| key.is_axis()).flat_map(|key| [key.name, key.path])) {
        _ if !elsewhere.is_empty() => format!("did you mean {}?", listed(elsewhere.iter().map(|key| key.path))),
        Some(known) => format!("did you mean `{known}`?"),
        None => axes_to_name(),
    };
    (format!("there is no setting {}", quoted(name)), help)
}

fn axes_to_name() -> String {
    "use the name of a setting, as in `dataset`, `ticket.lr` or `transfer.seed`".to_string()
}

/// The message and the help for a key that a block does not have.
pub(crate) fn unknown_key(block: Block, name: &str) -> (String, String) {
    let message = format!("there is no setting {} {}", quoted(name), block.place());
    let elsewhere: Vec<_> = KEYS.iter().filter(|key| key.name == name).collect();
    let help = match (elsewhere.as_slice(), nearest(name, block.keys().map(|key| key.name))) {
        ([], Some(known)) => format!("did you mean `{known}`?"),
        ([], None) => {
            let hint = nearest(name, KEYS.iter().map(|key| key.name))
                .and_then(|known| KEYS.iter().find(|key| key.name == known));
            match hint {
                Some(key) => format!("did you mean `{}`, {}?", key.name, key.block.place()),
                None => format!("the settings are {}", listed(block.keys().map(|key| key.name))),
            }
        }
        (elsewhere, _) => {
            let places: Vec<_> = elsewhere.iter().map(|key| key.block.place()).collect();
            format!("move it: it belongs {}", places.join(" or "))
        }
    };
    (message, help)
}
