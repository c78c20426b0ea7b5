//! A running server and the site it serves, for one check.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::answer::Reply;
use crate::client::Client;
use crate::processes::{Process, family};
use crate::site::Site;
use crate::story::{Deed, Fault, Recorder, Story, Symptom};
use crate::waiting::Waiting;
use crate::{Failure, Server, Step};

/// The request for a target on a connection that ends with its answer.
pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

/// The request for a target on a connection that stays.
pub fn get_and_stay(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// What a check has at hand.
pub struct Scene<'a> {
    /// The server under test.
    pub server: &'a mut Server,
    /// The site it serves, or would if it served files.
    pub site: &'a Site,
    /// The folder that holds the site.
    pub root: &'a Path,
    /// What the server must be able to do.
    pub step: Step,
    /// Whether the server was once seen to leave a connection open that should have ended. Then nobody
    /// waits for the end again, except the check that is about it.
    pub leaves_open: Rc<Cell<bool>>,
    /// What a check has counted, for who asks why it has passed.
    pub counted: RefCell<String>,
    /// Whether the counts do not tell what the check asks.
    pub is_unclear: Cell<bool>,
    story: Recorder,
    by_hand: RefCell<String>,
}

impl<'a> Scene<'a> {
    /// A new scene; what happened before is forgotten.
    pub fn new(
        server: &'a mut Server,
        (site, root): (&'a Site, &'a Path),
        step: Step,
        leaves_open: Rc<Cell<bool>>,
    ) -> Scene<'a> {
        let story = Recorder::default();
        let (counted, is_unclear) = (RefCell::default(), Cell::new(false));
        let by_hand = RefCell::default();
        Scene { server, site, root, step, leaves_open, counted, is_unclear, story, by_hand }
    }

    /// Says how to see by hand what the check sees: a command, with the server on port 8080.
    pub fn by_hand(&self, command: impl Into<String>) {
        *self.by_hand.borrow_mut() = command.into();
    }

    /// The command that the check has given last.
    pub fn repeat(&self) -> String {
        self.by_hand.borrow().clone()
    }

    /// Passes, and says what was counted.
    ///
    /// # Errors
    /// None.
    pub fn has_counted(&self, counted: impl Into<String>) -> Result<(), Failure> {
        *self.counted.borrow_mut() = counted.into();
        Ok(())
    }

    /// Neither passes nor fails: what was counted does not tell.
    ///
    /// # Errors
    /// None.
    pub fn cannot_tell(&self, counts: &str) -> Result<(), Failure> {
        self.is_unclear.set(true);
        self.has_counted(format!("cannot tell: {counts}"))
    }

    /// Tells in one sentence what happens in `work`, unless it fails.
    ///
    /// # Errors
    /// As `work`.
    pub fn in_one_line<T>(
        &self,
        text: &str,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let before = self.story.open().length();
        let done = work()?;
        self.story.open().fold(before, text);
        Ok(done)
    }

    /// What has happened so far.
    pub fn story(&self) -> Story {
        self.story.open().clone()
    }

    /// Where the scene's clients write down what they do.
    pub fn recorder(&self) -> &Recorder {
        &self.story
    }

    /// Says what the check does beside its clients.
    pub fn aside(&self, text: impl Into<String>) {
        self.story.open().add(0, Deed::Aside, text);
    }

    /// Connects a further client.
    ///
    /// # Errors
    /// The server does not accept.
    pub fn connect(&self) -> Result<Client, Failure> {
        Client::connect_recorded(self.server, &self.story)
    }

    /// Connects so many further clients, one a millisecond. Some servers let only five wait to be
    /// accepted; who comes when that queue is full tries again only after a second.
    ///
    /// # Errors
    /// The server does not accept.
    pub fn connect_many(&self, count: usize) -> Result<Vec<Client>, Failure> {
        let connect = |_| {
            std::thread::park_timeout(Duration::from_millis(1));
            self.connect()
        };
        (0..count).map(connect).collect()
    }

    /// Sends a request on a connection of its own, and reads all that comes.
    ///
    /// # Errors
    /// No whole answer comes.
    pub fn exchange(&self, request: impl AsRef<[u8]>) -> Result<Reply, Failure> {
        let mut client = self.connect()?;
        client.says(request);
        client.reply(&self.leaves_open)
    }

    /// Asks for a target on a connection of its own, and reads all that comes.
    ///
    /// # Errors
    /// No whole answer comes.
    pub fn ask(&self, target: &str) -> Result<Reply, Failure> {
        self.exchange(get(target))
    }

    /// Asks for the front page, as someone who was not involved in what happened before. Where the
    /// server only prints what it hears, says a word and waits until it is printed.
    ///
    /// # Errors
    /// The server does not do that any more.
    pub fn still_serves(&self) -> Result<(), Failure> {
        if self.step.number() == "07" {
            let mut client = self.connect()?;
            let word = format!("still-there-{}", client.address()?.port());
            client.says(&word);
            return self.is_printed(&word);
        }
        let reply = self.ask("/")?;
        if reply.answer.status != 200 {
            return reply
                .fault("status 200, as before")
                .symptom(Symptom::Status)
                .cause("what other clients have done changes the answer to this one")
                .fail();
        }
        Ok(())
    }

    /// Waits until the server has printed something.
    ///
    /// # Errors
    /// It does not.
    pub fn is_printed(&self, text: &str) -> Result<(), Failure> {
        if self.wait_for(|| self.server.log().contains(text)) {
            return Ok(());
        }
        let log = self.server.log();
        let tail = log.len().saturating_sub(300);
        Fault::expected(format!("the server prints {text:?}"))
            .came(&log.as_bytes()[tail..])
            .symptom(Symptom::Silent)
            .cause("it has not read what this client sent, or keeps its output in a buffer")
            .fail()
    }

    /// Waits until something holds that only the system can tell, and gives up when the server does not
    /// change any more.
    pub fn wait_for(&self, mut holds: impl FnMut() -> bool) -> bool {
        let mut waiting = Waiting::new(self.server.pid());
        loop {
            if holds() {
                return true;
            }
            if waiting.is_in_vain() {
                return holds();
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Gives the server the time to do all that it can do at the moment: waits until it was found
    /// asleep so many times, a tenth of a second apart, but never so long that a server which lets
    /// go of slow clients would. A server that never sleeps gets a tenth of a second for each.
    pub fn wait_until_idle(&self, looks: u32) {
        const AT_MOST: Duration = Duration::from_secs(4);
        let awake = Duration::from_millis(100) * looks;
        let end =
            Instant::now() + if self.step.idles_for_free { AT_MOST } else { awake.min(AT_MOST) };
        let mut asleep = 0;
        while asleep < looks && Instant::now() < end && self.has_processes() {
            std::thread::park_timeout(Duration::from_millis(100));
            asleep += u32::from(!self.family().iter().any(Process::has_work));
        }
    }

    /// The server's processes.
    pub fn family(&self) -> Vec<Process> {
        family(self.server.pid())
    }

    fn has_processes(&self) -> bool {
        self.family().iter().any(|process| process.state != 'Z')
    }
}
