//! Step 03: static files, one client after another.

use common::Server;
use terminal::{Options, Step, shutdown};

fn main() {
    let step = Step::with_files(env!("CARGO_PKG_NAME"), "one client after another");
    let server = Server::start(Options::parse(step));

    while let Some(client) = server.accept() {
        client.serve_with(|connection| {
            // A browser opens spare connections. One on which nothing comes is let go in a second.
            if connection.is_idle() && server.listener.has_client() {
                connection.finish();
            }
            if shutdown::is_requested() {
                server.listener.close();
            }
        });
    }
    // New clients are refused from here on; those who are here get the answer that has begun.
    server.finish();
}
