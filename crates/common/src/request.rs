//! Bytes in, a request out. Nothing here touches a socket.
//!
//! The rule is RFC 9112; where it leaves a choice, ours is the strict one: what two readers could
//! understand differently is refused, with a sentence that says why.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memchr;
use regex::bytes::Regex;

use crate::response::Status;

/// The longest request line, in bytes, without its line end. RFC 9112 §3 asks for 8,000 at least.
pub const MAX_REQUEST_LINE: usize = 8192;
/// The longest header section, in bytes, with its line ends.
pub const MAX_FIELDS_LENGTH: usize = 16 * 1024;
/// The most header fields in a request.
pub const MAX_FIELDS: usize = 128;
/// The longest line of a chunked body that gives a size or a trailer field, in bytes.
pub(crate) const MAX_CHUNK_LINE: usize = 1024;

/// Method, one space, target, one space, version: RFC 9112 §3. A method is a token (RFC 9110
/// §5.6.2) and a target is visible ASCII.
static REQUEST_LINE: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?-u)^([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) (HTTP/[0-9]\.[0-9])$"));
/// Name, colon, value: RFC 9112 §5. No space before the colon, no control character in the value.
static FIELD_LINE: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?-u)^([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t -~\x80-\xff]*)$"));
/// Host and port as in RFC 3986 §3.2: a name, an IPv4 address or an IPv6 address in brackets.
static HOST: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?-u)^(\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::([0-9]*))?$",
    )
});
/// A target in absolute form, RFC 9112 §3.2.2: scheme, authority, then path and query.
static ABSOLUTE_FORM: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?-u)^(?i:https?)://([^/?]+)((?:/[^?]*)?)(?:\?(.*))?$"));
/// Transfer codings of which the last is chunked: RFC 9112 §6.3, item 4.
static ENDS_CHUNKED: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?-u)^[!-~\t ]*,[\t ]*(?i:chunked)$"));

/// The patterns are constants of this file, and a test compiles every one.
#[allow(clippy::expect_used)]
pub(crate) fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern")
}

/// Compiles the patterns of all modules.
pub(crate) fn compile_patterns() {
    for pattern in [&REQUEST_LINE, &FIELD_LINE, &HOST, &ABSOLUTE_FORM, &ENDS_CHUNKED] {
        LazyLock::force(pattern);
    }
    crate::body::compile_patterns();
    crate::site::compile_patterns();
}

/// What a parser made of the bytes so far. "Not enough yet" is an ordinary value, not an error.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// More bytes are needed.
    Incomplete,
    /// All of it is there.
    Complete(T),
    /// Whatever follows, it is wrong.
    Bad(Problem),
}

/// Why a request is refused: the status to answer with, and a sentence for the person who sent it.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// 400, 414, 431, 501 or 505.
    pub status: Status,
    /// Plain words; may quote what was sent, so it is to be escaped where it is shown.
    pub reason: Cow<'static, str>,
}

impl Problem {
    pub(crate) fn new(status: Status, reason: impl Into<Cow<'static, str>>) -> Problem {
        Problem { status, reason: reason.into() }
    }

    pub(crate) fn bad_request(reason: impl Into<Cow<'static, str>>) -> Problem {
        Problem::new(Status::BAD_REQUEST, reason)
    }
}

/// The head of a request, borrowed from the bytes it was parsed from.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// A token, in the case it was sent in: methods are case-sensitive (RFC 9110 §9.1).
    pub method: &'a str,
    /// The target as it was sent.
    pub target: &'a str,
    /// The path of the target, still percent-encoded; it begins with a slash.
    pub path: &'a str,
    /// What follows the first question mark of the target.
    pub query: Option<&'a str>,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1; what is higher counts as 1 (RFC 9110 §2.5).
    pub minor_version: u8,
    /// The header fields.
    pub fields: Fields<'a>,
    /// How the end of the body is found.
    pub body: BodyLength,
    /// Whether the client expects further answers on this connection: RFC 9112 §9.3.
    pub keep_alive: bool,
    /// Whether the client waits for "100 Continue" before it sends its body: RFC 9110 §10.1.1.
    pub expects_continue: bool,
    /// How many bytes the head took, with an empty line before it.
    pub length: usize,
}

/// How the end of a request body is found: RFC 9112 §6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// So many bytes; without Content-Length, none.
    Bytes(u64),
    /// In chunks, each with its size before it.
    Chunked,
}

