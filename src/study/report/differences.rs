//! The same seeds, treated in two ways.

use std::collections::HashMap;

use super::clusters;
use super::spreads::without_ticket_seeds;
use super::statistics::{Estimate, mean, p_of_t};
use super::tables::method_text;
use super::{Difference, Over, SeedError, Summary, TransferRow};
use crate::run::settings::{Inherit, Seeds};
use crate::study::grouping::{distinct, grouped};
use crate::study::sweep::Axes;

/// Between any two methods that the same was transferred from, and between whatever was transferred and the first of it
/// in the plan.
pub fn between(rows: &[TransferRow], estimate: Estimate) -> Vec<Difference> {
    let comparable = grouped(rows, |row| (row.problem, row.level, without_flip(without_ticket_seeds(&row.axes))));
    let mut differences = Vec::new();
    for rows in comparable {
        let methods = distinct(rows.iter().filter_map(|row| row.method));
        let inherits = distinct(rows.iter().filter(|row| row.method.is_some()).map(|row| row.inherit));
        let of = |method, inherit| {
            let of_both = rows.iter().filter(|row| row.method == Some(method) && row.inherit == inherit).copied();
            grouped(of_both, |row| without_ticket_seeds(&row.axes))
        };
        for &inherit in &inherits {
            for (at, &b) in methods.iter().enumerate() {
                for &a in &methods[at + 1..] {
                    let found = each_difference(&of(a, inherit), &of(b, inherit), estimate);
                    differences.extend(found.into_iter().map(|found| Difference {
                        setting: "method".to_string(),
                        a: method_text(Some(a)),
                        b: method_text(Some(b)),
                        method: None,
                        ..found
                    }));
                }
            }
        }
        let Some((&b, others)) = inherits.split_first() else { continue };
        for &method in &methods {
            for &a in others {
                let found = each_difference(&of(method, a), &of(method, b), estimate);
                differences.extend(found.into_iter().map(|found| Difference {
                    setting: "inherit".to_string(),
                    a: a.to_string(),
                    b: b.to_string(),
                    inherit: None,
                    ..found
                }));
            }
        }
    }
    differences
}

/// What chance was the same for two runs: the ticket's seeds and the transfer's. Of the ticket, α is not: not every method
/// draws it.
type Chances = (Option<[u64; 2]>, Vec<u64>);

fn ticket_chance(seed: &SeedError) -> Option<[u64; 2]> {
    seed.ticket.map(|ticket| [ticket.init, ticket.order])
}

/// Only what has signs has some of them flipped: what has none is compared with each fraction.
const FLIP: &str = "transfer.flip";

fn without_flip(mut axes: Axes) -> Axes {
    axes.retain(|(name, _)| name != FLIP);
    axes
}

/// Of every two rows, which may be of several tickets, that are not of different fractions of flipped signs.
fn each_difference(a: &[Vec<&TransferRow>], b: &[Vec<&TransferRow>], estimate: Estimate) -> Vec<Difference> {
    let flip =
        |rows: &[&TransferRow]| rows.first().and_then(|row| row.axes.iter().find(|(name, _)| name == FLIP).cloned());
    let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b)));
    let found =
        pairs.filter(|(a, b)| flip(a).zip(flip(b)).is_none_or(|(one, other)| one == other)).filter_map(|(a, b)| {
            let found = difference(a, b, estimate)?;
            // Of both sides together.
            let axes = if flip(a).is_some() { found.axes } else { without_ticket_seeds(&b.first()?.axes) };
            Some(Difference { axes, ..found })
        });
    found.collect()
}

fn difference(a: &[&TransferRow], b: &[&TransferRow], estimate: Estimate) -> Option<Difference> {
    let row = a.first()?;
    let Paired { summary, p, tickets } = paired(a, b, estimate)?;
    Some(Difference {
        setting: String::new(),
        a: String::new(),
        b: String::new(),
        method: row.method,
        level: row.level,
        remaining_ratio: row.remaining_ratio,
        inherit: Some(row.inherit),
        axes: without_ticket_seeds(&row.axes),
        summary,
        p,
        problem: row.problem,
        tickets,
    })
}

/// What two ways differ by over the same seeds, first minus second.
pub struct Paired {
    pub summary: Summary,
    pub p: Option<f64>,
    pub tickets: usize,
}

/// None where no two runs have the same seeds.
pub fn paired(a: &[&TransferRow], b: &[&TransferRow], estimate: Estimate) -> Option<Paired> {
    let retrained = a.iter().chain(b).any(|row| row.inherit == Inherit::Retrain);
    let of_b: HashMap<Chances, f64> = means(b, retrained).into_iter().collect();
    let in_both = means(a, retrained).into_iter().filter_map(|(chances, error)| {
        let other = of_b.get(&chances)?;
        Some((chances.0, error - other))
    });
    let tickets = grouped(in_both, |(ticket, _)| *ticket);
    let differences = each_ticket_once(&tickets);
    let mut summary = Summary::of(&differences, estimate)?;
    if let Some(interval) = summary.interval.as_mut().filter(|_| tickets.len() > 1) {
        interval.over = Over::Tickets;
    }
    Some(Paired { summary, p: p_of_mean(&summary), tickets: tickets.len() })
}

