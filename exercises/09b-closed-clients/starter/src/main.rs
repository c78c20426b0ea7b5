//! Exercise 09b: one thread, and the kernel names the clients that are ready.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use common::{Connection, Listener, Options, Progress, Site, Step, Worker};
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

const STOP: Token = Token(0);
const LISTENER: Token = Token(1);

fn main() -> io::Result<()> {
    let options = Options::parse(Step::with_files(
        env!("CARGO_PKG_NAME"),
        "one thread, the kernel names the ready clients",
    ));
    let site = Site::open_or_exit(options);
    let listener = Listener::bind_or_exit(options);
    let poll = Poll::new()?;
    for (descriptor, token) in
        [(options.stop.as_raw_fd(), STOP), (listener.as_fd().as_raw_fd(), LISTENER)]
    {
        poll.registry().register(&mut SourceFd(&descriptor), token, Interest::READABLE)?;
    }

    let mut events = Events::with_capacity(1024);
    let mut server = Server {
        options,
        site,
        poll,
        clients: HashMap::new(),
        next_token: LISTENER.0 + 1,
        unfinished: Vec::new(),
    };
    while !options.stop.requested() {
        // Wakes once a second (a tick) for deadlines too.
        let is_idle = server.unfinished.is_empty();
        let patience = if is_idle { options.tick() } else { Duration::ZERO };
        if server.poll.poll(&mut events, Some(patience)).is_err() {
            continue;
        }
        for event in &events {
            // A connection that has read all there was does not ask again by itself, and an end
            // that came with the last bytes sends no further event.
            if event.is_read_closed() {
                server.unfinished.push(event.token());
            }
            server.advance(event.token());
        }
        for token in mem::take(&mut server.unfinished) {
            server.advance(token);
        }
        while let Some((stream, address)) = listener.try_accept() {
            if let Err(error) = server.welcome(stream, address) {
                options.warn(format_args!("cannot serve {address}: {error}"));
            }
        }
        server.end_overdue();
    }
    Ok(())
}

struct Server {
    options: &'static Options,
    site: &'static Site,
    poll: Poll,
    /// By token. No token is given twice.
    clients: HashMap<Token, Client>,
    next_token: usize,
    /// Who has had a fair share and could go on. The kernel names only whom something changes for.
    unfinished: Vec<Token>,
}

struct Client {
    stream: TcpStream,
    connection: Connection,
    is_closed: bool,
}

impl Server {
    fn welcome(&mut self, stream: std::net::TcpStream, address: SocketAddr) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let token = Token(self.next_token);
        self.next_token += 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, token, interest)?;
        let log = self.options.log(Worker::Connection((token.0 - LISTENER.0) as u64), address);
        let connection = Connection::persistent(self.site, self.options, log);
        self.clients.insert(token, Client { stream, connection, is_closed: false });
        Ok(())
    }

    /// Lets a client do what it can.
    fn advance(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        if client.is_closed {
            return;
        }
        match client.connection.advance(&mut client.stream) {
            Progress::WantsRead | Progress::WantsWrite => {}
            Progress::HasMore => self.unfinished.push(token),
            Progress::Closed => {
                // The client sees the end. It fails only if the client has gone already.
                let _ = client.stream.shutdown(Shutdown::Both);
                client.is_closed = true;
            }
        }
    }

    /// Ends what has taken too long.
    fn end_overdue(&mut self) {
        let now = Instant::now();
        let is_overdue = |client: &Client| !client.is_closed && client.connection.deadline() <= now;
        let overdue: Vec<Token> = self
            .clients
            .iter()
            .filter(|(_, client)| is_overdue(client))
            .map(|(&token, _)| token)
            .collect();
        for token in overdue {
            self.advance(token);
        }
    }
}
