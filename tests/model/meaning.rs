//! What each call means, over plain maps: written from Redis's documentation and brasa's own, not
//! from the engine's code. Nothing is clever here, so that it can be believed by reading it.
//!
//! Where brasa differs from Redis it says so in its documentation, and so does the model:
//!
//! - A key is gone *at* its deadline, and so is a field; in Redis one millisecond later.
//! - Nothing is deleted because the clock says so. What has expired is absent for every call, but
//!   comes back when the clock steps back, unless a call replaced or deleted it meanwhile.
//! - A hash of which all fields have expired is no key, and who sets a field there begins another one. But it counts
//!   in `len`, and its records as live, until it is written to.

use std::collections::BTreeMap;
use std::time::Duration;

use brasa::limits::{DATABASE_COUNT, MAX_DEADLINE_MS};
use brasa::{ExpireCondition, FieldExpiry, KeyType, Ttl};

use crate::calls::{Answer, Bytes, Change, Condition, Expiry, Op, Refusal, Reply, SetHow, Span};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Data {
    String(Bytes),
    Hash(Fields),
}

/// The fields of a hash, those that have expired too.
pub(crate) type Fields = BTreeMap<Bytes, Field>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) value: Bytes,
    pub(crate) deadline_ms: Option<u64>,
}

impl Field {
    pub(crate) fn is_live(&self, now_ms: u64) -> bool {
        is_to_come(self.deadline_ms, now_ms)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) data: Data,
    pub(crate) deadline_ms: Option<u64>,
}

impl Entry {
    fn string(value: &[u8], deadline_ms: Option<u64>) -> Entry {
        Entry {
            data: Data::String(value.to_vec()),
            deadline_ms,
        }
    }

    pub(crate) fn is_live(&self, now_ms: u64) -> bool {
        let is_something = match &self.data {
            Data::String(_) => true,
            Data::Hash(fields) => fields.values().any(|field| field.is_live(now_ms)),
        };
        is_something && is_to_come(self.deadline_ms, now_ms)
    }

    pub(crate) fn key_type(&self) -> KeyType {
        match self.data {
            Data::String(_) => KeyType::String,
            Data::Hash(_) => KeyType::Hash,
        }
    }

    /// Bytes of the records that the file needs for it, if it is live: see `docs/format.md`.
    pub(crate) fn record_bytes(&self, key: &[u8], now_ms: u64) -> u64 {
        match &self.data {
            Data::String(value) => record(key.len() + value.len()),
            Data::Hash(fields) => {
                let fields: u64 = fields
                    .iter()
                    .filter(|(_, field)| field.is_live(now_ms))
                    .map(|(name, field)| record(key.len() + name.len() + field.value.len()))
                    .sum();
                // The deadline of a hash stands in no field's record, so it has its own.
                fields + self.deadline_ms.map_or(0, |_| record(key.len()))
            }
        }
    }
}

/// One of the sixteen databases.
pub(crate) type Database = BTreeMap<Bytes, Entry>;

/// All that a file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Model {
    databases: BTreeMap<u8, Database>,
}

impl Model {
    /// The keys of a database, those that have expired too.
    pub(crate) fn database(&mut self, number: u8) -> &mut Database {
        self.databases.entry(number).or_default()
    }

    /// The keys of a database that are there for whoever looks now.
    pub(crate) fn live(&self, number: u8, now_ms: u64) -> BTreeMap<&Bytes, &Entry> {
        let database = self.databases.get(&number).into_iter().flatten();
        database
            .filter(|(_, entry)| entry.is_live(now_ms))
            .collect()
    }

    /// Does what the call says, all of it or nothing.
    pub(crate) fn perform(&mut self, number: u8, op: &Op, now_ms: u64) -> Reply {
        let before = self.clone();
        let reply = if let Op::ClearAll = op {
            self.databases.clear();
            Ok(Answer::Done)
        } else {
            let mut view = View {
                keys: self.database(number),
                now_ms,
            };
            view.perform(op)
        };
        if reply.is_err() {
            *self = before;
        }
        reply
    }

