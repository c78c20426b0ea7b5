//! Step 09 on three machines behind HAProxy, as `machines/up.sh` starts them: one is drained, one dies, one
//! hangs, and the clients notice nothing. And up.sh and down.sh leave nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use check::{Answer, Client, Failure, wait_until};
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;
use tests::{ensure, repeatedly, workspace};

/// A bound for what hangs; nothing here is a measurement.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many clients ask at the same time, each again as soon as it has its answer.
const CLIENTS: usize = 8;

type Outcome = Result<(), Failure>;
type Named = (&'static str, fn(Form) -> Outcome);

/// How up.sh makes the machines.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Namespaces,
    Ports,
}

fn main() {
    let has_no_haproxy = !Path::new("/usr/sbin/haproxy").is_file() && !answers("haproxy", &["-v"]);
    // A name that nobody else has.
    let name = format!("test-{}", std::process::id());
    let has_no_namespaces = !geteuid().is_root() || !answers("ip", &["netns", "add", &name]);
    if !has_no_namespaces {
        answers("ip", &["netns", "del", &name]);
    }
    let mut trials = Vec::new();
    for (form, title) in [(Form::Namespaces, "namespaces"), (Form::Ports, "ports")] {
        let needs = if form == Form::Ports { "HAProxy" } else { "HAProxy, root and namespaces" };
        let is_missing = has_no_haproxy || (form == Form::Namespaces && has_no_namespaces);
        for (name, run) in TRIALS {
            let trial = Trial::test(format!("{title}: {name} (needs {needs})"), move || {
                repeatedly(|| run(form)).map_err(|error| Failed::from(error.to_string()))
            });
            trials.push(trial.with_ignored_flag(is_missing));
        }
    }
    libtest_mimic::run(&tests::arguments(4), trials).exit();
}

