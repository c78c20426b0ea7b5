//! Console blocks: what a reader types and what the programs print, replayed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::{self, Display};
use std::fs;
use std::mem;
use std::os::unix::fs::symlink;
use std::time::Duration;

use check::server::free_port;
use check::{Failure, processes, wait_until};
use regex_lite::{Captures, Regex};
use similar::TextDiff;
use tempfile::TempDir;
use tests::{ensure, program, workspace};

use crate::chapter::{Block, Chapter};
use crate::terminal::{PATIENCE, Terminal};

/// What a command may use that is not on every machine.
const TOOLS: [&str; 7] = ["curl", "nc", "ss", "ps", "pgrep", "strace", "python3"];

/// `check` builds what it checks.
const BUILD_PATIENCE: Duration = Duration::from_secs(600);

/// A program of the workspace: its name is the first group.
const RUN: &str = r"cargo run(?: -q| --quiet| --release)* -p ([\w-]+)(?: --(?: |$))?";

/// What the comment above a console block asks for.
pub(crate) struct Directives {
    kind: Kind,
    masks: Vec<Regex>,
}

#[derive(Clone, Copy)]
enum Kind {
    Commands,
    /// The server's terminal.
    Server {
        in_any_order: bool,
    },
    /// A command that is left running, and how many connections it opens.
    Background(usize),
    NotReplayed,
}

impl Directives {
    /// # Errors
    /// The comment is not of the form that the book has.
    pub(crate) fn of(block: &Block) -> Result<Directives, Failure> {
        let background = Regex::new(r"^background: (\d+) connections?$")?;
        let mut kinds = Vec::new();
        let mut masks = Vec::new();
        for directive in block.comment.iter().flat_map(|comment| comment.split(';').map(str::trim))
        {
            if let Some(mask) = directive.strip_prefix("masking: ") {
                masks.push(Regex::new(mask)?);
            } else if let Some(found) = background.captures(directive) {
                kinds.push(Kind::Background(found[1].parse()?));
            } else if directive == "server" {
                kinds.push(Kind::Server { in_any_order: false });
            } else if directive == "server, in any order" {
                kinds.push(Kind::Server { in_any_order: true });
            } else if directive.strip_prefix("not replayed: ").is_some_and(|why| !why.is_empty()) {
                kinds.push(Kind::NotReplayed);
            } else {
                return Err(format!("\"{directive}\" is no directive of a console block").into());
            }
        }
        ensure!(kinds.len() <= 1, "these directives exclude each other");
        Ok(Directives { kind: kinds.pop().unwrap_or(Kind::Commands), masks })
    }
}

/// All transcripts of a chapter, in order.
pub(crate) struct Script<'a> {
    chapter: &'a Chapter,
    steps: Vec<Step>,
    not_replayed: usize,
}

struct Step {
    line: usize,
    action: Action,
    /// The lines of the chapter that follow.
    expected: Vec<String>,
    masks: Vec<Regex>,
}

#[derive(Clone)]
enum Action {
    Run(String),
    Background { command: String, connections: usize },
    EndBackground,
    Server { in_any_order: bool },
}

impl Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Run(command) | Action::Background { command, .. } => write!(f, "`{command}`"),
            Action::EndBackground => f.write_str("the end of what runs in the background"),
            Action::Server { .. } => f.write_str("the server"),
        }
    }
}

/// What was replayed of a chapter.
pub(crate) struct Replayed {
    commands: usize,
    server_blocks: usize,
    not_replayed: usize,
}

impl Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Replayed { commands, server_blocks, not_replayed } = self;
        write!(f, "{commands} commands and {server_blocks} blocks of a server replayed")?;
        write!(f, ", {not_replayed} blocks not replayed")
    }
}

