//! How far somebody is: the hints that were given, the exercises that have passed, and the one that comes next.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use check::Failure;
use check::exercises::Exercise;

const ABOUT: &str = "\
# The exercises that have passed here, one a line. check adds to it, and `check next` reads it.
# To begin again, delete this file.
";

/// Gives the next of an exercise's hints. How many were given is a file in the folder that cargo builds in, so that
/// `cargo clean` forgets it.
pub(crate) fn give_hint(exercise: &Exercise, workspace: &Path) -> Result<(), Failure> {
    let hints = &exercise.hints;
    let target = env::var_os("CARGO_TARGET_DIR").map_or(workspace.join("target"), PathBuf::from);
    let folder = target.join("check-hints");
    let file = folder.join(&exercise.id);
    let given =
        fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let number = usize::min(given + 1, hints.len());
    let mut stdout = anstream::stdout();
    writeln!(stdout, "hint {number} of {}: {}", hints.len(), hints[number - 1])?;
    if given >= hints.len() {
        writeln!(stdout, "There are no more. The solution is beside the starter, in solution/.")?;
    }
    fs::create_dir_all(&folder)?;
    fs::write(file, number.max(given).to_string())?;
    Ok(())
}

/// Where the exercises that have passed are written down: in the user's folder for such things (XDG Base Directory
/// Specification 0.8).
fn file_of_passed() -> Result<PathBuf, Failure> {
    let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = match state {
        Some(state) => state,
        None => env::home_dir().ok_or("there is no home folder")?.join(".local/state"),
    };
    Ok(state.join("http-step-by-step/passed.txt"))
}

fn passed(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// Writes down that an exercise has passed.
pub(crate) fn add_passed(id: &str) -> Result<(), Failure> {
    let file = file_of_passed()?;
    let mut all = passed(&file);
    if all.iter().any(|known| known == id) {
        return Ok(());
    }
    all.push(id.to_owned());
    all.sort();
    fs::create_dir_all(file.parent().unwrap_or(&file))
        .and_then(|()| fs::write(&file, format!("{ABOUT}{}\n", all.join("\n"))))
        .map_err(|error| {
            format!("cannot write down in {} that {id} has passed: {error}", file.display()).into()
        })
}

/// The first exercise that has not passed yet.
pub(crate) fn next(exercises: &Path) -> Result<Option<Exercise>, Failure> {
    let passed = passed(&file_of_passed()?);
    let mut all = Exercise::all(exercises)?.into_iter();
    Ok(all.find(|exercise| !passed.contains(&exercise.id)))
}

/// Says which exercise comes next.
pub(crate) fn tell_next(to: &mut impl Write, exercises: &Path) -> Result<(), Failure> {
    let Some(Exercise { id, title, minutes, folder, .. }) = next(exercises)? else {
        writeln!(to, "every exercise has passed here, says {}", file_of_passed()?.display())?;
        return Ok(());
    };
    let readme = folder.join("README.md");
    writeln!(to, "next: {id}, \"{title}\", about {minutes} minutes. Read {}", readme.display())?;
    Ok(())
}
