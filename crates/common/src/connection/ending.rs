//! Optional reading: how a conversation ends, and what is done with bytes that nobody will answer.

use std::fmt::Display;
use std::time::{Duration, Instant};

use message::{Problem, Status};

use super::{Connection, Phase, Progress, READ_SIZE};
use crate::stream::Stream;

/// How long the end of a refused request is waited for, since its last bytes. See [`Phase::Lingering`].
const LINGER: Duration = Duration::from_secs(2);
/// How long it is waited for in all, however it comes.
const LONGEST_LINGER: Duration = Duration::from_secs(15);

impl<S: Stream> Connection<S> {
    /// An answer is over, with a note if the client sees fewer bytes than Content-Length said.
    pub(super) fn finish_answer(&mut self, note: impl Display) {
        if let (Some(answer), Some(line)) = (self.answer.take(), self.request_line.take()) {
            let (code, length) = (answer.status.code, answer.body_sent());
            self.log.line(format_args!("{line} {code} {length} bytes{note}"));
        }
    }

    pub(super) fn client_has_finished(&mut self) {
        // In the middle of a body: its request has been answered already.
        if self.is_idle() || self.input == b"\r\n" {
            self.end("closed by the client");
        } else {
            let reason = "The request ended before the empty line that ends its head.";
            self.refuse(Problem::new(Status::BAD_REQUEST, reason), false);
        }
    }

    /// Walks over what is left of a body, as far as it has come.
    pub(super) fn skip_body(&mut self) -> bool {
        let Some(body) = &mut self.unread_body else { return false };
        let Some((length, is_finished)) = body.skip(&self.input) else {
            // The request has been answered; where the next one begins cannot be known.
            self.phase = Phase::Closing;
            return true;
        };
        self.input = self.input.split_off(length);
        if is_finished {
            self.unread_body = None;
            self.deadline = self.now + self.log.options.timeout;
        }
        is_finished
    }

    /// Closes after the last answer. Bytes of the client may still be on their way, or here and unread. A
    /// client that has sent one whole request, and has its answer in the same moment, has no reason to
    /// send more.
    pub(super) fn close_politely(&mut self) {
        let has_one_request =
            self.was_short_read && self.input.is_empty() && self.unread_body.is_none();
        if has_one_request || self.stream.finish_writing().is_err() {
            return self.end("closed");
        }
        self.phase = Phase::Lingering { until: self.now + LONGEST_LINGER };
        self.deadline = self.now + LINGER.min(self.log.options.timeout);
    }

    /// Reads and throws away what the client still sends after the last answer, until it closes.
    pub(super) fn discard(&mut self, until: Instant, is_late: bool) -> Option<Progress> {
        self.input = Vec::new();
        if self.now >= until || self.finish_by.is_some() {
            self.end("closed");
            return None;
        }
        match self.stream.read(&mut [0; READ_SIZE]) {
            Ok(0) => self.end("closed"),
            Ok(_) => self.deadline = until.min(self.now + LINGER.min(self.log.options.timeout)),
            Err(error) => return self.after_error(error, is_late, Progress::WantsRead),
        }
        None
    }

    /// The deadline has come, and nothing has moved.
    pub(super) fn expire(&mut self) {
        let timeout = self.log.options.timeout.as_secs_f64();
        if self.answer.is_some() {
            self.end(format_args!("too slow: took too little of the answer in {timeout} s"));
        } else if self.is_idle() {
            self.end(format_args!("silent for {timeout} s, closed"));
        } else if self.phase == Phase::Open {
            let reason =
                format!("The head of the request was not complete after {timeout} seconds.");
            self.refuse(Problem::new(Status::REQUEST_TIMEOUT, reason), false);
        } else {
            self.end("closed");
        }
    }

    /// The conversation is over.
    pub(super) fn end(&mut self, why: impl Display) {
        self.phase = Phase::Closed;
        if self.answer.is_some() {
            self.finish_answer(format_args!(", {why}"));
        } else if self.is_persistent {
            self.log.line(format_args!("{why} after {} answers", self.answered));
        } else if self.answered == 0 {
            // One answer and its line are all there is to say of a connection for one request.
            self.log.line(why);
        }
    }
}