impl<'a> Script<'a> {
    /// # Errors
    /// A block is not of the form that the book has.
    pub(crate) fn of(chapter: &'a Chapter) -> Result<Script<'a>, Failure> {
        let mut script = Script { chapter, steps: Vec::new(), not_replayed: 0 };
        for block in chapter.blocks.iter().filter(|block| block.language == "console") {
            script.add(block).map_err(|fault| chapter.at(block.line, fault))?;
        }
        let ends = chapter.comments.iter().filter(|comment| comment.text == "end background");
        script.steps.extend(ends.map(|comment| Step {
            line: comment.line,
            action: Action::EndBackground,
            expected: Vec::new(),
            masks: Vec::new(),
        }));
        script.steps.sort_by_key(|step| step.line);
        Ok(script)
    }

    fn add(&mut self, block: &Block) -> Result<(), Failure> {
        let Directives { kind, masks } = Directives::of(block)?;
        match kind {
            Kind::NotReplayed => self.not_replayed += 1,
            Kind::Server { in_any_order } => self.steps.push(Step {
                line: block.line,
                action: Action::Server { in_any_order },
                expected: visible(block.text.lines()),
                masks,
            }),
            Kind::Commands => self.steps.extend(commands(block, &masks)?),
            Kind::Background(connections) => {
                let mut steps = commands(block, &masks)?;
                ensure!(steps.len() == 1, "one command can be left running, not {}", steps.len());
                for step in &mut steps {
                    if let Action::Run(command) =
                        mem::replace(&mut step.action, Action::EndBackground)
                    {
                        step.action = Action::Background { command, connections };
                    }
                }
                self.steps.extend(steps);
            }
        }
        Ok(())
    }

    /// The programs that the commands use and not every machine has.
    pub(crate) fn tools(&self) -> BTreeSet<&'static str> {
        let commands = self.steps.iter().filter_map(|step| match &step.action {
            Action::Run(command) | Action::Background { command, .. } => Some(command),
            _ => None,
        });
        let is_word = |letter: char| letter.is_alphanumeric() || "_-./".contains(letter);
        let words = commands.flat_map(|command| command.split(move |letter| !is_word(letter)));
        words.filter_map(|word| TOOLS.into_iter().find(|tool| *tool == word)).collect()
    }

    /// Does what a reader does, one command after the other.
    ///
    /// # Errors
    /// Something printed is not what the chapter shows, or a program does not end.
    pub(crate) fn replay(&self) -> Result<Replayed, Failure> {
        let mut desk = Desk::new()?;
        for step in &self.steps {
            desk.settle();
            desk.act(step).map_err(|fault| self.chapter.at(step.line, fault))?;
        }
        let count = |is_counted: fn(&Action) -> bool| {
            self.steps.iter().filter(|step| is_counted(&step.action)).count()
        };
        Ok(Replayed {
            commands: count(|action| matches!(action, Action::Run(_) | Action::Background { .. })),
            server_blocks: count(|action| matches!(action, Action::Server { .. })),
            not_replayed: self.not_replayed,
        })
    }
}

/// The commands of a block, each with what it prints.
fn commands(block: &Block, masks: &[Regex]) -> Result<Vec<Step>, Failure> {
    let mut steps: Vec<Step> = Vec::new();
    for (number, line) in (block.line + 1..).zip(block.text.lines()) {
        if let Some(Step { action: Action::Run(command), .. }) = steps.last_mut()
            && is_open(command)
        {
            let more = line.strip_prefix('>').ok_or("a command goes on: the line needs `> `")?;
            command.push('\n');
            command.push_str(more.strip_prefix(' ').unwrap_or(more));
        } else if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                line: number,
                action: Action::Run(command.to_owned()),
                expected: Vec::new(),
                masks: masks.to_vec(),
            });
        } else {
            let step = steps.last_mut().ok_or("a console block begins with `$ `")?;
            step.expected.extend(visible([line]));
        }
    }
    ensure!(!steps.is_empty(), "a console block without a command");
    Ok(steps)
}

/// Whether bash asks for more: a quote is open, or a backslash stands at the end.
fn is_open(command: &str) -> bool {
    let mut quote = None;
    let mut letters = command.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => match letters.next() {
                Some(_) => {}
                None => return true,
            },
            ('\'' | '"', None) => quote = Some(letter),
            _ if quote == Some(letter) => quote = None,
            _ => {}
        }
    }
    quote.is_some()
}

fn visible<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
}

/// What a reader has in front of them: a terminal with the server, some with clients, and a folder.
struct Desk {
    /// Looks like the root of the repository; files that a command makes there are gone afterwards.
    folder: TempDir,
    server: Option<Server>,
    background: Vec<Terminal>,
    /// Where the last server listened; before the first one, where nobody does.
    port: u16,
    masks: Masks,
}

struct Server {
    terminal: Terminal,
    /// Such as `step04-fork`.
    name: String,
    pid: u32,
    /// How many of its lines the chapter has shown.
    shown: usize,
    /// Whether the chapter may leave out some before the next ones that it shows.
    leaves_out: bool,
}

