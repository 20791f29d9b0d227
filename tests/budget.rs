//! A budget of live bytes: it holds whatever is written, the right keys go, and nothing goes without one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use brasa::{ChangeKind, Db, Durability, Error, Evict, ManualClock, Options, SetOptions, inspect};

/// Bytes of a record with a key of nine bytes and a value of a hundred.
const RECORD_BYTES: u64 = 144;

fn cache(max_bytes: u64) -> Options {
    Db::options()
        .durability(Durability::Os)
        .max_bytes(max_bytes)
}

fn key(number: usize) -> String {
    format!("k{number:08}")
}

/// Which of the first `count` keys are there.
fn there(db: &Db, count: usize) -> Vec<usize> {
    (0..count)
        .filter(|number| db.exists(key(*number)).unwrap())
        .collect()
}

#[test]
fn a_key_that_was_read_is_spared_once_and_the_oldest_others_go() {
    let db = cache(10 * RECORD_BYTES).open_in_memory().unwrap();
    for number in 0..10 {
        db.set(key(number), [0; 100]).unwrap();
    }
    db.get(key(0)).unwrap();
    db.get(key(2)).unwrap();
    for number in 10..13 {
        db.set(key(number), [0; 100]).unwrap();
    }
    assert_eq!(there(&db, 13), [0, 2, 5, 6, 7, 8, 9, 10, 11, 12]);
    // The hand stands behind 4. It goes round before it comes to 0 again, which has no mark any more.
    for number in 13..22 {
        db.set(key(number), [0; 100]).unwrap();
    }
    let left = there(&db, 22);
    assert!(!left.contains(&5) && !left.contains(&9), "{left:?}");
    assert!(left.contains(&0) && left.contains(&2), "{left:?}");
    let stats = db.stats().unwrap();
    assert_eq!(stats.evicted_keys, 12);
    assert_eq!(stats.evicted_bytes, 12 * RECORD_BYTES);
}

#[test]
fn the_budget_holds_after_every_write() {
    let max_bytes = 20 * RECORD_BYTES;
    let clock = ManualClock::new(1_700_000_000_000);
    let db = cache(max_bytes)
        .clock(clock.clone())
        .open_in_memory()
        .unwrap();
    let mut random = Random(11);
    for step in 0..20_000 {
        let number = random.below(60);
        match random.below(8) {
            0..3 => db.set(key(number), vec![1; random.below(300)]).unwrap(),
            3 => {
                db.del(format!("hash{}", number % 4)).unwrap();
            }
            4 => {
                let ttl = SetOptions::new().ttl(Duration::from_millis(1 + random.below(50) as u64));
                db.set_with(key(number), [2; 50], ttl).unwrap();
            }
            5 => {
                db.hset(
                    format!("hash{}", number % 4),
                    key(number),
                    vec![3; random.below(100)],
                )
                .unwrap();
            }
            6 => {
                db.get(key(number)).unwrap();
                db.hget(format!("hash{}", number % 4), key(number)).unwrap();
                clock.advance(Duration::from_millis(1));
            }
            _ => db
                .batch(|b| {
                    for offset in 0..4 {
                        b.set(key(number + offset), [4; 100]);
                    }
                    b.expire(format!("hash{}", number % 4), Duration::from_secs(9));
                })
                .unwrap(),
        }
        let live_bytes = db.stats().unwrap().live_bytes;
        assert!(live_bytes <= max_bytes, "{live_bytes} in step {step}");
    }
    assert!(db.stats().unwrap().evicted_keys > 1_000);
}

#[test]
fn the_file_stays_in_proportion_to_the_budget() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let max_bytes = 256 << 10;
    let options = || cache(max_bytes).compact_floor_bytes(64 << 10);
    let db = options().open(&path).unwrap();
    for number in 0..50_000 {
        db.set(key(number), [0; 100]).unwrap();
        if number % 5_000 == 0 {
            db.compact().unwrap();
        }
    }
    let newest = key(49_999);
    assert!(db.exists(&newest).unwrap());
    db.close().unwrap();
    let db = options().open(&path).unwrap();
    assert!(db.exists(&newest).unwrap());
    db.set("one more", "write").unwrap();
    db.close().unwrap();
    let file_bytes = std::fs::metadata(&path).unwrap().len();
    // Twice the budget, tombstones, what is written while a thread starts, and the reserve.
    assert!(file_bytes <= 5 * max_bytes, "{file_bytes}");
}

