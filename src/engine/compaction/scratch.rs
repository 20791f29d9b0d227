//! The file beside the other one that a compaction writes into, and that may be left there, half done, for
//! the next process to go on with.
//!
//! It has a name of its own, so that there is one at most, and whoever holds the compaction lock knows what to
//! make of it. While it is not done its first page says how far it has come, in place of a header: nobody can take it for
//! a file of ours, and one whose page does not hold is begun anew. It is no part of the format, and may be deleted
//! whenever nobody has the file open.
//!
//! Invariants:
//!
//! 1. The page is written after a sync of what it speaks of, and after a sync of the log that was copied, up to where the
//!    index had come: a power loss that took the record which killed another must not find that other one left out.
//! 2. What is gone on with belongs to this inode (its salt and generation), and to its owner alone.

use std::io;
use std::path::{Path, PathBuf};

use byteorder::{ByteOrder, LittleEndian};

use super::super::Generation;
use super::super::rewrite::{Rewrite, write_error};
use super::copy::{LogCopy, Phase};
use crate::log::{FileHeader, LOG_START, PAGE_BYTES, Tail, file_bytes_needed};
use crate::mutation::{self, Mutation};
use crate::storage::{LockByte, LockMode, Storage, StorageFile};
use crate::{Error, Result};

const MAGIC: [u8; 16] = *b"brasa compaction";

mod at {
    use std::ops::Range;

    pub(super) const MAGIC: Range<usize> = 0..16;
    pub(super) const SOURCE_SALT: Range<usize> = 16..20;
    pub(super) const PHASE: Range<usize> = 20..24;
    pub(super) const SOURCE_GENERATION: Range<usize> = 24..32;
    pub(super) const BEGAN_AT: Range<usize> = 32..40;
    pub(super) const SOURCE_OFFSET: Range<usize> = 40..48;
    pub(super) const NOW_MS: Range<usize> = 48..56;
    pub(super) const SOURCE_PREVIOUS: Range<usize> = 56..60;
    pub(super) const SALT: Range<usize> = 60..64;
    pub(super) const CREATED_MS: Range<usize> = 64..72;
    pub(super) const TAIL_OFFSET: Range<usize> = 72..80;
    pub(super) const TAIL_PREVIOUS: Range<usize> = 80..84;
    pub(super) const WRITER: Range<usize> = 84..88;
    pub(super) const BEGAN_MS: Range<usize> = 88..96;
    pub(super) const CHECKPOINT: Range<usize> = 96..104;
    pub(super) const CHECKSUM: Range<usize> = super::PAGE_BYTES - 4..super::PAGE_BYTES;
}

/// How far a compaction has come that was left half done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    source_salt: u32,
    source_generation: u64,
    copy: LogCopy,
    salt: u32,
    created_ms: u64,
    writer: u32,
    tail: Tail,
    /// Where its newest checkpoint closes, 0 for none.
    checkpoint: u64,
}

impl Progress {
    fn encode(&self) -> [u8; PAGE_BYTES] {
        let mut page = [0; PAGE_BYTES];
        page[at::MAGIC].copy_from_slice(&MAGIC);
        LittleEndian::write_u32(&mut page[at::SOURCE_SALT], self.source_salt);
        LittleEndian::write_u32(&mut page[at::PHASE], self.copy.phase as u32);
        LittleEndian::write_u64(&mut page[at::SOURCE_GENERATION], self.source_generation);
        LittleEndian::write_u64(&mut page[at::BEGAN_AT], self.copy.began_at);
        LittleEndian::write_u64(&mut page[at::SOURCE_OFFSET], self.copy.source.offset);
        LittleEndian::write_u64(&mut page[at::NOW_MS], self.copy.now_ms);
        LittleEndian::write_u32(&mut page[at::SOURCE_PREVIOUS], self.copy.source.previous);
        LittleEndian::write_u32(&mut page[at::SALT], self.salt);
        LittleEndian::write_u64(&mut page[at::CREATED_MS], self.created_ms);
        LittleEndian::write_u64(&mut page[at::TAIL_OFFSET], self.tail.offset);
        LittleEndian::write_u32(&mut page[at::TAIL_PREVIOUS], self.tail.previous);
        LittleEndian::write_u32(&mut page[at::WRITER], self.writer);
        LittleEndian::write_u64(&mut page[at::BEGAN_MS], self.copy.began_ms);
        LittleEndian::write_u64(&mut page[at::CHECKPOINT], self.checkpoint);
        let checksum = crc32fast::hash(&page[..at::CHECKSUM.start]);
        LittleEndian::write_u32(&mut page[at::CHECKSUM], checksum);
        page
    }

