//! Tests that need the fake clock or private calls. The tests of the public calls are in
//! `tests/cache.rs`.

use std::cell::Cell;
use std::time::Duration;

use super::settings::{Life, SHORTEST_LIFE};
use super::*;
use crate::clock::Patience;
use crate::sync::mpsc;
use crate::sync::thread;
use crate::{Db, ManualClock};

type Never = std::convert::Infallible;

const SECOND: Duration = Duration::from_secs(1);

fn clocked() -> (ManualClock, Cache) {
    let clock = ManualClock::new(1_700_000_000_000);
    let cache = Cache::options().clock(clock.clone()).open_in_memory();
    (clock, cache.unwrap().early_refresh(0.0))
}

/// A computation that counts its calls and returns the count.
struct Counted(Cell<u32>);

impl Counted {
    fn new() -> Counted {
        Counted(Cell::new(0))
    }

    fn next(&self) -> Result<String, Never> {
        self.0.set(self.0.get() + 1);
        Ok(self.0.get().to_string())
    }
}

fn ask(cache: &Cache, counted: &Counted) -> String {
    cache.get_or_insert_with("k", || counted.next()).unwrap()
}

#[test]
fn value_is_computed_once_until_it_expires() {
    let (clock, cache) = clocked();
    let cache = cache.ttl(10 * SECOND);
    let counted = Counted::new();
    assert_eq!(ask(&cache, &counted), "1");
    clock.advance(10 * SECOND - Duration::from_millis(1));
    assert_eq!(ask(&cache, &counted), "1");
    clock.advance(Duration::from_millis(1));
    assert_eq!(ask(&cache, &counted), "2");
    let stats = cache.stats();
    assert_eq!(
        (stats.hits, stats.misses, stats.computations.count),
        (1, 2, 2)
    );
    assert_eq!((stats.waits.count, stats.not_stored), (0, 0));
}

#[test]
fn stale_value_is_returned_while_one_caller_computes() {
    let (clock, cache) = clocked();
    let cache = cache.ttl(10 * SECOND).stale_while_revalidate(60 * SECOND);
    let counted = Counted::new();
    assert_eq!(ask(&cache, &counted), "1");
    clock.advance(10 * SECOND);
    assert_eq!(cache.get::<String>("k").unwrap().unwrap(), "1", "stale");
    assert_eq!(cache.stats().stale_hits, 1);
    // While this caller computes, another one asks and gets the old value.
    let refreshed = cache.get_or_insert_with("k", || {
        thread::scope(|scope| {
            let other = scope.spawn(|| cache.get_or_insert_with("k", || Err::<String, _>("asked")));
            assert_eq!(other.join().unwrap().unwrap(), "1");
        });
        counted.next()
    });
    assert_eq!(refreshed.unwrap(), "2");
    assert_eq!((cache.stats().stale_hits, cache.stats().refreshes), (2, 1));
    assert_eq!(ask(&cache, &counted), "2");
    clock.advance(70 * SECOND);
    assert_eq!(cache.get::<String>("k").unwrap(), None, "gone");
}

#[test]
fn failed_refresh_returns_the_old_value_and_delays_the_next_attempt() {
    let (clock, cache) = clocked();
    let cache = cache.ttl(10 * SECOND).stale_while_revalidate(60 * SECOND);
    let counted = Counted::new();
    ask(&cache, &counted);
    clock.advance(10 * SECOND);
    let failing = || Err::<String, _>("the database is down");
    assert_eq!(cache.get_or_insert_with("k", failing).unwrap(), "1");
    assert_eq!((cache.stats().failures, cache.stats().refreshes), (1, 1));
    assert_eq!(ask(&cache, &counted), "1", "not yet");
    clock.advance(SECOND);
    assert_eq!(ask(&cache, &counted), "2");
}

