//! What a handle knows of its file beside the contents: how far it is on the device, what its last
//! records say of it, and why it takes no more writes.

use std::path::Path;

use super::super::apply::Applied;
use super::{Advice, Generation};
use crate::events;
use crate::index::Closing;
use crate::log::{POISON_OFFSET, POISON_WORD, Slots};
use crate::mutation::{self, Mutation};
use crate::record::{Change, Kind};
use crate::sync::PoisonError;
use crate::sync::atomic::Ordering;
use crate::{Error, Result};

/// The reason that is known of a failed sync of which only the word in the file tells.
pub(in crate::engine) const POISON_REASON: &str = "a sync by another handle failed";

impl Generation {
    /// What is known of the checkpoints in the log.
    pub(in crate::engine) fn advice(&self) -> Advice {
        *self.advice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes notice of a page or closing record that ends at an offset.
    pub(in crate::engine) fn note_advice(&self, change: &Change<'_>, end: u64) {
        if !matches!(change.kind, Kind::Page | Kind::Checkpoint) {
            return;
        }
        let mut advice = self.advice.lock().unwrap_or_else(PoisonError::into_inner);
        advice.all_bytes += change.size_bytes();
        let start = end - change.size_bytes();
        let closing = (change.kind == Kind::Checkpoint)
            .then(|| Closing::decode(change.value, start, false))
            .flatten();
        if let Some((closing, _)) = closing {
            advice.closed_upto = end;
            advice.gap_bytes = closing.gap_bytes();
            advice.chain_bytes = closing.chain_bytes;
        }
    }

    /// Takes notice of what a commit says of the log itself.
    pub(super) fn note_control(&self, records: &[Applied<'_>], end: u64) {
        if let [record] = records {
            self.note_advice(&record.change, end);
        }
        let kind = match records {
            [record] => record.change.kind,
            // A commit of several is of data.
            _ => Kind::Set,
        };
        if let ([record], Kind::Poisoned) = (records, kind) {
            let reason = String::from_utf8_lossy(record.change.value);
            let _ = self.poison.set(reason.into_owned());
        }
        self.note_control_kind(kind);
    }

    /// Takes notice of what kind of record the log ends with.
    pub(in crate::engine) fn note_control_kind(&self, kind: Kind) {
        self.suspicion
            .set_moved(matches!(kind, Kind::Moved | Kind::Poisoned));
    }

    /// Whether the path may name another file by now: the log's last record says so.
    pub(in crate::engine) fn may_have_moved(&self) -> bool {
        self.suspicion.is_moved()
    }

    /// Notes that this handle has written a commit that ends here.
    pub(in crate::engine) fn note_own(&self, end: u64) {
        self.own_upto.store(end, Ordering::Release);
    }

    /// Whether this handle has written something that is not known to be on the device.
    pub(in crate::engine) fn is_behind(&self) -> bool {
        self.own_upto.load(Ordering::Acquire) > self.synced_upto()
    }

    /// Notes that the key with its place in the queue at an offset was read.
    pub(in crate::engine) fn note_read(&self, offset: u64) {
        if let Some(visited) = &self.visited {
            visited.mark(offset);
        }
    }

    pub(in crate::engine) fn synced_upto(&self) -> u64 {
        self.synced_upto.load(Ordering::Acquire)
    }

    /// Notes that a sync has covered the log up to here, and the file's name.
    pub(in crate::engine) fn note_synced(&self, offset: u64) {
        self.synced_upto.fetch_max(offset, Ordering::AcqRel);
    }

    /// Notes what the slot says that counts. Where the name may be lost, nothing is known to be on the
    /// device.
    pub(in crate::engine) fn note_synced_by(&self, slots: &Slots) {
        let slot = slots.current();
        self.note_slots(slots);
        if slot.named {
            self.note_synced(slot.synced_upto);
        }
    }

    /// Poisons this handle after a failed sync, and writes the poison word into the file. The
    /// caller holds the sync lock, so that no handle can sync before the word is there.
    pub(in crate::engine) fn latch_failed_sync(&self, reason: String) {
        events::sync_failed(&self.path, &reason);
        let _ = self.failed_sync.set(reason);
        self.owes_word.store(true, Ordering::Release);
        self.leave_word();
    }

    /// Writes the word that says that a sync has failed, where that is owed. A file that was overwritten in
    /// place meanwhile is another one, and gets no word.
    pub(in crate::engine) fn leave_word(&self) {
        if !self.owes_word() {
            return;
        }
        if mutation::is_on(Mutation::SkipPoisonWord) {
            return self.owes_word.store(false, Ordering::Release);
        }
        let is_overwritten = matches!(self.check_not_overwritten(), Err(Error::Overwritten { .. }));
        if is_overwritten || self.file.write_at(&POISON_WORD, POISON_OFFSET).is_ok() {
            self.owes_word.store(false, Ordering::Release);
        }
    }

    /// Whether others can learn of a failed sync of this handle from nothing in the file.
    pub(in crate::engine) fn owes_word(&self) -> bool {
        self.owes_word.load(Ordering::Acquire)
    }

    /// Latches the failed sync of another handle that has left word in the file.
    pub(in crate::engine) fn note_word(&self) {
        if self.mapping().word(POISON_OFFSET) == Some(POISON_WORD) {
            let _ = self.failed_sync.set(POISON_REASON.to_owned());
        }
    }

    pub(in crate::engine) fn check_not_poisoned(&self, path: &Path) -> Result<()> {
        match self.poisoned() {
            None => Ok(()),
            Some(reason) => Err(Error::Poisoned {
                path: path.to_owned(),
                reason: reason.to_owned(),
            }),
        }
    }

    /// Why nothing may be written, if that is so.
    pub(in crate::engine) fn poisoned(&self) -> Option<&str> {
        let reason = self.poison.get().or_else(|| self.failed_sync.get());
        reason.map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Db;
    use crate::log::LOG_START;

    #[test]
    fn failed_sync_leaves_no_word_in_overwritten_file() {
        for is_overwritten in [false, true] {
            let db = Db::in_memory().unwrap();
            db.set("key", "1").unwrap();
            let generation = db.engine().generation();
            if is_overwritten {
                // The checksum of the record.
                let copied = generation.file.write_at(&[1; 8], LOG_START + 8);
                copied.unwrap();
            }
            generation.latch_failed_sync("the device is gone".to_owned());
            let has_word = generation.mapping().word(POISON_OFFSET) == Some(POISON_WORD);
            assert_eq!(has_word, !is_overwritten);
            assert!(!generation.owes_word());
        }
    }
}
