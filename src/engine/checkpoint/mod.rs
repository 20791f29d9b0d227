//! Checkpoints: when a layer is written, by which handle, and into which log.
//!
//! A process writes a layer when it closes the file, or in the background when the replay has
//! become long. The layer contains the changes since the newest checkpoint. It absorbs older layers
//! of about its own size, so that there are few: a tiered merge, as in O'Neil et al., "The
//! Log-Structured Merge-Tree" (1996). Compaction writes one layer of everything.
//!
//! | step | done by | a crash here leaves |
//! | --- | --- | --- |
//! | pages are appended, others' commits may come between | [`LiveSink`] | pages that mean nothing, to be compacted away |
//! | the closing record is appended | [`LiveSink`] | the same |
//! | the log is synced, and a slot names the closing record | `Engine::name_checkpoint` | the checkpoint, or the one before |
//!
//! Invariants:
//!
//! 1. The source of a layer does not change while the layer is written. Either nothing can be
//!    appended, since the writer lock is held, or the source is a private copy of the index
//!    ([`Index::freeze`](crate::index::Index::freeze)).
//! 2. All pages and closing records of a log together are no longer than the rest of it: see
//!    [`Engine::is_affordable`]. A checkpoint that the caller requests is written all the same.
//! 3. One compaction or checkpoint at a time.

mod layer;
mod live;

use std::time::Duration;

use super::base::Base;
use super::generation::Contents;
use super::open::is_named;
use super::rewrite::Rewrite;
use super::{Engine, Generation};
use crate::events;
use crate::index::{Joint, PageSink, Statistics};
use crate::log::{LOG_START, Slot};
use crate::mutation::{self, Mutation};
use crate::record::{Change, Kind};
use crate::storage::{LockByte, LockMode};
use crate::sync::Arc;
use crate::sync::Instant;
use crate::sync::atomic::Ordering;
use crate::{Error, Result};

use layer::{ClosedAt, LayerSink, Written, write_layer};
use live::LiveSink;

/// The replayed bytes after which a handle that only reads writes a checkpoint. Closing merges
/// layers up to at least this size.
const LONG_TAIL_BYTES: u64 = 1 << 20;

/// In the background: a checkpoint for each of so many bytes of log at most.
const BACKGROUND_TAIL_BYTES: u64 = 16 << 20;

/// And for so many times the bytes that it would have: what this handle knows is written each time as a whole, on top of the checkpoint
/// that it has found.
const BACKGROUND_TAIL_LAYERS: u64 = 4;

/// A layer so large is written without holding the writer lock all the time, if others may wait for it: writing one takes a millisecond.
const LONG_LAYER_BYTES: u64 = 128 << 10;

/// Layers of one size that are taken up into one.
const TIER: usize = 4;

/// Bytes of a layer beside its entries, about.
const LAYER_OVERHEAD_BYTES: u64 = 2 << 10;

/// Bytes of an entry, about: most have no object.
const ENTRY_BYTES: u64 = 9;

/// Why a checkpoint is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// It was requested.
    Asked,
    /// The tail is long.
    Due,
    /// The handle is being closed: this process will write no more.
    Closing,
}

