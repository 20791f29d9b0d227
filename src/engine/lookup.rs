//! Looks names up: in the index in memory first, then in the layers of the checkpoint.
//!
//! A result does not borrow the index, so that the caller may change the index.

use std::path::Path;

use super::base::{Base, Match, Stored};
use crate::index::{
    HashSummary, Item, KeyHash, KeyHasher, Location, Merge, Names, Object, Pages, Place, Run,
    Shard, StoredDeadlines, StoredHash, bytes_behind,
};
use crate::log::{Source, stored_change, stored_key, touch};
use crate::record::{Change, Kind};
use crate::storage::Mapping;
use crate::{Error, Result};

/// What looking something up needs.
#[derive(Clone, Copy)]
pub(super) struct Lookup<'a> {
    pub(super) path: &'a Path,
    pub(super) mapping: &'a Mapping,
    pub(super) hasher: &'a KeyHasher,
    pub(super) base: Option<&'a Base>,
}

/// A live or expired record, with its current deadline.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordAt<'a> {
    pub(super) offset: u64,
    pub(super) change: Change<'a>,
    pub(super) deadline_ms: u64,
}

/// A hash, wherever it is kept.
#[derive(Clone, Copy)]
pub(super) struct HashAt<'a> {
    /// Its number in the shard, if it is there.
    pub(super) own: Option<usize>,
    pub(super) summary: HashSummary,
    pub(super) beneath: Option<StoredHash<'a>>,
}

/// What a name stands for.
#[derive(Clone, Copy)]
pub(super) enum Held<'a> {
    Nothing,
    String(RecordAt<'a>),
    Hash(HashAt<'a>),
}

/// What a name stands for, and the slot of its entry in the index in memory, if it has one there.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) slot: Option<usize>,
    pub(super) held: Held<'a>,
}

/// A field, and the slot of its entry in the index in memory.
#[derive(Clone, Copy)]
pub(super) struct FoundField<'a> {
    /// What an entry keeps of the hash of its name.
    pub(super) hash: u32,
    pub(super) slot: Option<usize>,
    pub(super) record: Option<RecordAt<'a>>,
}

impl<'a> Pages<'a> for Lookup<'a> {
    fn page(self, offset: u64) -> Result<&'a [u8]> {
        let value = self.base(offset)?.page(self.mapping, offset)?;
        Ok(value.get(8..).unwrap_or_default())
    }
}

