//! Starts agents on nodes, and asks them to carry out operations.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use winsign_core::text::{printable, shell_word};
use winsign_core::{Diagnostic, exit};

use super::agent::{Failure, Greeting, Request, SAME_VERSION};

/// The time within which an agent must start.
const START: Duration = Duration::from_secs(60);
/// The time within which an agent must carry out an operation. Operations that fail are tried again for a minute.
const PATIENCE: Duration = Duration::from_secs(90);
/// The time within which an agent must end, also if it removes the folder.
const END: Duration = Duration::from_secs(15);

/// A node, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// The node of this process.
    Here,
    /// A host, by ssh.
    Host(String),
    /// A node of this Slurm allocation, by srun.
    Allocated(String),
}

impl Node {
    fn name(&self) -> &str {
        match self {
            Node::Here => "this node",
            Node::Host(name) | Node::Allocated(name) => name,
        }
    }

    /// Returns a command that starts `winsign` with these arguments and variables on the node.
    fn command(&self, winsign: &Path, arguments: &[&str], variables: &[(&str, String)]) -> Command {
        match self {
            Node::Here => {
                let mut command = Command::new(winsign);
                command.args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
                command
            }
            Node::Host(name) => {
                let mut ssh = Command::new("ssh");
                // There is nobody to type a password.
                ssh.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", name]);
                ssh.arg(shell_command(winsign, arguments, variables));
                ssh
            }
            Node::Allocated(name) => {
                let mut srun = Command::new("srun");
                srun.args(["--overlap", "--nodes=1", "--ntasks=1", "--export=ALL", "--mpi=none", "--nodelist", name]);
                srun.arg(winsign).args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
                srun
            }
        }
    }
}

fn shell_command(winsign: &Path, arguments: &[&str], variables: &[(&str, String)]) -> String {
    let variables = variables.iter().map(|(name, value)| format!("{name}={}", shell_word(value)));
    let program = winsign.display().to_string();
    let words = [program.as_str()].into_iter().chain(arguments.iter().copied()).map(shell_word);
    ["exec".to_string(), "env".to_string()].into_iter().chain(variables).chain(words).collect::<Vec<_>>().join(" ")
}

/// An agent, which ends when it is dropped.
pub(super) struct Agent {
    pub(super) node: Node,
    /// The name of the node in messages.
    pub(super) name: String,
    child: Child,
    requests: Option<ChildStdin>,
    answers: Receiver<String>,
    /// Why the agent answers no more.
    silent: Option<Failure>,
}