#[test]
fn refresh_in_the_background_delays_no_caller() {
    let (clock, cache) = clocked();
    let cache = cache.ttl(10 * SECOND).stale_while_revalidate(60 * SECOND);
    cache
        .get_or_refresh_with("k", || Ok::<_, Never>("old".to_owned()))
        .unwrap();
    clock.advance(10 * SECOND);
    let (begun, has_begun) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let asked = cache.get_or_refresh_with("k", move || {
        begun.send(()).unwrap();
        may_go.recv().unwrap();
        Ok::<_, Never>("new".to_owned())
    });
    assert_eq!(asked.unwrap(), "old");
    has_begun.recv().unwrap();
    let unasked = || unreachable!("a computation is in progress");
    let asked = cache.get_or_refresh_with::<String, Never>("k", unasked);
    assert_eq!(asked.unwrap(), "old");
    go.send(()).unwrap();
    while cache.get::<String>("k").unwrap().unwrap() == "old" {
        thread::yield_now();
    }
    assert_eq!(cache.stats().computations.count, 2);
}

#[test]
fn value_is_refreshed_earlier_the_longer_it_takes_to_compute() {
    let (clock, cache) = clocked();
    let cache = cache.ttl(10 * SECOND);
    let slow = |text: &str| {
        let text = text.to_owned();
        move || {
            thread::sleep(Duration::from_millis(2));
            Ok::<_, Never>(text)
        }
    };
    cache.get_or_insert_with("k", slow("old")).unwrap();
    clock.advance(10 * SECOND - Duration::from_millis(1));
    // The value took about 2 ms and has 1 ms left. A beta of 1000 makes the refresh certain.
    let eager = cache.clone().early_refresh(1e3);
    assert_eq!(eager.get_or_insert_with("k", slow("new")).unwrap(), "new");
    let stats = cache.stats();
    assert_eq!((stats.refreshes, stats.stale_hits, stats.misses), (1, 0, 1));
}

#[test]
fn failure_is_remembered_only_with_a_negative_ttl() {
    let (clock, cache) = clocked();
    let failing = || Err::<String, _>("no such table");
    let asked = cache.get_or_insert_with("k", failing);
    assert!(matches!(asked, Err(CacheError::Compute("no such table"))));
    assert_eq!(
        cache
            .get_or_insert_with("k", || Ok::<_, Never>("1".to_owned()))
            .unwrap(),
        "1"
    );

    cache.invalidate("k").unwrap();
    let cache = cache.negative_ttl(SECOND);
    assert!(cache.get_or_insert_with("k", failing).is_err());
    let never = || -> Result<String, String> { unreachable!("it has failed a moment ago") };
    match cache.get_or_insert_with("k", never) {
        Err(CacheError::FailedRecently { message }) => assert_eq!(message, "no such table"),
        other => unreachable!("{other:?}"),
    }
    assert_eq!(cache.get::<String>("k").unwrap(), None);
    assert_eq!(cache.stats().failure_hits, 2);
    clock.advance(SECOND);
    assert!(
        cache
            .get_or_insert_with("k", || Ok::<_, Never>("1".to_owned()))
            .is_ok()
    );
}

#[test]
fn entry_of_another_version_or_type_is_a_miss_and_is_overwritten() {
    let (_, cache) = clocked();
    let new = cache.clone().version("2");
    cache.insert("k", &"old".to_owned()).unwrap();
    assert_eq!(new.get::<String>("k").unwrap(), None);
    let computed = new.get_or_insert_with("k", || Ok::<_, Never>("new".to_owned()));
    assert_eq!(computed.unwrap(), "new");
    assert_eq!(cache.get::<String>("k").unwrap(), None);
    assert_eq!(new.get::<Vec<u8>>("k").unwrap(), None, "it is text");
    let store = &cache.inner.store;
    // A thread enters the new version there.
    while store.fields(b"{cache}:versions").unwrap().is_empty() {
        thread::yield_now();
    }
    let removed = store.remove_prefix(b"").unwrap();
    assert_eq!(removed, 2, "one entry, the register, and no lease");
}

#[test]
fn bytes_that_are_not_an_entry_are_a_miss_and_are_overwritten() {
    let db = Db::in_memory().unwrap();
    let cache = Cache::options().over_db(db.clone()).unwrap();
    db.set("{cache:k}", "by hand").unwrap();
    db.hset("{cache:h}", "f", "v").unwrap();
    db.hset("{cache:i}", "f", "v").unwrap();
    assert!(cache.invalidate("i").unwrap());
    assert_eq!(db.key_type("{cache:i}").unwrap(), None);
    for key in ["k", "h"] {
        assert_eq!(cache.get::<String>(key).unwrap(), None);
        let computed = cache.get_or_insert_with(key, || Ok::<_, Never>("1".to_owned()));
        assert_eq!(computed.unwrap(), "1");
        assert_eq!(cache.get::<String>(key).unwrap().unwrap(), "1");
    }
}

