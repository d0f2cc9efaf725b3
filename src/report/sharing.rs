//! The mean of paths that share networks.
//!
//! A hundred seeds give 4,950 paths, but still no more than a hundred independent networks: an interval over the paths
//! would be far too narrow. Therefore networks are the units that are drawn. Student's t is that of the jackknife over
//! networks (Arvesen, "Jackknifing U-statistics", 1969), the bootstrap draws networks with replacement.

use std::collections::HashMap;

use winsign_core::RunId;

use super::statistics::{Estimate, FEWEST_OF_BOOTSTRAP, RESAMPLES, Randomness, mean, middle, sample_std, t_quantile};
use super::{Interval, IntervalMethod, Over, Summary};

impl Summary {
    /// Summarizes the values of paths, each with the networks it joins. The interval is that of independent numbers
    /// where no two paths share a network; there is none if networks are too few.
    pub fn from_paths(paths: &[(f64, [&RunId; 2])], estimate: Estimate) -> Option<Summary> {
        let values: Vec<f64> = paths.iter().map(|(value, _)| *value).collect();
        let graph = Graph::from_paths(paths);
        if graph.ends.iter().all(|ends| ends.iter().all(|&end| graph.degrees[end] == 1)) {
            return Summary::from_values(&values, estimate);
        }
        let ends = match estimate.method {
            IntervalMethod::T => graph.jackknife(&values, estimate.level),
            IntervalMethod::Bootstrap => graph.bootstrap(&values, estimate.level),
        };
        let Estimate { method, level } = estimate;
        let (over, networks) = (Over::Networks, graph.degrees.len());
        let interval = ends.map(|(low, high)| Interval { low, high, level, method, over, independent: networks });
        // This interval is discarded; Student's t is cheaper than the bootstrap.
        let independent = Summary::from_values(&values, Estimate { method: IntervalMethod::T, ..estimate })?;
        Some(Summary { interval, ..independent })
    }
}

/// The networks that paths join, by number. A network at the end of all paths is fixed, not drawn.
struct Graph {
    /// The drawn networks of each path: one, two or none.
    ends: Vec<Vec<usize>>,
    /// The number of paths of each network.
    degrees: Vec<usize>,
}

impl Graph {
    fn from_paths(paths: &[(f64, [&RunId; 2])]) -> Graph {
        let distinct_ends = |ends: [&RunId; 2]| match ends[0] == ends[1] {
            true => vec![ends[0].clone()],
            false => ends.map(RunId::clone).to_vec(),
        };
        let paths: Vec<Vec<RunId>> = paths.iter().map(|(_, ends)| distinct_ends(*ends)).collect();
        let mut counts: HashMap<&RunId, usize> = HashMap::new();
        paths.iter().flatten().for_each(|end| *counts.entry(end).or_default() += 1);

        let mut numbers: HashMap<&RunId, usize> = HashMap::new();
        let mut graph = Graph { ends: vec![], degrees: vec![] };
        for path in &paths {
            let drawn = path.iter().filter(|end| counts[end] < paths.len());
            let ends = drawn.map(|end| {
                let next = numbers.len();
                *numbers.entry(end).or_insert(next)
            });
            graph.ends.push(ends.collect());
        }
        graph.degrees = vec![0; numbers.len()];
        graph.ends.iter().flatten().for_each(|&end| graph.degrees[end] += 1);
        graph
    }

    /// Returns the interval from the means without each of the networks; `None` for fewer than two networks. No drawn
    /// network is at the end of all paths, so each mean has paths left.
    fn jackknife(&self, values: &[f64], level: f64) -> Option<(f64, f64)> {
        let networks = self.degrees.len();
        if networks < 2 {
            return None;
        }
        let mut sums = vec![0.0; networks];
        for (value, ends) in values.iter().zip(&self.ends) {
            ends.iter().for_each(|&end| sums[end] += value);
        }
        let all: f64 = values.iter().sum();
        let whole = mean(values)?;
        let count = networks as f64;
        let without = |end: usize| (all - sums[end]) / (values.len() - self.degrees[end]) as f64;
        let pseudo: Vec<f64> = (0..networks).map(|end| count * whole - (count - 1.0) * without(end)).collect();
        let error = sample_std(&pseudo)? / count.sqrt();
        let half = t_quantile(level, networks - 1) * error;
        Some((whole - half, whole + half))
    }

