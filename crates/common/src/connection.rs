//! A conversation with one client, over anything that reads and writes.
//!
//! [`Connection::advance`] does what can be done now and says what it waits for. A blocking stream
//! hardly ever says "would block", so steps 03 to 06 call it in a loop; steps 08 and 09 call it when
//! there is something to do. It never waits by itself.

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem;
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::sys::sendfile::sendfile64;
use nix::sys::socket::{Shutdown, shutdown};

use crate::body::UnreadBody;
use crate::buffer;
use crate::document::SMALL_FILE;
use crate::options::{Log, Options};
use crate::request::{BodyLength, Parsed, Problem, Request, is_worth_parsing, parse};
use crate::response::{Body, Part, Response, Status};
use crate::site::Site;

/// How much of a large file is asked to be sent at a time, in bytes.
const SEND_SIZE: u64 = 256 * 1024;
/// How much is asked for in one read, in bytes.
const READ_SIZE: usize = 2048;
/// How many reads and writes make a fair share; then the next client has its turn.
const FAIR_SHARE: usize = 16;
/// How many bytes of an answer must leave within each timeout. A client that takes less holds on to
/// its connection for nothing.
const SLOWEST_READER: u64 = 16 * 1024;
/// How long the end of a refused request is read and thrown away, at most. See [`Phase::Lingering`].
const LINGER: Duration = Duration::from_secs(2);

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Call again when there is something to read, or the client has closed its end. It may be that
    /// this has happened already, together with the last bytes that were read: an edge-triggered loop
    /// calls once more when the event says so.
    WantsRead,
    /// Call again when there is room to write.
    WantsWrite,
    /// Call again when the others have had their turn. Nothing may happen on the stream until then.
    HasMore,
    /// It is over; drop the stream.
    Closed,
}

/// What a connection asks of its stream: to read, to write, to send a file, and to say that no more is
/// coming.
pub trait Stream: Read + Write {
    /// Sends bytes of a file from `offset` on, `length` at most, and returns how many; 0 when the file
    /// ends there.
    ///
    /// # Errors
    /// The file cannot be read, or the stream cannot be written to.
    fn send_file(&mut self, file: &File, offset: u64, length: u64) -> io::Result<usize>;

    /// Closes the writing half, so that the client sees the end of the answer.
    ///
    /// # Errors
    /// The client has gone already.
    fn finish_writing(&mut self) -> io::Result<()>;
}

/// Every socket, whichever library wraps it: the kernel moves the bytes itself, sendfile(2).
impl<S: Read + Write + AsFd> Stream for S {
    fn send_file(&mut self, file: &File, offset: u64, length: u64) -> io::Result<usize> {
        let mut offset = offset as i64;
        Ok(sendfile64(self.as_fd(), file, Some(&mut offset), length as usize)?)
    }

    fn finish_writing(&mut self) -> io::Result<()> {
        Ok(shutdown(self.as_fd().as_raw_fd(), Shutdown::Write)?)
    }
}

/// A stream whose own `write` must be called, since that is where it waits: may's, which has a
/// coroutine sleep there. A file is read and then written.
#[derive(Debug)]
pub struct Copying<S>(pub S);

impl<S: Read + Write + AsRawFd> Stream for Copying<S> {
    fn send_file(&mut self, file: &File, offset: u64, length: u64) -> io::Result<usize> {
        let mut bytes = vec![0; SMALL_FILE.min(length as usize)];
        let length = file.read_at(&mut bytes, offset)?;
        self.0.write(&bytes[..length])
    }

    fn finish_writing(&mut self) -> io::Result<()> {
        Ok(shutdown(self.0.as_raw_fd(), Shutdown::Write)?)
    }
}

