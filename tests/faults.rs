//! The kernel says no: system calls that fail, by strace's injection.
//!
//! Needs Debian's strace. Where it is missing, the tests are listed as ignored.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use check::fixture::{BIG, wrong_in_big};
use check::{Client, Failure, Fixture, Server, wait_until};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use tests::{STEPS, Step, command, ensure, trial, under_strace};

/// A bound for what hangs; nothing here is a measurement.
const PATIENCE: Duration = Duration::from_secs(20);

type Started = Result<(Server, Fixture), Failure>;

/// What accept(2) can fail with although nothing is wrong with the server.
const ACCEPT_ERRORS: [&str; 8] =
    ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "EINTR", "EPROTO", "EPERM"];

/// Every call that a server waits, reads or writes with.
const INTERRUPTIBLE: &str = "accept4,recvfrom,sendto,poll,epoll_wait,io_uring_enter,openat2";

fn main() {
    let is_missing = Command::new("strace").arg("-V").output().is_err();
    let mut trials: Vec<Trial> = Vec::new();
    let mut add = |step: Step, name: &str, run: fn(Step) -> Result<(), Failure>| {
        let name = format!("{name} (needs strace)");
        trials.push(trial(step, &name, run).with_ignored_flag(is_missing));
    };
    for step in STEPS {
        let speaks_http = step.serves_files || step.name == "step02-single-response";
        if speaks_http {
            add(step, "serves all when every third accept fails", survives_failing_accepts);
            add(step, "serves all when every other call is interrupted", survives_interruptions);
        }
        if step.serves_files {
            add(step, "cuts an answer short when the file cannot be read on", cuts_short);
            add(step, "says why a file cannot be opened", says_why);
            add(step, "blames no client for a call that takes longer than the timeout", is_slow);
        }
        match step.name {
            "step04-fork" => add(step, "answers 503 when fork fails", |step| {
                sheds(step, "clone,clone3,fork,vfork:error=EAGAIN:when=2+2")
            }),
            "step05-threads" => add(step, "answers 503 when no thread can be made", |step| {
                sheds(step, "clone3:error=EAGAIN:when=2+2")
            }),
            "step06-coroutines" | "step09-epoll" | "step10-cores" | "step11-async" => {
                add(step, "loses one client when epoll_ctl fails", loses_only_one)
            }
            "step12-uring" => {
                add(step, "serves all when every third call of the ring fails", survives_the_ring);
                add(step, "answers many clients with few calls", takes_few_calls);
            }
            _ => {}
        }
        if step.name == "step10-cores" {
            add(
                step,
                "names a worker that dies, and leaves no socket of it behind",
                loses_a_worker,
            );
            add(step, "goes on without a worker whose thread cannot be made", lacks_a_worker);
            add(step, "ends when no worker is left", |step| {
                ends(step, "epoll_wait:error=EBADF:when=1", "worker 1 has ended: Bad file")
            });
            add(step, "ends when no thread can be made", |step| {
                ends(step, "clone3:error=EAGAIN:when=2+", "worker 1 cannot be made: Resource temp")
            });
            add(step, "has one worker where sockets cannot share a port", |step| {
                is_alone(step, "setsockopt:error=ENOPROTOOPT:when=6+")
            });
        }
    }
    libtest_mimic::run(&tests::arguments(32), tests::where_possible(trials)).exit();
}

/// A step whose system calls fail as `injections` say, on the fixture site.
fn start_with_faults(
    step: Step,
    fixture: &Fixture,
    injections: &[&str],
) -> Result<Server, Failure> {
    let mut strace = under_strace(step, injections)?;
    strace.arg("--quiet");
    if step.serves_files {
        strace.arg(fixture.root());
    }
    Server::start(&mut strace)
}

fn survives_failing_accepts(step: Step) -> Result<(), Failure> {
    let fixture = Fixture::new()?;
    for error in ACCEPT_ERRORS {
        let server =
            start_with_faults(step, &fixture, &[&format!("accept4:error={error}:when=2+3")])?;
        for _ in 0..12 {
            ensure!(server.get("/")?.status == 200, "{error}: not 200");
        }
    }
    Ok(())
}

