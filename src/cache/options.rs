//! How a cache is opened, and what becomes of it where that cannot be.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::degraded::{Degraded, DegradedTo, Listener};
use super::keys::is_namespace;
use super::store::Store;
use super::{Cache, Inner};
use crate::sync::Arc;
use crate::{Clock, Db, Durability, Error, Fallback, OnDamage, Options, Result};

/// How a cache is opened; made by [`Cache::options`].
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("tool/db.brasa");
/// let cache = brasa::Cache::options().max_bytes(64 << 20).open(&path)?;
/// if let Some(degraded) = cache.degraded() {
///     eprintln!("the cache is {:?}: {}", degraded.to, degraded.reason);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "options do nothing until they are opened"]
pub struct CacheOptions {
    db: Options,
    namespace: String,
    is_strict: bool,
    fallback: Fallback,
    timeout: Duration,
    sets_aside: bool,
    on_degraded: Listener,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            db: Db::options()
                .durability(Durability::Os)
                .create_directory(true)
                .lock_timeout(Duration::from_secs(1)),
            namespace: "cache".to_owned(),
            is_strict: false,
            fallback: Fallback::Memory,
            timeout: Duration::from_secs(1),
            sets_aside: false,
            on_degraded: Listener::default(),
        }
    }
}

impl CacheOptions {
    /// The options of the file itself: eviction, durability, compaction, all of them: what was said about the budget, the timeout or the clock before this
    /// is forgotten, and a missing directory is not made unless they say so. What they say about
    /// damage and about falling back is overridden by those of the cache.
    ///
    /// A cache's own default is [`Durability::Os`]: what a power loss takes is computed anew.
    pub fn file(mut self, options: Options) -> Self {
        self.db = options;
        self
    }

    /// How many live bytes the file may hold; see [`Options::max_bytes`]. Of a server that is its own matter.
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.db = self.db.max_bytes(max_bytes);
        self
    }

    /// What the names of all keys of this cache begin with, so that others can share the file; `cache` by default. Up to 64 bytes without
    /// braces and colons.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Whether the cache's own errors are given back rather than worked around; no by default.
    ///
    /// By default a place that cannot be opened is replaced (see [`CacheOptions::fallback`]), a value that cannot be read or stored is computed, and
    /// [`CacheStats::not_stored`](super::CacheStats::not_stored) and [`Cache::last_error`] tell. A strict cache gives errors back
    /// instead, from opening on, damage among them.
    pub fn strict(mut self, strict: bool) -> Self {
        self.is_strict = strict;
        self
    }

    /// What the cache may be if the file or server cannot be opened; [`Fallback::Memory`] by default.
    ///
    /// - [`Fallback::Memory`]: the file for reading only, else memory.
    /// - [`Fallback::ReadOnly`]: the file for reading only, else an error.
    /// - [`Fallback::None`]: an error.
    ///
    /// [`DegradedTo`] says what works then.
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        self.fallback = fallback;
        self
    }

    /// Whether a file of something else at the path is set aside for a new one; no by default.
    ///
    /// By default the cache leaves such a file alone and works in memory for as long as the file is
    /// there. With `true` it renames the file to `NAME.stranger-0`, or the first number that is free,
    /// and creates a new one. The file is never changed or deleted; [`Cache::degraded`] and
    /// [`Recovery::set_aside`](crate::Recovery::set_aside) say where it is. Any number of processes may
    /// do this at the same time. A path that is a symbolic link, directory or device is left alone, and
    /// so is a brasa file of a newer version.
    pub fn set_aside_strangers(mut self, set_aside: bool) -> Self {
        self.sets_aside = set_aside;
        self
    }

    /// Sets the function that is called if the cache is opened as less than was asked for
    /// ([`Cache::degraded`]). By default a line on standard error says so, once a process for each
    /// reason. `|_| ()` silences it.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// let options = brasa::Cache::options().on_degraded(|degraded| {
    ///     eprintln!("my-tool: {degraded}");
    /// });
    /// let cache = options.open(directory.path())?; // a directory is no file
    /// assert!(cache.degraded().is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_degraded(mut self, listener: impl Fn(&Degraded) + Send + Sync + 'static) -> Self {
        self.on_degraded = Listener::new(listener);
        self
    }

    /// How long opening and storing wait for another process that has the file's lock, or for a server; one second by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.db = self.db.lock_timeout(timeout);
        self.timeout = timeout;
        self
    }

    /// The clock that deadlines are measured by; the system's by default.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.db = self.db.clock(clock);
        self
    }

    /// Opens the cache at a path, where a `~/` at the beginning stands for the home directory; file and directory are made where they are missing,
    /// for the owner alone. With feature `redis` it may be the URL of a server instead: `redis://`, `rediss://`, `redis+cluster://`, `rediss+cluster://`.
    ///
    /// # Errors
    ///
    /// - As [`Db::open`], and [`Error::Remote`] where the server cannot be reached; but only if the cache is [strict](CacheOptions::strict) or has nothing to fall back to.
    /// - [`Error::Encoding`] for a namespace that cannot be one, and for a URL without feature `redis`.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Cache> {
        self.check_namespace()?;
        let path = path.as_ref();
        if let Some(url) = path.to_str().filter(|path| is_url(path)) {
            return self.open_url(url);
        }
        let path = match expand_home(path) {
            Ok(path) => path,
            Err(error) => return self.fall_back(error),
        };
        match self.open_file(&path) {
            Ok(db) => self.over_db(db),
            Err(error) => self.fall_back_from(&path, error),
        }
    }

    fn open_file(&self, path: &Path) -> Result<Db> {
        let mut options = self.db.clone().fallback(Fallback::None);
        options.set_aside_strangers = self.sets_aside && !path.is_symlink();
        options.on_damage(self.on_damage()).open(path)
    }

    fn on_damage(&self) -> OnDamage {
        match self.is_strict {
            true => OnDamage::Error,
            false => OnDamage::Salvage,
        }
    }

    /// Opens the file for reading only if it could not be opened for writing, so that its values are
    /// still hits.
    fn fall_back_from(self, path: &Path, error: Error) -> Result<Cache> {
        if self.is_strict || self.fallback == Fallback::None {
            return Err(error);
        }
        let options = self.db.clone().read_only(true).exclusive(false);
        // The first attempt has waited for locks.
        let options = options.lock_timeout(Duration::ZERO);
        let options = options.fallback(Fallback::None);
        match options.on_damage(self.on_damage()).open(path) {
            Err(_) => self.fall_back(error),
            Ok(db) => {
                let degraded = Degraded {
                    to: DegradedTo::ReadOnly,
                    reason: error.to_string(),
                };
                Ok(self.over(Store::Db(db), Some(degraded)))
            }
        }
    }

    #[cfg(feature = "redis")]
    fn open_url(self, url: &str) -> Result<Cache> {
        match super::remote::RemoteStore::open(url, self.timeout, &self.db) {
            Ok(remote) => Ok(self.over(Store::Remote(Box::new(remote)), None)),
            Err(error) => self.fall_back(error),
        }
    }

    #[cfg(not(feature = "redis"))]
    fn open_url(self, _url: &str) -> Result<Cache> {
        Err(Error::Encoding {
            type_name: "URL",
            reason: "this build has no feature \"redis\"".to_owned(),
        })
    }

    /// Whatever has kept the file or the server from being opened, a cache in memory still does its work in this process.
    pub(super) fn fall_back(self, error: Error) -> Result<Cache> {
        if self.is_strict || self.fallback != Fallback::Memory {
            return Err(error);
        }
        let db = self.db.clone().read_only(false).open_in_memory()?;
        let degraded = Degraded {
            to: DegradedTo::Memory,
            reason: error.to_string(),
        };
        Ok(self.over(Store::Db(db), Some(degraded)))
    }

    /// A cache in a database that is open already, beside whatever else is in it.
    ///
    /// # Errors
    ///
    /// [`Error::Encoding`] for a namespace that cannot be one.
    pub fn over_db(self, db: Db) -> Result<Cache> {
        self.check_namespace()?;
        let degraded = degraded(&db);
        Ok(self.over(Store::Db(db), degraded))
    }

    /// A cache in memory, for one process.
    ///
    /// # Errors
    ///
    /// As [`Options::open_in_memory`], and [`Error::Encoding`] for a namespace that cannot be one.
    pub fn open_in_memory(self) -> Result<Cache> {
        self.check_namespace()?;
        let db = self.db.clone().open_in_memory()?;
        Ok(self.over(Store::Db(db), None))
    }

    fn check_namespace(&self) -> Result<()> {
        if is_namespace(&self.namespace) {
            return Ok(());
        }
        Err(Error::Encoding {
            type_name: "namespace",
            reason: format!(
                "{:?} is empty, longer than 64 bytes, or has a brace or colon",
                self.namespace
            ),
        })
    }

    fn over(self, store: Store, degraded: Option<Degraded>) -> Cache {
        if let Some(degraded) = &degraded {
            self.on_degraded.tell(degraded);
        }
        Cache::of(Inner::new(
            Arc::new(store),
            self.namespace,
            self.is_strict,
            degraded,
        ))
    }
}

