//! Opening a cache, and falling back when that fails.
//!
//! Invariant: unless the cache is strict or has no fallback, opening returns a cache that works.
//! The listener is called once if the cache is less than its caller asked for.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::degraded::{Degraded, DegradedTo, Listener};
use super::keys::is_namespace;
use super::store::Store;
use super::{Cache, Inner};
use crate::sync::Arc;
use crate::{Clock, Db, Durability, Error, Fallback, OnDamage, Options, Result};

/// Options for opening a cache; made by [`Cache::options`].
///
/// The fields are private, so that later versions can add options.
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
    /// Replaces all options of the file: eviction, durability, compaction and the others.
    ///
    /// Call this before [`max_bytes`](Self::max_bytes), [`timeout`](Self::timeout) and
    /// [`clock`](Self::clock), whose settings it replaces as well. A missing directory is then
    /// created only with [`Options::create_directory`]. The cache's own options override
    /// [`Options::on_damage`] and [`Options::fallback`].
    ///
    /// By default a cache uses [`Durability::Os`]: values that a power loss takes are computed
    /// again.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("db.brasa");
    /// use brasa::{Cache, Db, Durability};
    /// let file = Db::options().durability(Durability::Always).mode(0o660);
    /// let cache = Cache::options().file(file).max_bytes(64 << 20).open(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn file(mut self, options: Options) -> Self {
        self.db = options;
        self
    }

    /// Sets how many live bytes the file may hold; without a limit by default.
    ///
    /// A write beyond the limit evicts older entries; see [`Options::max_bytes`]. It has no effect
    /// on a server, which has a limit of its own. [`CacheOptions`] has an example.
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.db = self.db.max_bytes(max_bytes);
        self
    }

    /// Sets the prefix of all keys of this cache, so that several caches can share a file or
    /// server; `cache` by default. It has 1 to 64 bytes, without braces and colons.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Cache, Db};
    /// let db = Db::in_memory()?;
    /// let users = Cache::options().namespace("users").over_db(db.clone())?;
    /// let prices = Cache::options().namespace("prices").over_db(db)?;
    /// users.insert("7", &"Minevaldo".to_owned())?;
    /// assert_eq!(prices.get::<String>("7")?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Sets whether calls return the cache's own errors; `false` by default.
    ///
    /// By default the cache works around its errors. It replaces a path that cannot be opened
    /// ([`CacheOptions::fallback`]), and computes a value that cannot be read or stored.
    /// [`CacheStats::not_stored`](super::CacheStats::not_stored) and [`Cache::last_error`] report
    /// it. A strict cache returns every error, from opening on, and does not salvage a damaged
    /// file.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// let options = brasa::Cache::options().strict(true);
    /// assert!(options.open(directory.path()).is_err(), "a directory is not a file");
    /// ```
    pub fn strict(mut self, strict: bool) -> Self {
        self.is_strict = strict;
        self
    }

    /// Sets what the cache may fall back to if the file or server cannot be opened;
    /// [`Fallback::Memory`] by default.
    ///
    /// - [`Fallback::Memory`]: the file for reading only, otherwise memory.
    /// - [`Fallback::ReadOnly`]: the file for reading only, otherwise an error.
    /// - [`Fallback::None`]: an error.
    ///
    /// [`DegradedTo`] states which calls work after a fallback.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// use brasa::{Cache, Fallback};
    /// let options = Cache::options().fallback(Fallback::ReadOnly);
    /// assert!(options.open(directory.path()).is_err(), "a directory is not a file");
    /// ```
    pub fn fallback(mut self, fallback: Fallback) -> Self {
        self.fallback = fallback;
        self
    }

    /// Sets whether a file of another format at the path is renamed and a new file created; `false`
    /// by default.
    ///
    /// By default the cache does not touch such a file, and works in memory while the file is
    /// there. With `true` the cache renames it to `NAME.stranger-0`, or the first number that is
    /// free, and creates a new file. It never changes or deletes the old one. [`Cache::degraded`]
    /// and [`Recovery::set_aside`](crate::Recovery::set_aside) name its new path.
    ///
    /// Any number of processes may do this at the same time. The cache never renames a symbolic
    /// link, a directory, a device, or a brasa file of a newer version.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("db");
    /// use brasa::{Cache, DegradedTo};
    /// std::fs::write(&path, "another format")?;
    /// let options = Cache::options().set_aside_strangers(true).on_degraded(|_| ());
    /// let cache = options.open(&path)?;
    /// assert_eq!(cache.degraded().unwrap().to, DegradedTo::Anew);
    /// assert_eq!(std::fs::read(directory.path().join("db.stranger-0"))?, b"another format");
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_aside_strangers(mut self, set_aside: bool) -> Self {
        self.sets_aside = set_aside;
        self
    }

    /// Sets the function that is called if the cache is opened as less than its caller asked for
    /// ([`Cache::degraded`]). By default the cache writes a line to standard error, once in a
    /// process for each reason. The function `|_| ()` silences it.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// let options = brasa::Cache::options().on_degraded(|degraded| {
    ///     eprintln!("my-tool: {degraded}");
    /// });
    /// let cache = options.open(directory.path())?; // a directory is not a file
    /// assert!(cache.degraded().is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_degraded(mut self, listener: impl Fn(&Degraded) + Send + Sync + 'static) -> Self {
        self.on_degraded = Listener::new(listener);
        self
    }

    /// Sets how long opening and storing wait for another process that holds the file's lock, or
    /// for a server; one second by default.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use std::time::Duration;
    /// let options = brasa::Cache::options().timeout(Duration::from_millis(200));
    /// let cache = options.open_in_memory()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.db = self.db.lock_timeout(timeout);
        self.timeout = timeout;
        self
    }

    /// Sets the clock that deadlines are compared with; the system's by default.
    ///
    /// For tests, together with [`ManualClock`](crate::ManualClock); [`Cache::ttl`] has an example.
    /// A server judges hard deadlines and leases by its own clock.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.db = self.db.clock(clock);
        self
    }

    /// Opens the cache at a path. A leading `~/` stands for the home directory.
    ///
    /// The file and its directory are created if they are missing, with access for their owner
    /// alone. With feature `redis` the path may be the URL of a server instead: `redis://`,
    /// `rediss://`, `redis+cluster://` or `rediss+cluster://`. [`CacheOptions`] has an example.
    ///
    /// # Errors
    ///
    /// - [`Error::Encoding`] for an invalid [namespace](CacheOptions::namespace), and for a URL
    ///   without feature `redis`.
    /// - Those of [`Db::open`], and [`Error::Remote`] if the server cannot be reached, if the cache
    ///   is [strict](CacheOptions::strict) or its [fallback](CacheOptions::fallback) does not help.
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

    /// Opens the file for reading only after it could not be opened for writing, so that its values
    /// are still hits.
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

    /// Opens a cache in memory after the file or server could not be opened. It still serves this
    /// process.
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

    /// Makes a cache in a database that is already open. It shares the database with all other
    /// keys.
    ///
    /// [`CacheOptions::namespace`] has an example.
    ///
    /// # Errors
    ///
    /// [`Error::Encoding`] for an invalid [namespace](CacheOptions::namespace).
    pub fn over_db(self, db: Db) -> Result<Cache> {
        self.check_namespace()?;
        let degraded = degraded(&db);
        Ok(self.over(Store::Db(db), degraded))
    }

    /// Opens a cache in memory, for this process alone; [`Cache::ttl`] has an example.
    ///
    /// # Errors
    ///
    /// Those of [`Options::open_in_memory`], and [`Error::Encoding`] for an invalid
    /// [namespace](CacheOptions::namespace).
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

/// Returns how a database differs from the one that its caller asked for.
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

/// Returns whether a path is meant as a URL of any scheme. A URL of an unknown scheme must be an
/// error, and must not create a directory of that name.
fn is_url(path: &str) -> bool {
    let is_of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    path.split_once("://")
        .is_some_and(|(scheme, _)| !scheme.is_empty() && scheme.chars().all(is_of_scheme))
}

/// Replaces a leading `~/` by the home directory. Fails if the environment names none.
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
