//! The barriers between all pairs of many networks, as heat maps in which like networks stand together.

use std::borrow::Cow;
use std::collections::HashMap;

use kodama::{Method as Linkage, linkage};
use winsign_core::RunId;
use winsign_core::grouping::distinct;
use winsign_core::settings::Between;

use super::figure::Figure;
use super::heatmap::{Cell, HeatMap, Labels, Scale};
use super::panels::{Panel, last_level, paths_heading, sentences, thinned};
use super::{FigureChrome, Plot};
use crate::paths::whole_matrices;
use crate::statistics::{max, mean};
use crate::tables::barrier_so_far;
use crate::{ConnectionRow, End, PairPath, Part, Report};

/// The smallest number of networks that make a matrix.
const FEWEST_ENDS: usize = 3;
/// The largest number of networks that can be distinguished in a panel.
const MOST_ENDS: usize = 100;
const MOST_PANELS: usize = 8;
/// The largest number of cells in all panels together, for a file that a browser opens at once.
const MOST_CELLS: usize = 24_000;
/// More networks show their values once only, below the diagonal.
const MANY_ENDS: usize = 45;
/// The width that columns of panels fill; there are at least two.
const WIDTH: f64 = 950.0;

/// A quantity that is measured between two networks.
pub(super) struct Measure {
    pub file: &'static str,
    pub title: &'static str,
    pub caption: &'static str,
    pub value: fn(&PairPath) -> Option<f64>,
    /// Returns the distance between two networks with that value.
    pub distance: fn(f64) -> f64,
    pub scale: fn(&[f64]) -> Scale,
    /// Describes all pairs, over the heat map.
    pub heading: fn(&ConnectionRow) -> Option<String>,
    /// Describes one pair.
    pub describe: fn(&PairPath) -> Option<String>,
}

const BARRIERS: Measure = Measure {
    file: "matrix.svg",
    title: "Barriers between all pairs of networks",
    caption: "Barriers in percentage points; over each matrix their mean with its interval, or mean (max). Networks are ordered by similarity: average linkage of the barriers.",
    value: |pair| Some(pair.barrier),
    distance: |barrier| barrier,
    // Barriers of a few points have light shades.
    scale: |barriers| Scale::from_zero(barriers.iter().copied(), 5.0, "barrier, points"),
    heading: |row| row.barrier_mean.map(|_| format!("barrier {}", barrier_so_far(row))),
    describe: |pair| Some(format!("barrier {:.1} points", pair.barrier)),
};

/// Draws the barriers of every row that joins three networks or more.
pub(super) fn draw(report: &Report, chrome: FigureChrome) -> Option<Plot> {
    draw_measure(whole_matrices(&report.connections).iter(), BARRIERS, chrome)
}

/// Returns the paths of each ticket as a row of its own: no path joins networks of two tickets.
fn rows_by_ticket(row: &ConnectionRow) -> Vec<Cow<'_, ConnectionRow>> {
    if row.parts.len() < 2 {
        return vec![Cow::Borrowed(row)];
    }
    row.parts.iter().map(|part| Cow::Owned(row_of_part(row, part))).collect()
}

fn row_of_part(row: &ConnectionRow, part: &Part) -> ConnectionRow {
    let paths = row.paths[part.numbers.clone()].to_vec();
    let barriers: Vec<f64> = paths.iter().map(|pair| pair.barrier).collect();
    ConnectionRow {
        pairs: paths.len(),
        pairs_planned: part.planned,
        barrier_mean: mean(&barriers),
        barrier_max: max(&barriers),
        axes: part.axes.clone(),
        paths,
        path: vec![],
        parts: vec![],
        summary: None,
        ..*row
    }
}

/// Returns at most `most` matrices in their order, and the sentence for the caption if there are more. The first tickets of all
/// rows come before the second of any, and matrices between tickets come last.
fn first_tickets(
    all: Vec<(usize, &ConnectionRow, usize)>,
    most: usize,
) -> (Vec<(usize, &ConnectionRow, usize)>, Option<String>) {
    let total = all.len();
    if total <= most {
        return (all, None);
    }
    let mut places: Vec<usize> = (0..total).collect();
    places.sort_by_key(|&place| (all[place].1.between == Between::Tickets, all[place].0));
    places.truncate(most);
    places.sort_unstable();
    let drawn = places.into_iter().map(|place| all[place]).collect();
    (drawn, Some(format!("Only {most} of {total} matrices are drawn, those of the first tickets.")))
}

