//! The processes that serve: how one begins and ends, and that the parent asks how it ended, so that
//! none stays behind.

use std::collections::HashMap;
use std::fs;
use std::os::fd::AsFd;
use std::time::Instant;

use common::{Client, Place, Server};
use message::parse;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, SigSet, Signal, kill, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
pub(crate) use nix::unistd::ForkResult;
use nix::unistd::{Pid, getpid, getppid};

/// Begins a child: a copy of this process, which goes on from here as well.
pub(crate) fn fork() -> nix::Result<ForkResult> {
    // SAFETY: fork copies only the thread that calls it, and until Ctrl-C this process has no other.
    #[allow(unsafe_code)]
    unsafe {
        nix::unistd::fork()
    }
}

/// A server, and the children that serve its clients now. One that has ended stays in the kernel's
/// table, as a zombie, until its parent has asked how it ended.
pub(crate) struct ForkingServer {
    server: Server,
    parent: Pid,
    running: HashMap<Pid, Place>,
    /// Readable when a child has ended.
    ended: SignalFd,
}

impl ForkingServer {
    /// Begins to watch for children that end.
    pub(crate) fn new(server: Server) -> ForkingServer {
        // A parent that ignores the signal passes that on, and the kernel would reap by itself.
        // SAFETY: the default action runs no code of this process.
        #[allow(unsafe_code)]
        let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
        let signals = SigSet::from(Signal::SIGCHLD);
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let ended = signals
            .thread_block()
            .and_then(|()| SignalFd::with_flags(&signals, flags))
            .unwrap_or_else(|error| {
                server.options.exit(format_args!("cannot watch for children that end: {error}"))
            });
        read_ahead(&server);
        ForkingServer { server, parent: getpid(), running: HashMap::new(), ended }
    }

    /// Waits for the next client; `None` after Ctrl-C. Children that end meanwhile are reaped.
    pub(crate) fn accept(&mut self) -> Option<Client> {
        while self.server.listener.wait(Some(self.ended.as_fd())) {
            self.reap();
            if let Some(client) = self.server.try_accept() {
                return Some(client);
            }
        }
        None
    }

    /// Remembers a child that serves, and its place, which is free again when it has been reaped.
    pub(crate) fn add(&mut self, child: Pid, place: Place) {
        self.running.insert(child, place);
    }

    /// What a child does: serve one client, and end.
    pub(crate) fn serve_and_exit(self, client: Client) -> ! {
        // Lets the kernel end this child when its parent dies, however it dies. The parent may have died
        // before the kernel was asked.
        if set_pdeathsig(Signal::SIGKILL).is_ok() && getppid() == self.parent {
            // Closes the child's copy of the listening socket: new clients are the parent's.
            drop(self.server.listener);
            client.serve();
        }
        // process::exit would do what is the parent's to do when it ends, fork(2).
        // SAFETY: this process ends here, and nobody uses anything of it any more.
        #[allow(unsafe_code)]
        unsafe {
            libc::_exit(0)
        }
    }

    /// Asks for every child that has ended. Two hundred may end behind one signal: signals of a kind
    /// do not queue, signal(7), so the answer lies in asking until there is none left.
    fn reap(&mut self) {
        while let Ok(Some(_)) = self.ended.read_signal() {}
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::EINTR) => {}
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(ended) => drop(ended.pid().map(|child| self.running.remove(&child))),
            }
        }
    }

    /// Refuses new clients, and lets the children finish their answers, for the timeout at most. Who is
    /// not done by then dies with this process.
    pub(crate) fn finish(mut self) {
        self.server.listener.close();
        self.reap();
        for &child in self.running.keys() {
            let _ = kill(child, Signal::SIGTERM);
        }
        let deadline = Instant::now() + self.server.options.timeout;
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

/// How many names of the folder are looked at before the first child is made.
const MOST_NAMES: usize = 1000;

/// Asks for the files of the site once. A child has all that its parent has in memory, and what a child
/// has read is gone with it.
fn read_ahead(server: &Server) {
    let root = server.options.root();
    let mut folders = vec![root.to_owned()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            seen += 1;
            if seen > MOST_NAMES {
                return;
            }
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap_or(&path).display();
            let request = format!("GET /{name} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if let Ok(Some(request)) = parse(request.as_bytes()) {
                let _ = server.site.respond(&request);
            }
        }
    }
}
