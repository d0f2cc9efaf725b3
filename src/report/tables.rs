//! The tables people read, as text in cells: the same for the terminal and for Markdown.

use std::collections::{HashMap, HashSet};

use winsign_core::grouping::grouped;
use winsign_core::settings::{Between, Inherit, Method, Problem};
use winsign_sweep::Axes;

use super::statistics::percent;
use super::{ConnectionRow, Difference, Interval, Report, Summary, TransferRow};

/// What stands for a number that does not exist yet.
pub const MISSING: &str = "–";

pub struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<String>>,
    /// Row and column of the best cells of each comparison.
    pub best: HashSet<(usize, usize)>,
}

pub struct Column {
    /// Of one or several lines.
    pub title: String,
    pub numeric: bool,
}

/// The tickets of each level.
pub fn tickets(report: &Report) -> Option<Table> {
    let rows = &report.levels;
    let axes = axis_names(rows.iter().map(|row| &row.axes));
    let several = rows.iter().any(|row| row.tickets_planned > 1);
    let mut columns = vec![text("method"), number("level"), number("remaining")];
    columns.extend(axes.iter().map(|name| text(name)));
    columns.extend(several.then(|| number("tickets")));
    columns.push(number(&format!("test error %{}", of_mean(rows.iter().map(|row| row.summary), "± std"))));
    let rows = rows.iter().map(|row| {
        let mut cells = vec![method_text(Some(row.method)), row.level.to_string(), remaining_text(row.remaining_ratio)];
        cells.extend(axis_values(&row.axes, &axes));
        cells.extend(several.then(|| count_text(row.tickets, row.tickets_planned)));
        cells.push(spread_text(row.summary));
        cells
    });
    Table::unless_empty(columns, rows.collect())
}

/// Transfers, and beside each the barrier between its seeds.
pub fn transfers(report: &Report) -> Option<Table> {
    let axes = axis_names(report.transfers.iter().map(|row| &row.axes));
    let barriers = barriers_between_seeds(report);
    let mut columns = vec![text("method"), number("level"), number("remaining"), text("transferred")];
    columns.extend(axes.iter().map(|name| text(name)));
    let errors = of_mean(report.transfers.iter().map(|row| row.summary), "± std");
    columns.extend([number("tickets"), number("seeds"), number(&format!("test error %{errors}"))]);
    if !barriers.is_empty() {
        let barriers = of_mean(barriers.values().map(|row| row.summary), "(max)");
        columns.push(number(&format!("barrier\nbetween seeds{barriers}")));
    }
    let error = axes.len() + 6;
    let mut best = HashSet::new();
    let rows = report.transfers.iter().enumerate().map(|(at, row)| {
        let mut cells = vec![
            method_text(row.method),
            row.level.to_string(),
            remaining_text(row.remaining_ratio),
            row.inherit.to_string(),
        ];
        cells.extend(axis_values(&row.axes, &axes));
        cells.extend([tickets_text(row.tickets, row.tickets_planned), count_text(row.seeds, row.seeds_planned)]);
        cells.push(spread_text(row.summary));
        best.extend(row.best.then_some((at, error)));
        if !barriers.is_empty() {
            let barrier = barriers.get(&transfer_key(row));
            cells.push(barrier.map_or(MISSING.to_string(), |row| barrier_so_far(row)));
            best.extend(barrier.is_some_and(|row| row.best).then_some((at, error + 1)));
        }
        cells
    });
    let rows = rows.collect();
    Some(Table { best, ..Table::unless_empty(columns, rows)? })
}

