//! A chosen table, as text in cells.

use std::collections::HashSet;

use super::statistics::percent;
use super::tables::{Column, MISSING, Table, count_text, decimal, number, text};
use super::{Interval, IntervalMethod, Pivot, PivotCell, Summary};
use crate::study::grouping::grouped;
use crate::study::sweep::{Measure, Show};

impl Pivot {
    /// As the other tables are; with the best of each column.
    pub fn table(&self) -> Table {
        let mut columns: Vec<Column> = self.rows.iter().map(|name| text(title(name))).collect();
        columns.extend(self.column_keys.iter().map(|key| number(&self.column_title(key))));
        let row = |(key, cells): (&Vec<String>, &Vec<Option<PivotCell>>)| {
            let cells = cells.iter().map(|cell| cell.map_or(String::new(), |cell| self.cell_text(&cell)));
            key.iter().cloned().chain(cells).collect()
        };
        let rows = self.row_keys.iter().zip(&self.cells).map(row).collect();
        Table { columns, rows, best: self.best() }
    }

    /// What the numbers are, in half a sentence.
    pub fn caption(&self) -> String {
        let value = match self.value {
            Measure::Error => "test error in percent",
            Measure::Loss => "test loss in nats",
            Measure::Barrier => "barrier of the test error in percentage points",
            Measure::TrainBarrier => "barrier of the training error in percentage points",
            Measure::LossBarrier => "barrier of the test loss in nats",
            Measure::Remaining => "remaining weights in percent",
            Measure::Seconds => "seconds a run took",
        };
        let summaries = || self.cells.iter().flatten().filter_map(|cell| cell.as_ref()?.summary);
        let interval = summaries().find_map(|summary| summary.interval);
        let ways = Interval::all_told(summaries().filter_map(|summary| summary.interval)).unwrap_or_default();
        let some_have_none = summaries().any(|summary| summary.count > 1 && summary.interval.is_none());
        let shown = match (self.show, interval) {
            (Show::Mean, _) | (Show::MeanCi, None) => "mean".to_string(),
            (Show::MeanStd, _) => "mean ± sample standard deviation".to_string(),
            (Show::MeanCi, Some(interval)) => {
                let shown = if interval.method == IntervalMethod::T { "mean ± half the" } else { "mean and" };
                let none = if some_have_none { ", where there is one" } else { "" };
                format!("{shown} {} % interval by {ways}{none}", percent(interval.level))
            }
            (Show::Median, _) => "median".to_string(),
            (Show::MedianRange, _) => "median, from the smallest to the largest".to_string(),
            (Show::Max, _) => "largest".to_string(),
        };
        let of_what = match self.value {
            Measure::Barrier | Measure::TrainBarrier | Measure::LossBarrier => "paths",
            _ => "runs",
        };
        format!("{value}: {shown}, and the number of {of_what}")
    }

    /// What nobody named, in a sentence; empty if there is nothing.
    pub fn note(&self) -> String {
        match &self.added[..] {
            [] => String::new(),
            names => {
                format!("Rows are told apart by {} too: what differs in it is not to be mixed up.", names.join(", "))
            }
        }
    }

    fn column_title(&self, key: &[String]) -> String {
        if key.is_empty() {
            return self.value.to_string();
        }
        let told = |(name, value): (&String, &String)| match name.as_str() {
            "method" | "inherit" | "between" | "dataset" | "architecture" | "remaining" => value.clone(),
            _ => format!("{name} {value}"),
        };
        self.columns.iter().zip(key).map(told).collect::<Vec<_>>().join("\n")
    }

    fn cell_text(&self, cell: &PivotCell) -> String {
        match &cell.summary {
            None => format!("{MISSING} ({})", count_text(0, cell.planned)),
            Some(summary) => format!("{} ({})", self.shown(summary), count_text(summary.count, cell.planned)),
        }
    }