    /// Forgets what has expired, as a compaction does: a clock that is set back brings none of it back.
    pub(crate) fn forget_expired(&mut self, now_ms: u64) {
        for database in self.databases.values_mut() {
            database.retain(|_, entry| entry.is_live(now_ms));
            for entry in database.values_mut() {
                if let Data::Hash(fields) = &mut entry.data {
                    fields.retain(|_, field| field.is_live(now_ms));
                }
            }
        }
    }

    /// Bytes of the deadlines of hashes whose fields have all expired. A compaction copies those although it leaves the fields
    /// behind, so that they are dead from the first.
    pub(crate) fn deadlines_of_nothing(&self, now_ms: u64) -> u64 {
        let entries = self.databases.values().flatten();
        entries
            .filter(|(_, entry)| entry.deadline_ms.is_some())
            .filter(|(_, entry)| is_to_come(entry.deadline_ms, now_ms) && !entry.is_live(now_ms))
            .map(|(key, _)| record(key.len()))
            .sum()
    }

    /// Whether two models hold the same, an empty database being the same as none.
    pub(crate) fn holds_the_same_as(&self, other: &Model) -> bool {
        let empty = Database::new();
        (0..DATABASE_COUNT).all(|number| {
            self.databases.get(&number).unwrap_or(&empty)
                == other.databases.get(&number).unwrap_or(&empty)
        })
    }
}

/// One database at one moment.
struct View<'a> {
    keys: &'a mut Database,
    now_ms: u64,
}

