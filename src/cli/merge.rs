//! `winsign merge`: merges the stores of several clusters.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use winsign_core::error::{Error, Result};
use winsign_core::merge::{Whole, agree};
use winsign_core::results::{Outcome, RunResult};
use winsign_core::text::plural;
use winsign_core::{Diagnostic, RunDirectory, RunId, State, Store, exit};

use super::{Common, output};

pub(crate) const HELP: &str = "\
Examples:
  winsign merge /mnt/north/results /mnt/south/results --into results
  winsign merge north --into results --dry-run          show what would be copied

Every run that is done in a STORE and not in the target is copied, with its network, metrics and
log. Checksums are verified (a dry run compares only sizes and times). Runs that are not done, and
runs that are being executed in the target, are skipped. The STOREs are not changed. After an
interruption, run the same command again.

If two stores have different results for a run, both are listed and the result in the target is
kept. The exit code is 3 if there are such conflicts or damaged files.";

/// Copying is mostly waiting for disks, and each thread holds one network in memory.
const THREADS: usize = 4;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The stores to read from; the first one that has a run takes precedence
    #[arg(required = true, value_name = "STORE")]
    from: Vec<PathBuf>,
    /// The target store; created if it does not exist [default: --store]
    #[arg(long, value_name = "STORE")]
    into: Option<PathBuf>,
    /// Show what would be copied, without copying
    #[arg(long)]
    dry_run: bool,
}

/// The outcome of merging a run of one store.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "fate", rename_all = "kebab-case")]
enum Fate {
    /// It was copied to the target.
    Adopted {
        /// A damaged file of the target that was set aside.
        replaced: Option<PathBuf>,
    },
    /// The target has the same result.
    Same,
    /// The target has a different result, which is kept.
    Conflict {
        held: Box<Held>,
        found: Box<Held>,
    },
    /// It could not be read.
    Damaged {
        reason: String,
    },
    /// An attempt in the target is running.
    Alive {
        owner: String,
    },
    NotDone,
}

/// A result, and the store it was found in.
#[derive(Debug, Clone, Serialize)]
struct Held {
    store: PathBuf,
    result: RunResult,
}

/// A run of one store, and the outcome of merging it.
#[derive(Debug, Clone, Serialize)]
struct Merged {
    id: RunId,
    label: String,
    store: PathBuf,
    #[serde(flatten)]
    fate: Fate,
}

/// The state of a run in the target.
enum Known {
    Done(Box<Held>),
    Alive {
        owner: String,
    },
    /// To be copied; a damaged file may have to be set aside.
    Missing {
        damaged: Option<PathBuf>,
    },
}

pub(crate) fn command(common: &Common, arguments: &Arguments) -> std::result::Result<u8, Diagnostic> {
    let into = arguments.into.as_ref().unwrap_or(&common.store);
    let sources = open_all(&arguments.from, into)?;
    let mut holders: BTreeMap<RunId, Vec<usize>> = BTreeMap::new();
    for (at, source) in sources.iter().enumerate() {
        for id in source.runs()? {
            holders.entry(id).or_default().push(at);
        }
    }
    // Opened before anything is copied, since it may have another format or be read-only.
    let target = if arguments.dry_run { Store::open(into)? } else { Store::create(into)? };
    let merge = Merge { sources, target, dry: arguments.dry_run };
    let merged = merge.all(&holders.into_iter().collect::<Vec<_>>(), &bar(common))?;
    let trouble = merged.iter().any(|merged| matches!(merged.fate, Fate::Conflict { .. } | Fate::Damaged { .. }));
    match common.json {
        true => output::json(&merge.to_json(&merged))?,
        false => output::text(&merge.describe(&merged))?,
    };
    Ok(if trouble { exit::RUNS_FAILED } else { exit::SUCCESS })
}

