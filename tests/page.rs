//! The page of the report in a real browser, from a file and served live. Results are made up, so the trainer is not needed.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Child;

use rustix::process::Signal;
use serde_json::{Value, json};
use winsign_core::Store;
use winsign_core::attempt::{Attempt, End, LOG};
use winsign_core::results::{
    ConnectOutcome, EpochMetrics, Outcome, PathOutcome, PathPoint, Processors, TicketOutcome, TransferOutcome,
};
use winsign_core::settings::{Inherit, Kind};
use winsign_sweep::plan::build::build;
use winsign_sweep::plan::{Plan, PlannedRun};
use winsign_testkit::browser::Browser;
use winsign_testkit::{Workplace, json, signal, start, succeed, wait_for};

/// A sweep of 6 tickets, 24 transfers, 24 paths between their seeds, and 4 paths to ψ₀.
const SWEEP: &str = "
name: made-up
dataset: digits
architecture: resnet8
ticket: {method: [lrr, aws], levels: 2}
transfer: {inherit: [sign, mask], level: [1, 2], epochs: 12, seed: 2..4}
connect:
  - {between: seeds, points: 5}
  - {between: norm-init, points: 5}
";
/// A text that would change the page if it were executed.
const HOSTILE: &str = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">";

struct Study {
    workplace: Workplace,
    sweep: PathBuf,
    plan: Plan,
    store: Store,
}

impl Study {
    /// Creates a study in which no run is done.
    fn new() -> Study {
        let workplace = Workplace::new();
        let sweep = workplace.sweep("made-up.yaml", SWEEP);
        let plan = build(&winsign_sweep::read(&sweep).unwrap());
        let store = Store::create(&workplace.store()).unwrap();
        Study { workplace, sweep, plan, store }
    }

    /// Creates a study in which all runs are done, except one transfer that failed, one that is pending, and their dependents.
    fn partial() -> Study {
        let study = Study::new();
        let last = study.place(|planned| is_transfer(planned, Inherit::Mask, 2, 4));
        let failed = study.place(|planned| is_transfer(planned, Inherit::Sign, 1, 3));
        let (last, failed) = (study.id(last), study.id(failed));
        for at in 0..study.plan.runs.len() {
            let run = &study.plan.runs[at].run;
            let lost = |id: &str| *id == last || *id == failed;
            if !lost(run.id.as_str()) && !run.inputs.iter().any(|input| lost(input.as_str())) {
                study.finish(at);
            }
        }
        study.fail(&failed, HOSTILE);
        study
    }

    fn place(&self, is_it: impl Fn(&PlannedRun) -> bool) -> usize {
        self.plan.runs.iter().position(is_it).unwrap()
    }

    fn id(&self, at: usize) -> String {
        self.plan.runs[at].run.id.to_string()
    }

    fn claim(&self, planned: &PlannedRun) -> Attempt {
        let directory = self.store.run(&planned.run.id);
        directory.prepare(&planned.run, &planned.label.to_string()).unwrap();
        Attempt::claim(&directory, 12).unwrap()
    }

    fn finish(&self, at: usize) {
        let planned = &self.plan.runs[at];
        let attempt = self.claim(planned);
        fs::write(attempt.directory().join(LOG), format!("epoch 12 of {}\n{HOSTILE}\n", planned.label)).unwrap();
        if planned.run.kind() != Kind::Connect {
            let epoch = |epoch: u32| EpochMetrics {
                epoch,
                lr: 0.1,
                train_loss: 2.0 / f64::from(epoch),
                train_error: 50.0 / f64::from(epoch),
                test_loss: 2.5 / f64::from(epoch),
                test_error: error(planned) + 12.0 - f64::from(epoch),
            };
            attempt.write_metrics(&(1..=12).map(epoch).collect::<Vec<_>>()).unwrap();
        }
        let processors = Processors { ranks: 1, threads: 1 };
        assert!(attempt.commit(outcome(planned), None, processors, None).unwrap());
        attempt.end(&End::Finished).unwrap();
    }

    fn fail(&self, id: &str, message: &str) {
        let planned = self.plan.runs.iter().find(|planned| planned.run.id.as_str() == id).unwrap();
        let attempt = self.claim(planned);
        fs::write(attempt.directory().join(LOG), format!("the last line\n{HOSTILE}\n")).unwrap();
        attempt.end(&End::Failed { message: message.to_string() }).unwrap();
    }

