//! Computing a value anew while the old one is still given out.

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

/// Most threads that refresh at a time; with more to do, old values are given out for longer.
const MAX_REFRESHERS: usize = 8;

impl Cache {
    /// Computes a value anew in this thread, unless somebody is at it.
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

    /// Has a value computed anew by a thread of its own, unless somebody is at it.
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
            // Nobody is there to hear of an error: it is counted, and remembered as the last one.
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
        // Without a thread the value stays as it is, and the next caller tries again.
        let _ = thread::Builder::new()
            .name("brasa-refresh".to_owned())
            .spawn(work);
    }

    /// The lease on a value that is to be computed anew, if nobody has it and the value is still
    /// the one that was seen.
    pub(super) fn claim(&self, name: &[u8], stored_at_ms: u64) -> Result<Option<Lease>> {
        let lease_name = lease_of(name);
        // A look costs little, and waits for nobody.
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

/// A place among the threads that refresh, which is free again when it is dropped.
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
    fn who_comes_to_a_refresh_that_is_done_does_not_do_it_again() {
        let cache = Cache::in_memory().unwrap();
        cache.insert("k", &"1".to_owned()).unwrap();
        let name = Name::of_value(&cache.inner.prefix, b"k");
        let bytes = cache.inner.store.get(name.bytes()).unwrap().unwrap();
        let stored_at_ms = Entry::read(&bytes).unwrap().stored_at_ms;
        assert!(cache.claim(name.bytes(), stored_at_ms).unwrap().is_some());
        let before = stored_at_ms - 1;
        assert!(cache.claim(name.bytes(), before).unwrap().is_none());
        let lease = cache.inner.store.get(&lease_of(name.bytes()));
        assert!(lease.unwrap().is_none(), "it was given back");
    }
}
