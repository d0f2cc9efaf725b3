//! The warnings of a report.

use std::collections::HashSet;

use winsign_core::RunId;
use winsign_core::grouping::{distinct, grouped};
use winsign_core::results::{Outcome, Processors, RunResult, TrainScore};
use winsign_core::settings::{Kind, Seeds};

use super::ends::Labels;
use super::gather::by_ticket;
use super::spreads::without_ticket_seeds;
use super::{Notice, RunRecord, paths};

/// Returns the warnings that follow from the results. The rows are those whose numbers are from several runs.
pub(crate) fn find(records: &[RunRecord], rows: &[Vec<&RunRecord>], labels: &Labels) -> Vec<Notice> {
    let mut notices = Vec::new();
    notices.extend(not_finite(records));
    notices.extend(different_data(records, rows));
    notices.extend(different_processors(rows));
    notices.extend(different_paths(rows));
    notices.extend(crossed_seeds(rows));
    notices.extend(crossed_tickets(records, rows, labels));
    notices
}

fn result<'f>(record: &'f RunRecord) -> Option<&'f RunResult> {
    record.result.as_ref()
}

fn id(record: &RunRecord) -> RunId {
    record.planned.run.id.clone()
}

/// Returns the warning about numbers that are not finite.
fn not_finite(records: &[RunRecord]) -> Option<Notice> {
    let runs: Vec<RunId> = (records.iter())
        .filter(|record| result(record).is_some_and(|result| !is_finite(&result.outcome)))
        .map(id)
        .collect();
    let (results, are) = match runs.len() {
        0 => return None,
        1 => ("1 result".to_string(), "has"),
        several => (format!("{several} results"), "have"),
    };
    let message = format!(
        "{results} {are} numbers that are not finite; errors that are not are left out with their run or path, losses \
         out of the means of losses"
    );
    Some(Notice { message, runs })
}

fn is_finite(outcome: &Outcome) -> bool {
    let train = |train: Option<TrainScore>| {
        train.is_none_or(|train| train.train_error.is_finite() && train.train_loss.is_finite())
    };
    let path = |path: &winsign_core::results::PathOutcome| {
        let losses = path.points.iter().all(|point| point.test_loss.is_finite() && train(point.train));
        paths::is_whole(path) && losses
    };
    match outcome {
        Outcome::Ticket(ticket) => ticket.test_error.is_finite() && ticket.test_loss.is_finite(),
        Outcome::Transfer(transfer) => transfer.test_error.is_finite() && transfer.test_loss.is_finite(),
        Outcome::Connect(connect) => path(&connect.path),
        Outcome::Matrix(matrix) => matrix.pairs.iter().all(|pair| path(&pair.path)),
        Outcome::Plane(plane) => (plane.points.iter())
            .all(|point| point.test_error.is_finite() && point.test_loss.is_finite() && train(point.train)),
    }
}

/// Returns the warnings about results that were computed from different files of one data set, one for each data set.
fn different_data(records: &[RunRecord], rows: &[Vec<&RunRecord>]) -> Vec<Notice> {
    let fingerprint = |record: &&RunRecord| result(record).and_then(|result| result.data.clone());
    let known = records.iter().filter(|record| fingerprint(record).is_some());
    let of_sets = grouped(known, |record| record.planned.label.problem.dataset);
    of_sets
        .into_iter()
        .filter_map(|of_set| {
            let dataset = of_set[0].planned.label.problem.dataset;
            let mut kinds = grouped(of_set, fingerprint);
            if kinds.len() < 2 {
                return None;
            }
            kinds.sort_by_key(|kind| std::cmp::Reverse(kind.len()));
            let counts: Vec<String> = (kinds.iter())
                .map(|kind| format!("{} from {}", kind.len(), fingerprint(&kind[0]).unwrap_or_default()))
                .collect();
            let of_this_set = |row: &&Vec<&RunRecord>| row[0].planned.label.problem.dataset == dataset;
            let mixed = mixed(rows.iter().filter(of_this_set), fingerprint);
            let consequence = match mixed.len() {
                0 => "no row mixes them, but rows that differ in it cannot be compared".to_string(),
                _ => format!("means of {} mix them", rows_text(&mixed)),
            };
            let message =
                format!("the results of {dataset} come from different data: {}; {consequence}", counts.join(", "));
            // Only the results in the minority are listed.
            let runs = kinds[1..].iter().flatten().map(|record| id(record)).collect();
            Some(Notice { message, runs })
        })
        .collect()
}

