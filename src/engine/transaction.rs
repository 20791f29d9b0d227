//! What one commit changes, while it is being put together.
//!
//! A transaction sees the file as it is under the writer lock, with its own changes on top, and
//! collects records. Nothing of it can be seen by others before it is committed.
//!
//! Invariants:
//!
//! 1. A record says an effect, not a command: no replay needs a clock.
//! 2. Where a hash is changed whose time is up, its tombstone comes first in the same commit;
//!    else a field set now would vanish with the old deadline on replay. A deletion writes it
//!    too, although it finds nothing: else what was deleted would be back after a step of the clock.

use std::collections::BTreeMap;
use std::ops::Range;

use super::generation::Generation;
use super::read::{Dated, KeyState, Stored, has_passed};
use super::{Engine, Value};
use crate::error::check_length;
use crate::index::KeyHash;
use crate::limits::{
    MAX_COMMIT_BYTES, MAX_DEADLINE_MS, MAX_FIELD_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES,
};
use crate::record::{self, Change, Kind};
use crate::{Error, Result};

/// Changes on their way into a commit.
pub(crate) struct Transaction<'e> {
    engine: &'e Engine,
    generation: &'e Generation,
    /// The time at which all of it happens; read once, when first needed.
    now_ms: Option<u64>,
    staged: Staged,
    keys: BTreeMap<(u8, Vec<u8>), State>,
    /// Databases that were cleared, a bit each.
    cleared: u16,
}

/// Encoded records.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) bytes: Vec<u8>,
    pub(super) records: Vec<StagedRecord>,
    /// Whether all of it makes the file emptier, and may therefore use the last space of a full disk.
    pub(super) frugal: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct StagedRecord {
    pub(super) start: usize,
    pub(super) hash: KeyHash,
}

/// A key as the transaction sees it.
#[derive(Debug)]
enum State {
    Absent {
        /// Whether the file holds something there whose time is up.
        tombstone_due: bool,
    },
    String {
        content: Content,
        deadline_ms: u64,
    },
    Hash {
        /// Whether fields that are not in `fields` are to be looked up in the file.
        stored: bool,
        fields: BTreeMap<Vec<u8>, Option<(Content, u64)>>,
        /// How many fields have a record, expired or not.
        field_count: u64,
        /// How many of them have not expired; never zero.
        live_field_count: u64,
        deadline_ms: u64,
    },
}

/// Bytes that are in the file, or on their way there.
#[derive(Debug, Clone)]
enum Content {
    Stored(Value),
    Staged(Range<usize>),
}

impl<'e> Transaction<'e> {
    /// `bytes` is memory to use again.
    pub(super) fn new(engine: &'e Engine, generation: &'e Generation, mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        Self {
            engine,
            generation,
            now_ms: None,
            staged: Staged {
                bytes,
                ..Staged::default()
            },
            keys: BTreeMap::new(),
            cleared: 0,
        }
    }

    pub(super) fn into_staged(self) -> Staged {
        self.staged
    }

    /// The time at which the commit happens, in Unix milliseconds.
    pub(crate) fn now_ms(&mut self) -> u64 {
        *self.now_ms.get_or_insert_with(|| {
            let judged_ms = self.generation.judged_ms();
            self.engine.now_ms().max(judged_ms)
        })
    }

    /// What a key holds.
    pub(crate) fn key(&mut self, database: u8, key: &[u8]) -> Result<KeyState> {
        Ok(match self.state(database, key)? {
            State::Absent { .. } => KeyState::Absent,
            State::String { deadline_ms, .. } => KeyState::String {
                deadline_ms: *deadline_ms,
            },
            State::Hash { deadline_ms, .. } => KeyState::Hash {
                deadline_ms: *deadline_ms,
            },
        })
    }

    /// The string at a key.
    pub(crate) fn string(&mut self, database: u8, key: &[u8]) -> Result<Option<Dated>> {
        match self.state(database, key)? {
            State::Absent { .. } => Ok(None),
            State::Hash { .. } => Err(Error::WrongType),
            State::String {
                content,
                deadline_ms,
            } => {
                let (content, deadline_ms) = (content.clone(), *deadline_ms);
                Ok(Some(self.dated(&content, deadline_ms)))
            }
        }
    }

