//! Step 01: HTTP by hand. The program shows what a browser sends; the answer is yours.
//!
//! Type it, up to a line with a single dot, or pipe it in from a file.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::Listener;
use terminal::{Options, Step, print};

/// What is read of a request before it is shown, whether it has ended or not.
const MAX_REQUEST: usize = 64 * 1024;

fn main() {
    let options = Options::parse(Step::without_files(env!("CARGO_PKG_NAME"), "you are the server"));
    let piped_answer = (!io::stdin().is_terminal()).then(read_piped_answer);
    let listener = Listener::bind_or_exit(options);

    // You answer one request at a time, in the order they come.
    let (requests, waiting) = mpsc::channel::<(TcpStream, SocketAddr, Vec<u8>)>();
    thread::spawn(move || {
        for (client, address, request) in waiting {
            if !options.quiet {
                print(&format!("\n--- a request from {address} ---\n{}", describe(&request)));
            }
            // Who has given up waiting needs no answer, and the next one is waiting too.
            if piped_answer.is_none() && has_gone(&client) {
                print("--- this client has gone already ---\n");
                continue;
            }
            let answer = piped_answer.clone().unwrap_or_else(type_answer);
            send(client, &answer, options);
        }
    });

    while let Some((mut client, _)) = listener.accept() {
        // A browser opens spare connections and sends nothing on them. Each connection is read on
        // the side (step 05 shows how), so that a silent one is in nobody's way.
        let requests = requests.clone();
        let read_on_the_side = thread::Builder::new().spawn(move || {
            let request = read_request(&mut client, options.timeout);
            if let (false, Ok(address)) = (request.is_empty(), client.peer_addr()) {
                let _ = requests.send((client, address, request));
            }
        });
        if let Err(error) = read_on_the_side {
            options.warn(format_args!("cannot read from a client: {error}"));
        }
    }
}

/// Reads the head and, if a Content-Length announces one, the body; or what has come when the client
/// stops sending or its time is up.
fn read_request(client: &mut TcpStream, timeout: Duration) -> Vec<u8> {
    let deadline = Instant::now() + timeout;
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !is_whole(&request) && request.len() < MAX_REQUEST && Instant::now() < deadline {
        match client.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => request.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    request
}

fn is_whole(request: &[u8]) -> bool {
    let Some((head, body)) = split_head(request) else { return false };
    let announced = lines(head).find_map(|line| {
        let (name, value) = str::from_utf8(line).ok()?.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    body.len() >= announced.unwrap_or(0)
}

/// The head with its empty line, and what follows; `None` while there is no empty line.
fn split_head(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0;
    for line in lines(message) {
        length += line.len();
        if matches!(line, b"\r\n" | b"\n") {
            return Some(message.split_at(length));
        }
    }
    None
}

/// Lines with their line ends, so that these can be shown.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|&byte| byte == b'\n')
}

/// Names each part of a request, line by line. What cannot be printed appears as an escape: the end
/// of a line is \r\n.
fn describe(request: &[u8]) -> String {
    let (head, body) = split_head(request).unwrap_or((request, b""));
    let mut text = String::new();
    for (number, line) in lines(head).enumerate() {
        let shown = line.escape_ascii();
        let name = match line {
            b"\r\n" | b"\n" => "empty line",
            _ if number == 0 => "request line",
            _ => "header field",
        };
        text += &format!("{name:<14}{shown}\n");
        if number == 0 {
            let mut words = line.trim_ascii_end().splitn(3, |&byte| byte == b' ');
            for part in ["method", "target", "version"] {
                let word = words.next().unwrap_or(b"(missing)").escape_ascii();
                text += &format!("  {part:<12}{word}\n");
            }
        }
    }
    if !body.is_empty() {
        text += &format!("{:<14}{} bytes: {}\n", "body", body.len(), body.escape_ascii());
    }
    text
}

/// What a person types, up to a line with a single dot or Ctrl-D. The Enter key gives a bare LF; each
/// line goes out with the CR LF that HTTP asks for.
fn type_answer() -> Vec<u8> {
    print("--- your answer; a line with a single dot ends it ---\n");
    let mut answer = Vec::new();
    for line in io::stdin().lock().split(b'\n').map_while(Result::ok) {
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line == b"." {
            break;
        }
        answer.extend_from_slice(line);
        answer.extend_from_slice(b"\r\n");
    }
    answer
}

/// All of standard input. An editor ends lines with a bare LF too, so the lines of the head get their
/// CR; the body, which may be a picture, stays as it is.
fn read_piped_answer() -> Vec<u8> {
    let mut file = Vec::new();
    if let Err(error) = io::stdin().lock().read_to_end(&mut file) {
        print(&format!("cannot read standard input: {error}\n"));
    }
    let (head, body) = split_head(&file).unwrap_or((&file, b""));
    let mut answer = Vec::with_capacity(file.len() + 64);
    for line in lines(head) {
        answer.extend_from_slice(line.trim_ascii_end());
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(body);
    answer
}

/// Whether the client has closed the connection.
fn has_gone(client: &TcpStream) -> bool {
    let _ = client.set_nonblocking(true);
    let gone = matches!(client.peek(&mut [0]), Ok(0));
    let _ = client.set_nonblocking(false);
    gone
}

fn send(mut client: TcpStream, answer: &[u8], options: &Options) {
    let sent =
        client.set_write_timeout(Some(options.timeout)).and_then(|()| client.write_all(answer));
    match sent {
        Ok(()) if options.quiet => {}
        Ok(()) => print(&format!("--- {} bytes sent, connection closed ---\n", answer.len())),
        Err(error) => print(&format!("--- the client did not wait for the answer: {error} ---\n")),
    }
}