    /// What a page says, if it holds.
    fn decode(page: &[u8; PAGE_BYTES]) -> Option<Progress> {
        let checksum = crc32fast::hash(&page[..at::CHECKSUM.start]);
        if page[at::MAGIC] != MAGIC || LittleEndian::read_u32(&page[at::CHECKSUM]) != checksum {
            return None;
        }
        let phase = [Phase::Live, Phase::Whole]
            .into_iter()
            .find(|phase| *phase as u32 == LittleEndian::read_u32(&page[at::PHASE]))?;
        Some(Progress {
            source_salt: LittleEndian::read_u32(&page[at::SOURCE_SALT]),
            source_generation: LittleEndian::read_u64(&page[at::SOURCE_GENERATION]),
            copy: LogCopy {
                began_at: LittleEndian::read_u64(&page[at::BEGAN_AT]),
                source: Tail {
                    offset: LittleEndian::read_u64(&page[at::SOURCE_OFFSET]),
                    previous: LittleEndian::read_u32(&page[at::SOURCE_PREVIOUS]),
                },
                phase,
                began_ms: LittleEndian::read_u64(&page[at::BEGAN_MS]),
                now_ms: LittleEndian::read_u64(&page[at::NOW_MS]),
            },
            salt: LittleEndian::read_u32(&page[at::SALT]),
            created_ms: LittleEndian::read_u64(&page[at::CREATED_MS]),
            writer: LittleEndian::read_u32(&page[at::WRITER]),
            tail: Tail {
                offset: LittleEndian::read_u64(&page[at::TAIL_OFFSET]),
                previous: LittleEndian::read_u32(&page[at::TAIL_PREVIOUS]),
            },
            checkpoint: LittleEndian::read_u64(&page[at::CHECKPOINT]),
        })
    }

    /// Whether it can be gone on with: it is about this log, and within it and the file.
    fn fits(&self, source: &Generation, file_bytes: u64) -> bool {
        let offsets = [self.copy.began_at, self.copy.source.offset];
        let is_of_source = self.source_salt == source.header.salt
            && self.source_generation == source.header.generation;
        (is_of_source || mutation::is_on(Mutation::IgnoreScratchSource))
            && offsets.iter().all(|offset| {
                (LOG_START..=source.published_upto()).contains(offset) && offset.is_multiple_of(8)
            })
            && (LOG_START..=file_bytes).contains(&self.tail.offset)
            && self.tail.offset.is_multiple_of(8)
            && self.checkpoint < self.tail.offset
    }
}

/// Where the file stands that a compaction of `path` writes into.
pub(super) fn scratch_path(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".compacting");
    path.with_file_name(name)
}

/// Goes on with what was left half done, if it is this file's; else begins with `new_header`. The caller holds the
/// compaction lock.
pub(super) fn open(
    storage: &dyn Storage,
    path: &Path,
    source: &Generation,
    new_header: FileHeader,
    writer: u32,
) -> Result<(Rewrite, Option<LogCopy>)> {
    let scratch = scratch_path(path);
    let needed = file_bytes_needed(LOG_START);
    for _ in 0..2 {
        match storage.create_scratch(&scratch) {
            Ok(temporary) => {
                claim(&*temporary.file(), &scratch)?;
                let tail = Tail::first(new_header.salt);
                let rewrite = Rewrite::go_on(temporary, path, new_header, writer, tail)?;
                return Ok((rewrite, None));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(write_error("create a temporary file beside", path, needed)(
                    error,
                ));
            }
        }
        let temporary = match storage.open_scratch(&scratch) {
            Ok(temporary) => temporary,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("open", &scratch)(error)),
        };
        let left = left_by_us(&*temporary.file(), source, &scratch);
        match left {
            Ok(Some(progress)) => {
                let header = FileHeader {
                    salt: progress.salt,
                    created_ms: progress.created_ms,
                    ..new_header
                };
                let mut rewrite =
                    Rewrite::go_on(temporary, path, header, progress.writer, progress.tail)?;
                rewrite.set_checkpoint(progress.checkpoint);
                return Ok((rewrite, Some(progress.copy)));
            }
            // Dropping it removes it.
            Ok(None) => {}
            Err(error) => {
                // Somebody else's: it is not ours to remove.
                let _ = temporary.keep();
                return Err(error);
            }
        }
    }
    Err(Error::io("create", &scratch)(
        io::ErrorKind::AlreadyExists.into(),
    ))
}

