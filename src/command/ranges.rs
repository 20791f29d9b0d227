//! Parts of strings: GETRANGE, SETRANGE, LCS.

use super::arguments::integer;
use super::error::Failure;
use super::lcs::lcs;
use super::table::{Command, Flags, Group, Handler, KeyPositions};
use super::{Reply, Session};

const fn of_key(name: &'static str, arity: i16, handler: Handler) -> Command {
    Command::new(Group::String, name, arity, handler).keys(KeyPositions::FIRST)
}

pub(super) static COMMANDS: &[Command] = &[
    of_key("getrange", 4, getrange).flags(Flags::READONLY).help(
        "key start end",
        "Returns a part of the string at a key; negative offsets count from its end",
    ),
    of_key("substr", 4, getrange).flags(Flags::READONLY).help(
        "key start end",
        "Returns a part of the string at a key, like GETRANGE",
    ),
    of_key("setrange", 4, setrange)
        .flags(Flags::WRITE.and(Flags::DENYOOM))
        .help(
            "key offset value",
            "Overwrites a part of the string at a key, and returns its new length",
        ),
    of_key("lcs", -3, lcs)
        .flags(Flags::READONLY)
        .keys(KeyPositions::new(1, 2, 1))
        .help(
            "key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]",
            "Returns the longest common subsequence of two strings",
        ),
];

fn getrange(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, start, end] = arguments else {
        return Err(Failure::Arity);
    };
    let (start, end) = (integer(start)?, integer(end)?);
    Ok(Reply::bulk(session.db().get_range(key, start, end)?))
}

fn setrange(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, offset, value] = arguments else {
        return Err(Failure::Arity);
    };
    let offset =
        u64::try_from(integer(offset)?).map_err(|_| Failure::text("offset is out of range"))?;
    Ok(Reply::count(session.db().set_range(key, offset, value)?))
}