impl<S: Read> Read for Copying<S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl<S: Write> Write for Copying<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// One client's conversation: requests in, answers out, in order.
///
/// What one connection can make the server hold: while a head arrives, at most the limits of
/// [`crate::request`] and one read more, in a buffer of 32 KiB; while an answer leaves, one head and [`SMALL_FILE`]
/// bytes; nothing but this struct while it is idle. It does not read while it has something to write, so
/// a client that sends requests and takes no answers fills its own buffers.
#[derive(Debug)]
pub struct Connection {
    site: &'static Site,
    options: &'static Options,
    log: Log,
    is_persistent: bool,
    /// Set by [`Connection::finish`]: when it has to be over.
    finish_by: Option<Instant>,
    phase: Phase,
    input: Vec<u8>,
    /// How much of `input` was an incomplete head when it was last parsed.
    parsed: usize,
    /// Whether the client has said that it sends nothing more.
    has_client_finished: bool,
    unread_body: UnreadBody,
    /// Boxed, since most connections sleep and have none.
    answer: Option<Box<Answer>>,
    /// Whether everything that has come has been read, as far as the last read can tell.
    is_drained: bool,
    deadline: Instant,
    answered: u64,
    moved: u64,
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
    Lingering,
    Closed,
}

/// An answer on its way out.
#[derive(Debug)]
struct Answer {
    /// The head and as much of the body as is in memory, and how much of that has left.
    bytes: Vec<u8>,
    written: usize,
    /// What is still to be read from a file.
    rest: Option<Part>,
    /// Bytes that have left within the present timeout.
    recently: u64,
    head_length: u64,
    sent: u64,
    request_line: String,
    status: Status,
}

impl Connection {
    /// A connection that closes after one answer, as steps 03 to 06 have it.
    pub fn once(site: &'static Site, options: &'static Options, log: Log) -> Connection {
        Connection::new(site, options, log, false)
    }

    /// A connection that goes on for as long as the client keeps it (RFC 9112 §9.3), or until it has
    /// been idle for the timeout.
    pub fn persistent(site: &'static Site, options: &'static Options, log: Log) -> Connection {
        log.line("connected");
        Connection::new(site, options, log, true)
    }

    fn new(
        site: &'static Site,
        options: &'static Options,
        log: Log,
        is_persistent: bool,
    ) -> Connection {
        Connection {
            site,
            options,
            log,
            is_persistent,
            finish_by: None,
            phase: Phase::Open,
            input: Vec::new(),
            parsed: 0,
            has_client_finished: false,
            unread_body: UnreadBody::new(BodyLength::Bytes(0)),
            answer: None,
            is_drained: false,
            deadline: Instant::now() + options.timeout,
            answered: 0,
            moved: 0,
        }
    }

    /// Writes what is owed, reads what has come, answers what is complete, until the stream would
    /// block or a fair share is done. Errors of the stream end the connection and nothing else.
    pub fn advance<S: Stream>(&mut self, stream: &mut S) -> Progress {
        self.is_drained = false;
        for _ in 0..FAIR_SHARE {
            if let ControlFlow::Break(progress) = self.take_turn(stream) {
                return progress;
            }
        }
        Progress::HasMore
    }

    /// When to call [`Connection::advance`] at the latest: it then ends what has taken too long. The
    /// moment moves away as the conversation goes on, and comes nearer only after a last answer.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Asks for an end: a request that has begun is answered, if one timeout is enough for it, and a
    /// connection that has none is closed by the next [`Connection::advance`].
    pub fn finish(&mut self) {
        self.finish_by.get_or_insert_with(|| Instant::now() + self.options.timeout);
    }