#[test]
fn marks_and_the_hand_survive_a_compaction() {
    let db = cache(100 * RECORD_BYTES).open_in_memory().unwrap();
    for number in 0..100 {
        db.set(key(number), [0; 100]).unwrap();
    }
    // The hand comes to 30.
    for number in 100..130 {
        db.set(key(number), [0; 100]).unwrap();
    }
    for number in (30..100).step_by(2) {
        db.get(key(number)).unwrap();
    }
    db.compact().unwrap();
    for number in 130..160 {
        db.set(key(number), [0; 100]).unwrap();
    }
    let left = there(&db, 100);
    assert!(
        (30..90).step_by(2).all(|number| left.contains(&number)),
        "{left:?}"
    );
    assert_eq!(left.len(), 40, "{left:?}");
}

#[test]
fn a_write_is_refused_where_nothing_may_be_evicted() {
    let db = cache(10 * RECORD_BYTES)
        .evict(Evict::Reject)
        .open_in_memory()
        .unwrap();
    for number in 0..10 {
        db.set(key(number), [0; 100]).unwrap();
    }
    let refused = db.set(key(10), [0; 100]).unwrap_err();
    assert!(matches!(refused, Error::OverBudget { .. }), "{refused}");
    assert!(refused.to_string().contains("1440"), "{refused}");
    assert_eq!(db.len().unwrap(), 10);
    // What takes no more room is written.
    db.set(key(3), [1; 100]).unwrap();
    db.set(key(3), [1; 10]).unwrap();
    db.del(key(4)).unwrap();
    db.set(key(10), [0; 100]).unwrap();
    assert_eq!(db.stats().unwrap().evicted_keys, 0);
}

#[test]
fn a_write_that_would_not_fit_into_an_empty_file_is_refused_and_evicts_nothing() {
    let db = cache(10 * RECORD_BYTES).open_in_memory().unwrap();
    db.set(key(0), [0; 100]).unwrap();
    let refused = db.set("large", [0; 2_000]).unwrap_err();
    assert!(matches!(refused, Error::OverBudget { .. }), "{refused}");
    assert!(db.exists(key(0)).unwrap());
}

/// Keys that take about 4 MiB, half of them read since they were set.
fn fill(db: &Db, count: usize) {
    for number in 0..count {
        db.set(key(number), [0; 140]).unwrap();
    }
    for number in (0..count).step_by(2) {
        db.get(key(number)).unwrap();
    }
}

#[test]
fn one_write_evicts_so_many_keys_that_the_mapping_must_grow() {
    const MAX_BYTES: u64 = 4 << 20;
    let directory = tempfile::tempdir().unwrap();
    let options = cache(MAX_BYTES).auto_compact(false);
    let on_disk = |step: u64, count: usize| {
        let options = options.clone().mapping_step_bytes(step);
        options.open(directory.path().join(format!("{step}:{count}")))
    };
    for count in [2_500, 7_000, 20_000] {
        for db in [
            options.clone().open_in_memory(),
            on_disk(4_096, count),
            on_disk(64 << 20, count),
        ] {
            let db = db.unwrap();
            fill(&db, count);
            db.set("large", vec![1; 3_900_000]).unwrap();
            assert_eq!(db.get("large").unwrap().unwrap().len(), 3_900_000);
            let stats = db.stats().unwrap();
            assert!(stats.live_bytes <= MAX_BYTES);
            assert!(stats.evicted_keys > 0);
        }
    }
}

