//! What a run has shown, and the forms in which it is handed over.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Failure;
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
    /// How long it took.
    pub seconds: f64,
    /// Why it failed; `None` if it passed.
    pub failure: Option<Explanation>,
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
            layer: "start".to_owned(),
            is_own: false,
            seconds: 0.0,
            failure: Some(failure),
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

    /// Whether the checks that have passed do not count, because the one that the exercise is about has
    /// not.
    pub fn lacks_own(&self) -> bool {
        self.checks.iter().any(|check| check.is_own && !check.passed())
    }

    /// How many checks failed.
    pub fn failed(&self) -> usize {
        self.checks.iter().filter(|check| !check.passed()).count()
    }

    /// The points of each check, and how many there are at most. A check is one point. In an exercise the
    /// check made for it is worth as much as all others together, and those count only if it has
    /// passed: a starter that was handed in as it was gets nothing.
    pub fn points(&self) -> Vec<(usize, usize)> {
        let others = self.checks.len().saturating_sub(1).max(1);
        let counts = !self.lacks_own();
        let points = |check: &CheckResult| {
            let most = if check.is_own { others } else { 1 };
            (if check.passed() && counts { most } else { 0 }, most)
        };
        self.checks.iter().map(points).collect()
    }

    /// As JSON, for programs.
    pub fn json(&self) -> Value {
        let checks: Vec<Value> = self
            .checks
            .iter()
            .map(|check| {
                json!({
                    "name": check.name,
                    "layer": check.layer,
                    "is_own": check.is_own,
                    "passed": check.passed(),
                    "seconds": check.seconds,
                    "failure": check.failure,
                })
            })
            .collect();
        json!({
            "task": self.task,
            "level": self.level,
            "seed": self.seed,
            "command": self.command,
            "seconds": self.seconds,
            "passed": self.checks.len() - self.failed(),
            "failed": self.failed(),
            "checks": checks,
        })
    }

    /// As JUnit's XML, for CI systems.
    ///
    /// # Errors
    /// None that can happen in memory.
    pub fn junit(&self) -> Result<String, Failure> {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        let totals = [
            ("name", self.task.clone()),
            ("tests", self.checks.len().to_string()),
            ("failures", self.failed().to_string()),
            ("errors", "0".to_owned()),
            ("time", format!("{:.3}", self.seconds)),
        ];
        let totals = totals.iter().map(|(name, value)| (*name, value.as_str()));
        writer.create_element("testsuites").write_inner_content(|writer| {
            writer.create_element("testsuite").with_attributes(totals).write_inner_content(
                |writer| {
                    self.checks
                        .iter()
                        .try_for_each(|check| write_test_case(writer, check, &self.task))
                },
            )?;
            Ok(())
        })?;
        Ok(String::from_utf8(writer.into_inner())? + "\n")
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

fn write_test_case(
    writer: &mut Writer<Vec<u8>>,
    check: &CheckResult,
    task: &str,
) -> io::Result<()> {
    let time = format!("{:.3}", check.seconds);
    let class = format!("{task}.{}", check.layer);
    let element = writer.create_element("testcase").with_attributes([
        ("name", check.name.as_str()),
        ("classname", class.as_str()),
        ("time", time.as_str()),
    ]);
    let Some(why) = &check.failure else {
        element.write_empty()?;
        return Ok(());
    };
    element.write_inner_content(|writer| {
        let text = xml_text(&plain(why).join("\n"));
        let message = xml_text(&format!("expected {}", why.expected));
        writer
            .create_element("failure")
            .with_attribute(("message", message.as_str()))
            .write_text_content(BytesText::new(&text))?;
        Ok(())
    })?;
    Ok(())
}

/// XML 1.0 has no place for most control characters, not even escaped.
fn xml_text(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

/// The parts of an explanation that are not empty, with their headings.
fn parts(why: &Explanation) -> Vec<(&'static str, Vec<String>)> {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let parts = [
        ("what was done", why.done.clone()),
        ("in time, a row a client", why.timeline.clone()),
        ("what came back", why.came.clone()),
        ("what was expected", lines(&why.expected)),
        ("likely cause", lines(&why.cause)),
        ("by hand", why.repeat.clone()),
        ("read", lines(&why.read)),
    ];
    parts.into_iter().filter(|(_, lines)| !lines.is_empty()).collect()
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

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const HEADING: Style = Style::new().bold();

/// Writes a check's line for a person, and the explanation if it failed.
///
/// # Errors
/// Nobody reads the output any more.
pub fn write_result(to: &mut impl Write, result: &CheckResult) -> io::Result<()> {
    let CheckResult { name, layer, seconds, .. } = result;
    let (style, word) = if result.passed() { (GOOD, "ok  ") } else { (BAD, "FAIL") };
    let own = if result.is_own { "  (what the exercise is about)" } else { "" };
    writeln!(to, "  {style}{word}{style:#} {layer:<12} {name}{own}  {seconds:.2} s")?;
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
        writeln!(to, "{BAD}{failed} of {all} checks failed{BAD:#} in {seconds:.1} s")
    }
}
