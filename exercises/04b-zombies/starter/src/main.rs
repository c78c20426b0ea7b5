//! Exercise 04b: a process per connection.

use std::net::TcpStream;
use std::process;

use common::connection::turn_away;
use common::{Connection, Listener, Options, Progress, Site, Step, Worker};
use nix::unistd::{ForkResult, fork};

fn main() {
    let options =
        Options::parse(Step::with_files(env!("CARGO_PKG_NAME"), "a process per connection"));
    let site = Site::open_or_exit(options);
    let listener = Listener::bind_or_exit(options);

    while let Some((client, address)) = listener.accept() {
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
}

/// One client, from its first byte to the last byte for it.
fn serve(mut client: TcpStream, mut connection: Connection, options: &Options) {
    while connection.advance(&mut client) != Progress::Closed {
        if options.stop.requested() {
            connection.finish();
        }
    }
}
