//! Compaction: copies the live data into a new file, while others read and write.
//!
//! | step | done by | a crash or fault here leaves |
//! | --- | --- | --- |
//! | live records are copied into a temporary file | `copy`, in rounds | the old file |
//! | the new file is synced, and read back into a new index | `Running::read_back` | the same |
//! | writers wait; the rest is copied, the new file completed and synced | `switch` | the same |
//! | the old file ends with *moved* | `switch` | the old file; the next handle skips the record |
//! | the new file takes the name | `switch` | one of the two, whole |
//! | the directory is synced, and a slot records it | `switch` | the same, or the new file |
//!
//! Invariants:
//!
//! 1. One compaction at a time: the mutex within a process, the lock on the file between processes.
//! 2. The new file takes the name only when all of it is on the device.
//! 3. The new file takes the name only after it was read back and verified, from its first record
//!    to its last.
//! 4. From *moved* until the rename no other handle can append to the old file: the writer lock is
//!    held.

mod closing;
mod copy;
mod switch;
mod trigger;

use std::path::Path;
use std::time::Duration;

use super::checkpoint::write_into_rewrite;
use super::nested::Compacting;
use super::nested::Writing;
use super::open::{draw_header, is_named};
use super::rewrite::{Rewrite, write_error};
use super::{Engine, Generation};
use crate::clock::Patience;
use crate::events;
use crate::log::{FileHeader, LOG_START, PAGE_BYTES, Tail};
use crate::mutation::{self, Mutation};
use crate::storage::{LockByte, LockMode, StorageFile, acquire};
use crate::sync::Instant;
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, MutexGuard, PoisonError};
use crate::{Error, Result};

pub(super) use trigger::Trigger;

use copy::{LogCopy, Observer, Stopped};

/// How often the log is caught up with before writers have to wait.
const MAX_ROUNDS: usize = 8;

/// How much may be left to copy when they do.
const LAST_ROUND_BYTES: u64 = 1 << 20;

/// How often a copy that came to nothing is begun anew.
const MAX_ATTEMPTS: usize = 3;

/// What a compaction or a backup has done; from [`Db::compact`](crate::Db::compact).
///
/// [`Db::compact`](crate::Db::compact) has an example.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactionReport {
    /// Size of the file before.
    pub before_bytes: u64,
    /// Size of the new file.
    pub after_bytes: u64,
    /// Time that it took.
    pub duration: Duration,
}

/// A compaction that is under way.
struct Running {
    source: Arc<Generation>,
    rewrite: Rewrite,
    copy: LogCopy,
    /// The new file as far as it was read back.
    new: Generation,
    /// Where some of the records went, old and new offset, in order.
    places: Vec<(u64, u64)>,
}

/// Carries the visited bits and the eviction hand over to the new file.
struct Carrier<'a> {
    go_on: &'a mut dyn FnMut(u64) -> bool,
    source: &'a Generation,
    new: &'a Generation,
    places: &'a mut Vec<(u64, u64)>,
}

impl Observer for Carrier<'_> {
    fn goes_on(&mut self, offset: u64) -> bool {
        (self.go_on)(offset)
    }

    fn copies(&mut self, queued_at: u64, new_offset: u64) {
        // Close enough: keys between two places are passed over once more, or once less.
        const PLACE_STEP_BYTES: u64 = 16 << 10;
        let Some(visited) = &self.source.visited else {
            return;
        };
        if visited.is_marked(queued_at) {
            self.new.note_read(new_offset);
        }
        let last = self.places.last().map_or(0, |(old, _)| *old);
        if queued_at >= last.saturating_add(PLACE_STEP_BYTES) {
            self.places.push((queued_at, new_offset));
        }
    }
}

/// Holds the compaction lock of a file.
pub(super) struct Claim<'a>(&'a dyn StorageFile);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        // If it fails, closing the file releases it.
        let _ = self.0.unlock(LockByte::Compaction);
    }
}

