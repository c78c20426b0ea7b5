//! How many answers a second, how soon, and what each costs the server.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::Failure;
use crate::calls::{self, Counters};
use crate::contender::{Contender, Lab};
use crate::load::{Asking, Load, Outcome, PATIENCE, Times, new_histogram};
use crate::machine::Cores;
use crate::server::Running;

/// How long a server is asked before it counts.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long system calls are counted, at most.
const COUNTING: Duration = Duration::from_secs(1);

/// How often it is asked whether an answer has come.
const SHORT: Duration = Duration::from_millis(10);

/// What is asked for, how.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Workload {
    pub(crate) page: Page,
    pub(crate) persistent: bool,
    pub(crate) clients: usize,
    /// Connections beside these that have had one answer and are silent since.
    pub(crate) idle: usize,
    /// Not the lab's own, where more than one core matters.
    pub(crate) cores: Option<Cores>,
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
        let mut title =
            format!("{page} ({} bytes), {} clients, {kind}", self.page.size(lab)?, self.clients);
        if self.idle > 0 {
            title += &format!(", {} idle beside", self.idle);
        }
        if let Some(cores) = &self.cores {
            title += &format!(", {}", cores.words());
        }
        Ok(title)
    }
}

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
}

/// One row of a table, and of bench.csv. Rates and costs are the median over the rounds. A server that answered
/// nothing has none.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) workload: String,
    pub(crate) name: String,
    pub(crate) is_floor: bool,
    pub(crate) answers: u64,
    pub(crate) errors: u64,
    /// What the most frequent error said, or why the server could not be measured.
    pub(crate) error: Option<String>,
    pub(crate) answers_per_second: Option<f64>,
    /// Of the server: user and system, all its processes.
    pub(crate) processor_us_per_answer: Option<f64>,
    /// Of the rounds.
    pub(crate) processor_us_least: Option<f64>,
    pub(crate) processor_us_greatest: Option<f64>,
    /// System calls of the server; none where nobody could count them.
    pub(crate) calls_per_answer: Option<f64>,
    pub(crate) latency_us_p50: Option<u64>,
    pub(crate) latency_us_p90: Option<u64>,
    pub(crate) latency_us_p99: Option<u64>,
    pub(crate) latency_us_max: Option<u64>,
}

/// One workload, and what each contender made of it.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) workload: Workload,
    /// Who counted the system calls, or why nobody did.
    pub(crate) calls_by: String,
    pub(crate) rows: Vec<Row>,
}

struct Rounds {
    contender: Contender,
    latencies: Histogram<u64>,
    answers: u64,
    errors: BTreeMap<String, u64>,
    rates: Vec<f64>,
    costs: Vec<f64>,
    calls: Option<f64>,
    /// Why it is measured no more.
    failure: Option<String>,
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
    let title = workload.title(lab)?;
    let cores = workload.cores.clone().unwrap_or_else(|| lab.cores.clone());
    let lab = &Lab { cores, ..lab.clone() };
    let mut all = Vec::new();
    for contender in contenders {
        all.push(Rounds {
            contender: contender.clone(),
            latencies: new_histogram()?,
            answers: 0,
            errors: BTreeMap::new(),
            rates: Vec::new(),
            costs: Vec::new(),
            calls: None,
            failure: None,
        });
    }
    let mut calls_by = String::new();
    for round in 0..effort.rounds {
        for rounds in all.iter_mut().filter(|rounds| rounds.failure.is_none()) {
            report(&rounds.contender);
            let measured = rounds.measure_once(lab, workload, effort, round, &mut calls_by).await;
            rounds.failure = measured.err().map(|failure| failure.to_string());
        }
    }
    let rows = all.into_iter().map(|rounds| rounds.into_row(&title)).collect();
    Ok(Table { title, workload: workload.clone(), calls_by, rows })
}

