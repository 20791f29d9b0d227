//! Locks between processes: byte ranges of the file, held by the open file description.
//!
//! Invariants:
//!
//! 1. A lock belongs to one open file description, neither to a process (as POSIX record locks,
//!    which closing any descriptor of the file drops) nor to the file's contents (as a mutex in
//!    the file, which dies with its holder). The kernel releases it when the last descriptor
//!    goes, however the process ends.
//! 2. The bytes lie far beyond any file's end, so that no lock covers data.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::time::Duration;

use super::{Access, StorageFile};
use crate::clock::Patience;
use crate::sync::atomic::{AtomicI32, Ordering};
use crate::sync::{Once, Word};

/// Whether the system may have open-file-description locks, which several handles of one file need.
/// On macOS the version decides, see [`StorageFile::has_description_locks`].
pub(crate) const CAN_SHARE: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple"
));

/// What a lock is for. Where one handle needs several, it takes them in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LockByte {
    /// Held by a handle that compacts or repairs the file.
    Compaction,
    /// Held while the file is synced and its slots are written by one of several handles.
    Sync,
    /// Held while the log is appended to.
    Writer,
    /// Held shared by every handle; only a handle that holds it exclusively may truncate the file.
    Users,
}

impl LockByte {
    #[cfg(feature = "simulation")]
    pub(super) const ALL: [LockByte; 4] = [
        LockByte::Compaction,
        LockByte::Sync,
        LockByte::Writer,
        LockByte::Users,
    ];

    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    fn offset(self) -> i64 {
        // 2^62: invariant 2.
        (1 << 62) + self as i64
    }

    /// As messages call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            LockByte::Compaction => "compaction",
            LockByte::Sync => "sync",
            LockByte::Writer => "writer",
            LockByte::Users => "users",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockMode {
    Shared,
    Exclusive,
}

/// Acquires a lock, and waits for it as long as `patience` lasts. Returns whether it was acquired.
pub(crate) fn acquire(
    file: &dyn StorageFile,
    byte: LockByte,
    mode: LockMode,
    patience: &mut Patience,
) -> io::Result<bool> {
    const LONGEST_PAUSE: Duration = Duration::from_millis(5);
    wait_for(file, byte, mode, patience, |_| LONGEST_PAUSE, &mut || {})
}

/// Acquires an exclusive lock, and calls `ask` each time that it is not free.
///
/// Polls more often than [`acquire`], since the holder gives the lock up when it is asked; and more
/// often the longer it waits, so that waiters are served roughly in order.
pub(crate) fn acquire_asking(
    file: &dyn StorageFile,
    byte: LockByte,
    patience: &mut Patience,
    ask: &mut dyn FnMut(),
) -> io::Result<bool> {
    const SHORT_WAIT: Duration = Duration::from_millis(10);
    let longest_pause = |waited: Duration| match waited < SHORT_WAIT {
        true => Duration::from_micros(200),
        false => Duration::from_micros(20),
    };
    let mode = LockMode::Exclusive;
    wait_for(file, byte, mode, patience, longest_pause, ask)
}

fn wait_for(
    file: &dyn StorageFile,
    byte: LockByte,
    mode: LockMode,
    patience: &mut Patience,
    longest_pause: impl Fn(Duration) -> Duration,
    on_wait: &mut dyn FnMut(),
) -> io::Result<bool> {
    const FIRST_PAUSE: Duration = Duration::from_micros(20);
    let begun_after = patience.waited();
    let mut pause = FIRST_PAUSE;
    loop {
        if file.try_lock(byte, mode)? {
            return Ok(true);
        }
        if patience.is_over() {
            return Ok(false);
        }
        on_wait();
        // The kernel can wait for such a lock, but not for a bounded time.
        patience.sleep(pause);
        pause = (pause * 2).min(longest_pause(patience.waited() - begun_after));
    }
}

/// How often this process has been the child of a fork, as far as it knows: a handle that was opened under
/// another number belongs to the parent, and its locks do too.
pub(crate) fn fork_count() -> u64 {
    static REGISTER: Once = Once::new();
    REGISTER.call_once(|| {
        // SAFETY: the handler works on atomic numbers and makes system calls, which is allowed in the child of
        // a process with several threads. The test `a_forked_child_is_told_from_its_parent` would notice a handler
        // that does not run.
        unsafe {
            libc::pthread_atfork(None, None, Some(count_fork));
        }
    });
    FORK_COUNT.load(Ordering::Relaxed)
}

/// Whether this process is the child of a fork since [`fork_count`] gave this number. The fast half of
/// it, for every call on a handle.
pub(crate) fn has_forked_since(count: u64) -> bool {
    FORK_COUNT.load(Ordering::Relaxed) != count
}

static FORK_COUNT: Word = Word::new(0);

extern "C" fn count_fork() {
    FORK_COUNT.fetch_add(1, Ordering::Relaxed);
    leave_files();
}

/// Opens a file once more, for a mapping of it. A mapping keeps the description alive that it was made
/// with, and that one's locks: in the child of a fork a value that is kept would keep the parent's.
///
/// Fails where /proc is not there, or the file may not be opened any more.
pub(super) fn reopen(file: &File, access: Access) -> io::Result<File> {
    use std::os::fd::AsRawFd;

    File::options()
        .read(true)
        .write(access == Access::ReadWrite)
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// How many files of a process lose their descriptors in the child of a fork. Those beyond it are kept there.
const MAX_LEFT_FILES: usize = 1_024;

/// The descriptors that the child of a fork closes, each with 1 added; 0 is a free place. An array of
/// atomic numbers, since the child must not wait for a lock or ask for memory.
static LEFT_FILES: [AtomicI32; MAX_LEFT_FILES] = [const { AtomicI32::new(0) }; MAX_LEFT_FILES];

/// Closes a descriptor in every child that is forked while this lives. A child would keep the locks of the
/// open file description beyond the death of the parent, and nothing in the child may use the file:
/// [`Error::Forked`](crate::Error::Forked). No drop of the child could do it, since threads of the
/// parent that are not there may own the handle, too.
///
/// Must be dropped before the descriptor is closed.
#[derive(Debug)]
pub(super) struct LeftInParent {
    place: Option<&'static AtomicI32>,
}

impl LeftInParent {
    pub(super) fn new(file: &File) -> LeftInParent {
        use std::os::fd::AsRawFd;

        fork_count(); // Registers the handler.
        let descriptor = file.as_raw_fd() + 1;
        let place = LEFT_FILES.iter().find(|place| {
            let taken = place.compare_exchange(0, descriptor, Ordering::Relaxed, Ordering::Relaxed);
            taken.is_ok()
        });
        LeftInParent { place }
    }
}

impl Drop for LeftInParent {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            place.store(0, Ordering::Relaxed);
        }
    }
}

