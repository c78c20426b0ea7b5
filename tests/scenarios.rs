//! Slow, greedy and vanishing clients, files that change while they are sent, and long runs.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use check::fixture::{BIG, SECRET, big_byte};
use check::{Client, Failure, Fixture, Server, wait_until};
use nix::sys::socket::{setsockopt, sockopt};
use tests::{STEPS, Step, ensure, raise_descriptor_limit, start, start_with, trial};

/// A bound for what hangs; nothing here is a measurement.
const PATIENCE: Duration = Duration::from_secs(60);

type Outcome = Result<(), Failure>;
type Scenario = (&'static str, fn(Step) -> Outcome);

fn main() {
    raise_descriptor_limit();
    let mut trials = Vec::new();
    for step in STEPS.into_iter().filter(|step| step.serves_files) {
        let own: &[Scenario] = if step.is_persistent { &PERSISTENT } else { &[] };
        trials.extend(FILES.iter().chain(own).map(|&(name, run)| trial(step, name, run)));
    }
    libtest_mimic::run(&tests::arguments(4), trials).exit();
}

const FILES: [Scenario; 18] = [
    ("a byte now and then does not put off the end of a head", |step| {
        let server = start(step, &["--timeout", "1"])?;
        let mut slow = server.connect()?;
        let start = Instant::now();
        let came =
            drip(&mut slow, b"GET / HTTP/1.1\r\nHost: h\r\nX: ", Duration::from_millis(100))?;
        ensure!(came.starts_with(b"HTTP/1.1 408 "), "{}", came.escape_ascii());
        ensure!(start.elapsed() < Duration::from_secs(5), "only after {:?}", start.elapsed());
        serves(&server)
    }),
    ("good clients are served while others drip", |step| {
        if !step.is_concurrent {
            return Ok(());
        }
        let server = start(step, &["--timeout", "3"])?;
        let mut slow: Vec<Client> = (0..50).map(|_| server.connect()).collect::<Result<_, _>>()?;
        for byte in b"GET / HTTP/1.1\r\nX: " {
            for client in &mut slow {
                client.send([*byte])?;
            }
            serves(&server)?;
        }
        Ok(())
    }),
    ("a client that never reads is let go", |step| {
        let fixture = Fixture::with_big_file()?;
        let server = start_with(step, &fixture, &["--timeout", "1"])?;
        let mut client = server.connect()?;
        client.get("/big.bin")?;
        wait_until("the log says so", PATIENCE, || server.log().contains("too slow"))?;
        wait_until("its child is gone", PATIENCE, || server.children().is_empty())?;
        serves(&server)
    }),
    ("a client that reads a byte now and then is let go", |step| {
        let fixture = Fixture::with_big_file()?;
        let server = start_with(step, &fixture, &["--timeout", "1"])?;
        let mut client = server.connect()?;
        setsockopt(client.stream(), sockopt::RcvBuf, &8192)?;
        client.get("/big.bin")?;
        let mut seconds = 0;
        while !server.log().contains("too slow") {
            client.stream().read_exact(&mut [0; 64])?;
            // Waiting for what does not come is a way to let time pass.
            let mut silent = server.connect()?;
            silent.stream().set_read_timeout(Some(Duration::from_millis(200)))?;
            let _ = silent.stream().read(&mut [0]);
            seconds += 1;
            ensure!(seconds < 100, "still there");
        }
        serves(&server)
    }),
    ("a client that has finished sending still gets all of its answer", |step| {
        let fixture = Fixture::with_big_file()?;
        let server = start_with(step, &fixture, &[])?;
        let mut client = server.connect()?;
        client.get("/big.bin")?;
        client.finish()?;
        let answer = client.answer()?;
        ensure!(is_big(&answer.body), "not the file: {} bytes", answer.body.len());
        ensure!(client.read_to_end()?.is_empty(), "no end");
        Ok(())
    }),
    ("a request that is cut off ends the connection", |step| {
        let server = start(step, &[])?;
        for request in [
            "GET / HTTP/1.1\r\nHost: h",
            "GE",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        ] {
            let mut client = server.connect()?;
            client.send(request)?;
            client.finish()?;
            let came = client.read_to_end()?;
            let came = String::from_utf8_lossy(&came);
            ensure!(!came.starts_with("HTTP/1.1 200"), "{request:?} was answered with 200");
            let answers = came.matches("HTTP/1.1 ").count();
            ensure!(answers <= 1, "{request:?} was answered {answers} times");
        }
        serves(&server)
    }),
    ("bytes that come after the last request do not destroy its answer", |step| {
        let fixture = Fixture::with_big_file()?;
        let server = start_with(step, &fixture, &[])?;
        let mut client = server.connect()?;
        setsockopt(client.stream(), sockopt::RcvBuf, &(64 * 1024))?;
        client.send("GET /1k.bin HTTP/1.0\r\n\r\n")?;
        client.send("GET /index.html HTTP/1.0\r\n\r\n")?;
        ensure!(client.answer()?.body.len() == 1000, "not the whole answer");
        let mut client = server.connect()?;
        setsockopt(client.stream(), sockopt::RcvBuf, &(64 * 1024))?;
        client.send("GET /big.bin HTTP/1.0\r\n\r\n")?;
        client.read_head()?;
        client.send("GET /index.html HTTP/1.0\r\n\r\n")?;
        ensure!(is_big(&client.read_to_end()?), "not the whole file");
        Ok(())
    }),
    ("after a refusal the server reads on for seconds, not for the timeout", |step| {
        let server = start(step, &["--timeout", "40"])?;
        let mut client = server.connect()?;
        client.send("BAD\r\n\r\n")?;
        ensure!(client.answer()?.status == 400, "not 400");
        let start = Instant::now();
        wait_until("the server lets go", PATIENCE, || client.send("x").is_err())?;
        ensure!(start.elapsed() < Duration::from_secs(20), "only after {:?}", start.elapsed());
        serves(&server)
    }),
    ("an endless line is refused before it fills the memory", |step| {
        let server = start(step, &["--quiet"])?;
        serves(&server)?;
        let before = server.peak_memory();
        for start in ["", "GET / HTTP/1.1\r\nX: "] {
            let mut client = server.connect()?;
            client.send(start)?;
            let _ = client.send(vec![b'A'; 1 << 20]);
            let status = client.answer()?.status;
            ensure!(matches!(status, 414 | 431), "status {status}");
        }
        let grown = server.peak_memory().saturating_sub(before);
        ensure!(grown < 1024, "{grown} KiB for one connection");
        Ok(())
    }),
    ("a hundred slow readers of 64 MiB cost a few MiB", |step| {
        let fixture = Fixture::with_big_file()?;
        let server = start_with(step, &fixture, &["--quiet"])?;
        serves(&server)?;
        let before = server.peak_memory();
        let readers: Vec<Client> = (0..100)
            .map(|_| {
                let mut client = server.connect()?;
                client.get("/big.bin")?;
                if step.is_concurrent {
                    client.read_head()?;
                }
                Ok(client)
            })
            .collect::<Result<_, Failure>>()?;
        if step.is_concurrent {
            serves(&server)?;
        }
        let grown = server.peak_memory().saturating_sub(before);
        // A chunk of 64 KiB each, and for a thread or a coroutine some pages of stack.
        ensure!(grown < 100 * 160, "{grown} KiB for 100 readers");
        drop(readers);
        serves(&server)
    }),
    ("a file that shrinks cuts the answer short, and nothing else", |step| {
        let fixture = Fixture::with_big_file()?;
        let server = start_with(step, &fixture, &[])?;
        let mut client = server.connect()?;
        client.get("/big.bin")?;
        client.read_head()?;
        OpenOptions::new().write(true).open(fixture.root().join("big.bin"))?.set_len(1000)?;
        let body = client.read_to_end()?;
        ensure!((body.len() as u64) < BIG, "the whole file came");
        serves(&server)
    }),
    ("a file that grows is sent as long as it was", |step| {
        let fixture = Fixture::with_big_file()?;
        let server = start_with(step, &fixture, &[])?;
        let mut client = server.connect()?;
        client.get("/big.bin")?;
        let head = client.read_head()?;
        OpenOptions::new().write(true).open(fixture.root().join("big.bin"))?.set_len(BIG + 1000)?;
        ensure!(head.field("content-length") == Some(&BIG.to_string()), "{head:?}");
        client.finish()?;
        ensure!(is_big(&client.read_to_end()?), "not the file's first {BIG} bytes");
        Ok(())
    }),
    ("a file that is replaced is sent in its old version", |step| {
        let fixture = Fixture::with_big_file()?;
        let server = start_with(step, &fixture, &[])?;
        let mut client = server.connect()?;
        client.get("/big.bin")?;
        client.read_head()?;
        fs::write(fixture.root().join("new"), "new\n")?;
        fs::rename(fixture.root().join("new"), fixture.root().join("big.bin"))?;
        client.finish()?;
        ensure!(is_big(&client.read_to_end()?), "not the old version");
        let mut client = server.connect()?;
        client.get("/big.bin")?;
        ensure!(client.answer()?.body == b"new\n", "not the new version");
        Ok(())
    }),
    ("every edit of a small file shows at once", |step| {
        let fixture = Fixture::new()?;
        let page = fixture.root().join("page.html");
        let server = start_with(step, &fixture, &["--quiet"])?;
        for version in 0..200 {
            let text = format!("version {version:04}");
            fs::write(&page, &text)?;
            ensure!(server.get("/page.html")?.body == text.as_bytes(), "not {text}");
        }
        Ok(())
    }),
    ("a change to a file that has been at rest shows at once", |step| {
        let fixture = Fixture::new()?;
        let root = fixture.root();
        let server = start_with(step, &fixture, &["--quiet"])?;
        let names = ["edited", "replaced", "renamed", "removed", "relinked", "folder/moved"];
        fs::create_dir(root.join("folder"))?;
        for name in names {
            fs::write(root.join(name), "old")?;
        }
        fs::remove_file(root.join("relinked"))?;
        symlink("index.html", root.join("relinked"))?;
        let rest = Instant::now() + Duration::from_secs(5);
        wait_until("the files have been at rest", PATIENCE, || Instant::now() >= rest)?;
        for name in names.iter().cycle().take(3 * names.len()) {
            ensure!(server.get(&format!("/{name}"))?.status == 200, "{name} is not there");
        }
        fs::write(root.join("edited"), "new")?;
        fs::write(root.join("other"), "new")?;
        fs::rename(root.join("other"), root.join("replaced"))?;
        fs::rename(root.join("renamed"), root.join("elsewhere"))?;
        fs::remove_file(root.join("removed"))?;
        symlink("../secret.txt", root.join("new_link"))?;
        fs::rename(root.join("new_link"), root.join("relinked"))?;
        fs::rename(root.join("folder"), root.join("elsewhere_too"))?;
        for name in ["edited", "replaced"] {
            ensure!(server.get(&format!("/{name}"))?.body == b"new", "{name} is still old");
        }
        for name in ["renamed", "removed", "relinked", "folder/moved"] {
            let status = server.get(&format!("/{name}"))?.status;
            ensure!(status == 404, "{name}: status {status}");
        }
        Ok(())
    }),
    ("a link that changes while it is followed never leads out", |step| {
        let fixture = Fixture::new()?;
        let root = fixture.root();
        let server = start_with(step, &fixture, &["--quiet"])?;
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let swapper = scope.spawn(|| -> std::io::Result<()> {
                let mut targets = ["index.html", "../secret.txt"].iter().cycle();
                while !done.load(Ordering::Relaxed) {
                    symlink(targets.next().unwrap_or(&""), root.join("new_link"))?;
                    fs::rename(root.join("new_link"), root.join("swapped"))?;
                }
                Ok(())
            });
            let asked = (0..2000).try_for_each(|_| -> Outcome {
                let mut client = server.connect()?;
                client.get("/swapped")?;
                let answer = client.answer()?;
                ensure!(
                    !answer.body.windows(SECRET.len()).any(|part| part == SECRET),
                    "the secret came"
                );
                ensure!(matches!(answer.status, 200 | 404), "status {}", answer.status);
                Ok(())
            });
            done.store(true, Ordering::Relaxed);
            swapper.join().map_err(|_| "the swapper panicked")??;
            asked
        })
    }),
    ("a file that may not be read is 403", |step| {
        let fixture = Fixture::new()?;
        let file = fixture.root().join("index.html");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o000))?;
        let is_root = nix::unistd::geteuid().is_root();
        let server = if is_root {
            // Root may read everything. The program goes where anybody can start it.
            fs::set_permissions(fixture.outside(), fs::Permissions::from_mode(0o755))?;
            let program = fixture.outside().join("server");
            fs::copy(tests::program(step.name)?, &program)?;
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
            command.args(["--port", "0"]).arg(fixture.root()).stdin(std::process::Stdio::null());
            Server::start(&mut command)?
        } else {
            start_with(step, &fixture, &[])?
        };
        let mut client = server.connect()?;
        client.get("/index.html")?;
        let status = client.answer()?.status;
        ensure!(status == 403, "status {status}");
        Ok(())
    }),
    ("endurance: many requests leave nothing behind", |step| {
        // CI asks for 100,000.
        let requests: u64 = std::env::var("REQUESTS").map_or(Ok(4000), |number| number.parse())?;
        let mut server = start(step, &["--quiet"])?;
        ask(&server, step, 1000)?;
        let settled = |server: &Server| (server.descriptors(), server.children().len());
        let mut before = (0, 0);
        wait_until("the server has settled", PATIENCE, || {
            let last = std::mem::replace(&mut before, settled(&server));
            before == last && before.1 == 0
        })?;
        let (threads, memory) = (server.threads(), server.memory());
        ask(&server, step, requests)?;
        wait_until("descriptors and children are as before", PATIENCE, || {
            settled(&server) <= before
        })?;
        wait_until("threads are as before", PATIENCE, || server.threads() <= threads)?;
        let grown = server.memory().saturating_sub(memory);
        ensure!(grown < 1024, "{grown} KiB more after {requests} requests");
        ensure!(server.is_alive(), "the server has ended");
        Ok(())
    }),
];

