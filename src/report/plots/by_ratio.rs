//! Values measured at every level, against the remaining weights: one line for each method and inheritance, from dense
//! on the left to sparse on the right, with a band around it. The figure of errors is the main one of a study.

use std::ops::Range;

use winsign_core::RunId;
use winsign_core::grouping::{distinct, grouped};
use winsign_core::settings::{Between, Inherit, Method};

use super::chart::{Axis, Chart, Tick, ratio_ticks};
use super::figure::{Figure, TICKS};
use super::legend::Key;
use super::panels::{Panel, axes_text, limited, samples_text, sentences, series_level_text, series_text, tickets_text};
use super::svg::{Canvas, Rect};
use super::theme::{self, look};
use super::transfer_error::comparable;
use super::{FigureChrome, Plot};
use crate::statistics::percent;
use crate::{ConnectionRow, Interval, IntervalMethod, Report, Summary, TransferRow};

const COLUMNS: usize = 2;
const MOST_PANELS: usize = 12;
/// The largest part of the highest mean by which bands may exceed it.
const BEYOND: f64 = 0.6;
/// The smallest number of values whose interval of Student's t is drawn; over two, it is thirteen times as wide as
/// their distance.
const FEWEST_OF_T: usize = 3;

/// The lowest end of an axis of barriers, in percentage points.
const LEAST_BARRIERS: f64 = 5.0;

/// The highest end of an axis of errors, which leaves room for a marker at 100 %.
const MOST_ERROR: f64 = 102.0;

/// A mean at one remaining ratio.
pub(super) struct Point {
    pub ratio: f64,
    pub mean: f64,
    pub band: Option<Band>,
    pub text: String,
    pub runs: Vec<RunId>,
}

/// A confidence interval, or one standard deviation to both sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Band {
    pub low: f64,
    pub high: f64,
    pub is_interval: bool,
}

impl Band {
    fn within(self, least: f64, most: f64) -> Band {
        Band { low: self.low.clamp(least, most), high: self.high.clamp(least, most), ..self }
    }
}

pub(super) struct Series {
    method: Option<Method>,
    inherit: Option<Inherit>,
    /// The points from dense to sparse.
    points: Vec<Point>,
}

pub(super) struct Group {
    /// Panels of one kind share their y axis; those of others may have numbers of another size.
    pub kind: Option<Between>,
    pub heading: Vec<String>,
    pub series: Vec<Series>,
    /// Lines across the panel: dense networks.
    pub dense: Vec<Point>,
}

impl Group {
    fn points(&self) -> impl Iterator<Item = &Point> {
        self.series.iter().flat_map(|series| &series.points).chain(&self.dense)
    }
}

/// Draws the test error of transfers, unless all are of a single level.
pub(super) fn draw_errors(report: &Report, chrome: FigureChrome) -> Option<Plot> {
    let (rows, dense): (Vec<&TransferRow>, Vec<&TransferRow>) =
        report.transfers.iter().partition(|row| row.method.is_some());
    let groups = grouped(rows, |row| (row.problem, &row.axes)).into_iter().map(|rows| Group {
        kind: None,
        heading: axes_text(&rows[0].axes).into_iter().collect(),
        series: all_series(&rows, |row| (row.method, Some(row.inherit)), error_point),
        dense: (dense.iter().filter(|row| comparable((row.problem, &row.axes), (rows[0].problem, &rows[0].axes))))
            .filter_map(|row| error_point(row))
            .collect(),
    });
    let summaries = report.transfers.iter().filter(|row| row.method.is_some()).filter_map(|row| row.summary.as_ref());
    let tickets = tickets_text(report.transfers.iter().map(|row| row.tickets));
    let lines = &format!("Lines: mean over {}.", tickets.unwrap_or("seeds".to_string()));
    let name = ("error-by-ratio.svg", "Test error by remaining weights");
    let fit = |low, high| 0.0..from_zero(low, high).end.min(MOST_ERROR);
    plot_lines(chrome, name, "test error, %", lines, groups.collect(), summaries, fit)
}

