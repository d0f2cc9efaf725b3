//! Every key of a sweep file, in one table.

use std::ops::Bound::{Excluded, Included, Unbounded};
use std::str::FromStr;

use strum::VariantNames;
use winsign_core::settings::{
    Align, Architecture, Between, Dataset, Inherit, MAX_GPUS, MAX_JOBS, MAX_RANKS, MAX_THREADS, Masks, Method,
    Numerics, Optimizer, Precision, Schedule, Sets,
};

use super::file::FILE_NAME;
use super::layout::{FIELD_NAMES, IntervalMethod, Measure, Show};
use super::values::Value;
use crate::yaml::{DocumentKind, listed, nearest, quoted};

pub(crate) use super::keys::{Block, Fallback, Key, Kind, MAX_LEVEL, When};

pub static SWEEP_FILE: DocumentKind = DocumentKind {
    name: "sweep file",
    description: "A sweep of lottery-ticket experiments. Any setting with several values is an axis.",
    example: "sweeps/quickstart.yaml",
    keys: KEYS,
    other_names: &[],
    levels: "three",
    twice: "keep one of the two; a list gives several values",
    too_large: "use ranges (`1..100`) for long lists",
};

const LEVELS: Kind = Kind::Whole { min: 1, max: MAX_LEVEL };
const COUNT: Kind = Kind::Whole { min: 1, max: 1_000_000 };
const JOBS: Kind = Kind::Whole { min: 1, max: MAX_JOBS as u64 };
const THREADS: Kind = Kind::Whole { min: 1, max: MAX_THREADS as u64 };
const RANKS: Kind = Kind::Whole { min: 1, max: MAX_RANKS as u64 };
const GPUS: Kind = Kind::Share { max: MAX_GPUS };
const SEED: Kind = Kind::Whole { min: 0, max: u64::MAX };
const POSITIVE: Kind = Kind::Real(Excluded(0.0), Unbounded);
const NOT_NEGATIVE: Kind = Kind::Real(Included(0.0), Unbounded);
const RATIO: Kind = Kind::Real(Excluded(0.0), Excluded(1.0));
/// The most networks on a side of a block of a barrier matrix.
const MAX_BLOCK: u64 = 1_000;
const METHODS: Fallback = Fallback::Values(&[Value::Word("lrr"), Value::Word("aws")]);

/// The methods that find tickets: all but the last, which marks imported tickets.
const SEARCHES: &[&str] = match <Method as VariantNames>::VARIANTS {
    [searches @ .., _imported] => searches,
    [] => &[],
};
pub(crate) const IMPORTED: &str = "imported";

/// The settings of a problem.
pub const PROBLEM: [&str; 3] = ["dataset", "architecture", "numerics"];

const IMP: &[When] = &[When {
    setting: "ticket.method",
    reason: |word| unless(word, |method: Method| method == Method::Imp, "no chain of this block uses `imp`"),
    help: Some("remove it, or add `imp` to `method`"),
}];
const AWS: &[When] = &[When {
    setting: "ticket.method",
    reason: |word| unless(word, |method: Method| method == Method::Aws, "only `aws` interpolates norms"),
    help: None,
}];
const NEED_TICKET: &[When] = &[When {
    setting: "transfer.inherit",
    reason: |word| unless(word, Inherit::needs_ticket, "dense networks have no level"),
    help: None,
}];
const SIGNS: &[When] = &[When {
    setting: "transfer.inherit",
    reason: |word| unless(word, Inherit::has_signs, "this block inherits no signs"),
    help: Some("remove it, or add `sign` or `sign+norm` to `inherit`"),
}];
const BATCH_NORM: &[When] = &[When {
    setting: "architecture",
    reason: |word| unless(word, Architecture::has_batch_norm, "this architecture has no BatchNorm"),
    help: Some("remove it"),
}];
const NEW_MASKS: When = When {
    setting: "connect.inherit",
    reason: |word| unless(word, Inherit::draws_mask, "all networks that this block connects have the same mask"),
    help: Some("remove it, or connect transfers of `random-mask` or `random-mask-erk`"),
};

