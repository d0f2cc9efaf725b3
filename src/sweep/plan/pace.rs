//! The pace of a plan, the estimated time left, and the resources used so far.
//!
//! Times are counted back from now, by the file system's clock (see [`RunStatus::since`]), so they are never negative.
//! All values are estimates.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use winsign_core::RunId;
use winsign_core::results::RunResult;

use super::survey::RunStatus;
use super::{Plan, PlannedRun, RunState, cost};

/// The length of the past that rates are computed from, in seconds.
const RECENT: f64 = 3600.0;
/// The shortest time that rates are computed over, in seconds.
const SHORTEST: f64 = 10.0;
/// The time that a plan counts as active after its last result, in seconds, since no run is active for a moment between
/// two runs.
const LULL: f64 = 60.0;

/// The recent pace of a plan, and the time left at this pace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// The time over which the rates are computed, in seconds: an hour, or the time since the work began.
    pub over: f64,
    /// The number of runs finished per hour.
    pub runs: f64,
    /// The work done per hour, in epochs of training (see [`super::cost`]), including runs in progress.
    pub epochs: f64,
    /// The time until all possible runs are done; `None` if no run is left or active.
    pub left: Option<Duration>,
}

/// The resources used by the runs that are done.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spent {
    /// The wall time of all runs together, in seconds.
    pub seconds: f64,
    pub gpu_hours: f64,
    /// The peak memory of any process, in bytes.
    pub peak_memory: Option<u64>,
    pub gpu_peak_memory: Option<u64>,
    /// The mean utilization of the GPUs over their hours, in percent, of the runs whose utilization was measured.
    pub gpu_utilization: Option<f64>,
    /// The number of runs whose results record no resources except time.
    pub unknown: usize,
}

/// A period of work, in seconds before now.
struct Stretch {
    from: f64,
    to: f64,
    /// The work in epochs.
    work: f64,
    /// True if a run was finished at its end.
    whole: bool,
}

impl Stretch {
    fn measure(planned: &PlannedRun, status: &RunStatus, now: SystemTime) -> Option<Stretch> {
        let age = status.age(now)?.as_secs_f64();
        match status.state {
            RunState::Done => {
                let seconds = status.result.as_ref()?.seconds.max(0.0);
                Some(Stretch { from: age + seconds, to: age, work: cost(&planned.run), whole: true })
            }
            // A later attempt begins with work done before it.
            RunState::Running if status.attempts == 1 => {
                Some(Stretch { from: age, to: 0.0, work: cost(&planned.run) * status.share_done(), whole: false })
            }
            _ => None,
        }
    }

    /// Returns the work within the last `past` seconds.
    fn within(&self, past: f64) -> f64 {
        let (length, inside) = (self.from - self.to, self.from.min(past) - self.to);
        match length > 0.0 {
            true => self.work * inside.max(0.0) / length,
            false => {
                if self.to <= past {
                    self.work
                } else {
                    0.0
                }
            }
        }
    }
}

