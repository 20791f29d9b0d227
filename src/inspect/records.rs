//! Lists the records of a file.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::Look;
use crate::engine::{head_of, judge_end, parse_header};
use crate::log::{Commit, PAGE_BYTES, Reader, Slots, Source};
use crate::record::Link;
use crate::storage::Mapping;
use crate::{Error, Result};

/// One record of a log.
///
/// [`records`] has an example.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordInfo {
    /// The offset in the file, in bytes.
    pub offset: u64,
    /// The size in bytes, including envelope and padding.
    pub size_bytes: u64,
    /// The kind, by the name that the format gives it: `set`, `delete`, `hash set`, ...
    pub kind: &'static str,
    /// The number of the database.
    pub database: u8,
    /// The deadline in Unix milliseconds; 0 for none.
    pub deadline_ms: u64,
    /// The key; empty for a record without one.
    pub key: Vec<u8>,
    /// The field; empty for a record without one.
    pub field: Vec<u8>,
    /// The length of the value in bytes.
    pub value_bytes: u64,
    /// Whether the next record belongs to the same commit.
    pub more: bool,
    /// The number that the handle that wrote the record drew at random.
    pub writer: u32,
}

/// The records of the complete commits of a file, in the order of writing; from [`records`].
///
/// The iterator omits damaged pages of checkpoints, since opening passes over them.
/// [`check`](super::check) reports them.
///
/// [`records`] has an example.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    look: Look,
    /// The offset of the next commit; `None` at the end of the log.
    link: Option<Link>,
    synced_slot: Slots,
    pending: VecDeque<RecordInfo>,
}

/// Returns an iterator over the records of a file, including dead ones.
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("cache.brasa");
/// let db = brasa::Db::open(&path)?;
/// db.set("a", "1")?;
/// db.close()?;
/// for record in brasa::inspect::records(&path)? {
///     let record = record?;
///     println!("{} {:?} at {}", record.kind, record.key, record.offset);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of [`check`](super::check). The last item is an error if the log is damaged in the part
/// that was on the device.
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