    /// Whether no request has begun and no answer is going out.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Open && self.has_no_request()
    }

    /// How many bytes have been read and written so far.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    fn take_turn<S: Stream>(&mut self, stream: &mut S) -> ControlFlow<Progress> {
        let now = Instant::now();
        if now >= self.deadline || self.finish_by.is_some_and(|moment| now >= moment) {
            self.expire();
        }
        if self.answer.is_some() {
            return self.write(stream, now);
        }
        match self.phase {
            Phase::Open if self.finish_by.is_some() && self.has_no_request() => {
                self.close("closed while it was idle");
            }
            Phase::Open => {
                if !self.take_request(now) {
                    return self.read(stream, now);
                }
            }
            Phase::Closing if self.may_receive_more() && stream.finish_writing().is_ok() => {
                self.phase = Phase::Lingering;
                self.deadline = now + LINGER.min(self.options.timeout);
            }
            Phase::Closing => self.close("closed"),
            Phase::Lingering if self.finish_by.is_some() => self.close("closed"),
            Phase::Lingering => return self.discard(stream),
            Phase::Closed => return ControlFlow::Break(Progress::Closed),
        }
        ControlFlow::Continue(())
    }

    /// Whether there is nothing to answer: no byte of a head has come, and what may be left of a body
    /// belongs to a request that has its answer.
    fn has_no_request(&self) -> bool {
        self.answer.is_none() && (self.input.is_empty() || !self.unread_body.is_finished())
    }

    /// Whether bytes of the client may still be on their way, or here and unread. A client that has
    /// sent one whole request, and has its answer in the same moment, has no reason to send more.
    fn may_receive_more(&self) -> bool {
        let has_one_request =
            self.is_drained && self.input.is_empty() && self.unread_body.is_finished();
        !self.has_client_finished && !has_one_request
    }

    /// Reads once. What is not a whole request stays in `input`.
    fn read<S: Stream>(&mut self, stream: &mut S, now: Instant) -> ControlFlow<Progress> {
        if self.is_drained {
            return self.wait_for_more();
        }
        let filled = self.input.len();
        let result = self.fill_input(stream);
        match result {
            Ok(0) => self.client_has_finished(),
            Ok(length) => {
                // A short read means that there is no more: epoll(7), question 9. Asking again only
                // to be told so would cost a system call.
                self.is_drained = length < READ_SIZE;
                // The first byte of a further request: the wait for it was one thing, the wait for
                // the rest of its head is another. Later bytes do not move the deadline.
                if filled == 0 && self.answered > 0 && self.unread_body.is_finished() {
                    self.deadline = now + self.options.timeout;
                }
            }
            Err(error) if is_interrupted(&error) => {}
            Err(error) if would_block(&error) => return self.wait_for_more(),
            Err(error) => self.close(format_args!("lost: {error}")),
        }
        ControlFlow::Continue(())
    }

    fn wait_for_more(&mut self) -> ControlFlow<Progress> {
        if self.input.is_empty() {
            // A connection that sleeps gives its memory back.
            buffer::give_back(mem::take(&mut self.input));
        }
        ControlFlow::Break(Progress::WantsRead)
    }

    fn fill_input<S: Stream>(&mut self, stream: &mut S) -> io::Result<usize> {
        if self.input.capacity() == 0 {
            self.input = buffer::take();
        }
        let filled = self.input.len();
        self.input.resize(filled + READ_SIZE, 0);
        let result = stream.read(&mut self.input[filled..]);
        let length = *result.as_ref().unwrap_or(&0);
        self.input.truncate(filled + length);
        self.moved += length as u64;
        result
    }

    fn client_has_finished(&mut self) {
        self.has_client_finished = true;
        // In the middle of a body: its request has been answered already.
        let is_between_requests = self.input.is_empty() || self.input == b"\r\n";
        if is_between_requests || !self.unread_body.is_finished() {
            self.input.clear();
            self.close("closed by the client");
        } else {
            let reason = "The request ended before the empty line that ends its head.";
            self.refuse(Problem::bad_request(reason));
            self.input.clear();
        }
    }

    /// Walks over what is left of a body and answers the next request, if they are there. Returns
    /// false when nothing can be done before more bytes come.
    fn take_request(&mut self, now: Instant) -> bool {
        if !self.unread_body.is_finished() {
            let (length, parsed) = self.unread_body.skip(&self.input);
            self.input.drain(..length);
            match parsed {
                Parsed::Incomplete => return false,
                Parsed::Complete(()) => self.deadline = now + self.options.timeout,
                // The request has been answered; where the next one begins cannot be known.
                Parsed::Bad(_) => self.phase = Phase::Closing,
            }
            return true;
        }
        if self.input.is_empty() || !is_worth_parsing(&self.input, self.parsed) {
            return false;
        }
        let input = mem::take(&mut self.input);
        let length = match parse(&input) {
            Parsed::Incomplete => {
                self.parsed = input.len();
                self.input = input;
                return false;
            }
            Parsed::Complete(request) => {
                self.respond(&request);
                request.length
            }
            Parsed::Bad(problem) => {
                self.input = input;
                self.refuse(problem);
                return true;
            }
        };
        self.input = input;
        self.input.drain(..length);
        self.parsed = 0;
        true
    }

    fn respond(&mut self, request: &Request<'_>) {
        self.unread_body = UnreadBody::new(request.body);
        // A client that waits for "100 Continue" may send its body after all or may not, so where
        // the next request begins cannot be known.
        let body_is_in_the_way = !self.unread_body.is_finished()
            && (request.expects_continue || self.unread_body.is_too_long());
        let stays_open = self.is_persistent
            && request.keep_alive
            && self.finish_by.is_none()
            && !body_is_in_the_way;
        let connection = match (stays_open, request.minor_version) {
            (false, _) => Some("close"),
            // HTTP/1.0 closes unless both sides say otherwise.
            (true, 0) => Some("keep-alive"),
            (true, _) => None,
        };
        if !stays_open {
            self.phase = Phase::Closing;
        }
        let request_line = if self.log.is_quiet() {
            String::new()
        } else {
            format!("{} {}", request.method, request.target)
        };
        let response = self.site.respond(request);
        self.send(response, request.method == "HEAD", connection, request_line);
    }

    /// Answers with what was wrong. Nothing after a bad request can be trusted, so it is the last.
    fn refuse(&mut self, problem: Problem) {
        // Whatever is wrong with a HEAD, its answer has no body (RFC 9110 §9.3.2).
        let start = self.input.strip_prefix(b"\r\n").unwrap_or(&self.input);
        let is_head = start.starts_with(b"HEAD ");
        let response = Response::page(problem.status, &problem.reason);
        self.phase = Phase::Closing;
        self.send(response, is_head, Some("close"), format!("refused: {}", problem.reason));
    }

    /// Turns a response into bytes: the head, and all of a body that fits.
    fn send(
        &mut self,
        response: Response,
        is_head: bool,
        connection: Option<&str>,
        request_line: String,
    ) {
        let server = self.options.name();
        let mut bytes = buffer::take();
        response.push_head(&mut bytes, server, connection);
        let head_length = bytes.len() as u64;
        let status = response.status;
        let rest = match response.body {
            _ if is_head => None,
            Body::Absent => None,
            Body::Bytes(body) => {
                bytes.extend_from_slice(&body);
                None
            }
            Body::Part(mut part) => {
                if let Err(error) = take_first_bytes(&mut part, &mut bytes) {
                    // Nothing has left yet, so the client can still be told.
                    self.log.line(format_args!("{request_line}: cannot read the file: {error}"));
                    let page = Response::page(
                        Status::INTERNAL_SERVER_ERROR,
                        "The server could not read this file.",
                    );
                    return self.send(page, false, connection, request_line);
                }
                Some(part).filter(|part| part.length > 0)
            }
        };
        self.answer = Some(Box::new(Answer {
            bytes,
            written: 0,
            rest,
            recently: 0,
            head_length,
            sent: 0,
            request_line,
            status,
        }));
        self.deadline = Instant::now() + self.options.timeout;
    }

    /// Writes once: the head and what of the body goes with it, then the rest of a large file.
    fn write<S: Stream>(&mut self, stream: &mut S, now: Instant) -> ControlFlow<Progress> {
        let Some(answer) = &mut self.answer else { return ControlFlow::Continue(()) };
        let is_in_memory = answer.written < answer.bytes.len();
        let result = match &answer.rest {
            Some(part) if !is_in_memory => {
                // The next request, if there is one, may have come meanwhile.
                self.is_drained = false;
                send_part(part, stream)
            }
            _ => stream.write(&answer.bytes[answer.written..]),
        };
        let length = match result {
            // The length was promised in the head: a file that has become shorter ends the connection.
            Ok(0) => {
                self.abandon("cut short: the file has become shorter");
                return ControlFlow::Continue(());
            }
            Ok(length) => length,
            Err(error) if is_interrupted(&error) => return ControlFlow::Continue(()),
            Err(error) if would_block(&error) => return ControlFlow::Break(Progress::WantsWrite),
            Err(error) => {
                self.abandon(format_args!("lost: {error}"));
                return ControlFlow::Continue(());
            }
        };
        answer.sent += length as u64;
        answer.recently += length as u64;
        self.moved += length as u64;
        if answer.recently >= SLOWEST_READER {
            answer.recently = 0;
            self.deadline = now + self.options.timeout;
        }
        if is_in_memory {
            answer.written += length;
            if answer.written < answer.bytes.len() {
                // A short write means that the socket is full, as with a short read.
                return ControlFlow::Break(Progress::WantsWrite);
            }
        } else if let Some(part) = &mut answer.rest {
            part.skip(length);
        }
        answer.rest.take_if(|part| part.length == 0);
        if answer.rest.is_some() {
            // The kernel sends the rest, so this memory is not needed any longer.
            answer.bytes = Vec::new();
            answer.written = 0;
            return ControlFlow::Continue(());
        }
        self.log.line(format_args!(
            "{} {} {} bytes",
            answer.request_line,
            answer.status.code,
            answer.sent - answer.head_length
        ));
        if let Some(answer) = self.answer.take() {
            buffer::give_back(answer.bytes);
        }
        self.answered += 1;
        self.deadline = now + self.options.timeout;
        ControlFlow::Continue(())
    }

    /// Reads and throws away what the client still sends after the last answer, until it closes.
    fn discard<S: Stream>(&mut self, stream: &mut S) -> ControlFlow<Progress> {
        self.input.clear();
        match self.fill_input(stream) {
            Ok(0) => self.close("closed"),
            Ok(_) => {}
            Err(error) if is_interrupted(&error) => {}
            Err(error) if would_block(&error) => return ControlFlow::Break(Progress::WantsRead),
            Err(_) => self.close("closed"),
        }
        ControlFlow::Continue(())
    }

    /// The deadline has come.
    fn expire(&mut self) {
        let timeout = self.options.timeout.as_secs_f64();
        match self.phase {
            Phase::Closed => {}
            _ if self.answer.is_some() => {
                self.abandon(format_args!(
                    "too slow: took too little of the answer in {timeout} s"
                ));
            }
            Phase::Lingering | Phase::Closing => self.close("closed"),
            Phase::Open if self.has_no_request() => {
                self.close(format_args!("silent for {timeout} s, closed"))
            }
            Phase::Open => {
                let reason =
                    format!("The head of the request was not complete after {timeout} seconds.");
                self.refuse(Problem::new(Status::REQUEST_TIMEOUT, reason));
            }
        }
    }

    /// Closes in the middle of an answer: the client sees fewer bytes than Content-Length said.
    fn abandon(&mut self, why: impl std::fmt::Display) {
        if let Some(answer) = self.answer.take() {
            let Answer { request_line, status, sent, head_length, .. } = *answer;
            let body = sent.saturating_sub(head_length);
            self.log.line(format_args!("{request_line} {} {body} bytes, {why}", status.code));
        }
        self.phase = Phase::Closed;
    }

    fn close(&mut self, why: impl std::fmt::Display) {
        self.phase = Phase::Closed;
        buffer::give_back(mem::take(&mut self.input));
        // One answer and its line are all there is to say of a connection for one request.
        if self.is_persistent {
            self.log.line(format_args!("{why} after {} answers", self.answered));
        } else if self.answered == 0 {
            self.log.line(why);
        }
    }
}

