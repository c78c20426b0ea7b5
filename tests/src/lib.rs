//! What the tests share: the steps as programs, and a table of what each can do.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use check::{Failure, Fixture, Server};
use escargot::format::Message;
use libtest_mimic::{Failed, Trial};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A step, and what its chapter has taught so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The name of its crate and program.
    pub name: &'static str,
    /// Serves files over HTTP.
    pub serves_files: bool,
    /// A silent client stops nobody else.
    pub is_concurrent: bool,
    /// Answers many requests on one connection.
    pub is_persistent: bool,
    /// Uses no processor time while nothing happens.
    pub idles_for_free: bool,
}

impl Step {
    const fn new(name: &'static str, abilities: [bool; 4]) -> Step {
        let [serves_files, is_concurrent, is_persistent, idles_for_free] = abilities;
        Step { name, serves_files, is_concurrent, is_persistent, idles_for_free }
    }
}

/// Which step has which ability. A step gains one when its chapter teaches it.
pub const STEPS: [Step; 9] = [
    //                                 files  concurrent persistent idle
    Step::new("step01-by-hand", [false, false, false, true]),
    Step::new("step02-single-response", [false, false, false, true]),
    Step::new("step03-static-files", [true, false, false, true]),
    Step::new("step04-fork", [true, true, false, true]),
    Step::new("step05-threads", [true, true, false, true]),
    Step::new("step06-coroutines", [true, true, false, true]),
    Step::new("step07-nonblocking", [false, true, false, false]),
    Step::new("step08-persistent", [true, true, true, false]),
    Step::new("step09-epoll", [true, true, true, true]),
];

/// The program of a step, built as a reader builds it.
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
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let packages = STEPS.iter().flat_map(|step| ["--package", step.name]);
    let build =
        escargot::CargoBuild::new().manifest_path(manifest).current_release().args(packages);
    let mut programs = HashMap::new();
    for message in build.exec()? {
        if let Message::CompilerArtifact(artifact) = message?.decode()?
            && let Some(program) = &artifact.executable
        {
            programs.insert(artifact.target.name.to_string(), program.to_path_buf());
        }
    }
    Ok(programs)
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

/// Lets this process hold as many connections as the system allows, and returns how many that is.
pub fn raise_descriptor_limit() -> u64 {
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => 0,
    }
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
