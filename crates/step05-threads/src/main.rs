//! Step 05: a thread per connection.

use std::thread;

use common::Server;
use terminal::{Options, Step};

/// In bytes. Of std's 2 MiB, the C library keeps only twenty for the threads to come.
const STACK_SIZE: usize = 128 * 1024;

fn main() {
    let step = Step::with_files(env!("CARGO_PKG_NAME"), "a thread per connection");
    let server = Server::start(Options::parse(step.numbering("thread"))).with_room_for(4000);

    while let Some(client) = server.accept() {
        // If the kernel has no thread to give, the work is dropped, and the client with it. A client
        // that is dropped unserved is told so: 503.
        let _ = thread::Builder::new().stack_size(STACK_SIZE).spawn(|| client.serve());
    }
    // New clients are refused from here on; those who are here get the answer that has begun.
    server.finish();
}
