//! The exercises: which checks each is about, and what its folder says.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::checks::{CHECKS, Check, Level, named};
use crate::{Failure, Step};

/// An exercise, by what is checked.
#[derive(Clone, Copy, Debug)]
pub struct Exercise {
    /// The number of its step and a letter, such as `04b`.
    pub id: &'static str,
    /// The check made for it, which its starter fails.
    pub own: &'static str,
    /// Further checks that the same mistake cannot pass.
    pub also: &'static [&'static str],
}

/// All exercises.
#[rustfmt::skip]
pub static EXERCISES: [Exercise; 14] = [
    Exercise { id: "02a", own: "a malformed request is refused and ends nobody", also: &["an endless request line is refused and ends nobody", "clients that disappear end nobody"] },
    Exercise { id: "02b", own: "head and body leave together", also: &[] },
    Exercise { id: "03a", own: "../ does not lead out of the folder", also: &["%2e%2e does not lead out of the folder"] },
    Exercise { id: "03b", own: "a request in pieces is answered", also: &["a long request is answered"] },
    Exercise { id: "03c", own: "a big file arrives whole at a slow reader", also: &[] },
    Exercise { id: "04a", own: "the connection ends after Connection: close", also: &["no descriptor is left behind"] },
    Exercise { id: "04b", own: "no zombie is left behind", also: &[] },
    Exercise { id: "05a", own: "the number of threads has a limit", also: &[] },
    Exercise { id: "06a", own: "a silent client stops nobody", also: &["a client that sends a byte at a time stops nobody", "the last to come can be the first to be answered", "a slow reader stops nobody", "sixty-four clients at once", "sixty-four clients cost no sixty-four threads"] },
    Exercise { id: "07a", own: "nobody is skipped when somebody leaves", also: &[] },
    Exercise { id: "08a", own: "Content-Length counts bytes, not characters", also: &["two requests on one connection"] },
    Exercise { id: "08b", own: "pipelined requests are all answered, in order", also: &[] },
    Exercise { id: "09a", own: "a long request is answered", also: &["a malformed request is refused and ends nobody"] },
    Exercise { id: "09b", own: "no descriptor is left behind", also: &["a malformed request is refused and ends nobody"] },
];

/// What `exercise.toml` says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// As in [`Exercise::id`].
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
    /// A question, where to look, almost the answer.
    pub hints: [String; 3],
}

impl Exercise {
    /// The exercise with this id.
    pub fn of(id: &str) -> Option<&'static Exercise> {
        EXERCISES.iter().find(|exercise| exercise.id == id)
    }

    /// The step it belongs to.
    ///
    /// # Errors
    /// No step has its number.
    pub fn step(&self) -> Result<Step, Failure> {
        let short = format!("step{}", &self.id[..2]);
        Step::of(&short).ok_or_else(|| format!("no step {short}").into())
    }

    /// The check made for it, and then the core checks of its step.
    ///
    /// # Errors
    /// No check has its name, or no step its number.
    pub fn checks(&self) -> Result<Vec<&'static Check>, Failure> {
        let step = self.step()?;
        let own = named(self.own).ok_or_else(|| format!("no check {}", self.own))?;
        let others = CHECKS.iter().filter(|check| {
            check.level == Level::Core && (check.applies)(&step) && check.name != self.own
        });
        Ok([own].into_iter().chain(others).collect())
    }

    /// Its folder in the workspace.
    ///
    /// # Errors
    /// There is none.
    pub fn folder(&self, workspace: &Path) -> Result<PathBuf, Failure> {
        let exercises = workspace.join("exercises");
        let entries = fs::read_dir(&exercises)
            .map_err(|error| format!("cannot read {}: {error}", exercises.display()))?;
        entries
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().starts_with(&format!("{}-", self.id)))
            .map(|entry| entry.path())
            .ok_or_else(|| format!("{} has no folder for {}", exercises.display(), self.id).into())
    }

    /// What its folder says.
    ///
    /// # Errors
    /// There is no `exercise.toml`, or it is not complete.
    pub fn description(&self, workspace: &Path) -> Result<Description, Failure> {
        let file = self.folder(workspace)?.join("exercise.toml");
        let text = fs::read_to_string(&file)
            .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        Ok(toml::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_the_table_is_a_check_of_the_step() {
        for exercise in EXERCISES {
            let step = exercise.step().unwrap();
            for name in [exercise.own].into_iter().chain(exercise.also.iter().copied()) {
                assert!((named(name).unwrap().applies)(&step), "{}: {name}", exercise.id);
            }
        }
    }
}
