//! When a file is compacted without being asked: what is judged after commits, what makes writers
//! wait, and what closing does not leave behind.

use std::time::Duration;

use super::super::commit::{Writer, shortest_bytes, trimmed_bytes};
use super::super::{Engine, Generation};
use super::CompactionReport;
use crate::Result;
use crate::clock::Patience;
use crate::log::LOG_START;
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, MutexGuard, TryLockError};

/// Room that is left for what is written while a compaction runs on a disk that is nearly full.
const RESERVE_STEP_BYTES: u64 = 1 << 20;

/// When to compact without being asked.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Trigger {
    pub(in crate::engine) enabled: bool,
    /// Dead bytes, of a hundred bytes of log, that are too many.
    pub(in crate::engine) dead_percent: u8,
    /// Dead bytes that are never too many.
    pub(in crate::engine) floor_bytes: u64,
    /// Live bytes that a handle copies at `dead_percent`, however little it has written; a file with more of
    /// them may wait for a larger dead share.
    pub(in crate::engine) share_bytes: u64,
}

/// Live bytes that a handle copies at the ordinary dead share for each byte that it has written.
const COPIED_PER_WRITTEN: u64 = 16;

/// Dead bytes that no writer waits for, however low the floor is.
const LEAST_FLOOR_BYTES: u64 = 64 << 10;

/// What the log of a file consists of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) log_bytes: u64,
    /// Bytes that a compaction would copy, its checkpoint included.
    pub(super) live_bytes: u64,
}

impl Trigger {
    /// Whether so much of the log is dead that a handle that has written so many bytes should compact it;
    /// [`closing`](super::closing) says why it depends on that.
    pub(super) fn is_exceeded_by(&self, usage: Usage, written_bytes: u64) -> bool {
        let dead_bytes = usage.log_bytes.saturating_sub(usage.live_bytes);
        let affordable = written_bytes
            .saturating_mul(COPIED_PER_WRITTEN)
            .max(self.share_bytes);
        let dead_percent = match usage.live_bytes <= affordable {
            true => self.dead_percent,
            // Half of the live share is added.
            false => self.dead_percent.saturating_add(100) / 2,
        };
        let too_many = u128::from(usage.log_bytes) * u128::from(dead_percent) / 100;
        dead_bytes > self.floor_bytes && u128::from(dead_bytes) > too_many
    }

    /// Whether the log is so long that writers wait for a compaction: twice as long as one that is due, and four
    /// times the live data and the floor. The floor counts as [`LEAST_FLOOR_BYTES`] at least: otherwise a file
    /// without live data and a floor of 0 would be compacted before each write.
    pub(super) fn is_far_exceeded_by(&self, usage: Usage, written_bytes: u64) -> bool {
        let floor_bytes = self.floor_bytes.max(LEAST_FLOOR_BYTES);
        let half = Usage {
            log_bytes: usage.log_bytes / 2,
            ..usage
        };
        usage.log_bytes / 4 > usage.live_bytes.saturating_add(floor_bytes)
            && self.is_exceeded_by(half, written_bytes)
    }
}

impl Engine {
    /// Returns whether a commit found that the file should be compacted, or get a checkpoint.
    pub(crate) fn is_work_due(&self) -> bool {
        self.work_due.load(Ordering::SeqCst)
    }

    /// Forgets the work that is due, before it is begun: a later commit may note it again.
    pub(crate) fn clear_work_due(&self) {
        self.work_due.store(false, Ordering::SeqCst);
    }

    /// Judges after a commit, now and then, whether the file should be compacted, or get a checkpoint.
    /// `live_bytes` includes expired entries.
    pub(in crate::engine) fn judge_growth(&self, writer: &mut Writer, end: u64, live_bytes: u64) {
        let log_bytes = end - LOG_START;
        let dead_bytes = log_bytes.saturating_sub(live_bytes);
        if end < writer.judge_at && dead_bytes < writer.judge_dead_at {
            return;
        }
        // In proportion, since adding up what has expired takes microseconds.
        let step = (log_bytes / 32).clamp(64 << 10, 16 << 20);
        writer.judge_at = end.saturating_add(step);
        writer.judge_dead_at = dead_bytes.saturating_add(step);
        let generation = &writer.generation;
        if self.is_compaction_due(generation) || self.is_checkpoint_due(generation) {
            self.work_due.store(true, Ordering::SeqCst);
        }
        if end >= self.relieve_at.load(Ordering::Relaxed) && self.is_compaction_overdue(generation)
        {
            self.is_over_bound.store(true, Ordering::Relaxed);
        }
    }

    /// Whether so much of the log is dead that the file should be rewritten.
    pub(in crate::engine) fn is_compaction_due(&self, generation: &Generation) -> bool {
        let trigger = &self.settings.trigger;
        let written_bytes = self.written_bytes.load(Ordering::Relaxed);
        self.compacts_by_itself() && trigger.is_exceeded_by(self.usage(generation), written_bytes)
    }

    pub(super) fn compacts_by_itself(&self) -> bool {
        self.settings.trigger.enabled && !self.settings.read_only
    }

    pub(super) fn usage(&self, generation: &Generation) -> Usage {
        let live_bytes = generation.statistics().live_bytes(self.now_ms());
        Usage {
            log_bytes: generation.published_upto() - LOG_START,
            // The new file would have a checkpoint, too.
            live_bytes: live_bytes.saturating_add(generation.advice().chain_bytes),
        }
    }

