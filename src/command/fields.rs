//! Deadlines of fields, as in Redis 7.4, and the additions of 8.0.

use super::arguments::{integer, is};
use super::error::Failure;
use super::expiry::{Origin, Unit, condition, deadline_ms, remaining};
use super::strings::{TimeWords, TtlWords};
use super::table::{Command, Flags, Group, Handler, KeyPositions};
use super::{Reply, Session};
use crate::{Error, ExpireCondition, FieldExpiry, KeyType, SetOptions};

const READ: Flags = Flags::READONLY.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE.and(Flags::FAST);
const WRITE_MORE: Flags = WRITE.and(Flags::DENYOOM);

const fn of_hash(name: &'static str, arity: i16, handler: Handler) -> Command {
    Command::new(Group::Hash, name, arity, handler).keys(KeyPositions::FIRST)
}

macro_rules! of_time {
    ($generic:ident, $unit:ident, $origin:ident) => {
        |session, arguments| $generic(session, arguments, Unit::$unit, Origin::$origin)
    };
}

pub(super) static COMMANDS: &[Command] = &[
    of_hash("hexpire", -6, of_time!(hexpire, Seconds, Now))
        .flags(WRITE_MORE)
        .help(
            "key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
            "Sets the TTL of fields in seconds",
        ),
    of_hash("hpexpire", -6, of_time!(hexpire, Milliseconds, Now))
        .flags(WRITE_MORE)
        .help(
            "key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
            "Sets the TTL of fields in milliseconds",
        ),
    of_hash("hexpireat", -6, of_time!(hexpire, Seconds, Epoch))
        .flags(WRITE_MORE)
        .help(
            "key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
            "Sets the deadline of fields, in Unix seconds",
        ),
    of_hash("hpexpireat", -6, of_time!(hexpire, Milliseconds, Epoch))
        .flags(WRITE_MORE)
        .help(
            "key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
            "Sets the deadline of fields, in Unix milliseconds",
        ),
    of_hash("httl", -5, of_time!(httl, Seconds, Now))
        .flags(READ)
        .help(
            "key FIELDS numfields field [field ...]",
            "Returns the TTL of fields in seconds: -1 without a deadline, -2 if there is no such field",
        ),
    of_hash("hpttl", -5, of_time!(httl, Milliseconds, Now))
        .flags(READ)
        .help(
            "key FIELDS numfields field [field ...]",
            "Returns the TTL of fields in milliseconds: -1 without a deadline, -2 if there is no such field",
        ),
    of_hash("hexpiretime", -5, of_time!(httl, Seconds, Epoch))
        .flags(READ)
        .help(
            "key FIELDS numfields field [field ...]",
            "Returns the deadlines of fields in Unix seconds: -1 without one, -2 if there is no such field",
        ),
    of_hash("hpexpiretime", -5, of_time!(httl, Milliseconds, Epoch))
        .flags(READ)
        .help(
            "key FIELDS numfields field [field ...]",
            "Returns the deadlines of fields in Unix milliseconds: -1 without one, -2 if there is no such field",
        ),
    of_hash("hpersist", -5, hpersist).flags(WRITE).help(
        "key FIELDS numfields field [field ...]",
        "Removes the deadlines of fields",
    ),
    of_hash("hgetex", -5, hgetex).flags(WRITE).help(
        "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | \
         PXAT unix-time-milliseconds | PERSIST] FIELDS numfields field [field ...]",
        "Returns the values of fields, and changes their deadlines",
    ),
    of_hash("hsetex", -6, hsetex).flags(WRITE_MORE).help(
        "key [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | \
         PXAT unix-time-milliseconds | KEEPTTL] FIELDS numfields field value [field value ...]",
        "Sets fields in one commit, optionally on a condition and with a deadline",
    ),
    of_hash("hgetdel", -5, hgetdel).flags(WRITE).help(
        "key FIELDS numfields field [field ...]",
        "Returns the values of fields, and removes them",
    ),
];

/// The words behind FIELDS, of which there must be as many as the number says times `words_each`.
fn fields<'a, 'w>(words: &'a [&'w [u8]], words_each: usize) -> Result<&'a [&'w [u8]], Failure> {
    let [keyword, count, fields @ ..] = words else {
        return Err(Failure::text(
            "Mandatory argument FIELDS is missing or not at the right position",
        ));
    };
    if !is(keyword, "FIELDS") {
        return Err(Failure::text(
            "Mandatory argument FIELDS is missing or not at the right position",
        ));
    }
    let count = integer(count)
        .ok()
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| *count > 0)
        .ok_or(Failure::text(
            "Parameter `numFields` should be greater than 0",
        ))?;
    match count.checked_mul(words_each) == Some(fields.len()) {
        true => Ok(fields),
        false => Err(Failure::text(
            "The `numfields` parameter must match the number of arguments",
        )),
    }
}

