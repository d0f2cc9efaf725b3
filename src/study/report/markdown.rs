//! `report.md`: the report for a repository or a page, with the plots beside it.

use std::fmt::Write;

use super::plots::Plot;
use super::statistics::percent;
use super::tables::{self, Table};
use super::{Interval, Report};

const NUMBERS: &str = "\
## How the numbers are defined

- **remaining**: surviving prunable weights over all prunable weights (convolutions and linear layers except the
  classifier).
- **seeds**, **paths**: how many are finished, and make the numbers of the row; 2/3 where three are planned.
- **test error**: of the whole test set, in percent, after the last epoch. Over n seeds it is given as mean ± sample
  standard deviation (divided by n − 1); a single seed has no deviation.
- **barrier**: the largest test error on the straight path between two networks, minus the mean of the errors at its two
  ends, in percentage points. Over several pairs: the mean, and in parentheses the largest.
- **between seeds**: between networks that differ in nothing but the seeds of the transfer. **retrain**: between a transfer
  and its ticket trained on. **levels**: between a ticket and the one of the level before it. **tickets**: between tickets
  of one level. **norm-init**: between a ticket and itself with its norm parameters at their initialization.
- **difference**: of the test errors of runs with the same seeds, mean over the pairs, in percentage points; with the
  confidence interval of the mean, and p of the paired t-test. Where there are several tickets, each counts once.
- **spread**: the standard deviation of the test error within groups of runs that differ in one source of chance alone,
  pooled over the groups.
- BatchNorm statistics are re-estimated with training images at every point of a path, and before a ticket is evaluated;
  errors of transfers are with those gathered in training. So the ends of a path may differ from the errors of its
  transfers.
";

const OTHER_FILES: &str = "
`report.csv` has the rows of tickets, transfers and connections (`n` of `planned` runs finished), `report.json` also every seed and path.
";

/// The plots lie beside the page.
pub fn render(report: &Report, plots: &[Plot]) -> String {
    let mut out = format!("# {}\n\n{}.\n", escape(&report.name), capitalized(&report.runs.progress()));
    for (title, runs) in [("Failed", &report.failed), ("Blocked", &report.blocked)] {
        if !runs.is_empty() {
            write!(out, "\n{title}:\n\n").expect("writing to memory");
        }
        for run in runs {
            writeln!(out, "- `{}` {}", run.id, escape(&run.told())).expect("writing to memory");
        }
    }
    if !report.notices.is_empty() {
        out.push_str("\nTo be known before a number is trusted:\n\n");
    }
    for notice in &report.notices {
        writeln!(out, "- {}", escape(&notice.message)).expect("writing to memory");
    }
    if let Some(pivot) = &report.pivot {
        section(&mut out, "As chosen", Some(pivot.table()));
        let lines = [capitalized(&pivot.caption()) + ".", pivot.note()];
        writeln!(out, "\n{}", escape(lines.join(" ").trim_end())).expect("writing to memory");
    }
    section(&mut out, "What was transferred", tables::transfers(report));
    section(&mut out, "Other connections", tables::other_connections(report));
    for plot in plots {
        let Plot { title, file, caption, .. } = plot;
        write!(out, "\n## {title}\n\n![{title}]({file})\n\n{}\n", escape(caption)).expect("writing to memory");
    }
    section(&mut out, "Differences over the same seeds", tables::differences(report));
    section(&mut out, "Spread by source of chance", tables::spreads(report));
    section(&mut out, "Tickets", tables::tickets(report));
    write!(out, "\n{NUMBERS}").expect("writing to memory");
    let intervals = || report.differences.iter().filter_map(|row| row.summary.interval);
    if let (Some(first), Some(ways)) = (intervals().next(), Interval::all_told(intervals())) {
        let level = percent(first.level);
        let interval =
            format!("- **interval**: {level} % confidence interval of the mean, by {ways}; **p** is not corrected");
        writeln!(out, "{interval} for how many there are.").expect("writing to memory");
    }
    out.push_str(OTHER_FILES);
    out
}

fn section(out: &mut String, title: &str, table: Option<Table>) {
    let Some(Table { columns, rows, .. }) = table else { return };
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    write!(out, "\n## {title}\n\n").expect("writing to memory");
    out.push_str(&line(columns.iter().map(|column| escape(&column.title)).collect()));
    out.push_str(&line(columns.iter().map(|column| if column.numeric { "---:" } else { "---" }.to_string()).collect()));
    for row in rows {
        out.push_str(&line(row.iter().map(|cell| escape(cell)).collect()));
    }
}

