//! What can be chosen where there is more than yes and no.

use std::time::Duration;

/// When a write is carried through to the device.
///
/// A write that returned `Ok` survives the death of the process under each of
/// these; they differ in what a power loss may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// A write returns once it is on the device. Writers that wait at the same time share one sync.
    Always,
    /// A write returns at once, and is synced at most this much later, on [`Db::sync`](crate::Db::sync) and on close.
    Interval(Duration),
    /// A write returns at once, and is synced on [`Db::sync`](crate::Db::sync) and on close; between, the
    /// operating system decides.
    Os,
}

impl Default for Durability {
    /// An interval of one second, as Redis's `appendfsync everysec`.
    fn default() -> Self {
        Durability::Interval(Duration::from_secs(1))
    }
}

/// What becomes of a file that is damaged where it was known to be on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnDamage {
    /// Opening fails with [`Error::Corrupt`](crate::Error::Corrupt), and nothing is changed.
    #[default]
    Error,
    /// What survives is written into a new file that takes the damaged one's place, as
    /// [`repair`](crate::inspect::repair) does it, even if that is nothing. The damaged file is kept as
    /// `FILE.damaged-0`, or the next number that is free: remove those when you have seen them.
    Salvage,
}

/// What is opened instead where the place of the file cannot be written: no permission, a read-only
/// file system, a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fallback {
    /// Nothing: opening fails.
    #[default]
    None,
    /// The file, for reading only; opening fails where there is none. Every write fails with
    /// [`Error::ReadOnly`](crate::Error::ReadOnly).
    ReadOnly,
    /// A new database in memory, which is gone when it is closed: everything works, and nothing is kept.
    Memory,
}

/// What becomes of a write that would exceed the budget; see [`Options::max_bytes`](crate::Options::max_bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Evict {
    /// Older keys that were not read since they were last passed over go first: SIEVE (Zhang et al., "SIEVE is
    /// Simpler than LRU: an Efficient Turn-Key Eviction Algorithm for Web Caches", NSDI 2024).
    #[default]
    Sieve,
    /// The write fails with [`Error::OverBudget`](crate::Error::OverBudget), and nothing goes.
    Reject,
}
