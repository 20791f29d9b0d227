//! A hash table of 8-byte entries in the order of their hashes.
//!
//! It uses Robin Hood hashing by linear probing, without wrap-around. An entry is at the slot of
//! its hash (the hash scaled to the capacity) or after it, and never before an entry with a smaller
//! hash. Compared with an unordered table, most lookups touch one cache line, and growth is a merge
//! of two sorted runs. A cursor survives growth, and a checkpoint can be written by copying.
//! (Celis, "Robin Hood Hashing", 1986; Amble and Knuth, "Ordered hash tables", 1974.)
//!
//! Invariants:
//!
//! 1. Slots that are not [`EMPTY`] are in ascending order of hash.
//! 2. No slot is empty between the slot of an entry's hash and the entry.
//! 3. The last slot is empty, so that every probe ends.

use super::hash::ENTRY_HASH_BITS;
use super::word::{PLACE_MASK, hash_of, is_flagged, pack, place_of};

/// A slot without an entry. No entry is zero: offset 0 is the file's header, and the number of a hash is stored plus one.
const EMPTY: u64 = 0;

/// Entries at most per 16 slots.
const FULLEST_SIXTEENTHS: usize = 13;

/// The least capacity of a table that is not empty.
const LEAST_CAPACITY: usize = 8;

/// What an entry points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Location {
    /// The record at this offset.
    Record(u64),
    /// The hash object of this number in the shard.
    Hash(usize),
}

/// The table; see the module.
#[derive(Debug, Default, Clone)]
pub(crate) struct Table {
    slots: Vec<u64>,
    /// How many slots hashes are scaled to. Behind them are some for what runs over.
    capacity: usize,
    len: usize,
}

fn entry(hash: u32, location: Location) -> u64 {
    match location {
        Location::Record(offset) => {
            debug_assert!(offset > 0 && offset.is_multiple_of(8) && offset / 8 <= PLACE_MASK);
            pack(hash, false, offset / 8)
        }
        Location::Hash(number) => pack(hash, true, number as u64 + 1),
    }
}

