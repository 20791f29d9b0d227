//! Which records were read lately: a bit for each, beside the index.
//!
//! A record is at least [`GRANULE_BYTES`] long, so that counting the log in such steps gives each record a bit of
//! its own. It is memory for those alone who evict: a 256th of the log.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// No two records begin within as many bytes.
const GRANULE_BYTES: u64 = 32;

/// Words of bits that are allocated together: for 16 MiB of log.
const SEGMENT_WORDS: usize = 8 << 10;

/// See the module. Bits may be set by many at once.
#[derive(Debug)]
pub(crate) struct Visited {
    segments: Box<[OnceLock<Box<[AtomicU64]>>]>,
}

impl Visited {
    /// For records up to about the offset `upto`; those behind it count as never read.
    pub(crate) fn new(upto: u64) -> Visited {
        const SEGMENT_BYTES: u64 = SEGMENT_WORDS as u64 * 64 * GRANULE_BYTES;
        let count = usize::try_from(upto / SEGMENT_BYTES + 1).unwrap_or(usize::MAX);
        Visited {
            segments: std::iter::repeat_with(OnceLock::new).take(count).collect(),
        }
    }

    /// Notes that the record at an offset was read.
    pub(crate) fn mark(&self, offset: u64) {
        let (segment, word, bit) = place(offset);
        let Some(segment) = self.segments.get(segment) else {
            return;
        };
        let words = segment.get_or_init(|| {
            let empty = || AtomicU64::new(0);
            std::iter::repeat_with(empty).take(SEGMENT_WORDS).collect()
        });
        // Looked at first: writing what is there already would take the cache line from other readers.
        if words[word].load(Ordering::Relaxed) & bit == 0 {
            words[word].fetch_or(bit, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_marked(&self, offset: u64) -> bool {
        let (segment, word, bit) = place(offset);
        let words = self.segments.get(segment).and_then(OnceLock::get);
        words.is_some_and(|words| words[word].load(Ordering::Relaxed) & bit != 0)
    }

    /// Takes the mark away; gives back whether there was one.
    pub(crate) fn take(&self, offset: u64) -> bool {
        let (segment, word, bit) = place(offset);
        let words = self.segments.get(segment).and_then(OnceLock::get);
        words.is_some_and(|words| words[word].fetch_and(!bit, Ordering::Relaxed) & bit != 0)
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        let segments = self
            .segments
            .iter()
            .filter(|segment| segment.get().is_some());
        (segments.count() * SEGMENT_WORDS * 8 + std::mem::size_of_val(&*self.segments)) as u64
    }
}

/// The segment, the word in it and the bit in that, of a record.
fn place(offset: u64) -> (usize, usize, u64) {
    let granule = offset / GRANULE_BYTES;
    let word = granule / 64;
    let segment = usize::try_from(word / SEGMENT_WORDS as u64).unwrap_or(usize::MAX);
    // Less than SEGMENT_WORDS.
    #[allow(clippy::cast_possible_truncation)]
    let word = (word % SEGMENT_WORDS as u64) as usize;
    (segment, word, 1 << (granule % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_have_bits_of_their_own() {
        let visited = Visited::new(64 << 20);
        let offsets = [
            12_288,
            12_320,
            12_352 + 8,
            (16 << 20) - 32,
            16 << 20,
            63 << 20,
        ];
        for (number, offset) in offsets.iter().enumerate() {
            assert!(!visited.is_marked(*offset));
            visited.mark(*offset);
            visited.mark(*offset);
            assert!(
                offsets[..=number]
                    .iter()
                    .all(|offset| visited.is_marked(*offset))
            );
        }
        for (number, offset) in offsets.iter().enumerate() {
            assert!(visited.take(*offset));
            assert!(!visited.take(*offset));
            assert!(
                offsets[number + 1..]
                    .iter()
                    .all(|offset| visited.is_marked(*offset))
            );
        }
    }

    #[test]
    fn what_lies_behind_the_end_counts_as_never_read() {
        let visited = Visited::new(1 << 20);
        visited.mark(1 << 39);
        assert!(!visited.is_marked(1 << 39) && !visited.take(1 << 39));
        assert!(visited.memory_bytes() < 1 << 10);
    }
}
