//! Several handles on one file, and a sync that fails, is cut short by a kill, or is told of in a slot: what one of them acknowledges holds,
//! whatever happens to another.
#![cfg(feature = "simulation")]

mod support;

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use brasa::simulation::{Fault, FaultyOperation, Loss, Schedule, SimulatedDisk, Step};
use brasa::{Db, Durability, Error, Options};
use support::SplitMix;
use support::contents::contents;

const PATH: &str = "cache.brasa";

fn options() -> Options {
    let options = Db::options().durability(Durability::Os);
    options
        .auto_compact(false)
        .lock_timeout(Duration::from_millis(1))
}

fn open(disk: &SimulatedDisk) -> Db {
    options().open_on(disk, PATH).unwrap()
}

fn fail_next(disk: &SimulatedDisk, operation: FaultyOperation) {
    disk.inject(Fault::new(ErrorKind::Other).operation(operation));
}

fn is_poisoned<T: std::fmt::Debug>(outcome: &brasa::Result<T>) -> bool {
    matches!(outcome, Err(Error::Poisoned { .. }))
}

/// Who has all of the keys: each of the handles, and whoever opens the file.
fn all_have(disk: &SimulatedDisk, handles: &[&Db], keys: &[String]) {
    let fresh = options().read_only(true).open_on(disk, PATH).unwrap();
    for (number, db) in handles.iter().copied().chain([&fresh]).enumerate() {
        for key in keys {
            assert!(db.exists(key).unwrap(), "handle {number} has no {key}");
        }
    }
}

/// The handle whose sync failed took no more notice of the log, put its record over what the others had written since, and cut it off.
#[test]
fn what_others_have_written_is_there_after_a_failed_sync() {
    for fails in [FaultyOperation::Sync, FaultyOperation::SyncDirectory] {
        let disk = SimulatedDisk::new(1);
        let (db, other) = (open(&disk), open(&disk));
        db.set("first", "1").unwrap();
        if fails == FaultyOperation::SyncDirectory {
            // The name is known to be there: it is the compaction's that is not.
            db.sync().unwrap();
        }
        let keys: Vec<String> = (0..9).map(|number| format!("key {number}")).collect();
        for key in &keys {
            other.set(key, "1").unwrap();
        }
        fail_next(&disk, fails);
        let outcome = match fails {
            FaultyOperation::Sync => db.sync(),
            _ => db.compact().map(drop),
        };
        assert!(outcome.is_err() && disk.fault_count() == 1);
        all_have(&disk, &[&db, &other], &keys);
        assert!(is_poisoned(&other.set("late", "1")), "{fails:?}");
        assert!(is_poisoned(&db.set("late", "1")), "{fails:?}");
        assert!(is_poisoned(&other.sync()) && is_poisoned(&db.sync()));
        assert!(
            [&db, &other]
                .iter()
                .all(|db| db.stats().unwrap().poisoned.is_some())
        );
        all_have(&disk, &[&db, &other], &keys);
        // The way out.
        db.compact().unwrap();
        other.set("late", "1").unwrap();
        other.sync().unwrap();
        all_have(
            &disk,
            &[&db, &other],
            &[keys, vec!["late".to_owned()]].concat(),
        );
    }
}

/// The handle could not append its record, since another one had the writer lock. It read nothing of what that
/// one wrote, and its compaction dropped it.
#[test]
fn a_handle_whose_sync_failed_during_a_write_of_another_follows_that_write() {
    for compacts in [false, true] {
        let disk = SimulatedDisk::new(1);
        let (db, other) = (open(&disk), open(&disk));
        db.set("first", "1").unwrap();
        with_writer_held(&other, || {
            fail_next(&disk, FaultyOperation::Sync);
            assert!(db.sync().is_err());
        });
        let keys = ["first", "held"].map(str::to_owned);
        all_have(&disk, &[&db, &other], &keys);
        if compacts {
            db.compact().unwrap();
            db.set("late", "1").unwrap();
            other.set("later", "1").unwrap();
        } else {
            assert!(is_poisoned(&db.set("late", "1")));
            assert!(is_poisoned(&other.set("late", "1")));
        }
        all_have(&disk, &[&db, &other], &keys);
    }
}