fn location_of(entry: u64) -> Location {
    if is_flagged(entry) {
        // The number was a usize when it was stored.
        #[allow(clippy::cast_possible_truncation)]
        let number = (place_of(entry) - 1) as usize;
        Location::Hash(number)
    } else {
        Location::Record(place_of(entry) * 8)
    }
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The entry with this hash for which `is_it` says yes: its slot, and what it points at.
    #[inline]
    pub(crate) fn find(
        &self,
        hash: u32,
        mut is_it: impl FnMut(Location) -> bool,
    ) -> Option<(usize, Location)> {
        if self.len == 0 {
            return None;
        }
        let mut index = self.first_slot(hash);
        loop {
            let found = self.slots[index];
            if found == EMPTY || hash_of(found) > hash {
                return None;
            }
            if hash_of(found) == hash && is_it(location_of(found)) {
                return Some((index, location_of(found)));
            }
            index += 1;
        }
    }

    /// What the first entry with this hash points at: nearly always the one that is looked for.
    #[cfg(feature = "server")]
    pub(crate) fn guess(&self, hash: u32) -> Option<Location> {
        self.find(hash, |_| true).map(|(_, location)| location)
    }

    /// What stands where the search for this hash begins.
    pub(crate) fn touch(&self, hash: u32) -> u64 {
        let first = self.slots.get(self.first_slot(hash));
        first.copied().unwrap_or(EMPTY)
    }

    /// Points the entry in a slot at something else.
    pub(crate) fn replace(&mut self, slot: usize, location: Location) {
        self.slots[slot] = entry(hash_of(self.slots[slot]), location);
    }

    /// Adds an entry, whatever others there are.
    pub(crate) fn insert(&mut self, hash: u32, location: Location) {
        if (self.len + 1) * 16 > self.capacity * FULLEST_SIXTEENTHS {
            self.rebuild((self.capacity + self.capacity / 2).max(LEAST_CAPACITY));
        }
        let mut index = self.first_slot(hash);
        while self.slots[index] != EMPTY && hash_of(self.slots[index]) <= hash {
            index += 1;
        }
        let mut end = index;
        while self.slots[end] != EMPTY {
            end += 1;
        }
        if end + 1 == self.slots.len() {
            self.push_slot();
        }
        self.slots.copy_within(index..end, index + 1);
        self.slots[index] = entry(hash, location);
        self.len += 1;
    }

    /// Removes the entry in a slot.
    pub(crate) fn remove(&mut self, slot: usize) {
        let mut index = slot;
        loop {
            let next = self.slots[index + 1];
            if next == EMPTY || self.first_slot(hash_of(next)) == index + 1 {
                break;
            }
            self.slots[index] = next;
            index += 1;
        }
        self.slots[index] = EMPTY;
        self.len -= 1;
        if self.capacity > 8 * LEAST_CAPACITY && self.len < self.capacity / 4 {
            self.rebuild(self.capacity / 2);
        }
    }

    /// The entries from a hash on, in the order of their hashes. The hash may be greater than any
    /// that an entry has.
    pub(crate) fn iter_from(&self, hash: u32) -> impl Iterator<Item = (u32, Location)> {
        let slots = self.slots.get(self.first_slot(hash)..);
        slots
            .unwrap_or_default()
            .iter()
            .filter(move |found| **found != EMPTY && hash_of(**found) >= hash)
            .map(|found| (hash_of(*found), location_of(*found)))
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u64>()
    }

    /// The slot that a hash names: the hash, as a fraction, of the capacity. It grows with the
    /// hash, which is what keeps the entries in order.
    fn first_slot(&self, hash: u32) -> usize {
        // Less than the capacity, since the hash is less than 2^ENTRY_HASH_BITS.
        #[allow(clippy::cast_possible_truncation)]
        let slot = ((u64::from(hash) * self.capacity as u64) >> ENTRY_HASH_BITS) as usize;
        slot
    }

    /// One more slot behind the others; what runs over the end is rare and short.
    fn push_slot(&mut self) {
        self.slots.reserve_exact(1 + self.slots.len() / 64);
        self.slots.push(EMPTY);
    }

    fn rebuild(&mut self, capacity: usize) {
        let old = std::mem::take(&mut self.slots);
        self.capacity = capacity;
        self.slots = Vec::with_capacity(capacity + 2 + capacity / 64);
        for found in old.into_iter().filter(|found| *found != EMPTY) {
            let first = self.first_slot(hash_of(found));
            if self.slots.len() < first {
                self.slots.resize(first, EMPTY);
            }
            self.slots.push(found);
        }
        self.slots.resize(capacity.max(self.slots.len()) + 1, EMPTY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX_HASH: u32 = (1 << ENTRY_HASH_BITS) - 1;

    fn check_invariants(table: &Table) {
        assert_eq!(table.slots.last().copied().unwrap_or(EMPTY), EMPTY);
        let mut greatest = 0;
        let mut count = 0;
        for (index, found) in table.slots.iter().enumerate() {
            if *found == EMPTY {
                continue;
            }
            let hash = hash_of(*found);
            assert!(hash >= greatest, "slot {index} is out of order");
            greatest = hash;
            let first = table.first_slot(hash);
            assert!(first <= index);
            assert!(table.slots[first..index].iter().all(|slot| *slot != EMPTY));
            count += 1;
        }
        assert_eq!(count, table.len);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u32),
        Remove(usize),
        Replace(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // Hashes that collide, hashes at the very end, and any.
        let hash = prop_oneof![0..8_u32, MAX_HASH - 3..=MAX_HASH, 0..=MAX_HASH];
        let step = prop_oneof![
            3 => hash.prop_map(Step::Insert),
            1 => any::<usize>().prop_map(Step::Remove),
            1 => any::<usize>().prop_map(Step::Replace),
        ];
        prop::collection::vec(step, 0..400)
    }

    proptest! {
        #[test]
        fn a_table_holds_what_a_list_holds(steps in steps()) {
            let mut table = Table::default();
            let mut model: Vec<(u32, u64)> = Vec::new();
            let mut next = 0;
            for step in steps {
                next += 8;
                match step {
                    Step::Insert(hash) => {
                        table.insert(hash, Location::Record(next));
                        model.push((hash, next));
                    }
                    Step::Remove(at) if !model.is_empty() => {
                        let (hash, offset) = model.swap_remove(at % model.len());
                        let slot = table.find(hash, |place| place == Location::Record(offset));
                        table.remove(slot.unwrap().0);
                    }
                    Step::Replace(at) if !model.is_empty() => {
                        let at = at % model.len();
                        let (hash, offset) = model[at];
                        let slot = table.find(hash, |place| place == Location::Record(offset));
                        table.replace(slot.unwrap().0, Location::Record(next));
                        model[at].1 = next;
                    }
                    Step::Remove(_) | Step::Replace(_) => {}
                }
                check_invariants(&table);
            }
            let mut found: Vec<_> = table.iter_from(0).collect();
            prop_assert!(found.is_sorted_by_key(|(hash, _)| *hash));
            found.sort_unstable_by_key(|(hash, place)| (*hash, format!("{place:?}")));
            let mut expected: Vec<_> = model
                .iter()
                .map(|(hash, offset)| (*hash, Location::Record(*offset)))
                .collect();
            expected.sort_unstable_by_key(|(hash, place)| (*hash, format!("{place:?}")));
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let mut table = Table::default();
        assert_eq!(table.find(1, |_| true), None);
        table.insert(1, Location::Hash(0));
        assert_eq!(table.find(2, |_| true), None);
        assert_eq!(table.find(1, |_| false), None);
        let (_, location) = table.find(1, |_| true).unwrap();
        assert_eq!(location, Location::Hash(0));
    }

    #[test]
    fn a_walk_from_behind_the_greatest_hash_is_empty() {
        let mut table = Table::default();
        for count in 0..100 {
            for hash in [MAX_HASH + 1, u32::MAX / 2, u32::MAX] {
                assert_eq!(table.iter_from(hash).next(), None, "{count} entries");
            }
            table.insert(MAX_HASH, Location::Record((count + 1) * 8));
        }
    }

    #[test]
    fn the_largest_offset_is_kept() {
        let mut table = Table::default();
        let last = Location::Record(crate::limits::MAX_FILE_BYTES - 8);
        table.insert(MAX_HASH, last);
        assert_eq!(table.iter_from(MAX_HASH).next(), Some((MAX_HASH, last)));
    }

    /// The promise of design and README: at most 24 bytes a key, growing included.
    #[test]
    fn a_table_takes_at_most_16_bytes_an_entry_from_a_hundred_entries_on() {
        let mut table = Table::default();
        for count in 1..200_000_u32 {
            let hash = count.wrapping_mul(0x9e37_79b9) >> (u32::BITS - ENTRY_HASH_BITS);
            table.insert(hash, Location::Record(u64::from(count) * 8));
            if count >= 100 {
                let bytes_each = table.heap_bytes() / table.len();
                assert!(bytes_each <= 16, "{bytes_each} bytes at {count} entries");
            }
        }
    }
}
