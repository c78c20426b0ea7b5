//! The lab runs, measures what it says, and leaves nothing behind. What the figures are is not tested.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, thread};

use check::processes::tree;
use check::{Failure, Step, wait_until};
use libtest_mimic::{Failed, Trial};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::tcgetattr;
use nix::unistd::{Pid, geteuid};
use serde_json::Value;
use tempfile::TempDir;
use tests::{ensure, raise_descriptor_limit, start};

const PATIENCE: Duration = Duration::from_secs(120);

type Outcome = Result<(), Failure>;
type Check = fn() -> Outcome;

fn main() {
    // As a server for one of the tests.
    if let [_, word, port] = &env::args().collect::<Vec<_>>()[..]
        && word == HANGS
    {
        return hang_one(port);
    }
    raise_descriptor_limit();
    let has_strace = Command::new("strace").arg("-V").output().is_ok();
    let checks: [(&str, Check); 13] = [
        ("stall tells the models apart", stall),
        ("bench measures what is named, and writes it down", bench),
        ("bench measures a server of somebody else's", with),
        ("idle tells the models apart", idle),
        ("timeline draws eight clients", timeline),
        ("a signal leaves no server behind and keeps what was measured", interrupted),
        ("one connection that hangs does not lengthen the time", hanging),
        ("who answers nothing has no figures", no_answers),
        ("nothing is left of a server that makes folders and goes into the background", untidy),
        ("strace counts where the kernel does not (needs strace)", counted_by_strace),
        ("watch shows the inside of a server as text", watched_as_text),
        ("watch draws in a terminal, and leaves it as it was", watched_in_a_terminal),
        ("says what to type instead of what it does not know", unknown_words),
    ];
    let trials = checks.into_iter().map(|(name, run)| {
        Trial::test(format!("lab: {name}"), move || run().map_err(|e| Failed::from(e.to_string())))
            .with_ignored_flag(name.contains("strace") && !has_strace)
    });
    libtest_mimic::run(&tests::arguments(7), trials.collect()).exit();
}

