//! What a key is to a transaction, and what each record makes of it.
//!
//! Pure: it asks no file and no clock. What it must know of the file it is told.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::engine::Value;
use crate::engine::read::{KeyState, has_passed};

/// A key as the transaction sees it.
#[derive(Debug)]
pub(super) enum State {
    Absent {
        /// Whether the file has an expired value there.
        tombstone_due: bool,
    },
    String {
        content: Content,
        deadline_ms: u64,
    },
    Hash(HashState),
}

/// A hash as the transaction sees it.
#[derive(Debug)]
pub(super) struct HashState {
    /// Whether fields that are not in `fields` are to be looked up in the file.
    pub(super) stored: bool,
    /// Those that were changed; `None` for one that is gone.
    pub(super) fields: BTreeMap<Vec<u8>, Option<Field>>,
    /// How many fields have a record, expired or not.
    pub(super) field_count: u64,
    /// How many of them have not expired; never zero once a field was set.
    pub(super) live_field_count: u64,
    pub(super) deadline_ms: u64,
}

/// A field with its own deadline, 0 for none.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) content: Content,
    pub(super) deadline_ms: u64,
}

/// Bytes that are in the file, or on their way there.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Stored(Value),
    Staged(Range<usize>),
}

impl Content {
    pub(super) fn len(&self) -> usize {
        match self {
            Content::Stored(value) => value.len(),
            Content::Staged(range) => range.len(),
        }
    }
}

impl State {
    pub(super) const GONE: State = State::Absent {
        tombstone_due: false,
    };

    pub(super) fn key_state(&self) -> KeyState {
        match self {
            State::Absent { .. } => KeyState::Absent,
            State::String { deadline_ms, .. } => KeyState::String {
                deadline_ms: *deadline_ms,
            },
            State::Hash(hash) => KeyState::Hash {
                deadline_ms: hash.deadline_ms,
            },
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, State::Absent { .. })
    }

    /// The key has another deadline, 0 for none.
    pub(super) fn expire(&mut self, new_deadline_ms: u64) {
        match self {
            State::Absent { .. } => {}
            State::String { deadline_ms, .. } => *deadline_ms = new_deadline_ms,
            State::Hash(hash) => hash.deadline_ms = new_deadline_ms,
        }
    }

    /// A field is set. `old_deadline_ms` is that of its record, if it has one; it may have passed.
    pub(super) fn set_field(
        &mut self,
        name: &[u8],
        field: Field,
        old_deadline_ms: Option<u64>,
        now_ms: u64,
    ) {
        if self.is_absent() {
            *self = State::Hash(HashState {
                stored: false,
                fields: BTreeMap::new(),
                field_count: 0,
                live_field_count: 0,
                deadline_ms: 0,
            });
        }
        if let State::Hash(hash) = self {
            let is_new = old_deadline_ms.is_none_or(|old| has_passed(old, now_ms));
            hash.field_count += u64::from(old_deadline_ms.is_none());
            hash.live_field_count += u64::from(is_new);
            hash.fields.insert(name.to_vec(), Some(field));
        }
    }

    /// A field that is there has another deadline, 0 for none; `stored` is its value in the file, if that is where it is.
    pub(super) fn expire_field(&mut self, name: &[u8], stored: Value, deadline_ms: u64) {
        let State::Hash(hash) = self else {
            return;
        };
        match hash.fields.get_mut(name) {
            Some(Some(field)) => field.deadline_ms = deadline_ms,
            Some(None) => {}
            None => {
                let content = Content::Stored(stored);
                let field = Field {
                    content,
                    deadline_ms,
                };
                hash.fields.insert(name.to_vec(), Some(field));
            }
        }
    }

    /// A field is removed that has a record; the hash goes with the last that has not expired.
    pub(super) fn delete_field(&mut self, name: &[u8], old_deadline_ms: u64, now_ms: u64) {
        let State::Hash(hash) = self else {
            return;
        };
        hash.fields.insert(name.to_vec(), None);
        hash.field_count = hash.field_count.saturating_sub(1);
        let was_live = !has_passed(old_deadline_ms, now_ms);
        hash.live_field_count -= u64::from(was_live).min(hash.live_field_count);
        if hash.live_field_count == 0 {
            *self = State::Absent {
                tombstone_due: hash.field_count > 0,
            };
        }
    }
}