/// The connections that stand beside no transfer: those of tickets.
pub fn other_connections(report: &Report) -> Option<Table> {
    let transfers: HashSet<_> = report.transfers.iter().map(transfer_key).collect();
    let beside = barriers_between_seeds(report);
    let is_shown =
        |row: &ConnectionRow| seeds_key(row).is_some_and(|key| transfers.contains(&key) && beside.contains_key(&key));
    let others: Vec<&ConnectionRow> = report.connections.iter().filter(|row| !is_shown(row)).collect();
    let axes = axis_names(others.iter().map(|row| &row.axes));
    let has_inherit = others.iter().any(|row| row.inherit.is_some());
    let mut columns = vec![text("method"), number("level"), number("remaining"), text("between")];
    if has_inherit {
        columns.push(text("transferred"));
    }
    columns.extend(axes.iter().map(|name| text(name)));
    let barriers = of_mean(others.iter().map(|row| row.summary), "(max)");
    columns.extend([number("tickets"), number("paths"), number(&format!("barrier{barriers}"))]);
    let barrier = columns.len() - 1;
    let has_norm_init = others.iter().any(|row| row.norm_change.is_some());
    if has_norm_init {
        let changes = of_mean(others.iter().map(|row| row.norm_change), "");
        columns.push(number(&format!("error added by ψ₀{changes}")));
    }
    let best = others.iter().enumerate().filter(|(_, row)| row.best).map(|(at, _)| (at, barrier)).collect();
    let rows = others.iter().map(|row| {
        let mut cells = vec![
            method_text(row.method),
            row.level.to_string(),
            remaining_text(row.remaining_ratio),
            row.between.to_string(),
        ];
        if has_inherit {
            cells.push(row.inherit.map_or(MISSING.to_string(), |inherit| inherit.to_string()));
        }
        cells.extend(axis_values(&row.axes, &axes));
        cells.extend([tickets_text(row.tickets, row.tickets_planned), count_text(row.pairs, row.pairs_planned)]);
        cells.push(barrier_text(row));
        cells.extend(has_norm_init.then(|| norm_change_text(row)));
        cells
    });
    Some(Table { best, ..Table::unless_empty(columns, rows.collect())? })
}

/// The differences between methods and between what was transferred.
pub fn differences(report: &Report) -> Option<Table> {
    let axes = axis_names(report.differences.iter().map(|row| &row.axes));
    let mut columns = vec![text("measure"), text("method"), number("level"), text("transferred")];
    columns.extend(axes.iter().map(|name| text(name)));
    columns.extend([number("tickets"), number("pairs"), number("difference"), number("interval"), number("p")]);
    columns.push(text("verdict"));
    let rows = report.differences.iter().map(|row| {
        let compared = format!("{} − {}", row.a, row.b);
        let (method, inherit) = match row.setting == "method" {
            true => (compared, row.inherit.map_or(MISSING.to_string(), |inherit| inherit.to_string())),
            false => (method_text(row.method), compared),
        };
        let mut cells = vec![compared_text(row), method, row.level.to_string(), inherit];
        cells.extend(axis_values(&row.axes, &axes));
        cells.extend([
            row.tickets.to_string(),
            row.summary.count.to_string(),
            points_text(Some(row.summary.mean)),
            row.summary.interval.map_or(MISSING.to_string(), interval_text),
            row.p.map_or(MISSING.to_string(), p_text),
            row.verdict.to_string(),
        ]);
        cells
    });
    Table::unless_empty(columns, rows.collect())
}

/// The number that differs.
pub fn compared_text(row: &Difference) -> String {
    match row.between {
        None => "error".to_string(),
        Some(Between::NormInit) => "added by ψ₀".to_string(),
        Some(between) => format!("barrier, {between}"),
    }
}

/// Explains the numbers of rows of one ticket; empty where there are none.
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

/// How much each source of randomness moves the error.
pub fn spreads(report: &Report) -> Option<Table> {
    let axes = axis_names(report.spreads.iter().map(|row| &row.axes));
    let mut columns = vec![text("method"), number("level"), text("transferred")];
    columns.extend(axes.iter().map(|name| text(name)));
    columns.extend([text("source"), number("groups"), number("runs"), number("std")]);
    let rows = report.spreads.iter().map(|row| {
        let mut cells = vec![method_text(row.method), row.level.to_string(), row.inherit.to_string()];
        cells.extend(axis_values(&row.axes, &axes));
        cells.extend([row.source.clone(), row.groups.to_string(), row.runs.to_string(), points_text(Some(row.std))]);
        cells
    });
    Table::unless_empty(columns, rows.collect())
}