impl Rounds {
    async fn measure_once(
        &mut self,
        lab: &Lab,
        workload: &Workload,
        effort: Effort,
        round: usize,
        calls_by: &mut String,
    ) -> Result<(), Failure> {
        let canned = workload.page.size(lab)?;
        let server = Running::start(&self.contender, lab, canned, &[]).await?;
        let load = Load {
            address: server.address,
            path: workload.page.path().to_owned(),
            persistent: workload.persistent,
            clients: workload.clients,
        };
        let idle = open_idle(&load, workload.idle).await?;
        let start = Instant::now() + WARM_UP;
        let end = start + Duration::from_secs_f64(effort.seconds);
        let counting = COUNTING.min(end - start);
        let stop = if round == 0 { end + counting } else { end };
        let asking = load.begin(Times { start, end, stop }, &lab.cores.load);
        sleep_until(start).await;
        let before = Look::at(&server, &asking);
        sleep_until(end).await;
        // One that answers, only not so soon, is not to look like one that does not.
        while asking.answers() == before.answers && !asking.is_over() {
            sleep(SHORT).await;
        }
        let after = Look::at(&server, &asking);
        let mut counted = Ok(None);
        if round == 0 {
            counted = count_calls(&server, &asking, stop).await;
        }
        let Outcome { errors, latencies, .. } = asking.finish().await?;
        drop((idle, server));
        if round == 0 {
            *calls_by = "the kernel (perf_event_open)".to_owned();
            if let Err(why) = counted {
                // The workload's idle connections are left out: they make no calls.
                counted = calls::with_strace(&self.contender, lab, canned, &load, counting).await;
                *calls_by = match &counted {
                    Ok(_) => "strace, which slows the server down".to_owned(),
                    Err(also) => format!("nobody: neither the kernel ({why}) nor strace ({also})"),
                };
            }
            self.calls = counted.unwrap_or(None);
        }
        let answers = after.answers - before.answers;
        let seconds = (after.moment - before.moment).as_secs_f64();
        self.answers += answers;
        for (error, count) in errors {
            *self.errors.entry(error).or_default() += count;
        }
        self.latencies.add(&latencies)?;
        self.rates.push(answers as f64 / seconds);
        if answers > 0 {
            let used = after.processor.saturating_sub(before.processor);
            self.costs.push(used.as_secs_f64() * 1e6 / answers as f64);
        }
        Ok(())
    }

    fn into_row(mut self, title: &str) -> Row {
        let has_answers = self.answers > 0;
        let has_latencies = has_answers && !self.latencies.is_empty();
        let latency = |quantile| has_latencies.then(|| self.latencies.value_at_quantile(quantile));
        let most_frequent = self.errors.iter().max_by_key(|(_, count)| **count);
        let most_frequent = most_frequent.map(|(error, _)| error.clone());
        Row {
            workload: title.to_owned(),
            is_floor: self.contender.is_floor(),
            name: self.contender.name,
            answers: self.answers,
            errors: self.errors.values().sum(),
            error: self.failure.or(most_frequent),
            latency_us_p50: latency(0.5),
            latency_us_p90: latency(0.9),
            latency_us_p99: latency(0.99),
            latency_us_max: latency(1.0),
            answers_per_second: median(&mut self.rates).filter(|_| has_answers),
            processor_us_per_answer: median(&mut self.costs),
            // `median` has sorted them.
            processor_us_least: self.costs.first().copied(),
            processor_us_greatest: self.costs.last().copied(),
            calls_per_answer: self.calls.map(rounded),
        }
    }
}

/// What a server has done up to a moment.
struct Look {
    moment: Instant,
    answers: u64,
    processor: Duration,
}

impl Look {
    fn at(server: &Running, asking: &Asking) -> Look {
        let processor = server.processor_time();
        Look { moment: Instant::now(), answers: asking.answers(), processor }
    }
}

/// System calls for each answer from now on, or why the kernel does not say.
async fn count_calls(
    server: &Running,
    asking: &Asking,
    stop: Instant,
) -> Result<Option<f64>, Failure> {
    let mut counters = Counters::of(&server.processes())?;
    let (calls, answers) = (counters.sum()?, asking.answers());
    sleep_until(stop).await;
    let (calls, answers) = (counters.sum()? - calls, asking.answers() - answers);
    Ok((answers > 0).then(|| calls as f64 / answers as f64))
}

/// To two digits: there is nothing behind them.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Sorts and rounds them, and takes the middle one.
fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    for value in &mut *values {
        *value = rounded(*value);
    }
    values.get(values.len() / 2).copied()
}

/// Connections that have had one answer and say nothing since.
pub(crate) async fn open_idle(load: &Load, count: usize) -> Result<Vec<TcpStream>, Failure> {
    let mut streams = Vec::with_capacity(count);
    let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", load.path);
    for _ in 0..count {
        let opened = timeout(PATIENCE, async {
            let mut stream = TcpStream::connect(load.address).await?;
            stream.write_all(request.as_bytes()).await?;
            // The answer stays unread in the client's own buffer; its first byte says that it came.
            stream.peek(&mut [0]).await?;
            Ok::<_, std::io::Error>(stream)
        });
        let opened = opened.await.map_err(|_| {
            format!("of {count} connections that are to be idle, {} had an answer", streams.len())
        });
        streams.push(opened??);
    }
    Ok(streams)
}
