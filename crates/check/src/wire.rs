//! The wire suite: exact bytes in, and what must come back. The cases are tables in `wire/*.toml`,
//! which can be read and added to without Rust; `wire/README.md` says how.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::checks::{HOW, read};
use crate::client::Client;
use crate::story::{Explain, Fault, Recorder, Symptom};
use crate::words::{counted, first_difference};
use crate::{Answer, Failure, Server, Step};

/// The tables, with the name of each group and the chapter that is about it.
const GROUPS: [(&str, &str, &str); 6] = [
    ("request line", "02", include_str!("../wire/request-line.toml")),
    ("headers", "02", include_str!("../wire/headers.toml")),
    ("framing", "08", include_str!("../wire/framing.toml")),
    ("keep-alive", "08", include_str!("../wire/keep-alive.toml")),
    ("files", "03", include_str!("../wire/files.toml")),
    ("conditional and range", "03", include_str!("../wire/conditional-and-range.toml")),
];

/// The names of the groups, in the order in which they are asked.
pub fn groups() -> impl Iterator<Item = &'static str> {
    GROUPS.into_iter().map(|(name, _, _)| name)
}

/// How the cause begins where nothing else is known.
pub const SPECIAL: &str = "this is special about the request";

/// What a server must have learned for a case to apply to it.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Applies {
    /// Any HTTP server, also one that has a single page and no files.
    #[default]
    All,
    /// A server of files.
    Files,
    /// A server of files with persistent connections.
    Persistent,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    /// Why step 02, the smallest server, may answer differently.
    #[serde(default, rename = "step02")]
    _why_step02_differs: String,
    case: Vec<Case>,
}

/// One case: one or several requests to which the same must happen.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What is special about the request.
    pub name: String,
    /// Where it is written that this must happen.
    pub rule: String,
    /// Which servers it applies to.
    #[serde(default, rename = "steps")]
    pub applies: Applies,
    send: Sends,
    answers: Vec<String>,
    #[serde(default)]
    closes: bool,
    #[serde(default)]
    head: bool,
    #[serde(default)]
    fields: BTreeMap<String, String>,
    #[serde(default)]
    present: Vec<String>,
    #[serde(default)]
    absent: Vec<String>,
    lacks: Option<String>,
    body: Option<String>,
    body_length: Option<usize>,
    step02: Option<Vec<String>>,
    step02_sends: Option<usize>,
    #[serde(skip)]
    chapter: &'static str,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Sends {
    One(String),
    Many(Vec<String>),
}

impl Sends {
    fn all(&self) -> &[String] {
        match self {
            Sends::One(send) => std::slice::from_ref(send),
            Sends::Many(sends) => sends,
        }
    }
}

/// All cases, each with the name of its group.
///
/// # Errors
/// A table is not well formed; says which and where.
pub fn cases() -> Result<Vec<(&'static str, Case)>, Failure> {
    let mut cases = Vec::new();
    for (name, chapter, text) in GROUPS {
        let group: Group = toml::from_str(text).map_err(|error| format!("{name}: {error}"))?;
        cases.extend(group.case.into_iter().map(|case| (name, Case { chapter, ..case })));
    }
    Ok(cases)
}

impl Case {
    /// The bytes that are sent, one after the other on connections of their own.
    ///
    /// # Errors
    /// The table has an escape that is not one.
    pub fn requests(&self) -> Result<Vec<Vec<u8>>, Failure> {
        self.send.all().iter().map(|send| unescape(send)).collect()
    }

    /// Sends the case's requests, each on a connection of its own, and judges what comes back.
    /// `is_step02` picks what the smallest server answers instead, where the case says so.
    ///
    /// # Errors
    /// What came back is not what must; says what came and how to repeat it.
    pub fn run(&self, server: &Server, is_step02: bool) -> Result<(), Failure> {
        self.run_recorded(server, is_step02, &Recorder::default())
    }

