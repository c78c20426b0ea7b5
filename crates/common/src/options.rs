//! What the reader types: the command line, Ctrl-C, and what is printed in return.

use std::fmt::{self, Display};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lexopt::prelude::*;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, gettid};

/// The folder that is served when the reader names none: `demo` of this workspace.
const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo");

/// What a step says of itself; it decides which options it takes.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    name: &'static str,
    model: &'static str,
    serves_files: bool,
    takes_pause: bool,
    takes_verbose: bool,
}

impl Step {
    /// A step that serves the files of a folder.
    pub const fn with_files(name: &'static str, model: &'static str) -> Step {
        Step { name, model, serves_files: true, takes_pause: false, takes_verbose: false }
    }

    /// A step that serves no folder: 01, 02 and 07.
    pub const fn without_files(name: &'static str, model: &'static str) -> Step {
        Step { serves_files: false, ..Step::with_files(name, model) }
    }

    /// The step also takes `--pause MS`.
    pub const fn taking_pause(self) -> Step {
        Step { takes_pause: true, ..self }
    }

    /// The step also takes `--verbose`.
    pub const fn taking_verbose(self) -> Step {
        Step { takes_verbose: true, ..self }
    }
}

/// What the reader asked for. One value for the life of the process, so that every thread,
/// coroutine and child can hold it without counting references.
#[derive(Debug)]
pub struct Options {
    step: Step,
    bind: IpAddr,
    port: u16,
    root: Option<PathBuf>,
    quiet: bool,
    /// How long a client may take: for a whole request head, for the next request on a persistent
    /// connection, and for a share of an answer to leave (see [`crate::connection`]).
    pub timeout: Duration,
    /// How long to sleep after each round over the list of clients (steps 07 and 08); zero unless
    /// the reader said `--pause`.
    pub pause: Duration,
    /// Whether the reader said `--verbose` (step 08).
    pub verbose: bool,
    /// Whether the reader has typed Ctrl-C.
    pub stop: Stop,
}

