//! Builds the rows of paths and planes from records.

use winsign_core::RunId;
use winsign_core::grouping::{distinct, grouped};
use winsign_core::results::{Outcome, PathOutcome};
use winsign_core::settings::{Align, Between, Method, Settings};
use winsign_sweep::{Axes, Measure};

use super::ends::{Labels, Names};
use super::gather::{Gathering, by_ticket, ids};
use super::sample::{Sample, is_over_tickets};
use super::spreads::without_ticket_seeds;
use super::statistics::{Estimate, max, mean};
use super::{BarrierProtocol, ConnectionRow, End, PairPath, Part, PathError, PathMean, PlaneRow, RunRecord};

/// The axis that distinguishes pairs of tickets within a method and setting from pairs across two of them.
pub(crate) const PAIRS: &str = "pairs";

/// The paths of one ticket, or of one kind of pairs of tickets.
struct Block<'r, 'f> {
    axes: Axes,
    method: Option<Method>,
    paths: Vec<PairPath>,
    /// The ends of the paths that are planned.
    planned: Vec<[Option<&'r RunId>; 2]>,
    runs: Vec<&'r RunRecord<'f>>,
    /// False for pairs across two methods, which are not a sample of one distribution.
    is_homogeneous: bool,
}

/// Returns the rows of connects that differ only in the seeds of the networks they join, whether single paths or blocks
/// of a matrix. There is one row; for tickets of several methods or settings, one row for each kind of pairs.
pub(crate) fn connections(row: &[&RunRecord], gathering: &Gathering) -> Vec<ConnectionRow> {
    let blocks = by_ticket(row).into_iter().map(|runs| block(runs, &gathering.labels));
    match row[0].planned.label.between {
        None | Some(Between::Plane) => vec![],
        Some(Between::Tickets) => {
            let blocks = blocks.flat_map(|block| by_kind_of_pairs(block, &gathering.labels));
            blocks.map(|block| connection(row, Between::Tickets, vec![block], gathering)).collect()
        }
        Some(between) => vec![connection(row, between, blocks.collect(), gathering)],
    }
}

fn block<'r, 'f>(runs: Vec<&'r RunRecord<'f>>, labels: &Labels) -> Block<'r, 'f> {
    let names = labels.names(runs.iter().flat_map(|record| &record.planned.run.inputs));
    let measured = by_ends(&runs).into_iter().filter_map(|again| again.into_iter().next());
    let paths = measured.filter_map(|(record, path)| pair(record, path, &names, labels)).collect();
    let planned = distinct(runs.iter().flat_map(|record| planned(record)));
    let label = &runs[0].planned.label;
    Block { axes: label.axes.clone(), method: label.method, paths, planned, runs, is_homogeneous: true }
}

/// Divides pairs of tickets into those within each method and setting, and those across each two, if there are several.
fn by_kind_of_pairs<'r, 'f>(block: Block<'r, 'f>, labels: &Labels) -> Vec<Block<'r, 'f>> {
    let kinds = labels.kinds(block.planned.iter().flatten().flatten().copied());
    if kinds.names.len() < 2 {
        return vec![block];
    }
    let kind = |[a, b]: [Option<&RunId>; 2]| kinds.pair(a, b);
    let of_kind = |pairs: Vec<[Option<&'r RunId>; 2]>| {
        let (a, b) = kind(pairs[0]);
        let name = if a == b {
            format!("within {}", kinds.names[a])
        } else {
            format!("{} – {}", kinds.names[a], kinds.names[b])
        };
        let ends = |path: &PairPath| kinds.pair(Some(&path.ends[0].run), Some(&path.ends[1].run));
        let has_pairs = |record: &&&RunRecord| planned(record).into_iter().any(|ends| kind(ends) == (a, b));
        Block {
            axes: block.axes.iter().cloned().chain([(PAIRS.to_string(), name)]).collect(),
            method: kinds.methods[a].filter(|_| kinds.methods[a] == kinds.methods[b]),
            paths: block.paths.iter().filter(|path| ends(path) == (a, b)).cloned().collect(),
            runs: block.runs.iter().filter(has_pairs).copied().collect(),
            is_homogeneous: a == b,
            planned: pairs,
        }
    };
    grouped(block.planned.iter().copied(), |ends| kind(*ends)).into_iter().map(of_kind).collect()
}

fn connection(row: &[&RunRecord], between: Between, blocks: Vec<Block>, gathering: &Gathering) -> ConnectionRow {
    let first = &row[0].planned;
    let (label, method) = (&first.label, blocks[0].method);
    let axes = without_ticket_seeds(&blocks[0].axes);
    // The order is fixed, since the order of a sum determines its last bit.
    let ends: Vec<&RunId> = distinct(blocks.iter().flat_map(|block| &block.planned).flatten().flatten().copied());
    let (paths, parts) = join(blocks);
    let connection = ConnectionRow {
        method,
        level: label.level,
        remaining_ratio: match between {
            // Many networks, each with a mask of its own.
            Between::Seeds | Between::Tickets => gathering.mean_ratio(ends.iter().copied()),
            // The union of two networks has another ratio than the ticket.
            _ => gathering.ratio_of_first_ends(row),
        },
        inherit: label.inherit,
        between,
        pairs: paths.len(),
        protocol: BarrierProtocol::from_settings(&first.run.settings),
        pairs_planned: parts.iter().map(|part| part.planned).sum(),
        barrier_mean: None,
        barrier_max: None,
        path: mean_path(&parts.iter().map(|part| &paths[part.numbers.clone()]).collect::<Vec<_>>()),
        summary: None,
        train_summary: None,
        loss_summary: None,
        norm_change: None,
        paths,
        axes,
        problem: label.problem,
        tickets: 0,
        tickets_planned: match between {
            Between::Tickets => ends.len(),
            _ if is_over_tickets(label.inherit, Some(between)) => parts.len(),
            _ => 0,
        },
        best: false,
        parts,
    };
    with_summaries(connection, gathering.estimate)
}

/// Joins the paths of blocks, of which each is a part.
fn join(blocks: Vec<Block>) -> (Vec<PairPath>, Vec<Part>) {
    let mut paths: Vec<PairPath> = Vec::new();
    let mut parts = Vec::new();
    for block in blocks {
        parts.push(Part {
            numbers: paths.len()..paths.len() + block.paths.len(),
            axes: block.axes,
            planned: block.planned.len(),
            runs: ids(&block.runs),
            is_homogeneous: block.is_homogeneous,
        });
        paths.extend(block.paths);
    }
    (paths, parts)
}

fn with_summaries(row: ConnectionRow, estimate: Estimate) -> ConnectionRow {
    let summary = |measure| Sample::from_paths(&row, measure).summary(estimate);
    let barriers = summary(Measure::Barrier);
    let [train_summary, loss_summary, norm_change] =
        [Measure::TrainBarrier, Measure::LossBarrier, Measure::NormChange].map(summary);
    let tickets = match row.between {
        Between::Tickets => distinct(row.paths.iter().flat_map(|pair| &pair.ends).map(|end| &end.run)).len(),
        _ => Sample::from_paths(&row, Measure::Barrier).tickets(),
    };
    ConnectionRow {
        barrier_mean: barriers.map(|summary| summary.mean),
        barrier_max: barriers.map(|summary| summary.max),
        summary: barriers,
        train_summary,
        loss_summary,
        norm_change,
        tickets,
        ..row
    }
}

/// Returns rows in which pairs of tickets are together again, whatever their methods and settings: as matrices show them.
pub(crate) fn whole_matrices(rows: &[ConnectionRow]) -> Vec<ConnectionRow> {
    let without_pairs = |axes: &Axes| axes.iter().filter(|(name, _)| name != PAIRS).cloned().collect::<Axes>();
    let is_part = |row: &ConnectionRow| row.axes.iter().any(|(name, _)| name == PAIRS);
    let alike = grouped(rows.iter().enumerate(), |(at, row)| match is_part(row) {
        true => (None, Some((row.problem, row.level, row.protocol, without_pairs(&row.axes)))),
        false => (Some(*at), None),
    });
    let whole = |rows: Vec<(usize, &ConnectionRow)>| {
        let (_, first) = rows[0];
        if rows.len() == 1 {
            return first.clone();
        }
        let paths: Vec<PairPath> = rows.iter().flat_map(|(_, row)| row.paths.iter().cloned()).collect();
        ConnectionRow {
            method: None,
            axes: without_pairs(&first.axes),
            pairs: paths.len(),
            pairs_planned: rows.iter().map(|(_, row)| row.pairs_planned).sum(),
            // Pairs within and across methods are not a sample of one distribution.
            barrier_mean: None,
            barrier_max: None,
            paths,
            path: vec![],
            parts: vec![],
            summary: None,
            ..first.clone()
        }
    };
    alike.into_iter().map(whole).collect()
}

pub(crate) fn plane(record: &RunRecord, gathering: &Gathering) -> Option<PlaneRow> {
    let label = &record.planned.label;
    label.between.filter(|between| *between == Between::Plane)?;
    let run = &record.planned.run;
    let names = gathering.labels.names(&run.inputs);
    let plane = record.result.as_ref().and_then(|result| match &result.outcome {
        Outcome::Plane(plane) => Some(plane.clone()),
        _ => None,
    });
    Some(PlaneRow {
        method: label.method,
        level: label.level,
        remaining_ratio: gathering.ratio_of_runs(&[record]),
        inherit: label.inherit,
        axes: label.axes.clone(),
        run: run.id.clone(),
        ends: run.inputs.iter().map(|input| names.end(input)).collect(),
        plane,
        problem: label.problem,
    })
}

/// A path, and the places of its ends among the inputs of its run.
pub(crate) type Measured<'f> = ((usize, usize), &'f PathOutcome);

