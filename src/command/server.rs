//! All data at once: DBSIZE, FLUSHDB, FLUSHALL; and the clock.

use super::arguments::is;
use super::error::Failure;
use super::table::{Command, Flags, Group};
use super::{Reply, Session};

pub(super) static COMMANDS: &[Command] = &[
    Command::new(Group::Server, "dbsize", 1, dbsize)
        .flags(Flags::READONLY.and(Flags::FAST))
        .help("", "Returns the number of keys of the selected database"),
    Command::new(Group::Server, "flushdb", -1, flushdb)
        .flags(Flags::WRITE)
        .help(
            "[ASYNC | SYNC]",
            "Removes every key of the selected database",
        ),
    Command::new(Group::Server, "flushall", -1, flushall)
        .flags(Flags::WRITE)
        .help("[ASYNC | SYNC]", "Removes every key of all databases"),
    Command::new(Group::Server, "time", 1, time)
        .flags(Flags::LOADING.and(Flags::STALE).and(Flags::FAST))
        .help("", "Returns the time as Unix seconds and microseconds"),
];

fn dbsize(session: &mut Session, _: &[&[u8]]) -> Result<Reply, Failure> {
    Ok(Reply::count(session.db().len()?))
}

fn flushdb(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    check_flush_mode(arguments)?;
    session.db().clear()?;
    Ok(Reply::OK)
}

fn flushall(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    check_flush_mode(arguments)?;
    session.db().clear_all()?;
    Ok(Reply::OK)
}

/// Clearing is one record, so that there is nothing to put off: both modes are the same.
fn check_flush_mode(arguments: &[&[u8]]) -> Result<(), Failure> {
    match arguments {
        [] => Ok(()),
        [mode] if is(mode, "SYNC") || is(mode, "ASYNC") => Ok(()),
        _ => Err(Failure::SYNTAX),
    }
}

fn time(session: &mut Session, _: &[&[u8]]) -> Result<Reply, Failure> {
    let now_ms = session.db().now_ms();
    let microseconds = now_ms % 1000 * 1000;
    Ok(Reply::Array(vec![
        Reply::bulk((now_ms / 1000).to_string()),
        Reply::bulk(microseconds.to_string()),
    ]))
}
