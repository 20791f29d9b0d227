//! A complete new file, built beside another one: for creation, salvage, compaction and backup.
//!
//! Invariants:
//!
//! 1. The file gets its name only when it is complete and on the device. A dropped rewrite leaves
//!    nothing.
//! 2. The slot with *synced up to* is written after the sync that it reports. Before that, the
//!    slots claim nothing.
//! 3. A file is read back before it gets its name. If it differs from the written data, it is
//!    dropped.

use std::io;
use std::path::{Path, PathBuf};

use super::open::{HEAD_BYTES, parse_header};
use super::sync::write_slots;
use crate::limits::MAX_FILE_BYTES;
use crate::log::{
    END_WORD, FileHeader, LOG_START, RESERVE_BYTES, Reader, Slot, Slots, Tail, file_bytes_needed,
    seal_commit,
};
use crate::mutation::{self, Mutation};
use crate::record::{self, Change, Link};
use crate::storage::{Storage, StorageFile, TemporaryFile};
use crate::sync::Arc;
use crate::{Error, Result};

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// A new file that takes commits one after another.
///
/// After an error it is in no defined state, and to be dropped.
#[derive(Debug)]
pub(super) struct Rewrite {
    path: PathBuf,
    temporary: Box<dyn TemporaryFile>,
    file: Arc<dyn StorageFile>,
    header: FileHeader,
    /// The number in its records.
    writer: u32,
    tail: Tail,
    /// What was not written yet.
    buffer: Vec<u8>,
    /// Where the buffer goes.
    written_upto: u64,
    /// Where its newest checkpoint closes, 0 for none.
    checkpoint: u64,
}

/// A complete file that lacks its name.
#[derive(Debug)]
pub(super) struct NewFile {
    pub(super) temporary: Box<dyn TemporaryFile>,
    pub(super) header: FileHeader,
    pub(super) slots: Slots,
    pub(super) tail: Tail,
}

impl Rewrite {
    /// Begins a file for `path`, under an unpredictable temporary name.
    ///
    /// The header is the new file's; `copied_upto` and `base_position` can be set later, by
    /// [`Rewrite::end_copy`].
    pub(super) fn begin(
        storage: &dyn Storage,
        path: &Path,
        header: FileHeader,
        writer: u32,
    ) -> Result<Rewrite> {
        Rewrite::begin_in(storage.create_temporary(path), path, header, writer)
    }

    /// Like [`Rewrite::begin`], for a file that stays open after it has replaced the one at `path`.
    pub(super) fn begin_replacement(
        storage: &dyn Storage,
        path: &Path,
        header: FileHeader,
        writer: u32,
    ) -> Result<Rewrite> {
        Rewrite::begin_in(storage.create_replacement(path), path, header, writer)
    }

    fn begin_in(
        created: io::Result<Box<dyn TemporaryFile>>,
        path: &Path,
        header: FileHeader,
        writer: u32,
    ) -> Result<Rewrite> {
        let temporary = created.map_err(write_error(
            "create a temporary file beside",
            path,
            file_bytes_needed(LOG_START),
        ))?;
        let file = temporary.file();
        let needed = file_bytes_needed(LOG_START);
        // The slots' pages too, and never by setting a size, which leaves a hole: a later write to them must not find
        // the disk full, and to read a hole through a mapping takes space on tmpfs, or a SIGBUS.
        file.allocate(needed)
            .map_err(write_error("create a new file for", path, needed))?;
        Ok(Rewrite {
            path: path.to_owned(),
            temporary,
            file,
            header,
            writer,
            tail: Tail::first(header.salt),
            buffer: Vec::new(),
            written_upto: LOG_START,
            checkpoint: 0,
        })
    }

    pub(super) fn file(&self) -> &Arc<dyn StorageFile> {
        &self.file
    }

    pub(super) fn tail(&self) -> Tail {
        self.tail
    }

