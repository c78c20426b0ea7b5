//! Optional reading: counts how often a step asked its clients for something, and how often there was nothing: what
//! the list loop of steps 07 and 08 costs, as a line a second.

use std::time::{Duration, Instant};

use crate::Options;

/// The count since the last line.
#[derive(Debug)]
pub struct Tally {
    since: Instant,
    rounds: u64,
    asked: u64,
    in_vain: u64,
}

impl Tally {
    /// Begins to count.
    pub fn start() -> Tally {
        Tally { since: Instant::now(), rounds: 0, asked: 0, in_vain: 0 }
    }

    /// One look, at the listening socket or at a client, and whether it found something.
    pub fn looked(&mut self, found: bool) {
        self.asked += 1;
        self.in_vain += u64::from(!found);
    }

    /// One round over the list is over. Once a second, writes the line to stderr and counts anew.
    pub fn round_ended(&mut self, clients: usize, options: &Options) {
        self.rounds += 1;
        let elapsed = self.since.elapsed();
        if elapsed >= Duration::from_secs(1) {
            let Tally { rounds, asked, in_vain, .. } = self;
            let seconds = elapsed.as_secs_f64();
            options.warn(format_args!(
                "clients: {clients}, rounds in {seconds:.1} s: {rounds}, looked {asked} times, \
                 {in_vain} times for nothing"
            ));
            *self = Tally::start();
        }
    }
}
