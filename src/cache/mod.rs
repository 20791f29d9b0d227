//! The cache: looks a value up, or computes it once and stores it.
//!
//! This layer knows entries, leases and staleness. It must not know the file's format or the
//! server's protocol: `store.rs` hides both. [`crate::docs::cache`] states the promises and the
//! layout of an entry.
//!
//! Invariants:
//!
//! 1. A hit writes nothing, acquires no lock of another process, and allocates only the memory that
//!    its value needs.
//! 2. A caller stores a computed value only while it leads the flight of that value in this process
//!    and its token is in the lease across processes.
//! 3. The stamps of an entry's tags are read before its computation begins. A tag that is
//!    invalidated during the computation therefore makes the stored value a miss.

#[cfg(feature = "tokio")]
mod asynchronous;
mod compute;
mod contents;
mod degraded;
mod early;
mod entry;
mod error;
mod flight;
mod insert;
mod invalidate;
mod keys;
mod lease;
mod look;
mod memoize;
mod options;
mod place;
mod reclaim;
mod refresh;
#[cfg(feature = "redis")]
mod remote;
mod settings;
mod stats;
mod store;
mod tokens;
mod value;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

pub use contents::{CacheEntries, CacheUsage};
pub use degraded::{Degraded, DegradedTo};
pub use entry::ValueKind;
pub use error::CacheError;
#[cfg(feature = "serde")]
pub use memoize::Serialized;
pub use memoize::{CacheKey, Hashed, Memoized};
pub use options::CacheOptions;
pub use settings::WaitTimeout;
pub use stats::{CacheStats, CacheTimes};
pub use value::{CacheEncoding, CacheValue, Encoded};

use crate::sync::atomic::AtomicUsize;
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use crate::{Error, Result};

use flight::Flights;
use lease::Keeper;
use settings::Settings;
use stats::Counters;
use store::Store;

/// A cache in front of something slow, shared by threads and processes.
///
/// A clone is cheap and shares everything except its settings. Each method that takes `self` and
/// returns a `Cache` makes a *view*: a handle on the same cache with another setting.
///
/// [`docs::cache`](crate::docs::cache) states which caller computes a missing value, how long a
/// value lives, and how the cache behaves when its file fails.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("tool/db.brasa");
/// use brasa::Cache;
/// use std::time::Duration;
///
/// # fn select_by_name(name: &str) -> std::io::Result<String> { Ok(format!("{name}, 29")) }
/// let cache = Cache::open(&path)?.version("2.1").ttl(Duration::from_secs(10));
/// let row: String = cache.get_or_insert_with("user:Minevaldo", || select_by_name("Minevaldo"))?;
/// assert_eq!(row, "Minevaldo, 29");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
    settings: Settings,
}

/// The state that all clones share.
struct Inner {
    store: Arc<Store>,
    keeper: Arc<Keeper>,
    flights: Arc<Flights>,
    counters: Counters,
    namespace: String,
    /// The prefix of the names of all values.
    prefix: Vec<u8>,
    is_strict: bool,
    degraded: Option<Degraded>,
    /// The number of threads that refresh in the background.
    refreshers: AtomicUsize,
    /// For each version, when this handle last entered it into the register, in Unix milliseconds.
    noted_versions: Mutex<HashMap<u64, u64>>,
    last_error: Mutex<Option<String>>,
}

impl Inner {
    fn new(
        store: Arc<Store>,
        namespace: String,
        is_strict: bool,
        degraded: Option<Degraded>,
    ) -> Inner {
        Inner {
            keeper: Keeper::new(Arc::clone(&store)),
            store,
            flights: Arc::default(),
            counters: Counters::default(),
            prefix: keys::prefix_of_values(&namespace, b""),
            namespace,
            is_strict,
            degraded,
            refreshers: AtomicUsize::new(0),
            noted_versions: Mutex::default(),
            last_error: Mutex::new(None),
        }
    }

