//! The test error on the straight path between networks: every pair a thin line, their mean a thick one.

use plotters::prelude::*;

use super::Plot;
use super::figure::{Area, Drawn, Figure, chart};
use super::panels::{Panel, axes_text, level_text, limited};
use super::theme;
use crate::study::report::grouping::{distinct, grouped};
use crate::study::report::tables::{barrier_so_far, method_text};
use crate::study::report::{ConnectionRow, Report};

const TITLE: &str = "Error on the path between networks";

/// Tickets, with a line of panels each.
const MOST_TICKETS: usize = 6;

/// Thin lines in one panel.
const MOST_PAIRS: usize = 50;

/// A panel for each row of the report, those of one ticket side by side; none if no path is finished.
pub fn draw(report: &Report) -> Option<Plot> {
    report.connections.iter().find(|row| row.pairs > 0)?;
    let (tickets, left_out) = tickets(report);
    let rows: Vec<&ConnectionRow> = tickets.iter().flatten().copied().collect();
    let caption = caption(&rows, left_out);

    let errors = rows.iter().flat_map(|row| &row.paths).flat_map(|pair| &pair.path).map(|point| point.error);
    let highest = errors.fold(0.1, f64::max);
    let draw_panel = |index: usize, area: &Area| draw_paths(area, rows[index], highest);
    let figure = Figure {
        title: TITLE,
        legend: &[],
        x: "position t on the path",
        y: "test error, %",
        caption: &caption,
        size: (270, 270),
        panels: tickets.iter().enumerate().flat_map(|(line, rows)| panels(line, rows)).collect(),
    };
    let svg = figure.draw(draw_panel);
    Some(Plot { file: "interpolation.svg", title: TITLE, caption, svg })
}

/// The rows by ticket, and what the caption must say of those left out. Of too many tickets the last levels show most.
/// Tickets of the same axes stay together, so that methods can be compared.
fn tickets(report: &Report) -> (Vec<Vec<&ConnectionRow>>, Option<String>) {
    let by_axes = grouped(&report.connections, |row| &row.axes);
    let mut tickets: Vec<Vec<&ConnectionRow>> =
        by_axes.into_iter().flat_map(|rows| grouped(rows, |row| (row.method, row.level))).collect();
    let finished = report.connections.iter().filter(|row| row.pairs > 0);
    let last = finished.map(|row| row.level).max();
    let several = distinct(report.connections.iter().map(|row| row.level)).len() > 1;
    let mut said = None;
    if tickets.len() > MOST_TICKETS && several {
        tickets.retain(|rows| Some(rows[0].level) == last);
        said = last.map(|level| format!("Of several levels, only level {level} is drawn."));
    }
    let (tickets, left_out) = limited(tickets, MOST_TICKETS, "tickets");
    (tickets, said.into_iter().chain(left_out).reduce(|levels, tickets| format!("{levels} {tickets}")))
}

fn panels(line: usize, rows: &[&ConnectionRow]) -> impl Iterator<Item = Panel> {
    rows.iter().enumerate().map(move |(column, row)| Panel { row: line, column, heading: heading(row) })
}

fn heading(row: &ConnectionRow) -> Vec<String> {
    let path = row.inherit.map_or(row.between.to_string(), |inherit| inherit.to_string());
    let mut lines = match row.method {
        Some(_) => vec![format!("{} · {path}", method_text(row.method)), level_text(row.level, row.remaining_ratio)],
        None => vec![path],
    };
    lines.extend(axes_text(&row.axes));
    lines.push(if row.pairs > 0 { format!("barrier {}", barrier_so_far(row)) } else { "not finished".to_string() });
    lines
}

fn draw_paths(area: &Area, row: &ConnectionRow, highest: f64) -> Drawn {
    let ticks = [0.0, 0.5, 1.0].map(|t| (t, t.to_string()));
    let mut chart = chart(area, 0.0..1.0, 0.0..1.05 * highest, &ticks)?;
    // The path of a single pair is the mean.
    let thin = if row.pairs > 1 { MOST_PAIRS } else { 0 };
    for pair in theme::thinned(&row.paths, thin) {
        let points: Vec<(f64, f64)> = pair.path.iter().map(|point| (point.t, point.error)).collect();
        let style = theme::color(row.method).mix(0.5).stroke_width(theme::THIN_LINE);
        chart.draw_series([PathElement::new(points, style)])?;
    }
    let mean: Vec<(f64, f64)> = row.path.iter().map(|point| (point.t, point.error_mean)).collect();
    chart.draw_series([PathElement::new(mean, theme::dark_color(row.method).stroke_width(theme::LINE))])?;
    Ok(())
}

fn caption(rows: &[&ConnectionRow], left_out: Option<String>) -> String {
    let mut sentences = vec![
        "Thick: mean over pairs. Thin: single pairs. Barrier in percentage points: mean (max). norm-init: from the \
         ticket with its norm parameters at their initialization (t = 0) to the ticket itself (t = 1)."
            .to_string(),
    ];
    if rows.iter().any(|row| row.pairs > MOST_PAIRS) {
        sentences.push(format!("At most {MOST_PAIRS} pairs are drawn in each panel."));
    }
    sentences.extend(left_out);
    sentences.join(" ")
}
