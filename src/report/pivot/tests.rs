use std::collections::BTreeSet;

use winsign_core::settings::{Inherit, Kind, Method};
use winsign_sweep::Axes;
use winsign_sweep::plan::{Label, RunState};
use winsign_testkit::study::{Study, ticket_of};

use super::*;
use crate::made_up::Reported as _;

fn layout(rows: &[&str], columns: &[&str], value: Measure) -> Layout {
    let names = |names: &[&str]| Some(names.iter().map(|name| name.to_string()).collect());
    Layout { rows: names(rows), columns: names(columns), value: Some(value), ..Layout::default() }
}

fn made(study: &Study, layout: &Layout) -> Pivot {
    pivot(&study.report(), layout, Estimate::default()).unwrap_or_else(|refused| panic!("{}", refused.message))
}

fn means(pivot: &Pivot) -> Vec<Vec<Option<f64>>> {
    let mean = |cell: &Option<PivotCell>| cell.and_then(|cell| Some(cell.summary?.mean));
    let rounded = |mean: f64| (mean * 1e9).round() / 1e9;
    pivot.cells.iter().map(|row| row.iter().map(|cell| mean(cell).map(rounded)).collect()).collect()
}

#[test]
fn rows_and_columns_are_the_chosen_ones() {
    let study = Study::new(&[12, 3, 6], &[2, 3, 4], &[Axes::new()]);
    let table = made(&study, &layout(&["method", "inherit"], &["level"], Measure::Error));
    assert_eq!(table.column_keys, [["3"], ["6"], ["12"]]);
    assert_eq!(table.row_keys[1], ["LRR", "mask"]);
    assert_eq!((table.row_keys.len(), table.added.len()), (8, 0));
    // Errors around 6.3 · level / 12; at level 3 the smallest would be below 0 and is 0.
    assert_eq!(means(&table)[0][1..], [Some(3.15), Some(6.3)]);
    let cell = table.cells[0][2].unwrap();
    assert_eq!((cell.planned, cell.summary.unwrap().count), (3, 3));
    let other_way = made(&study, &layout(&["level"], &["inherit", "method"], Measure::Error));
    assert_eq!(other_way.column_keys[0], ["sign", "LRR"]);
    assert_eq!(other_way.column_keys[1], ["sign", "AWS"]);
    assert_eq!(means(&other_way)[2][0], Some(6.3));
}

/// Methods would share a cell.
#[test]
fn settings_that_cells_would_mix_are_added_to_rows() {
    let table = made(&Study::digits(), &layout(&["inherit"], &["level"], Measure::Error));
    assert_eq!(
        (&table.rows[..], &table.added[..]),
        (&["method".to_string(), "inherit".to_string()][..], &["method".to_string()][..])
    );
    assert_eq!(means(&table)[0], [Some(6.3)]);
    let axes = |lr: &str| vec![("transfer.lr".to_string(), lr.to_string())];
    let study = Study::new(&[6, 12], &[2, 3], &[axes("0.05"), axes("0.1")]);
    let table = made(&study, &layout(&["method"], &["inherit"], Measure::Error));
    assert_eq!(table.added, ["transfer.lr", "level"]);
    assert_eq!(table.row_keys[1], ["0.05", "6", "AWS"]);
    let table = made(&study, &layout(&["method", "lr"], &["inherit", "level"], Measure::Error));
    assert_eq!((table.rows[1].as_str(), table.added.len()), ("transfer.lr", 0));
}

#[test]
fn barriers_have_a_column_for_each_kind_of_path() {
    let table = made(&Study::digits(), &layout(&["method", "inherit"], &["between"], Measure::Barrier));
    assert_eq!(table.column_keys, [["seeds"], ["norm-init"]]);
    let means = means(&table);
    assert_eq!((means[0][0], means[0][1]), (Some(0.6), None));
    assert_eq!(table.row_keys[4], ["LRR", MISSING]);
    assert_eq!(means[4], [None, Some(3.3)]);
    // The interval is over three networks, as in the row of the report.
    let report = Study::digits().report();
    assert_eq!(table.cells[0][0].unwrap().summary, report.connections[0].summary);
}

