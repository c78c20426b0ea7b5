//! A port, and the clients that come to it until Ctrl-C.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Backlog, Shutdown, listen, setsockopt, shutdown, sockopt};
use nix::sys::time::TimeVal;
use std::os::fd::{AsFd, AsRawFd};

use crate::options::Options;

/// How long to leave clients in the queue when there is no descriptor or memory for them.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// How many clients the kernel may keep waiting for an accept. std asks for 128, and a class that
/// presses reload together is more; the kernel lowers the number to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// What the kernel keeps of an answer that the client has not taken yet: 512 KiB once it has doubled
/// it, socket(7). Left alone it would grow to 4 MiB a client and hide for a long time that nobody
/// reads at the other end.
const SEND_BUFFER: usize = 256 * 1024;

/// A listening socket. It never blocks in accept: where it waits, it waits for Ctrl-C as well.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    options: &'static Options,
    /// Set while descriptors or memory are short: nobody is accepted until then.
    shortage_until: Cell<Option<Instant>>,
}

impl Listener {
    /// Binds the address that the reader asked for and prints the first line. When the port cannot
    /// be had, ends the process with status 2 and a line that says what to type instead.
    pub fn bind_or_exit(options: &'static Options) -> Listener {
        let socket = open(options).unwrap_or_else(|error| options.exit_cannot_listen(&error));
        match socket.local_addr() {
            Ok(address) => options.announce(address),
            Err(error) => options.exit_cannot_listen(&error),
        }
        Listener { socket, options, shortage_until: Cell::new(None) }
    }

    /// Waits for the next client; `None` after Ctrl-C. A client that has gone away again is passed
    /// over, and a shortage of descriptors or memory is waited out, with a line in the log.
    pub fn accept(&self) -> Option<(TcpStream, SocketAddr)> {
        self.accept_or_event(None::<&TcpListener>).flatten()
    }

    /// As [`Listener::accept`], but also returns, with `Some(None)`, when `event` is readable or has
    /// become so while waiting.
    pub fn accept_or_event(
        &self,
        event: Option<&impl AsFd>,
    ) -> Option<Option<(TcpStream, SocketAddr)>> {
        while !self.options.stop.is_noted() {
            match self.wait(event, self.shortage()) {
                Happened::Signal if self.options.stop.requested() => return None,
                Happened::Event => return Some(None),
                _ => {}
            }
            if let Some(client) = self.try_accept() {
                return Some(Some(client));
            }
        }
        None
    }

