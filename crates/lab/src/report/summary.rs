//! What each model costs, as the one table that stands first.

use serde::Serialize;

use super::Report;
use crate::bench::{Page, Row, Table};
use crate::crowd::Idle;

/// What stands in a table, and what it is sorted by.
#[derive(Debug, Serialize)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) key: Option<f64>,
}

impl Cell {
    pub(super) fn text(text: impl ToString) -> Cell {
        Cell { text: text.to_string(), key: None }
    }

    pub(super) fn number(value: Option<f64>, digits: usize) -> Cell {
        let text = value.map_or("—".to_owned(), |value| format!("{value:.digits$}"));
        Cell { text, key: value }
    }

    pub(super) fn count(value: usize) -> Cell {
        Cell::number(Some(value as f64), 0)
    }
}

/// One line of the summary: what a model costs.
#[derive(Debug)]
struct Model<'a> {
    name: &'a str,
    once: Option<&'a Row>,
    persistent: Option<&'a Row>,
    idle: Option<&'a Idle>,
}

/// What each model costs: the small page by itself, and as many silent connections as all had first.
pub(super) fn summary(report: &Report) -> (Vec<String>, Vec<Vec<Cell>>) {
    let table = |persistent| {
        report.tables.iter().find(|table| {
            let workload = &table.workload;
            workload.page == Page::Small
                && (workload.persistent, workload.idle) == (persistent, 0)
                && workload.cores.is_none()
        })
    };
    let tables = [table(false), table(true)];
    let size = report.idle.first().map_or(0, |idle| idle.connections);
    let mut models: Vec<Model<'_>> = Vec::new();
    let rows = tables.iter().flatten().flat_map(|table| &table.rows);
    let names = rows.map(|row| &row.name).chain(report.idle.iter().map(|idle| &idle.name));
    for name in names {
        if !models.iter().any(|model| model.name == name) {
            let of = |number: usize| {
                let table: &Table = tables[number]?;
                table.rows.iter().find(|row| row.name == *name)
            };
            let idle = |idle: &&Idle| idle.name == *name && idle.connections == size;
            let (once, persistent) = (of(0), of(1));
            models.push(Model { name, once, persistent, idle: report.idle.iter().find(idle) });
        }
    }
    models.sort_by_key(|model| model.name.to_owned());
    let columns = [
        "model".to_owned(),
        "an answer on a connection of its own, µs of processor time".to_owned(),
        "on a persistent one".to_owned(),
        "system calls".to_owned(),
        "a silent connection, KiB".to_owned(),
        format!("{size} silent ones are"),
        "idle, it uses".to_owned(),
    ];
    let rows = models.iter().map(Model::cells).collect();
    (columns.to_vec(), rows)
}

impl Model<'_> {
    fn cells(&self) -> Vec<Cell> {
        let cost = |row: Option<&Row>| {
            let row = row?;
            row.processor_us_per_answer
        };
        let held = |idle: &&Idle| idle.held > 0;
        let idle = self.idle.filter(held);
        let made_of = idle.map(|idle| match (idle.processes, idle.threads) {
            (1, 1) => "1 thread".to_owned(),
            (1, threads) => format!("{threads} threads"),
            (processes, _) => format!("{processes} processes"),
        });
        vec![
            Cell::text(self.name),
            Cell::number(cost(self.once), 0),
            Cell::number(cost(self.persistent), 1),
            Cell::number(self.persistent.or(self.once).and_then(|row| row.calls_per_answer), 2),
            Cell::number(idle.and_then(|idle| idle.kib_per_connection), 1),
            Cell { text: made_of.unwrap_or("—".to_owned()), key: idle.map(|i| i.threads as f64) },
            match idle.and_then(|idle| idle.processor_percent) {
                Some(percent) => Cell { text: format!("{percent:.1} %"), key: Some(percent) },
                None => Cell::number(None, 0),
            },
        ]
    }
}
