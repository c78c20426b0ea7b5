//! Who is in the class: `students.csv`, if there is one, and who has handed in something.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::grade::Grade;
use super::{Class, ROSTER};
use crate::Failure;

/// A line of `students.csv`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Entry {
    pub(super) folder: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) number: String,
    #[serde(default, rename = "e-mail", alias = "email")]
    pub(super) mail: String,
}

/// A row of the grades.
pub(super) struct Row<'a> {
    /// As it is in the roster; only the folder, if it is not.
    pub(super) entry: Entry,
    /// Whether it is in the roster.
    pub(super) is_listed: bool,
    /// Whether something was handed in.
    is_there: bool,
    /// `None` for somebody who has not been checked.
    pub(super) grade: Option<&'a Grade>,
    /// Why not, or what a teacher must know beside the points.
    pub(super) note: String,
    /// What looks like other work.
    pub(super) flags: &'a [String],
}

impl Row<'_> {
    /// The points as text: nothing as long as a submission has not been checked.
    pub(super) fn points(&self) -> String {
        match self.grade {
            Some(grade) => grade.report.total().0.to_string(),
            None if self.is_there => String::new(),
            None => "0".to_owned(),
        }
    }
}

/// The roster; empty if there is none.
///
/// # Errors
/// It is no such table.
pub(super) fn read(file: &Path) -> Result<Vec<Entry>, Failure> {
    let Ok(text) = fs::read_to_string(file) else { return Ok(Vec::new()) };
    // A spreadsheet writes a byte order mark, and in many countries semicolons.
    let text = text.trim_start_matches('\u{feff}');
    let head = text.lines().next().unwrap_or_default();
    let delimiter = if head.contains(';') { b';' } else { b',' };
    let mut table = csv::ReaderBuilder::new();
    table.delimiter(delimiter).trim(csv::Trim::All);
    table.from_reader(text.as_bytes()).deserialize().collect::<Result<_, _>>().map_err(|error| {
        format!("{ROSTER}: {error}; its columns are folder,name,number,e-mail").into()
    })
}

/// A row for everybody: in the order of the roster, and then who is not in it. Nobody who has a row loses it.
pub(super) fn rows<'a>(class: &'a Class, grades: &'a BTreeMap<String, Grade>) -> Vec<Row<'a>> {
    let listed: BTreeSet<&str> = class.roster.iter().map(|entry| entry.folder.as_str()).collect();
    let there: BTreeSet<&str> = class.submissions.iter().map(|one| one.student.as_str()).collect();
    let mut others = there.clone();
    others.extend(grades.keys().map(String::as_str));
    let others = others.into_iter().filter(|name| !listed.contains(name));
    let others = others.map(|name| Entry { folder: name.to_owned(), ..Entry::default() });
    class
        .roster
        .iter()
        .cloned()
        .chain(others)
        .map(|entry| {
            let grade = grades.get(&entry.folder);
            let is_there = there.contains(entry.folder.as_str());
            let note = match grade {
                Some(grade) => grade.note.clone(),
                None if is_there => "not checked yet".to_owned(),
                None => "nothing handed in".to_owned(),
            };
            let flags = class.flags.get(&entry.folder).map(Vec::as_slice).unwrap_or_default();
            let is_listed = listed.contains(entry.folder.as_str());
            Row { entry, is_listed, is_there, grade, note, flags }
        })
        .collect()
}
