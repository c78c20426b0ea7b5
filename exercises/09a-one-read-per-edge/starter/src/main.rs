//! Exercise 09a: one thread, and the kernel names the clients that are ready.

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use common::Listener;
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use terminal::{Log, Options, Step, shutdown};

use crate::site::Site;

mod site;

const STOP: Token = Token(0);
const LISTENER: Token = Token(1);

/// More than a browser ever sends in the head of a request.
const MAX_HEAD: usize = 16 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let model = "one thread, the kernel names the ready clients";
    let step = Step::with_files(env!("CARGO_PKG_NAME"), model).numbering("connection");
    let options = Options::parse(step);
    let site = Site::open_or_exit(options)?;
    let listener = Listener::bind_or_exit(options);
    let mut poll = Poll::new()?;
    for (token, fd) in [(STOP, shutdown::signals()), (LISTENER, listener.as_fd())] {
        poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
    }

    let mut events = Events::with_capacity(1024);
    let mut clients: HashMap<Token, Client> = HashMap::new();
    let mut next_token = LISTENER.0 + 1;
    while !shutdown::is_requested() {
        // Wakes once a second (a tick) for deadlines too.
        if poll.poll(&mut events, Some(options.tick())).is_err() {
            continue;
        }
        for event in &events {
            if let Some(client) = clients.get_mut(&event.token()) {
                let stays = client.advance(&site).unwrap_or_else(|error| {
                    client.log.line(format_args!("lost: {error}"));
                    false
                });
                // A client that has said that it sends nothing more, and is owed nothing.
                let is_done = event.is_read_closed() && client.is_owed_nothing();
                if !stays || is_done {
                    clients.remove(&event.token());
                }
            }
        }
        while let Some((stream, address)) = listener.try_accept() {
            let token = Token(next_token);
            next_token += 1;
            let log = Log::new(options, (token.0 - LISTENER.0) as u64, address);
            match register(stream, token, poll.registry()) {
                Ok(stream) => {
                    clients.insert(token, Client::new(stream, log, options.timeout));
                }
                Err(error) => log.line(format_args!("cannot be served: {error}")),
            }
        }
        clients.retain(|_, client| Instant::now() < client.deadline);
    }
    Ok(())
}

fn register(
    stream: std::net::TcpStream,
    token: Token,
    registry: &Registry,
) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(stream);
    // mio is edge-triggered: the kernel names a client when something changes.
    registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
    Ok(stream)
}

struct Client {
    stream: TcpStream,
    log: Log,
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of the output has left.
    written: usize,
    /// No further request is answered.
    is_last: bool,
    timeout: Duration,
    deadline: Instant,
}

impl Client {
    fn new(stream: TcpStream, log: Log, timeout: Duration) -> Client {
        let deadline = Instant::now() + timeout;
        let (input, output) = (Vec::new(), Vec::new());
        Client { stream, log, input, output, written: 0, is_last: false, timeout, deadline }
    }

    /// Something has changed: there is something to read, or room to write. Returns whether the client
    /// stays.
    fn advance(&mut self, site: &Site) -> io::Result<bool> {
        if !self.write(site)? {
            return Ok(true);
        }
        let mut buffer = [0; 4096];
        match now(self.stream.read(&mut buffer))? {
            None => {}
            Some(0) => return Ok(false),
            Some(length) => self.input.extend_from_slice(&buffer[..length]),
        }
        self.write(site)?;
        Ok(true)
    }

    /// Writes what is owed and answers what is complete. Returns whether that has all left.
    fn write(&mut self, site: &Site) -> io::Result<bool> {
        loop {
            while self.written < self.output.len() {
                let rest = &self.output[self.written..];
                let Some(length) = now(self.stream.write(rest))? else { return Ok(false) };
                self.written += length;
                self.deadline = Instant::now() + self.timeout;
            }
            if self.is_last {
                // The client sees the end and closes too. What it still sends is thrown away.
                self.stream.shutdown(Shutdown::Write)?;
                self.input.clear();
                return Ok(true);
            }
            let Some(end) = end_of_head(&self.input) else { return Ok(true) };
            let head: Vec<u8> = self.input.drain(..end).collect();
            self.answer(&String::from_utf8_lossy(&head), site);
        }
    }

    fn is_owed_nothing(&self) -> bool {
        self.written == self.output.len()
    }

    /// Puts the answer to a request into the output.
    fn answer(&mut self, head: &str, site: &Site) {
        let answer = site.respond(head);
        self.is_last = answer.status.starts_with("400") || site.last_request.is_match(head);
        let connection = if self.is_last { "close" } else { "keep-alive" };
        self.log.line(format_args!("{} {} bytes", answer.status, answer.body.len()));
        self.output = format!(
            "HTTP/1.1 {status}\r\n\
             Content-Type: {content_type}\r\n\
             Content-Length: {length}\r\n\
             {field}Connection: {connection}\r\n\
             \r\n",
            status = answer.status,
            content_type = answer.content_type,
            length = answer.body.len(),
            field = answer.field,
        )
        .into_bytes();
        if !head.starts_with("HEAD ") {
            self.output.extend_from_slice(&answer.body);
        }
        self.written = 0;
    }
}

/// `None`: it would have to wait, and can be asked again later.
fn now(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        result => result.map(Some),
    }
}

/// Where the first head in the input ends. Bare LFs end one too, and so does a length that no browser
/// needs; both are then answered with 400.
fn end_of_head(input: &[u8]) -> Option<usize> {
    let end_of = |mark: &[u8]| input.windows(mark.len()).position(|bytes| bytes == mark);
    let end = end_of(b"\r\n\r\n").map(|at| at + 4).or_else(|| end_of(b"\n\n").map(|at| at + 2));
    end.or_else(|| (input.len() > MAX_HEAD).then_some(input.len()))
}