/// Draws the barriers of paths, with a panel for each kind of path.
pub(super) fn draw_barriers(report: &Report, chrome: FigureChrome) -> Option<Plot> {
    let is_dense = |row: &&ConnectionRow| row.inherit == Some(Inherit::Dense);
    let (dense, rows): (Vec<&ConnectionRow>, Vec<&ConnectionRow>) = report.connections.iter().partition(is_dense);
    let belongs = |dense: &ConnectionRow, row: &ConnectionRow| {
        dense.between == row.between && comparable((dense.problem, &dense.axes), (row.problem, &row.axes))
    };
    let left_out = dense.iter().any(|dense| !rows.iter().any(|row| belongs(dense, row)));
    let groups = grouped(rows, |row| (row.between, row.problem, &row.axes)).into_iter().map(|rows| Group {
        kind: Some(rows[0].between),
        heading: std::iter::once(between_text(rows[0].between)).chain(axes_text(&rows[0].axes)).collect(),
        series: all_series(&rows, |row| (row.method, row.inherit), barrier_point),
        dense: dense.iter().filter(|dense| belongs(dense, rows[0])).filter_map(|row| barrier_point(row)).collect(),
    });
    let summaries = report.connections.iter().filter(|row| !is_dense(row)).filter_map(|row| row.summary.as_ref());
    let tickets = tickets_text(report.connections.iter().map(|row| row.tickets));
    let of_tickets = tickets.map_or(String::new(), |tickets| format!(" of {tickets}"));
    let mut lines = format!("Lines: mean barrier over pairs of networks{of_tickets}.");
    if left_out {
        lines += " Dense networks whose barriers were measured otherwise are left out.";
    }
    let lines = &lines;
    let name = ("barrier-by-ratio.svg", "Barrier by remaining weights");
    // A tiny barrier must not look large.
    let fit = |low, high: f64| from_zero(low, high.max(LEAST_BARRIERS));
    plot_lines(chrome, name, "barrier, points", lines, groups.collect(), summaries, fit)
}

/// Returns the y axis of errors and barriers. A barrier may lie below zero.
fn from_zero(low: f64, high: f64) -> Range<f64> {
    1.08 * low.min(0.0)..1.08 * high.max(0.1)
}

pub(super) fn between_text(between: Between) -> String {
    match between {
        Between::Seeds => "between seeds".to_string(),
        Between::NormInit => "a ticket to itself with initial norms".to_string(),
        Between::Retrain => "transfer to retrained ticket".to_string(),
        Between::Levels => "ticket to the level before".to_string(),
        Between::Tickets => "between tickets".to_string(),
        Between::Plane => "in a plane".to_string(),
    }
}

pub(super) fn all_series<R>(
    rows: &[&R],
    key: impl Fn(&R) -> (Option<Method>, Option<Inherit>),
    point: impl Fn(&R) -> Option<Point>,
) -> Vec<Series> {
    let series = grouped(rows.iter().copied(), |row| key(row)).into_iter().map(|rows| {
        let (method, inherit) = key(rows[0]);
        let mut points: Vec<Point> = rows.into_iter().filter_map(&point).filter(|point| point.ratio > 0.0).collect();
        points.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
        Series { method, inherit, points }
    });
    series.filter(|series| !series.points.is_empty()).collect()
}

fn error_point(row: &TransferRow) -> Option<Point> {
    let mean = row.error_mean.filter(|mean| mean.is_finite())?;
    let mut text = series_level_text(row.method, Some(row.inherit), row.level, row.remaining_ratio);
    text += &format!(": {mean:.1} %");
    if let Some(std) = row.error_std {
        text += &format!(" ± {std:.1}");
    }
    text += &format!(", {}{}", samples_text(row.tickets, row.seeds, "seed"), interval_text(row.summary.as_ref()));
    Some(Point {
        ratio: row.remaining_ratio?,
        mean,
        band: drawn_band(row.summary.as_ref(), mean, row.error_std).map(|band| band.within(0.0, 100.0)),
        text,
        runs: row.errors.iter().map(|seed| seed.run.clone()).collect(),
    })
}

