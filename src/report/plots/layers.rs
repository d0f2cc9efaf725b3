//! The remaining ratio of every layer of a ticket, level by level: a heat map for each method.

use std::collections::HashMap;

use winsign_core::grouping::{distinct, grouped};
use winsign_core::text::plural;

use super::chart::Axis;
use super::figure::Figure;
use super::heatmap::{Cell, HeatMap, Labels, Scale};
use super::panels::{InChain, Panel, axes_text, limited, sentences, share_level_0, thinned};
use super::{FigureChrome, Plot};
use crate::spreads::without_ticket_seeds;
use crate::statistics::mean;
use crate::table::{method_text, remaining_text};
use crate::{Report, TicketRow};

const COLUMNS: usize = 2;
const MOST_PANELS: usize = 6;
/// The largest number of levels; if there are more, the last ones are drawn.
const MOST_LEVELS: usize = 24;
const MOST_LAYERS: usize = 120;

/// Tickets of one method and setting, over levels and seeds.
struct Chains<'a> {
    rows: Vec<&'a TicketRow>,
    levels: Vec<u32>,
    layers: Vec<&'a str>,
}

/// Draws the tickets whose results have the ratios of their layers, if there are any.
pub(super) fn draw(report: &Report, chrome: FigureChrome) -> Option<Plot> {
    let rows = report.tickets.iter().filter(|row| !row.layers.is_empty());
    // Another level zero of the same network has as many layers; another architecture has other axes.
    let chains = grouped(rows, |row| (row.problem, without_ticket_seeds(&row.axes), row.method));
    let chains = share_level_0(chains, place).into_iter().map(Chains::new);
    let (chains, left_out) = limited(chains.collect::<Vec<_>>(), MOST_PANELS, "panels");
    if chains.is_empty() {
        return None;
    }
    let maps: Vec<HeatMap> = chains.iter().map(Chains::map).collect();
    let scale = scale(&maps);
    let most = |count: fn(&HeatMap) -> usize| maps.iter().map(count).max().unwrap_or(1) as f64;
    let columns = most(|map| map.columns.len());
    let size = ((31.0 * columns).clamp(150.0, 400.0), (15.0 * most(|map| map.rows.len())).clamp(120.0, 500.0));
    let labels = Labels::around(maps.iter(), size);
    let figure = Figure {
        chrome,
        title: "Remaining weights of every layer",
        legend: vec![],
        x: "level",
        y: "",
        caption: caption(&chains, left_out),
        size,
        room: labels.room,
        scale: Some(scale),
        panels: Panel::grid(chains.iter().map(Chains::heading), COLUMNS),
    };
    Some(figure.plot("layers.svg", |index, canvas, area| {
        let (chains, map) = (&chains[index], &maps[index]);
        map.draw(canvas, area, &labels, &scale, |row, column| {
            let Cell::Value(percent) = map.cell(row, column) else { return None };
            let (layer, level) = (chains.layers[row], chains.levels[column]);
            let runs: Vec<_> = chains.rows.iter().filter(|row| row.level == level).map(|row| &row.run).collect();
            let remaining = remaining_text(Some(percent / 100.0));
            let seeds = plural(runs.len(), "seed");
            Some((format!("{}, level {level}, {layer}: {remaining} remaining, {seeds}", chains.method()), runs))
        })
    }))
}

fn place(row: &TicketRow) -> InChain {
    let axes = without_ticket_seeds(&row.axes);
    InChain { problem: row.problem, method: Some(row.method), level: row.level, axes }
}

/// Returns a scale down to a round number, so that the sparsest layer does not look like nothing.
fn scale(maps: &[HeatMap]) -> Scale {
    let values = maps.iter().flat_map(|map| &map.cells).filter_map(|cell| match cell {
        Cell::Value(percent) if *percent > 0.0 => Some(*percent),
        _ => None,
    });
    let lowest = 10.0_f64.powf(values.fold(50.0, f64::min).log10().floor()).max(0.001);
    Scale { axis: Axis::logarithmic(lowest, 100.0), name: "remaining weights, %" }
}

fn caption(chains: &[Chains], left_out: Option<String>) -> String {
    let levels = format!("Not more than {MOST_LEVELS} levels, the last ones, are drawn.");
    let layers = format!("Not more than {MOST_LAYERS} layers, evenly picked, are drawn.");
    sentences([
        Some("Layers from the input, above, to the output. Shades are logarithmic. Mean over seeds of tickets."),
        chains.iter().any(Chains::has_more_levels).then_some(&levels),
        chains.iter().any(Chains::has_more_layers).then_some(&layers),
        left_out.as_deref(),
    ])
}

