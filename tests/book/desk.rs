//! The terminals and the folder of a reader, in which a transcript is replayed.

use std::collections::HashMap;
use std::fs;
use std::mem;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use check::ports::{FreePort, clients_of};
use check::processes::{self, Process};
use check::{Failure, STEPS, Step, wait_until};
use regex_lite::{Captures, Regex};
use similar::TextDiff;
use tempfile::TempDir;
use tests::{ensure, example, program, workspace};

use crate::comparison::{Expected, Found, Masks};
use crate::terminal::{PATIENCE, Terminal};
use crate::transcripts::{Action, Passage};

/// `check` and the lab build what they run.
const BUILD_PATIENCE: Duration = Duration::from_secs(600);

/// A program of the workspace: its package is the first group, and an example's name the second.
const RUN: &str =
    r"cargo run(?: -q| --quiet| --release)* -p ([\w-]+)(?: --example ([\w-]+))?(?: --(?: |$))?";

/// Starts what listens and does not stay in the terminal.
pub(crate) const UP: &str = "machines/up.sh";

/// What a reader has in front of them: a terminal with the server, some with clients, and a folder.
pub(crate) struct Desk {
    /// Looks like the root of the repository; files that a command makes there are gone afterwards.
    folder: TempDir,
    server: Option<Server>,
    background: Vec<Terminal>,
    /// Where the last server listened; before the first one, where nobody does.
    port: u16,
    /// The port from before the first server, which nobody else takes.
    _free: FreePort,
    masks: Masks,
}

struct Server {
    terminal: Terminal,
    step: Step,
    pid: u32,
    /// How many of its lines the chapter has shown.
    shown: usize,
    /// Whether the chapter may leave out some before the next ones that it shows.
    leaves_out: bool,
}

impl Server {
    /// What the chapter shows next, with what it may leave out before.
    fn next_lines(&mut self, shown: &[String]) -> Vec<String> {
        let gap = self.leaves_out.then(|| "...".to_owned());
        let lines: Vec<String> = gap.into_iter().chain(shown.iter().cloned()).collect();
        self.leaves_out = lines.last().is_some_and(|line| line == "...");
        lines
    }
}

impl Desk {
    pub(crate) fn new() -> Result<Desk, Failure> {
        let folder = tempfile::tempdir()?;
        let root = workspace().canonicalize()?;
        for entry in fs::read_dir(&root)? {
            let entry = entry?;
            symlink(entry.path(), folder.path().join(entry.file_name()))?;
        }
        // On a terminal curl prints the names of fields in bold.
        fs::write(folder.path().join(".curlrc"), "no-styled-output\n")?;
        let free = FreePort::find()?;
        let (port, masks) = (free.number, Masks::new()?);
        Ok(Desk { folder, server: None, background: Vec::new(), port, _free: free, masks })
    }

    /// The state folder of chapter 13's machines.
    fn machines(&self) -> PathBuf {
        self.folder.path().join("state-of-machines")
    }

    /// A reader types slowly: when the next command comes, the programs have done what the one before gave
    /// them to do, and all sleep. A server that never sleeps has had 20 ms of processor time since.
    pub(crate) fn settle(&self) {
        let clients = self.background.iter().map(|terminal| (terminal.leader(), true));
        let server = self.server.iter().map(|server| (server.pid, server.step.idles_for_free));
        let leaders: Vec<(u32, bool)> = server.chain(clients).collect();
        let mut at_first: HashMap<u32, u64> = HashMap::new();
        let mut has_settled = |process: &Process, sleeps: bool| {
            let at_first = *at_first.entry(process.pid).or_insert(process.ticks);
            !process.has_work() || (!sleeps && process.ticks >= at_first + 2)
        };
        // What does not settle shows in what is printed next.
        let _ = wait_until("the programs settle", PATIENCE, || {
            leaders.iter().all(|(leader, sleeps)| {
                processes::family(*leader).iter().all(|process| has_settled(process, *sleeps))
            })
        });
    }

