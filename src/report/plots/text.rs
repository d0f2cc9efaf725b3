//! Lines of text: their widths, line breaks and styles.

use std::fmt::{self, Display};
use std::sync::LazyLock;

use dejavu::sans;
use skrifa::charmap::Charmap;
use skrifa::instance::{LocationRef, Size};
use skrifa::metrics::GlyphMetrics;
use skrifa::{FontRef, MetadataProvider};

use super::svg::Color;
use super::theme::TEXT;

/// A size of DejaVu Sans.
#[derive(Clone, Copy, Debug)]
pub(super) struct Font {
    pub size: f64,
    pub is_bold: bool,
}

impl Font {
    /// Returns the width of a line of text; a letter that the font lacks counts as a square.
    pub(super) fn width(self, text: &str) -> f64 {
        let (letters, widths) = &FACES[usize::from(self.is_bold)];
        let width = |letter| widths.advance_width(letters.map(letter)?).map(f64::from);
        self.size * text.chars().map(|letter| width(letter).unwrap_or(1.0)).sum::<f64>()
    }

    /// Returns lines of at most this width, broken between words, or within a word that is longer than a line.
    pub(super) fn wrapped(self, text: &str, width: f64) -> Vec<String> {
        let mut lines = vec![String::new()];
        for word in text.split_whitespace() {
            let line = lines.last_mut().expect("never empty");
            let longer = format!("{line}{}{word}", if line.is_empty() { "" } else { " " });
            if self.width(&longer) <= width {
                *line = longer;
                continue;
            }
            if !line.is_empty() {
                lines.push(String::new());
            }
            for letter in word.chars() {
                let line = lines.last_mut().expect("never empty");
                line.push(letter);
                if self.width(line) > width && line.chars().count() > 1 {
                    line.pop();
                    lines.push(letter.to_string());
                }
            }
        }
        lines
    }

    /// Returns at most `most` lines of at most this width; the last one is cut if the text is longer.
    pub(super) fn wrapped_to(self, text: &str, width: f64, most: usize) -> Vec<String> {
        let mut lines = self.wrapped(text, width);
        let rest = lines.split_off(lines.len().min(most - 1)).join(" ");
        lines.extend((!rest.is_empty()).then(|| self.shortened(&rest, width)));
        lines
    }

    /// Returns the text, cut at the end if it is wider than that.
    pub(super) fn shortened(self, text: &str, width: f64) -> String {
        if self.width(text) <= width {
            return text.to_string();
        }
        let ends = text.char_indices().map(|(at, _)| format!("{}…", &text[..at]));
        ends.take_while(|short| self.width(short) <= width).last().unwrap_or_default()
    }

    /// Returns the style of a line that begins where it is placed.
    pub(super) fn left(self) -> TextStyle {
        TextStyle { font: self, color: TEXT, anchor: "start", is_upright: false }
    }

    pub(super) fn centred(self) -> TextStyle {
        TextStyle { anchor: "middle", ..self.left() }
    }

    pub(super) fn right(self) -> TextStyle {
        TextStyle { anchor: "end", ..self.left() }
    }
}

/// The letters of the regular and the bold font, and their widths as parts of the size.
static FACES: LazyLock<[(Charmap, GlyphMetrics); 2]> = LazyLock::new(|| {
    [sans::regular(), sans::bold()].map(|font| {
        let font = FontRef::new(font).expect("a font that is part of the program");
        (font.charmap(), font.glyph_metrics(Size::new(1.0), LocationRef::default()))
    })
});

/// The looks of a line.
#[derive(Clone, Copy)]
pub(super) struct TextStyle {
    pub font: Font,
    color: Color,
    anchor: &'static str,
    /// The line is turned by a quarter to the left.
    pub is_upright: bool,
}

impl TextStyle {
    pub(super) fn colored(self, color: Color) -> TextStyle {
        TextStyle { color, ..self }
    }

    pub(super) fn upright(self) -> TextStyle {
        TextStyle { is_upright: true, ..self }
    }
}

/// Writes attributes.
impl Display for TextStyle {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let TextStyle { font, color, anchor, .. } = self;
        let weight = if font.is_bold { " font-weight=\"bold\"" } else { "" };
        write!(out, " text-anchor=\"{anchor}\" font-size=\"{}\"{weight}{}", font.size, color.attribute("fill"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FONT: Font = Font { size: 10.0, is_bold: false };

    #[test]
    fn text_is_wrapped_to_fit() {
        assert_eq!(FONT.wrapped("one two three", FONT.width("one two ")), ["one two", "three"]);
        assert_eq!(FONT.wrapped("", 50.0), [""]);
        let long = "x".repeat(100);
        let lines = FONT.wrapped(&format!("a {long} b"), 150.0);
        assert_eq!(lines.join("").matches('x').count(), 100, "nothing is left out");
        assert!(lines.iter().all(|line| FONT.width(line) <= 150.0), "{lines:?}");
        // A line has at least one letter.
        assert_eq!(FONT.wrapped("ab c", 0.0), ["a", "b", "c"]);
    }

    #[test]
    fn text_is_cut_to_fit() {
        assert_eq!(FONT.shortened("abc", 50.0), "abc");
        let short = FONT.shortened("ψψψψψψψψψψψψψψ", 50.0);
        assert!(short.ends_with("ψ…") && FONT.width(&short) <= 50.0, "{short}");
    }
}
