//! Step 05: a thread per connection.

use std::net::TcpStream;
use std::thread;

use common::connection::turn_away;
use common::{Connection, Listener, Options, Places, Progress, Site, Step, Worker};

/// A thread costs a stack. Who comes when so many run gets a 503.
static PLACES: Places = Places::new(4000);

fn main() {
    let options =
        Options::parse(Step::with_files(env!("CARGO_PKG_NAME"), "a thread per connection"));
    let site = Site::open_or_exit(options);
    let listener = Listener::bind_or_exit(options);

    let mut number = 0;
    while let Some((client, address)) = listener.accept() {
        number += 1;
        let log = options.log(Worker::Thread(number), address);
        let second_handle = client.try_clone();
        let started = PLACES.take().is_some_and(|place| {
            let work = move || {
                serve(client, Connection::once(site, options, log), options);
                drop(place);
            };
            thread::Builder::new().spawn(work).is_ok()
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
fn serve(mut client: TcpStream, mut connection: Connection, options: &Options) {
    while connection.advance(&mut client) != Progress::Closed {
        if options.stop.requested() {
            connection.finish();
        }
    }
}
