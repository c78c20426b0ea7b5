//! What was handed in: which folders are submissions, and a copy of one that can do no harm.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, Utc};

use crate::Failure;

/// How much one submission may be, in bytes.
const LARGEST: u64 = 1 << 30;
/// How many folders deep it may be.
const DEEPEST: usize = 64;

/// A folder that somebody handed in.
pub(super) struct Submission {
    /// The name of the folder, fit to be shown.
    pub(super) student: String,
    pub(super) folder: PathBuf,
    /// When the newest file in it was changed; empty if there is none.
    pub(super) submitted: String,
}

/// The submissions in a folder by name, and the names of everything else in it, apart from `known`.
///
/// # Errors
/// It cannot be read.
pub(super) fn all_in(
    folder: &Path,
    known: &[&str],
) -> Result<(Vec<Submission>, Vec<String>), Failure> {
    let (mut submissions, mut ignored) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let student = shown(&entry.file_name());
        let is_folder = entry.file_type()?.is_dir();
        if is_folder && !is_by_product(&entry.file_name()) {
            let folder = entry.path();
            let submitted = newest(&folder, DEEPEST).map(in_words).unwrap_or_default();
            submissions.push(Submission { student, folder, submitted });
        } else if !known.contains(&student.as_str()) {
            ignored.push(student);
        }
    }
    submissions.sort_by(|a, b| a.student.cmp(&b.student));
    ignored.sort();
    Ok((submissions, ignored))
}

/// A moment in UTC, to the second.
pub(super) fn in_words(moment: SystemTime) -> String {
    DateTime::<Utc>::from(moment).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// A name as text: what is no UTF-8, and what a terminal would obey, is written out.
pub(super) fn shown(name: &OsStr) -> String {
    let mut shown = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                shown.extend(character.escape_unicode());
            } else {
                shown.push(character);
            }
        }
        shown.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    shown
}

/// What tools make, and unzipping.
pub(super) fn is_by_product(name: &OsStr) -> bool {
    let names = ["__MACOSX", "__pycache__", "target", "node_modules"];
    name.as_encoded_bytes().starts_with(b".") || names.iter().any(|other| name == *other)
}

fn newest(folder: &Path, depth: usize) -> Option<SystemTime> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let times = entries.filter(|entry| !is_by_product(&entry.file_name())).filter_map(|entry| {
        let data = entry.metadata().ok()?;
        if data.is_dir() {
            newest(&entry.path(), depth.checked_sub(1)?)
        } else {
            data.modified().ok()
        }
    });
    times.max()
}

/// Copies a submission. What is neither a folder nor a file nor a link that stays inside is left out, and
/// returned by name: a link could show a neighbour's work, or anything else of this machine.
///
/// # Errors
/// It is too large or too deep, or cannot be read.
pub(super) fn copy(from: &Path, to: &Path) -> Result<Vec<String>, Failure> {
    let mut copying = Copying { top: from, bytes: 0, left_out: Vec::new() };
    copying.copy(from, to, DEEPEST)?;
    Ok(copying.left_out)
}

struct Copying<'a> {
    top: &'a Path,
    bytes: u64,
    left_out: Vec<String>,
}

impl Copying<'_> {
    fn copy(&mut self, from: &Path, to: &Path, depth: usize) -> Result<(), Failure> {
        let depth = depth
            .checked_sub(1)
            .ok_or_else(|| format!("its folders are more than {DEEPEST} deep"))?;
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let data = entry.metadata()?;
            if data.is_dir() {
                self.copy(&from, &to, depth)?;
            } else if data.is_file() {
                self.bytes += data.len();
                if self.bytes > LARGEST {
                    return Err(format!("it is larger than {} MiB", LARGEST >> 20).into());
                }
                fs::copy(&from, &to)?;
            } else if data.is_symlink() && self.stays_inside(&from)? {
                std::os::unix::fs::symlink(fs::read_link(&from)?, to)?;
            } else {
                let name = from.strip_prefix(self.top).unwrap_or(&from);
                self.left_out.push(shown(name.as_os_str()));
            }
        }
        Ok(())
    }

    /// Whether a link leads to something in this submission: up no further than to its top, and then down. A
    /// way up behind a way down could go up from elsewhere, if what is gone down is a link.
    fn stays_inside(&self, link: &Path) -> Result<bool, Failure> {
        let folder = link.parent().and_then(|folder| folder.strip_prefix(self.top).ok());
        let depth = folder.map_or(0, |folder| folder.components().count());
        let target = fs::read_link(link)?;
        let is_up = |part: &Component| *part == Component::ParentDir;
        let ups = target.components().take_while(is_up).count();
        let is_down = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        Ok(ups <= depth && target.components().skip(ups).all(is_down))
    }
}

