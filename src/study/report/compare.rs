//! Two studies side by side, or a study and a table that was printed elsewhere.

use std::cmp::Ordering;

use serde::Serialize;

use super::differences::{independent, paired};
use super::spreads::without_ticket_seeds;
use super::statistics::{Estimate, mean, p_of_t, sample_std, t_quantile_of};
use super::{ConnectionRow, Interval, IntervalMethod, Over, Report, SeedError, TransferRow, Way, as_map};
use crate::run::settings::{Between, Inherit, Method, Problem};
use crate::study::grouping::grouped;
use crate::study::sweep::Axes;

/// One line of a study or a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub problem: Problem,
    /// None of dense networks.
    pub method: Option<Method>,
    pub level: Option<u32>,
    pub remaining: Option<f64>,
    /// None of tickets.
    pub inherit: Option<Inherit>,
    pub axes: Axes,
    pub numbers: Numbers,
    /// The mean barrier between seeds, in percentage points.
    pub barrier: Option<f64>,
    /// How the barriers were measured; of a table nobody knows.
    pub way: Option<Way>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Numbers {
    /// Rows that differ in the seeds of their tickets alone.
    Runs(Vec<TransferRow>),
    Kept(Side),
}

/// What one side says of a line. Errors in percent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Side {
    pub mean: Option<f64>,
    pub std: Option<f64>,
    pub seeds: Option<usize>,
    pub barrier: Option<f64>,
}

/// How a difference was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Test {
    /// Student's t of the differences over the same seeds.
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
    /// Of both sides together.
    #[serde(serialize_with = "as_map")]
    pub axes: Axes,
    pub a: Side,
    pub b: Side,
    /// A minus B, in percentage points. Of a paired test the mean over pairs, which may be fewer than the runs.
    pub difference: Option<f64>,
    pub barrier_difference: Option<f64>,
    /// Whether the barriers of both sides were measured in one way, as far as that is known: others are not subtracted.
    pub barriers_alike: bool,
    pub test: Option<Test>,
    /// How many pairs of seeds, of a paired test.
    pub pairs: Option<usize>,
    pub interval: Option<Interval>,
    pub p: Option<f64>,
    /// How many runs are in both: those differ by nothing.
    pub same_runs: usize,
}

/// What two studies have in common, and what only one of them has.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub rows: Vec<Compared>,
    pub only_in_a: Vec<String>,
    pub only_in_b: Vec<String>,
}

/// The lines of a study: transfers, and if asked for, tickets.
pub fn entries(report: &Report, with_tickets: bool) -> Vec<Entry> {
    let tickets = report.tickets.iter().filter(|_| with_tickets).map(|row| {
        let error = row.test_error.map(|error| SeedError {
            seeds: row.seeds,
            error,
            loss: row.test_loss.unwrap_or(f64::NAN),
            run: row.run.clone(),
            seconds: row.seconds.unwrap_or(f64::NAN),
            ticket: Some(row.seeds),
        });
        let row = TransferRow {
            method: Some(row.method),
            level: row.level,
            remaining_ratio: row.remaining_ratio,
            // Of no consequence: the entry says that nothing was transferred.
            inherit: Inherit::Sign,
            seeds: usize::from(error.is_some()),
            seeds_planned: 1,
            error_mean: row.test_error,
            error_std: None,
            errors: error.into_iter().collect(),
            axes: row.axes.clone(),
            summary: None,
            problem: row.problem,
        };
        (None, row)
    });
    let transfers = report.transfers.iter().map(|row| (Some(row.inherit), row.clone()));
    let alike = grouped(tickets.chain(transfers), |(inherit, row)| {
        (row.problem, row.method, row.level, *inherit, without_ticket_seeds(&row.axes))
    });
    let entry = |rows: Vec<(Option<Inherit>, TransferRow)>| {
        let (inherit, first) = rows[0].clone();
        let axes = without_ticket_seeds(&first.axes);
        let of_it = report.connections.iter().filter(|row| {
            row.between == Between::Seeds
                && (row.problem, row.method, row.level, row.inherit)
                    == (first.problem, first.method, first.level, inherit)
                && without_ways(without_ticket_seeds(&row.axes)) == axes
        });
        let of_it: Vec<&ConnectionRow> = of_it.collect();
        let way = of_it.first().and_then(|row| row.way);
        let barriers: Vec<f64> = match of_it.iter().all(|row| row.way == way) {
            true => of_it.iter().flat_map(|row| row.paths.iter().map(|pair| pair.barrier)).collect(),
            // Of several ways there is no one barrier.
            false => vec![],
        };
        Entry {
            problem: first.problem,
            method: first.method,
            level: Some(first.level),
            remaining: first.remaining_ratio,
            inherit,
            axes,
            numbers: Numbers::Runs(rows.into_iter().map(|(_, row)| row).collect()),
            barrier: mean(&barriers),
            way,
        }
    };
    alike.into_iter().map(entry).collect()
}

