//! Exercise 09c: one thread, and the kernel names the clients that are ready. One page is slow.

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::Listener;
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use terminal::{Log, Options, Step, shutdown};

use crate::site::Site;

mod site;

const STOP: Token = Token(0);
const LISTENER: Token = Token(1);
const ANSWERED: Token = Token(2);
/// Clients have this token and those above.
const FIRST_CLIENT: usize = 10;

/// More than a browser ever sends in the head of a request.
const MAX_HEAD: usize = 16 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let model = "one thread, the kernel names the ready clients";
    let step = Step::with_files(env!("CARGO_PKG_NAME"), model).numbering("connection");
    let options = Options::parse(step);
    // The site is there as long as the process.
    let site: &'static Site = Box::leak(Box::new(Site::open_or_exit(options)?));
    let listener = Listener::bind_or_exit(options);
    let mut poll = Poll::new()?;
    for (token, fd) in [(STOP, shutdown::signals()), (LISTENER, listener.as_fd())] {
        poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
    }

    // From the threads back to the loop: the client, and an event that wakes it.
    let waker = Arc::new(Waker::new(poll.registry(), ANSWERED)?);
    let (sender, answered) = mpsc::channel();
    let mut events = Events::with_capacity(1024);
    let mut clients: HashMap<Token, Client> = HashMap::new();
    let mut next_token = FIRST_CLIENT;
    while !shutdown::is_requested() {
        // Wakes once a second (a tick) for deadlines too.
        if poll.poll(&mut events, Some(options.tick())).is_err() {
            continue;
        }
        let mut turns: Vec<Token> = Vec::new();
        turns.extend(events.iter().map(|event| event.token()));
        for (token, client) in answered.try_iter() {
            clients.insert(token, client);
            turns.push(token);
        }
        for token in turns {
            let Some(client) = clients.get_mut(&token) else { continue };
            let stays = client.advance(site).unwrap_or_else(|error| {
                client.log.line(format_args!("lost: {error}"));
                false
            });
            if client.is_slow() {
                let Some(mut client) = clients.remove(&token) else { continue };
                let (sender, waker) = (sender.clone(), Arc::clone(&waker));
                let _ = thread::Builder::new().spawn(move || {
                    client.answer(site);
                    let _ = sender.send((token, client)).map(|()| waker.wake());
                });
            } else if !stays {
                clients.remove(&token);
            }
        }
        while let Some((stream, address)) = listener.try_accept() {
            let token = Token(next_token);
            next_token += 1;
            let log = Log::new(options, (token.0 + 1 - FIRST_CLIENT) as u64, address);
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
        // Until a read or a write says "would block": before that, nothing changes, and the kernel
        // would not name this client again.
        while self.write(site)? {
            let mut buffer = [0; 4096];
            match now(self.stream.read(&mut buffer))? {
                None => return Ok(true),
                Some(0) => return Ok(false),
                Some(length) => self.input.extend_from_slice(&buffer[..length]),
            }
        }
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
            if self.is_slow() {
                return Ok(false);
            }
            if !self.answer(site) {
                return Ok(true);
            }
        }
    }

    /// Whether all has left that is owed, and the next request is for the slow page.
    fn is_slow(&self) -> bool {
        let is_whole = end_of_head(&self.input).is_some();
        self.written == self.output.len() && is_whole && self.input.starts_with(b"GET /slow ")
    }

    /// Puts the answer to the next request into the output. Returns whether one was there.
    fn answer(&mut self, site: &Site) -> bool {
        let Some(end) = end_of_head(&self.input) else { return false };
        let head: Vec<u8> = self.input.drain(..end).collect();
        let head = String::from_utf8_lossy(&head);
        let answer = site.respond(&head);
        self.is_last = answer.status.starts_with("400") || site.last_request.is_match(&head);
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
        true
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
