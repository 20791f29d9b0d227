//! Telling that a file was overwritten in place: by `cp` over it, which keeps the inode.
//!
//! | what was copied there | noticed by |
//! | --- | --- |
//! | another file | the checksum of the slot: its salt is another one |
//! | an earlier state of this file | the checksum of the slot, if a slot has been written since |
//! | an earlier state with the same slots | the last record of the log that this handle knows is gone |
//!
//! Both are words in the mapping that do not change while the file is the same one: the slot that
//! counted last stays until two more have been written, and a published record stays for good. So each
//! look costs a comparison, and only a slot that has changed costs a system call.
//!
//! The file is not opened again by itself: a copy that is half done cannot be told from a whole one.

use super::Generation;
use crate::engine::open::parse_header;
use crate::log::{LOG_START, PAGE_BYTES, Slots};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::{Error, Result};

/// What the file is known by.
#[derive(Debug)]
pub(super) struct Marks {
    /// Where the last word of the slot stands that counted last, and the word.
    slot_at: AtomicU64,
    slot_word: AtomicU64,
    /// The sequence of that slot.
    sequence: AtomicU64,
    /// Where a record begins, divided by 8, and [`PRINT_BITS`] bits of its checksum; 0 for none.
    record: AtomicU64,
    is_overwritten: AtomicBool,
}

/// The offset of a word that never matches: the first of the file. The next look reads the slots.
const NOWHERE: u64 = 0;

impl Default for Marks {
    fn default() -> Marks {
        Marks {
            slot_at: AtomicU64::new(NOWHERE),
            slot_word: AtomicU64::new(0),
            sequence: AtomicU64::new(0),
            record: AtomicU64::new(0),
            is_overwritten: AtomicBool::new(false),
        }
    }
}

/// An offset divided by 8 takes 37 bits.
const PRINT_BITS: u32 = 27;

const PRINT_MASK: u64 = (1 << PRINT_BITS) - 1;

/// Where a record's checksum stands, with `previous` behind it.
const CHECKSUM_AT: u64 = 8;

impl Generation {
    /// Notes the slots as they were read or written.
    pub(in crate::engine) fn note_slots(&self, slots: &Slots) {
        let (at, word) = slots.last_word(self.header.salt);
        let marks = &self.marks;
        marks
            .sequence
            .fetch_max(slots.current().sequence, Ordering::Release);
        marks
            .slot_word
            .store(u64::from_le_bytes(word), Ordering::Relaxed);
        marks.slot_at.store(at, Ordering::Relaxed);
    }

    /// Notes a published record that begins at an offset, with the second word of its header.
    pub(in crate::engine) fn note_record(&self, offset: u64, word: [u8; 8]) {
        let print = u64::from_le_bytes(word) & PRINT_MASK;
        let record = ((offset / 8) << PRINT_BITS) | print;
        // With it comes the mapping that shows the record.
        self.marks.record.store(record, Ordering::Release);
    }

    /// Notes a commit of this handle that was published at an offset.
    pub(in crate::engine) fn note_appended(&self, offset: u64, sealed: &[u8]) {
        if let Some((word, _)) = sealed.get(8..).and_then(<[u8]>::split_first_chunk) {
            self.note_record(offset, *word);
        }
    }

    /// Fails where the file is another one by now, or an earlier state of this one.
    #[inline]
    pub(in crate::engine) fn check_not_overwritten(&self) -> Result<()> {
        // The slots first: a short file does not reach to the record.
        self.check_slots()?;
        self.check_record()
    }

    /// Fails where the slots are another file's, or earlier ones of this file.
    #[inline]
    pub(in crate::engine) fn check_slots(&self) -> Result<()> {
        let at = self.marks.slot_at.load(Ordering::Relaxed);
        let expected = self.marks.slot_word.load(Ordering::Relaxed);
        match self.mappings.first().head_word(at) {
            // In memory there is no other process that could copy a file over it.
            None => Ok(()),
            Some(word) if word == expected => Ok(()),
            Some(_) => self.read_own_slots().map(drop),
        }
    }

    /// Fails where the log ends before a record that this handle knows.
    #[inline]
    pub(in crate::engine) fn check_record(&self) -> Result<()> {
        let record = self.marks.record.load(Ordering::Acquire);
        // Where none is known this is the salt, of which nothing is compared.
        let word = self
            .mapping()
            .word((record >> PRINT_BITS) * 8 + CHECKSUM_AT);
        let is_there = word.is_some_and(|word| {
            record == 0 || (u64::from_le_bytes(word) ^ record) & PRINT_MASK == 0
        });
        match is_there {
            true => Ok(()),
            false => Err(self.overwritten()),
        }
    }

    /// Reads the slots, and makes sure that they are this file's. `None` where neither is valid.
    #[cold]
    pub(in crate::engine) fn read_own_slots(&self) -> Result<Option<Slots>> {
        if self.marks.is_overwritten.load(Ordering::Acquire) {
            return Err(self.overwritten());
        }
        // Before the read: a slot that another thread writes after it is newer than what was read.
        let known = self.marks.sequence.load(Ordering::Acquire);
        let mut pages = [0; 3 * PAGE_BYTES];
        let count = self.file.read_at(&mut pages, 0);
        let count = count.map_err(Error::io("read", &self.path))?;
        let is_ours = match parse_header(&pages[..count], &self.path) {
            Ok((header, _)) => header == self.header && count as u64 == LOG_START,
            Err(_) => false,
        };
        let slots = Slots::decode(&pages[..count], self.header.salt);
        let is_current = match &slots {
            Some(slots) if slots.current().sequence >= known => true,
            // A slot that is torn or damaged leaves the one before it; an earlier state has none there.
            Some(slots) => {
                slots.current().sequence + 1 == known
                    && !slots.is_other_whole(&pages[..count], self.header.salt)
            }
            None => true,
        };
        if !is_ours || !is_current {
            return Err(self.overwritten());
        }
        if let Some(slots) = &slots {
            self.note_slots(slots);
        }
        Ok(slots)
    }

    /// Latches that the file was overwritten: what this handle knows of it holds no more, whatever
    /// stands there later.
    #[cold]
    fn overwritten(&self) -> Error {
        let marks = &self.marks;
        marks.is_overwritten.store(true, Ordering::Release);
        marks.slot_at.store(NOWHERE, Ordering::Relaxed);
        Error::Overwritten {
            path: self.path.clone(),
        }
    }
}
