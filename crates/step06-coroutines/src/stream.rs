//! What may needs: a socket whose reads and writes let another coroutine run instead of blocking the
//! thread, pauses, small stacks, and threads that are there before the first client.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use common::stream::copy_file;
use common::{Client, Progress, Stream};
use may::coroutine::{Coroutine, current, park, yield_now};
use may::go;
use may::io::CoIo;
use terminal::{Options, shutdown};

/// In words of 8 bytes: 96 KiB, most of which is never touched. A debug build was seen to use 27 KiB,
/// and the default is 32 KiB.
const STACK_SIZE: usize = 12 * 1024;
/// How long may's threads may take to run a first coroutine.
const PATIENCE: Duration = Duration::from_secs(5);

/// Has may start its threads, which it would do at its first coroutine. Where it cannot, for want of
/// processes, descriptors or memory, it panics or does nothing: then the server ends before it listens.
pub(crate) fn start_may(options: &'static Options) -> &'static Options {
    // One worker. With two, a coroutine may run in one while the other keeps the list of timers of its
    // socket; may (0.3.51) then changes that list from both.
    may::config().set_stack_size(STACK_SIZE).set_workers(1);
    let (sender, started) = channel();
    let panics = take_hook();
    set_hook(Box::new(|_| {}));
    let _ = catch_unwind(AssertUnwindSafe(|| go!(move || sender.send(()))));
    if start_pauses().is_err() || started.recv_timeout(PATIENCE).is_err() {
        options.exit(
            "cannot start the threads of may, which run the coroutines; allow this user more \
             processes (ulimit -u), descriptors (ulimit -n) or memory (ulimit -v), or try step 05",
        );
    }
    set_hook(panics);
    options
}

/// One client, from its first byte to the last byte for it.
pub(crate) fn serve(mut client: Client) {
    let Some(mut connection) = client.converse(CoStream::new) else { return };
    loop {
        match connection.advance() {
            Progress::Closed => return,
            // A client that is always ready would keep its thread for itself. yield_now is not enough:
            // the thread would go on without asking epoll who else is ready.
            Progress::HasMore => pause(),
            Progress::WantsRead | Progress::WantsWrite => {}
        }
        if shutdown::is_requested() {
            connection.finish();
        }
    }
}

/// Where coroutines go that make a pause.
static PAUSES: OnceLock<Sender<Coroutine>> = OnceLock::new();

/// Starts a thread that wakes them after a millisecond. may (0.3.51) cannot do that where its threads
/// have to wait for a processor: its `sleep` then uses a coroutine that has ended meanwhile, which ends
/// the process, and its `park_timeout` sets an alarm that rings before anybody sleeps.
fn start_pauses() -> io::Result<()> {
    let (sender, paused) = channel::<Coroutine>();
    thread::Builder::new().spawn(move || {
        while let Ok(first) = paused.recv() {
            thread::sleep(Duration::from_millis(1));
            first.unpark();
            paused.try_iter().for_each(|coroutine| coroutine.unpark());
        }
    })?;
    let _ = PAUSES.set(sender);
    Ok(())
}

/// Lets others run for a millisecond. Who is woken while it parks goes on inside the call that parks it,
/// and if it ended there, may (0.3.51) would wait for that call in that call. yield_now leaves it.
fn pause() {
    if PAUSES.get().is_some_and(|pauses| pauses.send(current()).is_ok()) {
        park();
        yield_now();
    }
}

/// A socket in which a read or write lets another coroutine run while it waits.
struct CoStream {
    /// There until it is dropped.
    socket: Option<CoIo<TcpStream>>,
}

impl CoStream {
    fn new(socket: TcpStream) -> io::Result<CoStream> {
        // The listener has set both to a tick. The same length each time: may keeps a list for every
        // length of timeout it has ever seen.
        let tick = socket.read_timeout()?;
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
    /// A file is read and then written, since may waits only in its own `write`, and not in sendfile.
    fn send_file(&mut self, file: &File, offset: u64, length: u64) -> io::Result<usize> {
        copy_file(self, file, offset, length)
    }

    fn finish_writing(&mut self) -> io::Result<()> {
        self.socket()?.inner().shutdown(Shutdown::Write)
    }
}

impl Drop for CoStream {
    fn drop(&mut self) {
        // Taken out of its CoIo, the socket is forgotten by may's epoll before it is closed. Dropped
        // together it would be closed first, and its number may be the next client's by then.
        drop(self.socket.take().map(CoIo::into_inner));
    }
}
