//! `table-*.tex`: each table as a `tabular` of booktabs, to be read into a paper with `\input`. The best of each comparison
//! is bold.
//!
//! The text needs nothing but `\usepackage{booktabs}`, with pdflatex as with its successors.

use std::sync::LazyLock;

use super::Report;
use super::table::{Column, Table};
use super::tables::{self, Listed, TABLES};
use crate::export::{Exported, ExportedFile, Exporter};

static FILES: LazyLock<Vec<&str>> = LazyLock::new(|| TABLES.iter().filter_map(|listed| listed.latex_file).collect());

/// `table-*.tex`: each table of the report.
pub struct Latex;

impl Exporter for Latex {
    fn names(&self) -> &'static [&'static str] {
        &FILES
    }

    fn files(&self, study: &Exported) -> Vec<ExportedFile> {
        render(study.report).into_iter().map(|(file, text)| (file, text.into_bytes())).collect()
    }
}

/// Returns the tables of results, by the names of their files.
pub fn render(report: &Report) -> Vec<(&'static str, String)> {
    let file =
        |(listed, table): (&'static Listed, Table)| Some((listed.latex_file?, tabular(&report.name, &table.brief()?)));
    tables::all(report).filter_map(file).collect()
}

fn tabular(name: &str, table: &Table) -> String {
    let alignment: String = table.columns.iter().map(|column| if column.is_numeric() { 'r' } else { 'l' }).collect();
    let headings: Vec<String> = table.columns.iter().map(|column| column.heading()).collect();
    let titles: Vec<Vec<&str>> = headings.iter().map(|heading| heading.lines().collect()).collect();
    let height = titles.iter().map(Vec::len).max().unwrap_or(0);
    // A short title stands at the bottom, next to its column.
    let header = (0..height).map(|line| {
        let cell = |title: &Vec<&str>| {
            let text = (line + title.len()).checked_sub(height).and_then(|line| title.get(line));
            escape(text.unwrap_or(&""))
        };
        titles.iter().map(cell).collect()
    });
    let rows = (0..table.rows.len()).map(|row| {
        let cell = |column: &Column| match column.best.contains(&row) {
            true => format!("\\textbf{{{}}}", escape(&column.text(row))),
            false => escape(&column.text(row)),
        };
        table.columns.iter().map(cell).collect()
    });
    let line = |cells: Vec<String>| format!("  {} \\\\\n", cells.join(" & "));
    let plain: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!(
        "% {plain}: made by winsign report; needs \\usepackage{{booktabs}}\n\\begin{{tabular}}{{@{{}}{alignment}@{{}}}}\n  \
         \\toprule\n{}  \\midrule\n{}  \\bottomrule\n\\end{{tabular}}\n",
        header.map(line).collect::<String>(),
        rows.map(line).collect::<String>(),
    )
}

/// Escapes text so that LaTeX shows it as it is. Characters that no font of pdflatex has are written as their numbers.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut before = ' ';
    for character in text.chars() {
        match (before, character) {
            // Two of them would become one longer dash.
            ('-', '-') => escaped.push_str("{}-"),
            (_, character) if character.is_ascii_control() || character.is_control() => escaped.push(' '),
            (_, ' ' | '-' | '!'..='~') => match special(character) {
                Some(replacement) => escaped.push_str(replacement),
                None => escaped.push(character),
            },
            (_, character) => match symbol(character) {
                Some(replacement) => escaped.push_str(replacement),
                None if is_letter_of_pdflatex(character) => escaped.push(character),
                None => escaped.push_str(&format!("\\texttt{{U+{:04X}}}", u32::from(character))),
            },
        }
        before = character;
    }
    escaped
}

/// Signs of ASCII that mean something else, or would look like something else.
fn special(character: char) -> Option<&'static str> {
    Some(match character {
        '\\' => "\\textbackslash{}",
        '{' => "\\{",
        '}' => "\\}",
        '$' => "\\$",
        '&' => "\\&",
        '#' => "\\#",
        '_' => "\\_",
        '%' => "\\%",
        '~' => "\\textasciitilde{}",
        '^' => "\\textasciicircum{}",
        '<' => "\\textless{}",
        '>' => "\\textgreater{}",
        '|' => "\\textbar{}",
        '"' => "{''}",
        '\'' => "{'}",
        '`' => "{`}",
        // At the beginning of a line they would belong to the end of the one before.
        '[' => "{[}",
        ']' => "{]}",
        '*' => "{*}",
        _ => return None,
    })
}

