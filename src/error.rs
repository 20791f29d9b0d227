//! One error type for the whole crate.
//!
//! A message says what was being done, to which file, at which offset, what
//! was expected and what was found, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong.
///
/// A key that is not there is no error: reading it gives `None`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on the file.
    Io {
        /// What was being done, as in "cannot {operation}".
        operation: &'static str,
        /// The file or directory it was done to.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another handle holds the file, and did not let go of it in time.
    Locked {
        /// The file.
        path: PathBuf,
        /// Which lock was waited for.
        lock: &'static str,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The file is there, and is something else.
    NotABrasaFile {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        found: String,
    },
    /// The file was written by a newer version of the format.
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// The file's version, major and minor.
        found: (u16, u16),
        /// The newest version that this build reads.
        supported: (u16, u16),
    },
    /// The file is damaged where it was known to be safely on the device.
    ///
    /// Nothing was changed.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the damage begins, in bytes from the start of the file.
        offset: u64,
        /// What was expected and what was found.
        reason: String,
    },
    /// A key, field, value or commit exceeds its limit. Nothing was written.
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its length in bytes.
        length: u64,
        /// The longest allowed, in bytes.
        limit: u64,
    },
    /// The key holds the other kind of value: a hash where a string was asked
    /// for, or the other way round. Nothing was written.
    WrongType,
    /// The string at the key is not a decimal 64-bit integer. Nothing was written.
    NotAnInteger,
    /// The value of the field is not a decimal 64-bit integer. Nothing was written.
    FieldNotAnInteger,
    /// The string at the key, or the increment, is not a decimal number. Nothing was written.
    NotAFloat,
    /// The value of the field is not a decimal number. Nothing was written.
    FieldNotAFloat,
    /// The sum is infinite. Nothing was written.
    NotFinite,
    /// What is to be added is infinite. Nothing was written.
    InfiniteIncrement,
    /// The sum does not fit in a signed 64-bit integer. Nothing was written.
    Overflow,
    /// The deadline is later than [`crate::limits::MAX_DEADLINE_MS`]. Nothing was written.
    DeadlineOutOfRange,
    /// There are 16 databases, numbered from 0.
    NoSuchDatabase {
        /// The number that was asked for.
        number: u64,
    },
    /// The device is full. Nothing was written; everything earlier is still
    /// there, and reads, deletions and `clear` go on.
    DiskFull {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// How many more bytes the operation needed than there were.
        needed: u64,
    },
    /// The file cannot be rewritten where it stands. Nothing was changed.
    CannotCompact {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The write would exceed the budget that [`Options::max_bytes`](crate::Options::max_bytes) has set, and
    /// nothing may be evicted for it, or it would not fit into an empty file. Nothing was written.
    OverBudget {
        /// The file.
        path: PathBuf,
        /// How many live bytes the file would hold after the write.
        needed: u64,
        /// The budget.
        max_bytes: u64,
    },
    /// The file has been removed, or has lost its name, since it was opened. Nothing was written.
    Removed {
        /// The path that it had.
        path: PathBuf,
    },
    /// The file has been overwritten in place since it was opened, by `cp` over it for example. Nothing
    /// was done: the handle works on the file no more.
    Overwritten {
        /// The file.
        path: PathBuf,
    },
    /// The handle was inherited by the child of a fork. Nothing was done.
    Forked {
        /// The file.
        path: PathBuf,
    },
    /// A call on a file was made from within the closure of a write to it, [`Db::update`](crate::Db::update) for example, and
    /// would have waited for that write: a write, a sync, a checkpoint, a compaction or an exclusive opening. Or a compaction
    /// or a checkpoint was begun from within the progress of a compaction. Nothing was done.
    Reentered {
        /// The file.
        path: PathBuf,
    },
    /// The cache works in memory, since its file or server could not be opened
    /// ([`Cache::degraded`](crate::Cache::degraded)). The change was made in the memory of this process
    /// alone: other processes, and this program when it runs again, do not see it.
    FellBack {
        /// Why the file or server could not be opened.
        reason: String,
    },
    /// The handle belongs to a transaction that is over: it was kept beyond the closure of [`Db::transaction`](crate::Db::transaction).
    /// Nothing was done.
    TransactionOver {
        /// The file.
        path: PathBuf,
    },
    /// A key was to be copied or moved to a handle on another file, which cannot be one commit.
    /// Nothing was written.
    OtherFile {
        /// The file that has the key.
        path: PathBuf,
        /// The file that it was to be copied to.
        other: PathBuf,
    },
    /// The file is on a network file system, where several processes cannot share it safely.
    NotLocal {
        /// The file.
        path: PathBuf,
        /// The file system.
        file_system: &'static str,
    },
    /// The handle, or the file, allows no writing.
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// A value cannot be encoded for the cache. Nothing was written.
    Encoding {
        /// The value's type.
        type_name: &'static str,
        /// Why not.
        reason: String,
    },
    /// A server refused something, or cannot be reached.
    Remote {
        /// What was being done, as in "cannot {operation}".
        operation: &'static str,
        /// The server's address, without its password.
        address: String,
        /// What it said.
        reason: String,
    },
    /// An earlier sync of this file failed, so that nothing more may be
    /// acknowledged on it. Reads go on.
    Poisoned {
        /// The file.
        path: PathBuf,
        /// What failed.
        reason: String,
    },
}