impl Engine {
    /// Writes a checkpoint, so that opening the file takes the same time however much it holds.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        if self.settings.read_only {
            return Err(Error::ReadOnly {
                path: self.path.clone(),
            });
        }
        self.check_not_forked()?;
        let _alone = self.lock_compaction()?;
        self.look_for_news()?;
        let timeout = self.settings.lock_timeout;
        let write = || self.write_checkpoint(Reason::Asked, timeout, u64::MAX);
        match self.with_sound_checkpoint(write)? {
            true => Ok(()),
            false => Err(Error::Locked {
                path: self.path.clone(),
                lock: LockByte::Compaction.name(),
                waited: timeout,
            }),
        }
    }

    /// What closing does before it syncs. A failure is no failure to close: the next one to open the file replays more.
    pub(super) fn checkpoint_on_close(&self) {
        let generation = self.generation();
        let tail_bytes = tail_bytes(&generation);
        let written_bytes = self.written_bytes.load(Ordering::Relaxed);
        let least = match written_bytes {
            0 => LONG_TAIL_BYTES.max(self.settings.checkpoint_bytes),
            _ => self.settings.checkpoint_bytes,
        };
        if tail_bytes < least || generation.poisoned().is_some() {
            return;
        }
        // If others write, they will write the checkpoint, and a program that is ending does not
        // wait for them.
        match self.lock_writer_briefly() {
            Ok(mut writer) => self.give_up_turn(&mut writer),
            Err(_) => return,
        }
        let Ok(_alone) = self.lock_compaction() else {
            return;
        };
        // A merge larger than the bytes written is left to long-running programs.
        let share_bytes = written_bytes.max(LONG_TAIL_BYTES);
        let write = || self.write_checkpoint(Reason::Closing, Duration::ZERO, share_bytes);
        let _ = self.with_sound_checkpoint(write);
    }

    /// What a thread in the background does when [`Engine::is_checkpoint_due`].
    pub(super) fn checkpoint_in_background(&self) {
        if self.look_for_news().is_ok() && self.is_checkpoint_due(&self.generation()) {
            // It is tried again when the log has grown.
            let write = || self.write_checkpoint(Reason::Due, Duration::ZERO, u64::MAX);
            let _ = self.with_sound_checkpoint(write);
        }
    }

    pub(super) fn is_checkpoint_due(&self, generation: &Generation) -> bool {
        let tail_bytes = tail_bytes(generation);
        let least = BACKGROUND_TAIL_BYTES.max(self.settings.checkpoint_bytes);
        !self.settings.read_only
            && tail_bytes >= least
            && tail_bytes / BACKGROUND_TAIL_LAYERS >= estimate(generation.contents())
    }

    /// Returns `false` if another process is writing one, or if it would cost too much.
    ///
    /// Layers are merged as long as they have no more than `share_bytes` together. The caller holds
    /// the mutex of the compaction.
    fn write_checkpoint(
        &self,
        reason: Reason,
        timeout: Duration,
        share_bytes: u64,
    ) -> Result<bool> {
        let _span = events::checkpoint_span(&self.path);
        let begun = Instant::now();
        let outcome = self.try_to_write_checkpoint(reason, timeout, share_bytes);
        events::checkpointed(&self.path, &outcome, begun.elapsed());
        outcome
    }

    fn try_to_write_checkpoint(
        &self,
        reason: Reason,
        timeout: Duration,
        share_bytes: u64,
    ) -> Result<bool> {
        let generation = self.generation();
        let Some(_claim) = self.claim(&generation, timeout)? else {
            return Ok(false);
        };
        if !is_named(&*self.storage, &*generation.file, &self.path)? {
            self.follow(&generation)?;
            // A caller is not told of a compaction meanwhile.
            return match reason {
                Reason::Asked => self.try_to_write_checkpoint(reason, timeout, share_bytes),
                Reason::Due | Reason::Closing => Ok(false),
            };
        }
        generation.check_not_overwritten()?;
        let slots = generation.read_own_slots()?;
        let named = slots.map_or(0, |slots| slots.current().checkpoint);
        let own = generation.contents();
        // Else others have written one since, and this index says more than what has changed.
        let is_newest = generation.is_rebuilt() || closes_at(own) == named;
        let bytes = estimate(own);
        let Some(merged) = self.plan(reason, &generation, own, share_bytes) else {
            return Ok(false);
        };
        let is_long = bytes > LONG_LAYER_BYTES;
        let mut own_layer = None;
        if is_newest && (!is_long || reason == Reason::Closing) {
            if is_long {
                // Leaves little to sync for the time in which others wait to open the file.
                self.sync()?;
            }
            own_layer = self.write_own(&generation, merged, is_long)?;
        }
        let closed = match own_layer {
            Some(closed) => Ok(closed),
            None => self.write_frozen(&generation, merged),
        };
        let named = closed.and_then(|closed| self.name_checkpoint(&generation, closed));
        // Not before the checkpoint is named: a handle that waited to open the file would replay everything.
        self.let_others_in(&generation);
        named.map(|()| true)
    }

    /// The number of layers to merge; `None` if the checkpoint is not worth its cost.
    fn plan(
        &self,
        reason: Reason,
        generation: &Generation,
        contents: &Contents,
        share_bytes: u64,
    ) -> Option<usize> {
        let layers = contents.base.as_ref().map_or(&[][..], Base::layers);
        let sizes: Vec<u64> = layers
            .iter()
            .map(|layer| layer.closing.layer_bytes)
            .collect();
        let own = estimate(contents);
        let merged = layers_to_merge(own, &sizes, share_bytes);
        let afford = |merged: usize| {
            let bytes = sizes[..merged]
                .iter()
                .fold(own, |sum, size| sum.saturating_add(*size));
            reason == Reason::Asked || self.is_affordable(generation, bytes)
        };
        [merged, 0].into_iter().find(|merged| afford(*merged))
    }

    /// Whether so many bytes more of checkpoints leave them shorter than what they are about (invariant 2).
    fn is_affordable(&self, generation: &Generation, bytes: u64) -> bool {
        let log_bytes = generation.published_upto() - LOG_START;
        let all_bytes = generation.advice().all_bytes;
        let data_bytes = log_bytes.saturating_sub(all_bytes);
        all_bytes.saturating_add(bytes) <= data_bytes
    }

    /// Writes this handle's own index, which does not change under the writer lock. With `alone` it does so only where no other handle
    /// has the file open, and keeps others from opening it until [`Engine::let_others_in`]; returns `None` where there is one.
    fn write_own(
        &self,
        generation: &Arc<Generation>,
        merged: usize,
        alone: bool,
    ) -> Result<Option<ClosedAt>> {
        let _writing = self.enter()?;
        let mut writer = self.lock_writer()?;
        if !Arc::ptr_eq(&writer.generation, generation) {
            self.give_up_turn(&mut writer);
            return Err(replaced(self));
        }
        let written = match alone.then(|| self.is_alone(generation)).transpose() {
            Ok(Some(false)) => Ok(None),
            Ok(_) => {
                let (at, hand) = (joint(generation), writer.hand);
                let mut sink = LiveSink::holding(self, generation, &mut writer, at);
                write_layer(generation, merged, at, hand, &mut sink).map(Some)
            }
            Err(error) => Err(error),
        };
        self.give_up_turn(&mut writer);
        if written.is_err() {
            self.let_others_in(generation);
        }
        written
    }

    /// Writes this handle's index as it is at one moment, while others write.
    fn write_frozen(&self, generation: &Arc<Generation>, merged: usize) -> Result<ClosedAt> {
        // The same throughout: where its checkpoint turns out not to hold meanwhile, other contents take its place.
        let own = generation.contents();
        let (at, hand, statistics) = self.freeze(generation, own)?;
        let index = own.index.thaw();
        let frozen = generation.frozen(&self.settings, own.base.as_ref(), index, statistics)?;
        let mut sink = LiveSink::waiting(self, generation, at);
        write_layer(&frozen, merged, at, hand, &mut sink)
    }

    /// Keeps the index as it is now, for the caller to thaw at once; gives back what it is exact for, and what is counted.
    fn freeze(
        &self,
        generation: &Arc<Generation>,
        own: &Contents,
    ) -> Result<(Joint, u64, Statistics)> {
        let _writing = self.enter()?;
        let mut writer = self.lock_writer()?;
        // Nor does a reader apply what others have written.
        let tail = generation.lock_tail();
        let is_current =
            Arc::ptr_eq(&writer.generation, generation) && std::ptr::eq(own, generation.contents());
        let frozen = match is_current {
            false => Err(replaced(self)),
            true => {
                own.index.freeze();
                let at = Joint {
                    offset: tail.offset,
                    previous: tail.previous,
                };
                Ok((at, writer.hand, generation.statistics().clone()))
            }
        };
        drop(tail);
        self.give_up_turn(&mut writer);
        frozen
    }

    /// Whether no other handle has the file open. A handle that opens it later waits until
    /// [`Engine::let_others_in`].
    fn is_alone(&self, generation: &Generation) -> Result<bool> {
        generation
            .file
            .try_lock(LockByte::Users, LockMode::Exclusive)
            .map_err(Error::io("lock", &self.path))
    }

    fn let_others_in(&self, generation: &Generation) {
        // From exclusive to shared there is nothing to wait for.
        let _ = generation.file.try_lock(LockByte::Users, LockMode::Shared);
    }

    /// Carries the log through to the device, and says in a slot where its newest checkpoint is.
    fn name_checkpoint(&self, generation: &Arc<Generation>, closed: ClosedAt) -> Result<()> {
        let (mut state, current) = self.claim_sync()?;
        current.check_not_poisoned(&self.path)?;
        if !Arc::ptr_eq(generation, &current) {
            return Ok(());
        }
        let is_broken = mutation::is_on(Mutation::NameUnsyncedCheckpoint);
        if !is_broken && !state.slots.current().named {
            self.sync_locked(&current, &mut state)?;
        }
        if !is_broken {
            // Whatever was synced meanwhile: no slot is written before the one before it is on the device, or a loss of power might tear both.
            self.sync_locked(&current, &mut state)?;
        }
        let slot = state.slots.current();
        let synced_upto = match is_broken {
            true => closed.end,
            false => current.synced_upto(),
        };
        let named = Slot {
            synced_upto: synced_upto.max(slot.synced_upto),
            checkpoint: closed.offset,
            ..slot
        };
        self.put_slot(&current, &mut state, named)
    }
}

