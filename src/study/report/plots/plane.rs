//! The test error in the plane through three networks: lines of equal error, and shades between them.

use plotters::prelude::*;

use super::Plot;
use super::chart::{Chart, chart, draw_line, draw_marker, place, round_ticks};
use super::contours::{Contour, contours};
use super::figure::{Area, Drawn, Figure, TICKS};
use super::panels::{Panel, axes_text, last_level, level_text, limited, sentences, series_text};
use super::theme::{self, Face, Look, SOLID, ink, look, shade, text_width};
use super::values::Values;
use crate::run::results::PlaneOutcome;
use crate::study::report::{PlaneRow, Report};

const COLUMNS: usize = 2;
const MOST_PANELS: usize = 6;
/// Of a plotting area; a plane takes what its shape leaves of it.
const SIDE: i32 = 520;
/// Labels are not nearer to each other, to networks and to the border.
const NEAREST: i32 = 44;

/// None if no plane is measured.
pub fn draw(report: &Report) -> Option<Plot> {
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
    let (_, panel_height) = area.dim_in_pixel();
    // At the floor of the panel, in its middle.
    let corner = ((SIDE - width) / 2, panel_height as i32 - height - TICKS.1);
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
    let mut taken: Vec<(i32, i32)> = outcome.networks.iter().map(|network| place(&chart, *network)).collect();
    for (band, contour) in contours.iter().enumerate() {
        if let Some(at) = label_place(&chart, contour, &taken) {
            taken.push(at);
            draw_label(&chart, at, contour.threshold, part(band + 1))?;
        }
    }
    draw_networks(&chart, row, outcome)?;
    tell(&chart, row, outcome, values);
    Ok(())
}

/// The place on a line that is farthest from everything that is taken.
fn label_place(chart: &Chart, contour: &Contour, taken: &[(i32, i32)]) -> Option<(i32, i32)> {
    let (columns, rows) = chart.plotting_area().get_pixel_range();
    let distance = |(x, y): (i32, i32)| {
        let to_border = [x - columns.start, columns.end - x, y - rows.start, rows.end - y];
        let to_taken = taken.iter().map(|(a, b)| f64::from(x - a).hypot(f64::from(y - b)) as i32);
        to_border.into_iter().chain(to_taken).min().unwrap_or(0)
    };
    let places = contour.lines.iter().flatten().map(|point| place(chart, *point));
    let far = places.map(|place| (distance(place), place)).filter(|(distance, _)| *distance >= NEAREST);
    // The first of several that are equally far.
    far.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, place)| place)
}

fn draw_label(chart: &Chart, at: (i32, i32), threshold: f64, part: f64) -> Drawn {
    let area = chart.plotting_area().strip_coord_spec();
    let (left, top) = area.get_base_pixel();
    let (x, y) = (at.0 - left, at.1 - top);
    let text = threshold.to_string();
    let half = (text_width(&text, theme::NOTE) / 2 + 3, theme::NOTE / 2 + 2);
    area.draw(&Rectangle::new([(x - half.0, y - half.1), (x + half.0, y + half.1)], shade(part).filled()))?;
    area.draw(&Text::new(text, (x, y), theme::text(theme::NOTE, ink(part)).pos(theme::CENTER)))
}

fn draw_networks(chart: &Chart, row: &PlaneRow, outcome: &PlaneOutcome) -> Drawn {
    let look = Look { face: Face::Open, ..look(None, None) };
    let area = chart.plotting_area().strip_coord_spec();
    let (base, (width, _)) = (area.get_base_pixel(), area.dim_in_pixel());
    for (network, end) in outcome.networks.iter().zip(&row.ends) {
        let (x, y) = place(chart, *network);
        let (x, y) = (x - base.0, y - base.1);
        draw_marker(&area, &look, (x, y))?;
        let text = super::figure::shortened(&end.label, SIDE / 2, theme::NOTE);
        let length = text_width(&text, theme::NOTE);
        // Beside the marker, where there is room for it.
        let left = if x + 18 + length > width as i32 { x - 18 - length } else { x + 14 };
        let paper = Rectangle::new([(left - 2, y - 13), (left + length + 4, y + 13)], WHITE.mix(0.75).filled());
        area.draw(&paper)?;
        area.draw(&Text::new(text, (left, y), theme::text(theme::NOTE, theme::TEXT).pos(theme::LEFT)))?;
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
    use super::super::samples::{bowl, texts, told};
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
        let plot = draw(&report).unwrap();
        for text in ["AWS sign", "level 12, 6.9 % remaining", "seed 2", "seed 4"] {
            assert!(plot.svg.contains(&format!("\n{text}\n")), "{text}");
        }
        // Lines of equal error say which.
        for label in ["3", "5", "7", "10", "15", "20"] {
            assert!(texts(&plot.svg).contains(&label.to_string()), "{label}");
        }
        let told = told(&plot.svg);
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
        assert!(draw(&report).is_none());
        report.planes[0].plane = None;
        assert!(draw(&report).is_none());
    }
}
