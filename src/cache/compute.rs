//! Computing a value once, whoever asks for it meanwhile.

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
use crate::sync::Instant;
use crate::{Result, Value};

/// How long who waits for another process sleeps between two looks, at first and at most.
pub(super) const NAPS: (Duration, Duration) =
    (Duration::from_micros(200), Duration::from_millis(4));

/// How the wait for a lease has ended.
enum Turn<T> {
    /// It is ours, and there is still no value.
    Ours(Lease),
    /// Somebody has stored a value meanwhile.
    Answered(Look<T>),
    /// There is none to be had: compute, and store nothing.
    Alone,
    /// Its owner renews it, and this call has waited for [`Cache::max_wait`].
    TimedOut,
}

fn value_of<T, E>(computed: Result<Computed<T>, E>) -> Result<T, CacheError<E>> {
    let value = computed.map(|computed| computed.value);
    value.map_err(CacheError::Compute)
}

/// A value that was computed, with the TTL that it came with instead of the view's.
pub(super) struct Computed<T> {
    value: T,
    ttl: Option<Duration>,
}

impl<T> From<T> for Computed<T> {
    fn from(value: T) -> Self {
        Computed { value, ttl: None }
    }
}

/// A computation that has begun. Dropping it gives its lease back and ends its flight.
pub(super) struct Computation {
    lease: Lease,
    leader: Leader,
    is_refresh: bool,
    stamps: Result<Vec<(Vec<u8>, u64)>>,
    begun: Instant,
}

impl Cache {
    /// The value of a key; where there is none, what `compute` gives, which is stored.
    ///
    /// Of all threads and processes that miss the same key at once, one computes, and the others
    /// wait for it. The threads of one handle and its clones wait for however long it takes; other
    /// processes up to [`Cache::max_wait`], and then do what [`Cache::on_wait_timeout`] says. A
    /// value whose time is nearly up is computed anew by one caller, while the others get the old
    /// one. If that fails, that caller gets the old one, too.
    ///
    /// `compute` may use this cache. If it panics, others go on as if it had failed. It must not
    /// wait for another thread that asks for the same key.
    ///
    /// # Errors
    ///
    /// - [`CacheError::Compute`] with the error of `compute`.
    /// - [`CacheError::FailedRecently`] with [`Cache::negative_ttl`] alone.
    /// - [`CacheError::TimedOut`] with [`WaitTimeout::Error`] alone.
    /// - [`CacheError::Cache`] of a strict cache alone.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = brasa::Cache::in_memory()?;
    /// let computed: String = cache.get_or_insert_with("k", || "4".parse::<u8>().map(|n| n.to_string()))?;
    /// let found: String = cache.get_or_insert_with("k", || "x".parse::<u8>().map(|n| n.to_string()))?;
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

    /// Like [`Cache::get_or_insert_with`], for a computation that decides how long its value is
    /// fresh: it returns the value with its TTL, instead of [`Cache::ttl`].
    ///
    /// So a missing row can be remembered for a shorter time than a row: with feature `serde`, an
    /// `Option` is a value. For a TTL per call, use a view: `cache.clone().ttl(ttl)`.
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

    /// Returns the value of a key, and never an error: for a computation that cannot fail.
    ///
    /// It is stored and shared as by [`Cache::get_or_insert_with`]. If the cache has an error, or
    /// the wait for another computation ends in one, the value is computed here and not stored. A
    /// strict cache may compute it twice: once before the error.
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

    /// As [`Cache::get_or_insert_with`]; but what is due to be computed anew is computed by a
    /// thread of its own, and nobody waits: the caller gets the old value at once.
    ///
    /// Only a miss is computed by the caller. At most 8 threads refresh at a time.
    ///
    /// # Errors
    ///
    /// As [`Cache::get_or_insert_with`]. An error in the background is counted in
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

    /// What is to be done about a miss.
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

    /// Waits until the lease is free, or there is a value, or patience is at its end.
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
                    // Its last owner may have stored a value since this thread looked.
                    return Ok(match self.look(name)? {
                        Look::Miss => {
                            if lease.is_takeover() {
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
                // However long it waited, the lease would not become free.
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

    /// Computes without a lease, and stores nothing (invariant 2 of the module). Threads that wait
    /// for this one get the value.
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

    /// Computes under the lease, stores the outcome, and gives the lease back.
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

    /// Begins a computation: reads the stamps of its tags (invariant 3 of the module).
    pub(super) fn begin(&self, lease: Lease, leader: Leader, is_refresh: bool) -> Computation {
        Computation {
            lease,
            leader,
            is_refresh,
            stamps: self.stamps(),
            begun: Instant::now(),
        }
    }

    /// Stores the outcome of a computation and gives its lease back.
    ///
    /// A failed refresh leaves the lease to expire, so that the next attempt comes a moment later.
    /// Until then callers get the old value without an attempt.
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
                // Without its tags it is not to be stored; who waits gets it all the same.
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
            // If it was not stored, the key was invalidated or has a newer value: threads that wait
            // look again, since they may have asked after that.
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

/// What a look means to somebody who waits; `None` where the wait goes on.
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

    /// Between a look and the lease there is a moment in which another process may store the value
    /// and give the lease back.
    #[test]
    fn who_has_the_lease_looks_again_before_computing() {
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
        assert!(lease.unwrap().is_none(), "it was given back");
    }
}
