//! How all plots look: on paper, on a screen, without colours, to the colour-blind.
//!
//! Lengths are in units of half a pixel, because the drawing library knows whole units only.

use std::f64::consts::TAU;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::run::settings::Method;

pub const UNITS_PER_PIXEL: u32 = 2;

pub const TEXT: RGBColor = RGBColor(34, 34, 34);
pub const FAINT_TEXT: RGBColor = RGBColor(96, 96, 96);
pub const AXIS: RGBColor = RGBColor(110, 110, 110);
pub const GRID: RGBColor = RGBColor(228, 228, 228);

pub const LINE: u32 = 5;
pub const THIN_LINE: u32 = 2;
pub const HAIRLINE: u32 = 1;
pub const MARKER: i32 = 7;

/// Font sizes.
pub const TITLE: i32 = 30;
pub const LABEL: i32 = 23;
pub const NOTE: i32 = 21;

/// The library writes sizes smaller by this factor into the SVG.
const FONT_SCALE: f64 = 1.24;

const FAMILY: &str = "Helvetica, Arial, 'DejaVu Sans', sans-serif";

pub fn text(size: i32, color: RGBColor) -> TextStyle<'static> {
    (FAMILY, f64::from(size) * FONT_SCALE).into_font().color(&color)
}

pub fn bold(size: i32) -> TextStyle<'static> {
    (FAMILY, f64::from(size) * FONT_SCALE, FontStyle::Bold).into_font().color(&TEXT)
}

pub const LEFT: Pos = Pos { h_pos: HPos::Left, v_pos: VPos::Center };
pub const CENTER: Pos = Pos { h_pos: HPos::Center, v_pos: VPos::Center };

/// Methods differ in colour (from the palette of Okabe and Ito), in lightness, and in the shape of their markers. What
/// belongs to no method is grey.
pub fn color(method: Option<Method>) -> RGBColor {
    match method {
        None => FAINT_TEXT,
        Some(Method::Lrr) => RGBColor(230, 159, 0),
        Some(Method::Aws) => RGBColor(0, 114, 178),
        Some(Method::Imp) => RGBColor(0, 158, 115),
        Some(Method::Snip) => RGBColor(213, 94, 0),
        Some(Method::SynFlow) => RGBColor(204, 121, 167),
        Some(Method::Imported) => RGBColor(86, 180, 233),
    }
}

/// Of a line among many of the method's colour.
pub fn dark_color(method: Option<Method>) -> RGBColor {
    let RGBColor(red, green, blue) = color(method);
    RGBColor(red / 3 * 2, green / 3 * 2, blue / 3 * 2)
}

/// The outline of a marker, around its centre.
pub fn marker(method: Option<Method>) -> Vec<(i32, i32)> {
    let (corners, radius) = match method {
        None | Some(Method::Lrr) => (24, MARKER),
        Some(Method::Aws) => (3, MARKER + 3),
        Some(Method::Imp) => (4, MARKER + 2),
        Some(Method::Snip) => (5, MARKER + 1),
        Some(Method::SynFlow) => (6, MARKER + 1),
        Some(Method::Imported) => (8, MARKER + 1),
    };
    let corner = |index: u32| {
        let angle = f64::from(index) / f64::from(corners) * TAU;
        let radius = f64::from(radius);
        ((radius * angle.sin()).round() as i32, (-radius * angle.cos()).round() as i32)
    };
    (0..corners).map(corner).collect()
}

/// At most `most` of the items, evenly picked from all of them.
pub fn thinned<T>(items: &[T], most: usize) -> impl Iterator<Item = &T> {
    let drawn = items.len().min(most);
    (0..drawn).map(move |index| &items[index * items.len() / drawn])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_few_and_spreads_many() {
        assert_eq!(thinned(&[1, 2, 3], 5).collect::<Vec<_>>(), [&1, &2, &3]);
        assert_eq!(thinned(&(0..10).collect::<Vec<_>>(), 3).collect::<Vec<_>>(), [&0, &3, &6]);
        assert_eq!(thinned::<i32>(&[], 3).count(), 0);
    }
}
