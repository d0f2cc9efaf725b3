//! `--ssh`: executes a command on another machine, such as the login node of a cluster.
//!
//! The files that the command names are copied there by rsync, and the same command runs there, with its output here. A report is
//! copied back.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitStatus};
use std::str::FromStr;

use winsign_core::text::shell_word;
use winsign_core::{Diagnostic, exit, owner};
use winsign_exec::batch::profile::Profile;
use winsign_sweep::plan::build::build;

use super::{Command, Common, output, report};

/// Where a command is executed: `LOGIN`, or `LOGIN:DIR`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    /// What ssh takes: a host, or a user and a host.
    login: String,
    /// The directory, relative to the home directory there if it is not absolute.
    directory: String,
}

/// The directory in the home directory there, unless another is given.
const DIRECTORY: &str = "winsign";

/// The commands that work on a store elsewhere, for messages.
const COMMANDS: &str = "plan, submit, cancel, hold, release, retry, status, show, logs, report, digest and store";

impl FromStr for Remote {
    type Err = String;

    fn from_str(text: &str) -> Result<Remote, String> {
        let (login, directory) = text.split_once(':').unwrap_or((text, DIRECTORY));
        let directory = directory.strip_prefix("~/").unwrap_or(directory);
        if login.is_empty() || login.starts_with('-') || login.contains(char::is_whitespace) || directory.is_empty() {
            return Err("must be a host, user@host, or host:directory".to_string());
        }
        Ok(Remote { login: login.to_string(), directory: directory.to_string() })
    }
}

/// Executes the command line of this process elsewhere, and returns its exit code.
pub(crate) fn execute(remote: &Remote, command: &Command, common: &Common) -> Result<u8, Diagnostic> {
    let report = match command {
        Command::Report(arguments) => Some(arguments),
        Command::Plan { .. }
        | Command::Submit(_)
        | Command::Cancel(_)
        | Command::Hold(_)
        | Command::Release(_)
        | Command::Retry(_)
        | Command::Status(_)
        | Command::Show { .. }
        | Command::Logs(_)
        | Command::Digest(_)
        | Command::Store(_) => None,
        _ => {
            let help = format!("log in there for it; --ssh applies to {COMMANDS}");
            return Err(Diagnostic::new("this command cannot be executed by ssh", help));
        }
    };
    let (arguments, files) = translate(std::env::args_os().skip(1), &remote.files());
    remote.upload(&files)?;
    let code = remote.run(&arguments)?;
    if let Some(report) = report.filter(|_| code == exit::SUCCESS) {
        remote.download_report(report, common)?;
    }
    Ok(code)
}

/// Returns the arguments of the command elsewhere, and the files of this machine that they name, which get the same path under
/// `copies` there: arguments, or values after `=`, that are files here, and a profile that is found by its name.
fn translate(given: impl Iterator<Item = OsString>, copies: &str) -> (Vec<String>, Vec<PathBuf>) {
    let mut words: Vec<(String, String)> = vec![];
    for argument in given {
        let text = argument.to_string_lossy().into_owned();
        match (text.split_once('='), words.last_mut()) {
            (Some((option, value)), _) if option.starts_with("--") => {
                words.push((option.to_string(), format!("={value}")));
            }
            (_, Some((option, value))) if takes_value_here(option) && value.is_empty() => *value = format!("={text}"),
            _ if text.starts_with("--") => words.push((text, String::new())),
            _ => words.push((String::new(), text)),
        }
    }
    let (mut translated, mut files) = (vec![], vec![]);
    for (option, value) in words.into_iter().filter(|(option, _)| option != SSH) {
        let name = value.strip_prefix('=').filter(|_| !option.is_empty()).unwrap_or(&value);
        match file_here(&option, name) {
            Some(path) => {
                let equals = if option.is_empty() { "" } else { "=" };
                translated.push(format!("{option}{equals}{copies}{}", path.display()));
                files.push(path);
            }
            None => translated.push(option + &value),
        }
    }
    (translated, files)
}

const SSH: &str = "--ssh";
const PROFILE: &str = "--profile";

/// Whether the argument after an option is its value, among the options that need to be understood here.
fn takes_value_here(option: &str) -> bool {
    [SSH, PROFILE].contains(&option)
}

/// Returns the file of this machine that a value names.
fn file_here(option: &str, value: &str) -> Option<PathBuf> {
    let path = std::path::absolute(value).ok().filter(|path| path.is_file());
    let profile = || Profile::find(value).ok()?.path.and_then(|path| std::path::absolute(path).ok());
    path.or_else(|| profile().filter(|_| option == PROFILE))
}

impl Remote {
    /// Returns the directory of copies of this machine's files, relative to the directory there.
    fn files(&self) -> String {
        format!("from/{}", owner::host())
    }

    /// Copies files, with their whole path, since different files may have the same name.
    fn upload(&self, files: &[PathBuf]) -> Result<(), Diagnostic> {
        if files.is_empty() {
            return Ok(());
        }
        let folder = format!("{}/{}", self.directory, self.files());
        let mut rsync = Process::new("rsync");
        rsync.args(["--archive", "--relative", "--no-implied-dirs"]);
        rsync.arg(format!("--rsync-path=mkdir -p {} && rsync", shell_word(&folder)));
        rsync.args(files).arg(format!("{}:{}/", self.login, shell_word(&folder)));
        self.copy(rsync)
    }

