//! A real browser without a window: Chromium, spoken to through chromedriver (see `tests/browser/install`).

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::http::Method;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use url::{ParseError, Url};

/// One browser with a profile of its own. Dropping it ends it.
pub struct Browser {
    runtime: Runtime,
    client: Client,
    driver: Child,
    _profile: TempDir,
}

impl Browser {
    pub fn start() -> Browser {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // With all the browser's processes in a group of their own.
            .process_group(0)
            .spawn()
            .expect("no chromedriver: run tests/browser/install");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            Some(line.split_once("on port ")?.1.trim_end_matches('.').to_string())
                .filter(|_| line.contains("successfully"))
        });
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let port = port.expect("chromedriver says its port");

        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--window-size=1280,900",
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let capabilities = json!({
            "goog:chromeOptions": {"args": arguments, "binary": "/usr/bin/chromium"},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            builder.capabilities(capabilities.as_object().unwrap().clone());
            builder.connect(&format!("http://127.0.0.1:{port}")).await.expect("a browser starts")
        });
        Browser { runtime, client, driver, _profile: profile }
    }

    /// Opens a page of a study, and waits until it shows the study.
    pub fn open(&self, url: &str) {
        // An address that differs behind the # alone would load nothing.
        self.runtime.block_on(self.client.goto("about:blank")).unwrap();
        self.runtime.block_on(self.client.goto(url)).unwrap();
        self.wait("the page", "return document.documentElement.dataset.ready === 'true'");
    }

    pub fn open_file(&self, path: &Path) {
        self.open(Url::from_file_path(path.canonicalize().unwrap()).unwrap().as_str());
    }

    pub fn back(&self) {
        self.runtime.block_on(self.client.back()).unwrap();
    }

    /// What a function with this body returns in the page.
    pub fn js(&self, body: &str) -> Value {
        self.runtime.block_on(self.client.execute(body, vec![])).unwrap_or_else(|error| panic!("{body}: {error}"))
    }

    pub fn text(&self, body: &str) -> String {
        self.js(body).as_str().unwrap_or_else(|| panic!("{body} gives no text")).to_string()
    }

    /// Waits until a function with this body returns true.
    pub fn wait(&self, what: &str, body: &str) {
        let began = Instant::now();
        while self.js(body) != json!(true) {
            assert!(began.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Clicks in the middle of what a selector finds, as a mouse does.
    pub fn click(&self, selector: &str) {
        let click = async { self.client.find(fantoccini::Locator::Css(selector)).await?.click().await };
        self.runtime.block_on(click).unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// Types into what a selector finds.
    pub fn type_into(&self, selector: &str, text: &str) {
        let typing = async { self.client.find(fantoccini::Locator::Css(selector)).await?.send_keys(text).await };
        self.runtime.block_on(typing).unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// Presses a key wherever the focus is.
    pub fn press(&self, key: char) {
        let pressing = async { self.client.active_element().await?.send_keys(&key.to_string()).await };
        self.runtime.block_on(pressing).unwrap();
    }

    /// A command of the browser's own protocol.
    pub fn command(&self, name: &str, parameters: Value) -> Value {
        let command = Extra { path: "goog/cdp/execute", body: json!({"cmd": name, "params": parameters}) };
        self.runtime.block_on(self.client.issue_cmd(command)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// As a screen of this size, in pixels of CSS; a phone's if it is narrow.
    pub fn resize(&self, width: u32, height: u32) {
        let mobile = width < 600;
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.command("Emulation.setDeviceMetricsOverride", screen);
    }

    /// What the console says, since it was asked last.
    pub fn console(&self) -> Vec<String> {
        let command = Extra { path: "se/log", body: json!({"type": "browser"}) };
        let said = self.runtime.block_on(self.client.issue_cmd(command)).unwrap();
        said.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap().to_string()).collect()
    }

    /// The whole page as a PNG.
    pub fn screenshot(&self) -> Vec<u8> {
        let picture = self.command("Page.captureScreenshot", json!({"captureBeyondViewport": true}));
        decoded(picture["data"].as_str().unwrap())
    }

    /// The page as it is printed on A4.
    pub fn pdf(&self) -> Vec<u8> {
        let printed = self.command("Page.printToPDF", json!({"paperWidth": 8.27, "paperHeight": 11.69}));
        decoded(printed["data"].as_str().unwrap())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.runtime.block_on(self.client.clone().close());
        if let Some(group) = Pid::from_raw(self.driver.id() as i32) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.driver.wait();
    }
}

/// A command that WebDriver's standard does not have.
#[derive(Debug)]
struct Extra {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Extra {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

/// Bytes from base64.
fn decoded(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let fours = text.trim_end_matches('=').as_bytes().chunks(4);
    fours
        .flat_map(|four| {
            let bits =
                four.iter().fold(0u32, |bits, &byte| bits << 6 | u32::from(digit(byte))) << (6 * (4 - four.len()));
            bits.to_be_bytes()[1..four.len()].to_vec()
        })
        .collect()
}