#[test]
fn invalidated_tag_makes_stored_and_running_values_misses() {
    let (_, cache) = clocked();
    let users = cache.clone().tags(["users", "all"]);
    let others = cache.clone().tags(["all"]);
    let one = |text: &'static str| move || Ok::<_, Never>(text.to_owned());
    users.get_or_insert_with("u", one("1")).unwrap();
    others.get_or_insert_with("o", one("1")).unwrap();
    cache.invalidate_tag("users").unwrap();
    assert_eq!(cache.get::<String>("u").unwrap(), None);
    assert!(cache.get::<String>("o").unwrap().is_some());
    let computed = users.get_or_insert_with("u", || {
        cache.invalidate_tag("all").unwrap();
        Ok::<_, Never>("of before".to_owned())
    });
    assert_eq!(computed.unwrap(), "of before");
    assert_eq!(cache.get::<String>("u").unwrap(), None, "invariant 3");
    assert_eq!(cache.get::<String>("o").unwrap(), None);
    users.get_or_insert_with("u", one("2")).unwrap();
    assert_eq!(cache.get::<String>("u").unwrap().unwrap(), "2");
}

#[test]
fn stamp_of_a_tag_outlives_its_entries() {
    let (clock, cache) = clocked();
    let cache = cache.tags(["t"]);
    let long = cache.clone().ttl(100 * SECOND);
    cache
        .clone()
        .ttl(SECOND)
        .insert("short", &"1".to_owned())
        .unwrap();
    long.insert("long", &"1".to_owned()).unwrap();
    clock.advance(99 * SECOND);
    assert!(cache.get::<String>("long").unwrap().is_some());
    cache.insert("for ever", &"1".to_owned()).unwrap();
    clock.advance(10_000 * SECOND);
    assert!(cache.get::<String>("for ever").unwrap().is_some());
}

#[test]
fn computation_does_not_overwrite_an_invalidation_or_a_newer_value() {
    let (_, cache) = clocked();
    let computed = cache.get_or_insert_with("k", || {
        cache.invalidate("k").unwrap();
        Ok::<_, Never>("of before".to_owned())
    });
    assert_eq!(computed.unwrap(), "of before");
    assert_eq!(cache.get::<String>("k").unwrap(), None);
    let computed = cache.get_or_insert_with("k", || {
        cache.insert("k", &"by hand".to_owned()).unwrap();
        Ok::<_, Never>("of before".to_owned())
    });
    assert_eq!(computed.unwrap(), "of before");
    assert_eq!(cache.get::<String>("k").unwrap().unwrap(), "by hand");
    assert_eq!(cache.stats().not_stored, 2);
}

#[test]
fn caller_after_an_invalidation_does_not_get_the_value_of_before() {
    let (_, cache) = clocked();
    let (begun, has_begun) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let first = scope.spawn({
            let cache = cache.clone();
            move || {
                cache.get_or_insert_with("k", || {
                    begun.send(()).unwrap();
                    may_go.recv().unwrap();
                    Ok::<_, Never>("of before".to_owned())
                })
            }
        });
        has_begun.recv().unwrap();
        cache.invalidate("k").unwrap();
        let second =
            scope.spawn(|| cache.get_or_insert_with("k", || Ok::<_, Never>("new".to_owned())));
        while cache.stats().misses < 2 {
            thread::yield_now();
        }
        go.send(()).unwrap();
        assert_eq!(first.join().unwrap().unwrap(), "of before");
        assert_eq!(second.join().unwrap().unwrap(), "new");
    });
    assert_eq!(cache.get::<String>("k").unwrap().unwrap(), "new");
}

