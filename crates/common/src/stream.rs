//! Optional reading: what a conversation asks of its stream.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::sys::sendfile::sendfile64;
use nix::sys::socket::{Shutdown, shutdown};

/// What a connection asks of its stream: to read, to write, to send a file, and to say that no more is
/// coming.
pub trait Stream: Read + Write {
    /// Sends bytes of a file from `offset` on, `length` at most, and returns how many; 0 when the file
    /// ends there.
    ///
    /// # Errors
    /// The file cannot be read, or the stream cannot be written to.
    fn send_file(&mut self, file: &File, offset: u64, length: u64) -> io::Result<usize>;

    /// Closes the writing half, so that the client sees the end of the answer.
    ///
    /// # Errors
    /// The client has gone already.
    fn finish_writing(&mut self) -> io::Result<()>;

    /// Announces a read or write at which "would block" is the end, since the client's time is over. A
    /// stream that is told what the kernel knows, a moment later, then asks the kernel itself.
    fn ask_anyway(&mut self) {}
}

/// Every socket, whichever library wraps it: the kernel moves the bytes itself, sendfile(2).
impl<S: Read + Write + AsFd> Stream for S {
    fn send_file(&mut self, file: &File, offset: u64, length: u64) -> io::Result<usize> {
        match sendfile64(self.as_fd(), file, Some(&mut (offset as i64)), length as usize) {
            // Some file systems and some containers have no sendfile.
            Err(Errno::EINVAL | Errno::ENOSYS) => copy_file(self, file, offset, length),
            result => Ok(result?),
        }
    }

    fn finish_writing(&mut self) -> io::Result<()> {
        Ok(shutdown(self.as_fd().as_raw_fd(), Shutdown::Write)?)
    }
}

/// Sends bytes of a file as [`Stream::send_file`] does, by reading and writing them.
///
/// # Errors
/// As there.
pub fn copy_file<W: Write>(to: &mut W, file: &File, offset: u64, length: u64) -> io::Result<usize> {
    let mut bytes = vec![0; length.min(64 * 1024) as usize];
    let length = file.read_at(&mut bytes, offset)?;
    to.write(&bytes[..length])
}
