//! Small and odd places: few descriptors, a parent that ignores signals, a kernel without a call, a
//! terminal that nobody reads. A step serves, or says 503, or does not start and says why; it never hangs.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use check::{Client, Failure, Fixture, Server, wait_until};
use libtest_mimic::Trial;
use nix::libc::O_NONBLOCK;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};
use tests::{STEPS, Step, command, ensure, trial, under_shell, under_strace};

/// A bound for what hangs; nothing here is a measurement.
const PATIENCE: Duration = Duration::from_secs(60);

type Outcome = Result<(), Failure>;
type Place = (&'static str, fn(Step) -> Outcome);

fn main() {
    let has_no_strace = Command::new("strace").arg("-V").output().is_err();
    let is_not_root = !geteuid().is_root();
    let mut trials: Vec<Trial> = Vec::new();
    for step in STEPS.into_iter().filter(|step| step.serves_files) {
        trials.extend(EVERYWHERE.iter().map(|&(name, run)| trial(step, name, run)));
        for &(name, run) in &FORBIDDEN {
            trials.push(trial(step, name, run).with_ignored_flag(has_no_strace));
        }
        for &(name, run) in &AS_ROOT {
            trials.push(trial(step, name, run).with_ignored_flag(is_not_root));
        }
        if step.name == "step12-uring" {
            let name = "says before it listens that io_uring is missing (needs strace)";
            trials.push(trial(step, name, misses_io_uring).with_ignored_flag(has_no_strace));
        }
        if step.name == "step04-fork" {
            trials.push(trial(step, "reaps although its parent ignores SIGCHLD", reaps_anyway));
        }
    }
    libtest_mimic::run(&tests::arguments(4), tests::where_possible(trials)).exit();
}

const EVERYWHERE: [Place; 5] = [
    ("a log that nobody reads holds nobody up", |step| {
        let folder = tempfile::tempdir()?;
        let pipe = folder.path().join("pipe");
        mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR)?;
        // Open for both, so that opening it does not wait for the other end.
        let mut reader =
            OpenOptions::new().read(true).write(true).custom_flags(O_NONBLOCK).open(&pipe)?;
        let shell = format!("exec 2>{}", pipe.display());
        let mut server = Server::start(&mut under_shell(&shell, &command(step, &[])?))?;
        // A line has about 50 bytes, and a pipe takes 64 KiB.
        for _ in 0..2000 {
            serves(&server)?;
        }
        ensure!(drain(&mut reader)?.len() >= 60_000, "the pipe was not full");
        serves(&server)?;
        wait_until("the log says what it has lost", PATIENCE, || {
            drain(&mut reader).is_ok_and(|text| text.contains("lines are lost here"))
        })?;
        for _ in 0..2000 {
            serves(&server)?;
        }
        server.signal(Signal::SIGTERM)?;
        let (status, _) = server.wait(PATIENCE)?;
        ensure!(status.success(), "{status}");
        Ok(())
    }),
    ("a second signal ends it although its parent ignored both", |step| {
        let fixture = Fixture::with_big_file()?;
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let mut command = command(step, &["--timeout", "60"])?;
            command.arg(fixture.root());
            let mut server = Server::start(&mut under_shell("trap '' INT TERM", &command))?;
            let mut client = server.connect()?;
            client.get("/big.bin")?;
            client.read_head()?;
            server.signal(signal)?;
            wait_until("new clients are refused", PATIENCE, || server.refuses())?;
            wait_until("it says so", PATIENCE, || server.log().contains("stopping"))?;
            server.signal(signal)?;
            let (_, time) = server.wait(PATIENCE)?;
            ensure!(time < Duration::from_secs(20), "{signal}: only after {time:?}");
        }
        Ok(())
    }),
    ("with few descriptors it serves, or is full, or says why it does not start", |step| {
        (4..24).try_for_each(|limit| serves_or_says_why(step, &format!("ulimit -n {limit}")))
    }),
    ("with little memory it serves, or is full, or says why it does not start", |step| {
        // In KiB. There are limits at which Rust itself ends a process: see the chapter on trust.
        [20_000, 60_000, 110_000, 300_000]
            .iter()
            .try_for_each(|limit| serves_or_says_why(step, &format!("ulimit -v {limit}")))
    }),
    ("with a small stack it serves, or says why it does not start", |step| {
        for limit in [32, 64, 128, 256, 500, 512, 1024] {
            let is_enough = limit >= 512;
            let shell = format!("ulimit -s {limit}");
            ensure!(start_in(step, &shell)?.is_some() == is_enough, "{limit} KiB");
            if is_enough {
                serves_or_says_why(step, &shell)?;
            }
        }
        Ok(())
    }),
];

