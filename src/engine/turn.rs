//! The writer lock between processes, the lease on it, and the checks when it is acquired.
//!
//! | event since the lock was last held | noticed by | answer |
//! | --- | --- | --- |
//! | others have committed | the word at the tail | their commits are applied first |
//! | a writer died during a commit | bytes after the tail that are not zero | a padding record replaces them |
//! | the file was compacted, repaired or replaced | the path names another file | the handle follows to that file |
//! | the file was removed | the path names no file | [`Error::Removed`] |
//! | the file was overwritten in place | its slot or its last record differs | [`Error::Overwritten`] |
//!
//! The two system calls to lock and unlock cost more than the write itself. So a handle that writes
//! repeatedly keeps the lock between writes: the lease. It releases the lease after [`IDLE`]
//! without a write, and when another process asks for it. A busy handle then keeps it for at least
//! [`QUANTUM`], so that a lease is worth its cost.
//!
//! To ask, a process changes the *ask word* of the file. The holder reads the word in its mapping,
//! without a system call. A holder that was asked leaves the others time to acquire the lock.
//!
//! Correctness does not depend on the ask word. A wrong value only ends a lease too early, or when
//! its holder is idle. The kernel releases the lock of a killed holder. A stopped holder makes the
//! others run into their timeout.
//!
//! Invariants:
//!
//! 1. The lock is held from before the catch-up until the commit is applied. A lease is this lock,
//!    held longer.
//! 2. Once the lock is acquired, everything in the log is applied before the first write.

use std::time::Duration;

use super::commit::Writer;
use super::open::{judge_end, load, lock_users};
use super::{Engine, Generation};
use crate::clock::Patience;
use crate::log::{ASK_OFFSET, PAGE_BYTES};
use crate::mutation::{self, Mutation};
use crate::storage::{Access, FileId, LockByte, acquire_asking, has_forked_since};
use crate::sync::Instant;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::thread;
use crate::sync::{Arc, MutexGuard, PoisonError, RwLockReadGuard, TryLockError};
use crate::{Error, Result};

/// How long a lease is kept without a write.
const IDLE: Duration = Duration::from_millis(1);

/// How long a lease may last while others ask for it.
const QUANTUM: Duration = Duration::from_micros(500);

/// How long a caller with an alternative waits for the lock: enough for an asked holder to release
/// it.
const BRIEFLY: Duration = Duration::from_millis(2);

/// The pause of a handle that released its lease, before it asks for the writer lock again.
pub(super) const COURTESY: Duration = Duration::from_micros(50);

/// How often a turn begins again because the path names another file.
const MAX_ATTEMPTS: usize = 8;

/// How a handle stands to the lock between processes.
#[derive(Debug)]
pub(super) struct Lease {
    /// Whether it has the lock.
    held: bool,
    taken_at: Instant,
    /// When it last wrote something.
    used_at: Option<Instant>,
    /// The ask word when it took the lock.
    ask_word: u64,
    /// Whether it gave the lock up because it was asked to.
    gave_way: bool,
}

impl Lease {
    pub(super) fn new() -> Lease {
        Lease {
            held: false,
            taken_at: Instant::now(),
            used_at: None,
            ask_word: 0,
            gave_way: false,
        }
    }
}

/// What has become of a lease that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseState {
    Held,
    GivenUp,
}

/// How long the threads of a handle have waited for other handles, for one lock, all together.
///
/// A thread that waits for another thread of its handle counts what that one has waited meanwhile
/// towards its own timeout: otherwise timeouts would add up across threads. The time itself is no
/// measure, since the process may have been stopped.
#[derive(Debug, Default)]
pub(super) struct WaitedFor(AtomicU64);

impl WaitedFor {
    pub(super) fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn add(&self, waited: Duration) {
        let waited = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(waited, Ordering::Relaxed);
    }
}

impl Engine {
    /// Refuses what the handle cannot do: it was inherited by a forked child.
    pub(super) fn check_not_forked(&self) -> Result<()> {
        if !self.is_forked() {
            return Ok(());
        }
        Err(Error::Forked {
            path: self.path.clone(),
        })
    }

    pub(crate) fn is_forked(&self) -> bool {
        has_forked_since(self.fork_count)
    }

