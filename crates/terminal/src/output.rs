//! Writing to people without being held up by them: a pipe that nobody reads, a terminal held by
//! Ctrl-S, a full disk. What cannot be written within a moment is lost, nobody waits again until there
//! is room, and then it is said how many lines were lost.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::write;

/// Standard output: the first line, and what steps 01 and 07 show.
pub(crate) static STDOUT: Output = Output::new("/proc/self/fd/1");
/// Standard error: the log, and what is wrong with the server itself.
pub(crate) static STDERR: Output = Output::new("/proc/self/fd/2");

/// How long, in milliseconds, and how often a line is tried. While another process writes to the same
/// terminal, there is no room in it.
const PATIENCE: u8 = 100;
const MOST_TRIES: usize = 100;

pub(crate) struct Output {
    path: &'static str,
    /// The same pipe or terminal, opened anew, and how many lines are lost: a counter in the kernel,
    /// eventfd(2), which forked children share.
    opened: OnceLock<(Option<File>, Option<EventFd>)>,
}

impl Output {
    const fn new(path: &'static str) -> Output {
        Output { path, opened: OnceLock::new() }
    }

    /// Opens it, before there is a child that could open one of its own.
    pub(crate) fn open(&self) -> &(Option<File>, Option<EventFd>) {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let counter = || EventFd::from_value_and_flags(0, flags).ok();
        self.opened.get_or_init(|| (reopen(self.path), counter()))
    }

    /// Writes one or more whole lines, or loses them. One write for all of them, so that the lines of
    /// many processes do not mix.
    pub(crate) fn write(&self, text: &str) {
        let (_, lost) = self.open();
        let count = lost.as_ref().and_then(|lost| lost.read().ok()).unwrap_or(0);
        let note = format!("({count} lines are lost here: they could not be written)\n");
        if (count > 0 && !self.try_write(&note, 0)) || !self.try_write(text, PATIENCE) {
            let _ = lost.as_ref().map(|lost| lost.write(count + 1));
        }
    }

    fn try_write(&self, text: &str, patience: u8) -> bool {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let fd = match &self.open().0 {
            Some(file) => file.as_fd(),
            None if self.path == STDOUT.path => stdout.as_fd(),
            None => stderr.as_fd(),
        };
        let mut rest = text.as_bytes();
        for _ in 0..MOST_TRIES {
            if rest.is_empty() {
                return true;
            }
            if poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], patience) == Ok(0) {
                return false;
            }
            match write(fd, rest) {
                Ok(length) => rest = &rest[length..],
                // There was room, and somebody else was quicker.
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => return false,
            }
        }
        false
    }
}

/// A pipe or a terminal, which may be full: setting O_NONBLOCK on the descriptor itself would set it for
/// everybody who shares it, the shell too. A file is never full in that way, and has a place to write to,
/// which would be lost.
fn reopen(path: &str) -> Option<File> {
    let kind = std::fs::metadata(path).ok()?.file_type();
    let file = OpenOptions::new().write(true).custom_flags(O_NONBLOCK | O_NOCTTY).open(path).ok();
    file.filter(|_| kind.is_fifo() || kind.is_char_device())
}

/// Writes to standard output, or loses the text: `print!` would panic.
pub fn print(text: &str) {
    STDOUT.write(text);
}
