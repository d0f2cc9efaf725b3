//! Axes of one panel, and what is drawn between them.

use std::ops::Range;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::figure::{Area, Backend, Drawn};
use super::theme::{self, Dash, Face, Look, SOLID};
use crate::table::remaining_text;

pub(super) type Chart<'a> = ChartContext<'a, Backend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Where an axis has a mark, and what is written there.
pub(super) type Tick = (f64, String);

/// Axes and grid of one panel; ticks of x where `x_ticks` gives them a label. `room` is the figure's.
pub(super) fn chart<'a>(
    area: &Area<'a>,
    room: (i32, i32),
    x: Range<f64>,
    y: Range<f64>,
    x_ticks: &[Tick],
) -> Drawn<Chart<'a>> {
    let mut chart = ChartBuilder::on(area)
        .set_label_area_size(LabelAreaPosition::Left, room.0)
        .set_label_area_size(LabelAreaPosition::Bottom, room.1)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .y_labels(8)
        .bold_line_style(theme::GRID.stroke_width(theme::THIN_LINE))
        .light_line_style(TRANSPARENT)
        .axis_style(theme::AXIS.stroke_width(theme::HAIRLINE))
        .set_tick_mark_size(LabelAreaPosition::Left, 8)
        // Ticks are sums of steps: 0.30000000000000004.
        .y_label_formatter(&|value| format!("{}", (value * 1e6).round() / 1e6))
        .label_style(theme::text(theme::NOTE, theme::TEXT))
        .draw()?;
    let floor = chart.y_range().start;
    let range = chart.x_range();
    let axis = theme::AXIS.stroke_width(theme::THIN_LINE);
    chart.draw_series([PathElement::new(vec![(range.start, floor), (range.end, floor)], axis)])?;
    let style = theme::text(theme::NOTE, theme::TEXT).pos(theme::CENTER);
    chart.draw_series(x_ticks.iter().map(|(x, label)| {
        EmptyElement::at((*x, floor))
            + PathElement::new(vec![(0, 0), (0, 6)], axis)
            + Text::new(label.clone(), (0, room.1 / 2 + 2), style.clone())
    }))?;
    Ok(chart)
}

/// Ticks nearer to each other than this part of an axis are one.
const NEAREST_TICKS: f64 = 0.125;

/// The ticks of a logarithmic axis of these ratios, in percent, not more than seven, at round numbers between them. Of
/// levels so near to each other that there are hardly any, the ratios themselves. They lie at [`decades_below_one`].
pub(super) fn ratio_ticks(ratios: &[f64]) -> Vec<Tick> {
    let from = ratios.iter().copied().fold(0.0, f64::max);
    let to = ratios.iter().copied().fold(from, f64::min);
    let round = round_ratios(from, to);
    if round.len() >= 3 {
        return round;
    }
    let own = own_ratios(ratios, decades_below_one(to) - decades_below_one(from));
    if own.len() >= round.len() { own } else { round }
}

fn round_ratios(from: f64, to: f64) -> Vec<Tick> {
    let round = |digits: &[f64]| -> Vec<Tick> {
        let percents = (-6..=2).rev().flat_map(|exponent| digits.iter().map(move |digit| (exponent, *digit)));
        percents
            .map(|(exponent, digit)| (digit * 10.0_f64.powi(exponent), exponent))
            .filter(|(percent, _)| (to * 0.999..=from * 1.001).contains(&(percent / 100.0)))
            .map(|(percent, exponent)| {
                (decades_below_one(percent / 100.0), format!("{percent:.*}", (-exponent).max(0) as usize))
            })
            .collect()
    };
    let choices = [&[7.0, 5.0, 4.0, 3.0, 2.0, 1.0][..], &[5.0, 2.0, 1.0], &[3.0, 1.0], &[1.0]].map(round);
    let fitting = choices.iter().find(|ticks| ticks.len() <= 7);
    let ticks = fitting.unwrap_or(&choices[3]);
    let step = ticks.len().div_ceil(7).max(1);
    ticks.iter().step_by(step).cloned().collect()
}

/// From dense to sparse, of an axis that is `length` decades long.
fn own_ratios(ratios: &[f64], length: f64) -> Vec<Tick> {
    let mut places: Vec<f64> = ratios.iter().map(|ratio| decades_below_one(*ratio)).collect();
    places.sort_by(f64::total_cmp);
    let mut ticks: Vec<Tick> = vec![];
    for place in places {
        if ticks.last().is_none_or(|(last, _)| place - last > NEAREST_TICKS * length) {
            let text = remaining_text(Some(10.0_f64.powf(-place)));
            let percent = text.trim_end_matches(" %");
            ticks.push((place, percent.trim_end_matches(".0").to_string()));
        }
    }
    ticks
}

/// Round numbers from low to high, four to ten of them.
pub(super) fn round_ticks(low: f64, high: f64) -> Vec<f64> {
    let range = high - low;
    if !(range > 0.0 && range.is_finite()) {
        return vec![];
    }
    let power = 10.0_f64.powf((range / 4.0).log10().floor());
    let step = [5.0, 2.0].map(|digit| digit * power).into_iter().find(|step| range / step >= 4.0).unwrap_or(power);
    let multiples = (low / step - 1e-9).ceil() as i64..=(high / step + 1e-9).floor() as i64;
    // Not 0.30000000000000004.
    multiples.map(|multiple| (multiple as f64 * step * 1e9).round() / 1e9).collect()
}

/// Where a ratio is on a logarithmic axis that begins with all weights, dense networks, on the left.
pub(super) fn decades_below_one(ratio: f64) -> f64 {
    // Not minus zero.
    0.0 - ratio.log10()
}

/// Where a point of the chart is in the picture.
pub(super) fn place(chart: &Chart, point: (f64, f64)) -> (i32, i32) {
    chart.backend_coord(&point)
}

