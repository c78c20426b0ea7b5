//! What is checked, and the checking itself.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use crate::checks::{CHECKS, Check, Layer, Level};
use crate::exercises::{EXERCISES, Exercise};
use crate::processes::{Process, family};
use crate::report::{CheckResult, Report};
use crate::scene::{Recorder, Scene};
use crate::server::free_port;
use crate::story::{Deed, Explain, Explanation, Fault, Story};
use crate::wire::{Applies, Case, cases};
use crate::{Failure, Fixture, STEPS, Server, Site, Step, cargo, temporary_folder};

/// A step or an exercise.
#[derive(Clone, Copy, Debug)]
pub enum Task {
    /// A step.
    Step(Step),
    /// An exercise.
    Exercise(&'static Exercise),
}

impl Task {
    /// The task of a name: `step05`, `step05-threads`, `05`, `step5` or `5`; `05a`, `5a` or `exercise-05a`.
    ///
    /// # Errors
    /// Nothing has this name; says what there is.
    pub fn of(name: &str) -> Result<Task, Failure> {
        let lower = name.to_lowercase();
        let bare = ["step", "exercise-"].iter().find_map(|prefix| lower.strip_prefix(prefix));
        let short = bare.unwrap_or(&lower);
        let digits = short.trim_end_matches(char::is_alphabetic);
        let number = format!("{digits:0>2}{}", &short[digits.len()..]);
        let step = STEPS.into_iter().find(|step| step.number() == number || step.name == lower);
        let task = step.map(Task::Step).or_else(|| Exercise::of(&number).map(Task::Exercise));
        task.ok_or_else(|| {
            format!(
                "there is no '{name}'; type step01 to step09, an exercise such as 05a, or --list"
            )
            .into()
        })
    }

    /// Every task there is.
    pub fn all() -> Vec<Task> {
        let exercises = EXERCISES.iter().filter_map(|exercise| Exercise::of(exercise.id));
        STEPS.into_iter().map(Task::Step).chain(exercises.map(Task::Exercise)).collect()
    }

    /// `step05` or `05a`.
    pub fn name(&self) -> &'static str {
        match self {
            Task::Step(step) => step.short(),
            Task::Exercise(exercise) => exercise.id,
        }
    }

    /// Whether this is an exercise, and the check with this name is the one made for it.
    pub fn is_about(&self, name: &str) -> bool {
        matches!(self, Task::Exercise(exercise) if exercise.own == name)
    }

    /// The step whose checks apply.
    ///
    /// # Errors
    /// The exercise belongs to none.
    pub fn step(&self) -> Result<Step, Failure> {
        match self {
            Task::Step(step) => Ok(*step),
            Task::Exercise(exercise) => exercise.step(),
        }
    }

