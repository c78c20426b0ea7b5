//! What the tests share: the steps, `check` and `lab` as programs.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::{env, fs};

use check::{Failure, Fixture, Server};
use io_uring::{IoUring, cqueue, squeue};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

pub use check::{STEPS, Step, raise_descriptor_limit};

/// The program of a step, `check` or `lab`, built as a reader builds it.
///
/// # Errors
/// It does not build.
pub fn program(step: &str) -> Result<PathBuf, Failure> {
    static PROGRAMS: OnceLock<Result<HashMap<String, PathBuf>, String>> = OnceLock::new();
    let programs = PROGRAMS.get_or_init(|| build().map_err(|error| error.to_string()));
    let programs = programs.as_ref().map_err(String::as_str)?;
    Ok(programs.get(step).ok_or_else(|| format!("no program {step}"))?.clone())
}

fn build() -> Result<HashMap<String, PathBuf>, Failure> {
    // All of the workspace, as `cargo test --workspace` has built it: some packages alone would have other
    // features of what they share, and that would be compiled once more.
    check::cargo::build(&workspace().join("Cargo.toml"), &[])
}

/// An example of one of our programs, built like it.
///
/// # Errors
/// It does not build.
pub fn example(step: &str, name: &str) -> Result<PathBuf, Failure> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--workspace", "--example", name]).current_dir(workspace());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    ensure!(cargo.stdin(Stdio::null()).status()?.success(), "{step}: {name} does not compile");
    Ok(program(step)?.with_file_name("examples").join(name))
}

/// Whether somebody has changed something below a folder of the workspace since it was given out, as far as
/// git can tell. An exercise is done where it lies.
pub fn is_edited(folder: &Path) -> bool {
    let mut git = Command::new("git");
    git.arg("-C").arg(workspace()).args(["status", "--porcelain", "--"]).arg(folder);
    git.stdin(Stdio::null()).output().is_ok_and(|output| !output.stdout.is_empty())
}

/// A file of the workspace as it was given out, also if somebody has changed it since.
///
/// # Errors
/// It cannot be read.
pub fn as_given_out(file: &Path) -> Result<String, Failure> {
    if !is_edited(file) {
        return Ok(fs::read_to_string(file)?);
    }
    let (folder, name) = (file.parent().ok_or("no folder")?, file.file_name().ok_or("no name")?);
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).arg("show").arg(format!("HEAD:./{}", name.to_string_lossy()));
    let output = git.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Makes a site of the book in a folder. Needs mdbook.
///
/// # Errors
/// mdbook fails, or warns.
pub fn build_book(folder: &Path) -> Result<(), Failure> {
    let built =
        Command::new("mdbook").arg("build").arg(workspace()).arg("-d").arg(folder).output()?;
    let said = String::from_utf8_lossy(&built.stderr);
    ensure!(built.status.success() && !said.contains("WARN"), "mdbook says: {said}");
    Ok(())
}

/// A step on a free port, with further arguments.
///
/// # Errors
/// The step does not build.
pub fn command(step: Step, arguments: &[&str]) -> Result<Command, Failure> {
    let mut command = Command::new(program(step.name)?);
    command.args(["--port", "0"]).args(arguments).stdin(Stdio::null());
    Ok(command)
}

/// A running step that serves the demo site.
///
/// # Errors
/// The step does not start.
pub fn start(step: Step, arguments: &[&str]) -> Result<Server, Failure> {
    Server::start(&mut command(step, arguments)?)
}

/// A running step that serves a folder.
///
/// # Errors
/// The step does not start.
pub fn start_in(step: Step, folder: &Path) -> Result<Server, Failure> {
    Server::start(command(step, &[])?.arg(folder))
}

/// A running step that serves the fixture site.
///
/// # Errors
/// The step does not start.
pub fn start_with(step: Step, fixture: &Fixture, arguments: &[&str]) -> Result<Server, Failure> {
    Server::start(command(step, arguments)?.arg(fixture.root()))
}

/// A command that a shell starts, after it has changed something of its own: a limit, what a signal
/// does, where the output goes.
pub fn under_shell(change: &str, inner: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{change}; exec \"$@\"")).arg("sh");
    shell.arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
    shell
}

/// A step whose system calls fail as `injections` say: strace's words, such as
/// `accept4:error=EMFILE:when=2+3`. A when counts calls of each thread.
///
/// # Errors
/// The step does not build.
pub fn under_strace(step: Step, injections: &[&str]) -> Result<Command, Failure> {
    let inner = command(step, &[])?;
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null"]);
    for injection in injections {
        strace.args(["-e", &format!("inject={injection}")]);
    }
    let calls: Vec<&str> = injections
        .iter()
        .map(|injection| injection.split(':').next().unwrap_or_default())
        .collect();
    strace.args(["-e", &format!("trace={}", calls.join(","))]);
    strace.arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
    Ok(strace)
}

/// A named test of one step.
pub fn trial(
    step: Step,
    name: &str,
    run: impl FnOnce(Step) -> Result<(), Failure> + Send + 'static,
) -> Trial {
    Trial::test(format!("{}: {name}", step.name), move || {
        run(step).map_err(|error| Failed::from(error.to_string()))
    })
}

