//! What keys, fields and values can be, and how long a [`Value`] that was handed out stays good:
//! every byte, nothing at all, both sides of each limit, a file that outgrows its mapping, sixteen
//! databases, and threads.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use brasa::limits::{
    DATABASE_COUNT, MAX_COMMIT_BYTES, MAX_FIELD_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES,
};
use brasa::{Db, Durability, Error, SetOptions, Value};
use tempfile::TempDir;

/// A directory that goes with the test, and a path in it.
fn scratch() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("cache.brasa");
    (directory, path)
}

/// A file that is synced when it is told to, and whose mapping is always just large enough.
fn open(path: &PathBuf) -> Db {
    let options = Db::options().durability(Durability::Os);
    options.mapping_step_bytes(1).open(path).unwrap()
}

fn all_bytes() -> Vec<u8> {
    (0..=u8::MAX).collect()
}

/// Bytes that tell at each place whether they are the right ones.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|at| (at % 251) as u8 ^ (at / 251) as u8 ^ seed)
        .collect()
}

#[test]
fn every_byte_may_stand_in_keys_fields_and_values() {
    let (_directory, path) = scratch();
    let db = open(&path);
    for byte in 0..=u8::MAX {
        // Alone, at the start and at the end.
        for key in [vec![byte], vec![byte, b'k'], vec![b'k', byte]] {
            let value = [key.as_slice(), &all_bytes()].concat();
            db.set(&key, &value).unwrap();
            db.database(1).unwrap().hset("h", &key, &value).unwrap();
        }
    }
    db.set(all_bytes(), all_bytes()).unwrap();
    db.close().unwrap();

    let db = open(&path);
    let hashes = db.database(1).unwrap();
    // Of the 3 * 256 keys one is there twice: "kk".
    assert_eq!(db.len().unwrap(), 3 * 256);
    assert_eq!(hashes.hlen("h").unwrap(), 3 * 256 - 1);
    for byte in 0..=u8::MAX {
        for key in [vec![byte], vec![byte, b'k'], vec![b'k', byte]] {
            let value = [key.as_slice(), &all_bytes()].concat();
            assert_eq!(db.get(&key).unwrap().unwrap(), value);
            assert_eq!(hashes.hget("h", &key).unwrap().unwrap(), value);
        }
    }
    assert_eq!(db.get(all_bytes()).unwrap().unwrap(), all_bytes());
    let keys: BTreeMap<Vec<u8>, ()> = db.keys().map(|key| (key.unwrap().into(), ())).collect();
    assert_eq!(keys.len(), 3 * 256, "each key comes once");
}

#[test]
fn an_empty_key_field_and_value_are_not_the_same_as_none() {
    let (_directory, path) = scratch();
    let db = open(&path);
    assert_eq!(db.get("").unwrap(), None::<Value>);
    db.set("", "").unwrap();
    db.set("k", "").unwrap();
    db.hset("h", "", "").unwrap();
    let other = db.database(1).unwrap();
    other.hset("", "", "").unwrap();
    drop(other);
    db.close().unwrap();

    let db = open(&path);
    let other = db.database(1).unwrap();
    assert_eq!(db.get("").unwrap().unwrap(), b"");
    assert_eq!(db.get("k").unwrap().unwrap(), b"");
    assert!(db.exists("").unwrap());
    assert_eq!(db.strlen("").unwrap(), 0);
    assert_eq!(db.hget("h", "").unwrap().unwrap(), b"");
    assert!(db.hexists("h", "").unwrap());
    assert_eq!(db.hget("h", "f").unwrap(), None::<Value>);
    assert_eq!(
        other.hgetall("").unwrap(),
        [(db.get("").unwrap().unwrap(), db.get("k").unwrap().unwrap())]
    );
    assert_eq!(db.append("", "x").unwrap(), 1);
    assert!(db.del("").unwrap());
    assert!(!db.exists("").unwrap());
    assert!(other.hdel("", "").unwrap());
    assert!(other.is_empty().unwrap());
    assert_eq!(db.len().unwrap(), 2);
}

/// What a call that exceeds a limit must say.
#[track_caller]
fn assert_too_large<T: std::fmt::Debug>(result: brasa::Result<T>, what: &str, limit: usize) {
    match result {
        Err(Error::TooLarge {
            what: found,
            length,
            limit: found_limit,
        }) => {
            assert_eq!(found, what);
            assert_eq!((length, found_limit), (limit as u64 + 1, limit as u64));
        }
        other => panic!("{what} of more than {limit} bytes: {other:?}"),
    }
}

