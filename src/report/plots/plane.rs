//! The test error in the plane through three networks: lines of equal error, and shades between them.

use plotters::prelude::*;
use winsign_core::results::PlaneOutcome;

use super::chart::{Chart, chart, draw_line, draw_marker, place, round_ticks};
use super::contours::{Contour, contours};
use super::figure::{Area, Drawn, Figure, TICKS};
use super::panels::{Panel, axes_text, last_level, level_text, limited, sentences, series_text};
use super::theme::{self, Face, Look, SOLID, ink, look, shade, text_width};
use super::values::Values;
use super::{FigureChrome, Plot};
use crate::{PlaneRow, Report};

const COLUMNS: usize = 2;
const MOST_PANELS: usize = 6;
/// Of a plotting area; a plane takes what its shape leaves of it.
const SIDE: i32 = 520;
/// From the middle of a network's marker to its label, and half the height of that.
const BESIDE: i32 = 14;
const HALF_LABEL: i32 = 13;

/// None if no plane is measured.
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
        size: (SIDE, planes.iter().map(|(_, plane)| size(plane).1).max().unwrap_or(SIDE)),
        room: TICKS,
        scale: None,
        panels: Panel::grid(planes.iter().map(|(row, _)| heading(row)), COLUMNS),
    };
    Some(figure.plot("plane.svg", |index, area, values| draw_plane(area, planes[index], &thresholds, values)))
}

fn is_drawable(plane: &PlaneOutcome) -> bool {
    let (columns, rows) = (plane.x.len(), plane.y.len());
    let spans = |axis: &[f64]| axis.len() > 1 && axis[0] < axis[axis.len() - 1];
    spans(&plane.x) && spans(&plane.y) && plane.points.len() == columns * rows
}

fn heading(row: &PlaneRow) -> Vec<String> {
    let mut lines = vec![series_text(row.method, row.inherit)];
    if row.level > 0 {
        lines.push(level_text(row.level, row.remaining_ratio));
    }
    lines.extend(axes_text(&row.axes));
    lines
}

/// Round errors between the smallest and the largest: evenly spaced, or by their logarithm where they span more than a
/// decade, lest all of them lie at the walls.
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
    round_ticks(low, high).into_iter().filter(inside).collect()
}

/// As large as the plane can be in a panel, at one scale in both directions.
fn size(plane: &PlaneOutcome) -> (i32, i32) {
    let [width, height] = [&plane.x, &plane.y].map(|axis| axis[axis.len() - 1] - axis[0]);
    let scale = f64::from(SIDE) / width.max(height);
    // Of three networks that lie almost on a line there is still a plane to see.
    let length = |length: f64| ((scale * length).round() as i32).max(SIDE / 8);
    (length(width), length(height))
}

fn draw_plane(area: &Area, plane: (&PlaneRow, &PlaneOutcome), thresholds: &[f64], values: &mut Values) -> Drawn {
    let (row, outcome) = plane;
    let (width, height) = size(outcome);
    // Under the heading, in the middle of the panel.
    let corner = ((SIDE - width) / 2, 0);
    let area = area.clone().shrink(corner, (width + TICKS.0, height + TICKS.1));
    let [x, y] = [&outcome.x, &outcome.y].map(|axis| axis[0]..axis[axis.len() - 1]);
    let ticks: Vec<_> = round_ticks(x.start, x.end).into_iter().map(|tick| (tick, tick.to_string())).collect();
    let mut chart = chart(&area, TICKS, x.clone(), y.clone(), &ticks)?;

    // The shade of what lies below the first threshold, between the first and the second, and so on.
    let part = |band: usize| band as f64 / thresholds.len().max(1) as f64;
    chart.draw_series([Rectangle::new([(x.start, y.start), (x.end, y.end)], shade(part(0)).filled())])?;
    let errors: Vec<f64> = outcome.points.iter().map(|point| point.test_error).collect();
    let contours = contours(&outcome.x, &outcome.y, &errors, thresholds);
    for (band, contour) in contours.iter().enumerate() {
        for outline in &contour.areas {
            chart.draw_series([Polygon::new(outline.clone(), shade(part(band + 1)).filled())])?;
        }
    }
    for (band, contour) in contours.iter().enumerate() {
        for line in &contour.lines {
            draw_line(&chart, ink(part(band + 1)).mix(0.6), theme::THIN_LINE, SOLID, line)?;
        }
    }
    let markers: Vec<(i32, i32)> = outcome.networks.iter().map(|network| place(&chart, *network)).collect();
    let names: Vec<String> =
        row.ends.iter().map(|end| super::figure::shortened(&end.label, SIDE / 2, theme::NOTE)).collect();
    let names: Vec<(String, Spot)> =
        names.iter().cloned().zip(name_spots(Spot::of(&chart), &markers, &names)).collect();
    let mut taken: Vec<Spot> = markers.iter().copied().map(Spot::of_marker).collect();
    taken.extend(names.iter().map(|(_, place)| *place));
    for (band, contour) in contours.iter().enumerate() {
        let half = half_label(contour.threshold);
        if let Some(at) = label_place(&chart, contour, &taken) {
            taken.push(Spot::around(at, half));
            draw_label(&chart, at, contour.threshold, part(band + 1))?;
        }
    }
    draw_networks(&chart, &markers, &names)?;
    tell(&chart, row, outcome, values);
    Ok(())
}

