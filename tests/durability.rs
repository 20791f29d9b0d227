//! When each durability syncs, and how far a sync reaches when others write beside it.

use std::time::{Duration, Instant};

use brasa::{Db, Durability, SetOptions};

/// Where a log starts, in bytes.
const LOG_START: u64 = 12_288;

/// A limit for what hangs, and no more.
const LIMIT: Duration = Duration::from_secs(60);

fn is_synced(db: &Db) -> bool {
    let stats = db.stats().unwrap();
    stats.synced_upto >= LOG_START + stats.log_bytes
}

/// Looks every millisecond until it is so.
fn is_so_in_the_end(is_so: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > LIMIT {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// A write of a kind, and its name.
type Write = (&'static str, fn(&Db));

const WRITES: [Write; 9] = [
    ("set", |db| db.set("key", "1").unwrap()),
    ("set with options", |db| {
        db.set_with("key", "1", SetOptions::new().return_previous())
            .map(drop)
            .unwrap();
    }),
    ("append", |db| db.append("key", "2").map(drop).unwrap()),
    ("hset", |db| db.hset("hash", "f", "1").map(drop).unwrap()),
    ("expire", |db| {
        assert!(db.expire("key", Duration::from_secs(100)).unwrap());
    }),
    ("batch", |db| {
        db.batch(|batch| _ = batch.set("key", "3")).unwrap()
    }),
    ("transaction", |db| {
        db.transaction(|tx| tx.set("key", "4")).unwrap();
    }),
    ("del", |db| assert!(db.del("key").unwrap())),
    ("clear", |db| db.clear().unwrap()),
];

/// The default syncs in the background: no call asks for it, and no handle closes.
#[test]
fn interval_syncs_every_kind_of_write_in_the_background() {
    for exclusive in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::options()
            .durability(Durability::Interval(Duration::from_millis(1)))
            .exclusive(exclusive)
            .open(directory.path().join("cache.brasa"))
            .unwrap();
        for (name, write) in WRITES {
            write(&db);
            assert!(is_so_in_the_end(|| is_synced(&db)), "{name}");
        }
    }
}

#[test]
fn default_durability_is_an_interval_of_a_second() {
    let interval = Durability::Interval(Duration::from_secs(1));
    assert_eq!(Durability::default(), interval);
    let directory = tempfile::tempdir().unwrap();
    let db = Db::open(directory.path().join("cache.brasa")).unwrap();
    db.set("key", "1").unwrap();
    assert!(is_so_in_the_end(|| is_synced(&db)));
}

#[test]
fn always_syncs_every_kind_of_write_before_it_returns() {
    for exclusive in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::options()
            .durability(Durability::Always)
            .exclusive(exclusive)
            .open(directory.path().join("cache.brasa"))
            .unwrap();
        for (name, write) in WRITES {
            write(&db);
            assert!(is_synced(&db), "{name}");
        }
    }
}

#[cfg(feature = "simulation")]
mod power {
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex, OnceLock, mpsc};
    use std::thread::{self, ThreadId};

    use brasa::Options;
    use brasa::simulation::{Loss, Schedule, SimulatedDisk, Step};

    use super::*;

    const PATH: &str = "cache.brasa";

    fn options(durability: Durability) -> Options {
        Db::options().durability(durability).auto_compact(false)
    }

    #[test]
    fn sync_covers_the_writes_of_other_handles() {
        let disk = SimulatedDisk::new(1);
        let open = || options(Durability::Os).open_on(&disk, PATH).unwrap();
        let (writer, syncing) = (open(), open());
        // So that it knows what is synced, and is not the first to sync.
        syncing.sync().unwrap();
        writer.set("last", "1").unwrap();
        syncing.sync().unwrap();
        let image = disk.synced_image(disk.operation_count());
        let after = image.restart(2);
        let db = Db::options().open_on(&after, PATH).unwrap();
        assert_eq!(db.get("last").unwrap().unwrap(), "1");
    }

    #[test]
    fn os_syncs_when_it_is_asked_to_and_when_the_handle_closes() {
        for closes in [false, true] {
            let disk = SimulatedDisk::new(1);
            let db = options(Durability::Os).open_on(&disk, PATH).unwrap();
            for (_, write) in WRITES {
                write(&db);
            }
            db.set("last", "1").unwrap();
            let has_last = || {
                let image = disk.synced_image(disk.operation_count());
                // Until the directory is synced, there is no file.
                image.file(PATH).is_some() && {
                    let db = options(Durability::Os).open_on(&image.restart(2), PATH);
                    db.unwrap().exists("last").unwrap()
                }
            };
            assert!(!has_last());
            match closes {
                true => db.close().unwrap(),
                false => db.sync().unwrap(),
            }
            assert!(has_last(), "closes: {closes}");
        }
    }

    /// Work that happens while one thread is between the end of its sync and its next step.
    struct AfterSync {
        syncing: OnceLock<ThreadId>,
        is_over: AtomicBool,
        work: Mutex<Box<dyn FnMut() + Send>>,
    }

    impl AfterSync {
        /// `work` runs after the first sync of this thread.
        fn of_this_thread(disk: &SimulatedDisk, work: impl FnMut() + Send + 'static) {
            disk.schedule(Arc::new(AfterSync {
                syncing: OnceLock::from(thread::current().id()),
                is_over: AtomicBool::new(false),
                work: Mutex::new(Box::new(work)),
            }));
        }
    }

    impl Schedule for AfterSync {
        fn step(&self, step: Step) -> io::Result<()> {
            let is_syncing = self.syncing.get() == Some(&thread::current().id());
            if is_syncing && step == Step::Synced && !self.is_over.swap(true, Ordering::AcqRel) {
                self.work.lock().unwrap()();
            }
            Ok(())
        }
    }

    /// Whether a key is there if everything is lost that was not synced after so many operations.
    fn survives(disk: &SimulatedDisk, operations: usize, key: &str) -> bool {
        let after = disk.synced_image(operations).restart(2);
        let db = options(Durability::Os).open_on(&after, PATH).unwrap();
        db.exists(key).unwrap()
    }

    /// A sync covers what was appended before it began. What another thread appends when the device
    /// has finished, and the sync has not yet returned, needs a sync of its own.
    #[test]
    fn write_that_comes_at_the_end_of_a_sync_is_not_acknowledged_by_it() {
        for exclusive in [false, true] {
            let disk = SimulatedDisk::new(1);
            let open = || options(Durability::Always).exclusive(exclusive);
            let db = open().open_on(&disk, PATH).unwrap();
            db.set("named", "1").unwrap();
            let reader = options(Durability::Os).read_only(true);
            let reader = reader.open_on(&disk, PATH).unwrap();
            let (acknowledge, acknowledged) = mpsc::channel();
            AfterSync::of_this_thread(&disk, {
                let (db, disk) = (db.clone(), disk.clone());
                move || {
                    let (db, disk, acknowledge) = (db.clone(), disk.clone(), acknowledge.clone());
                    thread::spawn(move || {
                        db.set("late", "1").unwrap();
                        acknowledge.send(disk.operation_count()).unwrap();
                    });
                    // It has appended, and waits for the sync to end.
                    assert!(is_so_in_the_end(|| reader.exists("late").unwrap()));
                }
            });
            db.set("early", "1").unwrap();
            let operations = acknowledged.recv_timeout(LIMIT).unwrap();
            for key in ["named", "early", "late"] {
                assert!(survives(&disk, operations, key), "{exclusive}: {key}");
            }
        }
    }

    /// A slot that claims more than was synced turns a power loss into corruption.
    #[test]
    fn slot_after_a_sync_does_not_claim_what_another_handle_has_appended_meanwhile() {
        let disk = SimulatedDisk::new(1);
        let open = || options(Durability::Os).open_on(&disk, PATH).unwrap();
        let (db, other) = (open(), open());
        db.set("named", "1").unwrap();
        db.sync().unwrap();
        AfterSync::of_this_thread(&disk, {
            let db = db.clone();
            move || {
                other.set("late", [7; 9_000]).unwrap();
                // The handle that syncs applies it, which moves its end of the log.
                assert!(db.exists("late").unwrap());
            }
        });
        db.set("early", "1").unwrap();
        db.sync().unwrap();
        let operations = disk.operation_count();
        assert!(survives(&disk, operations, "early"));
        assert!(!survives(&disk, operations, "late"));
        let crash = disk.crash_at(operations);
        for seed in 0..64 {
            let image = crash.image(Loss::Blocks(512), crash.unsynced_names(), seed, &[]);
            let db = options(Durability::Os).open_on(&image.restart(3), PATH);
            assert!(db.unwrap().exists("early").unwrap(), "seed {seed}");
        }
        db.sync().unwrap();
        assert!(survives(&disk, disk.operation_count(), "late"));
    }

    /// Threads of one handle and of another one write at the same time, and power is lost at every
    /// operation: what had returned by then is there.
    #[test]
    fn power_loss_takes_no_acknowledged_write_of_several_threads() {
        const THREADS: usize = 6;
        const WRITES: usize = 12;
        let disk = SimulatedDisk::new(1);
        let open = || options(Durability::Always).open_on(&disk, PATH).unwrap();
        let handles = [open(), open()];
        handles[0].set("named", "1").unwrap();
        let acknowledged = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (db, acknowledged, disk) = (&handles[number % 2], &acknowledged, &disk);
                scope.spawn(move || {
                    for write in 0..WRITES {
                        let key = format!("{number}:{write}");
                        db.set(&key, [7; 600]).unwrap();
                        let operations = disk.operation_count();
                        acknowledged.lock().unwrap().push((operations, key));
                    }
                });
            }
        });
        let acknowledged = acknowledged.into_inner().unwrap();
        assert_eq!(acknowledged.len(), THREADS * WRITES);
        let first = acknowledged.iter().map(|(operations, _)| *operations).min();
        for operations in first.unwrap()..=disk.operation_count() {
            let crash = disk.crash_at(operations);
            for loss in [Loss::All, Loss::Nothing, Loss::Blocks(512), Loss::Size] {
                let image = crash.image(loss, crash.unsynced_names(), operations as u64, &[]);
                let db = options(Durability::Os).open_on(&image.restart(2), PATH);
                let db = db.unwrap();
                for (by, key) in &acknowledged {
                    let must_be = *by <= operations;
                    let is_there = db.exists(key).unwrap();
                    assert!(is_there || !must_be, "{operations}, {loss:?}: no {key}");
                }
            }
        }
    }
}
