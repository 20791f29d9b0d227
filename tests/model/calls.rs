//! The calls and what they give back: what the model and brasa are asked alike.

use std::collections::BTreeMap;
use std::time::Duration;

use brasa::limits::MAX_DEADLINE_MS;
use brasa::{Error, ExpireCondition, FieldExpiry, KeyType, Ttl};

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
    HsetWith(Bytes, Vec<(Bytes, Bytes)>, SetHow),
    Hexpire(Bytes, Bytes, Span),
    HexpireAtIf(Bytes, Vec<Bytes>, Moment, ExpireCondition),
    Hpersist(Bytes, Vec<Bytes>),
    HttlOf(Bytes, Bytes),
    HdeadlinesOf(Bytes, Vec<Bytes>),
    HgetEx(Bytes, Vec<Bytes>, Expiry),
    HgetDel(Bytes, Vec<Bytes>),
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

/// The options of a `set_with` or a `hset_with`.
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

/// What becomes of a deadline.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expiry {
    /// There is none any more.
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
    /// For each field 0 where it has none, as brasa says it.
    Deadlines(Vec<Option<u64>>),
    Expiries(Vec<FieldExpiry>),
    HadDeadlines(Vec<Option<bool>>),
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
