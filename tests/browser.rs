//! A real browser loads the demo site from every step that serves it.
//!
//! Needs Debian's chromium. Where it is missing, the tests are listed as ignored.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use check::{Failure, Server, wait_until};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tests::{STEPS, Step, ensure, repeatedly, start, trial, workspace};
use tungstenite::{Message, WebSocket};

/// A bound for what hangs; the measured times are printed.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    let is_missing = Command::new("chromium").arg("--version").output().is_err();
    let mut trials = Vec::new();
    for step in STEPS.into_iter().filter(|step| step.serves_files) {
        let site = "shows the demo site in a browser (needs chromium)";
        trials.push(trial(step, site, shows_the_site));
        let gallery = "the gallery counts its connections (needs chromium)";
        trials.push(trial(step, gallery, |step| repeatedly(|| counts_connections(step))));
        let plain = "the gallery works without JavaScript (needs chromium)";
        trials.push(trial(step, plain, works_without_javascript));
    }
    let mut arguments = tests::arguments(4);
    if std::env::var_os("REWRITE").is_some_and(|value| value == "1") {
        // Nothing else may run while the times are taken that a chapter shows.
        arguments.test_threads = Some(1);
        trials.push(Trial::test("pictures for the book (needs chromium)", || {
            take_pictures().map_err(|error| error.to_string().into())
        }));
    }
    let trials = trials.into_iter().map(|trial| trial.with_ignored_flag(is_missing)).collect();
    libtest_mimic::run(&arguments, trials).exit();
}

