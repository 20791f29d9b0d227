//! Objects of a checkpoint: hashes, and records with a changed deadline. An entry points at an
//! object if a record alone is not enough.

use byteorder::{ByteOrder, LittleEndian};

use super::Size;
use super::deadlines::MAX_FIELD_STEPS;
use super::run::Run;
use super::steps::Steps;

const DATED: u8 = 1;
const HASH: u8 = 2;

/// Bytes of a dated record.
pub(crate) const DATED_BYTES: usize = 24;

/// Bytes of a hash before the words of its fields' run.
pub(crate) const HASH_BYTES: usize = 56;

mod at {
    use std::ops::Range;

    pub(super) const WHAT: usize = 0;
    pub(super) const LEVELS: usize = 1;
    pub(super) const BACK: Range<usize> = 2..4;
    pub(super) const COUNT: Range<usize> = 4..6;
    pub(super) const RECORD: Range<usize> = 8..16;
    pub(super) const DEADLINE: Range<usize> = 16..24;
    pub(super) const LIVE_BYTES: Range<usize> = 24..32;
    pub(super) const FIELDS: Range<usize> = 32..40;
    pub(super) const EXPIRING: Range<usize> = 40..48;
    pub(super) const BENEATH: Range<usize> = 48..56;
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Object<'a> {
    /// A record, and the deadline that it has by now.
    Dated {
        offset: u64,
        deadline_ms: u64,
    },
    Hash(StoredHash<'a>),
}

/// A hash as a checkpoint has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredHash<'a> {
    /// What leads to it: see [`StoredHash::reference_to`].
    pub(crate) reference: u64,
    pub(crate) summary: HashSummary,
    /// The reference of the parent object in an older layer; 0 for none.
    pub(crate) beneath: u64,
    pub(crate) fields: Run<'a>,
    pub(crate) deadlines: StoredDeadlines<'a>,
}

/// The deadlines of a hash's fields as a checkpoint has them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StoredDeadlines<'a> {
    None,
    /// Of a hash that has no object: of its only field, with the bytes of its record.
    One {
        deadline_ms: u64,
        bytes: u64,
    },
    /// As they are encoded.
    Steps(&'a [u8]),
}

/// The properties of a hash as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HashSummary {
    /// The record that it began with, from which the key can be read.
    pub(crate) key_offset: u64,
    /// The deadline of the whole hash, 0 for none.
    pub(crate) deadline_ms: u64,
    /// Bytes of the log that it needs.
    pub(crate) live_bytes: u64,
    /// Fields that have a record, expired or not.
    pub(crate) field_count: u64,
    /// How many of its fields have a deadline of their own.
    pub(crate) expiring_fields: u64,
}

impl StoredHash<'_> {
    /// The deadlines of its fields, in steps; `None` where they do not hold.
    pub(crate) fn steps(&self) -> Option<Steps> {
        let summary = &self.summary;
        match self.deadlines {
            StoredDeadlines::None => Some(Steps::default()),
            StoredDeadlines::One { deadline_ms, bytes } => {
                Some(Steps::of_one(deadline_ms, Size { keys: 1, bytes }))
            }
            StoredDeadlines::Steps(mut bytes) => {
                let limit = Size {
                    keys: summary.expiring_fields,
                    bytes: summary.live_bytes,
                };
                Steps::decode(&mut bytes, MAX_FIELD_STEPS, limit)
            }
        }
    }

    /// What leads to a hash that has no object, but the record of its only field alone. Of one that has an object it is the object's
    /// offset, a multiple of 8.
    pub(crate) fn reference_to(record_offset: u64) -> u64 {
        record_offset | 1
    }

    /// The record of the only field of the hash that a reference leads to, if it has no object.
    pub(crate) fn record_of(reference: u64) -> Option<u64> {
        (reference % 8 == 1).then_some(reference & !1)
    }
}

/// How many bytes an object stands behind the beginning of its page's value, by its first word.
pub(crate) fn bytes_behind(first_word: [u8; 8]) -> u64 {
    u64::from(LittleEndian::read_u16(&first_word[at::BACK])) * 8
}

