//! The ring: what io_uring(7) needs `unsafe` for, and nothing else.
//!
//! The memory that the kernel uses too has one owner at a time. A buffer for receiving is the kernel's from
//! [`Ring::give`] until a completion names it, and then ours. The outbox is the kernel's only while this thread
//! is inside io_uring_enter(2), in [`Ring::enter`]: a send with MSG_DONTWAIT is carried out or has failed
//! when the call returns. It is never put aside until there is room, nor handed to a thread of the kernel.

#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, RawFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{BufRingEntry, Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, SockFlag};

/// How many submissions go into one call at most.
const SUBMISSIONS: u32 = 1024;
/// How many completions the kernel can leave for us to find; what is more waits inside the kernel.
const COMPLETIONS: u32 = 4096;
/// How many buffers there are for what has come, for all clients together, between two calls.
const BUFFERS: u16 = 256;
/// The size of one of them, in bytes.
const BUFFER_SIZE: usize = 2048;
/// How many bytes can be sent in one call.
const OUTBOX_SIZE: usize = 1024 * 1024;
/// The name of the group of buffers; there is only one.
const GROUP: u16 = 0;

/// Who is meant by a completion.
pub(crate) type Token = u64;

/// What was asked for. It travels through the kernel together with the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Accept,
    Receive,
    Send,
    Poll,
    /// What needs no answer.
    Other,
}

/// What the kernel has done.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) token: Token,
    pub(crate) operation: Operation,
    /// What the system call of the same name would have returned.
    pub(crate) result: nix::Result<usize>,
    /// Whether the same submission will bring more.
    pub(crate) goes_on: bool,
    /// Which buffer the bytes are in.
    buffer: Option<u16>,
}

/// The memory that the kernel uses too. It is never freed, so that no address in a submission can become
/// wrong, whatever happens to the client that it was for.
#[repr(C, align(4096))]
struct Shared {
    /// The buffers that the kernel may take, in order. One page; the kernel asks for that.
    free: [BufRingEntry; BUFFERS as usize],
    buffers: [[u8; BUFFER_SIZE]; BUFFERS as usize],
    outbox: [u8; OUTBOX_SIZE],
}

/// A pair of queues that are shared with the kernel: what it shall do, and what it has done.
pub(crate) struct Ring {
    uring: IoUring,
    shared: NonNull<Shared>,
    /// How many buffers have been given to the kernel so far, modulo 2^16.
    given: u16,
    /// How much of the outbox is full.
    used: usize,
    /// What the kernel shall do with the next call.
    submissions: Vec<Entry>,
    /// Who sends something with the next call.
    senders: Vec<Token>,
    completions: Vec<Completion>,
    /// How often [`Ring::wait`] has returned.
    pub(crate) calls: u64,
}

