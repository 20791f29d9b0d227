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
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::StorageFile;

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
    /// Held by whoever rewrites the file.
    Compaction,
    /// Held while the file is synced and its slots are written by one of several handles.
    Sync,
    /// Held while the log is appended to.
    Writer,
    /// Held shared by every handle: who has it alone may cut the file.
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

/// Takes a lock, and waits for it at most this long; gives back whether it was had.
pub(crate) fn acquire(
    file: &dyn StorageFile,
    byte: LockByte,
    mode: LockMode,
    timeout: Duration,
) -> io::Result<bool> {
    const LONGEST_PAUSE: Duration = Duration::from_millis(5);
    wait_for(file, byte, mode, timeout, |_| LONGEST_PAUSE, &mut || {})
}

/// Takes a lock alone, and calls `ask` each time that it is not to be had. It is looked for more often than by
/// [`acquire`], since whoever has it gives it up when asked; and the more often, the longer it was waited for: who
/// comes late is to be late for it.
pub(crate) fn acquire_asking(
    file: &dyn StorageFile,
    byte: LockByte,
    timeout: Duration,
    ask: &mut dyn FnMut(),
) -> io::Result<bool> {
    const PATIENCE: Duration = Duration::from_millis(10);
    let longest_pause = |waited: Duration| match waited < PATIENCE {
        true => Duration::from_micros(200),
        false => Duration::from_micros(20),
    };
    wait_for(file, byte, LockMode::Exclusive, timeout, longest_pause, ask)
}

fn wait_for(
    file: &dyn StorageFile,
    byte: LockByte,
    mode: LockMode,
    timeout: Duration,
    longest_pause: impl Fn(Duration) -> Duration,
    on_wait: &mut dyn FnMut(),
) -> io::Result<bool> {
    const FIRST_PAUSE: Duration = Duration::from_micros(20);
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        if file.try_lock(byte, mode)? {
            return Ok(true);
        }
        let waited = begun.elapsed();
        let left = timeout.saturating_sub(waited);
        if left.is_zero() {
            return Ok(false);
        }
        on_wait();
        // The kernel can wait for such a lock, but not for a bounded time.
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(longest_pause(waited));
    }
}

/// How often this process has been the child of a fork, as far as it knows: a handle that was opened under
/// another number belongs to the parent, and its locks do too.
pub(crate) fn fork_count() -> u64 {
    static REGISTER: Once = Once::new();
    REGISTER.call_once(|| {
        // SAFETY: the handler does nothing but add to an atomic number, which is allowed in the child of a
        // process with several threads. The test `a_forked_child_is_told_from_its_parent` would notice a handler
        // that does not run.
        unsafe {
            libc::pthread_atfork(None, None, Some(count_fork));
        }
    });
    FORK_COUNT.load(Ordering::Relaxed)
}

static FORK_COUNT: AtomicU64 = AtomicU64::new(0);

extern "C" fn count_fork() {
    FORK_COUNT.fetch_add(1, Ordering::Relaxed);
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
    use super::fork_count;
    use crate::{Db, Error};

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
