//! Other launchers: a command of the user, such as `jsrun -n {ranks} -c {threads}`.

use std::path::Path;

use tokio::process::Command;
use winsign_core::Diagnostic;
use winsign_sweep::yaml::{listed, quoted};

use super::Options;
use super::launcher::{Launcher, Output, Placement};
use super::slots::Seat;

/// What `{…}` can be in a command.
const PLACEHOLDERS: &[&str] = &["ranks", "threads", "gpus", "hosts"];

const RANKS: &str = "{ranks}";
const HOSTS: &str = "{hosts}";

/// Starts runs by a command whose placeholders are filled in for each run. The command must pass its standard input on to
/// rank 0, and SIGUSR1 to all ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    words: Vec<String>,
    /// GPUs per rank.
    gpus: u32,
}

impl Template {
    /// Whether a text is a command rather than a name.
    pub(crate) fn is_command(text: &str) -> bool {
        text.contains(|character: char| character.is_whitespace() || "{}".contains(character))
    }

    /// Parses a command; words are separated and quoted as in a shell.
    pub(crate) fn parse(text: &str) -> Result<Template, Diagnostic> {
        let words = shlex::split(text).filter(|words| !words.is_empty());
        let words = words.ok_or_else(|| {
            Diagnostic::new(format!("cannot split {} into words", quoted(text)), "close the quotes, as in a shell")
        })?;
        for piece in text.split('{').skip(1) {
            let name = piece.split_once('}').map(|(name, _)| name);
            if !name.is_some_and(|name| PLACEHOLDERS.contains(&name)) {
                let placeholder = format!("{{{}", name.map_or(piece.to_string(), |name| format!("{name}}}")));
                let all: Vec<String> = PLACEHOLDERS.iter().map(|name| format!("{{{name}}}")).collect();
                let help = format!("the placeholders are {}", listed(all.iter().map(String::as_str)));
                return Err(Diagnostic::new(format!("there is no placeholder {}", quoted(&placeholder)), help));
            }
        }
        if !text.contains(RANKS) {
            let message = format!("the command {} does not contain `{RANKS}`", quoted(text));
            return Err(Diagnostic::new(message, "add the number of ranks of a run, as in `mpiexec -n {ranks}`"));
        }
        Ok(Template { words, gpus: 0 })
    }

    /// Sets the GPUs per rank; a launcher cannot give a rank a part of a GPU.
    pub(crate) fn with_gpus(self, gpus: Option<f64>) -> Template {
        Template { gpus: gpus.map_or(0, |gpus| gpus.ceil() as u32), ..self }
    }

    /// Returns the words of the command for one run.
    fn fill(&self, options: &Options, seat: &Seat) -> Vec<String> {
        let hosts: Vec<String> = seat.parts.iter().map(|part| format!("{}:{}", part.name, part.ranks())).collect();
        let fill = |word: &String| {
            word.replace(RANKS, &options.ranks.to_string())
                .replace("{threads}", &options.threads.to_string())
                .replace("{gpus}", &self.gpus.to_string())
                .replace(HOSTS, &hosts.join(","))
        };
        self.words.iter().map(fill).collect()
    }
}

impl Launcher for Template {
    fn program(&self) -> Option<&Path> {
        Some(Path::new(&self.words[0]))
    }

    fn placement(&self) -> Placement {
        match self.words.iter().any(|word| word.contains(HOSTS)) {
            true => Placement::Hosts,
            false => Placement::Launcher,
        }
    }

    fn command(&self, options: &Options, seat: &Seat, run: &Path, launch: &str) -> Command {
        let words = self.fill(options, seat);
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .arg(&options.worker)
            .args(options.worker_arguments(run, launch))
            .env("OMP_NUM_THREADS", options.threads.to_string());
        // The GPUs may differ between several hosts, where ranks then see all of them.
        if let [part] = seat.parts.as_slice() {
            command.envs(part.gpu_variables(true));
        }
        command
    }

    fn read(&self, stderr: Vec<String>) -> Output {
        let last = stderr.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty());
        Output { reason: last.unwrap_or_default().to_string(), ranks: stderr, memory_ran_out: false }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::super::gpus::Share;
    use super::super::hosts;
    use super::super::slots::Slots;
    use super::*;

    #[test]
    fn placeholders_are_filled_in_for_each_run() {
        let template =
            Template::parse("ibrun -n {ranks} -c{threads} --gpus={gpus} 'a {hosts}'").unwrap().with_gpus(Some(0.5));
        assert_eq!(template.program(), Some(Path::new("ibrun")));
        let slots = Slots::on(hosts::parse("a:2,b:1").unwrap(), Share::Even);
        let seat = slots.clone().take(3, Instant::now()).unwrap();
        let launcher = Arc::new(template.clone());
        let (data, worker) = ("data".into(), "/bin/worker".into());
        let options = Options { launcher, slots, ranks: 3, threads: 4, data, retries: 0, worker };
        assert_eq!(template.fill(&options, &seat), ["ibrun", "-n", "3", "-c4", "--gpus=1", "a a:2,b:1"]);
        let command = template.command(&options, &seat, Path::new("/store/run"), "t.1");
        let arguments: Vec<_> = command.as_std().get_args().skip(5).collect();
        assert_eq!(arguments[..3], ["/bin/worker", "--threads", "4"]);
        assert_eq!(arguments.last().unwrap(), &"/store/run");
    }

    #[test]
    fn hosts_in_the_command_decide_the_placement() {
        assert_eq!(Template::parse("mpirun -n {ranks} --host {hosts}").unwrap().placement(), Placement::Hosts);
        assert_eq!(Template::parse("flux run -n {ranks}").unwrap().placement(), Placement::Launcher);
    }

    #[test]
    fn invalid_command_is_explained() {
        let message = |text: &str| Template::parse(text).unwrap_err().message;
        assert_eq!(message("jsrun -n {rank}"), "there is no placeholder `{rank}`");
        assert_eq!(message("jsrun -n {ranks"), "there is no placeholder `{ranks`");
        assert_eq!(message("jsrun -n 4"), "the command `jsrun -n 4` does not contain `{ranks}`");
        assert_eq!(message("jsrun 'a {ranks}"), "cannot split `jsrun 'a {ranks}` into words");
    }
}