#[allow(clippy::print_stderr)]
fn shows_the_site(step: Step) -> Result<(), Failure> {
    let server = start(step, &[])?;
    let mut browser = Browser::start()?;
    // A browser may open connections that it does not use; these two are sure to be there.
    let _spare = [server.connect()?, server.connect()?];
    for (page, pictures) in [("", 1), ("news.html", 0), ("models/", 0), ("gallery.html", 100)] {
        let mut visit = browser.visit(&server, page)?;
        if visit.lost_a_socket() {
            eprintln!("{}: /{page}: once more, since {:?}", step.name, visit.failures);
            visit = browser.visit(&server, page)?;
        }
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

/// The script in the page sees times only. What it concludes must be what happened.
#[allow(clippy::print_stderr)]
fn counts_connections(step: Step) -> Result<(), Failure> {
    let (server, mut browser, visit) = visit_gallery(step, |_| Ok(()))?;

    // What a connection carried is in the log once the server has sent it.
    let used = visit.connections.len();
    let accepted = || connections_in(&server.log(), step);
    wait_until("all connections are in the log", PATIENCE, || accepted() >= used)?;
    let accepted = accepted();
    let is_right = if step.is_persistent { accepted <= 8 } else { accepted >= 100 };
    ensure!(is_right, "the server accepted {accepted} connections");

    let drawing = browser.drawing()?;
    let carried = visit.picture_connections.len();
    eprintln!(
        "{}: {accepted} connections accepted, {carried} carried pictures, {} opened for pictures. {}",
        step.name, drawing.opened, drawing.sentence
    );
    ensure!(
        drawing.sentence.starts_with(&format!("100 pictures over {carried} connections in ")),
        "pictures came over {carried} connections, but the page says: {}",
        drawing.sentence
    );
    ensure!(
        drawing.opened == visit.opened_for_pictures,
        "{} connections were opened for pictures, but {} drawn",
        visit.opened_for_pictures,
        drawing.opened
    );
    ensure!(drawing.is_shown, "the drawing is hidden");
    ensure!(drawing.bars == 100, "{} bars", drawing.bars);
    ensure!(drawing.rows == 100, "{} rows in the table", drawing.rows);
    let text = &drawing.text_alternative;
    ensure!(text.starts_with(&drawing.sentence), "text alternative: {text:?}");
    Ok(())
}

/// How many connections a server has accepted. To tell them by the clients' ports would not do: the
/// kernel gives a port again while the page is still loading.
fn connections_in(log: &str, step: Step) -> usize {
    let lines = log.lines().filter(|line| line.contains(" 127.0.0.1:"));
    // A step that closes after an answer writes one line for each connection.
    lines.filter(|line| !step.is_persistent || line.ends_with(" connected")).count()
}

fn works_without_javascript(step: Step) -> Result<(), Failure> {
    let (_server, mut browser, _) = visit_gallery(step, |browser| {
        browser.call("Emulation.setScriptExecutionDisabled", json!({ "value": true }))?;
        Ok(())
    })?;
    ensure!(!browser.drawing()?.is_shown, "an empty drawing is shown");
    Ok(())
}

/// The gallery with its hundred pictures, in a new browser that has been prepared.
#[allow(clippy::print_stderr)]
fn visit_gallery(
    step: Step,
    prepare: impl Fn(&mut Browser) -> Result<(), Failure>,
) -> Result<(Server, Browser, Visit), Failure> {
    for _ in 0..5 {
        let server = start(step, &[])?;
        let mut browser = Browser::start()?;
        prepare(&mut browser)?;
        let visit = browser.visit(&server, "gallery.html")?;
        if visit.lost_a_socket() {
            eprintln!("{}: once more, since {:?}", step.name, visit.failures);
            continue;
        }
        ensure!(visit.failures.is_empty(), "{:?}\n{}", visit.failures, server.log());
        ensure!(visit.pictures == 100, "{} pictures shown", visit.pictures);
        return Ok((server, browser, visit));
    }
    Err("Chromium lost a socket five times in a row".into())
}

/// Writes the drawings that a chapter shows side by side.
fn take_pictures() -> Result<(), Failure> {
    let mut axes = HashSet::new();
    let mut pictures = Vec::new();
    for step in STEPS.into_iter().filter(|step| ["03", "05", "08", "09"].contains(&step.number())) {
        let screen =
            json!({ "width": 760, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        let (_server, mut browser, _) = visit_gallery(step, |browser| {
            browser.call("Emulation.setDeviceMetricsOverride", screen.clone())?;
            browser.call("Emulation.setScrollbarsHidden", json!({ "hidden": true }))?;
            Ok(())
        })?;
        axes.insert(browser.evaluate("document.querySelector('#axis').textContent")?.to_string());
        let name = format!("chapters/pictures/gallery-step{}.png", step.number());
        pictures.push((name, browser.picture_of("#drawing")?));
    }
    ensure!(axes.len() == 1, "the axes differ, so try again when the machine is quiet: {axes:?}");
    for (name, picture) in pictures {
        fs::write(workspace().join(name), picture)?;
    }
    Ok(())
}

/// What the script in the gallery has drawn.
struct Drawing {
    is_shown: bool,
    sentence: String,
    text_alternative: String,
    bars: u64,
    /// The bars on which a connection is opened.
    opened: u64,
    rows: u64,
}

/// What loading a page took.
struct Visit {
    failures: Vec<String>,
    pictures: u64,
    /// The browser's numbers for the connections that answers came over.
    connections: HashSet<u64>,
    /// Those of them that pictures came over.
    picture_connections: HashSet<u64>,
    /// How many pictures had to wait until a connection was opened.
    opened_for_pictures: u64,
    answers: usize,
    time: Duration,
}

impl Visit {
    /// On a machine with far too much to do, Chromium now and then loses a socket that it has just
    /// connected, and gives a picture up without a request.
    fn lost_a_socket(&self) -> bool {
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
        visit.pictures = self.evaluate(count)?.as_u64().ok_or("no count of pictures")?;
        Ok(visit)
    }

    /// The value of an expression in the page. A promise is waited for.
    fn evaluate(&mut self, expression: &str) -> Result<Value, Failure> {
        let parameters =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut result = self.call("Runtime.evaluate", parameters)?;
        let exception = &result["exceptionDetails"];
        ensure!(exception.is_null(), "{expression}: {exception}");
        Ok(result["result"]["value"].take())
    }

    fn drawing(&mut self) -> Result<Drawing, Failure> {
        let drawing = self.evaluate(
            "({
                isShown: document.querySelector('#connections').checkVisibility(),
                sentence: document.querySelector('#sentence').textContent,
                textAlternative: document.querySelector('[role=img]').ariaLabel ?? '',
                bars: document.querySelectorAll('#bars > div').length,
                opened: document.querySelectorAll('#bars .opening').length,
                rows: document.querySelectorAll('#times > tr').length,
            })",
        )?;
        let text = |name: &str| drawing[name].as_str().unwrap_or_default().to_owned();
        Ok(Drawing {
            is_shown: drawing["isShown"] == true,
            sentence: text("sentence"),
            text_alternative: text("textAlternative"),
            bars: drawing["bars"].as_u64().ok_or("no count of bars")?,
            opened: drawing["opened"].as_u64().ok_or("no count of bars with an opening")?,
            rows: drawing["rows"].as_u64().ok_or("no count of rows")?,
        })
    }

    /// A PNG picture of one element, with a margin of 16 pixels.
    fn picture_of(&mut self, selector: &str) -> Result<Vec<u8>, Failure> {
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
        let _ = wait_until("the browser's processes end", PATIENCE, gone);
    }
}