/// It would wait for locks that others may hold while they wait for the writer lock.
#[test]
fn a_sync_within_a_transaction_is_refused_and_poisons_nothing() {
    let disk = SimulatedDisk::new(1);
    let (db, other) = (open(&disk), open(&disk));
    db.set("k", "1").unwrap();
    let refused: brasa::Result<_> = db.transaction(|_| {
        fail_next(&disk, FaultyOperation::Sync);
        Ok([db.sync(), other.sync()])
    });
    for refused in refused.unwrap() {
        assert!(matches!(refused, Err(Error::Reentered { .. })));
    }
    disk.heal();
    db.set("k", "2").unwrap();
    db.sync().unwrap();
    other.set("k", "3").unwrap();
}

/// It said that a sync had failed for as long as it did nothing else.
#[test]
fn who_only_syncs_and_closes_notices_that_somebody_has_compacted_the_file() {
    let disk = SimulatedDisk::new(1);
    let (db, other, third) = (open(&disk), open(&disk), open(&disk));
    db.set("k", "1").unwrap();
    fail_next(&disk, FaultyOperation::Sync);
    assert!(db.sync().is_err());
    assert!(is_poisoned(&third.set("k", "2")));
    other.compact().unwrap();
    db.sync().unwrap();
    third.close().unwrap();
}

/// A server that had no descriptor left for the directory took that for a sync that had failed, and let nobody write any more.
#[test]
fn a_directory_that_cannot_be_opened_is_no_failed_sync() {
    let disk = SimulatedDisk::new(1);
    let db = open(&disk);
    db.set("k", "1").unwrap();
    fail_next(&disk, FaultyOperation::OpenDirectory);
    assert!(matches!(db.sync(), Err(Error::Io { .. })));
    db.set("k", "2").unwrap();
    db.sync().unwrap();
    fail_next(&disk, FaultyOperation::OpenDirectory);
    assert!(matches!(db.compact(), Err(Error::Io { .. })));
    db.set("k", "3").unwrap();
    db.compact().unwrap();
    let after = disk.synced_image(disk.operation_count()).restart(2);
    assert_eq!(open(&after).get("k").unwrap().unwrap(), "3");
}

/// What two handles do by turns, one operation of the disk failing on the way. Gives back whether it did.
fn work_beside_each_other(seed: u64, after: u64, lasting: bool) -> bool {
    let disk = SimulatedDisk::new(seed);
    let handles = [Durability::Os, Durability::Always].map(|durability| {
        options()
            .durability(durability)
            .open_on(&disk, PATH)
            .unwrap()
    });
    handles[0].set("named", "1").unwrap();
    handles[0].sync().unwrap();
    disk.inject(
        Fault::new(ErrorKind::Other)
            .after(after)
            .lasting(lasting)
            .short(true),
    );
    let mut random = SplitMix(seed);
    let mut acknowledged = vec!["named".to_owned()];
    for number in 0..24 {
        let db = &handles[random.below(2)];
        let key = format!("{number}");
        let is_done = match random.below(8) {
            0 => db.sync().is_ok(),
            1 => db.compact().is_ok(),
            2 => db.checkpoint().is_ok(),
            _ => {
                let is_set = db.set(&key, [b'v'; 700]).is_ok();
                acknowledged.extend(is_set.then_some(key));
                is_set
            }
        };
        if number == 20 && !is_done {
            // Whatever fails for good: this is where it ends.
            disk.heal();
        }
    }
    let has_struck = disk.fault_count() > 0;
    disk.heal();
    let whose = |db: &Db| {
        let missing: Vec<_> = acknowledged
            .iter()
            .filter(|key| !db.exists(key).unwrap())
            .collect();
        assert!(
            missing.is_empty(),
            "seed {seed}, after {after}: {missing:?}"
        );
        contents(db)
    };
    let fresh = options().read_only(true).open_on(&disk, PATH).unwrap();
    let seen = whose(&fresh);
    for db in &handles {
        assert_eq!(whose(db), seen, "seed {seed}, after {after}");
    }
    // A handle that could leave no word of a failed sync keeps the sync lock until it can.
    for db in &handles {
        let _ = db.sync();
    }
    // And a file that takes no more writes takes them after a compaction.
    handles[0].compact().unwrap();
    for db in &handles {
        db.set("last", "1").unwrap();
        db.sync().unwrap();
    }
    let after_loss = disk.synced_image(disk.operation_count()).restart(seed);
    assert!(whose(&open(&after_loss)).len() > seen.len());
    has_struck
}