impl Error {
    /// Turns an error of the operating system into one of ours, to be used with `map_err`.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io {
            operation,
            path,
            source,
        }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, reason: impl Into<String>) -> Error {
        Error::Corrupt {
            path: path.to_owned(),
            offset,
            reason: reason.into(),
        }
    }
}

/// What to do about an error of the operating system, where that can be told.
fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "; check the path, its directory must exist",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; check the permissions, or open it for reading only"
        }
        io::ErrorKind::IsADirectory => "; give the path of a file",
        io::ErrorKind::StorageFull => "; free some space",
        _ => "",
    }
}

/// Fails with [`Error::TooLarge`] where `length` exceeds `limit`.
pub(crate) fn check_length(what: &'static str, length: usize, limit: usize) -> Result<()> {
    if length <= limit {
        return Ok(());
    }
    Err(Error::TooLarge {
        what,
        length: length as u64,
        limit: limit as u64,
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io {
                operation,
                path,
                source,
            } => write!(
                f,
                "cannot {operation} {}: {source}{}",
                path.display(),
                advice(source.kind())
            ),
            Error::Locked { path, lock, waited } => write!(
                f,
                "{} is in use: another handle still held its {lock} lock after {} ms; \
                 close the other program or raise the lock timeout",
                path.display(),
                waited.as_millis()
            ),
            Error::NotABrasaFile { path, found } => write!(
                f,
                "{} is not a brasa file: {found}; it was left as it is, choose another path",
                path.display()
            ),
            Error::UnsupportedVersion {
                path,
                found,
                supported,
            } => write!(
                f,
                "{} has format version {}.{}, and this build reads up to {}.{}; \
                 upgrade the program that opens it",
                path.display(),
                found.0,
                found.1,
                supported.0,
                supported.1
            ),
            Error::Corrupt {
                path,
                offset,
                reason,
            } => write!(
                f,
                "{} is damaged at offset {offset}: {reason}; nothing was changed, \
                 `brasa check` names the damage, `brasa repair` saves the rest",
                path.display()
            ),
            Error::TooLarge {
                what,
                length,
                limit,
            } => write!(f, "{what} of {length} bytes exceeds the limit of {limit}"),
            Error::WrongType => f.write_str("the key holds the wrong kind of value"),
            Error::NotAnInteger => f.write_str("value is not an integer or out of range"),
            Error::FieldNotAnInteger => f.write_str("hash value is not an integer"),
            Error::NotAFloat => f.write_str("value is not a valid float"),
            Error::FieldNotAFloat => f.write_str("hash value is not a float"),
            Error::NotFinite => f.write_str("increment would produce NaN or Infinity"),
            Error::InfiniteIncrement => f.write_str("value is NaN or Infinity"),
            Error::Overflow => f.write_str("increment or decrement would overflow"),
            Error::DeadlineOutOfRange => {
                f.write_str("the deadline is too far in the future to be stored")
            }
            Error::NoSuchDatabase { number } => {
                write!(f, "there is no database {number}: they go from 0 to 15")
            }
            Error::DiskFull {
                operation,
                path,
                needed,
            } => write!(
                f,
                "cannot {operation} {}: the device is full, {needed} more bytes are needed; \
                 nothing was written; free some space, or delete keys or clear",
                path.display()
            ),
            Error::Removed { path } => write!(
                f,
                "{} has been removed since it was opened; nothing was written, open it again",
                path.display()
            ),
            Error::Overwritten { path } => write!(
                f,
                "the file at {} was overwritten in place since it was opened (cp over it?); nothing was \
                 written, open it again; to replace a file in use, `mv` the new one over it",
                path.display()
            ),
            Error::Forked { path } => write!(
                f,
                "this handle on {} belongs to the parent process; open the file again in the child",
                path.display()
            ),
            Error::FellBack { reason } => write!(
                f,
                "the cache was changed in the memory of this process alone: {reason}"
            ),
            Error::TransactionOver { path } => write!(
                f,
                "the transaction on {} is over: use the handle that it was begun with",
                path.display()
            ),
            Error::Reentered { path } => write!(
                f,
                "{} is being written to or compacted by this very thread: a closure may read it, and change it by \
                 the handle that the closure is given; do the rest when the call is over",
                path.display()
            ),
            Error::OtherFile { path, other } => write!(
                f,
                "cannot copy or move a key from {} to {}: a commit cannot span two files; \
                 read the key from one and write it to the other",
                path.display(),
                other.display()
            ),
            Error::NotLocal { path, file_system } => write!(
                f,
                "{} is on a network file system ({file_system}), where processes cannot share it safely; \
                 move it to a local one, or open it exclusively from one host",
                path.display()
            ),
            Error::CannotCompact { path, reason } => {
                write!(f, "cannot compact {}: {reason}", path.display())
            }
            Error::OverBudget {
                path,
                needed,
                max_bytes,
            } => write!(
                f,
                "{} may hold {max_bytes} bytes, and with this write it would hold {needed}; nothing was \
                 written, delete keys or raise the limit",
                path.display()
            ),
            Error::Encoding { type_name, reason } => write!(
                f,
                "a value of type {type_name} cannot be encoded: {reason}; nothing was written"
            ),
            Error::Remote {
                operation,
                address,
                reason,
            } => write!(f, "cannot {operation} {address}: {reason}"),
            Error::ReadOnly { path } => {
                write!(f, "{} was opened for reading only", path.display())
            }
            Error::Poisoned { path, reason } => write!(
                f,
                "{} takes no more writes since a sync failed ({reason}); reads go on, \
                 `brasa repair` copies it into one that does",
                path.display()
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
