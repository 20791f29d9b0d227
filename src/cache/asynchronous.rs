//! Computing a value in a future, on the caller's tokio runtime.
//!
//! Invariants:
//!
//! 1. A call that can wait for a lock or a disk runs in `spawn_blocking`. A lookup in a file cannot
//!    wait, so a hit needs no switch of threads.
//! 2. A computation whose future is dropped releases its lease and ends its flight.

use std::fmt::Display;
use std::future::Future;

use super::compute::{Computation, Computed, NAPS, answer};
use super::flight::Leader;
use super::keys::{Name, lease_of};
use super::lease::Lease;
use super::look::{Due, Look};
use super::stats::count;
use super::store::Store;
use super::{Cache, CacheError, CacheValue, WaitTimeout};
use crate::Result;
use crate::events;
use crate::sync::Instant;

/// A computation in a future (invariant 2). Its lease is released on a thread that may block.
struct Pending(Option<Computation>);

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(computation) = self.0.take() else {
            return;
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(computation))),
            Err(_) => drop(computation),
        }
    }
}

/// The outcome of an attempt to acquire the lease on a missing value.
enum Attempt<T> {
    Ours(Box<Lease>),
    Answered(Look<T>),
    /// Another thread or process computes the value.
    Taken,
    /// The lease cannot be acquired: compute, and store nothing.
    Alone,
}

/// Runs `work` on a thread that may block.
async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and drops this future as well.
            Err(_) => std::future::pending().await,
        },
    }
}

impl Cache {
    /// Returns the value of a key, like [`Cache::get_or_insert_with`], for a computation that is a
    /// future. The future runs on the caller's tokio runtime, which must have its timer enabled.
    ///
    /// Of all tasks, threads and processes that miss the same key at once, one computes, and the
    /// others wait up to [`Cache::max_wait`]. A hit does not block, and every step that may block
    /// runs in `spawn_blocking`. If the returned future is dropped, its computation stops and
    /// another caller computes. A computation that asks for its own key waits for itself until
    /// `max_wait`.
    ///
    /// # Errors
    ///
    /// Those of [`Cache::get_or_insert_with`].
    ///
    /// # Panics
    ///
    /// If the future is polled outside of a tokio runtime, or the runtime has no timer.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    /// # runtime.block_on(async {
    /// let cache = brasa::Cache::in_memory()?;
    /// let row: String = cache
    ///     .get_or_insert_async("user:7", async || Ok::<_, std::io::Error>("Minevaldo".to_owned()))
    ///     .await?;
    /// assert_eq!(row, "Minevaldo");
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub async fn get_or_insert_async<T, E, C>(
        &self,
        key: impl AsRef<[u8]>,
        compute: impl FnOnce() -> C,
    ) -> Result<T, CacheError<E>>
    where
        T: CacheValue + Send + 'static,
        E: Display + Send + 'static,
        C: Future<Output = Result<T, E>>,
    {
        let name = Name::of_value(&self.inner.prefix, key.as_ref())
            .bytes()
            .to_vec();
        match self.look_async(&name).await? {
            Look::Fresh(value) => {
                self.inner.counters.hit();
                Ok(value)
            }
            Look::Due(due) => self.refresh_async(name, due, compute).await,
            Look::Failed(message) => {
                count(&self.inner.counters.failure_hits);
                Err(CacheError::FailedRecently { message })
            }
            Look::Miss => self.compute_once_async(name, compute).await,
        }
    }

