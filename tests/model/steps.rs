//! What proptest draws: calls over few keys and fields, so that they meet again, expire and change
//! their type, and what happens to the file and the clock between them.

use std::time::Duration;

use brasa::limits::MAX_DEADLINE_MS;
use brasa::{ExpireCondition, KeyType};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::calls::{Bytes, Change, Condition, Expiry, Moment, Op, SetHow, Span};

/// The databases that are used: the first, a neighbour and the last.
pub(crate) const DATABASES: [u8; 3] = [0, 1, 15];

/// Where the clock begins, in Unix milliseconds.
pub(crate) const START_MS: u64 = 1_700_000_000_000;

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Call(u8, Op),
    Clock(ClockMove),
    Sync,
    Compact,
    Checkpoint,
    Reopen(Ending),
    /// SCAN from start to end, with a change after each page.
    Scan {
        database: u8,
        count: usize,
        key_type: Option<KeyType>,
        /// What happens between the pages.
        between: Vec<Between>,
    },
    /// HSCAN from start to end, with a change after each page.
    Hscan {
        database: u8,
        key: Bytes,
        count: usize,
        between: Vec<Between>,
    },
    /// What a power loss may leave: the file, cut where it was not synced.
    Cut {
        place: Place,
        read_only: bool,
        /// Whether the copy takes the file's place from then on.
        go_on: bool,
    },
    /// What no power loss may leave: the file, cut where it was synced.
    CutBelowSynced(u16),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum ClockMove {
    ForwardMs(u64),
    BackMs(u64),
    To(u64),
}

/// How the handle ends before the file is opened again.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    Closed,
    Dropped,
}

#[derive(Debug, Clone)]
pub(crate) enum Between {
    Call(Op),
    Reopen(Ending),
}

/// Where to cut: anywhere, or close to the end of a commit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// This many 65,535ths of the way.
    Anywhere(u16),
    NearCommit {
        commit: u16,
        delta: i64,
    },
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        40 => (database(), op()).prop_map(|(database, op)| Step::Call(database, op)),
        8 => clock_move().prop_map(Step::Clock),
        1 => Just(Step::Sync),
        1 => Just(Step::Compact),
        5 => Just(Step::Checkpoint),
        2 => ending().prop_map(Step::Reopen),
        2 => (database(), 1..6_usize, key_type(), between()).prop_map(
            |(database, count, key_type, between)| Step::Scan { database, count, key_type, between }
        ),
        2 => (database(), hash_key(), 1..4_usize, between()).prop_map(
            |(database, key, count, between)| Step::Hscan { database, key, count, between }
        ),
        3 => (place(), any::<bool>(), any::<bool>()).prop_map(
            |(place, read_only, go_on)| Step::Cut { place, read_only, go_on }
        ),
        1 => any::<u16>().prop_map(Step::CutBelowSynced),
    ];
    vec(step, 1..60)
}

fn database() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(DATABASES[0]), 1 => Just(DATABASES[1]), 1 => Just(DATABASES[2])]
}

/// Seven keys that are met again and again, and some more that fill the tables.
fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        6 => prop::sample::select(vec![
            Bytes::new(),
            b"k".to_vec(),
            b"chave_1".to_vec(),
            b"h".to_vec(),
            vec![0],
            vec![0, 0xff, b'\r', b'\n'],
            all_bytes(),
        ]),
        2 => (0..40_u8).prop_map(|number| format!("key:{number}").into_bytes()),
    ]
}

fn keys() -> impl Strategy<Value = Vec<Bytes>> {
    vec(key(), 0..5)
}

/// Mostly two, so that what a call makes of the fields of a hash is met by others before the hash is gone.
fn hash_key() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        3 => prop::sample::select(vec![b"h".to_vec(), b"meu_hash".to_vec()]),
        1 => key(),
    ]
}

fn field() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => prop::sample::select(vec![Bytes::new(), b"nome".to_vec(), vec![0xff], all_bytes()]),
        1 => (0..40_u8).prop_map(|number| format!("field:{number}").into_bytes()),
    ]
}

fn fields() -> impl Strategy<Value = Vec<Bytes>> {
    vec(field(), 0..5)
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => prop::sample::select(vec![
            Bytes::new(),
            b"Relou Uourdi".to_vec(),
            all_bytes(),
        ]),
        4 => prop::sample::select(vec!["0", "-1", "41", "-0", "+1", "01", " 1", "1.5"])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::sample::select(vec![i64::MAX, i64::MIN])
            .prop_map(|limit| limit.to_string().into_bytes()),
        2 => vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 0..9_000_usize).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn all_bytes() -> Bytes {
    (0..=u8::MAX).collect()
}