/// Returns the pace of a plan; `None` if no work was done within the last hour.
pub fn pace(plan: &Plan, statuses: &[RunStatus], now: SystemTime) -> Option<Pace> {
    let runs = || plan.runs.iter().zip(statuses);
    let stretches: Vec<Stretch> =
        runs().filter_map(|(planned, status)| Stretch::measure(planned, status, now)).collect();
    let recent: Vec<&Stretch> = stretches.iter().filter(|stretch| stretch.to < RECENT && stretch.work > 0.0).collect();
    let over = recent.iter().map(|stretch| stretch.from).reduce(f64::max)?.clamp(SHORTEST, RECENT);
    // The duration of an epoch of a single run.
    let time: f64 = recent.iter().map(|stretch| stretch.from - stretch.to).sum();
    let seconds_per_epoch = time / recent.iter().map(|stretch| stretch.work).sum::<f64>();
    // The progress of a resumed run within its current attempt is unknown; it is assumed to be as fast as the others.
    let resumed: f64 = runs()
        .filter(|(_, status)| status.state == RunState::Running && status.attempts > 1)
        .filter_map(|(planned, status)| {
            let seconds = status.age(now)?.as_secs_f64().min(over);
            Some((seconds / seconds_per_epoch).min(cost(&planned.run) * status.share_done()))
        })
        .filter(|work| work.is_finite())
        .sum();
    let work: f64 = recent.iter().map(|stretch| stretch.within(over)).sum::<f64>() + resumed;
    let done = recent.iter().filter(|stretch| stretch.whole && stretch.to <= over).count();
    let an_hour = 3600.0 / over;
    let under_way = statuses.iter().any(|status| status.state == RunState::Running)
        || recent.iter().any(|stretch| stretch.to <= LULL);
    let (left, longest) = left(plan, statuses);
    // A chain is sequential, however many runs are active.
    let seconds = (left / work * over).max(longest * seconds_per_epoch);
    Some(Pace {
        over,
        runs: done as f64 * an_hour,
        epochs: work * an_hour,
        left: (left > 0.0 && under_way && seconds.is_finite()).then(|| Duration::from_secs_f64(seconds.min(1e9))),
    })
}

/// Returns the remaining epochs of all runs that can still be done, and of the longest chain of these.
fn left(plan: &Plan, statuses: &[RunStatus]) -> (f64, f64) {
    let mut chains: HashMap<&RunId, f64> = HashMap::new();
    let (mut all, mut longest) = (0.0, 0.0f64);
    // Runs come after those they need.
    for (planned, status) in plan.runs.iter().zip(statuses) {
        let own = match status.state {
            RunState::Running | RunState::Queued | RunState::Pending => {
                cost(&planned.run) * (1.0 - status.share_done())
            }
            RunState::Done | RunState::Failed | RunState::Blocked => 0.0,
        };
        let before = planned.run.inputs.iter().filter_map(|input| chains.get(input).copied()).fold(0.0, f64::max);
        if own > 0.0 {
            chains.insert(&planned.run.id, before + own);
            longest = longest.max(before + own);
        }
        all += own;
    }
    (all, longest)
}

/// Returns the resources that a plan has used so far.
pub fn spent(statuses: &[RunStatus]) -> Spent {
    let results = || statuses.iter().filter_map(|status| status.result.as_ref());
    let start = Spent { gpu_utilization: weighted_mean(results().filter_map(measured_gpu_hours)), ..Spent::default() };
    results().fold(start, |spent, result| Spent {
        seconds: spent.seconds + result.seconds,
        gpu_hours: spent.gpu_hours + result.gpu_hours().unwrap_or(0.0),
        peak_memory: spent.peak_memory.max(result.usage.and_then(|usage| usage.peak_memory)),
        gpu_peak_memory: spent.gpu_peak_memory.max(result.usage.and_then(|usage| usage.gpu_peak_memory)),
        unknown: spent.unknown + usize::from(result.usage.is_none()),
        ..spent
    })
}

/// Returns the utilization of the GPUs of a result, and their hours; `None` if it was not measured.
fn measured_gpu_hours(result: &RunResult) -> Option<(f64, f64)> {
    Some((result.usage?.gpu_utilization?.mean?, result.gpu_hours()?))
}

/// Returns the mean of values with weights; `None` if all weights are zero.
fn weighted_mean(values: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let add = |(sum, total), (value, weight)| (sum + value * weight, total + weight);
    let (sum, total) = values.fold((0.0, 0.0), add);
    (total > 0.0).then(|| sum / total)
}

/// The utilization of a GPU, in percent, below which a run counts as one that does not need the whole GPU.
pub const LOW_UTILIZATION: f64 = 20.0;

/// The utilization of GPUs in the last minute.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuLoad {
    /// The mean over the GPUs of all running runs, in percent.
    pub mean: f64,
    /// The indices of running runs below [`LOW_UTILIZATION`].
    pub low: Vec<usize>,
}

