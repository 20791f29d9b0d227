//! Page 0 of a file, written once.

use byteorder::{ByteOrder, LittleEndian};

use super::PAGE_BYTES;

/// The first bytes of every file. As in PNG, the first has its high bit set and the last two are
/// a line break, so that a transfer that mangles either is noticed.
pub(crate) const MAGIC: [u8; 8] = *b"\x89brasa\r\n";

/// The version that this build reads and writes: another major one is another format.
pub(crate) const MAJOR_VERSION: u16 = 1;

/// A minor version adds kinds of records or limits; a file of a newer one is refused.
pub(crate) const MINOR_VERSION: u16 = 0;

mod at {
    use std::ops::Range;

    pub(super) const MAGIC: Range<usize> = 0..8;
    pub(super) const MAJOR: Range<usize> = 8..10;
    pub(super) const MINOR: Range<usize> = 10..12;
    pub(super) const SALT: Range<usize> = 12..16;
    pub(super) const HASH_KEY: Range<usize> = 16..32;
    pub(super) const GENERATION: Range<usize> = 32..40;
    pub(super) const BASE_POSITION: Range<usize> = 40..48;
    pub(super) const COPIED_UPTO: Range<usize> = 48..56;
    pub(super) const CREATED_MS: Range<usize> = 56..64;
    pub(super) const CHECKSUM: Range<usize> = super::PAGE_BYTES - 4..super::PAGE_BYTES;
}

/// What page 0 says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHeader {
    /// Drawn anew for every file and every rewrite; it makes records of other files invalid.
    pub(crate) salt: u32,
    /// The key of the hash by which keys are found; kept by compaction.
    pub(crate) hash_key: [u8; 16],
    /// How many times the file was rewritten.
    pub(crate) generation: u64,
    /// The log position that the offset `copied_upto` has.
    pub(crate) base_position: u64,
    /// The offset up to which the log is a compaction's copy. Records in the copy have no position.
    pub(crate) copied_upto: u64,
    /// When this file was made, in Unix milliseconds.
    pub(crate) created_ms: u64,
}

/// Why page 0 is not one that this build can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderProblem {
    /// Neither the magic nor the checksum is that of a header page.
    Foreign,
    /// The checksum holds for the page with the right magic, and the magic is another.
    Magic {
        found: [u8; 8],
    },
    Checksum {
        expected: u32,
        found: u32,
    },
    Version {
        major: u16,
        minor: u16,
    },
}

impl FileHeader {
    pub(crate) fn encode(&self) -> [u8; PAGE_BYTES] {
        let mut page = [0; PAGE_BYTES];
        page[at::MAGIC].copy_from_slice(&MAGIC);
        LittleEndian::write_u16(&mut page[at::MAJOR], MAJOR_VERSION);
        LittleEndian::write_u16(&mut page[at::MINOR], MINOR_VERSION);
        LittleEndian::write_u32(&mut page[at::SALT], self.salt);
        page[at::HASH_KEY].copy_from_slice(&self.hash_key);
        LittleEndian::write_u64(&mut page[at::GENERATION], self.generation);
        LittleEndian::write_u64(&mut page[at::BASE_POSITION], self.base_position);
        LittleEndian::write_u64(&mut page[at::COPIED_UPTO], self.copied_upto);
        LittleEndian::write_u64(&mut page[at::CREATED_MS], self.created_ms);
        let checksum = checksum(&page);
        LittleEndian::write_u32(&mut page[at::CHECKSUM], checksum);
        page
    }

    pub(crate) fn decode(page: &[u8; PAGE_BYTES]) -> Result<FileHeader, HeaderProblem> {
        let mut magic = [0; 8];
        magic.copy_from_slice(&page[at::MAGIC]);
        // The checksum has its place in every version, so that a damaged version is told from a new one.
        let found = LittleEndian::read_u32(&page[at::CHECKSUM]);
        let expected = checksum(page);
        if found != expected {
            return Err(match magic == MAGIC {
                true => HeaderProblem::Checksum { expected, found },
                false => HeaderProblem::Foreign,
            });
        }
        let major = LittleEndian::read_u16(&page[at::MAJOR]);
        let minor = LittleEndian::read_u16(&page[at::MINOR]);
        if major != MAJOR_VERSION || minor > MINOR_VERSION {
            return Err(HeaderProblem::Version { major, minor });
        }
        if magic != MAGIC {
            return Err(HeaderProblem::Magic { found: magic });
        }
        Ok(FileHeader::read(page))
    }

    /// What a page says, be it sound or damaged.
    pub(crate) fn read(page: &[u8; PAGE_BYTES]) -> FileHeader {
        let mut hash_key = [0; 16];
        hash_key.copy_from_slice(&page[at::HASH_KEY]);
        FileHeader {
            salt: LittleEndian::read_u32(&page[at::SALT]),
            hash_key,
            generation: LittleEndian::read_u64(&page[at::GENERATION]),
            base_position: LittleEndian::read_u64(&page[at::BASE_POSITION]),
            copied_upto: LittleEndian::read_u64(&page[at::COPIED_UPTO]),
            created_ms: LittleEndian::read_u64(&page[at::CREATED_MS]),
        }
    }
}

/// The checksum of the page as if it had the right magic.
fn checksum(page: &[u8; PAGE_BYTES]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&MAGIC);
    hasher.update(&page[at::MAGIC.end..at::CHECKSUM.start]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const HEADER: FileHeader = FileHeader {
        salt: 7,
        hash_key: *b"0123456789abcdef",
        generation: 3,
        base_position: 99,
        copied_upto: 12_288,
        created_ms: 1_700_000_000_000,
    };

    #[test]
    fn what_was_encoded_is_decoded() {
        assert_eq!(FileHeader::decode(&HEADER.encode()), Ok(HEADER));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let page = HEADER.encode();
        for bit in 0..page.len() * 8 {
            let mut damaged = page;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(FileHeader::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_damaged_magic_is_told_from_a_foreign_file() {
        for found in [[0; 8], *b"\x88brasa\r\n", *b"whatever"] {
            let mut page = HEADER.encode();
            page[at::MAGIC].copy_from_slice(&found);
            assert_eq!(
                FileHeader::decode(&page),
                Err(HeaderProblem::Magic { found })
            );
            page[100] ^= 1;
            assert_eq!(FileHeader::decode(&page), Err(HeaderProblem::Foreign));
        }
        assert_eq!(
            FileHeader::decode(&[0; PAGE_BYTES]),
            Err(HeaderProblem::Foreign)
        );
    }

    #[test]
    fn a_newer_version_is_refused_by_its_number() {
        for (major, minor) in [(1, 1), (2, 0), (0, 0)] {
            let mut page = HEADER.encode();
            LittleEndian::write_u16(&mut page[at::MAJOR], major);
            LittleEndian::write_u16(&mut page[at::MINOR], minor);
            let checksum = crc32fast::hash(&page[..at::CHECKSUM.start]);
            LittleEndian::write_u32(&mut page[at::CHECKSUM], checksum);
            let refused = FileHeader::decode(&page);
            assert_eq!(refused, Err(HeaderProblem::Version { major, minor }));
        }
    }
}
