//! Where the log meets the index: opening, reading, committing, syncing.
//!
//! Invariants:
//!
//! 1. Whoever appends holds `writer`. Whoever syncs and writes slots holds `sync`, and takes
//!    `writer` only after it, never before.
//! 2. The mapping is extended before a commit is published, and the commit is applied before the
//!    next one is appended: every location in the index can be read through the current mapping.
//! 3. Deadlines are judged by readers and by transactions, never by replay: the index is a
//!    function of the log alone.
//! 4. After a failed sync nothing more is acknowledged.

mod apply;
mod commit;
mod examine;
mod open;
mod read;
mod recover;
mod repair;
mod rewrite;
mod stats;
mod sync;
mod transaction;
mod value;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

pub use examine::{DamagedRange, LostRecord};
pub(crate) use examine::{Findings, examine};
pub use open::Recovery;
pub(crate) use open::{judge_end, parse_header};
pub(crate) use read::KeyState;
pub(crate) use repair::repair;
pub use repair::{RepairOptions, RepairReport};
pub use stats::Stats;
pub(crate) use transaction::Transaction;
pub use value::Value;

use crate::clock::Clock;
use crate::index::{Index, KeyHasher, Statistics};
use crate::log::{Append, FileHeader};
use crate::storage::{Mapping, Storage, StorageFile};
use crate::{Durability, Error, Result};

use commit::Writer;
use sync::SyncState;

/// One open file.
pub(crate) struct Engine {
    path: PathBuf,
    storage: Arc<dyn Storage>,
    file: Arc<dyn StorageFile>,
    append: Box<dyn Append>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    header: FileHeader,
    hasher: KeyHasher,
    index: Index,
    statistics: Mutex<Statistics>,
    mapping: RwLock<Arc<Mapping>>,
    writer: Mutex<Writer>,
    sync: Mutex<SyncState>,
    /// Where the log ends, for who does not hold `writer`.
    published_upto: AtomicU64,
    /// Where the log ended when the file was opened.
    opened_upto: u64,
    /// Everything before this is on the device, as far as this handle knows.
    synced_upto: AtomicU64,
    /// Why nothing may be written any more.
    poison: OnceLock<String>,
    closed: AtomicBool,
    recovery: Recovery,
}

/// What the options said.
#[derive(Debug, Clone, Copy)]
struct Settings {
    durability: Durability,
    read_only: bool,
    verify_on_read: bool,
    mapping_step_bytes: u64,
}

impl Engine {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// The mapping that shows all that was published.
    fn mapping(&self) -> Arc<Mapping> {
        let mapping = self.mapping.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&mapping)
    }

    fn statistics(&self) -> MutexGuard<'_, Statistics> {
        self.statistics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn published_upto(&self) -> u64 {
        self.published_upto.load(Ordering::Acquire)
    }

    fn check_not_poisoned(&self) -> Result<()> {
        match self.poison.get() {
            None => Ok(()),
            Some(reason) => Err(Error::Poisoned {
                path: self.path.clone(),
                reason: reason.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
