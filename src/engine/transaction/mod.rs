//! What one commit changes, while it is being put together.
//!
//! A transaction sees the file as it is under the writer lock, with its own changes on top, and
//! collects records. Nothing of it can be seen by others before it is committed.
//!
//! Invariants:
//!
//! 1. A record says an effect, not a command: no replay needs a clock.
//! 2. A change of an expired hash writes its tombstone first, in the same commit. Otherwise a field
//!    set now would expire with the old deadline on replay. A deletion writes the tombstone too,
//!    although it finds nothing. Otherwise the deleted data would come back after a step of the
//!    clock.
//! 3. What the transaction sees is a function of the file and of what is staged: [`Transaction::take_effect`] is the one place
//!    where a record changes it, so that forgetting the last records is staging the others once more.
//! 4. A staged record may stay unapplied until a call reads its key ([`Transaction::see_for`]):
//!    nearly all commits end before that. A record that depends on an existing field waits alone,
//!    with that field's state; the records after it set strings.
//! 5. What was only looked at is not kept: under the writer lock the file says the same when it is asked again.

mod changed;
mod effects;
mod look;
mod staged;
mod state;

use std::collections::BTreeMap;
use std::ops::Deref;

use super::generation::Generation;
use super::read::{Dated, Stored, has_passed};
use super::{Engine, Value};
use crate::error::check_length;
use crate::limits::{
    DATABASE_COUNT, MAX_DEADLINE_MS, MAX_FIELD_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES,
};
use crate::mutation;
use crate::record::{Change, Kind};
use crate::sync::Arc;
use crate::{Error, Result};

use changed::{Changed, Entry};
use effects::{UNSEEN_WORDS, unseen_bit};
use staged::Mark;
pub(super) use staged::Staged;
use state::{Content, HashState, State};

/// Changes on their way into a commit.
pub(crate) struct Transaction {
    engine: Arc<Engine>,
    generation: Arc<Generation>,
    /// The time at which all of it happens; read once, when first needed.
    now_ms: Option<u64>,
    staged: Staged,
    /// How many of the staged records have taken effect in `keys` and `origins` (invariant 4).
    seen: usize,
    /// A bit for each key of the others, by its hash: most keys that are looked at are none of them.
    unseen: [u64; UNSEEN_WORDS],
    /// What the field of the record of this number was before.
    waiting: Option<(usize, Dated)>,
    keys: Changed,
    /// For each database, which one of the file has its keys; `None` once it was cleared.
    origins: [Option<u8>; DATABASE_COUNT as usize],
}

impl Transaction {
    /// `staged` is empty, and has memory to use again.
    pub(super) fn new(engine: &Arc<Engine>, generation: &Arc<Generation>, staged: Staged) -> Self {
        Self {
            engine: Arc::clone(engine),
            generation: Arc::clone(generation),
            now_ms: None,
            staged,
            seen: 0,
            unseen: [0; UNSEEN_WORDS],
            waiting: None,
            keys: Changed::default(),
            origins: every_database(),
        }
    }

    pub(super) fn into_staged(self) -> Staged {
        self.staged
    }

    /// Takes the whole transaction for another owner to continue; nothing is staged in the
    /// remaining value.
    pub(crate) fn take(&mut self) -> Transaction {
        let rest = Transaction::new(&self.engine, &self.generation, Staged::default());
        std::mem::replace(self, rest)
    }

    /// Does what `change` says, or nothing where it fails.
    pub(crate) fn attempt<R, E: From<Error>>(
        &mut self,
        change: impl FnOnce(&mut Transaction) -> Result<R, E>,
    ) -> Result<R, E> {
        let mark = self.mark();
        let done = change(self);
        if done.is_err() {
            self.return_to(mark)?;
        }
        done
    }

    /// How far it has come, for [`Transaction::return_to`].
    pub(crate) fn mark(&self) -> Mark {
        self.staged.mark()
    }

    /// Forgets what was done since.
    pub(crate) fn return_to(&mut self, mark: Mark) -> Result<()> {
        self.staged.cut(mark);
        let record_count = self.staged.records.len();
        self.waiting.take_if(|(of, _)| *of >= record_count);
        match self.seen > record_count {
            true => self.see_again(),
            false => Ok(()),
        }
    }

    /// Whether a deadline, 0 for none, has passed. Without one no clock is asked.
    fn is_over(&mut self, deadline_ms: u64) -> bool {
        deadline_ms != 0 && has_passed(deadline_ms, self.now_ms())
    }

    /// The time at which the commit happens, in Unix milliseconds.
    pub(crate) fn now_ms(&mut self) -> u64 {
        let now_ms = || mutation::time_of_transaction(self.engine.now_ms());
        *self.now_ms.get_or_insert_with(now_ms)
    }

