//! Handles let go of a file that a compaction replaced: its descriptor, its mapping, its index, and its space on the device.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use brasa::{Db, Durability, Options};

fn options() -> Options {
    Db::options().durability(Durability::Os).auto_compact(false)
}

/// How many files of a directory this process has open or mapped that have no name any more.
fn deleted_files(directory: &Path) -> (usize, usize) {
    let directory = directory.to_str().unwrap();
    let is_deleted = |name: &str| name.contains(directory) && name.ends_with("(deleted)");
    let descriptors = fs::read_dir("/proc/self/fd").unwrap();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let open = targets.filter(|target| target.to_str().is_some_and(is_deleted));
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = maps.lines().filter(|line| is_deleted(line));
    (open.count(), mapped.count())
}

fn fill(db: &Db) {
    for number in 0..40 {
        db.set(format!("key {}", number % 20), [1; 2_000]).unwrap();
    }
}

#[test]
fn a_handle_that_only_reads_lets_go_of_replaced_files() {
    for read_only in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cache.brasa");
        fill(&options().open(&path).unwrap());
        let reader = options().read_only(read_only).open(&path).unwrap();
        for _ in 0..4 {
            let other = options().open(&path).unwrap();
            other.compact().unwrap();
            drop(other);
            assert_eq!(reader.get("key 7").unwrap().unwrap(), [1; 2_000]);
            assert_eq!(deleted_files(directory.path()), (0, 0), "{read_only}");
            fill(&options().open(&path).unwrap());
            assert_eq!(reader.get("key 7").unwrap().unwrap(), [1; 2_000]);
        }
    }
}

#[test]
fn a_value_keeps_the_mapping_that_it_points_into_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    fill(&options().open(&path).unwrap());
    let reader = options().read_only(true).open(&path).unwrap();
    let value = reader.get("key 7").unwrap().unwrap();
    options().open(&path).unwrap().compact().unwrap();
    reader.get("key 7").unwrap().unwrap();
    assert_eq!(deleted_files(directory.path()), (0, 1));
    assert_eq!(value, [1; 2_000]);
    drop(value);
    assert_eq!(deleted_files(directory.path()), (0, 0));
}

#[test]
fn an_idle_handle_with_a_thread_in_the_background_lets_go_of_a_replaced_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let interval = Durability::Interval(Duration::from_millis(2));
    let idle = options().durability(interval).open(&path).unwrap();
    fill(&idle);
    options().open(&path).unwrap().compact().unwrap();
    let begun = Instant::now();
    while deleted_files(directory.path()) != (0, 0) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it is kept");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(idle.get("key 7").unwrap().unwrap(), [1; 2_000]);
}

/// Linux shows a file that was created without a name as deleted for as long as it is open.
#[test]
fn file_that_a_handle_created_or_compacted_is_not_shown_as_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let db = options()
        .open(directory.path().join("cache.brasa"))
        .unwrap();
    fill(&db);
    assert_eq!(deleted_files(directory.path()), (0, 0));
    db.compact().unwrap();
    assert!(db.exists("key 7").unwrap());
    assert_eq!(deleted_files(directory.path()), (0, 0));
}
