//! Which server is meant. Only those of the user who asks are looked at: on a shared machine nobody wants to
//! see a neighbour's by mistake.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs;
use std::path::Path;

use check::{STEPS, processes};
use nix::unistd::geteuid;
use procfs::net::{TcpNetEntries, TcpNetEntry};
use procfs::process::{FDTarget, Process, all_processes};
use procfs::{FromReadSI as _, current_system_info};

use crate::Failure;

/// A process that listens. What it has started belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) pid: i32,
    name: String,
    pub(crate) ports: BTreeSet<u16>,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: Vec<String> = self.ports.iter().map(|port| format!(":{port}")).collect();
        write!(f, "{}, process {}, port {}", self.name, self.pid, ports.join(" "))
    }
}

/// The server that a word names: a step, a process or a port. Without a word, the one step that runs.
pub(crate) fn find(word: Option<&str>) -> Result<Server, Failure> {
    let on_port = |port: u16| {
        let mut servers = servers(|_| true);
        servers.retain(|server| server.ports.contains(&port));
        servers
    };
    let matching = match word {
        None => servers(is_ours),
        Some(word) if word.starts_with(':') => {
            on_port(word[1..].parse().map_err(|_| format!("'{word}' is no port; try :8080"))?)
        }
        Some(word) => match word.parse::<u32>() {
            Ok(number) => match of_process(number) {
                Some(server) => vec![server],
                None => on_port(number.try_into().unwrap_or(0)),
            },
            Err(_) => servers(|name| is_step(name, word)),
        },
    };
    match &matching[..] {
        [server] => Ok(server.clone()),
        [] => {
            let what = word.map_or("no step".to_owned(), |word| format!("no server '{word}'"));
            Err(format!(
                "{what} of yours runs; start one, or name another server by its step (step05), its \
                 process or its port (:8080)"
            )
            .into())
        }
        several => {
            let lines =
                several.iter().map(|server| format!("\n  lab watch {:<9} {server}", server.pid));
            let lines: String = lines.collect();
            Err(format!("several servers of yours run; type one of these:{lines}").into())
        }
    }
}

/// Whether a program is one of the course's.
fn is_ours(name: &str) -> bool {
    ["at_work", "lab"].contains(&name) || STEPS.iter().any(|step| step.name == name)
}

fn is_step(name: &str, word: &str) -> bool {
    name == word || STEPS.iter().any(|step| step.name == name && step.short() == word)
}

/// The servers of this user with such a name that listen where this program is.
fn servers(is_named: impl Fn(&str) -> bool) -> Vec<Server> {
    let ports = listening("self");
    let mut holders: HashMap<i32, Server> = HashMap::new();
    let processes = all_processes().into_iter().flatten().flatten();
    for process in processes.filter(|process| is_own(process) && is_named(&name(process))) {
        if let Some(server) = server(&process, &ports) {
            holders.insert(process.pid, server);
        }
    }
    // A worker has the socket from its parent, and belongs to it.
    let is_worker = |pid: i32| {
        let stat = Process::new(pid).and_then(|process| process.stat());
        stat.is_ok_and(|stat| holders.contains_key(&stat.ppid))
    };
    let mut roots: Vec<Server> =
        holders.values().filter(|server| !is_worker(server.pid)).cloned().collect();
    roots.sort_by_key(|server| server.pid);
    roots
}

/// A process by its id, wherever its network is, with the ports of all that it has started.
fn of_process(pid: u32) -> Option<Server> {
    let process = Process::new(pid.try_into().ok()?).ok().filter(is_own)?;
    let ports = listening(&pid.to_string());
    let tree = processes::tree(pid);
    let tree = tree.iter().filter_map(|process| Process::new(process.pid as i32).ok());
    let ports = tree.filter_map(|process| server(&process, &ports)).flat_map(|server| server.ports);
    let ports: BTreeSet<u16> = ports.collect();
    (!ports.is_empty()).then(|| Server { pid: process.pid, name: name(&process), ports })
}

fn is_own(process: &Process) -> bool {
    process.uid().is_ok_and(|user| user == geteuid().as_raw())
}

fn server(process: &Process, listening: &HashMap<u64, u16>) -> Option<Server> {
    let ports: BTreeSet<u16> =
        sockets(process).iter().filter_map(|inode| listening.get(inode).copied()).collect();
    (!ports.is_empty()).then(|| Server { pid: process.pid, name: name(process), ports })
}

/// The last part of the program's path; the kernel's own name for it ends after 15 bytes.
fn name(process: &Process) -> String {
    let words = process.cmdline().unwrap_or_default();
    let name = words.first().and_then(|word| Path::new(word).file_name());
    name.map_or("a server".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The inodes of the sockets that a process holds.
pub(crate) fn sockets(process: &Process) -> Vec<u64> {
    let descriptors = process.fd().into_iter().flatten().flatten();
    let inode = |target| if let FDTarget::Socket(inode) = target { Some(inode) } else { None };
    descriptors.filter_map(|descriptor| inode(descriptor.target)).collect()
}

/// The TCP sockets that a process can see, as far as they are wanted, by whether they listen and by the port of
/// their own end. Where many clients come and go, ten thousand others are in TIME_WAIT.
pub(crate) fn tcp(process: &str, is_wanted: impl Fn(bool, u16) -> bool) -> Vec<TcpNetEntry> {
    let is_line_wanted = |line: &&str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let port = fields.next().and_then(|address| address.rsplit(':').next());
        let port = port.and_then(|port| u16::from_str_radix(port, 16).ok());
        port.is_some_and(|port| is_wanted(fields.nth(1) == Some("0A"), port))
    };
    let mut sockets = Vec::new();
    for table in ["tcp", "tcp6"] {
        let table = format!("/proc/{process}/net/{table}");
        let table = fs::read_to_string(table).unwrap_or_default();
        let mut lines = table.lines();
        let mut wanted = vec![lines.next().unwrap_or_default()];
        wanted.extend(lines.filter(is_line_wanted));
        let wanted = wanted.join("\n");
        let entries = TcpNetEntries::from_read(wanted.as_bytes(), current_system_info());
        sockets.extend(entries.map(|entries| entries.0).unwrap_or_default());
    }
    sockets
}

/// The ports on which somebody listens where a process is, by the inode of the socket.
fn listening(process: &str) -> HashMap<u64, u16> {
    let sockets = tcp(process, |listens, _| listens);
    sockets.iter().map(|socket| (socket.inode, socket.local_address.port())).collect()
}
