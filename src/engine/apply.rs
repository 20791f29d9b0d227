//! From records to the index and its counts: the one place where a record takes effect, at
//! replay as after a commit.
//!
//! It is a total function of the log: whatever valid records there are, in whatever order, they
//! have one meaning, given in [`crate::docs::format`], and no clock is asked.

use super::lookup::{Found, HashAt, Held, Lookup, RecordAt};
use crate::Result;
use crate::index::{
    HashObject, HashSummary, Index, KeyHash, Location, SHARD_COUNT, Shard, Size, Statistics,
};
use crate::limits::DATABASE_COUNT;
use crate::record::{Change, Kind, encoded_len};

/// A record that takes effect.
pub(super) struct Applied<'a> {
    pub(super) change: Change<'a>,
    pub(super) offset: u64,
    pub(super) hash: KeyHash,
}

/// Applies a commit to the index, such that no reader sees half of it.
///
/// # Errors
///
/// Where the checkpoint, or a record that it leads to, does not hold. Half of the commit may have been applied by then.
pub(super) fn apply_commit(
    index: &Index,
    statistics: &mut Statistics,
    lookup: Lookup<'_>,
    records: &[Applied<'_>],
) -> Result<()> {
    let mut target = Target { lookup, statistics };
    if let [record] = records
        && record.change.kind.is_key()
    {
        let mut shard = index.write(record.change.database, record.hash.shard());
        return target.apply_to_key(&mut shard, record);
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
                    target.apply_to_key(shard, record)?;
                }
            }
            // The rest says something of the log, not of its data.
            _ => {}
        }
    }
    Ok(())
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

struct Target<'a> {
    lookup: Lookup<'a>,
    statistics: &'a mut Statistics,
}

