//! Checks that involve several settings of a combination.

use std::collections::BTreeSet;

use strum::VariantArray;
use winsign_core::settings::{Align, Architecture, Between, Inherit, Method, Numerics, Precision, Problem, Schedule};

use super::Chain;
use super::combine::Point;
use super::exclude::some_of;
use super::expand::problem;
use super::file::{File, Section};
use super::values::{Axis, Value};
use crate::yaml::{Diagnostic, grouped, listed};

/// The maximum number of runs of a sweep.
pub(crate) const MAX_RUNS: usize = 1_000_000;

/// Returns an error if a sweep has more runs than it may.
pub(crate) fn check_runs(file: &File, runs: usize, what: &str) -> Result<(), Diagnostic> {
    if runs <= MAX_RUNS {
        return Ok(());
    }
    let mut axes: Vec<&Axis> = file.sections().flat_map(Section::axes).filter(|axis| !axis.is_single()).collect();
    axes.sort_by_key(|axis| std::cmp::Reverse(axis.len()));
    let place = axes.first().map_or(file.top.place, |axis| axis.place);
    let lengths = axes.iter().take(4).map(|axis| format!("`{}` ({} values)", axis.key.path, grouped(axis.len())));
    let lengths = lengths.collect::<Vec<_>>().join(", ");
    let message = format!("this sweep is too large: more than {} runs for {what}", grouped(MAX_RUNS as u128));
    Err(Diagnostic::at(place, message, format!("shorten an axis or split the sweep; the longest axes are {lengths}")))
}

/// Returns an error for an architecture that is not defined for the images of its data set.
pub(crate) fn check_fits(file: &File, point: &Point) -> Result<(), Diagnostic> {
    let Problem { dataset, architecture, .. } = problem(point);
    if architecture.fits(dataset) {
        return Ok(());
    }
    let axis = file.top.axis("architecture").expect("it is required");
    let value = Value::Word(point.text("architecture"));
    let place = axis.item_for(value, 0).map_or(axis.place, |item| item.place);
    let known: Vec<_> =
        Architecture::VARIANTS.iter().filter(|other| other.fits(dataset)).map(ToString::to_string).collect();
    let mut help = format!("use one of {} with `{dataset}`", listed(known.iter().map(String::as_str)));
    if ["dataset", "architecture"].iter().any(|path| file.top.axis(path).is_some_and(|axis| !axis.is_single())) {
        help +=
            &format!("; `exclude: [{{dataset: {dataset}, architecture: {architecture}}}]` excludes the combination");
    }
    Err(Diagnostic::at(place, format!("`architecture: {architecture}` is not defined for `dataset: {dataset}`"), help))
}

/// Returns an error for a precision that portable numerics do not have; `path` is the setting that applies.
pub(crate) fn check_numerics(section: &Section, path: &'static str, point: &Point) -> Result<(), Diagnostic> {
    let precision = point.word::<Precision>(path);
    if problem(point).numerics == Numerics::Native || precision == Precision::Fp32 {
        return Ok(());
    }
    let item = section.axis(path).and_then(|axis| axis.item_for(Value::Word(point.text(path)), 0));
    let place = item.map_or(section.place, |item| item.place);
    let message = format!("`precision: {precision}` is not available with `numerics: portable`");
    Err(Diagnostic::at(place, message, "use `precision: fp32`, or `numerics: native`"))
}

/// Returns an error for GPUs that no run would use.
pub(crate) fn check_gpus(file: &File, chains: &[Chain]) -> Result<(), Diagnostic> {
    match file.gpus {
        Some(place) if chains.iter().all(|chain| chain.problem.numerics == Numerics::Portable) => {
            let message = "`gpus` has no effect: `numerics: portable` runs on CPUs only";
            Err(Diagnostic::at(place, message, "remove it, or use `numerics: native`"))
        }
        _ => Ok(()),
    }
}

/// Returns an error for rewinding to an epoch beyond those of level 0, or between changes of its learning rate: the
/// network of such an epoch is trained apart, at a constant rate.
pub(crate) fn check_rewind(section: &Section, point: &Point) -> Result<(), Diagnostic> {
    let (epoch, last) = (point.number("ticket.rewind_epoch"), point.number("ticket.warmup_epochs"));
    let schedule: Schedule = point.word("ticket.schedule");
    let at_first_rate = schedule.epochs_at_first_rate(last);
    if point.word::<Method>("ticket.method") != Method::Imp || epoch <= at_first_rate || epoch == last {
        return Ok(());
    }
    let item = section.axis("ticket.rewind_epoch").and_then(|axis| axis.item_for(Value::Whole(epoch.into()), 0));
    let place = item.map_or(section.place, |item| item.place);
    let setting = format!("`ticket.rewind_epoch: {epoch}`");
    if epoch > last {
        let message = format!("{setting} is beyond the epochs of level 0, {last}");
        return Err(Diagnostic::at(place, message, "lower it, or raise `warmup_epochs`"));
    }
    let message = format!("{setting} is after the first change of the learning rate of level 0");
    let help =
        format!("use at most {at_first_rate}, or {last} (the last epoch of level 0), or set `schedule: constant`");
    Err(Diagnostic::at(place, message, help))
}

