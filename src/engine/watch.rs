//! Reading the log as it grows: what anybody has changed, in order, across compactions.
//!
//! A place in the log has a *position* that a compaction does not change (see [`crate::docs::format`]). Whoever has read
//! the old file to its end goes on at the new one's first record that is no copy. Whoever comes later than that has
//! missed something: a gap.

use std::sync::Arc;

use super::{Engine, Generation};
use crate::Result;
use crate::log::{Source, stored_change};
use crate::record::{self, HEADER_BYTES, Kind};

/// Length of a record of the kind *moved*, whose value is the number of the new generation.
const MOVED_BYTES: u64 = HEADER_BYTES as u64 + 8;

/// Where a reader of changes stands.
pub(crate) struct Place {
    generation: Arc<Generation>,
    offset: u64,
    /// Something was missed, and the reader does not know yet.
    has_gap: bool,
}

/// What has happened to a key; from [`Watch`](crate::Watch).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeKind {
    /// A string was set.
    Set,
    /// A key was removed.
    Delete,
    /// A key's deadline was set, or taken away.
    Expire,
    /// A field was set.
    HashSet,
    /// A field was removed.
    HashDelete,
    /// A field's deadline was set, or taken away.
    FieldExpire,
    /// A database was emptied.
    Clear,
    /// Two databases have changed places.
    SwapDatabases,
    /// Changes were missed: they were made before the file was compacted, and had not been read by then. Whoever keeps a copy
    /// of what the file holds reads it anew.
    Gap,
}

/// One change; from [`Watch`](crate::Watch).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// What has happened.
    pub kind: ChangeKind,
    /// In which database.
    pub database: u8,
    /// To which key; empty where it is about a whole database.
    pub key: Vec<u8>,
    /// To which field; `None` where it is about the whole key.
    pub field: Option<Vec<u8>>,
    /// The position behind it: where to go on with [`Db::watch_from`](crate::Db::watch_from).
    pub position: u64,
}

/// What a reader of changes comes to.
pub(crate) enum Seen {
    /// A change, of which the position is not filled in yet.
    Change(Change),
    /// Nothing has happened since.
    Nothing,
}

impl Engine {
    /// The place behind all that has happened so far.
    pub(crate) fn place_now(&self) -> Result<Place> {
        self.look_for_news()?;
        let generation = self.generation();
        Ok(Place {
            offset: generation.published_upto(),
            generation,
            has_gap: false,
        })
    }

    /// The place of a position; where it is none of this file's any more, the first that is, with a gap.
    pub(crate) fn place_of(&self, position: u64) -> Result<Place> {
        self.look_for_news()?;
        let generation = self.generation();
        let found = generation.offset_of(position);
        Ok(Place {
            offset: found.unwrap_or(generation.header.copied_upto),
            has_gap: found.is_none(),
            generation,
        })
    }

    /// The next change of data.
    pub(crate) fn next_change(&self, place: &mut Place) -> Result<Seen> {
        self.look_for_news()?;
        loop {
            if std::mem::take(&mut place.has_gap) {
                return Ok(Seen::Change(Change::of_nothing(ChangeKind::Gap)));
            }
            while place.offset < place.generation.published_upto() {
                // Not before: it shows all that was published when it is taken.
                let mapping = place.generation.mapping();
                let Some(change) = stored_change(&**mapping, place.offset) else {
                    let reason = "there is no valid record any more";
                    return Err(crate::Error::corrupt(&self.path, place.offset, reason));
                };
                place.offset += change.size_bytes();
                if change.kind.is_data() {
                    return Ok(Seen::Change(of_record(&change)));
                }
            }
            let current = self.generation();
            if Arc::ptr_eq(&current, &place.generation) {
                return Ok(Seen::Nothing);
            }
            // Whoever followed in between may have left the end of the old file unread.
            let old = Arc::clone(&place.generation);
            let _ = old.catch_up(&mut old.lock_tail())?;
            if place.offset < old.published_upto() {
                continue;
            }
            let is_next = current.header.hash_key == old.header.hash_key
                && current.header.generation == old.header.generation.saturating_add(1);
            place.has_gap = !is_next;
            place.offset = current.header.copied_upto;
            place.generation = current;
        }
    }
}

impl Place {
    /// The position of what comes next. Behind *moved*, with which an old file ends, it is the one before: what the new file goes on with has
    /// that.
    pub(crate) fn position(&self) -> u64 {
        let before = self.offset.saturating_sub(MOVED_BYTES);
        let is_behind_moved = self.generation.may_have_moved()
            && self
                .generation
                .record_at(before)
                .is_some_and(|record| record.kind == Kind::Moved);
        self.generation.position(match is_behind_moved {
            true => before,
            false => self.offset,
        })
    }
}

impl Generation {
    /// The offset of a position, if a record begins there, or the log ends there.
    fn offset_of(&self, position: u64) -> Option<u64> {
        let into = position.checked_sub(self.header.base_position)?;
        let offset = self.header.copied_upto.checked_add(into)?;
        if offset == self.published_upto() {
            return Some(offset);
        }
        if offset > self.published_upto() || !offset.is_multiple_of(8) {
            return None;
        }
        self.record_at(offset).map(|_| offset)
    }

    /// The record at an offset that may lie anywhere, even in the middle of a value: the checksum holds for one offset only.
    fn record_at(&self, offset: u64) -> Option<record::Change<'_>> {
        let mapping = self.mapping();
        let size = record::size_of_record(Source::word(&**mapping, offset)?).ok()?;
        let bytes = Source::bytes(&**mapping, offset, size)?;
        record::verify(bytes, self.header.salt, offset).ok()?;
        record::reparse(bytes)
    }
}

impl Change {
    fn of_nothing(kind: ChangeKind) -> Change {
        Change {
            kind,
            database: 0,
            key: Vec::new(),
            field: None,
            position: 0,
        }
    }
}

fn of_record(record: &record::Change<'_>) -> Change {
    let kind = match record.kind {
        Kind::Set => ChangeKind::Set,
        Kind::Delete => ChangeKind::Delete,
        Kind::Expire => ChangeKind::Expire,
        Kind::HashSet => ChangeKind::HashSet,
        Kind::HashDelete => ChangeKind::HashDelete,
        Kind::FieldExpire => ChangeKind::FieldExpire,
        Kind::SwapDatabases => ChangeKind::SwapDatabases,
        // The others are no data, and not shown.
        _ => ChangeKind::Clear,
    };
    let has_field = matches!(
        record.kind,
        Kind::HashSet | Kind::HashDelete | Kind::FieldExpire
    );
    Change {
        database: record.database,
        key: record.key.to_vec(),
        field: has_field.then(|| record.field.to_vec()),
        ..Change::of_nothing(kind)
    }
}
