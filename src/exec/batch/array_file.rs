//! The file with the runs of an array. A job reads its own runs and their inputs alone, so that its start takes as long in a
//! large study as in a small one.
//!
//! The file has a line for each run, after those of its inputs, then a line for each task, and then the offsets of the lines of
//! tasks as numbers of equal width. A line refers to others by their offsets in the file, and has a checksum.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use winsign_core::error::{Error, Result};
use winsign_core::settings::Settings;
use winsign_core::{Run, RunId, files};

/// A run of an array, or an input of such a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArrayRun {
    pub label: String,
    pub settings: Settings,
    pub inputs: Vec<RunId>,
}

/// The line of a run.
#[derive(Serialize, Deserialize)]
struct RunLine {
    #[serde(flatten)]
    run: ArrayRun,
    /// The offsets of the lines of its inputs.
    inputs_at: Vec<u64>,
}

/// The line of a task.
#[derive(Serialize, Deserialize)]
struct TaskLine {
    /// The offsets of the lines of its runs.
    runs_at: Vec<u64>,
    /// Its number, since a file that was cut has another list of offsets at its end; `None` in files that older versions wrote.
    #[serde(default)]
    task: Option<usize>,
}

impl TaskLine {
    fn check(self, path: &Path, task: usize) -> Result<TaskLine> {
        match self.task.is_none_or(|number| number == task) {
            true => Ok(self),
            false => Err(Error::damaged(path, format!("it has another task in place of task {task}"))),
        }
    }
}

/// The number of bytes of an offset in the list of tasks, with the end of its line.
const WIDTH: usize = 16;

/// The usual size of a line. The lines of a task are not next to each other, so reading ahead is in vain.
const LINE: usize = 1_024;

/// Returns the content of the file: the runs of these tasks and their inputs, each with its identity and after its inputs.
pub(super) fn encode(runs: &[(RunId, ArrayRun)], tasks: &[Vec<RunId>]) -> Vec<u8> {
    let mut bytes = vec![];
    let mut offsets: HashMap<&RunId, u64> = HashMap::new();
    for (id, run) in runs {
        let inputs_at = run.inputs.iter().map(|input| offsets[input]).collect();
        offsets.insert(id, bytes.len() as u64);
        bytes.extend(files::seal_line(&RunLine { run: run.clone(), inputs_at }));
    }
    let mut list = String::new();
    for (number, task) in tasks.iter().enumerate() {
        list += &format!("{:0width$}\n", bytes.len(), width = WIDTH - 1);
        let runs_at = task.iter().map(|run| offsets[run]).collect();
        bytes.extend(files::seal_line(&TaskLine { runs_at, task: Some(number) }));
    }
    bytes.extend(list.into_bytes());
    bytes
}

/// Returns the runs that a task of an array with `tasks` tasks executes and their inputs, each run after its inputs.
pub(super) fn read_task(path: &Path, tasks: usize, task: usize) -> Result<Vec<ArrayRun>> {
    let missing = |what: &str| Error::damaged(path, format!("there is no {what}"));
    let (file, length) = files::open_if_exists(path)?.ok_or_else(|| missing("such file"))?;
    let from_end = tasks.checked_sub(task).filter(|count| *count > 0).ok_or_else(|| missing("such task"))? * WIDTH;
    let mut file = Lines { path, file: BufReader::with_capacity(LINE, file) };
    let at = file.read_offset(length.checked_sub(from_end as u64).ok_or_else(|| missing("such task"))?)?;
    let TaskLine { runs_at: mut wanted, .. } = file.read_line::<TaskLine>(at)?.check(path, task)?;
    let mut runs: BTreeMap<u64, ArrayRun> = BTreeMap::new();
    while let Some(at) = wanted.pop() {
        if let Entry::Vacant(entry) = runs.entry(at) {
            let RunLine { run, inputs_at } = file.read_line(at)?;
            entry.insert(run);
            wanted.extend(inputs_at);
        }
    }
    Ok(runs.into_values().collect())
}

/// Returns all runs of an array with `tasks` tasks and their inputs.
pub(super) fn read_all(path: &Path, tasks: usize) -> Result<Vec<ArrayRun>> {
    let (runs, _) = read_lines(path, tasks)?;
    Ok(runs.into_iter().map(|(_, run)| run).collect())
}

/// Returns the runs of each task of an array with `tasks` tasks.
pub(super) fn read_tasks(path: &Path, tasks: usize) -> Result<Vec<Vec<RunId>>> {
    let (runs, tasks) = read_lines(path, tasks)?;
    let ids: HashMap<u64, RunId> =
        runs.into_iter().map(|(at, run)| (at, Run::new(run.settings, run.inputs).id)).collect();
    let run = |at: &u64| ids.get(at).cloned().ok_or_else(|| Error::damaged(path, "a task refers to no run"));
    tasks.iter().map(|task| task.runs_at.iter().map(run).collect()).collect()
}

/// A run with its offset in the file.
type RunAt = (u64, ArrayRun);

