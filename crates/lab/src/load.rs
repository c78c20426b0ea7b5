//! The load: so many clients that ask for one page again and again, and how long each answer took.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::{JoinHandle, LocalSet, spawn_blocking, spawn_local};
use tokio::time::{Instant, timeout_at};

use crate::{Failure, machine};

/// How long an answer may take after the clients have stopped asking; then it counts as an error.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// The longest latency that the histogram holds; longer ones count as this.
const LONGEST: Duration = Duration::from_secs(60);

/// What every client does.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    /// Whether a connection is kept for the next request.
    pub(crate) persistent: bool,
    pub(crate) clients: usize,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Answers with status 200 and a whole body.
    pub(crate) answers: u64,
    /// By what was wrong.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Microseconds from the request (or from connecting, where each request has a connection of its
    /// own) to the last byte of the answer.
    pub(crate) latencies: Histogram<u64>,
}

/// For latencies in microseconds, with three digits.
pub(crate) fn new_histogram() -> Result<Histogram<u64>, Failure> {
    Ok(Histogram::new_with_bounds(1, LONGEST.as_micros() as u64, 3)?)
}

impl Outcome {
    fn new() -> Result<Outcome, Failure> {
        Ok(Outcome { answers: 0, errors: BTreeMap::new(), latencies: new_histogram()? })
    }

    fn note_error(&mut self, error: &str) {
        *self.errors.entry(error.to_owned()).or_default() += 1;
    }
}

/// Clients that are asking.
#[derive(Debug)]
pub(crate) struct Asking {
    /// So far.
    answers: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<Outcome, Failure>>>,
}

/// The clients ask until `stop`, and a request that has begun by then is waited for. Latencies are those of
/// requests that begin between `start` and `end`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) start: Instant,
    pub(crate) end: Instant,
    pub(crate) stop: Instant,
}

impl Times {
    /// Without latencies.
    pub(crate) fn until(stop: Instant) -> Times {
        Times { start: stop, end: stop, stop }
    }
}

impl Load {
    /// Starts the clients, in a thread for each of these cores.
    pub(crate) fn begin(&self, times: Times, cores: &[usize]) -> Asking {
        let answers = Arc::new(AtomicU64::new(0));
        let threads = (0..cores.len())
            .map(|thread| {
                let (load, answers) = (self.clone(), Arc::clone(&answers));
                let clients = (thread..self.clients).step_by(cores.len()).count();
                let cores = cores.to_vec();
                spawn_blocking(move || {
                    machine::move_to(&cores)?;
                    load.ask_with(clients, times, &answers)
                })
            })
            .collect();
        Asking { answers, threads }
    }

    fn ask_with(
        &self,
        clients: usize,
        times: Times,
        answers: &Arc<AtomicU64>,
    ) -> Result<Outcome, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let outcome = std::rc::Rc::new(RefCell::new(Outcome::new()?));
        let local = LocalSet::new();
        for _ in 0..clients {
            let (load, outcome, answers) = (self.clone(), outcome.clone(), Arc::clone(answers));
            local.spawn_local(async move {
                let asking = load.ask_until(times, &outcome, &answers);
                if timeout_at(times.stop + PATIENCE, asking).await.is_err() {
                    outcome.borrow_mut().note_error("no answer in time");
                }
            });
        }
        runtime.block_on(local);
        Ok(outcome.replace(Outcome::new()?))
    }

    async fn ask_until(&self, times: Times, outcome: &RefCell<Outcome>, answers: &AtomicU64) {
        let mut sender = None;
        loop {
            let start = Instant::now();
            if start >= times.stop {
                return;
            }
            match self.ask(&mut sender).await {
                Ok(()) => {
                    answers.fetch_add(1, Ordering::Relaxed);
                    if (times.start..times.end).contains(&start) {
                        let latency = start.elapsed().as_micros() as u64;
                        outcome.borrow_mut().latencies.saturating_record(latency);
                    }
                }
                Err(error) => {
                    outcome.borrow_mut().note_error(&error.to_string());
                    // A server that refuses everybody is not asked in a busy loop.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    /// One request and its whole answer. `sender` is the connection, if it is still open.
    async fn ask(&self, sender: &mut Option<SendRequest<Empty<Bytes>>>) -> Result<(), Failure> {
        let mut open = match sender.take().filter(|open| !open.is_closed()) {
            Some(open) => open,
            None => connect(self.address).await?,
        };
        let mut request = Request::get(&self.path).header(HOST, "localhost");
        if !self.persistent {
            request = request.header(CONNECTION, "close");
        }
        open.ready().await?;
        let answer = open.send_request(request.body(Empty::new())?).await?;
        if answer.status() != StatusCode::OK {
            return Err(format!("status {}", answer.status()).into());
        }
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        if self.persistent {
            *sender = Some(open);
        }
        Ok(())
    }
}

impl Asking {
    /// How many answers have come so far.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Whether all clients have gone.
    pub(crate) fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits for the end, and for the answers that are outstanding then.
    pub(crate) async fn finish(self) -> Result<Outcome, Failure> {
        let mut all = Outcome::new()?;
        for thread in self.threads {
            let outcome = thread.await??;
            all.latencies.add(outcome.latencies)?;
            for (error, count) in outcome.errors {
                *all.errors.entry(error).or_default() += count;
            }
        }
        all.answers = self.answers.load(Ordering::Relaxed);
        Ok(all)
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Empty<Bytes>>, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // What goes wrong on the connection comes back from the request on it.
    spawn_local(async {
        let _ = connection.await;
    });
    Ok(sender)
}

/// How long one new client waits for one answer, or why it has none.
pub(crate) async fn wait_of_new_client(
    address: SocketAddr,
    path: &str,
    limit: Duration,
) -> Result<Duration, String> {
    let load = Load { address, path: path.to_owned(), persistent: false, clients: 1 };
    let start = Instant::now();
    let asked = LocalSet::new()
        .run_until(async { timeout_at(start + limit, load.ask(&mut None)).await })
        .await;
    match asked {
        Ok(Ok(())) => Ok(start.elapsed()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("> {} s", limit.as_secs())),
    }
}
