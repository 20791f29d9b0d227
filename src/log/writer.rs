//! Appending to the chain of records.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use super::{END_WORD, LOG_START};
use crate::mutation::{self, Mutation};
use crate::record::{self, Link};
use crate::storage::StorageFile;

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
pub(crate) trait Append: Debug + Send + Sync {
    /// Writes a commit and publishes it. `commit` is followed by [`END_WORD`].
    ///
    /// After an error any part of it may stand there, but for the last byte of its first word.
    fn append(&self, commit: &[u8], offset: u64) -> io::Result<()>;
}

/// Appends by system calls.
#[derive(Debug)]
pub(crate) struct Pwrite(pub(crate) Arc<dyn StorageFile>);

impl Append for Pwrite {
    fn append(&self, commit: &[u8], offset: u64) -> io::Result<()> {
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
