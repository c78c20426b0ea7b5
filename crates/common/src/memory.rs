//! Optional reading: small files that were asked for before. Without it all works, and an answer costs
//! about twice as much.
//!
//! Whoever asks for a kept file again still gets what is on the disk: a look says whether the path
//! leads to the same version as ever, and if not, the file is opened anew.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::document::Document;
use nix::sys::stat::FileStat;

/// How many files are kept at most: 16 MiB in all.
const MAX_KEPT: usize = 256;

/// Documents by the path of the request as it was sent.
#[derive(Debug, Default)]
pub struct Memory {
    kept: RwLock<HashMap<String, Kept>>,
    /// 0 as long as nobody counts rounds.
    round: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    /// The path below the root.
    name: Vec<u8>,
    document: Arc<Document>,
    looked_up_in: AtomicU64,
}

impl Memory {
    /// For a loop that learns of many requests at once: a kept file is looked at once a round, for all
    /// requests of the round, and what they get was the file at some moment of it. Without these calls
    /// there is a look for each request.
    pub fn begin_round(&self) {
        self.round.fetch_add(1, Ordering::Relaxed);
    }

    /// The document for this path, if it is kept and is what a look finds there now.
    pub(crate) fn get(
        &self,
        path: &str,
        look_up: impl FnOnce(&[u8]) -> Option<FileStat>,
    ) -> Option<Arc<Document>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let Kept { name, document, looked_up_in } = kept.get(path)?;
        let round = self.round.load(Ordering::Relaxed);
        if round == 0 || looked_up_in.load(Ordering::Relaxed) != round {
            if identity(&look_up(name)?) != identity(&document.stat) {
                return None;
            }
            looked_up_in.store(round, Ordering::Relaxed);
        }
        Some(Arc::clone(document))
    }

    /// Keeps a document if it can be kept.
    pub(crate) fn keep(&self, path: &str, name: Vec<u8>, document: Document) -> Arc<Document> {
        let document = Arc::new(document);
        if document.can_be_kept() {
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            // To begin again is simple, and no order in which clients ask makes it worse than that.
            if kept.len() >= MAX_KEPT {
                kept.clear();
            }
            let (looked_up_in, document) = (AtomicU64::new(0), Arc::clone(&document));
            kept.insert(path.to_owned(), Kept { name, document, looked_up_in });
        }
        document
    }
}

/// What tells one version of one file from every other. Programs can set the time of modification, and
/// cannot set that of the last change of status.
fn identity(stat: &FileStat) -> impl PartialEq {
    let modified = (stat.st_mtime, stat.st_mtime_nsec);
    let changed = (stat.st_ctime, stat.st_ctime_nsec);
    (stat.st_dev, stat.st_ino, stat.st_size, modified, changed)
}
