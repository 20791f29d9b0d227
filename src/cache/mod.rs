//! The cache: look, else compute once, and store.
//!
//! What this layer knows: entries, leases, when something is stale. What it must not know: the file's format and the server's protocol,
//! which are the store's (`store.rs`). The layout of an entry and what is promised: [`crate::docs::cache`].
//!
//! Invariants:
//!
//! 1. A hit writes nothing, takes no lock of another process, and allocates nothing but what its value needs.
//! 2. Whoever computes a value holds its flight in this process, and its lease across processes, or stores nothing.
//! 3. The stamps of an entry's tags are read before its computation begins: what is invalidated meanwhile is a miss.

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
mod stats;
mod store;
mod tokens;
mod value;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

pub use contents::{CacheEntries, CacheUsage};
pub use degraded::{Degraded, DegradedTo};
pub use entry::ValueKind;
pub use error::CacheError;
#[cfg(feature = "serde")]
pub use memoize::Serialized;
pub use memoize::{CacheKey, Hashed, Memoized};
pub use options::CacheOptions;
pub use stats::{CacheStats, CacheTimes};
pub use value::{CacheEncoding, CacheValue, Encoded};

use crate::sync::atomic::AtomicUsize;
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use crate::{Error, Result};

use early::uniform;
use flight::Flights;
use lease::Keeper;
use stats::Counters;
use store::Store;

/// A cache in front of something slow, shared by threads and processes.
///
/// Clones are cheap and share everything but their settings: each method that takes `self` and gives back a `Cache` makes a *view*
/// with another setting. What a value is, how one computation serves all, and what happens when something goes wrong: [`docs::cache`](crate::docs::cache).
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

/// What a caller gets that has waited for another's computation for [`Cache::max_wait`].
///
/// A stale value is no choice here: a caller that can have one never waits
/// ([`Cache::stale_while_revalidate`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WaitTimeout {
    /// One thread of this process computes the value, too, without storing it. The other threads wait
    /// for that one, however long it takes.
    #[default]
    Compute,
    /// [`CacheError::TimedOut`], also if it was a thread of this process that the caller waited for.
    Error,
}

/// How long an entry is there at least: Redis has no shorter time to live, and the same cache over a file is to mean the same.
const SHORTEST_LIFE: Duration = Duration::from_millis(1);

/// Longest time to live: a hundred years. Whoever writes `Duration::MAX` means that nothing ends, and no store has a deadline that far.
const LONGEST_LIFE: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What all clones share.
struct Inner {
    store: Arc<Store>,
    keeper: Arc<Keeper>,
    flights: Arc<Flights>,
    counters: Counters,
    namespace: String,
    /// What the names of all values begin with.
    prefix: Vec<u8>,
    is_strict: bool,
    degraded: Option<Degraded>,
    /// Threads that refresh in the background.
    refreshers: AtomicUsize,
    /// When a version was last seen to in the register.
    noted_versions: Mutex<HashMap<u64, u64>>,
    last_error: Mutex<Option<String>>,
}

/// What a view has of its own.
#[derive(Clone)]
struct Settings {
    version: u64,
    ttl: Option<Duration>,
    stale: Duration,
    negative_ttl: Option<Duration>,
    jitter: f64,
    beta: f64,
    patience: Duration,
    on_timeout: WaitTimeout,
    tags: Option<Arc<[Vec<u8>]>>,
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

    /// Passes an error of the cache on if it is strict; else remembers it and goes on with `otherwise`.
    fn forgive<T>(&self, result: Result<T>, otherwise: T) -> Result<T> {
        match result {
            Err(error) if !self.is_strict => {
                self.note(&error);
                Ok(otherwise)
            }
            result => result,
        }
    }

    /// The outcome of a change that was made: an error if it could not reach the file or server that was
    /// named.
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
    /// Opens the cache at a path, or with feature `redis` at a URL, with default options; see [`CacheOptions::open`].
    ///
    /// # Errors
    ///
    /// As [`CacheOptions::open`]: by default next to none, since what cannot be opened is replaced by memory; [`Cache::degraded`] says
    /// whether it was.
    pub fn open(path: impl AsRef<Path>) -> Result<Cache> {
        Cache::options().open(path)
    }

    /// A cache in memory, for one process.
    ///
    /// # Errors
    ///
    /// As [`Options::open_in_memory`](crate::Options::open_in_memory).
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

    /// Options for opening a cache.
    pub fn options() -> CacheOptions {
        CacheOptions::default()
    }

    fn of(inner: Inner) -> Cache {
        Cache {
            inner: Arc::new(inner),
            settings: Settings {
                version: 0,
                ttl: None,
                stale: Duration::ZERO,
                negative_ttl: None,
                jitter: 0.0,
                beta: 1.0,
                patience: Duration::from_secs(10),
                on_timeout: WaitTimeout::Compute,
                tags: None,
            },
        }
    }

    /// A stamp that entries carry: those with another are misses, and are [reclaimed](Cache::reclaim) a week after that one was last in use. For the version of the program, or of what it stores; none by
    /// default.
    ///
    /// Programs of two versions that run at the same time overwrite each other's entries: give them [namespaces](CacheOptions::namespace) instead.
    #[must_use]
    pub fn version(mut self, version: &str) -> Cache {
        self.settings.version = entry::version_stamp(version);
        self
    }

