//! The package cache of `examples/package_cache`, on this machine's real package database and on an
//! excerpt of one, compared field by field with another reading of the list.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[path = "../examples/package_cache/packages.rs"]
#[allow(missing_docs, reason = "it is an example's module")]
mod packages;

use brasa::Cache;
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

fn open(path: &Path, status: &Path) -> (Cache, Result<PackageCache, PackageError>) {
    let cache = Cache::open(path).unwrap();
    (cache.clone(), PackageCache::new(cache, status, HOUR))
}

fn compare(status: &Path) {
    let directory = tempfile::tempdir().unwrap();
    let cache_path = directory.path().join("packages.brasa");
    let expected = read_again(status);
    let mut by_name: BTreeMap<&str, Vec<&BTreeMap<String, String>>> = BTreeMap::new();
    for (key, fields) in &expected {
        let name = key.split(':').next().unwrap();
        by_name.entry(name).or_default().push(fields);
    }
    // A package list of a thousand packages takes 5 ms a question.
    by_name = by_name.into_iter().step_by(7).collect();
    let questions = by_name.len() as u64 + 1;
    // The first run reads the package list, the second the cache alone.
    for hits in [0, questions] {
        let (cache, packages) = open(&cache_path, status);
        let packages = packages.unwrap();
        let names: Vec<&String> = expected.keys().collect();
        assert_eq!(
            packages.list("").unwrap().lines().collect::<Vec<_>>(),
            names
        );
        for (name, fields) in &by_name {
            let shown = packages.show(name).unwrap();
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("shown");
            std::fs::write(&path, shown).unwrap();
            let shown = read_again(&path);
            assert_eq!(shown.values().collect::<Vec<_>>(), *fields, "{name}");
        }
        assert_eq!(cache.stats().hits, hits);
    }
    println!("{}: {} packages", status.display(), expected.len());
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
    let list = || open(&cache_path, &status).1.unwrap().list("").unwrap();
    assert_eq!(list(), "a:all\n");
    std::fs::write(&status, "Package: bb\nArchitecture: all\n").unwrap();
    assert_eq!(list(), "bb:all\n");
}

#[test]
fn a_database_that_is_missing_or_something_else_is_a_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let status = directory.path().join("status");
    let cache_path = directory.path().join("cache.brasa");
    let missing = open(&cache_path, &status).1.err().unwrap().to_string();
    assert!(missing.contains("--status"), "{missing}");
    let message = |contents: &str| {
        std::fs::write(&status, contents).unwrap();
        let packages = open(&cache_path, &status).1.unwrap();
        packages.list("").unwrap_err().to_string()
    };
    assert!(message("\u{89}PNG\r\n").contains("line 1"));
    assert!(message("Architecture: all\n\nPackage: a\n").contains("no field \"Package\""));
}
