//! What is measured of each peer.
//!
//! Keys are made before the clock starts. Each work ends after [`LIMIT`] where it has not come to all keys by then. Counts and values are
//! asserted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::peers::{self, Peer, Safe, Store};
use crate::report::Results;

pub const KEY_BYTES: usize = 16;
pub const VALUE_BYTES: usize = 100;

/// How long one work may take.
const LIMIT: Duration = Duration::from_millis(1_200);
/// And a slow one, which comes to its figure sooner.
const SHORT_LIMIT: Duration = Duration::from_millis(500);
const BATCH_KEYS: usize = 1_000;
const FIELDS: usize = 1_000;
const SYNCING_THREADS: usize = 8;

pub type Key = [u8; KEY_BYTES];

/// What is written and read.
pub struct Data {
    pub keys: Vec<Key>,
    /// The same, in an order that no prefetching foresees.
    pub shuffled: Vec<Key>,
    /// The same in a third order: who reads in the order of writing walks through a log from end to end.
    reads: Vec<Key>,
    /// As many, of which some come much more often than others (Zipf, with an exponent of 0.99, as in YCSB).
    skewed: Vec<Key>,
    pub value: [u8; VALUE_BYTES],
}

impl Data {
    pub fn new(size: usize) -> Data {
        let key = |number: usize| format!("key:{number:012}").into_bytes().try_into();
        let keys: Vec<Key> = (0..size).map(|number| key(number).unwrap()).collect();
        let mut state = 88_172_645_463_325_252_u64;
        // Marsaglia's xorshift, the same each time.
        let mut draw = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        // Fisher and Yates.
        let mut shuffle = |mut keys: Vec<Key>| {
            for at in (1..keys.len()).rev() {
                keys.swap(at, (draw() % (at as u64 + 1)) as usize);
            }
            keys
        };
        let shuffled = shuffle(keys.clone());
        let reads = shuffle(keys.clone());
        let skewed = {
            let weights = (1..=size).map(|rank| (rank as f64).powf(-0.99));
            let sums: Vec<f64> = weights
                .scan(0.0, |sum, weight| {
                    *sum += weight;
                    Some(*sum)
                })
                .collect();
            let all = sums[size - 1];
            let mut pick = || {
                let at = draw() as f64 / u64::MAX as f64 * all;
                reads[sums.partition_point(|sum| *sum < at).min(size - 1)]
            };
            (0..size).map(|_| pick()).collect()
        };
        Data {
            keys,
            shuffled,
            reads,
            skewed,
            value: [b'v'; VALUE_BYTES],
        }
    }

    fn pairs<'d>(&'d self, keys: &'d [Key]) -> Vec<(&'d [u8], &'d [u8])> {
        keys.iter().map(|key| (&key[..], &self.value[..])).collect()
    }
}

/// Nanoseconds each.
pub fn per(elapsed: Duration, count: usize) -> f64 {
    elapsed.as_nanos() as f64 / count as f64
}

/// Does something for each key until the time is up; gives back nanoseconds each, and how many there were.
fn for_keys(limit: Duration, keys: &[Key], mut act: impl FnMut(&Key)) -> (f64, usize) {
    let begun = Instant::now();
    let mut count = 0;
    // The clock is asked seldom enough not to be measured itself, and often enough for who syncs each time.
    let mut until_asked = 1;
    for key in keys {
        act(key);
        count += 1;
        until_asked -= 1;
        if until_asked == 0 {
            let elapsed = begun.elapsed();
            if elapsed >= limit {
                break;
            }
            until_asked = if per(elapsed, count) > 10_000.0 {
                1
            } else {
                256
            };
        }
    }
    (per(begun.elapsed(), count), count)
}

/// An empty directory of its own.
pub fn fresh(scratch: &Path, peer: &Peer) -> PathBuf {
    let directory = scratch.join(peer.name);
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir(&directory).unwrap();
    directory
}

