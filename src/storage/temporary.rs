//! New files on the real disk, before they have their name.
//!
//! If the file system supports it, a file has no name until it gets its final one (`O_TMPFILE`),
//! and the kernel frees it when its process dies. Otherwise, and if the file stays open after it
//! has replaced another one, its name has the form `.brasa-XXXXXXXXXXXXXXXX.new`. The length of
//! that name does not depend on the file's. A killed process leaves such a file behind, and the
//! next process that needs such a name removes it.
//!
//! Invariant: a process with such a file holds the compaction lock on it. It acquires the lock
//! before the name exists, or at least before it writes, and keeps it until the name is gone. So a
//! file with a free lock is abandoned.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::disk::{DiskFile, directory_of, id_of};
use super::{LockByte, LockMode, StorageFile, TemporaryFile};
use crate::sync::Arc;

const PREFIX: &str = ".brasa-";
const SUFFIX: &str = ".new";
const RANDOM_CHARACTERS: usize = 16;

/// How often a name is drawn again because another process swept it before it was locked.
const MAX_ATTEMPTS: usize = 8;

#[derive(Debug)]
pub(super) struct DiskTemporary {
    file: Arc<DiskFile>,
    directory: PathBuf,
    /// `None` while the file has no name.
    name: Option<TempPath>,
}

impl DiskTemporary {
    /// Creates a file in the directory of `path`, which only its owner may read.
    pub(super) fn create(path: &Path) -> io::Result<DiskTemporary> {
        let directory = directory_of(path);
        match create_nameless(directory) {
            Some(file) => Ok(DiskTemporary {
                file: Arc::new(DiskFile::new(file)),
                directory: directory.to_owned(),
                name: None,
            }),
            None => DiskTemporary::create_named(directory),
        }
    }

    /// Creates a file that has a name from the start.
    pub(super) fn create_named(directory: &Path) -> io::Result<DiskTemporary> {
        sweep(directory);
        for _ in 0..MAX_ATTEMPTS {
            let (file, name) = builder().tempfile_in(directory)?.into_parts();
            let file = Arc::new(DiskFile::new(file));
            // A sweeping process may have been faster with the lock.
            if file.try_lock(LockByte::Compaction, LockMode::Exclusive)? && file.link_count()? == 1
            {
                return Ok(DiskTemporary {
                    file,
                    directory: directory.to_owned(),
                    name: Some(name),
                });
            }
        }
        Err(io::Error::other(
            "other processes repeatedly removed the temporary file; try again",
        ))
    }

    /// Gives the file a name that it can be renamed from.
    fn take_name(&mut self) -> io::Result<TempPath> {
        if let Some(name) = self.name.take() {
            return Ok(name);
        }
        self.file
            .try_lock(LockByte::Compaction, LockMode::Exclusive)?;
        sweep(&self.directory);
        let link = |name: &Path| link_nameless(&self.file.file, name);
        let named = builder().make_in(&self.directory, link)?;
        Ok(named.into_temp_path())
    }

    fn unlock(&self) {
        // If it fails, closing the file releases it.
        let _ = self.file.unlock(LockByte::Compaction);
    }
}

impl TemporaryFile for DiskTemporary {
    fn file(&self) -> Arc<dyn StorageFile> {
        Arc::clone(&self.file) as Arc<dyn StorageFile>
    }

    fn persist_new(mut self: Box<Self>, path: &Path) -> io::Result<()> {
        match self.name.take() {
            None => link_nameless(&self.file.file, path)?,
            Some(name) => name
                .persist_noclobber(path)
                .map_err(|refused| refused.error)?,
        }
        self.unlock();
        Ok(())
    }

    fn replace(mut self: Box<Self>, path: &Path) -> io::Result<()> {
        let name = self.take_name()?;
        name.persist(path).map_err(|refused| refused.error)?;
        self.unlock();
        Ok(())
    }
}

fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder
        .prefix(PREFIX)
        .suffix(SUFFIX)
        .rand_bytes(RANDOM_CHARACTERS);
    builder
}

