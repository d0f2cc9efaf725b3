//! The test error in the plane through three networks: lines of equal error, and shades between them.

use winsign_core::results::PlaneOutcome;

use super::chart::{Axis, Chart};
use super::contours::{Contour, contours};
use super::figure::{Figure, TICKS};
use super::panels::{Panel, last_level, limited, row_heading, sentences, series_text};
use super::svg::{Canvas, Point, Rect, fill, stroke};
use super::theme::{Face, Look, MARKER_ROOM, NOTE, THIN_LINE, WHITE, ink, look, shade};
use super::{FigureChrome, Plot};
use crate::{PlaneRow, Report};

const COLUMNS: usize = 2;
const MOST_PANELS: usize = 6;
/// The side of a plotting area; a plane that is not square leaves a part of it empty.
const SIDE: f64 = 260.0;
/// The distance from the middle of a network's marker to its label, and half the height of a label.
const BESIDE: f64 = 7.0;
const HALF_LABEL: f64 = 6.5;

/// Draws the planes that are measured, if there are any.
pub(super) fn draw(report: &Report, chrome: FigureChrome) -> Option<Plot> {
    let measured = report.planes.iter().filter_map(|row| Some((row, row.plane.as_ref()?)));
    let drawable = measured.filter(|(_, plane)| is_drawable(plane)).collect();
    let (planes, levels_out) = last_level(drawable, MOST_PANELS, |(row, _)| row.level);
    let (planes, left_out) = limited(planes, MOST_PANELS, "planes");
    if planes.is_empty() {
        return None;
    }
    let errors = planes.iter().flat_map(|(_, plane)| plane.points.iter().map(|point| point.test_error));
    let thresholds = thresholds(errors);
    let figure = Figure {
        chrome,
        title: "Test error in the plane through three networks",
        legend: vec![],
        x: "distance in weight space",
        y: "distance in weight space",
        caption: sentences([
            Some("Lines: equal test error, in percent; the darker, the larger. Squares: the three networks."),
            levels_out.as_deref(),
            left_out.as_deref(),
        ]),
        size: (SIDE, planes.iter().map(|(_, plane)| size(plane).1).fold(0.0, f64::max)),
        room: TICKS,
        scale: None,
        panels: Panel::grid(planes.iter().map(|(row, _)| heading(row)), COLUMNS),
    };
    Some(figure.plot("plane.svg", |index, canvas, area| draw_plane(canvas, area, planes[index], &thresholds)))
}

fn is_drawable(plane: &PlaneOutcome) -> bool {
    let (columns, rows) = (plane.x.len(), plane.y.len());
    let spans = |axis: &[f64]| axis.len() > 1 && axis[0] < axis[axis.len() - 1];
    spans(&plane.x) && spans(&plane.y) && plane.points.len() == columns * rows
}

fn heading(row: &PlaneRow) -> Vec<String> {
    row_heading(series_text(row.method, row.inherit), row.level, row.remaining_ratio, &row.axes)
}

/// Returns round errors between the smallest and the largest: evenly spaced, or by their logarithm where they span more
/// than a decade, since all of them would lie at the border otherwise.
fn thresholds(errors: impl Iterator<Item = f64>) -> Vec<f64> {
    let (low, high) = errors
        .filter(|error| error.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |range, error| (range.0.min(error), range.1.max(error)));
    let inside = |threshold: &f64| low < *threshold && *threshold < high;
    if high > 10.0 * low.max(0.1) {
        const ROUND: [f64; 18] =
            [0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 70.0, 90.0];
        return ROUND.into_iter().filter(inside).collect();
    }
    Axis::linear(low, high).ticks().into_iter().filter(inside).collect()
}

/// Returns the largest size of the plane in a panel, at one scale in both directions.
fn size(plane: &PlaneOutcome) -> Point {
    let [width, height] = [&plane.x, &plane.y].map(|axis| axis[axis.len() - 1] - axis[0]);
    let scale = SIDE / width.max(height);
    // The plane stays visible if three networks lie almost on a line.
    ((scale * width).max(SIDE / 8.0), (scale * height).max(SIDE / 8.0))
}

