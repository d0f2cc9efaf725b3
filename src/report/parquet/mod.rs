//! `runs.parquet`, `paths.parquet` and `curves.parquet`: the numbers of a study, for data frames. The layout is
//! documented in docs/reference/reports.md; columns may be added, but not renamed.

mod frame;

use std::str::FromStr;

use winsign_core::RunId;
use winsign_sweep::Axes;

use super::ends::Labels;
use super::table::{self, Cell, Form, Role, axis_names, axis_value};
use super::{ConnectionRow, PairPath, PathError, Report, RunRecord, runs};
use crate::export::{Exported, ExportedFile, Exporter};
use frame::{Column, Frame};

/// Runs, points of paths and training curves, for programs.
pub struct Parquet;

impl Exporter for Parquet {
    fn names(&self) -> &'static [&'static str] {
        &["runs.parquet", "paths.parquet", "curves.parquet"]
    }

    fn files(&self, study: &Exported) -> Vec<ExportedFile> {
        render(study.report, study.records)
    }
}

/// Returns all three files, also if there is nothing to write yet.
pub fn render(report: &Report, records: &[RunRecord]) -> Vec<(&'static str, Vec<u8>)> {
    let labels = Labels::new(records);
    let points: Vec<Point> = report.connections.iter().flat_map(points).collect();
    vec![
        ("runs.parquet", write_runs(records)),
        ("paths.parquet", path_points(&points, &labels)),
        ("curves.parquet", curves(records)),
    ]
}

/// Writes a row for each planned run; runs that are not finished have no results.
fn write_runs(records: &[RunRecord]) -> Vec<u8> {
    let mut frame = Frame::default();
    let table = runs::runs(records);
    for column in table.columns.iter().filter(|column| column.role != Role::Axis) {
        frame.add(&column.key, frame_column(column));
    }
    add_axes(&mut frame, &records.iter().map(|record| &record.planned.label.axes).collect::<Vec<_>>());
    frame.render()
}

/// Returns the cells of a column in the type that its form has in Parquet.
fn frame_column(column: &table::Column) -> Column {
    let whole = |cell: &Cell| if let Cell::Whole(number) = cell { Some(*number) } else { None };
    let real = |cell: &Cell| if let Cell::Number(number) = cell { Some(*number) } else { None };
    let text = |cell: &Cell| match cell {
        Cell::Text(text) => Some(text.clone()),
        Cell::Method(method) => Some(method.to_string()),
        _ => None,
    };
    let cells = column.cells.iter();
    match column.form {
        Form::Text => Column::Text(cells.map(text).collect()),
        Form::Count => Column::Whole(cells.map(|cell| i32::try_from(whole(cell)?).ok()).collect()),
        Form::Large | Form::Bytes => Column::Large(cells.map(|cell| Some(whole(cell)? as u64)).collect()),
        Form::Time => Column::Time(cells.map(|cell| Some(real(cell)? as i64)).collect()),
        _ => Column::Real(cells.map(real).collect()),
    }
}

/// A point, its path, and the row of the path, with the axes of its ticket.
type Point<'r> = ((&'r ConnectionRow, &'r Axes), &'r PairPath, &'r PathError);

fn points(row: &ConnectionRow) -> Vec<Point<'_>> {
    let pairs = row.parts.iter().flat_map(|part| row.paths[part.numbers.clone()].iter().map(move |pair| (part, pair)));
    pairs.flat_map(|(part, pair)| pair.path.iter().map(move |point| ((row, &part.axes), pair, point))).collect()
}

/// Writes a row for each point of each path.
fn path_points(points: &[Point], labels: &Labels) -> Vec<u8> {
    let mut frame = Frame::default();
    let texts = |of: &dyn Fn(&Point) -> Option<String>| Column::Text(points.iter().map(of).collect());
    let reals = |of: &dyn Fn(&Point) -> Option<f64>| Column::Real(points.iter().map(of).collect());
    frame.add("run", texts(&|(_, pair, _)| Some(pair.run.to_string())));
    frame.add("dataset", texts(&|((row, _), ..)| Some(row.problem.dataset.to_string())));
    frame.add("architecture", texts(&|((row, _), ..)| Some(row.problem.architecture.to_string())));
    frame.add("method", texts(&|((row, _), ..)| row.method.map(|method| method.to_string())));
    frame.add("level", Column::Whole(points.iter().map(|((row, _), ..)| i32::try_from(row.level).ok()).collect()));
    frame.add("remaining_ratio", reals(&|((row, _), ..)| row.remaining_ratio));
    frame.add("inherit", texts(&|((row, _), ..)| row.inherit.map(|inherit| inherit.to_string())));
    frame.add("between", texts(&|((row, _), ..)| Some(row.between.to_string())));
    for (at, side) in ["a", "b"].into_iter().enumerate() {
        frame.add(&format!("end_{side}"), texts(&|(_, pair, _)| Some(pair.ends.get(at)?.run.to_string())));
        frame.add(&format!("label_{side}"), texts(&|(_, pair, _)| Some(pair.ends.get(at)?.label.clone())));
    }
    frame.add("t", reals(&|(.., point)| Some(point.t)));
    frame.add("test_error", reals(&|(.., point)| Some(point.error)));
    frame.add("test_loss", reals(&|(.., point)| Some(point.loss)));
    frame.add("train_error", reals(&|(.., point)| Some(point.train?.train_error)));
    frame.add("train_loss", reals(&|(.., point)| Some(point.train?.train_loss)));
    frame.add("barrier", reals(&|(_, pair, _)| Some(pair.barrier)));
    frame.add("train_barrier", reals(&|(_, pair, _)| pair.train_barrier));
    frame.add("loss_barrier", reals(&|(_, pair, _)| pair.loss_barrier));
    frame.add("sign_agreement", reals(&|(_, pair, _)| Some(pair.similarity?.sign_agreement)));
    frame.add("mask_overlap", reals(&|(_, pair, _)| Some(pair.similarity?.mask_overlap)));
    frame.add("ticket", texts(&|(_, pair, _)| labels.ticket_run_of(&pair.run).map(RunId::to_string)));
    add_axes(&mut frame, &points.iter().map(|((_, axes), ..)| *axes).collect::<Vec<_>>());
    frame.render()
}

