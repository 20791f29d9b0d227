//! The in-memory map from key to record, without I/O and without a clock.
//!
//! Keys stay in the log. A table entry is 8 bytes: the location of a record, and some bits of the
//! key's hash. With these bits a table can grow, and most lookups can end, without reading a key.
//! The caller compares the key itself, in a closure.
//!
//! With a checkpoint, the tables are its *overlay*: the changes since. A removed key has an entry
//! that points at the record which removed it. `closing`, `run` and `object` read the checkpoint,
//! `writer` writes it, `merge` walks over both. They handle bytes only: the caller fetches pages
//! and interprets records.
//!
//! Invariants:
//!
//! 1. A database has [`SHARD_COUNT`] shards, chosen by the top bits of the hash. Entries within a
//!    shard are in the order of their hash. So a walk over all shards is in hash order.
//! 2. Each live key has one entry, in the overlay or otherwise in the newest layer that has the
//!    key. In the overlay it points at the newest record that sets the key, or at a [`HashObject`],
//!    which has at least one field.
//! 3. Locks on shards are taken in ascending order of database and shard.

mod closing;
mod deadlines;
mod expiry;
mod hash;
mod merge;
mod object;
mod run;
mod statistics;
mod steps;
mod table;
mod visited;
mod word;
mod writer;

use std::collections::BTreeMap;
use std::mem;

pub(crate) use closing::{Closing, Joint, LayerGap, Roots};
pub(crate) use deadlines::{Expired, FieldDeadlines};
pub(crate) use hash::{KeyHash, KeyHasher};
pub(crate) use merge::{Item, Merge, Names};
pub(crate) use object::{HashSummary, Object, StoredDeadlines, StoredHash, bytes_behind};
pub(crate) use run::{Pages, Place, Run};
pub(crate) use statistics::{Size, Statistics};
pub(crate) use steps::Steps;
pub(crate) use table::{Location, Table};
pub(crate) use visited::Visited;
pub(crate) use writer::{LayerWriter, PageSink, RunBuilder};

