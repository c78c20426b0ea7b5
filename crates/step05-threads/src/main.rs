//! Step 05: a thread per connection.

use std::net::TcpStream;
use std::thread;

use common::connection::turn_away;
use common::{Connection, Listener, Options, Places, Progress, Site, Step, Worker};

/// A thread costs a stack. Who comes when so many run gets a 503.
static THREADS: Places = Places::new(4000);

fn main() {
    let options =
        Options::parse(Step::with_files(env!("CARGO_PKG_NAME"), "a thread per connection"));
    let site = Site::open_or_exit(options);
    let listener = Listener::bind_or_exit(options);

    let mut number = 0;
    while let Some((client, address)) = listener.accept() {
        number += 1;
        let log = options.log(Worker::Thread(number), address);
        let Some(place) = THREADS.take() else {
            turn_away(client, site, options, log);
            continue;
        };
        // When no thread can be started, what was meant for it is dropped, the client too. This
        // second handle remains to say so with.
        let spare = client.try_clone();
        let spawned = thread::Builder::new().spawn(move || {
            serve(client, Connection::once(site, options, log), options);
            drop(place);
        });
        if let Err(error) = spawned {
            options.warn(format_args!("cannot start a thread: {error}"));
            spare.into_iter().for_each(|client| turn_away(client, site, options, log));
        }
    }
    THREADS.wait_until_free(options.timeout);
}

/// One client, from its first byte to the last byte for it.
fn serve(mut client: TcpStream, mut connection: Connection, options: &Options) {
    while connection.advance(&mut client) != Progress::Closed {
        if options.stop.requested() {
            connection.finish();
        }
    }
}
