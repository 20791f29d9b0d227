//! Reading: from a key to its value, and walking in hash order.

use std::sync::Arc;

use super::apply::{find_field, find_key};
use super::generation::Generation;
use super::{Engine, Value};
use crate::index::{HashObject, KeyHash, Location, SHARD_COUNT, Shard};
use crate::log::{Source, stored_change};
use crate::record::{self, Change};
use crate::storage::Mapping;
use crate::{Error, Result};

/// What a key holds, as far as can be told without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyState {
    Absent,
    /// A string, with its deadline, 0 for none.
    String {
        deadline_ms: u64,
    },
    /// A hash, with its deadline, 0 for none.
    Hash {
        deadline_ms: u64,
    },
}

impl KeyState {
    /// When the key is gone; `None` where it is absent or has no deadline.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        match *self {
            KeyState::Absent => None,
            KeyState::String { deadline_ms } | KeyState::Hash { deadline_ms } => {
                (deadline_ms != 0).then_some(deadline_ms)
            }
        }
    }
}

/// A value with its deadline, 0 for none.
#[derive(Debug, Clone)]
pub(crate) struct Dated {
    pub(crate) value: Value,
    pub(crate) deadline_ms: u64,
}

/// What the file holds for a key, expired or not.
pub(super) enum Stored {
    Absent,
    String(Dated),
    Hash {
        deadline_ms: u64,
        /// Fields that have a record, expired or not.
        field_count: u64,
        /// Fields whose time is not up.
        live_field_count: u64,
    },
}

/// A page of keys, and where the next one begins; 0 at the end.
pub(crate) struct KeyPage {
    pub(crate) cursor: u64,
    pub(crate) keys: Vec<(Value, KeyState)>,
}

/// A page of fields, and where the next one begins; 0 at the end.
pub(crate) struct FieldPage {
    pub(crate) cursor: u64,
    pub(crate) fields: Vec<(Value, Value)>,
}

/// Hashes that a shard's entries tell apart; a scan's cursor is a shard's number times this, plus such a hash.
const HASHES_IN_SHARD: u64 = 1 << 26;

/// Whether a deadline, 0 for none, has passed.
pub(super) fn has_passed(deadline_ms: u64, now_ms: u64) -> bool {
    deadline_ms != 0 && deadline_ms <= now_ms
}

/// A shard locked for reading, with the mapping that shows its records.
struct View<'a> {
    engine: &'a Engine,
    generation: &'a Generation,
    shard: &'a Shard,
    mapping: &'a Arc<Mapping>,
}

impl Engine {
    pub(crate) fn key(&self, database: u8, key: &[u8]) -> Result<KeyState> {
        self.view_of(database, key, |view, hash| {
            view.locate(hash, key)
                .map_or(Ok(KeyState::Absent), |location| view.key_state(location))
        })
        .map(|found| found.unwrap_or(KeyState::Absent))
    }

    pub(crate) fn string(&self, database: u8, key: &[u8]) -> Result<Option<Value>> {
        let found = self.view_of(database, key, |view, hash| view.string(hash, key))?;
        Ok(found.flatten())
    }

    /// Several strings at one moment. A hash counts as absent.
    pub(crate) fn strings<K: AsRef<[u8]>>(
        &self,
        database: u8,
        keys: &[K],
    ) -> Result<Vec<Option<Value>>> {
        self.at_one_moment(database, keys, |view, hash, key| {
            match view.string(hash, key) {
                Err(Error::WrongType) => Ok(None),
                found => found,
            }
        })
    }

    /// What several keys hold, at one moment; `None` for one that is not there.
    pub(crate) fn states<K: AsRef<[u8]>>(
        &self,
        database: u8,
        keys: &[K],
    ) -> Result<Vec<Option<KeyState>>> {
        self.at_one_moment(database, keys, |view, hash, key| {
            let state = match view.locate(hash, key) {
                Some(location) => view.key_state(location)?,
                None => KeyState::Absent,
            };
            Ok((state != KeyState::Absent).then_some(state))
        })
    }

