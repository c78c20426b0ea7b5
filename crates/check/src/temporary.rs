//! Folders of this process that are gone when it ends.

use std::{env, fs, io};

use tempfile::TempDir;

/// The name of every temporary folder begins so, and then has the id of this process.
fn temporary_prefix() -> String {
    format!("check-{}-", std::process::id())
}

/// A folder that is gone when it is dropped.
pub(crate) fn temporary_folder() -> io::Result<TempDir> {
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