impl<'a> Target<'a> {
    fn apply_to_key(&mut self, shard: &mut Shard, record: &Applied<'_>) -> Result<()> {
        let change = &record.change;
        let found = self.lookup.key(shard, record.hash, change.key)?;
        match (change.kind, &found.held) {
            (Kind::Set, _) => {
                self.forget(shard, &found, change.database);
                point(shard, found.slot, record, Location::Record(record.offset));
                let size = record_size(change);
                self.statistics
                    .add(change.database, change.deadline_ms, size);
            }
            (Kind::Delete, Held::String(_) | Held::Hash(_)) => {
                self.remove(shard, &found, record)?;
            }
            (Kind::Expire, Held::String(string)) => {
                let old_deadline_ms = string.deadline_ms;
                let size = record_size(&string.change);
                self.statistics
                    .remove(change.database, old_deadline_ms, size);
                self.statistics
                    .add(change.database, change.deadline_ms, size);
                if found.slot.is_none() {
                    point(shard, None, record, Location::Record(string.offset));
                }
                let written_ms = string.change.deadline_ms;
                shard.set_deadline_ms(string.offset, written_ms, change.deadline_ms);
            }
            (Kind::Expire, Held::Hash(hash)) => {
                let number = own_hash(shard, &found, hash, record);
                self.change_hash(shard, number, change.database, |hash| {
                    // The deadline of a hash is a record of its own, which stays live with it.
                    let record_bytes = encoded_len(change.key.len()) as u64;
                    let summary = &mut hash.summary;
                    if summary.deadline_ms != 0 {
                        summary.live_bytes = summary.live_bytes.saturating_sub(record_bytes);
                    }
                    if change.deadline_ms != 0 {
                        summary.live_bytes += record_bytes;
                    }
                    summary.deadline_ms = change.deadline_ms;
                });
            }
            (Kind::HashSet, Held::Hash(hash)) => {
                let number = own_hash(shard, &found, hash, record);
                self.set_field(shard, number, hash, record)?;
            }
            (Kind::HashSet, _) => {
                let (number, hash) = self.begin_hash(shard, &found, record);
                self.set_field(shard, number, &hash, record)?;
            }
            (Kind::HashDelete | Kind::FieldExpire, Held::Hash(hash)) => {
                self.change_field(shard, &found, hash, record)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Counts what a key stands for as dead, and forgets all that was kept beside its entry.
    fn forget(&mut self, shard: &mut Shard, found: &Found<'a>, database: u8) {
        match &found.held {
            Held::Nothing => {}
            Held::String(string) => {
                let size = record_size(&string.change);
                self.statistics.remove(database, string.deadline_ms, size);
                shard.forget_deadline(string.offset);
            }
            Held::Hash(hash) => {
                // What is counted of it, not what it was when it was found.
                let mut summary = hash.summary;
                if let Some(object) = hash.own.and_then(|number| shard.remove_hash(number)) {
                    summary = object.summary;
                }
                self.statistics
                    .remove(database, summary.deadline_ms, hash_size(&summary));
            }
        }
    }

    /// Removes a key by this record. Where it would be there again, the entry stays and says that it is gone.
    fn remove(&mut self, shard: &mut Shard, found: &Found<'a>, record: &Applied<'_>) -> Result<()> {
        let is_beneath = self
            .lookup
            .is_beneath(shard, record.hash, record.change.key)?;
        self.forget(shard, found, record.change.database);
        match found.slot {
            Some(slot) if !is_beneath => shard.keys.remove(slot),
            _ => point(shard, found.slot, record, Location::Record(record.offset)),
        }
        Ok(())
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
        let summary = &hash.summary;
        self.statistics
            .remove(database, summary.deadline_ms, hash_size(summary));
        change(hash);
        let summary = &hash.summary;
        self.statistics
            .add(database, summary.deadline_ms, hash_size(summary));
    }

    /// A new hash, in place of whatever the key stood for.
    fn begin_hash(
        &mut self,
        shard: &mut Shard,
        found: &Found<'a>,
        record: &Applied<'_>,
    ) -> (usize, HashAt<'a>) {
        self.forget(shard, found, record.change.database);
        let summary = HashSummary {
            key_offset: record.offset,
            ..HashSummary::default()
        };
        self.statistics
            .add(record.change.database, 0, hash_size(&summary));
        let number = shard.add_hash(HashObject {
            summary,
            ..HashObject::default()
        });
        point(shard, found.slot, record, Location::Hash(number));
        let hash = HashAt {
            own: Some(number),
            summary,
            beneath: None,
        };
        (number, hash)
    }

    fn set_field(
        &mut self,
        shard: &mut Shard,
        number: usize,
        hash: &HashAt<'a>,
        record: &Applied<'_>,
    ) -> Result<()> {
        let change = &record.change;
        let old = self.lookup.field(shard, hash, change.field)?;
        if let Some(old) = &old.record {
            shard.forget_deadline(old.offset);
        }
        self.change_hash(shard, number, change.database, |hash| {
            let location = Location::Record(record.offset);
            match old.slot {
                Some(slot) => hash.fields.replace(slot, location),
                None => hash.fields.insert(old.hash, location),
            }
            let summary = &mut hash.summary;
            count_field(summary, old.record.as_ref(), -1);
            let new = RecordAt {
                offset: record.offset,
                change: *change,
                deadline_ms: change.deadline_ms,
            };
            count_field(summary, Some(&new), 1);
        });
        Ok(())
    }

    /// Deletes a field or changes its deadline, where there is one of that name.
    fn change_field(
        &mut self,
        shard: &mut Shard,
        found: &Found<'a>,
        hash: &HashAt<'a>,
        record: &Applied<'_>,
    ) -> Result<()> {
        let change = &record.change;
        let field = self.lookup.field(shard, hash, change.field)?;
        let Some(old) = field.record else {
            return Ok(());
        };
        let beneath = self.lookup.field_beneath(hash, field.hash, change.field)?;
        let number = own_hash(shard, found, hash, record);
        if change.kind == Kind::FieldExpire {
            if let Some(hash) = shard.hash_mut(number) {
                if field.slot.is_none() {
                    hash.fields.insert(field.hash, Location::Record(old.offset));
                }
                let summary = &mut hash.summary;
                let had_deadline = u64::from(old.deadline_ms != 0);
                summary.expiring_fields = summary.expiring_fields.saturating_sub(had_deadline)
                    + u64::from(change.deadline_ms != 0);
            }
            shard.set_deadline_ms(old.offset, old.change.deadline_ms, change.deadline_ms);
            return Ok(());
        }
        shard.forget_deadline(old.offset);
        self.change_hash(shard, number, change.database, |hash| {
            let location = Location::Record(record.offset);
            match field.slot {
                Some(slot) if beneath.is_none() => hash.fields.remove(slot),
                Some(slot) => hash.fields.replace(slot, location),
                None => hash.fields.insert(field.hash, location),
            }
            count_field(&mut hash.summary, Some(&old), -1);
        });
        if shard
            .hash(number)
            .is_some_and(|hash| hash.summary.field_count == 0)
        {
            // A hash without fields is no key.
            let found = self.lookup.key(shard, record.hash, change.key)?;
            self.remove(shard, &found, record)?;
        }
        Ok(())
    }
}

/// Points the key's entry, which is in this slot if there is one, at something new.
fn point(shard: &mut Shard, slot: Option<usize>, record: &Applied<'_>, location: Location) {
    match slot {
        Some(slot) => shard.keys.replace(slot, location),
        None => shard.keys.insert(record.hash.in_shard(), location),
    }
}

/// The number of a hash in the shard; one that is in the checkpoint alone gets an object that says what changes from now on.
fn own_hash(
    shard: &mut Shard,
    found: &Found<'_>,
    hash: &HashAt<'_>,
    record: &Applied<'_>,
) -> usize {
    if let Some(number) = hash.own {
        return number;
    }
    let number = shard.add_hash(HashObject {
        summary: hash.summary,
        beneath: hash.beneath.map_or(0, |stored| stored.reference),
        ..HashObject::default()
    });
    point(shard, found.slot, record, Location::Hash(number));
    number
}

fn record_size(change: &Change<'_>) -> Size {
    Size {
        keys: 1,
        bytes: change.size_bytes(),
    }
}

fn hash_size(summary: &HashSummary) -> Size {
    Size {
        keys: 1,
        bytes: summary.live_bytes,
    }
}

/// Counts a field in a hash, or no longer. What a checkpoint says may be anything: no count goes below zero.
fn count_field(summary: &mut HashSummary, field: Option<&RecordAt<'_>>, sign: i64) {
    let Some(field) = field else {
        return;
    };
    let count = |number: &mut u64, by: u64| {
        *number = match sign < 0 {
            true => number.saturating_sub(by),
            false => number.saturating_add(by),
        };
    };
    count(&mut summary.live_bytes, field.change.size_bytes());
    count(&mut summary.field_count, 1);
    count(
        &mut summary.expiring_fields,
        u64::from(field.deadline_ms != 0),
    );
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
