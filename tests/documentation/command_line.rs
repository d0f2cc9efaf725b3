//! `docs/reference/command-line.md`, from the definitions with which the programs parse their arguments.

use std::fmt::Write as _;

use clap::{Arg, Command};

const INTRODUCTION: &str = "\
# Command line

This page is generated from the programs. `winsign COMMAND --help` prints the same, and so does `winsign-worker --help`. See
also the [exit codes](exit-codes.md) and the [environment variables](environment.md).

";

#[test]
fn page_of_the_command_line_is_current() {
    super::assert_page("docs/reference/command-line.md", &page());
}

fn page() -> String {
    let [mut winsign, mut worker] = [winsign_cli::command_line(), winsign_trainer::worker::command_line()];
    winsign.build();
    worker.build();
    let mut page = format!("{INTRODUCTION}| command | |\n|---|---|\n");
    for command in visible(&winsign) {
        let name = command.get_name();
        writeln!(page, "| [`winsign {name}`](#winsign-{name}) | {} |", about(command)).unwrap();
    }
    writeln!(page, "| [`winsign-worker`](#winsign-worker) | {} |", about(&worker)).unwrap();
    page += "\n## Options of every command of `winsign`\n";
    write_arguments(&mut page, winsign.get_arguments().filter(|argument| argument.is_global_set()));
    for command in visible(&winsign) {
        write_command(&mut page, "##", &format!("winsign {}", command.get_name()), command);
    }
    write_command(&mut page, "##", "winsign-worker", &worker);
    page
}

/// Returns the subcommands that the help lists, without `help` itself.
fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

fn write_command(page: &mut String, heading: &str, name: &str, command: &Command) {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap();
    write!(page, "\n{heading} `{name}`\n\n{}.\n\n```text\n{usage}\n```\n", about(command)).unwrap();
    write_arguments(page, command.get_arguments().filter(|argument| !argument.is_global_set()));
    if let Some(notes) = command.get_after_help() {
        write!(page, "\n```text\n{}\n```\n", notes.to_string().trim_end()).unwrap();
    }
    for part in visible(command) {
        write_command(page, &format!("{heading}#"), &format!("{name} {}", part.get_name()), part);
    }
}

fn write_arguments<'a>(page: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let own = |argument: &&Arg| !argument.is_hide_set() && !["help", "version"].contains(&argument.get_id().as_str());
    let rows: String = arguments.filter(own).map(row).collect();
    if !rows.is_empty() {
        write!(page, "\n| argument | meaning |\n|---|---|\n{rows}").unwrap();
    }
}

fn row(argument: &Arg) -> String {
    let short = argument.get_short().map(|letter| format!("-{letter}, ")).unwrap_or_default();
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut sentences = vec![help.replace(" [default: ", ". Default: ").trim_end_matches(']').to_string()];
    let words = argument.get_possible_values();
    let words: Vec<String> = words.iter().map(|word| format!("`{}`", word.get_name())).collect();
    if !words.is_empty() {
        sentences.push(format!("One of {}", words.join(", ")));
    }
    if let Some(default) = argument.get_default_values().first().filter(|_| argument.get_action().takes_values()) {
        sentences.push(format!("Default: `{}`", default.display()));
    }
    if let Some(variable) = argument.get_env() {
        sentences.push(format!("Environment variable: `{}`", variable.display()));
    }
    let sentences: Vec<&str> = sentences.iter().map(|sentence| sentence.trim_end_matches('.')).collect();
    let sentences: Vec<&str> = sentences.into_iter().filter(|sentence| !sentence.is_empty()).collect();
    let cells = [format!("{short}{argument}"), sentences.join(". ").replace('<', "\\<")];
    // A bar ends a cell, even in code.
    let [argument, meaning] = cells.map(|cell| cell.replace('|', "\\|"));
    format!("| `{argument}` | {meaning}. |\n")
}

fn about(command: &Command) -> String {
    command.get_about().unwrap().to_string().trim_end_matches('.').to_string()
}
