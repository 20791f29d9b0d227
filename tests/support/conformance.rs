//! What a cache must do wherever its entries are. Each test is given a way to open another handle on one place, and a key prefix of its
//! own; nothing here moves a clock, since a server has none that can be moved.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use brasa::{Cache, CacheError, Value, WaitTimeout};

type Never = std::convert::Infallible;

/// A test, by its name.
pub type Test = (&'static str, fn(&dyn Fn() -> Cache, &str));

pub const TESTS: [Test; 11] = [
    ("what is inserted is found by every handle", inserts),
    ("a value is computed once and found after", computes_once),
    ("a time to live ends", ends),
    ("threads of two handles compute once", serves_threads),
    ("another type or version is a miss", tells_apart),
    ("a tag takes away what has it", invalidates_by_tag),
    (
        "a prefix takes its own and nothing else",
        invalidates_by_prefix,
    ),
    (
        "what is invalidated meanwhile is not stored",
        drops_the_late,
    ),
    ("a lease that is renewed is kept", keeps_the_lease),
    ("failures and stale values", survives_failures),
    // The last, since it takes away what the others have left.
    ("what another version has left is reclaimed", reclaims),
];

fn computed(text: &str) -> impl FnOnce() -> Result<String, Never> + use<> {
    let text = text.to_owned();
    move || Ok(text)
}

/// Looks until it is so; who waits in vain is ended by whoever runs the tests.
fn until(what: impl Fn() -> bool) {
    while !what() {
        thread::sleep(Duration::from_millis(2));
    }
}

fn inserts(open: &dyn Fn() -> Cache, prefix: &str) {
    let (one, other) = (open(), open());
    let long = "k".repeat(2_000);
    for key in ["", "}", "{", "a}b", "chave de açúcar", "*?[x]", &long] {
        let key = format!("{prefix}{key}");
        assert_eq!(one.get::<Value>(&key).unwrap(), None);
        one.insert(&key, &b"\0\xff\r\n".to_vec()).unwrap();
        assert_eq!(other.get::<Value>(&key).unwrap().unwrap(), b"\0\xff\r\n");
        assert!(other.invalidate(&key).unwrap());
        assert!(!other.invalidate(&key).unwrap());
        assert_eq!(one.get::<Value>(&key).unwrap(), None, "{key:?}");
    }
    let large = vec![7_u8; 3 << 20];
    one.insert(prefix, &large).unwrap();
    assert_eq!(other.get::<Vec<u8>>(prefix).unwrap().unwrap(), large);
}

fn computes_once(open: &dyn Fn() -> Cache, prefix: &str) {
    let (one, other) = (open(), open());
    let calls = Cell::new(0);
    let ask = |cache: &Cache| {
        let value = cache.get_or_insert_with(format!("{prefix}k"), || {
            calls.set(calls.get() + 1);
            Ok::<_, Never>("1".to_owned())
        });
        value.unwrap()
    };
    for cache in [&one, &other, &one] {
        assert_eq!(ask(cache), "1");
    }
    assert_eq!(calls.get(), 1);
    assert_eq!((one.stats().hits, one.stats().misses), (1, 1));
    assert_eq!((other.stats().hits, other.stats().misses), (1, 0));
    let nested = one.get_or_insert_with(format!("{prefix}outer"), || {
        one.get_or_insert_with(format!("{prefix}inner"), computed("2"))
    });
    assert_eq!(nested.unwrap(), "2");
}

fn ends(open: &dyn Fn() -> Cache, prefix: &str) {
    let cache = open().early_refresh(0.0);
    let key = format!("{prefix}k");
    let brief = cache.clone().ttl(Duration::from_millis(60));
    brief.insert(&key, &"brief".to_owned()).unwrap();
    cache
        .insert(format!("{prefix}long"), &"long".to_owned())
        .unwrap();
    until(|| cache.get::<String>(&key).unwrap().is_none());
    assert_eq!(
        cache.get_or_insert_with(&key, computed("new")).unwrap(),
        "new"
    );
    assert!(
        cache
            .get::<String>(format!("{prefix}long"))
            .unwrap()
            .is_some()
    );
}

fn serves_threads(open: &dyn Fn() -> Cache, prefix: &str) {
    let caches = [open(), open()];
    let calls = AtomicU32::new(0);
    thread::scope(|scope| {
        for number in 0..16 {
            let (cache, calls) = (&caches[number % 2], &calls);
            scope.spawn(move || {
                let value = cache.get_or_insert_with(format!("{prefix}k"), || {
                    calls.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(50));
                    Ok::<_, Never>("1".to_owned())
                });
                assert_eq!(value.unwrap(), "1");
            });
        }
    });
    assert_eq!(calls.into_inner(), 1);
}

