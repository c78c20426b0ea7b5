//! `check`: does a server do what its chapter says? For a student, at once and in words; for a teacher,
//! the same for a whole class.

mod commands;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::{fs, thread};

use check::class::{self, term};
use check::report::{Report, visible, write_summary};
use check::sandbox::Sandbox;
use check::subject::Subject;
use check::task::{Level, Settings, Task};
use check::{Failure, Fixture, Site, cargo, processes};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand, ValueEnum};
use nix::sys::prctl::set_dumpable;
use nix::sys::signal::{SigSet, Signal};

use crate::commands::teller::Teller;
use crate::commands::{describe, list, new, progress, watch};

/// Checks a server against what a step of the course must do.
///
/// check step05                     our own step
/// check 05a                        your exercise, in exercises/05a-.../starter
/// check step05 -- python3 server.py --port {port} --root {root}
///                                  anyone's server, in any language
///
/// Exit status: 0 all checks passed, 1 some failed, 2 the checks could not be made.
#[derive(Parser)]
#[command(name = "check", version, verbatim_doc_comment, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Mode>,

    /// A step (step05) or an exercise (05a)
    task: Option<String>,

    /// The server to check; {port} and {root} stand for its port and the folder to serve
    #[arg(last = true, value_name = "COMMAND")]
    server: Vec<OsString>,

    /// Name everything there is to check
    #[arg(long, conflicts_with_all = ["task", "server", "level", "any_model", "seed", "hint", "watch", "format"])]
    list: bool,

    /// With --list: what this step or exercise asks, in order
    #[arg(long, value_name = "TASK", conflicts_with_all = ["task", "server"])]
    step: Option<String>,

    /// Make only some checks: a layer (wire), a group of the wire suite (framing), or what has this in
    /// its name
    #[arg(long, value_name = "NAME")]
    only: Option<String>,

    /// The folder with the exercises [default: the one in this repository]
    #[arg(long, value_name = "FOLDER", global = true)]
    exercises: Option<PathBuf>,

    /// core is what the chapter teaches; strict adds the whole wire suite and more clients
    #[arg(long, value_enum, default_value_t = Level::Core)]
    level: Level,

    /// Leave out the evidence: the server may serve its clients in any way
    #[arg(long)]
    any_model: bool,

    /// Make the same site again
    #[arg(long, value_name = "N", value_parser = seed)]
    seed: Option<u64>,

    /// Give one more hint for an exercise, of three
    #[arg(long, conflicts_with_all = ["server", "level", "any_model", "only", "seed", "watch", "format"])]
    hint: bool,

    /// Check again whenever a file changes
    #[arg(long)]
    watch: bool,

    /// The form of the result
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,

    /// For check class: the box for the server
    #[arg(long, hide = true)]
    in_box: Option<String>,
}

#[derive(Subcommand)]
enum Mode {
    /// Check every submission in a folder of folders
    Class(class::Arguments),
    /// Join the reports of several weeks to one table
    Term(term::Arguments),
    /// For check class: give up what a submission must not have, and become its server
    #[command(hide = true)]
    Box {
        settings: String,
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Say which exercise comes next, from what has passed here
    Next {
        /// Check it whenever a file changes; when it passes, go on to the one that comes then
        #[arg(long)]
        watch: bool,
    },
    /// Make an exercise of one's own from one that is there
    New {
        /// The number of its step and a letter, such as 03d
        id: String,
        /// An exercise of the same step
        #[arg(long, value_name = "ID")]
        from: String,
    },
    /// Make the site of a run again, to try something by hand
    Site {
        /// The folder in which to make it
        folder: PathBuf,
        /// The seed that the run has printed
        #[arg(long, value_name = "N", value_parser = seed)]
        seed: u64,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
    Junit,
    Gradescope,
    /// For `check class`, which must have what was done if the rest takes too long: a line of JSON with
    /// the report as it begins, one for each check, and one with the whole report.
    #[value(hide = true)]
    Lines,
}

const SOME_FAILED: u8 = 1;
const COULD_NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => return could_not_run(&in_one_line(&error)),
    };
    if let Some(Mode::Box { settings, command }) = &arguments.command {
        let entered = sandbox(settings).and_then(|sandbox| sandbox.enter(command));
        return match entered {
            Err(failure) => could_not_run(&failure.to_string()),
        };
    }
    // Whoever could look into this process could write its report.
    if let Err(error) = set_dumpable(false) {
        return could_not_run(&format!("cannot hide from what is checked: {error}"));
    }
    if let Err(error) = end_with_everything_on_a_signal() {
        return could_not_run(&format!("cannot watch for Ctrl-C: {error}"));
    }
    let done = run(&arguments);
    while processes::is_ending() {
        // The thread that ends everything says how this process has ended.
        thread::park();
    }
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(SOME_FAILED),
        // Who read the first lines has left, as head does.
        Err(failure) if is_broken_pipe(&failure) => ExitCode::from(COULD_NOT_RUN),
        Err(failure) => could_not_run(&failure.to_string()),
    }
}

