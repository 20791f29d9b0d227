//! Many processes on one file: the test's own program again, as workers that write, are killed, stopped, and compact,
//! while a checker reads all the time.
//!
//! A worker says on its standard output what has returned to it. What it said is acknowledged, and must be there from then on, for
//! everybody.

use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use brasa::{Db, Durability, Error, Options, inspect};

mod support;

use support::workers::{WORKER, Worker, say, wait_for_the_end};

/// Repeats a run: the seed that a failed one has printed.
const SEED: &str = "BRASA_PROCESSES_SEED";

const KEYS: u64 = 20;

fn options() -> Options {
    Db::options()
        .durability(Durability::Os)
        .compact_floor_bytes(64 << 10)
        .lock_timeout(Duration::from_secs(30))
}

/// The other end of [`Worker`]; by itself it does nothing.
#[test]
fn what_a_worker_does() {
    let Ok(orders) = std::env::var(WORKER) else {
        return;
    };
    let words: Vec<&str> = orders.split(' ').collect();
    let path = PathBuf::from(words.last().unwrap());
    match words.as_slice() {
        ["count", times, ..] => {
            let db = options().open(&path).unwrap();
            for _ in 0..times.parse::<u32>().unwrap() {
                db.incr_by("counter", 1).unwrap();
            }
        }
        ["create", number, ..] => {
            let db = options().open(&path).unwrap();
            db.set(format!("by:{number}"), "1").unwrap();
            say(&format!("created {}", db.recovery().created));
        }
        ["write", number, begin, ..] => {
            let db = options().open(&path).unwrap();
            write_batches(&db, number, begin.parse().unwrap());
        }
        ["hold", ..] => {
            let db = options().exclusive(true).open(&path).unwrap();
            db.set("held", "1").unwrap();
            say("holding");
            wait_for_the_end();
        }
        ["wait", ..] => {
            let db = options().lock_timeout(Duration::from_secs(2));
            let db = db.open(&path).unwrap();
            say("waiting");
            say(match db.set("waited", "1") {
                Ok(()) => "outcome written",
                Err(Error::Locked { .. }) => "outcome locked",
                Err(_) => "outcome failed",
            });
        }
        ["spin", ..] => {
            let db = options().open(&path).unwrap();
            say("spinning");
            loop {
                db.incr_by("spun", 1).unwrap();
            }
        }
        other => panic!("{other:?} is nothing to do"),
    }
}

/// Writes the same number under several keys in one batch, with each number but one more, and says which has returned.
fn write_batches(db: &Db, worker: &str, begin: u64) {
    for number in begin.. {
        db.batch(|b| {
            b.set(format!("{worker}:left"), number.to_string());
            b.set(format!("{worker}:{}", number % KEYS), number.to_string());
            b.hset(format!("{worker}:hash"), "last", number.to_string());
            b.set(format!("{worker}:right"), number.to_string());
        })
        .unwrap();
        if number % 16 == 0 {
            say(&format!("wrote {number}"));
        }
    }
}

#[test]
fn eight_processes_count_to_eighty_thousand() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let workers = [(); 8].map(|()| Worker::start("count 10000", &path));
    for worker in workers {
        worker.finish();
    }
    let db = options().open(&path).unwrap();
    assert_eq!(db.get("counter").unwrap().unwrap(), "80000");
    db.close().unwrap();
    assert!(inspect::check(&path, |_, _| {}).unwrap().is_sound());
}

#[test]
fn a_file_that_many_create_at_once_is_one() {
    for round in 0..5 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cache.brasa");
        let mut workers: Vec<Worker> = (0..8)
            .map(|number| Worker::start(&format!("create {number}"), &path))
            .collect();
        let said: Vec<String> = workers
            .iter_mut()
            .flat_map(|worker| worker.said("created"))
            .collect();
        workers.into_iter().for_each(Worker::finish);
        let creators = said.iter().filter(|said| *said == "true").count();
        assert_eq!((said.len(), creators), (8, 1), "round {round}: {said:?}");
        let db = options().open(&path).unwrap();
        assert_eq!(db.len().unwrap(), 8);
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    }
}

#[test]
fn a_stopped_holder_makes_others_time_out_and_a_killed_one_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let mut holder = Worker::start("hold", &path);
    assert_eq!(holder.said("holding").next().unwrap(), "");
    holder.signal("STOP");
    let impatient = options().lock_timeout(Duration::from_millis(30));
    let db = impatient.open(&path).unwrap();
    assert_eq!(
        db.get("held").unwrap().unwrap(),
        "1",
        "readers wait for nobody"
    );
    let refused = db.set("key", "1").unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }), "{refused}");
    holder.signal("CONT");
    assert!(matches!(db.set("key", "1"), Err(Error::Locked { .. })));
    holder.kill();
    db.set("key", "1").unwrap();
}

/// Where a lease is stopped in the middle, it is held; killed there, it is not.
#[test]
fn a_lease_ends_with_its_holder() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    for _ in 0..5 {
        let mut worker = Worker::start("spin", &path);
        assert_eq!(worker.said("spinning").next().unwrap(), "");
        let db = options().open(&path).unwrap();
        while db.get("spun").unwrap().is_none() {
            thread::yield_now();
        }
        worker.signal("STOP");
        worker.kill();
        let before: u64 = db
            .get("spun")
            .unwrap()
            .unwrap()
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(db.incr_by("spun", 1).unwrap().unsigned_abs(), before + 1);
    }
}