/// Whether a program can be run, and succeeds.
fn answers(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

const TRIALS: [Named; 11] = [
    ("each machine in turn sends the page, under the same ETag", |form| {
        let machines = Machines::up(form)?;
        let page = fs::read(workspace().join("demo/news.html"))?;
        let mut client = machines.connect()?;
        let mut tags = BTreeMap::new();
        for _ in 0..6 {
            let answer = ask(&mut client, "/news.html")?;
            ensure!(answer.body == page, "another page");
            tags.insert(served_by(&answer), answer.field("etag").map(str::to_owned));
        }
        ensure!(tags.keys().eq(["a", "b", "c"]), "only {tags:?}");
        let different: BTreeSet<_> = tags.values().collect();
        ensure!(different.len() == 1, "{tags:?}");
        // What a browser has from one machine is what the next one would send.
        let tag = tags.into_values().next().flatten().ok_or("no ETag")?;
        for _ in 0..3 {
            client.send(format!(
                "GET /news.html HTTP/1.1\r\nHost: h\r\nIf-None-Match: {tag}\r\n\r\n"
            ))?;
            ensure!(client.answer()?.status == 304, "not 304");
        }
        Ok(())
    }),
    ("the machine sees the proxy's address, and is told the client's", |form| {
        let machines = Machines::up(form)?;
        let mut client = machines.connect()?;
        let address = client.stream().local_addr()?;
        let machine = served_by(&ask(&mut client, "/news.html")?);
        let line = machines.log_line(&machine, "GET /news.html")?;
        ensure!(!line.contains(&address.to_string()), "{line}");
        ensure!(form == Form::Ports || line.contains(" 192.0.2.254:"), "{line}");
        // HAProxy writes its line a moment after the answer.
        wait_until("HAProxy names the client", PATIENCE, || {
            fs::read_to_string(machines.state().join("haproxy.log"))
                .is_ok_and(|log| log.contains(&format!("{address} ")))
        })
    }),
    ("nobody notices that a machine is drained (SIGTERM)", |form| {
        nobody_notices(&Machines::up(form)?, Signal::SIGTERM)
    }),
    ("nobody notices that a machine dies (SIGKILL)", |form| {
        nobody_notices(&Machines::up(form)?, Signal::SIGKILL)
    }),
    ("nobody is refused because a machine hangs (SIGSTOP), and later it serves again", |form| {
        let machines = Machines::up(form)?;
        nobody_notices(&machines, Signal::SIGSTOP)?;
        let before = machines.table()?["b"].1;
        for _ in 0..9 {
            ask(&mut machines.connect()?, "/")?;
        }
        let now = machines.table()?["b"].1;
        ensure!(now == before, "{} clients were sent to a machine that hangs", now - before);
        machines.signal("b", Signal::SIGCONT)?;
        wait_until("the machine is back", PATIENCE, || machines.is("b", "UP"))?;
        let served = (0..3).map(|_| Ok(served_by(&ask(&mut machines.connect()?, "/")?)));
        let served: BTreeSet<String> = served.collect::<Result<_, Failure>>()?;
        ensure!(served.contains("b"), "only {served:?}");
        Ok(())
    }),
    ("without retries, clients notice that a machine dies", |form| {
        let machines = Machines::changed(form, |config| {
            config.replace("retries 3", "retries 0").replace("    retry-on", "    # retry-on")
        })?;
        let failures = under_load(&machines, || {
            machines.signal("b", Signal::SIGKILL)?;
            wait_until("HAProxy has noticed", PATIENCE, || machines.is("b", "DOWN"))
        })?;
        ensure!(!failures.is_empty(), "nobody noticed");
        Ok(())
    }),
    ("an answer that has begun cannot be asked for again, and its reader can tell", |form| {
        let machines = Machines::up(form)?;
        // More than all buffers on the way.
        const LENGTH: u64 = 64 << 20;
        for machine in ["a", "b", "c"] {
            File::create(machines.state().join(machine).join("site/big.bin"))?.set_len(LENGTH)?;
        }
        let mut client = machines.connect()?;
        client.get("/big.bin")?;
        let head = client.read_head()?;
        let machine = served_by(&head);
        ensure!(head.field("content-length") == Some(&LENGTH.to_string()), "{head:?}");
        machines.signal(&machine, Signal::SIGKILL)?;
        let length = client.read_to_end()?.len() as u64;
        ensure!(length < LENGTH, "all of it came");
        ensure!(served_by(&ask(&mut machines.connect()?, "/")?) != machine, "who is dead served");
        Ok(())
    }),
    ("a request arrives with X-Forwarded-For, or behind a line of the PROXY protocol", |form| {
        for (option, begins) in
            [("", "GET / HTTP/1.1"), (" send-proxy", "PROXY TCP4 127.0.0.1 127.0.0.1 ")]
        {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let own = listener.local_addr()?;
            let machines = Machines::changed(form, |config| {
                let config = config.replace(r#""${A[*]}""#, &format!("{own}{option}"));
                let rest =
                    config.replace("    server b", "    # ").replace("    server c", "    # ");
                rest.replace("    option httpchk", "    # ")
                    .replace("server check", "server no-check")
            })?;
            let mut client = machines.connect()?;
            client.get("/")?;
            let (mut stream, _) = listener.accept()?;
            let lines = BufReader::new(stream.try_clone()?).lines();
            let request: Vec<String> =
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
            client.answer()?;
            ensure!(request[0].starts_with(begins), "{request:#?}");
            let told = request.iter().any(|line| line == "x-forwarded-for: 127.0.0.1");
            ensure!(told, "{request:#?}");
        }
        Ok(())
    }),
    ("down.sh leaves nothing behind wherever up.sh was killed", |form| {
        for moment in ["made-by-up.sh", "a", "a/pid", "b/site", "c/address", "haproxy.pid"] {
            let folder = TempDir::new()?;
            let state = folder.path().join("state");
            let mut up = up_command(form, &state).stdout(Stdio::null()).spawn()?;
            wait_until(moment, PATIENCE, || {
                state.join(moment).exists() || !matches!(up.try_wait(), Ok(None))
            })?;
            up.kill()?;
            up.wait()?;
            for _ in 0..2 {
                let output = script("down.sh", &state).output()?;
                ensure!(output.status.success(), "{moment}: {output:?}");
                nothing_is_left(&state).map_err(|what| format!("{moment}: {what}"))?;
            }
        }
        Ok(())
    }),
    ("up.sh says in a line what is wrong, and leaves nothing behind", |form| {
        let folder = TempDir::new()?;
        let state = folder.path().join("state");
        let taken = TcpListener::bind("127.0.0.1:0")?;
        let port = taken.local_addr()?.port().to_string();
        let config = folder.path().join("wrong.cfg");
        fs::write(&config, "global\n    no-such-word\n")?;
        let config = config.to_str().ok_or("no name")?;
        for (name, value, says) in [
            ("PORT", port.as_str(), "PORT=9000"),
            ("PORT", "http", "PORT=9000"),
            ("CONFIG", config, "no-such-word"),
        ] {
            let output = up_command(form, &state).env(name, value).output()?;
            says_why(&output, says)?;
            nothing_is_left(&state)?;
        }
        says_why(&script("up.sh", &state).arg("--help-me").output()?, "--ports")?;
        // A folder of somebody else's stays.
        fs::create_dir(&state)?;
        fs::write(state.join("mine"), "")?;
        says_why(&up_command(form, &state).output()?, "down.sh")?;
        says_why(&script("down.sh", &state).output()?, "not of up.sh")?;
        ensure!(
            state.join("mine").exists(),
            "down.sh has removed a folder that up.sh had not made"
        );
        Ok(())
    }),
    ("up.sh names HAProxy if it is missing", |form| {
        let folder = TempDir::new()?;
        let state = folder.path().join("state");
        // A program of this name that cannot be run, in a folder for it and in all where it may be.
        let mut shell = Command::new("bash");
        shell.args(["-c", r#"command() { [[ $2 != haproxy ]] && builtin command "$@"; }; export -f command; exec "$@""#, "bash"]);
        let up = up_command(form, &state);
        shell.arg(up.get_program()).args(up.get_args()).env("STATE", &state);
        says_why(&shell.output()?, "sudo apt install haproxy")?;
        nothing_is_left(&state)
    }),
];

/// Three machines and HAProxy. Dropping it ends all of it.
struct Machines {
    /// Holds the state folder and, if it was changed, HAProxy's configuration.
    folder: TempDir,
    address: SocketAddr,
}

impl Machines {
    fn up(form: Form) -> Result<Machines, Failure> {
        Machines::changed(form, str::to_owned)
    }

    /// With another configuration of HAProxy.
    fn changed(form: Form, change: impl Fn(&str) -> String) -> Result<Machines, Failure> {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut machines = Machines { folder: TempDir::new()?, address: nowhere };
        let before = fs::read_to_string(workspace().join("machines/haproxy.cfg"))?;
        let config = machines.folder.path().join("haproxy.cfg");
        fs::write(&config, change(&before))?;
        let output = up_command(form, &machines.state()).env("CONFIG", config).output()?;
        let said = String::from_utf8(output.stdout)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let is_namespaces = said.contains("network namespaces");
        ensure!(is_namespaces == (form == Form::Namespaces), "another form: {said}");
        let address = said.split_once("http://").and_then(|(_, rest)| rest.split('/').next());
        machines.address = address.ok_or("no address")?.parse()?;
        wait_until("all machines are up", PATIENCE, || {
            ["a", "b", "c"].iter().all(|name| {
                machines.table().is_ok_and(|table| {
                    // One that was taken out of the configuration needs no wait.
                    table.get(*name).is_none_or(|(state, _)| state == "UP" || state == "no check")
                })
            })
        })?;
        Ok(machines)
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn connect(&self) -> Result<Client, Failure> {
        Ok(Client::connect(self.address)?)
    }

    /// What HAProxy knows of each machine: its state, and how many requests it was sent.
    fn table(&self) -> Result<BTreeMap<String, (String, u64)>, Failure> {
        let mut client = self.connect()?;
        client.send("GET /haproxy;csv HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")?;
        let came = String::from_utf8(client.read_to_end()?)?;
        // It comes in a chunk (RFC 9112 §7.1), whose size stands in a line before the table.
        let table = came.split_once("# ").ok_or("no table")?.1;
        let lines: String = table.split_inclusive('\n').filter(|line| line.contains(',')).collect();
        let mut reader = csv::Reader::from_reader(lines.as_bytes());
        let names = reader.headers()?.clone();
        let mut table = BTreeMap::new();
        for row in reader.records() {
            let row = row?;
            let field = |name: &str| {
                let at = names.iter().position(|known| known == name);
                at.and_then(|at| row.get(at)).unwrap_or_default().to_owned()
            };
            table.insert(field("svname"), (field("status"), field("stot").parse().unwrap_or(0)));
        }
        Ok(table)
    }

    fn is(&self, machine: &str, state: &str) -> bool {
        self.table().is_ok_and(|table| table[machine].0 == state)
    }

    fn signal(&self, machine: &str, signal: Signal) -> Outcome {
        let pid = fs::read_to_string(self.state().join(machine).join("pid"))?;
        Ok(kill(Pid::from_raw(pid.trim().parse()?), signal)?)
    }

    /// The first line of a machine's log that holds a text. The machine may write it a moment after the
    /// answer.
    fn log_line(&self, machine: &str, text: &str) -> Result<String, Failure> {
        let mut found = None;
        wait_until(&format!("{machine} logs {text}"), PATIENCE, || {
            let log = fs::read_to_string(self.state().join(machine).join("log"));
            let log = log.unwrap_or_default();
            found = log.lines().find(|line| line.contains(text)).map(str::to_owned);
            found.is_some()
        })?;
        Ok(found.ok_or("no line")?)
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        let _ = script("down.sh", &self.state()).output();
    }
}

/// machines/up.sh or machines/down.sh, with a state folder.
fn script(name: &str, state: &Path) -> Command {
    let mut command = Command::new(workspace().join("machines").join(name));
    command.env("STATE", state).env_remove("CONFIG").stdin(Stdio::null());
    command
}

fn up_command(form: Form, state: &Path) -> Command {
    let mut command = script("up.sh", state);
    command.env("PORT", "0").args((form == Form::Ports).then_some("--ports"));
    command
}

fn says_why(output: &Output, words: &str) -> Outcome {
    let text = String::from_utf8_lossy(&output.stderr);
    let is_a_line = text.lines().count() == 1 && text.contains(words);
    ensure!(output.status.code() == Some(2) && is_a_line, "{}, {text:?}", output.status);
    ensure!(output.stdout.is_empty(), "it printed {:?}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

fn nothing_is_left(state: &Path) -> Outcome {
    ensure!(!state.exists(), "the state folder is there");
    let folder = state.parent().ok_or("no folder")?.canonicalize()?;
    let mark = format!("MACHINES_STATE={}", folder.join("state").display());
    for process in fs::read_dir("/proc")?.flatten() {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        let is_ours = environment.split(|byte| *byte == 0).any(|word| word == mark.as_bytes());
        ensure!(!is_ours, "process {:?} is there", process.file_name());
    }
    let mut shell = Command::new("bash");
    shell.args(["-c", r#". "$0"; ls /run/netns | grep -F -- "$prefix""#]);
    let left = shell.arg(workspace().join("machines/names.sh")).env("STATE", state).output()?;
    ensure!(left.stdout.is_empty(), "namespaces: {}", String::from_utf8_lossy(&left.stdout));
    Ok(())
}

/// Asks, and expects the page.
fn ask(client: &mut Client, target: &str) -> Result<Answer, Failure> {
    client.get(target)?;
    let answer = client.answer()?;
    ensure!(answer.status == 200, "status {}", answer.status);
    Ok(answer)
}

fn served_by(answer: &Answer) -> String {
    answer.field("x-served-by").unwrap_or_default().to_owned()
}

/// Under load a machine gets a signal, and HAProxy takes it out. No client may see an error.
fn nobody_notices(machines: &Machines, signal: Signal) -> Outcome {
    let failures = under_load(machines, || {
        machines.signal("b", signal)?;
        wait_until("HAProxy has noticed", PATIENCE, || machines.is("b", "DOWN"))
    })?;
    ensure!(failures.is_empty(), "{} errors: {failures:?}", failures.len());
    Ok(())
}

/// What clients have been answered.
#[derive(Default)]
struct Load {
    /// How often, by machine.
    answers: Mutex<BTreeMap<String, usize>>,
    failures: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl Load {
    /// Half of the clients keep their connection, half make a new one for each request.
    fn run(&self, machines: &Machines, number: usize) {
        let mut kept = None;
        while !self.is_over.load(Ordering::Relaxed) {
            let client = kept.take().map_or_else(|| machines.connect(), Ok);
            let asked = client.and_then(|mut client| Ok((ask(&mut client, "/news.html")?, client)));
            match asked {
                Ok((answer, client)) => {
                    *locked(&self.answers).entry(served_by(&answer)).or_default() += 1;
                    kept = number.is_multiple_of(2).then_some(client);
                }
                Err(error) => locked(&self.failures).push(error.to_string()),
            }
        }
    }

    /// Waits until each of these machines has given so many more answers.
    fn wait_for(&self, machines: &[&str], more: usize) -> Outcome {
        let count = |machine: &str| locked(&self.answers).get(machine).copied().unwrap_or(0);
        let before: Vec<usize> = machines.iter().map(|machine| count(machine)).collect();
        wait_until("the clients are answered", PATIENCE, || {
            machines.iter().zip(&before).all(|(machine, before)| count(machine) >= before + more)
        })
    }
}

/// Does something to machine b while clients ask, and returns what failed for them.
fn under_load(
    machines: &Machines,
    event: impl FnOnce() -> Outcome,
) -> Result<Vec<String>, Failure> {
    let load = Load::default();
    let outcome = thread::scope(|scope| {
        for number in 0..CLIENTS {
            let load = &load;
            scope.spawn(move || load.run(machines, number));
        }
        let outcome = load
            .wait_for(&["a", "b", "c"], 50)
            .and_then(|()| event())
            .and_then(|()| load.wait_for(&["a", "c"], 50));
        load.is_over.store(true, Ordering::Relaxed);
        outcome
    });
    outcome?;
    Ok(std::mem::take(&mut *locked(&load.failures)))
}

fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
