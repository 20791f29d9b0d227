//! The package list of a Debian machine, and the cache of the answers that are made from it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use brasa::{Cache, CacheError};

/// The fields of one paragraph, in the order of the file. A value of several lines keeps its line
/// breaks, and the blank at the start of each further line.
pub type Package = Vec<(String, Vec<u8>)>;

/// Why a package list could not be read.
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
    /// A paragraph without the field "Package".
    Nameless {
        path: PathBuf,
        number: usize,
    },
}

impl fmt::Display for PackageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PackageError::Source { path, source } => write!(
                f,
                "cannot read the package list {}: {source}; name another with --status",
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
        }
    }
}

impl std::error::Error for PackageError {}

/// Parses a file of paragraphs such as `/var/lib/dpkg/status` (deb822(5)).
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

/// Answers from the cache, and from the package list where the cache has none.
pub struct PackageCache {
    cache: Cache,
    status: PathBuf,
}

impl PackageCache {
    /// Answers are kept for `ttl`, and are misses as soon as the package list has changed.
    pub fn new(cache: Cache, status: &Path, ttl: Duration) -> Result<PackageCache, PackageError> {
        let source_error = |source| PackageError::Source {
            path: status.to_owned(),
            source,
        };
        let version = version_of(status).map_err(source_error)?;
        Ok(PackageCache {
            cache: cache.version(&version).ttl(ttl),
            status: status.to_owned(),
        })
    }

    /// Returns the fields of each package of this name, as text.
    pub fn show(&self, name: &str) -> Result<String, CacheError<PackageError>> {
        self.cache
            .get_or_insert_with(Cache::key(("show", name)), || {
                let packages = self.read()?;
                let named = packages
                    .iter()
                    .filter(|package| field(package, "Package") == Some(name.as_bytes()));
                Ok(named.map(text_of).collect())
            })
    }

    /// Returns the packages with this prefix, sorted, one `name:architecture` a line.
    pub fn list(&self, prefix: &str) -> Result<String, CacheError<PackageError>> {
        self.cache
            .get_or_insert_with(Cache::key(("list", prefix)), || {
                let mut names: Vec<String> = self.read()?.iter().map(name_of).collect();
                names.retain(|name| name.starts_with(prefix));
                names.sort();
                Ok(names.concat())
            })
    }

    fn read(&self) -> Result<Vec<Package>, PackageError> {
        let contents = std::fs::read(&self.status).map_err(|source| PackageError::Source {
            path: self.status.clone(),
            source,
        })?;
        parse(&self.status, &contents)
    }
}

fn text_of(package: &Package) -> String {
    let lines = package
        .iter()
        .map(|(field, value)| format!("{field}: {}\n", String::from_utf8_lossy(value)));
    lines.chain(["\n".to_owned()]).collect()
}

/// The package with its architecture: one name may be installed for several.
fn name_of(package: &Package) -> String {
    let text = |name| String::from_utf8_lossy(field(package, name).unwrap_or(b"none"));
    format!("{}:{}\n", text("Package"), text("Architecture"))
}

/// Identifies one state of a file: its path, size and time of modification.
fn version_of(path: &Path) -> io::Result<String> {
    let metadata = std::fs::metadata(path)?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH);
    let modified_ns = modified.map_or(0, |since| since.as_nanos());
    let path = std::fs::canonicalize(path)?;
    Ok(format!(
        "{} {} {modified_ns}",
        path.display(),
        metadata.len()
    ))
}