/// Header fields, each on a line of its own, already found to be well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Names and values in the order they were sent; no white space around a value.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (line, after) = split_at_byte(rest, b'\n')?;
            rest = after;
            Some(split_field(line))
        })
    }

    /// The value of the first field with this name, in any case.
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The values of all fields with this name, in any case.
    pub fn all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }
}

/// Reads the head of one request: the request line, the header fields and the empty line.
///
/// A fault is reported as soon as it can be seen, without waiting for the empty line.
pub fn parse(bytes: &[u8]) -> Parsed<Request<'_>> {
    // RFC 9112 §2.2: a server should ignore at least one empty line before the request line. Our
    // rule: exactly one.
    let skipped = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    match parse_head(&bytes[skipped..]) {
        Ok(Some(request)) => {
            Parsed::Complete(Request { length: skipped + request.length, ..request })
        }
        Ok(None) => Parsed::Incomplete,
        Err(problem) => Parsed::Bad(problem),
    }
}

/// Whether there is a point in parsing `bytes` when their first `parsed` bytes were
/// [`Parsed::Incomplete`]: a line may have been completed, or a limit passed. Parsing begins at the front
/// each time, and a head that drips in a byte at a time would otherwise cost a parse for each.
pub fn is_worth_parsing(bytes: &[u8], parsed: usize) -> bool {
    let head = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let limit = match memchr(b'\n', head) {
        None => MAX_REQUEST_LINE + 1,
        Some(end) => end + 1 + MAX_FIELDS_LENGTH + 1,
    };
    parsed == 0 || head.len() > limit || memchr(b'\n', &bytes[parsed..]).is_some()
}

fn parse_head(bytes: &[u8]) -> Result<Option<Request<'_>>, Problem> {
    let line = match take_line(bytes, MAX_REQUEST_LINE)? {
        Line::Complete(line) => line,
        Line::Incomplete => return check_partial_request_line(bytes).map(|()| None),
        Line::TooLong => {
            return Err(Problem::new(
                Status::URI_TOO_LONG,
                format!("The request line is longer than {MAX_REQUEST_LINE} bytes."),
            ));
        }
    };
    let start = parse_request_line(line)?;
    let fields_start = line.len() + 2;
    let Some((fields, facts)) = parse_fields(&bytes[fields_start..])? else { return Ok(None) };
    let body = facts.body_length(start.minor_version)?;
    match facts.hosts {
        0 if start.minor_version > 0 => {
            return Err(Problem::bad_request(
                "HTTP/1.1 needs a Host field (RFC 9112, section 3.2).",
            ));
        }
        0 | 1 => {}
        _ => return Err(Problem::bad_request("There is more than one Host field.")),
    }
    Ok(Some(Request {
        keep_alive: !facts.close && (start.minor_version > 0 || facts.keep_alive),
        expects_continue: facts.expects_continue && start.minor_version > 0,
        fields,
        body,
        length: fields_start + fields.0.len() + 2,
        ..start
    }))
}

/// What stands in the request line; the rest of the request is filled in by the caller.
fn parse_request_line(line: &[u8]) -> Result<Request<'_>, Problem> {
    if !REQUEST_LINE.is_match(line) {
        return Err(why_not_a_request_line(line));
    }
    // It is visible ASCII with two spaces, so none of this can fail.
    let mut words = str::from_utf8(line).unwrap_or_default().split(' ');
    let [method, target, version] = [(); 3].map(|()| words.next().unwrap_or_default());
    let Some(minor) = version.strip_prefix("HTTP/1.") else {
        return Err(Problem::new(
            Status::VERSION_NOT_SUPPORTED,
            "This server speaks HTTP/1.1 and HTTP/1.0.",
        ));
    };
    let (path, query) = parse_target(method, target)?;
    Ok(Request {
        method,
        target,
        path,
        query,
        minor_version: u8::from(minor != "0"),
        fields: Fields(&[]),
        body: BodyLength::Bytes(0),
        keep_alive: false,
        expects_continue: false,
        length: 0,
    })
}

