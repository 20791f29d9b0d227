//! Files in memory: for databases that need no disk, and for tests.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::mapping::Heap;
use super::{
    Access, Directory, FileId, LockByte, LockMode, Mapping, Storage, StorageFile, TemporaryFile,
};
use crate::sync::atomic::Ordering;
use crate::sync::plain::{Mutex, MutexGuard};
use crate::sync::{Arc, PoisonError, Word};

/// The capacity that a file begins with.
const FIRST_CAPACITY_BYTES: u64 = 16 << 10;

/// Names and the files they stand for; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryStorage {
    names: Arc<Mutex<HashMap<PathBuf, Arc<Shared>>>>,
}

impl MemoryStorage {
    /// Tells it from other storages for as long as it is there.
    fn device(&self) -> u64 {
        Arc::as_ptr(&self.names).addr() as u64
    }

    /// Takes every lock from its holder.
    #[cfg(feature = "simulation")]
    pub(super) fn release_locks(&self) {
        for shared in lock(&self.names).values() {
            lock(&shared.locks).clear();
        }
    }

    /// Creates a file with these contents.
    #[cfg(feature = "simulation")]
    pub(super) fn create(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let temporary = self.create_temporary(path)?;
        temporary.file().write_at(contents, 0)?;
        temporary.persist_new(path)
    }
}

impl Storage for MemoryStorage {
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let names = lock(&self.names);
        let shared = names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(MemoryFile::new(Arc::clone(shared), access)))
    }

    fn id_of(&self, path: &Path) -> io::Result<Option<FileId>> {
        Ok(lock(&self.names).get(path).map(id_of))
    }

    fn create_temporary(&self, _path: &Path) -> io::Result<Box<dyn TemporaryFile>> {
        let shared = Arc::new(Shared::new(self.device())?);
        Ok(Box::new(MemoryTemporary::new(self, shared)))
    }

    fn link_new(&self, path: &Path, further: &Path) -> io::Result<()> {
        let mut names = lock(&self.names);
        let shared = names.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        if names.contains_key(further) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.insert(further.to_owned(), shared);
        Ok(())
    }

    fn open_directory(&self, _path: &Path) -> io::Result<Box<dyn Directory>> {
        Ok(Box::new(MemoryDirectory))
    }

    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        getrandom::fill(out).map_err(io::Error::other)
    }
}

#[derive(Debug)]
struct MemoryDirectory;

impl Directory for MemoryDirectory {
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryTemporary {
    storage: MemoryStorage,
    shared: Arc<Shared>,
    file: Arc<MemoryFile>,
}

impl MemoryTemporary {
    fn new(storage: &MemoryStorage, shared: Arc<Shared>) -> MemoryTemporary {
        MemoryTemporary {
            storage: storage.clone(),
            file: Arc::new(MemoryFile::new(Arc::clone(&shared), Access::ReadWrite)),
            shared,
        }
    }
}

impl TemporaryFile for MemoryTemporary {
    fn file(&self) -> Arc<dyn StorageFile> {
        Arc::clone(&self.file) as Arc<dyn StorageFile>
    }

    fn persist_new(self: Box<Self>, path: &Path) -> io::Result<()> {
        let mut names = lock(&self.storage.names);
        if names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.insert(path.to_owned(), Arc::clone(&self.shared));
        Ok(())
    }

    fn replace(self: Box<Self>, path: &Path) -> io::Result<()> {
        let mut names = lock(&self.storage.names);
        names.insert(path.to_owned(), Arc::clone(&self.shared));
        Ok(())
    }
}

/// Where it is tells which it is, for as long as a handle keeps it there.
fn id_of(shared: &Arc<Shared>) -> FileId {
    FileId {
        device: shared.device,
        inode: Arc::as_ptr(shared).addr() as u64,
    }
}

/// What the handles of one file share.
#[derive(Debug)]
struct Shared {
    /// The storage that it is in.
    device: u64,
    contents: Mutex<Contents>,
    /// The held locks, with the numbers of their handles.
    locks: Mutex<Vec<(LockByte, LockMode, u64)>>,
    next_handle: Word,
}

#[derive(Debug)]
struct Contents {
    heap: Arc<Heap>,
    size: u64,
}

impl Shared {
    fn new(device: u64) -> io::Result<Shared> {
        Ok(Shared {
            device,
            contents: Mutex::new(Contents {
                heap: Arc::new(Heap::new(FIRST_CAPACITY_BYTES)?),
                size: 0,
            }),
            locks: Mutex::default(),
            next_handle: Word::new(0),
        })
    }
}

impl Contents {
    fn ensure_capacity(&mut self, size: u64) -> io::Result<()> {
        if size > self.heap.len() {
            let doubled = self.heap.len().saturating_mul(2);
            self.heap = self.heap.grow(size.max(doubled))?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct MemoryFile {
    shared: Arc<Shared>,
    handle: u64,
    access: Access,
}

impl MemoryFile {
    fn new(shared: Arc<Shared>, access: Access) -> MemoryFile {
        let handle = shared.next_handle.fetch_add(1, Ordering::Relaxed);
        MemoryFile {
            shared,
            handle,
            access,
        }
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::Read => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
}

impl StorageFile for MemoryFile {
    fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.shared.contents).size)
    }

    fn id(&self) -> io::Result<FileId> {
        Ok(id_of(&self.shared))
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let contents = lock(&self.shared.contents);
        let available = usize::try_from(contents.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = out.len().min(available);
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        contents.heap.read(&mut out[..count], start)?;
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        let end = offset
            .checked_add(bytes.len() as u64)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        let mut contents = lock(&self.shared.contents);
        contents.ensure_capacity(end)?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        contents.heap.write(bytes, start)?;
        contents.size = contents.size.max(end);
        Ok(())
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut contents = lock(&self.shared.contents);
        contents.ensure_capacity(size)?;
        contents.size = contents.size.max(size);
        Ok(())
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut contents = lock(&self.shared.contents);
        // The bytes behind the new end must read as zeros should the file grow again.
        let old_size = contents.size;
        let zeros = vec![0; usize::try_from(old_size.saturating_sub(size)).unwrap_or(0)];
        let start = usize::try_from(size).map_err(io::Error::other)?;
        contents.ensure_capacity(size)?;
        contents.heap.write(&zeros, start)?;
        contents.size = size;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, _len: u64) -> io::Result<Mapping> {
        let contents = lock(&self.shared.contents);
        Ok(Mapping::of_heap(&contents.heap, contents.size))
    }

    fn try_lock(&self, byte: LockByte, mode: LockMode) -> io::Result<bool> {
        let mut locks = lock(&self.shared.locks);
        let conflict = locks.iter().any(|(held, held_mode, holder)| {
            *held == byte
                && *holder != self.handle
                && (mode == LockMode::Exclusive || *held_mode == LockMode::Exclusive)
        });
        if !conflict {
            locks.retain(|(held, _, holder)| (*held, *holder) != (byte, self.handle));
            locks.push((byte, mode, self.handle));
        }
        Ok(!conflict)
    }

    fn unlock(&self, byte: LockByte) -> io::Result<()> {
        lock(&self.shared.locks)
            .retain(|(held, _, holder)| (*held, *holder) != (byte, self.handle));
        Ok(())
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        lock(&self.shared.locks).retain(|(_, _, holder)| *holder != self.handle);
    }
}

/// Nothing that holds these mutexes can leave them half changed, so a panic elsewhere is no reason to fail.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
