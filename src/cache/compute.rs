//! Computing a missing value once, for all callers that ask for it at the same time.
//!
//! Invariants:
//!
//! 1. The threads of a handle compute a key one at a time, except a thread that must not wait: it
//!    would wait for itself, or it is within a write to the same file.
//! 2. A value is stored only under its lease. A computation without a lease returns its value and
//!    stores nothing.
//! 3. Every computation ends its flight and gives its lease back, also if it fails or panics.

use std::convert::Infallible;
use std::fmt::Display;
use std::time::Duration;

use super::flight::{Boarding, Leader, Waited};
use super::keys::{Name, lease_of};
use super::lease::Lease;
use super::look::{Due, Look};
use super::settings::{LONGEST_LIFE, Life};
use super::stats::count;
use super::store::Stored;
use super::{Cache, CacheError, CacheValue, WaitTimeout};
use crate::clock::Patience;
use crate::events;
use crate::sync::Instant;
use crate::{Result, Value};

/// The first and the longest sleep between two lookups, for a caller that waits for another
/// process.
pub(super) const NAPS: (Duration, Duration) =
    (Duration::from_micros(200), Duration::from_millis(4));

/// The end of a wait for a lease.
enum Turn<T> {
    /// This call acquired the lease, and there is still no value.
    Ours(Lease),
    /// Another owner has stored a value meanwhile.
    Answered(Look<T>),
    /// The lease cannot be acquired: compute, and store nothing.
    Alone,
    /// The owner renews the lease, and this call has waited [`Cache::max_wait`].
    TimedOut,
}

fn value_of<T, E>(computed: Result<Computed<T>, E>) -> Result<T, CacheError<E>> {
    let value = computed.map(|computed| computed.value);
    value.map_err(CacheError::Compute)
}

/// A computed value, with its own TTL if the computation returned one.
pub(super) struct Computed<T> {
    value: T,
    ttl: Option<Duration>,
}

impl<T> From<T> for Computed<T> {
    fn from(value: T) -> Self {
        Computed { value, ttl: None }
    }
}

/// A computation that has begun. Dropping it releases its lease and ends its flight.
pub(super) struct Computation {
    lease: Lease,
    leader: Leader,
    is_refresh: bool,
    stamps: Result<Vec<(Vec<u8>, u64)>>,
    begun: Instant,
}

impl Cache {
    /// Returns the value of a key. If the value is missing, computes it by `compute` and stores it.
    ///
    /// Of all threads and processes that miss the same key at once, one computes, and the others
    /// wait for it. The threads of one handle and its clones wait without a limit. Other processes
    /// wait up to [`Cache::max_wait`], and then follow [`Cache::on_wait_timeout`].
    ///
    /// When a value is stale or nearly stale, one caller computes it again, and the others get the
    /// old value. If that computation fails, its caller gets the old value as well.
    ///
    /// `compute` may use this cache. If it panics, other callers continue as after a failure. It
    /// must not wait for another thread that asks for the same key.
    ///
    /// # Errors
    ///
    /// - [`CacheError::Compute`] with the error of `compute`.
    /// - [`CacheError::FailedRecently`], only with [`Cache::negative_ttl`].
    /// - [`CacheError::TimedOut`], only with [`WaitTimeout::Error`].
    /// - [`CacheError::Cache`], only from a strict cache.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = brasa::Cache::in_memory()?;
    /// let lookup = |text: &str| text.parse::<u8>().map(|number| number.to_string());
    /// let computed: String = cache.get_or_insert_with("k", || lookup("4"))?;
    /// let found: String = cache.get_or_insert_with("k", || lookup("x"))?; // a hit
    /// assert_eq!((&*computed, &*found), ("4", "4"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_or_insert_with<T: CacheValue, E: Display>(
        &self,
        key: impl AsRef<[u8]>,
        compute: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, CacheError<E>> {
        self.get_or_insert_computed(key.as_ref(), || compute().map(Computed::from))
    }

