//! The 8 bytes of an entry, the same in memory and in a checkpoint: bits of the hash, a flag, and a
//! location.

use super::hash::ENTRY_HASH_BITS;

/// Bits that say where an entry points: an offset in units of 8 bytes, up to 1 TiB.
const PLACE_BITS: u32 = 37;

pub(super) const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;

/// Set where an entry does not point at a record.
const FLAG: u64 = 1 << PLACE_BITS;

pub(super) fn pack(hash: u32, flagged: bool, place: u64) -> u64 {
    debug_assert!(place <= PLACE_MASK);
    let flag = if flagged { FLAG } else { 0 };
    (u64::from(hash) << (u64::BITS - ENTRY_HASH_BITS)) | flag | place
}

pub(super) fn hash_of(word: u64) -> u32 {
    // The shift leaves ENTRY_HASH_BITS bits.
    #[allow(clippy::cast_possible_truncation)]
    let hash = (word >> (u64::BITS - ENTRY_HASH_BITS)) as u32;
    hash
}

pub(super) fn is_flagged(word: u64) -> bool {
    word & FLAG != 0
}

pub(super) fn place_of(word: u64) -> u64 {
    word & PLACE_MASK
}
