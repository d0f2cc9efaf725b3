//! The tables of settings and the schemas for editors, from the declarations of the settings.

use std::fs;

use winsign_exec::batch::profile::PROFILE;
use winsign_report::reference_table::REFERENCE_TABLE;
use winsign_sweep::keys::Block;
use winsign_sweep::yaml::DocumentKind;
use winsign_sweep::{SWEEP_FILE, json_schema};

/// Asserts that a file is current, given its present text.
fn update(path: &str, current: impl Fn(&str) -> String) {
    let committed = fs::read_to_string(super::in_repository(path)).unwrap_or_default();
    super::assert_page(path, &current(&committed));
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
    update("docs/reference/sweep-file.md", |page| with_tables(page, &SWEEP_FILE, &blocks));
    update("docs/reference/profiles.md", |page| with_tables(page, &PROFILE, &[Top]));
    update("docs/reference/reports.md", |page| with_tables(page, &REFERENCE_TABLE, &[Top, Rows]));
}

#[test]
fn schemas_are_current() {
    let schema = |kind| format!("{:#}\n", json_schema(kind));
    update("sweeps/schema.json", |_| schema(&SWEEP_FILE));
    update("sweeps/tables/schema.json", |_| schema(&REFERENCE_TABLE));
    update("launch/profiles/schema.json", |_| schema(&PROFILE));
}
