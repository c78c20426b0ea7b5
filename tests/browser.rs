//! A real browser loads the demo site from every step that serves it.
//!
//! Needs Debian's chromium. Where it is missing, the tests are listed as ignored.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use check::{Failure, Server};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tests::{STEPS, Step, ensure, start, trial};
use tungstenite::{Message, WebSocket};

/// A bound for what hangs; the measured times are printed.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    let is_missing = Command::new("chromium").arg("--version").output().is_err();
    let trials = STEPS
        .into_iter()
        .filter(|step| step.serves_files)
        .map(|step| {
            trial(step, "shows the demo site in a browser (needs chromium)", shows_the_site)
        })
        .map(|trial| trial.with_ignored_flag(is_missing))
        .collect();
    libtest_mimic::run(&tests::arguments(), trials).exit();
}

#[allow(clippy::print_stderr)]
fn shows_the_site(step: Step) -> Result<(), Failure> {
    let server = start(step, &[])?;
    let mut browser = Browser::start()?;
    // A browser may open connections that it does not use; these two are sure to be there.
    let _spare = [server.connect()?, server.connect()?];
    for (page, pictures) in [("", 1), ("news.html", 0), ("models/", 0), ("gallery.html", 100)] {
        let visit = browser.visit(&server, page)?;
        eprintln!("{}: /{page}: {visit}", step.name);
        ensure!(visit.failures.is_empty(), "/{page}: {:?}\n{}", visit.failures, server.log());
        ensure!(visit.pictures == pictures, "/{page}: {} pictures shown", visit.pictures);
        if pictures == 100 {
            // A connection for each picture, or at most the few that a browser opens at once.
            let opened = visit.connections.len();
            let is_right = if step.is_persistent { opened <= 8 } else { opened >= 100 };
            ensure!(is_right, "{opened} connections for {pictures} pictures");
        }
    }
    Ok(())
}

/// What loading a page took.
struct Visit {
    failures: Vec<String>,
    pictures: u64,
    /// The browser's numbers for the connections that answers came over.
    connections: HashSet<u64>,
    answers: usize,
    time: Duration,
}

impl std::fmt::Display for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Visit { pictures, connections, answers, time, .. } = self;
        let connections = connections.len();
        write!(f, "{answers} answers over {connections} connections, {pictures} pictures, {time:?}")
    }
}

/// A headless browser, driven over its DevTools protocol. Dropping it ends all its processes.
struct Browser {
    process: Child,
    /// Kept open, so that the browser can write.
    _stderr: BufReader<ChildStderr>,
    _profile: tempfile::TempDir,
    socket: WebSocket<TcpStream>,
    session: Option<String>,
    last_id: u64,
}

impl Browser {
    fn start() -> Result<Browser, Failure> {
        let profile = tempfile::tempdir()?;
        let mut process = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
            .args(["--disable-component-update", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let mut stderr = BufReader::new(process.stderr.take().ok_or("no stderr")?);
        let url = loop {
            let mut line = String::new();
            if stderr.read_line(&mut line)? == 0 {
                return Err("the browser ended before it listened".into());
            }
            if let Some(url) = line.trim().strip_prefix("DevTools listening on ") {
                break url.to_owned();
            }
        };
        let address = url.trim_start_matches("ws://").split('/').next().unwrap_or_default();
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (socket, _) = tungstenite::client(&url, stream).map_err(|error| error.to_string())?;
        let mut browser = Browser {
            process,
            _stderr: stderr,
            _profile: profile,
            socket,
            session: None,
            last_id: 0,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach)?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        browser.call("Page.enable", json!({}))?;
        browser.call("Network.enable", json!({}))?;
        Ok(browser)
    }

    /// Loads a page and waits until it and all it needs have arrived.
    fn visit(&mut self, server: &Server, page: &str) -> Result<Visit, Failure> {
        let url = format!("http://{}/{page}", server.address());
        let start = Instant::now();
        let mut visit = Visit {
            failures: Vec::new(),
            pictures: 0,
            connections: HashSet::new(),
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
                    visit.connections.extend(response["connectionId"].as_u64());
                    if response["status"] != 200 {
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
        let count = "[...document.images].filter(i => i.complete && i.naturalWidth > 0).length";
        let result = self.call("Runtime.evaluate", json!({ "expression": count }))?;
        visit.pictures = result["result"]["value"].as_u64().ok_or("no count of pictures")?;
        Ok(visit)
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
    fn call(&mut self, method: &str, parameters: Value) -> Result<Value, Failure> {
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

impl Drop for Browser {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.process.id() as i32);
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.process.wait();
        let gone = || killpg(group, None).is_err();
        let _ = check::wait_until("the browser's processes end", PATIENCE, gone);
    }
}