/// Makes each descriptor of [`LEFT_FILES`] one of the root directory, which closes the file behind it. Its
/// number stays taken until its owner is dropped, so that the owner closes no other file then.
fn leave_files() {
    let is_taken = |place: &&AtomicI32| place.load(Ordering::Relaxed) != 0;
    if !LEFT_FILES.iter().any(|place| is_taken(&place)) {
        return;
    }
    // SAFETY: open(2), dup3(2), dup2(2), fcntl(2) and close(2) are allowed in the child of a process with several
    // threads. The path is a C string. Each descriptor that is replaced is open and belongs to a
    // `DiskFile`, which takes it out of the array before it closes it.
    unsafe {
        let root = libc::open(c"/".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if root < 0 {
            return;
        }
        for place in LEFT_FILES.iter().filter(is_taken) {
            let descriptor = place.load(Ordering::Relaxed) - 1;
            #[cfg(target_os = "linux")]
            libc::dup3(root, descriptor, libc::O_CLOEXEC);
            #[cfg(not(target_os = "linux"))]
            if libc::dup2(root, descriptor) >= 0 {
                libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
        libc::close(root);
    }
}

/// What to do to a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LockAction {
    Lock(LockMode),
    Unlock,
}

pub(super) fn try_lock_file(file: &File, byte: LockByte, mode: LockMode) -> io::Result<bool> {
    match set_lock(file, byte, LockAction::Lock(mode)) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn unlock_file(file: &File, byte: LockByte) -> io::Result<()> {
    set_lock(file, byte, LockAction::Unlock)
}

/// Whether the system has open-file-description locks: Linux and Android always, macOS from
/// version 14 on (fcntl(2) there). An older macOS refuses the call with `EINVAL`.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn has_description_locks(_: &File) -> bool {
    true
}

#[cfg(target_vendor = "apple")]
pub(super) fn has_description_locks(file: &File) -> bool {
    set_description_lock(file, LockByte::Compaction, LockAction::Unlock).is_ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub(super) fn has_description_locks(_: &File) -> bool {
    false
}

#[cfg(any(target_os = "linux", target_os = "android"))]
use set_description_lock as set_lock;

#[cfg(target_vendor = "apple")]
fn set_lock(file: &File, byte: LockByte, action: LockAction) -> io::Result<()> {
    match set_description_lock(file, byte, action) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            set_file_lock(file, byte, action)
        }
        done => done,
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
use set_file_lock as set_lock;

/// Sets a lock of the open file description on one byte.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn set_description_lock(file: &File, byte: LockByte, action: LockAction) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    // SAFETY: `flock` is a C struct of integers, for which all zeros is a value.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    // The constants are at most 3. Their type is `c_int` on Linux and `c_short` on macOS, where the
    // casts do nothing.
    #[allow(clippy::cast_possible_truncation, clippy::unnecessary_cast)]
    {
        range.l_type = match action {
            LockAction::Lock(LockMode::Shared) => libc::F_RDLCK as libc::c_short,
            LockAction::Lock(LockMode::Exclusive) => libc::F_WRLCK as libc::c_short,
            LockAction::Unlock => libc::F_UNLCK as libc::c_short,
        };
        range.l_whence = libc::SEEK_SET as libc::c_short;
    }
    range.l_start = byte.offset();
    range.l_len = 1;
    loop {
        // SAFETY: the descriptor is open for as long as `file` is borrowed, and the kernel reads
        // the struct during the call only. The test
        // `a_lock_excludes_other_handles_and_ends_with_its_own` would notice a wrong struct.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &range) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Sets a lock on the whole file in place of the writer lock, which keeps two handles apart. The
/// other locks do nothing: without open-file-description locks only one handle opens the file.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_file_lock(file: &File, byte: LockByte, action: LockAction) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    if byte != LockByte::Writer {
        return Ok(());
    }
    let operation = match action {
        LockAction::Lock(LockMode::Shared) => libc::LOCK_SH | libc::LOCK_NB,
        LockAction::Lock(LockMode::Exclusive) => libc::LOCK_EX | libc::LOCK_NB,
        LockAction::Unlock => libc::LOCK_UN,
    };
    // SAFETY: the descriptor is open for as long as `file` is borrowed.
    match unsafe { libc::flock(file.as_raw_fd(), operation) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Duration;

    use super::fork_count;
    use crate::{Db, Durability, Error};

    /// Runs `child` in a forked child and returns whether it returned true. The child has this one
    /// thread: it must not wait for a lock that another thread may have held.
    fn is_true_in_child(child: impl FnOnce() -> bool) -> bool {
        // SAFETY: the child ends without running anything of the parent's.
        let id = unsafe { libc::fork() };
        assert!(id >= 0);
        if id == 0 {
            let fine = child();
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(if fine { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: `status` lives throughout the call.
        let waited = unsafe { libc::waitpid(id, &raw mut status, 0) };
        assert_eq!(waited, id);
        status == 0
    }

    /// How many descriptors and mappings of a file this process has.
    #[cfg(target_os = "linux")]
    fn descriptors_and_mappings(path: &std::path::Path) -> (usize, usize) {
        use std::os::unix::fs::MetadataExt;

        let inode = std::fs::metadata(path).unwrap().ino();
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let open = open.filter_map(|entry| std::fs::metadata(entry.ok()?.path()).ok());
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        // Address, permissions, offset, device, inode, and the path that it had.
        let maps = maps.lines().filter(|line| {
            let field = line.split_whitespace().nth(4);
            field.is_some_and(|field| field == inode.to_string())
        });
        let open = open.filter(|metadata| metadata.ino() == inode);
        (open.count(), maps.count())
    }

    /// The child kept the descriptor, and with it the parent's locks.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_forked_child_that_drops_the_handle_keeps_nothing_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let durabilities = [
            Durability::Os,
            Durability::Always,
            Durability::Interval(Duration::from_secs(3_600)),
        ];
        for (number, durability) in (0..).zip(durabilities) {
            for (exclusive, read_only) in
                [(true, false), (false, false), (false, true), (true, true)]
            {
                let name = format!("{number}-{exclusive}-{read_only}.brasa");
                let path = directory.path().canonicalize().unwrap().join(name);
                drop(Db::open(&path).unwrap());
                let options = Db::options().durability(durability).exclusive(exclusive);
                let db = options.read_only(read_only).open(&path).unwrap();
                // So many that it has a lease, threads and a window.
                for number in 0..if read_only { 0 } else { 300 } {
                    db.set("key", [b'v'; 200]).unwrap();
                    assert!(db.len().unwrap() == 1, "{number}");
                }
                let clone = db.clone();
                // The keeper of a lease may be at work, and own the mapping, when the process forks.
                let is_idle = exclusive || read_only;
                let is_free = is_true_in_child(|| {
                    drop(db.clone());
                    // SAFETY: the parent's handles are not used by the child any more: these are
                    // copies of its own, and the parent's are in another process.
                    let (db, clone) = unsafe { (std::ptr::read(&db), std::ptr::read(&clone)) };
                    drop(db);
                    drop(clone);
                    let (descriptors, mappings) = descriptors_and_mappings(&path);
                    descriptors == 0 && (mappings == 0 || !is_idle)
                });
                assert!(is_free, "{durability:?} {exclusive} {read_only}");
                // The parent has lost nothing.
                assert!(descriptors_and_mappings(&path).1 > 0);
                let impatient = Db::options().lock_timeout(Duration::from_millis(1));
                let other = impatient.open(&path).unwrap();
                if exclusive {
                    assert!(matches!(
                        other.set("key", "other"),
                        Err(Error::Locked { .. })
                    ));
                } else if !read_only {
                    db.set("key", "parent").unwrap();
                    assert_eq!(other.get("key").unwrap().unwrap(), "parent");
                }
            }
        }
    }

    /// Closing in the child must neither sync, trim nor unlock: the file is the parent's.
    #[test]
    fn handle_that_a_forked_child_closes_is_closed_without_an_error_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let durabilities = [
            Durability::Os,
            Durability::Always,
            Durability::Interval(Duration::from_secs(3_600)),
        ];
        for durability in durabilities {
            for exclusive in [true, false] {
                let told = format!("{durability:?} {exclusive}");
                let path = directory.path().join(&told);
                let options = Db::options().durability(durability).exclusive(exclusive);
                let db = options.open(&path).unwrap();
                for _ in 0..300 {
                    db.set("key", [b'v'; 200]).unwrap();
                }
                let before = std::fs::read(&path).unwrap();
                let is_fine = is_true_in_child(|| {
                    // SAFETY: the parent's handle is not used by the child any more: this is a copy
                    // of its own, and the parent's is in another process.
                    let db = unsafe { std::ptr::read(&db) };
                    db.close().is_ok() && std::fs::read(&path).is_ok_and(|after| after == before)
                });
                assert!(is_fine, "{told}");
                db.set("key", "parent").unwrap();
                db.close().unwrap();
            }
        }
    }

    /// A mapping keeps the locks of the description that it was made with.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_value_that_a_forked_child_keeps_stays_valid_and_keeps_no_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap().join("v.brasa");
        let (mut to_child, mut to_parent) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
        // The handle's process is a child itself, so that it can die before its own child.
        let is_fine = is_true_in_child(|| {
            let db = Db::options().exclusive(true).open(&path).unwrap();
            for _ in 0..300 {
                db.set("key", [b'v'; 200]).unwrap();
            }
            let value = db.get("key").unwrap().unwrap();
            // SAFETY: see `is_true_in_child`.
            let grandchild = unsafe { libc::fork() };
            if grandchild == 0 {
                drop(db);
                to_parent.1.write_all(b"d").unwrap();
                to_child.0.read_exact(&mut [0]).unwrap();
                let is_valid = value == [b'v'; 200];
                to_parent
                    .1
                    .write_all(if is_valid { b"v" } else { b"w" })
                    .unwrap();
                return is_valid;
            }
            // It ends here, as if it had been killed.
            std::mem::forget((db, value));
            grandchild > 0
        });
        assert!(is_fine);
        let mut said = [0];
        to_parent.0.read_exact(&mut said).unwrap();
        let impatient = Db::options().lock_timeout(Duration::from_millis(1));
        let other = impatient.open(&path).unwrap();
        let written = other.set("other", "1");
        to_child.1.write_all(b"g").unwrap();
        to_parent.0.read_exact(&mut said).unwrap();
        assert_eq!(said, *b"v", "the value is gone");
        written.unwrap();
    }

    /// Nor does a cache. Its threads have handles of their own.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_forked_child_that_drops_a_cache_keeps_nothing_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap().join("c.brasa");
        let cache = crate::Cache::options().open(&path).unwrap();
        for number in 0..300 {
            let name = format!("key {number}");
            let value = cache.get_or_insert_with(&name, || Ok::<_, Error>(vec![1_u8; 200]));
            assert_eq!(value.unwrap().len(), 200);
        }
        assert!(descriptors_and_mappings(&path).0 > 0);
        let is_free = is_true_in_child(|| {
            // SAFETY: as above.
            drop(unsafe { std::ptr::read(&cache) });
            descriptors_and_mappings(&path).0 == 0
        });
        assert!(is_free);
        assert!(cache.get::<Vec<u8>>("key 1").unwrap().is_some());
    }

    /// A thread of the parent that owns the handle as well, and is within a write, is not there in the
    /// child to drop it.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_child_that_is_forked_while_another_thread_writes_keeps_no_descriptor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap().join("t.brasa");
        let db = Db::open(&path).unwrap();
        let (is_within, end) = (crate::sync::Barrier::new(2), crate::sync::Barrier::new(2));
        let is_free = crate::sync::thread::scope(|scope| {
            scope.spawn(|| {
                let written = db.transaction(|tx| {
                    tx.set("key", "1")?;
                    is_within.wait();
                    end.wait();
                    Ok::<_, Error>(())
                });
                written.unwrap();
            });
            is_within.wait();
            let is_free = is_true_in_child(|| {
                // SAFETY: see `a_forked_child_that_drops_the_handle_keeps_nothing_of_the_file`.
                drop(unsafe { std::ptr::read(&db) });
                let is_forked = matches!(db.get("key"), Err(Error::Forked { .. }));
                is_forked && descriptors_and_mappings(&path).0 == 0
            });
            end.wait();
            is_free
        });
        assert!(is_free);
        assert_eq!(db.get("key").unwrap().unwrap(), "1");
        db.close().unwrap();
    }

    /// The child committed what the closure had staged, and gave up the parent's writer lock.
    #[test]
    fn a_child_that_is_forked_within_a_closure_commits_nothing_and_unlocks_nothing() {
        let directory = tempfile::tempdir().unwrap();
        for durability in [Durability::Os, Durability::Always] {
            for writes_before in [0, 300] {
                let name = format!("{durability:?}-{writes_before}.brasa");
                let path = directory.path().join(name);
                let db = Db::options().durability(durability).open(&path).unwrap();
                let impatient = Db::options().lock_timeout(Duration::from_millis(1));
                let other = impatient.open(&path).unwrap();
                for _ in 0..writes_before {
                    db.set("key", "0").unwrap();
                }
                let mut parent = 0;
                let written = db.transaction(|tx| {
                    tx.set("key", "1")?;
                    let before = fork_count();
                    // SAFETY: the child returns from the transaction and ends.
                    parent = unsafe { libc::fork() };
                    assert!(parent >= 0);
                    if fork_count() != before {
                        return tx.set("key", "child");
                    }
                    let mut status = 0;
                    // SAFETY: `status` lives throughout the call.
                    unsafe { libc::waitpid(parent, &raw mut status, 0) };
                    assert_eq!(status, 0, "the child was not refused");
                    assert!(matches!(
                        other.set("key", "other"),
                        Err(Error::Reentered { .. })
                    ));
                    let held = crate::sync::thread::scope(|scope| {
                        let set = || other.set("key", "other");
                        scope.spawn(set).join().unwrap()
                    });
                    assert!(matches!(held, Err(Error::Locked { .. })), "{held:?}");
                    assert!(other.get("key")?.is_none_or(|value| value == "0"));
                    Ok(())
                });
                if parent == 0 {
                    let is_refused = matches!(written, Err(Error::Forked { .. }));
                    // SAFETY: ends the process at once.
                    unsafe { libc::_exit(i32::from(!is_refused)) };
                }
                written.unwrap();
                assert_eq!(other.get("key").unwrap().unwrap(), "1");
                db.set("key", "2").unwrap();
                db.close().unwrap();
            }
        }
    }

    /// In the child nothing is done but to count and to call: other threads, which may have held locks, are not there.
    #[test]
    fn a_forked_child_is_told_from_its_parent_and_refused() {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(directory.path().join("cache.brasa")).unwrap();
        // With a lease and with threads, if it can be.
        for number in 0..100_u32 {
            db.set("key", number.to_string()).unwrap();
        }
        let before = fork_count();
        // SAFETY: the child calls nothing that needs another thread, and ends without running anything of the parent's.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            let is_refused =
                |result: Result<(), Error>| matches!(result, Err(Error::Forked { .. }));
            let fine = fork_count() == before + 1
                && is_refused(db.set("key", "child"))
                && is_refused(db.get("key").map(drop))
                && is_refused(db.sync())
                && is_refused(db.compact().map(drop));
            // Must not unlock, sync or cut anything.
            drop(db);
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(if fine { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: `status` lives throughout the call.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!((waited, status), (child, 0), "the child was not refused");
        assert_eq!(fork_count(), before);
        db.set("key", "parent").unwrap();
        assert_eq!(db.get("key").unwrap().unwrap(), "parent");
        db.close().unwrap();
    }
}
