//! Chromium, driven over its DevTools protocol: <https://chromedevtools.github.io/devtools-protocol/>.

use std::collections::{HashMap, HashSet};
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use check::{Failure, Server};
use serde_json::{Value, json};
use tests::ensure;
use tungstenite::{Message, WebSocket};

use crate::PATIENCE;
use crate::process::{Process, connect};

/// An expression for how many pictures of the page are there.
pub(crate) const COUNT_PICTURES: &str =
    "[...document.images].filter((image) => image.complete && image.naturalWidth > 0).length";

/// What loading a page took.
pub(crate) struct Visit {
    pub(crate) failures: Vec<String>,
    pub(crate) pictures: u64,
    /// The browser's numbers for the connections that answers came over.
    pub(crate) connections: HashSet<u64>,
    /// Those of them that pictures came over.
    pub(crate) picture_connections: HashSet<u64>,
    /// How many pictures had to wait until a connection was opened.
    pub(crate) opened_for_pictures: u64,
    answers: usize,
    time: Duration,
}

impl Visit {
    /// On a machine with far too much to do, Chromium now and then loses a socket that it has just
    /// connected, and gives a picture up without a request.
    pub(crate) fn lost_a_socket(&self) -> bool {
        let is_lost = |failure: &String| failure.contains("net::ERR_SOCKET_NOT_CONNECTED");
        !self.failures.is_empty() && self.failures.iter().all(is_lost)
    }
}

impl std::fmt::Display for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Visit { pictures, connections, answers, time, .. } = self;
        let connections = connections.len();
        write!(f, "{answers} answers over {connections} connections, {pictures} pictures, {time:?}")
    }
}

/// A headless browser that all tests share.
pub(crate) struct Chromium {
    _process: Process,
    /// Where it listens for its DevTools protocol.
    url: String,
}

/// The Chromium of all tests, once one has needed it.
pub(crate) fn chromium() -> MutexGuard<'static, Option<Chromium>> {
    static CHROMIUM: Mutex<Option<Chromium>> = Mutex::new(None);
    CHROMIUM.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Chromium {
    fn start() -> Result<Chromium, Failure> {
        let profile = tempfile::tempdir()?;
        let mut command = Command::new("chromium");
        command
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
            .args(["--disable-component-update", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()));
        let (process, url) = Process::start(&mut command, profile, "DevTools listening on ")?;
        Ok(Chromium { _process: process, url })
    }
}

/// A page in a window of its own, which shares neither a cache nor connections with another: what the
/// browser calls incognito.
pub(crate) struct Browser {
    socket: WebSocket<TcpStream>,
    session: Option<String>,
    last_id: u64,
}

impl Browser {
    pub(crate) fn start() -> Result<Browser, Failure> {
        let mut browser = Browser::connect()?;
        let window =
            browser.call("Target.createBrowserContext", json!({ "disposeOnDetach": true }))?;
        let context = &window["browserContextId"];
        browser.open(json!({ "url": "about:blank", "browserContextId": context }))
    }

    /// A page with a cache on the disk, as a reader's browser has it.
    pub(crate) fn start_with_disk() -> Result<Browser, Failure> {
        Browser::connect()?.open(json!({ "url": "about:blank" }))
    }

    fn connect() -> Result<Browser, Failure> {
        let url = {
            let mut chromium = chromium();
            if chromium.is_none() {
                *chromium = Some(Chromium::start()?);
            }
            chromium.as_ref().map(|chromium| chromium.url.clone()).unwrap_or_default()
        };
        let socket = connect(&url, PATIENCE)?;
        Ok(Browser { socket, session: None, last_id: 0 })
    }

    fn open(mut self, target: Value) -> Result<Browser, Failure> {
        let target = self.call("Target.createTarget", target)?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", attach)?;
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        self.call("Page.enable", json!({}))?;
        self.call("Network.enable", json!({}))?;
        Ok(self)
    }