/// A part of the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spot {
    left: i32,
    top: i32,
    right: i32,
    bottom: i32,
}

impl Spot {
    fn of(chart: &Chart) -> Spot {
        let (columns, rows) = chart.plotting_area().get_pixel_range();
        Spot { left: columns.start, top: rows.start, right: columns.end, bottom: rows.end }
    }

    fn around((x, y): (i32, i32), (width, height): (i32, i32)) -> Spot {
        Spot { left: x - width, top: y - height, right: x + width, bottom: y + height }
    }

    fn of_marker(at: (i32, i32)) -> Spot {
        Spot::around(at, (theme::MARKER + 2, theme::MARKER + 2))
    }

    fn middle(self) -> (i32, i32) {
        ((self.left + self.right) / 2, (self.top + self.bottom) / 2)
    }

    fn meets(self, other: Spot) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    fn is_within(self, room: Spot) -> bool {
        room.left <= self.left && self.right <= room.right && room.top <= self.top && self.bottom <= room.bottom
    }
}

/// Where the name of each network stands: beside its marker or over or under it, where it covers no marker and no name.
fn name_spots(room: Spot, markers: &[(i32, i32)], names: &[String]) -> Vec<Spot> {
    let mut spots: Vec<Spot> = vec![];
    for (&(x, y), name) in markers.iter().zip(names) {
        let half = (theme::text_width(name, theme::NOTE) / 2 + 2, HALF_LABEL);
        let (beside, over) = (BESIDE + half.0, BESIDE + half.1);
        // Over and under, it may be moved sideways into the plane.
        let inside = x.min(room.right - half.0).max(room.left + half.0);
        let places = [(x + beside, y), (x - beside, y), (inside, y - over), (inside, y + over)];
        let covered = |place: &Spot| {
            let markers = markers.iter().filter(|marker| place.meets(Spot::of_marker(**marker))).count();
            let names = spots.iter().filter(|other| place.meets(**other)).count();
            (!place.is_within(room), markers + names)
        };
        let best = places.map(|at| Spot::around(at, half)).into_iter().min_by_key(covered);
        spots.extend(best);
    }
    spots
}

fn half_label(threshold: f64) -> (i32, i32) {
    (text_width(&threshold.to_string(), theme::NOTE) / 2 + 3, theme::NOTE / 2 + 2)
}

/// The place on a line that is farthest from everything that is taken, if there is one where the label covers nothing.
fn label_place(chart: &Chart, contour: &Contour, taken: &[Spot]) -> Option<(i32, i32)> {
    let (room, half) = (Spot::of(chart), half_label(contour.threshold));
    let distance = |(x, y): (i32, i32)| {
        let to_border = [x - room.left, room.right - x, y - room.top, room.bottom - y];
        let to_taken = taken.iter().map(|other| other.middle());
        let to_taken = to_taken.map(|(a, b)| f64::from(x - a).hypot(f64::from(y - b)) as i32);
        to_border.into_iter().chain(to_taken).min().unwrap_or(0)
    };
    let is_free = |at: &(i32, i32)| {
        let label = Spot::around(*at, half);
        label.is_within(room) && !taken.iter().any(|other| label.meets(*other))
    };
    let places = contour.lines.iter().flatten().map(|point| place(chart, *point)).filter(is_free);
    // The first of several that are equally far.
    let far = places.map(|place| (distance(place), place));
    far.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, place)| place)
}

fn draw_label(chart: &Chart, at: (i32, i32), threshold: f64, part: f64) -> Drawn {
    let area = chart.plotting_area().strip_coord_spec();
    let (left, top) = area.get_base_pixel();
    let (x, y) = (at.0 - left, at.1 - top);
    let text = threshold.to_string();
    let half = half_label(threshold);
    area.draw(&Rectangle::new([(x - half.0, y - half.1), (x + half.0, y + half.1)], shade(part).filled()))?;
    area.draw(&Text::new(text, (x, y), theme::text(theme::NOTE, ink(part)).pos(theme::CENTER)))
}

