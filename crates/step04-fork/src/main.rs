//! Step 04: a process per connection.

use common::Server;
use terminal::{Options, Step};

use crate::children::{ForkResult, ForkingServer, fork};

mod children;

fn main() {
    let step = Step::with_files(env!("CARGO_PKG_NAME"), "a process per connection");
    let mut server = ForkingServer::new(Server::start(Options::parse(step)).with_room_for(1000));

    while let Some(client) = server.accept() {
        match fork() {
            Ok(ForkResult::Child) => server.serve_and_exit(client),
            // The child has a copy. As long as this one is open too, the client never sees the end.
            Ok(ForkResult::Parent { child }) => server.add(child, client.leave()),
            // The kernel has no process to give. A client that is dropped unserved is told so: 503.
            Err(_) => drop(client),
        }
    }
    // New clients are refused from here on; those who are here get the answer that has begun.
    server.finish();
}
