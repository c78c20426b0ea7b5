//! A class: every submission in a folder of folders. A report is kept: a further run goes on with it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::checks::Layer;
use crate::points::Scale;
use crate::report::Report;
use crate::sandbox::Walls;
use crate::task::{self, Level, Task};
use crate::{Failure, processes, temporary_folder};

mod building;
mod checking;
mod grade;
mod likeness;
mod pages;
mod roster;
mod submission;
mod supervision;
mod tables;
pub mod term;

use building::Builder;
use grade::Grade;
use roster::Entry;
use submission::Submission;
use supervision::Running;

/// What `check class` is told.
#[derive(Args)]
pub struct Arguments {
    /// A folder with class.toml and a folder for each student
    folder: PathBuf,
    /// How many are checked at the same time [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// The folder for grades.csv, index.html and a folder for each student; one that is there is continued
    #[arg(long, value_name = "REPORT")]
    out: PathBuf,
    /// Check these students, even if they have been checked before, and nobody else
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
    /// What a submission is kept from
    #[arg(long = "box", value_name = "BOX", value_enum, default_value_t = Walls::Landlock)]
    walls: Walls,
    /// Write Gradescope's results.json for each student too
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Gradescope,
}

/// `class.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The step or exercise.
    task: String,
    /// The words that start a server, in the folder of the submission.
    command: Option<Vec<String>>,
    /// `core` or `strict`.
    #[serde(default)]
    level: Level,
    /// How long one submission may take, in seconds.
    limit: Option<u64>,
    /// Whether no evidence of the step's model is asked for.
    #[serde(default)]
    any_model: bool,
    /// Points for a check of a layer.
    #[serde(default)]
    weights: BTreeMap<Layer, usize>,
    /// The checks without which their layer and those behind it do not count.
    essential: Option<Vec<String>>,
}

/// A folder of submissions.
struct Class {
    settings: Settings,
    task: Task,
    /// The report on somebody who passes everything: the checks in the order in which they are made.
    plan: Report,
    folder: PathBuf,
    submissions: Vec<Submission>,
    /// What else is in the folder, by name.
    ignored: Vec<String>,
    roster: Vec<Entry>,
    out: PathBuf,
    workspace: PathBuf,
    exercises: PathBuf,
    for_gradescope: bool,
    walls: Walls,
    /// Where every submission has its place while it is checked.
    temporary: tempfile::TempDir,
    running: Running,
    builder: Mutex<Option<Builder>>,
    /// What looks like other work, by student.
    flags: BTreeMap<String, Vec<String>>,
}

const CLASS: &str = "class.toml";
/// What an exercise in Rust is built to, in the folder that it is started in.
const PROGRAM: &str = "./program";
const ROSTER: &str = "students.csv";

impl Class {
    /// Looks at a folder of submissions.
    fn open(arguments: &Arguments, workspace: &Path, exercises: &Path) -> Result<Class, Failure> {
        let folder = &arguments.folder;
        if !folder.is_dir() {
            return Err(format!("there is no folder {}", folder.display()).into());
        }
        let settings: Settings = read_settings(&folder.join(CLASS))?.ok_or_else(|| {
            format!(
                "{} has no {CLASS}; it says what is checked, such as task = \"step05\"",
                folder.display()
            )
        })?;
        let task = Task::of(&settings.task, exercises)?;
        let (mut submissions, ignored) = submission::all_in(folder, &[CLASS, ROSTER])?;
        let out = make_report_folder(folder, &mut submissions, &arguments.out)?;
        if submissions.is_empty() {
            return Err(
                format!("{} has no folder in it; each student has one", folder.display()).into()
            );
        }
        let has_own = |one: &Submission| one.folder.join("check.toml").is_file();
        if matches!(task, Task::Step(_))
            && settings.command.is_none()
            && !submissions.iter().any(has_own)
        {
            let example = "command = [\"python3\", \"server.py\", \"--port\", \"{port}\"]";
            return Err(format!("{CLASS} must say how a server starts, such as {example}").into());
        }
        let (workspace, exercises) = (workspace.canonicalize()?, exercises.canonicalize()?);
        // What class.toml says wrongly of points is said before anybody is graded.
        let plan = plan(&task, &settings)?;
        let mut class = Class {
            settings,
            task,
            plan,
            folder: folder.canonicalize()?,
            submissions,
            ignored,
            roster: roster::read(&folder.join(ROSTER))?,
            out,
            workspace,
            exercises,
            for_gradescope: arguments.format.is_some(),
            walls: arguments.walls,
            temporary: temporary_folder()?,
            running: Running::default(),
            builder: Mutex::default(),
            flags: BTreeMap::new(),
        };
        class.flags = likeness::flags(&class);
        Ok(class)
    }

    /// What no submission may read, as the kernel names it: what others have handed in, and what they got.
    fn hidden(&self) -> Vec<PathBuf> {
        let temporary = self.temporary.path().canonicalize();
        let temporary = temporary.unwrap_or_else(|_| self.temporary.path().to_owned());
        vec![self.folder.clone(), self.out.clone(), temporary]
    }

    /// Those who are to be checked now: whom the teacher has named, or else who is new or has changed
    /// something.
    fn due(&self, only: &[String], kept: &[Grade]) -> Result<Vec<&Submission>, Failure> {
        let is_there = |name: &&String| self.submissions.iter().any(|one| one.student == **name);
        if let Some(name) = only.iter().find(|name| !is_there(name)) {
            let folder = self.folder.display();
            return Err(format!("--only {name}: {folder} has no such folder").into());
        }
        let is_as_it_was = |submission: &Submission| {
            kept.iter().any(|grade| {
                grade.student == submission.student && grade.submitted == submission.submitted
            })
        };
        let is_due = |submission: &&Submission| match only {
            [] => !is_as_it_was(submission),
            only => only.contains(&submission.student),
        };
        Ok(self.submissions.iter().filter(is_due).collect())
    }