fn draw_plane(canvas: &mut Canvas, panel: Rect, plane: (&PlaneRow, &PlaneOutcome), thresholds: &[f64]) {
    let (row, outcome) = plane;
    let (width, height) = size(outcome);
    // Under the heading, in the middle of the panel.
    let corner = (panel.left + (SIDE - width) / 2.0, panel.top);
    let area = Rect::between(corner, (corner.0 + width, corner.1 + height));
    let [x, y] = [&outcome.x, &outcome.y].map(|axis| axis[0]..axis[axis.len() - 1]);
    let x = Axis::linear(x.start, x.end);
    let ticks: Vec<_> = x.ticks().into_iter().map(|tick| (tick, tick.to_string())).collect();
    let mut chart = Chart::new(canvas, area, (x, &ticks), y);

    // The shade of the area below the first threshold, between the first and the second, and so on.
    let part = |band: usize| band as f64 / thresholds.len().max(1) as f64;
    let errors: Vec<f64> = outcome.points.iter().map(|point| point.test_error).collect();
    let contours = contours(&outcome.x, &outcome.y, &errors, thresholds);
    draw_contours(&mut chart, &contours, part);
    let markers: Vec<Point> = outcome.networks.iter().map(|network| chart.place(*network)).collect();
    let names: Vec<String> = row.ends.iter().map(|end| NOTE.shortened(&end.label, SIDE / 2.0)).collect();
    let spots = name_spots(area, &markers, &names);
    let mut taken: Vec<Rect> = markers.iter().copied().map(around_marker).chain(spots.iter().copied()).collect();
    for (band, contour) in contours.iter().enumerate() {
        if let Some(label) = label_spot(&chart, contour, &taken) {
            taken.push(label);
            let (color, ink) = (shade(part(band + 1)), ink(part(band + 1)));
            chart.canvas.rect(label, fill(color));
            chart.canvas.text(label.centre(), &contour.threshold.to_string(), NOTE.centred().colored(ink));
        }
    }
    for (name, spot) in names.iter().zip(spots) {
        chart.canvas.rect(spot, fill(WHITE.faded(0.75)));
        chart.canvas.text(spot.centre(), name, NOTE.centred());
    }
    for marker in markers {
        Look { face: Face::Open, ..look(None, None) }.draw_marker(chart.canvas, marker, 1.0);
    }
    add_values(&mut chart, row, outcome);
}

fn draw_contours(chart: &mut Chart, contours: &[Contour], part: impl Fn(usize) -> f64) {
    chart.canvas.rect(chart.area, fill(shade(part(0))));
    for (band, contour) in contours.iter().enumerate() {
        chart.area(&contour.rings, shade(part(band + 1)));
    }
    for (band, contour) in contours.iter().enumerate() {
        for line in &contour.lines {
            chart.line(line, stroke(ink(part(band + 1)).faded(0.6), THIN_LINE));
        }
    }
}

fn around_marker(at: Point) -> Rect {
    Rect::around(at, (MARKER_ROOM, MARKER_ROOM))
}

/// Returns the position of each network's name: beside its marker or over or under it, if it covers no marker and no
/// other name.
fn name_spots(room: Rect, markers: &[Point], names: &[String]) -> Vec<Rect> {
    let mut spots: Vec<Rect> = vec![];
    for (&(x, y), name) in markers.iter().zip(names) {
        let half = (NOTE.width(name) / 2.0 + 1.0, HALF_LABEL);
        let (beside, over) = (BESIDE + half.0, BESIDE + half.1);
        // Over and under, it may be moved sideways into the plane.
        let inside = x.min(room.right - half.0).max(room.left + half.0);
        let places = [(x + beside, y), (x - beside, y), (inside, y - over), (inside, y + over)];
        let covered = |spot: &Rect| {
            let markers = markers.iter().filter(|marker| spot.meets(around_marker(**marker))).count();
            let names = spots.iter().filter(|other| spot.meets(**other)).count();
            (!spot.is_within(room), markers + names)
        };
        let best = places.map(|at| Rect::around(at, half)).into_iter().min_by_key(covered);
        spots.extend(best);
    }
    spots
}

/// Returns the position of a line's label: on the line, as far as possible from everything that is taken; `None` if it
/// would cover something everywhere.
fn label_spot(chart: &Chart, contour: &Contour, taken: &[Rect]) -> Option<Rect> {
    let room = chart.area;
    let half = (NOTE.width(&contour.threshold.to_string()) / 2.0 + 1.5, HALF_LABEL);
    let distance = |spot: &Rect| {
        let (x, y) = spot.centre();
        let to_border = [x - room.left, room.right - x, y - room.top, room.bottom - y];
        let to_taken = taken.iter().map(|other| other.centre()).map(|(a, b)| (x - a).hypot(y - b));
        to_border.into_iter().chain(to_taken).fold(f64::INFINITY, f64::min)
    };
    let spots = contour.lines.iter().flatten().map(|point| Rect::around(chart.place(*point), half));
    let free = spots.filter(|spot| spot.is_within(room) && !taken.iter().any(|other| spot.meets(*other)));
    free.max_by(|a, b| distance(a).total_cmp(&distance(b)))
}

