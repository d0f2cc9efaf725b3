//! The report on the terminal.

use comfy_table::{Cell, CellAlignment, LineStyle, TableStyle};
use winsign_core::text::printable;

use super::table::{Column, MISSING, Table};
use super::{FailedRun, Report, paths, tables};

/// The number of failures shown: more would fill the screen.
const FAILED_SHOWN: usize = 10;

/// One line under the header is all that a table needs.
pub const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// The number of statements shown; the others are in the files.
const STATEMENTS_SHOWN: usize = 12;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";

/// Lines for people. Tables are as wide as they need: 100 columns are enough for all but the columns of axes.
pub fn render(report: &Report, colors: bool) -> String {
    let paint = |code: &str, text: &str| painted(colors, code, text);
    let mut out = format!("{}: {}\n", paint(BOLD, &printable(&report.name)), report.runs.progress());

    let tables = match &report.pivot {
        // The files have all tables.
        Some(pivot) => vec![pivot.table()],
        None if report.transfers.is_empty() => vec![tables::tickets(report), tables::connections(report)],
        None => vec![tables::transfers(report), tables::connections(report)],
    };
    let tables: Vec<Table> = tables.iter().filter_map(Table::brief).collect();
    for table in &tables {
        out += &format!("\n{}\n", lay_out(table, colors));
    }
    if !tables.is_empty() {
        out += &format!("\n{}\n", paint(DIM, units(report).trim_end()));
    }
    if !report.statements.is_empty() {
        out += &format!("\n{}", list(&report.statements, STATEMENTS_SHOWN, |text| printable(text)));
        if report.statements.len() > STATEMENTS_SHOWN {
            out += &format!("and {} more, in report.md\n", report.statements.len() - STATEMENTS_SHOWN);
        }
    }
    for notice in &report.notices {
        out += &format!("\n{} {}\n", paint(BOLD, "note:"), printable(&notice.message));
    }
    if !report.failed.is_empty() {
        let failure = |failed: &FailedRun| format!("  {}  {}", failed.id, printable(&failed.describe()));
        out += &format!("\n{}\n", paint(RED, &format!("{} failed:", report.failed.len())));
        out += &list(&report.failed, FAILED_SHOWN, failure);
        if report.failed.len() > FAILED_SHOWN {
            out += &format!("  and {} more\n", report.failed.len() - FAILED_SHOWN);
        }
    }
    out
}

/// Returns the units of the numbers, and notes on their meaning.
fn units(report: &Report) -> String {
    match &report.pivot {
        Some(pivot) => format!("In the cells: {}. {}", pivot.caption(), printable(&pivot.note())),
        None => {
            let alignment = paths::alignment_note(&report.connections).unwrap_or_default();
            let notes = [tables::note_of_single_tickets(report), &alignment];
            format!("Errors in percent, barriers in percentage points. {}", notes.join(" ").trim())
        }
    }
}

/// Returns at most `most` items, one a line.
fn list<T>(items: &[T], most: usize, line: impl Fn(&T) -> String) -> String {
    items.iter().take(most).map(|item| line(item) + "\n").collect()
}