    /// The checks of the table that are made.
    ///
    /// # Errors
    /// The exercise names a check that there is not.
    pub fn checks(&self, is_strict: bool) -> Result<Vec<&'static Check>, Failure> {
        let step = self.step()?;
        let mut checks = match self {
            Task::Step(step) => CHECKS
                .iter()
                .filter(|check| check.level == Level::Core && (check.applies)(step))
                .collect(),
            Task::Exercise(exercise) => exercise.checks()?,
        };
        if is_strict {
            checks.extend(
                CHECKS
                    .iter()
                    .filter(|check| check.level == Level::Strict && (check.applies)(&step)),
            );
        }
        Ok(checks)
    }

    /// The cases of the wire suite that the strict level adds.
    ///
    /// # Errors
    /// A table of cases cannot be read.
    pub fn wire_cases(&self) -> Result<Vec<(&'static str, Case)>, Failure> {
        let step = self.step()?;
        let applies = |case: &Case| match case.applies {
            Applies::All => step.speaks_http(),
            Applies::Files => step.serves_files,
            Applies::Persistent => step.is_persistent,
        };
        Ok(cases()?.into_iter().filter(|(_, case)| applies(case)).collect())
    }

    /// Builds the program in this repository and returns the words that start it, with `{port}` and,
    /// if it serves files, `{root}` in them.
    ///
    /// # Errors
    /// It does not compile.
    pub fn build(&self, workspace: &Path) -> Result<Vec<OsString>, Failure> {
        let program = match self {
            Task::Step(step) => {
                cargo::program(&workspace.join("Cargo.toml"), step.name, Stdio::inherit())?
            }
            Task::Exercise(exercise) => cargo::program(
                &workspace.join("exercises/Cargo.toml"),
                &format!("exercise-{}", exercise.id),
                Stdio::inherit(),
            )?,
        };
        self.words(program)
    }

    /// The words that start a program with the command line of the steps.
    ///
    /// # Errors
    /// The exercise belongs to no step.
    pub fn words(&self, program: PathBuf) -> Result<Vec<OsString>, Failure> {
        // On a busy machine a check takes its time, and must not be let go for that.
        let options = ["--timeout", "60", "--port", "{port}"].map(OsString::from);
        let mut words = [vec![program.into_os_string()], options.to_vec()].concat();
        if self.step()?.serves_files {
            words.push("{root}".into());
        }
        Ok(words)
    }

    /// The folders whose files make the program.
    ///
    /// # Errors
    /// The exercise has no folder.
    pub fn sources(&self, workspace: &Path) -> Result<Vec<PathBuf>, Failure> {
        let crates = workspace.join("crates");
        Ok(match self {
            Task::Step(step) => vec![crates.join(step.name), crates.join("common")],
            Task::Exercise(exercise) => vec![exercise.folder(workspace)?.join("starter")],
        })
    }
}

/// How to check.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether the wire suite and the strict checks are made too.
    pub is_strict: bool,
    /// What the site follows from.
    pub seed: u64,
}

/// A program to be checked.
pub struct Subject {
    task: Task,
    step: Step,
    command: Vec<OsString>,
    settings: Settings,
    site: Site,
    folder: tempfile::TempDir,
    root: PathBuf,
}

impl Subject {
    /// Makes the site for it.
    ///
    /// # Errors
    /// The command has no place for the port, or the disk is full.
    pub fn new(task: Task, command: Vec<OsString>, settings: Settings) -> Result<Subject, Failure> {
        let has = |word: &str| command.iter().any(|part| part.to_string_lossy().contains(word));
        let step = task.step()?;
        if !has("{port}") {
            return Err("the command must say where its port goes, such as --port {port}".into());
        }
        if step.serves_files && !has("{root}") {
            return Err(
                "the command must say where the folder to serve goes, such as --root {root}".into(),
            );
        }
        let site = Site::new(settings.seed);
        let folder = temporary_folder()?;
        let root = site.write(folder.path())?;
        fs::write(folder.path().join("answer.txt"), site.typed_answer())?;
        Ok(Subject { task, step, command, settings, site, folder, root })
    }

    /// The command as it would be typed, with a port and a folder.
    fn typed(&self, port: &str, root: &str) -> String {
        let words: Vec<String> = self
            .command
            .iter()
            .map(|word| word.to_string_lossy().replace("{port}", port).replace("{root}", root))
            .map(
                |word| if word.contains([' ', '"', '$', '*']) { format!("'{word}'") } else { word },
            )
            .collect();
        words.join(" ")
    }

