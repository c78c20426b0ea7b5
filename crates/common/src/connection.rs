//! A conversation with one client, over anything that reads and writes.
//!
//! [`Connection::advance`] does what can be done now and says what it waits for. It never waits by
//! itself: over a blocking stream, steps 03 to 06 call it in a loop; steps 08 and 09 call it when there
//! is something to do.

use std::io::{self, ErrorKind};
use std::mem;
use std::time::Instant;

use message::body::UnreadBody;
use message::request::{Request, is_worth_parsing, parse};
use message::{Problem, Response, Status};
use terminal::Log;

use crate::answer::Answer;
use crate::document::Part;
use crate::site::Site;
use crate::stream::Stream;

mod ending;

/// How much is asked for in one read, in bytes.
const READ_SIZE: usize = 2048;
/// How many reads and writes make a fair share; then the next client has its turn.
const FAIR_SHARE: usize = 16;
/// How many bytes of an answer must leave within each timeout. A client that takes less holds on to
/// its connection for nothing.
const SLOWEST_READER: u64 = 16 * 1024;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Call again when there is something to read, or the client has closed its end.
    WantsRead,
    /// Call again when there is room to write.
    WantsWrite,
    /// Call again when the others have had their turn. Nothing may happen on the stream until then.
    HasMore,
    /// It is over; drop the connection.
    Closed,
}

/// One client's conversation: requests in, answers out, in order.
///
/// What one connection can make the server hold: while a head arrives, at most twice the limits of
/// [`message::request`]; while an answer leaves, one head and 64 KiB; nothing but this struct while it is
/// idle. It does not read while it has something to write, so a client that sends requests and takes no
/// answers fills its own buffers.
#[derive(Debug)]
pub struct Connection<S> {
    /// What it goes over. Who has to wait for it looks at it here.
    pub stream: S,
    site: &'static Site,
    log: Log,
    is_persistent: bool,
    phase: Phase,
    /// What has come and has not been answered yet.
    input: Vec<u8>,
    /// How much of `input` was an incomplete head when it was last parsed.
    parsed: usize,
    /// What is still to come of the body of a request that has its answer.
    unread_body: Option<UnreadBody>,
    /// Boxed, since most connections sleep and have none.
    answer: Option<Box<Answer>>,
    /// What the log says of the answer; nothing with `--quiet`.
    request_line: Option<String>,
    /// Bytes of the answer that have left within the present timeout.
    recently: u64,
    /// Whether the last read brought less than it asked for, a moment ago: then there was no more. It
    /// decides how politely to close. What it misses is an end that came with the data, and what comes
    /// after urgent data, tcp(7).
    was_short_read: bool,
    /// For a loop that is told of readiness only once, by edge-triggered epoll(7): whether the event said
    /// only that there is something to read or room to write, and nothing of an end, an error or urgent
    /// data. Then a read that brings less than it asked for has emptied the socket, whatever comes later
    /// is an event of its own, and [`Connection::advance`] does not read once more in vain.
    pub trusts_short_reads: bool,
    /// When the present turn began.
    now: Instant,
    /// When to end what has taken too long, unless something moves before.
    deadline: Instant,
    /// Set by [`Connection::finish`]: when it has to be over, whatever moves.
    finish_by: Option<Instant>,
    answered: u64,
    /// How many bytes have been read and written so far.
    pub transferred: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Requests are read and answered.
    Open,
    /// The answer that is going out is the last one.
    Closing,
    /// The last answer has been written, and the client has been told that nothing more comes. If it
    /// were still sending, closing now would make the kernel reset the connection and drop what has
    /// not arrived yet; so what it sends is read and thrown away until it closes too. RFC 9112 §9.6.
    Lingering {
        until: Instant,
    },
    Closed,
}

impl<S: Stream> Connection<S> {
    /// A connection that closes after one answer, as steps 03 to 06 have it.
    pub fn once(stream: S, site: &'static Site, log: Log) -> Connection<S> {
        Connection {
            stream,
            site,
            log,
            is_persistent: false,
            phase: Phase::Open,
            input: Vec::new(),
            parsed: 0,
            unread_body: None,
            answer: None,
            request_line: None,
            recently: 0,
            was_short_read: false,
            trusts_short_reads: false,
            now: Instant::now(),
            deadline: Instant::now() + log.options.timeout,
            finish_by: None,
            answered: 0,
            transferred: 0,
        }
    }

