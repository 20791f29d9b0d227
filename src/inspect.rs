//! Looking into a file without opening it as a database: its records, and whether they are sound.
//!
//! Nothing here takes a lock or changes a byte. A file that is being written meanwhile is seen as
//! it is at that moment, the commit that is just being written perhaps as a torn tail.
//!
//! ```
//! # fn main() -> brasa::Result<()> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("cache.brasa");
//! let db = brasa::Db::open(&path)?;
//! db.set("chave_1", "Relou Uourdi")?;
//! db.close()?;
//!
//! let report = brasa::inspect::check(&path, |_, _| {})?;
//! assert!(report.is_sound());
//! assert_eq!(report.record_count, 1);
//!
//! for record in brasa::inspect::records(&path)? {
//!     let record = record?;
//!     println!("{} {} {:?}", record.offset, record.kind, record.key);
//! }
//! # Ok(())
//! # }
//! ```

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::engine::{judge_end, parse_header, torn_bytes};
use crate::log::{Commit, LOG_START, PAGE_BYTES, Reader, Slots, Source};
use crate::record::Link;
use crate::storage::{Access, DiskStorage, Mapping, Storage};
use crate::{Error, Result};

/// How the log of a file ends.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogEnd {
    /// With the last whole commit.
    Clean,
    /// With a write that was cut short: opening will pass over it.
    Torn {
        /// Where the last whole commit ends.
        offset: u64,
        /// How many bytes behind it belong to no commit.
        torn_bytes: u64,
        /// Why they belong to none.
        reason: String,
    },
    /// With damage where the file was known to be on the device; always [`Error::Corrupt`].
    Damaged(Error),
}

/// What [`check`] found.
#[derive(Debug)]
#[non_exhaustive]
pub struct CheckReport {
    /// Size of the file.
    pub file_bytes: u64,
    /// Size of the log up to the end of the last whole commit.
    pub log_bytes: u64,
    /// Whole commits.
    pub commit_count: u64,
    /// Their records.
    pub record_count: u64,
    /// Everything before this offset is known to be on the device.
    pub synced_upto: u64,
    /// How the log ends.
    pub end: LogEnd,
}

impl CheckReport {
    /// Whether the file opens, with everything that was known to be on the device.
    pub fn is_sound(&self) -> bool {
        !matches!(self.end, LogEnd::Damaged(_))
    }
}

/// Verifies the header, every record's checksum and the chain that they form.
///
/// `progress` is called now and then with the bytes that were verified, and all there are.
///
/// # Errors
///
/// As [`Db::open`](crate::Db::open) for a file that cannot be opened, is something else, is of a newer version, or has a
/// damaged header. Damage in the log is no error here but part of the report.
pub fn check(path: impl AsRef<Path>, mut progress: impl FnMut(u64, u64)) -> Result<CheckReport> {
    let path = path.as_ref();
    let mapping = map(path)?;
    check_source(&mapping, path, &mut progress)
}

/// As [`check`], of a file's contents in memory.
///
/// # Errors
///
/// As [`check`].
pub fn check_bytes(bytes: &[u8]) -> Result<CheckReport> {
    check_source(bytes, Path::new(":memory:"), &mut |_, _| {})
}

fn check_source<S: Source + ?Sized>(
    source: &S,
    path: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<CheckReport> {
    const COMMITS_BETWEEN_PROGRESS: u64 = 4096;
    let (salt, slots) = header(source, path)?;
    let slots = slots.ok_or_else(|| {
        Error::corrupt(path, PAGE_BYTES as u64, "neither of the two slots is valid")
    })?;
    let mut reader = Reader::from_start(source, salt);
    let mut report = CheckReport {
        file_bytes: source.len(),
        log_bytes: 0,
        commit_count: 0,
        record_count: 0,
        synced_upto: slots.current().synced_upto,
        end: LogEnd::Clean,
    };
    let reached = loop {
        match reader.next_commit() {
            Ok(Some(_)) => {}
            Ok(None) => break Ok(()),
            Err(damage) => break Err(damage),
        }
        report.commit_count += 1;
        report.record_count += reader.records().count() as u64;
        if report.commit_count.is_multiple_of(COMMITS_BETWEEN_PROGRESS) {
            progress(reader.link().offset, source.len());
        }
    };
    progress(source.len(), source.len());
    let end = reader.link().offset;
    report.log_bytes = end - LOG_START;
    report.end = match (judge_end(path, end, reached, slots.current()), reached) {
        (Err(corrupt), _) => LogEnd::Damaged(corrupt),
        (Ok(()), Ok(())) => LogEnd::Clean,
        (Ok(()), Err(damage)) => LogEnd::Torn {
            offset: end,
            torn_bytes: torn_bytes(source, end),
            reason: damage.reason.to_string(),
        },
    };
    Ok(report)
}

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
    /// Whether the commit goes on with the next record.
    pub more: bool,
    /// The number that the handle which wrote it had drawn.
    pub writer: u32,
}

/// The records of a file's whole commits, in the order they were written; from [`records`].
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    mapping: Mapping,
    /// Where the next commit begins; `None` when the log has ended.
    link: Option<Link>,
    synced_slot: Slots,
    pending: VecDeque<RecordInfo>,
}

/// Reads the records of a file, dead ones too.
///
/// # Errors
///
/// As [`check`]. Damage in the log where it was known to be on the device comes as the last item.
pub fn records(path: impl AsRef<Path>) -> Result<Records> {
    let path = path.as_ref();
    let mapping = map(path)?;
    let (salt, slots) = header(&mapping, path)?;
    let synced_slot = slots.ok_or_else(|| {
        Error::corrupt(path, PAGE_BYTES as u64, "neither of the two slots is valid")
    })?;
    let link = Reader::from_start(&mapping, salt).link();
    Ok(Records {
        path: path.to_owned(),
        mapping,
        link: Some(link),
        synced_slot,
        pending: VecDeque::new(),
    })
}

impl Iterator for Records {
    type Item = Result<RecordInfo>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.pending.is_empty() {
            let mut reader = Reader::from_link(&self.mapping, self.link?);
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

fn map(path: &Path) -> Result<Mapping> {
    let file = DiskStorage
        .open(path, Access::Read)
        .map_err(Error::io("open", path))?;
    let size = file.size().map_err(Error::io("read the size of", path))?;
    // No mapping has no bytes, so an empty file gets one of one byte, which is not read.
    file.map(size.max(1)).map_err(Error::io("map", path))
}

/// The salt and, where one is valid, the slots.
fn header<S: Source + ?Sized>(source: &S, path: &Path) -> Result<(u32, Option<Slots>)> {
    let len = source.len().min(LOG_START);
    let pages = usize::try_from(len)
        .ok()
        .and_then(|len| source.bytes(0, len))
        .unwrap_or_default();
    let (header, slots) = parse_header(pages, path)?;
    Ok((header.salt, slots))
}
