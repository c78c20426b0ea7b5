//! Step 08: the same list, speaking HTTP with persistent connections.

use std::net::TcpStream;
use std::thread;

use common::{Connection, Progress, Server};
use terminal::{Options, Step, Tally, shutdown};

fn main() {
    let model = "one thread and a list, persistent connections";
    let step = Step::with_files(env!("CARGO_PKG_NAME"), model).numbering("connection");
    let options = Options::parse(step.taking(&["--pause", "--verbose"]));
    let server = Server::start(options);

    let mut clients: Vec<Connection<TcpStream>> = Vec::new();
    let mut tally = Tally::start();
    while server.listener.is_open() || !clients.is_empty() {
        if server.listener.is_open() && shutdown::is_requested() {
            // New clients are refused from here on; those who are here get the answer that has begun.
            server.listener.close();
            clients.iter_mut().for_each(Connection::finish);
        }

        // Is somebody new there? The answer comes at once, and mostly it is no.
        while let Some(mut client) = server.try_accept() {
            tally.looked(true);
            let connection = client.converse(|socket| {
                socket.set_nonblocking(true)?;
                Ok(socket)
            });
            clients.extend(connection.map(Connection::persistent));
        }
        tally.looked(false);

        // Does anybody want anything? retain_mut walks the list once and keeps who stays.
        clients.retain_mut(|client| {
            let before = client.transferred;
            let progress = client.advance();
            tally.looked(client.transferred > before);
            progress != Progress::Closed
        });

        if options.verbose {
            tally.round_ended(clients.len(), options);
        }
        thread::sleep(options.pause);
    }
}