/// Returns the condition of a setting that some values of `between` do not have.
const fn between(reason: fn(&str) -> Option<&'static str>) -> When {
    When { setting: "connect.between", reason, help: None }
}

const ONE_TICKET: &str = "it connects a ticket with itself";
const INHERIT: When = between(|word| match word.parse().ok()? {
    Between::NormInit => Some(ONE_TICKET),
    Between::Levels | Between::Tickets => Some("it connects tickets"),
    Between::Seeds | Between::Retrain | Between::Plane => None,
});
const MASKS: When = between(|word| match word.parse().ok()? {
    Between::NormInit => Some(ONE_TICKET),
    Between::Levels | Between::Tickets => Some("tickets are always connected over both masks"),
    Between::Seeds | Between::Retrain | Between::Plane => None,
});
const ALIGN: When = between(|word| match word.parse().ok()? {
    Between::NormInit => Some(ONE_TICKET),
    Between::Plane => Some("a plane has a regular grid"),
    Between::Seeds | Between::Retrain | Between::Levels | Between::Tickets => None,
});
const REFINE: When = between(|word| match word.parse().ok()? {
    Between::Plane => Some("a plane has a regular grid"),
    _ => None,
});
const BLOCKS: When = between(|word| match word.parse().ok()? {
    Between::NormInit | Between::Retrain | Between::Levels => Some("it has no matrix to divide into blocks"),
    Between::Plane => Some("a plane is one run"),
    Between::Seeds | Between::Tickets => None,
});
const MARGIN: When = between(|word| match word.parse().ok()? {
    Between::Plane => None,
    _ => Some("only a plane has a margin"),
});

