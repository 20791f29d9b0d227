//! Computing a value again while callers still get the old one.
//!
//! Invariant: one caller among all processes refreshes a value at a time, and no other caller waits
//! for it.

use std::fmt::Display;

use super::compute::Computed;
use super::entry::Entry;
use super::flight::Boarding;
use super::keys::lease_of;
use super::lease::Lease;
use super::look::Due;
use super::stats::count;
use super::{Cache, CacheError, CacheValue, Inner};
use crate::Result;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use crate::sync::thread;

/// The most threads of a handle that refresh at a time. Beyond that, callers get old values for
/// longer.
const MAX_REFRESHERS: usize = 8;

impl Cache {
    /// Computes a value again in this thread, unless another caller does.
    pub(super) fn refresh_here<T: CacheValue, E: Display>(
        &self,
        name: &[u8],
        due: Due<T>,
        compute: impl FnOnce() -> Result<Computed<T>, E>,
    ) -> Result<T, CacheError<E>> {
        let claim = match self.inner.flights.board(name) {
            Boarding::Lead(leader) => {
                let lease = self.claim(name, due.stored_at_ms);
                self.inner
                    .forgive(lease, None)?
                    .map(|lease| (leader, lease))
            }
            _ => None,
        };
        let Some((leader, lease)) = claim else {
            self.count_hit(&due);
            return Ok(due.value);
        };
        count(&self.inner.counters.refreshes);
        match self.compute_and_store(name, lease, leader, true, compute) {
            Err(CacheError::Compute(_)) => {
                self.count_hit(&due);
                Ok(due.value)
            }
            refreshed => refreshed,
        }
    }

    /// Starts a thread that computes a value again, unless another caller does.
    pub(super) fn refresh_elsewhere<T: CacheValue, E: Display>(
        &self,
        name: &[u8],
        stored_at_ms: u64,
        compute: impl FnOnce() -> Result<Computed<T>, E> + Send + 'static,
    ) {
        let Some(leader) = self.inner.flights.prepare(name) else {
            return;
        };
        let refreshers = &self.inner.refreshers;
        if refreshers.fetch_add(1, Ordering::Relaxed) >= MAX_REFRESHERS {
            refreshers.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let slot = Slot(Arc::clone(&self.inner));
        let cache = self.clone();
        let name = name.to_vec();
        let work = move || {
            leader.take_charge();
            let _slot = slot;
            // An error here has no caller: it is counted, and kept as the last error.
            let claimed = cache.claim(&name, stored_at_ms);
            if let Err(error) = &claimed {
                cache.inner.note(error);
            }
            if let Ok(Some(lease)) = claimed {
                count(&cache.inner.counters.refreshes);
                let refreshed = cache.compute_and_store(&name, lease, leader, true, compute);
                if let Err(CacheError::Cache(error)) = refreshed {
                    cache.inner.note(&error);
                }
            }
        };
        // If no thread can be started, the value stays as it is, and the next caller tries again.
        let _ = thread::Builder::new()
            .name("brasa-refresh".to_owned())
            .spawn(work);
    }

    /// Acquires the lease for a refresh. Returns `None` if another owner has it, or if the value
    /// was replaced since this caller read it.
    pub(super) fn claim(&self, name: &[u8], stored_at_ms: u64) -> Result<Option<Lease>> {
        let lease_name = lease_of(name);
        // A lookup is cheap and does not wait for the writer lock.
        if self.inner.store.is_held(&lease_name)? {
            return Ok(None);
        }
        let Some(lease) = self.inner.keeper.acquire_briefly(&lease_name)? else {
            return Ok(None);
        };
        let is_the_same = match self.inner.store.get(name)? {
            None => true,
            Some(bytes) => {
                Entry::read(&bytes).is_none_or(|entry| entry.stored_at_ms == stored_at_ms)
            }
        };
        Ok(is_the_same.then_some(lease))
    }
}

/// The slot of a refreshing thread. Dropping it frees the slot.
struct Slot(Arc<Inner>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.refreshers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::keys::Name;

    #[test]
    fn claim_fails_after_another_caller_has_refreshed_the_value() {
        let cache = Cache::in_memory().unwrap();
        cache.insert("k", &"1".to_owned()).unwrap();
        let name = Name::of_value(&cache.inner.prefix, b"k");
        let bytes = cache.inner.store.get(name.bytes()).unwrap().unwrap();
        let stored_at_ms = Entry::read(&bytes).unwrap().stored_at_ms;
        assert!(cache.claim(name.bytes(), stored_at_ms).unwrap().is_some());
        let before = stored_at_ms - 1;
        assert!(cache.claim(name.bytes(), before).unwrap().is_none());
        let lease = cache.inner.store.get(&lease_of(name.bytes()));
        assert!(lease.unwrap().is_none(), "the lease was released");
    }
}
