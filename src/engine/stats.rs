//! Sizes and counts.

use super::Engine;
use super::base::Base;
use crate::index::Visited;
use crate::limits::DATABASE_COUNT;
use crate::log::LOG_START;
use crate::sync::atomic::Ordering;
use crate::{Error, Result};

/// Sizes and counts of a file; from [`Db::stats`](crate::Db::stats).
///
/// [`Db::stats`](crate::Db::stats) has an example.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The size of the file, including its header and the space reserved behind the log.
    pub file_bytes: u64,
    /// The size of the log: all records, live and dead.
    pub log_bytes: u64,
    /// The bytes of live records, including expired fields of hashes that still exist.
    pub live_bytes: u64,
    /// The bytes of all other records: overwritten, deleted and expired ones, tombstones, and old
    /// checkpoints.
    pub dead_bytes: u64,
    /// The bytes of the newest checkpoint in the log.
    pub checkpoint_bytes: u64,
    /// The number of layers of the checkpoint by which this handle opened the file; 0 if it
    /// replayed the whole log.
    pub checkpoint_layers: u64,
    /// The number of keys in all databases, without expired ones; see [`Db::len`](crate::Db::len).
    pub key_count: u64,
    /// The number of keys in each database.
    pub keys_by_database: [u64; DATABASE_COUNT as usize],
    /// The memory of the index. If the file was opened by a checkpoint, it contains only the
    /// changes since then.
    pub index_bytes: u64,
    /// The number of keys that this handle has evicted since it was opened; see
    /// [`Options::max_bytes`](crate::Options::max_bytes).
    pub evicted_keys: u64,
    /// The live bytes of the evicted keys.
    pub evicted_bytes: u64,
    /// The offset up to which the log is known to be on the device.
    pub synced_upto: u64,
    /// The reason why the file takes no more writes until it is compacted: a sync has failed.
    /// `None` as a rule.
    pub poisoned: Option<String>,
}

impl Stats {
    /// Returns the bytes of index for each key; 0 without keys.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// assert_eq!(db.stats()?.index_bytes_per_key(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn index_bytes_per_key(&self) -> u64 {
        self.index_bytes.checked_div(self.key_count).unwrap_or(0)
    }
}

impl Engine {
    pub(crate) fn stats(&self) -> Result<Stats> {
        self.look_for_news()?;
        let generation = self.generation();
        let file_bytes = generation
            .file
            .size()
            .map_err(Error::io("read the size of", &self.path))?;
        let now_ms = self.now_ms();
        let contents = generation.contents();
        generation.note_word();
        let mut stats = Stats {
            file_bytes,
            log_bytes: generation.published_upto() - LOG_START,
            index_bytes: contents.index.memory_bytes()
                + contents.base.as_ref().map_or(0, Base::memory_bytes)
                + generation.visited.as_ref().map_or(0, Visited::memory_bytes),
            checkpoint_bytes: generation.advice().chain_bytes,
            checkpoint_layers: contents
                .base
                .as_ref()
                .map_or(0, |base| base.layers().len() as u64),
            evicted_keys: self.evicted_keys.load(Ordering::Relaxed),
            evicted_bytes: self.evicted_bytes.load(Ordering::Relaxed),
            // Nothing of the log is before its start, whether the name is known to be there or not.
            synced_upto: generation.synced_upto().max(LOG_START),
            poisoned: generation.poisoned().map(str::to_owned),
            ..Stats::default()
        };
        let mut statistics = generation.statistics();
        for (database, keys) in (0..DATABASE_COUNT).zip(&mut stats.keys_by_database) {
            let live = statistics.live(database, now_ms);
            *keys = live.keys;
            stats.key_count += live.keys;
            stats.live_bytes += live.bytes;
        }
        stats.dead_bytes = stats
            .log_bytes
            .saturating_sub(stats.live_bytes)
            .saturating_sub(stats.checkpoint_bytes);
        Ok(stats)
    }

    /// Expired keys that are still in the index.
    pub(crate) fn expired_count(&self, database: u8) -> Result<u64> {
        self.look_for_news()?;
        let generation = self.generation();
        let now_ms = self.now_ms();
        Ok(generation.statistics().expired(database, now_ms).keys)
    }

    /// Keys that have a deadline and have not expired.
    pub(crate) fn expiring_count(&self, database: u8) -> Result<u64> {
        self.look_for_news()?;
        let generation = self.generation();
        let now_ms = self.now_ms();
        Ok(generation.statistics().expiring(database, now_ms).keys)
    }

    pub(crate) fn key_count(&self, database: u8) -> Result<u64> {
        self.look_for_news()?;
        let generation = self.generation();
        let live = generation.statistics().live(database, self.now_ms());
        Ok(live.keys)
    }
}
