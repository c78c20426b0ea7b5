//! Exercise 03b: a server of files, one client after another.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use common::Listener;
use percent_encoding::percent_decode_str;
use regex::Regex;
use terminal::{Log, Options, Step, shutdown};

/// More than a browser ever sends in the head of a request.
const MAX_HEAD: usize = 16 * 1024;

fn main() -> Result<(), regex::Error> {
    let options =
        Options::parse(Step::with_files(env!("CARGO_PKG_NAME"), "one client after another"));
    let root = options.root().canonicalize().unwrap_or_else(|e| options.exit_cannot_serve(&e));
    let request_line = Regex::new(r"^([A-Z]+) (/[!-~]*) HTTP/1\.[01]\r\n")?;
    let listener = Listener::bind_or_exit(options);

    while let Some((mut client, address)) = listener.accept() {
        let log = Log::new(options, 0, address);
        match serve(&mut client, &root, &request_line, &listener, options) {
            Ok(line) => log.line(line),
            Err(error) => log.line(format_args!("lost: {error}")),
        }
    }
    Ok(())
}

/// One request, one answer. Returns the line for the log.
fn serve(
    client: &mut TcpStream,
    root: &Path,
    request_line: &Regex,
    listener: &Listener,
    options: &Options,
) -> io::Result<String> {
    let head = read_head(client, listener, options)?;
    if head.is_empty() {
        return Ok("closed without a request".to_owned());
    }
    let Answer { status, content_type, field, body } = respond(&head, root, request_line);
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
    // Bytes that nobody has read would make closing a reset, which can cost the client its answer.
    client.shutdown(Shutdown::Write)?;
    let deadline = Instant::now() + options.tick();
    while matches!(client.read(&mut [0; 4096]), Ok(1..)) && Instant::now() < deadline {}
    Ok(format!("{status} {} bytes", body.len()))
}

/// Reads until the empty line that ends the head, in as many pieces as it comes in. A read gives up
/// after a second without anything (a tick; the listener has set that up).
fn read_head(client: &mut TcpStream, listener: &Listener, options: &Options) -> io::Result<String> {
    let deadline = Instant::now() + options.timeout;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !has_ended(&head) && head.len() < MAX_HEAD {
        match client.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => head.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // Who has not begun makes room for those who wait.
                let is_spare = head.is_empty() && listener.has_client();
                if is_spare || shutdown::is_requested() {
                    return Err(error);
                }
            }
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

struct Answer {
    status: &'static str,
    content_type: String,
    /// A header field that not every answer has, or nothing.
    field: String,
    body: Vec<u8>,
}

fn page(status: &'static str, field: String) -> Answer {
    let body = format!("<h1>{status}</h1>\n").into_bytes();
    Answer { status, content_type: "text/html; charset=utf-8".to_owned(), field, body }
}

fn respond(head: &str, root: &Path, request_line: &Regex) -> Answer {
    let parts = match request_line.captures(head) {
        Some(parts) if head.contains("\r\n\r\n") => parts,
        _ => return page("400 Bad Request", String::new()),
    };
    if !matches!(&parts[1], "GET" | "HEAD") {
        return page("405 Method Not Allowed", "Allow: GET, HEAD\r\n".to_owned());
    }
    let path = parts[2].split('?').next().unwrap_or_default();
    let Some(file) = find(root, path) else { return page("404 Not Found", String::new()) };
    if file.is_dir() {
        return page("301 Moved Permanently", format!("Location: {path}/\r\n"));
    }
    match file.is_file().then(|| fs::read(&file)) {
        Some(Ok(body)) => {
            let media_type = mime_guess::from_path(&file).first_or_octet_stream();
            let is_text = media_type.type_() == "text";
            let charset = if is_text { "; charset=utf-8" } else { "" };
            let content_type = format!("{media_type}{charset}");
            Answer { status: "200 OK", content_type, field: String::new(), body }
        }
        _ => page("404 Not Found", String::new()),
    }
}

/// The file that a path names, if it lies below the root and is not hidden.
fn find(root: &Path, path: &str) -> Option<PathBuf> {
    let name = percent_decode_str(path).decode_utf8().ok()?;
    // Hidden names begin with a dot, and '..' does too.
    if name.split('/').any(|part| part.starts_with('.')) {
        return None;
    }
    let mut file = root.join(name.strip_prefix('/')?);
    if name.ends_with('/') {
        file.push("index.html");
    }
    // Where it really is, all links followed.
    let file = file.canonicalize().ok()?;
    file.starts_with(root).then_some(file)
}
