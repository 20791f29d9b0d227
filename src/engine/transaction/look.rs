//! Reading in a transaction: what the file holds, with what is staged on top.
//!
//! A walk by cursor gives what was changed on its last page: a cursor is a place in the file's order of hashes, and what is
//! only staged has none.

use std::ops::Range;

use super::state::State;
use super::{Looked, Transaction, Value};
use crate::engine::read::{Dated, FieldPage, KeyPage, KeyState, has_passed};
use crate::record::encoded_len;
use crate::{Error, Result};

impl Transaction {
    /// What a key holds.
    pub(crate) fn key(&mut self, database: u8, key: &[u8]) -> Result<KeyState> {
        Ok(self.look(database, key)?.key_state())
    }

    /// The string at a key.
    pub(crate) fn string(&mut self, database: u8, key: &[u8]) -> Result<Option<Dated>> {
        let (content, deadline_ms) = match &*self.look(database, key)? {
            State::Absent { .. } => return Ok(None),
            State::Hash(_) => return Err(Error::WrongType),
            State::String {
                content,
                deadline_ms,
            } => (content.clone(), *deadline_ms),
        };
        Ok(Some(self.dated(&content, deadline_ms)))
    }

    /// Several strings; a hash counts as absent.
    pub(crate) fn strings<K: AsRef<[u8]>>(
        &mut self,
        database: u8,
        keys: &[K],
    ) -> Result<Vec<Option<Value>>> {
        let keys = keys.iter();
        keys.map(|key| match self.string(database, key.as_ref()) {
            Err(Error::WrongType) => Ok(None),
            found => Ok(found?.map(|string| string.value)),
        })
        .collect()
    }

    /// What several keys hold; `None` for one that is not there.
    pub(crate) fn states<K: AsRef<[u8]>>(
        &mut self,
        database: u8,
        keys: &[K],
    ) -> Result<Vec<Option<KeyState>>> {
        let keys = keys.iter();
        keys.map(|key| {
            let state = self.key(database, key.as_ref())?;
            Ok((state != KeyState::Absent).then_some(state))
        })
        .collect()
    }

    /// A field of the hash at a key.
    pub(crate) fn field(
        &mut self,
        database: u8,
        key: &[u8],
        field: &[u8],
    ) -> Result<Option<Dated>> {
        let (found, _) = self.any_field(database, key, field)?;
        Ok(found.filter(|dated| !self.is_over(dated.deadline_ms)))
    }

    /// How many fields the hash at a key has.
    pub(crate) fn field_count(&mut self, database: u8, key: &[u8]) -> Result<u64> {
        let state = match self.look(database, key)? {
            Looked::Stored(State::Hash(_)) => {
                Looked::Stored(self.stored_state(database, key, true)?)
            }
            state => state,
        };
        match &*state {
            State::Absent { .. } => Ok(0),
            State::String { .. } => Err(Error::WrongType),
            State::Hash(hash) => Ok(hash.live_field_count),
        }
    }

    /// As [`Engine::scan_fields`](crate::engine::Engine::scan_fields).
    pub(crate) fn scan_fields(
        &mut self,
        database: u8,
        key: &[u8],
        cursor: u64,
        count: usize,
    ) -> Result<FieldPage> {
        let now_ms = self.now_ms();
        let origin = self.origins[usize::from(database)];
        let (changed, is_stored) = match &*self.look(database, key)? {
            State::Absent { .. } => return Ok(FieldPage::default()),
            State::String { .. } => return Err(Error::WrongType),
            State::Hash(hash) => (hash.fields.clone(), hash.stored),
        };
        let mut page = match origin.filter(|_| is_stored) {
            Some(origin) => self.engine.scan_fields(origin, key, cursor, count)?,
            None => FieldPage::default(),
        };
        page.fields
            .retain(|(field, _)| !changed.contains_key(&**field));
        if page.cursor == 0 {
            let live = changed.into_iter().filter_map(|(name, field)| {
                let field = field.filter(|field| !has_passed(field.deadline_ms, now_ms))?;
                let dated = self.dated(&field.content, field.deadline_ms);
                Some((Value::owned(&name), dated))
            });
            page.fields.extend(live);
        }
        Ok(page)
    }