impl<'a> Lookup<'a> {
    /// The checkpoint, which something leads to that stands in it.
    pub(super) fn base(self, offset: u64) -> Result<&'a Base> {
        self.base.ok_or_else(|| {
            Error::corrupt(
                self.path,
                offset,
                "the file has no checkpoint, and an index entry points into one",
            )
        })
    }

    /// The record at an offset that the index or a checkpoint gave.
    pub(super) fn record(self, offset: u64) -> Result<Change<'a>> {
        match self.base {
            Some(base) if offset < base.unread_upto() => base.record(self.mapping, offset),
            _ => stored_change(self.mapping, offset).ok_or_else(|| {
                // Replay has found it valid.
                Error::corrupt(
                    self.path,
                    offset,
                    "the record was valid when the file was opened, and is not valid now",
                )
            }),
        }
    }

    pub(super) fn object(self, offset: u64) -> Result<Object<'a>> {
        let base = self.base(offset)?;
        let found = || {
            let aligned = Some(offset).filter(|offset| offset.is_multiple_of(8))?;
            let back = bytes_behind(Source::word(self.mapping, aligned)?);
            let value = base.page(self.mapping, offset.checked_sub(back)?).ok()?;
            Object::decode(value, usize::try_from(back).ok()?, offset)
        };
        found().ok_or_else(|| base.give_up(offset))
    }

    /// The hash in a layer that something refers to, see [`StoredHash::reference`]; `None` for 0.
    pub(super) fn referred(self, reference: u64) -> Result<Option<StoredHash<'a>>> {
        if reference == 0 {
            return Ok(None);
        }
        if let Some(offset) = StoredHash::record_of(reference) {
            let change = self.record(offset)?;
            if change.kind == Kind::HashSet {
                return Ok(Some(self.hash_of_one(offset, &change)));
            }
        } else if let Object::Hash(hash) = self.object(reference)? {
            return Ok(Some(hash));
        }
        Err(self.base(reference)?.give_up(reference))
    }

    /// The entry of a run that has this hash and belongs to the requested record.
    pub(super) fn find_in_run(
        self,
        run: Run<'a>,
        hash: u32,
        is_it: impl Fn(&Change<'a>) -> bool,
    ) -> Result<Option<Match<'a>>> {
        for entry in run.iter_from(self, hash) {
            let (found, place) = entry?;
            if found != hash {
                break;
            }
            let (change, object) = self.behind(place)?;
            if is_it(&change) {
                return Ok(Some((place, change, object)));
            }
        }
        Ok(None)
    }

    /// The record that an entry of a layer leads to, by an object or not.
    fn behind(self, place: Place) -> Result<(Change<'a>, Option<Object<'a>>)> {
        match place {
            Place::Record(offset) => Ok((self.record(offset)?, None)),
            Place::Object(offset) => {
                let object = self.object(offset)?;
                let record = match &object {
                    Object::Dated { offset, .. } => *offset,
                    Object::Hash(hash) => hash.summary.key_offset,
                };
                Ok((self.record(record)?, Some(object)))
            }
        }
    }

    /// What an entry of a layer's keys says.
    pub(super) fn stored_key(self, (place, change, object): Match<'a>) -> Result<Stored<'a>> {
        Ok(match (place, object) {
            (_, Some(Object::Hash(hash))) => Stored::Hash(hash),
            (
                _,
                Some(Object::Dated {
                    offset,
                    deadline_ms,
                }),
            ) => Stored::Record {
                offset,
                change,
                deadline_ms,
            },
            (Place::Record(offset) | Place::Object(offset), None) => match change.kind {
                Kind::Set => Stored::Record {
                    offset,
                    change,
                    deadline_ms: change.deadline_ms,
                },
                Kind::HashSet => Stored::Hash(self.hash_of_one(offset, &change)),
                _ => Stored::Gone,
            },
        })
    }

    /// The hash that has this field alone.
    fn hash_of_one(self, offset: u64, change: &Change<'a>) -> StoredHash<'a> {
        StoredHash {
            reference: StoredHash::reference_to(offset),
            summary: HashSummary {
                key_offset: offset,
                deadline_ms: 0,
                live_bytes: change.size_bytes(),
                field_count: 1,
                expiring_fields: u64::from(change.deadline_ms != 0),
            },
            beneath: 0,
            deadlines: match change.deadline_ms {
                0 => StoredDeadlines::None,
                deadline_ms => StoredDeadlines::One {
                    deadline_ms,
                    bytes: change.size_bytes(),
                },
            },
            fields: Run::of_one(self.hasher.hash(change.field).in_hash(), offset),
        }
    }

    /// What a key of a shard stands for.
    pub(super) fn key(self, shard: &Shard, hash: KeyHash, key: &[u8]) -> Result<Found<'a>> {
        let mut found = None;
        // What is in the index in memory was looked at when it came there.
        let is_it = |location| match location {
            Location::Record(offset) => {
                found = stored_change(self.mapping, offset);
                found.is_some_and(|change| change.key == key)
            }
            Location::Hash(number) => {
                let hash = shard.hash(number);
                hash.and_then(|hash| stored_key(self.mapping, hash.summary.key_offset)) == Some(key)
            }
        };
        if let Some((slot, location)) = shard.keys.find(hash.in_shard(), is_it) {
            let held = match (location, found) {
                (Location::Record(offset), Some(change)) => string(shard, offset, change),
                _ => self.own(shard, location)?,
            };
            return Ok(Found {
                slot: Some(slot),
                held,
            });
        }
        let held = match self.beneath_key(shard, hash, key)? {
            None | Some(Stored::Gone) => Held::Nothing,
            Some(stored) => held(stored),
        };
        Ok(Found { slot: None, held })
    }

    /// What the layers say of a key, whatever the index in memory says.
    fn beneath_key(self, shard: &Shard, hash: KeyHash, key: &[u8]) -> Result<Option<Stored<'a>>> {
        match (self.base, shard.continues) {
            (Some(base), Some(database)) => base.key(self, database, hash, key),
            _ => Ok(None),
        }
    }

    /// Whether the key would be there without its entry in the index in memory.
    pub(super) fn is_beneath(self, shard: &Shard, hash: KeyHash, key: &[u8]) -> Result<bool> {
        let found = self.beneath_key(shard, hash, key)?;
        Ok(found.is_some_and(|found| !matches!(found, Stored::Gone)))
    }

    /// What an entry of the index in memory stands for.
    pub(super) fn own(self, shard: &Shard, location: Location) -> Result<Held<'a>> {
        match location {
            Location::Record(offset) => Ok(string(shard, offset, self.record(offset)?)),
            Location::Hash(number) => match shard.hash(number) {
                None => Ok(Held::Nothing),
                Some(hash) => Ok(Held::Hash(HashAt {
                    own: Some(number),
                    summary: hash.summary,
                    beneath: self.referred(hash.beneath)?,
                })),
            },
        }
    }

    /// What an entry of either says of its key.
    pub(super) fn item(self, shard: &Shard, item: Item) -> Result<Held<'a>> {
        match item {
            Item::Own(location) => self.own(shard, location),
            Item::Stored(place) => {
                let (change, object) = self.behind(place)?;
                Ok(held(self.stored_key((place, change, object))?))
            }
        }
    }

    /// A field of a hash.
    pub(super) fn field(
        self,
        shard: &Shard,
        hash: &HashAt<'a>,
        field: &[u8],
    ) -> Result<FoundField<'a>> {
        let field_hash = self.hasher.hash(field).in_hash();
        if let Some(object) = hash.own.and_then(|number| shard.hash(number)) {
            let mut found = None;
            let is_it = |location| match location {
                Location::Record(offset) => {
                    found = stored_change(self.mapping, offset);
                    found.is_some_and(|change| change.field == field)
                }
                Location::Hash(_) => false,
            };
            if let Some((slot, location)) = object.fields.find(field_hash, is_it) {
                let record = match (location, found) {
                    (Location::Record(offset), Some(change)) => field_at(shard, offset, change),
                    _ => None,
                };
                return Ok(FoundField {
                    hash: field_hash,
                    slot: Some(slot),
                    record,
                });
            }
        }
        Ok(FoundField {
            hash: field_hash,
            slot: None,
            record: self.field_beneath(hash, field_hash, field)?,
        })
    }

    /// What the layers say of a field.
    pub(super) fn field_beneath(
        self,
        hash: &HashAt<'a>,
        field_hash: u32,
        field: &[u8],
    ) -> Result<Option<RecordAt<'a>>> {
        let mut next = hash.beneath;
        while let Some(stored) = next {
            let found =
                self.find_in_run(stored.fields, field_hash, |change| change.field == field)?;
            if let Some(found) = found {
                return Ok(stored_field(found));
            }
            next = self.referred(stored.beneath)?;
        }
        Ok(None)
    }

    fn own_field(self, shard: &Shard, location: Location) -> Result<Option<RecordAt<'a>>> {
        let Location::Record(offset) = location else {
            return Ok(None);
        };
        Ok(field_at(shard, offset, self.record(offset)?))
    }

    /// The fields of a hash from one with this hash on, those that have expired included.
    pub(super) fn fields_from<'s>(
        self,
        shard: &'s Shard,
        hash: &HashAt<'a>,
        first: u32,
    ) -> Result<impl Iterator<Item = Result<(u32, RecordAt<'a>)>>>
    where
        'a: 's,
    {
        let (entries, _) = self.field_entries_from(shard, hash, first, |_| false)?;
        Ok(entries.filter_map(move |entry| {
            let found = entry.and_then(|(hash, item)| Ok((hash, self.field_item(shard, item)?)));
            match found {
                Ok((hash, Some(record))) => Some(Ok((hash, record))),
                Ok((_, None)) => None,
                Err(error) => Some(Err(error)),
            }
        }))
    }

    /// The entries of a hash's fields, removed fields included.
    ///
    /// Omits the first object for which `is_left` returns true, and its ancestors. Also returns the
    /// reference of that object, or 0.
    pub(super) fn field_entries_from<'s>(
        self,
        shard: &'s Shard,
        hash: &HashAt<'a>,
        first: u32,
        is_left: impl Fn(u64) -> bool,
    ) -> Result<(FieldEntries<'s>, u64)>
    where
        'a: 's,
    {
        let object = hash.own.and_then(|number| shard.hash(number));
        let mut runs = Vec::new();
        let mut next = hash.beneath;
        let mut left = 0;
        while let Some(stored) = next {
            if is_left(stored.reference) {
                left = stored.reference;
                break;
            }
            runs.push(stored.fields);
            next = self.referred(stored.beneath)?;
        }
        let names = FieldNames(self);
        let own = object.map(|object| &object.fields);
        Ok((Merge::new(own, &runs, self, names, first), left))
    }

    /// What an entry of either says of its field; `None` where it is gone.
    pub(super) fn field_item(self, shard: &Shard, item: Item) -> Result<Option<RecordAt<'a>>> {
        match item {
            Item::Own(location) => self.own_field(shard, location),
            Item::Stored(place) => {
                let (change, object) = self.behind(place)?;
                Ok(stored_field((place, change, object)))
            }
        }
    }

    /// The entries of a shard's keys from a hash on, of the index in memory and so many layers; among them those of keys that are
    /// gone.
    pub(super) fn entries_from(
        self,
        shard: &'a Shard,
        number: usize,
        first: u32,
        layer_count: usize,
    ) -> impl Iterator<Item = Result<(u32, Item)>> {
        let runs = match (self.base, shard.continues) {
            (Some(base), Some(database)) => base.runs(self.mapping, database, number, layer_count),
            _ => Vec::new(),
        };
        let names = KeyNames {
            lookup: self,
            shard,
        };
        Merge::new(Some(&shard.keys), &runs, self, names, first)
    }

    /// Looks at the records of the next entries of the index in memory, so that the cache has them when they are walked over: misses that
    /// come one by one cost ten times as much.
    pub(super) fn touch_ahead(self, shard: &Shard, first: u32, count: usize) {
        let mut words = 0;
        for (_, location) in shard.keys.iter_from(first).take(count) {
            if let Location::Record(offset) = location {
                words ^= touch(self.mapping, offset);
            }
        }
        // So that the compiler does not leave it out.
        std::hint::black_box(words);
    }

    /// The keys of a shard from a hash on, those that have expired included.
    pub(super) fn keys_from(
        self,
        shard: &'a Shard,
        number: usize,
        first: u32,
    ) -> impl Iterator<Item = Result<(u32, Held<'a>)>> {
        self.entries_from(shard, number, first, usize::MAX)
            .filter_map(move |entry| {
                let held = entry.and_then(|(hash, item)| Ok((hash, self.item(shard, item)?)));
                match held {
                    Ok((_, Held::Nothing)) => None,
                    held => Some(held),
                }
            })
    }
}

