//! A process of the class, such as a checker or a compiler, and the end of all that it leaves behind.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::processes::{self, Process};
use crate::sandbox::PROCESSES;
use crate::{Failure, wait_until};

/// How much memory a submission may use with all its processes, in bytes.
const MEMORY: u64 = 2 << 30;
/// How much is read of what a process of the class has printed, and of its complaints, in bytes.
const PRINTED: u64 = 16 << 20;
const COMPLAINTS: u64 = 64 << 10;
/// How often a submission is looked at.
const PAUSE: Duration = Duration::from_millis(100);
/// How long what was told to end may take to.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a process of the class ended, and what it has said.
pub(super) struct Ended {
    /// `Err` says which limit was passed.
    pub(super) status: Result<ExitStatus, String>,
    pub(super) output: String,
    pub(super) errors: String,
}

/// The processes that the class has started and that still run. Every other child of this process was left
/// behind by somebody whose checker has ended, and came here because this process adopts orphans.
#[derive(Default)]
pub(super) struct Running {
    known: Mutex<HashSet<u32>>,
}

impl Running {
    fn known(&self) -> MutexGuard<'_, HashSet<u32>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a command until it ends, or has taken too long, or has too many processes or too much memory.
    /// Afterwards nothing is left of it.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn run(&self, command: &mut Command, limit: Duration) -> Result<Ended, Failure> {
        let output = tempfile::tempfile()?;
        let errors = tempfile::tempfile()?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(errors.try_clone()?);
        let mut child = {
            let mut known = self.known();
            let child = processes::spawn(command.process_group(0))?;
            known.insert(child.id());
            child
        };
        let status = wait_for(&mut child, limit);
        if status.is_err() {
            end(&mut child);
        }
        self.known().remove(&child.id());
        self.end_orphans();
        let (output, errors) = (text_of(&output, PRINTED)?, text_of(&errors, COMPLAINTS)?);
        Ok(Ended { status, output, errors })
    }

    /// Ends every child that nobody knows, and what it has started, which then comes here too.
    fn end_orphans(&self) {
        let me = std::process::id();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            // Nobody starts anything meanwhile that could be taken for an orphan.
            let known = self.known();
            let all = processes::descendants();
            let is_orphan =
                |process: &&Process| process.parent == me && !known.contains(&process.pid);
            let orphans: Vec<u32> = all.iter().filter(is_orphan).map(|one| one.pid).collect();
            if orphans.is_empty() {
                return;
            }
            for process in orphans.iter().flat_map(|orphan| processes::tree(*orphan)) {
                let _ = kill(Pid::from_raw(process.pid as i32), Signal::SIGKILL);
            }
            for orphan in orphans {
                let _ = waitpid(Pid::from_raw(orphan as i32), Some(WaitPidFlag::WNOHANG));
            }
            drop(known);
            thread::park_timeout(Duration::from_millis(2));
        }
    }
}

fn wait_for(child: &mut Child, limit: Duration) -> Result<ExitStatus, String> {
    let start = Instant::now();
    let mut looked = start;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Ok(status);
        }
        if start.elapsed() >= limit {
            return Err(format!("took more than {} seconds", limit.as_secs()));
        }
        if looked.elapsed() >= PAUSE {
            looked = Instant::now();
            is_within_limits(child.id())?;
        }
        thread::park_timeout(Duration::from_millis(5));
    }
}

fn is_within_limits(leader: u32) -> Result<(), String> {
    let family = processes::family(leader);
    let threads = family.iter().map(|process| process.threads() as u64).sum::<u64>();
    if threads > PROCESSES {
        return Err(format!("had more than {PROCESSES} processes and threads"));
    }
    // Where processes share memory, as after a fork, the first number counts it for each.
    let sum = |of: fn(u32) -> u64| family.iter().map(|process| of(process.pid)).sum::<u64>();
    if sum(resident) > MEMORY && sum(share) > MEMORY {
        return Err(format!("used more than {} GiB of memory", MEMORY >> 30));
    }
    Ok(())
}

/// The memory in which a process is, in bytes: proc(5), statm.
fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: Option<u64> = text.split_whitespace().nth(1).and_then(|field| field.parse().ok());
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096) as u64;
    pages.unwrap_or(0) * page
}

/// The same, with its share of what it shares: proc(5), smaps_rollup, Pss. Slower.
fn share(pid: u32) -> u64 {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
        return resident(pid);
    };
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}

/// Ends a process of the class that has gone too far. Asked to end, it ends what it has started first.
fn end(child: &mut Child) {
    let pid = Pid::from_raw(child.id() as i32);
    let _ = kill(pid, Signal::SIGTERM);
    let ended = || child.try_wait().is_ok_and(|status| status.is_some());
    if wait_until("it ends", PATIENCE, ended).is_err() {
        let _ = killpg(pid, Signal::SIGKILL);
        let _ = child.wait();
    }
}

/// What a file holds, up to a limit: a submission may have made it longer than any memory.
fn text_of(file: &File, most: u64) -> io::Result<String> {
    let mut bytes = vec![0; file.metadata()?.len().min(most) as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
