//! `winsign report`: tables and plots of what is done.

use std::path::Path;
use std::sync::Arc;

use super::findings::{Known, cache_path, reports};
use super::{Common, Failure, colors, open, output};
use crate::study::evidence::Cache;
use crate::study::plan::survey::survey;
use crate::study::report::{self, gather, json, plots, terminal};

pub const HELP: &str = "\
Examples:
  winsign report sweeps/quickstart.yaml
  winsign report sweeps/quickstart.yaml --out paper/figures
  winsign report sweeps/quickstart.yaml --json | jq '.transfers[] | {method, inherit, error_mean}'

Prints the tables, and writes report.html, report.md, report.csv, report.json and the plots as SVG, and with --png as PNG, too.
With --json the report is printed as JSON, and files are written only with --out.";

pub fn command(common: &Common, sweep_path: &Path, out: Option<&Path>, png: bool) -> Result<u8, Failure> {
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
    output::text(&format!("\nwritten:{names}\n"))
}