/// Returns the runs, and the lines of the tasks.
fn read_lines(path: &Path, tasks: usize) -> Result<(Vec<RunAt>, Vec<TaskLine>)> {
    let bytes = files::read_if_exists(path)?.ok_or_else(|| missing(path))?;
    let (mut runs, mut found, mut at) = (vec![], vec![], 0);
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        if found.len() == tasks {
            break;
        }
        match line.starts_with(b"{\"runs_at\"") {
            true => found.push(files::unseal::<TaskLine>(path, line)?.check(path, found.len())?),
            false => runs.push((at, files::unseal::<RunLine>(path, line)?.run)),
        }
        at += line.len() as u64;
    }
    match found.len() == tasks {
        true => Ok((runs, found)),
        false => Err(Error::damaged(path, format!("it has {} of {tasks} tasks", found.len()))),
    }
}

/// Returns all runs of an array that was written by version 1.
pub(super) fn read_version_1(path: &Path) -> Result<Vec<ArrayRun>> {
    #[derive(Deserialize)]
    struct ArrayFile {
        runs: Vec<ArrayRun>,
    }
    let file = files::read_sealed::<ArrayFile>(path)?.ok_or_else(|| missing(path))?;
    Ok(file.runs)
}

fn missing(path: &Path) -> Error {
    Error::damaged(path, "the file is missing")
}

/// A file whose lines are read by their offsets.
struct Lines<'a> {
    path: &'a Path,
    file: BufReader<File>,
}

impl Lines<'_> {
    fn read_line<T: DeserializeOwned>(&mut self, at: u64) -> Result<T> {
        let mut line = vec![];
        let read = self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.read_until(b'\n', &mut line));
        read.map_err(Error::io("read", self.path))?;
        files::unseal(self.path, &line)
    }

    /// Reads an offset in the list of tasks.
    fn read_offset(&mut self, at: u64) -> Result<u64> {
        let mut number = [0; WIDTH];
        let read = self.file.seek(SeekFrom::Start(at)).and_then(|_| self.file.read_exact(&mut number));
        read.map_err(Error::io("read", self.path))?;
        let parsed = std::str::from_utf8(&number).ok().and_then(|text| text.trim_end().parse().ok());
        parsed.ok_or_else(|| Error::damaged(self.path, "its list of tasks does not consist of numbers"))
    }
}

#[cfg(test)]
mod tests {
    use winsign_sweep::parse;
    use winsign_sweep::plan::build::build;

    use super::*;

    /// Returns the runs of a study, and tasks with its transfers.
    fn study() -> (Vec<(RunId, ArrayRun)>, Vec<Vec<RunId>>) {
        let text = "dataset: digits\narchitecture: resnet8\nticket: {method: lrr, levels: 2}\n\
                    transfer: {inherit: sign, level: [1, 2], seed: 2..4}\n";
        let plan = build(&parse("study.yaml", text).unwrap());
        let describe = |run: &Run| {
            let Run { id, settings, inputs } = run.clone();
            (id, ArrayRun { label: "a run".to_string(), settings, inputs })
        };
        let runs: Vec<(RunId, ArrayRun)> = plan.runs.iter().map(|planned| describe(&planned.run)).collect();
        let transfers: Vec<RunId> = runs[3..].iter().map(|(id, _)| id.clone()).collect();
        (runs, transfers.chunks(2).map(<[RunId]>::to_vec).collect())
    }

    fn read(bytes: &[u8], task: usize) -> Result<Vec<RunId>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.runs");
        std::fs::write(&path, bytes).unwrap();
        let runs = read_task(&path, 3, task)?;
        Ok(runs.into_iter().map(|run| Run::new(run.settings, run.inputs).id).collect())
    }

    #[test]
    fn task_has_its_runs_after_their_inputs_and_no_others() {
        let (runs, tasks) = study();
        let bytes = encode(&runs, &tasks);
        let ids: Vec<&RunId> = runs.iter().map(|(id, _)| id).collect();
        let expected = |tickets: usize, transfers: &[RunId]| -> Vec<RunId> {
            ids[..tickets].iter().map(|id| (*id).clone()).chain(transfers.iter().cloned()).collect()
        };
        assert_eq!(read(&bytes, 0).unwrap(), expected(2, &tasks[0]), "transfers of level 1 do not need level 2");
        assert_eq!(read(&bytes, 2).unwrap(), expected(3, &tasks[2]));
        assert!(read(&bytes, 3).unwrap_err().to_string().contains("there is no such task"));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.runs");
        std::fs::write(&path, &bytes).unwrap();
        let all: Vec<ArrayRun> = runs.iter().map(|(_, run)| run.clone()).collect();
        assert_eq!(read_all(&path, 3).unwrap(), all);
        assert_eq!(read_tasks(&path, 3).unwrap(), tasks);
    }

    #[test]
    fn cut_file_is_an_error() {
        let (runs, tasks) = study();
        let bytes = encode(&runs, &tasks);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.runs");
        assert!(read_all(&path, 3).is_err(), "it is missing");
        for lines in 1..=3 {
            let cut = &bytes[..bytes.len() - lines * WIDTH];
            assert!((0..3).all(|task| read(cut, task).is_err()), "{lines} lines less");
        }
        let end_of_tasks = bytes.len() - 3 * WIDTH - 1;
        for length in (0..end_of_tasks).step_by(7) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(read_all(&path, 3).is_err() && read_tasks(&path, 3).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn changed_byte_is_noticed_or_does_not_matter() {
        let (runs, tasks) = study();
        let bytes = encode(&runs, &tasks);
        let expected = read(&bytes, 1).unwrap();
        for at in (0..bytes.len()).step_by(7) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(read(&changed, 1).is_err() || read(&changed, 1).unwrap() == expected, "byte {at}");
        }
    }
}
