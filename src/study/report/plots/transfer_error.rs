//! The test error by what was transferred: every seed a marker, their mean a bar or a line.
//!
//! With few levels there is a panel for each level, with the methods side by side; with many there is one for each
//! kind of transfer, in which the error goes over the levels. The error of dense networks is a line across all panels.

use std::hash::Hash;
use std::iter;

use plotters::prelude::*;

use super::Plot;
use super::figure::{Area, Chart, Drawn, Figure, chart, draw_marker};
use super::panels::{Panel, axes_text, level_text, limited};
use super::theme;
use crate::study::report::grouping::{distinct, grouped};
use crate::study::report::tables::remaining_text;
use crate::study::report::{Report, TransferRow};

const TITLE: &str = "Test error by what was transferred";

/// Up to this many levels have a panel each.
const FEW_LEVELS: usize = 3;

const COLUMNS: usize = 2;
const MOST_PANELS: usize = 12;

/// Markers of one mean that can be told apart.
const MOST_MARKERS: usize = 12;

/// Tick labels under one panel.
const MOST_TICKS: usize = 7;

/// None if no transfer is finished.
pub fn draw(report: &Report) -> Option<Plot> {
    let rows = report.transfers.iter().filter(|row| row.seeds > 0);
    let (mut rows, mut dense): (Vec<&TransferRow>, Vec<&TransferRow>) = rows.partition(|row| row.method.is_some());
    if rows.is_empty() {
        std::mem::swap(&mut rows, &mut dense);
    }
    if rows.is_empty() {
        return None;
    }
    let few = distinct(rows.iter().map(|row| row.level)).len() <= FEW_LEVELS;
    let (caption, svg) = if few { by_transfer(&rows, &dense) } else { over_levels(&rows, &dense) };
    Some(Plot { file: "transfer-error.svg", title: TITLE, caption, svg })
}

/// A panel for each combination of axes and level, a bar for each method and transfer.
fn by_transfer(rows: &[&TransferRow], dense: &[&TransferRow]) -> (String, String) {
    let methods = distinct(rows.iter().map(|row| row.method));
    let inherits = distinct(rows.iter().map(|row| row.inherit));
    let (groups, left_out) = panel_rows(rows, |row| row.level);
    let caption = caption("Bars and numbers", rows, dense, left_out);

    let bar_width = 0.8 / methods.len() as f64;
    let centre_of = |row: &TransferRow| {
        let group = inherits.iter().position(|inherit| *inherit == row.inherit).unwrap_or(0);
        let bar = methods.iter().position(|method| *method == row.method).unwrap_or(0);
        group as f64 + (bar as f64 - (methods.len() - 1) as f64 / 2.0) * bar_width
    };
    let x = -0.5..inherits.len() as f64 - 0.5;
    let y = 0.0..1.15 * highest_error(rows, dense);
    let ticks: Vec<_> = inherits.iter().enumerate().map(|(at, inherit)| (at as f64, inherit.to_string())).collect();
    let draw_panel = |index: usize, area: &Area| -> Drawn {
        let mut chart = chart(area, x.clone(), y.clone(), &ticks)?;
        draw_dense(&mut chart, &groups[index], dense)?;
        for row in &groups[index] {
            draw_bar(&mut chart, row, centre_of(row), 0.42 * bar_width)?;
        }
        Ok(())
    };

    let bars = (methods.len() * inherits.len()).max(4) as i32;
    let figure = Figure {
        title: TITLE,
        legend: &methods,
        x: "transferred",
        y: "test error, %",
        caption: &caption,
        size: if groups.len() == 1 { (bars * 140, 480) } else { (bars * 90, 380) },
        panels: panels(&groups, |row| level_text(row.level, row.remaining_ratio)),
    };
    let svg = figure.draw(draw_panel);
    (caption, svg)
}

fn draw_bar(chart: &mut Chart, row: &TransferRow, centre: f64, half_width: f64) -> Drawn {
    let Some(mean) = row.error_mean else { return Ok(()) };
    let color = theme::color(row.method);
    let (left, right) = (centre - half_width, centre + half_width);
    chart.draw_series([Rectangle::new([(left, mean), (right, 0.0)], color.mix(0.3).filled())])?;
    chart.draw_series([PathElement::new(vec![(left, mean), (right, mean)], color.stroke_width(theme::LINE))])?;
    draw_seeds(chart, row, centre, half_width)?;
    let top = row.errors.iter().map(|seed| seed.error).fold(mean, f64::max);
    let style = theme::text(theme::NOTE, theme::TEXT).pos(theme::CENTER);
    chart.draw_series([EmptyElement::at((centre, top)) + Text::new(format!("{mean:.1}"), (0, -26), style)])?;
    Ok(())
}

