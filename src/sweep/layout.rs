//! The block `report`: which table a study is to be shown as. It is part of no run's identity.

use std::str::FromStr;

use serde::Serialize;
use strum::{Display, EnumString, VariantNames};

use super::schema::{Block, KEYS, Key, unknown_key};
use super::values::{Axis, Value};
use crate::yaml::{Content, Diagnostic, Node, listed, nearest, quoted};

/// The layout of the custom table. Fields that are `None` are as in [`Layout::default`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Layout {
    /// Names of [`FIELDS`] or of settings.
    pub rows: Option<Vec<String>>,
    pub columns: Option<Vec<String>>,
    pub value: Option<Measure>,
    pub show: Option<Show>,
    pub interval: Option<IntervalMethod>,
    /// In (0, 1).
    pub confidence: Option<f64>,
}

impl Layout {
    /// Whether a table is asked for, and not only an interval.
    pub fn has_table(&self) -> bool {
        self.rows.is_some() || self.columns.is_some() || self.value.is_some() || self.show.is_some()
    }

    /// The other's choices where this one has none.
    pub fn or(self, other: &Layout) -> Layout {
        Layout {
            rows: self.rows.or_else(|| other.rows.clone()),
            columns: self.columns.or_else(|| other.columns.clone()),
            value: self.value.or(other.value),
            show: self.show.or(other.show),
            interval: self.interval.or(other.interval),
            confidence: self.confidence.or(other.confidence),
        }
    }
}

/// What rows and columns may be, beside settings that are axes.
pub const FIELDS: [&str; 7] = ["method", "level", "remaining", "inherit", "between", "dataset", "architecture"];

/// What is in the cells of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Display, EnumString, VariantNames)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Measure {
    /// On the test set, in percent.
    #[default]
    Error,
    /// On the test set, in nats.
    Loss,
    /// Of the test error, in percentage points.
    Barrier,
    /// Of the error on training images, in percentage points.
    TrainBarrier,
    /// Of the test loss, in nats.
    LossBarrier,
    /// What a ticket's initial norm parameters add to its test error, in percentage points. Of paths of `norm-init`.
    NormChange,
    /// The remaining ratio, in percent.
    Remaining,
    /// How long a run took.
    Seconds,
}

impl Measure {
    /// Whether it is measured of paths; all else is of networks.
    pub fn is_of_paths(self) -> bool {
        matches!(self, Measure::Barrier | Measure::TrainBarrier | Measure::LossBarrier | Measure::NormChange)
    }
}

/// What is said of the numbers of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Display, EnumString, VariantNames)]
pub enum Show {
    #[serde(rename = "mean")]
    #[strum(serialize = "mean")]
    Mean,
    /// With the sample standard deviation.
    #[default]
    #[serde(rename = "mean±std")]
    #[strum(serialize = "mean±std")]
    MeanStd,
    /// With the confidence interval of the mean.
    #[serde(rename = "mean±ci")]
    #[strum(serialize = "mean±ci")]
    MeanCi,
    #[serde(rename = "median")]
    #[strum(serialize = "median")]
    Median,
    /// With the smallest and the largest.
    #[serde(rename = "median(range)")]
    #[strum(serialize = "median(range)")]
    MedianRange,
    #[serde(rename = "max")]
    #[strum(serialize = "max")]
    Max,
}

/// How a confidence interval is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Display, EnumString, VariantNames)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum IntervalMethod {
    /// Student's t.
    #[default]
    T,
    /// The percentile bootstrap.
    Bootstrap,
}

impl IntervalMethod {
    /// What people call it, as in `by Student's t`.
    pub fn describe(self) -> &'static str {
        match self {
            IntervalMethod::T => "Student's t",
            IntervalMethod::Bootstrap => "the percentile bootstrap",
        }
    }
}

/// The names in `rows` or `columns`: one, or a list.
fn names(key: &Key, node: &Node) -> Result<Vec<String>, Diagnostic> {
    let of_one = |node: &Node| match &node.content {
        Content::Text(text) => match is_known(text) {
            true => Ok(text.clone()),
            false => {
                let message = format!("`{}` cannot contain {}", key.path, quoted(text));
                Err(Diagnostic::at(node.place, message, help(text)))
            }
        },
        other => {
            let message = format!("`{}` must be {}, found {}", key.path, key.kind.expects(), other.found());
            Err(Diagnostic::at(node.place, message, format!("for example `{}: {}`", key.name, key.example)))
        }
    };
    match &node.content {
        Content::List(nodes) => nodes.iter().map(of_one).collect(),
        _ => Ok(vec![of_one(node)?]),
    }
}

/// Whether rows or columns can be this in some study.
fn is_known(name: &str) -> bool {
    FIELDS.contains(&name) || KEYS.iter().any(|key| key.is_axis() && (key.path == name || key.name == name))
}

fn help(name: &str) -> String {
    let paths = KEYS.iter().filter(|key| key.is_axis()).map(|key| key.path);
    match nearest(name, FIELDS.into_iter().chain(paths)) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("use {}, or a setting such as `ticket.lr`", listed(FIELDS)),
    }
}

/// Reads the block.
pub(crate) fn read(node: &Node) -> Result<Layout, Diagnostic> {
    let entries = match &node.content {
        Content::Map(entries) => entries,
        // A block of which every line is commented out.
        Content::Nothing => return Ok(Layout::default()),
        other => {
            let message = format!("`report` must be a block of settings, found {}", other.found());
            return Err(Diagnostic::at(node.place, message, "for example `report: {rows: inherit, columns: level}`"));
        }
    };
    let mut layout = Layout::default();
    for (name, node) in entries {
        let Some(key) = Block::Report.key(&name.text) else {
            let (message, help) = unknown_key(Block::Report, &name.text);
            return Err(Diagnostic::at(name.place, message, help));
        };
        match key.path {
            "report.rows" => layout.rows = Some(names(key, node)?),
            "report.columns" => layout.columns = Some(names(key, node)?),
            "report.value" => layout.value = word(key, node)?,
            "report.show" => layout.show = word(key, node)?,
            "report.interval" => layout.interval = word(key, node)?,
            "report.confidence" => layout.confidence = real(key, node)?,
            other => unreachable!("{other} is not in the table of keys"),
        }
    }
    Ok(layout)
}

fn value(key: &'static Key, node: &Node) -> Result<Option<Value>, Diagnostic> {
    Ok(Axis::read_single(key, node)?.values().next())
}

/// A word as the type that the table of keys took it from.
fn word<T: FromStr>(key: &'static Key, node: &Node) -> Result<Option<T>, Diagnostic> {
    Ok(match value(key, node)? {
        Some(Value::Word(word)) => word.parse().ok(),
        _ => None,
    })
}

fn real(key: &'static Key, node: &Node) -> Result<Option<f64>, Diagnostic> {
    Ok(match value(key, node)? {
        Some(Value::Real(bits)) => Some(f64::from_bits(bits)),
        _ => None,
    })
}
