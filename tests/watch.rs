//! Watching: every change is seen, once and in order, whoever made it, and across compactions.

use std::path::Path;
use std::time::Duration;

use brasa::{Change, ChangeKind, Db, Durability, Options, Watch};

fn options() -> Options {
    Db::options().durability(Durability::Os).auto_compact(false)
}

fn open(path: &Path) -> Db {
    options().open(path).unwrap()
}

fn keys(watch: &mut Watch) -> Vec<String> {
    watch.map(|change| text(&change.unwrap())).collect()
}

fn text(change: &Change) -> String {
    match change.kind {
        ChangeKind::Gap => "gap".to_owned(),
        _ => String::from_utf8(change.key.clone()).unwrap(),
    }
}

#[test]
fn every_kind_of_change_is_told_with_what_it_is_about() {
    let db = Db::in_memory().unwrap();
    let mut watch = db.watch().unwrap();
    db.set("s", "1").unwrap();
    db.expire("s", Duration::from_secs(9)).unwrap();
    db.hset("h", "f", "1").unwrap();
    db.hdel("h", "f").unwrap();
    db.del("s").unwrap();
    db.database(3).unwrap().clear().unwrap();
    let seen: Vec<_> = watch
        .by_ref()
        .map(|change| change.unwrap())
        .map(|change| (change.kind, change.database, change.key, change.field))
        .collect();
    let (s, h, f) = (b"s".to_vec(), b"h".to_vec(), Some(b"f".to_vec()));
    assert_eq!(
        seen,
        [
            (ChangeKind::Set, 0, s.clone(), None),
            (ChangeKind::Expire, 0, s.clone(), None),
            (ChangeKind::HashSet, 0, h.clone(), f.clone()),
            (ChangeKind::HashDelete, 0, h, f),
            (ChangeKind::Delete, 0, s, None),
            (ChangeKind::Clear, 3, Vec::new(), None),
        ]
    );
    assert!(watch.next().is_none());
    db.set("later", "1").unwrap();
    assert_eq!(keys(&mut watch), ["later"]);
}

#[test]
fn a_compaction_hides_nothing_from_who_reads_on_and_shows_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let (db, other) = (open(&path), open(&path));
    let reader = options().read_only(true).open(&path).unwrap();
    let mut watches = [&db, &other, &reader].map(|db| db.watch().unwrap());
    for round in 0..10 {
        db.set(format!("{round}:before"), "1").unwrap();
        other.set(format!("{round}:other"), "1").unwrap();
        let compacting = if round % 2 == 0 { &db } else { &other };
        compacting.compact().unwrap();
        other.set(format!("{round}:after"), "1").unwrap();
        let expected = ["before", "other", "after"].map(|what| format!("{round}:{what}"));
        for watch in &mut watches {
            assert_eq!(keys(watch), expected);
        }
    }
}

#[test]
fn a_position_can_be_kept_across_compactions_and_handles() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let db = open(&path);
    db.set("seen", "1").unwrap();
    let position = db.watch().unwrap().position();
    db.set("first", "1").unwrap();
    let behind_first = db.watch().unwrap().position();
    db.close().unwrap();
    let db = open(&path);
    assert_eq!(keys(&mut db.watch_from(position).unwrap()), ["first"]);
    db.compact().unwrap();
    db.set("second", "1").unwrap();
    assert_eq!(keys(&mut db.watch_from(behind_first).unwrap()), ["second"]);
    // What stands before the compaction is not in order any more.
    assert_eq!(
        keys(&mut db.watch_from(position).unwrap()),
        ["gap", "second"]
    );
    // A position that never was one.
    for wrong in [behind_first + 8, behind_first + 3, u64::MAX, 0] {
        assert_eq!(
            keys(&mut db.watch_from(wrong).unwrap())[0],
            "gap",
            "{wrong}"
        );
    }
}

#[test]
fn who_falls_behind_by_a_whole_generation_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let (db, other) = (open(&path), open(&path));
    let mut watch = other.watch().unwrap();
    db.set("in the first", "1").unwrap();
    db.compact().unwrap();
    db.set("in the second", "1").unwrap();
    db.compact().unwrap();
    db.set("in the third", "1").unwrap();
    assert_eq!(keys(&mut watch), ["in the first", "gap", "in the third"]);
    assert!(keys(&mut watch).is_empty());
}

#[test]
fn waiting_ends_with_a_change_or_with_the_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let (db, other) = (open(&path), open(&path));
    let mut watch = db.watch().unwrap();
    assert_eq!(watch.wait(Duration::ZERO).unwrap(), None);
    std::thread::scope(|scope| {
        scope.spawn(|| other.set("key", "1").unwrap());
        let change = watch.wait(Duration::from_secs(60)).unwrap().unwrap();
        assert_eq!(change.key, b"key");
    });
}
