//! Step 09: one thread, and the kernel names the clients that are ready.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use common::{Connection, Progress, Server};
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use terminal::{Options, Step, shutdown};

const STOP: Token = Token(0);
const LISTENER: Token = Token(1);

fn main() -> io::Result<()> {
    let model = "one thread, the kernel names the ready clients";
    let step = Step::with_files(env!("CARGO_PKG_NAME"), model).numbering("connection");
    let options = Options::parse(step);
    // On Linux, mio's Poll is epoll(7).
    let poll = Poll::new().unwrap_or_else(|error| options.exit(format_args!("no epoll: {error}")));
    let server = Server::start(options);
    Loop { server, poll, clients: HashMap::new(), due: BTreeSet::new(), last: LISTENER }.run()
}

struct Loop {
    server: Server,
    poll: Poll,
    /// Each client, and the moment of its entry in `due`.
    clients: HashMap<Token, (Connection<TcpStream>, Instant)>,
    /// Whose turn comes without an event, and when.
    due: BTreeSet<(Instant, Token)>,
    /// The last token given. None is given twice: a late event for who is gone finds nobody.
    last: Token,
}

impl Loop {
    fn run(&mut self) -> io::Result<()> {
        for (token, fd) in [(STOP, shutdown::signals()), (LISTENER, self.server.listener.as_fd())] {
            let mut fd = SourceFd(&fd.as_raw_fd());
            self.poll.registry().register(&mut fd, token, Interest::READABLE)?;
        }
        let mut events = Events::with_capacity(1024);
        while !self.clients.is_empty() || self.server.listener.is_open() {
            // The one place where this process waits, asleep, until somebody is ready or due.
            let patience = self.due.first().map(|due| due.0 - Instant::now());
            match self.poll.poll(&mut events, patience) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            self.server.site.memory.begin_round();
            let now = Instant::now();
            let due = self.due.extract_if(..=(now, self.last), |_| true);
            let mut turns: Vec<_> = due.map(|due| (due.1, None)).collect();
            turns.extend(events.iter().map(|event| (event.token(), Some(event))));
            while let Some((token, event)) = turns.pop() {
                match token {
                    // New clients are refused from here on; the others get what has begun.
                    STOP => {
                        self.server.listener.close();
                        self.clients.values_mut().for_each(|client| client.0.finish());
                        turns.extend(self.clients.keys().map(|client| (*client, None)));
                    }
                    LISTENER => self.accept(now),
                    client => self.advance(client, event, now),
                }
            }
        }
        Ok(())
    }

    /// The kernel does not name those who are left waiting again, so they get a turn without it.
    fn accept(&mut self, now: Instant) {
        for _ in 0..64 {
            let Some(mut client) = self.server.try_accept() else {
                let pause = self.server.listener.paused_until();
                return self.due.extend(pause.map(|moment| (moment, LISTENER)));
            };
            self.last.0 += 1;
            let token = self.last;
            let connection = client.converse(|socket| {
                socket.set_nonblocking(true)?;
                let mut socket = TcpStream::from_std(socket);
                // mio is edge-triggered: all interests once, for good, and no call to change them.
                let all = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
                self.poll.registry().register(&mut socket, token, all)?;
                Ok(socket)
            });
            if let Some(connection) = connection.map(Connection::persistent) {
                let due = connection.deadline();
                self.due.insert((due, token));
                self.clients.insert(token, (connection, due));
            }
        }
        self.due.insert((now, LISTENER));
    }

    /// Lets a client do all it can: the kernel would not name it again for what is there already. An end
    /// that came with the data, or urgent data, lies behind what a short read brings.
    fn advance(&mut self, token: Token, event: Option<&mio::event::Event>, now: Instant) {
        let Some((connection, due)) = self.clients.get_mut(&token) else { return };
        self.due.remove(&(*due, token));
        connection.trusts_short_reads =
            event.is_some_and(|event| !event.is_read_closed() && !event.is_priority());
        *due = match connection.advance() {
            Progress::WantsRead | Progress::WantsWrite => connection.deadline(),
            // It is still ready, and the kernel names a client only when something changes.
            Progress::HasMore => now,
            Progress::Closed => return drop(self.clients.remove(&token)),
        };
        self.due.insert((*due, token));
    }
}
