//! A class: every submission in a folder of folders.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use quick_xml::escape::escape;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::checks::Layer;
use crate::report::{CheckResult, Report, plain};
use crate::story::Explanation;
use crate::task::Task;
use crate::{Failure, cargo, processes, temporary_folder, wait_until};

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
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    #[default]
    Core,
    Strict,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Core => "core",
            Level::Strict => "strict",
        }
    }
}

/// `check.toml` of one submission.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnSettings {
    /// The words that start this server.
    command: Vec<String>,
}

/// A folder of submissions.
pub struct Class {
    settings: Settings,
    task: Task,
    submissions: Vec<PathBuf>,
    out: PathBuf,
    workspace: PathBuf,
    /// Where the checking processes make their sites.
    temporary: tempfile::TempDir,
}

/// How one submission ended.
struct Grade {
    student: String,
    /// `Err` says why the checks could not be made.
    report: Result<Report, String>,
    /// What a teacher must know beside the points.
    note: String,
}

/// A check that is to be made.
struct Planned {
    name: String,
    layer: String,
    is_own: bool,
}

impl Class {
    /// Looks at a folder of submissions.
    ///
    /// # Errors
    /// There is no `class.toml` in it, or no submission, or the folder for the report cannot be made.
    pub fn open(folder: &Path, out: &Path, workspace: &Path) -> Result<Class, Failure> {
        if !folder.is_dir() {
            return Err(format!("there is no folder {}", folder.display()).into());
        }
        let settings: Settings = read_settings(&folder.join("class.toml"))?.ok_or_else(|| {
            format!(
                "{} has no class.toml; it says what is checked, such as task = \"step05\"",
                folder.display()
            )
        })?;
        let task = Task::of(&settings.task)?;
        let mut submissions: Vec<PathBuf> = fs::read_dir(folder)?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_dir() && !is_by_product(&name_of(path)))
            .collect();
        submissions.sort();
        let out = make_report_folder(folder, &mut submissions, out)?;
        if submissions.is_empty() {
            return Err(
                format!("{} has no folder in it; each student has one", folder.display()).into()
            );
        }
        let workspace = workspace.canonicalize()?;
        Ok(Class { settings, task, submissions, out, workspace, temporary: temporary_folder()? })
    }

    /// The checks, in the order in which they are made.
    fn plan(&self) -> Result<Vec<Planned>, Failure> {
        let is_strict = self.settings.level == Level::Strict;
        let mut plan: Vec<Planned> = self
            .task
            .checks(is_strict)?
            .iter()
            .map(|check| Planned {
                name: check.name.to_owned(),
                layer: check.layer.to_string(),
                is_own: self.task.is_about(check.name),
            })
            .collect();
        if is_strict {
            plan.extend(self.task.wire_cases()?.iter().map(|(group, case)| Planned {
                name: format!("{group}: {}", case.name),
                layer: Layer::Wire.to_string(),
                is_own: false,
            }));
        }
        Ok(plan)
    }

    /// The words that start a submission, and what comes from its `check.toml`, from its Rust code, or
    /// from `class.toml`.
    fn command(&self, submission: &Path, builder: &Mutex<()>) -> Result<Vec<OsString>, Failure> {
        let own: Option<OwnSettings> = read_settings(&submission.join("check.toml"))?;
        match own.map(|own| own.command).or(self.settings.command.clone()) {
            Some(command) => Ok(command.into_iter().map(OsString::from).collect()),
            None => {
                let source = source_of(submission).ok_or(
                    "there is no src/main.rs or starter/src/main.rs, no check.toml, and no command \
                     in class.toml",
                )?;
                let _one_at_a_time = builder.lock();
                self.build(submission, &source)
            }
        }
    }

    /// Builds an exercise with the student's `src`, in a copy of the workspace where everything else is a
    /// link to ours. The copy stands in one place for all, so that what they share is compiled once.
    fn build(&self, submission: &Path, source: &Path) -> Result<Vec<OsString>, Failure> {
        let Task::Exercise(exercise) = self.task else {
            return Err(
                "code in Rust can be handed in for an exercise; for a step, say the command".into(),
            );
        };
        let ours = exercise.folder(&self.workspace)?;
        let copy = self.out.join(".build");
        let exercises = copy.join("exercises");
        let starter = exercises.join(name_of(&ours)).join("starter");
        fs::create_dir_all(&starter)?;
        let outside = ["Cargo.toml", "Cargo.lock", "crates", "tests", "demo"];
        let mut links = outside.map(|name| (self.workspace.join(name), copy.join(name))).to_vec();
        // The workspace wants to see a solution beside the starter.
        links.push((ours.join("solution"), starter.with_file_name("solution")));
        for (ours, link) in links {
            if !link.exists() {
                symlink(ours, link)?;
            }
        }
        for file in ["Cargo.toml", "Cargo.lock"] {
            let source = self.workspace.join("exercises").join(file);
            if source.is_file() {
                fs::copy(source, exercises.join(file))?;
            }
        }
        fs::copy(ours.join("starter/Cargo.toml"), starter.join("Cargo.toml"))?;
        let _ = fs::remove_dir_all(starter.join("src"));
        copy_folder(source, &starter.join("src"))?;
        let package = format!("exercise-{}", exercise.id);
        let built = cargo::program(&exercises.join("Cargo.toml"), &package, Stdio::piped())?;
        let program = self.out.join(name_of(submission)).join("program");
        processes::while_none_starts(|| fs::copy(built, &program))?;
        self.task.words(program)
    }

    fn grade(&self, submission: &Path, builder: &Mutex<()>) -> Grade {
        let student = name_of(submission);
        let checked = fs::create_dir_all(self.out.join(&student))
            .map_err(Failure::from)
            .and_then(|()| self.command(submission, builder))
            .and_then(|command| self.check(submission, &command));
        match checked {
            Ok((report, note)) => Grade { student, report: Ok(report), note },
            Err(failure) => {
                let why = failure.to_string();
                Grade { student, note: why.clone(), report: Err(why) }
            }
        }
    }

    /// Runs `check` for one submission as a process of its own. Whatever happens to that, the others go
    /// on. Returns the report and a note.
    fn check(&self, submission: &Path, command: &[OsString]) -> Result<(Report, String), Failure> {
        let output = tempfile::tempfile()?;
        let errors = tempfile::tempfile()?;
        let mut checker = Command::new(std::env::current_exe()?);
        checker.arg(self.task.name()).args(["--format", "lines"]);
        checker.args(["--level", self.settings.level.word()]);
        checker.arg("--").args(command).current_dir(submission).process_group(0);
        checker.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(errors.try_clone()?);
        // If it must be killed, what it leaves is found here.
        checker.env("TMPDIR", self.temporary.path());
        let mut child = processes::spawn(&mut checker)?;
        let limit = Duration::from_secs(self.settings.limit.unwrap_or(600));
        let pid = Pid::from_raw(child.id() as i32);
        let mut status = None;
        let mut ended = || {
            status = child.try_wait().ok().flatten();
            status.is_some()
        };
        let in_time = wait_until("the checks end", limit, &mut ended);
        if in_time.is_err() {
            // Asked to end, it ends its server first.
            let _ = kill(pid, Signal::SIGTERM);
            if wait_until("it ends", Duration::from_secs(30), ended).is_err() {
                let _ = killpg(pid, Signal::SIGKILL);
                let _ = child.wait();
            }
            return self.cut_short(&text_of(&output)?, limit);
        }
        match status.and_then(|status| status.code()) {
            Some(0 | 1) => {
                let printed = text_of(&output)?;
                let last = printed.lines().last().ok_or("the checking process has said nothing")?;
                let report: Report = serde_json::from_str(last)?;
                let note = if report.lacks_own() { OWN_FAILED } else { "" };
                Ok((report, note.to_owned()))
            }
            _ => Err(text_of(&errors)?.trim().trim_start_matches("check: ").into()),
        }
    }

    /// The report on a submission that took too long: what its checking process has said so far, a
    /// line a check. What was not reached has not passed.
    fn cut_short(&self, printed: &str, limit: Duration) -> Result<(Report, String), Failure> {
        let mut lines = printed.lines();
        let empty = Report::could_not_run(self.task.name(), self.settings.level.word(), "");
        let mut report = match lines.next() {
            Some(first) => serde_json::from_str(first)?,
            None => Report { checks: Vec::new(), ..empty },
        };
        report.checks.extend(lines.filter_map(|line| serde_json::from_str(line).ok()));
        let plan = self.plan()?;
        let note = format!(
            "took more than {} seconds: {} of {} checks were made",
            limit.as_secs(),
            report.checks.len(),
            plan.len()
        );
        report.seconds = limit.as_secs_f64();
        for planned in plan.into_iter().skip(report.checks.len()) {
            let failure = Explanation {
                expected: format!("all checks are made within {} seconds", limit.as_secs()),
                came: vec!["not reached".to_owned()],
                cause: "the time limit of the class; the checks before this one, or this one, took too \
                        long"
                    .to_owned(),
                ..Explanation::default()
            };
            report.checks.push(CheckResult {
                name: planned.name,
                layer: planned.layer,
                is_own: planned.is_own,
                seconds: 0.0,
                failure: Some(failure),
            });
        }
        Ok((report, note))
    }
}

