//! Files of earlier versions open, with what was in them. How their bytes came about is in
//! `src/log/tests.rs`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use brasa::{Db, Error, KeyType, ManualClock, Ttl};

/// A copy, since opening may write; and the directory that keeps it.
fn copy_of(name: &str) -> (tempfile::TempDir, PathBuf) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::copy(golden, &path).unwrap();
    (directory, path)
}

/// Opens in the year 2023, a second after the one deadline in the files that has passed.
fn open(path: &Path) -> Db {
    let clock = ManualClock::new(1_700_000_011_000);
    Db::options().clock(clock).open(path).unwrap()
}

fn keys(db: &Db) -> Vec<String> {
    let mut keys: Vec<String> = db
        .keys()
        .map(|key| String::from_utf8(key.unwrap().to_vec()).unwrap())
        .collect();
    keys.sort();
    keys
}

#[test]
fn strings_and_hashes_of_version_1_open() {
    let (_directory, path) = copy_of("v1-strings-and-hashes.brasa");
    let db = open(&path);
    assert_eq!(keys(&db), ["chave_1", "meu_hash", "row:7"]);
    assert_eq!(db.len().unwrap(), 3);
    assert_eq!(db.get("chave_1").unwrap().unwrap(), b"Relou Uourdi");
    assert_eq!(db.get("row:7").unwrap().unwrap(), b"3.21");
    assert_eq!(db.deadline_ms("row:7").unwrap(), Some(4_102_444_800_000));
    assert_eq!(db.hget("meu_hash", "nome").unwrap().unwrap(), b"thailan");
    assert_eq!(db.hget("meu_hash", "city").unwrap().unwrap(), b"Recife");
    assert_eq!(db.hlen("meu_hash").unwrap(), 2);
    assert_eq!(db.deadline_ms("meu_hash").unwrap(), Some(4_102_444_800_000));
    let recovery = db.recovery();
    assert_eq!((recovery.record_count, recovery.commit_count), (10, 7));
    assert_eq!(recovery.torn_bytes, 0);
}

#[test]
fn every_kind_of_version_1_is_understood() {
    let (_directory, path) = copy_of("v1-every-kind.brasa");
    let mut db = open(&path);
    // The databases 0 and 2 were swapped at the end.
    assert_eq!(keys(&db), ["two"]);
    assert_eq!(db.get("two").unwrap().unwrap(), b"swapped in");
    assert!(db.database(1).unwrap().is_empty().unwrap());
    db = db.database(2).unwrap();
    assert_eq!(keys(&db), ["expiring", "hash", "mixed", "other", "string"]);
    assert_eq!(db.ttl("expiring").unwrap(), Ttl::Persistent);
    assert_eq!(
        db.ttl("string").unwrap(),
        Ttl::Remaining(Duration::from_millis(4_102_444_800_000 - 1_700_000_011_000))
    );
    assert_eq!(
        db.hget("hash", "a").unwrap(),
        None,
        "its deadline has passed"
    );
    assert_eq!(db.hlen("hash").unwrap(), 1);
    assert_eq!(db.hget("hash", "b").unwrap().unwrap(), b"2");
    assert_eq!(db.key_type("mixed").unwrap(), Some(KeyType::String));
    assert_eq!(db.key_type("other").unwrap(), Some(KeyType::Hash));
    db.set("written", "after").unwrap();
    db.close().unwrap();
    assert_eq!(open(&path).database(2).unwrap().len().unwrap(), 6);
}

#[test]
fn a_torn_tail_of_version_1_is_cut_to_whole_commits() {
    let (_directory, path) = copy_of("v1-torn-tail.brasa");
    let db = open(&path);
    assert_eq!(keys(&db), ["chave_1", "unsynced"]);
    // Two records of 40 bytes, the last two of them padding.
    assert_eq!(db.recovery().torn_bytes, 78);
    db.set("after", "the cut").unwrap();
    db.close().unwrap();
    assert_eq!(keys(&open(&path)), ["after", "chave_1", "unsynced"]);
}

#[test]
fn a_poisoned_file_of_version_1_can_be_read_and_not_written() {
    let (_directory, path) = copy_of("v1-poisoned.brasa");
    let before = std::fs::read(&path).unwrap();
    let db = open(&path);
    assert_eq!(db.get("chave_1").unwrap().unwrap(), b"Relou Uourdi");
    let refused = db.set("chave_1", "again");
    assert!(
        matches!(&refused, Err(Error::Poisoned { reason, .. }) if reason == "Input/output error"),
        "{refused:?}"
    );
    assert!(matches!(db.close(), Err(Error::Poisoned { .. })));
    assert!(before == std::fs::read(&path).unwrap());
}