fn lab(arguments: &[&str]) -> Result<Command, Failure> {
    let mut command = Command::new(tests::program("lab")?);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

fn succeed(arguments: &[&str]) -> Result<String, Failure> {
    let Output { status, stdout, stderr } = lab(arguments)?.output()?;
    ensure!(status.success(), "{status}: {}", String::from_utf8_lossy(&stderr));
    Ok(String::from_utf8(stdout)?)
}

fn bench() -> Outcome {
    let folder = TempDir::new()?;
    let out = folder.path().join("new/report");
    let out_word = out.to_str().ok_or("no name")?;
    let few = ["--seconds", "0.5", "--rounds", "1", "--connections", "4", "--out", out_word];
    let text =
        succeed(&[&["bench", "floor-accept", "03", "step04", "step09-epoll"], &few[..]].concat())?;
    let results: Value = serde_json::from_slice(&fs::read(out.join("results.json"))?)?;
    let tables = results["tables"].as_array().ok_or("no tables")?;
    // Three pages, once each; and three persistent ones, which only step 09 can do.
    ensure!(tables.len() == 6, "{} tables", tables.len());
    for table in tables {
        let rows = table["rows"].as_array().ok_or("no rows")?;
        let persistent = table["workload"]["persistent"] == true;
        ensure!(rows.len() == if persistent { 1 } else { 4 }, "{} rows", rows.len());
        for row in rows {
            ensure!(row["answers"].as_u64() > Some(0), "no answer: {row}");
            ensure!(row["errors"] == 0, "errors: {row}");
            ensure!(row["latency_us_max"].as_u64() >= row["latency_us_p50"].as_u64(), "{row}");
        }
    }
    ensure!(text.contains("step09-epoll") && text.contains("CPU µs"), "{text}");
    let csv = fs::read_to_string(out.join("bench.csv"))?;
    ensure!(csv.lines().count() == 1 + 3 * 4 + 3, "{csv}");
    let page = fs::read_to_string(out.join("report.html"))?;
    ensure!(page.matches("<svg").count() == 6, "not six pictures");
    ensure!(!page.contains("src=") && !page.contains("href="), "the page needs other files");
    let summary = page.find("The short answer").ok_or("no summary")?;
    ensure!(page.find("<svg") > Some(summary), "the summary does not come first");
    ensure!(page[summary..].contains("step04-fork</td>"), "nothing is in the summary");
    ensure!(page.contains("prefers-color-scheme: dark"), "it is never dark");
    Ok(())
}

fn with() -> Outcome {
    let program = tests::program("step08-persistent")?;
    let server = format!("other={} --quiet --port {{port}} {{root}}", program.display());
    let few = ["--seconds", "0.4", "--rounds", "2", "--connections", "2", "--idle", "10"];
    let only = ["--only", "picture", "--only", "persistent"];
    let text = succeed(&[&["bench", "step09", "--with", &server], &few[..], &only].concat())?;
    ensure!(text.matches("other ").count() == 1 && text.contains("10 idle beside"), "{text}");
    ensure!(!text.contains("small page"), "{text}");
    Ok(())
}

fn idle() -> Outcome {
    let idle = succeed(&["idle", "step05", "step09", "--connections", "20"])?;
    let words = |name: &str| -> Vec<String> {
        let line = idle.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    };
    let (threads, epoll) = (words("step05-threads"), words("step09-epoll"));
    // Name, connections, held, KiB each, processes, threads.
    ensure!(threads[1..3] == ["20", "20"] && threads[4..6] == ["1", "21"], "{idle}");
    ensure!(epoll[1..3] == ["20", "20"] && epoll[4..6] == ["1", "1"], "{idle}");
    Ok(())
}

fn stall() -> Outcome {
    let stall = succeed(&["stall", "step03", "step09"])?;
    let line = |name: &str| stall.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    ensure!(line("step03-static-files").ends_with("> 5 s"), "{stall}");
    ensure!(!line("step09-epoll").contains('>'), "{stall}");
    Ok(())
}

fn timeline() -> Outcome {
    let picture = succeed(&["timeline", "step05"])?;
    ensure!(picture.starts_with("<svg") && picture.contains("client 8"), "{picture}");
    Ok(())
}

fn interrupted() -> Outcome {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let folder = TempDir::new()?;
        let out = folder.path().to_str().ok_or("no name")?;
        let mut lab =
            Killed(lab(&["bench", "step04", "step09", "--seconds", "600", "--out", out])?.spawn()?);
        let pid = lab.0.id();
        wait_until("a server and its children run", PATIENCE, || {
            tree(pid).iter().filter(|process| name(process.pid) == "step04-fork").count() > 1
        })?;
        let servers: Vec<u32> = tree(pid).iter().map(|process| process.pid).collect();
        kill(Pid::from_raw(pid as i32), signal)?;
        wait_until("the lab ends", PATIENCE, || {
            lab.0.try_wait().is_ok_and(|ended| ended.is_some())
        })?;
        for server in servers {
            ensure!(name(server) != "step04-fork", "{signal}: process {server} is still there");
        }
        let page = fs::read_to_string(folder.path().join("report.html"))?;
        ensure!(page.contains("<h1>"), "{signal}: no report");
    }
    Ok(())
}

/// The word by which this program is a server.
const HANGS: &str = "server-that-hangs";

/// Answers everybody but the first client, which it keeps waiting.
fn hang_one(port: &str) {
    let Ok(listener) = TcpListener::bind(format!("127.0.0.1:{port}")) else { return };
    let mut clients = listener.incoming().flatten();
    let _first = clients.next();
    for mut client in clients {
        thread::spawn(move || {
            while matches!(client.read(&mut [0; 4096]), Ok(1..)) {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
                if client.write_all(answer).is_err() {
                    break;
                }
            }
        });
    }
}

/// The only row of the only table of a short bench of one server, and what was printed.
fn row_of(server: &str, prefix: &[&str]) -> Result<(Value, String), Failure> {
    let folder = TempDir::new()?;
    let out = folder.path().to_str().ok_or("no name")?;
    let words = ["bench", "--only", "small", "--only", "persistent", "--seconds", "0.5"];
    let few = ["--rounds", "1", "--connections", "3", "--out", out, "--with", server, "step09"];
    let lab = lab(&[&words[..], &few[..]].concat())?;
    let mut command = match prefix {
        [] => lab,
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(lab.get_program()).args(lab.get_args());
            command
        }
    };
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output()?;
    ensure!(status.success(), "{status}: {}", String::from_utf8_lossy(&stderr));
    let results: Value = serde_json::from_slice(&fs::read(folder.path().join("results.json"))?)?;
    let row = results["tables"][0]["rows"][1].clone();
    Ok((row, String::from_utf8(stdout)?))
}

