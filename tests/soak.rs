//! A crowd of clients that behave at random, and one that behaves well. Each answer to the good one is right
//! meanwhile, and afterwards the server holds what it held before.
//!
//! Each test prints its seed; `SOAK_SEED` makes a crowd of the same clients again. `SOAK_CLIENTS` says how many are
//! there at a time, and `SOAK_SECONDS` for how long; then the steps have their turns one after another.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, mem, thread};

use check::{Client, Failure, Server, wait_until};
use fastrand::Rng;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};
use tests::{STEPS, Step, ensure, raise_descriptor_limit, start, trial, workspace};

/// A bound for what hangs; nothing here is a measurement.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a slow client sends and takes something. The patience of all is counted in beats.
const BEAT: Duration = Duration::from_millis(20);

/// How much more memory the server may have after a second crowd than after a first one, in KiB for each client that
/// is there at a time. What was once needed is kept, by malloc and for stacks; and how many need much at the same
/// moment is chance.
const KEPT: u64 = 8;

/// What both kinds of clients ask for. The last one is large.
const PAGES: [&str; 6] =
    ["/index.html", "/news.html", "/style.css", "/gallery/001.png", "/gallery/100.png", "/big.png"];

type Outcome = Result<(), Failure>;

fn main() -> Outcome {
    let clients = number("SOAK_CLIENTS", 100)?;
    let tests_at_a_time =
        if env::var_os("SOAK_SECONDS").is_some() { 1 } else { STEPS.len() as u64 };
    // A server needs one for each client, and one for the file that it sends.
    let needed = clients * tests_at_a_time.max(2) + 100;
    let is_short = raise_descriptor_limit() < needed;
    let is_asked = |step: &Step| {
        // A process each: it has room for 1,000.
        step.serves_files && step.is_concurrent && (step.name != "step04-fork" || clients < 1000)
    };
    let trials = STEPS.into_iter().filter(is_asked).map(|step| {
        let name = format!("keeps nothing of a random crowd (needs {needed} descriptors)");
        trial(step, &name, soak).with_ignored_flag(is_short)
    });
    libtest_mimic::run(&tests::arguments(tests_at_a_time as usize), trials.collect()).exit();
}

/// What an environment variable says.
fn number(variable: &str, default: u64) -> Result<u64, Failure> {
    match env::var(variable) {
        Ok(text) => Ok(text.parse().map_err(|_| format!("{variable} is no number: {text}"))?),
        Err(_) => Ok(default),
    }
}

fn soak(step: Step) -> Outcome {
    let mut server = start(step, &["--quiet", "--timeout", "1"])?;
    let outcome = endure(&server, step);
    let is_alive = server.is_alive();
    if is_alive {
        server.signal(Signal::SIGTERM)?;
    }
    let (status, _) = server.wait(PATIENCE)?;
    let log = server.log();
    ensure!(is_alive, "the server has ended in the middle: {status}; it said {log:?}");
    outcome.map_err(|failure| format!("{failure}; the server said {log:?}"))?;
    ensure!(status.success(), "{status} after SIGTERM");
    Ok(())
}

fn endure(server: &Server, step: Step) -> Outcome {
    let clients = number("SOAK_CLIENTS", 100)? as usize;
    let length = Duration::from_secs(number("SOAK_SECONDS", 0)?);
    let seed = number("SOAK_SEED", fastrand::u64(..))?;
    let say = |text: String| writeln!(io::stderr(), "{}: {text}", step.short());
    say(format!("SOAK_SEED={seed}"))?;

    // may has a thousand stacks, and uses one after another.
    (0..1000).try_for_each(|_| server.get("/").map(drop))?;
    let before = at_rest(server)?;
    let mut rng = Rng::with_seed(seed);
    serve_crowd(server, step, &mut rng, clients, |came| came < 2 * clients)?;
    is_as_before(server, before)?;
    let memory = server.memory();

    let start = Instant::now();
    let mut all = 0;
    let mut times = serve_crowd(server, step, &mut rng, clients, |came| {
        all = came;
        came < 2 * clients || start.elapsed() < length
    })?;
    is_as_before(server, before)?;
    let memory_after = server.memory();

    times.sort();
    say(format!(
        "{all} clients, {clients} at a time; descriptors, threads and children {before:?} before and after; \
         {memory} KiB after a first crowd, {memory_after} KiB at the end, {} KiB at most; a good client had {} \
         small answers, half of them within {:.1?}, 99 of 100 within {:.1?}",
        server.peak_memory(),
        times.len(),
        times[times.len() / 2],
        times[times.len() * 99 / 100],
    ))?;
    let grown = memory_after.saturating_sub(memory);
    ensure!(grown < KEPT * clients as u64, "{grown} KiB more after {all} clients");
    ensure!(server.get("/")?.status == 200, "not 200 afterwards");
    Ok(())
}

