//! A request and a folder in, a response out.
//!
//! What is served: regular files below the folder, and a folder's `index.html`. What is not: a list
//! of a folder's files, names that begin with a dot, and anything outside the folder.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use percent_encoding::percent_decode_str;
use regex::bytes::Regex;

use crate::buffer;
use crate::document::{Document, Kept, Validators};
use crate::options::Options;
use crate::request::{
    Fields, Parsed, Request, compile_patterns as compile_all_patterns, parse, regex,
};
use crate::response::{Body, Response, Status};

/// The methods of RFC 9110 and RFC 5789 that a server of files has no use for. They are known, so the
/// answer is 405 and not 501.
const OTHER_METHODS: [&str; 7] = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"];

/// One entity tag, with a W/ before it when it is weak: RFC 9110 §8.8.3.
static ENTITY_TAG: LazyLock<Regex> =
    LazyLock::new(|| regex(r#"(?-u)(?:W/)?"[!\x23-\x7e\x80-\xff]*""#));
/// A single range of bytes: RFC 9110 §14.1.2. Several at once are answered with the whole file.
static BYTE_RANGE: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?-u)^(?i:bytes)=([0-9]*)-([0-9]*)$"));

pub(crate) fn compile_patterns() {
    for pattern in [&ENTITY_TAG, &BYTE_RANGE] {
        LazyLock::force(pattern);
    }
}

/// A folder that is served.
#[derive(Debug)]
pub struct Site {
    root: OwnedFd,
    kept: Kept,
}

impl Site {
    /// Opens the folder that the reader asked for. When it cannot be served, ends the process with
    /// status 2 and a line that says why.
    ///
    /// Compiles the patterns too, and answers one request for nobody, so that whatever is made at
    /// first use is there: a child process would have to make it again, and a coroutine has too small
    /// a stack for it.
    pub fn open_or_exit(options: &Options) -> &'static Site {
        compile_all_patterns();
        match Site::open(options.root()) {
            Ok(site) => {
                if let Parsed::Complete(request) =
                    parse(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                {
                    let (mut head, input) = (buffer::take(), buffer::take());
                    site.respond(&request).push_head(&mut head, options.name(), None);
                    buffer::give_back(head);
                    buffer::give_back(input);
                }
                Box::leak(Box::new(site))
            }
            Err(error) => options.exit_cannot_serve(&error),
        }
    }

    /// Opens a folder.
    ///
    /// # Errors
    /// There is no such folder, or it may not be read.
    pub fn open(root: &Path) -> io::Result<Site> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        Ok(Site { root: open(root, flags, Mode::empty())?, kept: Kept::default() })
    }

    /// For a loop that learns of many requests at once: call it when they are known, and a small file
    /// is looked up once for all of them. They had come before that look, so each gets what it would
    /// have got from a look of its own. Without these calls each request has its own.
    pub fn begin_round(&self) {
        self.kept.begin_round();
    }

    /// Answers a request. A large file is opened here and read later, as it is sent.
    pub fn respond(&self, request: &Request<'_>) -> Response {
        if !matches!(request.method, "GET" | "HEAD") {
            return refuse_method(request.method);
        }
        if let Some(document) = self.kept.get(&self.root, request.path) {
            return respond_with(request, document);
        }
        let relative = match relative_path(request.path) {
            Ok(relative) => relative,
            Err(response) => return response,
        };
        let file = match self.open_file(&relative) {
            Ok(file) => file,
            Err(error) => return refuse_file(error),
        };
        match file.metadata() {
            Ok(metadata) if metadata.is_file() => {
                let document = Document::new(&relative, file, &metadata);
                respond_with(request, self.kept.offer(request.path, &relative, document))
            }
            // A relative link in a page is resolved against the page's folder, so a folder's own
            // address must end with a slash.
            Ok(metadata) if metadata.is_dir() && !request.path.ends_with('/') => {
                let query = request.query.map(|query| format!("?{query}")).unwrap_or_default();
                Response::page(
                    Status::MOVED_PERMANENTLY,
                    "This is a folder; its address ends with a slash.",
                )
                .with_field("Location", &format!("{}/{query}", request.path))
            }
            // A device, a named pipe: something that has no end or no length.
            Ok(_) => not_found(),
            Err(error) => refuse_file(Errno::from_raw(error.raw_os_error().unwrap_or_default())),
        }
    }

    /// Opens a file below the root and nowhere else: the kernel itself refuses a path that leaves
    /// the folder, by `..` or by a link, even when links change while it looks. See openat2(2).
    fn open_file(&self, relative: &[u8]) -> Result<File, Errno> {
        // O_NONBLOCK: opening a named pipe must not wait for somebody to write into it.
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        // EAGAIN says that a folder was renamed while the kernel looked; it may be renamed again.
        let mut tries = 0;
        loop {
            match openat2(&self.root, relative, how) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if tries < 100 => tries += 1,
                result => return result.map(File::from),
            }
        }
    }
}

