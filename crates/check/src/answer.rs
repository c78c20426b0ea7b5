//! Answers, taken apart.

use crate::Failure;
use crate::story::Fault;

/// An answer, taken apart.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The digit behind `HTTP/1.`.
    pub minor_version: u8,
    /// The status code.
    pub status: u16,
    /// The field lines, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of the first field with this name (in lower case).
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// Takes the head of an answer apart. Returns it and its length with the empty line, or `None` while
/// there is no empty line yet.
///
/// # Errors
/// It is not the head of an HTTP/1.1 or HTTP/1.0 answer; says which line is wrong.
pub(crate) fn parse_head(bytes: &[u8]) -> Result<Option<(Answer, usize)>, Failure> {
    let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..at])?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let (minor_version, status) = parse_status_line(status_line)
        .ok_or_else(|| format!("not a status line: {status_line:?}"))?;
    let fields = lines
        .map(|line| {
            let (name, value) =
                line.split_once(':').ok_or_else(|| format!("no field: {line:?}"))?;
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect::<Result<_, Failure>>()?;
    Ok(Some((Answer { minor_version, status, fields, body: Vec::new() }, at + 4)))
}

/// The digit behind `HTTP/1.` and the status.
fn parse_status_line(line: &str) -> Option<(u8, u16)> {
    let (version, rest) = line.strip_prefix("HTTP/1.")?.split_once(' ')?;
    Some((version.parse().ok().filter(|minor| *minor <= 1)?, rest.get(..3)?.parse().ok()?))
}

/// All that came back for one request.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The head, taken apart.
    pub answer: Answer,
    /// How long the head was.
    pub head_length: usize,
    /// Every byte that came, the head too.
    pub all: Vec<u8>,
}

impl Reply {
    /// What followed the head, however long Content-Length says that it is.
    pub fn body(&self) -> &[u8] {
        &self.all[self.head_length..]
    }

    /// The answer, with all that followed its head as its body.
    pub fn whole(&self) -> Answer {
        Answer { body: self.body().to_vec(), ..self.answer.clone() }
    }

    /// What Content-Length says, if it is a number.
    pub fn announced(&self) -> Option<usize> {
        self.answer.field("content-length")?.parse().ok()
    }

    /// A fault with what came, about a field or the status.
    pub fn fault(&self, expected: impl Into<String>) -> Fault {
        Fault::expected(expected).came(&self.all[..self.head_length])
    }
}