fn draw_networks(chart: &Chart, markers: &[(i32, i32)], names: &[(String, Spot)]) -> Drawn {
    let look = Look { face: Face::Open, ..look(None, None) };
    let area = chart.plotting_area().strip_coord_spec();
    let base = area.get_base_pixel();
    let inside = |(x, y): (i32, i32)| (x - base.0, y - base.1);
    for (name, place) in names {
        let corners = [(place.left, place.top), (place.right, place.bottom)].map(inside);
        area.draw(&Rectangle::new(corners, WHITE.mix(0.75).filled()))?;
        let style = theme::text(theme::NOTE, theme::TEXT).pos(theme::CENTER);
        area.draw(&Text::new(name.clone(), inside(place.middle()), style))?;
    }
    for marker in markers {
        draw_marker(&area, &look, inside(*marker))?;
    }
    Ok(())
}

/// Every point of the grid says its errors, within a cell around it.
fn tell(chart: &Chart, row: &PlaneRow, outcome: &PlaneOutcome, values: &mut Values) {
    let edges = |axis: &[f64]| -> Vec<f64> {
        let between = axis.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
        std::iter::once(axis[0]).chain(between).chain(axis.last().copied()).collect()
    };
    let (columns, rows) = (edges(&outcome.x), edges(&outcome.y));
    for (index, point) in outcome.points.iter().enumerate() {
        let (column, line) = (index % outcome.x.len(), index / outcome.x.len());
        let a = place(chart, (columns[column], rows[line]));
        let b = place(chart, (columns[column + 1], rows[line + 1]));
        let train = point.train.map_or(String::new(), |train| format!(", training error {:.1} %", train.train_error));
        values.within(a, b, format!("test error {:.1} %{train}", point.test_error), [&row.run]);
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
    fn a_bowl_with_three_networks() {
        let report = bowl();
        let plot = draw(&report, FigureChrome::Full).unwrap();
        for text in ["AWS sign", "level 12, 6.9 % remaining", "seed 2", "seed 4"] {
            assert!(plot.svg.contains(&format!("\n{text}\n")), "{text}");
        }
        // Lines of equal error say which.
        for label in ["3", "5", "7", "10", "15", "20"] {
            assert!(texts(&plot.svg).contains(&label.to_string()), "{label}");
        }
        let told = tooltips(&plot.svg);
        let points = report.planes[0].plane.as_ref().unwrap().points.len();
        assert_eq!(told.len(), points);
        assert!(told.iter().all(|told| told.runs == [report.planes[0].run.as_str()]));
        // The middle of the bowl, at (1, 1), is the middle of the plane.
        let lowest: Vec<_> = told.iter().filter(|told| told.text == "test error 2.0 %").collect();
        let middle = |of: fn(&(f64, f64)) -> f64| told.iter().map(|told| of(&told.at)).sum::<f64>() / points as f64;
        assert_eq!(lowest.len(), 1);
        assert!((lowest[0].at.0 - middle(|at| at.0)).abs() < 2.0 && (lowest[0].at.1 - middle(|at| at.1)).abs() < 2.0);
    }

    #[test]
    fn what_is_no_plane_is_not_drawn() {
        let mut report = bowl();
        report.planes[0].plane.as_mut().unwrap().points.pop();
        assert!(draw(&report, FigureChrome::Full).is_none());
        report.planes[0].plane = None;
        assert!(draw(&report, FigureChrome::Full).is_none());
    }
    #[test]
    fn names_cover_no_marker() {
        let room = Spot { left: 0, top: 0, right: 520, bottom: 520 };
        let names = ["init 3, order 2", "init 3, order 3", "init 3, order 4"].map(str::to_string);
        // Two side by side nearer than a name is long, and one at the right border.
        let markers = [(100, 400), (180, 400), (500, 60)];
        let spots = name_spots(room, &markers, &names);
        assert_eq!(spots.len(), 3);
        for (index, spot) in spots.iter().enumerate() {
            assert!(spot.is_within(room), "{spot:?}");
            assert!(markers.iter().all(|marker| !spot.meets(Spot::of_marker(*marker))), "{spot:?}");
            assert!(spots[..index].iter().all(|other| !spot.meets(*other)), "{spots:?}");
        }
        assert_eq!(spots[2].middle().1, 60, "beside its marker");
    }
}
