//! The check that every database and every cache must pass.

use std::thread;
use std::time::Duration;

use brasa::Cache;

use cache_aside::database::{Database, Package};

pub fn rows() -> Vec<Package> {
    let row = |name: &str, architecture: &str| Package {
        name: name.to_owned(),
        architecture: architecture.to_owned(),
        version: "1.0".to_owned(),
        summary: "açúcar 🔥".to_owned(),
    };
    vec![
        row("bash", "amd64"),
        row("libc6", "amd64"),
        row("libc6", "i386"),
    ]
}

/// Looks in the cache, selects and stores on a miss, and selects again after the deadline.
/// `expire` moves the clock beyond `ttl`.
pub fn works(cache: &Cache, database: &Database, ttl: Duration, expire: impl Fn()) {
    database.fill(&rows()).unwrap();
    cache.clear().unwrap();
    let cache = cache.clone().ttl(ttl).early_refresh(0.0);
    let before = database.select_count();
    let selects = || database.select_count() - before;
    let ask = |name: &str| {
        cache
            .get_or_insert_with(format!("package:{name}"), || database.select_by_name(name))
            .unwrap()
    };
    assert_eq!(ask("libc6"), rows()[1..]);
    assert_eq!(ask("libc6"), rows()[1..]);
    assert_eq!(selects(), 1, "the second call is a hit");
    assert_eq!(ask("nobody"), []);
    assert_eq!(ask("nobody"), []);
    assert_eq!(selects(), 2, "an empty result is cached, too");
    database.update_version("libc6", "2.0").unwrap();
    assert_eq!(ask("libc6")[0].version, "1.0", "the entry has not expired");
    expire();
    assert_eq!(ask("libc6")[0].version, "2.0");
    assert_eq!(selects(), 3);
    database.update_version("libc6", "3.0").unwrap();
    cache.invalidate("package:libc6").unwrap();
    assert_eq!(
        ask("libc6")[1].version,
        "3.0",
        "the writer invalidated the entry"
    );
    cache.invalidate_prefix("package:").unwrap();
    let before = database.select_count();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(ask("bash"), rows()[..1]));
        }
    });
    assert_eq!(
        database.select_count() - before,
        1,
        "eight threads, one select"
    );
    cache.clear().unwrap();
}
