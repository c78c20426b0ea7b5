//! `check new`: an exercise of one's own, from one that is there.

use std::fs;
use std::io::Write;
use std::path::Path;

use check::exercises::Exercise;
use check::{Failure, Step};

/// Makes the folder of a new exercise, which is the other one under another id. A folder of exercises that is not there
/// yet, or has no workspace for cargo, gets one.
pub(crate) fn make(
    id: &str,
    from: &str,
    exercises: &Path,
    workspace: &Path,
) -> Result<(), Failure> {
    let digits = id.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
    if Step::of(&format!("step{digits}")).is_none() || id.len() != digits.len() + 1 {
        return Err(format!(
            "\"{id}\" is no id; it is the number of a step and a letter, such as 03d"
        )
        .into());
    }
    if !from.starts_with(digits) {
        return Err(
            format!("{id} is for step {digits}: begin with an exercise of that step").into()
        );
    }
    let ours = workspace.join("exercises");
    let is_here = exercises.is_dir().then(|| Exercise::of(from, exercises)).transpose()?.flatten();
    let source = match is_here {
        Some(source) => source,
        None => Exercise::of(from, &ours)?.ok_or_else(|| format!("there is no exercise {from}"))?,
    };
    fs::create_dir_all(exercises)?;
    if let Some(there) = Exercise::of(id, exercises)? {
        return Err(format!("{id} is there already: {}", there.folder.display()).into());
    }
    let folder = exercises.join(id);
    copy(&source.folder, &folder, from, id)?;
    if !exercises.join("Cargo.toml").is_file() {
        let crates = workspace.join("crates").canonicalize()?;
        let manifest = fs::read_to_string(ours.join("Cargo.toml"))?;
        let path = format!("\"{}/", crates.display());
        fs::write(exercises.join("Cargo.toml"), manifest.replace("\"../crates/", &path))?;
        fs::copy(ours.join("Cargo.lock"), exercises.join("Cargo.lock"))?;
    }
    let mut stdout = anstream::stdout();
    writeln!(stdout, "{}", folder.display())?;
    writeln!(
        stdout,
        "Now change exercise.toml, which says what it is; README.md; and the two servers, in starter and solution."
    )?;
    Ok(())
}

/// Copies a folder, with one id for another in all that is text.
fn copy(from: &Path, to: &Path, old: &str, new: &str) -> Result<(), Failure> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target, old, new)?;
        } else if let Ok(text) = fs::read_to_string(&path) {
            fs::write(target, text.replace(old, new))?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}
