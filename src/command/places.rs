//! Keys that get another name or database: RENAME, COPY, MOVE, SWAPDB; and RANDOMKEY, TOUCH.

use super::arguments::{integer, is};
use super::error::Failure;
use super::table::{Command, Flags, Group, KeyPositions};
use super::{Reply, Session};
use crate::Db;
use crate::limits::DATABASE_COUNT;

const TWO_KEYS: KeyPositions = KeyPositions::new(1, 2, 1);

const NO_SUCH_KEY: Failure = Failure::text("no such key");

pub(super) static COMMANDS: &[Command] = &[
    Command::new(Group::Generic, "rename", 3, rename)
        .flags(Flags::WRITE)
        .keys(TWO_KEYS)
        .help(
            "key newkey",
            "Renames a key, and replaces a key of the new name",
        ),
    Command::new(Group::Generic, "renamenx", 3, renamenx)
        .flags(Flags::WRITE.and(Flags::FAST))
        .keys(TWO_KEYS)
        .help("key newkey", "Renames a key if no key has the new name"),
    Command::new(Group::Generic, "copy", -3, copy)
        .flags(Flags::WRITE.and(Flags::DENYOOM))
        .keys(TWO_KEYS)
        .help(
            "key destination [DB destination-db] [REPLACE]",
            "Copies a key with its value and deadlines",
        ),
    Command::new(Group::Generic, "move", 3, move_key)
        .flags(Flags::WRITE.and(Flags::FAST))
        .keys(KeyPositions::FIRST)
        .help("key db", "Moves a key to another database"),
    Command::new(Group::Server, "swapdb", 3, swapdb)
        .flags(Flags::WRITE.and(Flags::FAST))
        .help("index1 index2", "Exchanges two databases"),
    Command::new(Group::Generic, "randomkey", 1, randomkey)
        .flags(Flags::READONLY)
        .help("", "Returns a random key"),
    Command::new(Group::Generic, "touch", -2, touch)
        .flags(Flags::READONLY.and(Flags::FAST))
        .keys(KeyPositions::ALL)
        .help(
            "key [key ...]",
            "Marks keys as recently used, and returns the number of keys that exist",
        ),
];

fn rename(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, new] = arguments else {
        return Err(Failure::Arity);
    };
    match session.db().rename(key, new)? {
        true => Ok(Reply::OK),
        false => Err(NO_SUCH_KEY),
    }
}

fn renamenx(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, new] = arguments else {
        return Err(Failure::Arity);
    };
    let renamed = session.db().rename_if_absent(key, new)?;
    renamed.map(Reply::flag).ok_or(NO_SUCH_KEY)
}

/// Another database of the file, by its number.
fn database(session: &Session, number: i64) -> Result<Db, Failure> {
    u8::try_from(number)
        .ok()
        .filter(|number| *number < DATABASE_COUNT)
        .and_then(|number| session.db().database(number).ok())
        .ok_or(Failure::text("DB index is out of range"))
}

fn copy(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, new, options @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    let mut target = session.db().clone();
    let mut replace = false;
    let mut options = options.iter();
    while let Some(option) = options.next() {
        if is(option, "REPLACE") {
            replace = true;
        } else if is(option, "DB") {
            let number = options.next().ok_or(Failure::SYNTAX)?;
            target = database(session, integer(number)?)?;
        } else {
            return Err(Failure::SYNTAX);
        }
    }
    if key == new && target.database_number() == session.db().database_number() {
        return Err(Failure::text("source and destination objects are the same"));
    }
    Ok(Reply::flag(session.db().copy(key, &target, new, replace)?))
}

fn move_key(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, number] = arguments else {
        return Err(Failure::Arity);
    };
    let target = database(session, integer(number)?)?;
    if target.database_number() == session.db().database_number() {
        return Err(Failure::text("source and destination objects are the same"));
    }
    Ok(Reply::flag(session.db().move_to(key, &target)?))
}

fn swapdb(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [one, other] = arguments else {
        return Err(Failure::Arity);
    };
    let number = |word: &[u8], wrong: &'static str| {
        let number = integer(word).ok();
        let number = number.filter(|number| i32::try_from(*number).is_ok());
        number.ok_or(Failure::text(wrong))
    };
    let one = number(one, "invalid first DB index")?;
    let other = number(other, "invalid second DB index")?;
    let (one, other) = (database(session, one)?, database(session, other)?);
    session
        .db()
        .swap_databases(one.database_number(), other.database_number())?;
    Ok(Reply::OK)
}

fn randomkey(session: &mut Session, _: &[&[u8]]) -> Result<Reply, Failure> {
    Ok(session.db().random_key()?.into())
}

fn touch(session: &mut Session, keys: &[&[u8]]) -> Result<Reply, Failure> {
    Ok(Reply::count(session.db().exists_many(keys)?))
}
