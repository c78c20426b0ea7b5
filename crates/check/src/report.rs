//! What a run has shown, and the forms in which it is handed over.

use std::io::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Failure;
use crate::checks::Layer;
use crate::story::Explanation;

/// How one check ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckResult {
    /// Its name.
    pub name: String,
    /// What it looks at.
    pub layer: String,
    /// Whether it is the one that the exercise is about.
    pub is_own: bool,
    /// Whether its layer and those behind it count only if it has passed.
    #[serde(default)]
    pub is_essential: bool,
    /// What it is worth.
    #[serde(default)]
    pub points: usize,
    /// How long it took.
    pub seconds: f64,
    /// Why it failed; `None` if it passed.
    pub failure: Option<Explanation>,
    /// What was counted, where a number is the evidence.
    #[serde(default)]
    pub counted: String,
    /// Whether what was counted tells nothing, so that it has neither passed nor failed. It counts as passed.
    #[serde(default)]
    pub is_unclear: bool,
}

impl CheckResult {
    /// Whether it passed.
    pub fn passed(&self) -> bool {
        self.failure.is_none()
    }
}

/// All checks of one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The step or exercise.
    pub task: String,
    /// `core` or `strict`.
    pub level: String,
    /// What the site followed from.
    pub seed: u64,
    /// The command that started the server.
    pub command: String,
    /// How long all of it took.
    pub seconds: f64,
    /// Every check, in order.
    pub checks: Vec<CheckResult>,
}

impl Report {
    /// For a server with which no check could be made.
    pub fn could_not_run(task: &str, level: &str, why: &str) -> Report {
        let failure = Explanation {
            expected: "a server that starts".to_owned(),
            cause: why.to_owned(),
            ..Explanation::default()
        };
        let start = CheckResult {
            name: "the server starts".to_owned(),
            layer: NOT_STARTED.to_owned(),
            is_own: false,
            is_essential: false,
            points: 1,
            seconds: 0.0,
            failure: Some(failure),
            counted: String::new(),
            is_unclear: false,
        };
        Report {
            task: task.to_owned(),
            level: level.to_owned(),
            seed: 0,
            command: String::new(),
            seconds: 0.0,
            checks: vec![start],
        }
    }

    /// The points in all, and how many there are at most.
    pub fn total(&self) -> (usize, usize) {
        let points = self.points();
        (points.iter().map(|(earned, _)| earned).sum(), points.iter().map(|(_, most)| most).sum())
    }

    /// Why some of the checks that have passed do not count.
    pub fn gate(&self) -> Option<String> {
        let failed = |check: &&CheckResult| !check.passed();
        if self.checks.iter().filter(failed).any(|check| check.is_own) {
            let why = "the check that the exercise is about has failed, so the others do not count";
            return Some(why.to_owned());
        }
        let first = self.first_lost()?;
        Some(format!(
            "\"{}\" has failed, so {} and what comes behind it do not count",
            first.name, first.layer
        ))
    }

    /// The essential check that has failed in the earliest layer.
    fn first_lost(&self) -> Option<&CheckResult> {
        let lost = self.checks.iter().filter(|check| check.is_essential && !check.passed());
        lost.min_by_key(|check| rank(&check.layer))
    }

    /// How many checks failed.
    pub fn failed(&self) -> usize {
        self.checks.iter().filter(|check| !check.passed()).count()
    }

    /// The points of each check, and how many there are at most. In an exercise the others count only if the
    /// check made for it has passed: a starter that was handed in as it was gets nothing. If an essential
    /// check fails, its layer and those behind it count nothing.
    pub fn points(&self) -> Vec<(usize, usize)> {
        let lacks_own = self.checks.iter().any(|check| check.is_own && !check.passed());
        let lost = self.first_lost().map(|check| rank(&check.layer));
        let counts = |check: &CheckResult| {
            check.passed() && !lacks_own && lost.is_none_or(|lost| rank(&check.layer) < lost)
        };
        let points =
            |check: &CheckResult| (if counts(check) { check.points } else { 0 }, check.points);
        self.checks.iter().map(points).collect()
    }

    /// Why no check could be made; `None` if some were.
    pub fn obstacle(&self) -> Option<&str> {
        let first = self.checks.first().filter(|check| check.layer == NOT_STARTED)?;
        Some(first.failure.as_ref()?.cause.as_str())
    }

    /// As JSON, for programs.
    pub fn json(&self) -> Value {
        let mut report = json!(self);
        report["passed"] = (self.checks.len() - self.failed()).into();
        report["failed"] = self.failed().into();
        for (at, check) in self.checks.iter().enumerate() {
            report["checks"][at]["passed"] = check.passed().into();
        }
        report
    }

    /// As JUnit's XML, for CI systems.
    ///
    /// # Errors
    /// None that can happen in memory.
    pub fn junit(&self) -> Result<String, Failure> {
        let mut suite = TestSuite::new(&self.task);
        suite.set_time(Duration::try_from_secs_f64(self.seconds)?);
        for check in &self.checks {
            let mut status = TestCaseStatus::success();
            if let Some(why) = &check.failure {
                status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(visible(&format!("expected {}", why.expected)));
                status.set_description(plain(why).join("\n"));
            }
            let mut case = TestCase::new(&check.name, status);
            case.set_classname(format!("{}.{}", self.task, check.layer));
            case.set_time(Duration::try_from_secs_f64(check.seconds)?);
            suite.add_test_case(case);
        }
        let mut report = quick_junit::Report::new(&self.task);
        report.add_test_suite(suite);
        Ok(report.to_string()?)
    }

