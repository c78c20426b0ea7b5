//! A client that sends exactly the bytes it is given, takes answers apart, and never reads without end. In a
//! check it writes down what it does and what happens to it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use crate::Failure;
use crate::ports::listening_on;
use crate::server::Server;
use crate::site::BIG_LENGTH;
use crate::story::{Deed, Fault, Recorder, Symptom};
use crate::waiting::Waiting;
use crate::words::counted;

mod answers;

/// How long a client that no check watches waits for the next bytes. A bound for what hangs, not a
/// measurement.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a wait in a check looks whether it is in vain.
const LOOK: Duration = Duration::from_millis(50);

/// As many bytes are read from a connection in a check: twice the biggest file that there is to ask for.
pub const MOST_BYTES: usize = 2 * BIG_LENGTH;

/// As long may the head of an answer be, in bytes.
pub const MOST_HEAD: usize = 64 * 1024;

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// In a check from 1, in the order of coming.
    pub number: usize,
    received: Vec<u8>,
    /// How many of the received bytes belong to answers that were returned.
    taken: usize,
    /// How many answers were returned.
    answers: usize,
    has_ended: bool,
    /// Whether bytes were still coming when it was no use any more to wait for an end.
    goes_on: bool,
    check: Option<Watched>,
}

/// What only a client of a check has.
#[derive(Debug)]
struct Watched {
    story: Recorder,
    /// The server's first process: what it does says whether waiting is in vain.
    leader: u32,
}

enum Next {
    Bytes,
    End,
    /// The server does nothing any more.
    Nothing,
    /// More has come than anybody asked for, or what comes is so little and so late that it is no use to
    /// wait for the rest.
    Endless,
}

