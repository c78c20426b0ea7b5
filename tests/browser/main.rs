//! Real browsers load the demo site from every step that serves it, and the book.
//!
//! Needs Debian's chromium and firefox-esr, and mdbook. Where one is missing, its tests are listed as ignored.

mod book;
mod chromium;
mod drawing;
mod firefox;
mod pictures;
mod process;

use std::collections::HashSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use check::{Failure, Fixture, Server, wait_until};
use libtest_mimic::Trial;
use serde_json::json;
use tests::{STEPS, Step, ensure, repeatedly, start, start_with, trial, workspace};

use crate::chromium::{Browser, Visit, chromium};
use crate::drawing::Drawing;
use crate::firefox::{Firefox, firefox};

/// A bound for what hangs; the measured times are printed.
const PATIENCE: Duration = Duration::from_secs(30);

/// An expression that brings what the page says of its server, once it does.
const SERVED_BY: &str = "new Promise((done) => {
    const look = () => {
        const words = document.querySelector('#served-by');
        if (words) done(words.textContent);
    };
    new MutationObserver(look).observe(document.body, { childList: true, subtree: true });
    look();
})";

fn main() {
    let mut trials = Vec::new();
    for step in STEPS.into_iter().filter(|step| step.serves_files) {
        let site = "shows the demo site in a browser (needs chromium)";
        trials.push(trial(step, site, shows_the_site));
        let gallery = "the gallery counts its connections (needs chromium)";
        trials.push(trial(step, gallery, |step| repeatedly(|| counts_connections(step))));
        let other = "the gallery in another browser (needs firefox-esr)";
        trials.push(trial(step, other, |step| repeatedly(|| shows_the_gallery_in_firefox(step))));
        let plain = "the gallery works without JavaScript (needs chromium)";
        trials.push(trial(step, plain, works_without_javascript));
        // Every step sends the same heads, which the wire suite sees to.
        if ["03", "09"].contains(&step.number()) {
            let edits = "what was edited shows at the next visit (needs chromium)";
            trials.push(trial(step, edits, shows_edits));
            let encodings = "a page is read in its own encoding (needs chromium)";
            trials.push(trial(step, encodings, believes_the_page));
        }
    }
    for step in STEPS.into_iter().filter(|step| step.number() == "09") {
        let again = "the gallery counts at a second visit (needs chromium)";
        trials.push(trial(step, again, |step| repeatedly(|| counts_a_second_visit(step))));
    }
    trials.extend(book::trials());
    trials.extend(pictures::trials());
    let mut arguments = tests::arguments(4);
    if std::env::var_os("REWRITE").is_some_and(|value| value == "1") {
        // Nothing else may run while the times are taken that a chapter shows.
        arguments.test_threads = Some(1);
        trials.push(Trial::test("pictures for the book (needs chromium)", || {
            take_pictures().map_err(|error| error.to_string().into())
        }));
    }
    let missing: Vec<&str> =
        ["chromium", "firefox-esr", "mdbook"].into_iter().filter(|tool| is_missing(tool)).collect();
    let ignored_where_missing = |trial: Trial| {
        let lacks = missing.iter().any(|tool| trial.name().contains(tool));
        trial.with_ignored_flag(lacks)
    };
    let trials = trials.into_iter().map(ignored_where_missing).collect();
    let conclusion = libtest_mimic::run(&arguments, tests::where_possible(trials));
    drop(chromium().take());
    drop(firefox().take());
    conclusion.exit();
}

fn is_missing(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_err()
}

#[allow(clippy::print_stderr)]
fn shows_the_site(step: Step) -> Result<(), Failure> {
    let server = start(step, &[])?;
    let mut browser = Browser::start()?;
    // A browser may open connections that it does not use; these two are sure to be there.
    let _spare = [server.connect()?, server.connect()?];
    for (page, pictures) in [("", 1), ("news.html", 0), ("models/", 0), ("gallery.html", 100)] {
        let mut visit = browser.visit(&server, page)?;
        let mut visits = 1;
        if visit.lost_a_socket() {
            eprintln!("{}: /{page}: once more, since {:?}", step.name, visit.failures);
            visit = browser.visit(&server, page)?;
            visits = 2;
        }
        eprintln!("{}: /{page}: {visit}", step.name);
        ensure!(visit.failures.is_empty(), "/{page}: {:?}\n{}", visit.failures, server.log());
        ensure!(visit.pictures == pictures, "/{page}: {} pictures shown", visit.pictures);
        let said = browser.evaluate(SERVED_BY)?;
        ensure!(said == served_by(step), "/{page} says: {said}");
        // It knows that from the answer that the browser has kept.
        let requests = server.log().matches(&format!(" GET /{page} ")).count();
        ensure!(requests <= visits, "{requests} requests for /{page}");
        if pictures == 100 {
            // A connection for each picture, or at most the few that a browser opens at once.
            let opened = visit.connections.len();
            let is_right = if step.is_persistent { opened <= 8 } else { opened >= 100 };
            ensure!(is_right, "{opened} connections for {pictures} pictures");
        }
    }
    Ok(())
}