const FORBIDDEN: [Place; 3] = [
    ("says before it listens that openat2 is missing (needs strace)", |step| {
        for error in ["ENOSYS", "EPERM"] {
            let output = under_strace(step, &[&format!("openat2:error={error}")])?.output()?;
            let text = String::from_utf8(output.stderr)?;
            ensure!(output.status.code() == Some(2), "{error}: {}", output.status);
            ensure!(output.stdout.is_empty(), "{error}: it listened");
            ensure!(text.lines().count() == 1 && text.contains("openat2"), "{error}: {text:?}");
        }
        Ok(())
    }),
    ("sends a large file where there is no sendfile (needs strace)", |step| {
        let fixture = Fixture::with_big_file()?;
        for error in ["EINVAL", "ENOSYS"] {
            let mut command = under_strace(step, &[&format!("sendfile:error={error}")])?;
            let server = Server::start(command.arg(fixture.root()))?;
            let answer = server.get("/big.bin")?;
            let length = answer.body.len() as u64;
            ensure!(length == check::fixture::BIG, "{error}: {length} bytes");
        }
        Ok(())
    }),
    ("odd errors of accept in a row do not lose the queue (needs strace)", |step| {
        for error in ["ECONNABORTED", "EPERM"] {
            let injection = format!("accept4:error={error}:when=1..20");
            let server = Server::start(&mut under_strace(step, &[&injection])?)?;
            // Nobody else comes who could wake the server.
            let start = Instant::now();
            serves(&server)?;
            let time = start.elapsed();
            ensure!(time < Duration::from_secs(20), "{error}: only after {time:?}");
        }
        Ok(())
    }),
];

const AS_ROOT: [Place; 3] = [
    ("serves a folder that may be entered and not listed (needs root)", |step| {
        let fixture = Fixture::new()?;
        let mut nobody = as_nobody(step, &fixture, &[])?;
        fs::set_permissions(fixture.root(), fs::Permissions::from_mode(0o711))?;
        let server = Server::start(&mut nobody)?;
        ensure!(server.get("/")?.status == 200, "not served");
        Ok(())
    }),
    (
        "where nobody may have a second process it serves, or is full, or says why (needs root)",
        |step| {
            let fixture = Fixture::with_big_file()?;
            let mut nobody = as_nobody(step, &fixture, &["prlimit", "--nproc=1:1"])?;
            if ["step06-coroutines", "step10-cores", "step11-async"].contains(&step.name) {
                return says_why_it_does_not_start(&mut nobody);
            }
            let is_alone = !["step04-fork", "step05-threads"].contains(&step.name);
            let mut server = Server::start(&mut nobody)?;
            for _ in 0..4 {
                let status = status(&server)?;
                ensure!(status == if is_alone { 200 } else { 503 }, "status {status}");
            }
            // There is no thread either that could wait for the second signal.
            let mut client = server.connect()?;
            client.get("/big.bin")?;
            client.read_head()?;
            server.signal(Signal::SIGTERM)?;
            wait_until("it says so", PATIENCE, || server.log().contains("stopping"))?;
            server.signal(Signal::SIGTERM)?;
            let (_, time) = server.wait(PATIENCE)?;
            ensure!(time < Duration::from_secs(20), "only after {time:?}");
            Ok(())
        },
    ),
    ("a second signal ends it as process 1 of a container (needs root)", |step| {
        let fixture = Fixture::with_big_file()?;
        let inner = command(step, &["--timeout", "60"])?;
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
        unshare.arg(inner.get_program()).args(inner.get_args()).arg(fixture.root());
        let mut server = Server::start(&mut unshare)?;
        let mut client = server.connect()?;
        client.get("/big.bin")?;
        client.read_head()?;
        let first = *server.children().first().ok_or("no process 1")?;
        let signal =
            || nix::sys::signal::kill(nix::unistd::Pid::from_raw(first as i32), Signal::SIGTERM);
        signal()?;
        wait_until("new clients are refused", PATIENCE, || server.refuses())?;
        wait_until("it says so", PATIENCE, || server.log().contains("stopping"))?;
        signal()?;
        let (_, time) = server.wait(PATIENCE)?;
        ensure!(time < Duration::from_secs(20), "only after {time:?}");
        Ok(())
    }),
];

