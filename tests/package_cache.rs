//! The package cache of `examples/package_cache`, on this machine's real package database and on an
//! excerpt of one, compared field by field with another reading of the source.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[path = "../examples/package_cache/packages.rs"]
#[allow(missing_docs, reason = "it is an example's module")]
mod packages;

use packages::{PackageCache, PackageError};

const HOUR: Duration = Duration::from_secs(3600);

fn excerpt() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dpkg-status")
}

/// The source, read another way: by cutting the text where paragraphs and fields begin.
fn read_again(path: &Path) -> BTreeMap<String, BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut packages = BTreeMap::new();
    for paragraph in text.split("\n\n").filter(|text| !text.trim().is_empty()) {
        let mut fields = BTreeMap::new();
        let mut rest = paragraph.trim_matches('\n');
        while !rest.is_empty() {
            let (name, value) = rest.split_once(':').unwrap();
            let end = value
                .match_indices('\n')
                .find(|(at, _)| !value[at + 1..].starts_with([' ', '\t']))
                .map_or(value.len(), |(at, _)| at);
            let mut lines = value[..end].splitn(2, '\n');
            let first = lines.next().unwrap().trim().to_owned();
            let value_text = match lines.next() {
                Some(more) => format!("{first}\n{more}"),
                None => first,
            };
            fields.insert(name.to_owned(), value_text);
            rest = value[end..].trim_start_matches('\n');
        }
        let key = format!("{}:{}", fields["Package"], fields["Architecture"]);
        assert!(packages.insert(key, fields).is_none());
    }
    packages
}

fn compare(status: &Path) {
    let directory = tempfile::tempdir().unwrap();
    let cache_path = directory.path().join("packages.brasa");
    let expected = read_again(status);
    // The first run reads the database, the second the cache alone.
    for filled in [true, false] {
        let cache = PackageCache::open(&cache_path, status, HOUR).unwrap();
        assert_eq!(cache.was_filled, filled);
        let names: Vec<&String> = expected.keys().collect();
        let mut listed = cache.list("").unwrap();
        listed.sort();
        assert_eq!(listed.iter().collect::<Vec<_>>(), names);
        for (key, fields) in &expected {
            let name = key.split(':').next().unwrap();
            let shown = cache.show(name).unwrap();
            let full_key = format!("package:{key}");
            let (_, shown) = shown.iter().find(|(key, _)| *key == full_key).unwrap();
            let shown: BTreeMap<String, String> = shown
                .iter()
                .map(|(field, value)| (text(field), text(value)))
                .collect();
            assert_eq!(&shown, fields, "{key}");
        }
    }
    println!("{}: {} packages", status.display(), expected.len());
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn every_field_of_the_excerpt_is_in_the_cache() {
    compare(&excerpt());
}

#[test]
fn every_field_of_this_machines_database_is_in_the_cache() {
    let status = Path::new("/var/lib/dpkg/status");
    if status.exists() {
        compare(status);
    } else {
        println!(
            "this machine has no {}: the excerpt stands for it",
            status.display()
        );
        compare(&excerpt());
    }
}

#[test]
fn a_changed_database_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let status = directory.path().join("status");
    let cache_path = directory.path().join("packages.brasa");
    std::fs::write(&status, "Package: a\nArchitecture: all\n").unwrap();
    let cache = PackageCache::open(&cache_path, &status, HOUR).unwrap();
    assert_eq!(cache.list("").unwrap(), ["a:all"]);
    drop(cache);
    std::fs::write(&status, "Package: bb\nArchitecture: all\n").unwrap();
    let cache = PackageCache::open(&cache_path, &status, HOUR).unwrap();
    assert!(cache.was_filled);
    assert_eq!(cache.list("").unwrap(), ["bb:all"]);
}

#[test]
fn a_database_that_is_missing_or_something_else_is_a_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let status = directory.path().join("status");
    let open = || PackageCache::open(&directory.path().join("cache.brasa"), &status, HOUR);
    let message = |result: Result<PackageCache, PackageError>| result.err().unwrap().to_string();
    assert!(message(open()).contains("--status"));
    std::fs::write(&status, "\u{89}PNG\r\n").unwrap();
    assert!(message(open()).contains("line 1"));
    std::fs::write(&status, "Architecture: all\n\nPackage: a\n").unwrap();
    assert!(message(open()).contains("no field \"Package\""));
}