/// The errors as a sample with the mean of all of them: what is independent of each other. None where tickets have
/// different numbers of errors.
pub fn independent(rows: &[&TransferRow]) -> Option<Vec<f64>> {
    let errors = rows.iter().flat_map(|row| row.errors.iter().map(|seed| (ticket_chance(seed), seed.error)));
    let tickets = grouped(errors, |(ticket, _)| *ticket).into_iter();
    clusters::independent(
        &tickets.map(|ticket| ticket.into_iter().map(|(_, error)| error).collect()).collect::<Vec<_>>(),
    )
}

/// Transfers of one ticket have its chance in common: of several tickets, each counts once.
fn each_ticket_once<T>(tickets: &[Vec<(T, f64)>]) -> Vec<f64> {
    let values = |of_one: &Vec<(T, f64)>| of_one.iter().map(|(_, value)| *value).collect::<Vec<f64>>();
    match tickets {
        [only] => values(only),
        several => several.iter().filter_map(|of_one| mean(&values(of_one))).collect(),
    }
}

/// The errors by chance. What only one of the two draws, such as α, is averaged over.
fn means(rows: &[&TransferRow], retrained: bool) -> Vec<(Chances, f64)> {
    let mut errors: Vec<(Chances, Vec<f64>)> = Vec::new();
    let mut places: HashMap<Chances, usize> = HashMap::new();
    for row in rows {
        for seed in &row.errors {
            let Seeds { init, order, .. } = seed.seeds;
            // A ticket that is trained on has no other initialization.
            let chances = (ticket_chance(seed), if retrained { vec![order] } else { vec![init, order] });
            let place = *places.entry(chances.clone()).or_insert(errors.len());
            if place == errors.len() {
                errors.push((chances, vec![]));
            }
            errors[place].1.push(seed.error);
        }
    }
    errors.into_iter().filter_map(|(chances, errors)| Some((chances, mean(&errors)?))).collect()
}

/// Of Student's t-test that a mean is zero.
pub fn p_of_mean(summary: &Summary) -> Option<f64> {
    let std = summary.std.filter(|std| *std > 0.0)?;
    let t = summary.mean / (std / (summary.count as f64).sqrt());
    Some(p_of_t(t, (summary.count - 1) as f64))
}

#[cfg(test)]
mod tests {
    use super::super::Report;
    use super::super::fixture::Study;
    use super::*;
    use crate::run::results::Outcome;
    use crate::run::settings::{Kind, Method};
    use crate::study::plan::{Label, RunState};

    /// Errors as a function of the label of each transfer.
    fn with_errors(mut study: Study, error: impl Fn(&Label) -> f64) -> Report {
        for (planned, _, result) in &mut study.runs {
            if let Some(Outcome::Transfer(transfer)) = result.as_mut().map(|result| &mut result.outcome) {
                transfer.test_error = error(&planned.label);
            }
        }
        study.report()
    }

