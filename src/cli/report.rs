//! `winsign report`: makes tables and plots of the results.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use strum::VariantNames;
use winsign_core::Diagnostic;
use winsign_report::export::{self, Exported};
use winsign_report::{FigureChrome, RunRecord, json, plots, tensorboard, terminal};
use winsign_sweep::plan::{PlannedRun, RunState};
use winsign_sweep::yaml::{listed, nearest};
use winsign_sweep::{IntervalMethod, Layout, Measure, Show, check_number};

use super::report_source::{ReportSource, Snapshot};
use super::{Common, colors, output};

pub(crate) const HELP: &str = "\
Examples:
  winsign report sweeps/quickstart.yaml
  winsign report sweeps/quickstart.yaml --out paper/figures --bare
  winsign report sweeps/quickstart.yaml --rows inherit --columns level --value barrier
  winsign report sweeps/quickstart.yaml --rows method,inherit --show mean-ci --interval bootstrap
  winsign report sweeps/quickstart.yaml /mnt/north/results       runs in several stores
  winsign report results /mnt/north/results                      all runs in these stores
  winsign report sweeps/quickstart.yaml --json | jq '.transfers[] | {method, inherit, error_mean}'

Prints the tables, and writes an interactive page (report.html), the tables as Markdown, LaTeX, CSV,
JSON and Parquet, and the plots as SVG (with --png also as PNG); see docs/reference/reports.md. With
--json the report is printed as JSON, and files are written only with --out. Stores are not locked,
and only reports/NAME in them is changed.";

#[derive(Args)]
pub(crate) struct Arguments {
    /// A sweep file and stores to search for its runs before --store, or only stores, for all their runs
    #[arg(required = true, value_name = "SWEEP_OR_STORE")]
    sources: Vec<PathBuf>,
    /// The directory to write the report to [default: reports/NAME in the store]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also write the plots as PNG
    #[arg(long)]
    png: bool,
    /// Omit titles and captions in plot files, for papers; report.md has the captions
    #[arg(long)]
    bare: bool,
    /// Write the training curves for TensorBoard, one directory per run
    #[arg(long, value_name = "DIR")]
    tensorboard: Option<PathBuf>,
    #[command(flatten)]
    table: Table,
}

impl Arguments {
    pub(crate) fn sources(&self) -> &[PathBuf] {
        &self.sources
    }

    /// Returns the directory of the report, if it is given.
    pub(crate) fn out(&self) -> Option<&Path> {
        self.out.as_deref()
    }
}

/// The custom table; options that are not given are taken from the sweep file.
#[derive(Args)]
struct Table {
    /// Fields that distinguish rows: method, level, remaining, inherit, between, dataset, architecture, or a setting
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    rows: Option<Vec<String>>,
    /// Fields that distinguish columns, as for --rows
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    columns: Option<Vec<String>>,
    /// Quantity shown in the cells: error, loss, barrier, train-barrier, loss-barrier, norm-change,
    /// remaining or seconds
    #[arg(long, value_parser = parse_value::<Measure>)]
    value: Option<Measure>,
    /// Statistic shown in each cell: mean, mean±std (or mean-std), mean±ci (or mean-ci), median, median(range) or max
    #[arg(long, value_parser = parse_show)]
    show: Option<Show>,
    /// Method for confidence intervals: t or bootstrap
    #[arg(long, value_parser = parse_value::<IntervalMethod>)]
    interval: Option<IntervalMethod>,
    /// The confidence level of the intervals, between 0 and 1
    #[arg(long, value_parser = parse_confidence)]
    confidence: Option<f64>,
}

impl Table {
    fn layout(&self) -> Layout {
        Layout {
            rows: self.rows.clone(),
            columns: self.columns.clone(),
            value: self.value,
            show: self.show,
            interval: self.interval,
            confidence: self.confidence,
        }
    }
}

