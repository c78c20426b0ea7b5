//! Starts a server, talks to it byte by byte, and says what it did.
//!
//! Nothing here knows how a server is built: it sees a process, a port and bytes, so the server may
//! be written in any language.

pub mod cargo;
pub mod checks;
pub mod class;
pub mod client;
pub mod exercises;
pub mod fixture;
pub mod processes;
pub mod report;
pub mod scene;
pub mod server;
pub mod site;
pub mod steps;
pub mod story;
pub mod task;
pub mod wire;

pub use client::{Answer, Client};
pub use fixture::Fixture;
pub use server::Server;
pub use site::Site;
pub use steps::{STEPS, Step};

use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

/// Why a check failed, in words for the person whose server it is.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The name of every temporary folder begins so, and then has the id of this process.
fn temporary_prefix() -> String {
    format!("check-{}-", std::process::id())
}

/// A folder that is gone when it is dropped.
fn temporary_folder() -> io::Result<TempDir> {
    tempfile::Builder::new().prefix(&temporary_prefix()).tempdir()
}

/// Removes what is left of the temporary folders of this process, when it ends without dropping them.
pub fn remove_temporary_folders() {
    let entries = fs::read_dir(env::temp_dir()).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_name().to_string_lossy().starts_with(&temporary_prefix()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Lets this process hold as many connections as the system allows, and returns how many that is.
pub fn raise_descriptor_limit() -> u64 {
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => 0,
    }
}

/// Asks again and again until the answer is yes, for facts that the system only shows when asked,
/// such as what stands in /proc. The longest wait is `limit`.
///
/// # Errors
/// The answer was still no at the end; `what` says what was waited for.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut is_so: impl FnMut() -> bool,
) -> Result<(), Failure> {
    let deadline = Instant::now() + limit;
    while !is_so() {
        if Instant::now() >= deadline {
            return Err(format!("waited {limit:?} in vain: {what}").into());
        }
        thread::park_timeout(Duration::from_millis(2));
    }
    Ok(())
}
