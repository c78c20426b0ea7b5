//! Measures the steps side by side and draws the result, and shows the inside of one that runs.

use std::io::{self, Write};
use std::pin::pin;
use std::process::ExitCode;

use check::{Failure, processes};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::{Command, FloorOf, What};
use crate::contender::Lab;
use crate::machine::{Cores, Machine};
use crate::report::Report;

mod arguments;
mod bench;
mod calls;
mod contender;
mod crowd;
mod floor;
mod load;
mod machine;
mod plan;
mod plot;
mod report;
mod server;
mod tables;
mod timeline;
mod watch;

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
    match what {
        What::Floor(FloorOf { floor, port, size, workers }) => {
            floor::serve(floor, port, size, workers.into())
        }
        What::Watch { server } => watch::watch(server.as_deref()),
        what => measure(&what),
    }
}

fn measure(what: &What) -> Result<(), Failure> {
    let (server, load) = what.cores();
    let cores = Cores::choose(server, load)?;
    let lab = Lab::open(cores.clone())?;
    // Not before the compiler has run: it may start a server of its own that is meant to stay.
    processes::adopt_orphans()?;
    let mut report = Report::new(Machine::describe(cores));
    say(format_args!("{}", report.machine.line()));
    if cfg!(debug_assertions) {
        say(format_args!("lab: built without --release, so the figures are good for nothing"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        // What has been measured before a signal stays in the report.
        let mut measuring = pin!(plan::measure(what, &lab, &mut report));
        let ended_by = tokio::select! {
            result = &mut measuring => return result,
            ended_by = stopped() => ended_by?,
        };
        // The server, while its folder is still there.
        processes::end_all();
        Err(format!("stopped by {ended_by}").into())
    });
    // Clients may still be waiting, for answers that do not come any more.
    runtime.shutdown_background();
    if let Some(out) = what.out() {
        report.write(out)?;
        say(format_args!("wrote {}", out.join("report.html").display()));
    }
    result
}

/// Waits until somebody wants this to end.
async fn stopped() -> Result<&'static str, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => "Ctrl-C",
        _ = terminate.recv() => "SIGTERM",
        _ = hang_up.recv() => "SIGHUP",
    })
}

/// Text to stdout. That nobody reads it is no reason to stop measuring.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// A line to stderr.
fn say(message: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{message}");
}
