//! A browser as a process that listens for a test.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use check::Failure;
use check::processes::end_group;
use tempfile::TempDir;
use tungstenite::WebSocket;

/// A browser's processes. Dropping it ends all of them.
pub(crate) struct Process {
    leader: Child,
    /// Kept open, so that the browser can write.
    stderr: BufReader<ChildStderr>,
    _profile: TempDir,
}

impl Process {
    /// Starts a browser, and waits until it prints the URL where it listens, behind these words.
    ///
    /// # Errors
    /// It cannot be started, or ends first.
    pub(crate) fn start(
        command: &mut Command,
        profile: TempDir,
        words: &str,
    ) -> Result<(Process, String), Failure> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut leader = command.process_group(0).spawn()?;
        let stderr = BufReader::new(leader.stderr.take().ok_or("no stderr")?);
        let mut process = Process { leader, stderr, _profile: profile };
        loop {
            let mut line = String::new();
            if process.stderr.read_line(&mut line)? == 0 {
                return Err("the browser ended before it listened".into());
            }
            if let Some(url) = line.trim().strip_prefix(words) {
                return Ok((process, url.to_owned()));
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end_group(&mut self.leader);
    }
}

/// A connection to a browser, which may take so long for an answer.
///
/// # Errors
/// Nobody listens there.
pub(crate) fn connect(url: &str, patience: Duration) -> Result<WebSocket<TcpStream>, Failure> {
    let address = url.trim_start_matches("ws://").split('/').next().unwrap_or_default();
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(patience))?;
    let (socket, _) = tungstenite::client(url, stream).map_err(|error| error.to_string())?;
    Ok(socket)
}
