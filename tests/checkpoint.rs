//! The checkpoint: opening replays what was written since, and nothing else changes.

mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use brasa::{Db, Error, ManualClock, Options, Result};

use support::SplitMix;
use support::contents::{Contents, Replay, contents};
use support::format::{
    HEADER_BYTES, Image, Log, Record, SLOT_STARTS, Slot, kind, seal_slot, u64_at,
};

const NOW_MS: u64 = 1_700_000_000_000;

fn file(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("file.brasa")
}

fn options() -> Options {
    Db::options()
        .clock(ManualClock::new(NOW_MS))
        .auto_compact(false)
}

/// What a file holds by its log alone.
fn by_log(path: &Path) -> Contents {
    let options = options().ignore_checkpoints(true).read_only(true);
    contents(&options.open(path).unwrap())
}

#[test]
fn opening_replays_only_what_came_after_the_checkpoint() -> Result<()> {
    let directory = support::scratch_directory();
    let path = file(&directory);
    let db = options().open(&path)?;
    for number in 0..10_000 {
        db.set(format!("key {number}"), format!("value {number}"))?;
    }
    db.checkpoint()?;
    db.set("after", "1")?;
    db.del("key 7")?;
    drop(db);
    let db = options().open(&path)?;
    assert_eq!(db.recovery().record_count, 2);
    assert_eq!(db.recovery().checkpoint_ignored, None);
    assert_eq!(db.get("after")?.unwrap(), "1");
    assert_eq!(db.get("key 7")?, None);
    assert_eq!(db.get("key 8")?.unwrap(), "value 8");
    assert_eq!(db.get("no key")?, None);
    assert_eq!(db.len()?, 10_000);
    assert_eq!(contents(&db), by_log(&path));
    Ok(())
}

/// A record of any kind of change, over few names.
fn any_record(random: &mut SplitMix, names: usize) -> Record {
    let kinds = [
        (10, kind::SET),
        (4, kind::DELETE),
        (4, kind::EXPIRE),
        (14, kind::HASH_SET),
        (8, kind::HASH_DELETE),
        (6, kind::FIELD_EXPIRE),
    ];
    let total: usize = kinds.iter().map(|(weight, _)| weight).sum();
    let mut at = random.below(total);
    let mut kind = kind::SET;
    for (weight, candidate) in kinds {
        kind = candidate;
        if at < weight {
            break;
        }
        at -= weight;
    }
    if random.below(400) == 0 {
        kind = [kind::CLEAR, kind::SWAP_DATABASES][random.below(2)];
    }
    let mut record = Record {
        kind,
        database: u8::try_from(random.below(3)).unwrap(),
        ..Record::set(format!("key {}", random.below(names)), "")
    };
    if matches!(
        kind,
        kind::HASH_SET | kind::HASH_DELETE | kind::FIELD_EXPIRE
    ) {
        record.field = format!("field {}", random.below(names)).into_bytes();
    }
    if matches!(kind, kind::SET | kind::HASH_SET) {
        record.value = random.next().to_string().into_bytes();
    }
    if kind::CLEAR <= kind {
        record.key.clear();
    }
    if kind == kind::SWAP_DATABASES {
        record.value = vec![u8::try_from(random.below(3)).unwrap()];
    }
    let has_deadline = matches!(
        kind,
        kind::SET | kind::EXPIRE | kind::HASH_SET | kind::FIELD_EXPIRE
    );
    if has_deadline && random.below(3) == 0 {
        // Around the present: some have passed.
        record.deadline_ms = NOW_MS - 1_000 + random.next() % 4_000;
    }
    record
}

/// Pushes records behind the log of a file that nobody has open.
fn push(path: &Path, random: &mut SplitMix, names: usize, count: usize) {
    let mut image = Image::of(&std::fs::read(path).unwrap());
    image.bytes.truncate(image.tail);
    for _ in 0..count {
        image.push(&any_record(random, names));
    }
    std::fs::write(path, image.bytes).unwrap();
}

