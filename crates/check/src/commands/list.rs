//! `check --list`: what there is to check, and what one task asks.

use std::io::Write;
use std::path::Path;

use check::checks::CHECKS;
use check::task::{Level, Settings, Task};
use check::{Failure, STEPS, wire};

use super::describe;

/// Every task, and every check of the table with the steps that it is made for.
pub(crate) fn everything(exercises: &Path) -> Result<(), Failure> {
    let mut stdout = anstream::stdout();
    for task in Task::all(exercises)? {
        let count = |level| -> Result<usize, Failure> {
            Ok(task.plan(&Settings { level, ..Settings::default() })?.len())
        };
        let (core, strict) = (count(Level::Core)?, count(Level::Strict)?);
        writeln!(
            stdout,
            "{:<8}{:<40}{core:>3} checks, {strict:>3} with --level strict",
            task.name(),
            describe(&task)
        )?;
    }
    writeln!(stdout)?;
    for check in CHECKS {
        let steps = STEPS.iter().filter(|step| (check.applies)(step));
        let steps: Vec<_> = steps.map(|step| step.number()).collect();
        let level = format!("{:?}", check.level).to_lowercase();
        writeln!(stdout, "{:<12} {:<9}{:<56}{}", check.layer, level, check.name, steps.join(" "))?;
    }
    Ok(())
}

/// What one task asks, in the order in which it is asked: each check by name, and the wire suite by its groups unless
/// a word picks some of it.
pub(crate) fn one(task: &Task, only: Option<&str>) -> Result<(), Failure> {
    let mut stdout = anstream::stdout();
    writeln!(stdout, "{}: {}", task.name(), describe(task))?;
    let only_this = only.map(str::to_owned);
    let level = Level::Strict;
    let plan = task.plan(&Settings { level, only: only_this, ..Settings::default() })?;
    for planned in plan.iter().filter(|planned| only.is_some() || planned.group.is_none()) {
        let level = if planned.is_strict { "strict" } else { "core" };
        let own = if planned.is_own { "  (what the exercise is about)" } else { "" };
        writeln!(stdout, "{:<12} {level:<9}{}{own}", planned.layer, planned.name)?;
    }
    if only.is_some() {
        return Ok(());
    }
    for group in wire::groups() {
        let cases = plan.iter().filter(|planned| planned.group == Some(group)).count();
        if cases > 0 {
            writeln!(stdout, "{:<12} {:<9}{cases} cases: --only \"{group}\"", "wire", "strict")?;
        }
    }
    Ok(())
}
