//! Deadlines: EXPIRE and its kin, TTL, PERSIST.

use std::borrow::Cow;

use super::arguments::{integer, is};
use super::error::{Failure, QUOTED_BYTES, quoted};
use super::table::{Command, Flags, Group, KeyPositions};
use super::{Reply, Session};
use crate::{ExpireCondition, Ttl};

const EXPIRE: Flags = Flags::WRITE.and(Flags::FAST);
const READ: Flags = Flags::READONLY.and(Flags::FAST);

pub(super) static COMMANDS: &[Command] = &[
    Command::new(Group::Generic, "expire", -3, |session, arguments| {
        expire(session, arguments, Unit::Seconds, Origin::Now)
    })
    .flags(EXPIRE)
    .keys(KeyPositions::FIRST)
    .help(
        "key seconds [NX | XX | GT | LT]",
        "Sets a key's TTL in seconds",
    ),
    Command::new(Group::Generic, "pexpire", -3, |session, arguments| {
        expire(session, arguments, Unit::Milliseconds, Origin::Now)
    })
    .flags(EXPIRE)
    .keys(KeyPositions::FIRST)
    .help(
        "key milliseconds [NX | XX | GT | LT]",
        "Sets a key's TTL in milliseconds",
    ),
    Command::new(Group::Generic, "expireat", -3, |session, arguments| {
        expire(session, arguments, Unit::Seconds, Origin::Epoch)
    })
    .flags(EXPIRE)
    .keys(KeyPositions::FIRST)
    .help(
        "key unix-time-seconds [NX | XX | GT | LT]",
        "Sets a key's deadline, in Unix seconds",
    ),
    Command::new(Group::Generic, "pexpireat", -3, |session, arguments| {
        expire(session, arguments, Unit::Milliseconds, Origin::Epoch)
    })
    .flags(EXPIRE)
    .keys(KeyPositions::FIRST)
    .help(
        "key unix-time-milliseconds [NX | XX | GT | LT]",
        "Sets a key's deadline, in Unix milliseconds",
    ),
    Command::new(Group::Generic, "ttl", 2, |session, arguments| {
        ttl(session, arguments, Unit::Seconds, Origin::Now)
    })
    .flags(READ)
    .keys(KeyPositions::FIRST)
    .help(
        "key",
        "Returns a key's TTL in seconds: -1 if it has no deadline, -2 if there is no such key",
    ),
    Command::new(Group::Generic, "pttl", 2, |session, arguments| {
        ttl(session, arguments, Unit::Milliseconds, Origin::Now)
    })
    .flags(READ)
    .keys(KeyPositions::FIRST)
    .help(
        "key",
        "Returns a key's TTL in milliseconds: -1 if it has no deadline, -2 if there is no such key",
    ),
    Command::new(Group::Generic, "expiretime", 2, |session, arguments| {
        ttl(session, arguments, Unit::Seconds, Origin::Epoch)
    })
    .flags(READ)
    .keys(KeyPositions::FIRST)
    .help(
        "key",
        "Returns a key's deadline in Unix seconds: -1 if it has none, -2 if there is no such key",
    ),
    Command::new(Group::Generic, "pexpiretime", 2, |session, arguments| {
        ttl(session, arguments, Unit::Milliseconds, Origin::Epoch)
    })
    .flags(READ)
    .keys(KeyPositions::FIRST)
    .help(
        "key",
        "Returns a key's deadline in Unix milliseconds: -1 if it has none, -2 if there is no such key",
    ),
    Command::new(Group::Generic, "persist", 2, persist)
        .flags(EXPIRE)
        .keys(KeyPositions::FIRST)
        .help("key", "Removes a key's deadline"),
];

/// What a time is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
}

/// Where a time is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Now,
    Epoch,
}

