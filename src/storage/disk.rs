//! The real disk.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown,
};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::extended;
use super::lock::LeftInParent;
use super::temporary::DiskTemporary;
use super::{
    Access, Attributes, Directory, FileId, LockByte, LockMode, Mapping, Storage, StorageFile,
    TemporaryFile, lock,
};
use crate::sync::Arc;

#[cfg(target_os = "linux")]
use super::Window;

/// The file system of this machine.
#[derive(Debug)]
pub(crate) struct DiskStorage;

impl DiskStorage {
    /// Makes the directory of a file, and those above it, where they are missing, for the owner alone.
    pub(crate) fn create_directory_of(path: &Path) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory_of(path))
    }
}

impl Storage for DiskStorage {
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        // As many links as Linux follows before it answers ELOOP.
        const MAX_LINKS: usize = 40;
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            match fs::read_link(&path) {
                Ok(target) => path = directory_of(&path).join(target),
                // No link, or nothing there.
                Err(_) => {
                    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
                    return Ok(fs::canonicalize(directory_of(&path))?.join(name));
                }
            }
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many symbolic links",
        ))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn StorageFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::ReadWrite)
            // Otherwise opening a pipe would wait for a process at its other end.
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        let kind = file.metadata()?.file_type();
        if kind.is_dir() {
            // Opening a directory for reading succeeds; everything after it would fail obscurely.
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !kind.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is a device, pipe or socket",
            ));
        }
        Ok(Arc::new(DiskFile::new(file)))
    }

    fn id_of(&self, path: &Path) -> io::Result<Option<FileId>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(id_of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create_temporary(&self, path: &Path) -> io::Result<Box<dyn TemporaryFile>> {
        Ok(Box::new(DiskTemporary::create(path)?))
    }

    fn create_replacement(&self, path: &Path) -> io::Result<Box<dyn TemporaryFile>> {
        Ok(Box::new(DiskTemporary::create_named(directory_of(path))?))
    }

    fn link_new(&self, path: &Path, further: &Path) -> io::Result<()> {
        fs::hard_link(path, further)
    }

    fn rename_new(&self, path: &Path, new: &Path) -> io::Result<()> {
        let mut name = TempPath::try_from_path(path)?;
        // It is no temporary file: nothing may remove it.
        name.disable_cleanup(true);
        name.persist_noclobber(new).map_err(|refused| refused.error)
    }

    fn open_directory(&self, path: &Path) -> io::Result<Box<dyn Directory>> {
        Ok(Box::new(DiskDirectory(File::open(directory_of(path))?)))
    }

    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        getrandom::fill(out).map_err(io::Error::other)
    }
}

#[derive(Debug)]
struct DiskDirectory(File);

impl Directory for DiskDirectory {
    fn sync(&self) -> io::Result<()> {
        or_fsync(&self.0, self.0.sync_all())
    }
}

/// Returns the outcome of a sync. Where a volume of macOS refuses F_FULLFSYNC, as volumes of other
/// file systems may, falls back to fsync, which is the most that it offers.
fn or_fsync(file: &File, synced: io::Result<()>) -> io::Result<()> {
    match synced {
        Err(error)
            if cfg!(target_vendor = "apple")
                && matches!(
                    error.raw_os_error(),
                    Some(libc::ENOTSUP | libc::EINVAL | libc::ENOTTY)
                ) =>
        {
            Ok(rustix::fs::fsync(file)?)
        }
        synced => synced,
    }
}

pub(super) fn id_of(metadata: &fs::Metadata) -> FileId {
    FileId {
        device: metadata.dev(),
        inode: metadata.ino(),
    }
}

/// The name of a file system that other hosts may write to as well, by its number in Linux's
/// statfs(2).
#[cfg(any(target_os = "linux", test))]
fn network_file_system(magic: u32) -> Option<&'static str> {
    const KNOWN: [(u32, &str); 10] = [
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB2"),
        (0x5346_414f, "AFS"),
        (0x7375_7245, "Coda"),
        (0x0102_1997, "9P"),
        (0x00c3_6400, "Ceph"),
        (0x0bd0_0bd0, "Lustre"),
        (0x0116_1970, "GFS2"),
    ];
    let found = KNOWN.iter().find(|(number, _)| *number == magic);
    found.map(|(_, name)| *name)
}

