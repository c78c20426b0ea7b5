//! What was measured, as a page, CSV and JSON in a folder.

use std::fs;
use std::path::Path;

use minijinja::value::Serde;
use minijinja::{Environment, context};
use serde::Serialize;

use crate::Failure;
use crate::bench::{Row, Table};
use crate::crowd::{Idle, SILENT, Stall};
use crate::machine::Machine;
use crate::plot::{self, Bar, Line};
use crate::tables::{self, ratio};
use crate::timeline::Timeline;
use summary::Cell;

mod summary;

/// Everything that has been measured so far.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) tables: Vec<Table>,
    pub(crate) idle: Vec<Idle>,
    pub(crate) stalls: Vec<Stall>,
    pub(crate) timelines: Vec<Timeline>,
}

/// A heading, a picture, and the numbers of it.
#[derive(Debug, Serialize)]
struct Section {
    /// Of the picture's file.
    name: String,
    title: String,
    picture: String,
    /// Below the table.
    note: String,
    /// What the columns are called, the first one is of names.
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
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
            fs::write(folder.join(format!("{}.svg", section.name)), &section.picture)?;
        }
        let mut page = Environment::new();
        page.add_template("report.html", include_str!("report.html"))?;
        let (columns, rows) = summary::summary(self);
        let page = page.get_template("report.html")?.render(context! {
            machine => self.machine.line(),
            command => self.machine.command.as_str(),
            summary => context! { columns, rows => Serde(rows) },
            sections => Serde(&sections),
        })?;
        fs::write(folder.join("report.html"), page)?;
        fs::write(folder.join("results.json"), serde_json::to_vec_pretty(self)?)?;
        write_csv(&folder.join("bench.csv"), self.tables.iter().flat_map(|table| &table.rows))?;
        write_csv(&folder.join("idle.csv"), &self.idle)?;
        write_csv(&folder.join("stall.csv"), &self.stalls)?;
        write_csv(&folder.join("timeline.csv"), self.timelines.iter().flat_map(|one| &one.visits))
    }

    fn sections(&self) -> Result<Vec<Section>, Failure> {
        let mut sections = Vec::new();
        for (number, table) in self.tables.iter().enumerate() {
            sections.push(bench_section(number + 1, table)?);
        }
        sections.extend(self.crowd_section()?);
        let mut sizes: Vec<usize> = self.idle.iter().map(|idle| idle.connections).collect();
        sizes.dedup();
        for size in sizes {
            let rows: Vec<&Idle> =
                self.idle.iter().filter(|idle| idle.connections == size).collect();
            sections.push(idle_section(size, &rows)?);
        }
        if !self.stalls.is_empty() {
            sections.push(stall_section(&self.stalls)?);
        }
        for timeline in &self.timelines {
            sections.push(Section {
                name: format!("timeline-{}", timeline.name),
                title: format!("Eight clients at {}", timeline.name),
                picture: plot::timeline(timeline)?,
                note: String::new(),
                columns: Vec::new(),
                rows: Vec::new(),
            });
        }
        Ok(sections)
    }

    /// How throughput falls as idle connections stand beside the busy ones.
    fn crowd_section(&self) -> Result<Option<Section>, Failure> {
        let tables = self.tables.iter().filter(|table| table.workload.idle > 0);
        let points: Vec<(&Row, usize)> = tables
            .flat_map(|table| table.rows.iter().map(|row| (row, table.workload.idle)))
            .collect();
        if points.is_empty() {
            return Ok(None);
        }
        let lines = lines(&points, |(row, idle)| {
            (&row.name, row.is_floor, *idle as f64, row.answers_per_second)
        });
        let words = ("idle connections beside", "answers a second");
        let cells = |(row, idle): &(&Row, usize)| {
            vec![Cell::text(&row.name), Cell::count(*idle), Cell::number(row.answers_per_second, 0)]
        };
        Ok(Some(Section {
            name: "crowd".to_owned(),
            title: "What idle connections do to the busy ones".to_owned(),
            picture: plot::lines("Answers a second beside idle connections", words, &lines)?,
            note: String::new(),
            columns: ["", "idle beside", "answers/s"].map(str::to_owned).to_vec(),
            rows: points.iter().map(cells).collect(),
        }))
    }
}

