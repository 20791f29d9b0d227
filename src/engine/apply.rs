//! From records to the index and its counts: the one place where a record takes effect, at
//! replay as after a commit.
//!
//! It is a total function of the log: whatever valid records there are, in whatever order, they
//! have one meaning, given in [`crate::docs::format`], and no clock is asked.

use crate::index::{
    HashObject, Index, KeyHash, Location, SHARD_COUNT, Shard, Size, Statistics, Table,
};
use crate::limits::DATABASE_COUNT;
use crate::log::{stored_change, stored_key};
use crate::record::{Change, Kind, encoded_len};
use crate::storage::Mapping;

/// A record that takes effect.
pub(super) struct Applied<'a> {
    pub(super) change: Change<'a>,
    pub(super) offset: u64,
    pub(super) hash: KeyHash,
}

/// Applies a commit to the index, such that no reader sees half of it.
pub(super) fn apply_commit(
    index: &Index,
    statistics: &mut Statistics,
    mapping: &Mapping,
    field_hash: &dyn Fn(&[u8]) -> KeyHash,
    records: &[Applied<'_>],
) {
    let mut target = Target {
        mapping,
        statistics,
        field_hash,
    };
    if let [record] = records
        && record.change.kind.is_key()
    {
        let mut shard = index.write(record.change.database, record.hash.shard());
        target.apply_to_key(&mut shard, record);
        return;
    }
    let mut shards = index.write_all(places(records));
    for record in records {
        let database = record.change.database;
        match (record.change.kind, record.change.value) {
            (Kind::Clear, _) => {
                for shard in 0..SHARD_COUNT {
                    shards.get(database, shard).map(std::mem::take);
                }
                target.statistics.clear(database);
            }
            (Kind::SwapDatabases, [other]) => {
                shards.swap(database, *other);
                target.statistics.swap(database, *other);
            }
            (kind, _) if kind.is_key() => {
                if let Some(shard) = shards.get(database, record.hash.shard()) {
                    target.apply_to_key(shard, record);
                }
            }
            // The rest says something of the log, not of its data.
            _ => {}
        }
    }
}

/// The shards that a commit touches. A database that is touched as a whole is listed once, or a commit
/// of nothing but clears would take memory a hundred times its size.
fn places(records: &[Applied<'_>]) -> Vec<(u8, usize)> {
    let mut places = Vec::new();
    let mut whole = [false; DATABASE_COUNT as usize];
    for record in records {
        let database = record.change.database;
        match (record.change.kind, record.change.value) {
            (Kind::Clear, _) => whole[usize::from(database)] = true,
            (Kind::SwapDatabases, [other]) => {
                whole[usize::from(database)] = true;
                whole[usize::from(*other)] = true;
            }
            (kind, _) if kind.is_key() => places.push((database, record.hash.shard())),
            _ => {}
        }
    }
    for (database, is_whole) in (0..DATABASE_COUNT).zip(whole) {
        if is_whole {
            places.extend((0..SHARD_COUNT).map(|shard| (database, shard)));
        }
    }
    places
}

/// The slot of a key's entry.
pub(super) fn find_key(
    shard: &Shard,
    mapping: &Mapping,
    hash: KeyHash,
    key: &[u8],
) -> Option<usize> {
    shard.keys.find(hash.in_shard(), |location| {
        let offset = match location {
            Location::Record(offset) => Some(offset),
            Location::Hash(number) => shard.hash(number).map(|hash| hash.key_offset),
        };
        offset.and_then(|offset| stored_key(mapping, offset)) == Some(key)
    })
}

/// The slot of a field's entry, the record's offset, and the record.
pub(super) fn find_field<'a>(
    fields: &Table,
    mapping: &'a Mapping,
    hash: KeyHash,
    field: &[u8],
) -> Option<(usize, u64, Change<'a>)> {
    let mut found = None;
    let slot = fields.find(hash.in_hash(), |location| {
        let Location::Record(offset) = location else {
            return false;
        };
        found = stored_change(mapping, offset)
            .filter(|change| change.field == field)
            .map(|change| (offset, change));
        found.is_some()
    })?;
    found.map(|(offset, change)| (slot, offset, change))
}

struct Target<'a> {
    mapping: &'a Mapping,
    statistics: &'a mut Statistics,
    field_hash: &'a dyn Fn(&[u8]) -> KeyHash,
}

