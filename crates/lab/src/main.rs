//! Measures the steps side by side and draws the result.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::bench::{Effort, Page, Workload};
use crate::contender::{Contender, Lab};
use crate::floor::Floor;
use crate::machine::Machine;
use crate::report::Report;

mod bench;
mod contender;
mod crowd;
mod floor;
mod load;
mod machine;
mod plot;
mod report;
mod timeline;

/// What went wrong, in words for the person who measures.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures the steps side by side and draws the result.
#[derive(Debug, Parser)]
#[command(name = "lab", version, infer_subcommands = true)]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Answers a second, latencies, and what an answer costs the server.
    Bench(Bench),
    /// What connections cost that ask for nothing.
    Idle(Idle),
    /// How long good clients wait behind silent ones.
    Stall(Stall),
    /// Everything, one after the other, and a report.
    All(All),
    /// Eight clients, one of them slow, as a picture.
    Timeline(TimelineOf),
    /// A bare loop that sends canned bytes: what a model costs by itself. Ends with Ctrl-C.
    Floor(FloorOf),
}

#[derive(Debug, Args)]
struct Contenders {
    /// What to measure: step03 … step09, floor-accept, floor-fork, floor-thread, floor-epoll; every
    /// one that fits when none is named. The others are compared with the first.
    #[arg(value_parser = Contender::parse)]
    steps: Vec<Contender>,
    /// Another server, as NAME=COMMAND with {port} and {root} in the command.
    #[arg(long, value_name = "NAME=COMMAND", value_parser = Contender::parse_with)]
    with: Vec<Contender>,
}

impl Contenders {
    /// What was named, or else `default`; and what came with --with.
    fn or(&self, default: Vec<Contender>) -> Vec<Contender> {
        let named = if self.steps.is_empty() { default } else { self.steps.clone() };
        named.into_iter().chain(self.with.iter().cloned()).collect()
    }
}

