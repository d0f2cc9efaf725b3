//! Fonts, colours and lines of all plots: on paper, on a screen, without colours, and to colour-blind readers. Lengths are in pixels.

use std::f64::consts::TAU;

use winsign_core::settings::{Inherit, Method};

use super::svg::{Canvas, Color, Dash, Paint, Point, fill, stroke};
use super::text::Font;

pub(super) const WHITE: Color = Color::new(255, 255, 255);
pub(super) const TEXT: Color = Color::new(34, 34, 34);
pub(super) const FAINT_TEXT: Color = Color::new(96, 96, 96);
pub(super) const AXIS: Color = Color::new(110, 110, 110);
pub(super) const GRID: Color = Color::new(228, 228, 228);

pub(super) const LINE: f64 = 2.5;
pub(super) const MEDIUM_LINE: f64 = 1.5;
pub(super) const THIN_LINE: f64 = 1.0;
pub(super) const HAIRLINE: f64 = 0.5;
const MARKER: f64 = 4.0;
/// The room that the largest marker takes, from its centre.
pub(super) const MARKER_ROOM: f64 = MARKER + 1.0;
/// The opacity of the band around a line.
pub(super) const BAND: f64 = 0.13;
/// The opacity of a bar, enough that bars differ in lightness as their colours do.
pub(super) const FILL: f64 = 0.6;

pub(super) const TITLE: Font = Font { size: 15.0, is_bold: true };
pub(super) const HEADING: Font = Font { size: 11.5, is_bold: true };
pub(super) const LABEL: Font = Font { size: 11.5, is_bold: false };
pub(super) const NOTE: Font = Font { size: 10.5, is_bold: false };

/// The first is the one that text is measured and PNG files are drawn in; the second is like it, where the first is not
/// installed.
pub(super) const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

/// The looks of one series: everything that tells it from the others, of which colour is only one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Look {
    pub color: Color,
    pub marker: Marker,
    pub face: Face,
    pub dash: Dash,
}

/// The outline of a marker. A circle has no corners.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Marker {
    corners: u32,
    radius: f64,
    /// Part of the angle between two corners.
    turned: f64,
}

/// The inside of a marker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Face {
    Full,
    /// Paper with a rim of the colour.
    Open,
    /// The colour with a dot of paper.
    Dotted,
}

pub(super) const SOLID: Dash = &[];
/// The dashes of the training error, beside the test error of the same series.
pub(super) const TRAIN_DASH: Dash = &[4.0, 3.0];

/// The dashes and faces of transfers, in the order of [`Inherit`]; the last are for transfers to come.
const TRANSFERS: &[(Dash, Face)] = &[
    (SOLID, Face::Full),
    (&[9.0, 4.5], Face::Open),
    (&[2.0, 6.0], Face::Dotted),
    (&[12.0, 3.0, 2.5, 3.0], Face::Dotted),
    (&[3.0, 3.5], Face::Open),
    (&[13.0, 4.0], Face::Open),
    (&[9.0, 3.0, 2.5, 3.0, 2.5, 3.0], Face::Full),
    (&[5.0, 3.0, 5.0, 3.0, 2.0, 3.0], Face::Dotted),
    (&[15.0, 7.0], Face::Full),
    (&[6.0, 2.0], Face::Open),
    (&[15.0, 3.0, 6.0, 3.0], Face::Dotted),
    (&[5.0, 8.0], Face::Full),
];

/// Returns the look of a series. The method gives it its colour and the shape of its marker, what was transferred the
/// dashes of its line and the face of its marker.
pub(super) fn look(method: Option<Method>, inherit: Option<Inherit>) -> Look {
    let (dash, face) = match inherit {
        None => (SOLID, Face::Dotted),
        Some(inherit) => TRANSFERS[inherit as usize % TRANSFERS.len()],
    };
    Look { color: color(method), marker: marker(method), face, dash }
}

impl Look {
    /// Returns the paint of a line.
    pub(super) fn line(self, width: f64) -> Paint {
        Paint { dash: self.dash, ..stroke(self.color, width) }
    }

