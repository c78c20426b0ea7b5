//! The wire suite of `crates/check/wire`, as named tests over every step that speaks HTTP.

use std::sync::{Arc, OnceLock};

use check::wire::{Applies, cases};
use check::{Failure, Fixture, Server};
use libtest_mimic::{Arguments, Failed, Trial};
use tests::{STEPS, Step, start_with};

fn main() {
    let arguments = Arguments::from_args();
    let trials = match trials() {
        Ok(trials) => trials,
        // A table that cannot be read is a failed test, not a test run without tests.
        Err(error) => {
            vec![Trial::test("the tables can be read", move || Err(error.to_string().into()))]
        }
    };
    libtest_mimic::run(&arguments, tests::where_possible(trials)).exit();
}

fn trials() -> Result<Vec<Trial>, Failure> {
    let cases = cases()?;
    let mut trials = Vec::new();
    for step in STEPS.into_iter().filter(|step| speaks_http(*step)) {
        let subject = Arc::new(Subject { step, running: OnceLock::new() });
        let is_step02 = step.name == "step02-single-response";
        for (group, case) in &cases {
            let applies = match case.applies {
                Applies::All => true,
                Applies::Files => step.serves_files,
                Applies::Persistent => step.is_persistent,
            };
            if applies {
                let (subject, case) = (Arc::clone(&subject), case.clone());
                trials.push(Trial::test(
                    format!("{}: {group}: {}", step.name, case.name),
                    move || {
                        case.run(subject.server()?, is_step02)
                            .map_err(|error| Failed::from(error.to_string()))
                    },
                ));
            }
        }
    }
    Ok(trials)
}

fn speaks_http(step: Step) -> bool {
    step.serves_files || step.name == "step02-single-response"
}

/// One server for all cases of a step, started by the first and gone after the last.
struct Subject {
    step: Step,
    running: OnceLock<Result<(Server, Fixture), String>>,
}

impl Subject {
    fn server(&self) -> Result<&Server, Failed> {
        let running = self.running.get_or_init(|| {
            let fixture = Fixture::new().map_err(|error| error.to_string())?;
            let arguments = ["--quiet", "--timeout", "5"];
            let server = if self.step.serves_files {
                start_with(self.step, &fixture, &arguments)
            } else {
                tests::start(self.step, &arguments)
            };
            Ok((server.map_err(|error| error.to_string())?, fixture))
        });
        running.as_ref().map(|(server, _)| server).map_err(Failed::from)
    }
}
