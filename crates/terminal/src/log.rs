//! A line per connection and request, which says who served whom.

use std::fmt::Display;
use std::net::SocketAddr;
use std::process;
use std::thread;

use crate::options::Options;
use crate::output::STDERR;

/// Writes lines to stderr that begin with who served and which client; nothing with `--quiet`.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// What the reader asked for.
    pub options: &'static Options,
    number: u64,
    client: SocketAddr,
}

impl Log {
    /// A log for one client. Who serves it is what the models differ in: this process, or the thread,
    /// coroutine or connection with this `number` if the step numbers them. A step with workers gives the
    /// name of the thread as well.
    pub fn new(options: &'static Options, number: u64, client: SocketAddr) -> Log {
        Log { options, number, client }
    }

    /// Writes one line. A full disk or a closed pipe behind stderr loses the line and nothing else.
    pub fn line(&self, message: impl Display) {
        if self.options.quiet {
            return;
        }
        let Log { options, number, client } = self;
        let mut who = format!("process {}", process::id());
        if let (true, Some(worker)) = (options.step.takes("--workers"), thread::current().name()) {
            who += &format!(" {worker}");
        }
        if let Some(what) = options.step.numbers {
            who += &format!(" {what} {number}");
        }
        STDERR.write(&format!("[{who}] {client} {message}\n"));
    }
}
