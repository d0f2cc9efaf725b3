//! Builds the rows of a report from records.

use std::collections::HashMap;

use winsign_core::RunId;
use winsign_core::grouping::{distinct, grouped};
use winsign_core::results::{Outcome, TicketOutcome, TransferOutcome};
use winsign_core::settings::{Between, Inherit, Kind, Method, Problem, Seeds};
use winsign_sweep::plan::{PlannedRun, RunState};
use winsign_sweep::{Axes, Measure};

use super::ends::Labels;
use super::sample::{Sample, best, is_over_tickets};
use super::spreads::without_ticket_seeds;
use super::statistics::{Estimate, mean};
use super::{
    ConnectionRow, FailedRun, LayerRatio, LevelRow, Part, Report, RunCounts, RunRecord, SeedError, TicketRow,
    TransferRow, differences, notices, paths, spreads, statements,
};

/// Returns the report of a study from the records of its runs, in the order of the plan.
///
/// Unfinished runs have rows, too, so that a partial study shows missing results. Rows are ordered by method, level,
/// and inheritance; methods and inheritances as they first appear in the plan. Dense networks, which belong to no
/// method, come first. Rewind points are not levels of a chain and have no row.
pub fn gather(name: &str, records: &[RunRecord]) -> Report {
    gather_with(name, records, Estimate::default())
}

/// Like [`gather`], with the given confidence intervals.
pub fn gather_with(name: &str, records: &[RunRecord], estimate: Estimate) -> Report {
    let gathering = Gathering { ratios: remaining_ratios(records), labels: Labels::new(records), estimate };
    let rows = |kind| rows(records, kind);
    let (transfers, connects) = (rows(Kind::Transfer), rows(Kind::Connect));
    let in_state = |state| records.iter().filter(move |record| record.state == state).map(listed).collect();
    let mut transfer_rows: Vec<TransferRow> = transfers.iter().filter_map(|row| transfer(row, &gathering)).collect();
    let mut connections: Vec<ConnectionRow> =
        connects.iter().flat_map(|row| paths::connections(row, &gathering)).collect();
    let tickets: Vec<TicketRow> =
        rows(Kind::Ticket).iter().flatten().filter_map(|record| ticket(record, &gathering)).collect();
    mark_best(&mut transfer_rows, &mut connections, estimate);
    let levels = levels(&tickets, estimate);
    let differences = differences::all(&levels, &tickets, &transfer_rows, &connections, estimate);
    Report {
        name: name.to_string(),
        runs: count(records),
        connections,
        failed: in_state(RunState::Failed),
        blocked: in_state(RunState::Blocked),
        planes: connects.iter().flatten().filter_map(|record| paths::plane(record, &gathering)).collect(),
        statements: statements::describe_differences(&differences),
        differences,
        spreads: spreads::by_source(&transfer_rows),
        transfers: transfer_rows,
        notices: notices::find(records, &[transfers, connects].concat(), &gathering.labels),
        pivot: None,
        levels,
        tickets,
    }
}

/// The context in which rows are made.
pub(crate) struct Gathering<'a> {
    ratios: HashMap<&'a RunId, f64>,
    pub labels: Labels<'a>,
    pub estimate: Estimate,
}

impl Gathering<'_> {
    /// Returns the mean of the remaining ratios of the runs of a row, as far as they are known.
    pub(crate) fn ratio_of_runs(&self, row: &[&RunRecord]) -> Option<f64> {
        self.mean_ratio(row.iter().map(|record| &record.planned.run.id))
    }

    /// Returns the mean of the remaining ratios of the first ends of paths, whose level is that of the row.
    pub(crate) fn ratio_of_first_ends(&self, row: &[&RunRecord]) -> Option<f64> {
        self.mean_ratio(row.iter().filter_map(|record| record.planned.run.inputs.first()))
    }

    /// Returns the mean of the remaining ratios of networks, as far as they are known. Unlike that of their masks' union it is
    /// the same however paths are cut into runs, and before any of them is measured.
    pub(crate) fn mean_ratio<'r>(&self, networks: impl Iterator<Item = &'r RunId>) -> Option<f64> {
        let ends = distinct(networks);
        let ratios: Vec<f64> = ends.into_iter().filter_map(|end| self.ratios.get(end).copied()).collect();
        mean_of_alike(&ratios)
    }
}

