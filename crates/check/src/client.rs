//! A client that sends exactly the bytes it is given and takes answers apart.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use crate::Failure;

/// How long an answer may take. A bound for what hangs, not a measurement.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// Bytes that were read and belong to the next answer.
    buffer: Vec<u8>,
}

/// An answer, taken apart.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The digit behind `HTTP/1.`.
    pub minor_version: u8,
    /// The status code.
    pub status: u16,
    /// The field lines, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of the first field with this name (in lower case).
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// Takes the head of an answer apart. Returns it and its length with the empty line, or `None` while
/// there is no empty line yet.
///
/// # Errors
/// It is not the head of an HTTP/1.1 or HTTP/1.0 answer; says which line is wrong.
pub fn parse_head(bytes: &[u8]) -> Result<Option<(Answer, usize)>, Failure> {
    let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..at])?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let (minor_version, status) = parse_status_line(status_line)
        .ok_or_else(|| format!("not a status line: {status_line:?}"))?;
    let fields = lines
        .map(|line| {
            let (name, value) =
                line.split_once(':').ok_or_else(|| format!("no field: {line:?}"))?;
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect::<Result<_, Failure>>()?;
    Ok(Some((Answer { minor_version, status, fields, body: Vec::new() }, at + 4)))
}

/// The digit behind `HTTP/1.` and the status.
fn parse_status_line(line: &str) -> Option<(u8, u16)> {
    let (version, rest) = line.strip_prefix("HTTP/1.")?.split_once(' ')?;
    Some((version.parse().ok().filter(|minor| *minor <= 1)?, rest.get(..3)?.parse().ok()?))
}

impl Client {
    /// Connects; whole lines leave at once.
    ///
    /// # Errors
    /// The server does not accept.
    pub fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream, buffer: Vec::new() })
    }

    /// The socket.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The server has closed the connection.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends a GET for a target.
    ///
    /// # Errors
    /// The server has closed the connection.
    pub fn get(&mut self, target: &str) -> io::Result<()> {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// Says that nothing more is coming, and keeps reading.
    ///
    /// # Errors
    /// The server has closed the connection.
    pub fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Closes with a reset instead of an orderly end: SO_LINGER with zero seconds, socket(7).
    ///
    /// # Errors
    /// The socket does not take the option.
    pub fn reset(self) -> Result<(), Failure> {
        setsockopt(&self.stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
        Ok(())
    }

    /// Reads the next answer to a GET.
    ///
    /// # Errors
    /// What comes is not an answer, or it does not come in time.
    pub fn answer(&mut self) -> Result<Answer, Failure> {
        self.read_answer(false)
    }

    /// Reads the next answer to a HEAD, which has no body.
    ///
    /// # Errors
    /// What comes is not an answer, or it does not come in time.
    pub fn answer_to_head(&mut self) -> Result<Answer, Failure> {
        self.read_answer(true)
    }

    fn read_answer(&mut self, is_head: bool) -> Result<Answer, Failure> {
        let mut answer = self.read_head()?;
        if is_head || answer.status == 304 {
            return Ok(answer);
        }
        let length: usize = match answer.field("content-length") {
            Some(length) => length.parse()?,
            None => {
                answer.body = self.read_to_end()?;
                return Ok(answer);
            }
        };
        while self.buffer.len() < length {
            self.read_more("the body")?;
        }
        answer.body = self.buffer.drain(..length).collect();
        Ok(answer)
    }

    /// Reads the head of the next answer and leaves the body to be read.
    ///
    /// # Errors
    /// What comes is not the head of an answer, or it does not come in time.
    pub fn read_head(&mut self) -> Result<Answer, Failure> {
        loop {
            if let Some((answer, length)) = parse_head(&self.buffer)? {
                self.buffer.drain(..length);
                return Ok(answer);
            }
            self.read_more("the head of an answer")?;
        }
    }

    /// Reads some of what comes next; empty at the end of the connection.
    ///
    /// # Errors
    /// Nothing comes in time.
    pub fn read_some(&mut self) -> Result<Vec<u8>, Failure> {
        if !self.buffer.is_empty() {
            return Ok(std::mem::take(&mut self.buffer));
        }
        let mut piece = vec![0; 64 * 1024];
        let length = self.stream.read(&mut piece)?;
        piece.truncate(length);
        Ok(piece)
    }

    fn read_more(&mut self, what: &str) -> Result<(), Failure> {
        let mut chunk = [0; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => {
                Err(format!("the connection ended before {what}, after {:?}", self.shown()).into())
            }
            Ok(length) => {
                self.buffer.extend_from_slice(&chunk[..length]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(format!("{what} did not come, only {:?}", self.shown()).into())
            }
            Err(error) => Err(format!("{what} did not come: {error}").into()),
        }
    }

    /// What has come and is not an answer yet, cut to a readable length.
    fn shown(&self) -> String {
        self.buffer[..self.buffer.len().min(200)].escape_ascii().to_string()
    }

    /// Reads all that still comes. The end may be a reset: what came before it counts.
    ///
    /// # Errors
    /// The server does not close the connection in time.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>, Failure> {
        let mut rest = std::mem::take(&mut self.buffer);
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => Ok(rest),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(rest),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err("the connection stays open".into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
