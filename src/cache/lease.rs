//! The lease on a key. Of all processes, the owner of the lease computes the value.
//!
//! A lease is a key of its own in the store; `tokens.rs` defines its contents. While the owner
//! computes, a thread of its process renews the lease every tenth of a second. If the process is
//! killed or stopped, no thread renews the lease, and after [`LEASE_TTL`] another process may
//! acquire it. A takeover therefore needs no information about the owner, which may be on another
//! host.
//!
//! Invariants:
//!
//! 1. A lease that its owner renews is never acquired by another, for as long as the owner
//!    computes.
//! 2. A value is stored in the same step that finds its owner's token in the lease. Storing a newer
//!    value and invalidating the key both remove the token, so a late owner overwrites nothing
//!    newer.
//! 3. A lost lease is not renewed: only the owner's token extends the deadline.
//! 4. No thread waits for a lease that it holds itself, on this handle or another one of the same
//!    file.

use std::cell::RefCell;
use std::time::Duration;

use super::early::random;
use super::store::{Store, Stored};
use super::tokens::{Acquired, is_owner};
use crate::Result;
use crate::sync::Instant;
use crate::sync::thread;
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The interval at which leases are renewed.
const RENEW_EVERY: Duration = Duration::from_millis(100);

/// The time for which the thread stays alive without a lease to renew.
const LINGER: Duration = Duration::from_secs(2);

/// A lease that this process holds. Dropping it releases it.
pub(super) struct Lease {
    keeper: Arc<Keeper>,
    name: Vec<u8>,
    token: Vec<u8>,
    is_held: bool,
    is_takeover: bool,
}

/// The leases of a handle, and the thread that renews them.
pub(super) struct Keeper {
    store: Arc<Store>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Vec<(Vec<u8>, Vec<u8>)>,
    is_running: bool,
}

