//! A table of numbers as shades: cells with labels beside and below them, and a bar that explains the shades.

use winsign_core::RunId;

use super::chart::Axis;
use super::svg::{Canvas, Point, Rect, fill, stroke};
use super::theme::{AXIS, HAIRLINE, LABEL, NOTE, THIN_LINE, WHITE, ink, shade};

/// The numbers that shades stand for, from the lightest to the darkest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    pub axis: Axis,
    /// The name of the numbers, and their unit.
    pub name: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell {
    Value(f64),
    /// The number is missing.
    Missing,
    /// No number exists.
    Nothing,
}

pub(super) struct HeatMap {
    pub rows: Vec<String>,
    pub columns: Vec<String>,
    /// Row after row.
    pub cells: Vec<Cell>,
    /// Writes a number into a cell that is large enough.
    pub write: fn(f64) -> String,
}

/// Longer labels are broken into lines of this width, of which there are at most two.
const MOST_LABEL: f64 = 380.0;
const MOST_LABEL_LINES: usize = 2;
const LABEL_LINE: f64 = 13.5;
const SPACE: f64 = 4.0;

/// Room for the colour bar, beside a grid of panels.
pub(super) const SCALE_WIDTH: f64 = 75.0;

impl Scale {
    /// Returns a scale of all numbers, from zero unless there are smaller ones. Numbers that are all below `least`
    /// differ too little for dark shades.
    pub(super) fn from_zero(values: impl Iterator<Item = f64> + Clone, least: f64, name: &'static str) -> Scale {
        Scale { axis: Axis::linear(values.clone().fold(0.0, f64::min), values.fold(least, f64::max)), name }
    }

    /// Draws the bar with its ticks, at the right of the cells.
    pub(super) fn draw(&self, canvas: &mut Canvas, (left, top): Point, height: f64) {
        const STEPS: u32 = 50;
        const WIDTH: f64 = 11.0;
        let y = |part: f64| top + (1.0 - part) * height;
        for step in (0..STEPS).rev() {
            let [from, to] = [step, step + 1].map(|step| f64::from(step) / f64::from(STEPS));
            // Each shade extends to the bottom, since adjacent shapes show seams.
            let rect = Rect::between((left, y(to)), (left + WIDTH, y(0.0)));
            canvas.rect(rect, fill(shade((from + to) / 2.0)));
        }
        let right = left + WIDTH;
        for tick in self.axis.ticks() {
            let at = y(self.axis.part(tick));
            canvas.line(&[(right, at), (right + 2.5, at)], stroke(AXIS, THIN_LINE));
            canvas.text((right + SPACE + 1.0, at), &tick.to_string(), NOTE.left());
        }
        canvas.text((left + SCALE_WIDTH - 25.0, top + height / 2.0), self.name, LABEL.centred().upright());
    }
}

/// The layout of the labels around cells, the same for all panels of a figure.
pub(super) struct Labels {
    /// The room of a [`super::figure::Figure`].
    pub room: (f64, f64),
    are_upright: bool,
}

impl Labels {
    /// Returns the labels for plotting areas of this size.
    pub(super) fn around<'a>(maps: impl Iterator<Item = &'a HeatMap> + Clone, size: (f64, f64)) -> Labels {
        let widest = |labels: &[String]| labels.iter().map(|label| NOTE.width(label)).fold(0.0, f64::max);
        let left = maps.clone().map(|map| widest(&map.rows)).fold(0.0, f64::max).min(MOST_LABEL);
        let below = maps.clone().map(|map| widest(&map.columns)).fold(0.0, f64::max);
        // Side by side, if there is room for that.
        let fits = |map: &HeatMap| {
            let columns = map.columns.len();
            widest(&map.columns) + SPACE <= step(columns, size.0, 1) as f64 * size.0 / columns.max(1) as f64
        };
        let are_upright = !maps.clone().all(fits);
        let below = if are_upright { below.min(MOST_LABEL) } else { LABEL_LINE };
        Labels { room: (left + 2.0 * SPACE, below + 2.0 * SPACE), are_upright }
    }
}

/// Returns the distance between labels of so many lines that are written, so that they do not lie on each other.
fn step(count: usize, length: f64, lines: usize) -> usize {
    ((LABEL_LINE * (lines * count) as f64 / length).ceil() as usize).max(1)
}

/// Returns every label in its lines, and the distance between labels that are written.
fn label_lines(labels: &[String], length: f64) -> (Vec<Vec<String>>, usize) {
    let lines: Vec<_> = labels.iter().map(|label| NOTE.wrapped_to(label, MOST_LABEL, MOST_LABEL_LINES)).collect();
    let most = lines.iter().map(Vec::len).max().unwrap_or(1);
    (lines, step(labels.len(), length, most))
}

/// Returns the places of lines around their middle.
fn offsets(lines: usize) -> impl Iterator<Item = f64> {
    (0..lines).map(move |line| (line as f64 - (lines - 1) as f64 / 2.0) * LABEL_LINE)
}

impl HeatMap {
    pub(super) fn cell(&self, row: usize, column: usize) -> Cell {
        self.cells[row * self.columns.len() + column]
    }

