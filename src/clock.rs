//! The clock, as a trait, so that tests can set the time.
//!
//! Invariants:
//!
//! 1. Only this file reads the system's time of day.
//! 2. Deadlines are absolute Unix milliseconds. If the clock steps back, entries live longer by
//!    that step. If it jumps ahead, entries expire early.
//! 3. The clock alone causes no write, except that a compaction omits the entries that are expired
//!    when it begins. If the clock is set right before a compaction, an entry that expired early is
//!    back, unless it was overwritten meanwhile.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::sync::Arc;
use crate::sync::Instant;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::thread;

/// A source of the current time, for [`Options::clock`](crate::Options::clock).
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// use brasa::{Clock, Db, SystemClock};
///
/// /// A clock in whole seconds.
/// struct Seconds;
///
/// impl Clock for Seconds {
///     fn now_ms(&self) -> u64 {
///         SystemClock.now_ms() / 1_000 * 1_000
///     }
/// }
///
/// let db = Db::options().clock(Seconds).open_in_memory()?;
/// assert_eq!(db.now_ms() % 1_000, 0);
/// # Ok(())
/// # }
/// ```
pub trait Clock: Send + Sync {
    /// Returns the current time in Unix milliseconds. It may step back or jump ahead.
    fn now_ms(&self) -> u64;
}

/// The system's clock; the default. A time before 1970 reads as 0. [`Clock`] has an example.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        unix_ms(SystemTime::now())
    }
}

/// Returns a time in Unix milliseconds, rounded down. It is 0 before 1970, and at most `u64::MAX`.
pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    duration_ms(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A clock for tests, which stands still until it is set. Clones share their time.
///
/// ```
/// use brasa::{Clock, ManualClock};
/// use std::time::Duration;
///
/// let clock = ManualClock::new(1_000);
/// clock.advance(Duration::from_secs(2));
/// assert_eq!(clock.now_ms(), 3_000);
/// ```
#[derive(Debug, Clone, Default)]
pub struct ManualClock {
    now_ms: Arc<AtomicU64>,
}

impl ManualClock {
    /// Makes a clock with this time, in Unix milliseconds. [`ManualClock`] has an example.
    pub fn new(now_ms: u64) -> Self {
        Self {
            now_ms: Arc::new(AtomicU64::new(now_ms)),
        }
    }

    /// Moves the clock forward, at most to `u64::MAX` milliseconds. [`ManualClock`] has an example.
    pub fn advance(&self, by: Duration) {
        let by_ms = duration_ms(by);
        let later = |now_ms: u64| Some(now_ms.saturating_add(by_ms));
        // The closure always returns a time.
        let _ = self
            .now_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }

    /// Sets the clock to a time in Unix milliseconds, forwards or backwards.
    ///
    /// ```
    /// use brasa::{Clock, ManualClock};
    /// let clock = ManualClock::new(1_000);
    /// clock.set(500);
    /// assert_eq!(clock.now_ms(), 500);
    /// ```
    pub fn set(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }
}

/// The rest of a timeout, for a caller that polls.
///
/// The time for which the process was stopped (SIGSTOP, Ctrl-Z, a machine that slept) does not
/// count. A sleep that took longer than requested counts at most [`Self::LONGEST_DELAY`] more.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    timeout: Duration,
    waited: Duration,
}

impl Patience {
    /// The longest delay of a sleep that counts. A busy machine wakes a process up late. A process
    /// that wakes up later than this was stopped.
    const LONGEST_DELAY: Duration = Duration::from_millis(100);

    pub(crate) fn new(timeout: Duration) -> Patience {
        Patience {
            timeout,
            waited: Duration::ZERO,
        }
    }

    /// Returns this timeout with `waited` already counted.
    pub(crate) fn after(mut self, waited: Duration) -> Patience {
        self.waited = self.waited.saturating_add(waited);
        self
    }

    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }

    pub(crate) fn is_over(&self) -> bool {
        self.waited >= self.timeout
    }

    pub(crate) fn left(&self) -> Duration {
        self.timeout.saturating_sub(self.waited)
    }

    /// Sleeps for `pause`, or until the timeout is over.
    pub(crate) fn sleep(&mut self, pause: Duration) {
        let pause = pause.min(self.left());
        let begun = Instant::now();
        thread::sleep(pause);
        self.count(pause, begun.elapsed());
    }

    /// Counts a sleep of `pause`, or a wait of at most `pause`, that took the time `took`.
    pub(crate) fn count(&mut self, pause: Duration, took: Duration) {
        let counted = took.min(pause.saturating_add(Self::LONGEST_DELAY));
        self.waited = self.waited.saturating_add(counted);
    }
}

/// Returns a duration in whole milliseconds, at most `u64::MAX`.
pub(crate) fn duration_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_for_which_the_process_was_stopped_does_not_count_as_waiting() {
        let second = Duration::from_secs(1);
        let mut patience = Patience::new(2 * second);
        patience.count(Duration::from_millis(5), 3_600 * second);
        assert!(!patience.is_over() && patience.waited() < second);
        patience.count(second, second);
        patience.count(second, second);
        assert!(patience.is_over());
        let endless = Patience::new(Duration::MAX).after(Duration::MAX);
        assert!(endless.is_over());
    }
}
