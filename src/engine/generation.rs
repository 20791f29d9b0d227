//! One inode of the file, from its creation to the compaction that replaces it: the file, what
//! its log says, and how far that is known.
//!
//! It must not know how it is written to, synced or replaced: that is the [`Engine`](super::Engine)'s,
//! which holds the locks for it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use super::Settings;
use super::apply::{Applied, apply_commit};
use super::rewrite::write_error;
use crate::index::{Index, KeyHasher, Statistics, Visited};
use crate::limits::MAX_FILE_BYTES;
use crate::log::{
    Append, Damage, END_WORD, FileHeader, JUDGED_OFFSET, LOG_START, Pwrite, Reader, Tail,
};
use crate::record::{HEADER_BYTES, Kind, Link};
use crate::storage::{FileId, Mapping, StorageFile};
use crate::{Error, Result};

/// See the module.
pub(super) struct Generation {
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) id: FileId,
    pub(super) append: Box<dyn Append>,
    pub(super) header: FileHeader,
    pub(super) hasher: KeyHasher,
    pub(super) index: Index,
    statistics: Mutex<Statistics>,
    mapping: RwLock<Arc<Mapping>>,
    mapping_step_bytes: u64,
    /// Where the log ends that was applied. Who holds it applies what comes next.
    tail: Mutex<Tail>,
    /// The same, for who looks without waiting.
    published_upto: AtomicU64,
    /// The first word of something behind the tail that is no commit: it is looked at again only when it has changed.
    passed_over: PassedOver,
    /// Whether the log's last record says that the path may name another file by now.
    may_have_moved: AtomicBool,
    /// Where the last commit of this handle ends.
    own_upto: AtomicU64,
    /// Everything before this is on the device, as far as this handle knows.
    synced_upto: AtomicU64,
    /// Why nothing may be written any more.
    pub(super) poison: OnceLock<String>,
    /// What was read, where there is a budget.
    pub(super) visited: Option<Visited>,
}

/// Something at the tail that is no commit. Its word alone would not tell it: the next commit may begin with the same one.
#[derive(Debug, Default)]
struct PassedOver {
    offset: AtomicU64,
    word: AtomicU64,
}

impl PassedOver {
    fn set(&self, offset: u64, word: u64) {
        self.word.store(word, Ordering::Relaxed);
        self.offset.store(offset, Ordering::Release);
    }

