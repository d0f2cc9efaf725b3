//! `report.md`: the report for a repository or a page, with the plots beside it.

use std::fmt::Write;

use super::Report;
use super::plots::Plot;
use super::table::{Column, Table};
use super::tables::{self, Listed, Section};
use crate::export::{Exported, ExportedFile, Exporter};

const NUMBERS: &str = "\
## How the numbers are defined

- **remaining**: surviving prunable weights over all prunable weights (convolutions and linear layers except the
  classifier).
- **tickets**, **seeds**, **paths**: how many are finished, and make the numbers of the row; 2/3 where three are planned.
- **test error**: of the whole test set, in percent, after the last epoch. The ticket is the sample: transfers of one ticket
  are averaged first, then mean, sample standard deviation (divided by n − 1) and confidence interval are those of the means
  of n tickets. With one ticket the deviation is that between its transfers, and there is no interval. Dense networks
  inherit from no ticket; each of them is a sample.
- **barrier**: the largest test error on the straight path between two networks, minus the mean of the errors at its two
  ends, in percentage points. Paths of one ticket are averaged first; beside the mean over tickets is the interval or, in
  parentheses where there is none, the largest.
- **between seeds**: between networks that differ in nothing but the seeds of the transfer. **retrain**: between a transfer
  and its ticket trained on. **levels**: between a ticket and the one of the level before it. **tickets**: between tickets
  of one level. **norm-init**: between a ticket and itself with its norm parameters at their initialization.
- BatchNorm statistics are re-estimated with training images at every point of a path, and before a ticket is evaluated;
  errors of transfers are with those gathered in training. So the ends of a path may differ from the errors of its
  transfers.
";

/// `report.md`: tables, captions and notices.
pub struct Markdown;

impl Exporter for Markdown {
    fn names(&self) -> &'static [&'static str] {
        &["report.md"]
    }

    fn files(&self, study: &Exported) -> Vec<ExportedFile> {
        vec![("report.md", render(study.report, study.plots).into_bytes())]
    }
}

/// The plots lie beside the page.
pub fn render(report: &Report, plots: &[Plot]) -> String {
    let mut out = format!("# {}\n\n{}.\n", escape(&report.name), capitalized(&report.runs.progress()));
    for (title, runs) in [("Failed", &report.failed), ("Blocked", &report.blocked)] {
        if !runs.is_empty() {
            write!(out, "\n{title}:\n\n").expect("writing to memory");
        }
        for run in runs {
            writeln!(out, "- `{}` {}", run.id, escape(&run.describe())).expect("writing to memory");
        }
    }
    if !report.statements.is_empty() {
        out.push_str("\nDifferences:\n\n");
    }
    for statement in &report.statements {
        writeln!(out, "- {}", escape(statement)).expect("writing to memory");
    }
    if !report.notices.is_empty() {
        out.push_str("\nWarnings:\n\n");
    }
    for notice in &report.notices {
        writeln!(out, "- {}", escape(&notice.message)).expect("writing to memory");
    }
    let tables: Vec<_> = tables::all(report).collect();
    sections(&mut out, &tables, Section::BeforeFigures);
    for plot in plots {
        let Plot { title, file, caption, .. } = plot;
        write!(out, "\n## {title}\n\n![{title}]({file})\n\n{}\n", escape(caption)).expect("writing to memory");
    }
    sections(&mut out, &tables, Section::BehindFigures);
    let in_csv: Vec<&str> = tables.iter().filter(|(listed, _)| listed.in_csv).map(|(_, table)| table.title).collect();
    write!(
        out,
        "\n{NUMBERS}\n`report.csv` has the rows of these tables: {} (`n` of `planned` runs finished). `report.json` also has \
         every seed and path.\n",
        in_csv.join(", ")
    )
    .expect("writing to memory");
    out
}

fn sections(out: &mut String, tables: &[(&Listed, Table)], place: Section) {
    let here = tables.iter().filter(|(listed, _)| listed.in_markdown == Some(place));
    here.for_each(|(_, table)| section(out, table));
}

