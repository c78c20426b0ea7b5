//! Step 06: a coroutine per connection.

use std::panic::catch_unwind;

use common::Server;
use may::go;
use terminal::{Options, Step};

use crate::stream::{serve, start_may};

mod stream;

fn main() {
    let step = Step::with_files(env!("CARGO_PKG_NAME"), "a coroutine per connection");
    let options = start_may(Options::parse(step.numbering("coroutine")));
    let server = Server::start(options).with_room_for(10_000);

    while let Some(client) = server.accept() {
        // If may has no stack to give, it panics, and the client is dropped with the work. A client
        // that is dropped unserved is told so: 503.
        let _ = catch_unwind(|| go!(|| serve(client)));
    }
    // New clients are refused from here on; those who are here get the answer that has begun.
    server.finish();
}
