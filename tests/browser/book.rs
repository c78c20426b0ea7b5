//! The book as a site, in a browser.

use std::fs;

use check::Failure;
use libtest_mimic::{Failed, Trial};
use serde_json::json;
use tests::{STEPS, build_book, ensure, start_in, workspace};

use crate::chromium::Browser;

/// An expression for the blocks that do not fit, once all is unfolded and the fonts are there. What a terminal or
/// a program says may not be wider than its block.
const TOO_WIDE: &str = "document.fonts.ready.then(() => {
    for (const details of document.querySelectorAll('details')) details.open = true;
    return [...document.querySelectorAll('pre, pre > code')]
        .filter((block) => block.scrollWidth > block.clientWidth)
        .map((block) => block.textContent.slice(0, 60));
})";

/// An expression for the addresses that a search has brought, once there are some.
const FOUND: &str = "new Promise((done) => {
    const results = document.querySelector('#mdbook-searchresults');
    const look = () => {
        const links = [...results.querySelectorAll('a')];
        if (links.length > 0) done(links.map((link) => link.href));
    };
    new MutationObserver(look).observe(results, { childList: true });
    look();
})";

pub(crate) fn trials() -> [Trial; 1] {
    let title = "the book fits a usual screen, and its search finds (needs chromium and mdbook)";
    [Trial::test(title, || book_is_shown().map_err(|failure| Failed::from(failure.to_string())))]
}

#[allow(clippy::print_stderr)]
fn book_is_shown() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    build_book(folder.path())?;
    let step = STEPS.into_iter().find(|step| step.number() == "09").ok_or("no step 09")?;
    let server = start_in(step, folder.path())?;
    let mut browser = Browser::start()?;
    let screen = json!({ "width": 1366, "height": 768, "deviceScaleFactor": 1, "mobile": false });
    browser.call("Emulation.setDeviceMetricsOverride", screen)?;

    let mut faults = Vec::new();
    for entry in fs::read_dir(workspace().join("chapters"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(name) = name.strip_suffix(".md").filter(|name| *name != "SUMMARY") else {
            continue;
        };
        let page = format!("{}.html", if name == "README" { "index" } else { name });
        let visit = browser.visit(&server, &page)?;
        ensure!(visit.failures.is_empty(), "{page}: {:?}", visit.failures);
        let blocks = browser.evaluate("document.querySelectorAll('pre').length")?;
        let too_wide = browser.evaluate(TOO_WIDE)?;
        eprintln!("{page}: {blocks} blocks, too wide are {too_wide}");
        faults.extend(
            too_wide.as_array().into_iter().flatten().map(|block| format!("{page}: {block}")),
        );
    }
    ensure!(faults.is_empty(), "too wide:\n{}", faults.join("\n"));

    browser.visit(&server, "index.html?search=zombie")?;
    let found = browser.evaluate(FOUND)?.to_string();
    ensure!(found.contains("04-fork.html"), "zombie is found in {found}");
    Ok(())
}