/// Signs that mathematics has, and a few of text.
fn symbol(character: char) -> Option<&'static str> {
    Some(match character {
        '±' => "$\\pm$",
        '×' => "$\\times$",
        '·' => "$\\cdot$",
        '−' => "$-$",
        '≤' => "$\\leq$",
        '≥' => "$\\geq$",
        '≠' => "$\\neq$",
        '≈' => "$\\approx$",
        '∞' => "$\\infty$",
        '→' => "$\\to$",
        '–' => "--",
        '—' => "---",
        '…' => "\\dots{}",
        '°' => "$^\\circ$",
        '\u{a0}' => "~",
        'α' => "$\\alpha$",
        'β' => "$\\beta$",
        'γ' => "$\\gamma$",
        'δ' => "$\\delta$",
        'ε' => "$\\varepsilon$",
        'ζ' => "$\\zeta$",
        'η' => "$\\eta$",
        'θ' => "$\\theta$",
        'ι' => "$\\iota$",
        'κ' => "$\\kappa$",
        'λ' => "$\\lambda$",
        'μ' | 'µ' => "$\\mu$",
        'ν' => "$\\nu$",
        'ξ' => "$\\xi$",
        'π' => "$\\pi$",
        'ρ' => "$\\rho$",
        'σ' => "$\\sigma$",
        'τ' => "$\\tau$",
        'υ' => "$\\upsilon$",
        'φ' | 'ϕ' => "$\\phi$",
        'χ' => "$\\chi$",
        'ψ' => "$\\psi$",
        'ω' => "$\\omega$",
        'Γ' => "$\\Gamma$",
        'Δ' => "$\\Delta$",
        'Θ' => "$\\Theta$",
        'Λ' => "$\\Lambda$",
        'Ξ' => "$\\Xi$",
        'Π' => "$\\Pi$",
        'Σ' => "$\\Sigma$",
        'Φ' => "$\\Phi$",
        'Ψ' => "$\\Psi$",
        'Ω' => "$\\Omega$",
        '₀' => "$_0$",
        '₁' => "$_1$",
        '₂' => "$_2$",
        '₃' => "$_3$",
        '²' => "$^2$",
        '³' => "$^3$",
        _ => return None,
    })
}

/// Accented letters that pdflatex knows without a package: those of Latin-1 but the four of Old English.
fn is_letter_of_pdflatex(character: char) -> bool {
    ('À'..='ÿ').contains(&character) && !"ÐðÞþ×÷".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_testkit::study::Study;

    #[test]
    fn table_uses_booktabs() {
        let tables = render(&best_of_three_tickets());
        let names: Vec<&str> = tables.iter().map(|(file, _)| *file).collect();
        assert_eq!(
            names,
            [
                "table-transfers.tex",
                "table-connections.tex",
                "table-differences.tex",
                "table-spreads.tex",
                "table-tickets.tex"
            ]
        );
        let text = &tables[0].1;
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "\\begin{tabular}{@{}lrrlrrrr@{}}");
        assert_eq!(lines[2], "  \\toprule");
        assert_eq!(lines[3], "   &  &  &  &  &  &  & barrier \\\\");
        assert_eq!(
            lines[5],
            "  method & level & remaining & transferred & tickets & seeds & mean $\\pm$ std {[}95 \\%{]} & mean {[}95 \\%{]} \\\\"
        );
        assert_eq!(
            lines[7],
            "  LRR & 12 & 6.9 \\% & sign & 3 & 6 & 7.6 $\\pm$ 1.3 {[}4.4, 10.8{]} & 0.4 {[}0.4, 0.4{]} \\\\"
        );
        assert!(
            lines[14].starts_with("  AWS & 12 & 6.9 \\% & retrain & 3 & 6 & \\textbf{1.7 $\\pm$ 0.1 "),
            "{}",
            lines[14]
        );
        assert_eq!(lines[15..], ["  \\bottomrule", "\\end{tabular}"]);
    }

    /// Retraining AWS is the best, by nearly the same on each ticket.
    fn best_of_three_tickets() -> Report {
        let mut report = Study::with_tickets(&[1, 2, 3], &[2, 3]).report();
        report.transfers[7].best = true;
        report
    }

    #[test]
    fn text_is_only_text() {
        assert_eq!(escape("a_b 5% & c#d"), "a\\_b 5\\% \\& c\\#d");
        assert_eq!(escape("\\input{x}~^$"), "\\textbackslash{}input\\{x\\}\\textasciitilde{}\\textasciicircum{}\\$");
        assert_eq!(escape("ψ₀ ± α, [1] --flag"), "$\\psi$$_0$ $\\pm$ $\\alpha$, {[}1{]} -{}-flag");
        assert_eq!(escape("a\nb\x1b[0m"), "a b {[}0m");
        assert_eq!(escape("naïve 中"), "naïve \\texttt{U+4E2D}");
    }
}
