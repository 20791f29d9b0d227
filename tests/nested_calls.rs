//! Calls on a file from within the closure of a write to it. Each of them returns, whatever other
//! threads and handles do meanwhile: a read with what the file holds, anything else with
//! [`Error::Reentered`].

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use brasa::{Cache, Db, Durability, Error, Options, ScanOptions};

/// Far longer than any run takes: what is not done by then hangs.
const HANG: Duration = Duration::from_secs(120);

type Outcome = Result<(), Error>;
type Call = (&'static str, fn(&Db) -> Outcome);

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    (directory, path)
}

/// A lock timeout beyond the hang limit, so that a wait for oneself is a hang and not an error.
fn options() -> Options {
    let options = Db::options().durability(Durability::Os).auto_compact(false);
    options.lock_timeout(10 * HANG)
}

fn returns<R: Send + 'static>(name: &str, work: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, outcome) = mpsc::channel();
    let worker = thread::spawn(move || _ = done.send(work()));
    match outcome.recv_timeout(HANG) {
        Ok(outcome) => outcome,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{name} hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match worker.join() {
            Err(panicked) => std::panic::resume_unwind(panicked),
            Ok(()) => unreachable!(),
        },
    }
}

fn is_reentered<T>(outcome: &Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::Reentered { .. }))
}

const READS: [Call; 15] = [
    ("get", |db| db.get("k").map(drop)),
    ("get_many", |db| db.get_many(&["k", "x"]).map(drop)),
    ("exists", |db| db.exists("k").map(drop)),
    ("key_type", |db| db.key_type("h").map(drop)),
    ("ttl", |db| db.ttl("k").map(drop)),
    ("hgetall", |db| db.hgetall("h").map(drop)),
    ("hlen", |db| db.hlen("h").map(drop)),
    ("len", |db| db.len().map(drop)),
    ("stats", |db| db.stats().map(drop)),
    ("random_key", |db| db.random_key().map(drop)),
    ("keys", |db| db.keys().try_for_each(|key| key.map(drop))),
    ("scan", |db| db.scan(0, &ScanOptions::new()).map(drop)),
    // Nothing has expired, so it writes nothing.
    ("remove_expired", |db| db.remove_expired(0, 10).map(drop)),
    ("watch", |db| {
        let position = db.watch()?.position();
        db.watch_from(position)?.next().transpose().map(drop)
    }),
    ("backup", |db| {
        let name = format!("copy-{:?}", thread::current().id());
        let copy = db.path().with_file_name(name);
        let copied = db.backup(&copy).map(drop);
        std::fs::remove_file(copy).unwrap();
        copied
    }),
];

const CHANGES: [Call; 16] = [
    ("set", |db| db.set("x", "1")),
    ("del", |db| db.del("x").map(drop)),
    ("incr_by", |db| db.incr_by("n", 1).map(drop)),
    ("append", |db| db.append("x", "1").map(drop)),
    ("expire", |db| db.expire("k", HANG).map(drop)),
    ("hset", |db| db.hset("h", "f", "1").map(drop)),
    ("rename", |db| db.rename("k", "l").map(drop)),
    ("get_del", |db| db.get_del("k").map(drop)),
    ("clear", Db::clear),
    ("clear_all", Db::clear_all),
    ("update", |db| db.update("k", |_| None).map(drop)),
    ("batch", |db| db.batch(|batch| _ = batch.set("x", "1"))),
    ("transaction", |db| db.transaction(|tx| tx.set("x", "1"))),
    ("compact", |db| db.compact().map(drop)),
    ("checkpoint", Db::checkpoint),
    ("sync", Db::sync),
];

fn check_calls(db: &Db, whose: &str) {
    for (name, call) in READS {
        let outcome = call(db);
        assert!(outcome.is_ok(), "{name} of {whose}: {outcome:?}");
    }
    for (name, call) in CHANGES {
        let outcome = call(db);
        assert!(is_reentered(&outcome), "{name} of {whose}: {outcome:?}");
    }
    assert!(is_reentered(&db.clone().close()), "close of {whose}");
}

