//! A server under test: a process of its own group that is gone when its handle is.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use procfs::ProcResult;
use procfs::process::Process;

use crate::answer::Answer;
use crate::client::Client;
use crate::ports::{FreePort, hears_loopback, listening, listening_on};
use crate::{Failure, processes, wait_until};

/// How long a server may take to start, and a process to end. Generous: these are bounds for what
/// hangs, not measurements.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server may be compiled before it starts, or have a virtual machine to start first.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// As much of what a server prints is kept in mind, in bytes: its last.
const LOG: u64 = 4 << 20;

/// A server that listens on an address for others only may open the right one next.
const NEXT_ADDRESS: Duration = Duration::from_secs(1);

/// A running server. Dropping it kills its process group and waits until all of it is gone.
#[derive(Debug)]
pub struct Server {
    process: Child,
    address: SocketAddr,
    first_line: String,
    /// Kept open, so that the server can write.
    stdout: Option<BufReader<ChildStdout>>,
    stderr: File,
    /// Held as long as it may listen there.
    _port: Option<FreePort>,
}

impl Server {
    /// Starts a server that prints its URL in its first line, once its port accepts.
    ///
    /// # Errors
    /// The command cannot be started, or its first line has no URL.
    pub fn start(command: &mut Command) -> Result<Server, Failure> {
        let stderr = tempfile::tempfile()?;
        command.stdout(Stdio::piped()).stderr(stderr.try_clone()?);
        let mut process = processes::spawn(command.process_group(0))?;
        let stdout = process.stdout.take().map(BufReader::new);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Server {
            process,
            address: nowhere,
            first_line: String::new(),
            stdout,
            stderr,
            _port: None,
        };
        server.first_line = server.read_line()?;
        server.address = address_in(&server.first_line).ok_or_else(|| {
            format!("no URL in the first line {:?}; stderr: {}", server.first_line, server.log())
        })?;
        Ok(server)
    }

    /// Starts a server that was told to listen on a port, and waits until it does. That shows in
    /// /proc/net/tcp: a connection to try it with would be its first client. What it prints, to
    /// standard output or standard error, is in [`Server::log`].
    ///
    /// # Errors
    /// The command cannot be started, or ends before the port accepts, or goes into the background, or
    /// listens for others only, or takes a minute.
    pub fn start_on_port(command: &mut Command, free: FreePort) -> Result<Server, Failure> {
        let mut server = Server::start_anywhere_on_port(command, free)?;
        if server.is_alive() {
            return Ok(server);
        }
        Err("it went into the background; start it so that it stays in the foreground".into())
    }

    /// As [`Server::start_on_port`], for a server that may go into the background. What it is then made of
    /// is in [`processes::descendants`].
    ///
    /// # Errors
    /// As there, but for the background.
    pub fn start_anywhere_on_port(
        command: &mut Command,
        free: FreePort,
    ) -> Result<Server, Failure> {
        let port = free.number;
        let output = tempfile::tempfile()?;
        command.stdout(output.try_clone()?).stderr(output.try_clone()?);
        let process = processes::spawn(command.process_group(0))
            .map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut server = Server {
            process,
            address,
            first_line: String::new(),
            stdout: None,
            stderr: output,
            _port: Some(free),
        };
        let waited = server.waits_for_its_port();
        if !server.is_somewhere() {
            let status = server.process.wait()?;
            return Err(format!(
                "it ended ({status}) before it listened on port {port}. It printed {}",
                server.log_or_nothing()
            )
            .into());
        }
        let here = listening_on(port);
        if waited.is_ok() && here.iter().any(hears_loopback) {
            return Ok(server);
        }
        let family = processes::family(server.pid());
        let elsewhere = family.iter().flat_map(|process| listening(process.pid)).next();
        Err(match (here.first(), elsewhere) {
            (Some(here), _) => format!(
                "it listens on {here} only, and a client of 127.0.0.1:{port} finds nobody; bind 127.0.0.1 or 0.0.0.0"
            ),
            (None, elsewhere) => {
                let but = elsewhere.map_or(String::new(), |place| {
                    format!("It listens on {place}; does it read {{port}}? ")
                });
                let printed = server.log_or_nothing();
                format!("after a minute it does not listen on port {port}. {but}It printed {printed}")
            }
        }
        .into())
    }

    /// Waits until somebody listens on the server's port, or nobody can be expected to.
    fn waits_for_its_port(&mut self) -> Result<(), Failure> {
        let port = self.address.port();
        let mut tells = io::stderr().is_terminal();
        let start = Instant::now();
        let mut for_others_since = None;
        wait_until(&format!("port {port} accepts"), START_PATIENCE, || {
            if tells && start.elapsed() > Duration::from_secs(5) {
                tells = false;
                let waits = "waiting for up to a minute";
                let _ = writeln!(io::stderr(), "check: nobody listens on port {port} yet; {waits}");
            }
            let here = listening_on(port);
            let is_over = here.iter().any(hears_loopback) || !self.is_somewhere();
            if is_over {
                return true;
            }
            if !here.is_empty() {
                let since = for_others_since.get_or_insert_with(Instant::now);
                return since.elapsed() > NEXT_ADDRESS;
            }
            // To look costs the kernel some milliseconds, and a server may take a minute.
            let bounds = [5, 50].map(Duration::from_millis);
            thread::park_timeout((start.elapsed() / 4).clamp(bounds[0], bounds[1]));
            false
        })
    }

