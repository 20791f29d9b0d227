//! The path of an application's cache, by the rules of the platform.

use std::io;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use super::{Cache, CacheOptions};
use crate::{Error, Result};

/// The name of the file in the application's directory.
const FILE_NAME: &str = "cache.brasa";

impl Cache {
    /// Opens the cache of an application, with default options; see [`CacheOptions::open_for_app`].
    ///
    /// # Errors
    ///
    /// Those of [`CacheOptions::open_for_app`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// use std::time::Duration;
    /// let cache = brasa::Cache::for_app("brasa-example")?.ttl(Duration::from_secs(600));
    /// cache.insert("chave_1", &"Relou Uourdi".to_owned())?;
    /// println!("the cache is at {:?}", cache.path());
    /// # let path = cache.path().map(ToOwned::to_owned);
    /// # drop(cache);
    /// # if let Some(directory) = path.as_deref().and_then(|path| path.parent()) {
    /// #     let _ = std::fs::remove_dir_all(directory);
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    pub fn for_app(name: impl AsRef<str>) -> Result<Cache> {
        Cache::options().open_for_app(name)
    }

    /// Returns the path that [`Cache::for_app`] opens, for help texts or for a tool that removes
    /// the file. Creates nothing.
    ///
    /// # Errors
    ///
    /// - [`Error::Encoding`] if the name is empty, `.` or `..`, or has a slash, backslash or NUL.
    /// - [`Error::Io`] if the user has no home directory.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let path = brasa::Cache::path_for_app("brasa-example")?;
    /// assert!(path.ends_with("brasa-example/cache.brasa"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn path_for_app(name: impl AsRef<str>) -> Result<PathBuf> {
        let name = name.as_ref();
        check_name(name)?;
        Ok(cache_directory()?.join(name).join(FILE_NAME))
    }
}

impl CacheOptions {
    /// Opens the cache of an application, in the cache directory of the user:
    /// `$XDG_CACHE_HOME/NAME/cache.brasa` or `~/.cache/NAME/cache.brasa`, and on Apple systems
    /// `~/Library/Caches/NAME/cache.brasa`. Missing directories are created for the owner alone.
    ///
    /// # Errors
    ///
    /// - [`Error::Encoding`] if the name is empty, `.` or `..`, or has a slash, backslash or NUL.
    /// - Those of [`CacheOptions::open`], and [`Error::Io`] if the user has no home directory: both
    ///   only without a fallback to memory.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let cache = brasa::Cache::options().max_bytes(64 << 20).open_for_app("brasa-example-2")?;
    /// cache.insert("chave_1", &"Relou Uourdi".to_owned())?;
    /// # let path = cache.path().map(ToOwned::to_owned);
    /// # drop(cache);
    /// # if let Some(directory) = path.as_deref().and_then(|path| path.parent()) {
    /// #     let _ = std::fs::remove_dir_all(directory);
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    pub fn open_for_app(self, name: impl AsRef<str>) -> Result<Cache> {
        check_name(name.as_ref())?;
        match Cache::path_for_app(name) {
            Ok(path) => self.open(path),
            Err(error) => self.fall_back(error),
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\\', '\0']) {
        return Err(Error::Encoding {
            type_name: "application's name",
            reason: format!("{name:?} is not the name of a directory"),
        });
    }
    Ok(())
}

/// Returns the cache directory of the user.
fn cache_directory() -> Result<PathBuf> {
    let found = etcetera::base_strategy::choose_native_strategy();
    let found = found.map(|strategy| strategy.cache_dir());
    found.map_err(|error| {
        let source = io::Error::new(io::ErrorKind::NotFound, error.to_string());
        Error::io("find the home of", Path::new("~/.cache"))(source)
    })
}
