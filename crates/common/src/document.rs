//! The files of a site: what is known of each, and, for small ones, their bytes.
//!
//! A small file that has been at rest for a while is kept in memory. Whoever asks for it again still
//! gets what is on the disk: one system call says whether the file at that path is the same as ever,
//! and if it is not, it is opened anew.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

/// The size, in bytes, up to which a file is small: it goes out together with its head, in one write,
/// and may be kept in memory.
pub const SMALL_FILE: usize = 64 * 1024;
/// How many files are kept at most: 16 MiB in all.
const MAX_KEPT: usize = 256;
/// How long a file must have been at rest before it is kept. The clock behind a file's times moves in
/// steps, 2 s at the coarsest (FAT), so that a second change within one step would not be seen.
const AT_REST: Duration = Duration::from_secs(3);

/// One version of a file.
#[derive(Debug)]
pub struct Document {
    pub(crate) version: Version,
    pub(crate) validators: Validators,
    /// The fields that go with its bytes: Content-Type, Accept-Ranges and those of the validators.
    pub(crate) fields: String,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Memory(Vec<u8>),
    Disk(File),
}

impl Document {
    /// `relative` is the path below the root, of which only the name's ending matters.
    pub(crate) fn new(relative: &[u8], file: File, metadata: &Metadata) -> Document {
        let version = Version::new(metadata);
        let validators = Validators::new(metadata, &version);
        let content_type = content_type(relative);
        let fields = format!(
            "Content-Type: {content_type}\r\nAccept-Ranges: bytes\r\n{}",
            validators.fields
        );
        Document { version, validators, fields, content: Content::Disk(file) }
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.version.size
    }

    /// The file, unless its bytes are in memory.
    pub fn file(&self) -> Option<&File> {
        match &self.content {
            Content::Memory(_) => None,
            Content::Disk(file) => Some(file),
        }
    }

    /// Appends the bytes from `offset` on to `bytes`, so many.
    ///
    /// # Errors
    /// The file cannot be read, or has become shorter.
    pub fn append_to(&self, bytes: &mut Vec<u8>, offset: u64, length: usize) -> io::Result<()> {
        match &self.content {
            Content::Memory(content) => {
                let start = offset as usize;
                bytes.extend_from_slice(&content[start..start + length]);
                Ok(())
            }
            Content::Disk(file) => {
                let start = bytes.len();
                bytes.resize(start + length, 0);
                file.read_exact_at(&mut bytes[start..], offset)
            }
        }
    }

    /// Takes its bytes into memory, if it is small, at rest, and can be read; says whether it did.
    fn take_into_memory(&mut self) -> bool {
        if self.size() > SMALL_FILE as u64 || !self.version.is_at_rest() {
            return false;
        }
        let mut bytes = Vec::new();
        let is_read = self.append_to(&mut bytes, 0, self.size() as usize).is_ok();
        if is_read {
            self.content = Content::Memory(bytes);
        }
        is_read
    }
}

/// What tells one version of one file from every other.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Version {
    device: u64,
    file_number: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// The last change of status. Programs can set the other time, and cannot set this one.
    changed: (i64, i64),
}

impl Version {
    fn new(metadata: &Metadata) -> Version {
        Version {
            device: metadata.dev(),
            file_number: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The version that is there now: one system call, which opens nothing.
    fn look_up(root: &OwnedFd, relative: &CString) -> nix::Result<Version> {
        let found = fstatat(root, relative.as_c_str(), AtFlags::empty())?;
        Ok(Version {
            device: found.st_dev,
            file_number: found.st_ino,
            size: found.st_size as u64,
            modified: (found.st_mtime, found.st_mtime_nsec),
            changed: (found.st_ctime, found.st_ctime_nsec),
        })
    }

    fn is_at_rest(&self) -> bool {
        let now = since_epoch(SystemTime::now()).as_secs() as i64;
        now - self.changed.0.max(self.modified.0) > AT_REST.as_secs() as i64
    }
}

/// What a client can name a version by: RFC 9110 §8.8.
#[derive(Debug)]
pub(crate) struct Validators {
    /// Last-Modified: whole seconds, and never later than now (RFC 9110 §8.8.2.1).
    pub(crate) modified: SystemTime,
    /// A strong tag.
    pub(crate) tag: String,
    /// The fields Last-Modified and ETag: names, values and line ends.
    pub(crate) fields: String,
}

impl Validators {
    fn new(metadata: &Metadata, version: &Version) -> Validators {
        let now = SystemTime::now();
        let seconds = since_epoch(metadata.modified().unwrap_or(now).min(now)).as_secs();
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let Version { file_number, size, modified: (m, m_nsec), changed: (c, c_nsec), .. } =
            version;
        let tag = format!("\"{size:x}-{file_number:x}-{m:x}.{m_nsec:x}-{c:x}.{c_nsec:x}\"");
        let date = httpdate::fmt_http_date(modified);
        let fields = format!("Last-Modified: {date}\r\nETag: {tag}\r\n");
        Validators { modified, tag, fields }
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// By the ending of the name. Text is UTF-8: a file does not say, and a browser would guess.
fn content_type(relative: &[u8]) -> String {
    let path = Path::new(OsStr::from_bytes(relative));
    let media_type = mime_guess::from_path(path).first_or_octet_stream();
    if media_type.type_() == "text" {
        format!("{media_type}; charset=utf-8")
    } else {
        media_type.to_string()
    }
}

/// The documents that are kept in memory, by the path of the request as it was sent.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    entries: RwLock<HashMap<String, Entry>>,
    /// 0 as long as nobody counts rounds.
    round: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    relative: CString,
    document: Arc<Document>,
    looked_up_in: AtomicU64,
}

impl Kept {
    /// See [`crate::Site::begin_round`].
    pub(crate) fn begin_round(&self) {
        self.round.fetch_add(1, Ordering::Relaxed);
    }

    /// The document for this path, if it is kept and is what the path still leads to. What was opened
    /// below the root, and has the same number and times as then, is what was read then: there is no
    /// need to resolve the path as carefully again.
    pub(crate) fn get(&self, root: &OwnedFd, path: &str) -> Option<Arc<Document>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let Entry { relative, document, looked_up_in } = entries.get(path)?;
        let round = self.round.load(Ordering::Relaxed);
        if round == 0 || looked_up_in.load(Ordering::Relaxed) != round {
            if Version::look_up(root, relative).ok()? != document.version {
                return None;
            }
            looked_up_in.store(round, Ordering::Relaxed);
        }
        Some(Arc::clone(document))
    }

    /// Keeps the document if it can be kept.
    pub(crate) fn offer(
        &self,
        path: &str,
        relative: &[u8],
        mut document: Document,
    ) -> Arc<Document> {
        let is_in_memory = document.take_into_memory();
        let document = Arc::new(document);
        if is_in_memory && let Ok(relative) = CString::new(relative) {
            let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            // To begin again is simple, and no order in which clients ask makes it worse than that.
            if entries.len() >= MAX_KEPT {
                entries.clear();
            }
            let document = Arc::clone(&document);
            let looked_up_in = AtomicU64::new(0);
            entries.insert(path.to_owned(), Entry { relative, document, looked_up_in });
        }
        document
    }
}
