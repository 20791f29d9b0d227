//! The cache as its users see it: the user's repository class, a cache that cannot have its file, typed values, memoized functions.

use std::cell::Cell;
use std::fmt::Display;
use std::time::Duration;

use brasa::{Cache, CacheError, Db, DegradedTo, Error, Fallback, ManualClock, SetOptions, Value};

type Never = std::convert::Infallible;

/// The repository class of the user's story, over a connection.
struct Repository {
    connection: Db,
}

impl Repository {
    fn insert(&self, key: &str, value: impl Display) -> brasa::Result<()> {
        self.connection.set(key, value.to_string())
    }

    fn get(&self, key: &str) -> brasa::Result<Option<String>> {
        let found = self.connection.get(key)?;
        Ok(found.map(|value| value.to_str().unwrap().to_owned()))
    }

    fn insert_hash(&self, key: &str, field: &str, value: impl Display) -> brasa::Result<()> {
        self.connection
            .hset(key, field, value.to_string())
            .map(drop)
    }

    fn get_hash(&self, key: &str, field: &str) -> brasa::Result<Option<String>> {
        let found = self.connection.hget(key, field)?;
        Ok(found.map(|value| value.to_str().unwrap().to_owned()))
    }

    fn insert_ex(&self, key: &str, value: impl Display, ex: u64) -> brasa::Result<()> {
        let options = SetOptions::new().ttl(Duration::from_secs(ex));
        let set = self.connection.set_with(key, value.to_string(), options);
        set.map(drop)
    }

    fn insert_hash_ex(
        &self,
        key: &str,
        field: &str,
        value: impl Display,
        ex: u64,
    ) -> brasa::Result<()> {
        self.insert_hash(key, field, value)?;
        self.connection
            .expire(key, Duration::from_secs(ex))
            .map(drop)
    }
}

#[test]
fn the_repository_of_the_story_works() {
    let clock = ManualClock::new(1_700_000_000_000);
    let connection = Db::options().clock(clock.clone()).open_in_memory().unwrap();
    let repository = Repository { connection };
    repository.insert("chave_1", "Relou Uourdi").unwrap();
    assert_eq!(repository.get("chave_1").unwrap().unwrap(), "Relou Uourdi");
    repository.insert("pi", 3.21).unwrap();
    assert_eq!(repository.get("pi").unwrap().unwrap(), "3.21");
    repository
        .insert_hash("meu_hash", "nome", "thailan")
        .unwrap();
    repository.insert_hash("meu_hash", "idade", 29).unwrap();
    assert_eq!(
        repository.get_hash("meu_hash", "idade").unwrap().unwrap(),
        "29"
    );
    assert_eq!(repository.get_hash("meu_hash", "city").unwrap(), None);
    repository.insert_ex("breve", "1", 10).unwrap();
    repository
        .insert_hash_ex("breve_hash", "f", "1", 30)
        .unwrap();
    clock.advance(Duration::from_secs(10));
    assert_eq!(repository.get("breve").unwrap(), None);
    repository.insert_hash("breve_hash", "g", "2").unwrap();
    clock.advance(Duration::from_secs(20));
    assert_eq!(
        repository.get_hash("breve_hash", "g").unwrap(),
        None,
        "the whole hash is gone"
    );
    assert_eq!(repository.get("chave_1").unwrap().unwrap(), "Relou Uourdi");
}

/// Asks a cache that is not what was wanted: it computes once all the same.
fn works_in_this_process(cache: &Cache) {
    let calls = Cell::new(0);
    for _ in 0..2 {
        let value = cache.get_or_insert_with("k", || {
            calls.set(calls.get() + 1);
            Ok::<_, Never>("1".to_owned())
        });
        assert_eq!(value.unwrap(), "1");
    }
    assert_eq!(calls.get(), 1);
}

fn is_in_memory(cache: &Cache, why: &str) {
    let degraded = cache.degraded().expect("it is degraded");
    assert_eq!(degraded.to, DegradedTo::Memory);
    assert!(degraded.reason.contains(why), "{}", degraded.reason);
    works_in_this_process(cache);
}

#[test]
fn a_missing_directory_is_made_and_a_tilde_is_the_home() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b/cache.brasa");
    let cache = Cache::options().strict(true).open(&path).unwrap();
    assert_eq!(cache.degraded(), None);
    works_in_this_process(&cache);
    let Some(home) = std::env::var_os("HOME") else {
        panic!("this test needs a home");
    };
    let below = tempfile::tempdir_in(&home).unwrap();
    let name = below.path().file_name().unwrap().to_str().unwrap();
    let cache = Cache::options().strict(true);
    let cache = cache.open(format!("~/{name}/cache.brasa")).unwrap();
    works_in_this_process(&cache);
    assert!(below.path().join("cache.brasa").exists());
}

