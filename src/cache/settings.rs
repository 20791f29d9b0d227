//! The settings of a view: how long its values live, how long it waits, and their tags.

use std::time::Duration;

use super::early::uniform;
use super::{Cache, entry};
use crate::sync::Arc;

/// The outcome for a caller that has waited [`Cache::max_wait`] for another process.
///
/// Set by [`Cache::on_wait_timeout`], which has an example. Returning a stale value is not among
/// the choices, because a caller that can return one never waits
/// ([`Cache::stale_while_revalidate`]).
///
/// The enum is `#[non_exhaustive]`: later versions may add choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WaitTimeout {
    /// One thread of this process computes the value as well, without storing it. The other threads
    /// of the process wait for that thread without a limit.
    #[default]
    Compute,
    /// The caller gets [`CacheError::TimedOut`](super::CacheError::TimedOut), also if it waited for
    /// a thread of its own process.
    Error,
}

/// The shortest TTL of an entry. Redis has no shorter one, and a cache over a file must behave like
/// the same cache over a server.
pub(super) const SHORTEST_LIFE: Duration = Duration::from_millis(1);

/// The longest TTL: a hundred years. A caller that passes `Duration::MAX` wants a value that never
/// expires, and no store can hold that deadline.
pub(super) const LONGEST_LIFE: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The settings of one view.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) version: u64,
    pub(super) ttl: Option<Duration>,
    pub(super) stale: Duration,
    pub(super) negative_ttl: Option<Duration>,
    pub(super) jitter: f64,
    pub(super) beta: f64,
    pub(super) patience: Duration,
    pub(super) on_timeout: WaitTimeout,
    pub(super) tags: Option<Arc<[Vec<u8>]>>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            version: 0,
            ttl: None,
            stale: Duration::ZERO,
            negative_ttl: None,
            jitter: 0.0,
            beta: 1.0,
            patience: Duration::from_secs(10),
            on_timeout: WaitTimeout::Compute,
            tags: None,
        }
    }
}

/// How long an entry lives: until it is stale, and until it expires. `None` means without a limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub(super) soft: Option<Duration>,
    pub(super) hard: Option<Duration>,
}

impl Life {
    /// Returns a life that has no stale period.
    pub(super) fn brief(ttl: Duration) -> Life {
        Life {
            soft: None,
            hard: Some(ttl.max(SHORTEST_LIFE)),
        }
    }
}