/// Draws every row that joins three networks or more, if there are any.
pub(super) fn draw_measure<'a>(
    rows: impl Iterator<Item = &'a ConnectionRow>,
    measure: Measure,
    chrome: FigureChrome,
) -> Option<Plot> {
    let rows: Vec<(usize, Cow<ConnectionRow>)> =
        rows.flat_map(|row| rows_by_ticket(row).into_iter().enumerate()).collect();
    let (matrices, left_out) = matrices(&rows, &measure)?;
    let maps: Vec<HeatMap> = matrices.iter().map(Matrix::map).collect();
    let values = maps.iter().flat_map(|map| &map.cells).filter_map(|cell| match cell {
        Cell::Value(value) => Some(*value),
        _ => None,
    });
    let scale = (measure.scale)(&values.collect::<Vec<_>>());
    let side = side(maps.iter().map(|map| map.rows.len()).max().unwrap_or(0));
    let labels = Labels::around(maps.iter(), (side, side));
    let columns = (WIDTH / (side + labels.room.0)).max(2.0) as usize;
    let figure = Figure {
        chrome,
        title: measure.title,
        legend: vec![],
        x: "",
        y: "",
        caption: caption(&measure, &matrices, &maps, &left_out),
        size: (side, side),
        room: labels.room,
        scale: Some(scale),
        panels: Panel::grid(matrices.iter().map(|matrix| heading(matrix.row, &measure)), columns),
    };
    Some(figure.plot(measure.file, |index, canvas, area| {
        let matrix = &matrices[index];
        let describe = |row, column| matrix.describe(row, column, measure.describe);
        maps[index].draw(canvas, area, &labels, &scale, describe);
    }))
}

/// Returns the matrices to draw, and the sentences for the caption about others; `None` if there are no matrices. Each row
/// comes with the place of its ticket.
fn matrices<'a>(rows: &'a [(usize, Cow<ConnectionRow>)], measure: &Measure) -> Option<(Vec<Matrix<'a>>, Vec<String>)> {
    let all = rows.iter().map(|(ticket, row)| (*ticket, row.as_ref(), ends(row, measure).len()));
    // Neighbours alone, such as each transfer and its retrained ticket, are no matrix.
    let all = all.filter(|(_, row, ends)| *ends >= FEWEST_ENDS && row.pairs_planned >= ends * (ends - 1) / 2);
    let (all, levels_out) = last_level(all.collect(), MOST_PANELS, |(_, row, _)| row.level);
    let largest = all.iter().map(|(.., ends)| (*ends).min(MOST_ENDS)).max()?;
    let most = (MOST_CELLS / (largest * largest)).clamp(1, MOST_PANELS);
    let (all, left_out) = first_tickets(all, most);
    let matrices = all.into_iter().map(|(_, row, _)| Matrix::new(row, measure)).collect();
    Some((matrices, levels_out.into_iter().chain(left_out).collect()))
}

fn caption(measure: &Measure, matrices: &[Matrix], maps: &[HeatMap], left_out: &[String]) -> String {
    let missing = maps.iter().any(|map| map.cells.contains(&Cell::Missing));
    let thinned = format!("Only {MOST_ENDS} networks, evenly picked, are drawn in each matrix.");
    let known = [
        Some(measure.caption),
        missing.then_some("Struck out: not measured."),
        matrices.iter().any(Matrix::is_large).then_some("Values show below the diagonal."),
        matrices.iter().any(|matrix| matrix.ends.len() < matrix.all).then_some(thinned.as_str()),
    ];
    sentences(known.into_iter().chain(left_out.iter().map(|sentence| Some(sentence.as_str()))))
}

fn heading(row: &ConnectionRow, measure: &Measure) -> Vec<String> {
    let mut lines = paths_heading(row);
    lines.extend((measure.heading)(row));
    lines
}

/// Returns the side of the plotting area: cells of a few networks have room for numbers, those of many are dots.
fn side(ends: usize) -> f64 {
    let length = ends as f64;
    match ends {
        ..=8 => (32.0 * length).max(160.0),
        9..=30 => (14.0 * length).max(260.0),
        _ => (4.5 * length).clamp(420.0, 450.0),
    }
}

/// Returns the networks between which the quantity was measured.
fn ends<'a>(row: &'a ConnectionRow, measure: &Measure) -> Vec<&'a End> {
    let measured = row.paths.iter().filter(|pair| (measure.value)(pair).is_some());
    distinct(measured.flat_map(|pair| &pair.ends))
}

struct Matrix<'a> {
    row: &'a ConnectionRow,
    value: fn(&PairPath) -> Option<f64>,
    /// The networks in the order in which they are drawn.
    ends: Vec<&'a End>,
    /// The number of networks, including those that are not drawn.
    all: usize,
    pairs: HashMap<(&'a End, &'a End), &'a PairPath>,
}