impl Client {
    fn new(stream: TcpStream, number: usize, check: Option<Watched>) -> io::Result<Client> {
        let [read, write] = match check {
            Some(_) => [LOOK, Duration::from_secs(30)],
            None => [PATIENCE, PATIENCE],
        };
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(read))?;
        stream.set_write_timeout(Some(write))?;
        let received = Vec::new();
        let (taken, answers, has_ended, goes_on) = (0, 0, false, false);
        Ok(Client { stream, number, received, taken, answers, has_ended, goes_on, check })
    }

    /// Connects; whole lines leave at once.
    ///
    /// # Errors
    /// The server does not accept.
    pub fn connect(address: SocketAddr) -> io::Result<Client> {
        Client::new(TcpStream::connect(address)?, 0, None)
    }

    /// Connects for a check.
    ///
    /// # Errors
    /// The server does not accept.
    pub fn connect_recorded(server: &Server, story: &Recorder) -> Result<Client, Failure> {
        let number = story.open().next_client();
        let stream = TcpStream::connect_timeout(&server.address(), Duration::from_secs(30))
            .map_err(|error| {
                let text = format!("cannot connect: {error}");
                story.open().add(number, Deed::Waits, text);
                Fault::expected("a connection that is accepted")
                    .saw(format!("no connection: {error}"))
                    .symptom(Symptom::Refused)
                    .cause(match (error.kind(), &listening_on(server.address().port())[..]) {
                        (ErrorKind::TimedOut, _) => {
                            "the server does not accept: the queue of those who wait is full".to_owned()
                        }
                        (_, []) => "nobody listens on the port any more".to_owned(),
                        (_, [elsewhere, ..]) => {
                            format!("the server listens on {elsewhere}, and this client went to 127.0.0.1")
                        }
                    })
            })?;
        story.open().add(number, Deed::Connects, "connects");
        let watched = Watched { story: story.clone(), leader: server.pid() };
        Ok(Client::new(stream, number, Some(watched))?)
    }

    fn record(&self, deed: Deed, text: impl Into<String>) {
        if let Some(check) = &self.check {
            check.story.open().add(self.number, deed, text);
        }
    }

    /// The socket.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// The client's own address, which the server sees.
    ///
    /// # Errors
    /// The socket has none any more.
    pub fn address(&self) -> Result<SocketAddr, Failure> {
        Ok(self.stream.local_addr()?)
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The server has closed the connection.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let bytes = bytes.as_ref();
        let shown = bytes[..bytes.len().min(60)].escape_ascii();
        let more =
            if bytes.len() > 60 { format!("... ({} bytes)", bytes.len()) } else { String::new() };
        self.record(Deed::Sends, format!("sends \"{shown}\"{more}"));
        self.stream.write_all(bytes)
    }

    /// Sends bytes. A server may have closed already; what it answered shows when it is read.
    pub fn says(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(error) = self.send(bytes) {
            self.record(Deed::Sends, format!("cannot send all of it: {error}"));
        }
    }

    /// Sends a GET for a target.
    ///
    /// # Errors
    /// The server has closed the connection.
    pub fn get(&mut self, target: &str) -> io::Result<()> {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// Says that nothing more is coming, and keeps reading.
    ///
    /// # Errors
    /// The server has closed the connection.
    pub fn finish(&mut self) -> io::Result<()> {
        if !self.has_ended {
            self.record(Deed::Finishes, "closes its sending half: no more comes from it");
        }
        self.stream.shutdown(Shutdown::Write)
    }

    /// Closes the connection.
    pub fn leave(self) {
        self.record(Deed::Leaves, "closes the connection");
    }

    /// Closes with a reset instead of an orderly end: SO_LINGER with zero seconds, socket(7).
    ///
    /// # Errors
    /// The socket does not take the option.
    pub fn reset(self) -> Result<(), Failure> {
        setsockopt(&self.stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
        self.record(Deed::Leaves, "resets the connection");
        Ok(())
    }

    /// Lets the kernel hold only so many bytes that were not read yet.
    ///
    /// # Errors
    /// The socket does not take the option.
    pub fn shrink_receive_buffer(&self, bytes: usize) -> Result<(), Failure> {
        Ok(setsockopt(&self.stream, sockopt::RcvBuf, &bytes)?)
    }

    /// In a check, all bytes that came so far.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Those of them that belong to no answer that was returned.
    pub fn rest(&self) -> &[u8] {
        &self.received[self.taken..]
    }

    /// Whether the server has ended the connection, as far as this client has noticed. Looks without
    /// waiting.
    pub fn was_let_go(&mut self) -> bool {
        match self.peek() {
            Ok(length) => length == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Whether bytes have come that were not read yet. Looks without waiting.
    pub fn has_something(&mut self) -> bool {
        self.peek().is_ok_and(|length| length > 0)
    }

    fn peek(&mut self) -> io::Result<usize> {
        let _ = self.stream.set_nonblocking(true);
        let peeked = self.stream.peek(&mut [0]);
        let _ = self.stream.set_nonblocking(false);
        peeked
    }

    /// The patience for a whole answer; without a check, each read has its own.
    fn waiting(&self) -> Option<Waiting> {
        self.check.as_ref().map(|check| Waiting::new(check.leader))
    }

    /// Reads what comes next.
    fn read(&mut self, waiting: &mut Option<Waiting>) -> Next {
        let mut piece = [0; 64 * 1024];
        while self.check.is_none() || self.received.len() <= MOST_BYTES {
            let has_come = match self.stream.read(&mut piece) {
                Ok(0) => return self.ends(None),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                // A read with a timeout is not begun again by the kernel, signal(7).
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // A reset is an end too, for whoever reads.
                Err(error) => return self.ends(Some(error)),
            };
            self.received.extend_from_slice(&piece[..has_come]);
            let Some(waiting) = waiting else {
                return if has_come > 0 { Next::Bytes } else { Next::Nothing };
            };
            waiting.has_brought(has_come);
            let is_in_vain = waiting.is_in_vain();
            if is_in_vain && waiting.drops() {
                self.record(Deed::Waits, "waits no longer: bytes come now and then, and no end");
                self.goes_on = has_come > 0;
                return Next::Endless;
            }
            if has_come > 0 {
                return Next::Bytes;
            }
            if is_in_vain {
                self.record(Deed::Waits, "waits in vain: nothing comes any more");
                return Next::Nothing;
            }
        }
        let most = counted(MOST_BYTES, "byte");
        self.record(Deed::Waits, format!("reads no further: more than {most} have come"));
        self.goes_on = true;
        Next::Endless
    }

    fn ends(&mut self, error: Option<io::Error>) -> Next {
        if !self.has_ended {
            self.has_ended = true;
            let how = error.map_or(String::new(), |error| format!(": {error}"));
            self.record(Deed::Ended, format!("sees the end of the connection{how}"));
        }
        Next::End
    }

    /// Reads once, whatever comes; false at the end of the connection, or if nothing comes.
    pub fn reads_some(&mut self) -> bool {
        matches!(self.read(&mut self.waiting()), Next::Bytes)
    }

    /// Reads some of what comes next; empty at the end of the connection.
    ///
    /// # Errors
    /// Nothing comes in time.
    pub fn read_some(&mut self) -> Result<Vec<u8>, Failure> {
        if self.rest().is_empty() && matches!(self.read(&mut self.waiting()), Next::Nothing) {
            return Err("nothing came in time".into());
        }
        Ok(self.take_rest())
    }

    fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.received.split_off(self.taken);
        self.taken = self.received.len();
        rest
    }

    /// Reads all that still comes. The end may be a reset: what came before it counts.
    ///
    /// # Errors
    /// The server does not close the connection in time.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>, Failure> {
        if self.sees_the_end() {
            Ok(self.take_rest())
        } else {
            Err("the connection stays open".into())
        }
    }

    /// Reads until the end of the connection; whether it came.
    pub fn sees_the_end(&mut self) -> bool {
        let mut waiting = self.waiting();
        loop {
            match self.read(&mut waiting) {
                Next::Bytes => {}
                Next::End => return true,
                Next::Nothing | Next::Endless => return false,
            }
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
