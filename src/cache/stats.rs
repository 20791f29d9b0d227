//! What a cache counts: with relaxed counters in shards, so that a hit waits for nobody.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const SHARDS: usize = 16;

/// On a line of its own (two, as processors fetch them), so that threads do not disturb each other.
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

/// Something that takes time: how often, how long together, and how long at most.
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

/// The shard of this thread.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    crate::sync::thread_local! {
        static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    let mine = MINE.get();
    if mine != usize::MAX {
        return mine;
    }
    let mine = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
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

/// How often something happened, and how long it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CacheTimes {
    /// How often.
    pub count: u64,
    /// All of it together.
    pub total: Duration,
    /// The longest.
    pub longest: Duration,
}

/// What a handle on a cache has seen, its clones together; from
/// [`Cache::stats`](super::Cache::stats).
///
/// Each look is a hit, a stale hit, a miss, or a remembered failure. What other processes do is
/// counted there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CacheStats {
    /// Values that were there and fresh.
    pub hits: u64,
    /// Values that were given out although their soft deadline had passed.
    pub stale_hits: u64,
    /// Keys without a value, or with one of another type or version, or with an invalidated tag.
    pub misses: u64,
    /// Failures that were remembered ([`Cache::negative_ttl`](super::Cache::negative_ttl)).
    pub failure_hits: u64,
    /// Computations that were begun before a value was gone, early or because it was stale.
    pub refreshes: u64,
    /// Computations that have failed.
    pub failures: u64,
    /// Values that were computed and not stored: because of an error, without a lease, or because
    /// the key was invalidated or got a newer value meanwhile.
    pub not_stored: u64,
    /// Leases that were taken from an owner that had stopped renewing them: killed, stopped or
    /// starved.
    pub takeovers: u64,
    /// Values that were computed without a lease, because the wait was over or there was no lease
    /// to be had.
    pub impatient: u64,
    /// Waits that ended with [`CacheError::TimedOut`](super::CacheError::TimedOut).
    pub timeouts: u64,
    /// Waits for somebody else's computation.
    pub waits: CacheTimes,
    /// Computations, in vain or not.
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
