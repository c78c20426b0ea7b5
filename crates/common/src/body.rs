//! Where a request body ends. No step does anything with a body, but the next request on the
//! connection begins behind it, so it must be walked over to the byte.

use std::sync::LazyLock;

use regex::bytes::Regex;

use crate::request::{
    BodyLength, Line, MAX_CHUNK_LINE, Parsed, Problem, is_field_line, regex, take_line,
};

/// The longest body, in bytes as sent, that is read so that the connection can go on. A longer one
/// ends the connection after the answer.
pub const MAX_SKIPPED_BODY: u64 = 64 * 1024;

/// A chunk's size in hexadecimal digits and its extensions: RFC 9112 §7.1. Sixteen digits are all
/// that fit into 64 bits.
static CHUNK_SIZE: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?-u)^([0-9A-Fa-f]{1,16})(?:[\t ]*;[\t -~\x80-\xff]*)?$"));

pub(crate) fn compile_patterns() {
    LazyLock::force(&CHUNK_SIZE);
}

/// What is still to come of a request body.
#[derive(Debug)]
pub struct UnreadBody {
    next: Next,
    /// How many more bytes may be read before the body counts as too long.
    allowance: u64,
}

#[derive(Debug)]
enum Next {
    Data(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailer,
    Nothing,
}

impl UnreadBody {
    /// All of a body whose head has just been read.
    pub fn new(length: BodyLength) -> UnreadBody {
        let next = match length {
            BodyLength::Bytes(0) => Next::Nothing,
            BodyLength::Bytes(length) => Next::Data(length),
            BodyLength::Chunked => Next::ChunkSize,
        };
        UnreadBody { next, allowance: MAX_SKIPPED_BODY }
    }

    /// Whether the end of the body has been seen.
    pub fn is_finished(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }

    /// Whether it is known already that the body is longer than [`MAX_SKIPPED_BODY`].
    pub fn is_too_long(&self) -> bool {
        matches!(self.next, Next::Data(length) if length > self.allowance)
    }

    /// Walks over the body's bytes at the beginning of `input`. Returns how many there were, and
    /// whether that was all of the body.
    pub fn skip(&mut self, input: &[u8]) -> (usize, Parsed<()>) {
        let mut skipped = 0;
        while !self.is_finished() {
            match self.skip_part(&input[skipped..]) {
                Ok(0) => return (skipped, Parsed::Incomplete),
                Ok(length) if length as u64 > self.allowance => {
                    let problem = Problem::bad_request("The request body is too long.");
                    return (skipped, Parsed::Bad(problem));
                }
                Ok(length) => {
                    self.allowance -= length as u64;
                    skipped += length;
                }
                Err(problem) => return (skipped, Parsed::Bad(problem)),
            }
        }
        (skipped, Parsed::Complete(()))
    }

    /// One part: some data, or a whole line. Returns its length; 0 when more bytes are needed.
    fn skip_part(&mut self, input: &[u8]) -> Result<usize, Problem> {
        match self.next {
            Next::Nothing => Ok(0),
            Next::Data(left) => {
                let length = left.min(input.len() as u64);
                self.next = if left == length { Next::Nothing } else { Next::Data(left - length) };
                Ok(length as usize)
            }
            Next::ChunkData(left) => {
                let length = left.min(input.len() as u64);
                self.next =
                    if left == length { Next::ChunkEnd } else { Next::ChunkData(left - length) };
                Ok(length as usize)
            }
            Next::ChunkEnd | Next::ChunkSize | Next::Trailer => {
                let line = match take_line(input, MAX_CHUNK_LINE)? {
                    Line::Complete(line) => line,
                    Line::Incomplete => return Ok(0),
                    Line::TooLong => {
                        return Err(Problem::bad_request(
                            "A line of the chunked body is too long.",
                        ));
                    }
                };
                self.next = self.after_line(line)?;
                Ok(line.len() + 2)
            }
        }
    }