/// Returns the warning about results of one row that were computed with different numbers of threads or ranks.
fn different_processors(rows: &[Vec<&RunRecord>]) -> Option<Notice> {
    let processors = |record: &&RunRecord| {
        let Processors { ranks, threads } = result(record)?.processors;
        Some((ranks, threads))
    };
    let mixed = mixed(rows.iter(), processors);
    if mixed.is_empty() {
        return None;
    }
    let mut kinds: Vec<(u32, u32)> = distinct(mixed.iter().flat_map(|row| row.iter().filter_map(processors)));
    kinds.sort();
    let kinds: Vec<String> = kinds.iter().map(|(ranks, threads)| format!("{ranks} × {threads}")).collect();
    let message = format!(
        "means of {} are of results computed on different numbers of processors (ranks × threads: {}): these may differ in \
         the last digits, and with BatchNorm the number of ranks is a setting",
        rows_text(&mixed),
        kinds.join(", ")
    );
    let runs =
        mixed.iter().flat_map(|row| row.iter().filter(|record| result(record).is_some()).map(|record| id(record)));
    Some(Notice { message, runs: runs.collect() })
}

/// Returns the warning about paths that several runs, such as blocks of several sizes, measured with different
/// barriers.
fn different_paths(rows: &[Vec<&RunRecord>]) -> Option<Notice> {
    // The order of the networks changes a barrier only by rounding.
    const ROUNDING: f64 = 1e-9;
    let mut runs = Vec::new();
    let (mut paths, mut most) = (0, 0.0_f64);
    for again in rows.iter().flat_map(|row| paths::by_ends(row)) {
        let barriers = || again.iter().map(|(_, (_, path))| path.barrier);
        let apart = barriers().fold(f64::NEG_INFINITY, f64::max) - barriers().fold(f64::INFINITY, f64::min);
        if apart > ROUNDING {
            runs.extend(again.iter().map(|(record, _)| id(record)));
            (paths, most) = (paths + 1, most.max(apart));
        }
    }
    let paths = match paths {
        0 => return None,
        1 => "1 path was".to_string(),
        several => format!("{several} paths were"),
    };
    let most = if most < 0.01 { "less than 0.01".to_string() } else { format!("up to {most:.2}") };
    let message =
        format!("{paths} measured by several runs whose barriers differ, by {most} points; the first is kept");
    Some(Notice { message, runs: distinct(runs) })
}

/// Returns the warning about rows of transfers that share an initialization or an order of images, as when the seeds of
/// both are axes that are combined. Statistics count each run as independent of the others.
fn crossed_seeds(rows: &[Vec<&RunRecord>]) -> Option<Notice> {
    let is_done =
        |record: &&&RunRecord| matches!(result(record).map(|result| &result.outcome), Some(Outcome::Transfer(_)));
    // A seed that all runs share is a condition of the row, not a part of its randomness. Each ticket counts once, so
    // that runs of several tickets may have seeds in common.
    let crossed = |row: &&Vec<&RunRecord>| {
        by_ticket(row).iter().any(|runs| {
            are_crossed(runs.iter().filter(is_done).filter_map(|record| record.planned.label.seeds.first().copied()))
        })
    };
    let rows: Vec<&Vec<&RunRecord>> = rows.iter().filter(crossed).collect();
    if rows.is_empty() {
        return None;
    }
    let message = format!(
        "runs of {} have an initialization or an order of images in common, but count as independent: their intervals are too \
         narrow, and the p-values of their differences too small; the spread by source tells how much each matters",
        rows_text(&rows)
    );
    let runs = rows.iter().flat_map(|row| row.iter().filter(is_done).map(|record| id(record)));
    Some(Notice { message, runs: runs.collect() })
}

