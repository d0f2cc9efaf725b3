//! The test error by inheritance: a marker for every seed, and a bar for their mean. There is a panel for each level,
//! with the methods side by side, and the error of dense networks as a line across. Studies of many levels have lines
//! over the remaining weights instead.

use winsign_core::grouping::{distinct, grouped};
use winsign_core::settings::{Inherit, Method, Problem};
use winsign_core::text::plural;
use winsign_sweep::Axes;

use super::by_ratio::{interval_text, is_hardly_known};
use super::chart::{Axis, Chart, Tick};
use super::figure::{Figure, TICKS};
use super::legend::Key;
use super::panels::{
    Panel, axes_text, level_text, limited, samples_text, sentences, series_level_text, thinned, tickets_text,
};
use super::svg::{Rect, fill, stroke};
use super::theme::{self, Look, NOTE, WHITE, look};
use super::{FigureChrome, Plot};
use crate::statistics::percent;
use crate::table::method_text;
use crate::{Interval, Report, TransferRow};

/// The largest number of levels that have a panel each.
const FEW_LEVELS: usize = 3;

const MOST_PANELS: usize = 12;

/// Room over the highest value, as a factor.
const HEADROOM: f64 = 1.15;
/// The largest end of an interval, as a multiple of the highest error.
const MOST_OF_INTERVALS: f64 = 1.5;

/// The largest number of markers of one mean, and the number above which they are smaller.
const MOST_MARKERS: usize = 25;
const MANY_MARKERS: usize = 8;
const SMALLER: f64 = 0.6;

/// Draws the finished transfers, unless there are none or they are of many levels.
pub(super) fn draw(report: &Report, chrome: FigureChrome) -> Option<Plot> {
    let rows = report.transfers.iter().filter(|row| row.seeds > 0);
    let (mut rows, mut dense): (Vec<&TransferRow>, Vec<&TransferRow>) = rows.partition(|row| row.method.is_some());
    if rows.is_empty() {
        std::mem::swap(&mut rows, &mut dense);
    }
    if rows.is_empty() || distinct(rows.iter().map(|row| row.level)).len() > FEW_LEVELS {
        return None;
    }
    // Panels of the same axes stay together, so that what is left out is left out of all.
    let by_axes = grouped(rows.iter().copied(), |row| (row.problem, &row.axes));
    let groups = by_axes.into_iter().flat_map(|rows| grouped(rows, |row| row.level)).collect();
    let (groups, left_out) = limited(groups, MOST_PANELS, "panels");
    let bars = Bars::new(&rows);
    let size = bars.panel_size(groups.len());
    let x = Axis::linear(-0.5, bars.inherits.len() as f64 - 0.5);
    let y = 0.0..HEADROOM * highest_error(&rows, &dense);
    let ticks = bars.ticks(size.0);
    let heading = |rows: &Vec<&TransferRow>| {
        std::iter::once(level_text(rows[0].level, rows[0].remaining_ratio)).chain(axes_text(&rows[0].axes)).collect()
    };
    let figure = Figure {
        chrome,
        title: "Test error by what was transferred",
        legend: bars.methods.iter().map(|method| key(*method)).collect(),
        x: "transferred",
        y: "test error, %",
        caption: caption(&rows, &dense, left_out),
        size,
        room: TICKS,
        scale: None,
        // Three levels stand side by side.
        panels: Panel::grid(groups.iter().map(heading), if groups.len() == 3 { 3 } else { 2 }),
    };
    Some(figure.plot("transfer-error.svg", |index, canvas, area| {
        let mut chart = Chart::new(canvas, area, (x, &ticks), y.clone());
        draw_dense(&mut chart, &groups[index], &dense);
        for row in &groups[index] {
            draw_bar(&mut chart, row, bars.centre(row), 0.42 * bars.width());
        }
    }))
}

