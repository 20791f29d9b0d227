//! Checks a file for damage.

use std::path::Path;

use super::Look;
use crate::Result;
use crate::engine::{DamagedPage, DamagedRange, Findings, examine};
use crate::log::{LOG_START, Source};

/// The end of the log of a file.
///
/// [`check`] has an example.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogEnd {
    /// The log ends with a complete commit.
    Clean,
    /// The log ends with a write that was cut short. Opening passes over it. Behind damage, these
    /// bytes may also be commits that depend on lost ones.
    Torn {
        /// The offset of the end of the log.
        offset: u64,
        /// The number of bytes behind it that belong to no commit.
        torn_bytes: u64,
        /// The reason.
        reason: String,
    },
}

/// The report of [`check`].
///
/// [`check`] has an example.
#[derive(Debug)]
#[non_exhaustive]
pub struct CheckReport {
    /// The size of the file.
    pub file_bytes: u64,
    /// The size of the log up to the end of the last complete commit.
    pub log_bytes: u64,
    /// The number of complete commits, including those behind damage.
    pub commit_count: u64,
    /// The number of their records.
    pub record_count: u64,
    /// The offset up to which the log is known to be on the device.
    pub synced_upto: u64,
    /// The damaged parts, in the order of the file; none in a sound file.
    pub damaged: Vec<DamagedRange>,
    /// The damaged pages of checkpoints, at most 65,536. They cost no data, since opening passes
    /// over them, so the file counts as sound.
    pub damaged_pages: Vec<DamagedPage>,
    /// The reason why the file takes no more writes, if a failed sync is recorded in it. Such a
    /// file counts as sound.
    pub poisoned: Option<String>,
    /// The end of the log, with or without damage before it.
    pub end: LogEnd,
}

impl CheckReport {
    /// Returns whether the file opens with all data that was on the device.
    ///
    /// [`check`] has an example.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty()
    }
}

/// Verifies the header, the checksum of every record, and the chain of the records. Reports each
/// damaged part.
///
/// After damage the check continues with the next valid record, like [`repair`](super::repair).
///
/// `progress` is called at intervals with the number of verified bytes and the number in total.
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("cache.brasa");
/// let db = brasa::Db::open(&path)?;
/// db.set("a", "1")?;
/// db.close()?;
/// let report = brasa::inspect::check(&path, |verified_bytes, file_bytes| {
///     println!("{verified_bytes} of {file_bytes}");
/// })?;
/// assert!(report.is_sound());
/// assert_eq!(report.record_count, 1);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of [`Db::open`](crate::Db::open) for a file that cannot be opened, has another format, is
/// of a newer version, or ends within its header. Damage is not an error here, but part of the
/// report.
pub fn check(path: impl AsRef<Path>, mut progress: impl FnMut(u64, u64)) -> Result<CheckReport> {
    let path = path.as_ref();
    let look = Look::at(path)?;
    check_source(&look.mapping, path, &mut progress)
}

/// Checks the contents of a file in memory, like [`check`].
///
/// [`check`] has an example.
///
/// # Errors
///
/// Those of [`check`].
pub fn check_bytes(bytes: &[u8]) -> Result<CheckReport> {
    check_source(bytes, Path::new(":memory:"), &mut |_, _| {})
}

fn check_source<S: Source + ?Sized>(
    source: &S,
    path: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<CheckReport> {
    const COMMITS_BETWEEN_PROGRESS: u64 = 4096;
    let mut commit_count: u64 = 0;
    let findings = examine(source, path, &mut |upto, _| {
        commit_count += 1;
        if commit_count.is_multiple_of(COMMITS_BETWEEN_PROGRESS) {
            progress(upto, source.len());
        }
        Ok(())
    })?;
    progress(source.len(), source.len());
    Ok(report(findings, source.len()))
}

fn report(findings: Findings, file_bytes: u64) -> CheckReport {
    let end = match findings.torn {
        Some(torn) => LogEnd::Torn {
            offset: torn.offset,
            torn_bytes: torn.bytes,
            reason: torn.reason,
        },
        None => LogEnd::Clean,
    };
    CheckReport {
        file_bytes,
        log_bytes: findings.commits_upto - LOG_START,
        commit_count: findings.commit_count,
        record_count: findings.record_count,
        synced_upto: findings.synced_upto,
        damaged: findings.damaged,
        damaged_pages: findings.damaged_pages,
        poisoned: findings.poison,
        end,
    }
}