    /// Acquires the writer lock, between threads and between processes, and catches up.
    pub(super) fn lock_writer(&self) -> Result<MutexGuard<'_, Writer>> {
        let mut waited = Duration::ZERO;
        let writer = match self.writer.try_lock() {
            Ok(writer) => writer,
            Err(TryLockError::Poisoned(panicked)) => self.recover_writer(panicked)?,
            Err(TryLockError::WouldBlock) => {
                let before = self.writer_waited.total();
                let writer = self.writer.lock();
                waited = self.writer_waited.total().saturating_sub(before);
                writer.or_else(|panicked| self.recover_writer(panicked))?
            }
        };
        if self.keeps_lock(&writer) {
            writer.generation.check_not_overwritten()?;
            return Ok(writer);
        }
        let patience = Patience::new(self.settings.lock_timeout).after(waited);
        self.begin_with(writer, patience)
    }

    /// Whether the lock between processes is held already: by an exclusive handle for life, by the
    /// holder of the lease still.
    fn keeps_lock(&self, writer: &Writer) -> bool {
        self.settings.exclusive || writer.lease.held
    }

    /// Like [`Engine::lock_writer`], but returns [`Error::Locked`] after [`BRIEFLY`].
    pub(super) fn lock_writer_briefly(&self) -> Result<MutexGuard<'_, Writer>> {
        self.lock_writer_within(BRIEFLY)
    }

    /// Like [`Engine::lock_writer`], but returns [`Error::Locked`] after `timeout` even if another thread of
    /// this handle holds the lock.
    pub(super) fn lock_writer_within(&self, timeout: Duration) -> Result<MutexGuard<'_, Writer>> {
        /// A lock between threads cannot be waited for with a limit.
        const PAUSE: Duration = Duration::from_micros(50);
        let mut patience = Patience::new(timeout);
        let writer = loop {
            match self.writer.try_lock() {
                Ok(writer) => break writer,
                Err(TryLockError::Poisoned(panicked)) => break self.recover_writer(panicked)?,
                Err(TryLockError::WouldBlock) if patience.is_over() => {
                    return Err(self.locked(&patience));
                }
                Err(TryLockError::WouldBlock) => patience.sleep(PAUSE),
            }
        };
        self.begin_with(writer, patience)
    }

    fn begin_with<'e>(
        &'e self,
        mut writer: MutexGuard<'e, Writer>,
        mut patience: Patience,
    ) -> Result<MutexGuard<'e, Writer>> {
        let before = patience.waited();
        let taken = self.take_turn(&mut writer, &mut patience);
        if patience.waited() > before {
            self.writer_waited.add(patience.waited() - before);
        }
        taken.map(|()| writer)
    }

    /// Goes on after a thread has panicked with the lock, unless it had begun to write.
    fn recover_writer<'e>(
        &'e self,
        panicked: PoisonError<MutexGuard<'e, Writer>>,
    ) -> Result<MutexGuard<'e, Writer>> {
        let mut writer = panicked.into_inner();
        if writer.is_committing {
            return Err(Error::Poisoned {
                path: self.path.clone(),
                reason: "a thread panicked during a write".to_owned(),
            });
        }
        // It was in the closure of an update or the like, and nothing was begun. Its turn has been kept.
        self.give_up_turn(&mut writer);
        self.writer.clear_poison();
        Ok(writer)
    }

    /// Takes the lock between threads although a thread may have panicked with it.
    fn lock_writer_anyway(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acquires the lock between processes.
    fn take_turn(&self, writer: &mut Writer, patience: &mut Patience) -> Result<()> {
        if self.keeps_lock(writer) {
            return writer.generation.check_not_overwritten();
        }
        if std::mem::take(&mut writer.lease.gave_way) {
            thread::sleep(COURTESY);
        }
        loop {
            let generation = self.generation();
            self.note_file(&generation)?;
            generation.check_not_overwritten()?;
            if !self.wait_for_turn(&generation, patience)? {
                return Err(self.locked(patience));
            }
            match self.begin_turn(writer, &generation) {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    let _ = generation.file.unlock(LockByte::Writer);
                    self.follow(&generation)?;
                }
                Err(error) => {
                    let _ = generation.file.unlock(LockByte::Writer);
                    return Err(error);
                }
            }
        }
    }

    /// Waits for the lock between processes. Returns whether it was acquired.
    fn wait_for_turn(&self, generation: &Generation, patience: &mut Patience) -> Result<bool> {
        if mutation::is_on(Mutation::SkipWriterLock) {
            return Ok(true);
        }
        let file = &*generation.file;
        let mut ask_word = generation.ask_word();
        let mut ask = || {
            // Any other value asks. If it cannot be written, the turn comes when its holder is idle.
            ask_word = ask_word.wrapping_add(1);
            let _ = file.write_at(&ask_word.to_le_bytes(), ASK_OFFSET);
        };
        acquire_asking(file, LockByte::Writer, patience, &mut ask)
            .map_err(Error::io("lock", &self.path))
    }

    fn locked(&self, patience: &Patience) -> Error {
        Error::Locked {
            path: self.path.clone(),
            lock: LockByte::Writer.name(),
            waited: patience.waited(),
        }
    }

    /// Applies what others have written, under the lock; says no where the path names another file by now.
    pub(super) fn begin_turn(
        &self,
        writer: &mut Writer,
        generation: &Arc<Generation>,
    ) -> Result<bool> {
        match self.named_id()? {
            Some(id) if id == generation.id || mutation::is_on(Mutation::SkipNameCheck) => {}
            Some(_) => return Ok(false),
            None => {
                return Err(Error::Removed {
                    path: self.path.clone(),
                });
            }
        }
        let file_bytes = generation
            .file
            .size()
            .map_err(Error::io("read the size of", &self.path))?;
        // Again, since the lock may have been waited for.
        generation.check_not_overwritten()?;
        generation.map_upto(file_bytes)?;
        let mut tail = generation.lock_tail();
        let end = match mutation::is_on(Mutation::SkipCatchUp) {
            true => Ok(()),
            false => generation.catch_up(&mut tail)?.1,
        };
        if end.is_err() {
            let slots = generation.read_own_slots()?.ok_or_else(|| {
                let reason = "both slots are invalid";
                Error::corrupt(&self.path, PAGE_BYTES as u64, reason)
            })?;
            judge_end(&self.path, tail.offset, end, slots.current())?;
        }
        if !Arc::ptr_eq(&writer.generation, generation) {
            writer.go_on_with(generation, generation.stored_hand(), &self.settings);
        }
        generation.note_word();
        writer.must_fence = end.is_err() || generation.has_leftovers(&tail);
        writer.file_bytes = file_bytes;
        writer.lease.held = true;
        writer.lease.taken_at = Instant::now();
        writer.lease.ask_word = generation.ask_word();
        Ok(true)
    }

    /// Which file the path names now.
    pub(super) fn named_id(&self) -> Result<Option<FileId>> {
        self.storage
            .id_of(&self.path)
            .map_err(Error::io("look at", &self.path))
    }

    /// After a write: gives the turn up, or keeps it because there may be more.
    pub(super) fn end_turn(&self, writer: &mut Writer) {
        let lease = &mut writer.lease;
        if self.settings.exclusive || !lease.held {
            return;
        }
        let now = Instant::now();
        let is_busy = lease.used_at.is_some_and(|at| now - at < IDLE);
        lease.used_at = Some(now);
        let keeps = match writer.generation.ask_word() == lease.ask_word {
            true => is_busy,
            false => is_busy && now - lease.taken_at < QUANTUM,
        };
        // Without a thread that would give an idle lease up there is none.
        if !keeps || !self.settings.in_background {
            self.give_up_turn(writer);
        } else if !self.lease_kept.load(Ordering::Relaxed) {
            self.lease_kept.store(true, Ordering::Release);
            self.lease_started.store(true, Ordering::Release);
        }
    }

    pub(super) fn give_up_turn(&self, writer: &mut Writer) {
        let lease = &mut writer.lease;
        if self.settings.exclusive || !lease.held {
            return;
        }
        lease.held = false;
        if self.is_forked() {
            // The lock is the parent's.
            return;
        }
        lease.gave_way = writer.generation.ask_word() != lease.ask_word;
        // If it fails, closing the file releases it; until then others wait.
        let _ = writer.generation.file.unlock(LockByte::Writer);
    }

    /// Whether the turn is kept from one write to the next.
    #[cfg(feature = "server")]
    pub(crate) fn keeps_turn(&self) -> bool {
        self.settings.exclusive || self.lease_kept.load(Ordering::Relaxed)
    }

    /// Whether a lease has begun that a thread must release when it is idle. Returns `true` once
    /// for each such lease.
    pub(crate) fn takes_lease_started(&self) -> bool {
        self.lease_started.load(Ordering::Relaxed)
            && self.lease_started.swap(false, Ordering::AcqRel)
    }

    /// Gives an idle lease up.
    pub(crate) fn look_after_lease(&self) -> LeaseState {
        let mut writer = match self.writer.try_lock() {
            Ok(writer) => writer,
            // It is being used.
            Err(TryLockError::WouldBlock) => return LeaseState::Held,
            Err(TryLockError::Poisoned(writer)) => writer.into_inner(),
        };
        let lease = &writer.lease;
        let is_idle = lease.used_at.is_none_or(|at| at.elapsed() >= IDLE);
        let is_asked = writer.generation.ask_word() != lease.ask_word;
        if lease.held && !is_idle && !is_asked {
            return LeaseState::Held;
        }
        self.give_up_turn(&mut writer);
        self.lease_kept.store(false, Ordering::Release);
        LeaseState::GivenUp
    }

    /// Gives the turn up, whether it is idle or not.
    pub(crate) fn end_lease(&self) {
        self.give_up_turn(&mut self.lock_writer_anyway());
        self.lease_kept.store(false, Ordering::Release);
    }

    #[cfg(brasa_schedules)]
    pub(crate) fn files_in_use(&self) -> String {
        let (read, writer) = (self.generation(), self.lock_writer_anyway());
        let count = Arc::strong_count;
        format!(
            "reads {:?} ({} owners), writes {:?} ({} owners), lease: {}",
            read.id,
            count(&read),
            writer.generation.id,
            count(&writer.generation),
            writer.lease.held
        )
    }

    /// Applies what others have written, for a reader: without a lock, and without a system call if there is nothing.
    pub(super) fn look_for_news(&self) -> Result<()> {
        self.generation_with_news().map(drop)
    }

    /// The file as it is now, for a short look, with what others have written.
    pub(super) fn generation_with_news(&self) -> Result<RwLockReadGuard<'_, Arc<Generation>>> {
        self.check_not_forked()?;
        loop {
            let generation = self.generation_now();
            generation.check_slots()?;
            if self.settings.exclusive && !self.settings.read_only {
                return Ok(generation);
            }
            generation.check_record()?;
            let has_news = generation.has_news();
            if !has_news && !generation.is_suspect() {
                return Ok(generation);
            }
            let kept = Arc::clone(&generation);
            drop(generation);
            if kept.is_look_due(has_news) && self.is_copied_up(&kept)? {
                self.follow(&kept)?;
                continue;
            }
            if has_news {
                let mut tail = kept.lock_tail();
                // An incomplete commit may still be in progress: the holder of the lock judges it.
                let _ = kept.catch_up(&mut tail)?;
            }
            if kept.may_have_moved() && self.named_id()?.is_some_and(|id| id != kept.id) {
                // Another thread of this handle is about to follow to the new file. No other handle
                // can write there before that.
                if self.switching.load(Ordering::Acquire) {
                    return Ok(self.generation_now());
                }
                self.follow(&kept)?;
                continue;
            }
            if kept.is_writer_behind() {
                self.let_writer_follow();
            }
            // It has not moved yet, or was removed: what was there can still be read.
            return Ok(self.generation_now());
        }
    }

    /// Whether the path names a file that the mapping does not show: overlayfs has copied it to its
    /// upper layer, or the file has grown since it was mapped.
    fn is_copied_up(&self, generation: &Generation) -> Result<bool> {
        let named = match self.storage.open(&self.path, Access::Read) {
            Ok(named) => named,
            // What was there can still be read.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::io("open", &self.path)(error)),
        };
        generation
            .is_shadowed_by(&*named)
            .map_err(Error::io("look at", &self.path))
    }

    /// Goes on with the file that the path names by now, in place of `old`.
    pub(super) fn follow(&self, old: &Arc<Generation>) -> Result<()> {
        let _one = self
            .following
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(old, &self.generation_now()) {
            return Ok(());
        }
        let new = Arc::new(self.open_named()?);
        // Tracked watches are to see all of the old file before they leave it.
        let _ = old.catch_up(&mut old.lock_tail());
        new.set_writer_behind(true);
        self.set_generation(new);
        self.let_writer_follow();
        let _ = old.file.unlock(LockByte::Users);
        Ok(())
    }

    /// Lets the writer go on with the handle's file, unless another thread has it. A handle that only
    /// reads never begins a turn, so its writer would keep a replaced file for good.
    fn let_writer_follow(&self) {
        if mutation::is_on(Mutation::KeepReplacedFile) {
            return;
        }
        let Ok(mut writer) = self.writer.try_lock() else {
            return;
        };
        let generation = self.generation();
        if writer.lease.held {
            return;
        }
        if !Arc::ptr_eq(&writer.generation, &generation) {
            writer.go_on_with(&generation, generation.stored_hand(), &self.settings);
        }
        generation.set_writer_behind(false);
    }

    /// Follows a compaction of another process even if this handle is idle. Otherwise an idle
    /// handle would keep the replaced file, its index and its space on the device.
    pub(crate) fn follow_if_replaced(&self) -> Result<()> {
        let generation = self.generation();
        let is_behind = generation.is_writer_behind();
        if self.closed.load(Ordering::Acquire)
            || self.switching.load(Ordering::Acquire)
            || !is_behind && self.named_id()?.is_none_or(|id| id == generation.id)
        {
            return Ok(());
        }
        self.look_for_news()
    }

    /// The file that the path names now, with everything applied.
    fn open_named(&self) -> Result<Generation> {
        for _ in 0..MAX_ATTEMPTS {
            let file = match self.storage.open(&self.path, self.settings.access()) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(Error::Removed {
                        path: self.path.clone(),
                    });
                }
                Err(error) => return Err(Error::io("open", &self.path)(error)),
            };
            lock_users(&*file, &self.path, &self.settings)?;
            let (generation, _) = load(file, &self.path, &self.settings)?;
            // It may have been replaced again before it was locked.
            if self.named_id()? == Some(generation.id) {
                return Ok(generation);
            }
        }
        Err(Error::io("open", &self.path)(std::io::Error::other(
            "it was repeatedly replaced by other processes; try again",
        )))
    }
}

