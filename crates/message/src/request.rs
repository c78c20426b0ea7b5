//! Bytes in, a request out.
//!
//! Where RFC 9112 leaves a choice, ours is the strict one: what two readers could understand
//! differently is refused, with a sentence that says why.

use memchr::memchr;

use crate::grammar::{ENDS_CHUNKED, FIELD_LINE, HOST, PATH, REQUEST_LINE};
use crate::problem::{self, Problem};
use crate::status::Status;
use crate::target;

/// The longest request line, in bytes, without its line end. RFC 9112 §3 asks for 8,000 at least.
pub const MAX_REQUEST_LINE: usize = 8192;
/// The longest header section, in bytes, with its line ends.
pub const MAX_FIELDS_LENGTH: usize = 16 * 1024;
/// The most header fields in a request.
pub const MAX_FIELDS: usize = 128;

/// The head of a request, borrowed from the bytes it was parsed from.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// A token, in the case it was sent in: methods are case-sensitive (RFC 9110 §9.1).
    pub method: &'a str,
    /// The target as it was sent.
    pub target: &'a str,
    /// The path of the target, still percent-encoded; it begins with a slash.
    pub path: &'a str,
    /// Whether the version is HTTP/1.0 and not 1.1 or higher.
    pub is_http_1_0: bool,
    /// The header fields.
    pub fields: Fields<'a>,
    /// How the end of the body is found; `None` when there is no body.
    pub body: Option<BodyLength>,
    /// Whether the client expects further answers on this connection: RFC 9112 §9.3.
    pub keep_alive: bool,
    /// Whether the client waits for "100 Continue" before it sends its body: RFC 9110 §10.1.1.
    pub expects_continue: bool,
    /// Whether a field asks for less than the whole answer: `Range`, or one whose name begins with
    /// `If-`.
    pub is_conditional: bool,
    /// How many bytes the head took, with an empty line before it.
    pub length: usize,
}

/// How the end of a request body is found: RFC 9112 §6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// So many bytes, and more than none.
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
        self.0.split_inclusive(|&byte| byte == b'\n').map(split_field)
    }

    /// The values of all fields with this name, in any case.
    pub fn all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }
}

/// Reads the head of one request: the request line, the header fields and the empty line. `None`
/// says that more bytes are needed.
///
/// # Errors
/// Whatever follows, it is wrong: 400, 414, 431, 501 or 505. A fault is reported as soon as it can be
/// seen, without waiting for the empty line.
pub fn parse(bytes: &[u8]) -> Result<Option<Request<'_>>, Problem> {
    // RFC 9112 §2.2: a server should ignore at least one empty line before the request line. Our
    // rule: exactly one.
    let skipped = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let head = &bytes[skipped..];
    let too_long = || {
        let reason = format!("The request line is longer than {MAX_REQUEST_LINE} bytes.");
        Problem::new(Status::URI_TOO_LONG, reason)
    };
    let Some(line) = take_line(head, MAX_REQUEST_LINE, too_long)? else {
        return problem::check_partial_request_line(head).map(|()| None);
    };
    if !REQUEST_LINE.is_match(line) {
        return problem::not_a_request_line(line);
    }
    // It is visible ASCII with two spaces, so none of this can fail.
    let line = str::from_utf8(line).unwrap_or_default();
    let (method, rest) = line.split_once(' ').unwrap_or_default();
    let (target, version) = rest.split_once(' ').unwrap_or_default();
    if !version.starts_with("HTTP/1.") {
        let reason = "This server speaks HTTP/1.1 and HTTP/1.0.";
        return Err(Problem::new(Status::VERSION_NOT_SUPPORTED, reason));
    }
    // A minor version above 1 counts as 1: RFC 9110 §2.5.
    let is_http_1_0 = version.ends_with('0');
    let path = parse_target(method, target)?;

    let fields_start = line.len() + 2;
    let Some(facts) = parse_fields(&head[fields_start..])? else { return Ok(None) };
    let body = facts.body_length(is_http_1_0)?;
    if facts.host.is_none() && !is_http_1_0 {
        return Problem::bad_request("HTTP/1.1 needs a Host field (RFC 9112, section 3.2).");
    }
    Ok(Some(Request {
        method,
        target,
        path,
        is_http_1_0,
        fields: Fields(&head[fields_start..][..facts.length]),
        body,
        keep_alive: !facts.close && (facts.keep_alive || !is_http_1_0),
        expects_continue: facts.expects_continue && !is_http_1_0,
        is_conditional: facts.is_conditional,
        length: skipped + fields_start + facts.length + 2,
    }))
}

