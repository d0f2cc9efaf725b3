//! Training curves: the error after every epoch, the mean over seeds. Transfers have a panel for each kind, over
//! epochs; tickets have one for each combination of axes, with the levels of a chain in sequence.

use winsign_core::RunId;
use winsign_core::grouping::{distinct, grouped};
use winsign_core::settings::{Inherit, Kind, Method};
use winsign_core::text::plural;

use super::chart::{Axis, Chart, Tick};
use super::figure::{Figure, TICKS};
use super::legend::Key;
use super::panels::{
    InChain, Panel, axes_text, last_level, level_text, limited, sentences, series_text, share_level_0, thinned,
};
use super::svg::{Canvas, Paint, Rect, stroke};
use super::theme::{self, Look, TRAIN_DASH, look};
use super::{FigureChrome, Plot};
use crate::spreads::without_ticket_seeds;
use crate::statistics::{mean, sample_std};
use crate::table::method_text;
use crate::{Curve, RunRecord};

const COLUMNS: usize = 2;
const MOST_PANELS: usize = 8;
const MOST_TICKS: usize = 10;
/// The largest numbers of markers and of values on one line.
const MOST_MARKERS: usize = 6;
const MOST_VALUES: usize = 12;

/// Runs that differ in nothing but their seeds, and were trained alike.
struct Line<'a> {
    method: Option<Method>,
    inherit: Option<Inherit>,
    level: u32,
    ratio: Option<f64>,
    epochs: Vec<u32>,
    curves: Vec<(&'a RunId, &'a Curve)>,
}

struct Group<'a> {
    heading: Vec<String>,
    level: u32,
    lines: Vec<Line<'a>>,
}

/// Draws the training curves of transfers and dense networks, if there are any.
pub(super) fn draw_transfers(records: &[RunRecord], chrome: FigureChrome) -> Option<Plot> {
    let trained = trained(records, Kind::Transfer);
    let groups = grouped(trained, |record| {
        let label = &record.planned.label;
        (label.problem, without_ticket_seeds(&label.axes), label.level, label.inherit)
    });
    let groups = groups.iter().map(|records| {
        let label = &records[0].planned.label;
        let lines: Vec<Line> = grouped(records, |record| record.planned.label.method).iter().map(line).collect();
        let ratio = lines.iter().find_map(|line| line.ratio);
        let mut heading: Vec<String> = label.inherit.iter().map(Inherit::to_string).collect();
        heading.extend((label.level > 0).then(|| level_text(label.level, ratio)));
        heading.extend(axes_text(&without_ticket_seeds(&label.axes)));
        Group { heading, level: label.level, lines }
    });
    let dense = |group: &Group| group.lines.iter().all(|line| line.method.is_none());
    let (dense, others): (Vec<Group>, Vec<Group>) = groups.partition(dense);
    // Only the last of several levels is drawn, since the curves of all would be too many.
    let (others, levels_out) = last_level(others, 0, |group| group.level);
    let (groups, left_out) = limited(dense.into_iter().chain(others).collect(), MOST_PANELS, "panels");
    let last = groups.iter().flat_map(|group| &group.lines).filter_map(|line| line.epochs.last()).max()?.max(&1);
    let x = Axis::linear(0.0, f64::from(*last));
    let ticks = x.ticks().into_iter().filter(|tick| tick.fract() == 0.0).map(|tick| (tick, tick.to_string()));
    let over_epochs = Sequence { x, ticks: ticks.collect(), borders: vec![], place: |_, epoch, _| epoch };
    let caption = [levels_out, left_out];
    Some(plot(chrome, ("curves.svg", "Training curves of transfers"), "epoch", &groups, over_epochs, caption))
}

