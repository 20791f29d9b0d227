//! Compaction in programs that live for a moment: each does a share when it closes the file.
//!
//! A file whose dead bytes are too many is compacted by whoever closes it, and by none of them alone: each copies a
//! part of the log, [`Trigger::share_bytes`](super::Trigger::share_bytes) or [`SHARE_PER_BYTE`] times what it
//! has written itself, whichever is more, and leaves the rest to the next. So no run takes longer than reading and writing
//! its share takes, and one sync of it; a small file is done at once.
//!
//! That the work gets done in time: a compaction begins when the log is *d* times the live data *L* (with *d* = 2 for a share of
//! half), and has to read that log and what is written meanwhile. If *W* bytes are written meanwhile, 16 *W* = *d L* + *W*, so *W* = *d L* / 15: the
//! file ends its growth at (*d* + *d* / 15) *L*, 2.13 times the live data, and the floor.

use super::copy::Stopped;
use super::{CompactionReport, Running, scratch};
use crate::Result;
use crate::engine::Engine;
use crate::engine::open::is_named;
use crate::mutation::{self, Mutation};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Bytes of the log that are copied for each byte that was written.
const SHARE_PER_BYTE: u64 = 16;

impl Engine {
    /// What closing does, once everything is synced. A failure is no failure to close: the listener hears of it.
    pub(crate) fn compact_on_close(&self) {
        let written_bytes = self.written_bytes.load(Ordering::Relaxed);
        // Who only reads leaves the file alone. And who has just told of a failure need not tell of it again.
        if written_bytes == 0
            || self.compaction_failed.load(Ordering::Acquire)
            || !self.is_compaction_due(&self.generation())
        {
            return;
        }
        let share_bytes = written_bytes
            .saturating_mul(SHARE_PER_BYTE)
            .max(self.settings.trigger.share_bytes);
        if let Some(outcome) = self.compact_share(share_bytes).transpose() {
            self.tell_of_compaction(outcome);
        }
    }

    /// Copies so many bytes of the log; ends the compaction if that was the rest, and else leaves it to the next.
    fn compact_share(&self, share_bytes: u64) -> Result<Option<CompactionReport>> {
        let begun = Instant::now();
        let _alone = self.lock_compaction()?;
        let source = self.generation();
        let Some(_claim) = self.claim(&source, Duration::ZERO)? else {
            // Somebody else is at it.
            return Ok(None);
        };
        if !is_named(&*self.storage, &*source.file, &self.path)? {
            // Somebody else was faster.
            return Ok(None);
        }
        let mut running = self.begin_compaction(&source)?;
        let end = source.published_upto();
        let upto = running.copy.source.offset.saturating_add(share_bytes);
        let stopped = running.copy_upto(&self.path, upto.min(end), self.now_ms(), &mut |_| true)?;
        if stopped == Stopped::Void {
            // Nothing of it is used any more.
            source.set_judged_ms(0, &self.path)?;
            return Ok(None);
        }
        // So that neither who goes on with it, nor who opens the new file, has to read it all.
        running.rewrite.sync()?;
        running.read_back(&self.path)?;
        running.write_layer(self.settings.checkpoint_bytes, share_bytes, 0)?;
        if upto < end {
            // What others have written was judged by, too.
            if !mutation::is_on(Mutation::LeaveBeforeSync) {
                self.sync()?;
            }
            let Running { rewrite, copy, .. } = running;
            scratch::leave(rewrite, &self.path, &source, &copy)?;
            return Ok(None);
        }
        let report = self.switch(running, false)?;
        Ok(report.map(|report| CompactionReport {
            duration: begun.elapsed(),
            ..report
        }))
    }
}