/// Whether there is a point in parsing `bytes` when their first `parsed` bytes were not enough: a line
/// has been completed, or a limit may be passed. Parsing begins at the front each time, and a head that
/// drips in a byte at a time would otherwise cost a parse for each.
pub fn is_worth_parsing(bytes: &[u8], parsed: usize) -> bool {
    parsed == 0 || bytes.len() > MAX_REQUEST_LINE || memchr(b'\n', &bytes[parsed..]).is_some()
}

/// The path of a target: what stands before a question mark.
fn parse_target<'a>(method: &str, target: &'a str) -> Result<&'a str, Problem> {
    if target.contains('#') {
        return Problem::bad_request(
            "A target has no '#': a browser keeps the fragment to itself (RFC 9112, section 3.2.1).",
        );
    }
    let target =
        if target.starts_with('/') { target } else { target::origin_form(method, target)? };
    let path = target.split('?').next().unwrap_or_default();
    // RFC 3986 leaves no other reading of a '%', and percent-encoding would pass a broken escape
    // through as it stands.
    if path.contains('%') && !PATH.is_match(path.as_bytes()) {
        return Problem::bad_request(
            "In a target, '%' is followed by two hexadecimal digits (RFC 3986, section 2.1).",
        );
    }
    Ok(if path.is_empty() { "/" } else { path })
}

/// What the header fields say about framing, the connection and the host.
#[derive(Default)]
struct Facts<'a> {
    /// How many bytes the fields take, without the empty line.
    length: usize,
    host: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    is_conditional: bool,
}

/// Reads field lines up to the empty line; `None` when that has not come yet.
fn parse_fields(bytes: &[u8]) -> Result<Option<Facts<'_>>, Problem> {
    let too_large =
        |what| Problem::new(Status::FIELDS_TOO_LARGE, format!("The header fields are {what}."));
    let mut facts = Facts::default();
    for count in 0.. {
        let left = MAX_FIELDS_LENGTH.saturating_sub(facts.length);
        let too_long = || too_large(format!("longer than {MAX_FIELDS_LENGTH} bytes"));
        let Some(line) = take_line(&bytes[facts.length..], left, too_long)? else {
            return Ok(None);
        };
        if line.is_empty() {
            break;
        }
        if count == MAX_FIELDS {
            return Err(too_large(format!("more than {MAX_FIELDS}")));
        }
        if !FIELD_LINE.is_match(line) {
            return problem::not_a_field_line(line);
        }
        facts.note(line)?;
        facts.length += line.len() + 2;
    }
    Ok(Some(facts))
}

impl<'a> Facts<'a> {
    fn note(&mut self, line: &'a [u8]) -> Result<(), Problem> {
        let (name, value) = split_field(line);
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        for (known, slot) in [
            ("Host", &mut self.host),
            ("Content-Length", &mut self.content_length),
            ("Transfer-Encoding", &mut self.transfer_encoding),
        ] {
            // Two fields of such a kind are two opinions, even when they agree.
            if is(known) && slot.replace(value).is_some() {
                return Problem::bad_request(format!("There is more than one {known} field."));
            }
        }
        if is("Host") && !HOST.is_match(value) {
            let reason = "The Host field is not a host name or address with an optional port.";
            return Problem::bad_request(reason);
        }
        if is("Connection") {
            for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        let is_condition = name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"if-"));
        self.is_conditional |= is_condition || is("Range");
        self.expects_continue |= is("Expect") && value.eq_ignore_ascii_case(b"100-continue");
        Ok(())
    }

    /// RFC 9112 §6.3 lists how the length of a body is found. Our rule: where the list lets a server
    /// repair a message, this one refuses it, because the next server may repair it differently
    /// (request smuggling, RFC 9112 §11.2).
    fn body_length(&self, is_http_1_0: bool) -> Result<Option<BodyLength>, Problem> {
        if let Some(coding) = self.transfer_encoding {
            return if self.content_length.is_some() {
                Problem::bad_request("Transfer-Encoding and Content-Length contradict each other.")
            } else if is_http_1_0 {
                Problem::bad_request("HTTP/1.0 has no Transfer-Encoding.")
            } else if coding.eq_ignore_ascii_case(b"chunked") {
                Ok(Some(BodyLength::Chunked))
            } else if ENDS_CHUNKED.is_match(coding) {
                Err(Problem::new(
                    Status::NOT_IMPLEMENTED,
                    "The only transfer coding that this server knows is 'chunked'.",
                ))
            } else {
                Problem::bad_request("The last transfer coding of a request must be 'chunked'.")
            };
        }
        let Some(digits) = self.content_length else { return Ok(None) };
        // Digits and nothing else: `parse` alone would also take a leading plus sign.
        let digits = str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
        match digits.and_then(|digits| digits.parse().ok()) {
            Some(0) => Ok(None),
            Some(length) => Ok(Some(BodyLength::Bytes(length))),
            None => Problem::bad_request("The Content-Length is not a number of bytes."),
        }
    }
}