#[test]
fn a_key_of_65_535_bytes_is_taken_and_one_more_is_refused() {
    let (_directory, path) = scratch();
    let db = open(&path);
    let longest = pattern(MAX_KEY_BYTES, 1);
    let too_long = pattern(MAX_KEY_BYTES + 1, 1);
    db.set(&longest, "v").unwrap();
    db.database(1).unwrap().hset(&longest, "f", "v").unwrap();
    let log_bytes = db.stats().unwrap().log_bytes;

    let limit = MAX_KEY_BYTES;
    assert_too_large(db.set(&too_long, "v"), "a key", limit);
    assert_too_large(
        db.set_with(&too_long, "v", brasa::SetOptions::new().only_if_absent()),
        "a key",
        limit,
    );
    assert_too_large(db.hset(&too_long, "f", "v"), "a key", limit);
    assert_too_large(db.hincr_by(&too_long, "f", 1), "a key", limit);
    assert_too_large(db.incr_by(&too_long, 1), "a key", limit);
    assert_too_large(db.append(&too_long, "v"), "a key", limit);
    let batch = |batch: &mut brasa::Batch| {
        batch.set("first", "v").set(&too_long, "v");
    };
    assert_too_large(db.batch(batch), "a key", limit);
    // Who asks for a key that cannot be is told that it is not there.
    assert_eq!(db.get(&too_long).unwrap(), None::<Value>);
    assert!(!db.exists(&too_long).unwrap());
    assert_eq!(
        db.stats().unwrap().log_bytes,
        log_bytes,
        "nothing was written"
    );

    db.close().unwrap();
    let db = open(&path);
    assert_eq!(db.get(&longest).unwrap().unwrap(), b"v");
    let hashes = db.database(1).unwrap();
    assert_eq!(hashes.hget(&longest, "f").unwrap().unwrap(), b"v");
    assert_eq!(db.keys().next().unwrap().unwrap(), longest);
    assert!(db.del(&longest).unwrap());
}

#[test]
fn a_field_of_65_535_bytes_is_taken_and_one_more_is_refused() {
    let (_directory, path) = scratch();
    let db = open(&path);
    let longest = pattern(MAX_FIELD_BYTES, 2);
    let too_long = pattern(MAX_FIELD_BYTES + 1, 2);
    // Together with a key of the greatest length.
    let key = pattern(MAX_KEY_BYTES, 3);
    db.hset(&key, &longest, "v").unwrap();
    let log_bytes = db.stats().unwrap().log_bytes;

    let limit = MAX_FIELD_BYTES;
    assert_too_large(db.hset(&key, &too_long, "v"), "a field", limit);
    assert_too_large(
        db.hset_with(
            &key,
            &[(&too_long, "v")],
            SetOptions::new().only_if_absent(),
        ),
        "a field",
        limit,
    );
    assert_too_large(db.hincr_by(&key, &too_long, 1), "a field", limit);
    let fields = [(b"first".to_vec(), b"v"), (too_long.clone(), b"v")];
    assert_too_large(db.hset_many(&key, &fields), "a field", limit);
    assert_eq!(db.hget(&key, &too_long).unwrap(), None::<Value>);
    assert!(!db.hdel(&key, &too_long).unwrap());
    assert_eq!(
        db.stats().unwrap().log_bytes,
        log_bytes,
        "nothing was written"
    );

    db.close().unwrap();
    let db = open(&path);
    assert_eq!(db.hget(&key, &longest).unwrap().unwrap(), b"v");
    assert_eq!(db.hkeys(&key).unwrap(), [longest]);
}

/// The tests that are about size take turns: each takes about a gigabyte of memory.
static LARGE: Mutex<()> = Mutex::new(());

/// Ends a large database without a sync of what nobody will read: the file goes with its
/// directory.
fn abandon(db: Db) {
    std::mem::forget(db);
}

#[test]
fn a_value_of_512_mib_is_taken_and_one_more_byte_is_refused() {
    let _turn = LARGE.lock();
    let (_directory, path) = scratch();
    let db = open(&path);
    db.set("small", "before").unwrap();
    let small = db.get("small").unwrap().unwrap();

    // Zeros, which cost nothing until they are copied, and at both ends something else.
    let mut value = vec![0; MAX_VALUE_BYTES + 1];
    let log_bytes = db.stats().unwrap().log_bytes;
    assert_too_large(db.set("k", &value), "a value", MAX_VALUE_BYTES);
    assert_too_large(db.hset("h", "f", &value), "a value", MAX_VALUE_BYTES);
    assert_eq!(
        db.stats().unwrap().log_bytes,
        log_bytes,
        "nothing was written"
    );

    value.pop();
    value[0] = 1;
    value[MAX_VALUE_BYTES - 1] = 2;
    db.set("k", &value).unwrap();
    let found = db.get("k").unwrap().unwrap();
    assert!(found == value);
    assert_too_large(db.append("k", "x"), "a value", MAX_VALUE_BYTES);
    db.set("small", "after").unwrap();
    assert_eq!(small, b"before");
    assert_eq!(db.get("small").unwrap().unwrap(), b"after");
    assert!(found == value, "an append that was refused leaves it alone");
    abandon(db);
}

