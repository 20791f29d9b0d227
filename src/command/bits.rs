//! Strings as rows of bits, the first being the highest of the first byte.

use std::borrow::Cow;

use super::arguments::{integer, is};
use super::error::Failure;
use super::table::{Command, Flags, Group, Handler, KeyPositions};
use super::{Reply, Session};
use crate::limits::MAX_VALUE_BYTES;
use crate::{Db, Result as DbResult, SetOptions};

const WRITE: Flags = Flags::WRITE.and(Flags::DENYOOM);

const fn of_key(name: &'static str, arity: i16, handler: Handler) -> Command {
    Command::new(Group::Bitmap, name, arity, handler).keys(KeyPositions::FIRST)
}

pub(super) static COMMANDS: &[Command] = &[
    of_key("setbit", 4, setbit).flags(WRITE).help(
        "key offset value",
        "Sets or clears a bit, and returns its previous value",
    ),
    of_key("getbit", 3, getbit)
        .flags(Flags::READONLY.and(Flags::FAST))
        .help("key offset", "Returns a bit"),
    of_key("bitcount", -2, bitcount)
        .flags(Flags::READONLY)
        .help(
            "key [start end [BYTE | BIT]]",
            "Returns the number of bits that are set",
        ),
    of_key("bitpos", -3, bitpos).flags(Flags::READONLY).help(
        "key bit [start [end [BYTE | BIT]]]",
        "Returns the position of the first bit that is 1 or 0",
    ),
    of_key("bitop", -4, bitop)
        .keys(KeyPositions::new(2, -1, 1))
        .flags(WRITE)
        .help(
            "operation destkey key [key ...]",
            "Combines strings bit by bit with AND, OR, XOR or NOT, and stores the result at a key",
        ),
];

/// The offset of a bit.
pub(super) fn bit_offset(word: &[u8]) -> Result<usize, Failure> {
    const WRONG: Failure = Failure::text("bit offset is not an integer or out of range");
    let offset = integer(word).map_err(|_| WRONG)?;
    usize::try_from(offset)
        .ok()
        .filter(|offset| offset / 8 < MAX_VALUE_BYTES)
        .ok_or(WRONG)
}

/// Replaces the string at a key by the result of `change`, and keeps its deadline. An unchanged
/// string is not written, and a client that watches the key is not told, as in Redis 7.0.
pub(super) fn rewrite<R>(
    session: &Session,
    key: &[u8],
    change: impl FnOnce(&mut Vec<u8>) -> R,
) -> DbResult<R> {
    session.db().transaction(|tx: &Db| -> DbResult<R> {
        let old = tx.get(key)?;
        let mut bytes = old.as_ref().map_or_else(Vec::new, |old| old.to_vec());
        let done = change(&mut bytes);
        if old.is_none_or(|old| *old != *bytes) {
            tx.set_with(key, bytes, SetOptions::new().keep_ttl())?;
        }
        Ok(done)
    })
}

fn setbit(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, offset, bit] = arguments else {
        return Err(Failure::Arity);
    };
    let offset = bit_offset(offset)?;
    let is_set = match integer(bit) {
        Ok(0) => false,
        Ok(1) => true,
        _ => return Err(Failure::text("bit is not an integer or out of range")),
    };
    let old = rewrite(session, key, |bytes| {
        if bytes.len() <= offset / 8 {
            bytes.resize(offset / 8 + 1, 0);
        }
        let mask = 0x80 >> (offset % 8);
        let byte = &mut bytes[offset / 8];
        let old = *byte & mask != 0;
        *byte = if is_set { *byte | mask } else { *byte & !mask };
        old
    })?;
    Ok(Reply::flag(old))
}

fn getbit(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, offset] = arguments else {
        return Err(Failure::Arity);
    };
    let offset = bit_offset(offset)?;
    let value = session.db().get(key)?;
    let byte = value.as_ref().and_then(|value| value.get(offset / 8));
    Ok(Reply::flag(
        byte.is_some_and(|byte| byte & (0x80 >> (offset % 8)) != 0),
    ))
}

/// What a range is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Byte,
    Bit,
}

impl Unit {
    fn read(word: &[u8]) -> Result<Unit, Failure> {
        match word {
            word if is(word, "BYTE") => Ok(Unit::Byte),
            word if is(word, "BIT") => Ok(Unit::Bit),
            _ => Err(Failure::SYNTAX),
        }
    }
}

/// A range of bits, both ends included and not negative; `None` where it is empty.
fn bit_range(len: usize, start: i64, end: i64, unit: Unit) -> Option<(usize, usize)> {
    let bytes = i64::try_from(len).unwrap_or(i64::MAX);
    let all = match unit {
        Unit::Byte => bytes,
        Unit::Bit => bytes.saturating_mul(8),
    };
    let from_start = |at: i64| match at < 0 {
        true => all.saturating_add(at).max(0),
        false => at,
    };
    let (start, end) = (from_start(start), from_start(end).min(all - 1));
    if start > end {
        return None;
    }
    let (start, end) = match unit {
        Unit::Bit => (start, end),
        Unit::Byte => (start * 8, end * 8 + 7),
    };
    usize::try_from(start).ok().zip(usize::try_from(end).ok())
}

