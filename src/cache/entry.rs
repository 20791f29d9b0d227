//! The bytes of an entry in the store: a header, then the value. This file has no effects.
//!
//! [`crate::docs::cache`] specifies the layout, and a test compares the bytes. Invariants:
//!
//! 1. Reading any bytes returns an entry or `None`, and never panics. Invalid bytes are a miss.
//! 2. Bytes of one layout are never read as another: the first two bytes name the layout.

use byteorder::{ByteOrder, LittleEndian};

/// The first byte of every entry.
const MAGIC: u8 = 0xce;

/// The layout that this version writes, and the only one that it reads.
const LAYOUT: u8 = 1;

/// The length of the header before the tags, in bytes.
pub(super) const FIXED_BYTES: usize = 48;

/// The largest number of tags of one entry.
pub(super) const MAX_TAGS: usize = 64;

/// The length of the longest tag, in bytes.
pub(super) const MAX_TAG_BYTES: usize = 1_024;

/// A number that distinguishes values of different types and encodings.
///
/// [`ValueKind::own`] makes the kind of a [`CacheEncoding`](super::CacheEncoding);
/// [`Encoded`](super::Encoded) has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ValueKind {
    encoding: u8,
    schema: u64,
}

impl ValueKind {
    /// Plain bytes.
    pub(super) const BYTES: ValueKind = ValueKind::plain(0);
    /// UTF-8 text.
    pub(super) const TEXT: ValueKind = ValueKind::plain(1);

    const fn plain(encoding: u8) -> ValueKind {
        ValueKind {
            encoding,
            schema: 0,
        }
    }

    /// Returns the kind of a type of this name that is stored as MessagePack.
    #[cfg(feature = "serde")]
    pub(super) fn message_pack(type_name: &str) -> ValueKind {
        ValueKind {
            encoding: 2,
            schema: hash(type_name.as_bytes()),
        }
    }

    /// Returns the kind of an encoding with this name. Change the name whenever the meaning of the
    /// bytes changes: entries of the old name are then misses.
    ///
    /// ```
    /// use brasa::ValueKind;
    /// assert_ne!(ValueKind::own("weather.Celsius.1"), ValueKind::own("weather.Celsius.2"));
    /// ```
    pub fn own(name: &str) -> ValueKind {
        ValueKind {
            encoding: 255,
            schema: hash(name.as_bytes()),
        }
    }
}

/// Returns the SipHash-1-3 under a key of zeros. The layout stores it in place of a name.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    siphasher::sip::SipHasher13::new().hash(bytes)
}

/// Returns the stamp of a version, as entries store it. It is never 0, which stands for no version.
pub(super) fn version_stamp(version: &str) -> u64 {
    hash(version.as_bytes()).max(1)
}

/// The header of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) kind: ValueKind,
    /// Whether the entry is a remembered failure. Its value is then the message.
    pub(super) is_failure: bool,
    pub(super) version: u64,
    pub(super) stored_at_ms: u64,
    /// The time from which the value is stale; 0 for never.
    pub(super) soft_deadline_ms: u64,
    /// The time that the computation took.
    pub(super) computing_us: u32,
    tags: &'a [u8],
    /// The offset of the value.
    pub(super) value_at: usize,
}

/// Returns the version of an entry, from its first [`FIXED_BYTES`] bytes; `None` for another
/// layout.
pub(super) fn version_of(head: &[u8]) -> Option<u64> {
    let fixed = head.get(..FIXED_BYTES)?;
    let is_one = fixed.starts_with(&[MAGIC, LAYOUT]);
    is_one.then(|| LittleEndian::read_u64(&fixed[16..]))
}

impl<'a> Entry<'a> {
    /// Reads an entry. Returns `None` if the bytes are not a valid entry (invariant 1).
    #[inline]
    pub(super) fn read(bytes: &'a [u8]) -> Option<Entry<'a>> {
        let (fixed, behind) = bytes.split_at_checked(FIXED_BYTES)?;
        // Invariant 2.
        if fixed[..2] != [MAGIC, LAYOUT] || fixed[3] > 1 {
            return None;
        }
        let tags_len = usize::try_from(LittleEndian::read_u32(&fixed[44..])).ok()?;
        let entry = Entry {
            kind: ValueKind {
                encoding: fixed[2],
                schema: LittleEndian::read_u64(&fixed[8..]),
            },
            is_failure: fixed[3] == 1,
            computing_us: LittleEndian::read_u32(&fixed[4..]),
            version: LittleEndian::read_u64(&fixed[16..]),
            stored_at_ms: LittleEndian::read_u64(&fixed[24..]),
            soft_deadline_ms: LittleEndian::read_u64(&fixed[32..]),
            tags: behind.get(..tags_len)?,
            value_at: FIXED_BYTES.checked_add(tags_len)?,
        };
        let tag_count = usize::try_from(LittleEndian::read_u32(&fixed[40..])).ok()?;
        if tag_count == 0 && tags_len == 0 {
            return Some(entry);
        }
        let is_whole = tag_count <= MAX_TAGS
            && entry.tags().count() == tag_count
            && tag_bytes(entry.tags()) == tags_len;
        is_whole.then_some(entry)
    }

    /// Returns the tags, each with the stamp that it had before the value's computation began.
    pub(super) fn tags(&self) -> impl Iterator<Item = (&'a [u8], u64)> + use<'a> {
        let mut rest = self.tags;
        std::iter::from_fn(move || {
            let (head, behind) = rest.split_at_checked(10)?;
            let len = usize::from(LittleEndian::read_u16(head));
            let (name, behind) = behind.split_at_checked(len)?;
            rest = behind;
            Some((name, LittleEndian::read_u64(&head[2..])))
        })
    }
}

/// Returns the length of tags in an entry, in bytes.
fn tag_bytes<'a>(tags: impl Iterator<Item = (&'a [u8], u64)>) -> usize {
    tags.map(|(name, _)| 10 + name.len()).sum()
}

