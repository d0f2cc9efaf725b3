//! Processes that take turns, and the tables and records of their speeds, for benchmarks against PyTorch.
//!
//! A side is a process that prints the number of parameters of its network. Then, for each line of its standard input, it does
//! its work once and prints the time. Each output is a line of JSON.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A process that does its work once for each line of its input.
pub struct Side {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// The number of parameters of its network.
    pub parameters: i64,
    /// The speed in each turn, in images per second, or in repetitions per second if the side does not count images.
    pub rates: Vec<f64>,
    /// The peak of memory, without that before the first turn, in bytes; `None` if the side does not print it.
    pub memory: Option<f64>,
}

impl Side {
    pub fn start(command: &mut Command) -> Result<Side> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut side = Side { child, input, output, parameters: 0, rates: vec![], memory: None };
        side.parameters = side.read()?["parameters"].as_i64().ok_or("no parameters")?;
        Ok(side)
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(serde_json::from_str(&line).map_err(|error| format!("a side printed no JSON: {error}: {line}"))?)
    }

    pub fn take_turn(&mut self) -> Result<()> {
        writeln!(self.input, "go")?;
        let reply = self.read()?;
        let number = |key: &str| reply[key].as_f64().ok_or(format!("no {key}"));
        self.rates.push(number("images").unwrap_or(1.0) / number("seconds")?);
        self.memory = reply["memory"].as_f64();
        Ok(())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets all sides take turns. The first turn warms up, and does not count.
pub fn take_turns(sides: &mut [Side], turns: usize, what: &str) -> Result<()> {
    assert!(sides.iter().all(|side| side.parameters == sides[0].parameters), "the networks differ");
    for turn in 0..=turns {
        for side in &mut *sides {
            side.take_turn()?;
            if turn == 0 {
                side.rates.clear();
            }
        }
        eprintln!("{what}: turn {turn} of {turns}");
    }
    Ok(())
}

/// Returns the median over turns of the ratio within a turn.
pub fn ratio(ours: &Side, theirs: &Side) -> f64 {
    median(ours.rates.iter().zip(&theirs.rates).map(|(ours, theirs)| ours / theirs).collect())
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the value of an option of the command line.
pub fn find_option(arguments: &[String], name: &str) -> Option<String> {
    arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1).cloned())
}

/// Writes `results/bench/NAME.json`, with `what` as the description of the rows.
pub fn write(name: &str, what: &str, turns: usize, rows: &[Value]) -> Result<()> {
    let record = json!({
        "date": jiff::Timestamp::now(),
        "commit": commit(),
        "processor": processor(),
        "threads of the machine": std::thread::available_parallelism().ok(),
        "what": what,
        "turns": turns,
        "rows": rows,
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/bench").join(name).with_extension("json");
    fs::create_dir_all(path.parent().expect("a file in a folder"))?;
    fs::write(&path, format!("{record:#}\n"))?;
    Ok(())
}

/// Returns git's name of the current commit, with `-dirty` if files have changed since; `None` outside a repository.
fn commit() -> Option<String> {
    let mut git = Command::new("git");
    git.current_dir(env!("CARGO_MANIFEST_DIR")).args(["describe", "--always", "--dirty", "--exclude", "*"]);
    let output = git.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_string())
}

/// Returns Linux's name of the processor.
fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

/// Prints the rows as a table; `unit` is the unit of the speeds.
pub fn print_table(rows: &[Value], unit: &str) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["", &format!("ours, {unit}"), "theirs", "ratio", "goal", "ours, MB/image", "theirs"]);
    for row in rows {
        let number = |key: &str, digits| row[key].as_f64().map_or(String::new(), |value| format!("{value:.digits$}"));
        let memory = |whose: &str| number(&format!("{whose} memory per image, MB"), 1);
        let name = row["row"].as_str().unwrap_or_default().to_string();
        let cells = [name, number("ours", 1), number("theirs", 1), number("ratio", 2), number("goal", 2)];
        table.add_row(cells.into_iter().chain([memory("our"), memory("their")]));
    }
    (1..=6)
        .for_each(|column| table.column_mut(column).expect("there are seven").set_cell_alignment(CellAlignment::Right));
    println!("{table}");
}