    /// Waits for a client, Ctrl-C or `event`. During a shortage the listening socket is left out: it is
    /// ready all the time, and the wait would spin.
    fn wait(&self, event: Option<&impl AsFd>, pause: Option<Duration>) -> Happened {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = Vec::with_capacity(3);
        fds.push(readable(self.options.stop.as_fd()));
        if pause.is_none() {
            fds.push(readable(self.socket.as_fd()));
        }
        fds.extend(event.map(|event| readable(event.as_fd())));
        let timeout = pause.map_or(PollTimeout::NONE, |pause| {
            PollTimeout::try_from(pause + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        // An interrupted or failed wait is as good as a short one: the caller looks and waits again.
        if poll(&mut fds, timeout).is_err() {
            return Happened::Other;
        }
        let is_ready = |fd: Option<&PollFd<'_>>| fd.and_then(PollFd::any).unwrap_or(false);
        if is_ready(fds.first()) {
            Happened::Signal
        } else if event.is_some() && is_ready(fds.last()) {
            Happened::Event
        } else {
            Happened::Other
        }
    }

    /// Whether somebody is waiting to be accepted.
    pub fn has_client(&self) -> bool {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
    }

    /// Takes a client if one is waiting; never waits.
    pub fn try_accept(&self) -> Option<(TcpStream, SocketAddr)> {
        if self.shortage_until.get().is_some_and(|until| Instant::now() < until) {
            return None;
        }
        // Bounded, so that a kernel that refuses every client (EPERM, say) cannot keep the caller here.
        for _ in 0..16 {
            let error = match self.socket.accept() {
                Ok(client) => {
                    self.shortage_until.set(None);
                    return Some(client);
                }
                Err(error) => error,
            };
            if error.kind() == io::ErrorKind::WouldBlock {
                self.shortage_until.set(None);
                return None;
            }
            if is_shortage(&error) {
                let first = self.shortage_until.get().is_none();
                self.shortage_until.set(Some(Instant::now() + SHORTAGE_PAUSE));
                if first {
                    self.options.warn(format_args!("cannot accept for now: {error}"));
                }
                return None;
            }
        }
        None
    }

    /// Refuses new clients from now on, while a step that has no other thread is still busy.
    pub fn close(&self) {
        // Shutting down a listening socket ends the listening. It can only fail if it is over already.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Read);
    }

    /// How long to wait before the next [`Listener::try_accept`] is worth it; `None` when there is
    /// no shortage.
    pub fn shortage(&self) -> Option<Duration> {
        self.shortage_until.get().map(|until| until.saturating_duration_since(Instant::now()))
    }
}

/// What ended a wait.
enum Happened {
    Signal,
    Event,
    /// A client, the end of a shortage, or nothing.
    Other,
}

impl AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Opens the socket. Linux copies a listening socket's options to each socket that accept returns,
/// so what every client needs is set here once.
fn open(options: &Options) -> io::Result<TcpListener> {
    // std sets SO_REUSEADDR, so that a restart need not wait, and not SO_REUSEPORT, so that two
    // servers cannot share a port by mistake.
    let socket = TcpListener::bind(options.address())?;
    socket.set_nonblocking(true)?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    // The last part of a long answer goes out at once (Nagle's algorithm would hold it back until
    // the client has acknowledged the part before).
    setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER)?;
    // A blocking read or write gives up after a tick, so that its step can look at the connection's
    // deadline and at Ctrl-C, and try again.
    let tick = time_value(options.tick());
    setsockopt(&socket, sockopt::ReceiveTimeout, &tick)?;
    setsockopt(&socket, sockopt::SendTimeout, &tick)?;
    Ok(socket)
}

fn time_value(duration: Duration) -> TimeVal {
    // Both parts fit: the timeout is at most a day.
    TimeVal::new(duration.as_secs() as i64, i64::from(duration.subsec_micros()))
}

/// Whether a failed accept means that something has run out. The other errors of accept(2) belong to
/// one client that has gone away again, and the next accept may succeed.
fn is_shortage(error: &io::Error) -> bool {
    !matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(
            Errno::ECONNABORTED
                | Errno::EINTR
                | Errno::EPROTO
                | Errno::EPERM
                | Errno::ENETDOWN
                | Errno::ENOPROTOOPT
                | Errno::EHOSTDOWN
                | Errno::ENONET
                | Errno::EHOSTUNREACH
                | Errno::EOPNOTSUPP
                | Errno::ENETUNREACH
        )
    )
}

/// A fixed number of places, one for each client that is being served.
#[derive(Debug)]
pub struct Places {
    taken: Mutex<usize>,
    returned: Condvar,
    capacity: usize,
}

/// A place that is taken; dropping it gives it back, also when its holder panics.
#[derive(Debug)]
pub struct Place(&'static Places);

impl Places {
    /// So many places, all free.
    pub const fn new(capacity: usize) -> Places {
        Places { taken: Mutex::new(0), returned: Condvar::new(), capacity }
    }

    /// Takes a place; `None` when all are taken.
    pub fn take(&'static self) -> Option<Place> {
        let mut taken = self.count();
        if *taken == self.capacity {
            return None;
        }
        *taken += 1;
        Some(Place(self))
    }

    /// Waits until all places are free, at most so long. Returns how many are still taken.
    pub fn wait_until_free(&self, timeout: Duration) -> usize {
        let waited = self.returned.wait_timeout_while(self.count(), timeout, |taken| *taken > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// No code that holds the lock can panic half-way, so a poisoned count is still right.
    fn count(&self) -> MutexGuard<'_, usize> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.0.count();
        *taken -= 1;
        if *taken == 0 {
            self.0.returned.notify_all();
        }
    }
}
