//! The tables of settings in the documentation and the schemas for editors follow from the declarations of the settings.
//!
//! `INSTA_UPDATE=always cargo test --profile ci -p winsign-cli documentation` rewrites them.

use std::path::Path;
use std::{env, fs};

use winsign_exec::batch::profile::PROFILE;
use winsign_report::reference_table::REFERENCE_TABLE;
use winsign_sweep::keys::Block;
use winsign_sweep::yaml::DocumentKind;
use winsign_sweep::{SWEEP_FILE, json_schema};

/// Replaces a committed file if the environment requests it, or else checks that it is current.
fn check(path: &str, current: impl Fn(&str) -> String) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    let committed = fs::read_to_string(&file).unwrap_or_default();
    let current = current(&committed);
    if env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
        fs::write(&file, current).unwrap();
    } else {
        let help = "INSTA_UPDATE=always cargo test --profile ci -p winsign-cli documentation";
        assert!(committed == current, "{path} is out of date; run `{help}`");
    }
}

/// Returns a page with the current table of each block, between two comments.
fn with_tables(page: &str, kind: &DocumentKind, blocks: &[Block]) -> String {
    let mut page = page.to_string();
    for block in blocks {
        let begin = format!("<!-- keys: {block} -->\n");
        let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("the page has no `{begin}`"));
        let (_, after) = rest.split_once("<!-- end -->").expect("the table has an end");
        page = format!("{before}{begin}{}<!-- end -->{after}", kind.documentation(*block));
    }
    page
}

#[test]
fn tables_of_settings_are_current() {
    use Block::{Connect, Report, Resources, Rows, Ticket, Top, Transfer};

    let blocks = [Top, Ticket, Transfer, Connect, Resources, Report];
    check("docs/reference/sweep-file.md", |page| with_tables(page, &SWEEP_FILE, &blocks));
    check("docs/reference/profiles.md", |page| with_tables(page, &PROFILE, &[Top]));
    check("docs/reference/reports.md", |page| with_tables(page, &REFERENCE_TABLE, &[Top, Rows]));
}

#[test]
fn schemas_are_current() {
    let schema = |kind| format!("{:#}\n", json_schema(kind));
    check("sweeps/schema.json", |_| schema(&SWEEP_FILE));
    check("sweeps/tables/schema.json", |_| schema(&REFERENCE_TABLE));
    check("launch/profiles/schema.json", |_| schema(&PROFILE));
}
