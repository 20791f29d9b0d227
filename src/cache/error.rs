//! What can go wrong with a value: its computation, or the cache.

use std::fmt;
use std::time::Duration;

use crate::Error;

/// Why there is no value; the computation's own error is kept apart from the cache's.
#[derive(Debug)]
#[non_exhaustive]
pub enum CacheError<E> {
    /// The computation has failed. Nothing was stored, unless [`Cache::negative_ttl`](super::Cache::negative_ttl) asks to remember it.
    Compute(E),
    /// The computation has failed a moment ago, here or in another process, and was not tried again
    /// ([`Cache::negative_ttl`](super::Cache::negative_ttl)).
    FailedRecently {
        /// What the error said.
        message: String,
    },
    /// Another process computed the value for longer than [`Cache::max_wait`](super::Cache::max_wait), or
    /// another thread did. Only with [`WaitTimeout::Error`](super::WaitTimeout::Error).
    TimedOut {
        /// How long this call waited.
        waited: Duration,
    },
    /// The cache itself has failed. Only a strict one says so ([`CacheOptions::strict`](super::CacheOptions::strict)); else the value is
    /// computed.
    Cache(Error),
}

impl<E> CacheError<E> {
    /// The computation's own error, where that is what it was.
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

/// For every error that can be shown, `String` and `anyhow::Error` too, which are no `std::error::Error`. So the source of a computation's
/// error is to be had from [`CacheError::into_computed`].
impl<E: fmt::Display + fmt::Debug> std::error::Error for CacheError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CacheError::Cache(error) => error.source(),
            _ => None,
        }
    }
}