/// The path below the root that a target names, decoded; a folder's path gets its `index.html`.
fn relative_path(path: &str) -> Result<Vec<u8>, Response> {
    let mut relative = Vec::with_capacity(path.len() + "index.html".len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if segment.is_empty() && is_last {
            relative.extend_from_slice(b"index.html");
            break;
        }
        if !escapes_are_whole(segment) {
            return Err(Response::page(
                Status::BAD_REQUEST,
                "In a target, '%' is followed by two hexadecimal digits (RFC 3986, section 2.1).",
            ));
        }
        let start = relative.len();
        relative.extend(percent_decode_str(segment));
        let name = &relative[start..];
        // '..' is one of the names that begin with a dot. A slash or NUL that was percent-encoded is
        // part of a name, and no file has a name like that.
        if name.is_empty() || name.starts_with(b".") || name.contains(&b'/') || name.contains(&0) {
            return Err(not_found());
        }
        if !is_last {
            relative.push(b'/');
        }
    }
    Ok(relative)
}

/// Whether each '%' has its two digits. RFC 3986 leaves no other reading, and percent-encoding would
/// pass a broken escape through as it stands.
fn escapes_are_whole(segment: &str) -> bool {
    segment.split('%').skip(1).all(|after| {
        let digits = after.as_bytes();
        digits.len() >= 2 && digits[..2].iter().all(u8::is_ascii_hexdigit)
    })
}

fn refuse_method(method: &str) -> Response {
    if OTHER_METHODS.contains(&method) {
        Response::page(
            Status::METHOD_NOT_ALLOWED,
            "This server gives files away and takes none: GET and HEAD are all it does.",
        )
        .with_field("Allow", "GET, HEAD")
    } else {
        Response::page(
            Status::NOT_IMPLEMENTED,
            "This server does not know the method. Methods are in capitals, such as GET.",
        )
    }
}

fn not_found() -> Response {
    Response::page(Status::NOT_FOUND, "There is nothing at this address.")
}

fn refuse_file(error: Errno) -> Response {
    match error {
        Errno::EACCES | Errno::EPERM => {
            Response::page(Status::FORBIDDEN, "The server may not read this file.")
        }
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EAGAIN => Response::page(
            Status::SERVICE_UNAVAILABLE,
            "The server has too many files open. Try again in a moment.",
        ),
        // EXDEV is the kernel's word for a path that leaves the root.
        Errno::ENOENT
        | Errno::ENOTDIR
        | Errno::EXDEV
        | Errno::ELOOP
        | Errno::ENAMETOOLONG
        | Errno::EINVAL
        | Errno::ENXIO
        | Errno::EISDIR
        | Errno::EOVERFLOW => not_found(),
        _ => Response::page(Status::INTERNAL_SERVER_ERROR, "The server could not open this file."),
    }
}

