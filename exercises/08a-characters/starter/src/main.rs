//! Exercise 08a: one thread and a list of clients, persistent connections.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::Listener;
use terminal::{Log, Options, Step, shutdown};

use crate::site::Site;

mod site;

/// More than a browser ever sends in the head of a request.
const MAX_HEAD: usize = 16 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let model = "one thread and a list, persistent connections";
    let step = Step::with_files(env!("CARGO_PKG_NAME"), model).numbering("connection");
    let options = Options::parse(step);
    let site = Site::open_or_exit(options)?;
    let listener = Listener::bind_or_exit(options);

    let mut clients: Vec<Client> = Vec::new();
    let mut number = 0;
    while !shutdown::is_requested() {
        while let Some((stream, address)) = listener.try_accept() {
            number += 1;
            let log = Log::new(options, number, address);
            match stream.set_nonblocking(true) {
                Ok(()) => clients.push(Client::new(stream, log, options.timeout)),
                Err(error) => log.line(format_args!("cannot be served: {error}")),
            }
        }
        clients.retain_mut(|client| {
            client.advance(&site).unwrap_or_else(|error| {
                client.log.line(format_args!("lost: {error}"));
                false
            })
        });
        // Asking a thousand times a second is enough here, and leaves the processor to others.
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
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

    /// Writes what is owed, reads what has come, answers what is complete, and never waits. Returns
    /// whether the client stays.
    fn advance(&mut self, site: &Site) -> io::Result<bool> {
        // A fair share; then the next client has its turn.
        for _ in 0..16 {
            if Instant::now() >= self.deadline {
                return Ok(false);
            }
            if self.written < self.output.len() {
                let rest = &self.output[self.written..];
                let Some(length) = now(self.stream.write(rest))? else { return Ok(true) };
                self.written += length;
                self.deadline = Instant::now() + self.timeout;
                continue;
            }
            if !self.is_last
                && let Some(end) = end_of_head(&self.input)
            {
                let head: Vec<u8> = self.input.drain(..end).collect();
                self.answer(&String::from_utf8_lossy(&head), site);
                continue;
            }
            if self.is_last {
                // The client sees the end and closes too. What it still sends is thrown away.
                self.stream.shutdown(Shutdown::Write)?;
                self.input.clear();
            }
            let mut buffer = [0; 4096];
            match now(self.stream.read(&mut buffer))? {
                None => return Ok(true),
                Some(0) => return Ok(false),
                Some(length) => self.input.extend_from_slice(&buffer[..length]),
            }
        }
        Ok(true)
    }

    /// Puts the answer to a request into the output.
    fn answer(&mut self, head: &str, site: &Site) {
        let answer = site.respond(head);
        self.is_last = answer.status.starts_with("400") || site.last_request.is_match(head);
        let connection = if self.is_last { "close" } else { "keep-alive" };
        self.log.line(format_args!("{} {} bytes", answer.status, answer.body.length()));
        self.output = format!(
            "HTTP/1.1 {status}\r\n\
             Content-Type: {content_type}\r\n\
             Content-Length: {length}\r\n\
             {field}Connection: {connection}\r\n\
             \r\n",
            status = answer.status,
            content_type = answer.content_type,
            length = answer.body.length(),
            field = answer.field,
        )
        .into_bytes();
        if !head.starts_with("HEAD ") {
            self.output.extend_from_slice(answer.body.as_bytes());
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
