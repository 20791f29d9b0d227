//! SIEVE's visited bits: one for each record, beside the index.
//!
//! A record is at least [`GRANULE_BYTES`] long, so that one bit for each such step of the log gives
//! each record its own. Only handles that evict pay the memory: a 256th of the log.

use crate::sync::OnceLock;
use crate::sync::atomic::{AtomicU64, Ordering};

/// No two records begin within as many bytes.
const GRANULE_BYTES: u64 = 32;

/// Words of bits that are allocated together, for 1 MiB of log. They are few, since a single lookup
/// already pays for them.
const LEAF_WORDS: usize = 512;

/// Leaves that are listed together: for 64 MiB of log.
const NODE_LEAVES: usize = 64;

type Leaf = Box<[AtomicU64]>;
type Node = Box<[OnceLock<Leaf>]>;

/// See the module. Bits may be set by many at once.
#[derive(Debug)]
pub(crate) struct Visited {
    nodes: Box<[OnceLock<Node>]>,
}

/// Where a record's bit is.
struct Place {
    node: usize,
    leaf: usize,
    word: usize,
    bit: u64,
}

impl Visited {
    /// For records up to about the offset `upto`; those behind it count as never read.
    pub(crate) fn new(upto: u64) -> Visited {
        const NODE_BYTES: u64 = (NODE_LEAVES * LEAF_WORDS) as u64 * 64 * GRANULE_BYTES;
        let count = usize::try_from(upto / NODE_BYTES + 1).unwrap_or(usize::MAX);
        Visited {
            nodes: empty(count),
        }
    }

    /// Notes that the record at an offset was read.
    pub(crate) fn mark(&self, offset: u64) {
        let place = place(offset);
        let Some(node) = self.nodes.get(place.node) else {
            return;
        };
        let leaf = &node.get_or_init(|| empty(NODE_LEAVES))[place.leaf];
        let words = leaf.get_or_init(|| empty(LEAF_WORDS));
        // Looked at first: writing what is there already would take the cache line from other readers.
        if words[place.word].load(Ordering::Relaxed) & place.bit == 0 {
            words[place.word].fetch_or(place.bit, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_marked(&self, offset: u64) -> bool {
        let place = place(offset);
        self.word(&place)
            .is_some_and(|word| word.load(Ordering::Relaxed) & place.bit != 0)
    }

    /// Takes the mark away; gives back whether there was one.
    pub(crate) fn take(&self, offset: u64) -> bool {
        let place = place(offset);
        self.word(&place)
            .is_some_and(|word| word.fetch_and(!place.bit, Ordering::Relaxed) & place.bit != 0)
    }

    fn word(&self, place: &Place) -> Option<&AtomicU64> {
        let leaf = self.nodes.get(place.node)?.get()?[place.leaf].get()?;
        Some(&leaf[place.word])
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        let nodes = self.nodes.iter().filter_map(OnceLock::get);
        let leaves = nodes
            .clone()
            .flatten()
            .filter(|leaf| leaf.get().is_some())
            .count();
        let listed = self.nodes.len() + nodes.count() * NODE_LEAVES;
        (leaves * LEAF_WORDS * 8 + listed * std::mem::size_of::<OnceLock<Leaf>>()) as u64
    }
}

fn empty<T: Default>(count: usize) -> Box<[T]> {
    std::iter::repeat_with(T::default).take(count).collect()
}

fn place(offset: u64) -> Place {
    let granule = offset / GRANULE_BYTES;
    let word = granule / 64;
    let leaf = word / LEAF_WORDS as u64;
    let within = |number: u64, count: usize| {
        // Less than the count.
        #[allow(clippy::cast_possible_truncation)]
        let within = (number % count as u64) as usize;
        within
    };
    Place {
        node: usize::try_from(leaf / NODE_LEAVES as u64).unwrap_or(usize::MAX),
        leaf: within(leaf, NODE_LEAVES),
        word: within(word, LEAF_WORDS),
        bit: 1 << (granule % 64),
    }
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
