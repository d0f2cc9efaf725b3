//! Comparisons of two studies, or of a study and a published table.

use std::cmp::Ordering;

use serde::Serialize;
use winsign_core::RunId;
use winsign_core::grouping::distinct;
use winsign_core::settings::{Inherit, Method, Numerics, Problem};
use winsign_sweep::{Axes, Measure};

use super::joins::SeedPaths;
use super::sample::{Paired, Sample, paired};
use super::statistics::{Estimate, mean, p_of_t, percent, sample_std, t_quantile_of};
use super::table::{Cell, Declaration, Form, MISSING, Measured, Shown, Table};
use super::tables::PERCENT;
use super::{BarrierProtocol, ConnectionRow, Interval, IntervalMethod, Over, Report, Verdict, as_map};

/// One line of a study or a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<'r> {
    pub problem: Problem,
    /// The method; none for dense networks.
    pub method: Option<Method>,
    pub level: Option<u32>,
    pub remaining: Option<f64>,
    /// The transfer; none for tickets.
    pub inherit: Option<Inherit>,
    pub axes: Axes,
    pub numbers: Numbers<'r>,
    /// The protocol by which the barriers were measured; unknown for a table.
    pub protocol: Option<BarrierProtocol>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Numbers<'r> {
    Runs {
        errors: Sample<'r>,
        /// Those between seeds; none if they were measured by several protocols.
        barriers: Option<Sample<'r>>,
        runs: Vec<&'r RunId>,
    },
    Published(Side),
}

/// The numbers of one side. Errors in percent, barriers between seeds in percentage points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Side {
    pub mean: Option<f64>,
    pub std: Option<f64>,
    pub seeds: Option<usize>,
    pub barrier: Option<f64>,
    /// The number of tickets; `None` for dense networks, and for a table without this number.
    pub tickets: Option<usize>,
}

/// The test by which a difference was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Test {
    /// Student's t of the differences over the same tickets and seeds.
    Paired,
    /// Welch's t of two samples.
    Welch,
}

/// Two lines of the same name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    #[serde(flatten)]
    pub problem: Problem,
    pub method: Option<Method>,
    pub level: Option<u32>,
    pub remaining_ratio: Option<f64>,
    pub inherit: Option<Inherit>,
    /// The axes of both sides together.
    #[serde(serialize_with = "as_map")]
    pub axes: Axes,
    pub a: Side,
    pub b: Side,
    /// A minus B, in percentage points. Of a paired test the mean over pairs, which may be fewer than the runs.
    pub difference: Option<f64>,
    pub barrier_difference: Option<f64>,
    /// False if the barriers of both sides were measured by different protocols, and so are not subtracted.
    pub barriers_alike: bool,
    pub test: Option<Test>,
    /// The number of pairs of seeds, of a paired test.
    pub pairs: Option<usize>,
    pub interval: Option<Interval>,
    pub p: Option<f64>,
    /// The number of runs that are in both, which differ by nothing.
    pub same_runs: usize,
    /// The number of tickets that are in both, of a paired test.
    pub tickets: Option<usize>,
    pub verdict: Option<Verdict>,
    /// The judgement of the barriers.
    pub barrier_interval: Option<Interval>,
    pub barrier_tickets: Option<usize>,
    pub barrier_verdict: Option<Verdict>,
    pub barrier_test: Option<Test>,
}

/// The lines that two studies have in common, and those that only one of them has.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub rows: Vec<Compared>,
    pub only_in_a: Vec<String>,
    pub only_in_b: Vec<String>,
}

/// Returns the lines of a study: transfers and, if `with_tickets` is true, tickets.
pub fn entries(report: &Report, with_tickets: bool) -> Vec<Entry<'_>> {
    let paths = SeedPaths::new(&report.connections);
    let tickets = report.levels.iter().filter(|_| with_tickets).map(|row| {
        let done = row.places.iter().map(|&at| &report.tickets[at]).filter(|ticket| ticket.test_error.is_some());
        entry(Sample::from_level(row, &report.tickets), done.map(|ticket| &ticket.run).collect(), &[])
    });
    let transfers = report.transfers.iter().map(|row| {
        let runs = row.errors.iter().map(|seed| &seed.run).collect();
        entry(Sample::from_transfers(row, Measure::Error), runs, paths.between_seeds(row))
    });
    tickets.chain(transfers).collect()
}

