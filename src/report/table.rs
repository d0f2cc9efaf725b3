//! Tables with typed cells. Every output writes these, and [`Column::text`] alone makes the text of a cell.

use std::cmp::Ordering;
use std::collections::HashSet;

use jiff::Timestamp;
use winsign_core::RunId;
use winsign_core::grouping::distinct;
use winsign_core::settings::Method;
use winsign_core::units;
use winsign_sweep::Axes;

use super::statistics::percent;
use super::{Interval, Summary};

/// Stands for a number that does not exist, or not yet.
pub const MISSING: &str = "–";

#[derive(Debug, Clone)]
pub struct Table {
    /// The name of the table in links and files, such as `transfers`.
    pub id: &'static str,
    pub title: &'static str,
    /// Explains how to read the table; may be empty.
    pub note: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
}

#[derive(Debug, Clone, Default)]
pub struct Row {
    /// The runs behind the numbers of the row, including those that are not finished.
    pub runs: Vec<RunId>,
    /// True if another table shows the number of this row, too.
    pub is_shown_elsewhere: bool,
}

#[derive(Debug, Clone)]
pub struct Column {
    /// The name of the column in files for programs. It never changes.
    pub key: String,
    /// The title for readers, of one or several lines.
    pub title: String,
    pub form: Form,
    pub role: Role,
    pub shown: Shown,
    /// True if the column is left out if no row has a value in it.
    pub is_optional: bool,
    /// One cell for each row of the table.
    pub cells: Vec<Cell>,
    /// The rows in which the value is shown to be lower than all values it is compared with.
    pub best: HashSet<usize>,
}

/// The meaning of a column in its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It says what the row is about.
    Key,
    /// The same, for an axis of the study.
    Axis,
    /// It is a result.
    Value,
    /// It is the number of runs or paths behind the results, done and planned.
    Sample,
}

/// The outputs that have a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// All outputs.
    Always,
    /// The page and files for programs, but not the terminal, Markdown and LaTeX.
    WithDetails,
    /// Files for programs only.
    InFiles,
}

/// The quantity in a column, with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Text,
    /// Whole numbers; numbers done of numbers planned.
    Count,
    /// Percent, percentage points or nats, with this number of digits after the point.
    Decimals(usize),
    /// A ratio, in percent with two significant digits or more.
    Ratio,
    /// An amount, with about three digits.
    Amount,
    /// A p-value.
    P,
    Seconds,
    Bytes,
    /// A whole number of any size, such as a seed.
    Large,
    /// Milliseconds since 1970, UTC.
    Time,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// The column does not apply to the row.
    Blank,
    /// There is no value, or not yet.
    Missing,
    Text(String),
    Method(Method),
    Number(f64),
    Whole(usize),
    /// The number done and the number planned, which is 0 if there can be none.
    Count {
        done: usize,
        planned: usize,
    },
    /// The smallest and the largest of several numbers.
    Range(f64, f64),
    Interval(Interval),
    Measured(Box<Measured>),
}

/// One number that stands for several, and what is shown beside it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measured {
    pub center: Option<f64>,
    pub deviation: Option<f64>,
    pub interval: Option<(f64, f64)>,
    pub largest: Option<f64>,
    /// The number of paths that are done, and of all, while some are missing.
    pub so_far: Option<(usize, usize)>,
    /// The sizes of the samples, which are shown in parentheses.
    pub counts: Vec<(usize, usize)>,
    /// All statistics, unless only published ones are known.
    pub summary: Option<Summary>,
}

impl Measured {
    /// Shows `mean ± std [interval]`.
    pub fn mean_std(summary: Summary) -> Measured {
        Measured { deviation: summary.std, ..Measured::mean_interval(summary) }
    }

    /// Shows `mean [interval]`.
    pub fn mean_interval(summary: Summary) -> Measured {
        let interval = summary.interval.map(|interval| (interval.low, interval.high));
        Measured { center: Some(summary.mean), interval, summary: Some(summary), ..Measured::default() }
    }

