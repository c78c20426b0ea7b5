//! Exercise 07a: one thread and a list of non-blocking clients. Ten times a second each of them is told
//! the number of the round, and what a client sends is printed.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use common::Listener;
use terminal::{Log, Options, Step, shutdown};

/// How long a round over the list takes, at least.
const ROUND: Duration = Duration::from_millis(100);

fn main() {
    let model = "one thread and a list of clients, who hear a number in each round";
    let step = Step::without_files(env!("CARGO_PKG_NAME"), model).numbering("connection");
    let options = Options::parse(step);
    let listener = Listener::bind_or_exit(options);

    let mut clients: Vec<Client> = Vec::new();
    let mut number = 0;
    let mut round: u64 = 0;
    while !shutdown::is_requested() {
        while let Some((stream, address)) = listener.try_accept() {
            number += 1;
            let log = Log::new(options, number, address);
            clients.extend(Client::welcome(stream, log));
        }

        round += 1;
        // retain_mut walks the list once and keeps who stays. Removing by hand moves the next client
        // to the place of the one that left, and a walk that goes on from there skips it.
        clients.retain_mut(|client| client.hear(options.timeout) && client.tell(round));

        thread::sleep(ROUND);
    }
}

struct Client {
    stream: TcpStream,
    log: Log,
    last_heard: Instant,
}

impl Client {
    fn welcome(stream: TcpStream, log: Log) -> Option<Client> {
        if let Err(error) = stream.set_nonblocking(true) {
            log.line(format_args!("cannot be served: {error}"));
            return None;
        }
        log.line("came");
        Some(Client { stream, log, last_heard: Instant::now() })
    }

    /// Reads what has come. Returns whether the client stays.
    fn hear(&mut self, timeout: Duration) -> bool {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.log.line("went"),
            Ok(length) => {
                self.log.line(format_args!("sent \"{}\"", buffer[..length].escape_ascii()));
                self.last_heard = Instant::now();
                return true;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return true,
            // Nothing there. This is not an error: it is the usual answer.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if self.last_heard.elapsed() < timeout {
                    return true;
                }
                self.log.line(format_args!("silent for {} s, let go", timeout.as_secs_f64()));
            }
            Err(error) => self.log.line(format_args!("lost: {error}")),
        }
        false
    }

    /// Tells the client which round this is. Returns whether the client stays.
    fn tell(&mut self, round: u64) -> bool {
        let line = format!("{round}\n");
        match self.stream.write(line.as_bytes()) {
            Ok(length) if length == line.len() => true,
            // No room for a few bytes: this client has not read for a long time.
            Ok(_) => false,
            Err(error) => {
                self.log.line(format_args!("lost: {error}"));
                false
            }
        }
    }
}
