//! What /proc says about a server: its processes, whether they have work to do, and how all of them
//! are ended.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl::{get_child_subreaper, set_child_subreaper};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::wait_until;

/// How long the kernel may take to end what was killed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process as /proc/PID/stat describes it, proc(5).
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// The id of its parent.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its state: `R` runs, `S` sleeps, `D` waits for a disk, `T` is stopped, `Z` has ended and was
    /// not asked how.
    pub state: char,
    /// Processor time it has used, in ticks of 10 ms.
    pub ticks: u64,
}

impl Process {
    fn read(pid: u32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is a name in parentheses and may hold spaces.
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Process {
            pid,
            state: fields.first()?.chars().next()?,
            parent: number(1)? as u32,
            group: number(2)? as u32,
            ticks: number(11)? + number(12)?,
        })
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.pid)).map_or(0, Iterator::count)
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }

    /// Whether one of its threads runs, or would if a processor were free.
    pub fn has_work(&self) -> bool {
        let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", self.pid)) else { return false };
        tasks.flatten().any(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            let state = stat.rsplit(')').next().unwrap_or_default().trim_start().chars().next();
            matches!(state, Some('R' | 'D'))
        })
    }
}

fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| Process::read(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

/// A process, all that it has started, and all of its process group, zombies included.
pub fn family(leader: u32) -> Vec<Process> {
    let all = all();
    let mut members: HashSet<u32> = HashSet::from([leader]);
    loop {
        let before = members.len();
        for process in &all {
            if process.group == leader || members.contains(&process.parent) {
                members.insert(process.pid);
            }
        }
        if members.len() == before {
            break;
        }
    }
    all.into_iter().filter(|process| members.contains(&process.pid)).collect()
}

/// Judges whether waiting for a server is in vain, by what the server does and not by the clock: a
/// machine that is busy with something else delays an answer and says nothing about the server.
#[derive(Debug)]
pub struct Waiting {
    leader: u32,
    start: Instant,
    last_look: Instant,
    ticks_at_start: Option<u64>,
    looks_asleep: u32,
}

impl Waiting {
    /// Looks that found the whole server asleep, a tenth of a second apart, before waiting is in vain.
    const LOOKS_ASLEEP: u32 = 30;
    /// Processor time in ticks of 10 ms that a server may use before an answer.
    const TICKS: u64 = 200;
    const AT_MOST: Duration = Duration::from_secs(40);

    /// Begins to wait for something from the server whose first process has this id.
    pub fn new(leader: u32) -> Waiting {
        let now = Instant::now();
        Waiting { leader, start: now, last_look: now, ticks_at_start: None, looks_asleep: 0 }
    }

    /// Whether nothing will come any more: the server has slept for three seconds in all, or has used
    /// two seconds of processor time, or is gone. Cheap when called often.
    pub fn is_in_vain(&mut self) -> bool {
        if self.last_look.elapsed() < Duration::from_millis(100) {
            return false;
        }
        self.last_look = Instant::now();
        let family = family(self.leader);
        if family.iter().all(|process| process.state == 'Z') {
            return true;
        }
        if !family.iter().any(Process::has_work) {
            self.looks_asleep += 1;
        }
        let ticks = family.iter().map(|process| process.ticks).sum::<u64>();
        let used = ticks.saturating_sub(*self.ticks_at_start.get_or_insert(ticks));
        self.looks_asleep >= Waiting::LOOKS_ASLEEP
            || used >= Waiting::TICKS
            || self.start.elapsed() >= Waiting::AT_MOST
    }
}

/// Whether this process is about to end. Held while a process is started, so that none is started
/// behind the back of [`end_all`].
static ENDING: Mutex<bool> = Mutex::new(false);

fn ending() -> MutexGuard<'static, bool> {
    ENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this process is about to end.
pub fn is_ending() -> bool {
    *ending()
}

/// Starts a process, unless this one is about to end.
///
/// # Errors
/// The program cannot be started.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let ending = ending();
    if *ending {
        return Err(io::ErrorKind::Interrupted.into());
    }
    command.spawn()
}

/// Kills a process group, and waits until nobody of it is left.
pub fn end_group(leader: &mut Child) {
    let group = Pid::from_raw(leader.id() as i32);
    let _ = killpg(group, Signal::SIGKILL);
    let _ = leader.wait();
    // Its children are init's now; they are gone when the group has nobody left to signal.
    let _ = wait_until("the group ends", PATIENCE, || {
        // Or this process's, if it has adopted them: then it is the one to ask how they ended.
        while let Ok(WaitStatus::Signaled(..) | WaitStatus::Exited(..)) =
            waitpid(Pid::from_raw(-group.as_raw()), Some(WaitPidFlag::WNOHANG))
        {}
        killpg(group, None).is_err()
    });
}

/// Does something while no process is started. A program that is being written cannot be run, and a
/// process that starts at that moment would hold a copy of the descriptor: ETXTBSY, execve(2).
pub fn while_none_starts<T>(work: impl FnOnce() -> T) -> T {
    let _ending = ending();
    work()
}

/// Makes this process the one that inherits whatever a server leaves behind, also what has left its
/// process group: PR_SET_CHILD_SUBREAPER, prctl(2). From then on [`end_descendants`] finds everything.
///
/// # Errors
/// The kernel is older than 3.4.
pub fn adopt_orphans() -> nix::Result<()> {
    set_child_subreaper(true)
}

/// Ends every process that this one has started, and all that those have started, if
/// [`adopt_orphans`] was called; otherwise their traces are lost, and nothing happens.
pub fn end_descendants() {
    if !get_child_subreaper().unwrap_or(false) {
        return;
    }
    let me = std::process::id();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let alive: Vec<Process> =
            family(me).into_iter().filter(|process| is_below(process, me)).collect();
        for process in &alive {
            let _ = kill(Pid::from_raw(process.pid as i32), Signal::SIGKILL);
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) | Err(Errno::EINTR) => {}
                // No child is left.
                Err(_) => return,
            }
        }
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// Ends every descendant, and lets no further one be started.
pub fn end_all() {
    *ending() = true;
    end_descendants();
}

/// The group of this process holds others too, such as the shell's pipeline it runs in.
fn is_below(process: &Process, ancestor: u32) -> bool {
    let mut parent = process.parent;
    // A loop cannot be, but a process may be gone in between, and its id may be given again.
    for _ in 0..100 {
        if parent == ancestor {
            return true;
        }
        match Process::read(parent) {
            Some(next) if parent > 1 => parent = next.parent,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_with_its_child() {
        let me = std::process::id();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let family = family(me);
        let found = family.iter().find(|process| process.pid == child.id()).unwrap();
        assert!(found.parent == me && is_below(found, me));
        assert!(!is_below(&Process::read(me).unwrap(), me));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
