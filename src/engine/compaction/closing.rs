//! Compaction by a process that closes the file.
//!
//! A short-lived program has no time for a background thread, so closing compacts the whole file or
//! nothing. It leaves no half-done file for a later process to trust.
//!
//! The cost is bounded. Let *L* be the live bytes, and *d* the share of the log that must be dead
//! before a compaction starts. At least *L d / (1 - d)* dead bytes were appended since the last
//! compaction. A compaction copies *L* bytes, so each appended byte pays for copying *(1 - d) / d*
//! bytes: one at *d* = 1/2, a third at *d* = 3/4.
//!
//! The pause of the one process that compacts remains, and it grows with *L*. So the lower share
//! applies only if *L* is at most [`Trigger::share_bytes`](super::Trigger::share_bytes), or at most
//! [`COPIED_PER_WRITTEN`] times the bytes that the handle has written. A large file with many short
//! runs has a third of the pauses. The same rule keeps a short run from starting a copy that it
//! could not finish. The test below prints the table in [`space`](crate::docs::space).
//!
//! [`COPIED_PER_WRITTEN`]: super::COPIED_PER_WRITTEN

use std::time::Duration;

use super::CompactionReport;
use crate::Result;
use crate::engine::Engine;
use crate::sync::atomic::Ordering;

impl Engine {
    /// Compacts the file if that is due; called by a handle that has synced everything and is about
    /// to close. A failure does not fail the close: the listener hears of it.
    pub(crate) fn compact_on_close(&self) {
        // A second failure in the same handle would tell the listener nothing new.
        let has_failed = self.compaction_failed.load(Ordering::Acquire);
        let may_fit = self.is_waiting_for_space() && self.has_space_for_copy(&self.generation());
        if (has_failed && !may_fit) || !self.is_due_on_close() {
            return;
        }
        // The listener is told with no lock held.
        if let Some(outcome) = self.compact_closing().transpose() {
            self.tell_of_compaction(outcome);
        }
    }

    fn compact_closing(&self) -> Result<Option<CompactionReport>> {
        let _alone = self.lock_compaction()?;
        self.compact_alone(Duration::ZERO, &mut |_, _| true)
    }

    /// Whether closing this handle compacts the file. A handle that wrote nothing leaves it alone.
    pub(crate) fn is_due_on_close(&self) -> bool {
        self.written_bytes.load(Ordering::Relaxed) > 0 && self.is_compaction_due(&self.generation())
    }
}

#[cfg(test)]
mod tests {
    use super::super::trigger::{Trigger, Usage};

    const TRIGGER: Trigger = Trigger {
        enabled: true,
        dead_percent: 50,
        floor_bytes: 1 << 20,
        share_bytes: 16 << 20,
    };

    const RUN_BYTES: u64 = 10_000;

    /// What runs that each write a little cost together, as the module's documentation argues.
    ///
    /// `cargo test --lib closing_costs -- --nocapture` prints the table of `src/docs/space.md`.
    #[test]
    fn closing_costs_less_than_a_copied_byte_for_each_written_one() {
        const RUN_SECONDS: f64 = 0.005;
        // Measured by `cargo bench --bench compaction`: reading a log, and writing with a sync.
        const READ_BYTES_PER_SECOND: f64 = 1e9;
        const WRITE_BYTES_PER_SECOND: f64 = 300e6;
        println!(
            "| live data | runs between pauses | pause | a run's share of it | largest file |"
        );
        println!("| --- | --- | --- | --- | --- |");
        for live_bytes in [1e6, 1e7, 1e8, 1e9, 1e10] {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let live_bytes = live_bytes as u64;
            let mut log_bytes = live_bytes;
            let mut runs = 0_u64;
            loop {
                let usage = Usage {
                    log_bytes,
                    live_bytes,
                };
                if TRIGGER.is_exceeded_by(usage, RUN_BYTES) {
                    break;
                }
                // A large file would take a million steps; a thousandth of it is exact enough.
                let step = 1.max(live_bytes / 1_000 / RUN_BYTES);
                log_bytes += step * RUN_BYTES;
                runs += step;
            }
            #[allow(clippy::cast_precision_loss)]
            let (log, live, run_count) = (log_bytes as f64, live_bytes as f64, runs as f64);
            let pause = log / READ_BYTES_PER_SECOND + live / WRITE_BYTES_PER_SECOND;
            let share = pause / run_count;
            println!(
                "| {} MB | {runs} | {pause:.2} s | {:.3} ms | {} MB |",
                live_bytes / 1_000_000,
                share * 1e3,
                log_bytes / 1_000_000
            );
            assert!(live_bytes <= runs * RUN_BYTES, "{live_bytes}");
            assert!(share < RUN_SECONDS, "{live_bytes}: {share} s for each run");
        }
    }

    #[test]
    fn large_files_wait_for_a_larger_dead_share_unless_the_handle_has_written_much() {
        const LIVE_BYTES: u64 = 1 << 30;
        let usage = |times_live| Usage {
            log_bytes: times_live * LIVE_BYTES + 1_000,
            live_bytes: LIVE_BYTES,
        };
        assert!(!TRIGGER.is_exceeded_by(usage(2), RUN_BYTES));
        assert!(TRIGGER.is_exceeded_by(usage(2), LIVE_BYTES / 16));
        assert!(!TRIGGER.is_exceeded_by(usage(3), RUN_BYTES));
        assert!(TRIGGER.is_exceeded_by(usage(4), RUN_BYTES));
        let generous = Trigger {
            share_bytes: LIVE_BYTES,
            ..TRIGGER
        };
        assert!(generous.is_exceeded_by(usage(2), RUN_BYTES));
    }
}
