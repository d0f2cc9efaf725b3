//! A figure: panels of one size in a grid, with the title, the legend, the axes' names and the caption around them.

use std::io;
use std::iter;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::heatmap::{SCALE_WIDTH, Scale};
use super::legend::{self, Key};
use super::panels::Panel;
use super::svg;
use super::theme;
use super::values::{self, Values};
use super::{FigureChrome, Plot};

pub(super) type Backend<'a> = SVGBackend<'a>;
pub(super) type Area<'a> = DrawingArea<Backend<'a>, Shift>;
pub(super) type Drawn<T = ()> = Result<T, DrawingAreaErrorKind<io::Error>>;

const MARGIN: i32 = 24;
const GAP: i32 = 24;
const TITLE_HEIGHT: i32 = 52;
const HEADING_LINE: i32 = 32;
const CAPTION_LINE: i32 = 30;
/// Room for the name of the x axis, and of the y axis.
const AXIS_NAME: i32 = 44;

/// Room for numbers at the axes: to the left of a panel, and below it.
pub(super) const TICKS: (i32, i32) = (64, 40);

pub(super) struct Figure<'a> {
    pub chrome: FigureChrome,
    pub title: &'static str,
    pub legend: Vec<Key>,
    pub x: &'a str,
    pub y: &'a str,
    /// What is drawn, and what was left out.
    pub caption: String,
    /// Of the plotting area of a panel.
    pub size: (i32, i32),
    /// Beside the plotting area, for ticks: see [`TICKS`].
    pub room: (i32, i32),
    /// What shades mean; beside the first row of panels.
    pub scale: Option<Scale>,
    pub panels: Vec<Panel>,
}