fn is_bit_set(bytes: &[u8], at: usize) -> bool {
    bytes
        .get(at / 8)
        .is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0)
}

fn bitcount(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, range @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    let Some(bytes) = session.db().get(key)? else {
        // Before the other words are looked at, as in Redis.
        return Ok(Reply::Integer(0));
    };
    let (start, end, unit) = match range {
        [] => (0, -1, None),
        [start, end] => (integer(start)?, integer(end)?, None),
        [start, end, unit] => (integer(start)?, integer(end)?, Some(*unit)),
        _ => return Err(Failure::SYNTAX),
    };
    if start < 0 && end < 0 && start > end {
        // Before the unit is looked at, as in Redis.
        return Ok(Reply::Integer(0));
    }
    let unit = unit.map_or(Ok(Unit::Byte), Unit::read)?;
    let Some((start, end)) = bit_range(bytes.len(), start, end, unit) else {
        return Ok(Reply::Integer(0));
    };
    Ok(Reply::count(count_bits(&bytes, start, end)))
}

/// Counts bits from one to another, both included.
fn count_bits(bytes: &[u8], start: usize, end: usize) -> u64 {
    let (first, last) = (start / 8, end / 8);
    let whole = bytes.get(first..=last).unwrap_or_default();
    let count: u64 = whole.iter().map(|byte| u64::from(byte.count_ones())).sum();
    let head = (first * 8..start).filter(|at| is_bit_set(bytes, *at));
    let tail = (end + 1..last * 8 + 8).filter(|at| is_bit_set(bytes, *at));
    count - (head.count() + tail.count()) as u64
}

fn bitpos(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, bit, range @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    let bit = match integer(bit)? {
        0 => false,
        1 => true,
        _ => return Err(Failure::text("The bit argument must be 1 or 0.")),
    };
    let Some(bytes) = session.db().get(key)? else {
        // As if there were zeros without end, whatever the other words say.
        return Ok(Reply::Integer(if bit { -1 } else { 0 }));
    };
    // In the order in which Redis looks at them: start, unit, end.
    let (first, unit, end) = match range {
        [] => (0, Unit::Byte, None),
        [start] => (integer(start)?, Unit::Byte, None),
        [start, end] => (integer(start)?, Unit::Byte, Some(*end)),
        [start, end, unit] => (integer(start)?, Unit::read(unit)?, Some(*end)),
        _ => return Err(Failure::SYNTAX),
    };
    let has_end = end.is_some();
    let last = end.map_or(Ok(-1), integer)?;
    let Some((first, last)) = bit_range(bytes.len(), first, last, unit) else {
        return Ok(Reply::Integer(-1));
    };
    let skipped = if bit { 0x00 } else { 0xff };
    let mut at = first;
    while at <= last {
        if at % 8 == 0 && at + 7 <= last && bytes[at / 8] == skipped {
            at += 8;
            continue;
        }
        if is_bit_set(&bytes, at) == bit {
            return Ok(Reply::count(at as u64));
        }
        at += 1;
    }
    // Behind the end stand zeros, unless an end was given.
    Ok(match !bit && !has_end {
        true => Reply::count(bytes.len() as u64 * 8),
        false => Reply::Integer(-1),
    })
}

fn bitop(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [operation, target, keys @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    let combine: fn(u8, u8) -> u8 = match operation {
        name if is(name, "AND") => |one, other| one & other,
        name if is(name, "OR") => |one, other| one | other,
        name if is(name, "XOR") => |one, other| one ^ other,
        name if is(name, "NOT") => |one, _| !one,
        _ => return Err(Failure::SYNTAX),
    };
    let is_not = is(operation, "NOT");
    if is_not && keys.len() != 1 {
        return Err(Failure::Text(Cow::Borrowed(
            b"BITOP NOT must be called with a single source key.",
        )));
    }
    let length = session.db().transaction(|tx| -> Result<u64, Failure> {
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(tx.get(key)?);
        }
        let length = values.iter().flatten().map(|value| value.len()).max();
        let length = length.unwrap_or(0);
        let padded = |value: Option<&crate::Value>| {
            let mut bytes = value.map_or_else(Vec::new, |value| value.to_vec());
            bytes.resize(length, 0);
            bytes
        };
        let mut values = values.iter().map(Option::as_ref);
        let mut result = padded(values.next().flatten());
        if is_not {
            result.iter_mut().for_each(|byte| *byte = combine(*byte, 0));
        }
        for value in values {
            for (byte, other) in result.iter_mut().zip(padded(value)) {
                *byte = combine(*byte, other);
            }
        }
        match result.is_empty() {
            true => _ = tx.del(target)?,
            false => tx.set(target, result)?,
        }
        Ok(length as u64)
    })?;
    Ok(Reply::count(length))
}