    /// Returns the interval from the means over networks drawn with replacement: the weight of a path is the product of
    /// the counts of its ends. A draw without any path, such as that of a single network, is repeated.
    fn bootstrap(&self, values: &[f64], level: f64) -> Option<(f64, f64)> {
        let networks = self.degrees.len();
        if networks < FEWEST_OF_BOOTSTRAP {
            return None;
        }
        let mut random = Randomness::default();
        let mut means = Vec::with_capacity(RESAMPLES);
        let mut counts = vec![0u32; networks];
        for _ in 0..10 * RESAMPLES {
            counts.fill(0);
            (0..networks).for_each(|_| counts[random.below(networks)] += 1);
            let (mut sum, mut weights) = (0.0, 0.0);
            for (value, ends) in values.iter().zip(&self.ends) {
                let weight: f64 = ends.iter().map(|&end| f64::from(counts[end])).product();
                sum += weight * value;
                weights += weight;
            }
            if weights > 0.0 {
                means.push(sum / weights);
            }
            if means.len() == RESAMPLES {
                return Some(middle(&means, level));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: usize) -> Vec<RunId> {
        (0..count).map(|index| format!("{index:016x}").parse().unwrap()).collect()
    }

    /// Returns the paths between all networks, with barriers from `height`.
    fn matrix(ids: &[RunId], height: impl Fn(usize, usize) -> f64) -> Vec<(f64, [&RunId; 2])> {
        let pairs = (0..ids.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
        pairs.map(|(a, b)| (height(a, b), [&ids[a], &ids[b]])).collect()
    }

    fn t() -> Estimate {
        Estimate::default()
    }

    #[test]
    fn jackknife_matches_values_worked_out_by_hand() {
        let ids = ids(3);
        let paths = matrix(&ids, |a, b| [[0.0, 1.0, 2.0], [0.0, 0.0, 6.0]][a][b]);
        let summary = Summary::from_paths(&paths, t()).unwrap();
        // Without a network one path is left: 6, 2 and 1. Pseudo-values 3 · 3 − 2 · (6, 2, 1) = −3, 5, 7: deviation √28,
        // error √(28 / 3); t of 2 degrees is 4.302652729911275.
        let half = 4.302_652_729_911_275 * (28.0_f64 / 3.0).sqrt();
        let interval = summary.interval.unwrap();
        assert!((interval.low - (3.0 - half)).abs() < 1e-9 && (interval.high - (3.0 + half)).abs() < 1e-9);
        assert_eq!((summary.count, summary.median), (3, 2.0));
        assert!((summary.std.unwrap() - 7.0_f64.sqrt()).abs() < 1e-12, "of the paths");
    }

    #[test]
    fn paths_without_common_networks_are_independent() {
        let ids = ids(6);
        let paths: Vec<_> =
            [1.0, 2.0, 6.0].iter().enumerate().map(|(at, v)| (*v, [&ids[2 * at], &ids[2 * at + 1]])).collect();
        assert_eq!(Summary::from_paths(&paths, t()), Summary::from_values(&[1.0, 2.0, 6.0], t()));
        let with_themselves: Vec<_> = [1.0, 2.0, 6.0].iter().zip(&ids).map(|(value, id)| (*value, [id, id])).collect();
        assert_eq!(Summary::from_paths(&with_themselves, t()), Summary::from_values(&[1.0, 2.0, 6.0], t()));
        // A network that all paths share is fixed.
        let star: Vec<_> = [1.0, 2.0, 6.0].iter().zip(&ids).map(|(value, id)| (*value, [id, &ids[5]])).collect();
        assert_eq!(Summary::from_paths(&star, t()), Summary::from_values(&[1.0, 2.0, 6.0], t()));
    }

    #[test]
    fn too_few_networks_have_no_interval() {
        let ids = ids(3);
        assert_eq!(Summary::from_paths(&[], t()), None);
        let one = Summary::from_paths(&[(2.0, [&ids[0], &ids[1]])], t()).unwrap();
        assert_eq!((one.mean, one.interval), (2.0, None));
    }

    /// With an effect of each network, the mean of a study of twelve of them is as uncertain as twelve numbers are:
    /// over a thousand studies, 95 % of the intervals contain the truth, and those over independent paths would contain
    /// it far less often.
    #[test]
    fn intervals_contain_the_truth_at_their_confidence_level() {
        let ids = ids(12);
        let mut random = Randomness::default();
        // Nearly normal: the sum of twelve even numbers.
        let mut normal = || (0..12).map(|_| random.below(1 << 20) as f64 / f64::from(1 << 20)).sum::<f64>() - 6.0;
        let holds = |summary: Option<Summary>| {
            let interval = summary.unwrap().interval.unwrap();
            usize::from(interval.low <= 10.0 && 10.0 <= interval.high)
        };
        let (mut by_network, mut by_path) = (0, 0);
        for _ in 0..1_000 {
            let effects: Vec<f64> = (0..12).map(|_| normal()).collect();
            let paths = matrix(&ids, |a, b| 10.0 + effects[a] + effects[b]);
            let values: Vec<f64> = paths.iter().map(|(value, _)| *value).collect();
            by_network += holds(Summary::from_paths(&paths, t()));
            by_path += holds(Summary::from_values(&values, t()));
        }
        assert!((930..970).contains(&by_network), "{by_network}");
        assert!(by_path < 700, "{by_path}");
    }

    #[test]
    fn bootstrap_draws_networks() {
        let ids = ids(20);
        let paths = matrix(&ids, |a, b| (a + b) as f64);
        let interval =
            |method| Summary::from_paths(&paths, Estimate { method, level: 0.95 }).unwrap().interval.unwrap();
        let (t, bootstrap) = (interval(IntervalMethod::T), interval(IntervalMethod::Bootstrap));
        let width = |interval: Interval| interval.high - interval.low;
        // The percentile bootstrap of twenty is a tenth narrower than t.
        assert!((0.8..1.0).contains(&(width(bootstrap) / width(t))), "{bootstrap:?} {t:?}");
    }
}