    /// Draws a marker, `scale` times as large as usual, with a rim of paper, so that markers on each other can be
    /// counted.
    pub(super) fn draw_marker(self, canvas: &mut Canvas, (x, y): Point, scale: f64) {
        let (face, rim) = match self.face {
            Face::Open => (WHITE, stroke(self.color, MEDIUM_LINE)),
            Face::Full | Face::Dotted => (self.color, stroke(WHITE, THIN_LINE)),
        };
        let paint = Paint { fill: Some(face), ..rim };
        let Marker { corners, radius, turned } = self.marker;
        let radius = scale * radius;
        let corner = |index: u32| {
            let angle = (f64::from(index) + turned) / f64::from(corners) * TAU;
            (x + radius * angle.sin(), y - radius * angle.cos())
        };
        match corners {
            0 => canvas.circle((x, y), radius, paint),
            _ => canvas.area(&[(0..corners).map(corner).collect()], paint),
        }
        if self.face == Face::Dotted {
            canvas.circle((x, y), scale * MARKER / 3.0, fill(WHITE));
        }
    }
}

/// Returns the colour of a method. Methods differ in lightness first, so that they can be told apart in gray and by
/// anyone, then in hue. What belongs to no method is nearly black.
pub(super) fn color(method: Option<Method>) -> Color {
    match method {
        None => Color::new(28, 28, 28),
        Some(Method::Lrr) => Color::new(230, 159, 0),
        Some(Method::Aws) => Color::new(0, 114, 178),
        Some(Method::Imp) => Color::new(0, 158, 115),
        Some(Method::Snip) => Color::new(152, 52, 10),
        Some(Method::SynFlow) => Color::new(96, 0, 110),
        Some(Method::Imported) => Color::new(140, 208, 245),
    }
}

/// Returns the colour of a line among many of the method's colour.
pub(super) fn dark_color(method: Option<Method>) -> Color {
    let color = color(method);
    Color { rgb: color.rgb.map(|channel| channel / 3 * 2), ..color }
}

fn marker(method: Option<Method>) -> Marker {
    let (corners, radius, turned) = match method {
        None => (4, MARKER + 0.5, 0.5),
        Some(Method::Lrr) => (0, MARKER, 0.0),
        Some(Method::Aws) => (3, MARKER + 1.5, 0.0),
        Some(Method::Imp) => (4, MARKER + 1.0, 0.0),
        Some(Method::Snip) => (3, MARKER + 1.5, 0.5),
        Some(Method::SynFlow) => (5, MARKER + 1.0, 0.0),
        Some(Method::Imported) => (6, MARKER + 0.5, 0.0),
    };
    Marker { corners, radius, turned }
}

/// Returns the shade of a number that is `part` of the way from the lowest to the highest, from light to dark.
pub(super) fn shade(part: f64) -> Color {
    const STOPS: [[u8; 3]; 6] =
        [[252, 249, 232], [206, 226, 222], [137, 190, 212], [67, 143, 190], [28, 88, 152], [8, 32, 84]];
    let place = part.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let below = (place as usize).min(STOPS.len() - 2);
    let channels = [0, 1, 2].map(|channel| [below, below + 1].map(|stop| f64::from(STOPS[stop][channel])));
    let rgb = channels.map(|[from, to]| (from + (place - below as f64) * (to - from)) as u8);
    Color { rgb, opacity: 1.0 }
}

/// Returns the colour of text on the shade of `part`.
pub(super) fn ink(part: f64) -> Color {
    if part > 0.52 { WHITE } else { TEXT }
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
    fn linear(color: Color) -> [f64; 3] {
        color.rgb.map(|channel| {
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
        let fill = |method| lab(linear(Color { rgb: color(method).rgb.map(mixed), opacity: 1.0 }))[0];
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
                assert!(!seen.contains(&(look.marker, look.dash)), "{method:?} {inherit}: add dashes to `TRANSFERS`");
                seen.push((look.marker, look.dash));
            }
        }
    }
}
