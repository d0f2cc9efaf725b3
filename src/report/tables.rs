//! The tables of a report: [`TABLES`] lists them, with the files that have each. An entry of a table is a column in every
//! output: terminal, Markdown, LaTeX, CSV and the page.

use winsign_core::RunId;
use winsign_core::settings::{Between, Method, Problem};
use winsign_sweep::plan::RunState;

use super::joins::SeedPaths;
use super::paths::alignment_note;
use super::statistics::{mean, percent};
use super::table::{Cell, Declaration, Form, MISSING, Measured, Shown, Table, method_text};
use super::{ConnectionRow, Difference, Interval, Part, Pivot, PlaneRow, Report, Summary};

/// Percent, and differences of percents in percentage points.
pub(super) const PERCENT: Form = Form::Decimals(1);
pub(super) const NATS: Form = Form::Decimals(3);

/// A table of the report, and the files that have it. The page has every table.
pub struct Listed {
    build: fn(&Report) -> Option<Table>,
    /// The place in `report.md`; none for a table of runs that are lists there.
    pub in_markdown: Option<Section>,
    /// The name of the file for LaTeX; none for a table without results.
    pub latex_file: Option<&'static str>,
    /// True if `report.csv` has the rows. It has those that summarize measurements; differences and spreads follow from the
    /// same measurements, and the custom table has a file of its own.
    pub in_csv: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    BeforeFigures,
    BehindFigures,
}

/// Every table, in the order of all outputs.
pub static TABLES: [Listed; 8] = [
    Listed {
        build: |report| report.pivot.as_ref().map(Pivot::table),
        in_markdown: Some(Section::BeforeFigures),
        latex_file: Some("table-chosen.tex"),
        in_csv: false,
    },
    Listed {
        build: |report| Some(transfers(report)),
        in_markdown: Some(Section::BeforeFigures),
        latex_file: Some("table-transfers.tex"),
        in_csv: true,
    },
    Listed {
        build: |report| Some(connections(report)),
        in_markdown: Some(Section::BeforeFigures),
        latex_file: Some("table-connections.tex"),
        in_csv: true,
    },
    Listed {
        build: |report| Some(planes(report)),
        in_markdown: Some(Section::BeforeFigures),
        latex_file: Some("table-planes.tex"),
        in_csv: true,
    },
    Listed {
        build: |report| Some(differences(report)),
        in_markdown: Some(Section::BehindFigures),
        latex_file: Some("table-differences.tex"),
        in_csv: false,
    },
    Listed {
        build: |report| Some(spreads(report)),
        in_markdown: Some(Section::BehindFigures),
        latex_file: Some("table-spreads.tex"),
        in_csv: false,
    },
    Listed {
        build: |report| Some(tickets(report)),
        in_markdown: Some(Section::BehindFigures),
        latex_file: Some("table-tickets.tex"),
        in_csv: true,
    },
    Listed { build: |report| Some(failures(report)), in_markdown: None, latex_file: None, in_csv: false },
];

/// Returns every table that has rows.
pub fn all(report: &Report) -> impl Iterator<Item = (&'static Listed, Table)> {
    let tables = TABLES.iter().filter_map(|listed| Some((listed, (listed.build)(report)?)));
    tables.filter(|(_, table)| !table.rows.is_empty())
}