/// Opens the stores to read from, each once, and checks them against the target.
fn open_all(from: &[PathBuf], into: &Path) -> std::result::Result<Vec<Store>, Diagnostic> {
    let usage = |message: String, help: &str| Err(Diagnostic::new(message, help));
    let target = real(into)?;
    let mut stores: Vec<(Identity, Store)> = vec![];
    for path in from {
        if !path.is_dir() {
            return usage(
                format!("store {} does not exist", path.display()),
                "give the directories used as `winsign run --store`",
            );
        }
        if !path.join("runs").is_dir() {
            return usage(
                format!("{} is not a store: it has no directory `runs`", path.display()),
                "give the directories used as `winsign run --store`",
            );
        }
        let source = real(path)?;
        if source.identity == target.identity {
            return usage(
                format!("cannot merge {} into {}: they are the same store", path.display(), into.display()),
                "give a different target with --into",
            );
        }
        if target.path.starts_with(&source.path) {
            return usage(
                format!("cannot write to {}: it is inside {}, which is only read", into.display(), path.display()),
                "give a target outside of it with --into",
            );
        }
        if source.path.starts_with(target.path.join("runs")) {
            return usage(
                format!("cannot read {}: it is in the directory of runs of {}", path.display(), into.display()),
                "move it elsewhere first",
            );
        }
        if stores.iter().all(|(known, _)| *known != source.identity) {
            stores.push((source.identity, Store::open(path)?));
        }
    }
    Ok(stores.into_iter().map(|(_, store)| store).collect())
}

/// The device and inode number of a directory; `None` if it does not exist.
type Identity = Option<(u64, u64)>;

/// A resolved path.
struct Real {
    path: PathBuf,
    identity: Identity,
}

/// Resolves a path, which does not have to exist.
fn real(path: &Path) -> Result<Real> {
    let path = std::path::absolute(path).map_err(Error::io("find", path))?;
    let there = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    let rest = path.strip_prefix(there).expect("an ancestor is a prefix");
    let canonical = there.canonicalize().map_err(Error::io("find", there))?;
    let identity = path.metadata().ok().map(|found| (found.dev(), found.ino()));
    Ok(Real { path: canonical.join(rest), identity })
}

fn bar(common: &Common) -> ProgressBar {
    let visible = !common.quiet && !common.json && std::io::stderr().is_terminal();
    let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("merge {bar:30} {pos}/{len} runs, {per_sec:.0}, {eta} left");
    let bar = ProgressBar::with_draw_target(None, target);
    bar.set_style(style.expect("the template is well-formed").progress_chars("━╸─"));
    bar
}

struct Merge {
    sources: Vec<Store>,
    target: Store,
    dry: bool,
}