impl<'a> Matrix<'a> {
    fn new(row: &'a ConnectionRow, measure: &Measure) -> Matrix<'a> {
        let ends = ends(row, measure);
        let pairs = (row.paths.iter())
            .filter(|pair| (measure.value)(pair).is_some())
            .filter_map(|pair| match &pair.ends[..] {
                [a, b] => Some(((a, b), pair)),
                _ => None,
            })
            .collect();
        let all = ends.len();
        let ends = thinned(&ends, MOST_ENDS).copied().collect();
        let mut matrix = Matrix { row, value: measure.value, ends, all, pairs };
        let distance = |a, b| matrix.measured(a, b).map(measure.distance);
        let order = by_similarity(matrix.ends.len(), distance);
        matrix.ends = order.into_iter().map(|place| matrix.ends[place]).collect();
        matrix
    }

    fn pair(&self, a: usize, b: usize) -> Option<&'a PairPath> {
        let (a, b) = (self.ends[a], self.ends[b]);
        self.pairs.get(&(a, b)).or_else(|| self.pairs.get(&(b, a))).copied()
    }

    fn measured(&self, a: usize, b: usize) -> Option<f64> {
        self.pair(a, b).and_then(self.value).filter(|value| value.is_finite())
    }

    /// Returns the text and the run of a cell; `None` for the cells that show no value.
    fn describe(
        &self,
        row: usize,
        column: usize,
        describe: fn(&PairPath) -> Option<String>,
    ) -> Option<(String, Vec<&'a RunId>)> {
        if self.is_large() && row < column {
            return None;
        }
        let pair = self.pair(row, column)?;
        let [a, b] = [row, column].map(|place| &self.ends[place].label);
        Some((format!("{a} – {b}: {}", describe(pair)?), vec![&pair.run]))
    }

    fn is_large(&self) -> bool {
        self.ends.len() > MANY_ENDS
    }

    fn map(&self) -> HeatMap {
        let labels: Vec<String> = self.ends.iter().map(|end| end.label.clone()).collect();
        let places = 0..self.ends.len();
        let cell = |row: usize, column: usize| match self.measured(row, column) {
            _ if row == column => Cell::Nothing,
            Some(value) => Cell::Value(value),
            None => Cell::Missing,
        };
        let cells = places.clone().flat_map(|row| places.clone().map(move |column| cell(row, column))).collect();
        HeatMap { rows: labels.clone(), columns: labels, cells, write: |value| format!("{value:.1}") }
    }
}

/// Returns an order in which similar items are adjacent: the leaves of their tree of average linkage. When two branches
/// join, they are turned so that the new neighbours differ least. A distance that is not known counts as the largest,
/// one below zero as zero.
pub(super) fn by_similarity(count: usize, distance: impl Fn(usize, usize) -> Option<f64>) -> Vec<usize> {
    if count < 3 {
        return (0..count).collect();
    }
    let known: Vec<Option<f64>> =
        (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b))).map(|(a, b)| distance(a, b)).collect();
    let largest = known.iter().flatten().copied().fold(0.0, f64::max);
    let mut distances: Vec<f64> = known.iter().map(|known| known.unwrap_or(largest).max(0.0)).collect();
    let between = |a: usize, b: usize| distance(a, b).unwrap_or(largest).max(0.0);
    let tree = linkage(&mut distances, count, Linkage::Average);
    let mut branches: Vec<Vec<usize>> = (0..count).map(|leaf| vec![leaf]).collect();
    for step in tree.steps() {
        let [mut first, mut second] =
            [step.cluster1, step.cluster2].map(|branch| std::mem::take(&mut branches[branch]));
        let ends = |branch: &[usize]| (branch[0], branch[branch.len() - 1]);
        let ((a, b), (c, d)) = (ends(&first), ends(&second));
        // The branches stay as they are, or one of them or both are turned.
        let ways = [(between(b, c), false, false), (between(b, d), false, true), (between(a, c), true, false)];
        let ways = ways.into_iter().chain([(between(a, d), true, true)]);
        let best = ways.min_by(|x, y| x.0.total_cmp(&y.0)).expect("four of them");
        if best.1 {
            first.reverse();
        }
        if best.2 {
            second.reverse();
        }
        first.extend(second);
        branches.push(first);
    }
    branches.pop().expect("the root")
}

#[cfg(test)]
mod tests {
    use super::super::samples::{tooltips, two_basins};
    use super::*;

    #[test]
    fn matrices_beyond_the_limit_are_those_of_later_tickets_and_between_tickets() {
        let report = two_basins(8);
        let row = report.connections.iter().find(|row| row.between == Between::Seeds).unwrap();
        let tickets = ConnectionRow { between: Between::Tickets, ..row.clone() };
        let all = vec![(0, &tickets, 8), (0, row, 8), (1, row, 8), (0, row, 8), (1, row, 8)];
        let (drawn, left_out) = first_tickets(all.clone(), 3);
        assert_eq!(drawn.iter().map(|(ticket, ..)| *ticket).collect::<Vec<_>>(), [0, 1, 0]);
        assert!(drawn.iter().all(|(_, row, _)| row.between == Between::Seeds));
        assert_eq!(left_out.unwrap(), "Only 3 of 5 matrices are drawn, those of the first tickets.");
        assert_eq!(first_tickets(all, 5).1, None);
    }

