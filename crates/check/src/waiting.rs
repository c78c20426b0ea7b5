//! Waiting: for what the system only tells when it is asked, and for a server, as long as that is of use.

use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::processes::{Process, family};

/// Asks again and again until the answer is yes, for facts that the system only shows when asked,
/// such as what stands in /proc. The longest wait is `limit`.
///
/// # Errors
/// The answer was still no at the end; `what` says what was waited for.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut is_so: impl FnMut() -> bool,
) -> Result<(), Failure> {
    let deadline = Instant::now() + limit;
    while !is_so() {
        if Instant::now() >= deadline {
            return Err(format!("waited {limit:?} in vain: {what}").into());
        }
        thread::park_timeout(Duration::from_millis(2));
    }
    Ok(())
}

/// Judges whether waiting for a server is in vain, by what the server does and not by the clock: a
/// machine that is busy with something else delays an answer and says nothing about the server.
#[derive(Debug)]
pub struct Waiting {
    leader: u32,
    start: Instant,
    last_look: Instant,
    ticks_at_start: Option<u64>,
    looks: u32,
    looks_asleep: u32,
    /// Bytes that have come since the last look.
    brought: usize,
    /// How often bytes have come after the first look.
    late: u32,
}

impl Waiting {
    /// Looks that found the whole server asleep, a tenth of a second apart, before waiting is in vain.
    const LOOKS_ASLEEP: u32 = 30;
    /// Processor time in ticks of 10 ms that a server may use before an answer.
    const TICKS: u64 = 200;
    /// For a whole answer.
    const AT_MOST: Duration = Duration::from_secs(60);
    /// So many bytes between two looks show that an answer is under way.
    const PROGRESS: usize = 1024;

    /// Begins to wait for something from the server whose first process has this id.
    pub fn new(leader: u32) -> Waiting {
        let now = Instant::now();
        Waiting {
            leader,
            start: now,
            last_look: now,
            ticks_at_start: None,
            looks: 0,
            looks_asleep: 0,
            brought: 0,
            late: 0,
        }
    }

    /// Bytes have come.
    pub fn has_brought(&mut self, bytes: usize) {
        self.brought += bytes;
        self.late += u32::from(bytes > 0 && self.looks > 0);
    }

    /// Whether bytes came again and again, if waiting was in vain.
    pub fn drops(&self) -> bool {
        self.late > 2
    }

    /// Whether nothing will come any more: the server has slept for three seconds in all, or has used
    /// two seconds of processor time, or is gone; or all of it takes longer than a minute. Time in which the
    /// bytes come quickly counts for the minute only. Cheap when called often.
    pub fn is_in_vain(&mut self) -> bool {
        if self.last_look.elapsed() < Duration::from_millis(100) {
            return false;
        }
        self.last_look = Instant::now();
        self.looks += 1;
        let is_late = self.start.elapsed() >= Waiting::AT_MOST;
        if std::mem::take(&mut self.brought) >= Waiting::PROGRESS {
            self.ticks_at_start = None;
            return is_late;
        }
        let family = family(self.leader);
        if family.iter().all(|process| process.state == 'Z') {
            return true;
        }
        if !family.iter().any(Process::has_work) {
            self.looks_asleep += 1;
        }
        let ticks = family.iter().map(|process| process.ticks).sum::<u64>();
        let used = ticks.saturating_sub(*self.ticks_at_start.get_or_insert(ticks));
        self.looks_asleep >= Waiting::LOOKS_ASLEEP || used >= Waiting::TICKS || is_late
    }
}