    /// How long a value is fresh, a hundred years at most; for ever by default. It is gone then, or, with [`Cache::stale_while_revalidate`], stale.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Cache {
        self.settings.ttl = Some(ttl.min(LONGEST_LIFE));
        self
    }

    /// How long a value is still given out behind its [`Cache::ttl`], while one caller computes it anew; not at all by default. (HTTP calls
    /// it so, RFC 5861.) Where computing it fails, it is given out for that long, too.
    #[must_use]
    pub fn stale_while_revalidate(mut self, stale: Duration) -> Cache {
        self.settings.stale = stale.min(LONGEST_LIFE);
        self
    }

    /// How long a failed computation is remembered: until then callers get [`CacheError::FailedRecently`] instead of trying again. Failures are
    /// not remembered by default.
    #[must_use]
    pub fn negative_ttl(mut self, ttl: Duration) -> Cache {
        self.settings.negative_ttl = Some(ttl.min(LONGEST_LIFE));
        self
    }

    /// By what part of itself, from 0 to 1, a time to live is shortened at most, by chance, so that what was stored together does not end together; 0 by
    /// default.
    #[must_use]
    pub fn jitter(mut self, part: f64) -> Cache {
        self.settings.jitter = if part.is_finite() {
            part.clamp(0.0, 1.0)
        } else {
            0.0
        };
        self
    }

    /// How eagerly values are computed anew before they are stale: the *beta* of the optimal probabilistic rule (Vattani, Chierichetti, Lowenstein,
    /// VLDB 2015), 1 by default, 0 for never. The earlier, the longer the computing takes.
    #[must_use]
    pub fn early_refresh(mut self, beta: f64) -> Cache {
        self.settings.beta = if beta.is_finite() { beta.max(0.0) } else { 0.0 };
        self
    }

    /// How long to wait for another process that computes the value; 10 seconds by default. What happens
    /// then is set by [`Cache::on_wait_timeout`]. The other process keeps its lease, and its value is
    /// stored.
    ///
    /// An owner that was killed or stopped is replaced within half a second, whatever this says.
    #[must_use]
    pub fn max_wait(mut self, patience: Duration) -> Cache {
        self.settings.patience = patience;
        self
    }

    /// What a caller gets that has waited for [`Cache::max_wait`]; [`WaitTimeout::Compute`] by default.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Cache, WaitTimeout};
    /// use std::time::Duration;
    /// let cache = Cache::in_memory()?
    ///     .max_wait(Duration::from_secs(2))
    ///     .on_wait_timeout(WaitTimeout::Error);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on_wait_timeout(mut self, on_timeout: WaitTimeout) -> Cache {
        self.settings.on_timeout = on_timeout;
        self
    }

    /// The tags of what this view stores, for [`Cache::invalidate_tag`]: up to 64, each of up to 1,024 bytes. Each costs a hit one more look.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let cache = brasa::Cache::in_memory()?;
    /// cache.clone().tags(["users"]).insert("user:7", &"Minevaldo".to_owned())?;
    /// cache.invalidate_tag("users")?;
    /// assert_eq!(cache.get::<String>("user:7")?, None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tags<T: AsRef<[u8]>>(mut self, tags: impl IntoIterator<Item = T>) -> Cache {
        let tags: Vec<Vec<u8>> = tags.into_iter().map(|tag| tag.as_ref().to_vec()).collect();
        self.settings.tags = (!tags.is_empty()).then(|| tags.into());
        self
    }

    /// What this cache is instead of what was asked for; `None` where it is just that.
    pub fn degraded(&self) -> Option<&Degraded> {
        self.inner.degraded.as_ref()
    }

    /// The last error that was worked around, as text.
    pub fn last_error(&self) -> Option<String> {
        let last = self.inner.last_error.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What this handle and its clones have seen.
    pub fn stats(&self) -> CacheStats {
        self.inner.counters.read()
    }

    /// Returns how long an entry that is stored now lives, shortened at random.
    fn life(&self) -> Life {
        self.life_of(self.settings.ttl)
    }

    /// Like [`Cache::life`], with the TTL of a single entry.
    fn life_of(&self, ttl: Option<Duration>) -> Life {
        let Some(ttl) = ttl else {
            return Life {
                soft: None,
                hard: None,
            };
        };
        let part = 1.0 - self.settings.jitter * uniform();
        let shorten = |span: Duration| {
            let shortened = Duration::try_from_secs_f64(span.as_secs_f64() * part);
            // In whole milliseconds a deadline stays what was asked for.
            shortened.map_or(span, |shortened| match self.settings.jitter {
                0.0 => span,
                _ => shortened,
            })
        };
        Life {
            soft: Some(shorten(ttl)),
            hard: Some(shorten(ttl.saturating_add(self.settings.stale)).max(SHORTEST_LIFE)),
        }
    }
}

/// How long an entry lives: until it is stale, and until it is gone; for ever without.
#[derive(Debug, Clone, Copy)]
struct Life {
    soft: Option<Duration>,
    hard: Option<Duration>,
}

impl Life {
    /// A life that ends without having been stale.
    fn brief(ttl: Duration) -> Life {
        Life {
            soft: None,
            hard: Some(ttl.max(SHORTEST_LIFE)),
        }
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