/// Descriptors, threads, and children, zombies included.
fn held(server: &Server) -> [usize; 3] {
    [server.descriptors(), server.threads(), server.children().len()]
}

/// What a server holds when its first clients have gone.
fn at_rest(server: &Server) -> Result<[usize; 3], Failure> {
    let mut last = held(server);
    let mut looks = 0;
    wait_until("the server rests", PATIENCE, || {
        let now = held(server);
        looks = if now == last { looks + 1 } else { 0 };
        last = now;
        looks == 50
    })?;
    Ok(last)
}

fn is_as_before(server: &Server, before: [usize; 3]) -> Outcome {
    wait_until("as before", PATIENCE, || held(server) == before).map_err(|_| {
        let now = held(server);
        format!("descriptors, threads and children were {before:?}, and are {now:?}").into()
    })
}

/// A crowd, a good client as long as it is there, and how long that one waited for its small answers. New ones
/// come while `goes_on` says so, which is told how many have come.
fn serve_crowd(
    server: &Server,
    step: Step,
    rng: &mut Rng,
    at_a_time: usize,
    mut goes_on: impl FnMut(usize) -> bool,
) -> Result<Vec<Duration>, Failure> {
    let address = server.address();
    let is_over = AtomicBool::new(false);
    let mut good_rng = rng.fork();
    thread::scope(|scope| {
        let good = scope.spawn(|| be_good(address, step, &mut good_rng, &is_over));
        let crowd = crowd(address, rng, at_a_time, |came| goes_on(came) && !good.is_finished());
        is_over.store(true, Ordering::Relaxed);
        // If it fails, the crowd is over as well, so its failure comes first.
        let times = good.join().map_err(|_| "the good client panicked")??;
        crowd.map(|()| times)
    })
}

/// Asks for one page after another and compares each answer with the file, until all is over.
fn be_good(
    address: SocketAddr,
    step: Step,
    rng: &mut Rng,
    is_over: &AtomicBool,
) -> Result<Vec<Duration>, Failure> {
    let mut files = Vec::new();
    for page in PAGES {
        files.push((page, fs::read(workspace().join("demo").join(&page[1..]))?));
    }
    let mut times = Vec::new();
    while times.is_empty() || !is_over.load(Ordering::Relaxed) {
        let start = Instant::now();
        let mut client = Client::connect(address)?;
        let requests = if step.is_persistent { rng.usize(1..50) } else { 1 };
        for request in 0..requests {
            let start = if request == 0 { start } else { Instant::now() };
            let (page, file) = &files[rng.usize(..files.len())];
            client.get(page)?;
            let answer = client.answer().map_err(|error| format!("{page}: {error}"))?;
            let length = answer.field("content-length");
            ensure!(
                answer.status == 200 && length == Some(&file.len().to_string()),
                "the good client got {} with Content-Length {length:?} for {page}",
                answer.status
            );
            ensure!(answer.body == *file, "the good client got other bytes for {page}");
            if *page != PAGES[PAGES.len() - 1] {
                times.push(start.elapsed());
            }
        }
        client.finish()?;
        ensure!(client.read_to_end()?.is_empty(), "more than {requests} answers");
    }
    Ok(times)
}

/// Clients that behave at random, so many at a time. The last ones must be let go by the server, too.
fn crowd(
    address: SocketAddr,
    rng: &mut Rng,
    at_a_time: usize,
    mut goes_on: impl FnMut(usize) -> bool,
) -> Outcome {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut events = [EpollEvent::empty(); 1024];
    let mut guests: HashMap<u64, Guest> = HashMap::new();
    let mut came = 0;
    let mut last_came = Instant::now();
    let mut next_beat = last_came + BEAT;
    loop {
        while guests.len() < at_a_time && goes_on(came) {
            let guest = Guest::come(address, rng)?;
            // Edge-triggered: an event says that something is new, and a slow client may leave it at that.
            let all = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
            epoll.add(&guest.client, EpollEvent::new(all, came as u64))?;
            guests.insert(came as u64, guest);
            came += 1;
            last_came = Instant::now();
        }
        let Some(guest) = guests.values().next() else { return Ok(()) };
        let is_in_time = last_came.elapsed() < PATIENCE;
        ensure!(is_in_time, "{} clients were never let go, one of them {guest:?}", guests.len());
        let patience = next_beat.saturating_duration_since(Instant::now());
        let ready = match epoll.wait(&mut events, EpollTimeout::try_from(patience)?) {
            Err(Errno::EINTR) => 0,
            result => result?,
        };
        let mut leaving = Vec::new();
        for number in events[..ready].iter().map(EpollEvent::data) {
            let stays =
                guests.get_mut(&number).is_none_or(|guest| !guest.is_quick() || guest.act());
            leaving.extend((!stays).then_some(number));
        }
        if Instant::now() >= next_beat {
            let stay = guests.iter_mut().map(|(number, guest)| (*number, guest.beat()));
            leaving.extend(stay.filter(|stays| !stays.1).map(|gone| gone.0));
            next_beat = Instant::now() + BEAT;
        }
        for guest in leaving.iter().filter_map(|number| guests.remove(number)) {
            guest.leave()?;
        }
    }
}

