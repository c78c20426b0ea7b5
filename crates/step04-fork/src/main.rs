//! Step 04: a process per connection.

use std::net::TcpStream;

use common::connection::turn_away;
use common::{Connection, Listener, Options, Progress, Site, Step, Worker};
use nix::libc;
use nix::unistd::{ForkResult, fork, getpid};

use crate::children::{Children, die_with};

mod children;

/// A process is heavy. Who comes when so many run gets a 503.
const MAX_CHILDREN: usize = 1000;

fn main() {
    let options =
        Options::parse(Step::with_files(env!("CARGO_PKG_NAME"), "a process per connection"));
    let site = Site::open_or_exit(options);
    let mut children = Children::watch_or_exit(options);
    let listener = Listener::bind_or_exit(options);

    // Wakes for a client, and for a child that has ended.
    while let Some(next) = listener.accept_or_event(Some(&children)) {
        children.reap();
        let Some((client, address)) = next else { continue };
        let log = options.log(Worker::Process, address);
        let parent = getpid();
        // SAFETY: fork copies only the thread that calls it, and this process has no other.
        #[allow(unsafe_code)]
        match (children.count() < MAX_CHILDREN).then(|| unsafe { fork() }) {
            Some(Ok(ForkResult::Child)) => {
                drop(listener);
                die_with(parent);
                serve(client, Connection::once(site, options, log), options);
                // process::exit would do what is the parent's to do when it ends, fork(2).
                // SAFETY: this process ends here, and nobody uses anything of it any more.
                #[allow(unsafe_code)]
                unsafe {
                    libc::_exit(0)
                };
            }
            Some(Ok(ForkResult::Parent { child })) => {
                children.add(child);
                // The child has a copy of its own. As long as this one is open too, the client
                // never sees the end of the answer.
                drop(client);
            }
            // No room, or the kernel has no process to give.
            None | Some(Err(_)) => turn_away(client, site, options, log),
        }
    }
    // New clients are refused from here on; those who are here get the answer that has begun.
    drop(listener);
    children.finish(options.timeout);
}

/// One client, from its first byte to the last byte for it.
fn serve(mut client: TcpStream, mut connection: Connection, options: &Options) {
    while connection.advance(&mut client) != Progress::Closed {
        if options.stop.requested() {
            connection.finish();
        }
    }
}