/// Returns the transfers, each with the barrier between its seeds.
pub fn transfers(report: &Report) -> Table {
    let paths = SeedPaths::new(&report.connections);
    let beside: Vec<&ConnectionRow> = report.transfers.iter().filter_map(|row| paths.beside(row)).collect();
    let errors = report.transfers.iter().map(|row| row.summary);
    let note = [
        "A row has the transfers that differ in their seeds only, or in those of their tickets; each ticket counts once. \
         Errors are in percent of the test set. Bold: lower than every other row of the level, as the intervals of the \
         differences show."
            .to_string(),
        note_of_single_tickets(report).to_string(),
        interval_note(errors.chain(beside.iter().map(|row| row.summary))),
        alignment_note(beside.iter().copied()).unwrap_or_default(),
    ];
    Declaration::new("transfers", "Transfers", &report.transfers)
        .runs(|row| runs_of(&row.parts))
        .problem(Shown::InFiles, |row| row.problem)
        .place(|row| (row.method, row.level, row.remaining_ratio))
        .inherit(|row| Cell::display(row.inherit))
        .axes(|row| &row.axes)
        .value("tickets", "tickets", Form::Count, |row| Cell::Count { done: row.tickets, planned: row.tickets_planned })
        .sample("seeds", |row| (row.seeds, row.seeds_planned))
        .value("error", "test error %", PERCENT, |row| row.summary.map(Measured::mean_std))
        .best(|row| row.best)
        .statistics(|row| row.summary)
        .value("barrier_between_seeds", "barrier\nbetween seeds", PERCENT, |row| {
            paths.beside(row).map(unfinished_barrier)
        })
        .best(|row| paths.beside(row).is_some_and(|row| row.best))
        .in_files_unless(!beside.is_empty())
        .finish(sentences(note))
}

/// Returns the paths between networks. Those between the seeds of a transfer are shown elsewhere if they stand beside it.
pub fn connections(report: &Report) -> Table {
    let paths = SeedPaths::new(&report.connections);
    let beside: Vec<&ConnectionRow> = report.transfers.iter().filter_map(|row| paths.beside(row)).collect();
    let note = [
        "Paths between networks. Barriers are in percentage points of the test error: the largest error on a path minus the \
         mean of the errors at its ends."
            .to_string(),
        interval_note(report.connections.iter().map(|row| row.summary)),
        alignment_note(&report.connections).unwrap_or_default(),
    ];
    let mean_of = |summary: Option<Summary>| summary.map(|summary| summary.mean);
    Declaration::new("connections", "Connections", &report.connections)
        .runs(|row| runs_of(&row.parts))
        .shown_elsewhere(|row| beside.iter().any(|shown| std::ptr::eq(*shown, row)))
        .problem(Shown::InFiles, |row| row.problem)
        .place(|row| (row.method, row.level, row.remaining_ratio))
        .key("between", "between", Form::Text, |row| Cell::display(row.between))
        .inherit(|row| row.inherit.map(Cell::display))
        .optional()
        .axes(|row| &row.axes)
        .value("tickets", "tickets", Form::Count, |row| Cell::Count { done: row.tickets, planned: row.tickets_planned })
        .sample("paths", |row| (row.pairs, row.pairs_planned))
        .value("barrier", "barrier", PERCENT, barrier)
        .best(|row| row.best)
        .value("barrier_max", "largest", PERCENT, |row| row.barrier_max)
        .detail()
        .statistics(|row| row.summary)
        .value("norm_change", "error added by ψ₀", PERCENT, |row| row.norm_change.map(Measured::mean_interval))
        .optional()
        .value("train_barrier", "barrier in training", PERCENT, |row| mean_of(row.train_summary))
        .detail()
        .value("loss_barrier", "barrier of the loss", NATS, |row| mean_of(row.loss_summary))
        .detail()
        .value("sign_agreement", "sign agreement", Form::Ratio, sign_agreement)
        .detail()
        .finish(sentences(note))
}

/// Returns the planes through three networks.
pub fn planes(report: &Report) -> Table {
    let networks = |row: &PlaneRow| row.ends.iter().map(|end| end.label.as_str()).collect::<Vec<_>>().join(", ");
    let errors = |row: &PlaneRow| {
        let errors = || row.plane.iter().flat_map(|plane| &plane.points).map(|point| point.test_error);
        Some(Cell::Range(errors().reduce(f64::min)?, errors().reduce(f64::max)?))
    };
    Declaration::new("planes", "Planes", &report.planes)
        .runs(|row| vec![row.run.clone()])
        .problem(Shown::InFiles, |row| row.problem)
        .place(|row| (row.method, row.level, row.remaining_ratio))
        .inherit(|row| row.inherit.map(Cell::display))
        .axes(|row| &row.axes)
        .key("networks", "networks", Form::Text, networks)
        .value("error", "test error %\non the grid", PERCENT, errors)
        .finish("Planes through three networks.")
}

