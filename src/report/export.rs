//! The files of a report. Each form has an [`Exporter`]; a new one is a file with such a type, and a line in [`EXPORTERS`].

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use winsign_core::error::{Error, Result};
use winsign_core::files::{remove_drafts, remove_if_exists, write_atomic};

use crate::plots::{self, Plot};
use crate::{Report, RunRecord, csv, json, latex, markdown, page, parquet};

/// A study, as exporters get it.
#[derive(Clone, Copy)]
pub struct Exported<'a> {
    pub report: &'a Report,
    /// The runs, in the order of the plan.
    pub records: &'a [RunRecord<'a>],
    /// The figures of the page: those of [`plots::draw`], with titles and captions.
    pub page_plots: &'a [Plot],
    /// The figures as files.
    pub plots: &'a [Plot],
}

/// A file by its name, with its content.
pub type ExportedFile = (&'static str, Vec<u8>);

/// One form of the report.
pub trait Exporter: Sync {
    /// Returns the names of all files that it may write. Files of these names are removed where a report does not write them:
    /// they would look like a part of it.
    fn names(&self) -> &'static [&'static str];

    /// Returns the files of a study. A file without content is left out.
    fn files(&self, study: &Exported) -> Vec<ExportedFile>;
}

/// All forms, in the order in which their files are listed.
pub const EXPORTERS: &[&dyn Exporter] = &[
    &page::Page,
    &markdown::Markdown,
    &csv::Csv,
    &json::Json,
    &csv::ChosenCsv,
    &latex::Latex,
    &parquet::Parquet,
    &plots::Svg,
];

/// A draft of a file that is older than this was left by a process that was killed.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Writes all forms of the report into a directory, each file whole or not at all, and returns their paths.
///
/// # Errors
///
/// Names the directory or file that cannot be written.
pub fn write(study: &Exported, directory: &Path) -> Result<Vec<PathBuf>> {
    let files: Vec<ExportedFile> = thread::scope(|scope| {
        let exporters: Vec<_> = EXPORTERS.iter().map(|exporter| scope.spawn(|| exporter.files(study))).collect();
        exporters.into_iter().flat_map(|exporter| exporter.join().expect("exporters do not panic")).collect()
    });
    let is_written = |name: &&str| files.iter().any(|(file, _)| file == name);
    let names = || EXPORTERS.iter().flat_map(|exporter| exporter.names());
    debug_assert_eq!(names().filter(|name| is_written(name)).count(), files.len(), "a file without a declared name");

    fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
    remove_drafts(directory, ABANDONED)?;
    for stale in names().filter(|name| !is_written(name)) {
        remove_if_exists(&directory.join(stale))?;
    }
    let write_one = |(file, bytes): ExportedFile| {
        let path = directory.join(file);
        write_atomic(&path, &bytes)?;
        Ok(path)
    };
    files.into_iter().map(write_one).collect()
}

