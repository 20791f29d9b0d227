//! Reading: finds the shard of a key, and walks in hash order. [`view`](super::view) reads within
//! one shard.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use super::generation::{Contents, Generation};
use super::lookup::Held;
use super::view::{View, field_at};
use super::{Engine, Value};
use crate::index::{KeyHash, SHARD_COUNT, Shard};
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
        /// Fields that have not expired; where they were not counted, 1 if there is any.
        live_field_count: u64,
    },
}

/// A page of keys, and where the next one begins; 0 at the end.
#[derive(Default)]
pub(crate) struct KeyPage {
    pub(crate) cursor: u64,
    pub(crate) keys: Vec<(Value, KeyState)>,
    /// Expired keys on the way that are still in the index.
    pub(crate) expired: Vec<Value>,
}

/// A page of fields, and where the next one begins; 0 at the end.
#[derive(Default)]
pub(crate) struct FieldPage {
    pub(crate) cursor: u64,
    pub(crate) fields: Vec<(Value, Dated)>,
}

/// Hashes that a shard's entries tell apart; a scan's cursor is a shard's number times this, plus such a hash.
const HASHES_IN_SHARD: u64 = 1 << 26;

/// The hash of every field is below this.
pub(crate) const FIELD_HASHES: u32 = 1 << 26;

/// Every cursor of a walk over keys is below this.
pub(crate) const SCAN_END: u64 = HASHES_IN_SHARD * SHARD_COUNT as u64;

/// Whether a deadline, 0 for none, has passed.
pub(super) fn has_passed(deadline_ms: u64, now_ms: u64) -> bool {
    deadline_ms != 0 && deadline_ms <= now_ms
}

impl Engine {
    pub(crate) fn key(&self, database: u8, key: &[u8]) -> Result<KeyState> {
        self.view_of(database, key, |view, hash| {
            view.key_state(&view.held(hash, key)?)
        })
        .map(|found| found.unwrap_or(KeyState::Absent))
    }

    pub(crate) fn string(&self, database: u8, key: &[u8]) -> Result<Option<Value>> {
        let found = self.view_of(database, key, |view, hash| view.string(hash, key))?;
        Ok(found.flatten())
    }

