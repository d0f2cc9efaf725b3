//! A picture as SVG: shapes and text at positions in pixels, with the values they stand for; and its pixels as PNG.

use std::fmt::{self, Display, Write};
use std::io;
use std::sync::{Arc, LazyLock};

use dejavu::sans;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::{Database, Source};
use resvg::usvg::{Options, Tree};

use super::text::TextStyle;
use super::theme::FAMILY;
use super::values::Values;

/// A position in the picture, to the right and down.
pub(super) type Point = (f64, f64);

/// A picture in the making: elements in the order in which they are painted.
#[derive(Default)]
pub(super) struct Canvas {
    elements: String,
    /// The values that are shown on hover.
    pub values: Values,
}

impl Canvas {
    pub(super) fn line(&mut self, points: &[Point], paint: Paint) {
        // A single point is no line.
        if points.len() > 1 {
            self.element("polyline", format!("points=\"{}\"", joined(points)), paint);
        }
    }

    /// Paints the area within an odd number of the rings.
    pub(super) fn area(&mut self, rings: &[Vec<Point>], paint: Paint) {
        let rings: Vec<String> = rings.iter().map(|ring| format!("M{}Z", joined(ring))).collect();
        self.element("path", format!("d=\"{}\"", rings.concat()), paint);
    }

    pub(super) fn rect(&mut self, rect: Rect, paint: Paint) {
        self.element("rect", rect.attributes(), paint);
    }

    pub(super) fn circle(&mut self, centre: Point, radius: f64, paint: Paint) {
        self.element("circle", circle_attributes(centre, radius), paint);
    }

    fn element(&mut self, name: &str, place: String, paint: Paint) {
        writeln!(self.elements, "<{name} {place}{paint}/>").expect("writing to memory");
    }

    /// Writes one line of text, whose middle is at the height of `at`.
    pub(super) fn text(&mut self, (x, y): Point, text: &str, style: TextStyle) {
        if text.is_empty() {
            return;
        }
        // Half the height of capital letters and digits.
        let below = 0.36 * style.font.size;
        let place = if style.is_upright {
            format!("transform=\"translate({} {}) rotate(-90)\"", short(x + below), short(y))
        } else {
            format!("x=\"{}\" y=\"{}\"", short(x), short(y + below))
        };
        writeln!(self.elements, "<text {place}{style}>{}</text>", escaped(text)).expect("writing to memory");
    }

    /// Returns the file, with title and caption for screen readers, and with the values on top.
    pub(super) fn finish(self, (width, height): Point, title: &str, caption: &str) -> String {
        format!(
            "<svg role=\"img\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"{FAMILY}\" stroke-linejoin=\"round\" fill-rule=\"evenodd\" xmlns=\"http://www.w3.org/2000/svg\">\n\
             <title>{}</title>\n<desc>{}</desc>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#FFFFFF\"/>\n{}{}</svg>\n",
            escaped(title),
            escaped(caption),
            self.elements,
            self.values.markup()
        )
    }
}

fn joined(points: &[Point]) -> String {
    points.iter().map(|&(x, y)| format!("{},{}", short(x), short(y))).collect::<Vec<_>>().join(" ")
}

pub(super) fn circle_attributes((x, y): Point, radius: f64) -> String {
    format!("cx=\"{}\" cy=\"{}\" r=\"{}\"", short(x), short(y), short(radius))
}

/// Rounds a length to two decimals, never to a minus zero.
fn short(length: f64) -> f64 {
    (100.0 * length).round() / 100.0 + 0.0
}