/// What each page says at its top.
fn served_by(step: Step) -> String {
    let name = step.name.trim_start_matches(step.short()).replace('-', " ");
    format!("served by step {}:{name}", step.number())
}

/// The script in the page sees times only. What it concludes must be what happened.
#[allow(clippy::print_stderr)]
fn counts_connections(step: Step) -> Result<(), Failure> {
    // What a browser's own bars leave of a usual screen.
    let screen = json!({ "width": 1366, "height": 650, "deviceScaleFactor": 1, "mobile": false });
    let (server, mut browser, visit) = visit_gallery(step, |browser| {
        browser.call("Emulation.setDeviceMetricsOverride", screen.clone())?;
        Ok(())
    })?;

    // What a connection carried is in the log once the server has sent it.
    let used = visit.connections.len();
    let accepted = || connections_in(&server.log(), step);
    wait_until("all connections are in the log", PATIENCE, || accepted() >= used)?;
    let accepted = accepted();
    let is_right = if step.is_persistent { accepted <= 8 } else { accepted >= 100 };
    ensure!(is_right, "the server accepted {accepted} connections");

    let drawing = agrees(&mut browser, &visit)?;
    ensure!(drawing.is_shown, "the drawing is hidden");
    ensure!(drawing.is_in_view, "the drawing is seen only after scrolling");
    ensure!(drawing.columns == 10, "{} columns of pictures", drawing.columns);
    ensure!(drawing.bars == 100, "{} bars", drawing.bars);
    ensure!(drawing.rows == 100, "{} rows in the table", drawing.rows);
    let text = &drawing.text_alternative;
    ensure!(text.starts_with(&drawing.sentence), "text alternative: {text:?}");
    Ok(())
}

/// What is drawn, once it is what has happened.
#[allow(clippy::print_stderr)]
fn agrees(browser: &mut Browser, visit: &Visit) -> Result<Drawing, Failure> {
    let drawing = Drawing::read(&browser.evaluate(drawing::LOOK)?)?;
    let (carried, opened) = (visit.picture_connections.len(), visit.opened_for_pictures);
    eprintln!("{carried} carried pictures, {opened} opened for pictures. {}", drawing.sentence);
    ensure!(
        drawing.sentence.starts_with(&format!("100 pictures over {carried} connections in ")),
        "pictures came over {carried} connections, but the page says: {}",
        drawing.sentence
    );
    ensure!(
        drawing.opened == opened,
        "{opened} connections were opened for pictures, but {} drawn",
        drawing.opened
    );
    Ok(drawing)
}

/// A picture whose copy is still good is read from the disk while its connection carries the next answer.
fn counts_a_second_visit(step: Step) -> Result<(), Failure> {
    let server = start(step, &[])?;
    Browser::start_with_disk()?.visit(&server, "gallery.html")?;
    // In a window of its own, which has nothing in its memory.
    let mut browser = Browser::start_with_disk()?;
    let mut visit = browser.visit(&server, "gallery.html")?;
    if visit.lost_a_socket() {
        visit = browser.visit(&server, "gallery.html")?;
    }
    ensure!(visit.failures.is_empty(), "{:?}\n{}", visit.failures, server.log());
    let drawing = agrees(&mut browser, &visit)?;
    let remark = "Of 100 pictures the server said that the browser's copy is still good.";
    ensure!(drawing.remarks.contains(remark), "it says: {}", drawing.remarks);
    Ok(())
}