    fn is(&self, offset: u64, word: u64) -> bool {
        self.offset.load(Ordering::Acquire) == offset && self.word.load(Ordering::Relaxed) == word
    }
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
        let id = file.id().map_err(io_error("identify"))?;
        let mapping = file
            .map(mapping_len(file_bytes, settings.mapping_step_bytes))
            .map_err(io_error("map"))?;
        Ok(Generation {
            id,
            append: Box::new(Pwrite(Arc::clone(&file))),
            file,
            hasher: KeyHasher::new(&header.hash_key),
            header,
            index: Index::default(),
            statistics: Mutex::default(),
            mapping: RwLock::new(Arc::new(mapping)),
            mapping_step_bytes: settings.mapping_step_bytes,
            tail: Mutex::new(Tail::first(header.salt)),
            published_upto: AtomicU64::new(LOG_START),
            passed_over: PassedOver::default(),
            may_have_moved: AtomicBool::new(false),
            own_upto: AtomicU64::new(LOG_START),
            synced_upto: AtomicU64::new(LOG_START),
            poison: OnceLock::new(),
            // Twice the budget and what grows while a compaction runs; what lies behind is seldom there.
            visited: settings
                .budget
                .map(|budget| Visited::new(budget.max_bytes.saturating_mul(4).min(MAX_FILE_BYTES))),
        })
    }

    /// Where the log ends that was applied. Who holds this may apply what comes next, and append.
    pub(super) fn lock_tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies every whole commit from the tail on, and moves it behind them. The inner error says what the log ends at, if
    /// that is damage; what stands before it was applied.
    pub(super) fn catch_up(
        &self,
        tail: &mut Tail,
        path: &Path,
    ) -> Result<(Replayed, std::result::Result<(), Damage>)> {
        let mut replayed = Replayed::default();
        loop {
            // Nothing counts behind a record that says that a sync has failed, whatever stands there.
            if self.poison.get().is_some() {
                return Ok((replayed, Ok(())));
            }
            let end = self.apply_readable(tail, &mut replayed);
            let word = self.mapping().word(tail.offset);
            if word == Some(END_WORD) {
                return Ok((replayed, end));
            }
            // The file may have grown beyond what is known of it.
            let file_bytes = self.file.size().map_err(Error::io("look at", path))?;
            if file_bytes > self.mapping().readable_bytes() {
                self.map_upto(file_bytes, path)?;
                continue;
            }
            match (end, word) {
                // A commit was published just now.
                (Ok(()), Some(_)) => {}
                // The file ends here, without the word that should end it.
                (Ok(()), None) => return Ok((replayed, end)),
                (Err(_), word) => {
                    let word = word.map_or(0, u64::from_le_bytes);
                    self.passed_over.set(tail.offset, word);
                    return Ok((replayed, end));
                }
            }
        }
    }

    /// Applies the commits that the mapping shows.
    fn apply_readable(
        &self,
        tail: &mut Tail,
        replayed: &mut Replayed,
    ) -> std::result::Result<(), Damage> {
        let mapping = self.mapping();
        let mut statistics = self.statistics();
        let mut reader = Reader::from_link(&*mapping, self.link(*tail));
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
            self.note_control(&records);
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
        end
    }

    /// Leaves the log unread up to here: for a handle that is being closed.
    pub(super) fn skip_to(&self, tail: Tail) {
        *self.lock_tail() = tail;
        self.set_published_upto(tail.offset);
    }

    /// Takes notice of what a commit says of the log itself.
    fn note_control(&self, records: &[Applied<'_>]) {
        let kind = match records {
            [record] => record.change.kind,
            // A commit of several is of data.
            _ => Kind::Set,
        };
        if let ([record], Kind::Poisoned) = (records, kind) {
            let reason = String::from_utf8_lossy(record.change.value);
            let _ = self.poison.set(reason.into_owned());
        }
        self.note_control_kind(kind);
    }

    /// Takes notice of what kind of record the log ends with.
    pub(super) fn note_control_kind(&self, kind: Kind) {
        let may_have_moved = matches!(kind, Kind::Moved | Kind::Poisoned);
        if may_have_moved || self.may_have_moved.load(Ordering::Relaxed) {
            self.may_have_moved.store(may_have_moved, Ordering::Release);
        }
    }

    /// Whether there may be something behind the tail that was not applied: a commit of somebody else. No system call,
    /// as long as the file is as long as it should be.
    pub(super) fn has_news(&self) -> bool {
        let tail = self.published_upto();
        let mapping = self.mapping.read().unwrap_or_else(PoisonError::into_inner);
        match mapping.word(tail) {
            _ if self.poison.get().is_some() => false,
            Some(END_WORD) => false,
            Some(word) => !self.passed_over.is(tail, u64::from_le_bytes(word)),
            None => true,
        }
    }

    /// Whether the path may name another file by now: the log's last record says so.
    pub(super) fn may_have_moved(&self) -> bool {
        self.may_have_moved.load(Ordering::Acquire)
    }

    /// Whether something stands at the tail that is no part of the log: a commit that was never published, but written in part.
    pub(super) fn has_leftovers(&self, tail: &Tail) -> bool {
        let mapping = self.mapping();
        let offsets = (0..HEADER_BYTES as u64).step_by(END_WORD.len());
        offsets
            .map(|offset| mapping.word(tail.offset + offset))
            .any(|word| word.is_some_and(|word| word != END_WORD))
    }

    /// Notes that this handle has written a commit that ends here.
    pub(super) fn note_own(&self, end: u64) {
        self.own_upto.store(end, Ordering::Release);
    }

    /// Whether this handle has written something that is not known to be on the device.
    pub(super) fn is_behind(&self) -> bool {
        self.own_upto.load(Ordering::Acquire) > self.synced_upto()
    }

    /// Applies a commit that has just been written.
    pub(super) fn apply_written(&self, records: &[Applied<'_>]) {
        self.note_control_kind(Kind::Set);
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

    /// The latest time by which a compaction of this file has judged what has expired; 0 for none. What was left out then must not be
    /// taken for alive by a writer whose clock was set back: what he did to it would be lost.
    pub(super) fn judged_ms(&self) -> u64 {
        let mapping = self.mapping.read().unwrap_or_else(PoisonError::into_inner);
        let word = |offset| mapping.word(offset).map_or(0, u64::from_le_bytes);
        let (now_ms, complement) = (word(JUDGED_OFFSET), word(JUDGED_OFFSET + 8));
        // No checksum covers it: a flipped bit must not make everything expire.
        if complement == !now_ms { now_ms } else { 0 }
    }

    /// Says by which time a compaction judges, before it does; 0 where nothing of it will be used.
    pub(super) fn set_judged_ms(&self, now_ms: u64, path: &Path) -> Result<()> {
        if self.judged_ms() == now_ms {
            return Ok(());
        }
        let mut words = [0; 16];
        words[..8].copy_from_slice(&now_ms.to_le_bytes());
        words[8..].copy_from_slice(&(!now_ms).to_le_bytes());
        self.file
            .write_at(&words, JUDGED_OFFSET)
            .map_err(write_error("compact", path, words.len() as u64))
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
