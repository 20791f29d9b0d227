//! Computations under way in this process: later threads wait for the first.
//!
//! Invariants:
//!
//! 1. A flight ends when its leader's guard is dropped, however that comes about: a panic in a
//!    computation leaves no thread waiting.
//! 2. No thread waits for itself, be it by way of other threads: a computation may ask for its own
//!    key, and two for each other's.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Patience;
use crate::sync::Instant;
use crate::sync::thread::{self, ThreadId};
use crate::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};

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

/// A thread that is to wait for a value.
pub(super) struct Waiting(Arc<Flight>);

/// How a wait has ended.
#[derive(Debug)]
pub(super) enum Waited {
    Landed(Landing),
    TimedOut,
    /// It would never end: the leader waits for this thread (invariant 2).
    Deadlock,
}

/// The flight that each waiting thread waits for, of all handles of the process.
static WAITING: LazyLock<Mutex<HashMap<ThreadId, Arc<Flight>>>> = LazyLock::new(Mutex::default);

/// The entry of this thread in [`WAITING`].
struct Entered;

impl Entered {
    /// `None` if the wait for this flight would never end.
    fn new(flight: &Arc<Flight>) -> Option<Entered> {
        let this = thread::current().id();
        let mut waiting = lock(&WAITING);
        let mut next = Some(flight);
        while let Some(flight) = next.filter(|flight| lock(&flight.end).is_none()) {
            let leader = *lock(&flight.leader);
            if leader == Some(this) {
                return None;
            }
            next = leader.and_then(|leader| waiting.get(&leader));
        }
        waiting.insert(this, Arc::clone(flight));
        Some(Entered)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        lock(&WAITING).remove(&thread::current().id());
    }
}

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
    /// Waits until the flight has ended; where `is_limited`, until the timeout of `patience` at
    /// most. What was waited is counted there in any case.
    pub(super) fn wait(&self, patience: &mut Patience, is_limited: bool) -> Waited {
        /// Short, so that time for which the process is stopped is told from waiting.
        const STEP: Duration = Duration::from_millis(100);
        let Some(_entered) = Entered::new(&self.0) else {
            return Waited::Deadlock;
        };
        let mut end = lock(&self.0.end);
        loop {
            if let Some(landing) = &*end {
                return Waited::Landed(landing.clone());
            }
            if is_limited && patience.is_over() {
                return Waited::TimedOut;
            }
            let step = match is_limited {
                true => patience.left().min(STEP),
                false => STEP,
            };
            let begun = Instant::now();
            let waited = self.0.landed.wait_timeout(end, step);
            end = waited.unwrap_or_else(PoisonError::into_inner).0;
            patience.count(step, begun.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn landed(waiting: &Waiting) -> Landing {
        match waiting.wait(&mut Patience::new(Duration::MAX), false) {
            Waited::Landed(landing) => landing,
            other => unreachable!("{other:?}"),
        }
    }

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
            let (ready, is_ready) = crate::sync::mpsc::channel();
            let second = scope.spawn({
                let flights = &flights;
                move || match flights.board(b"k") {
                    Boarding::Wait(waiting) => {
                        ready.send(()).unwrap();
                        landed(&waiting).entry
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
    fn a_thread_does_not_wait_for_itself_nor_for_longer_than_it_was_told() {
        let flights = Arc::new(Flights::default());
        let _first = leader(&flights, b"k");
        assert!(matches!(flights.board(b"k"), Boarding::Nested));
        thread::scope(|scope| {
            scope.spawn(|| match flights.board(b"k") {
                Boarding::Wait(waiting) => {
                    assert!(matches!(
                        waiting.wait(&mut Patience::new(Duration::ZERO), true),
                        Waited::TimedOut
                    ));
                }
                _ => unreachable!("there is a leader"),
            });
        });
    }

    /// Each of three threads leads one flight and waits for the next thread's, of different
    /// handles.
    #[test]
    fn threads_that_wait_for_each_other_are_told() {
        let flights = [(); 3].map(|()| Arc::new(Flights::default()));
        let all_lead = crate::sync::Barrier::new(3);
        let run = |number: usize| {
            let leader = leader(&flights[number], b"k");
            all_lead.wait();
            let Boarding::Wait(waiting) = flights[(number + 1) % 3].board(b"k") else {
                unreachable!("there is a leader")
            };
            let is_deadlock = matches!(
                waiting.wait(&mut Patience::new(Duration::MAX), false),
                Waited::Deadlock
            );
            drop(leader);
            is_deadlock
        };
        let run = &run;
        let deadlocks = thread::scope(|scope| {
            let threads = [0, 1, 2].map(|number| scope.spawn(move || run(number)));
            let told = threads.map(|thread| thread.join().unwrap());
            told.into_iter().filter(|told| *told).count()
        });
        assert_eq!(deadlocks, 1, "the last that came");
    }
}
