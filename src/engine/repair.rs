//! Repair: copies the surviving commits of a damaged file into a new one.
//!
//! Invariants:
//!
//! 1. No byte of the original is changed, and it always has a name. A repair in place first gives
//!    it another name, which is on the device before the new file takes the path.
//! 2. At each moment the path names a whole file: the original, or the finished and synced new one.
//!    After a crash a repair simply runs again.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Settings;
use super::examine::{DamagedRange, Findings, examine};
use super::open::{draw_header, lock_for_life};
use super::rewrite::{Rewrite, write_error};
use crate::clock::Clock;
use crate::log::{FileHeader, LOG_START, PAGE_BYTES};
use crate::mutation::{self, Mutation};
use crate::storage::{Access, FileId, Mapping, Storage, StorageFile};
use crate::{Error, Options, Result};

/// How often a repair begins again because the path named another file by the time it was locked.
const MAX_ATTEMPTS: usize = 8;

/// How many originals are kept beside a file that is repaired in place.
pub(super) const MAX_KEPT: u32 = 10_000;

/// The options of a repair; for [`repair`](crate::inspect::repair).
///
/// ```
/// use brasa::inspect::RepairOptions;
///
/// let beside = RepairOptions::new().output("salvaged.brasa");
/// let in_place = RepairOptions::new().in_place(true);
/// # let _ = (beside, in_place);
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct RepairOptions {
    in_place: bool,
    output: Option<PathBuf>,
    lock_timeout: Duration,
    /// Whether to make a new file even if no data survives.
    allow_empty: bool,
}

impl Default for RepairOptions {
    fn default() -> Self {
        Self {
            in_place: false,
            output: None,
            lock_timeout: Duration::from_secs(5),
            allow_empty: false,
        }
    }
}

impl RepairOptions {
    /// Returns the defaults: the new file is written beside the damaged one, with `.repaired`
    /// behind its name.
    ///
    /// [`RepairOptions`] has an example.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether the new file takes the name of the damaged one; no by default. The damaged file
    /// is kept, with `.damaged-0` or the first free number behind its name.
    ///
    /// Owner and mode are kept. A repair in place needs a file system with hard links.
    ///
    /// [`RepairOptions`] has an example.
    pub fn in_place(mut self, in_place: bool) -> Self {
        self.in_place = in_place;
        self
    }

    /// Sets the path of the new file, which must not exist. A repair in place ignores it.
    ///
    /// [`RepairOptions`] has an example.
    pub fn output(mut self, output: impl Into<PathBuf>) -> Self {
        self.output = Some(output.into());
        self
    }

    /// Sets how long to wait until other handles release the file; 5 seconds by default.
    ///
    /// [`RepairOptions`] has an example.
    pub fn lock_timeout(mut self, lock_timeout: Duration) -> Self {
        self.lock_timeout = lock_timeout;
        self
    }

    pub(super) fn allow_empty(mut self) -> Self {
        self.allow_empty = true;
        self
    }
}

/// The report of a repair; from [`repair`](crate::inspect::repair).
///
/// [`repair`](crate::inspect::repair) has an example.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RepairReport {
    /// The repaired file.
    pub path: PathBuf,
    /// The new file; `None` if the file was sound, or the new file is in memory.
    pub output: Option<PathBuf>,
    /// The new path of the damaged file, after a repair in place.
    pub original: Option<PathBuf>,
    /// The damaged parts, each with the lost data.
    pub damaged: Vec<DamagedRange>,
    /// The bytes behind the log that belong to no commit: a write that was cut short, or commits
    /// that depend on lost ones. They are not in the new file.
    pub torn_bytes: u64,
    /// The reason why the file took no more writes, if a failed sync was recorded in it. The new
    /// file accepts writes.
    pub poisoned: Option<String>,
    /// The number of commits in the new file.
    pub kept_commit_count: u64,
    /// The number of their records.
    pub kept_record_count: u64,
    /// The bytes of these records.
    pub kept_bytes: u64,
}

impl RepairReport {
    /// Returns whether the file was sound, so that nothing was done.
    ///
    /// [`repair`](crate::inspect::repair) has an example.
    pub fn nothing_to_do(&self) -> bool {
        self.damaged.is_empty() && self.poisoned.is_none()
    }

    /// Returns the bytes of all damaged parts together.
    ///
    /// [`repair`](crate::inspect::repair) has an example.
    pub fn lost_bytes(&self) -> u64 {
        self.damaged
            .iter()
            .fold(0, |sum, range| sum.saturating_add(range.bytes))
    }
}

/// Writes the surviving data of a file into a new one. Does nothing if the file is sound.
pub(crate) fn repair(
    storage: &dyn Storage,
    path: &Path,
    options: &RepairOptions,
    clock: &dyn Clock,
) -> Result<RepairReport> {
    repair_into(storage, storage, path, options, clock)
}

