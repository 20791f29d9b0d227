//! What the machine allows: the work that no store can leave out, done bare.
//!
//! - `set`: the page of a mapped file made ready, a record of 152 bytes copied there, its CRC-32, and an entry in a hash table.
//! - `get`: the entry in the hash table, the key in the record compared, and the value copied out. Twice: one after the other as fast as it goes, of
//!   which a processor has several under way at once; and such that each waits for the one before, as it does in a program that does something with
//!   the value.
//! - `set, synced`: one `pwrite` at the end of a file, which grows by it, and `fdatasync`.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use memmap2::{Advice, MmapMut, MmapOptions};
use siphasher::sip::SipHasher13;

use crate::report::Results;
use crate::works::{Data, KEY_BYTES, VALUE_BYTES, per};

pub const FLOOR: &str = "floor";

const HEADER_BYTES: usize = 32;
const RECORD_BYTES: usize = (HEADER_BYTES + KEY_BYTES + VALUE_BYTES).next_multiple_of(8);
const STEP_BYTES: usize = 256 << 10;

/// A table of offsets, with some bits of the hash.
struct Table {
    slots: Vec<u64>,
    hasher: SipHasher13,
}

impl Table {
    fn new(count: usize) -> Table {
        Table {
            slots: vec![0; (2 * count).next_power_of_two()],
            hasher: SipHasher13::new_with_key(&[7; 16]),
        }
    }

    fn place(&self, key: &[u8]) -> (usize, u64) {
        let hash = self.hasher.hash(key);
        (hash as usize & (self.slots.len() - 1), hash >> 40 << 40)
    }

    fn insert(&mut self, key: &[u8], offset: usize) {
        let (mut at, tag) = self.place(key);
        while self.slots[at] != 0 {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = tag | offset as u64;
    }

    fn find(&self, key: &[u8], map: &[u8]) -> usize {
        let (mut at, tag) = self.place(key);
        loop {
            let slot = self.slots[at];
            let offset = (slot & ((1 << 40) - 1)) as usize;
            let key_at = offset + HEADER_BYTES;
            if slot >> 40 << 40 == tag && map[key_at..key_at + KEY_BYTES] == *key {
                return key_at + KEY_BYTES;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }
}

pub fn measure(scratch: &Path, data: &Data, results: &mut Results) {
    let path = scratch.join("floor");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    let bytes = 8 + data.keys.len() * RECORD_BYTES;
    file.set_len(bytes.next_multiple_of(STEP_BYTES) as u64)
        .unwrap();
    // SAFETY: nobody else has the file.
    let mut map = unsafe { MmapOptions::new().map_mut(&file) }.unwrap();
    let mut table = Table::new(data.keys.len());
    results.add("set", FLOOR, fill(&mut map, &mut table, data));
    results.add("get", FLOOR, look(&map, &table, data, false));
    results.add("get, each waits", FLOOR, look(&map, &table, data, true));
    drop(map);
    std::fs::remove_file(&path).unwrap();
    results.add("set, synced", FLOOR, append(scratch));
}

fn fill(map: &mut MmapMut, table: &mut Table, data: &Data) -> f64 {
    let begun = Instant::now();
    let (mut offset, mut ready, mut sum) = (8, 0, 0_u32);
    for key in &data.keys {
        if offset + RECORD_BYTES > ready {
            map.advise_range(Advice::PopulateWrite, ready, STEP_BYTES)
                .unwrap();
            ready += STEP_BYTES;
        }
        let record = &mut map[offset..offset + RECORD_BYTES];
        record[HEADER_BYTES..HEADER_BYTES + KEY_BYTES].copy_from_slice(key);
        record[HEADER_BYTES + KEY_BYTES..][..VALUE_BYTES].copy_from_slice(&data.value);
        let mut hasher = crc32fast::Hasher::new_with_initial(sum);
        hasher.update(record);
        sum = hasher.finalize();
        record[..4].copy_from_slice(&sum.to_le_bytes());
        table.insert(key, offset);
        offset += RECORD_BYTES;
    }
    per(begun.elapsed(), data.keys.len())
}

fn look(map: &[u8], table: &Table, data: &Data, waits: bool) -> f64 {
    let mut value = [0; VALUE_BYTES];
    let begun = Instant::now();
    let mut next = 0;
    for index in 0..data.shuffled.len() {
        // 0 in truth, which nobody knows before the value was read.
        let found = table.find(&data.shuffled[index + next], map);
        value.copy_from_slice(&map[found..found + VALUE_BYTES]);
        black_box(&value);
        if waits {
            next = usize::from(value[0] - data.value[0]);
        }
    }
    per(begun.elapsed(), data.shuffled.len())
}

/// In a file of its own: the first sync of one that was filled would have all of that to carry.
fn append(scratch: &Path) -> f64 {
    let path = scratch.join("floor-synced");
    let file = File::create_new(&path).unwrap();
    file.sync_all().unwrap();
    let record = [1; RECORD_BYTES];
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < Duration::from_millis(500) {
        file.write_all_at(&record, (count * RECORD_BYTES) as u64)
            .unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    let each = per(begun.elapsed(), count);
    std::fs::remove_file(&path).unwrap();
    each
}