fn fill(db: &Db) {
    db.set("k", "1").unwrap();
    db.hset("h", "f", "1").unwrap();
}

/// Runs a closure within each kind of call that takes one.
fn within_each_closure(db: &Db, inside: &dyn Fn()) {
    let updated = db.update("k", |_| {
        inside();
        Some(b"2".to_vec())
    });
    updated.unwrap();
    let done = db.transaction(|tx| -> brasa::Result<()> {
        tx.set("t", "1")?;
        inside();
        tx.transaction(|_| -> brasa::Result<()> {
            inside();
            Ok(())
        })
    });
    done.unwrap();
}

#[test]
fn every_call_within_a_closure_returns() {
    let (directory, path) = temporary();
    returns("a call", move || {
        let _directory = directory;
        let (db, other) = (
            options().open(&path).unwrap(),
            options().open(&path).unwrap(),
        );
        let reader = options().read_only(true).open(&path).unwrap();
        fill(&db);
        within_each_closure(&db, &|| {
            check_calls(&db, "the handle");
            check_calls(&db.database(3).unwrap(), "another database");
            check_calls(&other, "another handle");
            assert_eq!(reader.get("k").unwrap().unwrap().len(), 1);
            let late = options().open(&path).unwrap();
            check_calls(&late, "a handle opened within");
        });
        other.set("x", "1").unwrap();
        db.compact().unwrap();
    });
}

#[test]
fn every_call_within_a_closure_returns_in_memory() {
    returns("a call", || {
        let db = Db::in_memory().unwrap();
        fill(&db);
        let other = Db::in_memory().unwrap();
        within_each_closure(&db, &|| {
            for (name, call) in CHANGES {
                let outcome = call(&db);
                assert!(is_reentered(&outcome), "{name}: {outcome:?}");
            }
            // It has the same path, `:memory:`, and nothing else in common.
            other.set("k", "1").unwrap();
            other.compact().unwrap();
        });
    });
}

/// The guard knew the file by its inode, which a compaction changes.
#[test]
fn handles_that_have_not_noticed_a_compaction_are_refused_within_a_closure() {
    let (directory, path) = temporary();
    returns("a call", move || {
        let _directory = directory;
        let (db, other) = (
            options().open(&path).unwrap(),
            options().open(&path).unwrap(),
        );
        let stale = options().open(&path).unwrap();
        fill(&db);
        for compactor in [&other, &db] {
            compactor.compact().unwrap();
            db.update("k", |_| {
                check_calls(&stale, "a handle on the old file");
                check_calls(&db, "the handle");
                None
            })
            .unwrap();
        }
    });
}

