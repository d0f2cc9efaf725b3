//! `winsign report`: tables and plots of what is done.

use std::path::Path;
use std::sync::Arc;

use super::findings::{Known, cache_path, reports};
use super::{Common, Failure, colors, open, output};
use crate::run::Store;
use crate::study::evidence::Cache;
use crate::study::plan::survey::survey;
use crate::study::plan::{PlannedRun, RunState};
use crate::study::report::{self, Finding, gather, json, plots, tensorboard, terminal};

pub const HELP: &str = "\
Examples:
  winsign report sweeps/quickstart.yaml
  winsign report sweeps/quickstart.yaml --out paper/figures
  winsign report sweeps/quickstart.yaml --tensorboard curves && tensorboard --logdir curves
  winsign report sweeps/quickstart.yaml --json | jq '.transfers[] | {method, inherit, error_mean}'

Prints the tables, and writes report.html, report.md, report.csv, report.json and the plots as SVG, and with --png as PNG, too.
With --json the report is printed as JSON, and files are written only with --out.";

pub fn command(
    common: &Common,
    sweep_path: &Path,
    out: Option<&Path>,
    png: bool,
    events: Option<&Path>,
) -> Result<u8, Failure> {
    let (plan, store) = open(common, sweep_path)?;
    let standings = survey(&plan, &store)?;
    let cache_path = cache_path(&store, &plan);
    let mut cache = Cache::load(&cache_path);
    let known = Known::of(&plan, &store, standings, &mut cache);
    if let Err(error) = cache.save(&cache_path, known.standings.iter()) {
        tracing::info!("{error}; the next report reads the runs again");
    }
    let findings = known.findings(&plan, &Arc::from(store.root()));
    let mut report = gather(&plan.name, &findings);
    report.notices.extend(known.notices(&plan));
    let plots = plots::draw(&report, &findings);
    let curves = events.map(|events| write_events(&store, &findings, events)).transpose()?;
    let directory = out.map_or_else(|| reports(&store, &plan), Path::to_path_buf);
    if common.json {
        if out.is_some() {
            report::write(&report, &findings, &plots, &directory)?;
            if png {
                plots::write_pngs(&plots, &directory)?;
            }
        }
        return output::text(&json::render(&report));
    }
    // The table first: it is of use even where the files cannot be written.
    output::text(&terminal::render(&report, colors(&std::io::stdout())))?;
    let mut written = report::write(&report, &findings, &plots, &directory)?;
    if png {
        written.extend(plots::write_pngs(&plots, &directory)?);
    }
    let names: String = written.iter().map(|path| format!("\n  {}", path.display())).collect();
    let curves = curves.zip(events).map(|(count, events)| format!("\n  {}: curves of {count} runs", events.display()));
    output::text(&format!("\nwritten:{names}{}\n", curves.unwrap_or_default()))
}

/// Writes the metrics of every run that is done and was trained, and says how many these are. They are read run by run, since
/// those of a large study do not fit into memory.
fn write_events(store: &Store, findings: &[Finding], directory: &Path) -> Result<usize, Failure> {
    let mut written = 0;
    for finding in findings.iter().filter(|finding| finding.state == RunState::Done) {
        let PlannedRun { run, label } = finding.planned;
        let Some(result) = &finding.result else { continue };
        let Some(metrics) = &result.metrics else { continue };
        match store.run(&run.id).read_metrics(metrics) {
            Ok(metrics) => {
                tensorboard::write(directory, &label.to_string(), &run.id, result.finished, &metrics)?;
                written += 1;
            }
            // The page names it among its notices.
            Err(error) => tracing::warn!("{error}; {label} is left out"),
        }
    }
    Ok(written)
}
