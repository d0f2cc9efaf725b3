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
pub fn finished(drawn: String, (width, height): (i32, i32), title: &str, caption: &str, values: &Values) -> String {
    // The library draws whole units only: half a pixel each is fine enough.
    let size = |units: i32| f64::from(units) / f64::from(UNITS_PER_PIXEL);
    let in_units = format!("<svg width=\"{width}\" height=\"{height}\"");
    let in_pixels = format!("<svg role=\"img\" width=\"{}\" height=\"{}\"", size(width), size(height));
    let head = format!(">\n<title>{}</title>\n<desc>{}</desc>\n", escaped(title), escaped(caption));
    let marked = drawn.replacen(&in_units, &in_pixels, 1).replacen(">\n", &head, 1).replace(" opacity=\"1\"", "");
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
