//! The ways in which a cache is less than its caller asked for, and how the caller hears of them.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;

use crate::sync::{Arc, Mutex, PoisonError};

/// The state of a cache that is less than its caller asked for; from
/// [`Cache::degraded`](super::Cache::degraded).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Degraded {
    /// What the cache is instead.
    pub to: DegradedTo,
    /// The reason, as text.
    pub reason: String,
}

/// What a degraded cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DegradedTo {
    /// The file was damaged. A new file has what survives, and the damaged one is kept beside it.
    Salvaged,
    /// The path had a file of something else, which was renamed. The cache is in a new file
    /// ([`CacheOptions::set_aside_strangers`](super::CacheOptions::set_aside_strangers)).
    Anew,
    /// The file can only be read. Its values are hits; a computed value is returned and not stored;
    /// other changes are errors ([`Error::ReadOnly`](crate::Error::ReadOnly)).
    ReadOnly,
    /// There is no file. Computed values are stored in memory, for this process, until it ends. Other
    /// changes are made there, too, and are errors ([`Error::FellBack`](crate::Error::FellBack)),
    /// since no other process sees them.
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

/// What [`CacheOptions::on_degraded`](super::CacheOptions::on_degraded) has set.
#[derive(Clone, Default)]
pub(super) struct Listener(Option<Arc<Tell>>);

type Tell = dyn Fn(&Degraded) + Send + Sync;

impl Listener {
    pub(super) fn new(listener: impl Fn(&Degraded) + Send + Sync + 'static) -> Listener {
        Listener(Some(Arc::new(listener)))
    }

    /// Tells of a degraded cache: by a line on standard error, once a process for each reason, unless
    /// there is a listener.
    pub(super) fn tell(&self, degraded: &Degraded) {
        static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        if let Some(listener) = &self.0 {
            return listener(degraded);
        }
        let line = degraded.to_string();
        let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.contains(&line) {
            // A program without standard error goes on.
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