fn increment() -> impl Strategy<Value = i64> {
    prop_oneof![4 => -3..4_i64, 1 => prop::sample::select(vec![i64::MAX, i64::MIN])]
}

fn span() -> impl Strategy<Value = Span> {
    prop_oneof![
        8 => (1..60_u64).prop_map(|ms| Span::Of(Duration::from_millis(ms))),
        // Less than a millisecond, and a millisecond and something.
        1 => Just(Span::Of(Duration::from_micros(999))),
        1 => Just(Span::Of(Duration::from_micros(1_999))),
        2 => Just(Span::Of(Duration::ZERO)),
        1 => Just(Span::Of(Duration::from_secs(3_600))),
        1 => prop::sample::select(vec![
            Span::ToLimit,
            Span::BeyondLimit,
            Span::Of(Duration::MAX),
        ]),
    ]
}

fn moment() -> impl Strategy<Value = Moment> {
    prop_oneof![
        8 => (-20..60_i64).prop_map(Moment::FromNow),
        1 => prop::sample::select(vec![
            Moment::Exactly(0),
            Moment::Exactly(MAX_DEADLINE_MS),
            Moment::Exactly(MAX_DEADLINE_MS + 1),
            Moment::Exactly(u64::MAX),
        ]),
    ]
}

fn expiry() -> impl Strategy<Value = Expiry> {
    prop_oneof![
        1 => Just(Expiry::None),
        1 => Just(Expiry::Keep),
        2 => span().prop_map(Expiry::After),
        2 => moment().prop_map(Expiry::At),
    ]
}

fn set_how() -> impl Strategy<Value = SetHow> {
    let condition = prop::sample::select(vec![
        Condition::Always,
        Condition::OnlyIfAbsent,
        Condition::OnlyIfPresent,
    ]);
    (condition, expiry(), any::<bool>()).prop_map(|(condition, expiry, return_previous)| SetHow {
        condition,
        expiry,
        return_previous,
    })
}

fn expire_condition() -> impl Strategy<Value = ExpireCondition> {
    prop::sample::select(vec![
        ExpireCondition::Always,
        ExpireCondition::Persistent,
        ExpireCondition::Expiring,
        ExpireCondition::Later,
        ExpireCondition::Earlier,
        ExpireCondition::ExpiringAndEarlier,
    ])
}

