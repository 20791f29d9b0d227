//! The error type of the whole crate.
//!
//! Invariant: a message names the operation, the file, the offset, the expected and the found state
//! where they apply, and tells the user how to continue.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The result of an operation of this crate; [`Error`] has an example.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The errors of this crate, except those of a computation for a cache
/// ([`CacheError`](crate::CacheError)).
///
/// A missing key is not an error: reading it returns `None`. The messages are for users, and name
/// the file and the next step.
///
/// The enum is `#[non_exhaustive]`: later versions may add errors.
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// use brasa::{Db, Error};
/// let db = Db::in_memory()?;
/// db.set("pi", "3.21")?;
/// match db.incr_by("pi", 1) {
///     Ok(sum) => println!("{sum}"),
///     Err(Error::NotAnInteger) => println!("pi is not an integer"),
///     Err(error) => return Err(error),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on the file.
    Io {
        /// The operation, as in "cannot {operation}".
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Another handle still held a lock on the file at the end of the lock timeout.
    Locked {
        /// The file.
        path: PathBuf,
        /// The name of the lock.
        lock: &'static str,
        /// The time spent waiting.
        waited: Duration,
    },
    /// The file exists and has another format.
    NotABrasaFile {
        /// The file.
        path: PathBuf,
        /// The content that was found instead.
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
    /// The file is damaged before the position up to which it is known to be on the device. Nothing
    /// was changed.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The offset of the damage, in bytes from the start of the file.
        offset: u64,
        /// The expected and the found content.
        reason: String,
    },
    /// A key, field, value or commit exceeds its limit. Nothing was written.
    TooLarge {
        /// The name of the part that is too large.
        what: &'static str,
        /// Its length in bytes, or its number of parts.
        length: u64,
        /// The largest allowed length or number.
        limit: u64,
    },
    /// The key holds a hash where the call needs a string, or a string where it needs a hash.
    /// Nothing was written.
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
    /// The increment is infinite or not a number. Nothing was written.
    InfiniteIncrement,
    /// The sum does not fit in a signed 64-bit integer. Nothing was written.
    Overflow,
    /// The deadline is later than [`crate::limits::MAX_DEADLINE_MS`]. Nothing was written.
    DeadlineOutOfRange,
    /// The database number is not one of 0 to 15.
    NoSuchDatabase {
        /// The number of the call.
        number: u64,
    },
    /// The device is full. Nothing was written. Earlier data stays, and reads, deletions and
    /// `clear` still work.
    DiskFull {
        /// The operation, as in "cannot {operation}".
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The number of bytes that were missing.
        needed: u64,
    },
    /// The file cannot be compacted at this path. Nothing was changed.
    CannotCompact {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The write would exceed the budget of [`Options::max_bytes`](crate::Options::max_bytes), and
    /// eviction is off or cannot free enough. Nothing was written.
    OverBudget {
        /// The file.
        path: PathBuf,
        /// The live bytes that the file would hold after the write.
        needed: u64,
        /// The budget in bytes.
        max_bytes: u64,
    },
    /// The file was removed or renamed after it was opened. Nothing was written.
    Removed {
        /// The path at which the file was opened.
        path: PathBuf,
    },
    /// The file was overwritten in place after it was opened, for example by `cp`. Nothing was
    /// done, and the handle no longer works.
    Overwritten {
        /// The file.
        path: PathBuf,
    },
    /// The child of a fork used a handle of its parent. Nothing was done.
    Forked {
        /// The file.
        path: PathBuf,
    },
    /// A call within the closure of a write would have waited for that write. Nothing was done.
    ///
    /// Such closures are those of [`Db::update`](crate::Db::update) and
    /// [`Db::transaction`](crate::Db::transaction). Such calls are a write, a sync, a checkpoint, a
    /// compaction or an exclusive opening of the same file. The same holds for a compaction or a
    /// checkpoint within the progress callback of a compaction.
    Reentered {
        /// The file.
        path: PathBuf,
    },
    /// The cache works in memory, since its file or server could not be opened
    /// ([`Cache::degraded`](crate::Cache::degraded)).
    ///
    /// The change was made in the memory of this process alone. Other processes and later runs of
    /// this program do not see it.
    FellBack {
        /// The reason why the file or server could not be opened.
        reason: String,
    },
    /// The handle belongs to a transaction that is over: the program kept it beyond the closure of
    /// [`Db::transaction`](crate::Db::transaction). Nothing was done.
    TransactionOver {
        /// The file.
        path: PathBuf,
    },
    /// A call would copy or move a key to a handle on another file, which cannot be one commit.
    /// Nothing was written.
    OtherFile {
        /// The file that has the key.
        path: PathBuf,
        /// The file of the other handle.
        other: PathBuf,
    },
    /// The file is on a network file system, where several processes cannot share it safely.
    NotLocal {
        /// The file.
        path: PathBuf,
        /// The name of the file system.
        file_system: &'static str,
    },
    /// The handle or the file is read-only. Nothing was written.
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// A value cannot be encoded for the cache, or a name or URL is invalid. Nothing was written.
    Encoding {
        /// The type of the value, or the name of the invalid argument.
        type_name: &'static str,
        /// The reason.
        reason: String,
    },
    /// A server refused a request or cannot be reached.
    Remote {
        /// The operation, as in "cannot {operation}".
        operation: &'static str,
        /// The server's address, without its password.
        address: String,
        /// The answer of the server, or the error of the connection.
        reason: String,
    },
    /// The file is poisoned: an earlier sync failed, so no further write may be acknowledged. Reads
    /// still work.
    Poisoned {
        /// The file.
        path: PathBuf,
        /// The sync that failed, and its error.
        reason: String,
    },
}

impl Error {
    /// Returns a function for `map_err` that adds the operation and path to an error of the
    /// operating system.
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

/// Returns the next step after an error of the operating system, if one is known.
fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "; check the path: its directory must exist",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; check the permissions, or open it read-only"
        }
        io::ErrorKind::IsADirectory => "; give the path of a file",
        io::ErrorKind::StorageFull => "; free some space",
        _ => "",
    }
}