impl Merge {
    /// Merges all runs, ordered by identity; stops at the first error.
    fn all(&self, runs: &[(RunId, Vec<usize>)], bar: &ProgressBar) -> Result<Vec<Merged>> {
        bar.set_length(runs.len() as u64);
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let merged = Mutex::new(vec![]);
        let work = || -> Result<()> {
            while !stop.load(Ordering::Relaxed)
                && let Some((id, holders)) = runs.get(next.fetch_add(1, Ordering::Relaxed))
            {
                match self.one(id, holders) {
                    Ok(more) => merged.lock().expect("no worker panics").extend(more),
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
                bar.inc(1);
            }
            Ok(())
        };
        let ended: Vec<Result<()>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..THREADS.min(runs.len())).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(|worker| worker.join().expect("workers do not panic")).collect()
        });
        bar.finish_and_clear();
        ended.into_iter().collect::<Result<()>>()?;
        let mut merged = merged.into_inner().expect("no worker panicked");
        merged.sort_by(|one: &Merged, other: &Merged| one.id.cmp(&other.id));
        Ok(merged)
    }

    /// Merges one run from the stores that have it.
    fn one(&self, id: &RunId, holders: &[usize]) -> Result<Vec<Merged>> {
        let target = self.target.run(id);
        let mut known = None;
        let mut merged = vec![];
        for source in holders.iter().map(|&at| &self.sources[at]) {
            let directory = source.run(id);
            let label = match directory.settings() {
                Ok(file) => file.map(|file| file.label).unwrap_or_default(),
                Err(_) => String::new(),
            };
            let fate = match directory.result() {
                Ok(None) => Fate::NotDone,
                Ok(Some(result)) => {
                    let found = Held { store: source.root().to_path_buf(), result };
                    let known = match &mut known {
                        Some(known) => known,
                        none => none.insert(self.look(&target)?),
                    };
                    self.join(&directory, &target, found, known)?
                }
                Err(error) => unreadable(error)?,
            };
            merged.push(Merged { id: id.clone(), label, store: source.root().to_path_buf(), fate });
        }
        Ok(merged)
    }

    /// Returns the state of a run in the target.
    fn look(&self, target: &RunDirectory) -> Result<Known> {
        Ok(match target.state() {
            Ok(State::Done(result)) => {
                Known::Done(Box::new(Held { store: self.target.root().to_path_buf(), result: *result }))
            }
            Ok(State::Running { claim, .. }) => Known::Alive { owner: claim.owner.to_string() },
            Ok(State::Failed { .. } | State::Idle { .. }) => Known::Missing { damaged: None },
            Err(Error::Damaged { path, .. }) => Known::Missing { damaged: Some(path) },
            Err(error) => return Err(error),
        })
    }

    /// Copies a run if the target lacks it; compares the results otherwise.
    fn join(&self, source: &RunDirectory, target: &RunDirectory, found: Held, known: &mut Known) -> Result<Fate> {
        let replaced = match known {
            Known::Alive { owner } => return Ok(Fate::Alive { owner: owner.clone() }),
            Known::Done(held) if agree(&held.result, &found.result) => return Ok(Fate::Same),
            Known::Done(held) => return Ok(Fate::Conflict { held: held.clone(), found: Box::new(found) }),
            Known::Missing { damaged } => damaged.clone(),
        };
        let missing = || Error::NotARun { path: source.path.clone() };
        let file = match source.settings().and_then(|file| file.ok_or_else(missing)) {
            Ok(file) => file,
            Err(error) => return unreadable(error),
        };
        if !self.dry {
            let whole = match Whole::read(source, file, found.result.clone()) {
                Ok(whole) => whole,
                Err(error) => return unreadable(error),
            };
            if let Some(damaged) = &replaced {
                target.set_aside(damaged)?;
            }
            let faster = match whole.adopt(target) {
                Ok(true) => None,
                Ok(false) => Some("another attempt".to_string()),
                Err(Error::Held { owner, .. }) => Some(owner),
                Err(Error::Superseded { later, .. }) => Some(format!("attempt {later}")),
                Err(error) => return Err(error),
            };
            if let Some(owner) = faster {
                // Handled as if it had been there from the beginning.
                *known = self.look(target)?;
                return match known {
                    Known::Missing { .. } => Ok(Fate::Alive { owner }),
                    _ => self.join(source, target, found, known),
                };
            }
        }
        *known = Known::Done(Box::new(found));
        Ok(Fate::Adopted { replaced })
    }

    fn to_json(&self, merged: &[Merged]) -> serde_json::Value {
        let of = |wanted: fn(&Fate) -> bool| merged.iter().filter(move |merged| wanted(&merged.fate));
        let count = |wanted: fn(&Fate) -> bool| of(wanted).count();
        let list = |wanted: fn(&Fate) -> bool| of(wanted).collect::<Vec<_>>();
        serde_json::json!({
            "into": self.target.root().to_string_lossy(),
            "dry_run": self.dry,
            "runs": {
                "adopted": count(|fate| matches!(fate, Fate::Adopted { .. })),
                "same": count(|fate| matches!(fate, Fate::Same)),
                "conflicts": count(|fate| matches!(fate, Fate::Conflict { .. })),
                "damaged": count(|fate| matches!(fate, Fate::Damaged { .. })),
                "alive": count(|fate| matches!(fate, Fate::Alive { .. })),
                "not_done": count(|fate| matches!(fate, Fate::NotDone)),
            },
            "adopted": list(|fate| matches!(fate, Fate::Adopted { .. })),
            "conflicts": list(|fate| matches!(fate, Fate::Conflict { .. })),
            "damaged": list(|fate| matches!(fate, Fate::Damaged { .. })),
            "alive": list(|fate| matches!(fate, Fate::Alive { .. })),
        })
    }

    fn describe(&self, merged: &[Merged]) -> String {
        let mut text = String::new();
        for merged in merged {
            let Merged { id, label, store, fate } = merged;
            let store = store.display();
            let _ = match fate {
                Fate::Conflict { held, found } => {
                    writeln!(text, "conflict: {label} ({id})\n    {}\n    {}", in_short(held), in_short(found))
                }
                Fate::Damaged { reason } => writeln!(text, "damaged: {label} ({id}) in {store}: {reason}"),
                Fate::Alive { owner } => {
                    writeln!(text, "skipped: {label} ({id}) is being executed by {owner} in the target")
                }
                Fate::Adopted { replaced: Some(path) } => {
                    let again = if self.dry { "would replace" } else { "replaces" };
                    writeln!(text, "{label} ({id}) of {store} {again} a damaged result: {}", path.display())
                }
                Fate::Adopted { replaced: None } | Fate::Same | Fate::NotDone => Ok(()),
            };
        }
        let count = |wanted: fn(&Fate) -> bool| merged.iter().filter(|merged| wanted(&merged.fate)).count();
        let adopted = count(|fate| matches!(fate, Fate::Adopted { .. }));
        let taken = if self.dry { "would be copied" } else { "copied" };
        let mut parts = vec![format!("{} {taken}", plural(adopted, "run"))];
        let mut add = |count: usize, what: &str| {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        };
        add(count(|fate| matches!(fate, Fate::Same)), "already there");
        add(count(|fate| matches!(fate, Fate::Conflict { .. })), "in conflict");
        add(count(|fate| matches!(fate, Fate::Damaged { .. })), "damaged");
        add(count(|fate| matches!(fate, Fate::Alive { .. })), "being executed");
        add(count(|fate| matches!(fate, Fate::NotDone)), "not done");
        let _ = writeln!(text, "{}: {}", self.target.root().display(), parts.join(", "));
        text
    }
}