/// As [`network_file_system`], by the name in `f_fstypename` of macOS and the BSDs.
#[cfg(any(target_vendor = "apple", target_os = "freebsd", test))]
fn network_file_system_named(name: &[u8]) -> Option<&'static str> {
    const KNOWN: [(&[u8], &str); 7] = [
        (b"nfs", "NFS"),
        (b"smbfs", "SMB"),
        (b"cifs", "CIFS"),
        (b"afpfs", "AFP"),
        (b"webdav", "WebDAV"),
        (b"ftp", "FTP"),
        (b"p9fs", "9P"),
    ];
    let found = KNOWN.iter().find(|(known, _)| *known == name);
    found.map(|(_, name)| *name)
}

/// Refuses what would exceed the limit for the size of files (`ulimit -f`). The kernel would send SIGXFSZ, which ends
/// the process unless it is handled, and how signals are handled is not a library's to say.
fn check_size_limit(end: u64) -> io::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize);
    match limit.current {
        Some(limit) if end > limit => Err(io::Error::from_raw_os_error(libc::EFBIG)),
        _ => Ok(()),
    }
}

/// The directory in which the path's last part is a name.
pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[derive(Debug)]
pub(super) struct DiskFile {
    /// Before the file, since fields are dropped in this order.
    _left_in_parent: LeftInParent,
    pub(super) file: File,
}

impl StorageFile for DiskFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn id(&self) -> io::Result<FileId> {
        Ok(id_of(&self.file.metadata()?))
    }

    fn has_description_locks(&self) -> bool {
        lock::has_description_locks(&self.file)
    }

    fn network_file_system(&self) -> io::Result<Option<&'static str>> {
        #[cfg(target_os = "linux")]
        {
            Ok(network_file_system(self.file_system()?))
        }
        #[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
        {
            let status = rustix::fs::fstatfs(&self.file)?;
            let name = status.f_fstypename.iter().take_while(|byte| **byte != 0);
            // `c_char` is signed here; the cast keeps the bits.
            #[allow(clippy::cast_sign_loss)]
            let name: Vec<u8> = name.map(|byte| *byte as u8).collect();
            Ok(network_file_system_named(&name))
        }
        #[cfg(not(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd")))]
        Ok(None)
    }

    #[cfg(target_os = "linux")]
    fn may_be_copied_up(&self) -> bool {
        const OVERLAYFS: u32 = 0x794c_7630;
        self.file_system().is_ok_and(|magic| magic == OVERLAYFS)
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        let status = rustix::fs::fstatvfs(&self.file)?;
        Ok(Some(status.f_bavail.saturating_mul(status.f_frsize)))
    }

    fn link_count(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.nlink())
    }

    fn attributes(&self) -> io::Result<Option<Attributes>> {
        let metadata = self.file.metadata()?;
        Ok(Some(Attributes {
            owner: metadata.uid(),
            group: metadata.gid(),
            mode: metadata.mode() & 0o7777,
            access_list: extended::access_list(&self.file)?,
            extended: extended::of_users(&self.file)?,
        }))
    }

    fn set_attributes(&self, attributes: Attributes) -> io::Result<()> {
        let metadata = self.file.metadata()?;
        // Whose it is already need not be allowed to be given away.
        let owner = (metadata.uid() != attributes.owner).then_some(attributes.owner);
        let group = (metadata.gid() != attributes.group).then_some(attributes.group);
        if owner.is_some() || group.is_some() {
            fchown(&self.file, owner, group)?;
        }
        extended::set_of_users(&self.file, &attributes.extended)?;
        // Before the mode: its group bits are the mask of a list, and the file may have inherited another list from
        // its directory. Until here only the owner has access.
        extended::set_access_list(&self.file, attributes.access_list.as_deref())?;
        let permissions = fs::Permissions::from_mode(attributes.mode);
        self.file.set_permissions(permissions)
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.file.set_permissions(fs::Permissions::from_mode(mode))
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < out.len() {
            match self
                .file
                .read_at(&mut out[filled..], offset + filled as u64)
            {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        check_size_limit(offset.saturating_add(bytes.len() as u64))?;
        self.file.write_all_at(bytes, offset)
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        let old_size = self.size()?;
        if size <= old_size {
            return Ok(());
        }
        check_size_limit(size)?;
        #[cfg(target_os = "linux")]
        match rustix::fs::fallocate(
            &self.file,
            rustix::fs::FallocateFlags::empty(),
            old_size,
            size - old_size,
        ) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.write_zeros(old_size, size)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        // Linux's fdatasync carries a changed size through as well; macOS has F_FULLFSYNC.
        or_fsync(&self.file, self.file.sync_data())
    }

    fn map(&self, len: u64) -> io::Result<Mapping> {
        let file_bytes = self.size()?;
        match lock::reopen(&self.file, Access::Read) {
            Ok(file) => Mapping::of_file(&file, len, file_bytes),
            Err(_) => Mapping::of_file(&self.file, len, file_bytes),
        }
    }

    #[cfg(target_os = "linux")]
    fn window(&self, start: u64, len: usize) -> Option<Window> {
        if !self.can_be_written_mapped() {
            return None;
        }
        // The file may have holes, as a copy of it that was made to be small.
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&self.file, flags, start, len as u64).ok()?;
        match lock::reopen(&self.file, Access::ReadWrite) {
            Ok(file) => Window::of_file(&file, start, len).ok(),
            Err(_) => Window::of_file(&self.file, start, len).ok(),
        }
    }

    fn try_lock(&self, byte: LockByte, mode: LockMode) -> io::Result<bool> {
        lock::try_lock_file(&self.file, byte, mode)
    }

    fn unlock(&self, byte: LockByte) -> io::Result<()> {
        lock::unlock_file(&self.file, byte)
    }
}

