//! How all plots look: on paper, on a screen, without colours, to the colour-blind.
//!
//! Lengths are in units of half a pixel, because the drawing library knows whole units only.

use std::f64::consts::TAU;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use winsign_core::settings::{Inherit, Method};

pub(super) const UNITS_PER_PIXEL: u32 = 2;

pub(super) const TEXT: RGBColor = RGBColor(34, 34, 34);
pub(super) const FAINT_TEXT: RGBColor = RGBColor(96, 96, 96);
pub(super) const AXIS: RGBColor = RGBColor(110, 110, 110);
pub(super) const GRID: RGBColor = RGBColor(228, 228, 228);

pub(super) const LINE: u32 = 5;
pub(super) const THIN_LINE: u32 = 2;
pub(super) const HAIRLINE: u32 = 1;
pub(super) const MARKER: i32 = 8;
/// How much of a colour is in the band around a line.
pub(super) const BAND: f64 = 0.13;
/// How much of a colour is in a bar: enough that bars differ in lightness as their colours do.
pub(super) const FILL: f64 = 0.6;

/// Font sizes.
pub(super) const TITLE: i32 = 30;
pub(super) const LABEL: i32 = 23;
pub(super) const NOTE: i32 = 21;

/// The library writes sizes smaller by this factor into the SVG.
const FONT_SCALE: f64 = 1.24;

/// The first is the one that pictures are made with; the second is like it, where the first is not installed.
const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

pub(super) fn text(size: i32, color: RGBColor) -> TextStyle<'static> {
    (FAMILY, f64::from(size) * FONT_SCALE).into_font().color(&color)
}

pub(super) fn bold(size: i32) -> TextStyle<'static> {
    (FAMILY, f64::from(size) * FONT_SCALE, FontStyle::Bold).into_font().color(&TEXT)
}

pub(super) const LEFT: Pos = Pos { h_pos: HPos::Left, v_pos: VPos::Center };
pub(super) const CENTER: Pos = Pos { h_pos: HPos::Center, v_pos: VPos::Center };
pub(super) const RIGHT: Pos = Pos { h_pos: HPos::Right, v_pos: VPos::Center };

/// About the width of a text in the first font, rather too much than too little.
pub(super) fn text_width(text: &str, size: i32) -> i32 {
    let advance = |c: char| match c {
        'i' | 'j' | 'l' | 'I' | 'J' | '\'' | '|' => 0.3,
        'f' | 'r' | 't' | ' ' | '.' | ',' | ':' | ';' | '/' | '-' | '(' | ')' | '[' | ']' | '!' | '·' => 0.4,
        'm' | 'w' | 'M' | 'W' | '%' | '@' | '±' | '=' | '+' | '<' | '>' | '…' => 0.95,
        _ if c.is_uppercase() => 0.73,
        _ if c.is_ascii() || c.is_alphanumeric() && c < '\u{600}' => 0.63,
        _ => 1.0,
    };
    (text.chars().map(advance).sum::<f64>() * f64::from(size)).ceil() as i32
}

/// How one series looks: everything that tells it from the others, of which colour is only one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Look {
    pub color: RGBColor,
    /// The outline of its marker, around the centre.
    pub marker: Vec<(i32, i32)>,
    pub face: Face,
    pub dash: Dash,
}

/// How a marker is filled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Face {
    Full,
    /// Paper with a rim of the colour.
    Open,
    /// The colour with a dot of paper.
    Dotted,
}

/// Lengths drawn and left out, in turn; none for a line that is drawn throughout.
pub(super) type Dash = &'static [i32];

pub(super) const SOLID: Dash = &[];
/// Of the training error, beside the test error of the same series.
pub(super) const TRAIN_DASH: Dash = &[8, 6];

/// The method gives a series its colour and the shape of its marker, what was transferred the dashes of its line and
/// the face of its marker.
pub(super) fn look(method: Option<Method>, inherit: Option<Inherit>) -> Look {
    let (dash, face): (Dash, Face) = match inherit {
        None => (SOLID, Face::Dotted),
        Some(Inherit::Sign) => (SOLID, Face::Full),
        Some(Inherit::Dense) => (&[26, 8], Face::Open),
        Some(Inherit::Mask) => (&[18, 9], Face::Open),
        Some(Inherit::Magnitude) => (&[4, 12], Face::Dotted),
        Some(Inherit::SignNorm) => (&[24, 6, 5, 6], Face::Dotted),
        Some(Inherit::Retrain) => (&[6, 7], Face::Open),
        Some(Inherit::RandomMask) => (&[18, 6, 5, 6, 5, 6], Face::Full),
        Some(Inherit::RandomMaskErk) => (&[10, 6, 10, 6, 4, 6], Face::Dotted),
        Some(Inherit::RandomSign) => (&[30, 14], Face::Full),
    };
    Look { color: color(method), marker: marker(method), face, dash }
}

