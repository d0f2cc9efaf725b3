//! A table of numbers as shades: cells with labels beside and below them, and a bar that says what the shades mean.

use plotters::prelude::*;
use winsign_core::RunId;

use super::chart::round_ticks;
use super::figure::{Area, Drawn, shortened};
use super::theme::{self, ink, shade, text_width};
use super::values::Values;

/// Which numbers the lightest and the darkest shade stand for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scale {
    pub low: f64,
    pub high: f64,
    /// Equal ratios are equal steps; both ends are above zero then.
    pub logarithmic: bool,
    /// Of what the numbers are, and their unit.
    pub name: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell {
    Value(f64),
    /// There should be a number.
    Missing,
    /// There can be none.
    Nothing,
}

pub(super) struct HeatMap {
    pub rows: Vec<String>,
    pub columns: Vec<String>,
    /// Row after row.
    pub cells: Vec<Cell>,
    /// How numbers are written into cells that are large enough.
    pub write: fn(f64) -> String,
}

/// Labels are not longer than this, beside cells and below them.
const MOST_LABEL: (i32, i32) = (300, 220);
const LABEL_LINE: i32 = 27;
const SPACE: i32 = 8;

/// Of the colour bar, and of all that stands beside a grid of panels for it.
const BAR_WIDTH: i32 = 22;
pub(super) const SCALE_WIDTH: i32 = 150;

impl Scale {
    /// Over all numbers; from zero, unless there are smaller ones.
    /// Numbers that are all below `least` are no news, and get no dark shades.
    pub(super) fn from_zero(values: impl Iterator<Item = f64> + Clone, least: f64, name: &'static str) -> Scale {
        Scale { low: values.clone().fold(0.0, f64::min), high: values.fold(least, f64::max), logarithmic: false, name }
    }

    /// How far a value is from low to high; beyond [0, 1] for what lies outside.
    pub(super) fn part(&self, value: f64) -> f64 {
        let [value, low, high] = [value, self.low, self.high].map(|x| if self.logarithmic { x.log10() } else { x });
        (value - low) / (high - low)
    }

    fn ticks(&self) -> Vec<f64> {
        if !self.logarithmic {
            return round_ticks(self.low, self.high);
        }
        let decades = (self.low.log10().round() as i32..=self.high.log10().round() as i32).collect::<Vec<_>>();
        let digits = if decades.len() > 3 { &[1.0][..] } else { &[1.0, 2.0, 5.0] };
        let all =
            decades.into_iter().flat_map(|exponent| digits.iter().map(move |digit| digit * 10.0_f64.powi(exponent)));
        all.map(|tick| (tick * 1e9).round() / 1e9).filter(|tick| (self.low..=self.high).contains(tick)).collect()
    }

    /// The bar with its ticks, at the right of what it explains.
    pub(super) fn draw(&self, root: &Area, (left, top): (i32, i32), height: i32) -> Drawn {
        const STEPS: i32 = 50;
        let y = |part: f64| top + ((1.0 - part) * f64::from(height)).round() as i32;
        for step in (0..STEPS).rev() {
            let [from, to] = [step, step + 1].map(|step| f64::from(step) / f64::from(STEPS));
            let color = shade((from + to) / 2.0);
            // Down to the floor: what lies side by side shows seams.
            root.draw(&Rectangle::new([(left, y(to)), (left + BAR_WIDTH, y(0.0))], color.filled()))?;
        }
        let style = theme::text(theme::NOTE, theme::TEXT).pos(theme::LEFT);
        for tick in self.ticks() {
            let at = y(self.part(tick));
            let mark = vec![(left + BAR_WIDTH, at), (left + BAR_WIDTH + 5, at)];
            root.draw(&PathElement::new(mark, theme::AXIS.stroke_width(theme::THIN_LINE)))?;
            root.draw(&Text::new(tick.to_string(), (left + BAR_WIDTH + SPACE + 2, at), style.clone()))?;
        }
        let style = theme::text(theme::LABEL, theme::TEXT).pos(theme::CENTER).transform(FontTransform::Rotate270);
        root.draw(&Text::new(self.name, (left + SCALE_WIDTH - 50, top + height / 2), style))
    }
}

/// How labels lie around cells of a size, such as all panels of a figure can share.
pub(super) struct Labels {
    /// As of [`super::figure::Figure::room`].
    pub room: (i32, i32),
    upright: bool,
}

impl Labels {
    /// For cells of this size, at most, in the plotting area.
    pub(super) fn around<'a>(maps: impl Iterator<Item = &'a HeatMap> + Clone, size: (i32, i32)) -> Labels {
        let widest = |labels: &[String]| labels.iter().map(|label| text_width(label, theme::NOTE)).max().unwrap_or(0);
        let room = |width: Option<i32>, most: i32| width.unwrap_or(0).min(most) + 2 * SPACE;
        let left = room(maps.clone().map(|map| widest(&map.rows)).max(), MOST_LABEL.0);
        let below = room(maps.clone().map(|map| widest(&map.columns)).max(), MOST_LABEL.1);
        // Side by side, if there is room for that.
        let fits = |map: &HeatMap| {
            let every = step(map.columns.len(), size.0) as i32;
            widest(&map.columns) + SPACE <= every * size.0 / map.columns.len().max(1) as i32
        };
        let upright = !maps.clone().all(fits);
        Labels { room: (left, if upright { below } else { LABEL_LINE + 2 * SPACE }), upright }
    }
}

/// Every which label is written, so that they do not lie on each other.
fn step(count: usize, length: i32) -> usize {
    (LABEL_LINE as usize * count).div_ceil(length.max(1) as usize).max(1)
}