fn measured<'f>(record: &'f RunRecord) -> Vec<Measured<'f>> {
    match record.result.as_ref().map(|result| &result.outcome) {
        Some(Outcome::Connect(connect)) if record.planned.run.inputs.len() == 1 => vec![((0, 0), &connect.path)],
        Some(Outcome::Connect(connect)) => vec![((0, 1), &connect.path)],
        Some(Outcome::Matrix(matrix)) => {
            let places = |(a, b): (u32, u32)| (a as usize, b as usize);
            matrix.pairs.iter().map(|pair| (places(pair.ends), &pair.path)).collect()
        }
        _ => vec![],
    }
}

/// Returns the paths of a row whose errors are finite, each with all runs that measured it: a store may hold single
/// paths, and blocks of several sizes, of the same networks.
pub(crate) fn by_ends<'r, 'f>(row: &[&'r RunRecord<'f>]) -> Vec<Vec<(&'r RunRecord<'f>, Measured<'r>)>> {
    let all = row.iter().flat_map(|record| measured(record).into_iter().map(move |measured| (*record, measured)));
    let whole = all.filter(|(_, (_, path))| is_whole(path));
    grouped(whole, |(record, (places, _))| ends(record, *places))
}

/// Returns the two networks of a path in a fixed order.
fn ends<'r>(record: &'r RunRecord, (a, b): (usize, usize)) -> [Option<&'r RunId>; 2] {
    let mut ends = [a, b].map(|place| record.planned.run.inputs.get(place));
    ends.sort();
    ends
}

