//! What was measured, as tables for the terminal, and as a page, CSV and JSON in a folder.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::Failure;
use crate::bench::{Row, Table};
use crate::crowd::{Idle, SILENT, Stall};
use crate::machine::Machine;
use crate::plot;
use crate::timeline::Timeline;

/// Everything that has been measured so far.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) tables: Vec<Table>,
    pub(crate) idle: Vec<Idle>,
    pub(crate) stalls: Vec<Stall>,
    pub(crate) timelines: Vec<Timeline>,
}

impl Report {
    pub(crate) fn new(machine: Machine) -> Report {
        Report {
            machine,
            tables: Vec::new(),
            idle: Vec::new(),
            stalls: Vec::new(),
            timelines: Vec::new(),
        }
    }

    /// Writes report.html, results.json and a CSV file for each kind of table. The pictures are in the
    /// page, and beside it as files of their own.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), Failure> {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let sections = self.sections()?;
        for section in &sections {
            if let Some(picture) = &section.picture {
                fs::write(folder.join(format!("{}.svg", section.name)), picture)?;
            }
        }
        fs::write(folder.join("report.html"), self.page(&sections))?;
        fs::write(folder.join("results.json"), serde_json::to_vec_pretty(self)?)?;
        self.write_bench_csv(folder)?;
        write_csv(&folder.join("idle.csv"), &self.idle)?;
        write_csv(&folder.join("stall.csv"), &self.stalls)?;
        let mut timelines = csv::Writer::from_path(folder.join("timeline.csv"))?;
        timelines.write_record([
            "name",
            "client",
            "slow",
            "asked_s",
            "first_byte_s",
            "last_byte_s",
        ])?;
        for timeline in &self.timelines {
            for (number, visit) in timeline.visits.iter().enumerate() {
                let numbers =
                    [visit.asked, visit.first_byte, visit.last_byte].map(|s| s.to_string());
                let start =
                    [timeline.name.clone(), (number + 1).to_string(), visit.is_slow.to_string()];
                timelines.write_record(start.iter().chain(&numbers))?;
            }
        }
        Ok(timelines.flush()?)
    }

    fn write_bench_csv(&self, folder: &Path) -> Result<(), Failure> {
        let mut csv = csv::Writer::from_path(folder.join("bench.csv"))?;
        csv.write_record([
            "workload",
            "name",
            "answers",
            "errors",
            "answers_per_second",
            "processor_us_per_answer",
            "processor_us_least",
            "processor_us_greatest",
            "latency_us_p50",
            "latency_us_p90",
            "latency_us_p99",
            "latency_us_max",
        ])?;
        for table in &self.tables {
            for row in &table.rows {
                csv.write_record([
                    table.title.clone(),
                    row.name.clone(),
                    row.answers.to_string(),
                    row.errors.to_string(),
                    format!("{:.1}", row.answers_per_second),
                    format!("{:.2}", row.processor_us_per_answer),
                    format!("{:.2}", row.processor_us_range.0),
                    format!("{:.2}", row.processor_us_range.1),
                    row.latency_us_p50.to_string(),
                    row.latency_us_p90.to_string(),
                    row.latency_us_p99.to_string(),
                    row.latency_us_max.to_string(),
                ])?;
            }
        }
        Ok(csv.flush()?)
    }

    fn sections(&self) -> Result<Vec<Section>, Failure> {
        let mut sections = Vec::new();
        for (number, table) in self.tables.iter().enumerate() {
            let title = format!("What one answer costs the server: {}", table.title);
            let bars: Vec<_> = table
                .rows
                .iter()
                .map(|row| {
                    let cost = row.processor_us_per_answer;
                    (row.name.clone(), cost, format!("{cost:.1} µs"))
                })
                .collect();
            sections.push(Section {
                name: format!("bench-{}", number + 1),
                picture: Some(plot::bars("Processor time per answer", &bars)?),
                numbers: bench_as_text(table),
                title,
            });
        }
        sections.extend(self.crowd_section()?);
        let mut sizes: Vec<usize> = self.idle.iter().map(|idle| idle.connections).collect();
        sizes.dedup();
        for size in sizes {
            let rows: Vec<Idle> =
                self.idle.iter().filter(|idle| idle.connections == size).cloned().collect();
            let bars: Vec<_> = rows
                .iter()
                .map(|row| {
                    let words =
                        format!("{:.1} KiB each, {} held", row.kib_per_connection, row.held);
                    (row.name.clone(), row.kib_per_connection, words)
                })
                .collect();
            sections.push(Section {
                name: format!("idle-{size}"),
                title: format!("What {size} connections cost that ask for nothing"),
                picture: Some(plot::bars("Memory per connection", &bars)?),
                numbers: idle_as_text(&rows),
            });
        }
        if !self.stalls.is_empty() {
            let lines = series(&self.stalls, |stall| {
                (stall.name.clone(), stall.silent as f64, stall.typical_ms())
            });
            let words = ("silent clients", "ms until half of the good ones were answered");
            sections.push(Section {
                name: "stall".to_owned(),
                title: "How long fifty good clients wait behind silent ones".to_owned(),
                picture: Some(plot::lines("Who blocks whom", words, &lines)?),
                numbers: stall_as_text(&self.stalls),
            });
        }
        for timeline in &self.timelines {
            sections.push(Section {
                name: format!("timeline-{}", timeline.name),
                title: format!("Eight clients at {}", timeline.name),
                picture: Some(plot::timeline(timeline)?),
                numbers: String::new(),
            });
        }
        Ok(sections)
    }

    /// How throughput falls as idle connections stand beside the busy ones.
    fn crowd_section(&self) -> Result<Option<Section>, Failure> {
        let points: Vec<(&Row, usize)> = self
            .tables
            .iter()
            .filter(|table| table.workload.idle > 0)
            .flat_map(|table| table.rows.iter().map(|row| (row, table.workload.idle)))
            .collect();
        if points.is_empty() {
            return Ok(None);
        }
        let lines = series(&points, |(row, idle)| {
            (row.name.clone(), *idle as f64, Some(row.answers_per_second))
        });
        let words = ("idle connections beside", "answers a second");
        let numbers = points.iter().fold(String::new(), |mut text, (row, idle)| {
            let _ = writeln!(
                text,
                "{:<20} {idle:>6} idle {:>9.0} answers a second",
                row.name, row.answers_per_second
            );
            text
        });
        Ok(Some(Section {
            name: "crowd".to_owned(),
            title: "What idle connections do to the busy ones".to_owned(),
            picture: Some(plot::lines("Answers a second beside idle connections", words, &lines)?),
            numbers,
        }))
    }

    fn page(&self, sections: &[Section]) -> String {
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>One server, nine ways: measured</title>\n\
             <style>body {{ font: 16px/1.5 sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em }}\n\
             pre {{ overflow-x: auto; background: #f4f4f4; padding: 1em; font-size: 13px }}\n\
             svg {{ max-width: 100%; height: auto }}</style>\n\
             <h1>One server, nine ways: measured</h1>\n<p>{}</p>\n\
             <p>To repeat it:</p>\n<pre>{}</pre>\n\
             <p>Server and load run on one machine, over the loopback interface. Each rate and each cost is \
             the median of the rounds. Compare rows of one table; other machines, and other days on \
             this one, give other numbers.</p>\n",
            escape(&self.machine.line()),
            escape(&self.machine.command)
        );
        for section in sections {
            let _ = writeln!(html, "<h2>{}</h2>", escape(&section.title));
            if let Some(picture) = &section.picture {
                html.push_str(picture);
            }
            if !section.numbers.is_empty() {
                let _ = writeln!(html, "<pre>{}</pre>", escape(&section.numbers));
            }
        }
        html.push_str("</html>\n");
        html
    }
}

