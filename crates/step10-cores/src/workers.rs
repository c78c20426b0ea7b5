//! What the workers need besides their loops: a listening socket each, a word when one ends, and an end
//! that reaches them all.

use std::fs::File;
use std::io;
use std::iter;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use common::{Listener, Server};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, bind, getsockname,
    setsockopt, socket, sockopt,
};
use terminal::{Options, shutdown};

/// The first server, and any number of others at its port: each has a listening socket of its own, and
/// they share the site and the options.
pub(crate) fn servers(first: Server) -> impl Iterator<Item = io::Result<Server>> {
    let (options, site) = (first.options, first.site);
    // It was bound without SO_REUSEPORT, so nobody else listens at this port. From here on others may
    // join, if they set it too and are of the same user.
    let address = setsockopt(&first.listener, sockopt::ReusePort, &true)
        .and_then(|()| getsockname(first.listener.as_fd().as_raw_fd()));
    let others = iter::repeat_with(move || {
        Ok(Server::new(options, site, listen_with_others(&address?, options)?))
    });
    iter::once(Ok(first)).chain(others)
}

/// One more listening socket at an address. The kernel gives each new connection to one of the sockets
/// that have SO_REUSEPORT, by a hash over both addresses and ports, socket(7).
fn listen_with_others(
    address: &SockaddrStorage,
    options: &'static Options,
) -> io::Result<Listener> {
    let family = address.family().unwrap_or(AddressFamily::Inet);
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::ReusePort, &true)?;
    bind(socket.as_raw_fd(), address)?;
    Listener::new(socket.into(), options)
}

/// The threads, and how they and the main thread hear of each other's end.
#[derive(Debug)]
pub(crate) struct Workers {
    options: &'static Options,
    /// Closed at Ctrl-C, which the workers see at their end.
    here: UnixStream,
    /// Each worker has a copy. When all are gone, it is seen here.
    there: Arc<UnixStream>,
    threads: Vec<JoinHandle<()>>,
    /// How many were to be made so far; one that failed has a number too.
    begun: usize,
    /// Keeps descriptors for the first clients: the workers must not take them all.
    reserve: Vec<File>,
}

impl Workers {
    /// None yet. Where there could be none at all, ends the process with status 2 and a line that says why.
    pub(crate) fn new(options: &'static Options) -> Workers {
        let thread = Builder::new().spawn(|| {});
        let reserve = (0..4).map(|_| File::open("/dev/null")).collect::<io::Result<_>>();
        let made = thread.and(reserve).and_then(|reserve| Ok((reserve, UnixStream::pair()?)));
        let (reserve, (here, there)) =
            made.unwrap_or_else(|error| options.exit(format_args!("cannot have workers: {error}")));
        Workers { options, here, there: Arc::new(there), threads: Vec::new(), begun: 0, reserve }
    }

    /// A thread that does this work, and says so if it ends with an error or a panic. The work is given
    /// what becomes readable when it shall end. What it owns is closed then: its clients lose their
    /// connection, and new ones come to the others.
    pub(crate) fn spawn<F>(&mut self, work: F)
    where
        F: FnOnce(Arc<UnixStream>) -> io::Result<()> + Send + 'static,
    {
        self.begun += 1;
        let (options, number, stop) = (self.options, self.begun, Arc::clone(&self.there));
        let thread = Builder::new().name(format!("worker {number}")).spawn(move || {
            let end = catch_unwind(AssertUnwindSafe(move || work(stop)));
            if let Err(error) = end.unwrap_or_else(|_| Err(io::Error::other("it panicked"))) {
                options.warn(format_args!("worker {number} has ended: {error}"));
            }
        });
        match thread {
            Ok(thread) => self.threads.push(thread),
            Err(error) => options.warn(format_args!("worker {number} cannot be made: {error}")),
        }
    }

    /// Waits for Ctrl-C, and then until every worker has ended.
    pub(crate) fn finish(self) {
        let Workers { options, here, there, threads, reserve, .. } = self;
        drop((there, reserve));
        let is_alone = shutdown::wait_for(&[here.as_fd()], None);
        drop(here);
        for thread in threads {
            // How it ended has been said.
            let _ = thread.join();
        }
        if is_alone {
            options.exit("no worker is left");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use terminal::Step;

    #[test]
    fn a_worker_that_panics_ends_alone_and_lets_go_of_what_it_had() {
        let options = Box::leak(Box::new(Options::new(Step::with_files("test", "a test"))));
        let mut workers = Workers::new(options);
        workers.spawn(|_stop| panic!("as the test asks"));
        assert!(workers.threads.remove(0).join().is_ok());
        assert_eq!(Arc::strong_count(&workers.there), 1);
    }
}