/// Returns the reason unless a word is a value with the effect.
fn unless<T: FromStr>(word: &str, has_effect: fn(T) -> bool, reason: &'static str) -> Option<&'static str> {
    let has_effect = word.parse().is_ok_and(has_effect);
    (!has_effect).then_some(reason)
}

/// The keys in the order of the documentation; a key follows those its default refers to.
#[rustfmt::skip]
pub(crate) static KEYS: &[Key] = {
    use Block::{Connect, Report, Resources, Ticket, Top, Transfer};
    use Fallback::{ByWord, Depends, Recipe, Required, Same, Values};
    &[
        Key::new(Top, "name", Kind::Text(FILE_NAME), Depends("the file's name"), "quickstart", "The name of the study in reports and file names."),
        Key::new(Top, "dataset", Kind::Word(Dataset::VARIANTS), Required, "digits", "The data set."),
        Key::new(Top, "architecture", Kind::Word(Architecture::VARIANTS), Required, "resnet8", "The architecture of the network."),
        Key::new(Top, "numerics", Kind::Word(Numerics::VARIANTS), Values(&[Value::Word("native")]), "portable", "`portable` gives bit-identical results on every x86-64 processor with AVX2; `native` uses the fastest instructions available."),
        Key::new(Top, "ticket", Kind::Block(Ticket), Depends("one block of defaults"), "{levels: 12}", "Settings of tickets: how they are found and trained."),
        Key::new(Top, "transfer", Kind::Block(Transfer), Depends("no transfers"), "{inherit: sign}", "Settings of transfers: what they inherit from tickets, and how they are trained."),
        Key::new(Top, "connect", Kind::Block(Connect), Depends("no connects"), "{between: seeds}", "Settings of connections: the networks between which errors are measured, on paths or in planes."),
        Key::new(Top, "resources", Kind::Block(Resources), Depends("one block of defaults"), "{jobs: 2}", "The resources for executing runs. These settings are not part of a run's identity; `threads` and `ranks` can change a result."),
        Key::new(Top, "report", Kind::Block(Report), Depends("the tables of [Reports](reports.md)"), "{rows: inherit, columns: level}", "The custom table of `winsign report`. These settings are not part of a run's identity."),
        Key::new(Top, "zip", Kind::Zip, Depends("all axes are combined"), "[[ticket.method, ticket.lr]]", "Axes that advance together instead of being combined."),
        Key::new(Top, "exclude", Kind::Exclude, Depends("nothing"), "[{method: lrr, inherit: mask}]", "Combinations to leave out."),

        Key::new(Ticket, "ticket.method", Kind::Word(SEARCHES), METHODS, "aws", "The method that finds tickets."),
        Key::new(Ticket, "ticket.imported", Kind::Digest, Depends("none"), "3f09c2aa41d07e553f09c2aa41d07e55", "The digest of an imported ticket, as printed by `winsign import`; the ticket takes the place of a chain."),
        Key::new(Ticket, "ticket.levels", LEVELS, Recipe, "12", "The number of prunings of a chain; also its last level."),
        Key::new(Ticket, "ticket.prune_ratio", RATIO, Recipe, "0.2", "The fraction of surviving weights removed at each level."),
        Key::new(Ticket, "ticket.warmup_epochs", COUNT, Recipe, "10", "Training epochs of level 0, the dense network."),
        Key::new(Ticket, "ticket.epochs", COUNT, Recipe, "4", "Training epochs of every other level."),
        Key::new(Ticket, "ticket.rewind_epoch", Kind::Whole { min: 0, max: 1_000_000 }, Values(&[Value::Whole(0)]), "0", "The epoch of level 0 to which `imp` rewinds the weights, before the first change of the learning rate; 0 is the initialization.").when(IMP),
        Key::new(Ticket, "ticket.schedule", Kind::Word(Schedule::VARIANTS), Values(&[Value::Word("constant")]), "multi-step", "The schedule of the learning rate, which starts again at every level."),
        Key::new(Ticket, "ticket.batch", COUNT, Recipe, "64", "Images per training step."),
        Key::new(Ticket, "ticket.optimizer", Kind::Word(Optimizer::VARIANTS), Recipe, "sgd", "The optimizer."),
        Key::new(Ticket, "ticket.lr", POSITIVE, Recipe, "0.1", "The initial learning rate of every level."),
        Key::new(Ticket, "ticket.momentum", Kind::Real(Included(0.0), Excluded(1.0)), Recipe, "0.9", "Momentum of SGD; β₁ of Adam."),
        Key::new(Ticket, "ticket.weight_decay", NOT_NEGATIVE, Recipe, "5e-4", "Weight decay."),
        Key::new(Ticket, "ticket.precision", Kind::Word(Precision::VARIANTS), Values(&[Value::Word("fp32")]), "bf16", "Floating-point precision; `tf32` needs a GPU."),
        Key::new(Ticket, "ticket.seed", SEED, Values(&[Value::Whole(1)]), "1", "Sets `seed_init`, `seed_order` and `seed_alpha`."),
        Key::new(Ticket, "ticket.seed_init", SEED, Same("ticket.seed"), "1", "Seed of the initial weights."),
        Key::new(Ticket, "ticket.seed_order", SEED, Same("ticket.seed"), "1", "Seed of the order of the images and of their augmentation."),
        Key::new(Ticket, "ticket.seed_alpha", SEED, Same("ticket.seed"), "1", "Seed of α, the norm interpolation of AWS.").when(AWS),

        Key::new(Transfer, "transfer.level", Kind::Level, Recipe, "12", "The levels to transfer: numbers, ranges, `last`, or `all` (level 1 to the last).").when(NEED_TICKET),
        Key::new(Transfer, "transfer.inherit", Kind::Word(Inherit::VARIANTS), Recipe, "sign", "The properties that the transfer inherits from the ticket.").title("transferred"),
        Key::new(Transfer, "transfer.flip", Kind::Real(Included(0.0), Included(1.0)), Values(&[Value::real(0.0)]), "0.1", "The fraction of signs flipped in each layer; only with `sign` and `sign+norm`.").when(SIGNS),
        Key::new(Transfer, "transfer.epochs", COUNT, Recipe, "12", "Training epochs after the transfer."),
        Key::new(Transfer, "transfer.schedule", Kind::Word(Schedule::VARIANTS), Recipe, "multi-step", "The schedule of the learning rate."),
        Key::new(Transfer, "transfer.batch", COUNT, Same("ticket.batch"), "64", "Images per training step."),
        Key::new(Transfer, "transfer.optimizer", Kind::Word(Optimizer::VARIANTS), Same("ticket.optimizer"), "sgd", "The optimizer."),
        Key::new(Transfer, "transfer.lr", POSITIVE, Same("ticket.lr"), "0.1", "The initial learning rate."),
        Key::new(Transfer, "transfer.momentum", Kind::Real(Included(0.0), Excluded(1.0)), Same("ticket.momentum"), "0.9", "Momentum of SGD; β₁ of Adam."),
        Key::new(Transfer, "transfer.weight_decay", NOT_NEGATIVE, Same("ticket.weight_decay"), "5e-4", "Weight decay."),
        Key::new(Transfer, "transfer.precision", Kind::Word(Precision::VARIANTS), Same("ticket.precision"), "bf16", "Floating-point precision."),
        Key::new(Transfer, "transfer.seed", SEED, Values(&[Value::Whole(2), Value::Whole(3)]), "2..4", "Sets `seed_init` and `seed_order`. The default is 2 alone if one of them is given."),
        Key::new(Transfer, "transfer.seed_init", SEED, Same("transfer.seed"), "2", "Seed of the fresh initialization."),
        Key::new(Transfer, "transfer.seed_order", SEED, Same("transfer.seed"), "2", "Seed of the order of the images and of their augmentation."),

        Key::new(Connect, "connect.between", Kind::Word(Between::VARIANTS), Required, "seeds", "The networks to connect: transfers that differ only in seeds (`seeds`), a ticket and the same ticket with ψ₀ (`norm-init`), a transfer and the `retrain` transfer of its ticket (`retrain`), neighboring levels (`levels`), tickets of one level (`tickets`), or the plane through three seeds (`plane`)."),
        Key::new(Connect, "connect.level", Kind::Level, Depends("all transferred; `last` without transfers; all for `levels`"), "12", "The levels of the networks to connect."),
        Key::new(Connect, "connect.inherit", Kind::Word(Inherit::VARIANTS), Depends("all transferred"), "sign", "The transfers to connect, by what they inherit.").when(&[INHERIT]),
        Key::new(Connect, "connect.block", Kind::Whole { min: 1, max: MAX_BLOCK }, Values(&[Value::Whole(1)]), "10", "The number of networks on each side of a block of the barrier matrix. Each block is one run; with 1, each pair is one run.").when(&[BLOCKS]),
        Key::new(Connect, "connect.masks", Kind::Word(Masks::VARIANTS), Values(&[Value::Word("same")]), "union", "The pairs to connect: those with the same mask (`same`), or all pairs, over the union of both masks (`union`).").when(&[MASKS, NEW_MASKS]),
        Key::new(Connect, "connect.align", Kind::Word(Align::VARIANTS), Values(&[Value::Word("none")]), "weights", "The alignment of the units of two networks before they are connected: by their weights, or none.").when(&[ALIGN]),
        Key::new(Connect, "connect.points", Kind::Whole { min: 2, max: 1_000_000 }, ByWord("connect.between", &[("plane", Value::Whole(15))], Value::Whole(11)), "11", "The number of points on a path, including both ends; for a plane, on each side of its grid."),
        Key::new(Connect, "connect.refine", Kind::Whole { min: 0, max: 20 }, Values(&[Value::Whole(0)]), "3", "The number of times two points are added next to the point with the largest test error.").when(&[REFINE]),
        Key::new(Connect, "connect.margin", NOT_NEGATIVE, Values(&[Value::real(0.25)]), "0.25", "The margin of a plane's grid around its networks, as a fraction of their extent.").when(&[MARGIN]),
        Key::new(Connect, "connect.sets", Kind::Word(Sets::VARIANTS), Values(&[Value::Word("both")]), "test", "The images on which errors are measured: test and training images (`both`), or test images only (`test`)."),
        Key::new(Connect, "connect.batch", COUNT, Same("ticket.batch"), "64", "Images per batch when BatchNorm statistics are re-estimated."),
        Key::new(Connect, "connect.reestimation_batches", COUNT, Depends("a pass over all training images"), "8", "The number of batches from which BatchNorm statistics are re-estimated.").when(BATCH_NORM),
        Key::new(Connect, "connect.precision", Kind::Word(Precision::VARIANTS), Same("ticket.precision"), "bf16", "Floating-point precision."),

        Key::new(Resources, "resources.jobs", JOBS, Depends("one per core"), "2", "The number of runs executed at the same time."),
        Key::new(Resources, "resources.threads", THREADS, Values(&[Value::Whole(1)]), "1", "Threads per rank; a different number can change the last bits of a result."),
        Key::new(Resources, "resources.ranks", RANKS, Values(&[Value::Whole(1)]), "8", "MPI processes per run. With BatchNorm, their number changes the result; otherwise only its last bits."),
        Key::new(Resources, "resources.gpus", GPUS, Depends("none requested"), "0.25", "GPUs per rank; with a fraction, ranks of several runs share a GPU."),
        Key::new(Resources, "resources.retries", Kind::Whole { min: 0, max: 1_000 }, Values(&[Value::Whole(1)]), "1", "The number of times a failed run is restarted. If its worker was killed, at least 5 restarts in a row without a finished epoch are allowed."),

        Key::new(Report, "report.rows", Kind::Lines(FIELD_NAMES), Depends("`inherit`; `method` without transfers"), "inherit", "The fields that distinguish the rows of the table."),
        Key::new(Report, "report.columns", Kind::Lines(FIELD_NAMES), Depends("`level`, unless rows have it"), "level", "The fields that distinguish the columns of the table."),
        Key::new(Report, "report.value", Kind::Word(Measure::VARIANTS), Values(&[Value::Word("error")]), "error", "The quantity shown in the cells."),
        Key::new(Report, "report.show", Kind::Word(Show::VARIANTS), Values(&[Value::Word("mean±std")]), "mean±ci", "The statistic shown in each cell."),
        Key::new(Report, "report.interval", Kind::Word(IntervalMethod::VARIANTS), Values(&[Value::Word("t")]), "bootstrap", "The method for confidence intervals: Student's t, or the percentile bootstrap."),
        Key::new(Report, "report.confidence", Kind::Real(Included(0.000_001), Included(0.999_999)), Values(&[Value::real(0.95)]), "0.95", "The confidence level of the intervals."),
    ]
};

impl Block {
    /// Returns the keys of a block of the sweep file.
    pub fn keys(self) -> impl Iterator<Item = &'static Key> {
        KEYS.iter().filter(move |key| key.block == self)
    }

    pub fn key(self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }
}

