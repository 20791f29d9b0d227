//! Parts of strings: GETRANGE, SETRANGE, and what two of them have in common.

use std::borrow::Cow;

use super::arguments::{integer, is};
use super::error::Failure;
use super::table::{Command, Flags, Group, Handler, KeyPositions};
use super::{Reply, Session};
use crate::limits::MAX_VALUE_BYTES;
use crate::{Error, Value};

const fn of_key(name: &'static str, arity: i16, handler: Handler) -> Command {
    Command::new(Group::String, name, arity, handler).keys(KeyPositions::FIRST)
}

pub(super) static COMMANDS: &[Command] = &[
    of_key("getrange", 4, getrange).flags(Flags::READONLY).help(
        "key start end",
        "Gives a part of the string at a key; negative numbers count from its end",
    ),
    of_key("substr", 4, getrange)
        .flags(Flags::READONLY)
        .help("key start end", "Gives a part of a string, as GETRANGE"),
    of_key("setrange", 4, setrange)
        .flags(Flags::WRITE.and(Flags::DENYOOM))
        .help(
            "key offset value",
            "Overwrites a part of the string at a key, and gives its new length",
        ),
    of_key("lcs", -3, lcs)
        .flags(Flags::READONLY)
        .keys(KeyPositions::new(1, 2, 1))
        .help(
            "key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]",
            "Finds the longest sequence of bytes that two strings have in common",
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

/// What LCS is asked for.
#[derive(Debug, Default)]
struct LcsWords {
    len: bool,
    idx: bool,
    with_match_len: bool,
    min_match_len: usize,
}

impl LcsWords {
    fn read(options: &[&[u8]]) -> Result<LcsWords, Failure> {
        let mut words = LcsWords::default();
        let mut options = options.iter();
        while let Some(option) = options.next() {
            if is(option, "LEN") {
                words.len = true;
            } else if is(option, "IDX") {
                words.idx = true;
            } else if is(option, "WITHMATCHLEN") {
                words.with_match_len = true;
            } else if is(option, "MINMATCHLEN") {
                let least = integer(options.next().ok_or(Failure::SYNTAX)?)?;
                words.min_match_len = usize::try_from(least).unwrap_or(0);
            } else {
                return Err(Failure::SYNTAX);
            }
        }
        if words.len && words.idx {
            return Err(Failure::text(
                "If you want both the length and indexes, please just use IDX.",
            ));
        }
        Ok(words)
    }
}

fn lcs(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [one, other, options @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    let string = |key: &[u8]| match session.db().get(key) {
        Err(Error::WrongType) => Err(Failure::text(
            "The specified keys must contain string values",
        )),
        found => Ok(found?),
    };
    let (one, other) = (string(one)?, string(other)?);
    let words = LcsWords::read(options)?;
    let bytes =
        |value: &Option<Value>| value.as_ref().map_or_else(Vec::new, |value| value.to_vec());
    let (one, other) = (bytes(&one), bytes(&other));
    let table = LcsTable::new(&one, &other)?;
    if words.len {
        return Ok(Reply::count(u64::from(table.len())));
    }
    let (common, matches) = table.trace();
    if !words.idx {
        return Ok(Reply::bulk(common));
    }
    let matches = matches
        .into_iter()
        .filter(|found| found.len >= words.min_match_len)
        .map(|found| found.reply(words.with_match_len));
    Ok(Reply::Map(vec![
        (Reply::bulk("matches"), Reply::Array(matches.collect())),
        (Reply::bulk("len"), Reply::count(u64::from(table.len()))),
    ]))
}

/// The lengths of the longest common sequences of all beginnings of two strings.
struct LcsTable<'a> {
    one: &'a [u8],
    other: &'a [u8],
    lengths: Vec<u32>,
}

/// A run of bytes that are the same in both strings; the last of the match included.
#[derive(Debug, Clone, Copy)]
struct LcsMatch {
    one: usize,
    other: usize,
    len: usize,
}

impl LcsMatch {
    fn reply(self, with_len: bool) -> Reply {
        let range = |start: usize| {
            let end = start + self.len - 1;
            Reply::Array(vec![Reply::count(start as u64), Reply::count(end as u64)])
        };
        let mut parts = vec![range(self.one), range(self.other)];
        if with_len {
            parts.push(Reply::count(self.len as u64));
        }
        Reply::Array(parts)
    }
}

impl<'a> LcsTable<'a> {
    /// The memory that it takes grows with the product of the lengths: it is bounded by that of a value, as in Redis.
    fn new(one: &'a [u8], other: &'a [u8]) -> Result<LcsTable<'a>, Failure> {
        let cells = (one.len() + 1)
            .checked_mul(other.len() + 1)
            .filter(|cells| *cells <= MAX_VALUE_BYTES / size_of::<u32>())
            .ok_or(Failure::Text(Cow::Borrowed(
                b"Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
            )))?;
        let mut table = LcsTable {
            one,
            other,
            lengths: vec![0; cells],
        };
        for (i, a) in (1..).zip(one) {
            for (j, b) in (1..).zip(other) {
                let length = match a == b {
                    true => table.at(i - 1, j - 1) + 1,
                    false => table.at(i - 1, j).max(table.at(i, j - 1)),
                };
                let width = other.len() + 1;
                table.lengths[i * width + j] = length;
            }
        }
        Ok(table)
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.lengths[i * (self.other.len() + 1) + j]
    }

    fn len(&self) -> u32 {
        self.at(self.one.len(), self.other.len())
    }

    /// The common sequence, and its runs from the last to the first, as Redis finds them.
    fn trace(&self) -> (Vec<u8>, Vec<LcsMatch>) {
        let (mut i, mut j) = (self.one.len(), self.other.len());
        let mut common = Vec::new();
        let mut matches: Vec<LcsMatch> = Vec::new();
        while i > 0 && j > 0 {
            if self.one[i - 1] == self.other[j - 1] {
                common.push(self.one[i - 1]);
                match matches.last_mut() {
                    Some(last) if last.one == i && last.other == j => {
                        (last.one, last.other) = (i - 1, j - 1);
                        last.len += 1;
                    }
                    _ => matches.push(LcsMatch {
                        one: i - 1,
                        other: j - 1,
                        len: 1,
                    }),
                }
                (i, j) = (i - 1, j - 1);
            } else if self.at(i - 1, j) > self.at(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        common.reverse();
        (common, matches)
    }
}
