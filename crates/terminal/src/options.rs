//! What the reader types: the command line.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::ops::RangeBounds;
use std::panic;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

use lexopt::prelude::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::output::{STDERR, STDOUT, print};
use crate::shutdown;

/// The folder that is served when the reader names none: `demo` of this workspace.
const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo");

/// What a step says of itself; it decides which options it takes.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The crate's name, which is also what the `Server` field says.
    pub name: &'static str,
    model: &'static str,
    serves_files: bool,
    /// What serves each client, and is numbered in the log.
    pub(crate) numbers: Option<&'static str>,
    /// The options that not every step has.
    extra: &'static [&'static str],
}

impl Step {
    /// A step that serves the files of a folder.
    pub const fn with_files(name: &'static str, model: &'static str) -> Step {
        Step { name, model, serves_files: true, numbers: None, extra: &[] }
    }

    /// A step that serves no folder: 01, 02 and 07.
    pub const fn without_files(name: &'static str, model: &'static str) -> Step {
        Step { serves_files: false, ..Step::with_files(name, model) }
    }

    /// Each client has one of these to itself, a "thread" for instance, and the log gives its number.
    pub const fn numbering(self, what: &'static str) -> Step {
        Step { numbers: Some(what), ..self }
    }

    /// The step also takes these, of `--pause`, `--verbose` and `--workers`. With workers the log gives the
    /// name of the thread that serves.
    pub const fn taking(self, extra: &'static [&'static str]) -> Step {
        Step { extra, ..self }
    }

    pub(crate) fn takes(&self, option: &str) -> bool {
        self.extra.contains(&option)
    }
}

/// What the reader asked for. One value for the life of the process, so that every thread,
/// coroutine and child can hold it without counting references.
#[derive(Debug)]
pub struct Options {
    /// What the step says of itself.
    pub step: Step,
    /// The address to listen on.
    pub address: SocketAddr,
    root: Option<PathBuf>,
    /// Whether the reader said `--quiet`: no line per connection and request.
    pub quiet: bool,
    /// How long a client may take: for a whole request head, for the next request on a persistent
    /// connection, and for a share of an answer to leave.
    pub timeout: Duration,
    /// How long to sleep after each round over the list of clients (steps 07 and 08); zero unless
    /// the reader said `--pause`.
    pub pause: Duration,
    /// Whether the reader said `--verbose` (step 08).
    pub verbose: bool,
    /// How many threads serve (steps 10 and 11): as many as there are cores for this process, unless the
    /// reader said `--workers`.
    pub workers: usize,
}

/// How much stack a server takes at the most, in bytes; step 06 takes it, when may starts.
const SMALLEST_STACK: u64 = 512 * 1024;

