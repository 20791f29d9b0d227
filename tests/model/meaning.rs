//! What each call means, over plain maps: written from Redis's documentation and brasa's own, not
//! from the engine's code. Nothing is clever here, so that it can be believed by reading it.
//!
//! Where brasa differs from Redis it says so in its documentation, and so does the model:
//!
//! - A key is gone *at* its deadline; in Redis one millisecond later.
//! - Nothing is deleted because the clock says so. What has expired is absent for every call, but
//!   comes back when the clock steps back, unless a call replaced or deleted it meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use brasa::limits::{DATABASE_COUNT, MAX_DEADLINE_MS};
use brasa::{Error, ExpireCondition, KeyType, Ttl};

pub(crate) type Bytes = Vec<u8>;

/// One call.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Set(Bytes, Bytes),
    SetWith(Bytes, Bytes, SetHow),
    Get(Bytes),
    GetMany(Vec<Bytes>),
    Strlen(Bytes),
    Append(Bytes, Bytes),
    IncrBy(Bytes, i64),
    Hset(Bytes, Bytes, Bytes),
    HsetMany(Bytes, Vec<(Bytes, Bytes)>),
    HsetIfAbsent(Bytes, Bytes, Bytes),
    Hget(Bytes, Bytes),
    HgetMany(Bytes, Vec<Bytes>),
    Hgetall(Bytes),
    Hdel(Bytes, Bytes),
    HdelMany(Bytes, Vec<Bytes>),
    Hexists(Bytes, Bytes),
    Hlen(Bytes),
    HincrBy(Bytes, Bytes, i64),
    Del(Bytes),
    DelMany(Vec<Bytes>),
    Exists(Bytes),
    ExistsMany(Vec<Bytes>),
    KeyTypeOf(Bytes),
    Expire(Bytes, Span),
    ExpireAt(Bytes, Moment),
    ExpireAtIf(Bytes, Moment, ExpireCondition),
    Persist(Bytes),
    TtlOf(Bytes),
    DeadlineOf(Bytes),
    Clear,
    ClearAll,
    Len,
    KeysWith(Bytes),
    Batch(Vec<Change>),
}

/// A change within a batch.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Set(Bytes, Bytes),
    SetEx(Bytes, Bytes, Span),
    Del(Bytes),
    Expire(Bytes, Span),
    Hset(Bytes, Bytes, Bytes),
    Hdel(Bytes, Bytes),
    Clear,
}

/// The options of a `set_with`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SetHow {
    pub(crate) condition: Condition,
    pub(crate) expiry: Expiry,
    pub(crate) return_previous: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Always,
    OnlyIfAbsent,
    OnlyIfPresent,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Expiry {
    None,
    Keep,
    After(Span),
    At(Moment),
}

/// A duration, perhaps one that is only known when the time is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Span {
    Of(Duration),
    /// Exactly up to the latest deadline that can be stored.
    ToLimit,
    /// One millisecond more than that.
    BeyondLimit,
}

/// A point in time, in Unix milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Moment {
    FromNow(i64),
    Exactly(u64),
}

impl Span {
    pub(crate) fn at(self, now_ms: u64) -> Duration {
        let to_limit = MAX_DEADLINE_MS.saturating_sub(now_ms);
        match self {
            Span::Of(duration) => duration,
            Span::ToLimit => Duration::from_millis(to_limit),
            Span::BeyondLimit => Duration::from_millis(to_limit + 1),
        }
    }
}

impl Moment {
    pub(crate) fn at(self, now_ms: u64) -> u64 {
        match self {
            Moment::FromNow(delta) => now_ms.saturating_add_signed(delta),
            Moment::Exactly(moment) => moment,
        }
    }
}

/// What a call gives back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Whether(bool),
    Count(u64),
    Integer(i64),
    Value(Option<Bytes>),
    Values(Vec<Option<Bytes>>),
    Fields(BTreeMap<Bytes, Bytes>),
    Names(Vec<Bytes>),
    Type(Option<KeyType>),
    Ttl(Ttl),
    Deadline(Option<u64>),
    Set {
        written: bool,
        previous: Option<Bytes>,
    },
}

/// Why a call changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    WrongType,
    NotAnInteger,
    FieldNotAnInteger,
    Overflow,
    DeadlineOutOfRange,
}

impl Refusal {
    /// The refusal that an error stands for; the error itself where it stands for none.
    pub(crate) fn of(error: Error) -> Result<Refusal, Error> {
        Ok(match error {
            Error::WrongType => Refusal::WrongType,
            Error::NotAnInteger => Refusal::NotAnInteger,
            Error::FieldNotAnInteger => Refusal::FieldNotAnInteger,
            Error::Overflow => Refusal::Overflow,
            Error::DeadlineOutOfRange => Refusal::DeadlineOutOfRange,
            other => return Err(other),
        })
    }
}