/// The places of bars along the x axis: a group for each inheritance, with a bar for each method.
struct Bars {
    methods: Vec<Option<Method>>,
    inherits: Vec<Inherit>,
}

impl Bars {
    fn new(rows: &[&TransferRow]) -> Bars {
        Bars {
            methods: distinct(rows.iter().map(|row| row.method)),
            inherits: distinct(rows.iter().map(|row| row.inherit)),
        }
    }

    fn width(&self) -> f64 {
        0.8 / self.methods.len() as f64
    }

    fn centre(&self, row: &TransferRow) -> f64 {
        let group = self.inherits.iter().position(|inherit| *inherit == row.inherit).unwrap_or(0);
        let bar = self.methods.iter().position(|method| *method == row.method).unwrap_or(0);
        group as f64 + (bar as f64 - (self.methods.len() - 1) as f64 / 2.0) * self.width()
    }

    fn panel_size(&self, panels: usize) -> (f64, f64) {
        let bars = (self.methods.len() * self.inherits.len()).max(4) as f64;
        if panels == 1 { (65.0 * bars, 240.0) } else { (45.0 * bars, 190.0) }
    }

    fn ticks(&self, panel_width: f64) -> Vec<Tick> {
        let width = panel_width / self.inherits.len() as f64 - 4.0;
        let names = self.inherits.iter().map(|inherit| NOTE.shortened(&inherit.to_string(), width));
        names.enumerate().map(|(at, name)| (at as f64, name)).collect()
    }
}

fn caption(rows: &[&TransferRow], dense: &[&TransferRow], left_out: Option<String>) -> String {
    let seeds = rows.iter().map(|row| row.seeds);
    let seeds = match (seeds.clone().min().unwrap_or(0), seeds.max().unwrap_or(0)) {
        (fewest, most) if fewest == most => plural(most, "seed"),
        (fewest, most) => format!("{fewest} to {most} seeds"),
    };
    let tickets = tickets_text(rows.iter().map(|row| row.tickets));
    let over = tickets.map_or(seeds.clone(), |tickets| format!("{tickets} ({seeds})"));
    let bars = format!("Bars and numbers: mean over {over}. Markers: single seeds.");
    let intervals = rows.iter().find_map(|row| drawn_interval(row));
    let intervals = intervals
        .map(|interval| format!("Error bars: {} % confidence interval over tickets.", percent(interval.level)));
    let most = format!("At most {MOST_MARKERS} seeds are drawn for each mean.");
    sentences([
        Some(bars.as_str()),
        intervals.as_deref(),
        rows.iter().all(|row| row.tickets == 1).then_some("One ticket has no confidence interval."),
        (!dense.is_empty()).then_some("Dashed line: dense networks."),
        rows.iter().any(|row| row.seeds > MOST_MARKERS).then_some(&most),
        left_out.as_deref(),
    ])
}

fn key(method: Option<Method>) -> Key {
    let text = if method.is_some() { method_text(method) } else { Inherit::Dense.to_string() };
    Key { look: bar_look(method), line: None, has_marker: true, text }
}

/// Returns a look with full markers, since what was transferred is written below the bars.
fn bar_look(method: Option<Method>) -> Look {
    look(method, Some(Inherit::Sign))
}

