//! The machine: its cores, who runs on which, and what to say of it in a report.

use std::fs;
use std::time::SystemTime;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

/// Which core the server has, and which the load. With one core there is nothing to choose.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) load: usize,
}

impl Cores {
    /// The first two cores that this process may use.
    pub(crate) fn choose() -> Option<Cores> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).ok()?;
        let mut cores = (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false));
        Some(Cores { server: cores.next()?, load: cores.next()? })
    }
}

/// Moves the calling thread, and whatever it starts from now on, to one core.
pub(crate) fn move_to(core: usize) -> nix::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &cores)
}

/// What the figures depend on.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) pinned: Option<Cores>,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    pub(crate) date: String,
    /// What was typed.
    pub(crate) command: String,
}

impl Machine {
    pub(crate) fn describe(pinned: Option<Cores>) -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
                .unwrap_or_default()
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        let arguments: Vec<String> = std::env::args().skip(1).map(quote).collect();
        Machine {
            processor: value(&read("/proc/cpuinfo"), "model name"),
            cores: read("/proc/cpuinfo").lines().filter(|l| l.starts_with("processor")).count(),
            pinned,
            memory_mib: kib / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            date: httpdate::fmt_http_date(SystemTime::now()),
            command: format!("cargo run --release -p lab -- {}", arguments.join(" ")),
        }
    }

    /// One line for the head of a report.
    pub(crate) fn line(&self) -> String {
        let pinned = match self.pinned {
            Some(Cores { server, load }) => format!("server on core {server}, load on core {load}"),
            None => "server and load share the only core".to_owned(),
        };
        format!(
            "{}, {} cores ({pinned}), {} MiB, Linux {}, {}",
            self.processor, self.cores, self.memory_mib, self.kernel, self.date
        )
    }
}

/// A word as a shell reads it.
fn quote(word: String) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:".contains(c);
    if word.chars().all(is_plain) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
