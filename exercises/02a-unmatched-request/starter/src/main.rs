//! Exercise 02a: the smallest HTTP server. One client, one request, one answer; then the next client.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use regex::bytes::Regex;
use terminal::{Log, Options, Step, shutdown};

/// More than a browser ever sends in the head of a request.
const MAX_HEAD: usize = 16 * 1024;

fn main() -> Result<(), regex::Error> {
    let options = Options::parse(Step::without_files(
        env!("CARGO_PKG_NAME"),
        "one answer for one client at a time",
    ));
    // Method, target and version in the first line, then header lines, and an empty line.
    let request = Regex::new(r"(?-u)^(GET|POST) (/[!-~]*) HTTP/1\.[01]\r\n(?:[^\r\n]+\r\n)*\r\n")?;
    let end_of_head = Regex::new(r"\r?\n\r?\n")?;

    let listener = TcpListener::bind(options.address)
        .unwrap_or_else(|error| options.exit_cannot_listen(&error));
    match listener.local_addr() {
        Ok(address) => options.announce(address),
        Err(error) => options.exit_cannot_listen(&error),
    }

    while shutdown::wait_for(&[listener.as_fd()], None) {
        let (mut client, address) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) => {
                options.warn(format_args!("cannot accept: {error}"));
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let log = Log::new(options, 0, address);
        let answered = read_head(&mut client, &end_of_head, options)
            .and_then(|head| answer(&mut client, &head, &request, options.timeout));
        match answered {
            Ok(line) => log.line(line),
            Err(error) => log.line(format_args!("lost: {error}")),
        }
    }
    Ok(())
}

/// Reads until the empty line that ends the head, in as many pieces as it comes in.
fn read_head(
    client: &mut TcpStream,
    end_of_head: &Regex,
    options: &Options,
) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + options.timeout;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !end_of_head.is_match(&head) && head.len() < MAX_HEAD {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || shutdown::is_requested() {
            return Err(ErrorKind::TimedOut.into());
        }
        client.set_read_timeout(Some(left.min(options.tick())))?;
        match client.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => head.extend_from_slice(&buffer[..length]),
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(head)
}

/// Answers a request. Returns the line for the log.
fn answer(
    client: &mut TcpStream,
    head: &[u8],
    request: &Regex,
    timeout: Duration,
) -> io::Result<String> {
    if head.is_empty() {
        return Ok("closed without a request".to_owned());
    }
    let parts = request.captures(head).expect("a request begins with its request line");
    let (status, page) = if &parts[2] == b"/" {
        ("200 OK", "<h1>Hello, Welcome!</h1>")
    } else {
        ("404 Not Found", "<h1>Nothing found</h1>")
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\n\
         Content-Type: text/html; charset=utf-8\r\n\
         Content-Length: {length}\r\n\
         Connection: close\r\n\
         \r\n\
         {page}",
        length = page.len(),
    );
    client.set_write_timeout(Some(timeout))?;
    client.write_all(answer.as_bytes())?;
    Ok(format!("{status} {} bytes", page.len()))
}
