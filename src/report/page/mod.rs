//! `report.html`: the whole study in one file that makes no network requests.
//!
//! The file is a frame (`page.html`), our own style and script, and the study as JSON, deflated, in base64. The script
//! makes tables, figures and the view of a run from it, and puts text into the page as text only. So no label can become
//! markup, and a Content-Security-Policy without any source but our own script and style proves that nothing is fetched.
//!
//! `winsign serve` sends the same page, which then asks for [`data()`] again and again.

mod columns;
mod index;
mod runs;
mod settings;
mod tables;

use std::io::Write;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde::Serialize;
use serde_json::Value;

use self::index::Index;
use self::settings::Flat;
use super::plots::{Plot, escaped};
use super::{Report, RunCounts, RunRecord};
use crate::export::{Exported, ExportedFile, Exporter};

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// In the order in which they are read; they share one scope.
const SCRIPTS: [&str; 5] = [
    include_str!("data.js"),
    include_str!("table.js"),
    include_str!("figure.js"),
    include_str!("run.js"),
    include_str!("page.js"),
];

/// `report.html`: the page, in one file.
pub struct Page;

impl Exporter for Page {
    fn names(&self) -> &'static [&'static str] {
        &["report.html"]
    }

    fn files(&self, study: &Exported) -> Vec<ExportedFile> {
        vec![("report.html", render(study.report, study.records, study.page_plots).into_bytes())]
    }
}

/// The page as a file.
pub fn render(report: &Report, records: &[RunRecord], plots: &[Plot]) -> String {
    frame(&data(report, records, plots), Origin::File, &report.name)
}

/// The page as `winsign serve` sends it: `data` is what it begins with, and where it was served from it asks for more.
pub fn live(data: &str, name: &str) -> String {
    frame(data, Origin::Server, name)
}

/// Returns the content of the page as JSON: the same for the same results.
pub fn data(report: &Report, records: &[RunRecord], plots: &[Plot]) -> String {
    let index = Index::new(records);
    let flat = Flat::from_settings(records);
    let notices = report.notices.iter().map(|notice| Noticed {
        message: &notice.message,
        runs: notice.runs.iter().filter_map(|id| index.place(id)).collect(),
    });
    let study = Study {
        schema: 1,
        winsign: env!("CARGO_PKG_VERSION"),
        name: &report.name,
        states: report.runs,
        progress: report.runs.progress(),
        settings: flat.summary(records),
        notices: notices.collect(),
        statements: &report.statements,
        figures: plots.iter().map(Figure::from_plot).collect(),
        tables: tables::tables(report, &index),
        runs: runs::runs(&index, flat),
    };
    serde_json::to_string(&study).expect("a study is plain data")
}

/// The study, as the script reads it.
#[derive(Serialize)]
struct Study<'a> {
    /// The version of what follows.
    schema: u32,
    winsign: &'a str,
    name: &'a str,
    states: RunCounts,
    progress: String,
    settings: settings::Summary,
    notices: Vec<Noticed<'a>>,
    statements: &'a [String],
    figures: Vec<Figure<'a>>,
    tables: Vec<tables::PageTable>,
    runs: Value,
}

/// A notice, and the places of the runs it is about.
#[derive(Serialize)]
struct Noticed<'a> {
    message: &'a str,
    runs: Vec<usize>,
}

#[derive(Serialize)]
struct Figure<'a> {
    file: &'a str,
    title: &'a str,
    caption: &'a str,
    svg: &'a str,
}

impl Figure<'_> {
    fn from_plot(plot: &Plot) -> Figure<'_> {
        Figure { file: plot.file, title: plot.title, caption: &plot.caption, svg: &plot.svg }
    }
}

/// Where a browser has the page from: a page from a server may ask it for more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    File,
    Server,
}

