//! Any bytes, cut in any way, to a client with any room: the conversation does not panic, ends, and
//! gives the same answers as when the bytes come whole.

#![no_main]

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::LazyLock;

use common::stream::copy_file;
use common::{Connection, Progress, Site, Stream};
use libfuzzer_sys::fuzz_target;
use terminal::{Log, Options, Step};

static SITE: LazyLock<(&Site, &Options)> = LazyLock::new(|| {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo");
    let mut options = Options::new(Step::with_files("fuzz", "a test"));
    options.quiet = true;
    let site = Site::open(&demo).expect("the demo site");
    (Box::leak(Box::new(site)), Box::leak(Box::new(options)))
});

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

fn converse(pieces: VecDeque<Vec<u8>>, room: usize) -> String {
    let (site, options) = *SITE;
    let log = Log::new(options, 0, SocketAddr::from(([127, 0, 0, 1], 1)));
    let mut script = Script { pieces, received: Vec::new(), room };
    let mut connection = Connection::once(&mut script, site, log).persistent();
    // More turns than any input of this length can need.
    for _ in 0..1_000_000 {
        if connection.advance() == Progress::Closed {
            return comparable(&script.received);
        }
    }
    panic!("the conversation does not end");
}

/// Without dates, and up to an answer that is the last. Which of several faults in a bad request is
/// named may depend on how much of it had come.
fn comparable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut kept = String::new();
    for answer in text.split("HTTP/1.1 ").skip(1) {
        if answer.starts_with(['4', '5']) && answer.contains("\r\nConnection: close\r\n") {
            return kept + "(a refusal)";
        }
        kept.extend(answer.split_inclusive('\n').filter(|line| !line.starts_with("Date: ")));
    }
    kept
}

// The first byte says how much room the client has, the second where the bytes are cut.
fuzz_target!(|bytes: &[u8]| {
    let [room, cut, bytes @ ..] = bytes else { return };
    let step = usize::from(*cut) + 1;
    let pieces = bytes.chunks(step).flat_map(|piece| [piece.to_vec(), Vec::new()]).collect();
    let split = converse(pieces, 16 + usize::from(*room) * 64);
    assert_eq!(split, converse([bytes.to_vec()].into(), usize::MAX));
});