/// Ctrl-Z and `fg`: the time for which a process was stopped counted as time that it had waited.
#[test]
fn a_process_that_is_stopped_while_it_waits_for_the_lock_goes_on_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let db = options().open(&path).unwrap();
    let held = db.transaction(|tx| -> brasa::Result<_> {
        let mut worker = Worker::start("wait", &path);
        let mut lines = worker.said("");
        while lines.next().unwrap() != "waiting" {}
        worker.signal("STOP");
        // Longer than its lock timeout; a clock of its own it cannot be given.
        thread::sleep(Duration::from_millis(2_500));
        worker.signal("CONT");
        // It is awake again, and finds the lock taken, before it is free.
        thread::sleep(Duration::from_millis(200));
        tx.set("held", "1")?;
        Ok((worker, lines))
    });
    let (worker, mut lines) = held.unwrap();
    let outcome = lines.find_map(|line| line.strip_prefix("outcome ").map(str::to_owned));
    assert_eq!(outcome.as_deref(), Some("written"));
    worker.finish();
}

/// A writer as the parent knows it.
struct Writer {
    number: usize,
    worker: Option<Worker>,
    listener: Option<thread::JoinHandle<()>>,
    /// The last number that was acknowledged.
    acknowledged: Arc<AtomicU64>,
    is_stopped: bool,
}

impl Writer {
    /// Begins behind whatever it may have written in an earlier life.
    fn start(&mut self, path: &Path, begin: u64) {
        let mut worker = Worker::start(&format!("write {} {begin}", self.number), path);
        let said = worker.said("wrote");
        let acknowledged = Arc::clone(&self.acknowledged);
        self.listener = Some(thread::spawn(move || {
            for number in said {
                acknowledged.fetch_max(number.parse().unwrap(), Ordering::AcqRel);
            }
        }));
        self.worker = Some(worker);
        self.is_stopped = false;
    }

    fn kill(&mut self) {
        self.worker.take().unwrap().kill();
        // What it said before it died was acknowledged.
        self.listener.take().unwrap().join().unwrap();
    }
}

/// What the file holds of a writer is one of its batches, whole, and none before the last that was acknowledged.
fn check(db: &Db, number: usize, acknowledged: &AtomicU64) -> u64 {
    let at_least = acknowledged.load(Ordering::Acquire);
    let [left, right] = ["left", "right"].map(|side| format!("{number}:{side}"));
    let both = db.get_many(&[&left, &right]).unwrap();
    assert_eq!(both[0], both[1], "half a batch of writer {number}");
    let Some(last) = &both[0] else {
        assert_eq!(at_least, 0, "writer {number} is gone");
        return 0;
    };
    let last: u64 = last.to_str().unwrap().parse().unwrap();
    assert!(
        last >= at_least,
        "writer {number}: {last} is there, {at_least} was acknowledged"
    );
    last
}

#[test]
fn writers_that_are_killed_and_stopped_lose_nothing_that_was_acknowledged() {
    let seed = match std::env::var(SEED) {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => std::hash::RandomState::new().build_hasher().finish(),
    };
    println!("{SEED}={seed}");
    let mut random = Random(seed);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let db = options().open(&path).unwrap();
    let mut writers: Vec<Writer> = (0..8)
        .map(|number| Writer {
            number,
            worker: None,
            listener: None,
            acknowledged: Arc::default(),
            is_stopped: false,
        })
        .collect();
    for writer in &mut writers {
        writer.start(&path, 1);
    }
    let done = AtomicBool::new(false);
    let acknowledged: Vec<Arc<AtomicU64>> = writers
        .iter()
        .map(|writer| Arc::clone(&writer.acknowledged))
        .collect();
    /// Ends the checker however the rest ends.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let checks = thread::scope(|scope| {
        let over = Done(&done);
        let checker = scope.spawn(|| {
            let mut checks = 0_u64;
            let reader = options().read_only(true).open(&path).unwrap();
            while !done.load(Ordering::Relaxed) {
                for (number, acknowledged) in acknowledged.iter().enumerate() {
                    check(&db, number, acknowledged);
                    check(&reader, number, acknowledged);
                    checks += 2;
                }
            }
            checks
        });
        for _ in 0..60 {
            thread::sleep(Duration::from_millis(10));
            let number = random.below(writers.len());
            match random.below(4) {
                0 => {
                    writers[number].kill();
                    let last = check(&db, number, &acknowledged[number]);
                    writers[number].start(&path, last + 1);
                }
                1 if !writers[number].is_stopped => {
                    writers[number].worker.as_ref().unwrap().signal("STOP");
                    writers[number].is_stopped = true;
                }
                2 => {
                    // A stopped writer may have the lock: then this waits for it.
                    for writer in &mut writers {
                        if std::mem::take(&mut writer.is_stopped) {
                            writer.worker.as_ref().unwrap().signal("CONT");
                        }
                    }
                    db.compact().unwrap();
                }
                _ => {}
            }
        }
        for writer in &mut writers {
            writer.kill();
        }
        drop(over);
        checker.join().unwrap()
    });
    let mut total = 0;
    for (number, acknowledged) in acknowledged.iter().enumerate() {
        let last = check(&db, number, acknowledged);
        total += last;
        let in_hash = db.hget(format!("{number}:hash"), "last").unwrap();
        assert_eq!(
            in_hash.map_or(0, |value| value.to_str().unwrap().parse().unwrap()),
            last
        );
        for key in 0..KEYS {
            let newest = (1..=last).rev().take(usize::try_from(KEYS).unwrap());
            let newest = newest.into_iter().find(|number| number % KEYS == key);
            let found = db.get(format!("{number}:{key}")).unwrap();
            let found = found.map(|value| value.to_str().unwrap().parse().unwrap());
            assert_eq!(found, newest, "{number}:{key}");
        }
    }
    println!("{total} batches, {checks} checks");
    db.close().unwrap();
    assert!(inspect::check(&path, |_, _| {}).unwrap().is_sound());
    assert!(total > 100 && checks > 100, "nothing was tested");
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(limit).unwrap()).unwrap()
    }
}
