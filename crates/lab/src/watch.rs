//! The inside of a server that runs: a picture of it twice a second, until `q`.

use std::io::{self, IsTerminal};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};

use crate::{Failure, print, say};

mod find;
mod inside;
mod screen;

/// From one look to the next.
const PERIOD: Duration = Duration::from_millis(500);
/// How soon a signal is seen.
const GLANCE: Duration = Duration::from_millis(100);

/// Shows a server until somebody wants to leave, or it ends. Without a terminal it is shown once, as text.
pub(crate) fn watch(word: Option<&str>) -> Result<(), Failure> {
    let server = find::find(word)?;
    let name = server.to_string();
    let mut watched = inside::Watched::new(server)?;
    // Rates need two looks.
    watched.look();
    if !io::stdout().is_terminal() {
        thread::sleep(PERIOD);
        match watched.look() {
            Some(inside) => print(&screen::text(&name, &inside)),
            None => say_ended(&name),
        }
        return Ok(());
    }
    // As a descriptor, so that the terminal is put right before this ends.
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    // A panic puts it right as well.
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, &name, &mut watched, &signals);
    ratatui::try_restore()?;
    if !shown? {
        say_ended(&name);
    }
    Ok(())
}

/// Returns whether the server still runs.
fn show(
    terminal: &mut ratatui::DefaultTerminal,
    name: &str,
    watched: &mut inside::Watched,
    signals: &SignalFd,
) -> Result<bool, Failure> {
    while let Some(inside) = watched.look() {
        let next = Instant::now() + PERIOD;
        terminal.draw(|frame| screen::draw(frame, name, &inside))?;
        while Instant::now() < next {
            if signals.read_signal()?.is_some() {
                return Ok(true);
            }
            if !event::poll(GLANCE)? {
                continue;
            }
            match event::read()? {
                Event::Key(key) if key.code == KeyCode::Char('q') => return Ok(true),
                Event::Key(key)
                    if key.code == KeyCode::Char('c')
                        && key.modifiers.contains(KeyModifiers::CONTROL) =>
                {
                    return Ok(true);
                }
                Event::Resize(..) => {
                    terminal.draw(|frame| screen::draw(frame, name, &inside))?;
                }
                _ => {}
            }
        }
    }
    Ok(false)
}

fn say_ended(name: &str) {
    say(format_args!("lab: {name} has ended"));
}
