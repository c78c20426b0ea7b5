//! The book is true: what it quotes is the source, what it shows is what the programs print, and what it
//! points to is there. With `REWRITE=1` in the environment, what it quotes is written anew.
//!
//! Some transcripts need curl, nc, ss, ps, pgrep, strace, python3 or haproxy. Where one is missing, the test
//! is listed as ignored.

mod chapter;
mod comparison;
mod desk;
mod exercises;
mod itself;
mod links;
mod quotes;
mod site;
mod terminal;
mod transcripts;

use std::collections::BTreeSet;
use std::env;
use std::fs;

use check::exercises::Exercise;
use check::{Failure, processes};
use libtest_mimic::{Failed, Trial};
use tests::workspace;

use crate::chapter::Chapter;
use crate::transcripts::Script;

fn main() -> Result<(), Failure> {
    processes::adopt_orphans()?;
    let mut trials = Vec::new();
    for name in chapters()? {
        let tools = Script::of(&Chapter::read(workspace(), &name)?)
            .map(|script| script.tools())
            .unwrap_or_default();
        let file_name = name.trim_start_matches("chapters/").to_owned();
        let title = format!("{file_name}: quotes are the source's own words");
        let quoted = name.clone();
        trials.push(trial(title, move || quotes_are_true(&quoted)));
        let title =
            format!("{file_name}: transcripts are what the programs print{}", needs(&tools));
        let is_missing = tools.iter().any(|tool| is_missing(tool));
        trials.push(trial(title, move || replay(&name)).with_ignored_flag(is_missing));
    }
    trials.push(trial("links and anchors lead somewhere", links_lead_somewhere));
    let title = "SUMMARY.md lists every chapter once, each leads to the next";
    trials.push(trial(title, contents_are_complete));
    trials.push(trial("a chapter leads to each word of the glossary", words_are_linked));
    trials.push(trial("README.md gives each chapter's minutes", minutes_agree));
    trials.push(trial("every exercise is in one chapter", || {
        exercises::compare(&all_chapters()?, workspace())
    }));
    trials.push(trial("what check points to is there", what_check_names_is_there));
    let title = "mdbook builds the book and step 09 serves it (needs mdbook)";
    trials.push(trial(title, site_is_whole).with_ignored_flag(is_missing("mdbook")));
    trials.push(trial("the demo site is whole", demo_is_whole));
    trials.extend(itself::trials());
    let conclusion = libtest_mimic::run(&tests::arguments(6), tests::where_possible(trials));
    processes::end_descendants();
    conclusion.exit()
}

fn trial(
    name: impl Into<String>,
    run: impl FnOnce() -> Result<(), Failure> + Send + 'static,
) -> Trial {
    Trial::test(name, move || run().map_err(|failure| Failed::from(failure.to_string())))
}

/// The chapters by name, in the order of the folder.
fn chapters() -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for entry in fs::read_dir(workspace().join("chapters"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") && name != "SUMMARY.md" {
            names.push(format!("chapters/{name}"));
        }
    }
    names.sort();
    Ok(names)
}

fn all_chapters() -> Result<Vec<Chapter>, Failure> {
    chapters()?.iter().map(|name| Chapter::read(workspace(), name)).collect()
}

fn needs(tools: &BTreeSet<&str>) -> String {
    if tools.is_empty() {
        return String::new();
    }
    format!(" (needs {})", tools.iter().copied().collect::<Vec<_>>().join(", "))
}

fn is_missing(tool: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    // Where HAProxy is on Debian, and a user's PATH does not lead.
    let folders = env::split_paths(&path).chain(["/usr/sbin".into()]);
    !folders.into_iter().any(|folder| folder.join(tool).is_file())
}

#[allow(clippy::print_stderr)]
fn quotes_are_true(name: &str) -> Result<(), Failure> {
    let mut chapter = Chapter::read(workspace(), name)?;
    if env::var_os("REWRITE").is_some() {
        chapter = quotes::rewrite(&chapter, workspace())?;
    }
    let compared = quotes::compare(&chapter, workspace())?;
    eprintln!("{name}: {compared} blocks compared with their source");
    Ok(())
}

#[allow(clippy::print_stderr)]
fn replay(name: &str) -> Result<(), Failure> {
    let chapter = Chapter::read(workspace(), name)?;
    let replayed = Script::of(&chapter)?.replay()?;
    eprintln!("{name}: {replayed}");
    Ok(())
}

#[allow(clippy::print_stderr)]
fn links_lead_somewhere() -> Result<(), Failure> {
    let mut pages = all_chapters()?;
    let others =
        ["README.md", "ARCHITECTURE.md", "crates/check/README.md", "crates/check/wire/README.md"];
    let mut others: Vec<String> = others.map(str::to_owned).to_vec();
    others.extend(["chapters/SUMMARY.md", "exercises/README.md"].map(str::to_owned));
    others.push("exercises/your-own/README.md".to_owned());
    for exercise in Exercise::all(&workspace().join("exercises"))? {
        let name = exercise.folder.file_name().unwrap_or_default().to_string_lossy();
        others.push(format!("exercises/{name}/README.md"));
    }
    for name in others {
        pages.push(Chapter::read(workspace(), &name)?);
    }
    let followed = links::follow(&pages, workspace())?;
    eprintln!("{followed} links in {} files", pages.len());
    Ok(())
}

fn contents_are_complete() -> Result<(), Failure> {
    let summary = Chapter::read(workspace(), "chapters/SUMMARY.md")?;
    links::compare_contents(&summary, &all_chapters()?)
}

#[allow(clippy::print_stderr)]
fn words_are_linked() -> Result<(), Failure> {
    let glossary = Chapter::read(workspace(), "chapters/glossary.md")?;
    let words = links::compare_words(&glossary, &all_chapters()?)?;
    eprintln!("{words} words, each with a link to it");
    Ok(())
}

fn minutes_agree() -> Result<(), Failure> {
    let front = Chapter::read(workspace(), "chapters/README.md")?;
    links::compare_minutes(&front, &all_chapters()?)
}

#[allow(clippy::print_stderr)]
fn what_check_names_is_there() -> Result<(), Failure> {
    let places = exercises::find_what_check_names(&all_chapters()?, workspace())?;
    eprintln!("{places} places that check names");
    Ok(())
}

#[allow(clippy::print_stderr)]
fn site_is_whole() -> Result<(), Failure> {
    let files = site::build_and_walk(&all_chapters()?)?;
    eprintln!("{files} files of the site, every link followed");
    Ok(())
}

#[allow(clippy::print_stderr)]
fn demo_is_whole() -> Result<(), Failure> {
    let files = site::walk_demo()?;
    eprintln!("{files} files of the demo site, every link followed");
    Ok(())
}
