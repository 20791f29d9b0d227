//! Applies records to the index and its counts. This is the only place where a record takes effect,
//! during replay and after a commit.
//!
//! It is a total function of the log. Any valid records in any order have one meaning, defined in
//! [`crate::docs::format`], and the clock plays no part.

use super::lookup::{Found, HashAt, Held, Lookup, RecordAt};
use crate::Result;
use crate::index::{
    FieldDeadlines, HashObject, HashSummary, Index, KeyHash, Location, SHARD_COUNT, Shard, Size,
    Statistics,
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
                self.forget(shard, &found, change.database)?;
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
                let number = self.own_hash(shard, &found, hash, record)?;
                self.change_hash(shard, number, change.database, |hash, counts| {
                    counts.remove_steps(hash);
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
                    counts.add_steps(hash);
                });
            }
            (Kind::HashSet, Held::Hash(hash)) => {
                let number = self.own_hash(shard, &found, hash, record)?;
                self.set_field(shard, number, hash, record)?;
            }
            (Kind::HashSet, _) => {
                let (number, hash) = self.begin_hash(shard, &found, record)?;
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
    fn forget(&mut self, shard: &mut Shard, found: &Found<'a>, database: u8) -> Result<()> {
        match &found.held {
            Held::Nothing => {}
            Held::String(string) => {
                let size = record_size(&string.change);
                self.statistics.remove(database, string.deadline_ms, size);
                shard.forget_deadline(string.offset);
            }
            Held::Hash(hash) => {
                // What is counted of it, not what it was when it was found.
                let own = hash.own.and_then(|number| shard.remove_hash(number));
                let object = match own {
                    Some(object) => object,
                    None => self.above(hash)?,
                };
                let mut counts = self.counts(database);
                counts.remove_key(&object);
                counts.remove_steps(&object);
            }
        }
        Ok(())
    }

    /// Removes a key by this record. Where it would be there again, the entry stays and says that it is gone.
    fn remove(&mut self, shard: &mut Shard, found: &Found<'a>, record: &Applied<'_>) -> Result<()> {
        let is_beneath = self
            .lookup
            .is_beneath(shard, record.hash, record.change.key)?;
        self.forget(shard, found, record.change.database)?;
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
        change: impl FnOnce(&mut HashObject, &mut Counts<'_>),
    ) {
        let Some(hash) = shard.hash_mut(number) else {
            return;
        };
        let mut counts = self.counts(database);
        counts.remove_key(hash);
        change(hash, &mut counts);
        counts.add_key(hash);
    }

    fn counts(&mut self, database: u8) -> Counts<'_> {
        Counts {
            statistics: self.statistics,
            database,
        }
    }

    /// The number of a hash in the shard; one that is in the checkpoint alone gets an object that says what
    /// changes from now on.
    fn own_hash(
        &self,
        shard: &mut Shard,
        found: &Found<'_>,
        hash: &HashAt<'a>,
        record: &Applied<'_>,
    ) -> Result<usize> {
        if let Some(number) = hash.own {
            return Ok(number);
        }
        let number = shard.add_hash(self.above(hash)?);
        point(shard, found.slot, record, Location::Hash(number));
        Ok(number)
    }

    /// An object for a hash that is in the checkpoint alone.
    fn above(&self, hash: &HashAt<'a>) -> Result<HashObject> {
        let mut object = HashObject {
            summary: hash.summary,
            ..HashObject::default()
        };
        if let Some(stored) = &hash.beneath {
            object.beneath = stored.reference;
            let steps = self.lookup.stored_steps(stored)?;
            object.deadlines = (!steps.is_empty()).then(|| Box::new(FieldDeadlines::above(steps)));
        }
        Ok(object)
    }

    /// A new hash, in place of whatever the key stood for.
    fn begin_hash(
        &mut self,
        shard: &mut Shard,
        found: &Found<'a>,
        record: &Applied<'_>,
    ) -> Result<(usize, HashAt<'a>)> {
        self.forget(shard, found, record.change.database)?;
        let summary = HashSummary {
            key_offset: record.offset,
            ..HashSummary::default()
        };
        let object = HashObject {
            summary,
            ..HashObject::default()
        };
        self.counts(record.change.database).add_key(&object);
        let number = shard.add_hash(object);
        point(shard, found.slot, record, Location::Hash(number));
        let hash = HashAt {
            own: Some(number),
            summary,
            beneath: None,
        };
        Ok((number, hash))
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
        self.change_hash(shard, number, change.database, |hash, counts| {
            let location = Location::Record(record.offset);
            match old.slot {
                Some(slot) => hash.fields.replace(slot, location),
                None => hash.fields.insert(old.hash, location),
            }
            if let Some(old) = &old.record {
                counts.remove_field(hash, old);
            }
            let new = RecordAt {
                offset: record.offset,
                change: *change,
                deadline_ms: change.deadline_ms,
            };
            counts.add_field(hash, &new);
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
        let number = self.own_hash(shard, found, hash, record)?;
        if change.kind == Kind::FieldExpire {
            self.change_hash(shard, number, change.database, |hash, counts| {
                if field.slot.is_none() {
                    hash.fields.insert(field.hash, Location::Record(old.offset));
                }
                counts.remove_field(hash, &old);
                let new = RecordAt {
                    deadline_ms: change.deadline_ms,
                    ..old
                };
                counts.add_field(hash, &new);
            });
            shard.set_deadline_ms(old.offset, old.change.deadline_ms, change.deadline_ms);
            return Ok(());
        }
        shard.forget_deadline(old.offset);
        self.change_hash(shard, number, change.database, |hash, counts| {
            let location = Location::Record(record.offset);
            match field.slot {
                Some(slot) if beneath.is_none() => hash.fields.remove(slot),
                Some(slot) => hash.fields.replace(slot, location),
                None => hash.fields.insert(field.hash, location),
            }
            counts.remove_field(hash, &old);
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

fn record_size(change: &Change<'_>) -> Size {
    Size {
        keys: 1,
        bytes: change.size_bytes(),
    }
}

/// What a hash adds to the counts of its database: as a key, with the bytes that live as long as the hash, and,
/// step by step, the bytes of the fields that have a deadline.
///
/// What a checkpoint says may be anything: no count goes below zero.
struct Counts<'s> {
    statistics: &'s mut Statistics,
    database: u8,
}

impl Counts<'_> {
    fn add_key(&mut self, hash: &HashObject) {
        self.statistics
            .add(self.database, end_ms(hash), key_size(hash));
    }

    fn remove_key(&mut self, hash: &HashObject) {
        self.statistics
            .remove(self.database, end_ms(hash), key_size(hash));
    }

    fn add_steps(&mut self, hash: &HashObject) {
        for (step_ms, bytes) in steps(hash) {
            let end_ms = earlier(hash.summary.deadline_ms, step_ms);
            self.statistics
                .add(self.database, end_ms, Size { keys: 0, bytes });
        }
    }

    fn remove_steps(&mut self, hash: &HashObject) {
        for (step_ms, bytes) in steps(hash) {
            let end_ms = earlier(hash.summary.deadline_ms, step_ms);
            self.statistics
                .remove(self.database, end_ms, Size { keys: 0, bytes });
        }
    }

    /// Counts a field, but for what the hash adds as a key.
    fn add_field(&mut self, hash: &mut HashObject, field: &RecordAt<'_>) {
        let bytes = field.change.size_bytes();
        let summary = &mut hash.summary;
        summary.live_bytes = summary.live_bytes.saturating_add(bytes);
        summary.field_count = summary.field_count.saturating_add(1);
        let deadline_ms = field.deadline_ms;
        if deadline_ms == 0 {
            return;
        }
        summary.expiring_fields = summary.expiring_fields.saturating_add(1);
        let has_room = |hash: &HashObject| {
            let deadlines = hash.deadlines.as_ref();
            deadlines.is_none_or(|deadlines| deadlines.has_room_for(deadline_ms))
        };
        if !has_room(hash) {
            self.remove_steps(hash);
            hash.deadlines
                .get_or_insert_default()
                .make_room_for(deadline_ms);
            self.add_steps(hash);
        }
        let deadlines = hash.deadlines.get_or_insert_default();
        deadlines.add(deadline_ms, Size { keys: 1, bytes });
        let end_ms = deadlines.steps.end_ms(deadline_ms);
        let end_ms = earlier(hash.summary.deadline_ms, end_ms);
        self.statistics
            .add(self.database, end_ms, Size { keys: 0, bytes });
    }

    /// Counts no longer what [`Counts::add_field`] counted.
    fn remove_field(&mut self, hash: &mut HashObject, field: &RecordAt<'_>) {
        let bytes = field.change.size_bytes();
        let summary = &mut hash.summary;
        summary.live_bytes = summary.live_bytes.saturating_sub(bytes);
        summary.field_count = summary.field_count.saturating_sub(1);
        let deadline_ms = field.deadline_ms;
        if deadline_ms == 0 {
            return;
        }
        summary.expiring_fields = summary.expiring_fields.saturating_sub(1);
        if let Some(deadlines) = &mut hash.deadlines {
            let end_ms = deadlines.steps.end_ms(deadline_ms);
            deadlines.remove(deadline_ms, Size { keys: 1, bytes });
            if summary.expiring_fields == 0 {
                hash.deadlines = None;
            }
            let end_ms = earlier(hash.summary.deadline_ms, end_ms);
            self.statistics
                .remove(self.database, end_ms, Size { keys: 0, bytes });
        }
    }
}

/// When a hash is gone: at its own deadline, or with the last of its fields. 0 for never.
fn end_ms(hash: &HashObject) -> u64 {
    let summary = &hash.summary;
    match &hash.deadlines {
        Some(deadlines) if summary.expiring_fields >= summary.field_count => {
            earlier(summary.deadline_ms, deadlines.steps.last_ms())
        }
        _ => summary.deadline_ms,
    }
}

/// The earlier of two deadlines, 0 for none.
fn earlier(one_ms: u64, other_ms: u64) -> u64 {
    match one_ms == 0 || other_ms == 0 {
        true => one_ms.max(other_ms),
        false => one_ms.min(other_ms),
    }
}

fn key_size(hash: &HashObject) -> Size {
    let deadlines = hash.deadlines.as_ref();
    let expiring = deadlines.map_or(0, |deadlines| deadlines.bytes());
    Size {
        keys: 1,
        bytes: hash.summary.live_bytes.saturating_sub(expiring),
    }
}

fn steps(hash: &HashObject) -> impl Iterator<Item = (u64, u64)> {
    let deadlines = hash.deadlines.iter();
    let steps = deadlines.flat_map(|deadlines| deadlines.steps.iter());
    steps.map(|(end_ms, size)| (end_ms, size.bytes))
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
