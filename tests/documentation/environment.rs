//! `docs/reference/environment.md` and the code name the same environment variables.

use std::collections::BTreeSet;
use std::fs;

use super::{files_in, in_repository};

/// What precedes the name of a variable that is read.
const READS: [&str; 3] = ["env::var(\"", "env::var_os(\"", ", env = \""];

/// Words that look like the name of a variable: states of Slurm's jobs, an error of CUDA, a value in the help, and a constant of
/// the build.
const OTHER_WORDS: [&str; 8] = [
    "BOOT_FAIL",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "REQUEUE_HOLD",
    "SPECIAL_EXIT",
    "STATUS_ALLOC_FAILED",
    "SWEEP_OR_STORE",
    "CARGO_PKG_VERSION",
];

#[test]
fn page_of_environment_variables_names_those_in_the_code() {
    let code = sources();
    let mut used: BTreeSet<&str> = words(&code, '"').filter(|word| word.contains('_')).collect();
    used.extend(READS.iter().flat_map(|call| code.split(call).skip(1)).filter_map(|rest| rest.split('"').next()));
    used.retain(|word| !OTHER_WORDS.contains(word));
    let page = fs::read_to_string(in_repository("docs/reference/environment.md")).unwrap();
    let documented: BTreeSet<&str> = words(&page, '`').collect();
    let missing: Vec<_> = used.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/reference/environment.md lacks {missing:?}");
    let scripts = files_in("launch").into_iter().filter_map(|path| fs::read_to_string(in_repository(&path)).ok());
    let text = scripts.fold(code.clone(), |text, script| text + &script);
    let unknown: Vec<_> = documented.iter().filter(|name| !text.contains(**name)).collect();
    assert!(unknown.is_empty(), "neither the code nor a script contains {unknown:?}");
}

/// Returns the code without build scripts and tests, which read other variables.
fn sources() -> String {
    let is_for_tests =
        |path: &str| path.starts_with("src/testkit/") || path.ends_with("build.rs") || path.ends_with("tests.rs");
    let paths = files_in("src").into_iter().filter(|path| path.ends_with(".rs") && !is_for_tests(path));
    let texts = paths.map(|path| fs::read_to_string(in_repository(&path)).unwrap());
    texts.map(|text| text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_string()).collect()
}

/// Returns the quoted words in capitals.
fn words(text: &str, mark: char) -> impl Iterator<Item = &str> {
    let is_word = |word: &&str| {
        let mut letters = word.chars();
        letters.next().is_some_and(|letter| letter.is_ascii_uppercase())
            && letters.all(|letter| letter.is_ascii_uppercase() || "_0123456789".contains(letter))
    };
    text.split(mark).filter(is_word)
}
