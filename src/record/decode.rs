//! From bytes to a record, or the reason why they are none.

use std::fmt;

use byteorder::{ByteOrder, LittleEndian};

use super::{
    Change, FLAG_MORE, HEADER_BYTES, Kind, Link, MAX_PAGE_BYTES, MAX_REASON_BYTES, Record, at,
    checksum, encoded_len,
};
use crate::limits::{
    DATABASE_COUNT, MAX_DEADLINE_MS, MAX_FIELD_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES,
};
use crate::mutation::{self, Mutation};

/// Why bytes are no record at the place where they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Invalid {
    Kind {
        found: u8,
    },
    Flags {
        found: u8,
    },
    Reserved {
        found: u8,
    },
    Lengths {
        body: u64,
        key: u64,
        field: u64,
    },
    Truncated {
        needed: u64,
        available: u64,
    },
    Checksum {
        expected: u32,
        found: u32,
    },
    Previous {
        expected: u32,
        found: u32,
    },
    Database {
        found: u8,
    },
    Deadline {
        found: u64,
    },
    Padding,
    Shape {
        kind: Kind,
    },
    /// A record about the log itself stands within a commit.
    ControlInCommit {
        kind: Kind,
    },
    CommitTooLarge {
        bytes: u64,
        limit: u64,
    },
    /// The log ends within a commit.
    CommitUnfinished {
        first_offset: u64,
    },
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Invalid::Kind { found } => write!(f, "the record kind {found} is unknown"),
            Invalid::Flags { found } => write!(f, "the flags {found:#04x} are unknown"),
            Invalid::Reserved { found } => write!(f, "a reserved byte is {found} instead of 0"),
            Invalid::Lengths { body, key, field } => write!(
                f,
                "the lengths are inconsistent or exceed a limit: body {body}, key {key}, field {field}"
            ),
            Invalid::Truncated { needed, available } => write!(
                f,
                "the record needs {needed} bytes, but only {available} bytes are left"
            ),
            Invalid::Checksum { expected, found } => write!(
                f,
                "the record has checksum {found:08x}, but its bytes give {expected:08x}"
            ),
            Invalid::Previous { expected, found } => write!(
                f,
                "the record follows one with checksum {found:08x}, and the one before it has {expected:08x}"
            ),
            Invalid::Database { found } => write!(f, "there is no database {found}"),
            Invalid::Deadline { found } => write!(f, "the deadline {found} is out of range"),
            Invalid::Padding => f.write_str("the padding contains a byte other than 0"),
            Invalid::Shape { kind } => write!(
                f,
                "a record of kind \"{}\" must not have this key, field, value or deadline",
                kind.name()
            ),
            Invalid::ControlInCommit { kind } => write!(
                f,
                "a record of kind \"{}\" must not be part of a larger commit",
                kind.name()
            ),
            Invalid::CommitTooLarge { bytes, limit } => {
                write!(f, "a commit of {bytes} bytes exceeds the limit of {limit}")
            }
            Invalid::CommitUnfinished { first_offset } => write!(
                f,
                "the commit that starts at offset {first_offset} is incomplete at the end of the log"
            ),
        }
    }
}

/// Bytes of the record that begins with this word, as far as the word alone can tell.
///
/// # Errors
///
/// Where no record begins so.
#[inline]
pub(crate) fn size_of_record(first_word: [u8; 8]) -> Result<usize, Invalid> {
    if Kind::from_number(first_word[at::KIND]).is_none() {
        return Err(Invalid::Kind {
            found: first_word[at::KIND],
        });
    }
    let body = LittleEndian::read_u32(&first_word[at::BODY_LEN]);
    let key = LittleEndian::read_u16(&first_word[at::KEY_LEN]);
    // The limits are compared before the length is used for anything (invariant 3).
    let body_len = usize::try_from(body).unwrap_or(usize::MAX);
    if body_len > MAX_KEY_BYTES + MAX_FIELD_BYTES + MAX_VALUE_BYTES || body < u32::from(key) {
        return Err(Invalid::Lengths {
            body: u64::from(body),
            key: u64::from(key),
            field: 0,
        });
    }
    Ok(encoded_len(body_len))
}

/// Reads the record that fills `bytes`. [`size_of_record`] gave the length.
///
/// # Errors
///
/// Where the bytes are no valid record at that place.
pub(crate) fn decode(bytes: &[u8], link: Link) -> Result<Record<'_>, Invalid> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(Invalid::Truncated {
            needed: HEADER_BYTES as u64,
            available: bytes.len() as u64,
        });
    };
    let found = LittleEndian::read_u32(&header[at::CHECKSUM]);
    let expected = checksum(bytes, link.salt, link.offset);
    if found != expected {
        return Err(Invalid::Checksum { expected, found });
    }
    let previous = LittleEndian::read_u32(&header[at::PREVIOUS]);
    if previous != link.previous && !mutation::is_on(Mutation::IgnorePrevious) {
        return Err(Invalid::Previous {
            expected: link.previous,
            found: previous,
        });
    }
    decode_checked(header, rest)
}

/// Reads the record that fills `bytes`. [`size_of_record`] gave the length.
///
/// # Errors
///
/// Where the bytes are no record. What the header alone can tell is looked at before the checksum.
pub(crate) fn decode_unlinked(bytes: &[u8], salt: u32, offset: u64) -> Result<Record<'_>, Invalid> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(Invalid::Truncated {
            needed: HEADER_BYTES as u64,
            available: bytes.len() as u64,
        });
    };
    let record = decode_checked(header, rest)?;
    verify(bytes, salt, offset)?;
    Ok(record)
}