    /// As Gradescope's results.json.
    pub fn gradescope(&self) -> Value {
        let tests: Vec<Value> = self
            .checks
            .iter()
            .zip(self.points())
            .map(|(check, (score, most))| {
                json!({
                    "name": format!("{}: {}", check.layer, check.name),
                    "score": score,
                    "max_score": most,
                    "status": if check.passed() { "passed" } else { "failed" },
                    "output": check.failure.as_ref().map(|why| plain(why).join("\n")).unwrap_or_default(),
                })
            })
            .collect();
        json!({ "execution_time": self.seconds.round(), "visibility": "visible", "tests": tests })
    }
}

/// The layer of the only check of a server with which none could be made.
const NOT_STARTED: &str = "start";

/// Text of which nothing works on a terminal: control characters other than line ends, and the two that XML
/// forbids, are written as `\u{1b}`.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => shown.push('\n'),
            '\t' => shown.push_str("    "),
            '\u{fffe}' | '\u{ffff}' => shown.extend(character.escape_unicode()),
            _ if character.is_control() => shown.extend(character.escape_unicode()),
            _ => shown.push(character),
        }
    }
    shown
}

/// The parts of an explanation that are not empty, with their headings. What a server has said may be in them.
fn parts(why: &Explanation) -> Vec<(&'static str, Vec<String>)> {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let parts = [
        ("what was done", why.done.clone()),
        ("in time, a row a client", why.timeline.clone()),
        ("what came back", why.came.clone()),
        ("what was expected", lines(&why.expected)),
        ("likely cause", lines(&why.cause)),
        ("what the server printed last", why.said.clone()),
        ("by hand", why.repeat.clone()),
        ("read", lines(&why.read)),
    ];
    let shown = |lines: Vec<String>| lines.iter().map(|line| visible(line)).collect();
    let parts = parts.into_iter().map(|(heading, lines)| (heading, shown(lines)));
    parts.filter(|(_, lines): &(_, Vec<String>)| !lines.is_empty()).collect()
}

/// An explanation as plain lines.
pub fn plain(why: &Explanation) -> Vec<String> {
    let mut all = Vec::new();
    for (heading, lines) in parts(why) {
        all.push(heading.to_owned());
        all.extend(lines.iter().map(|line| format!("  {line}")));
    }
    all
}

/// Where a layer stands among the layers.
fn rank(layer: &str) -> usize {
    let layers = [Layer::Wire, Layer::Concurrency, Layer::Robustness, Layer::Evidence];
    layers.iter().position(|other| other.to_string() == layer).unwrap_or(0)
}

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const HEADING: Style = Style::new().bold();

/// Writes a check's line for a person, and the explanation if it failed.
///
/// # Errors
/// Nobody reads the output any more.
pub fn write_result(to: &mut impl Write, result: &CheckResult) -> io::Result<()> {
    let CheckResult { name, layer, seconds, .. } = result;
    let (style, word) = match (result.passed(), result.is_unclear) {
        (true, false) => (GOOD, "ok  "),
        (true, true) => (HEADING, "??  "),
        (false, _) => (BAD, "FAIL"),
    };
    let own = if result.is_own { "  (what the exercise is about)" } else { "" };
    writeln!(to, "  {style}{word}{style:#} {layer:<12} {name}{own}  {seconds:.2} s")?;
    if !result.counted.is_empty() {
        writeln!(to, "       {}", result.counted)?;
    }
    let Some(why) = &result.failure else { return Ok(()) };
    for (heading, lines) in parts(why) {
        writeln!(to, "       {HEADING}{heading}{HEADING:#}")?;
        for line in lines {
            writeln!(to, "         {line}")?;
        }
    }
    writeln!(to)
}

/// Writes the last line for a person.
///
/// # Errors
/// Nobody reads the output any more.
pub fn write_summary(to: &mut impl Write, report: &Report) -> io::Result<()> {
    let (failed, all) = (report.failed(), report.checks.len());
    let seconds = report.seconds;
    if failed == 0 {
        writeln!(to, "{GOOD}all {all} checks passed{GOOD:#} in {seconds:.1} s")
    } else {
        let (points, most) = report.total();
        let points = format!("{points} of {most} points");
        writeln!(to, "{BAD}{failed} of {all} checks failed{BAD:#} in {seconds:.1} s, {points}")?;
        match report.gate() {
            Some(gate) => writeln!(to, "{gate}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_server_prints_the_report_can_be_read() {
        let said = "\u{1b}[2J\u{0}\u{9b}\u{fffe}\u{ffff} & <b> ]]> ü";
        let report = Report::could_not_run("step05", "core", said);
        let junit = report.junit().unwrap();
        let read = quick_junit::Report::deserialize_from_str(&junit).unwrap();
        assert_eq!((read.tests, read.failures), (1, 1));
        assert!(
            junit.contains("\\u{1b}[2J\\u{0}\\u{9b}\\u{fffe}\\u{ffff} &amp; &lt;b&gt;"),
            "{junit}"
        );
        let lines = plain(report.checks[0].failure.as_ref().unwrap()).join("\n");
        assert!(!lines.contains(|c: char| c.is_control() && c != '\n'), "{lines:?}");
        let again: Report = serde_json::from_value(report.json()).unwrap();
        assert_eq!(again.obstacle(), Some(said));
    }
}