#[test]
fn a_place_that_is_none_for_a_file_makes_a_cache_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "not a database").unwrap();
    is_in_memory(&Cache::open(&file).unwrap(), "not a brasa file");
    assert_eq!(std::fs::read(&file).unwrap(), b"not a database");
    is_in_memory(&Cache::open(file.join("below")).unwrap(), "directory");
    is_in_memory(
        &Cache::open("/proc/nowhere/cache.brasa").unwrap(),
        "/proc/nowhere",
    );
    is_in_memory(&Cache::open(directory.path()).unwrap(), "directory");
    let strict = Cache::options().strict(true);
    assert!(matches!(
        strict.open(&file),
        Err(Error::NotABrasaFile { .. })
    ));
}

#[test]
fn a_lock_that_is_held_for_too_long_makes_a_cache_that_stores_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let holder = Db::options().exclusive(true).open(&path).unwrap();
    let hasty = || Cache::options().timeout(Duration::from_millis(1));
    let cache = hasty().open(&path).unwrap();
    let computed = cache.get_or_insert_with("k", || Ok::<_, Never>("1".to_owned()));
    assert_eq!(computed.unwrap(), "1");
    assert_eq!(cache.stats().not_stored, 1);
    assert!(cache.last_error().unwrap().contains("writer lock"));
    let strict = hasty().strict(true).open(&path).unwrap();
    let refused = strict.get_or_insert_with("k", || Ok::<_, Never>("1".to_owned()));
    assert!(matches!(
        refused,
        Err(CacheError::Cache(Error::Locked { .. }))
    ));
    assert!(matches!(
        cache.insert("k", &"1".to_owned()),
        Err(Error::Locked { .. })
    ));
    drop(holder);
    works_in_this_process(&cache);
}

#[test]
fn a_hit_waits_for_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let cache = Cache::options()
        .strict(true)
        .timeout(Duration::from_secs(3_600));
    let cache = cache.open(&path).unwrap().ttl(Duration::from_secs(3_600));
    cache.insert("k", &"1".to_owned()).unwrap();
    let _holder = Db::options().exclusive(true).open(&path).unwrap();
    works_in_this_process_without_computing(&cache);
}

/// An hour, if they waited for the lock: the caller that is to compute a stale value anew gets the old one where it could not store the new one.
#[test]
fn a_hit_on_a_stale_value_waits_for_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let clock = ManualClock::new(1_700_000_000_000);
    let cache = Cache::options()
        .strict(true)
        .file(Db::options().clock(clock.clone()))
        .timeout(Duration::from_secs(3_600));
    let (fresh, stale) = (Duration::from_secs(10), Duration::from_secs(60));
    let cache = cache.open(&path).unwrap().ttl(fresh);
    let cache = cache.stale_while_revalidate(stale);
    cache.insert("k", &"1".to_owned()).unwrap();
    clock.advance(fresh);
    let holder = Db::options().exclusive(true).open(&path).unwrap();
    works_in_this_process_without_computing(&cache);
    let value = cache.get_or_refresh_with("k", || Ok::<_, Never>("2".to_owned()));
    assert_eq!(value.unwrap(), "1");
    assert_eq!(cache.stats().stale_hits, 2);
    drop(holder);
    // The thread that was to compute it may be at it still.
    let mut looks = (0..10_000).map(|_| std::thread::sleep(Duration::from_millis(1)));
    let compute = || Ok::<_, Never>("3".to_owned());
    assert!(looks.any(|()| cache.get_or_insert_with("k", compute).unwrap() != "1"));
}

fn works_in_this_process_without_computing(cache: &Cache) {
    let value = cache.get_or_insert_with("k", || Err::<String, _>("it was computed"));
    assert_eq!(value.unwrap(), "1");
}

#[test]
fn a_file_that_can_only_be_read_gives_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let cache = Cache::open(&path).unwrap();
    cache.insert("k", &"1".to_owned()).unwrap();
    drop(cache);
    let read_only = Cache::options().file(Db::options().read_only(true));
    let cache = read_only.open(&path).unwrap();
    works_in_this_process_without_computing(&cache);
    let computed = cache.get_or_insert_with("other", || Ok::<_, Never>("2".to_owned()));
    assert_eq!(computed.unwrap(), "2");
    assert_eq!(cache.stats().not_stored, 1);
    let refused = Cache::options().fallback(Fallback::ReadOnly);
    assert!(refused.open("/proc/nowhere/cache.brasa").is_err());
}

