//! The exercises: every starter fails the check made for it and no other exercise's, every solution
//! passes, what lies between them is 5 to 30 lines, and no text is missing.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use check::Failure;
use check::exercises::{EXERCISES, Exercise};
use check::task::Task;
use libtest_mimic::{Failed, Trial};
use similar::{ChangeTag, TextDiff};
use tests::{Verdict, check_command, ensure, repeatedly, verdict, workspace};

type Outcome = Result<(), Failure>;

fn main() {
    let arguments = tests::arguments(8);
    let mut trials = Vec::new();
    for exercise in EXERCISES {
        let mut add = |name: &str, run: fn(&Exercise) -> Outcome| {
            trials.push(Trial::test(format!("{}: {name}", exercise.id), move || {
                run(&exercise).map_err(|error| Failed::from(error.to_string()))
            }));
        };
        add("the starter fails its own check and no other exercise's", |exercise| {
            repeatedly(|| starter_fails(exercise))
        });
        add("the solution passes", |exercise| repeatedly(|| solution_passes(exercise)));
        add("starter and solution differ in 5 to 30 lines", differs);
        add("its texts are complete", is_complete);
    }
    trials.push(Trial::test("a hint a time, and there are three", || {
        hints().map_err(|error| Failed::from(error.to_string()))
    }));
    libtest_mimic::run(&arguments, trials).exit();
}

/// The words that start a starter or a solution.
fn server(exercise: &Exercise, suffix: &str) -> Result<Vec<String>, Failure> {
    static PROGRAMS: OnceLock<Result<HashMap<String, PathBuf>, String>> = OnceLock::new();
    let programs = PROGRAMS.get_or_init(|| {
        let manifest = workspace().join("exercises/Cargo.toml");
        check::cargo::build(&manifest, &[]).map_err(|error| error.to_string())
    });
    let name = format!("exercise-{}{suffix}", exercise.id);
    let programs = programs.as_ref().map_err(String::as_str)?;
    let program = programs.get(&name).ok_or_else(|| format!("no program {name}"))?;
    let task = Task::of(exercise.id)?;
    let words = task.words(program.clone())?;
    Ok(words.iter().map(|word| word.to_string_lossy().into_owned()).collect())
}

fn starter_fails(exercise: &Exercise) -> Outcome {
    let verdict_of_own = verdict(exercise.id, &server(exercise, "")?, "core")?;
    verdict_of_own.is_explained()?;
    if exercise.id == "02a" {
        for (name, failure) in verdict_of_own.failures() {
            let cause = failure["cause"].as_str().unwrap_or_default();
            ensure!(
                cause.contains("Its last words:") && cause.contains("panicked at"),
                "{name}: {failure:#}"
            );
        }
    }
    let Verdict { failed, report } = verdict_of_own;
    ensure!(failed.contains(exercise.own), "passes {:?}, fails {failed:?}", exercise.own);
    let unexpected: BTreeSet<&String> = failed
        .iter()
        .filter(|failed| *failed != exercise.own && !exercise.also.contains(&failed.as_str()))
        .collect();
    ensure!(unexpected.is_empty(), "fails {unexpected:?} too: {report:#}");
    for other in EXERCISES.iter().filter(|other| other.id != exercise.id) {
        if other.id[..2] == exercise.id[..2] && !failed_by_all(exercise, other) {
            let verdict = verdict(other.id, &server(exercise, "")?, "core")?;
            ensure!(
                !verdict.failed.contains(other.own),
                "fails {:?}, which {} is about",
                other.own,
                other.id
            );
        }
    }
    Ok(())
}

/// Whether the table says that the first exercise's mistake cannot pass the other's check.
fn failed_by_all(exercise: &Exercise, other: &Exercise) -> bool {
    exercise.own == other.own || exercise.also.contains(&other.own)
}

fn solution_passes(exercise: &Exercise) -> Outcome {
    let server = server(exercise, "-solution")?;
    let Verdict { failed, report } = verdict(exercise.id, &server, "core")?;
    ensure!(failed.is_empty(), "fails {failed:?}: {report:#}");
    Ok(())
}

fn differs(exercise: &Exercise) -> Outcome {
    let folder = exercise.folder(workspace())?;
    let mut changed = 0;
    for entry in fs::read_dir(folder.join("solution/src"))? {
        let name = entry?.file_name();
        let read = |part: &str| fs::read_to_string(folder.join(part).join("src").join(&name));
        let (before, after) = (read("starter").unwrap_or_default(), read("solution")?);
        let diff = TextDiff::from_lines(&before, &after);
        // As diff counts: a line that was changed is one less and one more.
        changed +=
            diff.iter_all_changes().filter(|change| change.tag() != ChangeTag::Equal).count();
    }
    ensure!((5..=30).contains(&changed), "{changed} lines");
    Ok(())
}

fn is_complete(exercise: &Exercise) -> Outcome {
    let description = exercise.description(workspace())?;
    let step = exercise.step()?;
    ensure!(description.id == exercise.id, "id is {}", description.id);
    ensure!(description.step == step.short(), "step is {}", description.step);
    ensure!(description.chapter == step.chapter(), "chapter is {}", description.chapter);
    ensure!(!description.title.is_empty() && !description.proves.is_empty(), "{description:?}");
    ensure!(!description.heading.is_empty(), "{description:?}");
    ensure!((5..=120).contains(&description.minutes), "{} minutes", description.minutes);
    ensure!(description.hints.iter().all(|hint| hint.len() > 20), "{:?}", description.hints);
    ensure!(description.hints[0].contains('?'), "the first hint is a question");

    let readme = fs::read_to_string(exercise.folder(workspace())?.join("README.md"))?;
    let minutes = format!("{} minutes", description.minutes);
    for part in [&minutes, &description.title, &description.chapter, exercise.id] {
        ensure!(readme.contains(part), "README.md does not say {part:?}");
    }
    ensure!(readme.contains("What you will learn"), "README.md does not say what one learns");
    ensure!(readme.contains(&format!("check -- {}", exercise.id)), "README.md lacks the command");
    Ok(())
}

fn hints() -> Outcome {
    let folder = tempfile::tempdir()?;
    let exercise = Exercise::of("04b").ok_or("no 04b")?;
    let hints = exercise.description(workspace())?.hints;
    for number in [0, 1, 2, 2] {
        let output = check_command()?
            .args(["04b", "--hint"])
            .env("CARGO_TARGET_DIR", folder.path())
            .output()?;
        let said = String::from_utf8(output.stdout)?;
        ensure!(said.contains(&hints[number]), "hint {number}: {said}");
    }
    Ok(())
}