    /// A field of the hash at a key.
    pub(crate) fn field(
        &mut self,
        database: u8,
        key: &[u8],
        field: &[u8],
    ) -> Result<Option<Dated>> {
        let found = self.any_field(database, key, field)?;
        let now_ms = self.now_ms();
        Ok(found.filter(|dated| !has_passed(dated.deadline_ms, now_ms)))
    }

    /// Sets a string; a deadline of 0 is none.
    pub(crate) fn set(
        &mut self,
        database: u8,
        key: &[u8],
        value: &[u8],
        deadline_ms: u64,
    ) -> Result<()> {
        let content = self.stage(&Change {
            deadline_ms,
            value,
            ..Change::of_key(Kind::Set, database, key)
        })?;
        let state = State::String {
            content: Content::Staged(content),
            deadline_ms,
        };
        self.keys.insert((database, key.to_vec()), state);
        Ok(())
    }

    /// Removes a key; gives back whether it was there. What is there with its time up gets its
    /// tombstone, too.
    pub(crate) fn delete(&mut self, database: u8, key: &[u8]) -> Result<bool> {
        let was_there = match *self.state(database, key)? {
            State::Absent {
                tombstone_due: false,
            } => return Ok(false),
            State::Absent {
                tombstone_due: true,
            } => false,
            _ => true,
        };
        self.stage(&Change::of_key(Kind::Delete, database, key))?;
        let gone = State::Absent {
            tombstone_due: false,
        };
        self.keys.insert((database, key.to_vec()), gone);
        Ok(was_there)
    }

    /// Changes a key's deadline, 0 for none; gives back whether there is such a key.
    pub(crate) fn expire(&mut self, database: u8, key: &[u8], deadline_ms: u64) -> Result<bool> {
        if let State::Absent { .. } = self.state(database, key)? {
            return Ok(false);
        }
        self.stage(&Change {
            deadline_ms,
            ..Change::of_key(Kind::Expire, database, key)
        })?;
        if let State::String {
            deadline_ms: at, ..
        }
        | State::Hash {
            deadline_ms: at, ..
        } = self.state(database, key)?
        {
            *at = deadline_ms;
        }
        Ok(true)
    }

    /// Sets a field, whose own deadline may be 0 for none; gives back whether it is new.
    pub(crate) fn hash_set(
        &mut self,
        database: u8,
        key: &[u8],
        field: &[u8],
        value: &[u8],
        deadline_ms: u64,
    ) -> Result<bool> {
        check_length("a field", field.len(), MAX_FIELD_BYTES)?;
        check_length("a value", value.len(), MAX_VALUE_BYTES)?;
        let found = self.any_field(database, key, field)?;
        let now_ms = self.now_ms();
        let is_new = found
            .as_ref()
            .is_none_or(|old| has_passed(old.deadline_ms, now_ms));
        if let State::Absent { .. } = *self.state(database, key)? {
            // Invariant 2.
            self.delete(database, key)?;
            let empty = State::Hash {
                stored: false,
                fields: BTreeMap::new(),
                field_count: 0,
                live_field_count: 0,
                deadline_ms: 0,
            };
            self.keys.insert((database, key.to_vec()), empty);
        }
        let content = self.stage(&Change {
            deadline_ms,
            field,
            value,
            ..Change::of_key(Kind::HashSet, database, key)
        })?;
        if let State::Hash {
            fields,
            field_count,
            live_field_count,
            ..
        } = self.state(database, key)?
        {
            *field_count += u64::from(found.is_none());
            *live_field_count += u64::from(is_new);
            fields.insert(
                field.to_vec(),
                Some((Content::Staged(content), deadline_ms)),
            );
        }
        Ok(is_new)
    }

    /// Removes a field; gives back whether it was there. The hash goes with the last that has not expired.
    pub(crate) fn hash_delete(&mut self, database: u8, key: &[u8], field: &[u8]) -> Result<bool> {
        let Some(found) = self.any_field(database, key, field)? else {
            if let State::Absent { .. } = self.state(database, key)? {
                self.delete(database, key)?;
            }
            return Ok(false);
        };
        self.stage(&Change {
            field,
            ..Change::of_key(Kind::HashDelete, database, key)
        })?;
        let now_ms = self.now_ms();
        let was_live = !has_passed(found.deadline_ms, now_ms);
        let state = self.state(database, key)?;
        if let State::Hash {
            fields,
            field_count,
            live_field_count,
            ..
        } = state
        {
            fields.insert(field.to_vec(), None);
            *field_count -= 1;
            *live_field_count -= u64::from(was_live);
            if *live_field_count == 0 {
                *state = State::Absent {
                    tombstone_due: *field_count > 0,
                };
            }
        }
        Ok(was_live)
    }

