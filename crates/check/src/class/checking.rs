//! The checks of one submission, in a box, by a checker that is a process of its own: whatever happens to
//! that, the others go on.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tempfile::TempDir;

use super::building::Builder;
use super::grade::Grade;
use super::submission::{self, Submission, has_what_is_named, in_words, source_of};
use super::{Class, PROGRAM, read_settings};
use crate::Failure;
use crate::report::{CheckResult, Report, visible};
use crate::sandbox::{Sandbox, Walls, namespaces};
use crate::story::Explanation;

/// How long a file of a submission may become, in bytes.
const FILE_SIZE: u64 = 64 << 20;
/// How long removing a copy may take.
const REMOVAL: Duration = Duration::from_secs(300);

/// `check.toml` of one submission.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnSettings {
    /// The words that start this server.
    command: Vec<String>,
}

/// Where one submission is checked: a folder that is gone afterwards.
pub(super) struct Place<'a> {
    class: &'a Class,
    folder: TempDir,
}

impl Place<'_> {
    /// All of it, as the kernel names it.
    fn folder(&self) -> Result<PathBuf, Failure> {
        Ok(self.folder.path().canonicalize()?)
    }

    /// The copy of the submission, and the folder that its server works in.
    pub(super) fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// Where it may leave temporary files.
    fn temporary(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }

    /// Where its checker makes the site. The submission may read there.
    fn checker(&self) -> PathBuf {
        self.folder.path().join("checker")
    }

    /// The box for what is done here.
    pub(super) fn sandbox(&self, file_size: u64, writable: &[PathBuf]) -> Sandbox {
        Sandbox {
            seconds: self.class.limit().as_secs(),
            file_size,
            temporary: self.temporary(),
            landlock: self.class.walls >= Walls::Landlock,
            hidden: self.class.hidden(),
            readable: vec![self.checker()],
            writable: [&[self.work(), self.temporary()], writable].concat(),
        }
    }
}

impl Drop for Place<'_> {
    /// A submission may have locked its folder, or made it deeper than this process could follow.
    fn drop(&mut self) {
        for words in [&["chmod", "-R", "u+rwX"][..], &["rm", "-rf"]] {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).arg("--").arg(self.folder.path());
            let _ = self.class.running.run(&mut command, REMOVAL);
        }
    }
}

impl Class {
    /// Checks one submission.
    pub(super) fn grade(&self, submission: &Submission) -> Grade {
        let checked = in_words(SystemTime::now());
        let (report, note) = self.check(submission).unwrap_or_else(|failure| {
            let why = visible(&failure.to_string());
            (Report::could_not_run(self.task.name(), self.settings.level.word(), &why), why)
        });
        Grade {
            student: submission.student.clone(),
            note,
            submitted: submission.submitted.clone(),
            checked,
            report,
        }
    }

    fn check(&self, submission: &Submission) -> Result<(Report, String), Failure> {
        let folder = tempfile::Builder::new().tempdir_in(self.temporary.path())?;
        let place = Place { class: self, folder };
        let left_out = submission::copy(&submission.folder, &place.work())?;
        if submission.submitted.is_empty() {
            return Err("nothing handed in: the folder has no file in it".into());
        }
        for folder in [place.temporary(), place.checker()] {
            fs::create_dir(folder)?;
        }
        let outcome = self
            .command(&place)
            .and_then(|(folder, command)| self.run_checker(&place, &folder, &command));
        if left_out.is_empty() {
            return outcome;
        }
        let why = "left out, since no link may lead out of the folder";
        let more = format!("{why}: {}", left_out.join(", "));
        match outcome {
            Ok((report, note)) => Ok((report, format!("{note}\n{more}").trim_start().to_owned())),
            Err(failure) => Err(format!("{failure}\n{more}").into()),
        }
    }

    /// The folder in which a submission is started, and the words: from its `check.toml`, from
    /// `class.toml`, or for its Rust code.
    fn command(&self, place: &Place) -> Result<(PathBuf, Vec<OsString>), Failure> {
        let work = place.work();
        let top = submission::inner(&work, |folder| folder.join("check.toml").is_file());
        let own: Option<OwnSettings> = read_settings(&top.join("check.toml"))?;
        if let Some(own) = own {
            return Ok((top, own.command.into_iter().map(OsString::from).collect()));
        }
        if let Some(command) = &self.settings.command {
            let command: Vec<OsString> = command.iter().map(OsString::from).collect();
            let folder = submission::inner(&work, |folder| has_what_is_named(folder, &command));
            return Ok((folder, command));
        }
        let folder = submission::inner(&work, |folder| source_of(folder).is_some());
        let source = source_of(&folder).ok_or(
            "there is no src/main.rs or starter/src/main.rs, no check.toml, and no command in \
             class.toml",
        )?;
        // One at a time: what they share is compiled in one place.
        let mut builder = self.builder.lock().unwrap_or_else(PoisonError::into_inner);
        let builder = match &mut *builder {
            Some(builder) => builder,
            none => none.insert(Builder::new(self)?),
        };
        let program = builder.build(self, place, &source)?;
        fs::rename(program, folder.join("program"))?;
        Ok((folder, self.task.words(PROGRAM.into())?))
    }

