//! What is measured: a step, a floor, or anybody's server; how it is started, watched and ended.

use std::collections::HashMap;
use std::env;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use check::cargo;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use procfs::process::{Process, all_processes};
use procfs::ticks_per_second;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::Failure;
use crate::floor::Floor;
use crate::machine::{self, Cores};

/// How long a server may take until its port accepts.
const START: Duration = Duration::from_secs(10);
/// The steps that answer a browser with files, with the floor of each model.
const STEPS: [(&str, Option<Floor>); 6] = [
    ("step03-static-files", Some(Floor::Accept)),
    ("step04-fork", Some(Floor::Fork)),
    ("step05-threads", Some(Floor::Thread)),
    ("step06-coroutines", None),
    ("step08-persistent", None),
    ("step09-epoll", Some(Floor::Epoll)),
];

/// Something that can be started and asked for pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contender {
    /// As it stands in tables.
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One of the course's servers, by the name of its crate.
    Step(&'static str),
    Floor(Floor),
    /// A command of the reader's, with `{port}` and `{root}`.
    Command(String),
}

impl Contender {
    pub(crate) fn floor(floor: Floor) -> Contender {
        let name = format!("floor-{}", format!("{floor:?}").to_lowercase());
        Contender { name, kind: Kind::Floor(floor) }
    }

    /// Reads "step05", "05", "step05-threads" or "floor-epoll".
    pub(crate) fn parse(word: &str) -> Result<Contender, String> {
        let floors =
            [Floor::Accept, Floor::Fork, Floor::Thread, Floor::Epoll].map(Contender::floor);
        let steps = STEPS.map(|(name, _)| Contender::step(name));
        let known = steps.iter().chain(&floors);
        let matches = |name: &str| {
            name == word
                || name.strip_prefix("step").is_some_and(|rest| {
                    let number = word.strip_prefix("step").unwrap_or(word);
                    rest == number || rest.split_once('-').is_some_and(|(start, _)| start == number)
                })
        };
        known.clone().find(|contender| matches(&contender.name)).cloned().ok_or_else(|| {
            let names: Vec<&str> = known.map(|contender| contender.name.as_str()).collect();
            format!("there is no '{word}' to measure; there are {}", names.join(", "))
        })
    }

    /// Reads "NAME=COMMAND".
    pub(crate) fn parse_with(word: &str) -> Result<Contender, String> {
        let hint =
            "type NAME=COMMAND, such as --with 'python=python3 -m http.server {port} -d {root}'";
        match word.split_once('=') {
            Some((name, command)) if !name.is_empty() && command.contains("{port}") => {
                Ok(Contender { name: name.to_owned(), kind: Kind::Command(command.to_owned()) })
            }
            _ => Err(hint.to_owned()),
        }
    }

    fn step(name: &'static str) -> Contender {
        Contender { name: name.to_owned(), kind: Kind::Step(name) }
    }

    pub(crate) fn all_steps() -> Vec<Contender> {
        STEPS.map(|(name, _)| Contender::step(name)).to_vec()
    }

    /// Every step that keeps connections open or not, each after the floor of its model.
    pub(crate) fn steps_and_floors(persistent: bool) -> Vec<Contender> {
        let mut list = Vec::new();
        for (name, floor) in STEPS {
            let step = Contender::step(name);
            if !persistent || step.is_persistent() {
                list.extend(
                    floor
                        .filter(|&floor| (floor == Floor::Epoll) == persistent)
                        .map(Contender::floor),
                );
                list.push(step);
            }
        }
        // The first row is what the others are compared with.
        if let Some(floor) =
            list.iter().position(|contender| matches!(contender.kind, Kind::Floor(_)))
        {
            list[..=floor].rotate_right(1);
        }
        list
    }

    /// Whether it can answer many requests on one connection.
    pub(crate) fn is_persistent(&self) -> bool {
        match self.kind {
            Kind::Step(name) => matches!(name, "step08-persistent" | "step09-epoll"),
            Kind::Floor(floor) => floor == Floor::Epoll,
            Kind::Command(_) => true,
        }
    }

    /// Whether it looks at its clients all the time, so that it is never at rest.
    pub(crate) fn is_busy_when_idle(&self) -> bool {
        self.kind == Kind::Step("step08-persistent")
    }

