//! The agreement of signs between tickets: heat maps for all pairs of many tickets, lines for neighbouring levels.

use winsign_core::RunId;
use winsign_core::grouping::{distinct, grouped};
use winsign_core::settings::Between;
use winsign_core::text::plural;
use winsign_sweep::Axes;

use super::by_ratio::{Band, Group, Point, all_series, between_text, plot_lines};
use super::chart::Axis;
use super::heatmap::Scale;
use super::matrix::{Measure, draw_measure};
use super::panels::{axes_text, series_level_text};
use super::{FigureChrome, Plot};
use crate::paths::whole_matrices;
use crate::statistics::{mean, sample_std};
use crate::{ConnectionRow, PairPath, Report};

/// Draws the agreement between tickets of one level, if three or more are joined.
pub(super) fn draw_tickets(report: &Report, chrome: FigureChrome) -> Option<Plot> {
    let matrices = whole_matrices(&similarities(report));
    draw_measure(
        matrices.iter().filter(|row| row.between == Between::Tickets),
        Measure {
            file: "signs.svg",
            title: "Sign agreement between tickets",
            describe: |pair| {
                let similarity = pair.similarity?;
                let (agreement, overlap) = (100.0 * similarity.sign_agreement, 100.0 * similarity.mask_overlap);
                Some(format!("{agreement:.1} % of the signs agree, masks overlap by {overlap:.1} %"))
            },
            caption: "Of the weights that remain in both tickets: how many have the same sign, in percent. Chance is 50. \
                      Tickets are ordered by similarity: average linkage of the agreement.",
            value: agreement,
            distance: |agreement| 100.0 - agreement,
            scale: |agreements| Scale { axis: Axis::linear(floor(agreements), 100.0), name: "same sign, %" },
            heading: mean_text,
        },
        chrome,
    )
}

/// Draws the agreement of neighbouring levels, and of tickets of one level, against the remaining weights.
pub(super) fn draw_levels(report: &Report, chrome: FigureChrome) -> Option<Plot> {
    let rows = similarities(report);
    let groups = grouped(&rows, |row| (row.between, row.problem, &row.axes)).into_iter().map(|rows| Group {
        kind: None,
        heading: std::iter::once(between_text(rows[0].between)).chain(axes_text(&rows[0].axes)).collect(),
        series: all_series(&rows, |row| (row.method, row.inherit), point),
        dense: vec![],
    });
    plot_lines(
        chrome,
        ("signs-by-ratio.svg", "Sign agreement by remaining weights"),
        "same sign, %",
        "Of the weights that remain in both tickets: how many have the same sign. Lines: mean over pairs.",
        groups.collect(),
        std::iter::empty(),
        |low, _| floor(&[low])..100.5,
    )
}

/// Returns the rows of paths between tickets without the settings of paths, such as alignment: the similarity of two tickets
/// does not depend on these. Rows that differ in them alone become one, with each pair of tickets once.
fn similarities(report: &Report) -> Vec<ConnectionRow> {
    let own_axes = |row: &ConnectionRow| -> Axes {
        row.axes.iter().filter(|(name, _)| !name.starts_with("connect.")).cloned().collect()
    };
    let rows = report.connections.iter().filter(|row| matches!(row.between, Between::Levels | Between::Tickets));
    let alike = grouped(rows, |row| (row.problem, row.between, row.method, row.level, row.inherit, own_axes(row)));
    let merge = |rows: Vec<&ConnectionRow>| {
        let paths = grouped(rows.iter().flat_map(|row| &row.paths), |pair| sorted_ends(pair));
        ConnectionRow {
            axes: own_axes(rows[0]),
            protocol: None,
            // Rows can have fewer pairs than others, for example those with equal masks.
            pairs_planned: rows.iter().map(|row| row.pairs_planned).max().unwrap_or(0),
            paths: paths.into_iter().map(|measured| measured[0].clone()).collect(),
            parts: vec![],
            ..rows[0].clone()
        }
    };
    alike.into_iter().map(merge).collect()
}

fn sorted_ends(pair: &PairPath) -> Vec<&RunId> {
    let mut ends: Vec<&RunId> = pair.ends.iter().map(|end| &end.run).collect();
    ends.sort();
    ends
}