impl Figure<'_> {
    /// Draws the figure, with `draw` filling the area of each panel (without its heading, but with its room for ticks).
    pub(super) fn plot(mut self, file: &'static str, draw: impl Fn(usize, &Area, &mut Values) -> Drawn) -> Plot {
        self.break_headings();
        let (mut svg, values) = self.draw(&draw);
        if values.are_too_many() {
            self.caption += &format!(" Not more than {} marks, evenly picked, show their value.", values::MOST);
            svg = self.draw(&draw).0;
        }
        Plot { file, title: self.title, caption: self.caption, svg }
    }

    fn draw(&self, draw: impl Fn(usize, &Area, &mut Values) -> Drawn) -> (String, Values) {
        let caption = match self.chrome {
            FigureChrome::Full => wrapped(&self.caption, self.width() - 2 * MARGIN, theme::NOTE),
            FigureChrome::Bare => vec![],
        };
        let name = if self.x.is_empty() { 0 } else { AXIS_NAME };
        let height = self.grid_bottom() + name + CAPTION_LINE * caption.len() as i32 + MARGIN / 2;
        let (mut drawn, mut values) = (String::new(), Values::default());
        self.draw_on(&mut drawn, &mut values, height, &caption, draw).expect("drawing to memory");
        let size = (self.width(), height);
        (svg::finished(drawn, size, self.title, &self.caption, &values), values)
    }

    fn draw_on(
        &self,
        svg: &mut String,
        values: &mut Values,
        height: i32,
        caption: &[String],
        draw: impl Fn(usize, &Area, &mut Values) -> Drawn,
    ) -> Drawn {
        let root = SVGBackend::with_string(svg, (self.width() as u32, height as u32)).into_drawing_area();
        root.fill(&WHITE)?;
        if self.chrome == FigureChrome::Full {
            let style = theme::bold(theme::TITLE).pos(theme::LEFT);
            root.draw(&Text::new(self.title, (MARGIN, MARGIN + 12), style))?;
        }
        legend::draw(&root, &self.legend, (MARGIN, self.legend_top()), self.inner_width())?;
        for (index, panel) in self.panels.iter().enumerate() {
            let (left, top) = self.corner(panel);
            self.draw_heading(&root, panel)?;
            let size = (self.room.0 + self.size.0, self.size.1 + self.room.1);
            draw(index, &root.clone().shrink((left, top + self.heading_height()), size), values)?;
        }
        if let Some(scale) = &self.scale {
            let left = MARGIN + self.y_name() + self.columns() * self.cell().0;
            scale.draw(&root, (left, self.grid_top() + self.heading_height()), self.size.1)?;
        }
        self.draw_axis_names(&root)?;
        self.draw_caption(&root, caption, height)?;
        root.present()
    }

    /// Lines of headings that are too long go on in a second one; only what is too long for two is cut off.
    fn break_headings(&mut self) {
        let width = self.heading_width();
        for panel in &mut self.panels {
            let lines = std::mem::take(&mut panel.heading).into_iter().enumerate();
            panel.heading = lines.flat_map(|(at, line)| broken(&line, width, heading_size(at))).collect();
        }
    }

    /// Into the gaps and margins at both sides.
    fn heading_width(&self) -> i32 {
        (self.room.0 + self.size.0 + GAP / 2).min(self.size.0 + GAP + MARGIN)
    }

    fn draw_heading(&self, root: &Area, panel: &Panel) -> Drawn {
        let (left, top) = self.corner(panel);
        let centre = left + self.room.0 + self.size.0 / 2;
        let faint = theme::text(theme::NOTE, theme::FAINT_TEXT);
        let styles = iter::once(theme::bold(theme::LABEL)).chain(iter::repeat(faint));
        for ((line, text), style) in (0..).zip(&panel.heading).zip(styles) {
            let text = shortened(text, self.heading_width(), heading_size(line as usize));
            let middle = top + HEADING_LINE * line + HEADING_LINE / 2;
            root.draw(&Text::new(text, (centre, middle), style.pos(theme::CENTER)))?;
        }
        Ok(())
    }

    /// Once for all panels: of x below the grid, of y to its left.
    fn draw_axis_names(&self, root: &Area) -> Drawn {
        let style = theme::text(theme::LABEL, theme::TEXT).pos(theme::CENTER);
        let grid =
            (MARGIN + self.y_name() + self.room.0, MARGIN + self.y_name() + self.columns() * self.cell().0 - GAP);
        if !self.x.is_empty() {
            root.draw(&Text::new(self.x, ((grid.0 + grid.1) / 2, self.grid_bottom()), style.clone()))?;
        }
        if self.y.is_empty() {
            return Ok(());
        }
        let middle = (self.grid_top() + self.heading_height() + self.grid_bottom() - self.room.1 - GAP) / 2;
        root.draw(&Text::new(self.y, (MARGIN + AXIS_NAME / 3, middle), style.transform(FontTransform::Rotate270)))
    }

    fn draw_caption(&self, root: &Area, caption: &[String], height: i32) -> Drawn {
        let style = theme::text(theme::NOTE, theme::FAINT_TEXT).pos(theme::LEFT);
        let top = height - MARGIN / 2 - CAPTION_LINE * caption.len() as i32;
        for (line, text) in (0..).zip(caption) {
            root.draw(&Text::new(text.as_str(), (MARGIN, top + CAPTION_LINE * line), style.clone()))?;
        }
        Ok(())
    }

    /// The upper left one, of a panel with its heading.
    fn corner(&self, panel: &Panel) -> (i32, i32) {
        let (width, height) = self.cell();
        (MARGIN + self.y_name() + panel.column as i32 * width, self.grid_top() + panel.row as i32 * height)
    }

    fn y_name(&self) -> i32 {
        if self.y.is_empty() { 0 } else { AXIS_NAME }
    }

    fn rows(&self) -> i32 {
        self.panels.iter().map(|panel| panel.row as i32 + 1).max().unwrap_or(0)
    }

    fn columns(&self) -> i32 {
        self.panels.iter().map(|panel| panel.column as i32 + 1).max().unwrap_or(0)
    }

    fn legend_top(&self) -> i32 {
        match self.chrome {
            FigureChrome::Full => MARGIN + TITLE_HEIGHT,
            FigureChrome::Bare => MARGIN / 2,
        }
    }

    fn grid_top(&self) -> i32 {
        self.legend_top() + legend::height(&self.legend, self.inner_width())
    }

    fn grid_bottom(&self) -> i32 {
        self.grid_top() + self.rows() * self.cell().1
    }

    fn heading_height(&self) -> i32 {
        HEADING_LINE * self.panels.iter().map(|panel| panel.heading.len()).max().unwrap_or(0) as i32 + 8
    }

    /// A panel with its heading, its ticks, and the gap to the next.
    fn cell(&self) -> (i32, i32) {
        (self.room.0 + self.size.0 + GAP, self.heading_height() + self.size.1 + self.room.1 + GAP)
    }

    /// Wide enough for a title, of which bold text is a tenth wider.
    fn inner_width(&self) -> i32 {
        let scale = if self.scale.is_some() { SCALE_WIDTH } else { 0 };
        let grid = self.y_name() + self.columns() * self.cell().0 + scale;
        match self.chrome {
            FigureChrome::Full => grid.max(theme::text_width(self.title, theme::TITLE) * 11 / 10),
            FigureChrome::Bare => grid,
        }
    }

    fn width(&self) -> i32 {
        2 * MARGIN + self.inner_width()
    }
}