/// The same by its checkpoint, by its log, and by a reading of the log that shares nothing with either.
fn assert_agrees(path: &Path, seed: u64) -> Db {
    let bytes = std::fs::read(path).unwrap();
    let log = Log::read(&bytes);
    for ahead_ms in [0, 1_500, 10_000] {
        let clock = ManualClock::new(NOW_MS + ahead_ms);
        let by_checkpoint = options().clock(clock.clone()).read_only(true).open(path);
        let by_checkpoint = by_checkpoint.unwrap();
        let by_log = options()
            .clock(clock)
            .read_only(true)
            .ignore_checkpoints(true);
        let by_log = by_log.open(path).unwrap();
        let expected = Replay::of(&log).contents(NOW_MS + ahead_ms);
        assert_eq!(contents(&by_log), expected, "seed {seed}");
        assert_eq!(contents(&by_checkpoint), expected, "seed {seed}");
        let (mut one, mut other) = (by_checkpoint.stats().unwrap(), by_log.stats().unwrap());
        for stats in [&mut one, &mut other] {
            // They differ in how they keep the index, and in nothing else.
            stats.index_bytes = 0;
            stats.checkpoint_layers = 0;
        }
        assert_eq!(one, other, "seed {seed}");
    }
    let db = options().open(path).unwrap();
    assert_eq!(db.recovery().checkpoint_ignored, None);
    db
}

#[test]
fn whatever_was_changed_since_layers_say_what_the_log_says() {
    for seed in 1..=60 {
        let mut random = SplitMix(seed);
        let directory = support::scratch_directory();
        let path = file(&directory);
        options().open(&path).unwrap().close().unwrap();
        let names = 2 + random.below(30);
        let mut most_layers = 0;
        for _ in 0..24 {
            let count = random.below(40);
            push(&path, &mut random, names, count);
            let db = assert_agrees(&path, seed);
            most_layers = most_layers.max(db.stats().unwrap().checkpoint_layers);
            db.checkpoint().unwrap();
            let count = random.below(4);
            db.close().unwrap();
            push(&path, &mut random, names, count);
            assert_agrees(&path, seed).close().unwrap();
        }
        assert!(most_layers >= 3, "seed {seed}: {most_layers} layers");
    }
}

#[test]
fn tables_of_many_pages_say_what_the_log_says() {
    const NAMES: usize = 20_000;
    let directory = support::scratch_directory();
    let path = file(&directory);
    options().open(&path).unwrap().close().unwrap();
    let mut random = SplitMix(7);
    let mut image = Image::of(&std::fs::read(&path).unwrap());
    image.bytes.truncate(image.tail);
    for number in 0..200_000 {
        image.push(&Record::set(format!("key {number}"), "value"));
    }
    for number in 0..NAMES {
        image.push(&Record {
            kind: kind::HASH_SET,
            field: format!("field {number}").into_bytes(),
            ..Record::set("large", "value")
        });
    }
    std::fs::write(&path, image.bytes).unwrap();
    for round in 0..4 {
        push(&path, &mut random, NAMES, 20_000);
        let mut image = Image::of(&std::fs::read(&path).unwrap());
        image.bytes.truncate(image.tail);
        for _ in 0..2_000 {
            let record = any_record(&mut random, NAMES);
            if matches!(
                record.kind,
                kind::HASH_SET | kind::HASH_DELETE | kind::FIELD_EXPIRE
            ) {
                let key = b"large".to_vec();
                image.push(&Record {
                    key,
                    database: 0,
                    ..record
                });
            }
        }
        std::fs::write(&path, image.bytes).unwrap();
        let db = assert_agrees(&path, round);
        db.checkpoint().unwrap();
        db.close().unwrap();
    }
    assert_agrees(&path, 4).close().unwrap();
}

