//! The package database of a Debian machine, and its cache: a hash for each package.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use brasa::{Db, Value};

/// The fields of one paragraph, in the order of the file. The value of a field that goes on over several
/// lines keeps its line breaks, and the blank at the start of each further line.
pub type Package = Vec<(String, Vec<u8>)>;

/// Fields and their values, as the cache has them.
pub type Fields = Vec<(Value, Value)>;

/// What went wrong.
#[derive(Debug)]
pub enum PackageError {
    Source {
        path: PathBuf,
        source: io::Error,
    },
    /// A line that is neither a field nor the continuation of one.
    Line {
        path: PathBuf,
        number: usize,
    },
    /// A paragraph that does not say which package it is about.
    Nameless {
        path: PathBuf,
        number: usize,
    },
    Cache(brasa::Error),
}

impl fmt::Display for PackageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PackageError::Source { path, source } => write!(
                f,
                "cannot read the package database {}: {source}; give another by --status",
                path.display()
            ),
            PackageError::Line { path, number } => write!(
                f,
                "{}, line {number}: expected \"Field: value\" or a line that begins with a blank",
                path.display()
            ),
            PackageError::Nameless { path, number } => write!(
                f,
                "{}: the paragraph that ends at line {number} has no field \"Package\"",
                path.display()
            ),
            PackageError::Cache(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for PackageError {}

impl From<brasa::Error> for PackageError {
    fn from(error: brasa::Error) -> Self {
        PackageError::Cache(error)
    }
}

/// Reads a file of paragraphs, as `/var/lib/dpkg/status` is one (deb822(5)).
pub fn parse(path: &Path, contents: &[u8]) -> Result<Vec<Package>, PackageError> {
    let mut packages = Vec::new();
    let mut package = Package::new();
    let mut end_paragraph = |package: &mut Package, number| {
        if package.is_empty() {
            return Ok(());
        }
        if field(package, "Package").is_none() {
            let path = path.to_owned();
            return Err(PackageError::Nameless { path, number });
        }
        packages.push(std::mem::take(package));
        Ok(())
    };
    let mut number = 0;
    for line in contents.split(|byte| *byte == b'\n') {
        number += 1;
        let bad_line = || PackageError::Line {
            path: path.to_owned(),
            number,
        };
        if line.is_empty() {
            end_paragraph(&mut package, number)?;
        } else if line[0] == b' ' || line[0] == b'\t' {
            let (_, value) = package.last_mut().ok_or_else(bad_line)?;
            value.push(b'\n');
            value.extend_from_slice(line);
        } else {
            let colon = line.iter().position(|byte| *byte == b':');
            let (name, value) = line.split_at(colon.ok_or_else(bad_line)?);
            let name = String::from_utf8(name.to_vec()).map_err(|_| bad_line())?;
            package.push((name, value[1..].trim_ascii().to_vec()));
        }
    }
    end_paragraph(&mut package, number)?;
    Ok(packages)
}

fn field<'a>(package: &'a Package, name: &str) -> Option<&'a [u8]> {
    let found = package.iter().find(|(field, _)| field == name);
    found.map(|(_, value)| value.as_slice())
}

/// The key of a package: one name may be installed for several architectures.
pub fn key_of(package: &Package) -> Vec<u8> {
    let name = field(package, "Package").unwrap_or_default();
    let architecture = field(package, "Architecture").unwrap_or(b"none");
    [b"package:", name, b":", architecture].concat()
}

/// Packages, from the cache where it is good.
pub struct PackageCache {
    db: Db,
    /// Whether the package database had to be read.
    pub was_filled: bool,
}

impl PackageCache {
    /// Opens the cache, and fills it where it is missing, too old, or made from another state of the source.
    pub fn open(cache: &Path, status: &Path, ttl: Duration) -> Result<PackageCache, PackageError> {
        let db = Db::open(cache)?;
        let source_error = |source| PackageError::Source {
            path: status.to_owned(),
            source,
        };
        let stamp = stamp(status).map_err(source_error)?;
        let was_filled = db.get("stamp")?.is_none_or(|cached| cached != stamp);
        if was_filled {
            let contents = std::fs::read(status).map_err(source_error)?;
            let packages = parse(status, &contents)?;
            // One commit: whoever is killed in the middle leaves the old cache or none.
            db.batch(|batch| {
                batch.clear();
                for package in &packages {
                    let key = key_of(package);
                    for (field, value) in package {
                        batch.hset(&key, field, value);
                    }
                    batch.expire(&key, ttl);
                }
                batch.set_ex("stamp", &stamp, ttl);
            })?;
        }
        Ok(PackageCache { db, was_filled })
    }

    /// The fields of each package of this name, sorted, by key.
    pub fn show(&self, name: &str) -> brasa::Result<Vec<(Value, Fields)>> {
        let mut found = Vec::new();
        for key in self.db.keys().prefix(format!("package:{name}:")) {
            let key = key?;
            let mut fields = self.db.hgetall(&key)?;
            fields.sort();
            found.push((key, fields));
        }
        found.sort();
        Ok(found)
    }

    /// The packages whose names begin with a prefix, sorted, each as `name:architecture`.
    pub fn list(&self, prefix: &str) -> brasa::Result<Vec<String>> {
        let mut names = Vec::new();
        for key in self.db.keys().prefix(format!("package:{prefix}")) {
            let key = key?;
            let name = String::from_utf8_lossy(&key).into_owned();
            names.push(name.trim_start_matches("package:").to_owned());
        }
        names.sort();
        Ok(names)
    }
}

/// What tells one state of a file from another: path, size and time of change.
fn stamp(path: &Path) -> io::Result<String> {
    let metadata = std::fs::metadata(path)?;
    let changed = metadata.modified()?.duration_since(UNIX_EPOCH);
    let changed = changed.map_or(0, |since| since.as_nanos());
    let path = std::fs::canonicalize(path)?;
    Ok(format!("{} {} {changed}", path.display(), metadata.len()))
}