pub(crate) fn check_level(section: &Section, path: &'static str, point: &Point) -> Result<(), Diagnostic> {
    let (level, levels) = (point.whole(path), point.levels());
    if level <= levels {
        return Ok(());
    }
    let item = section.axis(path).and_then(|axis| axis.item_for(Value::Whole(level), levels));
    let place = item.map_or(section.place, |item| item.place);
    let message = format!("`{path}: {level}` is beyond the last level of the chain, {levels}");
    Err(Diagnostic::at(place, message, "use `last` or `all`, or raise `levels` in `ticket`"))
}

/// Returns an error if no chain has transfers with the level, or the value of `inherit`, of a connect.
pub(crate) fn check_transferred(
    section: &Section,
    path: &'static str,
    point: &Point,
    transferred: &BTreeSet<Value>,
) -> Result<(), Diagnostic> {
    let Some((axis, value)) = section.axis(path).zip(point.get(path)) else { return Ok(()) };
    if transferred.contains(&value) {
        return Ok(());
    }
    let place = axis.item_for(value, point.levels()).map_or(axis.place, |item| item.place);
    let message = format!("no transfer has `{}: {value}`", axis.key.name);
    let known: Vec<Value> = transferred.iter().copied().collect();
    let help = format!("use a transferred value ({}), or remove `{}` to connect all", some_of(&known), axis.key.name);
    Err(Diagnostic::at(place, message, help))
}

/// Returns an error for points or ends that a kind of connect does not have.
pub(crate) fn check_path(section: &Section, point: &Point) -> Result<(), Diagnostic> {
    /// The maximum on a side of a plane, for a million networks.
    const MOST: u64 = 1_000;
    let between = point.between();
    let place_of = |path: &str, value| {
        let item = section.axis(path).and_then(|axis| axis.item_for(value, 0));
        item.map_or(section.place, |item| item.place)
    };
    let points = Value::Whole(point.whole("connect.points"));
    if between == Between::Plane && points > Value::Whole(MOST) {
        let message =
            format!("a plane with {points} points on a side is too fine: the limit is {}", grouped(MOST.into()));
        return Err(Diagnostic::at(place_of("connect.points", points), message, "try 15 to 50"));
    }
    if let (Between::Retrain, Some(inherit)) = (between, point.get("connect.inherit"))
        && has_no_retrained(inherit)
    {
        let message = format!("`between: retrain` cannot connect `{inherit}`");
        let help = "use transfers that inherit from a ticket, such as `sign`; they are connected with the `retrain` transfer of the ticket";
        return Err(Diagnostic::at(place_of("connect.inherit", inherit), message, help));
    }
    Ok(())
}

/// Returns an error for an architecture whose units cannot be aligned.
pub(crate) fn check_align(section: &Section, point: &Point) -> Result<(), Diagnostic> {
    let Problem { architecture, .. } = problem(point);
    let align = point.word::<Align>("connect.align");
    if align == Align::None || architecture.can_align() || section.axis("connect.align").is_none() {
        return Ok(());
    }
    let axis =
        section.axis("connect.align").and_then(|axis| axis.item_for(Value::Word(point.text("connect.align")), 0));
    let place = axis.map_or(section.place, |item| item.place);
    let known = Architecture::VARIANTS.iter().filter(|other| other.can_align()).map(ToString::to_string);
    let known = known.collect::<Vec<_>>();
    let message = format!("the units of `{architecture}` cannot be aligned");
    let help = format!("remove `align`, or use one of {}", listed(known.iter().map(String::as_str)));
    Err(Diagnostic::at(place, message, help))
}

/// Returns whether transfers are not connected with the `retrain` transfer: itself, and those without a ticket.
pub(crate) fn has_no_retrained(inherit: Value) -> bool {
    let Value::Word(word) = inherit else { return false };
    word.parse::<Inherit>().is_ok_and(|inherit| inherit == Inherit::Retrain || !inherit.needs_ticket())
}