    /// Returns the text with so many digits after the point.
    pub fn text(&self, digits: usize) -> String {
        let mut text = self.center.map_or(MISSING.to_string(), |center| decimal(center, digits));
        if let Some(deviation) = self.deviation {
            text += &format!(" ± {}", decimal(deviation, digits));
        }
        if let Some(ends) = self.interval {
            text += &format!(" {}", interval_text(ends, digits));
        }
        if let Some(largest) = self.largest {
            text += &format!(" ({})", decimal(largest, digits));
        }
        if let Some((done, planned)) = self.so_far.filter(|(done, planned)| done < planned) {
            text += &format!(" {}", count_text(done, planned));
        }
        if !self.counts.is_empty() {
            let counts: Vec<String> = self.counts.iter().map(|&(done, planned)| count_text(done, planned)).collect();
            text += &format!(" ({})", counts.join(", "));
        }
        text
    }
}

impl Cell {
    /// Returns the text of a value.
    pub fn display(value: impl ToString) -> Cell {
        Cell::Text(value.to_string())
    }

    fn has_value(&self) -> bool {
        match self {
            Cell::Blank | Cell::Missing => false,
            Cell::Count { planned, .. } => *planned > 0,
            Cell::Measured(measured) => measured.center.is_some(),
            _ => true,
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(text)
    }
}

impl From<Method> for Cell {
    fn from(method: Method) -> Cell {
        Cell::Method(method)
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Cell {
        Cell::Number(number)
    }
}

impl From<u64> for Cell {
    fn from(count: u64) -> Cell {
        Cell::from(count as usize)
    }
}

impl From<u32> for Cell {
    fn from(count: u32) -> Cell {
        Cell::from(count as usize)
    }
}

impl From<usize> for Cell {
    fn from(count: usize) -> Cell {
        Cell::Whole(count)
    }
}

impl From<Interval> for Cell {
    fn from(interval: Interval) -> Cell {
        Cell::Interval(interval)
    }
}

impl From<Measured> for Cell {
    fn from(measured: Measured) -> Cell {
        Cell::Measured(Box::new(measured))
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Cell {
        value.map_or(Cell::Missing, T::into)
    }
}

impl Column {
    pub fn is_numeric(&self) -> bool {
        self.form != Form::Text
    }

    /// Returns the text of a cell: the same in every output.
    pub fn text(&self, row: usize) -> String {
        match &self.cells[row] {
            Cell::Blank => String::new(),
            Cell::Missing => MISSING.to_string(),
            Cell::Text(text) => text.clone(),
            Cell::Method(method) => method_text(Some(*method)),
            Cell::Number(number) => self.form.number_text(*number),
            Cell::Whole(number) if self.form == Form::Bytes => units::bytes(*number as u64),
            Cell::Whole(number) => number.to_string(),
            Cell::Count { done, planned } => count_text(*done, *planned),
            Cell::Range(low, high) => format!("{} to {}", self.form.number_text(*low), self.form.number_text(*high)),
            Cell::Interval(interval) => interval_text((interval.low, interval.high), self.form.digits()),
            Cell::Measured(measured) => measured.text(self.form.digits()),
        }
    }

    /// Returns the number by which rows are sorted; none for texts.
    pub fn number(&self, row: usize) -> Option<f64> {
        let number = match &self.cells[row] {
            Cell::Blank | Cell::Missing | Cell::Text(_) | Cell::Method(_) => None,
            Cell::Number(number) => Some(*number),
            Cell::Whole(number) => Some(*number as f64),
            Cell::Count { done, planned } => (*planned > 0).then_some(*done as f64),
            Cell::Range(low, _) => Some(*low),
            Cell::Interval(interval) => Some(interval.low),
            Cell::Measured(measured) => measured.center,
        };
        number.filter(|number| number.is_finite())
    }

