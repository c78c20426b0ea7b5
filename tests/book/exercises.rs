//! The exercises and the checks know the chapters, and the chapters know the exercises.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use check::checks::CHECKS;
use check::exercises::{EXERCISES, Exercise};
use check::{Failure, STEPS};
use regex_lite::Regex;
use tests::ensure;

use crate::chapter::{Chapter, report};

/// An exercise as a chapter offers it.
const OFFER: &str =
    r"^- \*\*(\d\d[a-z])\*\*, \*([^*]+)\* \((\d+) minutes\): .*`cargo run -p check -- (\d\d[a-z])`";

/// Looks that each exercise is offered once, where and as its folder says.
///
/// # Errors
/// One is missing, stands twice or elsewhere, or is offered with other words; names each.
pub(crate) fn compare(chapters: &[Chapter], root: &Path) -> Result<(), Failure> {
    let (begin, form) = (Regex::new(r"^- \*\*\d\d[a-z]\*\*")?, Regex::new(OFFER)?);
    let mut faults = Vec::new();
    let mut offered = Vec::new();
    for chapter in chapters {
        for item in chapter.items.iter().filter(|item| begin.is_match(&item.text)) {
            match form.captures(&item.text) {
                None => faults.push(chapter.at(item.line, "an exercise that is not in its form")),
                Some(found) => {
                    offered.push((found[1].to_owned(), chapter.name.as_str()));
                    if let Err(fault) =
                        compare_one(chapter, [1, 2, 3, 4].map(|group| &found[group]), root)
                    {
                        faults.push(chapter.at(item.line, fault));
                    }
                }
            }
        }
        faults.extend(unknown(chapter)?);
    }
    for id in folders(root)? {
        let times = offered.iter().filter(|(offer, _)| *offer == id).count();
        if times != 1 {
            faults.push(format!("{id} is offered {times} times"));
        }
    }
    report(faults)
}

fn compare_one(chapter: &Chapter, offer: [&str; 4], root: &Path) -> Result<(), Failure> {
    let [id, title, minutes, checked] = offer;
    let exercise = Exercise::of(id).ok_or_else(|| format!("there is no exercise {id}"))?;
    let known = exercise.description(root)?;
    ensure!(chapter.name == known.chapter, "{id} belongs to {}", known.chapter);
    ensure!(title == known.title, "the title of {id} is \"{}\"", known.title);
    ensure!(minutes == known.minutes.to_string(), "{id} takes {} minutes", known.minutes);
    ensure!(checked == id, "the command for {id} checks {checked}");
    Ok(())
}

/// The exercises that a chapter tells the reader to check and that do not exist.
fn unknown(chapter: &Chapter) -> Result<Vec<String>, Failure> {
    let command = Regex::new(r"check -- (\d\d[a-z])\b")?;
    let mut faults = Vec::new();
    for (number, line) in (1..).zip(chapter.text.lines()) {
        let ids = command.captures_iter(line).map(|found| found[1].to_owned());
        let unknown = ids.filter(|id| Exercise::of(id).is_none());
        faults.extend(unknown.map(|id| chapter.at(number, format!("there is no exercise {id}"))));
    }
    Ok(faults)
}

/// The ids of the folders with an exercise.
fn folders(root: &Path) -> Result<BTreeSet<String>, Failure> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(root.join("exercises"))? {
        let path = entry?.path();
        if path.join("exercise.toml").is_file() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            ids.insert(name.chars().take(3).collect());
        }
    }
    ensure!(!ids.is_empty(), "no exercises");
    Ok(ids)
}

/// Looks that there is a heading wherever `check` tells a student to read.
///
/// # Errors
/// A chapter or a heading is not there; names each.
pub(crate) fn find_what_check_names(chapters: &[Chapter], root: &Path) -> Result<usize, Failure> {
    let mut places = BTreeSet::new();
    for check in CHECKS {
        for step in STEPS.iter().filter(|step| (check.applies)(step)) {
            let place = check.read(step);
            let (chapter, heading) = place.split_once(", ").ok_or("no heading")?;
            places.insert((chapter.to_owned(), heading.trim_matches('"').to_owned()));
        }
    }
    for exercise in EXERCISES {
        let description = exercise.description(root)?;
        places.insert((description.chapter, description.heading));
    }
    let has = |name: &str, heading: &str| {
        let chapter = chapters.iter().find(|chapter| chapter.name == name);
        chapter.is_some_and(|chapter| chapter.headings.iter().any(|known| known == heading))
    };
    let missing = places.iter().filter(|(chapter, heading)| !has(chapter, heading));
    report(missing.map(|(chapter, heading)| format!("{chapter} has no \"{heading}\"")).collect())?;
    Ok(places.len())
}
