//! A response, and its head as bytes.

use std::time::{Duration, SystemTime};

use crate::problem::Problem;
use crate::status::Status;

/// What an answer will be: a status, fields and a body. The fields that every answer has, or that
/// follow from the body, are added by [`Response::push_head`].
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: Status,
    /// Field lines, each with its line end.
    pub fields: String,
    /// The bytes after the head.
    pub body: Body,
}

/// The body of a response.
#[derive(Debug)]
pub enum Body {
    /// None, and no Content-Length either: a 304.
    Absent,
    /// A page that the server itself has written.
    Page(String),
    /// So many bytes, which are somewhere else: in a file.
    Elsewhere(u64),
}

impl Response {
    /// A small page in HTML that says in plain words what was wrong.
    pub fn page(status: Status, reason: &str) -> Response {
        let text = status.text;
        let reason = reason.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <title>{text}</title>\n<h1>{text}</h1>\n<p>{reason}</p>\n</html>\n"
        );
        Response { status, fields: String::new(), body: Body::Page(html) }
            .with_field("Content-Type", "text/html; charset=utf-8")
    }

    /// Adds a field. Name and value are the server's own words and hold no line end.
    pub fn with_field(mut self, name: &str, value: &str) -> Response {
        debug_assert!(!name.contains(['\r', '\n']) && !value.contains(['\r', '\n']));
        self.fields += &format!("{name}: {value}\r\n");
        self
    }

    /// Appends the head: status line, fields and the empty line (RFC 9112 §4). `date` is the present
    /// moment in the format of RFC 9110 §5.6.7, and `connection` the value of the Connection field, when
    /// the answer needs one.
    ///
    /// Every answer has `Cache-Control: no-cache`: it may be kept, and is asked about before it is shown again.
    /// Without it a browser keeps a style sheet for a tenth of its age, and a 301 for good.
    pub fn push_head(
        &self,
        bytes: &mut Vec<u8>,
        date: &str,
        server: &str,
        connection: Option<&str>,
    ) {
        let mut push = |pieces: &[&str]| {
            pieces.iter().for_each(|piece| bytes.extend_from_slice(piece.as_bytes()));
        };
        push(&["HTTP/1.1 ", self.status.text, "\r\nDate: ", date, "\r\nServer: ", server]);
        push(&["\r\nCache-Control: no-cache\r\n"]);
        match &self.body {
            Body::Absent => {}
            Body::Page(page) => push(&["Content-Length: ", &page.len().to_string(), "\r\n"]),
            Body::Elsewhere(length) => push(&["Content-Length: ", &length.to_string(), "\r\n"]),
        }
        if let Some(connection) = connection {
            push(&["Connection: ", connection, "\r\n"]);
        }
        push(&[&self.fields, "\r\n"]);
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Response {
        Response::page(problem.status, &problem.reason)
    }
}

/// A moment in the format of RFC 9110 §5.6.7, which has room for the years 1970 to 9999.
pub fn http_date(moment: SystemTime) -> String {
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    httpdate::fmt_http_date(moment.clamp(SystemTime::UNIX_EPOCH, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_wrong_still_gives_a_date() {
        let epoch = SystemTime::UNIX_EPOCH;
        assert_eq!(http_date(epoch - Duration::from_secs(9)), "Thu, 01 Jan 1970 00:00:00 GMT");
        let year_10_000 = epoch + Duration::from_secs(253_402_300_800);
        assert_eq!(http_date(year_10_000), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
