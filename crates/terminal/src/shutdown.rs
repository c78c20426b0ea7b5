//! Ctrl-C (SIGINT) and SIGTERM: the first one asks the server to finish, the second one ends it.
//!
//! The signals are a descriptor that becomes readable, signalfd(2): something a server can wait for
//! together with its clients, in place of a handler that runs at any moment.

use std::iter;
use std::os::fd::{AsFd, BorrowedFd};
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::output::STDERR;

/// A process has its signals once, so this is the one thing in the course that is global.
static SIGNALS: OnceLock<SignalFd> = OnceLock::new();
static HAS_BEGUN: AtomicBool = AtomicBool::new(false);

/// Blocks both signals, for this thread and all that it will start. A blocked signal stays pending, and
/// the descriptor shows it.
pub(crate) fn watch() -> nix::Result<()> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block()?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let _ = SIGNALS.set(SignalFd::with_flags(&signals, flags)?);
    Ok(())
}

/// Whether SIGINT or SIGTERM has come. Any thread may ask, and a forked child, which has signals of its
/// own; the main thread acts on it with [`begin`].
pub fn is_requested() -> bool {
    let has_come = |fd: &SignalFd| poll(&mut [readable(fd.as_fd())], PollTimeout::ZERO) == Ok(1);
    HAS_BEGUN.load(Ordering::Relaxed) || SIGNALS.get().is_some_and(has_come)
}

/// Takes the signal away and says that the server is about to finish. The next signal ends it at once.
pub fn begin() {
    let Some(signals) = SIGNALS.get() else { return };
    if HAS_BEGUN.swap(true, Ordering::Relaxed) {
        return;
    }
    let _ = signals.read_signal();
    STDERR.write("stopping: answers that have begun go out first; once more ends at once\n");
    // A thread, since this one may be busy with a client; and not the signal's default action, which
    // process 1 of a container does not have, nor a process whose parent ignored the signal.
    let watcher = thread::Builder::new().name("second signal".into());
    if watcher.spawn(|| end_at_next_signal(signals)).is_err() {
        let _ = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]).thread_unblock();
    }
}

fn end_at_next_signal(signals: &SignalFd) {
    loop {
        let _ = poll(&mut [readable(signals.as_fd())], PollTimeout::NONE);
        if let Ok(Some(signal)) = signals.read_signal() {
            // Where there is a default action, it lets the parent see which signal it was.
            if let Ok(signal) = Signal::try_from(signal.ssi_signo as i32) {
                let _ = SigSet::from(signal).thread_unblock();
                let _ = raise(signal);
            }
            process::exit(128 + signal.ssi_signo as i32);
        }
    }
}

/// The descriptor that is readable once a signal has come.
///
/// # Panics
/// Before [`crate::Options::parse`].
#[allow(clippy::expect_used)]
pub fn signals() -> BorrowedFd<'static> {
    SIGNALS.get().expect("Options::parse comes first").as_fd()
}

/// Waits until one of `fds` is readable or `pause` is over (true), or until a signal comes (false), on
/// which [`begin`] has acted then.
pub fn wait_for(fds: &[BorrowedFd<'_>], pause: Option<Duration>) -> bool {
    let timeout = pause.map_or(PollTimeout::NONE, |pause| {
        PollTimeout::try_from(pause + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
    });
    let mut fds: Vec<_> = iter::once(signals()).chain(fds.iter().copied()).map(readable).collect();
    // A wait that failed (EINTR, ENOMEM) is begun again.
    while poll(&mut fds, timeout).is_err() {}
    let is_asked_to_stop = fds[0].any().unwrap_or(false);
    if is_asked_to_stop {
        begin();
    }
    !is_asked_to_stop
}

fn readable(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}