impl<'a> Chains<'a> {
    fn new(rows: Vec<&'a TicketRow>) -> Chains<'a> {
        let mut levels = distinct(rows.iter().map(|row| row.level));
        levels.sort();
        let levels = levels[levels.len().saturating_sub(MOST_LEVELS)..].to_vec();
        let layers = distinct(rows.iter().flat_map(|row| &row.layers).map(|layer| layer.name.as_str()));
        let layers = thinned(&layers, MOST_LAYERS).copied().collect();
        Chains { rows, levels, layers }
    }

    fn has_more_levels(&self) -> bool {
        distinct(self.rows.iter().map(|row| row.level)).len() > self.levels.len()
    }

    fn has_more_layers(&self) -> bool {
        self.rows.iter().any(|row| row.layers.len() > self.layers.len())
    }

    fn method(&self) -> String {
        method_text(Some(self.rows[0].method))
    }

    fn heading(&self) -> Vec<String> {
        // A shared level 0 has the fewest axes.
        let axes = self.rows.iter().map(|row| without_ticket_seeds(&row.axes)).max_by_key(Vec::len);
        std::iter::once(self.method()).chain(axes.and_then(|axes| axes_text(&axes))).collect()
    }

    fn map(&self) -> HeatMap {
        let mut ratios: HashMap<(&str, u32), Vec<f64>> = HashMap::new();
        for row in &self.rows {
            for layer in &row.layers {
                ratios.entry((&layer.name, row.level)).or_default().push(layer.remaining_ratio);
            }
        }
        let cell = |layer: &str, level: u32| {
            let mean = ratios.get(&(layer, level)).and_then(|ratios| mean(ratios));
            mean.map_or(Cell::Missing, |ratio| Cell::Value(100.0 * ratio))
        };
        let cells = self.layers.iter().flat_map(|layer| self.levels.iter().map(|level| cell(layer, *level))).collect();
        HeatMap {
            rows: self.layers.iter().map(|name| name.trim_end_matches(".weight").to_string()).collect(),
            columns: self.levels.iter().map(u32::to_string).collect(),
            cells,
            write: percent_text,
        }
    }
}

/// Returns two digits, as far as there is room for them.
fn percent_text(percent: f64) -> String {
    let decimals = if percent >= 9.95 { 0 } else { 1 + usize::from(percent < 0.995) };
    format!("{percent:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::super::samples::{layered, texts, tooltips};
    use super::*;

    #[test]
    fn every_layer_and_level_has_a_cell() {
        let report = layered(9);
        let plot = draw(&report, FigureChrome::Full).unwrap();
        let marks = tooltips(&plot.svg);
        assert_eq!(marks.len(), 2 * 9 * 13);
        // The last layer keeps 0.7 a level.
        let last =
            marks.iter().find(|tooltip| tooltip.text.starts_with("AWS, level 12, layer3.0.conv1.weight: ")).unwrap();
        assert_eq!(last.text, "AWS, level 12, layer3.0.conv1.weight: 1.4 % remaining, 1 seed");
        let ticket = report.tickets.iter().find(|row| row.method.to_string() == "aws" && row.level == 12).unwrap();
        assert_eq!(last.runs, [ticket.run.as_str()]);
        // Layers go down the page, levels to the right.
        assert!(marks[0].at.0 < marks[1].at.0 && marks[0].at.1 == marks[1].at.1 && marks[13].at.1 > marks[0].at.1);
        let texts = texts(&plot.svg);
        for text in ["layer1.0.conv1", "1.4", "100", "LRR", "AWS"] {
            assert!(texts.contains(&text.to_string()), "{text}");
        }
    }

    #[test]
    fn seeds_of_tickets_are_averaged() {
        let mut report = layered(2);
        let mut others = report.tickets.clone();
        for row in &mut others {
            row.axes.push(("ticket.seed".to_string(), "2".to_string()));
            row.layers[0].remaining_ratio = 0.0;
        }
        report.tickets.extend(others);
        let marks = tooltips(&draw(&report, FigureChrome::Full).unwrap().svg);
        assert_eq!(marks.len(), 2 * 2 * 13);
        assert_eq!(marks[0].text, "LRR, level 0, layer1.0.conv1.weight: 50.0 % remaining, 2 seeds");
    }

    #[test]
    fn tickets_without_ratios_of_layers_are_not_drawn() {
        let mut report = layered(2);
        report.tickets.iter_mut().for_each(|row| row.layers.clear());
        assert!(draw(&report, FigureChrome::Full).is_none());
        assert_eq!(
            (percent_text(51.2), percent_text(9.96), percent_text(5.12), percent_text(0.123)),
            ("51".into(), "10".into(), "5.1".into(), "0.12".into())
        );
    }
}