/// A rectangle with upright sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rect {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Rect {
    /// Returns the rectangle between two opposite corners.
    pub(super) fn between(a: Point, b: Point) -> Rect {
        Rect { left: a.0.min(b.0), top: a.1.min(b.1), right: a.0.max(b.0), bottom: a.1.max(b.1) }
    }

    pub(super) fn around((x, y): Point, (half_width, half_height): Point) -> Rect {
        Rect { left: x - half_width, top: y - half_height, right: x + half_width, bottom: y + half_height }
    }

    pub(super) fn attributes(self) -> String {
        let [x, y, width, height] = [self.left, self.top, self.width(), self.height()].map(short);
        format!("x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"")
    }

    pub(super) fn width(self) -> f64 {
        self.right - self.left
    }

    pub(super) fn height(self) -> f64 {
        self.bottom - self.top
    }

    pub(super) fn centre(self) -> Point {
        ((self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0)
    }

    pub(super) fn meets(self, other: Rect) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    pub(super) fn is_within(self, room: Rect) -> bool {
        room.left <= self.left && self.right <= room.right && room.top <= self.top && self.bottom <= room.bottom
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Color {
    pub rgb: [u8; 3],
    pub opacity: f64,
}

impl Color {
    pub(super) const fn new(red: u8, green: u8, blue: u8) -> Color {
        Color { rgb: [red, green, blue], opacity: 1.0 }
    }

    pub(super) fn faded(self, opacity: f64) -> Color {
        Color { opacity, ..self }
    }

    /// Writes an attribute of this colour, `fill` or `stroke`, and one for its opacity.
    pub(super) fn attribute(self, name: &str) -> String {
        let [red, green, blue] = self.rgb;
        let opacity = if self.opacity < 1.0 { format!(" {name}-opacity=\"{}\"", self.opacity) } else { String::new() };
        format!(" {name}=\"#{red:02X}{green:02X}{blue:02X}\"{opacity}")
    }
}

/// Lengths drawn and left out, in turn; empty for a line that is drawn throughout.
pub(super) type Dash = &'static [f64];

/// The paint of a shape.
#[derive(Clone, Copy, Default)]
pub(super) struct Paint {
    pub fill: Option<Color>,
    /// The colour and the width of a line.
    pub stroke: Option<(Color, f64)>,
    pub dash: Dash,
}

pub(super) fn fill(color: Color) -> Paint {
    Paint { fill: Some(color), ..Paint::default() }
}

pub(super) fn stroke(color: Color, width: f64) -> Paint {
    Paint { stroke: Some((color, width)), ..Paint::default() }
}

impl Display for Paint {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(&self.fill.map_or(" fill=\"none\"".to_string(), |color| color.attribute("fill")))?;
        if let Some((color, width)) = self.stroke {
            write!(out, "{} stroke-width=\"{width}\"", color.attribute("stroke"))?;
        }
        if !self.dash.is_empty() {
            let lengths: Vec<String> = self.dash.iter().map(f64::to_string).collect();
            write!(out, " stroke-dasharray=\"{}\"", lengths.join(" "))?;
        }
        Ok(())
    }
}

/// Returns the text escaped for XML, which cannot represent most control characters.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() && c != '\n' || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Returns an SVG of this module in pixels, `scale` of them for each of its own, as a PNG file. The text is drawn in
/// DejaVu Sans, which is part of this program: the bytes are the same on every machine.
pub fn png(svg: &str, scale: f32) -> io::Result<Vec<u8>> {
    let failed = |what: String| io::Error::other(what);
    let tree = Tree::from_str(svg, &OPTIONS).map_err(|error| failed(error.to_string()))?;
    let size = tree.size().to_int_size().scale_by(scale).ok_or_else(|| failed(format!("scale {scale}")))?;
    let mut pixels =
        Pixmap::new(size.width(), size.height()).ok_or_else(|| failed("the picture is too large".to_string()))?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| failed(error.to_string()))
}

pub(super) static OPTIONS: LazyLock<Options<'static>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    for font in [sans::regular(), sans::bold()] {
        fonts.load_font_source(Source::Binary(Arc::new(font)));
    }
    fonts.set_sans_serif_family("DejaVu Sans");
    Options { font_family: "DejaVu Sans".to_string(), fontdb: Arc::new(fonts), ..Options::default() }
});

#[cfg(test)]
mod tests {
    use resvg::usvg::roxmltree::Document;

