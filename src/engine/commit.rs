//! Writes a transaction to the file and applies it to the index.
//!
//! The steps are those of "the life of a write" in [`crate::docs::architecture`]. Each may fail
//! without a trace until the commit is published:
//!
//! | step | done by |
//! | --- | --- |
//! | encode | `Transaction::stage` |
//! | reserve space | `Writer::reserve` |
//! | seal, write, publish | `log::seal_commit`, `Append::append` |
//! | apply | `apply::apply_commit` |
//! | sync, under `Always` | `Engine::sync_covering` |

use std::io;

use super::apply::Applied;
use super::generation::Generation;
use super::transaction::Staged;
use super::turn::Lease;
use super::{Engine, Settings, Transaction};
use crate::limits::{MAX_FILE_BYTES, is_commit_too_large};
use crate::log::{
    Append, END_WORD, LOG_START, Mapped, PAGE_BYTES, Pwrite, RESERVE_BYTES, Tail,
    file_bytes_needed, seal_commit,
};
use crate::record::{self, Change, Kind, MAX_REASON_BYTES};
use crate::storage::{LockByte, LockMode, Mapping};
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, MutexGuard};
use crate::{Durability, Error, Result};

/// Space behind the log that only `clear` and records about the log itself may take.
const CONTROL_BYTES: u64 = 2 << 10;

/// The part of it that only a `Poisoned` record may take.
const POISON_BYTES: u64 = 512;

/// Space that closing leaves for deletions at least, for a handle that opens the file when the disk is full.
const SPARE_BYTES: u64 = 512;

/// Space that an open file keeps for deletions at least.
const LEAST_RESERVE_BYTES: u64 = 64 << 10;

/// Space that deletions leave, so that an empty copy of the file fits where nothing else does.
const COPY_BYTES: u64 = 20 << 10;

/// The share of the log that is kept for deletions, open or closed.
const RESERVE_SHARE: u64 = 64;

/// The length to which an idle file is truncated when its log ends at `end`.
///
/// It leaves some room for deletions on a full disk. It is rounded up to a page, since the rest of
/// the last block costs nothing.
pub(super) fn trimmed_bytes(end: u64) -> u64 {
    let spare = ((end - LOG_START) / RESERVE_SHARE).max(SPARE_BYTES);
    (file_bytes_needed(end) + CONTROL_BYTES + spare).next_multiple_of(PAGE_BYTES as u64)
}

/// The shortest length of a file with a log that ends at `end`. A compacted copy may need all space
/// beyond it.
pub(super) fn shortest_bytes(end: u64) -> u64 {
    (file_bytes_needed(end) + CONTROL_BYTES).next_multiple_of(PAGE_BYTES as u64)
}

/// The space that an open file keeps for deletions.
fn reserve_bytes(end: u64) -> u64 {
    (end / RESERVE_SHARE).max(LEAST_RESERVE_BYTES)
}

/// Which of the space behind the log a commit may take on a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spare {
    /// None: it makes the file no emptier.
    Nothing,
    /// What is kept for deletions.
    Reserve,
    /// That, and what is kept for `clear` and for records about the log.
    Control,
}

/// The state that a thread must lock to append.
pub(super) struct Writer {
    /// The file that is written to: the engine's, which changes only under this lock.
    pub(super) generation: Arc<Generation>,
    /// The way into it: both change by [`Writer::go_on_with`].
    append: Box<dyn Append>,
    /// The lock between processes.
    pub(super) lease: Lease,
    /// The number in this handle's records.
    pub(super) number: u32,
    /// How long the file is.
    pub(super) file_bytes: u64,
    /// An unfinished commit may stand at the tail: an append failed, or a crash cut one short.
    pub(super) must_fence: bool,
    /// Set while a commit is being published. A panic while it is set poisons the handle.
    pub(super) is_committing: bool,
    /// Where the log ends when it is looked at next whether it should be compacted.
    pub(super) judge_at: u64,
    /// The dead bytes from which the next commit judges, too: a small record may make a large one dead.
    pub(super) judge_dead_at: u64,
    /// Where the next key to evict is looked for.
    pub(super) hand: u64,
    /// For [`Mutation::KeepEvictionMapping`](crate::mutation::Mutation).
    pub(super) kept_mapping: Option<Arc<Mapping>>,
    /// Memory for the next commit.
    staged: Staged,
}