fn survives_interruptions(step: Step) -> Result<(), Failure> {
    let fixture = Fixture::with_big_file()?;
    let injection = format!("{INTERRUPTIBLE}:error=EINTR:when=1+2");
    // may and tokio wake their threads by a write to an eventfd, which the kernel never interrupts. If it
    // did, may would not hear of a coroutine, and tokio panics.
    let wakes_by_eventfd = ["step06-coroutines", "step11-async"].contains(&step.name);
    let write = if wakes_by_eventfd { "" } else { "write," };
    // The dynamic loader reads too, before main, and does not expect a signal.
    let from_main_on = format!("{write}read,pread64,sendfile:error=EINTR:when=60+2");
    let server = start_with_faults(step, &fixture, &[&injection, &from_main_on])?;
    for _ in 0..60 {
        let answer = server.get("/")?;
        ensure!(answer.status == 200, "status {}", answer.status);
    }
    if step.serves_files {
        let answer = server.get("/big.bin")?;
        let is_whole = wrong_in_big(0, &answer.body).is_none();
        ensure!(answer.body.len() as u64 == BIG && is_whole, "bytes are wrong");
    }
    Ok(())
}

fn cuts_short(step: Step) -> Result<(), Failure> {
    let fixture = Fixture::with_big_file()?;
    // Step 06 reads and writes; the others leave both to the kernel.
    let faults = ["sendfile:error=EIO:when=2", "pread64:error=EIO:when=6"];
    let server = start_with_faults(step, &fixture, &faults)?;
    let mut client = server.connect()?;
    client.get("/big.bin")?;
    let head = client.read_head()?;
    ensure!(head.status == 200, "status {}", head.status);
    let body = client.read_to_end()?;
    ensure!((body.len() as u64) < BIG, "the whole file came");
    ensure!(server.get("/")?.status == 200, "the next client");
    Ok(())
}

fn is_slow(step: Step) -> Result<(), Failure> {
    let fixture = Fixture::new()?;
    // The log, which is written to a pipe, and the file, which could lie on another machine.
    let delays = ["write:delay_exit=300000", "openat2:delay_exit=300000"];
    let mut strace = under_strace(step, &delays)?;
    let server = Server::start(strace.args(["--timeout", "0.2"]).arg(fixture.root()))?;
    for _ in 0..3 {
        let answer = server.get("/")?;
        ensure!(answer.status == 200, "status {}", answer.status);
    }
    Ok(())
}

fn says_why(step: Step) -> Result<(), Failure> {
    let fixture = Fixture::new()?;
    for (error, status) in
        [("EMFILE", 503), ("EACCES", 403), ("EIO", 500), ("ENOENT", 404), ("ELOOP", 404)]
    {
        // Only where this file is opened: the folder is opened first, or the server does not start.
        let inner = under_strace(step, &[&format!("openat2:error={error}")])?;
        let mut strace = Command::new(inner.get_program());
        strace.args(["-P", "index.html"]).args(inner.get_args()).stdin(Stdio::null());
        let server = Server::start(strace.arg(fixture.root()))?;
        let answer = server.get("/")?;
        ensure!(answer.status == status, "{error}: status {}, wanted {status}", answer.status);
    }
    // The head has not left when the first read fails, so the client can still be told. A small file
    // might be in memory by then.
    fs::write(fixture.root().join("large.bin"), vec![b'x'; 100_000])?;
    let server = start_with_faults(step, &fixture, &["pread64:error=EIO:when=5+"])?;
    // Strace counts the calls of each thread, and step 10 has some.
    let mut statuses = (0..32).map(|_| server.get("/large.bin").map(|answer| answer.status));
    if step.is_persistent || step.name == "step03-static-files" {
        ensure!(statuses.any(|status| status.is_ok_and(|status| status == 500)), "no 500");
    }
    Ok(())
}

fn sheds(step: Step, injection: &str) -> Result<(), Failure> {
    let fixture = Fixture::new()?;
    let server = start_with_faults(step, &fixture, &[injection])?;
    let statuses: Vec<u16> =
        (0..12).map(|_| server.get("/").map(|answer| answer.status)).collect::<Result<_, _>>()?;
    for status in [200, 503] {
        let count = statuses.iter().filter(|&&seen| seen == status).count();
        ensure!(count >= 4, "{count} answers with {status}: {statuses:?}");
    }
    ensure!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    Ok(())
}

fn loses_only_one(step: Step) -> Result<(), Failure> {
    let fixture = Fixture::new()?;
    let server = start_with_faults(step, &fixture, &["epoll_ctl:error=ENOSPC:when=6+3"])?;
    let mut served = 0;
    for _ in 0..30 {
        let mut client: Client = server.connect()?;
        client.get("/")?;
        served += usize::from(client.answer().is_ok_and(|answer| answer.status == 200));
    }
    ensure!((10..30).contains(&served), "{served} of 30 were served");
    Ok(())
}