#[test]
fn a_damaged_file_is_salvaged_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let cache = Cache::open(&path).unwrap();
    cache.insert("lost", &"1".to_owned()).unwrap();
    cache.insert("kept", &"2".to_owned()).unwrap();
    drop(cache);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[12_288 + 33] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let strict = Cache::options().strict(true).open(&path);
    assert!(matches!(strict, Err(Error::Corrupt { .. })));
    let cache = Cache::open(&path).unwrap();
    let degraded = cache.degraded().unwrap();
    assert_eq!(degraded.to, DegradedTo::Salvaged);
    assert!(
        degraded.reason.contains("cache.brasa"),
        "{}",
        degraded.reason
    );
    assert_eq!(cache.get::<String>("kept").unwrap().unwrap(), "2");
    assert_eq!(cache.get::<String>("lost").unwrap(), None);
}

#[test]
fn a_budget_holds() {
    let cache = Cache::options()
        .max_bytes(64 << 10)
        .open_in_memory()
        .unwrap();
    for number in 0..1_000 {
        cache
            .insert(format!("{number}"), &vec![0_u8; 1_000])
            .unwrap();
    }
    assert!(cache.get::<Value>("999").unwrap().is_some());
    assert!(cache.get::<Value>("0").unwrap().is_none());
}

#[test]
fn names_and_urls_that_cannot_be_are_refused() {
    for namespace in ["", "a:b", "{", "}"] {
        let refused = Cache::options().namespace(namespace).open_in_memory();
        assert!(refused.is_err(), "{namespace:?}");
    }
    let cache = Cache::in_memory().unwrap();
    let many = cache.clone().tags((0..65).map(|number| number.to_string()));
    assert!(matches!(
        many.insert("k", &"1".to_owned()),
        Err(Error::TooLarge { .. })
    ));
    let long = cache.tags([vec![b't'; 1_025]]);
    assert!(matches!(
        long.insert("k", &"1".to_owned()),
        Err(Error::TooLarge { .. })
    ));
}

#[test]
fn a_memoized_function_is_called_once_for_each_argument() {
    let cache = Cache::in_memory().unwrap();
    let calls = Cell::new(0);
    let twice = cache.memoize("twice", |number: u32| {
        calls.set(calls.get() + 1);
        number
            .checked_mul(2)
            .map(|twice| twice.to_string())
            .ok_or("too large")
    });
    assert_eq!(twice.call(4).unwrap(), "8");
    assert_eq!(twice.call(4).unwrap(), "8");
    assert_eq!(twice.call(5).unwrap(), "10");
    assert!(matches!(
        twice.call(u32::MAX),
        Err(CacheError::Compute("too large"))
    ));
    assert_eq!(calls.get(), 3);
    assert!(twice.forget(4).unwrap());
    twice.call(4).unwrap();
    assert_eq!(calls.get(), 4);
}

