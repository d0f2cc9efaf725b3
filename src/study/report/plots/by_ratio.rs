//! Something measured at every level, against the weights that remain: one line a method and what was transferred, from
//! dense on the left to sparse on the right, with a band around it. Of errors it is the main figure of a study.

use plotters::prelude::*;

use super::Plot;
use super::chart::{Tick, chart, decades_below_one, draw_band, draw_level, draw_line, draw_marker, place, ratio_ticks};
use super::figure::{Area, Drawn, Figure, TICKS};
use super::legend::{Key, Sign};
use super::panels::{Panel, axes_text, counted, limited, sentences, series_level_text, series_text};
use super::theme::{self, look};
use super::values::Values;
use crate::run::RunId;
use crate::run::settings::{Between, Inherit, Method};
use crate::study::report::grouping::{distinct, grouped};
use crate::study::report::statistics::sample_std;
use crate::study::report::{ConnectionRow, Report, Summary, TransferRow};

const COLUMNS: usize = 2;
const MOST_PANELS: usize = 12;

/// What is known at one remaining ratio.
struct Point {
    ratio: f64,
    mean: f64,
    /// The ends of the band.
    band: Option<(f64, f64)>,
    text: String,
    runs: Vec<RunId>,
}

struct Series {
    method: Option<Method>,
    inherit: Option<Inherit>,
    /// From dense to sparse.
    points: Vec<Point>,
}

struct Group {
    heading: Vec<String>,
    series: Vec<Series>,
    /// Lines across the panel: dense networks.
    dense: Vec<Point>,
}

/// The test error of transfers; none of a study of a single level.
pub fn draw_errors(report: &Report) -> Option<Plot> {
    let (rows, dense): (Vec<&TransferRow>, Vec<&TransferRow>) =
        report.transfers.iter().partition(|row| row.method.is_some());
    let groups = grouped(rows, |row| &row.axes).into_iter().map(|rows| Group {
        heading: axes_text(&rows[0].axes).into_iter().collect(),
        series: all_series(&rows, |row| (row.method, Some(row.inherit)), |row| error_point(row)),
        // All that the axes of a dense network say must hold for the panel, too.
        dense: (dense.iter().filter(|row| row.axes.iter().all(|axis| rows[0].axes.contains(axis))))
            .filter_map(|row| error_point(row))
            .collect(),
    });
    let summaries = report.transfers.iter().filter_map(|row| row.summary.as_ref());
    let lines = "Lines: mean over seeds.";
    plot("error-by-ratio.svg", "Test error by remaining weights", "test error, %", lines, groups.collect(), summaries)
}

/// The barriers of paths, with panels by what they are between.
pub fn draw_barriers(report: &Report) -> Option<Plot> {
    let groups = grouped(&report.connections, |row| (row.between, &row.axes)).into_iter().map(|rows| Group {
        heading: std::iter::once(between_text(rows[0].between)).chain(axes_text(&rows[0].axes)).collect(),
        series: all_series(&rows, |row| (row.method, row.inherit), |row| barrier_point(row)),
        dense: vec![],
    });
    let summaries = report.connections.iter().filter_map(|row| row.summary.as_ref());
    let lines = "Lines: mean barrier over pairs of networks.";
    plot("barrier-by-ratio.svg", "Barrier by remaining weights", "barrier, points", lines, groups.collect(), summaries)
}

fn between_text(between: Between) -> String {
    match between {
        Between::Seeds => "between seeds".to_string(),
        Between::NormInit => "a ticket to itself with initial norms".to_string(),
        Between::Retrain => "transfer to retrained ticket".to_string(),
        Between::Levels => "ticket to the level before".to_string(),
        Between::Tickets => "between tickets".to_string(),
        Between::Plane => "in a plane".to_string(),
    }
}

fn all_series<R>(
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

fn plot<'a>(
    file: &'static str,
    title: &'static str,
    y: &str,
    lines: &str,
    groups: Vec<Group>,
    mut summaries: impl Iterator<Item = &'a Summary>,
) -> Option<Plot> {
    // A line of one point is none.
    let draws = |group: &Group| group.series.iter().any(|series| series.points.len() > 1);
    let (groups, left_out) = limited(groups.into_iter().filter(draws).collect(), MOST_PANELS, "panels");
    if groups.is_empty() {
        return None;
    }
    let band = match summaries.find_map(|summary| summary.interval) {
        Some(interval) => {
            format!("Bands: {:.0} % confidence interval of the mean ({}).", 100.0 * interval.level, interval.method)
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

    let frame = Frame::around(&groups);
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
    x: std::ops::Range<f64>,
    y: std::ops::Range<f64>,
    ticks: Vec<Tick>,
}

impl Frame {
    fn around(groups: &[Group]) -> Frame {
        let of_series = groups.iter().flat_map(|group| &group.series).flat_map(|series| &series.points);
        let ratios: Vec<f64> = of_series.map(|point| point.ratio).collect();
        let (sparse, dense) = (ratios.iter().copied().fold(1.0, f64::min), ratios.iter().copied().fold(0.0, f64::max));
        let (left, right) = (decades_below_one(dense), decades_below_one(sparse));
        let rim = 0.04 * (right - left).max(0.1);
        let tops = points(groups).map(|point| point.band.map_or(point.mean, |(_, high)| high.max(point.mean)));
        let bottoms = points(groups).map(|point| point.mean);
        Frame {
            x: left - rim..right + rim,
            // Errors begin at zero; a barrier may lie below.
            y: 1.08 * bottoms.fold(0.0, f64::min)..1.08 * tops.fold(0.1, f64::max),
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