fn painted(colors: bool, code: &str, text: &str) -> String {
    if colors { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
}

/// Lays a table out as text.
pub fn lay_out(table: &Table, colors: bool) -> String {
    let paint = |code: &str, text: &str| painted(colors, code, text);
    let mut layout = comfy_table::Table::new();
    layout.load_style(STYLE);
    layout.set_header(table.columns.iter().map(|column| {
        let title: Vec<String> = column.heading().lines().map(|line| paint(BOLD, &printable(line))).collect();
        Cell::new(title.join("\n"))
    }));
    let texts: Vec<Vec<String>> = table.columns.iter().map(aligned).collect();
    for row in 0..table.rows.len() {
        layout.add_row(table.columns.iter().zip(&texts).map(|(column, texts)| {
            let cell = printable(&texts[row]);
            Cell::new(match cell.trim() == MISSING {
                true => paint(DIM, &cell),
                false if column.best.contains(&row) => paint(BOLD, &cell),
                false => cell,
            })
        }));
    }
    let last = table.columns.len() - 1;
    for (index, (column, laid_out)) in table.columns.iter().zip(layout.column_iter_mut()).enumerate() {
        // Beside the space that the layout puts between columns.
        laid_out.set_padding((0, u16::from(index != last)));
        laid_out.set_cell_alignment(if column.is_numeric() { CellAlignment::Right } else { CellAlignment::Left });
    }
    layout.trim_fmt()
}

/// Returns the cells of a column, padded so that numbers followed by something (a deviation, a unit) line up when the column
/// is aligned to the right.
fn aligned(column: &Column) -> Vec<String> {
    let cells = (0..column.cells.len()).map(|row| column.text(row));
    if !column.is_numeric() {
        return cells.collect();
    }
    let cells: Vec<String> = cells.collect();
    let tail = |cell: &str| cell.find(' ').map_or(0, |start| cell[start..].chars().count());
    let longest = cells.iter().map(|cell| tail(cell)).max().unwrap_or(0);
    cells.iter().map(|cell| format!("{cell}{:1$}", "", longest - tail(cell))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_core::settings::{Inherit, Kind, Method, Seeds};
    use winsign_sweep::plan::{PlannedRun, RunState};
    use winsign_testkit::study::Study;

    fn assert_text(actual: &str, expected: &str) {
        assert_eq!(actual, expected, "\n{actual}");
    }

    #[test]
    fn finished_study_is_shown() {
        assert_text(&render(&Study::digits().report(), false), FINISHED);
    }

    const FINISHED: &str = "\
digits: all 76 runs done

method  level  remaining  transferred  tickets  seeds  test error %        barrier
                                                         mean ± std  between seeds
                                                                        mean (max)
──────────────────────────────────────────────────────────────────────────────────
LRR        12      6.9 %  sign               1      3     6.3 ± 1.3     0.6 (0.8)
LRR        12      6.9 %  mask               1      3    11.7 ± 2.0    61.0 (81.3)
LRR        12      6.9 %  sign+norm          1      3     7.0 ± 0.8     1.3 (1.7)
LRR        12      6.9 %  retrain            1      3     4.1 ± 0.3     0.2 (0.3)
AWS        12      6.9 %  sign               1      3     2.2 ± 0.8     1.0 (1.3)
AWS        12      6.9 %  mask               1      3    10.8 ± 3.5    64.0 (85.3)
AWS        12      6.9 %  sign+norm          1      3     3.0 ± 0.7     1.3 (1.7)
AWS        12      6.9 %  retrain            1      3     1.6 ± 0.1     0.4 (0.5)

method  level  remaining  between    tickets  paths  barrier  error added by ψ₀
───────────────────────────────────────────────────────────────────────────────
LRR        12      6.9 %  norm-init        1      1      3.3                2.4
AWS        12      6.9 %  norm-init        1      1      0.0                2.4

Errors in percent, barriers in percentage points. With one ticket, ± is the deviation between its networks, and there is no interval: it says nothing of other tickets of the method.

21 differences are of one ticket: no interval, so nothing is claimed; several seeds of the ticket give one, as in `ticket: {seed: 1..5}`
";

    #[test]
    fn partial_study_lists_failures() {
        let mut study = Study::digits();
        let mut unfinish = |now, method, inherit, which: fn(&[Seeds]) -> bool| {
            study.unfinish(now, |PlannedRun { label, .. }| {
                label.method == Some(method) && label.inherit == Some(inherit) && which(&label.seeds)
            });
        };
        unfinish(RunState::Failed, Method::Lrr, Inherit::Sign, |seeds| seeds == [Seeds::from(3)]);
        unfinish(RunState::Blocked, Method::Lrr, Inherit::Sign, |seeds| seeds.len() == 2);
        unfinish(RunState::Running, Method::Aws, Inherit::Mask, |seeds| seeds == [2, 4].map(Seeds::from));
        unfinish(RunState::Pending, Method::Aws, Inherit::Retrain, |_| true);
        assert_text(&render(&study.report(), false), PARTIAL);
    }

    const PARTIAL: &str = "\
digits: 65 of 76 runs done, 1 running, 1 failed, 3 blocked by failures, 6 pending

method  level  remaining  transferred  tickets  seeds  test error %          barrier
                                                         mean ± std    between seeds
                                                                          mean (max)
────────────────────────────────────────────────────────────────────────────────────
LRR        12      6.9 %  sign               1    2/3     6.3 ± 1.8     –
LRR        12      6.9 %  mask               1      3    11.7 ± 2.0  61.0 (81.3)
LRR        12      6.9 %  sign+norm          1      3     7.0 ± 0.8   1.3 (1.7)
LRR        12      6.9 %  retrain            1      3     4.1 ± 0.3   0.2 (0.3)
AWS        12      6.9 %  sign               1      3     2.2 ± 0.8   1.0 (1.3)
AWS        12      6.9 %  mask               1      3    10.8 ± 3.5  64.0 (85.3) 2/3
AWS        12      6.9 %  sign+norm          1      3     3.0 ± 0.7   1.3 (1.7)
AWS        12      6.9 %  retrain          0/1    0/3       –           –

method  level  remaining  between    tickets  paths  barrier  error added by ψ₀
───────────────────────────────────────────────────────────────────────────────
LRR        12      6.9 %  norm-init        1      1      3.3                2.4
AWS        12      6.9 %  norm-init        1      1      0.0                2.4

Errors in percent, barriers in percentage points. With one ticket, ± is the deviation between its networks, and there is no interval: it says nothing of other tickets of the method.

13 differences are of one ticket: no interval, so nothing is claimed; several seeds of the ticket give one, as in `ticket: {seed: 1..5}`

1 failed:
  daa7f1ebba6bbdf0  lrr level 12, sign, seed 3: the loss became NaN
";

    #[test]
    fn study_of_tickets_shows_tickets() {
        let mut study = Study::digits();
        study.runs.retain(|(planned, ..)| planned.run.kind() == Kind::Ticket && planned.label.level <= 1);
        assert_text(&render(&study.report(), false), TICKETS);
    }

    const TICKETS: &str = "\
digits: all 4 runs done

method  level  remaining  test error %
──────────────────────────────────────
LRR         0    100.0 %           3.0
LRR         1     80.0 %           3.1
AWS         0    100.0 %           3.0
AWS         1     80.0 %           3.1

Errors in percent, barriers in percentage points.

1 difference is of one ticket: no interval, so nothing is claimed; several seeds of the ticket give one, as in `ticket: {seed: 1..5}`
";

    #[test]
    fn fits_100_columns_with_a_short_axis_or_with_intervals() {
        let axes = vec![("lr".to_string(), "0.05".to_string())];
        let with_axis = Study::new(&[12], &[2, 3], &[axes]).report();
        let with_intervals = Study::with_tickets(&[1, 2, 3], &[2, 3]).report();
        for report in [with_axis, with_intervals] {
            let text = render(&report, false);
            let mut table = text.lines().take_while(|line| !line.starts_with("Errors"));
            assert!(table.all(|line| line.chars().count() <= 100), "{text}");
        }
    }

    #[test]
    fn failures_are_listed_but_do_not_fill_the_screen() {
        let mut study = Study::digits();
        study.unfinish(RunState::Failed, |planned| planned.run.kind() == Kind::Transfer);
        let text = render(&study.report(), false);
        assert!(text.contains("\n24 failed:\n"), "{text}");
        assert_eq!(text.lines().filter(|line| line.contains("  lrr level 12, ")).count(), 10);
        assert!(text.ends_with("\n  and 14 more\n"));
    }

    #[test]
    fn colors_change_nothing_but_colors() {
        let report = Study::digits().report();
        let colored = render(&report, true);
        assert!(colored.contains("\x1b[1mmethod\x1b[0m"));
        let mut plain = colored;
        for code in [BOLD, DIM, RED, "0"] {
            plain = plain.replace(&format!("\x1b[{code}m"), "");
        }
        assert_text(&plain, FINISHED);
    }

    #[test]
    fn names_cannot_command_the_terminal() {
        let mut report = Study::digits().report();
        report.name = "evil\x1b[2J".to_string();
        report.transfers[0].axes = vec![("a\x07".to_string(), "b\x1b[2J".to_string())];
        assert!(!render(&report, false).contains(|c: char| c.is_control() && c != '\n'));
    }
}