fn entry<'r>(errors: Sample<'r>, runs: Vec<&'r RunId>, paths: &[&'r ConnectionRow]) -> Entry<'r> {
    let protocol = paths.first().and_then(|row| row.protocol);
    let barriers: Vec<Sample> = paths.iter().map(|row| Sample::from_paths(row, Measure::Barrier)).collect();
    let alike = barriers.iter().all(|sample| sample.protocol == protocol);
    Entry {
        problem: errors.problem,
        method: errors.method,
        level: Some(errors.level),
        remaining: errors.remaining,
        inherit: errors.inherit,
        axes: errors.axes.clone(),
        numbers: Numbers::Runs {
            errors,
            barriers: Sample::merged(&barriers.iter().collect::<Vec<_>>()).filter(|_| alike),
            runs,
        },
        protocol,
    }
}

/// Compares the lines that both sides have. A remaining ratio of a table is that of the level whose ratio it rounds.
pub fn compare(a: &[Entry], b: &[Entry], level: f64) -> Comparison {
    let mut rows = Vec::new();
    let mut met_b = vec![false; b.len()];
    let mut only_in_a = Vec::new();
    for one in a {
        let mut met = false;
        for (place, other) in b.iter().enumerate().filter(|(_, other)| is_same(one, other)) {
            rows.push(compared(one, other, level));
            (met, met_b[place]) = (true, true);
        }
        if !met {
            only_in_a.push(one.to_string());
        }
    }
    let only_in_b = b.iter().zip(met_b).filter(|(_, met)| !met).map(|(entry, _)| entry.to_string()).collect();
    Comparison { rows, only_in_a, only_in_b }
}

fn is_same(one: &Entry, other: &Entry) -> bool {
    let at_same_place = match (one.level, other.level, one.remaining, other.remaining) {
        (Some(one), Some(other), ..) => one == other,
        // Printed ratios are rounded; two levels are much farther apart.
        (.., Some(one), Some(other)) => (one - other).abs() <= 0.02 * one.max(other),
        _ => false,
    };
    let shared = one.axes.iter().all(|(name, value)| {
        let found = other.axes.iter().find(|(other, _)| other == name);
        found.is_none_or(|(_, other)| other == value)
    });
    // Numerics change no more than which sample is drawn.
    let drawn_from = |entry: &Entry| {
        let Problem { dataset, architecture, .. } = entry.problem;
        (dataset, architecture, entry.method, entry.inherit)
    };
    drawn_from(one) == drawn_from(other) && at_same_place && shared
}

fn compared(one: &Entry, other: &Entry, level: f64) -> Compared {
    let (a, b) = (one.side(), other.side());
    let mut axes = one.axes.clone();
    axes.extend(other.axes.iter().filter(|(name, _)| !one.axes.iter().any(|(known, _)| known == name)).cloned());
    let alike = one.protocol.zip(other.protocol).is_none_or(|(one, other)| one == other);
    let has_one_ticket = a.tickets == Some(1) || b.tickets == Some(1);
    let difference = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a - b);
    let samples = one.errors().zip(other.errors());
    let welch_test = welch(one.spread(), other.spread(), level);
    let errors = Judgement::new(difference(a.mean, b.mean), samples, welch_test, has_one_ticket, level);
    let barriers = alike.then(|| {
        let samples = one.barriers().zip(other.barriers());
        let welch_test = welch(one.barrier_spread(), other.barrier_spread(), level);
        Judgement::new(difference(a.barrier, b.barrier), samples, welch_test, has_one_ticket, level)
    });
    let barriers = barriers.unwrap_or_default();
    Compared {
        problem: one.problem,
        method: one.method,
        level: one.level.or(other.level),
        remaining_ratio: [one, other].iter().find_map(|entry| entry.level.and(entry.remaining)).or(one.remaining),
        inherit: one.inherit,
        axes,
        a,
        b,
        difference: errors.difference,
        barrier_difference: barriers.difference,
        barriers_alike: alike,
        test: errors.test,
        pairs: errors.pairs,
        interval: errors.interval,
        p: errors.p,
        same_runs: other.runs().iter().filter(|id| one.runs().contains(id)).count(),
        tickets: errors.tickets,
        verdict: errors.verdict,
        barrier_interval: barriers.interval,
        barrier_tickets: barriers.tickets,
        barrier_verdict: barriers.verdict,
        barrier_test: barriers.test,
    }
}

