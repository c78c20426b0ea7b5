//! Optional reading: one version of one file, and what is known of it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::str::Utf8Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use message::conditions::Validators;
use message::response::http_date;
use nix::sys::stat::FileStat;

/// The size, in bytes, up to which a file is small: it goes out together with its head, in one write,
/// and may be kept in memory.
pub const SMALL_FILE: usize = 64 * 1024;
/// How long a file must have been at rest before it is kept. The clock behind a file's times moves in
/// steps, 2 s at the coarsest (FAT), so that a second change within one step would not be seen.
const AT_REST: i64 = 3;

/// One version of a file.
#[derive(Debug)]
pub struct Document {
    pub(crate) stat: FileStat,
    pub(crate) validators: Validators,
    /// Last-Modified and ETag, each a line with its line end.
    pub(crate) validator_fields: String,
    /// All fields that go with its bytes: Content-Type, Accept-Ranges and those above.
    pub(crate) fields: String,
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    Memory(Vec<u8>),
    Disk(File),
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

impl Document {
    /// `name` is the path below the root, of which only the ending matters. A small file is read here.
    ///
    /// # Errors
    /// The file cannot be read, or has become shorter.
    pub(crate) fn new(name: &[u8], file: File, stat: FileStat) -> io::Result<Document> {
        let FileStat { st_size, st_mtime, st_mtime_nsec, .. } = stat;
        // Neither the file's number nor the time of its last change of status: machines with the same
        // files agree. A version that may not be the only one with these numbers is not the same for ever.
        let (weak, new) = if is_at_rest(st_mtime) { ("", "") } else { ("W/", "-new") };
        let tag = format!("{weak}\"{st_size:x}-{st_mtime:x}.{st_mtime_nsec:x}{new}\"");
        let seconds = st_mtime.clamp(0, seconds_now());
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds as u64);
        let validator_fields = format!("Last-Modified: {}\r\nETag: {tag}\r\n", http_date(modified));
        let validators = Validators { modified, tag };

        let path = Path::new(OsStr::from_bytes(name));
        let media_type = mime_guess::from_path(path).first_or_octet_stream();
        let (is_small, is_text) = (st_size <= SMALL_FILE as i64, media_type.type_() == "text");
        let length = if is_small || is_text { SMALL_FILE.min(st_size as usize) } else { 0 };
        let mut start = vec![0; length];
        file.read_exact_at(&mut start, 0)?;
        let charset = if is_text && is_utf8(&start) { "; charset=utf-8" } else { "" };
        // The one ending for which the media type is that of what has been compressed.
        let is_encoded = name.to_ascii_lowercase().ends_with(b".svgz");
        let encoding = if is_encoded { "Content-Encoding: gzip\r\n" } else { "" };
        let fields = format!(
            "Content-Type: {media_type}{charset}\r\n{encoding}Accept-Ranges: bytes\r\n{validator_fields}"
        );
        let content = if is_small { Content::Memory(start) } else { Content::Disk(file) };
        Ok(Document { stat, validators, validator_fields, fields, content })
    }

    /// Whether it is small, and what is known of it tells its version from every other.
    pub(crate) fn can_be_kept(&self) -> bool {
        let is_in_memory = matches!(self.content, Content::Memory(_));
        is_in_memory && is_at_rest(self.stat.st_ctime.max(self.stat.st_mtime))
    }
}

/// Whether so long has passed since a moment, in seconds of the Unix clock, that a change now would have
/// another time.
fn is_at_rest(moment: i64) -> bool {
    seconds_now().saturating_sub(moment) > AT_REST
}

fn seconds_now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as i64
}

/// Whether text is UTF-8, going by its first [`SMALL_FILE`] bytes. Other text is left to what it says
/// of itself, or to the browser. ESC is how ISO-2022-JP begins, which is ASCII byte by byte.
fn is_utf8(start: &[u8]) -> bool {
    let is_wrong = |error: Utf8Error| error.valid_up_to() + 4 <= SMALL_FILE;
    !str::from_utf8(start).is_err_and(is_wrong) && !start.contains(&0x1b)
}
