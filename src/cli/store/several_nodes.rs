//! The checks on several nodes, or on several processes of one.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::json;
use winsign_core::owner;

use super::agent::{Failure, Look, NEW, Request, Times, Way};
use super::agents::{Agent, ask_all};
use super::finding::{Finding, Verdict, seconds};
use super::one_node::or_unfit;

pub(super) const SAME_FILES: &str = "same files";

/// Checks that all nodes see a file that the first one writes.
pub(super) fn check_same_files(agents: &mut [Agent]) -> Finding {
    or_unfit(SAME_FILES, read_same_file(agents))
}

fn read_same_file(agents: &mut [Agent]) -> Result<Finding, Failure> {
    let (name, text) = ("same".to_string(), format!("{}", std::process::id()));
    agents[0].ask::<()>(&Request::Write { name: name.clone(), text: text.clone() })?;
    let seen: Vec<Option<String>> = ask_all(agents, &Request::Read { name })?;
    let blind = agents.iter().zip(&seen).find(|(_, seen)| seen.as_ref() != Some(&text));
    Ok(match blind {
        Some((agent, _)) => {
            let message = format!("{} does not see a file that {} wrote", agent.name, agents[0].name);
            Finding::unfit(SAME_FILES, message, "choose a directory that the nodes share")
        }
        None => Finding::fine(SAME_FILES, format!("{} nodes see the same file", agents.len())),
    })
}

const EXCLUSIVE: &str = "exclusive creation";
const ROUNDS: usize = 50;

/// Checks that exactly one agent creates a file which all of them try to create at the same time.
pub(super) fn check_exclusive_creation(agents: &mut [Agent]) -> Finding {
    or_unfit(EXCLUSIVE, create_exclusively(agents))
}

fn create_exclusively(agents: &mut [Agent]) -> Result<Finding, Failure> {
    let mut winners = vec![];
    for round in 0..ROUNDS {
        let created: Vec<bool> = ask_all(agents, &Request::Create { name: format!("claim-{round}") })?;
        winners.push(created.into_iter().filter(|created| *created).count());
    }
    Ok(judge_winners(&winners, agents.len()))
}

fn judge_winners(winners: &[usize], processes: usize) -> Finding {
    let rounds = winners.len();
    let several = winners.iter().filter(|winners| **winners > 1).count();
    let none = winners.iter().filter(|winners| **winners == 0).count();
    let finding = match (several, none) {
        (0, 0) => Finding::fine(
            EXCLUSIVE,
            format!("each of {rounds} files was created by exactly one of {processes} processes"),
        ),
        _ => {
            let message = format!("of {rounds} files {several} were created by several processes, {none} by none");
            Finding::unfit(EXCLUSIVE, message, "choose another file system: runs would be executed twice")
        }
    };
    finding.measuring(json!({ "rounds": rounds, "several_winners": several, "no_winner": none }))
}

pub(super) const VISIBILITY: &str = "visibility";
/// The time for which another node may not see a change.
const LIMIT: Duration = Duration::from_secs(75);
/// The time after which other nodes see a change late.
const PROMPT: f64 = 1.0;

/// The seconds until all other nodes see what one has written; `None` if they do not see it.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Visibility {
    opened_name: Option<f64>,
    listing: Option<f64>,
    content: Option<f64>,
    /// A name that was looked up before, without opening the directory.
    name: Option<f64>,
}

impl Visibility {
    /// Returns the seconds in which changes are seen in the ways that winsign uses; `None` if they are not seen.
    pub(super) fn latest(&self) -> Option<f64> {
        [self.opened_name, self.listing, self.content].into_iter().try_fold(0.0, |latest, each| Some(each?.max(latest)))
    }
}

/// Measures when the other nodes see what the first one has written.
pub(super) fn measure_visibility(agents: &mut [Agent]) -> Result<Visibility, Failure> {
    Ok(Visibility {
        opened_name: time_until_seen(agents, Way::OpenedName)?,
        listing: time_until_seen(agents, Way::Listing)?,
        content: time_until_seen(agents, Way::Content)?,
        name: time_until_seen(agents, Way::Name)?,
    })
}

