//! The log: a file's header, its slots, and the chain of records after them.
//!
//! It knows the layout of the file, and the runs of records that form a commit. It does not know
//! the meaning of records, nor the index. The layout is specified in [`crate::docs::format`].
//!
//! Invariants:
//!
//! 1. The store of its first word publishes a commit, after all other bytes of it were written,
//!    including the zero word after it.
//! 2. A reader takes a commit whole or not at all. The content of a file is the longest prefix of
//!    whole commits.
//! 3. A slot is written only after a sync, and claims no more than that sync covered. The two slots
//!    are written alternately, so that a torn write leaves the other.

mod header;
mod reader;
mod slot;
mod survey;
mod writer;

pub(crate) use header::{FileHeader, HeaderProblem, MAGIC, MAJOR_VERSION, MINOR_VERSION};
pub(crate) use reader::{Commit, Damage, Reader, Source, stored_change, stored_key, touch};
pub(crate) use slot::{Slot, Slots};
pub(crate) use survey::{Gap, Lost, Step, Survey};
pub(crate) use writer::{
    Append, Mapped, Pwrite, RESERVE_BYTES, Tail, file_bytes_needed, seal_commit,
};

/// A page of the header.
pub(crate) const PAGE_BYTES: usize = 4096;

/// Where the log begins: behind the header page and the two slots.
pub(crate) const LOG_START: u64 = 3 * PAGE_BYTES as u64;

/// The ask word, in the page of the first slot: a process that waits for the writer lock changes
/// it, and the holder reads it.
pub(crate) const ASK_OFFSET: u64 = PAGE_BYTES as u64 + 2048;

/// A word in the page of the second slot: [`POISON_WORD`] once a sync of the file has failed.
pub(crate) const POISON_OFFSET: u64 = 2 * PAGE_BYTES as u64 + 2048;

/// See [`POISON_OFFSET`]. Any other word there means nothing.
pub(crate) const POISON_WORD: [u8; 8] = *b"poisoned";

/// The word that ends the log.
pub(crate) const END_WORD: [u8; 8] = [0; 8];

#[cfg(test)]
mod tests;