    use super::super::samples::lines;
    use super::super::theme::{AXIS, HEADING, LABEL, NOTE, WHITE};
    use super::*;

    fn picture(text: &str) -> String {
        let mut canvas = Canvas::default();
        canvas.text((2.0, 8.0), text, LABEL.left());
        canvas.finish((40.0, 20.0), "A & B", "C < D\u{0}\u{fffe}")
    }

    #[test]
    fn picture_has_a_title_and_a_description() {
        let svg = picture("a");
        let document = Document::parse(&svg).unwrap();
        let root = document.root_element();
        assert_eq!((root.attribute("role"), root.attribute("width")), (Some("img"), Some("40")));
        let first: Vec<_> = root.children().filter(|node| node.is_element()).take(2).collect();
        assert_eq!((first[0].tag_name().name(), first[0].text()), ("title", Some("A & B")));
        assert_eq!((first[1].tag_name().name(), first[1].text()), ("desc", Some("C < D  ")));
        assert_eq!(root.last_element_child().unwrap().attribute("class"), Some("values"));
    }

    #[test]
    fn shapes_have_places_and_paint() {
        let mut canvas = Canvas::default();
        let dashed = Paint { dash: &[4.0, 2.5], ..stroke(AXIS.faded(0.5), 1.5) };
        canvas.line(&[(1.0, 2.0), (1.0 / 3.0, -0.001)], dashed);
        canvas.line(&[(1.0, 2.0)], dashed);
        canvas.rect(Rect::between((3.0, 1.0), (1.0, 5.0)), fill(WHITE));
        canvas.area(&[vec![(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)], vec![(5.0, 5.0)]], fill(AXIS));
        canvas.circle((1.0, 1.0), 2.0, Paint { fill: Some(WHITE), ..stroke(AXIS, 1.0) });
        let expected = [
            "<polyline points=\"1,2 0.33,0\" fill=\"none\" stroke=\"#6E6E6E\" stroke-opacity=\"0.5\" \
             stroke-width=\"1.5\" stroke-dasharray=\"4 2.5\"/>",
            "<rect x=\"1\" y=\"1\" width=\"2\" height=\"4\" fill=\"#FFFFFF\"/>",
            "<path d=\"M0,0 1,0 0,1ZM5,5Z\" fill=\"#6E6E6E\"/>",
            "<circle cx=\"1\" cy=\"1\" r=\"2\" fill=\"#FFFFFF\" stroke=\"#6E6E6E\" stroke-width=\"1\"/>",
        ];
        assert_eq!(canvas.elements.lines().collect::<Vec<_>>(), expected);
    }

    fn size(png: &[u8]) -> (u32, u32) {
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        (number(16), number(20))
    }

    #[test]
    fn pixels_are_the_same_every_time() {
        let bytes = png(&picture("a"), 2.0).unwrap();
        assert_eq!((size(&bytes), size(&png(&picture("a"), 3.0).unwrap())), ((80, 40), (120, 60)));
        assert_eq!(bytes, png(&picture("a"), 2.0).unwrap());
        // The text is drawn, so its font exists.
        assert_ne!(bytes, png(&picture(""), 2.0).unwrap());
        assert!(png("no picture", 1.0).is_err());
        assert!(png(&picture("a"), 1e9).is_err());
    }

    #[test]
    fn text_is_as_wide_as_it_is_measured() {
        for text in ["layer1.0.conv1", "LRR, level 12, seed 3", "sign+norm", "6.9 % ± 0.8", "WWMM", "lr=0.05", "ψ₀"]
        {
            for font in [HEADING, NOTE] {
                let mut canvas = Canvas::default();
                canvas.text((0.0, 0.0), text, font.left());
                let drawn = lines(&canvas.finish((1.0, 1.0), "", ""))[0].1.width();
                let measured = font.width(text);
                assert!((drawn - measured).abs() < 0.1 * font.size, "{text}: {drawn}, not {measured}");
            }
        }
    }
}
