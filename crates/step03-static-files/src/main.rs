//! Step 03: static files, one client after another.

use std::net::TcpStream;

use common::{Connection, Listener, Options, Progress, Site, Step, Worker};

fn main() {
    let options =
        Options::parse(Step::with_files(env!("CARGO_PKG_NAME"), "one client after another"));
    let site = Site::open_or_exit(options);
    let listener = Listener::bind_or_exit(options);

    while let Some((client, address)) = listener.accept() {
        let log = options.log(Worker::Process, address);
        serve(client, Connection::once(site, options, log), options, &listener);
    }
}

/// One client, from its first byte to the last byte for it.
fn serve(
    mut client: TcpStream,
    mut connection: Connection,
    options: &Options,
    listener: &Listener,
) {
    while connection.advance(&mut client) != Progress::Closed {
        // A browser opens spare connections and may never use them. While others wait, a client that
        // does not begin is let go after a second (a tick); one that has begun has all of its time.
        let is_spare = connection.is_idle() && listener.has_client();
        if is_spare {
            connection.finish();
        }
        if options.stop.requested() {
            listener.close();
            connection.finish();
        }
    }
}
