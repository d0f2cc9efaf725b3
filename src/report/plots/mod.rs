//! Plots as SVG, and as PNG on request: one file for each plot, all with one theme.

mod by_ratio;
mod chart;
mod contours;
mod curves;
mod figure;
mod heatmap;
mod interpolation;
mod layers;
mod legend;
mod matrix;
mod panels;
mod plane;
mod signs;
mod svg;
mod text;
mod theme;
mod transfer_error;
mod values;

#[cfg(test)]
mod samples;

use super::{Report, RunRecord};
use crate::export::{Exported, ExportedFile, Exporter};

pub use svg::{escaped, png};

/// The parts of a figure around its panels and their legend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FigureChrome {
    /// A title above, and a caption below.
    Full,
    /// No title and no caption, since a paper has its own.
    Bare,
}

pub struct Plot {
    pub file: &'static str,
    pub title: &'static str,
    /// The description of the figure, and of parts that were left out.
    pub caption: String,
    pub svg: String,
}

/// The figures as SVG.
pub struct Svg;

impl Exporter for Svg {
    fn names(&self) -> &'static [&'static str] {
        &[
            "error-by-ratio.svg",
            "transfer-error.svg",
            "barrier-by-ratio.svg",
            "interpolation.svg",
            "matrix.svg",
            "plane.svg",
            "curves.svg",
            "ticket-curves.svg",
            "layers.svg",
            "signs.svg",
            "signs-by-ratio.svg",
        ]
    }

    fn files(&self, study: &Exported) -> Vec<ExportedFile> {
        study.plots.iter().map(|plot| (plot.file, plot.svg.clone().into_bytes())).collect()
    }
}

/// Pixels of a PNG for each of the SVG's: enough for print at the size of a column.
pub const PNG_SCALE: f32 = 3.0;

/// Draws every plot for which something is finished. `records` are those of the report; they have the training curves.
pub fn draw(report: &Report, records: &[RunRecord], chrome: FigureChrome) -> Vec<Plot> {
    let plots = [
        by_ratio::draw_errors(report, chrome),
        transfer_error::draw(report, chrome),
        by_ratio::draw_barriers(report, chrome),
        interpolation::draw(report, chrome),
        matrix::draw(report, chrome),
        plane::draw(report, chrome),
        curves::draw_transfers(records, chrome),
        curves::draw_tickets(records, chrome),
        layers::draw(report, chrome),
        signs::draw_tickets(report, chrome),
        signs::draw_levels(report, chrome),
    ];
    let drawn: Vec<Plot> = plots.into_iter().flatten().collect();
    debug_assert!(drawn.iter().all(|plot| Svg.names().contains(&plot.file)), "a plot without a known name");
    drawn
}

#[cfg(test)]
mod tests {
    use resvg::usvg::roxmltree::Document;

    use super::samples::*;
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_core::grouping::distinct;
    use winsign_core::settings::{Kind, Method};
    use winsign_sweep::plan::RunState;
    use winsign_testkit::study::Study;

    fn drawn(study: &Study) -> Vec<Plot> {
        draw(&study.report(), &study.records(), FigureChrome::Full)
    }