    /// Returns the title, with a line that says what stands beside a mean where the cells show it.
    pub fn heading(&self) -> String {
        let measured = || {
            self.cells.iter().filter_map(|cell| match cell {
                Cell::Measured(measured) if measured.counts.is_empty() => Some(measured),
                _ => None,
            })
        };
        let summaries = || measured().filter_map(|measured| measured.summary);
        if summaries().all(|summary| summary.count < 2) {
            return self.title.clone();
        }
        let mut parts = vec!["mean".to_string()];
        parts.extend(measured().any(|one| one.deviation.is_some()).then(|| "± std".to_string()));
        match summaries().find_map(|summary| summary.interval) {
            Some(interval) => parts.push(format!("[{} %]", percent(interval.level))),
            None => parts.extend(measured().any(|one| one.largest.is_some()).then(|| "(max)".to_string())),
        }
        format!("{}\n{}", self.title, parts.join(" "))
    }
}

impl Form {
    fn digits(self) -> usize {
        if let Form::Decimals(digits) = self { digits } else { 1 }
    }

    /// Returns the text of a number in this form.
    pub(super) fn number_text(self, number: f64) -> String {
        match self {
            Form::Text | Form::Count | Form::Large => number.to_string(),
            Form::Decimals(digits) => decimal(number, digits),
            Form::Ratio => remaining_text(Some(number)),
            Form::Amount => units::number(number),
            Form::P if number < 0.001 => "<0.001".to_string(),
            Form::P => format!("{number:.3}"),
            Form::Seconds => units::duration(number),
            Form::Bytes => units::bytes(number as u64),
            Form::Time => Timestamp::from_millisecond(number as i64)
                .map_or(MISSING.to_string(), |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string()),
        }
    }
}

impl Table {
    /// Returns the table for readers who have the page: with details.
    pub fn full(&self) -> Table {
        self.selected(|column| column.shown != Shown::InFiles, |_| true)
    }

    /// Returns the table for the terminal, Markdown and LaTeX: without details, and without rows that another table shows;
    /// none if it has no rows.
    pub fn brief(&self) -> Option<Table> {
        let table = self.selected(|column| column.shown == Shown::Always, |row| !row.is_shown_elsewhere);
        (!table.rows.is_empty()).then_some(table)
    }

    /// Returns the texts of a row.
    pub fn texts(&self, row: usize) -> Vec<String> {
        self.columns.iter().map(|column| column.text(row)).collect()
    }