    fn after_line(&self, line: &[u8]) -> Result<Next, Problem> {
        match self.next {
            Next::ChunkEnd if line.is_empty() => Ok(Next::ChunkSize),
            Next::ChunkEnd => Err(Problem::bad_request("A chunk is longer than its size says.")),
            Next::Trailer if line.is_empty() => Ok(Next::Nothing),
            Next::Trailer if is_field_line(line) => Ok(Next::Trailer),
            Next::Trailer => Err(Problem::bad_request("A trailer line is not a field.")),
            _ => {
                let size = CHUNK_SIZE.captures(line).and_then(|parts| {
                    u64::from_str_radix(str::from_utf8(&parts[1]).ok()?, 16).ok()
                });
                match size {
                    Some(0) => Ok(Next::Trailer),
                    Some(size) => Ok(Next::ChunkData(size)),
                    None => Err(Problem::bad_request(
                        "The size of a chunk is not a hexadecimal number.",
                    )),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip_all(length: BodyLength, bytes: &[u8]) -> (usize, Parsed<()>) {
        UnreadBody::new(length).skip(bytes)
    }

    #[test]
    fn a_body_ends_where_its_length_says() {
        assert_eq!(skip_all(BodyLength::Bytes(3), b"abcGET"), (3, Parsed::Complete(())));
        assert_eq!(skip_all(BodyLength::Bytes(3), b"ab"), (2, Parsed::Incomplete));
        assert_eq!(skip_all(BodyLength::Bytes(0), b"GET"), (0, Parsed::Complete(())));
    }

    #[test]
    fn a_chunked_body_ends_after_its_trailer() {
        for body in [
            "0\r\n\r\n",
            "5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
            "00A \t;x\r\n0123456789\r\n0\r\n\r\n",
        ] {
            let bytes = format!("{body}GET");
            let expected = (body.len(), Parsed::Complete(()));
            assert_eq!(skip_all(BodyLength::Chunked, bytes.as_bytes()), expected, "{body:?}");
        }
    }

    #[test]
    fn a_chunked_body_may_come_a_byte_at_a_time() {
        let mut body = UnreadBody::new(BodyLength::Chunked);
        let mut input = Vec::new();
        let bytes = b"5\r\nhello\r\n0\r\n\r\n";
        for (at, byte) in bytes.iter().enumerate() {
            assert!(!body.is_finished(), "finished before byte {at}");
            input.push(*byte);
            let (length, _) = body.skip(&input);
            input.drain(..length);
        }
        assert!(body.is_finished() && input.is_empty());
    }

    #[test]
    fn what_is_not_a_chunk_is_refused() {
        for body in ["", "+4", "-4", "0x4", " 4", "4 ", "4 4", "G", "0_2e", "fffffffffffffffff"] {
            let bytes = format!("{body}\r\nAAAA\r\n0\r\n\r\n");
            let (_, parsed) = skip_all(BodyLength::Chunked, bytes.as_bytes());
            assert!(matches!(parsed, Parsed::Bad(_)), "{body:?}: {parsed:?}");
        }
        for bytes in [
            "5\r\nhello!\r\n",
            "5\nhello\r\n",
            "0\r\nGET / HTTP/1.1\r\n\r\n",
            "0\r\n folded\r\n\r\n",
        ] {
            let (_, parsed) = skip_all(BodyLength::Chunked, bytes.as_bytes());
            assert!(matches!(parsed, Parsed::Bad(_)), "{bytes:?}: {parsed:?}");
        }
    }

    #[test]
    fn a_long_body_is_not_read_to_its_end() {
        assert!(UnreadBody::new(BodyLength::Bytes(u64::MAX)).is_too_long());
        let chunks = "400\r\n".to_owned() + &"a".repeat(1024) + "\r\n";
        let (length, parsed) = skip_all(BodyLength::Chunked, chunks.repeat(100).as_bytes());
        assert!(matches!(parsed, Parsed::Bad(_)) && length as u64 <= MAX_SKIPPED_BODY);
    }
}
