//! `docs/reference/files.md` names the files of a run directory.

use std::collections::BTreeSet;
use std::fs;

use winsign_testkit::made_up::MadeUp;
use winsign_testkit::{SMALL, Workplace};

use super::in_repository;

#[test]
fn page_of_files_names_the_files_of_a_run_directory() {
    let workplace = Workplace::new();
    let made_up = MadeUp::new(&workplace.sweep("small.yaml", SMALL), &workplace.store());
    made_up.finish(|_| false, |_| false);
    let mut names = BTreeSet::new();
    for planned in &made_up.runs {
        let folder = workplace.run_directory(planned.run.id.as_str());
        let listing = workplace.listing();
        let inside = listing.iter().filter_map(|(path, _)| path.strip_prefix(&folder).ok()?.to_str());
        names.extend(inside.map(str::to_string));
    }
    let page = fs::read_to_string(in_repository("docs/reference/files.md")).unwrap();
    let missing: Vec<&String> = names.iter().filter(|name| !page.contains(&format!("| `{name}` |"))).collect();
    assert!(missing.is_empty(), "docs/reference/files.md lacks {missing:?}");
    assert!(names.contains("result.json"), "{names:?}");
}
