//! A server under test: a process of its own group that is gone when its handle is.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::processes::Process;
use crate::{Answer, Client, Failure, processes, wait_until};

/// How long a server may take to start, and a process to end. Generous: these are bounds for what
/// hangs, not measurements.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server may be compiled before it starts, or have a virtual machine to start first.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// A running server. Dropping it kills its process group and waits until all of it is gone.
#[derive(Debug)]
pub struct Server {
    process: Child,
    address: SocketAddr,
    first_line: String,
    /// Kept open, so that the server can write.
    stdout: Option<BufReader<ChildStdout>>,
    stderr: File,
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
        let mut server =
            Server { process, address: nowhere, first_line: String::new(), stdout, stderr };
        server.first_line = server.read_line()?;
        server.address = address_in(&server.first_line).ok_or_else(|| {
            format!("no URL in the first line {:?}; stderr: {}", server.first_line, server.log())
        })?;
        Ok(server)
    }

    /// Starts a server that was told to listen on `port`, and waits until it does. That shows in
    /// /proc/net/tcp: a connection to try it with would be its first client. What it prints, to
    /// standard output or standard error, is in [`Server::log`].
    ///
    /// # Errors
    /// The command cannot be started, or ends before the port accepts, or takes a minute.
    pub fn start_on_port(command: &mut Command, port: u16) -> Result<Server, Failure> {
        let output = tempfile::tempfile()?;
        command.stdout(output.try_clone()?).stderr(output.try_clone()?);
        let process = processes::spawn(command.process_group(0))
            .map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut server =
            Server { process, address, first_line: String::new(), stdout: None, stderr: output };
        let mut tells = io::stderr().is_terminal();
        let start = Instant::now();
        wait_until(&format!("port {port} accepts"), START_PATIENCE, || {
            if tells && start.elapsed() > Duration::from_secs(5) {
                tells = false;
                let waits = "waiting for up to a minute";
                let _ = writeln!(io::stderr(), "check: nobody listens on port {port} yet; {waits}");
            }
            let is_over = is_listened_on(port) || !server.is_alive();
            if !is_over {
                // The table is long on a busy machine, and a server may take a minute.
                thread::park_timeout(Duration::from_millis(5));
            }
            is_over
        })
        .map_err(|_| {
            let but = match processes::family(server.pid()).iter().flat_map(ports_of).next() {
                Some(other) => format!("It listens on {other}; does it read {{port}}? "),
                None => String::new(),
            };
            format!(
                "after a minute it does not listen on port {port}. {but}It printed {}",
                server.log_or_nothing()
            )
        })?;
        if !server.is_alive() {
            let status = server.process.wait()?;
            return Err(format!(
                "it ended ({status}) before it listened on port {port}. It printed {}",
                server.log_or_nothing()
            )
            .into());
        }
        Ok(server)
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

    /// What the server has written to its standard error so far.
    pub fn log(&self) -> String {
        // Read at positions: the descriptor shares its own position with the server, which writes.
        let length = self.stderr.metadata().map_or(0, |metadata| metadata.len());
        let mut text = vec![0; length as usize];
        match self.stderr.read_exact_at(&mut text, 0) {
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

    /// The ids of the server's children, zombies included.
    pub fn children(&self) -> Vec<u32> {
        children_of(self.pid())
    }

    /// How many descriptors the server has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// How many threads the server has.
    pub fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.pid())).map_or(0, Iterator::count)
    }

    /// Processor time that the server's first process has used, in clock ticks of 10 ms: fields 14
    /// and 15 of /proc/PID/stat, proc(5).
    pub fn processor_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // The second field is a name in parentheses and may hold spaces.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum()
    }

    /// The most memory the server's first process has had, in KiB: VmHWM, proc(5).
    pub fn peak_memory(&self) -> u64 {
        self.status_number("VmHWM:")
    }

    /// The memory the server's first process has, in KiB: VmRSS, proc(5).
    pub fn memory(&self) -> u64 {
        self.status_number("VmRSS:")
    }

    fn status_number(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    fn leader(&self) -> Pid {
        Pid::from_raw(self.process.id() as i32)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        processes::end_group(&mut self.process);
        processes::end_descendants();
    }
}

/// A port that nobody listens on, below the range that the kernel gives to clients: those never take it
/// from the server in the moment before it binds.
///
/// # Errors
/// No port is free.
pub fn free_port() -> Result<u16, Failure> {
    (0..1000)
        .map(|_| fastrand::u16(10_000..32_000))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .ok_or_else(|| "no port is free".into())
}

/// Whether somebody listens on a port of this machine.
fn is_listened_on(port: u16) -> bool {
    tcp_sockets(LISTENING).iter().any(|socket| socket.port == port)
}

/// The ports on which a process listens.
fn ports_of(process: &Process) -> Vec<u16> {
    let entries = fs::read_dir(format!("/proc/{}/fd", process.pid)).into_iter().flatten().flatten();
    let own: Vec<String> = entries
        .filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_str()?.to_owned()))
        .collect();
    let is_its = |socket: &TcpSocket| own.contains(&format!("socket:[{}]", socket.inode));
    tcp_sockets(LISTENING).into_iter().filter(is_its).map(|socket| socket.port).collect()
}

/// The addresses of the clients that are connected to a port of this machine, as /proc/net/tcp has them.
pub fn clients_of(port: u16) -> HashSet<String> {
    let here = |socket: &TcpSocket| socket.port == port;
    tcp_sockets(CONNECTED).into_iter().filter(here).map(|socket| socket.peer).collect()
}

/// States in /proc/net/tcp, proc(5).
const CONNECTED: &str = "01";
const LISTENING: &str = "0A";

/// A line of /proc/net/tcp.
struct TcpSocket {
    /// The port of its own end.
    port: u16,
    /// The address of the other end.
    peer: String,
    inode: String,
}

/// The TCP sockets of this machine that are in a state.
fn tcp_sockets(state: &str) -> Vec<TcpSocket> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let lines = tables.map(|table| fs::read_to_string(table).unwrap_or_default()).join("");
    let socket = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, peer) = (fields.next()?, fields.next()?);
        if fields.next()? != state {
            return None;
        }
        Some(TcpSocket {
            port: u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?,
            peer: peer.to_owned(),
            inode: fields.nth(5)?.to_owned(),
        })
    };
    lines.lines().filter_map(socket).collect()
}

/// The address in "... http://127.0.0.1:8080/ ...".
fn address_in(line: &str) -> Option<SocketAddr> {
    line.split_once("http://")?.1.split('/').next()?.parse().ok()
}

/// The ids of a process's children, zombies included: proc(5), task/TID/children.
pub fn children_of(pid: u32) -> Vec<u32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect()
}
