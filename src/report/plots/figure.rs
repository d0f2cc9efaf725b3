//! A figure: panels of one size in a grid, with the title, the legend, the axes' names and the caption around them.

use super::heatmap::{SCALE_WIDTH, Scale};
use super::legend::{self, Key};
use super::panels::Panel;
use super::svg::{Canvas, Point, Rect};
use super::text::Font;
use super::theme::{FAINT_TEXT, LABEL, NOTE, TITLE};
use super::{FigureChrome, Plot, values};

const MARGIN: f64 = 12.0;
const GAP: f64 = 12.0;
const TITLE_HEIGHT: f64 = 26.0;
const HEADING_LINE: f64 = 16.0;
const CAPTION_LINE: f64 = 15.0;
/// Room for the name of the x axis, and of the y axis.
const AXIS_NAME: f64 = 22.0;
/// The largest number of lines that one part of a heading takes.
const MOST_HEADING_LINES: usize = 4;

/// Room for numbers at the axes: to the left of a panel, and below it.
pub(super) const TICKS: (f64, f64) = (32.0, 20.0);

pub(super) struct Figure<'a> {
    pub chrome: FigureChrome,
    pub title: &'static str,
    pub legend: Vec<Key>,
    pub x: &'a str,
    pub y: &'a str,
    /// The description of the figure, and of parts that were left out.
    pub caption: String,
    /// Width and height of the plotting area of a panel.
    pub size: (f64, f64),
    /// Room to the left of the plotting area and below it: see [`TICKS`].
    pub room: (f64, f64),
    /// The meaning of shades, shown beside the first row of panels.
    pub scale: Option<Scale>,
    pub panels: Vec<Panel>,
}