impl DiskFile {
    pub(super) fn new(file: File) -> DiskFile {
        DiskFile {
            _left_in_parent: LeftInParent::new(&file),
            file,
        }
    }

    /// Whether space that the file has stays its own, so that a write to a page of it cannot run out of space. Where a page is copied to
    /// another place when it is written (btrfs, zfs, xfs with reflinks) it can.
    #[cfg(target_os = "linux")]
    fn can_be_written_mapped(&self) -> bool {
        // ext2 to ext4, of which only the last can allocate ahead; tmpfs.
        const SAFE: [u32; 2] = [0xef53, 0x0102_1994];
        self.file_system().is_ok_and(|magic| SAFE.contains(&magic))
    }

    /// The file system that the file is on, by the number that Linux gives it (statfs(2)).
    #[cfg(target_os = "linux")]
    fn file_system(&self) -> io::Result<u32> {
        let status = rustix::fs::fstatfs(&self.file)?;
        // The type's width differs between architectures; the numbers fit into 32 bits.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let magic = status.f_type as u32;
        Ok(magic)
    }

    /// Takes space the portable way: bytes that were written have it.
    fn write_zeros(&self, from: u64, to: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let mut offset = from;
        while offset < to {
            let count = (to - offset).min(ZEROS.len() as u64);
            self.file.write_all_at(
                &ZEROS[..usize::try_from(count).unwrap_or(ZEROS.len())],
                offset,
            )?;
            offset += count;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{network_file_system, network_file_system_named};

    #[test]
    fn network_file_systems_are_told_from_local_ones() {
        assert_eq!(network_file_system(0x6969), Some("NFS"));
        assert_eq!(network_file_system(0xff53_4d42), Some("CIFS"));
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994] {
            assert_eq!(network_file_system(local), None, "{local:x}");
        }
        assert_eq!(network_file_system_named(b"smbfs"), Some("SMB"));
        for local in [&b"apfs"[..], b"hfs", b"ufs", b"zfs", b""] {
            assert_eq!(network_file_system_named(local), None, "{local:?}");
        }
    }
}
