//! The box of a submission: `check box SETTINGS -- COMMAND` gives up what a submission must not have, and
//! becomes the command. Whatever that starts has as little. README.md says what it stops and what not.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope, make_bitflags, path_beneath_rules,
};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::getuid;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use serde::{Deserialize, Serialize};

use crate::Failure;

/// How many processes and threads a submission may have at once.
pub const PROCESSES: u64 = 1024;

/// How much private memory one process may ask for, in bytes. Generous: stacks of threads count, used or
/// not, and the runtimes of Go and Java ask for more than they use.
const MEMORY: u64 = 8 << 30;

/// The Landlock that was tried here, of Linux 6.12. An older kernel gives less of it, which is said.
const LANDLOCK: ABI = ABI::V6;

/// What everybody may write to.
const DEVICES: [&str; 8] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/shm",
];

/// The limits of a box, beside those that all boxes have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sandbox {
    /// Seconds of processor time that a process may use.
    pub seconds: u64,
    /// How long a file may become, in bytes; a log is one.
    pub file_size: u64,
    /// Where temporary files go.
    pub temporary: PathBuf,
    /// Whether Landlock is asked for what follows.
    pub landlock: bool,
    /// Folders that cannot be read, as the kernel names them. Everything else can.
    pub hidden: Vec<PathBuf>,
    /// Folders in those that can be read.
    pub readable: Vec<PathBuf>,
    /// Folders that can be changed. Nothing else can.
    pub writable: Vec<PathBuf>,
}

impl Sandbox {
    /// The words before a command that is to run in this box.
    ///
    /// # Errors
    /// A folder has a name that is not UTF-8, or nobody knows where this program is.
    pub fn words(&self) -> Result<Vec<OsString>, Failure> {
        let settings = serde_json::to_string(self)?;
        Ok(vec![std::env::current_exe()?.into(), "box".into(), settings.into(), "--".into()])
    }

    /// Enters the box, and becomes the command. This process must have no other thread.
    ///
    /// # Errors
    /// The kernel refuses a limit, or the command cannot be started.
    pub fn enter(&self, command: &[OsString]) -> Result<Infallible, Failure> {
        let limits = [
            (Resource::RLIMIT_CPU, self.seconds),
            (Resource::RLIMIT_FSIZE, self.file_size),
            (Resource::RLIMIT_DATA, MEMORY),
            // The kernel counts all that the user has. (And for root it does not count.)
            (Resource::RLIMIT_NPROC, threads_of_this_user() + PROCESSES),
            (Resource::RLIMIT_CORE, 0),
        ];
        for (resource, limit) in limits {
            let limit = limit.min(getrlimit(resource)?.1);
            setrlimit(resource, limit, limit)?;
        }
        // What root may do beyond other users: look into any process, for instance. Without new privileges
        // the next program does not get it back.
        let nothing = CapabilitySet::empty();
        let none = CapabilitySets { effective: nothing, permitted: nothing, inheritable: nothing };
        set_capabilities(None, none)?;
        set_no_new_privs()?;
        if self.landlock {
            self.lock()?;
        }
        let (program, arguments) = command.split_first().ok_or("there is no command")?;
        let error = Command::new(program).args(arguments).env("TMPDIR", &self.temporary).exec();
        Err(format!("cannot start {}: {error}", program.display()).into())
    }

    /// As much of it as the kernel has.
    fn lock(&self) -> Result<(), Failure> {
        let read = AccessFs::from_read(LANDLOCK);
        let write = AccessFs::from_all(LANDLOCK);
        // No connection to anybody's server, nor to the world; to be connected to is another thing.
        Ruleset::default()
            .handle_access(write)?
            .handle_access(AccessNet::ConnectTcp)?
            .scope(Scope::from_all(LANDLOCK))?
            .create()?
            .add_rules(path_beneath_rules(around(&self.hidden), read))?
            .add_rules(path_beneath_rules(&self.readable, read))?
            .add_rules(path_beneath_rules(&self.writable, write))?
            .add_rules(path_beneath_rules(DEVICES, write))?
            .restrict_self()?;
        Ok(())
    }
}

