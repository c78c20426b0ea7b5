//! A socket as a conversation sees it, over a ring: what the kernel has received lies ready to be read, and
//! what is written leaves with the next call.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::mem::{self, ManuallyDrop};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;

use common::Stream;
use nix::errno::Errno;
use nix::poll::PollFlags;

use crate::ring::{Completion, Operation, Ring, Token};

/// How many bytes may lie unread; then receiving is stopped. One call can bring more than that, all
/// buffers of the ring at most.
const ENOUGH: usize = 16 * 1024;

/// How much memory for its input a connection may keep while it sleeps, in bytes.
const SLEEPS_WITH: usize = 256;

/// One ring, for the loop and all its clients.
pub(crate) type SharedRing = Rc<RefCell<Ring>>;

/// A client's socket. The conversation has it, and so has the loop, which tells it what is done.
#[derive(Clone)]
pub(crate) struct RingStream(Rc<RefCell<Socket>>);

struct Socket {
    /// The ring closes it.
    tcp: ManuallyDrop<TcpStream>,
    token: Token,
    ring: SharedRing,
    /// What has been received and has not been read.
    input: VecDeque<u8>,
    /// What stands behind it: the end (0) or an error.
    end: Option<nix::Result<usize>>,
    is_receiving: bool,
    /// How many bytes leave, and with which call: when that is over they have left.
    leaving: Option<(u64, usize)>,
    /// That fewer have left, or why none has.
    left: Option<nix::Result<usize>>,
    /// Whether there is no room for more, and the ring will say when there is.
    is_full: bool,
    /// Whether the next read or write asks the kernel itself.
    asks_anyway: bool,
}

impl RingStream {
    pub(crate) fn new(tcp: TcpStream, token: Token, ring: SharedRing) -> RingStream {
        RingStream(Rc::new(RefCell::new(Socket {
            tcp: ManuallyDrop::new(tcp),
            token,
            ring,
            input: VecDeque::new(),
            end: None,
            is_receiving: false,
            leaving: None,
            left: None,
            is_full: false,
            asks_anyway: false,
        })))
    }

    /// Hears what the kernel has done for this socket.
    pub(crate) fn complete(&self, completion: &Completion) {
        let mut socket = self.0.borrow_mut();
        match completion.operation {
            Operation::Receive => socket.received(completion),
            Operation::Send => socket.fell_short(completion.result),
            _ => socket.is_full = false,
        }
    }
}

impl Socket {
    fn received(&mut self, completion: &Completion) {
        self.is_receiving = completion.goes_on;
        match completion.result {
            Ok(1..) => self.input.extend(self.ring.borrow().bytes(completion)),
            // No buffer was free, or nobody has read for a while. Who wants to read asks again.
            Err(Errno::ENOBUFS | Errno::ECANCELED | Errno::EAGAIN | Errno::EINTR) => {}
            end => self.end = Some(end),
        }
        if self.input.len() > ENOUGH && self.is_receiving {
            self.ring.borrow_mut().cancel(self.token, Operation::Receive);
        }
    }

    fn fell_short(&mut self, result: nix::Result<usize>) {
        self.leaving = None;
        if result == Err(Errno::EAGAIN) {
            self.is_full = true;
            self.ring.borrow_mut().poll(&*self.tcp, PollFlags::POLLOUT, self.token);
        } else {
            self.left = Some(result);
        }
    }

    /// What has become of the last write, or that another one is of no use yet.
    fn outcome(&mut self, asks_anyway: bool) -> Option<io::Result<usize>> {
        let calls = self.ring.borrow().calls;
        if let Some((_, length)) = self.leaving.take_if(|(call, _)| *call < calls) {
            return Some(Ok(length));
        }
        let would_block = self.leaving.is_some() || self.is_full && !asks_anyway;
        let left = self.left.take().or(would_block.then_some(Err(Errno::EAGAIN)));
        left.map(|result| Ok(result?))
    }
}

impl Read for RingStream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let socket = &mut *self.0.borrow_mut();
        let asks_anyway = mem::take(&mut socket.asks_anyway);
        if !socket.input.is_empty() {
            let length = socket.input.read(bytes)?;
            if socket.input.is_empty() {
                // A connection that sleeps holds little memory.
                socket.input.shrink_to(SLEEPS_WITH);
            }
            return Ok(length);
        }
        if let Some(end) = socket.end {
            return Ok(end?);
        }
        if asks_anyway && !socket.ring.borrow().has_news() {
            return socket.tcp.read(bytes);
        }
        if !socket.is_receiving {
            socket.ring.borrow_mut().receive(&*socket.tcp, socket.token);
            socket.is_receiving = true;
        }
        Err(ErrorKind::WouldBlock.into())
    }
}

impl Write for RingStream {
    /// Submits bytes and says "would block". The next write is of the same bytes, and says what became of
    /// them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let socket = &mut *self.0.borrow_mut();
        let asks_anyway = mem::take(&mut socket.asks_anyway);
        if let Some(outcome) = socket.outcome(asks_anyway) {
            return outcome;
        }
        if asks_anyway || bytes.is_empty() {
            return socket.tcp.write(bytes);
        }
        let ring = &mut *socket.ring.borrow_mut();
        let length = ring.send(&*socket.tcp, bytes, socket.token)?;
        socket.leaving = Some((ring.calls, length));
        Err(ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for RingStream {
    /// A call of its own: the ring has no sendfile(2), and what it has would copy the file. But it says when
    /// there is room again.
    fn send_file(&mut self, file: &File, offset: u64, length: u64) -> io::Result<usize> {
        let socket = &mut *self.0.borrow_mut();
        let asks_anyway = mem::take(&mut socket.asks_anyway);
        if let Some(outcome) = socket.outcome(asks_anyway) {
            return outcome;
        }
        let result = socket.tcp.send_file(file, offset, length);
        if !socket.is_full && result.as_ref().is_err_and(|it| it.kind() == ErrorKind::WouldBlock) {
            socket.fell_short(Err(Errno::EAGAIN));
        }
        result
    }

    fn finish_writing(&mut self) -> io::Result<()> {
        self.0.borrow().tcp.shutdown(Shutdown::Write)
    }

    /// Then reading and writing are plain system calls: what has come, or has room, must count, and its
    /// completion may be yet to come.
    fn ask_anyway(&mut self) {
        self.0.borrow_mut().asks_anyway = true;
    }
}

impl Drop for Socket {
    /// An operation that is under way would keep the socket open.
    fn drop(&mut self) {
        let mut ring = self.ring.borrow_mut();
        if self.is_receiving {
            ring.cancel(self.token, Operation::Receive);
        }
        if self.is_full {
            ring.cancel(self.token, Operation::Poll);
        }
        ring.close(&*self.tcp);
    }
}
