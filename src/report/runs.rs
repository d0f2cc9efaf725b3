//! The table of all runs: the page lists it, and `runs.parquet` has all of its columns.

use winsign_core::RunId;
use winsign_core::results::{GpuUtilization, Outcome, RunResult, Similarity, TicketOutcome};
use winsign_core::settings::{Kind, Seeds, Settings};

use super::RunRecord;
use super::ends::Labels;
use super::gather::remaining_ratios;
use super::table::{Cell, Declaration, Form, Shown, Table};
use super::tables::{NATS, PERCENT};

/// Returns the table of all runs. Its columns are documented in docs/reference/reports.md: columns may be added, but not renamed.
pub(crate) fn runs(records: &[RunRecord]) -> Table {
    let (ratios, labels) = (remaining_ratios(records), Labels::new(records));
    Declaration::new("runs", "All runs", records)
        .runs(|record| vec![record.planned.run.id.clone()])
        .key("run", "identity", Form::Text, |record| Cell::display(&record.planned.run.id))
        .in_files()
        .key("kind", "kind", Form::Text, |record| Cell::display(record.planned.run.kind()))
        .in_files()
        .key("label", "run", Form::Text, |record| Cell::display(&record.planned.label))
        .key("state", "state", Form::Text, |record| Cell::display(record.state))
        .key("settings_kind", "kind", Form::Text, |record| Cell::display(settings_kind(&record.planned.run.settings)))
        .problem(Shown::InFiles, |record| record.planned.label.problem)
        .key("method", "ticket", Form::Text, |record| record.planned.label.method)
        .key("level", "level", Form::Count, |record| record.planned.label.level)
        .inherit(|record| record.planned.label.inherit.map(Cell::display))
        .optional()
        .key("between", "between", Form::Text, |record| record.planned.label.between.map(Cell::display))
        .optional()
        .axes(|record| &record.planned.label.axes)
        .value("remaining_ratio", "remaining", Form::Ratio, |record| ratios.get(&record.planned.run.id).copied())
        .detail()
        .value("seed_init", "seed of the initialization", Form::Large, |record| Some(seeds(record)?.init))
        .in_files()
        .value("seed_order", "seed of the order", Form::Large, |record| Some(seeds(record)?.order))
        .in_files()
        .value("seed_alpha", "seed of α", Form::Large, |record| Some(seeds(record)?.alpha))
        .in_files()
        .value("test_error", "test error %", PERCENT, |record| Some(test(record)?.0))
        .optional()
        .value("test_loss", "test loss", NATS, |record| Some(test(record)?.1))
        .detail()
        .value("barrier", "barrier", PERCENT, barrier)
        .optional()
        .value("seconds", "duration", Form::Seconds, |record| Some(result(record)?.seconds))
        .optional()
        .value("gpu_hours", "GPU-hours", Form::Amount, |record| result(record)?.gpu_hours())
        .detail()
        .value("host", "host", Form::Text, |record| Some(result(record)?.host.clone()))
        .optional()
        .value("ranks", "ranks", Form::Count, |record| Some(result(record)?.processors.ranks))
        .detail()
        .value("threads", "threads", Form::Count, |record| Some(result(record)?.processors.threads))
        .detail()
        .value("attempt", "attempt", Form::Count, |record| Some(result(record)?.attempt))
        .detail()
        .value("data", "digest of the data", Form::Text, |record| result(record)?.data.clone())
        .detail()
        .value("finished", "finished", Form::Time, |record| Some(result(record)?.finished.as_millisecond() as f64))
        .detail()
        .value("message", "reason", Form::Text, |record| record.note.clone())
        .in_files()
        .value("store", "store", Form::Text, |record| Some(record.store.as_ref()?.display().to_string()))
        .optional()
        .value("ticket", "run of the ticket", Form::Text, |record| ticket(record, &labels).map(Cell::display))
        .in_files()
        .value("survivors", "remaining weights", Form::Large, |record| Some(trained_ticket(record)?.survivors))
        .detail()
        .value("prunable", "prunable weights", Form::Large, |record| Some(trained_ticket(record)?.prunable))
        .detail()
        .value("sign_agreement", "sign agreement", Form::Ratio, |record| Some(similarity(record)?.sign_agreement))
        .detail()
        .value("mask_overlap", "mask overlap", Form::Ratio, |record| Some(similarity(record)?.mask_overlap))
        .detail()
        .value("paths", "paths", Form::Count, paths)
        .detail()
        .value("points", "points", Form::Count, points)
        .detail()
        .value("gpus", "GPUs", Form::Amount, |record| Some(result(record)?.usage?.gpus))
        .detail()
        .value("peak_memory", "peak memory", Form::Bytes, |record| result(record)?.usage?.peak_memory)
        .detail()
        .value("gpu_peak_memory", "peak memory of tensors on a GPU", Form::Bytes, |record| {
            result(record)?.usage?.gpu_peak_memory
        })
        .detail()
        .value("gpu_utilization", "GPU utilization %", PERCENT, |record| gpus(record)?.mean)
        .detail()
        .value("lowest_gpu_utilization", "lowest GPU utilization %", PERCENT, |record| gpus(record)?.lowest)
        .detail()
        .value("gpu_memory", "peak memory in use on a GPU by all processes", Form::Bytes, |record| {
            gpus(record)?.peak_memory
        })
        .detail()
        .finish("Every run of the study; the filter finds identities too.")
}