/// Reports a damaged run, so that the others continue; other errors are returned.
fn unreadable(error: Error) -> Result<Fate> {
    match error {
        Error::Damaged { .. } | Error::Format { .. } | Error::NotARun { .. } => {
            Ok(Fate::Damaged { reason: error.to_string() })
        }
        other => Err(other),
    }
}

/// Describes a result with all digits, since two may differ only in the last: `north: test error 8.25 %, loss 0.31, network 3f09c2aa`.
fn in_short(Held { store, result }: &Held) -> String {
    let numbers = match &result.outcome {
        Outcome::Ticket(ticket) => format!("test error {} %, loss {}", ticket.test_error, ticket.test_loss),
        Outcome::Transfer(transfer) => format!("test error {} %, loss {}", transfer.test_error, transfer.test_loss),
        Outcome::Connect(connect) => {
            let highest = connect.path.points.iter().map(|point| point.test_error).fold(f64::NAN, f64::max);
            format!("barrier {}, test error up to {highest} %", connect.path.barrier)
        }
        Outcome::Matrix(matrix) => {
            let highest = matrix.pairs.iter().map(|pair| pair.path.barrier).fold(f64::NAN, f64::max);
            format!("{} paths, barriers up to {highest}", matrix.pairs.len())
        }
        Outcome::Plane(plane) => {
            let highest = plane.points.iter().map(|point| point.test_error).fold(f64::NAN, f64::max);
            format!("{} points, test error up to {highest} %", plane.points.len())
        }
    };
    let network = result.network.as_ref().map(|network| format!(", network {}", &network.digest[..8]));
    let network = network.unwrap_or_default();
    format!("{}: {numbers}{network}, on {} at {:.0}", store.display(), result.host, result.finished)
}
