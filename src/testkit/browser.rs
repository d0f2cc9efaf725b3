//! A real browser without a window: Chromium, controlled through chromedriver (see `launch/packages`).

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The key of the identifier of an element in WebDriver.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with a profile of its own, which ends when it is dropped.
pub struct Browser {
    /// The address of the session.
    session: String,
    driver: Child,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser.
    pub fn start() -> Browser {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // All processes of the browser are in one group, so that they can be ended together.
            .process_group(0)
            .spawn()
            .expect("cannot start chromedriver; help: run launch/packages browser");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            Some(line.split_once("on port ")?.1.trim_end_matches('.').to_string())
                .filter(|_| line.contains("successfully"))
        });
        // Later output must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let port = port.expect("chromedriver prints its port");

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
        let driver_address = format!("http://127.0.0.1:{port}/session");
        let settings = json!({"capabilities": {"alwaysMatch": capabilities}});
        let response =
            request(minreq::post(&driver_address).with_body(settings.to_string())).expect("a browser starts");
        let session = format!("{driver_address}/{}", response["sessionId"].as_str().unwrap());
        Browser { session, driver, _profile: profile }
    }

    /// Sends a command of the WebDriver protocol, and returns the value of the response.
    fn post(&self, path: &str, body: Value) -> Value {
        let response = request(minreq::post(format!("{}/{path}", self.session)).with_body(body.to_string()));
        response.unwrap_or_else(|error| panic!("{path} {body}: {error}"))
    }

    /// Opens a page of a study, and waits until it shows the study.
    pub fn open(&self, url: &str) {
        // A browser does not load an address that differs only in the part after #.
        self.post("url", json!({"url": "about:blank"}));
        self.post("url", json!({"url": url}));
        self.wait("the page", "return document.documentElement.dataset.ready === 'true'");
    }

    /// Opens the page of a study in a file.
    pub fn open_file(&self, path: &Path) {
        self.open(&format!("file://{}", path.canonicalize().unwrap().display()));
    }

    /// Goes back to the previous page.
    pub fn back(&self) {
        self.post("back", json!({}));
    }

    /// Calls a function with this body in the page, and returns its result.
    pub fn js(&self, body: &str) -> Value {
        self.post("execute/sync", json!({"script": body, "args": []}))
    }

    /// Calls a function with this body in the page, and returns its result as text.
    pub fn text(&self, body: &str) -> String {
        self.js(body).as_str().unwrap_or_else(|| panic!("the result of {body} is not text")).to_string()
    }

    /// Waits until a function with this body returns true; `what` is used in error messages.
    pub fn wait(&self, what: &str, body: &str) {
        let began = Instant::now();
        while self.js(body) != json!(true) {
            assert!(began.elapsed() < Duration::from_secs(60), "timed out while waiting for {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn element(&self, selector: &str) -> String {
        let found = self.post("element", json!({"using": "css selector", "value": selector}));
        found[ELEMENT].as_str().unwrap().to_string()
    }

    /// Clicks in the middle of the element that a selector finds.
    pub fn click(&self, selector: &str) {
        self.post(&format!("element/{}/click", self.element(selector)), json!({}));
    }

    /// Types text into the element that a selector finds.
    pub fn type_into(&self, selector: &str, text: &str) {
        self.post(&format!("element/{}/value", self.element(selector)), json!({"text": text}));
    }

    /// Presses a key in the element that has the focus.
    pub fn press(&self, key: char) {
        let focused = request(minreq::get(format!("{}/element/active", self.session))).unwrap();
        self.post(&format!("element/{}/value", focused[ELEMENT].as_str().unwrap()), json!({"text": key.to_string()}));
    }

    /// Sends a command of the browser's own protocol, which has more commands than WebDriver.
    pub fn command(&self, name: &str, parameters: Value) -> Value {
        self.post("goog/cdp/execute", json!({"cmd": name, "params": parameters}))
    }

    /// Sets the size of the screen in CSS pixels. A narrow screen is that of a phone.
    pub fn resize(&self, width: u32, height: u32) {
        let mobile = width < 600;
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.command("Emulation.setDeviceMetricsOverride", screen);
    }

    /// Returns the messages of the console since the last call.
    pub fn console(&self) -> Vec<String> {
        let log = self.post("se/log", json!({"type": "browser"}));
        log.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap().to_string()).collect()
    }

    /// Returns an image of the whole page as PNG.
    pub fn screenshot(&self) -> Vec<u8> {
        let picture = self.command("Page.captureScreenshot", json!({"captureBeyondViewport": true}));
        decode_base64(picture["data"].as_str().unwrap())
    }

    /// Returns the page as PDF on A4 paper.
    pub fn pdf(&self) -> Vec<u8> {
        let printed = self.command("Page.printToPDF", json!({"paperWidth": 8.27, "paperHeight": 11.69}));
        decode_base64(printed["data"].as_str().unwrap())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = request(minreq::delete(&self.session));
        if let Some(group) = Pid::from_raw(self.driver.id() as i32) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.driver.wait();
    }
}

/// Sends a request to chromedriver, and returns the value of the response or the error.
fn request(request: minreq::Request) -> Result<Value, String> {
    let response = request.with_timeout(120).send().map_err(|error| error.to_string())?;
    let value: Value = serde_json::from_slice(response.as_bytes()).map_err(|error| error.to_string())?;
    if response.status_code == 200 { Ok(value["value"].clone()) } else { Err(value["value"].to_string()) }
}

/// Decodes base64.
fn decode_base64(text: &str) -> Vec<u8> {
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