/// In which way a database is less than what was asked for.
fn degraded(db: &Db) -> Option<Degraded> {
    let recovery = db.recovery();
    let to = match recovery.fallback {
        Fallback::Memory => DegradedTo::Memory,
        Fallback::ReadOnly => DegradedTo::ReadOnly,
        Fallback::None if recovery.set_aside.is_some() => {
            let kept = recovery.set_aside.as_deref().unwrap_or(Path::new(""));
            return Some(Degraded {
                to: DegradedTo::Anew,
                reason: format!(
                    "{} was not a brasa file, it is {} now",
                    db.path().display(),
                    kept.display()
                ),
            });
        }
        Fallback::None => {
            let report = recovery.salvaged.as_ref()?;
            return Some(Degraded {
                to: DegradedTo::Salvaged,
                reason: format!(
                    "{} was damaged, {} bytes are lost",
                    db.path().display(),
                    report.lost_bytes()
                ),
            });
        }
    };
    Some(Degraded {
        to,
        reason: recovery.fallback_reason.clone().unwrap_or_default(),
    })
}

/// Whether it is meant to be a URL, of whichever scheme: no file is called so, and one that nobody knows is not to become a directory.
fn is_url(path: &str) -> bool {
    let is_of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    path.split_once("://")
        .is_some_and(|(scheme, _)| !scheme.is_empty() && scheme.chars().all(is_of_scheme))
}

/// The path with the home directory for a `~/` at its beginning; an error where the environment names none.
fn expand_home(path: &Path) -> Result<PathBuf> {
    let Ok(below) = path.strip_prefix("~") else {
        return Ok(path.to_owned());
    };
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let none = || io::Error::new(io::ErrorKind::NotFound, "HOME is not set");
    let home = home
        .ok_or_else(none)
        .map_err(Error::io("find the home of", path))?;
    Ok(Path::new(&home).join(below))
}
