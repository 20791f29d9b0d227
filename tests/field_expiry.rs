//! Fields expire like keys: their hash is counted, found and compacted accordingly, and no call walks over
//! the fields to know.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use brasa::{Db, Durability, ManualClock, Options, Ttl};

const START_MS: u64 = 1_700_000_000_000;

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    (directory, path)
}

fn options(clock: &ManualClock) -> Options {
    Db::options()
        .auto_compact(false)
        .durability(Durability::Os)
        .clock(clock.clone())
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const FIELDS: u64 = 50_000;

/// Which fields of a large hash have a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deadlines {
    None,
    One,
    /// Each has its own, and half of them have passed.
    All,
    /// As `All`, but for one field without.
    AllButOne,
}

fn fill(db: &Db, clock: &ManualClock, deadlines: Deadlines) {
    for part in (0..FIELDS).step_by(10_000) {
        db.batch(|batch| {
            for number in part..part + 10_000 {
                batch.hset("h", format!("f{number}"), "v");
            }
        })
        .unwrap();
    }
    let expiring = match deadlines {
        Deadlines::None => 0..0,
        Deadlines::One => 0..1,
        Deadlines::All => 0..FIELDS,
        Deadlines::AllButOne => 0..FIELDS - 1,
    };
    db.transaction(|tx| -> brasa::Result<()> {
        for number in expiring {
            tx.hexpire("h", format!("f{number}"), ms(1_000 + number * 17))?;
        }
        Ok(())
    })
    .unwrap();
    if deadlines != Deadlines::One {
        clock.advance(ms(1_000 + FIELDS / 2 * 17 - 1));
    }
}

/// The time that some of every call on a hash takes.
fn work(db: &Db) -> Duration {
    const CALLS: u64 = 100;
    let begun = Instant::now();
    for number in 0..CALLS {
        let field = format!("f{}", FIELDS - 2 - number);
        assert!(db.hget("h", &field).unwrap().is_some());
        assert!(db.hexists("h", &field).unwrap());
        assert!(db.exists("h").unwrap());
        assert!(db.hlen("h").unwrap() >= FIELDS / 2);
        assert!(!db.hset("h", &field, "w").unwrap());
        db.hscan("h", 0, 10).unwrap();
        db.transaction(|tx| -> brasa::Result<()> {
            assert!(tx.hset("h", format!("new{number}"), "w")?);
            assert!(tx.hdel("h", format!("new{number}"))?);
            tx.exists("h").map(drop)
        })
        .unwrap();
    }
    begun.elapsed()
}

#[test]
fn deadline_of_a_field_makes_no_call_walk_over_the_hash() {
    for is_stored in [false, true] {
        let mut without = Duration::ZERO;
        for deadlines in [
            Deadlines::None,
            Deadlines::One,
            Deadlines::All,
            Deadlines::AllButOne,
        ] {
            let (_directory, path) = temporary();
            let clock = ManualClock::new(START_MS);
            let mut db = options(&clock).open(&path).unwrap();
            fill(&db, &clock, deadlines);
            if is_stored {
                db.checkpoint().unwrap();
                db.close().unwrap();
                db = options(&clock).open(&path).unwrap();
                assert_eq!(db.recovery().record_count, 0);
                // What is walked over once is found again afterwards.
                assert!(db.hlen("h").unwrap() >= FIELDS / 2);
            }
            let took = (0..3).map(|_| work(&db)).min().unwrap_or_default();
            if deadlines == Deadlines::None {
                without = took;
            }
            // A walk makes it a thousand times longer.
            assert!(
                took < without * 30,
                "{deadlines:?}, stored: {is_stored}: {took:?}, without deadlines {without:?}"
            );
        }
    }
}

#[test]
fn hash_whose_fields_have_all_expired_is_no_key() {
    let (_directory, path) = temporary();
    let clock = ManualClock::new(START_MS);
    let db = options(&clock).open(&path).unwrap();
    for number in 0..500 {
        let key = format!("h{number}");
        db.hset_many(&key, &[("a", "1"), ("b", "2")]).unwrap();
        db.hexpire(&key, "a", ms(100 + number)).unwrap();
        db.hexpire(&key, "b", ms(200)).unwrap();
    }
    db.hset_many("half", &[("a", "1"), ("b", "2")]).unwrap();
    db.hexpire("half", "a", ms(100)).unwrap();
    let of_half = 40; // A header of 32 bytes, and what is rounded up to 8.
    assert_eq!(db.len().unwrap(), 501);
    clock.advance(ms(1_000));
    let check = |db: &Db| {
        assert_eq!((db.len().unwrap(), db.keys().count()), (1, 1));
        assert_eq!(db.random_key().unwrap().unwrap(), "half");
        assert_eq!(db.expired_count().unwrap(), 500);
        let stats = db.stats().unwrap();
        assert_eq!((stats.key_count, stats.live_bytes), (1, of_half));
        let inside = db.transaction(|tx| tx.len());
        assert_eq!(inside.unwrap(), 1);
    };
    check(&db);
    db.close().unwrap();
    let db = options(&clock).open(&path).unwrap();
    check(&db);
    db.checkpoint().unwrap();
    db.close().unwrap();
    let db = options(&clock).open(&path).unwrap();
    check(&db);
    let (cursor, removed) = db.remove_expired(0, 10_000).unwrap();
    assert_eq!((cursor, removed.len()), (0, 500));
    assert_eq!((db.len().unwrap(), db.expired_count().unwrap()), (1, 0));
    assert_eq!(db.stats().unwrap().live_bytes, of_half);
    db.hdel("half", "b").unwrap();
    assert_eq!(db.random_key().unwrap(), None);
    assert_eq!(db.stats().unwrap().live_bytes, 0);
}