/// A deadline in Unix milliseconds, which may lie before 1970: EXPIRE takes negative times.
pub(super) fn deadline_ms(
    session: &Session,
    time: i64,
    unit: Unit,
    origin: Origin,
) -> Result<i64, Failure> {
    let time_ms = match unit {
        Unit::Seconds => time.checked_mul(1000),
        Unit::Milliseconds => Some(time),
    };
    let origin_ms = match origin {
        Origin::Now => i64::try_from(session.db().now_ms()).unwrap_or(i64::MAX),
        Origin::Epoch => 0,
    };
    time_ms
        .and_then(|time_ms| time_ms.checked_add(origin_ms))
        .ok_or(Failure::ExpireTime)
}

fn expire(
    session: &mut Session,
    arguments: &[&[u8]],
    unit: Unit,
    origin: Origin,
) -> Result<Reply, Failure> {
    let [key, time, options @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    let condition = condition(options)?;
    let deadline_ms = deadline_ms(session, integer(time)?, unit, origin)?;
    // Before 1970 has passed, as 0 has.
    let deadline_ms = u64::try_from(deadline_ms).unwrap_or(0);
    let changed = session.db().expire_at_if(key, deadline_ms, condition)?;
    Ok(Reply::flag(changed))
}

pub(super) fn condition(options: &[&[u8]]) -> Result<ExpireCondition, Failure> {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for option in options {
        if is(option, "NX") {
            nx = true;
        } else if is(option, "XX") {
            xx = true;
        } else if is(option, "GT") {
            gt = true;
        } else if is(option, "LT") {
            lt = true;
        } else {
            return Err(Failure::Text(Cow::Owned(
                [b"Unsupported option ", quoted(option, QUOTED_BYTES)].concat(),
            )));
        }
    }
    match (nx, xx, gt, lt) {
        (true, false, false, false) => Ok(ExpireCondition::Persistent),
        (true, ..) => Err(Failure::text(
            "NX and XX, GT or LT options at the same time are not compatible",
        )),
        (_, _, true, true) => Err(Failure::text(
            "GT and LT options at the same time are not compatible",
        )),
        // No deadline is later than any other: GT has XX in it.
        (_, _, true, false) => Ok(ExpireCondition::Later),
        (_, false, _, true) => Ok(ExpireCondition::Earlier),
        (_, true, _, true) => Ok(ExpireCondition::ExpiringAndEarlier),
        (_, true, ..) => Ok(ExpireCondition::Expiring),
        (false, false, false, false) => Ok(ExpireCondition::Always),
    }
}

fn ttl(
    session: &mut Session,
    arguments: &[&[u8]],
    unit: Unit,
    origin: Origin,
) -> Result<Reply, Failure> {
    let [key] = arguments else {
        return Err(Failure::Arity);
    };
    Ok(Reply::Integer(match session.db().ttl(key)? {
        Ttl::Absent => -2,
        Ttl::Persistent => -1,
        Ttl::Remaining(time) if origin == Origin::Now => in_units(time.as_millis(), unit),
        Ttl::Remaining(_) => match session.db().deadline_ms(key)? {
            Some(deadline_ms) => in_units(deadline_ms.into(), unit),
            None => -2,
        },
    }))
}

/// The time until a deadline, or its own time.
pub(super) fn remaining(session: &Session, deadline_ms: u64, unit: Unit, origin: Origin) -> i64 {
    let time_ms = match origin {
        Origin::Now => deadline_ms.saturating_sub(session.db().now_ms()),
        Origin::Epoch => deadline_ms,
    };
    in_units(time_ms.into(), unit)
}

fn in_units(time_ms: u128, unit: Unit) -> i64 {
    let time_ms = i64::try_from(time_ms).unwrap_or(i64::MAX);
    match unit {
        // Rounded to the nearest: a client that sets 10 seconds and asks at once sees 10.
        Unit::Seconds => time_ms.saturating_add(500) / 1000,
        Unit::Milliseconds => time_ms,
    }
}

fn persist(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key] = arguments else {
        return Err(Failure::Arity);
    };
    Ok(Reply::flag(session.db().persist(key)?))
}
