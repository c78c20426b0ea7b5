//! The exercises and the checks know the chapters, and the chapters know the exercises.

use std::collections::BTreeSet;
use std::path::Path;

use check::checks::CHECKS;
use check::exercises::Exercise;
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
    let ids: Vec<String> =
        Exercise::all(&root.join("exercises"))?.into_iter().map(|exercise| exercise.id).collect();
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
        faults.extend(unknown(chapter, &ids)?);
    }
    for id in &ids {
        let times = offered.iter().filter(|(offer, _)| offer == id).count();
        if times != 1 {
            faults.push(format!("{id} is offered {times} times"));
        }
    }
    report(faults)
}

fn compare_one(chapter: &Chapter, offer: [&str; 4], root: &Path) -> Result<(), Failure> {
    let [id, title, minutes, checked] = offer;
    let known = Exercise::of(id, &root.join("exercises"))?;
    let known = known.ok_or_else(|| format!("there is no exercise {id}"))?;
    ensure!(chapter.name == known.chapter, "{id} belongs to {}", known.chapter);
    ensure!(title == known.title, "the title of {id} is \"{}\"", known.title);
    ensure!(minutes == known.minutes.to_string(), "{id} takes {} minutes", known.minutes);
    ensure!(checked == id, "the command for {id} checks {checked}");
    Ok(())
}

/// The exercises that a chapter tells the reader to check and that do not exist, but for the reader's own.
fn unknown(chapter: &Chapter, known: &[String]) -> Result<Vec<String>, Failure> {
    let command = Regex::new(r"check -- (\d\d[a-z])\b")?;
    let mut faults = Vec::new();
    let lines = (1..).zip(chapter.text.lines());
    for (number, line) in lines.filter(|(_, line)| !line.contains("--exercises")) {
        let ids = command.captures_iter(line).map(|found| found[1].to_owned());
        let unknown = ids.filter(|id| !known.contains(id));
        faults.extend(unknown.map(|id| chapter.at(number, format!("there is no exercise {id}"))));
    }
    Ok(faults)
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
    for exercise in Exercise::all(&root.join("exercises"))? {
        places.insert((exercise.chapter, exercise.heading));
    }
    let has = |name: &str, heading: &str| {
        let chapter = chapters.iter().find(|chapter| chapter.name == name);
        chapter.is_some_and(|chapter| chapter.headings.iter().any(|known| known == heading))
    };
    let missing = places.iter().filter(|(chapter, heading)| !has(chapter, heading));
    report(missing.map(|(chapter, heading)| format!("{chapter} has no \"{heading}\"")).collect())?;
    Ok(places.len())
}