pub fn measure(peer: &Peer, scratch: &Path, data: &Data, results: &mut Results) {
    let mut add = |work: &str, ns: f64| results.add(work, peer.name, ns);

    let directory = fresh(scratch, peer);
    let store = (peer.open)(&directory, Safe::Killed).unwrap();
    let (ns, count) = for_keys(LIMIT, &data.shuffled, |key| store.set(key, &data.value));
    add("set", ns);
    assert_eq!(store.count(), count, "{}", peer.name);
    drop(store);

    let directory = fresh(scratch, peer);
    let store = (peer.open)(&directory, Safe::Killed).unwrap();
    let mut longest = Duration::ZERO;
    for_keys(LIMIT, &data.shuffled, |key| {
        let begun = Instant::now();
        store.set(key, &data.value);
        longest = longest.max(begun.elapsed());
    });
    add("longest set", longest.as_nanos() as f64);
    drop(store);

    measure_synced(peer, scratch, data, &mut add);

    let directory = fresh(scratch, peer);
    let store = (peer.open)(&directory, Safe::Killed).unwrap();
    let begun = Instant::now();
    for keys in data.shuffled.chunks(BATCH_KEYS) {
        store.set_all(&data.pairs(keys));
    }
    add("bulk load", per(begun.elapsed(), data.keys.len()));
    measure_reads(&*store, data, &mut add);
    let begun = Instant::now();
    assert_eq!(store.count(), data.keys.len(), "{}", peer.name);
    add("scan", per(begun.elapsed(), data.keys.len()));
    measure_hash(&*store, data, &mut add);
    let count = store.count();
    drop(store);
    if let Some(replay) = peer.replay {
        let begun = Instant::now();
        let store = replay(&directory);
        add("replay", per(begun.elapsed(), data.keys.len()));
        assert_eq!(store.count(), count, "{}", peer.name);
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

fn measure_synced(peer: &Peer, scratch: &Path, data: &Data, add: &mut impl FnMut(&str, f64)) {
    let Some(store) = (peer.open)(&fresh(scratch, peer), Safe::PowerLost) else {
        return;
    };
    let (ns, _) = for_keys(SHORT_LIMIT, &data.keys, |key| store.set(key, &data.value));
    add("set, synced", ns);
    let written = AtomicUsize::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for keys in data
            .shuffled
            .chunks(data.shuffled.len() / SYNCING_THREADS)
            .take(SYNCING_THREADS)
        {
            let (store, written) = (&store, &written);
            scope.spawn(move || {
                let (_, count) = for_keys(SHORT_LIMIT, keys, |key| store.set(key, &data.value));
                written.fetch_add(count, Ordering::Relaxed);
            });
        }
    });
    add(
        "set, synced, 8 threads",
        per(begun.elapsed(), written.into_inner()),
    );
}

fn measure_reads(store: &dyn Store, data: &Data, add: &mut impl FnMut(&str, f64)) {
    let get = |key: &Key| assert_eq!(store.get(key), Some(VALUE_BYTES));
    // Once to have all at hand.
    for_keys(LIMIT, &data.reads, get);
    let (ns, _) = for_keys(LIMIT, &data.reads, get);
    add("get", ns);
    for threads in [2, 4] {
        let read = AtomicUsize::new(0);
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for keys in data.reads.chunks(data.reads.len() / threads).take(threads) {
                let read = &read;
                scope.spawn(move || {
                    let (_, count) = for_keys(LIMIT, keys, get);
                    read.fetch_add(count, Ordering::Relaxed);
                });
            }
        });
        add(
            &format!("get, {threads} threads"),
            per(begun.elapsed(), read.into_inner()),
        );
    }
    let (ns, _) = for_keys(LIMIT, &data.reads, |key| {
        assert_eq!(store.get(&key[1..]), None)
    });
    add("get, absent", ns);
    let mut number = 0;
    let (ns, _) = for_keys(LIMIT, &data.skewed, |key| {
        number += 1;
        match number % 20 {
            0 => store.set(key, &data.value),
            _ => get(key),
        }
    });
    add("95 % get, 5 % set, skewed", ns);
}

/// A hash of so many fields, and so many strings to compare it with.
fn measure_hash(store: &dyn Store, data: &Data, add: &mut impl FnMut(&str, f64)) {
    if !store.set_field(b"hash", &data.keys[0], &data.value) {
        return;
    }
    let keys: Vec<Key> = data
        .shuffled
        .iter()
        .cycle()
        .take(200 * FIELDS)
        .map(|key| {
            let mut few = *key;
            // Of the last digits, three are left.
            few[4..13].fill(b'0');
            few
        })
        .collect();
    for key in &keys {
        store.set_field(b"hash", key, &data.value);
        store.set(key, &data.value);
    }
    let limit = SHORT_LIMIT;
    let (ns, _) = for_keys(limit, &keys, |key| {
        assert!(store.set_field(b"hash", key, &data.value))
    });
    add("hset", ns);
    let (ns, _) = for_keys(limit, &keys, |key| store.set(key, &data.value));
    add("set, 1,000 keys", ns);
    let (ns, _) = for_keys(limit, &keys, |key| {
        assert_eq!(store.get_field(b"hash", key), Some(VALUE_BYTES));
    });
    add("hget", ns);
    let (ns, _) = for_keys(limit, &keys, |key| {
        assert_eq!(store.get(key), Some(VALUE_BYTES))
    });
    add("get, 1,000 keys", ns);
}