impl Agent {
    /// Starts an agent on a node, in the folder of the check, or in the directory where it creates that folder.
    pub(super) fn start(
        node: &Node,
        directory: &Path,
        creates: bool,
        variables: &[(&str, String)],
    ) -> Result<(Agent, Greeting), Diagnostic> {
        let winsign =
            std::env::current_exe().map_err(winsign_core::Error::io("find the program", Path::new("winsign")))?;
        let directory = directory.display().to_string();
        let mut arguments = vec!["store", "agent", &directory];
        arguments.extend(creates.then_some("--create"));
        let mut command = node.command(&winsign, &arguments, variables);
        // A process group of its own: Ctrl-C ends this process, and the agents end by themselves, after cleaning up.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().map_err(|error| {
            Diagnostic::new(format!("cannot start {program}: {error}"), format!("install {program}"))
        })?;
        let last_message = keep_last_line(child.stderr.take().expect("standard error is piped"));
        let answers = pass_lines_on(child.stdout.take().expect("standard output is piped"));
        let (requests, name) = (child.stdin.take(), node.name().to_string());
        let mut agent = Agent { node: node.clone(), name, child, requests, answers, silent: None };
        match agent.read_greeting() {
            Some(Err(failure)) => {
                let message = format!("cannot check the store on {}: {}", agent.name, failure.message);
                Err(Diagnostic::with_code(exit::IO, message, failure.help.as_deref()))
            }
            Some(Ok(greeting)) => {
                if *node == Node::Here {
                    agent.name = greeting.host.clone();
                }
                Ok((agent, greeting))
            }
            None => Err(agent.did_not_start(&program, &last_message)),
        }
    }

    /// Returns the first line that is a greeting. A login shell may print others before it.
    fn read_greeting(&mut self) -> Option<Result<Greeting, Failure>> {
        let began = Instant::now();
        loop {
            let line = self.answers.recv_timeout(START.saturating_sub(began.elapsed())).ok()?;
            if let Ok(greeting) = serde_json::from_str(&line) {
                return Some(greeting);
            }
        }
    }

    fn did_not_start(&mut self, program: &str, last_message: &Mutex<String>) -> Diagnostic {
        self.end();
        // The last message may come after the end of standard output.
        std::thread::sleep(Duration::from_millis(100));
        let message = printable(&last_message.lock().expect("no panic under the lock"));
        let reason = match self.child.try_wait() {
            Ok(Some(status)) if status.code().is_some() => format!("{status}: {message}"),
            _ => format!("it does not respond within {} s", START.as_secs()),
        };
        let help = match &self.node {
            Node::Here => "see whether the file system hangs".to_string(),
            Node::Host(name) => format!("check that `ssh {name}` works without a password and that winsign is there"),
            Node::Allocated(_) => "check that winsign and the directory are on the nodes".to_string(),
        };
        let message = format!("cannot check the store on {}: {program}: {reason}", self.name);
        Diagnostic::with_code(exit::FAILURE, message, Some(&help))
    }

    /// Sends a request, to which [`Agent::receive`] returns the answer.
    pub(super) fn send(&mut self, request: &Request) {
        let line = serde_json::to_string(request).expect("requests are plain data");
        if let Some(requests) = &mut self.requests {
            // If the agent has ended, there will be no answer.
            let _ = writeln!(requests, "{line}").and_then(|()| requests.flush());
        }
    }

    pub(super) fn receive<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        if let Some(failure) = &self.silent {
            return Err(failure.clone());
        }
        let answer = self.answers.recv_timeout(PATIENCE).map_err(describe_silence);
        self.silent = answer.as_ref().err().map(|failure| self.localize(failure.clone()));
        let answer = answer.and_then(|line| parse_answer(&line));
        answer.map_err(|failure| self.localize(failure))
    }

    /// Adds the name of the node.
    fn localize(&self, failure: Failure) -> Failure {
        Failure { node: Some(self.name.clone()), ..failure }
    }

    pub(super) fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, Failure> {
        self.send(request);
        self.receive()
    }

    /// Lets the agent end, and kills it if it does not.
    fn end(&mut self) {
        drop(self.requests.take());
        let began = Instant::now();
        while began.elapsed() < END {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.end();
    }
}

fn describe_silence(error: RecvTimeoutError) -> Failure {
    let message = match error {
        RecvTimeoutError::Timeout => format!("no response within {} s", PATIENCE.as_secs()),
        RecvTimeoutError::Disconnected => "the agent of the check has ended".to_string(),
    };
    Failure::new(message, "see whether the file system or the node hangs")
}

fn parse_answer<T: DeserializeOwned>(line: &str) -> Result<T, Failure> {
    let malformed = |error| Failure::new(format!("cannot read an answer: {error}"), SAME_VERSION);
    serde_json::from_str::<Result<T, Failure>>(line).map_err(malformed)?
}

/// Asks all agents at once, and returns their answers.
pub(super) fn ask_all<T: DeserializeOwned>(agents: &mut [Agent], request: &Request) -> Result<Vec<T>, Failure> {
    agents.iter_mut().for_each(|agent| agent.send(request));
    agents.iter_mut().map(Agent::receive).collect()
}

fn pass_lines_on(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}

fn keep_last_line(stream: impl std::io::Read + Send + 'static) -> Arc<Mutex<String>> {
    let last = Arc::new(Mutex::new(String::new()));
    let kept = last.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok).filter(|line| !line.trim().is_empty()) {
            *kept.lock().expect("no panic under the lock") = line;
        }
    });
    last
}