/// Returns the differences between methods, and between what was transferred.
pub fn differences(report: &Report) -> Table {
    let compared = |row: &Difference| format!("{} − {}", row.a, row.b);
    let method = |row: &Difference| if row.setting == "method" { compared(row) } else { method_text(row.method) };
    let inherit = |row: &Difference| match row.inherit {
        _ if row.setting != "method" => compared(row),
        inherit => inherit.map_or(MISSING.to_string(), |inherit| inherit.to_string()),
    };
    Declaration::new("differences", "Differences", &report.differences)
        .runs(|row| row.runs.clone())
        .key("measure", "measure", Form::Text, measure_text)
        .key("method", "method", Form::Text, method)
        .key("level", "level", Form::Count, |row| row.level)
        .inherit(inherit)
        .axes(|row| &row.axes)
        .value("tickets", "tickets", Form::Count, |row| row.tickets)
        .value("pairs", "pairs", Form::Count, |row| row.summary.count)
        .value("difference", "difference", PERCENT, |row| row.summary.mean)
        .value("interval", "interval", PERCENT, |row| row.summary.interval)
        .value("p", "p", Form::P, |row| row.p)
        .key("verdict", "verdict", Form::Text, |row| Cell::display(row.verdict))
        .finish(sentences([
            "Differences between methods, and between what was transferred, over the same tickets and seeds, in percentage \
             points. Each ticket counts once. p is two-sided, of the paired t-test over tickets, and not corrected for \
             multiple comparisons. The verdict is lower or higher if the interval excludes 0."
                .to_string(),
            interval_note(report.differences.iter().map(|row| Some(row.summary))),
        ]))
}

/// Returns the number that differs.
fn measure_text(row: &Difference) -> String {
    match row.between {
        None => "error".to_string(),
        Some(Between::NormInit) => "added by ψ₀".to_string(),
        Some(between) => format!("barrier, {between}"),
    }
}

/// Returns how much each source of randomness moves the error.
pub fn spreads(report: &Report) -> Table {
    Declaration::new("spreads", "Spread by source of randomness", &report.spreads)
        .runs(|row| row.run_ids.clone())
        .key("method", "method", Form::Text, |row| row.method)
        .key("level", "level", Form::Count, |row| row.level)
        .inherit(|row| Cell::display(row.inherit))
        .axes(|row| &row.axes)
        .key("source", "source", Form::Text, |row| row.source.clone())
        .value("groups", "groups", Form::Count, |row| row.groups)
        .value("runs", "runs", Form::Count, |row| row.runs)
        .value("std", "std", PERCENT, |row| row.std)
        .finish(
            "How much each source of randomness moves the test error: the standard deviation within groups of runs that differ \
             in this source only, pooled over the groups, in percentage points.",
        )
}

/// Returns the tickets of each level.
pub fn tickets(report: &Report) -> Table {
    let run = |&at: &usize| report.tickets[at].run.clone();
    Declaration::new("tickets", "Tickets", &report.levels)
        .runs(|row| row.places.iter().map(run).collect())
        .problem(Shown::InFiles, |row| row.problem)
        .place(|row| (Some(row.method), row.level, row.remaining_ratio))
        .axes(|row| &row.axes)
        .value("tickets", "tickets", Form::Count, |row| Cell::Count { done: row.tickets, planned: row.tickets_planned })
        .in_files_unless(report.levels.iter().any(|row| row.tickets_planned > 1))
        .sample("runs", |row| (row.tickets, row.tickets_planned))
        .in_files()
        .value("error", "test error %", PERCENT, |row| row.summary.map(Measured::mean_std))
        .statistics(|row| row.summary)
        .finish("A row has the tickets of a level that differ in their seeds only.")
}