    /// Looks up several keys while no commit can change any of them.
    fn at_one_moment<K: AsRef<[u8]>, R: Clone>(
        &self,
        database: u8,
        keys: &[K],
        look: impl Fn(&View<'_>, KeyHash, &[u8]) -> Result<Option<R>>,
    ) -> Result<Vec<Option<R>>> {
        self.look_for_news()?;
        let generation = self.generation_now();
        let hashes: Vec<KeyHash> = keys
            .iter()
            .map(|key| generation.hasher.hash(key.as_ref()))
            .collect();
        let mut numbers: Vec<usize> = hashes.iter().map(|hash| hash.shard()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        // All at once and in order, as a commit locks them: no half of it can be seen.
        let Some(shards) = numbers
            .iter()
            .map(|number| generation.index.read(database, *number))
            .collect::<Option<Vec<_>>>()
        else {
            return Ok(vec![None; keys.len()]);
        };
        let mapping = generation.mapping();
        let read = |(key, hash): (&K, &KeyHash)| {
            let Ok(at) = numbers.binary_search(&hash.shard()) else {
                return Ok(None);
            };
            let view = View {
                engine: self,
                generation: &generation,
                shard: &shards[at],
                mapping: &mapping,
            };
            look(&view, *hash, key.as_ref())
        };
        keys.iter().zip(&hashes).map(read).collect()
    }

    pub(crate) fn field(&self, database: u8, key: &[u8], field: &[u8]) -> Result<Option<Value>> {
        self.view_of(database, key, |view, hash| {
            let Some(object) = view.hash(hash, key)? else {
                return Ok(None);
            };
            view.live_field(object, field)
        })
        .map(Option::flatten)
    }

    /// Several fields of one hash, at one moment.
    pub(crate) fn some_fields<F: AsRef<[u8]>>(
        &self,
        database: u8,
        key: &[u8],
        fields: &[F],
    ) -> Result<Vec<Option<Value>>> {
        let absent = || vec![None; fields.len()];
        let found = self.view_of(database, key, |view, hash| {
            let Some(object) = view.hash(hash, key)? else {
                return Ok(absent());
            };
            fields
                .iter()
                .map(|field| view.live_field(object, field.as_ref()))
                .collect()
        })?;
        Ok(found.unwrap_or_else(absent))
    }

    pub(crate) fn fields(&self, database: u8, key: &[u8]) -> Result<Vec<(Value, Value)>> {
        let page = self.scan_fields(database, key, 0, usize::MAX)?;
        Ok(page.fields)
    }

    pub(crate) fn field_count(&self, database: u8, key: &[u8]) -> Result<u64> {
        self.view_of(database, key, |view, hash| {
            let object = view.hash(hash, key)?;
            Ok(object.map_or(0, |object| view.live_field_count(object, || self.now_ms())))
        })
        .map(|found| found.unwrap_or(0))
    }

    /// About `count` keys in hash order from a cursor on.
    pub(crate) fn scan_keys(&self, database: u8, cursor: u64, count: usize) -> Result<KeyPage> {
        self.look_for_news()?;
        let generation = self.generation_now();
        let mut keys = Vec::new();
        let mut seen = 0;
        let mut shard = cursor / HASHES_IN_SHARD;
        let mut first = u32::try_from(cursor % HASHES_IN_SHARD).unwrap_or_default();
        while let Some(number) = usize::try_from(shard)
            .ok()
            .filter(|number| *number < SHARD_COUNT)
        {
            let next = self.view_in(&generation, database, number, |view| {
                walk(view.shard.keys.iter_from(first), count - seen, |location| {
                    seen += 1;
                    let state = view.key_state(location)?;
                    if state != KeyState::Absent {
                        keys.extend(view.key_of(location).map(|key| (key, state)));
                    }
                    Ok(())
                })
            });
            if let Some(hash) = next?.flatten() {
                return Ok(KeyPage {
                    cursor: shard * HASHES_IN_SHARD + u64::from(hash),
                    keys,
                });
            }
            shard += 1;
            first = 0;
            if seen >= count && shard < SHARD_COUNT as u64 {
                return Ok(KeyPage {
                    cursor: shard * HASHES_IN_SHARD,
                    keys,
                });
            }
        }
        Ok(KeyPage { cursor: 0, keys })
    }

    /// About `count` fields of a hash in hash order from a cursor on.
    pub(crate) fn scan_fields(
        &self,
        database: u8,
        key: &[u8],
        cursor: u64,
        count: usize,
    ) -> Result<FieldPage> {
        let mut page = FieldPage {
            cursor: 0,
            fields: Vec::new(),
        };
        let Ok(first) = u32::try_from(cursor) else {
            return Ok(page);
        };
        let next = self.view_of(database, key, |view, hash| {
            let Some(object) = view.hash(hash, key)? else {
                return Ok(None);
            };
            let now_ms = self.now_ms();
            walk(object.fields.iter_from(first), count, |location| {
                if let Location::Record(offset) = location {
                    let (change, dated) = view.dated(offset)?;
                    if !has_passed(dated.deadline_ms, now_ms) {
                        let field = view.part(change.field, offset + view.field_at(&change));
                        page.fields.push((field, dated.value));
                    }
                }
                Ok(())
            })
        });
        page.cursor = next?.flatten().map_or(0, u64::from);
        Ok(page)
    }

    /// What the file holds for a key, expired or not: what a transaction begins with.
    pub(super) fn stored(&self, database: u8, key: &[u8], now_ms: u64) -> Result<Stored> {
        self.view_of(database, key, |view, hash| {
            Ok(match view.locate(hash, key) {
                None => Stored::Absent,
                Some(Location::Record(offset)) => Stored::String(view.dated(offset)?.1),
                Some(Location::Hash(number)) => match view.shard.hash(number) {
                    None => Stored::Absent,
                    Some(object) => Stored::Hash {
                        deadline_ms: object.deadline_ms,
                        field_count: object.fields.len() as u64,
                        live_field_count: view.live_field_count(object, || now_ms),
                    },
                },
            })
        })
        .map(|found| found.unwrap_or(Stored::Absent))
    }

    /// A field of a hash, expired or not.
    pub(super) fn stored_field(
        &self,
        database: u8,
        key: &[u8],
        field: &[u8],
    ) -> Result<Option<Dated>> {
        self.view_of(database, key, |view, hash| match view.locate(hash, key) {
            Some(Location::Hash(number)) => match view.shard.hash(number) {
                Some(object) => view.field(object, field),
                None => Ok(None),
            },
            _ => Ok(None),
        })
        .map(Option::flatten)
    }

    /// Looks into the shard of a key, after what others have written was applied; `None` where the database never
    /// held anything.
    fn view_of<R>(
        &self,
        database: u8,
        key: &[u8],
        look: impl FnOnce(&View<'_>, KeyHash) -> Result<R>,
    ) -> Result<Option<R>> {
        self.look_for_news()?;
        let generation = self.generation_now();
        let hash = generation.hasher.hash(key);
        self.view_in(&generation, database, hash.shard(), |view| look(view, hash))
    }

    fn view_in<R>(
        &self,
        generation: &Generation,
        database: u8,
        shard: usize,
        look: impl FnOnce(&View<'_>) -> Result<R>,
    ) -> Result<Option<R>> {
        let Some(shard) = generation.index.read(database, shard) else {
            return Ok(None);
        };
        // Taken after the lock on the shard, so that it shows all that the shard points at
        // (invariant 2).
        let mapping = generation.mapping();
        let view = View {
            engine: self,
            generation,
            shard: &shard,
            mapping: &mapping,
        };
        look(&view).map(Some)
    }
}

/// Calls `visit` for about `count` entries, and gives back the hash to go on from. Entries of one
/// hash are never parted, since a cursor cannot tell them apart.
fn walk(
    entries: impl Iterator<Item = (u32, Location)>,
    count: usize,
    mut visit: impl FnMut(Location) -> Result<()>,
) -> Result<Option<u32>> {
    let mut last = None;
    for (seen, (hash, location)) in entries.enumerate() {
        if seen >= count && last != Some(hash) {
            return Ok(Some(hash));
        }
        last = Some(hash);
        visit(location)?;
    }
    Ok(None)
}

impl View<'_> {
    fn locate(&self, hash: KeyHash, key: &[u8]) -> Option<Location> {
        find_key(self.shard, self.mapping, hash, key).map(|slot| self.shard.keys.location(slot))
    }

    fn string(&self, hash: KeyHash, key: &[u8]) -> Result<Option<Value>> {
        match self.locate(hash, key) {
            None => Ok(None),
            Some(Location::Record(offset)) => {
                let (_, dated) = self.dated(offset)?;
                let expired =
                    dated.deadline_ms != 0 && has_passed(dated.deadline_ms, self.engine.now_ms());
                if !expired {
                    self.generation.note_read(offset);
                }
                Ok((!expired).then_some(dated.value))
            }
            Some(location) => match self.key_state(location)? {
                KeyState::Absent => Ok(None),
                _ => Err(Error::WrongType),
            },
        }
    }

    /// The hash at a key; `None` where there is none or its time is up.
    fn hash(&self, hash: KeyHash, key: &[u8]) -> Result<Option<&HashObject>> {
        let Some(location) = self.locate(hash, key) else {
            return Ok(None);
        };
        match (self.key_state(location)?, location) {
            (KeyState::Absent, _) => Ok(None),
            (KeyState::Hash { .. }, Location::Hash(number)) => {
                let object = self.shard.hash(number);
                if let Some(object) = object {
                    self.generation.note_read(object.key_offset);
                }
                Ok(object)
            }
            _ => Err(Error::WrongType),
        }
    }

    fn key_state(&self, location: Location) -> Result<KeyState> {
        let state = match location {
            Location::Record(offset) => KeyState::String {
                deadline_ms: self.change(offset)?.1,
            },
            Location::Hash(number) => match self.shard.hash(number) {
                Some(object) if self.live_field_count(object, || self.engine.now_ms()) > 0 => {
                    KeyState::Hash {
                        deadline_ms: object.deadline_ms,
                    }
                }
                _ => KeyState::Absent,
            },
        };
        match state.deadline_ms() {
            Some(deadline_ms) if has_passed(deadline_ms, self.engine.now_ms()) => {
                Ok(KeyState::Absent)
            }
            _ => Ok(state),
        }
    }

    fn field(&self, object: &HashObject, field: &[u8]) -> Result<Option<Dated>> {
        let hash = self.generation.hasher.hash(field);
        match find_field(&object.fields, self.mapping, hash, field) {
            None => Ok(None),
            Some((_, offset, _)) => Ok(Some(self.dated(offset)?.1)),
        }
    }

    fn live_field(&self, object: &HashObject, field: &[u8]) -> Result<Option<Value>> {
        let found = self.field(object, field)?;
        Ok(found
            .filter(|dated| {
                dated.deadline_ms == 0 || !has_passed(dated.deadline_ms, self.engine.now_ms())
            })
            .map(|dated| dated.value))
    }

    /// The clock is asked only if a field has a deadline.
    fn live_field_count(&self, object: &HashObject, now_ms: impl FnOnce() -> u64) -> u64 {
        let mut count = object.fields.len() as u64;
        if object.expiring_fields > 0 {
            let now_ms = now_ms();
            for (_, location) in object.fields.iter_from(0) {
                if let Location::Record(offset) = location
                    && let Some(change) = stored_change(&**self.mapping, offset)
                    && has_passed(self.shard.deadline_ms(offset, change.deadline_ms), now_ms)
                {
                    count -= 1;
                }
            }
        }
        count
    }

    /// The key that an entry stands for.
    fn key_of(&self, location: Location) -> Option<Value> {
        let offset = match location {
            Location::Record(offset) => offset,
            Location::Hash(number) => self.shard.hash(number)?.key_offset,
        };
        let change = stored_change(&**self.mapping, offset)?;
        Some(self.part(change.key, offset + record::HEADER_BYTES as u64))
    }

    fn part(&self, bytes: &[u8], offset: u64) -> Value {
        Value::mapped(self.mapping, offset, bytes.len())
    }

    /// Where the field begins, counted from the record's start.
    fn field_at(&self, change: &Change<'_>) -> u64 {
        (record::HEADER_BYTES + change.key.len()) as u64
    }

    /// A live record, with its value and the deadline that counts now.
    fn dated(&self, offset: u64) -> Result<(Change<'_>, Dated)> {
        let (change, deadline_ms) = self.change(offset)?;
        let value_at = self.field_at(&change) + change.field.len() as u64;
        let value = self.part(change.value, offset + value_at);
        Ok((change, Dated { value, deadline_ms }))
    }

    /// A live record, with the deadline that counts now; its checksum is checked where the options ask for it.
    fn change(&self, offset: u64) -> Result<(Change<'_>, u64)> {
        let mapping: &Mapping = self.mapping;
        let corrupt = |reason: &str| Error::corrupt(&self.engine.path, offset, reason);
        if self.engine.settings.verify_on_read {
            let size = Source::word(mapping, offset)
                .and_then(|word| record::size_of_record(word).ok())
                .ok_or_else(|| corrupt("there is no record any more"))?;
            let bytes = Source::bytes(mapping, offset, size)
                .ok_or_else(|| corrupt("the record goes beyond the file"))?;
            record::verify(bytes, self.generation.header.salt, offset)
                .map_err(|reason| corrupt(&reason.to_string()))?;
        }
        let change = stored_change(mapping, offset)
            .ok_or_else(|| corrupt("there is no valid record any more"))?;
        Ok((change, self.shard.deadline_ms(offset, change.deadline_ms)))
    }
}
