//! How many answers a second, how soon, and what each costs the server.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::Failure;
use crate::contender::{Contender, Lab};
use crate::load::{Load, Outcome, new_histogram};

/// How long a server is asked before it counts.
const WARM_UP: Duration = Duration::from_millis(500);

/// What is asked for, how.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Workload {
    pub(crate) page: Page,
    pub(crate) persistent: bool,
    pub(crate) clients: usize,
    /// Connections beside these that have had one answer and are silent since.
    pub(crate) idle: usize,
}

/// A file of the demo site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Page {
    Small,
    Picture,
    Big,
}

impl Page {
    pub(crate) const ALL: [Page; 3] = [Page::Small, Page::Picture, Page::Big];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Page::Small => "/news.html",
            Page::Picture => "/gallery/001.png",
            Page::Big => "/big.png",
        }
    }

    /// In bytes.
    pub(crate) fn size(self, lab: &Lab) -> Result<u64, Failure> {
        let path = lab.root.join(self.path().trim_start_matches('/'));
        Ok(path.metadata().map_err(|error| format!("{}: {error}", path.display()))?.len())
    }
}

impl Workload {
    pub(crate) fn title(&self, lab: &Lab) -> Result<String, Failure> {
        let page = match self.page {
            Page::Small => "a small page",
            Page::Picture => "a picture",
            Page::Big => "the big file",
        };
        let kind =
            if self.persistent { "persistent connections" } else { "a connection per request" };
        let idle =
            if self.idle > 0 { format!(", {} idle beside", self.idle) } else { String::new() };
        Ok(format!(
            "{page} ({} bytes), {} clients, {kind}{idle}",
            self.page.size(lab)?,
            self.clients
        ))
    }
}

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
}

/// One row of a table. Rates and costs are the median over the rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) answers: u64,
    pub(crate) errors: u64,
    /// What the most frequent error said.
    pub(crate) error: Option<String>,
    pub(crate) answers_per_second: f64,
    /// Of the server: user and system, the whole process tree.
    pub(crate) processor_us_per_answer: f64,
    /// The least and the greatest of the rounds.
    pub(crate) processor_us_range: (f64, f64),
    pub(crate) latency_us_p50: u64,
    pub(crate) latency_us_p90: u64,
    pub(crate) latency_us_p99: u64,
    pub(crate) latency_us_max: u64,
}

/// One workload, and what each contender made of it.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) workload: Workload,
    pub(crate) rows: Vec<Row>,
}

struct Rounds {
    contender: Contender,
    latencies: Histogram<u64>,
    answers: u64,
    errors: std::collections::BTreeMap<String, u64>,
    rates: Vec<f64>,
    costs: Vec<f64>,
}

/// Measures each contender once a round, in turn, so that a slow minute of the machine is not one
/// contender's alone. `report` is called after each measurement.
pub(crate) async fn measure(
    lab: &Lab,
    contenders: &[Contender],
    workload: &Workload,
    effort: Effort,
    mut report: impl FnMut(&Contender),
) -> Result<Table, Failure> {
    let mut all = Vec::new();
    for contender in contenders {
        all.push(Rounds {
            contender: contender.clone(),
            latencies: new_histogram()?,
            answers: 0,
            errors: Default::default(),
            rates: Vec::new(),
            costs: Vec::new(),
        });
    }
    for _ in 0..effort.rounds {
        for rounds in &mut all {
            report(&rounds.contender);
            rounds.measure_once(lab, workload, effort).await?;
        }
    }
    Ok(Table {
        title: workload.title(lab)?,
        workload: workload.clone(),
        rows: all.into_iter().map(Rounds::into_row).collect(),
    })
}

impl Rounds {
    async fn measure_once(
        &mut self,
        lab: &Lab,
        workload: &Workload,
        effort: Effort,
    ) -> Result<(), Failure> {
        let server = self.contender.start(lab, workload.page.size(lab)?).await?;
        let load = Load {
            address: server.address,
            path: workload.page.path().to_owned(),
            persistent: workload.persistent,
            clients: workload.clients,
        };
        let idle = open_idle(&load, workload.idle).await?;
        load.run(WARM_UP).await?;
        let before = server.processor_time();
        let Outcome { answers, errors, latencies, elapsed } =
            load.run(Duration::from_secs_f64(effort.seconds)).await?;
        let used = server.processor_time().saturating_sub(before);
        drop(idle);
        self.answers += answers;
        for (error, count) in errors {
            *self.errors.entry(error).or_default() += count;
        }
        self.latencies.add(&latencies)?;
        self.rates.push(answers as f64 / elapsed.as_secs_f64());
        self.costs.push(used.as_secs_f64() * 1e6 / answers.max(1) as f64);
        Ok(())
    }

    fn into_row(mut self) -> Row {
        let at = |quantile| self.latencies.value_at_quantile(quantile);
        Row {
            name: self.contender.name,
            answers: self.answers,
            errors: self.errors.values().sum(),
            error: self
                .errors
                .iter()
                .max_by_key(|(_, count)| **count)
                .map(|(error, _)| error.clone()),
            latency_us_p50: at(0.5),
            latency_us_p90: at(0.9),
            latency_us_p99: at(0.99),
            latency_us_max: self.latencies.max(),
            answers_per_second: median(&mut self.rates),
            processor_us_per_answer: median(&mut self.costs),
            // `median` has sorted them.
            processor_us_range: (
                self.costs.first().copied().unwrap_or(0.0),
                self.costs.last().copied().unwrap_or(0.0),
            ),
        }
    }
}

/// Sorts, and takes the middle one.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Connections that have had one answer and say nothing since.
pub(crate) async fn open_idle(load: &Load, count: usize) -> Result<Vec<TcpStream>, Failure> {
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(load.address).await?;
        let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", load.path);
        stream.write_all(request.as_bytes()).await?;
        // The answer stays unread in the client's own buffer; its first byte says that it came.
        stream.peek(&mut [0]).await?;
        streams.push(stream);
    }
    Ok(streams)
}