/// Why a submission has no points, although checks have passed.
const OWN_FAILED: &str =
    "the check that the exercise is about has failed, so the others do not count";

/// Folders that tools make.
fn is_by_product(name: &str) -> bool {
    name.starts_with('.') || matches!(name, "__pycache__" | "target" | "node_modules")
}

/// Makes the folder for the report, and takes it out of the submissions, should it be among them.
fn make_report_folder(
    folder: &Path,
    submissions: &mut Vec<PathBuf>,
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
        submissions.retain(|path| path.canonicalize().is_ok_and(|path| path != place));
    }
    let is_inside = |path: &PathBuf| path.canonicalize().is_ok_and(|path| place.starts_with(path));
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

/// The folder with a submission's Rust code: the `src` of a starter, the starter, or the exercise with
/// the starter in it.
fn source_of(submission: &Path) -> Option<PathBuf> {
    let mut inner: Vec<PathBuf> =
        fs::read_dir(submission).ok()?.flatten().map(|entry| entry.path()).collect();
    inner.sort();
    let places = [submission.to_owned(), submission.join("starter")];
    let mut places = places.into_iter().chain(inner.iter().map(|folder| folder.join("starter")));
    places.find_map(|place| Some(place.join("src")).filter(|src| src.join("main.rs").is_file()))
}