/// What the file says, if it was left by a compaction of this one; `None` where it is to be begun anew.
fn left_by_us(
    file: &dyn StorageFile,
    source: &Generation,
    scratch: &Path,
) -> Result<Option<Progress>> {
    let io_error = |operation| Error::io(operation, scratch);
    claim(file, scratch)?;
    let owner = |file: &dyn StorageFile| -> Result<Option<u32>> {
        let attributes = file.attributes().map_err(io_error("look at"))?;
        Ok(attributes.map(|attributes| attributes.owner))
    };
    if owner(file)? != owner(&*source.file)? || file.link_count().map_err(io_error("look at"))? != 1
    {
        return Err(Error::CannotCompact {
            path: scratch.to_owned(),
            reason: "it is there, and belongs to somebody else; remove it".to_owned(),
        });
    }
    let mut page = [0; PAGE_BYTES];
    let count = file.read_at(&mut page, 0).map_err(io_error("read"))?;
    let size = file.size().map_err(io_error("read the size of"))?;
    let progress = (count == PAGE_BYTES)
        .then(|| Progress::decode(&page))
        .flatten();
    Ok(progress.filter(|progress| progress.fits(source, size)))
}

/// Makes sure that nobody else writes into it: the path may have named another inode when they took their lock.
fn claim(file: &dyn StorageFile, scratch: &Path) -> Result<()> {
    let locked = file.try_lock(LockByte::Writer, LockMode::Exclusive);
    match locked.map_err(Error::io("lock", scratch))? {
        true => Ok(()),
        false => Err(Error::CannotCompact {
            path: scratch.to_owned(),
            reason: "another compaction is writing it".to_owned(),
        }),
    }
}

/// Leaves a rewrite for later. The caller has synced the source since it was copied from (invariant 1).
pub(super) fn leave(
    mut rewrite: Rewrite,
    path: &Path,
    source: &Generation,
    copy: &LogCopy,
) -> Result<()> {
    rewrite.sync()?;
    let progress = Progress {
        source_salt: source.header.salt,
        source_generation: source.header.generation,
        copy: *copy,
        salt: rewrite.header().salt,
        created_ms: rewrite.header().created_ms,
        writer: rewrite.writer(),
        tail: rewrite.tail(),
        checkpoint: rewrite.checkpoint(),
    };
    rewrite
        .file()
        .write_at(&progress.encode(), 0)
        .map_err(write_error(
            "write the new file for",
            path,
            PAGE_BYTES as u64,
        ))?;
    rewrite
        .file()
        .unlock(LockByte::Writer)
        .map_err(Error::io("unlock", path))?;
    rewrite.keep()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRESS: Progress = Progress {
        source_salt: 1,
        source_generation: 2,
        copy: LogCopy {
            began_at: 3,
            source: Tail {
                offset: 4,
                previous: 5,
            },
            phase: Phase::Whole,
            began_ms: 12,
            now_ms: 6,
        },
        salt: 7,
        created_ms: 8,
        writer: 9,
        tail: Tail {
            offset: 10,
            previous: 11,
        },
        checkpoint: 13,
    };

    #[test]
    fn what_was_noted_is_read_again_and_no_damaged_note_is_believed() {
        let page = PROGRESS.encode();
        assert_eq!(Progress::decode(&page), Some(PROGRESS));
        for bit in 0..page.len() * 8 {
            let mut damaged = page;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Progress::decode(&damaged), None, "bit {bit}");
        }
    }

    #[test]
    fn the_scratch_file_stands_beside_the_other_and_is_hidden() {
        let path = scratch_path(Path::new("/var/cache/tool/db.brasa"));
        assert_eq!(path, Path::new("/var/cache/tool/.db.brasa.compacting"));
    }
}