/// Returns the utilization of the GPUs in the last minute; `None` if it was not measured for any running run.
pub fn gpu_load(statuses: &[RunStatus]) -> Option<GpuLoad> {
    let mean = weighted_mean(statuses.iter().filter_map(recent_utilization))?;
    let is_low = |at: &usize| recent_utilization(&statuses[*at]).is_some_and(|(recent, _)| recent < LOW_UTILIZATION);
    Some(GpuLoad { mean, low: (0..statuses.len()).filter(is_low).collect() })
}

/// Returns the utilization of the GPUs of a running run in the last minute, and their number.
fn recent_utilization(status: &RunStatus) -> Option<(f64, f64)> {
    let utilization = status.gpu_utilization.filter(|_| status.state == RunState::Running)?;
    Some((utilization.last_minute?, f64::from(utilization.gpus)))
}

/// Returns the machines that execute runs, with the number of their runs; the busiest comes first.
pub fn hosts(statuses: &[RunStatus]) -> Vec<(&str, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for status in statuses.iter().filter(|status| status.state == RunState::Running) {
        *counts.entry(status.host.as_deref().unwrap_or("an unknown host")).or_default() += 1;
    }
    let mut hosts: Vec<(&str, usize)> = counts.into_iter().collect();
    hosts.sort_by_key(|&(_, runs)| std::cmp::Reverse(runs));
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;
    use crate::plan::build::build;
    use winsign_core::attempt::Progress;
    use winsign_core::results::{GpuUtilization, Outcome, Processors, TransferOutcome, Usage};

    /// Returns a plan of dense networks without inputs and of a chain of tickets; each run has ten epochs.
    fn plan(transfers: u32, levels: u32) -> Plan {
        let text = format!(
            "dataset: digits\narchitecture: resnet8\n\
             ticket: {{method: lrr, levels: {levels}, warmup_epochs: 10, epochs: 10}}\n\
             transfer: {{inherit: dense, epochs: 10, seed: 1..{transfers}}}\n"
        );
        build(&parse("study.yaml", &text).unwrap_or_else(|error| panic!("{}", error.render(false))))
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn ago(seconds: f64) -> Option<SystemTime> {
        let time = Duration::from_secs_f64(seconds.abs());
        Some(if seconds < 0.0 { now() + time } else { now() - time })
    }

    fn pending() -> RunStatus {
        RunStatus::pending()
    }

    fn done(seconds: f64, seconds_ago: f64) -> RunStatus {
        let outcome = TransferOutcome { remaining_ratio: 1.0, test_error: 2.0, test_loss: 0.1 };
        let result = RunResult {
            format: 1,
            id: "0123456789abcdef".parse().unwrap(),
            attempt: 1,
            outcome: Outcome::Transfer(outcome),
            network: None,
            metrics: None,
            data: None,
            seconds,
            host: "node1".to_string(),
            processors: Processors { ranks: 1, threads: 1 },
            usage: None,
            finished: jiff::Timestamp::UNIX_EPOCH,
        };
        RunStatus { state: RunState::Done, since: ago(seconds_ago), result: Some(result), attempts: 1, ..pending() }
    }

    fn running(attempts: u32, epochs: u32, seconds_ago: f64) -> RunStatus {
        let progress = Some(Progress { done: epochs, total: 10, test_error: None });
        RunStatus { state: RunState::Running, progress, attempts, since: ago(seconds_ago), ..pending() }
    }

    /// Returns the pace of a plan that begins with these statuses and is pending otherwise.
    fn pace_of(plan: &Plan, first: &[RunStatus]) -> Option<Pace> {
        let rest = plan.runs.len() - first.len();
        let statuses: Vec<RunStatus> = first.iter().cloned().chain(vec![pending(); rest]).collect();
        pace(plan, &statuses, now())
    }

    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6 * expected.abs().max(1.0), "{found} instead of {expected}");
    }

    #[test]
    fn plan_without_recent_results_has_no_pace() {
        assert_eq!(pace_of(&plan(3, 1), &[]), None);
        let long_ago = pace_of(&plan(3, 1), &[done(60.0, 2.0 * RECENT)]);
        assert_eq!(long_ago, None, "old results do not count");
    }

    #[test]
    fn rates_are_computed_since_the_work_began() {
        // Two at a time, a minute each, for two minutes: four runs, and six of ten are left.
        let plan = plan(8, 1);
        let first = [done(60.0, 60.0), done(60.0, 60.0), done(60.0, 0.0), done(60.0, 0.0)];
        let pace = pace_of(&plan, &first).unwrap();
        assert_near(pace.over, 120.0);
        assert_near(pace.runs, 120.0);
        assert_near(pace.epochs, 1200.0);
        assert_near(pace.left.unwrap().as_secs_f64(), 180.0);
    }

    #[test]
    fn run_that_began_before_the_hour_counts_by_its_share() {
        let pace = pace_of(&plan(8, 1), &[done(7200.0, 0.0)]).unwrap();
        assert_near(pace.over, 3600.0);
        assert_near(pace.epochs, 5.0);
        assert_near(pace.runs, 1.0);
    }

    #[test]
    fn runs_in_progress_count_by_their_progress() {
        // No run is done yet: one has finished four epochs in ten minutes, the other none.
        let plan = plan(2, 1);
        let pace = pace_of(&plan, &[running(1, 4, 600.0), running(1, 0, 600.0)]).unwrap();
        assert_near(pace.runs, 0.0);
        assert_near(pace.epochs, 24.0);
        assert_near(pace.left.unwrap().as_secs_f64(), (6.0 + 10.0 + 20.0) / 24.0 * 3600.0);
        // The resumed run had eight epochs before; it is assumed to be as fast as the others.
        let with_resumed = pace_of(&plan, &[running(1, 4, 600.0), running(2, 9, 600.0)]).unwrap();
        assert_near(with_resumed.epochs, 48.0);
        let just_resumed = pace_of(&plan, &[running(1, 4, 600.0), running(2, 9, 0.0)]).unwrap();
        assert_near(just_resumed.epochs, 24.0);
    }

    #[test]
    fn time_left_is_at_least_that_of_the_longest_chain() {
        // A hundred networks at once in the last minute; a chain of 21 tickets is left, one after the other.
        let plan = plan(100, 20);
        let statuses: Vec<RunStatus> = (plan.runs.iter())
            .map(|planned| if planned.run.inputs.is_empty() { done(60.0, 0.0) } else { pending() })
            .collect();
        let pace = pace(&plan, &statuses, now()).unwrap();
        assert_near(pace.left.unwrap().as_secs_f64(), 20.0 * 60.0);
    }

    #[test]
    fn failed_and_blocked_runs_do_not_add_to_the_time_left() {
        let plan = plan(2, 1);
        let lost = |state| RunStatus { state, ..pending() };
        let mut statuses = vec![done(60.0, 0.0), lost(RunState::Failed), lost(RunState::Blocked), pending()];
        assert_near(pace(&plan, &statuses, now()).unwrap().left.unwrap().as_secs_f64(), 60.0);
        statuses[3] = done(60.0, 0.0);
        assert_eq!(pace(&plan, &statuses, now()).unwrap().left, None);
    }

    #[test]
    fn plan_without_active_runs_has_no_time_left() {
        let plan = plan(4, 1);
        assert!(pace_of(&plan, &[done(60.0, 30.0)]).unwrap().left.is_some(), "between two runs");
        assert_eq!(pace_of(&plan, &[done(60.0, 300.0)]).unwrap().left, None);
    }

    /// Covers a node whose clock is ahead, a file system whose clock was set back, and results that were just copied.
    #[test]
    fn clocks_that_differ_give_plausible_numbers() {
        let plan = plan(8, 1);
        let cases = [
            vec![done(60.0, -1e5)],
            vec![running(1, 3, -1e5)],
            vec![running(2, 3, -1e5)],
            vec![done(0.0, 0.0); 5],
            vec![done(-5.0, 0.0)],
            vec![done(60.0, -1e9), running(1, 10, -1.0), running(3, 0, 1e9)],
        ];
        for (index, first) in cases.iter().enumerate() {
            assert!(first.iter().all(|status| status.age(now()).unwrap() < Duration::from_secs(2_000_000_000)));
            let Some(pace) = pace_of(&plan, first) else { continue };
            assert!((SHORTEST..=RECENT).contains(&pace.over), "{index}: {pace:?}");
            let most = 3600.0 / SHORTEST * first.len() as f64;
            assert!(pace.runs >= 0.0 && pace.runs <= most, "{index}: {pace:?}");
            assert!(pace.epochs >= 0.0 && pace.epochs <= 10.0 * most, "{index}: {pace:?}");
        }
    }

    #[test]
    fn resources_are_added_up_and_memory_is_the_peak() {
        let usage = |peak, gpus, gpu_peak_memory| {
            Some(Usage { peak_memory: Some(peak), gpus, gpu_peak_memory, ..Usage::default() })
        };
        let with = |seconds, usage| {
            let mut status = done(seconds, 0.0);
            status.result.as_mut().unwrap().usage = usage;
            status
        };
        let runs = [
            with(1800.0, usage(100, 2.0, Some(7))),
            with(7200.0, usage(300, 0.25, None)),
            with(3600.0, usage(200, 0.0, Some(9))),
            with(60.0, None),
            pending(),
        ];
        let spent = spent(&runs);
        assert_near(spent.seconds, 12_660.0);
        assert_near(spent.gpu_hours, 1.0 + 0.5);
        assert_eq!((spent.peak_memory, spent.gpu_peak_memory, spent.unknown), (Some(300), Some(9), 1));
    }

    fn utilization(gpus: u32, mean: f64, last_minute: Option<f64>) -> GpuUtilization {
        GpuUtilization { gpus, mean: Some(mean), lowest: Some(mean), last_minute, peak_memory: None }
    }

    #[test]
    fn gpu_utilization_so_far_is_weighted_by_gpu_hours() {
        let with = |seconds, gpus, gpu_utilization| {
            let mut status = done(seconds, 0.0);
            let usage = Usage { gpus, gpu_utilization, ..Usage::default() };
            status.result.as_mut().unwrap().usage = Some(usage);
            status
        };
        let measured = [
            with(3600.0, 2.0, Some(utilization(2, 80.0, None))),
            with(1800.0, 4.0, Some(utilization(4, 50.0, None))),
            with(9000.0, 1.0, None),
        ];
        assert_near(spent(&measured).gpu_utilization.unwrap(), 65.0);
        assert_eq!(spent(&measured[2..]).gpu_utilization, None);
    }

    #[test]
    fn gpu_load_counts_running_runs_that_were_measured_for_a_minute() {
        let on = |gpu_utilization| RunStatus { gpu_utilization, ..running(1, 0, 0.0) };
        let finished = RunStatus { gpu_utilization: Some(utilization(1, 1.0, Some(1.0))), ..done(60.0, 0.0) };
        let statuses = [
            on(Some(utilization(3, 10.0, Some(90.0)))),
            on(Some(utilization(1, 90.0, Some(10.0)))),
            on(Some(utilization(1, 0.0, None))),
            on(None),
            finished,
        ];
        assert_eq!(gpu_load(&statuses), Some(GpuLoad { mean: 70.0, low: vec![1] }));
        assert_eq!(gpu_load(&statuses[2..]), None);
    }

    #[test]
    fn busiest_host_comes_first() {
        let on = |host: &str| RunStatus { host: Some(host.to_string()), ..running(1, 0, 0.0) };
        let idle = RunStatus { host: Some("node9".to_string()), ..done(1.0, 0.0) };
        let statuses = [on("node2"), on("node3"), on("node1"), on("node3"), idle];
        assert_eq!(hosts(&statuses), [("node3", 2), ("node1", 1), ("node2", 1)]);
    }
}