fn is_broken_pipe(failure: &Failure) -> bool {
    let error = failure.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn could_not_run(why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "check: {}", visible(why));
    ExitCode::from(COULD_NOT_RUN)
}

fn sandbox(settings: &str) -> Result<Sandbox, Failure> {
    Ok(serde_json::from_str(settings)?)
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "a seed is a whole number, such as 42".to_owned())
}

/// clap explains over several lines; the first says what is wrong.
fn in_one_line(error: &clap::Error) -> String {
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(word))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
        && !word.starts_with('-')
    {
        return format!(
            "there is no place for '{word}'; if a command begins there, put -- before it, as in \
             check step05 -- {word} ..."
        );
    }
    let text = error.to_string();
    let lines: Vec<&str> =
        text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let line = lines.join(" ");
    format!("{}; --help lists what can be typed", line.trim_start_matches("error: "))
}

/// At Ctrl-C, or when asked to end, everything that was started ends first. A thread waits for the
/// signals, which all others block; a child begins with none blocked.
fn end_with_everything_on_a_signal() -> nix::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    thread::spawn(move || {
        let signal = signals.wait().unwrap_or(Signal::SIGTERM);
        processes::end_all();
        check::remove_temporary_folders();
        process::exit(128 + signal as i32);
    });
    Ok(())
}

/// Does what was asked; whether all passed.
fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let workspace = cargo::workspace();
    let exercises = arguments.exercises.clone().unwrap_or_else(|| workspace.join("exercises"));
    match &arguments.command {
        Some(Mode::Class(class)) => {
            return class::run(class, &workspace, &exercises, &mut anstream::stdout());
        }
        Some(Mode::Term(term)) => {
            term::run(term, &mut anstream::stdout())?;
            return Ok(true);
        }
        Some(Mode::Next { watch: false }) => {
            progress::tell_next(&mut anstream::stdout(), &exercises)?;
            return Ok(true);
        }
        Some(Mode::Next { watch: true }) => return watch::go_on(arguments, &exercises, &workspace),
        Some(Mode::New { id, from }) => {
            new::make(id, from, &exercises, &workspace)?;
            return Ok(true);
        }
        Some(Mode::Site { folder, seed }) => {
            make_site(folder, *seed)?;
            return Ok(true);
        }
        Some(Mode::Box { .. }) | None => {}
    }
    let only = arguments.only.as_deref();
    if arguments.list {
        match (&arguments.step, only) {
            (Some(name), _) => list::one(&Task::of(name, &exercises)?, only)?,
            (None, Some(_)) => {
                return Err("--list with --only needs --step too, such as --step step05".into());
            }
            (None, None) => list::everything(&exercises)?,
        }
        return Ok(true);
    }
    if arguments.step.is_some() {
        return Err(
            "--step belongs to --list; a step to be checked stands alone, as in check step05"
                .into(),
        );
    }
    let name = arguments.task.as_deref().ok_or(
        "nothing to check; type a step such as step05, an exercise such as 05a, or --list",
    )?;
    let task = Task::of(name, &exercises)?;
    if arguments.hint {
        let Task::Exercise(exercise) = &task else {
            return Err("hints belong to exercises, such as 05a; a step has its chapter".into());
        };
        progress::give_hint(exercise, &workspace)?;
        return Ok(true);
    }
    if arguments.watch {
        return watch::watch(arguments, &task, &workspace, false);
    }
    check_once(arguments, &task, &workspace)
}