/// Of the letters of a line over a panel. Bold text is a tenth wider.
fn heading_size(line: usize) -> i32 {
    if line == 0 { theme::LABEL * 11 / 10 } else { theme::NOTE }
}

/// On two lines, if it is too long for one, broken after a word; the second may be too long still.
fn broken(line: &str, width: i32, font_size: i32) -> Vec<String> {
    if theme::text_width(line, font_size) <= width {
        return vec![line.to_string()];
    }
    let fits = |at: &usize| theme::text_width(line[..*at].trim_end(), font_size) <= width;
    let ends = line.match_indices(' ').map(|(at, _)| at + 1);
    match ends.rev().find(fits) {
        Some(at) => vec![line[..at].trim_end().to_string(), line[at..].to_string()],
        None => vec![line.to_string()],
    }
}

fn wrapped(text: &str, width: i32, font_size: i32) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let word = shortened(word, width, font_size);
        let line = lines.last_mut().expect("never empty");
        let longer = format!("{line}{}{word}", if line.is_empty() { "" } else { " " });
        if line.is_empty() || theme::text_width(&longer, font_size) <= width {
            *line = longer;
        } else {
            lines.push(word);
        }
    }
    lines
}

/// Names of axes can be of any length.
pub(super) fn shortened(text: &str, width: i32, font_size: i32) -> String {
    if theme::text_width(text, font_size) <= width {
        return text.to_string();
    }
    let mut short = String::from("…");
    for c in text.chars() {
        short.insert(short.len() - '…'.len_utf8(), c);
        if theme::text_width(&short, font_size) > width {
            short.remove(short.len() - '…'.len_utf8() - c.len_utf8());
            break;
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_and_shortened_to_fit() {
        assert_eq!(wrapped("one two three", 130, 20), ["one two", "three"]);
        assert_eq!(wrapped("", 100, 20), [""]);
        let long = "x".repeat(500);
        for line in wrapped(&format!("a {long} b"), 300, 20) {
            assert!(theme::text_width(&line, 20) <= 300, "{line}");
        }
        assert_eq!(shortened("abc", 100, 20), "abc");
        let short = shortened("ψψψψψψψψψψψψψψ", 100, 20);
        assert!(short.ends_with("ψ…") && theme::text_width(&short, 20) <= 100, "{short}");
    }
    #[test]
    fn headings_go_on_in_a_second_line() {
        let two = ["transfer.lr=0.05,", "ticket.seed=2"];
        let width = theme::text_width("transfer.lr=0.05, ", 20) + 20;
        assert_eq!(broken(&two.join(" "), width, 20), two);
        assert_eq!(broken("short", width, 20), ["short"]);
        // There is nowhere to break it; it is cut off.
        let long = "x".repeat(200);
        assert_eq!(broken(&long, width, 20), [long]);
    }
}