fn barrier_point(row: &ConnectionRow) -> Option<Point> {
    let mean = row.barrier_mean.filter(|mean| mean.is_finite())?;
    let mut text = series_level_text(row.method, row.inherit, row.level, row.remaining_ratio);
    text += &format!(": barrier {mean:.1} points");
    if let Some(max) = row.barrier_max.filter(|_| row.pairs > 1) {
        text += &format!(" (max {max:.1})");
    }
    text += &format!(", {}{}", samples_text(row.tickets, row.pairs, "pair"), interval_text(row.summary.as_ref()));
    Some(Point {
        ratio: row.remaining_ratio?,
        mean,
        band: drawn_band(row.summary.as_ref(), mean, row.summary.and_then(|summary| summary.std)),
        text,
        runs: distinct(row.paths.iter().map(|pair| pair.run.clone())),
    })
}

fn band(summary: Option<&Summary>, mean: f64, std: Option<f64>) -> Option<Band> {
    let interval = summary.and_then(|summary| summary.interval);
    let interval = interval.map(|interval| Band { low: interval.low, high: interval.high, is_interval: true });
    let band = interval.or(std.map(|std| Band { low: mean - std, high: mean + std, is_interval: false }));
    band.filter(|band| (band.high - band.low).is_finite())
}

/// Returns the band of a mean; `None` for an interval of Student's t over too few numbers.
fn drawn_band(summary: Option<&Summary>, mean: f64, std: Option<f64>) -> Option<Band> {
    if summary.is_some_and(is_hardly_known) { None } else { band(summary, mean, std) }
}

pub(super) fn is_hardly_known(summary: &Summary) -> bool {
    let is_t = |interval: Interval| interval.method == IntervalMethod::T && interval.independent < FEWEST_OF_T;
    summary.interval.is_some_and(is_t)
}

pub(super) fn interval_text(summary: Option<&Summary>) -> String {
    summary.and_then(|summary| summary.interval).map_or(String::new(), |interval| {
        format!(", {} % interval {:.1} to {:.1}", percent(interval.level), interval.low, interval.high)
    })
}

/// A panel for each group. `fit` makes the y axis of the lowest and the highest number; `summaries` determine the
/// meaning of bands.
pub(super) fn plot_lines<'a>(
    chrome: FigureChrome,
    (file, title): (&'static str, &'static str),
    y: &str,
    lines: &str,
    groups: Vec<Group>,
    summaries: impl Iterator<Item = &'a Summary>,
    fit: impl Fn(f64, f64) -> Range<f64>,
) -> Option<Plot> {
    // One point makes no line.
    let draws = |group: &Group| group.series.iter().any(|series| series.points.len() > 1);
    let (mut groups, left_out) = limited(groups.into_iter().filter(draws).collect(), MOST_PANELS, "panels");
    if groups.is_empty() {
        return None;
    }
    // Dense networks are lines across the panel.
    groups.iter_mut().flat_map(|group| &mut group.dense).for_each(|point| point.band = None);
    drop_deviations_beside_intervals(&mut groups);
    let frames = frames(&groups, fit);
    let bands = describe_bands(&groups, &frames, &summaries.collect::<Vec<_>>());
    let several_scales = frames.iter().any(|frame| frame.y != frames[0].y);
    let is_dense = groups.iter().any(|group| !group.dense.is_empty());
    let caption = sentences([
        Some(lines),
        bands.as_deref(),
        is_dense.then_some("Across: dense networks."),
        several_scales.then_some("Each kind of path has a scale of its own."),
        left_out.as_deref(),
    ]);
    let figure = Figure {
        chrome,
        title,
        legend: legend(&groups),
        x: "remaining weights, %",
        y,
        caption,
        size: if groups.len() == 1 { (430.0, 250.0) } else { (300.0, 180.0) },
        room: TICKS,
        scale: None,
        panels: Panel::grid(groups.iter().map(|group| group.heading.clone()), COLUMNS),
    };
    Some(figure.plot(file, |index, canvas, area| draw_group(canvas, area, &frames[index], &groups[index])))
}

