//! Step 08: the same list, speaking HTTP with persistent connections.

use std::net::TcpStream;
use std::thread;

use common::{Connection, Listener, Log, Options, Progress, Site, Step, Tally, Worker};

fn main() {
    let options = Options::parse(
        Step::with_files(env!("CARGO_PKG_NAME"), "one thread and a list, persistent connections")
            .taking_pause()
            .taking_verbose(),
    );
    let site = Site::open_or_exit(options);
    let mut listener = Some(Listener::bind_or_exit(options));

    let mut clients: Vec<Client> = Vec::new();
    let mut number = 0;
    let mut tally = Tally::start();
    while listener.is_some() || !clients.is_empty() {
        if options.stop.requested() {
            // A closed listener turns new clients away; who is here gets the answer that has begun.
            listener = None;
            clients.iter_mut().for_each(|client| client.connection.finish());
        }

        // Is somebody new there? The answer comes at once, and mostly it is no.
        while let Some((stream, address)) = listener.as_ref().and_then(Listener::try_accept) {
            tally.looked(true);
            number += 1;
            let log = options.log(Worker::Connection(number), address);
            clients.extend(Client::welcome(stream, log, site, options));
        }
        tally.looked(false);

        // Does anybody want anything? retain_mut walks the list once and keeps who stays.
        clients.retain_mut(|client| {
            let before = client.connection.moved();
            let progress = client.connection.advance(&mut client.stream);
            tally.looked(client.connection.moved() > before);
            progress != Progress::Closed
        });

        if options.verbose {
            tally.round_ended(clients.len(), options);
        }
        if !options.pause.is_zero() {
            thread::sleep(options.pause);
        }
    }
}

struct Client {
    stream: TcpStream,
    connection: Connection,
}

impl Client {
    fn welcome(
        stream: TcpStream,
        log: Log,
        site: &'static Site,
        options: &'static Options,
    ) -> Option<Client> {
        // From now on, a read or write that would have to wait says so instead.
        if let Err(error) = stream.set_nonblocking(true) {
            log.line(format_args!("cannot be served: {error}"));
            return None;
        }
        Some(Client { stream, connection: Connection::persistent(site, options, log) })
    }
}