fn count(records: &[RunRecord]) -> RunCounts {
    let mut counts = RunCounts { total: records.len(), ..RunCounts::default() };
    for record in records {
        *match record.state {
            RunState::Done => &mut counts.done,
            RunState::Running => &mut counts.running,
            RunState::Queued => &mut counts.queued,
            RunState::Failed => &mut counts.failed,
            RunState::Blocked => &mut counts.blocked,
            RunState::Pending => &mut counts.pending,
        } += 1;
    }
    counts
}

/// Returns the remaining ratio of every run for which it is known: transfers and paths have that of their ticket before
/// they are done themselves. One pass suffices, because a plan lists runs after those they need.
pub(crate) fn remaining_ratios<'a>(records: &'a [RunRecord]) -> HashMap<&'a RunId, f64> {
    let mut ratios = HashMap::with_capacity(records.len());
    for record in records {
        let run = &record.planned.run;
        let own = record.result.as_ref().map(|result| result.outcome.remaining_ratio());
        // A ticket's input is a ticket of another level, with another ratio.
        let inherited = || match run.kind() {
            Kind::Ticket => None,
            Kind::Transfer if run.inputs.is_empty() => Some(1.0),
            Kind::Transfer | Kind::Connect => run.inputs.iter().find_map(|input| ratios.get(input).copied()),
        };
        if let Some(ratio) = own.or_else(inherited) {
            ratios.insert(&run.id, ratio);
        }
    }
    ratios
}

/// The properties that all runs of one row share: everything but their seeds and those of their tickets.
#[derive(PartialEq, Eq, Hash)]
struct RowKey {
    problem: Problem,
    method: Option<Method>,
    level: u32,
    inherit: Option<Inherit>,
    between: Option<Between>,
    axes: Axes,
}

/// Returns the records of one kind by row; within a row, ticket after ticket.
fn rows<'a, 'f>(records: &'f [RunRecord<'a>], kind: Kind) -> Vec<Vec<&'f RunRecord<'a>>> {
    let of_kind = records.iter().filter(|record| record.planned.run.kind() == kind);
    let mut rows = grouped(of_kind, |record| {
        let label = &record.planned.label;
        RowKey {
            problem: label.problem,
            method: label.method,
            level: label.level,
            inherit: label.inherit,
            between: label.between,
            axes: without_ticket_seeds(&label.axes),
        }
    });
    for row in &mut rows {
        *row = by_ticket(row).concat();
    }
    let methods = distinct(records.iter().filter_map(|record| record.planned.label.method));
    let inherits = distinct(records.iter().filter_map(|record| record.planned.label.inherit));
    rows.sort_by_key(|row| {
        let label = &row[0].planned.label;
        let place_of_method = methods.iter().position(|method| Some(*method) == label.method);
        let place_of_inherit = inherits.iter().position(|inherit| Some(*inherit) == label.inherit);
        // Rows without a transfer come last.
        (place_of_method, label.level, place_of_inherit.unwrap_or(inherits.len()))
    });
    rows
}

/// Returns the identities of runs.
pub(crate) fn ids(runs: &[&RunRecord]) -> Vec<RunId> {
    runs.iter().map(|record| record.planned.run.id.clone()).collect()
}

/// Returns the runs of a row by their ticket.
pub(crate) fn by_ticket<'a, 'f>(row: &[&'f RunRecord<'a>]) -> Vec<Vec<&'f RunRecord<'a>>> {
    grouped(row.iter().copied(), |record| &record.planned.label.axes)
}

/// Marks the rows that are better than every other one that they are compared with.
fn mark_best(transfers: &mut [TransferRow], connections: &mut [ConnectionRow], estimate: Estimate) {
    let places = |samples: &[Sample]| {
        // The barrier between a ticket and itself with ψ₀ does not rank the two.
        let judged = samples.iter().enumerate().filter(|(_, one)| one.between != Some(Between::NormInit));
        let compared = grouped(judged, |(_, one)| (one.problem, one.level, one.between, one.protocol, one.axes));
        let places = compared.into_iter().filter_map(|of_one| {
            let samples: Vec<&Sample> = of_one.iter().map(|(_, sample)| *sample).collect();
            Some(of_one[best(&samples, estimate)?].0)
        });
        places.collect::<Vec<usize>>()
    };
    let errors: Vec<Sample> = transfers.iter().map(|row| Sample::from_transfers(row, Measure::Error)).collect();
    let barriers: Vec<Sample> = connections.iter().map(|row| Sample::from_paths(row, Measure::Barrier)).collect();
    let (of_errors, of_barriers) = (places(&errors), places(&barriers));
    of_errors.into_iter().for_each(|at| transfers[at].best = true);
    of_barriers.into_iter().for_each(|at| connections[at].best = true);
}