impl Options {
    /// Reads the command line. `--help` and `--version` print and end the process with status 0; a
    /// word that is not understood ends it with status 2 and one line on stderr.
    ///
    /// From here on SIGINT and SIGTERM no longer end the process: [`Options::stop`] tells of them.
    /// So this comes first in `main`, before there is a second thread that could receive them.
    pub fn parse(step: Step) -> &'static Options {
        let mut options = Options::new(step).unwrap_or_else(|error| {
            exit_with(step, &format!("cannot watch for Ctrl-C: {error}"));
        });
        if let Err(error) = options.read(lexopt::Parser::from_env()) {
            exit_with(step, &format!("{error}; --help lists what can be typed"));
        }
        raise_descriptor_limit();
        Box::leak(Box::new(options))
    }

    /// What holds when nothing is typed.
    ///
    /// # Errors
    /// The kernel has no descriptor left to watch for signals with.
    pub fn new(step: Step) -> io::Result<Options> {
        Ok(Options {
            step,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8080,
            root: None,
            quiet: false,
            timeout: Duration::from_secs(10),
            pause: Duration::ZERO,
            verbose: false,
            stop: Stop::new()?,
        })
    }

    /// What holds when nothing but `--quiet` is typed.
    ///
    /// # Errors
    /// As [`Options::new`].
    pub fn quiet(step: Step) -> io::Result<Options> {
        Ok(Options { quiet: true, ..Options::new(step)? })
    }

    fn read(&mut self, mut arguments: lexopt::Parser) -> Result<(), lexopt::Error> {
        while let Some(argument) = arguments.next()? {
            match argument {
                Short('p') | Long("port") => {
                    self.port = read_value(
                        arguments.value()?,
                        "--port takes a number from 0 to 65535, such as 9000",
                    )?;
                }
                Short('b') | Long("bind") => {
                    self.bind = read_value(
                        arguments.value()?,
                        "--bind takes an address, such as 127.0.0.1 or 0.0.0.0",
                    )?;
                }
                Short('t') | Long("timeout") => {
                    let hint = "--timeout takes a number of seconds above 0, such as 10 or 0.5";
                    let seconds: f64 = read_value(arguments.value()?, hint)?;
                    if !(0.001..=86_400.0).contains(&seconds) {
                        return Err(format!("{hint}, and at most 86400; not {seconds}").into());
                    }
                    self.timeout = Duration::from_secs_f64(seconds);
                }
                Long("pause") if self.step.takes_pause => {
                    let hint = "--pause takes milliseconds, such as 10";
                    self.pause =
                        Duration::from_millis(read_value::<u32>(arguments.value()?, hint)?.into());
                }
                Short('v') | Long("verbose") if self.step.takes_verbose => self.verbose = true,
                Short('q') | Long("quiet") => self.quiet = true,
                Short('h') | Long("help") => {
                    print(&self.help());
                    process::exit(0);
                }
                Short('V') | Long("version") => {
                    print(&format!("{} {}\n", self.step.name, env!("CARGO_PKG_VERSION")));
                    process::exit(0);
                }
                Value(folder) if !self.step.serves_files => {
                    let folder = folder.to_string_lossy().into_owned();
                    return Err(format!(
                        "this step serves no folder, so '{folder}' has no meaning here"
                    )
                    .into());
                }
                Value(folder) if self.root.is_none() => self.root = Some(folder.into()),
                Value(folder) => {
                    let folder = folder.to_string_lossy().into_owned();
                    return Err(format!(
                        "one folder can be served, and '{folder}' is a second one"
                    )
                    .into());
                }
                unknown => return Err(unknown.unexpected()),
            }
        }
        Ok(())
    }

    fn help(&self) -> String {
        let Step { name, model, serves_files, takes_pause, takes_verbose } = self.step;
        let optional = |wanted: bool, text: &'static str| if wanted { text } else { "" };
        format!(
            "{name}: {model}\n\n\
             usage: cargo run -p {name} -- [options]{root}\n\n\
             {root_help}\
             \x20 -p, --port N        the port to listen on; 0 takes a free one [8080]\n\
             \x20 -b, --bind ADDR     the address to listen on; 0.0.0.0 is every one [127.0.0.1]\n\
             \x20 -t, --timeout SECS  how long a client may keep the server waiting [10]\n\
             {pause_help}{verbose_help}\
             \x20 -q, --quiet         no line per connection and request\n\
             \x20 -h, --help          this text\n\
             \x20 -V, --version       name and version\n",
            root = optional(serves_files, " [ROOT]"),
            root_help = optional(
                serves_files,
                "  ROOT                the folder to serve [demo of the workspace]\n"
            ),
            pause_help = optional(
                takes_pause,
                "      --pause MS      sleep after each round over the list of clients [0]\n"
            ),
            verbose_help = optional(
                takes_verbose,
                "  -v, --verbose       once a second, how often the list was asked for nothing\n"
            ),
        )
    }

    /// The address to listen on.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.bind, self.port)
    }

    /// The folder to serve.
    pub fn root(&self) -> &Path {
        self.root.as_deref().unwrap_or(Path::new(DEMO))
    }

    /// The step's name, which is also what the `Server` field says.
    pub fn name(&self) -> &'static str {
        self.step.name
    }

    /// Prints the first line: the step, its model and where it listens. Call it once the port
    /// accepts; tests and scripts wait for this line.
    pub fn announce(&self, address: SocketAddr) {
        let Step { name, model, serves_files, .. } = self.step;
        let serving = match &self.root {
            _ if !serves_files => String::new(),
            None => " serving demo".to_owned(),
            Some(root) => format!(" serving {}", root.display()),
        };
        print(&format!("{name}: {model}, http://{address}/{serving} (Ctrl-C stops)\n"));
    }

    /// A log that says of each line who served and whom.
    pub fn log(&self, worker: Worker, client: SocketAddr) -> Log {
        Log { quiet: self.quiet, worker, client }
    }

    /// Writes a line about the server itself to stderr, also when `--quiet` was given.
    pub fn warn(&self, message: impl Display) {
        write_line(&format!("{}: {message}\n", self.step.name));
    }

    /// How often a read or write that does not move gives up, so that its step can look at the
    /// connection's deadline and at Ctrl-C: a tenth of the timeout, at least a millisecond and at
    /// most a second.
    pub fn tick(&self) -> Duration {
        (self.timeout / 10).clamp(Duration::from_millis(1), Duration::from_secs(1))
    }

    /// Whether `--quiet` was given.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Waits until a client stands at `listener` (true) or the reader has typed Ctrl-C (false).
    pub fn wait_for_client(&self, listener: &impl AsFd) -> bool {
        loop {
            let mut fds =
                [self.stop.as_fd(), listener.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            // A wait that failed (EINTR, ENOMEM) is begun again.
            if poll(&mut fds, PollTimeout::NONE).is_err() {
                continue;
            }
            if self.stop.requested() {
                return false;
            }
            if fds[1].any().unwrap_or(false) {
                return true;
            }
        }
    }

    /// Ends the process with status 2 because the port cannot be had, and says what to type next.
    pub fn exit_cannot_listen(&self, error: &io::Error) -> ! {
        let address = self.address();
        exit_with(
            self.step,
            &match error.kind() {
                io::ErrorKind::AddrInUse => format!(
                    "port {} is in use on {}; choose another with -p, or take a free one with -p 0",
                    address.port(),
                    address.ip()
                ),
                io::ErrorKind::PermissionDenied => format!(
                    "port {} needs more rights than you have; choose one above 1023 with -p",
                    address.port()
                ),
                io::ErrorKind::AddrNotAvailable => format!(
                    "this machine has no address {}; leave -b out, or type -b 0.0.0.0 for every one",
                    address.ip()
                ),
                _ => format!("cannot listen on {address}: {error}; choose another port with -p"),
            },
        )
    }

    /// Ends the process with status 2 because the folder cannot be served.
    pub fn exit_cannot_serve(&self, error: &io::Error) -> ! {
        let root = self.root().display();
        exit_with(
            self.step,
            &format!("cannot serve {root}: {error}; type the folder to serve as the last word"),
        )
    }
}