    /// Loads a page and waits until it and all it needs have arrived.
    pub(crate) fn visit(&mut self, server: &Server, page: &str) -> Result<Visit, Failure> {
        let url = format!("http://{}/{page}", server.address());
        let start = Instant::now();
        let mut visit = Visit {
            failures: Vec::new(),
            pictures: 0,
            connections: HashSet::new(),
            picture_connections: HashSet::new(),
            opened_for_pictures: 0,
            answers: 0,
            time: Duration::ZERO,
        };
        let mut urls = HashMap::new();
        self.send("Page.navigate", json!({ "url": url }))?;
        loop {
            let event = self.receive()?;
            let parameters = &event["params"];
            match event["method"].as_str().unwrap_or_default() {
                "Network.requestWillBeSent" => {
                    let url = parameters["request"]["url"].as_str().unwrap_or_default();
                    urls.insert(parameters["requestId"].to_string(), url.to_owned());
                }
                "Network.responseReceived" => {
                    let response = &parameters["response"];
                    visit.answers += 1;
                    let connection = response["connectionId"].as_u64();
                    visit.connections.extend(connection);
                    if parameters["type"] == "Image" {
                        visit.picture_connections.extend(connection);
                        visit.opened_for_pictures +=
                            u64::from(response["connectionReused"] == false);
                    }
                    if ![200, 304].map(Value::from).contains(&response["status"]) {
                        visit.failures.push(format!("{}: {}", response["url"], response["status"]));
                    }
                }
                "Network.loadingFailed" => {
                    let url = urls.get(&parameters["requestId"].to_string());
                    visit.failures.push(format!("{url:?}: {}", parameters["errorText"]));
                }
                "Page.loadEventFired" => break,
                _ => {}
            }
        }
        visit.time = start.elapsed();
        visit.pictures = self.evaluate(COUNT_PICTURES)?.as_u64().ok_or("no count of pictures")?;
        Ok(visit)
    }

    /// The value of an expression in the page. A promise is waited for.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Result<Value, Failure> {
        let parameters =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut result = self.call("Runtime.evaluate", parameters)?;
        let exception = &result["exceptionDetails"];
        ensure!(exception.is_null(), "{expression}: {exception}");
        Ok(result["result"]["value"].take())
    }

    /// A PNG picture of one element, with a margin of 16 pixels.
    pub(crate) fn picture_of(&mut self, selector: &str) -> Result<Vec<u8>, Failure> {
        let clip = self.evaluate(&format!(
            "(({{ x, y, width, height }}) => ({{
                x: x - 16, y: y + scrollY - 16, width: width + 32, height: height + 32, scale: 1
            }}))(document.querySelector('{selector}').getBoundingClientRect())"
        ))?;
        let parameters = json!({ "clip": clip, "captureBeyondViewport": true });
        let screenshot = self.call("Page.captureScreenshot", parameters)?;
        // It comes in base64, which the browser can decode.
        let bytes = self.evaluate(&format!(
            "Array.from(atob({}), (letter) => letter.charCodeAt(0))",
            screenshot["data"]
        ))?;
        Ok(serde_json::from_value(bytes)?)
    }

    fn send(&mut self, method: &str, parameters: Value) -> Result<u64, Failure> {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(message.to_string()))?;
        Ok(self.last_id)
    }

    /// Calls a method and returns its result; events that come before it are passed over.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Result<Value, Failure> {
        let id = self.send(method, parameters)?;
        loop {
            let mut message = self.receive()?;
            if message["id"] == id {
                ensure!(message["error"].is_null(), "{method}: {}", message["error"]);
                return Ok(message["result"].take());
            }
        }
    }

    fn receive(&mut self) -> Result<Value, Failure> {
        loop {
            if let Message::Text(text) = self.socket.read()? {
                return Ok(serde_json::from_str(&text)?);
            }
        }
    }
}