/// A file with a checkpoint of two layers, with pages in each, and some changes behind it.
fn file_with_pages(directory: &tempfile::TempDir) -> PathBuf {
    let path = file(directory);
    let db = options().open(&path).unwrap();
    db.batch(|batch| {
        for number in 0..4_000 {
            batch.set(format!("key {number}"), "1");
        }
        for number in 0..700 {
            batch.hset("hash", format!("field {number}"), "1");
        }
    })
    .unwrap();
    db.expire_at("key 3", NOW_MS + 5_000).unwrap();
    db.checkpoint().unwrap();
    db.close().unwrap();
    let db = options().open(&path).unwrap();
    db.batch(|batch| {
        for number in 0..10 {
            batch.set(format!("key {number}"), "2");
            batch.del(format!("key {}", 100 + number));
            batch.hset("hash", format!("field {number}"), "2");
        }
    })
    .unwrap();
    db.checkpoint().unwrap();
    db.set("after", "3").unwrap();
    db.close().unwrap();
    assert_eq!(
        assert_agrees(&path, 0).stats().unwrap().checkpoint_layers,
        2
    );
    path
}

/// Where the pages and closing records of a file stand.
fn advice(bytes: &[u8]) -> Vec<(usize, usize)> {
    Log::read(bytes)
        .records()
        .filter(|found| matches!(found.kind, kind::PAGE | kind::CHECKPOINT))
        .map(|found| (found.start, found.end))
        .collect()
}

/// A damaged file is either what it was, or said to be damaged; and the latter only where a header is hit, of which nothing else knows how
/// long its record is.
#[test]
fn a_checkpoint_that_is_damaged_anywhere_changes_nothing() {
    let directory = support::scratch_directory();
    let path = file_with_pages(&directory);
    let bytes = std::fs::read(&path).unwrap();
    let expected = by_log(&path);
    let records = advice(&bytes);
    assert!(records.len() > 60, "{} records", records.len());
    let damaged_path = directory.path().join("damaged.brasa");
    let mut random = SplitMix(3);
    let (mut same, mut refused) = (0, 0);
    for (start, end) in records {
        // The first bytes of each, and some of the others.
        let header = (0..HEADER_BYTES + 16).step_by(5);
        let body: Vec<usize> = (0..3)
            .map(|_| HEADER_BYTES + random.below(end - start - HEADER_BYTES))
            .collect();
        for at in header.chain(body) {
            let mut damaged = bytes.clone();
            damaged[start + at] ^= 1 << random.below(8);
            std::fs::write(&damaged_path, &damaged).unwrap();
            let found = options().open(&damaged_path).and_then(|db| {
                // A key is looked for before all are walked over.
                db.get("key 77")?;
                let all: Result<Vec<_>> = db.keys().collect();
                all?;
                Ok(contents(&db))
            });
            match found {
                Ok(found) => {
                    assert_eq!(found, expected, "byte {at} of the record at {start}");
                    same += 1;
                }
                Err(Error::Corrupt { .. }) if at < HEADER_BYTES + 16 => refused += 1,
                Err(error) => panic!("byte {at} of the record at {start}: {error}"),
            }
        }
    }
    println!("{same} opened to the same, {refused} were refused");
    assert!(same > 4 * refused, "{same} and {refused}");
}

#[test]
fn a_slot_that_names_no_checkpoint_or_an_older_one_changes_nothing() {
    let directory = support::scratch_directory();
    let path = file_with_pages(&directory);
    let bytes = std::fs::read(&path).unwrap();
    let expected = by_log(&path);
    let named = Slot::current(&bytes).unwrap().checkpoint;
    let places: Vec<u64> = Log::read(&bytes)
        .records()
        .map(|found| found.start as u64)
        .collect();
    let older = u64_at(&bytes, usize::try_from(named).unwrap() + HEADER_BYTES + 24);
    assert!(older > 0 && older < named);
    for checkpoint in [0, older, named]
        .into_iter()
        .chain(places.iter().copied().step_by(97))
    {
        let mut rewound = bytes.clone();
        for start in SLOT_STARTS {
            rewound[start + 24..start + 32].copy_from_slice(&checkpoint.to_le_bytes());
            seal_slot(&mut rewound, start);
        }
        let rewound_path = directory.path().join("rewound.brasa");
        std::fs::write(&rewound_path, rewound).unwrap();
        let db = options().open(&rewound_path).unwrap();
        let is_one = [0, older, named].contains(&checkpoint);
        assert_eq!(db.recovery().checkpoint_ignored.is_none(), is_one);
        assert_eq!(contents(&db), expected, "the checkpoint at {checkpoint}");
    }
}