/// Fails with [`Error::TooLarge`] if `length` exceeds `limit`.
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
                 close the other program, or raise the lock timeout",
                path.display(),
                waited.as_millis()
            ),
            Error::NotABrasaFile { path, found } => write!(
                f,
                "{} is not a brasa file: {found}; it was not changed; choose another path",
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
                "{} is damaged at offset {offset}: {reason}; nothing was changed; \
                 `brasa check` lists the damage, `brasa repair` copies the undamaged records",
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
            Error::DeadlineOutOfRange => f.write_str("the deadline is too far in the future"),
            Error::NoSuchDatabase { number } => {
                write!(f, "there is no database {number}: the numbers are 0 to 15")
            }
            Error::DiskFull {
                operation,
                path,
                needed,
            } => write!(
                f,
                "cannot {operation} {}: the device is full, {needed} more bytes are needed; \
                 nothing was written; free some space, or delete keys",
                path.display()
            ),
            Error::Removed { path } => write!(
                f,
                "{} has been removed or renamed since it was opened; nothing was written; open the \
                 file again",
                path.display()
            ),
            Error::Overwritten { path } => write!(
                f,
                "{} was overwritten in place since it was opened, for example by `cp`; nothing was \
                 written; open the file again; to replace a file in use, rename the new file to \
                 its path with `mv`",
                path.display()
            ),
            Error::Forked { path } => write!(
                f,
                "this handle on {} belongs to the parent process; open the file again in the child",
                path.display()
            ),
            Error::FellBack { reason } => write!(
                f,
                "the cache works in the memory of this process alone, since its file or server \
                 could not be opened: {reason}"
            ),
            Error::TransactionOver { path } => write!(
                f,
                "the transaction on {} has ended; use the handle that started it",
                path.display()
            ),
            Error::Reentered { path } => write!(
                f,
                "this thread already writes to or compacts {}: its closure must not write to, sync \
                 or compact the same file, except through the handle that it is given; do so \
                 after the call has returned",
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
                "{} is on a network file system ({file_system}), where processes cannot share it \
                 safely; move it to a local file system, or open it exclusively",
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
                "{} would hold {needed} live bytes after this write, and its limit is {max_bytes}; \
                 nothing was written; delete keys, or raise the limit",
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
                write!(
                    f,
                    "{} was opened read-only, so it refuses writes",
                    path.display()
                )
            }
            Error::Poisoned { path, reason } => write!(
                f,
                "{} is poisoned: a sync failed ({reason}), so it refuses writes; reads still work; \
                 `brasa compact` or `brasa repair` copies it into a new file",
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
