//! A figure: panels of one size in a grid, with the title, the legend, the axes' names and the caption around them.

use std::io;
use std::iter;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::panels::Panel;
use super::theme::{self, UNITS_PER_PIXEL};
use crate::run::settings::Method;
use crate::study::report::tables::method_text;

pub type Backend<'a> = SVGBackend<'a>;
pub type Area<'a> = DrawingArea<Backend<'a>, Shift>;
pub type Chart<'a> = ChartContext<'a, Backend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
pub type Drawn<T = ()> = Result<T, DrawingAreaErrorKind<io::Error>>;

const MARGIN: i32 = 24;
const GAP: i32 = 24;
const TITLE_HEIGHT: i32 = 56;
const LEGEND_HEIGHT: i32 = 40;
const HEADING_LINE: i32 = 32;
const CAPTION_LINE: i32 = 30;
/// Room for the name of the x axis, and of the y axis.
const AXIS_NAME: i32 = 44;
const X_TICKS: i32 = 40;
const Y_TICKS: i32 = 56;

pub struct Figure<'a> {
    pub title: &'a str,
    /// Methods to explain by their colour and marker.
    pub legend: &'a [Option<Method>],
    pub x: &'a str,
    pub y: &'a str,
    pub caption: &'a str,
    /// Of the plotting area of a panel.
    pub size: (i32, i32),
    pub panels: Vec<Panel>,
}

impl Figure<'_> {
    /// Draws the figure, with `draw` filling the area of each panel (without its heading).
    pub fn draw(&self, draw: impl Fn(usize, &Area) -> Drawn) -> String {
        let caption = wrapped(self.caption, self.width() - 2 * MARGIN, theme::NOTE);
        let height = self.grid_bottom() + AXIS_NAME + CAPTION_LINE * caption.len() as i32 + MARGIN / 2;
        let mut svg = String::new();
        self.draw_on(&mut svg, height, &caption, draw).expect("drawing to memory");
        at_pixel_size(svg, self.width(), height)
    }

    fn draw_on(
        &self,
        svg: &mut String,
        height: i32,
        caption: &[String],
        draw: impl Fn(usize, &Area) -> Drawn,
    ) -> Drawn {
        let root = SVGBackend::with_string(svg, (self.width() as u32, height as u32)).into_drawing_area();
        root.fill(&WHITE)?;
        self.draw_header(&root)?;
        for (index, panel) in self.panels.iter().enumerate() {
            let (left, top) = self.corner(panel);
            self.draw_heading(&root, panel)?;
            let size = (Y_TICKS + self.size.0, self.size.1 + X_TICKS);
            draw(index, &root.clone().shrink((left, top + self.heading_height()), size))?;
        }
        self.draw_axis_names(&root)?;
        self.draw_caption(&root, caption)?;
        root.present()
    }

    /// The title, and the legend under it.
    fn draw_header(&self, root: &Area) -> Drawn {
        root.draw(&Text::new(self.title, (MARGIN, MARGIN + 12), theme::bold(theme::TITLE).pos(theme::LEFT)))?;
        for (index, &method) in self.legend.iter().enumerate() {
            let (x, y) = (MARGIN + 10 + 110 * index as i32, MARGIN + 54);
            draw_marker(root, method, (x, y))?;
            let style = theme::text(theme::LABEL, theme::TEXT).pos(theme::LEFT);
            root.draw(&Text::new(method_text(method), (x + 20, y), style))?;
        }
        Ok(())
    }

    fn draw_heading(&self, root: &Area, panel: &Panel) -> Drawn {
        let (left, top) = self.corner(panel);
        let centre = left + Y_TICKS + self.size.0 / 2;
        let styles =
            iter::once(theme::bold(theme::LABEL)).chain(iter::repeat(theme::text(theme::NOTE, theme::FAINT_TEXT)));
        for ((line, text), style) in (0..).zip(&panel.heading).zip(styles) {
            let text = shortened(text, self.cell().0 - GAP, theme::NOTE);
            let middle = top + HEADING_LINE * line + HEADING_LINE / 2;
            root.draw(&Text::new(text, (centre, middle), style.pos(theme::CENTER)))?;
        }
        Ok(())
    }

    /// Once for all panels: of x below the grid, of y to its left.
    fn draw_axis_names(&self, root: &Area) -> Drawn {
        let style = theme::text(theme::LABEL, theme::TEXT).pos(theme::CENTER);
        let middle = (MARGIN + AXIS_NAME + Y_TICKS + self.width() - MARGIN) / 2;
        root.draw(&Text::new(self.x, (middle, self.grid_bottom()), style.clone()))?;
        let middle = (self.grid_top() + self.heading_height() + self.grid_bottom() - X_TICKS - GAP) / 2;
        root.draw(&Text::new(self.y, (MARGIN + AXIS_NAME / 3, middle), style.transform(FontTransform::Rotate270)))
    }

    fn draw_caption(&self, root: &Area, caption: &[String]) -> Drawn {
        let style = theme::text(theme::NOTE, theme::FAINT_TEXT).pos(theme::LEFT);
        for (line, text) in (0..).zip(caption) {
            let middle = self.grid_bottom() + AXIS_NAME + CAPTION_LINE * line;
            root.draw(&Text::new(text.as_str(), (MARGIN, middle), style.clone()))?;
        }
        Ok(())
    }

    /// The upper left one, of a panel with its heading.
    fn corner(&self, panel: &Panel) -> (i32, i32) {
        let (width, height) = self.cell();
        (MARGIN + AXIS_NAME + panel.column as i32 * width, self.grid_top() + panel.row as i32 * height)
    }

    fn rows(&self) -> i32 {
        self.panels.iter().map(|panel| panel.row as i32 + 1).max().unwrap_or(0)
    }

    fn columns(&self) -> i32 {
        self.panels.iter().map(|panel| panel.column as i32 + 1).max().unwrap_or(0)
    }

    fn grid_top(&self) -> i32 {
        MARGIN + if self.legend.is_empty() { TITLE_HEIGHT } else { TITLE_HEIGHT + LEGEND_HEIGHT }
    }

    fn grid_bottom(&self) -> i32 {
        self.grid_top() + self.rows() * self.cell().1
    }

    fn heading_height(&self) -> i32 {
        HEADING_LINE * self.panels.iter().map(|panel| panel.heading.len()).max().unwrap_or(0) as i32 + 8
    }

    /// A panel with its heading, its ticks, and the gap to the next.
    fn cell(&self) -> (i32, i32) {
        (Y_TICKS + self.size.0 + GAP, self.heading_height() + self.size.1 + X_TICKS + GAP)
    }

    fn width(&self) -> i32 {
        2 * MARGIN + AXIS_NAME + self.columns() * self.cell().0
    }
}