    /// What is asked for, without the number of runs.
    fn shown(&self, summary: &Summary) -> String {
        let digits = |value: f64| decimal(value, self.digits());
        let mean = digits(summary.mean);
        match (self.show, summary.std, summary.interval) {
            (Show::MeanStd, Some(std), _) => format!("{mean} ± {}", digits(std)),
            (Show::MeanCi, _, Some(interval)) => match interval.method {
                IntervalMethod::T => format!("{mean} ± {}", digits((interval.high - interval.low) / 2.0)),
                IntervalMethod::Bootstrap => format!("{mean} [{}, {}]", digits(interval.low), digits(interval.high)),
            },
            (Show::Median, ..) => digits(summary.median),
            (Show::MedianRange, ..) => {
                format!("{} [{}, {}]", digits(summary.median), digits(summary.min), digits(summary.max))
            }
            (Show::Max, ..) => digits(summary.max),
            (Show::Mean | Show::MeanStd | Show::MeanCi, ..) => mean,
        }
    }

    /// How many digits after the point are shown.
    fn digits(&self) -> usize {
        match self.value {
            Measure::Loss | Measure::LossBarrier => 3,
            _ => 1,
        }
    }

    /// The smallest of each column, where smaller is better, among rows that differ in nothing but what is compared and are
    /// finished.
    fn best(&self) -> HashSet<(usize, usize)> {
        if matches!(self.value, Measure::Remaining | Measure::Seconds) {
            return HashSet::new();
        }
        let center = |summary: Summary| match self.show {
            Show::Mean | Show::MeanStd | Show::MeanCi => summary.mean,
            Show::Median | Show::MedianRange => summary.median,
            Show::Max => summary.max,
        };
        let conditions = |row: &usize| -> Vec<&String> {
            let named = self.rows.iter().zip(&self.row_keys[*row]);
            named.filter(|(name, _)| !is_compared(name)).map(|(_, value)| value).collect()
        };
        let comparisons = grouped(0..self.row_keys.len(), conditions);
        let mut best = HashSet::new();
        for column in 0..self.column_keys.len() {
            let value = |row: &usize| self.cells[*row][column].as_ref()?.summary.map(center);
            let is_finished = |row: &usize| {
                let cell = self.cells[*row][column].as_ref();
                cell.is_none_or(|cell| cell.summary.is_some_and(|summary| summary.count == cell.planned))
            };
            // Before all is there, the best may change from one report to the next.
            for rows in comparisons.iter().filter(|rows| rows.iter().all(is_finished)) {
                let values: Vec<Option<f64>> = rows.iter().map(value).collect();
                let place = self.rows.len() + column;
                best.extend(smallest(&values, self.digits()).into_iter().map(|at| (rows[at], place)));
            }
        }
        best
    }
}

/// What is done to get a good network; all else are the conditions under which it is.
fn is_compared(name: &str) -> bool {
    matches!(name, "method" | "inherit")
}

/// The places of the smallest of several numbers, to so many digits after the point as tables show; of a single number
/// there is no best.
pub fn smallest(values: &[Option<f64>], digits: usize) -> Vec<usize> {
    let shown = |value: f64| (value * 10_f64.powi(digits as i32)).round();
    let given: Vec<(usize, f64)> =
        values.iter().enumerate().filter_map(|(at, value)| Some((at, shown((*value)?)))).collect();
    let least = given.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    if given.len() < 2 {
        return vec![];
    }
    given.into_iter().filter(|(_, value)| *value == least).map(|(at, _)| at).collect()
}