#[test]
fn waiting_thread_gets_a_value_that_cannot_be_stored() {
    let (_, cache) = clocked();
    let cache = cache.tags((0..65).map(|number| number.to_string()));
    let waiting = Cell::new(None);
    let asked = cache.get_or_insert_with("k", || {
        let board = || cache.inner.flights.board(b"{cache:k}");
        match thread::scope(|scope| scope.spawn(board).join()).unwrap() {
            flight::Boarding::Wait(other) => waiting.set(Some(other)),
            _ => unreachable!("this thread leads"),
        }
        Ok::<_, Never>("1".to_owned())
    });
    assert_eq!(asked.unwrap(), "1");
    match waiting
        .take()
        .unwrap()
        .wait(&mut Patience::new(Duration::MAX), false)
    {
        flight::Waited::Landed(landing) => assert!(landing.entry.unwrap().ends_with(b"1")),
        other => unreachable!("{other:?}"),
    }
    assert_eq!(cache.stats().not_stored, 1);
    let lease = cache.inner.store.get(b"{cache:k}:lease").unwrap();
    assert!(lease.is_none(), "it was given back");
}

#[test]
fn tagged_value_that_takes_longer_than_its_ttl_is_a_hit_until_it_expires() {
    let (clock, cache) = clocked();
    let cache = cache.ttl(SECOND).tags(["t"]);
    let stamps = cache.stamps().unwrap();
    clock.advance(60 * SECOND);
    let life = cache.life();
    let entry = cache
        .encode(&"1".to_owned(), SECOND, life, &stamps)
        .unwrap();
    let stored = store::Stored {
        key: b"{cache:k}",
        value: &entry,
        ttl: life.hard,
    };
    cache.inner.store.set(b"{cache:k}:lease", stored).unwrap();
    assert_eq!(cache.get::<String>("k").unwrap().unwrap(), "1");
}

#[test]
fn longest_ttl_is_stored() {
    let (_, cache) = clocked();
    let cache = cache
        .ttl(Duration::MAX)
        .stale_while_revalidate(Duration::MAX)
        .negative_ttl(Duration::MAX)
        .tags(["t"]);
    let counted = Counted::new();
    assert_eq!(ask(&cache, &counted), "1");
    assert_eq!(ask(&cache, &counted), "1");
    assert!(
        cache
            .get_or_insert_with("bad", || Err::<String, _>("no"))
            .is_err()
    );
    assert_eq!(cache.stats().not_stored, 0);
}

#[test]
fn removing_a_lease_by_prefix_removes_its_value() {
    let (_, cache) = clocked();
    cache
        .insert("k", &"stored since the lease was seen".to_owned())
        .unwrap();
    let store = &cache.inner.store;
    let acquired = store.acquire(b"{cache:k}:lease", b"owner").unwrap();
    assert_eq!(acquired, tokens::Acquired::Free);
    // A page that contains only the lease.
    store.remove_prefix(b"{cache:k}:lease").unwrap();
    assert_eq!(cache.get::<String>("k").unwrap(), None);
}

#[test]
fn prefix_removes_its_own_keys_and_nothing_else() {
    let db = Db::in_memory().unwrap();
    let cache = Cache::options().over_db(db.clone()).unwrap();
    let other = Cache::options()
        .namespace("other")
        .over_db(db.clone())
        .unwrap();
    for number in 0..1_000 {
        cache
            .insert(format!("user:{number}"), &"1".to_owned())
            .unwrap();
    }
    for cache in [&cache, &other] {
        cache.insert("users", &"1".to_owned()).unwrap();
    }
    db.set("user:7", "not the cache's").unwrap();
    assert_eq!(cache.invalidate_prefix("user:").unwrap(), 1_000);
    assert_eq!(cache.get::<String>("user:7").unwrap(), None);
    assert!(cache.get::<String>("users").unwrap().is_some());
    cache.clear().unwrap();
    assert_eq!(db.len().unwrap(), 2);
    assert!(other.get::<String>("users").unwrap().is_some());
}