/// What tells the ways apart in which barriers are measured is nothing that transfers differ in.
fn without_ways(mut axes: Axes) -> Axes {
    axes.retain(|(name, _)| !name.starts_with("connect."));
    axes
}

/// Lines of both sides that mean the same. A remaining ratio of a table is that of the level whose ratio it rounds.
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
    (one.problem, one.method, one.inherit) == (other.problem, other.method, other.inherit) && at_same_place && shared
}

fn compared(one: &Entry, other: &Entry, level: f64) -> Compared {
    let (a, b) = (one.side(), other.side());
    let mut axes = one.axes.clone();
    axes.extend(other.axes.iter().filter(|(name, _)| !one.axes.iter().any(|(known, _)| known == name)).cloned());
    let alike = one.way.zip(other.way).is_none_or(|(one, other)| one == other);
    let mut row = Compared {
        problem: one.problem,
        method: one.method,
        level: one.level.or(other.level),
        remaining_ratio: [one, other].iter().find_map(|entry| entry.level.and(entry.remaining)).or(one.remaining),
        inherit: one.inherit,
        axes,
        difference: a.mean.zip(b.mean).map(|(a, b)| a - b),
        barrier_difference: a.barrier.zip(b.barrier).filter(|_| alike).map(|(a, b)| a - b),
        barriers_alike: alike,
        a,
        b,
        test: None,
        pairs: None,
        interval: None,
        p: None,
        same_runs: 0,
    };
    let estimate = Estimate { level, ..Estimate::default() };
    let runs = |entry: &Entry| match &entry.numbers {
        Numbers::Runs(rows) => rows.clone(),
        Numbers::Kept(_) => vec![],
    };
    let (of_a, of_b) = (runs(one), runs(other));
    let ids = |rows: &[TransferRow]| -> Vec<_> {
        rows.iter().flat_map(|row| row.errors.iter().map(|seed| seed.run.clone())).collect()
    };
    let in_a = ids(&of_a);
    row.same_runs = ids(&of_b).iter().filter(|id| in_a.contains(id)).count();
    let found = paired(&of_a.iter().collect::<Vec<_>>(), &of_b.iter().collect::<Vec<_>>(), estimate);
    match found.filter(|found| found.summary.count >= 2) {
        Some(found) => {
            row.test = Some(Test::Paired);
            row.difference = Some(found.summary.mean);
            (row.pairs, row.interval, row.p) = (Some(found.summary.count), found.summary.interval, found.p);
        }
        None => {
            if let Some((interval, p)) = welch(one.sample(), other.sample(), level) {
                (row.test, row.interval, row.p) = (Some(Test::Welch), Some(interval), Some(p));
            }
        }
    }
    row
}

impl Entry {
    /// What is shown of it.
    pub fn side(&self) -> Side {
        match &self.numbers {
            Numbers::Kept(side) => *side,
            Numbers::Runs(rows) => {
                let errors: Vec<f64> = rows.iter().flat_map(|row| row.errors.iter().map(|seed| seed.error)).collect();
                Side { mean: mean(&errors), std: sample_std(&errors), seeds: Some(errors.len()), barrier: self.barrier }
            }
        }
    }

