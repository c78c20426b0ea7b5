//! The exercises. Each is a folder with an `exercise.toml`, which says all there is to say of it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::wire::Case;
use crate::{Failure, Step};

/// What `exercise.toml` says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exercise {
    /// The number of its step and a letter, such as `04b`. The folder's name begins with it, and it is its
    /// place among the others.
    pub id: String,
    /// The title.
    pub title: String,
    /// The step it belongs to, such as `step04`.
    pub step: String,
    /// How long it takes, about.
    pub minutes: u32,
    /// The chapter's file.
    pub chapter: String,
    /// The heading to read there.
    pub heading: String,
    /// What the starter lacks and the solution has.
    pub proves: String,
    /// The check made for it, which its starter fails: one of the table, or a case of its own.
    pub check: String,
    /// Further checks that the same mistake cannot pass.
    #[serde(default)]
    pub also: Vec<String>,
    /// What its check asks for and no other exercise's server has.
    pub page: Option<String>,
    /// A question, where to look, almost the answer.
    pub hints: [String; 3],
    /// Checks of its own, in the form of the wire suite.
    #[serde(default, rename = "case")]
    pub cases: Vec<Case>,
    /// Where it lies.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl Exercise {
    /// All exercises in a folder of exercises, in the order of their ids.
    ///
    /// # Errors
    /// The folder cannot be read, or an `exercise.toml` is not complete; says which and where.
    pub fn all(exercises: &Path) -> Result<Vec<Exercise>, Failure> {
        let folders = folders(exercises)?;
        folders.into_iter().map(|(_, folder)| Exercise::open(folder)).collect()
    }

    /// The exercise with this id, if there is one.
    ///
    /// # Errors
    /// As [`Exercise::all`], of this one alone.
    pub fn of(id: &str, exercises: &Path) -> Result<Option<Exercise>, Failure> {
        let found = folders(exercises)?.into_iter().find(|(name, _)| {
            name.strip_prefix(id).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        });
        found.map(|(_, folder)| Exercise::open(folder)).transpose()
    }

    fn open(folder: PathBuf) -> Result<Exercise, Failure> {
        let file = folder.join("exercise.toml");
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = fs::read_to_string(&file).map_err(|error| wrong(&error))?;
        let exercise: Exercise = toml::from_str(&text).map_err(|error| wrong(&error))?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with(&exercise.id) {
            return Err(wrong(&format!("id is {}, and the folder is {name}", exercise.id)).into());
        }
        Ok(Exercise { folder, ..exercise })
    }

    /// The step it belongs to.
    ///
    /// # Errors
    /// There is no such step.
    pub fn step(&self) -> Result<Step, Failure> {
        Step::of(&self.step).ok_or_else(|| {
            format!(
                "{}: there is no step {}",
                self.folder.join("exercise.toml").display(),
                self.step
            )
            .into()
        })
    }

    /// The chapter and heading to read when its own check fails.
    pub fn read(&self) -> String {
        format!("{}, \"{}\"", self.chapter, self.heading)
    }
}

/// The folders with an `exercise.toml`, by name.
fn folders(exercises: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let cannot = |error| format!("cannot read the exercises in {}: {error}", exercises.display());
    let mut folders = Vec::new();
    for entry in fs::read_dir(exercises).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        if entry.path().join("exercise.toml").is_file() {
            folders.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    folders.sort();
    Ok(folders)
}
