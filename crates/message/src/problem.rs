//! Optional reading: why bytes are not a request, in a sentence for the person who sent them.

use std::borrow::Cow;

use memchr::memchr;

use crate::status::Status;

/// Why a request is refused: the status to answer with, and a sentence that says what was wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// One of the 4xx or 5xx codes.
    pub status: Status,
    /// Plain words; may quote what was sent, so it is to be escaped where it is shown.
    pub reason: Cow<'static, str>,
}

impl Problem {
    /// A problem and the sentence about it.
    pub fn new(status: Status, reason: impl Into<Cow<'static, str>>) -> Problem {
        Problem { status, reason: reason.into() }
    }

    /// 400, and the sentence about it, as the error that it is.
    ///
    /// # Errors
    /// Always.
    pub fn bad_request<T>(reason: impl Into<Cow<'static, str>>) -> Result<T, Problem> {
        Err(Problem::new(Status::BAD_REQUEST, reason))
    }

    /// 404. It does not say whether there is a file that is not shown.
    pub fn not_found() -> Problem {
        Problem::new(Status::NOT_FOUND, "There is nothing at this address.")
    }
}

/// A client that does not speak HTTP may never send a line end, and would be waited for until the
/// timeout. What cannot become a request line is refused at once.
pub(crate) fn check_partial_request_line(bytes: &[u8]) -> Result<(), Problem> {
    let line = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if is_visible_ascii(line) { Ok(()) } else { not_a_request_line(line) }
}

pub(crate) fn not_a_request_line<T>(line: &[u8]) -> Result<T, Problem> {
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    Problem::bad_request(match words[..] {
        _ if line.starts_with(&[0x16, 0x03]) => {
            "This looks like TLS. The address begins with http:// here, not https://."
        }
        _ if !is_visible_ascii(line) => {
            "The request line holds a byte that is not a visible ASCII character or a space."
        }
        [b""] => "The request line is empty.",
        [_, _] => "The request line has no version: 'GET / HTTP/1.1' is a whole one.",
        [_, _, version] if !version.starts_with(b"HTTP/") => {
            "The version at the end of the request line must be HTTP/1.1 or HTTP/1.0."
        }
        _ => {
            "The request line must be a method, one space, a target, one space and a version, \
             such as 'GET / HTTP/1.1'."
        }
    })
}

pub(crate) fn not_a_field_line<T>(line: &[u8]) -> Result<T, Problem> {
    let shown = line[..line.len().min(80)].escape_ascii();
    let fault = if line.starts_with(b" ") || line.starts_with(b"\t") {
        "A header field begins with white space. Folding a value over two lines is no longer allowed"
    } else {
        match memchr(b':', line) {
            None => "A header field has no colon",
            Some(0) => "A header field has no name",
            Some(colon) if line[..colon].ends_with(b" ") || line[..colon].ends_with(b"\t") => {
                "A header field has white space before its colon"
            }
            Some(colon) if !line[..colon].iter().all(|byte| matches!(byte, b'!'..=b'~')) => {
                "The name of a header field holds a byte that is not allowed there"
            }
            Some(_) => "A header field holds a character that is not allowed there",
        }
    };
    Problem::bad_request(format!("{fault}: \"{shown}\"."))
}

fn is_visible_ascii(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' '..=b'~'))
}
