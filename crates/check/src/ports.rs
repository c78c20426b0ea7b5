//! Ports of this machine: one that is free, and who listens and is connected, as /proc/net/tcp says.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix;
use std::os::unix::net::UnixListener;

use procfs::FromBufReadSI;
use procfs::net::{TcpNetEntries, TcpNetEntry, TcpState};
use procfs::process::{FDTarget, Process};

use crate::Failure;

/// A port that nobody listens on, below the range that the kernel gives to clients: those never take it
/// from the server in the moment before it binds. Nor does another checking process choose it, as long as
/// this lives; it would see a server there, and take it for its own.
#[derive(Debug)]
pub struct FreePort {
    /// Its number.
    pub number: u16,
    /// A name that only one process of the machine can have: an abstract one, unix(7).
    _claim: UnixListener,
}

impl FreePort {
    /// Finds one.
    ///
    /// # Errors
    /// No port is free.
    pub fn find() -> Result<FreePort, Failure> {
        let claim = |number: u16| {
            let name = unix::net::SocketAddr::from_abstract_name(format!("check-port-{number}"));
            let claim = UnixListener::bind_addr(&name.ok()?).ok()?;
            TcpListener::bind(("127.0.0.1", number)).ok()?;
            Some(FreePort { number, _claim: claim })
        };
        let mut numbers = (0..1000).map(|_| fastrand::u16(10_000..32_000));
        numbers.find_map(claim).ok_or_else(|| "no port is free".into())
    }
}

/// Where somebody listens on a port of this machine.
pub(crate) fn listening_on(port: u16) -> Vec<SocketAddr> {
    let all = sockets(&TcpState::Listen).into_iter().map(|socket| socket.local_address);
    all.filter(|address| address.port() == port).collect()
}

/// Whether who listens there hears clients that go to 127.0.0.1.
pub(crate) fn hears_loopback(address: &SocketAddr) -> bool {
    let ip = address.ip();
    ip.is_unspecified() || ip.to_canonical() == IpAddr::V4(Ipv4Addr::LOCALHOST)
}

/// Where a process listens.
pub(crate) fn listening(pid: u32) -> Vec<SocketAddr> {
    let descriptors = Process::new(pid as i32).and_then(|process| process.fd());
    let sockets_of = |target| match target {
        FDTarget::Socket(inode) => Some(inode),
        _ => None,
    };
    let own: HashSet<u64> = descriptors
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|fd| sockets_of(fd.target))
        .collect();
    let all = sockets(&TcpState::Listen).into_iter();
    all.filter(|socket| own.contains(&socket.inode)).map(|socket| socket.local_address).collect()
}

/// The addresses of the clients that are connected to a port of this machine.
pub fn clients_of(port: u16) -> HashSet<SocketAddr> {
    let here = |socket: &TcpNetEntry| socket.local_address.port() == port;
    let all = sockets(&TcpState::Established).into_iter();
    all.filter(here).map(|socket| socket.remote_address).collect()
}

/// The TCP sockets of this machine that are in a state. Those that listen stand first in each table, says
/// the kernel's own documentation of it (networking/proc_net_tcp.rst). Behind them may stand thousands that
/// have ended, and nobody reads on to those.
fn sockets(state: &TcpState) -> Vec<TcpNetEntry> {
    let state = format!("{:02X}", state.to_u8());
    let mut found = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(table) = File::open(table) else { continue };
        // As much as the kernel writes of such a table at a time.
        let lines = BufReader::with_capacity(4096, table).lines().map_while(Result::ok);
        let is_in_state = |line: &String| line.split_ascii_whitespace().nth(3) == Some(&state);
        let mut text = "\n".to_owned();
        for line in lines.skip(1).take_while(|line| state != "0A" || is_in_state(line)) {
            if is_in_state(&line) {
                text += &line;
                text.push('\n');
            }
        }
        let entries = TcpNetEntries::from_buf_read(text.as_bytes(), procfs::current_system_info());
        found.extend(entries.map(|entries| entries.0).unwrap_or_default());
    }
    found
}
