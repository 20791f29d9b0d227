//! Syncs the log to the device, and records that in the slots.
//!
//! | from | event | to | done by |
//! | --- | --- | --- | --- |
//! | unsynced | a sync succeeds | synced up to the tail before it | `Engine::sync_locked` |
//! | synced | a slot is written | *synced up to* is in the file | `Engine::write_slot` |
//! | any | a sync fails | poisoned, until the file is compacted | `Engine::poison` |
//! | any | close | synced, the slot current, reserved space released | `Engine::shutdown` |
//!
//! A failed sync poisons the file before the sync lock is released. The handle writes the poison
//! word beside the slots. Every handle reads that word under the sync lock before it syncs, and
//! whenever it acquires the writer lock. A record at the end of the log gives the reason. The
//! record needs the writer lock, and may come later.
//!
//! If the word cannot be written, the handle keeps the sync lock until it can, or until it ends. So
//! no write is acknowledged after a failed sync, unless the process is killed between the failure
//! and the word.

use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::Engine;
use super::commit::trimmed_bytes;
use super::generation::Generation;
use crate::clock::Patience;
use crate::log::{Slot, Slots};
use crate::mutation::{self, Mutation};
use crate::storage::{CAN_SHARE, Directory, LockByte, LockMode, StorageFile, acquire};
use crate::sync::Instant;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::thread::{self, Thread};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use crate::{Durability, Error, Result};

/// Under `Always` a slot lags at most by this many syncs: each costs a second page on the device.
const SLOT_LAG_SYNCS: u32 = 64;

/// And at most by this long.
const SLOT_LAG: Duration = Duration::from_secs(1);

/// The state that a thread must lock to sync.
#[derive(Debug)]
pub(super) struct SyncState {
    pub(super) slots: Slots,
    syncs_since_slot: u32,
    slot_written: Instant,
    /// How long the last sync took.
    sync_took: Duration,
}

impl SyncState {
    pub(super) fn new(slots: Slots) -> Self {
        Self {
            slots,
            syncs_since_slot: 0,
            slot_written: Instant::now(),
            sync_took: Duration::ZERO,
        }
    }
}

/// Threads that wait for a sync to end, to find that it has covered what they wrote, or to be the next to sync.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    threads: Mutex<Vec<Thread>>,
    /// How many there were when the last sync ended.
    last_count: AtomicUsize,
}

impl Waiting {
    fn threads(&self) -> MutexGuard<'_, Vec<Thread>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the threads that the last sync woke a moment to append their next commits.
    ///
    /// Without this pause two halves of the threads would alternate, and each sync would cover one
    /// half. The pause is at most as long as the last sync took. It happens once if the threads do
    /// not come back.
    fn gather(&self, sync_took: Duration) {
        /// A thread that was woken and has not returned does something else, however slow the device is.
        const LONGEST: Duration = Duration::from_millis(1);
        let expected = self.last_count.load(Ordering::Relaxed);
        if expected < 2 {
            // Two threads are as well off by turns.
            return;
        }
        let begun = Instant::now();
        let at_most = sync_took.min(LONGEST);
        while self.threads().len() < expected && begun.elapsed() < at_most {
            thread::yield_now();
        }
    }

    /// Notes how many are about to be woken.
    fn note_count(&self) {
        let count = self.threads().len();
        self.last_count.store(count, Ordering::Relaxed);
    }
}

/// The state of syncing, locked between threads.
pub(super) struct SyncGuard<'a> {
    // Dropped in this order: a woken thread finds the lock free.
    state: MutexGuard<'a, SyncState>,
    _wake: Wake<'a>,
}

/// Wakes all waiting threads when it is dropped. It wakes them together, since each needs only a
/// check.
struct Wake<'a>(&'a Waiting);

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        let threads = std::mem::take(&mut *self.0.threads());
        threads.iter().for_each(Thread::unpark);
    }
}

impl Deref for SyncGuard<'_> {
    type Target = SyncState;

    fn deref(&self) -> &SyncState {
        &self.state
    }
}

impl DerefMut for SyncGuard<'_> {
    fn deref_mut(&mut self) -> &mut SyncState {
        &mut self.state
    }
}

/// The right to sync and to write slots; dropping it releases the right.
pub(super) struct SyncClaim<'a> {
    pub(super) state: SyncGuard<'a>,
    /// What is locked between processes.
    locked: Option<Arc<Generation>>,
}