impl Desk {
    fn new() -> Result<Desk, Failure> {
        let folder = tempfile::tempdir()?;
        let root = workspace().canonicalize()?;
        for entry in fs::read_dir(&root)? {
            let entry = entry?;
            symlink(entry.path(), folder.path().join(entry.file_name()))?;
        }
        // On a terminal curl prints the names of fields in bold.
        fs::write(folder.path().join(".curlrc"), "no-styled-output\n")?;
        let port = free_port()?;
        Ok(Desk { folder, server: None, background: Vec::new(), port, masks: Masks::new()? })
    }

    /// A reader types slowly: when the next command comes, the programs have done what the one before gave
    /// them to do. Each sleeps, or is one that never does and has had 20 ms of processor time since.
    fn settle(&self) {
        let clients = self.background.iter().map(Terminal::leader);
        let leaders: Vec<u32> =
            self.server.iter().map(|server| server.pid).chain(clients).collect();
        let mut at_first: HashMap<u32, u64> = HashMap::new();
        let has_settled = |process: &processes::Process, at_first: u64| {
            !process.has_work() || process.ticks >= at_first + 2
        };
        // What does not settle shows in what is printed next.
        let _ = wait_until("the programs settle", PATIENCE, || {
            leaders.iter().flat_map(|leader| processes::family(*leader)).all(|process| {
                has_settled(&process, *at_first.entry(process.pid).or_insert(process.ticks))
            })
        });
    }

