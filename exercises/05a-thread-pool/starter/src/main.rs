//! Exercise 05a: threads.

use std::net::TcpStream;
use std::thread;

use common::{Connection, Listener, Options, Progress, Site, Step, Worker};

fn main() {
    let options = Options::parse(Step::with_files(env!("CARGO_PKG_NAME"), "threads"));
    let site = Site::open_or_exit(options);
    let listener = Listener::bind_or_exit(options);

    // The scope ends when all of its threads have: who is here at Ctrl-C still gets an answer.
    thread::scope(|scope| {
        let mut number = 0;
        while let Some((client, address)) = listener.accept() {
            number += 1;
            let log = options.log(Worker::Thread(number), address);
            scope.spawn(move || serve(client, Connection::once(site, options, log), options));
        }
        drop(listener);
    });
}

/// One client, from its first byte to the last byte for it.
fn serve(mut client: TcpStream, mut connection: Connection, options: &Options) {
    while connection.advance(&mut client) != Progress::Closed {
        if options.stop.requested() {
            connection.finish();
        }
    }
}