#[test]
fn whichever_operation_fails_two_handles_keep_what_both_have_acknowledged() {
    for seed in 0..12 {
        for lasting in [false, true] {
            let struck = (0..).take_while(|after| work_beside_each_other(seed, *after, lasting));
            assert!(struck.count() > 100, "seed {seed}");
        }
    }
}

/// Lets so many operations of one thread through, and kills it then.
struct Killer {
    victim: thread::ThreadId,
    left: AtomicUsize,
}

impl Schedule for Killer {
    fn step(&self, step: Step) -> io::Result<()> {
        if thread::current().id() != self.victim || step != Step::Operation {
            return Ok(());
        }
        let spent = |left: usize| left.checked_sub(1);
        match self
            .left
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, spent)
        {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other("killed")),
        }
    }
}

/// A compaction was killed when the new file had its name, and the directory was not synced. The next handle followed it, found in its slot that
/// all was synced, and said so: a loss of power took the name back.
#[test]
fn nothing_is_durable_before_the_name_of_the_file_is() {
    let mut was_completed = false;
    for operations in 0.. {
        let disk = SimulatedDisk::new(1);
        let other = open(&disk);
        other.set("synced", "1").unwrap();
        other.sync().unwrap();
        other.set("x", "1").unwrap();
        other.del("synced").unwrap();
        let victim = thread::spawn({
            let disk = disk.clone();
            move || {
                let db = open(&disk);
                disk.schedule(Arc::new(Killer {
                    victim: thread::current().id(),
                    left: AtomicUsize::new(operations),
                }));
                let is_done = db.compact().is_ok();
                std::mem::forget(db);
                (is_done, thread::current().id())
            }
        });
        let (is_done, id) = victim.join().unwrap();
        disk.release_locks_of(id);
        assert!(other.exists("x").unwrap(), "killed after {operations}");
        other.sync().unwrap();
        let after = disk.synced_image(disk.operation_count()).restart(2);
        let db = open(&after);
        assert!(db.exists("x").unwrap(), "killed after {operations}");
        assert!(!db.exists("synced").unwrap(), "killed after {operations}");
        was_completed |= is_done;
        if is_done {
            break;
        }
        assert!(operations < 1_000, "it never ends");
    }
    assert!(was_completed);
}

/// A handle that was closed wrote a slot because the file's lagged, and the one before it, another handle's, was not on the device yet: both
/// could be torn.
#[test]
fn no_loss_of_power_tears_both_slots() {
    let disk = SimulatedDisk::new(1);
    let db = open(&disk);
    db.set("named", "1").unwrap();
    db.sync().unwrap();
    let always = options()
        .durability(Durability::Always)
        .open_on(&disk, PATH);
    let always = always.unwrap();
    db.set("a", "1").unwrap();
    always.set("b", "1").unwrap();
    db.sync().unwrap();
    always.close().unwrap();
    let whole = disk.operation_count();
    for upto in 0..=whole {
        let crash = disk.crash_at(upto);
        for seed in 0..64 {
            let image = crash.image(Loss::Blocks(8), crash.unsynced_names(), seed, &[]);
            if image.file(PATH).is_none() {
                continue;
            }
            let opened = options().open_on(&image.restart(3), PATH);
            assert!(opened.is_ok(), "after {upto}, seed {seed}: {opened:?}");
        }
    }
}

/// A handle that holds the writer lock in another thread until it is told to let go.
fn with_writer_held<R>(db: &Db, work: impl FnOnce() -> R) -> R {
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (done, is_done) = std::sync::mpsc::channel();
    // Also where `work` panics, the holder is told: its channel is gone then.
    thread::scope(move |scope| {
        let holder = scope.spawn(move || {
            db.transaction(|tx| -> brasa::Result<()> {
                begun.send(()).unwrap();
                let _ = is_done.recv();
                tx.set("held", "1")
            })
        });
        has_begun.recv().unwrap();
        let outcome = work();
        done.send(()).unwrap();
        holder.join().unwrap().unwrap();
        outcome
    })
}