/// Returns the runs that failed, and those that wait for them.
pub fn failures(report: &Report) -> Table {
    let failed = report.failed.iter().map(|run| (run, RunState::Failed));
    let runs: Vec<_> = failed.chain(report.blocked.iter().map(|run| (run, RunState::Blocked))).collect();
    Declaration::new("failures", "Failed and blocked runs", &runs)
        .runs(|(run, _)| vec![run.id.clone()])
        .key("run", "run", Form::Text, |(run, _)| run.label.clone())
        .key("state", "state", Form::Text, |(_, state)| Cell::display(state))
        .value("message", "reason", Form::Text, |(run, _)| run.message.clone())
        .finish("These runs contribute to no number of the report. `winsign retry` lets failed runs start again.")
}

impl<'r, R> Declaration<'r, R> {
    /// Adds the columns of the data set and the architecture, to the outputs that are given.
    pub(super) fn problem(self, shown: Shown, problem: impl Fn(&'r R) -> Problem) -> Declaration<'r, R> {
        self.key("dataset", "dataset", Form::Text, |row| Cell::display(problem(row).dataset))
            .shown(shown)
            .key("architecture", "architecture", Form::Text, |row| Cell::display(problem(row).architecture))
            .shown(shown)
    }

    /// Adds the columns of the method, the level and the remaining ratio.
    pub(super) fn place<L: Into<Cell>>(
        self,
        place: impl Fn(&'r R) -> (Option<Method>, L, Option<f64>),
    ) -> Declaration<'r, R> {
        self.key("method", "method", Form::Text, |row| place(row).0)
            .key("level", "level", Form::Count, |row| place(row).1)
            .value("remaining_ratio", "remaining", Form::Ratio, |row| place(row).2)
    }

    /// Adds the column of what was transferred.
    pub(super) fn inherit<C: Into<Cell>>(self, inherit: impl Fn(&'r R) -> C) -> Declaration<'r, R> {
        self.key("inherit", winsign_sweep::title("inherit"), Form::Text, inherit)
    }

    /// Adds the statistics that only the page and files have.
    fn statistics(self, summary: impl Fn(&'r R) -> Option<Summary>) -> Declaration<'r, R> {
        let interval = |row| summary(row).and_then(|summary| summary.interval);
        self.value("median", "median", PERCENT, |row| summary(row).map(|summary| summary.median))
            .detail()
            .value("min", "smallest", PERCENT, |row| summary(row).map(|summary| summary.min))
            .in_files()
            .value("max", "largest", PERCENT, |row| summary(row).map(|summary| summary.max))
            .in_files()
            .value("interval_low", "low end", PERCENT, |row| interval(row).map(|interval| interval.low))
            .in_files()
            .value("interval_high", "high end", PERCENT, |row| interval(row).map(|interval| interval.high))
            .in_files()
    }
}

/// Returns the barrier of a row with its interval or, if there is none and more than one path, the largest barrier.
fn barrier(row: &ConnectionRow) -> Measured {
    let interval = row.summary.and_then(|summary| summary.interval);
    Measured {
        center: row.barrier_mean,
        interval: interval.map(|interval| (interval.low, interval.high)),
        largest: row.barrier_max.filter(|_| interval.is_none() && row.pairs > 1),
        summary: row.summary,
        ..Measured::default()
    }
}

/// Returns the same with the number of paths, while some are missing.
fn unfinished_barrier(row: &ConnectionRow) -> Measured {
    Measured { so_far: (row.pairs > 0).then_some((row.pairs, row.pairs_planned)), ..barrier(row) }
}

/// Returns the text of the barrier of a row, with the number of paths while some are missing.
pub fn barrier_so_far(row: &ConnectionRow) -> String {
    unfinished_barrier(row).text(1)
}

fn runs_of(parts: &[Part]) -> Vec<RunId> {
    parts.iter().flat_map(|part| &part.runs).cloned().collect()
}

fn sign_agreement(row: &ConnectionRow) -> Option<f64> {
    let known: Vec<f64> = row.paths.iter().filter_map(|pair| Some(pair.similarity?.sign_agreement)).collect();
    mean(&known)
}

/// Explains the numbers of rows of one ticket; empty if there are none.
pub fn note_of_single_tickets(report: &Report) -> &'static str {
    let is_single = |tickets: usize, count: usize| tickets == 1 && count > 1;
    let transfers = report.transfers.iter().any(|row| is_single(row.tickets, row.seeds));
    match transfers || report.connections.iter().any(|row| is_single(row.tickets, row.pairs)) {
        true => {
            "With one ticket, ± is the deviation between its networks, and there is no interval: it says nothing of other \
             tickets of the method."
        }
        false => "",
    }
}

/// Names the intervals; empty if there are none.
fn interval_note(summaries: impl Iterator<Item = Option<Summary>> + Clone) -> String {
    let intervals = summaries.filter_map(|summary| summary?.interval);
    match (intervals.clone().next(), Interval::describe_all(intervals)) {
        (Some(first), Some(by)) => {
            format!("Intervals: {} % confidence intervals of the mean, by {by}.", percent(first.level))
        }
        _ => String::new(),
    }
}

fn sentences<const N: usize>(parts: [String; N]) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::{csv, latex, pivot};
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_core::results::Outcome;
    use winsign_core::settings::{Inherit, Kind, Seeds};
    use winsign_sweep::plan::{Label, RunState};
    use winsign_testkit::study::{Study, ticket_of};

    #[test]
    fn files_for_latex_have_the_names_of_their_tables() {
        let mut report = Study::with_tickets(&[1, 2, 3], &[2, 3]).report();
        report.pivot = Some(pivot::pivot(&report, &Default::default(), Default::default()).unwrap());
        for listed in &TABLES {
            let table = (listed.build)(&report).unwrap();
            let name = format!("table-{}.tex", table.id);
            assert!(listed.latex_file.is_none_or(|file| file == name), "{name}");
        }
    }

    #[test]
    fn numbers_have_the_sign_of_mathematics() {
        let mut study = Study::digits();
        for (planned, _, result) in &mut study.runs {
            if let (Some(Between::NormInit), Some(result)) = (planned.label.between, result)
                && let Outcome::Connect(connect) = &mut result.outcome
            {
                connect.path.barrier = if planned.label.method == Some(Method::Lrr) { -0.31 } else { -0.01 };
            }
        }
        let report = study.report();
        let barriers: Vec<String> = rows(&connections(&report)).into_iter().map(|row| row[6].clone()).collect();
        assert_eq!(barriers, ["−0.3", "0.0"]);
        let tex = latex::render(&report);
        let (_, tex) = tex.iter().find(|(file, _)| *file == "table-connections.tex").unwrap();
        assert!(tex.contains("& $-$0.3 & 2.4 \\\\") && tex.contains("& 0.0 & 2.4 \\\\"), "{tex}");
        let csv = csv::render(&report);
        assert!(csv.contains(",-0.31,") && !csv.contains('−'), "{csv}");
        let difference = report.differences.iter().position(|row| row.summary.mean < -1.0).unwrap();
        let rows = rows(&differences(&report));
        assert!(rows[difference].iter().any(|cell| cell.starts_with('−')), "{:?}", rows[difference]);
        assert!(rows.iter().flatten().all(|cell| !cell.contains("-0.0") && !cell.contains("[-")));
    }

    /// Returns the texts of the rows of a table as readers see it.
    fn rows(table: &Table) -> Vec<Vec<String>> {
        let Some(table) = table.brief() else { return vec![] };
        (0..table.rows.len()).map(|row| table.texts(row)).collect()
    }

    fn headings(table: &Table) -> Vec<String> {
        table.brief().unwrap().columns.iter().map(|column| column.heading()).collect()
    }

    /// Returns the rows and columns of the best values.
    fn best(table: &Table) -> Vec<(usize, usize)> {
        let table = table.brief().unwrap();
        let places =
            table.columns.iter().enumerate().flat_map(|(column, one)| one.best.iter().map(move |&row| (row, column)));
        let mut places: Vec<_> = places.collect();
        places.sort_unstable();
        places
    }

    /// In one column they would be compared, and the least would be bold.
    #[test]
    fn barriers_of_several_protocols_stand_in_a_table_that_says_so() {
        let mut report = Study::digits().report();
        let seeds = |row: &&mut ConnectionRow| row.between == Between::Seeds && row.inherit == Some(Inherit::Mask);
        for row in report.connections.iter_mut().filter(seeds) {
            row.protocol.as_mut().unwrap().points = 3;
            row.axes.push(("connect.points".to_string(), "3".to_string()));
        }
        assert!(headings(&transfers(&report)).iter().all(|heading| !heading.contains("barrier")));
        let others = connections(&report);
        assert_eq!(rows(&others).len(), 10);
        assert!(headings(&others).contains(&"connect.points".to_string()));
    }

    /// Three tickets on which retraining AWS is better by about 5 than all else, and its barriers are by about 2.
    fn with_a_best(levels: &[u32]) -> Study {
        let axes = |seed: &str| vec![("ticket.seed".to_string(), seed.to_string())];
        let study = Study::new(levels, &[2, 3], &["1", "2", "3"].map(axes));
        let higher = |label: &Label| {
            let is_best = (label.method, label.inherit) == (Some(Method::Aws), Some(Inherit::Retrain));
            if is_best { 0.0 } else { 1.0 + ticket_of(label) as f64 / 100.0 }
        };
        study
            .with_errors(|label| 7.0 * ticket_of(label) as f64 + 5.0 * higher(label))
            .with_barriers(|label| 3.0 * ticket_of(label) as f64 + 2.0 * higher(label))
    }

    #[test]
    fn nothing_is_best_before_all_is_finished() {
        let mut study = with_a_best(&[12]);
        let columns = |study: &Study| -> Vec<usize> {
            best(&transfers(&study.report())).into_iter().map(|(_, column)| column).collect()
        };
        // The errors and barriers of both methods, which are compared with each other.
        assert_eq!(columns(&study), [6, 7]);
        study.unfinish(RunState::Running, |planned| planned.label.between.is_some() && planned.label.seeds.len() == 2);
        assert_eq!(columns(&study), [6]);
        study.unfinish(RunState::Running, |planned| planned.label.seeds == [Seeds::from(3)]);
        assert_eq!(columns(&study), [] as [usize; 0]);
        assert_eq!(columns(&Study::digits()), [] as [usize; 0], "one ticket");
    }

    #[test]
    fn barriers_stand_beside_their_transfers() {
        let report = Study::digits().report();
        assert_eq!(rows(&transfers(&report))[5], ["AWS", "12", "6.9 %", "mask", "1", "3", "10.8 ± 3.5", "64.0 (85.3)"]);
        assert_eq!(
            rows(&connections(&report)),
            [
                ["LRR", "12", "6.9 %", "norm-init", "1", "1", "3.3", "2.4"],
                ["AWS", "12", "6.9 %", "norm-init", "1", "1", "0.0", "2.4"]
            ]
        );
    }

    /// The best is that of a level, over methods and all that was transferred.
    #[test]
    fn best_of_each_comparison_is_marked() {
        let mut study = with_a_best(&[6, 12]);
        study.add_dense(&[2, 3]);
        let table = transfers(&study.report());
        let rows = rows(&table);
        let name = |(row, column): (usize, usize)| rows[row][..4].join(" ") + &format!(": {column}");
        let mut best: Vec<String> = best(&table).into_iter().map(name).collect();
        best.sort();
        let retrain = |level: &str, column: usize| format!("AWS {level} retrain: {column}");
        let (last, sixth) = ("12 6.9 %", "6 26.2 %");
        assert_eq!(best, [retrain(last, 6), retrain(last, 7), retrain(sixth, 6), retrain(sixth, 7)]);
    }

    #[test]
    fn means_of_several_tickets_have_intervals() {
        let report = with_a_best(&[12]).report();
        let table = transfers(&report);
        assert_eq!(headings(&table)[6..], ["test error %\nmean ± std [95 %]", "barrier\nbetween seeds\nmean [95 %]"]);
        // Tickets 7, 14 and 21: 14 ± 4.3027 · 7 / √3.
        assert_eq!(rows(&table)[7][4..], ["3", "6", "14.0 ± 7.0 [−3.4, 31.4]", "6.0 [−1.5, 13.5]"]);
        let differences = rows(&differences(&report));
        let retrain = differences.iter().find(|row| row[..4] == ["error", "AWS", "12", "retrain − sign"]).unwrap();
        // 5.05, 5.1 and 5.15.
        assert_eq!(retrain[4..], ["3", "6", "−5.1", "[−5.2, −5.0]", "<0.001", "lower"]);
        assert_eq!(rows(&tickets(&report))[12][3..], ["3", "4.5 ± 0.0 [4.5, 4.5]"]);
    }

    #[test]
    fn dense_networks_belong_to_no_ticket() {
        let mut study = Study::digits();
        study.add_dense(&[2, 3, 4]);
        assert_eq!(
            rows(&transfers(&study.report()))[0],
            [MISSING, "0", "100.0 %", "dense", MISSING, "3", "3.0 ± 1.0 [0.5, 5.5]", MISSING]
        );
    }

    #[test]
    fn connections_with_axes_of_their_own_are_not_lost() {
        let mut study = Study::digits();
        for (planned, ..) in &mut study.runs {
            if planned.run.kind() == Kind::Connect {
                planned.label.axes = vec![("points".to_string(), "21".to_string())];
            }
        }
        let report = study.report();
        assert!(headings(&transfers(&report)).iter().all(|heading| !heading.contains("barrier")));
        let others = rows(&connections(&report));
        assert_eq!(others.len(), 10);
        assert_eq!(others[0], ["LRR", "12", "6.9 %", "seeds", "sign", "21", "1", "3", "0.6 (0.8)", MISSING]);
    }

    /// Paths of another block of the file, or planes, may have given a setting of connects a second value.
    #[test]
    fn paths_with_another_protocol_stand_beside_their_transfers() {
        let mut study = Study::digits();
        for (planned, ..) in &mut study.runs {
            if planned.run.kind() == Kind::Connect {
                planned.label.axes = vec![("connect.points".to_string(), "11".to_string())];
            }
        }
        assert_eq!(rows(&transfers(&study.report()))[0].last().unwrap(), "0.6 (0.8)");

        // Half of the pairs by another protocol: two numbers, and no place for both.
        let protocols = ["5", "11"].into_iter().cycle();
        let paths = study.runs.iter_mut().filter(|(planned, ..)| planned.run.kind() == Kind::Connect);
        for ((planned, ..), points) in paths.zip(protocols) {
            planned.label.axes = vec![("connect.points".to_string(), points.to_string())];
        }
        let report = study.report();
        assert!(rows(&transfers(&report)).iter().all(|row| !row.contains(&"0.6 (0.8)".to_string())));
        assert!(rows(&connections(&report)).len() > 10);
    }

    #[test]
    fn transfers_with_missing_runs_show_the_missing_counts() {
        let mut study = Study::digits();
        study.unfinish(RunState::Pending, |planned| planned.label.seeds.contains(&Seeds::from(4)));
        study.unfinish(RunState::Pending, |planned| planned.label.method == Some(Method::Aws));
        let rows = rows(&transfers(&study.report()));
        assert_eq!(rows[0], ["LRR", "12", "6.9 %", "sign", "1", "2/3", "5.7 ± 0.9", "0.4 1/3"]);
        assert_eq!(rows[4], ["AWS", "12", "–", "sign", "0/1", "0/3", "–", "–"]);
    }

    #[test]
    fn columns_for_axes_and_barriers_appear_only_if_there_are_any() {
        let mut study = Study::new(&[12], &[2, 3], &[vec![("lr".to_string(), "0.05".to_string())]]);
        study.runs.retain(|(planned, ..)| planned.run.kind() != Kind::Connect);
        let report = study.report();
        assert_eq!(
            headings(&transfers(&report)),
            ["method", "level", "remaining", "transferred", "lr", "tickets", "seeds", "test error %\nmean ± std"]
        );
        assert!(rows(&connections(&report)).is_empty());
    }
}