use crate::limits::DATABASE_COUNT;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{
    Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

/// Shards of a database: as many as keep the longest stall by a growing table short.
pub(crate) const SHARD_COUNT: usize = 1 << hash::SHARD_BITS;

/// All databases' keys.
#[derive(Debug, Default)]
pub(crate) struct Index {
    // A database that holds nothing takes no memory.
    databases: [OnceLock<Box<[RwLock<Shard>]>>; DATABASE_COUNT as usize],
    /// What [`Index::freeze`] has begun and [`Index::thaw`] has not ended.
    freezing: AtomicBool,
    frozen: Mutex<BTreeMap<(u8, usize), Frozen>>,
}

/// A shard as it was when the index was frozen.
#[derive(Debug)]
enum Frozen {
    /// As it is.
    Unchanged,
    /// It has changed since.
    Copied(Shard),
}

/// The keys of one database that share the top bits of their hash.
#[derive(Debug, Default, Clone)]
pub(crate) struct Shard {
    pub(crate) keys: Table,
    /// The database of the checkpoint that this is the overlay of.
    pub(crate) continues: Option<u8>,
    rare: Option<Box<Rare>>,
}

/// What many shards do not need.
#[derive(Debug, Default, Clone)]
struct Rare {
    hashes: Vec<Option<HashObject>>,
    free: Vec<usize>,
    /// Deadlines that were changed after their record was written, by the record's offset.
    deadlines: BTreeMap<u64, u64>,
}

/// A hash: where its fields are.
#[derive(Debug, Default, Clone)]
pub(crate) struct HashObject {
    /// Its fields. If an older layer has the hash, only fields that were changed or removed since.
    pub(crate) fields: Table,
    pub(crate) summary: HashSummary,
    /// Those of its fields; `None` where none has any.
    pub(crate) deadlines: Option<Box<FieldDeadlines>>,
    /// The object of the checkpoint that this is the overlay of, 0 for none.
    pub(crate) beneath: u64,
}

impl Index {
    /// A shard, to be read; `None` where the database never held anything.
    pub(crate) fn read(&self, database: u8, shard: usize) -> Option<RwLockReadGuard<'_, Shard>> {
        let shards = self.databases.get(usize::from(database))?.get()?;
        let shard = shards.get(shard)?;
        Some(shard.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a database the overlay of one of the checkpoint's.
    pub(crate) fn continue_database(&self, database: u8, continues: u8) {
        for shard in 0..SHARD_COUNT {
            self.write(database, shard).continues = Some(continues);
        }
    }

    /// A shard, to be changed.
    pub(crate) fn write(&self, database: u8, shard: usize) -> RwLockWriteGuard<'_, Shard> {
        let shards = self.databases[usize::from(database)].get_or_init(|| {
            let empty = || RwLock::new(Shard::default());
            std::iter::repeat_with(empty).take(SHARD_COUNT).collect()
        });
        let place = &shards[shard];
        let guard = place.write().unwrap_or_else(PoisonError::into_inner);
        if self.freezing.load(Ordering::Acquire)
            && let Some(frozen) = self.lock_frozen().get_mut(&(database, shard))
            && matches!(frozen, Frozen::Unchanged)
        {
            *frozen = Frozen::Copied(guard.clone());
        }
        guard
    }

    /// Freezes the index until [`Index::thaw`].
    ///
    /// A thread that changes a shard copies it first, so that no thread waits for more than the
    /// copy of one shard. The caller keeps writers out.
    pub(crate) fn freeze(&self) {
        let numbers = (0..DATABASE_COUNT).zip(&self.databases);
        let held = numbers.filter(|(_, shards)| shards.get().is_some());
        let places =
            held.flat_map(|(database, _)| (0..SHARD_COUNT).map(move |shard| (database, shard)));
        *self.lock_frozen() = places.map(|place| (place, Frozen::Unchanged)).collect();
        self.freezing.store(true, Ordering::Release);
    }

    /// The index as it was when it was frozen.
    pub(crate) fn thaw(&self) -> Index {
        let thawed = Index::default();
        for database in 0..DATABASE_COUNT {
            for number in 0..SHARD_COUNT {
                // Locked before the other, as in `write`.
                let Some(shard) = self.read(database, number) else {
                    break;
                };
                let shard = match self.lock_frozen().remove(&(database, number)) {
                    None => continue,
                    Some(Frozen::Unchanged) => shard.clone(),
                    Some(Frozen::Copied(copy)) => copy,
                };
                *thawed.write(database, number) = shard;
            }
        }
        self.freezing.store(false, Ordering::Release);
        thawed
    }

    fn lock_frozen(&self) -> MutexGuard<'_, BTreeMap<(u8, usize), Frozen>> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at where keys have their entries, so that the cache has it when they are looked for.
    pub(crate) fn touch(&self, keys: impl Iterator<Item = (u8, KeyHash)>) {
        let mut words = 0;
        for (database, hash) in keys {
            if let Some(shard) = self.read(database, hash.shard()) {
                words ^= shard.keys.touch(hash.in_shard());
            }
        }
        // So that the compiler does not leave it out.
        std::hint::black_box(words);
    }

    /// Locks several shards, each given by database and number, so that no reader sees one
    /// changed and another not.
    pub(crate) fn write_all(&self, mut places: Vec<(u8, usize)>) -> LockedShards<'_> {
        places.sort_unstable();
        places.dedup();
        LockedShards {
            guards: places
                .into_iter()
                .map(|(database, shard)| ((database, shard), self.write(database, shard)))
                .collect(),
        }
    }

    /// Entries of keys and fields.
    pub(crate) fn entry_count(&self) -> u64 {
        let mut count = 0;
        for shards in self.databases.iter().filter_map(OnceLock::get) {
            for shard in shards {
                let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
                count += shard.entry_count();
            }
        }
        count
    }

    /// Memory that the index takes, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let mut bytes = mem::size_of::<Self>() as u64;
        for shards in self.databases.iter().filter_map(OnceLock::get) {
            bytes += mem::size_of_val::<[RwLock<Shard>]>(shards) as u64;
            for shard in shards {
                let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
                bytes += shard.heap_bytes();
            }
        }
        bytes
    }
}

/// Shards that are locked together.
#[derive(Debug)]
pub(crate) struct LockedShards<'a> {
    guards: Vec<((u8, usize), RwLockWriteGuard<'a, Shard>)>,
}

impl LockedShards<'_> {
    /// One of the locked shards; `None` for one that is not.
    pub(crate) fn get(&mut self, database: u8, shard: usize) -> Option<&mut Shard> {
        let index = self
            .guards
            .binary_search_by_key(&(database, shard), |(place, _)| *place)
            .ok()?;
        Some(&mut self.guards[index].1)
    }

    /// Exchanges two databases. All of their shards are locked.
    pub(crate) fn swap(&mut self, one: u8, other: u8) {
        if one == other {
            return;
        }
        for shard in 0..SHARD_COUNT {
            let contents = self.get(one, shard).map(mem::take).unwrap_or_default();
            let contents = match self.get(other, shard) {
                Some(place) => mem::replace(place, contents),
                None => contents,
            };
            if let Some(place) = self.get(one, shard) {
                *place = contents;
            }
        }
    }
}

impl Shard {
    /// The hash that an entry points at.
    pub(crate) fn hash(&self, index: usize) -> Option<&HashObject> {
        self.rare.as_ref()?.hashes.get(index)?.as_ref()
    }

