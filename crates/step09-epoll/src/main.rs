//! Step 09: one thread, and the kernel names the clients that are ready.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::process;
use std::time::{Duration, Instant};

use common::{Connection, Listener, Options, Progress, Site, Step, Worker};
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

const STOP: Token = Token(0);
const LISTENER: Token = Token(1);

/// How many new clients make a fair share; then those who are here have their turn.
const ACCEPTS_PER_TURN: usize = 64;

fn main() {
    let options = Options::parse(Step::with_files(
        env!("CARGO_PKG_NAME"),
        "one thread, the kernel names the ready clients",
    ));
    let site = Site::open_or_exit(options);
    let listener = Listener::bind_or_exit(options);
    if let Err(error) = run(options, site, listener) {
        options.warn(format_args!("cannot wait for clients: {error}"));
        process::exit(1);
    }
}

fn run(options: &'static Options, site: &'static Site, listener: Listener) -> io::Result<()> {
    // On Linux, mio's Poll is epoll(7).
    let poll = Poll::new()?;
    let registry = poll.registry();
    registry.register(&mut SourceFd(&options.stop.as_raw_fd()), STOP, Interest::READABLE)?;
    registry.register(
        &mut SourceFd(&listener.as_fd().as_raw_fd()),
        LISTENER,
        Interest::READABLE,
    )?;

    let mut events = Events::with_capacity(1024);
    let mut server = Server {
        options,
        site,
        poll,
        listener: Some(listener),
        clients: HashMap::new(),
        next_token: LISTENER.0 + 1,
        deadlines: BTreeSet::new(),
        unfinished: BTreeSet::new(),
        last_moment: None,
    };
    while !server.has_finished() {
        // The one place where this process waits, asleep, until the kernel names who is ready or the
        // next deadline comes.
        let patience = server.patience();
        match server.poll.poll(&mut events, patience) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        site.begin_round();
        for event in &events {
            match event.token() {
                STOP => server.stop(),
                LISTENER => server.accept(),
                token => {
                    // Who has closed sends no further event, so the end must be read now; and a
                    // connection that has read all there was does not ask again by itself.
                    if event.is_read_closed() {
                        server.unfinished.insert(token);
                    }
                    server.advance(token);
                }
            }
        }
        server.continue_unfinished();
        server.end_overdue();
    }
    Ok(())
}

struct Server {
    options: &'static Options,
    site: &'static Site,
    poll: Poll,
    /// `None` once Ctrl-C was typed.
    listener: Option<Listener>,
    /// By token. No token is given twice, so a late event for a client that is gone finds nobody.
    clients: HashMap<Token, Client>,
    next_token: usize,
    /// One entry a client: a moment that is not after its deadline, the earliest first.
    deadlines: BTreeSet<(Instant, Token)>,
    /// Who has had a fair share and could go on. The kernel names a client when something changes,
    /// and for these nothing will: they are still ready.
    unfinished: BTreeSet<Token>,
    /// After Ctrl-C, when to leave whether all answers are out or not.
    last_moment: Option<Instant>,
}

struct Client {
    stream: TcpStream,
    connection: Connection,
    /// This client's entry in `deadlines`.
    entry: Instant,
}

impl Server {
    /// Accepts until nobody is waiting, since the kernel names the listener again only when somebody
    /// new comes; or a fair share, and the rest after the others have had their turn.
    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = &self.listener else { return };
            let Some((stream, address)) = listener.try_accept() else { return };
            if let Err(error) = self.welcome(stream, address) {
                self.options.warn(format_args!("cannot serve {address}: {error}"));
            }
        }
        self.unfinished.insert(LISTENER);
    }

    fn welcome(&mut self, stream: std::net::TcpStream, address: SocketAddr) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let token = Token(self.next_token);
        self.next_token += 1;
        // mio is edge-triggered: both interests once, for good, and no call to change them later.
        self.poll.registry().register(
            &mut stream,
            token,
            Interest::READABLE | Interest::WRITABLE,
        )?;
        let number = (token.0 - LISTENER.0) as u64;
        let log = self.options.log(Worker::Connection(number), address);
        let connection = Connection::persistent(self.site, self.options, log);
        let entry = connection.deadline();
        self.deadlines.insert((entry, token));
        self.clients.insert(token, Client { stream, connection, entry });
        Ok(())
    }

    /// Lets a client do what it can. It reads and writes until the socket says "would block", or
    /// the kernel would not name it again.
    fn advance(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        match client.connection.advance(&mut client.stream) {
            Progress::WantsRead | Progress::WantsWrite => {}
            Progress::HasMore => {
                self.unfinished.insert(token);
            }
            Progress::Closed => {
                self.deadlines.remove(&(client.entry, token));
                self.clients.remove(&token);
                return;
            }
        }
        // A last answer brings the deadline nearer; an entry must not be later than that.
        let deadline = client.connection.deadline();
        if deadline < client.entry {
            self.deadlines.remove(&(client.entry, token));
            self.deadlines.insert((deadline, token));
            client.entry = deadline;
        }
    }

    fn continue_unfinished(&mut self) {
        for token in mem::take(&mut self.unfinished) {
            if token == LISTENER { self.accept() } else { self.advance(token) }
        }
        // A shortage of descriptors is over without an event.
        if self.listener.as_ref().and_then(Listener::shortage).is_some_and(|left| left.is_zero()) {
            self.accept();
        }
    }

    /// Ends what has taken too long. A deadline that was put off is noticed only when its old entry
    /// comes up, so that an answered request costs nothing here.
    fn end_overdue(&mut self) {
        let now = Instant::now();
        while let Some(&(entry, token)) = self.deadlines.first()
            && entry <= now
        {
            self.deadlines.pop_first();
            if self.clients.get(&token).is_some_and(|client| client.connection.deadline() <= now) {
                self.advance(token);
            }
            if let Some(client) = self.clients.get_mut(&token) {
                client.entry = client.connection.deadline();
                self.deadlines.insert((client.entry, token));
            }
        }
    }

    /// How long the kernel may let this process sleep; `None` is for ever.
    fn patience(&self) -> Option<Duration> {
        if !self.unfinished.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = self.deadlines.first().map(|&(entry, _)| entry);
        let moment = deadline.into_iter().chain(self.last_moment).min();
        let patience = moment.map(|moment| moment.saturating_duration_since(Instant::now()));
        let shortage = self.listener.as_ref().and_then(Listener::shortage);
        patience.into_iter().chain(shortage).min()
    }

    /// Ctrl-C: no new clients, and those who are here get the answer that has begun.
    fn stop(&mut self) {
        if self.options.stop.requested() && self.last_moment.is_none() {
            self.listener = None;
            self.last_moment = Some(Instant::now() + self.options.timeout);
            self.clients.values_mut().for_each(|client| client.connection.finish());
            self.unfinished.extend(self.clients.keys());
        }
    }

    fn has_finished(&self) -> bool {
        self.last_moment.is_some_and(|moment| self.clients.is_empty() || moment <= Instant::now())
    }
}
