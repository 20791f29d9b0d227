//! Every scan accepts every cursor: a client may send one that no scan has returned.
//!
//! A walk from any cursor ends and returns a suffix of the full walk.

use std::collections::BTreeSet;

use brasa::command::{Reply, Session};
use brasa::{Db, ManualClock, ScanOptions};
use proptest::prelude::*;
use proptest::test_runner::Config;

/// Hashes that an entry tells apart: cursors of a hash's fields are below this, and those of keys
/// are below 64 times this.
const HASHES: u64 = 1 << 26;

const COUNTS: [usize; 3] = [1, 10, usize::MAX];

/// One page from a cursor on: the next cursor, and the names.
type Page = (u64, Vec<Vec<u8>>);

fn key_page(db: &Db, cursor: u64, count: usize) -> Page {
    let options = ScanOptions::new().count(count);
    let page = db.scan(cursor, &options).unwrap();
    let names = page.keys.iter().map(|key| key.to_vec());
    (page.cursor, names.collect())
}

fn field_page(db: &Db, cursor: u64, count: usize) -> Page {
    let page = db.hscan("h", cursor, count).unwrap();
    let names = page.fields.iter().map(|(field, _)| field.to_vec());
    (page.cursor, names.collect())
}

/// All names from a cursor on, in order.
fn walk(page: impl Fn(u64, usize) -> Page, mut cursor: u64, count: usize) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    // Each page but the last of a shard has a name.
    for _ in 0..1_000_000 {
        let (next, names) = page(cursor, count);
        found.extend(names);
        if next == 0 {
            return found;
        }
        assert!(next > cursor, "cursor {next} follows {cursor}");
        cursor = next;
    }
    panic!("the walk does not end");
}

/// Checks a walk from a cursor against the full walk, for both kinds of scan.
fn check(db: &Db, cursor: u64) {
    for page in [key_page, field_page] {
        let page = |cursor, count| page(db, cursor, count);
        let all = walk(page, 0, usize::MAX);
        for count in COUNTS {
            let rest = walk(page, cursor, count);
            assert!(all.ends_with(&rest), "cursor {cursor}, count {count}");
        }
    }
}

/// Cursors at which something changes: around each shard's first hash, and around the limits of
/// integers.
fn boundaries() -> Vec<u64> {
    let shards = (0..=65).map(|shard| shard * HASHES);
    let powers = (0..64).map(|bit| 1 << bit);
    let middles = shards.chain(powers).chain([u64::MAX]);
    let around = middles.flat_map(|at: u64| [at.saturating_sub(1), at, at.saturating_add(1)]);
    around.collect::<BTreeSet<u64>>().into_iter().collect()
}

fn fill(db: &Db, count: usize) {
    for number in 0..count {
        db.set(format!("key {number}"), "v").unwrap();
        db.hset("h", format!("field {number}"), "v").unwrap();
    }
}

fn check_many(db: &Db, cursors: &[u64]) {
    for cursor in cursors {
        check(db, *cursor);
    }
}

#[test]
fn scan_in_memory_accepts_boundary_cursors() {
    for count in [0, 1, 2, 8, 9, 100] {
        let db = Db::in_memory().unwrap();
        fill(&db, count);
        check_many(&db, &boundaries());
    }
}

#[test]
fn scan_over_checkpoint_layers_accepts_boundary_cursors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("layers.brasa");
    for (count, clears) in [(100, false), (200, false), (50, true)] {
        let db = Db::open(&path).unwrap();
        if clears {
            db.hdel("h", "field 7").unwrap();
            db.del("key 7").unwrap();
        }
        fill(&db, count);
        db.checkpoint().unwrap();
        db.close().unwrap();
        let db = Db::open(&path).unwrap();
        check_many(&db, &boundaries());
    }
}

