//! A custom table with typed cells.

use winsign_sweep::{Measure, Show};

use super::{Pivot, PivotCell};
use crate::markdown::capitalized;
use crate::statistics::percent;
use crate::table::{Cell, Declaration, Form, Measured, Table};
use crate::{Interval, IntervalMethod, Summary};

impl Pivot {
    /// Returns the table, with the best of each column.
    pub fn table(&self) -> Table {
        let rows: Vec<usize> = (0..self.row_keys.len()).collect();
        let mut table = Declaration::new("chosen", "Custom table", &rows).runs(|&row| self.runs[row].clone());
        for (at, name) in self.rows.iter().enumerate() {
            table = table.key(name, winsign_sweep::title(name), Form::Text, |&row| self.row_keys[row][at].clone());
        }
        for (at, key) in self.column_keys.iter().enumerate() {
            let cell = |row: usize| self.cells[row][at].as_ref();
            let title = self.column_title(key);
            table = table
                .value(&title.replace('\n', " "), &title, Form::Decimals(self.digits()), |&row| {
                    cell(row).map_or(Cell::Blank, |cell| self.cell(cell).into())
                })
                .best(|&row| cell(row).is_some_and(|cell| cell.best));
        }
        table.finish(format!("{}. {}", capitalized(&self.caption()), self.note()).trim_end())
    }

    /// Describes the cells, in half a sentence.
    pub fn caption(&self) -> String {
        let quantity = match self.value {
            Measure::Error => "test error in percent",
            Measure::Loss => "test loss in nats",
            Measure::Barrier => "barrier of the test error in percentage points",
            Measure::TrainBarrier => "barrier of the training error in percentage points",
            Measure::LossBarrier => "barrier of the test loss in nats",
            Measure::NormChange => "test error added by initial norm parameters in percentage points",
            Measure::Remaining => "remaining weights in percent",
            Measure::Seconds => "duration of a run in seconds",
        };
        format!("{quantity}: {}, and in parentheses {}", self.statistic_text(), self.counts_text())
    }

    /// Describes the statistic in the cells, and what stands beside it in some or all of them.
    fn statistic_text(&self) -> String {
        let summaries = || self.given_cells().filter_map(|cell| cell.summary);
        let where_given = |is_given: fn(&Summary) -> bool| match summaries().all(|summary| is_given(&summary)) {
            true => "",
            false => ", where there is one",
        };
        match self.show {
            Show::Mean => "mean".to_string(),
            Show::Median => "median".to_string(),
            Show::MedianRange => "median, from the smallest to the largest".to_string(),
            Show::Max => "largest".to_string(),
            Show::MeanStd if summaries().all(|summary| summary.std.is_none()) => {
                "mean; too few numbers for a standard deviation".to_string()
            }
            Show::MeanStd => {
                let single = self
                    .given_cells()
                    .any(|cell| cell.tickets == Some(1) && cell.summary.is_some_and(|summary| summary.count > 1));
                let single = if single { " between tickets, or between the networks of one ticket" } else { "" };
                format!("mean ± sample standard deviation{single}{}", where_given(|summary| summary.std.is_some()))
            }
            Show::MeanCi => match summaries().find_map(|summary| summary.interval) {
                None => "mean; too few tickets for an interval".to_string(),
                Some(interval) => {
                    let methods = Interval::describe_all(summaries().filter_map(|summary| summary.interval));
                    let mean = if interval.method == IntervalMethod::T { "mean ± half the" } else { "mean and" };
                    let (level, methods) = (percent(interval.level), methods.unwrap_or_default());
                    let given = where_given(|summary| summary.interval.is_some());
                    format!("{mean} {level} % interval by {methods}{given}")
                }
            },
        }
    }

    /// Describes the counts in parentheses, which are the same in all cells.
    fn counts_text(&self) -> String {
        let counted = if self.value.is_of_paths() { "paths" } else { "runs" };
        if !self.shows_tickets() {
            return format!("the number of {counted}");
        }
        let none = if self.given_cells().any(|cell| cell.tickets.is_none()) {
            " (– where each network is a sample)"
        } else {
            ""
        };
        format!("the numbers of tickets{none} and of {counted}")
    }

