//! The load: so many clients that ask for one page again and again, and how long each answer took.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, timeout_at};

use crate::Failure;

/// How long an answer may take after the end of the measurement; then it counts as an error.
const PATIENCE: Duration = Duration::from_secs(10);
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
    pub(crate) elapsed: Duration,
}

/// For latencies in microseconds, with three digits.
pub(crate) fn new_histogram() -> Result<Histogram<u64>, Failure> {
    Ok(Histogram::new_with_bounds(1, LONGEST.as_micros() as u64, 3)?)
}

impl Outcome {
    fn new() -> Result<Outcome, Failure> {
        let (latencies, errors) = (new_histogram()?, BTreeMap::new());
        Ok(Outcome { answers: 0, errors, latencies, elapsed: Duration::ZERO })
    }

    fn note_error(&mut self, error: &Failure) {
        *self.errors.entry(error.to_string()).or_default() += 1;
    }
}

impl Load {
    /// Asks for so long. Answers that have begun are waited for, and count.
    pub(crate) async fn run(&self, duration: Duration) -> Result<Outcome, Failure> {
        let outcome = Rc::new(RefCell::new(Outcome::new()?));
        let start = Instant::now();
        let end = start + duration;
        let clients = LocalSet::new();
        for _ in 0..self.clients {
            let (load, outcome) = (self.clone(), Rc::clone(&outcome));
            clients.spawn_local(async move {
                let asking = load.ask_until(end, &outcome);
                if timeout_at(end + PATIENCE, asking).await.is_err() {
                    outcome.borrow_mut().note_error(&"no answer in time".into());
                }
            });
        }
        clients.await;
        outcome.borrow_mut().elapsed = start.elapsed();
        Ok(Rc::into_inner(outcome).ok_or("a client is still there")?.into_inner())
    }

    async fn ask_until(&self, end: Instant, outcome: &RefCell<Outcome>) {
        let mut sender = None;
        while Instant::now() < end {
            let start = Instant::now();
            match self.ask(&mut sender).await {
                Ok(()) => {
                    let mut outcome = outcome.borrow_mut();
                    outcome.answers += 1;
                    outcome.latencies.saturating_record(start.elapsed().as_micros() as u64);
                }
                Err(error) => {
                    outcome.borrow_mut().note_error(&error);
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