/// Returns the warning about rows with tickets that share an initialization or an order of images with some of the
/// others.
fn crossed_tickets(records: &[RunRecord], rows: &[Vec<&RunRecord>], labels: &Labels) -> Option<Notice> {
    let tickets = |row: &Vec<&RunRecord>| {
        let done = row.iter().filter(|record| result(record).is_some());
        distinct(done.filter_map(|record| match is_ticket(record) {
            true => record.planned.label.seeds.first().copied(),
            false => labels.ticket_of(&record.planned.run.id),
        }))
    };
    // Tickets are compared themselves where nothing is transferred.
    let levels = if rows.is_empty() { levels(records) } else { vec![] };
    let rows: Vec<&Vec<&RunRecord>> =
        rows.iter().chain(&levels).filter(|row| are_crossed(tickets(row).into_iter())).collect();
    if rows.is_empty() {
        return None;
    }
    let message = format!(
        "tickets of {} have an initialization or an order of images in common, but count as independent: their intervals are \
         too narrow",
        rows_text(&rows)
    );
    let runs =
        rows.iter().flat_map(|row| row.iter().filter(|record| result(record).is_some()).map(|record| id(record)));
    Some(Notice { message, runs: runs.collect() })
}

/// Returns the tickets that differ in nothing but their seeds, level by level.
fn levels<'f>(records: &'f [RunRecord<'f>]) -> Vec<Vec<&'f RunRecord<'f>>> {
    grouped(records.iter().filter(|record| is_ticket(record)), |record| {
        let label = &record.planned.label;
        (label.problem, label.method, label.level, label.rewind_point, without_ticket_seeds(&label.axes))
    })
}

fn is_ticket(record: &RunRecord) -> bool {
    record.planned.run.kind() == Kind::Ticket
}

/// Returns whether some of these, but not all, have an initialization or an order of images in common.
fn are_crossed(seeds: impl Iterator<Item = Seeds>) -> bool {
    let seeds: Vec<Seeds> = seeds.collect();
    let shared = |of: fn(&Seeds) -> u64| (2..seeds.len()).contains(&distinct(seeds.iter().map(of)).len());
    shared(|seeds| seeds.init) || shared(|seeds| seeds.order)
}

/// Returns the rows whose runs have different values.
fn mixed<'r, 'f, V: Eq + std::hash::Hash>(
    rows: impl Iterator<Item = &'r Vec<&'f RunRecord<'f>>>,
    value: impl Fn(&&RunRecord) -> Option<V>,
) -> Vec<&'r Vec<&'f RunRecord<'f>>>
where
    'f: 'r,
{
    rows.filter(|row| row.iter().filter_map(&value).collect::<HashSet<_>>().len() > 1).collect()
}

