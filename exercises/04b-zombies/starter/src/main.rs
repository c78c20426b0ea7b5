//! Exercise 04b: a process per connection.

use std::process;

use common::Server;
use nix::unistd::{ForkResult, fork};
use terminal::{Options, Step};

fn main() {
    let step = Step::with_files(env!("CARGO_PKG_NAME"), "a process per connection");
    let server = Server::start(Options::parse(step));

    while let Some(client) = server.accept() {
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
}
