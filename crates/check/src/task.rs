//! What is checked.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use clap::ValueEnum;
use serde::Deserialize;

use crate::exercises::Exercise;
use crate::points::Scale;
use crate::{Failure, STEPS, Step, cargo};

/// A step or an exercise.
#[derive(Clone, Debug)]
pub enum Task {
    /// A step.
    Step(Step),
    /// An exercise.
    Exercise(Box<Exercise>),
}

impl Task {
    /// The task of a name: `step05`, `step05-threads`, `05`, `step5` or `5`; `05a`, `5a` or `exercise-05a`.
    /// `exercises` is the folder that holds them.
    ///
    /// # Errors
    /// Nothing has this name; says what there is. Or the exercise's `exercise.toml` is wrong.
    pub fn of(name: &str, exercises: &Path) -> Result<Task, Failure> {
        let lower = name.to_lowercase();
        let bare = ["step", "exercise-"].iter().find_map(|prefix| lower.strip_prefix(prefix));
        let short = bare.unwrap_or(&lower);
        let digits = short.trim_end_matches(char::is_alphabetic);
        let number = format!("{digits:0>2}{}", &short[digits.len()..]);
        if let Some(step) =
            STEPS.into_iter().find(|step| step.number() == number || step.name == lower)
        {
            return Ok(Task::Step(step));
        }
        let exercise = Exercise::of(&number, exercises)?.map(Box::new).map(Task::Exercise);
        exercise.ok_or_else(|| {
            format!(
                "there is no '{name}'; type step01 to step12, an exercise such as 05a, or --list"
            )
            .into()
        })
    }

    /// Every task there is, with the exercises in this folder.
    ///
    /// # Errors
    /// An `exercise.toml` is wrong.
    pub fn all(exercises: &Path) -> Result<Vec<Task>, Failure> {
        let exercises = Exercise::all(exercises)?.into_iter().map(Box::new).map(Task::Exercise);
        Ok(STEPS.into_iter().map(Task::Step).chain(exercises).collect())
    }

    /// `step05` or `05a`.
    pub fn name(&self) -> &str {
        match self {
            Task::Step(step) => step.short(),
            Task::Exercise(exercise) => &exercise.id,
        }
    }

    /// The step whose checks apply.
    ///
    /// # Errors
    /// The exercise belongs to none.
    pub fn step(&self) -> Result<Step, Failure> {
        match self {
            Task::Step(step) => Ok(*step),
            Task::Exercise(exercise) => exercise.step(),
        }
    }

    /// Builds the program in this repository, or the exercise's starter where it lies, and returns the words
    /// that start it, with `{port}` and, if it serves files, `{root}` in them.
    ///
    /// # Errors
    /// It does not compile, or the exercise has no starter in Rust.
    pub fn build(&self, workspace: &Path) -> Result<Vec<OsString>, Failure> {
        let (manifest, package) = match self {
            Task::Step(step) => (workspace.join("Cargo.toml"), step.name.to_owned()),
            Task::Exercise(exercise) => {
                let manifest = exercise.folder.with_file_name("Cargo.toml");
                if !exercise.folder.join("starter/Cargo.toml").is_file() || !manifest.is_file() {
                    return Err(format!(
                        "{id} has no starter in Rust; say how a server starts: check {id} -- COMMAND",
                        id = exercise.id
                    )
                    .into());
                }
                (manifest, format!("exercise-{}", exercise.id))
            }
        };
        self.words(cargo::program(&manifest, &package, Stdio::inherit())?)
    }

    /// The words that start a program with the command line of the steps.
    ///
    /// # Errors
    /// The exercise belongs to no step.
    pub fn words(&self, program: PathBuf) -> Result<Vec<OsString>, Failure> {
        // On a busy machine a check takes its time, and must not be let go for that.
        let options = ["--timeout", "60", "--port", "{port}"].map(OsString::from);
        let mut words = [vec![program.into_os_string()], options.to_vec()].concat();
        if self.step()?.serves_files {
            words.push("{root}".into());
        }
        Ok(words)
    }

    /// The folders whose files make the program.
    pub fn sources(&self, workspace: &Path) -> Vec<PathBuf> {
        let crates = workspace.join("crates");
        match self {
            Task::Step(step) => {
                ["message", "terminal", "common", step.name].map(|name| crates.join(name)).into()
            }
            Task::Exercise(exercise) => vec![exercise.folder.join("starter")],
        }
    }
}

/// How much is asked for: what the chapter teaches, or the wire suite and the strict checks too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
// What is said of a variant is in --help as well, where --level has said it.
#[allow(missing_docs)]
pub enum Level {
    #[default]
    Core,
    Strict,
}

impl Level {
    /// As it is typed.
    pub fn word(self) -> &'static str {
        match self {
            Level::Core => "core",
            Level::Strict => "strict",
        }
    }
}

/// How to check.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How much is asked for.
    pub level: Level,
    /// What picks some of the checks, as [`Task::plan`] says.
    pub only: Option<String>,
    /// Whether the server may serve its clients in whatever way it likes: no evidence is asked for.
    pub any_model: bool,
    /// What the site follows from.
    pub seed: u64,
    /// What each check is worth.
    pub scale: Scale,
    /// Words before those of the command, of which no story tells: the box of a class.
    pub before: Vec<OsString>,
}