    /// The next line of the server's standard output.
    ///
    /// # Errors
    /// No line came in time.
    pub fn read_line(&mut self) -> Result<String, Failure> {
        let mut stdout = self.stdout.take().ok_or("standard output is in use")?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let result = stdout.read_line(&mut line).map(|_| (line, stdout));
            let _ = sender.send(result);
        });
        let (line, stdout) =
            receiver.recv_timeout(PATIENCE).map_err(|_| "no line was printed")??;
        self.stdout = Some(stdout);
        Ok(line.trim_end().to_owned())
    }

    /// The first line that the server printed.
    pub fn first_line(&self) -> &str {
        &self.first_line
    }

    /// Closes the reading end of the server's standard output, so that its writes there fail.
    pub fn close_stdout(&mut self) {
        self.stdout = None;
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Connects.
    ///
    /// # Errors
    /// The server does not accept.
    pub fn connect(&self) -> io::Result<Client> {
        Client::connect(self.address)
    }

    /// Asks for a target on a connection of its own.
    ///
    /// # Errors
    /// No answer comes.
    pub fn get(&self, target: &str) -> Result<Answer, Failure> {
        let mut client = self.connect()?;
        client.get(target)?;
        client.answer()
    }

    /// Whether a connection is refused, because nobody listens any more.
    pub fn refuses(&self) -> bool {
        let refused = io::ErrorKind::ConnectionRefused;
        TcpStream::connect(self.address).is_err_and(|error| error.kind() == refused)
    }

    /// What the server has written to its standard error so far; the last 4 MiB of it.
    pub fn log(&self) -> String {
        self.log_since(0)
    }

    /// How many bytes the server has written to its standard error.
    pub fn log_length(&self) -> u64 {
        self.stderr.metadata().map_or(0, |metadata| metadata.len())
    }

    /// What the server has written behind so many bytes; the last 4 MiB of it.
    pub fn log_since(&self, start: u64) -> String {
        // Read at positions: the descriptor shares its own position with the server, which writes.
        let length = self.log_length();
        let start = start.max(length.saturating_sub(LOG));
        let mut text = vec![0; length.saturating_sub(start) as usize];
        match self.stderr.read_exact_at(&mut text, start) {
            Ok(()) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => format!("(cannot read the log: {error})"),
        }
    }

    fn log_or_nothing(&self) -> String {
        match self.log().trim_end() {
            "" => "nothing".to_owned(),
            log => format!("this:\n{log}"),
        }
    }

    /// Sends a signal to the server's first process only.
    ///
    /// # Errors
    /// The process is gone.
    pub fn signal(&self, signal: Signal) -> Result<(), Failure> {
        Ok(kill(self.leader(), signal)?)
    }

    /// Sends a signal to the server's whole process group, as a terminal does at Ctrl-C.
    ///
    /// # Errors
    /// Nobody of the group is left.
    pub fn signal_group(&self, signal: Signal) -> Result<(), Failure> {
        Ok(killpg(self.leader(), signal)?)
    }

    /// Waits for the end of the server's first process, and says how it ended and how long it took.
    ///
    /// # Errors
    /// It did not end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<(ExitStatus, Duration), Failure> {
        let start = Instant::now();
        let mut status = None;
        wait_until("the server ends", limit, || {
            status = self.process.try_wait().ok().flatten();
            status.is_some()
        })?;
        Ok((status.ok_or("no exit status")?, start.elapsed()))
    }

    /// Whether the process is still there.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Whether it is there, or what it has started.
    fn is_somewhere(&mut self) -> bool {
        self.is_alive() || processes::descendants().iter().any(|process| process.state != 'Z')
    }

    /// The ids of the server's children, zombies included.
    pub fn children(&self) -> Vec<u32> {
        self.look(|process| process.task_main_thread()?.children()).unwrap_or_default()
    }

    /// How many descriptors the server has open.
    pub fn descriptors(&self) -> usize {
        self.look(Process::fd_count).unwrap_or(0)
    }

    /// How many sockets listen on the server's port.
    pub fn listeners(&self) -> usize {
        listening_on(self.address.port()).len()
    }

    /// How many threads the server has.
    pub fn threads(&self) -> usize {
        self.look(Process::tasks).map_or(0, Iterator::count)
    }

    /// Processor time that the server's first process has used, in clock ticks of 10 ms.
    pub fn processor_ticks(&self) -> u64 {
        self.look(Process::stat).map_or(0, |stat| stat.utime + stat.stime)
    }

    /// The most memory the server's first process has had, in KiB: VmHWM, proc(5).
    pub fn peak_memory(&self) -> u64 {
        self.look(Process::status).ok().and_then(|status| status.vmhwm).unwrap_or(0)
    }

    /// The memory the server's first process has, in KiB: VmRSS, proc(5).
    pub fn memory(&self) -> u64 {
        self.look(Process::status).ok().and_then(|status| status.vmrss).unwrap_or(0)
    }

    /// What /proc says of the server's first process.
    fn look<T>(&self, at: impl FnOnce(&Process) -> ProcResult<T>) -> ProcResult<T> {
        at(&Process::new(self.process.id() as i32)?)
    }

    fn leader(&self) -> Pid {
        Pid::from_raw(self.process.id() as i32)
    }
}

/// In a process that adopts orphans it ends all that this process has started: such a one has one server at a time.
impl Drop for Server {
    fn drop(&mut self) {
        processes::end_group(&mut self.process);
        processes::end_descendants();
    }
}

/// The address in "... http://127.0.0.1:8080/ ...".
fn address_in(line: &str) -> Option<SocketAddr> {
    line.split_once("http://")?.1.split('/').next()?.parse().ok()
}
