//! The wire suite: exact bytes in, and what must come back. The cases are tables in `wire/*.toml`,
//! which can be read and added to without Rust; `wire/README.md` says how.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::story::Fault;
use crate::{Answer, Client, Failure, Server};

/// The tables, with the name of each group.
const GROUPS: [(&str, &str); 6] = [
    ("request line", include_str!("../wire/request-line.toml")),
    ("headers", include_str!("../wire/headers.toml")),
    ("framing", include_str!("../wire/framing.toml")),
    ("keep-alive", include_str!("../wire/keep-alive.toml")),
    ("files", include_str!("../wire/files.toml")),
    ("conditional and range", include_str!("../wire/conditional-and-range.toml")),
];

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
    for (name, text) in GROUPS {
        let group: Group = toml::from_str(text).map_err(|error| format!("{name}: {error}"))?;
        cases.extend(group.case.into_iter().map(|case| (name, case)));
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
    /// What came back is not what must; says what was sent, what came and how to repeat it.
    pub fn run(&self, server: &Server, is_step02: bool) -> Result<(), Failure> {
        let limit = self.step02_sends.filter(|_| is_step02).unwrap_or(usize::MAX);
        for send in self.send.all().iter().take(limit) {
            self.run_one(server, &unescape(send)?, is_step02).map_err(|why| {
                let (ip, port) = (server.address().ip(), server.address().port());
                Fault::expected(format!("{}, by {}", self.expectation(is_step02), self.rule))
                    .cause(why.to_string())
                    .repeat(format!("printf '{}' | nc -N {ip} {port}", for_printf(send)))
            })?;
        }
        Ok(())
    }

    /// What must come back, in short.
    fn expectation(&self, is_step02: bool) -> String {
        let answers = self.step02.as_ref().filter(|_| is_step02).unwrap_or(&self.answers);
        let end = if self.closes { " and the end of the connection" } else { "" };
        format!("\"{}\" is answered with {}{end}", self.name, answers.join(", then "))
    }

    fn run_one(&self, server: &Server, bytes: &[u8], is_step02: bool) -> Result<(), Failure> {
        let mut client = server.connect()?;
        // A server may answer and close before it has read everything: that is judged below.
        let _ = client.send(bytes);
        let expected = self.step02.as_ref().filter(|_| is_step02).unwrap_or(&self.answers);
        let mut answers = Vec::new();
        for (number, statuses) in expected.iter().enumerate() {
            let is_head = self.head && number == 0;
            let answer = if is_head { client.answer_to_head()? } else { client.answer()? };
            if answer.minor_version != 1 {
                return Err("the answer is not HTTP/1.1".into());
            }
            let is_right = statuses.split(" or ").any(|status| status == answer.status.to_string());
            if !is_right {
                return Err(format!(
                    "answer {} is {}, wanted {statuses}",
                    number + 1,
                    answer.status
                )
                .into());
            }
            answers.push(answer);
        }
        if !self.closes {
            // Saying that nothing more comes makes a server close, and show whether it had more.
            let _ = client.finish();
        }
        self.judge_rest(&mut client)?;
        match answers.first() {
            Some(first) if !is_step02 => self.judge_first(first),
            _ => Ok(()),
        }
    }

    fn judge_rest(&self, client: &mut Client) -> Result<(), Failure> {
        let rest = client.read_to_end()?;
        if rest.is_empty() {
            return Ok(());
        }
        let shown = rest[..rest.len().min(200)].escape_ascii();
        Err(format!("{} bytes came after the last answer: {shown}", rest.len()).into())
    }

    fn judge_first(&self, answer: &Answer) -> Result<(), Failure> {
        for (name, value) in &self.fields {
            if answer.field(name) != Some(value) {
                return Err(format!("{name} is {:?}, wanted {value:?}", answer.field(name)).into());
            }
        }
        if let Some(name) = self.present.iter().find(|name| answer.field(name).is_none()) {
            return Err(format!("there is no {name} field").into());
        }
        if let Some(name) = self.absent.iter().find(|name| answer.field(name).is_some()) {
            return Err(format!("there is a {name} field: {:?}", answer.field(name)).into());
        }
        if let Some(text) = &self.lacks
            && String::from_utf8_lossy(&answer.body).contains(text.as_str())
        {
            return Err(format!("the body has {text:?} in it").into());
        }
        if let Some(length) = self.body_length
            && answer.body.len() != length
        {
            return Err(format!("the body has {} bytes, wanted {length}", answer.body.len()).into());
        }
        if let Some(body) = &self.body
            && answer.body != unescape(body)?
        {
            return Err(format!("the body is {}, wanted {body}", answer.body.escape_ascii()).into());
        }
        Ok(())
    }
}

/// Turns the notation of the tables into bytes: `\r \n \t \\ \xNN`, and `\{text*number}` for a text
/// that is repeated.
fn unescape(text: &str) -> Result<Vec<u8>, Failure> {
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
            '{' => {
                let (inside, after) = rest.split_once('}').ok_or_else(wrong)?;
                let (repeated, count) = inside.rsplit_once('*').ok_or_else(wrong)?;
                let count = count.parse().map_err(|_| wrong())?;
                bytes.extend(unescape(repeated)?.repeat(count));
                rest = after;
            }
            _ => return Err(wrong().into()),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// The same bytes for the shell's printf, as long as they can be typed.
fn for_printf(text: &str) -> String {
    if text.contains("\\{") {
        return format!("(repeat the part in braces) {text}");
    }
    text.replace('%', "%%").replace('\'', "\\x27")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

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
