//! The end of a compaction: the new file takes the old one's name.

use std::io;

use super::copy::Stopped;
use super::{CompactionReport, Running};
use crate::engine::commit::{Spare, Writer, trimmed_bytes};
use crate::engine::open::is_named;
use crate::engine::rewrite::{NewFile, Rewrite, write_error};
use crate::engine::sync::{SyncState, sync_directory, write_slots};
use crate::engine::{Engine, Generation};
use crate::log::{Slot, Slots, Tail, file_bytes_needed};
use crate::record::{Change, Kind};
use crate::storage::{LockByte, LockMode};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::{Error, Result};

/// A new file that has its name.
struct Placed {
    slots: Slots,
    tail: Tail,
    file_bytes: u64,
    /// Why the name is not known to be on the device, if it is not.
    unsure: Option<io::Error>,
}

/// Keeps readers of this handle from opening the new file for themselves, as long as it lives.
struct Switching<'a>(&'a AtomicBool);

impl Switching<'_> {
    fn begin(flag: &AtomicBool) -> Switching<'_> {
        flag.store(true, Ordering::Release);
        Switching(flag)
    }
}

impl Drop for Switching<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Engine {
    /// Copies the rest while writers wait, and installs the new file. Returns `None` if the copy
    /// became invalid at the last moment.
    pub(super) fn switch(&self, running: Running) -> Result<Option<CompactionReport>> {
        let _writing = self.enter()?;
        let (mut sync, _) = self.claim_sync()?;
        let mut writer = self.lock_writer()?;
        let source = Arc::clone(&running.source);
        if !Arc::ptr_eq(&writer.generation, &source) {
            // Another handle has compacted the file.
            self.give_up_turn(&mut writer);
            return Ok(None);
        }
        let switching = Switching::begin(&self.switching);
        let switched = self.switch_locked(running, &mut sync, &mut writer);
        drop(switching);
        let outcome = switched.and_then(|switched| match switched {
            None => Ok(None),
            Some((report, None)) => Ok(Some(report)),
            Some((_, Some(error))) => Err(self.poison_by(&mut writer, error)),
        });
        self.give_up_turn(&mut writer);
        outcome
    }

    /// Poisons the new file: its directory entry may not be durable. Its locks have been held since
    /// before it had the name.
    fn poison_by(&self, writer: &mut Writer, source: io::Error) -> Error {
        let new = Arc::clone(&writer.generation);
        self.append_poisoned_by(writer, &new);
        if !new.owes_word() {
            // If it fails, closing the file releases it.
            let _ = new.file.unlock(LockByte::Sync);
        }
        Error::io("sync the directory of", &self.path)(source)
    }

    /// As [`Engine::switch`], under the locks; gives back also why the name is not known to be on the device, if it is not.
    fn switch_locked(
        &self,
        mut running: Running,
        sync: &mut SyncState,
        writer: &mut Writer,
    ) -> Result<Option<(CompactionReport, Option<io::Error>)>> {
        let source = Arc::clone(&running.source);
        let before_bytes = writer.file_bytes;
        // In case it was not appended earlier: after this, no handle follows the old log.
        self.append_poisoned_by(writer, &source);
        let upto = source.published_upto();
        if running.copy_upto(upto, self.now_ms(), &mut |_| true)? == Stopped::Void {
            return Ok(None);
        }
        running.rewrite.end_copy(source.position(upto));
        let hand = running.hand_after(writer.hand);
        let Running {
            rewrite, mut new, ..
        } = running;
        let placed = self.place(&source, rewrite, writer, |new_file, file_bytes| {
            new.header = new_file.header;
            // After this nothing may fail any more that the new file needs.
            new.map_upto(file_bytes)?;
            super::read_back(&new, new_file.tail, &self.path)
        })?;
        let report = CompactionReport {
            before_bytes,
            after_bytes: placed.file_bytes,
            ..CompactionReport::default()
        };
        new.note_slots(&placed.slots);
        match &placed.unsure {
            None => new.note_synced(placed.tail.offset),
            // Before any other thread sees it.
            Some(error) => new.latch_failed_sync(error.to_string()),
        }
        let new = Arc::new(new);
        writer.go_on_with(&new, hand, &self.settings);
        writer.file_bytes = placed.file_bytes;
        writer.must_fence = false;
        *sync = SyncState::new(placed.slots);
        self.set_generation(new);
        // The old file has no name any more, and waiting processes must find that. (The sync lock
        // is released with its claim.)
        for byte in [LockByte::Users, LockByte::Writer] {
            let _ = source.file.unlock(byte);
        }
        Ok(Some((report, placed.unsure)))
    }