/// What people call the method and what was transferred; axes have their own names.
pub fn title(name: &str) -> &str {
    match name {
        "method" => "ticket",
        "inherit" => "transferred",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Study;
    use super::super::pivot::pivot;
    use super::super::statistics::Estimate;
    use super::*;
    use crate::run::settings::{Inherit, Seeds};
    use crate::study::plan::RunState;
    use crate::study::sweep::Layout;

    fn table(layout: Layout, interval: IntervalMethod) -> (Pivot, Table) {
        let estimate = Estimate { method: interval, ..Estimate::default() };
        let mut study = Study::digits();
        study.unfinish(RunState::Pending, |planned| {
            planned.label.inherit == Some(Inherit::Mask) && planned.label.seeds == [Seeds::from(3)]
        });
        let pivot = pivot(&study.report(), &layout, estimate).unwrap();
        let table = pivot.table();
        (pivot, table)
    }

    fn by(show: Show, value: Measure) -> Layout {
        Layout {
            rows: Some(vec!["inherit".to_string()]),
            columns: Some(vec!["method".to_string(), "level".to_string()]),
            value: Some(value),
            show: Some(show),
            ..Layout::default()
        }
    }

    #[test]
    fn cells_say_what_was_asked_for_and_their_number() {
        let first = |show, interval| table(by(show, Measure::Error), interval).1.rows[0][1].clone();
        assert_eq!(first(Show::Mean, IntervalMethod::T), "6.3 (3)");
        assert_eq!(first(Show::MeanStd, IntervalMethod::T), "6.3 ± 1.3 (3)");
        // 4.3027 · 1.3 / √3.
        assert_eq!(first(Show::MeanCi, IntervalMethod::T), "6.3 ± 3.2 (3)");
        assert_eq!(first(Show::MeanCi, IntervalMethod::Bootstrap), "6.3 [5.0, 7.6] (3)");
        assert_eq!(first(Show::Median, IntervalMethod::T), "6.3 (3)");
        assert_eq!(first(Show::MedianRange, IntervalMethod::T), "6.3 [5.0, 7.6] (3)");
        assert_eq!(first(Show::Max, IntervalMethod::T), "7.6 (3)");
        let (_, barriers) = table(by(Show::Mean, Measure::LossBarrier), IntervalMethod::T);
        // There are paths of two kinds, which nobody named.
        assert_eq!(barriers.rows[3][..3], ["seeds", "retrain", "0.003 (3)"]);
    }

    #[test]
    fn columns_have_titles_and_the_table_a_caption() {
        let (pivot, table) = table(by(Show::MeanCi, Measure::Error), IntervalMethod::T);
        assert_eq!(table.columns[0].title, "transferred");
        assert_eq!(table.columns[1].title, "LRR\nlevel 12");
        assert_eq!(table.rows[1][1], "11.7 ± 25.4 (2/3)");
        assert_eq!(
            pivot.caption(),
            "test error in percent: mean ± half the 95 % interval by Student's t, and the number of runs"
        );
        assert_eq!(pivot.note(), "");
    }

    #[test]
    fn the_best_of_a_column() {
        let (_, unfinished) = table(by(Show::Mean, Measure::Error), IntervalMethod::T);
        assert!(unfinished.best.is_empty(), "a seed of mask is missing");
        let finished = pivot(&Study::digits().report(), &by(Show::Mean, Measure::Error), Estimate::default());
        assert_eq!(finished.unwrap().table().best, HashSet::from([(3, 1), (3, 2)]), "retrain");
        let values = [Some(1.04), Some(1.0), None, Some(2.0)];
        assert_eq!((smallest(&values, 1), smallest(&values, 3)), (vec![0, 1], vec![1]));
        let (_, losses) = self::table(by(Show::Mean, Measure::LossBarrier), IntervalMethod::T);
        // LRR: 0.008, 0.459, 0.012 and 0.003 nats: to one digit, three of them would be the best.
        assert_eq!(losses.best.iter().filter(|(_, column)| *column == 2).count(), 1, "{:?}", losses.rows);
    }

    /// Fewer weights, another level or another setting is not what is worse.
    #[test]
    fn only_what_is_compared_has_a_best() {
        let axes = |lr: &str| vec![("transfer.lr".to_string(), lr.to_string())];
        let report = Study::new(&[6, 12], &[2, 3, 4], &[axes("0.05"), axes("0.1")]).report();
        let layout = Layout {
            rows: Some(["inherit", "level", "transfer.lr"].map(str::to_string).to_vec()),
            columns: Some(vec!["method".to_string()]),
            ..Layout::default()
        };
        let table = pivot(&report, &layout, Estimate::default()).unwrap().table();
        let mut best: Vec<_> = table.best.iter().filter(|(_, column)| *column == 4).collect();
        best.sort();
        let best: Vec<String> = best.into_iter().map(|&(row, _)| table.rows[row][..3].join(" ")).collect();
        assert_eq!(best, ["retrain 6 0.05", "retrain 6 0.1", "retrain 12 0.05", "retrain 12 0.1"]);
    }
}
