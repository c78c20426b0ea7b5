//! What /proc says about a server: its processes, whether they have work to do, and how all of them
//! are ended.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirEntry};
use std::io;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl::{get_child_subreaper, set_child_subreaper};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::waiting::wait_until;

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
    /// Read by hand, as is what follows: a look at a busy machine's processes is made thousands of times in a
    /// run, and procfs opens twice as many files for it.
    fn read(pid: u32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is a name in parentheses and may hold spaces.
        let mut fields = stat.rsplit(')').next()?.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let mut number_after = |between: usize| fields.nth(between)?.parse::<u64>().ok();
        Some(Process {
            pid,
            state,
            parent: number_after(0)? as u32,
            group: number_after(0)? as u32,
            ticks: number_after(8)? + number_after(0)?,
        })
    }

    /// The same process now.
    pub fn again(&self) -> Option<Process> {
        Process::read(self.pid)
    }

    fn tasks(&self) -> impl Iterator<Item = DirEntry> {
        fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten()
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        self.tasks().count()
    }

    /// How often each of its threads has gone to sleep of itself, by the thread's id. A thread that was
    /// woken sleeps once more when it is done: proc(5), voluntary_ctxt_switches.
    pub fn sleeps(&self) -> HashMap<u32, u64> {
        let sleeps = |task: DirEntry| {
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            let (_, count) = status.split_once("\nvoluntary_ctxt_switches:")?;
            let thread = task.file_name().to_str()?.parse().ok()?;
            Some((thread, count.lines().next()?.trim().parse().ok()?))
        };
        self.tasks().filter_map(sleeps).collect()
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }

    /// Whether one of its threads runs, or would if a processor were free.
    pub fn has_work(&self) -> bool {
        self.tasks().any(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|fields| fields.starts_with(['R', 'D']))
        })
    }
}

fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Process::read(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// A process, all that it has started, and all of its process group, zombies included.
pub fn family(leader: u32) -> Vec<Process> {
    with_descendants(all(), |process| process.pid == leader || process.group == leader)
}

/// A process and all that it has started, by the kernel's lists of children: sooner found than a [`family`],
/// and without those whose parents have ended.
pub(crate) fn below(root: u32) -> Vec<Process> {
    let Some(process) = Process::read(root) else { return Vec::new() };
    let lists = process.tasks().map(|task| fs::read_to_string(task.path().join("children")));
    let lists: Vec<String> = lists.map_while(Result::ok).collect();
    let children = lists.iter().flat_map(|list| list.split_whitespace());
    let children = children.filter_map(|id| id.parse().ok()).flat_map(below);
    children.chain([process.clone()]).collect()
}

/// A process and all that it has started, at any depth, zombies included.
pub fn tree(root: u32) -> Vec<Process> {
    with_descendants(all(), |process| process.pid == root)
}

fn with_descendants(all: Vec<Process>, is_first: impl Fn(&Process) -> bool) -> Vec<Process> {
    let mut members: HashSet<u32> =
        all.iter().filter(|process| is_first(process)).map(|process| process.pid).collect();
    loop {
        let before = members.len();
        for process in &all {
            if members.contains(&process.parent) {
                members.insert(process.pid);
            }
        }
        if members.len() == before {
            break;
        }
    }
    all.into_iter().filter(|process| members.contains(&process.pid)).collect()
}

/// Every process that this one has started, and all that those have started, zombies included. Those that have
/// left their parents are among them if [`adopt_orphans`] was called.
pub fn descendants() -> Vec<Process> {
    let me = std::process::id();
    tree(me).into_iter().filter(|process| process.pid != me).collect()
}

/// Lets this process hold as many connections as the system allows, and returns how many that is.
pub fn raise_descriptor_limit() -> u64 {
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => 0,
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
    // The kernel gives its number to nobody while the group has somebody left. So if the leader has ended and
    // there is a process of that number, it is a stranger.
    if !matches!(leader.try_wait(), Ok(None)) && Process::read(leader.id()).is_some() {
        return;
    }
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
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        for process in descendants() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_with_its_child() {
        let me = std::process::id();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let family = family(me);
        let found = family.iter().find(|process| process.pid == child.id()).unwrap();
        assert_eq!(found.parent, me);
        let started: Vec<u32> = descendants().iter().map(|process| process.pid).collect();
        assert!(started.contains(&child.id()) && !started.contains(&me));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