/// What opening the file would have to replay.
fn tail_bytes(generation: &Generation) -> u64 {
    let advice = generation.advice();
    let behind = generation
        .published_upto()
        .saturating_sub(advice.closed_upto);
    behind.saturating_add(advice.gap_bytes)
}

/// Where the log ends that was applied.
fn joint(generation: &Generation) -> Joint {
    let tail = generation.lock_tail();
    Joint {
        offset: tail.offset,
        previous: tail.previous,
    }
}

/// The closing record of the parent layer, 0 for none.
fn closes_at(contents: &Contents) -> u64 {
    let newest = contents.base.as_ref().map(Base::newest);
    newest.map_or(0, |newest| newest.closing.offset)
}

/// About how many bytes a layer would have that says what the index in memory says.
fn estimate(contents: &Contents) -> u64 {
    contents
        .index
        .entry_count()
        .saturating_mul(ENTRY_BYTES)
        .saturating_add(LAYER_OVERHEAD_BYTES)
}

/// How many of the older layers, of these sizes, a new one absorbs.
///
/// It merges whenever there would be [`TIER`] layers of one size, within that factor. So each entry
/// is written again once for each size, and there are fewer than [`TIER`] layers of each.
fn layers_to_merge(own: u64, sizes: &[u64], share_bytes: u64) -> usize {
    let mut bytes = own;
    let mut merged = 0;
    loop {
        let class = size_class(bytes);
        let alike = sizes[merged..]
            .iter()
            .take_while(|size| size_class(**size) <= class);
        let count = alike.clone().count();
        let more = alike.fold(0_u64, |sum, size| sum.saturating_add(*size));
        if count + 1 < TIER || bytes.saturating_add(more) > share_bytes {
            return merged;
        }
        bytes = bytes.saturating_add(more);
        merged += count;
    }
}

