//! Computations under way in this process: who comes second waits for the first.
//!
//! Invariants:
//!
//! 1. A flight ends when its leader's guard is dropped, however that comes about: a panic in a computation leaves nobody waiting.
//! 2. Whoever waits for themselves is told so instead: a computation may ask for its own key.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// The flights of a handle, by the name of their value.
#[derive(Default)]
pub(super) struct Flights {
    by_name: Mutex<HashMap<Box<[u8]>, Arc<Flight>>>,
}

struct Flight {
    /// `None` until a thread that was started for it has taken it up.
    leader: Mutex<Option<ThreadId>>,
    end: Mutex<Option<Landing>>,
    landed: Condvar,
}

/// How a flight has ended: with the bytes of an entry, where there is one.
#[derive(Debug, Clone, Default)]
pub(super) struct Landing {
    pub(super) entry: Option<Arc<[u8]>>,
}

/// What somebody who wants a value is to do.
pub(super) enum Boarding {
    /// See to it.
    Lead(Leader),
    /// Wait for who does.
    Wait(Waiting),
    /// Compute it there and then: this thread is already at it (invariant 2).
    Nested,
}

/// The one who sees to a value. Dropping it ends the flight (invariant 1).
pub(super) struct Leader {
    flights: Arc<Flights>,
    name: Box<[u8]>,
    landing: Landing,
}

/// One who waits for a value.
pub(super) struct Waiting(Arc<Flight>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Flights {
    /// Begins a flight, or joins the one that is under way.
    pub(super) fn board(self: &Arc<Self>, name: &[u8]) -> Boarding {
        self.board_as(name, Some(thread::current().id()))
    }

    /// Begins a flight that another thread will lead; `None` where one is under way.
    pub(super) fn prepare(self: &Arc<Self>, name: &[u8]) -> Option<Leader> {
        match self.board_as(name, None) {
            Boarding::Lead(leader) => Some(leader),
            _ => None,
        }
    }

    fn board_as(self: &Arc<Self>, name: &[u8], leader: Option<ThreadId>) -> Boarding {
        let mut flights = lock(&self.by_name);
        if let Some(flight) = flights.get(name) {
            if *lock(&flight.leader) == Some(thread::current().id()) {
                return Boarding::Nested;
            }
            return Boarding::Wait(Waiting(Arc::clone(flight)));
        }
        let flight = Flight {
            leader: Mutex::new(leader),
            end: Mutex::new(None),
            landed: Condvar::new(),
        };
        flights.insert(name.into(), Arc::new(flight));
        Boarding::Lead(Leader {
            flights: Arc::clone(self),
            name: name.into(),
            landing: Landing::default(),
        })
    }
}

impl Leader {
    /// This thread sees to it from now on.
    pub(super) fn take_charge(&self) {
        if let Some(flight) = lock(&self.flights.by_name).get(&self.name) {
            *lock(&flight.leader) = Some(thread::current().id());
        }
    }

    /// Ends the flight with an entry for those who wait, since they will not find it in the store.
    pub(super) fn land(mut self, entry: &[u8]) {
        self.landing.entry = Some(entry.into());
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let flight = lock(&self.flights.by_name).remove(&self.name);
        if let Some(flight) = flight {
            *lock(&flight.end) = Some(std::mem::take(&mut self.landing));
            flight.landed.notify_all();
        }
    }
}

impl Waiting {
    /// Waits until the flight has ended; `None` where that took longer than `patience`.
    pub(super) fn wait(&self, patience: Duration) -> Option<Landing> {
        let begun = Instant::now();
        let mut end = lock(&self.0.end);
        loop {
            if let Some(landing) = &*end {
                return Some(landing.clone());
            }
            let left = patience.checked_sub(begun.elapsed())?;
            let (guard, _) = self
                .0
                .landed
                .wait_timeout(end, left)
                .unwrap_or_else(PoisonError::into_inner);
            end = guard;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader(flights: &Arc<Flights>, name: &[u8]) -> Leader {
        match flights.board(name) {
            Boarding::Lead(leader) => leader,
            _ => unreachable!("somebody else leads"),
        }
    }

    #[test]
    fn who_comes_second_gets_what_the_first_has_brought() {
        let flights = Arc::new(Flights::default());
        let first = leader(&flights, b"k");
        thread::scope(|scope| {
            let (ready, is_ready) = std::sync::mpsc::channel();
            let second = scope.spawn({
                let flights = &flights;
                move || match flights.board(b"k") {
                    Boarding::Wait(waiting) => {
                        ready.send(()).unwrap();
                        waiting.wait(Duration::MAX).unwrap().entry
                    }
                    _ => unreachable!("there is a leader"),
                }
            });
            is_ready.recv().unwrap();
            first.land(b"entry");
            assert_eq!(second.join().unwrap().as_deref(), Some(&b"entry"[..]));
        });
        drop(leader(&flights, b"k"));
    }

    #[test]
    fn a_leader_that_panics_ends_its_flight() {
        let flights = Arc::new(Flights::default());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _leader = leader(&flights, b"k");
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(panicked.is_err());
        drop(leader(&flights, b"k"));
    }

    #[test]
    fn a_thread_does_not_wait_for_itself_nor_for_ever() {
        let flights = Arc::new(Flights::default());
        let _first = leader(&flights, b"k");
        assert!(matches!(flights.board(b"k"), Boarding::Nested));
        thread::scope(|scope| {
            scope.spawn(|| match flights.board(b"k") {
                Boarding::Wait(waiting) => assert!(waiting.wait(Duration::ZERO).is_none()),
                _ => unreachable!("there is a leader"),
            });
        });
    }
}