/// Returns the ends of the paths that a run is to measure.
fn planned<'r>(record: &'r RunRecord) -> Vec<[Option<&'r RunId>; 2]> {
    let run = &record.planned.run;
    match &run.settings {
        Settings::Matrix(matrix) => {
            let places = matrix.ends(run.inputs.len() as u32);
            places.map(|(a, b)| ends(record, (a as usize, b as usize))).collect()
        }
        _ => vec![ends(record, (0, run.inputs.len().saturating_sub(1)))],
    }
}

/// Returns whether the errors of a path are finite. Other paths are left out of means, with a warning.
pub(crate) fn is_whole(path: &PathOutcome) -> bool {
    path.barrier.is_finite() && path.points.iter().all(|point| point.test_error.is_finite())
}

fn pair(record: &RunRecord, measured: Measured, names: &Names, labels: &Labels) -> Option<PairPath> {
    let ((a, b), outcome) = measured;
    let run = &record.planned.run;
    let inputs: [&RunId; 2] = [run.inputs.get(a)?, run.inputs.get(b)?];
    let mut ends: Vec<End> = inputs.iter().map(|input| names.end(input)).collect();
    if a == b {
        ends[1].label += " with ψ₀";
    }
    let points = &outcome.points;
    let over_ends = |value: &dyn Fn(usize) -> Option<f64>| {
        let values: Vec<f64> = (0..points.len()).map(value).collect::<Option<_>>()?;
        Some(max(&values)? - (values.first()? + values.last()?) / 2.0).filter(|barrier| barrier.is_finite())
    };
    Some(PairPath {
        seeds: inputs.iter().filter_map(|input| labels.transfer_seeds(input)).collect(),
        barrier: outcome.barrier,
        train_barrier: over_ends(&|at| Some(points[at].train?.train_error)),
        loss_barrier: over_ends(&|at| Some(points[at].test_loss)),
        path: (points.iter())
            .map(|point| PathError { t: point.t, error: point.test_error, loss: point.test_loss, train: point.train })
            .collect(),
        run: run.id.clone(),
        ends,
        similarity: outcome.similarity,
        ticket: labels.ticket_of(&run.id),
    })
}