/// Removes the bands of deviations if there are intervals: bands of two kinds in one figure could not be distinguished.
fn drop_deviations_beside_intervals(groups: &mut [Group]) {
    if bands(groups).any(|band| band.is_interval) {
        let points = groups.iter_mut().flat_map(|group| &mut group.series).flat_map(|series| &mut series.points);
        points.for_each(|point| point.band = point.band.filter(|band| band.is_interval));
    }
}

fn bands(groups: &[Group]) -> impl Iterator<Item = Band> {
    groups.iter().flat_map(Group::points).filter_map(|point| point.band)
}

/// Returns the sentences about bands; `None` if there are none.
fn describe_bands(groups: &[Group], frames: &[Frame], summaries: &[&Summary]) -> Option<String> {
    let has_intervals = bands(groups).next()?.is_interval;
    let kind = match summaries.iter().find_map(|summary| summary.interval.filter(|_| has_intervals)) {
        Some(Interval { level, .. }) => {
            let methods = Interval::describe_all(summaries.iter().filter_map(|summary| summary.interval));
            format!("Bands: {} % confidence interval of the mean ({}).", percent(level), methods.unwrap_or_default())
        }
        None => "Bands: one standard deviation between the networks of one ticket, no confidence interval.".to_string(),
    };
    let few = summaries.iter().any(|summary| is_hardly_known(summary));
    let none_of_few = format!("No band for fewer than {FEWEST_OF_T}.");
    let is_cut = |(group, frame): (&Group, &Frame)| {
        group.points().filter_map(|point| point.band).any(|band| band.high > frame.y.end)
    };
    Some(sentences([
        Some(kind.as_str()),
        few.then_some(none_of_few.as_str()),
        groups.iter().zip(frames).any(is_cut).then_some("Bands that reach far beyond all means are cut."),
    ]))
}

fn legend(groups: &[Group]) -> Vec<Key> {
    let series = groups.iter().flat_map(|group| &group.series).map(|series| (series.method, series.inherit));
    let mut keys: Vec<Key> = distinct(series)
        .into_iter()
        .map(|(method, inherit)| Key {
            look: look(method, inherit),
            line: Some(theme::LINE),
            has_marker: true,
            text: series_text(method, inherit),
        })
        .collect();
    if groups.iter().any(|group| !group.dense.is_empty()) {
        let look = look(None, Some(Inherit::Dense));
        keys.push(Key { look, line: Some(theme::MEDIUM_LINE), has_marker: false, text: "dense".to_string() });
    }
    keys
}

/// The axes of a panel.
struct Frame {
    /// Percent of the weights, from dense to sparse.
    x: Axis,
    y: Range<f64>,
    ticks: Vec<Tick>,
}

/// Returns the axes of each group. All groups share their x axis, those of one kind their y axis.
fn frames(groups: &[Group], fit: impl Fn(f64, f64) -> Range<f64>) -> Vec<Frame> {
    let of_series = groups.iter().flat_map(|group| &group.series).flat_map(|series| &series.points);
    let ratios: Vec<f64> = of_series.map(|point| point.ratio).collect();
    let (sparse, dense) = (ratios.iter().copied().fold(1.0, f64::min), ratios.iter().copied().fold(0.0, f64::max));
    let rim = (dense / sparse).powf(0.04).max(1.01);
    let x = Axis::logarithmic(100.0 * dense * rim, 100.0 * sparse / rim);
    let frame = |group: &Group| {
        let alike = || groups.iter().filter(|other| other.kind == group.kind).flat_map(Group::points);
        let means = || alike().map(|point| point.mean);
        let lowest = means().fold(f64::INFINITY, f64::min);
        let highest = means().fold(f64::NEG_INFINITY, f64::max);
        // An interval over few seeds may be so wide that lines could not be distinguished.
        let most = highest + BEYOND * highest.abs();
        let bands = alike().filter_map(|point| point.band).map(|band| band.high.min(most));
        Frame { x, y: fit(lowest, bands.fold(highest, f64::max)), ticks: ratio_ticks(&ratios) }
    };
    groups.iter().map(frame).collect()
}

