//! Exercise 06a: a coroutine per connection.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::panic::catch_unwind;
use std::time::Duration;

use common::stream::copy_file;
use common::{Client, Progress, Server, Stream};
use may::coroutine::sleep;
use may::go;
use may::io::CoIo;
use terminal::{Options, Step, shutdown};

/// In words of 8 bytes: 96 KiB, most of which is never touched.
const STACK_SIZE: usize = 12 * 1024;

fn main() {
    let step = Step::with_files(env!("CARGO_PKG_NAME"), "a coroutine per connection");
    let options = Options::parse(step.numbering("coroutine"));
    // One thread runs all coroutines: while one waits, another has its turn.
    may::config().set_stack_size(STACK_SIZE).set_workers(1);
    let server = Server::start(options).with_room_for(10_000);

    while let Some(client) = server.accept() {
        // If may has no stack to give, it panics, and the client is dropped with the work. A client
        // that is dropped unserved is told so: 503.
        let _ = catch_unwind(|| go!(|| serve(client)));
    }
    // New clients are refused from here on; those who are here get the answer that has begun.
    server.finish();
}

/// One client, from its first byte to the last byte for it.
fn serve(mut client: Client) {
    let Some(mut connection) = client.converse(CoStream::new) else { return };
    loop {
        match connection.advance() {
            Progress::Closed => return,
            // A client that is always ready would keep the thread for itself.
            Progress::HasMore => sleep(Duration::from_millis(1)),
            Progress::WantsRead | Progress::WantsWrite => {}
        }
        if shutdown::is_requested() {
            connection.finish();
        }
    }
}

/// The socket of a client that has a coroutine.
struct CoStream {
    /// There until it is dropped.
    socket: Option<CoIo<TcpStream>>,
}

impl CoStream {
    /// The listener has seen to it that a read or write gives up after a second (a tick).
    fn new(socket: TcpStream) -> io::Result<CoStream> {
        let tick = socket.read_timeout()?;
        // Reads and writes of a CoIo let another coroutine run instead of blocking the thread.
        let socket = CoIo::new(socket).map_err(|error| io::Error::other(error.to_string()))?;
        socket.set_read_timeout(tick)?;
        socket.set_write_timeout(tick)?;
        Ok(CoStream { socket: Some(socket) })
    }

    fn socket(&mut self) -> io::Result<&mut CoIo<TcpStream>> {
        self.socket.as_mut().ok_or(io::ErrorKind::NotConnected.into())
    }
}

impl Read for CoStream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.socket()?.read(bytes)
    }
}

impl Write for CoStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for CoStream {
    /// A file is read and then written, since may knows of reads and writes, and not of sendfile.
    fn send_file(&mut self, file: &File, offset: u64, length: u64) -> io::Result<usize> {
        copy_file(self, file, offset, length)
    }

    fn finish_writing(&mut self) -> io::Result<()> {
        self.socket()?.inner().shutdown(Shutdown::Write)
    }
}

impl Drop for CoStream {
    fn drop(&mut self) {
        // may's epoll must forget the socket before it is closed.
        drop(self.socket.take().map(CoIo::into_inner));
    }
}
