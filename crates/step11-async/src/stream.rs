//! What tokio needs: a socket that it watches for its task, and threads that are there before the first
//! client.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::panic::{set_hook, take_hook};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::channel;

use common::{Progress, Stream};
use socket2::{SockRef, Socket};
use terminal::Options;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

/// Starts tokio's threads, which run the tasks. Where one of them cannot be had, for want of processes,
/// descriptors or memory, the server ends before it listens.
pub(crate) fn start_tokio(options: &'static Options) -> Runtime {
    let give_up = move || -> ! {
        options.exit(
            "cannot start the threads of tokio, which run the tasks; allow this user more processes \
             (ulimit -u), descriptors (ulimit -n) or memory (ulimit -v), or try step 09",
        )
    };
    let (sender, started) = channel();
    let number = AtomicUsize::new(1);
    let panics = take_hook();
    // Where it lacks a thread, tokio panics, and on the way out waits for ever for those that it has. A hook
    // comes before that.
    set_hook(Box::new(move |_| give_up()));
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(options.workers).enable_io().enable_time();
    builder.thread_name_fn(move || format!("worker {}", number.fetch_add(1, Relaxed)));
    builder.on_thread_start(move || sender.send(()).unwrap_or_default());
    let runtime = builder.build().unwrap_or_else(|_| give_up());
    for _ in 0..options.workers {
        started.recv().unwrap_or_else(|_| give_up());
    }
    set_hook(panics);
    runtime
}

/// A client's socket, of which tokio knows whether it is ready. Reads and writes never wait; a task waits in
/// [`TaskStream::ready_for`].
pub(crate) struct TaskStream {
    socket: TcpStream,
    /// Whether to ask the kernel also when tokio has not heard that the socket is ready.
    asks_anyway: bool,
}

impl TaskStream {
    /// Has tokio watch the socket. What has come before that is read without waiting to hear of it.
    pub(crate) fn new(socket: std::net::TcpStream) -> io::Result<TaskStream> {
        socket.set_nonblocking(true)?;
        Ok(TaskStream { socket: TcpStream::from_std(socket)?, asks_anyway: true })
    }

    /// Waits for what a conversation wants next. Others have their turn meanwhile.
    pub(crate) async fn ready_for(&mut self, progress: Progress) {
        self.asks_anyway = false;
        // An error is the socket's own, and its next read or write has it.
        let _ = match progress {
            Progress::WantsRead => self.socket.readable().await,
            Progress::WantsWrite => self.socket.writable().await,
            // A client that is always ready would keep its thread for itself.
            Progress::HasMore | Progress::Closed => return yield_now().await,
        };
    }

    /// Reads or writes. When the socket says "would block", try_io has tokio forget that it was ready, so
    /// that the next wait is one.
    fn attempt<T>(
        &self,
        interest: Interest,
        mut action: impl FnMut(&mut &Socket) -> io::Result<T>,
    ) -> io::Result<T> {
        let socket = SockRef::from(&self.socket);
        match self.socket.try_io(interest, || action(&mut &*socket)) {
            Err(error) if self.asks_anyway && error.kind() == ErrorKind::WouldBlock => {
                action(&mut &*socket)
            }
            result => result,
        }
    }
}

impl Read for TaskStream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.attempt(Interest::READABLE, |socket| socket.read(bytes))
    }
}

impl Write for TaskStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.attempt(Interest::WRITABLE, |socket| socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for TaskStream {
    fn send_file(&mut self, file: &File, offset: u64, length: u64) -> io::Result<usize> {
        self.attempt(Interest::WRITABLE, |socket| socket.send_file(file, offset, length))
    }

    fn finish_writing(&mut self) -> io::Result<()> {
        (&*SockRef::from(&self.socket)).finish_writing()
    }

    /// A deadline may come while tokio has not yet heard all that the kernel knows.
    fn ask_anyway(&mut self) {
        self.asks_anyway = true;
    }
}

#[cfg(test)]
mod tests {
    use crate::serve;

    /// The size of what an async function with two arguments returns, in bytes.
    fn size_of_task<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    #[allow(clippy::print_stdout)]
    fn a_task_is_less_than_a_kilobyte() {
        let size = size_of_task(serve);
        println!("a task: {size} bytes");
        assert!(size < 1000, "{size} bytes");
    }
}