    fn find<'r>(report: &'r Report, setting: &str, a: &str, is: impl Fn(&Difference) -> bool) -> Vec<&'r Difference> {
        let of_it = report.differences.iter().filter(|one| one.setting == setting && one.a == a && is(one));
        of_it.collect()
    }

    /// What has no signs has none flipped, and differs from each fraction by something.
    #[test]
    fn what_has_no_signs_is_compared_with_every_fraction_of_them_flipped() {
        let mut rows = Study::digits().report().transfers;
        rows.retain(|row| [Inherit::Sign, Inherit::Mask].contains(&row.inherit));
        let flipped = |row: &TransferRow, flip: &str| TransferRow {
            axes: vec![(FLIP.to_string(), flip.to_string())],
            ..row.clone()
        };
        let of_sign: Vec<TransferRow> = rows.extract_if(.., |row| row.inherit == Inherit::Sign).collect();
        let with_flips: Vec<TransferRow> = ["0", "0.5"]
            .into_iter()
            .flat_map(|flip| of_sign.iter().map(move |row| flipped(row, flip)))
            .chain(rows)
            .collect();
        let found = between(&with_flips, Estimate::default());
        let told = |setting: &str| -> Vec<(String, String)> {
            let of_it = found.iter().filter(|one| one.setting == setting);
            let mut told: Vec<_> =
                of_it.map(|one| (format!("{} − {}", one.a, one.b), format!("{:?}", one.axes))).collect();
            told.sort();
            told.dedup();
            told
        };
        let flips = |flip: &str| format!("{:?}", [(FLIP, flip)]);
        let pair = |name: &str, axes: String| (name.to_string(), axes);
        assert_eq!(told("inherit"), [pair("mask − sign", flips("0")), pair("mask − sign", flips("0.5"))]);
        let methods = ["0", "0.5"].map(|flip| pair("AWS − LRR", flips(flip)));
        assert_eq!(told("method"), [methods[0].clone(), methods[1].clone(), pair("AWS − LRR", "[]".to_string())]);
    }

    /// Errors of LRR and AWS with four seeds; `scipy.stats.ttest_rel` and its `confidence_interval`, of SciPy 1.17.
    #[test]
    fn paired_over_seeds_as_scipy_has_it() {
        let lrr = [6.1, 7.4, 5.2, 6.6];
        let aws = [4.9, 6.8, 4.4, 5.1];
        let report = with_errors(Study::new(&[12], &[2, 3, 4, 5], &[vec![]]), |label| {
            let of_method = if label.method == Some(Method::Lrr) { lrr } else { aws };
            of_method[label.seeds[0].init as usize - 2]
        });
        let found = find(&report, "method", "AWS", |one| one.inherit == Some(Inherit::Sign));
        assert_eq!(found.len(), 1);
        let Difference { b, method, level, summary, p, tickets, .. } = found[0];
        assert_eq!((b.as_str(), *method, *level, summary.count, *tickets), ("LRR", None, 12, 4, 1));
        assert!((summary.mean - -1.025).abs() < 1e-12);
        assert!((p.unwrap() - 0.014_693_027_560_741).abs() < 1e-12, "{p:?}");
        let interval = summary.interval.unwrap();
        assert!(
            (interval.low - -1.666_442_559_582_941).abs() < 1e-9
                && (interval.high - -0.383_557_440_417_058_75).abs() < 1e-9,
            "{interval:?}"
        );
        // What is the same for all inherits differs by nothing, and nothing is no sample to test.
        let same = find(&report, "inherit", "mask", |one| one.method == Some(Method::Aws));
        assert_eq!((same[0].summary.mean, same[0].p, same[0].b.as_str()), (0.0, None, "sign"));
        assert_eq!(find(&report, "inherit", "sign", |_| true).len(), 0);
    }

    #[test]
    fn only_seeds_that_both_have_count() {
        let mut study = Study::digits();
        study.unfinish(RunState::Pending, |planned| {
            let (label, seed) = (&planned.label, planned.label.seeds.first().map(|seeds| seeds.init));
            planned.run.kind() == Kind::Transfer
                && (label.method == Some(Method::Lrr) && seed == Some(2)
                    || label.method == Some(Method::Aws) && seed == Some(3))
        });
        let report = study.report();
        let found = find(&report, "method", "AWS", |one| one.inherit == Some(Inherit::Sign))[0];
        // Seed 4 alone: 3.0 and 7.6.
        assert_eq!((found.summary.count, found.summary.interval, found.p), (1, None, None));
        assert!((found.summary.mean - (3.0 - 7.6)).abs() < 1e-12);
    }

    fn tickets() -> Study {
        let seed =
            |seed: &str| vec![("lr".to_string(), seed.to_string()), ("ticket.seed".to_string(), seed.to_string())];
        let mut study = Study::new(&[12], &[2, 3, 4], &["1", "2", "3"].map(seed));
        for (planned, ..) in &mut study.runs {
            let label = &mut planned.label;
            label.axes.retain(|(name, _)| name != "lr");
            if planned.run.kind() == Kind::Ticket {
                label.seeds = vec![label.axes[0].1.parse::<u64>().unwrap().into()];
            }
        }
        study
    }

    /// Nine pairs, but three tickets: the mean of each ticket counts.
    #[test]
    fn of_several_tickets_each_counts_once() {
        let ticket = |label: &Label| label.axes[0].1.parse::<f64>().unwrap();
        let report = with_errors(tickets(), |label| match label.method {
            Some(Method::Aws) => 10.0 - ticket(label) - label.seeds[0].init as f64 / 10.0,
            _ => 10.0,
        });
        let found = find(&report, "method", "AWS", |one| one.inherit == Some(Inherit::Mask));
        assert_eq!(found.len(), 1);
        let Difference { summary, tickets, axes, .. } = found[0];
        assert_eq!((summary.count, *tickets, axes.len()), (3, 3, 0));
        // −1.3, −2.3 and −3.3.
        assert!((summary.mean + 2.3).abs() < 1e-12 && (summary.std.unwrap() - 1.0).abs() < 1e-12);
    }

    /// What is trained on has no initialization: it is paired by the order of images.
    #[test]
    fn retrained_tickets_are_paired_by_order() {
        let mut study = Study::digits();
        for (planned, ..) in &mut study.runs {
            let label = &mut planned.label;
            if planned.run.kind() == Kind::Transfer && label.inherit == Some(Inherit::Sign) {
                label.seeds[0].init = 100;
            }
        }
        let report = with_errors(study, |label| label.seeds[0].order as f64);
        let counts =
            |a: &str| find(&report, "inherit", a, |_| true).iter().map(|one| one.summary.count).collect::<Vec<_>>();
        assert_eq!(counts("retrain"), [3, 3]);
        assert_eq!(counts("mask"), [0; 0], "no initialization in common");
    }

    #[test]
    fn different_settings_are_not_compared() {
        let mut study = Study::digits();
        for (planned, ..) in &mut study.runs {
            if planned.label.method == Some(Method::Aws) {
                planned.label.axes = vec![("ticket.lr".to_string(), "0.05".to_string())];
            }
        }
        assert_eq!(find(&study.report(), "method", "AWS", |_| true).len(), 0);
    }
}
