//! What /proc says about a server at a moment: proc(5).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use check::processes;
use procfs::net::TcpState;
use procfs::process::{Process, Task};

use super::find::{Server, sockets, tcp};
use crate::Failure;
use crate::calls::Counters;
use crate::server::{proportional_share, time};

/// A server, and what it had used at the last look.
pub(crate) struct Watched {
    server: Server,
    /// None where the kernel does not let us.
    counters: Option<Counters>,
    last: Instant,
    times: HashMap<i32, Duration>,
    calls: u64,
}

/// A server at a moment.
#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) processes: Vec<ProcessInside>,
    /// Those that have connected and have not been accepted are among them.
    pub(crate) connections: Vec<Connection>,
    /// Connections that the server has closed, and of which the kernel keeps the number for a minute.
    pub(crate) in_time_wait: usize,
    /// Since the last look.
    pub(crate) calls_per_second: Option<f64>,
}

#[derive(Debug)]
pub(crate) struct ProcessInside {
    pub(crate) pid: i32,
    pub(crate) descriptors: usize,
    /// PSS.
    pub(crate) memory_kib: u64,
    /// The first one is the one that the process began with.
    pub(crate) threads: Vec<Thread>,
}

#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) id: i32,
    pub(crate) name: String,
    /// As proc(5) has it.
    pub(crate) state: char,
    pub(crate) processor: Duration,
    /// Of one core, since the last look.
    pub(crate) percent: f64,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: SocketAddr,
    pub(crate) state: TcpState,
    /// Bytes that have come and that the server has not read.
    pub(crate) to_read: u32,
    /// Bytes that the server has written and that the client has not confirmed.
    pub(crate) to_send: u32,
    /// The processes that hold it; nobody before it is accepted.
    pub(crate) held_by: Vec<i32>,
}

impl Watched {
    pub(crate) fn new(server: Server) -> Result<Watched, Failure> {
        let tree = processes::tree(server.pid as u32);
        let ids: Vec<i32> = tree.iter().map(|process| process.pid as i32).collect();
        Ok(Watched {
            server,
            counters: Counters::of(&ids).ok(),
            last: Instant::now(),
            times: HashMap::new(),
            calls: 0,
        })
    }

    /// None when it has ended.
    pub(crate) fn look(&mut self) -> Option<Inside> {
        let elapsed = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        let root = Process::new(self.server.pid).ok()?;
        // One that has ended stays until its parent has asked how.
        root.stat().ok().filter(|stat| stat.state != 'Z')?;
        let mut holders: HashMap<u64, Vec<i32>> = HashMap::new();
        let mut inside = Vec::new();
        let mut times = HashMap::new();
        for process in processes::tree(self.server.pid as u32) {
            let Ok(process) = Process::new(process.pid as i32) else { continue };
            for inode in sockets(&process) {
                holders.entry(inode).or_default().push(process.pid);
            }
            let mut threads = Vec::new();
            for task in process.tasks().into_iter().flatten().flatten() {
                let Ok(stat) = task.stat() else { continue };
                let processor = run_time(&task).unwrap_or_else(|| time(stat.utime + stat.stime));
                let before = self.times.get(&task.tid).copied().unwrap_or_default();
                let percent = 100.0 * processor.saturating_sub(before).as_secs_f64() / elapsed;
                times.insert(task.tid, processor);
                let (id, name) = (task.tid, stat.comm);
                threads.push(Thread { id, name, state: stat.state, processor, percent });
            }
            inside.push(ProcessInside {
                pid: process.pid,
                descriptors: process.fd_count().unwrap_or(0),
                memory_kib: proportional_share(&process).unwrap_or(0),
                threads,
            });
        }
        self.times = times;
        let (connections, in_time_wait) = self.connections(&holders);
        let calls_per_second = self.counters.as_mut().and_then(|counters| counters.sum().ok());
        let calls_per_second = calls_per_second.map(|calls| {
            let new = calls.saturating_sub(self.calls);
            self.calls = calls;
            new as f64 / elapsed
        });
        Some(Inside { processes: inside, connections, in_time_wait, calls_per_second })
    }

    /// Those with bytes that wait stand first.
    fn connections(&self, holders: &HashMap<u64, Vec<i32>>) -> (Vec<Connection>, usize) {
        let is_its = |listens: bool, port: u16| !listens && self.server.ports.contains(&port);
        let mut sockets = tcp(&self.server.pid.to_string(), is_its);
        let all = sockets.len();
        sockets.retain(|socket| socket.state != TcpState::TimeWait);
        let in_time_wait = all - sockets.len();
        let mut connections: Vec<Connection> = sockets
            .into_iter()
            .map(|socket| Connection {
                client: socket.remote_address,
                state: socket.state,
                to_read: socket.rx_queue,
                to_send: socket.tx_queue,
                held_by: holders.get(&socket.inode).cloned().unwrap_or_default(),
            })
            .collect();
        connections.sort_by_key(|it| (it.to_read == 0 && it.to_send == 0, it.client.port()));
        (connections, in_time_wait)
    }
}

/// How long a thread has run, to the nanosecond: /proc/PID/task/TID/schedstat.
fn run_time(task: &Task) -> Option<Duration> {
    Some(Duration::from_nanos(task.schedstat().ok()?.sum_exec_runtime))
}
