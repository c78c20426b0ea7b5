//! What the command `check` can do beside checking once.

pub(crate) mod list;
pub(crate) mod new;
pub(crate) mod progress;
pub(crate) mod teller;
pub(crate) mod watch;

use check::task::Task;

/// A few words on a task.
pub(crate) fn describe(task: &Task) -> String {
    match task {
        Task::Step(step) => step.name[step.short().len() + 1..].replace('-', " "),
        Task::Exercise(exercise) => exercise.title.clone(),
    }
}