    /// As [`Case::run`], and writes down what is done.
    ///
    /// # Errors
    /// As [`Case::run`].
    pub fn run_recorded(
        &self,
        server: &Server,
        is_step02: bool,
        story: &Recorder,
    ) -> Result<(), Failure> {
        let limit = self.step02_sends.filter(|_| is_step02).unwrap_or(usize::MAX);
        for send in self.send.all().iter().take(limit) {
            let mut client = Client::connect_recorded(server, story)?;
            client.says(unescape(send)?);
            let repeat = self.by_hand(send)?;
            self.judge(&mut client, is_step02).but(|fault| Fault {
                expected: format!("{}\nthe rule: {}", fault.expected, self.rule),
                cause: if fault.cause.is_empty() {
                    format!("{SPECIAL}: {}", self.name)
                } else {
                    fault.cause
                },
                repeat,
                ..fault
            })?;
        }
        Ok(())
    }

    /// The chapter and heading to read when a step fails.
    pub fn read(&self, step: &Step) -> String {
        read(step, self.chapter, HOW)
    }

    /// The command that sends the last of the requests.
    pub fn repeat(&self) -> String {
        self.send.all().last().and_then(|send| self.by_hand(send).ok()).unwrap_or_default()
    }

    /// The command that sends these bytes. Where the server must close the connection by itself, it is
    /// not told that nothing more comes.
    fn by_hand(&self, send: &str) -> Result<String, Failure> {
        let end = if self.closes { "" } else { "-N " };
        Ok(format!("{} | nc {end}-w 5 127.0.0.1 8080", for_shell(send)?))
    }

    fn judge(&self, client: &mut Client, is_step02: bool) -> Result<(), Failure> {
        let expected = self.step02.as_ref().filter(|_| is_step02).unwrap_or(&self.answers);
        let mut first = None;
        for (number, statuses) in expected.iter().enumerate() {
            let start = client.received().len() - client.rest().len();
            let wanted = match expected.len() {
                1 => format!("an answer with status {statuses}"),
                count => format!("answer {} of {count} with status {statuses}", number + 1),
            };
            let is_head = self.head && number == 0;
            let answer = if is_head { client.answer_to_head() } else { client.answer() };
            let answer = answer.expecting(&wanted)?;
            let came = &client.received()[start..];
            if answer.minor_version != 1 {
                return Fault::expected("an answer that begins with HTTP/1.1")
                    .came_wrong_at(came, "HTTP/1.".len())
                    .fail();
            }
            if !statuses.split(" or ").any(|status| status == answer.status.to_string()) {
                return Fault::expected(wanted)
                    .came_wrong_at(came, "HTTP/1.1 ".len())
                    .symptom(Symptom::Status)
                    .fail();
            }
            first.get_or_insert(answer);
        }
        if !self.closes {
            // Saying that nothing more comes makes a server close, and show whether it had more.
            let _ = client.finish();
        }
        let ends = client.sees_the_end();
        let rest = client.rest();
        if !rest.is_empty() {
            let at = client.received().len() - rest.len();
            return Fault::expected("nothing more behind the last answer")
                .saw(format!("{} more", counted(rest.len(), "byte")))
                .came_wrong_at(client.received(), at)
                .fail();
        }
        if !ends {
            return Fault::expected("the end of the connection behind the last answer")
                .saw("the connection stays open")
                .symptom(Symptom::Silent)
                .fail();
        }
        match first {
            Some(first) if !is_step02 => self.judge_first(&first),
            _ => Ok(()),
        }
    }

    fn judge_first(&self, answer: &Answer) -> Result<(), Failure> {
        let seen = |name: &str| match answer.field(name) {
            Some(value) => format!("{name}: {value}"),
            None => format!("no {name} field"),
        };
        for (name, value) in &self.fields {
            if answer.field(name) != Some(value) {
                return Fault::expected(format!("{name}: {value}")).saw(seen(name)).fail();
            }
        }
        if let Some(name) = self.present.iter().find(|name| answer.field(name).is_none()) {
            return Fault::expected(format!("a {name} field")).saw(seen(name)).fail();
        }
        if let Some(name) = self.absent.iter().find(|name| answer.field(name).is_some()) {
            return Fault::expected(format!("no {name} field")).saw(seen(name)).fail();
        }
        if let Some(text) = &self.lacks
            && let Some(at) =
                answer.body.windows(text.len()).position(|part| part == text.as_bytes())
        {
            return Fault::expected(format!("a body without {text:?}"))
                .came_wrong_at(&answer.body, at)
                .fail();
        }
        if let Some(length) = self.body_length
            && answer.body.len() != length
        {
            return Fault::expected(format!("a body of {}", counted(length, "byte")))
                .saw(format!("a body of {}", counted(answer.body.len(), "byte")))
                .fail();
        }
        if let Some(body) = &self.body
            && let Some(at) = first_difference(&answer.body, &unescape(body)?)
        {
            return Fault::expected(format!("the body {body}"))
                .came_wrong_at(&answer.body, at)
                .fail();
        }
        Ok(())
    }
}