fn bench_section(number: usize, table: &Table) -> Result<Section, Failure> {
    let bars: Vec<Bar> = table
        .rows
        .iter()
        .map(|row| Bar {
            name: row.name.clone(),
            value: row.processor_us_per_answer,
            words: row
                .processor_us_per_answer
                .map_or("no answer".to_owned(), |us| format!("{us:.1} µs")),
            is_floor: row.is_floor,
        })
        .collect();
    let first = &table.rows[0];
    let cells = |row: &Row| {
        let ms = |us: Option<u64>| Cell::number(us.map(|us| us as f64 / 1000.0), 2);
        let range = row.processor_us_least.zip(row.processor_us_greatest);
        vec![
            Cell::text(&row.name),
            Cell::number(row.answers_per_second, 0),
            Cell::number(row.processor_us_per_answer, 1),
            Cell::number(ratio(row.processor_us_per_answer, first.processor_us_per_answer), 2),
            Cell {
                text: range
                    .map_or("—".to_owned(), |(least, most)| format!("{least:.1}–{most:.1}")),
                key: row.processor_us_least,
            },
            Cell::number(row.calls_per_answer, 2),
            ms(row.latency_us_p50),
            ms(row.latency_us_p90),
            ms(row.latency_us_p99),
            ms(row.latency_us_max),
            Cell { text: row.errors.to_string(), key: Some(row.errors as f64) },
        ]
    };
    let with_error = table.rows.iter().filter_map(|row| Some((row, row.error.as_ref()?)));
    let errors: String =
        with_error.map(|(row, error)| format!(" Errors of {}: {error}.", row.name)).collect();
    let columns = [
        "",
        "answers/s",
        "CPU µs each",
        "ratio",
        "least–most",
        "calls",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "max ms",
        "errors",
    ];
    Ok(Section {
        name: format!("bench-{number}"),
        title: format!("What one answer costs the server: {}", table.title),
        picture: plot::bars("Processor time per answer", &bars)?,
        note: format!(
            "Calls: system calls for each answer, counted by {}.{errors}",
            table.calls_by
        ),
        columns: columns.map(str::to_owned).to_vec(),
        rows: table.rows.iter().map(cells).collect(),
    })
}

fn idle_section(size: usize, rows: &[&Idle]) -> Result<Section, Failure> {
    let bars: Vec<Bar> = rows
        .iter()
        .map(|row| Bar {
            name: row.name.clone(),
            value: row.kib_per_connection,
            words: match row.kib_per_connection {
                Some(kib) => format!("{kib:.1} KiB each, {} held", row.held),
                None => "none held".to_owned(),
            },
            is_floor: row.is_floor,
        })
        .collect();
    let cells = |row: &&Idle| {
        let new_client = match &row.new_client_error {
            Some(error) => Cell::text(error),
            None => Cell::number(row.new_client_ms, 1),
        };
        vec![
            Cell::text(&row.name),
            Cell::text(if row.after_answer { "answered" } else { "in mid-request" }),
            Cell::count(row.held),
            Cell::number(row.kib_per_connection, 1),
            Cell::count(row.processes),
            Cell::count(row.threads),
            Cell::number(row.processor_percent, 1),
            new_client,
        ]
    };
    let columns =
        ["", "each is", "held", "KiB each", "processes", "threads", "CPU %", "new client, ms"];
    Ok(Section {
        name: format!("idle-{size}"),
        title: format!("What {size} connections cost that ask for nothing"),
        picture: plot::bars("Memory per connection", &bars)?,
        note: String::new(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: rows.iter().map(cells).collect(),
    })
}

fn stall_section(stalls: &[Stall]) -> Result<Section, Failure> {
    let lines = lines(stalls, |stall| {
        (&stall.name, stall.is_floor, stall.silent as f64, stall.typical_ms())
    });
    let words = ("silent clients", "ms until half of the good ones were answered");
    let cells = |stalls: &[Stall]| {
        let waits =
            stalls.iter().map(|stall| Cell { text: tables::wait(stall), key: stall.typical_ms() });
        [Cell::text(&stalls[0].name)].into_iter().chain(waits).collect()
    };
    let columns = SILENT.map(|silent| format!("{silent} silent"));
    Ok(Section {
        name: "stall".to_owned(),
        title: "How long fifty good clients wait behind silent ones".to_owned(),
        picture: plot::lines("Who blocks whom", words, &lines)?,
        note: "Until half of the good ones had their answer.".to_owned(),
        columns: [String::new()].into_iter().chain(columns).collect(),
        rows: stalls.chunks(SILENT.len()).map(cells).collect(),
    })
}

/// Puts the values of each name together, in the order in which the names come up.
fn lines<T>(values: &[T], point: impl Fn(&T) -> (&str, bool, f64, Option<f64>)) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for value in values {
        let (name, is_floor, x, y) = point(value);
        let line = match lines.iter().position(|line| line.name == name) {
            Some(line) => line,
            None => {
                lines.push(Line { name: name.to_owned(), is_floor, points: Vec::new() });
                lines.len() - 1
            }
        };
        lines[line].points.extend(y.map(|y| (x, y)));
    }
    lines
}

fn write_csv<T: Serialize>(file: &Path, rows: impl IntoIterator<Item = T>) -> Result<(), Failure> {
    let mut csv = csv::Writer::from_path(file)?;
    for row in rows {
        csv.serialize(row)?;
    }
    Ok(csv.flush()?)
}
