//! What was measured, as tables for the terminal.

use std::fmt::{Display, Write as _};

use crate::bench::Table;
use crate::crowd::{Idle, SILENT, Stall};

/// What stands where nothing could be measured.
const NONE: &str = "—";

pub(crate) fn bench(table: &Table) -> String {
    let mut text = format!(
        "\n{}\n{:<19} {:>9} {:>6} {:>11} {:>6} {:>15} {:>5} {:>8} {:>8} {:>8} {:>9} {:>7}\n",
        table.title,
        "",
        "answers/s",
        "ratio",
        "CPU µs each",
        "ratio",
        "(least–most)",
        "calls",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "max ms",
        "errors"
    );
    let first = table.rows.first();
    for row in &table.rows {
        let ms = |us: Option<u64>| number(us.map(|us| us as f64 / 1000.0), 2);
        let range = row.processor_us_least.zip(row.processor_us_greatest);
        let rate = first.and_then(|first| first.answers_per_second);
        let cost = first.and_then(|first| first.processor_us_per_answer);
        let _ = writeln!(
            text,
            "{:<19} {:>9} {:>6} {:>11} {:>6} {:>15} {:>5} {:>8} {:>8} {:>8} {:>9} {:>7}{}",
            row.name,
            number(row.answers_per_second, 0),
            number(ratio(row.answers_per_second, rate), 2),
            number(row.processor_us_per_answer, 1),
            number(ratio(row.processor_us_per_answer, cost), 2),
            range.map_or(NONE.to_owned(), |(least, most)| format!("({least:.1}–{most:.1})")),
            number(row.calls_per_answer, 2),
            ms(row.latency_us_p50),
            ms(row.latency_us_p90),
            ms(row.latency_us_p99),
            ms(row.latency_us_max),
            row.errors,
            row.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default(),
        );
    }
    let _ = writeln!(text, "calls: system calls for each answer, counted by {}", table.calls_by);
    text
}

pub(crate) fn idle(rows: &[Idle]) -> String {
    let mut text = format!(
        "\n{:<19} {:>11} {:>6} {:>9} {:>10} {:>8} {:>7} {:>31}\n",
        "", "connections", "held", "KiB each", "processes", "threads", "CPU", "new client"
    );
    for row in rows {
        let state =
            if row.after_answer { "" } else { "  (in mid-request: one answer a connection)" };
        let _ = writeln!(
            text,
            "{:<19} {:>11} {:>6} {:>9} {:>10} {:>8} {:>7} {:>31}{state}",
            row.name,
            row.connections,
            row.held,
            number(row.kib_per_connection, 1),
            row.processes,
            row.threads,
            row.processor_percent.map_or(NONE.to_owned(), |percent| format!("{percent:.1}%")),
            row.new_client_error.clone().unwrap_or_else(|| milliseconds(row.new_client_ms)),
        );
    }
    text
}

pub(crate) fn stall(rows: &[Stall]) -> String {
    let mut text = format!(
        "\nhalf of 50 good clients have their answer after, behind silent ones:\n{:<19}",
        ""
    );
    for silent in SILENT {
        let _ = write!(text, " {silent:>10}");
    }
    for row in rows {
        if row.silent == SILENT[0] {
            let _ = write!(text, "\n{:<19}", row.name);
        }
        let _ = write!(text, " {:>10}", wait(row));
    }
    text.push('\n');
    for row in rows {
        if let Some(failure) = &row.failure {
            let _ = writeln!(text, "{}, {} silent: {failure}", row.name, row.silent);
        }
    }
    text
}

/// How long the good ones waited.
pub(crate) fn wait(stall: &Stall) -> String {
    match stall.failure {
        Some(_) => NONE.to_owned(),
        None => milliseconds(stall.typical_ms()),
    }
}

/// How many times the other one it is.
pub(crate) fn ratio(value: Option<f64>, of: Option<f64>) -> Option<f64> {
    Some(value? / of.filter(|&of| of > 0.0)?)
}

fn number(value: Option<impl Display>, digits: usize) -> String {
    value.map_or(NONE.to_owned(), |value| format!("{value:.digits$}"))
}

fn milliseconds(wait: Option<f64>) -> String {
    wait.map_or_else(|| "> 5 s".to_owned(), |wait| format!("{wait:.1} ms"))
}