    /// Runs a command there, and returns its exit code.
    fn run(&self, arguments: &[String]) -> Result<u8, Diagnostic> {
        let words = arguments.iter().map(|argument| shell_word(argument)).collect::<Vec<_>>().join(" ");
        let folder = shell_word(&self.directory);
        // Programs of a bundle may lie in `bin/` of the directory.
        let script = format!("mkdir -p {folder} && cd {folder} && PATH=$PWD/bin:$PATH && exec winsign {words}");
        let mut ssh = Process::new("ssh");
        if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
            // Progress bars, colors, and Ctrl-C.
            ssh.arg("-t");
        }
        // A login shell has the modules and the PATH of the user.
        ssh.arg(&self.login).arg(format!("exec bash -lc {}", shell_word(&script)));
        let status = run(&mut ssh)?;
        match status.code() {
            Some(255) => Err(self.failed(&ssh, status)),
            Some(126 | 127) => {
                let message = format!("cannot start winsign on {}", self.login);
                let place = format!("{}/bin", self.directory);
                Err(Diagnostic::new(message, format!("put it on the PATH there, or unpack a bundle into {place}")))
            }
            Some(code) => Ok(code as u8),
            None => Ok(exit::INTERRUPTED),
        }
    }

    /// Copies a report to the same place here: the directory of `--out`, or that of the study in the store.
    fn download_report(&self, report: &report::Arguments, common: &Common) -> Result<(), Diagnostic> {
        let place = match (report.out(), report.sources().first().filter(|path| path.is_file())) {
            (Some(out), _) => out.to_path_buf(),
            // As JSON it is only printed.
            (None, _) if common.json => return Ok(()),
            (None, Some(sweep)) => common.store.join("reports").join(build(&winsign_sweep::read(sweep)?).name),
            (None, None) => return Ok(()),
        };
        let here = match place.is_absolute() {
            true => Path::new("reports").join(place.file_name().unwrap_or_default()),
            false => place.clone(),
        };
        let there = Path::new(&self.directory).join(&place);
        std::fs::create_dir_all(&here).map_err(winsign_core::Error::io("create", &here))?;
        let mut rsync = Process::new("rsync");
        rsync.arg("--archive").arg(format!("{}:{}/", self.login, shell_word(&there.to_string_lossy())));
        rsync.arg(format!("{}/", here.display()));
        self.copy(rsync)?;
        match common.json {
            true => Ok(()),
            false => output::text(&format!("copied to {}\n", here.display())).map(drop),
        }
    }

    fn copy(&self, mut rsync: Process) -> Result<(), Diagnostic> {
        let status = run(&mut rsync)?;
        if status.success() { Ok(()) } else { Err(self.failed(&rsync, status)) }
    }

    fn failed(&self, command: &Process, status: ExitStatus) -> Diagnostic {
        let program = name_of(command);
        let how = match status.code() {
            Some(code) => format!("exit code {code}"),
            None => format!("signal {}", status.signal().unwrap_or_default()),
        };
        let message = format!("{program} to {} failed: {how}", self.login);
        let help = format!("check that `ssh {} true` works; its messages are above", self.login);
        Diagnostic::with_code(exit::FAILURE, message, Some(&help))
    }
}

/// Runs a program with the terminal of this process.
fn run(command: &mut Process) -> Result<ExitStatus, Diagnostic> {
    let program = name_of(command);
    command.status().map_err(|error| {
        Diagnostic::new(format!("cannot start {program}: {error}"), format!("install {program}, or log in yourself"))
    })
}

fn name_of(command: &Process) -> String {
    command.get_program().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_are_logins_with_a_directory() {
        let remote = |text: &str| text.parse::<Remote>().map(|remote| (remote.login, remote.directory));
        let pair = |login: &str, directory: &str| Ok((login.to_string(), directory.to_string()));
        assert_eq!(remote("me@login"), pair("me@login", "winsign"));
        assert_eq!(remote("login:~/study"), pair("login", "study"));
        assert_eq!(remote("login:/scratch/me"), pair("login", "/scratch/me"));
        for wrong in ["", ":dir", "login:", "-oProxyCommand=x", "a b"] {
            assert!(remote(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_of_this_machine_are_translated() {
        let folder = tempfile::tempdir().unwrap();
        let sweep = folder.path().join("study.yaml");
        std::fs::write(&sweep, "").unwrap();
        let sweep = sweep.to_str().unwrap();
        let profile = format!("--profile={sweep}");
        let given =
            ["--ssh", "login", "submit", sweep, &profile, "--store", "results", "--ssh=login", "--time=1:00", "-v"];
        let (arguments, files) = translate(given.iter().map(OsString::from), "from/laptop");
        let copy = format!("from/laptop{sweep}");
        let copied = format!("--profile={copy}");
        assert_eq!(arguments, ["submit", &copy, &copied, "--store", "results", "--time=1:00", "-v"]);
        assert_eq!(files, [Path::new(sweep), Path::new(sweep)]);
        // A name that no file here has is looked up there.
        let (arguments, files) = translate(["--profile", "no-such", sweep].iter().map(OsString::from), "copies");
        assert_eq!((arguments, files.len()), (vec!["--profile=no-such".to_string(), format!("copies{sweep}")], 1));
    }
}
