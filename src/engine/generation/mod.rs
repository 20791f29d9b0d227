//! One inode of the file, from its creation to the compaction that replaces it: the file, what
//! its log says, and how far that is known.
//!
//! It must not know how it is written to, synced or replaced: that is the [`Engine`](super::Engine)'s,
//! which holds the locks for it.

mod layers;
mod mappings;
mod notes;
mod overwritten;
mod replay;

use std::path::{Path, PathBuf};

use super::Settings;
use super::apply::{Applied, apply_commit};
use super::base::Base;
use super::lookup::{Held, Lookup};
use crate::index::{Index, KeyHash, KeyHasher, Statistics, Visited};
use crate::limits::MAX_FILE_BYTES;
use crate::log::{END_WORD, FileHeader, LOG_START, Tail};
use crate::mutation::{self, Mutation};
use crate::record::{Change, HEADER_BYTES, Kind, Link};
use crate::storage::{FileId, Mapping, StorageFile};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use crate::{Error, Result};

use layers::{Layers, Suspicion};
use mappings::Mappings;
pub(super) use notes::POISON_REASON;
use overwritten::Marks;
pub(super) use replay::ask_ahead;
use replay::{Skip, skips};

/// See the module.
pub(super) struct Generation {
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) id: FileId,
    pub(super) header: FileHeader,
    pub(super) path: PathBuf,
    pub(super) hasher: KeyHasher,
    contents: Contents,
    /// What takes the place of `contents` where their checkpoint does not hold.
    rebuilt: OnceLock<Contents>,
    /// Parts of the log that need not be read: pages of the checkpoint.
    skips: Vec<Skip>,
    statistics: Mutex<Statistics>,
    mappings: Mappings,
    mapping_step_bytes: u64,
    /// The end of the applied log. Its holder applies the next commits.
    tail: Mutex<Tail>,
    /// The same, for a check that does not wait.
    published_upto: AtomicU64,
    /// Leftovers at the tail that are no commit. They are judged again only when they have changed.
    passed_over: PassedOver,
    /// Why the path may name another file by now.
    suspicion: Suspicion,
    /// For a handle that only reads on overlayfs.
    layers: Option<Layers>,
    /// Where the last commit of this handle ends.
    own_upto: AtomicU64,
    /// Everything before this is on the device, under the file's name, as far as this handle knows; 0 as long as it does not know that
    /// the name is there.
    synced_upto: AtomicU64,
    /// What is known of checkpoints in the log so far.
    advice: Mutex<Advice>,
    /// Why nothing may be acknowledged: a sync of this handle has failed, or one of another handle
    /// that has left word in the file. The log is followed all the same.
    pub(super) failed_sync: OnceLock<String>,
    /// What the log's last record says of a failed sync. Nothing is read behind it.
    pub(super) poison: OnceLock<String>,
    /// A sync of this handle has failed, and the file does not say so: the word could not be written.
    owes_word: AtomicBool,
    /// What tells that the file was overwritten in place.
    marks: Marks,
    /// What was read, where there is a budget.
    pub(super) visited: Option<Visited>,
}

/// The index in memory, and the checkpoint under it.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) index: Index,
    pub(super) base: Option<Base>,
}

/// What a generation knows of the checkpoints in its log.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Advice {
    /// Where the newest closing record ends, or the log begins.
    pub(super) closed_upto: u64,
    /// Bytes among the newest checkpoint's pages that it says nothing of.
    pub(super) gap_bytes: u64,
    /// Bytes of all pages and closing records.
    pub(super) all_bytes: u64,
    /// Bytes of those that the newest checkpoint consists of.
    pub(super) chain_bytes: u64,
}

/// Bytes at the tail that are no commit: the header of a record that a crash cut short, or other leftovers.
///
/// All of the header is compared, because its checksum and its writer make it unique. The first word
/// alone is not: that of a padding record is always the same.
#[derive(Debug, Default)]
struct PassedOver {
    offset: AtomicU64,
    header: [AtomicU64; HEADER_WORDS],
}

/// Words of a record's header.
const HEADER_WORDS: usize = HEADER_BYTES / END_WORD.len();