/// A difference, A minus B, and the conclusion from it.
#[derive(Default)]
struct Judgement {
    difference: Option<f64>,
    test: Option<Test>,
    pairs: Option<usize>,
    interval: Option<Interval>,
    p: Option<f64>,
    tickets: Option<usize>,
    verdict: Option<Verdict>,
}

impl Judgement {
    /// Judges by pairs of the same tickets and seeds if there are any, otherwise by Welch's test.
    fn new(
        difference: Option<f64>,
        samples: Option<(&Sample, &Sample)>,
        welch: Option<(Interval, f64)>,
        has_one_ticket: bool,
        level: f64,
    ) -> Judgement {
        let estimate = Estimate { level, ..Estimate::default() };
        match samples.and_then(|(a, b)| paired(a, b, estimate)) {
            // Tickets that both sides have are no independent samples, also where their differences have no spread.
            Some(found) if found.summary.interval.is_some() || found.tickets >= 2 || welch.is_none() => {
                Judgement::from_pairs(found)
            }
            _ => Judgement {
                difference,
                test: welch.map(|_| Test::Welch),
                interval: welch.map(|(interval, _)| interval),
                p: welch.map(|(_, p)| p),
                verdict: difference
                    .map(|_| Verdict::judge(welch.map(|(interval, _)| interval), usize::from(has_one_ticket))),
                ..Judgement::default()
            },
        }
    }

    fn from_pairs(Paired { summary, p, tickets, verdict }: Paired) -> Judgement {
        Judgement {
            difference: Some(summary.mean),
            test: Some(Test::Paired),
            pairs: Some(summary.count),
            interval: summary.interval,
            p,
            tickets: (tickets > 0).then_some(tickets),
            verdict: Some(verdict),
        }
    }
}

impl Entry<'_> {
    /// Returns the numbers that are shown.
    pub fn side(&self) -> Side {
        match &self.numbers {
            Numbers::Published(side) => *side,
            Numbers::Runs { errors, barriers, .. } => {
                let summary = errors.summary(Estimate::default());
                let barrier = barriers.as_ref().and_then(|barriers| barriers.summary(Estimate::default()));
                Side {
                    mean: summary.map(|summary| summary.mean),
                    std: summary.and_then(|summary| summary.std),
                    seeds: Some(errors.draws.len()),
                    barrier: barrier.map(|summary| summary.mean),
                    tickets: errors.is_over_tickets().then(|| errors.tickets()),
                }
            }
        }
    }

    /// Returns the errors; `None` for a table.
    fn errors(&self) -> Option<&Sample<'_>> {
        match &self.numbers {
            Numbers::Published(_) => None,
            Numbers::Runs { errors, .. } => Some(errors),
        }
    }

    /// Returns the barriers; `None` for a table, and if there are none of one protocol.
    fn barriers(&self) -> Option<&Sample<'_>> {
        match &self.numbers {
            Numbers::Published(_) => None,
            Numbers::Runs { barriers, .. } => barriers.as_ref(),
        }
    }

    fn runs(&self) -> &[&RunId] {
        match &self.numbers {
            Numbers::Published(_) => &[],
            Numbers::Runs { runs, .. } => runs,
        }
    }

    /// Returns the mean, standard deviation and number of independent errors. A table of transfers without a number
    /// of tickets may be of one ticket.
    fn spread(&self) -> Option<(f64, f64, usize)> {
        match &self.numbers {
            Numbers::Published(side) => {
                let are_samples = self.inherit.is_none_or(|inherit| inherit == Inherit::Dense);
                Some((side.mean?, side.std?, if are_samples { side.seeds? } else { side.tickets? }))
            }
            Numbers::Runs { errors, .. } => spread(errors),
        }
    }

    /// Returns the same of barriers; `None` for a table, which has no standard deviation of barriers.
    fn barrier_spread(&self) -> Option<(f64, f64, usize)> {
        spread(self.barriers()?)
    }
}