/// From its low end to its high end.
pub fn interval_text(interval: Interval) -> String {
    format!("[{}, {}]", decimal(interval.low, 1), decimal(interval.high, 1))
}

pub fn p_text(p: f64) -> String {
    if p < 0.001 { "<0.001".to_string() } else { format!("{p:.3}") }
}

impl Table {
    fn unless_empty(columns: Vec<Column>, rows: Vec<Vec<String>>) -> Option<Table> {
        (!rows.is_empty()).then_some(Table { columns, rows, best: HashSet::new() })
    }
}

/// What a transfer and the paths between its seeds have in common.
pub type TransferKey<'a> = (Problem, Option<Method>, u32, Inherit, Vec<&'a (String, String)>);

pub fn transfer_key(row: &TransferRow) -> TransferKey<'_> {
    (row.problem, row.method, row.level, row.inherit, row.axes.iter().collect())
}

/// None of paths that do not join the seeds of a transfer. How they are measured is nothing that transfers differ in.
fn seeds_key(row: &ConnectionRow) -> Option<TransferKey<'_>> {
    let inherit = row.inherit.filter(|_| row.between == Between::Seeds)?;
    let axes = row.axes.iter().filter(|(name, _)| !name.starts_with("connect.")).collect();
    Some((row.problem, row.method, row.level, inherit, axes))
}

/// The paths that stand beside a transfer: those between its seeds. None of a problem of which some were measured in another
/// way than others: numbers of one column are compared.
pub fn barriers_between_seeds(report: &Report) -> HashMap<TransferKey<'_>, &ConnectionRow> {
    let keyed = report.connections.iter().filter_map(|row| Some((seeds_key(row)?, row)));
    let of_problems = grouped(keyed, |(_, row)| row.problem).into_iter();
    let alike = of_problems.filter(|rows| rows.iter().all(|(_, row)| row.way == rows[0].1.way)).flatten();
    let by_transfer = grouped(alike, |(key, _)| key.clone());
    by_transfer.into_iter().filter(|rows| rows.len() == 1).flatten().collect()
}

/// All names of axes, as they first appear.
pub fn axis_names<'a>(axes: impl Iterator<Item = &'a Axes>) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    axes.flatten().map(|(name, _)| name.as_str()).filter(|name| seen.insert(*name)).collect()
}

/// Empty where the axis has no say.
pub fn axis_value<'a>(axes: &'a Axes, name: &str) -> &'a str {
    axes.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
}

fn axis_values(axes: &Axes, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| axis_value(axes, name).to_string()).collect()
}

pub fn text(title: &str) -> Column {
    Column { title: title.to_string(), numeric: false }
}

pub fn number(title: &str) -> Column {
    Column { title: title.to_string(), numeric: true }
}

/// As the field writes it: LRR, AWS, SynFlow.
pub fn method_text(method: Option<Method>) -> String {
    match method {
        None => MISSING.to_string(),
        Some(Method::SynFlow) => "SynFlow".to_string(),
        Some(Method::Imported) => "imported".to_string(),
        Some(method @ (Method::Lrr | Method::Aws | Method::Imp | Method::Snip)) => method.to_string().to_uppercase(),
    }
}

/// A remaining ratio in percent, with two digits however few weights remain.
pub fn remaining_text(ratio: Option<f64>) -> String {
    match ratio.map(|ratio| ratio * 100.0) {
        None => MISSING.to_string(),
        Some(percent) if percent >= 1.0 || percent <= 0.0 => format!("{percent:.1} %"),
        Some(percent) => format!("{percent:.*} %", (1.0 - percent.log10().floor()) as usize),
    }
}

/// A number for people, with so many digits after the point and the sign of mathematics; what is shown as zero has none.
pub fn decimal(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    match text.strip_prefix('-') {
        None => text,
        Some(zero) if zero.chars().all(|digit| matches!(digit, '0' | '.')) => zero.to_string(),
        Some(number) => format!("−{number}"),
    }
}