fn time_until_seen(agents: &mut [Agent], way: Way) -> Result<Option<f64>, Failure> {
    let (writer, others) = agents.split_first_mut().expect("there are several agents");
    let look = Look { name: format!("seen-{way:?}"), way };
    let write = |text: &str| Request::Write { name: look.name.clone(), text: text.to_string() };
    if way == Way::Content {
        writer.ask::<()>(&write("old"))?;
    }
    // Now the other nodes may remember what they have seen.
    ask_all::<bool>(others, &Request::Look(look.clone()))?;
    others.iter_mut().for_each(|agent| agent.send(&Request::Await(look.clone(), LIMIT)));
    let began = Instant::now();
    let written = writer.ask::<()>(&write(NEW));
    let seen: Result<Vec<bool>, Failure> = others.iter_mut().map(Agent::receive).collect();
    written?;
    Ok(seen?.into_iter().all(|seen| seen).then_some(began.elapsed().as_secs_f64()))
}

pub(super) fn judge_visibility(visibility: &Visibility) -> Finding {
    let describe = |time: Option<f64>| time.map_or(format!("not within {} s", LIMIT.as_secs()), seconds);
    let text = format!(
        "other nodes see a new name after {}, a list with it after {}, a replaced file after {}; without opening the directory they \
         see a new name that they looked up before after {}",
        describe(visibility.opened_name),
        describe(visibility.listing),
        describe(visibility.content),
        describe(visibility.name),
    );
    let finding = match visibility.latest() {
        None => Finding::unfit(VISIBILITY, text, "mount the file system without caches for names and attributes"),
        Some(latest) if latest > PROMPT => {
            let help = "reduce the time for which the mount options let nodes cache names and attributes";
            Finding::poor(Verdict::Slow, VISIBILITY, text, help)
        }
        Some(_) => Finding::fine(VISIBILITY, text),
    };
    finding.measuring(visibility)
}

const CLOCKS: &str = "clocks";
/// The difference of clocks from which they disagree, in seconds. The answers of nodes take a part of it.
const DISAGREEMENT: f64 = 2.0;

/// The clock of a node, and the times of files that it writes, ahead of the clock of this process, in seconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Offset {
    node: f64,
    file: f64,
}

/// Compares the clocks of the nodes and the times of files that they write.
pub(super) fn check_clocks(agents: &mut [Agent]) -> Finding {
    or_unfit(CLOCKS, measure_clocks(agents))
}

fn measure_clocks(agents: &mut [Agent]) -> Result<Finding, Failure> {
    let offsets: Result<Vec<Offset>, Failure> = agents.iter_mut().enumerate().map(measure_offset).collect();
    Ok(judge_clocks(&offsets?))
}

fn measure_offset((number, agent): (usize, &mut Agent)) -> Result<Offset, Failure> {
    let began = Instant::now();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let times: Times = agent.ask(&Request::Stamp { name: format!("stamp-{number}") })?;
    let middle = now + began.elapsed().as_secs_f64() / 2.0;
    Ok(Offset { node: times.node - middle, file: times.file - middle })
}

fn judge_clocks(offsets: &[Offset]) -> Finding {
    let nodes = spread(offsets.iter().map(|offset| offset.node));
    let files = spread(offsets.iter().map(|offset| offset.file));
    let text =
        format!("the clocks of the nodes differ by {nodes:.1} s, the times of files that they write by {files:.1} s");
    let finding = if files > DISAGREEMENT {
        let message = format!(
            "{text}: each node gives files its own time, so a lost node may be noticed up to {files:.0} s late"
        );
        Finding::poor(Verdict::Slow, CLOCKS, message, "synchronize the clocks of the nodes")
    } else if nodes > DISAGREEMENT {
        Finding::fine(CLOCKS, format!("{text}: the server gives files their times"))
    } else {
        Finding::fine(CLOCKS, text)
    };
    finding.measuring(json!({ "nodes": nodes, "files": files, "offsets": offsets }))
}

fn spread(values: impl Iterator<Item = f64> + Clone) -> f64 {
    values.clone().fold(f64::MIN, f64::max) - values.fold(f64::MAX, f64::min)
}

const TAKEOVER: &str = "takeover";
const LEASE: &str = "lease";
/// The shortest time without a heartbeat after which the holder of a lease is lost, in this check.
const SHORTEST: f64 = 4.0;