/// Returns the mean, standard deviation and number of the independent values of a sample.
fn spread(sample: &Sample) -> Option<(f64, f64, usize)> {
    let values = sample.independent();
    Some((mean(&values)?, sample_std(&values)?, values.len()))
}

/// Returns Welch's t-test of two means, as the interval of their difference and p (Welch, 1947); none for samples without a spread.
fn welch(a: Option<(f64, f64, usize)>, b: Option<(f64, f64, usize)>, level: f64) -> Option<(Interval, f64)> {
    let ((mean_a, std_a, count_a), (mean_b, std_b, count_b)) = (a?, b?);
    if count_a < 2 || count_b < 2 {
        return None;
    }
    let (part_a, part_b) = (std_a.powi(2) / count_a as f64, std_b.powi(2) / count_b as f64);
    let variance = part_a + part_b;
    if variance.partial_cmp(&0.0) != Some(Ordering::Greater) {
        return None;
    }
    let freedom = variance.powi(2) / (part_a.powi(2) / (count_a - 1) as f64 + part_b.powi(2) / (count_b - 1) as f64);
    let (difference, error) = (mean_a - mean_b, variance.sqrt());
    let half = t_quantile_of(level, freedom) * error;
    let (low, high, method) = (difference - half, difference + half, IntervalMethod::T);
    let interval = Interval { low, high, level, method, over: Over::Numbers, independent: count_a + count_b };
    Some((interval, p_of_t(difference / error, freedom)))
}

/// A line of the table: the errors of a row, or its barriers.
struct Line<'r> {
    row: &'r Compared,
    measure: &'static str,
    sides: [Measured; 2],
    difference: Option<f64>,
    interval: Option<Interval>,
    tickets: Cell,
    p: Option<f64>,
    test: Option<String>,
    verdict: Option<Verdict>,
}

/// Returns the table of a comparison: a line for the errors of each row, and one for its barriers if both sides have them.
pub fn table(rows: &[Compared], confidence: f64) -> Table {
    let interval = format!("{} %\ninterval", percent(confidence));
    let lines: Vec<Line> = rows.iter().flat_map(|row| [Some(error_line(row)), barrier_line(row)]).flatten().collect();
    let has_problems = distinct(rows.iter().map(|row| row.problem)).len() > 1;
    Declaration::new("compared", "Comparison", &lines)
        .problem(if has_problems { Shown::Always } else { Shown::InFiles }, |line| line.row.problem)
        .place(|line| (line.row.method, line.row.level, line.row.remaining_ratio))
        .inherit(|line| line.row.inherit.map(Cell::display))
        .axes(|line| &line.row.axes)
        .key("measure", "measure", Form::Text, |line| Cell::display(line.measure))
        .in_files_unless(lines.len() > rows.len())
        .value("a", "A", PERCENT, |line| line.sides[0].clone())
        .value("b", "B", PERCENT, |line| line.sides[1].clone())
        .value("difference", "A − B", PERCENT, |line| line.difference)
        .value("interval", &interval, PERCENT, |line| line.interval)
        .value("tickets", "tickets", Form::Count, |line| line.tickets.clone())
        .value("p", "p", Form::P, |line| line.p)
        .key("test", "test", Form::Text, |line| line.test.clone())
        .key("verdict", "verdict", Form::Text, |line| line.verdict.map(Cell::display))
        .finish(
            "Errors in percent, mean ± standard deviation between tickets, or between the seeds of one ticket (seeds); barriers \
             between seeds, and differences A − B, in percentage points.",
        )
}

