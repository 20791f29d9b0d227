//! The same tests over a file and in memory; `servers.rs` has them over Redis and a cluster.

mod support;

use brasa::{Cache, Db};
use support::conformance::TESTS;

#[test]
fn a_file_conforms() {
    for (number, (name, test)) in TESTS.iter().enumerate() {
        println!("{name}");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cache.brasa");
        let open = || Cache::options().strict(true).open(&path).unwrap();
        test(&open, &format!("{number}:"));
    }
}

#[test]
fn memory_conforms() {
    let db = Db::in_memory().unwrap();
    let open = || Cache::options().strict(true).over_db(db.clone()).unwrap();
    for (number, (name, test)) in TESTS.iter().enumerate() {
        println!("{name}");
        test(&open, &format!("{number}:"));
    }
}