fn draw_bar(chart: &mut Chart, row: &TransferRow, centre: f64, half_width: f64) {
    let Some(mean) = row.error_mean.filter(|mean| mean.is_finite()) else { return };
    let color = theme::color(row.method);
    let (left, right) = (centre - half_width, centre + half_width);
    let bar = Rect::between(chart.place((left, 0.0)), chart.place((right, mean)));
    chart.canvas.rect(bar, fill(color.faded(theme::FILL)));
    chart.line(&[(left, mean), (right, mean)], stroke(color, theme::LINE));
    chart.canvas.values.within(bar, mean_text(row, mean), row.errors.iter().map(|seed| &seed.run));
    draw_seeds(chart, row, centre, half_width);
    let mut top = row.errors.iter().map(|seed| seed.error).fold(mean, f64::max);
    if let Some(interval) = drawn_interval(row) {
        let (low, high) = (interval.low.max(0.0), interval.high.min(chart.y.to / HEADROOM));
        top = top.max(high);
        let (left, right) = (centre - 0.3 * half_width, centre + 0.3 * half_width);
        for ends in [[(left, low), (right, low)], [(left, high), (right, high)], [(centre, low), (centre, high)]] {
            chart.line(&ends, stroke(theme::TEXT, theme::MEDIUM_LINE));
        }
    }
    let text = format!("{mean:.1}");
    let (x, y) = chart.place((centre, top));
    let place = (x, y - 13.0);
    // A line may pass behind.
    chart.canvas.rect(Rect::around(place, (NOTE.width(&text) / 2.0, 6.0)), fill(WHITE.faded(0.8)));
    chart.canvas.text(place, &text, NOTE.centred());
}

/// Returns the interval that is drawn; `None` for an interval of Student's t over only two tickets.
fn drawn_interval(row: &TransferRow) -> Option<Interval> {
    row.summary.filter(|summary| row.tickets > 1 && !is_hardly_known(summary))?.interval
}

fn mean_text(row: &TransferRow, mean: f64) -> String {
    let series = series_level_text(row.method, Some(row.inherit), row.level, row.remaining_ratio);
    let std = row.error_std.map_or(String::new(), |std| format!(" ± {std:.1}"));
    let interval = interval_text(row.summary.as_ref());
    format!("{series}: {mean:.1} %{std}, {}{interval}", samples_text(row.tickets, row.seeds, "seed"))
}

/// Draws a line for the dense networks that a panel's transfers can be compared with.
fn draw_dense(chart: &mut Chart, panel: &[&TransferRow], dense: &[&TransferRow]) {
    let lines = dense.iter().filter(|row| comparable((row.problem, &row.axes), (panel[0].problem, &panel[0].axes)));
    for mean in lines.filter_map(|row| row.error_mean) {
        chart.level(mean, look(None, Some(Inherit::Dense)).line(theme::MEDIUM_LINE));
    }
}

/// Draws a marker for each seed, side by side within `half_width`, because errors of different seeds are often equal.
fn draw_seeds(chart: &mut Chart, row: &TransferRow, centre: f64, half_width: f64) {
    let drawn = row.errors.len().min(MOST_MARKERS) as f64;
    let scale = if row.errors.len() > MANY_MARKERS { SMALLER } else { 1.0 };
    for (index, seed) in thinned(&row.errors, MOST_MARKERS).enumerate() {
        let side = (index as f64 + 0.5) / drawn * 2.0 - 1.0;
        let at = (centre + 0.8 * side * half_width, seed.error);
        chart.marker(at, bar_look(row.method), scale);
        let series = series_level_text(row.method, Some(row.inherit), row.level, row.remaining_ratio);
        chart.value(at, format!("{series}, seed {}: {:.1} %", seed.seeds.init, seed.error), [&seed.run]);
    }
}

/// Returns whether dense networks have the problem and all axes of others.
pub(super) fn comparable(dense: (Problem, &Axes), other: (Problem, &Axes)) -> bool {
    dense.0 == other.0 && dense.1.iter().all(|axis| other.1.contains(axis))
}

fn highest_error(rows: &[&TransferRow], dense: &[&TransferRow]) -> f64 {
    let errors = rows.iter().chain(dense).flat_map(|row| &row.errors).map(|seed| seed.error);
    // Zero would leave no axis.
    let highest = errors.fold(0.1, f64::max);
    let intervals = rows.iter().filter_map(|row| drawn_interval(row)).map(|interval| interval.high);
    // A wide interval is cut, so that bars can be distinguished.
    intervals.fold(highest, f64::max).min(MOST_OF_INTERVALS * highest)
}
