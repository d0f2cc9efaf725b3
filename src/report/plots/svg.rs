//! From what the drawing library writes to a file that says what it shows, and to pixels.

use std::io;
use std::sync::{Arc, LazyLock};

use dejavu::sans;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::{Database, Source};
use resvg::usvg::{Options, Tree};

use super::theme::UNITS_PER_PIXEL;
use super::values::{Values, escaped};

/// The picture as a file: at the size of pixels, with its title and caption for screen readers, and with its values on top.
pub(super) fn finished(
    drawn: String,
    (width, height): (i32, i32),
    title: &str,
    caption: &str,
    values: &Values,
) -> String {
    // The library draws whole units only: half a pixel each is fine enough.
    let size = |units: i32| f64::from(units) / f64::from(UNITS_PER_PIXEL);
    let in_units = format!("<svg width=\"{width}\" height=\"{height}\"");
    let in_pixels = format!("<svg role=\"img\" width=\"{}\" height=\"{}\"", size(width), size(height));
    let head = format!(">\n<title>{}</title>\n<desc>{}</desc>\n", escaped(title), escaped(caption));
    // What it says everywhere goes without saying.
    let marked = drawn
        .replacen(&in_units, &in_pixels, 1)
        .replacen(">\n", &head, 1)
        .replace(" opacity=\"1\"", "")
        .replace(" stroke=\"none\"", "");
    let body = marked.trim_end().strip_suffix("</svg>").expect("what the library writes");
    // XML has no room for most control characters, however they are written.
    let kept = |c: char| match c {
        '\n' => c,
        c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => ' ',
        c => c,
    };
    body.chars().chain(values.markup().chars()).map(kept).chain("</svg>\n".chars()).collect()
}

/// An SVG of this module in pixels, `scale` of them for each of its own, as a PNG file. The text is drawn in DejaVu Sans,
/// which is part of this program: the bytes are the same on every machine.
pub fn png(svg: &str, scale: f32) -> io::Result<Vec<u8>> {
    let failed = |what: String| io::Error::other(what);
    let tree = Tree::from_str(svg, &OPTIONS).map_err(|error| failed(error.to_string()))?;
    let size = tree.size().to_int_size().scale_by(scale).ok_or_else(|| failed(format!("scale {scale}")))?;
    let mut pixels =
        Pixmap::new(size.width(), size.height()).ok_or_else(|| failed("the picture is too large".to_string()))?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| failed(error.to_string()))
}

static OPTIONS: LazyLock<Options<'static>> = LazyLock::new(|| {
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

    use super::super::theme;
    use super::*;

    const DRAWN: &str = "<svg width=\"40\" height=\"20\" viewBox=\"0 0 40 20\" xmlns=\"http://www.w3.org/2000/svg\">\n\
                         <text x=\"2\" y=\"15\" font-family=\"DejaVu Sans, sans-serif\" font-size=\"12\" opacity=\"1\">\n\
                         a\n</text>\n</svg>\n";

    fn picture() -> String {
        finished(DRAWN.to_string(), (40, 20), "A & B", "C < D\u{0}\u{fffe}", &Values::default())
    }

    #[test]
    fn a_picture_says_what_it_is() {
        let svg = picture();
        let document = Document::parse(&svg).unwrap();
        let root = document.root_element();
        assert_eq!((root.attribute("role"), root.attribute("width")), (Some("img"), Some("20")));
        let first: Vec<_> = root.children().filter(|node| node.is_element()).take(2).collect();
        assert_eq!((first[0].tag_name().name(), first[0].text()), ("title", Some("A & B")));
        assert_eq!((first[1].tag_name().name(), first[1].text()), ("desc", Some("C < D  ")));
        assert_eq!(root.last_element_child().unwrap().attribute("class"), Some("values"));
    }

    fn size(png: &[u8]) -> (u32, u32) {
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        (number(16), number(20))
    }

    #[test]
    fn pixels_are_the_same_every_time() {
        let bytes = png(&picture(), 2.0).unwrap();
        assert_eq!((size(&bytes), size(&png(&picture(), 3.0).unwrap())), ((40, 20), (60, 30)));
        assert_eq!(bytes, png(&picture(), 2.0).unwrap());
        // There is a font to draw the text in.
        assert_ne!(bytes, png(&picture().replace("\na\n", "\n\n"), 2.0).unwrap());
        assert!(png("no picture", 1.0).is_err());
        assert!(png(&picture(), 1e9).is_err());
    }

    #[test]
    fn text_is_not_wider_than_it_is_taken_to_be() {
        let labels =
            ["layer1.0.conv1", "seed 17", "LRR, level 12, seed 3", "sign+norm", "6.9 % ± 0.8", "WWMM", "lr=0.05"];
        for text in labels {
            let svg = DRAWN.replace("\na\n", text).replace("\"12\"", "\"100\"");
            let tree = Tree::from_str(&svg, &OPTIONS).unwrap();
            let width = tree.root().abs_bounding_box().width();
            let taken = theme::text_width(text, 100) as f32;
            assert!((0.8..=1.02).contains(&(width / taken)), "{text}: {width} of {taken}");
        }
    }
}