fn misses_io_uring(step: Step) -> Outcome {
    // None, forbidden, and too old in two ways: for the flags, and for buffers that the kernel takes.
    for (call, error) in [
        ("io_uring_setup", "ENOSYS"),
        ("io_uring_setup", "EPERM"),
        ("io_uring_setup", "EINVAL"),
        ("io_uring_register", "EINVAL"),
    ] {
        let output = under_strace(step, &[&format!("{call}:error={error}")])?.output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{error}: {}, {text}", output.status);
        let says_it = text.contains("io_uring") && text.contains("step09-epoll");
        ensure!(text.lines().count() == 1 && says_it, "{error}: {text:?}");
        ensure!(output.stdout.is_empty(), "{error}: it said that it listens");
    }
    Ok(())
}

fn reaps_anyway(step: Step) -> Outcome {
    let mut server =
        Server::start(&mut under_shell("trap '' CHLD", &command(step, &["--quiet"])?))?;
    // More than there is room for at a time.
    let held = server.connect()?;
    for _ in 0..1200 {
        serves(&server)?;
    }
    drop(held);
    server.signal(Signal::SIGTERM)?;
    let (status, time) = server.wait(PATIENCE)?;
    ensure!(status.success() && time < Duration::from_secs(9), "{status} after {time:?}");
    Ok(())
}

/// A step that has little of something.
fn serves_or_says_why(step: Step, limit: &str) -> Outcome {
    let Some(mut server) = start_in(step, limit)? else { return Ok(()) };
    let statuses: Vec<u16> = (0..4).map(|_| status(&server)).collect::<Result<_, _>>()?;
    let is_fine = statuses.iter().all(|status| matches!(status, 200 | 503));
    ensure!(is_fine, "{limit}: {statuses:?}");
    server.signal(Signal::SIGTERM)?;
    let (status, _) = server.wait(PATIENCE)?;
    ensure!(status.success(), "{limit}: {status}");
    Ok(())
}

/// A step in a shell's limits; `None` if it does not start, and says why.
fn start_in(step: Step, limits: &str) -> Result<Option<Server>, Failure> {
    let mut command = under_shell(limits, &command(step, &["--timeout", "3"])?);
    match Server::start(&mut command) {
        Ok(server) => Ok(Some(server)),
        Err(_) => says_why_it_does_not_start(&mut command).map(|()| None),
    }
}

/// In one line and with status 2; below what the loader of programs needs, nothing of ours has run.
fn says_why_it_does_not_start(command: &mut Command) -> Outcome {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let is_not_ours = matches!(output.status.code(), Some(126 | 127));
    let says_why = output.status.code() == Some(2) && text.lines().count() == 1;
    ensure!(is_not_ours || says_why, "{command:?}: {}, {text:?}", output.status);
    Ok(())
}

/// A step that serves a fixture as a user who owns nothing, started through `launcher`.
fn as_nobody(step: Step, fixture: &Fixture, launcher: &[&str]) -> Result<Command, Failure> {
    let inner = command(step, &["--timeout", "60"])?;
    // The program may lie where only its owner may go.
    let program = fixture.outside().join("program");
    fs::copy(inner.get_program(), &program)?;
    for path in [fixture.outside(), &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(launcher);
    nobody.arg(program).args(inner.get_args()).arg(fixture.root());
    Ok(nobody)
}

fn status(server: &Server) -> Result<u16, Failure> {
    let mut client: Client = server.connect()?;
    client.get("/")?;
    Ok(client.answer()?.status)
}

fn serves(server: &Server) -> Outcome {
    let status = status(server)?;
    ensure!(status == 200, "status {status}");
    Ok(())
}

/// All that is in a pipe now.
fn drain(reader: &mut fs::File) -> Result<String, Failure> {
    let mut bytes = vec![0; 1 << 17];
    match reader.read(&mut bytes) {
        Ok(length) => Ok(String::from_utf8_lossy(&bytes[..length]).into_owned()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(String::new()),
        Err(error) => Err(error.into()),
    }
}
