//! The clock, behind a trait so that tests can move it.
//!
//! This is the only place that reads the system's time of day. Deadlines are
//! absolute Unix milliseconds: if the clock steps back, data lives longer by
//! that step, and if it jumps ahead, data expires early. Nothing is written
//! because of the clock alone, so a clock that is set right again brings back
//! what had only seemed expired and was not written to meanwhile. Compaction is the
//! exception: it drops for good what had expired when it began.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::sync::Arc;
use crate::sync::Instant;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::thread;

/// A source of the current time.
pub trait Clock: Send + Sync {
    /// The current time in Unix milliseconds.
    fn now_ms(&self) -> u64;
}

/// The system's clock.
///
/// A clock set before 1970 reads as 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        unix_ms(SystemTime::now())
    }
}

/// Returns a time in Unix milliseconds, rounded down: 0 before 1970, `u64::MAX` beyond what fits.
pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    duration_ms(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A clock that stands still until it is moved; clones share their time.
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
    /// A clock that shows `now_ms`, in Unix milliseconds.
    pub fn new(now_ms: u64) -> Self {
        Self {
            now_ms: Arc::new(AtomicU64::new(now_ms)),
        }
    }

    /// Moves the clock forward; it stops at `u64::MAX` milliseconds.
    pub fn advance(&self, by: Duration) {
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        self.set(now_ms.saturating_add(duration_ms(by)));
    }

    /// Sets the clock, backwards too.
    pub fn set(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }
}

/// How much of a timeout is left for a caller that polls.
///
/// Time for which the process was stopped (SIGSTOP, Ctrl-Z, a machine that slept) does not count:
/// a sleep that took far longer than asked for counts as little more than that.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    timeout: Duration,
    waited: Duration,
}

impl Patience {
    /// The longest delay of a sleep that counts. A busy machine wakes a process up late; one that is
    /// later was stopped.
    const LONGEST_DELAY: Duration = Duration::from_millis(100);

    pub(crate) fn new(timeout: Duration) -> Patience {
        Patience {
            timeout,
            waited: Duration::ZERO,
        }
    }

    /// The same, some of which is over.
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

    /// Sleeps for this long, or until the timeout is over.
    pub(crate) fn sleep(&mut self, pause: Duration) {
        let pause = pause.min(self.left());
        let begun = Instant::now();
        thread::sleep(pause);
        self.count(pause, begun.elapsed());
    }

    /// Counts a sleep that was to take `pause`, or a wait that was to take no longer.
    pub(crate) fn count(&mut self, pause: Duration, took: Duration) {
        let counted = took.min(pause.saturating_add(Self::LONGEST_DELAY));
        self.waited = self.waited.saturating_add(counted);
    }
}

/// A duration in whole milliseconds, cut to what 64 bits hold.
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