/// The first line of `bytes`, without its CRLF; `None` when its end has not come yet.
///
/// RFC 9112 §2.2 lets a server take a bare LF for a line end. Our rule: it is refused, since the
/// next server may not, and the answer says how to send CRLF.
///
/// # Errors
/// The line is longer than `limit` bytes, or ends with LF alone.
pub(crate) fn take_line(
    bytes: &[u8],
    limit: usize,
    too_long: impl FnOnce() -> Problem,
) -> Result<Option<&[u8]>, Problem> {
    let end = memchr(b'\n', bytes);
    // One byte more than the limit may be the CR.
    if end.unwrap_or(bytes.len()) > limit + 1 {
        return Err(too_long());
    }
    let Some(end) = end else { return Ok(None) };
    let Some(line) = bytes[..end].strip_suffix(b"\r") else {
        return Problem::bad_request(
            "A line ends with LF alone, and HTTP ends lines with CR LF. \
             With netcat, type 'nc -C'; with printf, write \\r\\n.",
        );
    };
    Ok(Some(line))
}

/// Name and value of a field line, which may have its line end.
fn split_field(line: &[u8]) -> (&[u8], &[u8]) {
    let colon = memchr(b':', line).unwrap_or(line.len());
    (&line[..colon], line[colon..].strip_prefix(b":").unwrap_or_default().trim_ascii())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accept(bytes: &[u8]) -> Request<'_> {
        match parse(bytes) {
            Ok(Some(request)) => request,
            other => panic!("{}: {other:?}", bytes.escape_ascii()),
        }
    }

    fn refuse(bytes: &[u8]) -> Problem {
        match parse(bytes) {
            Err(problem) => problem,
            other => panic!("{}: {other:?}", bytes.escape_ascii()),
        }
    }

    #[test]
    fn a_request_is_taken_apart() {
        let bytes = b"GET /a%20b?c=d HTTP/1.1\r\nHost: h:8080\r\nX:  y z\t\r\nx: 2\r\n\r\nrest";
        let request = accept(bytes);
        assert_eq!((request.method, request.target), ("GET", "/a%20b?c=d"));
        assert_eq!(request.path, "/a%20b");
        assert_eq!(request.fields.all("x").collect::<Vec<_>>(), [&b"y z"[..], b"2"]);
        assert_eq!(request.fields.all("y").next(), None);
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
        assert_eq!(body(""), None);
        assert_eq!(body("Content-Length: 00012\r\n"), Some(BodyLength::Bytes(12)));
        assert_eq!(body("transfer-encoding: CHUNKED\r\n"), Some(BodyLength::Chunked));
    }

    #[test]
    fn a_condition_is_noticed() {
        let is_conditional = |fields: &str| {
            accept(format!("GET / HTTP/1.0\r\n{fields}\r\n").as_bytes()).is_conditional
        };
        assert!(is_conditional("if-None-match: *\r\n") && is_conditional("RANGE: bytes=0-\r\n"));
        assert!(!is_conditional("If: x\r\nI: x\r\nRanges: x\r\n"));
    }

    #[test]
    fn each_fault_has_its_status() {
        let long_line = [b"GET /".as_slice(), &[b'a'; 9000]].concat();
        let long_field = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; 17_000]].concat();
        let many_fields = format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(129));
        let fields = |fields: &str| format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n");
        let cases: [(Vec<u8>, u16); 15] = [
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), 400),
            (b"GET / HTTP/1.1\n".to_vec(), 400),
            (b"GET /\r\n".to_vec(), 400),
            (b"GET  / HTTP/1.1\r\n".to_vec(), 400),
            (b"\x16\x03\x01".to_vec(), 400),
            (b"GET * HTTP/1.1\r\n".to_vec(), 400),
            (b"GET http:///x HTTP/1.1\r\n".to_vec(), 400),
            (b"GET /%zz HTTP/1.1\r\n".to_vec(), 400),
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
            if let Ok(Some(request)) = parse(&bytes) {
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
            if let Ok(Some(request)) = parse(&bytes) {
                for end in 0..request.length {
                    prop_assert_eq!(parse(&bytes[..end]), Ok(None));
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
            if parse(&bytes) == Ok(None) {
                bytes.resize(parsed + more, b'a');
                let is_skipped = !is_worth_parsing(&bytes, parsed);
                prop_assert!(!is_skipped || parse(&bytes) == Ok(None));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }
    }
}
