//! A server that runs: how it is started, what it uses, and how it ends.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use check::ports::FreePort;
use check::processes::descendants;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::process::Process;
use procfs::ticks_per_second;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::Failure;
use crate::contender::{Contender, Lab};
use crate::machine;

/// A server that runs. It ends, with all that it has started, when this value is dropped. The lab has one at
/// a time, so whatever this process has started is part of it, also what went into the background.
#[derive(Debug)]
pub(crate) struct Running {
    server: check::Server,
    pub(crate) address: SocketAddr,
    /// Where it may put its own files, which nobody else clears away.
    _folder: TempDir,
}

/// What a server uses and holds, all of its processes together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time, with that of children that have ended and been waited for.
    pub(crate) processor: Duration,
    pub(crate) processes: usize,
    pub(crate) threads: usize,
    /// The share of memory that is its own (PSS), in KiB.
    pub(crate) memory_kib: u64,
}

impl Running {
    /// Starts a server on its cores, and waits until its port accepts. `prefix` are words before the command,
    /// those of a program that starts it and looks on.
    pub(crate) async fn start(
        contender: &Contender,
        lab: &Lab,
        canned: u64,
        prefix: &[String],
    ) -> Result<Running, Failure> {
        let folder = TempDir::new()?;
        let free = FreePort::find()?;
        let words = contender.command(lab, free.number, canned)?;
        let mut words = prefix.iter().cloned().chain(words);
        let mut command = Command::new(words.next().ok_or("there is no command")?);
        command.args(words).env("TMPDIR", folder.path()).stdin(Stdio::null());
        let cores = lab.cores.clone();
        let started = spawn_blocking(move || {
            // A child stays on the cores that its parent was on when it was started.
            machine::move_to(&cores.server)?;
            let server = check::Server::start_anywhere_on_port(&mut command, free);
            machine::move_to(&cores.load)?;
            server
        });
        let server = started.await?.map_err(|error| format!("{}: {error}", contender.name))?;
        Ok(Running { address: server.address(), server, _folder: folder })
    }

    /// Ends what a program has started that looks on, and lets that one end by itself.
    pub(crate) fn end_all_but_the_first(mut self) -> Result<(), Failure> {
        let first = self.server.pid();
        for process in descendants().into_iter().filter(|process| process.pid != first) {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(process.pid as i32), Signal::SIGKILL);
        }
        self.server.wait(Duration::from_secs(30))?;
        Ok(())
    }

    /// Processor time, in steps of a clock tick (10 ms).
    pub(crate) fn processor_time(&self) -> Duration {
        usage(false).processor
    }

    /// Everything, memory too, which takes a while for a thousand processes.
    pub(crate) fn full_usage(&self) -> Usage {
        usage(true)
    }

    /// The ids of its processes.
    pub(crate) fn processes(&self) -> Vec<i32> {
        descendants().iter().map(|process| process.pid as i32).collect()
    }
}

fn usage(with_memory: bool) -> Usage {
    let mut usage = Usage::default();
    for process in descendants() {
        // Who ends while we look is left out; its time is its parent's by then.
        let Ok(process) = Process::new(process.pid as i32) else { continue };
        let Ok(stat) = process.stat() else { continue };
        let ticks = stat.utime + stat.stime + (stat.cutime + stat.cstime).max(0) as u64;
        usage.processor += time(ticks);
        usage.processes += 1;
        usage.threads += stat.num_threads.max(0) as usize;
        if with_memory {
            usage.memory_kib += proportional_share(&process).unwrap_or(0);
        }
    }
    usage
}

/// Clock ticks as time.
pub(crate) fn time(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / ticks_per_second() as f64)
}

/// The memory of a process, where each page that it shares counts for its share of it: PSS in KiB, proc(5),
/// smaps_rollup.
pub(crate) fn proportional_share(process: &Process) -> Option<u64> {
    let rollup = process.smaps_rollup().ok()?;
    let bytes = rollup.memory_map_rollup.0.first()?.extension.map.get("Pss").copied()?;
    Some(bytes / 1024)
}
