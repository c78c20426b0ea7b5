//! Reading answers, and saying what is wrong with what came.

use std::cell::Cell;
use std::io::Read;
use std::time::{Duration, Instant};

use super::{Client, MOST_BYTES, MOST_HEAD, Next};
use crate::Failure;
use crate::answer::{Answer, Reply, parse_head};
use crate::site::BIG_LENGTH;
use crate::story::{Deed, Fault, Symptom};
use crate::waiting::Waiting;
use crate::words::counted;

impl Client {
    /// Reads the head of the next answer and leaves the body to be read.
    ///
    /// # Errors
    /// What comes is not the head of an answer, or it does not come in time.
    pub fn read_head(&mut self) -> Result<Answer, Failure> {
        let (answer, length) = self.next_head(&mut self.waiting())?;
        self.taken += length;
        Ok(answer)
    }

    /// Reads the next answer to a GET: a head, and as many bytes as its Content-Length says or, without
    /// one, all until the end of the connection.
    ///
    /// # Errors
    /// It does not come, or is none.
    pub fn answer(&mut self) -> Result<Answer, Failure> {
        Ok(self.next_answer(false)?.0)
    }

    /// Reads the next answer to a HEAD, which has no body.
    ///
    /// # Errors
    /// It does not come, or is none.
    pub fn answer_to_head(&mut self) -> Result<Answer, Failure> {
        Ok(self.next_answer(true)?.0)
    }

    fn next_head(&mut self, waiting: &mut Option<Waiting>) -> Result<(Answer, usize), Failure> {
        if self.check.is_none() {
            // Nobody will ask for what was there before, and some tests take thousands of answers.
            self.received.drain(..self.taken);
            self.taken = 0;
        }
        loop {
            match parse_head(self.rest()) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) if self.rest().len() > MOST_HEAD => {
                    return Fault::expected("a head that ends with an empty line")
                        .saw(format!("more than {} without one:", counted(MOST_HEAD, "byte")))
                        .came(self.rest())
                        .cause("the head of the answer does not end")
                        .fail();
                }
                Ok(None) => {
                    self.need_more(waiting, "an answer, with a head that ends with an empty line")?;
                }
                Err(why) => {
                    return Fault::expected("an answer that begins with a status line and fields")
                        .came_wrong_at(&self.received[..], self.taken)
                        .cause(if self.taken == 0 {
                            why.to_string()
                        } else {
                            format!(
                                "what follows answer {} is not a new answer: its Content-Length is too \
                                 small, or something is written behind it",
                                self.answers
                            )
                        })
                        .fail();
                }
            }
        }
    }

    fn next_answer(&mut self, is_head: bool) -> Result<(Answer, usize), Failure> {
        let mut waiting = self.waiting();
        let (mut answer, head_length) = self.next_head(&mut waiting)?;
        let start = self.taken + head_length;
        let most = if self.check.is_some() { MOST_BYTES } else { usize::MAX / 2 };
        let end = match answer.field("content-length").map(str::parse::<usize>) {
            _ if is_head || answer.status == 304 => start,
            Some(Ok(announced)) if announced <= most => {
                let expected = format!("a body of {}", counted(announced, "byte"));
                while self.received.len() < start + announced {
                    self.need_more(&mut waiting, &expected)?;
                }
                start + announced
            }
            Some(_) => {
                return Fault::expected("a Content-Length that is a number, and that of the body")
                    .came(&self.received[self.taken..start])
                    .cause("something else stands where the length of the body belongs")
                    .fail();
            }
            None => loop {
                match self.read(&mut waiting) {
                    Next::Bytes => {}
                    Next::End | Next::Nothing => break self.received.len(),
                    Next::Endless => return self.is_endless().fail(),
                }
            },
        };
        self.taken = end;
        answer.body = self.received[start..end].to_vec();
        self.answers += 1;
        let (status, length) = (answer.status, counted(answer.body.len(), "byte"));
        self.record(Deed::Answered, format!("has its answer: status {status}, a body of {length}"));
        Ok((answer, head_length))
    }

    /// Why nobody reads an answer to its end.
    fn is_endless(&self) -> Fault {
        let fault = Fault::expected("an answer that ends");
        let came = counted(self.rest().len(), "byte");
        if self.received.len() > MOST_HEAD {
            fault.saw(format!("{came}, and no end:")).came(self.rest()).cause(format!(
                "the answer goes on and on: for {}, or for a minute; nothing that there is to ask for has \
                 more than {}",
                counted(MOST_BYTES, "byte"),
                counted(BIG_LENGTH, "byte")
            ))
        } else {
            fault.saw(format!("{came}, a few at a time:")).came(self.rest()).cause(
                "the server sends a few bytes and sleeps, again and again: a whole answer may take three \
                 seconds of sleep, and a minute in all",
            )
        }
    }

    fn need_more(&mut self, waiting: &mut Option<Waiting>, what: &str) -> Result<(), Failure> {
        let next = self.read(waiting);
        let came = self.rest();
        let so_far = match self.answers {
            0 => String::new(),
            count => format!(", after answer {count}"),
        };
        let fault = Fault::expected(what);
        let fault = match next {
            Next::Bytes => return Ok(()),
            Next::Endless => return self.is_endless().fail(),
            Next::End if came.is_empty() => fault
                .symptom(Symptom::Ended)
                .saw(format!("the end of the connection{so_far}"))
                .cause(if self.answers == 0 {
                    "the server closed the connection without an answer"
                } else {
                    "the server closed the connection behind an answer, and serves no further request on it"
                }),
            Next::End if !came.starts_with(b"HTTP/1.") => {
                fault.cause("what came does not begin with a status line such as HTTP/1.1 200 OK")
            }
            Next::End if came.windows(2).any(|pair| pair == b"\n\n") && parse_head(came)?.is_none() => {
                fault.cause("lines end with \\n alone; in a head they end with \\r\\n, also the empty one")
            }
            Next::End => fault
                .symptom(Symptom::Ended)
                .cause("the server closed the connection in the middle of its answer"),
            Next::Nothing if came.is_empty() => fault
                .symptom(Symptom::Silent)
                .saw(format!("nothing{so_far}"))
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

    /// Reads an answer and then all that still comes until the end of the connection.
    ///
    /// # Errors
    /// No whole answer comes.
    pub fn reply(mut self, leaves_open: &Cell<bool>) -> Result<Reply, Failure> {
        let (answer, head_length) = self.next_answer(false)?;
        self.drains(leaves_open);
        if self.goes_on {
            return self.is_endless().fail();
        }
        Ok(Reply { answer, head_length, all: self.received })
    }

    /// Says that nothing more will be sent, and reads all that still comes until the end of the
    /// connection; whether it came. A server that has left one open before is not waited for again.
    pub fn drains(&mut self, leaves_open: &Cell<bool>) -> bool {
        // A server that goes on reading sees the end of the client now, and ends the connection too.
        let _ = self.finish();
        if !leaves_open.get() {
            let ends = self.sees_the_end();
            // One that goes on and on is another thing, and each check says so.
            leaves_open.set(!ends && !self.goes_on);
            return ends;
        }
        let _ = self.stream.set_read_timeout(Some(Duration::from_millis(100)));
        let start = Instant::now();
        let mut piece = [0; 4096];
        while self.received.len() <= MOST_BYTES && start.elapsed() < Duration::from_secs(1) {
            match self.stream.read(&mut piece) {
                Ok(0) => return true,
                Ok(length) => self.received.extend_from_slice(&piece[..length]),
                Err(_) => return false,
            }
        }
        self.goes_on = self.received.len() > MOST_BYTES;
        false
    }
}
