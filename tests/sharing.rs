//! Several handles on one file, in one process: to each other they are what processes are.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use brasa::{Db, Durability, Error, Options, inspect};

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    (directory, path)
}

fn shared() -> Options {
    let options = Db::options().durability(Durability::Os).auto_compact(false);
    options.lock_timeout(Duration::from_secs(60))
}

fn open(path: &Path) -> Db {
    shared().open(path).unwrap()
}

/// Waits so long for the lock that only a handle that never gives it up makes this time out.
fn patient() -> Options {
    shared().lock_timeout(Duration::from_secs(60))
}

/// Waits only as long as it takes to find the lock taken.
fn impatient() -> Options {
    shared().lock_timeout(Duration::from_millis(20))
}

#[test]
fn each_handle_sees_what_the_other_wrote_on_its_next_call() {
    let (_directory, path) = temporary();
    let (one, other) = (open(&path), open(&path));
    for round in 0..2_000_u32 {
        let (writer, reader) = match round % 2 {
            0 => (&one, &other),
            _ => (&other, &one),
        };
        // Now and then large enough that the file grows.
        let value = vec![b'x'; if round % 50 == 0 { 30_000 } else { 10 }];
        writer.set("key", &value).unwrap();
        writer.hset("hash", round.to_string(), "1").unwrap();
        assert_eq!(reader.get("key").unwrap().unwrap(), value);
        assert_eq!(reader.hlen("hash").unwrap(), u64::from(round) + 1);
        assert_eq!(reader.len().unwrap(), 2);
    }
    assert_eq!(one.incr_by("n", 1).unwrap(), 1);
    assert_eq!(other.incr_by("n", 1).unwrap(), 2);
    assert_eq!(one.incr_by("n", 1).unwrap(), 3);
    one.close().unwrap();
    other.set("after", "1").unwrap();
    other.close().unwrap();
    assert!(inspect::check(&path, |_, _| {}).unwrap().is_sound());
    assert_eq!(open(&path).len().unwrap(), 4);
}

#[test]
fn whoever_closes_last_but_one_cuts_nothing_that_others_wrote() {
    let (_directory, path) = temporary();
    let idle = open(&path);
    idle.set("first", "1").unwrap();
    let busy = open(&path);
    for number in 0..1_000 {
        busy.set(number.to_string(), [0; 100]).unwrap();
    }
    // It has seen nothing of this, and closes when it is the only one.
    busy.close().unwrap();
    idle.close().unwrap();
    let db = open(&path);
    assert_eq!(db.len().unwrap(), 1_001);
}

#[test]
fn handles_follow_a_compaction() {
    let (_directory, path) = temporary();
    let (one, other, reader) = (
        open(&path),
        open(&path),
        shared().read_only(true).open(&path).unwrap(),
    );
    for round in 0..20_u32 {
        for number in 0..50_u32 {
            let db = if number % 2 == 0 { &one } else { &other };
            db.set(number.to_string(), round.to_string()).unwrap();
        }
        let value = other.get("7").unwrap().unwrap();
        let compacting = if round % 2 == 0 { &one } else { &other };
        compacting.compact().unwrap();
        assert_eq!(value, round.to_string(), "it stays what it was");
        for db in [&reader, &one, &other] {
            assert_eq!(db.len().unwrap(), 50);
            assert_eq!(db.get("7").unwrap().unwrap(), round.to_string());
            assert_eq!(db.stats().unwrap().dead_bytes, 0, "it is the new file");
        }
    }
    let names = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(names, 1);
}

#[test]
fn writers_go_on_while_another_handle_compacts_again_and_again() {
    let (_directory, path) = temporary();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (path, done) = (&path, &done);
            scope.spawn(move || {
                let db = open(path);
                for number in 0..3_000_u32 {
                    db.set(format!("{writer}:{}", number % 100), number.to_string())
                        .unwrap();
                    db.incr_by("both", 1).unwrap();
                }
                done.store(true, Ordering::Relaxed);
            });
        }
        let (path, done) = (&path, &done);
        scope.spawn(move || {
            let db = open(path);
            while !done.load(Ordering::Relaxed) {
                db.compact().unwrap();
            }
        });
    });
    let db = open(&path);
    assert_eq!(db.get("both").unwrap().unwrap(), "6000");
    for writer in 0..2 {
        for key in 0..100 {
            let value = db.get(format!("{writer}:{key}")).unwrap().unwrap();
            assert_eq!(value, (2_900 + key).to_string());
        }
    }
}

