//! The states in which a cache is less than its caller asked for, and the listener that reports
//! them.
//!
//! Invariant: without a listener of the caller, each reason is reported once in a process, on
//! standard error. A degraded cache is never silent.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;

use crate::events;
use crate::sync::{Arc, Mutex, PoisonError};

/// The state of a cache that is less than its caller asked for.
///
/// Returned by [`Cache::degraded`](super::Cache::degraded), which has an example. The struct is
/// `#[non_exhaustive]`: later versions may add fields.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Degraded {
    /// The state of the cache.
    pub to: DegradedTo,
    /// The reason, as text for a user.
    pub reason: String,
}

/// The kind of a [`Degraded`] cache; [`Cache::degraded`](super::Cache::degraded) has an example.
///
/// The enum is `#[non_exhaustive]`: later versions may add kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DegradedTo {
    /// The file was damaged. A new file holds the surviving entries, and the damaged file is kept
    /// beside it.
    Salvaged,
    /// The path had a file of another format, which was renamed. The cache is in a new file
    /// ([`CacheOptions::set_aside_strangers`](super::CacheOptions::set_aside_strangers)).
    Anew,
    /// The file is open for reading only. Its values are hits. A computed value is returned and not
    /// stored. Other changes fail with [`Error::ReadOnly`](crate::Error::ReadOnly).
    ReadOnly,
    /// The cache has no file. Computed values are stored in the memory of this process, until it
    /// ends. Other changes are made in memory and then return
    /// [`Error::FellBack`](crate::Error::FellBack), since no other process sees them.
    Memory,
}

impl fmt::Display for Degraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.to {
            DegradedTo::Salvaged => "the cache was salvaged: ",
            DegradedTo::Anew => "the cache is in a new file: ",
            DegradedTo::ReadOnly => "the cache cannot be written: ",
            DegradedTo::Memory => "the cache is in memory, until the program ends: ",
        })?;
        f.write_str(&self.reason)
    }
}

/// The function set by [`CacheOptions::on_degraded`](super::CacheOptions::on_degraded), if any.
#[derive(Clone, Default)]
pub(super) struct Listener(Option<Arc<Tell>>);

type Tell = dyn Fn(&Degraded) + Send + Sync;

impl Listener {
    pub(super) fn new(listener: impl Fn(&Degraded) + Send + Sync + 'static) -> Listener {
        Listener(Some(Arc::new(listener)))
    }

    /// Reports a degraded cache to the listener. Without a listener, writes a line to standard
    /// error, once in a process for each reason.
    pub(super) fn tell(&self, degraded: &Degraded) {
        static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        events::cache_degraded(&degraded.to, &degraded.reason.to_string());
        if let Some(listener) = &self.0 {
            return listener(degraded);
        }
        let line = degraded.to_string();
        let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.contains(&line) {
            // A program whose standard error is closed must still work.
            let _ = writeln!(std::io::stderr(), "brasa: {line}");
            told.insert(line);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "a listener",
            None => "standard error",
        })
    }
}
