//! Links and pictures lead to something, and the contents name every chapter.

use std::collections::HashMap;
use std::path::Path;

use check::Failure;
use regex_lite::Regex;
use tests::ensure;

use crate::chapter::{Chapter, Link, report};

/// Follows every link of these files, and returns how many there are. Those to the web are only looked
/// at.
///
/// # Errors
/// A file or a heading is not there, or a chapter points out of the book; names each.
pub(crate) fn follow(pages: &[Chapter], root: &Path) -> Result<usize, Failure> {
    let mut faults = Vec::new();
    for page in pages {
        for link in &page.links {
            if let Err(fault) = follow_one(page, link, root) {
                faults.push(page.at(link.line, format!("[{}]: {fault}", link.target)));
            }
        }
    }
    report(faults)?;
    Ok(pages.iter().map(|page| page.links.len()).sum())
}

fn follow_one(page: &Chapter, link: &Link, root: &Path) -> Result<(), Failure> {
    let target = link.target.as_str();
    if target.starts_with("http") {
        let form = Regex::new(r"^https?://[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?(/\S*)?$")?;
        ensure!(form.is_match(target), "not an address");
        return Ok(());
    }
    ensure!(!target.contains(':'), "neither a path nor an address of the web");
    ensure!(!target.starts_with('/'), "a path from the root leads somewhere else on every site");
    let (path, anchor) = match target.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (target, None),
    };
    let folder = page.path.parent().unwrap_or(root);
    let file = if path.is_empty() { page.path.clone() } else { folder.join(path) };
    let file = file.canonicalize().map_err(|error| error.to_string())?;
    let name = file.strip_prefix(root.canonicalize()?).map_err(|_| "outside the repository")?;
    let name = name.to_string_lossy();
    ensure!(
        !page.name.starts_with("chapters/") || name.starts_with("chapters/"),
        "outside the book, which is a site too; name the file in backticks"
    );
    if let Some(anchor) = anchor {
        ensure!(name.ends_with(".md"), "an anchor leads to a heading of a .md file");
        let anchors = anchors(&Chapter::read(root, &name)?);
        ensure!(anchors.iter().any(|known| known == anchor), "no such heading in {name}");
    }
    Ok(())
}

/// Compares the minutes that the front page gives for a chapter with what the chapter says itself.
///
/// # Errors
/// They differ, or a chapter says nothing; names each.
pub(crate) fn compare_minutes(front: &Chapter, chapters: &[Chapter]) -> Result<(), Failure> {
    let row = Regex::new(r"^\| \[[^\]]*\]\(([^)]+)\) \|.*\| (\d+) \|$")?;
    let says = Regex::new(r"(?m)^About (\d+) minutes")?;
    let mut faults = Vec::new();
    for (number, line) in (1..).zip(front.text.lines()) {
        let Some(found) = row.captures(line) else { continue };
        let chapter = chapters.iter().find(|chapter| chapter.file_name() == &found[1]);
        let own = chapter.and_then(|chapter| says.captures(&chapter.text));
        if own.as_ref().map(|own| &own[1]) != Some(&found[2]) {
            let own = own.map_or("nothing".to_owned(), |own| own[1].to_owned());
            faults.push(
                front.at(number, format!("{} minutes, but {} says {own}", &found[2], &found[1])),
            );
        }
    }
    report(faults)
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &Chapter) -> Vec<String> {
    let mut times: HashMap<String, usize> = HashMap::new();
    let anchors = page.headings.iter().map(|heading| {
        let lower = heading.trim().to_lowercase();
        let kept = lower.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let earlier = times.entry(anchor.clone()).or_default();
        *earlier += 1;
        if *earlier == 1 { anchor } else { format!("{anchor}-{}", *earlier - 1) }
    });
    anchors.collect()
}

/// Compares the contents with the chapters that there are: first README.md, then by number, then by name.
///
/// # Errors
/// One is missing, stands twice or elsewhere.
pub(crate) fn compare_contents(summary: &Chapter, chapters: &[Chapter]) -> Result<(), Failure> {
    let mut expected: Vec<&str> = chapters.iter().map(Chapter::file_name).collect();
    expected.sort_by_key(|name| (*name != "README.md", *name));
    let listed: Vec<&str> = summary.links.iter().map(|link| link.target.as_str()).collect();
    ensure!(listed == expected, "SUMMARY.md lists\n{listed:#?}, and there are\n{expected:#?}");
    Ok(())
}