/// The parts of a text in the notation of the tables, each with how often it comes: `\{text*number}`
/// stands for a text that is repeated.
fn parts(text: &str) -> Result<Vec<(&str, usize)>, Failure> {
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    while let Some(found) = text[at..].find('\\') {
        let escape = at + found;
        if !text[escape..].starts_with("\\{") {
            // What follows the backslash is part of the escape, also if it is another backslash.
            at = escape + 1 + text[escape + 1..].chars().next().map_or(0, char::len_utf8);
            continue;
        }
        let wrong =
            || format!("not an escape: {}", text[escape..].chars().take(9).collect::<String>());
        let (inside, _) = text[escape + 2..].split_once('}').ok_or_else(wrong)?;
        let (repeated, count) = inside.rsplit_once('*').ok_or_else(wrong)?;
        parts.push((&text[start..escape], 1));
        parts.push((repeated, count.parse().map_err(|_| wrong())?));
        at = escape + 2 + inside.len() + 1;
        start = at;
    }
    parts.push((&text[start..], 1));
    parts.retain(|(part, _)| !part.is_empty());
    Ok(parts)
}

/// Turns the notation of the tables into bytes: [`parts`], and in them `\r \n \t \\ \xNN`.
fn unescape(text: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    for (part, count) in parts(text)? {
        bytes.extend(unescape_part(part)?.repeat(count));
    }
    Ok(bytes)
}

fn unescape_part(text: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let wrong = || format!("not an escape: \\{}", escape.chars().take(8).collect::<String>());
        let kind = escape.chars().next().ok_or_else(wrong)?;
        rest = &escape[kind.len_utf8()..];
        match kind {
            'r' => bytes.push(b'\r'),
            'n' => bytes.push(b'\n'),
            't' => bytes.push(b'\t'),
            '\\' => bytes.push(b'\\'),
            'x' => {
                let digits = rest.get(..2).ok_or_else(wrong)?;
                bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
                rest = &rest[2..];
            }
            _ => return Err(wrong().into()),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// Commands for bash that write the same bytes. printf knows the escapes of the tables, and repeats its
/// text for each of its arguments; `%.0s` takes one and shows nothing of it.
fn for_shell(text: &str) -> Result<String, Failure> {
    let commands: Vec<String> = parts(text)?
        .into_iter()
        .map(|(part, count)| {
            let quoted = part.replace('%', "%%").replace('\'', "\\x27");
            match count {
                1 => format!("printf '{quoted}'"),
                _ => format!("printf '{quoted}%.0s' $(seq {count})"),
            }
        })
        .collect();
    Ok(match &commands[..] {
        [only] => only.clone(),
        several => format!("({})", several.join("; ")),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::process::Command;

    use super::*;

    #[test]
    fn every_table_can_be_read_and_no_two_cases_have_one_name() {
        let cases = cases().unwrap();
        let names: HashSet<_> = cases.iter().map(|(group, case)| (*group, &case.name)).collect();
        assert_eq!(names.len(), cases.len());
        for (_, case) in &cases {
            assert!(!case.requests().unwrap().is_empty());
        }
    }

    #[test]
    fn the_command_of_every_case_writes_its_bytes() {
        let mut script = String::new();
        let mut bytes = Vec::new();
        for (_, case) in cases().unwrap() {
            for send in case.send.all() {
                script += &format!("{}\n", for_shell(send).unwrap());
                bytes.extend(unescape(send).unwrap());
            }
        }
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert_eq!(first_difference(&output.stdout, &bytes), None);
    }

    #[test]
    fn escapes_become_bytes() {
        assert_eq!(
            unescape(r"a\r\n\x00\xff\\\{ab*3}\{\r\n*2}").unwrap(),
            b"a\r\n\0\xff\\ababab\r\n\r\n"
        );
        for wrong in [r"\q", r"\x1", r"\xzz", r"\{a}", r"\{a*x}", r"\{a*2", "\\"] {
            assert!(unescape(wrong).is_err(), "{wrong}");
        }
    }
}