    fn start(&self, root: &Path) -> Result<Server, Failure> {
        let root = root.to_string_lossy();
        for _ in 0..3 {
            let port = free_port()?;
            let mut words = self.command.iter().map(|word| match word.to_str() {
                Some(text) => {
                    text.replace("{port}", &port.to_string()).replace("{root}", &root).into()
                }
                None => word.clone(),
            });
            let mut command = Command::new(words.next().ok_or("there is no command")?);
            // Python keeps what it prints in a buffer unless it prints to a terminal. And what a server
            // says at its end is what a failure shows: a panic, not a page of where it came from.
            command.args(words).env("PYTHONUNBUFFERED", "1").env("RUST_BACKTRACE", "0");
            if self.step.number() == "01" {
                command.stdin(File::open(self.folder.path().join("answer.txt"))?);
            } else {
                command.stdin(Stdio::null());
            }
            let started = Server::start_on_port(&mut command, port);
            // Somebody else may have been quicker to take the port.
            if started.is_ok() || std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return started;
            }
        }
        Err("no port stays free".into())
    }

    /// Makes all checks, and tells of each as it is done.
    ///
    /// # Errors
    /// The server does not start.
    pub fn run(&self, mut tell: impl FnMut(&CheckResult)) -> Result<Report, Failure> {
        let begin = Instant::now();
        let mut results = Vec::new();
        let mut running = Some(self.start(&self.root)?);
        let leaves_open = Rc::new(Cell::new(false));
        for check in self.task.checks(self.settings.is_strict)? {
            let begin = Instant::now();
            // After a failure nobody knows what state the server is in: the next check gets a new one.
            let server = match running.take() {
                Some(server) => Ok(server),
                None => self.start(&self.root),
            };
            let (outcome, story) = match server {
                Err(failure) => (Err(failure), self.vain_start()),
                Ok(mut server) => {
                    let mut scene =
                        Scene::new(&mut server, &self.site, self.step, Rc::clone(&leaves_open));
                    let outcome = (check.run)(&mut scene);
                    let (story, repeat) = (scene.story(), scene.repeat());
                    let outcome =
                        also_alive(outcome, &mut server).but(|fault| fault.repeat(repeat));
                    running = outcome.is_ok().then_some(server);
                    (outcome, story)
                }
            };
            let result = CheckResult {
                name: check.name.to_owned(),
                layer: check.layer.to_string(),
                is_own: self.task.is_about(check.name),
                seconds: begin.elapsed().as_secs_f64(),
                failure: outcome.err().map(|failure| {
                    let root = format!("{}/site", self.site.again());
                    let mut told = self.explain(failure, &story, &root, check.read(&self.step));
                    if check.layer == Layer::Concurrency {
                        told.timeline = story.timeline();
                    }
                    told
                }),
            };
            tell(&result);
            results.push(result);
        }
        drop(running);
        if self.settings.is_strict {
            self.run_wire_suite(&mut results, &mut tell)?;
        }
        Ok(self.report(results, begin.elapsed().as_secs_f64()))
    }

    /// The report on checks that took so many seconds.
    pub fn report(&self, checks: Vec<CheckResult>, seconds: f64) -> Report {
        Report {
            task: self.task.name().to_owned(),
            level: if self.settings.is_strict { "strict" } else { "core" }.to_owned(),
            seed: self.settings.seed,
            command: self.typed("{port}", "{root}"),
            seconds,
            checks,
        }
    }

    /// What was done for a check whose server did not start.
    fn vain_start(&self) -> Story {
        let mut story = Story::begin();
        story.add(0, Deed::Aside, format!("starts {}", self.typed("{port}", "{root}")));
        story
    }

    fn explain(&self, failure: Failure, story: &Story, root: &str, read: String) -> Explanation {
        let fault = match failure.downcast::<Fault>() {
            Ok(fault) => *fault,
            Err(other) => Fault::expected("a server that starts and can be talked to")
                .saw("none")
                .cause(other.to_string()),
        };
        let Fault { expected, came, cause, repeat, .. } = fault;
        Explanation {
            done: story.lines(),
            timeline: Vec::new(),
            came,
            expected,
            cause,
            repeat: self.by_hand(root, repeat),
            read,
        }
    }

    /// The site, the server on port 8080, a command that shows what is wrong, and the end of the server.
    fn by_hand(&self, root: &str, command: String) -> Vec<String> {
        let mut lines = Vec::new();
        if self.step.serves_files {
            let (again, seed) = (self.site.again(), self.settings.seed);
            lines.push(format!("cargo run -p check -- site {again} --seed {seed}"));
        }
        let mut server = self.typed("8080", root);
        if self.step.number() == "01" {
            let typed = r"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi\n";
            server = format!("printf '{typed}' | {server}");
        }
        lines.push(format!(
            "{server} & SERVER=$!; until ss -tln | grep -q :8080; do sleep 0.1; done"
        ));
        lines.extend(command.lines().map(str::to_owned));
        lines.push("kill $SERVER".to_owned());
        lines
    }

    /// The wire suite asks about a site of its own.
    fn run_wire_suite(
        &self,
        results: &mut Vec<CheckResult>,
        tell: &mut impl FnMut(&CheckResult),
    ) -> Result<(), Failure> {
        let cases = self.task.wire_cases()?;
        if cases.is_empty() {
            return Ok(());
        }
        let fixture = Fixture::new()?;
        let root = format!("{}/wire/site", self.site.again());
        let mut running = None;
        for (group, case) in cases {
            let begin = Instant::now();
            let server = match running.take() {
                Some(server) => Ok(server),
                None => self.start(&fixture.root()),
            };
            let story = Recorder::default();
            let outcome = match server {
                Err(failure) => {
                    story.replace(self.vain_start());
                    Err(failure)
                }
                Ok(mut server) => {
                    let outcome = case.run_recorded(&server, self.step.number() == "02", &story);
                    let outcome = also_alive(outcome, &mut server).but(|fault| {
                        if fault.repeat.is_empty() { fault.repeat(case.repeat()) } else { fault }
                    });
                    running = outcome.is_ok().then_some(server);
                    outcome
                }
            };
            let result = CheckResult {
                name: format!("{group}: {}", case.name),
                layer: Layer::Wire.to_string(),
                is_own: false,
                seconds: begin.elapsed().as_secs_f64(),
                failure: outcome.err().map(|failure| {
                    self.explain(failure, &story.borrow(), &root, case.read(&self.step))
                }),
            };
            tell(&result);
            results.push(result);
        }
        Ok(())
    }
}

