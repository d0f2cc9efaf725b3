//! From findings to rows.

use std::collections::HashMap;

use super::grouping::{distinct, grouped};
use super::statistics::{max, mean, sample_std};
use super::{
    ConnectionRow, FailedRun, Finding, PairPath, PathError, PathMean, Report, RunCounts, SeedError, TicketRow,
    TransferRow,
};
use crate::run::RunId;
use crate::run::results::{ConnectOutcome, Outcome, TicketOutcome, TransferOutcome};
use crate::run::settings::{Between, Inherit, Kind, Method, Problem, Seeds};
use crate::study::plan::{PlannedRun, RunState};
use crate::study::sweep::Axes;

/// Makes the report of a study from what is known of each run of its plan, in the plan's order.
///
/// What is not finished has its row too, so that a partial study shows what it lacks. Rows are ordered by method,
/// level, and what was transferred; methods and transfers as they first appear in the plan. What belongs to no method,
/// dense networks, comes first. Tickets that are there to be rewound to are no level of a chain, and have no row.
pub fn gather(name: &str, findings: &[Finding]) -> Report {
    let ratios = remaining_ratios(findings);
    let rows = |kind| rows(findings, kind);
    Report {
        name: name.to_string(),
        runs: count(findings),
        tickets: rows(Kind::Ticket).iter().flatten().filter_map(|finding| ticket(finding, &ratios)).collect(),
        transfers: rows(Kind::Transfer).iter().filter_map(|row| transfer(row, &ratios)).collect(),
        connections: rows(Kind::Connect).iter().filter_map(|row| connection(row, &ratios)).collect(),
        failed: findings.iter().filter(|finding| finding.state == RunState::Failed).map(failed).collect(),
        planes: vec![],
        differences: vec![],
        spreads: vec![],
        notices: vec![],
    }
}

