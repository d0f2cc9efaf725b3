//! The LaTeX tables compile with pdflatex, whatever their labels contain.

use std::fs;
use std::path::Path;
use std::process::Command;

use winsign_core::Run;
use winsign_core::results::{
    ConnectOutcome, Outcome, PathOutcome, PathPoint, Processors, RunResult, TicketOutcome, TransferOutcome,
};
use winsign_core::settings::Settings;
use winsign_report::export::{Exported, write};
use winsign_report::pivot::pivot;
use winsign_report::statistics::Estimate;
use winsign_report::{RunRecord, gather};
use winsign_sweep::plan::RunState;
use winsign_sweep::plan::build::build;
use winsign_sweep::{Layout, Show};

const SWEEP: &str = "
dataset: digits
architecture: resnet8
ticket: {levels: 2, seed: 1..2}
transfer: {level: all, inherit: [sign, mask, sign+norm], seed_init: 2..3, seed_order: 2..3}
connect:
  - {between: [seeds, norm-init], points: 3}
";

/// Texts with characters that have a meaning in TeX, or that its fonts lack.
const HOSTILE: [&str; 8] = [
    r"\input{/etc/passwd} \end{tabular} \undefined",
    "50% & more $x_1^2$ #1 ~ {}}{",
    "[1ex] *[2em]",
    "ψ₀, α ± β → ∞ – — … °",
    "naïve Ångström ß Þórr Łódź 中文 🙂",
    "a\nb\tc\u{1b}[31m\u{0}",
    "<b>\"quoted\" 'single' `back` | -- --- ?` !`",
    "",
];

fn outcome(run: &Run, number: usize) -> Outcome {
    let test_error = 3.0 + (number * 7 % 11) as f64;
    match run.settings {
        Settings::Ticket(_) => Outcome::Ticket(TicketOutcome {
            remaining_ratio: 0.64,
            survivors: 64,
            prunable: 100,
            test_error,
            test_loss: 0.25,
            layers: vec![],
        }),
        Settings::Transfer(_) => {
            Outcome::Transfer(TransferOutcome { remaining_ratio: 0.64, test_error, test_loss: 0.25 })
        }
        _ => {
            let points = [0.0, 0.5, 1.0].map(|t| PathPoint { t, test_error, test_loss: 0.25, train: None }).to_vec();
            let path = PathOutcome { points, barrier: 1.0, similarity: None };
            Outcome::Connect(ConnectOutcome { remaining_ratio: 0.64, path })
        }
    }
}

fn pdflatex(folder: &Path, document: &str) -> (bool, String) {
    fs::write(folder.join("document.tex"), document).unwrap();
    let mut latex = Command::new("pdflatex");
    latex.args(["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "document.tex"]).current_dir(folder);
    let output = latex.output().unwrap_or_else(|error| panic!("pdflatex: {error}\n  help: run launch/packages latex"));
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn document(tables: &[String]) -> String {
    let inputs: String = tables.iter().map(|table| format!("\\noindent\\input{{{table}}}\\par\\bigskip\n")).collect();
    format!(
        "\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\usepackage[paperwidth=300cm,paperheight=300cm]{{geometry}}\n\
         \\begin{{document}}\n{inputs}\\end{{document}}\n"
    )
}

#[test]
fn tables_with_hostile_labels_compile() {
    let plan = build(&winsign_sweep::parse("study.yaml", SWEEP).unwrap());
    let mut planned = plan.runs;
    for (number, planned) in planned.iter_mut().enumerate() {
        // Runs of tickets with the same seed have the same label, so that rows still have several runs.
        let place = planned.label.axes.iter().position(|(name, _)| name == "ticket.seed");
        let which = place.map_or(number, |place| planned.label.axes[place].1.len()) % HOSTILE.len();
        let level = planned.label.level as usize;
        planned
            .label
            .axes
            .extend(HOSTILE.iter().map(|text| (text.to_string(), HOSTILE[(which + level) % 8].to_string())));
    }
    let records: Vec<RunRecord> = (planned.iter().enumerate())
        .map(|(number, planned)| RunRecord {
            planned,
            state: RunState::Done,
            result: Some(RunResult {
                format: 1,
                id: planned.run.id.clone(),
                attempt: 1,
                outcome: outcome(&planned.run, number),
                network: None,
                metrics: None,
                data: None,
                seconds: 1.0,
                host: "localhost".to_string(),
                processors: Processors { ranks: 1, threads: 1 },
                usage: None,
                finished: Default::default(),
            }),
            note: None,
            curve: None,
            log_end: None,
            store: None,
        })
        .collect();
    let mut report = gather("a study: 100 % ψ\n\\undefined", &records);
    let layout = Layout { show: Some(Show::MeanCi), ..Layout::default() };
    report.transfers[0].best = true;
    report.pivot = Some(pivot(&report, &layout, Estimate::default()).unwrap());

    let scratch = tempfile::tempdir().unwrap();
    let written =
        write(&Exported { report: &report, records: &records, page_plots: &[], plots: &[] }, scratch.path()).unwrap();
    let tables: Vec<String> = (written.iter())
        .filter(|path| path.extension().is_some_and(|extension| extension == "tex"))
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(tables.len(), 6, "{tables:?}");
    let transfers = fs::read_to_string(scratch.path().join("table-transfers.tex")).unwrap();
    assert!(transfers.contains("\\textbf{") && transfers.contains(" $\\pm$ "), "{transfers}");

    let (compiled, log) = pdflatex(scratch.path(), &document(&tables));
    assert!(compiled, "{log}");
    assert!(fs::read(scratch.path().join("document.pdf")).unwrap().starts_with(b"%PDF"));
    assert!(!log.contains("Missing character"), "{log}");
    assert!(!log.contains("Overfull"), "{log}");
}

/// This shows that the test above detects missing escapes.
#[test]
fn table_without_escapes_does_not_compile() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("bad.tex"), "\\begin{tabular}{l}\n\\toprule\n50 & 中 \\undefined\n\\end{tabular}\n")
        .unwrap();
    assert!(!pdflatex(scratch.path(), &document(&["bad.tex".to_string()])).0);
}
