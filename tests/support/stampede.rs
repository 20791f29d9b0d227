//! Many processes, each with many threads, miss one key at once: the test's own program again, as workers. A computation writes a
//! line into a file, so that computations are counted whatever becomes of the process. The place is a file or a server's URL.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use brasa::{Cache, CacheError};

use super::workers::{WORKER, Worker, say, wait_for_the_end};

const PROCESSES: usize = 8;
const THREADS: usize = 8;

/// Longer than any test takes: what ends earlier was not ended by it.
const FOR_EVER: Duration = Duration::from_secs(600);

/// Where the cache is, and where computations are noted.
pub struct Place {
    pub cache: String,
    pub journal: PathBuf,
}

fn open(place: &str) -> Cache {
    let options = Cache::options()
        .strict(true)
        .timeout(Duration::from_secs(30));
    options.open(place).unwrap().max_wait(FOR_EVER)
}

fn computed(journal: &Path, wait: impl FnOnce()) -> Result<String, std::io::Error> {
    let mut options = OpenOptions::new();
    let mut journal = options.create(true).append(true).open(journal)?;
    writeln!(journal, "{}", process::id())?;
    wait();
    Ok(format!("by {}", process::id()))
}

/// Who has computed, in order.
fn computations(place: &Place) -> Vec<String> {
    let journal = std::fs::read_to_string(&place.journal).unwrap_or_default();
    journal.lines().map(str::to_owned).collect()
}

/// The other end of [`Worker`]; by itself it does nothing.
pub fn what_a_worker_does() {
    let Ok(orders) = std::env::var(WORKER) else {
        return;
    };
    let [what, place, journal] = orders.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{orders:?} is nothing to do");
    };
    let cache = open(place);
    let path = PathBuf::from(journal);
    match what {
        "ask" => ask(&cache, &path),
        "own" => {
            let got = cache.get_or_insert_with("k", || {
                computed(&path, || {
                    say("computing");
                    wait_for_the_end();
                })
            });
            say(&format!("got {}", got.unwrap()));
            say(&format!("not stored {}", cache.stats().not_stored));
        }
        "refresh" => {
            say("ready");
            wait_for_the_end();
            let cache = cache.ttl(FOR_EVER);
            at_once(|| {
                let path = path.clone();
                let slow = move || computed(&path, || thread::sleep(Duration::from_millis(200)));
                let begun = Instant::now();
                let got = cache.get_or_refresh_with("k", slow).unwrap();
                say(&format!("got {} {got}", begun.elapsed().as_micros()));
            });
            let stats = cache.stats();
            say(&format!(
                "waits {} misses {}",
                stats.waits.count, stats.misses
            ));
            wait_for_the_end();
        }
        other => panic!("{other:?} is nothing to do"),
    }
}

fn ask(cache: &Cache, path: &Path) {
    say("ready");
    wait_for_the_end();
    at_once(|| {
        let begun = Instant::now();
        let slow = || computed(path, || thread::sleep(Duration::from_millis(200)));
        let got = cache.get_or_insert_with("k", slow).unwrap();
        say(&format!("got {} {got}", begun.elapsed().as_micros()));
    });
}

fn at_once(what: impl Fn() + Sync) {
    let all = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                all.wait();
                what();
            });
        }
    });
}

fn start(order: &str, place: &Place) -> Worker {
    Worker::start(&format!("{order} {}", place.cache), &place.journal)
}

/// Workers that are about to ask.
fn askers(order: &str, place: &Place) -> Vec<(Worker, Box<dyn Iterator<Item = String>>)> {
    let start = |_| {
        let mut worker = start(order, place);
        let mut said = Box::new(worker.said(""));
        assert!(said.any(|line| line == "ready"));
        (worker, said as Box<dyn Iterator<Item = String>>)
    };
    (0..PROCESSES).map(start).collect()
}

/// What each thread of each worker got, and the longest that one took in milliseconds.
fn answers(said: impl Iterator<Item = String>, values: &mut Vec<String>) -> u64 {
    let lines = said.filter_map(|line| line.strip_prefix("got ").map(str::to_owned));
    let answers = lines.take(THREADS).map(|line| {
        let (micros, value) = line.split_once(' ').unwrap();
        values.push(value.to_owned());
        micros.parse::<u64>().unwrap() / 1_000
    });
    answers.max().unwrap()
}

pub fn sixty_four_threads_of_eight_processes_miss_a_key_and_one_computes(place: &Place) {
    let mut workers = askers("ask", place);
    workers.iter_mut().for_each(|(worker, _)| worker.go());
    let mut values = Vec::new();
    let longest = workers
        .iter_mut()
        .map(|(_, said)| answers(said, &mut values));
    println!("the longest wait took {} ms", longest.max().unwrap());
    assert_eq!(values.len(), PROCESSES * THREADS);
    let owners = computations(place);
    assert_eq!(owners.len(), 1, "{owners:?}");
    assert!(
        values
            .iter()
            .all(|value| *value == format!("by {}", owners[0]))
    );
    workers.into_iter().for_each(|(worker, _)| worker.finish());
}