impl<'a> Object<'a> {
    /// The object that stands at this place in a page's value, at the offset `at` of the file; `None` where there is none.
    pub(crate) fn decode(value: &'a [u8], place: usize, offset: u64) -> Option<Object<'a>> {
        let bytes = value.get(place..)?;
        let fixed = bytes.get(..DATED_BYTES)?;
        if usize::from(LittleEndian::read_u16(&fixed[at::BACK])) * 8 != place {
            return None;
        }
        let record = LittleEndian::read_u64(&fixed[at::RECORD]);
        let deadline_ms = LittleEndian::read_u64(&fixed[at::DEADLINE]);
        if fixed[at::WHAT] == DATED {
            return Some(Object::Dated {
                offset: record,
                deadline_ms,
            });
        }
        let fixed = bytes.get(..HASH_BYTES)?;
        let words = usize::from(LittleEndian::read_u16(&fixed[at::COUNT])) * 8;
        let root = bytes.get(HASH_BYTES..HASH_BYTES + words)?;
        let expiring_fields = LittleEndian::read_u64(&fixed[at::EXPIRING]);
        let deadlines = match expiring_fields {
            0 => StoredDeadlines::None,
            _ => StoredDeadlines::Steps(Steps::split_encoded(&bytes[HASH_BYTES + words..])?),
        };
        let beneath = LittleEndian::read_u64(&fixed[at::BENEATH]);
        // So that no chain goes round.
        if fixed[at::WHAT] != HASH || beneath >= offset {
            return None;
        }
        Some(Object::Hash(StoredHash {
            reference: offset,
            summary: HashSummary {
                key_offset: record,
                deadline_ms,
                live_bytes: LittleEndian::read_u64(&fixed[at::LIVE_BYTES]),
                field_count: LittleEndian::read_u64(&fixed[at::FIELDS]),
                expiring_fields,
            },
            beneath,
            deadlines,
            fields: Run::new(fixed[at::LEVELS], root)?,
        }))
    }
}

/// Appends a dated record to a page's value, and gives back where it stands in it.
pub(crate) fn encode_dated(value: &mut Vec<u8>, offset: u64, deadline_ms: u64) -> usize {
    let place = begin(value, DATED_BYTES);
    let bytes = &mut value[place..];
    bytes[at::WHAT] = DATED;
    LittleEndian::write_u64(&mut bytes[at::RECORD], offset);
    LittleEndian::write_u64(&mut bytes[at::DEADLINE], deadline_ms);
    place
}

/// As [`encode_dated`], a hash with the root of its fields' run and the steps of their deadlines.
pub(crate) fn encode_hash(
    value: &mut Vec<u8>,
    summary: &HashSummary,
    beneath: u64,
    levels: u8,
    root: &[u64],
    steps: &Steps,
) -> usize {
    let place = begin(value, HASH_BYTES);
    let bytes = &mut value[place..];
    bytes[at::WHAT] = HASH;
    bytes[at::LEVELS] = levels;
    // The builder of runs keeps roots short.
    let count = u16::try_from(root.len()).unwrap_or(u16::MAX);
    LittleEndian::write_u16(&mut bytes[at::COUNT], count);
    LittleEndian::write_u64(&mut bytes[at::RECORD], summary.key_offset);
    LittleEndian::write_u64(&mut bytes[at::DEADLINE], summary.deadline_ms);
    LittleEndian::write_u64(&mut bytes[at::LIVE_BYTES], summary.live_bytes);
    LittleEndian::write_u64(&mut bytes[at::FIELDS], summary.field_count);
    LittleEndian::write_u64(&mut bytes[at::EXPIRING], summary.expiring_fields);
    LittleEndian::write_u64(&mut bytes[at::BENEATH], beneath);
    for word in root {
        value.extend_from_slice(&word.to_le_bytes());
    }
    if summary.expiring_fields > 0 {
        steps.encode(value);
    }
    place
}

fn begin(value: &mut Vec<u8>, len: usize) -> usize {
    let place = value.len();
    value.resize(place + len, 0);
    let back = u16::try_from(place / 8).unwrap_or(u16::MAX);
    LittleEndian::write_u16(&mut value[place..][at::BACK], back);
    place
}