/// Describes rows, as in `2 rows, the first aws level 3, sign`.
fn rows_text(rows: &[&Vec<&RunRecord>]) -> String {
    let mut label = rows[0][0].planned.label.clone();
    label.seeds.clear();
    label.block = None;
    match rows.len() {
        1 => format!("1 row ({label})"),
        several => format!("{several} rows (the first: {label})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_core::settings::{Inherit, Kind, Method, Seeds};
    use winsign_testkit::study::Study;

    /// Returns a study in which `change` was applied to the results of the LRR sign transfers.
    fn changed(change: impl Fn(&mut RunResult, u64)) -> Study {
        let mut study = Study::digits();
        for (planned, _, result) in &mut study.runs {
            let label = &planned.label;
            let is_transfer = planned.run.kind() == Kind::Transfer;
            if is_transfer && label.method == Some(Method::Lrr) && label.inherit == Some(Inherit::Sign) {
                change(result.as_mut().unwrap(), label.seeds[0].init);
            }
        }
        study
    }

    #[test]
    fn sound_study_has_no_warnings() {
        assert_eq!(Study::digits().report().notices, []);
    }

    #[test]
    fn numbers_that_are_not_finite_are_left_out_with_a_warning() {
        let study = changed(|result, seed| {
            let Outcome::Transfer(outcome) = &mut result.outcome else { unreachable!() };
            match seed {
                2 => outcome.test_error = f64::NAN,
                3 => outcome.test_loss = f64::INFINITY,
                _ => {}
            }
        });
        let report = study.report();
        let sign = &report.transfers[0];
        assert_eq!((sign.seeds, sign.seeds_planned, sign.errors[0].seeds), (2, 3, Seeds::from(3)));
        assert!((sign.error_mean.unwrap() - (6.3 + 7.6) / 2.0).abs() < 1e-12);
        assert_eq!(report.notices.len(), 1);
        assert!(report.notices[0].message.starts_with("2 results have numbers that are not finite"));
        assert_eq!(report.notices[0].runs[1], sign.errors[0].run);
    }

    #[test]
    fn results_of_different_data_have_a_warning() {
        let study = changed(|result, seed| result.data = Some(if seed == 3 { "bb" } else { "aa" }.to_string()));
        let notices = study.report().notices;
        assert_eq!(notices.len(), 1);
        assert_eq!(
            notices[0].message,
            "the results of digits come from different data: 2 from aa, 1 from bb; means of 1 row (lrr level 12, sign) mix \
             them"
        );
        assert_eq!(notices[0].runs.len(), 1);
        // A result without a fingerprint does not count as different data.
        let study = changed(|result, seed| result.data = (seed == 3).then(|| "bb".to_string()));
        assert_eq!(study.report().notices, []);
    }

    #[test]
    fn data_that_differs_only_between_rows_has_a_warning() {
        let mut study = changed(|result, _| result.data = Some("aa".to_string()));
        study.runs[0].2.as_mut().unwrap().data = Some("bb".to_string());
        let message = &study.report().notices[0].message;
        assert!(
            message.ends_with("3 from aa, 1 from bb; no row mixes them, but rows that differ in it cannot be compared")
        );
    }

    #[test]
    fn results_of_different_processors_have_a_warning() {
        let study = changed(|result, seed| result.processors.ranks = if seed == 4 { 2 } else { 1 });
        let notices = study.report().notices;
        assert_eq!(notices.len(), 1);
        assert!(notices[0].message.contains("1 row (lrr level 12, sign)"), "{}", notices[0].message);
        assert!(notices[0].message.contains("ranks × threads: 1 × 1, 2 × 1"));
        assert_eq!(notices[0].runs.len(), 3);
    }

    #[test]
    fn crossed_seeds_have_a_warning() {
        let with_seeds = |of: fn(u64) -> Seeds| {
            let mut study = Study::digits();
            for (planned, ..) in &mut study.runs {
                let is_sign = planned.label.inherit == Some(Inherit::Sign) && planned.label.method == Some(Method::Aws);
                if is_sign && planned.run.kind() == Kind::Transfer {
                    planned.label.seeds = vec![of(planned.label.seeds[0].init)];
                }
            }
            study.report().notices
        };
        let notices = with_seeds(|seed| Seeds { order: seed % 2, ..Seeds::from(seed) });
        assert_eq!(notices.len(), 1);
        let expected = "runs of 1 row (aws level 12, sign) have an initialization or an order of images in common";
        assert!(notices[0].message.starts_with(expected), "{}", notices[0].message);
        assert_eq!(notices[0].runs.len(), 3);
        assert_eq!(with_seeds(|seed| Seeds { init: seed % 2, ..Seeds::from(seed) }).len(), 1);
        assert_eq!(with_seeds(|seed| Seeds { order: 1, ..Seeds::from(seed) }), []);
        assert_eq!(with_seeds(|seed| Seeds { order: 100 + seed, ..Seeds::from(seed) }), []);
    }

    /// Transfers of other tickets may have the same seeds: each ticket counts once.
    #[test]
    fn crossed_seeds_of_tickets_have_a_warning() {
        let with_seeds = |of: fn(u64) -> Seeds| {
            let mut study = Study::with_tickets(&[1, 2, 3, 4], &[2, 3]);
            for (planned, ..) in study.runs.iter_mut().filter(|(planned, ..)| planned.run.kind() == Kind::Ticket) {
                planned.label.seeds = vec![of(planned.label.seeds[0].init)];
            }
            study.report().notices
        };
        assert_eq!(with_seeds(Seeds::from), []);
        assert_eq!(with_seeds(|seed| Seeds { init: 1, order: 1, alpha: seed }), []);
        let notices = with_seeds(|seed| Seeds { order: seed % 2, ..Seeds::from(seed) });
        assert_eq!(notices.len(), 1);
        assert!(notices[0].message.starts_with("tickets of 18 rows (the first: lrr level 12, sign"), "{notices:?}");
    }

    #[test]
    fn crossed_seeds_of_tickets_without_transfers_have_a_warning() {
        let mut study = Study::with_tickets(&[1, 2, 3, 4], &[2, 3]);
        study.runs.retain(|(planned, ..)| planned.run.kind() == Kind::Ticket);
        assert_eq!(study.report().notices, []);
        for (planned, ..) in &mut study.runs {
            let seed = planned.label.seeds[0].init;
            planned.label.seeds = vec![Seeds { order: seed % 2, ..Seeds::from(seed) }];
        }
        let notices = study.report().notices;
        assert_eq!(notices.len(), 1);
        assert!(notices[0].message.starts_with("tickets of "), "{notices:?}");
    }
}
