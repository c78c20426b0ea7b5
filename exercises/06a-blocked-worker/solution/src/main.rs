//! Exercise 06a: a coroutine per connection.

use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use common::connection::{Copying, turn_away};
use common::{Connection, Listener, Options, Places, Progress, Site, Step, Worker};
use may::coroutine::sleep;
use may::go;
use may::io::CoIo;

/// A coroutine costs a small stack. Who comes when so many run gets a 503.
static PLACES: Places = Places::new(10_000);

/// In words of 8 bytes: 96 KiB, most of which is never touched.
const STACK_SIZE: usize = 12 * 1024;

fn main() {
    let options =
        Options::parse(Step::with_files(env!("CARGO_PKG_NAME"), "a coroutine per connection"));
    let site = Site::open_or_exit(options);
    let listener = Listener::bind_or_exit(options);
    // One thread runs all coroutines: while one waits, another has its turn.
    may::config().set_stack_size(STACK_SIZE).set_workers(1);

    let mut number = 0;
    while let Some((client, address)) = listener.accept() {
        number += 1;
        let log = options.log(Worker::Coroutine(number), address);
        let second_handle = client.try_clone();
        let started = PLACES.take().is_some_and(|place| {
            let work = move || {
                serve(client, Connection::once(site, options, log), options);
                drop(place);
            };
            // may panics when it cannot get a stack.
            catch_unwind(AssertUnwindSafe(|| go!(work))).is_ok()
        });
        if let (false, Ok(client)) = (started, second_handle) {
            turn_away(client, site, options, log);
        }
    }
    drop(listener);
    PLACES.wait_until_free(options.timeout);
}

/// One client, from its first byte to the last byte for it.
fn serve(client: TcpStream, mut connection: Connection, options: &Options) {
    // Reads and writes of a CoIo let another coroutine run instead of blocking the thread.
    let client = match CoIo::new(client) {
        Ok(client) => client,
        Err(error) => return options.warn(format_args!("cannot watch a client: {error}")),
    };
    let _ = client.set_read_timeout(Some(options.tick()));
    let _ = client.set_write_timeout(Some(options.tick()));
    let mut client = Copying(client);
    loop {
        match connection.advance(&mut client) {
            Progress::Closed => break,
            // A client that is always ready would keep the thread for itself.
            Progress::HasMore => sleep(Duration::from_millis(1)),
            Progress::WantsRead | Progress::WantsWrite => {}
        }
        if options.stop.requested() {
            connection.finish();
        }
    }
    // may's epoll must forget the socket before it is closed.
    drop(client.0.into_inner());
}