    pub(crate) fn hash_mut(&mut self, index: usize) -> Option<&mut HashObject> {
        self.rare.as_mut()?.hashes.get_mut(index)?.as_mut()
    }

    /// Takes a hash in, and gives back its number.
    pub(crate) fn add_hash(&mut self, hash: HashObject) -> usize {
        let rare = self.rare.get_or_insert_default();
        match rare.free.pop() {
            Some(index) => {
                rare.hashes[index] = Some(hash);
                index
            }
            None => {
                rare.hashes.push(Some(hash));
                rare.hashes.len() - 1
            }
        }
    }

    pub(crate) fn remove_hash(&mut self, index: usize) -> Option<HashObject> {
        let rare = self.rare.as_mut()?;
        let hash = rare.hashes.get_mut(index)?.take()?;
        rare.free.push(index);
        for (_, location) in hash.fields.iter_from(0) {
            if let Location::Record(offset) = location {
                rare.deadlines.remove(&offset);
            }
        }
        Some(hash)
    }

    /// The deadline of a record, if it is another one than the record says.
    pub(crate) fn changed_deadline_ms(&self, offset: u64) -> Option<u64> {
        self.rare.as_ref()?.deadlines.get(&offset).copied()
    }

    /// The deadline of a record, of which `written_ms` was written in it.
    pub(crate) fn deadline_ms(&self, offset: u64, written_ms: u64) -> u64 {
        match &self.rare {
            Some(rare) if !rare.deadlines.is_empty() => {
                rare.deadlines.get(&offset).copied().unwrap_or(written_ms)
            }
            _ => written_ms,
        }
    }

    /// Changes the deadline of a record, of which `written_ms` was written in it.
    pub(crate) fn set_deadline_ms(&mut self, offset: u64, written_ms: u64, deadline_ms: u64) {
        if deadline_ms != written_ms {
            let rare = self.rare.get_or_insert_default();
            rare.deadlines.insert(offset, deadline_ms);
        } else {
            self.forget_deadline(offset);
        }
    }

    /// Forgets what was changed about a record that is no longer live.
    pub(crate) fn forget_deadline(&mut self, offset: u64) {
        if let Some(rare) = &mut self.rare {
            rare.deadlines.remove(&offset);
        }
    }

    fn entry_count(&self) -> u64 {
        let hashes = self.rare.iter().flat_map(|rare| &rare.hashes).flatten();
        // A hash takes as much room as several entries.
        let fields = hashes.map(|hash| hash.fields.len() + object::HASH_BYTES / 8);
        (self.keys.len() + fields.sum::<usize>()) as u64
    }

    fn heap_bytes(&self) -> u64 {
        // A B-tree keeps its nodes half full or better: at most twice its entries.
        const DEADLINE_BYTES: usize = 2 * mem::size_of::<(u64, u64)>();
        let mut bytes = self.keys.heap_bytes();
        if let Some(rare) = &self.rare {
            bytes += mem::size_of::<Rare>();
            bytes += rare.hashes.capacity() * mem::size_of::<Option<HashObject>>();
            bytes += rare.free.capacity() * mem::size_of::<usize>();
            bytes += rare.deadlines.len() * DEADLINE_BYTES;
            let tables = rare.hashes.iter().flatten();
            let deadlines =
                |hash: &HashObject| hash.deadlines.as_ref().map_or(0, |d| d.heap_bytes());
            let of_hash = |hash: &HashObject| hash.fields.heap_bytes() + deadlines(hash);
            bytes += tables.map(of_hash).sum::<usize>();
        }
        bytes as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(index: &Index, database: u8, shard: usize) -> Vec<(u32, Location)> {
        let shard = index.read(database, shard);
        shard.map_or_else(Vec::new, |shard| shard.keys.iter_from(0).collect())
    }

    #[test]
    fn a_frozen_index_is_as_it_was_whatever_becomes_of_it() {
        let index = Index::default();
        for (shard, hash) in [(3, 5), (4, 6)] {
            index.write(0, shard).keys.insert(hash, Location::Record(8));
        }
        index.freeze();
        index.write(0, 3).keys.insert(7, Location::Record(16));
        // As a database that is cleared.
        *index.write(0, 3) = Shard::default();
        index.write(1, 3).keys.insert(1, Location::Record(24));
        let thawed = index.thaw();
        assert_eq!(entries(&thawed, 0, 3), [(5, Location::Record(8))]);
        assert_eq!(entries(&thawed, 0, 4), [(6, Location::Record(8))]);
        assert!(entries(&thawed, 1, 3).is_empty(), "it was not there yet");
        assert!(entries(&index, 0, 3).is_empty());
        assert!(!index.freezing.load(Ordering::Acquire) && index.lock_frozen().is_empty());
    }
}