impl<'a> HashAt<'a> {
    /// A hash that is in the layers alone.
    pub(super) fn of_stored(hash: StoredHash<'a>) -> HashAt<'a> {
        HashAt {
            own: None,
            summary: hash.summary,
            beneath: Some(hash),
        }
    }
}

/// What an entry of the index in memory stands for that leads to this record.
fn string<'a>(shard: &Shard, offset: u64, change: Change<'a>) -> Held<'a> {
    // Else it is the one that removed the key.
    match change.kind {
        Kind::Set => Held::String(record_at(shard, offset, change)),
        _ => Held::Nothing,
    }
}

/// As [`string`], of a field.
fn field_at<'a>(shard: &Shard, offset: u64, change: Change<'a>) -> Option<RecordAt<'a>> {
    (change.kind == Kind::HashSet).then(|| record_at(shard, offset, change))
}

fn record_at<'a>(shard: &Shard, offset: u64, change: Change<'a>) -> RecordAt<'a> {
    RecordAt {
        offset,
        change,
        deadline_ms: shard.deadline_ms(offset, change.deadline_ms),
    }
}

/// The answer of the layers alone, without the index in memory.
fn held(stored: Stored<'_>) -> Held<'_> {
    match stored {
        Stored::Gone => Held::Nothing,
        Stored::Record {
            offset,
            change,
            deadline_ms,
        } => Held::String(RecordAt {
            offset,
            change,
            deadline_ms,
        }),
        Stored::Hash(hash) => Held::Hash(HashAt::of_stored(hash)),
    }
}

/// What an entry of a layer's fields says; `None` where the field is gone.
fn stored_field((place, change, object): Match<'_>) -> Option<RecordAt<'_>> {
    if change.kind != Kind::HashSet {
        return None;
    }
    let (offset, deadline_ms) = match (object, place) {
        (
            Some(Object::Dated {
                offset,
                deadline_ms,
            }),
            _,
        ) => (offset, deadline_ms),
        (_, Place::Record(offset) | Place::Object(offset)) => (offset, change.deadline_ms),
    };
    Some(RecordAt {
        offset,
        change,
        deadline_ms,
    })
}

struct KeyNames<'a> {
    lookup: Lookup<'a>,
    shard: &'a Shard,
}

impl<'a> Names<'a> for KeyNames<'a> {
    fn name(&self, item: Item) -> Result<&'a [u8]> {
        let change = match item {
            Item::Own(Location::Record(offset)) => self.lookup.record(offset)?,
            Item::Own(Location::Hash(number)) => {
                let offset = self.shard.hash(number).map(|hash| hash.summary.key_offset);
                self.lookup.record(offset.unwrap_or_default())?
            }
            Item::Stored(place) => self.lookup.behind(place)?.0,
        };
        Ok(change.key)
    }
}

/// A walk over a hash's fields.
pub(super) type FieldEntries<'a> = Merge<'a, Lookup<'a>, FieldNames<'a>>;

pub(super) struct FieldNames<'a>(Lookup<'a>);

impl<'a> Names<'a> for FieldNames<'a> {
    fn name(&self, item: Item) -> Result<&'a [u8]> {
        let change = match item {
            Item::Own(Location::Record(offset)) => self.0.record(offset)?,
            // Fields have no objects of their own in memory.
            Item::Own(Location::Hash(_)) => return Ok(&[]),
            Item::Stored(place) => self.0.behind(place)?.0,
        };
        Ok(change.field)
    }
}
