//! The book as a site: mdBook builds it, step 09 serves it, and every link of every page is followed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use check::{Client, Failure};
use regex_lite::Regex;
use tests::{build_book, ensure, program, workspace};

use crate::chapter::{Chapter, report};
use crate::terminal::Terminal;

/// What a browser needs to be told of a file by its ending.
const TYPES: [(&str, &str); 6] = [
    (".html", "text/html"),
    (".css", "text/css"),
    (".js", "text/javascript"),
    (".svg", "image/svg+xml"),
    (".png", "image/png"),
    (".woff2", "font/woff2"),
];

/// Builds the site in a folder of its own and walks it from its front page. Returns how many files came.
///
/// # Errors
/// Something is not there or has the wrong type, or a chapter cannot be reached or searched.
pub(crate) fn build_and_walk(chapters: &[Chapter]) -> Result<usize, Failure> {
    let folder = tempfile::tempdir()?;
    build_book(folder.path())?;

    let files = serve_and_walk(folder.path(), &[])?;

    let mut faults = Vec::new();
    let index = files.iter().find(|(name, _)| name.contains("searchindex"));
    let index = index.map(|(_, text)| text.as_str()).ok_or("no page names a search index")?;
    for chapter in chapters {
        let page = match chapter.file_name() {
            "README.md" => "index.html".to_owned(),
            name => name.replace(".md", ".html"),
        };
        if !files.contains_key(&page) {
            faults.push(format!("no link leads to {page}"));
        }
        if !index.contains(&page) {
            faults.push(format!("{page} cannot be found by searching"));
        }
    }
    report(faults)?;
    Ok(files.len())
}

/// Walks the demo site from its front page. Returns how many files came.
///
/// # Errors
/// Something is not there or has the wrong type, or a page lacks what every page should have.
pub(crate) fn walk_demo() -> Result<usize, Failure> {
    // The front page has one link to a page that is not there.
    let files = serve_and_walk(&workspace().join("demo"), &["nothing-here.html"])?;

    let needed = ["<html lang=\"en\">", "<meta charset=\"utf-8\">", "name=\"viewport\"", "<h1>"];
    let title = Regex::new("<title>[^<]+</title>")?;
    let picture = Regex::new("<img[^>]*>")?;
    let mut faults = Vec::new();
    for (name, text) in files.iter().filter(|(name, _)| name.ends_with(".html")) {
        let lacking = needed.iter().filter(|part| !text.contains(**part));
        faults.extend(lacking.map(|part| format!("{name} has no {part}")));
        if !title.is_match(text) {
            faults.push(format!("{name} has no title"));
        }
        for tag in picture.find_iter(text).map(|found| found.as_str()) {
            let says = |attribute: &str| {
                let (_, value) = tag.split_once(&format!(" {attribute}=\"")).unwrap_or_default();
                !value.is_empty() && !value.starts_with('"')
            };
            if !["alt", "width", "height"].into_iter().all(says) {
                faults.push(format!("{name}: no alt, width or height: {tag}"));
            }
        }
    }
    report(faults)?;
    Ok(files.len())
}

/// Serves a folder and walks it as [`walk`] does. The server has a terminal of its own: what a test leaves
/// behind is ended with all descendants of this process, and those are the other tests' too.
fn serve_and_walk(folder: &Path, elsewhere: &[&str]) -> Result<BTreeMap<String, String>, Failure> {
    let command = format!("'{}' --quiet --port 0 .", program("step09-epoll")?.display());
    let server = Terminal::start(&command, folder)?;
    walk(server.port()?.ok_or("the server has ended")?, elsewhere)
}

/// Asks for the front page and all that it leads to. The names are from the root of the site, without a
/// slash in front. Links to `elsewhere` are not followed.
fn walk(port: u16, elsewhere: &[&str]) -> Result<BTreeMap<String, String>, Failure> {
    // In a tag, and where the script of the search is told of its index.
    let in_page = Regex::new(r#"<[a-z][^<>]*? (?:href|src)="([^"]+)"|searchindex_js = "([^"]+)""#)?;
    let in_style = Regex::new(r#"url\(['"]?([^'")]+)['"]?\)"#)?;
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut anchors: BTreeSet<(String, String, String)> = BTreeSet::new();
    let mut to_ask = vec![("the address of the site".to_owned(), "index.html".to_owned())];
    let mut faults = Vec::new();
    while let Some((from, name)) = to_ask.pop() {
        if files.contains_key(&name) || elsewhere.contains(&name.as_str()) {
            continue;
        }
        let text = match fetch(port, if name == "index.html" { "" } else { &name }) {
            Ok(text) => text,
            Err(fault) => {
                faults.push(format!("{from} leads to {name}: {fault}"));
                String::new()
            }
        };
        let links = match name.rsplit('.').next() {
            Some("html") => Some(&in_page),
            Some("css") => Some(&in_style),
            _ => None,
        };
        for found in links.iter().flat_map(|links| links.captures_iter(&text)) {
            let target = found.iter().skip(1).flatten().next().map_or("", |group| group.as_str());
            // The web, or a picture that stands in the style sheet itself.
            if target.contains(':') {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() { name.clone() } else { resolved(&name, path) };
            if !anchor.is_empty() {
                anchors.insert((name.clone(), path.clone(), anchor.to_owned()));
            }
            to_ask.push((name.clone(), path));
        }
        files.insert(name, text);
    }
    for (from, page, anchor) in anchors {
        let is_there =
            files.get(&page).is_some_and(|text| text.contains(&format!("id=\"{anchor}\"")));
        if !is_there {
            faults.push(format!("{from} leads to {page}#{anchor}, and there is no such place"));
        }
    }
    report(faults)?;
    Ok(files)
}

fn fetch(port: u16, name: &str) -> Result<String, Failure> {
    let mut client = Client::connect(([127, 0, 0, 1], port).into())?;
    client.get(&format!("/{name}"))?;
    let answer = client.answer()?;
    ensure!(answer.status == 200, "status {}", answer.status);
    let known = TYPES.iter().find(|(ending, _)| name.ends_with(ending));
    let expected = known.map_or("", |(_, content_type)| content_type);
    let content_type = answer.field("content-type").unwrap_or_default();
    ensure!(content_type.starts_with(expected), "Content-Type {content_type:?}");
    ensure!(!answer.body.is_empty(), "it is empty");
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

/// A path as seen from a page, RFC 3986 section 5.2, for paths that begin at the page's folder.
fn resolved(page: &str, path: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            // A folder.
            "" => parts.push("index.html"),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}
