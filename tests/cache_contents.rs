//! A cache as a whole: its place, its size, its entries, and how its caller hears of a fallback.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use brasa::{Cache, CacheOptions, Db, DegradedTo, Error, ManualClock};

const START_MS: u64 = 1_700_000_000_000;
const SECOND: Duration = Duration::from_secs(1);

fn text(text: &str) -> String {
    text.to_owned()
}

fn clocked() -> (ManualClock, Cache) {
    let clock = ManualClock::new(START_MS);
    let cache = Cache::options().clock(clock.clone()).open_in_memory();
    (clock, cache.unwrap().early_refresh(0.0))
}

#[test]
fn usage_counts_entries_and_nothing_else() {
    let (clock, cache) = clocked();
    let view = cache.clone().version("2").tags(["users"]).ttl(10 * SECOND);
    let view = view.stale_while_revalidate(100 * SECOND);
    view.insert("a", &text("one")).unwrap();
    clock.advance(9 * SECOND);
    view.insert("b", &text("two")).unwrap();
    cache.insert("of no version", &text("three")).unwrap();
    cache
        .clone()
        .ttl(SECOND)
        .insert("brief", &text("four"))
        .unwrap();
    clock.advance(SECOND);
    let _ = view.get_or_insert_with("c", || {
        // While this runs there is a lease, which is no entry.
        assert_eq!(cache.len().unwrap(), 3);
        Ok::<_, Error>(text("five"))
    });
    let usage = view.usage().unwrap();
    assert_eq!((usage.entries, usage.entries_of_this_version), (4, 3));
    assert_eq!((usage.stale, usage.expired), (1, 1));
    let oldest = usage.oldest.unwrap().duration_since(std::time::UNIX_EPOCH);
    assert_eq!(oldest.unwrap().as_millis(), u128::from(START_MS));
    assert!(usage.bytes > 4 * 48 && usage.bytes < 4 * 128, "{usage:?}");
    cache.clear().unwrap();
    assert!(cache.is_empty().unwrap());
    assert_eq!(cache.usage().unwrap().oldest, None);
}

#[test]
fn other_keys_of_a_shared_file_are_no_entries() {
    let db = Db::in_memory().unwrap();
    db.set("{cache:k}", "no entry").unwrap();
    db.hset("{cache:h}", "f", "no entry").unwrap();
    db.set("elsewhere", "1").unwrap();
    let other = Cache::options()
        .namespace("other")
        .over_db(db.clone())
        .unwrap();
    other.insert("k", &text("of another namespace")).unwrap();
    let cache = Cache::options().over_db(db).unwrap();
    assert_eq!(cache.len().unwrap(), 0);
    assert_eq!(cache.iter::<String>().unwrap().count(), 0);
    cache.insert("k", &text("1")).unwrap();
    assert_eq!((cache.len().unwrap(), other.len().unwrap()), (1, 1));
}

#[test]
fn iteration_returns_keys_and_values_of_one_type_and_version() {
    let (_, cache) = clocked();
    for number in 0..600 {
        cache
            .insert(format!("{{{number}}}"), &number.to_string())
            .unwrap();
    }
    cache.insert("bytes", &vec![1_u8]).unwrap();
    cache
        .clone()
        .version("2")
        .insert("two", &text("2"))
        .unwrap();
    let entries = cache.iter::<String>().unwrap().map(Result::unwrap);
    let mut numbers: Vec<u32> = entries
        .map(|(key, value)| {
            assert_eq!(key, format!("{{{value}}}").as_bytes());
            value.parse().unwrap()
        })
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..600));
    let bytes = cache.iter::<Vec<u8>>().unwrap().map(Result::unwrap);
    assert_eq!(bytes.collect::<Vec<_>>(), [(b"bytes".to_vec(), vec![1])]);
}

#[test]
fn removed_value_is_returned_and_contained_no_more() {
    let (_, cache) = clocked();
    cache.insert("k", &text("1")).unwrap();
    assert!(cache.contains::<String>("k").unwrap());
    assert!(!cache.contains::<Vec<u8>>("k").unwrap(), "of another type");
    assert_eq!(
        cache.remove::<Vec<u8>>("k").unwrap(),
        None,
        "of another type"
    );
    assert_eq!(cache.len().unwrap(), 0, "it is removed all the same");
    cache.insert("k", &text("1")).unwrap();
    assert_eq!(cache.remove::<String>("k").unwrap().as_deref(), Some("1"));
    assert!(!cache.contains::<String>("k").unwrap());
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses), (0, 0), "these are no lookups");
}