fn tells_apart(open: &dyn Fn() -> Cache, prefix: &str) {
    let (old, new) = (open().version("1"), open().version("2"));
    old.insert(prefix, &"old".to_owned()).unwrap();
    assert_eq!(new.get::<String>(prefix).unwrap(), None);
    assert_eq!(old.get::<Vec<u8>>(prefix).unwrap(), None);
    assert_eq!(
        new.get_or_insert_with(prefix, computed("new")).unwrap(),
        "new"
    );
    assert_eq!(old.get::<String>(prefix).unwrap(), None);
}

fn invalidates_by_tag(open: &dyn Fn() -> Cache, prefix: &str) {
    let (one, other) = (open(), open());
    let tag = format!("{prefix}tag");
    let tagged = one.clone().tags([&tag]).ttl(Duration::from_secs(60));
    for number in 0..10 {
        tagged
            .insert(format!("{prefix}{number}"), &"1".to_owned())
            .unwrap();
    }
    one.insert(format!("{prefix}untagged"), &"1".to_owned())
        .unwrap();
    assert!(other.get::<String>(format!("{prefix}7")).unwrap().is_some());
    other.invalidate_tag(&tag).unwrap();
    for number in 0..10 {
        let found = one.get::<String>(format!("{prefix}{number}"));
        assert_eq!(found.unwrap(), None);
    }
    assert!(
        one.get::<String>(format!("{prefix}untagged"))
            .unwrap()
            .is_some()
    );
    let late = tagged.get_or_insert_with(format!("{prefix}7"), || {
        other.invalidate_tag(&tag).unwrap();
        Ok::<_, Never>("of before".to_owned())
    });
    assert_eq!(late.unwrap(), "of before");
    assert_eq!(one.get::<String>(format!("{prefix}7")).unwrap(), None);
    tagged
        .insert(format!("{prefix}7"), &"2".to_owned())
        .unwrap();
    assert_eq!(
        other.get::<String>(format!("{prefix}7")).unwrap().unwrap(),
        "2"
    );
}

fn reclaims(open: &dyn Fn() -> Cache, prefix: &str) {
    let (old, new) = (open().version("1"), open().version("2"));
    for number in 0..300 {
        let key = format!("{prefix}{number}");
        old.insert(key, &"old".to_owned()).unwrap();
    }
    let (seven, eight) = (format!("{prefix}7"), format!("{prefix}8"));
    new.insert(&seven, &"new".to_owned()).unwrap();
    assert!(new.reclaim().unwrap() >= 299);
    assert_eq!(old.get::<String>(&eight).unwrap(), None);
    assert_eq!(new.get::<String>(&seven).unwrap().unwrap(), "new");
    assert_eq!(new.reclaim().unwrap(), 0);
}

fn invalidates_by_prefix(open: &dyn Fn() -> Cache, prefix: &str) {
    let (one, other) = (open(), open());
    for number in 0..300 {
        one.insert(format!("{prefix}a*{number}"), &"1".to_owned())
            .unwrap();
    }
    one.insert(format!("{prefix}ab"), &"1".to_owned()).unwrap();
    assert_eq!(other.invalidate_prefix(format!("{prefix}a*")).unwrap(), 300);
    assert_eq!(one.get::<String>(format!("{prefix}a*7")).unwrap(), None);
    assert!(one.get::<String>(format!("{prefix}ab")).unwrap().is_some());
}

