//! The counters of a cache.
//!
//! Invariant: counting never blocks. The counters are relaxed atomics, and those of hits are
//! sharded, so that threads do not share a cache line.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use crate::sync::Word;
use crate::sync::atomic::{AtomicU64, Ordering};

const SHARDS: usize = 16;

/// The counters of hits of some threads. The alignment is two cache lines, since processors fetch
/// lines in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Shard {
    hits: AtomicU64,
    stale_hits: AtomicU64,
}

/// The counters of one handle.
#[derive(Default)]
pub(super) struct Counters {
    shards: [Shard; SHARDS],
    pub(super) misses: AtomicU64,
    pub(super) failure_hits: AtomicU64,
    pub(super) refreshes: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) not_stored: AtomicU64,
    pub(super) takeovers: AtomicU64,
    pub(super) impatient: AtomicU64,
    pub(super) timeouts: AtomicU64,
    waits: Timed,
    computations: Timed,
}

/// The count, the sum and the maximum of a duration.
#[derive(Default)]
struct Timed {
    count: AtomicU64,
    total_ns: AtomicU64,
    longest_ns: AtomicU64,
}

impl Timed {
    fn note(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.total_ns.fetch_add(ns, Ordering::Relaxed);
        self.longest_ns.fetch_max(ns, Ordering::Relaxed);
    }

    fn read(&self) -> CacheTimes {
        let ns = |counter: &AtomicU64| Duration::from_nanos(counter.load(Ordering::Relaxed));
        CacheTimes {
            count: self.count.load(Ordering::Relaxed),
            total: ns(&self.total_ns),
            longest: ns(&self.longest_ns),
        }
    }
}

/// Returns the shard of this thread.
fn shard() -> usize {
    static NEXT: Word = Word::new(0);
    crate::sync::thread_local! {
        static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    let mine = MINE.get();
    if mine != usize::MAX {
        return mine;
    }
    let threads = NEXT.fetch_add(1, Ordering::Relaxed);
    // Less than the number of shards.
    #[allow(clippy::cast_possible_truncation)]
    let mine = (threads % SHARDS as u64) as usize;
    MINE.set(mine);
    mine
}

/// Adds one to a counter.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    #[inline]
    pub(super) fn hit(&self) {
        count(&self.shards[shard()].hits);
    }

    pub(super) fn stale_hit(&self) {
        count(&self.shards[shard()].stale_hits);
    }

    pub(super) fn waited(&self, time: Duration) {
        self.waits.note(time);
    }

    pub(super) fn computed(&self, time: Duration) {
        self.computations.note(time);
    }

    pub(super) fn read(&self) -> CacheStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let sum =
            |of: fn(&Shard) -> &AtomicU64| self.shards.iter().map(|shard| load(of(shard))).sum();
        CacheStats {
            hits: sum(|shard| &shard.hits),
            stale_hits: sum(|shard| &shard.stale_hits),
            misses: load(&self.misses),
            failure_hits: load(&self.failure_hits),
            refreshes: load(&self.refreshes),
            failures: load(&self.failures),
            not_stored: load(&self.not_stored),
            takeovers: load(&self.takeovers),
            impatient: load(&self.impatient),
            timeouts: load(&self.timeouts),
            waits: self.waits.read(),
            computations: self.computations.read(),
        }
    }
}

/// The number and the durations of an event; part of [`CacheStats`], which has an example.
///
/// The struct is `#[non_exhaustive]`: later versions may add fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CacheTimes {
    /// The number of events.
    pub count: u64,
    /// The sum of their durations.
    pub total: Duration,
    /// The longest duration.
    pub longest: Duration,
}

/// The counters of a handle on a cache and its clones; from [`Cache::stats`](super::Cache::stats).
///
/// Each lookup counts as a hit, a stale hit, a miss, or a remembered failure. Each process counts
/// its own calls.
///
/// The struct is `#[non_exhaustive]`: later versions may add fields.
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// let cache = brasa::Cache::in_memory()?;
/// cache.get_with("user:7", || "Minevaldo".to_owned());
/// let stats = cache.stats();
/// assert_eq!((stats.misses, stats.computations.count), (1, 1));
/// println!("the slowest computation took {:?}", stats.computations.longest);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CacheStats {
    /// Lookups that returned a fresh value.
    pub hits: u64,
    /// Lookups that returned a value past its [`Cache::ttl`](super::Cache::ttl).
    pub stale_hits: u64,
    /// Lookups without a value, or with one of another type or version or with an invalidated tag.
    pub misses: u64,
    /// Lookups that found a remembered failure
    /// ([`Cache::negative_ttl`](super::Cache::negative_ttl)).
    pub failure_hits: u64,
    /// Computations that began while an old value was there, stale or due early.
    pub refreshes: u64,
    /// Computations that failed.
    pub failures: u64,
    /// Values that were computed and not stored: because of an error, because the caller had no
    /// lease, or because the key was invalidated or got a newer value meanwhile.
    pub not_stored: u64,
    /// Leases that were acquired from an owner that had stopped renewing them: killed, stopped or
    /// starved.
    pub takeovers: u64,
    /// Computations without a lease: the wait was over, or the lease could not be acquired.
    pub impatient: u64,
    /// Waits that ended with [`CacheError::TimedOut`](super::CacheError::TimedOut).
    pub timeouts: u64,
    /// Waits for the computation of another thread or process.
    pub waits: CacheTimes,
    /// Computations, successful or failed.
    pub computations: CacheTimes,
}

impl fmt::Display for CacheStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} hits, {} stale, {} misses; {} waits, longest {:.1?}; {} computations in {:.1?}, longest {:.1?}",
            self.hits,
            self.stale_hits,
            self.misses,
            self.waits.count,
            self.waits.longest,
            self.computations.count,
            self.computations.total,
            self.computations.longest
        )
    }
}
