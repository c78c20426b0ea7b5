//! Step 05 in Rust, with nothing but the standard library: a thread per connection.
//! rustc threads.rs && ./threads --port 8080 --root SITE

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::{env, fs, thread};

fn main() {
    let words: Vec<String> = env::args().collect();
    let root = fs::canonicalize(&words[4]).expect("a folder");
    let listener = TcpListener::bind(("127.0.0.1", words[2].parse().expect("a port"))).expect("the port");
    for client in listener.incoming().flatten() {
        let root = root.clone();
        thread::spawn(move || serve(client, &root));
    }
}

fn serve(mut client: TcpStream, root: &Path) {
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while !head.windows(4).any(|part| part == b"\r\n\r\n") && head.len() < 32 * 1024 {
        match client.read(&mut piece) {
            Ok(length) if length > 0 => head.extend_from_slice(&piece[..length]),
            _ => break,
        }
    }
    if !head.is_empty() {
        let _ = client.write_all(&answer(&String::from_utf8_lossy(&head), root));
    }
}

/// Head and body as one text, so that they leave together.
fn answer(head: &str, root: &Path) -> Vec<u8> {
    let words: Vec<&str> = head.lines().next().unwrap_or_default().split(' ').collect();
    let (method, target) = match words[..] {
        [method @ ("GET" | "HEAD"), target, "HTTP/1.1" | "HTTP/1.0"] if head.contains("\r\n\r\n") => {
            (method, target)
        }
        _ => return message("400 Bad Request", "text/plain", b"bad\n", true),
    };
    let found = find(target, root).and_then(|path| Some((fs::read(&path).ok()?, path)));
    match found {
        None => message("404 Not Found", "text/plain", b"not found\n", method == "GET"),
        Some((body, path)) => {
            let kind = match path.extension().and_then(|ending| ending.to_str()) {
                Some("html") => "text/html; charset=utf-8",
                Some("css") => "text/css",
                Some("png") => "image/png",
                _ => "application/octet-stream",
            };
            message("200 OK", kind, &body, method == "GET")
        }
    }
}

fn message(status: &str, kind: &str, body: &[u8], with_body: bool) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), if with_body { body } else { b"" }].concat()
}

/// The file that a target names, if it lies below the root.
fn find(target: &str, root: &Path) -> Option<PathBuf> {
    let mut name = Vec::new();
    let mut bytes = target.split('?').next()?.strip_prefix('/')?.bytes();
    while let Some(byte) = bytes.next() {
        name.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    let name = String::from_utf8(name).ok()?;
    let name = if name.is_empty() || name.ends_with('/') { name + "index.html" } else { name };
    let path = fs::canonicalize(root.join(name)).ok()?;
    path.starts_with(root).then_some(path)
}
