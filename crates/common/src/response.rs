//! A response, and its head as bytes.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use crate::document::Document;

/// A status code with its reason phrase: RFC 9110 §15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Three digits.
    pub code: u16,
    /// The words after the code. People read them; programs must not.
    pub reason: &'static str,
    line: &'static str,
}

macro_rules! statuses {
    ($($name:ident $code:literal $reason:literal)*) => {
        #[allow(missing_docs)]
        impl Status {
            $(pub const $name: Status = Status {
                code: $code,
                reason: $reason,
                line: concat!("HTTP/1.1 ", $code, " ", $reason, "\r\n"),
            };)*
        }
    };
}

statuses! {
    OK 200 "OK"
    PARTIAL_CONTENT 206 "Partial Content"
    MOVED_PERMANENTLY 301 "Moved Permanently"
    NOT_MODIFIED 304 "Not Modified"
    BAD_REQUEST 400 "Bad Request"
    FORBIDDEN 403 "Forbidden"
    NOT_FOUND 404 "Not Found"
    METHOD_NOT_ALLOWED 405 "Method Not Allowed"
    REQUEST_TIMEOUT 408 "Request Timeout"
    PRECONDITION_FAILED 412 "Precondition Failed"
    URI_TOO_LONG 414 "URI Too Long"
    RANGE_NOT_SATISFIABLE 416 "Range Not Satisfiable"
    FIELDS_TOO_LARGE 431 "Request Header Fields Too Large"
    INTERNAL_SERVER_ERROR 500 "Internal Server Error"
    NOT_IMPLEMENTED 501 "Not Implemented"
    SERVICE_UNAVAILABLE 503 "Service Unavailable"
    VERSION_NOT_SUPPORTED 505 "HTTP Version Not Supported"
}

/// What an answer will be: a status, fields and a body. The fields that every answer has, or that
/// follow from the body, are added by [`Response::push_head`].
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: Status,
    /// The bytes after the head.
    pub body: Body,
    /// Field lines, each with its line end.
    fields: String,
}

/// The body of a response.
#[derive(Debug)]
pub enum Body {
    /// None, and no Content-Length either: a 304.
    Absent,
    /// These bytes.
    Bytes(Vec<u8>),
    /// A part of a file.
    Part(Part),
}

/// So many bytes of a file.
#[derive(Debug)]
pub struct Part {
    /// The file.
    pub document: Arc<Document>,
    /// Where the part begins, in bytes from the start of the file.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

impl Part {
    /// Goes on so many bytes: they have been taken.
    pub(crate) fn skip(&mut self, length: usize) {
        self.offset += length as u64;
        self.length -= length as u64;
    }
}

impl Body {
    /// So many bytes of a file, from `offset` on.
    pub(crate) fn part(document: &Arc<Document>, offset: u64, length: u64) -> Body {
        Body::Part(Part { document: Arc::clone(document), offset, length })
    }
}

impl Response {
    /// A response without fields of its own.
    pub fn new(status: Status, body: Body) -> Response {
        Response { status, body, fields: String::new() }
    }

    /// A small page in HTML that says in plain words what was wrong.
    pub fn page(status: Status, reason: &str) -> Response {
        let Status { code, reason: phrase, .. } = status;
        let reason = reason.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <title>{code} {phrase}</title>\n<h1>{code} {phrase}</h1>\n<p>{reason}</p>\n</html>\n"
        );
        Response::new(status, Body::Bytes(html.into_bytes()))
            .with_field("Content-Type", "text/html; charset=utf-8")
    }

    /// Adds a field. Name and value are the server's own words and hold no line end.
    pub fn with_field(mut self, name: &str, value: &str) -> Response {
        debug_assert!(!name.contains(['\r', '\n']) && !value.contains(['\r', '\n']));
        let _ = write!(self.fields, "{name}: {value}\r\n");
        self
    }

    /// Gives it fields as they stand, each with its line end.
    pub(crate) fn with_field_lines(self, lines: &str) -> Response {
        Response { fields: lines.to_owned(), ..self }
    }

    /// Appends the head: status line, fields and the empty line (RFC 9112 §4). `connection` is the value
    /// of the Connection field, when the answer needs one.
    pub fn push_head(&self, bytes: &mut Vec<u8>, server: &str, connection: Option<&str>) {
        let mut push =
            |pieces: &[&str]| pieces.iter().for_each(|p| bytes.extend_from_slice(p.as_bytes()));
        with_date(|date| push(&[self.status.line, "Date: ", date]));
        push(&["\r\nServer: ", server, "\r\n"]);
        match &self.body {
            Body::Absent => {}
            Body::Bytes(body) => push(&["Content-Length: ", &body.len().to_string(), "\r\n"]),
            Body::Part(part) => {
                push(&["Content-Length: ", &part.length.to_string(), "\r\n", &part.document.fields])
            }
        }
        if let Some(connection) = connection {
            push(&["Connection: ", connection, "\r\n"]);
        }
        push(&[&self.fields, "\r\n"]);
    }
}

/// Hands out the time in the format of RFC 9110 §5.6.7, made anew once a second in each thread.
fn with_date(f: impl FnOnce(&str)) {
    thread_local! {
        static LAST: RefCell<(u64, String)> = RefCell::default();
    }
    let now = SystemTime::now();
    let second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    LAST.with_borrow_mut(|(last, date)| {
        if *last != second || date.is_empty() {
            *date = httpdate::fmt_http_date(now);
            *last = second;
        }
        f(date);
    });
}
