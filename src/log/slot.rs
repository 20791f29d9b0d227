//! The two slots, which are written again and again, unlike the log.

use byteorder::{ByteOrder, LittleEndian};

use super::{LOG_START, PAGE_BYTES};

/// Bytes of a slot; they lie within one sector, which disks write whole.
pub(crate) const SLOT_BYTES: usize = 64;

mod at {
    use std::ops::Range;

    pub(super) const SEQUENCE: Range<usize> = 0..8;
    pub(super) const SYNCED_UPTO: Range<usize> = 8..16;
    pub(super) const NAMED: usize = 16;
    pub(super) const CHECKPOINT: Range<usize> = 24..32;
    pub(super) const CHECKSUM: Range<usize> = 60..64;
}

/// What a slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Of two valid slots the one with the higher sequence counts.
    pub(crate) sequence: u64,
    /// Everything before this offset is known to be on the device.
    pub(crate) synced_upto: u64,
    /// Whether the file's name is known to be on the device.
    pub(crate) named: bool,
    /// Where the newest checkpoint's closing record stands, 0 for none.
    pub(crate) checkpoint: u64,
}

impl Slot {
    /// The slot of a file that has just been made and has no name yet.
    pub(crate) const FIRST: Slot = Slot {
        sequence: 1,
        synced_upto: LOG_START,
        named: false,
        checkpoint: 0,
    };

    pub(crate) fn encode(&self, salt: u32, offset: u64) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        LittleEndian::write_u64(&mut bytes[at::SEQUENCE], self.sequence);
        LittleEndian::write_u64(&mut bytes[at::SYNCED_UPTO], self.synced_upto);
        bytes[at::NAMED] = u8::from(self.named);
        LittleEndian::write_u64(&mut bytes[at::CHECKPOINT], self.checkpoint);
        let checksum = checksum(&bytes, salt, offset);
        LittleEndian::write_u32(&mut bytes[at::CHECKSUM], checksum);
        bytes
    }

    /// The slot, if the bytes are a valid one of this file and place.
    fn decode(bytes: &[u8], salt: u32, offset: u64) -> Option<Slot> {
        let bytes: &[u8; SLOT_BYTES] = bytes.first_chunk()?;
        if LittleEndian::read_u32(&bytes[at::CHECKSUM]) != checksum(bytes, salt, offset) {
            return None;
        }
        let slot = Slot {
            sequence: LittleEndian::read_u64(&bytes[at::SEQUENCE]),
            synced_upto: LittleEndian::read_u64(&bytes[at::SYNCED_UPTO]),
            named: bytes[at::NAMED] == 1,
            checkpoint: LittleEndian::read_u64(&bytes[at::CHECKPOINT]),
        };
        let sound = slot.sequence > 0
            && slot.synced_upto >= LOG_START
            && slot.synced_upto.is_multiple_of(8)
            && bytes[at::NAMED] <= 1
            && (slot.checkpoint == 0
                || (slot.checkpoint >= LOG_START
                    && slot.checkpoint < slot.synced_upto
                    && slot.checkpoint.is_multiple_of(8)));
        sound.then_some(slot)
    }
}

/// As a record's: CRC-32 over the offset and then the slot, in which the salt stands in the place
/// of the checksum.
fn checksum(bytes: &[u8; SLOT_BYTES], salt: u32, offset: u64) -> u32 {
    let mut input = [0; 8 + SLOT_BYTES];
    LittleEndian::write_u64(&mut input[..8], offset);
    input[8..].copy_from_slice(bytes);
    LittleEndian::write_u32(&mut input[8 + at::CHECKSUM.start..], salt);
    crc32fast::hash(&input)
}

/// Both slots of a file, of which at least one is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slots {
    current: Slot,
    current_index: usize,
}

impl Slots {
    /// Where the slots stand in the file.
    const OFFSETS: [u64; 2] = [PAGE_BYTES as u64, 2 * PAGE_BYTES as u64];

    /// The slots of a new file, of which only the first is written.
    pub(crate) const FIRST: Slots = Slots {
        current: Slot::FIRST,
        current_index: 0,
    };

