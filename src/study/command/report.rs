//! `winsign report`: tables and plots of what is done.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use strum::VariantNames;

use super::{Common, Failure, colors, output};
use crate::run::{RunId, Store};
use crate::study::plan::build::build;
use crate::study::plan::found;
use crate::study::plan::stores::{self, Found, Troubles};
use crate::study::plan::{Plan, PlannedRun, RunState};
use crate::study::report::pivot::pivot;
use crate::study::report::statistics::Estimate;
use crate::study::report::{self, Finding, Notice, Report, gather_with, json, terminal};
use crate::study::sweep::{self, IntervalMethod, Layout, Measure, Show, name_from};
use crate::study::yaml::{listed, nearest, quoted};

pub const HELP: &str = "\
Examples:
  winsign report sweeps/quickstart.yaml
  winsign report sweeps/quickstart.yaml --out paper/figures
  winsign report sweeps/quickstart.yaml --rows inherit --value barrier --show mean-ci
  winsign report sweeps/quickstart.yaml /mnt/north/results       of what lies in several stores
  winsign report results /mnt/north/results                      of all that is in these stores
  winsign report sweeps/quickstart.yaml --json | jq '.transfers[] | {method, inherit, error_mean}'

Prints the tables, and writes them for Markdown, LaTeX, CSV, JSON and Parquet, with the plots as
SVG; docs/report.md says what is where. With --json the report is printed as JSON, and files are
written only with --out. Nothing is locked, and nothing is changed in a store but reports/NAME.";

#[derive(Args)]
pub struct Arguments {
    /// A sweep file, and stores to look for its runs in before --store; or stores alone, for all that is in them
    #[arg(required = true, value_name = "SWEEP_OR_STORE")]
    of: Vec<PathBuf>,
    /// Where the report's files go [default: reports/NAME in the store]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    table: Table,
}

/// The table to show; what is not given is as the sweep file says.
#[derive(Args)]
struct Table {
    /// What tells rows apart: method, level, remaining, inherit, between, dataset, architecture, or a setting
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    rows: Option<Vec<String>>,
    /// What tells columns apart, likewise
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    columns: Option<Vec<String>>,
    /// The numbers in the cells: error, loss, barrier, train-barrier, loss-barrier, remaining or seconds
    #[arg(long, value_parser = word::<Measure>)]
    value: Option<Measure>,
    /// What is said of them: mean, mean±std (or mean-std), mean±ci (or mean-ci), median, median(range) or max
    #[arg(long, value_parser = show)]
    show: Option<Show>,
    /// How confidence intervals are found: t or bootstrap
    #[arg(long, value_parser = word::<IntervalMethod>)]
    interval: Option<IntervalMethod>,
    /// Of the intervals, between 0 and 1
    #[arg(long, value_parser = confidence)]
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

/// What a report is about: runs, and where to look for them.
pub struct Subject {
    pub plan: Plan,
    pub stores: Vec<Store>,
    pub layout: Layout,
    /// Where its files go unless somebody says otherwise.
    pub directory: PathBuf,
    /// What was wrong with stores before any run was looked at.
    troubles: Troubles,
}

impl Subject {
    /// A sweep file with any number of stores, or stores alone.
    pub fn open(common: &Common, of: &[PathBuf]) -> Result<Subject, Failure> {
        let (folders, files): (Vec<&PathBuf>, Vec<&PathBuf>) = of.iter().partition(|path| path.is_dir());
        let named = distinct_stores(&folders)?;
        match files[..] {
            [] => Subject::of_stores(named),
            [sweep] => {
                let sweep = sweep::read(sweep)?;
                let plan = build(&sweep);
                let own = Store::open(&common.store)?;
                let directory = own.root().join("reports").join(&plan.name);
                let mut stores = named;
                if !stores.iter().any(|store| identity(store.root()) == identity(own.root())) {
                    stores.push(own);
                }
                Ok(Subject { plan, stores, layout: sweep.layout, directory, troubles: Troubles::default() })
            }
            [one, other, ..] => Err(Failure::Usage(
                format!("{} and {} are both no folders", one.display(), other.display()),
                "give one sweep file, and the folders of stores".to_string(),
            )),
        }
    }

    fn of_stores(stores: Vec<Store>) -> Result<Subject, Failure> {
        let name_of = |store: &Store| {
            let path = std::path::absolute(store.root()).unwrap_or_else(|_| store.root().to_path_buf());
            path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned())
        };
        let name = name_from(&stores.iter().map(name_of).collect::<Vec<_>>().join("+"));
        let (plan, damaged) = found::plan(&name, &stores)?;
        let directory = stores[0].root().join("reports").join(&name);
        let troubles = Troubles { damaged, ..Troubles::default() };
        Ok(Subject { plan, stores, layout: Layout::default(), directory, troubles })
    }

    /// The same, without the table that its sweep file asks for.
    pub fn without_table(self) -> Subject {
        Subject { layout: Layout::default(), ..self }
    }

    /// What the stores have of each run now, and what must be said about it.
    pub fn look(&self) -> Result<(Vec<Found>, Vec<Notice>), Failure> {
        let (found, mut troubles) = stores::look_up(&self.plan.runs, &self.stores)?;
        troubles.damaged.extend(self.troubles.damaged.iter().cloned());
        Ok((found, notices(&troubles)))
    }

