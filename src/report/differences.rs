//! Differences over the same tickets and seeds, between methods and between inheritances.

use winsign_core::grouping::{distinct, grouped};
use winsign_core::settings::{Between, Inherit, Method};
use winsign_sweep::{Axes, Measure};

use super::sample::{Paired, Sample, paired};
use super::statistics::Estimate;
use super::table::method_text;
use super::{ConnectionRow, Difference, LevelRow, TicketRow, TransferRow};

/// Returns the differences of test errors, then those of barriers, then those of the errors that initial norm parameters add.
/// Errors are those of transfers, or of tickets in a study without transfers.
pub(crate) fn all(
    levels: &[LevelRow],
    tickets: &[TicketRow],
    transfers: &[TransferRow],
    connections: &[ConnectionRow],
    estimate: Estimate,
) -> Vec<Difference> {
    let errors: Vec<Sample> = match transfers {
        [] => levels.iter().map(|row| Sample::from_level(row, tickets)).collect(),
        _ => transfers.iter().map(|row| Sample::from_transfers(row, Measure::Error)).collect(),
    };
    let of_paths = |measure: Measure, is_measured: fn(Between) -> bool| -> Vec<Sample> {
        let rows = connections.iter().filter(|row| is_measured(row.between));
        rows.map(|row| Sample::from_paths(row, measure)).collect()
    };
    let barriers = of_paths(Measure::Barrier, |kind| !matches!(kind, Between::Tickets | Between::NormInit));
    let norm_changes = of_paths(Measure::NormChange, |kind| kind == Between::NormInit);
    let mut differences = between(&errors, Measure::Error, estimate);
    differences.extend(between(&barriers, Measure::Barrier, estimate));
    differences.extend(between(&norm_changes, Measure::NormChange, estimate));
    differences
}

/// Returns the differences between any two methods with the same inheritance, and between each inheritance and the first one
/// of the plan.
fn between(samples: &[Sample], value: Measure, estimate: Estimate) -> Vec<Difference> {
    let of_methods = samples.iter().filter(|one| one.method.is_some());
    let comparable =
        grouped(of_methods, |one| (one.problem, one.level, one.between, one.protocol, without_flip(one.axes)));
    let mut differences = Vec::new();
    for samples in comparable {
        let methods = distinct(samples.iter().map(|one| one.method));
        let inherits = distinct(samples.iter().map(|one| one.inherit));
        let find = |method: Option<Method>, inherit: Option<Inherit>| -> Vec<&Sample> {
            samples.iter().copied().filter(|one| one.method == method && one.inherit == inherit).collect()
        };
        for &inherit in &inherits {
            for (at, &b) in methods.iter().enumerate() {
                for &a in &methods[at + 1..] {
                    let sides = [find(a, inherit), find(b, inherit)];
                    differences.extend(compare_all("method", sides, value, estimate));
                }
            }
        }
        let known: Vec<Inherit> = inherits.into_iter().flatten().collect();
        let Some((&b, others)) = known.split_first() else { continue };
        for &method in &methods {
            for &a in others {
                let sides = [find(method, Some(a)), find(method, Some(b))];
                differences.extend(compare_all("inherit", sides, value, estimate));
            }
        }
    }
    differences
}

/// Returns the difference of each sample of one side and each of the other that can be paired.
fn compare_all(setting: &str, [a, b]: [Vec<&Sample>; 2], value: Measure, estimate: Estimate) -> Vec<Difference> {
    let pairs = a.iter().flat_map(|one| b.iter().map(move |other| (*one, *other)));
    pairs.filter_map(|(one, other)| difference(setting, one, other, value, estimate)).collect()
}

fn difference(setting: &str, a: &Sample, b: &Sample, value: Measure, estimate: Estimate) -> Option<Difference> {
    if flip(a).zip(flip(b)).is_some_and(|(a, b)| a != b) {
        return None;
    }
    let Paired { summary, p, tickets, verdict } = paired(a, b, estimate)?;
    let name = |sample: &Sample| match sample.inherit {
        Some(inherit) if setting == "inherit" => inherit.to_string(),
        _ => method_text(sample.method),
    };
    Some(Difference {
        setting: setting.to_string(),
        a: name(a),
        b: name(b),
        method: a.method.filter(|_| setting != "method"),
        level: a.level,
        remaining_ratio: a.remaining,
        inherit: a.inherit.filter(|_| setting != "inherit"),
        // These are the axes of both sides together.
        axes: if flip(a).is_some() { a.axes } else { b.axes }.clone(),
        summary,
        p,
        problem: a.problem,
        tickets,
        value,
        between: a.between,
        verdict,
        runs: a.runs.iter().chain(&b.runs).copied().cloned().collect(),
    })
}

