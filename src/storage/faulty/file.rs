//! The files of a simulated disk. The disk logs each operation and may refuse it; otherwise it
//! happens in memory.

use std::io;
use std::path::Path;

use super::{FaultyOperation, Operation, SimulatedDisk, Step};
use crate::storage::{Directory, FileId, LockByte, LockMode, Mapping, StorageFile, TemporaryFile};
use crate::sync::Arc;

#[derive(Debug)]
pub(super) struct FaultyDirectory(pub(super) SimulatedDisk);

impl Directory for FaultyDirectory {
    fn sync(&self) -> io::Result<()> {
        self.0.check(FaultyOperation::SyncDirectory)?;
        self.0.record(Operation::SyncDirectory);
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct FaultyTemporary {
    /// `None` once it has been named.
    pub(super) temporary: Option<Box<dyn TemporaryFile>>,
    pub(super) file: Arc<FaultyFile>,
}

impl FaultyTemporary {
    fn take(&mut self) -> io::Result<Box<dyn TemporaryFile>> {
        self.temporary
            .take()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl TemporaryFile for FaultyTemporary {
    fn file(&self) -> Arc<dyn StorageFile> {
        Arc::clone(&self.file) as Arc<dyn StorageFile>
    }

    fn persist_new(mut self: Box<Self>, path: &Path) -> io::Result<()> {
        self.file.disk.check(FaultyOperation::Name)?;
        let temporary = self.take()?;
        let mut world = self.file.disk.world();
        temporary.persist_new(path)?;
        world.name(path, self.file.inode);
        Ok(())
    }

    fn replace(mut self: Box<Self>, path: &Path) -> io::Result<()> {
        self.file.disk.check(FaultyOperation::Name)?;
        let temporary = self.take()?;
        let mut world = self.file.disk.world();
        temporary.replace(path)?;
        world.name(path, self.file.inode);
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct FaultyFile {
    pub(super) disk: SimulatedDisk,
    pub(super) inode: usize,
    pub(super) file: Arc<dyn StorageFile>,
}

impl FaultyFile {
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        let mut rotten = Vec::new();
        let bytes = match !bytes.is_empty() && world.rots(self.inode) {
            true => {
                rotten.extend_from_slice(bytes);
                rotten[bytes.len() / 2] ^= 1;
                &rotten
            }
            false => bytes,
        };
        self.file.write_at(bytes, offset)?;
        world.trace.push(Operation::Write {
            inode: self.inode,
            offset,
            bytes: bytes.into(),
        });
        Ok(())
    }
}

impl StorageFile for FaultyFile {
    fn size(&self) -> io::Result<u64> {
        self.disk.step(Step::Operation)?;
        self.file.size()
    }

    fn id(&self) -> io::Result<FileId> {
        self.file.id()
    }

    fn network_file_system(&self) -> io::Result<Option<&'static str>> {
        Ok(self.disk.world().network_file_system)
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.check(FaultyOperation::Read)?;
        self.file.read_at(out, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.step(Step::Operation)?;
        if let Some(fault) = self.disk.strike(FaultyOperation::Write) {
            if fault.short {
                self.write(&bytes[..bytes.len() / 2], offset)?;
            }
            return Err(fault.error.into());
        }
        self.write(bytes, offset)
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        self.disk.check(FaultyOperation::Allocate)?;
        let mut world = self.disk.world();
        if size > self.file.size()? {
            self.file.allocate(size)?;
            world.trace.push(Operation::Resize {
                inode: self.inode,
                size,
            });
        }
        Ok(())
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.disk.check(FaultyOperation::Truncate)?;
        let mut world = self.disk.world();
        self.file.truncate(size)?;
        world.trace.push(Operation::Resize {
            inode: self.inode,
            size,
        });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.step(Step::Operation)?;
        if let Some(fault) = self.disk.strike(FaultyOperation::Sync) {
            self.disk
                .record(Operation::FailedSync { inode: self.inode });
            return Err(fault.error.into());
        }
        let mut world = self.disk.world();
        self.file.sync()?;
        world.trace.push(Operation::Sync { inode: self.inode });
        drop(world);
        self.disk.step(Step::Synced)
    }

    fn map(&self, len: u64) -> io::Result<Mapping> {
        self.disk.check(FaultyOperation::Map)?;
        self.file.map(len)
    }

    fn try_lock(&self, byte: LockByte, mode: LockMode) -> io::Result<bool> {
        self.disk.step(Step::Operation)?;
        let locked = self.file.try_lock(byte, mode)?;
        if !locked {
            self.disk.step(Step::Refused)?;
        }
        Ok(locked)
    }

    fn unlock(&self, byte: LockByte) -> io::Result<()> {
        self.disk.step(Step::Operation)?;
        self.file.unlock(byte)?;
        self.disk.step(Step::Released)
    }
}
