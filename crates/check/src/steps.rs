//! The steps, and what each can do.

/// A step, and what its chapter has taught so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The name of its crate and program; its chapter is named the same.
    pub name: &'static str,
    /// Serves files over HTTP.
    pub serves_files: bool,
    /// A silent client stops nobody else.
    pub is_concurrent: bool,
    /// Answers many requests on one connection.
    pub is_persistent: bool,
    /// Uses no processor time while nothing happens.
    pub idles_for_free: bool,
}

impl Step {
    const fn new(name: &'static str, abilities: [bool; 4]) -> Step {
        let [serves_files, is_concurrent, is_persistent, idles_for_free] = abilities;
        Step { name, serves_files, is_concurrent, is_persistent, idles_for_free }
    }

    /// The step of a short name, such as `step05`.
    pub fn of(short: &str) -> Option<Step> {
        STEPS.into_iter().find(|step| step.short() == short)
    }

    /// The first word of the name, such as `step05`.
    pub fn short(&self) -> &'static str {
        self.name.split('-').next().unwrap_or(self.name)
    }

    /// The two digits of the name, such as `05`.
    pub fn number(&self) -> &'static str {
        self.short().trim_start_matches("step")
    }

    /// The file with the step's chapter, in the repository.
    pub fn chapter(&self) -> String {
        format!("chapters/{}.md", self.name.trim_start_matches("step"))
    }

    /// Answers requests by itself, in HTTP: all but 01 and 07.
    pub fn speaks_http(&self) -> bool {
        self.serves_files || self.number() == "02"
    }
}

/// Which step has which ability. A step gains one when its chapter teaches it.
pub const STEPS: [Step; 12] = [
    //                                 files  concurrent persistent idle
    Step::new("step01-by-hand", [false, false, false, true]),
    Step::new("step02-single-response", [false, false, false, true]),
    Step::new("step03-static-files", [true, false, false, true]),
    Step::new("step04-fork", [true, true, false, true]),
    Step::new("step05-threads", [true, true, false, true]),
    Step::new("step06-coroutines", [true, true, false, true]),
    Step::new("step07-nonblocking", [false, true, false, false]),
    Step::new("step08-persistent", [true, true, true, false]),
    Step::new("step09-epoll", [true, true, true, true]),
    Step::new("step10-cores", [true, true, true, true]),
    Step::new("step11-async", [true, true, true, true]),
    Step::new("step12-uring", [true, true, true, true]),
];