fn text_of(file: &File) -> Result<String, Failure> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; file.metadata()?.len() as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read_settings<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, Failure> {
    if !file.is_file() {
        return Ok(None);
    }
    let text = fs::read_to_string(file)?;
    Ok(Some(toml::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?))
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        // A link in a submission could lead anywhere.
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else if entry.file_type()?.is_file() {
            fs::write(target, fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

/// Checks every submission, `jobs` at a time, and writes the report; whether everybody passed everything.
///
/// # Errors
/// The report cannot be written.
pub fn run(
    class: &Class,
    jobs: usize,
    for_gradescope: bool,
    to: &mut (impl Write + Send),
) -> Result<bool, Failure> {
    let (next, builder) = (AtomicUsize::new(0), Mutex::new(()));
    let (grades, to) = (Mutex::new(Vec::new()), Mutex::new(to));
    thread::scope(|scope| {
        for _ in 0..jobs.min(class.submissions.len()) {
            scope.spawn(|| {
                while let Some(submission) =
                    class.submissions.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let grade = class.grade(submission, &builder);
                    if processes::is_ending() {
                        return;
                    }
                    if let Ok(mut to) = to.lock() {
                        let _ = writeln!(to, "{}: {}", grade.student, in_short(&grade));
                    }
                    if let Ok(mut grades) = grades.lock() {
                        grades.push(grade);
                    }
                }
            });
        }
    });
    if processes::is_ending() {
        let graded = grades.lock().map_or(0, |grades| grades.len());
        return Err(
            format!("stopped after {graded} of {} submissions", class.submissions.len()).into()
        );
    }
    processes::end_descendants();
    let mut grades = grades.into_inner().map_err(|_| "a thread that graded has panicked")?;
    grades.sort_by(|a, b| a.student.cmp(&b.student));
    for grade in &grades {
        write_student(class, grade, for_gradescope)?;
    }
    write_csv(class, &grades)?;
    fs::write(class.out.join("index.html"), page(class, &grades)?)?;
    if let Ok(to) = to.into_inner() {
        writeln!(to, "{}", class.out.join("index.html").display())?;
    }
    Ok(grades.iter().all(is_perfect))
}

fn in_short(grade: &Grade) -> String {
    let Ok(report) = &grade.report else {
        return format!("could not be checked: {}", first_and_last(&grade.note));
    };
    let (points, most) = report.total();
    let made = format!(
        "{points} / {most} points, {} of {} checks passed",
        report.checks.len() - report.failed(),
        report.checks.len()
    );
    if grade.note.is_empty() { made } else { format!("{made}; {}", grade.note) }
}

/// A line for a reason of several lines: compilers and interpreters begin with what they did, and end
/// with what went wrong.
fn first_and_last(why: &str) -> String {
    let mut lines = why.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    match lines.next_back() {
        Some(last) => format!("{first} ... {last}"),
        None => first.to_owned(),
    }
}

fn write_student(class: &Class, grade: &Grade, for_gradescope: bool) -> Result<(), Failure> {
    let folder = class.out.join(&grade.student);
    let instead;
    let report = match &grade.report {
        Ok(report) => report,
        // JUnit and Gradescope have no other place for it.
        Err(why) => {
            let level = class.settings.level.word();
            instead = Report::could_not_run(class.task.name(), level, why);
            &instead
        }
    };
    fs::write(folder.join("report.json"), format!("{:#}\n", report.json()))?;
    fs::write(folder.join("report.xml"), report.junit()?)?;
    if for_gradescope {
        fs::write(folder.join("results.json"), format!("{:#}\n", report.gradescope()))?;
    }
    Ok(())
}

fn write_csv(class: &Class, grades: &[Grade]) -> Result<(), Failure> {
    let plan = class.plan()?;
    let mut table = csv::Writer::from_path(class.out.join("grades.csv"))?;
    let head = ["student", "points", "of", "note"].map(str::to_owned);
    table.write_record(head.iter().chain(plan.iter().map(|planned| &planned.name)))?;
    for grade in grades {
        let points = grade.report.as_ref().map(Report::points).unwrap_or_default();
        let total: usize = points.iter().map(|(earned, _)| earned).sum();
        let (student, note) = (grade.student.clone(), grade.note.clone());
        let mut row = vec![student, total.to_string(), most_points(&plan).to_string(), note];
        row.extend((0..plan.len()).map(|at| points.get(at).map_or(0, |point| point.0).to_string()));
        table.write_record(row)?;
    }
    Ok(table.flush()?)
}

/// What all checks are worth; as [`Report::points`] says it.
fn most_points(plan: &[Planned]) -> usize {
    let others = plan.len().saturating_sub(1).max(1);
    plan.iter().map(|planned| if planned.is_own { others } else { 1 }).sum()
}

/// One page: what most failed comes first, then a row a student.
fn page(class: &Class, grades: &[Grade]) -> Result<String, Failure> {
    let plan = class.plan()?;
    let mut failures: BTreeMap<usize, usize> = BTreeMap::new();
    for report in grades.iter().filter_map(|grade| grade.report.as_ref().ok()) {
        for (at, check) in report.checks.iter().enumerate() {
            *failures.entry(at).or_default() += usize::from(!check.passed());
        }
    }
    let failed = |at: &usize| failures.get(at).copied().unwrap_or(0);
    let mut order: Vec<usize> = (0..plan.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(failed(at)), *at));

    let task = class.task.name();
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{task}</title>\n<style>\n{STYLE}</style>\n\
         <h1>{task}: {} submissions</h1>\n<h2>What most failed</h2>\n<table>\n\
         <tr><th>check</th><th>failed by</th></tr>\n",
        grades.len()
    );
    let unchecked = grades.iter().filter(|grade| grade.report.is_err()).count();
    if unchecked > 0 {
        html +=
            &format!("<tr class=\"bad\"><td>could not be checked</td><td>{unchecked}</td></tr>\n");
    }
    for at in order.iter().filter(|at| failed(at) > 0) {
        html += &format!("<tr><td>{}</td><td>{}</td></tr>\n", escape(&plan[*at].name), failed(at));
    }
    let most = most_points(&plan);
    let all: usize =
        grades.iter().flat_map(|grade| &grade.report).map(|report| report.total().0).sum();
    html += &format!(
        "</table>\n<h2>Who passed what</h2>\n<p>{:.1} of {most} points on average.",
        all as f64 / grades.len() as f64
    );
    if plan.iter().any(|planned| planned.is_own) {
        html += " The check that the exercise is about is worth as much as all others together; \
                 if it fails, they do not count.";
    }
    html += "</p>\n<table class=\"grid\">\n<tr><th>student</th><th>points</th>";
    for at in &order {
        html += &format!("<th class=\"name\"><span>{}</span></th>", escape(&plan[*at].name));
    }
    html += "</tr>\n";
    for (number, grade) in grades.iter().enumerate() {
        html += &row(number, grade, &order, most);
    }
    html += "</table>\n<h2>Why</h2>\n";
    for (number, grade) in grades.iter().enumerate().filter(|(_, grade)| !is_perfect(grade)) {
        html += &reasons(number, grade);
    }
    Ok(html + "</html>\n")
}

