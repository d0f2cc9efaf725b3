//! The sweep file: a YAML text becomes a [`Sweep`], in which every setting has one value and nothing is left to choose.
//!
//! The text becomes a tree that knows its places (`document`); the tree is read against one table of keys (`schema`)
//! into blocks of axes (`file`, `values`) with their `zip` and `exclude`; and what the blocks leave open, `defaults`
//! fill while they are combined into chains, transfers and connects (`expand`, `combine`).

mod columns;
mod combine;
mod defaults;
mod document;
mod error;
mod exclude;
mod expand;
mod file;
mod json_schema;
mod schema;
#[cfg(test)]
mod tests;
mod values;
mod zip;

use std::fs;
use std::io::{self, Read};
use std::path::Path;

pub use error::SweepError;
pub use json_schema::json_schema;

use crate::run::settings::{Between, Digest, Inherit, Masks, Method, Precision, Problem, Seeds, Training};
use error::{Fault, grouped, nearest};

/// Larger than any sweep file that people write.
const MAX_BYTES: usize = 1 << 20;

/// A sweep file, expanded: one chain of tickets per combination of ticket settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// From the file, or else the file's name without its extension.
    pub name: String,
    pub chains: Vec<Chain>,
    pub resources: Resources,
}

/// One chain of iterative pruning, and all that is done with its tickets.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    pub problem: Problem,
    pub method: Method,
    /// The ticket found elsewhere that this chain consists of, if it is one.
    pub imported: Option<Digest>,
    /// The last level; the chain has this many tickets and one more, level 0.
    pub levels: u32,
    pub prune_ratio: f64,
    /// Of IMP: the epoch of level 0 that weights are put back to, at most the last; 0 is the initialization.
    pub rewind_epoch: Option<u32>,
    /// The training of level 0.
    pub warmup: Training,
    /// The training of every other level.
    pub training: Training,
    pub seeds: Seeds,
    pub axes: Axes,
    pub transfers: Vec<TransferBlock>,
    pub connects: Vec<ConnectBlock>,
}

/// One transfer: of one level, to one initialization.
#[derive(Debug, Clone, PartialEq)]
pub struct TransferBlock {
    /// 0 where nothing is inherited from a ticket.
    pub level: u32,
    pub inherit: Inherit,
    /// 0 where no signs are inherited.
    pub flip: f64,
    pub training: Training,
    pub seeds: Seeds,
    /// Beside those of the chain; all of them where nothing is inherited from a ticket.
    pub axes: Axes,
}

/// One request to join networks of one level.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectBlock {
    pub between: Between,
    pub level: u32,
    /// Whose transfers are joined; none where the ends are tickets.
    pub inherit: Option<Inherit>,
    pub masks: Masks,
    pub points: u32,
    pub batch: u32,
    pub precision: Precision,
    pub axes: Axes,
}

/// What tells this combination apart besides method, level, inherit, between and transfer seeds: the other settings
/// that are axes in the file, by their names in it, with their values as text. Reports show them as further columns.
pub type Axes = Vec<(String, String)>;

/// How runs are executed; nothing here can change a result, except that `threads` may change the last bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Runs side by side; one per core unless given.
    pub jobs: Option<u32>,
    /// threads per run; 1 unless given.
    pub threads: Option<u32>,
    /// How often a failing run is started again before it counts as failed.
    pub retries: u32,
}

/// Reads a sweep file.
pub fn read(path: &Path) -> Result<Sweep, SweepError> {
    let file_name = path.display().to_string();
    let text = read_text(path).map_err(|fault| fault.in_file(&file_name, ""))?;
    parse(&file_name, &text)
}

/// Understands the text of a sweep file.
pub fn parse(file_name: &str, text: &str) -> Result<Sweep, SweepError> {
    understand(file_name, text).map_err(|fault| fault.in_file(file_name, text))
}

fn understand(file_name: &str, text: &str) -> Result<Sweep, Fault> {
    if text.len() > MAX_BYTES {
        return Err(too_large());
    }
    let root = document::read(text)?;
    let file = file::File::read(&root)?;
    let chains = expand::expand(&file)?;
    let stem = Path::new(file_name).file_stem().unwrap_or_default();
    let name = file.name.unwrap_or_else(|| file::name_from(&stem.to_string_lossy()));
    Ok(Sweep { name, chains, resources: file.resources })
}

fn read_text(path: &Path) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    let opened = fs::File::open(path).and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes));
    match opened {
        Ok(_) if bytes.len() > MAX_BYTES => Err(too_large()),
        Ok(_) => String::from_utf8(bytes).map_err(|error| {
            let message = format!("this is not a text file: byte {} is not UTF-8", error.utf8_error().valid_up_to());
            Fault::new(message, "give a sweep file in YAML, saved as UTF-8")
        }),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn too_large() -> Fault {
    let message = format!("this file has more than {} bytes", grouped(MAX_BYTES as u128));
    Fault::new(message, "a sweep file is a page of text: use ranges (`1..100`) for long lists")
}

fn unreadable(path: &Path, error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::NotFound => {
            let help = match similar_file(path) {
                Some(similar) => format!("did you mean {similar}?"),
                None => "give the path of a sweep file, such as sweeps/quickstart.yaml".to_string(),
            };
            Fault::new("there is no such file", help)
        }
        io::ErrorKind::IsADirectory => Fault::new("this is a directory", "give the sweep file in it"),
        _ => Fault::new(format!("cannot read this file: {error}"), "check its permissions"),
    }
}

/// A file beside a missing one that has nearly its name.
fn similar_file(path: &Path) -> Option<String> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let files = fs::read_dir(directory).ok()?.flatten().filter(|entry| entry.path().is_file());
    let names: Vec<String> = files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let wanted = path.file_name()?.to_str()?;
    let name = nearest(wanted, names.iter().map(String::as_str))?;
    Some(path.with_file_name(name).display().to_string())
}