    /// Mean, standard deviation and number of what is independent of each other. None where tickets have different numbers
    /// of runs: the mean over tickets would be another one than that shown.
    fn sample(&self) -> Option<(f64, f64, usize)> {
        match &self.numbers {
            Numbers::Kept(side) => Some((side.mean?, side.std?, side.seeds?)),
            Numbers::Runs(rows) => {
                let values = independent(&rows.iter().collect::<Vec<_>>())?;
                Some((mean(&values)?, sample_std(&values)?, values.len()))
            }
        }
    }
}

/// Welch's t-test of two means, and the interval of their difference (Welch, 1947). None of samples without a spread.
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

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} {}", self.problem.dataset, self.problem.architecture)?;
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
    use super::super::fixture::Study;
    use super::*;
    use crate::run::results::Outcome;
    use crate::run::settings::{Architecture, Dataset, Kind};

    fn kept(inherit: Inherit, mean: f64, std: Option<f64>, level: Option<u32>, remaining: Option<f64>) -> Entry {
        Entry {
            problem: Problem::new(Dataset::Digits, Architecture::ResNet8),
            method: Some(Method::Lrr),
            level,
            remaining,
            inherit: Some(inherit),
            axes: vec![],
            numbers: Numbers::Kept(Side { mean: Some(mean), std, seeds: std.map(|_| 4), barrier: Some(0.5) }),
            barrier: Some(0.5),
            way: None,
        }
    }

    /// Fewer points find a lower barrier between the same networks.
    #[test]
    fn barriers_of_two_ways_are_not_subtracted() {
        let report = Study::digits().report();
        let mut other = report.clone();
        let seeds = |row: &&mut ConnectionRow| row.between == Between::Seeds && row.inherit == Some(Inherit::Mask);
        other.connections.iter_mut().filter(seeds).for_each(|row| row.way.as_mut().unwrap().points = 3);
        let found = compare(&entries(&report, false), &entries(&other, false), 0.95);
        for row in &found.rows {
            assert!(row.a.barrier.is_some() && row.b.barrier.is_some());
            assert_eq!(row.barriers_alike, row.inherit != Some(Inherit::Mask));
            assert_eq!(row.barrier_difference.is_some(), row.barriers_alike);
        }
        // Axes of paths are none of the transfers that they join.
        let way = ("connect.points".to_string(), "3".to_string());
        other.connections.iter_mut().for_each(|row| row.axes.push(way.clone()));
        assert!(entries(&other, false).iter().all(|entry| entry.barrier.is_some()));
        // Of the same transfers, measured in two ways, there is no one barrier.
        other.connections.extend(report.connections.clone());
        let masks = entries(&other, false).into_iter().filter(|entry| entry.inherit == Some(Inherit::Mask));
        assert_eq!(masks.map(|entry| entry.barrier).collect::<Vec<_>>(), [None, None]);
    }

    /// Three errors 5.0, 6.3, 7.6 against mean 4.5, deviation 0.9 of four:
    /// `scipy.stats.ttest_ind_from_stats(6.3, 1.3, 3, 4.5, 0.9, 4, equal_var=False)`, of SciPy 1.17.
    #[test]
    fn welch_against_a_table_as_scipy_has_it() {
        let report = Study::digits().report();
        let table = [
            kept(Inherit::Sign, 4.5, Some(0.9), None, Some(0.069)),
            kept(Inherit::Mask, 12.0, None, Some(12), None),
            kept(Inherit::Mask, 12.0, None, Some(11), None),
        ];
        let found = compare(&entries(&report, false), &table, 0.95);
        assert_eq!((found.rows.len(), found.only_in_a.len()), (2, 6));
        assert_eq!(found.only_in_b, ["digits resnet8, lrr level 11, mask"]);
        let sign = &found.rows[0];
        assert_eq!((sign.level, sign.test, sign.pairs), (Some(12), Some(Test::Welch), None));
        assert!(
            (sign.difference.unwrap() - 1.8).abs() < 1e-12 && (sign.barrier_difference.unwrap() - 0.1).abs() < 1e-12
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
    }

    /// The second study is worse by 1, 2 and 3 with seeds 2, 3 and 4: mean 2, deviation 1.
    #[test]
    fn studies_with_common_seeds_are_paired() {
        let first = Study::digits();
        let mut second = Study::digits();
        for (planned, _, result) in &mut second.runs {
            if let Outcome::Transfer(transfer) = &mut result.as_mut().unwrap().outcome {
                transfer.test_error += planned.label.seeds[0].init as f64 - 1.0;
            }
        }
        let (one, two) = (first.report(), second.report());
        let found = compare(&entries(&one, false), &entries(&two, false), 0.95);
        assert_eq!((found.rows.len(), found.only_in_a.len(), found.only_in_b.len()), (8, 0, 0));
        let row = &found.rows[0];
        assert_eq!((row.test, row.pairs, row.same_runs), (Some(Test::Paired), Some(3), 3));
        assert!((row.difference.unwrap() + 2.0).abs() < 1e-12);
        let half = 4.302_652_729_911_275 / 3.0_f64.sqrt();
        assert!((row.interval.unwrap().low - (-2.0 - half)).abs() < 1e-9);
    }

    /// The twelve levels of this study come from tickets of other seeds.
    fn of_tickets(seeds: &[u64]) -> Report {
        let axes: Vec<Axes> = seeds.iter().map(|seed| vec![("ticket.seed".to_string(), seed.to_string())]).collect();
        let mut study = Study::new(&[12], &[2, 3, 4], &axes);
        for (planned, ..) in &mut study.runs {
            let label = &mut planned.label;
            if planned.run.kind() == Kind::Ticket {
                label.seeds = vec![label.axes[0].1.parse::<u64>().unwrap().into()];
            }
            // As in a sweep that names one seed only.
            label.axes.retain(|_| seeds.len() > 1);
        }
        study.report()
    }

    #[test]
    fn transfers_of_other_tickets_are_two_samples() {
        let (one, other, several) = (of_tickets(&[1]), of_tickets(&[2]), of_tickets(&[1, 2, 3, 4, 5]));
        assert_eq!(one.transfers[0].errors[0].ticket, Some(1.into()));
        let first = |a: &Report, b: &Report| compare(&entries(a, false), &entries(b, false), 0.95).rows[0].clone();
        let row = first(&one, &other);
        assert_eq!((row.test, row.pairs), (Some(Test::Welch), None));
        let row = first(&several, &one);
        assert_eq!((row.test, row.pairs), (Some(Test::Paired), Some(3)), "those of the ticket that both have");
    }

    #[test]
    fn tickets_with_different_numbers_of_runs_are_no_sample() {
        let (one, mut several) = (of_tickets(&[1]), of_tickets(&[2, 3]));
        let row = |several: &Report| compare(&entries(&one, false), &entries(several, false), 0.95).rows[0].clone();
        assert_eq!(row(&several).test, Some(Test::Welch));
        several.transfers[0].errors.pop();
        let row = row(&several);
        assert!(row.difference.is_some());
        assert_eq!((row.test, row.interval, row.p), (None, None, None));
    }

    #[test]
    fn other_seeds_are_two_samples() {
        let (one, two) = (Study::digits().report(), Study::new(&[12], &[7, 8, 9], &[vec![]]).report());
        let row = &compare(&entries(&one, false), &entries(&two, false), 0.95).rows[0];
        assert_eq!((row.test, row.difference, row.same_runs), (Some(Test::Welch), Some(0.0), 0));
        assert!((row.p.unwrap() - 1.0).abs() < 1e-9);
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
        let entries = entries(&study.report(), true);
        assert_eq!((entries.len(), entries[3].inherit), (26, None));
        let found = compare(&entries, &entries, 0.95);
        assert_eq!((found.rows.len(), found.rows[0].difference, found.rows[0].test), (26, Some(0.0), None));
    }
}
