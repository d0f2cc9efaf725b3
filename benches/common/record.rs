//! The machine and the commit in records of benchmarks of winsign alone, and functions that these benchmarks share.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// A sweep with 48 chains of 13 tickets, 9 kinds of transfers from each chain to 13 initializations, paths between the 78 pairs of
/// transfers that inherit the last level's signs, and paths from 3 tickets of each chain to their ψ₀.
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

/// The machine of a measurement.
#[derive(Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_bytes: u64,
    /// The load average of the minute before; other programs were running if it is above 0.
    pub load_before: f64,
}

/// The date of a measurement, and the measured version.
#[derive(Serialize)]
pub struct Origin {
    pub date: jiff::Timestamp,
    /// The version of winsign.
    pub winsign: &'static str,
    /// The measured commit; `None` outside a git repository.
    pub commit: Option<String>,
    /// Whether the program's sources differ from that commit.
    pub changed: bool,
}

impl Machine {
    pub fn current() -> Result<Machine> {
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
            load_before: load_average()?,
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

/// Returns the load average of the last minute.
pub fn load_average() -> Result<f64> {
    Ok(fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or_default().parse()?)
}

/// Writes `results/bench/NAME.json`, and prints its path.
pub fn write(name: &str, record: &impl Serialize) -> Result<()> {
    let folder = Path::new(REPOSITORY).join("results/bench");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(format!("{name}.json")), serde_json::to_string_pretty(record)? + "\n")?;
    println!("written to results/bench/{name}.json");
    Ok(())
}

/// Creates a command without the environment variables of winsign and Slurm.
pub fn clean_command(program: &str) -> Command {
    let mut command = Command::new(program);
    let is_setting = |name: &str| name.starts_with("WINSIGN_") || name.starts_with("SLURM_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_setting)) {
        command.env_remove(name);
    }
    command
}

/// Formats a number of seconds.
pub fn format_seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

/// Returns the output of git in the repository; `None` without git or outside a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(REPOSITORY).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
