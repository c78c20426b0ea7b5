//! What is known of one submission, and kept: `students/NAME/report.json` is read again by the next run.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::report::Report;

/// How one submission ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Grade {
    /// The name of the folder, fit to be shown, and that of the folder for the report.
    pub(super) student: String,
    /// What a teacher must know beside the points.
    pub(super) note: String,
    /// When the newest file was changed, UTC.
    pub(super) submitted: String,
    /// When this was checked, UTC.
    pub(super) checked: String,
    /// What the checks have shown, or why there were none.
    #[serde(flatten)]
    pub(super) report: Report,
}

impl Grade {
    /// Those that a folder has from runs before this one, by name.
    ///
    /// # Errors
    /// One of them is about something else than this class.
    pub(super) fn load(out: &Path, task: &str, level: &str) -> Result<Vec<Grade>, Failure> {
        let folders = fs::read_dir(out.join("students")).into_iter().flatten().flatten();
        let read = |folder: fs::DirEntry| -> Option<Grade> {
            let text = fs::read_to_string(folder.path().join("report.json")).ok()?;
            let grade: Grade = serde_json::from_str(&text).ok()?;
            (folder.file_name() == *grade.student).then_some(grade)
        };
        let mut grades: Vec<Grade> = folders.filter_map(read).collect();
        grades.sort_by(|a, b| a.student.cmp(&b.student));
        let is_other = |grade: &&Grade| grade.report.task != task || grade.report.level != level;
        if let Some(Grade { report, .. }) = grades.iter().find(is_other) {
            return Err(format!(
                "{} holds a report on {}, {}; name another folder for {task}, {level}",
                out.display(),
                report.task,
                report.level
            )
            .into());
        }
        Ok(grades)
    }

    /// Writes what there is for one student, but for the page.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&self, out: &Path, for_gradescope: bool) -> Result<(), Failure> {
        let folder = out.join("students").join(&self.student);
        fs::create_dir_all(&folder)?;
        let mut json = self.report.json();
        for (name, value) in [
            ("student", &self.student),
            ("note", &self.note),
            ("submitted", &self.submitted),
            ("checked", &self.checked),
        ] {
            json[name] = value.as_str().into();
        }
        fs::write(folder.join("report.json"), format!("{json:#}\n"))?;
        fs::write(folder.join("report.xml"), self.report.junit()?)?;
        if for_gradescope {
            let results = format!("{:#}\n", self.report.gradescope());
            fs::write(folder.join("results.json"), results)?;
        }
        Ok(())
    }

    /// Whether every check was made and has passed.
    pub(super) fn is_perfect(&self) -> bool {
        self.report.failed() == 0
    }

    /// In one line.
    pub(super) fn in_short(&self) -> String {
        if let Some(why) = self.report.obstacle() {
            return format!("could not be checked: {}", first_and_last(why));
        }
        let (points, most) = self.report.total();
        let all = self.report.checks.len();
        let passed = all - self.report.failed();
        let note = if self.note.is_empty() { "" } else { "; " };
        format!("{points} / {most} points, {passed} of {all} checks passed{note}{}", self.note)
    }
}

/// A line for a reason of several lines: compilers and interpreters begin with what they did, and end
/// with what went wrong.
pub(super) fn first_and_last(why: &str) -> String {
    let mut lines = why.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    match lines.next_back() {
        Some(last) => format!("{first} ... {last}"),
        None => first.to_owned(),
    }
}
