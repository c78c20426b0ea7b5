//! A port, and the clients that come to it until Ctrl-C.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, Backlog, Shutdown, listen, setsockopt, sockopt};
use nix::sys::time::TimeVal;
use terminal::{Options, shutdown};

/// How long to leave clients in the queue after an accept that has failed: there may be no descriptor or
/// memory for them, and the socket stays readable.
const PAUSE: Duration = Duration::from_millis(100);

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
    is_open: Cell<bool>,
    /// Set after an accept that has failed: nobody is accepted until then.
    paused_until: Cell<Option<Instant>>,
}

impl Listener {
    /// Binds the address that the reader asked for and prints the first line. When the port cannot
    /// be had, ends the process with status 2 and a line that says what to type instead.
    pub fn bind_or_exit(options: &'static Options) -> Listener {
        // std sets SO_REUSEADDR, so that a restart need not wait, and not SO_REUSEPORT, so that two
        // servers cannot share a port by mistake.
        let listener = TcpListener::bind(options.address).and_then(|socket| {
            let listener = Listener::new(socket, options)?;
            options.announce(listener.socket.local_addr()?);
            Ok(listener)
        });
        listener.unwrap_or_else(|error| options.exit_cannot_listen(&error))
    }

    /// Listens with a socket that has its address. Linux copies a listening socket's options to each
    /// socket that accept returns, so what every client needs is set here once.
    ///
    /// # Errors
    /// Another socket listens there.
    pub fn new(socket: TcpListener, options: &'static Options) -> io::Result<Listener> {
        socket.set_nonblocking(true)?;
        listen(&socket, Backlog::new(BACKLOG)?)?;
        // The last part of a long answer goes out at once (Nagle's algorithm would hold it back until
        // the client has acknowledged the part before).
        setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
        setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER)?;
        // A blocking read or write gives up after a tick, so that its step can look at the connection's
        // deadline and at Ctrl-C, and try again.
        let tick = options.tick();
        let tick = TimeVal::new(tick.as_secs() as i64, i64::from(tick.subsec_micros()));
        setsockopt(&socket, sockopt::ReceiveTimeout, &tick)?;
        setsockopt(&socket, sockopt::SendTimeout, &tick)?;
        Ok(Listener { socket, options, is_open: Cell::new(true), paused_until: Cell::new(None) })
    }

    /// Waits for the next client; `None` after Ctrl-C. A client that has gone away again is passed
    /// over, and a shortage of descriptors or memory is waited out, with a line in the log.
    pub fn accept(&self) -> Option<(TcpStream, SocketAddr)> {
        while self.wait(None) {
            if let Some(client) = self.try_accept() {
                return Some(client);
            }
        }
        None
    }

    /// Waits until somebody may be there to accept, or `event` is readable; false after Ctrl-C. During a
    /// pause the listening socket is left out: it is ready all the time, and the wait would spin.
    pub fn wait(&self, event: Option<BorrowedFd<'_>>) -> bool {
        let pause = self.paused_until().map(|moment| moment - Instant::now());
        let socket = Some(self.socket.as_fd()).filter(|_| pause.is_none());
        let fds: Vec<_> = socket.into_iter().chain(event).collect();
        shutdown::wait_for(&fds, pause) && self.is_open.get()
    }

    /// Takes a client if one is waiting; never waits.
    pub fn try_accept(&self) -> Option<(TcpStream, SocketAddr)> {
        if !self.is_open.get() || self.paused_until().is_some() {
            return None;
        }
        let error = loop {
            match self.socket.accept() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() != ErrorKind::WouldBlock => break error,
                result => {
                    self.paused_until.set(None);
                    return result.ok();
                }
            }
        };
        if self.paused_until.replace(Some(Instant::now() + PAUSE)).is_none() {
            self.options.warn(format_args!("cannot accept for now: {error}"));
        }
        None
    }

    /// When the next [`Listener::try_accept`] is worth it, after one that has failed.
    pub fn paused_until(&self) -> Option<Instant> {
        self.paused_until.get().filter(|moment| *moment > Instant::now())
    }

    /// Whether somebody is waiting to be accepted.
    pub fn has_client(&self) -> bool {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
    }

    /// Whether [`Listener::close`] has not been called.
    pub fn is_open(&self) -> bool {
        self.is_open.get()
    }

    /// Refuses new clients from now on, after Ctrl-C. Shutting a listening socket down ends the
    /// listening, also for those who have a copy of it.
    pub fn close(&self) {
        shutdown::begin();
        self.is_open.set(false);
        let _ = socket::shutdown(self.socket.as_raw_fd(), Shutdown::Read);
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