struct Section {
    /// Of the picture's file.
    name: String,
    title: String,
    picture: Option<String>,
    numbers: String,
}

/// Puts the values of each name together, in the order in which the names come up.
fn series<T>(
    values: &[T],
    point: impl Fn(&T) -> (String, f64, Option<f64>),
) -> Vec<(String, Vec<(f64, f64)>)> {
    let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for value in values {
        let (name, x, y) = point(value);
        let line = match lines.iter().position(|(known, _)| *known == name) {
            Some(line) => line,
            None => {
                lines.push((name, Vec::new()));
                lines.len() - 1
            }
        };
        lines[line].1.extend(y.map(|y| (x, y)));
    }
    lines
}

fn write_csv<T: Serialize>(file: &Path, rows: &[T]) -> Result<(), Failure> {
    let mut csv = csv::Writer::from_path(file)?;
    for row in rows {
        csv.serialize(row)?;
    }
    Ok(csv.flush()?)
}

pub(crate) fn bench_as_text(table: &Table) -> String {
    let mut text = format!(
        "\n{}\n{:<20} {:>9} {:>6} {:>11} {:>6} {:>15} {:>8} {:>8} {:>8} {:>9} {:>7}\n",
        table.title,
        "",
        "answers/s",
        "ratio",
        "CPU µs each",
        "ratio",
        "(least–most)",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "max ms",
        "errors"
    );
    let first = table.rows.first();
    let ratio =
        |value: f64, of: Option<f64>| of.filter(|&of| of > 0.0).map_or(0.0, |of| value / of);
    for row in &table.rows {
        let ms = |us: u64| us as f64 / 1000.0;
        let (least, most) = row.processor_us_range;
        let _ = writeln!(
            text,
            "{:<20} {:>9.0} {:>6.2} {:>11.1} {:>6.2} {:>15} {:>8.2} {:>8.2} {:>8.2} {:>9.2} {:>7}{}",
            row.name,
            row.answers_per_second,
            ratio(row.answers_per_second, first.map(|first| first.answers_per_second)),
            row.processor_us_per_answer,
            ratio(row.processor_us_per_answer, first.map(|first| first.processor_us_per_answer)),
            format!("({least:.1}–{most:.1})"),
            ms(row.latency_us_p50),
            ms(row.latency_us_p90),
            ms(row.latency_us_p99),
            ms(row.latency_us_max),
            row.errors,
            row.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default(),
        );
    }
    text
}

