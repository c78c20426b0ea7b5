//! Slow, greedy and vanishing clients, files that change while they are sent, and long runs.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use check::fixture::{BIG, SECRET, wrong_in_big};
use check::{Client, Failure, Fixture, Server, wait_until};
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, send, setsockopt, sockopt};
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
    libtest_mimic::run(&tests::arguments(12), tests::where_possible(trials)).exit();
}

const FILES: [Scenario; 23] = [
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
    ("urgent data in the middle of a request does not hold it up", |step| {
        let server = start(step, &["--timeout", "40"])?;
        let mut client = server.connect()?;
        // Stopped, so that all of it is there at the server's next look.
        server.signal_group(Signal::SIGSTOP)?;
        client.send("GET / HTTP/1.1\r\nHo")?;
        send(client.stream().as_raw_fd(), b"!", MsgFlags::MSG_OOB)?;
        client.send("st: h\r\nConnection: close\r\n\r\n")?;
        server.signal_group(Signal::SIGCONT)?;
        let start = Instant::now();
        ensure!(client.answer()?.status == 200, "not 200");
        ensure!(start.elapsed() < Duration::from_secs(20), "only after {:?}", start.elapsed());
        Ok(())
    }),
    ("what has come while the server slept is read before its deadline counts", |step| {
        let server = start(step, &["--timeout", "1"])?;
        let mut client = asleep(&server, || {
            let mut client = server.connect()?;
            client.send("GET / HTTP/1.1\r\n")?;
            Ok(client)
        })?;
        client.send("Host: h\r\n\r\n")?;
        sleep_on(&server, || {})?;
        let status = client.answer()?.status;
        ensure!(status == 200, "status {status}");
        Ok(())
    }),
    ("a download goes on after the server has slept", |step| {
        let fixture = Fixture::with_big_file()?;
        let server = start_with(step, &fixture, &["--timeout", "1"])?;
        let mut client = asleep(&server, || {
            let mut client = server.connect()?;
            client.get("/big.bin")?;
            client.read_head()?;
            Ok(client)
        })?;
        // The client takes all that is on its way, so it is not the one that is slow.
        let mut length = 0;
        client.stream().set_nonblocking(true)?;
        sleep_on(&server, || length += client.stream().read(&mut [0; 65_536]).unwrap_or(0))?;
        client.stream().set_nonblocking(false)?;
        let length = (length + client.read_to_end()?.len()) as u64;
        ensure!(length == BIG, "{length} bytes");
        Ok(())
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
        let names = [
            "edited",
            "replaced",
            "renamed",
            "removed",
            "relinked",
            "moved_out",
            "folder/moved",
            "other_folder/moved_out",
        ];
        fs::create_dir(root.join("folder"))?;
        fs::create_dir(root.join("other_folder"))?;
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
        // The very same files, but the way to them leads out of the site now.
        for name in ["moved_out", "other_folder"] {
            fs::rename(root.join(name), root.join("..").join(name))?;
            symlink(format!("../{name}"), root.join(name))?;
        }
        for name in ["edited", "replaced"] {
            ensure!(server.get(&format!("/{name}"))?.body == b"new", "{name} is still old");
        }
        for name in &names[2..] {
            let status = server.get(&format!("/{name}"))?.status;
            ensure!(status == 404, "{name}: status {status}");
        }
        Ok(())
    }),
    ("a folder that takes the place of ROOT is served at once", |step| {
        let folder = tempfile::tempdir()?;
        let folder = folder.path();
        for release in ["one", "two"] {
            fs::create_dir_all(folder.join(release).join("sub"))?;
            for name in ["page", "sub/page"] {
                fs::write(folder.join(release).join(name), release)?;
            }
        }
        fs::create_dir(folder.join("two/new"))?;
        fs::write(folder.join("two/new/page"), "two")?;
        let switch = |release: &str| -> Outcome {
            symlink(release, folder.join("next"))?;
            fs::rename(folder.join("next"), folder.join("current"))?;
            Ok(())
        };
        switch("one")?;
        // A path that is relative is so to the folder that the server was started in.
        let mut command = tests::command(step, &["--quiet"])?;
        let server = Server::start(command.current_dir(folder).arg("current"))?;
        let rest = Instant::now() + Duration::from_secs(5);
        wait_until("the files have been at rest", PATIENCE, || Instant::now() >= rest)?;
        let all_are = |names: &[&str], release: &str| -> Outcome {
            for name in names.iter().cycle().take(3 * names.len()) {
                let answer = server.get(&format!("/{name}"))?;
                ensure!(answer.body == release.as_bytes(), "{name} of {release}: {answer:?}");
            }
            Ok(())
        };
        all_are(&["page", "sub/page"], "one")?;
        switch("two")?;
        all_are(&["page", "sub/page", "new/page"], "two")?;
        fs::remove_dir_all(folder.join("two"))?;
        ensure!(server.get("/page")?.status == 404, "there is nothing to serve");
        fs::create_dir(folder.join("two"))?;
        fs::write(folder.join("two/page"), "anew")?;
        all_are(&["page"], "anew")
    }),
    ("a tag is the same on every machine, and weak until the file has been at rest", |step| {
        let get = |server: &Server, field: &str| -> Result<check::Answer, Failure> {
            let mut client = server.connect()?;
            client.send(format!("GET /page HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n"))?;
            client.answer()
        };
        let tag = |answer: &check::Answer| answer.field("etag").unwrap_or("no tag").to_owned();
        // Two files with the same bytes and time are what two machines have of one site.
        let fixtures = [Fixture::new()?, Fixture::new()?];
        let servers: Vec<Server> = fixtures
            .iter()
            .map(|fixture| start_with(step, fixture, &["--quiet"]))
            .collect::<Result<_, _>>()?;
        let write = |text: &str, time: SystemTime| -> Outcome {
            for fixture in &fixtures {
                fs::write(fixture.root().join("page"), text)?;
                fs::File::open(fixture.root().join("page"))?.set_modified(time)?;
            }
            Ok(())
        };
        write("old", SystemTime::now() - Duration::from_secs(100))?;
        let old = tag(&get(&servers[0], "")?);
        ensure!(old.starts_with('"'), "{old} is not strong");
        ensure!(tag(&get(&servers[1], "")?) == old, "not {old} on the other machine");
        let part = get(&servers[1], &format!("Range: bytes=0-0\r\nIf-Range: {old}"))?;
        ensure!(part.status == 206, "status {} for a part of {old}", part.status);
        // Two versions within one tick of the clock behind a file's times.
        let now = SystemTime::now();
        write("one", now)?;
        let fresh = tag(&get(&servers[0], "")?);
        ensure!(fresh.starts_with("W/"), "{fresh} is not weak");
        write("two", now)?;
        let part = get(&servers[0], &format!("Range: bytes=0-0\r\nIf-Range: {fresh}"))?;
        ensure!(part.body == b"two", "a part of {fresh}: {part:?}");
        wait_until("the tag is strong", PATIENCE, || {
            get(&servers[0], "").is_ok_and(|answer| tag(&answer).starts_with('"'))
        })?;
        let answer = get(&servers[0], &format!("If-None-Match: {fresh}"))?;
        ensure!(answer.body == b"two", "the first version is still shown: {answer:?}");
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

const PERSISTENT: [Scenario; 7] = [
    ("the end that comes with the last of many requests is seen at once", |step| {
        let server = start(step, &["--quiet", "--timeout", "40"])?;
        // With one of these lengths, a few requests are left for the server's last read.
        for length in 1..=10 {
            let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "h".repeat(length));
            let mut client = server.connect()?;
            client.send(&request)?;
            client.answer()?;
            // Stopped, so that all of it is there at the server's next look.
            server.signal(Signal::SIGSTOP)?;
            client.send(request.repeat(70))?;
            client.finish()?;
            server.signal(Signal::SIGCONT)?;
            let start = Instant::now();
            for _ in 0..70 {
                ensure!(client.answer()?.status == 200, "not 200");
            }
            ensure!(client.read_to_end()?.is_empty(), "more than 70 answers");
            let time = start.elapsed();
            ensure!(time < Duration::from_secs(20), "length {length}: only after {time:?}");
        }
        Ok(())
    }),
    ("a bad request is the last of its connection, whatever is bad about it", |step| {
        let server = start(step, &[])?;
        for target in ["/%zz", "/%", "/#", "nothing"] {
            let mut client = server.connect()?;
            client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"))?;
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")?;
            let status = client.answer()?.status;
            ensure!(status == 400, "{target}: status {status}");
            ensure!(client.read_to_end()?.is_empty(), "{target}: the connection goes on");
        }
        Ok(())
    }),
    ("two thousand clients with a byte each hold no buffers that were for answers", |step| {
        let fixture = Fixture::new()?;
        fs::write(fixture.root().join("60k.html"), vec![b'x'; 60_000])?;
        let server = start_with(step, &fixture, &["--quiet", "--timeout", "60"])?;
        let mut reader = server.connect()?;
        let mut read = || -> Outcome {
            reader.get("/60k.html")?;
            ensure!(reader.answer()?.body.len() == 60_000, "not the page");
            Ok(())
        };
        read()?;
        let before = server.memory();
        let clients: Vec<Client> = (0..2000)
            .map(|_| {
                let mut client = server.connect()?;
                client.send("G")?;
                read()?;
                Ok(client)
            })
            .collect::<Result<_, Failure>>()?;
        // Whoever came before has been read when this one has its answer.
        serves(&server)?;
        let each = server.memory().saturating_sub(before) / clients.len() as u64;
        ensure!(each < 8, "{each} KiB for each client");
        Ok(())
    }),
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
    ("many clients that send much at once are all answered", |step| {
        let server = start(step, &["--quiet"])?;
        let mut clients: Vec<Client> =
            (0..40).map(|_| server.connect()).collect::<Result<_, _>>()?;
        serves(&server)?;
        // Stopped, so that all of it is there together: more than a server has room for at a time.
        server.signal(Signal::SIGSTOP)?;
        let body = "x".repeat(50_000);
        for client in &mut clients {
            client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 50000\r\n\r\n")?;
            client.send(&body)?;
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")?;
        }
        server.signal(Signal::SIGCONT)?;
        for client in &mut clients {
            let statuses = [client.answer()?.status, client.answer()?.status];
            ensure!(statuses == [405, 200], "{statuses:?}");
        }
        Ok(())
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
    body.len() as u64 == BIG && wrong_in_big(0, body).is_none()
}

/// Begins something with a client and stops the server in the midst of it, with SIGSTOP. Begins again where
/// that has taken too long on a busy machine: no timeout of a second may be over before the server sleeps.
fn asleep(server: &Server, begin: impl Fn() -> Result<Client, Failure>) -> Result<Client, Failure> {
    for _ in 0..20 {
        let start = Instant::now();
        let begun = begin();
        server.signal_group(Signal::SIGSTOP)?;
        if start.elapsed() < Duration::from_millis(500) {
            return begun;
        }
        server.signal_group(Signal::SIGCONT)?;
    }
    Err("this machine is too busy".into())
}

/// Lets a stopped server sleep for longer than a timeout of a second, and wakes it.
fn sleep_on(server: &Server, mut meanwhile: impl FnMut()) -> Outcome {
    let start = Instant::now();
    wait_until("the timeout is over", PATIENCE, || {
        meanwhile();
        start.elapsed() > Duration::from_secs(2)
    })?;
    server.signal_group(Signal::SIGCONT)
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