/// Works in threads of their own until it is dropped.
struct Others {
    is_over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Others {
    fn start(works: Vec<Box<dyn Fn() + Send>>) -> Others {
        let is_over = Arc::new(AtomicBool::new(false));
        let threads = works
            .into_iter()
            .map(|work| {
                let is_over = Arc::clone(&is_over);
                thread::spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        work();
                    }
                })
            })
            .collect();
        Others { is_over, threads }
    }

    fn end(mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// Another thread held the compaction's or the sync's mutex, and waited for the writer.
#[test]
fn every_call_within_a_closure_returns_while_other_threads_compact_and_sync_and_close() {
    let (directory, path) = temporary();
    returns("a call", move || {
        let _directory = directory;
        let db = options().open(&path).unwrap();
        let other = options().open(&path).unwrap();
        fill(&db);
        let mut works: Vec<Box<dyn Fn() + Send>> = Vec::new();
        for db in [db.clone(), other.clone()] {
            let (syncs, checkpoints) = (db.clone(), db.clone());
            works.push(Box::new(move || _ = db.compact()));
            works.push(Box::new(move || _ = syncs.sync()));
            works.push(Box::new(move || _ = checkpoints.checkpoint()));
        }
        let opened = path.clone();
        works.push(Box::new(move || {
            let db = options().open(&opened).unwrap();
            db.set("c", "1").unwrap();
            db.close().unwrap();
        }));
        let others = Others::start(works);
        for _ in 0..20 {
            within_each_closure(&db, &|| {
                check_calls(&db, "the handle");
                check_calls(&other, "another handle");
            });
        }
        others.end();
        assert_eq!(db.get("k").unwrap().unwrap(), "2");
    });
}

#[test]
fn a_compaction_within_the_progress_of_another_is_refused() {
    let (directory, path) = temporary();
    returns("a compaction", move || {
        let _directory = directory;
        let (db, other) = (
            options().open(&path).unwrap(),
            options().open(&path).unwrap(),
        );
        fill(&db);
        for number in 0..200 {
            db.set(number.to_string(), [7; 100_000]).unwrap();
        }
        let mut calls = 0;
        let compacted = db.compact_with(|_, _| {
            for db in [&db, &other] {
                assert!(is_reentered(&db.compact()));
                assert!(is_reentered(&db.checkpoint()));
                db.set("k", "within").unwrap();
                db.sync().unwrap();
            }
            calls += 1;
        });
        compacted.unwrap();
        assert!(calls > 0);
        let copy = path.with_extension("copy");
        let copied = db.backup_with(copy, |_, _| {
            db.set("k", "within").unwrap();
            db.checkpoint().unwrap();
        });
        copied.unwrap();
        assert_eq!(other.get("k").unwrap().unwrap(), "within");
    });
}

/// Closing waited for the thread that told of the compaction, which was the one that closed.
#[test]
fn a_listener_may_compact_and_drop_the_last_handle() {
    let (directory, path) = temporary();
    returns("the listener", move || {
        let _directory = directory;
        let slot: Arc<Mutex<Option<Db>>> = Arc::default();
        let (told, hear) = mpsc::channel();
        let listened = Arc::clone(&slot);
        let options = Db::options().on_compaction(move |_| {
            let Some(db) = listened.lock().unwrap().take() else {
                return;
            };
            let compacted = db.compact().map(drop);
            let checkpoint = db.checkpoint();
            drop(db);
            told.send((compacted, checkpoint)).unwrap();
        });
        let db = options.compact_floor_bytes(64 << 10).open(&path).unwrap();
        *slot.lock().unwrap() = Some(db.clone());
        let mut db = Some(db);
        for number in 0.. {
            if let Some(writer) = &db {
                writer.set("k", [7; 10_000]).unwrap();
            }
            if number == 1_000 {
                db = None;
            }
            if let Ok((compacted, checkpoint)) = hear.try_recv() {
                compacted.unwrap();
                checkpoint.unwrap();
                break;
            }
            thread::yield_now();
        }
    });
}

fn holds(path: &Path, key: &str) -> bool {
    options().open(path).unwrap().exists(key).unwrap()
}

/// Closing takes locks that others hold while they wait for the writer.
#[test]
fn a_handle_dropped_within_a_closure_is_closed_when_the_write_is_over() {
    let (directory, path) = temporary();
    returns("a drop", move || {
        let _directory = directory;
        let db = options().open(&path).unwrap();
        fill(&db);
        let works: Vec<Box<dyn Fn() + Send>> = vec![{
            let db = db.clone();
            Box::new(move || _ = db.compact())
        }];
        let others = Others::start(works);
        for _ in 0..50 {
            let dropped = Db::options().open(&path).unwrap();
            let closed = Db::options().open(&path).unwrap();
            dropped.set("d", [7; 10_000]).unwrap();
            closed.set("d", [7; 10_000]).unwrap();
            db.update("k", |_| {
                drop(dropped);
                assert!(is_reentered(&closed.close()));
                None
            })
            .unwrap();
        }
        others.end();
        drop(db);
        assert!(holds(&path, "d"));
        // Whoever has the file alone proves that every handle has let go of it.
        let alone = options().lock_timeout(Duration::ZERO).exclusive(true);
        alone.open(&path).unwrap();
    });
}

#[test]
fn opening_the_file_alone_within_a_closure_is_refused() {
    let (directory, path) = temporary();
    returns("opening", move || {
        let _directory = directory;
        let db = options().open(&path).unwrap();
        db.update("k", |_| {
            for read_only in [false, true] {
                let alone = options().exclusive(true).read_only(read_only);
                assert!(is_reentered(&alone.open(&path)));
            }
            None
        })
        .unwrap();
    });
}

/// A thread that computes a value may wait for the write within which the value is asked for.
#[test]
fn cache_within_a_closure_does_not_wait_for_a_thread_that_computes() {
    let (directory, path) = temporary();
    returns("a look into the cache", move || {
        let _directory = directory;
        let db = options().open(&path).unwrap();
        let cache = Cache::options().file(options()).open(&path).unwrap();
        let (is_within, computes) = (Barrier::new(2), Barrier::new(2));
        thread::scope(|scope| {
            scope.spawn(|| {
                let value = cache.get_or_insert_with("k", || {
                    computes.wait();
                    is_within.wait();
                    db.set("x", "1")?;
                    Ok::<_, Error>("stored".to_owned())
                });
                assert_eq!(value.unwrap(), "stored");
            });
            computes.wait();
            db.update("y", |_| {
                is_within.wait();
                let compute = || Ok::<_, Error>("not stored".to_owned());
                let value = cache.get_or_insert_with("k", compute);
                assert_eq!(value.unwrap(), "not stored");
                None
            })
            .unwrap();
        });
        assert_eq!(cache.get::<String>("k").unwrap().unwrap(), "stored");
    });
}

/// Two handles are two owners of leases; a thread that holds one must not wait for it by the other.
#[test]
fn cache_within_a_computation_of_another_handle_for_the_same_key_computes_alone() {
    let (directory, path) = temporary();
    returns("the inner computation", move || {
        let link = directory.path().join("link.brasa");
        let open = |path: &Path| {
            let cache = Cache::options().file(options()).open(path).unwrap();
            cache.max_wait(Duration::MAX)
        };
        let outer = open(&path);
        std::fs::hard_link(&path, &link).unwrap();
        for inner in [open(&path), open(&link), outer.clone()] {
            let compute = |text: &str| Ok::<_, Error>(text.to_owned());
            let value = outer.get_or_insert_with("k", || {
                let value = inner.get_or_insert_with("k", || compute("inner"));
                assert_eq!(value.unwrap(), "inner");
                // Another key is computed and stored as ever.
                let other = inner.get_or_insert_with("other", || compute("other"));
                assert_eq!(other.unwrap(), "other");
                compute("outer")
            });
            assert_eq!(value.unwrap(), "outer");
            assert_eq!(inner.get::<String>("k").unwrap().unwrap(), "outer");
            assert_eq!(inner.get::<String>("other").unwrap().unwrap(), "other");
            outer.clear().unwrap();
        }
    });
}

#[test]
fn progress_of_a_compaction_may_wait_for_a_thread_that_writes_beyond_the_bound() {
    returns("writes during a compaction", || {
        let (_directory, path) = temporary();
        let db = Db::options()
            .durability(Durability::Os)
            .compact_floor_bytes(64 << 10)
            .lock_timeout(Duration::from_millis(100))
            .open(path)
            .unwrap();
        for key in ["a", "b", "c"] {
            db.set(key, vec![7; 300_000]).unwrap();
        }
        let mut is_done = false;
        db.compact_with(|_, _| {
            if std::mem::replace(&mut is_done, true) {
                return;
            }
            thread::scope(|scope| {
                scope.spawn(|| {
                    for number in 0..90 {
                        db.set("overwritten", vec![number; 100_000]).unwrap();
                    }
                });
            });
        })
        .unwrap();
        assert!(is_done);
    });
}
