//! Keys of either type: DEL, EXISTS, TYPE, KEYS.

use std::borrow::Cow;

use super::error::Failure;
use super::table::{Command, Flags, Group, KeyPositions};
use super::{Reply, Session};
use crate::KeyType;
use crate::glob::Pattern;

pub(super) static COMMANDS: &[Command] = &[
    Command::new(Group::Generic, "del", -2, del)
        .flags(Flags::WRITE)
        .keys(KeyPositions::ALL)
        .help(
            "key [key ...]",
            "Removes keys, and returns the number of removed ones",
        ),
    Command::new(Group::Generic, "unlink", -2, del)
        .flags(Flags::WRITE.and(Flags::FAST))
        .keys(KeyPositions::ALL)
        .help("key [key ...]", "Removes keys, like DEL"),
    Command::new(Group::Generic, "exists", -2, exists)
        .flags(Flags::READONLY.and(Flags::FAST))
        .keys(KeyPositions::ALL)
        .help("key [key ...]", "Returns the number of keys that exist"),
    Command::new(Group::Generic, "type", 2, type_of_key)
        .flags(Flags::READONLY.and(Flags::FAST))
        .keys(KeyPositions::FIRST)
        .help("key", "Returns the type of a key: string, hash or none"),
    Command::new(Group::Generic, "keys", 2, keys)
        .flags(Flags::READONLY)
        .help("pattern", "Lists the keys that match a pattern"),
];

/// The name of a type, as TYPE answers it and as SCAN takes it.
pub(super) fn type_name(key_type: KeyType) -> &'static str {
    match key_type {
        KeyType::String => "string",
        KeyType::Hash => "hash",
    }
}

fn del(session: &mut Session, keys: &[&[u8]]) -> Result<Reply, Failure> {
    Ok(Reply::count(session.db().del_many(keys)?))
}

fn exists(session: &mut Session, keys: &[&[u8]]) -> Result<Reply, Failure> {
    Ok(Reply::count(session.db().exists_many(keys)?))
}

fn type_of_key(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key] = arguments else {
        return Err(Failure::Arity);
    };
    let name = session.db().key_type(key)?.map_or("none", type_name);
    Ok(Reply::Status(Cow::Borrowed(name)))
}

fn keys(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [pattern] = arguments else {
        return Err(Failure::Arity);
    };
    let pattern = Pattern::new(pattern);
    let mut found = Vec::new();
    for key in session.db().keys() {
        let key = key?;
        if pattern.matches(&key) {
            found.push(Reply::from(key));
        }
    }
    Ok(Reply::Array(found))
}
