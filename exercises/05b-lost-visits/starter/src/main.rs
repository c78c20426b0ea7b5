//! Exercise 05b: a server of files, a thread per connection, and a page that counts its visits.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use common::Listener;
use regex::Regex;
use terminal::{Log, Options, Step, shutdown};

use crate::answer::{Answer, respond};

mod answer;

/// More than a browser ever sends in the head of a request.
const MAX_HEAD: usize = 16 * 1024;

/// How often /visits was asked for.
static VISITS: Mutex<u64> = Mutex::new(0);

fn main() -> Result<(), Box<dyn Error>> {
    let step = Step::with_files(env!("CARGO_PKG_NAME"), "a thread per connection");
    let options = Options::parse(step.numbering("connection"));
    let root = options.root().canonicalize().unwrap_or_else(|e| options.exit_cannot_serve(&e));
    let request_line = Regex::new(r"^([A-Z]+) (/[!-~]*) HTTP/1\.[01]\r\n")?;
    let listener = Listener::bind_or_exit(options);

    let mut number = 0;
    while let Some((mut client, address)) = listener.accept() {
        number += 1;
        let log = Log::new(options, number, address);
        let (root, request_line) = (root.clone(), request_line.clone());
        let serves = move || match serve(&mut client, &root, &request_line, options) {
            Ok(line) => log.line(line),
            Err(error) => log.line(format_args!("lost: {error}")),
        };
        // If the kernel has no thread to give, the client is dropped with its work.
        let _ = thread::Builder::new().spawn(serves);
    }
    Ok(())
}

fn visits() -> MutexGuard<'static, u64> {
    VISITS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request, one answer. Returns the line for the log.
fn serve(
    client: &mut TcpStream,
    root: &Path,
    request_line: &Regex,
    options: &Options,
) -> io::Result<String> {
    // What a visit needs to know is looked up first, so that the answer is quick.
    let before = *visits();
    let head = read_head(client, options)?;
    if head.is_empty() {
        return Ok("closed without a request".to_owned());
    }
    let Answer { status, content_type, field, body } = if head.starts_with("GET /visits ") {
        let now = before + 1;
        *visits() = now;
        Answer::of_visit(now)
    } else {
        respond(&head, root, request_line)
    };
    let mut answer = format!(
        "HTTP/1.1 {status}\r\n\
         Content-Type: {content_type}\r\n\
         Content-Length: {length}\r\n\
         {field}Connection: close\r\n\
         \r\n",
        length = body.len(),
    )
    .into_bytes();
    if !head.starts_with("HEAD ") {
        answer.extend_from_slice(&body);
    }
    // Gives up when not a byte could leave for so long.
    client.set_write_timeout(Some(options.timeout))?;
    client.write_all(&answer)?;
    Ok(format!("{status} {} bytes", body.len()))
}

/// Reads until the empty line that ends the head, in as many pieces as it comes in. A read gives up
/// after a second without anything (a tick; the listener has set that up).
fn read_head(client: &mut TcpStream, options: &Options) -> io::Result<String> {
    let deadline = Instant::now() + options.timeout;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !has_ended(&head) && head.len() < MAX_HEAD {
        match client.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => head.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock && !shutdown::is_requested() => {}
            Err(error) => return Err(error),
        }
        if Instant::now() >= deadline {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Whether there is an empty line. Bare LFs end a head too; it is then answered with 400.
fn has_ended(head: &[u8]) -> bool {
    head.windows(4).any(|bytes| bytes == b"\r\n\r\n") || head.windows(2).any(|b| b == b"\n\n")
}
