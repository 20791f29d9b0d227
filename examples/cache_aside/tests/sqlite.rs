//! A cache in front of the bundled SQLite; `servers.rs` does the same with MariaDB, Redis and a
//! cluster.

mod support;

use std::time::Duration;

use brasa::{Cache, ManualClock};
use cache_aside::database::Database;

const TTL: Duration = Duration::from_secs(10);

#[test]
fn expired_entry_is_selected_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sql.db");
    let database = Database::sqlite(path.to_str().unwrap()).unwrap();
    let clock = ManualClock::new(1_700_000_000_000);
    let options = Cache::options().strict(true).clock(clock.clone());
    let cache = options.open(directory.path().join("cache.brasa")).unwrap();
    support::works(&cache, &database, TTL, || clock.advance(TTL));
}

#[test]
fn database_error_is_returned_and_not_cached() {
    let database = Database::sqlite(":memory:").unwrap();
    let cache = Cache::in_memory().unwrap();
    let failed = cache.get_or_insert_with("k", || database.select_by_name("bash"));
    let error = failed.unwrap_err();
    assert!(error.to_string().contains("no such table"), "{error}");
    assert!(error.into_computed().is_some());
    database.fill(&support::rows()).unwrap();
    let found = cache.get_or_insert_with("k", || database.select_by_name("bash"));
    assert_eq!(found.unwrap().len(), 1, "the error was not cached");
}
