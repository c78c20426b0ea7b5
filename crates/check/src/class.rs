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

use crate::report::{CheckResult, Report, plain};
use crate::task::Task;
use crate::{Failure, cargo, processes, wait_until};

/// `class.toml` of a class, or `check.toml` of one submission.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The step or exercise. Only a class says it.
    task: Option<String>,
    /// The words that start a server, in the folder of the submission.
    command: Option<Vec<String>>,
    /// `core` or `strict`. Only a class says it.
    level: Option<String>,
    /// How long one submission may take, in seconds. Only a class says it.
    limit: Option<u64>,
}

/// A folder of submissions.
pub struct Class {
    settings: Settings,
    task: Task,
    submissions: Vec<PathBuf>,
    out: PathBuf,
    workspace: PathBuf,
}

/// How one submission ended.
struct Grade {
    student: String,
    /// `Err` says why the checks could not be made.
    report: Result<Report, String>,
}

impl Class {
    /// Looks at a folder of submissions.
    ///
    /// # Errors
    /// There is no `class.toml` in it, or no submission, or the folder for the report cannot be made.
    pub fn open(folder: &Path, out: &Path, workspace: &Path) -> Result<Class, Failure> {
        let settings = read_settings(&folder.join("class.toml"))?.ok_or_else(|| {
            format!(
                "{} has no class.toml; it says what is checked, such as task = \"step05\"",
                folder.display()
            )
        })?;
        let name =
            settings.task.as_deref().ok_or("class.toml must name a task, such as \"step05\"")?;
        let task = Task::of(name)?;
        let mut submissions: Vec<PathBuf> = fs::read_dir(folder)?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_dir() && !name_of(path).starts_with('.'))
            .collect();
        submissions.sort();
        if submissions.is_empty() {
            return Err(
                format!("{} has no folder in it; each student has one", folder.display()).into()
            );
        }
        fs::create_dir_all(out)?;
        let out = out.canonicalize()?;
        submissions.retain(|path| path.canonicalize().is_ok_and(|path| path != out));
        Ok(Class { settings, task, submissions, out, workspace: workspace.canonicalize()? })
    }

    /// The words that start a submission, and what comes from its `check.toml`, from its Rust code, or
    /// from `class.toml`.
    fn command(&self, submission: &Path, builder: &Mutex<()>) -> Result<Vec<OsString>, Failure> {
        let own = read_settings(&submission.join("check.toml"))?.and_then(|own| own.command);
        let is_rust = submission.join("src/main.rs").is_file();
        match own.or(self.settings.command.clone()) {
            Some(command) => Ok(command.into_iter().map(OsString::from).collect()),
            None if is_rust => {
                let _one_at_a_time = builder.lock();
                self.build(submission)
            }
            None => {
                Err("there is no src/main.rs, no check.toml, and no command in class.toml".into())
            }
        }
    }

    /// Builds an exercise with the student's `src`, in a copy of the workspace where everything else is a
    /// link to ours. The copy stands in one place for all, so that what they share is compiled once.
    fn build(&self, submission: &Path) -> Result<Vec<OsString>, Failure> {
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
        copy_folder(&submission.join("src"), &starter.join("src"))?;
        let package = format!("exercise-{}", exercise.id);
        let built = cargo::program(&exercises.join("Cargo.toml"), &package)?;
        let program = self.out.join(name_of(submission)).join("program");
        processes::while_none_starts(|| fs::copy(built, &program))?;
        self.task.words(program)
    }

    fn grade(&self, submission: &Path, builder: &Mutex<()>) -> Grade {
        let student = name_of(submission);
        let report = fs::create_dir_all(self.out.join(&student))
            .map_err(Failure::from)
            .and_then(|()| self.command(submission, builder))
            .and_then(|command| self.check(submission, &command))
            .map_err(|failure| failure.to_string());
        Grade { student, report }
    }

    /// Runs `check` for one submission as a process of its own. Whatever happens to that, the others go
    /// on.
    fn check(&self, submission: &Path, command: &[OsString]) -> Result<Report, Failure> {
        let output = tempfile::tempfile()?;
        let errors = tempfile::tempfile()?;
        let mut checker = Command::new(std::env::current_exe()?);
        checker.arg(self.task.name()).args(["--format", "json"]);
        checker.args(["--level", self.settings.level.as_deref().unwrap_or("core")]);
        checker.arg("--").args(command).current_dir(submission).process_group(0);
        checker.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(errors.try_clone()?);
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
            return Err(format!("the checks took more than {} seconds", limit.as_secs()).into());
        }
        match status.and_then(|status| status.code()) {
            Some(0 | 1) => Ok(serde_json::from_str(&text_of(&output)?)?),
            _ => Err(text_of(&errors)?.trim().trim_start_matches("check: ").into()),
        }
    }
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

fn read_settings(file: &Path) -> Result<Option<Settings>, Failure> {
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
    Ok(grades.iter().all(|grade| grade.report.as_ref().is_ok_and(|report| report.failed() == 0)))
}

fn in_short(grade: &Grade) -> String {
    match &grade.report {
        Ok(report) => {
            format!(
                "{} of {} checks passed",
                report.checks.len() - report.failed(),
                report.checks.len()
            )
        }
        Err(why) => format!("could not be checked: {}", why.lines().next().unwrap_or_default()),
    }
}

