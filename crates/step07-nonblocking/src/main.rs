//! Step 07: one thread and a list of non-blocking clients.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use common::Listener;
use terminal::{Log, Options, Step, Tally, shutdown};

fn main() {
    let step = Step::without_files(env!("CARGO_PKG_NAME"), "one thread and a list of clients");
    let options = Options::parse(step.numbering("connection").taking(&["--pause"]));
    let listener = Listener::bind_or_exit(options);

    let mut clients: Vec<Client> = Vec::new();
    let mut number = 0;
    let mut tally = Tally::start();
    while !shutdown::is_requested() {
        // Is somebody new there? The answer comes at once, and mostly it is no.
        while let Some((stream, address)) = listener.try_accept() {
            tally.looked(true);
            number += 1;
            let log = Log::new(options, number, address);
            clients.extend(Client::welcome(stream, log));
        }
        tally.looked(false);

        // Has anybody sent something? retain_mut walks the list once and keeps who stays. Removing
        // from a list by hand while walking it skips the client behind the one that left.
        clients.retain_mut(|client| {
            let (found, stays) = client.hear(options.timeout);
            tally.looked(found);
            stays
        });

        if !options.quiet {
            tally.round_ended(clients.len(), options);
        }
        thread::sleep(options.pause);
    }
}

struct Client {
    stream: TcpStream,
    log: Log,
    last_heard: Instant,
}

impl Client {
    fn welcome(stream: TcpStream, log: Log) -> Option<Client> {
        // From now on, a read that finds nothing says so instead of waiting.
        if let Err(error) = stream.set_nonblocking(true) {
            log.line(format_args!("cannot be served: {error}"));
            return None;
        }
        log.line("came");
        Some(Client { stream, log, last_heard: Instant::now() })
    }

    /// Reads what has come. Returns whether there was anything, and whether the client stays.
    fn hear(&mut self, timeout: Duration) -> (bool, bool) {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.log.line("went"),
            Ok(length) => {
                self.log.line(format_args!("sent \"{}\"", buffer[..length].escape_ascii()));
                self.last_heard = Instant::now();
                return (true, true);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return (false, true),
            // Nothing there. This is not an error: it is the usual answer.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if self.last_heard.elapsed() < timeout {
                    return (false, true);
                }
                self.log.line(format_args!("silent for {} s, let go", timeout.as_secs_f64()));
                return (false, false);
            }
            Err(error) => self.log.line(format_args!("lost: {error}")),
        }
        (true, false)
    }
}
