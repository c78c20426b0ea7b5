//! How many system calls a server makes. The kernel counts them where it lets us (perf_event_open(2), mostly for
//! root only); otherwise strace does, which slows the server down a lot.

use std::fs;
use std::io;
use std::time::Duration;

use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter};
use procfs::process::Process;
use tempfile::NamedTempFile;
use tokio::time::Instant;

use crate::Failure;
use crate::contender::{Contender, Lab};
use crate::load::{Load, Times};
use crate::server::Running;

/// The kernel's own counters.
pub(crate) struct Counters(Vec<Counter>);

impl Counters {
    /// One for each thread of these processes. Whatever these start later counts as theirs.
    pub(crate) fn of(processes: &[i32]) -> io::Result<Counters> {
        // With an id of its own on each machine.
        let id = fs::read_to_string("/sys/kernel/tracing/events/raw_syscalls/sys_enter/id")?;
        let id = id.trim().parse().map_err(io::Error::other)?;
        let tasks = processes.iter().filter_map(|&pid| Process::new(pid).ok()?.tasks().ok());
        let mut counters = Vec::new();
        for task in tasks.flatten().flatten() {
            let mut builder = Builder::new(Tracepoint::with_id(id));
            builder.include_kernel().observe_pid(task.tid).inherit(true).enabled(true);
            match builder.build() {
                // A thread that has ended meanwhile.
                Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
                counter => counters.push(counter?),
            }
        }
        Ok(Counters(counters))
    }

    /// How many calls there have been.
    pub(crate) fn sum(&mut self) -> io::Result<u64> {
        self.0.iter_mut().map(Counter::read).sum()
    }
}

/// Counts while a server is under load, with strace from its start to its end. It is started twice, the second
/// time for nothing, so that what a start costs can be taken off.
///
/// # Errors
/// There is no strace.
pub(crate) async fn with_strace(
    contender: &Contender,
    lab: &Lab,
    canned: u64,
    load: &Load,
    duration: Duration,
) -> Result<Option<f64>, Failure> {
    let mut counts = Vec::new();
    let mut answers = 0;
    for clients in [load.clients, 0] {
        let file = NamedTempFile::new()?;
        let name = file.path().to_string_lossy().into_owned();
        let words = ["strace", "-f", "-qq", "-c", "-U", "calls,name", "-o", &name, "--"];
        let server = Running::start(contender, lab, canned, &words.map(str::to_owned)).await?;
        let load = Load { address: server.address, clients, ..load.clone() };
        if clients > 0 {
            let start = Instant::now();
            let asking = load.begin(Times::until(start + duration), &lab.cores.load);
            answers = asking.finish().await?.answers;
        }
        server.end_all_but_the_first()?;
        counts.push(total(&fs::read_to_string(file.path())?)?);
    }
    let calls = counts[0].saturating_sub(counts[1]);
    Ok((answers > 0).then(|| calls as f64 / answers as f64))
}

/// The number in the line of strace's summary that ends in "total".
fn total(summary: &str) -> Result<u64, Failure> {
    let line = summary.lines().rev().find(|line| line.ends_with("total"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    Ok(number.ok_or_else(|| format!("strace gave no total: {summary}"))?)
}
