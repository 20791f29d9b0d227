//! What a hit costs beside a plain `get`, and what a second cache in the program's own memory would.
//!
//! `cargo bench --bench cache` (half a minute). Values of 100 bytes in a file; nanoseconds for each look, the median of 15 rounds in which
//! all take turns. *One key* is asked for again and again; *100,000 keys* come in random order. The front is a `HashMap` of values behind a lock for
//! readers, in 64 parts; by itself it does not know when something was changed elsewhere, or when its time is up.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::RwLock;
use std::time::{Duration, Instant};

use brasa::{Cache, Db, SetOptions, Value};

const KEYS: u64 = 100_000;
const LOOKS: u64 = 200_000;
const ROUNDS: usize = 15;
const LONG: Duration = Duration::from_secs(3_600);

/// SplitMix64.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 31)
}

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"user:0000000000\0";
    let text = format!("user:{number:011}");
    key.copy_from_slice(text.as_bytes());
    key
}

/// A front in the program's memory.
struct Front(Vec<RwLock<HashMap<[u8; 16], Value>>>);

impl Front {
    fn part(&self, key: &[u8; 16]) -> &RwLock<HashMap<[u8; 16], Value>> {
        &self.0[usize::from(key[15] ^ key[14].rotate_left(3)) % self.0.len()]
    }

    fn get(&self, key: &[u8; 16]) -> Option<Value> {
        self.part(key).read().unwrap().get(key).cloned()
    }
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let db = Db::open(directory.path().join("cache.brasa")).unwrap();
    let cache = Cache::options().over_db(db.clone()).unwrap();
    let timed = Cache::options()
        .namespace("timed")
        .over_db(db.clone())
        .unwrap()
        .ttl(LONG);
    let text = Cache::options()
        .namespace("text")
        .over_db(db.clone())
        .unwrap();
    let front = Front((0..64).map(|_| RwLock::default()).collect());
    let value = vec![7_u8; 100];
    for number in 0..KEYS {
        let key = key(number);
        db.set(key, &value).unwrap();
        db.set_with(
            [&b"timed"[..], &key].concat(),
            &value,
            SetOptions::new().ttl(LONG),
        )
        .unwrap();
        cache.insert(key, &value).unwrap();
        timed.insert(key, &value).unwrap();
        text.insert(key, &"x".repeat(100)).unwrap();
        let found = db.get(key).unwrap().unwrap();
        front.part(&key).write().unwrap().insert(key, found);
    }
    let computed = || Err::<Value, _>("it is there");
    let timed_key = |key: &[u8; 16]| {
        let mut timed = [0; 21];
        timed[..5].copy_from_slice(b"timed");
        timed[5..].copy_from_slice(key);
        timed
    };
    let entry_key = |key: &[u8; 16]| {
        let mut entry = *b"{cache:................}";
        entry[7..23].copy_from_slice(key);
        entry
    };
    type Look<'a> = (&'a str, Box<dyn Fn(&[u8; 16]) + 'a>);
    let looks: Vec<Look<'_>> = vec![
        (
            "db.get",
            Box::new(|key| drop(black_box(db.get(key).unwrap().unwrap()))),
        ),
        (
            "db.get of the same entry",
            Box::new(|key| drop(black_box(db.get(entry_key(key)).unwrap().unwrap()))),
        ),
        (
            "cache.get::<Value>",
            Box::new(|key| drop(black_box(cache.get::<Value>(key).unwrap().unwrap()))),
        ),
        (
            "cache.get_or_insert_with",
            Box::new(|key| drop(black_box(cache.get_or_insert_with(key, computed).unwrap()))),
        ),
        (
            "db.get of a key with a deadline",
            Box::new(|key| drop(black_box(db.get(timed_key(key)).unwrap().unwrap()))),
        ),
        (
            "cache.get::<Value>, with a ttl",
            Box::new(|key| drop(black_box(timed.get::<Value>(key).unwrap().unwrap()))),
        ),
        (
            "cache.get_or_insert_with, with a ttl",
            Box::new(|key| drop(black_box(timed.get_or_insert_with(key, computed).unwrap()))),
        ),
        (
            "cache.get::<String>",
            Box::new(|key| drop(black_box(text.get::<String>(key).unwrap().unwrap()))),
        ),
        (
            "a front in memory",
            Box::new(|key| drop(black_box(front.get(key).unwrap()))),
        ),
        (
            "that front, and whether the file was changed",
            Box::new(|key| {
                black_box(db.watch().unwrap().position());
                drop(black_box(front.get(key).unwrap()));
            }),
        ),
        (
            "that front, whether the file was changed, and the clock",
            Box::new(|key| {
                black_box(db.watch().unwrap().position());
                black_box(db.now_ms());
                drop(black_box(front.get(key).unwrap()));
            }),
        ),
    ];
    let keys: Vec<[u8; 16]> = (0..LOOKS).map(|number| key(mix(number) % KEYS)).collect();
    let one = vec![key(7); keys.len()];
    println!("| | one key, ns | 100,000 keys, ns |");
    println!("| --- | --- | --- |");
    let mut times = vec![[Vec::new(), Vec::new()]; looks.len()];
    for _ in 0..ROUNDS {
        for ((_, look), times) in looks.iter().zip(&mut times) {
            for (keys, times) in [&one, &keys].into_iter().zip(times) {
                let begun = Instant::now();
                keys.iter().for_each(look);
                times.push(begun.elapsed().as_nanos() as f64 / LOOKS as f64);
            }
        }
    }
    for ((name, _), times) in looks.iter().zip(times) {
        let [one, many] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[ROUNDS / 2]
        });
        println!("| {name} | {one:.0} | {many:.0} |");
    }
}
