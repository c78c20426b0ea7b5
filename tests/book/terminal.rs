//! A terminal with a program in it, as a reader has one open.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use check::{Failure, processes, wait_until};
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, killpg};
use nix::sys::termios::{LocalFlags, OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::Pid;
use regex_lite::Regex;

/// A bound for what hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A reader's shell has no descriptors but the three. Whatever starts the tests may have left more open.
const CLOSE_THE_REST: &str = "for descriptor in /proc/$$/fd/*; do descriptor=${descriptor##*/}; \
    ((descriptor > 2)) && eval \"exec $descriptor>&-\"; done; ";

/// A pseudo-terminal, pty(7), so that programs print what they print for a reader, and both of their
/// outputs come in one order. Dropping it ends the whole process group that runs in it.
pub(crate) struct Terminal {
    shell: Child,
    screen: Arc<Screen>,
}

#[derive(Default)]
struct Screen {
    printed: Mutex<Printed>,
    changed: Condvar,
}

#[derive(Default)]
struct Printed {
    bytes: Vec<u8>,
    /// Whether everybody who could print has ended.
    is_over: bool,
}

impl Screen {
    fn printed(&self) -> MutexGuard<'_, Printed> {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is printed until nobody has the terminal open any more.
    fn watch(&self, mut terminal: File) {
        let mut buffer = [0; 4096];
        // At the end Linux says EIO here, and other systems say nothing more comes.
        while let Ok(length @ 1..) = terminal.read(&mut buffer) {
            self.printed().bytes.extend_from_slice(&buffer[..length]);
            self.changed.notify_all();
        }
        self.printed().is_over = true;
        self.changed.notify_all();
    }
}

impl Printed {
    /// The lines that are complete, without what cannot be seen: spaces and CR at their ends.
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.bytes);
        let whole = if self.is_over { text.len() } else { text.rfind('\n').map_or(0, |at| at + 1) };
        text[..whole].lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

impl Terminal {
    /// Starts a command line in bash.
    pub(crate) fn start(command: &str, folder: &Path) -> Result<Terminal, Failure> {
        let (master, slave) = open()?;
        let mut shell = Command::new("env");
        // What is started in the background of a script ignores Ctrl-C, and so would all that it starts.
        shell.args(["--default-signal=INT", "bash", "-c", &format!("{CLOSE_THE_REST}{command}")]);
        shell.current_dir(folder).process_group(0);
        shell.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        // What a reader may have set otherwise, and what a machine that runs tests may have.
        shell.envs([("LC_ALL", "C.UTF-8"), ("TERM", "dumb"), ("NO_COLOR", "1"), ("NO_PROXY", "*")]);
        shell
            .env("CURL_HOME", folder)
            .env("XDG_STATE_HOME", folder)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let screen = Arc::new(Screen::default());
        let shell = processes::spawn(&mut shell)?;
        let watched = Arc::clone(&screen);
        thread::spawn(move || watched.watch(master));
        Ok(Terminal { shell, screen })
    }

    /// The id of the shell, or of the command that it has become.
    pub(crate) fn leader(&self) -> u32 {
        self.shell.id()
    }

    /// Waits until what was printed so far answers a question. It gets the lines and whether more can
    /// come.
    pub(crate) fn look_until<T>(
        &self,
        mut look: impl FnMut(&[String], bool) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut printed = self.screen.printed();
        loop {
            let answer = look(&printed.lines(), printed.is_over);
            let left = deadline.saturating_duration_since(Instant::now());
            if answer.is_some() || printed.is_over || left.is_zero() {
                return answer;
            }
            let waited = self.screen.changed.wait_timeout(printed, left);
            printed = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the first URL and returns its port; `None` if everybody has ended without.
    pub(crate) fn port(&self) -> Result<Option<u16>, Failure> {
        let url = Regex::new(r"http://[^ /]*:(\d+)/")?;
        let port = |line: &String| url.captures(line).and_then(|found| found[1].parse().ok());
        Ok(self.look_until(|lines, _| lines.iter().find_map(port)))
    }

    /// Whether everybody who could print has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.screen.printed().is_over
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.screen.printed().lines()
    }

    /// As Ctrl-C.
    pub(crate) fn interrupt(&self) -> Result<(), Failure> {
        Ok(killpg(Pid::from_raw(self.shell.id() as i32), Signal::SIGINT)?)
    }

    /// Waits until the command has ended, ends what it has left behind, and returns all that was
    /// printed.
    pub(crate) fn finish(&mut self, patience: Duration) -> Result<Vec<String>, Failure> {
        wait_until("the command ends", patience, || !matches!(self.shell.try_wait(), Ok(None)))
            .map_err(|error| format!("{error}; it printed:\n{}", self.lines().join("\n")))?;
        processes::end_group(&mut self.shell);
        self.look_until(|_, is_over| is_over.then_some(())).ok_or("its output has no end")?;
        Ok(self.lines())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        processes::end_group(&mut self.shell);
    }
}

/// The two ends of a new terminal that shows what is printed as it is. Neither end is inherited by a
/// program that another thread starts meanwhile.
fn open() -> Result<(File, File), Failure> {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let slave = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_NOCTTY.bits())
        .open(ptsname_r(&master)?)?;
    let mut modes = tcgetattr(&slave)?;
    modes.output_flags.remove(OutputFlags::OPOST);
    modes.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&slave, SetArg::TCSANOW, &modes)?;
    let master = std::os::fd::OwnedFd::from(master);
    Ok((File::from(master), slave))
}
