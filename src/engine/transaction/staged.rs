//! Records that are encoded and wait for their place in the log.

use std::ops::Range;

use crate::index::KeyHash;
use crate::limits::{MAX_COMMIT_BYTES, is_commit_too_large};
use crate::record::{self, Change, Kind};
use crate::{Error, Result};

/// See the module.
#[derive(Debug)]
pub(in crate::engine) struct Staged {
    pub(in crate::engine) bytes: Vec<u8>,
    pub(in crate::engine) records: Vec<StagedRecord>,
    /// Whether all of it makes the file emptier, and may therefore use the last space of a full disk.
    pub(in crate::engine) frugal: bool,
}

#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct StagedRecord {
    pub(in crate::engine) start: usize,
    pub(in crate::engine) hash: KeyHash,
}

/// How much was staged at some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    bytes: usize,
    records: usize,
    frugal: bool,
}

impl Default for Staged {
    fn default() -> Self {
        Staged {
            bytes: Vec::new(),
            records: Vec::new(),
            frugal: true,
        }
    }
}

impl Staged {
    /// Nothing, in the memory that this had, unless that is more than a writer should keep.
    pub(in crate::engine) fn emptied(mut self) -> Staged {
        /// As many as there are in a commit of [`KEPT_BYTES`] of the smallest records.
        const KEPT_RECORDS: usize = KEPT_BYTES / record::HEADER_BYTES;
        const KEPT_BYTES: usize = 1 << 20;
        if self.bytes.capacity() > KEPT_BYTES || self.records.capacity() > KEPT_RECORDS {
            return Staged::default();
        }
        self.bytes.clear();
        self.records.clear();
        self.frugal = true;
        self
    }

    /// Encodes a record; gives back where its value stands.
    pub(in crate::engine) fn push(
        &mut self,
        change: &Change<'_>,
        hash: KeyHash,
    ) -> Result<Range<usize>> {
        let start = self.bytes.len();
        let length = start as u64 + change.size_bytes();
        if is_commit_too_large(length) {
            return Err(Error::TooLarge {
                what: "a commit",
                length,
                limit: MAX_COMMIT_BYTES,
            });
        }
        record::encode(change, &mut self.bytes)?;
        self.records.push(StagedRecord { start, hash });
        self.frugal &= matches!(change.kind, Kind::Delete | Kind::HashDelete | Kind::Clear);
        Ok(value_range(start, change))
    }

    /// Adds the records of `other`; returns `false`, and adds none, where a commit may not have so many bytes.
    pub(in crate::engine) fn append(&mut self, other: &Staged) -> bool {
        let start = self.bytes.len();
        if is_commit_too_large((start + other.bytes.len()) as u64) {
            return false;
        }
        self.bytes.extend_from_slice(&other.bytes);
        self.records
            .extend(other.records.iter().map(|record| StagedRecord {
                start: start + record.start,
                ..*record
            }));
        self.frugal &= other.frugal;
        true
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            bytes: self.bytes.len(),
            records: self.records.len(),
            frugal: self.frugal,
        }
    }

    /// Forgets what was staged since.
    pub(super) fn cut(&mut self, mark: Mark) {
        self.bytes.truncate(mark.bytes);
        self.records.truncate(mark.records);
        self.frugal = mark.frugal;
    }

    /// A record, and where its value stands.
    pub(super) fn change(&self, record: StagedRecord) -> Option<(Change<'_>, Range<usize>)> {
        let change = record::reparse_at(&self.bytes, record.start)?;
        let range = value_range(record.start, &change);
        Some((change, range))
    }
}

fn value_range(start: usize, change: &Change<'_>) -> Range<usize> {
    let value = start + record::HEADER_BYTES + change.key.len() + change.field.len();
    value..value + change.value.len()
}