impl HeatMap {
    pub(super) fn cell(&self, row: usize, column: usize) -> Cell {
        self.cells[row * self.columns.len() + column]
    }

    /// `tell` says what a cell shows, and of which runs, to whoever points at it.
    pub(super) fn draw<'r>(
        &self,
        area: &Area,
        labels: &Labels,
        scale: &Scale,
        values: &mut Values,
        tell: impl Fn(usize, usize) -> Option<(String, Vec<&'r RunId>)>,
    ) -> Drawn {
        let (width, height) = area.dim_in_pixel();
        let size = (width as i32 - labels.room.0, height as i32 - labels.room.1);
        let left = |column: usize| labels.room.0 + (column as i32 * size.0) / self.columns.len() as i32;
        let top = |row: usize| (row as i32 * size.1) / self.rows.len() as i32;
        let base = area.get_base_pixel();
        for row in 0..self.rows.len() {
            for column in 0..self.columns.len() {
                let corners = [(left(column), top(row)), (left(column + 1), top(row + 1))];
                // Under the next ones: what lies side by side shows seams.
                let [from, (right, bottom)] = corners;
                let seam = |place: i32, most: i32| (place + 1).min(most);
                let to = (seam(right, labels.room.0 + size.0), seam(bottom, size.1));
                self.draw_cell(area, [from, to], self.cell(row, column), scale)?;
                if let Some((text, runs)) = tell(row, column) {
                    let [a, b] = corners.map(|(x, y)| (x + base.0, y + base.1));
                    values.within(a, b, text, runs);
                }
            }
        }
        // The lightest shade is nearly white, too.
        let places = (0..self.rows.len()).flat_map(|row| (0..self.columns.len()).map(move |column| (row, column)));
        for (row, column) in places.filter(|&(row, column)| self.cell(row, column) == Cell::Nothing) {
            let corners = [(left(column), top(row)), (left(column + 1), top(row + 1))];
            area.draw(&Rectangle::new(corners, theme::AXIS))?;
        }
        let frame = Rectangle::new([(labels.room.0, 0), (labels.room.0 + size.0, size.1)], theme::AXIS);
        area.draw(&frame)?;

        let style = theme::text(theme::NOTE, theme::TEXT);
        for (row, label) in self.rows.iter().enumerate().step_by(step(self.rows.len(), size.1)) {
            let label = shortened(label, MOST_LABEL.0, theme::NOTE);
            let middle = (top(row) + top(row + 1)) / 2;
            area.draw(&Text::new(label, (labels.room.0 - SPACE, middle), style.pos(theme::RIGHT)))?;
        }
        for (column, label) in self.columns.iter().enumerate().step_by(step(self.columns.len(), size.0)) {
            let label = shortened(label, MOST_LABEL.1, theme::NOTE);
            let middle = (left(column) + left(column + 1)) / 2;
            match labels.upright {
                true => {
                    let style = style.transform(FontTransform::Rotate270).pos(theme::RIGHT);
                    area.draw(&Text::new(label, (middle, size.1 + SPACE), style))?;
                }
                false => {
                    let below = size.1 + SPACE + LABEL_LINE / 2;
                    area.draw(&Text::new(label, (middle, below), style.pos(theme::CENTER)))?;
                }
            }
        }
        Ok(())
    }

    fn draw_cell(&self, area: &Area, corners: [(i32, i32); 2], cell: Cell, scale: &Scale) -> Drawn {
        let [(left, top), (right, bottom)] = corners;
        match cell {
            Cell::Nothing => area.draw(&Rectangle::new(corners, WHITE.filled())),
            Cell::Missing => {
                area.draw(&Rectangle::new(corners, WHITE.filled()))?;
                let hatch = theme::AXIS.stroke_width(theme::HAIRLINE);
                area.draw(&PathElement::new(vec![(left, bottom), (right, top)], hatch))
            }
            Cell::Value(value) => {
                let part = scale.part(value);
                area.draw(&Rectangle::new(corners, shade(part).filled()))?;
                let text = (self.write)(value);
                if text_width(&text, theme::NOTE) + SPACE > right - left || LABEL_LINE > bottom - top {
                    return Ok(());
                }
                let style = theme::text(theme::NOTE, ink(part)).pos(theme::CENTER);
                area.draw(&Text::new(text, ((left + right) / 2, (top + bottom) / 2), style))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_begin_at_zero_unless_there_is_less() {
        let scale = Scale::from_zero([3.0, 64.0].into_iter(), 5.0, "");
        assert_eq!((scale.low, scale.high, scale.part(16.0)), (0.0, 64.0, 0.25));
        let scale = Scale::from_zero([-1.0, 1.0].into_iter(), 5.0, "");
        assert_eq!((scale.low, scale.high), (-1.0, 5.0));
        let decades = Scale { low: 1.0, high: 100.0, logarithmic: true, name: "" };
        assert_eq!((decades.part(10.0), decades.ticks()), (0.5, vec![1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]));
        assert!(decades.part(0.0) < 0.0);
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
        assert!(!Labels::around([&few].into_iter(), (300, 300)).upright);
        let long = map(3, "lrr level 12, seed 4");
        let labels = Labels::around([&few, &long].into_iter(), (300, 300));
        assert!(labels.upright && labels.room.0 > 200 && labels.room.0 <= MOST_LABEL.0 + 2 * SPACE);
        assert_eq!((step(10, 300), step(100, 900), step(0, 0)), (1, 3, 1));
    }
}