#[test]
fn pairs_across_methods_are_named_by_both() {
    let mut study = Study::with_tickets(&[1, 2, 3], &[2, 3]);
    study.join_tickets(12);
    let mut report = study.report();
    report.connections.retain(|row| row.between == Between::Tickets);
    let table =
        pivot(&report, &layout(&["method"], &["level"], Measure::Barrier), Estimate::default()).unwrap().table();
    let rows: Vec<String> = (0..table.rows.len()).map(|row| table.texts(row).join(" ")).collect();
    assert_eq!(rows, ["LRR 1.0 ± 0.0 (3)", "LRR – AWS 5.0 ± 0.0 (9)", "AWS 1.0 ± 0.0 (3)"]);
}

#[test]
fn rows_of_large_seeds_are_in_order() {
    let seeds = [u64::MAX, 9_007_199_254_740_993, 9_007_199_254_740_992, 9];
    let table = made(&Study::with_tickets(&seeds, &[2]), &layout(&["ticket.seed"], &["inherit"], Measure::Error));
    let keys: Vec<String> = table.row_keys.iter().map(|keys| keys[0].clone()).collect();
    let ascending = seeds.iter().rev().map(u64::to_string).collect::<Vec<_>>();
    assert_eq!(table.rows[1], "ticket.seed");
    assert_eq!(keys, ["LRR", "LRR", "LRR", "LRR", "AWS", "AWS", "AWS", "AWS"]);
    assert_eq!(table.row_keys.iter().take(4).map(|keys| keys[1].clone()).collect::<Vec<_>>(), ascending);
}

#[test]
fn every_measure_fills_the_cells() {
    let study = Study::digits();
    let mean = |value| means(&made(&study, &layout(&["method"], &["inherit"], value)))[0][0];
    assert_eq!((mean(Measure::Seconds), mean(Measure::Loss)), (Some(4.0), Some(0.1)));
    assert_eq!(mean(Measure::Remaining), Some(6.871947674));
    let tickets = {
        let mut study = Study::digits();
        study.runs.retain(|(planned, ..)| planned.run.kind() == Kind::Ticket);
        study
    };
    let table = made(&tickets, &Layout { value: Some(Measure::Error), ..Layout::default() });
    assert_eq!((table.rows[0].as_str(), table.columns[0].as_str(), table.column_keys.len()), ("method", "level", 13));
    let by_ratio = made(&tickets, &layout(&["remaining"], &["method"], Measure::Error));
    assert_eq!((by_ratio.row_keys[0][0].as_str(), by_ratio.row_keys[12][0].as_str()), ("100.0 %", "6.9 %"));
    assert!(by_ratio.added.is_empty());
}

#[test]
fn unfinished_cells_count_their_planned_runs() {
    let mut study = Study::digits();
    study.unfinish(RunState::Running, |planned| {
        let label = &planned.label;
        label.method == Some(Method::Lrr) && label.seeds.iter().any(|seeds| seeds.init > 2)
    });
    study.unfinish(RunState::Pending, |planned| planned.label.method == Some(Method::Aws));
    let table = made(&study, &layout(&["method", "inherit"], &["level"], Measure::Error));
    let cell = |row: usize| table.cells[row][0].map(|cell| (cell.summary.map(|summary| summary.count), cell.planned));
    assert_eq!((cell(0), cell(4)), (Some((Some(1), 3)), Some((None, 3))));
}

#[test]
fn rows_of_a_partial_study_are_those_of_the_whole_one() {
    let whole = made(&Study::digits(), &layout(&["inherit"], &["level"], Measure::Error));
    let mut study = Study::digits();
    study.unfinish(RunState::Pending, |planned| planned.label.method == Some(Method::Aws));
    let partial = made(&study, &layout(&["inherit"], &["level"], Measure::Error));
    assert_eq!((&partial.added, &partial.row_keys), (&whole.added, &whole.row_keys));
    assert_eq!(partial.cells[0][0].unwrap().planned, 3, "of LRR alone");
}