pub(crate) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let source = ReportSource::open(common, &arguments.sources)?;
    source.check_stores()?;
    let directory = arguments.out.as_ref().unwrap_or(&source.directory);
    let writes = arguments.out.is_some() || !common.json;
    let (found, mut notices) = source.survey();
    let snapshot = Snapshot::read(&source, found);
    notices.extend(snapshot.notices(&source.plan));
    let records = snapshot.records(&source.plan);
    let report = source.report(&records, notices, arguments.table.layout())?;
    let plots = plots::draw(&report, &records, FigureChrome::Full);
    let bare = arguments.bare.then(|| plots::draw(&report, &records, FigureChrome::Bare));
    let as_files = bare.as_ref().unwrap_or(&plots);
    let exported = Exported { report: &report, records: &records, page_plots: &plots, plots: as_files };
    let events = arguments.tensorboard.as_ref();
    let write_curves = || events.map(|events| write_events(&source, &snapshot, &records, events)).transpose();
    if common.json {
        if writes {
            write_files(&exported, directory, arguments.png)?;
        }
        write_curves()?;
        return output::text(&json::render(&report));
    }
    // The tables are printed first, since they are useful even if the files cannot be written.
    output::text(&terminal::render(&report, colors(&std::io::stdout())))?;
    if arguments.out.is_none() {
        source.claim_directory()?;
    }
    let written = write_files(&exported, directory, arguments.png)?;
    let names: String = written.iter().map(|path| format!("\n  {}", path.display())).collect();
    let curves = write_curves()?
        .zip(events)
        .map(|(count, events)| format!("\n  {}: training curves of {count} runs", events.display()));
    output::text(&format!("\nwritten:{names}{}\n", curves.unwrap_or_default()))
}

/// Writes the files of a report; returns their paths.
fn write_files(exported: &Exported, directory: &Path, png: bool) -> Result<Vec<PathBuf>, Diagnostic> {
    let mut written = export::write(exported, directory)?;
    if png {
        written.extend(export::write_pngs(exported.plots, directory)?);
    }
    Ok(written)
}

/// Writes the metrics of every finished run that was trained, and returns the number of these runs. Metrics are read run by
/// run, since those of a large study do not fit into memory.
fn write_events(
    source: &ReportSource,
    snapshot: &Snapshot,
    records: &[RunRecord],
    directory: &Path,
) -> Result<usize, Diagnostic> {
    let mut written = 0;
    for (record, found) in records.iter().zip(&snapshot.found).filter(|(record, _)| record.state == RunState::Done) {
        let PlannedRun { run, label } = record.planned;
        let Some(result) = &record.result else { continue };
        let Some(metrics) = &result.metrics else { continue };
        match source.directory_of(&run.id, found).read_metrics(metrics) {
            Ok(metrics) => {
                tensorboard::write(directory, &label.to_string(), &run.id, result.finished, &metrics)?;
                written += 1;
            }
            // The notices of the page list the error.
            Err(error) => tracing::warn!("{error}; skipping {label}"),
        }
    }
    Ok(written)
}

/// Parses one of the values of an option.
fn parse_value<T: FromStr + VariantNames>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| unknown_value(text, T::VARIANTS))
}

/// Parses `--show`, also with `-` instead of ±, which most keyboards lack.
fn parse_show(text: &str) -> Result<Show, String> {
    match text {
        "mean-std" => Ok(Show::MeanStd),
        "mean-ci" => Ok(Show::MeanCi),
        "median-range" => Ok(Show::MedianRange),
        _ => parse_value(text),
    }
}

fn unknown_value(text: &str, known: &[&str]) -> String {
    let all = listed(known.iter().copied());
    match nearest(text, known.iter().copied()) {
        Some(near) => format!("must be one of {all}; did you mean `{near}`?"),
        None => format!("must be one of {all}"),
    }
}

pub(crate) fn parse_confidence(text: &str) -> Result<f64, String> {
    let number = text.parse().unwrap_or(f64::NAN);
    check_number("report.confidence", number).map(|()| number).map_err(|error| format!("{error}, such as 0.95"))
}