/// A client of the crowd. What it does was drawn when it came.
#[derive(Debug)]
struct Guest {
    client: Client,
    /// What it still has to send.
    unsent: Vec<u8>,
    /// How many bytes it sends and takes in a beat; a quick one does not wait for the beat.
    sends: usize,
    takes: usize,
    /// Whether it closes its half when it has sent all.
    finishes: bool,
    /// After so many beats it leaves, if the server has not ended it.
    beats: u32,
    /// Whether it leaves with a reset.
    resets: bool,
}

/// Of what leaves or comes at once.
const AT_ONCE: usize = usize::MAX;

impl Guest {
    fn come(address: SocketAddr, rng: &mut Rng) -> Result<Guest, Failure> {
        let mut client = Client::connect(address)?;
        client.stream().set_nonblocking(true)?;
        let sends = if rng.bool() { AT_ONCE } else { rng.usize(1..500) };
        let takes = [AT_ONCE, AT_ONCE, 0, rng.usize(1..20_000)][rng.usize(..4)];
        if takes < AT_ONCE {
            setsockopt(client.stream(), sockopt::RcvBuf, &8192)?;
        }
        let (unsent, finishes, resets) = (words(rng), rng.bool(), rng.bool());
        let mut guest =
            Guest { client, unsent, sends, takes, finishes, beats: rng.u32(..150), resets };
        if guest.is_quick() && rng.bool() {
            // It stays until the server ends it: at once, after an error or after the timeout.
            guest.beats = u32::MAX;
        }
        Ok(guest)
    }

    fn is_quick(&self) -> bool {
        (self.sends, self.takes) == (AT_ONCE, AT_ONCE)
    }

    /// Time has passed. Returns whether it stays.
    fn beat(&mut self) -> bool {
        self.beats = self.beats.saturating_sub(1);
        self.beats > 0 && (self.is_quick() || self.act())
    }

    /// Sends and takes what it can and wants to. Returns whether it stays.
    fn act(&mut self) -> bool {
        let stream = self.client.stream();
        let mut may_send = self.sends;
        while may_send > 0 && !self.unsent.is_empty() {
            match stream.write(&self.unsent[..self.unsent.len().min(may_send)]) {
                Ok(length) => {
                    self.unsent.drain(..length);
                    may_send -= length;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The server listens no more, and may have said why.
                Err(_) => self.unsent.clear(),
            }
        }
        if self.unsent.is_empty() && mem::take(&mut self.finishes) {
            let _ = self.client.finish();
        }
        let mut may_take = self.takes;
        while may_take > 0 {
            let mut bytes = [0; 16 * 1024];
            let room = may_take.min(bytes.len());
            match self.client.stream().read(&mut bytes[..room]) {
                Ok(0) => return false,
                Ok(length) => may_take -= length,
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }

    fn leave(self) -> Outcome {
        if self.resets { self.client.reset() } else { Ok(()) }
    }
}

/// What a client of the crowd has to say: requests, half of one, a body that it may not finish, or nothing that
/// anybody understands.
fn words(rng: &mut Rng) -> Vec<u8> {
    let mut target = PAGES[rng.usize(..PAGES.len())];
    if rng.u8(..4) == 0 {
        target = ["/", "/nope", "/gallery", "/../x", "/%zz", "*"][rng.usize(..6)];
    }
    let get = format!("GET {target} HTTP/1.{}\r\nHost: h\r\n\r\n", rng.u8(..2));
    let post = format!("POST {target} HTTP/1.1\r\nHost: h\r\n");
    let body = "b".repeat(rng.usize(..20_000));
    match rng.u8(..8) {
        0 => Vec::new(),
        1 => get.into(),
        2 => get[..rng.usize(..get.len())].into(),
        3 => get.repeat(rng.usize(2..30)).into(),
        4 => format!("{post}Content-Length: {}\r\n\r\n{body}{get}", body.len()).into(),
        5 => format!("{post}Content-Length: {}\r\n\r\n{body}", body.len() + rng.usize(1..90_000))
            .into(),
        6 => {
            format!("{post}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n", body.len()).into()
        }
        _ => (0..body.len()).map(|_| rng.u8(..)).collect(),
    }
}