/// Repairs like [`repair`], into a new file on another storage.
pub(super) fn repair_into(
    new_storage: &dyn Storage,
    storage: &dyn Storage,
    path: &Path,
    options: &RepairOptions,
    clock: &dyn Clock,
) -> Result<RepairReport> {
    let path = &storage.resolve(path).map_err(Error::io("find", path))?;
    for _ in 0..MAX_ATTEMPTS {
        let file = lock(storage, path, options)?;
        // While this process waited for the lock, another may have repaired the file. Then this one
        // is the kept original.
        let id = file.id().map_err(Error::io("look at", path))?;
        if options.in_place && id_of(storage, path)? != Some(id) {
            continue;
        }
        let repair = Repair {
            new_storage,
            storage,
            path,
            options,
            clock,
            file: &*file,
        };
        return repair.run(id);
    }
    Err(Error::io("repair", path)(io::Error::other(
        "it was repeatedly replaced by other processes; try again",
    )))
}

/// Opens the file and locks writers out.
///
/// Only a repair in place must be alone and able to write. A copy needs only a file without
/// writers, so that a file on a read-only medium can be saved too.
fn lock(
    storage: &dyn Storage,
    path: &Path,
    options: &RepairOptions,
) -> Result<crate::sync::Arc<dyn StorageFile>> {
    let access = match options.in_place {
        true => Access::ReadWrite,
        false => Access::Read,
    };
    let file = storage
        .open(path, access)
        .map_err(Error::io("open", path))?;
    let locking = Options::default()
        .exclusive(true)
        .read_only(!options.in_place)
        .lock_timeout(options.lock_timeout);
    lock_for_life(&*file, path, &Settings::of(&locking))?;
    Ok(file)
}

/// Returns the file at a path; `None` if there is none.
pub(super) fn id_of(storage: &dyn Storage, path: &Path) -> Result<Option<FileId>> {
    match storage.open(path, Access::Read) {
        Ok(file) => file.id().map(Some).map_err(Error::io("look at", path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("open", path)(error)),
    }
}

/// A path with `suffix` behind its name. A name that would be too long for a file system is cut
/// first.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    /// NAME_MAX of Linux and macOS, in bytes.
    const MAX_NAME_BYTES: usize = 255;
    let name = path.file_name().unwrap_or_default().as_bytes();
    let mut cut = name.len().min(MAX_NAME_BYTES.saturating_sub(suffix.len()));
    // Not within a character of UTF-8.
    while cut > 0 && cut < name.len() && name[cut] & 0b1100_0000 == 0b1000_0000 {
        cut -= 1;
    }
    let name = [&name[..cut], suffix.as_bytes()].concat();
    path.with_file_name(OsStr::from_bytes(&name))
}

/// A repair of a file that is locked.
struct Repair<'a> {
    /// Where the new file goes.
    new_storage: &'a dyn Storage,
    storage: &'a dyn Storage,
    path: &'a Path,
    options: &'a RepairOptions,
    clock: &'a dyn Clock,
    file: &'a dyn StorageFile,
}