    /// Sets a string; a deadline of 0 is none.
    pub(crate) fn set(
        &mut self,
        database: u8,
        key: &[u8],
        value: &[u8],
        deadline_ms: u64,
    ) -> Result<()> {
        let change = Change {
            deadline_ms,
            value,
            ..Change::of_key(Kind::Set, database, key)
        };
        self.stage(&change, None)
    }

    /// Removes a key; gives back whether it was there. What is there with its time up gets its
    /// tombstone, too.
    pub(crate) fn delete(&mut self, database: u8, key: &[u8]) -> Result<bool> {
        let was_there = match *self.look(database, key)? {
            State::Absent {
                tombstone_due: false,
            } => return Ok(false),
            State::Absent {
                tombstone_due: true,
            } => false,
            _ => true,
        };
        self.stage(&Change::of_key(Kind::Delete, database, key), None)?;
        Ok(was_there)
    }

    /// Changes a key's deadline, 0 for none; gives back whether there is such a key.
    pub(crate) fn expire(&mut self, database: u8, key: &[u8], deadline_ms: u64) -> Result<bool> {
        if self.look(database, key)?.is_absent() {
            return Ok(false);
        }
        let change = Change {
            deadline_ms,
            ..Change::of_key(Kind::Expire, database, key)
        };
        self.stage(&change, None)?;
        Ok(true)
    }

