//! An answer on its way out: what of it has left, and what is still to come.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use message::response::http_date;
use message::{Body, Response, Status};

use crate::document::{Content, Part, SMALL_FILE};
use crate::stream::Stream;

/// How much of a large file is asked to be sent at a time, in bytes.
const SEND_SIZE: u64 = 256 * 1024;

/// The bytes of one answer. At most one head and [`SMALL_FILE`] bytes of it are in memory.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    /// The head, and as much of the body as goes out with it.
    bytes: Vec<u8>,
    /// How many of these bytes have left.
    written: usize,
    /// What the kernel sends from a file, after these bytes.
    rest: Option<Part>,
    head_length: u64,
    /// How many bytes have left in all.
    sent: u64,
}

impl Answer {
    /// Makes the head, and reads as much of a file as goes out with it. The answer to a HEAD has no
    /// body. `connection` is the value of the Connection field, when the answer needs one.
    ///
    /// # Errors
    /// The file cannot be read, or has become shorter. Nothing has left yet.
    pub(crate) fn new(
        response: &Response,
        part: Option<Part>,
        is_head: bool,
        server: &str,
        connection: Option<&str>,
    ) -> io::Result<Answer> {
        let mut bytes = Vec::with_capacity(4096);
        push_head(response, &mut bytes, server, connection);
        let head_length = bytes.len() as u64;
        let mut rest = part.filter(|_| !is_head);
        if let Some(part) = &mut rest {
            take_first_bytes(part, &mut bytes)?;
        }
        // What has no more to send is let go.
        let rest = rest.filter(|part| part.length > 0);
        if let (Body::Page(page), false) = (&response.body, is_head) {
            bytes.extend_from_slice(page.as_bytes());
        }
        Ok(Answer { status: response.status, bytes, written: 0, rest, head_length, sent: 0 })
    }

    /// Writes once: the head and what of the body goes with it, then the rest of a large file. Returns
    /// how many bytes have left; 0 when the file has become shorter than the head promised.
    ///
    /// # Errors
    /// The stream would block, or the client is gone.
    pub(crate) fn write_to(&mut self, stream: &mut impl Stream) -> io::Result<usize> {
        let length = match &mut self.rest {
            Some(Part { document, offset, length }) if self.written == self.bytes.len() => {
                // This memory is not needed any longer.
                (self.bytes, self.written) = (Vec::new(), 0);
                let Content::Disk(file) = &document.content else { return Ok(0) };
                let sent = stream.send_file(file, *offset, SEND_SIZE.min(*length))?;
                *offset += sent as u64;
                *length -= sent as u64;
                sent
            }
            _ => {
                let written = stream.write(&self.bytes[self.written..])?;
                self.written += written;
                written
            }
        };
        self.sent += length as u64;
        Ok(length)
    }

    pub(crate) fn has_left(&self) -> bool {
        self.written == self.bytes.len() && self.rest.as_ref().is_none_or(|part| part.length == 0)
    }

    /// How many bytes of the body have left.
    pub(crate) fn body_sent(&self) -> u64 {
        self.sent.saturating_sub(self.head_length)
    }
}

/// Moves the bytes of a small file, or the first ones of a large file, from `part` to `bytes`.
fn take_first_bytes(part: &mut Part, bytes: &mut Vec<u8>) -> io::Result<()> {
    let length = SMALL_FILE.min(usize::try_from(part.length).unwrap_or(SMALL_FILE));
    match &part.document.content {
        Content::Memory(content) => {
            bytes.extend_from_slice(&content[part.offset as usize..][..length]);
        }
        Content::Disk(file) => {
            let start = bytes.len();
            bytes.resize(start + length, 0);
            file.read_exact_at(&mut bytes[start..], part.offset)?;
        }
    }
    part.offset += length as u64;
    part.length -= length as u64;
    Ok(())
}

/// The head with the date in it, which is made anew once a second.
fn push_head(response: &Response, bytes: &mut Vec<u8>, server: &str, connection: Option<&str>) {
    static LAST: Mutex<(u64, String)> = Mutex::new((0, String::new()));
    let now = SystemTime::now();
    let second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.0 != second || last.1.is_empty() {
        *last = (second, http_date(now));
    }
    response.push_head(bytes, &last.1, server, connection);
}
