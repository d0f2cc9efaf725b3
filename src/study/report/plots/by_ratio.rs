//! Something measured at every level, against the weights that remain: one line a method and what was transferred, from
//! dense on the left to sparse on the right, with a band around it. Of errors it is the main figure of a study.

use std::ops::Range;

use plotters::prelude::*;

use super::Plot;
use super::chart::{Tick, chart, decades_below_one, draw_band, draw_level, draw_line, draw_marker, place, ratio_ticks};
use super::figure::{Area, Drawn, Figure, TICKS};
use super::legend::{Key, Sign};
use super::panels::{Panel, axes_text, counted, limited, sentences, series_level_text, series_text};
use super::theme::{self, look};
use super::transfer_error::comparable;
use super::values::Values;
use crate::run::RunId;
use crate::run::settings::{Between, Inherit, Method};
use crate::study::report::grouping::{distinct, grouped};
use crate::study::report::statistics::sample_std;
use crate::study::report::{ConnectionRow, Interval, IntervalMethod, Report, Summary, TransferRow};

const COLUMNS: usize = 2;
const MOST_PANELS: usize = 12;

/// What is known at one remaining ratio.
pub struct Point {
    pub ratio: f64,
    pub mean: f64,
    /// The ends of the band.
    pub band: Option<(f64, f64)>,
    pub text: String,
    pub runs: Vec<RunId>,
}

pub struct Series {
    method: Option<Method>,
    inherit: Option<Inherit>,
    /// From dense to sparse.
    points: Vec<Point>,
}

pub struct Group {
    pub heading: Vec<String>,
    pub series: Vec<Series>,
    /// Lines across the panel: dense networks.
    pub dense: Vec<Point>,
}

/// The test error of transfers; none of a study of a single level.
pub fn draw_errors(report: &Report) -> Option<Plot> {
    let (rows, dense): (Vec<&TransferRow>, Vec<&TransferRow>) =
        report.transfers.iter().partition(|row| row.method.is_some());
    let groups = grouped(rows, |row| (row.problem, &row.axes)).into_iter().map(|rows| Group {
        heading: axes_text(&rows[0].axes).into_iter().collect(),
        series: all_series(&rows, |row| (row.method, Some(row.inherit)), |row| error_point(row)),
        dense: (dense.iter().filter(|row| comparable(row, rows[0]))).filter_map(|row| error_point(row)).collect(),
    });
    let summaries = report.transfers.iter().filter_map(|row| row.summary.as_ref());
    let lines = "Lines: mean over seeds.";
    let title = "Test error by remaining weights";
    plot_lines("error-by-ratio.svg", title, "test error, %", lines, groups.collect(), summaries, from_zero)
}

/// The barriers of paths, with panels by what they are between.
pub fn draw_barriers(report: &Report) -> Option<Plot> {
    let groups =
        grouped(&report.connections, |row| (row.between, row.problem, &row.axes)).into_iter().map(|rows| Group {
            heading: std::iter::once(between_text(rows[0].between)).chain(axes_text(&rows[0].axes)).collect(),
            series: all_series(&rows, |row| (row.method, row.inherit), |row| barrier_point(row)),
            dense: vec![],
        });
    let summaries = report.connections.iter().filter_map(|row| row.summary.as_ref());
    let lines = "Lines: mean barrier over pairs of networks.";
    let title = "Barrier by remaining weights";
    plot_lines("barrier-by-ratio.svg", title, "barrier, points", lines, groups.collect(), summaries, from_zero)
}

/// The y axis of errors and barriers. A barrier may lie below zero.
fn from_zero(low: f64, high: f64) -> Range<f64> {
    1.08 * low.min(0.0)..1.08 * high.max(0.1)
}

