//! The test error on the straight path between networks: every pair a thin line, their mean a thick one. Beside it, dashed,
//! the training error where it was measured.

use winsign_core::grouping::grouped;
use winsign_core::settings::Between;

use super::chart::{Axis, Chart};
use super::figure::{Figure, TICKS};
use super::legend::Key;
use super::panels::{Panel, last_level, limited, paths_heading, sentences, thinned, tickets_text};
use super::svg::{Canvas, Paint, Rect, stroke};
use super::theme::{self, Look, TRAIN_DASH, look};
use super::{FigureChrome, Plot};
use crate::paths::alignment_note;
use crate::statistics::percent;
use crate::tables::barrier_so_far;
use crate::{ConnectionRow, PairPath, Report};

/// The largest number of tickets of one method, level and setting that have a row of panels each.
const MOST_TICKETS: usize = 6;

/// The largest number of thin lines in one panel.
const MOST_PAIRS: usize = 50;

/// Draws a panel for each row of the report, those of one ticket side by side; returns `None` if no path is finished.
pub(super) fn draw(report: &Report, chrome: FigureChrome) -> Option<Plot> {
    report.connections.iter().find(|row| row.pairs > 0)?;
    let (tickets, left_out) = tickets(report);
    let rows: Vec<&ConnectionRow> = tickets.iter().flatten().copied().collect();
    let trains = || rows.iter().flat_map(|row| &row.path).filter_map(|point| point.train_error_mean);
    let trained = trains().next().is_some();
    let errors = rows.iter().flat_map(|row| &row.paths).flat_map(|pair| &pair.path).map(|point| point.error);
    let highest = errors.chain(trains()).fold(0.1, f64::max);
    let figure = Figure {
        chrome,
        title: "Error on the path between networks",
        legend: if trained { legend() } else { vec![] },
        x: "position t on the path",
        y: if trained { "error, %" } else { "test error, %" },
        caption: sentences([Some(caption(&rows, left_out).as_str()), alignment_note(&report.connections).as_deref()]),
        size: (145.0, 135.0),
        room: TICKS,
        scale: None,
        panels: tickets.iter().enumerate().flat_map(|(line, rows)| panels(line, rows)).collect(),
    };
    Some(figure.plot("interpolation.svg", |index, canvas, area| draw_paths(canvas, area, rows[index], highest)))
}

fn legend() -> Vec<Key> {
    let look = look(None, None);
    let train = Look { dash: TRAIN_DASH, ..look };
    vec![
        Key { look, line: Some(theme::LINE), has_marker: false, text: "test error".to_string() },
        Key { look: train, line: Some(theme::LINE - 0.5), has_marker: false, text: "training error".to_string() },
    ]
}

/// Returns the rows by ticket, and the caption's sentence about omitted ones. If there are too many tickets, only those
/// of the last levels are drawn. Tickets of the same axes stay together, so that methods can be compared.
fn tickets(report: &Report) -> (Vec<Vec<&ConnectionRow>>, Option<String>) {
    let by_axes = grouped(&report.connections, |row| &row.axes);
    let mut tickets: Vec<Vec<&ConnectionRow>> =
        by_axes.into_iter().flat_map(|rows| grouped(rows, |row| (row.method, row.level))).collect();
    if tickets.len() > MOST_TICKETS {
        tickets.retain(|rows| rows.iter().any(|row| row.pairs > 0));
    }
    // Paths between tickets are many, and would take the places of all others.
    tickets.sort_by_key(|rows| rows[0].between == Between::Tickets);
    let (tickets, levels_out) = last_level(tickets, MOST_TICKETS, |rows| rows[0].level);
    let (tickets, left_out) = limited(tickets, MOST_TICKETS, "rows of panels");
    (tickets, levels_out.into_iter().chain(left_out).reduce(|levels, tickets| format!("{levels} {tickets}")))
}

fn panels(line: usize, rows: &[&ConnectionRow]) -> impl Iterator<Item = Panel> {
    rows.iter().enumerate().map(move |(column, row)| Panel::new(line, column, heading(row)))
}

fn heading(row: &ConnectionRow) -> Vec<String> {
    let mut lines = paths_heading(row);
    lines.push(if row.pairs > 0 { format!("barrier {}", barrier_so_far(row)) } else { "not finished".to_string() });
    lines
}

