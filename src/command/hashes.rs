//! Hashes: fields under one key.

use super::arguments::{integer, is, pairs};
use super::error::Failure;
use super::table::{Command, Flags, Group, Handler, KeyPositions};
use super::{Reply, Session};
use crate::SetOptions;
use crate::db::Draw;

/// More fields than are ever drawn at once: a reply of them would fit into no memory.
const MAX_DRAWN: i64 = 1 << 24;

const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = READ.and(Flags::FAST);
const WRITE_FAST: Flags = Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST);

const fn of_hash(name: &'static str, arity: i16, handler: Handler) -> Command {
    Command::new(Group::Hash, name, arity, handler).keys(KeyPositions::FIRST)
}

pub(super) static COMMANDS: &[Command] = &[
    of_hash("hget", 3, hget)
        .flags(READ_FAST)
        .help("key field", "Returns the value of a field"),
    of_hash("hmget", -3, hmget).flags(READ_FAST).help(
        "key field [field ...]",
        "Returns the values of several fields",
    ),
    of_hash("hgetall", 2, hgetall)
        .flags(READ)
        .help("key", "Returns all fields with their values"),
    of_hash("hkeys", 2, hkeys)
        .flags(READ)
        .help("key", "Returns the names of all fields"),
    of_hash("hvals", 2, hvals)
        .flags(READ)
        .help("key", "Returns the values of all fields"),
    of_hash("hlen", 2, hlen)
        .flags(READ_FAST)
        .help("key", "Returns the number of fields"),
    of_hash("hexists", 3, hexists)
        .flags(READ_FAST)
        .help("key field", "Returns 1 if a field exists, else 0"),
    of_hash("hset", -4, hset).flags(WRITE_FAST).help(
        "key field value [field value ...]",
        "Sets fields in one commit, and returns the number of new ones",
    ),
    of_hash("hmset", -4, hmset).flags(WRITE_FAST).help(
        "key field value [field value ...]",
        "Sets fields in one commit",
    ),
    of_hash("hsetnx", 4, hsetnx)
        .flags(WRITE_FAST)
        .help("key field value", "Sets a field that does not exist yet"),
    of_hash("hdel", -3, hdel)
        .flags(Flags::WRITE.and(Flags::FAST))
        .help(
            "key field [field ...]",
            "Removes fields, and returns the number of removed ones",
        ),
    of_hash("hincrby", 4, hincrby)
        .flags(WRITE_FAST)
        .help("key field increment", "Adds to the integer in a field"),
    of_hash("hincrbyfloat", 4, hincrbyfloat)
        .flags(WRITE_FAST)
        .help("key field increment", "Adds to the number in a field"),
    of_hash("hstrlen", 3, hstrlen).flags(READ_FAST).help(
        "key field",
        "Returns the length of a field's value in bytes",
    ),
    of_hash("hrandfield", -2, hrandfield).flags(READ).help(
        "key [count [WITHVALUES]]",
        "Returns random fields; a negative count allows duplicates",
    ),
];

fn hget(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, field] = arguments else {
        return Err(Failure::Arity);
    };
    Ok(session.db().hget(key, field)?.into())
}

fn hmget(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, fields @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    Ok(Reply::array(session.db().hget_many(key, fields)?))
}

fn hgetall(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key] = arguments else {
        return Err(Failure::Arity);
    };
    let fields = session.db().hgetall(key)?.into_iter();
    let fields = fields.map(|(field, value)| (field.into(), value.into()));
    Ok(Reply::Map(fields.collect()))
}

fn hkeys(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key] = arguments else {
        return Err(Failure::Arity);
    };
    Ok(Reply::array(session.db().hkeys(key)?))
}

fn hvals(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key] = arguments else {
        return Err(Failure::Arity);
    };
    Ok(Reply::array(session.db().hvals(key)?))
}

fn hlen(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key] = arguments else {
        return Err(Failure::Arity);
    };
    Ok(Reply::count(session.db().hlen(key)?))
}

fn hexists(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, field] = arguments else {
        return Err(Failure::Arity);
    };
    Ok(Reply::flag(session.db().hexists(key, field)?))
}

fn hset(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    Ok(Reply::count(set_fields(session, arguments)?))
}

fn hmset(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    set_fields(session, arguments)?;
    Ok(Reply::OK)
}

fn set_fields(session: &mut Session, arguments: &[&[u8]]) -> Result<u64, Failure> {
    let [key, fields @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    let fields = pairs(fields).ok_or(Failure::Arity)?;
    let fields: Vec<_> = fields.iter().map(|[field, value]| (field, value)).collect();
    Ok(session.db().hset_many(key, &fields)?)
}

fn hsetnx(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, field, value] = arguments else {
        return Err(Failure::Arity);
    };
    let options = SetOptions::new().only_if_absent();
    let is_set = session.db().hset_with(key, &[(field, value)], options)?;
    Ok(Reply::flag(is_set))
}

fn hdel(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, fields @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    Ok(Reply::count(session.db().hdel_many(key, fields)?))
}

fn hincrbyfloat(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, field, increment] = arguments else {
        return Err(Failure::Arity);
    };
    let sum = session.db().hincr_by_number(key, field, increment)?;
    Ok(Reply::bulk(sum))
}

fn hstrlen(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, field] = arguments else {
        return Err(Failure::Arity);
    };
    let value = session.db().hget(key, field)?;
    Ok(Reply::count(value.map_or(0, |value| value.len() as u64)))
}

fn hrandfield(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, words @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    let (count, with_values) = drawn_words(words)?;
    // More than there are is all of them; but a field may come again and again.
    if count.is_some_and(|count| count < -MAX_DRAWN) && session.db().hlen(key)? > 0 {
        return Err(Failure::text("value is out of range"));
    }
    let Some(count) = count else {
        let drawn = session.db().draw_fields(key, 1, Draw::Once)?;
        let field = drawn.into_iter().next();
        return Ok(field.map_or(Reply::Nil, |(field, _)| field.into()));
    };
    let draw = if count < 0 { Draw::Again } else { Draw::Once };
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let drawn = session.db().draw_fields(key, wanted, draw)?.into_iter();
    Ok(match with_values {
        true => Reply::Pairs(
            drawn
                .map(|(field, value)| (field.into(), value.into()))
                .collect(),
        ),
        false => Reply::array(drawn.map(|(field, _)| field)),
    })
}

/// How many fields HRANDFIELD is to draw, and whether their values too; in the order in which Redis looks at the words.
fn drawn_words(words: &[&[u8]]) -> Result<(Option<i64>, bool), Failure> {
    let [count, options @ ..] = words else {
        return Ok((None, false));
    };
    let count = integer(count)?;
    if count == i64::MIN {
        return Err(Failure::text(
            "value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    match options {
        [] => Ok((Some(count), false)),
        // Values count twice.
        [option] if is(option, "WITHVALUES") => {
            match count.unsigned_abs() > i64::MAX.unsigned_abs() / 2 {
                true => Err(Failure::text("value is out of range")),
                false => Ok((Some(count), true)),
            }
        }
        _ => Err(Failure::SYNTAX),
    }
}

fn hincrby(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, field, increment] = arguments else {
        return Err(Failure::Arity);
    };
    let sum = session.db().hincr_by(key, field, integer(increment)?)?;
    Ok(Reply::Integer(sum))
}