    /// Writes the report, and returns the path of the page and the report as JSON.
    fn report(&self) -> (PathBuf, Value) {
        succeed(&mut self.workplace.winsign("report", &self.sweep));
        let numbers = json(&succeed(self.workplace.winsign("report", &self.sweep).arg("--json")));
        (self.workplace.store().join("reports/made-up/report.html"), numbers)
    }
}

fn is_transfer(planned: &PlannedRun, inherit: Inherit, level: u32, seed: u64) -> bool {
    let label = &planned.label;
    (planned.run.kind(), label.inherit, label.level) == (Kind::Transfer, Some(inherit), level)
        && label.seeds[0].init == seed
}

/// Returns errors around 9, 10 and 100, which have another order as texts.
fn error(planned: &PlannedRun) -> f64 {
    let label = &planned.label;
    let seed = label.seeds.first().map_or(0.0, |seeds| seeds.init as f64);
    match (label.inherit, label.level) {
        (None, level) => 3.0 + f64::from(level),
        (Some(Inherit::Sign), level) => 7.0 + f64::from(level) + seed / 10.0,
        (_, level) => 96.0 / f64::from(3 - level) + seed / 10.0,
    }
}

fn outcome(planned: &PlannedRun) -> Outcome {
    let (remaining_ratio, test_error, test_loss) = (0.8f64.powi(planned.label.level as i32), error(planned), 0.25);
    match planned.run.kind() {
        Kind::Ticket => Outcome::Ticket(TicketOutcome {
            remaining_ratio,
            survivors: 8,
            prunable: 10,
            test_error,
            test_loss,
            layers: vec![],
        }),
        Kind::Transfer => Outcome::Transfer(TransferOutcome { remaining_ratio, test_error, test_loss }),
        Kind::Connect => {
            let height = [0.0, 1.5, 2.0, 1.5, 0.0];
            let point = |(at, height): (usize, &f64)| PathPoint {
                t: at as f64 / 4.0,
                test_error: 9.0 + height,
                test_loss,
                train: None,
            };
            let points = height.iter().enumerate().map(point).collect();
            Outcome::Connect(ConnectOutcome {
                remaining_ratio,
                path: PathOutcome { points, barrier: 2.0, similarity: None },
            })
        }
    }
}

/// Returns the texts of a column of a table, from top to bottom.
fn column(browser: &Browser, table: &str, title: &str) -> Vec<String> {
    let texts = browser.js(&format!(
        "const table = document.querySelector('#{table} table');
         const at = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.startsWith({title:?}));
         return [...table.tBodies[0].rows].map((row) => row.cells[at].textContent);"
    ));
    texts.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_string()).collect()
}

fn numbers(texts: &[String]) -> Vec<f64> {
    texts.iter().map(|text| text.split(' ').next().unwrap().parse().unwrap_or(f64::NAN)).collect()
}

/// Follows a link of the page.
fn follow(browser: &Browser, href: &str) {
    browser.js(&format!("location.hash = {href:?}; return null"));
    browser.wait(
        "the view",
        "return !document.getElementById('run').hidden || !document.getElementById('problem').hidden",
    );
}

