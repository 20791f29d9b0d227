//! One locked shard with the mapping of its records: looks entries up, judges them by the clock,
//! and returns them without a copy.
//!
//! It must not know how the shard was locked, nor any other shard: that belongs to
//! [`read`](super::read).

use super::generation::{Contents, Generation};
use super::lookup::{HashAt, Held, Lookup, RecordAt};
use super::read::{Dated, KeyState, Stored, has_passed};
use super::{Engine, Value};
use crate::index::{Item, KeyHash, Location, Shard};
use crate::log::stored_change;
use crate::record::{self, Kind};
use crate::storage::Mapping;
use crate::sync::Arc;
use crate::{Error, Result};

/// A shard locked for reading, with the mapping that shows its records.
pub(super) struct View<'a> {
    engine: &'a Engine,
    generation: &'a Generation,
    pub(super) shard: &'a Shard,
    mapping: &'a Arc<Mapping>,
    pub(super) lookup: Lookup<'a>,
}

/// Where the field begins, counted from the record's start.
pub(super) fn field_at(record: &RecordAt<'_>) -> u64 {
    (record::HEADER_BYTES + record.change.key.len()) as u64
}

impl<'a> View<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        generation: &'a Generation,
        contents: &'a Contents,
        shard: &'a Shard,
        mapping: &'a Arc<Mapping>,
    ) -> View<'a> {
        View {
            engine,
            generation,
            shard,
            mapping,
            lookup: generation.lookup(contents, mapping),
        }
    }

    pub(super) fn held(&self, hash: KeyHash, key: &[u8]) -> Result<Held<'a>> {
        Ok(self.lookup.key(self.shard, hash, key)?.held)
    }

    pub(super) fn string(&self, hash: KeyHash, key: &[u8]) -> Result<Option<Value>> {
        self.string_at(hash, key, || self.engine.now_ms())
    }

    pub(super) fn string_at(
        &self,
        hash: KeyHash,
        key: &[u8],
        now_ms: impl FnOnce() -> u64,
    ) -> Result<Option<Value>> {
        match self.held(hash, key)? {
            Held::Nothing => Ok(None),
            Held::String(record) => {
                self.check(&record)?;
                let expired = record.deadline_ms != 0 && has_passed(record.deadline_ms, now_ms());
                if !expired {
                    self.generation.note_read(record.offset);
                }
                Ok((!expired).then(|| self.value(&record)))
            }
            held @ Held::Hash(_) => match self.key_state(&held)? {
                KeyState::Absent => Ok(None),
                _ => Err(Error::WrongType),
            },
        }
    }

    /// What is there, expired or not. Of a hash the live fields are counted where that is asked for, and else
    /// up to one.
    pub(super) fn stored(
        &self,
        held: Held<'a>,
        is_counted: bool,
        now_ms: impl FnOnce() -> u64,
    ) -> Result<Stored> {
        Ok(match held {
            Held::Nothing => Stored::Absent,
            Held::String(record) => {
                self.check(&record)?;
                Stored::String(self.dated(&record))
            }
            Held::Hash(hash) => Stored::Hash {
                deadline_ms: hash.summary.deadline_ms,
                field_count: hash.summary.field_count,
                live_field_count: match is_counted {
                    true => self.live_field_count(&hash, now_ms)?,
                    false => u64::from(self.has_live_field(&hash, now_ms)?),
                },
            },
        })
    }

    /// The hash at a key; `None` where there is none or its time is up.
    pub(super) fn hash(&self, hash: KeyHash, key: &[u8]) -> Result<Option<HashAt<'a>>> {
        let held = self.held(hash, key)?;
        match (self.key_state(&held)?, held) {
            (KeyState::Absent, _) => Ok(None),
            (_, Held::Hash(hash)) => {
                self.generation.note_read(hash.summary.key_offset);
                Ok(Some(hash))
            }
            _ => Err(Error::WrongType),
        }
    }

    pub(super) fn key_state(&self, held: &Held<'a>) -> Result<KeyState> {
        let state = match held {
            Held::Nothing => KeyState::Absent,
            Held::String(record) => KeyState::String {
                deadline_ms: record.deadline_ms,
            },
            Held::Hash(hash) => match self.has_live_field(hash, || self.engine.now_ms())? {
                false => KeyState::Absent,
                true => KeyState::Hash {
                    deadline_ms: hash.summary.deadline_ms,
                },
            },
        };
        match state.deadline_ms() {
            Some(deadline_ms) if has_passed(deadline_ms, self.engine.now_ms()) => {
                Ok(KeyState::Absent)
            }
            _ => Ok(state),
        }
    }

    pub(super) fn field(&self, hash: &HashAt<'a>, field: &[u8]) -> Result<Option<Dated>> {
        match self.lookup.field(self.shard, hash, field)?.record {
            None => Ok(None),
            Some(record) => {
                self.check(&record)?;
                Ok(Some(self.dated(&record)))
            }
        }
    }

    pub(super) fn live_field(&self, hash: &HashAt<'a>, field: &[u8]) -> Result<Option<Dated>> {
        let found = self.field(hash, field)?;
        Ok(found.filter(|dated| {
            dated.deadline_ms == 0 || !has_passed(dated.deadline_ms, self.engine.now_ms())
        }))
    }

    pub(super) fn live_field_count(
        &self,
        hash: &HashAt<'a>,
        now_ms: impl FnOnce() -> u64,
    ) -> Result<u64> {
        self.lookup.live_field_count(self.shard, hash, now_ms)
    }

    fn has_live_field(&self, hash: &HashAt<'a>, now_ms: impl FnOnce() -> u64) -> Result<bool> {
        self.lookup.has_live_field(self.shard, hash, now_ms)
    }

    /// The key that an entry stands for and what it holds, nothing where its time is up; `None` where the entry says that it is gone.
    pub(super) fn named(&self, item: Item) -> Result<Option<(Value, KeyState)>> {
        if let Item::Own(Location::Record(offset)) = item
            && let Some(change) = stored_change(&**self.mapping, offset)
            && change.kind == Kind::Set
        {
            // Nearly all there are, by the shortest way.
            self.check_at(offset)?;
            let key = self.part(change.key, offset + record::HEADER_BYTES as u64);
            let deadline_ms = self.shard.deadline_ms(offset, change.deadline_ms);
            let is_over = deadline_ms != 0 && has_passed(deadline_ms, self.engine.now_ms());
            let state = match is_over {
                true => KeyState::Absent,
                false => KeyState::String { deadline_ms },
            };
            return Ok(Some((key, state)));
        }
        match self.lookup.item(self.shard, item)? {
            Held::Nothing => Ok(None),
            held => Ok(Some((self.key_of(&held)?, self.key_state(&held)?))),
        }
    }

    /// The key that an entry stands for.
    pub(super) fn key_of(&self, held: &Held<'a>) -> Result<Value> {
        let (offset, change) = match held {
            Held::String(record) => (record.offset, record.change),
            Held::Hash(hash) => {
                let offset = hash.summary.key_offset;
                (offset, self.lookup.record(offset)?)
            }
            Held::Nothing => return Ok(Value::owned(&[])),
        };
        self.check_at(offset)?;
        Ok(self.part(change.key, offset + record::HEADER_BYTES as u64))
    }

    pub(super) fn part(&self, bytes: &[u8], offset: u64) -> Value {
        Value::mapped(self.mapping, offset, bytes.len())
    }

    pub(super) fn value(&self, record: &RecordAt<'a>) -> Value {
        let value_at = field_at(record) + record.change.field.len() as u64;
        self.part(record.change.value, record.offset + value_at)
    }

    pub(super) fn dated(&self, record: &RecordAt<'a>) -> Dated {
        Dated {
            value: self.value(record),
            deadline_ms: record.deadline_ms,
        }
    }

    /// Verifies a record again, where the options ask for it.
    pub(super) fn check(&self, record: &RecordAt<'a>) -> Result<()> {
        self.check_at(record.offset)
    }

    fn check_at(&self, offset: u64) -> Result<()> {
        if !self.engine.settings.verify_on_read {
            return Ok(());
        }
        self.generation.verified(self.mapping, offset).map(drop)
    }
}
