//! The inside of a server as text and as a screen. Both show the same rows.

use std::collections::BTreeMap;

use procfs::net::TcpState;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Row, Table};

use super::inside::{Connection, Inside, ProcessInside, Thread};

const THREADS: [&str; 7] =
    ["process", "thread", "state", "processor time", "CPU", "descriptors", "memory"];
const CONNECTIONS: [&str; 5] = ["client", "state", "to read", "to send", "held by"];
/// In characters.
const THREAD_WIDTHS: [usize; 7] = [9, 26, 18, 15, 6, 11, 10];
const CONNECTION_WIDTHS: [usize; 5] = [24, 18, 10, 10, 24];

/// All of it.
pub(crate) fn text(name: &str, inside: &Inside) -> String {
    let parts = [
        vec![name.to_owned(), totals(inside), String::new(), thread_title(inside)],
        lines(THREADS, THREAD_WIDTHS, thread_rows(inside)),
        vec![String::new(), connection_title(inside)],
        lines(CONNECTIONS, CONNECTION_WIDTHS, connection_rows(inside)),
    ];
    parts.concat().iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn lines<const N: usize>(
    head: [&str; N],
    widths: [usize; N],
    rows: Vec<[String; N]>,
) -> Vec<String> {
    let line = |cells: &[String; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$} "));
        padded.collect::<String>()
    };
    let head = head.map(str::to_owned);
    [head].iter().chain(&rows).map(line).collect()
}