/// Returns one row for the tickets of each level and setting.
fn levels(tickets: &[TicketRow], estimate: Estimate) -> Vec<LevelRow> {
    let alike = grouped(tickets.iter().enumerate(), |(_, row)| {
        (row.problem, row.method, row.level, without_ticket_seeds(&row.axes))
    });
    let level = |rows: Vec<(usize, &TicketRow)>| {
        let ratios: Vec<f64> = rows.iter().filter_map(|(_, row)| row.remaining_ratio).collect();
        let (_, first) = rows[0];
        let level = LevelRow {
            method: first.method,
            level: first.level,
            remaining_ratio: mean_of_alike(&ratios),
            tickets: rows.iter().filter(|(_, row)| row.test_error.is_some()).count(),
            tickets_planned: rows.len(),
            error_mean: None,
            error_std: None,
            axes: without_ticket_seeds(&first.axes),
            summary: None,
            problem: first.problem,
            places: rows.iter().map(|(at, _)| *at).collect(),
        };
        let summary = Sample::from_level(&level, tickets).summary(estimate);
        LevelRow {
            error_mean: summary.map(|summary| summary.mean),
            error_std: summary.and_then(|summary| summary.std),
            summary,
            ..level
        }
    };
    alike.into_iter().map(level).collect()
}

/// Returns the mean of ratios. Equal ratios are returned as they are, since their sum may change the last bit.
fn mean_of_alike(ratios: &[f64]) -> Option<f64> {
    let first = *ratios.first()?;
    if ratios.iter().all(|ratio| *ratio == first) { Some(first) } else { mean(ratios) }
}

fn ticket(record: &RunRecord, gathering: &Gathering) -> Option<TicketRow> {
    let PlannedRun { run, label } = record.planned;
    let method = label.method.filter(|_| label.rewind_point.is_none())?;
    let outcome = ticket_outcome(record);
    let layers = outcome.map_or(&[][..], |outcome| &outcome.layers);
    Some(TicketRow {
        method,
        level: label.level,
        remaining_ratio: gathering.ratio_of_runs(&[record]),
        test_error: outcome.map(|outcome| outcome.test_error).filter(|error| error.is_finite()),
        axes: label.axes.clone(),
        run: run.id.clone(),
        seeds: *label.seeds.first().unwrap_or(&Seeds::from(0)),
        test_loss: outcome.map(|outcome| outcome.test_loss).filter(|loss| loss.is_finite()),
        layers: layers
            .iter()
            .map(|layer| LayerRatio {
                name: layer.name.clone(),
                remaining_ratio: layer.survivors as f64 / layer.prunable as f64,
            })
            .collect(),
        problem: label.problem,
        seconds: record.result.as_ref().map(|result| result.seconds),
    })
}

fn transfer(row: &[&RunRecord], gathering: &Gathering) -> Option<TransferRow> {
    let label = &row.first()?.planned.label;
    let inherit = label.inherit?;
    let mut errors: Vec<SeedError> = Vec::new();
    let mut parts = Vec::new();
    for runs in by_ticket(row) {
        let first = errors.len();
        errors.extend(runs.iter().filter_map(|record| seed_error(record, gathering)));
        let axes = runs[0].planned.label.axes.clone();
        parts.push(Part { axes, numbers: first..errors.len(), planned: runs.len(), runs: ids(&runs) });
    }
    let transfers = TransferRow {
        method: label.method,
        level: label.level,
        remaining_ratio: gathering.ratio_of_runs(row),
        inherit,
        seeds: errors.len(),
        seeds_planned: row.len(),
        error_mean: None,
        error_std: None,
        errors,
        axes: without_ticket_seeds(&label.axes),
        summary: None,
        problem: label.problem,
        tickets: 0,
        tickets_planned: if is_over_tickets(Some(inherit), None) { parts.len() } else { 0 },
        best: false,
        parts,
    };
    let sample = Sample::from_transfers(&transfers, Measure::Error);
    let (tickets, summary) = (sample.tickets(), sample.summary(gathering.estimate));
    Some(TransferRow {
        tickets,
        error_mean: summary.map(|summary| summary.mean),
        error_std: summary.and_then(|summary| summary.std),
        summary,
        ..transfers
    })
}