const PERSISTENT: [Scenario; 3] = [
    ("a slow body is answered at once and ended by the deadline", |step| {
        let server = start(step, &["--timeout", "1"])?;
        let mut client = server.connect()?;
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n")?;
        ensure!(client.answer()?.status == 405, "not 405");
        let start = Instant::now();
        drip(&mut client, b"", Duration::from_millis(100))?;
        ensure!(start.elapsed() < Duration::from_secs(5), "only after {:?}", start.elapsed());
        Ok(())
    }),
    ("200,000 pipelined requests that are never answered for fill no memory", |step| {
        let server = start(step, &["--quiet", "--timeout", "60"])?;
        serves(&server)?;
        let before = server.peak_memory();
        let mut client = server.connect()?;
        client.stream().set_write_timeout(Some(Duration::from_secs(2)))?;
        let requests = "GET /news.html HTTP/1.1\r\nHost: h\r\n\r\n".repeat(200_000);
        let sent = client.send(requests);
        let is_stopped = sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        ensure!(is_stopped, "not stopped by a full socket: {sent:?}");
        let grown = server.peak_memory().saturating_sub(before);
        ensure!(grown < 1024, "{grown} KiB");
        serves(&server)
    }),
    ("any cut of a pipeline gives the same answers", |step| {
        let server = start(step, &["--quiet"])?;
        let bytes = b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\nGET /nope HTTP/1.1\r\nHost: h\r\n\r\n";
        for cut in 0..bytes.len() {
            let mut client = server.connect()?;
            client.send(&bytes[..cut])?;
            serves(&server)?;
            client.send(&bytes[cut..])?;
            let statuses = [client.answer()?.status, client.answer()?.status];
            ensure!(statuses == [200, 404], "cut at {cut}: {statuses:?}");
        }
        Ok(())
    }),
];