    /// Completes the new file and gives it the name of the old one, which ends with *moved*.
    fn place(
        &self,
        source: &Generation,
        rewrite: Rewrite,
        writer: &mut Writer,
        prepare: impl FnOnce(&NewFile, u64) -> Result<()>,
    ) -> Result<Placed> {
        let path = &self.path;
        let io_error = |operation| Error::io(operation, path);
        let file = Arc::clone(rewrite.file());
        // Before the sync, which carries them through as well.
        if let Some(attributes) = source.file.attributes().map_err(io_error("look at"))? {
            file.set_attributes(attributes)
                .map_err(|error| Error::CannotCompact {
                    path: path.clone(),
                    reason: format!(
                        "the new file cannot get the owner and mode of the old one: {error}"
                    ),
                })?;
        }
        let file_bytes = trimmed_bytes(rewrite.tail().offset);
        file.allocate(file_bytes).map_err(write_error(
            "write the new file for",
            path,
            file_bytes,
        ))?;
        let read_upto = rewrite.tail();
        // The log is read back into the new index.
        let new_file = rewrite.finish_behind(read_upto)?;
        prepare(&new_file, file_bytes)?;
        if !is_named(&*self.storage, &*source.file, path)? {
            return Err(Error::CannotCompact {
                path: path.clone(),
                reason: "another file was moved to its path".to_owned(),
            });
        }
        let directory = self.open_directory()?;
        // No other handle knows the file: the locks are free.
        file.try_lock(LockByte::Sync, LockMode::Exclusive)
            .and_then(|_| file.try_lock(LockByte::Writer, LockMode::Exclusive))
            .and_then(|_| file.try_lock(LockByte::Users, LockMode::Shared))
            .map_err(io_error("lock the new file for"))?;
        // Nothing is read behind a record that says that a sync has failed.
        let is_poisoned = source.poison.get().is_some();
        if !is_poisoned {
            self.append_moved(writer, new_file.header.generation)?;
        }
        let NewFile {
            temporary,
            header,
            mut slots,
            tail,
        } = new_file;
        if let Err(error) = temporary.replace(path) {
            if !is_poisoned {
                // Any record says that the one before was wrong; if this one cannot be written, the next commit says so.
                let mut tail = source.lock_tail();
                let padding = Change::control(Kind::Padding, &[]);
                let _ = self.append_control(writer, &mut tail, &padding);
            }
            return Err(write_error("replace", path, file_bytes)(error));
        }
        let unsure = sync_directory(&*directory).err();
        if unsure.is_none() {
            let named = slots.succeeded_by(Slot {
                named: true,
                ..slots.current()
            });
            // If this fails, the next sync does it.
            if write_slots(&*file, header.salt, &named).is_ok() {
                slots = named;
            }
            // If it fails, closing the file releases it.
            let _ = file.unlock(LockByte::Sync);
        }
        Ok(Placed {
            slots,
            tail,
            file_bytes,
            unsure,
        })
    }

    /// Ends the old file's log.
    fn append_moved(&self, writer: &mut Writer, generation: u64) -> Result<()> {
        let generation = generation.to_le_bytes();
        let moved = Change::control(Kind::Moved, &generation);
        let source = Arc::clone(&writer.generation);
        let mut tail = source.lock_tail();
        self.fence(writer, &mut tail)?;
        let end = tail.offset + moved.size_bytes();
        if file_bytes_needed(end) > writer.file_bytes {
            // Possible only if another program truncated the file: there is always room for such a
            // record.
            self.reserve(writer, end, Spare::Control)?;
        }
        self.append_control(writer, &mut tail, &moved)
    }
}