    /// The slots in a file's first [`LOG_START`] bytes; `None` where neither is valid.
    pub(crate) fn decode(pages: &[u8], salt: u32) -> Option<Slots> {
        let mut newest: Option<Slots> = None;
        for (current_index, offset) in Self::OFFSETS.into_iter().enumerate() {
            let bytes = usize::try_from(offset)
                .ok()
                .and_then(|start| pages.get(start..))?;
            let Some(current) = Slot::decode(bytes, salt, offset) else {
                continue;
            };
            if newest.is_none_or(|slots| current.sequence > slots.current.sequence) {
                newest = Some(Slots {
                    current,
                    current_index,
                });
            }
        }
        newest
    }

    /// The slot that counts.
    pub(crate) fn current(&self) -> Slot {
        self.current
    }

    /// Where the current slot stands.
    pub(crate) fn current_offset(&self) -> u64 {
        Self::OFFSETS[self.current_index]
    }

    /// The last word of the slot that counts, and where it stands: its checksum, which no other slot
    /// of any file has.
    pub(crate) fn last_word(&self, salt: u32) -> (u64, [u8; 8]) {
        let offset = self.current_offset();
        let bytes = self.current.encode(salt, offset);
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[SLOT_BYTES - 8..]);
        (offset + (SLOT_BYTES - 8) as u64, word)
    }

    /// Whether nothing stands in the place of the slot that does not count, or a valid slot.
    pub(crate) fn is_other_whole(&self, pages: &[u8], salt: u32) -> bool {
        let offset = Self::OFFSETS[1 - self.current_index];
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| pages.get(start..start + SLOT_BYTES));
        bytes.is_none_or(|bytes| {
            bytes.iter().all(|byte| *byte == 0) || Slot::decode(bytes, salt, offset).is_some()
        })
    }

    /// The slots after `slot` was written over the older one (invariant 3 of the log), with its sequence set.
    pub(crate) fn succeeded_by(&self, slot: Slot) -> Slots {
        Slots {
            current: Slot {
                sequence: self.current.sequence.saturating_add(1),
                ..slot
            },
            current_index: 1 - self.current_index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u32 = 9;

    fn pages(slots: &[Slots]) -> Vec<u8> {
        let mut pages = vec![0; usize::try_from(LOG_START).unwrap()];
        for slots in slots {
            let start = usize::try_from(slots.current_offset()).unwrap();
            let bytes = slots.current().encode(SALT, slots.current_offset());
            pages[start..start + SLOT_BYTES].copy_from_slice(&bytes);
        }
        pages
    }

    #[test]
    fn the_newer_valid_slot_counts() {
        let first = Slots::FIRST;
        let second = first.succeeded_by(Slot {
            synced_upto: LOG_START + 64,
            named: true,
            ..first.current()
        });
        let third = second.succeeded_by(second.current());
        assert_eq!(Slots::decode(&pages(&[first]), SALT), Some(first));
        assert_eq!(Slots::decode(&pages(&[first, second]), SALT), Some(second));
        assert_eq!(Slots::decode(&pages(&[second, third]), SALT), Some(third));
        assert_eq!(Slots::decode(&pages(&[]), SALT), None);
        assert_eq!(Slots::decode(&pages(&[first]), SALT + 1), None);
    }

    #[test]
    fn a_torn_write_of_a_slot_leaves_the_other() {
        let first = Slots::FIRST;
        let second = first.succeeded_by(Slot {
            synced_upto: LOG_START + 64,
            named: true,
            ..first.current()
        });
        let before = pages(&[first]);
        let after = pages(&[first, second]);
        let start = usize::try_from(second.current_offset()).unwrap();
        for cut in 0..SLOT_BYTES {
            let mut torn = before.clone();
            torn[start..start + cut].copy_from_slice(&after[start..start + cut]);
            assert_eq!(Slots::decode(&torn, SALT), Some(first), "cut at {cut}");
        }
    }

    #[test]
    fn a_slot_that_makes_no_sense_is_not_believed() {
        let sound = Slot::FIRST;
        for slot in [
            Slot {
                sequence: 0,
                ..sound
            },
            Slot {
                synced_upto: LOG_START - 8,
                ..sound
            },
            Slot {
                synced_upto: LOG_START + 4,
                ..sound
            },
            Slot {
                checkpoint: 8,
                ..sound
            },
            Slot {
                checkpoint: LOG_START,
                ..sound
            },
        ] {
            let bytes = slot.encode(SALT, 4096);
            assert_eq!(Slot::decode(&bytes, SALT, 4096), None, "{slot:?}");
        }
    }
}
