//! From what is staged to what a transaction sees: invariants 3 and 4.

use std::ops::Range;

use super::changed::Entry;
use super::state::{Content, Field, State};
use super::{Transaction, every_database};
use crate::Result;
use crate::engine::read::Dated;
use crate::index::KeyHash;
use crate::record::{Change, Kind};

/// Words of the bits of keys that were not seen yet.
pub(super) const UNSEEN_WORDS: usize = 16;

/// The bit of a key among them: its word, and which one in it.
pub(super) fn unseen_bit(hash: KeyHash) -> (usize, u64) {
    let bit = hash.in_shard();
    (bit as usize / 64 % UNSEEN_WORDS, 1 << (bit % 64))
}

impl Transaction {
    /// Sees what is staged, after some of it was forgotten.
    pub(super) fn see_again(&mut self) -> Result<()> {
        self.keys.clear();
        self.origins = every_database();
        let staged = std::mem::take(&mut self.staged);
        let seen = staged.records.iter().try_for_each(|record| {
            let Some((change, value)) = staged.change(*record) else {
                return Ok(());
            };
            let old = match change.kind {
                Kind::HashSet | Kind::HashDelete | Kind::FieldExpire => {
                    self.any_field(change.database, change.key, change.field)?.0
                }
                _ => None,
            };
            self.take_effect(&change, value, old)
        });
        self.staged = staged;
        self.seen = self.staged.records.len();
        self.waiting = None;
        seen
    }

    /// Sees what is staged and was not seen yet (invariant 4).
    pub(super) fn see(&mut self) -> Result<()> {
        while let Some(record) = self.staged.records.get(self.seen).copied() {
            let number = self.seen;
            self.seen += 1;
            let waiting = self.waiting.take_if(|(of, _)| *of == number);
            // The bytes are lent out meanwhile; nothing that takes effect looks at them.
            let staged = std::mem::take(&mut self.staged);
            let seen = match staged.change(record) {
                Some((change, value)) => {
                    let old = waiting.as_ref().map(|(_, old)| old.clone());
                    self.take_effect(&change, value, old)
                }
                None => Ok(()),
            };
            self.staged = staged;
            if seen.is_err() {
                // The record is staged all the same: the next lookup sees it, or returns the same
                // error.
                self.seen = number;
                self.waiting = waiting;
                return seen;
            }
        }
        self.unseen = [0; UNSEEN_WORDS];
        Ok(())
    }

    /// Sees what is staged of a key, or more (invariant 4).
    pub(super) fn see_for(&mut self, key: &[u8]) -> Result<()> {
        /// More of them are seen at once, or looking through them would take longer.
        const MOST_UNSEEN: usize = 1024;
        let unseen = self.staged.records.get(self.seen..).unwrap_or_default();
        if unseen.is_empty() {
            return Ok(());
        }
        let hash = self.generation.hasher.hash(key);
        let (word, bit) = unseen_bit(hash);
        let is_among_them = || unseen.iter().any(|record| record.hash == hash);
        match unseen.len() > MOST_UNSEEN || (self.unseen[word] & bit != 0 && is_among_them()) {
            true => self.see(),
            false => Ok(()),
        }
    }

    /// Applies a record with a staged value to the view (invariant 3).
    fn take_effect(
        &mut self,
        change: &Change<'_>,
        value: Range<usize>,
        old: Option<Dated>,
    ) -> Result<()> {
        let (database, key, deadline_ms) = (change.database, change.key, change.deadline_ms);
        match change.kind {
            Kind::Set => self.replace(
                database,
                key,
                State::String {
                    content: Content::Staged(value),
                    deadline_ms,
                },
            ),
            Kind::Delete => self.replace(database, key, State::GONE),
            Kind::Expire => self.state(database, key)?.expire(deadline_ms),
            Kind::HashSet => {
                let old = old.map(|old| old.deadline_ms);
                let now_ms = self.now_ms();
                let field = Field {
                    content: Content::Staged(value),
                    deadline_ms,
                };
                let state = self.state(database, key)?;
                state.set_field(change.field, field, old, now_ms);
            }
            Kind::HashDelete => {
                let now_ms = self.now_ms();
                if let Some(old) = old {
                    let state = self.state(database, key)?;
                    state.delete_field(change.field, old.deadline_ms, now_ms);
                }
            }
            Kind::FieldExpire => {
                if let Some(old) = old {
                    let state = self.state(database, key)?;
                    state.expire_field(change.field, old.value, deadline_ms);
                }
            }
            Kind::Clear => {
                self.keys.clear_database(database);
                self.origins[usize::from(database)] = None;
            }
            Kind::SwapDatabases => {
                let other = change.value.first().copied().unwrap_or(database);
                self.swap(database, other);
            }
            // The others say something of the log, and are never staged here.
            _ => {}
        }
        Ok(())
    }

    fn replace(&mut self, database: u8, key: &[u8], state: State) {
        let new = Entry {
            state: State::GONE,
            was_there: None,
        };
        self.keys.get_or_insert(database, key, new).state = state;
    }

    fn swap(&mut self, one: u8, other: u8) {
        self.origins.swap(usize::from(one), usize::from(other));
        self.keys.swap(one, other);
    }
}
