//! Exercise 04b: a process per connection.

use std::net::TcpStream;
use std::process;

use common::connection::turn_away;
use common::{Connection, Listener, Options, Progress, Site, Step, Worker};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

fn main() -> nix::Result<()> {
    let options =
        Options::parse(Step::with_files(env!("CARGO_PKG_NAME"), "a process per connection"));
    let site = Site::open_or_exit(options);
    // Readable when a child has ended.
    let signals = SigSet::from(Signal::SIGCHLD);
    signals.thread_block()?;
    let ended = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let listener = Listener::bind_or_exit(options);

    // Wakes for a client, and for a child that has ended.
    while let Some(next) = listener.accept_or_event(Some(&ended)) {
        reap(&ended);
        let Some((client, address)) = next else { continue };
        let log = options.log(Worker::Process, address);
        // SAFETY: fork copies only the thread that calls it, and this process has no other.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                drop(listener);
                serve(client, Connection::once(site, options, log), options);
                process::exit(0);
            }
            // The child has a copy of its own; this one must not stay open.
            Ok(ForkResult::Parent { .. }) => drop(client),
            Err(_) => turn_away(client, site, options, log),
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

/// One client, from its first byte to the last byte for it.
fn serve(mut client: TcpStream, mut connection: Connection, options: &Options) {
    while connection.advance(&mut client) != Progress::Closed {
        if options.stop.requested() {
            connection.finish();
        }
    }
}
