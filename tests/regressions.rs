//! What the crash laboratory and the fuzzers have found, each with its story.
#![cfg(feature = "simulation")]

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use brasa::simulation::{Fault, FaultyOperation, Loss, Schedule, SimulatedDisk, Step};
use brasa::{Change, ChangeKind, Db, Durability, ManualClock, Watch};

const PATH: &str = "cache.brasa";

fn open(disk: &SimulatedDisk) -> Db {
    Db::options()
        .durability(Durability::Os)
        .open_on(disk, PATH)
        .unwrap()
}

/// Every way in which one or several of the changes at risk can be missing.
fn losses(count: usize) -> Vec<Loss> {
    let mut losses = vec![Loss::All, Loss::Nothing];
    for index in 0..count {
        losses.extend([Loss::One(index), Loss::AllBut(index), Loss::From(index)]);
        losses.extend((1..=count).map(|length| Loss::Hole(index, length)));
    }
    losses
}

/// The first recovery only zeroed the first word of what a power loss had left at the tail. Then
/// `set z 7` went to the place where `set b 2` had been, with the very same first word. A second
/// power loss kept that word and lost the rest, and behind it stood all of `b`: the right offset, the right
/// `previous`, the right checksum. A write that was gone was back.
#[test]
fn a_commit_of_an_earlier_life_does_not_come_back_with_its_first_word() {
    let disk = SimulatedDisk::new(1);
    let db = open(&disk);
    db.set("a", "1").unwrap();
    db.sync().unwrap();
    db.set("b", "2").unwrap();
    let crash = disk.crash_at(disk.operation_count());
    let first_word = crash.unsynced_lengths().len() - 1;
    let disk = crash.image(Loss::One(first_word), 1, 0, &[]).restart(2);

    let db = open(&disk);
    assert!(!db.exists("b").unwrap(), "its first word was lost");
    db.set("z", "7").unwrap();
    let crash = disk.crash_at(disk.operation_count());
    for loss in losses(crash.unsynced_lengths().len()) {
        let disk = crash.image(loss, 1, 0, &[]).restart(3);
        assert!(!open(&disk).exists("b").unwrap(), "{loss:?}");
    }
}

/// The same within one life: an append that failed half way was fenced by a zero word, and the
/// next one of the same shape could bring it back after a power loss.
///
/// A shared handle looks for such remains whenever it acquires the writer lock. An exclusive handle
/// keeps the lock, and knows of them only because the append failed.
#[test]
fn a_write_that_failed_does_not_come_back_with_its_first_word() {
    for (exclusive, after, short) in [
        (false, 1, true),
        (false, 1, false),
        (false, 0, true),
        (true, 1, true),
        (true, 1, false),
        (true, 0, true),
    ] {
        let told = format!("exclusive: {exclusive}, after {after}, short: {short}");
        let disk = SimulatedDisk::new(1);
        let options = Db::options().durability(Durability::Os);
        let db = options.exclusive(exclusive).open_on(&disk, PATH).unwrap();
        db.set("a", "1").unwrap();
        // Of the commit either the rest fails, or its first word, which is written last.
        disk.inject(
            Fault::new(ErrorKind::StorageFull)
                .operation(FaultyOperation::Write)
                .after(after)
                .short(short),
        );
        assert!(db.set("b", "2").is_err());
        db.sync().unwrap();
        db.set("z", "7").unwrap();
        let crash = disk.crash_at(disk.operation_count());
        for loss in losses(crash.unsynced_lengths().len()) {
            let disk = crash.image(loss, 1, 0, &[]).restart(3);
            let db = open(&disk);
            assert!(db.exists("a").unwrap());
            assert!(!db.exists("b").unwrap(), "{told}: {loss:?}");
        }
        assert_eq!(db.get("z").unwrap().unwrap(), "7", "{told}");
        assert!(!db.exists("b").unwrap(), "{told}");
    }
}