impl PassedOver {
    /// Remembers these leftovers. The caller holds the tail.
    fn set(&self, offset: u64, header: [u64; HEADER_WORDS]) {
        for (word, new) in self.header.iter().zip(header) {
            word.store(new, Ordering::Relaxed);
        }
        self.offset.store(offset, Ordering::Release);
    }

    fn is(&self, offset: u64, header: [u64; HEADER_WORDS]) -> bool {
        let compared = match mutation::is_on(Mutation::KnowLeftoversByOneWord) {
            true => 1,
            false => HEADER_WORDS,
        };
        self.offset.load(Ordering::Acquire) == offset
            && self
                .header
                .iter()
                .zip(header)
                .take(compared)
                .all(|(word, found)| word.load(Ordering::Relaxed) == found)
    }
}

impl Generation {
    /// The generation of a file to which only the checkpoint with a closing record at an offset is
    /// applied; offset 0 for none.
    ///
    /// Also returns the reason if the checkpoint is not used.
    pub(super) fn open(
        file: Arc<dyn StorageFile>,
        header: FileHeader,
        path: &Path,
        settings: &Settings,
        checkpoint: u64,
    ) -> Result<(Generation, Option<String>)> {
        let mut generation = Generation::new(file, header, path, settings)?;
        if checkpoint == 0 {
            return Ok((generation, None));
        }
        let mapping = generation.mapping();
        mapping.expect_jumps();
        match Base::open(mapping, header.salt, path, checkpoint) {
            Err(reason) => Ok((generation, Some(reason))),
            Ok((base, statistics)) => {
                generation.begin_at(base, statistics);
                Ok((generation, None))
            }
        }
    }

    /// The generation of a file before any of its log is applied.
    pub(super) fn new(
        file: Arc<dyn StorageFile>,
        header: FileHeader,
        path: &Path,
        settings: &Settings,
    ) -> Result<Generation> {
        let io_error = |operation| Error::io(operation, path);
        let file_bytes = file.size().map_err(io_error("read the size of"))?;
        refuse_too_large(file_bytes)?;
        let id = file.id().map_err(io_error("identify"))?;
        let mapping = file
            .map(mapping_len(file_bytes, settings.mapping_step_bytes))
            .map_err(io_error("map"))?;
        let layers = (settings.read_only && file.may_be_copied_up()).then(Layers::new);
        Ok(Generation {
            id,
            file,
            path: path.to_owned(),
            hasher: KeyHasher::new(&header.hash_key),
            header,
            contents: Contents::default(),
            rebuilt: OnceLock::new(),
            skips: Vec::new(),
            statistics: Mutex::default(),
            mappings: Mappings::new(mapping),
            mapping_step_bytes: settings.mapping_step_bytes,
            tail: Mutex::new(Tail::first(header.salt)),
            published_upto: AtomicU64::new(LOG_START),
            passed_over: PassedOver::default(),
            suspicion: Suspicion::new(layers.is_some()),
            layers,
            own_upto: AtomicU64::new(0),
            synced_upto: AtomicU64::new(0),
            advice: Mutex::new(Advice {
                closed_upto: LOG_START,
                ..Advice::default()
            }),
            failed_sync: OnceLock::new(),
            poison: OnceLock::new(),
            owes_word: AtomicBool::new(false),
            marks: Marks::default(),
            // Twice the budget and what grows while a compaction runs; what lies behind is seldom there.
            visited: settings
                .budget
                .map(|budget| Visited::new(budget.max_bytes.saturating_mul(4).min(MAX_FILE_BYTES))),
        })
    }

    /// The same file with its index as of one moment, for a thread that writes a layer while this
    /// generation changes.
    pub(super) fn frozen(
        &self,
        settings: &Settings,
        base: Option<&Base>,
        index: Index,
        statistics: Statistics,
    ) -> Result<Generation> {
        let file = Arc::clone(&self.file);
        let mut frozen = Generation::new(file, self.header, &self.path, settings)?;
        if let Some(base) = base {
            let closing = base.newest().closing.offset;
            let opened = Base::open(frozen.mapping(), self.header.salt, &self.path, closing);
            let (base, _) = opened.map_err(|reason| Error::corrupt(&self.path, closing, reason))?;
            frozen.mapping().expect_jumps();
            frozen.contents.base = Some(base);
        }
        frozen.contents.index = index;
        frozen.statistics = Mutex::new(statistics);
        Ok(frozen)
    }