fn section(out: &mut String, table: &Table) {
    let Some(table) = table.brief() else { return };
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let columns = table.columns.iter();
    write!(out, "\n## {}\n\n", table.title).expect("writing to memory");
    out.push_str(&line(columns.clone().map(|column| escape(&column.heading())).collect()));
    out.push_str(&line(
        columns.clone().map(|column| if column.is_numeric() { "---:" } else { "---" }.to_string()).collect(),
    ));
    for row in 0..table.rows.len() {
        let cell = |column: &Column| match column.best.contains(&row) {
            true => format!("**{}**", escape(&column.text(row))),
            false => escape(&column.text(row)),
        };
        out.push_str(&line(columns.clone().map(cell).collect()));
    }
    writeln!(out, "\n{}", escape(&table.note)).expect("writing to memory");
}

/// Escapes text so that Markdown shows it as it is, on one line.
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
    use super::super::pivot::pivot;
    use super::super::statistics::Estimate;
    use super::super::{FigureChrome, Notice, plots, terminal};
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_core::settings::{Inherit, Method, Seeds};
    use winsign_sweep::Layout;
    use winsign_sweep::plan::RunState;
    use winsign_testkit::study::{Study, ticket_of};

    #[test]
    fn page_has_tables_and_figures() {
        let study = Study::digits();
        let report = study.report();
        let page = render(&report, &plots::draw(&report, &study.records(), FigureChrome::Full));
        assert!(page.starts_with("# digits\n\nAll 76 runs done.\n"), "{page}");
        for line in [
            "| method | level | remaining | transferred | tickets | seeds | test error % mean ± std | barrier between seeds mean (max) |",
            "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
            "| LRR | 12 | 6.9 % | sign | 1 | 3 | 6.3 ± 1.3 | 0.6 (0.8) |",
            "| AWS | 12 | 6.9 % | norm-init | 1 | 1 | 0.0 | 2.4 |",
            "![Test error by what was transferred](transfer-error.svg)",
            "![Error on the path between networks](interpolation.svg)",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n\n{page}");
        }
    }

    #[test]
    fn best_values_are_bold_and_differences_are_stated() {
        let study = Study::with_tickets(&[1, 2, 3], &[2, 3]).with_errors(|label| {
            let ticket = ticket_of(label) as f64;
            match (label.method, label.inherit) {
                (Some(Method::Aws), Some(Inherit::Sign)) => ticket,
                _ => 11.0 + 1.1 * ticket,
            }
        });
        let page = render(&study.report(), &[]);
        assert!(page.contains("| AWS | 12 | 6.9 % | sign | 3 | 6 | **2.0 ± 1.0 \\[−0.5, 4.5\\]** |"), "{page}");
        assert_eq!(page.matches("**2.").count() + page.matches("**1").count(), 1, "{page}");
        // 11 + 0.1 · (1, 2, 3): 11.2 ± 4.3027 · 0.1 / √3.
        let expected =
            "- test error: sign is 11.2 points lower than mask (95 % interval 11.0 to 11.4, 3 tickets, AWS)\n";
        assert!(page.contains(expected), "{page}");
    }

    #[test]
    fn page_of_a_partial_study_lists_failures() {
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
    fn page_has_custom_table_notes_and_warnings() {
        let axes = vec![("a<b>|\x1b[2J".to_string(), "x_y*\n# z".to_string())];
        let mut report = Study::new(&[12], &[2, 3], &[axes]).report();
        let layout = Layout { columns: Some(vec!["a<b>|\x1b[2J".to_string()]), ..Layout::default() };
        report.pivot = Some(pivot(&report, &layout, Estimate::default()).unwrap());
        report.notices.push(Notice { message: "1 run <i>and</i>\nmore".to_string(), runs: vec![] });
        let page = render(&report, &[]);
        assert!(page.contains("\n- 1 run \\<i\\>and\\</i\\> more\n"), "{page}");
        assert!(page.contains("| method | transferred | a\\<b\\>\\| \\[2J x\\_y\\* \\# z |\n"), "{page}");
        assert!(page.contains("Each value of method has its own rows, so that no cell mixes them."));
        assert!(page.contains("\n## Differences\n"));
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
