//! Appends to the chain of records.

use std::fmt::Debug;
use std::io;

use super::{END_WORD, LOG_START, PAGE_BYTES};
use crate::mutation::{self, Mutation};
use crate::record::{self, Link};
use crate::storage::{StorageFile, Window};
use crate::sync::Arc;

/// Space kept free behind the log for deletions on a full disk, in bytes.
pub(crate) const RESERVE_BYTES: u64 = 16 << 10;

/// Where the log ends, and what the next record is tied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) offset: u64,
    pub(crate) previous: u32,
}

impl Tail {
    /// The tail of a log without records.
    pub(crate) fn first(salt: u32) -> Tail {
        Tail {
            offset: LOG_START,
            previous: record::first_previous(salt),
        }
    }
}

/// How long the file must be for a log that ends at `end`: the word that ends it included.
pub(crate) fn file_bytes_needed(end: u64) -> u64 {
    end + END_WORD.len() as u64
}

/// Gives the records of a commit their places, marks all but the last as going on, and gives back
/// the tail behind it.
///
/// `starts` are the places in `commit` at which its records begin, of which there is at least one.
pub(crate) fn seal_commit(
    commit: &mut [u8],
    starts: impl ExactSizeIterator<Item = usize>,
    tail: Tail,
    salt: u32,
    writer: u32,
) -> Tail {
    let mut link = Link {
        salt,
        offset: tail.offset,
        previous: tail.previous,
    };
    let commit_len = commit.len();
    let mut starts = starts.peekable();
    while let Some(start) = starts.next() {
        let end = starts.peek().copied().unwrap_or(commit_len);
        link.offset = tail.offset + start as u64;
        let record = &mut commit[start..end];
        record::set_more(record, end < commit_len);
        link.previous = record::seal(record, link, writer);
    }
    Tail {
        offset: tail.offset + commit_len as u64,
        previous: link.previous,
    }
}

/// A way to bring a sealed commit into the file.
pub(crate) trait Append: Debug + Send {
    /// Writes a commit and publishes it. `commit` is followed by [`END_WORD`]; the file is `file_bytes` long, and they fit into it.
    ///
    /// After an error any part of it may stand there, but for the last byte of its first word.
    fn append(&mut self, commit: &[u8], offset: u64, file_bytes: u64) -> io::Result<()>;
}

/// Appends by system calls.
#[derive(Debug)]
pub(crate) struct Pwrite(pub(crate) Arc<dyn StorageFile>);

impl Append for Pwrite {
    fn append(&mut self, commit: &[u8], offset: u64, _file_bytes: u64) -> io::Result<()> {
        let (first_word, rest) = commit
            .split_at_checked(END_WORD.len())
            .ok_or(io::ErrorKind::InvalidInput)?;
        if mutation::is_on(Mutation::PublishFirst) {
            self.0.write_at(first_word, offset)?;
        }
        self.0.write_at(rest, offset + END_WORD.len() as u64)?;
        // This is the commit (invariant 1).
        self.0.write_at(first_word, offset)
    }
}

/// Appends through a window at the log's end, which moves on with it; by system calls where there is none, or it would not pay.
///
/// A window costs as much as some dozens of system calls, so the first commits of a handle go without, and windows grow with what the
/// handle has written.
#[derive(Debug)]
pub(crate) struct Mapped {
    pwrite: Pwrite,
    window: Option<Window>,
    /// Bytes appended so far.
    written_bytes: u64,
    /// What `written_bytes` must be before a window is asked for (again).
    ask_at: u64,
}

/// What a handle has written before it asks for its first window.
const FIRST_WINDOW_BYTES: u64 = 16 << 10;

/// The largest window: a page takes about as long to be made ready alone as among many, and a write must not wait for many.
const LARGEST_WINDOW_BYTES: u64 = 256 << 10;

/// What is as large is copied as fast by the system, and may not fit into a window.
const PWRITE_FROM_BYTES: usize = 64 << 10;

impl Mapped {
    pub(crate) fn new(file: Arc<dyn StorageFile>) -> Mapped {
        Mapped {
            pwrite: Pwrite(file),
            window: None,
            written_bytes: 0,
            ask_at: FIRST_WINDOW_BYTES,
        }
    }

    /// Opens a window at the page in which the commit begins; there may be none afterwards.
    fn move_window(&mut self, commit: &[u8], offset: u64, file_bytes: u64) {
        let page = PAGE_BYTES as u64;
        let start = offset - offset % page;
        let end = offset + commit.len() as u64;
        let len = self.written_bytes.clamp(page, LARGEST_WINDOW_BYTES);
        // No byte beyond the file's end is touched.
        let upto = (start + len).max(end).next_multiple_of(page);
        let upto = upto.min(file_bytes - file_bytes % page);
        // The old one goes first: the pages that both have would be counted twice.
        self.window = None;
        if end <= upto
            && let Ok(len) = usize::try_from(upto - start)
        {
            self.window = self.pwrite.0.window(start, len);
        }
        if self.window.is_none() {
            // Where there is none now there will hardly be one soon.
            self.ask_at = self.written_bytes.saturating_mul(2);
        }
    }
}

impl Append for Mapped {
    fn append(&mut self, commit: &[u8], offset: u64, file_bytes: u64) -> io::Result<()> {
        self.written_bytes += commit.len() as u64;
        if commit.len() < PWRITE_FROM_BYTES && self.written_bytes >= self.ask_at {
            let publish = |window: &Window| window.publish(commit, offset);
            if self.window.as_ref().is_some_and(publish) {
                return Ok(());
            }
            self.move_window(commit, offset, file_bytes);
            if self.window.as_ref().is_some_and(publish) {
                return Ok(());
            }
        }
        self.pwrite.append(commit, offset, file_bytes)
    }
}