/// Tells a client that there is no room for it, and lets go of it without waiting.
pub fn turn_away(mut client: TcpStream, site: &'static Site, options: &'static Options, log: Log) {
    let mut connection = Connection::once(site, options, log);
    let reason = "The server has as many clients as it can take. Try again in a moment.";
    connection.refuse(Problem::new(Status::SERVICE_UNAVAILABLE, reason));
    // Its request is read as far as it has come, so that closing does not reset the connection.
    if client.set_nonblocking(true).is_ok() {
        connection.advance(&mut client);
    }
}

/// Moves the bytes of a small file, or the first ones of a large file, from `part` to `bytes`.
fn take_first_bytes(part: &mut Part, bytes: &mut Vec<u8>) -> io::Result<()> {
    let length = SMALL_FILE.min(usize::try_from(part.length).unwrap_or(SMALL_FILE));
    part.document.append_to(bytes, part.offset, length)?;
    part.skip(length);
    Ok(())
}

/// Sends the next bytes of a large file. (A small one has gone out with its head.)
fn send_part<S: Stream>(part: &Part, stream: &mut S) -> io::Result<usize> {
    let file = part.document.file().ok_or(io::ErrorKind::InvalidInput)?;
    stream.send_file(file, part.offset, part.length.min(SEND_SIZE))
}