impl Engine {
    /// Rewrites the file to its live data.
    ///
    /// `progress` is told how many bytes of how many of the log were looked at.
    pub(crate) fn compact(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<CompactionReport> {
        if self.settings.read_only {
            return Err(Error::ReadOnly {
                path: self.path.clone(),
            });
        }
        self.check_not_forked()?;
        let _alone = self.lock_compaction()?;
        let timeout = self.settings.lock_timeout;
        let report = self.with_sound_checkpoint(|| {
            self.compact_alone(timeout, &mut |done, total| {
                progress(done, total);
                true
            })
        })?;
        report.ok_or_else(|| Error::Locked {
            path: self.path.clone(),
            lock: LockByte::Compaction.name(),
            waited: timeout,
        })
    }

    /// Compacts the file if it is due and no other handle is compacting it, until it is told to stop; the
    /// half done copy is dropped then. Tells the options' listener of the outcome.
    /// Where the log is merely long since the last checkpoint, writes that.
    pub(crate) fn work_in_background(&self) {
        // The listener is told with no lock held: it may compact and close itself. What was written meanwhile
        // may make another compaction due.
        while let Some(outcome) = self.compact_in_background().transpose() {
            let is_over = outcome.is_err() || self.stopping.load(Ordering::Acquire);
            if outcome.is_err()
                && let Ok(mut writer) = self.writer.lock()
            {
                // The reason may last: it is tried again when the log has grown by a quarter.
                let end = writer.generation.published_upto();
                let log_bytes = end - LOG_START;
                writer.judge_at = end.saturating_add(log_bytes / 4);
                writer.judge_dead_at = log_bytes.saturating_add(log_bytes / 4);
            }
            // The listener hears of a full disk once.
            if !(self.is_waiting_for_space() && is_disk_full(&outcome)) {
                self.tell_of_compaction(outcome);
            }
            if is_over {
                return;
            }
        }
    }

    /// Compacts once if that is due, else writes a checkpoint if that is; `None` where it did not compact.
    fn compact_in_background(&self) -> Result<Option<CompactionReport>> {
        let Ok(_alone) = self.lock_compaction() else {
            return Ok(None);
        };
        if self.look_for_news().is_err() {
            return Ok(None);
        }
        let generation = self.generation();
        if !self.is_compaction_due(&generation) {
            self.lacks_space.store(false, Ordering::Relaxed);
            self.checkpoint_in_background();
            return Ok(None);
        }
        if self.is_waiting_for_space() && !self.has_space_for_copy(&generation) {
            return Ok(None);
        }
        let mut go_on = |_, _| !self.stopping.load(Ordering::Acquire);
        self.with_sound_checkpoint(|| self.compact_alone(Duration::ZERO, &mut go_on))
    }

    /// Compacts the file. Returns `None` if another handle was compacting for longer than the
    /// timeout, or if `go_on` returned `false`; the unfinished copy is dropped then.
    fn compact_alone(
        &self,
        timeout: Duration,
        go_on: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Option<CompactionReport>> {
        let _span = events::compaction_span(&self.path);
        let outcome = self.try_to_compact(timeout, go_on);
        events::compacted(&self.path, &outcome);
        outcome
    }

    fn try_to_compact(
        &self,
        timeout: Duration,
        go_on: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Option<CompactionReport>> {
        let begun = Instant::now();
        self.look_for_news()?;
        let first = self.generation();
        for _ in 0..MAX_ATTEMPTS {
            let source = self.generation();
            if !Arc::ptr_eq(&first, &source) {
                // Another handle has compacted the file: what was dead when this began is gone.
                let mut sizes = self.sizes(&*first.file, &*source.file)?;
                sizes.duration = begun.elapsed();
                return Ok(Some(sizes));
            }
            let Some(_claim) = self.claim(&source, timeout)? else {
                return Ok(None);
            };
            if !is_named(&*self.storage, &*source.file, &self.path)? {
                self.follow(&source)?;
                continue;
            }
            self.make_room_for_copy(&source)?;
            let shortfall = self.copy_shortfall(&source);
            let with_shortfall = |error| match error {
                Error::DiskFull { path, needed, .. } => Error::DiskFull {
                    operation: "compact",
                    path,
                    // A copy is written in pieces, and only the last one met the limit.
                    needed: shortfall.max(needed),
                },
                error => error,
            };
            let running = self.begin_compaction(&source);
            let mut running = running.map_err(with_shortfall)?;
            let copied = self.copy_in_rounds(&mut running, go_on);
            match copied.map_err(with_shortfall)? {
                Stopped::Done => {}
                Stopped::Void => continue,
                Stopped::Asked => return Ok(None),
            }
            if let Some(sizes) = self.switch(running)? {
                return Ok(Some(CompactionReport {
                    duration: begun.elapsed(),
                    ..sizes
                }));
            }
        }
        Err(Error::CannotCompact {
            path: self.path.clone(),
            reason: "databases were exchanged, or the clock was set back, during each attempt"
                .to_owned(),
        })
    }

    /// Writes what the file holds now into a new one at `target`, without what is dead.
    pub(crate) fn backup(
        &self,
        target: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<CompactionReport> {
        self.check_not_forked()?;
        self.with_sound_checkpoint(|| self.back_up(target, progress))
    }

    fn back_up(
        &self,
        target: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<CompactionReport> {
        let begun = Instant::now();
        let storage = &*self.storage;
        let target = &storage.resolve(target).map_err(Error::io("find", target))?;
        for _ in 0..MAX_ATTEMPTS {
            self.look_for_news()?;
            let source = &self.generation();
            let header = self.next_header(source)?;
            let mut rewrite = Rewrite::begin(storage, target, header, self.draw_writer()?)?;
            let mut copy = LogCopy::new(source, self.now_ms());
            let mut stopped = Stopped::Done;
            for _ in 0..MAX_ROUNDS {
                let upto = source.published_upto();
                let mut go_on = |at| {
                    progress(at - LOG_START, upto - LOG_START);
                    true
                };
                let now_ms = self.now_ms();
                stopped = copy.run(source, &mut rewrite, upto, now_ms, &mut go_on)?;
                if stopped != Stopped::Done || source.published_upto() - upto <= LAST_ROUND_BYTES {
                    break;
                }
            }
            if stopped == Stopped::Done {
                let _writing = self.wait_for_writers();
                // The index, which is asked, must not run ahead of what is copied last.
                let tail = source.lock_tail();
                let (upto, now_ms) = (source.published_upto(), self.now_ms());
                stopped = copy.run(source, &mut rewrite, upto, now_ms, &mut |_| true)?;
                rewrite.end_copy(source.position(upto));
                drop(tail);
            }
            if stopped == Stopped::Void {
                continue;
            }
            let file = Arc::clone(rewrite.file());
            let new_file = rewrite.finish()?;
            new_file.temporary.persist_new(target).map_err(write_error(
                "create",
                target,
                PAGE_BYTES as u64,
            ))?;
            storage
                .open_directory(target)
                .and_then(|directory| directory.sync())
                .map_err(Error::io("sync the directory of", target))?;
            let mut report = self.sizes(&*source.file, &*file)?;
            report.duration = begun.elapsed();
            return Ok(report);
        }
        Err(Error::CannotCompact {
            path: self.path.clone(),
            reason: "databases were exchanged, or the clock was set back, during each attempt"
                .to_owned(),
        })
    }

    /// Waits until no transaction is open, if this handle can write: the transaction may change the deadline
    /// of what has expired meanwhile, and its commit then belongs into a backup that ends later. A thread that
    /// is in a transaction itself does not wait, nor does any longer than the lock timeout.
    fn wait_for_writers(&self) -> Option<Writing<'_>> {
        if self.settings.read_only {
            return None;
        }
        let writing = self.enter().ok()?;
        let mut writer = self.lock_writer_within(self.settings.lock_timeout).ok()?;
        self.give_up_turn(&mut writer);
        Some(writing)
    }

    /// Lets a compaction in the background stop soon.
    pub(crate) fn stop_compaction(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Acquires the right to compact or to write a checkpoint, between the threads of this handle.
    /// The lock goes first when both are dropped.
    pub(super) fn lock_compaction(&self) -> Result<(MutexGuard<'_, ()>, Compacting)> {
        let compacting = self.enter_compaction()?;
        let alone = self.compaction.lock();
        Ok((alone.unwrap_or_else(PoisonError::into_inner), compacting))
    }

    /// Acquires the compaction lock of the file. Returns `None` if another process held it for too
    /// long.
    pub(super) fn claim<'a>(
        &self,
        generation: &'a Generation,
        timeout: Duration,
    ) -> Result<Option<Claim<'a>>> {
        let file = &*generation.file;
        let mut patience = Patience::new(timeout);
        let locked = acquire(
            file,
            LockByte::Compaction,
            LockMode::Exclusive,
            &mut patience,
        )
        .map_err(Error::io("lock", &self.path))?;
        Ok(locked.then_some(Claim(file)))
    }

    /// Creates the new file, which has no contents yet.
    fn begin_compaction(&self, source: &Arc<Generation>) -> Result<Running> {
        source.check_not_overwritten()?;
        self.check_compactable(source)?;
        let header = self.next_header(source)?;
        let writer = self.draw_writer()?;
        let rewrite = Rewrite::begin_replacement(&*self.storage, &self.path, header, writer)?;
        let file = Arc::clone(rewrite.file());
        let (new, _) = Generation::open(file, header, &self.path, &self.settings, 0)?;
        Ok(Running {
            source: Arc::clone(source),
            copy: LogCopy::new(source, self.now_ms()),
            rewrite,
            new,
            places: Vec::new(),
        })
    }

    fn check_compactable(&self, source: &Generation) -> Result<()> {
        let refuse = |reason: String| {
            Err(Error::CannotCompact {
                path: self.path.clone(),
                reason,
            })
        };
        let links = source
            .file
            .link_count()
            .map_err(Error::io("look at", &self.path))?;
        if links > 1 {
            return refuse(format!(
                "the file has {links} hard links, and only this path would get the new file; remove the other links"
            ));
        }
        Ok(())
    }

    /// The header of a file that takes over from this one, but for its positions.
    fn next_header(&self, source: &Generation) -> Result<FileHeader> {
        Ok(FileHeader {
            hash_key: source.header.hash_key,
            generation: source.header.generation.saturating_add(1),
            ..draw_header(&*self.storage, &self.path, &*self.clock)?
        })
    }

    fn draw_writer(&self) -> Result<u32> {
        let mut number = [0; 4];
        self.storage
            .random(&mut number)
            .map_err(Error::io("draw random numbers for", &self.path))?;
        Ok(u32::from_le_bytes(number))
    }

    /// Copies what there is, and reads it back, until little is left.
    fn copy_in_rounds(
        &self,
        running: &mut Running,
        go_on: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Stopped> {
        for round in 0..MAX_ROUNDS {
            // What others have written is better copied now than while they wait.
            self.look_for_news()?;
            let upto = running.source.published_upto();
            let stopped = running.copy_upto(upto, self.now_ms(), &mut |at| {
                go_on(at - LOG_START, upto - LOG_START)
            })?;
            if stopped != Stopped::Done {
                return Ok(stopped);
            }
            running.rewrite.sync()?;
            running.read_back(&self.path)?;
            if round == 0 {
                // Now, since what was written later is little, and writing the pages takes time, in which more comes.
                self.write_layer_of_all(running)?;
            } else if running.source.published_upto() - upto <= LAST_ROUND_BYTES {
                break;
            }
        }
        Ok(Stopped::Done)
    }

    /// Ends what was copied so far with a checkpoint of it.
    fn write_layer_of_all(&self, running: &mut Running) -> Result<()> {
        let hand = self
            .writer
            .lock()
            .map_or(0, |writer| running.hand_after(writer.hand));
        running.write_layer(self.settings.checkpoint_bytes, hand)?;
        running.rewrite.sync()?;
        running.read_back(&self.path)
    }

    /// How large two files are.
    fn sizes(&self, before: &dyn StorageFile, after: &dyn StorageFile) -> Result<CompactionReport> {
        let size = |file: &dyn StorageFile| {
            file.size()
                .map_err(Error::io("read the size of", &self.path))
        };
        Ok(CompactionReport {
            before_bytes: size(before)?,
            after_bytes: size(after)?,
            duration: Duration::ZERO,
        })
    }

    /// Tells the options' listener of an automatic compaction that has ended.
    fn tell_of_compaction(&self, outcome: Result<CompactionReport>) {
        self.compaction_failed
            .store(outcome.is_err(), Ordering::Release);
        self.lacks_space
            .store(is_disk_full(&outcome), Ordering::Relaxed);
        if let Some(listener) = &self.on_compaction {
            listener(&outcome);
        }
    }
}

fn is_disk_full(outcome: &Result<CompactionReport>) -> bool {
    matches!(outcome, Err(Error::DiskFull { .. }))
}

impl Running {
    /// Copies up to an offset of the source; see [`LogCopy::run`].
    fn copy_upto(
        &mut self,
        upto: u64,
        now_ms: u64,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Stopped> {
        let mut carrier = Carrier {
            go_on,
            source: &self.source,
            new: &self.new,
            places: &mut self.places,
        };
        let rewrite = &mut self.rewrite;
        self.copy
            .run(&self.source, rewrite, upto, now_ms, &mut carrier)
    }

    /// The place of the eviction hand in the new file; it was at `hand` in the old one.
    fn hand_after(&self, hand: u64) -> u64 {
        let behind = self.places.partition_point(|(old, _)| *old < hand);
        self.places.get(behind).map_or(LOG_START, |(_, new)| *new)
    }

    /// Writes a checkpoint of what was read back; see [`write_into_rewrite`].
    fn write_layer(&mut self, checkpoint_bytes: u64, hand: u64) -> Result<()> {
        write_into_rewrite(&self.new, &mut self.rewrite, checkpoint_bytes, hand)
    }

    /// Applies to the new index what has been written to the new file, which proves that it can be read.
    fn read_back(&mut self, path: &Path) -> Result<()> {
        let written = self.rewrite.tail();
        self.new.map_upto(written.offset)?;
        read_back(&self.new, written, path)
    }
}

/// Applies what was not yet, up to where the log was `written` to, where it must end.
fn read_back(new: &Generation, written: Tail, path: &Path) -> Result<()> {
    let mut tail = new.lock_tail();
    let (_, end) = new.catch_up(&mut tail)?;
    if end.is_ok() && *tail == written || mutation::is_on(Mutation::SkipReadBack) {
        return Ok(());
    }
    Err(Error::corrupt(
        path,
        tail.offset,
        "the compacted copy differs from the written data when read back",
    ))
}