#[test]
fn computation_may_ask_for_other_keys_and_for_its_own() {
    let (_, cache) = clocked();
    let one = || Ok::<_, CacheError<Never>>("1".to_owned());
    let computed = cache.get_or_insert_with("a", || {
        let b = cache.get_or_insert_with("b", || one().map_err(|error| error.to_string()));
        let own = cache.get_or_insert_with("a", || one().map_err(|error| error.to_string()));
        Ok::<_, Never>(format!("{} {}", b.unwrap(), own.unwrap()))
    });
    assert_eq!(computed.unwrap(), "1 1");
}

#[test]
fn panic_releases_the_lease() {
    let (_, cache) = clocked();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let computed: Result<String, CacheError<Never>> =
            cache.get_or_insert_with("k", || std::panic::resume_unwind(Box::new(())));
        computed
    }));
    assert!(panicked.is_err());
    let computed = cache.get_or_insert_with("k", || Ok::<_, Never>("1".to_owned()));
    assert_eq!(computed.unwrap(), "1");
    assert_eq!(cache.stats().waits.count, 0);
}

/// Opens two caches on one file, each with its own engine, as in two processes. The clock stands
/// still, so that a lease that is not renewed never lapses.
fn two_processes() -> (tempfile::TempDir, ManualClock, [Cache; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let clock = ManualClock::new(1_700_000_000_000);
    let caches = [(); 2].map(|()| {
        let options = Cache::options().strict(true).clock(clock.clone());
        options.open(&path).unwrap()
    });
    (directory, clock, caches)
}

fn value(text: &str) -> impl FnOnce() -> Result<String, Never> + use<'_> {
    move || Ok(text.to_owned())
}

/// Runs a call on another thread, since a thread that holds the lease does not wait for it.
fn elsewhere<R: Send>(call: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(call).join().unwrap())
}

/// A defect: the waiter acquired the lease of a slow owner, and the owner's value was discarded.
#[test]
fn slow_owner_keeps_its_lease_and_its_value_is_stored() {
    let (_directory, _, [slow, hasty]) = two_processes();
    let hasty = hasty.max_wait(Duration::ZERO);
    let computed = slow.get_or_insert_with("k", || {
        for number in 1..=3 {
            let computed = elsewhere(|| hasty.get_or_insert_with("k", value("hasty")));
            assert_eq!(computed.unwrap(), "hasty");
            let stats = hasty.stats();
            assert_eq!((stats.impatient, stats.not_stored), (number, number));
        }
        Ok::<_, Never>("slow".to_owned())
    });
    assert_eq!(computed.unwrap(), "slow");
    assert_eq!(slow.stats().not_stored, 0);
    assert_eq!(hasty.stats().takeovers, 0);
    for cache in [&slow, &hasty] {
        assert_eq!(cache.get::<String>("k").unwrap().unwrap(), "slow");
    }
}

#[test]
fn waiter_gets_an_error_after_max_wait_if_it_chose_one() {
    let (_directory, _, [slow, hasty]) = two_processes();
    let hasty = hasty.on_wait_timeout(WaitTimeout::Error);
    let unasked = || -> Result<String, Never> { unreachable!("another computes it") };
    let computed = slow.get_or_insert_with("k", || {
        for wait in [Duration::ZERO, Duration::from_millis(5)] {
            let hasty = hasty.clone().max_wait(wait);
            match elsewhere(|| hasty.get_or_insert_with("k", unasked)) {
                Err(CacheError::TimedOut { waited }) => assert!(waited >= wait),
                other => unreachable!("{other:?}"),
            }
        }
        // A thread of the owner's own process as well.
        thread::scope(|scope| {
            let same = slow.clone().max_wait(Duration::ZERO);
            let same = same.on_wait_timeout(WaitTimeout::Error);
            let asked = scope.spawn(move || same.get_or_insert_with("k", unasked));
            let asked = asked.join().unwrap();
            assert!(matches!(asked, Err(CacheError::TimedOut { .. })));
        });
        Ok::<_, Never>("slow".to_owned())
    });
    assert_eq!(computed.unwrap(), "slow");
    assert_eq!((slow.stats().timeouts, hasty.stats().timeouts), (1, 2));
    assert_eq!(hasty.stats().computations.count, 0);
    assert_eq!(hasty.get_or_insert_with("k", unasked).unwrap(), "slow");
}