/// Axes and grid of one panel; ticks of x where `x_ticks` gives them a label.
pub fn chart<'a>(area: &Area<'a>, x: Range<f64>, y: Range<f64>, x_ticks: &[(f64, String)]) -> Drawn<Chart<'a>> {
    let mut chart = ChartBuilder::on(area)
        .set_label_area_size(LabelAreaPosition::Left, Y_TICKS)
        .set_label_area_size(LabelAreaPosition::Bottom, X_TICKS)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .y_labels(8)
        .bold_line_style(theme::GRID.stroke_width(theme::THIN_LINE))
        .light_line_style(TRANSPARENT)
        .axis_style(theme::AXIS.stroke_width(theme::HAIRLINE))
        .set_tick_mark_size(LabelAreaPosition::Left, 8)
        // Ticks are sums of steps: 0.30000000000000004.
        .y_label_formatter(&|value| format!("{}", (value * 1e6).round() / 1e6))
        .label_style(theme::text(theme::NOTE, theme::TEXT))
        .draw()?;
    let floor = chart.y_range().start;
    let range = chart.x_range();
    let axis = theme::AXIS.stroke_width(theme::THIN_LINE);
    chart.draw_series([PathElement::new(vec![(range.start, floor), (range.end, floor)], axis)])?;
    let style = theme::text(theme::NOTE, theme::TEXT).pos(theme::CENTER);
    chart.draw_series(
        x_ticks.iter().map(|(x, label)| {
            EmptyElement::at((*x, floor)) + Text::new(label.clone(), (0, X_TICKS / 2), style.clone())
        }),
    )?;
    Ok(chart)
}

/// A marker with a white rim, so that markers on each other can be counted.
pub fn draw_marker<CT: CoordTranslate>(area: &DrawingArea<Backend, CT>, method: Option<Method>, at: CT::From) -> Drawn
where
    CT::From: Clone,
{
    let outline = theme::marker(method);
    let rim: Vec<(i32, i32)> = outline.iter().chain(outline.first()).copied().collect();
    let shape = Polygon::new(outline, theme::color(method).filled());
    area.draw(&(EmptyElement::at(at) + shape + PathElement::new(rim, WHITE.stroke_width(theme::THIN_LINE))))
}

/// The library draws whole units only: half a pixel each is fine enough.
fn at_pixel_size(svg: String, width: i32, height: i32) -> String {
    let size = |units: i32| f64::from(units) / f64::from(UNITS_PER_PIXEL);
    let in_units = format!("<svg width=\"{width}\" height=\"{height}\"");
    let in_pixels = format!("<svg width=\"{}\" height=\"{}\"", size(width), size(height));
    svg.replacen(&in_units, &in_pixels, 1)
}

/// About the width of an average character, as fonts are unknown here.
fn characters(width: i32, font_size: i32) -> usize {
    (f64::from(width) / (0.55 * f64::from(font_size))) as usize
}

fn wrapped(text: &str, width: i32, font_size: i32) -> Vec<String> {
    let most = characters(width, font_size);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("never empty");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > most {
            lines.push(word.to_string());
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines
}

/// Names of axes can be of any length, and of any characters: SVG allows no control characters.
fn shortened(text: &str, width: i32, font_size: i32) -> String {
    let most = characters(width, font_size);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}