fn draw_paths(canvas: &mut Canvas, area: Rect, row: &ConnectionRow, highest: f64) {
    let ticks = [0.0, 0.5, 1.0].map(|t| (t, t.to_string()));
    let mut chart = Chart::new(canvas, area, (Axis::linear(0.0, 1.0), &ticks), 0.0..1.05 * highest);
    // The path of a single pair is the mean.
    let thin = if row.pairs > 1 { MOST_PAIRS } else { 0 };
    for pair in thinned(&row.paths, thin) {
        let points: Vec<(f64, f64)> = pair.path.iter().map(|point| (point.t, point.error)).collect();
        chart.line(&points, stroke(theme::color(row.method).faded(0.5), theme::THIN_LINE));
        // A pair shows its barrier at its position.
        if let Some(top) = points.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)) {
            let ticket = pair.ticket.filter(|_| row.tickets > 1);
            let ticket = ticket.map_or(String::new(), |seeds| format!("ticket of seed {}, ", seeds.init));
            chart.value(top, ticket + &pair_text(pair), [&pair.run]);
        }
    }
    let dark = theme::dark_color(row.method);
    let train: Vec<(f64, f64)> = row.path.iter().filter_map(|point| Some((point.t, point.train_error_mean?))).collect();
    chart.line(&train, Paint { dash: TRAIN_DASH, ..stroke(dark, theme::LINE - 0.5) });
    let mean: Vec<(f64, f64)> = row.path.iter().map(|point| (point.t, point.error_mean)).collect();
    chart.line(&mean, stroke(dark, theme::LINE));
    let of = if row.pairs > 1 { "mean " } else { "" };
    for (t, error) in mean {
        let runs = row.paths.iter().map(|pair| &pair.run);
        chart.value((t, error), format!("t = {t:.3}: {of}test error {error:.1} %"), runs);
    }
    for (t, error) in train {
        let runs = row.paths.iter().map(|pair| &pair.run);
        chart.value((t, error), format!("t = {t:.3}: {of}training error {error:.1} %"), runs);
    }
}

fn pair_text(pair: &PairPath) -> String {
    let seeds: Vec<String> = pair.seeds.iter().map(|seeds| seeds.init.to_string()).collect();
    let labels: Vec<&str> = pair.ends.iter().map(|end| end.label.as_str()).collect();
    let ends = match (&seeds[..], &labels[..]) {
        (_, [a, b]) => format!("{a} – {b}: "),
        ([a, b], _) => format!("seeds {a} – {b}: "),
        _ => String::new(),
    };
    format!("{ends}barrier {:.1} points", pair.barrier)
}

fn caption(rows: &[&ConnectionRow], left_out: Option<String>) -> String {
    let norm_init = rows.iter().any(|row| row.between == Between::NormInit);
    let most = format!("At most {MOST_PAIRS} pairs are drawn in each panel.");
    let tickets = tickets_text(rows.iter().map(|row| row.tickets));
    let of_tickets = tickets.map_or(String::new(), |tickets| format!(" of {tickets}"));
    let interval = rows.iter().find_map(|row| row.summary?.interval);
    let barrier = match interval {
        Some(interval) => format!("mean [{} % confidence interval], or mean (max)", percent(interval.level)),
        None => "mean (max)".to_string(),
    };
    let lines =
        format!("Thick: mean over pairs{of_tickets}. Thin: single pairs. Barrier in percentage points: {barrier}.");
    sentences([
        Some(lines.as_str()),
        norm_init.then_some(
            "norm-init: from the ticket with its norm parameters at their initialization (t = 0) to the ticket itself \
             (t = 1).",
        ),
        rows.iter().any(|row| row.pairs > MOST_PAIRS).then_some(&most),
        left_out.as_deref(),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::samples::tooltips;
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_testkit::study::Study;

    #[test]
    fn pairs_show_their_barrier_at_its_position() {
        let mut report = Study::digits().report();
        report.connections.truncate(1);
        let plot = draw(&report, FigureChrome::Full).unwrap();
        let marks = tooltips(&plot.svg);
        // Three pairs, and eleven points of each mean.
        assert_eq!(marks.len(), 3 + 2 * 11);
        assert_eq!(marks[0].text, "seed 2 – seed 3: barrier 0.4 points");
        assert_eq!(marks[0].runs, [report.connections[0].paths[0].run.as_str()]);
        let start = &marks[3];
        assert!(start.text.starts_with("t = 0.000: mean test error "), "{}", start.text);
        assert_eq!(start.runs.len(), 3);
    }

    #[test]
    fn training_errors_are_dashed_where_there_are_any() {
        let mut report = Study::digits().report();
        assert!(draw(&report, FigureChrome::Full).unwrap().svg.contains(">training error<"));
        for row in &mut report.connections {
            row.path.iter_mut().for_each(|point| point.train_error_mean = None);
        }
        let plot = draw(&report, FigureChrome::Full).unwrap();
        assert!(!plot.svg.contains("training error") && plot.svg.contains(">test error, %<"));
    }

    #[test]
    fn points_can_have_any_positions() {
        let mut report = Study::digits().report();
        report.connections.truncate(1);
        let before = tooltips(&draw(&report, FigureChrome::Full).unwrap().svg);
        report.connections[0].path[1].t = 0.05;
        let after = tooltips(&draw(&report, FigureChrome::Full).unwrap().svg);
        let place = |marks: &[super::super::samples::Tooltip], at: usize| marks[3 + at].at.0 - marks[3].at.0;
        // Coordinates have two decimals.
        assert!((place(&after, 1) - place(&before, 1) / 2.0).abs() < 0.02);
        assert_eq!(place(&after, 2), place(&before, 2));
    }
}