    /// Begins with what a checkpoint says: what it is exact for counts as applied.
    fn begin_at(&mut self, base: Base, statistics: Statistics) {
        for database in base.databases() {
            self.contents.index.continue_database(database, database);
        }
        let newest = base.newest();
        *self
            .advice
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner) = Advice {
            closed_upto: newest.end.offset,
            gap_bytes: newest.closing.gap_bytes(),
            all_bytes: newest.closing.all_bytes,
            chain_bytes: newest.closing.chain_bytes,
        };
        self.skips = skips(base.layers());
        *self.tail.get_mut().unwrap_or_else(PoisonError::into_inner) = Tail {
            offset: newest.closing.exact_upto.offset,
            previous: newest.closing.exact_upto.previous,
        };
        *self.published_upto.get_mut() = newest.closing.exact_upto.offset;
        *self
            .statistics
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner) = statistics;
        self.contents.base = Some(base);
    }

    /// The current index, and the checkpoint under it.
    pub(super) fn contents(&self) -> &Contents {
        self.rebuilt.get().unwrap_or(&self.contents)
    }

    /// Where the checkpoint says that the next key to evict is looked for.
    pub(super) fn stored_hand(&self) -> u64 {
        let base = self.contents().base.as_ref();
        let hand = base.map_or(0, |base| base.newest().closing.hand);
        // Whatever stands in the file: a record begins there, or the walk begins anew.
        let mapping = self.mapping();
        let is_record = hand < self.published_upto()
            && hand.is_multiple_of(8)
            && base.is_some_and(|base| base.record(mapping, hand).is_ok());
        if is_record { hand } else { LOG_START }
    }

    /// Whether the log was replayed in place of a checkpoint.
    pub(super) fn is_rebuilt(&self) -> bool {
        self.rebuilt.get().is_some()
    }

    /// Whether the checkpoint that counts has turned out not to hold.
    pub(super) fn is_given_up(&self) -> bool {
        let base = self.contents().base.as_ref();
        base.is_some_and(Base::is_given_up)
    }

    /// What looking something up needs, beside the shard that it is in.
    pub(super) fn lookup<'a>(&'a self, contents: &'a Contents, mapping: &'a Mapping) -> Lookup<'a> {
        Lookup {
            path: &self.path,
            mapping,
            hasher: &self.hasher,
            base: contents.base.as_ref(),
        }
    }

    /// Does something again where the checkpoint turned out not to hold on the way. The caller holds no lock of the index, and not the
    /// tail.
    pub(super) fn with_sound_checkpoint<R>(&self, mut act: impl FnMut() -> Result<R>) -> Result<R> {
        match act() {
            Err(_) if self.is_given_up() => {
                self.rebuild()?;
                act()
            }
            done => done,
        }
    }

    /// The end of the applied log. Its holder may apply the next commits, and append.
    pub(super) fn lock_tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there may be a commit of another handle after the tail that is not applied yet.
    /// Makes no system call while the file has its expected length.
    pub(super) fn has_news(&self) -> bool {
        let tail = self.published_upto();
        match self.mapping().word(tail) {
            Some(END_WORD) => false,
            _ if self.poison.get().is_some() => false,
            Some(_) => !self.passed_over.is(tail, self.header_at(tail)),
            None => true,
        }
    }

    /// The words of a record's header at an offset; zeros for those that cannot be read.
    fn header_at(&self, offset: u64) -> [u64; HEADER_WORDS] {
        let mapping = self.mapping();
        std::array::from_fn(|index| {
            let word = mapping.word(offset + (index * END_WORD.len()) as u64);
            word.map_or(0, u64::from_le_bytes)
        })
    }

    /// Whether something stands at the tail that is no part of the log: a commit that was never published, but written in part.
    pub(super) fn has_leftovers(&self, tail: &Tail) -> bool {
        let mapping = self.mapping();
        let offsets = (0..HEADER_BYTES as u64).step_by(END_WORD.len());
        offsets
            .map(|offset| mapping.word(tail.offset + offset))
            .any(|word| word.is_some_and(|word| word != END_WORD))
    }

    /// Applies a commit that has just been written, up to this tail.
    pub(super) fn apply_written(&self, records: &[Applied<'_>], tail: &Tail) -> Result<u64> {
        self.note_control_kind(Kind::Set);
        let contents = self.contents();
        let mapping = self.mapping();
        let lookup = self.lookup(contents, mapping);
        let mut statistics = self.statistics();
        let applied = apply_commit(&contents.index, &mut statistics, lookup, records);
        let live_bytes = statistics.total_bytes();
        drop(statistics);
        match applied {
            // It was touched before, and holds no longer.
            Err(_) if self.is_given_up() => self.rebuild_upto(tail)?,
            applied => applied?,
        }
        Ok(live_bytes)
    }

    /// Verifies all that applying these records will need of the checkpoint: damage must be found
    /// before they are written.
    pub(super) fn touch(&self, database: u8, hash: KeyHash, change: &Change<'_>) -> Result<()> {
        if self.contents().base.is_none() || !change.kind.is_key() {
            return Ok(());
        }
        self.with_sound_checkpoint(|| self.touch_in(self.contents(), database, hash, change))
    }

    fn touch_in(
        &self,
        contents: &Contents,
        database: u8,
        hash: KeyHash,
        change: &Change<'_>,
    ) -> Result<()> {
        let Some(shard) = contents.index.read(database, hash.shard()) else {
            return Ok(());
        };
        let mapping = self.mapping();
        let lookup = self.lookup(contents, mapping);
        let found = lookup.key(&shard, hash, change.key)?;
        lookup.is_beneath(&shard, hash, change.key)?;
        if let Held::Hash(hash) = &found.held {
            let found = lookup.field(&shard, hash, change.field)?;
            lookup.field_beneath(hash, found.hash, change.field)?;
        }
        Ok(())
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
    pub(super) fn mapping(&self) -> &Arc<Mapping> {
        self.mappings.newest()
    }

    /// Makes sure that the mapping shows the file's first `file_bytes` bytes.
    pub(super) fn map_upto(&self, file_bytes: u64) -> Result<()> {
        refuse_too_large(file_bytes)?;
        let mapping = self.mapping();
        if mapping.covers(file_bytes) {
            mapping.set_readable(file_bytes);
            return Ok(());
        }
        let len = mapping_len(file_bytes, self.mapping_step_bytes);
        let larger = || {
            let larger = self.file.map(len)?;
            larger.set_readable(file_bytes);
            if self.contents.base.is_some() {
                larger.expect_jumps();
            }
            Ok(larger)
        };
        let covered = self.mappings.cover(file_bytes, larger);
        covered.map_err(Error::io("map", &self.path))?;
        self.mapping().set_readable(file_bytes);
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

    /// The position, in the log's whole history, of an offset that is no copy's.
    pub(super) fn position(&self, offset: u64) -> u64 {
        self.header
            .base_position
            .saturating_add(offset)
            .saturating_sub(self.header.copied_upto)
    }
}

/// The index cannot hold offsets beyond the limit; only another program can have made the file so
/// long.
fn refuse_too_large(file_bytes: u64) -> Result<()> {
    match file_bytes > MAX_FILE_BYTES {
        true => Err(Error::TooLarge {
            what: "the file",
            length: file_bytes,
            limit: MAX_FILE_BYTES,
        }),
        false => Ok(()),
    }
}

/// How many addresses to map for a file: enough that it can grow for a while.
fn mapping_len(file_bytes: u64, step_bytes: u64) -> u64 {
    let step = step_bytes.max(file_bytes).max(1);
    file_bytes.saturating_add(step).min(MAX_FILE_BYTES)
}