fn hanging() -> Outcome {
    let me = env::current_exe()?;
    let (row, _) = row_of(&format!("hangs='{}' {HANGS} {{port}}", me.display()), &[])?;
    ensure!(row["errors"] == 1 && row["error"] == "no answer in time", "{row}");
    let answers = row["answers"].as_f64().ok_or("no answers")?;
    let per_second = row["answers_per_second"].as_f64().ok_or("no rate")?;
    // It waits five seconds for the one that hangs, and those are not part of it.
    ensure!(answers / per_second < 5.0, "{} seconds: {row}", answers / per_second);
    Ok(())
}

fn no_answers() -> Outcome {
    let empty = TempDir::new()?;
    let program = tests::program("step09-epoll")?;
    let server =
        format!("mute='{}' -q -p {{port}} '{}'", program.display(), empty.path().display());
    let (row, text) = row_of(&server, &[])?;
    ensure!(row["answers"] == 0 && row["errors"].as_u64() > Some(0), "{row}");
    for figure in ["answers_per_second", "processor_us_per_answer", "latency_us_p50"] {
        ensure!(row[figure].is_null(), "{figure}: {row}");
    }
    let line = text.lines().find(|line| line.starts_with("mute ")).ok_or("no line")?;
    ensure!(line.contains("—") && !line.contains("0.00") && line.contains("404"), "{line}");
    Ok(())
}

fn untidy() -> Outcome {
    let folder = TempDir::with_prefix("with a space ")?;
    let server = folder.path().join("server");
    std::os::unix::fs::symlink(tests::program("step09-epoll")?, &server)?;
    let server = server.to_str().ok_or("no name")?;
    let script = format!(
        "untidy=sh -c 'mktemp -d > /dev/null; setsid \"{server}\" -q -p \"$0\" \"$1\" &' {{port}} {{root}}"
    );
    let temporary = folder.path().join("temporary");
    fs::create_dir(&temporary)?;
    let place = format!("TMPDIR={}", temporary.display());
    let (row, _) = row_of(&script, &["env", &place])?;
    ensure!(row["answers"].as_u64() > Some(0) && row["errors"] == 0, "{row}");
    ensure!(row["processor_us_per_answer"].as_f64() > Some(0.0), "{row}");
    let left: Vec<_> = fs::read_dir(&temporary)?.flatten().map(|entry| entry.path()).collect();
    // Its own report is in the folder of this test.
    ensure!(left.is_empty(), "{left:?}");
    for process in fs::read_dir("/proc")?.flatten() {
        let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let is_left = String::from_utf8_lossy(&words).starts_with(server);
        ensure!(!is_left, "{} still runs", process.path().display());
    }
    Ok(())
}

fn counted_by_strace() -> Outcome {
    let program = tests::program("step09-epoll")?;
    let server = format!("same='{}' -q -p {{port}} {{root}}", program.display());
    // What root may do that lets it count otherwise.
    let weaker = ["setpriv", "--bounding-set", "-sys_admin,-perfmon", "--inh-caps", "-all"];
    let (row, text) = row_of(&server, if geteuid().is_root() { &weaker } else { &[] })?;
    ensure!(text.contains("counted by strace"), "{text}");
    let calls = row["calls_per_answer"].as_f64().ok_or("not counted")?;
    // It reads and writes at least, and waits for several at once.
    ensure!((2.0..20.0).contains(&calls), "{row}");
    Ok(())
}

fn watched_as_text() -> Outcome {
    let step03 = start(Step::of("step03").ok_or("no step")?, &["--quiet"])?;
    let pid = step03.pid().to_string();
    // One that is served, and one behind it.
    let connect = |words: &[u8]| -> Result<(TcpStream, String), Failure> {
        let mut client = TcpStream::connect(step03.address())?;
        client.write_all(words)?;
        let address = client.local_addr()?.to_string();
        Ok((client, address))
    };
    let (_served, first) = connect(b"GET / HT")?;
    wait_until("the first one is accepted", PATIENCE, || step03.descriptors() > 5)?;
    let (_waiting, second) = connect(b"GET")?;
    let text = wait_for_text(&[&pid], |text| {
        let words = |client: &str| {
            let line = text.lines().find(|line| line.starts_with(client)).unwrap_or_default();
            line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
        };
        words(&first) == format!("ESTABLISHED 0 0 {pid}")
            && words(&second) == "ESTABLISHED 3 0 not accepted yet"
    })?;
    ensure!(text.starts_with(&format!("step03-static-files, process {pid}, port :")), "{text}");
    ensure!(text.contains("Threads: 1 ") && text.contains("descriptors"), "{text}");
    let port = format!(":{}", step03.address().port());
    ensure!(succeed(&["watch", &port])?.contains(&pid), "not found by its port");
    // Of two with one name, it says which there are.
    let twin = start(Step::of("step03").ok_or("no step")?, &["--quiet"])?;
    let Output { status, stdout, stderr } = lab(&["watch", "step03"])?.output()?;
    let hint = String::from_utf8_lossy(&stderr);
    ensure!(status.code() == Some(1) && stdout.is_empty(), "{status}: {hint}");
    for server in [&step03, &twin] {
        ensure!(hint.contains(&format!("lab watch {}", server.pid())), "{hint}");
    }
    let Output { status, stderr, .. } = lab(&["watch", "no-such-server"])?.output()?;
    let hint = String::from_utf8_lossy(&stderr);
    ensure!(status.code() == Some(1) && hint.contains("of yours runs"), "{status}: {hint}");
    Ok(())
}

