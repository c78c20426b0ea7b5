//! Exercise 04b: a process per connection.

use std::os::fd::AsFd;
use std::process;

use common::Server;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use terminal::{Options, Step};

fn main() -> nix::Result<()> {
    let step = Step::with_files(env!("CARGO_PKG_NAME"), "a process per connection");
    let server = Server::start(Options::parse(step));
    // Readable when a child has ended.
    let signals = SigSet::from(Signal::SIGCHLD);
    signals.thread_block()?;
    let ended = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;

    // Wakes for a client, and for a child that has ended.
    while server.listener.wait(Some(ended.as_fd())) {
        reap(&ended);
        let Some(client) = server.try_accept() else { continue };
        // SAFETY: fork copies only the thread that calls it, and until Ctrl-C this process has no
        // other.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                drop(server);
                client.serve();
                process::exit(0);
            }
            // The child has a copy of its own; this one must not stay open.
            Ok(ForkResult::Parent { .. }) => drop(client.leave()),
            // The kernel has no process to give. A client that is dropped unserved is told so: 503.
            Err(_) => drop(client),
        }
    }
    Ok(())
}

/// Asks every child that has ended how it ended: then the kernel forgets it. One signal may stand
/// for many children.
fn reap(ended: &SignalFd) {
    while let Ok(Some(_)) = ended.read_signal() {}
    while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|s| s != WaitStatus::StillAlive) {}
}
