//! Counts that are updated as records are applied, so that no scan is needed.

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
        self.keys = self.keys.saturating_add(other.keys);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    pub(crate) fn remove(&mut self, other: Size) {
        // Counts from a checkpoint can be anything in a manipulated file.
        self.keys = self.keys.saturating_sub(other.keys);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// Sizes of all databases.
#[derive(Debug, Clone, Default)]
pub(crate) struct Statistics {
    databases: [DatabaseStatistics; DATABASE_COUNT as usize],
    /// The live bytes of all databases together, with expired entries.
    total_bytes: u64,
}

#[derive(Debug, Clone, Default)]
struct DatabaseStatistics {
    live: Size,
    expiry: ExpiryHistogram,
}

impl Statistics {
    /// Counts what a key takes; a deadline of 0 is none.
    #[inline]
    pub(crate) fn add(&mut self, database: u8, deadline_ms: u64, size: Size) {
        self.total_bytes = self.total_bytes.saturating_add(size.bytes);
        let database = &mut self.databases[usize::from(database)];
        database.live.add(size);
        if deadline_ms != 0 {
            database.expiry.add(deadline_ms, size);
        }
    }

    /// Counts no longer what [`Statistics::add`] counted.
    #[inline]
    pub(crate) fn remove(&mut self, database: u8, deadline_ms: u64, size: Size) {
        self.total_bytes = self.total_bytes.saturating_sub(size.bytes);
        let database = &mut self.databases[usize::from(database)];
        database.live.remove(size);
        if deadline_ms != 0 {
            database.expiry.remove(deadline_ms, size);
        }
    }

    /// Appends the counts as the format's page says.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for database in &self.databases {
            out.extend_from_slice(&database.live.keys.to_le_bytes());
            out.extend_from_slice(&database.live.bytes.to_le_bytes());
            database.expiry.encode(out);
        }
    }

    /// Takes what [`encode`](Self::encode) has appended off the front of `bytes`, of a log that is so long; `None` where it cannot be.
    pub(super) fn decode(bytes: &mut &[u8], log_bytes: u64) -> Option<Statistics> {
        let mut statistics = Statistics::default();
        for database in &mut statistics.databases {
            database.live = Size {
                keys: take_u64(bytes)?,
                bytes: take_u64(bytes)?,
            };
            if database.live.keys > log_bytes || database.live.bytes > log_bytes {
                return None;
            }
            database.expiry = ExpiryHistogram::decode(bytes, database.live)?;
            let total_bytes = statistics.total_bytes;
            statistics.total_bytes = total_bytes.saturating_add(database.live.bytes);
        }
        Some(statistics)
    }

    pub(crate) fn clear(&mut self, database: u8) {
        let cleared = std::mem::take(&mut self.databases[usize::from(database)]);
        self.total_bytes = self.total_bytes.saturating_sub(cleared.live.bytes);
    }

    /// Returns the live bytes of all databases, with expired entries: without a look at deadlines.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    pub(crate) fn swap(&mut self, one: u8, other: u8) {
        self.databases.swap(usize::from(one), usize::from(other));
    }

    /// Bytes that all databases hold at `now_ms`, without what has expired.
    pub(crate) fn live_bytes(&mut self, now_ms: u64) -> u64 {
        let numbers = (0..DATABASE_COUNT).map(|database| self.live(database, now_ms).bytes);
        numbers.sum()
    }

    /// What in a database has expired at `now_ms`.
    pub(crate) fn expired(&mut self, database: u8, now_ms: u64) -> Size {
        self.databases[usize::from(database)].expiry.expired(now_ms)
    }

    /// What in a database will expire after `now_ms`.
    pub(crate) fn expiring(&self, database: u8, now_ms: u64) -> Size {
        self.databases[usize::from(database)].expiry.to_come(now_ms)
    }

    /// What a database holds at `now_ms`, without what has expired.
    pub(crate) fn live(&mut self, database: u8, now_ms: u64) -> Size {
        let database = &mut self.databases[usize::from(database)];
        let mut live = database.live;
        live.remove(database.expiry.expired(now_ms));
        live
    }
}

pub(super) fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (word, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*word))
}

pub(super) fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (word, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*word))
}