impl Ring {
    /// # Errors
    /// ENOSYS: this kernel has no io_uring. EPERM: it is forbidden. EINVAL: the kernel is older than 6.1. All that is
    /// used here came with that version or before.
    pub(crate) fn new() -> io::Result<Ring> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        // SAFETY: all zeros is a value of this type: it has numbers in it and nothing else.
        let shared = Box::leak(unsafe { Box::<Shared>::new_zeroed().assume_init() });
        let shared = NonNull::from(shared);
        let address = shared.as_ptr() as u64;
        // SAFETY: BUFFERS entries begin at this address, and they are never freed.
        unsafe { uring.submitter().register_buf_ring_with_flags(address, BUFFERS, GROUP, 0)? };
        let (submissions, senders, completions) = (Vec::new(), Vec::new(), Vec::new());
        let mut ring =
            Ring { uring, shared, given: 0, used: 0, submissions, senders, completions, calls: 0 };
        (0..BUFFERS).for_each(|buffer| ring.give(buffer));
        Ok(ring)
    }

    /// Accepts clients from now on, each with a completion.
    pub(crate) fn accept(&mut self, listener: &impl AsFd, token: Token) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let entry = opcode::AcceptMulti::new(fd(listener)).flags(flags.bits()).build();
        self.push(entry, token, Operation::Accept);
    }

    /// Receives from now on whatever comes, each time into a buffer that the kernel takes from the free
    /// ones. It ends by itself when there is none (ENOBUFS), and behind the client's last byte (0).
    pub(crate) fn receive(&mut self, socket: &impl AsFd, token: Token) {
        self.push(opcode::RecvMulti::new(fd(socket), GROUP).build(), token, Operation::Receive);
    }

    /// Sends bytes with the next call, as many as the socket has room for in that moment; returns how
    /// many were taken. There is a completion only if fewer could be sent.
    ///
    /// # Errors
    /// As [`Ring::wait`]: a full outbox is sent at once.
    pub(crate) fn send(
        &mut self,
        socket: &impl AsFd,
        bytes: &[u8],
        token: Token,
    ) -> io::Result<usize> {
        let length = bytes.len().min(OUTBOX_SIZE);
        if self.used + length > OUTBOX_SIZE {
            self.enter(Some(Duration::ZERO))?;
        }
        // SAFETY: these bytes of the outbox are ours. It is filled from the front, and from the front
        // again only when the kernel has carried out everything that was submitted.
        let place = unsafe {
            let place = (&raw mut (*self.shared.as_ptr()).outbox).cast::<u8>().add(self.used);
            place.copy_from_nonoverlapping(bytes.as_ptr(), length);
            place
        };
        self.used += length;
        self.senders.push(token);
        // The first two together: send all of it now or say how much it was. The kernel does not wait for
        // room, and has no use for the bytes after the call.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_WAITALL | MsgFlags::MSG_NOSIGNAL;
        let entry = opcode::Send::new(fd(socket), place, length as u32).flags(flags.bits()).build();
        self.push(entry.flags(Flags::SKIP_SUCCESS), token, Operation::Send);
        Ok(length)
    }

    /// Says once when a descriptor is ready, as poll(2) does.
    pub(crate) fn poll(&mut self, descriptor: &impl AsFd, flags: PollFlags, token: Token) {
        let flags = flags.bits() as u32;
        self.push(opcode::PollAdd::new(fd(descriptor), flags).build(), token, Operation::Poll);
    }

    /// Ends an operation that is under way; it then has a last completion.
    pub(crate) fn cancel(&mut self, token: Token, operation: Operation) {
        let entry = opcode::AsyncCancel::new(user_data(token, operation)).build();
        self.push(entry.flags(Flags::SKIP_SUCCESS), token, Operation::Other);
    }

    /// Closes a socket after all that has been submitted for it, so that none of that can meet the next
    /// one with the same number.
    pub(crate) fn close(&mut self, socket: &impl AsFd) {
        let entry = opcode::Close::new(fd(socket)).build();
        self.push(entry.flags(Flags::SKIP_SUCCESS), 0, Operation::Other);
    }

    fn push(&mut self, entry: Entry, token: Token, operation: Operation) {
        self.submissions.push(entry.user_data(user_data(token, operation)));
    }

    /// Submits everything, and waits until something is done or the time is over. Returns what is done,
    /// and who has been sent something: all of it, if no completion says otherwise.
    ///
    /// # Errors
    /// None that time or other programs could bring about.
    pub(crate) fn wait(
        &mut self,
        patience: Option<Duration>,
    ) -> io::Result<(Vec<Completion>, Vec<Token>)> {
        // What has been sent without fault wakes nobody.
        let is_waiting = self.senders.is_empty() && self.completions.is_empty();
        self.enter(if is_waiting { patience } else { Some(Duration::ZERO) })?;
        self.calls += 1;
        Ok((mem::take(&mut self.completions), mem::take(&mut self.senders)))
    }

    /// Calls io_uring_enter(2), mostly once; again if it could not take everything, or had more to tell
    /// than the queue has room for.
    fn enter(&mut self, mut patience: Option<Duration>) -> io::Result<()> {
        loop {
            let mut queue = self.uring.submission();
            let length = self.submissions.len().min(queue.capacity() - queue.len());
            // SAFETY: an entry points to nothing, or to the outbox, which is never freed.
            unsafe { queue.push_multiple(&self.submissions[..length]) }
                .map_err(io::Error::other)?;
            self.submissions.drain(..length);
            let length = queue.len() as u32;
            drop(queue);
            let submitter = self.uring.submitter();
            let result = match patience {
                None => submitter.submit_and_wait(1),
                // SAFETY: this flag goes with no argument.
                Some(Duration::ZERO) => unsafe {
                    submitter.enter::<()>(length, 0, EnterFlags::GETEVENTS.bits(), None)
                },
                Some(patience) => {
                    let patience = Timespec::from(patience);
                    submitter.submit_with_args(1, &SubmitArgs::new().timespec(&patience))
                }
            };
            match result.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0))) {
                // The time was over, a signal came, the kernel had no memory, or it wants to be rid of
                // completions first.
                Ok(_) | Err(Errno::ETIME | Errno::EINTR | Errno::EAGAIN | Errno::EBUSY) => {}
                Err(error) => return Err(error.into()),
            }
            let completions = self.uring.completion().map(Completion::from);
            // An operation to be cancelled may have ended before. That is no news.
            self.completions.extend(completions.filter(|it| it.operation != Operation::Other));
            let queue = self.uring.submission();
            if self.submissions.is_empty() && queue.is_empty() && !queue.cq_overflow() {
                self.used = 0;
                return Ok(());
            }
            patience = Some(Duration::ZERO);
        }
    }

    /// Whether something has been done that nobody has been told yet.
    pub(crate) fn has_news(&self) -> bool {
        !self.completions.is_empty()
    }

    /// The bytes that have come with a completion. It is not asked for them twice.
    pub(crate) fn bytes(&self, completion: &Completion) -> &[u8] {
        let (Some(buffer), Ok(length)) = (completion.buffer, completion.result) else { return &[] };
        // SAFETY: with this completion the kernel has handed the buffer over, filled up to this length. It
        // is ours until `recycle` gives it back, which needs `self` for itself alone.
        unsafe {
            let buffer = &raw const (*self.shared.as_ptr()).buffers[usize::from(buffer)];
            slice::from_raw_parts(buffer.cast::<u8>(), length)
        }
    }

    /// Gives the buffer of a completion back to the kernel.
    pub(crate) fn recycle(&mut self, completion: Completion) {
        if let Some(buffer) = completion.buffer {
            self.give(buffer);
        }
    }

    fn give(&mut self, buffer: u16) {
        let place = usize::from(self.given % BUFFERS);
        self.given = self.given.wrapping_add(1);
        // SAFETY: the buffer is ours, since it is new or came with a completion, and so is the place: there
        // are as many of them as buffers. The tail stands in an unused part of the first entry.
        unsafe {
            let shared = self.shared.as_ptr();
            let entry = &mut (*shared).free[place];
            entry.set_addr(&raw const (*shared).buffers[usize::from(buffer)] as u64);
            entry.set_len(BUFFER_SIZE as u32);
            entry.set_bid(buffer);
            let tail = BufRingEntry::tail(shared.cast()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.given, Ordering::Release);
        }
    }
}