    /// Like [`Cache::get_or_insert_with`], for a computation that returns its value together with a
    /// TTL, which replaces [`Cache::ttl`].
    ///
    /// With feature `serde` an `Option` is a value, so a missing row can have a shorter TTL than a
    /// row. For a TTL that the caller chooses, use a view: `cache.clone().ttl(ttl)`.
    ///
    /// # Errors
    ///
    /// Those of [`Cache::get_or_insert_with`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// let cache = brasa::Cache::in_memory()?;
    /// let token: String = cache.get_or_insert_for("token", || {
    ///     let (token, expires_in) = ("5f1c".to_owned(), 3_600); // the answer of a service
    ///     std::io::Result::Ok((token, Duration::from_secs(expires_in)))
    /// })?;
    /// assert_eq!(token, "5f1c");
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_or_insert_for<T: CacheValue, E: Display>(
        &self,
        key: impl AsRef<[u8]>,
        compute: impl FnOnce() -> Result<(T, Duration), E>,
    ) -> Result<T, CacheError<E>> {
        let compute = || {
            compute().map(|(value, ttl)| Computed {
                value,
                ttl: Some(ttl.min(LONGEST_LIFE)),
            })
        };
        self.get_or_insert_computed(key.as_ref(), compute)
    }

    /// Returns the value of a key, without an error, for a computation that cannot fail.
    ///
    /// The value is stored and shared as by [`Cache::get_or_insert_with`]. If that call would
    /// return an error, this one computes the value and does not store it. A strict cache may then
    /// compute the value twice: once before the error and once after it.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let cache = brasa::Cache::in_memory()?;
    /// let upper: String = cache.get_with("recife", || "recife".to_uppercase());
    /// assert_eq!(upper, "RECIFE");
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_with<T: CacheValue>(&self, key: impl AsRef<[u8]>, compute: impl Fn() -> T) -> T {
        let computed = self.get_or_insert_with(key, || Ok::<_, Infallible>(compute()));
        computed.unwrap_or_else(|_| compute())
    }

    fn get_or_insert_computed<T: CacheValue, E: Display>(
        &self,
        key: &[u8],
        compute: impl FnOnce() -> Result<Computed<T>, E>,
    ) -> Result<T, CacheError<E>> {
        let name = Name::of_value(&self.inner.prefix, key);
        let name = name.bytes();
        let mut other = Look::Miss;
        if let Some(value) = self.fresh(name, &mut other)? {
            self.inner.counters.hit();
            return Ok(value);
        }
        match other {
            Look::Due(due) => self.refresh_here(name, due, compute),
            Look::Failed(message) => {
                count(&self.inner.counters.failure_hits);
                Err(CacheError::FailedRecently { message })
            }
            _ => self.compute_once(name, compute),
        }
    }

    /// Like [`Cache::get_or_insert_with`], but a stale or nearly stale value is computed again by a
    /// thread in the background. The caller gets the old value at once.
    ///
    /// The caller computes only on a miss. At most 8 threads of a handle refresh at a time; beyond
    /// that, old values are returned for longer.
    ///
    /// # Errors
    ///
    /// Those of [`Cache::get_or_insert_with`]. A failure in the background is counted in
    /// [`CacheStats::failures`](super::CacheStats::failures).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// let cache = brasa::Cache::in_memory()?
    ///     .ttl(Duration::from_secs(10))
    ///     .stale_while_revalidate(Duration::from_secs(60));
    /// let name = "Minevaldo".to_owned();
    /// let row: String = cache.get_or_refresh_with("user:7", move || std::io::Result::Ok(name))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_or_refresh_with<T: CacheValue, E: Display>(
        &self,
        key: impl AsRef<[u8]>,
        compute: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, CacheError<E>> {
        let name = Name::of_value(&self.inner.prefix, key.as_ref());
        let name = name.bytes();
        let mut other = Look::Miss;
        if let Some(value) = self.fresh(name, &mut other)? {
            self.inner.counters.hit();
            return Ok(value);
        }
        match other {
            Look::Due(due) => {
                self.count_hit(&due);
                let compute = || compute().map(Computed::from);
                self.refresh_elsewhere::<T, E>(name, due.stored_at_ms, compute);
                Ok(due.value)
            }
            Look::Failed(message) => {
                count(&self.inner.counters.failure_hits);
                Err(CacheError::FailedRecently { message })
            }
            _ => self.compute_once(name, || compute().map(Computed::from)),
        }
    }