    /// Returns whether cells show the number of tickets: in some cell it differs from that of runs.
    fn shows_tickets(&self) -> bool {
        self.given_cells().any(|cell| cell.tickets_planned.is_some_and(|tickets| tickets != cell.planned))
    }

    fn given_cells(&self) -> impl Iterator<Item = &PivotCell> {
        self.cells.iter().flatten().flatten()
    }

    /// Says in a sentence which rows were added; empty if none were.
    pub fn note(&self) -> String {
        match &self.added[..] {
            [] => String::new(),
            names => {
                format!("Each value of {} has its own rows, so that no cell mixes them.", names.join(", "))
            }
        }
    }

    fn column_title(&self, key: &[String]) -> String {
        if key.is_empty() {
            return self.value.to_string();
        }
        let text = |(name, value): (&String, &String)| match name.as_str() {
            "method" | "inherit" | "between" | "dataset" | "architecture" | "remaining" => value.clone(),
            _ => format!("{name} {value}"),
        };
        self.columns.iter().zip(key).map(text).collect::<Vec<_>>().join("\n")
    }

    /// Returns the chosen statistic, with the numbers of tickets and of runs.
    fn cell(&self, cell: &PivotCell) -> Measured {
        let runs = (cell.summary.map_or(0, |summary| summary.count), cell.planned);
        let tickets = (cell.tickets.unwrap_or(0), cell.tickets_planned.unwrap_or(0));
        let shown = cell.summary.map_or(Measured::default(), |summary| self.shown(summary));
        let counts = if self.shows_tickets() { vec![tickets, runs] } else { vec![runs] };
        Measured { counts, summary: cell.summary, ..shown }
    }

    fn shown(&self, summary: Summary) -> Measured {
        let center = Some(match self.show {
            Show::Mean | Show::MeanStd | Show::MeanCi => summary.mean,
            Show::Median | Show::MedianRange => summary.median,
            Show::Max => summary.max,
        });
        let interval = |method| summary.interval.filter(|one| self.show == Show::MeanCi && one.method == method);
        Measured {
            center,
            deviation: match self.show {
                Show::MeanStd => summary.std,
                _ => interval(IntervalMethod::T).map(|interval| (interval.high - interval.low) / 2.0),
            },
            interval: match self.show {
                Show::MedianRange => Some((summary.min, summary.max)),
                _ => interval(IntervalMethod::Bootstrap).map(|interval| (interval.low, interval.high)),
            },
            ..Measured::default()
        }
    }

