//! A cache in front of an SQL database: looks in the cache first, selects on a miss, and stores the
//! row for ten seconds.
//!
//! ```sh
//! cd examples/cache_aside
//! cargo run -- bash coreutils
//! DATABASE_URL=mysql://root@127.0.0.1:3306/test cargo run -- bash
//! CACHE=redis://127.0.0.1/ cargo run --features redis -- bash
//! ```
//!
//! The database is SQLite in memory, or the MySQL or MariaDB server that `DATABASE_URL` names. Its
//! table is created from `/var/lib/dpkg/status`, or from the file that `STATUS` names. The cache is
//! a file in the temporary directory, or the path or URL in `CACHE`. Run the program twice within
//! ten seconds: the second run selects only the package that the first run changed at its end.

use std::error::Error;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use brasa::Cache;

#[allow(
    dead_code,
    reason = "the example needs only the parser of the package list"
)]
#[path = "../../package_cache/packages.rs"]
mod packages;

use cache_aside::database::{Database, Package};

/// The program's one cache handle: a singleton made with the standard library alone.
fn cache() -> &'static Cache {
    static CACHE: OnceLock<Cache> = OnceLock::new();
    CACHE.get_or_init(|| {
        let place = std::env::var_os("CACHE").map_or_else(
            || std::env::temp_dir().join("cache_aside.brasa"),
            PathBuf::from,
        );
        // By default an unusable path is no error: the cache falls back and reports it.
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
    // A writer that changes a row invalidates its entry; otherwise readers see the old row until
    // its deadline.
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