/// How much of a box a submission gets. Each has what those before it have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Walls {
    /// Limits alone, for a server that must reach a database
    Limits,
    /// No file and no process of others, as far as the kernel has Landlock
    Landlock,
    /// No network but loopback, and no view of other processes; needs bubblewrap
    Namespaces,
}

impl Walls {
    /// What this machine has of it, in words for a teacher.
    ///
    /// # Errors
    /// There is no bubblewrap, or it may not make namespaces.
    pub fn in_words(self) -> Result<&'static str, Failure> {
        if self == Walls::Namespaces {
            let output = Command::new("bwrap").args(BUBBLEWRAP).arg("true").output();
            let output = output.map_err(|error| format!("cannot start bwrap: {error}"))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                return Err(format!("bubblewrap makes no namespaces here: {}", said.trim()).into());
            }
        }
        Ok(match (self, has_landlock(true), has_landlock(false)) {
            (Walls::Limits, ..) => "limits only, as you asked",
            (Walls::Landlock, true, _) => "limits and Landlock",
            (Walls::Namespaces, true, _) => "limits, Landlock and namespaces",
            (Walls::Namespaces, ..) => "limits and namespaces, and little or no Landlock",
            (Walls::Landlock, _, true) => {
                "limits and an old Landlock: submissions that run at the same time can send each other \
                 signals"
            }
            (Walls::Landlock, ..) => {
                "limits only, since this kernel has no Landlock: submissions that run at the same time can \
                 harm each other"
            }
        })
    }
}

/// Everything can be read and nothing be written; own devices, processes, users and network.
const BUBBLEWRAP: [&str; 9] = [
    "--unshare-all",
    "--die-with-parent",
    "--ro-bind",
    "/",
    "/",
    "--dev",
    "/dev",
    "--proc",
    "/proc",
];

/// The words before a checker that runs in namespaces of its own, together with the server it starts. It sees
/// nothing in what is hidden but `place`, and writes there only.
pub fn namespaces(hidden: &[PathBuf], place: &Path) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["bwrap".into()];
    words.extend(BUBBLEWRAP.map(OsString::from));
    for folder in hidden {
        words.extend(["--tmpfs".into(), folder.into()]);
    }
    words.extend(["--bind".into(), place.into(), place.into(), "--".into()]);
    words
}

/// Whether the kernel has Landlock, or also that of signals.
fn has_landlock(signals: bool) -> bool {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let ruleset = ruleset.handle_access(make_bitflags!(AccessFs::{ReadFile | WriteFile}));
    let ruleset = ruleset.and_then(|ruleset| match signals {
        true => ruleset.scope(Scope::Signal),
        false => Ok(ruleset),
    });
    ruleset.and_then(Ruleset::create).is_ok()
}

/// Everything that is neither hidden nor holds what is hidden. Landlock has no "all but this": what may be
/// read is the neighbours of each folder on the way to it. A link is no way: it could lead back.
fn around(hidden: &[PathBuf]) -> Vec<PathBuf> {
    let mut open = Vec::new();
    let mut ways = vec![PathBuf::from("/")];
    while let Some(folder) = ways.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) || hidden.contains(&path) {
                continue;
            }
            let is_way = hidden.iter().any(|hidden| hidden.starts_with(&path));
            if is_way { &mut ways } else { &mut open }.push(path);
        }
    }
    open
}

fn threads_of_this_user() -> u64 {
    let user = getuid().as_raw();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = processes.filter(|entry| entry.metadata().is_ok_and(|data| data.uid() == user));
    let threads =
        |entry: fs::DirEntry| fs::read_dir(entry.path().join("task")).map(Iterator::count);
    own.filter_map(|entry| threads(entry).ok()).sum::<usize>() as u64
}
