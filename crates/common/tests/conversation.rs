//! A conversation with a client in memory: however the network cuts the bytes, the answers are the same.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;

use common::stream::copy_file;
use common::{Connection, Progress, Site, Stream};
use proptest::prelude::*;
use terminal::{Log, Options, Step};

/// A client in memory: what it sends, in pieces, and what it has been sent, at most so much at
/// a time.
struct Script {
    pieces: VecDeque<Vec<u8>>,
    received: Vec<u8>,
    room: usize,
}

impl Read for &mut Script {
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

impl Write for &mut Script {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(self.room);
        self.received.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for &mut Script {
    fn send_file(&mut self, file: &File, offset: u64, length: u64) -> io::Result<usize> {
        copy_file(self, file, offset, length)
    }

    fn finish_writing(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[allow(clippy::unwrap_used)]
fn site() -> (&'static Site, &'static Options) {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo");
    let mut options = Options::new(Step::with_files("test", "a test"));
    options.quiet = true;
    (Box::leak(Box::new(Site::open(&demo).unwrap())), Box::leak(Box::new(options)))
}

fn connect<'a>(
    (site, options): (&'static Site, &'static Options),
    script: &'a mut Script,
) -> Connection<&'a mut Script> {
    let log = Log::new(options, 1, SocketAddr::from(([127, 0, 0, 1], 1)));
    Connection::once(script, site, log).persistent()
}

/// All that a client receives, without the dates, when it sends its bytes in these pieces.
fn converse(site: (&'static Site, &'static Options), pieces: Vec<Vec<u8>>, room: usize) -> String {
    let mut script = Script { pieces: pieces.into(), received: Vec::new(), room };
    let mut connection = connect(site, &mut script);
    while connection.advance() != Progress::Closed {}
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
fn a_connection_that_sleeps_is_idle() {
    let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec();
    let pieces = VecDeque::from([request, Vec::new()]);
    let mut script = Script { pieces, received: Vec::new(), room: usize::MAX };
    let mut connection = connect(site(), &mut script);
    assert_eq!(connection.advance(), Progress::WantsRead);
    assert!(connection.is_idle());
}
