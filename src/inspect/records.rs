//! The records of a file, one by one.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::Look;
use crate::engine::{head_of, judge_end, parse_header};
use crate::log::{Commit, PAGE_BYTES, Reader, Slots, Source};
use crate::record::Link;
use crate::storage::Mapping;
use crate::{Error, Result};

/// One record of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordInfo {
    /// Where it stands, in bytes from the start of the file.
    pub offset: u64,
    /// Bytes that it takes, envelope and padding included.
    pub size_bytes: u64,
    /// What it says, as the format calls it: `set`, `delete`, `hash set`, ...
    pub kind: &'static str,
    /// The database it is about.
    pub database: u8,
    /// The deadline in it, in Unix milliseconds, 0 for none.
    pub deadline_ms: u64,
    /// The key; empty for a record that is about none.
    pub key: Vec<u8>,
    /// The field; empty for a record that is about none.
    pub field: Vec<u8>,
    /// Length of the value.
    pub value_bytes: u64,
    /// Whether the next record belongs to the same commit.
    pub more: bool,
    /// The number that the handle which wrote it had drawn.
    pub writer: u32,
}

/// The records of a file's whole commits, in the order they were written; from [`records`].
///
/// Damaged pages of checkpoints are left out, as opening passes over them; [`check`](super::check) names them.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    look: Look,
    /// Where the next commit begins; `None` when the log has ended.
    link: Option<Link>,
    synced_slot: Slots,
    pending: VecDeque<RecordInfo>,
}

/// Reads the records of a file, dead ones too.
///
/// # Errors
///
/// As [`check`](super::check). Damage in the log where it was known to be on the device comes as the last item.
pub fn records(path: impl AsRef<Path>) -> Result<Records> {
    let path = path.as_ref();
    let look = Look::at(path)?;
    let (salt, slots) = header(&look.mapping, path)?;
    let synced_slot =
        slots.ok_or_else(|| Error::corrupt(path, PAGE_BYTES as u64, "both slots are invalid"))?;
    let link = Reader::from_start(&look.mapping, salt).link();
    Ok(Records {
        path: path.to_owned(),
        look,
        link: Some(link),
        synced_slot,
        pending: VecDeque::new(),
    })
}

impl Iterator for Records {
    type Item = Result<RecordInfo>;

    fn next(&mut self) -> Option<Self::Item> {
        // A damaged page of a checkpoint, which is passed over, gives no record.
        while self.pending.is_empty() {
            let synced_upto = self.synced_slot.current().synced_upto;
            let mut reader =
                Reader::from_link(&self.look.mapping, self.link?).passing_over_pages(synced_upto);
            let reached = reader.next_commit();
            self.link = Some(reader.link());
            match reached {
                Ok(Some(commit)) => {
                    self.pending = record_infos(&reader, commit);
                    if reader.has_ended() {
                        self.link = None;
                    }
                }
                ended => {
                    self.link = None;
                    let end = reader.link().offset;
                    let ended = ended.map(drop);
                    return judge_end(&self.path, end, ended, self.synced_slot.current())
                        .err()
                        .map(Err);
                }
            }
        }
        self.pending.pop_front().map(Ok)
    }
}

fn record_infos(reader: &Reader<'_, Mapping>, commit: Commit) -> VecDeque<RecordInfo> {
    let writer = reader.writer();
    reader
        .records()
        .map(|(offset, change)| RecordInfo {
            writer,
            offset,
            size_bytes: change.size_bytes(),
            kind: change.kind.name(),
            database: change.database,
            deadline_ms: change.deadline_ms,
            key: change.key.to_vec(),
            field: change.field.to_vec(),
            value_bytes: change.value.len() as u64,
            more: offset + change.size_bytes() < commit.end,
        })
        .collect()
}

/// The salt and, where one is valid, the slots.
fn header<S: Source + ?Sized>(source: &S, path: &Path) -> Result<(u32, Option<Slots>)> {
    let (header, slots) = parse_header(head_of(source), path)?;
    Ok((header.salt, slots))
}