/// Reads an option's value; the hint says what the option takes.
fn read_value<T: std::str::FromStr>(
    value: std::ffi::OsString,
    hint: &str,
) -> Result<T, lexopt::Error> {
    let text = value.to_string_lossy();
    text.parse().map_err(|_| format!("{hint}; not '{text}'").into())
}

/// One line on stderr and exit status 2.
fn exit_with(step: Step, message: &str) -> ! {
    write_line(&format!("{}: {message}\n", step.name));
    process::exit(2);
}

/// Writes to stdout. A full disk or a closed pipe there must never stop a server, and `print!` would
/// panic; here the text is lost and nothing else.
pub fn print(text: &str) {
    let mut stdout = io::stdout();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// One write for the whole line, so that the lines of many processes do not mix; and an error is
/// dropped, where `eprintln!` would panic.
fn write_line(line: &str) {
    let _ = io::stderr().write_all(line.as_bytes());
}

/// A shell gives a process 1,024 descriptors and lets it ask for more; a server asks, because every
/// client costs one. If the kernel says no, the server runs with what it has.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Who does the work: this is what the models differ in, so every log line names it.
#[derive(Clone, Copy, Debug)]
pub enum Worker {
    /// This process, which has nobody else (steps 02 to 04).
    Process,
    /// A thread of this process, by the order in which they were started.
    Thread(u64),
    /// A coroutine of this process, by the order in which they were started.
    Coroutine(u64),
    /// The one thread of this process, busy with this connection (steps 07 to 09).
    Connection(u64),
}

impl Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", process::id())?;
        match self {
            Worker::Process => Ok(()),
            Worker::Thread(number) => write!(f, " thread {number}"),
            Worker::Coroutine(number) => write!(f, " coroutine {number}"),
            Worker::Connection(number) => write!(f, " connection {number}"),
        }
    }
}

/// Writes lines to stderr that begin with who served and which client; nothing with `--quiet`.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    quiet: bool,
    worker: Worker,
    client: SocketAddr,
}

impl Log {
    /// Writes one line. A full disk or a closed pipe behind stderr loses the line and nothing else.
    pub fn line(&self, message: impl Display) {
        if !self.quiet {
            write_line(&format!("[{}] {} {message}\n", self.worker, self.client));
        }
    }

    /// Whether lines are dropped, so that the caller need not prepare one.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }
}

/// SIGINT (Ctrl-C) and SIGTERM as a descriptor that becomes readable, signalfd(2): something a
/// server can wait for together with its clients, in place of a handler that runs at any moment.
#[derive(Debug)]
pub struct Stop {
    signals: SignalFd,
    requested: AtomicBool,
    /// The thread that acts on the signal.
    main: Pid,
}

impl Stop {
    fn new() -> nix::Result<Stop> {
        let signals = stop_signals();
        // A blocked signal stays pending, and the descriptor shows it.
        signals.thread_block()?;
        Ok(Stop {
            signals: SignalFd::with_flags(
                &signals,
                SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
            )?,
            requested: AtomicBool::new(false),
            main: gettid(),
        })
    }

    /// Whether the main thread has been told already; the descriptor is no longer readable then.
    pub(crate) fn is_noted(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }

    /// Whether SIGINT or SIGTERM has come. Once the main thread has been told so, the next of these
    /// signals ends the process at once.
    pub fn requested(&self) -> bool {
        if self.is_noted() {
            return true;
        }
        let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..)) {
            return false;
        }
        // Only the main thread takes the signal away: another thread would leave it waiting for
        // something that is gone, and a forked child has a signal of its own, which may stay.
        if gettid() == self.main {
            self.requested.store(true, Ordering::Relaxed);
            while let Err(Errno::EINTR) = self.signals.read_signal() {}
            let _ = stop_signals().thread_unblock();
            write_line("stopping: answers that have begun go out first; once more ends at once\n");
        }
        true
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

impl AsRawFd for Stop {
    fn as_raw_fd(&self) -> RawFd {
        self.signals.as_fd().as_raw_fd()
    }
}

fn stop_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM])
}
