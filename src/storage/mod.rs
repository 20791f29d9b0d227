//! The interface of the engine to the operating system, in two traits. So a disk can be real, in
//! memory, or simulated with its faults.
//!
//! This is the only layer that uses `std::fs`, and the only one with `unsafe` code (in
//! `mapping.rs`, `lock.rs` and `heap.rs`). It knows bytes, names and locks, but not their meaning.

#[cfg(feature = "simulation")]
mod crash;
mod disk;
mod extended;
#[cfg(feature = "simulation")]
mod faulty;
#[cfg(feature = "server")]
mod heap;
mod lock;
mod mapping;
mod memory;
#[cfg(feature = "server")]
mod socket;
mod temporary;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

#[cfg(feature = "simulation")]
pub use crash::{Crash, Image, Loss};
pub(crate) use disk::DiskStorage;
#[cfg(feature = "simulation")]
pub use faulty::{Fault, FaultyOperation, Schedule, SimulatedDisk, Step};
#[cfg(feature = "server")]
pub(crate) use heap::release_free_memory;
pub(crate) use lock::{
    CAN_SHARE, LockByte, LockMode, acquire, acquire_asking, fork_count, has_forked_since,
};
pub(crate) use mapping::{Mapping, Window};
pub(crate) use memory::MemoryStorage;
#[cfg(feature = "server")]
pub(crate) use socket::UnixSocket;

use crate::sync::Arc;

/// Whether a file is opened for writing too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
}

/// A place with names in it: directories and files.
pub(crate) trait Storage: Debug + Send + Sync {
    /// The path in full, with links followed; the file itself need not be there.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf>;

    /// Opens a file that is there.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>>;

    /// Which file a path names; `None` where there is none.
    fn id_of(&self, path: &Path) -> io::Result<Option<FileId>>;

    /// Creates a file beside `path` that only its owner may read. It may have no name yet.
    fn create_temporary(&self, path: &Path) -> io::Result<Box<dyn TemporaryFile>>;

    /// Like [`Storage::create_temporary`], for a file that stays open after it has taken the name
    /// `path`. It has a name from the start: Linux shows a file that was created without one as
    /// deleted for as long as it is open.
    fn create_replacement(&self, path: &Path) -> io::Result<Box<dyn TemporaryFile>> {
        self.create_temporary(path)
    }

    /// Gives a file a further name, unless there is one of that name: then it fails with
    /// [`io::ErrorKind::AlreadyExists`].
    fn link_new(&self, path: &Path, further: &Path) -> io::Result<()>;

    /// Renames a file, unless there is one of the new name: then it fails with
    /// [`io::ErrorKind::AlreadyExists`].
    fn rename_new(&self, _path: &Path, _new: &Path) -> io::Result<()> {
        // Only a real disk has files that other programs have made.
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Opens the directory that holds `path`. Where that fails, for want of descriptors for example, nothing was lost; where
    /// [`Directory::sync`] does, the name may be.
    fn open_directory(&self, path: &Path) -> io::Result<Box<dyn Directory>>;

    /// Fills `out` with random bytes.
    fn random(&self, out: &mut [u8]) -> io::Result<()>;
}

/// An open directory.
pub(crate) trait Directory: Debug {
    /// Carries its names through to the device.
    fn sync(&self) -> io::Result<()>;
}

/// A file that is removed when it is dropped without having been given a name.
pub(crate) trait TemporaryFile: Debug + Send {
    fn file(&self) -> Arc<dyn StorageFile>;

    /// Gives the file its name, unless there is one of that name: then it fails with
    /// [`io::ErrorKind::AlreadyExists`].
    fn persist_new(self: Box<Self>, path: &Path) -> io::Result<()>;

    /// Gives the file its name, and takes it away, in the same instant, from whatever has it.
    fn replace(self: Box<Self>, path: &Path) -> io::Result<()>;
}

/// Which file it is, whatever its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// The owner of a file, and its permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) owner: u32,
    pub(crate) group: u32,
    pub(crate) mode: u32,
    /// The access control list as the kernel encodes it, if the file has one.
    pub(crate) access_list: Option<Vec<u8>>,
    /// The extended attributes of users, `user.*`, with their values.
    pub(crate) extended: Vec<(String, Vec<u8>)>,
}

/// An open file. Several handles may be open on the same one.
pub(crate) trait StorageFile: Debug + Send + Sync {
    fn size(&self) -> io::Result<u64>;

    fn id(&self) -> io::Result<FileId>;

    /// Whether the system has the locks that several handles of one file need.
    fn has_description_locks(&self) -> bool {
        true
    }

    /// The network file system that the file is on, by name; `None` on a local one.
    fn network_file_system(&self) -> io::Result<Option<&'static str>> {
        Ok(None)
    }

    /// Whether the path may later name a copy of the file under the same identity. On overlayfs the
    /// first writer copies the file from the lower layer to the upper one.
    fn may_be_copied_up(&self) -> bool {
        false
    }

    /// Bytes that the file system has left for this user; `None` where it does not tell.
    fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// How many names the file has.
    fn link_count(&self) -> io::Result<u64> {
        Ok(1)
    }

    /// `None` on a storage without them.
    fn attributes(&self) -> io::Result<Option<Attributes>> {
        Ok(None)
    }

    fn set_attributes(&self, _attributes: Attributes) -> io::Result<()> {
        Ok(())
    }

    /// Sets the permissions alone.
    fn set_mode(&self, _mode: u32) -> io::Result<()> {
        Ok(())
    }

    /// Reads until `out` is full or the file ends; gives back how many bytes there were.
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes, and makes the file longer where they go beyond its end.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the file at least `size` bytes long, the new ones zero, and makes sure that writing
    /// to them will not run out of space.
    fn allocate(&self, size: u64) -> io::Result<()>;

    /// Cuts the file to `size` bytes.
    fn truncate(&self, size: u64) -> io::Result<()>;

    /// Carries contents and size through to the device.
    fn sync(&self) -> io::Result<()>;

    /// Maps `len` bytes for reading, which may go beyond the file's end, for when it has grown.
    fn map(&self, len: u64) -> io::Result<Mapping>;

    /// Opens `len` bytes from `start` on, a multiple of the page's size, for writing without system calls. The file must reach so far.
    /// `None` where that is not known to be safe, or there is no space.
    fn window(&self, _start: u64, _len: usize) -> Option<Window> {
        None
    }

    /// Takes a lock if it is free; gives back whether it was. A lock ends with its handle, and
    /// taking one again in another mode changes it.
    fn try_lock(&self, byte: LockByte, mode: LockMode) -> io::Result<bool>;

    fn unlock(&self, byte: LockByte) -> io::Result<()>;
}

#[cfg(test)]
mod tests;
