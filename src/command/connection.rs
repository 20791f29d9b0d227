//! The conversation itself: PING, ECHO, SELECT.

use std::borrow::Cow;

use super::arguments::integer;
use super::error::Failure;
use super::table::{Command, Flags, Group};
use super::{Reply, Session};
use crate::limits::DATABASE_COUNT;

const FLAGS: Flags = Flags::LOADING.and(Flags::STALE).and(Flags::FAST);

pub(super) static COMMANDS: &[Command] = &[
    Command::new(Group::Connection, "ping", -1, ping)
        .flags(Flags::FAST)
        .help("[message]", "Answers PONG, or the message"),
    Command::new(Group::Connection, "echo", 2, echo)
        .flags(FLAGS)
        .help("message", "Answers the message"),
    Command::new(Group::Connection, "select", 2, select)
        .flags(FLAGS)
        .help("index", "Goes on in another of the 16 databases"),
];

fn ping(_: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    match arguments {
        [] => Ok(Reply::Status(Cow::Borrowed("PONG"))),
        [message] => Ok(Reply::bulk(*message)),
        _ => Err(Failure::Arity),
    }
}

fn echo(_: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [message] = arguments else {
        return Err(Failure::Arity);
    };
    Ok(Reply::bulk(*message))
}

fn select(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [index] = arguments else {
        return Err(Failure::Arity);
    };
    // Redis reads it into 32 bits before it looks whether there is such a database.
    let index = i32::try_from(integer(index)?).map_err(|_| {
        Failure::Text(Cow::Owned(
            format!(
                "value is out of range, value must between {} and {}",
                i32::MIN,
                i32::MAX
            )
            .into_bytes(),
        ))
    })?;
    let number = u8::try_from(index)
        .ok()
        .filter(|number| *number < DATABASE_COUNT)
        .ok_or(Failure::text("DB index is out of range"))?;
    session.select(number)?;
    Ok(Reply::OK)
}
