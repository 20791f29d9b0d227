//! What can still be told of a record that is damaged.

use byteorder::{ByteOrder, LittleEndian};

use super::{FLAG_MORE, HEADER_BYTES, Kind, at};

/// The checksum as it stands in a record, damaged or not.
pub(crate) fn stored_checksum(record: &[u8]) -> Option<u32> {
    record.get(at::CHECKSUM).map(LittleEndian::read_u32)
}

/// The checksum of the record before, as it stands in a record, damaged or not.
pub(crate) fn stored_previous(record: &[u8]) -> Option<u32> {
    record.get(at::PREVIOUS).map(LittleEndian::read_u32)
}

/// Whether a record with a wrong checksum is a page or closing record of a checkpoint, by its
/// header and the start of its value. Skipping one loses no data.
pub(crate) fn may_be_passed_over(record: &[u8], offset: u64) -> bool {
    let Some((header, value)) = record.split_at_checked(HEADER_BYTES) else {
        return false;
    };
    let own_offset_at = match header[at::KIND] {
        kind if kind == Kind::Page.number() => 0..8,
        kind if kind == Kind::Checkpoint.number() => 8..16,
        _ => return false,
    };
    let own_offset = value.get(own_offset_at).map(LittleEndian::read_u64);
    header[at::FLAGS] == 0 && header[at::KEY_LEN] == [0; 2] && own_offset == Some(offset)
}

/// Whether the commit of a damaged record continued with the next record; `None` if that is
/// unknown.
///
/// `checksum_then` is the original checksum of the record, which the next record stores. If it
/// matches after only the flags and the checksum field are replaced, the answer is certain.
/// Otherwise it is enough that the stored checksum equals it, which shows that the two records
/// follow each other. The flags are then trusted unless damage is visible at their place.
pub(crate) fn goes_on(record: &[u8], salt: u32, offset: u64, checksum_then: u32) -> Option<bool> {
    let header: &[u8; HEADER_BYTES] = record.first_chunk()?;
    for flags in [0, FLAG_MORE] {
        if checksum_with(record, header, flags, salt, offset) == checksum_then {
            return Some(flags == FLAG_MORE);
        }
    }
    // A first word that was wiped has flags of zero too, and says nothing; it never is zero (invariant 1).
    let wiped = header[..8] == [0; 8];
    if LittleEndian::read_u32(&header[at::CHECKSUM]) != checksum_then || wiped {
        return None;
    }
    match header[at::FLAGS] {
        0 => Some(false),
        FLAG_MORE => Some(true),
        _ => None,
    }
}

/// The checksum that a record would have with other flags.
fn checksum_with(
    record: &[u8],
    header: &[u8; HEADER_BYTES],
    flags: u8,
    salt: u32,
    offset: u64,
) -> u32 {
    let mut header = *header;
    header[at::FLAGS] = flags;
    LittleEndian::write_u32(&mut header[at::CHECKSUM], salt);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&offset.to_le_bytes());
    hasher.update(&header);
    hasher.update(&record[HEADER_BYTES..]);
    hasher.finalize()
}