/// Path and query of a target: RFC 9112 §3.2 has four forms, and each method allows some of them.
fn parse_target<'a>(method: &str, target: &'a str) -> Result<(&'a str, Option<&'a str>), Problem> {
    if target.contains('#') {
        return Err(Problem::bad_request(
            "A target has no '#': a browser keeps the fragment to itself (RFC 9112, section 3.2.1).",
        ));
    }
    if target.starts_with('/') {
        return Ok(match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        });
    }
    // A tunnel's target is host:port, and "*" asks about the whole server. We offer neither method,
    // and the answer to both is the same whatever the path.
    if method == "CONNECT" || (method == "OPTIONS" && target == "*") {
        return Ok(("/", None));
    }
    let not_a_target = || {
        Problem::bad_request(
            "The target must begin with '/', or be a whole http:// URL (RFC 9112, section 3.2).",
        )
    };
    let parts = ABSOLUTE_FORM.captures(target.as_bytes()).ok_or_else(not_a_target)?;
    let authority = &parts[1];
    if authority.starts_with(b":") || !HOST.is_match(authority) {
        return Err(not_a_target());
    }
    let path = parts.get(2).map_or("", |path| &target[path.range()]);
    let query = parts.get(3).map(|query| &target[query.range()]);
    Ok((if path.is_empty() { "/" } else { path }, query))
}

/// What the header fields say about framing, the connection and the host.
#[derive(Default)]
struct Facts<'a> {
    hosts: usize,
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

fn parse_fields(bytes: &[u8]) -> Result<Option<(Fields<'_>, Facts<'_>)>, Problem> {
    let mut facts = Facts::default();
    let mut length = 0;
    for count in 0.. {
        let too_large = |what: String| {
            Problem::new(Status::FIELDS_TOO_LARGE, format!("The header fields are {what}."))
        };
        let line = match take_line(&bytes[length..], MAX_FIELDS_LENGTH.saturating_sub(length))? {
            Line::Complete(line) => line,
            Line::Incomplete => return Ok(None),
            Line::TooLong => {
                return Err(too_large(format!("longer than {MAX_FIELDS_LENGTH} bytes")));
            }
        };
        if line.is_empty() {
            break;
        }
        if count == MAX_FIELDS {
            return Err(too_large(format!("more than {MAX_FIELDS}")));
        }
        if !is_field_line(line) {
            return Err(why_not_a_field_line(line));
        }
        facts.note(line)?;
        length += line.len() + 2;
    }
    Ok(Some((Fields(&bytes[..length]), facts)))
}

pub(crate) fn is_field_line(line: &[u8]) -> bool {
    FIELD_LINE.is_match(line)
}

impl<'a> Facts<'a> {
    fn note(&mut self, line: &'a [u8]) -> Result<(), Problem> {
        let (name, value) = split_field(line);
        if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
            if !HOST.is_match(value) {
                return Err(Problem::bad_request(
                    "The Host field is not a host name or address with an optional port.",
                ));
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            only_one(&mut self.content_length, value, "Content-Length")?;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            only_one(&mut self.transfer_encoding, value, "Transfer-Encoding")?;
        } else if name.eq_ignore_ascii_case(b"connection") {
            for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if name.eq_ignore_ascii_case(b"expect") {
            self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
        }
        Ok(())
    }

    /// RFC 9112 §6.3 lists how the length of a body is found. Our rule: where the list lets a server
    /// repair a message, this one refuses it, because the next server may repair it differently
    /// (request smuggling, RFC 9112 §11.2).
    fn body_length(&self, minor_version: u8) -> Result<BodyLength, Problem> {
        let Some(coding) = self.transfer_encoding else {
            return self.content_length.map_or(Ok(BodyLength::Bytes(0)), parse_content_length);
        };
        if self.content_length.is_some() {
            return Err(Problem::bad_request(
                "Transfer-Encoding and Content-Length contradict each other.",
            ));
        }
        if minor_version == 0 {
            return Err(Problem::bad_request("HTTP/1.0 has no Transfer-Encoding."));
        }
        if coding.eq_ignore_ascii_case(b"chunked") {
            Ok(BodyLength::Chunked)
        } else if ENDS_CHUNKED.is_match(coding) {
            Err(Problem::new(
                Status::NOT_IMPLEMENTED,
                "The only transfer coding that this server knows is 'chunked'.",
            ))
        } else {
            Err(Problem::bad_request("The last transfer coding of a request must be 'chunked'."))
        }
    }
}

/// Two fields of a kind that decides where a message ends are two opinions, even when they agree.
fn only_one<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8], name: &str) -> Result<(), Problem> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Problem::bad_request(format!("There is more than one {name} field."))),
    }
}

/// Digits and nothing else: `parse` alone would also take a leading plus sign.
fn parse_content_length(value: &[u8]) -> Result<BodyLength, Problem> {
    let digits = Some(value).filter(|value| value.iter().all(u8::is_ascii_digit));
    digits
        .and_then(|digits| str::from_utf8(digits).ok()?.parse().ok())
        .map(BodyLength::Bytes)
        .ok_or_else(|| Problem::bad_request("The Content-Length is not a number of bytes."))
}