fn draw_group(canvas: &mut Canvas, area: Rect, frame: &Frame, group: &Group) {
    let mut chart = Chart::new(canvas, area, (frame.x, &frame.ticks), frame.y.clone());
    for series in &group.series {
        let band: Vec<(f64, f64, f64)> = (series.points.iter())
            .filter_map(|point| {
                // Shapes outside of the panel would be drawn over its neighbours.
                let Band { low, high, .. } = point.band?.within(frame.y.start, frame.y.end);
                Some((100.0 * point.ratio, low, high))
            })
            .collect();
        chart.band(&band, theme::color(series.method));
    }
    for dense in &group.dense {
        chart.level(dense.mean, look(None, Some(Inherit::Dense)).line(theme::MEDIUM_LINE));
        let (_, y) = chart.place((frame.x.from, dense.mean));
        let beside = Rect { top: y - 3.0, bottom: y + 3.0, ..area };
        chart.canvas.values.within(beside, dense.text.clone(), &dense.runs);
    }
    for series in &group.series {
        let look = look(series.method, series.inherit);
        let line: Vec<(f64, f64)> = series.points.iter().map(|point| (100.0 * point.ratio, point.mean)).collect();
        chart.line(&line, look.line(theme::LINE));
        for (point, at) in series.points.iter().zip(line) {
            chart.marker(at, look, 1.0);
            chart.value(at, point.text.clone(), &point.runs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Tooltip, levels, neighbours, texts, tooltips};
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_testkit::study::Study;

    fn starting_with<'a>(marks: &'a [Tooltip], start: &str) -> Vec<&'a Tooltip> {
        marks.iter().filter(|tooltip| tooltip.text.starts_with(start)).collect()
    }

    #[test]
    fn every_mean_has_a_marker_from_dense_to_sparse() {
        let report = levels();
        let plot = draw_errors(&report, FigureChrome::Full).unwrap();
        let marks = tooltips(&plot.svg);
        // Eight series of thirteen levels, and dense networks.
        assert_eq!(marks.len(), 8 * 13 + 1);
        let sign = starting_with(&marks, "AWS sign, level ");
        let columns: Vec<f64> = sign.iter().map(|tooltip| tooltip.at.0).collect();
        assert!(columns.windows(2).all(|pair| pair[0] < pair[1]), "{columns:?}");
        // Equal ratios are equal steps; coordinates have two decimals.
        let steps: Vec<f64> = columns.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(steps.iter().all(|step| (step - steps[0]).abs() < 0.02), "{steps:?}");

        let last = sign.last().unwrap();
        let start = "AWS sign, level 12 (6.9 % remaining): 3.0 % ± 0.8, 3 tickets, 6 seeds, 95 % interval ";
        assert!(last.text.starts_with(start), "{}", last.text);
        let row = report.transfers.iter().find(|row| row.level == 12 && row.method == Some(Method::Aws)).unwrap();
        let runs: Vec<&str> = row.errors.iter().map(|seed| seed.run.as_str()).collect();
        assert_eq!(last.runs, runs[..5]);
        // The largest mean is the highest mark.
        let highest = marks.iter().min_by(|a, b| a.at.1.total_cmp(&b.at.1)).unwrap();
        assert!(highest.text.starts_with("AWS mask, level 12 (6.9 % remaining): 14.3 % ± 3.5"), "{}", highest.text);
        assert_eq!(starting_with(&marks, "dense: 3.0 % ± 1.0, 3 seeds").len(), 1);
        assert_eq!(
            plot.caption,
            "Lines: mean over 3 tickets. Bands: 95 % confidence interval of the mean (Student's t over 3 tickets). \
             Across: dense networks."
        );
    }

    /// Dense networks have an interval of their own, and no band: bands are those of the lines.
    #[test]
    fn bands_beside_dense_networks_are_those_of_the_lines() {
        let mut study = Study::new(&[6, 12], &[2, 3, 4], &[vec![]]);
        study.add_dense(&[2, 3, 4]);
        let plot = draw_errors(&study.report(), FigureChrome::Full).unwrap();
        assert!(plot.caption.contains("Bands: one standard deviation between"), "{}", plot.caption);
        assert!(plot.caption.contains("Across: dense networks."), "{}", plot.caption);
        assert_eq!(plot.svg.matches(&format!("opacity=\"{}\"", theme::BAND)).count(), 8);
    }

    #[test]
    fn band_is_the_interval_or_else_the_deviation() {
        let mut report = levels();
        for row in &mut report.transfers {
            row.summary = None;
        }
        let plot = draw_errors(&report, FigureChrome::Full).unwrap();
        assert!(plot.caption.contains("Bands: one standard deviation between"), "{}", plot.caption);
        let bands = plot.svg.matches(&format!("opacity=\"{}\"", theme::BAND)).count();
        assert_eq!(bands, 8);
        assert_eq!(band(None, 3.0, Some(1.0)), Some(Band { low: 2.0, high: 4.0, is_interval: false }));
        assert_eq!(band(None, 3.0, None), None);
        assert_eq!(band(None, 3.0, Some(f64::NAN)), None);
    }

    /// If the caption mentions intervals, all bands are intervals.
    #[test]
    fn row_without_an_interval_beside_others_has_no_band() {
        let mut report = levels();
        let bands = |report: &Report| {
            let plot = draw_errors(report, FigureChrome::Full).unwrap();
            assert!(plot.caption.contains("Bands: 95 % confidence interval"), "{}", plot.caption);
            plot.svg.matches(&format!("opacity=\"{}\"", theme::BAND)).count()
        };
        assert_eq!(bands(&report), 8);
        for row in report.transfers.iter_mut().filter(|row| row.method == Some(Method::Aws)) {
            row.summary.as_mut().unwrap().interval = None;
        }
        assert_eq!(bands(&report), 4);
    }

    #[test]
    fn bands_of_errors_are_errors_and_none_are_of_two_seeds() {
        let mut report = levels();
        let bands = |report: &Report| {
            let points = report.transfers.iter().filter_map(error_point);
            points.filter_map(|point| point.band.map(|band| (band.low, band.high))).collect::<Vec<_>>()
        };
        let all = bands(&report).len();
        for summary in report.transfers.iter_mut().filter_map(|row| row.summary.as_mut()) {
            summary.interval = summary.interval.map(|interval| Interval { low: -40.0, high: 155.0, ..interval });
        }
        assert_eq!(bands(&report), vec![(0.0, 100.0); all]);
        let plot = draw_errors(&report, FigureChrome::Full).unwrap();
        assert!(!plot.caption.contains("No band for fewer"), "{}", plot.caption);
        for axis in ["120", "110"] {
            assert!(!texts(&plot.svg).contains(&axis.to_string()), "{axis}");
        }

        let row = report.transfers.iter_mut().find(|row| row.level == 12).unwrap();
        row.summary.as_mut().unwrap().interval.as_mut().unwrap().independent = 2;
        assert_eq!(bands(&report).len(), all - 1);
        let plot = draw_errors(&report, FigureChrome::Full).unwrap();
        assert!(plot.caption.contains("No band for fewer than 3."), "{}", plot.caption);
        // Percentiles of two are no wider than the two.
        let row = report.transfers.iter_mut().find(|row| row.level == 12).unwrap();
        row.summary.as_mut().unwrap().interval.as_mut().unwrap().method = IntervalMethod::Bootstrap;
        assert_eq!(bands(&report).len(), all);
    }

    /// Those between networks of a mask are twenty times as high as those to a ticket with other norms.
    #[test]
    fn every_kind_of_path_has_a_scale_of_its_own() {
        let plot = draw_barriers(&levels(), FigureChrome::Full).unwrap();
        assert!(plot.caption.contains("Each kind of path has a scale of its own."), "{}", plot.caption);
        let marks = tooltips(&plot.svg);
        let height = |series: &str| starting_with(&marks, series).pop().unwrap().at.1;
        // 3.3 points and 0.0; of a scale up to 100, they would lie 6 of 180 pixels apart.
        assert!(height("AWS ticket") - height("LRR ticket") > 50.0);
        assert!(!draw_errors(&levels(), FigureChrome::Full).unwrap().caption.contains("scale"));
    }

    #[test]
    fn dense_networks_measured_otherwise_are_left_out_with_a_note() {
        let mut report = levels();
        let notes_dense_left_out =
            |report: &Report| draw_barriers(report, FigureChrome::Full).unwrap().caption.contains("are left out");
        let sign = report.connections.iter().find(|row| row.inherit == Some(Inherit::Sign)).unwrap();
        let dense = ConnectionRow { inherit: Some(Inherit::Dense), method: None, level: 0, ..sign.clone() };
        report.connections.push(dense.clone());
        assert!(!notes_dense_left_out(&report));
        let axes = vec![("connect.align".to_string(), "weights".to_string())];
        report.connections.push(ConnectionRow { axes, ..dense });
        assert!(notes_dense_left_out(&report));
    }

    #[test]
    fn barriers_have_a_panel_for_each_kind_of_path() {
        let plot = draw_barriers(&levels(), FigureChrome::Full).unwrap();
        let marks = tooltips(&plot.svg);
        assert_eq!((starting_with(&marks, "AWS mask").len(), starting_with(&marks, "AWS ticket").len()), (13, 13));
        let last = starting_with(&marks, "AWS mask").pop().unwrap();
        let text = "AWS mask, level 12 (6.9 % remaining): barrier 42.7 points (max 42.7), 3 tickets, 3 pairs";
        assert!(last.text.starts_with(text), "{}", last.text);
        assert!(plot.svg.contains(">between seeds<") && plot.svg.contains(">a ticket to itself with initial norms<"));
        let plot = draw_barriers(&neighbours(), FigureChrome::Full).unwrap();
        assert!(plot.svg.contains(">ticket to the level before<"));
    }

    #[test]
    fn wide_bands_leave_room_for_lines() {
        let mut report = levels();
        let before = draw_errors(&report, FigureChrome::Full).unwrap();
        assert!(!before.caption.contains("are cut"));
        for row in &mut report.transfers {
            if let Some(Interval { high, .. }) = row.summary.as_mut().and_then(|summary| summary.interval.as_mut()) {
                *high *= 20.0;
            }
        }
        let after = draw_errors(&report, FigureChrome::Full).unwrap();
        assert!(after.caption.contains("Bands that reach far beyond all means are cut."), "{}", after.caption);
        let highest =
            |plot: &Plot| tooltips(&plot.svg).iter().map(|tooltip| tooltip.at.1).fold(f64::INFINITY, f64::min);
        let lowest = |plot: &Plot| tooltips(&plot.svg).iter().map(|tooltip| tooltip.at.1).fold(0.0, f64::max);
        let height = |plot: &Plot| lowest(plot) - highest(plot);
        assert!(height(&after) > 0.55 * 250.0, "{} of {}", height(&after), height(&before));
    }

    #[test]
    fn single_level_has_no_figure() {
        let report = Study::digits().report();
        assert!(
            draw_errors(&report, FigureChrome::Full).is_none() && draw_barriers(&report, FigureChrome::Full).is_none()
        );
    }
}
