//! The machine: its cores, who runs on which, and what to say of it in a report.

use std::fs;
use std::time::SystemTime;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

use crate::Failure;

/// Which cores the server has, and which the load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Cores {
    pub(crate) server: Vec<usize>,
    pub(crate) load: Vec<usize>,
}

impl Cores {
    /// What was asked for, or else one core each; a machine that has only one gives it to both.
    pub(crate) fn choose(
        server: Option<CoreList>,
        load: Option<CoreList>,
    ) -> Result<Cores, Failure> {
        let allowed = allowed()?;
        for core in [&server, &load].into_iter().flatten().flat_map(|list| &list.0) {
            if !allowed.contains(core) {
                let ours = CoreList(allowed).to_string();
                return Err(format!("there is no core {core} to use; there are {ours}").into());
            }
        }
        let load = load.map(|list| list.0);
        let first_not_in = |taken: &[usize]| {
            let free = allowed.iter().find(|core| !taken.contains(core));
            vec![*free.unwrap_or(&allowed[0])]
        };
        let server = match (server, &load) {
            (Some(list), _) => list.0,
            (None, Some(load)) => first_not_in(load),
            (None, None) => vec![allowed[0]],
        };
        Ok(Cores { load: load.unwrap_or_else(|| first_not_in(&server)), server })
    }

    /// All that there are, for both.
    pub(crate) fn all_for_both() -> Result<Cores, Failure> {
        let all = allowed()?;
        Ok(Cores { server: all.clone(), load: all })
    }

    /// "server on core 0, load on core 1".
    pub(crate) fn words(&self) -> String {
        let on = |cores: &[usize]| {
            let noun = if cores.len() == 1 { "core" } else { "cores" };
            format!("{noun} {}", CoreList(cores.to_vec()))
        };
        if self.server == self.load {
            return format!("server and load share {}", on(&self.server));
        }
        format!("server on {}, load on {}", on(&self.server), on(&self.load))
    }
}

/// The cores that this thread may use, at least one.
fn allowed() -> Result<Vec<usize>, Failure> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).collect())
}

/// A list of cores as taskset(1) reads it.
#[derive(Clone, Debug)]
pub(crate) struct CoreList(Vec<usize>);

impl CoreList {
    /// Reads "0,2-3".
    pub(crate) fn parse(word: &str) -> Result<CoreList, String> {
        let hint = || "type a list of cores, such as 0 or 0,1 or 0-3".to_owned();
        let mut cores = Vec::new();
        for part in word.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let ends = [first, last].map(|end| end.parse::<usize>().ok());
            let [Some(first), Some(last)] = ends else { return Err(hint()) };
            if first > last || last >= CpuSet::count() {
                return Err(hint());
            }
            cores.extend(first..=last);
        }
        Ok(CoreList(cores))
    }
}

impl std::fmt::Display for CoreList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))
    }
}

/// Moves the calling thread, and whatever it starts from now on, to these cores.
pub(crate) fn move_to(cores: &[usize]) -> nix::Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// What the figures depend on.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) pinned: Cores,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    pub(crate) date: String,
    /// What was typed.
    pub(crate) command: String,
}

impl Machine {
    pub(crate) fn describe(pinned: Cores) -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
                .unwrap_or_default()
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let typed = shlex::try_join(arguments.iter().map(String::as_str)).unwrap_or_default();
        Machine {
            processor: value(&read("/proc/cpuinfo"), "model name"),
            cores: read("/proc/cpuinfo").lines().filter(|l| l.starts_with("processor")).count(),
            pinned,
            memory_mib: kib / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            date: httpdate::fmt_http_date(SystemTime::now()),
            command: format!("cargo run --release -p lab -- {typed}"),
        }
    }

    /// One line for the head of a report.
    pub(crate) fn line(&self) -> String {
        format!(
            "{}, {} cores ({}), {} MiB, Linux {}, {}",
            self.processor,
            self.cores,
            self.pinned.words(),
            self.memory_mib,
            self.kernel,
            self.date
        )
    }
}
