//! `report.html`: the whole study in one file that asks nothing of any network.
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

use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::{Value, json};

use self::index::Index;
use self::settings::Flat;
use super::plots::Plot;
use super::{Finding, Report};

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

/// The page as a file.
pub fn render(report: &Report, findings: &[Finding], plots: &[Plot]) -> String {
    frame(&data(report, findings, plots), "none", &report.name)
}

/// The page as `winsign serve` sends it: `data` is what it begins with, and where it was served from it asks for more.
pub fn live(data: &str, name: &str) -> String {
    frame(data, "self", name)
}

/// What the page shows, as JSON: the same for the same results.
pub fn data(report: &Report, findings: &[Finding], plots: &[Plot]) -> String {
    let index = Index::new(findings);
    let flat = Flat::of(findings);
    let place = |id| index.place(id);
    let notices = report.notices.iter().map(|notice| {
        let runs: Vec<usize> = notice.runs.iter().filter_map(place).collect();
        json!({ "message": notice.message, "runs": runs })
    });
    let figures = plots
        .iter()
        .map(|plot| json!({ "file": plot.file, "title": plot.title, "caption": plot.caption, "svg": plot.svg }));
    let study = json!({
        "schema": 1,
        "winsign": env!("CARGO_PKG_VERSION"),
        "name": report.name,
        "states": report.runs,
        "progress": report.runs.progress(),
        "settings": flat.summary(findings),
        "notices": notices.collect::<Vec<Value>>(),
        "figures": figures.collect::<Vec<Value>>(),
        "tables": tables::tables(report, &index),
        "runs": runs::runs(&index, flat),
    });
    study.to_string()
}

/// `network` is what the page may connect to, in the words of a Content-Security-Policy.
fn frame(data: &str, network: &str, name: &str) -> String {
    let script = SCRIPTS.concat();
    // Nobody who chooses a label can know it: it depends on the label.
    let nonce = &blake3::hash(data.as_bytes()).to_hex()[..32];
    let connect = if network == "none" { "'none'" } else { "'self'" };
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src {connect}; \
         base-uri 'none'; form-action 'none'"
    );
    let parts = [
        ("{{title}}", escaped(name)),
        ("{{policy}}", policy),
        ("{{nonce}}", nonce.to_string()),
        ("{{live}}", (network != "none").to_string()),
        ("{{style}}", STYLE.to_string()),
        ("{{script}}", script),
        ("{{data}}", base64(&deflated(data.as_bytes()))),
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

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Raw DEFLATE, as browsers read it.
fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory takes everything");
    encoder.finish().expect("memory takes everything")
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(three.get(at).copied().unwrap_or(0)));
        for digit in 0..4 {
            let known = digit <= three.len();
            let digit = DIGITS[(bits >> (18 - 6 * digit) & 63) as usize];
            text.push(if known { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Arc;

    use flate2::read::DeflateDecoder;

    use super::super::fixture::Study;
    use super::super::{Curve, Notice, plots};
    use super::*;
    use crate::study::plan::RunState;

    /// A study with something of everything.
    fn page(study: &Study) -> String {
        let mut findings = study.findings();
        for finding in findings.iter_mut().filter(|finding| finding.result.is_some()) {
            let epochs: Vec<u32> = (1..=10).collect();
            let curve = |from: f32| epochs.iter().map(|&epoch| from / epoch as f32).collect::<Vec<f32>>();
            finding.curve = Some(Arc::new(Curve {
                train_loss: curve(2.3),
                train_error: curve(90.0),
                test_loss: curve(2.5),
                test_error: curve(95.0),
                epoch: epochs.clone(),
            }));
            finding.log_end = Some("epoch 9\nepoch 10".to_string());
        }
        let mut report = study.report();
        let first = findings[0].planned.run.id.clone();
        report.notices.push(Notice { message: "look <b>here</b>".to_string(), runs: vec![first] });
        render(&report, &findings, &plots::draw(&report, &findings))
    }

    /// What the browser finds in the page.
    fn unpacked(page: &str) -> Value {
        let text =
            page.split_once("<script id=\"data\" type=\"text/plain\">").unwrap().1.split_once("</script>").unwrap().0;
        let digit = |byte: u8| match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => panic!("not base64: {byte}"),
        };
        let mut bytes = vec![];
        for four in text.trim_end_matches('=').as_bytes().chunks(4) {
            let bits =
                four.iter().fold(0u32, |bits, &byte| bits << 6 | u32::from(digit(byte))) << (6 * (4 - four.len()));
            bytes.extend(&bits.to_be_bytes()[1..four.len()]);
        }
        let mut json = String::new();
        DeflateDecoder::new(&bytes[..]).read_to_string(&mut json).unwrap();
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn dump() {
        let Ok(path) = std::env::var("PAGE_OUT") else { return };
        let mut study = Study::new(&[4, 8, 12], &[2, 3, 4], &[vec![]]);
        study.unfinish(RunState::Failed, |planned| {
            planned.label.level == 4 && planned.label.seeds.len() == 1 && planned.label.seeds[0].init == 3
        });
        study.unfinish(RunState::Pending, |planned| planned.label.level == 8 && planned.label.seeds.len() == 2);
        std::fs::write(path, page(&study)).unwrap();
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let known = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (text, expected) in known {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }
}