/// Returns the lower end of the scale of agreements: a round number, low enough that noise does not look large.
fn floor(agreements: &[f64]) -> f64 {
    let lowest = agreements.iter().copied().fold(90.0, f64::min);
    (10.0 * (lowest / 10.0).floor()).max(0.0)
}

/// Returns a percentage.
fn agreement(pair: &PairPath) -> Option<f64> {
    pair.similarity.map(|similarity| 100.0 * similarity.sign_agreement).filter(|agreement| agreement.is_finite())
}

fn mean_text(row: &ConnectionRow) -> Option<String> {
    let agreements: Vec<f64> = row.paths.iter().filter_map(agreement).collect();
    mean(&agreements).map(|mean| format!("mean {mean:.1} %"))
}

fn point(row: &ConnectionRow) -> Option<Point> {
    let agreements: Vec<f64> = row.paths.iter().filter_map(agreement).collect();
    let mean = mean(&agreements)?;
    let std = sample_std(&agreements);
    let series = series_level_text(row.method, row.inherit, row.level, row.remaining_ratio);
    let spread = std.map_or(String::new(), |std| format!(" ± {std:.1}"));
    let pairs = plural(agreements.len(), "pair");
    Some(Point {
        ratio: row.remaining_ratio?,
        mean,
        band: std.map(|std| Band { low: mean - std, high: mean + std, is_interval: false }),
        text: format!("{series}: {mean:.1} %{spread} of the signs agree, {pairs}"),
        runs: distinct(row.paths.iter().map(|pair| pair.run.clone())),
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples::{neighbours, tickets, tooltips};
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_testkit::study::Study;

    #[test]
    fn tickets_that_agree_stand_together() {
        let plot = draw_tickets(&tickets(6), FigureChrome::Full).unwrap();
        let marks = tooltips(&plot.svg);
        assert_eq!(marks.len(), 6 * 5);
        // The first row: two that agree with the first ticket, then three that do not.
        let agree: Vec<bool> =
            marks[..5].iter().map(|tooltip| tooltip.text.contains("90.0 % of the signs agree")).collect();
        assert_eq!(agree, [true, true, false, false, false]);
        assert!(marks[4].text.ends_with(": 50.0 % of the signs agree, masks overlap by 25.0 %"), "{}", marks[4].text);
        assert!(plot.svg.contains(">mean 66.0 %<"), "six pairs of 90, nine of 50");
    }

    #[test]
    fn neighbouring_levels_are_a_line_a_method() {
        let marks = tooltips(&draw_levels(&neighbours(), FigureChrome::Full).unwrap().svg);
        assert_eq!(marks.len(), 2 * 12);
        let last = marks.last().unwrap();
        assert_eq!(last.text, "AWS ticket, level 12 (6.9 % remaining): 76.0 % of the signs agree, 1 pair");
        assert!(marks.iter().all(|tooltip| tooltip.at.1 <= last.at.1), "the lowest of all");
    }

    #[test]
    fn alignment_does_not_repeat_maps_and_lines() {
        let aligned = |mut report: Report| {
            let rows = report.connections.clone();
            report.connections.extend(rows);
            let half = report.connections.len() / 2;
            let (first, second) = report.connections.split_at_mut(half);
            for (rows, align) in [(first, "none"), (second, "weights")] {
                rows.iter_mut().for_each(|row| row.axes.push(("connect.align".to_string(), align.to_string())));
            }
            report
        };
        let [map, aligned_map] =
            [tickets(4), aligned(tickets(4))].map(|report| draw_tickets(&report, FigureChrome::Full).unwrap().svg);
        assert_eq!(map, aligned_map);
        let [lines, aligned_lines] =
            [neighbours(), aligned(neighbours())].map(|report| draw_levels(&report, FigureChrome::Full).unwrap().svg);
        assert_eq!(lines, aligned_lines);
    }

    #[test]
    fn other_paths_have_no_figure() {
        let report = Study::digits().report();
        assert!(
            draw_tickets(&report, FigureChrome::Full).is_none() && draw_levels(&report, FigureChrome::Full).is_none()
        );
        assert_eq!((floor(&[97.0]), floor(&[55.0, 99.0]), floor(&[])), (90.0, 50.0, 90.0));
    }
}
