//! The file that a command works on.

use std::env;
use std::fs::DirBuilder;
use std::path::{Path, PathBuf};

use brasa::Cache;

use super::Failure;

/// The environment variable with the path of the file.
const VARIABLE: &str = "BRASA_FILE";

/// Returns the file for the commands of Redis. Creates the directory of the default file.
pub(super) fn of_data(file: Option<PathBuf>) -> Result<PathBuf, Failure> {
    match named(file) {
        Some(path) => Ok(path),
        None => {
            let path = default_path()?;
            if let Some(directory) = path.parent() {
                make_private(directory)?;
            }
            Ok(path)
        }
    }
}

/// Returns the file for a command about the file: its argument, or as for the other commands.
pub(super) fn of_file(path: Option<PathBuf>, file: Option<PathBuf>) -> Result<PathBuf, Failure> {
    match (path, file) {
        (Some(_), Some(_)) => Err(Failure::Usage(
            "two files were given: give one, as the argument or with -f".to_owned(),
        )),
        (Some(path), None) => Ok(path),
        (None, file) => named(file).map_or_else(default_path, Ok),
    }
}

/// Like [`of_file`], for a command that creates a missing file. Creates the directory of the
/// default file.
pub(super) fn of_new_file(
    path: Option<PathBuf>,
    file: Option<PathBuf>,
) -> Result<PathBuf, Failure> {
    match path {
        None => of_data(file),
        path => of_file(path, file),
    }
}

/// Returns the path of the option, or of the variable. An empty variable counts as unset.
fn named(file: Option<PathBuf>) -> Option<PathBuf> {
    file.or_else(|| {
        let path = env::var_os(VARIABLE).filter(|value| !value.is_empty());
        path.map(PathBuf::from)
    })
}

fn default_path() -> Result<PathBuf, Failure> {
    Cache::path_for_app("brasa").map_err(|error| {
        Failure::Usage(format!(
            "no file was given: name one with -f or ${VARIABLE}, or set $HOME ({error})"
        ))
    })
}

/// Creates the directory and its missing parents, with access for the owner alone.
fn make_private(directory: &Path) -> Result<(), Failure> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).map_err(|error| {
        Failure::Message(format!(
            "cannot create the directory {}: {error}; name another file with -f or ${VARIABLE}",
            directory.display()
        ))
    })
}
