//! Step 06: a coroutine per connection.

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

/// In words of 8 bytes: 96 KiB, most of which is never touched. A debug build was seen to use 27 KiB,
/// and the default is 32 KiB.
const STACK_SIZE: usize = 12 * 1024;

fn main() {
    let options =
        Options::parse(Step::with_files(env!("CARGO_PKG_NAME"), "a coroutine per connection"));
    let site = Site::open_or_exit(options);
    let listener = Listener::bind_or_exit(options);
    may::config().set_stack_size(STACK_SIZE);

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
        // No room, or the start failed and dropped the client together with its work. The second handle
        // is there to answer 503 with.
        if let (false, Ok(client)) = (started, second_handle) {
            turn_away(client, site, options, log);
        }
    }
    // New clients are refused from here on; those who are here get the answer that has begun.
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
    // The same length each time: may keeps a list for every length of timeout it has ever seen.
    let _ = client.set_read_timeout(Some(options.tick()));
    let _ = client.set_write_timeout(Some(options.tick()));
    let mut client = Copying(client);
    loop {
        match connection.advance(&mut client) {
            Progress::Closed => break,
            // A client that is always ready would keep its thread for itself. yield_now is not enough:
            // the thread would go on without asking epoll who else is ready.
            Progress::HasMore => sleep(Duration::from_millis(1)),
            Progress::WantsRead | Progress::WantsWrite => {}
        }
        if options.stop.requested() {
            connection.finish();
        }
    }
    // Taken out of its CoIo, the socket is forgotten by may's epoll before it is closed. Dropped
    // together it would be closed first, and its number may be the next client's by then.
    drop(client.0.into_inner());
}