impl Figure<'_> {
    /// Draws the figure, with `draw` filling the plotting area of each panel and the room beside it.
    pub(super) fn plot(mut self, file: &'static str, draw: impl Fn(usize, &mut Canvas, Rect)) -> Plot {
        self.wrap_headings();
        let mut canvas = Canvas::default();
        if self.chrome == FigureChrome::Full {
            canvas.text((MARGIN, MARGIN + 6.0), self.title, TITLE.left());
        }
        legend::draw(&mut canvas, &self.legend, (MARGIN, self.legend_top()), self.inner_width());
        for (index, panel) in self.panels.iter().enumerate() {
            self.draw_heading(&mut canvas, panel);
            draw(index, &mut canvas, self.area(panel));
        }
        if let Some(scale) = &self.scale {
            let left = MARGIN + self.y_name() + self.grid().0 * self.cell().0;
            scale.draw(&mut canvas, (left, self.grid_top() + self.heading_height()), self.size.1);
        }
        self.draw_axis_names(&mut canvas);
        if canvas.values.are_too_many() {
            self.caption += &format!(" Not more than {} marks, evenly picked, show their value.", values::MOST);
        }
        let height = self.draw_caption(&mut canvas);
        let svg = canvas.finish((self.width(), height), self.title, &self.caption);
        Plot { file, title: self.title, caption: self.caption, svg }
    }

    /// Breaks lines of headings that are too long.
    fn wrap_headings(&mut self) {
        // Into the gaps and margins at both sides.
        let width = (self.room.0 + self.size.0 + GAP / 2.0).min(self.size.0 + GAP + MARGIN);
        for panel in &mut self.panels {
            let lines = std::mem::take(&mut panel.heading).into_iter();
            let wrapped = |(font, line): (Font, String)| {
                font.wrapped_to(&line, width, MOST_HEADING_LINES).into_iter().map(move |line| (font, line))
            };
            panel.heading = lines.flat_map(wrapped).collect();
        }
    }

    fn draw_heading(&self, canvas: &mut Canvas, panel: &Panel) {
        let area = self.area(panel);
        let top = area.top - self.heading_height();
        for (line, (font, text)) in panel.heading.iter().enumerate() {
            let style = if font.is_bold { font.centred() } else { font.centred().colored(FAINT_TEXT) };
            canvas.text((area.centre().0, top + HEADING_LINE * (line as f64 + 0.5)), text, style);
        }
    }

    /// Names the axes once for all panels: x below the grid, y to its left.
    fn draw_axis_names(&self, canvas: &mut Canvas) {
        let left = MARGIN + self.y_name();
        let (from, to) = (left + self.room.0, left + self.grid().0 * self.cell().0 - GAP);
        canvas.text(((from + to) / 2.0, self.grid_bottom()), self.x, LABEL.centred());
        let (from, to) = (self.grid_top() + self.heading_height(), self.grid_bottom() - self.room.1 - GAP);
        canvas.text((MARGIN + AXIS_NAME / 3.0, (from + to) / 2.0), self.y, LABEL.centred().upright());
    }

    /// Returns the height of the figure, which ends with the caption.
    fn draw_caption(&self, canvas: &mut Canvas) -> f64 {
        let top = self.grid_bottom() + if self.x.is_empty() { 0.0 } else { AXIS_NAME };
        let lines = match self.chrome {
            FigureChrome::Full => NOTE.wrapped(&self.caption, self.width() - 2.0 * MARGIN),
            FigureChrome::Bare => vec![],
        };
        for (line, text) in lines.iter().enumerate() {
            canvas.text((MARGIN, top + CAPTION_LINE * line as f64), text, NOTE.left().colored(FAINT_TEXT));
        }
        (top + CAPTION_LINE * lines.len() as f64 + MARGIN / 2.0).ceil()
    }

    /// Returns the plotting area of a panel.
    fn area(&self, panel: &Panel) -> Rect {
        let (width, height) = self.cell();
        let left = MARGIN + self.y_name() + panel.column as f64 * width + self.room.0;
        let top = self.grid_top() + panel.row as f64 * height + self.heading_height();
        Rect::between((left, top), (left + self.size.0, top + self.size.1))
    }

    fn y_name(&self) -> f64 {
        if self.y.is_empty() { 0.0 } else { AXIS_NAME }
    }

    /// Returns the numbers of columns and rows.
    fn grid(&self) -> Point {
        let most = |place: fn(&Panel) -> usize| self.panels.iter().map(|panel| place(panel) + 1).max().unwrap_or(0);
        (most(|panel| panel.column) as f64, most(|panel| panel.row) as f64)
    }

    fn legend_top(&self) -> f64 {
        match self.chrome {
            FigureChrome::Full => MARGIN + TITLE_HEIGHT,
            FigureChrome::Bare => MARGIN / 2.0,
        }
    }

    fn grid_top(&self) -> f64 {
        self.legend_top() + legend::height(&self.legend, self.inner_width())
    }

    fn grid_bottom(&self) -> f64 {
        self.grid_top() + self.grid().1 * self.cell().1
    }

    fn heading_height(&self) -> f64 {
        let lines = self.panels.iter().map(|panel| panel.heading.len()).max().unwrap_or(0);
        HEADING_LINE * lines as f64 + 4.0
    }

    /// Returns the size of a panel with its heading, its ticks, and the gap to the next.
    fn cell(&self) -> Point {
        (self.room.0 + self.size.0 + GAP, self.heading_height() + self.size.1 + self.room.1 + GAP)
    }

    /// Returns a width that is enough for the title, too.
    fn inner_width(&self) -> f64 {
        let scale = if self.scale.is_some() { SCALE_WIDTH } else { 0.0 };
        let grid = self.y_name() + self.grid().0 * self.cell().0 + scale;
        match self.chrome {
            FigureChrome::Full => grid.max(TITLE.width(self.title)),
            FigureChrome::Bare => grid,
        }
    }

    fn width(&self) -> f64 {
        (2.0 * MARGIN + self.inner_width()).ceil()
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{faults, texts};
    use super::*;

    fn figure(headings: [&[&str]; 3]) -> Figure<'static> {
        let headings = headings.map(|lines| lines.iter().map(|line| line.to_string()).collect());
        Figure {
            chrome: FigureChrome::Full,
            title: "Title",
            legend: vec![],
            x: "x",
            y: "y",
            caption: "Caption.".to_string(),
            size: (140.0, 100.0),
            room: TICKS,
            scale: None,
            panels: Panel::grid(headings, 2),
        }
    }

    /// Headings go on in further lines, in which nothing is cut and nothing overlaps.
    #[test]
    fn long_headings_are_wrapped() {
        let name = "random_mask_erk to retrain with aligned norms";
        let axes = "transfer.learning_rate=0.05, ticket.seed=2, ticket.width=32";
        let figure = figure([&[name, axes], &[name, axes, "short"], &["short"]]);
        let plot = figure.plot("x.svg", |_, canvas, area| canvas.text(area.centre(), "inside", NOTE.centred()));
        let text = texts(&plot.svg).join(" ");
        assert!(text.matches(name).count() == 2 && text.matches(axes).count() == 2, "nothing is cut: {text}");
        assert_eq!(faults(&plot.svg), [""; 0]);
    }

    #[test]
    fn headings_of_any_length_take_few_lines() {
        let long = "x".repeat(1_000);
        let mut figure = figure([&[&long, &long], &[], &[]]);
        figure.wrap_headings();
        let heading = &figure.panels[0].heading;
        assert_eq!(heading.len(), 2 * MOST_HEADING_LINES);
        assert!(heading[3].1.ends_with("x…") && heading[3].0.is_bold && !heading[4].0.is_bold);
    }
}