#[test]
fn damage_that_is_met_while_writing_costs_a_replay_and_no_write() {
    let directory = support::scratch_directory();
    let path = file_with_pages(&directory);
    let mut bytes = std::fs::read(&path).unwrap();
    // The last byte of each page.
    let named = usize::try_from(Slot::current(&bytes).unwrap().checkpoint).unwrap();
    for (start, end) in advice(&bytes) {
        if start != named && bytes[start + 4] == kind::PAGE {
            bytes[end - 1] ^= 0x40;
        }
    }
    std::fs::write(&path, &bytes).unwrap();
    let db = options().open(&path).unwrap();
    assert_eq!(
        db.recovery().checkpoint_ignored,
        None,
        "nothing was touched yet"
    );
    assert!(db.del("key 2000").unwrap());
    db.hset("hash", "field 600", "3").unwrap();
    assert_eq!(db.stats().unwrap().checkpoint_layers, 0);
    assert_eq!(db.hlen("hash").unwrap(), 700);
    let expected = contents(&db);
    db.checkpoint().unwrap();
    db.close().unwrap();
    let db = options().open(&path).unwrap();
    assert_eq!(db.recovery().record_count, 0);
    assert_eq!(contents(&db), expected);
}

#[test]
fn a_damaged_record_below_the_checkpoint_is_an_error_for_who_asks_for_it_alone() {
    let directory = support::scratch_directory();
    let path = file_with_pages(&directory);
    let mut bytes = std::fs::read(&path).unwrap();
    let log = Log::read(&bytes);
    let victim = log
        .records()
        .find(|found| found.key == b"key 2000")
        .unwrap();
    let value = victim.start + HEADER_BYTES + 8;
    bytes[value] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let db = options().open(&path).unwrap();
    assert_eq!(db.get("key 2001").unwrap().unwrap(), "1");
    assert!(matches!(db.get("key 2000"), Err(Error::Corrupt { .. })));
    // Nothing is written that the index could not be told.
    assert!(matches!(
        db.set("key 2000", "2"),
        Err(Error::Corrupt { .. })
    ));
    db.set("key 2002", "2").unwrap();
    assert_eq!(db.get("key 2002").unwrap().unwrap(), "2");
}

#[test]
fn a_checkpoint_written_while_others_write_leaves_nothing_out() {
    let directory = support::scratch_directory();
    let path = file(&directory);
    let db = options().open(&path).unwrap();
    for batch_number in 0..150 {
        db.batch(|batch| {
            for number in 0..1_000 {
                batch.set(format!("key {batch_number} {number}"), "1");
            }
        })
        .unwrap();
    }
    let other = options().open(&path).unwrap();
    let is_over = AtomicBool::new(false);
    let written = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                other
                    .set(format!("key {} {}", number % 150, number % 1_000), "2")
                    .unwrap();
                other.hset("hash", number.to_string(), "2").unwrap();
                number += 1;
                written.store(number, Ordering::Relaxed);
            }
        });
        while written.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        for _ in 0..3 {
            db.checkpoint().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    other.close().unwrap();
    db.close().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let named = usize::try_from(Slot::current(&bytes).unwrap().checkpoint).unwrap();
    println!(
        "{} gaps",
        support::format::u32_at(&bytes, named + HEADER_BYTES + 4)
    );
    assert_agrees(&path, 0);
}

