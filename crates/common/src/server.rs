//! A site behind a port: it hands out clients, and a step decides who serves each.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use message::{Problem, Status, grammar, parse};
use nix::errno::Errno;
use terminal::{Log, Options, shutdown};

use crate::answer::Answer;
use crate::connection::{Connection, Progress};
use crate::listener::Listener;
use crate::site::Site;
use crate::stream::Stream;

/// A place among the clients that are served at the same time. It is given back by being dropped, also
/// when its holder panics.
pub type Place = Arc<Sender<()>>;

/// A site behind a port.
#[derive(Debug)]
pub struct Server {
    /// Where clients come from.
    pub listener: Listener,
    /// What the reader asked for.
    pub options: &'static Options,
    /// What they ask for.
    pub site: &'static Site,
    room: usize,
    /// Each client has a copy; there are as many copies as clients, and this one.
    place: Place,
    /// Says that all copies are gone.
    all_left: Receiver<()>,
    next_number: Cell<u64>,
}

impl Server {
    /// Opens the site, binds the port and prints the first line. What cannot be had here ends the process
    /// with status 2 and a line that says what to type instead.
    pub fn start(options: &'static Options) -> Server {
        let site = match Site::open(options.root()) {
            Ok(site) => Box::leak(Box::new(site)),
            Err(Errno::ENOSYS | Errno::EPERM) => options.exit(
                "this kernel has no openat2 (Linux 5.6 has it), or a container forbids it; try another",
            ),
            Err(error) => options.exit_cannot_serve(&error.into()),
        };
        grammar::compile();
        // Answers a request that nobody has sent, so that what is made at first use is there: a child
        // process would have to make it again, and a coroutine has too small a stack for it.
        if let Ok(Some(request)) = parse(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") {
            let (response, part) = site.respond(&request);
            let _ = Answer::new(&response, part, false, options.step.name, None);
        }
        // The listener needs a descriptor, a client, the folder, its file and perhaps its model one each. Who
        // could not be accepted would wait in the queue for ever.
        let spare = (0..5).map(|_| File::open("/dev/null")).collect::<io::Result<Vec<_>>>();
        if let Err(error) = spare.map(drop) {
            options.exit(format_args!("cannot serve a client: {error}; allow more (ulimit -n)"));
        }
        Server::new(options, site, Listener::bind_or_exit(options))
    }

    /// The same for a site that is open and a listener that listens: a further server of step 10.
    pub fn new(options: &'static Options, site: &'static Site, listener: Listener) -> Server {
        let (place, all_left) = channel();
        let (room, next_number) = (usize::MAX, Cell::new(1));
        Server { options, site, listener, room, place: Arc::new(place), all_left, next_number }
    }

    /// Serves so many clients at a time; the others are told so.
    pub fn with_room_for(self, room: usize) -> Server {
        Server { room, ..self }
    }

    /// Waits for the next client; `None` after Ctrl-C.
    pub fn accept(&self) -> Option<Client> {
        while self.listener.wait(None) {
            if let Some(client) = self.try_accept() {
                return Some(client);
            }
        }
        None
    }

    /// Takes a client if one is waiting and there is room for it; never waits.
    pub fn try_accept(&self) -> Option<Client> {
        self.listener.try_accept().and_then(|accepted| self.welcome(accepted))
    }

    /// As [`Server::try_accept`], for a client that has been accepted by other means.
    pub fn welcome(&self, (stream, address): (TcpStream, SocketAddr)) -> Option<Client> {
        let number = self.next_number.replace(self.next_number.get() + 1);
        let log = Log::new(self.options, number, address);
        let Server { site, place, .. } = self;
        let client = Client { stream: Some(stream), site, log, place: place.clone() };
        // One copy is the server's own. A client without room is dropped here.
        Some(client).filter(|_| Arc::strong_count(&self.place) - 1 <= self.room)
    }

    /// Refuses new clients, and waits until those who are served have their answers, for the timeout at
    /// most.
    pub fn finish(self) {
        drop((self.listener, self.place));
        let _ = self.all_left.recv_timeout(self.options.timeout);
    }
}

/// A client that has been accepted. If it is dropped before anybody serves it, it is told that there is
/// no room: 503. So whatever fails on the way to its server, it has an answer.
#[derive(Debug)]
pub struct Client {
    /// `None` once it is served, or left to somebody else.
    stream: Option<TcpStream>,
    site: &'static Site,
    log: Log,
    place: Place,
}

impl Client {
    /// Serves it, from its first byte to the last byte for it; waits where it must.
    pub fn serve(self) {
        self.serve_with(|_| {});
    }

    /// As [`Client::serve`], and calls `look` whenever it has waited: for a tick (see
    /// [`Options::tick`]), or until something moved.
    pub fn serve_with(mut self, mut look: impl FnMut(&mut Connection<TcpStream>)) {
        let Some(mut connection) = self.converse(Ok) else { return };
        while connection.advance() != Progress::Closed {
            look(&mut connection);
            if shutdown::is_requested() {
                connection.finish();
            }
        }
    }

    /// Its conversation, over a stream that `wrap` makes of its socket. The place is taken until the client
    /// is dropped.
    pub fn converse<S: Stream>(
        &mut self,
        wrap: impl FnOnce(TcpStream) -> io::Result<S>,
    ) -> Option<Connection<S>> {
        match wrap(self.stream.take()?) {
            Ok(stream) => Some(Connection::once(stream, self.site, self.log)),
            Err(error) => {
                self.log.line(format_args!("cannot be served: {error}"));
                None
            }
        }
    }

    /// Closes this process's copy of the socket without a word, since somebody else has another. Returns
    /// the place, to be kept until that one is done.
    pub fn leave(mut self) -> Place {
        self.stream = None;
        Arc::clone(&self.place)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        // Its request is read as far as it has come, so that closing does not reset the connection, and
        // it is not waited for.
        if stream.set_nonblocking(true).is_ok() {
            let mut connection = Connection::once(stream, self.site, self.log);
            let reason = "The server has as many clients as it can take. Try again in a moment.";
            connection.refuse(Problem::new(Status::SERVICE_UNAVAILABLE, reason), false);
            connection.advance();
        }
    }
}
