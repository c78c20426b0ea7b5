//! A running server, the site it serves, and clients whose doings are recorded.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use crate::client::parse_head;
use crate::processes::{Process, Waiting, family};
use crate::site::Site;
use crate::story::{Deed, Fault, Story, Symptom, counted};
use crate::{Answer, Failure, Server, Step};

/// How often a wait looks whether it is in vain.
const LOOK: Duration = Duration::from_millis(50);

/// The request for a target on a connection that ends with its answer.
pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// The request for a target on a connection that stays.
pub fn get_and_stay(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// What a check has at hand.
pub struct Scene<'a> {
    /// The server under test.
    pub server: &'a mut Server,
    /// The site it serves, or would if it served files.
    pub site: &'a Site,
    /// What the server must be able to do.
    pub step: Step,
    /// Whether the server was once seen to leave a connection open that should have ended. Then nobody
    /// waits for the end again, except the check that is about it.
    pub leaves_open: Rc<Cell<bool>>,
    story: Recorder,
    by_hand: RefCell<String>,
}

/// Where all clients of a scene write down what they do.
pub type Recorder = Rc<RefCell<Story>>;

/// All that came back for one request.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The head, taken apart.
    pub answer: Answer,
    /// How long the head was.
    pub head_length: usize,
    /// Every byte that came, the head too.
    pub all: Vec<u8>,
}

impl Reply {
    /// What followed the head, however long Content-Length says that it is.
    pub fn body(&self) -> &[u8] {
        &self.all[self.head_length..]
    }

    /// The answer, with all that followed its head as its body.
    pub fn whole(&self) -> Answer {
        Answer { body: self.body().to_vec(), ..self.answer.clone() }
    }

    /// What Content-Length says, if it is a number.
    pub fn announced(&self) -> Option<usize> {
        self.answer.field("content-length")?.parse().ok()
    }

    /// A fault with what came, about a field or the status.
    pub fn fault(&self, expected: impl Into<String>) -> Fault {
        Fault::expected(expected).came(&self.all[..self.head_length])
    }
}

