//! Builds an exercise with a student's `src`, in a copy of the workspace where everything else is a link to
//! ours. The copy stands in one place for all, so that what they share is compiled once.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::checking::Place;
use super::{Class, submission};
use crate::task::Task;
use crate::{Failure, cargo, processes};

/// How long what all share may be: a first build on a slow machine.
const FIRST_BUILD: Duration = Duration::from_secs(1800);
/// How long a file that the compiler writes may become, in bytes.
const FILE_SIZE: u64 = 1 << 30;

/// The copy of the workspace.
pub(super) struct Builder {
    copy: PathBuf,
    starter: PathBuf,
    package: String,
    /// Where cargo builds; a setting of this workspace, or of this user, says so.
    target: PathBuf,
}

impl Builder {
    /// Makes the copy, and compiles the starter in it: what is compiled for all is no student's time.
    ///
    /// # Errors
    /// The task is no exercise, or the copy cannot be made, or our own starter does not compile.
    pub(super) fn new(class: &Class) -> Result<Builder, Failure> {
        let Task::Exercise(exercise) = &class.task else {
            return Err(
                "code in Rust can be handed in for an exercise; for a step, say the command".into(),
            );
        };
        let ours = &exercise.folder;
        let copy = class.out.join(".build");
        let exercises = copy.join("exercises");
        let name = ours.file_name().ok_or("the exercise has no name")?;
        let starter = exercises.join(name).join("starter");
        fs::create_dir_all(&starter)?;
        let outside = ["Cargo.toml", "Cargo.lock", "crates", "tests", "demo"];
        let mut links = outside.map(|name| (class.workspace.join(name), copy.join(name))).to_vec();
        // The workspace names it, and it may have been removed before the exercises were given out.
        links.push((ours.join("solution"), starter.with_file_name("solution")));
        for (ours, link) in links {
            if fs::symlink_metadata(&link).is_ok() {
                fs::remove_file(&link)?;
            }
            if ours.exists() {
                symlink(ours, link)?;
            }
        }
        for file in ["Cargo.toml", "Cargo.lock"] {
            let source = ours.with_file_name(file);
            if source.is_file() {
                fs::copy(source, exercises.join(file))?;
            }
        }
        fs::copy(ours.join("starter/Cargo.toml"), starter.join("Cargo.toml"))?;
        let package = format!("exercise-{}", exercise.id);
        let mut builder = Builder { copy, starter, package, target: PathBuf::new() };
        builder.take(&ours.join("starter/src"))?;
        let program = builder.compile(class, builder.cargo(), FIRST_BUILD)?;
        builder.target = program.ancestors().nth(2).ok_or("it was built nowhere")?.to_owned();
        Ok(builder)
    }

    /// Compiles a student's `src`, and moves the program to the place where it is checked. That may take a
    /// fifth of the time for all of it.
    ///
    /// # Errors
    /// It does not compile, or takes too long.
    pub(super) fn build(
        &self,
        class: &Class,
        place: &Place,
        source: &Path,
    ) -> Result<PathBuf, Failure> {
        self.take(source)?;
        let cargo = self.cargo();
        let mut words = place.sandbox(FILE_SIZE, &self.writable()).words()?.into_iter();
        let mut boxed = Command::new(words.next().ok_or("no word")?);
        boxed.args(words).arg(cargo.get_program()).args(cargo.get_args());
        let built = self.compile(class, boxed, class.limit() / 5)?;
        let program = place.work().join(".program");
        processes::while_none_starts(|| fs::copy(built, &program))?;
        Ok(program)
    }

    fn take(&self, source: &Path) -> Result<(), Failure> {
        let target = self.starter.join("src");
        let _ = fs::remove_dir_all(&target);
        submission::copy(source, &target)?;
        Ok(())
    }

    fn cargo(&self) -> Command {
        cargo::build_command(&self.copy.join("exercises/Cargo.toml"), &[&self.package])
    }

    fn compile(
        &self,
        class: &Class,
        mut command: Command,
        limit: Duration,
    ) -> Result<PathBuf, Failure> {
        let ended = class.running.run(&mut command, limit)?;
        let why = match ended.status {
            Ok(status) if status.success() => {
                let program = cargo::programs(&ended.output).remove(&self.package);
                return program.ok_or_else(|| format!("{} is no program", self.package).into());
            }
            Ok(_) => format!("{} does not compile\n{}", self.package, ended.errors),
            Err(limit) => format!("{} does not compile: it {limit}", self.package),
        };
        Err(why.trim_end().into())
    }

    /// What the compiler writes to, beside the folder for temporary files.
    fn writable(&self) -> Vec<PathBuf> {
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
        let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from).or(home);
        [Some(self.copy.clone()), cargo, Some(self.target.clone())].into_iter().flatten().collect()
    }
}