/// `None` where the file system cannot, or the file could not be given a name later.
#[cfg(target_os = "linux")]
fn create_nameless(directory: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags, open};

    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(open(directory, flags, Mode::RUSR | Mode::WUSR).ok()?);
    // Without `/proc` it could not be linked.
    fs::symlink_metadata(descriptor_path(&file)).ok()?;
    Some(file)
}

#[cfg(target_os = "linux")]
fn link_nameless(file: &File, name: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};

    let descriptor = descriptor_path(file);
    linkat(CWD, descriptor, CWD, name, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
}

#[cfg(target_os = "linux")]
fn descriptor_path(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;

    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(not(target_os = "linux"))]
fn create_nameless(_directory: &Path) -> Option<File> {
    None
}

#[cfg(not(target_os = "linux"))]
fn link_nameless(_file: &File, _name: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Removes the temporary files that killed processes have left in a directory. Failures leave them.
fn sweep(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(is_temporary_name) {
            let _ = remove_if_stale(&entry.path());
        }
    }
}

fn is_temporary_name(name: &str) -> bool {
    let random = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.strip_suffix(SUFFIX));
    random.is_some_and(|random| {
        random.len() == RANDOM_CHARACTERS && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

fn remove_if_stale(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        // Another user may have put a link or a pipe there.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path)?;
    let metadata = file.metadata()?;
    let is_ours = metadata.is_file() && metadata.uid() == rustix::process::geteuid().as_raw();
    let file = DiskFile::new(file);
    if is_ours
        // Without them nothing says whether the file's process is alive.
        && file.has_description_locks()
        && file.try_lock(LockByte::Compaction, LockMode::Exclusive)?
        // Its process may have renamed it before it released the lock.
        && id_of(&fs::symlink_metadata(path)?) == id_of(&metadata)
    {
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn temporary_file_leaves_nothing_when_it_is_dropped_or_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for create in [DiskTemporary::create, |path: &Path| {
            DiskTemporary::create_named(directory_of(path))
        }] {
            drop(create(&path).unwrap());
            assert!(names(directory.path()).is_empty());
            Box::new(create(&path).unwrap()).persist_new(&path).unwrap();
            assert_eq!(names(directory.path()), ["file"]);
            let refused = Box::new(create(&path).unwrap()).persist_new(&path);
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            let second = create(&path).unwrap();
            second.file.write_at(b"second", 0).unwrap();
            let file = Arc::clone(&second.file);
            Box::new(second).replace(&path).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"second");
            assert_eq!(names(directory.path()), ["file"]);
            // Nothing keeps the next compaction from its lock.
            let other = DiskFile::new(File::options().read(true).write(true).open(&path).unwrap());
            assert!(
                other
                    .try_lock(LockByte::Compaction, LockMode::Exclusive)
                    .unwrap()
            );
            drop((other, file));
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn only_names_of_dead_processes_are_swept() {
        let directory = tempfile::tempdir().unwrap();
        let alive = DiskTemporary::create_named(directory.path()).unwrap();
        let alive_name = names(directory.path()).remove(0);
        // As a process that was killed leaves one, and files of others that look alike.
        let stale = ".brasa-0123456789abcdef.new";
        let kept = [
            ".brasa-0123456789abcde.new",
            ".brasa-0123456789abcde_.new",
            ".brasa-cache",
        ];
        for name in kept.into_iter().chain([stale]) {
            fs::write(directory.path().join(name), "").unwrap();
        }
        std::os::unix::fs::symlink(
            "target",
            directory.path().join(".brasa-fedcba9876543210.new"),
        )
        .unwrap();
        let second = DiskTemporary::create_named(directory.path()).unwrap();
        let left = names(directory.path());
        assert!(!left.contains(&stale.to_owned()), "{left:?}");
        assert!(left.contains(&alive_name), "{left:?}");
        assert_eq!(left.len(), kept.len() + 3, "{left:?}");
        drop((alive, second));
        assert_eq!(names(directory.path()).len(), kept.len() + 1);
    }
}