    pub(crate) fn act(&mut self, passage: &Passage) -> Result<(), Failure> {
        match &passage.action {
            Action::Run(command) if command.contains(UP) => {
                let mut terminal = self.open(command, self.port)?;
                self.port = terminal.port()?.unwrap_or(self.port);
                self.compare_all(passage, &mut terminal)
            }
            Action::Run(command) => match self.step_in(command)? {
                Some(started) => self.start(passage, command, started),
                None => {
                    let mut terminal = self.open(command, self.port)?;
                    self.compare_all(passage, &mut terminal)
                }
            },
            Action::Background { command, connections } => {
                let before = clients_of(self.port);
                let terminal = self.open(command, self.port)?;
                let opened = || clients_of(self.port).difference(&before).count();
                let waited = wait_until("the connections are there", PATIENCE, || {
                    opened() >= *connections || terminal.is_over()
                });
                ensure!(
                    waited.is_ok() && opened() >= *connections,
                    "{} opened {} connections and printed:\n{}",
                    passage.action,
                    opened(),
                    terminal.lines().join("\n")
                );
                let expected = Expected::first(passage.expected.clone());
                self.compare_next(passage, &terminal, 0, expected)?;
                self.background.push(terminal);
                Ok(())
            }
            Action::EndBackground => {
                ensure!(!self.background.is_empty(), "nothing runs in the background");
                for mut terminal in mem::take(&mut self.background) {
                    // It may have ended by itself.
                    let _ = terminal.interrupt();
                    terminal.finish(PATIENCE)?;
                }
                Ok(())
            }
            Action::Server { in_any_order } => self.compare_server(passage, *in_any_order),
        }
    }

    /// The step that a command starts.
    fn step_in(&self, command: &str) -> Result<Option<Step>, Failure> {
        let found = Regex::new(RUN)?.captures(command);
        Ok(found.and_then(|found| STEPS.into_iter().find(|step| step.name == &found[1])))
    }

    /// Starts a command in place of what the chapter shows: our own programs, and the server's port.
    fn open(&self, command: &str, port: u16) -> Result<Terminal, Failure> {
        let command = replaced(r"\b8080\b", command, |_| Ok(port.to_string()))?;
        // What a reader keeps in their home lies on the desk, and is gone with it.
        let home = quoted(self.folder.path());
        let command = replaced("~/", &command, |_| Ok(format!("{home}/")))?;
        let state = quoted(&self.machines());
        let command = replaced("target/machines", &command, |_| Ok(state.clone()))?;
        let command = replaced(r"machines/(up|down)\.sh", &command, |found| {
            Ok(format!("env PORT=0 STATE={state} {}", &found[0]))
        })?;
        let command = replaced(RUN, &command, |found| {
            let own = quoted(&program_of(found)?);
            Ok(if found[1].starts_with("step") {
                format!("{own} --port 0 ")
            } else {
                // check and the lab build, so they run where the sources really are.
                format!("env -C {} {own} ", quoted(&workspace().canonicalize()?))
            })
        })?;
        Terminal::start(&command, self.folder.path())
    }

    /// Starts a server in place of the one before. Without an address it has printed an error or a help
    /// and ended, as any command.
    fn start(&mut self, passage: &Passage, command: &str, started: Step) -> Result<(), Failure> {
        self.background.clear();
        self.server = None;
        let mut terminal = self.open(command, 0)?;
        let Some(port) = terminal.port()? else {
            return self.compare_all(passage, &mut terminal);
        };
        self.port = port;
        let found = Regex::new(RUN)?.captures(command).ok_or("no program of the workspace")?;
        let program = program_of(&found)?.canonicalize()?;
        let runs_it = |process: &Process| {
            fs::read_link(format!("/proc/{}/exe", process.pid)).is_ok_and(|path| path == program)
        };
        let pid = processes::family(terminal.leader()).into_iter().find(runs_it);
        let pid = pid.ok_or("the server has printed its address and ended")?.pid;
        let expected = Expected::first(passage.expected.clone());
        let shown = self.compare_next(passage, &terminal, 0, expected)?;
        let leaves_out = passage.expected.last().is_some_and(|line| line == "...");
        self.server = Some(Server { terminal, step: started, pid, shown, leaves_out });
        Ok(())
    }