fn seed_error(record: &RunRecord, gathering: &Gathering) -> Option<SeedError> {
    let outcome = transfer_outcome(record).filter(|outcome| outcome.test_error.is_finite())?;
    Some(SeedError {
        seeds: *record.planned.label.seeds.first()?,
        error: outcome.test_error,
        loss: outcome.test_loss,
        run: record.planned.run.id.clone(),
        seconds: record.result.as_ref()?.seconds,
        ticket: gathering.labels.ticket_of(&record.planned.run.id),
    })
}

fn listed(record: &RunRecord) -> FailedRun {
    let PlannedRun { run, label } = record.planned;
    FailedRun { id: run.id.clone(), kind: run.kind(), label: label.to_string(), message: record.note.clone() }
}

fn ticket_outcome<'f>(record: &'f RunRecord) -> Option<&'f TicketOutcome> {
    match &record.result.as_ref()?.outcome {
        Outcome::Ticket(outcome) => Some(outcome),
        _ => None,
    }
}

fn transfer_outcome<'f>(record: &'f RunRecord) -> Option<&'f TransferOutcome> {
    match &record.result.as_ref()?.outcome {
        Outcome::Transfer(outcome) => Some(outcome),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_core::settings::Seeds;
    use winsign_testkit::study::Study;

    #[test]
    fn digits_study_has_expected_numbers() {
        let report = Study::digits().report();
        let sign = &report.transfers[0];
        assert_eq!((sign.method, sign.level, sign.inherit), (Some(Method::Lrr), 12, Inherit::Sign));
        assert_eq!((sign.seeds, sign.seeds_planned), (3, 3));
        // Errors 5.0, 6.3 and 7.6: mean 6.3, squared deviations 1.69 + 0 + 1.69, over 2.
        assert!((sign.error_mean.unwrap() - 6.3).abs() < 1e-12);
        assert!((sign.error_std.unwrap() - 1.3).abs() < 1e-12);
        let errors: Vec<(u64, f64)> = sign.errors.iter().map(|seed| (seed.seeds.init, seed.error)).collect();
        assert_eq!(errors, [(2, 5.0), (3, 6.3), (4, 7.6)]);

        let paths = &report.connections[0];
        assert_eq!((paths.between, paths.inherit, paths.pairs), (Between::Seeds, Some(Inherit::Sign), 3));
        // Barriers 0.4, 0.6 and 0.8.
        assert!((paths.barrier_mean.unwrap() - 0.6).abs() < 1e-12);
        assert!((paths.barrier_max.unwrap() - 0.8).abs() < 1e-12);
        assert_eq!(paths.path.len(), 11);
        assert_eq!((paths.path[0].t, paths.path[10].t), (0.0, 1.0));
        let middle: Vec<f64> = paths.paths.iter().map(|pair| pair.path[5].error).collect();
        assert!((paths.path[5].error_mean - (middle[0] + middle[1] + middle[2]) / 3.0).abs() < 1e-12);
    }

    #[test]
    fn rows_are_ordered_by_method_level_and_transfer_as_they_appear() {
        let mut study = Study::digits();
        // An executor's order mixes methods and kinds; rows must not.
        let (lrr, aws): (Vec<_>, Vec<_>) =
            study.runs.drain(..).partition(|(planned, ..)| planned.label.method == Some(Method::Lrr));
        study.runs = lrr.into_iter().zip(aws).flat_map(|(lrr, aws)| [lrr, aws]).collect();
        let report = study.report();
        let order: Vec<String> =
            report.transfers.iter().map(|row| format!("{} {}", row.method.unwrap(), row.inherit)).collect();
        let inherits = ["sign", "mask", "sign+norm", "retrain"];
        let expected: Vec<String> =
            ["lrr", "aws"].iter().flat_map(|method| inherits.map(|inherit| format!("{method} {inherit}"))).collect();
        assert_eq!(order, expected);
        let levels: Vec<u32> = report.tickets.iter().map(|row| row.level).collect();
        assert_eq!(levels, (0..=12).chain(0..=12).collect::<Vec<_>>());
    }

    #[test]
    fn different_settings_never_share_a_row() {
        let mut study = Study::digits();
        let plain = study.report();
        for (planned, ..) in &mut study.runs {
            if planned.label.seeds == [Seeds::from(4)] {
                planned.label.axes = vec![("transfer.lr".to_string(), "0.05".to_string())];
            }
        }
        let report = study.report();
        assert_eq!(report.transfers.len(), 2 * plain.transfers.len());
        let sign: Vec<_> = report.transfers.iter().filter(|row| row.inherit == Inherit::Sign).take(2).collect();
        assert_eq!((sign[0].seeds, sign[0].axes.len()), (2, 0));
        assert_eq!((sign[1].seeds, sign[1].axes[0].1.as_str()), (1, "0.05"));
        assert_eq!(sign[1].error_std, None);
    }

    #[test]
    fn dense_networks_have_one_row_before_all_methods() {
        let mut study = Study::digits();
        study.add_dense(&[2, 3, 4]);
        let report = study.report();
        assert_eq!(report.transfers.len(), 9);
        let dense = &report.transfers[0];
        assert_eq!((dense.method, dense.level, dense.inherit), (None, 0, Inherit::Dense));
        assert_eq!((dense.seeds, dense.error_mean, dense.remaining_ratio), (3, Some(3.0), Some(1.0)));
        study.unfinish(RunState::Pending, |planned| planned.label.inherit == Some(Inherit::Dense));
        assert_eq!(study.report().transfers[0].remaining_ratio, Some(1.0), "known before it is trained");
    }

    #[test]
    fn rewind_points_are_not_levels() {
        let mut study = Study::digits();
        let plain = study.report();
        study.runs[0].0.label.rewind_point = Some(2);
        let report = study.report();
        assert_eq!(report.tickets[..], plain.tickets[1..]);
        assert_eq!(report.runs, plain.runs);
    }

    #[test]
    fn partial_study_counts_missing_runs() {
        let mut study = Study::digits();
        let lrr_sign = |planned: &PlannedRun| {
            planned.label.method == Some(Method::Lrr) && planned.label.inherit == Some(Inherit::Sign)
        };
        study.unfinish(RunState::Failed, |planned| lrr_sign(planned) && planned.label.seeds == [Seeds::from(3)]);
        study.unfinish(RunState::Running, |planned| lrr_sign(planned) && planned.label.seeds == [Seeds::from(4)]);
        study.unfinish(RunState::Blocked, |planned| lrr_sign(planned) && planned.label.seeds.len() == 2);
        study.unfinish(RunState::Pending, |planned| {
            planned.label.method == Some(Method::Aws) && planned.label.level == 12
        });
        let report = study.report();

        // 26 tickets, 24 transfers, 24 paths between seeds, 2 to ψ₀; AWS at level 12: 1 + 12 + 12 + 1.
        let expected = RunCounts { total: 76, done: 45, running: 1, queued: 0, failed: 1, blocked: 3, pending: 26 };
        assert_eq!(report.runs, expected);

        let sign = &report.transfers[0];
        assert_eq!((sign.seeds, sign.seeds_planned), (1, 3));
        assert_eq!((sign.error_mean, sign.error_std), (Some(5.0), None));
        let paths = &report.connections[0];
        assert_eq!((paths.pairs, paths.pairs_planned), (0, 3));
        assert_eq!((paths.barrier_mean, paths.barrier_max, paths.path.len()), (None, None, 0));
        // Known from the transfer that is done.
        assert!(paths.remaining_ratio.is_some());

        let aws_sign = &report.transfers[4];
        assert_eq!((aws_sign.seeds, aws_sign.seeds_planned, aws_sign.error_mean), (0, 3, None));
        assert_eq!(aws_sign.remaining_ratio, None);
        assert_eq!(report.tickets.len(), 26);
        assert_eq!(report.tickets[25].test_error, None);

        assert_eq!(report.failed.len(), 1);
        assert_eq!(report.failed[0].label, "lrr level 12, sign, seed 3");
    }

    #[test]
    fn unfinished_transfer_has_the_ratio_of_its_ticket() {
        let mut study = Study::digits();
        study.unfinish(RunState::Pending, |planned| planned.run.kind() != Kind::Ticket);
        let report = study.report();
        let ticket = report.tickets[12].remaining_ratio;
        assert!(ticket.is_some());
        assert_eq!(report.transfers[0].remaining_ratio, ticket);
        assert_eq!(report.connections[0].remaining_ratio, ticket);
        assert_eq!(report.transfers[0].errors, []);
    }
}