#[test]
fn who_has_the_file_alone_keeps_others_from_writing_and_not_from_reading() {
    let (_directory, path) = temporary();
    let alone = shared().exclusive(true).open(&path).unwrap();
    alone.set("key", "1").unwrap();
    let other = impatient().open(&path).unwrap();
    assert_eq!(other.get("key").unwrap().unwrap(), "1");
    alone.set("key", "2").unwrap();
    assert_eq!(other.get("key").unwrap().unwrap(), "2");
    let refused = other.set("key", "3").unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains("writer lock"), "{refused}");
    // Also across a compaction.
    alone.compact().unwrap();
    assert!(matches!(other.set("key", "3"), Err(Error::Locked { .. })));
    assert_eq!(other.get("key").unwrap().unwrap(), "2");
    alone.close().unwrap();
    other.set("key", "3").unwrap();
}

#[test]
fn a_lease_is_given_up_to_who_asks_and_when_it_is_idle() {
    let (_directory, path) = temporary();
    let (one, other) = (open(&path), patient().open(&path).unwrap());
    for round in 0..200_u32 {
        for number in 0..20_u32 {
            one.set("one", (round * number).to_string()).unwrap();
        }
        other.set("other", round.to_string()).unwrap();
    }
}

#[test]
fn reading_needs_no_permission_to_write() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, path) = temporary();
    let writer = open(&path);
    writer.set("key", "1").unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&path, 0o444);
    mode(directory.path(), 0o555);
    let reader = shared().read_only(true).open(&path).unwrap();
    assert_eq!(reader.get("key").unwrap().unwrap(), "1");
    writer.set("key", "2").unwrap();
    assert_eq!(reader.get("key").unwrap().unwrap(), "2");
    mode(directory.path(), 0o755);
}

#[test]
fn a_write_from_within_a_write_is_an_error_and_no_hang() {
    let (_directory, path) = temporary();
    let (db, other) = (open(&path), open(&path));
    for inner in [&db, &other] {
        let mut seen = None;
        db.update("key", |old| {
            assert!(old.is_none());
            seen = Some(inner.set("other", "1"));
            // Reading is allowed.
            assert!(inner.get("key").unwrap().is_none());
            None
        })
        .unwrap();
        assert!(
            matches!(seen, Some(Err(Error::Reentered { .. }))),
            "{seen:?}"
        );
    }
    // A batch only collects.
    db.batch(|b| {
        db.set("inner", "1").unwrap();
        b.set("outer", "2");
    })
    .unwrap();
    assert_eq!(db.len().unwrap(), 2);
}

#[test]
fn an_update_sees_the_newest_value_and_keeps_the_deadline() {
    let (_directory, path) = temporary();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let path = &path;
            scope.spawn(move || {
                let db = open(path);
                for _ in 0..500 {
                    db.update("list", |old| {
                        let mut list = old.unwrap_or_default().to_vec();
                        list.push(b'x');
                        Some(list)
                    })
                    .unwrap();
                }
            });
        }
    });
    let db = open(&path);
    assert_eq!(db.strlen("list").unwrap(), 2_000);
    db.expire("list", Duration::from_secs(100)).unwrap();
    let new = db.update("list", |_| Some(b"short".to_vec())).unwrap();
    assert_eq!(new.unwrap(), b"short");
    assert!(db.deadline_ms("list").unwrap().is_some());
    assert_eq!(db.update("list", |_| None).unwrap(), None);
    assert!(!db.exists("list").unwrap());
}

#[test]
fn a_file_that_was_removed_takes_no_writes_and_one_that_was_replaced_is_gone_on_with() {
    let (directory, path) = temporary();
    let db = open(&path);
    db.set("key", "old").unwrap();
    std::fs::rename(&path, directory.path().join("away")).unwrap();
    let refused = db.set("key", "new").unwrap_err();
    assert!(matches!(refused, Error::Removed { .. }), "{refused}");
    assert_eq!(
        db.get("key").unwrap().unwrap(),
        "old",
        "what was there is readable"
    );
    let other = open(&path);
    other.set("key", "another file").unwrap();
    db.set("by", "the first handle").unwrap();
    assert_eq!(other.get("by").unwrap().unwrap(), "the first handle");
    assert_eq!(db.get("key").unwrap().unwrap(), "another file");
}

