//! The grades as tables: for a spreadsheet, for Moodle and for Canvas.

use std::io::Write;
use std::path::Path;

use super::roster::Row;
use crate::Failure;
use crate::report::{Report, visible};

/// How much of a note stands in a table, in characters.
const NOTE: usize = 2000;

/// Writes grades.csv, and if there is a roster what Moodle and Canvas import.
///
/// # Errors
/// A file cannot be written.
pub(super) fn write(out: &Path, plan: &Report, rows: &[Row]) -> Result<(), Failure> {
    let most = plan.total().1.to_string();
    let has_roster = rows.iter().any(|row| row.is_listed);
    let person = if has_roster { &["name", "number", "e-mail"][..] } else { &[] };
    let checks = plan.checks.iter().map(|check| check.name.as_str());
    let facts = ["points", "of", "note", "submitted", "checked"];
    let head: Vec<&str> =
        ["student"].iter().chain(person).chain(&facts).copied().chain(checks).collect();
    let mut grades = vec![texts(&head)];
    let mut moodle = vec![texts(&["ID number", "Email address", &plan.task, "feedback"])];
    let mut canvas = vec![
        texts(&["Student", "ID", "SIS User ID", "SIS Login ID", "Section", &plan.task]),
        texts(&["    Points Possible", "", "", "", "", &most]),
    ];
    for row in rows {
        let (entry, points) = (&row.entry, row.points());
        let mut line = vec![entry.folder.clone()];
        if has_roster {
            line.extend([entry.name.clone(), entry.number.clone(), entry.mail.clone()]);
        }
        let (submitted, checked) =
            row.grade.map(|grade| (&*grade.submitted, &*grade.checked)).unwrap_or_default();
        let note: String = row.note.chars().take(NOTE).collect();
        line.extend(texts(&[&points, &most, &note, submitted, checked]));
        let earned = row.grade.map(|grade| grade.report.points()).unwrap_or_default();
        line.extend((0..plan.checks.len()).map(|at| match row.grade {
            Some(_) => earned.get(at).map_or(0, |point| point.0).to_string(),
            None => String::new(),
        }));
        grades.push(line);
        if row.is_listed {
            let feedback = row.grade.map_or(note, super::Grade::in_short);
            moodle.push(texts(&[&entry.number, &entry.mail, &points, &feedback]));
            canvas.push(texts(&[&entry.name, "", &entry.number, &entry.mail, "", &points]));
        }
    }
    write_table(&out.join("grades.csv"), &grades)?;
    if has_roster {
        write_table(&out.join("moodle.csv"), &moodle)?;
        write_table(&out.join("canvas.csv"), &canvas)?;
    }
    Ok(())
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Writes a table. Whoever reads it meanwhile, or ends this process, finds the old one or the new one.
///
/// # Errors
/// It cannot be written.
pub(super) fn write_table(file: &Path, lines: &[Vec<String>]) -> Result<(), Failure> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut new = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    let mut table = csv::Writer::from_writer(Vec::new());
    for line in lines {
        table.write_record(line.iter().map(|text| cell(text)))?;
    }
    new.write_all(&table.into_inner()?)?;
    // A temporary file is for its owner alone; a report is for whoever may read its folder.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    new.as_file().set_permissions(readable)?;
    new.persist(file)?;
    Ok(())
}

/// Text that no spreadsheet runs: it takes what begins with one of these for a formula.
fn cell(text: &str) -> String {
    let text = visible(text);
    if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_neither_run_nor_obeyed() {
        assert_eq!(cell("=cmd|'/C calc'!A0"), "'=cmd|'/C calc'!A0");
        assert_eq!(cell("\u{1b}[2J"), "\\u{1b}[2J");
        assert_eq!(cell("26"), "26");
    }
}
