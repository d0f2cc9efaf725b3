//! Numbers of which several have a part of their chance in common: that of their ticket.

use super::statistics::{Estimate, mean};
use super::{Interval, Over, Summary};

/// Of all numbers. Those of one cluster are not independent: where there are several clusters, the interval is that of
/// their means. The numbers of a single cluster are independent as long as nobody speaks of other clusters. Clusters of
/// different sizes have no interval: the mean of their means is not the mean of all numbers.
pub fn of_clusters(clusters: &[Vec<f64>], estimate: Estimate) -> Option<Summary> {
    let all: Vec<f64> = clusters.iter().flatten().copied().collect();
    let whole = Summary::of(&all, estimate)?;
    let interval = independent(clusters).and_then(|values| Summary::of(&values, estimate)?.interval);
    let several = clusters.iter().filter(|cluster| !cluster.is_empty()).count() > 1;
    let over = if several { Over::Tickets } else { Over::Numbers };
    Some(Summary { interval: interval.map(|interval| Interval { over, ..interval }), ..whole })
}

/// Numbers that are independent of each other and whose mean is that of all: those of a single cluster, or the means of
/// several of the same size. None of clusters of different sizes.
pub fn independent(clusters: &[Vec<f64>]) -> Option<Vec<f64>> {
    let clusters: Vec<&Vec<f64>> = clusters.iter().filter(|cluster| !cluster.is_empty()).collect();
    match clusters[..] {
        [only] => Some(only.clone()),
        _ => {
            let alike = clusters.windows(2).all(|pair| pair[0].len() == pair[1].len());
            alike.then(|| clusters.iter().filter_map(|cluster| mean(cluster)).collect())
        }
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
        let of_means = Summary::of(&[2.0, 5.0, 8.0], estimate).unwrap().interval.unwrap();
        assert_eq!(summary.interval, Some(Interval { over: Over::Tickets, ..of_means }));
        assert_eq!(summary.interval.unwrap().told(), "Student's t over 3 tickets");
        assert!((summary.std.unwrap() - (40.0_f64 / 5.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn clusters_of_different_sizes_have_no_interval() {
        let estimate = Estimate::default();
        // The mean of all is 5, that of the means 4.25.
        let summary = of_clusters(&[vec![1.0, 2.0], vec![6.0, 7.0, 8.0, 6.0]], estimate).unwrap();
        assert_eq!((summary.count, summary.mean, summary.interval), (6, 5.0, None));
        assert_eq!(independent(&[vec![1.0, 2.0], vec![6.0]]), None);
        assert_eq!(independent(&[vec![1.0, 2.0], vec![], vec![6.0, 8.0]]), Some(vec![1.5, 7.0]));
    }

    #[test]
    fn one_cluster_is_a_sample() {
        let estimate = Estimate::default();
        assert_eq!(of_clusters(&[vec![1.0, 3.0, 5.0]], estimate), Summary::of(&[1.0, 3.0, 5.0], estimate));
        assert_eq!(of_clusters(&[vec![1.0, 3.0, 5.0], vec![]], estimate), Summary::of(&[1.0, 3.0, 5.0], estimate));
        assert_eq!(of_clusters(&[vec![], vec![]], estimate), None);
    }
}