/// Another handle has filled the file far above the budget. One write makes several commits of
/// tombstones, each as long as the keys. The file outgrows its mapping between them, and the eviction
/// hand reads what was appended meanwhile.
#[test]
fn one_write_evicts_keys_in_several_commits_that_outgrow_the_mapping() {
    const KEYS: [usize; 2] = [350, 300];
    const READ_KEYS: usize = 6;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let long_key = |number: usize| format!("{number:060000}");
    let options = Db::options().durability(Durability::Os).auto_compact(false);
    let other = options.open(&path).unwrap();
    let max_bytes = 200_000;
    let options = cache(max_bytes).auto_compact(false).mapping_step_bytes(1);
    let db = options.open(&path).unwrap();
    let mut count = 0;
    for more in KEYS {
        for _ in 0..more {
            other.set(long_key(count), count.to_string()).unwrap();
            count += 1;
        }
        // It maps twice the file the first time, and need not map it again the second time. These keys
        // are spared at first and need more bytes than the budget: the hand goes round.
        for number in 0..READ_KEYS {
            assert!(db.get(long_key(number)).unwrap().is_some());
        }
    }
    let before = db.stats().unwrap().log_bytes;
    db.set("small", "1").unwrap();
    let stats = db.stats().unwrap();
    assert!(stats.live_bytes <= max_bytes, "{stats:?}");
    assert!(stats.log_bytes > 2 * before - 2 * max_bytes, "{stats:?}");
    assert_eq!(stats.evicted_keys, count as u64 + 1 - db.len().unwrap());
    assert_eq!(db.get("small").unwrap().unwrap(), "1");
    for number in 0..count {
        let found = other.get(long_key(number)).unwrap();
        assert!(found.is_none_or(|value| value == number.to_string()));
    }
    assert!(deleting_commits(&path).len() > 2);
}

#[test]
fn a_write_that_cannot_fit_beside_the_keys_that_it_touches_evicts_nothing() {
    let db = cache(20 * RECORD_BYTES).open_in_memory().unwrap();
    db.hset("large", "kept", [0; 1_500]).unwrap();
    for number in 0..5 {
        db.set(key(number), [0; 100]).unwrap();
    }
    // It would fit alone, and all other keys together are too few.
    let refused = db.hset("large", "new", [0; 1_400]);
    assert!(
        matches!(refused, Err(Error::OverBudget { .. })),
        "{refused:?}"
    );
    assert_eq!(there(&db, 5), [0, 1, 2, 3, 4]);
    assert_eq!(db.stats().unwrap().evicted_keys, 0);
    assert_eq!(db.hlen("large").unwrap(), 1);
}

/// How many records each commit of a file has that deletes keys.
fn deleting_commits(path: &Path) -> Vec<usize> {
    let mut commits = vec![Vec::new()];
    for record in inspect::records(path).unwrap() {
        let record = record.unwrap();
        commits.last_mut().unwrap().push(record.kind);
        if !record.more {
            commits.push(Vec::new());
        }
    }
    commits.retain(|kinds| kinds.contains(&"delete"));
    commits.iter().map(Vec::len).collect()
}

#[test]
fn evictions_and_the_write_that_they_make_room_for_are_one_commit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let options = cache(10 * RECORD_BYTES).auto_compact(false);
    let db = options.open(&path).unwrap();
    for number in 0..10 {
        db.set(key(number), [0; 100]).unwrap();
    }
    let mut watch = db.watch().unwrap();
    db.set(key(10), [0; 400]).unwrap();
    let changes: Vec<_> = watch.by_ref().map(|change| change.unwrap()).collect();
    let kinds: Vec<_> = changes.iter().map(|change| change.kind).collect();
    let deletes = [ChangeKind::Delete; 4];
    assert_eq!((&kinds[..4], kinds[4]), (&deletes[..], ChangeKind::Set));
    assert_eq!(deleting_commits(&path), [5]);
}

#[test]
fn marks_that_readers_set_all_the_time_do_not_make_a_write_fail() {
    let db = cache(10 * RECORD_BYTES).open_in_memory().unwrap();
    for number in 0..10 {
        db.set(key(number), [0; 100]).unwrap();
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                there(&db, 10);
                (0..2_000).for_each(|number| drop(db.get(key(number)).unwrap()));
            }
        });
        let mut numbers = 10..2_000;
        let written = numbers.try_for_each(|number| db.set(key(number), [0; 100]));
        over.store(true, Ordering::Relaxed);
        written.unwrap();
    });
}