impl Options {
    /// Reads the command line. `--help` and `--version` print and end the process with status 0; a
    /// word that is not understood ends it with status 2 and one line on stderr.
    ///
    /// From here on SIGINT and SIGTERM no longer end the process: [`shutdown`] tells of them. So this
    /// comes first in `main`, before there is a second thread that could receive them.
    pub fn parse(step: Step) -> &'static Options {
        STDOUT.open();
        STDERR.open();
        panic::set_hook(Box::new(|panic| STDERR.write(&format!("{panic}\n"))));
        let mut options = Options::new(step);
        // More is not there later: who goes below the end of its stack is killed by the kernel.
        if getrlimit(Resource::RLIMIT_STACK).is_ok_and(|(stack, _)| stack < SMALLEST_STACK) {
            options.exit("the stack is too small for a server; allow more (ulimit -s 512)");
        }
        if let Err(error) = options.read(lexopt::Parser::from_env()) {
            options.exit(format_args!("{error}; --help lists what can be typed"));
        }
        if let Err(error) = shutdown::watch() {
            options.exit(format_args!("cannot watch for Ctrl-C (signalfd): {error}"));
        }
        raise_descriptor_limit();
        Box::leak(Box::new(options))
    }

    /// What holds when nothing is typed.
    pub fn new(step: Step) -> Options {
        Options {
            step,
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            root: None,
            quiet: false,
            timeout: Duration::from_secs(10),
            pause: Duration::ZERO,
            verbose: false,
            workers: thread::available_parallelism().map_or(1, NonZero::get),
        }
    }

    fn read(&mut self, mut arguments: lexopt::Parser) -> Result<(), lexopt::Error> {
        while let Some(argument) = arguments.next()? {
            match argument {
                Short('p') | Long("port") => {
                    let hint = "--port takes a number from 0 to 65535, such as 9000";
                    self.address.set_port(read_value(arguments.value()?, .., hint)?);
                }
                Short('b') | Long("bind") => {
                    let hint = "--bind takes an address, such as 127.0.0.1 or 0.0.0.0";
                    self.address.set_ip(read_value(arguments.value()?, .., hint)?);
                }
                Short('t') | Long("timeout") => {
                    let hint = "--timeout takes seconds above 0, at most 86400, such as 10 or 0.5";
                    let seconds = read_value(arguments.value()?, 0.001..=86_400.0, hint)?;
                    self.timeout = Duration::from_secs_f64(seconds);
                }
                Long("pause") if self.step.takes("--pause") => {
                    let hint = "--pause takes milliseconds, such as 10";
                    let milliseconds: u32 = read_value(arguments.value()?, .., hint)?;
                    self.pause = Duration::from_millis(milliseconds.into());
                }
                Short('w') | Long("workers") if self.step.takes("--workers") => {
                    let hint = "--workers takes a number from 1 to 1024, such as 4";
                    self.workers = read_value(arguments.value()?, 1..=1024, hint)?;
                }
                Short('v') | Long("verbose") if self.step.takes("--verbose") => self.verbose = true,
                Short('q') | Long("quiet") => self.quiet = true,
                Short('h') | Long("help") => {
                    print(&self.help());
                    process::exit(0);
                }
                Short('V') | Long("version") => {
                    print(&format!("{} {}\n", self.step.name, env!("CARGO_PKG_VERSION")));
                    process::exit(0);
                }
                Value(folder) if self.step.serves_files && self.root.is_none() => {
                    self.root = Some(folder.into());
                }
                Value(folder) => {
                    let count = if self.step.serves_files { "one" } else { "no" };
                    let folder = folder.display();
                    return Err(
                        format!("this step serves {count} folder; '{folder}' is too much").into()
                    );
                }
                unknown => return Err(unknown.unexpected()),
            }
        }
        Ok(())
    }

    fn help(&self) -> String {
        let Step { name, model, serves_files, .. } = self.step;
        let takes = |option| self.step.takes(option);
        let root = if serves_files { " [ROOT]" } else { "" };
        let usage = format!("{name}: {model}\n\nusage: cargo run -p {name} -- [options]{root}\n\n");
        let lines = [
            (serves_files, "ROOT                the folder to serve [demo of the workspace]"),
            (true, "-p, --port N        the port to listen on; 0 takes a free one [8080]"),
            (true, "-b, --bind ADDR     the address to listen on; 0.0.0.0 is all [127.0.0.1]"),
            (true, "-t, --timeout SECS  how long a client may keep the server waiting [10]"),
            (takes("--pause"), "    --pause MS      sleep after each round over the clients [0]"),
            (takes("--verbose"), "-v, --verbose       once a second, how often it asked in vain"),
            (takes("--workers"), "-w, --workers N     how many threads serve [one for each core]"),
            (true, "-q, --quiet         no line per connection and request"),
            (true, "-h, --help          this text"),
            (true, "-V, --version       name and version"),
        ];
        let lines = lines.into_iter().filter(|(applies, _)| *applies);
        usage + &lines.map(|(_, line)| format!("  {line}\n")).collect::<String>()
    }

    /// The folder to serve.
    pub fn root(&self) -> &Path {
        self.root.as_deref().unwrap_or(Path::new(DEMO))
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

    /// Writes a line about the server itself to stderr, also when `--quiet` was given.
    pub fn warn(&self, message: impl Display) {
        STDERR.write(&format!("{}: {message}\n", self.step.name));
    }

    /// How often a read or write that does not move gives up, so that its step can look at the
    /// connection's deadline and at Ctrl-C: a tenth of the timeout, at least a millisecond and at
    /// most a second.
    pub fn tick(&self) -> Duration {
        (self.timeout / 10).clamp(Duration::from_millis(1), Duration::from_secs(1))
    }

    /// Ends the process with status 2, and one line that says what is wrong and what to type next. For
    /// what is found before the first line is printed.
    pub fn exit(&self, message: impl Display) -> ! {
        self.warn(message);
        process::exit(2);
    }

    /// Ends the process with status 2 because the port cannot be had, and says what to type next.
    pub fn exit_cannot_listen(&self, error: &io::Error) -> ! {
        let address = self.address;
        let (ip, port) = (address.ip(), address.port());
        self.exit(match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "port {port} is in use on {ip}; choose another with -p, or take a free one with -p 0"
            ),
            io::ErrorKind::PermissionDenied => format!(
                "port {port} needs more rights than you have; choose one above 1023 with -p"
            ),
            io::ErrorKind::AddrNotAvailable => format!(
                "this machine has no address {ip}; leave -b out, or type -b 0.0.0.0 for every one"
            ),
            _ => format!("cannot listen on {address}: {error}; choose another port with -p"),
        })
    }

    /// Ends the process with status 2 because the folder cannot be served.
    pub fn exit_cannot_serve(&self, error: &io::Error) -> ! {
        let root = self.root().display();
        self.exit(format_args!(
            "cannot serve {root}: {error}; type the folder to serve as the last word"
        ))
    }
}

/// Reads an option's value; the hint says what the option takes.
fn read_value<T: std::str::FromStr + PartialOrd>(
    value: std::ffi::OsString,
    range: impl RangeBounds<T>,
    hint: &str,
) -> Result<T, lexopt::Error> {
    let text = value.to_string_lossy();
    let value = text.parse().ok().filter(|value| range.contains(value));
    value.ok_or_else(|| format!("{hint}; not '{text}'").into())
}

/// A shell gives a process 1,024 descriptors and lets it ask for more; a server asks, because every
/// client costs one. If the kernel says no, the server runs with what it has.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