/// A defect: all threads computed at once when their wait was over.
#[test]
fn threads_of_one_process_compute_once_without_a_limit_of_time() {
    const THREADS: u64 = 64;
    let (_directory, _, [cache, _]) = two_processes();
    let cache = cache.max_wait(Duration::ZERO);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let computed = cache.get_or_insert_with("k", || {
                    while cache.stats().misses < THREADS {
                        thread::yield_now();
                    }
                    thread::sleep(Duration::from_millis(20));
                    Ok::<_, Never>("1".to_owned())
                });
                assert_eq!(computed.unwrap(), "1");
            });
        }
    });
    let stats = cache.stats();
    assert_eq!((stats.computations.count, stats.not_stored), (1, 0));
}

/// The value is not stored, but one thread computes it, and the others wait for that thread.
#[test]
fn threads_that_time_out_on_another_process_compute_once() {
    const THREADS: u64 = 16;
    let (_directory, _, [slow, hasty]) = two_processes();
    let hasty = hasty.max_wait(Duration::from_millis(1));
    let computed = slow.get_or_insert_with("k", || {
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let computed = hasty.get_or_insert_with("k", || {
                        while hasty.stats().misses < THREADS {
                            thread::yield_now();
                        }
                        thread::sleep(Duration::from_millis(20));
                        Ok::<_, Never>("hasty".to_owned())
                    });
                    assert_eq!(computed.unwrap(), "hasty");
                });
            }
        });
        Ok::<_, Never>("slow".to_owned())
    });
    assert_eq!(computed.unwrap(), "slow");
    assert_eq!(hasty.stats().computations.count, 1);
    assert_eq!(hasty.get::<String>("k").unwrap().unwrap(), "slow");
}

#[test]
fn computations_that_ask_for_each_others_keys_end() {
    let (_directory, _, [cache, _]) = two_processes();
    let both_compute = crate::sync::Barrier::new(2);
    let ask = |own: &'static str, other: &'static str| {
        let computed = cache.get_or_insert_with(own, || {
            both_compute.wait();
            let inner = cache.get_or_insert_with(other, || Ok::<_, Never>("inner".to_owned()));
            Ok::<_, Never>(inner.unwrap())
        });
        computed.unwrap()
    };
    thread::scope(|scope| {
        let one = scope.spawn(|| ask("a", "b"));
        let other = scope.spawn(|| ask("b", "a"));
        assert_eq!(one.join().unwrap(), "inner");
        assert_eq!(other.join().unwrap(), "inner");
    });
}

/// Makes a cache act like a stopped process: it renews no lease while the store's clock advances.
fn stop(cache: &Cache, clock: &ManualClock) {
    cache.inner.keeper.forget_all();
    clock.advance(tokens::LEASE_TTL);
}

#[cfg(all(feature = "tracing", feature = "simulation"))]
#[test]
fn degraded_cache_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "no directory").unwrap();
    let path = file.join("cache.brasa");
    let seen = crate::events::tests::lines(|| {
        let cache = Cache::options().on_degraded(|_| {}).open(&path).unwrap();
        assert!(cache.degraded().is_some());
    });
    assert_eq!(
        seen.of("brasa::cache"),
        ["WARN cache degraded to=Memory reason"]
    );
}

#[cfg(all(feature = "tracing", feature = "simulation"))]
#[test]
fn takeover_of_a_lease_is_reported() {
    let (_directory, clock, [stopped, other]) = two_processes();
    let compute = || Ok::<_, Never>("value".to_owned());
    let seen = crate::events::tests::lines(|| {
        let computed = stopped.get_or_insert_with("k", || {
            stop(&stopped, &clock);
            other.get_or_insert_with("k", compute)
        });
        assert_eq!(computed.unwrap(), "value");
    });
    let expected = "WARN lease taken over lease={cache:k}:lease";
    assert_eq!(seen.of("brasa::cache"), [expected]);
}