/// A handle that had opened a file, and then waited for its lock, went on with it although its name
/// had been taken away meanwhile: it wrote, said that it had, and the write was nowhere.
#[cfg(target_os = "linux")]
#[test]
fn a_handle_that_waited_does_not_write_into_a_file_that_lost_its_name() {
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap().join(PATH);
    // By the inode: the link of a descriptor keeps the name under which the file was created.
    let opened_count = || {
        let inode = std::fs::metadata(&path).unwrap().ino();
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
        let opened = descriptors.filter_map(|entry| std::fs::metadata(entry.ok()?.path()).ok());
        opened.filter(|file| file.ino() == inode).count()
    };
    let open = |path: &Path| Db::options().exclusive(true).open(path).unwrap();
    let first = open(&path);
    let waiting = std::thread::spawn({
        let path = path.clone();
        move || open(&path).set("y", "2").unwrap()
    });
    while opened_count() < 2 {
        std::thread::yield_now();
    }
    std::fs::rename(&path, directory.path().join("elsewhere")).unwrap();
    drop(first);
    waiting.join().unwrap();
    assert!(Db::open(&path).unwrap().exists("y").unwrap());
}

/// A compaction had left the key out, since it had expired. Then the clock was set back, and the key's deadline was put off: the key was
/// alive, and this was acknowledged. Then the clock was set right, and the key was gone.
#[test]
fn what_a_compaction_takes_for_expired_stays_expired_for_who_writes() {
    let disk = SimulatedDisk::new(1);
    let clock = ManualClock::new(1_000);
    let open = || {
        let options = Db::options().clock(clock.clone()).compact_dead_percent(0);
        let options = options.compact_floor_bytes(0);
        options.open_on(&disk, PATH).unwrap()
    };
    let db = open();
    let ttl = brasa::SetOptions::new().ttl(Duration::from_millis(50));
    db.set_with("key", "1", ttl).unwrap();
    db.hset("hash", "field", "1").unwrap();
    db.expire("hash", Duration::from_millis(50)).unwrap();
    for key in ["a", "b", "c", "d", "e", "f"] {
        db.set(key, [1; 500]).unwrap();
    }
    std::mem::forget(db);
    disk.kill_all();
    clock.set(1_060);
    let db = open();
    db.set("a", "2").unwrap();
    db.close().unwrap();
    clock.set(1_000);
    let db = open();
    // Either it is gone for good, or it is there for good.
    let is_there = db.expire("key", Duration::from_secs(1_000)).unwrap();
    let is_new = db.hset("hash", "other", "2").unwrap();
    clock.set(1_070);
    db.close().unwrap();
    for _ in 0..10 {
        let db = open();
        db.set("a", "3").unwrap();
        db.close().unwrap();
    }
    let db = open();
    assert_eq!(db.exists("key").unwrap(), is_there);
    assert!(is_new);
    assert_eq!(db.hkeys("hash").unwrap(), ["other"]);
}

/// Reads before each operation on the disk, as another thread of the process might.
struct Between {
    watch: Mutex<Watch>,
    seen: Mutex<Vec<Change>>,
}

impl Schedule for Between {
    fn step(&self, _: Step) -> io::Result<()> {
        // What reading does to the disk goes on.
        if let Ok(mut watch) = self.watch.try_lock() {
            let changes = watch.by_ref().map(Result::unwrap);
            self.seen.lock().unwrap().extend(changes);
        }
        Ok(())
    }
}

/// A reader that saw the old file moved opened the new one for itself, while another thread of the same handle was about to go on with it: the
/// file was opened twice, and who watched it was told that changes had been missed. A transaction that had watched a key did nothing then.
#[test]
fn who_watches_while_a_thread_of_the_same_handle_compacts_misses_nothing() {
    let disk = SimulatedDisk::new(1);
    let db = open(&disk);
    let between = Arc::new(Between {
        watch: Mutex::new(db.watch().unwrap()),
        seen: Mutex::default(),
    });
    disk.schedule(Arc::clone(&between) as Arc<dyn Schedule>);
    let mut keys = Vec::new();
    for round in 0..5 {
        let key = format!("{round}").into_bytes();
        db.set(&key, "1").unwrap();
        db.compact().unwrap();
        keys.push((ChangeKind::Set, key));
    }
    db.sync().unwrap();
    let seen = between.seen.lock().unwrap();
    let seen: Vec<_> = seen
        .iter()
        .map(|change| (change.kind, change.key.clone()))
        .collect();
    assert_eq!(seen, keys);
}