    /// Draws cells and labels. `describe` returns the text and the runs of a cell.
    pub(super) fn draw<'r>(
        &self,
        canvas: &mut Canvas,
        area: Rect,
        labels: &Labels,
        scale: &Scale,
        describe: impl Fn(usize, usize) -> Option<(String, Vec<&'r RunId>)>,
    ) {
        let x = |column: usize| area.left + column as f64 * area.width() / self.columns.len() as f64;
        let y = |row: usize| area.top + row as f64 * area.height() / self.rows.len() as f64;
        let rect = |row: usize, column: usize| Rect::between((x(column), y(row)), (x(column + 1), y(row + 1)));
        let places = || (0..self.rows.len()).flat_map(|row| (0..self.columns.len()).map(move |column| (row, column)));
        for (row, column) in places() {
            let rect = rect(row, column);
            // Each cell extends under the next ones, since adjacent shapes show seams.
            let (right, bottom) = ((rect.right + 0.5).min(area.right), (rect.bottom + 0.5).min(area.bottom));
            self.draw_cell(canvas, Rect { right, bottom, ..rect }, self.cell(row, column), scale);
            if let Some((text, runs)) = describe(row, column) {
                canvas.values.within(rect, text, runs);
            }
        }
        let frame = stroke(AXIS, HAIRLINE);
        // The lightest shade is nearly white, too.
        for (row, column) in places().filter(|&(row, column)| self.cell(row, column) == Cell::Nothing) {
            canvas.rect(rect(row, column), frame);
        }
        canvas.rect(area, frame);

        self.draw_labels(canvas, area, labels.are_upright);
    }

    fn draw_labels(&self, canvas: &mut Canvas, area: Rect, are_upright: bool) {
        let (rows, columns) = (self.rows.len() as f64, self.columns.len() as f64);
        let (labels, step) = label_lines(&self.rows, area.height());
        for (row, lines) in labels.iter().enumerate().step_by(step) {
            let middle = area.top + (row as f64 + 0.5) * area.height() / rows;
            for (line, offset) in lines.iter().zip(offsets(lines.len())) {
                canvas.text((area.left - SPACE, middle + offset), line, NOTE.right());
            }
        }
        let (labels, step) = label_lines(&self.columns, area.width());
        for (column, lines) in labels.iter().enumerate().step_by(step) {
            let (middle, below) = (area.left + (column as f64 + 0.5) * area.width() / columns, area.bottom + SPACE);
            for (line, offset) in lines.iter().zip(offsets(lines.len())) {
                match are_upright {
                    true => canvas.text((middle + offset, below), line, NOTE.right().upright()),
                    false => canvas.text((middle, below + LABEL_LINE / 2.0), line, NOTE.centred()),
                }
            }
        }
    }

    fn draw_cell(&self, canvas: &mut Canvas, rect: Rect, cell: Cell, scale: &Scale) {
        let Cell::Value(value) = cell else {
            canvas.rect(rect, fill(WHITE));
            if cell == Cell::Missing {
                canvas.line(&[(rect.left, rect.bottom), (rect.right, rect.top)], stroke(AXIS, HAIRLINE));
            }
            return;
        };
        let part = scale.axis.part(value);
        canvas.rect(rect, fill(shade(part)));
        let text = (self.write)(value);
        if NOTE.width(&text) + SPACE <= rect.width() && LABEL_LINE <= rect.height() {
            canvas.text(rect.centre(), &text, NOTE.centred().colored(ink(part)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_begin_at_zero_unless_there_is_less() {
        let scale = Scale::from_zero([3.0, 64.0].into_iter(), 5.0, "");
        assert_eq!((scale.axis, scale.axis.part(16.0)), (Axis::linear(0.0, 64.0), 0.25));
        assert_eq!(Scale::from_zero([-1.0, 1.0].into_iter(), 5.0, "").axis, Axis::linear(-1.0, 5.0));
    }

    #[test]
    fn labels_are_thinned_and_turned_to_fit() {
        let map = |count: usize, label: &str| HeatMap {
            rows: vec![label.to_string(); count],
            columns: vec![label.to_string(); count],
            cells: vec![Cell::Missing; count * count],
            write: |value| value.to_string(),
        };
        let few = map(3, "12");
        assert!(!Labels::around([&few].into_iter(), (150.0, 150.0)).are_upright);
        let long = map(3, "lrr level 12, seed 4");
        let labels = Labels::around([&few, &long].into_iter(), (150.0, 150.0));
        assert!(labels.are_upright && labels.room.0 > 100.0 && labels.room.0 <= MOST_LABEL + 2.0 * SPACE);
        assert_eq!((step(10, 150.0, 1), step(100, 450.0, 1), step(0, 0.0, 1)), (1, 3, 1));
    }

    #[test]
    fn long_labels_are_whole_in_two_lines() {
        let label = "LRR, level 12, init 18446744073709551615, order 18446744073709551615, ticket.weight_decay 0.0005";
        let (lines, step) = label_lines(&[label.to_string(), "AWS".to_string()], 160.0);
        assert_eq!((lines[0].len(), lines[0].join(" ").as_str(), step), (2, label, 1));
        let (lines, _) = label_lines(&["long ".repeat(100)], 160.0);
        assert!(lines[0].len() == 2 && lines[0][1].ends_with('…'), "{lines:?}");
    }
}