    /// Returns how many digits after the point are shown.
    fn digits(&self) -> usize {
        match self.value {
            Measure::Loss | Measure::LossBarrier => 3,
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::pivot;
    use super::*;
    use crate::made_up::Reported as _;
    use crate::statistics::Estimate;
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
    fn cells_show_the_chosen_statistic_and_counts() {
        let first = |show, interval| table(by(show, Measure::Error), interval).1.columns[1].text(0);
        assert_eq!(first(Show::Mean, IntervalMethod::T), "6.3 (1, 3)");
        assert_eq!(first(Show::MeanStd, IntervalMethod::T), "6.3 ± 1.3 (1, 3)");
        assert_eq!(first(Show::MeanCi, IntervalMethod::T), "6.3 (1, 3)", "one ticket has no interval");
        assert_eq!(first(Show::Median, IntervalMethod::T), "6.3 (1, 3)");
        assert_eq!(first(Show::MedianRange, IntervalMethod::T), "6.3 [5.0, 7.6] (1, 3)");
        assert_eq!(first(Show::Max, IntervalMethod::T), "7.6 (1, 3)");
        let cell_of_tickets = |interval, seeds: &[u64]| {
            let estimate = Estimate { method: interval, ..Estimate::default() };
            let report = Study::with_tickets(seeds, &[2, 3]).report();
            pivot(&report, &by(Show::MeanCi, Measure::Error), estimate).unwrap().table().columns[1].text(0)
        };
        // Means of tickets 6.3, 7.6 and 8.9: 4.3027 · 1.3 / √3.
        assert_eq!(cell_of_tickets(IntervalMethod::T, &[1, 2, 3]), "7.6 ± 3.2 (3, 6)");
        assert_eq!(cell_of_tickets(IntervalMethod::Bootstrap, &[1, 2, 3]), "7.6 (3, 6)");
        assert_eq!(cell_of_tickets(IntervalMethod::Bootstrap, &[1, 2, 3, 4, 5]), "8.9 [7.3, 10.5] (5, 10)");
        let (_, barriers) = table(by(Show::Mean, Measure::LossBarrier), IntervalMethod::T);
        // There are paths of two kinds, which the layout does not name.
        assert_eq!(barriers.texts(3)[..3], ["seeds", "retrain", "0.003 (1, 3)"]);
    }

    #[test]
    fn columns_have_titles_and_the_table_a_caption() {
        let (pivot, table) = table(by(Show::MeanCi, Measure::Error), IntervalMethod::T);
        assert_eq!(table.columns[0].title, "transferred");
        assert_eq!(table.columns[1].title, "LRR\nlevel 12");
        assert_eq!(table.columns[1].text(1), "11.7 (1, 2/3)");
        assert_eq!(
            pivot.caption(),
            "test error in percent: mean; too few tickets for an interval, and in parentheses the numbers of tickets and of runs"
        );
        assert_eq!(pivot.note(), "");
    }

    #[test]
    fn all_cells_have_the_same_counts() {
        let mut study = Study::with_tickets(&[1, 2], &[2, 3]);
        study.add_dense(&[2, 3, 4]);
        study.unfinish(RunState::Pending, |planned| {
            planned.label.inherit == Some(Inherit::Mask) && ticket_of(&planned.label) == 2
        });
        let layout = Layout { rows: Some(vec!["inherit".to_string()]), show: Some(Show::MeanCi), ..Layout::default() };
        let pivot = pivot(&study.report(), &layout, Estimate::default()).unwrap();
        let table = pivot.table();
        let texts: Vec<String> =
            (0..table.rows.len()).map(|row| table.texts(row).join(" ").trim_end().to_string()).collect();
        let counts =
            |start: &str| texts.iter().find(|text| text.starts_with(start)).unwrap().rsplit_once(" (").unwrap().1;
        assert_eq!((counts("AWS sign"), counts("AWS mask"), counts("– dense")), ("2, 4)", "1/2, 2/4)", "–, 3)"));
        assert!(pivot.caption().ends_with(
            ", where there is one, and in parentheses the numbers of tickets (– where each network is a sample) and of runs"
        ));
    }

    /// Returns the rows and columns of the best values.
    fn best_places(table: &Table) -> HashSet<(usize, usize)> {
        let columns = table.columns.iter().enumerate();
        columns.flat_map(|(column, one)| one.best.iter().map(move |&row| (row, column))).collect()
    }

    #[test]
    fn best_of_a_column_is_marked() {
        let (_, unfinished) = table(by(Show::Mean, Measure::Error), IntervalMethod::T);
        assert!(best_places(&unfinished).is_empty(), "a seed of mask is missing");
        let best = |study: &Study, value: Measure| {
            best_places(&pivot(&study.report(), &by(Show::Mean, value), Estimate::default()).unwrap().table())
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

    /// Cells of other levels or settings are not compared with each other.
    #[test]
    fn each_level_and_setting_has_its_own_best() {
        let report = differing_tickets(&[6, 12]).report();
        let layout = Layout {
            rows: Some(["inherit", "level", "transfer.lr"].map(str::to_string).to_vec()),
            columns: Some(vec!["method".to_string()]),
            ..Layout::default()
        };
        let table = pivot(&report, &layout, Estimate::default()).unwrap().table();
        let mut best: Vec<usize> = table.columns[4].best.iter().copied().collect();
        best.sort_unstable();
        let best: Vec<String> = best.into_iter().map(|row| table.texts(row)[..3].join(" ")).collect();
        assert_eq!(best, ["retrain 6 0.05", "retrain 6 0.1", "retrain 12 0.05", "retrain 12 0.1"]);
    }
}