#[test]
fn a_commit_of_1_gib_is_taken_and_one_more_record_is_refused() {
    let _turn = LARGE.lock();
    let (_directory, path) = scratch();
    let db = open(&path);
    // Two records with a header of 32 bytes, and a byte each of key and field. Zeros: see above.
    let half = usize::try_from(MAX_COMMIT_BYTES / 2).unwrap() - 34;
    let value = vec![0; half + 1];
    let (fits, too_long) = (&value[..half], &value[..]);
    let refused = db.hset_many("h", &[("a", fits), ("b", too_long)]);
    // One byte more, and its padding.
    let one_more = MAX_COMMIT_BYTES + 8;
    assert!(
        matches!(
            refused,
            Err(Error::TooLarge { what: "a commit", length, limit: MAX_COMMIT_BYTES })
                if length == one_more
        ),
        "{refused:?}"
    );
    assert_eq!(db.stats().unwrap().log_bytes, 0, "nothing was written");
    db.hset_many("h", &[("a", fits), ("b", fits)]).unwrap();
    assert_eq!(db.stats().unwrap().log_bytes, MAX_COMMIT_BYTES);
    assert!(db.hget("h", "b").unwrap().unwrap() == fits);
    abandon(db);
}

#[test]
fn values_stay_good_while_the_file_outgrows_its_mapping() {
    let (_directory, path) = scratch();
    let db = open(&path);
    let mut kept: Vec<(Value, Vec<u8>)> = Vec::new();
    // From a few bytes to many times what is mapped, each in one write.
    for (round, len) in [1, 100, 5_000, 70_000, 900_000, 6_000_000, 40, 9_000_000]
        .into_iter()
        .enumerate()
    {
        let seed = u8::try_from(round).unwrap();
        let value = pattern(len, seed);
        db.set("k", &value).unwrap();
        db.hset("h", "f", &value).unwrap();
        kept.push((db.get("k").unwrap().unwrap(), value.clone()));
        kept.push((db.hget("h", "f").unwrap().unwrap(), value));
        for (value, bytes) in &kept {
            assert!(value == bytes, "a value of {} bytes changed", bytes.len());
        }
    }
    db.close().unwrap();
    let db = open(&path);
    let (last, bytes) = kept.last().unwrap();
    assert!(db.get("k").unwrap().unwrap() == *bytes && last == bytes);
}

#[test]
fn a_value_outlives_its_key_its_handle_and_the_name_of_its_file() {
    let (directory, path) = scratch();
    let db = open(&path);
    db.set("k", "first").unwrap();
    db.hset("h", "f", "field").unwrap();
    let overwritten = db.get("k").unwrap().unwrap();
    db.set("k", "second").unwrap();
    let deleted = db.get("k").unwrap().unwrap();
    db.del("k").unwrap();
    let of_hash = db.hget("h", "f").unwrap().unwrap();
    let key = db.keys().next().unwrap().unwrap();
    db.clear_all().unwrap();
    db.set("more", pattern(100_000, 0)).unwrap();
    // Closing gives reserved space back: the file becomes shorter under the values.
    db.close().unwrap();
    let copy = deleted.clone();
    drop(directory);
    assert!(!path.exists());

    assert_eq!(overwritten, b"first");
    assert_eq!(deleted, b"second");
    assert_eq!(copy, b"second");
    assert_eq!(of_hash, b"field");
    assert_eq!(key, b"h");
    assert_eq!(
        thread::spawn(move || copy.to_vec()).join().unwrap(),
        b"second"
    );
}

#[test]
fn the_sixteen_databases_do_not_see_each_other() {
    let (_directory, path) = scratch();
    let db = open(&path);
    for number in 0..DATABASE_COUNT {
        let db = db.database(number).unwrap();
        assert_eq!(db.database_number(), number);
        assert!(db.is_empty().unwrap());
        // The same key is a string in some and a hash in others.
        if number % 2 == 0 {
            db.set("k", [number]).unwrap();
        } else {
            db.hset("k", "f", [number]).unwrap();
        }
        for other in 0..number {
            db.set(format!("of {number}, {other}"), "").unwrap();
        }
    }
    db.database(5).unwrap().clear().unwrap();
    db.close().unwrap();

    let db = open(&path);
    for number in 0..DATABASE_COUNT {
        let db = db.database(number).unwrap();
        let expected = if number == 5 {
            0
        } else {
            u64::from(number) + 1
        };
        assert_eq!(db.len().unwrap(), expected);
        assert_eq!(db.keys().count() as u64, expected);
        match number {
            5 => assert!(!db.exists("k").unwrap()),
            _ if number % 2 == 0 => assert_eq!(db.get("k").unwrap().unwrap(), [number]),
            _ => assert_eq!(db.hget("k", "f").unwrap().unwrap(), [number]),
        }
    }
    let refused = db.database(DATABASE_COUNT);
    assert!(matches!(refused, Err(Error::NoSuchDatabase { number: 16 })));
    db.clear_all().unwrap();
    assert_eq!(db.stats().unwrap().key_count, 0);
}