fn respond_with(request: &Request<'_>, document: Arc<Document>) -> Response {
    let size = document.size();
    match evaluate_conditions(request.fields, &document.validators) {
        Condition::Passed => {}
        Condition::NotModified => {
            return Response::new(Status::NOT_MODIFIED, Body::Absent)
                .with_field_lines(&document.validators.fields);
        }
        Condition::Failed => {
            return Response::page(
                Status::PRECONDITION_FAILED,
                "The file is not the version that the request is about.",
            );
        }
    }
    match requested_range(request, &document.validators, size) {
        Range::Whole => Response::new(Status::OK, Body::part(&document, 0, size)),
        Range::Part { first, last } => {
            let part = Body::part(&document, first, last - first + 1);
            Response::new(Status::PARTIAL_CONTENT, part)
                .with_field("Content-Range", &format!("bytes {first}-{last}/{size}"))
        }
        Range::Unsatisfiable => {
            Response::page(Status::RANGE_NOT_SATISFIABLE, "The file has no bytes in this range.")
                .with_field("Content-Range", &format!("bytes */{size}"))
        }
    }
}

enum Condition {
    Passed,
    NotModified,
    Failed,
}

/// RFC 9110 §13.2.2: a condition on the tag goes before the one on the date, and replaces it.
fn evaluate_conditions(fields: Fields<'_>, validators: &Validators) -> Condition {
    let strong = |tag: &[u8]| tag == validators.tag.as_bytes();
    let weak = |tag: &[u8]| strong(tag.strip_prefix(b"W/").unwrap_or(tag));
    if fields.get("If-Match").is_some() {
        if !any_tag(fields, "If-Match", strong) {
            return Condition::Failed;
        }
    } else if let Some(date) = date_field(fields, "If-Unmodified-Since")
        && validators.modified > date
    {
        return Condition::Failed;
    }
    if fields.get("If-None-Match").is_some() {
        if any_tag(fields, "If-None-Match", weak) {
            return Condition::NotModified;
        }
    } else if let Some(date) = date_field(fields, "If-Modified-Since")
        && validators.modified <= date
    {
        return Condition::NotModified;
    }
    Condition::Passed
}

/// Whether a tag in the list is the right one; `*` stands for any.
fn any_tag(fields: Fields<'_>, name: &str, is_right: impl Fn(&[u8]) -> bool) -> bool {
    fields
        .all(name)
        .any(|list| list == b"*" || ENTITY_TAG.find_iter(list).any(|tag| is_right(tag.as_bytes())))
}

/// A date in one of the three formats of RFC 9110 §5.6.7. Anything else is ignored, as §13.1.3 asks.
fn date_field(fields: Fields<'_>, name: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(str::from_utf8(fields.get(name)?).ok()?).ok()
}

enum Range {
    Whole,
    Part { first: u64, last: u64 },
    Unsatisfiable,
}

/// RFC 9110 §14.2: a Range field is for GET, and one that is not understood is ignored.
fn requested_range(request: &Request<'_>, validators: &Validators, size: u64) -> Range {
    let mut ranges = request.fields.all("Range");
    let (Some(range), None, "GET") = (ranges.next(), ranges.next(), request.method) else {
        return Range::Whole;
    };
    if !if_range_holds(request.fields, validators) {
        return Range::Whole;
    }
    let Some(parts) = BYTE_RANGE.captures(range) else { return Range::Whole };
    let first = parse_position(&parts[1]);
    let last = parse_position(&parts[2]);
    match (first, last) {
        (None, None) => Range::Whole,
        (Some(first), Some(last)) if last < first => Range::Whole,
        (Some(first), _) if first >= size => Range::Unsatisfiable,
        (Some(first), last) => Range::Part { first, last: last.unwrap_or(u64::MAX).min(size - 1) },
        // "-500" means the last 500 bytes.
        (None, Some(suffix)) if suffix == 0 || size == 0 => Range::Unsatisfiable,
        (None, Some(suffix)) => Range::Part { first: size.saturating_sub(suffix), last: size - 1 },
    }
}

/// A number too large for 64 bits is larger than any file, which is all that matters here.
fn parse_position(digits: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(digits).ok().filter(|digits| !digits.is_empty())?;
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// RFC 9110 §13.1.5: "a part if the file is still this one, else the whole file". Our rule: only a tag
/// says so. A date would have to be known as strong, and a file may change twice within its second.
fn if_range_holds(fields: Fields<'_>, validators: &Validators) -> bool {
    fields.get("If-Range").is_none_or(|tag| tag == validators.tag.as_bytes())
}
