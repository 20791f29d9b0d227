//! A cache whose place is unusable: hits go on, and a change that cannot reach the named place is an
//! error. A file of something else can be set aside.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use brasa::{Cache, CacheError, CacheOptions, Db, DegradedTo, Error, Fallback};

type Never = std::convert::Infallible;

fn text(text: &str) -> String {
    text.to_owned()
}

/// Calls everything that changes a cache, and returns the results.
fn changes(cache: &Cache) -> Vec<(&'static str, brasa::Result<()>)> {
    let memoized = cache.memoize("f", |_: u32| Ok::<_, Never>(text("v")));
    let other = cache.clone().version("other");
    vec![
        ("insert", cache.insert("k", &text("new"))),
        ("invalidate", cache.invalidate("k").map(drop)),
        ("invalidate absent", cache.invalidate("absent").map(drop)),
        ("invalidate_prefix", cache.invalidate_prefix("k").map(drop)),
        ("invalidate_tag", cache.invalidate_tag("t")),
        ("forget", memoized.forget(1).map(drop)),
        ("forget_all", memoized.forget_all().map(drop)),
        ("reclaim", other.reclaim().map(drop)),
        ("clear", cache.clear()),
    ]
}

fn refused(cache: &Cache, is_right: impl Fn(&Error) -> bool) {
    for (call, result) in changes(cache) {
        let error = result.expect_err(call);
        assert!(is_right(&error), "{call}: {error:?}");
    }
}

fn computes(cache: &Cache, key: &str) -> bool {
    let mut computed = false;
    let value = cache.get_or_insert_with(key, || {
        computed = true;
        Ok::<_, Never>(text("v"))
    });
    assert_eq!(value.unwrap(), "v");
    computed
}

fn is_read_only(cache: &Cache) {
    assert_eq!(cache.degraded().unwrap().to, DegradedTo::ReadOnly);
    assert!(!computes(cache, "k"), "it is a hit");
    for missing in 1..=2 {
        assert!(computes(cache, "missing"), "it cannot be stored");
        assert_eq!(cache.stats().not_stored, missing);
    }
    assert_eq!(cache.stats().hits, 1);
    refused(cache, |error| matches!(error, Error::ReadOnly { .. }));
    assert!(!computes(cache, "k"), "it is still there");
}

fn is_in_memory(cache: &Cache) {
    let reason = cache.degraded().unwrap().reason.clone();
    assert_eq!(cache.degraded().unwrap().to, DegradedTo::Memory);
    assert!(computes(cache, "k"));
    assert!(!computes(cache, "k"), "it is in memory");
    refused(cache, |error| match error {
        Error::FellBack { reason: told } => *told == reason,
        _ => false,
    });
    assert!(computes(cache, "k"), "it is gone from memory");
    // This process sees its own changes all the same.
    assert!(cache.insert("k", &text("new")).is_err());
    assert_eq!(cache.get::<String>("k").unwrap().unwrap(), "new");
}

fn with_a_value(path: &Path) {
    let cache = Cache::options().strict(true).open(path).unwrap();
    cache.insert("k", &text("v")).unwrap();
}

/// Needs the writer lock for as long as it is open.
fn exclusive() -> CacheOptions {
    let options = Db::options().exclusive(true);
    Cache::options()
        .file(options)
        .timeout(Duration::from_millis(1))
}

#[test]
fn cache_that_cannot_be_opened_for_writing_serves_hits_and_refuses_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    with_a_value(&path);
    let holder = Db::options().exclusive(true).open(&path).unwrap();
    for fallback in [Fallback::Memory, Fallback::ReadOnly] {
        is_read_only(&exclusive().fallback(fallback).open(&path).unwrap());
    }
    for options in [
        exclusive().strict(true),
        exclusive().fallback(Fallback::None),
    ] {
        assert!(matches!(options.open(&path), Err(Error::Locked { .. })));
    }
    drop(holder);
    let cache = exclusive().open(&path).unwrap();
    assert_eq!(cache.degraded(), None);
    for (call, result) in changes(&cache) {
        assert!(result.is_ok(), "{call}: {result:?}");
    }
}

