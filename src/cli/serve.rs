//! `winsign serve`: serves the report as a live web page.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use winsign_core::{Diagnostic, exit};
use winsign_exec::batch::queue::Queue;
use winsign_report::{FigureChrome, Notice, page, plots};
use winsign_sweep::Layout;
use winsign_sweep::plan::RunState;
use winsign_sweep::plan::stores::Found;

use super::report_source::{ReportSource, Snapshot};
use super::{Common, output};
use crate::server;

pub(crate) const HELP: &str = "\
Examples:
  winsign serve sweeps/quickstart.yaml                       then open the printed address
  winsign serve sweeps/quickstart.yaml /mnt/north/results    runs in several stores
  winsign serve sweeps/quickstart.yaml --bind 0.0.0.0        for the whole network, no password
  ssh -L 8765:127.0.0.1:8765 login-node                      reach a login node from elsewhere

Serves the page of `winsign report` and keeps it up to date while runs are executed, on any machine
with access to the store. It only reads, and reads the store only while the page is open in a
browser. Stop it with Ctrl-C.";

const PORT: u16 = 8765;

#[derive(Args)]
pub(crate) struct Arguments {
    /// A sweep file and stores to search for its runs before --store, or only stores, for all their current runs
    #[arg(required = true, value_name = "SWEEP_OR_STORE")]
    sources: Vec<PathBuf>,
    /// The address to listen on, with or without a port [default: 127.0.0.1:8765, or another port if that is in use]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    bind: Option<SocketAddr>,
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse().ok();
    let alone = || Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, PORT));
    with_port
        .or_else(alone)
        .ok_or_else(|| "must be an address such as 127.0.0.1, 0.0.0.0:8080 or [::1]:8080".to_string())
}

pub(crate) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let source = ReportSource::open(common, &arguments.sources)?;
    let name = source.plan.name.clone();
    let mut study = Study::new(source);
    let first = study.poll()?.expect("the first poll returns data");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(winsign_core::Error::io("serve", Path::new("the report")))?;
    let ended = runtime.block_on(async {
        let listener = listen(arguments.bind).await?;
        print(common, &listener, &name)?;
        let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be caught");
        let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be caught");
        let poll = move || study.poll().map_err(|failure| failure.to_string());
        tokio::select! {
            served = server::serve(listener, name, first, poll) => {
                served.map_err(winsign_core::Error::io("serve", Path::new("the report")))?;
            }
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(exit::SUCCESS)
    });
    // A pending poll may hang on a file system that does not respond.
    runtime.shutdown_background();
    ended
}

async fn listen(bind: Option<SocketAddr>) -> Result<TcpListener, Diagnostic> {
    let local = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let address = bind.unwrap_or(local(PORT));
    let listener = match (TcpListener::bind(address).await, bind) {
        (Err(error), None) if error.kind() == std::io::ErrorKind::AddrInUse => TcpListener::bind(local(0)).await,
        (other, _) => other,
    };
    listener.map_err(|error| {
        let help = "choose another address with --bind; port 0 selects a free port";
        Diagnostic::new(format!("cannot listen on {address}: {error}"), help)
    })
}

fn print(common: &Common, listener: &TcpListener, name: &str) -> Result<(), Diagnostic> {
    let address = listener.local_addr().map_err(winsign_core::Error::io("listen on", Path::new("the address")))?;
    if !address.ip().is_loopback() {
        tracing::warn!("anyone who can connect to {address} can read this study; there is no password");
    }
    let url = format!("http://{address}/");
    match common.json {
        true => output::json(&json!({ "study": name, "address": url })),
        false => output::text(&format!("serving {name} at {url}; press Ctrl-C to stop\n")),
    }
    .map(drop)
}

/// A study that is polled.
struct Study {
    source: ReportSource,
    /// The state at the previous poll.
    before: Option<(Vec<RunVersion>, Vec<Notice>)>,
}

/// The state of a run as the page shows it, and the time of its result: a replaced result is a change, too.
type RunVersion = (RunState, u32, Option<String>, Option<Timestamp>, Arc<Path>);

impl Study {
    fn new(source: ReportSource) -> Study {
        Study { before: None, source }
    }

    /// Returns the data of the page; returns `None` if nothing has changed since the previous poll.
    fn poll(&mut self) -> Result<Option<String>, Diagnostic> {
        let plan = &self.source.plan;
        let (mut found, mut notices) = self.source.survey();
        for store in &self.source.stores {
            Queue::query(store)?.overlay(plan, found.iter_mut().map(|found| &mut found.status));
        }
        let now = (found.iter().map(version_of).collect(), notices.clone());
        if self.before.as_ref() == Some(&now) {
            return Ok(None);
        }
        let snapshot = Snapshot::read(&self.source, found);
        notices.extend(snapshot.notices(plan));
        let records = snapshot.records(plan);
        let report = self.source.report(&records, notices, Layout::default())?;
        let data = page::data(&report, &records, &plots::draw(&report, &records, FigureChrome::Full));
        // This is set last, so that a failed poll is repeated.
        self.before = Some(now);
        Ok(Some(data))
    }
}

