//! Which file a command is about.

use std::env;
use std::fs::DirBuilder;
use std::path::{Path, PathBuf};

use brasa::Cache;

use super::Failure;

/// The variable that names the file.
const VARIABLE: &str = "BRASA_FILE";

/// The file that commands of Redis work on. Where it is the default one, its directory is made.
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

/// The file that a command about the file looks into: its own argument, else as for the others.
pub(super) fn of_file(path: Option<PathBuf>, file: Option<PathBuf>) -> Result<PathBuf, Failure> {
    match (path, file) {
        (Some(_), Some(_)) => Err(Failure::Usage(
            "two files were named: give one, as the argument or with -f".to_owned(),
        )),
        (Some(path), None) => Ok(path),
        (None, file) => named(file).map_or_else(default_path, Ok),
    }
}

/// As [`of_file`], where the file is created if it is missing: the directory of the default one is made.
pub(super) fn of_new_file(
    path: Option<PathBuf>,
    file: Option<PathBuf>,
) -> Result<PathBuf, Failure> {
    match path {
        None => of_data(file),
        path => of_file(path, file),
    }
}

/// The option, else the variable; one that is empty counts as not set.
fn named(file: Option<PathBuf>) -> Option<PathBuf> {
    file.or_else(|| {
        let path = env::var_os(VARIABLE).filter(|value| !value.is_empty());
        path.map(PathBuf::from)
    })
}

fn default_path() -> Result<PathBuf, Failure> {
    Cache::path_for_app("brasa").map_err(|error| {
        Failure::Usage(format!(
            "no file was named: give one with -f or ${VARIABLE}, or set $HOME ({error})"
        ))
    })
}

/// Makes the directory, and those above it that are missing, for the owner alone.
fn make_private(directory: &Path) -> Result<(), Failure> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).map_err(|error| {
        Failure::Message(format!(
            "cannot make the directory {}: {error}; give another file with -f or ${VARIABLE}",
            directory.display()
        ))
    })
}
