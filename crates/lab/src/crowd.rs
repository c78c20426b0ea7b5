//! Crowds: what connections cost that ask for nothing, and who is kept waiting by clients that say
//! nothing at all.

use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::Failure;
use crate::bench::{Page, open_idle};
use crate::contender::{Contender, Lab};
use crate::load::{Load, wait_of_new_client};
use crate::server::Running;

/// How long a client is waited for before the table says "longer".
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How often a server is looked at until it has come to rest, at most.
const SETTLING: usize = 20;
/// How long the processor time of an idle server is watched.
const WATCH: Duration = Duration::from_secs(2);
/// How many silent clients stand before the good ones.
pub(crate) const SILENT: [usize; 6] = [0, 1, 8, 64, 512, 2000];
/// How many good clients come then, all at once.
const GOOD: usize = 50;

/// A server with connections that are doing nothing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Idle {
    pub(crate) name: String,
    pub(crate) is_floor: bool,
    pub(crate) connections: usize,
    /// Whether each has had an answer. Where a connection is for one answer, it stands in the middle
    /// of its request instead.
    pub(crate) after_answer: bool,
    /// How many the server still had at the end.
    pub(crate) held: usize,
    /// None if it held none.
    pub(crate) kib_per_connection: Option<f64>,
    pub(crate) processes: usize,
    pub(crate) threads: usize,
    /// Of one core, while nobody asks for anything.
    pub(crate) processor_percent: Option<f64>,
    pub(crate) new_client_ms: Option<f64>,
    /// Why it was not answered, or why nothing could be measured.
    pub(crate) new_client_error: Option<String>,
}

pub(crate) async fn measure_idle(lab: &Lab, contender: &Contender, connections: usize) -> Idle {
    try_idle(lab, contender, connections).await.unwrap_or_else(|failure| Idle {
        name: contender.name.clone(),
        is_floor: contender.is_floor(),
        connections,
        after_answer: contender.is_persistent(),
        held: 0,
        kib_per_connection: None,
        processes: 0,
        threads: 0,
        processor_percent: None,
        new_client_ms: None,
        new_client_error: Some(failure.to_string()),
    })
}

async fn try_idle(lab: &Lab, contender: &Contender, connections: usize) -> Result<Idle, Failure> {
    let server = Running::start(contender, lab, Page::Small.size(lab)?, &[]).await?;
    let load = Load {
        address: server.address,
        path: Page::Small.path().to_owned(),
        persistent: true,
        clients: 1,
    };
    // The first answer makes what is made once, so that it is not counted as a connection's.
    wait_of_new_client(server.address, &load.path, PATIENCE)
        .await
        .map_err(|error| format!("no first answer: {error}"))?;
    let before = server.full_usage();
    let streams = if contender.is_persistent() {
        open_idle(&load, connections).await?
    } else {
        open_unfinished(server.address, connections, "GET / HT").await?
    };
    // Children and threads are started one by one.
    let mut usage = server.full_usage();
    for _ in 0..SETTLING {
        sleep(Duration::from_millis(300)).await;
        let now = server.full_usage();
        let is_settled = now.memory_kib == usage.memory_kib && now.threads == usage.threads;
        usage = now;
        if is_settled {
            break;
        }
    }
    let started = Instant::now();
    let processor = server.processor_time();
    sleep(WATCH).await;
    let used = server.processor_time().saturating_sub(processor);
    let watched = started.elapsed();
    let new_client = wait_of_new_client(server.address, &load.path, PATIENCE).await;
    let held = streams.iter().filter(|stream| is_open(stream, contender.is_persistent())).count();
    Ok(Idle {
        name: contender.name.clone(),
        is_floor: contender.is_floor(),
        connections,
        after_answer: contender.is_persistent(),
        held,
        kib_per_connection: (held > 0)
            .then(|| usage.memory_kib.saturating_sub(before.memory_kib) as f64 / held as f64),
        processes: usage.processes,
        threads: usage.threads,
        processor_percent: Some(100.0 * used.as_secs_f64() / watched.as_secs_f64()),
        new_client_ms: new_client.as_ref().ok().map(|wait| wait.as_secs_f64() * 1e3),
        new_client_error: new_client.err(),
    })
}

/// Whether the server still has this connection. One that has had its answer has it unread; any
/// other that can be read has been refused or closed.
fn is_open(stream: &TcpStream, has_answer: bool) -> bool {
    let mut byte = [0];
    match stream.try_read(&mut byte) {
        Ok(1..) => has_answer,
        Ok(0) => false,
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

async fn open_unfinished(
    address: std::net::SocketAddr,
    count: usize,
    start: &str,
) -> Result<Vec<TcpStream>, Failure> {
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = timeout(PATIENCE, TcpStream::connect(address))
            .await
            .map_err(|_| format!("only {} of {count} could connect", streams.len()))??;
        stream.write_all(start.as_bytes()).await?;
        streams.push(stream);
    }
    Ok(streams)
}

/// How long good clients wait when so many silent ones came before them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Stall {
    pub(crate) name: String,
    pub(crate) is_floor: bool,
    pub(crate) silent: usize,
    /// Of 50.
    pub(crate) answered: usize,
    /// Of those who were answered.
    pub(crate) median_ms: Option<f64>,
    pub(crate) longest_ms: Option<f64>,
    /// Why nothing could be measured.
    pub(crate) failure: Option<String>,
}

impl Stall {
    /// The median wait, which says nothing when most have had no answer.
    pub(crate) fn typical_ms(&self) -> Option<f64> {
        self.median_ms.filter(|_| self.answered > GOOD / 2)
    }
}

pub(crate) async fn measure_stall(lab: &Lab, contender: &Contender, silent: usize) -> Stall {
    let waits = waits_behind(lab, contender, silent).await;
    let failure = waits.as_ref().err().map(Failure::to_string);
    let waits = waits.unwrap_or_default();
    Stall {
        name: contender.name.clone(),
        is_floor: contender.is_floor(),
        silent,
        answered: waits.len(),
        median_ms: waits.get(waits.len() / 2).copied(),
        longest_ms: waits.last().copied(),
        failure,
    }
}

/// In milliseconds, the shortest first; of those who were answered.
async fn waits_behind(
    lab: &Lab,
    contender: &Contender,
    silent: usize,
) -> Result<Vec<f64>, Failure> {
    let server = Running::start(contender, lab, Page::Small.size(lab)?, &[]).await?;
    let silent_ones = open_unfinished(server.address, silent, "").await?;
    let mut good = JoinSet::new();
    let local = tokio::task::LocalSet::new();
    for _ in 0..GOOD {
        let address = server.address;
        good.spawn_local_on(
            async move { wait_of_new_client(address, Page::Small.path(), PATIENCE).await },
            &local,
        );
    }
    let mut waits: Vec<f64> = local
        .run_until(good.join_all())
        .await
        .into_iter()
        .flatten()
        .map(|wait| wait.as_secs_f64() * 1e3)
        .collect();
    drop(silent_ones);
    waits.sort_by(f64::total_cmp);
    Ok(waits)
}