/// The fraction of flipped signs. Transfers without signs do not have it; they are compared with each fraction.
const FLIP: &str = "transfer.flip";

fn flip<'r>(sample: &Sample<'r>) -> Option<&'r str> {
    sample.axes.iter().find(|(name, _)| name == FLIP).map(|(_, value)| value.as_str())
}

fn without_flip(axes: &Axes) -> Axes {
    axes.iter().filter(|(name, _)| name != FLIP).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Report, Verdict};
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_core::settings::{Kind, Method};
    use winsign_sweep::plan::RunState;
    use winsign_testkit::study::{Study, ticket_of};

    fn find<'r>(report: &'r Report, setting: &str, a: &str, is: impl Fn(&Difference) -> bool) -> Vec<&'r Difference> {
        let of_it = report.differences.iter().filter(|one| one.setting == setting && one.a == a && is(one));
        of_it.collect()
    }

    /// Transfers without signs have no fraction of flipped signs, and a difference to each of them.
    #[test]
    fn transfers_without_signs_are_compared_with_every_flipped_fraction() {
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
        let samples: Vec<Sample> = with_flips.iter().map(|row| Sample::from_transfers(row, Measure::Error)).collect();
        let found = between(&samples, Measure::Error, Estimate::default());
        let describe = |setting: &str| -> Vec<(String, String)> {
            let of_it = found.iter().filter(|one| one.setting == setting);
            let mut described: Vec<_> =
                of_it.map(|one| (format!("{} − {}", one.a, one.b), format!("{:?}", one.axes))).collect();
            described.sort();
            described.dedup();
            described
        };
        let flips = |flip: &str| format!("{:?}", [(FLIP, flip)]);
        let pair = |name: &str, axes: String| (name.to_string(), axes);
        assert_eq!(describe("inherit"), [pair("mask − sign", flips("0")), pair("mask − sign", flips("0.5"))]);
        let methods = ["0", "0.5"].map(|flip| pair("AWS − LRR", flips(flip)));
        assert_eq!(describe("method"), [methods[0].clone(), methods[1].clone(), pair("AWS − LRR", "[]".to_string())]);
    }

    /// Errors of four tickets of LRR and AWS; `scipy.stats.ttest_rel` and its `confidence_interval`, of SciPy 1.17.
    #[test]
    fn differences_over_tickets_match_scipy() {
        let lrr = [6.1, 7.4, 5.2, 6.6];
        let aws = [4.9, 6.8, 4.4, 5.1];
        let report = Study::with_tickets(&[1, 2, 3, 4], &[7])
            .with_errors(|label| {
                let of_method = if label.method == Some(Method::Lrr) { lrr } else { aws };
                of_method[ticket_of(label) as usize - 1]
            })
            .report();
        let found = find(&report, "method", "AWS", |one| one.inherit == Some(Inherit::Sign));
        assert_eq!(found.len(), 1);
        let Difference { b, method, level, summary, p, tickets, verdict, .. } = found[0];
        assert_eq!((b.as_str(), *method, *level, summary.count, *tickets), ("LRR", None, 12, 4, 4));
        assert!((summary.mean - -1.025).abs() < 1e-12);
        assert!((p.unwrap() - 0.014_693_027_560_741).abs() < 1e-12, "{p:?}");
        let interval = summary.interval.unwrap();
        assert!(
            (interval.low - -1.666_442_559_582_941).abs() < 1e-9
                && (interval.high - -0.383_557_440_417_058_75).abs() < 1e-9,
            "{interval:?}"
        );
        assert_eq!(*verdict, Verdict::Lower);
        // Equal errors differ by zero, which is no sample to test.
        let same = find(&report, "inherit", "mask", |one| one.method == Some(Method::Aws) && one.between.is_none());
        assert_eq!((same[0].summary.mean, same[0].p, same[0].b.as_str()), (0.0, None, "sign"));
        assert_eq!(same[0].verdict, Verdict::NoDifference);
        assert_eq!(find(&report, "inherit", "sign", |_| true).len(), 0);
    }

    /// The ticket is the sample for barriers, too.
    #[test]
    fn barriers_are_compared_over_tickets() {
        let report = Study::with_tickets(&[1, 2, 3], &[2, 3, 4])
            .with_barriers(|label| {
                let inherit = if label.inherit == Some(Inherit::Mask) { 40.0 } else { 0.0 };
                // Pairs of mask differ by up to 2, tickets by up to 3.
                inherit + if inherit > 0.0 { ticket_of(label) as f64 + label.seeds[0].init as f64 } else { 1.0 }
            })
            .report();
        let found = find(&report, "inherit", "mask", |one| one.between == Some(Between::Seeds));
        let Difference { summary, tickets, verdict, value, .. } = found[0];
        assert_eq!(
            (found.len(), summary.count, *tickets, *verdict, *value),
            (2, 9, 3, Verdict::Higher, Measure::Barrier)
        );
        // Means over the pairs of seeds 2–3, 2–4 and 3–4 are 7/3 above ticket and 39: 42.33, 43.33 and 44.33, less 1.
        assert!((summary.mean - (39.0 + 2.0 + 7.0 / 3.0)).abs() < 1e-9, "{summary:?}");
        assert!((summary.std.unwrap() - 1.0).abs() < 1e-9);
        let norm_init = find(&report, "method", "AWS", |one| one.between == Some(Between::NormInit));
        assert_eq!((norm_init.len(), norm_init[0].tickets), (1, 3));
    }

    /// A ticket and itself with ψ₀ are compared by the errors at both ends, whatever is between: 6.8 and 4.4.
    #[test]
    fn initial_norms_are_compared_by_the_error_they_add() {
        let report = Study::with_tickets(&[1, 2, 3], &[2, 3]).with_barriers(|label| ticket_of(label) as f64).report();
        let norm_init = report.connections.iter().find(|row| row.between == Between::NormInit).unwrap();
        let change = norm_init.norm_change.unwrap();
        assert!((change.mean - 2.4).abs() < 1e-9 && change.count == 3 && !norm_init.best, "{change:?}");
        assert!(report.connections.iter().all(|row| (row.between == Between::NormInit) == row.norm_change.is_some()));
        let found = find(&report, "method", "AWS", |one| one.value == Measure::NormChange);
        assert_eq!((found.len(), found[0].summary.mean, found[0].verdict), (1, 0.0, Verdict::NoDifference));
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

    /// Nine pairs, but three tickets: the mean of each ticket counts.
    #[test]
    fn tickets_with_several_pairs_count_once() {
        let study = Study::with_tickets(&[1, 2, 3], &[2, 3, 4]).with_errors(|label| match label.method {
            Some(Method::Aws) => 10.0 - ticket_of(label) as f64 - label.seeds[0].init as f64 / 10.0,
            _ => 10.0,
        });
        let report = study.report();
        let found = find(&report, "method", "AWS", |one| one.inherit == Some(Inherit::Mask) && one.between.is_none());
        assert_eq!(found.len(), 1);
        let Difference { summary, tickets, axes, .. } = found[0];
        assert_eq!((summary.count, *tickets, axes.len()), (9, 3, 0));
        // −1.3, −2.3 and −3.3.
        assert!((summary.mean + 2.3).abs() < 1e-12 && (summary.std.unwrap() - 1.0).abs() < 1e-12);
    }

    /// A retrained ticket has no initialization: it is paired by the order of images.
    #[test]
    fn retrained_tickets_are_paired_by_order() {
        let mut study = Study::digits();
        for (planned, ..) in &mut study.runs {
            let label = &mut planned.label;
            if planned.run.kind() == Kind::Transfer && label.inherit == Some(Inherit::Sign) {
                label.seeds[0].init = 100;
            }
        }
        let report = study.with_errors(|label| label.seeds[0].order as f64).report();
        let counts =
            |a: &str| find(&report, "inherit", a, |_| true).iter().map(|one| one.summary.count).collect::<Vec<_>>();
        // Errors and barriers.
        assert_eq!(counts("retrain"), [3; 4]);
        let errors = find(&report, "inherit", "mask", |one| one.between.is_none());
        assert!(errors.is_empty(), "no initialization in common");
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