impl<'a> Scene<'a> {
    /// A new scene; what happened before is forgotten.
    pub fn new(
        server: &'a mut Server,
        site: &'a Site,
        step: Step,
        leaves_open: Rc<Cell<bool>>,
    ) -> Scene<'a> {
        let story = Rc::new(RefCell::new(Story::begin()));
        Scene { server, site, step, leaves_open, story, by_hand: RefCell::default() }
    }

    /// Says how to see by hand what the check sees: a command, with the server on port 8080.
    pub fn by_hand(&self, command: impl Into<String>) {
        *self.by_hand.borrow_mut() = command.into();
    }

    /// The command that the check has given last.
    pub fn repeat(&self) -> String {
        self.by_hand.borrow().clone()
    }

    /// Tells in one sentence what happens in `work`, unless it fails.
    ///
    /// # Errors
    /// As `work`.
    pub fn in_one_line<T>(
        &self,
        text: &str,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let before = self.story.borrow().length();
        let done = work()?;
        self.story.borrow_mut().fold(before, text);
        Ok(done)
    }

    /// What has happened so far.
    pub fn story(&self) -> Story {
        self.story.borrow().clone()
    }

    /// Says what the check does beside its clients.
    pub fn aside(&self, text: impl Into<String>) {
        self.story.borrow_mut().add(0, Deed::Aside, text);
    }

    /// Connects a further client.
    ///
    /// # Errors
    /// The server does not accept.
    pub fn connect(&self) -> Result<RecordedClient, Failure> {
        RecordedClient::connect(self.server, &self.story)
    }

    /// Connects so many further clients, one a millisecond. Some servers let only five wait to be
    /// accepted; who comes when that queue is full tries again only after a second.
    ///
    /// # Errors
    /// The server does not accept.
    pub fn connect_many(&self, count: usize) -> Result<Vec<RecordedClient>, Failure> {
        let connect = |_| {
            std::thread::park_timeout(Duration::from_millis(1));
            self.connect()
        };
        (0..count).map(connect).collect()
    }

    /// Sends a request on a connection of its own, and reads all that comes.
    ///
    /// # Errors
    /// No whole answer comes.
    pub fn exchange(&self, request: impl AsRef<[u8]>) -> Result<Reply, Failure> {
        let mut client = self.connect()?;
        client.send(request);
        client.reply(&self.leaves_open)
    }

    /// Asks for a target on a connection of its own, and reads all that comes.
    ///
    /// # Errors
    /// No whole answer comes.
    pub fn ask(&self, target: &str) -> Result<Reply, Failure> {
        self.exchange(get(target))
    }

    /// Asks for the front page, as someone who was not involved in what happened before. Where the
    /// server only prints what it hears, says a word and waits until it is printed.
    ///
    /// # Errors
    /// The server does not do that any more.
    pub fn still_serves(&self) -> Result<(), Failure> {
        if self.step.number() == "07" {
            let mut client = self.connect()?;
            let word = format!("still-there-{}", client.address()?.port());
            client.send(&word);
            return self.is_printed(&word);
        }
        let reply = self.ask("/")?;
        if reply.answer.status != 200 {
            return reply
                .fault("status 200, as before")
                .symptom(Symptom::Status)
                .cause("what other clients have done changes the answer to this one")
                .fail();
        }
        Ok(())
    }

    /// Waits until the server has printed something.
    ///
    /// # Errors
    /// It does not.
    pub fn is_printed(&self, text: &str) -> Result<(), Failure> {
        if self.wait_for(|| self.server.log().contains(text)) {
            return Ok(());
        }
        let log = self.server.log();
        let tail = log.len().saturating_sub(300);
        Fault::expected(format!("the server prints {text:?}"))
            .came(&log.as_bytes()[tail..])
            .symptom(Symptom::Silent)
            .cause("it has not read what this client sent, or keeps its output in a buffer")
            .fail()
    }

    /// Waits until something holds that only the system can tell, and gives up when the server does not
    /// change any more.
    pub fn wait_for(&self, mut holds: impl FnMut() -> bool) -> bool {
        let mut waiting = Waiting::new(self.server.pid());
        loop {
            if holds() {
                return true;
            }
            if waiting.is_in_vain() {
                return holds();
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Gives the server the time to do all that it can do at the moment: waits until it was found
    /// asleep so many times, a tenth of a second apart, but never so long that a server which lets
    /// go of slow clients would. A server that never sleeps gets a tenth of a second for each.
    pub fn wait_until_idle(&self, looks: u32) {
        const AT_MOST: Duration = Duration::from_secs(4);
        let awake = Duration::from_millis(100) * looks;
        let end =
            Instant::now() + if self.step.idles_for_free { AT_MOST } else { awake.min(AT_MOST) };
        let mut asleep = 0;
        while asleep < looks && Instant::now() < end && self.has_processes() {
            std::thread::park_timeout(Duration::from_millis(100));
            asleep += u32::from(!self.family().iter().any(Process::has_work));
        }
    }

    /// The server's processes.
    pub fn family(&self) -> Vec<Process> {
        family(self.server.pid())
    }

    fn has_processes(&self) -> bool {
        self.family().iter().any(|process| process.state != 'Z')
    }
}

/// A client that writes down what it does and what happens to it.
pub struct RecordedClient {
    stream: TcpStream,
    /// From 1, in the order of coming.
    pub number: usize,
    leader: u32,
    received: Vec<u8>,
    /// How many of the received bytes belong to answers that were returned.
    taken: usize,
    /// How many answers were returned.
    answers: usize,
    has_ended: bool,
    cannot_send: bool,
    story: Recorder,
}

enum Next {
    Bytes,
    End,
    Nothing,
}

impl RecordedClient {
    /// Connects to a server.
    ///
    /// # Errors
    /// The server does not accept.
    pub fn connect(server: &Server, story: &Recorder) -> Result<RecordedClient, Failure> {
        let number = story.borrow_mut().next_client();
        let stream = TcpStream::connect_timeout(&server.address(), Duration::from_secs(30))
            .map_err(|error| {
                let text = format!("cannot connect: {error}");
                story.borrow_mut().add(number, Deed::Waits, text);
                Fault::expected("a connection that is accepted")
                    .saw(format!("no connection: {error}"))
                    .symptom(Symptom::Refused)
                    .cause(match error.kind() {
                        ErrorKind::TimedOut => {
                            "the server does not accept: the queue of those who wait is full"
                        }
                        _ => "nobody listens on the port any more",
                    })
            })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        story.borrow_mut().add(number, Deed::Connects, "connects");
        Ok(RecordedClient {
            stream,
            number,
            leader: server.pid(),
            received: Vec::new(),
            taken: 0,
            answers: 0,
            has_ended: false,
            cannot_send: false,
            story: Rc::clone(story),
        })
    }

    fn record(&self, deed: Deed, text: impl Into<String>) {
        self.story.borrow_mut().add(self.number, deed, text);
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The client's own address, which the server sees.
    ///
    /// # Errors
    /// The socket has none any more.
    pub fn address(&self) -> Result<SocketAddr, Failure> {
        Ok(self.stream.local_addr()?)
    }

    /// Sends bytes. A server may have closed already; what it answered shows when it is read.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        if self.cannot_send {
            return;
        }
        let shown = bytes[..bytes.len().min(60)].escape_ascii();
        let more =
            if bytes.len() > 60 { format!("... ({} bytes)", bytes.len()) } else { String::new() };
        self.record(Deed::Sends, format!("sends \"{shown}\"{more}"));
        if let Err(error) = self.stream.write_all(bytes) {
            self.record(Deed::Sends, format!("cannot send all of it: {error}"));
            self.cannot_send = true;
        }
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes the connection.
    pub fn leave(self) {
        self.record(Deed::Leaves, "closes the connection");
    }

    /// Resets the connection: SO_LINGER with zero seconds, socket(7).
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

    /// All bytes that came so far.
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
        let _ = self.stream.set_nonblocking(true);
        let peeked = self.stream.peek(&mut [0]);
        let _ = self.stream.set_nonblocking(false);
        match peeked {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    fn read(&mut self) -> Next {
        let mut waiting = Waiting::new(self.leader);
        let mut piece = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => {
                    self.received.extend_from_slice(&piece[..length]);
                    return Next::Bytes;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if waiting.is_in_vain() {
                        self.record(Deed::Waits, "waits in vain: nothing comes any more");
                        return Next::Nothing;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A reset is an end too, for whoever reads.
                Err(_) => break,
            }
        }
        if !self.has_ended {
            self.has_ended = true;
            self.record(Deed::Ended, "sees the end of the connection");
        }
        Next::End
    }

    /// Reads once, whatever comes; false at the end of the connection, or if nothing comes.
    pub fn read_some(&mut self) -> bool {
        matches!(self.read(), Next::Bytes)
    }

    /// Reads the next answer: a head, and as many bytes as its Content-Length says or, without one, all
    /// until the end of the connection.
    ///
    /// # Errors
    /// It does not come, or is none.
    pub fn answer(&mut self) -> Result<Answer, Failure> {
        Ok(self.next_answer(false)?.0)
    }

    /// Reads the next answer to a HEAD: a head.
    ///
    /// # Errors
    /// It does not come, or is none.
    pub fn answer_to_head(&mut self) -> Result<Answer, Failure> {
        Ok(self.next_answer(true)?.0)
    }

    fn next_answer(&mut self, is_head: bool) -> Result<(Answer, usize), Failure> {
        let start = self.taken;
        let (mut answer, length) = loop {
            match parse_head(&self.received[start..]) {
                Ok(Some(found)) => break found,
                Ok(None) => {
                    self.need_more(start, "an answer, with a head that ends with an empty line")?
                }
                Err(why) => {
                    return Fault::expected("an answer that begins with a status line and fields")
                        .came_wrong_at(&self.received[..], start)
                        .cause(if start == 0 {
                            why.to_string()
                        } else {
                            format!(
                                "what follows {} is not a new answer: its Content-Length is too \
                                 small, or something is written behind it",
                                self.last_answer()
                            )
                        })
                        .fail();
                }
            }
        };
        let body_start = start + length;
        let announced = answer.field("content-length").map(str::parse::<usize>);
        self.taken = match announced {
            _ if is_head || answer.status == 304 => body_start,
            Some(Ok(announced)) => {
                while self.received.len() < body_start + announced {
                    self.need_more(start, &format!("a body of {announced} bytes"))?;
                }
                body_start + announced
            }
            Some(Err(_)) => {
                return Fault::expected("a Content-Length that is a number")
                    .came(&self.received[start..body_start])
                    .cause("something else stands where the length of the body belongs")
                    .fail();
            }
            None => {
                while matches!(self.read(), Next::Bytes) {}
                self.received.len()
            }
        };
        answer.body = self.received[body_start..self.taken].to_vec();
        self.answers += 1;
        self.record(
            Deed::Answered,
            format!(
                "has its answer: status {}, a body of {}",
                answer.status,
                counted(answer.body.len(), "byte")
            ),
        );
        Ok((answer, length))
    }

    fn need_more(&mut self, start: usize, what: &str) -> Result<(), Failure> {
        let next = self.read();
        let came = &self.received[start..];
        let fault = Fault::expected(what);
        let fault = match next {
            Next::Bytes => return Ok(()),
            Next::End if came.is_empty() => fault
                .symptom(Symptom::Ended)
                .saw(format!("the end of the connection{}", self.so_far()))
                .cause(if self.answers == 0 {
                    "the server closed the connection without an answer"
                } else {
                    "the server closed the connection behind an answer, and serves no further request on it"
                }),
            Next::End => fault
                .symptom(Symptom::Ended)
                .cause("the server closed the connection in the middle of its answer"),
            Next::Nothing if came.is_empty() => fault
                .symptom(Symptom::Silent)
                .saw(format!("nothing{}", self.so_far()))
                .cause(if self.answers == 0 {
                    "the server waits for something that does not come"
                } else {
                    "the next request of the connection is not read, or not answered"
                }),
            Next::Nothing => fault
                .symptom(Symptom::Silent)
                .cause("the server announced more than it sends, and keeps the connection"),
        };
        // The end of a long answer tells more than its beginning.
        if came.len() > 100 {
            fault.came_wrong_at(came, came.len()).fail()
        } else if came.is_empty() {
            fault.fail()
        } else {
            fault.came(came).fail()
        }
    }

    /// The answers that came before, as an addition to what came then.
    fn so_far(&self) -> String {
        if self.answers == 0 { String::new() } else { format!(", after {}", self.last_answer()) }
    }

    fn last_answer(&self) -> String {
        format!("answer {}", self.answers)
    }

    /// Reads an answer and then all that still comes until the end of the connection.
    ///
    /// # Errors
    /// No whole answer comes.
    pub fn reply(mut self, leaves_open: &Cell<bool>) -> Result<Reply, Failure> {
        let (answer, head_length) = self.next_answer(false)?;
        self.drains(leaves_open);
        Ok(Reply { answer, head_length, all: std::mem::take(&mut self.received) })
    }

    /// Says that nothing more will be sent, and reads all that still comes until the end of the
    /// connection; whether it came. A server that has left one open before is not waited for again.
    pub fn drains(&mut self, leaves_open: &Cell<bool>) -> bool {
        // A server that goes on reading sees the end of the client now, and ends the connection too.
        self.finish();
        if !leaves_open.get() {
            let ends = self.sees_the_end();
            leaves_open.set(!ends);
            return ends;
        }
        let _ = self.stream.set_read_timeout(Some(Duration::from_millis(100)));
        let mut piece = [0; 4096];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return true,
                Ok(length) => self.received.extend_from_slice(&piece[..length]),
                Err(_) => return false,
            }
        }
    }

    /// Reads until the end of the connection; whether it came.
    pub fn sees_the_end(&mut self) -> bool {
        loop {
            match self.read() {
                Next::Bytes => {}
                Next::End => return true,
                Next::Nothing => return false,
            }
        }
    }
}