/// Returns the kind of a run as settings name it: finer than the three kinds of runs.
pub(crate) fn settings_kind(settings: &Settings) -> &'static str {
    match settings {
        Settings::Ticket(_) => "ticket",
        Settings::Import(_) => "import",
        Settings::Transfer(_) => "transfer",
        Settings::Connect(_) => "connect",
        Settings::Matrix(_) => "matrix",
        Settings::Plane(_) => "plane",
    }
}

fn result<'r>(record: &'r RunRecord) -> Option<&'r RunResult> {
    record.result.as_ref()
}

/// Returns the utilization of the GPUs of a finished run.
fn gpus(record: &RunRecord) -> Option<GpuUtilization> {
    result(record)?.usage?.gpu_utilization
}

/// Returns the seeds of a run; none for paths, which have those of both ends.
fn seeds(record: &RunRecord) -> Option<Seeds> {
    match &record.planned.label.seeds[..] {
        [seeds] => Some(*seeds),
        _ => None,
    }
}

/// Returns the test error and the test loss.
fn test(record: &RunRecord) -> Option<(f64, f64)> {
    match &result(record)?.outcome {
        Outcome::Ticket(ticket) => Some((ticket.test_error, ticket.test_loss)),
        Outcome::Transfer(transfer) => Some((transfer.test_error, transfer.test_loss)),
        Outcome::Connect(_) | Outcome::Matrix(_) | Outcome::Plane(_) => None,
    }
}

fn barrier(record: &RunRecord) -> Option<f64> {
    match &result(record)?.outcome {
        Outcome::Connect(connect) => Some(connect.path.barrier),
        _ => None,
    }
}

fn similarity(record: &RunRecord) -> Option<Similarity> {
    match &result(record)?.outcome {
        Outcome::Connect(connect) => connect.path.similarity,
        _ => None,
    }
}

fn trained_ticket<'r>(record: &'r RunRecord) -> Option<&'r TicketOutcome> {
    match &result(record)?.outcome {
        Outcome::Ticket(ticket) => Some(ticket),
        _ => None,
    }
}

fn paths(record: &RunRecord) -> Option<usize> {
    match &result(record)?.outcome {
        Outcome::Matrix(matrix) => Some(matrix.pairs.len()),
        _ => None,
    }
}

fn points(record: &RunRecord) -> Option<usize> {
    match &result(record)?.outcome {
        Outcome::Plane(plane) => Some(plane.points.len()),
        _ => None,
    }
}

/// Returns the run of the ticket that a run starts from; for a ticket, the run itself.
fn ticket<'r>(record: &'r RunRecord, labels: &Labels<'r>) -> Option<&'r RunId> {
    let run = &record.planned.run;
    if run.kind() == Kind::Ticket { Some(&run.id) } else { labels.ticket_run_of(&run.id) }
}