    /// Appends a commit, of at least one change.
    pub(super) fn append(&mut self, changes: &[Change<'_>]) -> Result<()> {
        let start = self.buffer.len();
        let mut starts = Vec::with_capacity(changes.len());
        for change in changes {
            starts.push(self.buffer.len() - start);
            record::encode(change, &mut self.buffer)?;
        }
        let end = self.tail.offset + (self.buffer.len() - start) as u64;
        if end + RESERVE_BYTES > MAX_FILE_BYTES {
            return Err(Error::TooLarge {
                what: "the file",
                length: end,
                limit: MAX_FILE_BYTES,
            });
        }
        self.tail = seal_commit(
            &mut self.buffer[start..],
            starts.into_iter(),
            self.tail,
            self.header.salt,
            self.writer,
        );
        if self.buffer.len() >= BUFFER_BYTES {
            self.write_buffer()?;
        }
        Ok(())
    }

    /// Says that what was appended so far is a copy without positions of its own, and that whatever
    /// comes next stands at `base_position` of the log's history.
    pub(super) fn end_copy(&mut self, base_position: u64) {
        self.header.base_position = base_position;
        self.header.copied_upto = self.tail.offset;
    }

    pub(super) fn set_checkpoint(&mut self, offset: u64) {
        self.checkpoint = offset;
    }

    /// Carries what was appended so far through to the device, so that little is left to do in
    /// [`Rewrite::finish`]; more may be appended afterwards.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.write_buffer()?;
        let needed = self.tail.offset;
        self.file
            .sync()
            .map_err(write_error("sync the new file for", &self.path, needed))
    }

    /// Completes and syncs the file, and reads it back; it only lacks its name.
    pub(super) fn finish(self) -> Result<NewFile> {
        let from = Tail::first(self.header.salt);
        self.finish_behind(from)
    }

    /// Like [`Rewrite::finish`], for a caller that reads the log back itself up to this tail.
    pub(super) fn finish_behind(mut self, read_upto: Tail) -> Result<NewFile> {
        self.buffer.extend_from_slice(&END_WORD);
        self.write_buffer()?;
        let io_error = |operation| write_error(operation, &self.path, self.tail.offset);
        let put_slot = |slots: Slots| write_slots(&*self.file, self.header.salt, &slots);
        self.file
            .write_at(&self.header.encode(), 0)
            .and_then(|()| put_slot(Slots::FIRST))
            .map_err(io_error("write the new file for"))?;
        let sync = || match mutation::is_on(Mutation::NameBeforeSync) {
            true => Ok(()),
            false => self.file.sync().map_err(io_error("sync the new file for")),
        };
        sync()?;
        let mut slots = Slots::FIRST;
        if self.tail.offset > slots.current().synced_upto {
            // Only now it is true (invariant 2).
            let synced = Slot {
                synced_upto: self.tail.offset,
                checkpoint: self.checkpoint,
                ..Slot::FIRST
            };
            slots = slots.succeeded_by(synced);
            put_slot(slots).map_err(io_error("write the new file for"))?;
            // Else damage before the next sync might pass for a write that was cut short.
            sync()?;
        }
        self.read_back(read_upto, slots)?;
        Ok(NewFile {
            temporary: self.temporary,
            header: self.header,
            slots,
            tail: self.tail,
        })
    }

    /// Compares the file with what was written to it (invariant 3).
    fn read_back(&self, read_upto: Tail, slots: Slots) -> Result<()> {
        if mutation::is_on(Mutation::SkipReadBack) {
            return Ok(());
        }
        let differs = |offset| {
            let reason = "the new file differs from the written data when read back";
            Err(Error::corrupt(&self.path, offset, reason))
        };
        let mut head = [0; HEAD_BYTES];
        let count = self.file.read_at(&mut head, 0);
        let count = count.map_err(Error::io("read back the new file for", &self.path))?;
        if parse_header(&head[..count], &self.path)? != (self.header, Some(slots)) {
            return differs(0);
        }
        if read_upto == self.tail {
            return Ok(());
        }
        let mapping = self.file.map(self.tail.offset);
        let mapping = mapping.map_err(Error::io("map the new file for", &self.path))?;
        let link = Link {
            salt: self.header.salt,
            offset: read_upto.offset,
            previous: read_upto.previous,
        };
        let mut reader = Reader::from_link(&mapping, link);
        while let Ok(Some(_)) = reader.next_commit() {}
        let Link {
            offset, previous, ..
        } = reader.link();
        match (Tail { offset, previous }) == self.tail {
            true => Ok(()),
            false => differs(offset),
        }
    }