#[cfg(feature = "serde")]
mod typed {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        name: String,
        age: u8,
        balance: f64,
        friends: Vec<u64>,
    }

    /// The type `Row` of another build of the program, under the same name.
    fn as_another_build_has_it<T: Serialize>(cache: &Cache, db: &Db, value: &T) {
        let row = Row {
            name: "Minevaldo".to_owned(),
            age: 29,
            balance: 3.21,
            friends: vec![1, u64::MAX],
        };
        cache.insert("row", &row).unwrap();
        assert_eq!(cache.get::<Row>("row").unwrap().unwrap(), row);
        let mut entry = db.get("{cache:row}").unwrap().unwrap()[..48].to_vec();
        entry.extend(rmp_serde::to_vec_named(value).unwrap());
        db.set("{cache:row}", entry).unwrap();
    }

    #[test]
    fn a_value_of_another_type_is_a_miss_and_never_garbage() {
        let cache = Cache::in_memory().unwrap();
        cache.insert("k", &7_u64).unwrap();
        assert_eq!(cache.get::<u64>("k").unwrap(), Some(7));
        assert_eq!(cache.get::<u32>("k").unwrap(), None);
        assert_eq!(cache.get::<i64>("k").unwrap(), None);
        assert_eq!(cache.get::<String>("k").unwrap(), None);
        assert_eq!(cache.get::<Value>("k").unwrap(), None);
        assert_eq!(cache.get::<Option<u64>>("k").unwrap(), None);
    }

    #[test]
    fn a_type_that_has_changed_under_its_name_is_a_miss_where_it_does_not_fit() {
        #[derive(Serialize)]
        struct Fewer<'a> {
            name: &'a str,
            age: u8,
            balance: f64,
        }
        #[derive(Serialize)]
        struct Other<'a> {
            friends: Vec<u64>,
            age: &'a str,
            name: &'a str,
            balance: f64,
        }
        #[derive(Serialize)]
        struct More<'a> {
            balance: f64,
            city: &'a str,
            friends: Vec<u64>,
            age: u64,
            name: &'a str,
        }
        let db = Db::in_memory().unwrap();
        let cache = Cache::options().over_db(db.clone()).unwrap();
        let name = "x";
        let fewer = Fewer {
            name,
            age: 1,
            balance: 0.0,
        };
        as_another_build_has_it(&cache, &db, &fewer);
        assert_eq!(cache.get::<Row>("row").unwrap(), None);
        let other = Other {
            friends: vec![],
            age: "1",
            name,
            balance: 0.0,
        };
        as_another_build_has_it(&cache, &db, &other);
        assert_eq!(cache.get::<Row>("row").unwrap(), None);
        let mut more = More {
            balance: 0.5,
            city: "Recife",
            friends: vec![9],
            age: 256,
            name,
        };
        as_another_build_has_it(&cache, &db, &more);
        assert_eq!(cache.get::<Row>("row").unwrap(), None, "256 is no age");
        more.age = 30;
        as_another_build_has_it(&cache, &db, &more);
        let row = cache.get::<Row>("row").unwrap().unwrap();
        assert_eq!((row.name.as_str(), row.age, row.balance), ("x", 30, 0.5));
    }

    #[test]
    fn cut_or_overlong_values_are_misses() {
        let db = Db::in_memory().unwrap();
        let cache = Cache::options().over_db(db.clone()).unwrap();
        cache
            .insert("k", &("text".to_owned(), vec![1_u16, 300]))
            .unwrap();
        let entry = db.get("{cache:k}").unwrap().unwrap();
        for len in 0..entry.len() {
            db.set("{cache:k}", &entry[..len]).unwrap();
            assert_eq!(cache.get::<(String, Vec<u16>)>("k").unwrap(), None, "{len}");
        }
        db.set("{cache:k}", [&entry[..], b"\xc0"].concat()).unwrap();
        assert_eq!(cache.get::<(String, Vec<u16>)>("k").unwrap(), None);
    }

    #[test]
    fn bytes_and_text_are_the_same_as_without_the_feature() {
        let db = Db::in_memory().unwrap();
        let cache = Cache::options().over_db(db.clone()).unwrap();
        cache.insert("text", &"Relou".to_owned()).unwrap();
        cache.insert("bytes", &vec![1_u8, 255]).unwrap();
        assert_eq!(&db.get("{cache:text}").unwrap().unwrap()[48..], b"Relou");
        assert_eq!(&db.get("{cache:bytes}").unwrap().unwrap()[48..], [1, 255]);
        assert_eq!(cache.get::<Value>("bytes").unwrap().unwrap(), [1, 255]);
    }

    #[test]
    fn what_cannot_be_encoded_is_given_out_and_not_stored() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Odd;
        impl Serialize for Odd {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("it is odd"))
            }
        }
        let cache = Cache::in_memory().unwrap();
        assert_eq!(
            cache
                .get_or_insert_with("k", || Ok::<_, Never>(Odd))
                .unwrap(),
            Odd
        );
        assert_eq!(cache.stats().not_stored, 1);
        assert!(cache.last_error().unwrap().contains("it is odd"));
        assert!(matches!(
            cache.insert("k", &Odd),
            Err(Error::Encoding { .. })
        ));
    }
}

#[test]
fn a_url_of_another_scheme_makes_no_directory() {
    let opened = Cache::open("valkey-of-nobody://me@127.0.0.1/");
    assert!(opened.is_err() || opened.unwrap().degraded().is_some());
    assert!(!std::path::Path::new("valkey-of-nobody:").exists());
}

/// By itself the first does nothing: it is run again without a home.
#[test]
fn without_a_home() {
    if std::env::var_os("HOME").is_some() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::env::set_current_dir(directory.path()).unwrap();
    is_in_memory(&Cache::open("~/tool/cache.brasa").unwrap(), "HOME");
    assert!(Cache::options().strict(true).open("~/cache.brasa").is_err());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    std::env::set_current_dir("/").unwrap();
}

#[test]
fn where_there_is_no_home_it_is_in_memory() {
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "without_a_home"]).env_remove("HOME");
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

#[test]
#[cfg(not(feature = "redis"))]
fn a_url_without_the_feature_is_no_file() {
    let refused = Cache::open("redis://127.0.0.1/");
    assert!(matches!(refused, Err(Error::Encoding { .. })));
    assert!(!std::path::Path::new("redis:").exists());
}
