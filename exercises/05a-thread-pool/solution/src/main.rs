//! Exercise 05a: threads.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use common::{Client, Server};
use terminal::{Options, Step};

/// So many clients are served at once; who comes then waits for a thread that is free again.
const THREADS: usize = 100;

fn main() {
    let step = Step::with_files(env!("CARGO_PKG_NAME"), "threads").numbering("connection");
    let options = Options::parse(step);
    let (queue, clients) = channel();
    let clients = Arc::new(Mutex::new(clients));
    for _ in 0..THREADS {
        let clients = Arc::clone(&clients);
        if let Err(error) = thread::Builder::new().spawn(move || serve_all(&clients)) {
            options.exit(format_args!("cannot start {THREADS} threads: {error}"));
        }
    }
    let server = Server::start(options);

    while let Some(client) = server.accept() {
        let _ = queue.send(client);
    }
    // The queue ends with its sender, and the threads with the queue.
    drop(queue);
    // New clients are refused from here on; those who are here get the answer that has begun.
    server.finish();
}

/// Serves one client of the queue after another, until the queue ends.
fn serve_all(clients: &Mutex<Receiver<Client>>) {
    loop {
        // One thread waits in recv and holds the lock; the others wait for the lock.
        let next = clients.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(client) = next else { return };
        client.serve();
    }
}