pub(crate) type Reply = Result<Answer, Refusal>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Data {
    String(Bytes),
    Hash(BTreeMap<Bytes, Bytes>),
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
        self.deadline_ms
            .is_none_or(|deadline_ms| now_ms < deadline_ms)
    }

    pub(crate) fn key_type(&self) -> KeyType {
        match self.data {
            Data::String(_) => KeyType::String,
            Data::Hash(_) => KeyType::Hash,
        }
    }

    /// Bytes of the records that the file needs for it: see `docs/format.md`.
    pub(crate) fn record_bytes(&self, key: &[u8]) -> u64 {
        let record = |body: usize| (32 + body as u64).next_multiple_of(8);
        match &self.data {
            Data::String(value) => record(key.len() + value.len()),
            Data::Hash(fields) => {
                let fields: u64 = fields
                    .iter()
                    .map(|(field, value)| record(key.len() + field.len() + value.len()))
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
        }
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
            Op::Hset(key, field, value) => Answer::Whether(self.hset(key, field, value)?),
            Op::HsetMany(key, fields) => {
                let mut created = 0;
                for (field, value) in fields {
                    created += u64::from(self.hset(key, field, value)?);
                }
                Answer::Count(created)
            }
            Op::HsetIfAbsent(key, field, value) => {
                let absent = !self.hash(key)?.contains_key(field);
                if absent {
                    self.hset(key, field, value)?;
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
                let current = match self.hash(key)?.get(field) {
                    Some(text) => integer(text).ok_or(Refusal::FieldNotAnInteger)?,
                    None => 0,
                };
                let sum = current.checked_add(*increment).ok_or(Refusal::Overflow)?;
                self.hset(key, field, sum.to_string().as_bytes())?;
                Answer::Integer(sum)
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
                // Whoever has no deadline lives forever, and who is not there has none.
                let present = self.deadline(key).unwrap_or(u64::MAX);
                let has_deadline = self.deadline(key).is_some();
                let allowed = match condition {
                    ExpireCondition::Persistent => !has_deadline,
                    ExpireCondition::Expiring => has_deadline,
                    ExpireCondition::Later => deadline_ms > present,
                    ExpireCondition::Earlier => deadline_ms < present,
                    ExpireCondition::ExpiringAndEarlier => has_deadline && deadline_ms < present,
                    _ => true,
                };
                Answer::Whether(allowed && self.expire_at(key, deadline_ms))
            }
            Op::Persist(key) => {
                let had_deadline = self.deadline(key).is_some();
                if had_deadline && let Some(entry) = self.keys.get_mut(key) {
                    entry.deadline_ms = None;
                }
                Answer::Whether(had_deadline)
            }
            Op::TtlOf(key) => Answer::Ttl(match self.find(key) {
                None => Ttl::Absent,
                Some(entry) => match entry.deadline_ms {
                    None => Ttl::Persistent,
                    Some(deadline_ms) => {
                        Ttl::Remaining(Duration::from_millis(deadline_ms - self.now_ms))
                    }
                },
            }),
            Op::DeadlineOf(key) => Answer::Deadline(self.deadline(key)),
            Op::Clear => {
                self.keys.clear();
                Answer::Done
            }
            Op::ClearAll => unreachable!("it is about more than one database"),
            Op::Len => Answer::Count(self.live_keys().count() as u64),
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
                self.hset(key, field, value)?;
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
            Expiry::None => None,
            Expiry::Keep => self.deadline(key),
            Expiry::After(span) => Some(self.after(span)?),
            Expiry::At(moment) => Some(storable(u128::from(moment.at(self.now_ms)))?),
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

    fn hash(&self, key: &[u8]) -> Result<BTreeMap<Bytes, Bytes>, Refusal> {
        match self.find(key).map(|entry| &entry.data) {
            None => Ok(BTreeMap::new()),
            Some(Data::Hash(fields)) => Ok(fields.clone()),
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

    /// Whether the field is new. A hash that is changed keeps its deadline.
    fn hset(&mut self, key: &[u8], field: &[u8], value: &[u8]) -> Result<bool, Refusal> {
        let mut fields = self.hash(key)?;
        let replaced = fields.insert(field.to_vec(), value.to_vec());
        let entry = Entry {
            data: Data::Hash(fields),
            deadline_ms: self.deadline(key),
        };
        self.put(key, entry);
        Ok(replaced.is_none())
    }

    /// Whether the field was there. A hash without fields is no key.
    fn hdel(&mut self, key: &[u8], field: &[u8]) -> Result<bool, Refusal> {
        let mut fields = self.hash(key)?;
        let removed = fields.remove(field).is_some();
        if fields.is_empty() {
            self.keys.remove(key);
        } else {
            let entry = Entry {
                data: Data::Hash(fields),
                deadline_ms: self.deadline(key),
            };
            self.put(key, entry);
        }
        Ok(removed)
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

/// A decimal integer, written the one way in which it is printed.
fn integer(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}