/// Which power of [`TIER`] a size comes to.
fn size_class(bytes: u64) -> u32 {
    (bytes / LAYER_OVERHEAD_BYTES).max(1).ilog(TIER as u64)
}

fn replaced(engine: &Engine) -> Error {
    Error::CannotCompact {
        path: engine.path.clone(),
        reason: "the file was replaced by a compaction".to_owned(),
    }
}

/// Takes a layer into a file that is being made.
pub(super) struct RewriteSink<'r> {
    rewrite: &'r mut Rewrite,
    page_bytes: u64,
}

impl PageSink for RewriteSink<'_> {
    fn put(&mut self, value: &mut Vec<u8>) -> Result<u64> {
        let offset = self.rewrite.tail().offset;
        value[..8].copy_from_slice(&offset.to_le_bytes());
        let page = Change::control(Kind::Page, value);
        self.page_bytes += page.size_bytes();
        self.rewrite.append(&[page])?;
        Ok(offset + crate::record::HEADER_BYTES as u64)
    }
}

impl LayerSink for RewriteSink<'_> {
    fn close(&mut self, value: &mut dyn FnMut(Written) -> Vec<u8>) -> Result<ClosedAt> {
        let offset = self.rewrite.tail().offset;
        let value = value(Written {
            offset,
            gaps: Vec::new(),
            page_bytes: self.page_bytes,
            all_bytes: self.page_bytes,
        });
        self.rewrite
            .append(&[Change::control(Kind::Checkpoint, &value)])?;
        self.rewrite.set_checkpoint(offset);
        Ok(ClosedAt {
            offset,
            end: self.rewrite.tail().offset,
        })
    }
}

