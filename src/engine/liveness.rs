//! Tells live records from dead ones, by the index.

use super::Generation;
use super::lookup::{Held, Lookup};
use super::read::has_passed;
use crate::Result;
use crate::index::{KeyHash, Location, Shard};
use crate::limits::DATABASE_COUNT;
use crate::record::{Change, Kind};

/// The properties of a live record that the record itself does not contain.
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

/// What has become of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Liveness {
    Dead,
    /// The index has it, and its deadline has passed, or that of its hash.
    Expired {
        /// The record that the hash began with, where it is the deadline of the hash.
        hash: Option<u64>,
    },
    Live(Live),
}

/// A record that the index has.
struct Indexed {
    deadline_ms: u64,
    /// That of the hash that it is a field of, 0 for none.
    hash_deadline_ms: u64,
    queued_at: u64,
}

impl Generation {
    /// Whether the record at an offset is live at `now_ms`. Only strings and fields are: what another
    /// record did is in the index.
    pub(super) fn live_record(
        &self,
        offset: u64,
        change: &Change<'_>,
        now_ms: u64,
    ) -> Result<Liveness> {
        if !matches!(change.kind, Kind::Set | Kind::HashSet) {
            return Ok(Liveness::Dead);
        }
        let found = self.find_in_databases(change, |lookup, shard, hash| {
            // Most records are dead or live by their place alone, and what stands at another place is not looked at.
            let here = |location| location == Location::Record(offset);
            let deadline_ms = shard.deadline_ms(offset, change.deadline_ms);
            if change.kind == Kind::Set {
                if shard.keys.find(hash.in_shard(), here).is_some() {
                    return Ok(Some(Indexed {
                        deadline_ms,
                        hash_deadline_ms: 0,
                        queued_at: offset,
                    }));
                }
                if lookup.base.is_none() {
                    return Ok(None);
                }
            }
            let (record, hash_deadline_ms, queued_at) =
                match lookup.key(shard, hash, change.key)?.held {
                    Held::String(record) => (Some(record), 0, offset),
                    Held::Hash(hash) => {
                        let hash_deadline_ms = hash.summary.deadline_ms;
                        let queued_at = hash.summary.key_offset;
                        let own = hash.own.and_then(|number| shard.hash(number));
                        if let (None, Some(own)) = (lookup.base, own) {
                            let field_hash = self.hasher.hash(change.field).in_hash();
                            let found = own.fields.find(field_hash, here);
                            return Ok(found.map(|_| Indexed {
                                deadline_ms,
                                hash_deadline_ms,
                                queued_at,
                            }));
                        }
                        let field = lookup.field(shard, &hash, change.field)?.record;
                        (field, hash_deadline_ms, queued_at)
                    }
                    Held::Nothing => (None, 0, offset),
                };
            let here = record.filter(|record| record.offset == offset);
            Ok(here.map(|record| Indexed {
                deadline_ms: record.deadline_ms,
                hash_deadline_ms,
                queued_at,
            }))
        })?;
        Ok(match found {
            None => Liveness::Dead,
            Some((_, record)) if has_passed(record.hash_deadline_ms, now_ms) => Liveness::Expired {
                hash: Some(record.queued_at),
            },
            Some((_, record)) if has_passed(record.deadline_ms, now_ms) => {
                Liveness::Expired { hash: None }
            }
            Some((database, record)) => Liveness::Live(Live {
                database,
                deadline_ms: record.deadline_ms,
                queued_at: record.queued_at,
            }),
        })
    }

    /// The database of the key that has its queue position at this record, see [`Live::queued_at`].
    /// `None` if the key is removed or expired.
    pub(super) fn queued_key(
        &self,
        offset: u64,
        change: &Change<'_>,
        now_ms: u64,
    ) -> Result<Option<u8>> {
        if change.kind == Kind::Set {
            return Ok(match self.live_record(offset, change, now_ms)? {
                Liveness::Live(live) => Some(live.database),
                _ => None,
            });
        }
        if change.kind != Kind::HashSet {
            return Ok(None);
        }
        let found = self.find_in_databases(change, |lookup, shard, hash| {
            let Held::Hash(hash) = lookup.key(shard, hash, change.key)?.held else {
                return Ok(None);
            };
            let summary = &hash.summary;
            let is_first = summary.key_offset == offset && !has_passed(summary.deadline_ms, now_ms);
            Ok(is_first.then_some(()))
        })?;
        Ok(found.map(|(database, ())| database))
    }

    /// The deadline of the hash at a key, 0 where there is none.
    pub(super) fn hash_deadline_ms(&self, database: u8, key: &[u8]) -> Result<u64> {
        let hash = self.hasher.hash(key);
        let contents = self.contents();
        let Some(shard) = contents.index.read(database, hash.shard()) else {
            return Ok(0);
        };
        // Behind the lock, as below.
        let mapping = self.mapping();
        Ok(
            match self.lookup(contents, mapping).key(&shard, hash, key)?.held {
                Held::Hash(hash) => hash.summary.deadline_ms,
                _ => 0,
            },
        )
    }

    /// Looks for a record's key in the database that it was written to, then in the others that hold anything.
    fn find_in_databases<R>(
        &self,
        change: &Change<'_>,
        look: impl Fn(Lookup<'_>, &Shard, KeyHash) -> Result<Option<R>>,
    ) -> Result<Option<(u8, R)>> {
        let hash = self.hasher.hash(change.key);
        let contents = self.contents();
        let others = (0..DATABASE_COUNT).filter(|other| *other != change.database);
        for database in std::iter::once(change.database).chain(others) {
            let Some(shard) = contents.index.read(database, hash.shard()) else {
                continue;
            };
            // Taken behind the lock on the shard: a mapping that was taken before it may not show what others have written since, and
            // the shard points at.
            let mapping = self.mapping();
            let lookup = self.lookup(contents, mapping);
            if let Some(found) = look(lookup, &shard, hash)? {
                return Ok(Some((database, found)));
            }
        }
        Ok(None)
    }
}
