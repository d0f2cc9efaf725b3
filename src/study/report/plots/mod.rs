//! Plots, as SVG, and as PNG on request: one file a plot, all of one theme.

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
mod theme;
mod transfer_error;
mod values;

#[cfg(test)]
mod samples;

use std::path::{Path, PathBuf};

use super::{Finding, Report};
use crate::run::error::{Error, Result};
use crate::run::files::write_atomic;

pub use svg::png;

pub struct Plot {
    pub file: &'static str,
    pub title: &'static str,
    /// What is drawn, and what was left out.
    pub caption: String,
    pub svg: String,
}

/// Pixels of a PNG for each of the SVG's: enough for print at the size of a column.
const PNG_SCALE: f32 = 3.0;

/// Writes every plot as PNG, too, each file whole or not at all, and says which files these are.
pub fn write_pngs(plots: &[Plot], directory: &Path) -> Result<Vec<PathBuf>> {
    let write_one = |plot: &Plot| {
        let path = directory.join(plot.file).with_extension("png");
        let pixels = png(&plot.svg, PNG_SCALE).map_err(Error::io("draw", &path))?;
        write_atomic(&path, &pixels)?;
        Ok(path)
    };
    plots.iter().map(write_one).collect()
}

/// Every plot for which something is finished. The findings are those the report was made of; they have the training
/// curves.
pub fn draw(report: &Report, findings: &[Finding]) -> Vec<Plot> {
    let plots = [
        by_ratio::draw_errors(report),
        transfer_error::draw(report),
        by_ratio::draw_barriers(report),
        interpolation::draw(report),
        matrix::draw(report),
        plane::draw(report),
        curves::draw_transfers(findings),
        curves::draw_tickets(findings),
        layers::draw(report),
        signs::draw_tickets(report),
        signs::draw_levels(report),
    ];
    plots.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Study;
    use super::*;
    use crate::run::settings::{Kind, Method};
    use crate::study::plan::RunState;

    fn drawn(study: &Study) -> Vec<Plot> {
        draw(&study.report(), &study.findings())
    }

    fn named<'a>(plots: &'a [Plot], file: &str) -> &'a Plot {
        plots.iter().find(|plot| plot.file == file).expect("a plot")
    }

    fn count(plot: &Plot, what: &str) -> usize {
        plot.svg.matches(what).count()
    }

    #[test]
    fn of_a_finished_study() {
        let plots = drawn(&Study::digits());
        let files: Vec<&str> = plots.iter().map(|plot| plot.file).collect();
        assert_eq!(files, ["transfer-error.svg", "interpolation.svg", "matrix.svg", "layers.svg"]);
        assert!(plots.iter().all(|plot| plot.svg.starts_with("<svg ") && plot.svg.ends_with("</svg>\n")));
        let [error, paths, ..] = &plots[..] else { unreachable!() };
        for text in ["level 12, 6.9 % remaining", "sign+norm", "\n11.7\n", "\n1.6\n", "test error, %"] {
            assert!(error.svg.contains(text), "{text}");
        }
        // A marker for each of 24 seeds, two in the legend.
        assert_eq!(count(error, "<polygon"), 26);
        for text in ["LRR · sign\n", "AWS · norm-init\n", "barrier 61.0 (81.3)\n"] {
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
            let plots = drawn(&study);
            let bars = plots.iter().find(|plot| plot.file == "transfer-error.svg").unwrap();
            // Nothing else is drawn in the colour of what belongs to no method.
            let dashes = bars.svg.split("<polyline").filter(|line| line.contains("stroke=\"#1C1C1C\"")).count();
            (dashes > 0, bars.caption.contains("Dashed line: dense networks."))
        };
        assert_eq!(lines(&study), (false, false));
        study.add_dense(&[2, 3]);
        assert_eq!(lines(&study), (true, true));

        study
            .unfinish(RunState::Pending, |planned| planned.label.inherit != Some(crate::run::settings::Inherit::Dense));
        assert!(drawn(&study)[0].svg.contains("dense"), "alone it has bars");
    }

    #[test]
    fn of_a_study_with_nothing_to_draw() {
        let mut study = Study::digits();
        study.unfinish(RunState::Pending, |planned| planned.run.kind() != Kind::Ticket);
        let files: Vec<&str> = drawn(&study).iter().map(|plot| plot.file).collect();
        assert_eq!(files, ["layers.svg"]);
        study.unfinish(RunState::Pending, |_| true);
        assert!(drawn(&study).is_empty());
    }

    #[test]
    fn unfinished_panels_say_so() {
        let mut study = Study::digits();
        study.unfinish(RunState::Pending, |planned| planned.label.method == Some(Method::Aws));
        assert_eq!(count(named(&drawn(&study), "interpolation.svg"), "not finished"), 5);
    }

    #[test]
    fn what_is_too_much_is_left_out_and_said() {
        let seeds: Vec<u64> = (0..20).collect();
        let plots = drawn(&Study::new(&[12], &seeds, &[vec![]]));
        assert!(plots[0].caption.contains("At most 12 seeds"), "{}", plots[0].caption);
        assert_eq!(count(&plots[0], "<polygon"), 8 * 12 + 2);
        assert!(plots[1].caption.contains("At most 50 pairs"), "{}", plots[1].caption);
        assert_eq!(count(&plots[1], "opacity=\"0.5\""), 8 * 50);

        let axes: Vec<_> = (1..=20).map(|lr| vec![("lr".to_string(), format!("0.{lr:02}"))]).collect();
        let plots = drawn(&Study::new(&[3, 6, 9, 12], &[2, 3], &axes));
        let files: Vec<&str> = plots.iter().map(|plot| plot.file).collect();
        assert_eq!(files[..3], ["error-by-ratio.svg", "barrier-by-ratio.svg", "interpolation.svg"]);
        assert!(plots[0].caption.ends_with("Only the first 12 of 20 panels are drawn."), "{}", plots[0].caption);
        assert!(plots[1].caption.ends_with("Only the first 12 of 40 panels are drawn."), "{}", plots[1].caption);
        let said = "Of several levels, only level 12 is drawn. Only the first 6 of 40 tickets are drawn.";
        assert!(plots[2].caption.ends_with(said), "{}", plots[2].caption);
        // Both methods of the first axes, not many axes of one method.
        assert!(plots[2].svg.contains("AWS · sign"));
    }

    #[test]
    fn text_of_users_is_only_text() {
        let axes = vec![("a<b>".to_string(), "\"&\x1b</svg>".to_string())];
        for plot in drawn(&Study::new(&[12], &[2, 3], &[axes])) {
            assert!(plot.svg.contains("a&lt;b&gt;=&quot;&amp; &lt;/svg&gt;"), "{}", plot.file);
            assert_eq!(count(&plot, "</svg>"), 1);
            assert!(!plot.svg.contains('\x1b'));
        }
    }
}