    /// Looks a value up. A lookup on a server runs on a thread that may block (invariant 1).
    async fn look_async<T: CacheValue + Send + 'static>(&self, name: &[u8]) -> Result<Look<T>> {
        match &*self.inner.store {
            Store::Db(_) => self.look(name),
            #[cfg(feature = "redis")]
            Store::Remote(_) => {
                let (cache, name) = (self.clone(), name.to_vec());
                blocking(move || cache.look(&name)).await
            }
        }
    }

    /// Refreshes a value that is due. Returns the old value if another caller refreshes it, or if
    /// the computation fails.
    async fn refresh_async<T, E, C>(
        &self,
        name: Vec<u8>,
        due: Due<T>,
        compute: impl FnOnce() -> C,
    ) -> Result<T, CacheError<E>>
    where
        T: CacheValue + Send + 'static,
        E: Display + Send + 'static,
        C: Future<Output = Result<T, E>>,
    {
        if let Some(leader) = self.inner.flights.prepare(&name) {
            let (cache, claimed, stored_at_ms) = (self.clone(), name.clone(), due.stored_at_ms);
            let lease = blocking(move || cache.claim(&claimed, stored_at_ms)).await;
            if let Some(lease) = self.inner.forgive(lease, None)? {
                count(&self.inner.counters.refreshes);
                match self.compute_async(name, lease, leader, true, compute).await {
                    Err(CacheError::Compute(_)) => {}
                    refreshed => return refreshed,
                }
            }
        }
        self.count_hit(&due);
        Ok(due.value)
    }

    async fn compute_once_async<T, E, C>(
        &self,
        name: Vec<u8>,
        compute: impl FnOnce() -> C,
    ) -> Result<T, CacheError<E>>
    where
        T: CacheValue + Send + 'static,
        E: Display + Send + 'static,
        C: Future<Output = Result<T, E>>,
    {
        let counters = &self.inner.counters;
        count(&counters.misses);
        let begun = Instant::now();
        let mut nap = NAPS.0;
        loop {
            if let Some(leader) = self.inner.flights.prepare(&name) {
                let (cache, wanted) = (self.clone(), name.clone());
                match blocking(move || cache.attempt(&wanted)).await? {
                    Attempt::Ours(lease) => {
                        return self
                            .compute_async(name, *lease, leader, false, compute)
                            .await;
                    }
                    Attempt::Answered(look) => {
                        if let Some(answer) = answer(look) {
                            return answer;
                        }
                    }
                    Attempt::Taken => {}
                    Attempt::Alone => return self.compute_alone_async(compute).await,
                }
            }
            if begun.elapsed() >= self.settings.patience {
                counters.waited(begun.elapsed());
                return match self.settings.on_timeout {
                    WaitTimeout::Compute => self.compute_alone_async(compute).await,
                    WaitTimeout::Error => Err(self.timed_out(begun)),
                };
            }
            tokio::time::sleep(nap).await;
            nap = (nap * 3 / 2).min(NAPS.1);
            if let Some(answer) = answer(self.look_async(&name).await?) {
                counters.waited(begun.elapsed());
                return answer;
            }
        }
    }

    /// Acquires the lease on a missing value, if it is free.
    fn attempt<T: CacheValue>(&self, name: &[u8]) -> Result<Attempt<T>> {
        match self.inner.keeper.acquire(&lease_of(name)) {
            Ok(None) => Ok(Attempt::Taken),
            Ok(Some(lease)) => Ok(match self.look(name)? {
                Look::Miss => {
                    if lease.is_takeover() {
                        events::lease_taken_over(&lease_of(name));
                        count(&self.inner.counters.takeovers);
                    }
                    Attempt::Ours(Box::new(lease))
                }
                // The last owner has stored a value after this task's lookup.
                look => Attempt::Answered(look),
            }),
            Err(error) => self.inner.forgive(Err(error), Attempt::Alone),
        }
    }

    async fn compute_async<T, E, C>(
        &self,
        name: Vec<u8>,
        lease: Lease,
        leader: Leader,
        is_refresh: bool,
        compute: impl FnOnce() -> C,
    ) -> Result<T, CacheError<E>>
    where
        T: CacheValue + Send + 'static,
        E: Display + Send + 'static,
        C: Future<Output = Result<T, E>>,
    {
        let cache = self.clone();
        let begin = move || Pending(Some(cache.begin(lease, leader, is_refresh)));
        let mut pending = blocking(begin).await;
        let computed = compute().await.map(Computed::from);
        let Some(computation) = pending.0.take() else {
            unreachable!("only this function takes it");
        };
        let cache = self.clone();
        blocking(move || cache.finish(&name, computation, computed)).await
    }

    /// Computes without a lease, and stores nothing.
    async fn compute_alone_async<T, E, C>(
        &self,
        compute: impl FnOnce() -> C,
    ) -> Result<T, CacheError<E>>
    where
        C: Future<Output = Result<T, E>>,
    {
        let counters = &self.inner.counters;
        count(&counters.impatient);
        let begun = Instant::now();
        let computed = compute().await;
        counters.computed(begun.elapsed());
        count(match &computed {
            Ok(_) => &counters.not_stored,
            Err(_) => &counters.failures,
        });
        computed.map_err(CacheError::Compute)
    }
}