    /// Returns an error of the store if the cache is strict; otherwise notes the error and returns
    /// `otherwise`.
    fn forgive<T>(&self, result: Result<T>, otherwise: T) -> Result<T> {
        match result {
            Err(error) if !self.is_strict => {
                self.note(&error);
                Ok(otherwise)
            }
            result => result,
        }
    }

    /// Returns `done` if a change has reached the file or server that the caller named, and
    /// [`Error::FellBack`] if it was made in memory alone.
    fn reached<T>(&self, done: T) -> Result<T> {
        match &self.degraded {
            Some(Degraded {
                to: DegradedTo::Memory,
                reason,
            }) => Err(Error::FellBack {
                reason: reason.clone(),
            }),
            _ => Ok(done),
        }
    }

    fn noted_versions(&self) -> MutexGuard<'_, HashMap<u64, u64>> {
        let noted = self.noted_versions.lock();
        noted.unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, error: &Error) {
        let mut last = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = Some(error.to_string());
    }
}

impl Cache {
    /// Opens the cache at a path, or with feature `redis` at a URL, with default options.
    ///
    /// The file and its directory are created if they are missing. A file or server that cannot be
    /// opened is replaced by memory, and [`Cache::degraded`] says so; see [`CacheOptions::open`].
    ///
    /// # Errors
    ///
    /// Those of [`CacheOptions::open`]; with default options, hardly any.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("tool/db.brasa");
    /// let cache = brasa::Cache::open(&path)?;
    /// cache.insert("chave_1", &"Relou Uourdi".to_owned())?;
    /// assert!(path.exists());
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Cache> {
        Cache::options().open(path)
    }

    /// Opens a cache in memory, for this process alone.
    ///
    /// # Errors
    ///
    /// Those of [`Options::open_in_memory`](crate::Options::open_in_memory).
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let cache = brasa::Cache::in_memory()?;
    /// cache.insert("chave_1", &"Relou Uourdi".to_owned())?;
    /// assert_eq!(cache.get::<String>("chave_1")?.as_deref(), Some("Relou Uourdi"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn in_memory() -> Result<Cache> {
        Cache::options().open_in_memory()
    }

    /// Returns the default options for opening a cache; [`CacheOptions`] has an example.
    pub fn options() -> CacheOptions {
        CacheOptions::default()
    }

    fn of(inner: Inner) -> Cache {
        Cache {
            inner: Arc::new(inner),
            settings: Settings::default(),
        }
    }

    /// Returns how this cache differs from the one that its caller asked for, or `None` if it does
    /// not differ.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// use brasa::{Cache, DegradedTo};
    /// let options = Cache::options().on_degraded(|_| ()); // no line on standard error
    /// let cache = options.open(directory.path())?; // a directory is not a file
    /// assert_eq!(cache.degraded().unwrap().to, DegradedTo::Memory);
    /// # Ok(())
    /// # }
    /// ```
    pub fn degraded(&self) -> Option<&Degraded> {
        self.inner.degraded.as_ref()
    }

    /// Returns the text of the last error that this handle or a clone has worked around.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let cache = brasa::Cache::in_memory()?;
    /// cache.get_with("user:7", || "Minevaldo".to_owned());
    /// if let Some(error) = cache.last_error() {
    ///     eprintln!("{} values were not stored: {error}", cache.stats().not_stored);
    /// }
    /// # assert_eq!(cache.last_error(), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn last_error(&self) -> Option<String> {
        let last = self.inner.last_error.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the counters of this handle and its clones, since it was opened.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let cache = brasa::Cache::in_memory()?;
    /// for _ in 0..3 {
    ///     cache.get_with("user:7", || "Minevaldo".to_owned());
    /// }
    /// let stats = cache.stats();
    /// assert_eq!((stats.hits, stats.misses), (2, 1));
    /// println!("{stats}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> CacheStats {
        self.inner.counters.read()
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("namespace", &self.inner.namespace)
            .field("degraded", &self.inner.degraded)
            .finish_non_exhaustive()
    }
}