#[test]
fn value_of_a_stopped_owner_is_stored_if_nothing_newer_is() {
    let (_directory, clock, [stopped, other]) = two_processes();
    let failing = || Err::<String, _>("down");
    let computed = stopped.get_or_insert_with("k", || {
        stop(&stopped, &clock);
        let failed = other.get_or_insert_with("k", failing);
        assert!(matches!(failed, Err(CacheError::Compute("down"))));
        Ok::<_, Never>("late".to_owned())
    });
    assert_eq!(computed.unwrap(), "late");
    assert_eq!(
        (other.stats().takeovers, stopped.stats().not_stored),
        (1, 0)
    );
    assert_eq!(other.get::<String>("k").unwrap().unwrap(), "late");

    // Also while the next owner computes. That owner's value replaces the late one.
    let computed = stopped.get_or_insert_with("both", || {
        stop(&stopped, &clock);
        Ok::<_, Never>("late".to_owned())
    });
    assert_eq!(computed.unwrap(), "late");
    other.invalidate("both").unwrap();
    let computed = stopped.get_or_insert_with("both", || {
        stop(&stopped, &clock);
        thread::scope(|scope| {
            let (begun, has_begun) = mpsc::channel();
            let (go, may_go) = mpsc::channel::<()>();
            let other = &other;
            let next = scope.spawn(move || {
                other.get_or_insert_with("both", || {
                    begun.send(()).unwrap();
                    may_go.recv().unwrap();
                    Ok::<_, Never>("next".to_owned())
                })
            });
            has_begun.recv().unwrap();
            go.send(()).unwrap();
            assert_eq!(next.join().unwrap().unwrap(), "next");
        });
        Ok::<_, Never>("late".to_owned())
    });
    assert_eq!(computed.unwrap(), "late");
    assert_eq!(stopped.stats().not_stored, 1, "there was a newer one");
    assert_eq!(other.get::<String>("both").unwrap().unwrap(), "next");
}

#[test]
fn value_of_a_stopped_owner_is_not_stored_after_an_invalidation() {
    let (_directory, clock, [stopped, other]) = two_processes();
    for takes_over in [false, true] {
        let computed = stopped.get_or_insert_with("k", || {
            stop(&stopped, &clock);
            if takes_over {
                assert!(
                    other
                        .get_or_insert_with("k", || Err::<String, _>("no"))
                        .is_err()
                );
            }
            other.invalidate("k").unwrap();
            Ok::<_, Never>("of before".to_owned())
        });
        assert_eq!(computed.unwrap(), "of before");
        assert_eq!(other.get::<String>("k").unwrap(), None);
    }
}

#[test]
fn jitter_only_shortens_a_ttl() {
    let (_, cache) = clocked();
    let cache = cache
        .ttl(100 * SECOND)
        .stale_while_revalidate(100 * SECOND)
        .jitter(0.5);
    let lives: Vec<Life> = (0..200).map(|_| cache.life()).collect();
    for life in &lives {
        let (soft, hard) = (life.soft.unwrap(), life.hard.unwrap());
        assert!(soft >= 49 * SECOND && soft <= 100 * SECOND, "{soft:?}");
        assert!(hard > soft && hard <= 200 * SECOND, "{hard:?}");
    }
    assert!(lives.iter().any(|life| life.soft.unwrap() < 60 * SECOND));
    assert!(lives.iter().any(|life| life.soft.unwrap() > 90 * SECOND));
}

#[test]
fn cache_in_memory_serves_many_threads_with_one_computation() {
    let (_, cache) = clocked();
    let (count, all) = (
        crate::sync::atomic::AtomicU32::new(0),
        crate::sync::Barrier::new(8),
    );
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                all.wait();
                let computed = cache.get_or_insert_with("k", || {
                    count.fetch_add(1, crate::sync::atomic::Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(20));
                    Ok::<_, Never>("1".to_owned())
                });
                assert_eq!(computed.unwrap(), "1");
            });
        }
    });
    let stats = cache.stats();
    assert_eq!(count.into_inner(), 1);
    assert_eq!(stats.computations.count, 1);
    assert_eq!(stats.hits + stats.misses, 8);
}

#[test]
fn entry_lives_for_at_least_a_millisecond() {
    let (_, cache) = clocked();
    assert_eq!(Life::brief(Duration::ZERO).hard, Some(SHORTEST_LIFE));
    assert_eq!(cache.ttl(Duration::ZERO).life().hard, Some(SHORTEST_LIFE));
}
