//! The lease: who holds it computes a value, in whichever process.
//!
//! It is a key of its own in the store, with the owner's token and a deadline that is near. While the owner computes, a
//! thread of its process puts the deadline off again and again; where the process is killed or stopped, nobody does, and the lease is
//! free after [`LEASE_TTL`] at most. So a takeover needs no look at the owner, which may be on another host.
//!
//! Invariants:
//!
//! 1. A value is stored in the same step that finds the owner's token in the lease and removes it: an owner that was stopped, and has been taken over, overwrites nothing.
//! 2. A lease that was lost is not renewed: only who finds its own token there puts the deadline off.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::early::random;
use super::store::{Store, Stored};
use crate::Result;

/// How long a lease outlives its owner at most. Short, so that a killed one is soon taken over; long enough that a
/// machine which is merely busy renews it in time.
pub(super) const LEASE_TTL: Duration = Duration::from_millis(500);

/// How often leases are renewed.
const RENEW_EVERY: Duration = Duration::from_millis(100);

/// How long the thread stays without a lease to renew.
const LINGER: Duration = Duration::from_secs(2);

/// A lease that is held. Dropping it gives it back.
pub(super) struct Lease {
    keeper: Arc<Keeper>,
    name: Vec<u8>,
    token: Vec<u8>,
    is_held: bool,
}

/// What renews the leases of a handle.
pub(super) struct Keeper {
    store: Arc<Store>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Vec<(Vec<u8>, Vec<u8>)>,
    is_running: bool,
}

/// Makes a token that nobody else has. It begins with the process, for those who look.
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
        // A push or a removal is not left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease, if it is free.
    pub(super) fn acquire(self: &Arc<Self>, name: &[u8]) -> Result<Option<Lease>> {
        let token = new_token();
        let is_ours = self.store.acquire(name, &token, LEASE_TTL)?;
        Ok(is_ours.then(|| self.hold(name, token)))
    }

    /// As [`Keeper::acquire`], for somebody who has a value without it: waits for others' writes for a moment only.
    pub(super) fn acquire_briefly(self: &Arc<Self>, name: &[u8]) -> Result<Option<Lease>> {
        let token = new_token();
        let is_ours = self.store.acquire_briefly(name, &token, LEASE_TTL)?;
        Ok(is_ours.then(|| self.hold(name, token)))
    }

    /// The lease, from an owner who has it still; `None` where it has changed hands meanwhile.
    pub(super) fn take_over(self: &Arc<Self>, name: &[u8], owner: &[u8]) -> Result<Option<Lease>> {
        let token = new_token();
        let is_ours = self.store.exchange(name, owner, &token, LEASE_TTL)?;
        Ok(is_ours.then(|| self.hold(name, token)))
    }

    fn hold(self: &Arc<Self>, name: &[u8], token: Vec<u8>) -> Lease {
        let mut state = self.lock();
        state.held.push((name.to_vec(), token.clone()));
        if !state.is_running {
            let keeper = Arc::downgrade(self);
            // Without a thread the lease is merely not renewed: a computation that takes longer may be done twice.
            let started = thread::Builder::new()
                .name("brasa-cache".to_owned())
                .spawn(move || renew_all(&keeper));
            state.is_running = started.is_ok();
        }
        drop(state);
        Lease {
            keeper: Arc::clone(self),
            name: name.to_vec(),
            token,
            is_held: true,
        }
    }

    fn forget(&self, token: &[u8]) {
        self.lock().held.retain(|(_, held)| held != token);
    }
}

/// The thread: renews until there has been nothing to renew for a while, or the handle is gone.
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
            // An error may be over next time.
            if let Ok(false) = keeper.store.exchange(&name, &token, &token, LEASE_TTL) {
                keeper.forget(&token); // invariant 2
            }
        }
    }
}

impl Lease {
    /// Stores an entry and gives the lease back; `false` where it was lost meanwhile, and nothing was stored (invariant 1).
    pub(super) fn settle(mut self, stored: Stored<'_>) -> Result<bool> {
        self.end();
        self.keeper
            .store
            .settle(&self.name, &self.token, Some(stored))
    }