impl Key {
    /// Returns whether the key may have several values, to be combined with those of other axes.
    pub fn is_axis(&self) -> bool {
        let holds_values = matches!(
            self.kind,
            Kind::Word(_) | Kind::Whole { .. } | Kind::Real(..) | Kind::Share { .. } | Kind::Digest | Kind::Level
        );
        holds_values && !matches!(self.block, Block::Resources | Block::Report)
    }

    /// Returns why a connect between these networks does not have the setting; `None` if it has.
    pub(crate) fn missing_between(&self, between: Between) -> Option<&'static str> {
        let mut conditions = self.when.iter().filter(|when| when.setting == "connect.between");
        conditions.find_map(|when| (when.reason)(&between.to_string()))
    }

    pub fn is_seed(&self) -> bool {
        self.name == "seed" || self.name.starts_with("seed_")
    }
}

/// Checks a number from a command line against the declaration of a setting, such as `resources.jobs`.
///
/// # Errors
///
/// Describes the values that the setting accepts.
pub fn check_number(path: &str, number: f64) -> Result<(), String> {
    let kind = KEYS.iter().find(|key| key.path == path).expect("a declared setting").kind;
    let is_whole = number.fract() == 0.0 && number >= 0.0 && kind.has_whole(number as u64);
    if is_whole || kind.has_real(number) { Ok(()) } else { Err(format!("must be {}", kind.expects())) }
}

/// Returns the title of a column that has the name or the path of a setting.
pub fn title(name: &str) -> &str {
    KEYS.iter().filter(|key| key.path == name || key.name == name).find_map(|key| key.title).unwrap_or(name)
}

/// Returns the axis that `zip` or `exclude` name: with its block, or without it if only one block has the setting. A bare
/// `level` or `inherit` is the transfer's, since connects follow from that.
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
