//! The differences of a study in sentences.

use winsign_core::grouping::distinct;
use winsign_core::settings::Between;

use super::statistics::percent;
use super::table::{decimal, method_text};
use super::{Difference, Verdict};

/// Returns a sentence for each difference of the last level with an interval, those that exclude zero first. Two more count the
/// differences without an interval.
pub(crate) fn describe_differences(differences: &[Difference]) -> Vec<String> {
    let several_levels = distinct(differences.iter().map(|one| one.level)).len() > 1;
    let last = |one: &&Difference| {
        let alike = differences
            .iter()
            .filter(|other| (other.problem, other.value, other.between) == (one.problem, one.value, one.between));
        alike.map(|other| other.level).max() == Some(one.level)
    };
    let several_problems = distinct(differences.iter().map(|one| one.problem)).len() > 1;
    let (mut stated, without): (Vec<&Difference>, Vec<&Difference>) =
        differences.iter().filter(last).partition(|one| one.summary.interval.is_some());
    // Verdicts come before missing ones.
    stated.sort_by_key(|one| one.verdict == Verdict::NoDifference);
    let mut statements: Vec<String> =
        stated.iter().filter_map(|one| sentence(one, several_levels, several_problems)).collect();
    let of_one = without.iter().filter(|one| one.verdict == Verdict::OneTicket).count();
    if of_one > 0 {
        let differences = if of_one == 1 { "1 difference is".to_string() } else { format!("{of_one} differences are") };
        statements.push(format!(
            "{differences} of one ticket: no interval, so nothing is claimed; several seeds of the ticket give one, as in \
             `ticket: {{seed: 1..5}}`"
        ));
    }
    let too_few = without.iter().filter(|one| one.verdict == Verdict::NoInterval).count();
    if too_few > 0 {
        let differences =
            if too_few == 1 { "1 difference has".to_string() } else { format!("{too_few} differences have") };
        statements.push(format!(
            "{differences} no interval: too few tickets for it (the bootstrap needs five), or no spread between them"
        ));
    }
    statements
}

fn sentence(one: &Difference, with_level: bool, with_problem: bool) -> Option<String> {
    let interval = one.summary.interval?;
    let measure = match one.between {
        None => "test error".to_string(),
        Some(Between::NormInit) => "test error added by ψ₀".to_string(),
        Some(Between::Seeds) => "barrier between seeds".to_string(),
        Some(between) => format!("barrier ({between})"),
    };
    let mut context = vec![format!(
        "{} % interval {} to {}",
        percent(interval.level),
        decimal(if one.verdict == Verdict::Lower { -interval.high } else { interval.low }, 1),
        decimal(if one.verdict == Verdict::Lower { -interval.low } else { interval.high }, 1),
    )];
    context.push(format!("{} tickets", one.tickets));
    context.extend(one.method.map(|method| method_text(Some(method))));
    context.extend(one.inherit.map(|inherit| inherit.to_string()));
    context.extend(with_level.then(|| format!("level {}", one.level)));
    context.extend(with_problem.then(|| format!("{} {}", one.problem.dataset, one.problem.architecture)));
    context.extend(one.axes.iter().map(|(name, value)| format!("{name} {value}")));
    let context = context.join(", ");
    let points = |value: f64| match decimal(value, 1) {
        one if one == "1.0" => "1.0 point".to_string(),
        several => format!("{several} points"),
    };
    let (a, b, mean) = (&one.a, &one.b, one.summary.mean);
    Some(match one.verdict {
        Verdict::Lower => format!("{measure}: {a} is {} lower than {b} ({context})", points(-mean)),
        // The better one is named first.
        Verdict::Higher => format!("{measure}: {b} is {} lower than {a} ({context})", points(mean)),
        _ => format!("{measure}: no difference shown between {a} and {b} ({a} − {b}: {}, {context})", points(mean)),
    })
}