    /// Lets it go on for as long as the client keeps it (RFC 9112 §9.3), or until it has been idle for the
    /// timeout.
    pub fn persistent(self) -> Connection<S> {
        self.log.line("connected");
        Connection { is_persistent: true, ..self }
    }

    /// Writes what is owed, answers what is complete, reads what has come, until the stream would
    /// block or a fair share is done. Errors of the stream end the connection and nothing else.
    pub fn advance(&mut self) -> Progress {
        self.was_short_read = false;
        for _ in 0..FAIR_SHARE {
            if let Some(progress) = self.take_turn() {
                return progress;
            }
        }
        Progress::HasMore
    }

    /// When to call [`Connection::advance`] at the latest: it then ends what has taken too long. The
    /// moment moves away as the conversation goes on, and comes nearer only after a last answer.
    pub fn deadline(&self) -> Instant {
        self.finish_by.map_or(self.deadline, |moment| moment.min(self.deadline))
    }

    /// Asks for an end: a request that has begun is answered, if one timeout is enough for it, and a
    /// connection that has none is closed by the next [`Connection::advance`].
    pub fn finish(&mut self) {
        self.finish_by.get_or_insert_with(|| Instant::now() + self.log.options.timeout);
    }

    /// Whether there is nothing to answer: no byte of a head has come, and what may be left of a body
    /// belongs to a request that has its answer.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Open
            && self.answer.is_none()
            && (self.input.is_empty() || self.unread_body.is_some())
    }

    /// One thing of all that can be done, the most urgent first: write what is owed, answer what has been
    /// read, read. Returns what it must wait for, or nothing if it has done something.
    fn take_turn(&mut self) -> Option<Progress> {
        self.now = Instant::now();
        if self.finish_by.is_some_and(|moment| moment <= self.now) {
            self.end("cut short: the server was told to stop");
        }
        let is_late = self.deadline <= self.now;
        if is_late {
            self.stream.ask_anyway();
        }
        if self.answer.is_some() {
            return self.write(is_late);
        }
        match self.phase {
            Phase::Open if self.is_idle() && self.finish_by.is_some() => {
                self.end("closed while it was idle");
            }
            Phase::Open => {
                if !self.take_request() {
                    return self.read(is_late);
                }
            }
            Phase::Closing => self.close_politely(),
            Phase::Lingering { until } => return self.discard(until, is_late),
            Phase::Closed => return Some(Progress::Closed),
        }
        None
    }

    /// Answers the next request if all of it is there. Returns false when nothing can be done before
    /// more bytes come.
    fn take_request(&mut self) -> bool {
        if self.unread_body.is_some() {
            return self.skip_body();
        }
        if self.input.is_empty() || !is_worth_parsing(&self.input, self.parsed) {
            return false;
        }
        let mut input = mem::take(&mut self.input);
        self.parsed = match parse(&input) {
            Ok(None) => input.len(),
            Ok(Some(request)) => {
                self.respond(&request);
                let length = request.length;
                // Mostly nothing is left, and a connection that sleeps holds no memory.
                input = input.split_off(length);
                0
            }
            Err(problem) => {
                self.refuse(problem, input.trim_ascii_start().starts_with(b"HEAD "));
                0
            }
        };
        self.input = input;
        self.parsed == 0
    }

    fn respond(&mut self, request: &Request<'_>) {
        self.unread_body = request.body.map(UnreadBody::new);
        // A client that waits for "100 Continue" may send its body after all or may not, so where
        // the next request begins cannot be known.
        let is_in_the_way = |body: &UnreadBody| request.expects_continue || body.is_too_long();
        let goes_on = self.is_persistent
            && request.keep_alive
            && self.finish_by.is_none()
            && !self.unread_body.as_ref().is_some_and(is_in_the_way);
        if !goes_on {
            self.phase = Phase::Closing;
        }
        // HTTP/1.0 closes unless both sides say otherwise.
        let keep_alive = request.is_http_1_0.then_some("keep-alive");
        let connection = if goes_on { keep_alive } else { Some("close") };
        if !self.log.options.quiet {
            self.request_line = Some(format!("{} {}", request.method, request.target));
        }
        let (response, part) = self.site.respond(request);
        self.send(&response, part, request.method == "HEAD", connection);
    }

    /// Answers with what was wrong. Nothing after a bad request can be trusted, so it is the last. The
    /// answer to a HEAD has no body even then (RFC 9110 §9.3.2).
    pub(crate) fn refuse(&mut self, problem: Problem, is_head: bool) {
        self.phase = Phase::Closing;
        self.request_line = Some(format!("refused: {}", problem.reason));
        self.send(&problem.into(), None, is_head, Some("close"));
    }

    fn send(
        &mut self,
        response: &Response,
        part: Option<Part>,
        is_head: bool,
        connection: Option<&str>,
    ) {
        match Answer::new(response, part, is_head, self.log.options.step.name, connection) {
            Ok(answer) => {
                self.answer = Some(Box::new(answer));
                self.recently = 0;
                self.deadline = self.now + self.log.options.timeout;
            }
            Err(error) => {
                // Nothing has left yet, so the client can still be told.
                let request_line = self.request_line.as_deref().unwrap_or_default();
                self.log.line(format_args!("{request_line}: cannot read the file: {error}"));
                let status = Status::INTERNAL_SERVER_ERROR;
                let page = Response::page(status, "The server could not read this file.");
                self.send(&page, None, is_head, connection);
            }
        }
    }

    /// Writes once.
    fn write(&mut self, is_late: bool) -> Option<Progress> {
        let answer = self.answer.as_mut()?;
        match answer.write_to(&mut self.stream) {
            // The length was promised in the head, so a file that has become shorter ends all.
            Ok(0) => self.end("cut short: the file has become shorter"),
            Ok(length) => {
                self.transferred += length as u64;
                self.recently += length as u64;
                let has_left = answer.has_left();
                if has_left || self.recently >= SLOWEST_READER {
                    self.recently = 0;
                    self.deadline = Instant::now() + self.log.options.timeout;
                } else if is_late {
                    self.expire();
                }
                if has_left {
                    self.finish_answer("");
                    self.answered += 1;
                } else {
                    // It takes a while, and the next request may come meanwhile.
                    self.was_short_read = false;
                }
            }
            Err(error) => return self.after_error(error, is_late, Progress::WantsWrite),
        }
        None
    }

    /// Reads once. What is not a whole request stays in `input`.
    fn read(&mut self, is_late: bool) -> Option<Progress> {
        if self.was_short_read && (is_late || self.trusts_short_reads) {
            return self.after_error(ErrorKind::WouldBlock.into(), is_late, Progress::WantsRead);
        }
        let mut bytes = [0; READ_SIZE];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.client_has_finished(),
            Ok(length) => {
                // The first byte of a further request: the wait for it was one thing, the wait for
                // the rest of its head is another. Later bytes do not move the deadline.
                if self.answered > 0 && self.input.is_empty() && self.unread_body.is_none() {
                    self.deadline = self.now + self.log.options.timeout;
                }
                self.was_short_read = length < READ_SIZE;
                self.transferred += length as u64;
                self.input.extend_from_slice(&bytes[..length]);
            }
            Err(error) => return self.after_error(error, is_late, Progress::WantsRead),
        }
        None
    }

    /// What an error of the stream means. A non-blocking stream says "would block"; so does a blocking one
    /// whose tick is over, and may calls that "timed out". The deadline counts only if it had come before
    /// the attempt: what had come is read and what has room is written, also when the server has slept.
    fn after_error(&mut self, error: io::Error, is_late: bool, next: Progress) -> Option<Progress> {
        match error.kind() {
            ErrorKind::Interrupted => {}
            ErrorKind::WouldBlock | ErrorKind::TimedOut if !is_late => return Some(next),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.expire(),
            _ => self.end(format_args!("lost: {error}")),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::SocketAddr;
    use std::os::unix::net::UnixStream;
    use std::path::Path;

    use terminal::{Options, Step};

    use super::*;

    #[test]
    fn a_connection_that_sleeps_holds_no_memory() {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo");
        let site = Box::leak(Box::new(Site::open(&demo).unwrap()));
        let options = Box::leak(Box::new(Options::new(Step::with_files("test", "a test"))));
        let log = Log::new(options, 1, SocketAddr::from(([127, 0, 0, 1], 1)));
        let (mut client, server) = UnixStream::pair().unwrap();
        server.set_nonblocking(true).unwrap();
        let mut connection = Connection::once(server, site, log).persistent();
        client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!(connection.advance(), Progress::WantsRead);
        assert!(connection.is_idle() && connection.answered == 1);
        assert_eq!(connection.input.capacity(), 0);
    }
}
