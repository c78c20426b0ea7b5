//! The table of all checks.

mod concurrency;
mod evidence;
mod judge;
mod model;
mod pages;
mod robustness;
mod wire;

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use crate::scene::Scene;
use crate::site::SiteFile;
use crate::{Failure, Step};

/// What a check looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// The bytes of one answer, or of several on one connection.
    Wire,
    /// Several clients at once.
    Concurrency,
    /// Clients that are slow, wrong or gone, and what they leave behind.
    Robustness,
    /// What /proc says about the server's processes.
    Evidence,
}

impl Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Layer::Wire => "wire",
            Layer::Concurrency => "concurrency",
            Layer::Robustness => "robustness",
            Layer::Evidence => "evidence",
        })
    }
}

/// When a check is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What the chapter teaches.
    Core,
    /// Also what the standards ask for, and more clients.
    Strict,
    /// Only for the exercise that names it.
    Exercise,
}

/// How a check ends.
pub type Outcome = Result<(), Failure>;

/// A check.
#[derive(Clone, Copy)]
pub struct Check {
    /// What must hold.
    pub name: &'static str,
    /// What it looks at.
    pub layer: Layer,
    /// When it is made.
    pub level: Level,
    /// Which steps must pass it, by what they can do.
    pub applies: fn(&Step) -> bool,
    /// The number of the step whose chapter explains it; empty for the chapter of the step itself.
    pub chapter: &'static str,
    /// The heading to read there.
    pub heading: &'static str,
    /// What it does.
    pub run: fn(&mut Scene) -> Outcome,
}

impl Check {
    /// The chapter and heading to read when a step fails this check.
    pub fn read(&self, step: &Step) -> String {
        read(step, self.chapter, self.heading)
    }
}

/// A heading in the chapter with this number, or in the step's own if that comes first: who is at step 03
/// has not read chapter 08.
pub(crate) fn read(step: &Step, chapter: &str, heading: &str) -> String {
    let earlier = Step::of(&format!("step{chapter}")).filter(|of| of.number() < step.number());
    format!("{}, \"{heading}\"", earlier.unwrap_or(*step).chapter())
}

/// The check with this name.
pub fn named(name: &str) -> Option<&'static Check> {
    CHECKS.iter().find(|check| check.name == name)
}

use Layer::{Concurrency, Evidence, Robustness, Wire};
use Level::{Core, Exercise, Strict};

pub(crate) const HOW: &str = "How it works";
const WATCH: &str = "Watch it work";
const BREAK: &str = "Now break it";

const fn check(
    name: &'static str,
    (layer, level): (Layer, Level),
    applies: fn(&Step) -> bool,
    (chapter, heading): (&'static str, &'static str),
    run: fn(&mut Scene) -> Outcome,
) -> Check {
    Check { name, layer, level, applies, chapter, heading, run }
}

/// A person, or a file, gives the answer.
fn by_hand(step: &Step) -> bool {
    step.number() == "01"
}

/// Bytes are heard and printed, and nothing is answered.
fn raw(step: &Step) -> bool {
    step.number() == "07"
}

fn http(step: &Step) -> bool {
    step.speaks_http()
}

fn answers(step: &Step) -> bool {
    !raw(step)
}

fn files(step: &Step) -> bool {
    step.serves_files
}

fn concurrent(step: &Step) -> bool {
    step.speaks_http() && step.is_concurrent
}

fn concurrent_files(step: &Step) -> bool {
    step.serves_files && step.is_concurrent
}

fn persistent(step: &Step) -> bool {
    step.is_persistent
}

fn every(_: &Step) -> bool {
    true
}