/// Draws the training curves of tickets, level after level, if there are any.
pub(super) fn draw_tickets(records: &[RunRecord], chrome: FigureChrome) -> Option<Plot> {
    let trained = trained(records, Kind::Ticket).filter(|record| record.planned.label.rewind_point.is_none());
    let groups =
        grouped(trained, |record| (record.planned.label.problem, without_ticket_seeds(&record.planned.label.axes)));
    let groups = share_level_0(groups, place);
    let groups = groups.iter().map(|records| Group {
        heading: heading(records),
        level: 0,
        lines: grouped(records, |record| (record.planned.label.method, record.planned.label.level))
            .iter()
            .map(line)
            .collect(),
    });
    let (groups, left_out) = limited(groups.collect(), MOST_PANELS, "panels");
    let mut levels = distinct(groups.iter().flat_map(|group| &group.lines).map(|line| line.level));
    levels.sort();
    let (first, last) = (*levels.first()?, *levels.last()?);
    let step = levels.len().div_ceil(MOST_TICKS);
    let in_sequence = Sequence {
        x: Axis::linear(f64::from(first), f64::from(last) + 1.0),
        ticks: levels.iter().step_by(step).map(|level| (f64::from(*level) + 0.5, level.to_string())).collect(),
        borders: levels.iter().skip(1).map(|level| f64::from(*level)).collect(),
        place: |line, epoch, last| f64::from(line.level) + epoch / last,
    };
    let caption = [Some("Every level has its epochs between two upright lines.".to_string()), left_out];
    Some(plot(chrome, ("ticket-curves.svg", "Training curves of tickets"), "level", &groups, in_sequence, caption))
}

fn place(record: &RunRecord) -> InChain {
    let label = &record.planned.label;
    let axes = without_ticket_seeds(&label.axes);
    InChain { problem: label.problem, method: label.method, level: label.level, axes }
}

/// Returns the axes of a panel. A level 0 that several panels share has the fewest.
fn heading(records: &[&RunRecord]) -> Vec<String> {
    let axes = records.iter().map(|record| without_ticket_seeds(&record.planned.label.axes)).max_by_key(Vec::len);
    axes.and_then(|axes| axes_text(&axes)).into_iter().collect()
}

fn trained<'f, 'a>(records: &'f [RunRecord<'a>], kind: Kind) -> impl Iterator<Item = &'f RunRecord<'a>> {
    let known = |record: &&RunRecord| record.curve.as_ref().is_some_and(|curve| !curve.epoch.is_empty());
    records.iter().filter(move |record| record.planned.run.kind() == kind).filter(known)
}

fn line<'f>(records: &Vec<&&'f RunRecord>) -> Line<'f> {
    let label = &records[0].planned.label;
    let curves: Vec<(&RunId, &Curve)> =
        (records.iter()).filter_map(|record| Some((&record.planned.run.id, record.curve.as_deref()?))).collect();
    // Runs with equally many epochs have curves at the same epochs.
    let epochs = curves[0].1.epoch.clone();
    Line {
        method: label.method,
        inherit: label.inherit,
        level: label.level,
        ratio: records.iter().find_map(|record| Some(record.result.as_ref()?.outcome.remaining_ratio())),
        curves: curves.into_iter().filter(|(_, curve)| curve.epoch == epochs).collect(),
        epochs,
    }
}

/// The order of epochs on the x axis.
struct Sequence {
    x: Axis,
    ticks: Vec<Tick>,
    /// The places where a level begins.
    borders: Vec<f64>,
    /// Returns the place of one epoch of a line, given its last epoch.
    place: fn(&Line, f64, f64) -> f64,
}

fn plot(
    chrome: FigureChrome,
    (file, title): (&'static str, &'static str),
    x: &str,
    groups: &[Group],
    sequence: Sequence,
    caption: [Option<String>; 2],
) -> Plot {
    let has_band = groups.iter().flat_map(|group| &group.lines).any(|line| line.curves.len() > 1);
    let errors = |of: fn(&Curve) -> &Vec<f32>| {
        let curves = groups.iter().flat_map(|group| &group.lines).flat_map(|line| &line.curves);
        curves.flat_map(move |(_, curve)| of(curve)).copied().filter(|error| error.is_finite()).fold(0.1, f32::max)
    };
    let highest = f64::from(errors(|curve| &curve.test_error).max(errors(|curve| &curve.train_error)));
    let figure = Figure {
        chrome,
        title,
        legend: legend(groups),
        x,
        y: "error, %",
        caption: sentences([
            Some(
                "Lines: mean over runs of all seeds. Solid: test error after an epoch. Dashed: error of its batches in training.",
            ),
            has_band.then_some("Bands: one standard deviation of the test error between runs."),
            caption[0].as_deref(),
            caption[1].as_deref(),
        ]),
        size: if groups.len() == 1 { (450.0, 220.0) } else { (310.0, 160.0) },
        room: TICKS,
        scale: None,
        panels: Panel::grid(groups.iter().map(|group| group.heading.clone()), COLUMNS),
    };
    figure.plot(file, |index, canvas, area| draw_group(canvas, area, &groups[index], &sequence, highest))
}