impl View<'_> {
    fn perform(&mut self, op: &Op) -> Reply {
        Ok(match op {
            Op::Set(key, value) => {
                self.put(key, Entry::string(value, None));
                Answer::Done
            }
            Op::SetWith(key, value, how) => self.set_with(key, value, *how)?,
            Op::Get(key) => Answer::Value(self.string(key)?),
            Op::GetMany(keys) => Answer::Values(
                keys.iter()
                    .map(|key| self.string(key).unwrap_or(None))
                    .collect(),
            ),
            Op::Strlen(key) => {
                Answer::Count(self.string(key)?.map_or(0, |value| value.len() as u64))
            }
            Op::Append(key, suffix) => {
                let value = [self.string(key)?.unwrap_or_default(), suffix.clone()].concat();
                self.put(key, Entry::string(&value, self.deadline(key)));
                Answer::Count(value.len() as u64)
            }
            Op::IncrBy(key, increment) => {
                let current = match self.string(key)? {
                    Some(text) => integer(&text).ok_or(Refusal::NotAnInteger)?,
                    None => 0,
                };
                let sum = current.checked_add(*increment).ok_or(Refusal::Overflow)?;
                let text = sum.to_string();
                self.put(key, Entry::string(text.as_bytes(), self.deadline(key)));
                Answer::Integer(sum)
            }
            Op::Hset(key, field, value) => Answer::Whether(self.hset(key, field, value, None)?),
            Op::HsetMany(key, fields) => {
                let mut created = 0;
                for (field, value) in fields {
                    created += u64::from(self.hset(key, field, value, None)?);
                }
                Answer::Count(created)
            }
            Op::HsetIfAbsent(key, field, value) => {
                let absent = !self.hash(key)?.contains_key(field);
                if absent {
                    self.hset(key, field, value, None)?;
                }
                Answer::Whether(absent)
            }
            Op::Hget(key, field) => Answer::Value(self.hash(key)?.get(field).cloned()),
            Op::HgetMany(key, names) => {
                let fields = self.hash(key)?;
                Answer::Values(names.iter().map(|name| fields.get(name).cloned()).collect())
            }
            Op::Hgetall(key) => Answer::Fields(self.hash(key)?),
            Op::Hdel(key, field) => Answer::Whether(self.hdel(key, field)?),
            Op::HdelMany(key, fields) => {
                let mut removed = 0;
                for field in fields {
                    removed += u64::from(self.hdel(key, field)?);
                }
                Answer::Count(removed)
            }
            Op::Hexists(key, field) => Answer::Whether(self.hash(key)?.contains_key(field)),
            Op::Hlen(key) => Answer::Count(self.hash(key)?.len() as u64),
            Op::HincrBy(key, field, increment) => {
                let found = self.field(key, field)?;
                let current = match &found {
                    Some(found) => integer(&found.value).ok_or(Refusal::FieldNotAnInteger)?,
                    None => 0,
                };
                let sum = current.checked_add(*increment).ok_or(Refusal::Overflow)?;
                let deadline_ms = found.and_then(|found| found.deadline_ms);
                self.hset(key, field, sum.to_string().as_bytes(), deadline_ms)?;
                Answer::Integer(sum)
            }
            Op::HsetWith(key, fields, how) => Answer::Whether(self.hset_with(key, fields, *how)?),
            Op::Hexpire(key, field, span) => {
                let deadline_ms = self.after(*span)?;
                let done = self.hexpire(key, field, deadline_ms, ExpireCondition::Always)?;
                Answer::Expiries(vec![done])
            }
            Op::HexpireAtIf(key, names, moment, condition) => {
                let deadline_ms = storable(u128::from(moment.at(self.now_ms)))?;
                let mut done = Vec::new();
                for name in names {
                    done.push(self.hexpire(key, name, deadline_ms, *condition)?);
                }
                Answer::Expiries(done)
            }
            Op::Hpersist(key, names) => {
                let mut had_deadlines = Vec::new();
                for name in names {
                    let found = self.field(key, name)?;
                    had_deadlines.push(found.map(|field| field.deadline_ms.is_some()));
                    self.date_field(key, name, None);
                }
                Answer::HadDeadlines(had_deadlines)
            }
            Op::HttlOf(key, name) => Answer::Ttl(ttl(
                self.field(key, name)?.map(|field| field.deadline_ms),
                self.now_ms,
            )),
            Op::HdeadlinesOf(key, names) => {
                self.hash(key)?;
                let mut deadlines = Vec::new();
                for name in names {
                    let found = self.field(key, name)?;
                    deadlines.push(found.and_then(|field| field.deadline_ms));
                }
                Answer::Deadlines(deadlines)
            }
            Op::HgetEx(key, names, expiry) => Answer::Values(self.hget_ex(key, names, *expiry)?),
            Op::HgetDel(key, names) => {
                let mut values = Vec::new();
                for name in names {
                    let found = self.field(key, name)?;
                    // One that has expired is not there to be deleted.
                    if found.is_some() {
                        self.hdel(key, name)?;
                    }
                    values.push(found.map(|field| field.value));
                }
                Answer::Values(values)
            }
            Op::Del(key) => Answer::Whether(self.del(key)),
            Op::DelMany(keys) => {
                Answer::Count(keys.iter().map(|key| u64::from(self.del(key))).sum())
            }
            Op::Exists(key) => Answer::Whether(self.find(key).is_some()),
            Op::ExistsMany(keys) => {
                let there = keys.iter().filter(|key| self.find(key).is_some());
                Answer::Count(there.count() as u64)
            }
            Op::KeyTypeOf(key) => Answer::Type(self.find(key).map(Entry::key_type)),
            Op::Expire(key, span) => Answer::Whether(self.expire(key, *span)?),
            Op::ExpireAt(key, moment) => {
                let deadline_ms = storable(u128::from(moment.at(self.now_ms)))?;
                Answer::Whether(self.expire_at(key, deadline_ms))
            }
            Op::ExpireAtIf(key, moment, condition) => {
                let deadline_ms = storable(u128::from(moment.at(self.now_ms)))?;
                // Who is not there has no deadline.
                let allowed = allows(*condition, self.deadline(key), deadline_ms);
                Answer::Whether(allowed && self.expire_at(key, deadline_ms))
            }
            Op::Persist(key) => {
                let had_deadline = self.deadline(key).is_some();
                if had_deadline && let Some(entry) = self.keys.get_mut(key) {
                    entry.deadline_ms = None;
                }
                Answer::Whether(had_deadline)
            }
            Op::TtlOf(key) => {
                let deadline_ms = self.find(key).map(|entry| entry.deadline_ms);
                Answer::Ttl(ttl(deadline_ms, self.now_ms))
            }
            Op::DeadlineOf(key) => Answer::Deadline(self.deadline(key)),
            Op::Clear => {
                self.keys.clear();
                Answer::Done
            }
            Op::ClearAll => unreachable!("it is about more than one database"),
            Op::Len => {
                let entries = self.keys.values();
                let live = entries.filter(|entry| entry.is_live(self.now_ms));
                Answer::Count(live.count() as u64)
            }
            Op::KeysWith(prefix) => Answer::Names(
                self.live_keys()
                    .filter(|key| key.starts_with(prefix))
                    .cloned()
                    .collect(),
            ),
            Op::Batch(changes) => {
                for change in changes {
                    self.change(change)?;
                }
                Answer::Done
            }
        })
    }

    fn change(&mut self, change: &Change) -> Result<(), Refusal> {
        match change {
            Change::Set(key, value) => self.put(key, Entry::string(value, None)),
            Change::SetEx(key, value, span) => {
                let deadline_ms = self.after(*span)?;
                self.put(key, Entry::string(value, Some(deadline_ms)));
            }
            Change::Del(key) => {
                self.del(key);
            }
            Change::Expire(key, span) => {
                self.expire(key, *span)?;
            }
            Change::Hset(key, field, value) => {
                self.hset(key, field, value, None)?;
            }
            Change::Hdel(key, field) => {
                self.hdel(key, field)?;
            }
            Change::Clear => self.keys.clear(),
        }
        Ok(())
    }

    fn set_with(&mut self, key: &[u8], value: &[u8], how: SetHow) -> Reply {
        // As in Redis, an argument that makes no sense is refused before anything is looked at.
        let deadline_ms = match how.expiry {
            Expiry::Keep => self.deadline(key),
            expiry => self.new_deadline(expiry)?,
        };
        let previous = if how.return_previous {
            self.string(key)?
        } else {
            None
        };
        let written = match how.condition {
            Condition::Always => true,
            Condition::OnlyIfAbsent => self.find(key).is_none(),
            Condition::OnlyIfPresent => self.find(key).is_some(),
        };
        if written {
            self.put(key, Entry::string(value, deadline_ms));
        }
        Ok(Answer::Set { written, previous })
    }

    /// The key, unless its time is up.
    fn find(&self, key: &[u8]) -> Option<&Entry> {
        self.keys
            .get(key)
            .filter(|entry| entry.is_live(self.now_ms))
    }

    fn live_keys(&self) -> impl Iterator<Item = &Bytes> {
        let live = |(_, entry): &(&Bytes, &Entry)| entry.is_live(self.now_ms);
        self.keys.iter().filter(live).map(|(key, _)| key)
    }

    fn deadline(&self, key: &[u8]) -> Option<u64> {
        self.find(key)?.deadline_ms
    }

    fn string(&self, key: &[u8]) -> Result<Option<Bytes>, Refusal> {
        match self.find(key).map(|entry| &entry.data) {
            None => Ok(None),
            Some(Data::String(value)) => Ok(Some(value.clone())),
            Some(Data::Hash(_)) => Err(Refusal::WrongType),
        }
    }

    /// The fields of a hash that are there, without their deadlines.
    fn hash(&self, key: &[u8]) -> Result<BTreeMap<Bytes, Bytes>, Refusal> {
        match self.find(key).map(|entry| &entry.data) {
            None => Ok(BTreeMap::new()),
            Some(Data::Hash(fields)) => Ok(fields
                .iter()
                .filter(|(_, field)| field.is_live(self.now_ms))
                .map(|(name, field)| (name.clone(), field.value.clone()))
                .collect()),
            Some(Data::String(_)) => Err(Refusal::WrongType),
        }
    }

    /// The field, unless its time is up, or that of its hash.
    fn field(&self, key: &[u8], name: &[u8]) -> Result<Option<Field>, Refusal> {
        match self.find(key).map(|entry| &entry.data) {
            None => Ok(None),
            Some(Data::Hash(fields)) => Ok(fields
                .get(name)
                .filter(|field| field.is_live(self.now_ms))
                .cloned()),
            Some(Data::String(_)) => Err(Refusal::WrongType),
        }
    }

    /// Replaces whatever was there; with what has no time to live left, by nothing.
    fn put(&mut self, key: &[u8], entry: Entry) {
        if entry.is_live(self.now_ms) {
            self.keys.insert(key.to_vec(), entry);
        } else {
            self.keys.remove(key);
        }
    }

    /// Whether the field is new. A hash that is changed keeps its deadline, the field gets this one. One that has no
    /// time left is deleted.
    fn hset(
        &mut self,
        key: &[u8],
        name: &[u8],
        value: &[u8],
        deadline_ms: Option<u64>,
    ) -> Result<bool, Refusal> {
        let is_new = self.field(key, name)?.is_none();
        if !is_to_come(deadline_ms, self.now_ms) {
            self.hdel(key, name)?;
            return Ok(is_new);
        }
        if self.find(key).is_none() {
            // Nothing of what has expired belongs to it.
            let hash = Entry {
                data: Data::Hash(Fields::new()),
                deadline_ms: None,
            };
            self.keys.insert(key.to_vec(), hash);
        }
        if let Some(fields) = self.stored_fields(key) {
            let value = value.to_vec();
            fields.insert(name.to_vec(), Field { value, deadline_ms });
        }
        Ok(is_new)
    }

    /// Whether the field was there. A hash without fields is no key. What had expired stays away for good: the field, or all
    /// that was left of the key if that is not there.
    fn hdel(&mut self, key: &[u8], name: &[u8]) -> Result<bool, Refusal> {
        let was_there = self.field(key, name)?.is_some();
        let is_hash = self.find(key).is_some();
        let is_left = match self.stored_fields(key) {
            Some(fields) if is_hash => {
                fields.remove(name);
                !fields.is_empty()
            }
            _ => false,
        };
        if !is_left {
            self.keys.remove(key);
        }
        Ok(was_there)
    }

    fn hset_with(
        &mut self,
        key: &[u8],
        fields: &[(Bytes, Bytes)],
        how: SetHow,
    ) -> Result<bool, Refusal> {
        let new_deadline_ms = self.new_deadline(how.expiry)?;
        let there = self.hash(key)?;
        let mut names = fields.iter().map(|(name, _)| name);
        let is_met = match how.condition {
            Condition::Always => true,
            Condition::OnlyIfAbsent => names.all(|name| !there.contains_key(name)),
            Condition::OnlyIfPresent => names.all(|name| there.contains_key(name)),
        };
        if is_met {
            for (name, value) in fields {
                let deadline_ms = match how.expiry {
                    Expiry::Keep => self.field(key, name)?.and_then(|field| field.deadline_ms),
                    _ => new_deadline_ms,
                };
                self.hset(key, name, value, deadline_ms)?;
            }
        }
        Ok(is_met)
    }

    fn hget_ex(
        &mut self,
        key: &[u8],
        names: &[Bytes],
        expiry: Expiry,
    ) -> Result<Vec<Option<Bytes>>, Refusal> {
        let deadline_ms = self.new_deadline(expiry)?;
        if let Expiry::Keep = expiry {
            self.hash(key)?;
        }
        let mut values = Vec::new();
        for name in names {
            let found = self.field(key, name)?;
            match expiry {
                Expiry::Keep => {}
                _ if found.is_none() => {}
                _ if is_to_come(deadline_ms, self.now_ms) => {
                    self.date_field(key, name, deadline_ms);
                }
                _ => _ = self.hdel(key, name)?,
            }
            values.push(found.map(|field| field.value));
        }
        Ok(values)
    }

    fn hexpire(
        &mut self,
        key: &[u8],
        name: &[u8],
        deadline_ms: u64,
        condition: ExpireCondition,
    ) -> Result<FieldExpiry, Refusal> {
        let Some(found) = self.field(key, name)? else {
            return Ok(FieldExpiry::Absent);
        };
        if !allows(condition, found.deadline_ms, deadline_ms) {
            return Ok(FieldExpiry::NotMet);
        }
        if deadline_ms <= self.now_ms {
            self.hdel(key, name)?;
            return Ok(FieldExpiry::Deleted);
        }
        self.date_field(key, name, Some(deadline_ms));
        Ok(FieldExpiry::Set)
    }

    /// Gives a field a deadline, or none, if it is there.
    fn date_field(&mut self, key: &[u8], name: &[u8], deadline_ms: Option<u64>) {
        let now_ms = self.now_ms;
        let is_there = self.find(key).is_some();
        if is_there
            && let Some(field) = self
                .stored_fields(key)
                .and_then(|fields| fields.get_mut(name))
            && field.is_live(now_ms)
        {
            field.deadline_ms = deadline_ms;
        }
    }

    /// All that is stored of a hash, expired or not.
    fn stored_fields(&mut self, key: &[u8]) -> Option<&mut Fields> {
        match &mut self.keys.get_mut(key)?.data {
            Data::Hash(fields) => Some(fields),
            Data::String(_) => None,
        }
    }

    /// Whether the key was there. One that had expired stays away for good, too.
    fn del(&mut self, key: &[u8]) -> bool {
        let was_there = self.find(key).is_some();
        self.keys.remove(key);
        was_there
    }

    fn expire(&mut self, key: &[u8], span: Span) -> Result<bool, Refusal> {
        let deadline_ms = self.after(span)?;
        Ok(self.expire_at(key, deadline_ms))
    }

    fn expire_at(&mut self, key: &[u8], deadline_ms: u64) -> bool {
        if deadline_ms <= self.now_ms {
            return self.del(key);
        }
        let is_there = self.find(key).is_some();
        if is_there && let Some(entry) = self.keys.get_mut(key) {
            entry.deadline_ms = Some(deadline_ms);
        }
        is_there
    }

    /// The deadline that does not depend on the one that was there.
    fn new_deadline(&self, expiry: Expiry) -> Result<Option<u64>, Refusal> {
        Ok(match expiry {
            Expiry::None | Expiry::Keep => None,
            Expiry::After(span) => Some(self.after(span)?),
            Expiry::At(moment) => Some(storable(u128::from(moment.at(self.now_ms)))?),
        })
    }

    fn after(&self, span: Span) -> Result<u64, Refusal> {
        let millis = span.at(self.now_ms).as_millis();
        storable(u128::from(self.now_ms) + millis)
    }
}

