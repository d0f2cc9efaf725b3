//! Numbers of which several have a part of their chance in common.

use super::Summary;
use super::statistics::{Estimate, mean};

/// Of all numbers. Those of one cluster are not independent: where there are several clusters, the interval is that of
/// their means. The numbers of a single cluster are independent as long as nobody speaks of other clusters.
pub fn of_clusters(clusters: &[Vec<f64>], estimate: Estimate) -> Option<Summary> {
    let means: Vec<f64> = clusters.iter().filter_map(|cluster| mean(cluster)).collect();
    let all: Vec<f64> = clusters.iter().flatten().copied().collect();
    let whole = Summary::of(&all, estimate)?;
    match means.len() {
        1 => Some(whole),
        _ => Some(Summary { interval: Summary::of(&means, estimate)?.interval, ..whole }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_means() {
        let estimate = Estimate::default();
        let clusters = [vec![1.0, 3.0], vec![4.0, 6.0], vec![8.0, 8.0]];
        let summary = of_clusters(&clusters, estimate).unwrap();
        assert_eq!((summary.count, summary.mean, summary.min, summary.max), (6, 5.0, 1.0, 8.0));
        assert_eq!(summary.interval, Summary::of(&[2.0, 5.0, 8.0], estimate).unwrap().interval);
        assert!((summary.std.unwrap() - (40.0_f64 / 5.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn one_cluster_is_a_sample() {
        let estimate = Estimate::default();
        assert_eq!(of_clusters(&[vec![1.0, 3.0, 5.0]], estimate), Summary::of(&[1.0, 3.0, 5.0], estimate));
        assert_eq!(of_clusters(&[vec![1.0, 3.0, 5.0], vec![]], estimate), Summary::of(&[1.0, 3.0, 5.0], estimate));
        assert_eq!(of_clusters(&[vec![], vec![]], estimate), None);
    }
}