/// Writes a row for each known epoch of each run.
fn curves(records: &[RunRecord]) -> Vec<u8> {
    let known = || records.iter().filter_map(|record| Some((record, record.curve.as_deref()?)));
    let runs = known().flat_map(|(record, curve)| curve.epoch.iter().map(|_| Some(record.planned.run.id.to_string())));
    let epochs = known().flat_map(|(_, curve)| curve.epoch.iter().map(|epoch| i32::try_from(*epoch).ok()));
    let mut frame = Frame::default();
    frame.add("run", Column::Text(runs.collect()));
    frame.add("epoch", Column::Whole(epochs.collect()));
    type Series = (&'static str, fn(&super::Curve) -> &Vec<f32>);
    let values: [Series; 4] = [
        ("train_loss", |curve| &curve.train_loss),
        ("train_error", |curve| &curve.train_error),
        ("test_loss", |curve| &curve.test_loss),
        ("test_error", |curve| &curve.test_error),
    ];
    for (name, of) in values {
        frame.add(name, Column::Single(known().flat_map(|(_, curve)| of(curve).iter().copied().map(Some)).collect()));
    }
    frame.render()
}

/// Adds a column for each axis of the study, of numbers if all its values are numbers.
fn add_axes(frame: &mut Frame, axes: &[&Axes]) {
    // The columns before the axes have these two.
    let names = axis_names(axes.iter().copied()).into_iter().filter(|name| !["dataset", "architecture"].contains(name));
    for name in names {
        let values =
            || axes.iter().map(|axes| axis_value(axes, name)).map(|value| (!value.is_empty()).then_some(value));
        let numbers = all_parsed(values());
        // A seed may have more digits than a real number.
        let seeds = all_parsed(values()).filter(|_| name.contains("seed"));
        let column = match (seeds, numbers) {
            (Some(seeds), _) => Column::Large(seeds),
            (None, Some(numbers)) => Column::Real(numbers),
            (None, None) => Column::Text(values().map(|value| value.map(str::to_string)).collect()),
        };
        frame.add(name, column);
    }
}

/// Returns the values as numbers; none if a value is not such a number.
fn all_parsed<'a, T: FromStr>(values: impl Iterator<Item = Option<&'a str>>) -> Option<Vec<Option<T>>> {
    values.map(|value| value.map(|value| value.parse().ok()).map_or(Some(None), |number| number.map(Some))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::Write;
    use std::sync::Arc;

    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    use super::super::Curve;
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_core::results::{GpuUtilization, Usage};
    use winsign_core::settings::{Kind, Seeds};
    use winsign_sweep::plan::RunState;
    use winsign_testkit::study::Study;

    type Line = HashMap<String, Field>;

    fn read(bytes: &[u8]) -> Vec<Line> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let rows = reader.get_row_iter(None).unwrap();
        rows.map(|row| row.unwrap().into_columns().into_iter().collect()).collect()
    }

    fn files(study: &Study, curves: bool) -> HashMap<&'static str, Vec<Line>> {
        let mut records = study.records();
        for record in records.iter_mut().filter(|record| curves && record.planned.run.kind() == Kind::Ticket) {
            let values = |scale: f32| vec![3.0 * scale, 2.0 * scale];
            record.curve = Some(Arc::new(Curve {
                epoch: vec![1, 4],
                train_loss: values(0.1),
                train_error: values(1.0),
                test_loss: values(0.2),
                test_error: values(2.0),
            }));
        }
        render(&study.report(), &records).into_iter().map(|(name, bytes)| (name, read(&bytes))).collect()
    }

    fn text(text: &str) -> Field {
        Field::Str(text.to_string())
    }

    #[test]
    fn runs_read_back() {
        let axes = vec![
            ("lr".to_string(), "0.05".to_string()),
            ("ticket.seed".to_string(), u64::MAX.to_string()),
            ("note \"x\"".to_string(), "a, ψ\n{".to_string()),
        ];
        let mut study = Study::new(&[12], &[2, 3], &[axes]);
        study.unfinish(RunState::Failed, |planned| planned.label.seeds == [Seeds::from(3)]);
        let files = files(&study, false);
        let lines = &files["runs.parquet"];
        assert_eq!(lines.len(), study.runs.len());
        let find = |state: &str, kind: &str| {
            let is = |line: &&Line| line["state"] == text(state) && line["kind"] == text(kind);
            lines.iter().find(is).unwrap()
        };
        let transfer = find("done", "transfer");
        let error = study.report().transfers[0].errors[0].error;
        assert_eq!((&transfer["method"], &transfer["inherit"]), (&text("lrr"), &text("sign")));
        assert_eq!((&transfer["level"], &transfer["seed_init"]), (&Field::Int(12), &Field::ULong(2)));
        assert_eq!((&transfer["test_error"], &transfer["lr"]), (&Field::Double(error), &Field::Double(0.05)));
        assert_eq!((&transfer["ticket.seed"], &transfer["between"]), (&Field::ULong(u64::MAX), &Field::Null));
        assert_eq!((&transfer["note \"x\""], &transfer["host"]), (&text("a, ψ\n{"), &text("localhost")));
        assert_eq!((&transfer["finished"], &transfer["barrier"]), (&Field::TimestampMillis(0), &Field::Null));
        let ticket = &find("done", "ticket")["run"];
        assert!(matches!(ticket, Field::Str(_)) && find("done", "ticket")["ticket"] == *ticket);
        let of_transfer = lines.iter().find(|line| line["run"] == transfer["ticket"]).unwrap();
        assert_eq!((&of_transfer["kind"], &of_transfer["level"]), (&text("ticket"), &Field::Int(12)));
        let failed = find("failed", "transfer");
        assert_eq!((&failed["test_error"], &failed["seed_init"]), (&Field::Null, &Field::ULong(3)));
        assert_eq!(failed["message"], text("the loss became NaN"));
        assert!(matches!(failed["remaining_ratio"], Field::Double(_)), "its ticket's");
        let connect = find("done", "connect");
        assert_eq!((&connect["seed_init"], &connect["between"]), (&Field::Null, &text("seeds")));
    }

    #[test]
    fn gpu_utilization_reads_back() {
        let study = Study::digits();
        let mut records = study.records();
        let utilization = GpuUtilization {
            gpus: 4,
            mean: Some(83.5),
            lowest: Some(60.0),
            last_minute: None,
            peak_memory: Some(12_000_000_000),
        };
        let usage = Usage { gpus: 4.0, gpu_utilization: Some(utilization), ..Usage::default() };
        records[1].result.as_mut().unwrap().usage = Some(usage);
        let files: HashMap<_, _> = render(&study.report(), &records).into_iter().collect();
        let lines = read(&files["runs.parquet"]);
        let columns = ["gpu_utilization", "lowest_gpu_utilization", "gpu_memory"];
        assert_eq!(columns.map(|column| lines[0][column].clone()), [Field::Null, Field::Null, Field::Null]);
        let values = [Field::Double(83.5), Field::Double(60.0), Field::ULong(12_000_000_000)];
        assert_eq!(columns.map(|column| lines[1][column].clone()), values);
    }

    #[test]
    fn points_of_paths_read_back() {
        let study = Study::digits().in_blocks(2);
        let lines = &files(&study, false)["paths.parquet"];
        assert_eq!(lines.len(), (8 * 3 + 2) * 11);
        let report = study.report();
        let (row, pair) = (&report.connections[0], &report.connections[0].paths[0]);
        assert_eq!(
            (&lines[3]["run"], &lines[3]["end_a"]),
            (&text(pair.run.as_str()), &text(pair.ends[0].run.as_str()))
        );
        assert_eq!(
            (&lines[3]["t"], &lines[3]["barrier"]),
            (&Field::Double(pair.path[3].t), &Field::Double(pair.barrier))
        );
        assert_eq!(lines[3]["train_error"], Field::Double(pair.path[3].train.unwrap().train_error));
        assert_eq!(lines[3]["between"], text(&row.between.to_string()));
    }

    #[test]
    fn curves_read_back() {
        let files = files(&Study::digits(), true);
        let lines = &files["curves.parquet"];
        assert_eq!(lines.len(), 26 * 2);
        assert_eq!((&lines[1]["epoch"], &lines[1]["test_error"]), (&Field::Int(4), &Field::Float(4.0)));
        assert_eq!(lines[1]["run"], files["runs.parquet"][0]["run"]);
        assert!(self::files(&Study::digits(), false)["curves.parquet"].is_empty(), "but it can be read");
    }

    /// Other programs read these names.
    #[test]
    fn columns_are_the_documented_ones() {
        let documentation = include_str!("../../../docs/reference/reports.md");
        for (file, lines) in files(&Study::digits(), true) {
            let section = documentation.split("### `").find(|section| section.starts_with(file)).expect(file);
            for name in lines[0].keys() {
                assert!(section.contains(&format!("| `{name}` |")), "docs/reference/reports.md lacks {name} of {file}");
            }
        }
    }
}