#[test]
fn expired_fields_make_a_compaction_due() {
    for is_whole in [true, false] {
        let (_directory, path) = temporary();
        let clock = ManualClock::new(START_MS);
        let db = options(&clock).open(&path).unwrap();
        for number in 0..300 {
            let field = format!("f{number}");
            db.hset("h", &field, vec![7; 1_000]).unwrap();
            db.hexpire("h", &field, ms(1 + number)).unwrap();
        }
        if !is_whole {
            db.hset("h", "stays", "1").unwrap();
        }
        db.close().unwrap();
        clock.advance(ms(10_000));
        let before = std::fs::metadata(&path).unwrap().len();
        let db = options(&clock)
            .auto_compact(true)
            .compact_floor_bytes(64 << 10)
            .open(&path)
            .unwrap();
        db.set("one", "write").unwrap();
        db.close().unwrap();
        let after = std::fs::metadata(&path).unwrap().len();
        assert!(after < before / 10, "whole: {is_whole}: {before} {after}");
        let db = options(&clock).open(&path).unwrap();
        assert_eq!(db.hlen("h").unwrap(), u64::from(!is_whole));
    }
}

#[test]
fn deadline_of_a_hash_ends_its_fields_in_the_counts() {
    let clock = ManualClock::new(START_MS);
    let db = options(&clock).open_in_memory().unwrap();
    for number in 0..1_000 {
        let field = format!("f{number}");
        db.hset("h", &field, "v").unwrap();
        db.hexpire("h", &field, ms(1_000_000 + number * 1_000))
            .unwrap();
    }
    db.expire("h", ms(50)).unwrap();
    clock.advance(ms(50));
    assert_eq!(db.stats().unwrap().live_bytes, 0);
    clock.set(START_MS);
    assert!(db.persist("h").unwrap());
    clock.set(START_MS + 60);
    assert_eq!(db.hlen("h").unwrap(), 1_000);
    let live_bytes = db.stats().unwrap().live_bytes;
    assert!(live_bytes > 1_000 * 32, "{live_bytes}");
}

/// As xorshift64 draws them.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn counts_of_hashes_with_many_deadlines_do_not_drift() {
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .subsec_nanos()
        .into();
    for seed in [1, 2, seed] {
        println!("seed {seed}");
        changes_of_a_hash(&mut Random(seed | 1));
    }
}

fn changes_of_a_hash(random: &mut Random) {
    let (_directory, path) = temporary();
    let clock = ManualClock::new(START_MS);
    let mut db = options(&clock).open(&path).unwrap();
    let mut now_ms = START_MS;
    // The fields that have a record, with their deadlines, 0 for none.
    let mut model: BTreeMap<String, u64> = BTreeMap::new();
    let live = |model: &BTreeMap<String, u64>, now_ms| {
        let deadlines = model.values();
        deadlines
            .filter(|deadline_ms| **deadline_ms == 0 || **deadline_ms > now_ms)
            .count() as u64
    };
    for step in 0..6_000 {
        let field = format!("f{}", random.below(700));
        if live(&model, now_ms) == 0 {
            model.clear();
        }
        let deadline_ms = model.get(&field).copied();
        let is_live = deadline_ms.is_some_and(|at| at == 0 || at > now_ms);
        match random.below(100) {
            0..40 => {
                db.hset("h", &field, vec![7; random.below(50) as usize])
                    .unwrap();
                model.insert(field, 0);
            }
            40..80 => {
                let magnitude = random.below(24);
                let ttl = 1 + random.below(1 << magnitude);
                db.hexpire("h", &field, ms(ttl)).unwrap();
                if is_live {
                    model.insert(field, now_ms + ttl);
                }
            }
            80..85 => {
                db.hpersist("h", &[&field]).unwrap();
                if is_live {
                    model.insert(field, 0);
                }
            }
            85..95 => {
                assert_eq!(db.hdel("h", &field).unwrap(), is_live);
                model.remove(&field);
            }
            95..98 => {
                now_ms += random.below(3_000);
                clock.set(now_ms);
            }
            98 if step % 7 == 0 => {
                db.checkpoint().unwrap();
                db.close().unwrap();
                db = options(&clock).open(&path).unwrap();
            }
            _ => {
                db.expire("h", ms(1 << 40)).unwrap();
                if random.below(2) == 0 {
                    db.persist("h").unwrap();
                }
            }
        }
        let count = live(&model, now_ms);
        assert_eq!(db.hlen("h").unwrap(), count, "step {step}");
        assert_eq!(db.exists("h").unwrap(), count > 0, "step {step}");
        assert!(db.len().unwrap() >= u64::from(count > 0), "step {step}");
    }
    if live(&model, now_ms) > 0 {
        assert!(matches!(
            db.ttl("h").unwrap(),
            Ttl::Persistent | Ttl::Remaining(_)
        ));
    }
    db.del("h").unwrap();
    // What is left would be what was counted in one step and taken from another.
    for at_ms in [0, now_ms, 1 << 62] {
        clock.set(at_ms);
        let stats = db.stats().unwrap();
        assert_eq!((stats.key_count, stats.live_bytes), (0, 0), "at {at_ms}");
        assert_eq!(db.expired_count().unwrap(), 0, "at {at_ms}");
    }
}