    fn selected(&self, has_column: impl Fn(&Column) -> bool, has_row: impl Fn(&Row) -> bool) -> Table {
        let places: Vec<usize> = (0..self.rows.len()).filter(|&at| has_row(&self.rows[at])).collect();
        let columns = self.columns.iter().filter(|column| has_column(column)).map(|column| Column {
            cells: places.iter().map(|&at| column.cells[at].clone()).collect(),
            best: (0..places.len()).filter(|&at| column.best.contains(&places[at])).collect(),
            ..column.clone()
        });
        let has_content = |column: &Column| !column.is_optional || column.cells.iter().any(Cell::has_value);
        Table {
            columns: columns.filter(has_content).collect(),
            rows: places.iter().map(|&at| self.rows[at].clone()).collect(),
            ..self.clone()
        }
    }
}

/// Declares a table: one entry for each column, in the order in which they are shown.
pub struct Declaration<'r, R> {
    rows: Vec<&'r R>,
    table: Table,
}

impl<'r, R> Declaration<'r, R> {
    pub fn new(id: &'static str, title: &'static str, rows: impl IntoIterator<Item = &'r R>) -> Declaration<'r, R> {
        let rows: Vec<&R> = rows.into_iter().collect();
        let table = Table {
            id,
            title,
            note: String::new(),
            columns: vec![],
            rows: rows.iter().map(|_| Row::default()).collect(),
        };
        Declaration { rows, table }
    }

    /// Declares the runs behind each row.
    pub fn runs(mut self, runs: impl Fn(&'r R) -> Vec<RunId>) -> Declaration<'r, R> {
        self.table.rows.iter_mut().zip(&self.rows).for_each(|(info, row)| info.runs = runs(row));
        self
    }

    /// Declares which rows another table shows, too.
    pub fn shown_elsewhere(mut self, is_shown: impl Fn(&'r R) -> bool) -> Declaration<'r, R> {
        self.table.rows.iter_mut().zip(&self.rows).for_each(|(info, row)| info.is_shown_elsewhere = is_shown(row));
        self
    }

    /// Adds a column that says what a row is about.
    pub fn key<C: Into<Cell>>(
        self,
        key: &str,
        title: &str,
        form: Form,
        cell: impl Fn(&'r R) -> C,
    ) -> Declaration<'r, R> {
        let mut declaration = self.value(key, title, form, cell);
        declaration.last().role = Role::Key;
        declaration
    }

    /// Adds a column of what came out.
    pub fn value<C: Into<Cell>>(
        mut self,
        key: &str,
        title: &str,
        form: Form,
        cell: impl Fn(&'r R) -> C,
    ) -> Declaration<'r, R> {
        self.table.columns.push(Column {
            key: key.to_string(),
            title: title.to_string(),
            form,
            role: Role::Value,
            shown: Shown::Always,
            is_optional: false,
            cells: self.rows.iter().map(|row| cell(row).into()).collect(),
            best: HashSet::new(),
        });
        self
    }

    /// Adds the column of the runs or paths behind the results of a row: those that are done, and those that are planned.
    pub fn sample(self, title: &str, counts: impl Fn(&'r R) -> (usize, usize)) -> Declaration<'r, R> {
        let mut declaration = self.value("n", title, Form::Count, |row| {
            let (done, planned) = counts(row);
            Cell::Count { done, planned }
        });
        declaration.last().role = Role::Sample;
        declaration
    }

    /// Adds a column for each axis that is one in these rows.
    pub fn axes(mut self, axes: impl Fn(&'r R) -> &'r Axes) -> Declaration<'r, R> {
        for name in axis_names(self.rows.iter().map(|row| axes(row))) {
            let cell = |row: &'r R| match axis_value(axes(row), name) {
                "" => Cell::Blank,
                value => Cell::display(value),
            };
            self = self.value(name, name, Form::Text, cell).optional();
            self.last().role = Role::Axis;
        }
        self
    }

    /// Marks the cells of the last column that are the best of what they are compared with.
    pub fn best(mut self, is_best: impl Fn(&'r R) -> bool) -> Declaration<'r, R> {
        let best = self.rows.iter().enumerate().filter(|(_, row)| is_best(row)).map(|(at, _)| at).collect();
        self.last().best = best;
        self
    }

    /// Leaves the last column out if no row has a value in it.
    pub fn optional(mut self) -> Declaration<'r, R> {
        self.last().is_optional = true;
        self
    }

    /// Writes the last column to files for programs only, unless the condition holds.
    pub fn in_files_unless(self, condition: bool) -> Declaration<'r, R> {
        if condition { self } else { self.in_files() }
    }

    /// Shows the last column on the page and in files only, if it has a value.
    pub fn detail(self) -> Declaration<'r, R> {
        self.shown(Shown::WithDetails).optional()
    }

    /// Writes the last column to files for programs only.
    pub fn in_files(self) -> Declaration<'r, R> {
        self.shown(Shown::InFiles)
    }

    /// Shows the last column in these outputs only.
    pub fn shown(mut self, shown: Shown) -> Declaration<'r, R> {
        self.last().shown = shown;
        self
    }

    /// Returns the table, with a note that explains how to read it.
    pub fn finish(self, note: impl Into<String>) -> Table {
        Table { note: note.into(), ..self.table }
    }

    fn last(&mut self) -> &mut Column {
        self.table.columns.last_mut().expect("a column was added before")
    }
}

/// Returns the names of all axes, in the order in which they first appear.
pub fn axis_names<'a>(axes: impl Iterator<Item = &'a Axes>) -> Vec<&'a str> {
    distinct(axes.flatten().map(|(name, _)| name.as_str()))
}

/// Returns the value of an axis; empty if the axis does not apply.
pub fn axis_value<'a>(axes: &'a Axes, name: &str) -> &'a str {
    axes.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
}

/// Compares two texts of numbers, whole numbers of any size exactly; returns `None` if one of them is not a number.
pub(crate) fn compare_numbers(one: &str, other: &str) -> Option<Ordering> {
    let whole = |text: &str| text.parse::<i128>().ok();
    let as_reals = one.parse::<f64>().ok()?.total_cmp(&other.parse().ok()?);
    Some(as_reals.then(whole(one).cmp(&whole(other))))
}

/// Returns the name of a method as papers write it: LRR, AWS, SynFlow.
pub fn method_text(method: Option<Method>) -> String {
    match method {
        None => MISSING.to_string(),
        Some(Method::SynFlow) => "SynFlow".to_string(),
        Some(Method::Imported) => "imported".to_string(),
        Some(method @ (Method::Lrr | Method::Aws | Method::Imp | Method::Snip)) => method.to_string().to_uppercase(),
    }
}

/// Returns a remaining ratio in percent, with two significant digits or more.
pub fn remaining_text(ratio: Option<f64>) -> String {
    match ratio.map(|ratio| ratio * 100.0) {
        None => MISSING.to_string(),
        Some(percent) if percent >= 1.0 || percent <= 0.0 => format!("{percent:.1} %"),
        Some(percent) => format!("{percent:.*} %", (1.0 - percent.log10().floor()) as usize),
    }
}

/// Returns a number with so many digits after the point and a true minus sign, which a number shown as zero does not have.
pub fn decimal(value: f64, digits: usize) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "∞".to_string() } else { "−∞".to_string() };
    }
    let text = format!("{value:.digits$}");
    match text.strip_prefix('-') {
        None => text,
        Some(zero) if zero.chars().all(|digit| matches!(digit, '0' | '.')) => zero.to_string(),
        Some(number) => format!("−{number}"),
    }
}

