//! A request and a folder in, a response out.
//!
//! What is served: regular files below the folder, and a folder's `index.html`. What is not: a list
//! of a folder's files, names that begin with a dot, and anything outside the folder.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use message::conditions::{Selected, select};
use message::target::file_name;
use message::{Body, Problem, Request, Response, Status};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, lstat};

use crate::document::{Document, Part};
use crate::memory::Memory;

/// The methods of RFC 9110 and RFC 5789 that a server of files has no use for. They are known, so the
/// answer is 405 and not 501.
const OTHER_METHODS: [&str; 7] = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"];

/// A folder that is served.
#[derive(Debug)]
pub struct Site {
    /// Followed for each request, so that a folder that takes its place is served from then on.
    root: PathBuf,
    /// What is kept of it.
    pub memory: Memory,
}

impl Site {
    /// Opens a folder. One that may be entered and not listed is enough.
    ///
    /// # Errors
    /// There is no such folder, or it may not be entered; or the kernel has no openat2(2), or a
    /// container forbids it.
    pub fn open(root: &Path) -> Result<Site, Errno> {
        let site = Site { root: root.to_owned(), memory: Memory::default() };
        site.open_beneath(b".", OFlag::O_PATH)?;
        Ok(site)
    }

    /// Answers a request: a response, and the part of a file that is its body unless it has one of its
    /// own. A large file is opened here and read later, as it is sent.
    pub fn respond(&self, request: &Request<'_>) -> (Response, Option<Part>) {
        let document = match self.find(request) {
            Ok(document) => document,
            Err(response) => return (response, None),
        };
        let size = document.stat.st_size as u64;
        let mut selected = Selected::Whole;
        if request.is_conditional {
            selected = select(request, &document.validators, size, SystemTime::now());
        }
        let mut fields = document.fields.clone();
        let (status, offset, length) = match selected {
            Selected::Whole => (Status::OK, 0, size),
            Selected::Part { first, last } => {
                fields += &format!("Content-Range: bytes {first}-{last}/{size}\r\n");
                (Status::PARTIAL_CONTENT, first, last - first + 1)
            }
            Selected::NotModified => {
                let fields = document.validator_fields.clone();
                let (status, body) = (Status::NOT_MODIFIED, Body::Absent);
                return (Response { status, fields, body }, None);
            }
            Selected::PreconditionFailed => {
                let reason = "The file is not the version that the request is about.";
                return (Response::page(Status::PRECONDITION_FAILED, reason), None);
            }
            Selected::RangeNotSatisfiable => {
                let reason = "The file has no bytes in this range.";
                let page = Response::page(Status::RANGE_NOT_SATISFIABLE, reason);
                return (page.with_field("Content-Range", &format!("bytes */{size}")), None);
            }
        };
        let response = Response { status, fields, body: Body::Elsewhere(length) };
        (response, Some(Part { document, offset, length }))
    }

    /// The file that a request asks for, or the answer that says why there is none.
    fn find(&self, request: &Request<'_>) -> Result<Arc<Document>, Response> {
        let Request { method, path, .. } = *request;
        if method != "GET" && method != "HEAD" {
            return Err(refuse_method(method));
        }
        if let Some(document) = self.memory.get(path, |name| self.look_up(name)) {
            return Ok(document);
        }
        let name = file_name(path)?;
        // O_NONBLOCK: opening a named pipe must not wait for somebody to write into it.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = self.open_beneath(&name, flags).map_err(refuse_file)?;
        let stat = fstat(&file).map_err(refuse_file)?;
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => {
                let document = Document::new(&name, File::from(file), stat)
                    .map_err(|_| refuse_file(Errno::EIO))?;
                Ok(self.memory.keep(path, name, document))
            }
            // A relative link in a page is resolved against the page's folder, so a folder's own
            // address must end with a slash.
            SFlag::S_IFDIR if !path.ends_with('/') => {
                let query = request.target.find('?').map_or("", |start| &request.target[start..]);
                let reason = "This is a folder; its address ends with a slash.";
                Err(Response::page(Status::MOVED_PERMANENTLY, reason)
                    .with_field("Location", &format!("{path}/{query}")))
            }
            // A device, a named pipe: something that has no end or no length.
            _ => Err(Problem::not_found().into()),
        }
    }

    /// What a path leads to now, for a look at a file that is kept in memory.
    fn look_up(&self, name: &[u8]) -> Option<FileStat> {
        // In the root itself only a link can lead out of it, and without one a single call is enough.
        if !name.contains(&b'/')
            && let Ok(stat) = lstat(&self.root.join(OsStr::from_bytes(name)))
            && stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits()
        {
            return Some(stat);
        }
        self.open_beneath(name, OFlag::O_PATH).and_then(fstat).ok()
    }

    /// Opens a file below the root and nowhere else: the kernel itself refuses a path that leaves
    /// the folder, by `..` or by a link, even when links change while it looks. See openat2(2).
    fn open_beneath(&self, name: &[u8], flags: OFlag) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let folder = OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_CLOEXEC;
        let root = open(&self.root, folder, Mode::empty())?;
        // EAGAIN says that a folder was renamed while the kernel looked; it may be renamed again.
        for _ in 0..100 {
            match openat2(&root, name, how) {
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                result => return result,
            }
        }
        Err(Errno::EAGAIN)
    }
}

fn refuse_method(method: &str) -> Response {
    if OTHER_METHODS.contains(&method) {
        let reason = "This server gives files away and takes none: GET and HEAD are all it does.";
        Response::page(Status::METHOD_NOT_ALLOWED, reason).with_field("Allow", "GET, HEAD")
    } else {
        let reason = "This server does not know the method. Methods are in capitals, such as GET.";
        Response::page(Status::NOT_IMPLEMENTED, reason)
    }
}

fn refuse_file(error: Errno) -> Response {
    let (status, reason) = match error {
        Errno::EACCES | Errno::EPERM => (Status::FORBIDDEN, "The server may not read this file."),
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EAGAIN => {
            let reason = "The server has too many files open. Try again in a moment.";
            (Status::SERVICE_UNAVAILABLE, reason)
        }
        // EXDEV is the kernel's word for a path that leaves the root.
        Errno::ENOENT
        | Errno::ENOTDIR
        | Errno::EXDEV
        | Errno::ELOOP
        | Errno::ENAMETOOLONG
        | Errno::EINVAL
        | Errno::ENXIO => return Problem::not_found().into(),
        _ => (Status::INTERNAL_SERVER_ERROR, "The server could not open this file."),
    };
    Response::page(status, reason)
}
