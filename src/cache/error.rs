//! The errors of a call that computes a value: those of the computation, and those of the cache.

use std::fmt;
use std::time::Duration;

use crate::Error;

/// The reason why a call returned no value. The error of the computation is kept apart from the
/// errors of the cache.
///
/// The enum is `#[non_exhaustive]`: later versions may add reasons.
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// use brasa::{Cache, CacheError};
/// let cache = Cache::in_memory()?;
/// let row = cache.get_or_insert_with::<String, _>("user:7", || Err("no such user"));
/// match row {
///     Ok(row) => println!("{row}"),
///     Err(CacheError::Compute(error)) => assert_eq!(error, "no such user"),
///     Err(error) => eprintln!("{error}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum CacheError<E> {
    /// The computation failed. Nothing was stored, unless
    /// [`Cache::negative_ttl`](super::Cache::negative_ttl) is set.
    Compute(E),
    /// The computation failed a short time ago, here or in another process, and was not tried again
    /// ([`Cache::negative_ttl`](super::Cache::negative_ttl)).
    FailedRecently {
        /// The text of the computation's error, cut to 1,024 bytes.
        message: String,
    },
    /// Another process or thread was still computing the value after
    /// [`Cache::max_wait`](super::Cache::max_wait). Only with
    /// [`WaitTimeout::Error`](super::WaitTimeout::Error).
    TimedOut {
        /// The time for which this call waited.
        waited: Duration,
    },
    /// The cache itself failed. Only a [strict](super::CacheOptions::strict) cache returns this;
    /// any other cache computes the value.
    Cache(Error),
}

impl<E> CacheError<E> {
    /// Returns the computation's own error, or `None` for any other reason.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let cache = brasa::Cache::in_memory()?;
    /// let row = cache.get_or_insert_with::<String, _>("user:7", || Err("no such user"));
    /// assert_eq!(row.unwrap_err().into_computed(), Some("no such user"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_computed(self) -> Option<E> {
        match self {
            CacheError::Compute(error) => Some(error),
            _ => None,
        }
    }
}

impl<E> From<Error> for CacheError<E> {
    fn from(error: Error) -> Self {
        CacheError::Cache(error)
    }
}

impl<E: fmt::Display> fmt::Display for CacheError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CacheError::Compute(error) => error.fmt(f),
            CacheError::FailedRecently { message } => {
                write!(f, "it has failed a moment ago: {message}")
            }
            CacheError::TimedOut { waited } => write!(
                f,
                "the value was still being computed elsewhere after {} ms; \
                 wait longer (max_wait), or have it computed here (on_wait_timeout)",
                waited.as_millis()
            ),
            CacheError::Cache(error) => error.fmt(f),
        }
    }
}

/// Implemented for every `E` that can be displayed, also for `String` and `anyhow::Error`, which
/// are not `std::error::Error`. The source of a computation's error is therefore only available
/// through [`CacheError::into_computed`].
impl<E: fmt::Display + fmt::Debug> std::error::Error for CacheError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CacheError::Cache(error) => error.source(),
            _ => None,
        }
    }
}
