//! The tutorial shows what the programs print, and the sweep files of guides are valid. The tutorial's numbers were measured
//! once; here, results are made up, so that no number of a processor is tested.

use std::fs;
use std::process::Command;

use winsign_testkit::made_up::MadeUp;
use winsign_testkit::{Workplace, program, stdout, succeed};

use super::in_repository;

#[test]
fn commands_of_the_first_study_print_what_the_tutorial_shows() {
    let page = fs::read_to_string(in_repository("docs/tutorials/first-study.md")).unwrap();
    let workplace = Workplace::new();
    let sweep = workplace.sweep("study.yaml", blocks(&page, "yaml")[0]);
    let mut commands = 0;
    for session in blocks(&page, "console").iter().flat_map(|block| block.split("$ ").skip(1)) {
        let (line, shown) = session.split_once('\n').unwrap();
        if line == "winsign run study.yaml" {
            MadeUp::new(&sweep, &workplace.path("results")).finish(|_| false, |_| false);
        }
        let printed = stdout(&succeed(&mut shell(&workplace, line)));
        let compared = if line.starts_with("winsign plan") { without_padding } else { without_numbers };
        assert_eq!(compared(&printed), compared(shown), "$ {line}\n{printed}");
        commands += 1;
    }
    assert_eq!(commands, 5);
}

#[test]
fn sweep_files_in_guides_are_valid() {
    let page = fs::read_to_string(in_repository("docs/guides/own-study.md")).unwrap();
    let files = blocks(&page, "yaml");
    assert!(files.len() >= 3);
    for file in files {
        let workplace = Workplace::new();
        assert!(!workplace.plan(&workplace.sweep("study.yaml", file)).is_empty());
    }
}

/// Returns the contents of the fenced blocks in a language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    page.split(&format!("```{language}\n")).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// Returns a command line to be executed in the workplace, with `winsign` on the path.
fn shell(workplace: &Workplace, line: &str) -> Command {
    let programs = program("winsign").parent().unwrap().to_path_buf();
    let path = std::env::join_paths([programs, "/usr/bin".into(), "/bin".into()]).unwrap();
    let mut shell = Command::new("bash");
    shell.args(["-c", line]).current_dir(workplace.path("")).env_clear().env("PATH", path).env("COLUMNS", "100");
    shell
}

fn without_padding(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim_end().to_string()).collect()
}

/// Returns the words of each line without numbers, whose widths also change the widths of columns.
fn without_numbers(text: &str) -> Vec<String> {
    let words = |line: &str| {
        let words =
            line.split_whitespace().map(|word| word.replace(|letter: char| "0123456789.,−─".contains(letter), ""));
        words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(words).collect()
}
