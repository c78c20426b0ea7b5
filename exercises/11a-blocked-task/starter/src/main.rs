//! Exercise 11a: a task per connection.

use std::error::Error;
use std::io;
use std::time::Duration;

use common::Listener;
use terminal::{Log, Options, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::site::Site;

mod site;

/// More than a browser ever sends in the head of a request.
const MAX_HEAD: usize = 16 * 1024;
/// How much of an answer must leave within each timeout, in bytes.
const PIECE: usize = 16 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let step = Step::with_files(env!("CARGO_PKG_NAME"), "a task per connection").numbering("task");
    let options = Options::parse(step);
    let site: &'static Site = Box::leak(Box::new(Site::open_or_exit(options)?));
    // One thread runs all tasks: while one waits, another has its turn.
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = Listener::bind_or_exit(options);

    let mut number = 0;
    while let Some((stream, address)) = listener.accept() {
        number += 1;
        let log = Log::new(options, number, address);
        runtime.spawn(async move {
            if let Err(error) = serve(stream, site, log).await {
                log.line(format_args!("lost: {error}"));
            }
        });
    }
    // Who is still here is let go.
    runtime.shutdown_background();
    Ok(())
}

/// One client, from its first byte to the last byte for it.
async fn serve(stream: std::net::TcpStream, site: &'static Site, log: Log) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(stream)?;
    let patience = log.options.timeout;
    let mut input = Vec::new();
    loop {
        let head = timeout(patience, read_head(&mut stream, &mut input)).await??;
        if head.is_empty() {
            return Ok(());
        }
        let is_last = site.is_last(&head);
        let is_head = head.starts_with("HEAD ");
        let answer = site.respond(&head);
        let is_last = is_last || answer.status.starts_with("400");
        log.line(format_args!("{} {} bytes", answer.status, answer.body.len()));
        for piece in answer.into_bytes(is_head, is_last).chunks(PIECE) {
            timeout(patience, stream.write_all(piece)).await??;
        }
        if is_last {
            return close(stream, patience).await;
        }
    }
}

/// Reads until the input holds a whole head, and takes it out. It is empty when the client has closed.
async fn read_head(stream: &mut TcpStream, input: &mut Vec<u8>) -> io::Result<String> {
    loop {
        if let Some(end) = end_of_head(input) {
            let head: Vec<u8> = input.drain(..end).collect();
            return Ok(String::from_utf8_lossy(&head).into_owned());
        }
        if stream.read_buf(input).await? == 0 {
            return Ok(String::new());
        }
    }
}

/// Where the first head in the input ends. Bare LFs end one too, and so does a length that no browser
/// needs; both are then answered with 400.
fn end_of_head(input: &[u8]) -> Option<usize> {
    let end_of = |mark: &[u8]| input.windows(mark.len()).position(|bytes| bytes == mark);
    let end = end_of(b"\r\n\r\n").map(|at| at + 4).or_else(|| end_of(b"\n\n").map(|at| at + 2));
    end.or_else(|| (input.len() > MAX_HEAD).then_some(input.len()))
}

/// The client sees the end and closes too. What it still sends is thrown away.
async fn close(mut stream: TcpStream, patience: Duration) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = [0; 4096];
    timeout(patience, async {
        while stream.read(&mut rest).await? > 0 {}
        Ok(())
    })
    .await?
}
