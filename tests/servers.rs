//! What needs servers: the cache over Redis and a Redis Cluster. It is no part of `cargo test`; `tests/clients/run` starts the
//! servers and runs it, and so does, with URLs of servers of which everything is removed,
//!
//! ```sh
//! BRASA_TEST_REDIS_URL=redis://127.0.0.1:6379/ BRASA_TEST_CLUSTER_URL=redis+cluster://127.0.0.1:7000/ \
//!     cargo test --all-features --test servers
//! ```

mod support;

use std::time::Duration;

use brasa::{Cache, DegradedTo, Error};
use support::conformance::TESTS;
use support::stampede::{self, Place};

const SERVER: &str = "BRASA_TEST_REDIS_URL";
const CLUSTER: &str = "BRASA_TEST_CLUSTER_URL";

fn url(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("set {variable}, see the top of this file"))
}

/// A namespace of this test and run, so that tests do not meet.
fn open(url: &str, namespace: &str) -> Cache {
    let namespace = format!("{namespace}-{}", std::process::id());
    let options = Cache::options().strict(true).namespace(namespace);
    options.timeout(Duration::from_secs(30)).open(url).unwrap()
}

fn conforms(variable: &str) {
    let url = url(variable);
    let cache = open(&url, "conformance");
    cache.clear().unwrap();
    for (number, (name, test)) in TESTS.iter().enumerate() {
        println!("{name}");
        test(&|| open(&url, "conformance"), &format!("{number}:"));
    }
    cache.clear().unwrap();
    assert_eq!(cache.invalidate_prefix("").unwrap(), 0, "something is left");
}

#[test]
fn a_server_conforms() {
    conforms(SERVER);
}

#[test]
fn a_cluster_conforms() {
    conforms(CLUSTER);
}

#[test]
fn what_a_worker_does() {
    stampede::what_a_worker_does();
}

/// One after another, since they use one key.
fn stampedes(variable: &str) {
    let directory = tempfile::tempdir().unwrap();
    let tests: [(&str, fn(&Place)); 4] = [
        (
            "missing",
            stampede::sixty_four_threads_of_eight_processes_miss_a_key_and_one_computes,
        ),
        (
            "killed",
            stampede::an_owner_that_is_killed_in_the_middle_costs_one_more_computation,
        ),
        (
            "stopped",
            stampede::an_owner_that_is_stopped_is_taken_over_and_overwrites_nothing_later,
        ),
        (
            "stale",
            stampede::where_there_is_a_stale_value_nobody_waits_and_one_computes,
        ),
    ];
    for (name, test) in tests {
        println!("{name}");
        let place = Place {
            cache: url(variable),
            journal: directory.path().join(name),
        };
        let options = Cache::options().strict(true);
        options.open(&place.cache).unwrap().invalidate("k").unwrap();
        test(&place);
    }
}

#[test]
fn a_server_serves_a_stampede_with_one_computation() {
    stampedes(SERVER);
}

#[test]
fn a_cluster_serves_a_stampede_with_one_computation() {
    stampedes(CLUSTER);
}

#[test]
fn a_database_of_a_server_is_its_own() {
    let url = url(SERVER);
    let [one, other] = [1, 2].map(|number| {
        let url = format!("{}/{number}", url.trim_end_matches('/'));
        open(&url, "database")
    });
    one.insert("k", &"1".to_owned()).unwrap();
    assert_eq!(other.get::<String>("k").unwrap(), None);
    one.clear().unwrap();
}

#[test]
fn a_key_of_another_kind_is_a_miss() {
    let url = url(SERVER);
    let cache = open(&url, "kinds");
    let name = format!("{{kinds-{}:k}}", std::process::id());
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    let mut push = redis::cmd("RPUSH");
    push.arg(&name).arg("1").exec(&mut connection).unwrap();
    assert_eq!(cache.get::<String>("k").unwrap(), None);
    let computed = cache.get_or_insert_with("k", || Ok::<_, Error>("1".to_owned()));
    assert_eq!(computed.unwrap(), "1");
    assert_eq!(cache.get::<String>("k").unwrap().unwrap(), "1");
    cache.clear().unwrap();
}

#[test]
fn connections_that_the_server_has_closed_are_made_anew() {
    let url = url(SERVER);
    let cache = open(&url, "closed");
    cache.insert("k", &"1".to_owned()).unwrap();
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL")
        .arg("TYPE")
        .arg("normal")
        .arg("SKIPME")
        .arg("yes");
    kill.exec(&mut connection).unwrap();
    assert_eq!(cache.get::<String>("k").unwrap().unwrap(), "1");
    cache.clear().unwrap();
}

#[test]
fn a_server_that_is_not_there_makes_a_cache_in_memory() {
    let cache = Cache::open("redis://127.0.0.1:1/").unwrap();
    assert_eq!(cache.degraded().unwrap().to, DegradedTo::Memory);
    cache.insert("k", &"1".to_owned()).unwrap();
    assert_eq!(cache.get::<String>("k").unwrap().unwrap(), "1");
    let refused = Cache::options().strict(true).open("redis://127.0.0.1:1/");
    assert!(matches!(refused, Err(Error::Remote { .. })));
}