fn frame(data: &str, origin: Origin, name: &str) -> String {
    let script = SCRIPTS.concat();
    // Nobody who chooses a label can know it: it depends on the label.
    let nonce = &blake3::hash(data.as_bytes()).to_hex()[..32];
    let is_live = origin == Origin::Server;
    let connect = if is_live { "'self'" } else { "'none'" };
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src {connect}; \
         base-uri 'none'; form-action 'none'"
    );
    let parts = [
        ("{{title}}", escaped(name)),
        ("{{policy}}", policy),
        ("{{nonce}}", nonce.to_string()),
        ("{{live}}", is_live.to_string()),
        ("{{style}}", STYLE.to_string()),
        ("{{script}}", script),
        ("{{data}}", BASE64_STANDARD.encode(deflated(data.as_bytes()))),
    ];
    filled(FRAME, &parts)
}

/// The frame with every `{{part}}` in its place; what is put in is not looked at again.
fn filled(frame: &str, parts: &[(&str, String)]) -> String {
    let mut page = String::with_capacity(parts.iter().map(|(_, text)| text.len()).sum::<usize>() + frame.len());
    let mut rest = frame;
    while let Some((before, after)) = rest.split_once("{{") {
        page.push_str(before);
        let (name, after) = after.split_once("}}").expect("the frame is ours");
        let part = parts.iter().find(|(part, _)| part[2..part.len() - 2] == *name);
        page.push_str(&part.expect("the frame names no other parts").1);
        rest = after;
    }
    page.push_str(rest);
    page
}

/// The level of compression, from 0 to 9: more takes twice the time and saves a twentieth.
const EFFORT: u32 = 3;

