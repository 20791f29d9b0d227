//! Saving what survives of a damaged file.

use std::io;
use std::path::Path;

use super::{RepairOptions, RepairReport};
use crate::clock::SystemClock;
use crate::storage::{Access, DiskStorage, MemoryStorage, Storage};
use crate::{Error, Result, engine};

/// Writes what survives of a damaged file into a new one, and says what was lost.
///
/// The damaged file is never changed. The new one stands beside it, or
/// [in its place](RepairOptions::in_place), with the damaged one kept under another name. It holds every whole commit
/// that is valid, in the order they were written. A sound file is left alone, unless a failed sync made it refuse
/// writes: then everything is copied into a new one that takes them.
///
/// # What comes back
///
/// Behind damage the log is taken up again at the next commit that is valid by itself; that search stops
/// at the offset up to which the log was known to be on the device, since behind it a record may be
/// valid that was never part of the log. A commit counts whole or not at all, and where the damage leaves open
/// whether a record begins a commit, it is passed over to the beginning of one.
///
/// Each key has the last value that survived: **where its newest record was lost, an older value comes back**, and a
/// key whose deletion was lost is there again. [`RepairReport::damaged`] lists the keys, as far as they can be told.
///
/// Sectors that the device cannot read at all end the process, as the file is mapped: copy such a file to a good
/// device first, with a tool that fills in zeros for what it cannot read.
///
/// # Errors
///
/// - [`Error::Corrupt`] where not one whole commit is left, or the file ends within its header. No file is made.
/// - [`Error::Locked`] where another handle has the file and does not let go.
/// - [`Error::NotABrasaFile`] and [`Error::UnsupportedVersion`] as in [`Db::open`](crate::Db::open).
/// - [`Error::Io`] where the operating system refuses, or there is a file of the new one's name.
/// - [`Error::DiskFull`] where the new file has no space.
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("cache.brasa");
/// use brasa::inspect::{RepairOptions, repair};
///
/// let db = brasa::Db::open(&path)?;
/// db.set("chave_1", "Relou Uourdi")?;
/// db.set("chave_2", "Oi")?;
/// db.close()?;
/// assert!(repair(&path, &RepairOptions::new())?.nothing_to_do());
///
/// // The first value rots.
/// let mut bytes = std::fs::read(&path).unwrap();
/// bytes[12_288 + 32 + 7] ^= 1;
/// std::fs::write(&path, &bytes).unwrap();
/// assert!(brasa::Db::open(&path).is_err());
///
/// let report = repair(&path, &RepairOptions::new())?;
/// assert_eq!(report.damaged[0].lost[0].key, b"chave_1");
/// let saved = brasa::Db::open(report.output.unwrap())?;
/// assert_eq!(saved.get("chave_2")?.unwrap(), b"Oi");
/// # Ok(())
/// # }
/// ```
pub fn repair(path: impl AsRef<Path>, options: &RepairOptions) -> Result<RepairReport> {
    engine::repair(&DiskStorage, path.as_ref(), options, &SystemClock)
}

/// As [`repair`], of a file's contents in memory; gives back those of the new one, if there was anything
/// to do.
///
/// # Errors
///
/// As [`repair`].
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("cache.brasa");
/// # brasa::Db::open(&path)?.close()?;
/// let bytes = std::fs::read(&path).unwrap();
/// let (report, salvaged) = brasa::inspect::salvage_bytes(&bytes)?;
/// assert!(report.nothing_to_do());
/// assert_eq!(salvaged, None);
/// # Ok(())
/// # }
/// ```
pub fn salvage_bytes(bytes: &[u8]) -> Result<(RepairReport, Option<Vec<u8>>)> {
    let storage = MemoryStorage::default();
    let path = Path::new(":memory:");
    let io_error = |operation| Error::io(operation, path);
    let temporary = storage.create_temporary(path).map_err(io_error("create"))?;
    temporary
        .file()
        .write_at(bytes, 0)
        .map_err(io_error("write to"))?;
    temporary.persist_new(path).map_err(io_error("create"))?;

    let report = engine::repair(&storage, path, &RepairOptions::new(), &SystemClock)?;
    let salvaged = report
        .output
        .as_deref()
        .map(|output| contents(&storage, output).map_err(Error::io("read", output)))
        .transpose()?;
    Ok((report, salvaged))
}

fn contents(storage: &MemoryStorage, path: &Path) -> io::Result<Vec<u8>> {
    let file = storage.open(path, Access::Read)?;
    let mut contents = vec![0; usize::try_from(file.size()?).map_err(io::Error::other)?];
    file.read_at(&mut contents, 0)?;
    Ok(contents)
}
