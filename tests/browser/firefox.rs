//! Firefox, driven over WebDriver BiDi: <https://w3c.github.io/webdriver-bidi/>.

use std::net::TcpStream;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use check::{Failure, Server};
use serde_json::{Value, json};
use tests::ensure;
use tungstenite::{Message, WebSocket};

use crate::PATIENCE;
use crate::process::{Process, connect};

/// A headless browser that all tests share, one after the other: it takes one client.
pub(crate) struct Firefox {
    _process: Process,
    socket: WebSocket<TcpStream>,
    last_id: u64,
    /// What could not be loaded since the last visit began.
    failures: Vec<String>,
}

/// The Firefox of all tests, once one has needed it.
pub(crate) fn firefox() -> MutexGuard<'static, Option<Firefox>> {
    static FIREFOX: Mutex<Option<Firefox>> = Mutex::new(None);
    FIREFOX.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Firefox {
    pub(crate) fn start() -> Result<Firefox, Failure> {
        let profile = tempfile::tempdir()?;
        let mut command = Command::new("firefox-esr");
        command.args(["--headless", "--no-remote", "--remote-debugging-port=0", "--profile"]);
        command.arg(profile.path());
        // What it keeps outside its profile.
        command.env("HOME", profile.path());
        let (process, url) = Process::start(&mut command, profile, "WebDriver BiDi listening on ")?;
        // A session begins when the browser has started, which takes seconds of processor time.
        let socket = connect(&format!("{url}/session"), 4 * PATIENCE)?;
        let mut firefox = Firefox { _process: process, socket, last_id: 0, failures: Vec::new() };
        firefox.call("session.new", json!({ "capabilities": {} }))?;
        let events = json!({ "events": ["network.responseCompleted", "network.fetchError"] });
        firefox.call("session.subscribe", events)?;
        Ok(firefox)
    }

    /// Loads a page in a tab that shares neither a cache nor connections with another, waits until it and all
    /// it needs have arrived, and evaluates an expression there. A promise is waited for.
    pub(crate) fn look(
        &mut self,
        server: &Server,
        page: &str,
        expression: &str,
    ) -> Result<Value, Failure> {
        let user = self.call("browser.createUserContext", json!({}))?["userContext"].take();
        let tab = json!({ "type": "tab", "userContext": user });
        let tab = self.call("browsingContext.create", tab)?["context"].take();
        self.failures.clear();
        let url = format!("http://{}/{page}", server.address());
        let navigation = json!({ "context": tab, "url": url, "wait": "complete" });
        self.call("browsingContext.navigate", navigation)?;
        // In JSON, since BiDi describes values in words of its own.
        let expression = format!("Promise.resolve({expression}).then(JSON.stringify)");
        let target = json!({ "context": tab });
        let script = json!({ "expression": expression, "target": target, "awaitPromise": true });
        let looked = self.call("script.evaluate", script)?;
        let text = looked["result"]["value"].as_str().ok_or_else(|| looked.to_string())?;
        self.call("browser.removeUserContext", json!({ "userContext": user }))?;
        ensure!(self.failures.is_empty(), "{:?}\n{}", self.failures, server.log());
        Ok(serde_json::from_str(text)?)
    }

    /// Calls a method and returns its result. Events that come before it are looked at for failures.
    fn call(&mut self, method: &str, parameters: Value) -> Result<Value, Failure> {
        self.last_id += 1;
        let message = json!({ "id": self.last_id, "method": method, "params": parameters });
        self.socket.send(Message::text(message.to_string()))?;
        loop {
            let Message::Text(text) = self.socket.read()? else { continue };
            let mut message: Value = serde_json::from_str(&text)?;
            if message["id"] == self.last_id {
                ensure!(message["type"] == "success", "{method}: {message}");
                return Ok(message["result"].take());
            }
            let parameters = &message["params"];
            let url = &parameters["request"]["url"];
            match message["method"].as_str().unwrap_or_default() {
                "network.fetchError" => {
                    self.failures.push(format!("{url}: {}", parameters["errorText"]));
                }
                "network.responseCompleted"
                    if ![200, 304].map(Value::from).contains(&parameters["response"]["status"]) =>
                {
                    self.failures.push(format!("{url}: {}", parameters["response"]["status"]));
                }
                _ => {}
            }
        }
    }
}