fn legend(groups: &[Group]) -> Vec<Key> {
    let methods = distinct(groups.iter().flat_map(|group| &group.lines).map(|line| line.method));
    let key = |method: Option<Method>| Key {
        look: line_look(method),
        line: Some(theme::LINE),
        has_marker: true,
        text: method.map_or("dense".to_string(), |method| method_text(Some(method))),
    };
    methods.into_iter().map(key).collect()
}

/// The dashes of the training error.
fn line_look(method: Option<Method>) -> Look {
    look(method, Some(Inherit::Sign))
}

fn draw_group(canvas: &mut Canvas, area: Rect, group: &Group, sequence: &Sequence, highest: f64) {
    let mut chart = Chart::new(canvas, area, (sequence.x, &sequence.ticks), 0.0..1.05 * highest);
    for border in &sequence.borders {
        chart.line(&[(*border, 0.0), (*border, chart.y.to)], stroke(theme::AXIS, theme::HAIRLINE));
    }
    for line in &group.lines {
        draw_one(&mut chart, line, sequence);
    }
}

fn draw_one(chart: &mut Chart, line: &Line, sequence: &Sequence) {
    let color = theme::color(line.method);
    let last = f64::from(line.epochs.last().copied().unwrap_or(1).max(1));
    let place_of = |epoch: u32| (sequence.place)(line, f64::from(epoch), last);
    let train: Vec<(f64, f64)> = (line.epochs.iter().enumerate())
        .filter_map(|(at, epoch)| Some((place_of(*epoch), mean(&errors_at(line, at, |curve| &curve.train_error))?)))
        .collect();
    let dark = theme::dark_color(line.method).faded(0.8);
    chart.line(&train, Paint { dash: TRAIN_DASH, ..stroke(dark, theme::THIN_LINE) });

    let means: Vec<Mean> = (line.epochs.iter().enumerate())
        .filter_map(|(at, epoch)| {
            let errors = errors_at(line, at, |curve| &curve.test_error);
            let std = sample_std(&errors);
            Some(Mean { at: (place_of(*epoch), mean(&errors)?), std, epoch: *epoch, seeds: errors.len() })
        })
        .collect();
    // A band ends with the panel.
    let ceiling = chart.y.to;
    let band = means.iter().filter_map(|Mean { at: (x, mean), std, .. }| {
        let std = (*std)?;
        Some((*x, (mean - std).max(0.0), (mean + std).min(ceiling)))
    });
    chart.band(&band.collect::<Vec<_>>(), color);
    let points: Vec<(f64, f64)> = means.iter().map(|mean| mean.at).collect();
    chart.line(&points, stroke(color, theme::LINE - 0.5));

    // The last epoch counts most.
    let from_the_end: Vec<&Mean> = means.iter().rev().collect();
    for mean in thinned(&from_the_end, if sequence.borders.is_empty() { MOST_MARKERS } else { 1 }) {
        chart.marker(mean.at, line_look(line.method), 1.0);
    }
    for mean in thinned(&from_the_end, MOST_VALUES) {
        chart.value(mean.at, describe(line, mean), line.curves.iter().map(|(run, _)| *run));
    }
}

/// The mean test error after an epoch.
struct Mean {
    at: (f64, f64),
    std: Option<f64>,
    epoch: u32,
    seeds: usize,
}

