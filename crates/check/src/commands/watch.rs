//! Checking again whenever a file changes.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use check::Failure;
use check::task::Task;
use notify::{RecursiveMode, Watcher};

use super::progress;
use crate::{Arguments, check_once, could_not_run};

/// Checks now, and again after each change: until Ctrl-C, or until it passes.
pub(crate) fn watch(
    arguments: &Arguments,
    task: &Task,
    workspace: &Path,
    until_passed: bool,
) -> Result<bool, Failure> {
    // What the command names may lie elsewhere.
    let named = arguments.server.iter().map(Path::new).filter(|word| word.is_file());
    let around: Vec<PathBuf> =
        named.filter_map(|file| file.canonicalize().ok()?.parent().map(PathBuf::from)).collect();
    let folders =
        if arguments.server.is_empty() { task.sources(workspace) } else { vec![".".into()] };
    let (sender, changes) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| is_change(&event)) {
            let _ = sender.send(());
        }
    })?;
    for folder in &folders {
        watcher.watch(folder, RecursiveMode::Recursive)?;
    }
    let here = env::current_dir()?.canonicalize()?;
    for folder in around.iter().filter(|folder| !folder.starts_with(&here)) {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
    }
    loop {
        match check_once(arguments, task, workspace) {
            Ok(true) if until_passed => return Ok(true),
            Ok(_) => {}
            Err(failure) => {
                let _ = could_not_run(&failure.to_string());
            }
        }
        writeln!(io::stderr(), "check: waiting for a change; Ctrl-C ends")?;
        changes.recv()?;
        // An editor writes a file in several steps.
        while changes.recv_timeout(Duration::from_millis(200)).is_ok() {}
    }
}

/// Watches one exercise after the other, each until it passes.
pub(crate) fn go_on(
    arguments: &Arguments,
    exercises: &Path,
    workspace: &Path,
) -> Result<bool, Failure> {
    while let Some(exercise) = progress::next(exercises)? {
        progress::tell_next(&mut anstream::stdout(), exercises)?;
        watch(arguments, &Task::Exercise(Box::new(exercise)), workspace, true)?;
    }
    progress::tell_next(&mut anstream::stdout(), exercises)?;
    Ok(true)
}

/// Something was written, and not by a compiler or an interpreter.
fn is_change(event: &notify::Event) -> bool {
    let is_by_product = |path: &PathBuf| {
        path.components().any(|part| {
            matches!(part.as_os_str().to_str(), Some("target" | ".git" | "__pycache__"))
        })
    };
    !event.kind.is_access() && !event.paths.iter().all(is_by_product)
}
