//! Step 12: one thread; it hands work to the kernel in bulk and is told what is done.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::rc::Rc;
use std::time::Instant;

use common::{Client, Connection, Progress, Server};
use nix::poll::PollFlags;
use terminal::{Options, Step, shutdown};

use crate::ring::{Completion, Ring, Token};
use crate::stream::{RingStream, SharedRing};

mod ring;
mod stream;

const STOP: Token = 0;
const LISTENER: Token = 1;

fn main() -> io::Result<()> {
    let model = "one thread, the kernel reads and writes for it";
    let step = Step::with_files(env!("CARGO_PKG_NAME"), model).numbering("connection");
    let options = Options::parse(step);
    let ring = Ring::new().unwrap_or_else(|error| {
        options.exit(format_args!(
            "no io_uring ({error}): this kernel is older than Linux 6.1, or forbids it; \
             try step 09: cargo run -p step09-epoll"
        ))
    });
    let server = Server::start(options);
    let ring = Rc::new(RefCell::new(ring));
    Loop { server, ring, clients: HashMap::new(), due: BTreeSet::new(), last: LISTENER }.run()
}

struct Loop {
    server: Server,
    ring: SharedRing,
    /// Each client, and the moment of its entry in `due`.
    clients: HashMap<Token, (Connection<RingStream>, RingStream, Instant)>,
    /// Whose turn comes without a completion, and when.
    due: BTreeSet<(Instant, Token)>,
    /// The last token given. None is given twice: a late completion for who is gone finds nobody.
    last: Token,
}

impl Loop {
    fn run(&mut self) -> io::Result<()> {
        self.ring.borrow_mut().poll(&shutdown::signals(), PollFlags::POLLIN, STOP);
        self.ring.borrow_mut().accept(&self.server.listener, LISTENER);
        while !self.clients.is_empty() || self.server.listener.is_open() {
            // The one place where this process waits. All that the last round has asked for is handed
            // over here, and what is done comes back.
            let now = Instant::now();
            let patience = self.due.first().map(|due| due.0.saturating_duration_since(now));
            let (completions, mut turns) = self.ring.borrow_mut().wait(patience)?;
            self.server.site.memory.begin_round();
            let now = Instant::now();
            for mut completion in completions {
                turns.extend(self.complete(&mut completion, now));
                self.ring.borrow_mut().recycle(completion);
            }
            while self.due.first().is_some_and(|due| due.0 <= now) {
                turns.extend(self.due.pop_first().map(|due| due.1));
            }
            // Who has been sent something has often asked for more by now: one turn is enough.
            turns.sort_unstable();
            turns.dedup();
            while let Some(token) = turns.pop() {
                match token {
                    // New clients are refused from here on; the others get what has begun.
                    STOP => {
                        self.server.listener.close();
                        self.clients.values_mut().for_each(|client| client.0.finish());
                        turns = self.clients.keys().copied().collect();
                    }
                    LISTENER => turns.extend(self.accept_again()),
                    client => self.advance(client, now),
                }
            }
        }
        Ok(())
    }

    /// Takes note of what is done, and says whose turn it is.
    fn complete(&mut self, completion: &mut Completion, now: Instant) -> Option<Token> {
        match completion.token {
            LISTENER => {
                if !completion.goes_on {
                    self.due.insert((now, LISTENER));
                }
                let socket = completion.socket().filter(|_| self.server.listener.is_open())?;
                let address = socket.peer_addr().ok()?;
                self.server.welcome((socket, address)).and_then(|client| self.add(client))
            }
            token => {
                self.clients.get(&token).inspect(|client| client.1.complete(completion));
                Some(token)
            }
        }
    }

    fn add(&mut self, mut client: Client) -> Option<Token> {
        self.last += 1;
        let (token, ring) = (self.last, Rc::clone(&self.ring));
        let mut stream = None;
        let connection = client
            .converse(|socket| Ok(stream.insert(RingStream::new(socket, token, ring)).clone()));
        let (connection, stream) = (connection?.persistent(), stream?);
        let due = connection.deadline();
        self.due.insert((due, token));
        self.clients.insert(token, (connection, stream, due));
        Some(token)
    }

    /// Accepting has ended, for want of descriptors or memory. A plain accept says why, and how long to
    /// leave it alone.
    fn accept_again(&mut self) -> Option<Token> {
        let client = self.server.try_accept().and_then(|client| self.add(client));
        if let Some(moment) = self.server.listener.paused_until() {
            self.due.insert((moment, LISTENER));
        } else if self.server.listener.is_open() {
            self.ring.borrow_mut().accept(&self.server.listener, LISTENER);
        }
        client
    }

    /// Lets a client do what it can.
    fn advance(&mut self, token: Token, now: Instant) {
        let Some((connection, _, due)) = self.clients.get_mut(&token) else { return };
        let next = match connection.advance() {
            Progress::WantsRead | Progress::WantsWrite => connection.deadline(),
            Progress::HasMore => now,
            Progress::Closed => {
                self.due.remove(&(*due, token));
                return drop(self.clients.remove(&token));
            }
        };
        // An entry that has become too early stays: it costs an empty turn then, and nothing now.
        if next < *due || *due <= now {
            self.due.remove(&(*due, token));
            *due = next;
            self.due.insert((next, token));
        }
    }
}