fn error_line(row: &Compared) -> Line<'_> {
    let side = |side: &Side| Measured {
        center: side.mean,
        deviation: side.std.filter(|_| side.mean.is_some()),
        counts: side.seeds.map(|seeds| (seeds, seeds)).into_iter().collect(),
        ..Measured::default()
    };
    let are_same = row.same_runs > 0 && [row.a.seeds, row.b.seeds] == [Some(row.same_runs); 2];
    let test = |test: Test| row.pairs.map_or(test.to_string(), |pairs| format!("{test} ({pairs})"));
    Line {
        row,
        measure: "error",
        sides: [side(&row.a), side(&row.b)],
        difference: row.difference,
        interval: row.interval,
        tickets: match [row.tickets, row.a.tickets, row.b.tickets] {
            [Some(common), ..] => Cell::from(common),
            [None, None, None] => Cell::Missing,
            [None, a, b] => {
                let text = |tickets: Option<usize>| tickets.map_or(MISSING.to_string(), |tickets| tickets.to_string());
                Cell::Text(format!("{}, {}", text(a), text(b)))
            }
        },
        p: row.p,
        test: if are_same { Some("the same runs".to_string()) } else { row.test.map(test) },
        verdict: row.verdict,
    }
}

fn barrier_line(row: &Compared) -> Option<Line<'_>> {
    let side = |barrier| Measured { center: Some(barrier), ..Measured::default() };
    Some(Line {
        row,
        measure: "barrier",
        sides: [side(row.a.barrier?), side(row.b.barrier?)],
        difference: row.barrier_difference,
        interval: row.barrier_interval,
        tickets: row.barrier_tickets.into(),
        p: None,
        test: row.barrier_test.map(|test| test.to_string()),
        verdict: row.barrier_verdict,
    })
}