/// Writes a checkpoint of all that was copied to a new file, which was read back into `new` and has none
/// yet; nothing where that is little.
pub(super) fn write_into_rewrite(
    new: &Generation,
    rewrite: &mut Rewrite,
    checkpoint_bytes: u64,
    hand: u64,
) -> Result<()> {
    let log_bytes = new.published_upto() - LOG_START;
    if tail_bytes(new) < checkpoint_bytes || estimate(new.contents()) > log_bytes {
        return Ok(());
    }
    let at = joint(new);
    let mut sink = RewriteSink {
        rewrite,
        page_bytes: 0,
    };
    write_layer(new, 0, at, hand, &mut sink)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_one_size_are_taken_up_together_and_larger_ones_are_left_alone() {
        const SMALL: u64 = 3 << 10;
        const LARGE: u64 = 1 << 20;
        assert_eq!(layers_to_merge(SMALL, &[], u64::MAX), 0);
        assert_eq!(layers_to_merge(SMALL, &[SMALL, SMALL, LARGE], u64::MAX), 0);
        let sizes = [SMALL, SMALL, SMALL, LARGE];
        assert_eq!(layers_to_merge(SMALL, &sizes, u64::MAX), 3);
        assert_eq!(layers_to_merge(SMALL, &sizes, SMALL), 0, "beyond the share");
        // What comes of it may be the fourth of the next size.
        let next = 4 * SMALL;
        let sizes = [SMALL, SMALL, SMALL, next, next, next, LARGE];
        assert_eq!(layers_to_merge(SMALL, &sizes, u64::MAX), 6);
    }

    #[test]
    fn a_log_that_grows_by_small_steps_has_few_layers_and_writes_each_entry_a_few_times() {
        const STEP: u64 = 4 << 10;
        let mut sizes: Vec<u64> = Vec::new();
        let mut written = 0;
        for steps in 1..=10_000_u64 {
            let merged = layers_to_merge(STEP, &sizes, u64::MAX);
            let size = STEP + sizes.drain(..merged).sum::<u64>();
            written += size;
            sizes.insert(0, size);
            assert!(sizes.len() <= 3 * 8, "{} layers after {steps}", sizes.len());
        }
        assert!(
            written <= 8 * 10_000 * STEP,
            "{} times",
            written / (10_000 * STEP)
        );
    }
}