pub(crate) fn idle_as_text(rows: &[Idle]) -> String {
    let mut text = format!(
        "\n{:<20} {:>11} {:>6} {:>9} {:>10} {:>8} {:>7} {:>31}\n",
        "", "connections", "held", "KiB each", "processes", "threads", "CPU", "new client"
    );
    for row in rows {
        let state =
            if row.after_answer { "" } else { "  (in mid-request: one answer a connection)" };
        let _ = writeln!(
            text,
            "{:<20} {:>11} {:>6} {:>9.1} {:>10} {:>8} {:>6.1}% {:>31}{state}",
            row.name,
            row.connections,
            row.held,
            row.kib_per_connection,
            row.processes,
            row.threads,
            row.processor_percent,
            row.new_client_error.clone().unwrap_or_else(|| milliseconds(row.new_client_ms)),
        );
    }
    text
}

pub(crate) fn stall_as_text(rows: &[Stall]) -> String {
    let mut text = format!(
        "\nhalf of 50 good clients have their answer after, behind silent ones:\n{:<20}",
        ""
    );
    for silent in SILENT {
        let _ = write!(text, " {silent:>10}");
    }
    for row in rows {
        if row.silent == SILENT[0] {
            let _ = write!(text, "\n{:<20}", row.name);
        }
        let _ = write!(text, " {:>10}", milliseconds(row.typical_ms()));
    }
    text.push('\n');
    text
}

fn milliseconds(wait: Option<f64>) -> String {
    wait.map_or_else(|| "> 5 s".to_owned(), |wait| format!("{wait:.1} ms"))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