/// Methods differ in lightness first, so that they can be told apart in gray and by anyone, then in hue. What belongs to no
/// method is nearly black.
pub(super) fn color(method: Option<Method>) -> RGBColor {
    match method {
        None => RGBColor(28, 28, 28),
        Some(Method::Lrr) => RGBColor(230, 159, 0),
        Some(Method::Aws) => RGBColor(0, 114, 178),
        Some(Method::Imp) => RGBColor(0, 158, 115),
        Some(Method::Snip) => RGBColor(152, 52, 10),
        Some(Method::SynFlow) => RGBColor(96, 0, 110),
        Some(Method::Imported) => RGBColor(140, 208, 245),
    }
}

/// Of a line among many of the method's colour.
pub(super) fn dark_color(method: Option<Method>) -> RGBColor {
    let RGBColor(red, green, blue) = color(method);
    RGBColor(red / 3 * 2, green / 3 * 2, blue / 3 * 2)
}

/// The outline of a marker, around its centre.
fn marker(method: Option<Method>) -> Vec<(i32, i32)> {
    let (corners, radius, turned) = match method {
        None => (4, MARKER + 1, 0.5),
        Some(Method::Lrr) => (24, MARKER, 0.0),
        Some(Method::Aws) => (3, MARKER + 3, 0.0),
        Some(Method::Imp) => (4, MARKER + 2, 0.0),
        Some(Method::Snip) => (3, MARKER + 3, 0.5),
        Some(Method::SynFlow) => (5, MARKER + 2, 0.0),
        Some(Method::Imported) => (6, MARKER + 1, 0.0),
    };
    let corner = |index: u32| {
        let angle = (f64::from(index) + turned) / f64::from(corners) * TAU;
        let radius = f64::from(radius);
        ((radius * angle.sin()).round() as i32, (-radius * angle.cos()).round() as i32)
    };
    (0..corners).map(corner).collect()
}

/// Shades of one number, from light to dark: of `part` of the way from its lowest value to its highest, in [0, 1].
pub(super) fn shade(part: f64) -> RGBColor {
    const STOPS: [(u8, u8, u8); 6] =
        [(252, 249, 232), (206, 226, 222), (137, 190, 212), (67, 143, 190), (28, 88, 152), (8, 32, 84)];
    let place = part.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let below = (place as usize).min(STOPS.len() - 2);
    let (from, to) = (STOPS[below], STOPS[below + 1]);
    let mixed = |from: u8, to: u8| (f64::from(from) + (place - below as f64) * (f64::from(to) - f64::from(from))) as u8;
    RGBColor(mixed(from.0, to.0), mixed(from.1, to.1), mixed(from.2, to.2))
}

/// Of text on that shade.
pub(super) fn ink(part: f64) -> RGBColor {
    if part > 0.52 { WHITE } else { TEXT }
}

/// The parts of a line that its dashes leave.
pub(super) fn dashed(points: &[(i32, i32)], dash: Dash) -> Vec<Vec<(i32, i32)>> {
    if dash.is_empty() || points.len() < 2 {
        return vec![points.to_vec()];
    }
    let rounded = |(x, y): (f64, f64)| (x.round() as i32, y.round() as i32);
    let mut parts = vec![vec![points[0]]];
    let (mut turn, mut left) = (0, f64::from(dash[0]));
    for pair in points.windows(2) {
        let [from, to] = [pair[0], pair[1]].map(|(x, y)| (f64::from(x), f64::from(y)));
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let mut gone = 0.0;
        while length - gone > left {
            gone += left;
            let at = rounded((from.0 + gone / length * (to.0 - from.0), from.1 + gone / length * (to.1 - from.1)));
            match turn % 2 {
                0 => parts.last_mut().expect("begun with one").push(at),
                _ => parts.push(vec![at]),
            }
            turn += 1;
            left = f64::from(dash[turn % dash.len()]);
        }
        left -= length - gone;
        if turn % 2 == 0 {
            parts.last_mut().expect("begun with one").push(pair[1]);
        }
    }
    parts.retain(|part| part.len() > 1);
    parts
}