pub fn an_owner_that_is_killed_in_the_middle_costs_one_more_computation(place: &Place) {
    let mut owner = start("own", place);
    owner.said("computing").next().unwrap();
    let mut workers = askers("ask", place);
    workers.iter_mut().for_each(|(worker, _)| worker.go());
    thread::sleep(Duration::from_millis(50));
    assert_eq!(computations(place).len(), 1, "they wait");
    let begun = Instant::now();
    owner.kill();
    let mut values = Vec::new();
    for (_, said) in &mut workers {
        answers(said, &mut values);
    }
    println!("answered {} ms after the kill", begun.elapsed().as_millis());
    let owners = computations(place);
    assert_eq!(owners.len(), 2, "{owners:?}");
    assert_eq!(
        values,
        vec![format!("by {}", owners[1]); PROCESSES * THREADS]
    );
    workers.into_iter().for_each(|(worker, _)| worker.finish());
}

pub fn an_owner_that_is_stopped_is_taken_over_and_overwrites_nothing_later(place: &Place) {
    let mut owner = start("own", place);
    let mut said = owner.said("");
    assert!(said.any(|line| line == "computing"));
    owner.signal("STOP");
    let mut workers = askers("ask", place);
    let begun = Instant::now();
    workers.iter_mut().for_each(|(worker, _)| worker.go());
    let mut values = Vec::new();
    for (_, said) in &mut workers {
        answers(said, &mut values);
    }
    println!("answered {} ms later", begun.elapsed().as_millis());
    let owners = computations(place);
    assert_eq!(owners.len(), 2, "{owners:?}");
    let theirs = format!("by {}", owners[1]);
    assert_eq!(values, vec![theirs.clone(); PROCESSES * THREADS]);
    owner.signal("CONT");
    owner.go();
    assert!(said.any(|line| line == format!("got by {}", owners[0])));
    assert!(said.any(|line| line == "not stored 1"));
    assert_eq!(
        open(&place.cache).get::<String>("k").unwrap().unwrap(),
        theirs
    );
    workers.into_iter().for_each(|(worker, _)| worker.finish());
}

/// Another process had taken the lease over and failed. The owner was ahead of everything that is
/// newer, and yet its value was thrown away.
pub fn value_of_a_stopped_owner_is_stored_if_nothing_newer_is(place: &Place) {
    let mut owner = start("own", place);
    let mut said = owner.said("");
    assert!(said.any(|line| line == "computing"));
    owner.signal("STOP");
    let cache = open(&place.cache);
    let failed = cache.get_or_insert_with("k", || Err::<String, _>("down"));
    assert!(matches!(failed, Err(CacheError::Compute("down"))));
    let stats = cache.stats();
    assert_eq!((stats.takeovers, stats.waits.count), (1, 1));
    assert_eq!(cache.get::<String>("k").unwrap(), None);
    owner.signal("CONT");
    owner.go();
    assert!(said.any(|line| line == "not stored 0"));
    let owners = computations(place);
    assert_eq!(
        cache.get::<String>("k").unwrap().unwrap(),
        format!("by {}", owners[0])
    );
    owner.finish();
}

pub fn where_there_is_a_stale_value_nobody_waits_and_one_computes(place: &Place) {
    let cache = open(&place.cache);
    let old = cache
        .clone()
        .ttl(Duration::ZERO)
        .stale_while_revalidate(FOR_EVER);
    old.insert("k", &"old".to_owned()).unwrap();
    let mut workers = askers("refresh", place);
    workers.iter_mut().for_each(|(worker, _)| worker.go());
    let mut values = Vec::new();
    for (_, said) in &mut workers {
        let longest = answers(&mut *said, &mut values);
        println!("the longest call of a process took {longest} ms");
        let stats = said.find(|line| line.starts_with("waits "));
        assert_eq!(stats.as_deref(), Some("waits 0 misses 0"));
    }
    while cache.get::<String>("k").unwrap().unwrap() == "old" {
        thread::sleep(Duration::from_millis(5));
    }
    let owners = computations(place);
    assert_eq!(owners.len(), 1, "{owners:?}");
    let new = format!("by {}", owners[0]);
    assert!(values.iter().all(|value| *value == "old" || *value == new));
    assert!(values.iter().any(|value| value == "old"));
    workers.into_iter().for_each(|(worker, _)| worker.finish());
}