pub fn between_text(between: Between) -> String {
    match between {
        Between::Seeds => "between seeds".to_string(),
        Between::NormInit => "a ticket to itself with initial norms".to_string(),
        Between::Retrain => "transfer to retrained ticket".to_string(),
        Between::Levels => "ticket to the level before".to_string(),
        Between::Tickets => "between tickets".to_string(),
        Between::Plane => "in a plane".to_string(),
    }
}

pub fn all_series<R>(
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
    text += &format!(", {}{}", counted(row.seeds, "seed"), interval_text(row.summary.as_ref()));
    Some(Point {
        ratio: row.remaining_ratio?,
        mean,
        band: band(row.summary.as_ref(), mean, row.error_std),
        text,
        runs: row.errors.iter().map(|seed| seed.run.clone()).collect(),
    })
}

fn barrier_point(row: &ConnectionRow) -> Option<Point> {
    let mean = row.barrier_mean.filter(|mean| mean.is_finite())?;
    let barriers: Vec<f64> = row.paths.iter().map(|pair| pair.barrier).collect();
    let mut text = series_level_text(row.method, row.inherit, row.level, row.remaining_ratio);
    text += &format!(": barrier {mean:.1} points");
    if let Some(max) = row.barrier_max.filter(|_| row.pairs > 1) {
        text += &format!(" (max {max:.1})");
    }
    text += &format!(", {}{}", counted(row.pairs, "pair"), interval_text(row.summary.as_ref()));
    Some(Point {
        ratio: row.remaining_ratio?,
        mean,
        band: band(row.summary.as_ref(), mean, sample_std(&barriers)),
        text,
        runs: distinct(row.paths.iter().map(|pair| pair.run.clone())),
    })
}

fn band(summary: Option<&Summary>, mean: f64, std: Option<f64>) -> Option<(f64, f64)> {
    let interval = summary.and_then(|summary| summary.interval).map(|interval| (interval.low, interval.high));
    interval.or(std.map(|std| (mean - std, mean + std))).filter(|(low, high)| (high - low).is_finite())
}

fn interval_text(summary: Option<&Summary>) -> String {
    summary.and_then(|summary| summary.interval).map_or(String::new(), |interval| {
        format!(", {:.0} % interval {:.1} to {:.1}", 100.0 * interval.level, interval.low, interval.high)
    })
}

/// A panel for each group. `fit` makes the y axis of the lowest and the highest number; `summaries` say what bands are.
#[allow(clippy::too_many_arguments)]
pub fn plot_lines<'a>(
    file: &'static str,
    title: &'static str,
    y: &str,
    lines: &str,
    groups: Vec<Group>,
    mut summaries: impl Iterator<Item = &'a Summary>,
    fit: impl Fn(f64, f64) -> Range<f64>,
) -> Option<Plot> {
    // One point makes no line.
    let draws = |group: &Group| group.series.iter().any(|series| series.points.len() > 1);
    let (groups, left_out) = limited(groups.into_iter().filter(draws).collect(), MOST_PANELS, "panels");
    if groups.is_empty() {
        return None;
    }
    let band = match summaries.find_map(|summary| summary.interval) {
        Some(Interval { level, method, .. }) => {
            let method = match method {
                IntervalMethod::T => "Student's t",
                IntervalMethod::Bootstrap => "bootstrap",
            };
            format!("Bands: {:.0} % confidence interval of the mean ({method}).", 100.0 * level)
        }
        None => "Bands: one standard deviation.".to_string(),
    };
    let has_band = points(&groups).any(|point| point.band.is_some());
    let is_dense = groups.iter().any(|group| !group.dense.is_empty());
    let caption = sentences([
        Some(lines),
        has_band.then_some(band.as_str()),
        is_dense.then_some("Across: dense networks."),
        left_out.as_deref(),
    ]);

    let frame = Frame::around(&groups, fit);
    let figure = Figure {
        title,
        legend: legend(&groups),
        x: "remaining weights, %",
        y,
        caption,
        size: if groups.len() == 1 { (860, 500) } else { (600, 360) },
        room: TICKS,
        scale: None,
        panels: Panel::grid(groups.iter().map(|group| group.heading.clone()), COLUMNS),
    };
    Some(figure.plot(file, |index, area, values| draw_group(area, &frame, &groups[index], values)))
}