/// The largest number of positions of a mean path; thousands of refined paths have hundreds of thousands.
const MOST_POSITIONS: usize = 1_001;

/// Returns the mean over tickets of the mean path of each, at every position at which a path was measured. Refinement
/// measures each path at positions of its own; between these, paths are interpolated linearly. Too many positions are
/// replaced by evenly spaced ones.
fn mean_path(tickets: &[&[PairPath]]) -> Vec<PathMean> {
    let paths = tickets.iter().flat_map(|paths| paths.iter());
    let mut positions: Vec<f64> = paths.flat_map(|pair| pair.path.iter().map(|point| point.t)).collect();
    positions.sort_by(f64::total_cmp);
    positions.dedup();
    if positions.len() > MOST_POSITIONS {
        positions = (0..MOST_POSITIONS).map(|place| place as f64 / (MOST_POSITIONS - 1) as f64).collect();
    }
    let mean_of = |t: f64, value: &dyn Fn(&PathError) -> Option<f64>| {
        let of_ticket = |paths: &&[PairPath]| {
            let values = paths.iter().map(|pair| value_at(&pair.path, t, value)).collect::<Option<Vec<f64>>>()?;
            mean(&values)
        };
        let done = tickets.iter().filter(|paths| !paths.is_empty());
        mean(&done.map(of_ticket).collect::<Option<Vec<f64>>>()?).filter(|mean| mean.is_finite())
    };
    let at = |t: f64| {
        Some(PathMean {
            t,
            error_mean: mean_of(t, &|point| Some(point.error))?,
            train_error_mean: mean_of(t, &|point| Some(point.train?.train_error)),
            loss_mean: mean_of(t, &|point| Some(point.loss)),
        })
    };
    positions.into_iter().filter_map(at).collect()
}

/// Returns a value of a path at a position, interpolated linearly between the neighbouring points.
fn value_at(path: &[PathError], t: f64, value: &dyn Fn(&PathError) -> Option<f64>) -> Option<f64> {
    let above = path.partition_point(|point| point.t < t);
    let next = path.get(above)?;
    if next.t == t {
        return value(next);
    }
    let before = path.get(above.checked_sub(1)?)?;
    let part = (t - before.t) / (next.t - before.t);
    Some((1.0 - part) * value(before)? + part * value(next)?)
}