/// Text that Markdown shows as it is, on one line: every sign with a meaning gets a backslash.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            escaped.push(' ');
            continue;
        }
        if "\\`*_{}[]<>#|~&$!@".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

pub fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().into_iter().flat_map(char::to_uppercase).chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Study;
    use super::super::pivot::pivot;
    use super::super::statistics::Estimate;
    use super::super::{Dress, Notice, plots, terminal};
    use super::*;
    use crate::run::settings::Seeds;
    use crate::study::plan::RunState;
    use crate::study::sweep::Layout;

    #[test]
    fn a_page() {
        let study = Study::digits();
        let report = study.report();
        let page = render(&report, &plots::draw(&report, &study.findings(), Dress::Full));
        assert!(page.starts_with("# digits\n\nAll 76 runs done.\n"), "{page}");
        for line in [
            "| ticket | level | remaining | transferred | seeds | test error % mean ± std | barrier between seeds mean (max) |",
            "| --- | ---: | ---: | --- | ---: | ---: | ---: |",
            "| LRR | 12 | 6.9 % | sign | 3 | 6.3 ± 1.3 | 0.6 (0.8) |",
            "| AWS | 12 | 6.9 % | norm-init | 1 | 0.0 |",
            "![Test error by what was transferred](transfer-error.svg)",
            "![Error on the path between networks](interpolation.svg)",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n\n{page}");
        }
    }

    #[test]
    fn a_partial_page_names_what_failed() {
        let mut study = Study::digits();
        study.unfinish(RunState::Failed, |planned| planned.label.seeds == [Seeds::from(3)]);
        let report = study.report();
        let page = render(&report, &[]);
        assert!(page.contains("\n68 of 76 runs done, 8 failed.\n"), "{page}");
        let first = &report.failed[0];
        assert!(
            page.contains(&format!(
                "\nFailed:\n\n- `{}` lrr level 12, sign, seed 3: the loss became NaN\n- `",
                first.id
            )),
            "{page}"
        );
        assert!(page.contains("| 2/3 |"));
        assert!(!page.contains("svg"));
    }

    #[test]
    fn the_chosen_table_its_notes_and_what_must_be_known() {
        let axes = vec![("a<b>|\x1b[2J".to_string(), "x_y*\n# z".to_string())];
        let mut report = Study::new(&[12], &[2, 3], &[axes]).report();
        let layout = Layout { columns: Some(vec!["a<b>|\x1b[2J".to_string()]), ..Layout::default() };
        report.pivot = Some(pivot(&report, &layout, Estimate::default()).unwrap());
        report.notices.push(Notice { message: "1 run <i>and</i>\nmore".to_string(), runs: vec![] });
        let page = render(&report, &[]);
        assert!(page.contains("\n- 1 run \\<i\\>and\\</i\\> more\n"), "{page}");
        assert!(page.contains("| ticket | transferred | a\\<b\\>\\| \\[2J x\\_y\\* \\# z |\n"), "{page}");
        assert!(page.contains("Rows are told apart by method too"));
        assert!(page.contains("\n## Differences over the same seeds\n"));
        assert!(!page.contains(|c: char| c.is_control() && c != '\n'));
        let shown = terminal::render(&report, false);
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown}");
    }

    #[test]
    fn text_of_users_is_only_text() {
        assert_eq!(escape("a|b *c* <d> `e`\n# [f](g)"), "a\\|b \\*c\\* \\<d\\> \\`e\\` \\# \\[f\\](g)");
        assert_eq!(escape("back\\slash_"), "back\\\\slash\\_");
        let axes = vec![("x|y".to_string(), "1|2\n| 3 |".to_string())];
        let mut report = Study::new(&[12], &[2, 3], &[axes]).report();
        report.name = "<script>".to_string();
        let page = render(&report, &[]);
        assert!(page.starts_with("# \\<script\\>\n"));
        let lines: Vec<&str> = page.lines().filter(|line| line.starts_with("| LRR | 12 |")).collect();
        assert!(lines[0].contains("| 1\\|2 \\| 3 \\| |"), "{}", lines[0]);
    }
}