    /// As [`Engine::fields_between`](crate::engine::Engine::fields_between).
    pub(crate) fn fields_between(
        &mut self,
        database: u8,
        key: &[u8],
        hashes: Range<u32>,
    ) -> Result<Vec<(Value, Dated)>> {
        let now_ms = self.now_ms();
        let origin = self.origins[usize::from(database)];
        let (changed, is_stored) = match &*self.look(database, key)? {
            State::Absent { .. } => return Ok(Vec::new()),
            State::String { .. } => return Err(Error::WrongType),
            State::Hash(hash) => (hash.fields.clone(), hash.stored),
        };
        let mut found = match origin.filter(|_| is_stored) {
            Some(origin) => self.engine.fields_between(origin, key, hashes.clone())?,
            None => Vec::new(),
        };
        found.retain(|(field, _)| !changed.contains_key(&**field));
        for (name, field) in changed {
            let field = field.filter(|field| !has_passed(field.deadline_ms, now_ms));
            if let Some(field) = field
                && hashes.contains(&self.engine.field_hash(&name)?)
            {
                let dated = self.dated(&field.content, field.deadline_ms);
                found.push((Value::owned(&name), dated));
            }
        }
        Ok(found)
    }

    /// About how many bytes of the log a key needs; `None` where it is absent. Of a hash, the fields that were changed count twice.
    pub(crate) fn live_bytes_of(&mut self, database: u8, key: &[u8]) -> Result<Option<u64>> {
        let origin = self.origins[usize::from(database)];
        let record = |parts: usize| encoded_len(key.len() + parts) as u64;
        let (changed, is_stored) = match &*self.look(database, key)? {
            State::Absent { .. } => return Ok(None),
            State::String { content, .. } => return Ok(Some(record(content.len()))),
            State::Hash(hash) => {
                let fields = hash.fields.iter();
                let sizes = fields.filter_map(|(name, field)| {
                    Some(record(name.len() + field.as_ref()?.content.len()))
                });
                (sizes.sum::<u64>(), hash.stored)
            }
        };
        let stored = match origin.filter(|_| is_stored) {
            Some(origin) => self.engine.live_bytes_of(origin, key)?.unwrap_or(0),
            None => 0,
        };
        Ok(Some(stored + changed))
    }

    /// As [`Engine::scan_keys`](crate::engine::Engine::scan_keys).
    pub(crate) fn scan_keys(&mut self, database: u8, cursor: u64, count: usize) -> Result<KeyPage> {
        self.see()?;
        let mut page = match self.origins[usize::from(database)] {
            Some(origin) => self.engine.scan_keys(origin, cursor, count)?,
            None => KeyPage::default(),
        };
        page.keys
            .retain(|(key, _)| self.keys.get(database, key).is_none());
        if page.cursor == 0 {
            let live = self.keys.of(database).filter_map(|(key, entry)| {
                let state = entry.state.key_state();
                (state != KeyState::Absent).then(|| (Value::owned(key), state))
            });
            page.keys.extend(live);
        }
        Ok(page)
    }

    /// As [`Engine::key_count`](crate::engine::Engine::key_count).
    pub(crate) fn key_count(&mut self, database: u8) -> Result<u64> {
        self.see()?;
        let mut count = match self.origins[usize::from(database)] {
            Some(origin) => self.engine.key_count(origin)?,
            None => 0,
        };
        // Those of which only what they are to be was asked.
        let unknown: Vec<Vec<u8>> = self
            .keys
            .of(database)
            .filter(|(_, entry)| entry.was_there.is_none())
            .map(|(key, _)| key.to_vec())
            .collect();
        for key in unknown {
            let was_there = !self.stored_state(database, &key, false)?.is_absent();
            if let Some(entry) = self.keys.get_mut(database, &key) {
                entry.was_there = Some(was_there);
            }
        }
        for (_, entry) in self.keys.of(database) {
            count = count.saturating_sub(u64::from(entry.was_there == Some(true)));
            count += u64::from(!entry.state.is_absent());
        }
        Ok(count)
    }
}
