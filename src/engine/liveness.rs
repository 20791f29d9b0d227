//! Whether a record is needed for what the file holds now, by the index.

use super::Generation;
use super::apply::find_key;
use super::read::has_passed;
use crate::index::{KeyHash, Location, Shard};
use crate::limits::DATABASE_COUNT;
use crate::record::{Change, Kind};
use crate::storage::Mapping;

/// What is to be known of a live record beyond what stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Live {
    /// Where it is by now: databases may have been swapped since it was written.
    pub(super) database: u8,
    /// Its deadline by now, 0 for none: a later record may have changed it.
    pub(super) deadline_ms: u64,
    /// Where its key has its place in the queue of those that may be evicted: of a string the record itself, of a hash
    /// the one that it began with.
    pub(super) queued_at: u64,
}

impl Generation {
    /// Whether the record at an offset is live at `now_ms`. Only strings and fields are: whatever
    /// else a record did is in the index.
    pub(super) fn live_record(
        &self,
        mapping: &Mapping,
        offset: u64,
        change: &Change<'_>,
        now_ms: u64,
    ) -> Option<Live> {
        if !matches!(change.kind, Kind::Set | Kind::HashSet) {
            return None;
        }
        self.find_in_databases(change, |shard, hash| {
            let mut queued_at = offset;
            let deadline_ms = if change.kind == Kind::Set {
                let here = |location| location == Location::Record(offset);
                shard.keys.find(hash.in_shard(), here)?;
                shard.deadline_ms(offset, change.deadline_ms)
            } else {
                let slot = find_key(shard, mapping, hash, change.key)?;
                let Location::Hash(number) = shard.keys.location(slot) else {
                    return None;
                };
                let object = shard.hash(number)?;
                if has_passed(object.deadline_ms, now_ms) {
                    return None;
                }
                queued_at = object.key_offset;
                let here = |location| location == Location::Record(offset);
                let field = self.hasher.hash(change.field);
                object.fields.find(field.in_hash(), here)?;
                shard.deadline_ms(offset, change.deadline_ms)
            };
            (!has_passed(deadline_ms, now_ms)).then_some((deadline_ms, queued_at))
        })
        .map(|(database, (deadline_ms, queued_at))| Live {
            database,
            deadline_ms,
            queued_at,
        })
    }

    /// The database whose key has its place in the queue at this record, see [`Live::queued_at`]. `None`
    /// where the key is gone, or its time is up.
    pub(super) fn queued_key(
        &self,
        mapping: &Mapping,
        offset: u64,
        change: &Change<'_>,
        now_ms: u64,
    ) -> Option<u8> {
        if change.kind == Kind::Set {
            let live = self.live_record(mapping, offset, change, now_ms)?;
            return Some(live.database);
        }
        if change.kind != Kind::HashSet {
            return None;
        }
        let found = self.find_in_databases(change, |shard, hash| {
            let slot = find_key(shard, mapping, hash, change.key)?;
            let Location::Hash(number) = shard.keys.location(slot) else {
                return None;
            };
            let object = shard.hash(number)?;
            let is_first = object.key_offset == offset && !has_passed(object.deadline_ms, now_ms);
            is_first.then_some(())
        });
        found.map(|(database, ())| database)
    }

    /// The deadline of the hash at a key, 0 where there is none.
    pub(super) fn hash_deadline_ms(&self, mapping: &Mapping, database: u8, key: &[u8]) -> u64 {
        let hash = self.hasher.hash(key);
        self.index
            .read(database, hash.shard())
            .and_then(|shard| {
                let slot = find_key(&shard, mapping, hash, key)?;
                match shard.keys.location(slot) {
                    Location::Hash(number) => shard.hash(number).map(|hash| hash.deadline_ms),
                    Location::Record(_) => None,
                }
            })
            .unwrap_or(0)
    }

    /// Looks for a record's key in the database that it was written to, then in the others that hold anything.
    fn find_in_databases<R>(
        &self,
        change: &Change<'_>,
        look: impl Fn(&Shard, KeyHash) -> Option<R>,
    ) -> Option<(u8, R)> {
        let hash = self.hasher.hash(change.key);
        let others = (0..DATABASE_COUNT).filter(|other| *other != change.database);
        std::iter::once(change.database)
            .chain(others)
            .find_map(|database| {
                let shard = self.index.read(database, hash.shard())?;
                Some((database, look(&shard, hash)?))
            })
    }
}