#[test]
fn tables_sort_numerically_and_filter() {
    let study = Study::partial();
    let (page, report) = study.report();
    let browser = Browser::start();
    browser.open_file(&page);
    assert_eq!(browser.console(), [""; 0]);

    let rows = report["transfers"].as_array().unwrap();
    let title = "test error %";
    let sort = format!(
        "[...document.querySelectorAll('#transfers thead th')].find((cell) => cell.textContent.startsWith('{title}'))"
    );
    let before = column(&browser, "transfers", title);
    assert_eq!(before.len(), rows.len());
    for (text, row) in before.iter().zip(rows) {
        assert!(text.starts_with(&format!("{:.1}", row["error_mean"].as_f64().unwrap())), "{text}: {row}");
    }
    let click = format!("{sort}.querySelector('button').click(); return {sort}.getAttribute('aria-sort')");
    assert_eq!(browser.text(&click), "ascending");
    let up = numbers(&column(&browser, "transfers", title));
    assert!(up.is_sorted() && up[0] < 10.0 && up[7] > 90.0, "{up:?}");
    assert_eq!(browser.text(&click), "descending");
    let down = numbers(&column(&browser, "transfers", title));
    assert!(down.iter().rev().is_sorted(), "{down:?}");
    assert_eq!(browser.text(&click), "none");
    assert_eq!(column(&browser, "transfers", title), before, "the third click must restore the order");

    let count = "return document.querySelector('#transfers .count').textContent";
    browser.type_into("#transfers input", "AWS mask");
    assert_eq!(browser.text(count), "2 of 8 rows");
    assert_eq!(column(&browser, "transfers", "method"), ["AWS", "AWS"]);
    browser.js("const select = document.querySelector('#transfers [data-column=level] select');
         select.value = '2'; select.dispatchEvent(new Event('change')); return null");
    assert_eq!(browser.text(count), "1 of 8 rows");
    browser.js("document.querySelector('#transfers .filters button').click(); return null");
    assert_eq!(browser.text(count), "8 rows");
    // The list of all runs can be filtered by identity.
    browser.type_into("#runs input", &study.id(5)[..12]);
    assert_eq!(column(&browser, "runs", "run"), [study.plan.runs[5].label.to_string()]);
    // Missing values come last in both orders.
    browser.js("document.querySelector('#runs .filters button').click(); return null");
    for _ in 0..2 {
        browser.js("[...document.querySelectorAll('#runs thead button')].find((button) => button.textContent.startsWith('test error')).click(); return null");
        let errors = column(&browser, "runs", "test error %");
        assert!(errors[0] != "–" && errors.last().unwrap() == "–", "{errors:?}");
    }
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn custom_table_comes_first_and_sorts_numerically() {
    let study = Study::partial();
    let (page, _) = study.report();
    succeed(study.workplace.winsign("report", &study.sweep).args(["--rows", "inherit"]));
    let browser = Browser::start();
    browser.open_file(&page);
    let tables = "return [...document.querySelectorAll('#study > section')].map((section) => section.id).join(' ')";
    assert!(browser.text(tables).contains(" chosen transfers "));
    assert_eq!(column(&browser, "chosen", "transferred"), ["sign", "mask", "sign", "mask"]);
    let cells = || column(&browser, "chosen", "level 2");
    assert!(cells().iter().all(|cell| cell.ends_with("(1, 3)") || cell.ends_with("(1, 2/3)")), "{:?}", cells());
    browser.js("[...document.querySelectorAll('#chosen thead button')].at(-1).click(); return null");
    let first = |cell: String| cell.split(' ').next().unwrap().parse::<f64>().unwrap();
    assert!(cells().into_iter().map(first).is_sorted(), "{:?}", cells());
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn links_lead_to_their_runs_and_back() {
    let study = Study::partial();
    let (page, report) = study.report();
    let browser = Browser::start();
    browser.open_file(&page);

    for planned in &study.plan.runs {
        let id = planned.run.id.as_str();
        follow(&browser, &format!("#run-{id}"));
        let text = browser.text("return document.getElementById('run').textContent");
        assert!(text.contains(id) && text.contains(&planned.label.to_string()), "{id}: {text}");
        let links =
            browser.js("return [...document.querySelectorAll('#run ul a')].map((link) => link.getAttribute('href'))");
        for input in &planned.run.inputs {
            assert!(links.as_array().unwrap().contains(&json!(format!("#run-{input}"))), "{id} needs {input}: {links}");
        }
        let result = study.store.run(&planned.run.id).result().unwrap();
        let pairs = browser.text(
            "return [...document.querySelectorAll('#run dl div')].map((pair) => [...pair.children].map((part) => part.textContent).join(': ')).join('\\n')",
        );
        let assert_shown = |pair: String| assert!(pairs.lines().any(|line| line == pair), "{pair} of {id}:\n{pairs}");
        match result.map(|result| result.outcome) {
            Some(Outcome::Transfer(transfer)) => {
                assert_shown(format!("test error %: {:.1}", transfer.test_error));
                assert_shown("test loss: 0.250".to_string());
                assert_shown(format!("seeds.init: {}", planned.label.seeds[0].init));
                // The error of the last epoch is that of the result.
                let last =
                    browser.text("return document.querySelector('#run details tbody tr:last-child').textContent");
                assert!(last.contains(&format!("{:.2}", transfer.test_error)), "{last}");
                assert_eq!(browser.js("return document.querySelectorAll('#run svg.chart polyline').length"), 4);
            }
            Some(Outcome::Ticket(ticket)) => assert_shown(format!("test error %: {:.1}", ticket.test_error)),
            Some(Outcome::Connect(_)) => {
                assert_shown("barrier: 2.0".to_string());
                assert_eq!(browser.js("return document.querySelectorAll('#run svg.chart polyline').length"), 1);
            }
            Some(_) => unreachable!("the sweep has no other outcomes"),
            None => assert!(!pairs.contains("test error %") && !pairs.contains("barrier"), "{pairs}"),
        }
    }

    // Every number of every table links to its runs.
    browser.open_file(&page);
    let hrefs =
        browser.js("return [...document.querySelectorAll('#study td a')].map((link) => link.getAttribute('href'))");
    let hrefs: BTreeSet<&str> = hrefs.as_array().unwrap().iter().map(|href| href.as_str().unwrap()).collect();
    assert!(hrefs.iter().filter(|href| href.starts_with("#of/transfers/")).count() >= 8, "{hrefs:?}");
    for href in hrefs.iter().filter(|href| !href.starts_with("#runs/")) {
        follow(&browser, href);
        assert_eq!(browser.js("return document.getElementById('problem').hidden"), true, "{href}");
    }
    follow(&browser, "#of/transfers/LRR·2·sign");
    let errors = column(&browser, "behind", "test error %");
    let row = report["transfers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["method"] == "lrr" && row["level"] == 2 && row["inherit"] == "sign");
    let expected =
        row.unwrap()["errors"].as_array().unwrap().iter().map(|seed| format!("{:.1}", seed["error"].as_f64().unwrap()));
    assert_eq!(errors, expected.collect::<Vec<_>>());

    // A state links to its runs.
    browser.open_file(&page);
    browser.click("#progress a[href='#runs/failed']");
    assert_eq!(column(&browser, "runs", "state"), ["failed"]);

    // Going back restores the position.
    browser.open_file(&page);
    let link = "#transfers tbody tr:nth-child(3) a";
    browser.js(&format!("document.querySelector('{link}').scrollIntoView({{block: 'center'}}); return null"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    let scrolled = browser.js("return scrollY");
    assert!(scrolled.as_f64().unwrap() > 300.0);
    browser.click(link);
    browser.wait("the view", "return document.getElementById('study').hidden && scrollY === 0");
    browser.click("#behind tbody a");
    browser.wait("the run", "return location.hash.startsWith('#run-')");
    browser.back();
    browser.wait("the runs", "return location.hash.startsWith('#of/')");
    browser.back();
    browser.wait("the study", "return !document.getElementById('study').hidden");
    assert_eq!(browser.js("return scrollY"), scrolled);

    follow(&browser, "#run-0123456789abcdef");
    assert!(browser.text("return document.getElementById('problem').textContent").contains("no such run"));
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn hostile_text_is_not_executed() {
    let study = Study::partial();
    let (page, _) = study.report();
    let html = fs::read_to_string(&page).unwrap();
    assert_eq!(html.matches("</script>").count(), 2, "the page must have only its own two scripts");
    assert!(!html.contains("http-equiv=\"refresh\"") && !html.contains("src="));

    let browser = Browser::start();
    browser.open_file(&page);
    let failures = browser.text("return document.getElementById('failures').textContent");
    assert!(failures.contains(HOSTILE), "{failures}");
    follow(&browser, &format!("#run-{}", study.id(study.place(|planned| is_transfer(planned, Inherit::Sign, 1, 3)))));
    let log = browser.text("return document.querySelector('#run pre').textContent");
    assert_eq!(log, format!("the last line\n{HOSTILE}"));
    follow(&browser, "#of/transfers/%3Cimg%20src=x%20onerror=alert(1)%3E");
    assert_eq!(browser.js("return document.images.length + document.querySelectorAll('body script').length"), 2);
    assert!(browser.text("return document.title").contains("made-up"));
    // The page requests nothing, and the content security policy blocks requests.
    assert_eq!(browser.console(), [""; 0]);
    let blocked =
        "return await fetch('http://127.0.0.1:9/').then(() => 'reached', (error) => error.name + ': ' + error.message)";
    assert!(browser.text(blocked).starts_with("TypeError"));
    assert!(
        browser.console().iter().any(|line| line.contains("Content Security Policy")),
        "the policy must have blocked the request"
    );
}

#[test]
fn page_fits_phones_and_paper() {
    let study = Study::partial();
    let (page, _) = study.report();
    let browser = Browser::start();
    let overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
    let run = format!("#run-{}", study.id(10));
    for (width, height) in [(360, 740), (820, 1180), (1400, 900)] {
        browser.resize(width, height);
        browser.open_file(&page);
        assert_eq!(browser.js(overflow), 0, "at {width}");
        assert_colors(&browser.screenshot(), 20);
        for view in [run.as_str(), "#of/transfers/LRR·2·sign"] {
            follow(&browser, view);
            assert_eq!(browser.js(overflow), 0, "{view} at {width}");
        }
    }
    // The page is as wide as paper.
    browser.resize(700, 990);
    browser.command("Emulation.setEmulatedMedia", json!({"media": "print"}));
    browser.open_file(&page);
    assert_eq!(browser.js(overflow), 0, "on paper");
    let shown = "return [...document.querySelectorAll('nav, input, select, .more button')].filter((part) => part.checkVisibility()).length";
    assert_eq!(browser.js(shown), 0, "interactive elements must be hidden on paper");
    assert_eq!(browser.js("return [...document.querySelectorAll('table')].every((table) => table.scrollWidth <= document.body.clientWidth)"), true);
    assert!(browser.pdf().starts_with(b"%PDF-"));
    browser.command(
        "Emulation.setEmulatedMedia",
        json!({"media": "screen", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}),
    );
    assert_eq!(browser.text("return getComputedStyle(document.body).backgroundColor"), "rgb(20, 23, 26)");
}

#[test]
fn figures_show_their_values() {
    let study = Study::partial();
    let (page, _) = study.report();
    let browser = Browser::start();
    browser.open_file(&page);
    let figure = "#figure-transfer-error";
    let marks = browser.js(&format!(
        "return [...document.querySelectorAll('{figure} [data-value]')].map((mark) => mark.getAttribute('aria-label'))"
    ));
    let marks: Vec<&str> = marks.as_array().unwrap().iter().map(|mark| mark.as_str().unwrap()).collect();
    assert!(marks.iter().any(|mark| mark.contains("seed 2") && mark.contains("8.2 %")), "{marks:?}");

    // Values are shown by the pointer, by the keyboard, and as a table.
    let tip = "return document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent";
    browser.js(&format!(
        "const mark = document.querySelector('{figure} [data-value=\"0\"]'); mark.scrollIntoView({{block: 'center'}});
         mark.dispatchEvent(new PointerEvent('pointerover', {{bubbles: true}})); return null"
    ));
    assert!(browser.text(tip).starts_with(marks[0]), "{}", browser.text(tip));
    browser.js(&format!("document.querySelector('{figure} [data-value=\"0\"]').focus(); return null"));
    browser.press('\u{e014}');
    assert!(browser.text(tip).starts_with(marks[1]), "{}", browser.text(tip));
    browser.js(&format!("document.querySelector('{figure} summary').click(); return null"));
    browser.wait(
        "the table",
        &format!("return document.querySelectorAll('{figure} tbody tr').length === {}", marks.len()),
    );

    // A value links to its runs, and to no others.
    let one = marks.iter().position(|mark| mark.contains("seed 2")).unwrap();
    let runs = browser
        .text(&format!("return document.querySelector('{figure} [data-value=\"{one}\"]').getAttribute('data-runs')"));
    browser.js(&format!(
        "document.querySelector('{figure} [data-value=\"{one}\"]').dispatchEvent(new PointerEvent('click', {{bubbles: true}})); return null"
    ));
    browser.wait("the run", "return !document.getElementById('run').hidden");
    assert_eq!(browser.text("return location.hash"), format!("#run-{runs}"));
    browser.open_file(&page);
    let several = format!(
        "return [...document.querySelectorAll('{figure} [data-value]')].find((mark) => mark.getAttribute('data-runs').includes(' ')).dataset.value"
    );
    let several = browser.text(&several);
    follow(&browser, &format!("#value/transfer-error.svg/{several}"));
    assert!((2..=3).contains(&column(&browser, "behind", "run").len()));
    assert_eq!(browser.console(), [""; 0]);
}

/// Asserts that an image has at least this number of colors.
fn assert_colors(png: &[u8], least: usize) {
    let picture = resvg::tiny_skia::Pixmap::decode_png(png).unwrap();
    let colors: BTreeSet<[u8; 4]> = picture.data().as_chunks().0.iter().copied().collect();
    assert!(colors.len() >= least, "{} colors", colors.len());
}

const TAB: char = '\u{e004}';

/// Presses Tab until an element that matches the selector has the focus, which must be visible.
fn tab_to(browser: &Browser, name: &str, selector: &str) {
    let focused = format!("return document.activeElement.matches({selector:?})");
    for _ in 0..300 {
        browser.press(TAB);
        if browser.js(&focused) == json!(true) {
            let outline = browser.text("return getComputedStyle(document.activeElement).outlineStyle");
            assert_ne!(outline, "none", "the focus on {name} must be visible");
            return;
        }
    }
    panic!("the keyboard does not reach {name}");
}

#[test]
fn page_is_usable_by_keyboard() {
    const ENTER: char = '\u{e007}';
    let study = Study::partial();
    let (page, _) = study.report();
    let browser = Browser::start();
    browser.open_file(&page);
    let focused = "return document.activeElement.textContent";
    browser.press(TAB);
    assert_eq!(browser.text(focused), "Skip to the content");
    browser.press(ENTER);
    assert_eq!(browser.text("return document.activeElement.id"), "content");

    tab_to(&browser, "the heading that sorts", "#transfers thead button");
    browser.press(' ');
    assert_eq!(browser.text("return document.activeElement.closest('th').getAttribute('aria-sort')"), "ascending");
    tab_to(&browser, "a number", "#transfers tbody a");
    browser.press(ENTER);
    browser.wait("the runs", "return document.activeElement.matches('#run h2')");
    tab_to(&browser, "a run", "#behind tbody a");
    browser.press(ENTER);
    browser.wait("the run", "return location.hash.startsWith('#run-') && document.activeElement.matches('#run h2')");

    // Every element has a name for screen readers.
    browser.open_file(&page);
    let unnamed = "return [...document.querySelectorAll('input, select, button, [role=region], section')].filter((part) => \
        !(part.labels?.length || part.textContent.trim() || part.getAttribute('aria-label') || part.getAttribute('aria-labelledby'))).length";
    assert_eq!(browser.js(unnamed), 0);
    assert_eq!(browser.js("return [...document.querySelectorAll('table')].every((table) => table.caption && table.querySelector('th[scope=col]'))"), true);
    assert_eq!(browser.js("return document.querySelectorAll('#study .count[role=status]').length === document.querySelectorAll('#study > section > .scroll > table').length - 1"), true);
}

// --- winsign serve ---

struct Served {
    process: Child,
    address: String,
}

impl Served {
    fn start(study: &Study) -> Served {
        let mut process =
            start(study.workplace.winsign("serve", &study.sweep).args(["--json", "--bind", "127.0.0.1:0"]));
        let mut text = String::new();
        let mut lines = BufReader::new(process.stdout.take().unwrap());
        while !text.ends_with("}\n") {
            assert!(lines.read_line(&mut text).unwrap() > 0, "{text}");
        }
        let output: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(output["study"], "made-up");
        Served { process, address: output["address"].as_str().unwrap().to_string() }
    }

    /// Sends a request with this head, and returns the whole response.
    fn request(&self, head: &str) -> String {
        let address = self.address.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(address).unwrap();
        let head = head.replace("ADDRESS", address);
        stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut response = vec![];
        stream.read_to_end(&mut response).unwrap();
        String::from_utf8_lossy(&response).into_owned()
    }

    fn status(&self, head: &str) -> String {
        self.request(head).lines().next().unwrap().split(' ').nth(1).unwrap().to_string()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        signal(self.process.id(), Signal::KILL);
        let _ = self.process.wait();
    }
}

#[test]
fn served_page_follows_the_runs() {
    let study = Study::new();
    let served = Served::start(&study);
    let browser = Browser::start();
    browser.resize(1000, 600);
    browser.open(&served.address);
    let progress = "return document.querySelector('#progress p').textContent";
    assert_eq!(browser.text(progress), "0 of 58 runs done, 58 pending.");

    // New results do not change the filter, the order and the position.
    browser.type_into("#tickets input", "aws");
    browser.js("[...document.querySelectorAll('#tickets thead button')].find((button) => button.textContent.startsWith('level')).click(); return null");
    browser.js("document.querySelector('#tickets').scrollIntoView(); return null");
    browser.wait("a scrolled page", "return scrollY > 100");
    let top = "return Math.round(document.querySelector('#tickets').getBoundingClientRect().top)";
    let before = browser.js(top);
    assert_eq!(column(&browser, "tickets", "method"), ["AWS"; 3]);
    for at in 0..study.plan.runs.len() {
        if study.plan.runs[at].run.kind() == Kind::Ticket {
            study.finish(at);
        }
    }
    browser.wait(
        "the tickets",
        "return document.querySelector('#progress p').textContent.startsWith('6 of 58 runs done')",
    );
    assert_eq!(column(&browser, "tickets", "method"), ["AWS"; 3]);
    assert_eq!(column(&browser, "tickets", "test error %"), ["3.0", "4.0", "5.0"]);
    assert_eq!(browser.text("return document.querySelector('#tickets input').value"), "aws");
    assert_eq!(browser.text("return document.querySelector('#tickets [aria-sort=ascending]').textContent"), "level");
    // Positions are rounded to whole pixels.
    let moved = (browser.js(top).as_f64().unwrap() - before.as_f64().unwrap()).abs();
    assert!(moved <= 1.0, "the table moved by {moved} pixels");

    // The view of a run is updated as well.
    let at = study.place(|planned| is_transfer(planned, Inherit::Sign, 1, 2));
    follow(&browser, &format!("#run-{}", study.id(at)));
    assert!(browser.text("return document.getElementById('run').textContent").contains("pending"));
    study.finish(at);
    browser.wait("the run", "return document.getElementById('run').textContent.includes('8.2')");
    assert_eq!(browser.console(), [""; 0]);

    drop(served);
    browser.wait(
        "the message that the server has stopped",
        "return document.getElementById('live-status').textContent.includes('does not answer')",
    );
}

#[test]
fn server_answers_only_local_read_requests() {
    let study = Study::new();
    study.finish(0);
    let before = study.workplace.listing();
    let mut served = Served::start(&study);
    let page = served.request("GET / HTTP/1.1\r\nHost: ADDRESS");
    assert!(
        page.starts_with("HTTP/1.1 200")
            && page.contains("x-frame-options: DENY")
            && page.contains("connect-src 'self'"),
        "{page}"
    );
    let data = served.request("GET /data HTTP/1.1\r\nHost: localhost:1");
    let body: Value = serde_json::from_str(data.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["states"]["done"], 1);
    let etag = data.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    assert_eq!(served.status(&format!("GET /data HTTP/1.1\r\nHost: ADDRESS\r\nIf-None-Match: {etag}")), "304");
    assert_eq!(served.status("HEAD /data HTTP/1.1\r\nHost: ADDRESS"), "200");
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        assert_eq!(
            served.status(&format!("{method} /data HTTP/1.1\r\nHost: ADDRESS\r\nContent-Length: 0")),
            "405",
            "{method}"
        );
    }
    for host in ["Host: evil.example", "Host: evil.example:8765", "Host: 127.0.0.1.evil.example", "X-Host: ADDRESS"] {
        assert_ne!(served.status(&format!("GET /data HTTP/1.1\r\n{host}")), "200", "{host}");
    }
    assert_eq!(served.status("GET http://evil.example/data HTTP/1.1\r\nHost: ADDRESS"), "403");
    assert_eq!(served.status("GET /../store.json HTTP/1.1\r\nHost: ADDRESS"), "404");
    // The server still works after a second poll of the store.
    wait_for("a poll", || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        (served.status("GET /data HTTP/1.1\r\nHost: ADDRESS") == "200").then_some(())
    });
    signal(served.process.id(), Signal::INT);
    assert_eq!(served.process.wait().unwrap().code(), Some(0));
    assert_eq!(study.workplace.listing(), before, "the server must not write");
}
