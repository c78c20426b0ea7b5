//! What can be typed.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::bench::Effort;
use crate::contender::Contender;
use crate::floor::Floor;
use crate::machine::CoreList;

/// Measures the steps side by side and draws the result, and shows the inside of one that runs.
#[derive(Debug, Parser)]
#[command(name = "lab", version, infer_subcommands = true)]
pub(crate) struct Command {
    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// Answers a second, latencies, and what an answer costs the server.
    Bench(Bench),
    /// What connections cost that ask for nothing.
    Idle(Idle),
    /// How long good clients wait behind silent ones.
    Stall(Stall),
    /// What one more worker brings: servers with 1, 2, ... of them, on all cores that there are.
    Workers(Workers),
    /// Everything, one after the other, and a report.
    All(All),
    /// Eight clients, one of them slow, as a picture.
    Timeline(TimelineOf),
    /// The inside of a server that runs, live in the terminal; as text if there is none.
    Watch {
        /// Which server: a step (step05), a process (its id) or a port (:8080).
        server: Option<String>,
    },
    /// A bare loop that sends canned bytes: what a model costs by itself. Ends with Ctrl-C.
    Floor(FloorOf),
}

impl What {
    /// What was said of the server's cores and the load's.
    pub(crate) fn cores(&self) -> (Option<CoreList>, Option<CoreList>) {
        let place = match self {
            What::Bench(Bench { place, .. })
            | What::Idle(Idle { place, .. })
            | What::Stall(Stall { place, .. })
            | What::Workers(Workers { place, .. })
            | What::All(All { place, .. }) => place,
            What::Timeline(_) | What::Watch { .. } | What::Floor(_) => return (None, None),
        };
        (place.server_cpus.clone(), place.load_cpus.clone())
    }

    /// Where the report goes.
    pub(crate) fn out(&self) -> Option<&Path> {
        match self {
            What::Bench(Bench { place, .. })
            | What::Idle(Idle { place, .. })
            | What::Stall(Stall { place, .. })
            | What::Workers(Workers { place, .. }) => place.out.as_deref(),
            What::All(All { place, .. }) => {
                Some(place.out.as_deref().unwrap_or(Path::new("lab-report")))
            }
            What::Timeline(_) | What::Watch { .. } | What::Floor(_) => None,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Contenders {
    /// What to measure: step03, step04, ..., at_work, floor-accept, floor-fork, floor-thread, floor-epoll,
    /// floor-async; every one that fits when none is named. The others are compared with the first.
    #[arg(value_parser = Contender::parse)]
    steps: Vec<Contender>,
    #[command(flatten)]
    others: Others,
}

#[derive(Debug, Args)]
pub(crate) struct Others {
    /// Another server, as NAME=COMMAND with {port} and {root} in the command, and {workers} if it takes them.
    #[arg(long, value_name = "NAME=COMMAND", value_parser = Contender::parse_with)]
    pub(crate) with: Vec<Contender>,
}

impl Contenders {
    /// What was named, or else `default`; and what came with --with.
    pub(crate) fn or(&self, default: Vec<Contender>) -> Vec<Contender> {
        let named = if self.steps.is_empty() { default } else { self.steps.clone() };
        named.into_iter().chain(self.others.with.iter().cloned()).collect()
    }
}

/// Where it is measured, and where the result goes.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The cores of the server, such as 0 or 0,1 or 0-3; one if left out.
    #[arg(long, value_name = "LIST", value_parser = CoreList::parse)]
    server_cpus: Option<CoreList>,
    /// The cores of the load, which has a thread for each; one that the server does not have if left out.
    #[arg(long, value_name = "LIST", value_parser = CoreList::parse)]
    load_cpus: Option<CoreList>,
    /// Where report.html, the CSV files and results.json go.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(crate) contenders: Contenders,
    /// How many clients ask at the same time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) connections: u16,
    /// So many persistent connections beside that have had one answer and are silent.
    #[arg(long, default_value_t = 0)]
    pub(crate) idle: u16,
    #[command(flatten)]
    pub(crate) effort: EffortArgs,
    /// Leaves out what is not this.
    #[arg(long, value_enum)]
    pub(crate) only: Vec<Only>,
    #[command(flatten)]
    place: Place,
}

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Only {
    /// A connection per request.
    Once,
    /// Persistent connections.
    Persistent,
    /// The small page.
    Small,
    /// The picture.
    Picture,
    /// The big file.
    Big,
}

#[derive(Debug, Args)]
pub(crate) struct EffortArgs {
    /// How long each measurement takes.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// How often each server has its turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
}

fn seconds(word: &str) -> Result<f64, String> {
    let seconds: f64 =
        word.parse().map_err(|_| "a number of seconds, such as 2 or 0.5".to_owned())?;
    let is_usable = (0.05..=3600.0).contains(&seconds);
    is_usable.then_some(seconds).ok_or_else(|| "from 0.05 to 3600 seconds".to_owned())
}

impl EffortArgs {
    pub(crate) fn effort(&self) -> Effort {
        Effort { seconds: self.seconds, rounds: self.rounds.into() }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Idle {
    #[command(flatten)]
    pub(crate) contenders: Contenders,
    /// How many connections do nothing.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) connections: u16,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Stall {
    #[command(flatten)]
    pub(crate) contenders: Contenders,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Workers {
    #[command(flatten)]
    pub(crate) contenders: Contenders,
    /// How many clients ask at the same time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) connections: u16,
    /// The most workers that a server has [one for each of its cores].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) most: Option<u16>,
    #[command(flatten)]
    pub(crate) effort: EffortArgs,
    #[command(flatten)]
    place: Place,
}

impl Workers {
    /// Whether it was said which cores the server has, or the load.
    pub(crate) fn is_placed(&self) -> bool {
        self.place.server_cpus.is_some() || self.place.load_cpus.is_some()
    }
}

#[derive(Debug, Args)]
pub(crate) struct All {
    #[command(flatten)]
    pub(crate) others: Others,
    #[command(flatten)]
    pub(crate) effort: EffortArgs,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct TimelineOf {
    #[arg(value_parser = Contender::parse)]
    pub(crate) step: Contender,
    /// Where the picture goes; stdout when it is not given.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct FloorOf {
    #[arg(value_enum)]
    pub(crate) floor: Floor,
    /// The port to listen on.
    #[arg(short, long, default_value_t = 8080)]
    pub(crate) port: u16,
    /// How many bytes the body of the answer has.
    #[arg(long, default_value_t = 2048)]
    pub(crate) size: usize,
    /// How many loops the epoll floor has.
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) workers: u16,
}