/// Raw DEFLATE, as browsers read it.
fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(EFFORT));
    encoder.write_all(bytes).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use std::collections::HashSet;
    use std::io::Read;
    use std::sync::Arc;

    use flate2::read::DeflateDecoder;

    use super::super::pivot::pivot;
    use super::super::statistics::Estimate;
    use super::super::{Curve, FigureChrome, Notice, plots};
    use super::*;
    use crate::made_up::Reported as _;
    use winsign_core::results::Outcome;
    use winsign_core::settings::{Inherit, Method, Seeds};
    use winsign_sweep::Layout;
    use winsign_sweep::plan::{PlannedRun, RunState};
    use winsign_testkit::study::Study;

    /// A study with something of everything.
    fn page(study: &Study) -> String {
        let mut records = study.records();
        for record in records.iter_mut().filter(|record| record.result.is_some()) {
            let epochs: Vec<u32> = (1..=10).collect();
            let curve = |from: f32| epochs.iter().map(|&epoch| from / epoch as f32).collect::<Vec<f32>>();
            record.curve = Some(Arc::new(Curve {
                train_loss: curve(2.3),
                train_error: curve(90.0),
                test_loss: curve(2.5),
                test_error: curve(95.0),
                epoch: epochs.clone(),
            }));
            record.log_end = Some("epoch 9\nepoch 10".to_string());
        }
        let mut report = study.report();
        let first = records.iter().take(1).map(|record| record.planned.run.id.clone()).collect();
        report.notices.push(Notice { message: "look <b>here</b>".to_string(), runs: first });
        render(&report, &records, &plots::draw(&report, &records, FigureChrome::Full))
    }

    /// Returns the data that the script of the page reads.
    fn unpacked(page: &str) -> Value {
        let text =
            page.split_once("<script id=\"data\" type=\"text/plain\">").unwrap().1.split_once("</script>").unwrap().0;
        let bytes = BASE64_STANDARD.decode(text).unwrap();
        let mut json = String::new();
        DeflateDecoder::new(&bytes[..]).read_to_string(&mut json).unwrap();
        serde_json::from_str(&json).unwrap()
    }

    /// The values of a column, laid out.
    fn laid_out(column: &Value, rows: usize) -> Vec<Value> {
        match column {
            Value::Array(values) => values.clone(),
            column if column.get("all").is_some() => vec![column["all"].clone(); rows],
            column => {
                let at = column["at"].as_array().unwrap().iter().map(|at| at.as_u64().unwrap() as usize);
                at.map(|at| column["of"][at].clone()).collect()
            }
        }
    }

    fn table<'a>(data: &'a Value, id: &str) -> &'a Value {
        data["tables"].as_array().unwrap().iter().find(|table| table["id"] == id).unwrap()
    }

    /// A list of a column of a table, laid out: its `texts` or `numbers`.
    fn column_of(table: &Value, key: &str, list: &str) -> Vec<Value> {
        let columns = table["columns"].as_array().unwrap();
        let column = columns.iter().find(|column| column["key"] == key).unwrap();
        laid_out(&column[list], table["runs"].as_array().unwrap().len())
    }

    #[test]
    fn every_row_lists_its_runs() {
        let mut study = Study::digits();
        let is_lost = |planned: &PlannedRun| {
            planned.label.method == Some(Method::Lrr)
                && planned.label.inherit == Some(Inherit::Sign)
                && planned.label.seeds == [Seeds::from(3)]
        };
        study.unfinish(RunState::Failed, is_lost);
        let data = unpacked(&page(&study));
        let ids = data["runs"]["ids"].as_str().unwrap();
        let ids: Vec<&str> = (0..study.runs.len()).map(|at| &ids[16 * at..16 * at + 16]).collect();
        let expected: Vec<&str> = study.runs.iter().map(|(planned, ..)| planned.run.id.as_str()).collect();
        assert_eq!(ids, expected);

        let report = study.report();
        let transfers = table(&data, "transfers");
        assert_eq!(transfers["runs"].as_array().unwrap().len(), report.transfers.len());
        let errors = column_of(transfers, "error", "numbers");
        for ((row, runs), error) in report.transfers.iter().zip(transfers["runs"].as_array().unwrap()).zip(&errors) {
            let runs: Vec<usize> = runs.as_array().unwrap().iter().map(|at| at.as_u64().unwrap() as usize).collect();
            assert!((error.as_f64().unwrap() - row.error_mean.unwrap()).abs() < 1e-4);
            // With the one that failed.
            assert_eq!(runs.len(), 3);
            assert!(row.errors.iter().all(|seed| runs.iter().any(|&at| ids[at] == seed.run.as_str())));
        }
        let failures = table(&data, "failures");
        assert_eq!(column_of(failures, "message", "texts"), ["the loss became NaN"]);
        let differences = table(&data, "differences");
        let compared = column_of(differences, "measure", "texts");
        for (of, difference) in compared.iter().zip(differences["runs"].as_array().unwrap()) {
            // As many of one side as of the other, with the one that failed.
            let expected = if of == "added by ψ₀" { 2 } else { 6 };
            assert_eq!(difference.as_array().unwrap().len(), expected, "{of}: {difference}");
        }
    }

    #[test]
    fn custom_table_comes_first() {
        let mut study = Study::digits();
        study.unfinish(RunState::Pending, |planned| planned.label.seeds == [Seeds::from(3)]);
        let mut report = study.report();
        let layout = Layout { columns: Some(vec!["level".to_string()]), ..Layout::default() };
        let pivot = pivot(&report, &layout, Estimate::default()).unwrap();
        let (expected, note) = (pivot.table(), pivot.note());
        report.pivot = Some(pivot);
        let data = unpacked(&render(&report, &study.records(), &[]));
        let chosen = &data["tables"][0];
        assert_eq!((&chosen["id"], &chosen["title"]), (&json!("chosen"), &json!("Custom table")));
        let shown_note = chosen["note"].as_str().unwrap();
        assert!(
            shown_note.starts_with("Test error in percent: mean") && shown_note.ends_with(&note) && !note.is_empty(),
            "{shown_note}"
        );
        // Sorted by the number, and written as in the other forms of the report.
        for (at, column) in chosen["columns"].as_array().unwrap().iter().enumerate() {
            let texts: Vec<String> = (0..expected.rows.len()).map(|row| expected.columns[at].text(row)).collect();
            assert_eq!(laid_out(&column["texts"], texts.len()), texts);
        }
        assert_eq!(laid_out(&chosen["columns"][2]["numbers"], expected.rows.len())[0], json!(6.3));
        // All runs of the row, with the one that is missing.
        assert_eq!(chosen["runs"][0], table(&data, "transfers")["runs"][0]);
        assert_eq!(chosen["runs"][0].as_array().unwrap().len(), 3);
    }

    #[test]
    fn differences_have_the_texts_of_other_outputs() {
        let data = unpacked(&page(&Study::digits()));
        let differences = table(&data, "differences");
        let settings: HashSet<String> =
            column_of(differences, "measure", "texts").iter().map(|of| of.as_str().unwrap().to_string()).collect();
        assert_eq!(settings, HashSet::from(["error", "barrier, seeds", "added by ψ₀"].map(str::to_string)));
        assert!(column_of(differences, "verdict", "texts").iter().all(|verdict| verdict == "one ticket: no interval"));
        assert_eq!(data["statements"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn curves_and_paths_are_in_the_data() {
        let data = unpacked(&page(&Study::digits()));
        let curves = &data["runs"]["curves"];
        assert_eq!(curves["run"].as_array().unwrap().len(), Study::digits().runs.len());
        assert_eq!(curves["x"]["of"], json!([(1..=10).collect::<Vec<u32>>()]));
        let texts = curves["test_error"][0].as_str().unwrap();
        assert!(texts.starts_with("95.00 47.50 31.67 "), "{texts}");
        let paths = &data["runs"]["paths"];
        let count = paths["x"]["at"].as_array().unwrap().len();
        assert_eq!(count, 24 + 2);
        let report = Study::digits().report();
        let mut barriers = laid_out(&paths["barrier"], count);
        let pairs = report.connections.iter().flat_map(|row| &row.paths);
        let mut expected: Vec<Value> = pairs.map(|pair| json!(format!("{:.1}", pair.barrier))).collect();
        barriers.sort_by_key(Value::to_string);
        expected.sort_by_key(Value::to_string);
        assert_eq!(barriers, expected);
    }

    #[test]
    fn page_escapes_texts_and_loads_nothing() {
        let hostile = "</script><img src=x onerror=alert(1)>";
        let axes = vec![("{{data}}".to_string(), hostile.to_string())];
        let study = Study::new(&[12], &[2, 3], &[axes]);
        let page = page(&study);
        assert!(!page.contains("<img") && page.matches("</script>").count() == 2);
        assert!(
            ["http://", "https://"]
                .iter()
                .all(|scheme| !page.replace("http://www.w3.org/2000/svg", "").contains(scheme))
        );
        let transfers = table(&unpacked(&page), "transfers").clone();
        assert_eq!(column_of(&transfers, "{{data}}", "texts")[0], hostile);
        let policy = page.split_once("Content-Security-Policy\" content=\"").unwrap().1.split_once('"').unwrap().0;
        assert!(policy.starts_with("default-src 'none'; ") && policy.contains("connect-src 'none'"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        assert!(
            live("{}", "<b>").contains("connect-src 'self'") && live("{}", "<b>").contains("<h1 id=\"name\">&lt;b&gt;")
        );
    }

    #[test]
    fn errors_that_are_not_numbers_are_shown_as_nan() {
        let mut study = Study::digits();
        for (_, _, result) in &mut study.runs {
            if let Some(Outcome::Ticket(ticket)) = result.as_mut().map(|result| &mut result.outcome) {
                ticket.test_error = f64::NAN;
            }
        }
        let data = unpacked(&page(&study));
        let columns = data["runs"]["columns"].as_array().unwrap();
        let errors = columns.iter().find(|column| column["key"] == "test_error").unwrap();
        assert_eq!(laid_out(&errors["texts"], study.runs.len())[0], "NaN");
    }

    #[test]
    fn same_results_make_the_same_page() {
        assert_eq!(page(&Study::digits()), page(&Study::digits()));
    }

    #[test]
    fn study_without_results_has_a_page() {
        let mut study = Study::digits();
        study.unfinish(RunState::Pending, |_| true);
        let data = unpacked(&page(&study));
        assert_eq!(data["progress"], "0 of 76 runs done, 76 pending");
        assert_eq!(table(&data, "transfers")["runs"].as_array().unwrap().len(), 8);
        let empty = Study { runs: vec![] };
        assert_eq!(unpacked(&render(&empty.report(), &[], &[]))["runs"]["ids"], "");
    }
}