fn write_student(class: &Class, grade: &Grade, for_gradescope: bool) -> Result<(), Failure> {
    let folder = class.out.join(&grade.student);
    let could_not = |why: &str| CheckResult::could_not_run(why);
    let instead;
    let report = match &grade.report {
        Ok(report) => report,
        // JUnit and Gradescope have no other place for it.
        Err(why) => {
            instead = Report {
                task: class.task.name().to_owned(),
                level: class.settings.level.clone().unwrap_or_else(|| "core".to_owned()),
                seed: 0,
                command: String::new(),
                seconds: 0.0,
                checks: vec![could_not(why)],
            };
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

/// The names of the checks, in their order.
fn names(class: &Class) -> Result<Vec<String>, Failure> {
    let is_strict = class.settings.level.as_deref() == Some("strict");
    let mut names: Vec<String> =
        class.task.checks(is_strict)?.iter().map(|check| check.name.to_owned()).collect();
    if is_strict {
        let cases = class.task.wire_cases()?;
        names.extend(cases.iter().map(|(group, case)| format!("{group}: {}", case.name)));
    }
    Ok(names)
}

fn write_csv(class: &Class, grades: &[Grade]) -> Result<(), Failure> {
    let names = names(class)?;
    let mut table = csv::Writer::from_path(class.out.join("grades.csv"))?;
    let head = ["student", "points", "of", "note"].map(str::to_owned);
    table.write_record(head.iter().chain(&names))?;
    for grade in grades {
        let (points, note) = match &grade.report {
            Ok(report) => (report.points(), ""),
            Err(why) => (Vec::new(), why.as_str()),
        };
        let of = |at: usize| points.get(at).map_or(0, |(earned, _)| *earned);
        let total: usize = points.iter().map(|(earned, _)| earned).sum();
        let most: usize = most_points(class, names.len()).iter().sum();
        let mut row =
            vec![grade.student.clone(), total.to_string(), most.to_string(), note.to_owned()];
        row.extend((0..names.len()).map(|at| of(at).to_string()));
        table.write_record(row)?;
    }
    Ok(table.flush()?)
}

/// What each check is worth; as [`Report::points`] says it.
fn most_points(class: &Class, checks: usize) -> Vec<usize> {
    let is_exercise = matches!(class.task, Task::Exercise(_));
    let worth = |at| if is_exercise && at == 0 { checks.saturating_sub(1).max(1) } else { 1 };
    (0..checks).map(worth).collect()
}

/// One page: what most failed comes first, then a row a student.
fn page(class: &Class, grades: &[Grade]) -> Result<String, Failure> {
    let names = names(class)?;
    let mut failures: BTreeMap<usize, usize> = BTreeMap::new();
    for report in grades.iter().filter_map(|grade| grade.report.as_ref().ok()) {
        for (at, check) in report.checks.iter().enumerate() {
            *failures.entry(at).or_default() += usize::from(!check.passed());
        }
    }
    let failed = |at: &usize| failures.get(at).copied().unwrap_or(0);
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(failed(at)), *at));

    let task = class.task.name();
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{task}</title>\n<style>\n{STYLE}</style>\n\
         <h1>{task}: {} submissions</h1>\n<h2>What most failed</h2>\n<table>\n\
         <tr><th>check</th><th>failed by</th></tr>\n",
        grades.len()
    );
    for at in order.iter().filter(|at| failed(at) > 0) {
        html += &format!("<tr><td>{}</td><td>{}</td></tr>\n", escape(&names[*at]), failed(at));
    }
    html += "</table>\n<h2>Who passed what</h2>\n<table class=\"grid\">\n<tr><th>student</th><th>points</th>";
    for at in &order {
        html += &format!("<th class=\"name\"><span>{}</span></th>", escape(&names[*at]));
    }
    html += "</tr>\n";
    for grade in grades {
        html += &row(grade, &order);
    }
    html += "</table>\n<h2>Why</h2>\n";
    for grade in grades {
        html += &reasons(grade);
    }
    Ok(html + "</html>\n")
}

fn row(grade: &Grade, order: &[usize]) -> String {
    let student = escape(&grade.student);
    let link = format!("<th><a href=\"#{student}\">{student}</a></th>");
    match &grade.report {
        Err(_) => format!(
            "<tr>{link}<td>0</td><td colspan=\"{}\" class=\"bad\">could not be checked</td></tr>\n",
            order.len()
        ),
        Ok(report) => {
            let points: usize = report.points().iter().map(|(earned, _)| earned).sum();
            let cells: String = order
                .iter()
                .map(|at| match report.checks.get(*at) {
                    Some(check) if check.passed() => "<td class=\"good\">✓</td>",
                    _ => "<td class=\"bad\">✗</td>",
                })
                .collect();
            format!("<tr>{link}<td>{points}</td>{cells}</tr>\n")
        }
    }
}

fn reasons(grade: &Grade) -> String {
    let student = escape(&grade.student);
    let mut html = format!("<h3 id=\"{student}\">{student}</h3>\n");
    match &grade.report {
        Err(why) => html += &format!("<pre>{}</pre>\n", escape(why.as_str())),
        Ok(report) if report.failed() == 0 => html += "<p>All checks passed.</p>\n",
        Ok(report) => {
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
