//! The values that a picture shows on hover: for each mark, its value as text and the runs behind it.
//!
//! Targets are transparent shapes over the finished picture. A browser shows their `<title>`; a page can follow the runs
//! in `data-runs`.

use winsign_core::RunId;

use super::panels::thinned;
use super::svg::{Point, Rect, circle_attributes, escaped};

/// The largest number of targets in one figure.
pub(super) const MOST: usize = 5_000;

/// The largest number of runs named by one target: the first ones.
const MOST_RUNS: usize = 5;

/// Large enough for a finger.
const RADIUS: f64 = 6.0;

#[derive(Default)]
pub(super) struct Values {
    /// An element for each value.
    targets: Vec<String>,
}

impl Values {
    /// Adds the value of a marker, or of a line where it bends.
    pub(super) fn at<'a>(&mut self, centre: Point, text: String, runs: impl IntoIterator<Item = &'a RunId>) {
        self.add("circle", circle_attributes(centre, RADIUS), text, runs);
    }

    /// Adds the value of a bar or a cell.
    pub(super) fn within<'a>(&mut self, rect: Rect, text: String, runs: impl IntoIterator<Item = &'a RunId>) {
        self.add("rect", rect.attributes(), text, runs);
    }

    fn add<'a>(&mut self, name: &str, place: String, text: String, runs: impl IntoIterator<Item = &'a RunId>) {
        let runs: Vec<&str> = runs.into_iter().take(MOST_RUNS).map(RunId::as_str).collect();
        let runs = if runs.is_empty() { String::new() } else { format!(" data-runs=\"{}\"", runs.join(" ")) };
        self.targets.push(format!("<{name} {place}{runs}><title>{}</title></{name}>\n", escaped(&text)));
    }

    pub(super) fn are_too_many(&self) -> bool {
        self.targets.len() > MOST
    }

    /// Returns a group of targets, evenly picked if there are too many.
    pub(super) fn markup(&self) -> String {
        let targets: String = thinned(&self.targets, MOST).map(String::as_str).collect();
        format!("<g class=\"values\" fill=\"#000\" fill-opacity=\"0\" pointer-events=\"all\">\n{targets}</g>\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_a_value_and_runs() {
        let runs: Vec<RunId> = (0..9).map(|digit| format!("{digit:016x}").parse().unwrap()).collect();
        let mut values = Values::default();
        values.at((3.0, 4.0), "a < b".to_string(), &runs[..2]);
        values.within(Rect::between((10.0, 20.0), (4.0, 8.0)), "bar".to_string(), &runs);
        values.at((5.0, 5.0), "no run's".to_string(), []);
        let lines: Vec<String> = values.markup().lines().map(str::to_string).collect();
        assert_eq!(
            lines[1],
            "<circle cx=\"3\" cy=\"4\" r=\"6\" data-runs=\"0000000000000000 0000000000000001\">\
             <title>a &lt; b</title></circle>"
        );
        assert!(lines[2].starts_with("<rect x=\"4\" y=\"8\" width=\"6\" height=\"12\" data-runs=\"0"), "{}", lines[2]);
        assert!(lines[2].contains("0000000000000004\">"), "the first five: {}", lines[2]);
        assert_eq!(lines[3], "<circle cx=\"5\" cy=\"5\" r=\"6\"><title>no run's</title></circle>");
        assert!(!values.are_too_many());
    }

    #[test]
    fn too_many_targets_are_thinned() {
        let mut values = Values::default();
        for index in 0..3 * MOST {
            values.at((0.0, 0.0), index.to_string(), []);
        }
        assert!(values.are_too_many());
        let markup = values.markup();
        assert_eq!(markup.matches("<circle").count(), MOST);
        assert!(markup.contains("<title>3</title>") && !markup.contains("<title>4</title>"));
    }
}
