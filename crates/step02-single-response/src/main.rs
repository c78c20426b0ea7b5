//! Step 02: the smallest HTTP server. One client, one request, one answer; then the next client.

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
    // Method, target, version: the first line of a request. Other methods, HEAD too, are not for
    // this step.
    let request_line = Regex::new(r"^(GET|POST) (/[!-~]*) HTTP/1\.[01]\r\n")?;
    // An empty line. After bare LFs the head has ended too: the answer is then 400, and comes at once.
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
                // A client that is gone again, or no descriptor left: neither ends the server.
                options.warn(format_args!("cannot accept: {error}"));
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let log = Log::new(options, 0, address);
        let answered = read_head(&mut client, &end_of_head, options)
            .and_then(|head| answer(&mut client, &head, &request_line, options.timeout));
        match answered {
            Ok(line) => log.line(line),
            Err(error) => log.line(format_args!("lost: {error}")),
        }
        // Here `client` goes out of scope, and that closes the connection.
    }
    Ok(())
}

/// Reads until the empty line that ends the head. One read is not enough: a request may come in
/// several pieces, even a byte at a time.
fn read_head(
    client: &mut TcpStream,
    end_of_head: &Regex,
    options: &Options,
) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + options.timeout;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !end_of_head.is_match(&head) && head.len() < MAX_HEAD {
        // The time left gets shorter with each read, so a byte now and then buys nothing.
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || (head.is_empty() && shutdown::is_requested()) {
            return Err(ErrorKind::TimedOut.into());
        }
        client.set_read_timeout(Some(left.min(options.tick())))?;
        match client.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => head.extend_from_slice(&buffer[..length]),
            // A timeout looks like a read that would block.
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
    request_line: &Regex,
    timeout: Duration,
) -> io::Result<String> {
    if head.is_empty() {
        return Ok("closed without a request".to_owned());
    }
    let (status, page) = match request_line.captures(head) {
        Some(parts) if &parts[2] == b"/" => ("200 OK", "<h1>Hello, Welcome!</h1>"),
        Some(_) => ("404 Not Found", "<h1>Nothing found</h1>"),
        None => ("400 Bad Request", "<h1>This is not a request that I understand</h1>"),
    };
    // Head and body go out in one write. In two, on a connection that stays, the second would wait
    // until the client has acknowledged the first.
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
    let first_line = head.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    Ok(format!("\"{}\" {status} {} bytes", first_line.escape_ascii(), page.len()))
}