fn storable(deadline_ms: u128) -> Result<u64, Refusal> {
    u64::try_from(deadline_ms)
        .ok()
        .filter(|deadline_ms| *deadline_ms <= MAX_DEADLINE_MS)
        .ok_or(Refusal::DeadlineOutOfRange)
}

/// Bytes of a record with so many bytes of key, field and value.
fn record(body: usize) -> u64 {
    (32 + body as u64).next_multiple_of(8)
}

fn is_to_come(deadline_ms: Option<u64>, now_ms: u64) -> bool {
    deadline_ms.is_none_or(|deadline_ms| now_ms < deadline_ms)
}

/// Whether the deadline may be changed to this one. Whoever has none lives forever.
fn allows(condition: ExpireCondition, present_ms: Option<u64>, deadline_ms: u64) -> bool {
    let has_deadline = present_ms.is_some();
    let present_ms = present_ms.unwrap_or(u64::MAX);
    match condition {
        ExpireCondition::Persistent => !has_deadline,
        ExpireCondition::Expiring => has_deadline,
        ExpireCondition::Later => deadline_ms > present_ms,
        ExpireCondition::Earlier => deadline_ms < present_ms,
        ExpireCondition::ExpiringAndEarlier => has_deadline && deadline_ms < present_ms,
        _ => true,
    }
}

/// How long something lives whose deadline, if it has one, is to come; `None` is for what is not there.
pub(crate) fn ttl(deadline_ms: Option<Option<u64>>, now_ms: u64) -> Ttl {
    match deadline_ms {
        None => Ttl::Absent,
        Some(None) => Ttl::Persistent,
        Some(Some(deadline_ms)) => Ttl::Remaining(Duration::from_millis(deadline_ms - now_ms)),
    }
}

/// A decimal integer, written the one way in which it is printed.
fn integer(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}