/// The fields of a header to write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header<'a> {
    pub(super) kind: ValueKind,
    pub(super) is_failure: bool,
    pub(super) version: u64,
    pub(super) stored_at_ms: u64,
    pub(super) soft_deadline_ms: u64,
    pub(super) computing_us: u32,
    /// At most [`MAX_TAGS`], none longer than [`MAX_TAG_BYTES`].
    pub(super) tags: &'a [(Vec<u8>, u64)],
}

impl Header<'_> {
    /// Returns an entry without its value. The caller appends the value.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the caller has checked the limits of tags"
    )]
    pub(super) fn write(&self) -> Vec<u8> {
        let tags = || self.tags.iter().map(|(name, stamp)| (&name[..], *stamp));
        let tags_len = tag_bytes(tags());
        let mut bytes = vec![0; FIXED_BYTES];
        bytes[..4].copy_from_slice(&[MAGIC, LAYOUT, self.kind.encoding, u8::from(self.is_failure)]);
        LittleEndian::write_u32(&mut bytes[4..], self.computing_us);
        LittleEndian::write_u64(&mut bytes[8..], self.kind.schema);
        LittleEndian::write_u64(&mut bytes[16..], self.version);
        LittleEndian::write_u64(&mut bytes[24..], self.stored_at_ms);
        LittleEndian::write_u64(&mut bytes[32..], self.soft_deadline_ms);
        LittleEndian::write_u32(&mut bytes[40..], self.tags.len() as u32);
        LittleEndian::write_u32(&mut bytes[44..], tags_len as u32);
        for (name, stamp) in tags() {
            let mut head = [0; 10];
            LittleEndian::write_u16(&mut head, name.len() as u16);
            LittleEndian::write_u64(&mut head[2..], stamp);
            bytes.extend_from_slice(&head);
            bytes.extend_from_slice(name);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(tags: &[(Vec<u8>, u64)]) -> Vec<u8> {
        let header = Header {
            kind: ValueKind::TEXT,
            is_failure: false,
            version: version_stamp("2.1"),
            stored_at_ms: 1_700_000_000_000,
            soft_deadline_ms: 1_700_000_010_000,
            computing_us: 200_000,
            tags,
        };
        let mut bytes = header.write();
        bytes.extend_from_slice(b"Relou Uourdi");
        bytes
    }

    /// A change of these bytes needs a new layout number, since older programs have written them.
    #[test]
    fn entry_has_the_bytes_that_the_docs_state() {
        let bytes = example(&[(b"users".to_vec(), 0x1122_3344_5566_7788)]);
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = [
            "ce 01 01 00 40 0d 03 00 00 00 00 00 00 00 00 00",
            "36 1f 1b e8 2e e3 24 85 00 68 e5 cf 8b 01 00 00",
            "10 8f e5 cf 8b 01 00 00 01 00 00 00 0f 00 00 00",
            "05 00 88 77 66 55 44 33 22 11 75 73 65 72 73 52",
            "65 6c 6f 75 20 55 6f 75 72 64 69",
        ];
        assert_eq!(hex.join(" "), expected.join(" "));
        let docs = include_str!("../docs/cache.md");
        for line in expected {
            assert!(docs.contains(line), "the docs do not have {line}");
        }
    }

    #[test]
    fn entry_is_read_as_it_was_written() {
        let tags = [(b"a".to_vec(), 1), (Vec::new(), 2)];
        let bytes = example(&tags);
        let entry = Entry::read(&bytes).unwrap();
        assert_eq!(entry.kind, ValueKind::TEXT);
        assert_eq!(
            (entry.stored_at_ms, entry.soft_deadline_ms),
            (1_700_000_000_000, 1_700_000_010_000)
        );
        assert_eq!((entry.computing_us, entry.is_failure), (200_000, false));
        assert_eq!(entry.version, version_stamp("2.1"));
        let read: Vec<_> = entry.tags().collect();
        assert_eq!(read, [(&b"a"[..], 1), (&b""[..], 2)]);
        assert_eq!(&bytes[entry.value_at..], b"Relou Uourdi");
    }

    #[test]
    fn entry_that_is_cut_or_has_a_flipped_bit_is_read_as_an_entry_or_as_none() {
        let tags = [(b"users".to_vec(), 7), (b"x".to_vec(), 8)];
        let bytes = example(&tags);
        let header_bytes = Entry::read(&bytes).unwrap().value_at;
        for len in 0..header_bytes {
            assert_eq!(Entry::read(&bytes[..len]), None, "{len} bytes");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                if let Some(entry) = Entry::read(&flipped) {
                    assert!(entry.value_at <= flipped.len());
                    assert_eq!(entry.tags().count(), 2);
                    assert!(at > 1, "another layout was read");
                }
            }
        }
        assert_eq!(Entry::read(&[0xff; 200]), None);
        assert_eq!(Entry::read(&[]), None);
    }
}
