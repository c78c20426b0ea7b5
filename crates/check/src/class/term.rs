//! Several reports in one table: student by week.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use minijinja::context;
use minijinja::value::Serde;
use serde::Deserialize;

use super::pages::page;
use super::tables::write_table;
use crate::Failure;

/// What `check term` is told.
#[derive(Args)]
pub struct Arguments {
    /// Folders that check class has written
    #[arg(required = true, value_name = "REPORT")]
    reports: Vec<PathBuf>,
    /// The folder for term.csv and index.html
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

/// What is read of a row of grades.csv.
#[derive(Default, Deserialize)]
struct Line {
    student: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    number: String,
    #[serde(default, rename = "e-mail")]
    mail: String,
    /// None, if nothing was checked yet.
    points: Option<usize>,
    of: usize,
}

/// What is known of one student.
#[derive(Default)]
struct Student {
    person: [String; 3],
    /// The points by report; `None` where there is no row.
    points: Vec<Option<usize>>,
}

/// Joins reports to one overview. A student has one row, by the name of the folder.
///
/// # Errors
/// A report has no grades, or the overview cannot be written.
pub fn run(arguments: &Arguments, to: &mut impl Write) -> Result<(), Failure> {
    let Arguments { reports, out } = arguments;
    let mut students: BTreeMap<String, Student> = BTreeMap::new();
    let mut most = Vec::new();
    for (at, report) in reports.iter().enumerate() {
        let lines = lines_of(report)?;
        most.push(lines.iter().map(|line| line.of).max().unwrap_or(0));
        for line in lines {
            let student = students.entry(line.student).or_default();
            student.points.resize(reports.len(), None);
            student.points[at] = line.points;
            let person = [line.name, line.number, line.mail];
            for (known, new) in student.person.iter_mut().zip(person) {
                if !new.is_empty() {
                    *known = new;
                }
            }
        }
    }
    let names: Vec<String> = reports.iter().map(|report| name_of(report)).collect();
    let person = ["name", "number", "e-mail"].map(str::to_owned);
    let sum = ["points", "of"].map(str::to_owned);
    let mut table = vec![[&["student".to_owned()][..], &person, &names, &sum].concat()];
    let all: usize = most.iter().sum();
    for (name, student) in &students {
        let points = student.points.iter().map(|points| points.map(|n| n.to_string()));
        let points: Vec<String> = points.map(Option::unwrap_or_default).collect();
        let sum: usize = student.points.iter().flatten().sum();
        let sum = [sum, all].map(|number| number.to_string());
        table.push([&[name.clone()][..], &student.person, &points, &sum].concat());
    }
    fs::create_dir_all(out)?;
    write_table(&out.join("term.csv"), &table)?;
    let values = context! { head => Serde(&table[0]), rows => Serde(&table[1..]) };
    fs::write(out.join("index.html"), page(include_str!("term.html"), values)?)?;
    Ok(writeln!(to, "{}", out.join("index.html").display())?)
}

fn lines_of(report: &Path) -> Result<Vec<Line>, Failure> {
    let file = report.join("grades.csv");
    let table = csv::Reader::from_path(&file).and_then(|mut table| table.deserialize().collect());
    Ok(table.map_err(|error| format!("{}: {error}", file.display()))?)
}

/// The name of a report's folder, whatever was typed to get there.
fn name_of(report: &Path) -> String {
    let path = report.canonicalize().unwrap_or_else(|_| report.to_owned());
    path.file_name().unwrap_or(report.as_os_str()).to_string_lossy().into_owned()
}