#[test]
fn a_handle_can_be_cloned_and_shared_between_threads() {
    fn is_shared<T: Clone + Send + Sync + 'static>() {}
    is_shared::<Db>();
    is_shared::<Value>();
}

/// The increments of several threads are all there: each call takes effect as a whole.
#[test]
fn no_increment_of_four_threads_is_lost() {
    const EACH: i64 = 500;
    let (_directory, path) = scratch();
    let db = open(&path);
    thread::scope(|scope| {
        for number in 0..4_i64 {
            let db = db.clone();
            scope.spawn(move || {
                for _ in 0..EACH {
                    db.incr_by("shared", 1).unwrap();
                    db.hincr_by("hash", "shared", 2).unwrap();
                    db.incr_by(format!("own {number}"), number).unwrap();
                }
            });
        }
    });
    let check = |db: &Db| {
        assert_eq!(
            db.get("shared").unwrap().unwrap(),
            (4 * EACH).to_string().as_bytes()
        );
        let in_hash = db.hget("hash", "shared").unwrap().unwrap();
        assert_eq!(in_hash, (8 * EACH).to_string().as_bytes());
        for number in 0..4 {
            let own = db.get(format!("own {number}")).unwrap().unwrap();
            assert_eq!(own, (number * EACH).to_string().as_bytes());
        }
    };
    check(&db);
    db.close().unwrap();
    check(&open(&path));
}

/// Two threads write batches which leave the same value everywhere; two others look all the time.
#[test]
fn no_thread_sees_half_of_a_batch() {
    const ROUNDS: u64 = 1_000;
    // In many of the index's parts.
    let keys: Vec<String> = (0..24).map(|number| format!("key:{number}")).collect();
    let (_directory, path) = scratch();
    // It grows by more than half of it, which closing would give back.
    let db = Db::options().auto_compact(false).open(&path).unwrap();
    let (start, is_over) = (Barrier::new(4), AtomicBool::new(false));
    let (mut looks, mut states) = (0_u64, HashMap::new());
    thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let (db, keys, start) = (&db, &keys, &start);
                scope.spawn(move || {
                    start.wait();
                    for round in 0..ROUNDS {
                        let value = format!("{writer} {round}");
                        db.batch(|batch| {
                            // Each other round everything is gone for a moment within the batch.
                            if round % 2 == 0 {
                                batch.clear();
                            }
                            for key in keys {
                                batch.set(key, &value);
                            }
                            for key in keys {
                                batch.hset("hash", key, &value);
                            }
                        })
                        .unwrap();
                        thread::yield_now();
                    }
                })
            })
            .collect();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (db, keys, start, is_over) = (&db, &keys, &start, &is_over);
                scope.spawn(move || {
                    let mut states = HashMap::<Vec<u8>, u64>::new();
                    start.wait();
                    while !is_over.load(Ordering::Relaxed) {
                        let values = db.get_many(keys).unwrap();
                        let first = values[0].clone();
                        for (key, value) in keys.iter().zip(&values) {
                            assert_eq!(*value, first, "{key} and {} differ", keys[0]);
                        }
                        let fields = db.hgetall("hash").unwrap();
                        assert!(fields.is_empty() || fields.len() == keys.len());
                        for (field, value) in &fields {
                            assert_eq!(*value, fields[0].1, "{field:?}");
                        }
                        *states
                            .entry(first.map_or(Vec::new(), Vec::from))
                            .or_default() += 1;
                        thread::yield_now();
                    }
                    states
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        for reader in readers {
            for (state, count) in reader.join().unwrap() {
                looks += count;
                *states.entry(state).or_insert(0) += count;
            }
        }
    });
    println!("{looks} looks at {} states", states.len());
    // And what is there after all of it is what one of them wrote last.
    let values = db.get_many(&keys).unwrap();
    let last = values[0].clone().unwrap();
    assert!(values.iter().all(|value| value.as_ref() == Some(&last)));
    assert!(last.ends_with((ROUNDS - 1).to_string().as_bytes()));
    let data_bytes = |db: &Db| {
        let stats = db.stats().unwrap();
        stats.live_bytes + stats.dead_bytes
    };
    let before = data_bytes(&db);
    db.close().unwrap();
    let db = open(&path);
    assert_eq!(data_bytes(&db), before);
    assert_eq!(db.get_many(&keys).unwrap(), values);
}