#[test]
fn who_closes_a_file_leaves_a_checkpoint_where_the_tail_has_grown_long() {
    let directory = support::scratch_directory();
    let path = file(&directory);
    let mut replayed = Vec::new();
    for run in 0..200 {
        let db = options().open(&path).unwrap();
        replayed.push(db.recovery().replayed_bytes);
        for number in 0..20 {
            db.set(format!("key {run} {number}"), [7; 100]).unwrap();
        }
        db.close().unwrap();
    }
    let most = replayed.iter().max().unwrap();
    assert!(*most < 80 << 10, "{most} bytes were replayed");
    let db = assert_agrees(&path, 0);
    let stats = db.stats().unwrap();
    assert!(stats.checkpoint_layers > 0);
    let bytes = std::fs::read(&path).unwrap();
    let advice_bytes: usize = advice(&bytes).iter().map(|(start, end)| end - start).sum();
    let log_bytes = usize::try_from(stats.log_bytes).unwrap();
    assert!(
        advice_bytes * 2 <= log_bytes,
        "{advice_bytes} of {log_bytes}"
    );
}

/// Each of these programs writes less than a closing record takes.
#[test]
fn checkpoints_never_take_more_of_the_log_than_all_the_rest() {
    let directory = support::scratch_directory();
    let path = file(&directory);
    for run in 0..300 {
        let db = options().checkpoint_after(1).open(&path).unwrap();
        db.set(format!("key {run}"), [7; 100]).unwrap();
        db.close().unwrap();
    }
    let db = assert_agrees(&path, 0);
    let stats = db.stats().unwrap();
    assert!(stats.checkpoint_layers > 0);
    let bytes = std::fs::read(&path).unwrap();
    let advice_bytes: usize = advice(&bytes).iter().map(|(start, end)| end - start).sum();
    let log_bytes = usize::try_from(stats.log_bytes).unwrap();
    assert!(
        advice_bytes * 2 <= log_bytes,
        "{advice_bytes} of {log_bytes}"
    );
}

/// In memory and in the file: of a handle that has written all of it, of one that was opened by the checkpoint, and of one that has
/// changed a part since.
#[test]
fn overlay_and_checkpoint_together_take_at_most_24_bytes_a_key() {
    for key_count in [10_000_u64, 37_000, 150_000] {
        let directory = support::scratch_directory();
        let path = file(&directory);
        let together = |db: &Db| {
            let stats = db.stats().unwrap();
            println!(
                "{} keys: {} bytes in memory, {} in the checkpoint",
                stats.key_count, stats.index_bytes, stats.checkpoint_bytes
            );
            (stats.index_bytes + stats.checkpoint_bytes) / stats.key_count
        };
        let fill = |db: &Db, from: u64, upto: u64| {
            for number in from..upto {
                db.set(format!("key {number}"), [7; 20]).unwrap();
            }
        };
        let db = options().open(&path).unwrap();
        fill(&db, 0, key_count);
        db.checkpoint().unwrap();
        assert!(together(&db) <= 24, "written");
        drop(db);
        let db = options().open(&path).unwrap();
        assert_eq!(db.get("key 7").unwrap().unwrap(), [7; 20]);
        assert!(together(&db) <= 24, "opened");
        fill(&db, 0, key_count / 10);
        assert!(together(&db) <= 24, "changed");
        db.checkpoint().unwrap();
        assert!(together(&db) <= 24, "written again");
    }
}

/// What was not synced yet stands behind it, and hangs on its checksum.
#[test]
fn what_follows_a_damaged_closing_record_is_still_there() {
    let directory = support::scratch_directory();
    let path = file(&directory);
    let db = options().open(&path).unwrap();
    db.set("a", "1").unwrap();
    db.checkpoint().unwrap();
    db.set("b", "2").unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let closing = usize::try_from(Slot::current(&bytes).unwrap().checkpoint).unwrap();
    let damaged_path = directory.path().join("damaged.brasa");
    let mut refused = 0;
    for at in closing..Log::read(&bytes).end - 40 {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        std::fs::write(&damaged_path, &damaged).unwrap();
        match options().open(&damaged_path) {
            Ok(db) => {
                assert!(db.recovery().checkpoint_ignored.is_some());
                assert_eq!(db.get("b").unwrap().unwrap(), "2", "byte {at}");
            }
            Err(Error::Corrupt { .. }) => refused += 1,
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    // Its length and kind, and what tells it from data.
    assert!(refused <= 16, "{refused}");
}