fn is_interrupted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

/// A non-blocking stream says "would block"; so does a blocking one whose time is up, and may calls
/// that "timed out".
fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::SocketAddr;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::options::{Step, Worker};

    /// A client in memory: what it sends, in pieces, and what it has been sent, at most so much at
    /// a time.
    struct Script {
        pieces: VecDeque<Vec<u8>>,
        received: Vec<u8>,
        room: usize,
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(mut piece) = self.pieces.pop_front() else { return Ok(0) };
            if piece.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let rest = piece.split_off(piece.len().min(buffer.len()));
            if !rest.is_empty() {
                self.pieces.push_front(rest);
            }
            buffer[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = bytes.len().min(self.room);
            self.received.extend_from_slice(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Stream for Script {
        fn send_file(&mut self, file: &File, offset: u64, length: u64) -> io::Result<usize> {
            let mut bytes = vec![0; length as usize];
            let length = file.read_at(&mut bytes, offset)?;
            self.write(&bytes[..length])
        }

        fn finish_writing(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn site() -> (&'static Site, &'static Options) {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo");
        let options = Options::quiet(Step::with_files("test", "a test")).unwrap();
        (Box::leak(Box::new(Site::open(&demo).unwrap())), Box::leak(Box::new(options)))
    }

    /// All that a client receives, without the dates, when it sends its bytes in these pieces.
    fn converse(
        (site, options): (&'static Site, &'static Options),
        pieces: Vec<Vec<u8>>,
        room: usize,
    ) -> String {
        let log = options.log(Worker::Process, SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut connection = Connection::persistent(site, options, log);
        let mut script = Script { pieces: pieces.into(), received: Vec::new(), room };
        while connection.advance(&mut script) != Progress::Closed {}
        let text = String::from_utf8_lossy(&script.received).into_owned();
        text.split_inclusive('\n').filter(|line| !line.starts_with("Date: ")).collect()
    }

    fn some_requests() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just("GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
            Just("\r\nHEAD /news.html HTTP/1.1\r\nHost: h\r\n\r\n"),
            Just("GET /nothing HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1\r\n\r\n"),
            Just("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"),
            Just(
                "PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            ),
            Just("GET /style.css HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
            Just("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"),
            Just("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            Just("BAD\r\n\r\n"),
            Just("GET / HTTP/1.1\r\nHost"),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// However the network cuts the bytes, and however little the socket takes at a time, the
        /// client receives the same.
        #[test]
        fn any_split_gives_the_same_answers(
            bytes in some_requests(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
            room in 1_usize..3000,
        ) {
            let site = site();
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            ends.sort_unstable();
            ends.push(bytes.len());
            let mut start = 0;
            // An empty piece stands for "would block".
            let pieces = ends.into_iter().flat_map(|end| {
                let piece = bytes[start..end].to_vec();
                start = end;
                [piece, Vec::new()]
            });
            let split = converse(site, pieces.collect(), room);
            prop_assert_eq!(split, converse(site, vec![bytes], usize::MAX));
        }
    }

    #[test]
    fn a_byte_at_a_time_is_answered() {
        let bytes = b"GET /news.html HTTP/1.1\r\nHost: h\r\n\r\n".repeat(2);
        let pieces = bytes.iter().map(|byte| vec![*byte]).collect();
        let received = converse(site(), pieces, 100);
        assert_eq!(received.matches("HTTP/1.1 200 OK\r\n").count(), 2);
    }

    #[test]
    fn a_connection_that_sleeps_holds_no_memory() {
        let (site, options) = site();
        let log = options.log(Worker::Process, SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut connection = Connection::persistent(site, options, log);
        let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec();
        let pieces = VecDeque::from([request, Vec::new()]);
        let mut script = Script { pieces, received: Vec::new(), room: usize::MAX };
        assert_eq!(connection.advance(&mut script), Progress::WantsRead);
        assert!(connection.is_idle() && connection.input.capacity() == 0);
    }
}