/// Values of other lengths, once each.
pub fn measure_sizes(peer: &Peer, scratch: &Path, data: &Data, results: &mut Results) {
    for (len, name) in [
        (10, "10 B"),
        (1 << 10, "1 KiB"),
        (64 << 10, "64 KiB"),
        (1 << 20, "1 MiB"),
    ] {
        let count = ((128 << 20) / len).clamp(16, 50_000).min(data.keys.len());
        let store = (peer.open)(&fresh(scratch, peer), Safe::Killed).unwrap();
        let value = vec![b'v'; len];
        let keys = &data.keys[..count];
        let (ns, written) = for_keys(SHORT_LIMIT, keys, |key| store.set(key, &value));
        results.add(&format!("set, {name}"), peer.name, ns);
        for_keys(SHORT_LIMIT, &keys[..written], |key| _ = store.get(key));
        let (ns, _) = for_keys(SHORT_LIMIT, &keys[..written], |key| {
            assert_eq!(store.get(key), Some(len));
        });
        results.add(&format!("get, {name}"), peer.name, ns);
    }
}

/// The cost as the data grows, once for each size up to all keys.
pub fn measure_growth(peer: &Peer, scratch: &Path, data: &Data, results: &mut Results) {
    let sizes = std::iter::successors(Some(1_000), |size| Some(size * 10));
    for size in sizes.take_while(|size| *size <= data.keys.len()) {
        let store = (peer.open)(&fresh(scratch, peer), Safe::Killed).unwrap();
        for keys in data.keys[..size].chunks(BATCH_KEYS) {
            store.set_all(&data.pairs(keys));
        }
        let mut order: Vec<Key> = data
            .shuffled
            .iter()
            .filter(|key| **key <= data.keys[size - 1])
            .copied()
            .collect();
        order.truncate(200_000);
        for_keys(SHORT_LIMIT, &order, |key| _ = store.get(key));
        let (ns, _) = for_keys(SHORT_LIMIT, &order, |key| _ = store.get(key));
        results.add_growth("get", peer.name, size, ns);
        let (ns, _) = for_keys(SHORT_LIMIT, &order, |key| store.set(key, &data.value));
        results.add_growth("set", peer.name, size, ns);
    }
}

/// Memory of its own that a process has more once it has the file open and has read all keys, and what its files take on the disk once it has
/// closed them; of a process for it alone.
pub fn measure_memory(peer: &Peer, scratch: &Path, data: &Data, results: &mut Results) {
    let directory = fresh(scratch, peer);
    let size = data.keys.len().to_string();
    let program = std::env::current_exe().unwrap();
    let child = Command::new(program)
        .arg("memory-of")
        .arg(peer.name)
        .arg(&directory)
        .arg(size)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}: {child:?}", peer.name);
    let bytes: f64 = String::from_utf8(child.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    results.add(
        "memory, bytes a key",
        peer.name,
        bytes / data.keys.len() as f64,
    );
    let bytes = file_bytes(&directory) as f64;
    results.add(
        "files, bytes a key",
        peer.name,
        bytes / data.keys.len() as f64,
    );
    std::fs::remove_dir_all(&directory).unwrap();
}

pub fn print_memory(name: &str, directory: &Path, size: usize) {
    let peer = peers::named(name);
    let data = Data::new(size);
    let before = own_memory();
    let store = (peer.open)(directory, Safe::Killed).unwrap();
    for keys in data.keys.chunks(BATCH_KEYS) {
        store.set_all(&data.pairs(keys));
    }
    for_keys(Duration::MAX, &data.shuffled, |key| {
        assert!(store.get(key).is_some())
    });
    println!("{}", own_memory().saturating_sub(before));
}

/// Anonymous memory of this process: what maps a file is not counted.
fn own_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn file_bytes(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => file_bytes(&entry.path()),
            false => entry.metadata().unwrap().blocks() * 512,
        })
        .sum()
}
