//! The kernel says no: system calls that fail, by strace's injection.
//!
//! Needs Debian's strace. Where it is missing, the tests are listed as ignored.

use std::fs;
use std::process::Command;

use check::{Client, Failure, Fixture, Server};
use libtest_mimic::Trial;
use tests::{STEPS, Step, command, ensure, trial};

/// What accept(2) can fail with although nothing is wrong with the server.
const ACCEPT_ERRORS: [&str; 8] =
    ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "EINTR", "EPROTO", "EPERM"];

/// Every call that a server waits, reads or writes with.
const INTERRUPTIBLE: &str = "accept4,recvfrom,sendto,poll,epoll_wait,openat2";

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
        }
        match step.name {
            "step04-fork" => add(step, "answers 503 when fork fails", |step| {
                sheds(step, "clone,clone3,fork,vfork:error=EAGAIN:when=2+2")
            }),
            "step05-threads" => add(step, "answers 503 when no thread can be made", |step| {
                sheds(step, "clone3:error=EAGAIN:when=2+2")
            }),
            "step06-coroutines" | "step09-epoll" => {
                add(step, "loses one client when epoll_ctl fails", loses_only_one)
            }
            _ => {}
        }
    }
    libtest_mimic::run(&tests::arguments(4), trials).exit();
}

/// A step whose system calls fail as `injections` say: strace's words, such as
/// `accept4:error=EMFILE:when=2+3`. A when counts calls of each thread.
fn start_with_faults(
    step: Step,
    fixture: &Fixture,
    injections: &[&str],
) -> Result<Server, Failure> {
    let inner = command(step, &["--quiet"])?;
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null"]);
    let calls: Vec<&str> = injections
        .iter()
        .map(|injection| injection.split(':').next().unwrap_or_default())
        .collect();
    strace.args(["-e", &format!("trace={}", calls.join(","))]);
    for injection in injections {
        strace.args(["-e", &format!("inject={injection}")]);
    }
    strace.arg(inner.get_program()).args(inner.get_args()).stdin(std::process::Stdio::null());
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
    // The dynamic loader reads too, before main, and does not expect a signal.
    let server = start_with_faults(
        step,
        &fixture,
        &[&injection, "read,write,pread64,sendfile:error=EINTR:when=60+2"],
    )?;
    for _ in 0..60 {
        let answer = server.get("/")?;
        ensure!(answer.status == 200, "status {}", answer.status);
    }
    if step.serves_files {
        let answer = server.get("/big.bin")?;
        let is_whole =
            (0_u64..).zip(&answer.body).all(|(at, byte)| *byte == check::fixture::big_byte(at));
        ensure!(answer.body.len() as u64 == check::fixture::BIG && is_whole, "bytes are wrong");
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
    ensure!((body.len() as u64) < check::fixture::BIG, "the whole file came");
    ensure!(server.get("/")?.status == 200, "the next client");
    Ok(())
}

fn says_why(step: Step) -> Result<(), Failure> {
    let fixture = Fixture::new()?;
    for (error, status) in
        [("EMFILE", 503), ("EACCES", 403), ("EIO", 500), ("ENOENT", 404), ("ELOOP", 404)]
    {
        let server = start_with_faults(step, &fixture, &[&format!("openat2:error={error}")])?;
        let answer = server.get("/")?;
        ensure!(answer.status == status, "{error}: status {}, wanted {status}", answer.status);
    }
    // The head has not left when the first read fails, so the client can still be told. A small file
    // might be in memory by then.
    fs::write(fixture.root().join("large.bin"), vec![b'x'; 100_000])?;
    let server = start_with_faults(step, &fixture, &["pread64:error=EIO:when=5+"])?;
    let mut statuses = (0..8).map(|_| server.get("/large.bin").map(|answer| answer.status));
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