/// A file whose keys are so long that their tombstones take more bytes than are staged at once.
fn file_far_above_the_budget() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let db = Db::options().auto_compact(false).durability(Durability::Os);
    let db = db.open(&path).unwrap();
    db.hset("large", "kept", vec![0; 800_000]).unwrap();
    for number in 0..700 {
        db.set(long_key(number), "").unwrap();
    }
    db.close().unwrap();
    (directory, path)
}

fn long_key(number: usize) -> String {
    format!("{number:060000}")
}

#[test]
fn a_file_far_above_the_budget_is_brought_down_by_several_commits() {
    let (_directory, path) = file_far_above_the_budget();
    let db = cache(1 << 20).auto_compact(false).open(&path).unwrap();
    db.set("new", "1").unwrap();
    let stats = db.stats().unwrap();
    assert!(stats.live_bytes <= 1 << 20);
    assert_eq!(stats.evicted_keys + stats.key_count, 702);
    assert!(db.exists("new").unwrap() && db.exists(long_key(699)).unwrap());
    assert!(deleting_commits(&path).len() > 1);
}

#[test]
fn a_write_that_cannot_fit_evicts_nothing_of_a_file_far_above_the_budget() {
    let (_directory, path) = file_far_above_the_budget();
    let db = cache(1 << 20).auto_compact(false).open(&path).unwrap();
    let refused = db.hset("large", "new", vec![0; 400_000]);
    assert!(
        matches!(refused, Err(Error::OverBudget { .. })),
        "{refused:?}"
    );
    assert_eq!(db.len().unwrap(), 701);
    assert_eq!(db.stats().unwrap().evicted_keys, 0);
    assert_eq!(deleting_commits(&path), []);
}

#[test]
fn what_a_write_changes_is_not_evicted_for_it() {
    let db = cache(10 * RECORD_BYTES).open_in_memory().unwrap();
    db.hset("hash", "first", [0; 100]).unwrap();
    for number in 0..8 {
        db.set(key(number), [0; 100]).unwrap();
    }
    // The hash is the oldest, and was not read.
    db.hset("hash", "second", [0; 200]).unwrap();
    assert_eq!(db.hlen("hash").unwrap(), 2);
    assert!(!db.exists(key(0)).unwrap());
}

#[test]
fn a_file_above_the_budget_is_brought_down_by_the_next_write() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let db = Db::open(&path).unwrap();
    for number in 0..1_000 {
        db.set(key(number), [0; 100]).unwrap();
    }
    assert_eq!(db.stats().unwrap().evicted_keys, 0, "there is no budget");
    db.close().unwrap();
    let db = cache(10 * RECORD_BYTES).open(&path).unwrap();
    assert_eq!(db.len().unwrap(), 1_000);
    db.set(key(1_000), [0; 100]).unwrap();
    assert_eq!(there(&db, 1_001), (991..=1_000).collect::<Vec<_>>());
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Requests for keys whose popularity falls as their rank to the power of `alpha`, and, if asked for, walks over
/// keys that nobody asks for otherwise: a twentieth of all requests.
fn trace(alpha: f64, scans: bool, seed: u64) -> Vec<usize> {
    const KEYS: usize = 20_000;
    const REQUESTS: usize = 200_000;
    const SCAN: usize = 1_000;
    let mut sums = Vec::with_capacity(KEYS);
    let mut sum = 0.0;
    for rank in 1..=KEYS {
        sum += (rank as f64).powf(-alpha);
        sums.push(sum);
    }
    let mut random = Random(seed);
    let mut trace = Vec::with_capacity(REQUESTS + SCAN);
    let mut scanned = 0;
    while trace.len() < REQUESTS {
        if scans && trace.len() % (20 * SCAN) == 0 {
            trace.extend((0..SCAN).map(|step| KEYS + scanned % (10 * SCAN) + step));
            scanned += SCAN;
        }
        let drawn = random.fraction() * sum;
        let rank = sums.partition_point(|sum| *sum < drawn).min(KEYS - 1);
        // Ranks are spread over the keys, so that the popular ones are not the oldest.
        trace.push(rank * 7_919 % KEYS);
    }
    trace
}