    #[test]
    fn networks_of_one_basin_stand_together() {
        let plot = draw(&two_basins(8), FigureChrome::Full).unwrap();
        let marks = tooltips(&plot.svg);
        assert_eq!(marks.len(), 8 * 7);
        // Row after row: the first row is that of the first network and all others.
        let first: Vec<&str> = marks[..7].iter().map(|tooltip| tooltip.text.split(':').next().unwrap()).collect();
        let seeds: Vec<usize> = first.iter().map(|pair| pair.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        let alike = |seed: &usize| seed % 2;
        let changes = seeds.windows(2).filter(|pair| alike(&pair[0]) != alike(&pair[1])).count();
        assert_eq!(changes, 1, "{seeds:?}");
        assert!(marks[0].text.ends_with(" points") && marks[0].runs.len() == 1, "{:?}", marks[0]);
        assert!(!plot.caption.contains("Struck out"));
    }

    #[test]
    fn pairs_without_a_measurement_are_struck_out() {
        let mut report = two_basins(4);
        report.connections[0].paths.pop();
        let plot = draw(&report, FigureChrome::Full).unwrap();
        assert!(plot.caption.contains("Struck out: not measured."), "{}", plot.caption);
        assert_eq!(tooltips(&plot.svg).len(), 4 * 3 - 2);
        let matrix = Matrix::new(&report.connections[0], &BARRIERS);
        let missing = matrix.map().cells.iter().filter(|cell| **cell == Cell::Missing).count();
        assert_eq!((missing, matrix.map().cells.len()), (2, 16));
    }

    #[test]
    fn many_networks_are_bounded() {
        let plot = draw(&two_basins(100), FigureChrome::Full).unwrap();
        assert_eq!(tooltips(&plot.svg).len(), 4_950);
        assert!(plot.svg.len() < 2_000_000, "{}", plot.svg.len());
        assert!(plot.caption.ends_with("Values show below the diagonal."), "{}", plot.caption);
        let mut report = two_basins(130);
        report.connections.extend_from_within(..);
        report.connections.extend_from_within(..);
        let plot = draw(&report, FigureChrome::Full).unwrap();
        let expected = "Only 100 networks, evenly picked, are drawn in each matrix. Only 2 of 4 matrices are drawn, those of the first tickets.";
        assert!(plot.caption.contains(expected), "{}", plot.caption);
    }

    #[test]
    fn two_networks_are_no_matrix_nor_are_pairs_of_two() {
        let mut report = two_basins(4);
        report.connections[0].pairs_planned = 2;
        assert!(draw(&report, FigureChrome::Full).is_none());
        assert!(draw(&two_basins(2), FigureChrome::Full).is_none());
    }

    #[test]
    fn two_clusters_stand_apart() {
        // Even and odd things are alike; within, the nearer numbers are.
        let distance = |a: usize, b: usize| {
            let within = a.abs_diff(b) as f64 / 10.0;
            Some(if a % 2 == b % 2 { within } else { 50.0 + within })
        };
        let order = by_similarity(12, distance);
        let mut sorted = order.clone();
        sorted.sort();
        assert_eq!(sorted, (0..12).collect::<Vec<_>>());
        let parities: Vec<usize> = order.iter().map(|place| place % 2).collect();
        assert_eq!(parities.windows(2).filter(|pair| pair[0] != pair[1]).count(), 1, "{order:?}");
        // Leaves of one cluster lie in a row, too.
        let steps: Vec<usize> = order.windows(2).map(|pair| pair[0].abs_diff(pair[1])).collect();
        assert_eq!(steps.iter().filter(|step| **step == 2).count(), 10, "{order:?}");
    }

    #[test]
    fn unknown_distances_do_not_join_clusters() {
        let distance = |a: usize, b: usize| if a + b == 3 { None } else { Some(-0.5) };
        let order = by_similarity(4, distance);
        let places: Vec<usize> = (0..4).map(|thing| order.iter().position(|place| *place == thing).unwrap()).collect();
        assert!(places[0].abs_diff(places[3]) > 1 || places[1].abs_diff(places[2]) > 1, "{order:?}");
        assert_eq!(by_similarity(2, |_, _| None), [0, 1]);
        assert_eq!(by_similarity(0, |_, _| None), [] as [usize; 0]);
    }
}