/// Makes a directory and what is in it unwritable, for the superuser too; `false` if that cannot be.
fn make_unwritable(directory: &Path) -> bool {
    if fs::metadata(directory).unwrap().uid() != 0 {
        for entry in fs::read_dir(directory).unwrap() {
            let read_only = fs::Permissions::from_mode(0o444);
            fs::set_permissions(entry.unwrap().path(), read_only).unwrap();
        }
        fs::set_permissions(directory, fs::Permissions::from_mode(0o555)).unwrap();
        return true;
    }
    let mount = |arguments: &[&str]| {
        let mut mount = Command::new("mount");
        mount.args(arguments).arg(directory).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success())
    };
    let path = directory.to_str().unwrap();
    mount(&["--bind", path]) && mount(&["-o", "remount,ro,bind"])
}

#[test]
fn cache_on_a_read_only_home_serves_hits_and_refuses_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    with_a_value(&path);
    let is_unwritable = make_unwritable(directory.path());
    let run = || {
        is_read_only(&Cache::open(&path).unwrap());
        is_in_memory(&Cache::open(directory.path().join("new.brasa")).unwrap());
        is_in_memory(&Cache::open(directory.path().join("new/new.brasa")).unwrap());
        let options = Cache::options().fallback(Fallback::ReadOnly);
        assert!(options.open(directory.path().join("new.brasa")).is_err());
    };
    let done = is_unwritable.then(|| thread::scope(|scope| scope.spawn(run).join()));
    let _ = fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755));
    if fs::metadata(directory.path()).unwrap().uid() == 0 {
        let mut unmount = Command::new("umount");
        let _ = unmount.arg("-l").arg(directory.path()).status();
    }
    match done {
        None => eprintln!("\n!!! NOT RUN: the superuser may not mount here\n"),
        Some(done) => done.unwrap(),
    }
}

#[test]
fn cache_that_fell_back_to_memory_refuses_changes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "not a database").unwrap();
    for path in [&file, &file.join("below"), directory.path()] {
        is_in_memory(&Cache::open(path).unwrap());
    }
    let db = Db::options().fallback(Fallback::Memory);
    let db = db.open("/proc/nowhere/cache.brasa");
    // Whether that is an error is the database's matter.
    if let Ok(db) = db {
        is_in_memory(&Cache::options().over_db(db).unwrap());
    }
}

#[test]
fn cache_in_memory_that_was_asked_for_accepts_changes() {
    for (call, result) in changes(&Cache::in_memory().unwrap()) {
        assert!(result.is_ok(), "{call}: {result:?}");
    }
}

#[test]
fn file_that_is_removed_while_it_is_open_makes_changes_errors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    with_a_value(&path);
    let cache = Cache::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(!computes(&cache, "k"));
    assert!(cache.clear().is_err());
    assert!(cache.invalidate("k").is_err());
    assert!(cache.insert("k", &text("new")).is_err());
    assert!(computes(&cache, "other"));
}

const STRANGER: &[u8] = b"SQLite format 3\0, or so it says";

fn set_aside() -> CacheOptions {
    Cache::options().set_aside_strangers(true)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn stranger_is_set_aside_only_if_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    fs::write(&path, STRANGER).unwrap();
    is_in_memory(&Cache::open(&path).unwrap());
    assert_eq!(fs::read(&path).unwrap(), STRANGER);

    for (number, strict) in [(0, false), (1, true)] {
        let kept = directory
            .path()
            .join(format!("cache.brasa.stranger-{number}"));
        let cache = set_aside().strict(strict).open(&path).unwrap();
        let degraded = cache.degraded().unwrap();
        assert_eq!(degraded.to, DegradedTo::Anew);
        assert!(
            degraded.reason.contains(kept.to_str().unwrap()),
            "{}",
            degraded.reason
        );
        assert_eq!(fs::read(&kept).unwrap(), STRANGER);
        cache.insert("k", &text("v")).unwrap();
        drop(cache);
        let cache = set_aside().open(&path).unwrap();
        assert_eq!(cache.degraded(), None);
        assert!(!computes(&cache, "k"));
        drop(cache);
        fs::remove_file(&path).unwrap();
        fs::write(&path, STRANGER).unwrap();
    }
}