impl Repair<'_> {
    fn run(&self, id: FileId) -> Result<RepairReport> {
        let size = self
            .file
            .size()
            .map_err(self.io_error("read the size of"))?;
        // No mapping has no bytes; the one of an empty file is not read.
        let mapping = self.file.map(size.max(1)).map_err(self.io_error("map"))?;
        let mut report = RepairReport {
            path: self.path.to_owned(),
            output: None,
            original: None,
            damaged: Vec::new(),
            torn_bytes: 0,
            poisoned: None,
            kept_commit_count: 0,
            kept_record_count: 0,
            kept_bytes: 0,
        };
        let findings = match examine(&mapping, self.path, &mut |_, _| Ok(())) {
            Ok(findings) => Some(findings),
            // Too short for a log: there is nothing to survive.
            Err(Error::Corrupt { offset, reason, .. }) if self.options.allow_empty => {
                report
                    .damaged
                    .push(DamagedRange::without_records(offset, LOG_START, reason));
                None
            }
            Err(error) => return Err(error),
        };
        if let Some(findings) = &findings {
            if findings.damaged.is_empty() && findings.poison.is_none() {
                return Ok(report);
            }
            if findings.commit_count == 0 && !self.options.allow_empty {
                return Err(nothing_survives(self.path, findings));
            }
        }
        let target = self.target()?;
        let rewrite = self.rewrite(&target, &mapping, findings.as_ref(), &mut report)?;
        if let Some(findings) = findings {
            report.torn_bytes = findings.torn.map_or(0, |torn| torn.bytes);
            report.poisoned = findings.poison;
            report.damaged = findings.damaged;
        }
        self.name(rewrite, &target, id, &mut report)?;
        report.output = Some(target);
        Ok(report)
    }

    fn io_error(&self, operation: &'static str) -> impl FnOnce(io::Error) -> Error {
        Error::io(operation, self.path)
    }

    /// Where the new file is to stand. That it is free is decided only when it takes the name, and looked at
    /// here to spare the work.
    fn target(&self) -> Result<PathBuf> {
        if self.options.in_place {
            return Ok(self.path.to_owned());
        }
        let target = match &self.options.output {
            Some(output) => self
                .new_storage
                .resolve(output)
                .map_err(Error::io("find", output))?,
            None => with_suffix(self.path, ".repaired"),
        };
        match id_of(self.new_storage, &target)? {
            None => Ok(target),
            Some(_) => Err(Error::io("create", &target)(
                io::ErrorKind::AlreadyExists.into(),
            )),
        }
    }

    /// Copies what survives. Records about the log itself are left out: they are about the old one.
    fn rewrite(
        &self,
        target: &Path,
        mapping: &Mapping,
        findings: Option<&Findings>,
        report: &mut RepairReport,
    ) -> Result<Rewrite> {
        let mut writer = [0; 4];
        self.storage
            .random(&mut writer)
            .map_err(self.io_error("draw random numbers for"))?;
        let header = self.new_header(findings)?;
        let writer = u32::from_le_bytes(writer);
        let mut rewrite = Rewrite::begin(self.new_storage, target, header, writer)?;
        let Some(findings) = findings else {
            return Ok(rewrite);
        };
        examine(mapping, self.path, &mut |_, changes| {
            if changes.iter().any(|change| !change.kind.is_data()) {
                return Ok(());
            }
            report.kept_commit_count += 1;
            report.kept_record_count += changes.len() as u64;
            report.kept_bytes += changes
                .iter()
                .map(|change| change.size_bytes())
                .sum::<u64>();
            rewrite.append(changes)
        })?;
        // A reader of the old log had seen it up to here at most.
        let seen_upto = findings
            .synced_upto
            .min(mapping.readable_bytes())
            .max(findings.commits_upto);
        let old = &findings.header;
        rewrite.end_copy(
            old.base_position
                .saturating_add(seen_upto)
                .saturating_sub(old.copied_upto),
        );
        Ok(rewrite)
    }

    fn new_header(&self, findings: Option<&Findings>) -> Result<FileHeader> {
        let drawn = draw_header(self.storage, self.path, self.clock)?;
        Ok(match findings {
            None => drawn,
            Some(findings) => FileHeader {
                generation: findings.header.generation.saturating_add(1),
                // An attacker could guess a damaged key.
                hash_key: match findings.header_holds {
                    true => findings.header.hash_key,
                    false => drawn.hash_key,
                },
                ..drawn
            },
        })
    }

    /// Completes the new file and gives it its name.
    fn name(
        &self,
        rewrite: Rewrite,
        target: &Path,
        id: FileId,
        report: &mut RepairReport,
    ) -> Result<()> {
        if !self.options.in_place {
            let temporary = rewrite.finish()?.temporary;
            temporary.persist_new(target).map_err(write_error(
                "create",
                target,
                PAGE_BYTES as u64,
            ))?;
            return self.sync_directory(target);
        }
        // Before the sync, which may carry them through as well.
        if let Some(attributes) = self
            .file
            .attributes()
            .map_err(self.io_error("read the owner and mode of"))?
        {
            rewrite
                .file()
                .set_attributes(attributes)
                .map_err(self.io_error("keep the owner and mode of"))?;
        }
        let temporary = rewrite.finish()?.temporary;
        report.original = Some(self.keep_original(id)?);
        // Invariant 1: the other name must be on the device before this one is taken away.
        self.sync_directory(target)?;
        temporary
            .replace(target)
            .map_err(self.io_error("replace"))?;
        self.sync_directory(target)
    }

    fn sync_directory(&self, path: &Path) -> Result<()> {
        if mutation::is_on(Mutation::SkipDirectorySync) {
            return Ok(());
        }
        self.new_storage
            .open_directory(path)
            .and_then(|directory| directory.sync())
            .map_err(Error::io("sync the directory of", path))
    }

    /// Gives the original a further name.
    fn keep_original(&self, id: FileId) -> Result<PathBuf> {
        for number in 0..MAX_KEPT {
            let kept = with_suffix(self.path, &format!(".damaged-{number}"));
            match self.storage.link_new(self.path, &kept) {
                Ok(()) => return Ok(kept),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    // An earlier repair came as far as this and died.
                    if id_of(self.storage, &kept).is_ok_and(|kept_id| kept_id == Some(id)) {
                        return Ok(kept);
                    }
                }
                Err(error) => return Err(self.io_error("create a second link to")(error)),
            }
        }
        Err(self.io_error("create a second link to")(
            io::ErrorKind::AlreadyExists.into(),
        ))
    }
}

fn nothing_survives(path: &Path, findings: &Findings) -> Error {
    let (offset, found) = match findings.damaged.first() {
        Some(range) => (range.damage_offset, range.reason.as_str()),
        None => (LOG_START, "a sync failed"),
    };
    Error::corrupt(
        path,
        offset,
        format!("{found}; no complete commit is left, so there is nothing to save"),
    )
}