/// Looks again until it is as it must become.
fn wait_for_text(words: &[&str], is_so: impl Fn(&str) -> bool) -> Result<String, Failure> {
    let mut text = String::new();
    let waited = wait_until("watch shows it", PATIENCE, || {
        text = succeed(&[&["watch"], words].concat()).unwrap_or_else(|error| error.to_string());
        is_so(&text)
    });
    waited.map_err(|error| format!("{error}:\n{text}"))?;
    Ok(text)
}

fn locked(screen: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watched_in_a_terminal() -> Outcome {
    let mut server = start(Step::of("step05").ok_or("no step")?, &["--quiet"])?;
    let size = Winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    for leave in ["q", "\x03", "SIGTERM", "the server ends"] {
        let ends = openpty(&size, None)?;
        let before = tcgetattr(&ends.slave)?;
        let (mut keyboard, slave) = (File::from(ends.master), File::from(ends.slave));
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut printed, copy) = (keyboard.try_clone()?, Arc::clone(&screen));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = printed.read(&mut bytes) {
                locked(&copy).extend_from_slice(&bytes[..length]);
            }
        });
        let shows = |words: &str| String::from_utf8_lossy(&locked(&screen)).contains(words);
        let mut command = Command::new(tests::program("lab")?);
        command.args(["watch", &server.pid().to_string()]).stdin(slave.try_clone()?);
        command.stdout(slave.try_clone()?).stderr(slave.try_clone()?);
        let mut lab = Killed(command.spawn()?);
        wait_until("it draws", PATIENCE, || shows("step05-threads,") && shows("leaves"))?;
        ensure!(tcgetattr(&slave)? != before, "{leave}: keys are not read one by one");
        match leave {
            "SIGTERM" => kill(Pid::from_raw(lab.0.id() as i32), Signal::SIGTERM)?,
            "the server ends" => {
                server.signal(Signal::SIGTERM)?;
                server.wait(PATIENCE)?;
            }
            key => keyboard.write_all(key.as_bytes())?,
        }
        let mut ended = None;
        wait_until("it leaves", PATIENCE, || {
            ended = lab.0.try_wait().ok().flatten();
            ended.is_some()
        })?;
        ensure!(ended.is_some_and(|status| status.success()), "{leave}: {ended:?}");
        ensure!(tcgetattr(&slave)? == before, "{leave}: the terminal is not as it was");
        // The other screen, which keeps what stood in the terminal before.
        wait_until("the screen is as it was", PATIENCE, || shows("\x1b[?1049l"))?;
        if leave == "the server ends" {
            wait_until("it says so", PATIENCE, || shows("has ended"))?;
        }
    }
    Ok(())
}

fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

fn unknown_words() -> Outcome {
    let cases: [(&[&str], &str); 6] = [
        (&["bench", "step99"], "there is no 'step99' to measure; there are step03-static-files"),
        (&["bench", "--with", "nginx"], "type NAME=COMMAND"),
        (&["bench", "--seconds", "0"], "from 0.05 to 3600 seconds"),
        (&["bench", "--rounds", "0"], "0 is not in 1.."),
        (&["bench", "--server-cpus", "1-0"], "type a list of cores, such as 0"),
        (&["bench", "--with", "a='b {port}"], "a quote in the command has no end"),
    ];
    for (words, hint) in cases {
        let Output { status, stderr, .. } = lab(words)?.output()?;
        let stderr = String::from_utf8_lossy(&stderr);
        ensure!(status.code() == Some(2), "{words:?}: {status}");
        ensure!(stderr.contains(hint), "{words:?}: {stderr}");
    }
    Ok(())
}

/// A process that does not outlive the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
