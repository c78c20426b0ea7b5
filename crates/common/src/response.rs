//! A response, and its head as bytes.

use std::fmt::Write as _;
use std::fs::File;
use std::time::SystemTime;

/// A status code with its reason phrase: RFC 9110 §15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Three digits.
    pub code: u16,
    /// The words after the code. People read them; programs must not.
    pub reason: &'static str,
}

macro_rules! statuses {
    ($($name:ident $code:literal $reason:literal)*) => {
        #[allow(missing_docs)]
        impl Status {
            $(pub const $name: Status = Status { code: $code, reason: $reason };)*
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
/// follow from the body, are added by [`Response::head`].
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
    /// A part of an open file, read as it is sent.
    File(FilePart),
}

/// So many bytes of a file.
#[derive(Debug)]
pub struct FilePart {
    /// A regular file, open for reading.
    pub file: File,
    /// Where the part begins, in bytes from the start of the file.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

impl Body {
    /// How many bytes; `None` when there is no body to count.
    pub fn length(&self) -> Option<u64> {
        match self {
            Body::Absent => None,
            Body::Bytes(bytes) => Some(bytes.len() as u64),
            Body::File(part) => Some(part.length),
        }
    }
}

impl Response {
    /// A response without fields of its own.
    pub fn new(status: Status, body: Body) -> Response {
        Response { status, body, fields: String::new() }
    }

    /// A small page in HTML that says in plain words what was wrong.
    pub fn page(status: Status, reason: &str) -> Response {
        let Status { code, reason: phrase } = status;
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

    /// The head as bytes: status line, fields and the empty line (RFC 9112 §4). `connection` is the
    /// value of the Connection field, when the answer needs one.
    pub fn head(&self, server: &str, connection: Option<&str>) -> Vec<u8> {
        let Status { code, reason } = self.status;
        let date = httpdate::fmt_http_date(SystemTime::now());
        let mut head = String::with_capacity(256 + self.fields.len());
        // Writing to a String cannot fail.
        let _ = write!(head, "HTTP/1.1 {code} {reason}\r\nDate: {date}\r\nServer: {server}\r\n");
        if let Some(length) = self.body.length() {
            let _ = write!(head, "Content-Length: {length}\r\n");
        }
        if let Some(connection) = connection {
            let _ = write!(head, "Connection: {connection}\r\n");
        }
        head.push_str(&self.fields);
        head.push_str("\r\n");
        head.into_bytes()
    }
}
