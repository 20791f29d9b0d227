//! Conditions on a string's value: DELEX, DIGEST, MSETEX, and the conditions of SET. From Redis
//! 8.4, and Valkey 9's DELIFEQ.

use super::arguments::{integer, is};
use super::error::Failure;
use super::strings::TimeWords;
use super::table::{Command, Flags, Group, Handler, KeyPositions};
use super::{Reply, Session};
use crate::{Db, SetOptions, Value};

const WRITE: Flags = Flags::WRITE.and(Flags::FAST);

const fn of_key(name: &'static str, arity: i16, handler: Handler) -> Command {
    Command::new(Group::String, name, arity, handler).keys(KeyPositions::FIRST)
}

pub(super) static COMMANDS: &[Command] = &[
    of_key("delex", -2, delex).flags(WRITE).help(
        "key [IFEQ match-value | IFNE match-value | IFDEQ match-digest | IFDNE match-digest]",
        "Removes a string if it is equal or not equal to a value or digest",
    ),
    of_key("delifeq", 3, |session, arguments| match arguments {
        [key, value] => delex(session, &[key, b"IFEQ", value]),
        _ => Err(Failure::Arity),
    })
    .flags(WRITE)
    .help("key value", "Removes a string if it is equal to a value"),
    of_key("digest", 2, digest)
        .flags(Flags::READONLY.and(Flags::FAST))
        .help("key", "Returns the XXH3 hash of the string at a key"),
    Command::new(Group::String, "msetex", -4, msetex)
        .flags(Flags::WRITE.and(Flags::DENYOOM).and(Flags::MOVABLE_KEYS))
        .keys(KeyPositions::new(2, -1, 2))
        .help(
            "numkeys key value [key value ...] [NX | XX] [EX seconds | PX milliseconds | \
             EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
            "Sets several strings in one commit, optionally on a condition and with a deadline",
        ),
];

/// What a string must be like for something to be done with it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Match<'w> {
    /// It is this one.
    Is(&'w [u8]),
    /// It is another one, or there is none.
    IsNot(&'w [u8]),
    /// It has this digest.
    Digest(&'w [u8]),
    /// It has another one, or there is none.
    NotDigest(&'w [u8]),
}

impl<'w> Match<'w> {
    /// The condition of this name, about this word.
    pub(super) fn of(name: &[u8], word: &'w [u8]) -> Option<Match<'w>> {
        Some(match name {
            name if is(name, "IFEQ") => Match::Is(word),
            name if is(name, "IFNE") => Match::IsNot(word),
            name if is(name, "IFDEQ") => Match::Digest(word),
            name if is(name, "IFDNE") => Match::NotDigest(word),
            _ => return None,
        })
    }

    pub(super) fn allows(self, value: Option<&Value>) -> bool {
        let is_digest =
            |wanted: &[u8], value: &Value| digest_of(value).as_bytes().eq_ignore_ascii_case(wanted);
        match self {
            Match::Is(wanted) => value.is_some_and(|value| **value == *wanted),
            Match::IsNot(other) => value.is_none_or(|value| **value != *other),
            Match::Digest(wanted) => value.is_some_and(|value| is_digest(wanted, value)),
            Match::NotDigest(other) => value.is_none_or(|value| !is_digest(other, value)),
        }
    }
}

/// XXH3 with 64 bits, as 16 hexadecimal digits.
fn digest_of(value: &[u8]) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(value))
}

fn digest(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key] = arguments else {
        return Err(Failure::Arity);
    };
    let value = session.db().get(key)?;
    Ok(value.map_or(Reply::Nil, |value| Reply::bulk(digest_of(&value))))
}

fn delex(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let condition = match arguments {
        [_] => None,
        [_, name, word] => Some(Match::of(name, word).ok_or(Failure::SYNTAX)?),
        _ => return Err(Failure::SYNTAX),
    };
    let key = arguments.first().copied().unwrap_or_default();
    let Some(condition) = condition else {
        return Ok(Reply::flag(session.db().del(key)?));
    };
    let removed = session.db().transaction(|tx| -> crate::Result<bool> {
        let value = tx.get(key)?;
        Ok(value.is_some() && condition.allows(value.as_ref()) && tx.del(key)?)
    })?;
    Ok(Reply::flag(removed))
}

fn msetex(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [count, words @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    let count = usize::try_from(integer(count)?)
        .ok()
        .filter(|count| *count > 0)
        .ok_or(Failure::text("invalid numkeys value"))?;
    let strings = count
        .checked_mul(2)
        .and_then(|words_of_strings| words.split_at_checked(words_of_strings));
    let Some((strings, options)) = strings else {
        return Err(Failure::text("wrong number of key-value pairs"));
    };
    let (mut nx, mut xx) = (false, false);
    let mut time = TimeWords::default();
    let mut options = options.iter();
    while let Some(option) = options.next() {
        if is(option, "NX") {
            nx = true;
        } else if is(option, "XX") {
            xx = true;
        } else if !time.take(option, &mut options)? {
            return Err(Failure::SYNTAX);
        }
    }
    if nx && xx {
        return Err(Failure::SYNTAX);
    }
    let options = time.apply(session, SetOptions::new())?;
    let strings: Vec<&[&[u8]]> = strings.chunks_exact(2).collect();
    let is_set = session.db().transaction(|tx: &Db| -> crate::Result<bool> {
        for string in &strings {
            let is_there = tx.exists(string[0])?;
            if (nx && is_there) || (xx && !is_there) {
                return Ok(false);
            }
        }
        for string in &strings {
            tx.set_with(string[0], string[1], options)?;
        }
        Ok(true)
    })?;
    Ok(Reply::flag(is_set))
}
