//! Console blocks: what a reader types and what the programs print, replayed.

use std::collections::BTreeSet;
use std::fmt::{self, Display};

use check::Failure;
use regex_lite::Regex;
use tests::ensure;

use crate::chapter::{Block, Chapter};
use crate::desk::{Desk, UP};

/// What a command may use that is not on every machine.
const TOOLS: [&str; 7] = ["curl", "nc", "ss", "ps", "pgrep", "strace", "python3"];

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
    /// What a block's comment says; without one, the block holds commands.
    ///
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
    passages: Vec<Passage>,
    not_replayed: usize,
}

/// Something that the reader does, and what is printed then.
pub(crate) struct Passage {
    pub(crate) line: usize,
    pub(crate) action: Action,
    pub(crate) expected: Vec<String>,
    pub(crate) masks: Vec<Regex>,
}

pub(crate) enum Action {
    Run(String),
    Background {
        command: String,
        connections: usize,
    },
    EndBackground,
    /// Looks at the server's terminal.
    Server {
        in_any_order: bool,
    },
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
        write!(f, "{commands} commands and {server_blocks} blocks of a server replayed, ")?;
        write!(f, "{not_replayed} not")
    }
}

impl<'a> Script<'a> {
    /// The transcripts of a chapter.
    ///
    /// # Errors
    /// A block is not of the form that the book has.
    pub(crate) fn of(chapter: &'a Chapter) -> Result<Script<'a>, Failure> {
        let mut script = Script { chapter, passages: Vec::new(), not_replayed: 0 };
        for block in chapter.blocks.iter().filter(|block| block.language == "console") {
            script.add(block).map_err(|fault| chapter.at(block.line, fault))?;
        }
        let ends = chapter.comments.iter().filter(|comment| comment.text == "end background");
        script.passages.extend(ends.map(|comment| Passage {
            line: comment.line,
            action: Action::EndBackground,
            expected: Vec::new(),
            masks: Vec::new(),
        }));
        script.passages.sort_by_key(|passage| passage.line);
        Ok(script)
    }

    fn add(&mut self, block: &Block) -> Result<(), Failure> {
        let Directives { kind, masks } = Directives::of(block)?;
        let mut add = |line, action, expected| {
            self.passages.push(Passage { line, action, expected, masks: masks.clone() });
        };
        match kind {
            Kind::NotReplayed => self.not_replayed += 1,
            Kind::Server { in_any_order } => {
                let expected = block.text.lines().map(visible).collect();
                add(block.line, Action::Server { in_any_order }, expected);
            }
            Kind::Commands => {
                for Typed { line, command, output } in typed(block)? {
                    add(line, Action::Run(command), output);
                }
            }
            Kind::Background(connections) => {
                let all = typed(block)?;
                ensure!(all.len() == 1, "one command can be left running, not {}", all.len());
                for Typed { line, command, output } in all {
                    add(line, Action::Background { command, connections }, output);
                }
            }
        }
        Ok(())
    }

    /// The programs that the commands use and not every machine has.
    pub(crate) fn tools(&self) -> BTreeSet<&'static str> {
        let commands = self.passages.iter().filter_map(|passage| match &passage.action {
            Action::Run(command) | Action::Background { command, .. } => Some(command),
            _ => None,
        });
        let is_word = |letter: char| letter.is_alphanumeric() || "_-./".contains(letter);
        let words = commands.flat_map(|command| command.split(move |letter| !is_word(letter)));
        let tool = |word: &str| match word {
            UP => Some("haproxy"),
            "./pid-on" => Some("ss"),
            word => TOOLS.into_iter().find(|tool| *tool == word),
        };
        words.filter_map(tool).collect()
    }

    /// Does what a reader does, one command after the other.
    ///
    /// # Errors
    /// Something printed is not what the chapter shows, or a program does not end.
    pub(crate) fn replay(&self) -> Result<Replayed, Failure> {
        let mut desk = Desk::new()?;
        for passage in &self.passages {
            desk.settle();
            desk.act(passage).map_err(|fault| self.chapter.at(passage.line, fault))?;
        }
        let count = |is_counted: fn(&Action) -> bool| {
            self.passages.iter().filter(|passage| is_counted(&passage.action)).count()
        };
        Ok(Replayed {
            commands: count(|action| matches!(action, Action::Run(_) | Action::Background { .. })),
            server_blocks: count(|action| matches!(action, Action::Server { .. })),
            not_replayed: self.not_replayed,
        })
    }
}

/// A command and what it prints.
struct Typed {
    line: usize,
    command: String,
    output: Vec<String>,
}

/// The commands of a block.
fn typed(block: &Block) -> Result<Vec<Typed>, Failure> {
    let mut all: Vec<Typed> = Vec::new();
    for (number, line) in (block.line + 1..).zip(block.text.lines()) {
        if let Some(last) = all.last_mut().filter(|last| is_open(&last.command)) {
            let more = line.strip_prefix('>').ok_or("a command goes on: the line needs `> `")?;
            last.command.push('\n');
            last.command.push_str(more.strip_prefix(' ').unwrap_or(more));
        } else if let Some(command) = line.strip_prefix("$ ") {
            all.push(Typed { line: number, command: command.to_owned(), output: Vec::new() });
        } else {
            let last = all.last_mut().ok_or("a console block begins with `$ `")?;
            last.output.push(visible(line));
        }
    }
    ensure!(!all.is_empty(), "a console block without a command");
    Ok(all)
}

/// Whether bash asks for more: a quote is open, or a backslash stands at the end.
fn is_open(command: &str) -> bool {
    let mut quote = None;
    let mut is_escaped = false;
    for letter in command.chars() {
        match (letter, quote) {
            _ if is_escaped => is_escaped = false,
            ('\\', None | Some('"')) => is_escaped = true,
            ('\'' | '"', None) => quote = Some(letter),
            _ if quote == Some(letter) => quote = None,
            _ => {}
        }
    }
    is_escaped || quote.is_some()
}

/// A line without what cannot be seen at its end.
fn visible(line: &str) -> String {
    line.trim_end().to_owned()
}
