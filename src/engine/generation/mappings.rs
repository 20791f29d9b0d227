//! The mapping that shows a file, as the file grows.
//!
//! A mapping is replaced by a larger one, at least twice as long, and lives as long as the
//! generation. So a lookup finds the newest mapping with one load, without a lock or a reference
//! count.

use std::io;

use crate::storage::Mapping;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex, OnceLock, PoisonError};

/// From the shortest file to the longest it doubles less often than that.
const MOST_LATER: usize = 48;

/// See the module.
#[derive(Debug)]
pub(super) struct Mappings {
    first: Arc<Mapping>,
    later: [OnceLock<Arc<Mapping>>; MOST_LATER],
    /// How many of `later` there are.
    count: AtomicUsize,
    growing: Mutex<()>,
}

impl Mappings {
    pub(super) fn new(first: Mapping) -> Mappings {
        Mappings {
            first: Arc::new(first),
            later: [const { OnceLock::new() }; MOST_LATER],
            count: AtomicUsize::new(0),
            growing: Mutex::new(()),
        }
    }

    /// The one that was made first, which shows the head of the file as well as any.
    pub(super) fn first(&self) -> &Mapping {
        &self.first
    }

    /// The one that shows most.
    pub(super) fn newest(&self) -> &Arc<Mapping> {
        let last = self.count.load(Ordering::Acquire).checked_sub(1);
        let later = last.and_then(|last| self.later.get(last)?.get());
        later.unwrap_or(&self.first)
    }

    /// Puts what `map` gives in its place, where it does not show the file up to `end`.
    pub(super) fn cover(
        &self,
        end: u64,
        map: impl FnOnce() -> io::Result<Mapping>,
    ) -> io::Result<()> {
        let _one = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.newest().covers(end) {
            return Ok(());
        }
        let count = self.count.load(Ordering::Acquire);
        let place = self.later.get(count);
        let place = place.ok_or_else(|| io::Error::other("it was mapped too many times"))?;
        if place.set(Arc::new(map()?)).is_ok() {
            let old = Arc::clone(self.newest());
            self.count.store(count + 1, Ordering::Release);
            old.rest();
        }
        Ok(())
    }
}