impl Target<'_> {
    fn apply_to_key(&mut self, shard: &mut Shard, record: &Applied<'_>) {
        let change = &record.change;
        let slot = find_key(shard, self.mapping, record.hash, change.key);
        match change.kind {
            Kind::Set => {
                let location = Location::Record(record.offset);
                self.point(shard, slot, record, location);
                let size = Size {
                    keys: 1,
                    bytes: change.size_bytes(),
                };
                self.statistics
                    .add(change.database, change.deadline_ms, size);
            }
            Kind::Delete => {
                if let Some(slot) = slot {
                    self.detach(shard, slot, change.database);
                    shard.keys.remove(slot);
                }
            }
            Kind::Expire => {
                if let Some(slot) = slot {
                    self.expire(shard, slot, change);
                }
            }
            Kind::HashSet => {
                let number = self.hash_for(shard, slot, record);
                self.set_field(shard, number, record);
            }
            Kind::HashDelete | Kind::FieldExpire => {
                if let Some(slot) = slot
                    && let Location::Hash(number) = shard.keys.location(slot)
                {
                    self.change_field(shard, slot, number, change);
                }
            }
            _ => {}
        }
    }

    /// Points the key's entry at something new; what it pointed at before is dead.
    fn point(
        &mut self,
        shard: &mut Shard,
        slot: Option<usize>,
        record: &Applied<'_>,
        location: Location,
    ) {
        match slot {
            Some(slot) => {
                self.detach(shard, slot, record.change.database);
                shard.keys.replace(slot, location);
            }
            None => shard.keys.insert(record.hash.in_shard(), location),
        }
    }

    /// Counts what an entry points at as dead, and forgets all that was kept beside it.
    fn detach(&mut self, shard: &mut Shard, slot: usize, database: u8) {
        match shard.keys.location(slot) {
            Location::Record(offset) => {
                if let Some((deadline_ms, size)) = self.string_size(shard, offset) {
                    self.statistics.remove(database, deadline_ms, size);
                }
                shard.forget_deadline(offset);
            }
            Location::Hash(number) => {
                if let Some(hash) = shard.remove_hash(number) {
                    self.statistics
                        .remove(database, hash.deadline_ms, hash_size(&hash));
                }
            }
        }
    }

    fn string_size(&self, shard: &Shard, offset: u64) -> Option<(u64, Size)> {
        let change = stored_change(self.mapping, offset)?;
        let size = Size {
            keys: 1,
            bytes: change.size_bytes(),
        };
        Some((shard.deadline_ms(offset, change.deadline_ms), size))
    }

    fn expire(&mut self, shard: &mut Shard, slot: usize, change: &Change<'_>) {
        match shard.keys.location(slot) {
            Location::Record(offset) => {
                let Some(stored) = stored_change(self.mapping, offset) else {
                    return;
                };
                if let Some((old_deadline_ms, size)) = self.string_size(shard, offset) {
                    self.statistics
                        .remove(change.database, old_deadline_ms, size);
                    self.statistics
                        .add(change.database, change.deadline_ms, size);
                }
                shard.set_deadline_ms(offset, stored.deadline_ms, change.deadline_ms);
            }
            Location::Hash(number) => {
                self.change_hash(shard, number, change.database, |hash| {
                    // The deadline of a hash is a record of its own, which stays live with it.
                    let record_bytes = encoded_len(change.key.len()) as u64;
                    if hash.deadline_ms != 0 {
                        hash.live_bytes -= record_bytes;
                    }
                    if change.deadline_ms != 0 {
                        hash.live_bytes += record_bytes;
                    }
                    hash.deadline_ms = change.deadline_ms;
                });
            }
        }
    }

    /// Changes a hash, and what is counted of it.
    fn change_hash(
        &mut self,
        shard: &mut Shard,
        number: usize,
        database: u8,
        change: impl FnOnce(&mut HashObject),
    ) {
        let Some(hash) = shard.hash_mut(number) else {
            return;
        };
        self.statistics
            .remove(database, hash.deadline_ms, hash_size(hash));
        change(hash);
        self.statistics
            .add(database, hash.deadline_ms, hash_size(hash));
    }

    /// The hash that a field is set in: the key's, or a new one.
    fn hash_for(&mut self, shard: &mut Shard, slot: Option<usize>, record: &Applied<'_>) -> usize {
        if let Some(slot) = slot
            && let Location::Hash(number) = shard.keys.location(slot)
        {
            return number;
        }
        let hash = HashObject {
            fields: Table::default(),
            key_offset: record.offset,
            deadline_ms: 0,
            live_bytes: 0,
            expiring_fields: 0,
        };
        self.statistics
            .add(record.change.database, 0, hash_size(&hash));
        let location = shard.add_hash(hash);
        self.point(shard, slot, record, location);
        match location {
            Location::Hash(number) => number,
            Location::Record(_) => unreachable!("add_hash gives a hash"),
        }
    }

    fn set_field(&mut self, shard: &mut Shard, number: usize, record: &Applied<'_>) {
        let change = &record.change;
        let mapping = self.mapping;
        let field_hash = (self.field_hash)(change.field);
        let Some(hash) = shard.hash(number) else {
            return;
        };
        let old = find_field(&hash.fields, mapping, field_hash, change.field);
        let old_deadline_ms = old.map_or(0, |(_, offset, stored)| {
            shard.deadline_ms(offset, stored.deadline_ms)
        });
        if let Some((_, offset, _)) = old {
            shard.forget_deadline(offset);
        }
        self.change_hash(shard, number, change.database, |hash| {
            let location = Location::Record(record.offset);
            match old {
                Some((slot, _, stored)) => {
                    hash.live_bytes -= stored.size_bytes();
                    hash.fields.replace(slot, location);
                }
                None => hash.fields.insert(field_hash.in_hash(), location),
            }
            hash.live_bytes += change.size_bytes();
            count_deadline(hash, old_deadline_ms, change.deadline_ms);
        });
    }

    /// Deletes a field or changes its deadline, where there is one of that name.
    fn change_field(&mut self, shard: &mut Shard, slot: usize, number: usize, change: &Change<'_>) {
        let mapping = self.mapping;
        let field_hash = (self.field_hash)(change.field);
        let Some(found) = shard
            .hash(number)
            .and_then(|hash| find_field(&hash.fields, mapping, field_hash, change.field))
        else {
            return;
        };
        let (field_slot, offset, stored) = found;
        let old_deadline_ms = shard.deadline_ms(offset, stored.deadline_ms);
        if change.kind == Kind::FieldExpire {
            shard.set_deadline_ms(offset, stored.deadline_ms, change.deadline_ms);
            if let Some(hash) = shard.hash_mut(number) {
                count_deadline(hash, old_deadline_ms, change.deadline_ms);
            }
            return;
        }
        shard.forget_deadline(offset);
        self.change_hash(shard, number, change.database, |hash| {
            hash.fields.remove(field_slot);
            hash.live_bytes -= stored.size_bytes();
            count_deadline(hash, old_deadline_ms, 0);
        });
        if shard
            .hash(number)
            .is_some_and(|hash| hash.fields.len() == 0)
        {
            // A hash without fields is no key.
            self.detach(shard, slot, change.database);
            shard.keys.remove(slot);
        }
    }
}

fn hash_size(hash: &HashObject) -> Size {
    Size {
        keys: 1,
        bytes: hash.live_bytes,
    }
}

/// Keeps the count of fields with a deadline when one of them changes its own.
fn count_deadline(hash: &mut HashObject, old_ms: u64, new_ms: u64) {
    hash.expiring_fields -= u64::from(old_ms != 0);
    hash.expiring_fields += u64::from(new_ms != 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::KeyHasher;

    #[test]
    fn a_commit_of_many_clears_names_each_shard_once() {
        let hash = KeyHasher::new(&[0; 16]).hash(b"");
        let records: Vec<Applied<'_>> = (0..1_000)
            .map(|number| Applied {
                change: Change {
                    value: &[7],
                    ..Change::of_key([Kind::Clear, Kind::SwapDatabases][number % 2], 3, b"")
                },
                offset: 0,
                hash,
            })
            .collect();
        let mut places = places(&records);
        assert_eq!(places.len(), 2 * SHARD_COUNT);
        places.dedup();
        assert_eq!(places.len(), 2 * SHARD_COUNT);
    }
}
