//! `docs/reference/environment.md` and the code name the same environment variables.

use std::collections::BTreeSet;
use std::fs;

use super::{files_in, in_repository};

/// What precedes the name of a variable that is read.
const READS: [&str; 3] = ["env::var(\"", "env::var_os(\"", ", env = \""];

#[test]
fn page_of_environment_variables_names_those_that_the_code_reads() {
    let mut read = BTreeSet::new();
    for path in files_in("src").iter().filter(|path| path.ends_with(".rs") && !is_for_tests(path)) {
        let text = fs::read_to_string(in_repository(path)).unwrap();
        for (start, _) in READS.iter().flat_map(|call| text.match_indices(call).map(|(at, _)| (at + call.len(), ()))) {
            read.insert(text[start..].split('"').next().unwrap().to_string());
        }
        read.extend(quoted(&text, '"').filter(|word| word.starts_with("WINSIGN_")).map(str::to_string));
    }
    let page = fs::read_to_string(in_repository("docs/reference/environment.md")).unwrap();
    let documented: BTreeSet<String> = quoted(&page, '`').map(str::to_string).collect();
    let missing: Vec<&String> = read.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/reference/environment.md lacks {missing:?}");
    let unknown: Vec<_> =
        documented.iter().filter(|name| name.starts_with("WINSIGN_") && !read.contains(*name)).collect();
    assert!(unknown.is_empty(), "no code reads {unknown:?}");
}

/// Build scripts and tests read other variables.
fn is_for_tests(path: &str) -> bool {
    path.starts_with("src/testkit/") || path.ends_with("build.rs") || path.ends_with("tests.rs")
}

/// Returns the words between two quotation marks, one after the other.
fn quoted(text: &str, mark: char) -> impl Iterator<Item = &str> {
    text.split(mark)
        .filter(|word| word.chars().all(|letter| letter.is_ascii_uppercase() || "_0123456789".contains(letter)))
}
