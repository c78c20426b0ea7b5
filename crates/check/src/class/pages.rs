//! The pages: one for the class, and one for each student that is complete by itself.

use std::cmp::Reverse;
use std::fs;

use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::grade::{Grade, first_and_last};
use super::roster::Row;
use super::{Class, PROGRAM};
use crate::Failure;
use crate::report::{CheckResult, Report, plain};

/// Writes index.html: what most failed comes first, then a row for everybody.
///
/// # Errors
/// It cannot be written.
pub(super) fn write_class(class: &Class, rows: &[Row]) -> Result<(), Failure> {
    let plan = &class.plan;
    let reports: Vec<&Report> = rows.iter().filter_map(|row| Some(&row.grade?.report)).collect();
    let checked = reports.iter().filter(|report| report.obstacle().is_none());
    let failed: Vec<usize> = (0..plan.checks.len())
        .map(|at| {
            let has_failed =
                |report: &&&Report| report.checks.get(at).is_some_and(|check| !check.passed());
            checked.clone().filter(has_failed).count()
        })
        .collect();
    let mut order: Vec<usize> = (0..plan.checks.len()).collect();
    order.sort_by_key(|at| (Reverse(failed[*at]), *at));
    let names: Vec<&str> = order.iter().map(|at| plan.checks[*at].name.as_str()).collect();
    let failures: Vec<Value> = order
        .iter()
        .filter(|at| failed[**at] > 0)
        .map(|at| context! { name => plan.checks[*at].name.as_str(), count => failed[*at] })
        .collect();
    let points: usize = reports.iter().map(|report| report.total().0).sum();
    let values = context! {
        task => plan.task.as_str(),
        level => plan.level.as_str(),
        rows => rows.iter().map(|row| of_row(row, &order)).collect::<Vec<_>>(),
        has_roster => rows.iter().any(|row| row.is_listed),
        names => Serde(&names),
        failures,
        unchecked => reports.iter().filter(|report| report.obstacle().is_some()).count(),
        average => format!("{:.1}", points as f64 / reports.len().max(1) as f64),
        graded => reports.len(),
        most => plan.total().1,
        has_own => plan.checks.iter().any(|check| check.is_own),
        ignored => Serde(&class.ignored),
    };
    fs::write(class.out.join("index.html"), page(include_str!("class.html"), values)?)?;
    Ok(())
}

fn of_row(row: &Row, order: &[usize]) -> Value {
    let report = row.grade.map(|grade| &grade.report);
    let why = match row.grade {
        None => Some(row.note.clone()),
        Some(grade) => grade
            .report
            .obstacle()
            .map(|why| format!("could not be checked: {}", first_and_last(why))),
    };
    let passed = |at: &usize| {
        report.is_some_and(|report| report.checks.get(*at).is_some_and(CheckResult::passed))
    };
    context! {
        student => row.entry.folder.as_str(),
        name => row.entry.name.as_str(),
        link => utf8_percent_encode(&row.entry.folder, NON_ALPHANUMERIC).to_string(),
        is_checked => row.grade.is_some(),
        points => row.points(),
        why,
        note => row.note.as_str(),
        flags => Serde(row.flags),
        cells => order.iter().map(passed).collect::<Vec<_>>(),
        command => report.map(|report| report.command.as_str()),
        submitted => row.grade.map(|grade| grade.submitted.as_str()),
        checked => row.grade.map(|grade| grade.checked.as_str()),
    }
}

/// Writes the page of one student. It has nothing in it that is not the student's own.
///
/// # Errors
/// It cannot be written.
pub(super) fn write_student(class: &Class, grade: &Grade) -> Result<(), Failure> {
    let report = &grade.report;
    let all = report.checks.iter().zip(report.points());
    let (failed, passed): (Vec<_>, Vec<_>) = all.partition(|(check, _)| !check.passed());
    let told = |(check, (earned, most)): &(&CheckResult, (usize, usize))| {
        context! {
            name => check.name.as_str(),
            layer => check.layer.as_str(),
            is_own => check.is_own,
            earned,
            most,
            story => check.failure.as_ref().map(|why| plain(why).join("\n")),
        }
    };
    // Where no check was made, the report knows of none.
    let (points, most) = (report.total().0, class.plan.total().1);
    let values = context! {
        student => grade.student.as_str(),
        task => report.task.as_str(),
        level => report.level.as_str(),
        command => report.command.as_str(),
        seed => report.seed,
        submitted => grade.submitted.as_str(),
        checked => grade.checked.as_str(),
        note => grade.note.as_str(),
        obstacle => report.obstacle(),
        is_built => report.command.starts_with(PROGRAM),
        points,
        most,
        failed => failed.iter().map(told).collect::<Vec<_>>(),
        passed => passed.iter().map(told).collect::<Vec<_>>(),
    };
    let folder = class.out.join("students").join(&grade.student);
    fs::write(folder.join("index.html"), page(include_str!("student.html"), values)?)?;
    Ok(())
}

/// Fills in a page. What is filled in is escaped.
///
/// # Errors
/// The page names something that there is not.
pub(super) fn page(template: &str, values: Value) -> Result<String, Failure> {
    let mut environment = Environment::new();
    environment.add_template("page.html", template)?;
    let style = include_str!("style.css");
    let page = environment.get_template("page.html")?;
    Ok(page.render(context! { style, ..values })?)
}
