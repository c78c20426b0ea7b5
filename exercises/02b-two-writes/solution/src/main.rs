//! Exercise 02b: a small HTTP server that keeps the connection, so that a browser can ask again on it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use regex::bytes::Regex;
use terminal::{Log, Options, Step, shutdown};

/// More than a browser ever sends in the head of a request.
const MAX_HEAD: usize = 16 * 1024;
/// How long the next request on a connection may take to come. Meanwhile all others wait.
const PATIENCE: Duration = Duration::from_secs(1);

fn main() -> Result<(), regex::Error> {
    let options = Options::parse(Step::without_files(
        env!("CARGO_PKG_NAME"),
        "one client at a time, and all its requests",
    ));
    let patterns = Patterns {
        // Method, target and version in the first line, then header lines, and an empty line.
        request: Regex::new(r"(?-u)^(GET|POST) (/[!-~]*) HTTP/1\.[01]\r\n(?:[^\r\n]+\r\n)*\r\n")?,
        end_of_head: Regex::new(r"\r?\n\r?\n")?,
        // HTTP/1.0, a client that says so, or a body, which nobody reads here.
        last_request: Regex::new(concat!(
            r"(?i-u)^[^\n]* HTTP/1\.0\r\n|",
            r"\n(connection:[ \t]*close|content-length:|transfer-encoding:)",
        ))?,
    };
    let listener = TcpListener::bind(options.address)
        .unwrap_or_else(|error| options.exit_cannot_listen(&error));
    match listener.local_addr() {
        Ok(address) => options.announce(address),
        Err(error) => options.exit_cannot_listen(&error),
    }

    while shutdown::wait_for(&[listener.as_fd()], None) {
        match listener.accept() {
            Ok((client, address)) => {
                let log = Log::new(options, 0, address);
                match serve(client, &patterns, options, log) {
                    Ok(()) => log.line("closed"),
                    Err(error) => log.line(format_args!("lost: {error}")),
                }
            }
            Err(error) => {
                options.warn(format_args!("cannot accept: {error}"));
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
    Ok(())
}

struct Patterns {
    request: Regex,
    end_of_head: Regex,
    last_request: Regex,
}

/// One client: a request, its answer, the next request, until one side has had enough.
fn serve(
    mut client: TcpStream,
    patterns: &Patterns,
    options: &Options,
    log: Log,
) -> io::Result<()> {
    let mut input = Vec::new();
    let mut patience = options.timeout;
    while let Some(length) = read_head(&mut client, &mut input, patterns, patience, options)? {
        let head: Vec<u8> = input.drain(..length).collect();
        let (status, page) = match patterns.request.captures(&head) {
            Some(parts) if &parts[2] == b"/" => ("200 OK", "<h1>Hello, Welcome!</h1>"),
            Some(_) => ("404 Not Found", "<h1>Nothing found</h1>"),
            None => ("400 Bad Request", "<h1>This is not a request that I understand</h1>"),
        };
        let is_last = status.starts_with("400") || patterns.last_request.is_match(&head);
        answer(&mut client, status, page, is_last, options)?;
        log.line(format_args!("{status} {} bytes", page.len()));
        if is_last {
            break;
        }
        patience = PATIENCE.min(options.timeout);
    }
    Ok(())
}

/// Reads until a head is complete and returns its length; `None` when no further request comes.
fn read_head(
    client: &mut TcpStream,
    input: &mut Vec<u8>,
    patterns: &Patterns,
    patience: Duration,
    options: &Options,
) -> io::Result<Option<usize>> {
    let deadline = Instant::now() + patience;
    let mut buffer = [0; 1024];
    loop {
        if let Some(end) = patterns.end_of_head.find(input) {
            return Ok(Some(end.end()));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || shutdown::is_requested() {
            return Ok(None);
        }
        client.set_read_timeout(Some(left.min(options.tick())))?;
        match client.read(&mut buffer) {
            // The client closes, or sends no end: what has come is answered with 400.
            Ok(0) => return Ok(Some(input.len()).filter(|&length| length > 0)),
            Ok(_) if input.len() >= MAX_HEAD => return Ok(Some(input.len())),
            Ok(length) => input.extend_from_slice(&buffer[..length]),
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
}

fn answer(
    client: &mut TcpStream,
    status: &str,
    page: &str,
    is_last: bool,
    options: &Options,
) -> io::Result<()> {
    let connection = if is_last { "close" } else { "keep-alive" };
    client.set_write_timeout(Some(options.timeout))?;
    // Both in one write. In two, the page would wait until the client has acknowledged the head.
    let answer = format!(
        "HTTP/1.1 {status}\r\n\
         Content-Type: text/html; charset=utf-8\r\n\
         Content-Length: {length}\r\n\
         Connection: {connection}\r\n\
         \r\n\
         {page}",
        length = page.len(),
    );
    client.write_all(answer.as_bytes())
}
