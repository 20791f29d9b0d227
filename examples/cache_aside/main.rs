//! A cache in front of an SQL database: look in the cache, else select, and store the row for ten seconds.
//!
//! ```sh
//! cargo run --release --features serde --example cache_aside -- bash coreutils
//! DATABASE_URL=mysql://root@127.0.0.1:3306/test cargo run --release --features serde --example cache_aside -- bash
//! CACHE=redis://127.0.0.1/ cargo run --release --features serde,redis --example cache_aside -- bash
//! ```
//!
//! The database is SQLite in memory, or MySQL or MariaDB where `DATABASE_URL` names one; its table is made anew from
//! `/var/lib/dpkg/status` (or the file that `STATUS` names). The cache is a file in the temporary directory, or what `CACHE` names, a path or
//! a URL. Call it twice within ten seconds, and
//! the second time only the package that was changed at the end of the first is selected.

use std::error::Error;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use brasa::Cache;

mod database;
#[allow(
    dead_code,
    reason = "of the other example only the reading of the package list is needed"
)]
#[path = "../package_cache/packages.rs"]
mod packages;

use database::{Database, Package};

/// One handle for the whole program: a singleton, which needs no more than the standard library.
fn cache() -> &'static Cache {
    static CACHE: OnceLock<Cache> = OnceLock::new();
    CACHE.get_or_init(|| {
        let place = std::env::var_os("CACHE").map_or_else(
            || std::env::temp_dir().join("cache_aside.brasa"),
            PathBuf::from,
        );
        // Whatever the place is like: by default a cache gives no error, but works in memory.
        let opened = Cache::open(place).expect("there is memory");
        if let Some(degraded) = opened.degraded() {
            eprintln!("the cache is in another state: {degraded:?}");
        }
        opened
            .version(env!("CARGO_PKG_VERSION"))
            .ttl(Duration::from_secs(10))
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    if names.is_empty() {
        return Err("which packages? cache_aside NAME...".into());
    }
    let database = match std::env::var("DATABASE_URL") {
        Ok(url) => Database::mysql(&url)?,
        Err(_) => Database::sqlite(":memory:")?,
    };
    database.fill(&installed()?)?;

    let by_name = cache().memoize("package", |name: &str| database.select_by_name(name));
    for name in names.iter().chain(&names) {
        let (begun, selects) = (Instant::now(), database.select_count());
        let found = by_name.call(name)?;
        let (took, from) = match database.select_count() - selects {
            0 => (begun.elapsed(), "the cache"),
            _ => (begun.elapsed(), "the database"),
        };
        for package in &found {
            println!(
                "{} {} ({}): {}",
                package.name, package.version, package.architecture, package.summary
            );
        }
        println!("{name}: {} rows from {from} in {took:.1?}", found.len());
    }
    // Whoever changes a row takes its value out of the cache; else it is given out until its time is up.
    let name = names[0].as_str();
    database.update_version(name, "changed")?;
    by_name.forget(name)?;
    let changed = by_name.call(name)?;
    println!(
        "{name} after a change: {:?}",
        changed.first().map(|package| &package.version)
    );
    by_name.forget(name)?;
    println!("{}", cache().stats());
    Ok(())
}

/// The packages of this machine.
fn installed() -> Result<Vec<Package>, Box<dyn Error>> {
    let status = std::env::var_os("STATUS")
        .map_or_else(|| PathBuf::from("/var/lib/dpkg/status"), PathBuf::from);
    let read = packages::parse(&status, &std::fs::read(&status)?)?;
    Ok(read.iter().map(row).collect())
}

/// A paragraph of the package list as a row; of the description the first line.
fn row(package: &packages::Package) -> Package {
    let field = |name: &str| {
        let found = package.iter().find(|(field, _)| field == name);
        let text = found.map(|(_, value)| String::from_utf8_lossy(value));
        let line = text.as_deref().and_then(|text| text.lines().next());
        line.unwrap_or_default().to_owned()
    };
    Package {
        name: field("Package"),
        architecture: field("Architecture"),
        version: field("Version"),
        summary: field("Description"),
    }
}
