//! Step 04: a process per connection.

use std::collections::HashSet;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::process;
use std::time::{Duration, Instant};

use common::connection::turn_away;
use common::{Connection, Listener, Options, Progress, Site, Step, Worker};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

/// A process is heavy. Who comes when so many run gets a 503.
const MAX_CHILDREN: usize = 1000;

fn main() {
    let options =
        Options::parse(Step::with_files(env!("CARGO_PKG_NAME"), "a process per connection"));
    let site = Site::open_or_exit(options);
    let mut children = Children::watch_or_exit(options);
    let listener = Listener::bind_or_exit(options);

    while let Some(next) = listener.accept_or_event(Some(&children.ended)) {
        children.reap();
        let Some((client, address)) = next else { continue };
        let log = options.log(Worker::Process, address);
        if children.running.len() >= MAX_CHILDREN {
            turn_away(client, site, options, log);
            continue;
        }
        let parent = getpid();
        // SAFETY: this process has one thread, so no lock is held by a thread the child lacks.
        #[allow(unsafe_code)]
        match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                drop(listener);
                end_with(parent);
                serve(client, Connection::once(site, options, log), options);
                process::exit(0);
            }
            Ok(ForkResult::Parent { child }) => {
                children.running.insert(child);
                // The child has a copy of its own. As long as this one is open too, the client
                // never sees the end of the answer.
                drop(client);
            }
            Err(error) => {
                options.warn(format_args!("cannot fork: {error}"));
                turn_away(client, site, options, log);
            }
        }
    }
    children.finish(options.timeout);
}

/// One client, from its first byte to the last byte for it.
fn serve(mut client: TcpStream, mut connection: Connection, options: &Options) {
    while connection.advance(&mut client) != Progress::Closed {
        if options.stop.requested() {
            connection.finish();
        }
    }
}

/// Lets the kernel end this child when its parent dies, however it dies.
fn end_with(parent: Pid) {
    let asked = set_pdeathsig(Signal::SIGKILL);
    // The parent may have died before the kernel was asked.
    if asked.is_err() || getppid() != parent {
        process::exit(1);
    }
}

/// The processes that serve now. One that has ended stays in the kernel's table, as a zombie, until
/// its parent has asked how it ended.
struct Children {
    running: HashSet<Pid>,
    /// Readable when a child has ended.
    ended: SignalFd,
}

impl Children {
    fn watch_or_exit(options: &Options) -> Children {
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

    /// Asks for every child that has ended. Two hundred may end behind one signal: signals of a kind
    /// do not queue, signal(7), so the answer lies in asking until there is none left.
    fn reap(&mut self) {
        while let Ok(Some(_)) = self.ended.read_signal() {}
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            match status {
                WaitStatus::StillAlive => break,
                ended => ended.pid().map(|child| self.running.remove(&child)),
            };
        }
    }

    /// Lets the children finish their answers, at most so long.
    fn finish(mut self, timeout: Duration) {
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
