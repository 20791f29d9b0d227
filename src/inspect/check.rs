//! Whether a file is sound.

use std::path::Path;

use super::Look;
use crate::Result;
use crate::engine::{DamagedPage, DamagedRange, Findings, examine};
use crate::log::{LOG_START, Source};

/// How the log of a file ends.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogEnd {
    /// With the last whole commit.
    Clean,
    /// With a write that was cut short: opening will pass over it. Behind damage it may also be
    /// what only made sense with what is lost.
    Torn {
        /// Where the log ends.
        offset: u64,
        /// How many bytes behind it belong to no commit.
        torn_bytes: u64,
        /// Why they belong to none.
        reason: String,
    },
}

/// What [`check`] found.
#[derive(Debug)]
#[non_exhaustive]
pub struct CheckReport {
    /// Size of the file.
    pub file_bytes: u64,
    /// Size of the log up to the end of the last whole commit.
    pub log_bytes: u64,
    /// Whole commits, those behind damage too.
    pub commit_count: u64,
    /// Their records.
    pub record_count: u64,
    /// Everything before this offset is known to be on the device.
    pub synced_upto: u64,
    /// Each damaged part, in the order of the file; none in a sound file.
    pub damaged: Vec<DamagedRange>,
    /// The damaged pages of checkpoints, 65,536 at most. They cost no data, so the file counts as sound: opening passes over them.
    pub damaged_pages: Vec<DamagedPage>,
    /// Why the file takes no more writes, if a failed sync is recorded in it. It is sound all the same.
    pub poisoned: Option<String>,
    /// How the log ends, be there damage before or not.
    pub end: LogEnd,
}

impl CheckReport {
    /// Whether the file opens, with everything that was known to be on the device.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty()
    }
}

/// Verifies the header, every record's checksum and the chain that they form, and names each part
/// that is damaged.
///
/// After damage it continues with the next record that is valid by itself, as [`repair`](super::repair) does.
///
/// `progress` is called now and then with the bytes that were verified, and all there are.
///
/// # Errors
///
/// As [`Db::open`](crate::Db::open) for a file that cannot be opened, is something else, is of a newer version, or
/// ends within its header. Damage is no error here but part of the report.
pub fn check(path: impl AsRef<Path>, mut progress: impl FnMut(u64, u64)) -> Result<CheckReport> {
    let path = path.as_ref();
    let look = Look::at(path)?;
    check_source(&look.mapping, path, &mut progress)
}

/// As [`check`], of a file's contents in memory.
///
/// # Errors
///
/// As [`check`].
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