/// Where in a copied submission its program is. Unzipping often makes a folder that holds all the rest.
pub(super) fn inner(copy: &Path, is_it: impl Fn(&Path) -> bool) -> PathBuf {
    let mut place = copy.to_owned();
    while !is_it(&place) {
        let Some(only) = only_folder(&place) else { break };
        place = only;
    }
    place
}

/// The one thing in a folder, if it is a folder.
fn only_folder(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let mut entries = entries.filter(|entry| !is_by_product(&entry.file_name()));
    let only = entries.next().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))?;
    entries.next().is_none().then(|| only.path())
}

/// Whether a command would find something of what it names in a folder.
pub(super) fn has_what_is_named(folder: &Path, command: &[OsString]) -> bool {
    command.iter().any(|word| {
        let mut parts = Path::new(word).components();
        let is_path = Path::new(word).is_relative() && parts.any(|part| part != Component::CurDir);
        is_path && fs::symlink_metadata(folder.join(word)).is_ok()
    })
}

/// The folder with a submission's Rust code: the `src` of a starter, the starter, or the exercise with
/// the starter in it.
pub(super) fn source_of(submission: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(submission).ok()?.flatten();
    let mut inner: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    inner.sort();
    let places = [submission.to_owned(), submission.join("starter")];
    let mut places = places.into_iter().chain(inner.iter().map(|folder| folder.join("starter")));
    places.find_map(|place| Some(place.join("src")).filter(|src| src.join("main.rs").is_file()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn names_are_written_out() {
        assert_eq!(shown(OsStr::new("Zoë Ñu")), "Zoë Ñu");
        assert_eq!(shown(OsStr::from_bytes(b"a\xff\x1b[2Jb")), "a\\xff\\u{1b}[2Jb");
    }

    #[test]
    fn a_copy_has_no_link_that_leads_out() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("one");
        fs::create_dir_all(from.join("a")).unwrap();
        fs::write(from.join("a/file"), "text").unwrap();
        symlink("a/file", from.join("inside")).unwrap();
        symlink("../inside", from.join("a/also")).unwrap();
        symlink("../two", from.join("out")).unwrap();
        symlink("..", from.join("a/top")).unwrap();
        symlink("a/top/../two", from.join("around")).unwrap();
        symlink("/etc", from.join("absolute")).unwrap();
        let to = folder.path().join("copy");
        let mut left_out = copy(&from, &to).unwrap();
        left_out.sort();
        assert_eq!(left_out, ["absolute", "around", "out"]);
        assert_eq!(fs::read(to.join("a/also")).unwrap(), b"text");
    }

    #[test]
    fn the_folder_that_unzipping_makes_is_entered() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path();
        fs::create_dir_all(top.join("hand-in/src")).unwrap();
        fs::create_dir_all(top.join("__MACOSX")).unwrap();
        fs::write(top.join("hand-in/src/server.py"), "").unwrap();
        let named = |word: &str| {
            inner(top, |place| has_what_is_named(place, &["python3".into(), word.into()]))
        };
        assert_eq!(named("src/server.py"), top.join("hand-in"));
        assert_eq!(named("server.py"), top.join("hand-in/src"));
        assert_eq!(named("."), top.join("hand-in/src"));
    }
}