fn serves(server: &Server) -> Outcome {
    let status = server.get("/")?.status;
    ensure!(status == 200, "status {status}");
    Ok(())
}

fn is_big(body: &[u8]) -> bool {
    body.len() as u64 == BIG && (0_u64..).zip(body).all(|(at, byte)| *byte == big_byte(at))
}

/// Sends a byte each time nothing has come for a while, until the server ends the connection; then
/// goes on with the letter x. Returns what came.
fn drip(client: &mut Client, bytes: &[u8], pause: Duration) -> Result<Vec<u8>, Failure> {
    client.stream().set_read_timeout(Some(pause))?;
    let mut bytes = bytes.iter().copied().chain(std::iter::repeat(b'x'));
    let mut came = Vec::new();
    for _ in 0..600 {
        let mut buffer = [0; 4096];
        match client.stream().read(&mut buffer) {
            Ok(0) => return Ok(came),
            Ok(length) => came.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let _ = client.send([bytes.next().unwrap_or(b'x')]);
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(came),
            Err(error) => return Err(error.into()),
        }
    }
    Err("the connection stays open".into())
}

/// Asks for a page so many times, as fast as one client can.
fn ask(server: &Server, step: Step, requests: u64) -> Outcome {
    if !step.is_persistent {
        return (0..requests).try_for_each(|_| serves(server));
    }
    let mut client = server.connect()?;
    for _ in 0..requests {
        client.get("/")?;
        ensure!(client.answer()?.status == 200, "not 200");
    }
    Ok(())
}
