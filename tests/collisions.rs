//! Keys and fields whose hashes collide: entries are told apart by the names in their records.
//!
//! With the hash that the format names, a collision within a shard is rare and cannot be made to
//! happen. A file with the hash key of the simulation has nothing but collisions: four values of a
//! hash for all keys, and as many for all fields.
#![cfg(feature = "simulation")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use brasa::simulation::{COLLIDING_HASH_KEY, SimulatedDisk};
use brasa::{Db, Durability, ManualClock, Options, ScanOptions};
use support::SplitMix;
use support::contents::{Content, Contents, Entry, contents};
use support::format::seal_header;

const PATH: &str = "cache.brasa";
const NOW_MS: u64 = 1_700_000_000_000;
const NAMES: usize = 24;

fn options(clock: &ManualClock) -> Options {
    let options = Db::options().durability(Durability::Os).auto_compact(false);
    options.clock(clock.clone())
}

/// An empty file whose keys and fields collide.
fn colliding_disk(clock: &ManualClock) -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let db = options(clock).open_on(&disk, PATH).unwrap();
    db.close().unwrap();
    let mut image = disk.killed_image(disk.operation_count());
    let file = image.file_mut(PATH).unwrap();
    file[16..32].copy_from_slice(&COLLIDING_HASH_KEY);
    seal_header(file);
    image.restart(2)
}

/// What one step does to the file, and to what it must contain.
fn take_step(db: &Db, model: &mut Contents, random: &mut SplitMix) {
    let name = |random: &mut SplitMix| format!("name {}", random.below(NAMES));
    let (key, field, value) = (name(random), name(random), random.below(1_000).to_string());
    let place = (0, key.clone().into_bytes());
    let deadline_ms = NOW_MS + 1 + random.below(1_000) as u64;
    let entry = |content| Entry {
        content,
        deadline_ms: None,
    };
    let is_hash = model
        .get(&place)
        .is_none_or(|entry| matches!(entry.content, Content::Hash(_)));
    match random.below(10) {
        0..3 => {
            db.set(&key, &value).unwrap();
            model.insert(place, entry(Content::String(value.into_bytes())));
        }
        3..7 if is_hash => {
            db.hset(&key, &field, &value).unwrap();
            let hash = model
                .entry(place)
                .or_insert_with(|| entry(Content::Hash(BTreeMap::new())));
            if let Content::Hash(fields) = &mut hash.content {
                fields.insert(field.into_bytes(), value.into_bytes());
            }
        }
        7 if is_hash => {
            let was_there = db.hdel(&key, &field).unwrap();
            let mut is_there = false;
            let mut is_empty = false;
            if let Some(Entry { content, .. }) = model.get_mut(&place)
                && let Content::Hash(fields) = content
            {
                is_there = fields.remove(field.as_bytes()).is_some();
                is_empty = fields.is_empty();
            }
            if is_empty {
                model.remove(&place);
            }
            assert_eq!(was_there, is_there, "{key} {field}");
        }
        8 => {
            let was_there = db.expire_at(&key, deadline_ms).unwrap();
            assert_eq!(was_there, model.contains_key(&place), "{key}");
            if let Some(entry) = model.get_mut(&place) {
                entry.deadline_ms = Some(deadline_ms);
            }
        }
        _ => {
            let was_there = db.del(&key).unwrap();
            assert_eq!(was_there, model.remove(&place).is_some(), "{key}");
        }
    }
}

/// Everything the file shows, page by page and all at once, against what it must contain.
fn check(db: &Db, model: &Contents, told: &str) {
    assert_eq!(contents(db), *model, "{told}");
    assert_eq!(db.len().unwrap(), model.len() as u64, "{told}");
    for number in 0..NAMES {
        let key = format!("name {number}");
        let is_there = model.contains_key(&(0, key.clone().into_bytes()));
        assert_eq!(db.exists(&key).unwrap(), is_there, "{told}: {key}");
    }
    let (mut cursor, mut count) = (0, 0);
    loop {
        let page = db.scan(cursor, &ScanOptions::new().count(1)).unwrap();
        count += page.keys.len();
        cursor = page.cursor;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(count, model.len(), "{told}");
}

#[test]
fn colliding_keys_and_fields_are_told_apart_in_memory_and_in_every_layer() {
    for seed in 0..40 {
        let clock = ManualClock::new(NOW_MS);
        let disk = colliding_disk(&clock);
        let mut db = options(&clock).open_on(&disk, PATH).unwrap();
        let (mut model, mut random) = (Contents::new(), SplitMix(seed));
        for step in 0..300 {
            let told = format!("seed {seed}, step {step}");
            match random.below(40) {
                0..2 => db.checkpoint().unwrap(),
                2 => {
                    db.close().unwrap();
                    db = options(&clock).open_on(&disk, PATH).unwrap();
                    check(&db, &model, &told);
                }
                3 => {
                    db.compact().unwrap();
                    check(&db, &model, &told);
                }
                4 => {
                    let open = options(&clock).ignore_checkpoints(true).read_only(true);
                    check(&open.open_on(&disk, PATH).unwrap(), &model, &told);
                }
                5 => check(&db, &model, &told),
                _ => take_step(&db, &mut model, &mut random),
            }
        }
        // Every deadline has passed then.
        clock.advance(Duration::from_millis(1_000));
        model.retain(|_, entry| entry.deadline_ms.is_none());
        db.compact().unwrap();
        check(&db, &model, &format!("seed {seed}, at the end"));
    }
}

/// Eviction looks each key up by its hash and its name.
#[test]
fn eviction_takes_the_oldest_of_colliding_keys() {
    let clock = ManualClock::new(NOW_MS);
    let disk = colliding_disk(&clock);
    let db = options(&clock).max_bytes(2_000);
    let db = db.open_on(&disk, PATH).unwrap();
    for number in 0..100 {
        db.set(format!("name {number:03}"), [7; 100]).unwrap();
        let left: Vec<_> = (0..=number)
            .filter(|number| db.exists(format!("name {number:03}")).unwrap())
            .collect();
        assert_eq!(left.last(), Some(&number));
        let newest = number + 1 - left.len()..=number;
        assert!(left.iter().copied().eq(newest), "{left:?}");
        assert_eq!(db.len().unwrap(), left.len() as u64);
    }
}
