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

/// Labels are not longer than this, beside cells and below them.
const MOST_LABEL: (f64, f64) = (150.0, 110.0);
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
        let left = maps.clone().map(|map| widest(&map.rows)).fold(0.0, f64::max).min(MOST_LABEL.0);
        let below = maps.clone().map(|map| widest(&map.columns)).fold(0.0, f64::max).min(MOST_LABEL.1);
        // Side by side, if there is room for that.
        let fits = |map: &HeatMap| {
            let columns = map.columns.len();
            widest(&map.columns) + SPACE <= step(columns, size.0) as f64 * size.0 / columns.max(1) as f64
        };
        let are_upright = !maps.clone().all(fits);
        let below = if are_upright { below } else { LABEL_LINE };
        Labels { room: (left + 2.0 * SPACE, below + 2.0 * SPACE), are_upright }
    }
}

/// Returns the distance between labels that are written, so that they do not lie on each other.
fn step(count: usize, length: f64) -> usize {
    ((LABEL_LINE * count as f64 / length).ceil() as usize).max(1)
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

        for (row, label) in self.rows.iter().enumerate().step_by(step(self.rows.len(), area.height())) {
            let at = (area.left - SPACE, rect(row, 0).centre().1);
            canvas.text(at, &NOTE.shortened(label, MOST_LABEL.0), NOTE.right());
        }
        for (column, label) in self.columns.iter().enumerate().step_by(step(self.columns.len(), area.width())) {
            let label = NOTE.shortened(label, MOST_LABEL.1);
            let (middle, below) = (rect(0, column).centre().0, area.bottom + SPACE);
            match labels.are_upright {
                true => canvas.text((middle, below), &label, NOTE.right().upright()),
                false => canvas.text((middle, below + LABEL_LINE / 2.0), &label, NOTE.centred()),
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
        assert!(labels.are_upright && labels.room.0 > 100.0 && labels.room.0 <= MOST_LABEL.0 + 2.0 * SPACE);
        assert_eq!((step(10, 150.0), step(100, 450.0), step(0, 0.0)), (1, 3, 1));
    }
}