/// Writes plots as PNG, each file whole or not at all, and returns their paths. PNGs of other plots that an earlier report
/// wrote are removed.
///
/// # Errors
///
/// Names the directory or file that cannot be written.
pub fn write_pngs(plots: &[Plot], directory: &Path) -> Result<Vec<PathBuf>> {
    let png_path = |file: &str| directory.join(file).with_extension("png");
    let write_one = |plot: &Plot| {
        let path = png_path(plot.file);
        let png = plots::png(&plot.svg, plots::PNG_SCALE).map_err(Error::io("draw", &path))?;
        write_atomic(&path, &png)?;
        Ok(path)
    };
    fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
    let is_written = |file: &str| plots.iter().any(|plot| plot.file == file);
    remove_drafts(directory, ABANDONED)?;
    for stale in plots::Svg.names().iter().filter(|file| !is_written(file)) {
        remove_if_exists(&png_path(stale))?;
    }
    plots.iter().map(write_one).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::made_up::Reported as _;
    use crate::{FigureChrome, pivot};
    use winsign_core::settings::Kind;
    use winsign_sweep::plan::RunState;
    use winsign_testkit::study::Study;

    fn write_all(report: &Report, study: &Study, plots: &[Plot], directory: &Path) -> Result<Vec<PathBuf>> {
        write(&Exported { report, records: &study.records(), page_plots: plots, plots }, directory)
    }

    #[test]
    fn every_form_is_written() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("new").join("study");
        let study = Study::digits();
        let report = study.report();
        let plots = plots::draw(&report, &study.records(), FigureChrome::Full);
        let written = write_all(&report, &study, &plots, &directory).unwrap();
        let mut names = vec!["report.html", "report.md", "report.csv", "report.json"];
        names.extend(["table-transfers.tex", "table-connections.tex", "table-differences.tex", "table-spreads.tex"]);
        names.extend(["table-tickets.tex", "runs.parquet", "paths.parquet", "curves.parquet"]);
        names.extend(["transfer-error.svg", "interpolation.svg", "matrix.svg", "layers.svg"]);
        assert_eq!(written, names.iter().map(|name| directory.join(name)).collect::<Vec<_>>());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), names.len());
        assert_eq!(fs::read_to_string(&written[3]).unwrap(), json::render(&report));
    }

    #[test]
    fn plots_are_written_as_png_on_request() {
        let scratch = tempfile::tempdir().unwrap();
        let mut study = Study::digits();
        study.unfinish(RunState::Pending, |planned| planned.run.kind() != Kind::Transfer);
        let written = write_pngs(
            &plots::draw(&study.report(), &study.records(), FigureChrome::Full),
            &scratch.path().join("new"),
        )
        .unwrap();
        assert_eq!(written, [scratch.path().join("new/transfer-error.png")]);
        assert!(fs::read(&written[0]).unwrap().starts_with(b"\x89PNG\r\n"));
    }

    #[test]
    fn custom_table_is_removed_with_the_next_report_without_one() {
        let scratch = tempfile::tempdir().unwrap();
        let study = Study::digits();
        let mut report = study.report();
        let chosen = || scratch.path().join("chosen.csv").exists() && scratch.path().join("table-chosen.tex").exists();
        report.pivot = Some(pivot::pivot(&report, &Default::default(), Default::default()).unwrap());
        write_all(&report, &study, &[], scratch.path()).unwrap();
        assert!(chosen());
        report.pivot = None;
        write_all(&report, &study, &[], scratch.path()).unwrap();
        assert!(!scratch.path().join("chosen.csv").exists() && !scratch.path().join("table-chosen.tex").exists());
    }

    #[test]
    fn files_of_earlier_reports_are_removed_and_others_kept() {
        let scratch = tempfile::tempdir().unwrap();
        let mut study = Study::digits();
        let write_both = |study: &Study, with_pngs: bool| {
            let report = study.report();
            let plots = plots::draw(&report, &study.records(), FigureChrome::Full);
            let mut written = write_all(&report, study, &plots, scratch.path()).unwrap();
            written.extend(write_pngs(if with_pngs { &plots } else { &[] }, scratch.path()).unwrap());
            written
        };
        let others = ["notes.md", "matrix.pdf", "table-mine.tex", "figure.png", "figure.svg"];
        for name in others {
            fs::write(scratch.path().join(name), "mine").unwrap();
        }
        let expect = |written: &[PathBuf]| {
            let found = fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().path());
            let expected = written.iter().cloned().chain(others.map(|name| scratch.path().join(name)));
            assert_eq!(found.collect::<BTreeSet<_>>(), expected.collect::<BTreeSet<_>>());
        };
        let whole = write_both(&study, true);
        assert!(whole.contains(&scratch.path().join("matrix.png")));
        expect(&whole);

        study.unfinish(RunState::Pending, |planned| planned.run.kind() != Kind::Transfer);
        let fewer = write_both(&study, true);
        assert!(fewer.len() < whole.len() && fewer.contains(&scratch.path().join("transfer-error.png")));
        expect(&fewer);
        let without = write_both(&study, false);
        assert_eq!(without.len(), fewer.len() - 1);
        expect(&without);
    }

    #[test]
    fn write_below_a_file_is_an_error() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(write_all(&Study::digits().report(), &Study::digits(), &[], &file).is_err());
    }
}
