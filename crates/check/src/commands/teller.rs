//! Telling a person of each check as it is done, and of what has failed in one way only once.

use std::io::{self, Write};

use check::report::{CheckResult, write_result};
use check::wire;

/// So many columns has a line of names.
const WIDTH: usize = 100;

/// What has been told so far.
#[derive(Default)]
pub(crate) struct Teller {
    kinds: Vec<Kind>,
    group: Option<Group>,
}

/// Failures of the wire suite that look the same.
struct Kind {
    sign: String,
    /// The one that was told.
    first: String,
    others: Vec<String>,
}

/// The group of the wire suite that is being asked.
struct Group {
    name: &'static str,
    passed: usize,
    made: usize,
}

impl Teller {
    /// Tells of a check. The wire suite has so many that a group is one line, and below it the first failure
    /// of each kind.
    pub(crate) fn tell(&mut self, to: &mut impl Write, result: &CheckResult) -> io::Result<()> {
        let name = wire::groups().find(|group| {
            result.name.strip_prefix(group).is_some_and(|rest| rest.starts_with(": "))
        });
        if self.group.as_ref().map(|group| group.name) != name {
            self.end_group(to)?;
        }
        let Some(name) = name else { return write_result(to, result) };
        let group = self.group.get_or_insert(Group { name, passed: 0, made: 0 });
        group.made += 1;
        group.passed += usize::from(result.passed());
        let Some(sign) = sign(result) else { return Ok(()) };
        match self.kinds.iter_mut().find(|kind| kind.sign == sign) {
            Some(kind) => kind.others.push(result.name.clone()),
            None => {
                write_result(to, result)?;
                self.kinds.push(Kind { sign, first: result.name.clone(), others: Vec::new() });
            }
        }
        Ok(())
    }

    fn end_group(&mut self, to: &mut impl Write) -> io::Result<()> {
        let Some(Group { name, passed, made }) = self.group.take() else { return Ok(()) };
        writeln!(to, "  {passed} of {made} passed in wire, \"{name}\"")
    }

    /// Names what failed in the same way as something that was told.
    pub(crate) fn finish(&mut self, to: &mut impl Write) -> io::Result<()> {
        self.end_group(to)?;
        let folded = self.kinds.iter().filter(|kind| !kind.others.is_empty());
        for Kind { first, others, .. } in folded {
            writeln!(to, "\n  {} more failed as \"{first}\" did:", others.len())?;
            let mut line = String::new();
            for name in others {
                if !line.is_empty() && line.len() + name.len() > WIDTH {
                    writeln!(to, "       {}", line.trim_end())?;
                    line.clear();
                }
                line += &format!("{name}; ");
            }
            writeln!(to, "       {}", line.trim_end_matches("; "))?;
        }
        if self.kinds.iter().any(|kind| !kind.others.is_empty()) {
            writeln!(to, "\n  --only with one of these names tells it in full.")?;
        }
        Ok(())
    }
}

/// What failures of one kind have in common: their cause, or what came if the cause is only that the request is
/// special. Of an answer that is the status line.
fn sign(result: &CheckResult) -> Option<String> {
    let why = result.failure.as_ref()?;
    if !why.cause.starts_with(wire::SPECIAL) {
        return Some(why.cause.clone());
    }
    let came = why.came.first().map(String::as_str).unwrap_or_default();
    Some(came.split("\\r\\n").next().unwrap_or_default().to_owned())
}
