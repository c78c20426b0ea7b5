//! The processes that serve now: who they are, that they are asked how they ended, and that they do
//! not stay behind.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::process;
use std::time::{Duration, Instant};

use common::Options;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getppid};

/// The children that run. One that has ended stays in the kernel's table, as a zombie, until its
/// parent has asked how it ended.
pub(crate) struct Children {
    running: HashSet<Pid>,
    /// Readable when a child has ended.
    ended: SignalFd,
}

impl Children {
    /// Begins to watch for children that end.
    pub(crate) fn watch_or_exit(options: &Options) -> Children {
        let signals = SigSet::from(Signal::SIGCHLD);
        let ended = signals.thread_block().and_then(|()| {
            SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        });
        match ended {
            Ok(ended) => Children { running: HashSet::new(), ended },
            Err(error) => {
                options.warn(format_args!("cannot watch for children that end: {error}"));
                process::exit(1);
            }
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.running.len()
    }

    pub(crate) fn add(&mut self, child: Pid) {
        self.running.insert(child);
    }

    /// Asks for every child that has ended. Two hundred may end behind one signal: signals of a kind
    /// do not queue, signal(7), so the answer lies in asking until there is none left.
    pub(crate) fn reap(&mut self) {
        while let Ok(Some(_)) = self.ended.read_signal() {}
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return,
                Ok(ended) => {
                    ended.pid().map(|child| self.running.remove(&child));
                }
                Err(Errno::EINTR) => {}
                // No child at all. Who starts this program with SIGCHLD ignored makes the kernel
                // reap by itself, and then nobody else says so.
                Err(_) => return self.running.clear(),
            }
        }
    }

    /// Lets the children finish their answers, for `timeout` at most. Who is not done by then dies with
    /// this process.
    pub(crate) fn finish(mut self, timeout: Duration) {
        self.reap();
        for &child in &self.running {
            let _ = kill(child, Signal::SIGTERM);
        }
        let deadline = Instant::now() + timeout;
        loop {
            self.reap();
            let left = deadline.saturating_duration_since(Instant::now());
            if self.running.is_empty() || left.is_zero() {
                return;
            }
            let mut fds = [PollFd::new(self.ended.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        }
    }
}

impl AsFd for Children {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }
}

/// Lets the kernel end this child when its parent dies, however it dies.
pub(crate) fn die_with(parent: Pid) {
    let asked = set_pdeathsig(Signal::SIGKILL);
    // The parent may have died before the kernel was asked.
    if asked.is_err() || getppid() != parent {
        process::exit(1);
    }
}
