//! The tables of settings and the schemas for editors, from the declarations of the settings.

use std::fs;

use strum::VariantArray;
use winsign_core::settings::{Architecture, Dataset};
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

/// Returns a page with the current text between two comments, `<!-- NAME -->` and `<!-- end -->`.
fn with_generated(page: &str, name: &str, current: &str) -> String {
    let begin = format!("<!-- {name} -->\n");
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("the page has no `{begin}`"));
    let (_, after) = rest.split_once("<!-- end -->").expect("the table has an end");
    format!("{before}{begin}{current}<!-- end -->{after}")
}

/// Returns a page with the current table of each block.
fn with_tables(page: &str, kind: &DocumentKind, blocks: &[Block]) -> String {
    blocks.iter().fold(page.to_string(), |page, block| {
        with_generated(&page, &format!("keys: {block}"), &kind.documentation(*block))
    })
}

fn architectures() -> String {
    let mut table = "| architecture | data sets | `align` | network |\n|---|---|---|---|\n".to_string();
    for architecture in Architecture::VARIANTS {
        let datasets = Dataset::VARIANTS.iter().filter(|&&dataset| architecture.fits(dataset));
        let datasets: Vec<String> = datasets.map(|dataset| format!("`{dataset}`")).collect();
        let align = if architecture.can_align() { "yes" } else { "no" };
        let description = architecture.description();
        table += &format!("| `{architecture}` | {} | {align} | {description} |\n", datasets.join(", "));
    }
    table
}

#[test]
fn tables_of_settings_are_current() {
    use Block::{Connect, Report, Resources, Rows, Ticket, Top, Transfer};

    let blocks = [Top, Ticket, Transfer, Connect, Resources, Report];
    update("docs/reference/sweep-file.md", |page| {
        with_generated(&with_tables(page, &SWEEP_FILE, &blocks), "architectures", &architectures())
    });
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