impl Deref for SyncClaim<'_> {
    type Target = SyncState;

    fn deref(&self) -> &SyncState {
        &self.state
    }
}

impl DerefMut for SyncClaim<'_> {
    fn deref_mut(&mut self) -> &mut SyncState {
        &mut self.state
    }
}

impl Drop for SyncClaim<'_> {
    fn drop(&mut self) {
        if let Some(generation) = &self.locked
            && !generation.owes_word()
        {
            // If it fails, closing the file releases it.
            let _ = generation.file.unlock(LockByte::Sync);
        }
    }
}

fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl Engine {
    /// Carries everything published so far through to the device.
    pub(crate) fn sync(&self) -> Result<()> {
        if self.settings.read_only {
            return Ok(());
        }
        self.check_not_forked()?;
        self.refuse_within_write()?;
        // Other handles may have written since this one last looked.
        self.look_for_news()?;
        let generation = self.generation();
        generation.check_not_overwritten()?;
        self.sync_covering(&generation, generation.published_upto())
    }

    /// The current generation. If the handle is poisoned and another one has compacted the file,
    /// the new generation.
    fn healed_generation(&self) -> Result<Arc<Generation>> {
        if self.generation_now().poisoned().is_some() {
            self.look_for_news()?;
        }
        let generation = self.generation();
        generation.check_not_overwritten()?;
        Ok(generation)
    }

    /// What the background does: syncs if there is something, and lets no slot lag for long.
    pub(crate) fn sync_if_behind(&self) -> Result<()> {
        let current = self.healed_generation()?;
        let slot_lags = current.synced_upto() > self.lock_sync().slots.current().synced_upto;
        let syncs = matches!(self.settings.durability, Durability::Interval(_));
        // A handle that wrote nothing leaves the sync to handles that did.
        if !(slot_lags || syncs && current.is_behind()) {
            return Ok(());
        }
        let (mut state, generation) = self.claim_sync()?;
        self.check_writable(&generation)?;
        self.sync_with_slot(&generation, &mut state)
    }

    /// Returns once the log is on the device up to `end`. A thread that waits for the sync of another finds, as
    /// a rule, that the next sync covers it too: one sync for many.
    pub(super) fn sync_covering(&self, generation: &Arc<Generation>, end: u64) -> Result<()> {
        let is_covered = || generation.synced_upto() >= end && generation.poisoned().is_none();
        let before = self.sync_waited.total();
        let state = loop {
            if is_covered() {
                return Ok(());
            }
            if let Some(state) = self.try_lock_sync() {
                break state;
            }
            self.waiting.threads().push(thread::current());
            // The holder may have released the lock, and woken the others, just before.
            if let Some(state) = self.try_lock_sync() {
                break state;
            }
            thread::park();
        };
        let waited = self.sync_waited.total().saturating_sub(before);
        let (mut state, current) = self.claim_sync_by(state, waited)?;
        self.check_writable(&current)?;
        // A generation is replaced only by one that holds all of it, on the device; but its name may not be there yet.
        let is_covered = match Arc::ptr_eq(generation, &current) {
            true => current.synced_upto() >= end,
            false => current.synced_upto() > 0,
        };
        if is_covered {
            return Ok(());
        }
        self.waiting.gather(state.sync_took);
        let begun = Instant::now();
        self.sync_locked(&current, &mut state)?;
        state.sync_took = begun.elapsed();
        self.waiting.note_count();
        if self.settings.exclusive && self.named_id()? != Some(current.id) {
            // A shared handle finds a removed file when it next acquires the writer lock. An
            // exclusive one keeps the lock, so it checks here.
            return Err(Error::Removed {
                path: self.path.clone(),
            });
        }
        state.syncs_since_slot += 1;
        let lags =
            state.syncs_since_slot >= SLOT_LAG_SYNCS || state.slot_written.elapsed() >= SLOT_LAG;
        if lags || self.settings.durability != Durability::Always {
            self.write_slot(&current, &mut state)?;
        }
        Ok(())
    }

    /// Takes the lock that syncing needs, between threads and between processes, and reads what others have synced.
    pub(super) fn claim_sync(&self) -> Result<(SyncClaim<'_>, Arc<Generation>)> {
        match self.try_lock_sync() {
            Some(state) => self.claim_sync_by(state, Duration::ZERO),
            None => {
                let before = self.sync_waited.total();
                let state = self.lock_sync();
                let waited = self.sync_waited.total().saturating_sub(before);
                self.claim_sync_by(state, waited)
            }
        }
    }

    /// Like [`Engine::claim_sync`], for a caller that has the lock between threads. `waited` is what
    /// other threads have waited meanwhile, and counts towards the timeout.
    fn claim_sync_by<'a>(
        &'a self,
        state: SyncGuard<'a>,
        waited: Duration,
    ) -> Result<(SyncClaim<'a>, Arc<Generation>)> {
        let generation = self.generation();
        if self.settings.exclusive && !CAN_SHARE {
            let locked = None;
            return Ok((SyncClaim { state, locked }, generation));
        }
        let mut patience = Patience::new(self.settings.lock_timeout).after(waited);
        let file = &*generation.file;
        let locked = acquire(file, LockByte::Sync, LockMode::Exclusive, &mut patience)
            .map_err(Error::io("lock", &self.path))?;
        self.sync_waited
            .add(patience.waited().saturating_sub(waited));
        if !locked {
            return Err(Error::Locked {
                path: self.path.clone(),
                lock: LockByte::Sync.name(),
                waited: patience.waited(),
            });
        }
        let mut claim = SyncClaim {
            state,
            locked: Some(Arc::clone(&generation)),
        };
        generation.leave_word();
        generation.note_word();
        if let Some(slots) = generation.read_own_slots()? {
            claim.state.slots = slots;
            generation.note_synced_by(&slots);
        }
        generation.check_not_overwritten()?;
        Ok((claim, generation))
    }

    pub(super) fn lock_sync(&self) -> SyncGuard<'_> {
        SyncGuard {
            // Its state is only replaced as a whole.
            state: self.sync.lock().unwrap_or_else(PoisonError::into_inner),
            _wake: Wake(&self.waiting),
        }
    }

    fn try_lock_sync(&self) -> Option<SyncGuard<'_>> {
        let state = match self.sync.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(state)) => state.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(SyncGuard {
            state,
            _wake: Wake(&self.waiting),
        })
    }

    pub(super) fn sync_locked(&self, generation: &Generation, state: &mut SyncState) -> Result<()> {
        // The tail before the sync: what is appended meanwhile may not be covered.
        let upto = generation.published_upto();
        let poisoned = |operation| move |source| self.poison(generation, operation, source);
        if mutation::is_on(Mutation::SlotBeforeSync) {
            generation.note_synced(upto);
            self.write_slot(generation, state)?;
        }
        // The name may be lost although the contents are not.
        let directory = match state.slots.current().named {
            true => None,
            false => Some(self.open_directory()?),
        };
        sync_file(&*generation.file).map_err(poisoned("sync"))?;
        if let Some(directory) = directory {
            sync_directory(&*directory).map_err(poisoned("sync the directory of"))?;
            let current = state.slots.current();
            let named = Slot {
                synced_upto: upto.max(current.synced_upto),
                named: true,
                ..current
            };
            self.put_slot(generation, state, named)?;
        }
        generation.note_synced(upto);
        Ok(())
    }

    /// The directory that holds the file: before something is done of which it must be told, since failing to open it is no failed sync.
    pub(super) fn open_directory(&self) -> Result<Box<dyn Directory>> {
        self.storage
            .open_directory(&self.path)
            .map_err(Error::io("open the directory of", &self.path))
    }

    /// Syncs, and writes a slot that says so. No slot is written before the one before it is on the device: a loss of power might tear both.
    fn sync_with_slot(&self, generation: &Generation, state: &mut SyncState) -> Result<()> {
        self.sync_locked(generation, state)?;
        self.write_slot(generation, state)
    }

    /// Brings the slots up to what was synced, where they are not. The caller has synced since the last one was written.
    fn write_slot(&self, generation: &Generation, state: &mut SyncState) -> Result<()> {
        let synced_upto = generation.synced_upto();
        let current = state.slots.current();
        if synced_upto <= current.synced_upto {
            return Ok(());
        }
        let slot = Slot {
            synced_upto,
            ..current
        };
        self.put_slot(generation, state, slot)
    }

    pub(super) fn put_slot(
        &self,
        generation: &Generation,
        state: &mut SyncState,
        slot: Slot,
    ) -> Result<()> {
        // A sync takes long enough for the file to be overwritten meanwhile.
        generation.check_not_overwritten()?;
        let slots = state.slots.succeeded_by(slot);
        match write_slots(&*generation.file, generation.header.salt, &slots) {
            // Where a page cannot be written in place (btrfs) a full disk may have none for it. The old
            // slot is true as well, a lower bound; what it says less of is on the device all the same.
            Err(error) if is_disk_full(&error) => return Ok(()),
            written => written.map_err(Error::io("write to", &self.path))?,
        }
        generation.note_slots(&slots);
        state.slots = slots;
        state.syncs_since_slot = 0;
        state.slot_written = Instant::now();
        Ok(())
    }

    /// Latches a failed sync, and leaves word of it for the others. The caller holds the sync lock.
    ///
    /// To sync again would be worse than useless: Linux reports the error once, drops the pages, and
    /// answers the next sync with success.
    pub(super) fn poison(
        &self,
        generation: &Generation,
        operation: &'static str,
        source: io::Error,
    ) -> Error {
        generation.latch_failed_sync(source.to_string());
        self.append_poisoned(generation);
        Error::Io {
            operation,
            path: self.path.clone(),
            source,
        }
    }

    /// Like [`Generation::check_not_poisoned`]. Appends the record that gives the reason, if it is
    /// missing.
    fn check_writable(&self, generation: &Generation) -> Result<()> {
        generation
            .check_not_poisoned(&self.path)
            .inspect_err(|_| self.append_poisoned(generation))
    }

    /// Syncs the unsynced part, and releases reserved space if no other handle has the file open.
    pub(crate) fn shutdown(&self) -> Result<()> {
        if self.is_forked() {
            // The file and its locks are the parent's.
            return Ok(());
        }
        if self.closed.swap(true, Ordering::AcqRel) || self.settings.read_only {
            return Ok(());
        }
        if let Ok(mut writer) = self.writer.lock() {
            self.give_up_turn(&mut writer);
        }
        if !self.is_due_on_close() {
            // Else the compaction below writes one.
            self.checkpoint_on_close();
        }
        let generation = self.healed_generation()?;
        self.check_writable(&generation)?;
        let slot_lags = generation.synced_upto() > self.lock_sync().slots.current().synced_upto;
        if generation.is_behind() || slot_lags {
            let (mut state, generation) = self.claim_sync()?;
            self.check_writable(&generation)?;
            self.sync_with_slot(&generation, &mut state)?;
        }
        self.compact_on_close();
        let generation = self.generation();
        self.trim(&generation)?;
        for byte in [LockByte::Users, LockByte::Writer] {
            generation
                .file
                .unlock(byte)
                .map_err(Error::io("unlock", &self.path))?;
        }
        Ok(())
    }

    /// Releases reserved space, unless another handle has the file open.
    fn trim(&self, generation: &Generation) -> Result<()> {
        generation.check_not_overwritten()?;
        let io_error = |operation| Error::io(operation, &self.path);
        let file = &generation.file;
        let file_bytes = file.size().map_err(io_error("read the size of"))?;
        if file_bytes <= trimmed_bytes(generation.published_upto()) {
            return Ok(());
        }
        // Failing to get the lock is harmless: another handle that has the file open may map the
        // reserved space.
        if !file
            .try_lock(LockByte::Users, LockMode::Exclusive)
            .map_err(io_error("lock"))?
        {
            return Ok(());
        }
        // Others may have written and closed since this handle last looked.
        let mut tail = generation.lock_tail();
        if !mutation::is_on(Mutation::TrimUnseen) {
            let _ = generation.catch_up(&mut tail)?;
        }
        let trimmed = trimmed_bytes(tail.offset);
        if trimmed < file_bytes {
            file.truncate(trimmed)
                .map_err(io_error("truncate the reserved space of"))?;
        }
        Ok(())
    }
}

/// Writes the slot that counts.
pub(super) fn write_slots(file: &dyn StorageFile, salt: u32, slots: &Slots) -> io::Result<()> {
    let offset = slots.current_offset();
    file.write_at(&slots.current().encode(salt, offset), offset)
}

pub(super) fn sync_directory(directory: &dyn Directory) -> io::Result<()> {
    if mutation::is_on(Mutation::SkipDirectorySync) {
        return Ok(());
    }
    directory.sync()
}

fn sync_file(file: &dyn StorageFile) -> io::Result<()> {
    if mutation::is_on(Mutation::SkipFileSync) {
        return Ok(());
    }
    let synced = file.sync();
    if synced.is_err() && mutation::is_on(Mutation::RetryFailedSync) {
        return file.sync();
    }
    synced
}