/// As much of it as there is room for.
pub(crate) fn draw(frame: &mut Frame<'_>, name: &str, inside: &Inside) {
    let (threads, connections) = (thread_rows(inside), connection_rows(inside));
    // Four lines for titles and heads, three for what stands above, and one below.
    let room = usize::from(frame.area().height).saturating_sub(9);
    let for_threads = threads.len().min((room / 2).max(room.saturating_sub(connections.len())));
    let [top, threads_title, thread_area, connection_title_area, connection_area, bottom] =
        Layout::vertical([
            Constraint::Length(3),
            Constraint::Length(1),
            Constraint::Length(for_threads as u16 + 2),
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let [name_area, totals_area, _] = Layout::vertical([Constraint::Length(1); 3]).areas(top);
    frame.render_widget(Line::styled(name, bold), name_area);
    frame.render_widget(Line::raw(totals(inside)), totals_area);
    let title = |title: String, rows: usize, room: usize| {
        let rest = if rows > room { format!("; {room} are shown") } else { String::new() };
        Line::styled(title + &rest, bold)
    };
    let room = usize::from(connection_area.height).saturating_sub(1);
    let of_threads = title(thread_title(inside), threads.len(), for_threads);
    let of_connections = title(connection_title(inside), connections.len(), room);
    frame.render_widget(of_threads, threads_title);
    frame.render_widget(table(THREADS, THREAD_WIDTHS, threads), thread_area);
    frame.render_widget(of_connections, connection_title_area);
    frame.render_widget(table(CONNECTIONS, CONNECTION_WIDTHS, connections), connection_area);
    frame.render_widget(Line::raw("q leaves"), bottom);
}

fn table<const N: usize>(
    head: [&'static str; N],
    widths: [usize; N],
    rows: Vec<[String; N]>,
) -> Table<'static> {
    let underlined = Style::new().add_modifier(Modifier::UNDERLINED);
    Table::new(rows.into_iter().map(Row::new), widths.map(|width| Constraint::Length(width as u16)))
        .header(Row::new(head).style(underlined))
}

fn totals(inside: &Inside) -> String {
    let threads = || inside.processes.iter().flat_map(|process| &process.threads);
    let descriptors: usize = inside.processes.iter().map(|process| process.descriptors).sum();
    let kib = inside.processes.iter().map(|process| process.memory_kib).sum();
    let percent: f64 = threads().map(|thread| thread.percent).sum();
    let calls = match inside.calls_per_second {
        Some(calls) => format!("{calls:.0}"),
        None => "(only root may count) ?".to_owned(),
    };
    format!(
        "CPU {percent:.0} %, {calls} system calls a second, memory {}, {descriptors} descriptors",
        memory(kib)
    )
}

fn thread_title(inside: &Inside) -> String {
    let threads = inside.processes.iter().flat_map(|process| &process.threads);
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for thread in threads {
        *states.entry(state(thread.state)).or_default() += 1;
    }
    let states: Vec<String> =
        states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    format!("Processes: {}. Threads: {}", inside.processes.len(), states.join(", "))
}

fn connection_title(inside: &Inside) -> String {
    let waiting = inside.connections.iter().filter(|it| waits_for_accept(it)).count();
    format!(
        "Connections: {}, of which {waiting} wait to be accepted; {} more in TIME_WAIT",
        inside.connections.len(),
        inside.in_time_wait
    )
}

fn thread_rows(inside: &Inside) -> Vec<[String; 7]> {
    let mut rows = Vec::new();
    for process in &inside.processes {
        for (number, thread) in process.threads.iter().enumerate() {
            rows.push(thread_row(process, thread, number == 0));
        }
    }
    rows
}

/// What belongs to the process stands in the row of its first thread.
fn thread_row(process: &ProcessInside, thread: &Thread, is_first: bool) -> [String; 7] {
    let of_process = |text: String| if is_first { text } else { String::new() };
    [
        of_process(process.pid.to_string()),
        format!("{} {}", thread.id, thread.name),
        state(thread.state).to_owned(),
        format!("{:.4} s", thread.processor.as_secs_f64()),
        format!("{:.0} %", thread.percent),
        of_process(process.descriptors.to_string()),
        of_process(memory(process.memory_kib)),
    ]
}

fn connection_rows(inside: &Inside) -> Vec<[String; 5]> {
    let row = |connection: &Connection| {
        let holders: Vec<String> = connection.held_by.iter().map(i32::to_string).collect();
        let held_by = match &holders[..] {
            [] if waits_for_accept(connection) => "not accepted yet".to_owned(),
            [] => "the kernel".to_owned(),
            holders => holders.join(", "),
        };
        [
            connection.client.to_string(),
            tcp_state(&connection.state).to_owned(),
            connection.to_read.to_string(),
            connection.to_send.to_string(),
            held_by,
        ]
    };
    inside.connections.iter().map(row).collect()
}

/// The server has no descriptor for it, and has not closed it either.
fn waits_for_accept(connection: &Connection) -> bool {
    connection.held_by.is_empty()
        && matches!(connection.state, TcpState::Established | TcpState::CloseWait)
}

fn memory(kib: u64) -> String {
    if kib < 10_240 { format!("{kib} KiB") } else { format!("{} MiB", kib / 1024) }
}

/// proc(5), /proc/PID/stat.
fn state(letter: char) -> &'static str {
    match letter {
        'R' => "running",
        'S' => "sleeping",
        'D' => "waiting for a disk",
        'T' => "stopped",
        't' => "being traced",
        'Z' => "ended, not reaped",
        _ => "idle",
    }
}

/// The names of tcp(7) and ss(8).
fn tcp_state(state: &TcpState) -> &'static str {
    match state {
        TcpState::Established => "ESTABLISHED",
        TcpState::SynSent => "SYN_SENT",
        TcpState::SynRecv | TcpState::NewSynRecv => "SYN_RECV",
        TcpState::FinWait1 => "FIN_WAIT1",
        TcpState::FinWait2 => "FIN_WAIT2",
        TcpState::TimeWait => "TIME_WAIT",
        TcpState::Close => "CLOSE",
        TcpState::CloseWait => "CLOSE_WAIT",
        TcpState::LastAck => "LAST_ACK",
        TcpState::Listen => "LISTEN",
        TcpState::Closing => "CLOSING",
    }
}