fn describe(line: &Line, Mean { at: (_, mean), std, epoch, seeds }: &Mean) -> String {
    let series = series_text(line.method, line.inherit);
    let level = if line.method.is_some() { format!(", level {}", line.level) } else { String::new() };
    let spread = std.map_or(String::new(), |std| format!(" ± {std:.1}"));
    format!("{series}{level}, epoch {epoch}: test error {mean:.1} %{spread}, {}", plural(*seeds, "seed"))
}

fn errors_at(line: &Line, at: usize, of: fn(&Curve) -> &Vec<f32>) -> Vec<f64> {
    let error = |(_, curve): &(&RunId, &Curve)| of(curve).get(at).copied().filter(|error| error.is_finite());
    line.curves.iter().filter_map(error).map(f64::from).collect()
}

#[cfg(test)]
mod tests {
    use super::super::samples::{tooltips, with_curves};
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_testkit::study::Study;

    #[test]
    fn transfers_have_a_panel_a_kind_and_a_line_a_method() {
        let mut study = Study::new(&[6, 12], &[2, 3, 4], &[vec![]]);
        study.add_dense(&[2, 3]);
        let plot = draw_transfers(&with_curves(&study, 9), FigureChrome::Full).unwrap();
        let marks = tooltips(&plot.svg);
        // Two methods, four kinds, nine epochs; and dense networks.
        assert_eq!(marks.len(), 2 * 4 * 9 + 9);
        // 2 + 80 / 2⁹ + 0.1 · 3, and seeds that differ by 0.1.
        let last = marks.iter().find(|tooltip| tooltip.text.starts_with("AWS sign, level 12, epoch 9:")).unwrap();
        assert_eq!(last.text, "AWS sign, level 12, epoch 9: test error 2.5 % ± 0.1, 3 seeds");
        assert_eq!(last.runs.len(), 3);
        assert!(marks.iter().any(|tooltip| tooltip.text == "dense, epoch 1: test error 44.2 % ± 0.1, 2 seeds"));
        assert!(plot.caption.contains("Of several levels, only level 12 is drawn."), "{}", plot.caption);
        assert!(!marks.iter().any(|tooltip| tooltip.text.contains("level 6")));
    }

    #[test]
    fn levels_of_a_ticket_follow_each_other() {
        let plot = draw_tickets(&with_curves(&Study::digits(), 4), FigureChrome::Full).unwrap();
        let marks = tooltips(&plot.svg);
        assert_eq!(marks.len(), 2 * 13 * 4);
        let place = |text: &str| marks.iter().find(|tooltip| tooltip.text.starts_with(text)).unwrap().at;
        let first = place("LRR ticket, level 0, epoch 1:");
        let end = place("LRR ticket, level 0, epoch 4:");
        let next = place("LRR ticket, level 1, epoch 1:");
        assert!(first.0 < end.0 && end.0 < next.0);
        assert!(first.1 < end.1, "the error goes down");
    }

    #[test]
    fn many_epochs_show_some_of_their_values_and_the_last() {
        let study = Study::new(&[12], &[2], &[vec![]]);
        let marks = tooltips(&draw_transfers(&with_curves(&study, 50), FigureChrome::Full).unwrap().svg);
        assert_eq!(marks.len(), 2 * 4 * MOST_VALUES);
        assert!(marks.iter().any(|tooltip| tooltip.text.starts_with("AWS sign, level 12, epoch 50:")));
    }

    #[test]
    fn values_that_are_not_finite_are_left_out() {
        let study = Study::new(&[12], &[2], &[vec![]]);
        let mut records = with_curves(&study, 3);
        for record in &mut records {
            if let Some(curve) = record.curve.take() {
                let mut curve = Curve::clone(&curve);
                curve.test_error[1] = f32::NAN;
                curve.train_error[2] = f32::INFINITY;
                record.curve = Some(std::sync::Arc::new(curve));
            }
        }
        let marks = tooltips(&draw_transfers(&records, FigureChrome::Full).unwrap().svg);
        assert_eq!(marks.len(), 2 * 4 * 2);
        assert!(draw_tickets(&study.records(), FigureChrome::Full).is_none());
    }
}
