//! Whether what was printed is what the chapter shows.

use check::Failure;
use regex_lite::{Captures, Regex};

/// Lines that something prints next; `...` stands for any number of lines.
pub(crate) struct Expected {
    pub(crate) lines: Vec<String>,
    pub(crate) in_any_order: bool,
    /// Whether nothing may follow.
    pub(crate) to_the_end: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Found {
    /// At the beginning of what was printed, in so many lines.
    Here(usize),
    NotYet,
    Never,
}

impl Expected {
    pub(crate) fn first(lines: Vec<String>) -> Expected {
        Expected { lines, in_any_order: false, to_the_end: false }
    }

    pub(crate) fn find(&self, printed: &[String], is_over: bool) -> Found {
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
        let mut missing: Vec<&String> = self.lines.iter().filter(|line| *line != "...").collect();
        let leaves_out = missing.len() < self.lines.len();
        let mut length = 0;
        while !missing.is_empty() {
            let line = printed.get(length)?;
            length += 1;
            match missing.iter().position(|expected| *expected == line) {
                Some(found) => drop(missing.swap_remove(found)),
                None if leaves_out => {}
                None => return None,
            }
        }
        (!self.to_the_end || leaves_out || length == printed.len()).then_some(length)
    }

    /// Whether no further line can help.
    fn is_contradicted(&self, printed: &[String]) -> bool {
        if self.in_any_order {
            return !self.lines.iter().any(|line| line == "...")
                && printed.len() >= self.lines.len();
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
pub(crate) struct Masks {
    number: Regex,
    client: Regex,
    process: Regex,
    date: Regex,
    entity_tag: Regex,
    time: Regex,
}

impl Masks {
    pub(crate) fn new() -> Result<Masks, Failure> {
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
    pub(crate) fn hide(&self, line: &str, port: u16, own: &[Regex]) -> String {
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
