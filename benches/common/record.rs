//! What the records of our own benches say about where and of what they are, and what those benches share.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// 48 chains of 13 tickets; 9 kinds of transfers from each to 13 initializations; paths between the 78 pairs of those
/// that inherit the last level's signs, and from 3 tickets of a chain to their ψ₀.
pub const TEN_THOUSAND: &str = "\
name: ten-thousand
dataset: digits
architecture: resnet8
ticket:
  method: [lrr, aws]
  levels: 12
  seed: 1..24
transfer:
  level: [4, 8, last]
  inherit: [sign, mask, retrain]
  seed: 101..113
connect:
  - {between: seeds, level: last, inherit: sign}
  - between: norm-init
";

/// Where something was measured.
#[derive(Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_bytes: u64,
    /// Processes that wanted a core in the minute before: above 0, the compiler or others were at work.
    pub load_before: f64,
}

/// When it was measured, and what.
#[derive(Serialize)]
pub struct Origin {
    pub date: jiff::Timestamp,
    /// The version of winsign.
    pub winsign: &'static str,
    /// The commit that was measured; none outside of a git repository.
    pub commit: Option<String>,
    /// Whether the program's sources differ from that commit.
    pub changed: bool,
}

impl Machine {
    pub fn this() -> Result<Machine> {
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_string())
        };
        let memory = field(&fs::read_to_string("/proc/meminfo")?, "MemTotal").unwrap_or_default();
        let kilobytes: u64 = memory.trim_end_matches(" kB").parse()?;
        let cpu = field(&fs::read_to_string("/proc/cpuinfo")?, "model name");
        Ok(Machine {
            cpu: cpu.unwrap_or_else(|| "unknown CPU".to_string()),
            cores: std::thread::available_parallelism()?.get(),
            memory_bytes: kilobytes * 1024,
            load_before: load()?,
        })
    }
}

impl Origin {
    pub fn now() -> Origin {
        let sources = ["status", "--porcelain", "--", "src", "Cargo.toml", "Cargo.lock", "build.rs"];
        Origin {
            date: jiff::Timestamp::now(),
            winsign: env!("CARGO_PKG_VERSION"),
            commit: git(&["rev-parse", "HEAD"]),
            changed: git(&sources).is_some_and(|changes| !changes.is_empty()),
        }
    }
}

/// Processes that wanted a core in the last minute.
pub fn load() -> Result<f64> {
    Ok(fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or_default().parse()?)
}

/// Writes `results/bench/NAME.json`, and says so.
pub fn write(name: &str, record: &impl Serialize) -> Result<()> {
    let folder = Path::new(REPOSITORY).join("results/bench");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("{name}.json")), serde_json::to_string_pretty(record)? + "\n")?;
    println!("written to results/bench/{name}.json");
    Ok(())
}

/// A program without the caller's own settings, which are not what is measured.
pub fn undisturbed(program: &str) -> Command {
    let mut command = Command::new(program);
    let ours = |name: &str| name.starts_with("WINSIGN_") || name.starts_with("SLURM_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
        command.env_remove(name);
    }
    command
}

/// Seconds, for people.
pub fn text(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

/// What git prints in the repository; none if there is no git or no repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(REPOSITORY).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