/// Returns the note about paths between networks whose units were matched, unless a column of the tables shows the
/// setting.
pub(crate) fn alignment_note<'r>(rows: impl IntoIterator<Item = &'r ConnectionRow>) -> Option<String> {
    let rows: Vec<&ConnectionRow> = rows.into_iter().collect();
    let is_aligned = |row: &&&ConnectionRow| row.protocol.is_some_and(|protocol| protocol.align == Align::Weights);
    let has_column = |row: &&ConnectionRow| row.axes.iter().any(|(name, _)| name == "connect.align");
    if rows.iter().any(has_column) {
        return None;
    }
    let kinds = distinct(rows.iter().filter(is_aligned).map(|row| row.between));
    let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
    let sentence = "before networks were joined, their units were matched by weights (align: weights).";
    (!kinds.is_empty()).then(|| format!("Paths between {}: {sentence}", kinds.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_core::results::PathPoint;
    use winsign_core::settings::{Inherit, Kind, Seeds};
    use winsign_sweep::plan::{PlannedRun, RunState};
    use winsign_testkit::study::{Study, remaining};

    #[track_caller]
    fn assert_near(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 1e-12, "{actual} is not {expected}");
    }

    #[test]
    fn alignment_is_named_where_no_column_shows_it() {
        let mut rows = Study::digits().report().connections;
        assert_eq!(alignment_note(&rows), None);
        let between_seeds = |row: &&mut ConnectionRow| row.between == Between::Seeds;
        rows.iter_mut().filter(between_seeds).for_each(|row| row.protocol.as_mut().unwrap().align = Align::Weights);
        let note =
            "Paths between seeds: before networks were joined, their units were matched by weights (align: weights).";
        assert_eq!(alignment_note(&rows).as_deref(), Some(note));
        rows[0].axes.push(("connect.align".to_string(), "weights".to_string()));
        assert_eq!(alignment_note(&rows), None, "a column shows it");
    }

    #[test]
    fn barriers_are_those_of_errors_and_losses() {
        let report = Study::digits().report();
        let sign = &report.connections[0];
        // Test errors 5.0 (t = 1) and 6.3; the largest is at t = 0.1: 0.1 · 5.0 + 0.9 · 6.3 + 0.4 · (1 − 0.8⁴) = 6.40616, and
        // 0.75616 above the mean of the ends. Training errors are half of test errors, losses a hundredth and 0.1.
        let first = &sign.paths[0];
        assert_near(first.barrier, 0.4);
        assert_near(first.train_barrier.unwrap(), 0.37808);
        assert_near(first.loss_barrier.unwrap(), 0.0075616);
        let summary = sign.summary.unwrap();
        assert_eq!((summary.count, summary.median), (3, sign.paths[1].barrier));
        assert_near(summary.mean, 0.6);
        let train: Vec<f64> = sign.paths.iter().map(|pair| pair.train_barrier.unwrap()).collect();
        assert_near(sign.train_summary.unwrap().mean, (train[0] + train[1] + train[2]) / 3.0);
        assert_near(sign.loss_summary.unwrap().max, train.iter().copied().fold(0.0, f64::max) / 50.0);
        assert_near(sign.path[0].train_error_mean.unwrap(), sign.path[0].error_mean / 2.0);
        assert!(first.similarity.is_some());
    }

    #[test]
    fn ends_are_named() {
        let report = Study::digits().report();
        let labels = |row: &ConnectionRow, pair: usize| -> Vec<String> {
            row.paths[pair].ends.iter().map(|end| end.label.clone()).collect()
        };
        assert_eq!(labels(&report.connections[0], 2), ["seed 3", "seed 4"]);
        assert_eq!(report.connections[0].paths[2].ends[1].run, report.transfers[0].errors[2].run);
        let norm_init = report.connections.iter().find(|row| row.between == Between::NormInit).unwrap();
        assert_eq!(labels(norm_init, 0), ["lrr level 12, seed 1", "lrr level 12, seed 1 with ψ₀"]);
        assert_eq!(norm_init.paths[0].seeds, []);
    }

    /// The numbers of a row do not depend on the division of paths into runs.
    #[test]
    fn blocks_are_rows_like_single_paths() {
        let seeds = [2, 3, 4, 5, 6];
        let single = Study::new(&[12], &seeds, &[vec![]]).report();
        for rows in [2, 5] {
            let mut study = Study::new(&[12], &seeds, &[vec![]]).in_blocks(rows);
            let blocks = study.report();
            let (one, other) =
                (&single.connections[0], blocks.connections.iter().find(|row| row.inherit.is_some()).unwrap());
            assert_eq!((other.pairs, other.pairs_planned, other.inherit), (10, 10, Some(Inherit::Sign)));
            let describe = |row: &ConnectionRow| {
                let mut described: Vec<_> = (row.paths.iter())
                    .map(|pair| (pair.seeds.clone(), pair.ends.clone(), pair.barrier.to_bits()))
                    .collect();
                described.sort_by(|one, other| one.0.cmp(&other.0));
                described
            };
            assert_eq!(describe(one), describe(other));
            assert_near(other.barrier_mean.unwrap(), one.barrier_mean.unwrap());

            study.unfinish(RunState::Running, |planned| planned.label.block.is_some_and(|(block, _)| block == 1));
            let partial = study.report();
            let row = partial.connections.iter().find(|row| row.inherit.is_some()).unwrap();
            // The first block joins two seeds, or all of them.
            assert_eq!((row.pairs, row.pairs_planned), (if rows == 2 { 9 } else { 0 }, 10));
        }
    }

    #[test]
    fn mean_path_has_a_bounded_number_of_points() {
        let run: RunId = "0123456789abcdef".parse().unwrap();
        let path = |peak: f64| {
            let point = |(t, error)| PathError { t, error, loss: 0.0, train: None };
            let path = [(0.0, 1.0), (peak, 3.0), (1.0, 1.0)].map(point).to_vec();
            let (train_barrier, loss_barrier, similarity) = (None, None, None);
            let run = run.clone();
            let (seeds, ends, ticket) = (vec![], vec![], None);
            PairPath { seeds, barrier: 2.0, path, run, ends, similarity, train_barrier, loss_barrier, ticket }
        };
        let few = mean_path(&[&[path(0.3), path(0.6)]]);
        assert_eq!(few.iter().map(|mean| mean.t).collect::<Vec<_>>(), [0.0, 0.3, 0.6, 1.0]);
        let many: Vec<PairPath> = (1..5_000).map(|at| path(f64::from(at) / 5_000.0)).collect();
        let mean = mean_path(&[&many]);
        assert_eq!((mean.len(), mean[0].t, mean[MOST_POSITIONS - 1].t), (MOST_POSITIONS, 0.0, 1.0));
        // The mean over all peaks p of the tents' height halfway: 1 + 2 · 2 ∫ 1 / (2 p) from 1/2 to 1.
        let middle = &mean[MOST_POSITIONS / 2];
        assert_eq!(middle.t, 0.5);
        assert!((middle.error_mean - (1.0 + 2.0 * 2.0_f64.ln())).abs() < 1e-3, "{middle:?}");
    }

    /// A ticket has fewer weights than the one of the level before it, and than the union of both.
    #[test]
    fn path_to_another_network_has_the_ratio_of_the_first() {
        let mut study = Study::digits();
        for (_, _, result) in &mut study.runs {
            if let Some(Outcome::Connect(connect)) = result.as_mut().map(|result| &mut result.outcome) {
                connect.remaining_ratio = 0.75;
            }
        }
        let ratios = |study: &Study| -> Vec<f64> {
            let rows = study.report().connections.into_iter().filter(|row| row.between == Between::NormInit);
            rows.map(|row| row.remaining_ratio.unwrap()).collect()
        };
        let of_tickets = [remaining(12); 2];
        assert_eq!(ratios(&study), of_tickets);
        study.unfinish(RunState::Pending, |planned| planned.run.kind() == Kind::Connect);
        assert_eq!(ratios(&study), of_tickets);
    }

    /// The masks of the networks differ: the ratio of the union of some of them is not that of the row.
    #[test]
    fn row_has_the_mean_ratio_of_its_networks() {
        let with_masks = |rows: Option<usize>| {
            let mut study = Study::new(&[12], &[2, 3, 4, 5], &[vec![]]);
            if let Some(rows) = rows {
                study = study.in_blocks(rows);
            }
            for (planned, _, result) in &mut study.runs {
                let seed = planned.label.seeds.first().map_or(0, |seeds| seeds.init) as f64;
                match &mut result.as_mut().unwrap().outcome {
                    Outcome::Transfer(transfer) => transfer.remaining_ratio = seed / 10.0,
                    Outcome::Connect(connect) => connect.remaining_ratio = 0.75,
                    Outcome::Matrix(matrix) => matrix.remaining_ratio = 0.875,
                    _ => {}
                }
            }
            study
        };
        for rows in [None, Some(2), Some(3)] {
            let mut study = with_masks(rows);
            let ratio = |study: &Study| {
                let rows = study.report().connections;
                let row = rows.into_iter().find(|row| row.between == Between::Seeds).unwrap();
                row.remaining_ratio.unwrap()
            };
            assert_near(ratio(&study), (0.2 + 0.3 + 0.4 + 0.5) / 4.0);
            study.unfinish(RunState::Pending, |planned| planned.run.kind() == Kind::Connect);
            assert_near(ratio(&study), (0.2 + 0.3 + 0.4 + 0.5) / 4.0);
        }
    }

    /// The store of a study that has grown may hold single paths, blocks, and blocks of another size.
    #[test]
    fn path_measured_by_several_runs_counts_once() {
        let seeds = [2, 3, 4, 5, 6];
        let study = || Study::new(&[12], &seeds, &[vec![]]);
        let single = study().report();
        let mut all = study();
        for rows in [2, 3] {
            let is_new = |planned: &PlannedRun| planned.label.block.is_some();
            all.runs.extend(study().in_blocks(rows).runs.into_iter().filter(|(planned, ..)| is_new(planned)));
        }
        let report = all.report();
        let (row, expected) = (&report.connections[0], &single.connections[0]);
        assert_eq!((row.pairs, row.pairs_planned), (10, 10));
        assert_eq!((row.barrier_mean, &row.summary), (expected.barrier_mean, &expected.summary));
        assert_eq!(report.notices, []);

        // The first is kept, with a warning about the other one.
        let changed =
            all.runs.iter_mut().find_map(|(_, _, result)| match result.as_mut().map(|one| &mut one.outcome) {
                Some(Outcome::Matrix(matrix)) => Some(&mut matrix.pairs[0].path.barrier),
                _ => None,
            });
        *changed.unwrap() += 0.25;
        let report = all.report();
        assert_eq!(report.connections[0].barrier_mean, expected.barrier_mean);
        assert_eq!(report.notices.len(), 1);
        assert_eq!(
            report.notices[0].message,
            "1 path was measured by several runs whose barriers differ, by up to 0.25 points; the first is kept"
        );
        assert_eq!(report.notices[0].runs.len(), 3);

        // Paths that only later runs have measured count, too.
        all.unfinish(RunState::Pending, |planned| planned.label.seeds.len() == 2);
        let row = &all.report().connections[0];
        assert_eq!((row.pairs, row.pairs_planned), (10, 10));
    }

    #[test]
    fn pairs_of_tickets_within_and_across_methods_have_rows_of_their_own() {
        let mut study = Study::with_tickets(&[1, 2, 3], &[2]);
        study.join_tickets(12);
        let rows = study.report().connections;
        let joined = |row: &&ConnectionRow| row.between == Between::Tickets;
        let describe = |row: &ConnectionRow| {
            let runs = row.parts.iter().map(|part| part.runs.len()).sum::<usize>();
            (row.axes[0].1.clone(), row.method, row.pairs, row.tickets, row.barrier_mean, runs)
        };
        let mut found: Vec<_> = rows.iter().filter(joined).map(describe).collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        let row = |pairs: &str, method, count, tickets, barrier| {
            (pairs.to_string(), method, count, tickets, Some(barrier), count)
        };
        let [within_aws, within_lrr] = [("within AWS", Method::Aws), ("within LRR", Method::Lrr)]
            .map(|(name, method)| row(name, Some(method), 3, 3, 1.0));
        assert_eq!(found, [row("LRR – AWS", None, 9, 6, 5.0), within_aws, within_lrr]);
        let whole = whole_matrices(&rows);
        assert_eq!(whole.iter().filter(joined).map(|row| (row.pairs, row.axes.len())).collect::<Vec<_>>(), [(15, 0)]);
        assert_eq!(whole.len(), rows.len() - 2);
    }

    #[test]
    fn planes_have_rows_of_their_own() {
        let mut study = Study::digits();
        study.add_planes();
        let report = study.report();
        assert_eq!((report.planes.len(), report.connections.len()), (8, 10));
        let plane = &report.planes[0];
        assert_eq!(plane.ends.iter().map(|end| end.label.as_str()).collect::<Vec<_>>(), ["seed 2", "seed 3", "seed 4"]);
        assert_eq!((plane.inherit, plane.level), (Some(Inherit::Sign), 12));
        assert_eq!(plane.plane.as_ref().map(|plane| plane.points.len()), Some(81));
        study.unfinish(RunState::Pending, |planned| planned.label.between == Some(Between::Plane));
        assert!(study.report().planes.iter().all(|row| row.plane.is_none() && row.remaining_ratio.is_some()));
    }

    fn study_of(points: &[&[(f64, f64)]]) -> Study {
        let mut study = Study::digits();
        study.runs.retain(|(planned, ..)| {
            planned.run.kind() != Kind::Connect || planned.label.between == Some(Between::Seeds)
        });
        let connects = study.runs.iter_mut().filter(|(planned, ..)| planned.run.kind() == Kind::Connect);
        for ((.., result), points) in connects.zip(points) {
            let Outcome::Connect(connect) = &mut result.as_mut().unwrap().outcome else { unreachable!() };
            let point = |&(t, test_error): &(f64, f64)| PathPoint { t, test_error, test_loss: test_error, train: None };
            connect.path.points = points.iter().map(point).collect();
            connect.path.barrier = 1.0;
        }
        study
    }

    /// The paths were refined at different positions.
    #[test]
    fn mean_path_interpolates_linearly_between_points() {
        let report = study_of(&[
            &[(0.0, 1.0), (0.5, 3.0), (1.0, 1.0)],
            &[(0.0, 2.0), (0.5, 4.0), (0.75, 6.0), (1.0, 2.0)],
            &[(0.0, 0.0), (0.25, 1.0), (0.5, 2.0), (1.0, 3.0)],
        ])
        .report();
        let path: Vec<(f64, f64)> =
            report.connections[0].path.iter().map(|point| (point.t, point.error_mean)).collect();
        let expected = [(0.0, 3.0), (0.25, 2.0 + 3.0 + 1.0), (0.5, 9.0), (0.75, 2.0 + 6.0 + 2.5), (1.0, 6.0)]
            .map(|(t, sum)| (t, sum / 3.0));
        assert_eq!(path.len(), 5);
        for ((t, mean), (expected_t, expected_mean)) in path.into_iter().zip(expected) {
            assert_eq!(t, expected_t);
            assert_near(mean, expected_mean);
        }
        assert!(report.connections[0].path.iter().all(|point| point.train_error_mean.is_none()));
    }

    #[test]
    fn paths_that_are_not_finite_are_left_out_of_means() {
        let report = study_of(&[
            &[(0.0, 1.0), (0.5, f64::NAN), (1.0, 1.0)],
            &[(0.0, 2.0), (0.5, 4.0), (1.0, 2.0)],
            &[(0.0, 0.0), (0.5, 2.0), (1.0, 3.0)],
        ])
        .report();
        let row = &report.connections[0];
        assert_eq!((row.pairs, row.pairs_planned), (2, 3));
        assert_eq!(row.path[1].error_mean, 3.0);
        assert_eq!(row.paths[0].seeds, [Seeds::from(2), Seeds::from(4)]);
        assert_eq!(report.notices.len(), 1);
    }
}