impl Writer {
    pub(super) fn new(generation: &Arc<Generation>, number: u32, settings: &Settings) -> Writer {
        Writer {
            append: way_into(generation, settings),
            lease: Lease::new(),
            number,
            file_bytes: 0,
            must_fence: false,
            is_committing: false,
            judge_at: 0,
            judge_dead_at: 0,
            hand: generation.stored_hand(),
            staged: Staged::default(),
            kept_mapping: None,
            generation: Arc::clone(generation),
        }
    }

    /// Goes on with another file.
    pub(super) fn go_on_with(
        &mut self,
        generation: &Arc<Generation>,
        hand: u64,
        settings: &Settings,
    ) {
        self.append = way_into(generation, settings);
        self.generation = Arc::clone(generation);
        self.judge_at = 0;
        self.judge_dead_at = 0;
        self.hand = hand;
    }
}

fn way_into(generation: &Generation, settings: &Settings) -> Box<dyn Append> {
    let file = Arc::clone(&generation.file);
    match settings.mapped_append {
        true => Box::new(Mapped::new(file)),
        false => Box::new(Pwrite(file)),
    }
}

impl Engine {
    /// Runs `change` on the state of the file and commits what it staged; nothing if it fails.
    pub(crate) fn write<R>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Transaction) -> Result<R>,
    ) -> Result<R> {
        self.in_turn(Engine::lock_writer, |writer, generation| {
            self.change_and_commit(writer, generation, change)
        })
    }

    /// As [`Engine::write`]; `None`, and nothing done, where the right to append is not to be had within a moment.
    pub(crate) fn write_briefly<R>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Transaction) -> Result<R>,
    ) -> Result<Option<R>> {
        if self.is_over_bound() {
            // A compaction takes more than a moment.
            return Ok(None);
        }
        let written = self.in_turn(Engine::lock_writer_briefly, |writer, generation| {
            self.change_and_commit(writer, generation, change)
        });
        match written {
            Err(Error::Locked { .. }) => Ok(None),
            written => written.map(Some),
        }
    }

    fn change_and_commit<R>(
        self: &Arc<Self>,
        writer: &mut Writer,
        generation: &Arc<Generation>,
        change: impl FnOnce(&mut Transaction) -> Result<R>,
    ) -> Result<(R, u64)> {
        let staged = std::mem::take(&mut writer.staged);
        let mut transaction = Transaction::new(self, generation, staged);
        let result = change(&mut transaction);
        let mut staged = transaction.into_staged();
        let committed = match &result {
            // The closure may have forked, and this may be the child.
            Ok(_) => self
                .check_not_forked()
                .and_then(|()| self.commit_with_room(writer, generation, &mut staged)),
            Err(_) => Ok(0),
        };
        writer.staged = staged.emptied();
        let end = committed?;
        Ok((result?, end))
    }

    /// Sets a string without a look at what is there: what [`Engine::write`] does, without a transaction.
    pub(crate) fn set_blindly(&self, database: u8, key: &[u8], value: &[u8]) -> Result<()> {
        let change = &Change {
            value,
            ..Change::of_key(Kind::Set, database, key)
        };
        let set = || {
            self.prepare_write()?;
            // No closure of the caller runs below, so the write need not be marked for nested calls.
            self.refuse_within_write()?;
            self.hold_turn(Engine::lock_writer, |writer, generation| {
                let mut staged = std::mem::take(&mut writer.staged);
                let committed = staged
                    .push(change, generation.hasher.hash(change.key))
                    .and_then(|_| self.commit_with_room(writer, generation, &mut staged));
                writer.staged = staged.emptied();
                Ok(((), committed?))
            })
        };
        match set() {
            // Once more, if a compaction can make room: no closure has run that must not run twice.
            Err(Error::DiskFull { .. }) if self.is_over_bound() => set(),
            outcome => outcome,
        }
    }

    /// Refuses a write that cannot be, and waits for a compaction that falls behind.
    #[inline]
    fn prepare_write(&self) -> Result<()> {
        if self.settings.read_only {
            return Err(Error::ReadOnly {
                path: self.path.clone(),
            });
        }
        self.check_not_forked()?;
        if self.is_over_bound() {
            self.relieve();
        }
        Ok(())
    }

    /// Runs `act`, which may call a closure of the caller, as [`Engine::hold_turn`] does.
    fn in_turn<'e, R>(
        &'e self,
        lock: impl FnOnce(&'e Self) -> Result<MutexGuard<'e, Writer>>,
        act: impl FnOnce(&mut Writer, &Arc<Generation>) -> Result<(R, u64)>,
    ) -> Result<R> {
        self.prepare_write()?;
        let mut writing = Some(self.enter()?);
        self.hold_turn_and(
            lock,
            |writer, generation| {
                // A compaction of this handle may have replaced the file while the write waited.
                self.note_file(generation)?;
                act(writer, generation)
            },
            || drop(writing.take()),
        )
    }

    /// Runs `act` with the right to append, which `lock` takes. `act` returns the end of its commit,
    /// or 0 for none. Under [`Durability::Always`] returns once the commit is on the device.
    fn hold_turn<'e, R>(
        &'e self,
        lock: impl FnOnce(&'e Self) -> Result<MutexGuard<'e, Writer>>,
        act: impl FnOnce(&mut Writer, &Arc<Generation>) -> Result<(R, u64)>,
    ) -> Result<R> {
        self.hold_turn_and(lock, act, || ())
    }

    /// As [`Engine::hold_turn`], and calls `release` when the turn is over, before the sync.
    #[inline]
    fn hold_turn_and<'e, R>(
        &'e self,
        lock: impl FnOnce(&'e Self) -> Result<MutexGuard<'e, Writer>>,
        act: impl FnOnce(&mut Writer, &Arc<Generation>) -> Result<(R, u64)>,
        release: impl FnOnce(),
    ) -> Result<R> {
        let mut writer = lock(self)?;
        let generation = Arc::clone(&writer.generation);
        let outcome = match generation.check_not_poisoned(&self.path) {
            Ok(()) => act(&mut writer, &generation),
            Err(error) => {
                self.append_poisoned_by(&mut writer, &generation);
                Err(error)
            }
        };
        self.end_turn(&mut writer);
        drop(writer);
        release();
        let (result, end) = outcome?;
        if self.settings.durability == Durability::Always {
            self.sync_covering(&generation, end)?;
        }
        Ok(result)
    }

    /// Commits what is staged, with the evictions that it needs; returns where the commit ends, or 0 where there is nothing.
    fn commit_with_room(
        &self,
        writer: &mut Writer,
        generation: &Arc<Generation>,
        staged: &mut Staged,
    ) -> Result<u64> {
        if staged.records.is_empty() {
            return Ok(0);
        }
        self.commit_within_budget(writer, generation, staged)
    }

    /// Brings a commit into file and index; gives back where it ends.
    pub(super) fn commit(
        &self,
        writer: &mut Writer,
        generation: &Generation,
        staged: &mut Staged,
    ) -> Result<u64> {
        writer.is_committing = true;
        let committed = self.commit_begun(writer, generation, staged);
        writer.is_committing = false;
        committed
    }

    fn commit_begun(
        &self,
        writer: &mut Writer,
        generation: &Generation,
        staged: &mut Staged,
    ) -> Result<u64> {
        let commit_bytes = staged.bytes.len() as u64;
        for staged_record in &staged.records {
            if let Some(change) = record::reparse_at(&staged.bytes, staged_record.start) {
                generation.touch(change.database, staged_record.hash, &change)?;
            }
        }
        // Held until the commit is applied: readers that see the commit in the mapping wait for it.
        let mut tail = generation.lock_tail();
        if tail.offset + commit_bytes + RESERVE_BYTES > MAX_FILE_BYTES {
            return Err(Error::TooLarge {
                what: "the file",
                length: tail.offset + commit_bytes,
                limit: MAX_FILE_BYTES,
            });
        }
        debug_assert!(!is_commit_too_large(commit_bytes));
        self.fence(writer, &mut tail)?;
        let start = tail.offset;
        let end = start + commit_bytes;
        self.reserve(writer, end, spare_of(staged))?;
        let starts = staged.records.iter().map(|record| record.start);
        let (salt, number) = (generation.header.salt, writer.number);
        let next_tail = seal_commit(&mut staged.bytes, starts, *tail, salt, number);
        self.append_sealed(writer, *tail, &mut staged.bytes)?;
        generation.note_appended(start, &staged.bytes);
        *tail = next_tail;

        let mut records = staged.records.iter().filter_map(|staged_record| {
            Some(Applied {
                change: record::reparse_at(&staged.bytes, staged_record.start)?,
                offset: start + staged_record.start as u64,
                hash: staged_record.hash,
            })
        });
        let applied = match (staged.records.len(), records.next()) {
            // Most commits, and no reason to ask for memory.
            (1, Some(record)) => generation.apply_written(&[record], &tail),
            (_, first) => {
                let records: Vec<Applied<'_>> = first.into_iter().chain(records).collect();
                generation.apply_written(&records, &tail)
            }
        };
        generation.set_published_upto(end);
        generation.note_own(end);
        drop(tail);
        // Under the writer lock.
        let written_bytes = self.written_bytes.load(Ordering::Relaxed) + commit_bytes;
        self.written_bytes.store(written_bytes, Ordering::Relaxed);
        let live_bytes = applied?;
        self.judge_growth(writer, end, live_bytes);
        Ok(end)
    }

    /// Writes a sealed commit at the tail and publishes it.
    fn append_sealed(&self, writer: &mut Writer, tail: Tail, sealed: &mut Vec<u8>) -> Result<()> {
        let commit_bytes = sealed.len();
        sealed.extend_from_slice(&END_WORD);
        let appended = writer.append.append(sealed, tail.offset, writer.file_bytes);
        sealed.truncate(commit_bytes);
        appended.map_err(|source| {
            // It may stand there in part.
            writer.must_fence = true;
            self.write_error(source, commit_bytes as u64)
        })
    }

    /// Makes sure that what an unfinished commit has left at the tail can never become valid: puts
    /// a padding record in its place.
    ///
    /// A zero word there would not be enough. If the next commit had the same first word, and a power loss
    /// kept that word and lost the rest, the old bytes behind it would be a valid record again:
    /// right offset, right `previous`, right checksum. The padding has another first word, and
    /// gives whatever follows another place and another `previous`.
    pub(super) fn fence(&self, writer: &mut Writer, tail: &mut Tail) -> Result<()> {
        if !writer.must_fence {
            return Ok(());
        }
        let padding = Change::control(Kind::Padding, &[]);
        let end = tail.offset + padding.size_bytes();
        self.reserve(writer, end, Spare::Control)?;
        self.append_control(writer, tail, &padding)?;
        writer.must_fence = false;
        Ok(())
    }

    /// Appends a record about the log itself, for which there is space.
    pub(super) fn append_control(
        &self,
        writer: &mut Writer,
        tail: &mut Tail,
        change: &Change<'_>,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        record::encode(change, &mut bytes)?;
        let start = std::iter::once(0);
        let (salt, number) = (writer.generation.header.salt, writer.number);
        let next_tail = seal_commit(&mut bytes, start, *tail, salt, number);
        self.append_sealed(writer, *tail, &mut bytes)?;
        writer.generation.note_appended(tail.offset, &bytes);
        *tail = next_tail;
        writer.generation.note_control_kind(change.kind);
        writer.generation.note_advice(change, tail.offset);
        writer.generation.set_published_upto(tail.offset);
        Ok(())
    }

    /// Makes sure that the file has space for a log that ends at `end`, and that the mapping shows it.
    pub(super) fn reserve(&self, writer: &mut Writer, end: u64, spare: Spare) -> Result<()> {
        let needed = match spare {
            Spare::Control => file_bytes_needed(end) + POISON_BYTES,
            Spare::Nothing | Spare::Reserve => {
                file_bytes_needed(end) + CONTROL_BYTES + self.kept_for_copy(writer)
            }
        };
        let wanted = file_bytes_needed(end) + CONTROL_BYTES + COPY_BYTES + reserve_bytes(end);
        if wanted <= writer.file_bytes {
            // The mapping shows all of it.
            return Ok(());
        }
        // A step in proportion to the log, so that a large log grows seldom and a small file stays small.
        let step = (end / 8).clamp(RESERVE_BYTES, 4 << 20);
        let file = &writer.generation.file;
        let allocated = file
            .allocate(wanted + step)
            .map(|()| wanted + step)
            .or_else(|_| {
                // The next writer compacts first, if there is something to gain.
                self.is_short_of_space.store(true, Ordering::Relaxed);
                self.is_over_bound.store(true, Ordering::Relaxed);
                file.allocate(wanted).map(|()| wanted)
            });
        match allocated {
            Ok(file_bytes) => writer.file_bytes = file_bytes,
            // What makes the file emptier may use the reserve.
            Err(_) if spare != Spare::Nothing && needed <= writer.file_bytes => {}
            Err(source) => return Err(self.write_error(source, wanted - writer.file_bytes)),
        }
        // Invariant 2.
        writer.generation.map_upto(writer.file_bytes)
    }

    /// What deletions leave of the reserve: nothing where the file came with less, since closing gave it back.
    fn kept_for_copy(&self, writer: &Writer) -> u64 {
        let end = writer.generation.published_upto();
        let least = file_bytes_needed(end) + CONTROL_BYTES + COPY_BYTES;
        match writer.file_bytes >= least {
            true => COPY_BYTES,
            false => 0,
        }
    }

    /// Gives the space that is kept for deletions back to the file system, so that a copy of the file has room; only
    /// where no other handle has the file open.
    pub(super) fn give_back_reserve(&self, generation: &Arc<Generation>) -> Result<()> {
        let _writing = self.enter()?;
        let mut writer = self.lock_writer()?;
        let given = self.give_back_reserve_locked(&mut writer, generation);
        self.give_up_turn(&mut writer);
        given
    }

    fn give_back_reserve_locked(
        &self,
        writer: &mut Writer,
        generation: &Arc<Generation>,
    ) -> Result<()> {
        let io_error = |operation| Error::io(operation, &self.path);
        let file = &generation.file;
        if !Arc::ptr_eq(&writer.generation, generation)
            || !file
                .try_lock(LockByte::Users, LockMode::Exclusive)
                .map_err(io_error("lock"))?
        {
            return Ok(());
        }
        let shortest = shortest_bytes(generation.lock_tail().offset);
        let cut = match shortest < writer.file_bytes {
            true => file.truncate(shortest),
            false => Ok(()),
        };
        if cut.is_ok() {
            writer.file_bytes = writer.file_bytes.min(shortest);
            // It may write into what was cut off.
            writer.append = way_into(generation, &self.settings);
        }
        let shared = file.try_lock(LockByte::Users, LockMode::Shared);
        shared.map_err(io_error("lock"))?;
        cut.map_err(io_error("truncate the reserved space of"))
    }

    fn write_error(&self, source: io::Error, needed: u64) -> Error {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull {
                operation: "write to",
                path: self.path.clone(),
                needed,
            },
            _ => Error::Io {
                operation: "write to",
                path: self.path.clone(),
                source,
            },
        }
    }

    /// Ends the log with a record that says why a sync of this file has failed. Where the writer lock
    /// is not free, the next call on the handle tries again: others may be waiting for the sync lock,
    /// which the caller has.
    pub(super) fn append_poisoned(&self, generation: &Generation) {
        if generation.poison.get().is_none()
            && let Ok(mut writer) = self.lock_writer_briefly()
        {
            self.append_poisoned_by(&mut writer, generation);
            self.give_up_turn(&mut writer);
        }
    }

    /// Like [`Engine::append_poisoned`], for a caller that has the writer lock and has caught up.
    pub(super) fn append_poisoned_by(&self, writer: &mut Writer, generation: &Generation) {
        let Some(reason) = generation.failed_sync.get() else {
            return;
        };
        // A file that has taken this one's place was synced as a whole.
        let is_current = std::ptr::eq(&*writer.generation, generation);
        if !is_current || generation.poison.get().is_some() {
            return;
        }
        let mut cut = reason.len().min(MAX_REASON_BYTES);
        while !reason.is_char_boundary(cut) {
            cut -= 1;
        }
        let change = Change::control(Kind::Poisoned, &reason.as_bytes()[..cut]);
        // The space was reserved (see `reserve`), unless something failed there too.
        let padding_bytes = Change::control(Kind::Padding, &[]).size_bytes();
        let mut tail = generation.lock_tail();
        let end = tail.offset + padding_bytes + change.size_bytes();
        let told = file_bytes_needed(end) <= writer.file_bytes
            && self.fence(writer, &mut tail).is_ok()
            && self.append_control(writer, &mut tail, &change).is_ok();
        if told {
            let _ = generation.poison.set(reason.clone());
        }
    }
}

/// Which space a commit may take: one of deletions, and one that empties databases.
fn spare_of(staged: &Staged) -> Spare {
    let is_clear = |start| {
        let change = record::reparse_at(&staged.bytes, start);
        change.is_some_and(|change| change.kind == Kind::Clear)
    };
    match staged.frugal {
        false => Spare::Nothing,
        true if staged.records.iter().all(|record| is_clear(record.start)) => Spare::Control,
        true => Spare::Reserve,
    }
}
