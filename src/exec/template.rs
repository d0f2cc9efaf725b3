//! Other launchers: a command of the user, such as `jsrun -n {ranks} -c {threads}`.

use std::iter;
use std::path::Path;

use tokio::process::Command;
use winsign_core::Diagnostic;
use winsign_sweep::yaml::{listed, quoted};

use super::Options;
use super::launcher::{Launcher, Output, Placement};
use super::slots::Seat;

/// The placeholders of a command, and their values for one run.
const PLACEHOLDERS: &[(&str, Value)] = &[
    (RANKS, |_, options, _| options.ranks.to_string()),
    ("{threads}", |_, options, _| options.threads.to_string()),
    ("{gpus}", |template, _, _| template.gpus.to_string()),
    (HOSTS, |_, _, seat| hosts_with_ranks(seat)),
];

const RANKS: &str = "{ranks}";
const HOSTS: &str = "{hosts}";

type Value = fn(&Template, &Options, &Seat) -> String;

/// Starts runs by a command whose placeholders are filled in for each run. The command must pass its standard input on to
/// rank 0, and SIGUSR1 to all ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    words: Vec<String>,
    /// GPUs per rank.
    gpus: u32,
}

impl Template {
    /// Returns true if a text is a command rather than a name.
    pub(crate) fn is_command(text: &str) -> bool {
        text.contains(|character: char| character.is_whitespace() || "{}".contains(character))
    }

    /// Parses a command; words are separated and quoted as in a shell.
    pub(crate) fn parse(text: &str) -> Result<Template, Diagnostic> {
        let words = shlex::split(text).filter(|words| !words.is_empty());
        let words = words.ok_or_else(|| {
            Diagnostic::new(format!("cannot split {} into words", quoted(text)), "close the quotes, as in a shell")
        })?;
        let template = Template { words, gpus: 0 };
        if let Some(unknown) = template.placeholders().find(|name| value(name).is_none()) {
            let help = format!("the placeholders are {}", listed(PLACEHOLDERS.iter().map(|(name, _)| *name)));
            return Err(Diagnostic::new(format!("there is no placeholder {}", quoted(unknown)), help));
        }
        if split_placeholder(&template.words[0]).is_some() {
            let message = format!("the command {} begins with a placeholder", quoted(text));
            return Err(Diagnostic::new(message, "begin with a program, as in `mpiexec -n {ranks}`"));
        }
        if !template.has(RANKS) {
            let message = format!("the command {} does not contain `{RANKS}`", quoted(text));
            return Err(Diagnostic::new(message, "add the number of ranks of a run, as in `mpiexec -n {ranks}`"));
        }
        Ok(template)
    }

    fn placeholders(&self) -> impl Iterator<Item = &str> {
        self.words.iter().flat_map(|word| {
            let first = split_placeholder(word);
            iter::successors(first, |(_, _, rest)| split_placeholder(rest)).map(|(_, name, _)| name)
        })
    }

    fn has(&self, placeholder: &str) -> bool {
        self.placeholders().any(|name| name == placeholder)
    }

    /// Sets the GPUs per rank; a launcher cannot give a rank a part of a GPU.
    pub(crate) fn with_gpus(self, gpus: Option<f64>) -> Template {
        Template { gpus: gpus.map_or(0, |gpus| gpus.ceil() as u32), ..self }
    }

    /// Returns the words of the command for one run.
    fn fill(&self, options: &Options, seat: &Seat) -> Vec<String> {
        self.words.iter().map(|word| self.fill_word(word, options, seat)).collect()
    }

    fn fill_word(&self, word: &str, options: &Options, seat: &Seat) -> String {
        match split_placeholder(word) {
            Some((before, name, rest)) => {
                let value = value(name).expect("placeholders were checked by `parse`");
                format!("{before}{}{}", value(self, options, seat), self.fill_word(rest, options, seat))
            }
            None => word.to_string(),
        }
    }
}

fn value(placeholder: &str) -> Option<Value> {
    PLACEHOLDERS.iter().find(|(name, _)| *name == placeholder).map(|(_, value)| *value)
}

/// Splits a word at its first placeholder. `${…}` is not a placeholder: a shell that the command starts may read it.
fn split_placeholder(word: &str) -> Option<(&str, &str, &str)> {
    let (start, _) = word.match_indices('{').find(|&(start, _)| !word[..start].ends_with('$'))?;
    let end = word[start..].find('}').map_or(word.len(), |last| start + last + 1);
    Some((&word[..start], &word[start..end], &word[end..]))
}

fn hosts_with_ranks(seat: &Seat) -> String {
    seat.parts.iter().map(|part| format!("{}:{}", part.name, part.ranks())).collect::<Vec<_>>().join(",")
}

impl Launcher for Template {
    fn program(&self) -> Option<&Path> {
        Some(Path::new(&self.words[0]))
    }

    fn placement(&self) -> Placement {
        match self.has(HOSTS) {
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
        let text = "ibrun -n {ranks} -c{threads} --gpus={gpus} 'a {hosts}' '${HOME}/${ranks}-{ranks}'";
        let template = Template::parse(text).unwrap().with_gpus(Some(0.5));
        assert_eq!(template.program(), Some(Path::new("ibrun")));
        let slots = Slots::on(hosts::parse("a:2,b:1").unwrap(), Share::Even);
        let seat = slots.clone().take(3, Instant::now()).unwrap();
        let launcher = Arc::new(template.clone());
        let (data, worker) = ("data".into(), "/bin/worker".into());
        let options =
            Options { launcher, slots, ranks: 3, threads: 4, data, retries: 0, retry_out_of_memory: true, worker };
        let words = ["ibrun", "-n", "3", "-c4", "--gpus=1", "a a:2,b:1", "${HOME}/${ranks}-3"];
        assert_eq!(template.fill(&options, &seat), words);
        let command = template.command(&options, &seat, Path::new("/store/run"), "t.1");
        let arguments: Vec<_> = command.as_std().get_args().skip(6).collect();
        assert_eq!(arguments[..3], ["/bin/worker", "--ranks", "3"]);
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
        assert_eq!(message("jsrun -n ${ranks}"), "the command `jsrun -n ${ranks}` does not contain `{ranks}`");
        assert_eq!(message("jsrun -n 4"), "the command `jsrun -n 4` does not contain `{ranks}`");
        assert_eq!(message("{ranks} jsrun"), "the command `{ranks} jsrun` begins with a placeholder");
        assert_eq!(message("jsrun 'a {ranks}"), "cannot split `jsrun 'a {ranks}` into words");
    }
}
