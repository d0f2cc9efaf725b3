//! The axes of one panel, and the shapes between them.

use std::ops::Range;

use winsign_core::RunId;

use super::svg::{Canvas, Color, Paint, Point, Rect, fill, stroke};
use super::theme::{AXIS, BAND, GRID, HAIRLINE, Look, NOTE, THIN_LINE};
use crate::table::remaining_text;

/// Maps numbers to parts of a length: 0 at `from`, 1 at `to`, which may be the smaller one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    pub from: f64,
    pub to: f64,
    /// Equal ratios are equal steps; both ends are above zero.
    is_logarithmic: bool,
}

impl Axis {
    pub(super) fn linear(from: f64, to: f64) -> Axis {
        Axis { from, to, is_logarithmic: false }
    }

    pub(super) fn logarithmic(from: f64, to: f64) -> Axis {
        Axis { from, to, is_logarithmic: true }
    }

    /// Returns a part beyond [0, 1] for numbers outside of the axis.
    pub(super) fn part(self, value: f64) -> f64 {
        let [value, from, to] = [value, self.from, self.to].map(|x| if self.is_logarithmic { x.log10() } else { x });
        (value - from) / (to - from)
    }

    /// Returns round numbers on the axis, from low to high.
    pub(super) fn ticks(self) -> Vec<f64> {
        let (low, high) = (self.from.min(self.to), self.from.max(self.to));
        if self.is_logarithmic { round_ratios(low, high) } else { round_numbers(low, high) }
    }
}

/// Returns four to ten round numbers at equal distances.
fn round_numbers(low: f64, high: f64) -> Vec<f64> {
    let range = high - low;
    if !(range > 0.0 && range.is_finite()) {
        return vec![];
    }
    let power = 10.0_f64.powf((range / 4.0).log10().floor());
    let step = [5.0, 2.0].map(|digit| digit * power).into_iter().find(|step| range / step >= 4.0).unwrap_or(power);
    let multiples = (low / step - 1e-9).ceil() as i64..=(high / step + 1e-9).floor() as i64;
    multiples.map(|multiple| rounded(multiple as f64 * step)).collect()
}

const MOST_RATIOS: usize = 7;

/// Returns round numbers at similar ratios, not more than [`MOST_RATIOS`].
fn round_ratios(low: f64, high: f64) -> Vec<f64> {
    const DIGITS: [&[f64]; 4] = [&[1.0, 2.0, 3.0, 4.0, 5.0, 7.0], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let choices = DIGITS.map(|digits| -> Vec<f64> {
        let all = decades.clone().flat_map(|decade| digits.iter().map(move |digit| digit * 10.0_f64.powi(decade)));
        all.map(rounded).filter(|number| (low * 0.999..=high * 1.001).contains(number)).collect()
    });
    let fitting = choices.iter().find(|numbers| numbers.len() <= MOST_RATIOS).unwrap_or(&choices[3]);
    fitting.iter().copied().step_by(fitting.len().div_ceil(MOST_RATIOS).max(1)).collect()
}

/// Returns a number without rounding errors: 0.3, not 0.30000000000000004.
fn rounded(number: f64) -> f64 {
    (number * 1e9).round() / 1e9
}

/// A mark on an axis, and its label.
pub(super) type Tick = (f64, String);

/// Ticks nearer to each other than this part of an axis are one.
const NEAREST_TICKS: f64 = 0.125;

/// Returns the ticks of a logarithmic axis of these ratios, in percent: round numbers, or, of levels so near to each
/// other that there are hardly any between them, the ratios themselves.
pub(super) fn ratio_ticks(ratios: &[f64]) -> Vec<Tick> {
    let mut percents: Vec<f64> = ratios.iter().map(|ratio| 100.0 * ratio).collect();
    percents.sort_by(|a, b| b.total_cmp(a));
    let [Some(&high), Some(&low)] = [percents.first(), percents.last()] else { return vec![] };
    let axis = Axis::logarithmic(high, low);
    let round: Vec<Tick> = axis.ticks().into_iter().map(|tick| (tick, tick.to_string())).collect();
    let mut own: Vec<Tick> = vec![];
    for percent in percents {
        if own.last().is_none_or(|(last, _)| axis.part(percent) - axis.part(*last) > NEAREST_TICKS) {
            let text = remaining_text(Some(percent / 100.0));
            own.push((percent, text.trim_end_matches(" %").trim_end_matches(".0").to_string()));
        }
    }
    if round.len() >= 3 || round.len() > own.len() { round } else { own }
}

/// A plotting area with its axes.
pub(super) struct Chart<'c> {
    pub canvas: &'c mut Canvas,
    pub area: Rect,
    pub x: Axis,
    pub y: Axis,
}