/// A marker with a rim of paper, so that markers on each other can be counted.
pub(super) fn draw_marker<CT: CoordTranslate>(area: &DrawingArea<Backend, CT>, look: &Look, at: CT::From) -> Drawn
where
    CT::From: Clone,
{
    let outline = look.marker.clone();
    let rim: Vec<(i32, i32)> = outline.iter().chain(outline.iter().take(2)).copied().collect();
    let (face, rim_style) = match look.face {
        Face::Open => (WHITE, look.color.stroke_width(theme::THIN_LINE + 1)),
        Face::Full | Face::Dotted => (look.color, WHITE.stroke_width(theme::THIN_LINE)),
    };
    let shape = Polygon::new(outline, face.filled());
    area.draw(&(EmptyElement::at(at.clone()) + shape + PathElement::new(rim, rim_style)))?;
    if look.face == Face::Dotted {
        area.draw(&Circle::new(at, theme::MARKER / 3, WHITE.filled()))?;
    }
    Ok(())
}

/// A line through points of the chart.
pub(super) fn draw_line(chart: &Chart, color: RGBAColor, width: u32, dash: Dash, points: &[(f64, f64)]) -> Drawn {
    let area = chart.plotting_area().strip_coord_spec();
    let (left, top) = area.get_base_pixel();
    let places: Vec<(i32, i32)> =
        points.iter().map(|point| place(chart, *point)).map(|(x, y)| (x - left, y - top)).collect();
    draw_places(&area, color, width, dash, &places)
}

/// A line of a series through places of an area.
pub(super) fn draw_dashed(area: &Area, look: &Look, width: u32, places: &[(i32, i32)]) -> Drawn {
    draw_places(area, look.color.to_rgba(), width, look.dash, places)
}

fn draw_places(area: &Area, color: RGBAColor, width: u32, dash: Dash, places: &[(i32, i32)]) -> Drawn {
    for mut part in theme::dashed(places, dash) {
        // One point is no line, nor are two at one place.
        part.dedup();
        if part.len() < 2 {
            continue;
        }
        area.draw(&PathElement::new(part, color.stroke_width(width)))?;
    }
    Ok(())
}

/// What lies between two lines with the same x: points of x, low and high.
pub(super) fn draw_band(chart: &mut Chart, color: RGBColor, band: &[(f64, f64, f64)]) -> Drawn {
    if band.len() < 2 {
        return Ok(());
    }
    let low = band.iter().map(|&(x, low, _)| (x, low));
    let high = band.iter().rev().map(|&(x, _, high)| (x, high));
    let outline: Vec<(f64, f64)> = low.chain(high).collect();
    chart.draw_series([Polygon::new(outline, color.mix(theme::BAND).filled())])?;
    Ok(())
}

/// A thin line across the panel.
pub(super) fn draw_level(chart: &Chart, color: RGBColor, dash: Dash, y: f64) -> Drawn {
    let range = chart.x_range();
    draw_line(chart, color.to_rgba(), theme::THIN_LINE + 1, dash, &[(range.start, y), (range.end, y)])
}

/// A thin line from the floor to the ceiling.
pub(super) fn draw_upright(chart: &Chart, color: RGBColor, x: f64) -> Drawn {
    let range = chart.y_range();
    draw_line(chart, color.to_rgba(), theme::HAIRLINE, SOLID, &[(x, range.start), (x, range.end)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(round_ticks(0.0, 64.0), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
        assert_eq!(round_ticks(-1.0, 1.0), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        assert_eq!(round_ticks(0.12, 0.5), [0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5]);
        assert_eq!(round_ticks(0.0, 5.0), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        for (low, high) in [(0.0, 3.9), (1e-7, 4.1e-7), (17.0, 9_999.0), (-3.0, 0.2)] {
            assert!((4..=10).contains(&round_ticks(low, high).len()), "{low} {high}");
        }
        assert_eq!(round_ticks(1.0, 1.0), [] as [f64; 0]);
    }

    #[test]
    fn ratios_have_round_ticks() {
        let texts = |from, to| ratio_ticks(&[from, to]).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(1.0, 0.0687), ["100", "50", "20", "10"]);
        assert_eq!(texts(1.0, 0.011), ["100", "50", "20", "10", "5", "2"]);
        assert_eq!(texts(1.0, 0.001), ["100", "30", "10", "3", "1", "0.3", "0.1"]);
        assert_eq!(texts(1.0, 1e-4), ["100", "10", "1", "0.1", "0.01"]);
        assert_eq!(texts(0.41, 0.0687), ["40", "30", "20", "10", "7"]);
        assert_eq!(texts(0.04, 0.03), ["4", "3"]);
        assert_eq!(ratio_ticks(&[1.0, 0.5]).last().unwrap().0, 2.0_f64.log10());
        assert_eq!(decades_below_one(1.0), 0.0);
        assert!(decades_below_one(1.0).is_sign_positive());
    }
    #[test]
    fn ratios_without_round_numbers_between_them_are_ticks_themselves() {
        let texts = |ratios: &[f64]| ratio_ticks(ratios).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(&[0.512, 0.64, 0.512]), ["64", "51.2"]);
        assert_eq!(texts(&[1.0, 0.8, 0.64]), ["100", "80", "64"]);
        assert_eq!(ratio_ticks(&[0.64, 0.512])[0].0, decades_below_one(0.64));
        // Labels of methods that leave nearly the same do not lie on each other.
        assert_eq!(texts(&[1.0, 0.8, 0.7998, 0.64, 0.6402]), ["100", "80", "64"]);
        assert_eq!(texts(&[0.0012]), ["0.12"]);
        assert_eq!(texts(&[]), [] as [&str; 0]);
    }
}