/// Firefox rounds its times, so a connection may be open before the next one of them. Then the page says that there
/// may have been more.
#[allow(clippy::print_stderr)]
fn shows_the_gallery_in_firefox(step: Step) -> Result<(), Failure> {
    let server = start(step, &[])?;
    let mut firefox = firefox();
    if firefox.is_none() {
        *firefox = Some(Firefox::start()?);
    }
    let firefox = firefox.as_mut().ok_or("no Firefox")?;
    let expression = format!(
        "{SERVED_BY}.then((servedBy) => ({{
            servedBy, pictures: {}, drawing: {} }}))",
        chromium::COUNT_PICTURES,
        drawing::LOOK
    );
    let looked = firefox.look(&server, "gallery.html", &expression)?;
    ensure!(looked["pictures"] == 100, "{} pictures shown", looked["pictures"]);
    ensure!(looked["servedBy"] == served_by(step), "it says: {}", looked["servedBy"]);

    let all = || pictures_in(&server.log()).len() >= 100;
    wait_until("all pictures are in the log", PATIENCE, all)?;
    let log = server.log();
    // A port is not given again while a connection is persistent.
    let ports = || pictures_in(&log).into_iter().collect::<HashSet<&str>>();
    let carried = if step.is_persistent { ports().len() } else { 100 };

    let drawing = Drawing::read(&looked["drawing"])?;
    eprintln!(
        "{}: {carried} carried pictures. {} {}",
        step.name, drawing.sentence, drawing.remarks
    );
    ensure!(drawing.is_shown && drawing.bars == 100, "{} bars", drawing.bars);
    let counted = drawing.sentence.strip_prefix("100 pictures over ").unwrap_or_default();
    match counted.strip_prefix("at least ") {
        None => {
            ensure!(counted.starts_with(&format!("{carried} connection")), "it says: {counted}")
        }
        Some(counted) => {
            let least: usize = counted.split(' ').next().unwrap_or_default().parse()?;
            ensure!(least <= carried, "at least {least}, but {carried} carried pictures");
            ensure!(drawing.remarks.contains("rounds its times"), "no reason: {}", drawing.remarks);
        }
    }
    Ok(())
}

/// The client's address for each picture in the log.
fn pictures_in(log: &str) -> Vec<&str> {
    let heads = log.lines().filter_map(|line| line.split_once(" GET /gallery/"));
    heads.filter_map(|(head, _)| head.rsplit(' ').next()).collect()
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
    let drawing = Drawing::read(&browser.evaluate(drawing::LOOK)?)?;
    ensure!(!drawing.is_shown, "an empty drawing is shown");
    Ok(())
}

fn shows_edits(step: Step) -> Result<(), Failure> {
    let fixture = Fixture::new()?;
    let root = fixture.root();
    // A browser that may guess takes a file that has not changed for days from its own copy for hours.
    let style = |color: &str| -> Result<(), Failure> {
        fs::write(root.join("style.css"), format!("body {{ color: {color} }}"))?;
        let long_ago = SystemTime::now() - Duration::from_secs(10 * 24 * 3600);
        Ok(fs::File::open(root.join("style.css"))?.set_modified(long_ago)?)
    };
    style("#ff0000")?;
    for page in ["one.html", "two.html"] {
        fs::write(root.join(page), "<!doctype html><link rel=stylesheet href=style.css>hello\n")?;
    }
    // The address of a folder without its slash is moved permanently.
    fs::create_dir(root.join("moved.html"))?;
    fs::write(root.join("moved.html/index.html"), "in the folder\n")?;
    let server = start_with(step, &fixture, &[])?;
    let mut browser = Browser::start()?;
    let color = "getComputedStyle(document.body).color";
    browser.visit(&server, "one.html")?;
    ensure!(browser.evaluate(color)? == "rgb(255, 0, 0)", "{}", browser.evaluate(color)?);
    style("#0000ff")?;
    browser.visit(&server, "two.html")?;
    ensure!(browser.evaluate(color)? == "rgb(0, 0, 255)", "{}", browser.evaluate(color)?);

    let text = "document.body.textContent.trim()";
    browser.visit(&server, "moved.html")?;
    ensure!(browser.evaluate(text)? == "in the folder", "{}", browser.evaluate(text)?);
    fs::remove_dir_all(root.join("moved.html"))?;
    fs::write(root.join("moved.html"), "a page now\n")?;
    browser.visit(&server, "moved.html")?;
    ensure!(browser.evaluate(text)? == "a page now", "{}", browser.evaluate(text)?);
    Ok(())
}

fn believes_the_page(step: Step) -> Result<(), Failure> {
    let fixture = Fixture::new()?;
    // One that says nothing is in UTF-8, as editors save it.
    fs::write(fixture.root().join("utf8.html"), "<p>caf\u{e9}\n")?;
    let server = start_with(step, &fixture, &[])?;
    let mut browser = Browser::start()?;
    for (page, text) in [
        ("latin.html", "caf\u{e9}"),
        ("latin.xml", "caf\u{e9}"),
        ("japanese.html", "\u{65e5}\u{672c}"),
        ("utf8.html", "caf\u{e9}"),
        ("utf8.txt", "caf\u{e9}"),
    ] {
        browser.visit(&server, page)?;
        let shown = browser.evaluate("document.documentElement.textContent")?;
        ensure!(shown.as_str().is_some_and(|shown| shown.contains(text)), "{page}: {shown}");
    }
    Ok(())
}

/// The gallery with its hundred pictures, in a new window that has been prepared.
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