#[test]
fn value_decides_its_own_ttl() {
    let (clock, cache) = clocked();
    let cache = cache.ttl(100 * SECOND);
    let get = |seconds: u32| {
        let computed = cache.get_or_insert_for("k", || {
            Ok::<_, Error>((seconds.to_string(), seconds * SECOND))
        });
        computed.unwrap()
    };
    assert_eq!(get(5), "5");
    clock.advance(5 * SECOND - Duration::from_millis(1));
    assert_eq!(get(200), "5");
    clock.advance(Duration::from_millis(1));
    assert_eq!(get(200), "200");
    clock.advance(199 * SECOND);
    assert_eq!(get(1), "200", "longer than the view's TTL");
    clock.advance(SECOND);
    assert_eq!(get(1), "1");
}

#[test]
fn infallible_computation_gets_its_value_from_a_cache_that_fails() {
    let (_directory, path) = {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.brasa");
        (directory, path)
    };
    let cache = Cache::options().strict(true).open(&path).unwrap();
    assert_eq!(cache.get_with("k", || text("1")), "1");
    assert_eq!(cache.get_with("k", || text("2")), "1");
    // The value does not fit: a strict cache reports that.
    let tiny = Cache::options()
        .strict(true)
        .max_bytes(200)
        .open_in_memory();
    let tiny = tiny.unwrap();
    let large = || "x".repeat(10_000);
    assert!(
        tiny.get_or_insert_with("k", || Ok::<_, Error>(large()))
            .is_err()
    );
    assert_eq!(tiny.get_with("k", large), large());
}

#[test]
fn names_that_would_leave_the_cache_directory_are_refused() {
    for name in ["", ".", "..", "a/b", "/tmp", "a\\b", "a\0b"] {
        let refused = Cache::for_app(name);
        assert!(matches!(refused, Err(Error::Encoding { .. })), "{name:?}");
    }
}

/// The part of the tests below that runs in a process of its own: it has another environment.
#[test]
fn cache_of_an_application() {
    if std::env::var_os("BRASA_TEST_APP").is_none() {
        return;
    }
    for _ in 0..2 {
        let cache = Cache::for_app("tool").unwrap();
        let _ = cache.get_or_insert_with("k", || Ok::<_, Error>(text("1")));
        println!("at {:?}", cache.path());
    }
}

fn in_process(environment: &[(&str, &Path)]) -> (String, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "cache_of_an_application", "--nocapture"])
        .env("BRASA_TEST_APP", "1")
        .env_remove("XDG_CACHE_HOME")
        .env_remove("HOME")
        .stdin(Stdio::null());
    for (name, value) in environment {
        command.env(name, value);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[cfg(target_os = "linux")]
#[test]
fn application_has_its_file_in_the_cache_directory_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let xdg = home.path().join("xdg");
    let places = [
        (vec![("HOME", home.path())], home.path().join(".cache")),
        (
            vec![("HOME", home.path()), ("XDG_CACHE_HOME", &*xdg)],
            xdg.clone(),
        ),
    ];
    for (environment, directory) in places {
        let (said, errors) = in_process(&environment);
        let path = directory.join("tool/cache.brasa");
        assert_eq!(said.matches(&format!("{path:?}")).count(), 2, "{said}");
        assert_eq!(errors, "");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(mode(&path), 0o600);
        assert_eq!(Cache::open(&path).unwrap().len().unwrap(), 1);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn fallback_is_reported_once_on_standard_error() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(home.path().join(".cache/tool/cache.brasa")).unwrap();
    let (said, errors) = in_process(&[("HOME", home.path())]);
    assert_eq!(said.matches("at None").count(), 2, "{said}");
    let line = "brasa: the cache is in memory, until the program ends: ";
    assert_eq!(errors.matches(line).count(), 1, "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

#[test]
fn listener_hears_of_a_fallback_in_place_of_standard_error() {
    let directory = tempfile::tempdir().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listening = || -> CacheOptions {
        let heard = Arc::clone(&heard);
        Cache::options().on_degraded(move |degraded| heard.lock().unwrap().push(degraded.clone()))
    };
    listening().open(directory.path().join("c.brasa")).unwrap();
    assert!(heard.lock().unwrap().is_empty(), "nothing is degraded");
    let cache = listening().open(directory.path()).unwrap();
    let heard = std::mem::take(&mut *heard.lock().unwrap());
    assert_eq!(heard, [cache.degraded().unwrap().clone()]);
    assert_eq!(heard[0].to, DegradedTo::Memory);
}
