//! A site made for one run, with what a server can stumble over.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::temporary_folder;
use crate::words::first_difference;

/// What no server may ever send.
pub const SECRET: &[u8] = b"TOPSECRET\n";
/// The length of `big.bin`, in bytes: more than any socket holds.
pub const BIG: u64 = 64 * 1024 * 1024;

/// An empty file as gzip packs it.
const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0";

/// A folder with a site, and beside it what must not leave it. Gone when it is dropped.
#[derive(Debug)]
pub struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    /// Makes the site.
    ///
    /// # Errors
    /// The disk is full, or the folder for temporary files cannot be written.
    pub fn new() -> io::Result<Fixture> {
        let fixture = Fixture { folder: temporary_folder()? };
        Fixture::write(fixture.outside())?;
        Ok(fixture)
    }

    /// Makes the site in a folder that stays.
    ///
    /// # Errors
    /// As [`Fixture::new`].
    pub fn write(outside: &Path) -> io::Result<()> {
        let root = outside.join("site");
        for folder in ["site/sub", "site/noindex", "site-evil", "elsewhere"] {
            fs::create_dir_all(outside.join(folder))?;
        }
        for secret in ["secret.txt", "site-evil/secret.txt", "elsewhere/secret.txt", "site/.secret"]
        {
            fs::write(outside.join(secret), SECRET)?;
        }
        fs::write(root.join("index.html"), "<h1>index</h1>\n")?;
        fs::write(root.join("sub/index.html"), "<h1>sub</h1>\n")?;
        fs::write(root.join("1k.bin"), (0..1000).map(|at| (at % 251) as u8).collect::<Vec<u8>>())?;
        fs::write(root.join("a b.txt"), "a b\n")?;
        fs::write(root.join("%41.txt"), "pct\n")?;
        fs::write(root.join("empty.bin"), "")?;
        // Text in other encodings, which says so itself, and text that needs somebody to say it.
        let latin = b"<!doctype html><meta charset=iso-8859-1><p>caf\xe9\n";
        fs::write(root.join("latin.html"), latin)?;
        let latin = b"<?xml version=\"1.0\" encoding=\"iso-8859-1\"?><p>caf\xe9</p>\n";
        fs::write(root.join("latin.xml"), latin)?;
        let japanese = b"<meta charset=iso-2022-jp>\x1b$BF|K\\\x1b(B\n";
        fs::write(root.join("japanese.html"), japanese)?;
        fs::write(root.join("utf8.txt"), "caf\u{e9}\n")?;
        // Compressed: a picture that browsers show, and an archive that they keep.
        for name in ["drawing.svgz", "archive.tar.gz"] {
            fs::write(root.join(name), GZIP)?;
        }
        symlink("index.html", root.join("link_in"))?;
        symlink("../secret.txt", root.join("link_out"))?;
        symlink("../elsewhere", root.join("linkdir_out"))
    }

    /// Makes the site, and `big.bin` in it.
    ///
    /// # Errors
    /// As [`Fixture::new`].
    pub fn with_big_file() -> io::Result<Fixture> {
        let fixture = Fixture::new()?;
        let mut big =
            BufWriter::with_capacity(1 << 20, fs::File::create(fixture.root().join("big.bin"))?);
        let period = period();
        let mut left = BIG as usize;
        while left > 0 {
            let length = left.min(period.len());
            big.write_all(&period[..length])?;
            left -= length;
        }
        big.flush()?;
        Ok(fixture)
    }

    /// The folder to serve.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("site")
    }

    /// The folder around it.
    pub fn outside(&self) -> &Path {
        self.folder.path()
    }
}

/// After so many bytes, `big.bin` repeats. A prime, so that a piece which is sent twice or left out
/// shows.
const BIG_PERIOD: u64 = 1_048_573;

/// The bytes of `big.bin` until they repeat.
fn period() -> &'static [u8] {
    static PERIOD: OnceLock<Vec<u8>> = OnceLock::new();
    PERIOD.get_or_init(|| {
        (0..BIG_PERIOD).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    })
}

/// Where the first byte stands that is not the one of `big.bin`, if these come from that position on.
pub fn wrong_in_big(mut position: u64, mut bytes: &[u8]) -> Option<u64> {
    while !bytes.is_empty() {
        let expected = &period()[(position % BIG_PERIOD) as usize..];
        let length = bytes.len().min(expected.len());
        if let Some(at) = first_difference(&bytes[..length], &expected[..length]) {
            return Some(position + at as u64);
        }
        position += length as u64;
        bytes = &bytes[length..];
    }
    None
}