    /// Handles a miss: leads the computation, or waits for the thread or process that leads it.
    fn compute_once<T: CacheValue, E: Display>(
        &self,
        name: &[u8],
        compute: impl FnOnce() -> Result<Computed<T>, E>,
    ) -> Result<T, CacheError<E>> {
        let counters = &self.inner.counters;
        count(&counters.misses);
        if let Err(error) = self.inner.store.refuse_wait_within_write() {
            self.inner.forgive(Err(error), ())?;
            return self.compute_alone(None, compute);
        }
        let begun = Instant::now();
        let mut patience = Patience::new(self.settings.patience);
        let leader = loop {
            let waiting = match self.inner.flights.board(name) {
                Boarding::Lead(leader) => break leader,
                Boarding::Nested => return self.compute_alone(None, compute),
                Boarding::Wait(waiting) => waiting,
            };
            let is_limited = matches!(self.settings.on_timeout, WaitTimeout::Error);
            let landing = match waiting.wait(&mut patience, is_limited) {
                Waited::Landed(landing) => landing,
                Waited::TimedOut => {
                    counters.waited(begun.elapsed());
                    return Err(self.timed_out(begun));
                }
                Waited::Deadlock => return self.compute_alone(None, compute),
            };
            let look = match landing.entry {
                Some(entry) => self.look_into(Value::owned(&entry))?,
                None => self.look(name)?,
            };
            if let Some(answer) = answer(look) {
                counters.waited(begun.elapsed());
                return answer;
            }
        };
        match self.wait_for_lease(name, begun, patience)? {
            Turn::Ours(lease) => self.compute_and_store(name, lease, leader, false, compute),
            Turn::Alone => self.compute_alone(Some(leader), compute),
            Turn::TimedOut => match self.settings.on_timeout {
                WaitTimeout::Compute => self.compute_alone(Some(leader), compute),
                WaitTimeout::Error => Err(self.timed_out(begun)),
            },
            Turn::Answered(look) => match answer(look) {
                Some(answer) => answer,
                None => self.compute_alone(Some(leader), compute),
            },
        }
    }

    pub(super) fn timed_out<E>(&self, begun: Instant) -> CacheError<E> {
        count(&self.inner.counters.timeouts);
        CacheError::TimedOut {
            waited: begun.elapsed(),
        }
    }