impl Generation {
    /// The current ask word. Processes that wait for the writer lock change it.
    fn ask_word(&self) -> u64 {
        let word = self.mapping().word(ASK_OFFSET);
        word.map_or(0, u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Db, Durability};

    /// A time for which a lease, or an idle one, is too old by far.
    const LONG: Duration = Duration::from_millis(10);

    /// Which of the times in a lease are old.
    #[derive(Debug, Clone, Copy)]
    struct Lapse {
        used: bool,
        taken: bool,
        is_asked: bool,
    }

    fn lapses() -> impl Iterator<Item = Lapse> {
        (0..8).map(|bits| Lapse {
            used: bits & 1 != 0,
            taken: bits & 2 != 0,
            is_asked: bits & 4 != 0,
        })
    }

    /// Takes a lease with these times and returns whether `end` has kept it. A time that is not old is
    /// in the future, so that no delay of this thread makes it old.
    fn is_kept(lapse: Lapse, end: fn(&Engine, MutexGuard<'_, Writer>)) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let options = Db::options().durability(Durability::Os);
        let engine = Engine::open_on_disk(&directory.path().join("cache.brasa"), &options).unwrap();
        let mut writer = engine.lock_writer().unwrap();
        let time = |is_old| match is_old {
            true => Instant::now() - LONG,
            false => Instant::now() + 3_600 * Duration::from_secs(1),
        };
        writer.lease.used_at = Some(time(lapse.used));
        writer.lease.taken_at = time(lapse.taken);
        if lapse.is_asked {
            let word = writer.lease.ask_word.wrapping_add(1).to_le_bytes();
            let file = Arc::clone(&writer.generation.file);
            file.write_at(&word, ASK_OFFSET).unwrap();
        }
        end(&engine, writer);
        engine.lock_writer_anyway().lease.held
    }

    #[test]
    fn writer_that_was_busy_when_its_handle_followed_releases_the_replaced_file_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cache.brasa");
        let options = Db::options().durability(Durability::Os);
        let engine = Engine::open_on_disk(&path, &options).unwrap();
        let busy = engine.lock_writer_anyway();
        let replaced = Arc::downgrade(&busy.generation);
        options.open(&path).unwrap().compact().unwrap();
        engine.look_for_news().unwrap();
        assert!(replaced.upgrade().is_some());
        drop(busy);
        engine.look_for_news().unwrap();
        assert!(replaced.upgrade().is_none());
    }

    #[test]
    fn busy_handle_keeps_the_lease_after_a_write_until_it_is_asked_and_the_quantum_is_over() {
        for lapse in lapses() {
            let kept = is_kept(lapse, |engine, mut writer| engine.end_turn(&mut writer));
            let is_over = lapse.is_asked && lapse.taken;
            assert_eq!(kept, !lapse.used && !is_over, "{lapse:?}");
        }
    }

    #[test]
    fn keeper_gives_up_a_lease_that_is_idle_or_asked_for() {
        for lapse in lapses() {
            let kept = is_kept(lapse, |engine, writer| {
                drop(writer);
                engine.look_after_lease();
            });
            assert_eq!(kept, !lapse.used && !lapse.is_asked, "{lapse:?}");
        }
    }

    #[test]
    fn first_write_and_a_handle_without_threads_keep_no_lease() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cache.brasa");
        for in_background in [true, false] {
            let mut options = Db::options().durability(Durability::Os);
            options.in_background = in_background;
            let engine = Engine::open_on_disk(&path, &options).unwrap();
            for is_first in [true, false] {
                let mut writer = engine.lock_writer().unwrap();
                if !is_first {
                    writer.lease.used_at = Some(Instant::now() + LONG);
                }
                engine.end_turn(&mut writer);
                assert_eq!(writer.lease.held, in_background && !is_first);
            }
        }
    }
}
