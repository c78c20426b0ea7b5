//! `check`: does a server do what its chapter says? For a student, at once and in words; for a teacher,
//! the same for a whole class.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, fs, thread};

use check::checks::CHECKS;
use check::class::{self, Class};
use check::report::{Report, write_result, write_summary};
use check::task::{Settings, Subject, Task};
use check::{Failure, Fixture, Site, cargo, processes};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand, ValueEnum};
use nix::sys::signal::{SigSet, Signal};
use notify::{RecursiveMode, Watcher};

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
    #[arg(long, conflicts_with_all = ["task", "server", "level", "seed", "hint", "watch", "format"])]
    list: bool,

    /// core is what the chapter teaches; strict adds the whole wire suite and more clients
    #[arg(long, value_enum, default_value_t = Level::Core)]
    level: Level,

    /// Make the same site again
    #[arg(long, value_name = "N", value_parser = seed)]
    seed: Option<u64>,

    /// Give one more hint for an exercise, of three
    #[arg(long, conflicts_with_all = ["server", "level", "seed", "watch", "format"])]
    hint: bool,

    /// Check again whenever a file changes
    #[arg(long)]
    watch: bool,

    /// The form of the result
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Subcommand)]
enum Mode {
    /// Check every submission in a folder of folders
    Class {
        /// A folder with class.toml and a folder for each student
        folder: PathBuf,
        /// How many are checked at the same time [default: one for each processor]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
        jobs: Option<u16>,
        /// The folder for grades.csv, index.html and a folder for each student
        #[arg(long, value_name = "REPORT")]
        out: PathBuf,
        /// Write Gradescope's results.json for each student too
        #[arg(long, value_enum)]
        format: Option<ClassFormat>,
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
enum Level {
    Core,
    Strict,
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

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ClassFormat {
    Gradescope,
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
    if let Err(error) = end_with_everything_on_a_signal() {
        return could_not_run(&format!("cannot watch for Ctrl-C: {error}"));
    }
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(SOME_FAILED),
        Err(failure) => could_not_run(&failure.to_string()),
    }
}

fn could_not_run(why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "check: {why}");
    ExitCode::from(COULD_NOT_RUN)
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
    match &arguments.command {
        Some(Mode::Class { folder, jobs, out, format }) => {
            processes::adopt_orphans()?;
            let jobs = match jobs {
                Some(jobs) => usize::from(*jobs),
                None => thread::available_parallelism()?.get(),
            };
            let class = Class::open(folder, out, &workspace)?;
            let mut stdout = anstream::stdout();
            return class::run(&class, jobs, format.is_some(), &mut stdout);
        }
        Some(Mode::Site { folder, seed }) => {
            make_site(folder, *seed)?;
            return Ok(true);
        }
        None => {}
    }
    if arguments.list {
        list(&workspace)?;
        return Ok(true);
    }
    let name = arguments.task.as_deref().ok_or(
        "nothing to check; type a step such as step05, an exercise such as 05a, or --list",
    )?;
    let task = Task::of(name)?;
    if arguments.hint {
        give_hint(task, &workspace)?;
        return Ok(true);
    }
    if arguments.watch {
        return watch(arguments, task, &workspace);
    }
    check_once(arguments, task, &workspace)
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
fn check_once(arguments: &Arguments, task: Task, workspace: &Path) -> Result<bool, Failure> {
    let checked = check_task(arguments, task, workspace);
    let report = match &checked {
        Ok(report) => report,
        Err(failure) => &Report::could_not_run(
            task.name(),
            if arguments.level == Level::Strict { "strict" } else { "core" },
            &failure.to_string(),
        ),
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
    checked.map(|report| report.failed() == 0)
}

fn check_task(arguments: &Arguments, task: Task, workspace: &Path) -> Result<Report, Failure> {
    let command = match &arguments.server[..] {
        [] => task.build(workspace)?,
        command => command.to_vec(),
    };
    // Not before the compiler has run: it may start a server of its own that is meant to stay.
    processes::adopt_orphans()?;
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let settings = Settings { is_strict: arguments.level == Level::Strict, seed };
    let subject = Subject::new(task, command, settings)?;
    let mut stdout = anstream::stdout();
    match arguments.format {
        Format::Human => {
            writeln!(stdout, "{}: {}, --seed {seed}", task.name(), describe(task, workspace))?;
        }
        Format::Lines => writeln!(stdout, "{}", subject.report(Vec::new(), 0.0).json())?,
        Format::Json | Format::Junit | Format::Gradescope => {}
    }
    subject.run(|result| {
        // Nobody may be there to read it, and the checks go on.
        let _ = match arguments.format {
            Format::Human => write_result(&mut stdout, result),
            Format::Lines => writeln!(stdout, "{}", serde_json::json!(result)),
            Format::Json | Format::Junit | Format::Gradescope => Ok(()),
        };
    })
}

/// A few words on a task.
fn describe(task: Task, workspace: &Path) -> String {
    match task {
        Task::Step(step) => step.name[step.short().len() + 1..].replace('-', " "),
        Task::Exercise(exercise) => match exercise.description(workspace) {
            Ok(description) => description.title,
            Err(_) => format!("about \"{}\"", exercise.own),
        },
    }
}

fn list(workspace: &Path) -> Result<(), Failure> {
    let mut stdout = anstream::stdout();
    for task in Task::all() {
        let (core, strict) = (task.checks(false)?.len(), task.checks(true)?.len());
        let strict = strict + task.wire_cases()?.len();
        let words = describe(task, workspace);
        writeln!(
            stdout,
            "{:<8}{words:<40}{core:>3} checks, {strict:>3} with --level strict",
            task.name()
        )?;
    }
    writeln!(stdout)?;
    for check in CHECKS {
        let steps: Vec<_> = check::STEPS
            .iter()
            .filter(|step| (check.applies)(step))
            .map(|step| step.number())
            .collect();
        let level = format!("{:?}", check.level).to_lowercase();
        writeln!(stdout, "{:<12} {:<9}{:<56}{}", check.layer, level, check.name, steps.join(" "))?;
    }
    Ok(())
}

/// Gives the next of an exercise's hints. How many were given is a file in the folder that cargo builds
/// in, so that `cargo clean` forgets it.
fn give_hint(task: Task, workspace: &Path) -> Result<(), Failure> {
    let Task::Exercise(exercise) = task else {
        return Err("hints belong to exercises, such as 05a; a step has its chapter".into());
    };
    let hints = exercise.description(workspace)?.hints;
    let target = env::var_os("CARGO_TARGET_DIR").map_or(workspace.join("target"), PathBuf::from);
    let folder = target.join("check-hints");
    let file = folder.join(exercise.id);
    let given =
        fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let number = usize::min(given + 1, hints.len());
    let mut stdout = anstream::stdout();
    writeln!(stdout, "hint {number} of {}: {}", hints.len(), hints[number - 1])?;
    if given >= hints.len() {
        writeln!(stdout, "There are no more. The solution is beside the starter, in solution/.")?;
    }
    fs::create_dir_all(&folder)?;
    fs::write(file, number.max(given).to_string())?;
    Ok(())
}

/// Checks now, and again after each change, until Ctrl-C.
fn watch(arguments: &Arguments, task: Task, workspace: &Path) -> Result<bool, Failure> {
    // What the command names may lie elsewhere.
    let named = arguments.server.iter().map(Path::new).filter(|word| word.is_file());
    let around: Vec<PathBuf> =
        named.filter_map(|file| file.canonicalize().ok()?.parent().map(PathBuf::from)).collect();
    let folders =
        if arguments.server.is_empty() { task.sources(workspace)? } else { vec![".".into()] };
    let (sender, changes) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| is_change(&event)) {
            let _ = sender.send(());
        }
    })?;
    for folder in &folders {
        watcher.watch(folder, RecursiveMode::Recursive)?;
    }
    let here = env::current_dir()?.canonicalize()?;
    for folder in around.iter().filter(|folder| !folder.starts_with(&here)) {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
    }
    loop {
        if let Err(failure) = check_once(arguments, task, workspace) {
            let _ = could_not_run(&failure.to_string());
        }
        writeln!(io::stderr(), "check: waiting for a change; Ctrl-C ends")?;
        changes.recv()?;
        // An editor writes a file in several steps.
        while changes.recv_timeout(Duration::from_millis(200)).is_ok() {}
    }
}

/// Something was written, and not by a compiler or an interpreter.
fn is_change(event: &notify::Event) -> bool {
    let is_by_product = |path: &PathBuf| {
        path.components().any(|part| {
            matches!(part.as_os_str().to_str(), Some("target" | ".git" | "__pycache__"))
        })
    };
    !event.kind.is_access() && !event.paths.iter().all(is_by_product)
}
