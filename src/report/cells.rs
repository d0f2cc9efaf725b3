//! A chosen table, as text in cells.

use std::collections::HashSet;

use winsign_sweep::{Measure, Show};

use super::statistics::percent;
use super::tables::{Column, MISSING, Table, count_text, decimal, number, text};
use super::{Interval, IntervalMethod, Pivot, PivotCell, Summary};

impl PivotCell {
    /// Whether the number of runs says more than that of tickets.
    fn counts_runs(&self) -> bool {
        self.tickets.is_some_and(|tickets| tickets != self.planned)
    }
}

impl Pivot {
    /// As the other tables are; with the best of each column.
    pub fn table(&self) -> Table {
        let mut columns: Vec<Column> = self.rows.iter().map(|name| text(winsign_sweep::title(name))).collect();
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
            Measure::NormChange => "what initial norm parameters add to the test error in percentage points",
            Measure::Remaining => "remaining weights in percent",
            Measure::Seconds => "seconds a run took",
        };
        let summaries = || self.cells.iter().flatten().filter_map(|cell| cell.as_ref()?.summary);
        let interval = summaries().find_map(|summary| summary.interval);
        let ways = Interval::describe_all(summaries().filter_map(|summary| summary.interval)).unwrap_or_default();
        let some_have_none = summaries().any(|summary| summary.count > 1 && summary.interval.is_none());
        let shown = match (self.show, interval) {
            (Show::Mean, _) => "mean".to_string(),
            (Show::MeanCi, None) => "mean; too few tickets for an interval".to_string(),
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
        let of_what = if self.value.is_of_paths() { "paths" } else { "runs" };
        let single =
            |cell: &PivotCell| cell.tickets == Some(1) && cell.summary.is_some_and(|summary| summary.count > 1);
        let single = match self.show {
            Show::MeanStd if self.cells.iter().flatten().flatten().any(single) => {
                "; with one ticket the deviation is that between its networks"
            }
            _ => "",
        };
        let counts = match self.cells.iter().flatten().flatten().any(|cell| cell.counts_runs()) {
            true => format!("the numbers of tickets and of {of_what}"),
            false if self.cells.iter().flatten().flatten().any(|cell| cell.tickets.is_some()) => {
                "the number of tickets".to_string()
            }
            false => format!("the number of {of_what}"),
        };
        format!("{value}: {shown}, and in parentheses {counts}{single}")
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
        let runs = count_text(cell.summary.map_or(0, |summary| summary.count), cell.planned);
        let counts = match cell.tickets {
            Some(tickets) if cell.counts_runs() => format!("{tickets}, {runs}"),
            _ => runs,
        };
        let shown = cell.summary.map_or(MISSING.to_string(), |summary| self.shown(&summary));
        format!("{shown} ({counts})")
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

    /// The places of the best cells in the table.
    fn best(&self) -> HashSet<(usize, usize)> {
        let of_row = |(row, cells): (usize, &Vec<Option<PivotCell>>)| {
            let is_best = |(_, cell): &(usize, &Option<PivotCell>)| cell.is_some_and(|cell| cell.best);
            let best = cells.iter().enumerate().filter(is_best);
            best.map(|(column, _)| (row, self.rows.len() + column)).collect::<Vec<_>>()
        };
        self.cells.iter().enumerate().flat_map(of_row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::pivot::pivot;
    use super::super::statistics::Estimate;
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_core::settings::{Inherit, Seeds};
    use winsign_sweep::Layout;
    use winsign_sweep::plan::RunState;
    use winsign_testkit::study::{Study, ticket_of};

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
        assert_eq!(first(Show::Mean, IntervalMethod::T), "6.3 (1, 3)");
        assert_eq!(first(Show::MeanStd, IntervalMethod::T), "6.3 ± 1.3 (1, 3)");
        assert_eq!(first(Show::MeanCi, IntervalMethod::T), "6.3 (1, 3)", "one ticket has no interval");
        assert_eq!(first(Show::Median, IntervalMethod::T), "6.3 (1, 3)");
        assert_eq!(first(Show::MedianRange, IntervalMethod::T), "6.3 [5.0, 7.6] (1, 3)");
        assert_eq!(first(Show::Max, IntervalMethod::T), "7.6 (1, 3)");
        let of_tickets = |interval, seeds: &[u64]| {
            let estimate = Estimate { method: interval, ..Estimate::default() };
            let report = Study::of_tickets(seeds, &[2, 3]).report();
            pivot(&report, &by(Show::MeanCi, Measure::Error), estimate).unwrap().table().rows[0][1].clone()
        };
        // Means of tickets 6.3, 7.6 and 8.9: 4.3027 · 1.3 / √3.
        assert_eq!(of_tickets(IntervalMethod::T, &[1, 2, 3]), "7.6 ± 3.2 (3, 6)");
        assert_eq!(of_tickets(IntervalMethod::Bootstrap, &[1, 2, 3]), "7.6 (3, 6)");
        assert_eq!(of_tickets(IntervalMethod::Bootstrap, &[1, 2, 3, 4, 5]), "8.9 [7.3, 10.5] (5, 10)");
        let (_, barriers) = table(by(Show::Mean, Measure::LossBarrier), IntervalMethod::T);
        // There are paths of two kinds, which nobody named.
        assert_eq!(barriers.rows[3][..3], ["seeds", "retrain", "0.003 (1, 3)"]);
    }

    #[test]
    fn columns_have_titles_and_the_table_a_caption() {
        let (pivot, table) = table(by(Show::MeanCi, Measure::Error), IntervalMethod::T);
        assert_eq!(table.columns[0].title, "transferred");
        assert_eq!(table.columns[1].title, "LRR\nlevel 12");
        assert_eq!(table.rows[1][1], "11.7 (1, 2/3)");
        assert_eq!(
            pivot.caption(),
            "test error in percent: mean; too few tickets for an interval, and in parentheses the numbers of tickets and of runs"
        );
        assert_eq!(pivot.note(), "");
    }

    #[test]
    fn the_best_of_a_column() {
        let (_, unfinished) = table(by(Show::Mean, Measure::Error), IntervalMethod::T);
        assert!(unfinished.best.is_empty(), "a seed of mask is missing");
        let best = |study: &Study, value: Measure| {
            pivot(&study.report(), &by(Show::Mean, value), Estimate::default()).unwrap().table().best
        };
        assert_eq!(best(&Study::digits(), Measure::Error), HashSet::new(), "one ticket");
        assert_eq!(best(&differing_tickets(&[12]), Measure::Error), HashSet::from([(3, 1), (3, 2)]), "retrain");
        assert_eq!(best(&differing_tickets(&[12]), Measure::Seconds), HashSet::new());
    }

    /// Three tickets, on each of which retraining is about as much better.
    fn differing_tickets(levels: &[u32]) -> Study {
        let axes = |seed: u64| vec![("ticket.seed".to_string(), seed.to_string())];
        let rates = ["0.05", "0.1"];
        let axes: Vec<_> = (1..=3)
            .flat_map(|seed| {
                let of_rate = move |lr: &str| [vec![("transfer.lr".to_string(), lr.to_string())], axes(seed)].concat();
                if levels.len() > 1 { rates.map(of_rate).to_vec() } else { vec![axes(seed)] }
            })
            .collect();
        Study::new(levels, &[2, 3], &axes).with_errors(|label| {
            let ticket = ticket_of(label) as f64;
            let place = f64::from(label.inherit.map_or(0, |inherit| inherit as u32));
            if label.inherit == Some(Inherit::Retrain) { ticket } else { 20.0 + place + 1.1 * ticket }
        })
    }

    /// Fewer weights, another level or another setting is not what is worse.
    #[test]
    fn only_what_is_compared_has_a_best() {
        let report = differing_tickets(&[6, 12]).report();
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