/// A link leads to a file that somebody may need under its own name.
#[test]
fn links_directories_and_newer_files_are_not_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let inside = |name: &str| directory.path().join(name);
    fs::write(inside("target"), STRANGER).unwrap();
    symlink(inside("target"), inside("link")).unwrap();
    symlink(inside("link"), inside("link to a link")).unwrap();
    fs::create_dir(inside("directory")).unwrap();
    with_a_value(&inside("newer"));
    let mut newer = fs::read(inside("newer")).unwrap();
    // The major version, behind the magic bytes; the checksum is wrong then, too.
    newer[8] = 0xff;
    fs::write(inside("newer"), &newer).unwrap();
    let before = names(directory.path());
    for name in ["link", "link to a link", "directory"] {
        is_in_memory(&set_aside().open(inside(name)).unwrap());
    }
    let strict = set_aside().strict(true).open(inside("newer"));
    assert!(strict.is_err());
    assert_eq!(names(directory.path()), before);
    assert_eq!(fs::read(inside("target")).unwrap(), STRANGER);

    // A directory that is a link is only a way to the file.
    symlink(directory.path(), inside("directory/up")).unwrap();
    let cache = set_aside().open(inside("directory/up/target")).unwrap();
    assert_eq!(cache.degraded().unwrap().to, DegradedTo::Anew);
    assert_eq!(fs::read(inside("target.stranger-0")).unwrap(), STRANGER);
}

#[test]
fn stranger_that_cannot_be_set_aside_leaves_a_cache_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    fs::write(&path, STRANGER).unwrap();
    let read_only = set_aside().file(Db::options().read_only(true));
    is_in_memory(&read_only.open(&path).unwrap());
    assert_eq!(names(directory.path()), ["cache.brasa"]);
}

#[test]
fn many_handles_set_one_stranger_aside_once() {
    for _ in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let path: PathBuf = directory.path().join("cache.brasa");
        fs::write(&path, STRANGER).unwrap();
        let ready = Barrier::new(8);
        let run = |number: usize| {
            ready.wait();
            let cache = set_aside().strict(true).open(&path).unwrap();
            cache.insert(number.to_string(), &text("v")).unwrap();
            cache.degraded().is_some()
        };
        let told = thread::scope(|scope| {
            let run = &run;
            let threads: Vec<_> = (0..8)
                .map(|number| scope.spawn(move || run(number)))
                .collect();
            let told = threads
                .into_iter()
                .filter_map(|thread| thread.join().unwrap().then_some(()));
            told.count()
        });
        assert_eq!(told, 1, "one of them has renamed it");
        assert_eq!(
            names(directory.path()),
            ["cache.brasa", "cache.brasa.stranger-0"]
        );
        let cache = Cache::options().strict(true).open(&path).unwrap();
        for number in 0..8 {
            assert!(!computes(&cache, &number.to_string()), "value {number}");
        }
    }
}

#[test]
fn failed_computation_on_a_read_only_fallback_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    with_a_value(&path);
    let _holder = Db::options().exclusive(true).open(&path).unwrap();
    let cache = exclusive().open(&path).unwrap();
    let failed = cache.get_or_insert_with("missing", || Err::<String, _>("no"));
    assert!(matches!(failed, Err(CacheError::Compute("no"))));
}