const FAILING: [FaultyOperation; 2] = [FaultyOperation::Sync, FaultyOperation::SyncDirectory];

/// The handle whose sync had failed could not append its record, since another one held the writer lock, and
/// gave the sync lock up without leaving word. A third one synced with success and acknowledged what was gone.
#[test]
fn a_failed_sync_is_known_to_whoever_syncs_next() {
    for operation in FAILING {
        let name = format!("{operation:?}");
        for is_killed in [true, false] {
            let disk = SimulatedDisk::new(1);
            let holder = open(&disk);
            holder.set("first", "1").unwrap();
            if operation == FaultyOperation::Sync {
                holder.sync().unwrap();
            }
            let failing = open(&disk);
            failing.set("b", "1").unwrap();
            let (reader, waiting) = (
                options().read_only(true).open_on(&disk, PATH).unwrap(),
                open(&disk),
            );
            let late = with_writer_held(&holder, || {
                fail_next(&disk, operation);
                assert!(failing.sync().is_err(), "{name}");
                assert!(is_poisoned(&waiting.sync()), "{name}");
                assert!(is_poisoned(&failing.sync()), "{name}");
                assert!(reader.stats().unwrap().poisoned.is_some(), "{name}");
                let late = options().durability(Durability::Always);
                let late = late.open_on(&disk, PATH).unwrap();
                assert!(is_poisoned(&late.sync()), "{name}");
                late
            });
            if is_killed {
                std::mem::forget(failing);
            } else {
                assert!(is_poisoned(&failing.set("b", "2")), "{name}");
                drop(failing);
            }
            for db in [&late, &waiting, &holder] {
                assert!(is_poisoned(&db.set("late", "1")), "{name}");
                assert!(is_poisoned(&db.sync()), "{name}");
                assert!(db.stats().unwrap().poisoned.is_some(), "{name}");
            }
            // The way out.
            waiting.compact().unwrap();
            late.set("late", "1").unwrap();
            assert_eq!(reader.stats().unwrap().poisoned, None, "{name}");
            let after = disk.synced_image(disk.operation_count()).restart(2);
            let db = open(&after);
            for key in ["first", "b", "held", "late"] {
                assert!(db.exists(key).unwrap(), "{name}: {key}");
            }
        }
    }
}

/// It is the whole process that counts: the one that opens the file next knows as well.
#[test]
fn a_failed_sync_is_known_to_who_opens_the_file_after_all_others_are_gone() {
    let disk = SimulatedDisk::new(1);
    let holder = open(&disk);
    holder.set("first", "1").unwrap();
    holder.sync().unwrap();
    let failing = open(&disk);
    failing.set("b", "1").unwrap();
    with_writer_held(&holder, || {
        fail_next(&disk, FaultyOperation::Sync);
        assert!(failing.sync().is_err());
    });
    std::mem::forget((failing, holder));
    disk.kill_all();
    let next = open(&disk);
    assert!(next.stats().unwrap().poisoned.is_some());
    assert!(is_poisoned(&next.set("b", "2")));
    assert!(is_poisoned(&next.close()));
}

/// Where no word can be left either, the right to sync is kept: nobody acknowledges what may be gone.
#[test]
fn a_handle_that_cannot_leave_word_of_its_failed_sync_lets_nobody_sync() {
    let disk = SimulatedDisk::new(1);
    let holder = open(&disk);
    holder.set("first", "1").unwrap();
    holder.sync().unwrap();
    let failing = open(&disk);
    failing.set("b", "1").unwrap();
    let other = open(&disk);
    with_writer_held(&holder, || {
        // The slots are read first.
        disk.inject(Fault::new(ErrorKind::Other).after(1).lasting(true));
        assert!(failing.sync().is_err());
        disk.heal();
        assert!(matches!(other.sync(), Err(Error::Locked { .. })));
        // It tries again with its next call.
        assert!(is_poisoned(&failing.sync()));
        assert!(is_poisoned(&other.sync()));
    });
    assert!(is_poisoned(&other.set("late", "1")));
    other.compact().unwrap();
    failing.set("late", "1").unwrap();
    other.sync().unwrap();
}