    /// What the server prints next, with Ctrl-C in between where the chapter has it.
    fn compare_server(&mut self, passage: &Passage, in_any_order: bool) -> Result<(), Failure> {
        let mut server = self.server.take().ok_or("no server runs here")?;
        let mut parts = passage.expected.split(|line| line == "^C");
        let lines = server.next_lines(parts.next().unwrap_or_default());
        let expected = Expected { in_any_order, ..Expected::first(lines) };
        server.shown += self.compare_next(passage, &server.terminal, server.shown, expected)?;
        match (parts.next(), parts.next()) {
            (None, _) => self.server = Some(server),
            (Some(last), None) => {
                server.terminal.interrupt()?;
                let lines = server.next_lines(last);
                let expected = Expected { in_any_order, lines, to_the_end: true };
                self.compare_next(passage, &server.terminal, server.shown, expected)?;
                server.terminal.finish(PATIENCE)?;
            }
            _ => return Err("one ^C is enough: the server ends".into()),
        }
        Ok(())
    }

    /// Waits until a terminal has printed certain lines behind the first `from`, and returns how many.
    fn compare_next(
        &self,
        passage: &Passage,
        terminal: &Terminal,
        from: usize,
        expected: Expected,
    ) -> Result<usize, Failure> {
        let expected = Expected { lines: self.masked(passage, &expected.lines), ..expected };
        let found = terminal.look_until(|lines, is_over| {
            let printed = self.masked(passage, lines.get(from..).unwrap_or_default());
            let found = expected.find(&printed, is_over);
            (found != Found::NotYet).then_some(found)
        });
        if let Some(Found::Here(length)) = found {
            return Ok(length);
        }
        let printed = terminal.lines();
        Err(self.difference(passage, &expected.lines, printed.get(from..).unwrap_or_default()))
    }

    /// Waits for the end of a command and compares all that it has printed.
    fn compare_all(&self, passage: &Passage, terminal: &mut Terminal) -> Result<(), Failure> {
        let builds = [" -p check", " -p lab"];
        let builds = builds.iter().any(|name| passage.action.to_string().contains(name));
        let printed = terminal.finish(if builds { BUILD_PATIENCE } else { PATIENCE })?;
        let expected = self.masked(passage, without_empty_end(&passage.expected));
        let printed = without_empty_end(&printed);
        let whole = Expected { lines: expected, in_any_order: false, to_the_end: true };
        match whole.find(&self.masked(passage, printed), true) {
            Found::Here(_) => Ok(()),
            _ => Err(self.difference(passage, &whole.lines, printed)),
        }
    }

    fn difference(&self, passage: &Passage, expected: &[String], printed: &[String]) -> Failure {
        let text =
            |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let (expected, masked) = (text(expected), text(&self.masked(passage, printed)));
        format!(
            "{} printed something else\n{}as it was printed:\n{}",
            passage.action,
            TextDiff::from_lines(&expected, &masked)
                .unified_diff()
                .header("the chapter, masked", "printed, masked"),
            text(printed)
        )
        .into()
    }

    fn masked(&self, passage: &Passage, lines: &[String]) -> Vec<String> {
        lines.iter().map(|line| self.masks.hide(line, self.port, &passage.masks)).collect()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let mut down = Command::new(workspace().join("machines/down.sh"));
        if self.machines().exists() {
            let _ = down.env("STATE", self.machines()).stdin(Stdio::null()).output();
        }
    }
}

fn without_empty_end(lines: &[String]) -> &[String] {
    let length = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    &lines[..length]
}

/// The program that a match of [`RUN`] names.
fn program_of(found: &Captures<'_>) -> Result<PathBuf, Failure> {
    match found.get(2) {
        Some(name) => example(&found[1], name.as_str()),
        None => program(&found[1]),
    }
}

/// A path as a word of bash.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// Replaces each place that a pattern matches.
fn replaced(
    pattern: &str,
    text: &str,
    replacement: impl Fn(&Captures<'_>) -> Result<String, Failure>,
) -> Result<String, Failure> {
    let mut result = String::new();
    let mut end = 0;
    for found in Regex::new(pattern)?.captures_iter(text) {
        let range = found.get(0).map_or(end..end, |whole| whole.range());
        result.push_str(&text[end..range.start]);
        result.push_str(&replacement(&found)?);
        end = range.end;
    }
    Ok(result + &text[end..])
}
