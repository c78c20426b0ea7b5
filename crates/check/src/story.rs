//! What happened in a check, and the words in which a failure is told.

use std::fmt::{self, Display, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::words::{shown, with_caret};

/// What a client did, or what happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It connects.
    Connects,
    /// It sends something.
    Sends,
    /// An answer has come.
    Answered,
    /// It waits, and nothing comes any more.
    Waits,
    /// The server has ended the connection.
    Ended,
    /// It closes its sending half: nothing more comes from it.
    Finishes,
    /// It closes or resets the connection.
    Leaves,
    /// Something that the check does beside its clients.
    Aside,
}

impl Deed {
    /// The word for a timeline.
    fn word(self) -> &'static str {
        match self {
            Deed::Connects => "connects",
            Deed::Sends => "sends",
            Deed::Answered => "answered",
            Deed::Waits => "NOTHING",
            Deed::Ended => "end",
            Deed::Finishes => "no more",
            Deed::Leaves => "leaves",
            Deed::Aside => "",
        }
    }
}

#[derive(Clone, Debug)]
struct Event {
    at: Duration,
    /// The client's number, from 1; 0 for the check itself.
    client: usize,
    deed: Deed,
    text: String,
}

/// What happened, in order.
#[derive(Clone, Debug)]
pub struct Story {
    start: Instant,
    events: Vec<Event>,
    clients: usize,
}

/// Where all clients of a check write down what they do.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Story>>);

impl Recorder {
    /// The story so far, to read or to add to.
    pub fn open(&self) -> MutexGuard<'_, Story> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many lines of a story are shown at its beginning and at its end.
const LINES_SHOWN: usize = 12;
/// So many columns of a timeline are shown.
const COLUMNS_SHOWN: usize = 8;
/// So many rows of a timeline are shown at its beginning and at its end.
const ROWS_SHOWN: usize = 5;

impl Default for Story {
    fn default() -> Story {
        Story::begin()
    }
}

impl Story {
    /// Begins now.
    pub fn begin() -> Story {
        Story { start: Instant::now(), events: Vec::new(), clients: 0 }
    }

    /// A number for a further client.
    pub fn next_client(&mut self) -> usize {
        self.clients += 1;
        self.clients
    }

    /// Adds what a client did. Client 0 is the check itself.
    pub fn add(&mut self, client: usize, deed: Deed, text: impl Into<String>) {
        self.events.push(Event { at: self.start.elapsed(), client, deed, text: text.into() });
    }

    /// How many things have happened.
    pub fn length(&self) -> usize {
        self.events.len()
    }

    /// Tells all that happened since the story had this length in one sentence.
    pub fn fold(&mut self, length: usize, text: impl Into<String>) {
        if let Some(first) = self.events.get(length) {
            let event = Event { at: first.at, client: 0, deed: Deed::Aside, text: text.into() };
            self.events.truncate(length);
            self.events.push(event);
        }
    }

    /// The story, a line an event; neighbours who do the same share one.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut rest = &self.events[..];
        while let Some(first) = rest.first() {
            let same = |event: &&Event| event.text == first.text && event.client > 0;
            let count = rest.iter().take_while(same).count().max(1);
            let who = match (first.client, rest[count - 1].client) {
                (0, _) => String::new(),
                (from, to) if from == to => format!("client {from} "),
                (from, to) if from + 1 == to => format!("clients {from} and {to}: each "),
                (from, to) => format!("clients {from} to {to}: each "),
            };
            lines.push(format!("{:7.3} s  {who}{}", first.at.as_secs_f64(), first.text));
            rest = &rest[count..];
        }
        shorten(lines, LINES_SHOWN, |left| format!("           ({left} more)"))
    }

    /// A row a client, a column for what happened at about the same time; empty when there were fewer
    /// than two clients. What stands further right happened later.
    pub fn timeline(&self) -> Vec<String> {
        if self.clients < 2 {
            return Vec::new();
        }
        let mut columns: Vec<Vec<&Event>> = Vec::new();
        for event in self.events.iter().filter(|event| event.client > 0) {
            match columns.last_mut() {
                Some(column)
                    if column[0].deed == event.deed
                        && column.iter().all(|other| other.client != event.client) =>
                {
                    column.push(event);
                }
                _ => columns.push(vec![event]),
            }
        }
        let left_out = columns.len().saturating_sub(COLUMNS_SHOWN);
        let columns = &columns[left_out..];
        let mut head = format!("{:<10}", "seconds");
        for column in columns {
            let _ = write!(head, "{:>10.3}", column[0].at.as_secs_f64());
        }
        let is_told = |client: &usize| self.events.iter().any(|event| event.client == *client);
        let rows = (1..=self.clients).filter(is_told).map(|client| {
            let mut row = format!("client {client:<3}");
            for column in columns {
                let event = column.iter().find(|event| event.client == client);
                let _ = write!(row, "{:>10}", event.map_or(".", |event| event.deed.word()));
            }
            row
        });
        let mut lines = vec![head];
        lines.extend(shorten(rows.collect(), ROWS_SHOWN, |left| format!("({left} more clients)")));
        if left_out > 0 {
            lines.push(format!("({left_out} earlier columns are left out)"));
        }
        lines
    }
}