/// The command line of a test program, and how many tests run at a time if it does not say: more than
/// there are processors, since most of the time a test waits.
pub fn arguments(at_a_time: usize) -> Arguments {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(at_a_time);
    arguments
}

/// The tests, with those of step 12 listed as ignored where the kernel has no io_uring for us.
pub fn where_possible(trials: Vec<Trial>) -> Vec<Trial> {
    let is_missing = IoUring::<squeue::Entry, cqueue::Entry>::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(1)
        .is_err();
    let mark = |trial: Trial| {
        let is_step12 =
            ["step12", "12-uring.md: transcripts"].iter().any(|name| trial.name().contains(name));
        if !(is_missing && is_step12) {
            return trial;
        }
        trial.with_kind("needs io_uring").with_ignored_flag(true)
    };
    trials.into_iter().map(mark).collect()
}

/// Fails with a sentence unless something holds.
#[macro_export]
macro_rules! ensure {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err(format!($($words)+).into());
        }
    };
}

/// The `check` command.
///
/// # Errors
/// It does not build.
pub fn check_command() -> Result<Command, Failure> {
    let mut command = Command::new(program("check")?);
    // Servers in Python must not leave anything in the repository.
    command.stdin(Stdio::null()).current_dir(workspace()).env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

/// What `check` says about a server.
#[derive(Debug)]
pub struct Verdict {
    /// The names of the checks that failed.
    pub failed: BTreeSet<String>,
    /// All of it.
    pub report: Value,
}

impl Verdict {
    /// What it says of one check.
    ///
    /// # Errors
    /// The check was not made.
    pub fn check(&self, name: &str) -> Result<&Value, Failure> {
        let mut checks = self.report["checks"].as_array().into_iter().flatten();
        Ok(checks.find(|check| check["name"] == name).ok_or_else(|| format!("no check {name}"))?)
    }

    /// Why each check failed that has.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &Value)> {
        let checks = self.report["checks"].as_array().into_iter().flatten();
        checks
            .filter(|check| check["passed"] == false)
            .map(|check| (check["name"].as_str().unwrap_or_default(), &check["failure"]))
    }

    /// Every failure must say all that a student needs.
    ///
    /// # Errors
    /// A part is missing.
    pub fn is_explained(&self) -> Result<(), Failure> {
        for (name, failure) in self.failures() {
            for part in ["done", "came", "repeat"] {
                let lines = failure[part].as_array();
                ensure!(
                    lines.is_some_and(|lines| !lines.is_empty() && lines.iter().all(|l| l != "")),
                    "{name}: no {part}: {failure:#}"
                );
            }
            for part in ["expected", "cause", "read"] {
                let text = failure[part].as_str();
                ensure!(
                    text.is_some_and(|text| !text.is_empty()),
                    "{name}: no {part}: {failure:#}"
                );
            }
            // The site, the server, what shows the fault, and the end of the server.
            let repeat: Vec<&str> = failure["repeat"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let has_site = repeat[0].starts_with("cargo run -p check -- site again-");
            ensure!(repeat.len() >= 3 + usize::from(has_site), "{name}: {failure:#}");
            ensure!(repeat[usize::from(has_site)].contains("& SERVER=$!"), "{name}: {failure:#}");
            ensure!(repeat.last() == Some(&"kill $SERVER"), "{name}: {failure:#}");
            ensure!(repeat.iter().any(|line| line.contains("8080")), "{name}: {failure:#}");
        }
        Ok(())
    }
}

/// Runs `check` for a task, on our own program or on the server that these words start.
///
/// # Errors
/// The checks could not be made.
pub fn verdict(task: &str, server: &[String], level: &str) -> Result<Verdict, Failure> {
    verdict_with(task, server, &["--level", level])
}

/// As [`verdict`], with other options.
///
/// # Errors
/// The checks could not be made.
pub fn verdict_with(task: &str, server: &[String], options: &[&str]) -> Result<Verdict, Failure> {
    let mut command = check_command()?;
    command.args([task, "--format", "json"]).args(options);
    if !server.is_empty() {
        command.arg("--").args(server);
    }
    let output = command.output()?;
    if !matches!(output.status.code(), Some(0 | 1)) {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let failed: BTreeSet<String> = report["checks"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|check| check["passed"] == false)
        .filter_map(|check| check["name"].as_str().map(str::to_owned))
        .collect();
    ensure!(
        output.status.code() == Some(i32::from(!failed.is_empty())),
        "status {}, but failed are {failed:?}",
        output.status
    );
    Ok(Verdict { failed, report })
}

/// Does something once, or as often as the environment variable REPEAT says.
///
/// # Errors
/// The first failure; says at which repetition.
pub fn repeatedly(mut run: impl FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
    let times: u32 = std::env::var("REPEAT").map_or(Ok(1), |times| times.parse())?;
    for time in 1..=times {
        run().map_err(|failure| format!("time {time} of {times}: {failure}"))?;
    }
    Ok(())
}