#[derive(Debug, Args)]
struct Bench {
    #[command(flatten)]
    contenders: Contenders,
    /// How many clients ask at the same time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// So many persistent connections beside that have had one answer and are silent.
    #[arg(long, default_value_t = 0)]
    idle: u16,
    #[command(flatten)]
    effort: EffortArgs,
    /// Leaves out what is not this.
    #[arg(long, value_enum)]
    only: Vec<Only>,
    /// Where report.html, the CSV files and results.json go.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Only {
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
struct EffortArgs {
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
    fn effort(&self) -> Effort {
        Effort { seconds: self.seconds, rounds: self.rounds.into() }
    }
}

#[derive(Debug, Args)]
struct Idle {
    #[command(flatten)]
    contenders: Contenders,
    /// How many connections do nothing.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Where report.html, the CSV files and results.json go.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Stall {
    #[command(flatten)]
    contenders: Contenders,
    /// Where report.html, the CSV files and results.json go.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct All {
    /// Another server, as NAME=COMMAND with {port} and {root} in the command.
    #[arg(long, value_name = "NAME=COMMAND", value_parser = Contender::parse_with)]
    with: Vec<Contender>,
    #[command(flatten)]
    effort: EffortArgs,
    /// Where report.html, the CSV files and results.json go.
    #[arg(long, value_name = "DIR", default_value = "lab-report")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct TimelineOf {
    #[arg(value_parser = Contender::parse)]
    step: Contender,
    /// Where the picture goes; stdout when it is not given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct FloorOf {
    #[arg(value_enum)]
    floor: Floor,
    /// The port to listen on.
    #[arg(short, long, default_value_t = 8080)]
    port: u16,
    /// How many bytes the body of the answer has.
    #[arg(long, default_value_t = 2048)]
    size: usize,
}

fn main() -> ExitCode {
    match run(Command::parse().what) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("lab: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(what: What) -> Result<(), Failure> {
    // Each client costs a descriptor. If the kernel says no, the largest loads will say so.
    check::raise_descriptor_limit();
    if let What::Floor(FloorOf { floor, port, size }) = what {
        return floor::serve(floor, port, size);
    }
    let lab = Lab::open()?;
    let mut report = Report::new(Machine::describe(lab.cores));
    say(format_args!("{}", report.machine.line()));
    if cfg!(debug_assertions) {
        say(format_args!("lab: built without --release, so the figures are good for nothing"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Whatever is measured when Ctrl-C comes is dropped, and with it the server; what has been
    // measured before stays in the report.
    let result = runtime.block_on(async {
        tokio::select! {
            result = measure(&what, &lab, &mut report) => result,
            _ = tokio::signal::ctrl_c() => Err("stopped by Ctrl-C".into()),
        }
    });
    if let What::Bench(Bench { out: Some(out), .. })
    | What::Idle(Idle { out: Some(out), .. })
    | What::Stall(Stall { out: Some(out), .. })
    | What::All(All { out, .. }) = &what
    {
        report.write(out)?;
        say(format_args!("wrote {}", out.join("report.html").display()));
    }
    result
}

async fn measure(what: &What, lab: &Lab, report: &mut Report) -> Result<(), Failure> {
    match what {
        What::Bench(bench) => {
            let plans = bench.plans();
            let progress = progress(plans.iter().map(Plan::length).sum());
            for plan in &plans {
                plan.carry_out(lab, report, &progress).await?;
            }
        }
        What::Idle(Idle { contenders, connections, .. }) => {
            let contenders = contenders.or(Contender::all_steps());
            let plan = Plan::Idle(contenders, (*connections).into());
            plan.carry_out(lab, report, &progress(plan.length())).await?;
        }
        What::Stall(Stall { contenders, .. }) => {
            let plan = Plan::Stall(contenders.or(Contender::all_steps()));
            plan.carry_out(lab, report, &progress(plan.length())).await?;
        }
        What::All(All { with, effort, .. }) => {
            let plans = plans_for_all(with, effort.effort());
            let progress = progress(plans.iter().map(Plan::length).sum());
            for plan in &plans {
                plan.carry_out(lab, report, &progress).await?;
            }
        }
        What::Timeline(TimelineOf { step, out }) => {
            let picture = plot::timeline(&timeline::record(lab, step).await?)?;
            match out {
                Some(file) => std::fs::write(file, picture)?,
                None => io::stdout().write_all(picture.as_bytes())?,
            }
        }
        // Served before there was a lab.
        What::Floor(_) => {}
    }
    Ok(())
}

/// A part of what is to be measured.
enum Plan {
    Bench(Vec<Contender>, Workload, Effort),
    Idle(Vec<Contender>, usize),
    Stall(Vec<Contender>),
    Timeline(Vec<Contender>),
}

impl Bench {
    fn plans(&self) -> Vec<Plan> {
        let wants = |one: Only, others: &[Only]| {
            self.only.contains(&one) || !others.iter().any(|other| self.only.contains(other))
        };
        let pages = [Only::Small, Only::Picture, Only::Big];
        let kinds = [Only::Once, Only::Persistent];
        let mut plans = Vec::new();
        for persistent in [false, true] {
            if !wants(kinds[usize::from(persistent)], &kinds) {
                continue;
            }
            let mut contenders = self.contenders.or(Contender::steps_and_floors(persistent));
            contenders.retain(|contender| !persistent || contender.is_persistent());
            for (page, only) in Page::ALL.into_iter().zip(pages) {
                if wants(only, &pages) && !contenders.is_empty() {
                    let workload = Workload {
                        page,
                        persistent,
                        clients: self.connections.into(),
                        idle: if persistent { self.idle.into() } else { 0 },
                    };
                    plans.push(Plan::Bench(contenders.clone(), workload, self.effort.effort()));
                }
            }
        }
        plans
    }
}

fn plans_for_all(with: &[Contender], effort: Effort) -> Vec<Plan> {
    let bench = |persistent, page, clients, idle| {
        let mut contenders = Contender::steps_and_floors(persistent);
        contenders.extend(with.iter().cloned());
        Plan::Bench(contenders, Workload { page, persistent, clients, idle }, effort)
    };
    let steps = |names: &[&str]| -> Vec<Contender> {
        Contender::all_steps().into_iter().filter(|c| names.contains(&c.name.as_str())).collect()
    };
    let all: Vec<Contender> =
        Contender::all_steps().into_iter().chain(with.iter().cloned()).collect();
    let mut plans = vec![
        bench(false, Page::Small, 16, 0),
        bench(false, Page::Big, 16, 0),
        bench(true, Page::Small, 64, 0),
        bench(true, Page::Picture, 64, 0),
        bench(true, Page::Big, 16, 0),
        bench(true, Page::Small, 5000, 0),
    ];
    for idle in [10, 100, 1000, 5000] {
        let contenders = steps(&["step08-persistent", "step09-epoll"]);
        let workload = Workload { page: Page::Small, persistent: true, clients: 64, idle };
        plans.push(Plan::Bench(contenders, workload, effort));
    }
    plans.push(Plan::Idle(all.clone(), 1000));
    plans
        .push(Plan::Idle(steps(&["step06-coroutines", "step08-persistent", "step09-epoll"]), 5000));
    plans.push(Plan::Stall(all));
    plans.push(Plan::Timeline(Contender::all_steps()));
    plans
}

impl Plan {
    /// How many servers are started for it.
    fn length(&self) -> u64 {
        let length = match self {
            Plan::Bench(contenders, _, effort) => contenders.len() * effort.rounds,
            Plan::Idle(contenders, _) | Plan::Timeline(contenders) => contenders.len(),
            Plan::Stall(contenders) => contenders.len() * crowd::SILENT.len(),
        };
        length as u64
    }

    async fn carry_out(
        &self,
        lab: &Lab,
        report: &mut Report,
        progress: &ProgressBar,
    ) -> Result<(), Failure> {
        match self {
            Plan::Bench(contenders, workload, effort) => {
                let title = workload.title(lab)?;
                let table = bench::measure(lab, contenders, workload, *effort, |contender| {
                    progress.set_message(format!("{}: {title}", contender.name));
                    progress.inc(1);
                });
                let table = table.await?;
                progress.suspend(|| print(&report::bench_as_text(&table)));
                report.tables.push(table);
            }
            Plan::Idle(contenders, connections) => {
                let mut rows = Vec::new();
                for contender in contenders {
                    progress.set_message(format!("{}: {connections} idle", contender.name));
                    progress.inc(1);
                    rows.push(crowd::measure_idle(lab, contender, *connections).await?);
                    report.idle.extend(rows.last().cloned());
                }
                progress.suspend(|| print(&report::idle_as_text(&rows)));
            }
            Plan::Stall(contenders) => {
                let mut rows = Vec::new();
                for contender in contenders {
                    for silent in crowd::SILENT {
                        progress.set_message(format!("{}: {silent} silent", contender.name));
                        progress.inc(1);
                        rows.push(crowd::measure_stall(lab, contender, silent).await?);
                        report.stalls.extend(rows.last().cloned());
                    }
                }
                progress.suspend(|| print(&report::stall_as_text(&rows)));
            }
            Plan::Timeline(contenders) => {
                for contender in contenders {
                    progress.set_message(format!("{}: timeline", contender.name));
                    progress.inc(1);
                    report.timelines.push(timeline::record(lab, contender).await?);
                }
            }
        }
        Ok(())
    }
}

/// Shown on stderr when that is a terminal.
fn progress(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let style = "{bar:30} {pos}/{len}, {eta} left: {msg}";
    bar.with_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}

/// A table to stdout. That nobody reads it is no reason to stop measuring.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// A line to stderr.
fn say(message: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{message}");
}