/// Gives every point of the grid its errors, within a cell around it.
fn add_values(chart: &mut Chart, row: &PlaneRow, outcome: &PlaneOutcome) {
    let edges = |axis: &[f64]| -> Vec<f64> {
        let between = axis.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
        std::iter::once(axis[0]).chain(between).chain(axis.last().copied()).collect()
    };
    let (columns, rows) = (edges(&outcome.x), edges(&outcome.y));
    for (index, point) in outcome.points.iter().enumerate() {
        let (column, line) = (index % outcome.x.len(), index / outcome.x.len());
        let corner = |at: usize| chart.place((columns[column + at], rows[line + at]));
        let cell = Rect::between(corner(0), corner(1));
        let train = point.train.map_or(String::new(), |train| format!(", training error {:.1} %", train.train_error));
        chart.canvas.values.within(cell, format!("test error {:.1} %{train}", point.test_error), [&row.run]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{bowl, texts, tooltips};
    use super::*;

    #[test]
    fn errors_of_a_decade_have_even_lines_and_those_of_several_have_not() {
        assert_eq!(thresholds([2.2, 10.1].into_iter()), [3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
        assert_eq!(
            thresholds([1.6, 88.0, f64::NAN].into_iter()),
            [2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 70.0]
        );
        assert_eq!(thresholds([5.0, 5.0].into_iter()), [] as [f64; 0]);
    }

    #[test]
    fn bowl_has_circles_of_equal_error() {
        let report = bowl();
        let plot = draw(&report, FigureChrome::Full).unwrap();
        for text in ["AWS sign", "level 12, 6.9 % remaining", "seed 2", "seed 4"] {
            assert!(plot.svg.contains(&format!(">{text}<")), "{text}");
        }
        // Lines of equal error have labels.
        for label in ["3", "5", "7", "10", "15", "20"] {
            assert!(texts(&plot.svg).contains(&label.to_string()), "{label}");
        }
        let marks = tooltips(&plot.svg);
        let points = report.planes[0].plane.as_ref().unwrap().points.len();
        assert_eq!(marks.len(), points);
        assert!(marks.iter().all(|tooltip| tooltip.runs == [report.planes[0].run.as_str()]));
        // The middle of the bowl, at (1, 1), is the middle of the plane.
        let lowest: Vec<_> = marks.iter().filter(|tooltip| tooltip.text == "test error 2.0 %").collect();
        let middle = |coordinate: fn(&(f64, f64)) -> f64| {
            marks.iter().map(|mark| coordinate(&mark.at)).sum::<f64>() / points as f64
        };
        assert_eq!(lowest.len(), 1);
        assert!((lowest[0].at.0 - middle(|at| at.0)).abs() < 0.02 && (lowest[0].at.1 - middle(|at| at.1)).abs() < 0.02);
    }

    #[test]
    fn plane_without_all_points_is_not_drawn() {
        let mut report = bowl();
        report.planes[0].plane.as_mut().unwrap().points.pop();
        assert!(draw(&report, FigureChrome::Full).is_none());
        report.planes[0].plane = None;
        assert!(draw(&report, FigureChrome::Full).is_none());
    }
    #[test]
    fn names_cover_no_marker() {
        let room = Rect::between((0.0, 0.0), (260.0, 260.0));
        let names = ["init 3, order 2", "init 3, order 3", "init 3, order 4"].map(str::to_string);
        // Two side by side nearer than a name is long, and one at the right border.
        let markers = [(50.0, 200.0), (90.0, 200.0), (250.0, 30.0)];
        let spots = name_spots(room, &markers, &names);
        assert_eq!(spots.len(), 3);
        for (index, spot) in spots.iter().enumerate() {
            assert!(spot.is_within(room), "{spot:?}");
            assert!(markers.iter().all(|marker| !spot.meets(around_marker(*marker))), "{spot:?}");
            assert!(spots[..index].iter().all(|other| !spot.meets(*other)), "{spots:?}");
        }
        assert_eq!(spots[2].centre().1, 30.0, "beside its marker");
    }
}
