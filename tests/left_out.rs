//! What a compaction or a backup leaves out had expired for every commit that follows it in the log,
//! or is brought back by the first of them, and the clock of a compactor is no writer's.

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use brasa::{Clock, Db, Durability, ManualClock, Options, Result, SetOptions, Ttl, TtlChange};

const START_MS: u64 = 1_700_000_000_000;
const YEAR_MS: u64 = 365 * 24 * 3600 * 1000;

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    (directory, path)
}

fn by_hand(clock: &ManualClock) -> Options {
    Db::options()
        .auto_compact(false)
        .durability(Durability::Os)
        .clock(clock.clone())
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A string and a field that expire in a second, and enough else that a copy reports progress.
fn fill(db: &Db) {
    db.set_with("k", "precious", SetOptions::new().ttl(secs(1)))
        .unwrap();
    db.hset_many("h", &[("f", "precious"), ("g", "other")])
        .unwrap();
    db.hexpire("h", "f", secs(1)).unwrap();
    db.hset_many("whole", &[("a", "1"), ("b", "2")]).unwrap();
    db.expire("whole", secs(1)).unwrap();
    for number in 0..100 {
        db.set(format!("filler:{number}"), vec![7; 10_000]).unwrap();
    }
}

/// A change by which a key or a field that is about to expire is to live on.
type Change = fn(&Db) -> Result<()>;

const CHANGES: [(&str, Change); 8] = [
    ("PERSIST of a hash", |db| {
        assert!(db.persist("whole")?);
        Ok(())
    }),
    ("EXPIRE of a hash", |db| {
        assert!(db.expire("whole", secs(3600))?);
        Ok(())
    }),
    ("PERSIST", |db| {
        assert!(db.persist("k")?);
        Ok(())
    }),
    ("EXPIRE", |db| {
        assert!(db.expire("k", secs(3600))?);
        Ok(())
    }),
    ("GETEX", |db| {
        assert!(db.get_ex("k", TtlChange::Persist)?.is_some());
        Ok(())
    }),
    ("HPERSIST", |db| {
        assert_eq!(db.hpersist("h", &["f"])?, [Some(true)]);
        Ok(())
    }),
    ("HEXPIRE", |db| db.hexpire("h", "f", secs(3600)).map(drop)),
    ("HGETEX", |db| {
        let values = db.hget_ex("h", &["f"], TtlChange::Persist)?;
        assert!(values[0].is_some());
        Ok(())
    }),
];

fn lives_on(name: &str, db: &Db) -> bool {
    if name.ends_with("of a hash") {
        return db.hlen("whole").unwrap() == 2;
    }
    match name.starts_with('H') {
        true => db.hget("h", "f").unwrap().is_some(),
        false => db.get("k").unwrap().is_some(),
    }
}

#[test]
fn compaction_keeps_what_an_open_transaction_saves_from_expiry() {
    for (name, change) in CHANGES {
        let (_directory, path) = temporary();
        let clock = ManualClock::new(START_MS);
        let db = by_hand(&clock).open(&path).unwrap();
        let compactor = by_hand(&clock).open(&path).unwrap();
        fill(&db);
        thread::scope(|scope| {
            let (progress, copied) = mpsc::channel();
            db.transaction(|tx| -> Result<()> {
                assert!(tx.get("k")?.is_some() && tx.hget("h", "f")?.is_some());
                clock.advance(secs(2));
                scope.spawn(|| {
                    let progress = progress;
                    compactor
                        .compact_with(|_, _| _ = progress.send(()))
                        .unwrap();
                });
                // A compaction that does not wait for the transaction copies something now.
                let _ = copied.recv_timeout(Duration::from_millis(100));
                change(tx)
            })
            .unwrap();
        });
        assert!(lives_on(name, &db), "{name}: lost by the compaction");
        drop((db, compactor));
        let reopened = by_hand(&clock).open(&path).unwrap();
        assert!(lives_on(name, &reopened), "{name}: lost in the file");
    }
}

#[test]
fn backup_keeps_what_an_open_transaction_saves_from_expiry() {
    for (name, change) in CHANGES {
        let (directory, path) = temporary();
        let target = directory.path().join("copy.brasa");
        let clock = ManualClock::new(START_MS);
        let db = by_hand(&clock).open(&path).unwrap();
        let other = by_hand(&clock).open(&path).unwrap();
        fill(&db);
        thread::scope(|scope| {
            let (progress, copied) = mpsc::channel();
            db.transaction(|tx| -> Result<()> {
                assert!(tx.get("k")?.is_some() && tx.hget("h", "f")?.is_some());
                clock.advance(secs(2));
                scope.spawn(|| {
                    let progress = progress;
                    other
                        .backup_with(&target, |_, _| _ = progress.send(()))
                        .unwrap();
                });
                // The backup has judged what has expired.
                copied.recv().unwrap();
                change(tx)
            })
            .unwrap();
        });
        let copy = by_hand(&clock).open(&target).unwrap();
        assert!(lives_on(name, &copy), "{name}: lost in the backup");
    }
}

#[test]
fn backup_within_a_transaction_waits_for_nothing() {
    let (directory, path) = temporary();
    let clock = ManualClock::new(START_MS);
    let patient = by_hand(&clock).lock_timeout(secs(3600));
    let other = patient.clone().open(&path).unwrap();
    let db = patient.open(&path).unwrap();
    fill(&db);
    let (sender, done) = mpsc::channel();
    let target = directory.path().join("copy.brasa");
    thread::spawn(move || {
        let backed_up = db.transaction(|_| other.backup(&target).map(drop));
        let _ = sender.send(backed_up);
    });
    // A hang limit, and no more.
    done.recv_timeout(secs(60)).unwrap().unwrap();
}

#[test]
fn backup_holds_a_change_that_is_committed_while_it_copies() {
    for (name, change) in CHANGES {
        let (directory, path) = temporary();
        let target = directory.path().join("copy.brasa");
        let clock = ManualClock::new(START_MS);
        let db = by_hand(&clock).open(&path).unwrap();
        fill(&db);
        clock.set(START_MS + 2_000);
        let mut done = false;
        db.backup_with(&target, |_, _| {
            if !std::mem::replace(&mut done, true) {
                // The clock is set back for a moment.
                clock.set(START_MS);
                change(&db).unwrap();
                clock.set(START_MS + 2_000);
            }
        })
        .unwrap();
        assert!(done);
        let copy = by_hand(&clock).open(&target).unwrap();
        assert!(lives_on(name, &copy), "{name}: lost in the backup");
    }
}

/// Whether a change outlives a compaction that has left out what it saves: the clock was set back for it.
fn outlives_a_compaction(name: &str, change: Change) -> bool {
    let (_directory, path) = temporary();
    let clock = ManualClock::new(START_MS);
    let db = by_hand(&clock).open(&path).unwrap();
    let writer = by_hand(&clock).open(&path).unwrap();
    fill(&db);
    clock.set(START_MS + 2_000);
    let mut done = false;
    db.compact_with(|_, _| {
        if !std::mem::replace(&mut done, true) {
            clock.set(START_MS);
            change(&writer).unwrap();
            clock.set(START_MS + 2_000);
        }
    })
    .unwrap();
    assert!(done);
    lives_on(name, &db)
}

#[test]
fn change_by_a_clock_that_was_set_back_outlives_the_compaction() {
    for (name, change) in CHANGES {
        assert!(outlives_a_compaction(name, change), "{name}: lost");
    }
}

#[cfg(feature = "simulation")]
#[test]
fn compaction_that_brings_nothing_back_is_noticed() {
    use brasa::simulation::{Mutation, with_mutation};
    for (name, change) in CHANGES {
        let outlives = with_mutation(Mutation::ForgetLeftOut, || {
            outlives_a_compaction(name, change)
        });
        assert!(!outlives, "{name}");
    }
}

#[test]
fn compactor_with_a_wrong_clock_gives_no_writer_a_wrong_time() {
    let (_directory, path) = temporary();
    let clock = ManualClock::new(START_MS);
    let db = by_hand(&clock).open(&path).unwrap();
    fill(&db);
    let day = SetOptions::new().ttl(secs(86_400));
    db.set_with("session", "a day left", day).unwrap();
    db.set_with("counter", "41", day).unwrap();
    db.hset("dated", "f", "41").unwrap();
    db.hexpire("dated", "f", secs(86_400)).unwrap();
    db.expire("whole", secs(86_400)).unwrap();
    let ahead = ManualClock::new(START_MS + YEAR_MS);
    let compactor = by_hand(&ahead).open(&path).unwrap();
    let mut done = false;
    compactor
        .compact_with(|_, _| {
            if std::mem::replace(&mut done, true) {
                return;
            }
            // A program that makes its first write meanwhile.
            let db = by_hand(&clock).open(&path).unwrap();
            db.set_with("short", "v", SetOptions::new().ttl(secs(10)))
                .unwrap();
            assert_eq!(db.deadline_ms("short").unwrap(), Some(START_MS + 10_000));
            assert_eq!(db.incr_by("counter", 1).unwrap(), 42);
            assert_eq!(db.hincr_by("dated", "f", 1).unwrap(), 42);
            assert!(db.persist("session").unwrap());
            assert!(db.persist("whole").unwrap());
            let now_ms = db.transaction(|tx| Ok::<_, brasa::Error>(tx.now_ms()));
            assert_eq!(now_ms.unwrap(), clock.now_ms());
        })
        .unwrap();
    assert!(done);
    assert_eq!(db.ttl("short").unwrap(), Ttl::Remaining(secs(10)));
    assert_eq!(db.get("counter").unwrap().unwrap(), "42");
    assert_eq!(db.ttl("counter").unwrap(), Ttl::Remaining(secs(86_400)));
    assert_eq!(db.hget("dated", "f").unwrap().unwrap(), "42");
    assert_eq!(db.ttl("session").unwrap(), Ttl::Persistent);
    assert_eq!(db.hlen("whole").unwrap(), 2);
}
