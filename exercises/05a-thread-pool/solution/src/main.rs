//! Exercise 05a: threads.

use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::thread;

use common::{Connection, Listener, Options, Progress, Site, Step, Worker};

/// So many clients are served at once; who comes then waits for a thread that is free again.
const THREADS: u64 = 100;

fn main() {
    let options = Options::parse(Step::with_files(env!("CARGO_PKG_NAME"), "threads"));
    let site = Site::open_or_exit(options);
    let listener = Listener::bind_or_exit(options);
    let (queue, clients) = channel();
    let clients = Mutex::new(clients);
    // One thread waits in recv and holds the lock; the others wait for the lock.
    let next = &|| clients.lock().unwrap_or_else(PoisonError::into_inner).recv();

    // The scope ends when all of its threads have: who is here at Ctrl-C still gets an answer.
    thread::scope(|scope| {
        for number in 1..=THREADS {
            scope.spawn(move || {
                while let Ok((client, address)) = next() {
                    let log = options.log(Worker::Thread(number), address);
                    serve(client, Connection::once(site, options, log), options);
                }
            });
        }
        while let Some(accepted) = listener.accept() {
            let _ = queue.send(accepted);
        }
        // The queue ends with its sender, and the threads with the queue.
        drop((listener, queue));
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
