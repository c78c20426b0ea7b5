//! Exercise 10a: eight workers, each with an event loop.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::thread::Builder;
use std::time::{Duration, Instant};

use common::{Connection, Listener, Progress, Server};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, bind, getsockname,
    setsockopt, socket, sockopt,
};
use terminal::{Options, Step, shutdown};

/// More than this machine may have cores, so that you can see them in /proc.
const WORKERS: usize = 8;

const STOP: u64 = 0;
const LISTENER: u64 = 1;

fn main() -> io::Result<()> {
    let step = Step::with_files(env!("CARGO_PKG_NAME"), "eight workers, each with an event loop");
    let options = Options::parse(step.numbering("connection"));
    let mut server = Server::start(options);
    let mut workers = Vec::new();
    for number in 1..WORKERS {
        let socket = another(&server.listener)?;
        let next = Server::new(options, server.site, Listener::new(socket, options)?);
        let this = mem::replace(&mut server, next);
        let thread = Builder::new().name(format!("worker {number}"));
        workers.push(thread.spawn(|| Worker::new(this)?.run())?);
    }
    // The last worker is this thread.
    Worker::new(server)?.run()?;
    for worker in workers {
        worker.join().unwrap_or_else(|_| Err(io::Error::other("a worker has panicked")))?;
    }
    Ok(())
}

/// A listening socket for a worker, at the address of the first one: the kernel gives each client to one
/// of the sockets that have SO_REUSEPORT, and wakes who waits for that one.
fn another(first: &Listener) -> io::Result<TcpListener> {
    setsockopt(first, sockopt::ReusePort, &true)?;
    let address: SockaddrStorage = getsockname(first.as_fd().as_raw_fd())?;
    let family = address.family().unwrap_or(AddressFamily::Inet);
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::ReusePort, &true)?;
    bind(socket.as_raw_fd(), &address)?;
    Ok(socket.into())
}

struct Worker {
    server: Server,
    epoll: Epoll,
    clients: HashMap<u64, Connection<TcpStream>>,
    /// The last token given. None is given twice.
    last: u64,
    /// Whose turn comes without an event: after a fair share, or after an accept that has failed.
    unfinished: Vec<u64>,
}

impl Worker {
    fn new(server: Server) -> io::Result<Worker> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(shutdown::signals(), EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        let edge = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(&server.listener, EpollEvent::new(edge, LISTENER))?;
        let (clients, unfinished) = (HashMap::new(), Vec::new());
        Ok(Worker { server, epoll, clients, last: LISTENER, unfinished })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        while !shutdown::is_requested() {
            let count = match self.epoll.wait(&mut events, self.patience()) {
                Err(Errno::EINTR) => continue,
                result => result?,
            };
            let mut turns = mem::take(&mut self.unfinished);
            turns.extend(events[..count].iter().map(EpollEvent::data));
            let now = Instant::now();
            let overdue = self.clients.iter().filter(|(_, client)| client.deadline() <= now);
            turns.extend(overdue.map(|(token, _)| token));
            for token in turns {
                match token {
                    STOP => {}
                    LISTENER => self.accept(),
                    client => self.advance(client),
                }
            }
        }
        Ok(())
    }

    /// Until the next moment at which something happens without an event.
    fn patience(&self) -> EpollTimeout {
        let deadlines = self.clients.values().map(Connection::deadline);
        let next = deadlines.chain(self.server.listener.paused_until()).min();
        let pause = next.map(|moment| moment.saturating_duration_since(Instant::now()));
        match pause {
            _ if self.unfinished.iter().any(|&token| token != LISTENER) => EpollTimeout::ZERO,
            Some(pause) => EpollTimeout::try_from(pause + Duration::from_millis(1))
                .unwrap_or(EpollTimeout::MAX),
            None => EpollTimeout::NONE,
        }
    }

    /// Until nobody is left to accept. The kernel does not name the listener again for those who are.
    fn accept(&mut self) {
        while let Some(mut client) = self.server.try_accept() {
            self.last += 1;
            let connection = client.converse(|socket| {
                socket.set_nonblocking(true)?;
                let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP;
                let event = EpollEvent::new(both | EpollFlags::EPOLLET, self.last);
                self.epoll.add(&socket, event)?;
                Ok(socket)
            });
            if let Some(connection) = connection.map(Connection::persistent) {
                self.clients.insert(self.last, connection);
            }
        }
        if self.server.listener.paused_until().is_some() {
            self.unfinished.push(LISTENER);
        }
    }

    /// Lets a client do what it can.
    fn advance(&mut self, token: u64) {
        let Some(connection) = self.clients.get_mut(&token) else { return };
        match connection.advance() {
            Progress::WantsRead | Progress::WantsWrite => {}
            Progress::HasMore => self.unfinished.push(token),
            Progress::Closed => drop(self.clients.remove(&token)),
        }
    }
}