/// Refuses a string before the words are looked at, as Redis does.
fn check_type(session: &Session, key: &[u8]) -> Result<(), Failure> {
    match session.db().key_type(key)? {
        Some(KeyType::String) => Err(Error::WrongType.into()),
        _ => Ok(()),
    }
}

fn hexpire(
    session: &mut Session,
    arguments: &[&[u8]],
    unit: Unit,
    origin: Origin,
) -> Result<Reply, Failure> {
    let [key, time, words @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    let time = integer(time)?;
    if time < 0 {
        return Err(Failure::text("invalid expire time, must be >= 0"));
    }
    let deadline_ms = deadline_ms(session, time, unit, origin)?;
    let deadline_ms = u64::try_from(deadline_ms).map_err(|_| Failure::ExpireTime)?;
    let (condition, words) = match words {
        [word, rest @ ..]
            if !is(word, "FIELDS") && rest.first().is_some_and(|word| is(word, "FIELDS")) =>
        {
            (condition(&[word])?, rest)
        }
        words => (ExpireCondition::Always, words),
    };
    let fields = fields(words, 1)?;
    let done = session
        .db()
        .hexpire_at_if(key, fields, deadline_ms, condition)?;
    let codes = done.into_iter().map(|done| match done {
        FieldExpiry::Absent => -2,
        FieldExpiry::NotMet => 0,
        FieldExpiry::Set => 1,
        FieldExpiry::Deleted => 2,
    });
    Ok(Reply::Array(codes.map(Reply::Integer).collect()))
}

fn httl(
    session: &mut Session,
    arguments: &[&[u8]],
    unit: Unit,
    origin: Origin,
) -> Result<Reply, Failure> {
    let [key, words @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    check_type(session, key)?;
    let deadlines = session.db().field_deadlines_ms(key, fields(words, 1)?)?;
    let times = deadlines.into_iter().map(|deadline_ms| match deadline_ms {
        None => -2,
        Some(None) => -1,
        Some(Some(deadline_ms)) => remaining(session, deadline_ms, unit, origin),
    });
    Ok(Reply::Array(times.map(Reply::Integer).collect()))
}

fn hpersist(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, words @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    check_type(session, key)?;
    let done = session.db().hpersist(key, fields(words, 1)?)?;
    let codes = done.into_iter().map(|had_deadline| match had_deadline {
        None => -2,
        Some(false) => -1,
        Some(true) => 1,
    });
    Ok(Reply::Array(codes.map(Reply::Integer).collect()))
}

/// Where the word FIELDS stands.
fn position(words: &[&[u8]]) -> Result<usize, Failure> {
    let position = words.iter().position(|word| is(word, "FIELDS"));
    position.ok_or(Failure::text(
        "Mandatory argument FIELDS is missing or not at the right position",
    ))
}

fn hgetex(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, words @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    check_type(session, key)?;
    let (options, words) = words.split_at(position(words)?);
    let fields = fields(words, 1)?;
    let change = TtlWords::read(options)?.change(session)?;
    Ok(Reply::array(session.db().hget_ex(key, fields, change)?))
}

fn hsetex(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, words @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    let (options, words) = words.split_at(position(words)?);
    let fields = fields(words, 2)?;
    let (mut fnx, mut fxx) = (false, false);
    let mut time = TimeWords::default();
    let mut options = options.iter();
    while let Some(option) = options.next() {
        if is(option, "FNX") {
            fnx = true;
        } else if is(option, "FXX") {
            fxx = true;
        } else if !time.take(option, &mut options)? {
            return Err(Failure::SYNTAX);
        }
    }
    let set = match (fnx, fxx) {
        (true, true) => return Err(Failure::SYNTAX),
        (true, false) => SetOptions::new().only_if_absent(),
        (false, true) => SetOptions::new().only_if_present(),
        (false, false) => SetOptions::new(),
    };
    let set = time.apply(session, set)?;
    let fields: Vec<_> = fields
        .chunks_exact(2)
        .map(|pair| (pair[0], pair[1]))
        .collect();
    Ok(Reply::flag(session.db().hset_with(key, &fields, set)?))
}

fn hgetdel(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, words @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    check_type(session, key)?;
    let fields = fields(words, 1)?;
    Ok(Reply::array(session.db().hget_del(key, fields)?))
}