pub(crate) enum Line<'a> {
    /// The line without its line end.
    Complete(&'a [u8]),
    Incomplete,
    TooLong,
}

/// The first line of `bytes`, up to its CRLF.
///
/// RFC 9112 §2.2 lets a server take a bare LF for a line end. Our rule: it is refused, since the
/// next server may not, and the answer says how to send CRLF.
pub(crate) fn take_line(bytes: &[u8], limit: usize) -> Result<Line<'_>, Problem> {
    let Some(end) = memchr(b'\n', bytes) else {
        // One byte more than the limit may be the CR.
        return Ok(if bytes.len() > limit + 1 { Line::TooLong } else { Line::Incomplete });
    };
    match bytes[..end].strip_suffix(b"\r") {
        Some(line) if line.len() > limit => Ok(Line::TooLong),
        Some(line) => Ok(Line::Complete(line)),
        None => Err(Problem::bad_request(
            "A line ends with LF alone, and HTTP ends lines with CR LF. \
             With netcat, type 'nc -C'; with printf, write \\r\\n.",
        )),
    }
}

/// A client that does not speak HTTP may never send a line end, and would be waited for until the
/// timeout. What cannot become a request line is refused at once.
fn check_partial_request_line(bytes: &[u8]) -> Result<(), Problem> {
    let line = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if line.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        Ok(())
    } else {
        Err(why_not_a_request_line(line))
    }
}

