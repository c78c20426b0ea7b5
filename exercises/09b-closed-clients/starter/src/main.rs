//! Exercise 09b: one thread, and the kernel names the clients that are ready.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use common::{Connection, Progress, Server};
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::socket::{self, Shutdown};
use terminal::{Options, Step, shutdown};

const STOP: Token = Token(0);
const LISTENER: Token = Token(1);

fn main() -> io::Result<()> {
    let model = "one thread, the kernel names the ready clients";
    let step = Step::with_files(env!("CARGO_PKG_NAME"), model).numbering("connection");
    let options = Options::parse(step);
    let poll = Poll::new()?;
    let server = Server::start(options);
    for (token, fd) in [(STOP, shutdown::signals()), (LISTENER, server.listener.as_fd())] {
        poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
    }
    let (clients, unfinished) = (HashMap::new(), Vec::new());
    Loop { server, poll, clients, last: LISTENER, unfinished }.run()
}

struct Loop {
    server: Server,
    poll: Poll,
    /// Each client by its token.
    clients: HashMap<Token, Client>,
    /// The last token given. None is given twice.
    last: Token,
    /// Who has had a fair share and could go on. The kernel names only whom something changes for.
    unfinished: Vec<Token>,
}

struct Client {
    connection: Connection<TcpStream>,
    descriptor: RawFd,
    is_closed: bool,
}

impl Loop {
    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        while !shutdown::is_requested() {
            // Wakes once a second (a tick) for deadlines too.
            let is_idle = self.unfinished.is_empty();
            let patience = if is_idle { self.server.options.tick() } else { Duration::ZERO };
            if self.poll.poll(&mut events, Some(patience)).is_err() {
                continue;
            }
            let mut turns = mem::take(&mut self.unfinished);
            turns.extend(events.iter().map(|event| event.token()));
            for token in turns {
                self.advance(token);
            }
            self.accept();
            self.end_overdue();
        }
        Ok(())
    }

    fn accept(&mut self) {
        while let Some(mut client) = self.server.try_accept() {
            self.last.0 += 1;
            let token = self.last;
            let mut descriptor = None;
            let connection = client.converse(|socket| {
                socket.set_nonblocking(true)?;
                descriptor = Some(socket.as_raw_fd());
                let mut socket = TcpStream::from_std(socket);
                let both = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(&mut socket, token, both)?;
                Ok(socket)
            });
            if let Some((connection, descriptor)) =
                connection.map(Connection::persistent).zip(descriptor)
            {
                self.clients.insert(token, Client { connection, descriptor, is_closed: false });
            }
        }
    }

    /// Lets a client do what it can.
    fn advance(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        if client.is_closed {
            return;
        }
        match client.connection.advance() {
            Progress::WantsRead | Progress::WantsWrite => {}
            Progress::HasMore => self.unfinished.push(token),
            Progress::Closed => {
                // The client sees the end. It fails only if the client has gone already.
                let _ = socket::shutdown(client.descriptor, Shutdown::Both);
                client.is_closed = true;
            }
        }
    }

    /// Ends what has taken too long.
    fn end_overdue(&mut self) {
        let now = Instant::now();
        let overdue = self.clients.iter().filter(|(_, client)| client.connection.deadline() <= now);
        for token in overdue.map(|(&token, _)| token).collect::<Vec<_>>() {
            self.advance(token);
        }
    }
}