#[test]
fn scan_in_a_transaction_accepts_boundary_cursors() {
    let db = Db::in_memory().unwrap();
    fill(&db, 100);
    db.transaction(|tx| -> brasa::Result<()> {
        tx.hset("h", "field 3", "changed")?;
        tx.hset("staged", "f", "v")?;
        tx.transaction(|tx| tx.set("new", "v"))?;
        for cursor in boundaries() {
            for count in COUNTS {
                for page in [key_page, field_page] {
                    // Changed names come with the last page, whatever the cursor was.
                    let changed = walk(|cursor, count| page(tx, cursor, count), cursor, count);
                    assert!(!changed.is_empty(), "cursor {cursor}, count {count}");
                }
                let page = tx.hscan("staged", cursor, count)?;
                assert_eq!((page.cursor, page.fields.len()), (0, 1));
            }
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn other_calls_that_take_a_cursor_or_position_accept_any() {
    let clock = ManualClock::new(1_000);
    let db = Db::options().clock(clock).open_in_memory().unwrap();
    fill(&db, 100);
    for cursor in boundaries() {
        let mut next = cursor;
        // A count of 0 makes progress, too.
        loop {
            let (following, removed) = db.remove_expired(next, 0).unwrap();
            assert!(removed.is_empty());
            if following == 0 {
                break;
            }
            assert!(following > next, "cursor {following} follows {next}");
            next = following;
        }
        let mut watch = db.watch_from(cursor).unwrap();
        for _ in 0..3 {
            let _ = watch.next().transpose().unwrap();
        }
        let _ = watch.position();
    }
}

#[test]
fn commands_accept_any_cursor() {
    let db = Db::in_memory().unwrap();
    fill(&db, 100);
    let mut session = Session::new(db);
    let words = boundaries().into_iter().map(|cursor| cursor.to_string());
    let negative = ["-1", "-9223372036854775808", "-18446744073709551615"];
    for cursor in words.chain(negative.map(str::to_owned)) {
        let cursor = cursor.as_bytes();
        let commands: [&[&[u8]]; 4] = [
            &[b"SCAN", cursor],
            &[b"HSCAN", b"h", cursor],
            &[b"HSCAN", b"h", cursor, b"COUNT", b"9223372036854775807"],
            &[b"SCAN", cursor, b"COUNT", b"1", b"TYPE", b"hash"],
        ];
        for command in commands {
            let reply = session.execute(command);
            assert!(matches!(reply, Reply::Array(_)), "{command:?}: {reply:?}");
        }
    }
}

proptest! {
    // Proptest prints the smallest failing input.
    #![proptest_config(Config { cases: 64, failure_persistence: None, ..Config::default() })]

    #[test]
    fn scan_accepts_any_cursor(
        count in 0..300_usize,
        cursors in prop::collection::vec(
            prop_oneof![any::<u64>(), 0..HASHES * 64, 0..HASHES, any::<u32>().prop_map(u64::from)],
            1..20,
        ),
    ) {
        let db = Db::in_memory().unwrap();
        fill(&db, count);
        check_many(&db, &cursors);
    }
}

/// An iterator that drops part of a page, or stops at the first page without a match, would miss
/// names here: each page has 256 entries, and most pages hold no name that matches.
#[test]
fn iterators_return_the_names_that_match_over_many_pages() {
    let db = Db::in_memory().unwrap();
    db.batch(|batch| {
        for number in 0..3_000 {
            batch.set(format!("key:{number:04}"), number.to_string());
            batch.hset("h", format!("field:{number:04}"), number.to_string());
        }
    })
    .unwrap();
    let names = |found: Vec<Vec<u8>>| found.into_iter().collect::<BTreeSet<_>>();
    let expected: BTreeSet<Vec<u8>> = (120..130)
        .map(|number| format!("key:{number:04}").into_bytes())
        .collect();

    let keys = || db.keys().map(|key| key.unwrap().to_vec());
    assert_eq!(keys().count(), 3_001);
    let by_prefix = db.keys().prefix("key:012").map(|key| key.unwrap().to_vec());
    assert_eq!(names(by_prefix.collect()), expected);
    let by_pattern = db
        .keys()
        .matching("k*:012?")
        .map(|key| key.unwrap().to_vec());
    assert_eq!(names(by_pattern.collect()), expected);
    let hashes = db.keys().key_type(brasa::KeyType::Hash).map(Result::unwrap);
    assert_eq!(hashes.collect::<Vec<_>>(), ["h"]);

    let entries: Vec<_> = db.entries().map(Result::unwrap).collect();
    assert_eq!(entries.len(), 3_000, "the hash is no entry");
    for (key, value) in db
        .entries()
        .prefix("key:1")
        .matching("*9")
        .map(Result::unwrap)
    {
        let number: u32 = value.to_str().unwrap().parse().unwrap();
        assert_eq!(key, format!("key:{number:04}"));
        assert!((1_000..2_000).contains(&number) && number % 10 == 9);
    }

    let fields: Vec<_> = db.fields("h").map(Result::unwrap).collect();
    assert_eq!(fields.len(), 3_000);
    let some = db.fields("h").matching("field:?007").map(Result::unwrap);
    let mut values: Vec<_> = some.map(|(_, value)| value).collect();
    values.sort();
    assert_eq!(values, ["1007", "2007", "7"]);
    assert_eq!(db.fields("absent").count(), 0);
    let mut of_a_string = db.fields("key:0001");
    assert!(matches!(
        of_a_string.next(),
        Some(Err(brasa::Error::WrongType))
    ));
    assert!(of_a_string.next().is_none(), "an error ends the iterator");
}
