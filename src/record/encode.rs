//! Encodes a change as a record.

use byteorder::{ByteOrder, LittleEndian};

use super::{ALIGNMENT, Change, FLAG_MORE, HEADER_BYTES, Link, at, checksum};
use crate::error::check_length;
use crate::limits::{MAX_FIELD_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::{Error, Result};

/// The size of a record if its key, field and value have `body_len` bytes together.
pub(crate) fn encoded_len(body_len: usize) -> usize {
    (HEADER_BYTES + body_len).next_multiple_of(ALIGNMENT)
}

/// Appends the record of a change to `out`; its place in the log is given to it by [`seal`].
///
/// # Errors
///
/// [`Error::TooLarge`], before anything is allocated.
pub(crate) fn encode(change: &Change<'_>, out: &mut Vec<u8>) -> Result<()> {
    check_length("a key", change.key.len(), MAX_KEY_BYTES)?;
    check_length("a field", change.field.len(), MAX_FIELD_BYTES)?;
    check_length("a value", change.value.len(), MAX_VALUE_BYTES)?;
    let body_len = change.key.len() + change.field.len() + change.value.len();
    let (Ok(body_len_word), Ok(key_len), Ok(field_len)) = (
        u32::try_from(body_len),
        u16::try_from(change.key.len()),
        u16::try_from(change.field.len()),
    ) else {
        // The limits above are tighter than the fields.
        return Err(Error::TooLarge {
            what: "a record",
            length: body_len as u64,
            limit: u64::from(u32::MAX),
        });
    };
    let mut header = [0; HEADER_BYTES];
    LittleEndian::write_u32(&mut header[at::BODY_LEN], body_len_word);
    header[at::KIND] = change.kind.number();
    LittleEndian::write_u16(&mut header[at::KEY_LEN], key_len);
    LittleEndian::write_u16(&mut header[at::FIELD_LEN], field_len);
    header[at::DATABASE] = change.database;
    LittleEndian::write_u64(&mut header[at::DEADLINE], change.deadline_ms);

    let end = out.len() + encoded_len(body_len);
    out.reserve(end - out.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(change.key);
    out.extend_from_slice(change.field);
    out.extend_from_slice(change.value);
    out.resize(end, 0);
    Ok(())
}

/// Gives an encoded record its place in the log, and gives back its checksum.
pub(crate) fn seal(record: &mut [u8], link: Link, writer: u32) -> u32 {
    LittleEndian::write_u32(&mut record[at::PREVIOUS], link.previous);
    LittleEndian::write_u32(&mut record[at::WRITER], writer);
    let sum = checksum(record, link.salt, link.offset);
    LittleEndian::write_u32(&mut record[at::CHECKSUM], sum);
    sum
}

/// Sets whether the commit continues with the next record. The record must not be sealed yet.
pub(crate) fn set_more(record: &mut [u8], more: bool) {
    record[at::FLAGS] = if more { FLAG_MORE } else { 0 };
}
