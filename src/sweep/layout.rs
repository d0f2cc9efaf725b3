//! The block `report`: the custom table of a study. It is not part of any run's identity.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantNames};

use super::keys::{Complaint, Form, Named};
use super::schema::KEYS;
use crate::yaml::{listed, nearest, quoted};

/// The layout of the custom table. Fields that are `None` are as in [`Layout::default`].
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Layout {
    /// The names of [`FIELDS`] or of settings.
    pub rows: Option<Vec<String>>,
    pub columns: Option<Vec<String>>,
    pub value: Option<Measure>,
    pub show: Option<Show>,
    pub interval: Option<IntervalMethod>,
    /// The confidence level of the intervals, in (0, 1).
    pub confidence: Option<f64>,
}

impl Layout {
    /// Returns whether a table is requested, and not only an interval.
    pub fn has_table(&self) -> bool {
        self.rows.is_some() || self.columns.is_some() || self.value.is_some() || self.show.is_some()
    }

    /// Returns the layout with the fields of another where it has none.
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

/// The fields that rows and columns may have, besides settings that are axes.
pub const FIELDS: [&str; 7] = ["method", "level", "remaining", "inherit", "between", "dataset", "architecture"];

/// The quantity in the cells of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Display, EnumString, VariantNames)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Measure {
    /// The error on the test set, in percent.
    #[default]
    Error,
    /// The loss on the test set, in nats.
    Loss,
    /// The barrier of the test error, in percentage points.
    Barrier,
    /// The barrier of the error on training images, in percentage points.
    TrainBarrier,
    /// The barrier of the test loss, in nats.
    LossBarrier,
    /// The test error that a ticket's initial norm parameters add, in percentage points, on paths of `norm-init`.
    NormChange,
    /// The remaining ratio, in percent.
    Remaining,
    /// The duration of a run, in seconds.
    Seconds,
}

impl Measure {
    /// Returns whether it is measured on paths, rather than on networks.
    pub fn is_of_paths(self) -> bool {
        matches!(self, Measure::Barrier | Measure::TrainBarrier | Measure::LossBarrier | Measure::NormChange)
    }
}

/// The statistic shown in each cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Display, EnumString, VariantNames)]
pub enum Show {
    #[serde(rename = "mean")]
    #[strum(serialize = "mean")]
    Mean,
    /// The mean with the sample standard deviation.
    #[default]
    #[serde(rename = "mean±std")]
    #[strum(serialize = "mean±std")]
    MeanStd,
    /// The mean with its confidence interval.
    #[serde(rename = "mean±ci")]
    #[strum(serialize = "mean±ci")]
    MeanCi,
    #[serde(rename = "median")]
    #[strum(serialize = "median")]
    Median,
    /// The median with the smallest and the largest value.
    #[serde(rename = "median(range)")]
    #[strum(serialize = "median(range)")]
    MedianRange,
    #[serde(rename = "max")]
    #[strum(serialize = "max")]
    Max,
}

/// The method for confidence intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Display, EnumString, VariantNames)]
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
    /// Returns its name in sentences, as in `by Student's t`.
    pub fn describe(self) -> &'static str {
        match self {
            IntervalMethod::T => "Student's t",
            IntervalMethod::Bootstrap => "the percentile bootstrap",
        }
    }
}

/// The form of names in `rows` and `columns`.
pub(crate) const FIELD_NAMES: Form = Form { expects: "one or several names", read: field_name };

fn field_name(named: &Named, name: &str) -> Result<String, Complaint> {
    let axes = KEYS.iter().filter(|key| key.is_axis());
    if FIELDS.contains(&name) || axes.clone().any(|key| key.path == name || key.name == name) {
        return Ok(name.to_string());
    }
    let help = match nearest(name, FIELDS.into_iter().chain(axes.map(|key| key.path))) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("use {}, or a setting such as `ticket.lr`", listed(FIELDS)),
    };
    Err((format!("`{}` cannot contain {}", named.label, quoted(name)), help))
}
