//! Step 03 in one piece and plain: the files of a folder, for one client after another.
//!
//! `cargo run -p step03-static-files --example plain`. The crate `common` is this, hardened.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use percent_encoding::percent_decode;
use regex::bytes::Regex;
use terminal::{Log, Options, Step, shutdown};

/// More than a browser ever sends in the head of a request.
const MAX_HEAD: usize = 16 * 1024;

fn main() -> Result<(), regex::Error> {
    let name = concat!(env!("CARGO_PKG_NAME"), " --example plain");
    let options = Options::parse(Step::with_files(name, "one client after another"));
    let root = options.root().canonicalize().unwrap_or_else(|e| options.exit_cannot_serve(&e));
    // The target in two groups: a path, which is visible ASCII without '?', and perhaps a query.
    let request_line = Regex::new(r"^GET (/[!->@-~]*)(\?[!-~]*)? HTTP/1\.[01]\r\n")?;
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
        let answered = read_head(&mut client, &end_of_head, options).and_then(|head| {
            let answer = respond(&head, &request_line, &root);
            send(&mut client, &answer, options.timeout)?;
            let first_line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
            let (line, length) = (first_line.trim_ascii_end().escape_ascii(), answer.body.len());
            Ok(format!("\"{line}\" {} {length} bytes", answer.status))
        });
        match answered {
            Ok(line) => log.line(line),
            Err(error) => log.line(format_args!("lost: {error}")),
        }
    }
    Ok(())
}

/// Reads until the empty line that ends the head, in as many pieces as it comes in.
fn read_head(client: &mut TcpStream, end: &Regex, options: &Options) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + options.timeout;
    client.set_read_timeout(Some(options.tick()))?;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !end.is_match(&head) && head.len() < MAX_HEAD {
        match client.read(&mut buffer) {
            Ok(0) if head.is_empty() => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(0) => break,
            Ok(length) => head.extend_from_slice(&buffer[..length]),
            // A tick without a byte, a second as a rule. Who has begun has the whole timeout. Who has
            // not is let go: browsers open spare connections, and somebody else may be waiting.
            Err(error) if error.kind() == ErrorKind::WouldBlock && head.is_empty() => {
                return Err(ErrorKind::TimedOut.into());
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
        if deadline <= Instant::now() {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    Ok(head)
}

struct Answer {
    status: &'static str,
    content_type: String,
    body: Vec<u8>,
}

/// A head in, an answer out.
fn respond(head: &[u8], request_line: &Regex, root: &Path) -> Answer {
    let Some(parts) = request_line.captures(head) else {
        return page("400 Bad Request", "<h1>This is not a request that I understand</h1>");
    };
    let Some(file) = find(&parts[1], root) else {
        return page("404 Not Found", "<h1>Nothing found</h1>");
    };
    // The browser goes by this, and not by the ending of the name.
    let media_type = mime_guess::from_path(&file).first_or_octet_stream();
    let charset = if media_type.type_() == "text" { "; charset=utf-8" } else { "" };
    match fs::read(&file) {
        Ok(body) => {
            Answer { status: "200 OK", content_type: format!("{media_type}{charset}"), body }
        }
        Err(_) => page("403 Forbidden", "<h1>This file cannot be read</h1>"),
    }
}

fn page(status: &'static str, body: &str) -> Answer {
    let content_type = "text/html; charset=utf-8".to_owned();
    Answer { status, content_type, body: body.into() }
}

/// The file that a path means, if there is one in the folder.
fn find(path: &[u8], root: &Path) -> Option<PathBuf> {
    // "%20" is a space, and "%2e" is a dot, so this comes before any look at the names.
    let path = percent_decode(path).decode_utf8().ok()?;
    // Names that begin with a dot are hidden, and ".." is one of them.
    if path.split('/').any(|name| name.starts_with('.')) {
        return None;
    }
    let mut file = root.join(path.trim_start_matches('/'));
    if path.ends_with('/') {
        file.push("index.html");
    }
    // Where that really is, with all links followed: it must be below the root. A folder is no file,
    // nor is a named pipe, which would be waited for.
    let file = file.canonicalize().ok()?;
    (file.starts_with(root) && file.is_file()).then_some(file)
}

/// Head and body in one write, as step 02 does.
fn send(client: &mut TcpStream, answer: &Answer, timeout: Duration) -> io::Result<()> {
    let Answer { status, content_type, body } = answer;
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\n\
         Content-Type: {content_type}\r\n\
         Content-Length: {length}\r\n\
         Connection: close\r\n\
         \r\n",
        length = body.len(),
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    client.set_write_timeout(Some(timeout))?;
    client.write_all(&bytes)
}