fn version_of(Found { status, store }: &Found) -> RunVersion {
    let finished = status.result.as_ref().map(|result| result.finished);
    (status.state, status.attempts, status.note.clone(), finished, store.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use winsign_core::attempt::{Attempt, End};
    use winsign_core::results::{Outcome, Processors, TicketOutcome};
    use winsign_core::{RunDirectory, Store};
    use winsign_sweep::parse;
    use winsign_sweep::plan::build::build;

    #[test]
    fn failed_poll_is_repeated() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("study.yaml");
        std::fs::write(&file, "dataset: digits\narchitecture: resnet8\nticket: {method: lrr, levels: 1}").unwrap();
        let common = Common { store: scratch.path().join("store"), ssh: None, json: false, verbose: 0, quiet: false };
        let mut study = Study::new(ReportSource::open(&common, &[file]).unwrap_or_else(|failure| panic!("{failure}")));
        let level = || Some(vec!["level".to_string()]);
        study.source.layout = Layout { rows: level(), columns: level(), ..Layout::default() };
        assert!(study.poll().is_err(), "rows and columns must not have the same name");
        study.source.layout = Layout::default();
        let mut poll = || study.poll().unwrap_or_else(|failure| panic!("{failure}"));
        assert!(poll().is_some_and(|data| data.contains("lrr")));
        assert_eq!(poll(), None);
    }

    fn replace_result(directory: &RunDirectory, test_error: f64) {
        let (remaining_ratio, survivors, prunable, test_loss) = (1.0, 1, 1, 0.1);
        let outcome = TicketOutcome { remaining_ratio, survivors, prunable, test_error, test_loss, layers: vec![] };
        let _ = std::fs::remove_file(directory.result_path());
        let attempt = Attempt::claim(directory, 1).unwrap();
        attempt.commit(Outcome::Ticket(outcome), None, Processors { ranks: 1, threads: 1 }, None).unwrap();
        attempt.end(&End::Finished).unwrap();
    }

    /// The source is a store alone; its result is replaced, then damaged.
    #[test]
    fn poll_after_a_changed_result_returns_new_data() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::create(&scratch.path().join("store")).unwrap();
        let text = "dataset: digits\narchitecture: resnet8\nticket: {method: lrr, levels: 1}";
        let plan = build(&parse("study.yaml", text).unwrap());
        let directory = store.run(&plan.runs[0].run.id);
        directory.prepare(&plan.runs[0].run, "").unwrap();
        replace_result(&directory, 12.25);
        let common = Common { store: scratch.path().join("none"), ssh: None, json: false, verbose: 0, quiet: false };
        let source = ReportSource::open(&common, &[store.root().to_path_buf()]);
        let mut study = Study::new(source.unwrap_or_else(|failure| panic!("{failure}")));
        let mut poll = || study.poll().unwrap_or_else(|failure| panic!("{failure}"));
        assert!(poll().is_some_and(|data| data.contains("12.25")));
        assert_eq!(poll(), None);
        replace_result(&directory, 13.75);
        assert!(poll().is_some_and(|data| data.contains("13.75") && !data.contains("12.25")));
        std::fs::write(directory.result_path(), "{}").unwrap();
        assert!(poll().is_some_and(|data| data.contains("is damaged") && !data.contains("13.75")));
        assert_eq!(poll(), None);
    }

    #[test]
    fn removed_store_gives_a_notice() {
        let scratch = tempfile::tempdir().unwrap();
        let (file, store) = (scratch.path().join("study.yaml"), scratch.path().join("store"));
        std::fs::write(&file, "dataset: digits\narchitecture: resnet8\nticket: {method: lrr, levels: 1}").unwrap();
        std::fs::create_dir(&store).unwrap();
        let common = Common { store: store.clone(), ssh: None, json: false, verbose: 0, quiet: false };
        let mut study = Study::new(ReportSource::open(&common, &[file]).unwrap_or_else(|failure| panic!("{failure}")));
        let mut poll = || study.poll().unwrap_or_else(|failure| panic!("{failure}"));
        assert!(poll().is_some_and(|data| !data.contains(" no longer exists")));
        std::fs::remove_dir(&store).unwrap();
        assert!(poll().is_some_and(|data| data.contains(" no longer exists")));
        assert_eq!(poll(), None);
        std::fs::create_dir(&store).unwrap();
        assert!(poll().is_some_and(|data| !data.contains(" no longer exists")));
    }

    #[test]
    fn address_without_a_port_gets_the_default_port() {
        let known = [
            ("127.0.0.1", "127.0.0.1:8765"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("::1", "[::1]:8765"),
            ("[::1]:0", "[::1]:0"),
        ];
        for (text, expected) in known {
            assert_eq!(parse_address(text).unwrap().to_string(), expected);
        }
        assert!(parse_address("localhost:http").is_err());
    }
}