fn is_perfect(grade: &Grade) -> bool {
    grade.report.as_ref().is_ok_and(|report| report.failed() == 0)
}

fn row(number: usize, grade: &Grade, order: &[usize], most: usize) -> String {
    let student = escape(&grade.student);
    let link = if is_perfect(grade) {
        format!("<th>{student}</th>")
    } else {
        format!("<th><a href=\"#student-{number}\">{student}</a></th>")
    };
    match &grade.report {
        Err(why) => format!(
            "<tr>{link}<td>0 / {most}</td><td colspan=\"{}\" class=\"bad\">could not be checked: {}</td></tr>\n",
            order.len(),
            escape(first_and_last(why))
        ),
        Ok(report) => {
            let cells: String = order
                .iter()
                .map(|at| match report.checks.get(*at) {
                    Some(check) if check.passed() => "<td class=\"good\">✓</td>",
                    _ => "<td class=\"bad\">✗</td>",
                })
                .collect();
            format!("<tr>{link}<td>{} / {most}</td>{cells}</tr>\n", report.total().0)
        }
    }
}

fn reasons(number: usize, grade: &Grade) -> String {
    let student = escape(&grade.student);
    let mut html = format!("<h3 id=\"student-{number}\">{student}</h3>\n");
    match &grade.report {
        Err(why) => html += &format!("<pre>{}</pre>\n", escape(why.as_str())),
        Ok(report) => {
            if !grade.note.is_empty() {
                html += &format!("<p>{}</p>\n", escape(grade.note.as_str()));
            }
            for check in &report.checks {
                if let Some(why) = &check.failure {
                    html += &format!(
                        "<details><summary>{}</summary><pre>{}</pre></details>\n",
                        escape(&check.name),
                        escape(plain(why).join("\n"))
                    );
                }
            }
        }
    }
    html
}

const STYLE: &str = "\
body { font: 15px/1.4 sans-serif; margin: 2em; }
table { border-collapse: collapse; }
td, th { padding: 0.2em 0.6em; border: 1px solid #ccc; text-align: left; }
.name { vertical-align: bottom; font-weight: normal; }
.name span { writing-mode: vertical-rl; transform: rotate(180deg); }
.good { color: #060; } .bad { color: #a00; background: #fee; }
pre { background: #f6f6f6; padding: 1em; overflow: auto; }
";