    /// A string; `judged_ms` becomes the time at which its deadline was judged, where it has one.
    pub(crate) fn string_and_time(
        &self,
        database: u8,
        key: &[u8],
        judged_ms: &Cell<u64>,
    ) -> Result<Option<Value>> {
        let now_ms = || {
            judged_ms.set(self.now_ms());
            judged_ms.get()
        };
        let found = self.view_of(database, key, |view, hash| {
            view.string_at(hash, key, now_ms)
        })?;
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
            let state = view.key_state(&view.held(hash, key)?)?;
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
        let generation = self.generation_with_news()?;
        let hashes: Vec<KeyHash> = keys
            .iter()
            .map(|key| generation.hasher.hash(key.as_ref()))
            .collect();
        let mut numbers: Vec<usize> = hashes.iter().map(|hash| hash.shard()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        // All at once and in order, as a commit locks them: no half of it can be seen.
        let found = self.views_in(&generation, database, &numbers, |views| {
            let read = |(key, hash): (&K, &KeyHash)| {
                let Ok(at) = numbers.binary_search(&hash.shard()) else {
                    return Ok(None);
                };
                look(&views[at], *hash, key.as_ref())
            };
            keys.iter().zip(&hashes).map(read).collect()
        })?;
        Ok(found.unwrap_or_else(|| vec![None; keys.len()]))
    }

    pub(crate) fn field(&self, database: u8, key: &[u8], field: &[u8]) -> Result<Option<Value>> {
        self.view_of(database, key, |view, hash| {
            let Some(hash) = view.hash(hash, key)? else {
                return Ok(None);
            };
            let found = view.live_field(&hash, field)?;
            Ok(found.map(|dated| dated.value))
        })
        .map(Option::flatten)
    }

    /// Several fields of one hash, at one moment.
    pub(crate) fn some_fields<F: AsRef<[u8]>>(
        &self,
        database: u8,
        key: &[u8],
        fields: &[F],
    ) -> Result<Vec<Option<Dated>>> {
        let absent = || vec![None; fields.len()];
        let found = self.view_of(database, key, |view, hash| {
            let Some(hash) = view.hash(hash, key)? else {
                return Ok(absent());
            };
            fields
                .iter()
                .map(|field| view.live_field(&hash, field.as_ref()))
                .collect()
        })?;
        Ok(found.unwrap_or_else(absent))
    }

    pub(crate) fn field_count(&self, database: u8, key: &[u8]) -> Result<u64> {
        self.view_of(database, key, |view, hash| match view.hash(hash, key)? {
            None => Ok(0),
            Some(hash) => view.live_field_count(&hash, || self.now_ms()),
        })
        .map(|found| found.unwrap_or(0))
    }

    /// About `count` keys in hash order from a cursor on.
    pub(crate) fn scan_keys(&self, database: u8, cursor: u64, count: usize) -> Result<KeyPage> {
        let generation = self.generation_with_news()?;
        let mut keys = Vec::new();
        let mut expired = Vec::new();
        let mut seen = 0;
        let mut shard = cursor / HASHES_IN_SHARD;
        let mut first = u32::try_from(cursor % HASHES_IN_SHARD).unwrap_or_default();
        while let Some(number) = usize::try_from(shard)
            .ok()
            .filter(|number| *number < SHARD_COUNT)
        {
            let page = self.view_in(&generation, database, number, |view| {
                let (mut found, mut gone) = (Vec::new(), Vec::new());
                view.lookup.touch_ahead(view.shard, first, count - seen);
                let lookup = view.lookup;
                let entries = lookup.entries_from(view.shard, number, first, usize::MAX);
                let mut visited = 0;
                let next = walk(entries, count - seen, |item| {
                    visited += 1;
                    match view.named(item)? {
                        None => {}
                        Some((key, KeyState::Absent)) => gone.push(key),
                        Some(key) => found.push(key),
                    }
                    Ok(())
                })?;
                Ok((next, found, gone, visited))
            })?;
            let (next, found, gone, visited) = page.unwrap_or_default();
            keys.extend(found);
            expired.extend(gone);
            seen += visited;
            if let Some(hash) = next {
                return Ok(KeyPage {
                    cursor: shard * HASHES_IN_SHARD + u64::from(hash),
                    keys,
                    expired,
                });
            }
            shard += 1;
            first = 0;
            if seen >= count && shard < SHARD_COUNT as u64 {
                return Ok(KeyPage {
                    cursor: shard * HASHES_IN_SHARD,
                    keys,
                    expired,
                });
            }
        }
        Ok(KeyPage {
            cursor: 0,
            keys,
            expired,
        })
    }

    /// About `count` fields of a hash in hash order from a cursor on.
    pub(crate) fn scan_fields(
        &self,
        database: u8,
        key: &[u8],
        cursor: u64,
        count: usize,
    ) -> Result<FieldPage> {
        let Ok(first) = u32::try_from(cursor) else {
            return Ok(FieldPage::default());
        };
        let page = self.view_of(database, key, |view, hash| {
            let mut page = FieldPage::default();
            let Some(hash) = view.hash(hash, key)? else {
                return Ok(page);
            };
            let now_ms = self.now_ms();
            let fields = view.lookup.fields_from(view.shard, &hash, first)?;
            let next = walk(fields, count, |record| {
                view.check(&record)?;
                if !has_passed(record.deadline_ms, now_ms) {
                    let field = view.part(record.change.field, record.offset + field_at(&record));
                    page.fields.push((field, view.dated(&record)));
                }
                Ok(())
            })?;
            page.cursor = next.map_or(0, u64::from);
            Ok(page)
        })?;
        Ok(page.unwrap_or_default())
    }

    /// The fields of a hash, for a range of the fields' hash values.
    pub(crate) fn fields_between(
        &self,
        database: u8,
        key: &[u8],
        hashes: Range<u32>,
    ) -> Result<Vec<(Value, Dated)>> {
        let found = self.view_of(database, key, |view, hash| {
            let mut found = Vec::new();
            let Some(hash) = view.hash(hash, key)? else {
                return Ok(found);
            };
            let now_ms = self.now_ms();
            for entry in view.lookup.fields_from(view.shard, &hash, hashes.start)? {
                let (own, record) = entry?;
                if own >= hashes.end {
                    break;
                }
                view.check(&record)?;
                if !has_passed(record.deadline_ms, now_ms) {
                    let field = view.part(record.change.field, record.offset + field_at(&record));
                    found.push((field, view.dated(&record)));
                }
            }
            Ok(found)
        })?;
        Ok(found.unwrap_or_default())
    }

    /// The place of a field among those of its hash, see [`Engine::fields_between`].
    pub(super) fn field_hash(&self, field: &[u8]) -> Result<u32> {
        let generation = self.generation_with_news()?;
        Ok(generation.hasher.hash(field).in_hash())
    }

    /// The bytes of the log that a key needs; `None` where it is absent.
    pub(crate) fn live_bytes_of(&self, database: u8, key: &[u8]) -> Result<Option<u64>> {
        let found = self.view_of(database, key, |view, hash| {
            let held = view.held(hash, key)?;
            Ok(match (view.key_state(&held)?, held) {
                (KeyState::Absent, _) | (_, Held::Nothing) => None,
                (_, Held::String(record)) => Some(record.change.size_bytes()),
                (_, Held::Hash(hash)) => {
                    Some(view.lookup.live_bytes(view.shard, &hash, self.now_ms())?)
                }
            })
        })?;
        Ok(found.flatten())
    }

    /// What the file holds for a key, expired or not: what a transaction begins with. Live fields are
    /// counted where that is asked for, and else up to one.
    pub(super) fn stored(
        &self,
        database: u8,
        key: &[u8],
        is_counted: bool,
        now_ms: impl FnMut() -> u64,
    ) -> Result<Stored> {
        let now_ms = RefCell::new(now_ms);
        self.view_of(database, key, |view, hash| {
            view.stored(view.held(hash, key)?, is_counted, || now_ms.borrow_mut()())
        })
        .map(|found| found.unwrap_or(Stored::Absent))
    }

    /// As [`Engine::stored`] without counting, and a field of it, expired or not.
    pub(super) fn stored_with_field(
        &self,
        database: u8,
        key: &[u8],
        field: &[u8],
        now_ms: impl FnMut() -> u64,
    ) -> Result<(Stored, Option<Dated>)> {
        let now_ms = RefCell::new(now_ms);
        self.view_of(database, key, |view, hash| {
            let held = view.held(hash, key)?;
            let found = match &held {
                Held::Hash(hash) => view.field(hash, field)?,
                _ => None,
            };
            Ok((view.stored(held, false, || now_ms.borrow_mut()())?, found))
        })
        .map(|found| found.unwrap_or((Stored::Absent, None)))
    }

    /// A field of a hash, expired or not.
    pub(super) fn stored_field(
        &self,
        database: u8,
        key: &[u8],
        field: &[u8],
    ) -> Result<Option<Dated>> {
        self.view_of(database, key, |view, hash| match view.held(hash, key)? {
            Held::Hash(hash) => view.field(&hash, field),
            _ => Ok(None),
        })
        .map(Option::flatten)
    }

    /// Does something that reads much of the file, and once more where the checkpoint turned out not to hold on the way. The caller
    /// holds no lock of the index, and not the tail.
    pub(super) fn with_sound_checkpoint<R>(&self, mut act: impl FnMut() -> Result<R>) -> Result<R> {
        match act() {
            Err(_) if self.generation().is_given_up() => {
                self.generation().rebuild()?;
                act()
            }
            done => done,
        }
    }

    /// Looks into the shard of a key, after what others have written was applied; `None` where the database never
    /// held anything.
    fn view_of<R>(
        &self,
        database: u8,
        key: &[u8],
        look: impl Fn(&View<'_>, KeyHash) -> Result<R>,
    ) -> Result<Option<R>> {
        let generation = self.generation_with_news()?;
        let hash = generation.hasher.hash(key);
        self.view_in(&generation, database, hash.shard(), |view| look(view, hash))
    }

    fn view_in<R>(
        &self,
        generation: &Generation,
        database: u8,
        number: usize,
        look: impl Fn(&View<'_>) -> Result<R>,
    ) -> Result<Option<R>> {
        loop {
            let contents = generation.contents();
            let Some(shard) = contents.index.read(database, number) else {
                return Ok(None);
            };
            let found = self.view(generation, contents, &shard, &look);
            if !generation.is_given_up() {
                return found.map(Some);
            }
            drop(shard);
            generation.rebuild()?;
        }
    }

    /// As [`Engine::view_in`], into several shards at once, in ascending order.
    fn views_in<R>(
        &self,
        generation: &Generation,
        database: u8,
        numbers: &[usize],
        look: impl Fn(&[View<'_>]) -> Result<R>,
    ) -> Result<Option<R>> {
        loop {
            let contents = generation.contents();
            let shards = numbers
                .iter()
                .map(|number| contents.index.read(database, *number));
            let Some(shards) = shards.collect::<Option<Vec<_>>>() else {
                return Ok(None);
            };
            let mapping = generation.mapping();
            let views: Vec<View<'_>> = shards
                .iter()
                .map(|shard| View::new(self, generation, contents, shard, mapping))
                .collect();
            let found = look(&views);
            drop(views);
            if !generation.is_given_up() {
                return found.map(Some);
            }
            drop(shards);
            generation.rebuild()?;
        }
    }

    fn view<R>(
        &self,
        generation: &Generation,
        contents: &Contents,
        shard: &Shard,
        look: impl Fn(&View<'_>) -> Result<R>,
    ) -> Result<R> {
        // Taken after the lock on the shard, so that it shows all that the shard points at
        // (invariant 2).
        let mapping = generation.mapping();
        look(&View::new(self, generation, contents, shard, mapping))
    }
}

/// Calls `visit` for about `count` entries, and returns the hash to continue from. Entries of one
/// hash are never separated, since a cursor cannot tell them apart.
fn walk<T>(
    entries: impl Iterator<Item = Result<(u32, T)>>,
    count: usize,
    mut visit: impl FnMut(T) -> Result<()>,
) -> Result<Option<u32>> {
    let mut last = None;
    for (seen, entry) in entries.enumerate() {
        let (hash, found) = entry?;
        if seen >= count && last != Some(hash) {
            return Ok(Some(hash));
        }
        last = Some(hash);
        visit(found)?;
    }
    Ok(None)
}
