//! The lab runs, measures what it says, and leaves nothing behind. What the figures are is not tested.

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use check::server::children_of;
use check::{Failure, wait_until};
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tests::{ensure, raise_descriptor_limit};

const PATIENCE: Duration = Duration::from_secs(120);

type Outcome = Result<(), Failure>;
type Check = fn() -> Outcome;

fn main() {
    raise_descriptor_limit();
    let checks: [(&str, Check); 6] = [
        ("bench measures what is named, and writes it down", bench),
        ("bench measures a server of somebody else's", with),
        ("idle and stall tell the models apart", crowds),
        ("timeline draws eight clients", timeline),
        ("Ctrl-C leaves no server behind and keeps what was measured", interrupted),
        ("says what to type instead of what it does not know", unknown_words),
    ];
    let trials = checks.into_iter().map(|(name, run)| {
        Trial::test(format!("lab: {name}"), move || run().map_err(|e| Failed::from(e.to_string())))
    });
    libtest_mimic::run(&tests::arguments(4), trials.collect()).exit();
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
    let few = ["--seconds", "0.2", "--rounds", "1", "--connections", "4", "--out", out_word];
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
    Ok(())
}

fn with() -> Outcome {
    let program = tests::program("step08-persistent")?;
    let server = format!("other={} --quiet --port {{port}} {{root}}", program.display());
    let few = ["--seconds", "0.1", "--rounds", "2", "--connections", "2", "--idle", "10"];
    let only = ["--only", "picture", "--only", "persistent"];
    let text = succeed(&[&["bench", "step09", "--with", &server], &few[..], &only].concat())?;
    ensure!(text.matches("other ").count() == 1 && text.contains("10 idle beside"), "{text}");
    ensure!(!text.contains("small page"), "{text}");
    Ok(())
}

fn crowds() -> Outcome {
    let idle = succeed(&["idle", "step05", "step09", "--connections", "20"])?;
    let words = |name: &str| -> Vec<String> {
        let line = idle.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    };
    let (threads, epoll) = (words("step05-threads"), words("step09-epoll"));
    // Name, connections, held, KiB each, processes, threads.
    ensure!(threads[1..3] == ["20", "20"] && threads[4..6] == ["1", "21"], "{idle}");
    ensure!(epoll[1..3] == ["20", "20"] && epoll[4..6] == ["1", "1"], "{idle}");
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
    let folder = TempDir::new()?;
    let out = folder.path().to_str().ok_or("no name")?;
    let mut lab =
        Killed(lab(&["bench", "step04", "step09", "--seconds", "600", "--out", out])?.spawn()?);
    let pid = lab.0.id();
    wait_until("a server and its children run", PATIENCE, || {
        children_of(pid)
            .iter()
            .any(|&server| name(server) == "step04-fork" && !children_of(server).is_empty())
    })?;
    let servers = children_of(pid);
    kill(Pid::from_raw(pid as i32), Signal::SIGINT)?;
    wait_until("the lab ends", PATIENCE, || lab.0.try_wait().is_ok_and(|ended| ended.is_some()))?;
    for server in servers {
        ensure!(name(server) != "step04-fork", "process {server} is still there");
    }
    ensure!(fs::read_to_string(folder.path().join("report.html"))?.contains("<h1>"), "no report");
    Ok(())
}

fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

fn unknown_words() -> Outcome {
    let cases: [(&[&str], &str); 4] = [
        (&["bench", "step10"], "there is no 'step10' to measure; there are step03-static-files"),
        (&["bench", "--with", "nginx"], "type NAME=COMMAND"),
        (&["bench", "--seconds", "0"], "from 0.05 to 3600 seconds"),
        (&["bench", "--rounds", "0"], "0 is not in 1.."),
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
