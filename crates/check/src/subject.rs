//! The checking itself.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use crate::checks::Layer;
use crate::plan::{Planned, Work};
use crate::ports::FreePort;
use crate::processes::{Process, family};
use crate::report::{CheckResult, Report};
use crate::scene::Scene;
use crate::story::{Deed, Explain, Explanation, Fault, Story};
use crate::task::{Settings, Task};
use crate::{Failure, Fixture, Server, Site, Step, temporary_folder};

/// A program to be checked.
pub struct Subject {
    task: Task,
    step: Step,
    plan: Vec<Planned>,
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
    /// The command has no place for the port, there is no such check, or the disk is full.
    pub fn new(task: Task, command: Vec<OsString>, settings: Settings) -> Result<Subject, Failure> {
        let has = |word: &str| command.iter().any(|part| part.to_string_lossy().contains(word));
        let step = task.step()?;
        let plan = task.plan(&settings)?;
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
        if plan.iter().any(|planned| matches!(planned.work, Work::Case(_))) {
            Fixture::write(&folder.path().join("wire"))?;
        }
        Ok(Subject { task, step, plan, command, settings, site, folder, root })
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
            let free = FreePort::find()?;
            let port = free.number;
            let words = self.command.iter().map(|word| match word.to_str() {
                Some(text) => {
                    text.replace("{port}", &port.to_string()).replace("{root}", &root).into()
                }
                None => word.clone(),
            });
            let mut words = self.settings.before.iter().cloned().chain(words);
            let mut command = Command::new(words.next().ok_or("there is no command")?);
            // Python keeps what it prints in a buffer unless it prints to a terminal. And what a server
            // says at its end is what a failure shows: a panic, not a page of where it came from.
            command.args(words).env("PYTHONUNBUFFERED", "1").env("RUST_BACKTRACE", "0");
            if self.step.number() == "01" {
                command.stdin(File::open(self.folder.path().join("answer.txt"))?);
            } else {
                command.stdin(Stdio::null());
            }
            let started = Server::start_on_port(&mut command, free);
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
        let mut running = None;
        let leaves_open = Rc::new(Cell::new(false));
        for planned in &self.plan {
            // The wire suite asks about a site of its own.
            let root = match planned.work {
                Work::Check(_) => self.root.clone(),
                Work::Case(_) => self.folder.path().join("wire/site"),
            };
            if results.is_empty() {
                running = Some((self.start(&root)?, root.clone()));
            }
            // After a failure nobody knows what state the server is in: the next check gets a new one.
            let server =
                running.take().filter(|(_, serves)| *serves == root).map(|(server, _)| server);
            let (result, server) = self.make(planned, server, &root, &leaves_open);
            running = server.map(|server| (server, root));
            tell(&result);
            results.push(result);
        }
        Ok(self.report(results, begin.elapsed().as_secs_f64()))
    }

    /// Makes one check; returns the server too if it can be used for the next.
    fn make(
        &self,
        planned: &Planned,
        running: Option<Server>,
        root: &Path,
        leaves_open: &Rc<Cell<bool>>,
    ) -> (CheckResult, Option<Server>) {
        let begin = Instant::now();
        let mut server = match running.map_or_else(|| self.start(root), Ok) {
            Ok(server) => server,
            Err(failure) => {
                let mut story = Story::begin();
                story.add(0, Deed::Aside, format!("starts {}", self.typed("{port}", "{root}")));
                let failure = self.explain(planned, failure, &story);
                return (planned.result(begin.elapsed().as_secs_f64(), Some(failure)), None);
            }
        };
        let before = server.log_length();
        let mut scene =
            Scene::new(&mut server, (&self.site, root), self.step, Rc::clone(leaves_open));
        let outcome = match &planned.work {
            Work::Check(check) => (check.run)(&mut scene),
            Work::Case(case) => {
                scene.by_hand(case.repeat());
                case.run_recorded(scene.server, self.step.number() == "02", scene.recorder())
            }
        };
        let (story, repeat) = (scene.story(), scene.repeat());
        let (counted, is_unclear) = (scene.counted.take(), scene.is_unclear.get());
        let outcome = also_alive(outcome, &mut server)
            .but(|fault| if fault.repeat.is_empty() { fault.repeat(repeat) } else { fault });
        let failure = outcome.err().map(|failure| {
            let told = self.explain(planned, failure, &story);
            // Of one that has ended they are told as its last words.
            let said =
                if server.is_alive() { last_lines(&server.log_since(before)) } else { Vec::new() };
            Explanation { said, ..told }
        });
        let server = failure.is_none().then_some(server);
        let result = planned.result(begin.elapsed().as_secs_f64(), failure);
        (CheckResult { counted, is_unclear, ..result }, server)
    }

    /// The report on checks that took so many seconds.
    pub fn report(&self, checks: Vec<CheckResult>, seconds: f64) -> Report {
        Report {
            task: self.task.name().to_owned(),
            level: self.settings.level.word().to_owned(),
            seed: self.settings.seed,
            command: self.typed("{port}", "{root}"),
            seconds,
            checks,
        }
    }

    fn explain(&self, planned: &Planned, failure: Failure, story: &Story) -> Explanation {
        let fault = match failure.downcast::<Fault>() {
            Ok(fault) => *fault,
            Err(other) => Fault::expected("a server that starts and can be talked to")
                .saw("none")
                .cause(other.to_string()),
        };
        let (root, read) = match &planned.work {
            Work::Check(check) => ("site", check.read(&self.step)),
            Work::Case(case) => ("wire/site", case.read(&self.step)),
        };
        let is_about_order = planned.layer == Layer::Concurrency;
        let Fault { expected, came, cause, repeat, .. } = fault;
        Explanation {
            done: story.lines(),
            timeline: if is_about_order { story.timeline() } else { Vec::new() },
            came,
            expected,
            cause,
            said: Vec::new(),
            repeat: self.by_hand(&format!("{}/{root}", self.site.again()), repeat),
            read: match &self.task {
                Task::Exercise(exercise) if planned.is_own => exercise.read(),
                _ => read,
            },
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
}

/// A check that its server did not survive has failed, whatever it saw.
fn also_alive(outcome: Result<(), Failure>, server: &mut Server) -> Result<(), Failure> {
    if outcome.is_err() {
        wait_for_what_ends(server);
    }
    if server.is_alive() {
        return outcome;
    }
    let status = server.wait(Duration::from_secs(30))?.0;
    let last_words = last_lines(&server.log()).join("\n");
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

/// So many lines of what a server printed are shown.
const LINES: usize = 6;

fn last_lines(log: &str) -> Vec<String> {
    let lines: Vec<&str> = log.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| (*line).to_owned()).collect()
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
