//! The options that have more than two choices.

use std::time::Duration;

/// When a write is synced to the device; set by
/// [`Options::durability`](crate::Options::durability).
///
/// A write that returned `Ok` survives a kill of the process under every choice. The choices differ
/// in the writes that a power loss may take. [`Options`](crate::Options) has an example.
///
/// The enum is `#[non_exhaustive]`: later versions may add choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// A write returns after it is on the device. Writers that wait at the same time share one
    /// sync.
    Always,
    /// A write returns before it is on the device. It is synced at most this much later, on
    /// [`Db::sync`](crate::Db::sync), and on close.
    Interval(Duration),
    /// A write returns before it is on the device. It is synced on [`Db::sync`](crate::Db::sync)
    /// and on close. At other times the operating system decides.
    Os,
}

impl Default for Durability {
    /// Returns an interval of one second, like Redis's `appendfsync everysec`.
    fn default() -> Self {
        Durability::Interval(Duration::from_secs(1))
    }
}

/// The action on a damaged file; set by [`Options::on_damage`](crate::Options::on_damage), which
/// has an example.
///
/// Damage is an invalid record before the position up to which the log is known to be on the
/// device. A torn tail after that position is not damage.
///
/// The enum is `#[non_exhaustive]`: later versions may add choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnDamage {
    /// Opening fails with [`Error::Corrupt`](crate::Error::Corrupt), and the file is unchanged.
    #[default]
    Error,
    /// Opening writes the surviving records into a new file, like
    /// [`repair`](crate::inspect::repair), even if there are none. The new file replaces the
    /// damaged one. The damaged file is kept as `FILE.damaged-0`, or with the next free number,
    /// until you remove it.
    Salvage,
}

/// The replacement for a file that cannot be written: no permission, a read-only file system, a
/// full disk.
///
/// Set by [`Options::fallback`](crate::Options::fallback) and
/// [`CacheOptions::fallback`](crate::CacheOptions::fallback), which have examples.
///
/// The enum is `#[non_exhaustive]`: later versions may add choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fallback {
    /// No replacement: opening fails.
    #[default]
    None,
    /// The file, for reading only. Opening fails if there is no file. Every write fails with
    /// [`Error::ReadOnly`](crate::Error::ReadOnly).
    ReadOnly,
    /// A new, empty database in memory. All calls work, and closing it discards the contents.
    Memory,
}

/// The action on a write that would exceed the budget; set by
/// [`Options::evict`](crate::Options::evict). [`Options::max_bytes`](crate::Options::max_bytes) has
/// an example.
///
/// The enum is `#[non_exhaustive]`: later versions may add choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Evict {
    /// Evicts by SIEVE: the oldest keys first, except those read since the eviction hand last
    /// passed them (Zhang et al., "SIEVE is Simpler than LRU: an Efficient Turn-Key Eviction
    /// Algorithm for Web Caches", NSDI 2024).
    #[default]
    Sieve,
    /// The write fails with [`Error::OverBudget`](crate::Error::OverBudget), and no key is evicted.
    Reject,
}
