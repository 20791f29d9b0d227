//! Walking by cursor: SCAN and HSCAN.

use super::arguments::{integer, is};
use super::error::Failure;
use super::keys::type_name;
use super::table::{Command, Flags, Group, KeyPositions};
use super::{Reply, Session};
use crate::glob::Pattern;
use crate::{Error, KeyType, ScanOptions};

/// How many entries a page looks at where COUNT does not say.
const DEFAULT_COUNT: usize = 10;

pub(super) static COMMANDS: &[Command] = &[
    Command::new(Group::Generic, "scan", -2, scan)
        .flags(Flags::READONLY)
        .help(
            "cursor [MATCH pattern] [COUNT count] [TYPE type]",
            "Lists keys in pages: start with cursor 0, and pass the returned cursor until it is 0",
        ),
    Command::new(Group::Hash, "hscan", -3, hscan)
        .flags(Flags::READONLY)
        .keys(KeyPositions::FIRST)
        .help(
            "key cursor [MATCH pattern] [COUNT count] [NOVALUES]",
            "Lists fields with their values in pages, like SCAN",
        ),
];

/// What the options say.
#[derive(Debug)]
struct ScanWords<'w> {
    count: usize,
    pattern: Option<Pattern<'w>>,
    type_name: Option<&'w [u8]>,
    no_values: bool,
}

/// Whether TYPE is among the options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    Keys,
    Fields,
}

impl<'w> ScanWords<'w> {
    fn read(options: &[&'w [u8]], walk: Walk) -> Result<Self, Failure> {
        let mut words = ScanWords {
            count: DEFAULT_COUNT,
            pattern: None,
            type_name: None,
            no_values: false,
        };
        let mut options = options.iter();
        while let Some(option) = options.next() {
            if is(option, "NOVALUES") && walk == Walk::Fields {
                words.no_values = true;
                continue;
            }
            let argument = options.next().ok_or(Failure::SYNTAX)?;
            if is(option, "COUNT") {
                let count = integer(argument)?;
                if count < 1 {
                    return Err(Failure::SYNTAX);
                }
                words.count = usize::try_from(count).unwrap_or(usize::MAX);
            } else if is(option, "MATCH") {
                words.pattern = Some(Pattern::new(argument));
            } else if is(option, "TYPE") && walk == Walk::Keys {
                words.type_name = Some(argument);
            } else {
                return Err(Failure::SYNTAX);
            }
        }
        Ok(words)
    }

    fn matches(&self, name: &[u8]) -> bool {
        self.pattern
            .as_ref()
            .is_none_or(|pattern| pattern.matches(name))
    }
}

fn scan(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [cursor, options @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    let cursor = read_cursor(cursor)?;
    let words = ScanWords::read(options, Walk::Keys)?;
    let mut options = ScanOptions::new().count(words.count);
    let mut known_type = true;
    if let Some(wanted) = words.type_name {
        let key_type = [KeyType::String, KeyType::Hash]
            .into_iter()
            .find(|key_type| is(wanted, type_name(*key_type)));
        match key_type {
            Some(key_type) => options = options.key_type(key_type),
            // Redis has more types, and no key here is of them.
            None => known_type = false,
        }
    }
    let page = session.db().scan(cursor, &options)?;
    let keys = page
        .keys
        .into_iter()
        .filter(|key| known_type && words.matches(key));
    Ok(reply(page.cursor, keys.map(Reply::from).collect()))
}

fn hscan(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, cursor, options @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    let cursor = read_cursor(cursor)?;
    match session.db().key_type(key)? {
        // As in Redis, which does not look at the options then.
        None => return Ok(reply(0, Vec::new())),
        Some(KeyType::Hash) => {}
        Some(_) => return Err(Error::WrongType.into()),
    }
    let words = ScanWords::read(options, Walk::Fields)?;
    let page = session.db().hscan(key, cursor, words.count)?;
    let fields = page
        .fields
        .into_iter()
        .filter(|(field, _)| words.matches(field))
        .flat_map(|(field, value)| {
            let value = (!words.no_values).then(|| value.into());
            std::iter::once(field.into()).chain(value)
        });
    Ok(reply(page.cursor, fields.collect()))
}

fn reply(cursor: u64, found: Vec<Reply>) -> Reply {
    Reply::Array(vec![Reply::bulk(cursor.to_string()), Reply::Array(found)])
}

/// A cursor as C's `strtoul` reads one, since clients were written against that: leading zeros, a
/// sign and even nothing at all are fine, and a negative number wraps around. A leading space is not.
fn read_cursor(word: &[u8]) -> Result<u64, Failure> {
    let (digits, negative) = match word {
        [b'-', digits @ ..] => (digits, true),
        [b'+', digits @ ..] => (digits, false),
        digits => (digits, false),
    };
    if digits.is_empty() && digits.len() == word.len() {
        return Ok(0);
    }
    let mut cursor: u64 = 0;
    for byte in digits {
        cursor = match byte {
            b'0'..=b'9' => cursor
                .checked_mul(10)
                .and_then(|cursor| cursor.checked_add(u64::from(byte - b'0'))),
            _ => None,
        }
        .ok_or(Failure::text("invalid cursor"))?;
    }
    if digits.is_empty() {
        return Err(Failure::text("invalid cursor"));
    }
    Ok(if negative {
        cursor.wrapping_neg()
    } else {
        cursor
    })
}

#[cfg(test)]
mod tests {
    use super::read_cursor;

    #[test]
    fn a_cursor_is_read_as_c_reads_a_number() {
        for (word, expected) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("+7", Some(7)),
            ("", Some(0)),
            ("-0", Some(0)),
            ("-1", Some(u64::MAX)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-", None),
            ("+", None),
            ("--1", None),
            (" 1", None),
            ("1 ", None),
            ("1x", None),
        ] {
            assert_eq!(read_cursor(word.as_bytes()).ok(), expected, "{word:?}");
        }
    }
}
