//! What a picture tells whoever points at it: the value behind each mark, as text, and the runs it comes from.
//!
//! Targets are transparent shapes over the finished picture. A browser shows their `<title>`; a page can follow the runs
//! in `data-runs`.

use std::fmt::Write;

use winsign_core::RunId;

/// Targets of one figure, at most.
pub(super) const MOST: usize = 5_000;

/// Runs named by one target, at most: the first ones.
const MOST_RUNS: usize = 5;

/// Large enough for a finger.
const RADIUS: i32 = 12;

#[derive(Default)]
pub(super) struct Values {
    targets: Vec<Target>,
}

struct Target {
    shape: Shape,
    text: String,
    runs: Vec<RunId>,
}

/// In the picture's units.
enum Shape {
    Circle { centre: (i32, i32) },
    Rectangle { corner: (i32, i32), size: (i32, i32) },
}

impl Values {
    /// Of a marker, or of a line where it bends.
    pub(super) fn at<'a>(&mut self, centre: (i32, i32), text: String, runs: impl IntoIterator<Item = &'a RunId>) {
        self.add(Shape::Circle { centre }, text, runs);
    }

    /// Of a bar or a cell between two corners.
    pub(super) fn within<'a>(
        &mut self,
        a: (i32, i32),
        b: (i32, i32),
        text: String,
        runs: impl IntoIterator<Item = &'a RunId>,
    ) {
        let corner = (a.0.min(b.0), a.1.min(b.1));
        self.add(Shape::Rectangle { corner, size: ((a.0 - b.0).abs(), (a.1 - b.1).abs()) }, text, runs);
    }

    fn add<'a>(&mut self, shape: Shape, text: String, runs: impl IntoIterator<Item = &'a RunId>) {
        let runs = runs.into_iter().take(MOST_RUNS).cloned().collect();
        self.targets.push(Target { shape, text, runs });
    }

    pub(super) fn are_too_many(&self) -> bool {
        self.targets.len() > MOST
    }

    /// A group of targets, evenly picked if there are too many.
    pub(super) fn markup(&self) -> String {
        let mut out = String::from("<g class=\"values\" fill=\"#000\" fill-opacity=\"0\" pointer-events=\"all\">\n");
        for Target { shape, text, runs } in super::theme::thinned(&self.targets, MOST) {
            let name = match shape {
                Shape::Circle { centre: (x, y) } => {
                    write!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{RADIUS}\"").expect("writing to memory");
                    "circle"
                }
                Shape::Rectangle { corner: (x, y), size: (width, height) } => {
                    write!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"")
                        .expect("writing to memory");
                    "rect"
                }
            };
            if !runs.is_empty() {
                let runs: Vec<&str> = runs.iter().map(RunId::as_str).collect();
                write!(out, " data-runs=\"{}\"", runs.join(" ")).expect("writing to memory");
            }
            writeln!(out, "><title>{}</title></{name}>", escaped(text)).expect("writing to memory");
        }
        out.push_str("</g>\n");
        out
    }
}

/// Text as XML says it.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_say_what_and_whose() {
        let runs: Vec<RunId> = (0..9).map(|digit| format!("{digit:016x}").parse().unwrap()).collect();
        let mut values = Values::default();
        values.at((3, 4), "a < b".to_string(), &runs[..2]);
        values.within((10, 20), (4, 8), "bar".to_string(), &runs);
        values.at((5, 5), "nobody's".to_string(), []);
        let lines: Vec<String> = values.markup().lines().map(str::to_string).collect();
        assert_eq!(
            lines[1],
            "<circle cx=\"3\" cy=\"4\" r=\"12\" data-runs=\"0000000000000000 0000000000000001\">\
             <title>a &lt; b</title></circle>"
        );
        assert!(lines[2].starts_with("<rect x=\"4\" y=\"8\" width=\"6\" height=\"12\" data-runs=\"0"), "{}", lines[2]);
        assert!(lines[2].contains("0000000000000004\">"), "the first five: {}", lines[2]);
        assert_eq!(lines[3], "<circle cx=\"5\" cy=\"5\" r=\"12\"><title>nobody's</title></circle>");
        assert!(!values.are_too_many());
    }

    #[test]
    fn too_many_targets_are_thinned() {
        let mut values = Values::default();
        for index in 0..3 * MOST {
            values.at((0, 0), index.to_string(), []);
        }
        assert!(values.are_too_many());
        let markup = values.markup();
        assert_eq!(markup.matches("<circle").count(), MOST);
        assert!(markup.contains("<title>3</title>") && !markup.contains("<title>4</title>"));
    }
}
