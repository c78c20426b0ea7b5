//! A site made for one run, with what a server can stumble over.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::temporary_folder;

/// What no server may ever send.
pub const SECRET: &[u8] = b"TOPSECRET\n";
/// The length of `big.bin`, in bytes: more than any socket holds.
pub const BIG: u64 = 64 * 1024 * 1024;

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
        let period: Vec<u8> = (0..BIG_PERIOD).map(big_byte).collect();
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

/// The byte of `big.bin` at a position.
pub fn big_byte(position: u64) -> u8 {
    let place = position % BIG_PERIOD;
    (place.wrapping_mul(2_654_435_761) >> 13) as u8
}