    fn act(&mut self, step: &Step) -> Result<(), Failure> {
        match &step.action {
            Action::Run(command) => match self.server_in(command)? {
                Some(name) => self.start(step, command, name),
                None => {
                    let mut terminal = self.open(command, self.port)?;
                    self.compare_all(step, &mut terminal)
                }
            },
            Action::Background { command, connections } => {
                let before = connected(self.port);
                let terminal = self.open(command, self.port)?;
                let opened = || connected(self.port).difference(&before).count();
                wait_until("the connections are there", PATIENCE, || opened() >= *connections)
                    .map_err(|error| {
                        let printed = terminal.lines().join("\n");
                        format!("{}: {error}: {}; printed: {printed}", step.action, opened())
                    })?;
                let expected = Expected::first(step.expected.clone());
                self.compare_next(step, &terminal, 0, expected)?;
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
            Action::Server { in_any_order } => self.compare_server(step, *in_any_order),
        }
    }

    /// The name of the step that a command starts.
    fn server_in(&self, command: &str) -> Result<Option<String>, Failure> {
        let found = Regex::new(RUN)?.captures(command).map(|found| found[1].to_owned());
        Ok(found.filter(|name| name.starts_with("step")))
    }

    /// Starts a command in place of what the chapter shows: our own programs, and the port and process of
    /// the server.
    fn open(&self, command: &str, port: u16) -> Result<Terminal, Failure> {
        let mut command =
            Regex::new(r"\b8080\b")?.replace_all(command, port.to_string()).into_owned();
        for found in Regex::new(r"pgrep -o (step\d\d)[\w-]*")?.captures_iter(&command.clone()) {
            let server = self.server.as_ref().filter(|server| server.name.starts_with(&found[1]));
            let server = server.ok_or_else(|| format!("no {} runs here", &found[1]))?;
            command = command.replace(&found[0], &format!("echo {}", server.pid));
        }
        for found in Regex::new(RUN)?.captures_iter(&command.clone()) {
            let quoted = |path: &std::path::Path| {
                format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
            };
            let own = quoted(&program(&found[1])?);
            let own = if found[1].starts_with("step") {
                format!("{own} --port 0 ")
            } else {
                // check and the lab build, so they run where the sources really are.
                format!("env -C {} {own} ", quoted(&workspace().canonicalize()?))
            };
            command = command.replace(&found[0], &own);
        }
        Terminal::start(&command, self.folder.path())
    }

    /// Starts a server in place of the one before. Without an address it has printed an error or a help
    /// and ended, as any command.
    fn start(&mut self, step: &Step, command: &str, name: String) -> Result<(), Failure> {
        self.background.clear();
        self.server = None;
        let mut terminal = self.open(command, 0)?;
        let url = Regex::new(r"http://[^ /]*:(\d+)/")?;
        let port = |line: &String| url.captures(line).and_then(|found| found[1].parse().ok());
        let Some(port) = terminal.look_until(|lines, _| lines.iter().find_map(port)) else {
            return self.compare_all(step, &mut terminal);
        };
        self.port = port;
        let program = program(&name)?.canonicalize()?;
        let runs_it = |process: &processes::Process| {
            fs::read_link(format!("/proc/{}/exe", process.pid)).is_ok_and(|path| path == program)
        };
        let pid = processes::family(terminal.leader()).into_iter().find(runs_it);
        let pid = pid.ok_or("the server has printed its address and ended")?.pid;
        let expected = Expected::first(step.expected.clone());
        let shown = self.compare_next(step, &terminal, 0, expected)?;
        let leaves_out = step.expected.last().is_some_and(|line| line == "...");
        self.server = Some(Server { terminal, name, pid, shown, leaves_out });
        Ok(())
    }

    /// What the server prints next, with Ctrl-C in between where the chapter has it.
    fn compare_server(&mut self, step: &Step, in_any_order: bool) -> Result<(), Failure> {
        let mut server = self.server.take().ok_or("no server runs here")?;
        let mut parts = step.expected.split(|line| line == "^C");
        let mut lines = parts.next().unwrap_or_default().to_vec();
        if server.leaves_out && !lines.is_empty() {
            lines.insert(0, "...".to_owned());
        }
        server.leaves_out = lines.last().is_some_and(|line| line == "...");
        let expected = Expected { in_any_order, ..Expected::first(lines) };
        server.shown += self.compare_next(step, &server.terminal, server.shown, expected)?;
        match (parts.next(), parts.next()) {
            (None, _) => self.server = Some(server),
            (Some(last), None) => {
                server.terminal.interrupt()?;
                let mut lines = last.to_vec();
                if server.leaves_out {
                    lines.insert(0, "...".to_owned());
                }
                let expected = Expected { in_any_order, lines, to_the_end: true };
                self.compare_next(step, &server.terminal, server.shown, expected)?;
                server.terminal.finish(PATIENCE)?;
            }
            _ => return Err("one ^C is enough: the server ends".into()),
        }
        Ok(())
    }

    /// Waits until a terminal has printed certain lines behind the first `from`, and returns how many.
    fn compare_next(
        &self,
        step: &Step,
        terminal: &Terminal,
        from: usize,
        expected: Expected,
    ) -> Result<usize, Failure> {
        let expected = Expected { lines: self.masked(step, &expected.lines), ..expected };
        let found = terminal.look_until(|lines, is_over| {
            let printed = self.masked(step, lines.get(from..).unwrap_or_default());
            let found = expected.find(&printed, is_over);
            (found != Found::NotYet).then_some(found)
        });
        if let Some(Found::Here(length)) = found {
            return Ok(length);
        }
        let printed = terminal.lines();
        Err(self.difference(step, &expected.lines, printed.get(from..).unwrap_or_default()))
    }

    /// Waits for the end of a command and compares all that it has printed.
    fn compare_all(&self, step: &Step, terminal: &mut Terminal) -> Result<(), Failure> {
        let builds = matches!(&step.action, Action::Run(command) if command.contains("cargo run"));
        let printed = terminal.finish(if builds { BUILD_PATIENCE } else { PATIENCE })?;
        let expected = self.masked(step, without_empty_end(&step.expected));
        let printed = without_empty_end(&printed);
        let whole = Expected { lines: expected, in_any_order: false, to_the_end: true };
        match whole.find(&self.masked(step, printed), true) {
            Found::Here(_) => Ok(()),
            _ => Err(self.difference(step, &whole.lines, printed)),
        }
    }

    fn difference(&self, step: &Step, expected: &[String], printed: &[String]) -> Failure {
        let text =
            |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let (expected, masked) = (text(expected), text(&self.masked(step, printed)));
        format!(
            "{} printed something else\n{}as it was printed:\n{}",
            step.action,
            TextDiff::from_lines(&expected, &masked)
                .unified_diff()
                .header("the chapter, masked", "printed, masked"),
            text(printed)
        )
        .into()
    }

    fn masked(&self, step: &Step, lines: &[String]) -> Vec<String> {
        lines.iter().map(|line| self.masks.hide(line, self.port, &step.masks)).collect()
    }
}

fn without_empty_end(lines: &[String]) -> &[String] {
    let length = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    &lines[..length]
}

/// Lines that something prints next; `...` stands for any number of lines.
struct Expected {
    lines: Vec<String>,
    in_any_order: bool,
    /// Whether nothing may follow.
    to_the_end: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Found {
    /// At the beginning of what was printed, in so many lines.
    Here(usize),
    NotYet,
    Never,
}

impl Expected {
    fn first(lines: Vec<String>) -> Expected {
        Expected { lines, in_any_order: false, to_the_end: false }
    }