/// At most `most` of the items, evenly picked from all of them.
pub(super) fn thinned<T>(items: &[T], most: usize) -> impl Iterator<Item = &T> {
    let drawn = items.len().min(most);
    (0..drawn).map(move |index| &items[index * items.len() / drawn])
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    fn methods() -> Vec<Option<Method>> {
        const ALL: [Method; 6] =
            [Method::Lrr, Method::Aws, Method::Imp, Method::Snip, Method::SynFlow, Method::Imported];
        std::iter::once(None).chain(ALL.map(Some)).collect()
    }

    /// Without gamma, in [0, 1].
    fn linear(RGBColor(red, green, blue): RGBColor) -> [f64; 3] {
        [red, green, blue].map(|channel| {
            let value = f64::from(channel) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        })
    }

    fn times(matrix: [[f64; 3]; 3], vector: [f64; 3]) -> [f64; 3] {
        matrix.map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum())
    }

    /// CIE L*a*b* with the white of sRGB, D65.
    fn lab(linear: [f64; 3]) -> [f64; 3] {
        const TO_XYZ: [[f64; 3]; 3] =
            [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]];
        let xyz = times(TO_XYZ, linear);
        let root = |value: f64| {
            if value > 216.0 / 24389.0 { value.cbrt() } else { (24389.0 / 27.0 * value + 16.0) / 116.0 }
        };
        let [x, y, z] = [root(xyz[0] / 0.95047), root(xyz[1]), root(xyz[2] / 1.08883)];
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    /// Complete protanopia and deuteranopia, after Machado, Oliveira and Fernandes (2009), in linear RGB.
    const BLINDNESSES: [[[f64; 3]; 3]; 2] = [
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ];

    fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
    }

    #[test]
    fn colours_differ_in_gray_and_to_the_colour_blind() {
        let colors: Vec<[f64; 3]> = methods().into_iter().map(|method| linear(color(method))).collect();
        for (index, &a) in colors.iter().enumerate() {
            // On white paper.
            assert!(lab(a)[0] < 82.0, "{:?}", methods()[index]);
            for (other, &b) in colors.iter().enumerate().skip(index + 1) {
                let names = (methods()[index], methods()[other]);
                let lightness = (lab(a)[0] - lab(b)[0]).abs();
                assert!(lightness > 8.0, "{names:?}: {lightness}");
                let seen = BLINDNESSES.map(|matrix| distance(lab(times(matrix, a)), lab(times(matrix, b))));
                assert!(seen.iter().all(|distance| *distance > 15.0), "{names:?}: {seen:?}");
            }
        }
        // The two methods of the paper most of all.
        let [lrr, aws] = [Method::Lrr, Method::Aws].map(|method| lab(linear(color(Some(method))))[0]);
        assert!((lrr - aws).abs() > 20.0, "{lrr} {aws}");
    }

    #[test]
    fn fills_differ_in_gray() {
        let mixed = |channel: u8| (255.0 - FILL * (255.0 - f64::from(channel))).round() as u8;
        let fill = |method| {
            let RGBColor(red, green, blue) = color(method);
            lab(linear(RGBColor(mixed(red), mixed(green), mixed(blue))))[0]
        };
        // Bars of no method never stand beside others.
        let mut lightness: Vec<f64> = methods().into_iter().filter(Option::is_some).map(fill).collect();
        lightness.sort_by(f64::total_cmp);
        assert!(lightness.windows(2).all(|pair| pair[1] - pair[0] > 5.0), "{lightness:?}");
        let [lrr, aws] = [Method::Lrr, Method::Aws].map(|method| fill(Some(method)));
        assert!((lrr - aws).abs() > 10.0, "{lrr} {aws}");
    }

    #[test]
    fn shades_darken_evenly() {
        let lightness: Vec<f64> = (0..=20).map(|step| lab(linear(shade(f64::from(step) / 20.0)))[0]).collect();
        assert!(lightness.windows(2).all(|pair| pair[0] - pair[1] > 2.0), "{lightness:?}");
        for part in [0.0, 0.45, 0.55, 1.0] {
            let contrast = (lab(linear(ink(part)))[0] - lab(linear(shade(part)))[0]).abs();
            assert!(contrast > 35.0, "{part}: {contrast}");
        }
        assert_eq!((shade(-1.0), shade(2.0)), (shade(0.0), shade(1.0)));
    }

    #[test]
    fn every_series_has_a_look_of_its_own_without_colour() {
        let mut seen = Vec::new();
        for method in methods() {
            for inherit in Inherit::VARIANTS {
                let look = look(method, Some(*inherit));
                assert!(!seen.contains(&(look.marker.clone(), look.dash)), "{method:?} {inherit}");
                seen.push((look.marker, look.dash));
            }
        }
    }

    #[test]
    fn dashes_go_around_corners() {
        assert_eq!(dashed(&[(0, 0), (10, 0)], SOLID), [[(0, 0), (10, 0)]]);
        assert_eq!(dashed(&[(0, 0), (10, 0)], &[4, 2]), [[(0, 0), (4, 0)], [(6, 0), (10, 0)]]);
        let parts = dashed(&[(0, 0), (6, 0), (6, 10)], &[8, 3]);
        assert_eq!(parts, [vec![(0, 0), (6, 0), (6, 2)], vec![(6, 5), (6, 10)]]);
        // A gap that ends exactly where the line does leaves nothing behind.
        assert_eq!(dashed(&[(0, 0), (6, 0)], &[4, 2]), [[(0, 0), (4, 0)]]);
        assert_eq!(dashed(&[(3, 3)], &[4, 2]), [[(3, 3)]]);
    }

    #[test]
    fn thinning_keeps_few_and_spreads_many() {
        assert_eq!(thinned(&[1, 2, 3], 5).collect::<Vec<_>>(), [&1, &2, &3]);
        assert_eq!(thinned(&(0..10).collect::<Vec<_>>(), 3).collect::<Vec<_>>(), [&0, &3, &6]);
        assert_eq!(thinned::<i32>(&[], 3).count(), 0);
    }
}