/// A panel for each combination of axes and transfer, a line for each method.
fn over_levels(rows: &[&TransferRow], dense: &[&TransferRow]) -> (String, String) {
    let methods = distinct(rows.iter().map(|row| row.method));
    let (groups, left_out) = panel_rows(rows, |row| row.inherit);
    let caption = caption("Lines", rows, dense, left_out);

    let mut levels: Vec<(u32, Option<f64>)> = rows.iter().map(|row| (row.level, row.remaining_ratio)).collect();
    levels.sort_by_key(|(level, _)| *level);
    levels.dedup_by_key(|(level, _)| *level);
    let x = f64::from(levels[0].0) - 0.5..f64::from(levels[levels.len() - 1].0) + 0.5;
    let y = 0.0..1.1 * highest_error(rows, dense);
    // From the last level, which matters most.
    let ticks: Vec<_> = (levels.iter().rev().step_by(levels.len().div_ceil(MOST_TICKS)))
        .map(|&(level, ratio)| (f64::from(level), remaining_text(ratio).trim_end_matches(" %").to_string()))
        .collect();
    let draw_panel = |index: usize, area: &Area| -> Drawn {
        let mut chart = chart(area, x.clone(), y.clone(), &ticks)?;
        draw_dense(&mut chart, &groups[index], dense)?;
        for rows in grouped(&groups[index], |row| row.method) {
            let style = theme::color(rows[0].method).stroke_width(theme::LINE);
            let means: Vec<(f64, f64)> =
                rows.iter().filter_map(|row| Some((row.level.into(), row.error_mean?))).collect();
            chart.draw_series([PathElement::new(means, style)])?;
            for row in rows {
                draw_seeds(&chart, row, f64::from(row.level), 0.0)?;
            }
        }
        Ok(())
    };

    let figure = Figure {
        title: TITLE,
        legend: &methods,
        x: "remaining weights, %",
        y: "test error, %",
        caption: &caption,
        size: (640, 340),
        panels: panels(&groups, |row| row.inherit.to_string()),
    };
    let svg = figure.draw(draw_panel);
    (caption, svg)
}

/// A line for the dense networks that a panel's transfers can be compared with: all that their axes say holds for the
/// panel, too.
fn draw_dense(chart: &mut Chart, panel: &[&TransferRow], dense: &[&TransferRow]) -> Drawn {
    let comparable = dense.iter().filter(|row| row.axes.iter().all(|axis| panel[0].axes.contains(axis)));
    for mean in comparable.filter_map(|row| row.error_mean) {
        let range = chart.x_range();
        let style = theme::color(None).stroke_width(theme::THIN_LINE);
        chart.draw_series([PathElement::new(vec![(range.start, mean), (range.end, mean)], style)])?;
    }
    Ok(())
}

/// A marker for each seed, side by side within `half_width`, because errors of different seeds are often equal.
fn draw_seeds(chart: &Chart, row: &TransferRow, centre: f64, half_width: f64) -> Drawn {
    let drawn = row.errors.len().min(MOST_MARKERS) as f64;
    for (index, seed) in theme::thinned(&row.errors, MOST_MARKERS).enumerate() {
        let place = (index as f64 + 0.5) / drawn * 2.0 - 1.0;
        draw_marker(chart.plotting_area(), row.method, (centre + 0.8 * place * half_width, seed.error))?;
    }
    Ok(())
}

/// The rows of each panel. Panels of the same axes stay together, so that what is left out is left out of all.
fn panel_rows<'a, K: Eq + Hash>(
    rows: &[&'a TransferRow],
    key: impl Fn(&TransferRow) -> K,
) -> (Vec<Vec<&'a TransferRow>>, Option<String>) {
    let by_axes = grouped(rows.iter().copied(), |row| &row.axes);
    let panels = by_axes.into_iter().flat_map(|rows| grouped(rows, |row| key(row))).collect();
    limited(panels, MOST_PANELS, "panels")
}

fn panels(groups: &[Vec<&TransferRow>], title: impl Fn(&TransferRow) -> String) -> Vec<Panel> {
    let panel = |(index, rows): (usize, &Vec<&TransferRow>)| Panel {
        row: index / COLUMNS,
        column: index % COLUMNS,
        heading: iter::once(title(rows[0])).chain(axes_text(&rows[0].axes)).collect(),
    };
    groups.iter().enumerate().map(panel).collect()
}

fn highest_error(rows: &[&TransferRow], dense: &[&TransferRow]) -> f64 {
    let errors = rows.iter().chain(dense).flat_map(|row| &row.errors).map(|seed| seed.error);
    // Not zero, lest there be no axis.
    errors.fold(0.1, f64::max)
}

fn caption(means: &str, rows: &[&TransferRow], dense: &[&TransferRow], left_out: Option<String>) -> String {
    let mut sentences = vec![format!("{means}: mean over seeds. Markers: single seeds.")];
    if !dense.is_empty() {
        sentences.push("Grey line: dense networks.".to_string());
    }
    if rows.iter().any(|row| row.seeds > MOST_MARKERS) {
        sentences.push(format!("At most {MOST_MARKERS} seeds are drawn for each mean."));
    }
    sentences.extend(left_out);
    sentences.join(" ")
}
