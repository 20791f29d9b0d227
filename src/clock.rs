//! The clock, behind a trait so that tests can move it.
//!
//! This is the only place that reads the system's time of day. Deadlines are
//! absolute Unix milliseconds: if the clock steps back, data lives longer by
//! that step, and if it jumps ahead, data expires early. Nothing is written
//! because of the clock alone, so a clock that is set right again brings back
//! what had only seemed expired and was not written to meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        duration_ms(since_epoch)
    }
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

/// A duration in whole milliseconds, cut to what 64 bits hold.
pub(crate) fn duration_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