impl<'c> Chart<'c> {
    /// Draws the axes and the grid, with round numbers beside it and `x_ticks` below.
    pub(super) fn new(canvas: &'c mut Canvas, area: Rect, (x, x_ticks): (Axis, &[Tick]), y: Range<f64>) -> Chart<'c> {
        const MARK: f64 = 4.0;
        let chart = Chart { canvas, area, x, y: Axis::linear(y.start, y.end) };
        let Rect { left, top, right, bottom } = area;
        for tick in chart.y.ticks() {
            let (_, at) = chart.place((x.from, tick));
            chart.canvas.line(&[(left, at), (right, at)], stroke(GRID, THIN_LINE));
            chart.canvas.line(&[(left - MARK, at), (left, at)], stroke(AXIS, HAIRLINE));
            chart.canvas.text((left - MARK - 3.0, at), &tick.to_string(), NOTE.right());
        }
        chart.canvas.line(&[(left, top), (left, bottom)], stroke(AXIS, HAIRLINE));
        chart.canvas.line(&[(left, bottom), (right, bottom)], stroke(AXIS, THIN_LINE));
        for (tick, label) in x_ticks {
            let (at, _) = chart.place((*tick, y.start));
            chart.canvas.line(&[(at, bottom), (at, bottom + MARK)], stroke(AXIS, THIN_LINE));
            chart.canvas.text((at, bottom + 12.0), label, NOTE.centred());
        }
        chart
    }

    /// Returns the position in the picture of a point of the chart.
    pub(super) fn place(&self, (x, y): Point) -> Point {
        let Rect { left, bottom, .. } = self.area;
        (left + self.x.part(x) * self.area.width(), bottom - self.y.part(y) * self.area.height())
    }

    fn places(&self, points: &[Point]) -> Vec<Point> {
        points.iter().map(|point| self.place(*point)).collect()
    }

    pub(super) fn line(&mut self, points: &[Point], paint: Paint) {
        let places = self.places(points);
        self.canvas.line(&places, paint);
    }

    /// Fills the area within an odd number of the rings.
    pub(super) fn area(&mut self, rings: &[Vec<Point>], color: Color) {
        let rings: Vec<Vec<Point>> = rings.iter().map(|ring| self.places(ring)).collect();
        self.canvas.area(&rings, fill(color));
    }

    /// Fills the area between two lines with the same x: points of x, low and high.
    pub(super) fn band(&mut self, band: &[(f64, f64, f64)], color: Color) {
        let low = band.iter().map(|&(x, low, _)| (x, low));
        let high = band.iter().rev().map(|&(x, _, high)| (x, high));
        if band.len() > 1 {
            self.area(&[low.chain(high).collect()], color.faded(BAND));
        }
    }

    /// Draws a line across the panel.
    pub(super) fn level(&mut self, y: f64, paint: Paint) {
        self.line(&[(self.x.from, y), (self.x.to, y)], paint);
    }

    pub(super) fn marker(&mut self, at: Point, look: Look, scale: f64) {
        let place = self.place(at);
        look.draw_marker(self.canvas, place, scale);
    }

    /// Adds the value of a marker, or of a line where it bends.
    pub(super) fn value<'a>(&mut self, at: Point, text: String, runs: impl IntoIterator<Item = &'a RunId>) {
        let place = self.place(at);
        self.canvas.values.at(place, text, runs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_map_numbers_to_parts() {
        assert_eq!(Axis::linear(-1.0, 3.0).part(0.0), 0.25);
        let sparser = Axis::logarithmic(100.0, 1.0);
        assert_eq!([100.0, 10.0, 1.0].map(|percent| sparser.part(percent)), [0.0, 0.5, 1.0]);
        assert!(sparser.part(1000.0) < 0.0 && Axis::logarithmic(1.0, 100.0).part(0.0) < 0.0);
    }

    #[test]
    fn chart_spans_its_area() {
        let area = Rect::between((100.0, 50.0), (300.0, 150.0));
        let mut canvas = Canvas::default();
        let chart = Chart::new(&mut canvas, area, (Axis::logarithmic(100.0, 1.0), &[]), 0.0..4.0);
        assert_eq!(chart.place((100.0, 0.0)), (100.0, 150.0));
        assert_eq!(chart.place((1.0, 4.0)), (300.0, 50.0));
        assert_eq!(chart.place((10.0, 1.0)), (200.0, 125.0));
    }

    #[test]
    fn ticks_are_round() {
        let ticks = |low, high| Axis::linear(low, high).ticks();
        assert_eq!(ticks(0.0, 64.0), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
        assert_eq!(ticks(-1.0, 1.0), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        assert_eq!(ticks(0.12, 0.5), [0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5]);
        assert_eq!(ticks(0.0, 5.0), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        for (low, high) in [(0.0, 3.9), (1e-7, 4.1e-7), (17.0, 9_999.0), (-3.0, 0.2)] {
            assert!((4..=10).contains(&ticks(low, high).len()), "{low} {high}");
        }
        assert_eq!(ticks(1.0, 1.0), [] as [f64; 0]);
        assert_eq!(Axis::logarithmic(100.0, 1.0).ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
    }

    #[test]
    fn ratios_have_round_ticks() {
        let texts = |from, to| ratio_ticks(&[from, to]).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(1.0, 0.0687), ["10", "20", "50", "100"]);
        assert_eq!(texts(1.0, 0.011), ["2", "5", "10", "20", "50", "100"]);
        assert_eq!(texts(1.0, 0.001), ["0.1", "0.3", "1", "3", "10", "30", "100"]);
        assert_eq!(texts(1.0, 1e-4), ["0.01", "0.1", "1", "10", "100"]);
        assert_eq!(texts(1.0, 1e-8), ["0.000001", "0.0001", "0.01", "1", "100"]);
        assert_eq!(texts(0.41, 0.0687), ["7", "10", "20", "30", "40"]);
        assert_eq!(texts(0.04, 0.03), ["4", "3"]);
    }

    #[test]
    fn ratios_without_round_numbers_between_them_are_ticks_themselves() {
        let texts = |ratios: &[f64]| ratio_ticks(ratios).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(&[0.512, 0.64, 0.512]), ["64", "51.2"]);
        assert_eq!(texts(&[1.0, 0.8, 0.64]), ["100", "80", "64"]);
        assert_eq!(ratio_ticks(&[0.64, 0.512])[0].0, 64.0);
        // Labels of methods that leave nearly the same do not lie on each other.
        assert_eq!(texts(&[1.0, 0.8, 0.7998, 0.64, 0.6402]), ["100", "80", "64"]);
        assert_eq!(texts(&[0.0012]), ["0.12"]);
        assert_eq!(texts(&[]), [] as [&str; 0]);
    }
}
