//! The keys under a figure's title, which explain its lines and markers.

use super::svg::{Canvas, Point};
use super::theme::{LABEL, Look};

/// The name of a series, and its look.
pub(super) struct Key {
    pub look: Look,
    /// The width of its line.
    pub line: Option<f64>,
    pub has_marker: bool,
    pub text: String,
}

const LINE_HEIGHT: f64 = 18.0;
/// Between a sign and its text, and between keys.
const SPACE: f64 = 6.0;
const GAP: f64 = 15.0;

impl Key {
    fn sign_width(&self) -> f64 {
        if self.line.is_some() { 56.0 } else { 8.0 }
    }

    fn width(&self) -> f64 {
        self.sign_width() + SPACE + LABEL.width(&self.text)
    }
}

/// Returns the position of each key, in a box of this width.
fn places(keys: &[Key], width: f64) -> Vec<Point> {
    let (mut x, mut y) = (0.0, 0.0);
    let place = |key: &Key| {
        if x > 0.0 && x + key.width() > width {
            (x, y) = (0.0, y + LINE_HEIGHT);
        }
        let place = (x, y);
        x += key.width() + GAP;
        place
    };
    keys.iter().map(place).collect()
}

pub(super) fn height(keys: &[Key], width: f64) -> f64 {
    places(keys, width).last().map_or(0.0, |(_, y)| y + LINE_HEIGHT + 3.0)
}

pub(super) fn draw(canvas: &mut Canvas, keys: &[Key], corner: Point, width: f64) {
    for (key, (x, y)) in keys.iter().zip(places(keys, width)) {
        let (left, middle) = (corner.0 + x, corner.1 + y + LINE_HEIGHT / 2.0 - 3.0);
        let right = left + key.sign_width();
        if let Some(width) = key.line {
            canvas.line(&[(left, middle), (right, middle)], key.look.line(width));
        }
        if key.has_marker {
            key.look.draw_marker(canvas, ((left + right) / 2.0, middle), 1.0);
        }
        let text = LABEL.shortened(&key.text, width - key.sign_width() - SPACE);
        canvas.text((right + SPACE, middle), &text, LABEL.left());
    }
}

#[cfg(test)]
mod tests {
    use super::super::theme::{LINE, look};
    use super::*;

    #[test]
    fn keys_that_do_not_fit_go_to_the_next_line() {
        let key =
            |text: &str| Key { look: look(None, None), line: Some(LINE), has_marker: true, text: text.to_string() };
        let keys = [key("AWS sign"), key("LRR"), key(&"long ".repeat(100)), key("x")];
        let places = places(&keys, 300.0);
        assert_eq!((places[0], places[1].1), ((0.0, 0.0), 0.0));
        assert!(places[1].0 > 56.0 + LABEL.width("AWS sign"));
        assert_eq!(places[2..], [(0.0, LINE_HEIGHT), (0.0, 2.0 * LINE_HEIGHT)]);
        assert_eq!((height(&keys, 300.0), height(&[], 300.0)), (3.0 * LINE_HEIGHT + 3.0, 0.0));
    }
}