fn count(findings: &[Finding]) -> RunCounts {
    let mut counts = RunCounts { total: findings.len(), ..RunCounts::default() };
    for finding in findings {
        *match finding.state {
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

/// The remaining ratio of every run for which it is known: transfers and paths have that of the ticket behind them,
/// known before they are done themselves. One pass, because a plan lists runs after those they need.
fn remaining_ratios<'a>(findings: &'a [Finding]) -> HashMap<&'a RunId, f64> {
    let mut ratios = HashMap::with_capacity(findings.len());
    for finding in findings {
        let run = &finding.planned.run;
        let own = finding.result.as_ref().map(|result| result.outcome.remaining_ratio());
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

/// What the runs of one row have in common: everything but their seeds.
#[derive(PartialEq, Eq, Hash)]
struct RowKey<'a> {
    problem: Problem,
    method: Option<Method>,
    level: u32,
    inherit: Option<Inherit>,
    between: Option<Between>,
    axes: &'a Axes,
}

/// The findings of one kind, by row.
fn rows<'a, 'f>(findings: &'f [Finding<'a>], kind: Kind) -> Vec<Vec<&'f Finding<'a>>> {
    let of_kind = findings.iter().filter(|finding| finding.planned.run.kind() == kind);
    let mut rows = grouped(of_kind, |finding| {
        let label = &finding.planned.label;
        RowKey {
            problem: label.problem,
            method: label.method,
            level: label.level,
            inherit: label.inherit,
            between: label.between,
            axes: &label.axes,
        }
    });
    let methods = distinct(findings.iter().filter_map(|finding| finding.planned.label.method));
    let inherits = distinct(findings.iter().filter_map(|finding| finding.planned.label.inherit));
    rows.sort_by_key(|row| {
        let label = &row[0].planned.label;
        let place_of_method = methods.iter().position(|method| Some(*method) == label.method);
        let place_of_inherit = inherits.iter().position(|inherit| Some(*inherit) == label.inherit);
        // Where nothing was transferred comes last.
        (place_of_method, label.level, place_of_inherit.unwrap_or(inherits.len()))
    });
    rows
}

fn ticket(finding: &Finding, ratios: &HashMap<&RunId, f64>) -> Option<TicketRow> {
    let PlannedRun { run, label } = finding.planned;
    let method = label.method.filter(|_| label.rewind_point.is_none())?;
    Some(TicketRow {
        method,
        level: label.level,
        remaining_ratio: ratios.get(&run.id).copied(),
        test_error: ticket_outcome(finding).map(|outcome| outcome.test_error),
        axes: label.axes.clone(),
        run: run.id.clone(),
        seeds: *label.seeds.first().unwrap_or(&Seeds::from(0)),
        test_loss: ticket_outcome(finding).map(|outcome| outcome.test_loss),
        layers: vec![],
    })
}

fn transfer(row: &[&Finding], ratios: &HashMap<&RunId, f64>) -> Option<TransferRow> {
    let label = &row.first()?.planned.label;
    let errors: Vec<SeedError> = row
        .iter()
        .filter_map(|finding| {
            let seeds = *finding.planned.label.seeds.first()?;
            let outcome = transfer_outcome(finding)?;
            let run = finding.planned.run.id.clone();
            Some(SeedError { seeds, error: outcome.test_error, loss: outcome.test_loss, run })
        })
        .collect();
    let values: Vec<f64> = errors.iter().map(|seed| seed.error).collect();
    Some(TransferRow {
        method: label.method,
        level: label.level,
        remaining_ratio: row_ratio(row, ratios),
        inherit: label.inherit?,
        seeds: errors.len(),
        seeds_planned: row.len(),
        error_mean: mean(&values),
        error_std: sample_std(&values),
        errors,
        axes: label.axes.clone(),
        summary: None,
    })
}

fn connection(row: &[&Finding], ratios: &HashMap<&RunId, f64>) -> Option<ConnectionRow> {
    let label = &row.first()?.planned.label;
    let paths: Vec<PairPath> = row
        .iter()
        .filter_map(|finding| {
            let outcome = connect_outcome(finding)?;
            let path = outcome
                .path
                .points
                .iter()
                .map(|point| PathError {
                    t: point.t,
                    error: point.test_error,
                    loss: point.test_loss,
                    train: point.train,
                })
                .collect();
            Some(PairPath {
                seeds: finding.planned.label.seeds.clone(),
                barrier: outcome.path.barrier,
                path,
                run: finding.planned.run.id.clone(),
                ends: vec![],
                similarity: outcome.path.similarity,
            })
        })
        .collect();
    let barriers: Vec<f64> = paths.iter().map(|pair| pair.barrier).collect();
    Some(ConnectionRow {
        method: label.method,
        level: label.level,
        remaining_ratio: row_ratio(row, ratios),
        inherit: label.inherit,
        between: label.between?,
        pairs: paths.len(),
        pairs_planned: row.len(),
        barrier_mean: mean(&barriers),
        barrier_max: max(&barriers),
        path: mean_path(&paths),
        paths,
        axes: label.axes.clone(),
        summary: None,
        train_summary: None,
        loss_summary: None,
    })
}

/// The mean of paths of equally many points.
fn mean_path(paths: &[PairPath]) -> Vec<PathMean> {
    let points = paths.iter().map(|pair| pair.path.len()).min().unwrap_or(0);
    let mean_at = |index: usize| {
        let errors: Vec<f64> = paths.iter().map(|pair| pair.path[index].error).collect();
        Some(PathMean { t: paths[0].path[index].t, error_mean: mean(&errors)? })
    };
    (0..points).filter_map(mean_at).collect()
}

fn row_ratio(row: &[&Finding], ratios: &HashMap<&RunId, f64>) -> Option<f64> {
    row.iter().find_map(|finding| ratios.get(&finding.planned.run.id).copied())
}

fn failed(finding: &Finding) -> FailedRun {
    let PlannedRun { run, label } = finding.planned;
    FailedRun { id: run.id.clone(), kind: run.kind(), label: label.to_string(), message: finding.note.clone() }
}

fn ticket_outcome<'f>(finding: &'f Finding) -> Option<&'f TicketOutcome> {
    match &finding.result.as_ref()?.outcome {
        Outcome::Ticket(outcome) => Some(outcome),
        _ => None,
    }
}

fn transfer_outcome<'f>(finding: &'f Finding) -> Option<&'f TransferOutcome> {
    match &finding.result.as_ref()?.outcome {
        Outcome::Transfer(outcome) => Some(outcome),
        _ => None,
    }
}

fn connect_outcome<'f>(finding: &'f Finding) -> Option<&'f ConnectOutcome> {
    match &finding.result.as_ref()?.outcome {
        Outcome::Connect(outcome) => Some(outcome),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Study;
    use super::*;
    use crate::run::settings::Seeds;

    #[test]
    fn numbers_of_the_digits_study() {
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
    fn what_is_rewound_to_is_no_level() {
        let mut study = Study::digits();
        let plain = study.report();
        study.runs[0].0.label.rewind_point = Some(2);
        let report = study.report();
        assert_eq!(report.tickets[..], plain.tickets[1..]);
        assert_eq!(report.runs, plain.runs);
    }

    #[test]
    fn a_partial_study_says_what_it_lacks() {
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
    fn the_ratio_of_an_unfinished_transfer_is_its_tickets() {
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
