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

/// Compares the contents with the pages that there are, and with where each says that one goes on. A page with a
/// number stands in its order, any other where it is read.
///
/// # Errors
/// One is missing, stands twice or elsewhere, or a chapter leads past the next one.
pub(crate) fn compare_contents(summary: &Chapter, chapters: &[Chapter]) -> Result<(), Failure> {
    let listed: Vec<&str> = summary.links.iter().map(|link| link.target.as_str()).collect();
    let mut sorted = listed.clone();
    sorted.sort_unstable();
    let mut there: Vec<&str> = chapters.iter().map(Chapter::file_name).collect();
    there.sort_unstable();
    ensure!(sorted == there, "SUMMARY.md lists\n{listed:#?}, and there are\n{there:#?}");
    let has_number = |name: &&&str| name.starts_with(|first: char| first.is_ascii_digit());
    let is_sorted = listed.iter().filter(has_number).is_sorted();
    let is_first = listed.first() == Some(&"README.md");
    ensure!(is_sorted && is_first, "SUMMARY.md has another order:\n{listed:#?}");

    let next = Regex::new(r"(?m)^(?:Next|Begin): \[[^\]]+\]\(([^)]+)\)$")?;
    let mut faults = Vec::new();
    for chapter in chapters {
        let name = chapter.file_name();
        let place = listed.iter().position(|listed| *listed == name);
        let follows = place.and_then(|place| listed.get(place + 1)).copied();
        let says = next.captures(&chapter.text).map(|found| found[1].to_owned());
        if (has_number(&&name) || says.is_some()) && says.as_deref() != follows {
            faults.push(format!("{name} leads to {says:?}, and {follows:?} follows it"));
        }
    }
    report(faults)
}

/// Looks that a chapter leads to each word of the glossary.
///
/// # Errors
/// To one no link leads; names each.
pub(crate) fn compare_words(glossary: &Chapter, chapters: &[Chapter]) -> Result<usize, Failure> {
    let links = chapters.iter().flat_map(|chapter| &chapter.links);
    let linked: Vec<&str> =
        links.filter_map(|link| link.target.strip_prefix("glossary.md#")).collect();
    // The first heading is the page's own.
    let words: Vec<String> = anchors(glossary).into_iter().skip(1).collect();
    let missing = words.iter().filter(|word| !linked.contains(&word.as_str()));
    report(missing.map(|word| format!("no chapter leads to glossary.md#{word}")).collect())?;
    Ok(words.len())
}