    fn write_buffer(&mut self) -> Result<()> {
        self.file
            .write_at(&self.buffer, self.written_upto)
            .map_err(write_error(
                "write the new file for",
                &self.path,
                self.buffer.len() as u64,
            ))?;
        self.written_upto += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// What a failure means that came while a file at `path` was made of `needed` bytes. A full disk
/// has more ways to show than in a write: it has no room for a name, or notices at the sync.
pub(super) fn write_error(
    operation: &'static str,
    path: &Path,
    needed: u64,
) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull {
            operation,
            path,
            needed,
        },
        _ => Error::io(operation, &path)(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Reader, Source};
    use crate::record::Kind;
    use crate::storage::{Access, Mapping, MemoryStorage};

    const HEADER: FileHeader = FileHeader {
        salt: 0x5a17_5a17,
        hash_key: *b"0123456789abcdef",
        generation: 3,
        base_position: 0,
        copied_upto: LOG_START,
        created_ms: 1_700_000_000_000,
    };

    fn set<'a>(key: &'a [u8], value: &'a [u8]) -> Change<'a> {
        Change {
            value,
            ..Change::of_key(Kind::Set, 0, key)
        }
    }

    fn begin(storage: &MemoryStorage) -> Rewrite {
        Rewrite::begin(storage, Path::new("file"), HEADER, 7).unwrap()
    }

    fn mapping(file: &dyn StorageFile) -> Mapping {
        file.map(file.size().unwrap()).unwrap()
    }

    fn read(mapping: &Mapping) -> (FileHeader, Slot) {
        let pages = mapping.bytes(0, 3 * crate::log::PAGE_BYTES).unwrap();
        let header = FileHeader::decode(pages.first_chunk().unwrap()).unwrap();
        let slots = Slots::decode(pages, header.salt).unwrap();
        (header, slots.current())
    }

    #[test]
    fn a_rewrite_of_nothing_is_a_new_file() {
        let storage = MemoryStorage::default();
        let temporary = begin(&storage).finish().unwrap().temporary;
        let file = temporary.file();
        assert_eq!(file.size().unwrap(), file_bytes_needed(LOG_START));
        let (header, slot) = read(&mapping(&*file));
        assert_eq!((header, slot), (HEADER, Slot::FIRST));
        assert!(storage.open(Path::new("file"), Access::Read).is_err());
        temporary.persist_new(Path::new("file")).unwrap();
        assert!(storage.open(Path::new("file"), Access::Read).is_ok());
    }

    #[test]
    fn commits_stand_in_one_chain_across_writes_of_the_buffer() {
        let storage = MemoryStorage::default();
        let mut rewrite = begin(&storage);
        let value = vec![b'v'; BUFFER_BYTES / 3];
        for _ in 0..5 {
            rewrite.append(&[set(b"large", &value)]).unwrap();
            rewrite.append(&[set(b"a", b"1"), set(b"b", b"2")]).unwrap();
        }
        rewrite.sync().unwrap();
        rewrite.end_copy(1_000_000);
        let copied_upto = rewrite.tail.offset;
        rewrite.append(&[set(b"after", b"the sync")]).unwrap();
        let end = rewrite.tail.offset;
        let temporary = rewrite.finish().unwrap().temporary;

        let mapping = mapping(&*temporary.file());
        let (header, slot) = read(&mapping);
        assert_eq!(header.copied_upto, copied_upto);
        assert_eq!(header.base_position, 1_000_000);
        assert_eq!((slot.synced_upto, slot.named), (end, false));
        let mut reader = Reader::from_start(&mapping, HEADER.salt);
        let mut sizes = Vec::new();
        while reader.next_commit().unwrap().is_some() {
            sizes.push(reader.records().count());
        }
        assert_eq!(sizes, [1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1]);
        assert_eq!(reader.link().offset, end);
        assert_eq!(mapping.len(), file_bytes_needed(end));
    }
}