    /// Returns the report and a note.
    fn run_checker(
        &self,
        place: &Place,
        folder: &Path,
        command: &[OsString],
    ) -> Result<(Report, String), Failure> {
        let mut words = match self.walls {
            Walls::Namespaces => namespaces(&self.hidden(), &place.folder()?),
            Walls::Limits | Walls::Landlock => Vec::new(),
        };
        words.push(std::env::current_exe()?.into());
        let mut checker = Command::new(&words[0]);
        checker.args(&words[1..]);
        checker.arg(self.task.name()).args(["--format", "lines"]);
        checker.args(["--level", self.settings.level.word(), "--in-box"]);
        let mut sandbox = place.sandbox(FILE_SIZE, &[]);
        // Our right servers and solutions lie there, and a command of somebody's own could start one.
        let ours = ["crates", "exercises", "target"].map(|name| self.workspace.join(name));
        sandbox.hidden.extend(ours.into_iter().chain([self.exercises.clone()]));
        checker.arg(serde_json::to_string(&sandbox)?);
        checker.args(self.settings.any_model.then_some("--any-model"));
        checker.arg("--exercises").arg(&self.exercises);
        checker.arg("--").args(command).current_dir(folder);
        checker.env("TMPDIR", place.checker());
        let ended = self.running.run(&mut checker, self.limit())?;
        let status = match ended.status {
            Ok(status) => status,
            Err(limit) => return self.cut_short(&ended.output, &limit),
        };
        if !matches!(status.code(), Some(0 | 1)) {
            let said = ended.errors.trim().trim_start_matches("check: ");
            // bwrap tells of a signal as a shell does.
            let is_killed = status.code().is_none_or(|code| code > 128);
            let why = if is_killed {
                let why = "its checker was killed before it was done; a submission that does that gets no \
                           points";
                format!("{why} ({status}) {said}")
            } else {
                said.to_owned()
            };
            let why = visible(why.trim_end());
            let report = Report::could_not_run(self.task.name(), self.settings.level.word(), &why);
            let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
            return Ok((Report { command: words.join(" "), ..report }, why));
        }
        let last = ended.output.lines().last().ok_or("the checking process has said nothing")?;
        let mut report: Report = serde_json::from_str(last)?;
        // The checking process knows nothing of the class's points.
        for (check, planned) in report.checks.iter_mut().zip(&self.plan.checks) {
            (check.points, check.is_essential) = (planned.points, planned.is_essential);
        }
        let note = report.gate().unwrap_or_default();
        Ok((report, note))
    }

    /// The report on a submission that went too far: what its checker has said until then, a line a
    /// check. What was not reached has not passed.
    fn cut_short(&self, printed: &str, limit: &str) -> Result<(Report, String), Failure> {
        let mut lines = printed.lines();
        let plan = &self.plan;
        let mut report = match lines.next() {
            Some(first) => serde_json::from_str(first)?,
            None => Report { checks: Vec::new(), ..plan.clone() },
        };
        report.checks.extend(lines.filter_map(|line| serde_json::from_str(line).ok()));
        let made = report.checks.len();
        report.seconds = report.checks.iter().map(|check| check.seconds).sum();
        let note = format!("{limit}: {made} of {} checks were made", plan.checks.len());
        for planned in plan.checks.iter().skip(made) {
            let failure = Explanation {
                expected: format!("a submission of which nobody says that it {limit}"),
                came: vec!["not reached".to_owned()],
                cause: format!(
                    "the limits of the class: it {limit}, in the checks before this one or in this one"
                ),
                ..Explanation::default()
            };
            report.checks.push(CheckResult { failure: Some(failure), ..planned.clone() });
        }
        Ok((report, note))
    }

    /// How long one submission may be checked, and how long it may use a processor.
    pub(super) fn limit(&self) -> Duration {
        Duration::from_secs(self.settings.limit.unwrap_or(600))
    }
}