/// A step with so many workers whose system calls fail, once so many sockets listen.
fn start_workers(step: Step, injection: &str, workers: &str, listeners: usize) -> Started {
    let fixture = Fixture::new()?;
    let mut strace = under_strace(step, &[injection])?;
    let server = Server::start(strace.args(["--workers", workers]).arg(fixture.root()))?;
    wait_until("all workers listen", PATIENCE, || server.listeners() == listeners)?;
    Ok((server, fixture))
}

fn all_are_served(server: &Server) -> Result<(), Failure> {
    for number in 0..40 {
        ensure!(server.get("/")?.status == 200, "client {number}");
    }
    Ok(())
}

fn loses_a_worker(step: Step) -> Result<(), Failure> {
    // One client brings its worker to its 200th wait. The few others do not bring theirs so far.
    let (server, _site) = start_workers(step, "epoll_wait:error=EBADF:when=200", "4", 4)?;
    let mut client = server.connect()?;
    let mut answers = 0;
    while client.get("/").is_ok() && client.answer().is_ok() {
        answers += 1;
        ensure!(answers < 50_000, "no worker has died");
    }
    let is_named = || server.log().contains(" has ended: Bad file descriptor");
    wait_until("the worker is named", PATIENCE, is_named)?;
    ensure!(server.listeners() == 3, "{} sockets listen", server.listeners());
    all_are_served(&server)
}

fn lacks_a_worker(step: Step) -> Result<(), Failure> {
    let (server, _site) = start_workers(step, "clone3:error=EAGAIN:when=3", "4", 3)?;
    let is_named = || server.log().contains("worker 2 cannot be made: ");
    wait_until("the worker is named", PATIENCE, is_named)?;
    all_are_served(&server)
}

fn is_alone(step: Step, injection: &str) -> Result<(), Failure> {
    let (server, _site) = start_workers(step, injection, "2", 1)?;
    let is_named = || server.log().contains("worker 2 has ended: ");
    wait_until("the worker is named", PATIENCE, is_named)?;
    all_are_served(&server)
}

fn ends(step: Step, injection: &str, words: &str) -> Result<(), Failure> {
    let output = under_strace(step, &[injection])?.args(["--workers", "3"]).output()?;
    let text = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(2), "{}, {text}", output.status);
    ensure!(text.contains(words) && text.ends_with("no worker is left\n"), "{text:?}");
    Ok(())
}

fn survives_the_ring(step: Step) -> Result<(), Failure> {
    let fixture = Fixture::with_big_file()?;
    for error in ["EINTR", "EAGAIN", "EBUSY", "ETIME"] {
        let injection = format!("io_uring_enter:error={error}:when=2+3");
        let server = start_with_faults(step, &fixture, &[&injection])?;
        for _ in 0..20 {
            ensure!(server.get("/")?.status == 200, "{error}: not 200");
        }
        let answer = server.get("/big.bin")?;
        ensure!(answer.body.len() as u64 == BIG, "{error}: {} bytes", answer.body.len());
    }
    Ok(())
}

fn takes_few_calls(step: Step) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let calls = folder.path().join("calls");
    let inner = command(step, &["--quiet"])?;
    let mut strace = Command::new("strace");
    strace.arg("-f").arg("-qq").arg("-o").arg(&calls).arg("-e").arg("trace=io_uring_enter");
    let server = Server::start(strace.arg(inner.get_program()).args(inner.get_args()))?;
    let mut clients: Vec<Client> = (0..64).map(|_| server.connect()).collect::<Result<_, _>>()?;
    let mut ask = || -> Result<usize, Failure> {
        let before = fs::read_to_string(&calls)?.matches("io_uring_enter(").count();
        // While strace is stopped, so is the server at its next call: all requests wait together.
        server.signal(Signal::SIGSTOP)?;
        clients.iter_mut().try_for_each(|client| client.get("/"))?;
        server.signal(Signal::SIGCONT)?;
        for client in &mut clients {
            ensure!(client.answer()?.status == 200, "not 200");
        }
        Ok(fs::read_to_string(&calls)?.matches("io_uring_enter(").count() - before)
    };
    ask()?;
    let count = ask()?;
    ensure!(count <= 20, "{count} calls for 64 answers");
    Ok(())
}