impl Completion {
    /// The client that has been accepted.
    pub(crate) fn socket(&mut self) -> Option<TcpStream> {
        let result = mem::replace(&mut self.result, Ok(0));
        let descriptor = result.ok().filter(|_| self.operation == Operation::Accept)?;
        // SAFETY: the kernel has made this descriptor for us, and nobody takes it from here twice.
        Some(unsafe { TcpStream::from_raw_fd(descriptor as RawFd) })
    }
}

impl From<cqueue::Entry> for Completion {
    fn from(entry: cqueue::Entry) -> Completion {
        let (result, flags) = (entry.result(), entry.flags());
        let operation = match entry.user_data() & 7 {
            0 => Operation::Accept,
            1 => Operation::Receive,
            2 => Operation::Send,
            3 => Operation::Poll,
            _ => Operation::Other,
        };
        Completion {
            token: entry.user_data() >> 3,
            operation,
            result: usize::try_from(result).map_err(|_| Errno::from_raw(-result)),
            goes_on: cqueue::more(flags),
            buffer: cqueue::buffer_select(flags),
        }
    }
}

fn user_data(token: Token, operation: Operation) -> u64 {
    token << 3 | operation as u64
}

fn fd(descriptor: &impl AsFd) -> Fd {
    Fd(descriptor.as_fd().as_raw_fd())
}
