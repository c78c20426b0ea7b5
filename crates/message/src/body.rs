//! Optional reading: where a request body ends. No step does anything with a body, but the next
//! request on the connection begins behind it, so it must be walked over to the byte.

use crate::grammar::{CHUNK_SIZE, FIELD_LINE};
use crate::problem::Problem;
use crate::request::{BodyLength, take_line};
use crate::status::Status;

/// The longest body, in bytes as sent, that is read so that the connection can go on. A longer one
/// ends the connection after the answer.
pub const MAX_SKIPPED_BODY: u64 = 64 * 1024;
/// The longest line of a chunked body that gives a size or a trailer field, in bytes.
const MAX_CHUNK_LINE: usize = 1024;

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
            BodyLength::Bytes(length) => Next::Data(length),
            BodyLength::Chunked => Next::ChunkSize,
        };
        UnreadBody { next, allowance: MAX_SKIPPED_BODY }
    }

    /// Whether it is known already that the body is longer than [`MAX_SKIPPED_BODY`].
    pub fn is_too_long(&self) -> bool {
        matches!(self.next, Next::Data(length) if length > self.allowance)
    }

    /// Walks over the body's bytes at the beginning of `input`. Returns how many there were, and
    /// whether that was all of the body; `None` when it is not framed as RFC 9112 §7.1 says, or is longer
    /// than [`MAX_SKIPPED_BODY`], so that nobody can say where the next request begins.
    pub fn skip(&mut self, input: &[u8]) -> Option<(usize, bool)> {
        let mut skipped = 0;
        while !matches!(self.next, Next::Nothing) {
            let length = self.skip_part(&input[skipped..])?;
            if length == 0 {
                return Some((skipped, false));
            }
            skipped += length;
            self.allowance = self.allowance.checked_sub(length as u64)?;
        }
        Some((skipped, true))
    }

    /// One part: some data, or a whole line. Returns its length; 0 when more bytes are needed.
    fn skip_part(&mut self, input: &[u8]) -> Option<usize> {
        if let Next::Data(left) | Next::ChunkData(left) = &mut self.next {
            let length = (*left).min(input.len() as u64);
            *left -= length;
            if *left == 0 {
                let is_chunk = matches!(self.next, Next::ChunkData(_));
                self.next = if is_chunk { Next::ChunkEnd } else { Next::Nothing };
            }
            return Some(length as usize);
        }
        let too_long = || Problem::new(Status::BAD_REQUEST, "");
        let Some(line) = take_line(input, MAX_CHUNK_LINE, too_long).ok()? else { return Some(0) };
        self.next = self.after_line(line)?;
        Some(line.len() + 2)
    }

    fn after_line(&self, line: &[u8]) -> Option<Next> {
        match self.next {
            Next::ChunkEnd => line.is_empty().then_some(Next::ChunkSize),
            Next::Trailer if line.is_empty() => Some(Next::Nothing),
            Next::Trailer => FIELD_LINE.is_match(line).then_some(Next::Trailer),
            _ => {
                let parts = CHUNK_SIZE.captures(line)?;
                match u64::from_str_radix(str::from_utf8(&parts[1]).ok()?, 16).ok()? {
                    0 => Some(Next::Trailer),
                    size => Some(Next::ChunkData(size)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: fn(u64) -> UnreadBody = |length| UnreadBody::new(BodyLength::Bytes(length));

    fn skip_chunked(bytes: &[u8]) -> Option<(usize, bool)> {
        UnreadBody::new(BodyLength::Chunked).skip(bytes)
    }

    #[test]
    fn a_body_ends_where_its_length_says() {
        assert_eq!(DATA(3).skip(b"abcGET"), Some((3, true)));
        assert_eq!(DATA(3).skip(b"ab"), Some((2, false)));
    }

    #[test]
    fn a_chunked_body_ends_after_its_trailer() {
        for body in [
            "0\r\n\r\n",
            "5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
            "00A \t;x\r\n0123456789\r\n0\r\n\r\n",
        ] {
            let bytes = format!("{body}GET");
            assert_eq!(skip_chunked(bytes.as_bytes()), Some((body.len(), true)), "{body:?}");
        }
    }

    #[test]
    fn a_chunked_body_may_come_a_byte_at_a_time() {
        let mut body = UnreadBody::new(BodyLength::Chunked);
        let mut input = Vec::new();
        let mut is_finished = false;
        for (at, byte) in b"5\r\nhello\r\n0\r\n\r\n".iter().enumerate() {
            assert!(!is_finished, "finished before byte {at}");
            input.push(*byte);
            let length;
            (length, is_finished) = body.skip(&input).unwrap();
            input.drain(..length);
        }
        assert!(is_finished && input.is_empty());
    }

    #[test]
    fn what_is_not_a_chunk_is_refused() {
        for body in ["", "+4", "-4", "0x4", " 4", "4 ", "4 4", "G", "0_2e", "fffffffffffffffff"] {
            let bytes = format!("{body}\r\nAAAA\r\n0\r\n\r\n");
            assert!(skip_chunked(bytes.as_bytes()).is_none(), "{body:?}");
        }
        for bytes in [
            "5\r\nhello!\r\n",
            "5\nhello\r\n",
            "0\r\nGET / HTTP/1.1\r\n\r\n",
            "0\r\n folded\r\n\r\n",
        ] {
            assert!(skip_chunked(bytes.as_bytes()).is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn a_long_body_is_not_read_to_its_end() {
        assert!(DATA(u64::MAX).is_too_long() && !DATA(MAX_SKIPPED_BODY).is_too_long());
        let chunk = "400\r\n".to_owned() + &"a".repeat(1024) + "\r\n";
        let most = MAX_SKIPPED_BODY as usize / chunk.len();
        assert!(skip_chunked(chunk.repeat(most).as_bytes()).is_some());
        assert!(skip_chunked(chunk.repeat(most + 1).as_bytes()).is_none());
    }
}
