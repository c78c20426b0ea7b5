//! Exercise 04c: a server of files, a process per connection, and a page that counts its visits.

use std::error::Error;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::Path;
use std::process;
use std::time::Instant;

use common::Listener;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use regex::Regex;
use terminal::{Log, Options, Step, shutdown};

use crate::answer::{Answer, respond};

mod answer;

/// More than a browser ever sends in the head of a request.
const MAX_HEAD: usize = 16 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let options =
        Options::parse(Step::with_files(env!("CARGO_PKG_NAME"), "a process per connection"));
    let root = options.root().canonicalize().unwrap_or_else(|e| options.exit_cannot_serve(&e));
    let request_line = Regex::new(r"^([A-Z]+) (/[!-~]*) HTTP/1\.[01]\r\n")?;
    // Readable when a child has ended.
    let ended = SigSet::from(Signal::SIGCHLD);
    ended.thread_block()?;
    let ended = SignalFd::with_flags(&ended, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let listener = Listener::bind_or_exit(options);
    // Memory is copied, but the ends of a pipe lead every process to the same bytes in the kernel. There is
    // the number of visits.
    let mut visits = io::pipe()?;
    visits.1.write_all(&0u64.to_ne_bytes())?;

    // Wakes for a client, and for a child that has ended.
    while listener.wait(Some(ended.as_fd())) {
        while let Ok(Some(_)) = ended.read_signal() {}
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|s| s != WaitStatus::StillAlive) {
        }
        let Some((mut client, address)) = listener.try_accept() else { continue };
        let log = Log::new(options, 0, address);
        // SAFETY: fork copies only the thread that calls it, and until Ctrl-C this process has no
        // other.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                drop(listener);
                match serve(&mut client, &root, &request_line, &mut visits, options) {
                    Ok(line) => log.line(line),
                    Err(error) => log.line(format_args!("lost: {error}")),
                }
                // With the process its copy of the connection ends.
                process::exit(0);
            }
            // The child has a copy of its own; this one must not stay open.
            Ok(ForkResult::Parent { .. }) => drop(client),
            Err(error) => log.line(format_args!("no process for this client: {error}")),
        }
    }
    Ok(())
}

/// One request, one answer. Returns the line for the log.
fn serve(
    client: &mut TcpStream,
    root: &Path,
    request_line: &Regex,
    visits: &mut (PipeReader, PipeWriter),
    options: &Options,
) -> io::Result<String> {
    let head = read_head(client, options)?;
    if head.is_empty() {
        return Ok("closed without a request".to_owned());
    }
    let Answer { status, content_type, field, body } = if head.starts_with("GET /visits ") {
        Answer::of_visit(count(visits)?)
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

/// Takes the number out of the pipe and puts the next one in. Meanwhile the pipe is empty, and whoever else
/// wants to count waits in its read.
fn count((reader, writer): &mut (PipeReader, PipeWriter)) -> io::Result<u64> {
    let mut number = [0; 8];
    reader.read_exact(&mut number)?;
    let visit = u64::from_ne_bytes(number) + 1;
    writer.write_all(&visit.to_ne_bytes())?;
    Ok(visit)
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