/// Hits of a cache that forgets what was asked for longest ago.
fn lru_hits(trace: &[usize], capacity: usize) -> usize {
    let mut last = HashMap::new();
    let mut queue = BTreeMap::new();
    let mut hits = 0;
    for (time, key) in trace.iter().enumerate() {
        if let Some(before) = last.insert(*key, time) {
            hits += 1;
            queue.remove(&before);
        } else if queue.len() == capacity {
            let (_, oldest) = queue.pop_first().unwrap();
            last.remove(&oldest);
        }
        queue.insert(time, *key);
    }
    hits
}

/// Hits of a cache that forgets what will not be asked for for longest: nothing can do better (Belady, 1966).
fn best_hits(trace: &[usize], capacity: usize) -> usize {
    let mut next_use = vec![usize::MAX; trace.len()];
    let mut seen = HashMap::new();
    for (time, key) in trace.iter().enumerate().rev() {
        next_use[time] = seen.insert(*key, time).unwrap_or(usize::MAX);
    }
    let mut held = HashMap::new();
    let mut by_next = BTreeSet::new();
    let mut hits = 0;
    for (time, key) in trace.iter().enumerate() {
        if let Some(next) = held.insert(*key, next_use[time]) {
            hits += 1;
            by_next.remove(&(next, *key));
        }
        by_next.insert((next_use[time], *key));
        if by_next.len() > capacity {
            let (_, farthest) = by_next.pop_last().unwrap();
            held.remove(&farthest);
        }
    }
    hits
}

fn brasa_hits(trace: &[usize], capacity: usize) -> usize {
    let db = cache(capacity as u64 * RECORD_BYTES)
        .open_in_memory()
        .unwrap();
    let mut hits = 0;
    for number in trace {
        let key = key(*number);
        if db.get(&key).unwrap().is_some() {
            hits += 1;
        } else {
            db.set(&key, [0; 100]).unwrap();
        }
    }
    hits
}

/// `cargo test --release --test budget -- --nocapture hit` prints the ratios.
#[test]
fn the_hit_ratio_is_at_least_that_of_an_lru() {
    println!("| trace | of the keys fit | SIEVE here | LRU | best possible |");
    println!("| --- | --- | --- | --- | --- |");
    for (alpha, scans) in [(0.8, false), (0.8, true), (1.0, false), (1.0, true)] {
        let trace = trace(alpha, scans, 42);
        for percent in [1, 5, 10, 25] {
            let capacity = 200 * percent;
            let [sieve, lru, best] = [
                brasa_hits(&trace, capacity),
                lru_hits(&trace, capacity),
                best_hits(&trace, capacity),
            ];
            let ratio = |hits| 100.0 * hits as f64 / trace.len() as f64;
            let name = if scans { ", with scans" } else { "" };
            println!(
                "| Zipf {alpha}{name} | {percent} % | {:.1} % | {:.1} % | {:.1} % |",
                ratio(sieve),
                ratio(lru),
                ratio(best)
            );
            assert!(
                sieve >= lru,
                "Zipf {alpha}{name}, {percent} %: {sieve} and {lru}"
            );
            assert!(sieve <= best, "nothing beats the best");
        }
    }
}

#[test]
fn evictions_of_a_commit_that_swaps_databases_free_what_they_count() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.brasa");
    let options = Db::options().max_bytes(100_000).evict(Evict::Sieve);
    let db = options.open(&path).unwrap();
    for number in 0..40 {
        db.set(format!("key {number}"), [1; 2_000]).unwrap();
    }
    db.transaction(|db| {
        db.swap_databases(0, 1)?;
        db.set("large", [2; 50_000])
    })
    .unwrap();
    assert_eq!(db.get("large").unwrap().unwrap().len(), 50_000);
    assert!(db.stats().unwrap().live_bytes <= 100_000);
}