/// Every check, in the order in which they are made.
#[rustfmt::skip]
pub static CHECKS: &[Check] = &[
    check("the answer is what was typed", (Wire, Core), by_hand, ("01", "An answer is text too"), wire::answer_as_typed),
    check("the request is shown", (Wire, Core), by_hand, ("01", "A request is text"), wire::request_is_shown),
    check("what a client sends is printed", (Wire, Core), raw, ("07", "One look at one client"), wire::words_are_printed),
    check("who comes and who goes is printed", (Wire, Core), raw, ("07", "The loop"), wire::coming_and_going),
    check("the front page is 200", (Wire, Core), http, ("02", "The answer"), wire::front_page),
    check("files arrive byte for byte", (Wire, Core), files, ("03", HOW), wire::files_arrive),
    check("a percent-encoded target is decoded", (Wire, Core), files, ("03", "The whole server in one piece"), wire::percent_encoded),
    check("Content-Length is the length of the body", (Wire, Core), http, ("02", "The answer"), wire::content_length),
    check("Content-Length counts bytes, not characters", (Wire, Core), files, ("02", "The answer"), wire::content_length_in_bytes),
    check("Content-Type fits the file", (Wire, Core), files, ("03", "The whole server in one piece"), wire::content_type),
    check("what is not there is 404", (Wire, Core), http, ("02", "404, and what 200 would do"), wire::missing),
    check("HEAD is the head without the body", (Wire, Core), files, ("03", "What an answer says of a file"), wire::head),
    check("the connection ends after Connection: close", (Wire, Core), answers, ("04", HOW), wire::ends),
    check("two requests on one connection", (Wire, Core), persistent, ("08", "Where an answer ends"), wire::two_requests),
    check("pipelined requests are all answered, in order", (Wire, Core), persistent, ("08", "Two requests at once"), wire::pipelined),
    check("head and body leave together", (Wire, Exercise), http, ("02", "Forty milliseconds"), wire::one_piece),

    check("eight clients connect before any sends", (Concurrency, Core), every, ("", WATCH), concurrency::eight),
    check("a client that leaves lets the next one in", (Concurrency, Core), every, ("03", BREAK), concurrency::leaves),
    check("a silent client stops nobody", (Concurrency, Core), |step| step.is_concurrent, ("", WATCH), concurrency::silent),
    check("a client that sends a byte at a time stops nobody", (Concurrency, Core), concurrent, ("", WATCH), concurrency::dripping),
    check("the last to come can be the first to be answered", (Concurrency, Core), concurrent, ("", HOW), concurrency::reverse),
    check("answers do not wait for each other", (Concurrency, Core), concurrent, ("", HOW), concurrency::overlapping),
    check("a slow reader stops nobody", (Concurrency, Core), concurrent_files, ("", WATCH), concurrency::slow_reader),
    check("a file that takes long stops nobody", (Concurrency, Exercise), |step| step.number() == "11", ("11", "Now break it"), pages::slow_file),
    check("a client between two requests stops nobody", (Concurrency, Core), persistent, ("08", WATCH), concurrency::between_requests),
    check("sixty-four clients at once", (Concurrency, Core), |step| step.is_concurrent, ("", HOW), concurrency::sixty_four),
    check("three hundred clients at once", (Concurrency, Strict), |step| step.is_concurrent, ("", BREAK), concurrency::three_hundred),
    check("every visit is counted once", (Concurrency, Exercise), |step| matches!(step.number(), "04" | "05"), ("", HOW), pages::visits),
    check("a slow page stops nobody", (Concurrency, Exercise), |step| step.number() == "09", ("09", BREAK), pages::slow_page),
    check("nobody is skipped when somebody leaves", (Concurrency, Exercise), raw, ("07", "Removing while walking"), concurrency::nobody_is_skipped),

    check("a request in pieces is answered", (Robustness, Core), http, ("02", "recv is not a request"), robustness::pieces),
    check("a long request is answered", (Robustness, Core), http, ("02", "recv is not a request"), robustness::long),
    check("a malformed request is refused and ends nobody", (Robustness, Core), http, ("02", "The request line"), robustness::malformed),
    check("an endless request line is refused and ends nobody", (Robustness, Core), http, ("02", "The loop"), robustness::endless),
    check("../ does not lead out of the folder", (Robustness, Core), files, ("03", "Nothing from outside the folder"), robustness::dot_dot),
    check("%2e%2e does not lead out of the folder", (Robustness, Core), files, ("03", "Nothing from outside the folder"), robustness::encoded_dot_dot),
    check("clients that disappear end nobody", (Robustness, Core), every, ("", HOW), robustness::disappearing),
    check("a big file arrives whole at a slow reader", (Robustness, Core), files, ("03", "A write is not an answer"), robustness::big_file),
    check("no descriptor is left behind", (Robustness, Core), every, ("", WATCH), robustness::descriptors),
    check("no zombie is left behind", (Robustness, Core), every, ("04", HOW), robustness::zombies),
    check("no zombie waits for the next client", (Robustness, Exercise), |step| step.number() == "04", ("04", "The parent asks how the child ended"), robustness::no_zombie_waits),
    check("a thousand resets end nobody", (Robustness, Strict), every, ("", BREAK), robustness::resets),

    check("a process for each client", (Evidence, Core), |step| step.number() == "04", ("04", WATCH), evidence::processes),
    check("a thread for each client, in one process", (Evidence, Core), |step| step.number() == "05", ("05", WATCH), evidence::threads),
    check("sixty-four clients cost no sixty-four threads", (Evidence, Core), |step| matches!(step.number(), "06" | "11"), ("", WATCH), evidence::coroutines),
    check("one thread serves all", (Evidence, Core), |step| matches!(step.number(), "07" | "08" | "09" | "12"), ("", WATCH), evidence::one_thread),
    check("clients cost no further threads", (Evidence, Core), |step| step.number() == "10", ("", WATCH), evidence::no_thread_each),
    check("clients are spread over several threads", (Evidence, Core), |step| step.number() == "10", ("10", "One socket for all"), evidence::spread),
    check("a new client wakes one worker", (Evidence, Exercise), |step| step.number() == "10", ("10", "One socket for all"), evidence::one_wakes),
    check("no processor time is used while nothing happens", (Evidence, Core), |step| step.is_persistent && step.idles_for_free, ("09", "A thousand clients, and no work"), evidence::idle),
    check("the number of threads has a limit", (Evidence, Exercise), |step| step.number() == "05", ("05", "How many, and what if not"), evidence::thread_limit),
];

/// A target that the step under test has, and what must come for it if the check can know.
fn a_target<'a>(scene: &Scene<'a>, number: usize) -> (&'a str, Option<&'a SiteFile>) {
    if scene.step.serves_files {
        let files = scene.site.small_files();
        let file = files[number % files.len()];
        (&file.target, Some(file))
    } else {
        ("/", None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::STEPS;

    #[test]
    fn names_are_unique_and_every_check_applies_to_a_step() {
        let names: HashSet<_> = CHECKS.iter().map(|check| check.name).collect();
        assert_eq!(names.len(), CHECKS.len());
        for check in CHECKS {
            assert!(STEPS.iter().any(|step| (check.applies)(step)), "{}", check.name);
            assert!(
                check.chapter.is_empty() || Step::of(&format!("step{}", check.chapter)).is_some()
            );
        }
    }
}