fn drops_the_late(open: &dyn Fn() -> Cache, prefix: &str) {
    let (one, other) = (open(), open());
    let late = one.get_or_insert_with(prefix, || {
        other.invalidate(prefix).unwrap();
        Ok::<_, Never>("of before".to_owned())
    });
    assert_eq!(late.unwrap(), "of before");
    assert_eq!(other.get::<String>(prefix).unwrap(), None);
    let late = one.get_or_insert_with(prefix, || {
        other.insert(prefix, &"by hand".to_owned()).unwrap();
        Ok::<_, Never>("of before".to_owned())
    });
    assert_eq!(late.unwrap(), "of before");
    assert_eq!(other.get::<String>(prefix).unwrap().unwrap(), "by hand");
}

/// A slow owner keeps its lease for as long as it renews it.
fn keeps_the_lease(open: &dyn Fn() -> Cache, prefix: &str) {
    let (one, other) = (open(), open());
    let hasty = other.clone().max_wait(Duration::from_millis(50));
    let slow = one.get_or_insert_with(prefix, || {
        // Longer than an owner keeps it that does not renew it.
        for _ in 0..15 {
            let alone = hasty.get_or_insert_with(prefix, computed("hasty"));
            assert_eq!(alone.unwrap(), "hasty");
        }
        let choosy = hasty.clone().on_wait_timeout(WaitTimeout::Error);
        let refused = choosy.get_or_insert_with(prefix, computed("never"));
        assert!(matches!(refused, Err(CacheError::TimedOut { .. })));
        Ok::<_, Never>("slow".to_owned())
    });
    assert_eq!(slow.unwrap(), "slow");
    assert_eq!(other.get::<String>(prefix).unwrap().unwrap(), "slow");
    assert_eq!((other.stats().takeovers, one.stats().not_stored), (0, 0));
    // What fails gives the lease back at once.
    let key = format!("{prefix}failing");
    assert!(
        one.get_or_insert_with(&key, || Err::<String, _>("no"))
            .is_err()
    );
    let next = hasty.get_or_insert_with(&key, computed("next"));
    assert_eq!(next.unwrap(), "next");
    assert_eq!(one.get::<String>(&key).unwrap().unwrap(), "next");
}

fn survives_failures(open: &dyn Fn() -> Cache, prefix: &str) {
    let cache = open().early_refresh(0.0);
    let key = format!("{prefix}k");
    let failing = || Err::<String, _>("down");
    assert!(matches!(
        cache.get_or_insert_with(&key, failing),
        Err(CacheError::Compute("down"))
    ));
    assert_eq!(cache.get_or_insert_with(&key, computed("1")).unwrap(), "1");
    let remembering = cache.clone().negative_ttl(Duration::from_secs(60));
    let other = format!("{prefix}failed");
    assert!(remembering.get_or_insert_with(&other, failing).is_err());
    match open().get_or_insert_with(&other, computed("it is not asked")) {
        Err(CacheError::FailedRecently { message }) => assert_eq!(message, "down"),
        found => panic!("{found:?}"),
    }
    let stale = cache
        .clone()
        .ttl(Duration::ZERO)
        .stale_while_revalidate(Duration::from_secs(60));
    stale.insert(&key, &"old".to_owned()).unwrap();
    assert_eq!(stale.get_or_insert_with(&key, failing).unwrap(), "old");
    let elsewhere = |cache: &Cache| {
        let asked = cache.get_or_refresh_with(&key, computed("new"));
        asked.unwrap()
    };
    // The failure has left its lease for half a second.
    let fresh = cache.ttl(Duration::from_secs(60));
    until(|| elsewhere(&fresh) == "new");
    assert_eq!(fresh.stats().failures, 3, "two before, and one refresh");
}
