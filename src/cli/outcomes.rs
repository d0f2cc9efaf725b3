//! Tables of results in `winsign show`: layers of tickets, paths, matrices, planes.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table};
use winsign_core::RunId;
use winsign_core::results::{
    LayerSurvivors, MatrixOutcome, Outcome, PairOutcome, PathOutcome, PathPoint, PlaneOutcome, Similarity,
};
use winsign_report::terminal::STYLE;

/// The fields of an outcome that this module shows.
pub(crate) const SHOWN: [&str; 9] =
    ["layers", "path", "barrier", "similarity", "pairs", "networks", "x", "y", "points"];

/// The maximum number of columns and of rows that are shown of a plane.
const MAX_CELLS: usize = 15;

/// Writes the tables of an outcome.
pub(crate) fn describe(text: &mut String, outcome: &Outcome, inputs: &[RunId]) {
    match outcome {
        Outcome::Connect(connect) => write_path(text, &connect.path),
        Outcome::Matrix(matrix) => write_pairs(text, matrix, inputs),
        Outcome::Plane(plane) => write_plane(text, plane, inputs),
        Outcome::Ticket(ticket) if !ticket.layers.is_empty() => write_layers(text, &ticket.layers),
        Outcome::Ticket(_) | Outcome::Transfer(_) => {}
    }
}

fn write_layers(text: &mut String, layers: &[LayerSurvivors]) {
    let rows = layers.iter().map(layer_row);
    let _ = writeln!(text, "\n{}", table(vec!["layer", "survivors", "weights", "remaining %"], rows));
}

fn layer_row(LayerSurvivors { name, survivors, prunable }: &LayerSurvivors) -> Vec<String> {
    let remaining = 100.0 * *survivors as f64 / (*prunable).max(1) as f64;
    vec![name.clone(), survivors.to_string(), prunable.to_string(), format!("{remaining:.2}")]
}

fn write_path(text: &mut String, path: &PathOutcome) {
    let _ = writeln!(text, "  barrier: {:.2} percentage points", path.barrier);
    if let Some(similarity) = path.similarity {
        let _ = writeln!(text, "  sign agreement: {:.1} %", 100.0 * similarity.sign_agreement);
        let _ = writeln!(text, "  mask overlap: {:.1} %", 100.0 * similarity.mask_overlap);
    }
    let train = path.points.iter().any(|point| point.train.is_some());
    let mut header = vec!["t", "test error %", "test loss"];
    if train {
        header.extend(["train error %", "train loss"]);
    }
    let _ = writeln!(text, "\n{}", table(header, path.points.iter().map(|point| point_row(point, train))));
}

/// Returns a row with the scores on test images, and with those on training images if there is a `train` column.
fn point_row(PathPoint { t, test_error, test_loss, train: score }: &PathPoint, train: bool) -> Vec<String> {
    let mut row = vec![position(*t), format!("{test_error:.2}"), format!("{test_loss:.4}")];
    if train {
        let cell = |number: Option<f64>, digits| number.map_or(String::new(), |number| format!("{number:.digits$}"));
        row.push(cell(score.map(|score| score.train_error), 2));
        row.push(cell(score.map(|score| score.train_loss), 4));
    }
    row
}

fn write_pairs(text: &mut String, matrix: &MatrixOutcome, inputs: &[RunId]) {
    let barriers: Vec<f64> = matrix.pairs.iter().map(|pair| pair.path.barrier).collect();
    let mean = barriers.iter().sum::<f64>() / barriers.len().max(1) as f64;
    let largest = barriers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let _ = writeln!(text, "  paths: {}; barrier: mean {mean:.2}, maximum {largest:.2}", barriers.len());
    let header = vec!["A (t = 1)", "B (t = 0)", "barrier", "max. error at t", "sign agreement %", "mask overlap %"];
    let _ = writeln!(text, "\n{}", table(header, matrix.pairs.iter().map(|pair| pair_row(pair, inputs))));
}

fn pair_row(pair: &PairOutcome, inputs: &[RunId]) -> Vec<String> {
    let worst = pair.path.points.iter().max_by(|one, other| one.test_error.total_cmp(&other.test_error));
    let percent = |field: fn(&Similarity) -> f64| {
        pair.path.similarity.map_or(String::new(), |similarity| format!("{:.1}", 100.0 * field(&similarity)))
    };
    vec![
        short_id(inputs, pair.ends.0),
        short_id(inputs, pair.ends.1),
        format!("{:.2}", pair.path.barrier),
        worst.map_or(String::new(), |point| position(point.t)),
        percent(|similarity| similarity.sign_agreement),
        percent(|similarity| similarity.mask_overlap),
    ]
}

/// Writes the test errors of a plane, with y upward as in a figure; a fine grid is thinned out.
fn write_plane(text: &mut String, plane: &PlaneOutcome, inputs: &[RunId]) {
    for (index, (name, (x, y))) in (0..).zip(["A", "B", "C"].into_iter().zip(plane.networks)) {
        let _ = writeln!(text, "  {name}: {} at x = {x:.2}, y = {y:.2}", short_id(inputs, index));
    }
    let errors = || plane.points.iter().map(|point| point.test_error);
    let (low, high) = (errors().fold(f64::INFINITY, f64::min), errors().fold(f64::NEG_INFINITY, f64::max));
    let _ = writeln!(text, "  test errors: {low:.2} to {high:.2} %, of {} networks", plane.points.len());
    let columns = spaced_indices(plane.x.len());
    let mut header = vec!["y \\ x".to_string()];
    header.extend(columns.iter().map(|&column| format!("{:.1}", plane.x[column])));
    let rows = spaced_indices(plane.y.len()).into_iter().rev().map(|row| {
        let error = |column: usize| plane.points.get(row * plane.x.len() + column).map(|point| point.test_error);
        let cell = |&column: &usize| error(column).map_or(String::new(), |error| format!("{error:.1}"));
        std::iter::once(format!("{:.1}", plane.y[row])).chain(columns.iter().map(cell)).collect()
    });
    let _ = writeln!(text, "\n{}", table(header, rows));
}

/// Returns evenly spaced indices below `count`, including both ends.
fn spaced_indices(count: usize) -> Vec<usize> {
    let shown = count.min(MAX_CELLS);
    (0..shown).map(|index| index * (count - 1) / (shown - 1).max(1)).collect()
}

/// Returns the first digits of an input's identity.
fn short_id(inputs: &[RunId], index: u32) -> String {
    inputs.get(index as usize).map_or(String::new(), |id| id.as_str().chars().take(8).collect())
}

/// Formats a position on a path with two to four decimals; refinements halve intervals.
fn position(t: f64) -> String {
    let exact = format!("{t:.4}");
    let trimmed = exact.trim_end_matches('0');
    format!("{trimmed:0<4}")
}

fn table<H: Into<comfy_table::Row>>(header: H, rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