impl Cache {
    /// Sets the version that this view stores with its values; none by default.
    ///
    /// An entry of another version is a miss. Use the version of the program, or of the data that
    /// it stores. A week after a version last stored a value, its entries are
    /// [removed](Cache::reclaim).
    ///
    /// Two versions of a program that run at the same time overwrite each other's entries. Give
    /// each of them a [namespace](super::CacheOptions::namespace) instead.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let cache = brasa::Cache::in_memory()?;
    /// cache.clone().version("2.1").insert("user:7", &"Minevaldo".to_owned())?;
    /// let found: Option<String> = cache.version("2.2").get("user:7")?;
    /// assert_eq!(found, None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn version(mut self, version: &str) -> Cache {
        self.settings.version = entry::version_stamp(version);
        self
    }

    /// Sets the TTL: how long a value is fresh. At most a hundred years; without a limit by
    /// default.
    ///
    /// After its TTL a value is missing, or stale if [`Cache::stale_while_revalidate`] is set. A
    /// TTL for a single call is set on a clone.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Cache, ManualClock};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new(1_700_000_000_000);
    /// let cache = Cache::options().clock(clock.clone()).open_in_memory()?;
    /// let cache = cache.ttl(Duration::from_secs(600));
    /// cache.insert("user:7", &"Minevaldo".to_owned())?;
    /// cache.clone().ttl(Duration::from_secs(5)).insert("price", &"3.21".to_owned())?;
    ///
    /// clock.advance(Duration::from_secs(5));
    /// assert_eq!(cache.get::<String>("price")?, None);
    /// assert!(cache.contains::<String>("user:7")?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Cache {
        self.settings.ttl = Some(ttl.min(LONGEST_LIFE));
        self
    }

    /// Sets how long a value may still be returned after its [`Cache::ttl`], while one caller
    /// computes it again; zero by default. The name is HTTP's (RFC 5861).
    ///
    /// If the new computation fails, callers also get the old value for that long.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use brasa::{Cache, ManualClock};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new(1_700_000_000_000);
    /// let cache = Cache::options().clock(clock.clone()).open_in_memory()?;
    /// let cache = cache
    ///     .ttl(Duration::from_secs(10))
    ///     .stale_while_revalidate(Duration::from_secs(60));
    /// cache.insert("user:7", &"Minevaldo".to_owned())?;
    ///
    /// clock.advance(Duration::from_secs(30));
    /// let row: String = cache.get_or_insert_with("user:7", || Err("the database is down"))?;
    /// assert_eq!(row, "Minevaldo");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn stale_while_revalidate(mut self, stale: Duration) -> Cache {
        self.settings.stale = stale.min(LONGEST_LIFE);
        self
    }

    /// Sets how long a failed computation is remembered. During that time callers get
    /// [`CacheError::FailedRecently`](super::CacheError::FailedRecently) and do not compute. By
    /// default failures are not remembered.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use brasa::{Cache, CacheError};
    /// use std::time::Duration;
    ///
    /// let cache = Cache::in_memory()?.negative_ttl(Duration::from_secs(5));
    /// let lookup = || cache.get_or_insert_with::<String, _>("user:7", || Err("no route"));
    /// assert!(matches!(lookup(), Err(CacheError::Compute("no route"))));
    /// assert!(matches!(lookup(), Err(CacheError::FailedRecently { .. })));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn negative_ttl(mut self, ttl: Duration) -> Cache {
        self.settings.negative_ttl = Some(ttl.min(LONGEST_LIFE));
        self
    }

    /// Sets the largest part, from 0 to 1, by which each TTL is shortened at random; 0 by default.
    ///
    /// Values that were stored together then do not expire together.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use std::time::Duration;
    /// // Each value is fresh for 540 to 600 seconds.
    /// let cache = brasa::Cache::in_memory()?.ttl(Duration::from_secs(600)).jitter(0.1);
    /// cache.insert("user:7", &"Minevaldo".to_owned())?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn jitter(mut self, part: f64) -> Cache {
        self.settings.jitter = if part.is_finite() {
            part.clamp(0.0, 1.0)
        } else {
            0.0
        };
        self
    }

    /// Sets how eagerly callers compute a value again before it is stale; 1 by default, 0 for
    /// never.
    ///
    /// It is the *beta* of the optimal probabilistic rule (Vattani, Chierichetti and Lowenstein,
    /// VLDB 2015). A larger beta and a longer computation both make the refresh earlier.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use std::time::Duration;
    /// let cache = brasa::Cache::in_memory()?
    ///     .ttl(Duration::from_secs(10))
    ///     .early_refresh(0.0); // no caller computes a fresh value
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn early_refresh(mut self, beta: f64) -> Cache {
        self.settings.beta = if beta.is_finite() { beta.max(0.0) } else { 0.0 };
        self
    }

    /// Sets how long a caller waits for another process that computes the value; 10 seconds by
    /// default.
    ///
    /// [`Cache::on_wait_timeout`] sets the outcome after that time, and has an example. The other
    /// process keeps its lease, and its value is stored. An owner that was killed or stopped is
    /// replaced within half a second, independently of this setting.
    #[must_use]
    pub fn max_wait(mut self, patience: Duration) -> Cache {
        self.settings.patience = patience;
        self
    }

    /// Sets the outcome for a caller that has waited [`Cache::max_wait`]; [`WaitTimeout::Compute`]
    /// by default.
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

    /// Sets the tags of the values that this view stores, for [`Cache::invalidate_tag`].
    ///
    /// A view has at most 64 tags of at most 1,024 bytes. Each tag costs a hit one more lookup.
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

    /// Returns the life of an entry that is stored now, shortened at random by the jitter.
    pub(super) fn life(&self) -> Life {
        self.life_of(self.settings.ttl)
    }

    /// Like [`Cache::life`], with the TTL of a single entry.
    pub(super) fn life_of(&self, ttl: Option<Duration>) -> Life {
        let Some(ttl) = ttl else {
            return Life {
                soft: None,
                hard: None,
            };
        };
        let part = 1.0 - self.settings.jitter * uniform();
        let shorten = |span: Duration| {
            let shortened = Duration::try_from_secs_f64(span.as_secs_f64() * part);
            // Without jitter the TTL is kept exactly: a float would round it.
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