    /// Sets a field with a deadline, 0 for none. Returns whether the field is new.
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
        let (found, tombstone_due) = self.any_field(database, key, field)?;
        if tombstone_due {
            // Invariant 2.
            self.stage(&Change::of_key(Kind::Delete, database, key), None)?;
        }
        let change = Change {
            deadline_ms,
            field,
            value,
            ..Change::of_key(Kind::HashSet, database, key)
        };
        let old_deadline_ms = found.as_ref().map(|old| old.deadline_ms);
        let is_new = old_deadline_ms.is_none_or(|deadline_ms| self.is_over(deadline_ms));
        self.stage(&change, found)?;
        Ok(is_new)
    }

    /// Removes a field; gives back whether it was there. The hash goes with the last that has not expired.
    pub(crate) fn hash_delete(&mut self, database: u8, key: &[u8], field: &[u8]) -> Result<bool> {
        let (found, tombstone_due) = self.any_field(database, key, field)?;
        let Some(found) = found else {
            if tombstone_due {
                self.stage(&Change::of_key(Kind::Delete, database, key), None)?;
            }
            return Ok(false);
        };
        let was_live = !self.is_over(found.deadline_ms);
        let change = Change {
            field,
            ..Change::of_key(Kind::HashDelete, database, key)
        };
        self.stage(&change, Some(found))?;
        Ok(was_live)
    }

    /// Changes a field's deadline, 0 for none, to one that has not passed; gives back whether there is such a field.
    pub(crate) fn field_expire(
        &mut self,
        database: u8,
        key: &[u8],
        field: &[u8],
        deadline_ms: u64,
    ) -> Result<bool> {
        let Some(found) = self.field(database, key, field)? else {
            return Ok(false);
        };
        let change = Change {
            deadline_ms,
            field,
            ..Change::of_key(Kind::FieldExpire, database, key)
        };
        self.stage(&change, Some(found))?;
        Ok(true)
    }

    /// Removes all keys of a database.
    pub(crate) fn clear(&mut self, database: u8) -> Result<()> {
        self.stage(&Change::of_key(Kind::Clear, database, &[]), None)
    }

    /// Lets two databases change places.
    pub(crate) fn swap_databases(&mut self, one: u8, other: u8) -> Result<()> {
        if one == other {
            return Ok(());
        }
        let change = Change {
            value: &[other],
            ..Change::of_key(Kind::SwapDatabases, one, &[])
        };
        self.stage(&change, None)
    }

    /// Adds a record, and sees what it does; `old` is the record that its field has so far.
    fn stage(&mut self, change: &Change<'_>, old: Option<Dated>) -> Result<()> {
        if change.deadline_ms > MAX_DEADLINE_MS {
            return Err(Error::DeadlineOutOfRange);
        }
        let hash = self.generation.hasher.hash(change.key);
        if change.kind != Kind::Set {
            self.see()?;
        }
        self.staged.push(change, hash)?;
        let (word, bit) = unseen_bit(hash);
        self.unseen[word] |= bit;
        if let Some(old) = old {
            self.waiting = Some((self.staged.records.len() - 1, old));
        }
        match change.kind.is_key() {
            true => Ok(()),
            // Of all keys.
            false => self.see(),
        }
    }

    /// A field, expired or not; and whether the key is absent such that a tombstone is due before anything is set there.
    fn any_field(
        &mut self,
        database: u8,
        key: &[u8],
        field: &[u8],
    ) -> Result<(Option<Dated>, bool)> {
        check_length("a key", key.len(), MAX_KEY_BYTES)?;
        self.see_for(key)?;
        let origin = self.origins[usize::from(database)];
        let engine = Arc::clone(&self.engine);
        let Some(state) = self.changed(database, key) else {
            let Some(origin) = origin else {
                return Ok((None, false));
            };
            let (stored, found) = engine.stored_with_field(origin, key, field, || self.now_ms())?;
            return match self.judge(stored) {
                State::Absent { tombstone_due } => Ok((None, tombstone_due)),
                State::String { .. } => Err(Error::WrongType),
                State::Hash(_) => Ok((found, false)),
            };
        };
        let (found, is_stored) = match state {
            State::Absent { tombstone_due } => return Ok((None, *tombstone_due)),
            State::String { .. } => return Err(Error::WrongType),
            State::Hash(hash) => (hash.fields.get(field).cloned(), hash.stored),
        };
        let field = match (found, origin) {
            (Some(None), _) => None,
            (Some(Some(found)), _) => Some(self.dated(&found.content, found.deadline_ms)),
            (None, Some(origin)) if is_stored => engine.stored_field(origin, key, field)?,
            _ => None,
        };
        Ok((field, false))
    }

    fn dated(&self, content: &Content, deadline_ms: u64) -> Dated {
        let value = match content {
            Content::Stored(value) => value.clone(),
            // What is staged last may not be looked at while all of it is seen again.
            Content::Staged(range) => {
                Value::owned(self.staged.bytes.get(range.clone()).unwrap_or_default())
            }
        };
        Dated { value, deadline_ms }
    }

    /// The key as the transaction sees it.
    fn look(&mut self, database: u8, key: &[u8]) -> Result<Looked<'_>> {
        // Before a copy is made of it.
        check_length("a key", key.len(), MAX_KEY_BYTES)?;
        self.see_for(key)?;
        if self.changed(database, key).is_none() {
            return self.stored_state(database, key, false).map(Looked::Stored);
        }
        let changed = self.changed(database, key);
        Ok(changed.map_or(Looked::Stored(State::GONE), Looked::Changed))
    }

    /// What was made of a key; `None` where nothing of it has changed.
    fn changed(&self, database: u8, key: &[u8]) -> Option<&State> {
        self.keys.get(database, key).map(|entry| &entry.state)
    }

    /// The key as the transaction sees it, to be changed.
    fn state(&mut self, database: u8, key: &[u8]) -> Result<&mut State> {
        let mut found = Entry {
            state: State::GONE,
            was_there: None,
        };
        if self.keys.get(database, key).is_none() {
            found.state = self.stored_state(database, key, true)?;
            found.was_there = Some(!found.state.is_absent());
        }
        Ok(&mut self.keys.get_or_insert(database, key, found).state)
    }

    /// What the file holds, as it is at the time of the commit; `is_counted` as for [`Engine::stored`].
    fn stored_state(&mut self, database: u8, key: &[u8], is_counted: bool) -> Result<State> {
        let Some(origin) = self.origins[usize::from(database)] else {
            return Ok(State::GONE);
        };
        let engine = Arc::clone(&self.engine);
        let stored = engine.stored(origin, key, is_counted, || self.now_ms())?;
        Ok(self.judge(stored))
    }

    /// What the file holds, as it is at the time of the commit.
    fn judge(&mut self, stored: Stored) -> State {
        let state = match stored {
            Stored::Absent => return State::GONE,
            Stored::String(dated) => State::String {
                content: Content::Stored(dated.value),
                deadline_ms: dated.deadline_ms,
            },
            Stored::Hash {
                deadline_ms,
                field_count,
                live_field_count,
            } => State::Hash(HashState {
                stored: true,
                fields: BTreeMap::new(),
                field_count,
                live_field_count,
                deadline_ms,
            }),
        };
        let is_over = match &state {
            State::Hash(hash) => hash.live_field_count == 0 || self.is_over(hash.deadline_ms),
            State::String { deadline_ms, .. } => self.is_over(*deadline_ms),
            State::Absent { .. } => false,
        };
        match is_over {
            true => State::Absent {
                tombstone_due: true,
            },
            false => state,
        }
    }
}

/// A key as it was found.
enum Looked<'a> {
    Changed(&'a State),
    Stored(State),
}

impl Deref for Looked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        match self {
            Looked::Changed(state) => state,
            Looked::Stored(state) => state,
        }
    }
}

/// Each database has its own keys.
fn every_database() -> [Option<u8>; DATABASE_COUNT as usize] {
    let mut databases = 0..DATABASE_COUNT;
    std::array::from_fn(|_| databases.next())
}