    /// Whether writers wait for a compaction, or compact themselves, before they write more.
    pub(super) fn is_compaction_overdue(&self, generation: &Generation) -> bool {
        let trigger = &self.settings.trigger;
        let written_bytes = self.written_bytes.load(Ordering::Relaxed);
        let usage = self.usage(generation);
        if !self.compacts_by_itself() {
            return false;
        }
        if trigger.is_far_exceeded_by(usage, written_bytes) {
            return true;
        }
        // Where the disk is nearly full: the longer the log gets, the less room is left for its copy.
        let is_due = trigger.is_exceeded_by(usage, written_bytes)
            || self.is_short_of_space.load(Ordering::Relaxed);
        is_due && self.frees_enough(usage) && {
            let wanted = usage.live_bytes.saturating_mul(2) + RESERVE_STEP_BYTES;
            let (copy, kept) = self.copy_bytes(generation);
            let free = self.free_bytes(generation);
            free.is_some_and(|free| free < wanted && copy <= free.saturating_add(kept))
        }
    }

    /// The size of a compacted copy, and how many bytes the file itself could give back for it.
    pub(super) fn copy_bytes(&self, generation: &Generation) -> (u64, u64) {
        let copy = trimmed_bytes(LOG_START + self.usage(generation).live_bytes);
        let least = shortest_bytes(generation.published_upto());
        let file_bytes = generation.file.size().unwrap_or(0);
        (copy, file_bytes.saturating_sub(least))
    }

    /// Makes room for a copy where the file system has too little. Whether it fits is found by writing it.
    pub(super) fn make_room_for_copy(&self, source: &Arc<Generation>) -> Result<()> {
        let (copy, kept) = self.copy_bytes(source);
        match self.free_bytes(source) {
            Some(free) if free < copy && kept > 0 => self.give_back_reserve(source),
            _ => Ok(()),
        }
    }

    /// Returns whether the compaction that is due waits until the file system has room for its copy.
    pub(crate) fn is_waiting_for_space(&self) -> bool {
        self.lacks_space.load(Ordering::Relaxed)
    }

    /// Returns whether the file system has room for a copy, with the reserve that the file can give
    /// back. A file system that does not tell has.
    pub(super) fn has_space_for_copy(&self, generation: &Generation) -> bool {
        let (copy, kept) = self.copy_bytes(generation);
        let free = self.free_bytes(generation);
        free.is_none_or(|free| copy <= free.saturating_add(kept))
    }

    /// How many bytes the file system lacks for a copy.
    pub(super) fn copy_shortfall(&self, source: &Generation) -> u64 {
        let (copy, _) = self.copy_bytes(source);
        let free = self.free_bytes(source);
        free.map_or(0, |free| copy.saturating_sub(free))
    }

    /// Whether a compaction for want of space is worth its while.
    pub(super) fn frees_enough(&self, usage: Usage) -> bool {
        const LEAST_BYTES: u64 = 16 << 10;
        let dead_bytes = usage.log_bytes.saturating_sub(usage.live_bytes);
        dead_bytes >= LEAST_BYTES && dead_bytes >= usage.log_bytes / 8
    }

    /// Bytes that the file system has left; `None` where it does not tell.
    pub(super) fn free_bytes(&self, generation: &Generation) -> Option<u64> {
        generation.file.free_bytes().ok().flatten()
    }

    /// Whether the next writer is to call [`Engine::relieve`].
    pub(in crate::engine) fn is_over_bound(&self) -> bool {
        self.is_over_bound.load(Ordering::Relaxed)
    }

    /// Compacts a file that has grown beyond its bound, or waits until another thread or process
    /// has.
    ///
    /// The caller holds no lock. A failure is reported to the listener, and does not keep the
    /// caller from writing.
    pub(in crate::engine) fn relieve(&self) {
        self.is_over_bound.store(false, Ordering::Relaxed);
        if let Some(outcome) = self.compact_overdue().transpose() {
            if outcome.is_err() {
                self.postpone_relief();
            }
            self.tell_of_compaction(outcome);
        }
    }

    /// Stops [`Engine::relieve`] until the log has grown by a quarter. Without this each write would try again.
    fn postpone_relief(&self) {
        let end = self.generation().published_upto();
        let retry_at = end.saturating_add((end - LOG_START) / 4);
        self.relieve_at.store(retry_at, Ordering::Relaxed);
    }

    fn compact_overdue(&self) -> Result<Option<CompactionReport>> {
        // Refused within a closure of a compaction, which must be able to write.
        let Ok(_compacting) = self.enter_compaction() else {
            return Ok(None);
        };
        let timeout = self.settings.lock_timeout;
        let Some(_alone) = self.lock_compaction_within(timeout) else {
            self.postpone_relief();
            return Ok(None);
        };
        if self.look_for_news().is_err() || !self.is_compaction_overdue(&self.generation()) {
            return Ok(None);
        }
        let mut go_on = |_, _| !self.stopping.load(Ordering::Acquire);
        let report = self.compact_alone(timeout, &mut go_on)?;
        if report.is_none() {
            self.postpone_relief();
        }
        Ok(report)
    }

    /// Waits until no other thread of this handle compacts. Returns `None` after `timeout`: the closure
    /// that follows the compaction's progress may itself wait for this writer.
    fn lock_compaction_within(&self, timeout: Duration) -> Option<MutexGuard<'_, ()>> {
        /// A mutex has no wait with a limit.
        const PAUSE: Duration = Duration::from_micros(500);
        let mut patience = Patience::new(timeout);
        loop {
            match self.compaction.try_lock() {
                Ok(alone) => return Some(alone),
                Err(TryLockError::Poisoned(panicked)) => return Some(panicked.into_inner()),
                Err(TryLockError::WouldBlock) if patience.is_over() => return None,
                Err(TryLockError::WouldBlock) => patience.sleep(PAUSE),
            }
        }
    }
}