    fn find(&self, printed: &[String], is_over: bool) -> Found {
        if self.to_the_end && !is_over {
            return Found::NotYet;
        }
        let found = if self.in_any_order {
            self.find_in_any_order(printed)
        } else {
            length_of(&self.lines, printed, self.to_the_end)
        };
        match found {
            Some(length) => Found::Here(length),
            None if is_over || self.is_contradicted(printed) => Found::Never,
            None => Found::NotYet,
        }
    }

    fn find_in_any_order(&self, printed: &[String]) -> Option<usize> {
        let is_enough = printed.len() >= self.lines.len();
        let printed =
            printed.get(..if self.to_the_end { printed.len() } else { self.lines.len() })?;
        let sorted = |lines: &[String]| {
            let mut lines = lines.to_vec();
            lines.sort();
            lines
        };
        (is_enough && sorted(printed) == sorted(&self.lines)).then_some(printed.len())
    }

    /// Whether no further line can help.
    fn is_contradicted(&self, printed: &[String]) -> bool {
        if self.in_any_order {
            return printed.len() >= self.lines.len();
        }
        let fixed = self.lines.iter().take_while(|line| *line != "...");
        fixed.zip(printed).any(|(expected, printed)| expected != printed)
    }
}

/// How many printed lines the expected ones stand for, if they do.
fn length_of(expected: &[String], printed: &[String], to_the_end: bool) -> Option<usize> {
    match expected {
        [] => (!to_the_end || printed.is_empty()).then_some(0),
        [gap, rest @ ..] if gap == "..." => (0..=printed.len()).find_map(|skipped| {
            length_of(rest, &printed[skipped..], to_the_end).map(|length| skipped + length)
        }),
        [line, rest @ ..] if printed.first() == Some(line) => {
            length_of(rest, &printed[1..], to_the_end).map(|length| 1 + length)
        }
        _ => None,
    }
}

/// What varies from one run to the next.
struct Masks {
    number: Regex,
    client: Regex,
    process: Regex,
    date: Regex,
    entity_tag: Regex,
    time: Regex,
}

impl Masks {
    fn new() -> Result<Masks, Failure> {
        Ok(Masks {
            number: Regex::new(r"\b\d+\b")?,
            client: Regex::new(r"127\.0\.0\.1:(\d+)")?,
            process: Regex::new(r"\bprocess \d+")?,
            date: Regex::new(r"\b[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")?,
            entity_tag: Regex::new(r#"(?i)(etag: )(?:W/)?"[^"]*""#)?,
            time: Regex::new(r"\d+\.\d{2,}")?,
        })
    }

    /// A line in which the server's port is 8080 and what varies is one word.
    fn hide(&self, line: &str, port: u16, own: &[Regex]) -> String {
        let port = port.to_string();
        let mut line = self
            .number
            .replace_all(line, |found: &Captures<'_>| {
                if found[0] == port { "8080" } else { &found[0] }.to_owned()
            })
            .into_owned();
        for mask in own {
            line = mask.replace_all(&line, "(masked)").into_owned();
        }
        let line = self.client.replace_all(&line, |found: &Captures<'_>| {
            if &found[1] == "8080" { &found[0] } else { "127.0.0.1:(client)" }.to_owned()
        });
        let line = self.process.replace_all(&line, "process (id)");
        let line = self.date.replace_all(&line, "(date)");
        let line = self.entity_tag.replace_all(&line, "${1}(tag)");
        let line = self.time.replace_all(&line, |found: &Captures<'_>| {
            let is_short = found[0].parse::<f64>().is_ok_and(|seconds| seconds < 3.0);
            if is_short { "(less than 3)" } else { "(3 or more)" }
        });
        line.into_owned()
    }
}

/// The clients that are connected to a port of this machine: state 01 in /proc/net/tcp, proc(5).
fn connected(port: u16) -> HashSet<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).ok());
    let lines = tables.iter().flatten().flat_map(|table| table.lines());
    let clients = lines.filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, client, state) = (fields.next()?, fields.next()?, fields.next()?);
        let is_here = u16::from_str_radix(local.rsplit(':').next()?, 16) == Ok(port);
        (is_here && state == "01").then(|| client.to_owned())
    });
    clients.collect()
}