fn points(groups: &[Group]) -> impl Iterator<Item = &Point> {
    groups.iter().flat_map(|group| group.series.iter().flat_map(|series| &series.points).chain(&group.dense))
}

fn legend(groups: &[Group]) -> Vec<Key> {
    let series = groups.iter().flat_map(|group| &group.series).map(|series| (series.method, series.inherit));
    let mut keys: Vec<Key> = distinct(series)
        .into_iter()
        .map(|(method, inherit)| Key {
            look: look(method, inherit),
            sign: Sign::Line,
            text: series_text(method, inherit),
        })
        .collect();
    if groups.iter().any(|group| !group.dense.is_empty()) {
        let look = look(None, Some(Inherit::Dense));
        keys.push(Key { look, sign: Sign::BareLine(theme::THIN_LINE + 1), text: "dense".to_string() });
    }
    keys
}

/// The axes, the same of all panels.
struct Frame {
    x: Range<f64>,
    y: Range<f64>,
    ticks: Vec<Tick>,
}

impl Frame {
    fn around(groups: &[Group], fit: impl Fn(f64, f64) -> Range<f64>) -> Frame {
        let of_series = groups.iter().flat_map(|group| &group.series).flat_map(|series| &series.points);
        let ratios: Vec<f64> = of_series.map(|point| point.ratio).collect();
        let (sparse, dense) = (ratios.iter().copied().fold(1.0, f64::min), ratios.iter().copied().fold(0.0, f64::max));
        let (left, right) = (decades_below_one(dense), decades_below_one(sparse));
        let rim = 0.04 * (right - left).max(0.1);
        let tops = points(groups).map(|point| point.band.map_or(point.mean, |(_, high)| high.max(point.mean)));
        let bottoms = points(groups).map(|point| point.mean);
        Frame {
            x: left - rim..right + rim,
            y: fit(bottoms.fold(f64::INFINITY, f64::min), tops.fold(f64::NEG_INFINITY, f64::max)),
            ticks: ratio_ticks(dense, sparse),
        }
    }
}

fn draw_group(area: &Area, frame: &Frame, group: &Group, values: &mut Values) -> Drawn {
    let mut chart = chart(area, TICKS, frame.x.clone(), frame.y.clone(), &frame.ticks)?;
    let floor = frame.y.start;
    for series in &group.series {
        let band: Vec<(f64, f64, f64)> = (series.points.iter())
            .filter_map(|point| {
                let (low, high) = point.band?;
                // What lies below the axis would be drawn over its numbers.
                Some((decades_below_one(point.ratio), low.max(floor), high.max(floor)))
            })
            .collect();
        draw_band(&mut chart, look(series.method, series.inherit).color, &band)?;
    }
    for dense in &group.dense {
        let look = look(None, Some(Inherit::Dense));
        draw_level(&chart, look.color, look.dash, dense.mean)?;
        let ends = [frame.x.start, frame.x.end].map(|x| place(&chart, (x, dense.mean)));
        values.within((ends[0].0, ends[0].1 - 6), (ends[1].0, ends[1].1 + 6), dense.text.clone(), &dense.runs);
    }
    for series in &group.series {
        let look = look(series.method, series.inherit);
        let line: Vec<(f64, f64)> =
            series.points.iter().map(|point| (decades_below_one(point.ratio), point.mean)).collect();
        draw_line(&chart, look.color.to_rgba(), theme::LINE, look.dash, &line)?;
        for (point, at) in series.points.iter().zip(line) {
            draw_marker(chart.plotting_area(), &look, at)?;
            values.at(place(&chart, at), point.text.clone(), &point.runs);
        }
    }
    Ok(())
}