/// A check that its server did not survive has failed, whatever it saw.
fn also_alive(outcome: Result<(), Failure>, server: &mut Server) -> Result<(), Failure> {
    const LINES: usize = 6;
    if outcome.is_err() {
        wait_for_what_ends(server);
    }
    if server.is_alive() {
        return outcome;
    }
    let status = server.wait(Duration::from_secs(30))?.0;
    let log = server.log();
    let lines: Vec<&str> = log.trim_end().lines().collect();
    let last_words = lines[lines.len().saturating_sub(LINES)..].join("\n");
    let cause = if last_words.is_empty() {
        format!("the server has ended ({status}). It printed nothing")
    } else {
        format!("the server has ended ({status}). Its last words:\n{last_words}")
    };
    let fault = match outcome.map_err(|failure| failure.downcast::<Fault>()) {
        Err(Ok(fault)) => *fault,
        _ => Fault::default().saw("its end"),
    };
    Fault { expected: "a server that is still there afterwards".to_owned(), cause, ..fault }.fail()
}

/// A process that ends closes its connections first, and its clients see that before it has gone. Waits
/// until it has, or goes on: until all of it was found asleep a few times, or has used more processor
/// time than an end takes.
fn wait_for_what_ends(server: &mut Server) {
    const LOOKS_ASLEEP: u32 = 3;
    const TICKS: u64 = 50;
    let ticks = |family: &[Process]| family.iter().map(|process| process.ticks).sum::<u64>();
    let at_start = ticks(&family(server.pid()));
    let mut asleep = 0;
    while server.is_alive() && asleep < LOOKS_ASLEEP {
        thread::park_timeout(Duration::from_millis(50));
        let family = family(server.pid());
        if ticks(&family) > at_start + TICKS {
            return;
        }
        asleep += u32::from(!family.iter().any(Process::has_work));
    }
}