impl std::fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} {}", self.problem.dataset, self.problem.architecture)?;
        if self.problem.numerics != Numerics::Native {
            write!(f, ", numerics {}", self.problem.numerics)?;
        }
        if let Some(method) = self.method {
            write!(f, ", {method}")?;
        }
        match (self.level, self.remaining) {
            (Some(level), _) => write!(f, " level {level}")?,
            (None, Some(ratio)) => write!(f, " at {} %", 100.0 * ratio)?,
            (None, None) => {}
        }
        if let Some(inherit) = self.inherit {
            write!(f, ", {inherit}")?;
        }
        self.axes.iter().try_for_each(|(name, value)| write!(f, ", {name} {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_core::results::Outcome;
    use winsign_core::settings::{Architecture, Between, Dataset, Kind};
    use winsign_testkit::study::{Study, ticket_of};

    fn kept(
        inherit: Inherit,
        mean: f64,
        std: Option<f64>,
        level: Option<u32>,
        remaining: Option<f64>,
    ) -> Entry<'static> {
        Entry {
            problem: Problem::new(Dataset::Digits, Architecture::ResNet8),
            method: Some(Method::Lrr),
            level,
            remaining,
            inherit: Some(inherit),
            axes: vec![],
            numbers: Numbers::Published(Side {
                mean: Some(mean),
                std,
                seeds: std.map(|_| 8),
                barrier: Some(0.5),
                tickets: std.map(|_| 4),
            }),
            protocol: None,
        }
    }

    #[test]
    fn studies_with_other_numerics_are_compared() {
        let report = Study::digits().report();
        let mut other = report.clone();
        other.transfers.iter_mut().for_each(|row| row.problem.numerics = Numerics::Portable);
        let found = compare(&entries(&report, false), &entries(&other, false), 0.95);
        assert_eq!((found.rows.len(), found.only_in_a.len()), (report.transfers.len(), 0));
    }

    /// Fewer points find a lower barrier between the same networks.
    #[test]
    fn barriers_of_two_protocols_are_not_subtracted() {
        let report = Study::digits().report();
        let mut other = report.clone();
        let seeds = |row: &&mut ConnectionRow| row.between == Between::Seeds && row.inherit == Some(Inherit::Mask);
        other.connections.iter_mut().filter(seeds).for_each(|row| row.protocol.as_mut().unwrap().points = 3);
        let found = compare(&entries(&report, false), &entries(&other, false), 0.95);
        for row in &found.rows {
            assert!(row.a.barrier.is_some() && row.b.barrier.is_some());
            assert_eq!(row.barriers_alike, row.inherit != Some(Inherit::Mask));
            assert_eq!(row.barrier_difference.is_some(), row.barriers_alike);
        }
        // Transfers do not have the axes of their paths.
        let points = ("connect.points".to_string(), "3".to_string());
        other.connections.iter_mut().for_each(|row| row.axes.push(points.clone()));
        assert!(entries(&other, false).iter().all(|entry| entry.side().barrier.is_some()));
        // The same paths, measured by two protocols, have no single barrier.
        other.connections.extend(report.connections.clone());
        let masks = entries(&other, false).into_iter().filter(|entry| entry.inherit == Some(Inherit::Mask));
        assert_eq!(masks.map(|entry| entry.side().barrier).collect::<Vec<_>>(), [None, None]);
    }

    /// Three tickets with errors 5.0, 6.3, 7.6 against mean 4.5, deviation 0.9 of four:
    /// `scipy.stats.ttest_ind_from_stats(6.3, 1.3, 3, 4.5, 0.9, 4, equal_var=False)`, of SciPy 1.17.
    #[test]
    fn welch_against_a_table_as_scipy_has_it() {
        let report = Study::with_tickets(&[1, 2, 3], &[2, 3])
            .with_errors(|label| match label.inherit {
                Some(Inherit::Mask) => 11.7,
                _ => 5.0 + 1.3 * (ticket_of(label) - 1) as f64,
            })
            .report();
        let table = [
            kept(Inherit::Sign, 4.5, Some(0.9), None, Some(0.069)),
            kept(Inherit::Mask, 12.0, None, Some(12), None),
            kept(Inherit::Mask, 12.0, None, Some(11), None),
        ];
        let study = entries(&report, false);
        let found = compare(&study, &table, 0.95);
        assert_eq!((found.rows.len(), found.only_in_a.len()), (2, 6));
        assert_eq!(found.only_in_b, ["digits resnet8, lrr level 11, mask"]);
        let sign = &found.rows[0];
        assert_eq!((sign.level, sign.test, sign.pairs), (Some(12), Some(Test::Welch), None));
        assert!(
            (sign.difference.unwrap() - 1.8).abs() < 1e-12 && (sign.barrier_difference.unwrap() + 0.1).abs() < 1e-12
        );
        assert!((sign.p.unwrap() - 0.121_033_630_776_219_98).abs() < 1e-9, "{sign:?}");
        let interval = sign.interval.unwrap();
        assert!(
            (interval.low - -0.807_369_548_399_767_6).abs() < 1e-7
                && (interval.high - 4.407_369_548_399_767_5).abs() < 1e-7,
            "{interval:?}"
        );
        let mask = &found.rows[1];
        assert_eq!((mask.test, mask.interval, mask.b.std), (None, None, None));
        assert!((mask.difference.unwrap() + 0.3).abs() < 1e-9);
        assert_eq!(sign.verdict, Some(Verdict::NoDifference));
        // A table without a number of tickets may be of one ticket.
        let mut unknown = table[0].clone();
        if let Numbers::Published(side) = &mut unknown.numbers {
            side.tickets = None;
        }
        let row = &compare(&study, &[unknown], 0.95).rows[0];
        assert_eq!((row.test, row.interval, row.verdict), (None, None, Some(Verdict::NoInterval)));
    }

    /// The second study is worse by 1, 2 and 3 of tickets 1, 2 and 3: mean 2, deviation 1.
    #[test]
    fn studies_with_common_tickets_are_paired() {
        let study = || Study::with_tickets(&[1, 2, 3], &[2, 3]);
        let mut second = study();
        for (planned, _, result) in &mut second.runs {
            if let Outcome::Transfer(transfer) = &mut result.as_mut().unwrap().outcome {
                transfer.test_error += ticket_of(&planned.label) as f64;
            }
        }
        let (one, two) = (study().report(), second.report());
        let found = compare(&entries(&one, false), &entries(&two, false), 0.95);
        assert_eq!((found.rows.len(), found.only_in_a.len(), found.only_in_b.len()), (8, 0, 0));
        let row = &found.rows[0];
        assert_eq!((row.test, row.pairs, row.tickets, row.same_runs), (Some(Test::Paired), Some(6), Some(3), 6));
        assert!((row.difference.unwrap() + 2.0).abs() < 1e-12);
        let half = 4.302_652_729_911_275 / 3.0_f64.sqrt();
        assert!((row.interval.unwrap().low - (-2.0 - half)).abs() < 1e-9);
        assert_eq!(row.verdict, Some(Verdict::NoDifference));
        assert_eq!((row.barrier_difference, row.barrier_tickets), (Some(0.0), Some(3)));
        assert_eq!(row.barrier_verdict, Some(Verdict::NoDifference));
    }

    fn report_of_tickets(seeds: &[u64]) -> Report {
        let mut study = Study::with_tickets(seeds, &[2, 3, 4]);
        for (planned, ..) in &mut study.runs {
            // As in a sweep that names one seed only.
            planned.label.axes.retain(|_| seeds.len() > 1);
        }
        study.report()
    }

    #[test]
    fn one_ticket_has_no_interval_and_other_tickets_are_two_samples() {
        let (one, other, several) =
            (report_of_tickets(&[1]), report_of_tickets(&[2]), report_of_tickets(&[1, 3, 4, 5, 6]));
        assert_eq!(one.transfers[0].errors[0].ticket, Some(1.into()));
        let first = |a: &Report, b: &Report| compare(&entries(a, false), &entries(b, false), 0.95).rows[0].clone();
        let row = first(&one, &other);
        assert_eq!((row.test, row.pairs, row.verdict), (None, None, Some(Verdict::OneTicket)));
        let row = first(&several, &one);
        assert_eq!((row.test, row.pairs, row.tickets), (Some(Test::Paired), Some(3), Some(1)), "that both have");
        assert_eq!((row.interval, row.verdict), (None, Some(Verdict::OneTicket)));
        let row = first(&several, &report_of_tickets(&[2, 7]));
        assert_eq!((row.test, row.verdict), (Some(Test::Welch), Some(Verdict::NoDifference)));
    }

    #[test]
    fn settings_that_both_name_must_be_equal() {
        let with = |lr: &str| Study::new(&[12], &[2, 3], &[vec![("ticket.lr".to_string(), lr.to_string())]]).report();
        let (one, other) = (with("0.1"), with("0.2"));
        assert_eq!(compare(&entries(&one, false), &entries(&other, false), 0.95).rows, []);
        let plain = Study::new(&[12], &[2, 3], &[vec![]]).report();
        let rows = compare(&entries(&one, false), &entries(&plain, false), 0.95).rows;
        assert_eq!((rows.len(), rows[0].axes.len()), (8, 1));
    }

    #[test]
    fn tickets_are_compared_where_that_is_asked_for() {
        let mut study = Study::digits();
        study.runs.retain(|(planned, ..)| planned.run.kind() == Kind::Ticket);
        let report = study.report();
        let entries = entries(&report, true);
        assert_eq!((entries.len(), entries[3].inherit), (26, None));
        let found = compare(&entries, &entries, 0.95);
        assert_eq!(
            (found.rows.len(), found.rows[0].difference, found.rows[0].test),
            (26, Some(0.0), Some(Test::Paired))
        );
    }
}