    /// The report of what was found; these options go before those of the sweep file.
    pub fn report(&self, findings: &[Finding], notices: Vec<Notice>, layout: Layout) -> Result<Report, Failure> {
        let layout = layout.or(&self.layout);
        let usual = Estimate::default();
        let estimate = Estimate {
            method: layout.interval.unwrap_or(usual.method),
            level: layout.confidence.unwrap_or(usual.level),
        };
        let mut report = gather_with(&self.plan.name, findings, estimate);
        report.notices.splice(..0, notices);
        if layout.has_table() {
            report.pivot = Some(pivot(&report, &layout, estimate)?);
        }
        Ok(report)
    }
}

/// As a report takes them, without what is read for a page alone.
pub fn findings<'a>(planned: &'a [PlannedRun], found: Vec<Found>) -> Vec<Finding<'a>> {
    let finding = |(planned, found): (&'a PlannedRun, Found)| Finding {
        planned,
        state: found.standing.state,
        curve: None,
        log_end: None,
        store: (found.standing.state != RunState::Pending || found.standing.attempts > 0).then_some(found.store),
        result: found.standing.result,
        note: found.standing.note,
    };
    planned.iter().zip(found).map(finding).collect()
}

pub fn command(common: &Common, arguments: &Arguments) -> Result<u8, Failure> {
    let subject = Subject::open(common, &arguments.of)?;
    let (found, notices) = subject.look()?;
    let findings = findings(&subject.plan.runs, found);
    let report = subject.report(&findings, notices, arguments.table.layout())?;
    let directory = arguments.out.as_ref().unwrap_or(&subject.directory);
    if common.json {
        if arguments.out.is_some() {
            report::write(&report, &findings, directory)?;
        }
        return output::text(&json::render(&report));
    }
    // The table first: it is of use even where the files cannot be written.
    output::text(&terminal::render(&report, colors(&std::io::stdout())))?;
    let written = report::write(&report, &findings, directory)?;
    let names: String = written.iter().map(|path| format!("\n  {}", path.display())).collect();
    output::text(&format!("\nwritten:{names}\n"))
}

/// Stores to read from, each once.
fn distinct_stores(folders: &[&PathBuf]) -> Result<Vec<Store>, Failure> {
    let mut stores: Vec<Store> = vec![];
    for path in folders {
        if !path.join("runs").is_dir() {
            let message = format!("{} is not a store: it has no folder `runs`", path.display());
            let help = "give a sweep file, or the folders that `winsign run --store` was given";
            return Err(Failure::Usage(message, help.to_string()));
        }
        if !stores.iter().any(|store| identity(store.root()) == identity(path)) {
            stores.push(Store::open(path)?);
        }
    }
    Ok(stores)
}

/// Device and number of a directory, by whatever path; the path itself where there is none.
fn identity(path: &Path) -> Result<(u64, u64), PathBuf> {
    path.metadata().map(|found| (found.dev(), found.ino())).map_err(|_| path.to_path_buf())
}

fn notices(troubles: &Troubles) -> Vec<Notice> {
    let runs = |count: usize| if count == 1 { "1 run".to_string() } else { format!("{count} runs") };
    let mut notices = Vec::new();
    if let Some((id, used, other)) = troubles.conflicts.first() {
        let mut ids: Vec<RunId> = troubles.conflicts.iter().map(|(id, ..)| id.clone()).collect();
        ids.dedup();
        let message = format!(
            "{} with different results in several stores: those of the store that is named first are used, and nothing is \
             averaged; such as {id} in {} (used) and {}",
            runs(ids.len()),
            used.display(),
            other.display()
        );
        notices.push(Notice { message, runs: ids });
    }
    if let Some((_, reason)) = troubles.damaged.first() {
        let message =
            format!("{} with damaged files, which no number is taken from: {reason}", runs(troubles.damaged.len()));
        notices.push(Notice { message, runs: troubles.damaged.iter().map(|(id, _)| id.clone()).collect() });
    }
    if !troubles.vanished.is_empty() {
        let count = runs(troubles.vanished.len());
        let message = format!("{count} taken away while being read; left out, call the report again");
        notices.push(Notice { message, runs: troubles.vanished.clone() });
    }
    notices
}

/// A word that an option may have.
fn word<T: FromStr + VariantNames>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| unknown(text, T::VARIANTS))
}

/// Keyboards have no ±.
fn show(text: &str) -> Result<Show, String> {
    match text {
        "mean-std" => Ok(Show::MeanStd),
        "mean-ci" => Ok(Show::MeanCi),
        "median-range" => Ok(Show::MedianRange),
        _ => word(text),
    }
}

fn unknown(text: &str, known: &[&str]) -> String {
    let all = listed(known.iter().copied());
    match nearest(text, known.iter().copied()) {
        Some(near) => format!("{} is none of {all}: did you mean `{near}`?", quoted(text)),
        None => format!("{} is none of {all}", quoted(text)),
    }
}

pub fn confidence(text: &str) -> Result<f64, String> {
    let given = text.parse().ok().filter(|number| *number > 0.0 && *number < 1.0);
    given.ok_or_else(|| format!("{} is no number between 0 and 1, such as 0.95", quoted(text)))
}