/// Percent or percentage points.
pub fn points_text(value: Option<f64>) -> String {
    value.map_or(MISSING.to_string(), |value| decimal(value, 1))
}

/// The last line of the title of a column of means: what stands beside them.
fn of_mean(summaries: impl Iterator<Item = Option<Summary>> + Clone, beside: &str) -> String {
    let interval = summaries.clone().flatten().find_map(|summary| summary.interval);
    let beside = if beside == "(max)" && interval.is_some() { "" } else { beside };
    let with_deviation = beside != "± std" || summaries.flatten().any(|summary| summary.std.is_some());
    let interval = interval.map(|interval| format!("[{} %]", percent(interval.level)));
    match with_deviation {
        false => String::new(),
        true => {
            let parts = ["mean"].into_iter().chain(Some(beside).filter(|beside| !beside.is_empty()));
            let parts: Vec<String> = parts.map(str::to_string).chain(interval).collect();
            format!("\n{}", parts.join(" "))
        }
    }
}

/// Such as `11.7 ± 2.0 [9.8, 13.6]`.
fn spread_text(summary: Option<Summary>) -> String {
    let mut text = points_text(summary.map(|summary| summary.mean));
    if let Some(std) = summary.and_then(|summary| summary.std) {
        text += &format!(" ± {std:.1}");
    }
    if let Some(interval) = summary.and_then(|summary| summary.interval) {
        text += &format!(" {}", interval_text(interval));
    }
    text
}

/// With the interval; where there is none, with the largest, which is not said of a single one.
fn barrier_text(row: &ConnectionRow) -> String {
    let mean = points_text(row.barrier_mean);
    match (row.summary.and_then(|summary| summary.interval), row.barrier_max.filter(|_| row.pairs > 1)) {
        (Some(interval), _) => format!("{mean} {}", interval_text(interval)),
        (None, Some(max)) => format!("{mean} ({})", points_text(Some(max))),
        (None, None) => mean,
    }
}

/// With the number of pairs where some are still missing.
pub fn barrier_so_far(row: &ConnectionRow) -> String {
    match (1..row.pairs_planned).contains(&row.pairs) {
        true => format!("{} {}", barrier_text(row), count_text(row.pairs, row.pairs_planned)),
        false => barrier_text(row),
    }
}

/// What initial norm parameters add to the test error, with its interval.
fn norm_change_text(row: &ConnectionRow) -> String {
    let Some(summary) = row.norm_change else { return MISSING.to_string() };
    let interval = summary.interval.map(|interval| format!(" {}", interval_text(interval))).unwrap_or_default();
    format!("{}{interval}", points_text(Some(summary.mean)))
}

/// The number of tickets; dense networks inherit from none.
fn tickets_text(done: usize, planned: usize) -> String {
    if planned == 0 { MISSING.to_string() } else { count_text(done, planned) }
}

