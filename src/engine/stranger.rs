//! Renames a foreign file, so that a new file can take its path.
//!
//! Invariants:
//!
//! 1. No byte of the foreign file is changed, and it always has a name: it is renamed, never
//!    replaced.
//! 2. Only a file that is no brasa file is renamed. Processes that do this at the same time acquire
//!    the foreign file's writer lock and then check that the path still names it. A new file is
//!    created only if the path names nothing.

use std::io;
use std::path::{Path, PathBuf};

use super::Settings;
use super::open::{lock_for_life, read_header};
use super::repair::{MAX_KEPT, id_of, with_suffix};
use crate::storage::{Access, Storage};
use crate::{Error, Options, Result};

/// Renames the stranger at `path` and returns its new path; `None` if the path names something
/// else by now.
pub(super) fn set_aside(
    storage: &dyn Storage,
    path: &Path,
    options: &Options,
) -> Result<Option<PathBuf>> {
    let path = &storage.resolve(path).map_err(Error::io("find", path))?;
    let file = match storage.open(path, Access::ReadWrite) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", path)(error)),
    };
    let file_system = file.network_file_system();
    let file_system = file_system.map_err(Error::io("look at the file system of", path))?;
    if let Some(file_system) = file_system.filter(|_| !options.exclusive) {
        // A new file here could not be opened either.
        return Err(Error::NotLocal {
            path: path.to_owned(),
            file_system,
        });
    }
    let alone = options.clone().exclusive(true);
    lock_for_life(&*file, path, &Settings::of(&alone))?;
    let is_stranger = matches!(read_header(&*file, path), Err(Error::NotABrasaFile { .. }));
    let id = file.id().map_err(Error::io("look at", path))?;
    if !is_stranger || id_of(storage, path)? != Some(id) {
        return Ok(None);
    }
    for number in 0..MAX_KEPT {
        let kept = with_suffix(path, &format!(".stranger-{number}"));
        match storage.rename_new(path, &kept) {
            Ok(()) => return Ok(Some(kept)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io("set aside", path)(error)),
        }
    }
    Err(Error::io("set aside", path)(
        io::ErrorKind::AlreadyExists.into(),
    ))
}