crate::sync::thread_local! {
    /// The tokens of the leases under which this thread computes, of all handles.
    static COMPUTING: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Marks the thread that computes under a lease; see [`Keeper::is_own`].
pub(super) struct Computing;

impl Drop for Computing {
    fn drop(&mut self) {
        COMPUTING.with_borrow_mut(|tokens| tokens.pop());
    }
}

/// Returns a unique token. It begins with the process number, as a hint for reading the store.
fn new_token() -> Vec<u8> {
    format!("{}-{:016x}{:016x}", std::process::id(), random(), random()).into_bytes()
}

impl Keeper {
    pub(super) fn new(store: Arc<Store>) -> Arc<Keeper> {
        Arc::new(Keeper {
            store,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A push or a removal cannot be left half done, so a poisoned lock is still consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acquires a lease. Returns `None` if another owner renews it.
    pub(super) fn acquire(self: &Arc<Self>, name: &[u8]) -> Result<Option<Lease>> {
        let token = new_token();
        let acquired = self.store.acquire(name, &token)?;
        Ok(self.hold(name, token, acquired))
    }

    /// Like [`Keeper::acquire`], for a caller that has an old value. Waits at most 2 ms for the
    /// writer lock, and returns `None` after that.
    pub(super) fn acquire_briefly(self: &Arc<Self>, name: &[u8]) -> Result<Option<Lease>> {
        let token = new_token();
        let acquired = self.store.acquire_briefly(name, &token)?;
        Ok(self.hold(name, token, acquired))
    }

    /// Returns whether this thread holds the lease, and so would wait for itself (invariant 4).
    pub(super) fn is_own(&self, name: &[u8]) -> Result<bool> {
        if COMPUTING.with_borrow(Vec::is_empty) {
            return Ok(false);
        }
        let held = self.store.get(name)?;
        Ok(held.is_some_and(|held| {
            COMPUTING.with_borrow(|tokens| tokens.iter().any(|token| is_owner(&held, token)))
        }))
    }

    fn hold(self: &Arc<Self>, name: &[u8], token: Vec<u8>, acquired: Acquired) -> Option<Lease> {
        if acquired == Acquired::No {
            return None;
        }
        let mut state = self.lock();
        state.held.push((name.to_vec(), token.clone()));
        if !state.is_running {
            let keeper = Arc::downgrade(self);
            // If no thread can be started, the lease is not renewed. A computation that takes
            // longer than LEASE_TTL may then run twice.
            let started = thread::Builder::new()
                .name("brasa-cache".to_owned())
                .spawn(move || renew_all(&keeper));
            state.is_running = started.is_ok();
        }
        drop(state);
        Some(Lease {
            keeper: Arc::clone(self),
            name: name.to_vec(),
            token,
            is_held: true,
            is_takeover: acquired == Acquired::Lapsed,
        })
    }

    /// Stops renewing the leases that are held now, as if the process were stopped.
    #[cfg(test)]
    pub(super) fn forget_all(&self) {
        self.lock().held.clear();
    }

    fn forget(&self, token: &[u8]) {
        self.lock().held.retain(|(_, held)| held != token);
    }
}

/// The renewing thread. Ends when it has had no lease for [`LINGER`], or the handle is dropped.
fn renew_all(keeper: &Weak<Keeper>) {
    let mut idle_since = Instant::now();
    loop {
        thread::sleep(RENEW_EVERY);
        let Some(keeper) = keeper.upgrade() else {
            return;
        };
        let mut state = keeper.lock();
        if !state.held.is_empty() {
            idle_since = Instant::now();
        } else if idle_since.elapsed() > LINGER {
            state.is_running = false;
            return;
        }
        let held = state.held.clone();
        drop(state);
        for (name, token) in held {
            // After an error the next round tries again.
            if let Ok(false) = keeper.store.renew(&name, &token) {
                keeper.forget(&token); // invariant 3
            }
        }
    }
}

impl Lease {
    /// Returns whether the lease was acquired from an owner that had stopped renewing it.
    pub(super) fn is_takeover(&self) -> bool {
        self.is_takeover
    }

    /// Marks this thread as computing under the lease until the guard is dropped. Guards must be
    /// dropped in reverse order, since one computation may run within another.
    pub(super) fn computing(&self) -> Computing {
        COMPUTING.with_borrow_mut(|tokens| tokens.push(self.token.clone()));
        Computing
    }

    /// Stores an entry and releases the lease. Returns `false` without storing if a newer value was
    /// stored or the key was invalidated meanwhile (invariant 2).
    pub(super) fn settle(mut self, stored: Stored<'_>) -> Result<bool> {
        self.end();
        self.keeper
            .store
            .settle(&self.name, &self.token, Some(stored))
    }

    /// Stops renewing the lease without releasing it. Others can acquire it when it has lapsed.
    pub(super) fn leave(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.is_held = false;
        self.keeper.forget(&self.token);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.is_held {
            self.end();
            // If this fails, the lease lapses after LEASE_TTL.
            let _ = self.keeper.store.settle(&self.name, &self.token, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::{KEPT, LEASE_TTL};
    use super::*;
    use crate::{Db, ManualClock, SetOptions, Ttl};

    fn keepers() -> (ManualClock, Arc<Store>, [Arc<Keeper>; 3]) {
        let clock = ManualClock::new(1_700_000_000_000);
        let db = Db::options().clock(clock.clone()).open_in_memory().unwrap();
        let store = Arc::new(Store::Db(db));
        let keepers = [(); 3].map(|()| Keeper::new(Arc::clone(&store)));
        (clock, store, keepers)
    }

    fn stored(value: &[u8]) -> Stored<'_> {
        Stored {
            key: b"v",
            value,
            ttl: None,
        }
    }

    /// Returns the lease of a stopped owner, which does not renew it.
    fn stopped(clock: &ManualClock, keeper: &Arc<Keeper>) -> Lease {
        let lease = keeper.acquire(b"l").unwrap().unwrap();
        keeper.lock().held.clear();
        clock.advance(LEASE_TTL);
        lease
    }

    #[test]
    fn lease_has_one_owner_until_it_is_released() {
        let (_, store, [one, other, _]) = keepers();
        let lease = one.acquire(b"l").unwrap().unwrap();
        assert!(other.acquire(b"l").unwrap().is_none());
        assert!(other.acquire_briefly(b"l").unwrap().is_none());
        drop(lease);
        let lease = other.acquire(b"l").unwrap().unwrap();
        assert!(!lease.is_takeover());
        assert!(lease.settle(stored(b"1")).unwrap());
        assert_eq!(store.get(b"v").unwrap().unwrap(), b"1");
        assert!(store.get(b"l").unwrap().is_none());
    }

    #[test]
    fn lease_of_an_owner_that_stopped_is_taken_after_its_term() {
        let (clock, _, [one, other, _]) = keepers();
        let _late = one.acquire(b"l").unwrap().unwrap();
        one.lock().held.clear();
        clock.advance(LEASE_TTL - Duration::from_millis(1));
        assert!(other.acquire(b"l").unwrap().is_none());
        clock.advance(Duration::from_millis(1));
        assert!(other.acquire(b"l").unwrap().unwrap().is_takeover());
    }

    #[test]
    fn displaced_owner_stores_its_value_if_nothing_newer_is_there() {
        let (clock, store, [one, other, third]) = keepers();
        let first = stopped(&clock, &one);
        let second = stopped(&clock, &other);
        let third = third.acquire(b"l").unwrap().unwrap();
        assert!(second.settle(stored(b"second")).unwrap());
        assert_eq!(store.get(b"v").unwrap().unwrap(), b"second");
        assert!(!first.settle(stored(b"first")).unwrap(), "it is older");
        assert!(third.settle(stored(b"third")).unwrap());
        assert_eq!(store.get(b"v").unwrap().unwrap(), b"third");
        assert!(store.get(b"l").unwrap().is_none());
    }

    #[test]
    fn displaced_owner_stores_its_value_after_the_next_one_has_failed() {
        let (clock, store, [one, other, third]) = keepers();
        let first = stopped(&clock, &one);
        drop(other.acquire(b"l").unwrap().unwrap());
        // A released lease is free at once.
        drop(third.acquire(b"l").unwrap().unwrap());
        assert!(first.settle(stored(b"first")).unwrap());
        assert_eq!(store.get(b"v").unwrap().unwrap(), b"first");
        assert!(store.get(b"l").unwrap().is_none());
    }

    #[test]
    fn owner_whose_lease_lapsed_and_was_not_taken_stores_its_value() {
        let (clock, store, [one, ..]) = keepers();
        let late = stopped(&clock, &one);
        clock.advance(KEPT / 2);
        assert!(late.settle(stored(b"1")).unwrap());
        assert_eq!(store.get(b"v").unwrap().unwrap(), b"1");
    }

    #[test]
    fn displaced_owner_stores_nothing_after_an_invalidation_or_a_newer_value() {
        let (clock, store, [one, other, third]) = keepers();
        let late = stopped(&clock, &one);
        store.remove(&[b"l", b"v"]).unwrap();
        let after = third.acquire(b"l").unwrap().unwrap();
        assert!(!late.settle(stored(b"of before")).unwrap());
        drop(after);
        let late = stopped(&clock, &one);
        let next = other.acquire(b"l").unwrap().unwrap();
        assert!(next.settle(stored(b"newer")).unwrap());
        assert!(!late.settle(stored(b"late")).unwrap());
        let late = stopped(&clock, &one);
        store.set(b"l", stored(b"by hand")).unwrap();
        assert!(!late.settle(stored(b"late")).unwrap());
        assert_eq!(store.get(b"v").unwrap().unwrap(), b"by hand");
    }

    #[test]
    fn displaced_owner_that_fails_leaves_the_lease_alone() {
        let (clock, store, [one, other, third]) = keepers();
        let late = stopped(&clock, &one);
        let _owner = other.acquire(b"l").unwrap().unwrap();
        drop(late);
        assert!(third.acquire(b"l").unwrap().is_none());
        assert!(store.is_held(b"l").unwrap());
    }

    #[test]
    fn lease_is_renewed_by_a_thread_while_its_owner_lives() {
        let (clock, store, [one, other, _]) = keepers();
        let lease = one.acquire(b"l").unwrap().unwrap();
        #[cfg_attr(not(feature = "redis"), allow(irrefutable_let_patterns))]
        let Store::Db(db) = &*store else {
            unreachable!("it is in memory")
        };
        for _ in 0..10 {
            clock.advance(LEASE_TTL - Duration::from_millis(1));
            let is_renewed = || db.ttl(b"l").unwrap() == Ttl::Remaining(KEPT);
            let looks = (0..10_000).map(|_| thread::sleep(Duration::from_millis(1)));
            assert!(looks.into_iter().any(|()| is_renewed()), "not renewed");
            assert!(other.acquire(b"l").unwrap().is_none());
        }
        drop(lease);
        assert!(one.lock().held.is_empty());
    }

    #[test]
    fn clock_that_is_set_back_ends_the_lease_of_a_dead_owner() {
        let (clock, _, [one, other, _]) = keepers();
        let _dead = one.acquire(b"l").unwrap().unwrap();
        one.lock().held.clear();
        clock.set(1_600_000_000_000);
        assert!(other.acquire(b"l").unwrap().is_some());
    }

    #[test]
    fn key_that_is_not_a_lease_does_not_block_the_name_of_a_lease() {
        let (_, store, [one, ..]) = keepers();
        #[cfg_attr(not(feature = "redis"), allow(irrefutable_let_patterns))]
        let Store::Db(db) = &*store else {
            unreachable!("it is in memory")
        };
        for by_hand in ["", " ", "x", "x y  z "] {
            db.set(b"l", by_hand).unwrap();
            assert!(one.acquire(b"l").unwrap().is_some(), "{by_hand:?}");
        }
        let brief = SetOptions::new().ttl(LEASE_TTL);
        db.set_with(b"l", "x", brief).unwrap();
        assert!(one.acquire(b"l").unwrap().is_some());
    }
}