/// Returns the seconds after which the holder of a lease is lost in this check: the nodes must see several heartbeats in them.
pub(super) fn lost_after(visibility: &Visibility) -> u64 {
    let latest = visibility.latest().unwrap_or_default();
    (SHORTEST + 3.0 * latest).min(owner::lost_after().as_secs_f64()).ceil() as u64
}

/// Checks that a lease whose holder lives is respected, and that it is taken over after its holder was killed.
pub(super) fn check_takeover(mut holder: Agent, watcher: &mut Agent, lost_after: u64) -> Finding {
    let living = or_unfit(TAKEOVER, respect_living(&mut holder, watcher, lost_after));
    if living.verdict == Verdict::Unfit {
        return living;
    }
    holder.send(&Request::Die);
    or_unfit(TAKEOVER, take_over(watcher, lost_after))
}

fn lease() -> String {
    LEASE.to_string()
}

fn respect_living(holder: &mut Agent, watcher: &mut Agent, lost_after: u64) -> Result<Finding, Failure> {
    let taken: Option<String> = holder.ask(&Request::TakeLease { name: lease() })?;
    if let Some(other) = taken {
        let message = format!("{} cannot take a new lease, which {other} is said to hold", holder.name);
        return Ok(Finding::unfit(TAKEOVER, message, "choose another file system"));
    }
    let lost: bool = watcher.ask(&Request::IsLost { name: lease() })?;
    let holder_seen: Option<String> = watcher.ask(&Request::TakeLease { name: lease() })?;
    Ok(match lost || holder_seen.is_none() {
        true => {
            let message = format!("a living process of {} counts as lost after {lost_after} s", holder.name);
            let help = "set WINSIGN_LOST_AFTER to more than the time after which nodes see changes";
            Finding::unfit(TAKEOVER, message, help)
        }
        false => Finding::fine(TAKEOVER, "a living process is respected"),
    })
}

fn take_over(watcher: &mut Agent, lost_after: u64) -> Result<Finding, Failure> {
    let limit = Duration::from_secs(5 * lost_after) + LIMIT;
    let began = Instant::now();
    while watcher.ask::<Option<String>>(&Request::TakeLease { name: lease() })?.is_some() {
        if began.elapsed() > limit {
            let message = format!("the lease of a killed process is not taken over within {} s", limit.as_secs());
            return Ok(Finding::unfit(TAKEOVER, message, "synchronize the clocks of the nodes"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let taken = began.elapsed().as_secs_f64();
    let message = format!(
        "a living process is respected, a killed one is replaced after {} (a process is lost after {lost_after} s here, after {} s in \
         studies)",
        seconds(taken),
        owner::lost_after().as_secs()
    );
    Ok(Finding::fine(TAKEOVER, message).measuring(json!({ "lost_after": lost_after, "taken_over_after": taken })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_with_two_creators_or_none_is_unfit() {
        let verdict = |winners: &[usize]| judge_winners(winners, 2).verdict;
        assert_eq!(verdict(&[1, 1, 1]), Verdict::Fine);
        assert_eq!(verdict(&[1, 2, 1]), Verdict::Unfit);
        assert_eq!(verdict(&[1, 1, 0]), Verdict::Unfit);
    }

    #[test]
    fn late_looks_are_slow_only_in_ways_that_winsign_uses() {
        let prompt = Visibility { opened_name: Some(0.01), listing: Some(0.02), content: Some(0.3), name: None };
        let verdict = |visibility| judge_visibility(&visibility).verdict;
        assert_eq!(verdict(prompt), Verdict::Fine);
        assert_eq!(verdict(Visibility { listing: Some(5.0), ..prompt }), Verdict::Slow);
        assert_eq!(verdict(Visibility { content: None, ..prompt }), Verdict::Unfit);
    }

    #[test]
    fn times_of_files_that_differ_are_slow_and_those_of_nodes_are_not() {
        let verdict = |node, file| judge_clocks(&[Offset { node: 0.0, file: 0.1 }, Offset { node, file }]).verdict;
        assert_eq!(verdict(0.5, 0.5), Verdict::Fine);
        assert_eq!(verdict(-300.0, 0.1), Verdict::Fine);
        assert_eq!(verdict(-300.0, -300.0), Verdict::Slow);
    }
}