#[cfg(feature = "simulation")]
#[test]
fn a_failed_sync_is_known_to_every_handle() {
    use brasa::simulation::{Fault, FaultyOperation, SimulatedDisk};
    let disk = SimulatedDisk::new(1);
    let open = || {
        let options = Db::options().durability(Durability::Always);
        options.open_on(&disk, "cache.brasa").unwrap()
    };
    let (one, other) = (open(), open());
    one.set("key", "1").unwrap();
    other.set("key", "2").unwrap();
    disk.inject(Fault::new(std::io::ErrorKind::Other).operation(FaultyOperation::Sync));
    one.set("key", "3").unwrap_err();
    for db in [&one, &other] {
        assert!(matches!(db.set("key", "4"), Err(Error::Poisoned { .. })));
    }
    // Until somebody has rewritten it.
    other.compact().unwrap();
    for db in [&one, &other] {
        db.set("key", "5").unwrap();
        assert_eq!(db.get("key").unwrap().unwrap(), "5");
    }
}

#[test]
fn a_panic_in_an_update_ends_the_turn_and_nothing_else() {
    let (_directory, path) = temporary();
    let (db, other) = (open(&path), patient().open(&path).unwrap());
    for _ in 0..20 {
        // Often enough that the turn is kept.
        db.set("key", "1").unwrap();
    }
    let panicked = std::thread::scope(|scope| {
        let update = || db.update("key", |_| panic!("on purpose"));
        scope.spawn(update).join().is_err()
    });
    assert!(panicked);
    other.set("other", "1").unwrap();
    db.set("key", "2").unwrap();
    assert_eq!(other.get("key").unwrap().unwrap(), "2");
}

#[test]
fn who_has_the_file_alone_learns_with_a_sync_that_it_was_removed() {
    let (_directory, path) = temporary();
    let db = shared().exclusive(true).open(&path).unwrap();
    db.set("key", "1").unwrap();
    std::fs::remove_file(&path).unwrap();
    db.set("key", "2").unwrap();
    assert!(matches!(db.sync(), Err(Error::Removed { .. })));
}

#[cfg(feature = "simulation")]
#[test]
fn a_network_file_system_is_for_one_at_a_time() {
    use brasa::simulation::SimulatedDisk;
    let disk = SimulatedDisk::new(1);
    disk.pretend_network_file_system("NFS");
    let refused = shared().open_on(&disk, "cache.brasa").unwrap_err();
    assert!(matches!(refused, Error::NotLocal { .. }), "{refused}");
    assert!(refused.to_string().contains("(NFS)"), "{refused}");
    let db = shared()
        .exclusive(true)
        .open_on(&disk, "cache.brasa")
        .unwrap();
    db.set("key", "1").unwrap();
}

/// Leftovers at the tail that began like a padding record were taken for the padding that a writer put in
/// their place: a handle that had been opened before saw nothing any more.
#[test]
fn handles_see_the_padding_that_takes_the_place_of_leftovers() {
    use std::os::unix::fs::FileExt;
    const LOG_START: u64 = 12_288;
    const PADDING: [u8; 8] = [0, 0, 0, 0, 13, 0, 0, 0];
    const OTHER: [u8; 8] = [0, 0, 0, 0, 12, 0, 0, 0];
    for leftovers in [PADDING, OTHER] {
        let (_directory, path) = temporary();
        let db = open(&path);
        db.set("key", "old").unwrap();
        let end = LOG_START + db.stats().unwrap().log_bytes;
        db.close().unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&leftovers, end).unwrap();
        let readers = [true, false].map(|read_only| {
            let reader = shared().read_only(read_only).open(&path).unwrap();
            assert_eq!(reader.get("key").unwrap().unwrap(), "old");
            reader
        });
        let writer = open(&path);
        writer.set("key", "new").unwrap();
        for reader in &readers {
            assert_eq!(reader.get("key").unwrap().unwrap(), "new");
        }
        readers[1].set("own", "1").unwrap();
        assert!(writer.exists("own").unwrap());
    }
}