/// Makes the site of a run, and the one that the wire suite asks about, in a folder of its own.
fn make_site(folder: &Path, seed: u64) -> Result<(), Failure> {
    let place = folder.display();
    if folder.is_dir() && fs::read_dir(folder)?.next().is_some() {
        return Err(format!("{place} is not empty; name a new folder for the site").into());
    }
    let site = Site::new(seed);
    fs::create_dir_all(folder)
        .and_then(|()| site.write(folder))
        .and_then(|root| Fixture::write(&folder.join("wire")).map(|()| root))
        .map_err(|error| format!("cannot make the site in {place}: {error}"))
        .map(|root| writeln!(anstream::stdout(), "{}", root.display()))??;
    Ok(())
}

/// Checks, and prints the result in the form that was asked for, also if no check could be made.
fn check_once(arguments: &Arguments, task: &Task, workspace: &Path) -> Result<bool, Failure> {
    let checked = check_task(arguments, task, workspace);
    let report = match &checked {
        Ok(report) => report,
        Err(failure) => {
            &Report::could_not_run(task.name(), arguments.level.word(), &failure.to_string())
        }
    };
    let mut stdout = anstream::stdout();
    match arguments.format {
        Format::Human if checked.is_ok() => write_summary(&mut stdout, report)?,
        Format::Human => {}
        Format::Json => writeln!(stdout, "{:#}", report.json())?,
        Format::Junit => write!(stdout, "{}", report.junit()?)?,
        Format::Gradescope => writeln!(stdout, "{:#}", report.gradescope())?,
        Format::Lines => writeln!(stdout, "{}", report.json())?,
    }
    let passed = checked.map(|report| report.failed() == 0)?;
    if let Task::Exercise(exercise) = task
        && passed
        && arguments.server.is_empty()
        && arguments.only.is_none()
    {
        progress::add_passed(&exercise.id)?;
    }
    Ok(passed)
}

fn check_task(arguments: &Arguments, task: &Task, workspace: &Path) -> Result<Report, Failure> {
    let command = match &arguments.server[..] {
        [] => task.build(workspace)?,
        command => command.to_vec(),
    };
    // Not before the compiler has run: it may start a server of its own that is meant to stay.
    processes::adopt_orphans()?;
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let before = match &arguments.in_box {
        Some(settings) => sandbox(settings)?.words()?,
        None => Vec::new(),
    };
    let settings = Settings {
        before,
        level: arguments.level,
        only: arguments.only.clone(),
        any_model: arguments.any_model,
        seed,
        ..Settings::default()
    };
    let subject = Subject::new(task.clone(), command, settings)?;
    let (mut stdout, mut teller) = (anstream::stdout(), Teller::default());
    match arguments.format {
        Format::Human => {
            writeln!(stdout, "{}: {}, --seed {seed}", task.name(), describe(task))?;
        }
        Format::Lines => writeln!(stdout, "{}", subject.report(Vec::new(), 0.0).json())?,
        Format::Json | Format::Junit | Format::Gradescope => {}
    }
    let report = subject.run(|result| {
        // What is found now is this program's own end.
        if processes::is_ending() {
            return;
        }
        // Nobody may be there to read it, and the checks go on.
        let _ = match arguments.format {
            Format::Human => teller.tell(&mut stdout, result),
            Format::Lines => writeln!(stdout, "{}", serde_json::json!(result)),
            Format::Json | Format::Junit | Format::Gradescope => Ok(()),
        };
    })?;
    let _ = teller.finish(&mut stdout);
    Ok(report)
}