fn why_not_a_request_line(line: &[u8]) -> Problem {
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    Problem::bad_request(match words[..] {
        _ if line.starts_with(&[0x16, 0x03]) => {
            "This looks like TLS. The address begins with http:// here, not https://."
        }
        _ if !line.iter().all(|byte| matches!(byte, b' '..=b'~')) => {
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

fn why_not_a_field_line(line: &[u8]) -> Problem {
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

fn split_field(line: &[u8]) -> (&[u8], &[u8]) {
    let (name, value) = split_at_byte(line, b':').unwrap_or((line, b""));
    (name, value.trim_ascii())
}

fn split_at_byte(bytes: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr(byte, bytes)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accept(bytes: &[u8]) -> Request<'_> {
        match parse(bytes) {
            Parsed::Complete(request) => request,
            other => panic!("{}: {other:?}", bytes.escape_ascii()),
        }
    }

    fn refuse(bytes: &[u8]) -> Problem {
        match parse(bytes) {
            Parsed::Bad(problem) => problem,
            other => panic!("{}: {other:?}", bytes.escape_ascii()),
        }
    }

    #[test]
    fn every_pattern_compiles() {
        compile_patterns();
    }

    #[test]
    fn a_request_is_taken_apart() {
        let bytes = b"GET /a%20b?c=d HTTP/1.1\r\nHost: h:8080\r\nX:  y z\t\r\nx: 2\r\n\r\nrest";
        let request = accept(bytes);
        assert_eq!((request.method, request.target), ("GET", "/a%20b?c=d"));
        assert_eq!((request.path, request.query), ("/a%20b", Some("c=d")));
        assert_eq!(request.fields.get("x"), Some(&b"y z"[..]));
        assert_eq!(request.fields.all("X").count(), 2);
        assert_eq!(request.fields.get("y"), None);
        assert_eq!(&bytes[request.length..], b"rest");
    }

    #[test]
    fn one_empty_line_before_a_request_is_skipped_and_counted() {
        let bytes = b"\r\nGET / HTTP/1.0\r\n\r\n";
        assert_eq!(accept(bytes).length, bytes.len());
        refuse(b"\r\n\r\nGET / HTTP/1.0\r\n\r\n");
    }

    #[test]
    fn whether_the_connection_goes_on() {
        let keeps = |version: &str, fields: &str| {
            accept(format!("GET / HTTP/{version}\r\nHost: h\r\n{fields}\r\n").as_bytes()).keep_alive
        };
        assert!(keeps("1.1", ""));
        assert!(!keeps("1.0", ""));
        assert!(keeps("1.0", "Connection: keep-alive\r\n"));
        assert!(!keeps("1.1", "Connection: foo , CLOSE\r\n"));
        assert!(!keeps("1.1", "Connection: keep-alive\r\nConnection: close\r\n"));
    }

    #[test]
    fn how_the_body_ends() {
        let body = |fields: &str| {
            accept(format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes()).body
        };
        assert_eq!(body(""), BodyLength::Bytes(0));
        assert_eq!(body("Content-Length: 00012\r\n"), BodyLength::Bytes(12));
        assert_eq!(body("transfer-encoding: CHUNKED\r\n"), BodyLength::Chunked);
    }

    #[test]
    fn each_fault_has_its_status() {
        let long_line = [b"GET /".as_slice(), &[b'a'; 9000]].concat();
        let long_field = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; 17_000]].concat();
        let many_fields = format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(129));
        let fields = |fields: &str| format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n");
        let cases: [(Vec<u8>, u16); 14] = [
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), 400),
            (b"GET / HTTP/1.1\n".to_vec(), 400),
            (b"GET /\r\n".to_vec(), 400),
            (b"GET  / HTTP/1.1\r\n".to_vec(), 400),
            (b"\x16\x03\x01".to_vec(), 400),
            (b"GET * HTTP/1.1\r\n".to_vec(), 400),
            (b"GET http:///x HTTP/1.1\r\n".to_vec(), 400),
            (b"GET / HTTP/2.0\r\n".to_vec(), 505),
            (long_line, 414),
            (long_field, 431),
            (many_fields.into_bytes(), 431),
            (fields("Content-Length: +5").into_bytes(), 400),
            (fields("Transfer-Encoding: gzip").into_bytes(), 400),
            (fields("Transfer-Encoding: gzip, chunked").into_bytes(), 501),
        ];
        for (bytes, status) in cases {
            assert_eq!(refuse(&bytes).status.code, status, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_target_of_8000_bytes_passes() {
        let target = format!("/{}", "a".repeat(7999));
        let bytes = format!("OPTIONS {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(accept(bytes.as_bytes()).target, target);
    }

    /// Bytes that are often a request and often just not one.
    fn nearly_a_request() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just("GET / HTTP/1.1\r\nHost: h\r\n".to_owned()),
            Just("\r\n".to_owned()),
            "[A-Z]{1,8} (/|http://)[a-z/?.%0-9]{0,12} HTTP/1\\.[01]\r\n",
            "[A-Za-z-]{1,12}:[ \t]{0,2}[ -~\t]{0,12}\r\n",
            "Content-Length: [0-9+-]{0,3}\r\n",
            "Connection: (close|keep-alive|x, close)\r\n",
        ];
        let pieces =
            prop::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat().into_bytes());
        (pieces, prop::option::of((any::<prop::sample::Index>(), any::<u8>()))).prop_map(
            |(mut bytes, change)| {
                if let (Some((index, byte)), false) = (change, bytes.is_empty()) {
                    let at = index.index(bytes.len());
                    bytes[at] = byte;
                }
                bytes
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Another parser, written by others, reads the same into what this one accepts.
        #[test]
        fn httparse_agrees_with_what_is_accepted(bytes in nearly_a_request()) {
            if let Parsed::Complete(request) = parse(&bytes) {
                let mut fields = [httparse::EMPTY_HEADER; 256];
                let mut other = httparse::Request::new(&mut fields);
                let parsed = other.parse(&bytes);
                prop_assert_eq!(parsed, Ok(httparse::Status::Complete(request.length)));
                prop_assert_eq!(other.method, Some(request.method));
                prop_assert_eq!(other.path, Some(request.target));
                let theirs: Vec<_> =
                    other.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
                prop_assert_eq!(request.fields.iter().collect::<Vec<_>>(), theirs);
            }
        }

        /// What is complete was incomplete one byte before, at every length.
        #[test]
        fn a_prefix_of_a_request_is_incomplete(bytes in nearly_a_request()) {
            if let Parsed::Complete(request) = parse(&bytes) {
                for end in 0..request.length {
                    prop_assert_eq!(parse(&bytes[..end]), Parsed::Incomplete);
                }
            }
        }

        /// Whenever parsing is skipped, it would have found nothing new.
        #[test]
        fn skipping_a_parse_loses_nothing(
            head in prop_oneof!["\\PC{0,20}", Just("GET / HTTP/1.1\r\nHost: h\r\nX: ".to_owned())],
            filler in 0_usize..20_000,
            more in 1_usize..2_000,
        ) {
            let mut bytes = head.into_bytes();
            bytes.resize(bytes.len() + filler, b'a');
            let parsed = bytes.len();
            if parse(&bytes) == Parsed::Incomplete {
                bytes.resize(parsed + more, b'a');
                let is_skipped = !is_worth_parsing(&bytes, parsed);
                prop_assert!(!is_skipped || parse(&bytes) == Parsed::Incomplete);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }
    }
}