    /// Writes what stands for all: first the grades. A file that cannot be written is a note, and not the
    /// end of the class.
    fn write(&self, grades: &BTreeMap<String, Grade>) -> Result<(), Failure> {
        fs::create_dir_all(&self.out)?;
        let rows = roster::rows(self, grades);
        tables::write(&self.out, &self.plan, &rows)?;
        pages::write_class(self, &rows)
    }
}

fn plan(task: &Task, settings: &Settings) -> Result<Report, Failure> {
    let Settings { level, any_model, weights, essential, .. } = settings;
    let plan = task.plan(&task::Settings {
        level: *level,
        any_model: *any_model,
        scale: Scale { weights: weights.clone(), essential: essential.clone() },
        ..task::Settings::default()
    })?;
    let checks = plan.iter().map(|planned| planned.result(0.0, None)).collect();
    Ok(Report { checks, ..Report::could_not_run(task.name(), level.word(), "") })
}

/// Takes out of the submissions what is the report, should it be among them, and makes its folder.
fn make_report_folder(
    folder: &Path,
    submissions: &mut Vec<Submission>,
    out: &Path,
) -> Result<PathBuf, Failure> {
    let cannot = |error| format!("cannot make the folder {}: {error}", out.display());
    // As much of it as is there; links may lead anywhere.
    let asked = std::path::absolute(out).map_err(cannot)?;
    let place = asked.ancestors().find_map(|part| part.canonicalize().ok()).unwrap_or_default();
    let is_report = |path: &Path| {
        path.join("grades.csv").exists()
            || fs::read_dir(path).is_ok_and(|mut inside| inside.next().is_none())
    };
    if asked.is_dir() && is_report(&place) {
        submissions.retain(|one| one.folder.canonicalize().is_ok_and(|path| path != place));
    }
    let is_inside =
        |one: &Submission| one.folder.canonicalize().is_ok_and(|path| place.starts_with(path));
    if submissions.iter().any(is_inside) || (asked.is_dir() && place == folder.canonicalize()?) {
        return Err(format!(
            "{} holds what is handed in; the report needs a folder of its own",
            out.display()
        )
        .into());
    }
    fs::create_dir_all(out).map_err(cannot)?;
    Ok(out.canonicalize().map_err(cannot)?)
}

fn read_settings<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, Failure> {
    if !file.is_file() {
        return Ok(None);
    }
    let text = fs::read_to_string(file)?;
    Ok(Some(toml::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?))
}

/// Checks every submission that is due, several at a time, and keeps the report as it goes; whether everybody
/// passed everything.
///
/// # Errors
/// There is no class in the folder, or the report cannot be written.
pub fn run(
    arguments: &Arguments,
    workspace: &Path,
    exercises: &Path,
    to: &mut (impl Write + Send),
) -> Result<bool, Failure> {
    processes::adopt_orphans()?;
    let jobs = match arguments.jobs {
        Some(jobs) => usize::from(jobs),
        None => thread::available_parallelism()?.get(),
    };
    let class = Class::open(arguments, workspace, exercises)?;
    let kept = Grade::load(&class.out, class.task.name(), class.settings.level.word())?;
    let due = class.due(&arguments.only, &kept)?;
    if !class.ignored.is_empty() {
        writeln!(to, "ignored: {}", class.ignored.join(", "))?;
    }
    let unchanged = class.submissions.len() - due.len();
    if unchanged > 0 {
        writeln!(to, "{unchanged} stay as they were; --only NAME checks one again")?;
    }
    writeln!(to, "the box: {}", class.walls.in_words()?)?;
    let grades: BTreeMap<String, Grade> =
        kept.into_iter().map(|grade| (grade.student.clone(), grade)).collect();
    class.write(&grades)?;
    let (grades, to) = (Mutex::new(grades), Mutex::new(to));
    let tell = |line: &str| {
        let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(to, "{line}");
    };
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..jobs.min(due.len()) {
            scope.spawn(|| {
                while let Some(submission) = due.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let grade = class.grade(submission);
                    if processes::is_ending() {
                        return;
                    }
                    tell(&format!("{}: {}", grade.student, grade.in_short()));
                    let mut grades = grades.lock().unwrap_or_else(PoisonError::into_inner);
                    grades.insert(grade.student.clone(), grade.clone());
                    // What the next run goes on with comes first: who has a row is not checked again. The
                    // tables are written also if that fails.
                    let written = class.write_student(&grade);
                    if let Err(failure) = written.and(class.write(&grades)) {
                        tell(&format!("cannot write the report yet: {failure}"));
                    }
                }
            });
        }
    });
    let grades = grades.into_inner().unwrap_or_else(PoisonError::into_inner);
    processes::end_descendants();
    // Nobody is left who could change it: what a submission has done to the report is undone.
    class.write(&grades)?;
    for grade in grades.values() {
        if let Err(failure) = class.write_student(grade) {
            tell(&format!("{}: cannot write the report: {failure}", grade.student));
        }
    }
    tell(&class.out.join("index.html").display().to_string());
    Ok(roster::rows(&class, &grades).iter().all(|row| row.grade.is_some_and(Grade::is_perfect)))
}

impl Class {
    fn write_student(&self, grade: &Grade) -> Result<(), Failure> {
        grade.write(&self.out, self.for_gradescope)?;
        pages::write_student(self, grade)
    }
}