    /// Starts it, on its core, and waits until its port accepts.
    pub(crate) async fn start(&self, lab: &Lab, canned: u64) -> Result<Running, Failure> {
        // The port is free now; whoever takes it before the server does makes the start fail.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut command = self.command(lab, port, canned)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        // A child stays on the core that its parent was on when it was started.
        if let Some(cores) = lab.cores {
            machine::move_to(cores.server)?;
        }
        let child = command.spawn();
        if let Some(cores) = lab.cores {
            machine::move_to(cores.load)?;
        }
        let child = child.map_err(|error| format!("{}: cannot start: {error}", self.name))?;
        let mut running = Running { child, address };
        let deadline = Instant::now() + START;
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = running.child.try_wait()? {
                return Err(format!("{}: ended at once, {status}", self.name).into());
            }
            if Instant::now() >= deadline {
                return Err(
                    format!("{}: port {port} does not accept after {START:?}", self.name).into()
                );
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(running)
    }

    fn command(&self, lab: &Lab, port: u16, canned: u64) -> io::Result<Command> {
        Ok(match &self.kind {
            Kind::Step(name) => {
                let program = lab.programs.get(*name).ok_or(io::ErrorKind::NotFound)?;
                let mut command = Command::new(program);
                // Nothing measured here may end because somebody was silent on purpose.
                command.args(["--quiet", "--timeout", "3600", "--port", &port.to_string()]);
                command.arg(&lab.root);
                command
            }
            Kind::Floor(floor) => {
                let mut command = Command::new(env::current_exe()?);
                let model = format!("{floor:?}").to_lowercase();
                command.args(["floor", &model, "--port", &port.to_string()]);
                command.args(["--size", &canned.to_string()]);
                command
            }
            Kind::Command(text) => {
                let text = text.replace("{port}", &port.to_string());
                let text = text.replace("{root}", &lab.root.to_string_lossy());
                let mut command = Command::new("sh");
                command.args(["-c", &format!("exec {text}")]);
                command
            }
        })
    }
}

/// Where the measuring takes place.
#[derive(Clone, Debug)]
pub(crate) struct Lab {
    pub(crate) cores: Option<Cores>,
    /// The site that is served.
    pub(crate) root: PathBuf,
    /// The steps' programs by name.
    pub(crate) programs: HashMap<String, PathBuf>,
}

impl Lab {
    /// Chooses the cores and builds the steps, as this program was built.
    pub(crate) fn open() -> Result<Lab, Failure> {
        let workspace = cargo::workspace().canonicalize()?;
        let programs = cargo::build(&workspace.join("Cargo.toml"), &STEPS.map(|(name, _)| name))?;
        let cores = Cores::choose();
        if let Some(cores) = cores {
            machine::move_to(cores.load)?;
        }
        Ok(Lab { cores, root: workspace.join("demo"), programs })
    }
}

/// A server that runs. It ends, with all of its children, when this value is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// What a process and its descendants have used and hold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time, with that of children that have ended and been waited for.
    pub(crate) processor: Duration,
    pub(crate) processes: usize,
    pub(crate) threads: usize,
    /// The share of memory that is this tree's own (PSS), in KiB.
    pub(crate) memory_kib: u64,
}

impl Running {
    /// Processor time of the whole tree, in steps of a clock tick (10 ms).
    pub(crate) fn processor_time(&self) -> Duration {
        self.usage(false).processor
    }

    /// Everything, memory too, which takes a while for a thousand processes.
    pub(crate) fn full_usage(&self) -> Usage {
        self.usage(true)
    }

    fn usage(&self, with_memory: bool) -> Usage {
        let mut usage = Usage::default();
        // Who ends while we look is left out; its time is its parent's by then.
        for process in self.tree() {
            let Ok(stat) = process.stat() else { continue };
            let ticks = stat.utime + stat.stime + (stat.cutime + stat.cstime).max(0) as u64;
            usage.processor += Duration::from_secs_f64(ticks as f64 / ticks_per_second() as f64);
            usage.processes += 1;
            usage.threads += stat.num_threads.max(0) as usize;
            if with_memory {
                usage.memory_kib += proportional_share(&process).unwrap_or(0);
            }
        }
        usage
    }

    fn tree(&self) -> Vec<Process> {
        let mut by_parent: HashMap<i32, Vec<Process>> = HashMap::new();
        for process in all_processes().into_iter().flatten().flatten() {
            if let Ok(stat) = process.stat() {
                by_parent.entry(stat.ppid).or_default().push(process);
            }
        }
        let mut tree: Vec<Process> = Process::new(self.child.id() as i32).into_iter().collect();
        let mut next = 0;
        while next < tree.len() {
            tree.extend(by_parent.remove(&tree[next].pid).unwrap_or_default());
            next += 1;
        }
        tree
    }
}

/// PSS in KiB: proc(5), smaps_rollup.
fn proportional_share(process: &Process) -> Option<u64> {
    let rollup = process.smaps_rollup().ok()?;
    let bytes = rollup.memory_map_rollup.0.first()?.extension.map.get("Pss").copied()?;
    Some(bytes / 1024)
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nobody to kill.
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
