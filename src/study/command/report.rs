//! `winsign report`: tables and plots of what is done.

use std::path::Path;

use super::{Common, Failure, colors, open, output};
use crate::study::plan::survey::survey;
use crate::study::report::{self, Finding, gather, json, terminal};

pub const HELP: &str = "\
Examples:
  winsign report sweeps/quickstart.yaml
  winsign report sweeps/quickstart.yaml --out paper/figures
  winsign report sweeps/quickstart.yaml --json | jq '.transfers[] | {method, inherit, error_mean}'

Prints the tables, and writes report.md, report.csv, report.json and the plots as SVG, and with --png as PNG, too.
With --json the report is printed as JSON, and files are written only with --out.";

pub fn command(common: &Common, sweep_path: &Path, out: Option<&Path>, png: bool) -> Result<u8, Failure> {
    let (plan, store) = open(common, sweep_path)?;
    let standings = survey(&plan, &store)?;
    let findings: Vec<Finding> = (plan.runs.iter().zip(standings))
        .map(|(planned, standing)| Finding {
            planned,
            state: standing.state,
            result: standing.result,
            note: standing.note,
            curve: None,
            log_end: None,
            store: None,
        })
        .collect();
    let report = gather(&plan.name, &findings);
    let directory = match out {
        Some(directory) => directory.to_path_buf(),
        None => store.root().join("reports").join(&plan.name),
    };
    if common.json {
        if out.is_some() {
            report::write(&report, &findings, &directory)?;
            if png {
                report::write_pngs(&report, &findings, &directory)?;
            }
        }
        return output::text(&json::render(&report));
    }
    // The table first: it is of use even where the files cannot be written.
    output::text(&terminal::render(&report, colors(&std::io::stdout())))?;
    let mut written = report::write(&report, &findings, &directory)?;
    if png {
        written.extend(report::write_pngs(&report, &findings, &directory)?);
    }
    let names: String = written.iter().map(|path| format!("\n  {}", path.display())).collect();
    output::text(&format!("\nwritten:{names}\n"))
}
