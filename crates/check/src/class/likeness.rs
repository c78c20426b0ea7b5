//! Hints, and no verdicts: which files are the same, but for their format, as the solution's, another
//! submission's, or those of our own servers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::Class;
use super::submission::{is_by_product, shown};
use crate::task::Task;

/// A file with fewer characters says nothing.
const SHORTEST: usize = 200;
/// A longer file is no source, in bytes.
const LONGEST: u64 = 1 << 18;
/// So many folders deep it is looked for.
const DEEPEST: usize = 8;

/// What of a submission is the same as what, by student.
pub(super) fn flags(class: &Class) -> BTreeMap<String, Vec<String>> {
    let mut known = BTreeMap::new();
    let (mut ours, mut given_out) = (Vec::new(), Vec::new());
    let servers = class.workspace.join("crates/check/servers/right");
    ours.push((servers, "servers/right/".to_owned()));
    match &class.task {
        Task::Step(step) => {
            let source = class.workspace.join("crates").join(step.name).join("src");
            ours.push((source, format!("{}/src/", step.name)));
        }
        Task::Exercise(exercise) => {
            let folder = &exercise.folder;
            ours.push((folder.join("solution/src"), "the solution's ".to_owned()));
            given_out.push(folder.join("starter/src"));
        }
    }
    for (folder, words) in ours {
        for (name, essence) in sources(&folder) {
            known.insert(essence, format!("{words}{name}"));
        }
    }
    let mut owners: BTreeMap<String, Vec<(&str, String)>> = BTreeMap::new();
    for submission in &class.submissions {
        for (name, essence) in sources(&submission.folder) {
            owners.entry(essence).or_default().push((&submission.student, name));
        }
    }
    let given_out: BTreeSet<String> =
        given_out.iter().flat_map(|folder| sources(folder)).map(|(_, essence)| essence).collect();
    let mut flags: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (essence, files) in owners.iter().filter(|(essence, _)| !given_out.contains(*essence)) {
        for (student, name) in files {
            let others = files.iter().filter(|(other, _)| other != student);
            let others = others.map(|(other, name)| format!("{other}/{name}"));
            let same: Vec<String> = known.get(essence).cloned().into_iter().chain(others).collect();
            if !same.is_empty() {
                let flag = format!("{name} is {}", same.join(", "));
                flags.entry((*student).to_owned()).or_default().push(flag);
            }
        }
    }
    flags
}

/// The sources below a folder: their names, and what is left of them without their format.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), DEEPEST)];
    while let Some((place, depth)) = folders.pop() {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let Ok(data) = entry.metadata() else { continue };
            let path: PathBuf = entry.path();
            if data.is_dir() && depth > 1 && !is_by_product(&entry.file_name()) {
                folders.push((path, depth - 1));
            } else if data.is_file() && data.len() <= LONGEST && is_source(&path) {
                let essence = fs::read_to_string(&path).map(|text| essence_of(&text));
                let name = path.strip_prefix(folder).unwrap_or(&path);
                found.extend(essence.ok().map(|essence| (shown(name.as_os_str()), essence)));
            }
        }
    }
    found.retain(|(_, essence)| essence.len() >= SHORTEST);
    found
}

/// Not what a tool writes, nor prose.
fn is_source(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    !matches!(extension, "" | "lock" | "json" | "toml" | "mod" | "sum" | "md" | "txt" | "csv")
}

/// Formatters change white space, and commas before a closing bracket.
fn essence_of(text: &str) -> String {
    let mut essence = String::new();
    for character in text.chars().filter(|character| !character.is_whitespace()) {
        if matches!(character, ')' | ']' | '}') && essence.ends_with(',') {
            essence.pop();
        }
        essence.push(character);
    }
    essence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formatting_changes_nothing() {
        let wide = "call(first, second)\n";
        let long = "call(\n    first,\n    second,\n)";
        assert_eq!(essence_of(wide), essence_of(long));
        assert_ne!(essence_of(wide), essence_of("call(second, first)"));
    }
}