    /// Waits until the lease is free, a value is stored, or `patience` is over.
    fn wait_for_lease<T: CacheValue>(
        &self,
        name: &[u8],
        begun: Instant,
        mut patience: Patience,
    ) -> Result<Turn<T>> {
        let lease_name = lease_of(name);
        let counters = &self.inner.counters;
        let mut nap = NAPS.0;
        let mut has_waited = false;
        let note_wait = |has_waited: bool| {
            if has_waited {
                counters.waited(begun.elapsed());
            }
        };
        loop {
            match self.inner.keeper.acquire(&lease_name) {
                Ok(Some(lease)) => {
                    note_wait(has_waited);
                    // The last owner may have stored a value after this thread's lookup.
                    return Ok(match self.look(name)? {
                        Look::Miss => {
                            if lease.is_takeover() {
                                events::lease_taken_over(&lease_name);
                                count(&counters.takeovers);
                            }
                            Turn::Ours(lease)
                        }
                        look => Turn::Answered(look),
                    });
                }
                Ok(None) => {}
                Err(error) => return self.inner.forgive(Err(error), Turn::Alone),
            }
            match self.inner.keeper.is_own(&lease_name) {
                Ok(false) => {}
                // This thread holds the lease itself, so it would never become free.
                Ok(true) => return Ok(Turn::TimedOut),
                Err(error) => return self.inner.forgive(Err(error), Turn::Alone),
            }
            loop {
                match self.inner.store.is_held(&lease_name) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => return self.inner.forgive(Err(error), Turn::Alone),
                }
                if patience.is_over() {
                    note_wait(true);
                    return Ok(Turn::TimedOut);
                }
                has_waited = true;
                patience.sleep(nap);
                nap = (nap * 3 / 2).min(NAPS.1);
                match self.look(name)? {
                    Look::Miss => {}
                    look => {
                        note_wait(true);
                        return Ok(Turn::Answered(look));
                    }
                }
            }
        }
    }

    /// Computes without a lease, and stores nothing (invariant 2). Threads that wait for this one
    /// get the value.
    fn compute_alone<T: CacheValue, E: Display>(
        &self,
        leader: Option<Leader>,
        compute: impl FnOnce() -> Result<Computed<T>, E>,
    ) -> Result<T, CacheError<E>> {
        let counters = &self.inner.counters;
        count(&counters.impatient);
        let begun = Instant::now();
        let computed = compute();
        counters.computed(begun.elapsed());
        match &computed {
            Err(_) => count(&counters.failures),
            Ok(computed) => {
                count(&counters.not_stored);
                let life = self.life_of(computed.ttl.or(self.settings.ttl));
                if let Some(leader) = leader
                    && let Ok(entry) = self.encode(&computed.value, begun.elapsed(), life, &[])
                {
                    leader.land(&entry);
                }
            }
        }
        value_of(computed)
    }

    /// Computes under the lease, stores the outcome and releases the lease.
    pub(super) fn compute_and_store<T: CacheValue, E: Display>(
        &self,
        name: &[u8],
        lease: Lease,
        leader: Leader,
        is_refresh: bool,
        compute: impl FnOnce() -> Result<Computed<T>, E>,
    ) -> Result<T, CacheError<E>> {
        let computation = self.begin(lease, leader, is_refresh);
        let computing = computation.lease.computing();
        let computed = compute();
        drop(computing);
        self.finish(name, computation, computed)
    }

    /// Begins a computation. Reads the stamps of its tags first (invariant 3 of `mod.rs`).
    pub(super) fn begin(&self, lease: Lease, leader: Leader, is_refresh: bool) -> Computation {
        Computation {
            lease,
            leader,
            is_refresh,
            stamps: self.stamps(),
            begun: Instant::now(),
        }
    }

    /// Stores the outcome of a computation and releases its lease.
    ///
    /// A failed refresh lets the lease expire instead, so that the next attempt comes half a second
    /// later. Until then callers get the old value without an attempt.
    pub(super) fn finish<T: CacheValue, E: Display>(
        &self,
        name: &[u8],
        computation: Computation,
        computed: Result<Computed<T>, E>,
    ) -> Result<T, CacheError<E>> {
        let Computation {
            lease,
            leader,
            is_refresh,
            stamps,
            begun,
        } = computation;
        let counters = &self.inner.counters;
        let took = begun.elapsed();
        counters.computed(took);
        let life = match (&computed, self.settings.negative_ttl) {
            (Ok(computed), _) => self.life_of(computed.ttl.or(self.settings.ttl)),
            (Err(_), Some(ttl)) if !is_refresh => Life::brief(ttl),
            (Err(_), _) => {
                count(&counters.failures);
                if is_refresh {
                    lease.leave();
                }
                return value_of(computed);
            }
        };
        if computed.is_err() {
            count(&counters.failures);
        }
        let encode = |stamps: &[(Vec<u8>, u64)]| match &computed {
            Ok(computed) => self.encode(&computed.value, took, life, stamps),
            Err(error) => Ok(self.failure(error, took, life, stamps)),
        };
        let stamps = match stamps {
            Ok(stamps) => stamps,
            Err(error) => {
                // An entry without its tags must not be stored, since no invalidation would reach
                // it. Threads that wait still get the value.
                if let Ok(entry) = encode(&[]) {
                    leader.land(&entry);
                }
                drop(lease);
                count(&counters.not_stored);
                self.inner.forgive(Err(error), ())?;
                return value_of(computed);
            }
        };
        let encoded = encode(&stamps);
        let stored = encoded.and_then(|entry| {
            let stored = Stored {
                key: name,
                value: &entry,
                ttl: life.hard,
            };
            let is_stored = lease.settle(stored);
            if is_stored.is_err() {
                leader.land(&entry);
            }
            // If nothing was stored, the key was invalidated or has a newer value. Threads that
            // wait look it up again, since they may have asked after that change.
            is_stored
        });
        match stored {
            Ok(true) => self.note_version(),
            _ => count(&counters.not_stored),
        }
        self.inner.forgive(stored, false)?;
        value_of(computed)
    }
}

/// Returns the answer that a lookup gives to a waiting caller, or `None` if the caller must wait
/// on.
pub(super) fn answer<T, E>(look: Look<T>) -> Option<Result<T, CacheError<E>>> {
    match look {
        Look::Fresh(value) | Look::Due(Due { value, .. }) => Some(Ok(value)),
        Look::Failed(message) => Some(Err(CacheError::FailedRecently { message })),
        Look::Miss => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between a lookup and the lease, another process may store the value and release the lease.
    #[test]
    fn owner_of_the_lease_looks_again_before_it_computes() {
        let cache = Cache::in_memory().unwrap();
        cache.insert("k", &"of another".to_owned()).unwrap();
        let name = Name::of_value(&cache.inner.prefix, b"k");
        let patience = Patience::new(cache.settings.patience);
        let turn = cache.wait_for_lease::<String>(name.bytes(), Instant::now(), patience);
        match turn.unwrap() {
            Turn::Answered(Look::Fresh(value)) => assert_eq!(value, "of another"),
            _ => unreachable!("it would have been computed again"),
        }
        let lease = cache.inner.store.get(&lease_of(name.bytes()));
        assert!(lease.unwrap().is_none(), "the lease was released");
    }
}
