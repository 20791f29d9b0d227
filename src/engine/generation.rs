//! One inode of the file, from its creation to the compaction that replaces it: the file, what
//! its log says, and how far that is known.
//!
//! It must not know how it is written to, synced or replaced: that is the [`Engine`](super::Engine)'s,
//! which holds the locks for it.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use super::Settings;
use super::apply::{Applied, apply_commit};
use crate::index::{Index, KeyHasher, Statistics, Visited};
use crate::limits::MAX_FILE_BYTES;
use crate::log::{Damage, FileHeader, LOG_START, Reader, Tail};
use crate::record::{Kind, Link};
use crate::storage::{Mapping, StorageFile};
use crate::{Error, Result};

/// See the module.
pub(super) struct Generation {
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) header: FileHeader,
    pub(super) hasher: KeyHasher,
    pub(super) index: Index,
    statistics: Mutex<Statistics>,
    mapping: RwLock<Arc<Mapping>>,
    mapping_step_bytes: u64,
    /// Where the log ends, for who does not hold the writer lock.
    published_upto: AtomicU64,
    /// Everything before this is on the device, as far as this handle knows.
    synced_upto: AtomicU64,
    /// Why nothing may be written any more.
    pub(super) poison: OnceLock<String>,
    /// What was read, where there is a budget.
    pub(super) visited: Option<Visited>,
}

/// How much was applied.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Replayed {
    pub(super) record_count: u64,
    pub(super) commit_count: u64,
}

impl Generation {
    /// The generation in a file, of whose log nothing is applied yet.
    pub(super) fn new(
        file: Arc<dyn StorageFile>,
        header: FileHeader,
        path: &Path,
        settings: &Settings,
    ) -> Result<Generation> {
        let io_error = |operation| Error::io(operation, path);
        let file_bytes = file.size().map_err(io_error("read the size of"))?;
        let mapping = file
            .map(mapping_len(file_bytes, settings.mapping_step_bytes))
            .map_err(io_error("map"))?;
        Ok(Generation {
            file,
            hasher: KeyHasher::new(&header.hash_key),
            header,
            index: Index::default(),
            statistics: Mutex::default(),
            mapping: RwLock::new(Arc::new(mapping)),
            mapping_step_bytes: settings.mapping_step_bytes,
            published_upto: AtomicU64::new(LOG_START),
            synced_upto: AtomicU64::new(LOG_START),
            poison: OnceLock::new(),
            // Twice the budget and what grows while a compaction runs; what lies behind is seldom there.
            visited: settings
                .budget
                .map(|budget| Visited::new(budget.max_bytes.saturating_mul(4).min(MAX_FILE_BYTES))),
        })
    }

    /// Applies every whole commit from `tail` on, and moves it behind them.
    ///
    /// # Errors
    ///
    /// Where the log ends at damage; what stands before it was applied.
    pub(super) fn catch_up(&self, tail: &mut Tail) -> (Replayed, std::result::Result<(), Damage>) {
        let mapping = self.mapping();
        let mut statistics = self.statistics();
        let mut reader = Reader::from_link(&*mapping, self.link(*tail));
        let mut replayed = Replayed::default();
        let mut records = Vec::new();
        let end = loop {
            match reader.next_commit() {
                Ok(Some(_)) => {}
                Ok(None) => break Ok(()),
                Err(damage) => break Err(damage),
            }
            records.clear();
            records.extend(reader.records().map(|(offset, change)| Applied {
                change,
                offset,
                hash: self.hasher.hash(change.key),
            }));
            if let [record] = records.as_slice()
                && record.change.kind == Kind::Poisoned
            {
                let reason = String::from_utf8_lossy(record.change.value);
                let _ = self.poison.set(reason.into_owned());
            }
            self.apply(&mut statistics, &mapping, &records);
            replayed.record_count += records.len() as u64;
            replayed.commit_count += 1;
        };
        let link = reader.link();
        *tail = Tail {
            offset: link.offset,
            previous: link.previous,
        };
        self.set_published_upto(link.offset);
        (replayed, end)
    }

    /// Applies a commit that has just been written.
    pub(super) fn apply_written(&self, records: &[Applied<'_>]) {
        self.apply(&mut self.statistics(), &self.mapping(), records);
    }

    fn apply(&self, statistics: &mut Statistics, mapping: &Mapping, records: &[Applied<'_>]) {
        let field_hash = |field: &[u8]| self.hasher.hash(field);
        apply_commit(&self.index, statistics, mapping, &field_hash, records);
    }

    /// Notes that the key with its place in the queue at an offset was read.
    pub(super) fn note_read(&self, offset: u64) {
        if let Some(visited) = &self.visited {
            visited.mark(offset);
        }
    }

    /// What ties a record at the tail to its place.
    pub(super) fn link(&self, tail: Tail) -> Link {
        Link {
            salt: self.header.salt,
            offset: tail.offset,
            previous: tail.previous,
        }
    }

    /// The mapping that shows all that was published.
    pub(super) fn mapping(&self) -> Arc<Mapping> {
        let mapping = self.mapping.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&mapping)
    }

    /// Makes sure that the mapping shows the file's first `file_bytes` bytes.
    pub(super) fn map_upto(&self, file_bytes: u64, path: &Path) -> Result<()> {
        let mapping = self.mapping();
        if mapping.covers(file_bytes) {
            mapping.set_readable(file_bytes);
            return Ok(());
        }
        let len = mapping_len(file_bytes, self.mapping_step_bytes);
        let larger = self.file.map(len).map_err(Error::io("map", path))?;
        larger.set_readable(file_bytes);
        *self.mapping.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(larger);
        Ok(())
    }

    pub(super) fn statistics(&self) -> MutexGuard<'_, Statistics> {
        self.statistics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn published_upto(&self) -> u64 {
        self.published_upto.load(Ordering::Acquire)
    }

    pub(super) fn set_published_upto(&self, offset: u64) {
        self.published_upto.store(offset, Ordering::Release);
    }

    pub(super) fn synced_upto(&self) -> u64 {
        self.synced_upto.load(Ordering::Acquire)
    }

    /// Notes that a sync has covered the log up to here.
    pub(super) fn note_synced(&self, offset: u64) {
        self.synced_upto.fetch_max(offset, Ordering::AcqRel);
    }

    /// The position, in the log's whole history, of an offset that is no copy's.
    pub(super) fn position(&self, offset: u64) -> u64 {
        self.header
            .base_position
            .saturating_add(offset)
            .saturating_sub(self.header.copied_upto)
    }

    pub(super) fn check_not_poisoned(&self, path: &Path) -> Result<()> {
        match self.poison.get() {
            None => Ok(()),
            Some(reason) => Err(Error::Poisoned {
                path: path.to_owned(),
                reason: reason.clone(),
            }),
        }
    }
}

/// How many addresses to map for a file: enough that it can grow for a while.
fn mapping_len(file_bytes: u64, step_bytes: u64) -> u64 {
    let step = step_bytes.max(file_bytes).max(1);
    file_bytes.saturating_add(step).min(MAX_FILE_BYTES)
}
