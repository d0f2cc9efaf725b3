//! The keys under a figure's title: what each line and marker stands for.

use plotters::prelude::*;

use super::chart::{draw_dashed, draw_marker};
use super::figure::{Area, Drawn, shortened};
use super::theme::{self, Look};

/// What a series is called, and how it shows.
pub(super) struct Key {
    pub look: Look,
    pub sign: Sign,
    pub text: String,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Sign {
    Marker,
    /// With a marker on it.
    Line,
    /// Of a width.
    BareLine(u32),
}

const LINE_HEIGHT: i32 = 36;
/// Between a sign and its text, and between keys.
const SPACE: i32 = 12;
const GAP: i32 = 30;

impl Key {
    fn sign_width(&self) -> i32 {
        if self.sign == Sign::Marker { 2 * theme::MARKER } else { 112 }
    }

    fn width(&self) -> i32 {
        self.sign_width() + SPACE + theme::text_width(&self.text, theme::LABEL)
    }
}

/// Where each key is, in a box of this width.
fn places(keys: &[Key], width: i32) -> Vec<(i32, i32)> {
    let (mut x, mut line) = (0, 0);
    let place = |key: &Key| {
        if x > 0 && x + key.width() > width {
            (x, line) = (0, line + 1);
        }
        let place = (x, line * LINE_HEIGHT);
        x += key.width() + GAP;
        place
    };
    keys.iter().map(place).collect()
}

pub(super) fn height(keys: &[Key], width: i32) -> i32 {
    places(keys, width).last().map_or(0, |(_, y)| y + LINE_HEIGHT + 6)
}

pub(super) fn draw(root: &Area, keys: &[Key], corner: (i32, i32), width: i32) -> Drawn {
    for (key, (x, y)) in keys.iter().zip(places(keys, width)) {
        let (left, middle) = (corner.0 + x, corner.1 + y + LINE_HEIGHT / 2 - 6);
        let right = left + key.sign_width();
        match key.sign {
            Sign::Marker => {}
            Sign::Line => draw_dashed(root, &key.look, theme::LINE, &[(left, middle), (right, middle)])?,
            Sign::BareLine(width) => draw_dashed(root, &key.look, width, &[(left, middle), (right, middle)])?,
        }
        if !matches!(key.sign, Sign::BareLine(_)) {
            draw_marker(root, &key.look, ((left + right) / 2, middle))?;
        }
        let text = shortened(&key.text, width - key.sign_width() - SPACE, theme::LABEL);
        let style = theme::text(theme::LABEL, theme::TEXT).pos(theme::LEFT);
        root.draw(&Text::new(text, (right + SPACE, middle), style))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_do_not_fit_go_to_the_next_line() {
        let key = |text: &str| Key { look: theme::look(None, None), sign: Sign::Line, text: text.to_string() };
        let keys = [key("AWS sign"), key("LRR"), key(&"long ".repeat(100)), key("x")];
        let places = places(&keys, 600);
        assert_eq!((places[0], places[1].1), ((0, 0), 0));
        assert!(places[1].0 > 112 + theme::text_width("AWS sign", theme::LABEL));
        assert_eq!(places[2..], [(0, LINE_HEIGHT), (0, 2 * LINE_HEIGHT)]);
        assert_eq!((height(&keys, 600), height(&[], 600)), (3 * LINE_HEIGHT + 6, 0));
    }
}