/// The beginning and the end of a long list.
fn shorten(
    mut lines: Vec<String>,
    shown: usize,
    left_out: impl Fn(usize) -> String,
) -> Vec<String> {
    if lines.len() > 2 * shown + 1 {
        let left = lines.len() - 2 * shown;
        lines.splice(shown..lines.len() - shown, [left_out(left)]);
    }
    lines
}

/// How a check failed. A cause is named only for what was seen: a server that ends a connection does not
/// wait for anybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Symptom {
    /// A connection was refused.
    Refused,
    /// A connection ended, and something was still missing.
    Ended,
    /// A connection stayed, and nothing came.
    Silent,
    /// An answer came, with another status.
    Status,
    /// Anything else.
    #[default]
    Other,
}

/// Why a check failed: what should have come, what came instead, and what is probably wrong.
#[derive(Clone, Debug, Default)]
pub struct Fault {
    /// How it failed.
    pub symptom: Symptom,
    /// What should have come.
    pub expected: String,
    /// What came instead, in lines.
    pub came: Vec<String>,
    /// What is wrong, as far as it can be guessed from outside.
    pub cause: String,
    /// A command that shows the same by hand, with the server on port 8080; empty if the one of the
    /// whole check does.
    pub repeat: String,
}

impl Fault {
    /// A fault, by what should have come.
    pub fn expected(words: impl Into<String>) -> Fault {
        Fault { expected: words.into(), ..Fault::default() }
    }

    /// How it failed.
    pub fn symptom(self, symptom: Symptom) -> Fault {
        Fault { symptom, ..self }
    }

    /// These bytes came instead.
    pub fn came(mut self, bytes: impl AsRef<[u8]>) -> Fault {
        self.came.push(shown(bytes.as_ref()));
        self
    }

    /// These bytes came instead, and the first wrong one stands at `at`.
    pub fn came_wrong_at(mut self, bytes: impl AsRef<[u8]>, at: usize) -> Fault {
        self.came.extend(with_caret(bytes.as_ref(), at));
        self
    }

    /// This was seen instead.
    pub fn saw(mut self, words: impl Into<String>) -> Fault {
        self.came.push(words.into());
        self
    }

    /// What is probably wrong.
    pub fn cause(self, words: impl Into<String>) -> Fault {
        Fault { cause: words.into(), ..self }
    }

    /// How to see the same by hand.
    pub fn repeat(self, command: impl Into<String>) -> Fault {
        Fault { repeat: command.into(), ..self }
    }

    /// The fault as a failed result.
    ///
    /// # Errors
    /// Always.
    pub fn fail<T>(self) -> Result<T, Failure> {
        Err(self.into())
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected: {}", self.expected)?;
        if !self.came.is_empty() {
            write!(f, "\n  came: {}", self.came.join("\n        "))?;
        }
        for (name, text) in [("cause", &self.cause), ("repeat", &self.repeat)] {
            if !text.is_empty() {
                write!(f, "\n  {name}: {text}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// Adds to a failure what only the check knows that called for the answer.
pub trait Explain: Sized {
    /// Changes the fault, if there is one.
    #[must_use]
    fn but(self, change: impl FnOnce(Fault) -> Fault) -> Self;

    /// Names the likely cause, if it failed in one of these ways.
    #[must_use]
    fn because(self, symptoms: &[Symptom], cause: &str) -> Self {
        self.but(|fault| if symptoms.contains(&fault.symptom) { fault.cause(cause) } else { fault })
    }

    /// Says what the check as a whole waited for.
    #[must_use]
    fn expecting(self, words: &str) -> Self {
        self.but(|fault| Fault { expected: words.to_owned(), ..fault })
    }
}

impl<T> Explain for Result<T, Failure> {
    fn but(self, change: impl FnOnce(Fault) -> Fault) -> Self {
        self.map_err(|failure| match failure.downcast::<Fault>() {
            Ok(fault) => change(*fault).into(),
            Err(other) => other,
        })
    }
}

/// A failure as a reader gets it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Explanation {
    /// What was done, step by step, with seconds since the check began.
    pub done: Vec<String>,
    /// A row a client; empty unless the order of several clients matters.
    pub timeline: Vec<String>,
    /// What came back.
    pub came: Vec<String>,
    /// What was expected.
    pub expected: String,
    /// The likely cause.
    pub cause: String,
    /// The last lines that the server printed during the check.
    #[serde(default)]
    pub said: Vec<String>,
    /// Commands that repeat it by hand.
    pub repeat: Vec<String>,
    /// The chapter and heading to read.
    pub read: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_joins_those_who_do_the_same_and_a_timeline_has_a_row_a_client() {
        let mut story = Story::begin();
        for _ in 0..64 {
            let client = story.next_client();
            story.add(client, Deed::Connects, "connects");
        }
        story.add(64, Deed::Waits, "waits in vain");
        let lines = story.lines();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains("clients 1 to 64: each connects"), "{lines:?}");
        let timeline = story.timeline();
        assert_eq!(timeline.len(), 1 + 5 + 1 + 5);
        assert!(timeline.last().unwrap().contains("NOTHING"));
    }
}