    /// Removes all keys of a database.
    pub(crate) fn clear(&mut self, database: u8) -> Result<()> {
        self.stage(&Change::of_key(Kind::Clear, database, &[]))?;
        self.keys.retain(|(of, _), _| *of != database);
        self.cleared |= 1 << database;
        Ok(())
    }

    /// A field, expired or not.
    fn any_field(&mut self, database: u8, key: &[u8], field: &[u8]) -> Result<Option<Dated>> {
        match self.state(database, key)? {
            State::Absent { .. } => Ok(None),
            State::String { .. } => Err(Error::WrongType),
            State::Hash { stored, fields, .. } => match fields.get(field) {
                Some(None) => Ok(None),
                Some(Some((content, deadline_ms))) => {
                    let (content, deadline_ms) = (content.clone(), *deadline_ms);
                    Ok(Some(self.dated(&content, deadline_ms)))
                }
                None if *stored => self.engine.stored_field(database, key, field),
                None => Ok(None),
            },
        }
    }

    fn dated(&self, content: &Content, deadline_ms: u64) -> Dated {
        let value = match content {
            Content::Stored(value) => value.clone(),
            Content::Staged(range) => Value::owned(&self.staged.bytes[range.clone()]),
        };
        Dated { value, deadline_ms }
    }

    /// The key as the transaction sees it; looked up when it is first asked for.
    fn state(&mut self, database: u8, key: &[u8]) -> Result<&mut State> {
        // Before a copy is made of it.
        check_length("a key", key.len(), MAX_KEY_BYTES)?;
        let place = (database, key.to_vec());
        if !self.keys.contains_key(&place) {
            let state = self.stored_state(database, key)?;
            self.keys.insert(place.clone(), state);
        }
        Ok(self.keys.entry(place).or_insert(State::Absent {
            tombstone_due: false,
        }))
    }

    fn stored_state(&mut self, database: u8, key: &[u8]) -> Result<State> {
        if self.cleared & (1 << database) != 0 {
            return Ok(State::Absent {
                tombstone_due: false,
            });
        }
        let now_ms = self.now_ms();
        let stored = self.engine.stored(database, key, now_ms)?;
        let expired = State::Absent {
            tombstone_due: true,
        };
        Ok(match stored {
            Stored::Absent => State::Absent {
                tombstone_due: false,
            },
            Stored::String(dated) if has_passed(dated.deadline_ms, now_ms) => expired,
            Stored::String(dated) => State::String {
                content: Content::Stored(dated.value),
                deadline_ms: dated.deadline_ms,
            },
            Stored::Hash { deadline_ms, .. } if has_passed(deadline_ms, now_ms) => expired,
            Stored::Hash {
                live_field_count: 0,
                ..
            } => expired,
            Stored::Hash {
                deadline_ms,
                field_count,
                live_field_count,
            } => State::Hash {
                stored: true,
                fields: BTreeMap::new(),
                field_count,
                live_field_count,
                deadline_ms,
            },
        })
    }

    /// Adds a record; gives back where its value stands.
    fn stage(&mut self, change: &Change<'_>) -> Result<Range<usize>> {
        if change.deadline_ms > MAX_DEADLINE_MS {
            return Err(Error::DeadlineOutOfRange);
        }
        let hash = self.generation.hasher.hash(change.key);
        self.staged.push(change, hash)
    }
}

impl Default for Staged {
    fn default() -> Self {
        Staged {
            bytes: Vec::new(),
            records: Vec::new(),
            frugal: true,
        }
    }
}

impl Staged {
    /// Encodes a record; gives back where its value stands.
    pub(super) fn push(&mut self, change: &Change<'_>, hash: KeyHash) -> Result<Range<usize>> {
        let start = self.bytes.len();
        let length = start as u64 + change.size_bytes();
        if length > MAX_COMMIT_BYTES {
            return Err(Error::TooLarge {
                what: "a commit",
                length,
                limit: MAX_COMMIT_BYTES,
            });
        }
        record::encode(change, &mut self.bytes)?;
        self.records.push(StagedRecord { start, hash });
        self.frugal &= matches!(change.kind, Kind::Delete | Kind::HashDelete | Kind::Clear);
        let value = start + record::HEADER_BYTES + change.key.len() + change.field.len();
        Ok(value..value + change.value.len())
    }
}