/// Reads a record again that [`decode`] once found valid: what was looked at then is not looked at again, and its end, which is in
/// another line of the cache, is not touched. Of bytes that are no record it may make any change, or none.
#[inline]
pub(crate) fn reparse(bytes: &[u8]) -> Option<Change<'_>> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let body = rest.get(..usize::try_from(LittleEndian::read_u32(&header[at::BODY_LEN])).ok()?)?;
    let key_len = usize::from(LittleEndian::read_u16(&header[at::KEY_LEN]));
    let (key, tail) = body.split_at_checked(key_len)?;
    let field_len = usize::from(LittleEndian::read_u16(&header[at::FIELD_LEN]));
    let (field, value) = tail.split_at_checked(field_len)?;
    Some(Change {
        kind: Kind::from_number(header[at::KIND])?,
        database: header[at::DATABASE],
        deadline_ms: LittleEndian::read_u64(&header[at::DEADLINE]),
        key,
        field,
        value,
    })
}

/// As [`reparse`], of a record that begins within `bytes`.
pub(crate) fn reparse_at(bytes: &[u8], start: usize) -> Option<Change<'_>> {
    let rest = bytes.get(start..)?;
    let size = size_of_record(*rest.first_chunk()?).ok()?;
    reparse(rest.get(..size)?)
}

/// Whether the checksum of a record that [`decode`] once found valid still holds.
pub(crate) fn verify(bytes: &[u8], salt: u32, offset: u64) -> Result<(), Invalid> {
    let found = bytes.get(at::CHECKSUM).map_or(0, LittleEndian::read_u32);
    let expected = checksum(bytes, salt, offset);
    if found == expected {
        Ok(())
    } else {
        Err(Invalid::Checksum { expected, found })
    }
}

/// Reads a record with a valid checksum.
///
/// The contents may still be invalid: a program that can write the file can compute the checksum.
fn decode_checked<'a>(header: &[u8], rest: &'a [u8]) -> Result<Record<'a>, Invalid> {
    let kind = Kind::from_number(header[at::KIND]).ok_or(Invalid::Kind {
        found: header[at::KIND],
    })?;
    let flags = header[at::FLAGS];
    if flags & !FLAG_MORE != 0 || (flags != 0 && !kind.is_data()) {
        return Err(Invalid::Flags { found: flags });
    }
    if header[at::RESERVED] != 0 {
        return Err(Invalid::Reserved {
            found: header[at::RESERVED],
        });
    }
    let database = header[at::DATABASE];
    if database >= DATABASE_COUNT {
        return Err(Invalid::Database { found: database });
    }
    let deadline_ms = LittleEndian::read_u64(&header[at::DEADLINE]);
    if deadline_ms > MAX_DEADLINE_MS {
        return Err(Invalid::Deadline { found: deadline_ms });
    }

    let body_len = LittleEndian::read_u32(&header[at::BODY_LEN]);
    let key_len = LittleEndian::read_u16(&header[at::KEY_LEN]);
    let field_len = LittleEndian::read_u16(&header[at::FIELD_LEN]);
    let lengths = Invalid::Lengths {
        body: u64::from(body_len),
        key: u64::from(key_len),
        field: u64::from(field_len),
    };
    let body_len = usize::try_from(body_len).unwrap_or(usize::MAX);
    let (body, padding) = rest.split_at_checked(body_len).ok_or(lengths)?;
    let (key, tail) = body.split_at_checked(usize::from(key_len)).ok_or(lengths)?;
    let (field, value) = tail
        .split_at_checked(usize::from(field_len))
        .ok_or(lengths)?;
    if value.len() > MAX_VALUE_BYTES {
        return Err(lengths);
    }
    if padding.iter().any(|byte| *byte != 0) {
        return Err(Invalid::Padding);
    }

    let change = Change {
        kind,
        database,
        deadline_ms,
        key,
        field,
        value,
    };
    check_shape(&change)?;
    Ok(Record {
        change,
        more: flags & FLAG_MORE != 0,
        checksum: LittleEndian::read_u32(&header[at::CHECKSUM]),
        previous: LittleEndian::read_u32(&header[at::PREVIOUS]),
        writer: LittleEndian::read_u32(&header[at::WRITER]),
    })
}

/// Which parts a record of each kind may have: the table in format.md, line by line.
fn check_shape(change: &Change<'_>) -> Result<(), Invalid> {
    let no_key = change.key.is_empty() && change.database == 0;
    let no_field = change.field.is_empty();
    let no_value = change.value.is_empty();
    let no_deadline = change.deadline_ms == 0;
    let sound = match change.kind {
        Kind::Set => no_field,
        Kind::Delete => no_field && no_value && no_deadline,
        Kind::Expire => no_field && no_value,
        Kind::HashSet => true,
        Kind::HashDelete => no_value && no_deadline,
        Kind::FieldExpire => no_value,
        Kind::Clear => change.key.is_empty() && no_field && no_value && no_deadline,
        Kind::SwapDatabases => {
            change.key.is_empty()
                && no_field
                && no_deadline
                && matches!(change.value, [other] if *other < DATABASE_COUNT)
        }
        Kind::Page => {
            no_key
                && no_field
                && no_deadline
                && change.value.len() <= MAX_PAGE_BYTES
                && change.value.len().is_multiple_of(8)
        }
        Kind::Checkpoint => no_key && no_field && no_deadline && change.value.len() >= 32,
        Kind::Moved => no_key && no_field && no_deadline && change.value.len() == 8,
        Kind::Poisoned => {
            no_key && no_field && no_deadline && change.value.len() <= MAX_REASON_BYTES
        }
        Kind::Padding => no_key && no_field && no_deadline,
    };
    if sound {
        Ok(())
    } else {
        Err(Invalid::Shape { kind: change.kind })
    }
}