fn op() -> impl Strategy<Value = Op> {
    let strings = prop_oneof![
        3 => (key(), value()).prop_map(|(key, value)| Op::Set(key, value)),
        5 => (key(), value(), set_how()).prop_map(|(key, value, how)| Op::SetWith(key, value, how)),
        1 => key().prop_map(Op::Get),
        1 => keys().prop_map(Op::GetMany),
        1 => key().prop_map(Op::Strlen),
        2 => (key(), value()).prop_map(|(key, suffix)| Op::Append(key, suffix)),
        2 => (key(), increment()).prop_map(|(key, increment)| Op::IncrBy(key, increment)),
    ];
    let hashes = prop_oneof![
        4 => (hash_key(), field(), value())
            .prop_map(|(key, field, value)| Op::Hset(key, field, value)),
        3 => (hash_key(), vec((field(), value()), 0..12))
            .prop_map(|(key, fields)| Op::HsetMany(key, fields)),
        2 => (hash_key(), field(), value())
            .prop_map(|(key, field, value)| Op::HsetIfAbsent(key, field, value)),
        1 => (hash_key(), field()).prop_map(|(key, field)| Op::Hget(key, field)),
        1 => (hash_key(), fields()).prop_map(|(key, fields)| Op::HgetMany(key, fields)),
        1 => hash_key().prop_map(Op::Hgetall),
        3 => (hash_key(), field()).prop_map(|(key, field)| Op::Hdel(key, field)),
        2 => (hash_key(), vec(field(), 0..8)).prop_map(|(key, fields)| Op::HdelMany(key, fields)),
        1 => (hash_key(), field()).prop_map(|(key, field)| Op::Hexists(key, field)),
        1 => hash_key().prop_map(Op::Hlen),
        2 => (hash_key(), field(), increment())
            .prop_map(|(key, field, increment)| Op::HincrBy(key, field, increment)),
    ];
    let deadlines_of_fields = prop_oneof![
        8 => (hash_key(), vec((field(), value()), 0..5), set_how())
            .prop_map(|(key, fields, how)| Op::HsetWith(key, fields, how)),
        6 => (hash_key(), field(), span())
            .prop_map(|(key, field, span)| Op::Hexpire(key, field, span)),
        8 => (hash_key(), fields(), moment(), expire_condition())
            .prop_map(|(key, fields, moment, condition)| {
                Op::HexpireAtIf(key, fields, moment, condition)
            }),
        2 => (hash_key(), fields()).prop_map(|(key, fields)| Op::Hpersist(key, fields)),
        1 => (hash_key(), field()).prop_map(|(key, field)| Op::HttlOf(key, field)),
        1 => (hash_key(), fields()).prop_map(|(key, fields)| Op::HdeadlinesOf(key, fields)),
        3 => (hash_key(), fields(), expiry())
            .prop_map(|(key, fields, expiry)| Op::HgetEx(key, fields, expiry)),
        2 => (hash_key(), fields()).prop_map(|(key, fields)| Op::HgetDel(key, fields)),
    ];
    let of_any_type = prop_oneof![
        8 => key().prop_map(Op::Del),
        3 => keys().prop_map(Op::DelMany),
        1 => key().prop_map(Op::Exists),
        1 => keys().prop_map(Op::ExistsMany),
        1 => key().prop_map(Op::KeyTypeOf),
        10 => (key(), span()).prop_map(|(key, span)| Op::Expire(key, span)),
        6 => (key(), moment()).prop_map(|(key, moment)| Op::ExpireAt(key, moment)),
        6 => (key(), moment(), expire_condition())
            .prop_map(|(key, moment, condition)| Op::ExpireAtIf(key, moment, condition)),
        3 => key().prop_map(Op::Persist),
        1 => key().prop_map(Op::TtlOf),
        1 => key().prop_map(Op::DeadlineOf),
        1 => Just(Op::Clear),
        1 => Just(Op::ClearAll),
        1 => Just(Op::Len),
        1 => prop::sample::select(vec!["", "key:", "key:1", "k", "\0"])
            .prop_map(|prefix| Op::KeysWith(prefix.as_bytes().to_vec())),
    ];
    prop_oneof![
        3 => strings,
        3 => hashes,
        5 => deadlines_of_fields,
        3 => of_any_type,
        2 => vec(change(), 0..9).prop_map(Op::Batch),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (key(), value()).prop_map(|(key, value)| Change::Set(key, value)),
        4 => (key(), value(), span()).prop_map(|(key, value, span)| Change::SetEx(key, value, span)),
        4 => key().prop_map(Change::Del),
        4 => (key(), span()).prop_map(|(key, span)| Change::Expire(key, span)),
        6 => (key(), field(), value())
            .prop_map(|(key, field, value)| Change::Hset(key, field, value)),
        4 => (key(), field()).prop_map(|(key, field)| Change::Hdel(key, field)),
        1 => Just(Change::Clear),
    ]
}

fn clock_move() -> impl Strategy<Value = ClockMove> {
    prop_oneof![
        10 => (0..30_u64).prop_map(ClockMove::ForwardMs),
        4 => (0..60_u64).prop_map(ClockMove::BackMs),
        1 => Just(ClockMove::ForwardMs(3_600_000)),
        1 => prop::sample::select(vec![0, START_MS, u64::MAX]).prop_map(ClockMove::To),
    ]
}

fn ending() -> impl Strategy<Value = Ending> {
    prop::sample::select(vec![Ending::Closed, Ending::Dropped])
}

fn key_type() -> impl Strategy<Value = Option<KeyType>> {
    prop::sample::select(vec![None, None, Some(KeyType::String), Some(KeyType::Hash)])
}

fn between() -> impl Strategy<Value = Vec<Between>> {
    let one = prop_oneof![
        8 => op().prop_map(Between::Call),
        1 => ending().prop_map(Between::Reopen),
    ];
    vec(one, 0..6)
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        any::<u16>().prop_map(Place::Anywhere),
        (any::<u16>(), -9..=9_i64).prop_map(|(commit, delta)| Place::NearCommit { commit, delta }),
    ]
}
