//! Exercise 05a: threads.

use std::thread;

use common::Server;
use terminal::{Options, Step};

fn main() {
    let step = Step::with_files(env!("CARGO_PKG_NAME"), "threads").numbering("connection");
    let options = Options::parse(step);
    let server = Server::start(options);

    while let Some(client) = server.accept() {
        thread::spawn(|| client.serve());
    }
    // New clients are refused from here on; those who are here get the answer that has begun.
    server.finish();
}
