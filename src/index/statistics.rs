//! Counts that are kept as records are applied, so that nobody has to scan for them.

use super::expiry::ExpiryHistogram;
use crate::limits::DATABASE_COUNT;

/// A number of keys, and the bytes that their records take in the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
}

impl Size {
    pub(crate) fn add(&mut self, other: Size) {
        self.keys += other.keys;
        self.bytes += other.bytes;
    }

    pub(crate) fn remove(&mut self, other: Size) {
        debug_assert!(self.keys >= other.keys && self.bytes >= other.bytes);
        self.keys = self.keys.saturating_sub(other.keys);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// Sizes of all databases.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    databases: [DatabaseStatistics; DATABASE_COUNT as usize],
}

#[derive(Debug, Default)]
struct DatabaseStatistics {
    live: Size,
    expiry: ExpiryHistogram,
}

impl Statistics {
    /// Counts what a key takes; a deadline of 0 is none.
    pub(crate) fn add(&mut self, database: u8, deadline_ms: u64, size: Size) {
        let database = &mut self.databases[usize::from(database)];
        database.live.add(size);
        if deadline_ms != 0 {
            database.expiry.add(deadline_ms, size);
        }
    }

    /// Counts no longer what [`Statistics::add`] counted.
    pub(crate) fn remove(&mut self, database: u8, deadline_ms: u64, size: Size) {
        let database = &mut self.databases[usize::from(database)];
        database.live.remove(size);
        if deadline_ms != 0 {
            database.expiry.remove(deadline_ms, size);
        }
    }

    pub(crate) fn clear(&mut self, database: u8) {
        self.databases[usize::from(database)] = DatabaseStatistics::default();
    }

    pub(crate) fn swap(&mut self, one: u8, other: u8) {
        self.databases.swap(usize::from(one), usize::from(other));
    }

    /// Bytes that all databases hold at `now_ms`, without what has expired.
    pub(crate) fn live_bytes(&mut self, now_ms: u64) -> u64 {
        let numbers = (0..DATABASE_COUNT).map(|database| self.live(database, now_ms).bytes);
        numbers.sum()
    }

    /// What a database holds at `now_ms`, without what has expired.
    pub(crate) fn live(&mut self, database: u8, now_ms: u64) -> Size {
        let database = &mut self.databases[usize::from(database)];
        let mut live = database.live;
        live.remove(database.expiry.expired(now_ms));
        live
    }
}
