//! The record: one logical change in its envelope of lengths and checksum.
//!
//! A pure codec. It knows the bytes of one record, but not files, the log around it, or the meaning
//! of the change. The layout is specified in [`crate::docs::format`].
//!
//! Invariants:
//!
//! 1. The first word of a record (lengths, kind, flags) is never zero, because a kind is never
//!    zero: reserved zeros do not parse.
//! 2. A record decodes only if its checksum holds for its offset, and its `previous` is the
//!    checksum of the record before it. So moved, foreign and stale records do not decode.
//! 3. A length is compared with its limit and with the available bytes before it is used.

mod damaged;
mod decode;
mod encode;

pub(crate) use damaged::{goes_on, may_be_passed_over, stored_checksum, stored_previous};
pub(crate) use decode::{
    Invalid, decode, decode_unlinked, reparse, reparse_at, size_of_record, verify,
};
pub(crate) use encode::{encode, encoded_len, seal, set_more};

use byteorder::{ByteOrder, LittleEndian};

use crate::mutation::{self, Mutation};

/// Bytes of a record before its key.
pub(crate) const HEADER_BYTES: usize = 32;

/// Records begin at multiples of this; its zeros fill the end of a record.
pub(crate) const ALIGNMENT: usize = 8;

/// Most bytes that a page of a checkpoint may have.
pub(crate) const MAX_PAGE_BYTES: usize = 64 << 10;

/// Most bytes that the reason in a `Poisoned` record may have.
pub(crate) const MAX_REASON_BYTES: usize = 255;

/// Bit 0 of the flags: the commit continues with the next record.
const FLAG_MORE: u8 = 1;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Kind {
    Set = 1,
    Delete = 2,
    Expire = 3,
    HashSet = 4,
    HashDelete = 5,
    FieldExpire = 6,
    Clear = 7,
    SwapDatabases = 8,
    Page = 9,
    Checkpoint = 10,
    Moved = 11,
    Poisoned = 12,
    Padding = 13,
}

impl Kind {
    /// The kinds of minor version 0.
    pub(crate) const ALL: [Kind; 13] = [
        Kind::Set,
        Kind::Delete,
        Kind::Expire,
        Kind::HashSet,
        Kind::HashDelete,
        Kind::FieldExpire,
        Kind::Clear,
        Kind::SwapDatabases,
        Kind::Page,
        Kind::Checkpoint,
        Kind::Moved,
        Kind::Poisoned,
        Kind::Padding,
    ];

    fn from_number(number: u8) -> Option<Kind> {
        let index = usize::from(number).checked_sub(1)?;
        Kind::ALL.get(index).copied()
    }

    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Set => "set",
            Kind::Delete => "delete",
            Kind::Expire => "expire",
            Kind::HashSet => "hash set",
            Kind::HashDelete => "hash delete",
            Kind::FieldExpire => "field expire",
            Kind::Clear => "clear",
            Kind::SwapDatabases => "swap databases",
            Kind::Page => "page",
            Kind::Checkpoint => "checkpoint",
            Kind::Moved => "moved",
            Kind::Poisoned => "poisoned",
            Kind::Padding => "padding",
        }
    }

    /// Whether the record changes one key.
    pub(crate) fn is_key(self) -> bool {
        self.number() <= Kind::FieldExpire.number()
    }

    /// Whether the record changes data. The others say something of the log itself, and are
    /// always a commit of their own.
    pub(crate) fn is_data(self) -> bool {
        self.number() <= Kind::SwapDatabases.number()
    }
}

/// One logical change, outside its envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change<'a> {
    pub(crate) kind: Kind,
    pub(crate) database: u8,
    /// Unix milliseconds, 0 for none.
    pub(crate) deadline_ms: u64,
    pub(crate) key: &'a [u8],
    pub(crate) field: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl<'a> Change<'a> {
    /// A change of a key, with neither field nor value nor deadline yet.
    pub(crate) fn of_key(kind: Kind, database: u8, key: &'a [u8]) -> Self {
        Self {
            kind,
            database,
            deadline_ms: 0,
            key,
            field: &[],
            value: &[],
        }
    }

    /// A record about the log itself.
    pub(crate) fn control(kind: Kind, value: &'a [u8]) -> Self {
        Self {
            value,
            ..Self::of_key(kind, 0, &[])
        }
    }

    /// Bytes that its record takes in the log.
    pub(crate) fn size_bytes(&self) -> u64 {
        encoded_len(self.key.len() + self.field.len() + self.value.len()) as u64
    }
}

/// A record as it was found in a log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) change: Change<'a>,
    /// Whether the commit continues with the next record.
    pub(crate) more: bool,
    pub(crate) checksum: u32,
    /// The checksum of the record before it.
    pub(crate) previous: u32,
    pub(crate) writer: u32,
}

/// What ties a record to its place: it holds there and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    /// The file's salt.
    pub(crate) salt: u32,
    /// The record's own offset.
    pub(crate) offset: u64,
    /// The checksum of the record before it; of the first record, the salt.
    pub(crate) previous: u32,
}

/// The length of the key of a record that begins with this word.
pub(crate) fn key_len(first_word: [u8; 8]) -> usize {
    usize::from(LittleEndian::read_u16(&first_word[at::KEY_LEN]))
}

/// Where the fields of the header stand.
mod at {
    use std::ops::Range;

    pub(super) const BODY_LEN: Range<usize> = 0..4;
    pub(super) const KIND: usize = 4;
    pub(super) const FLAGS: usize = 5;
    pub(super) const KEY_LEN: Range<usize> = 6..8;
    pub(super) const CHECKSUM: Range<usize> = 8..12;
    pub(super) const PREVIOUS: Range<usize> = 12..16;
    pub(super) const WRITER: Range<usize> = 16..20;
    pub(super) const FIELD_LEN: Range<usize> = 20..22;
    pub(super) const DATABASE: usize = 22;
    pub(super) const RESERVED: usize = 23;
    pub(super) const DEADLINE: Range<usize> = 24..32;
}

/// The `previous` of a file's first record.
pub(crate) fn first_previous(salt: u32) -> u32 {
    effective_salt(salt)
}

fn effective_salt(salt: u32) -> u32 {
    match mutation::is_on(Mutation::IgnoreSalt) {
        true => 0,
        false => salt,
    }
}

/// CRC-32 (IEEE 802.3) over the offset and then the record, in which the salt stands in the
/// place of the checksum.
fn checksum(record: &[u8], salt: u32, offset: u64) -> u32 {
    let salt = effective_salt(salt);
    // Below 128 bytes crc32fast takes a table, above it the CPU's instructions: a small record is
    // therefore gathered into one run of bytes, and no more of them is cleared than that takes.
    match record.len() {
        0..=120 => checksum_gathered(&mut [0; 128], record, salt, offset),
        121..=248 => checksum_gathered(&mut [0; 256], record, salt, offset),
        _ => checksum_gathered(&mut [0; 512], record, salt, offset),
    }
}

fn checksum_gathered(start: &mut [u8], record: &[u8], salt: u32, offset: u64) -> u32 {
    let head = record.len().min(start.len() - 8);
    LittleEndian::write_u64(&mut start[..8], offset);
    start[8..8 + head].copy_from_slice(&record[..head]);
    LittleEndian::write_u32(
        &mut start[8 + at::CHECKSUM.start..8 + at::CHECKSUM.end],
        salt,
    );
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&start[..8 + head]);
    hasher.update(&record[head..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