fn interval_text((low, high): (f64, f64), digits: usize) -> String {
    format!("[{}, {}]", decimal(low, digits), decimal(high, digits))
}

fn count_text(done: usize, planned: usize) -> String {
    match planned {
        0 => MISSING.to_string(),
        _ if done == planned => done.to_string(),
        _ => format!("{done}/{planned}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_keeps_two_digits() {
        let cases = [
            (Some(1.0), "100.0 %"),
            (Some(0.0687), "6.9 %"),
            (Some(0.00123), "0.12 %"),
            (Some(0.0000456), "0.0046 %"),
            (Some(0.0), "0.0 %"),
            (None, MISSING),
        ];
        for (ratio, expected) in cases {
            assert_eq!(remaining_text(ratio), expected);
        }
    }

    #[test]
    fn numbers_have_a_true_minus_sign() {
        let cases = [(-1.25, 1, "−1.2"), (-0.04, 1, "0.0"), (-0.04, 3, "−0.040"), (-0.0, 1, "0.0"), (3.0, 1, "3.0")];
        for (value, digits, expected) in cases {
            assert_eq!(decimal(value, digits), expected);
        }
        assert_eq!([f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(|value| decimal(value, 1)), ["NaN", "∞", "−∞"]);
        assert_eq!(method_text(Some(Method::SynFlow)), "SynFlow");
    }

    #[test]
    fn cells_are_written_in_the_form_of_their_column() {
        let rows = [0];
        let text = |form, cell: Cell| {
            let table = Declaration::new("t", "T", &rows).value("c", "c", form, |_| cell.clone()).finish("");
            table.columns[0].text(0)
        };
        assert_eq!(text(Form::Seconds, Cell::Number(110.0)), "2 min");
        assert_eq!(text(Form::P, Cell::Number(0.0004)), "<0.001");
        assert_eq!(text(Form::Bytes, Cell::Whole(412_000_000)), "412 MB");
        assert_eq!(text(Form::Time, Cell::Number(0.0)), "1970-01-01 00:00 UTC");
        assert_eq!(text(Form::Count, Cell::Count { done: 2, planned: 3 }), "2/3");
        assert_eq!(text(Form::Count, Cell::Count { done: 0, planned: 0 }), MISSING);
        assert_eq!(text(Form::Decimals(1), Cell::Range(1.0, 2.25)), "1.0 to 2.2");
        assert_eq!(text(Form::Text, Cell::Blank), "");
    }
}
