//! Caches in a file, in Redis and in a cluster in front of MariaDB. `tests/clients/run` starts the
//! servers; by hand, with servers whose contents may be removed:
//!
//! ```sh
//! BRASA_TEST_REDIS_URL=redis://127.0.0.1:6379/ \
//!     BRASA_TEST_CLUSTER_URL=redis+cluster://127.0.0.1:7000/ \
//!     DATABASE_URL=mysql://root@127.0.0.1:3306/test \
//!     cargo test --features redis --test servers
//! ```

mod support;

use std::time::Duration;

use brasa::Cache;
use cache_aside::database::Database;

fn url(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("set {variable}, see the top of this file"))
}

#[test]
fn expired_entry_is_selected_again() {
    const TTL: Duration = Duration::from_millis(1_500);
    let database = Database::mysql(&url("DATABASE_URL")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cache.brasa");
    let file = file.to_str().unwrap().to_owned();
    for place in [
        file,
        url("BRASA_TEST_REDIS_URL"),
        url("BRASA_TEST_CLUSTER_URL"),
    ] {
        println!("{place}");
        let options = Cache::options()
            .strict(true)
            .namespace(format!("aside-{}", std::process::id()));
        let cache = options
            .timeout(Duration::from_secs(30))
            .open(&place)
            .unwrap();
        let expire = || std::thread::sleep(TTL + Duration::from_millis(50));
        support::works(&cache, &database, TTL, expire);
    }
}