/// Means of LRR sign are 10.1, 20.1 and 40.1 of tickets 1, 2 and 4.
#[test]
fn intervals_are_over_tickets_which_can_be_rows() {
    let study = Study::with_tickets(&[1, 2, 4], &[2, 3, 4]).with_errors(|label| {
        let mask = if label.inherit == Some(Inherit::Mask) { 9.0 + ticket_of(label) as f64 / 10.0 } else { 0.0 };
        10.0 * ticket_of(label) as f64 + mask + label.seeds[0].init as f64 / 30.0
    });
    let table = made(&study, &layout(&["inherit"], &["method"], Measure::Error));
    let cell = table.cells[0][0].unwrap();
    let summary = cell.summary.unwrap();
    assert_eq!((summary.count, cell.tickets, cell.planned, table.added.len()), (9, Some(3), 9, 0));
    assert!((summary.mean - 70.3 / 3.0).abs() < 1e-9, "{summary:?}");
    // 4.3027 · 15.275 / √3.
    let interval = summary.interval.unwrap();
    assert!((interval.high - summary.mean - 37.946).abs() < 1e-3, "{interval:?}");
    assert_eq!(table.table().columns[1].text(0), "23.4 ± 15.3 (3, 9)");

    let apart = made(&study, &layout(&["ticket.seed", "inherit"], &["method"], Measure::Error));
    assert_eq!(apart.row_keys[0], ["1", "sign"]);
    let cell = apart.cells[0][0].unwrap();
    assert_eq!((cell.summary.unwrap().count, cell.summary.unwrap().interval, cell.tickets), (3, None, Some(1)));
    assert!(apart.cells.iter().flatten().flatten().all(|cell| !cell.best), "one ticket shows no difference");
    let of_first =
        |label: &Label| ticket_of(label) == 1 && label.inherit == Some(Inherit::Sign) && label.between.is_none();
    let expected =
        study.runs.iter().filter(|(planned, ..)| of_first(&planned.label)).map(|(planned, ..)| &planned.run.id);
    let [found, expected] = [apart.runs[0].iter().collect::<BTreeSet<_>>(), expected.collect()];
    assert_eq!(found, expected, "LRR and AWS, of the first ticket");
}

#[test]
fn best_cell_differs_from_all_others_by_its_interval() {
    let by_inherit = |errors: fn(u64, Option<Inherit>) -> f64| {
        let study = Study::with_tickets(&[1, 2, 3], &[2, 3]);
        let mut study = study.with_errors(|label| errors(ticket_of(label), label.inherit));
        study.runs.retain(|(planned, ..)| {
            planned.label.inherit.is_none_or(|inherit| [Inherit::Sign, Inherit::Mask].contains(&inherit))
        });
        let table = made(&study, &layout(&["inherit"], &["method"], Measure::Error)).table();
        let columns = table.columns.iter().enumerate();
        let mut best: Vec<(usize, usize)> =
            columns.flat_map(|(column, one)| one.best.iter().map(move |&row| (row, column))).collect();
        best.sort_unstable();
        best
    };
    let wide = |ticket: u64, inherit: Option<Inherit>| match inherit {
        Some(Inherit::Mask) => [12.0, 3.0, 20.0][ticket as usize - 1],
        _ => 5.0,
    };
    assert_eq!(by_inherit(wide), []);
    let alike = |ticket: u64, inherit: Option<Inherit>| {
        10.0 * ticket as f64 + if inherit == Some(Inherit::Mask) { 5.0 + ticket as f64 / 10.0 } else { 0.0 }
    };
    assert_eq!(by_inherit(alike), [(0, 1), (0, 2)]);
}

#[test]
fn unknown_names_are_errors_with_the_nearest_name() {
    let refused = |rows: &[&str], columns: &[&str]| {
        let axes = vec![("ticket.lr".to_string(), "1".to_string()), ("transfer.lr".to_string(), "1".to_string())];
        let study = Study::new(&[12], &[2, 3], &[axes]);
        pivot(&study.report(), &layout(rows, columns, Measure::Error), Estimate::default()).unwrap_err()
    };
    let typo = refused(&["inhert"], &["level"]);
    assert_eq!(typo.message, "`inhert` is not an axis of this study");
    let help = typo.help.unwrap();
    assert!(help.starts_with("did you mean `inherit`? rows and columns can be `method`, "), "{help}");
    assert!(help.ends_with("`ticket.lr`, `transfer.lr`"), "{help}");
    assert_eq!(refused(&["lr"], &["level"]).help.unwrap(), "say which: `ticket.lr`, `transfer.lr`");
    assert_eq!(refused(&["level"], &["level"]).message, "`level` is given twice");
}