    fn named<'a>(plots: &'a [Plot], file: &str) -> &'a Plot {
        plots.iter().find(|plot| plot.file == file).expect("a plot")
    }

    fn count(plot: &Plot, what: &str) -> usize {
        plot.svg.matches(what).count()
    }

    /// Only markers have a rim of paper.
    const RIM: &str = "stroke=\"#FFFFFF\"";

    #[test]
    fn finished_study_has_its_figures() {
        let plots = drawn(&Study::digits());
        let files: Vec<&str> = plots.iter().map(|plot| plot.file).collect();
        assert_eq!(files, ["transfer-error.svg", "interpolation.svg", "matrix.svg", "layers.svg"]);
        assert!(plots.iter().all(|plot| plot.svg.starts_with("<svg ") && plot.svg.ends_with("</svg>\n")));
        let [error, paths, ..] = &plots[..] else { unreachable!() };
        for text in ["level 12, 6.9 % remaining", "sign+norm", ">11.7<", ">1.6<", "test error, %"] {
            assert!(error.svg.contains(text), "{text}");
        }
        // A marker for each of 24 seeds, two in the legend.
        assert_eq!(count(error, RIM), 26);
        for text in [">LRR · sign<", ">AWS · norm-init<", ">barrier 61.0 (81.3)<"] {
            assert!(paths.svg.contains(text), "{text}");
        }
        // A thin line for each pair of seeds.
        assert_eq!(count(paths, "opacity=\"0.5\""), 24);
        assert!(!error.caption.contains("At most") && !paths.caption.contains("nly"));
    }

    #[test]
    fn dense_networks_are_a_line_across_every_panel() {
        let mut study = Study::new(&[6, 12], &[2, 3], &[vec![]]);
        let lines = |study: &Study| {
            let plots = drawn(study);
            let bars = plots.iter().find(|plot| plot.file == "transfer-error.svg").unwrap();
            // Only dense networks are drawn in the colour for no method.
            let dashes = bars.svg.split("<polyline").filter(|line| line.contains("stroke=\"#1C1C1C\"")).count();
            (dashes > 0, bars.caption.contains("Dashed line: dense networks."))
        };
        assert_eq!(lines(&study), (false, false));
        study.add_dense(&[2, 3]);
        assert_eq!(lines(&study), (true, true));

        study.unfinish(RunState::Pending, |planned| {
            planned.label.inherit != Some(winsign_core::settings::Inherit::Dense)
        });
        assert!(drawn(&study)[0].svg.contains("dense"), "alone it has bars");
    }

    #[test]
    fn study_without_results_has_no_figures() {
        let mut study = Study::digits();
        study.unfinish(RunState::Pending, |planned| planned.run.kind() != Kind::Ticket);
        let files: Vec<&str> = drawn(&study).iter().map(|plot| plot.file).collect();
        assert_eq!(files, ["layers.svg"]);
        study.unfinish(RunState::Pending, |_| true);
        assert!(drawn(&study).is_empty());
    }

    #[test]
    fn unfinished_panels_are_marked() {
        let mut study = Study::digits();
        study.unfinish(RunState::Pending, |planned| planned.label.method == Some(Method::Aws));
        assert_eq!(count(named(&drawn(&study), "interpolation.svg"), "not finished"), 5);
    }

    #[test]
    fn panels_beyond_the_limit_are_left_out_with_a_note() {
        let seeds: Vec<u64> = (0..30).collect();
        let plots = drawn(&Study::new(&[12], &seeds, &[vec![]]));
        assert!(plots[0].caption.contains("mean over 1 ticket (30 seeds)"), "{}", plots[0].caption);
        assert!(plots[0].caption.contains("At most 25 seeds"), "{}", plots[0].caption);
        assert_eq!(count(&plots[0], RIM), 8 * 25 + 2);
        assert!(plots[1].caption.contains("At most 50 pairs"), "{}", plots[1].caption);
        assert_eq!(count(&plots[1], "opacity=\"0.5\""), 8 * 50);

        let axes: Vec<_> = (1..=20).map(|lr| vec![("lr".to_string(), format!("0.{lr:02}"))]).collect();
        let plots = drawn(&Study::new(&[3, 6, 9, 12], &[2, 3], &axes));
        let files: Vec<&str> = plots.iter().map(|plot| plot.file).collect();
        assert_eq!(files[..3], ["error-by-ratio.svg", "barrier-by-ratio.svg", "interpolation.svg"]);
        assert!(plots[0].caption.ends_with("Only the first 12 of 20 panels are drawn."), "{}", plots[0].caption);
        assert!(plots[1].caption.ends_with("Only the first 12 of 40 panels are drawn."), "{}", plots[1].caption);
        let expected = "Of several levels, only level 12 is drawn. Only the first 6 of 40 rows of panels are drawn.";
        assert!(plots[2].caption.ends_with(expected), "{}", plots[2].caption);
        // Both methods of the first axes, not many axes of one method.
        assert!(plots[2].svg.contains("AWS · sign"));
    }

    /// Returns every kind of figure, for studies whose texts are `evil`.
    fn everything(evil: &str, chrome: FigureChrome) -> Vec<Plot> {
        let axes = || vec![(evil.to_string(), evil.to_string())];
        let mut reports = vec![levels(), two_basins(5), tickets(5), neighbours(), bowl(), layered(3)];
        for report in &mut reports {
            report.tickets.iter_mut().for_each(|row| row.axes = axes());
            report.transfers.iter_mut().for_each(|row| row.axes = axes());
            report.connections.iter_mut().for_each(|row| row.axes = axes());
            report.planes.iter_mut().for_each(|row| row.axes = axes());
            let layers = report.tickets.iter_mut().flat_map(|row| &mut row.layers);
            layers.for_each(|layer| layer.name = format!("{}{evil}", layer.name));
            let paths = report.connections.iter_mut().flat_map(|row| &mut row.paths).flat_map(|pair| &mut pair.ends);
            let ends = paths.chain(report.planes.iter_mut().flat_map(|row| &mut row.ends));
            ends.for_each(|end| end.label = format!("{evil}{}", end.label));
        }
        let mut plots: Vec<Plot> = reports.iter().flat_map(|report| draw(report, &[], chrome)).collect();
        let study = Study::new(&[12], &[2, 3], &[axes()]);
        plots.extend(draw(&study.report(), &with_curves(&study, 5), chrome));
        plots
    }

    #[test]
    fn text_of_users_is_only_text() {
        let plots = everything("a<b>]]>\"&'\x1b\0\u{fffe}</svg><script>", FigureChrome::Full);
        let files = distinct(plots.iter().map(|plot| plot.file));
        assert_eq!(files.len(), 11, "{files:?}");
        for plot in &plots {
            let document = Document::parse(&plot.svg).unwrap_or_else(|error| panic!("{}: {error}", plot.file));
            let root = document.root_element();
            assert_eq!((root.tag_name().name(), root.attribute("role")), ("svg", Some("img")));
            let known = ["svg", "title", "desc", "g", "rect", "circle", "path", "polyline", "text"];
            for node in document.descendants().filter(|node| node.is_element()) {
                assert!(known.contains(&node.tag_name().name()), "{}: {}", plot.file, node.tag_name().name());
            }
            assert_eq!(count(plot, "</svg>"), 1);
            assert!(!plot.svg.contains('\x1b'));
            assert!(!tooltips(&plot.svg).is_empty(), "{}", plot.file);
        }
        assert!(plots.iter().any(|plot| texts(&plot.svg).iter().any(|text| text.contains("a<b>"))));
    }

    #[test]
    fn names_of_any_length_make_a_picture_of_a_size() {
        for plot in everything(&"Wide ".repeat(400), FigureChrome::Full) {
            let (width, height) = size(&plot.svg);
            assert!(width < 2_000.0 && height < 3_000.0, "{}: {width} x {height}", plot.file);
            let drawn = texts(&plot.svg);
            assert!(drawn.iter().all(|text| text.chars().count() < 300), "{}", plot.file);
        }
    }

    #[test]
    fn same_study_makes_the_same_files() {
        let [first, second] = [0, 1].map(|_| everything("x", FigureChrome::Full));
        assert!(first.iter().zip(&second).all(|(a, b)| a.file == b.file && a.svg == b.svg && a.caption == b.caption));
    }

    #[test]
    fn bare_figures_leave_title_and_caption_to_the_paper() {
        let [full, bare] = [FigureChrome::Full, FigureChrome::Bare].map(|chrome| everything("x", chrome));
        for (full, bare) in full.iter().zip(&bare) {
            let drawn = |plot: &Plot, text: &str| texts(&plot.svg).iter().any(|found| text.starts_with(found.trim()));
            assert!(drawn(full, full.title) && drawn(full, &full.caption), "{}", full.file);
            assert!(!drawn(bare, bare.title) && !drawn(bare, &bare.caption), "{}", bare.file);
            assert!(
                size(&bare.svg).1 < size(&full.svg).1 - 30.0 && size(&bare.svg).0 <= size(&full.svg).0,
                "{}",
                bare.file
            );
            // Screen readers still have them, and all values are there.
            assert_eq!((bare.title, &bare.caption), (full.title, &full.caption));
            assert!(bare.svg.contains(&format!("<title>{}</title>", bare.title)));
            assert_eq!(tooltips(&bare.svg).len(), tooltips(&full.svg).len());
        }
    }

    #[test]
    fn nothing_is_cut_off_or_covered() {
        for name in ["x", "a name of many words ", "aNameWithoutSpaces"] {
            let chromes = [FigureChrome::Full, FigureChrome::Bare];
            for plot in chromes.into_iter().flat_map(|chrome| everything(name, chrome)) {
                assert_eq!(faults(&plot.svg), [""; 0], "{}", plot.file);
                let (width, height) = size(&plot.svg);
                for tooltip in tooltips(&plot.svg) {
                    let (x, y) = tooltip.at;
                    assert!(x > 0.0 && y > 0.0 && x < width && y < height, "{}: {tooltip:?}", plot.file);
                }
            }
        }
    }
}