pub fn count_text(done: usize, planned: usize) -> String {
    if done == planned { done.to_string() } else { format!("{done}/{planned}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_core::results::Outcome;
    use winsign_core::settings::{Kind, Seeds};
    use winsign_sweep::plan::{Label, RunState};
    use winsign_testkit::study::{Study, ticket_of};

    #[test]
    fn remaining_keeps_two_digits() {
        let cases = [
            (Some(1.0), "100.0 %"),
            (Some(0.0687), "6.9 %"),
            (Some(0.00123), "0.12 %"),
            (Some(0.0000456), "0.0046 %"),
            (Some(0.0), "0.0 %"),
            (None, MISSING),
        ];
        for (ratio, expected) in cases {
            assert_eq!(remaining_text(ratio), expected);
        }
    }

    #[test]
    fn numbers_have_the_sign_of_mathematics() {
        let cases = [(-1.25, 1, "−1.2"), (-0.04, 1, "0.0"), (-0.04, 3, "−0.040"), (-0.0, 1, "0.0"), (3.0, 1, "3.0")];
        for (value, digits, expected) in cases {
            assert_eq!(decimal(value, digits), expected);
        }
        let mut study = Study::digits();
        for (planned, _, result) in &mut study.runs {
            if let (Some(Between::NormInit), Some(result)) = (planned.label.between, result)
                && let Outcome::Connect(connect) = &mut result.outcome
            {
                connect.path.barrier = if planned.label.method == Some(Method::Lrr) { -0.31 } else { -0.01 };
            }
        }
        let report = study.report();
        let table = other_connections(&report).unwrap();
        assert_eq!(table.rows.iter().map(|row| row[6].as_str()).collect::<Vec<_>>(), ["−0.3", "0.0"]);
        let tex = super::super::latex::render(&report);
        let (_, tex) = tex.iter().find(|(file, _)| *file == "table-connections.tex").unwrap();
        assert!(tex.contains("& $-$0.3 & 2.4 \\\\") && tex.contains("& 0.0 & 2.4 \\\\"), "{tex}");
        let csv = super::super::csv::render(&report);
        assert!(csv.contains(",-0.31,") && !csv.contains('−'), "{csv}");
        let difference = report.differences.iter().position(|row| row.summary.mean < -1.0).unwrap();
        let rows = differences(&report).unwrap().rows;
        assert!(rows[difference].iter().any(|cell| cell.starts_with('−')), "{:?}", rows[difference]);
        assert!(rows.iter().flatten().all(|cell| !cell.contains("-0.0") && !cell.contains("[-")));
    }

    /// In one column they would be compared, and the least would be bold.
    #[test]
    fn barriers_of_several_ways_stand_in_a_table_that_says_so() {
        let mut report = Study::digits().report();
        let seeds = |row: &&mut ConnectionRow| row.between == Between::Seeds && row.inherit == Some(Inherit::Mask);
        for row in report.connections.iter_mut().filter(seeds) {
            row.way.as_mut().unwrap().points = 3;
            row.axes.push(("connect.points".to_string(), "3".to_string()));
        }
        let table = transfers(&report).unwrap();
        assert!(table.columns.iter().all(|column| !column.title.contains("barrier")));
        let others = other_connections(&report).unwrap();
        assert_eq!(
            (others.rows.len(), others.columns.iter().filter(|column| column.title == "connect.points").count()),
            (10, 1)
        );
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
        let columns = |study: &Study| {
            let mut columns: Vec<usize> = transfers(&study.report()).unwrap().best.iter().map(|(_, at)| *at).collect();
            columns.sort();
            columns
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
        let table = transfers(&Study::digits().report()).unwrap();
        assert_eq!(table.rows[5], ["AWS", "12", "6.9 %", "mask", "1", "3", "10.8 ± 3.5", "64.0 (85.3)"]);
        let others = other_connections(&Study::digits().report()).unwrap();
        assert_eq!(
            others.rows,
            [
                ["LRR", "12", "6.9 %", "norm-init", "1", "1", "3.3", "2.4"],
                ["AWS", "12", "6.9 %", "norm-init", "1", "1", "0.0", "2.4"]
            ]
        );
    }

    /// The best is that of a level, over methods and all that was transferred.
    #[test]
    fn the_best_of_each_comparison() {
        let mut study = with_a_best(&[6, 12]);
        study.add_dense(&[2, 3]);
        let table = transfers(&study.report()).unwrap();
        let mut best: Vec<_> =
            table.best.iter().map(|&(row, column)| table.rows[row][..4].join(" ") + &format!(": {column}")).collect();
        best.sort();
        let retrain = |level: &str, column: usize| format!("AWS {level} retrain: {column}");
        let (last, sixth) = ("12 6.9 %", "6 26.2 %");
        assert_eq!(best, [retrain(last, 6), retrain(last, 7), retrain(sixth, 6), retrain(sixth, 7)]);
    }

    #[test]
    fn means_of_several_tickets_have_intervals() {
        let report = with_a_best(&[12]).report();
        let table = transfers(&report).unwrap();
        let titles: Vec<&str> = table.columns[6..].iter().map(|column| column.title.as_str()).collect();
        assert_eq!(titles, ["test error %\nmean ± std [95 %]", "barrier\nbetween seeds\nmean [95 %]"]);
        // Tickets 7, 14 and 21: 14 ± 4.3027 · 7 / √3.
        assert_eq!(table.rows[7][4..], ["3", "6", "14.0 ± 7.0 [−3.4, 31.4]", "6.0 [−1.5, 13.5]"]);
        let rows = differences(&report).unwrap().rows;
        let retrain = rows.iter().find(|row| row[..4] == ["error", "AWS", "12", "retrain − sign"]).unwrap();
        // 5.05, 5.1 and 5.15.
        assert_eq!(retrain[4..], ["3", "6", "−5.1", "[−5.2, −5.0]", "<0.001", "lower"]);
        assert_eq!(tickets(&report).unwrap().rows[12][3..], ["3", "4.5 ± 0.0 [4.5, 4.5]"]);
    }

    #[test]
    fn dense_networks_belong_to_no_ticket() {
        let mut study = Study::digits();
        study.add_dense(&[2, 3, 4]);
        let table = transfers(&study.report()).unwrap();
        assert_eq!(table.rows[0], [MISSING, "0", "100.0 %", "dense", MISSING, "3", "3.0 ± 1.0 [0.5, 5.5]", MISSING]);
        assert_eq!(method_text(Some(Method::SynFlow)), "SynFlow");
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
        assert_eq!(transfers(&report).unwrap().rows[0].last().unwrap(), MISSING);
        let others = other_connections(&report).unwrap();
        assert_eq!(others.rows.len(), 10);
        assert_eq!(others.rows[0], ["LRR", "12", "6.9 %", "seeds", "sign", "21", "1", "3", "0.6 (0.8)", MISSING]);
    }

    /// Paths of another block of the file, or planes, may have given a setting of connects a second value.
    #[test]
    fn how_paths_are_measured_does_not_part_them_from_their_transfers() {
        let mut study = Study::digits();
        for (planned, ..) in &mut study.runs {
            if planned.run.kind() == Kind::Connect {
                planned.label.axes = vec![("connect.points".to_string(), "11".to_string())];
            }
        }
        assert_eq!(transfers(&study.report()).unwrap().rows[0].last().unwrap(), "0.6 (0.8)");

        // Half of the pairs in another way: two numbers, and no place for both.
        let ways = ["5", "11"].into_iter().cycle();
        let paths = study.runs.iter_mut().filter(|(planned, ..)| planned.run.kind() == Kind::Connect);
        for ((planned, ..), points) in paths.zip(ways) {
            planned.label.axes = vec![("connect.points".to_string(), points.to_string())];
        }
        let report = study.report();
        assert!(transfers(&report).unwrap().rows.iter().all(|row| !row.contains(&"0.6 (0.8)".to_string())));
        assert!(other_connections(&report).unwrap().rows.len() > 10);
    }

    #[test]
    fn what_is_missing_shows() {
        let mut study = Study::digits();
        study.unfinish(RunState::Pending, |planned| planned.label.seeds.contains(&Seeds::from(4)));
        study.unfinish(RunState::Pending, |planned| planned.label.method == Some(Method::Aws));
        let table = transfers(&study.report()).unwrap();
        assert_eq!(table.rows[0], ["LRR", "12", "6.9 %", "sign", "1", "2/3", "5.7 ± 0.9", "0.4 1/3"]);
        assert_eq!(table.rows[4], ["AWS", "12", "–", "sign", "0/1", "0/3", "–", "–"]);
    }

    #[test]
    fn columns_for_axes_and_barriers_appear_only_if_there_are_any() {
        let mut study = Study::new(&[12], &[2, 3], &[vec![("lr".to_string(), "0.05".to_string())]]);
        study.runs.retain(|(planned, ..)| planned.run.kind() != Kind::Connect);
        let report = study.report();
        let titles: Vec<String> = transfers(&report).unwrap().columns.into_iter().map(|column| column.title).collect();
        assert_eq!(
            titles,
            ["method", "level", "remaining", "transferred", "lr", "tickets", "seeds", "test error %\nmean ± std"]
        );
        assert!(other_connections(&report).is_none());
    }
}
