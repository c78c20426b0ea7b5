//! The exercises: every starter fails the check made for it and no other exercise's, every solution
//! passes, what lies between them is 5 to 30 lines, and no text is missing.
//!
//! A starter is edited where it lies. What is asked of one that is as it was given out is not asked of one
//! that differs from the last commit: those tests are listed as ignored, and their names say why.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use check::Failure;
use check::checks::named;
use check::exercises::Exercise;
use check::task::{Settings, Task};
use libtest_mimic::{Failed, Trial};
use similar::{ChangeTag, TextDiff};
use tests::{Verdict, check_command, ensure, is_edited, repeatedly, verdict, workspace};

type Outcome = Result<(), Failure>;

fn main() -> Result<(), Failure> {
    let arguments = tests::arguments(16);
    let mut trials = Vec::new();
    for exercise in exercises()? {
        let mut add = |name: &str, run: fn(&Exercise) -> Outcome| {
            let has_solution = exercise.folder.join("solution").is_dir();
            let why = if name.contains("the starter") && is_begun(&exercise) {
                " (not asked: you have edited the starter)"
            } else if name.contains("the solution") && !has_solution {
                " (not asked: the solution was taken out)"
            } else {
                ""
            };
            let is_ignored = !why.is_empty();
            let exercise = exercise.clone();
            let trial = Trial::test(format!("{}: {name}{why}", exercise.id), move || {
                run(&exercise).map_err(|error| Failed::from(error.to_string()))
            });
            trials.push(trial.with_ignored_flag(is_ignored));
        };
        add("the starter fails its own check and no other exercise's", |exercise| {
            repeatedly(|| starter_fails(exercise))
        });
        add("the solution passes", |exercise| repeatedly(|| solution_passes(exercise)));
        add("the starter and the solution differ in 5 to 30 lines", differs);
        add("its texts are complete", is_complete);
    }
    trials.push(Trial::test("a hint a time, and there are three", || {
        hints().map_err(|error| Failed::from(error.to_string()))
    }));
    libtest_mimic::run(&arguments, trials).exit()
}

fn exercises() -> Result<Vec<Exercise>, Failure> {
    Exercise::all(&workspace().join("exercises"))
}

/// Whether somebody works on an exercise.
fn is_begun(exercise: &Exercise) -> bool {
    is_edited(&exercise.folder.join("starter"))
}

/// The exercises that nobody works on, and all solutions. What is being edited need not compile.
fn to_build() -> Result<Vec<String>, Failure> {
    let exercises = exercises()?;
    let starters = exercises.iter().filter(|exercise| !is_begun(exercise));
    let starters = starters.map(|exercise| format!("exercise-{}", exercise.id));
    let solutions = exercises.iter().filter(|exercise| exercise.folder.join("solution").is_dir());
    let solutions = solutions.map(|exercise| format!("exercise-{}-solution", exercise.id));
    Ok(starters.chain(solutions).collect())
}

/// The words that start a starter or a solution.
fn server(exercise: &Exercise, suffix: &str) -> Result<Vec<String>, Failure> {
    static PROGRAMS: OnceLock<Result<HashMap<String, PathBuf>, String>> = OnceLock::new();
    let programs = PROGRAMS.get_or_init(|| {
        let manifest = workspace().join("exercises/Cargo.toml");
        let packages = to_build().map_err(|error| error.to_string())?;
        let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
        check::cargo::build(&manifest, &packages).map_err(|error| error.to_string())
    });
    let name = format!("exercise-{}{suffix}", exercise.id);
    let programs = programs.as_ref().map_err(String::as_str)?;
    let program = programs.get(&name).ok_or_else(|| format!("no program {name}"))?;
    let words = Task::Exercise(Box::new(exercise.clone())).words(program.clone())?;
    Ok(words.iter().map(|word| word.to_string_lossy().into_owned()).collect())
}

fn starter_fails(exercise: &Exercise) -> Outcome {
    let verdict_of_own = verdict(&exercise.id, &server(exercise, "")?, "core")?;
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
    ensure!(
        failed.contains(&exercise.check),
        "passes {:?}, fails {failed:?}. If you have solved this exercise, all is well: this test is about \
         the starter as it is given out",
        exercise.check
    );
    let unexpected: BTreeSet<&String> = failed
        .iter()
        .filter(|failed| **failed != exercise.check && !exercise.also.contains(failed))
        .collect();
    ensure!(unexpected.is_empty(), "fails {unexpected:?} too: {report:#}");
    for other in exercises()?.iter().filter(|other| other.id != exercise.id) {
        let is_comparable = other.step == exercise.step && other.page.is_none();
        if is_comparable && !failed_by_all(exercise, other) {
            let verdict = verdict(&other.id, &server(exercise, "")?, "core")?;
            ensure!(
                !verdict.failed.contains(&other.check),
                "fails {:?}, which {} is about",
                other.check,
                other.id
            );
        }
    }
    Ok(())
}

/// Whether exercise.toml says that the first exercise's mistake cannot pass the other's check.
fn failed_by_all(exercise: &Exercise, other: &Exercise) -> bool {
    exercise.check == other.check || exercise.also.contains(&other.check)
}

fn solution_passes(exercise: &Exercise) -> Outcome {
    let server = server(exercise, "-solution")?;
    let Verdict { failed, report } = verdict(&exercise.id, &server, "core")?;
    ensure!(failed.is_empty(), "fails {failed:?}: {report:#}");
    Ok(())
}

fn differs(exercise: &Exercise) -> Outcome {
    let folder = &exercise.folder;
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
    ensure!(
        (5..=30).contains(&changed),
        "{changed} lines. If you have solved this exercise, all is well: this test is about the starter \
         as it is given out"
    );
    Ok(())
}

fn is_complete(exercise: &Exercise) -> Outcome {
    let step = exercise.step()?;
    ensure!(exercise.id.starts_with(step.number()), "id is {}", exercise.id);
    ensure!(exercise.chapter == step.chapter(), "chapter is {}", exercise.chapter);
    ensure!(!exercise.title.is_empty() && !exercise.proves.is_empty(), "{exercise:?}");
    ensure!((5..=120).contains(&exercise.minutes), "{} minutes", exercise.minutes);
    ensure!(exercise.hints.iter().all(|hint| hint.len() > 20), "{:?}", exercise.hints);
    ensure!(exercise.hints[0].contains('?'), "the first hint is a question");
    let plan = Task::Exercise(Box::new(exercise.clone())).plan(&Settings::default())?;
    ensure!(plan.iter().any(|planned| planned.is_own), "no check {:?}", exercise.check);
    for also in &exercise.also {
        let is_known = named(also).is_some_and(|check| (check.applies)(&step))
            || exercise.cases.iter().any(|case| case.name == *also);
        ensure!(is_known, "{} has no check {also:?}", exercise.step);
    }

    let readme = fs::read_to_string(exercise.folder.join("README.md"))?;
    let minutes = format!("{} minutes", exercise.minutes);
    for part in [&minutes, &exercise.title, &exercise.chapter, &exercise.id] {
        ensure!(readme.contains(part), "README.md does not say {part:?}");
    }
    ensure!(readme.contains("What you will learn"), "README.md does not say what one learns");
    ensure!(readme.contains(&format!("check -- {}", exercise.id)), "README.md lacks the command");
    Ok(())
}

fn hints() -> Outcome {
    let folder = tempfile::tempdir()?;
    let exercise = Exercise::of("04b", &workspace().join("exercises"))?.ok_or("no 04b")?;
    let hints = exercise.hints;
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