    /// Keeps others from trying for as long as the lease lasts by itself.
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
            // If that fails, it is free a moment later by itself.
            let _ = self.keeper.store.settle(&self.name, &self.token, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Db, ManualClock, Ttl};

    fn keepers() -> (ManualClock, Arc<Store>, Arc<Keeper>, Arc<Keeper>) {
        let clock = ManualClock::new(1_000);
        let db = Db::options().clock(clock.clone()).open_in_memory().unwrap();
        let store = Arc::new(Store::Db(db));
        let [one, other] = [(); 2].map(|()| Keeper::new(Arc::clone(&store)));
        (clock, store, one, other)
    }

    const STORED: Stored<'_> = Stored {
        key: b"v",
        value: b"1",
        ttl: None,
    };

    #[test]
    fn a_lease_is_one_owners_until_it_is_given_back() {
        let (_, store, one, other) = keepers();
        let lease = one.acquire(b"l").unwrap().unwrap();
        assert!(other.acquire(b"l").unwrap().is_none());
        drop(lease);
        let lease = other.acquire(b"l").unwrap().unwrap();
        assert!(lease.settle(STORED).unwrap());
        assert_eq!(store.get(b"v").unwrap().unwrap(), b"1");
        assert!(store.get(b"l").unwrap().is_none());
    }

    #[test]
    fn an_owner_that_was_taken_over_stores_nothing_and_gives_nothing_back() {
        let (clock, store, one, other) = keepers();
        let late = one.acquire(b"l").unwrap().unwrap();
        // To others a stopped process is one that renews nothing.
        one.lock().held.clear();
        clock.advance(LEASE_TTL);
        let taken = other.acquire(b"l").unwrap().unwrap();
        assert!(!late.settle(STORED).unwrap());
        assert!(store.get(b"v").unwrap().is_none());
        assert_eq!(store.get(b"l").unwrap().unwrap(), taken.token);
    }

    #[test]
    fn a_lease_is_renewed_while_its_owner_lives() {
        let clock = ManualClock::new(1_000);
        let db = Db::options().clock(clock.clone()).open_in_memory().unwrap();
        let store = Arc::new(Store::Db(db.clone()));
        let [one, other] = [(); 2].map(|()| Keeper::new(Arc::clone(&store)));
        let lease = one.acquire(b"l").unwrap().unwrap();
        for _ in 0..3 {
            clock.advance(LEASE_TTL - Duration::from_millis(1));
            let is_renewed = || db.ttl(b"l").unwrap() == Ttl::Remaining(LEASE_TTL);
            let looks = (0..10_000).map(|_| thread::sleep(Duration::from_millis(1)));
            assert!(looks.into_iter().any(|()| is_renewed()), "nobody renews it");
        }
        assert!(other.acquire(b"l").unwrap().is_none());
        drop(lease);
        assert!(one.lock().held.is_empty());
    }

    #[test]
    fn a_renewed_lease_outlives_its_time() {
        let (clock, _, one, other) = keepers();
        let lease = one.acquire(b"l").unwrap().unwrap();
        clock.advance(LEASE_TTL - Duration::from_millis(1));
        let store = &one.store;
        assert!(
            store
                .exchange(b"l", &lease.token, &lease.token, LEASE_TTL)
                .unwrap()
        );
        clock.advance(LEASE_TTL - Duration::from_millis(1));
        assert!(other.acquire(b"l").unwrap().is_none());
    }

    #[test]
    fn a_lease_changes_hands_only_from_the_owner_that_was_seen() {
        let (_, store, one, other) = keepers();
        let first = one.acquire(b"l").unwrap().unwrap();
        let seen = store.get(b"l").unwrap().unwrap();
        let second = other.take_over(b"l", &seen).unwrap().unwrap();
        drop(first);
        assert!(store.get(b"l").unwrap().is_some(), "it is somebody else's");
        assert!(one.take_over(b"l", &seen).unwrap().is_none());
        assert!(second.settle(STORED).unwrap());
    }
}
